"""Other ways to scale."""

import torch
from torch import nn

from grader.judge.suite import alternative, misconception

from .solution import Scale


@misconception(replaces="Scale", caught_by="test_by_hand")
class Shifts(Scale):
    """You add the weight. What does a scale of 1 do to a number?"""

    def forward(self, x):
        return nn.functional.dropout(x + self.weight + self.bias, 0.5, self.training)


@alternative(replaces="Scale")
class ByAddcmul(Scale):
    def forward(self, x):
        return nn.functional.dropout(torch.addcmul(self.bias, x, self.weight), 0.5, self.training)
