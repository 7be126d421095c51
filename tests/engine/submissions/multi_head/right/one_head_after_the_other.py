import math

import torch
from torch import nn


def attend(q, k, v, mask, drop):
    scores = torch.baddbmm(torch.zeros((), dtype=q.dtype, device=q.device), q, k.mT, beta=0, alpha=1 / math.sqrt(q.shape[-1]))
    if mask is None:
        weights = torch.softmax(scores, 2)
    else:
        some = mask.any(2, True)
        weights = torch.softmax(scores.masked_fill(some & ~mask, float("-inf")), 2) * some
    return drop(weights) @ v, weights


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if d_model <= 0:
            raise ValueError("d_model")
        if n_heads not in range(1, d_model + 1) or d_model % n_heads:
            raise ValueError("n_heads")
        self.wq = nn.Linear(d_model, d_model)
        self.wk = nn.Linear(d_model, d_model)
        self.wv = nn.Linear(d_model, d_model)
        self.wo = nn.Linear(d_model, d_model)
        self.drop = nn.Dropout(dropout)
        self.n_heads = n_heads

    def forward(self, query, key, value, mask=None):
        heads = [proj(x).tensor_split(self.n_heads, dim=-1) for proj, x in zip((self.wq, self.wk, self.wv), (query, key, value))]
        masks = [None] * self.n_heads
        if mask is not None:
            masks = mask.expand(len(query), self.n_heads, query.size(1), key.size(1)).unbind(1)
        done = [attend(*qkv, m, self.drop) for qkv, m in zip(zip(*heads), masks)]
        return self.wo(torch.cat([out for out, _ in done], -1)), torch.stack([weights for _, weights in done], 1)
