"""Infinity."""

import torch


def halve(x):
    return x / 2


def double(x):
    return torch.full_like(x, float('inf'))
