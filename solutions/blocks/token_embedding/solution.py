"""Token embedding

A language model reads numbers: a tokenizer has cut the text into tokens and given each one its id, a number from 0 to
V - 1. The first layer turns every id into a vector that the model can work with, by looking it up in a table with one
row for each token of the vocabulary. The rows are trained like any other weight.

    result[b, t] = sqrt(D) * table[ids[b, t]]        for every text b of the batch and every token t of it

The factor sqrt(D) is that of section 3.4 of the first transformer. The table is drawn with the standard deviation
1 / sqrt(D), so that at the start the numbers of the result have a standard deviation of 1.

Letters: ``B`` batch, ``T`` tokens, ``V`` tokens in the vocabulary (``vocab_size``), ``D`` features per token
(``d_model``).

Rules, besides those in the docstrings below:

- The only parameter has the name ``table`` and the shape (V, D). Nothing else is in ``state_dict()``.
- Its initial values are drawn from a normal distribution with mean 0 and standard deviation ``D ** -0.5``, whatever V
  is: each number on its own, anew for each module, no row apart. Large samples are checked.
- The module looks rows up and multiplies them by sqrt(D). It does nothing else, in training and in evaluation alike: no
  dropout, no normalisation, no row for padding.
- Row i of the table gets sqrt(D) times the sum of the result's gradients at all places where the id is i. Rows of
  tokens that do not occur get exactly 0. Gradients are dense tensors, and a second backward pass works like the first.
- The result has the dtype of the table: float32, float64 or bfloat16. Compute in that dtype or in a more precise one.
- An id below 0 or above V - 1, a single one among others, is refused with ValueError. So -1 is not the last row.
- The ids are never modified, and neither is the table.
- No loop over tokens, over the batch or over the vocabulary: the number of tensor operations does not grow with ``T``,
  ``B`` or ``V``.
- Any batch size and any number of tokens in each call, any strides: transposed or sliced ids are ids like any other.
- A call is right whatever was called before, and uses the table as it is now.
- Use anything in PyTorch except its ready-made attention (``F.scaled_dot_product_attention``,
  ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``, ``nn.Transformer*``), and no other library's parts.

Not asked for: empty batches or sequences, ids of another dtype than int64, the meta device.

Source: Vaswani et al. 2017, *Attention Is All You Need*, arXiv:1706.03762, section 3.4; the spread of the table is that
of its authors' code (tensor2tensor).
"""

import math

import torch
from torch import Tensor, nn


class TokenEmbedding(nn.Module):
    """Give every token the trained vector of its id, times sqrt(D).

    Args:
        vocab_size: How many tokens there are vectors for, V.
        d_model: Width D of the vectors.

    Raises:
        ValueError: If ``vocab_size`` or ``d_model`` is below 1.
    """

    def __init__(self, vocab_size: int, d_model: int) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if vocab_size < 1 or d_model < 1:
            raise ValueError(f"vocab_size ({vocab_size}) and d_model ({d_model}) must be at least 1.")
        self.table = nn.Parameter(torch.randn(vocab_size, d_model) / math.sqrt(d_model))
        ### END SOLUTION

    def forward(self, ids: Tensor) -> Tensor:
        """Return the row of every token, times sqrt(D).

        Args:
            ids: Numbers of the tokens, int64, shape (B, T), each from 0 to V - 1. Not modified.

        Returns:
            Shape (B, T, D), dtype and device of the table.

        Raises:
            ValueError: If any id is below 0 or above V - 1.
        """
        ### BEGIN SOLUTION
        V, D = self.table.shape
        if bool(((ids < 0) | (ids >= V)).any()):  # table[-1] would be the last row
            raise ValueError(f"ids must lie between 0 and {V - 1}; they reach from {ids.min()} to {ids.max()}.")
        return self.table[ids] * math.sqrt(D)  # (V, D) at (B, T) -> (B, T, D)
        ### END SOLUTION
