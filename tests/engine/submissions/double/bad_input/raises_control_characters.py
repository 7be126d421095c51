"""An exception that would colour, hide and turn around what is printed after it."""

import torch


def halve(x):
    return x / 2


def double(x):
    raise RuntimeError('\x1b[31mred \u202eturned\u2066 \r\x00\x07\x9b2J \ud800 end')
