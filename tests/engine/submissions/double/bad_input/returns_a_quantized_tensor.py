"""A quantized tensor."""

import torch


def halve(x):
    return x / 2


def double(x):
    return torch.quantize_per_tensor(x.detach().float(), 0.1, 10, torch.quint8)
