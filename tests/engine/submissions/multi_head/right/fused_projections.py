import math

import torch
import torch.nn.functional as F
from torch import nn


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if min(d_model, n_heads) < 1 or d_model % n_heads != 0:
            raise ValueError("d_model must be a multiple of n_heads")
        self.h, self.k, self.p = n_heads, d_model // n_heads, dropout
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, query, key, value, mask=None):
        if query is key is value:
            weight = torch.cat((self.wq.weight, self.wk.weight, self.wv.weight))
            bias = torch.cat((self.wq.bias, self.wk.bias, self.wv.bias))
            q, k, v = F.linear(query, weight, bias).chunk(3, dim=-1)
        else:
            q, k, v = self.wq(query), self.wk(key), self.wv(value)
        q, k, v = (t.unflatten(-1, (self.h, self.k)).movedim(2, 1) for t in (q, k, v))
        scores = torch.einsum("bhtk,bhsk->bhts", q / math.sqrt(self.k), k)
        if mask is not None:
            nothing = ~mask.any(-1, keepdim=True)
            scores = scores.masked_fill(~(mask | nothing), -math.inf)
            weights = F.softmax(scores, -1) * ~nothing
        else:
            weights = F.softmax(scores, -1)
        out = F.dropout(weights, self.p, self.training).matmul(v)
        return self.wo(out.movedim(1, 2).flatten(-2)), weights
