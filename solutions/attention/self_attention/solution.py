"""Self-attention with trainable projections (Raschka, ch. 3.4 and 3.5)

Write the first layer in which tokens look at each other. Every token asks a question (its query), shows what it can be
found by (its key) and has something to tell (its value), each a learned projection of the token itself. It compares its
query with the keys of all tokens, turns the comparisons into weights that sum to 1, and takes the average of the values
by these weights: its context vector.

Letters: B batch, T tokens.

    q = wq(x),  k = wk(x),  v = wv(x)            (B, T, d_out) each
    scores  = q k^T / sqrt(d_out)                (B, T, T): one row per query, one column per key
    weights = softmax(scores)                    over the keys
    context = weights v                          (B, T, d_out)

With causal=True a token may look at itself and at the tokens before it, and not at those after it, as in a model that
writes a text word by word.

Rules:
- Parameters are wq.weight, wk.weight and wv.weight, each (d_out, d_in) as in nn.Linear(d_in, d_out, bias=False). There
  are no biases, and nothing else is in state_dict(). How they are initialised is up to you.
- The weights of one query are 0 or more and sum to 1 over the keys. With causal=True the weights of later tokens are
  exactly 0 and the others still sum to 1; whatever stands at later tokens, nothing changes for the earlier ones.
- Scores of 10 000 and -10 000 give right weights, with causal=True as well.
- Both results have the dtype (float32, float64 or bfloat16) and the device of x. Compute in that dtype or in a more
  precise one.
- Any batch size, any strides, any number of tokens, and other ones in each call. x is not modified.
- A call is right whatever came before it, in training mode and in eval mode: the weights may have been changed in
  place, as training does, and other modules may have been made and called.
- No loop over tokens or over the batch.
- The gradient of the context reaches x and all three weights, in each backward pass.
- Not allowed: F.scaled_dot_product_attention, nn.MultiheadAttention, F.multi_head_attention_forward, nn.Transformer*,
  the operators below them, and other libraries' attention. All else of PyTorch is allowed, torch.softmax included.

Not asked for: empty batches or sequences.

Source: S. Raschka, Build a Large Language Model (From Scratch), 2024, sections 3.4 (the class SelfAttention_v2) and
3.5.1 (hiding future words). The book's version has no batch and returns the context vectors alone.
"""

import math

import torch
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Let every token take a weighted average of what all tokens tell.

    Args:
        d_in: Features of a token.
        d_out: Features of its query, its key, its value and its context vector.
        causal: Whether a token may look at itself and earlier tokens only.

    Raises:
        ValueError: If ``d_in`` or ``d_out`` is below 1.
    """

    def __init__(self, d_in: int, d_out: int, causal: bool = False) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if d_in < 1 or d_out < 1:
            raise ValueError(f"d_in ({d_in}) and d_out ({d_out}) must be at least 1")
        self.causal = causal
        self.wq = nn.Linear(d_in, d_out, bias=False)
        self.wk = nn.Linear(d_in, d_out, bias=False)
        self.wv = nn.Linear(d_in, d_out, bias=False)
        ### END SOLUTION

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the context vectors and the attention weights.

        Args:
            x: Tokens, shape (B, T, d_in). Not modified.

        Returns:
            context: Shape (B, T, d_out).
            weights: Row t holds how much token t takes from every token, shape (B, T, T).
        """
        ### BEGIN SOLUTION
        q, k, v = self.wq(x), self.wk(x), self.wv(x)  # (B, T, d_out) each
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])  # (B, T, d_out) @ (B, d_out, T) -> (B, T, T)
        if self.causal:
            T = x.shape[1]
            future = torch.ones(T, T, dtype=torch.bool, device=x.device).triu(1)  # True right of the diagonal
            scores = scores.masked_fill(future, -torch.inf)  # a token sees itself, so no row is all -inf
        weights = scores.softmax(dim=-1)
        return weights @ v, weights  # (B, T, T) @ (B, T, d_out) -> (B, T, d_out)
        ### END SOLUTION
