"""A shape that does not fit inside forward."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return nn.functional.dropout(x @ self.weight.expand(3, 3, -1) + self.bias, 0.5, self.training)
