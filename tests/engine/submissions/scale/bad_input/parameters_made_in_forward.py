"""Parameters that come into being in the first call."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.width = width

    def forward(self, x):
        if not hasattr(self, "weight"):
            self.weight = nn.Parameter(torch.ones(self.width))
            self.bias = nn.Parameter(torch.zeros(self.width))
        return nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
