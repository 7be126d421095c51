"""Attention with a key/value cache (Llama's reference code)

A decoder writes one token after the other. The keys and values of earlier tokens do not change when a new token comes,
so they are computed once and kept. Then a step projects the new token only, and attends over all that is in the cache.

Letters: B batch, T new tokens, D model width (dim), H query heads, G key/value heads, K = D / H features per head,
P = start_pos, the number of tokens before the new ones, S = P + T.

    q = wq(x) (B, T, H, K),  k = wk(x) and v = wv(x) (B, T, G, K),   head h owns the h-th block of K features
    q and k are turned by freqs_cis; then k and v are written to the positions P to S - 1 of the cache
    weights_h = softmax(q_h keys_g^T / sqrt(K))      over the cached keys 0 to S - 1, with g = h // (H // G)
    output    = wo(heads side by side, in order)     head_h = weights_h values_g

Turning (rotary embedding, pairs of neighbours): features 2i and 2i + 1 of a head are one complex number, which is
multiplied by freqs_cis[t, i] for new token t. freqs_cis has one row per new token, so row 0 belongs to position P.

Rules:
- Parameters: wq (H*K, D), wk and wv (G*K, D), wo (D, H*K), each called wq.weight and so on as in nn.Linear, no biases.
  Nothing else is in state_dict(). How they are initialised is up to you.
- cache_k and cache_v are non-persistent buffers of shape (max_batch, max_len, G, K), zeros at first, one pair for each
  module. cache_k holds keys that are turned already. A call writes the positions P to S - 1 of the first B rows; all
  else in the cache stays as it is.
- A call attends to the positions 0 to S - 1 of the first B rows and to nothing behind them, whatever is still there
  from an earlier sequence. start_pos may go back to 0 or to any position that has been written.
- Without a mask attention is causal: new token i sees the positions 0 to P + i.
- A mask is boolean, True = may attend, and broadcasts to (B, H, T, S) as PyTorch broadcasts. It replaces the causal
  one. A query that may attend to nothing gets heads of exactly 0, so an output of exactly 0.
- The weights of hidden keys are exactly 0, and scores of 10 000 and -10 000 give right results.
- A prompt in one call, in chunks, or token by token: the outputs are the same, in training mode and in eval mode.
- The weights may be changed in place between two sequences, as training does.
- A step projects only the new tokens.
- No loop over tokens or over the batch. A loop over heads is fine.
- float32 and bfloat16 modules; freqs_cis is complex64 in both cases. The output and the caches have the module's dtype.
  Everything runs on the device of the module and the inputs. Inputs are not modified.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' attention. All else of PyTorch is allowed, torch.softmax included.

Not asked for: gradients (all calls are made under torch.no_grad()), float64, empty batches or chunks, a start_pos below
0 or behind what has been written, masks that are not boolean.

Source: Llama 2's model.py (github.com/meta-llama/llama), class Attention; Shazeer 2019, arXiv:1911.02150, section 2.4.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class CachedAttention(nn.Module):
    """Grouped-query attention with rotary positions that keeps the keys and values of earlier tokens.

    Args:
        dim: Width D of inputs and output.
        n_heads: Number H of query heads; it divides ``dim``.
        n_kv_heads: Number G of key/value heads; it divides ``n_heads``.
        max_batch: Rows of the cache: how many sequences it holds.
        max_len: Positions of the cache: how many tokens of each sequence it holds.

    Raises:
        ValueError: If one of the five is below 1, ``n_heads`` does not divide ``dim``, ``n_kv_heads`` does not divide
            ``n_heads``, or K = dim / n_heads is odd.
    """

    def __init__(self, dim: int, n_heads: int, n_kv_heads: int, max_batch: int, max_len: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        sizes = {"dim": dim, "n_heads": n_heads, "n_kv_heads": n_kv_heads, "max_batch": max_batch, "max_len": max_len}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1; it is {size}")
        if dim % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"n_heads ({n_heads}) must divide dim ({dim}), and n_kv_heads ({n_kv_heads}) n_heads")
        head_dim = dim // n_heads
        if head_dim % 2:
            raise ValueError(f"dim / n_heads must be even, because features turn in pairs; it is {head_dim}")
        self.n_heads, self.n_kv_heads, self.head_dim = n_heads, n_kv_heads, head_dim
        self.wq = nn.Linear(dim, n_heads * head_dim, bias=False)
        self.wk = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.wv = nn.Linear(dim, n_kv_heads * head_dim, bias=False)
        self.wo = nn.Linear(n_heads * head_dim, dim, bias=False)
        shape = max_batch, max_len, n_kv_heads, head_dim
        self.register_buffer("cache_k", torch.zeros(shape), persistent=False)
        self.register_buffer("cache_v", torch.zeros(shape), persistent=False)
        ### END SOLUTION

    def forward(self, x: Tensor, start_pos: int, freqs_cis: Tensor, mask: Tensor | None = None) -> Tensor:
        """Write the new tokens' keys and values to the cache, and attend over all up to them.

        Args:
            x: New tokens, shape (B, T, D).
            start_pos: Position P of the first of them: how many tokens the sequences had before.
            freqs_cis: Turns of the new tokens, complex, shape (T, K / 2).
            mask: Boolean, True = may attend, broadcasts to (B, H, T, P + T). None: causal.

        Returns:
            Shape (B, T, D).

        Raises:
            ValueError: If B is above ``max_batch``, ``start_pos + T`` is above ``max_len``, or ``freqs_cis`` has not
                exactly T rows. The cache is as it was before.
        """
        ### BEGIN SOLUTION
        B, T, _ = x.shape
        S = start_pos + T
        max_batch, max_len = self.cache_k.shape[:2]
        if max_batch < B or max_len < S:
            raise ValueError(f"the cache holds {max_batch} sequences of {max_len} tokens, not {B} of {S}")
        if freqs_cis.shape[0] != T:
            raise ValueError(f"freqs_cis has {freqs_cis.shape[0]} rows for {T} tokens")

        def turn(heads: Tensor) -> Tensor:
            wide = heads.to(torch.promote_types(heads.dtype, torch.float32))
            pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))  # (B, T, heads, K/2)
            return torch.view_as_real(pairs * freqs_cis[:, None]).flatten(-2).to(heads.dtype)

        q, k, v = (w(x).unflatten(-1, (-1, self.head_dim)) for w in (self.wq, self.wk, self.wv))  # (B, T, H or G, K)
        self.cache_k[:B, start_pos:S] = turn(k).detach()
        self.cache_v[:B, start_pos:S] = v.detach()

        repeats = self.n_heads // self.n_kv_heads
        keys, values = (  # (B, S, G, K) -> (B, S, H, K) -> (B, H, S, K)
            cache[:B, :S].repeat_interleave(repeats, dim=2).transpose(1, 2) for cache in (self.cache_k, self.cache_v)
        )
        scores = turn(q).transpose(1, 2) @ keys.mT / math.sqrt(self.head_dim)  # (B, H, T, K) @ (B, H, K, S)
        if mask is None:
            positions = torch.arange(S, device=x.device)
            mask = positions <= positions[start_pos:, None]  # (T, S)
        lowest = torch.finfo(scores.dtype).min  # finite: a row of -inf alone would be 0/0
        weights = scores.masked_fill(~mask, lowest).softmax(dim=-1).masked_fill(~mask, 0.0)  # (B, H, T, S)
        return self.wo((weights @ values).transpose(1, 2).flatten(2))  # heads side by side, (B, T, D)
        ### END SOLUTION
