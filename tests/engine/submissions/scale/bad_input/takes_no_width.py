"""__init__ without its argument."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.bias = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
