"""Grouped-query attention (Ainslie et al. 2023; Llama 2)

Write the attention of Llama 2 and its successors: the queries have H heads, the keys and values only G of them, and
each key/value head serves a group of H / G query heads. With G = H it is multi-head attention, with G = 1 multi-query
attention. Positions come in by a rotary embedding, and no projection has a bias.

Letters: B batch, T tokens, D model width (dim), H query heads (n_heads), G key/value heads (n_kv_heads), K = D / H
features per head.

The tokens are projected to q = wq(x), k = wk(x) and v = wv(x), and split into heads: head h owns the h-th block of K
consecutive features (features h*K to h*K + K-1). Queries and keys are turned by their positions, values are not. Query
head h uses key/value head g = h // (H // G): with H = 4 and G = 2, query heads 0 and 1 use head 0, and 2 and 3 use
head 1.

    weights_h = softmax(q_h k_g^T / sqrt(K))     over the keys, (B, T, T)
    head_h    = weights_h v_g                    (B, T, K)
    output    = wo(head_0 | head_1 | ...)        the heads side by side, in order, (B, T, D)

The turn: features 2i and 2i+1 of a head are pair i (neighbours), read as the complex number a + b*j. The pair i of
token t is multiplied by freqs_cis[t, i], a complex number of length 1 and the same for all heads and batch items. So
(a, b) becomes (a cos - b sin, a sin + b cos), where cos and sin are the real and the imaginary part of freqs_cis[t, i].

Rules:
- Parameters: wq.weight (H*K, D), wk.weight and wv.weight (G*K, D), wo.weight (D, H*K), as in nn.Linear without bias.
  Nothing else is in state_dict(). How they are initialised is up to you.
- freqs_cis is a complex64 tensor (T, K/2). Its rows are those of the tokens: they may be cut out of the middle of a
  longer table or come from any positions, so angles cannot be worked out again from T.
- A mask is boolean, True where a query may attend to a key, and broadcasts to (B, H, T, T) as PyTorch broadcasts:
  (T, T), (1, T), (T, 1), (B, 1, 1, T), (B, 1, T, T), (H, T, T) ... The weights of masked keys are exactly 0, those of
  the others sum to 1. Without a mask every token sees every token, later ones too.
- A query that may attend to nothing gets heads of exactly 0, so an output of 0, and no NaN, in the gradients neither.
- Scores of 10 000 and -10 000 give right weights.
- Results have the dtype and the device of x: float32, or bfloat16 with bfloat16 weights. freqs_cis is complex64 in both
  cases. Compute in the dtype of x or in a more precise one.
- Any batch size, any strides, and other sizes, rows and masks in each call. Inputs, freqs_cis and the mask included,
  are not modified.
- A call is right whatever came before it, in training mode and in eval mode: the weights may have been changed in
  place, as training does, and other modules may have been made and called.
- No loop over tokens or over the batch. A loop over heads is fine.
- The gradient of the output reaches x and all four weights.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' attention. All else of PyTorch is allowed, torch.softmax included.

Not asked for: float64, empty batches or sequences, masks that are not boolean, freqs_cis of another width than K/2, a
gradient for freqs_cis.

Source: Ainslie et al. 2023, GQA: Training Generalized Multi-Query Transformer Models from Multi-Head Checkpoints (arXiv
2305.13245), section 2; Touvron et al. 2023, Llama 2 (arXiv 2307.09288), and the code published with it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def repeat_kv(x: Tensor, n_rep: int) -> Tensor:
    """Repeat each key/value head ``n_rep`` times in a row: heads [a, b] become [a, a, b, b].

    Args:
        x: Keys or values of any dtype, shape (B, S, G, K). Not modified.
        n_rep: Query heads per key/value head.

    Returns:
        Shape (B, S, G * n_rep, K), same dtype and device. With ``n_rep = 1`` it may be ``x`` itself.

    Raises:
        ValueError: If ``n_rep`` is below 1.
    """
    ### BEGIN SOLUTION
    if n_rep < 1:
        raise ValueError(f"n_rep ({n_rep}) must be at least 1")
    return x.unsqueeze(3).expand(-1, -1, -1, n_rep, -1).flatten(2, 3)  # (B, S, G, n_rep, K) -> (B, S, G * n_rep, K)
    ### END SOLUTION


class GroupedQueryAttention(nn.Module):
    """Attend with H query heads that share G key/value heads.

    Args:
        dim: Width D of the input and of the output.
        n_heads: Number H of query heads; it divides ``dim``, and K = D / H is even.
        n_kv_heads: Number G of key/value heads; it divides ``n_heads``. None: as many as query heads.

    Raises:
        ValueError: If ``dim``, ``n_heads`` or ``n_kv_heads`` is below 1, if ``n_heads`` does not divide ``dim`` or
            ``n_kv_heads`` does not divide ``n_heads``, or if K is odd.
    """

    def __init__(self, dim: int, n_heads: int, n_kv_heads: int | None = None) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if min(dim, n_heads, n_kv_heads) < 1:
            raise ValueError(f"dim ({dim}), n_heads ({n_heads}) and n_kv_heads ({n_kv_heads}) must be at least 1")
        if dim % n_heads:
            raise ValueError(f"n_heads ({n_heads}) must divide dim ({dim})")
        if n_heads % n_kv_heads:
            raise ValueError(f"n_kv_heads ({n_kv_heads}) must divide n_heads ({n_heads})")
        self.head_dim = dim // n_heads
        if self.head_dim % 2:
            raise ValueError(f"dim / n_heads = {self.head_dim} must be even: features turn in pairs")
        self.n_rep = n_heads // n_kv_heads
        self.wq = nn.Linear(dim, n_heads * self.head_dim, bias=False)
        self.wk = nn.Linear(dim, n_kv_heads * self.head_dim, bias=False)
        self.wv = nn.Linear(dim, n_kv_heads * self.head_dim, bias=False)
        self.wo = nn.Linear(n_heads * self.head_dim, dim, bias=False)
        ### END SOLUTION

    def forward(self, x: Tensor, freqs_cis: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the attention's output.

        Args:
            x: Tokens, shape (B, T, D). Not modified.
            freqs_cis: By what the pairs of each token are multiplied, complex64, shape (T, K/2). Not modified.
            mask: Boolean, True = may attend, broadcasts to (B, H, T, T). None: every token sees every token.

        Returns:
            Shape (B, T, D), same dtype and device as ``x``.

        Raises:
            ValueError: If ``freqs_cis`` has another number of rows than T, be it fewer, more, or a single one.
        """
        ### BEGIN SOLUTION
        if freqs_cis.shape[0] != x.shape[1]:
            raise ValueError(f"freqs_cis needs one row per token: {x.shape[1]} tokens, {freqs_cis.shape[0]} rows")

        def turn(heads: Tensor) -> Tensor:
            wide = heads.to(torch.promote_types(heads.dtype, torch.float32))  # there is no complex bfloat16
            pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))  # (B, T, heads, K/2)
            turned = pairs * freqs_cis[:, None]  # (T, 1, K/2): the same for all heads
            return torch.view_as_real(turned).flatten(-2).type_as(heads)

        q, k, v = (w(x).unflatten(-1, (-1, self.head_dim)) for w in (self.wq, self.wk, self.wv))
        q = turn(q).transpose(1, 2)  # (B, T, H, K) -> (B, H, T, K)
        k, v = (repeat_kv(heads, self.n_rep).transpose(1, 2) for heads in (turn(k), v))  # (B, T, G, K) -> (B, H, T, K)
        scores = q @ k.transpose(-2, -1) / math.sqrt(self.head_dim)  # (B, H, T, K) @ (B, H, K, T) -> (B, H, T, T)
        if mask is None:
            weights = scores.softmax(dim=-1)
        else:  # the lowest finite number: a row of -inf alone would be 0/0
            lowest = torch.finfo(scores.dtype).min
            weights = scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0.0)
        heads = weights @ v  # (B, H, T, T) @ (B, H, T, K) -> (B, H, T, K)
        return self.wo(heads.transpose(1, 2).flatten(2))  # heads side by side again, (B, T, D)
        ### END SOLUTION
