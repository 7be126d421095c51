"""Twice and half a tensor

The smallest exercise that there can be, for the tests of the grader.
"""

from torch import Tensor


def double(x: Tensor) -> Tensor:
    """Return twice ``x``, any shape but (), any floating dtype. Not modified.

    Raises:
        ValueError: If ``x`` has no dimension.
    """
    ### BEGIN SOLUTION
    if x.dim() == 0:
        raise ValueError("x must have a dimension")
    return 2 * x
    ### END SOLUTION


def halve(x: Tensor) -> Tensor:
    """Return half of ``x``."""
    ### BEGIN SOLUTION
    return x / 2
    ### END SOLUTION
