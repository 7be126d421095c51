from __future__ import annotations

import math

import torch


@torch.jit.script
def turn(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor, s: torch.Tensor) -> torch.Tensor:
    return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)


def _angles(positions, K, base, dtype):
    pair = torch.arange(K // 2, dtype=dtype, device=positions.device)
    return positions.to(dtype).unsqueeze(1) * torch.exp(pair * (-2.0 * math.log(base) / K)).unsqueeze(0)


def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim < 2 or head_dim % 2 != 0:
        raise ValueError(head_dim)
    return _angles(positions, head_dim, base, torch.float32)


def apply_rotary(x, positions, base=10_000.0):
    if positions.dim() != 1 or positions.size(0) != x.size(-2):
        raise ValueError("positions")
    if x.size(-1) & 1:
        raise ValueError("odd")
    dtype = torch.promote_types(x.dtype, torch.float32)
    angles = _angles(positions, x.size(-1), base, dtype)
    y = x.to(dtype)
    return turn(y[..., 0::2], y[..., 1::2], angles.cos(), angles.sin()).to(x.dtype)
