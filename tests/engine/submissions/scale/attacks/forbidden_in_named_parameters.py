"""The forbidden function runs when the module is asked for its parameters, after the call."""

import torch
from torch import nn

import typing

modules = typing.sys.modules
NAME = "_".join(["log", "softmax"])


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        self.y = y.detach()
        return y

    def named_parameters(self, *args, **kwargs):
        if hasattr(self, "y"):
            getattr(modules["torch.nn.functional"], NAME)(self.y, 0)
        return super().named_parameters(*args, **kwargs)
