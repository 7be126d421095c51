"""One number, seen a trillion times."""

import torch


def halve(x):
    return x / 2


def double(x):
    return torch.ones(1).expand(10**12)
