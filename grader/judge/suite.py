"""All that an answer key may import: what a suite asserts, and how variants are declared.

A check is a pytest function. It takes some of these fixtures (``grader.judge.plugin`` makes them):

``impl``
    The learner's file as if it were a local module: ``impl.apply_rotary(x, positions)``, ``impl.RMSNorm(8)(x)``.
    ``with impl.trace() as trace:`` records the operators that ran, ``with impl.default_device("meta"):`` changes
    where tensors are made by default.
``reference``
    The solution as a module of the judge's own. A check marked ``visible`` does without it.
``twins``
    ``mine, ref = twins("MultiHeadAttention", 16, 4)``: the learner's module and the reference in float64, both with the
    same random weights (non-zero biases, gains other than 1).
``randn``, ``randint``, ``rng``
    Fresh inputs, seeded by the run's seed and the check's name: ``randn(2, 5, dtype=torch.float64)``,
    ``randint(0, 10, (2, 5))``, and a ``random.Random`` for odd sizes.

Every assertion raises ``CheckFailure``, whose text is what the learner reads: what was asked, what came, what to try.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from grader.judge.comparing import (
    CheckFailure,
    assert_close,
    assert_differs,
    assert_shape,
    assert_tensor,
    describe,
    tolerance_of,
)
from grader.judge.variants import Kind, Variant, alternative, misconception, slip

__all__ = [
    "CheckFailure",
    "Kind",
    "Op",
    "Panel",
    "Trace",
    "Variant",
    "alternative",
    "assert_close",
    "assert_differs",
    "assert_follows_default_device",
    "assert_follows_device",
    "assert_gradients_match",
    "assert_no_loop",
    "assert_rejects",
    "assert_shape",
    "assert_tensor",
    "describe",
    "misconception",
    "observe",
    "slip",
    "tolerance_of",
]

# --- gradients, errors, evidence -------------------------------------------------------------------------


def assert_gradients_match(
    got: Tensor,
    leaves: Mapping[str, Tensor],
    expected: Tensor,
    expected_leaves: Mapping[str, Tensor],
    cotangent: Tensor,
    what: str = "the gradient",
    *,
    tolerance: float | None = None,
) -> None:
    """Send one cotangent back through the learner's result and through the reference's, and compare all gradients.

    Args:
        got: The learner's output.
        leaves: Name → tensor that requires a gradient, on the learner's side.
        expected: The reference's output.
        expected_leaves: The same names → tensors, on the reference's side.
        cotangent: What is fed back, shape of ``got``.
        what: Start of the message.
        tolerance: See ``assert_close``.
    """
    assert_tensor(got, what)
    if not got.requires_grad:
        raise CheckFailure(f"{what}: none flows at all. Is something detached, or turned into numbers and back?")
    names = list(expected_leaves)
    for name in names:
        if name not in leaves or not leaves[name].requires_grad:
            raise CheckFailure(f"{what}: none reaches {name}. Is it frozen, or not a parameter?")
    mine = torch.autograd.grad(_dot(got, cotangent), [leaves[name] for name in names], allow_unused=True)
    right = torch.autograd.grad(_dot(expected, cotangent), [expected_leaves[name] for name in names], allow_unused=True)
    for name, gradient, truth in zip(names, mine, right, strict=True):
        if truth is None:
            continue
        if gradient is None:
            raise CheckFailure(f"{what}: none reaches {name}. Is something detached on the way, or {name} not used?")
        assert_close(gradient, truth, f"{what} of {name}", dtype=leaves[name].dtype, tolerance=tolerance)


def _dot(output: Tensor, cotangent: Tensor) -> Tensor:
    """Return the number whose gradient with respect to ``output`` is ``cotangent``.

    (Handing the cotangent to ``torch.autograd.grad`` says the same, but makes torch import sympy first.)
    """
    return (output * cotangent.to(output.dtype)).sum()


def assert_rejects(bad: Callable[[], object], what: str, *, good: Callable[[], object]) -> None:
    """Check that ``bad()`` raises ``ValueError``, and that the neighbouring call ``good()`` works.

    Args:
        bad: A call that must be refused.
        what: What is wrong with it, as the learner would say it: ``"an odd head_dim"``.
        good: A call close to it that is fine. It asserts its own result, so that refusing everything, or answering
            nonsense, earns nothing.
    """
    try:
        good()
    except ValueError as error:
        raise CheckFailure(f"{what}: a call that is fine was refused as well ({error}).") from None
    try:
        bad()
    except (ValueError, CheckFailure) as error:
        if isinstance(error, ValueError):
            return
        raise
    except (TypeError, RuntimeError, LookupError, AssertionError, ArithmeticError, AttributeError) as error:
        came = f"{_name_of(error)} came: {error}"
        raise CheckFailure(f"{what}: this should raise ValueError, but {came}") from None
    raise CheckFailure(f"{what}: this should raise ValueError, but the call went through.")


class Op(Protocol):
    """One operator that ran on the learner's side."""

    @property
    def name(self) -> str:
        """Its ATen name without overload, such as ``bmm``."""

    @property
    def inputs(self) -> Sequence[tuple[int, ...]]:
        """Shapes of its tensor arguments."""

    @property
    def outputs(self) -> Sequence[tuple[int, ...]]:
        """Shapes of its results."""


class Trace(Protocol):
    """What ``with impl.trace() as trace:`` has recorded once the block is left."""

    @property
    def ops(self) -> Sequence[Op]:
        """Every ATen operator, in order."""

    @property
    def functions(self) -> Sequence[str]:
        """Every call of PyTorch's Python interface, such as ``torch.nn.functional.softmax``, in order."""

    @property
    def largest(self) -> int:
        """Elements of the largest tensor that an operator returned (views of a smaller one included)."""

    @property
    def mixed(self) -> Sequence[str]:
        """Names of operators in which tensors of two devices met."""


def assert_no_loop(impl: Any, call: Callable[[int], object], what: str, sizes: tuple[int, int] = (3, 40)) -> None:
    """Check that the number of operators does not grow with a size.

    Args:
        impl: The learner's file.
        call: Takes the size and calls the learner's code with it.
        what: What the size counts: ``"tokens"``.
        sizes: A small and a large one. One operator more per unit of the difference fails.
    """
    counts = []
    for size in sizes:
        with impl.trace() as trace:
            call(size)
        counts.append(len(trace.ops))
    if counts[1] - counts[0] >= sizes[1] - sizes[0]:
        raise CheckFailure(
            f"{sizes[0]} {what} take {counts[0]} tensor operations, but {sizes[1]} take {counts[1]}. "
            f"A loop over {what} is not allowed here: which operation takes them all at once?"
        )


def assert_follows_device(impl: Any, call: Callable[[], object], what: str, device: str = "meta") -> None:
    """Check that a call on tensors of another device stays there.

    Args:
        impl: The learner's file.
        call: Calls the learner's code with tensors, or a module, on ``device``; returns its result.
        what: What the results are called in the message.
        device: That device. The meta device stands for any accelerator: results have a shape and no numbers.
    """
    with impl.trace() as trace:
        result = call()
    if trace.mixed:
        raise CheckFailure(
            f"{what}: tensors of two devices met in `{trace.mixed[0]}`. "
            "Make every new tensor on the device of the input."
        )
    for tensor in result if isinstance(result, tuple) else (result,):
        place = assert_tensor(tensor, what).device.type
        if place != device:
            raise CheckFailure(f"{what}: the result should lie on {device!r}, but it lies on {place!r}.")


def assert_follows_default_device(impl: Any, call: Callable[[], object], what: str, device: str = "meta") -> None:
    """Check that a call without tensor arguments makes its result on PyTorch's default device.

    Args:
        impl: The learner's file.
        call: Calls the learner's code; returns its result.
        what: What the results are called in the message.
        device: The default device meanwhile. See ``assert_follows_device``.
    """
    with impl.default_device(device):
        assert_follows_device(impl, call, f"{what}, with {device!r} as PyTorch's default device", device)


def observe(call: Callable[[], object]) -> object:
    """Return what ``call()`` returns, or the name of the error that it raises: for ``probe``."""
    try:
        return call()
    except Exception as error:  # a probe wants to know whatever happens
        return f"raises {_name_of(error)}"


def _name_of(error: Exception) -> str:
    """Return the class's name, for an error of the learner's the name over there."""
    return str(getattr(error, "type_name", type(error).__name__))


# --- pictures --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Panel:
    """One plot of a picture; ``picture(impl)`` returns a list of them.

    Attributes:
        title: What it shows.
        values: ``(rows, columns)`` for a heat map; ``(lines, points)`` for lines.
        kind: How to draw it.
        x_label: Name of the columns, or of the points.
        y_label: Name of the rows, or of what the lines measure.
        labels: Names of the lines.
    """

    title: str
    values: Tensor
    kind: Literal["heatmap", "lines"] = "heatmap"
    x_label: str = ""
    y_label: str = ""
    labels: tuple[str, ...] = ()
