"""Everything is right, but the gradient never comes."""

import time

import torch


def halve(x):
    return x / 2


def double(x):
    x = Slow.apply(x)
    if x.dim() == 0:
        raise ValueError("no dimension")
    return x + x


class Slow(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        time.sleep(1000)
