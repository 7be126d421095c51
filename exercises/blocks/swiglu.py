"""SwiGLU and Llama's hidden width

Llama's feed-forward network has three matrices where the original transformer has two. Two of them take each token to a
hidden width; one of these branches goes through SiLU and opens or closes the other, number by number; the third matrix
comes back to the model's width:

    silu(z) = z * sigmoid(z) = z / (1 + exp(-z))
    output  = w2 (silu(w1 x) * w3 x)                    * is the product of numbers at the same place

So w1 leads to the gate, w3 to what the gate lets through, and w2 leads back. There are no biases.

With three matrices instead of two, a hidden width of 4 * dim would mean half as many parameters again. Llama takes two
thirds of it and rounds:

1. two thirds of 4 * dim, rounded down to a whole number;
2. if there is a multiplier: that whole number times the multiplier, a product of Python floats, rounded down again;
3. rounded up to a multiple of multiple_of. A number that is a multiple already stays as it is.

For Llama 7B: dim 4096, two thirds of 16384 is 10922, and the next multiple of 256 is 11008.

Letters: B batch, T tokens, D model width (dim), F hidden width (hidden_dim).

Rules, besides those in the docstrings below:

- The parameters of SwiGLU have exactly the names w1.weight (F, D), w2.weight (D, F) and w3.weight (F, D), as linear
  layers without bias have them. Nothing else is in state_dict(). How they are initialised is up to you.
- SwiGLU takes the hidden width as it is given: any number from 1 on, without two thirds and without rounding.
- SwiGLU adds nothing to its output, and drops nothing: training and evaluation are the same.
- A gate of 10000 lets everything through 10000 times, one of -10000 nothing, and neither makes a NaN.
- Results have the dtype (float32, float64 or bfloat16) and the device of x; the module and x are of one dtype. Compute
  in that dtype or in a more precise one.
- Any sizes from 1 on, other ones in each call, any strides: a transposed or sliced x is an x like any other. A call
  uses the parameters as they are now.
- Gradients flow to x and to every parameter, in a second backward pass too.
- x is never modified.
- No loop over tokens or over the batch: the number of tensor operations does not grow with T or B.
- Use anything in PyTorch, F.silu and nn.Linear included, except its ready-made attention and nn.Transformer*, and no
  other library's parts.

Not asked for: empty tensors, multipliers of 0 or below, or so small that nothing is left.

Sources: Shazeer 2020, *GLU Variants Improve Transformer*, arXiv:2002.05202, section 2; Touvron et al. 2023, *LLaMA*,
arXiv:2302.13971, section 2.2, and the reference code of Llama 2 for the rounding.
"""

import torch
from torch import Tensor, nn


def swiglu_hidden_dim(dim: int, multiple_of: int = 256, ffn_dim_multiplier: float | None = None) -> int:
    """Return the hidden width of Llama's feed-forward network.

    Args:
        dim: Width D of the model.
        multiple_of: The result is a multiple of this number.
        ffn_dim_multiplier: Factor, applied before the rounding up; None for none.

    Returns:
        The hidden width, a Python int.

    Raises:
        ValueError: If ``dim`` or ``multiple_of`` is below 1.
    """
    raise NotImplementedError


class SwiGLU(nn.Module):
    """Transform each token by itself: w2 (silu(w1 x) * w3 x), without biases.

    Args:
        dim: Width D of the tokens.
        hidden_dim: Hidden width F, used as it is given.

    Raises:
        ValueError: If ``dim`` or ``hidden_dim`` is below 1.
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return w2 (silu(w1 x) * w3 x) for every token.

        Args:
            x: Tokens, shape (B, T, D). Not modified.

        Returns:
            Shape (B, T, D).
        """
        raise NotImplementedError
