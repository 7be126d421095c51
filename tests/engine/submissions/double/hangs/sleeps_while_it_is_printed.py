"""An exception whose text takes for ever."""

import torch


def halve(x):
    return x / 2


import time


class Slow(Exception):
    def __str__(self):
        time.sleep(1000)


def double(x):
    raise Slow
