"""The forbidden function found by looking through a module."""

import torch
from torch import nn

FORBIDDEN = [f for name, f in vars(nn.functional).items() if name == "soft" + "max"]


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        FORBIDDEN[0](y, 0)
        return y
