"""The forbidden function in a text that is run."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        eval("torch.nn.functional.soft" + "max")(y, 0)
        return y
