"""state_dict is overridden with something else."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def state_dict(self, *args, **kwargs):
        return {"weight": [1, 2, 3], 5: None, "bias": torch.zeros(1)}

    def forward(self, x):
        return nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
