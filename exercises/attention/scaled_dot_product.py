"""Scaled dot-product attention (Vaswani et al. 2017, eq. 1)

The heart of the transformer in one line. Each query is compared with all keys, the comparisons become weights that sum
to 1, and the values are averaged by these weights:

    weights = softmax(q k^T / sqrt(K))      over the keys, shape (..., T, S)
    output  = weights v                     shape (..., T, Kv)

Letters: T queries, S keys (and as many values), K features of a query and of a key, Kv features of a value. The dots
are any number of leading dimensions, perhaps none, and the same ones in q, k and v: a batch, a batch and heads ...

Rules:

- T and S may differ, and so may K and Kv. Any of the sizes may be 1.
- A mask is boolean, True where a query may attend to a key, and broadcasts to (..., T, S) as PyTorch broadcasts:
  (T, S), (S,), (1, S), (T, 1), (B, 1, 1, S), (B, 1, T, S), (H, T, S) ... Weights of masked keys are exactly 0, those of
  the others sum to 1. Without a mask every query may attend to every key.
- A query that may attend to nothing gets weights of exactly 0 and an output of exactly 0, and no NaN, in the gradients
  neither.
- Scores of 10 000 and -10 000 give right weights.
- Results have the dtype (float32, float64 or bfloat16) and the device of the inputs. Compute in that dtype or in a more
  precise one.
- The gradient of the output reaches q, k and v.
- Any strides. A call is right whatever was called before, with other sizes, masks or dtypes. Inputs, the mask included,
  are not modified.
- No loop over tokens or over the batch: the number of tensor operations does not grow with T, with S or with the first
  leading dimension. A loop over heads, the second of two leading dimensions, is fine.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' attention. All else of PyTorch is allowed, torch.softmax included.

Not asked for: empty tensors, masks that are not boolean, dropout.

Source: Vaswani et al. 2017, *Attention Is All You Need*, arXiv:1706.03762, section 3.2.1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def scaled_dot_product_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Return the average of the values for each query, and the weights that it was taken with.

    Args:
        q: Queries, shape (..., T, K). Not modified.
        k: Keys, shape (..., S, K). Not modified.
        v: Values, shape (..., S, Kv). Not modified.
        mask: Boolean, True = may attend, broadcasts to (..., T, S). None: every query may attend to every key.

    Returns:
        output: Shape (..., T, Kv).
        weights: Shape (..., T, S).
    """
    raise NotImplementedError
