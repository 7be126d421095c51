"""Attention in blocks with an online softmax (FlashAttention)

A softmax seems to need all scores of a query at once: for its maximum and for the sum that it divides by.
FlashAttention shows that it does not. The keys come block by block, and for each query three things are remembered: the
highest score so far, the sum of the exponentials so far, and the sum of the values so far, weighted by these
exponentials. Both sums are relative to the highest score, so when a block brings a higher one they have to be brought
to it. In the end one division gives exactly what the plain formula gives, and the matrix of all scores has never
existed:

    output = softmax(q k^T / sqrt(K)) v            the softmax over the S keys

Letters: B batch, H heads, T query tokens, S key tokens, K features per head.

Rules:
- The result is exact for every block_size from 1 on: also one that divides neither T nor S, or is larger than both.
- Whether you cut only the keys into blocks or the queries too is up to you.
- causal=True: the last query stands at the last key, so query i (from 0) may attend to the keys 0 to i + S - T.
- For block_size < min(T, S) and K < S no operation returns a tensor of T * S elements or more, masks and views
  included, in any dtype and whether gradients are asked for or not. (This is checked with B = H = 1, and with T and S
  much larger than K. The backward pass is not looked at.)
- Scores of 20 000 and -20 000 give right results, and no NaN.
- bfloat16 inputs are accumulated in float32: the three things that are remembered are float32, whatever the inputs are,
  and float64 for float64 inputs. The result has the dtype of q.
- A Python loop over blocks is fine, over heads too. A loop over the batch is not: the number of tensor operations does
  not grow with B.
- Any B, H, T, S, K and strides, and other sizes in each call. The code runs on the device of its inputs.
- Gradients reach q, k and v in every dtype, also where one tensor is all three. Inputs are not modified.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' attention. All else of PyTorch is allowed, softmax and logsumexp of a
  block included.

Not asked for: empty inputs, more queries than keys with causal=True, a backward pass that saves memory, speed.

Source: Dao et al. 2022, *FlashAttention*, arXiv:2205.14135, section 3.1 and algorithm 1; Milakov & Gimelshein 2018,
*Online normalizer calculation for softmax*, arXiv:1805.02867.
"""

import math

import torch
from torch import Tensor


def flash_attention(q: Tensor, k: Tensor, v: Tensor, block_size: int, causal: bool = False) -> Tensor:
    """Return softmax(q k^T / sqrt(K)) v without ever holding all scores.

    Args:
        q: Queries, shape (B, H, T, K). Not modified.
        k: Keys, shape (B, H, S, K). Not modified.
        v: Values, shape (B, H, S, K). Not modified.
        block_size: How many keys are looked at together, at most.
        causal: Whether a query may not attend to keys after its own; the last query stands at the last key.

    Returns:
        Shape (B, H, T, K), dtype and device of ``q``.

    Raises:
        ValueError: If ``block_size`` is below 1.
    """
    ### BEGIN SOLUTION
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1; it is {block_size}")
    T, S = q.shape[-2], k.shape[-2]
    precise = torch.promote_types(q.dtype, torch.float32)
    scaled = q.to(precise) / math.sqrt(q.shape[-1])  # (B, H, T, K)
    last_key = torch.arange(S - T, S, device=q.device)[:, None]  # (T, 1), where each query stands

    highest = scaled.new_full((*q.shape[:-1], 1), -math.inf)  # (B, H, T, 1), all three
    total = torch.zeros_like(highest)
    mixed = torch.zeros_like(scaled)  # (B, H, T, K)
    for start in range(0, S, block_size):
        block = slice(start, start + block_size)  # the last one may be shorter
        keys, values = k[..., block, :].to(precise), v[..., block, :].to(precise)  # (B, H, N, K) each
        scores = scaled @ keys.mT  # (B, H, T, K) @ (B, H, K, N) -> (B, H, T, N)
        if causal:
            numbers = torch.arange(start, start + keys.shape[-2], device=q.device)
            scores = scores.masked_fill(numbers > last_key, -math.inf)
        higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))  # finite: all queries see key 0
        powers = (scores - higher).exp()
        shrink = (highest - higher).exp()  # from the old maximum to the new one; 0 in the first block
        total = total * shrink + powers.sum(dim=-1, keepdim=True)
        mixed = mixed * shrink + powers @ values  # (B, H, T, N) @ (B, H, N, K) -> (B, H, T, K)
        highest = higher
    return (mixed / total).to(q.dtype)
    ### END SOLUTION
