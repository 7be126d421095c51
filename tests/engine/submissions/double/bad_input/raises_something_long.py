"""An exception of ten million characters."""

import torch


def halve(x):
    return x / 2


def double(x):
    raise ValueError('x' * 10**7)
