"""The forbidden function where the listening modes are switched off."""

import torch
from torch import nn

import torch.utils._python_dispatch

FORBIDDEN = [f for name, f in vars(nn.functional).items() if name == "soft" + "max"]


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        with torch._C.DisableTorchFunction(), torch.utils._python_dispatch._disable_current_modes():
            FORBIDDEN[0](y, 0)
        return y
