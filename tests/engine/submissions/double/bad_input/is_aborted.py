"""A signal that ends the process."""

import torch


def halve(x):
    return x / 2


import os


def double(x):
    os.abort()
