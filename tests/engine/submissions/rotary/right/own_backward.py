import torch
from torch.autograd import Function


def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim < 1 or head_dim % 2:
        raise ValueError("head_dim")
    return _angles(positions, head_dim, base, torch.float32)


def _angles(positions, K, base, dtype):
    return positions.view(-1, 1).to(dtype) / base ** (torch.arange(0, K, 2, device=positions.device).to(dtype) / K)


def _turn(x, angles, sign):
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = angles.cos(), sign * angles.sin()
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    out[..., 0::2] = even * cos - odd * sin
    out[..., 1::2] = even * sin + odd * cos
    return out


class Turn(Function):
    @staticmethod
    def forward(ctx, x, angles):
        ctx.save_for_backward(angles)
        return _turn(x, angles, 1)

    @staticmethod
    def backward(ctx, grad):
        (angles,) = ctx.saved_tensors
        return _turn(grad, angles, -1), None  # a rotation is turned back by its transpose


def apply_rotary(x, positions, base=10_000.0):
    T, K = x.shape[2:]
    if K % 2:
        raise ValueError("K")
    if positions.ndim != 1 or len(positions) != T:
        raise ValueError("T")
    wide = torch.float64 if x.dtype == torch.float64 else torch.float32
    return Turn.apply(x.to(wide), _angles(positions, K, base, wide)).to(x.dtype)
