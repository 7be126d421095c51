"""The angles are worked out in Python: right, but positions.tolist() reads numbers back."""

import math

import torch


def speeds(K, base, dtype, device):
    return base ** (-torch.arange(0, K, 2, dtype=dtype, device=device) / K)  # (K/2,)


def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim < 1 or head_dim % 2:
        raise ValueError("head_dim must be even")
    return positions[:, None] * speeds(head_dim, base, torch.float32, positions.device)


def check(x, positions):
    if x.shape[-1] % 2:
        raise ValueError("features turn in pairs")
    if positions.shape != (x.shape[-2],):
        raise ValueError("one position per token")


def wide(x):
    return torch.promote_types(x.dtype, torch.float32)


def turn(x, angles):
    a, b = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos(), angles.sin()
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2).to(x.dtype)


def apply_rotary(x, positions, base=10_000.0):
    check(x, positions)
    K = x.shape[-1]
    angles = [[p * base ** (-2 * i / K) for i in range(K // 2)] for p in positions.tolist()]
    return turn(x, torch.tensor(angles, dtype=wide(x), device=x.device))
