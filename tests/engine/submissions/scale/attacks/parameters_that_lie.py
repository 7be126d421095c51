"""named_parameters tells of parameters that are not there, or not those that are used."""

import torch
from torch import nn


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        return torch.zeros_like(x)

    def named_parameters(self, *args, **kwargs):
        for name, parameter in super().named_parameters(*args, **kwargs):
            yield name, nn.Parameter(torch.full_like(parameter, float("nan")))
        if torch.is_grad_enabled():
            yield "weight", nn.Parameter(torch.zeros(10**4))

    def parameters(self, recurse=True):
        return iter([])
