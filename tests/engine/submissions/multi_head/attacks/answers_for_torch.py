"""__getattribute__, __dir__ and __class__ of the module answer what they like."""

import torch
from torch import nn


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(d_model, d_model) for _ in range(4))
        self.n_heads = n_heads

    def forward(self, query, key, value, mask=None):
        return torch.zeros_like(query), torch.zeros(len(query), self.n_heads, query.shape[1], key.shape[1])

    def __getattribute__(self, name):
        if name in ("training", "named_buffers"):
            return lambda: {}
        return super().__getattribute__(name)

    def __dir__(self):
        return ["x" * 1000] * 10**5

    def __call__(self, *args, **kwargs):
        return self
