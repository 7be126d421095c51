"""Causal and padding masks

Attention compares every query with every key. A mask says which of these pairs count. Two of them come up all the time:
a decoder must not look at tokens that come later, and no one must look at padding. Write both, and their combination.

All masks here are boolean tensors in which **True means: this query may attend to this key**, and False means that it
must not.

Letters: ``B`` sequences in a batch, ``T`` query tokens, ``S`` key tokens. Rows are queries, columns are keys.

- Causal: a query sees the keys up to its own place. With as many keys as queries that is the lower triangle with its
  diagonal. With more keys than queries the last query stands at the last key: the earlier keys are those that a cache
  holds already. Two queries and four keys give

      True True True False
      True True True True

- Padding: sequences of different lengths are padded at the end up to ``max_len``. Only real tokens may be attended to.
- Combined: a key counts if both masks allow it. The result has an axis of size 1 for the heads, so that it broadcasts
  to scores of shape (B, H, T, S).

Rules, besides those in the docstrings:

- Results are of dtype bool and of exactly the shape that is asked for.
- ``padding_mask`` and ``combine_masks`` answer on the device of their inputs. ``causal_mask`` has no tensor to go by:
  it answers on PyTorch's default device, where ``torch.ones(2, 3)`` would lie as well.
- Inputs are never modified, and they may have any strides.
- No loop over tokens or sequences: the number of tensor operations does not grow with ``T``, ``S`` or ``B``.
- A call is right whatever was called before, with gradients switched on or off.
- Use anything in PyTorch except its ready-made attention (``F.scaled_dot_product_attention``,
  ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``, ``nn.Transformer*`` with the mask that it offers), and
  no other library's parts.

Not asked for: empty batches, lengths that are not integers, masks that are not boolean.

Source: Vaswani et al. 2017, *Attention Is All You Need*, arXiv:1706.03762, section 3.2.3.
"""

import torch
from torch import Tensor


def causal_mask(len_q: int, len_k: int | None = None) -> Tensor:
    """Return the mask under which a query sees no key after its own place.

    Args:
        len_q: Number of queries, T.
        len_k: Number of keys, S; as many as queries if it is None.

    Returns:
        Bool, shape (T, S), True = may attend. The last query stands at the last key and sees all of them, the query
        before it sees all but one, and so on.

    Raises:
        ValueError: If there are fewer keys than queries, or ``len_q`` or ``len_k`` is below 1.
    """
    ### BEGIN SOLUTION
    if len_k is None:
        len_k = len_q
    if len_q < 1:
        raise ValueError(f"len_q must be at least 1; it is {len_q}.")
    if len_k < len_q:
        raise ValueError(f"len_k ({len_k}) must not be below len_q ({len_q}): the last query stands at the last key.")
    return torch.ones(len_q, len_k, dtype=torch.bool).tril(len_k - len_q)
    ### END SOLUTION


def padding_mask(lengths: Tensor, max_len: int) -> Tensor:
    """Return the mask that is True for real tokens and False for padding.

    Args:
        lengths: Number of real tokens of each sequence, from 0 to ``max_len``, both included; int64 or int32, shape
            (B,). Not modified.
        max_len: Number of tokens of every sequence with its padding, which follows the real tokens.

    Returns:
        Bool, shape (B, max_len).

    Raises:
        ValueError: If a length is above ``max_len`` or below 0, or ``max_len`` is below 1.
    """
    ### BEGIN SOLUTION
    if max_len < 1:
        raise ValueError(f"max_len must be at least 1; it is {max_len}.")
    if ((lengths < 0) | (lengths > max_len)).any():
        raise ValueError(f"lengths must lie between 0 and max_len ({max_len}); they are {lengths.tolist()}.")
    return torch.arange(max_len, device=lengths.device) < lengths[:, None]  # (S,) < (B, 1) -> (B, S)
    ### END SOLUTION


def combine_masks(causal: Tensor, padding: Tensor) -> Tensor:
    """Return the mask under which a query sees the keys that both masks allow.

    Args:
        causal: Any boolean mask of queries and keys, shape (T, S), True = may attend. Not modified.
        padding: Boolean, shape (B, S), True = real token. It belongs to the keys alone: whether a query is padding does
            not matter. Not modified.

    Returns:
        Bool, shape (B, 1, T, S), True = may attend.
    """
    ### BEGIN SOLUTION
    return causal & padding[:, None, None, :]  # (T, S) & (B, 1, 1, S) -> (B, 1, T, S)
    ### END SOLUTION
