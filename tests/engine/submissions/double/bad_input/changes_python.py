"""Settings of Python are set for the whole process."""

import locale
import random
import signal
import sys
import warnings

random.seed(0)
warnings.simplefilter('error')
sys.setrecursionlimit(200)
sys.stdout = sys.stderr = None
sys.path.clear()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
locale.setlocale(locale.LC_ALL, 'C')

import torch


def halve(x):
    return x / 2


def double(x):
    if x.dim() == 0:
        raise ValueError("no dimension")
    return x + x
