"""Rotary position embedding, a learner's answer."""

import torch
from torch import Tensor


def rotary_angles(positions: Tensor, head_dim: int, base: float = 10_000.0) -> Tensor:
    """Return the angle of every pair at every position, (T,) -> (T, K/2)."""
    return angles_in(torch.float32, positions, head_dim, base)


def angles_in(dtype: torch.dtype, positions: Tensor, head_dim: int, base: float) -> Tensor:
    """Return the angles with the precision of ``dtype``."""
    if head_dim < 1 or head_dim % 2:
        raise ValueError(f"head_dim must be even, not {head_dim}")
    exponents = torch.arange(0, head_dim, 2, dtype=dtype, device=positions.device) / head_dim  # (K/2,)
    return positions.to(dtype)[:, None] * base**-exponents  # (T, K/2)


def apply_rotary(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Rotate the queries or the keys of every head, (B, H, T, K) -> (B, H, T, K)."""
    if len(positions) != x.shape[-2]:
        raise ValueError(f"{len(positions)} positions for {x.shape[-2]} tokens")
    angles = angles_in(torch.promote_types(x.dtype, torch.float32), positions, x.shape[-1], base)
    cos, sin = angles.cos(), angles.sin()  # (T, K/2)
    a, b = x.chunk(2, dim=-1)  # (B, H, T, K/2) each
    turned = torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)
    return turned.to(x.dtype)
