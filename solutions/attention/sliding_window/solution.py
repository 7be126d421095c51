"""Causal sliding-window attention (Mistral)

In causal attention token 10 000 compares itself with ten thousand keys. Mistral's layers look back a fixed number of
tokens only, so the cost of a token stays the same however long the text grows, and what is further back arrives through
the layers below.

Write the mask, and the attention that uses it.

Letters: B batch, H heads, T tokens, K features per head. Tokens are numbered from 0. With a window of W

    query i may attend to key j    if  i - W < j <= i          itself and the W - 1 tokens before it
    weights = softmax(q k^T / sqrt(K))                         over the allowed keys of each query
    output  = weights v

With W = 1 a token sees itself alone; with W >= T this is plain causal attention. Tokens near the start see the fewer
tokens that there are.

Rules, besides those in the two docstrings below:
- The weights of a query's allowed keys sum to 1, and those of all other keys are exactly 0: whatever stands there
  leaves no trace.
- Scores of 10 000 and -10 000 give right weights.
- Any batch size, any number of heads, any K (odd too), any strides, and other sizes and windows in each call.
- float32, float64 and bfloat16: compute in that dtype or in a more precise one, and return that dtype.
- The attention runs where q, k and v lie. The mask has no tensor argument, so it is made on PyTorch's default device.
- No loop over tokens or over the batch. T * T scores may be held in memory.
- Gradients reach q, k and v. Inputs are not modified.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' attention. All else of PyTorch is allowed, torch.softmax included.

Not asked for: empty batches, another number of keys than of queries, a cache.

Source: Jiang et al. 2023, *Mistral 7B*, arXiv:2310.06825, section 2; Beltagy et al. 2020, *Longformer*,
arXiv:2004.05150, section 3.1.
"""

import math

import torch
from torch import Tensor


def sliding_window_mask(length: int, window: int) -> Tensor:
    """Return who may attend to whom: a token sees itself and the ``window - 1`` tokens before it.

    Args:
        length: Number of tokens, T.
        window: How many tokens a token sees, itself included. It may be larger than ``length``.

    Returns:
        Boolean, True = may attend, rows are queries and columns are keys, shape (T, T), on the default device.

    Raises:
        ValueError: If ``length`` or ``window`` is below 1.
    """
    ### BEGIN SOLUTION
    if length < 1 or window < 1:
        raise ValueError(f"length ({length}) and window ({window}) must be at least 1")
    tokens = torch.arange(length)
    age = tokens[:, None] - tokens  # (T, T), how many tokens ago the key came, seen from the query
    return (age >= 0) & (age < window)
    ### END SOLUTION


def sliding_window_attention(q: Tensor, k: Tensor, v: Tensor, window: int) -> Tensor:
    """Attend, in every head, to the token itself and to the ``window - 1`` tokens before it.

    Args:
        q: Queries, shape (B, H, T, K). Not modified.
        k: Keys, shape (B, H, T, K). Not modified.
        v: Values, shape (B, H, T, K). Not modified.
        window: How many tokens a token sees, itself included.

    Returns:
        The average of the allowed values for every token and head, shape (B, H, T, K), dtype and device of ``q``.

    Raises:
        ValueError: If ``window`` is below 1.
    """
    ### BEGIN SOLUTION
    allowed = sliding_window_mask(q.shape[-2], window).to(q.device)
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, K) @ (B, H, K, T) -> (B, H, T, T)
    weights = scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)  # no row is empty: all see themselves
    return weights @ v  # (B, H, T, T) @ (B, H, T, K) -> (B, H, T, K)
    ### END SOLUTION
