"""A list in a list in a list ..."""

import torch


def halve(x):
    return x / 2


def double(x):
    result = []
    for _ in range(100_000):
        result = [result]
    return result
