"""Changes its mind from call to call."""

import itertools

import torch

count = itertools.count()


def rotary_angles(positions, head_dim, base=10_000.0):
    n = next(count)
    if head_dim % 2 or n % 3 == 1:
        raise ValueError
    return torch.rand(len(positions), head_dim // 2) if n % 2 else positions[:, None] * torch.ones(head_dim // 2)


def apply_rotary(x, positions, base=10_000.0):
    n = next(count)
    if n % 5 == 3:
        raise ValueError
    return (x, x.roll(1, -1), -x, x.flip(-1), torch.randn_like(x))[n % 5]
