"""The forbidden function from sys.modules, which another module has imported."""

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
        getattr(modules["torch.nn.functional"], NAME)(y, 0)
        return y
