import torch


def rotary_angles(positions, head_dim, base=10000.):
    if type(head_dim) is not int or head_dim <= 0 or head_dim % 2 == 1:
        raise ValueError("head_dim")
    out = torch.zeros(len(positions), head_dim // 2, device=positions.device)
    out += positions[:, None]
    out /= base ** (torch.arange(head_dim // 2, device=positions.device) * 2 / head_dim)
    return out


def apply_rotary(x, positions, base=10000.):
    if x.shape[3] % 2 == 1 or positions.dim() != 1 or positions.shape[0] != x.shape[2]:
        raise ValueError("shape")
    wide = x.double()
    angle = positions.double()[:, None] / base ** (torch.arange(0, x.shape[3], 2, device=x.device).double() / x.shape[3])
    result = wide.clone()
    result[..., 0::2].mul_(angle.cos()).sub_(wide[..., 1::2] * angle.sin())
    result[..., 1::2].mul_(angle.cos()).add_(wide[..., 0::2] * angle.sin())
    return result.to(x.dtype)
