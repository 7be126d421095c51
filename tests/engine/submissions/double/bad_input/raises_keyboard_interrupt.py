"""Ctrl-C."""

import torch


def halve(x):
    return x / 2


def double(x):
    raise KeyboardInterrupt
