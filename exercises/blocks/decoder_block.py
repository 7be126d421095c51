"""A transformer decoder block

Write one block of the decoder in figure 1 of "Attention Is All You Need" (Vaswani et al. 2017, arXiv 1706.03762). It
has three sub-layers: self-attention, in which each target token looks at itself and at the tokens before it;
cross-attention, in which the target tokens look at the encoder's output, the memory; and a feed-forward network, which
works on each token alone. Around each of them runs a residual connection, and a layer norm comes after each sum
(post-norm).

Letters: B batch, T target tokens, S tokens of the memory, D model width (d_model), H heads (n_heads), K = D / H
features per head, F hidden width (d_ff).

    x = norm1(x + drop(self_attention(x, x)))
    x = norm2(x + drop(cross_attention(x, memory)))
    x = norm3(x + drop(feed_forward(x)))

    attention(x, y):    q = wq(x), k = wk(y), v = wv(y); head h owns the h-th block of K consecutive features of each
                        weights_h = softmax(q_h k_h^T / sqrt(K))     over the tokens of y
                        wo(drop(weights_0) v_0 | drop(weights_1) v_1 | ...)    the heads side by side, in order
    feed_forward(x):    w2(drop(relu(w1(x))))
    norm(x):            (x - mean) / sqrt(var + 1e-5) * weight + bias, with mean and variance over the D features of
                        each token; the variance is a mean of squares, so it is a sum divided by D, not by D - 1

The two attentions have projections of their own. The memory is used as it comes: it is not normed here.

Rules:
- Parameters have exactly these names: self_wq, self_wk, self_wv, self_wo, cross_wq, cross_wk, cross_wv and cross_wo,
  each with a weight (D, D) and a bias (D,); w1 with a weight (F, D) and a bias (F,); w2 with a weight (D, F) and a bias
  (D,), all as in nn.Linear; norm1, norm2 and norm3, each with a weight and a bias of shape (D,), as in nn.LayerNorm. So
  self_wq.weight, norm1.bias and so on. Nothing else is in state_dict(). How they are initialised is up to you.
- Masks are boolean, True where a token (row) may attend to another (column). self_mask broadcasts to (B, H, T, T) and
  memory_mask to (B, H, T, S) as PyTorch broadcasts: (T, S), (T, 1), (B, 1, 1, S), (B, 1, T, S), (H, T, S) ... Each acts
  on its own attention only. The weights of masked tokens are exactly 0, those of the others sum to 1.
- Without a self_mask self-attention is causal: token t attends to the tokens 0 to t. A self_mask that is given replaces
  the causal one: then a token attends to just what self_mask allows. Without a memory_mask every token attends to the
  whole memory.
- A token that may attend to nothing gets heads of exactly 0, to which wo adds its bias, and no NaN, in the gradients
  neither.
- Dropout acts in six places: on the weights of each attention, after the ReLU, and on the output of each of the three
  sub-layers before it is added to x. It acts in training mode only: each single number is set to 0 with that
  probability, drawn afresh in each call, and the others are divided by 1 - dropout.
- Scores of 10 000 and -10 000 give right weights.
- float32, float64 and bfloat16 modules with inputs of the same dtype; the result has it too. Compute in that dtype or
  in a more precise one. Everything runs on the device of the module and the inputs.
- Any batch size, and other sizes and masks in each call; a call uses the parameters as they are then. Inputs, the masks
  included, are not modified.
- No loop over tokens or over the batch. A loop over heads is fine.
- The gradient of the output reaches x, the memory and every parameter.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' layers. All else of PyTorch is allowed, nn.LayerNorm included.

With the same weights the block equals nn.TransformerDecoderLayer(..., batch_first=True), whose masks have the opposite
sign and which is causal only when told.

Not asked for: empty batches or sequences, masks that are not boolean, a dropout outside [0, 1).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DecoderBlock(nn.Module):
    """Let target tokens look back at each other, then at the memory, then work on each alone.

    Args:
        d_model: Width D of x, of the memory and of the output.
        n_heads: Number H of heads of each attention; it divides ``d_model``.
        d_ff: Hidden width F of the feed-forward network.
        dropout: Probability, in [0, 1), of all six dropouts.

    Raises:
        ValueError: If ``d_model``, ``n_heads`` or ``d_ff`` is below 1, or ``n_heads`` does not divide ``d_model``.
    """

    def __init__(self, d_model: int, n_heads: int, d_ff: int, dropout: float = 0.0) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(
        self, x: Tensor, memory: Tensor, self_mask: Tensor | None = None, memory_mask: Tensor | None = None
    ) -> Tensor:
        """Return the target tokens after self-attention, cross-attention and feed-forward.

        Args:
            x: Target tokens, shape (B, T, D).
            memory: The encoder's output, shape (B, S, D).
            self_mask: Boolean, True = may attend, broadcasts to (B, H, T, T). None: causal.
            memory_mask: Boolean, True = may attend, broadcasts to (B, H, T, S). None: every token may attend to the
                whole memory.

        Returns:
            Shape (B, T, D).
        """
        raise NotImplementedError
