"""Root-mean-square normalisation (Zhang & Sennrich 2019)

Layer normalisation subtracts the mean of a token's features and divides by their standard deviation. Root-mean-square
normalisation leaves the mean where it is: it divides by the root of the mean of the squares, so that only the size of
the vector is fixed. Llama, Mistral, Gemma and many others use it.

    result = x / sqrt(mean(x ** 2) + eps) * weight

The mean runs over the last dimension, D numbers, for each row on its own. ``weight`` is a gain for each feature, which
is trained; there is no bias. Training and evaluation are alike.

Letters: ``B`` batch, ``T`` tokens, ``D`` features per token (``dim``).

Rules, besides those in the docstrings below:

- The only parameter has the name ``weight`` and the shape (D,), all ones at the start. Nothing else is in
  ``state_dict()``.
- ``eps`` is added to the mean of the squares, under the root. It is used as it is given, also when it is large.
- A row of zeros gives zeros; its gradient is not NaN.
- The result has the dtype and the device of x. float32, float64 and bfloat16 work, and a module of one of these dtypes
  takes an x of another, also of float16.
- For a half x (bfloat16 or float16) the statistics are computed in float32: the squares, their mean and the root. So
  numbers of 1000 in float16 are fine, although their squares are beyond float16. For a float64 x they are computed in
  float64. More precision is always welcome.
- Gradients reach x and weight, and pass through the root as well. A second backward pass works like the first.
- Inputs are never modified.
- No loop over tokens or over the batch: the number of tensor operations does not grow with ``T`` or ``B``.
- Any sizes in each call, any strides: a transposed or sliced x is an x like any other.
- The module computes where ``.to(device)`` has moved it. A call is right whatever was called before, and uses the
  weight as it is now.
- Not allowed are PyTorch's own root-mean-square and layer norms in any form, its ready-made attention
  (``F.scaled_dot_product_attention``, ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``,
  ``nn.Transformer*``) and other libraries' parts. All else is allowed.

Not asked for: empty batches or sequences, an x whose last dimension has another size.

Source: Zhang & Sennrich 2019, *Root Mean Square Layer Normalization*, arXiv:1910.07467, equation 4; eps is that of
Llama's code.
"""

import torch
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Divide the features of every token by the root of the mean of their squares.

    Args:
        dim: Width D of the tokens.
        eps: Added to the mean of the squares, under the root.

    Raises:
        ValueError: If ``dim`` is below 1.
    """

    def __init__(self, dim: int, eps: float = 1e-5) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if dim < 1:
            raise ValueError(f"dim ({dim}) must be at least 1.")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Return x, normalised over its last dimension, times the gain.

        Args:
            x: Shape (..., D), one leading dimension or more, such as (B, D), (B, T, D) or (B, T, H, D). Not modified.

        Returns:
            Shape, dtype and device of x.
        """
        ### BEGIN SOLUTION
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # float64 stays, a half x gets precise statistics
        mean_square = wide.square().mean(dim=-1, keepdim=True)  # (..., 1)
        normalised = wide * torch.rsqrt(mean_square + self.eps)  # (..., D) * (..., 1)
        return (normalised * self.weight).to(x.dtype)
        ### END SOLUTION
