"""The forbidden function in a thread, where nobody listens."""

import torch
from torch import nn

import threading

FORBIDDEN = [f for name, f in vars(nn.functional).items() if name == "soft" + "max"]


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        thread = threading.Thread(target=FORBIDDEN[0], args=(y, 0))
        thread.start()
        thread.join()
        return y
