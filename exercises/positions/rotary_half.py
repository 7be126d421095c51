"""Rotary position embedding, split halves, and converting weights

A rotary embedding turns pairs of features by angles that grow with a token's position. The paper, and the checkpoints
that Llama was published with, pair neighbours: features ``2 * i`` and ``2 * i + 1``. GPT-NeoX and Hugging Face's Llama
pair features half a head apart: ``i`` and ``i + K / 2``. Both are sound, for weights trained with them. Write the
second way, and the conversion of a projection from the first.

The formula. Let ``x = [a, b]`` be the two halves of the ``K`` features of a head: ``a`` holds the first members of all
pairs, ``b`` the second ones. For the token at position ``p``, pair ``i``, for ``i`` from ``0`` to ``K / 2 - 1``, is
turned counter-clockwise by

    angle(p, i) = p * base ** (-2 * i / K)                        in radians

    [a, b]  becomes  [a * cos - b * sin, b * cos + a * sin]       cos and sin of that angle, K / 2 of each

With ``rotate_half([a, b]) = [-b, a]`` this is ``x * [cos, cos] + rotate_half(x) * [sin, sin]``.

The conversion. A projection with a weight of shape ``(H * K, D)`` computes ``x @ weight.T``: row ``h * K + r`` makes
feature ``r`` of head ``h``. If it was trained for pairs of neighbours, reordering its rows makes it fit the split
halves. When the projection of the queries and that of the keys are both converted, all attention scores are the same as
before. Within each head the even rows come first (``0, 2, ..., K - 2``), then the odd ones (``1, 3, ..., K - 1``); the
heads keep their places.

Letters: ``B`` batch, ``H`` heads, ``T`` tokens, ``K`` features per head, ``D`` width of what a projection reads.

Rules, besides those in the docstrings below:

- Inputs are never modified.
- Positions are any integers: negative, repeated, in any order, far from 0, not only ``0 .. T - 1``.
- No loop over tokens or batch: the number of tensor operations does not grow with ``T`` or ``B``. A loop over heads is
  fine.
- Any batch size, any strides: a transposed or sliced tensor is a tensor like any other.
- The code runs where its inputs lie: results and new tensors are made on the device of the inputs.
- A call is right whatever was called before, with another base, size, dtype, device or other positions. Gradients flow
  to ``x`` each time, in every dtype.
- Use anything in PyTorch except its ready-made attention (``F.scaled_dot_product_attention``,
  ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``, ``nn.Transformer*``), and no other library's parts.

Not asked for: empty batches or sequences, positions that are not integers, a gradient for the positions, a gradient
through the conversion.

Source: Su et al. 2021, *RoFormer: Enhanced Transformer with Rotary Position Embedding*, arXiv:2104.09864, sections
3.2.2 and 3.4.2; Black et al. 2022, *GPT-NeoX-20B*, arXiv:2204.06745, section 2.1.1, whose code has the split halves.
"""

import torch
from torch import Tensor


def rotate_half(x: Tensor) -> Tensor:
    """Return the two halves of the last dimension in the other order, the second one with its sign changed.

    ``[a, b]`` becomes ``[-b, a]``: every pair is turned by a quarter, counter-clockwise.

    Args:
        x: Shape (..., K): any number of dimensions before the last one. Not modified.

    Returns:
        Same shape, same dtype, same device.

    Raises:
        ValueError: If K is odd.
    """
    raise NotImplementedError


def apply_rotary_half(x: Tensor, positions: Tensor, base: float = 10_000.0) -> Tensor:
    """Turn the queries or the keys of every head by their positions.

    Features ``i`` and ``i + K / 2`` are pair ``i``, turned counter-clockwise by ``base ** (-2 * i / K)`` radians per
    position.

    The angles are computed in float32 at least, whatever the dtype of ``x``, also where ``x`` is bfloat16. A float64
    ``x`` is turned with angles computed in float64 all the way.

    Args:
        x: Queries or keys, shape (B, H, T, K), float32, float64 or bfloat16. Not modified.
        positions: Integer position of each token, shape (T,), the same for all heads and the whole batch. Any
            integers: a decoder that adds one token asks for that one's position. Not modified.
        base: Sets how slowly the last pairs turn.

    Returns:
        Turned ``x``: same shape, same dtype, same device.

    Raises:
        ValueError: If K is odd, or if ``positions`` does not hold exactly T numbers (a single one does not stand for
            several tokens).
    """
    raise NotImplementedError


def interleaved_to_half(weight: Tensor, n_heads: int) -> Tensor:
    """Convert a query or key projection trained for pairs of neighbours to one that fits ``apply_rotary_half``.

    Args:
        weight: The projection's weight, shape (H * K, D); D may be any width. float32, float64 or bfloat16. Not
            modified.
        n_heads: Number of heads in this weight, H. (Keys may have fewer heads than queries.)

    Returns:
        The same rows, within each head the even ones first and then the odd ones: same shape, same dtype, same device.
        A new tensor that shares no memory with ``weight``, also where no row moves (K = 2).

    Raises:
        ValueError: If ``n_heads`` is below 1 or does not divide the number of rows, or if K is odd.
    """
    raise NotImplementedError
