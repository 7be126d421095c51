"""Zeros."""

import torch


def halve(x):
    return x / 2


def double(x):
    return torch.zeros_like(x)
