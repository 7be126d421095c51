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
        raise NotImplementedError

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
        raise NotImplementedError
