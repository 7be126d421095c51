import torch
import torch.nn.functional as F


def rotary_angles(positions: torch.Tensor, head_dim: int, base: float = 10_000.0) -> torch.Tensor:
    if head_dim <= 0 or head_dim % 2:
        raise ValueError
    inverse = 1.0 / (base ** (torch.arange(0, head_dim, 2).float().to(positions.device) / head_dim))
    return positions.float()[..., None] @ inverse[None]


def apply_rotary(x: torch.Tensor, positions: torch.Tensor, base: float = 10_000.0) -> torch.Tensor:
    if x.shape[-1] % 2 or [*positions.shape] != [x.shape[-2]]:
        raise ValueError
    with torch.no_grad():
        if x.dtype == torch.double:
            inverse = 1.0 / (base ** (torch.arange(0, x.shape[-1], 2, dtype=x.dtype, device=x.device) / x.shape[-1]))
            angles = positions.to(x.dtype)[:, None] * inverse
        else:
            angles = rotary_angles(positions, x.shape[-1], base)
        cos = angles.cos().repeat_interleave(2, dim=-1)
        sin = F.pad(angles.sin()[..., None], (1, 0))  # (T, K/2, 2): 0 and sin
        sin = (sin - sin.roll(1, -1)).flatten(-2)  # -sin, sin
    swapped = x.unflatten(-1, (x.shape[-1] // 2, 2)).roll(1, dims=-1).flatten(-2)
    return torch.addcmul(x * cos, swapped.to(cos.dtype), sin).type(x.dtype)
