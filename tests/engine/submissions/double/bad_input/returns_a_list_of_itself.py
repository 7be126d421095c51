"""A list that holds itself."""

import torch


def halve(x):
    return x / 2


def double(x):
    result = []
    result.append(result)
    return result
