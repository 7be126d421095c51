import torch
from torch import nn
from torch.nn import functional as F


class MultiHeadAttention(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if n_heads < 1 or d_model < 1:
            raise ValueError("positive sizes, please")
        self.K, rest = divmod(d_model, n_heads)
        if rest:
            raise ValueError(f"{rest} features are left over")
        self.H, self.p = n_heads, dropout
        self.wq, self.wk = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)
        self.wv, self.wo = nn.Linear(d_model, d_model), nn.Linear(d_model, d_model)

    def forward(self, query, key, value, mask=None):
        B, T, _ = query.shape
        S = key.shape[1]
        dtype = torch.promote_types(query.dtype, torch.float32)
        q = self.wq(query).view(B, T, self.H, self.K).permute(0, 2, 1, 3).to(dtype)
        k = self.wk(key).view(B, S, self.H, self.K).permute(0, 2, 3, 1).to(dtype)
        v = self.wv(value).view(B, S, self.H, self.K).permute(0, 2, 1, 3)
        scores = (q @ k) / self.K**0.5
        if mask is not None:
            hidden = mask.logical_not()
            weights = F.log_softmax(scores.masked_fill(hidden, -1e38), dim=-1).exp().masked_fill(hidden, 0)
        else:
            weights = F.log_softmax(scores, dim=-1).exp()
        weights = weights.to(query.dtype)
        heads = F.dropout(weights, p=self.p, training=self.training) @ v
        return self.wo(heads.permute(0, 2, 1, 3).reshape(B, T, -1)), weights
