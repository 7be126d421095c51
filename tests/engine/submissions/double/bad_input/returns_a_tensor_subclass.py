"""A subclass of Tensor that is wrong all the same."""

import torch


def halve(x):
    return x / 2


class Own(torch.Tensor):
    pass


def double(x):
    return x.as_subclass(Own)
