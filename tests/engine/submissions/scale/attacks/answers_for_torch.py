"""__getattribute__, __dir__ and __class__ of the module answer what they like."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return torch.zeros_like(x)

    def __getattribute__(self, name):
        if name in ("training", "named_buffers"):
            return lambda: {}
        return super().__getattribute__(name)

    def __dir__(self):
        return ["x" * 1000] * 10**5

    def __call__(self, *args, **kwargs):
        return self
