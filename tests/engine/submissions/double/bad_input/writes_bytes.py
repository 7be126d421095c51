"""Bytes that are no text."""

import os

os.write(1, b'\xff\xfe\x00\x1b]0;title\x07 end')

import torch


def halve(x):
    return x / 2


def double(x):
    if x.dim() == 0:
        raise ValueError("no dimension")
    return x + x
