"""Layer normalisation, and what batch normalisation does instead

A deep model trains better if the numbers between its layers keep their size. Both layers of this exercise subtract a
mean and divide by a standard deviation; then a gain and a bias for each feature, which are trained, give the model back
what it may need. They differ in which numbers share a mean: in layer normalisation the features of one token, in batch
normalisation one feature of all items of the batch.

    mean     = sum of the n numbers / n
    variance = sum of (number - mean) ** 2 / n                     divided by n, which is called biased
    result   = (number - mean) / sqrt(variance + eps) * weight + bias

``LayerNorm`` takes the mean over the last dimension, n = D, for each row on its own. It keeps no statistics and does
the same in training and in evaluation.

``BatchNorm`` takes an x of shape (B, F) and the mean over the batch, n = B, for each feature on its own, and does two
different things:

- In training it normalises with mean and variance of the batch at hand. In each such call, also under
  ``torch.no_grad()``, it notes them down in two buffers:

      running_mean = (1 - momentum) * running_mean + momentum * mean
      running_var  = (1 - momentum) * running_var  + momentum * variance * n / (n - 1)     unbiased here, as only here

- In evaluation it normalises with running_mean and running_var in place of mean and variance, and changes neither.

Letters: ``B`` batch, ``T`` tokens, ``D`` features per token (``d_model``), ``F`` features (``n_features``).

Rules, besides those in the docstrings below:

- Parameters have exactly the names ``weight`` (ones at the start) and ``bias`` (zeros at the start), each with one
  number for each feature. ``state_dict()`` of a BatchNorm also holds ``running_mean`` (zeros at the start) and
  ``running_var`` (ones at the start), which are buffers and no parameters; that of a LayerNorm holds nothing more.
  There is no counter.
- A row (or a feature) of equal numbers gives the bias; its gradient is not NaN.
- Gradients reach x, weight and bias, and pass through mean and variance of x as well, wherever these are computed from
  x. The running values take no part in that: they never require a gradient.
- The result has the dtype and the device of x. float32, float64 and bfloat16 work, and a module of one of these dtypes
  takes an x of another. Compute in the dtype of x or in a more precise one.
- ``eps`` and ``momentum`` (from 0 to 1) are used as they are given, also when they are large.
- Inputs are never modified.
- No loop over tokens or over the batch: the number of tensor operations does not grow with ``T`` or ``B``.
- Any sizes in each call, any strides: a transposed or sliced x is an x like any other.
- The module computes where ``.to(device)`` has moved it. A call is right whatever was called before, and uses
  parameters and buffers as they are now.
- Not allowed are PyTorch's own layer, batch, group and instance norms in any form, its ready-made attention
  (``F.scaled_dot_product_attention``, ``nn.MultiheadAttention``, ``F.multi_head_attention_forward``,
  ``nn.Transformer*``) and other libraries' parts. All else is allowed: mean and var, for example.

Not asked for: empty batches or sequences, an x whose last dimension has another size, momentum None, a BatchNorm for
images or sequences.

Sources: Ba et al. 2016, *Layer Normalization*, arXiv:1607.06450, section 3; Ioffe & Szegedy 2015, *Batch
Normalization*, arXiv:1502.03167, algorithms 1 and 2 (the running values are PyTorch's).
"""

import torch
from torch import Tensor, nn


class LayerNorm(nn.Module):
    """Normalise the features of every token on their own.

    Args:
        d_model: Width D of the tokens.
        eps: Added to the variance under the root.

    Raises:
        ValueError: If ``d_model`` is below 1.
    """

    def __init__(self, d_model: int, eps: float = 1e-5) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if d_model < 1:
            raise ValueError(f"d_model ({d_model}) must be at least 1.")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(d_model))
        self.bias = nn.Parameter(torch.zeros(d_model))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Return x, normalised over its last dimension, times the gain plus the bias.

        Args:
            x: Shape (..., D), one leading dimension or more, such as (B, D), (B, T, D) or (B, H, T, D). Not modified.

        Returns:
            Shape, dtype and device of x.
        """
        ### BEGIN SOLUTION
        wide = x.to(torch.promote_types(x.dtype, torch.float32))  # bfloat16 is too coarse for statistics
        centred = wide - wide.mean(dim=-1, keepdim=True)  # (..., D) - (..., 1)
        variance = centred.square().mean(dim=-1, keepdim=True)  # (..., 1)
        return (centred / torch.sqrt(variance + self.eps) * self.weight + self.bias).to(x.dtype)
        ### END SOLUTION


class BatchNorm(nn.Module):
    """Normalise every feature over the batch in training, and with running statistics in evaluation.

    Args:
        n_features: Number F of features.
        eps: Added to the variance under the root.
        momentum: Share of the new batch in the running values.

    Raises:
        ValueError: If ``n_features`` is below 1.
    """

    def __init__(self, n_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__()
        ### BEGIN SOLUTION
        if n_features < 1:
            raise ValueError(f"n_features ({n_features}) must be at least 1.")
        self.eps = eps
        self.momentum = momentum
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.register_buffer("running_mean", torch.zeros(n_features))
        self.register_buffer("running_var", torch.ones(n_features))
        ### END SOLUTION

    def forward(self, x: Tensor) -> Tensor:
        """Return x, every feature normalised, times the gain plus the bias.

        Args:
            x: Shape (B, F). Not modified.

        Returns:
            Shape, dtype and device of x.

        Raises:
            ValueError: In training, if B is 1: a single item has no spread. In evaluation it is fine.
        """
        ### BEGIN SOLUTION
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        if self.training:
            B = x.shape[0]
            if B == 1:
                raise ValueError("In training, x must hold at least 2 items: one alone has no variance.")
            mean = wide.mean(dim=0)  # (F,)
            variance = (wide - mean).square().mean(dim=0)
            with torch.no_grad():
                m = self.momentum
                self.running_mean.mul_(1 - m).add_(m * mean)
                self.running_var.mul_(1 - m).add_(m * variance * B / (B - 1))
        else:
            mean, variance = self.running_mean, self.running_var
        return ((wide - mean) / torch.sqrt(variance + self.eps) * self.weight + self.bias).to(x.dtype)
        ### END SOLUTION
