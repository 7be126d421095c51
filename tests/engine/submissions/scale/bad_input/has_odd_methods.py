"""Properties and names of a module that get in the way of nothing."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    @property
    def device(self):
        raise RuntimeError("no device")

    def __len__(self):
        return 0

    def __eq__(self, other):
        raise RuntimeError("no comparison")

    __hash__ = nn.Module.__hash__

    def __repr__(self):
        raise RuntimeError("no repr")

    def forward(self, x):
        return nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
