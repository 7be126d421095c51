"""Multi-head attention (Vaswani et al. 2017, 3.2.2)

Write the layer of section 3.2 and figure 2 of "Attention Is All You Need" (arXiv 1706.03762). Every query compares
itself with every key, turns the comparisons into weights that sum to 1, and takes the average of the values by these
weights. Several heads do so side by side, each in its own few features of the model.

Letters: B batch, T query tokens, S key tokens, D model width (d_model), H heads (n_heads), K = D / H features per head.

The three inputs are projected to q = wq(query), k = wk(key) and v = wv(value). Head h owns the h-th block of K
consecutive features of q, k and v (features h*K to h*K + K-1), and with q_h, k_h, v_h for its blocks

    weights_h = softmax(q_h k_h^T / sqrt(K))     over the keys, (B, T, S)
    head_h    = weights_h v_h                    (B, T, K)
    output    = wo(head_0 | head_1 | ...)        the heads side by side, in order, (B, T, D)

Self-attention (query, key and value are one tensor) and cross-attention (S keys for T queries, key and value may
differ) are the same code.

Rules:
- Parameters have exactly the names wq, wk, wv and wo, each with a weight (D, D) and a bias (D,) as in nn.Linear(D, D).
  Nothing else is in state_dict(). How they are initialised is up to you.
- A mask is boolean, True where a query may attend to a key, and broadcasts to (B, H, T, S) as PyTorch broadcasts:
  (T, S), (T, 1), (B, 1, 1, S), (B, 1, T, S), (H, T, S) ... Weights of masked keys are exactly 0, those of the
  others sum to 1. Without a mask every query may attend to every key.
- A query that may attend to nothing gets weights of exactly 0 and heads of exactly 0 (to which wo adds its bias), and
  no NaN, in the gradients neither.
- Dropout acts on the attention weights, in training mode only: each single weight is set to 0 with that probability,
  drawn afresh in each call, and the others are divided by 1 - dropout. The weights returned are those before dropout.
- Scores of 10 000 and -10 000 give right weights.
- Results have the dtype (float32, float64 or bfloat16) and the device of the inputs. Compute in that dtype or in a more
  precise one.
- Any batch size, and other sizes and masks in each call. Inputs, the mask included, are not modified.
- No loop over tokens or over the batch. A loop over heads is fine.
- The gradient of the output reaches every input and every parameter.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' attention. All else of PyTorch is allowed, torch.softmax included.

Not asked for: empty batches or sequences, masks that are not boolean, a dropout outside [0, 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class MultiHeadAttention(nn.Module):
    """Attend with several heads side by side: softmax(q k^T / sqrt(K)) v in each, then one projection of all.

    Args:
        d_model: Width D of the inputs and of the output.
        n_heads: Number H of heads; it divides ``d_model``.
        dropout: Probability, in [0, 1), that an attention weight is dropped in training.

    Raises:
        ValueError: If ``d_model`` or ``n_heads`` is below 1, or ``n_heads`` does not divide ``d_model``.
    """

    def __init__(self, d_model: int, n_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the attention's output and its weights.

        Args:
            query: What looks, shape (B, T, D).
            key: What is compared with, shape (B, S, D).
            value: What is averaged, shape (B, S, D).
            mask: Boolean, True = may attend, broadcasts to (B, H, T, S). None: every query may attend to every key.

        Returns:
            output: Shape (B, T, D).
            weights: Attention weights of every head, before dropout, shape (B, H, T, S).
        """
        raise NotImplementedError
