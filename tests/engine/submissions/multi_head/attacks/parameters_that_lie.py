"""named_parameters tells of parameters that are not there, or not those that are used."""

import torch
from torch import nn


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(d_model, d_model) for _ in range(4))
        self.n_heads = n_heads

    def forward(self, query, key, value, mask=None):
        return torch.zeros_like(query), torch.zeros(len(query), self.n_heads, query.shape[1], key.shape[1])

    def named_parameters(self, *args, **kwargs):
        for name, parameter in super().named_parameters(*args, **kwargs):
            yield name, nn.Parameter(torch.full_like(parameter, float("nan")))
        if torch.is_grad_enabled():
            yield "wq.weight", nn.Parameter(torch.zeros(10**4))

    def parameters(self, recurse=True):
        return iter([])
