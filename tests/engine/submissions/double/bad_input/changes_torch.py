"""Defaults and switches of PyTorch are set for the whole process."""

import torch

torch.set_default_dtype(torch.float64)
torch.set_default_device('meta')
torch.set_num_threads(4)
torch.use_deterministic_algorithms(True)
torch.set_grad_enabled(False)
torch.autograd.set_detect_anomaly(True)
torch.manual_seed(0)
torch.set_printoptions(profile='full')
torch.inference_mode().__enter__()

import torch


def halve(x):
    return x / 2


def double(x):
    if x.dim() == 0:
        raise ValueError("no dimension")
    return x + x
