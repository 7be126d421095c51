"""exit() outside of functions."""

raise SystemExit('bye')

import torch


def halve(x):
    return x / 2


def double(x):
    if x.dim() == 0:
        raise ValueError("no dimension")
    return x + x
