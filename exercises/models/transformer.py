"""The encoder-decoder transformer, trained with teacher forcing

Write the whole model of "Attention Is All You Need" (arXiv 1706.03762), and the two functions around it that its
training needs. The encoder reads the source. The decoder writes the target: at each place it sees the target so far
and the whole source, and says how likely each token of the target vocabulary is to come next.

Letters: B batch, S source tokens, T target tokens, D model width (d_model), H heads (n_heads), K = D / H features per
head, F hidden width (d_ff), N layers in each stack (n_layers), V vocabulary.

Teacher forcing: in training the decoder is given the right tokens, shifted by one place, and learns to say the next
one at every place at once:

    logits = model(src, shift_right(targets, start_id))        (B, T, V)
    loss = sequence_loss(logits, targets, pad_id)

The model, from bottom to top:

    x               = embedding(ids) * sqrt(D) + positions    for src and tgt, each with its own embedding
    attention(x, m) = wo(head_0 | head_1 | ...)    head_h = softmax(q_h k_h^T / sqrt(K)) v_h
                                                   q = wq(x), k = wk(m), v = wv(m)
    ffn(x)          = w2(relu(w1(x)))

    encoder block:  x = norm1(x + attention(x, x))        every real source token is seen, padding is not
                    x = norm2(x + ffn(x))
    decoder block:  x = norm1(x + attention(x, x))        self_wq ...: causal, a token sees itself and those before it
                    x = norm2(x + attention(x, memory))   cross_wq ...: all real source tokens, from every target token
                    x = norm3(x + ffn(x))
    logits    = output(x)

memory is what comes out of the last encoder block, and every decoder block attends to it. There is no other norm,
neither before nor after the stacks. Head h owns the h-th block of K consecutive features of q, k and v (h*K to h*K +
K-1).

Positions count from 0. Columns 2i and 2i+1 share the angle p / 10000 ** (2i / D) at position p, in radians; the even
column holds its sine, the odd one its cosine.

Parameters: exactly these names, shapes as in nn.Embedding, nn.Linear (all with bias) and nn.LayerNorm, and nothing
else in state_dict(). i counts from 0 to N-1. How they are initialised is up to you.

    src_embedding.weight (src_vocab, D), tgt_embedding.weight (tgt_vocab, D)
    encoder.{i}.   wq, wk, wv, wo (D, D);  w1 (F, D), w2 (D, F);  norm1, norm2
    decoder.{i}.   self_wq, self_wk, self_wv, self_wo, cross_wq, cross_wk, cross_wv, cross_wo (D, D);
                   w1 (F, D), w2 (D, F);  norm1, norm2, norm3
    output (tgt_vocab, D)

so encoder.0.wq.weight, encoder.0.wq.bias, encoder.0.norm1.weight, encoder.0.norm1.bias and so on.

Rules:
- A source token that equals pad_id is padding. It is never attended to, neither by the encoder nor by the decoder,
  and its attention weight is exactly 0, also where all other scores are as low as -200 000. It may stand anywhere. A
  source of padding only gives no NaN, in the gradients neither: an attention with nothing to see gives heads of
  exactly 0, to which wo adds its bias.
- pad_id belongs to the source vocabulary. In tgt it is a token like any other: the decoder does not mask it. The two
  vocabularies may have different sizes.
- forward takes tgt as it is, already shifted.
- A layer norm divides by sqrt(var + eps) with the biased variance and eps = 1e-5, then applies its weight and bias.
- Dropout, in training mode only: each number is set to 0 with that probability, drawn afresh in each call, and the
  others are divided by 1 - dropout. It acts on the attention weights of all three attentions, on the hidden features
  after the ReLU, and on the output of each sub-layer (attention or ffn) before x is added. Dropout on the embeddings
  is up to you.
- Any length of source and target, also thousands of tokens, whatever came before: the positions have no last row.
- float32, float64 and bfloat16 models work. Positions are computed in float32 at least, so that a bfloat16 model can
  tell token 256 from token 257; once computed, sines and cosines may be rounded to the model's dtype. In a float64
  model they may have been rounded to float32, all the rest is float64.
- Any batch size, any strides, other sizes in each call. Inputs are not modified.
- Results lie on the device of the inputs, and so does every tensor made on the way.
- No loop over tokens or over the batch. A loop over layers or heads is fine.
- The gradient reaches every parameter that has a part in the result.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' parts. All else of PyTorch is allowed, nn.LayerNorm, nn.Embedding and
  F.cross_entropy included.

Not asked for: empty batches or sequences, ids outside the vocabulary, a dropout outside [0, 1), targets that are
padding throughout.

Source: Vaswani et al. 2017, sections 3 and 5.4, figure 1.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def shift_right(targets: Tensor, start_id: int) -> Tensor:
    """Return the decoder's input for teacher forcing: the start first, then all targets but the last.

    Args:
        targets: Token ids, int64, shape (B, T). Not modified.
        start_id: The token that every sequence begins with.

    Returns:
        int64, shape (B, T), on the device of ``targets``. At place t stands the target of place t - 1.
    """
    raise NotImplementedError


def sequence_loss(logits: Tensor, targets: Tensor, pad_id: int) -> Tensor:
    """Return the mean cross-entropy over all target tokens that are not padding.

    The cross-entropy of one token is ``-log(softmax(logits)[target])``. The mean counts every real token of the whole
    batch once, whichever sequence it is in. Logits at padded places take no part: neither in the sum nor in the count.
    Logits of 1000 and -1000 give right losses. In bfloat16 the loss may be off by one or two percent.

    Args:
        logits: Shape (B, T, V), float32, float64 or bfloat16, any strides. Not modified.
        targets: Token ids, int64, shape (B, T), any strides. Not modified.
        pad_id: The id, from 0 to V - 1, that marks padding in ``targets``.

    Returns:
        A single number, shape (), in the dtype of ``logits``; gradients flow to ``logits``.
    """
    raise NotImplementedError


class Transformer(nn.Module):
    """Read a source, and predict the next token at every place of a target.

    Args:
        src_vocab: Size of the source vocabulary.
        tgt_vocab: Size of the target vocabulary.
        d_model: Width D.
        n_heads: Number H of heads in every attention; it divides ``d_model``.
        d_ff: Hidden width F of the feed-forwards.
        n_layers: Number N of encoder blocks, and of decoder blocks.
        pad_id: The source token that is padding.
        dropout: Probability, in [0, 1), with which numbers are dropped in training.

    Raises:
        ValueError: If ``d_model`` is odd, ``n_heads`` does not divide ``d_model``, or ``src_vocab``, ``tgt_vocab``,
            ``d_model``, ``n_heads``, ``d_ff`` or ``n_layers`` is below 1.
    """

    def __init__(
        self,
        src_vocab: int,
        tgt_vocab: int,
        d_model: int,
        n_heads: int,
        d_ff: int,
        n_layers: int,
        pad_id: int = 0,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, src: Tensor, tgt: Tensor) -> Tensor:
        """Return the logits of the token that follows each token of ``tgt``.

        Args:
            src: Source ids, int64, shape (B, S). Not modified.
            tgt: The decoder's input, already shifted, int64, shape (B, T). Not modified.

        Returns:
            Logits, shape (B, T, tgt_vocab), in the dtype of the parameters.
        """
        raise NotImplementedError
