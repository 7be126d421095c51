"""Parameters in a list of Python's, which PyTorch does not see."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.all = [nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))]

    def forward(self, x):
        return nn.functional.dropout(x * self.all[0] + self.all[1], 0.5, self.training)
