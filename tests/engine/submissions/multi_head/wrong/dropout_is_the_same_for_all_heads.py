"""Dropout is drawn once for all heads."""

import math

import torch
from torch import nn
from torch.nn import functional as F


class Base(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if d_model < 1 or n_heads < 1 or d_model % n_heads:
            raise ValueError("d_model and n_heads do not fit")
        self.n_heads, self.dropout = n_heads, dropout
        self.wq = nn.Linear(d_model, d_model)
        self.wk = nn.Linear(d_model, d_model)
        self.wv = nn.Linear(d_model, d_model)
        self.wo = nn.Linear(d_model, d_model)

    def split(self, x):
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, K)

    def join(self, heads):
        return heads.transpose(1, 2).flatten(2)

    def project(self, query, key, value):
        return self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))

    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(-1)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1).masked_fill(~mask, 0.0)

    def drop(self, weights):
        return F.dropout(weights, self.dropout, self.training)

    def forward(self, query, key, value, mask=None):
        q, k, v = self.project(query, key, value)
        weights = self.weigh(q @ k.mT / math.sqrt(q.shape[-1]), mask)
        return self.wo(self.join(self.drop(weights) @ v)), weights


class MultiHeadAttention(Base):

    def drop(self, weights):
        return weights * F.dropout(torch.ones_like(weights[:, :1]), self.dropout, self.training)
