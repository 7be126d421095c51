"""Multi-head attention with relative positions (Shaw et al. 2018, eq. 3 to 5)

Plain attention does not see in which order its keys stand. Shaw et al. let it see how far each key is from each query:
a learnt vector for that distance joins the key when the score is computed, and another one joins the value when the
average is taken. Write the whole layer, for several heads.

Letters: B batch, T query tokens, S key tokens, D model width (d_model), H heads (n_heads), K = D / H features per head,
m the greatest distance that is told apart (max_distance).

The three inputs are projected to q = wq(query), k = wk(key) and v = wv(value). Head h owns the h-th block of K
consecutive features of each (features h*K to h*K + K-1). There are two tables, rel_k and rel_v, each of 2m + 1 rows of
K features, which all heads share. For the query at position t and the key at position s

    row(t, s) = clip(s - t, -m, m) + m                clip(x, -m, m) = max(-m, min(m, x))
    a_k(t, s) = rel_k[row(t, s)],    a_v(t, s) = rel_v[row(t, s)]

Queries and keys are both counted from 0, also where T and S differ. In each head

    score(t, s)  = (q_t . k_s  +  q_t . a_k(t, s)) / sqrt(K)
    weight(t, s) = softmax of the scores over all s
    head(t)      = sum over s of weight(t, s) * (v_s + a_v(t, s))
    output       = wo(head_0 | head_1 | ...)          the heads side by side, in order, (B, T, D)

Rules:
- Parameters have exactly the names wq, wk, wv and wo, each with a weight (D, D) and a bias (D,) as in nn.Linear(D, D),
  and rel_k and rel_v, each of shape (2m + 1, K). Nothing else is in state_dict().
- rel_k and rel_v are drawn anew for each module from Xavier's uniform distribution: all numbers independent, and
  uniform between -b and b, where b = sqrt(6 / (number of rows + number of columns)). How the projections begin is up
  to you.
- No tensor with as many as B * H * T * S * K numbers is made on the way to the output. (T, S, K) is fine.
- A mask is boolean, True where a query may attend to a key, and broadcasts to (B, H, T, S) as PyTorch broadcasts:
  (T, S), (T, 1), (B, 1, 1, S), (B, 1, T, S), (H, T, S) ... Weights of masked keys are exactly 0, those of the
  others sum to 1. Without a mask every query may attend to every key.
- A query that may attend to nothing gets weights of exactly 0 and heads of exactly 0 (to which wo adds its bias), and
  no NaN, in the gradients neither.
- Dropout acts on the attention weights, in training mode only: each single weight is set to 0 with that probability,
  drawn afresh in each call, and the others are divided by 1 - dropout. The same dropped-out weights multiply v and a_v.
  The weights returned are those before dropout.
- Scores of 10 000 and -10 000 give right weights.
- Results have the dtype (float32, float64 or bfloat16) and the device of the inputs. Compute in that dtype or in a more
  precise one.
- Any batch size and length, and other sizes and masks in each call. Inputs, the mask included, are not modified.
- A call is right whatever came before it: weights and tables may have been changed in place, as training does, and
  other modules may have been made and called.
- No loop over tokens or over the batch. A loop over heads is fine.
- The gradient of the output reaches every input and every parameter.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' attention. All else of PyTorch is allowed, torch.softmax included.

Not asked for: empty batches or sequences, masks that are not boolean, a dropout outside [0, 1).

Source: Shaw, Uszkoreit, Vaswani 2018, "Self-Attention with Relative Position Representations", arXiv 1803.02155,
equations 3 to 5 and section 3.3.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class RelativeMultiHeadAttention(nn.Module):
    """Attend with several heads that see how far each key is from each query.

    Args:
        d_model: Width D of the inputs and of the output.
        n_heads: Number H of heads; it divides ``d_model``.
        max_distance: Greatest distance m that is told apart; the tables have 2m + 1 rows.
        dropout: Probability, in [0, 1), that an attention weight is dropped in training.

    Raises:
        ValueError: If ``d_model``, ``n_heads`` or ``max_distance`` is below 1, or ``n_heads`` does not divide
            ``d_model``.
    """

    def __init__(self, d_model: int, n_heads: int, max_distance: int = 16, dropout: float = 0.0) -> None:
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
