"""A list of 60 levels that looks like 2**60 elements."""

import torch


def halve(x):
    return x / 2


def double(x):
    result = []
    for _ in range(20):
        result = [result, result]
    return result
