import math

import torch
from torch import Tensor, nn


class Safe(torch.autograd.Function):
    """softmax whose rows without any finite number are 0, forwards and backwards"""

    @staticmethod
    def forward(ctx, scores):
        weights = torch.nan_to_num(torch.softmax(scores, dim=-1), nan=0.0)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx, grad):
        (weights,) = ctx.saved_tensors
        return weights * (grad - (grad * weights).sum(dim=-1, keepdim=True))


class MultiHeadAttention(nn.Module):
    wq: nn.Linear
    wk: nn.Linear
    wv: nn.Linear
    wo: nn.Linear

    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if d_model < 1 or n_heads < 1 or divmod(d_model, n_heads)[1]:
            raise ValueError
        for name in ("wq", "wk", "wv", "wo"):
            setattr(self, name, nn.Linear(d_model, d_model))
        self.dropout = nn.Dropout(p=dropout)
        self.n_heads = n_heads

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q, k, v = (
            layer(x).view(*x.shape[:-1], self.n_heads, -1).swapaxes(1, 2)
            for layer, x in ((self.wq, query), (self.wk, key), (self.wv, value))
        )
        scores = q @ k.transpose(2, 3) * (1.0 / math.sqrt(k.size(-1)))
        if mask is not None:
            bias = torch.zeros(mask.shape, dtype=scores.dtype, device=mask.device).masked_fill(mask.logical_not(), -math.inf)
            scores = scores + bias
        weights = Safe.apply(scores)
        out = (self.dropout(weights) @ v).swapaxes(1, 2).contiguous().view(*query.shape)
        return self.wo(out), weights
