"""The whole Llama

Write Llama 2 as one module, from token ids to logits, with a cache of keys and values so that it can write a text token
by token.

Letters: B batch, T tokens of this call, D model width (dim), L layers (n_layers), H query heads (n_heads), G key/value
heads (n_kv_heads), K = D / H features per head, F hidden width of the feed-forward (hidden_dim), V vocabulary size,
P = start_pos: how many tokens the sequences had before this call, S = P + T.

    h = embedding of the tokens, as it is                      (B, T, D)
    for each layer, 0 to L - 1:
        h = h + attention(norm(h; attention_norm))
        h = h + w2(silu(w1 n) * w3 n)                          with n = norm(h; ffn_norm) of the new h
    logits = output(norm(h; norm))                             (B, T, V), of every token

    norm(x; weight) = x / sqrt(mean(x^2) + norm_eps) * weight     the mean over the D features of a token

Attention projects its input n to q = wq(n), k = wk(n) and v = wv(n), and splits them into heads: head h owns the h-th
block of K consecutive features. Queries and keys are turned by their positions, values are not. Query head h uses
key/value head g = h // (H // G).

    weights_h = softmax(q_h k_g^T / sqrt(K))     over the positions that the token sees
    attention = wo(head_0 | head_1 | ...)        the heads side by side, in order; head_h = weights_h v_g

The turn: new token i stands at position p = P + i. Features 2j and 2j+1 of a head are pair j (neighbours), turned
counter-clockwise by the angle p * theta ** (-2j / K): (a, b) becomes (a cos - b sin, a sin + b cos). Compute angles in
float32 at least, in a bfloat16 model as well: bfloat16 has no 257.

The cache: every layer keeps the turned keys and the values of the tokens that it has seen. A call with start_pos P
keeps those of its own tokens as positions P to S - 1 of the first B sequences, and lets new token i see the positions
0 to P + i of its own sequence and nothing else. So a prompt at once, in chunks, or token by token: the logits are the
same.

Rules:
- Parameters, with the names of the published checkpoints: tok_embeddings.weight (V, D); for each layer i
  layers.{i}.attention.wq.weight (H*K, D), layers.{i}.attention.wk.weight and layers.{i}.attention.wv.weight (G*K, D),
  layers.{i}.attention.wo.weight (D, H*K), layers.{i}.feed_forward.w1.weight and layers.{i}.feed_forward.w3.weight
  (F, D), layers.{i}.feed_forward.w2.weight (D, F), layers.{i}.attention_norm.weight and layers.{i}.ffn_norm.weight
  (D,); norm.weight (D,) and output.weight (V, D). Nothing else is in state_dict(): tables and caches are non-persistent
  buffers. There are no biases, and no weight serves twice. How they are initialised is up to you.
- A call with start_pos 0 starts afresh: nothing of earlier calls counts. start_pos may also go back to any position up
  to where the sequences were read: what was kept from there on is replaced.
- Later calls may have fewer sequences than earlier ones: these are the first rows of the cache.
- A call projects only its own tokens, and no token of earlier calls again.
- Gates w1 n of 200 and -200 give a right silu, silu(z) = z * sigmoid(z).
- Gradients flow through everything of the current call, its keys and values included. What was kept from earlier calls
  has no gradient. Several calls may be made before one backward pass through all their logits.
- The logits are float32, in a bfloat16 and a float64 model as well. Inside, compute in the dtype of the parameters or
  in a more precise one.
- Training mode and eval mode do the same: there is no dropout. Calls under torch.no_grad() do, too.
- Modules do not share caches. Everything runs on the device of the module and the tokens, also after a move.
- Any batch size up to max_batch, any strides. The tokens are not modified. The parameters may change between calls.
- No loop over tokens or over the batch. Loops over layers or heads are fine.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' parts. All else of PyTorch is allowed, torch.softmax, F.silu and
  nn.RMSNorm included.

Not asked for: a start_pos below 0 or beyond what the sequences were read to, ids outside the vocabulary, empty batches
or calls, padding, to go on with a text after the module was moved, converted or given other weights.

Source: Touvron et al. 2023, Llama 2 (arXiv 2307.09288), section 2.2, and the code published with it
(github.com/meta-llama/llama, model.py). With the rows of wq and wk permuted the logits are those of Hugging Face's
LlamaForCausalLM.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class Llama(nn.Module):
    """Turn token ids into logits of the next token, and keep keys and values for the calls to come.

    Args:
        dim: Width D.
        n_layers: Number L of layers.
        n_heads: Number H of query heads; it divides ``dim``, and K = D / H is even.
        n_kv_heads: Number G of key/value heads; it divides ``n_heads``.
        vocab_size: Number V of tokens.
        hidden_dim: Hidden width F of the feed-forward, used as given.
        max_batch: How many sequences the cache holds.
        max_len: How many tokens of each sequence the cache holds.
        norm_eps: Added to the mean of the squares, under the root, in all norms.
        theta: Base of the turning speeds.

    Raises:
        ValueError: If one of the first eight is below 1, ``n_heads`` does not divide ``dim``, ``n_kv_heads`` does not
            divide ``n_heads``, or K is odd.
    """

    def __init__(
        self,
        dim: int,
        n_layers: int,
        n_heads: int,
        n_kv_heads: int,
        vocab_size: int,
        hidden_dim: int,
        max_batch: int = 1,
        max_len: int = 128,
        norm_eps: float = 1e-5,
        theta: float = 10_000.0,
    ) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        sizes = {"dim": dim, "n_layers": n_layers, "n_heads": n_heads, "n_kv_heads": n_kv_heads}
        sizes |= {"vocab_size": vocab_size, "hidden_dim": hidden_dim, "max_batch": max_batch, "max_len": max_len}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1; it is {size}")
        if dim % n_heads or n_heads % n_kv_heads:
            raise ValueError(f"n_heads ({n_heads}) must divide dim ({dim}), and n_kv_heads ({n_kv_heads}) n_heads")
        K = dim // n_heads
        if K % 2:
            raise ValueError(f"dim / n_heads must be even, because features turn in pairs; it is {K}")
        self.head_dim, self.n_rep, self.norm_eps, self.theta = K, n_heads // n_kv_heads, norm_eps, theta

        def linears(**widths: tuple[int, int]) -> nn.ModuleDict:
            return nn.ModuleDict({name: nn.Linear(*width, bias=False) for name, width in widths.items()})

        def gain() -> nn.ParameterDict:
            return nn.ParameterDict({"weight": nn.Parameter(torch.ones(dim))})

        def layer() -> nn.ModuleDict:
            kv = n_kv_heads * K
            attention = linears(wq=(dim, dim), wk=(dim, kv), wv=(dim, kv), wo=(dim, dim))
            feed_forward = linears(w1=(dim, hidden_dim), w2=(hidden_dim, dim), w3=(dim, hidden_dim))
            parts = {"attention": attention, "feed_forward": feed_forward}
            return nn.ModuleDict(parts | {"attention_norm": gain(), "ffn_norm": gain()})

        self.tok_embeddings = nn.Embedding(vocab_size, dim)
        self.layers = nn.ModuleList(layer() for _ in range(n_layers))
        self.norm = gain()
        self.output = nn.Linear(dim, vocab_size, bias=False)
        shape = n_layers, max_batch, max_len, n_kv_heads, K
        self.register_buffer("cache_k", torch.zeros(shape), persistent=False)
        self.register_buffer("cache_v", torch.zeros(shape), persistent=False)
        ### END SOLUTION

    def forward(self, tokens: Tensor, start_pos: int = 0) -> Tensor:
        """Return the logits of the token after each one.

        Args:
            tokens: Ids, int64, shape (B, T). Not modified.
            start_pos: Position P of the first of them.

        Returns:
            Shape (B, T, V), float32.

        Raises:
            ValueError: If B is above ``max_batch``, or ``start_pos + T`` is above ``max_len``.
        """
        ### BEGIN SOLUTION
        (B, T), K = tokens.shape, self.head_dim
        S = start_pos + T
        max_batch, max_len = self.cache_k.shape[1:3]
        if max_batch < B or max_len < S:
            raise ValueError(f"the cache holds {max_batch} sequences of {max_len} tokens, not {B} of {S}")

        h = self.tok_embeddings(tokens)  # (B, T, D)
        precise = torch.promote_types(h.dtype, torch.float32)
        positions = torch.arange(S, device=h.device)
        speeds = self.theta ** -(torch.arange(0, K, 2, device=h.device, dtype=precise) / K)  # (K/2,)
        angles = positions[start_pos:, None] * speeds  # (T, K/2)
        turns = torch.polar(torch.ones_like(angles), angles)[:, None]  # (T, 1, K/2): the same for all heads
        mask = positions <= positions[start_pos:, None]  # (T, S)

        def norm(x: Tensor, weight: Tensor) -> Tensor:
            wide = x.to(precise)
            root = torch.sqrt(wide.square().mean(dim=-1, keepdim=True) + self.norm_eps)  # (B, T, 1)
            return (wide / root).to(x.dtype) * weight

        def turn(heads: Tensor) -> Tensor:
            pairs = torch.view_as_complex(heads.to(precise).unflatten(-1, (-1, 2)))  # (B, T, heads, K/2)
            return torch.view_as_real(pairs * turns).flatten(-2).to(heads.dtype)

        def remember(new: Tensor, cache: Tensor) -> Tensor:
            """Keep the new keys or values, and return them behind the old ones, once for each query head."""
            seen = torch.cat((cache[:B, :start_pos], new), dim=1)  # (B, S, G, K): a copy, which keeps its gradient
            cache[:B, start_pos:S] = new.detach()
            return seen.repeat_interleave(self.n_rep, dim=2).transpose(1, 2)  # (B, H, S, K)

        for i, layer in enumerate(self.layers):
            w, n = layer["attention"], norm(h, layer["attention_norm"]["weight"])
            q, k, v = (w[name](n).unflatten(-1, (-1, K)) for name in ("wq", "wk", "wv"))  # (B, T, H or G, K)
            keys, values = remember(turn(k), self.cache_k[i]), remember(v, self.cache_v[i])
            scores = turn(q).transpose(1, 2) @ keys.mT / math.sqrt(K)  # (B, H, T, K) @ (B, H, K, S) -> (B, H, T, S)
            weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
            h = h + w["wo"]((weights @ values).transpose(1, 2).flatten(2))  # heads side by side, (B, T, D)
            w, n = layer["feed_forward"], norm(h, layer["ffn_norm"]["weight"])
            h = h + w["w2"](nn.functional.silu(w["w1"](n)) * w["w3"](n))
        return self.output(norm(h, self.norm["weight"])).float()  # (B, T, V)
        ### END SOLUTION
