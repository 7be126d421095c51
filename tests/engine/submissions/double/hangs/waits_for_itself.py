"""A lock that is taken twice."""

import torch


def halve(x):
    return x / 2


import threading

lock = threading.Lock()


def double(x):
    with lock, lock:
        return x
