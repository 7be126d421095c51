"""Changes its mind from call to call."""

import itertools

import torch

count = itertools.count()


def halve(x):
    n = next(count)
    return torch.rand_like(x) if n % 2 else x


def double(x):
    n = next(count)
    if n % 5 == 3 or x.dim() == 0:
        raise ValueError
    return (x, x.roll(1, -1), -x, x.flip(-1), torch.randn_like(x))[n % 5]
