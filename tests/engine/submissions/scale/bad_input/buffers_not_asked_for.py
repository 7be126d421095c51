"""A table that is saved with the parameters."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        self.register_buffer("table", torch.zeros(10, 10))

    def forward(self, x):
        return nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
