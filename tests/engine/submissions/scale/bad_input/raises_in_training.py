"""forward raises in training mode alone."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        if self.training:
            raise RuntimeError("not trained yet")
        return nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
