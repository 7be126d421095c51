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
from typing import Any, Literal, Protocol, TypeVar

import torch
from torch import Tensor

F = TypeVar("F", bound=Callable[..., object])
Kind = Literal["misconception", "slip", "alternative"]


class CheckFailure(AssertionError):  # noqa: N818 (a failure is what a check reports; an error is ours)
    """A check failed for a reason that the learner should read as it stands."""


# --- comparing -------------------------------------------------------------------------------------------


def tolerance_of(dtype: torch.dtype, expected: Tensor, *, half: float = 0.02) -> float:
    """Return the largest absolute difference that rounding in ``dtype`` explains.

    Args:
        dtype: What the learner computed in.
        expected: The reference's answer.
        half: Share of ``max|expected|`` that bfloat16 and float16 may be off (norms 0.01, whole models 0.05).
    """
    finite = expected.detach().abs()
    finite = finite[torch.isfinite(finite)]
    largest = float(finite.max()) if finite.numel() else 0.0
    if dtype in (torch.bfloat16, torch.float16):
        return half * largest
    if dtype in (torch.float64, torch.complex128):
        return 1e-9 * max(1.0, largest)
    if dtype in (torch.float32, torch.complex64):
        return 1e-5 * max(1.0, largest)
    return 0.0  # integers and booleans are right or wrong


def assert_tensor(got: object, what: str) -> Tensor:
    """Return ``got`` if it is a tensor, and fail otherwise."""
    if isinstance(got, Tensor):
        return got
    came = "None came. Is a `return` missing?" if got is None else f"{describe(got)} came."
    raise CheckFailure(f"{what}: a tensor should come back, but {came}")


def assert_shape(got: object, shape: Sequence[int], what: str, *, dtype: torch.dtype | None = None) -> Tensor:
    """Check shape and dtype, and that the numbers are finite and not all the same.

    The last rule keeps ``torch.zeros(...)`` from earning a point for its shape.
    """
    tensor = assert_tensor(got, what)
    _assert_form(tensor, tuple(shape), dtype or tensor.dtype, what)
    if tensor.device.type == "meta":
        return tensor
    _assert_no_nan(tensor, what)
    if tensor.is_floating_point() and not torch.isfinite(tensor).all():
        raise CheckFailure(f"{what}: the shape is right, but some numbers are infinite.")
    if tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
        value = tensor.flatten()[0].item()
        raise CheckFailure(f"{what}: the shape is right, but every number is {value:g}; the input should show in it.")
    return tensor


def assert_close(
    got: object,
    expected: Tensor,
    what: str,
    *,
    dtype: torch.dtype | None = None,
    tolerance: float | None = None,
    half: float = 0.02,
    hint: str = "",
) -> None:
    """Check shape and dtype exactly, then that all is finite where it should be, then that the numbers are close.

    Args:
        got: The learner's answer.
        expected: The right answer, best computed in float64.
        what: What is compared, as the learner would say it: the start of the message.
        dtype: The dtype asked for; that of ``expected`` when left out.
        tolerance: Largest absolute difference; by default derived from the dtype (``tolerance_of``).
        half: See ``tolerance_of``.
        hint: What to try, added to the message when the numbers differ.
    """
    tensor = assert_tensor(got, what)
    dtype = dtype or expected.dtype
    _assert_form(tensor, tuple(expected.shape), dtype, what)
    wide = _widest(expected.dtype)
    mine, right = tensor.detach().to(wide), expected.detach().to(wide)
    if not right.isnan().any():
        _assert_no_nan(tensor, what)
    if tolerance is None:
        tolerance = tolerance_of(dtype, expected, half=half)
    off = _distance(mine, right)
    wrong = ~(off <= tolerance)
    if wrong.any():
        raise CheckFailure(_difference(mine, right, off, wrong, what, tolerance) + (f" {hint}" if hint else ""))


def assert_differs(got: Tensor, other: Tensor, what: str) -> None:
    """Check that ``got`` is not just ``other`` again, so that doing nothing does not pass a property."""
    got, other = got.detach(), other.detach()
    if got.shape == other.shape and torch.allclose(got.double(), other.double(), rtol=1e-4, atol=1e-6):
        raise CheckFailure(f"{what}: nothing changed, although something should.")


def _assert_form(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, what: str) -> None:
    if tuple(tensor.shape) != shape:
        raise CheckFailure(f"{what}: the shape should be {shape}, but {tuple(tensor.shape)} came.")
    if tensor.dtype != dtype:
        raise CheckFailure(f"{what}: the dtype should be {_short(dtype)}, but {_short(tensor.dtype)} came.")


def _assert_no_nan(tensor: Tensor, what: str) -> None:
    nan = tensor.isnan()
    if nan.any():
        first = [int(i) for i in nan.nonzero()[0]]
        raise CheckFailure(f"{what}: {_count(nan)} are NaN, the first at {first}. Where is 0/0, or inf - inf?")


def _widest(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else torch.int64


def _distance(mine: Tensor, right: Tensor) -> Tensor:
    """Return ``|mine - right|``, with 0 where both are the same infinity or both are NaN."""
    same = (mine == right) | (mine.isnan() & right.isnan())
    return (mine - right).abs().double().masked_fill(same, 0.0)


def _difference(mine: Tensor, right: Tensor, off: Tensor, wrong: Tensor, what: str, tolerance: float) -> str:
    if mine.dim() == 0:
        expected, came = _apart(right, mine)
        return f"{what}: {expected} was expected, but {came} came{_allowed(tolerance)}."
    if mine.numel() > 1 and mine.dtype != torch.int64 and bool((mine == mine.flatten()[0]).all()):
        return f"{what}: every number that came is {_number(mine.flatten()[0])}."
    worst = torch.where(off.isnan(), torch.full_like(off, torch.inf), off)
    worst = torch.where(wrong, worst, torch.zeros_like(worst))
    place = [int(i) for i in torch.unravel_index(worst.argmax(), worst.shape)]
    expected, came = _apart(right[tuple(place)], mine[tuple(place)])
    most = f"most at {place}: {expected} was expected, but {came} came{_allowed(tolerance)}"
    return f"{what}: {_count(wrong)} differ, {most}."


def _allowed(tolerance: float) -> str:
    return f" (off by at most {tolerance:.1e} is allowed)" if tolerance else ""


def _count(mask: Tensor) -> str:
    return f"{int(mask.sum())} of {mask.numel()} numbers"


def _apart(a: Tensor, b: Tensor) -> tuple[str, str]:
    """Return both numbers with as many digits as it takes to see that they differ."""
    for digits in 5, 9, 17:
        first, second = _number(a, digits), _number(b, digits)
        if first != second:
            break
    return first, second


def _number(value: Tensor, digits: int = 5) -> str:
    item = value.item()
    if isinstance(item, complex):
        return f"{item.real:.{digits}g}{item.imag:+.{digits}g}i"
    return f"{item:.{digits}g}" if isinstance(item, float) else str(item)


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def describe(value: object) -> str:
    """Return a few words that say what ``value`` is: ``a list of 3``, ``a tensor of shape (2, 3)``."""
    if isinstance(value, Tensor):
        return f"a tensor of shape {tuple(value.shape)}"
    if isinstance(value, (tuple, list, dict)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, (bool, int, float, str)):
        return f"{type(value).__name__} {value!r:.40}"
    return f"an object of type {type(value).__name__}"


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
            raise CheckFailure(f"{what}: the input lies on {device!r}, but the result on {place!r}.")


def observe(call: Callable[[], object]) -> object:
    """Return what ``call()`` returns, or the name of the error that it raises: for ``probe``."""
    try:
        return call()
    except Exception as error:  # a probe wants to know whatever happens
        return f"raises {_name_of(error)}"


def _name_of(error: Exception) -> str:
    """Return the class's name, for an error of the learner's the name over there."""
    return str(getattr(error, "type_name", type(error).__name__))


# --- variants --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Variant:
    """One other way to write a part of the solution, right or wrong.

    Attributes:
        kind: ``misconception`` (wrong, and worth explaining), ``slip`` (wrong) or ``alternative`` (right).
        name: Name of the function or class that was decorated.
        replaces: The public name of the solution that it stands in for.
        caught_by: The check that it must fail; ``None`` for an alternative.
        message: What the learner reads when their code behaves like this one.
        value: The function or class.
    """

    kind: Kind
    name: str
    replaces: str
    caught_by: str | None
    message: str
    value: Any


def misconception(*, replaces: str, caught_by: str) -> Callable[[F], F]:
    """Declare a wrong version whose docstring says what the learner seems to believe, and asks a question."""
    return _declare("misconception", replaces, caught_by)


def slip(*, replaces: str, caught_by: str) -> Callable[[F], F]:
    """Declare a wrong version with nothing to explain."""
    return _declare("slip", replaces, caught_by)


def alternative(*, replaces: str) -> Callable[[F], F]:
    """Declare a right version in another style."""
    return _declare("alternative", replaces, None)


def _declare(kind: Kind, replaces: str, caught_by: str | None) -> Callable[[F], F]:
    def mark(value: F) -> F:
        message = " ".join((value.__doc__ or "").split()) if kind == "misconception" else ""
        value.__variant__ = Variant(kind, value.__name__, replaces, caught_by, message, value)  # type: ignore[attr-defined]
        return value

    return mark


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
