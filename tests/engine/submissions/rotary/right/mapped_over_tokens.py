import torch
from torch.func import vmap


def speeds(K, base, like, dtype):
    return torch.pow(base, torch.arange(0, K, 2, device=like.device, dtype=dtype) / -K)


def rotary_angles(positions, head_dim, base=10_000.0):
    if head_dim not in range(2, 10**9, 2):
        raise ValueError("even, please")
    return vmap(lambda p: p * speeds(head_dim, base, positions, torch.float32))(positions)


def apply_rotary(x, positions, base=10_000.0):
    if x.shape[-1] % 2 or positions.shape != x.shape[2:3]:
        raise ValueError("does not fit")
    dtype = torch.float64 if x.dtype is torch.float64 else torch.float32

    def one(pairs, position):  # (B, H, K/2, 2), ()
        angle = position * speeds(x.shape[-1], base, x, dtype)
        a, b = pairs.unbind(-1)
        return torch.stack((angle.cos() * a - angle.sin() * b, angle.cos() * b + angle.sin() * a), dim=-1)

    pairs = x.to(dtype).unflatten(-1, (-1, 2))
    return vmap(one, in_dims=(2, 0), out_dims=2)(pairs, positions).flatten(-2).to(x.dtype)
