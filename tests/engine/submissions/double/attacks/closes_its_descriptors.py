"""Closes everything that is open, or puts one thing in another's place."""

import os

import torch


def halve(x):
    os.closerange(0, 1000)
    return torch.zeros_like(x)


def double(x):
    for fd in range(1, 64):
        try:
            os.dup2(0, fd)
        except OSError:
            pass
    return torch.zeros_like(x)
