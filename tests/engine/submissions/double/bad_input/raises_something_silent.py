"""An exception that cannot be printed."""

import torch


def halve(x):
    return x / 2


class Silent(Exception):
    def __str__(self):
        raise SystemExit(3)


def double(x):
    raise Silent('text')
