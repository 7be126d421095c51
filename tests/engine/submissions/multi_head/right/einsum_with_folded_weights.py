import torch
from torch import nn


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if d_model <= 0 or n_heads <= 0:
            raise ValueError("sizes must be positive")
        if d_model // n_heads * n_heads != d_model:
            raise ValueError("not a multiple")
        self.n_heads = n_heads
        self.drop = nn.Dropout(dropout)
        for name in "qkvo":
            self.add_module("w" + name, nn.Linear(d_model, d_model))

    def heads(self, layer, x):
        weight = layer.weight.view(self.n_heads, -1, x.shape[-1])
        return torch.einsum("bsd,hkd->bhsk", x, weight) + layer.bias.view(self.n_heads, 1, -1)

    def forward(self, query, key, value, mask=None):
        q, k, v = self.heads(self.wq, query), self.heads(self.wk, key), self.heads(self.wv, value)
        scores = torch.einsum("bhtk,bhsk->bhts", q, k) * q.shape[-1] ** -0.5
        if mask is None:
            mask = torch.ones((), dtype=torch.bool, device=scores.device)
        scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
        weights = torch.where(mask, scores.softmax(-1), 0.0)
        heads = torch.einsum("bhts,bhsk->bthk", self.drop(weights), v)
        wo = self.wo.weight.view(-1, self.n_heads, heads.shape[-1])
        return torch.einsum("bthk,dhk->btd", heads, wo) + self.wo.bias, weights
