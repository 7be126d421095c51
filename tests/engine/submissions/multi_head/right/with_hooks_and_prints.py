import logging
import sys
import warnings

import torch
from torch import nn

print("loading", file=sys.stderr)
logging.basicConfig(level=logging.INFO)
warnings.warn("this is only a warning")
torch.manual_seed(0)


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if d_model < 1 or n_heads < 1 or d_model % n_heads:
            raise ValueError("d_model % n_heads")
        self.n_heads = n_heads
        self.dropout = nn.Dropout(dropout)
        self.wq = nn.Linear(d_model, d_model)
        self.wk = nn.Linear(d_model, d_model)
        self.wv = nn.Linear(d_model, d_model)
        self.wo = nn.Linear(d_model, d_model)
        for layer in self.wq, self.wk, self.wv:
            layer.register_forward_hook(lambda module, args, out: out.unflatten(-1, (n_heads, -1)).transpose(1, 2))
        self.wo.register_forward_pre_hook(lambda module, args: args[0].transpose(1, 2).flatten(2))

    def forward(self, query, key, value, mask=None):
        logging.info("query %s", tuple(query.shape))
        q, k, v = self.wq(query), self.wk(key), self.wv(value)
        mask = torch.full((1, 1), True, device=q.device) if mask is None else mask
        scores = torch.where(mask, q @ k.mT / q.shape[-1] ** 0.5, torch.tensor(torch.finfo(q.dtype).min, dtype=q.dtype, device=q.device))
        weights = scores.softmax(-1).masked_fill(~mask, 0)
        return [self.wo(self.dropout(weights) @ v), weights]
