"""A transformer encoder block

Write one block of the encoder in figure 1 of "Attention Is All You Need" (Vaswani et al. 2017, arXiv 1706.03762), in
the two forms that are in use. A block has two sub-layers: self-attention with several heads, in which the tokens look
at each other, and a feed-forward network, which works on each token alone. Around each of them runs a residual
connection, and each has a layer norm of its own.

Letters: B batch, T tokens, D model width (d_model), H heads (n_heads), K = D / H features per head, F hidden width
(d_ff).

    post-norm, as in the paper (norm_first=False)        pre-norm (norm_first=True)
        x = norm1(x + drop(attention(x)))                    x = x + drop(attention(norm1(x)))
        x = norm2(x + drop(feed_forward(x)))                 x = x + drop(feed_forward(norm2(x)))

    attention(x):       q = wq(x), k = wk(x), v = wv(x); head h owns the h-th block of K consecutive features of each
                        weights_h = softmax(q_h k_h^T / sqrt(K))     over the keys, (B, T, T)
                        wo(drop(weights_0) v_0 | drop(weights_1) v_1 | ...)    the heads side by side, in order
    feed_forward(x):    w2(drop(relu(w1(x))))
    norm(x):            (x - mean) / sqrt(var + 1e-5) * weight + bias, with mean and variance over the D features of
                        each token; the variance is a mean of squares, so it is a sum divided by D, not by D - 1

A pre-norm block does not end in a norm. A model of such blocks has one more norm at its end, which is not written here.

Rules:
- Parameters have exactly these names: wq, wk, wv and wo, each with a weight (D, D) and a bias (D,); w1 with a weight
  (F, D) and a bias (F,); w2 with a weight (D, F) and a bias (D,), all as in nn.Linear; norm1 and norm2, each with a
  weight and a bias of shape (D,), as in nn.LayerNorm. So w1.weight, norm1.bias and so on. Nothing else is in
  state_dict(), and both forms have the same. How they are initialised is up to you.
- A mask is boolean, True where a token (row) may attend to another (column), and broadcasts to (B, H, T, T) as PyTorch
  broadcasts: (T, T), (T, 1), (B, 1, 1, T), (B, 1, T, T), (H, T, T) ... The weights of masked tokens are exactly 0,
  those of the others sum to 1. Without a mask every token may attend to every token. The feed-forward and the residuals
  do not know the mask: tokens that nobody attends to get an output like all others.
- A token that may attend to nothing gets heads of exactly 0, to which wo adds its bias, and no NaN, in the gradients
  neither.
- Dropout acts in four places: on the attention weights, after the ReLU, and on the output of each of the two sub-layers
  before it is added to x. It acts in training mode only: each single number is set to 0 with that probability, drawn
  afresh in each call, and the others are divided by 1 - dropout.
- Scores of 10 000 and -10 000 give right weights.
- float32, float64 and bfloat16 modules with inputs of the same dtype; the result has it too. Compute in that dtype or
  in a more precise one. Everything runs on the device of the module and the input.
- Any batch size, and other sizes and masks in each call; a call uses the parameters as they are then. Inputs, the mask
  included, are not modified.
- No loop over tokens or over the batch. A loop over heads is fine.
- The gradient of the output reaches the input and every parameter.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' layers. All else of PyTorch is allowed, nn.LayerNorm included.

With the same weights the block equals nn.TransformerEncoderLayer(..., batch_first=True), whose masks have the opposite
sign.

Not asked for: empty batches or sequences, masks that are not boolean, a dropout outside [0, 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class EncoderBlock(nn.Module):
    """Let tokens look at each other, then work on each alone, with a residual and a layer norm for both.

    Args:
        d_model: Width D of the input and of the output.
        n_heads: Number H of heads; it divides ``d_model``.
        d_ff: Hidden width F of the feed-forward network.
        dropout: Probability, in [0, 1), of all four dropouts.
        norm_first: False: post-norm, each norm comes after its residual sum. True: pre-norm, each norm comes before its
            sub-layer.

    Raises:
        ValueError: If ``d_model``, ``n_heads`` or ``d_ff`` is below 1, or ``n_heads`` does not divide ``d_model``.
    """

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.0, norm_first: bool = False) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if min(d_model, n_heads, d_ff) < 1:
            raise ValueError(f"d_model ({d_model}), n_heads ({n_heads}) and d_ff ({d_ff}) must be at least 1")
        if d_model % n_heads:
            raise ValueError(f"n_heads ({n_heads}) must divide d_model ({d_model})")
        self.n_heads, self.dropout, self.norm_first = n_heads, dropout, norm_first
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(d_model, d_model) for _ in range(4))
        self.w1, self.w2 = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model)
        self.norm1, self.norm2 = nn.LayerNorm(d_model), nn.LayerNorm(d_model)
        ### END SOLUTION

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the tokens after self-attention and feed-forward.

        Args:
            x: Tokens, shape (B, T, D).
            mask: Boolean, True = may attend, broadcasts to (B, H, T, T). None: every token may attend to every token.

        Returns:
            Shape (B, T, D).
        """
        ### BEGIN SOLUTION

        def drop(x: Tensor) -> Tensor:
            return F.dropout(x, self.dropout, self.training)

        def split(x: Tensor) -> Tensor:
            return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, T, H, K) -> (B, H, T, K)

        def attention(x: Tensor) -> Tensor:
            q, k, v = split(self.wq(x)), split(self.wk(x)), split(self.wv(x))
            scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, K) @ (B, H, K, T) -> (B, H, T, T)
            if mask is None:
                weights = scores.softmax(dim=-1)
            else:  # the lowest finite number: a row of -inf alone would be 0/0
                lowest = torch.finfo(scores.dtype).min
                weights = scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0.0)
            heads = drop(weights) @ v  # (B, H, T, T) @ (B, H, T, K) -> (B, H, T, K)
            return self.wo(heads.transpose(1, 2).flatten(2))  # heads side by side again, (B, T, D)

        def feed_forward(x: Tensor) -> Tensor:
            return self.w2(drop(self.w1(x).relu()))  # (B, T, D) -> (B, T, F) -> (B, T, D)

        if self.norm_first:
            x = x + drop(attention(self.norm1(x)))
            return x + drop(feed_forward(self.norm2(x)))
        x = self.norm1(x + drop(attention(x)))
        return self.norm2(x + drop(feed_forward(x)))
        ### END SOLUTION
