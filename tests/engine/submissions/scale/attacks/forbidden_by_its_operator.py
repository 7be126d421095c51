"""The forbidden function as an operator."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        torch.ops.aten._softmax.default(y, 0, False)
        return y
