import math
from collections import OrderedDict

import torch
from torch import nn


class Affine(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.register_parameter("weight", nn.Parameter(torch.randn(width, width) / math.sqrt(width)))
        self.register_parameter("bias", nn.Parameter(torch.zeros(width)))

    def forward(self, x):
        return torch.addmm(self.bias, x.flatten(0, -2), self.weight.T).view(x.shape)


class Projections(nn.Module):
    def __init__(self, width):
        super().__init__()
        for name, layer in OrderedDict((f"w{letter}", Affine(width)) for letter in "qkvo").items():
            self.add_module(name, layer)


class MultiHeadAttention(Projections):
    def __init__(self, d_model, n_heads, dropout=0.0):
        if d_model < 1 or n_heads < 1 or d_model % n_heads != 0:
            raise ValueError(f"MultiHeadAttention({d_model}, {n_heads})")
        super().__init__(d_model)
        self.register_buffer("numbers", torch.arange(n_heads), persistent=False)
        self.probability = dropout

    def forward(self, query, key, value, mask=None):
        H = len(self.numbers)
        q, k, v = self.wq(query), self.wk(key), self.wv(value)
        q, k, v = (torch.stack(t.tensor_split(H, dim=-1), dim=1) for t in (q, k, v))
        scores = q.matmul(k.transpose(-1, -2)).mul(q.shape[-1] ** -0.5)
        if mask is not None:
            scores = scores.masked_fill(mask.eq(False), torch.finfo(scores.dtype).min)
        weights = scores.sub(scores.amax(-1, keepdim=True)).exp()
        weights = weights / weights.sum(-1, keepdim=True)
        if mask is not None:
            weights = weights * mask.to(weights.dtype)
        out = torch.dropout(weights, self.probability, self.training).matmul(v)
        return self.wo(torch.cat(out.unbind(1), dim=-1)), weights
