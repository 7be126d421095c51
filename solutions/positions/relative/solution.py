"""Relative position table (Shaw et al. 2018, 3.2)

For attention it often matters less where two tokens stand than how far apart they are, and on which side. Shaw et al.
learn one vector for each distance from a query to a key. Distances of more than ``max_distance`` tokens share the
vector of the last one, so a small table serves texts of any length. This exercise is the table alone: which row belongs
to which pair, and the lookup. Attention that uses two such tables is an exercise of its own.

Letters: ``T`` query tokens (``len_q``), ``S`` key tokens (``len_k``), ``K`` features per head (``head_dim``),
``m`` the greatest distance that is told apart (``max_distance``).

The formula. For the query at position ``q = 0 .. T-1`` and the key at position ``k = 0 .. S-1``

    row(q, k) = clip(k - q, -m, m) + m        where clip(x, -m, m) = max(-m, min(m, x))

so that row 0 is for keys m or more tokens before the query, row m for the key at the query's own place, and row 2m for
keys m or more tokens after it. Queries and keys are both counted from 0, also where T and S differ: the last query is
not moved to the last key.

Rules, besides those in the docstrings below:

- The module has exactly one parameter, named ``table``, of shape (2m + 1, K), and nothing else in ``state_dict()``. A
  lookup shows the table as it is at that moment, and the gradient reaches it.
- The table is drawn anew for each module from Xavier's uniform distribution: all its numbers independent, and uniform
  between -b and b, where b = sqrt(6 / (number of rows + number of columns)).
- ``relative_index`` makes its result on PyTorch's default device. The module computes where ``.to(device)`` moved it.
- After ``.double()`` or ``.bfloat16()`` the lookup has the dtype of the table.
- The lookup is the same in training and in evaluation, with gradients and under ``torch.no_grad()``.
- Lengths may differ from call to call and have no upper limit. The number of tensor operations does not grow with them.
- Use anything in PyTorch except its ready-made attention (``F.scaled_dot_product_attention``,
  ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``, ``nn.Transformer*``), and no other library's parts.

Source: Shaw, Uszkoreit, Vaswani 2018, *Self-Attention with Relative Position Representations*, arXiv:1803.02155,
section 3.2.
"""

import torch
from torch import Tensor, nn


def relative_index(len_q: int, len_k: int, max_distance: int) -> Tensor:
    """Return for each query and each key the row of the table that belongs to their distance.

    Args:
        len_q: Number of queries, T.
        len_k: Number of keys, S.
        max_distance: Distances further than this, m, are cut off, on both sides.

    Returns:
        ``clip(k - q, -m, m) + m`` at row q and column k, shape (T, S), int64, on the default device.

    Raises:
        ValueError: If ``len_q``, ``len_k`` or ``max_distance`` is below 1.
    """
    ### BEGIN SOLUTION
    if min(len_q, len_k, max_distance) < 1:
        raise ValueError(f"{len_q=}, {len_k=} and {max_distance=} must all be at least 1.")
    distance = torch.arange(len_k) - torch.arange(len_q)[:, None]  # (S,) - (T, 1) -> (T, S)
    return distance.clamp(-max_distance, max_distance) + max_distance
    ### END SOLUTION


class RelativePosition(nn.Module):
    """Hold one learnt vector for each clipped distance.

    Args:
        head_dim: Width K of the vectors.
        max_distance: Greatest distance m that is told apart; the table has 2m + 1 rows.

    Raises:
        ValueError: If ``head_dim`` or ``max_distance`` is below 1.
    """

    def __init__(self, head_dim: int, max_distance: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if min(head_dim, max_distance) < 1:
            raise ValueError(f"{head_dim=} and {max_distance=} must be at least 1.")
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.empty(2 * max_distance + 1, head_dim))
        nn.init.xavier_uniform_(self.table)
        ### END SOLUTION

    def forward(self, len_q: int, len_k: int) -> Tensor:
        """Look up the vector of every pair of a query and a key.

        Args:
            len_q: Number of queries, T.
            len_k: Number of keys, S.

        Returns:
            Row ``relative_index(len_q, len_k, max_distance)[q, k]`` of the table at [q, k], shape (T, S, K), dtype and
            device of the table.

        Raises:
            ValueError: If ``len_q`` or ``len_k`` is below 1.
        """
        ### BEGIN SOLUTION
        index = relative_index(len_q, len_k, self.max_distance).to(self.table.device)  # (T, S)
        return self.table[index]  # (2m+1, K) at (T, S) -> (T, S, K)
        ### END SOLUTION
