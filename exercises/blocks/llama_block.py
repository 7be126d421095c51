"""Llama's transformer block

Write one block of Llama 2: attention with grouped heads and rotary positions, then a feed-forward part with SwiGLU. An
RMSNorm stands before each of the two, and a residual connection goes around each.

Letters: B batch, T tokens, D model width (dim), H query heads (n_heads), G key/value heads (n_kv_heads), K = D / H
features per head, F hidden width of the feed-forward (hidden_dim).

    h      = x + attention(norm(x; attention_norm))
    output = h + feed_forward(norm(h; ffn_norm))

    norm(x; weight) = x / sqrt(mean(x^2) + norm_eps) * weight     the mean over the D features of a token
    feed_forward(n) = w2(silu(w1 n) * w3 n)                       silu(z) = z * sigmoid(z)

Attention projects its input n to q = wq(n), k = wk(n) and v = wv(n), and splits them into heads: head h owns the h-th
block of K consecutive features. Queries and keys are turned by their positions, values are not. Query head h uses
key/value head g = h // (H // G): with H = 4 and G = 2, query heads 0 and 1 use head 0, and 2 and 3 use head 1.

    weights_h = softmax(q_h k_g^T / sqrt(K))     over the keys, (B, T, T)
    head_h    = weights_h v_g                    (B, T, K)
    attention = wo(head_0 | head_1 | ...)        the heads side by side, in order, (B, T, D)

The turn: features 2i and 2i+1 of a head are pair i (neighbours), read as the complex number a + b*j. The pair i of
token t is multiplied by freqs_cis[t, i], a complex number of length 1 and the same for all heads and batch items.

Rules:
- Parameters, with the names of the published checkpoints: attention.wq.weight (H*K, D), attention.wk.weight and
  attention.wv.weight (G*K, D), attention.wo.weight (D, H*K), feed_forward.w1.weight and feed_forward.w3.weight (F, D),
  feed_forward.w2.weight (D, F), attention_norm.weight and ffn_norm.weight (D,). Nothing else is in state_dict(), and
  there are no biases. How they are initialised is up to you. hidden_dim is used as given.
- freqs_cis is a complex64 tensor (T, K/2). Its rows are those of the tokens: they may be cut out of the middle of a
  longer table or come from any positions, so angles cannot be worked out again from T.
- Without a mask attention is causal: token t sees the tokens 0 to t.
- A mask is boolean, True where a query may attend to a key, and broadcasts to (B, H, T, T) as PyTorch broadcasts:
  (T, T), (1, T), (T, 1), (B, 1, 1, T), (B, 1, T, T), (H, T, T) ... It replaces the causal mask. The weights of masked
  keys are exactly 0, those of the others sum to 1.
- A query that may attend to nothing gets heads of exactly 0, so that attention adds 0 to it, and no NaN, in the
  gradients neither.
- Scores of 10 000 and -10 000 give right weights, and gates w1 n of 200 and -200 a right silu.
- The result has the dtype and the device of x: float32, or bfloat16 with bfloat16 weights. freqs_cis is complex64 in
  both cases. Compute in the dtype of x or in a more precise one; the mean of the squares in float32 at least.
- Training mode and eval mode do the same: there is no dropout.
- Any batch size, any strides, thousands of tokens, and other sizes, rows and masks in each call. Inputs, freqs_cis
  and the mask included, are not modified. The parameters may change between two calls.
- No loop over tokens or over the batch. A loop over heads is fine.
- The gradient of the output reaches x and all nine weights.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' parts. All else of PyTorch is allowed, torch.softmax, F.silu and
  nn.RMSNorm included.

Not asked for: float64, empty batches or sequences, masks that are not boolean, freqs_cis of another width than K/2, a
gradient for freqs_cis.

Source: Touvron et al. 2023, Llama 2 (arXiv 2307.09288), section 2.2, and the code published with it
(github.com/meta-llama/llama, model.py, class TransformerBlock).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class LlamaBlock(nn.Module):
    """Attend with grouped heads and rotary positions, then feed forward; normalise before each, add around each.

    Args:
        dim: Width D of the input and of the output.
        n_heads: Number H of query heads; it divides ``dim``, and K = D / H is even.
        n_kv_heads: Number G of key/value heads; it divides ``n_heads``.
        hidden_dim: Hidden width F of the feed-forward, used as given.
        norm_eps: Added to the mean of the squares, under the root, in both norms.

    Raises:
        ValueError: If ``dim``, ``n_heads``, ``n_kv_heads`` or ``hidden_dim`` is below 1, if ``n_heads`` does not divide
            ``dim`` or ``n_kv_heads`` does not divide ``n_heads``, or if K is odd.
    """

    def __init__(self, dim: int, n_heads: int, n_kv_heads: int, hidden_dim: int, norm_eps: float = 1e-5) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, x: Tensor, freqs_cis: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return the block's output.

        Args:
            x: Tokens, shape (B, T, D). Not modified.
            freqs_cis: By what the pairs of each token are multiplied, complex64, shape (T, K/2). Not modified.
            mask: Boolean, True = may attend, broadcasts to (B, H, T, T). None: causal.

        Returns:
            Shape (B, T, D), same dtype and device as ``x``.

        Raises:
            ValueError: If ``freqs_cis`` has another number of rows than T, be it fewer, more, or a single one.
        """
        raise NotImplementedError
