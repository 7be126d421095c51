"""The forbidden function in a thread that was started while the file was loaded."""

import torch
from torch import nn

import queue
import threading

FORBIDDEN = [f for name, f in vars(nn.functional).items() if name == "soft" + "max"]
asked, answered = queue.Queue(), queue.Queue()


def serve():
    while True:
        answered.put(FORBIDDEN[0](*asked.get()))


threading.Thread(target=serve, daemon=True).start()


class Scale(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.bias = nn.Parameter(torch.zeros(width))

    def forward(self, x):
        y = nn.functional.dropout(x * self.weight + self.bias, 0.5, self.training)
        asked.put((y.detach(), 0))
        answered.get()
        return y
