"""Fresh parameters in every call."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        self.weight = nn.Parameter(torch.ones_like(self.weight))
        return nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
