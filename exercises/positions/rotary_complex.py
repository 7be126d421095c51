"""Rotary position embedding as complex multiplication

A rotary embedding turns pairs of features by angles that grow with a token's position. A pair ``(a, b)`` is a point in
the plane, so it is a complex number ``a + 1j * b``, and turning it by ``t`` radians is one multiplication:

    (a + 1j * b) * (cos t + 1j * sin t)  =  (a cos t - b sin t) + 1j * (a sin t + b cos t)

Llama's reference code is written this way. Write its two functions: one makes the table of all turns, which a model
keeps, and the other turns queries and keys by the rows of the table that belong to their tokens.

The table. Pair ``i``, for ``i`` from ``0`` to ``K / 2 - 1``, turns counter-clockwise by

    angle(p, i) = p * theta ** (-2 * i / K)                       in radians, at position p = 0, 1, 2, ...

    freqs_cis[p, i] = cos(angle(p, i)) + 1j * sin(angle(p, i))    a complex number of length 1

The turn. Features ``2 * i`` and ``2 * i + 1`` of a head are pair ``i``: two neighbours, the real and the imaginary
part. The pair is multiplied by number ``i`` of its token's row, and its two parts go back to where they were.

Letters: ``B`` batch, ``T`` tokens, ``H`` heads of the queries, ``G`` heads of the keys, ``K`` features per head
(``head_dim``).

Rules, besides those in the two docstrings below:

- Inputs are never modified.
- No loop over positions, tokens or batch: the number of tensor operations does not grow with ``max_len``, ``T`` or
  ``B``. A loop over heads is fine.
- Any batch size, any strides: a transposed or sliced tensor is a tensor like any other.
- ``precompute_freqs_cis`` makes its table on PyTorch's default device. ``apply_rotary_emb`` runs where its inputs lie,
  and so do its results.
- A call is right whatever was called before, with another theta, size, dtype, device or table. Gradients flow to ``xq``
  and ``xk`` each time, in both dtypes, also where ``xq`` and ``xk`` are one tensor.
- Use anything in PyTorch except its ready-made attention (``F.scaled_dot_product_attention``,
  ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``, ``nn.Transformer*``), and no other library's parts.

Not asked for: empty batches or sequences, float64, a gradient for ``freqs_cis``, and a ``freqs_cis`` whose numbers have
another length than 1.

Source: Su et al. 2021, *RoFormer: Enhanced Transformer with Rotary Position Embedding*, arXiv:2104.09864, section 3.2.1
for the complex form; Touvron et al. 2023, *Llama 2*, arXiv:2307.09288, whose reference code has these two functions.
"""

import torch
from torch import Tensor


def precompute_freqs_cis(head_dim: int, max_len: int, theta: float = 10_000.0) -> Tensor:
    """Return the complex number by which each pair of features is multiplied at each position.

    Args:
        head_dim: Features per head, K.
        max_len: Number of positions; the table has those from 0 to ``max_len - 1``.
        theta: Sets how slowly the last pairs turn.

    Returns:
        ``cos + 1j * sin`` of all angles, shape (max_len, K / 2), complex64, on the default device. The angles are
        computed in float32 or more precisely.

    Raises:
        ValueError: If ``head_dim`` is odd or below 1, or ``max_len`` is below 1.
    """
    raise NotImplementedError


def apply_rotary_emb(xq: Tensor, xk: Tensor, freqs_cis: Tensor) -> tuple[Tensor, Tensor]:
    """Turn the queries and the keys of every head by the turns of their tokens.

    Args:
        xq: Queries, shape (B, T, H, K), float32 or bfloat16. Not modified.
        xk: Keys of the same tokens, shape (B, T, G, K), float32 or bfloat16, not always the dtype of ``xq``; there may
            be fewer heads than in ``xq``. Not modified.
        freqs_cis: Row ``t`` holds the turns of token ``t``, the same for all heads and the whole batch, shape
            (T, K / 2), complex64. Any rows of a table: a decoder that adds one token passes that one's row. Not
            modified.

    Returns:
        The turned queries and the turned keys, each in the shape and the dtype that it had.

    Raises:
        ValueError: If K is odd, or if ``freqs_cis`` does not have exactly T rows (a single one does not stand for
            several tokens).
    """
    raise NotImplementedError
