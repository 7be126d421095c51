"""The forbidden function in TorchScript."""

import torch
from torch import nn

@torch.jit.script
def compiled(y: torch.Tensor):
    return torch.nn.functional.softmax(y, 0)


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        compiled(y)
        return y
