"""A dimension too many."""

import torch


def halve(x):
    return x / 2


def double(x):
    return x.unsqueeze(0)
