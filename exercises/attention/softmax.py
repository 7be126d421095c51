"""A softmax that survives large numbers

A softmax turns any numbers into weights: none is negative, together they sum to 1, and the larger number has the larger
weight. Attention, classifiers and samplers all end in one. For the numbers x_1 ... x_n of one slice

    softmax(x)_i = exp(x_i) / (exp(x_1) + ... + exp(x_n))

Typed in as it stands, the formula fails on a computer as soon as a number is large: in float32 exp(89) is infinite and
exp(-104) is 0, so it ends in NaN. Write a softmax that gives the right weights all the same.

Rules:

- Numbers around 10 000 and around -10 000 give right weights, no matter how far apart the slices of one tensor lie. No
  result is NaN.
- The numbers may contain -inf, as masked attention scores do. Such a number gets a weight of exactly 0, and the others
  of its slice get the weights that they would get without it. A slice in which every number is -inf gets only zeros.
- Every other slice sums to 1 up to rounding, in float64 too (checked to 9 digits there).
- Results have the dtype (float32, float64 or bfloat16) and the device of x. Compute in that dtype or in a more precise
  one.
- Any number of dimensions from 1 on, any sizes, any strides: a transposed or sliced x is an x like any other. A slice
  of a single number gets the weight 1, or 0 if that number is -inf.
- Gradients flow to x in every dtype and are those of the formula. Where single numbers of a slice are -inf, their
  gradient is 0 and nothing is NaN. The weights are the same whether gradients are asked for or not.
- x is never modified. A call is right whatever was called before, with another shape, dim or dtype.
- No loop over slices or over the numbers of a slice: the number of tensor operations does not grow with the sizes.
- Not allowed is what PyTorch has ready: every built-in softmax, log-softmax and softmin (as a function, a method, a
  module, or inside of something larger such as F.cross_entropy), logsumexp, logaddexp, logcumsumexp and attention, and
  no other library's parts. All else is allowed: exp, sum and amax, for example. A function of your own may have any
  name.

Not asked for: empty tensors, tensors without a dimension, integers, +inf or NaN in x, a dim that x does not have, and
the gradient of a slice of -inf alone.

Source: Goodfellow, Bengio, Courville 2016, *Deep Learning*, section 4.1, "Overflow and Underflow".
"""

import math

import torch
from torch import Tensor


def softmax(x: Tensor, dim: int = -1) -> Tensor:
    """Return the softmax of ``x`` along one dimension, safe against overflow.

    Args:
        x: Any numbers, -inf among them, of any shape with at least one dimension. Not modified.
        dim: The dimension along which the weights sum to 1; a negative one counts from the end.

    Returns:
        The weights: same shape, same dtype, same device.
    """
    raise NotImplementedError
