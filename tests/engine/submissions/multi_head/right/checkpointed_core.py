import functools
import math

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if d_model < 1 or n_heads < 1 or d_model % n_heads:
            raise ValueError("wrong sizes")
        self.wq = nn.Linear(d_model, d_model)
        self.wk = nn.Linear(d_model, d_model)
        self.wv = nn.Linear(d_model, d_model)
        self.wo = nn.Linear(d_model, d_model)
        self.dropout = dropout
        self.n_heads = n_heads
        self.reset()

    def reset(self):
        for name, parameter in self.named_parameters():
            (nn.init.xavier_uniform_ if name.endswith("weight") else nn.init.zeros_)(parameter)

    @functools.cached_property
    def scale(self):
        return 1.0 / math.sqrt(self.wq.out_features // self.n_heads)

    def core(self, q, k, v, mask):
        scores = self.scale * (q @ k.mT)
        if mask is not None:
            scores = scores.where(mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(-1)
        if mask is not None:
            weights = weights.where(mask, weights.new_zeros(()))
        return nn.functional.dropout(weights, self.dropout, training=self.training) @ v, weights

    def forward(self, query, key, value, mask=None):
        q, k, v = (self.split(y) for y in (self.wq(query), self.wk(key), self.wv(value)))
        heads, weights = checkpoint(self.core, q, k, v, mask, use_reentrant=False)
        return self.wo(heads.transpose(1, 2).reshape(query.shape)), weights

    def split(self, y):
        return y.reshape(y.shape[0], y.shape[1], self.n_heads, y.shape[2] // self.n_heads).transpose(1, 2)
