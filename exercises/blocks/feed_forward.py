"""Position-wise feed-forward and GELU

Two small things that every transformer block is built of.

The first is an activation. ReLU lets a number through if it is positive. GELU weighs a number x by the probability that
a standard normal number lies below x:

    gelu(x) = x * P(Z <= x) = 0.5 * x * (1 + erf(x / sqrt(2)))                                 the exact form
    gelu(x) = 0.5 * x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x ** 3)))                     the tanh form

The tanh form comes close to the exact one, within 0.0005, and is not the same: GPT-2 was trained with it.

The second is the network that follows the attention in each block of the original transformer. It looks at every token
by itself, widens its D features to F, sets the negative ones to 0, and comes back to D features:

    hidden = ReLU(w1 x + b1)                                                                   F features per token
    output = w2 hidden + b2                                                                    D features per token

There is a ReLU in this network, as in the paper; the GELU is a function of its own and has no part in it.

Letters: B batch, T tokens, D model width (d_model), F hidden width (d_ff).

Rules, besides those in the docstrings below:

- The parameters of FeedForward have exactly the names w1.weight (F, D), w1.bias (F,), w2.weight (D, F), w2.bias (D,),
  as nn.Linear(D, F) and nn.Linear(F, D) have them. Nothing else is in state_dict(). How they are initialised is up to
  you.
- Dropout acts on the hidden features, after the ReLU, and nowhere else; in training mode only. Each single number is
  set to 0 with that probability, drawn afresh in each call, and the others are divided by 1 - dropout.
- FeedForward adds nothing to its output: the residual and the norm belong to the block around it.
- Large numbers are fine: gelu(10000) is 10000 and gelu(-10000) is 0 in both forms, and never NaN.
- Results have the dtype (float32, float64 or bfloat16) and the device of x; a module and its x are of one dtype.
  Compute in that dtype or in a more precise one.
- Any sizes from 1 on, other ones in each call, any strides: a transposed or sliced x is an x like any other. A call
  uses the parameters as they are now.
- Gradients flow to x and to every parameter and are those of the formulas, also in training mode and in a second
  backward pass.
- x is never modified.
- No loop over tokens, over the batch, or over the numbers of a tensor: the number of tensor operations does not grow
  with the sizes.
- Not allowed: F.gelu, nn.GELU and their operators; ready-made attention and nn.Transformer*; other libraries' parts.
  All else of PyTorch is allowed: torch.erf, torch.tanh, torch.relu, nn.Linear and nn.Dropout, for example. A function
  of your own may have any name.

Not asked for: empty tensors, integers, infinite numbers, a dropout outside [0, 1).

Sources: Hendrycks and Gimpel 2016, *Gaussian Error Linear Units*, arXiv:1606.08415, section 2; Vaswani et al. 2017,
*Attention Is All You Need*, arXiv:1706.03762, section 3.3.
"""

import math

import torch
from torch import Tensor, nn


def gelu(x: Tensor, approximate: bool = False) -> Tensor:
    """Return the Gaussian error linear unit of every number.

    Args:
        x: Any numbers, of any shape. Not modified.
        approximate: False for the exact form, by the error function; True for the tanh form.

    Returns:
        Same shape, same dtype, same device.
    """
    raise NotImplementedError


class FeedForward(nn.Module):
    """Transform each token by itself: a linear layer, a ReLU, dropout, another linear layer.

    Args:
        d_model: Width D of the tokens.
        d_ff: Width F of the hidden layer, any number: larger than D as a rule, but it need not be.
        dropout: Probability, in [0, 1), that a hidden feature is dropped in training.

    Raises:
        ValueError: If ``d_model`` or ``d_ff`` is below 1.
    """

    def __init__(self, d_model: int, d_ff: int, dropout: float = 0.0) -> None:
        super().__init__()
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Return w2 ReLU(w1 x + b1) + b2 for every token.

        Args:
            x: Tokens, shape (B, T, D). Not modified.

        Returns:
            Shape (B, T, D).
        """
        raise NotImplementedError
