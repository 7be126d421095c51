import torch
from torch import nn


@torch.jit.script
def weigh(q: torch.Tensor, k: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    scores = torch.matmul(q, k.transpose(2, 3)) / float(q.size(3)) ** 0.5
    lowest = -3.0e38
    if scores.dtype == torch.float64:
        lowest = -1.0e300
    return torch.softmax(scores.masked_fill(~mask, lowest), dim=3).masked_fill(~mask, 0.0)


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if d_model < 1 or n_heads < 1 or d_model % n_heads:
            raise ValueError("no")
        linear = lambda: nn.Linear(d_model, d_model)  # noqa: E731
        self.wq, self.wk, self.wv, self.wo = linear(), linear(), linear(), linear()
        self.n_heads = n_heads
        self.dropout = dropout

    def forward(self, query, key, value, mask=None):
        if mask is None:
            mask = torch.ones(1, 1, 1, 1, dtype=torch.bool, device=query.device)
        q = self.wq(query).unflatten(2, (self.n_heads, -1)).transpose(1, 2)
        k = self.wk(key).unflatten(2, (self.n_heads, -1)).transpose(1, 2)
        v = self.wv(value).unflatten(2, (self.n_heads, -1)).transpose(1, 2)
        weights = weigh(q, k, mask)
        keep = weights
        if self.training and self.dropout:
            keep = weights * torch.bernoulli(torch.full_like(weights, 1 - self.dropout)) / (1 - self.dropout)
        return self.wo((keep @ v).transpose(1, 2).flatten(2)), weights
