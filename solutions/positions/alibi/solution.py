"""Attention with linear biases (ALiBi)

ALiBi gives attention no position embedding at all. It adds a number to every score instead: the further a key lies
behind the query, the lower the score, by a fixed amount per step. Each head has an amount of its own, its slope, so
some heads look at their neighbours and others far back. Keys after the query are hidden with ``-inf``.

Write the two functions that make these numbers.

The slopes. With a number of heads ``H`` that is a power of two,

    slope of head h = 2 ** (-8 * h / H)               for h = 1 .. H

Eight heads have 1/2, 1/4, 1/8 ... 1/256. For other numbers the authors' code has this rule: with ``m`` the largest
power of two below ``H``, first come all ``m`` slopes of ``m`` heads, then the 1st, 3rd, 5th ... slope of ``2 * m``
heads, until there are ``H``. Three heads have ``2 ** -4`` and ``2 ** -8``, as two heads have, and then ``2 ** -2``, the
1st of four heads.

The bias. ``T`` queries stand at the end of ``S`` keys: the last query stands at the last key. Counted from 0, query
``q`` (in row ``q``) is at position ``q_pos = q + S - T``, and key ``k`` at position ``k_pos = k``.

    bias[h, q, k] = -slope_h * (q_pos - k_pos)        where k_pos <= q_pos
                    -inf                              where k_pos > q_pos

With ``T = S`` that is a text read from its start, with ``T = 1`` a decoder that adds a token to those in its cache.

Letters: ``H`` heads, ``T`` query tokens, ``S`` key tokens.

Rules:

- Results are float32 and lie on PyTorch's default device.
- No loop over tokens: the number of tensor operations does not grow with ``T`` or ``S``. A loop over heads is fine.
- A call is right whatever was called before, with other counts or another device.
- Use anything in PyTorch except its ready-made attention (``F.scaled_dot_product_attention``,
  ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``, ``nn.Transformer*``), and no other library's parts.

Not asked for: more queries than keys (``T > S``).

Source: Press, Smith and Lewis 2022, *Train Short, Test Long: Attention with Linear Biases Enables Input Length
Extrapolation*, arXiv:2108.12409, section 3 and figure 3. The rule for other numbers of heads is in the code that they
published.
"""

import torch
from torch import Tensor


def alibi_slopes(n_heads: int) -> Tensor:
    """Return how much each head lowers a score per step of distance.

    Args:
        n_heads: Number of heads, H: any, not only powers of two.

    Returns:
        Slopes in the order of the brief, shape (H,), float32.

    Raises:
        ValueError: If ``n_heads`` is below 1.
    """
    ### BEGIN SOLUTION
    if n_heads < 1:
        raise ValueError(f"n_heads must be at least 1; it is {n_heads}.")
    m = 1 << (n_heads.bit_length() - 1)  # the largest power of two up to n_heads
    slopes = [2 ** (-8 * h / m) for h in range(1, m + 1)]
    between = [2 ** (-8 * h / (2 * m)) for h in range(1, 2 * m, 2)]  # every other slope of 2m heads
    return torch.tensor(slopes + between[: n_heads - m], dtype=torch.float32)
    ### END SOLUTION


def alibi_bias(n_heads: int, len_q: int, len_k: int) -> Tensor:
    """Return what is added to the attention scores of every head.

    Args:
        n_heads: Number of heads, H.
        len_q: Number of queries, T; the last one stands at the last key.
        len_k: Number of keys, S, at least ``len_q``.

    Returns:
        ``-slope * (q_pos - k_pos)`` for keys at or before the query and ``-inf`` for keys after it, shape (H, T, S),
        float32.

    Raises:
        ValueError: If ``n_heads``, ``len_q`` or ``len_k`` is below 1.
    """
    ### BEGIN SOLUTION
    if len_q < 1 or len_k < 1:
        raise ValueError(f"len_q ({len_q}) and len_k ({len_k}) must be at least 1.")
    q_pos = torch.arange(len_q) + (len_k - len_q)
    distance = q_pos[:, None] - torch.arange(len_k)  # (T, 1) - (S,) -> (T, S), negative for keys after the query
    bias = -alibi_slopes(n_heads)[:, None, None] * distance  # (H, 1, 1) * (T, S) -> (H, T, S)
    return bias.masked_fill(distance < 0, -torch.inf)
    ### END SOLUTION
