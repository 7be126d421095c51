import torch
from torch import nn


class MultiHeadAttention(nn.Module):
    """Heads live in the batch; nothing of torch.softmax is used."""

    def __init__(self, d_model, n_heads, dropout=0.0):
        if n_heads < 1 or d_model < 1 or d_model % n_heads:
            raise ValueError(f"{d_model} features cannot be dealt to {n_heads} heads")
        super().__init__()
        self.wq = nn.Linear(d_model, d_model)
        self.wk = nn.Linear(d_model, d_model)
        self.wv = nn.Linear(d_model, d_model)
        self.wo = nn.Linear(d_model, d_model)
        self.n_heads, self.d_head, self.rate = n_heads, d_model // n_heads, dropout

    def fold(self, x):
        B, n, D = x.shape
        return x.reshape(B, n, self.n_heads, self.d_head).permute(0, 2, 1, 3).reshape(B * self.n_heads, n, self.d_head)

    def forward(self, query, key, value, mask=None):
        (B, T, D), S = query.shape, key.shape[1]
        q, k, v = self.fold(self.wq(query)), self.fold(self.wk(key)), self.fold(self.wv(value))
        scores = torch.bmm(q, k.mT).div(self.d_head**0.5).view(B, self.n_heads, T, S)
        allowed = torch.ones_like(scores, dtype=torch.bool) if mask is None else mask.expand(B, self.n_heads, T, S)
        top = scores.masked_fill(~allowed, -1e30).amax(dim=-1, keepdim=True).detach()
        powers = torch.exp((scores - top).masked_fill(~allowed, 0.0)) * allowed
        total = powers.sum(dim=-1, keepdim=True)
        weights = powers / torch.where(total == 0, torch.ones_like(total), total)
        used = weights
        if self.training and self.rate > 0:
            keep = torch.rand_like(weights) >= self.rate
            used = weights * keep / (1 - self.rate)
        heads = torch.bmm(used.reshape(-1, T, S), v).view(B, self.n_heads, T, self.d_head)
        return self.wo(heads.permute(0, 2, 1, 3).reshape(B, T, D)), weights
