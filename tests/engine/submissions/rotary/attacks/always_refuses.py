"""Raises ValueError always."""

def rotary_angles(positions, head_dim, base=10_000.0):
    raise ValueError("head_dim must be even")


def apply_rotary(x, positions, base=10_000.0):
    raise ValueError("K must be even")
