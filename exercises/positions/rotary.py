"""Rotary position embedding, pairs of neighbours

Attention alone does not see in which order its tokens stand. A rotary embedding shows it the order without a single
parameter: every query and every key is turned by angles that grow with its position. The dot product of a turned query
and a turned key then depends on how far apart the two stand, and not on where.

The formula. Features ``2 * i`` and ``2 * i + 1`` of a head are pair ``i``, for ``i`` from ``0`` to ``K / 2 - 1``: two
neighbours. For the token at position ``p``, pair ``i`` is turned counter-clockwise by

    angle(p, i) = p * base ** (-2 * i / K)                        in radians

    (a, b)  becomes  (a * cos - b * sin, a * sin + b * cos)       cos and sin of that angle

Letters: ``B`` batch, ``H`` heads, ``T`` tokens, ``K`` features per head (``head_dim``).

Rules, besides those in the two docstrings below:

- Inputs are never modified.
- Positions are any integers: negative, repeated, in any order, far from 0, not only ``0 .. T - 1``.
- No loop over tokens or batch: the number of tensor operations does not grow with ``T`` or ``B``.
- Any batch size, any strides: a transposed or sliced ``x`` is an ``x`` like any other.
- The code runs where its inputs lie: new tensors are made on the device of the inputs.
- A call is right whatever was called before, with another base, size, dtype, device or other positions; gradients
  flow to ``x`` each time.
- Use anything in PyTorch except its ready-made attention (``F.scaled_dot_product_attention``,
  ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``, ``nn.Transformer*``), and no other library's parts.

Not asked for: empty batches or sequences, positions that are not integers, a gradient for the positions.

Source: Su et al. 2021, *RoFormer: Enhanced Transformer with Rotary Position Embedding*, arXiv:2104.09864, section 3.2.2
for the angles (the paper counts its pairs from 1) and section 3.4.2 for turning without a matrix.
"""

import torch
from torch import Tensor


def rotary_angles(positions: Tensor, head_dim: int, base: float = 10_000.0) -> Tensor:
    """Return the angle by which each pair of features is turned at each position.

    Pair ``i`` turns by ``base ** (-2 * i / head_dim)`` radians per position, ``i = 0 .. head_dim / 2 - 1``.

    Args:
        positions: Integer position of each token, shape (T,). Any integers. Not modified.
        head_dim: Features per head, K.
        base: Sets how slowly the last pairs turn.

    Returns:
        Angles in radians, shape (T, K / 2), float32, on the device of ``positions``.

    Raises:
        ValueError: If ``head_dim`` is odd or below 1.
    """
    raise NotImplementedError


def apply_rotary(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Turn the queries or the keys of every head by their positions.

    Features ``2 * i`` and ``2 * i + 1`` are pair ``i``, turned counter-clockwise by the angles of ``rotary_angles``.

    The angles are computed in float32 at least, whatever the dtype of ``x``, also where ``x`` is bfloat16. A float64
    ``x`` is turned with angles computed in float64, so not through the float32 that ``rotary_angles`` returns.

    Args:
        x: Queries or keys, shape (B, H, T, K), float32, float64 or bfloat16. Not modified.
        positions: Integer position of each token, shape (T,), the same for all heads and the whole batch. Any
            integers: a decoder that adds one token asks for that one's position. Not modified.
        base: See ``rotary_angles``.

    Returns:
        Turned ``x``: same shape, same dtype, same device.

    Raises:
        ValueError: If K is odd, or if ``positions`` does not hold exactly T numbers (a single one does not stand for
            several tokens).
    """
    raise NotImplementedError
