"""A group of exceptions."""

import torch


def halve(x):
    return x / 2


def double(x):
    raise ExceptionGroup('two', [ValueError('a'), TypeError('b')])
