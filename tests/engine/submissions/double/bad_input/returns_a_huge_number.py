"""An integer of 100 000 digits."""

import torch


def halve(x):
    return x / 2


def double(x):
    return 10**100_000
