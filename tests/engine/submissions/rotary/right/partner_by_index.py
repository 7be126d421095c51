import torch


class OddWidthError(ValueError):
    pass


def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim % 2 or head_dim < 1:
        raise OddWidthError(f"{head_dim=}")
    exponent = torch.linspace(0, 2 - head_dim, head_dim // 2, device=positions.device) / head_dim
    return torch.einsum("t,i->ti", positions.float(), torch.tensor(base, device=positions.device) ** exponent)


def apply_rotary(x, positions, base=10_000.0):
    T, K = x.shape[-2], x.shape[-1]
    if K % 2:
        raise OddWidthError(f"{K=}")
    if positions.numel() != T or positions.dim() != 1:
        raise ValueError(f"{T} positions")
    number = torch.arange(K, device=x.device)
    dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
    angle = positions.to(dtype)[:, None] * base ** (-(number // 2 * 2).to(dtype) / K)  # (T, K), each speed twice
    sign = (2 * (number % 2) - 1).to(dtype)  # -1, 1, -1, 1
    partner = x[..., number ^ 1]
    return (x * angle.cos() + partner * sign * angle.sin()).to(x.dtype)
