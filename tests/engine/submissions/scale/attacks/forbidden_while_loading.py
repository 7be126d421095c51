"""The forbidden function is called once, while the file is loaded."""

import torch
from torch import nn

FORBIDDEN = [f for name, f in vars(nn.functional).items() if name == "soft" + "max"]
FORBIDDEN[0](torch.ones(1), 0)


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        return y
