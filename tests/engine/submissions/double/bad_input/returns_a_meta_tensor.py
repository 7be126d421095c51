"""A tensor without numbers."""

import torch


def halve(x):
    return x / 2


def double(x):
    return torch.empty_like(x, device='meta')
