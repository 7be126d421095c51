"""A loop without end."""

import torch


def halve(x):
    return x / 2


def double(x):
    while True:
        pass
