"""Recursion without an end, and without a limit, on the stack of C."""

import torch


def halve(x):
    return x / 2


import sys


class Endless:
    def __iter__(self):
        return iter(sorted(self))


def double(x):
    sys.setrecursionlimit(10**9)
    return next(iter(Endless()))
