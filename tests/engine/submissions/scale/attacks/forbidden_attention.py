"""Attention that is ready-made is forbidden everywhere."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        y = y + 0 * nn.functional.scaled_dot_product_attention(y[None, None], y[None, None], y[None, None]).mean()
        return y
