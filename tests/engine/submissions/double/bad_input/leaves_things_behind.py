"""Exit handlers, finalizers and objects that resist."""

import atexit
import weakref


class Phoenix:
    def __del__(self):
        risen.append(self)
        print('risen')


risen = []
atexit.register(lambda: print('at exit', 1 / 0))
Phoenix()
phoenix = Phoenix()
weakref.finalize(phoenix, print, 'finalized')

import torch


def halve(x):
    return x / 2


def double(x):
    if x.dim() == 0:
        raise ValueError("no dimension")
    return x + x
