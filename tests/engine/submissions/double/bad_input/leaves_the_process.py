"""os._exit in a call."""

import torch


def halve(x):
    return x / 2


import os


def double(x):
    os._exit(0)
