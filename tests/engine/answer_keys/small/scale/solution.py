"""A scale and a shift

The smallest module that there can be, for the tests of the grader.
"""

import torch
from torch import Tensor, nn


class Scale(nn.Module):
    """Return ``x * weight + bias``, feature by feature; in training every number is dropped with probability 1/2.

    Args:
        width: Features of ``x``, and the shape (width,) of both parameters.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Scale ``x``, shape (..., width)."""
        ### BEGIN SOLUTION
        return nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        ### END SOLUTION
