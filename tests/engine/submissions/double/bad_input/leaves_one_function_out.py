"""One of two functions is there."""

import torch


def halve(x):
    return x / 2
