"""Prints without end."""

import torch


def halve(x):
    return x / 2


import os


def double(x):
    while True:
        os.write(1, b'flood ' * 1000)
