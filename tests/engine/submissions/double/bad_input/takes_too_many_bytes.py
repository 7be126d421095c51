"""20 GB of bytes."""

import torch


def halve(x):
    return x / 2


def double(x):
    return bytes(20 * 2**30)
