import numpy as np
import torch


def frequencies(width, base, device):
    return torch.from_numpy(np.power(base, -np.arange(0, width, 2) / width)).to(device)


def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim <= 0 or head_dim % 2:
        raise ValueError("The width must be even.")
    return (positions[:, None] * frequencies(head_dim, base, positions.device)).to(torch.float32)


def apply_rotary(x, positions, base=10_000.0):
    if x.shape[-1] % 2:
        raise ValueError("The width must be even.")
    if list(positions.size()) != [x.shape[2]]:
        raise ValueError("One position for each token.")
    angles = positions[:, None] * frequencies(x.shape[-1], base, x.device)
    a, b = torch.chunk(x.double().reshape(*x.shape[:-1], -1, 2), 2, dim=-1)
    c, s = angles.cos()[..., None], angles.sin()[..., None]
    return torch.cat((a * c - b * s, a * s + b * c), dim=-1).reshape(x.shape).to(x.dtype)
