"""The forbidden function from a module that is imported by name."""

import torch
from torch import nn

import importlib


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        importlib.import_module("torch.nn." + "functional").softmax(y, 0)
        return y
