"""A name that should be a function is a number."""

import torch


def halve(x):
    return x / 2


double = 5
