"""An object of a class of its own."""

import torch


def halve(x):
    return x / 2


class Result:
    type_name = 5


def double(x):
    return Result()
