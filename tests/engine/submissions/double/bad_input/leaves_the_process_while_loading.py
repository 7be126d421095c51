"""os._exit outside of functions."""

import os

os._exit(0)

import torch


def halve(x):
    return x / 2


def double(x):
    if x.dim() == 0:
        raise ValueError("no dimension")
    return x + x
