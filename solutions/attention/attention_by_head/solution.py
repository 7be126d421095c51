"""Llama's attention, one head at a time

Work through the attention of Llama with the weights in your hand: no classes, no batch, one text of T tokens, and the
projections of each head as matrices of its own. First one head, then all of them.

Letters: T tokens, D model width, H query heads, G key/value heads, K features per head.

One head projects the tokens to q = x wq^T, k = x wk^T and v = x wv^T, (T, K) each: weights are stored as nn.Linear
stores them, (K, D). Queries and keys are turned by their positions, values are not. Then

    weights = softmax(q k^T / sqrt(K))           over the keys, (T, T)
    output  = weights v                          (T, K)

The turn: features 2i and 2i+1 are pair i (neighbours), read as the complex number a + b*j. The pair i of token t is
multiplied by freqs_cis[t, i], a complex number of length 1. So (a, b) becomes (a cos - b sin, a sin + b cos), where cos
and sin are the real and the imaginary part of freqs_cis[t, i].

All heads: the weights have one more dimension in front, and the outputs of the heads are set side by side in their
order, (T, H*K). There are only G key/value heads: query head h uses head h // (H // G). With H = 6 and G = 3, query
heads 0 and 1 use head 0, heads 2 and 3 use head 1, and heads 4 and 5 use head 2. There is no output projection here.

Rules, for both functions:
- freqs_cis is a complex64 tensor (T, K/2). Its rows are those of the tokens: they may be cut out of the middle of a
  longer table or come from any positions, so angles cannot be worked out again from T.
- A mask is boolean, True where a query may attend to a key: (T, T), or (1, T) or (T, 1), which broadcast to it. It
  holds for all heads. The weights of masked keys are exactly 0, those of the others sum to 1. Without a mask every
  token sees every token, later ones too.
- A query that may attend to nothing gets an output of exactly 0, and no NaN, in the gradients neither.
- Scores of 10 000 and -10 000 give right weights.
- Results have the dtype and the device of x: float32, or bfloat16 with bfloat16 weights. freqs_cis is complex64 in both
  cases. Compute in the dtype of x or in a more precise one.
- Any strides, and other sizes, weights, rows and masks in each call. No input is modified.
- No loop over tokens. A loop over heads is what the title says, but not a must.
- The gradient of the output reaches x and the three weights.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' attention. All else of PyTorch is allowed, torch.softmax included.

Not asked for: float64, empty tensors, masks that are not boolean, freqs_cis of another width than K/2, a gradient for
freqs_cis, weights whose shapes do not fit each other except as the two docstrings say.

Source: Touvron et al. 2023, Llama 2: Open Foundation and Fine-Tuned Chat Models (arXiv 2307.09288), and the code
published with it, whose wq.weight (H*K, D) becomes (H, K, D) by a view; Ainslie et al. 2023 (arXiv 2305.13245) for
the shared heads.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def attention_head(
    x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, freqs_cis: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Return the output of one head.

    Args:
        x: Tokens, shape (T, D).
        wq: Query projection, shape (K, D).
        wk: Key projection, shape (K, D).
        wv: Value projection, shape (K, D).
        freqs_cis: By what the pairs of each token are multiplied, complex64, shape (T, K/2).
        mask: Boolean, True = may attend, broadcasts to (T, T). None: every token sees every token.

    Returns:
        Shape (T, K), same dtype and device as ``x``.

    Raises:
        ValueError: If K is odd, or if ``freqs_cis`` has another number of rows than T, be it fewer, more or a single
            one.
    """
    ### BEGIN SOLUTION
    T, K = x.shape[0], wq.shape[0]
    if K % 2:
        raise ValueError(f"the {K} features of a head (rows of wq) must be even in number: they turn in pairs")
    if freqs_cis.shape[0] != T:
        raise ValueError(f"freqs_cis needs one row per token: {T} tokens, {freqs_cis.shape[0]} rows")

    def turn(features: Tensor) -> Tensor:
        wide = features.to(torch.promote_types(features.dtype, torch.float32))  # there is no complex bfloat16
        pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))  # (T, K/2)
        return torch.view_as_real(pairs * freqs_cis).flatten(-2).type_as(features)

    q, k, v = turn(x @ wq.T), turn(x @ wk.T), x @ wv.T  # (T, D) @ (D, K) -> (T, K)
    scores = q @ k.T / math.sqrt(K)  # (T, K) @ (K, T) -> (T, T)
    if mask is None:
        return scores.softmax(dim=-1) @ v
    lowest = torch.finfo(scores.dtype).min  # a finite number: a row of -inf alone would be 0/0
    weights = scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0.0)
    return weights @ v  # (T, T) @ (T, K) -> (T, K)
    ### END SOLUTION


def attention_all_heads(
    x: Tensor, wq: Tensor, wk: Tensor, wv: Tensor, freqs_cis: Tensor, mask: Tensor | None = None
) -> Tensor:
    """Return the outputs of all heads, side by side in order.

    Args:
        x: Tokens, shape (T, D).
        wq: Query projection of every query head, shape (H, K, D).
        wk: Key projection of every key/value head, shape (G, K, D).
        wv: Value projection of every key/value head, shape (G, K, D).
        freqs_cis: As in ``attention_head``, the same for all heads.
        mask: As in ``attention_head``, the same for all heads.

    Returns:
        Shape (T, H*K), same dtype and device as ``x``: features h*K to h*K + K-1 are the output of query head h.

    Raises:
        ValueError: If G does not divide H, or as ``attention_head`` does.
    """
    ### BEGIN SOLUTION
    H, G = wq.shape[0], wk.shape[0]
    if H % G:
        raise ValueError(f"the number of key/value heads ({G}) must divide the number of query heads ({H})")
    group = H // G  # query heads that share a key/value head
    heads = [attention_head(x, wq[h], wk[h // group], wv[h // group], freqs_cis, mask) for h in range(H)]
    return torch.cat(heads, dim=-1)  # H times (T, K) -> (T, H*K)
    ### END SOLUTION
