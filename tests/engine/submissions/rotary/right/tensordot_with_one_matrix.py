import math

import torch
from torch import nn


class Rotation(nn.Module):
    def __init__(self, width):
        super().__init__()
        quarter = torch.zeros(width, width)
        even = torch.arange(0, width, 2)
        quarter[even, even + 1], quarter[even + 1, even] = -1.0, 1.0  # (a, b) -> (-b, a)
        self.register_buffer("quarter", quarter)

    def forward(self, x, angles):
        angles = angles.repeat_interleave(2, dim=-1)
        quarter = self.quarter.to(x.device, x.dtype)
        return x * torch.cos(angles) + torch.tensordot(x, quarter, dims=([-1], [-1])) * torch.sin(angles)


def rotary_angles(positions, head_dim, base=10_000.0, dtype=torch.float32):
    if head_dim < 1 or head_dim % 2 != 0:
        raise ValueError("features turn in pairs")
    steps = torch.arange(0, head_dim, 2, dtype=dtype, device=positions.device)
    return positions.reshape(-1, 1) * torch.exp2(steps * (-math.log2(base) / head_dim))


def apply_rotary(x, positions, base=10_000.0):
    if x.shape[-1] % 2 != 0:
        raise ValueError("features turn in pairs")
    if positions.shape != torch.Size([x.shape[-2]]):
        raise ValueError("a position for each token")
    dtype = x.dtype if x.dtype == torch.float64 else torch.float32
    return Rotation(x.shape[-1])(x.to(dtype), rotary_angles(positions, x.shape[-1], base, dtype)).to(x.dtype)
