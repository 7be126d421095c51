"""Ten million characters, of which some are shown."""

print('x' * 10**7)
for _ in range(10**4):
    print('line')

import torch


def halve(x):
    return x / 2


def double(x):
    if x.dim() == 0:
        raise ValueError("no dimension")
    return x + x
