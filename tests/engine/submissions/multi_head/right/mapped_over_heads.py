import torch
from torch import nn
from torch.func import vmap


def one_head(q, k, v, hidden, drop):  # (B, T, K), (B, S, K), (B, S, K), (B, T, S), (B, T, S)
    scores = torch.matmul(q, k.transpose(-1, -2)) / k.shape[-1] ** 0.5
    weights = torch.softmax(scores.masked_fill(hidden, torch.finfo(q.dtype).min), dim=-1).masked_fill(hidden, 0.0)
    return (weights * drop) @ v, weights


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if d_model < 1 or n_heads < 1 or d_model % n_heads:
            raise ValueError("d_model and n_heads do not fit")
        self.wq, self.wk, self.wv, self.wo = [nn.Linear(d_model, d_model) for _ in "qkvo"]
        self.n_heads, self.dropout = n_heads, dropout

    def forward(self, query, key, value, mask=None):
        size = len(query), self.n_heads, query.shape[1], key.shape[1]
        hidden = query.new_zeros(size, dtype=torch.bool) if mask is None else ~mask.expand(size)
        drop = nn.functional.dropout(query.new_ones(size), self.dropout, self.training)
        q, k, v = (y.unflatten(-1, (self.n_heads, -1)) for y in (self.wq(query), self.wk(key), self.wv(value)))
        heads, weights = vmap(one_head, in_dims=(2, 2, 2, 1, 1), out_dims=(2, 1))(q, k, v, hidden, drop)
        return self.wo(heads.flatten(2)), weights
