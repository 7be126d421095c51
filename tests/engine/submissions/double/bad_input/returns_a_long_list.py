"""A list of a million numbers."""

import torch


def halve(x):
    return x / 2


def double(x):
    return [0] * 10**6
