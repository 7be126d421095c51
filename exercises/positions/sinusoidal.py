"""Sinusoidal position encoding (Vaswani et al. 2017, 3.5)

Attention alone does not see in which order its tokens stand. The first transformer shows it the order by adding to
every token a vector that depends on its position only: sines and cosines of angles that grow with the position, each
pair of columns at a speed of its own, from fast to slow like the hands of a clock. Nothing in it is trained.

The formula. Columns ``2 * i`` and ``2 * i + 1`` are pair ``i``, for ``i`` from ``0`` to ``D / 2 - 1``: two neighbours
that share one angle. For the token at position ``p``, counted from 0,

    angle(p, i) = p / base ** (2 * i / D)                         in radians

    table[p, 2 * i]     = sin(angle(p, i))
    table[p, 2 * i + 1] = cos(angle(p, i))

Letters: ``B`` batch, ``T`` tokens, ``D`` features per token (``d_model``).

Rules, besides those in the docstrings below:

- The table is computed in float32 at least and comes as float32, precise for thousands of positions.
- The module has no parameters. It holds its table, shape (max_len, D), as a buffer with the name ``table``, which moves
  and changes its dtype with the module, but is not saved: ``state_dict()`` is empty.
- The module adds the rows to x and does nothing else, in training and in evaluation alike: no factor, no dropout.
- A float32, float64 or bfloat16 module takes an x of its dtype and returns that dtype. In a float64 module the table
  may still be one that was rounded to float32. In a bfloat16 module the finished table may be rounded to bfloat16, but
  not its angles.
- Inputs are never modified, and the gradient of the result reaches x.
- No loop over positions or over the batch: the number of tensor operations does not grow with ``max_len``, ``T`` or
  ``B``. A loop over pairs of columns is fine.
- Any batch size, any ``T`` from 1 to ``max_len`` in each call, any strides: a transposed or sliced x is an x like any
  other.
- ``sinusoidal_table`` makes its table on PyTorch's default device (the one of ``torch.set_default_device``). The module
  computes where ``.to(device)`` has moved it.
- A call is right whatever was called before, with other sizes, another base, dtype or device.
- Use anything in PyTorch except its ready-made attention (``F.scaled_dot_product_attention``,
  ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``, ``nn.Transformer*``), and no other library's parts.

Not asked for: empty batches or sequences, an x whose width is not ``d_model``.

Source: Vaswani et al. 2017, *Attention Is All You Need*, arXiv:1706.03762, section 3.5.
"""

import torch
from torch import Tensor, nn


def sinusoidal_table(max_len: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """Return the sines and cosines of the first positions.

    Even columns ``2 * i`` hold ``sin(p / base ** (2 * i / d_model))``, odd columns ``2 * i + 1`` the cosine of the same
    angle, for the positions ``p = 0 .. max_len - 1``.

    Args:
        max_len: How many positions.
        d_model: Number of columns, D.
        base: Sets how slow the last pairs are.

    Returns:
        Shape (max_len, D), float32, on the default device.

    Raises:
        ValueError: If ``d_model`` is odd or below 1, or ``max_len`` is below 1.
    """
    raise NotImplementedError


class SinusoidalPositionEncoding(nn.Module):
    """Add to every token the row of the table that belongs to its position.

    Args:
        max_len: How many positions the table has.
        d_model: Width D of the tokens.
        base: See ``sinusoidal_table``.

    Raises:
        ValueError: If ``d_model`` is odd or below 1, or ``max_len`` is below 1.
    """

    def __init__(self, max_len: int, d_model: int, base: float = 10_000.0) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the first T rows of the table, the same rows for every item of the batch.

        Args:
            x: Tokens, shape (B, T, D). Not modified.

        Returns:
            Shape (B, T, D), dtype and device of x.

        Raises:
            ValueError: If T is larger than ``max_len``.
        """
        raise NotImplementedError
