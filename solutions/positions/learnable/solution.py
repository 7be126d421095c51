"""Learnable position encoding (as in BERT and GPT-2)

Attention alone does not see in which order its tokens stand. BERT and GPT-2 show it the order in the simplest way: each
position has a vector of its own, which is added to the token there and trained like any other weight.

    result[b, t] = x[b, t] + table[t]         for every item b of the batch and every token t, counted from 0

Letters: ``B`` batch, ``T`` tokens, ``D`` features per token (``d_model``).

Rules, besides those in the docstrings below:

- The only parameter has the name ``table`` and the shape (max_len, D). Nothing else is in ``state_dict()``.
- Its initial values are drawn from a normal distribution with mean 0 and standard deviation 0.02, whatever the sizes:
  each number on its own, anew for each module. Large samples are checked.
- The module adds the rows to x and does nothing else, in training and in evaluation alike: no factor, no dropout, no
  normalisation.
- Gradients reach x and the table. Row t of the table gets the sum of the result's gradients at token t over the batch.
  Rows beyond the text get exactly 0. Gradients are dense tensors, and a second backward pass works like the first.
- A float32, float64 or bfloat16 module takes an x of its dtype and returns that dtype. Compute in that dtype or in a
  more precise one.
- Inputs are never modified.
- No loop over tokens or over the batch: the number of tensor operations does not grow with ``T`` or ``B``.
- Any batch size, any ``T`` from 1 to ``max_len`` in each call, any strides: a transposed or sliced x is an x like any
  other. Odd ``D`` are as good as even ones.
- The module computes where ``.to(device)`` has moved it: new tensors are made on the device of the inputs.
- A call is right whatever was called before, and uses the table as it is now.
- Use anything in PyTorch except its ready-made attention (``F.scaled_dot_product_attention``,
  ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``, ``nn.Transformer*``), and no other library's parts.

Not asked for: empty batches or sequences, an x whose width is not ``d_model``.

Sources: Devlin et al. 2019, *BERT*, arXiv:1810.04805, section 3 and figure 2; Radford et al. 2019, *Language Models are
Unsupervised Multitask Learners* (GPT-2), and its code, from which the 0.02 is.
"""

import torch
from torch import Tensor, nn


class LearnablePositionEncoding(nn.Module):
    """Add to every token the trained vector of its position.

    Args:
        max_len: How many positions there are vectors for.
        d_model: Width D of the tokens.

    Raises:
        ValueError: If ``max_len`` or ``d_model`` is below 1.
    """

    def __init__(self, max_len: int, d_model: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if max_len < 1 or d_model < 1:
            raise ValueError(f"max_len ({max_len}) and d_model ({d_model}) must be at least 1.")
        self.table = nn.Parameter(0.02 * torch.randn(max_len, d_model))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Return x plus the first T rows of the table, the same rows for every item of the batch.

        Args:
            x: Tokens, shape (B, T, D). Not modified.

        Returns:
            Shape (B, T, D), dtype and device of x.

        Raises:
            ValueError: If T is larger than ``max_len``.
        """
        ### BEGIN SOLUTION
        rows = self.table[: x.shape[1]]  # (T, D), or fewer rows if there are no more
        if len(rows) < x.shape[1]:
            raise ValueError(f"x has {x.shape[1]} tokens, but the table ends after max_len = {len(rows)} positions.")
        return x + rows  # (B, T, D) + (T, D)
        ### END SOLUTION
