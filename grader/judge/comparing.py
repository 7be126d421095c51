"""How an answer is compared: exactly in shape and dtype, then finite, then close; and what is said when it is not."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from grader.candidate.wire import Opaque


class CheckFailure(AssertionError):  # noqa: N818 (a failure is what a check reports; an error is ours)
    """A check failed for a reason that the learner should read as it stands.

    Attributes:
        type_name: What ``observe`` calls it; another name if the learner's code raised something in the first place.
    """

    type_name = "CheckFailure"


def tolerance_of(dtype: torch.dtype, expected: Tensor, *, half: float = 0.02) -> float:
    """Return the largest absolute difference that rounding in ``dtype`` explains.

    Args:
        dtype: What the learner computed in.
        expected: The reference's answer.
        half: Share of ``max|expected|`` that bfloat16 and float16 may be off (norms 0.01, whole models 0.05).
    """
    if not (dtype.is_floating_point or dtype.is_complex):
        return 0.0  # integers and booleans are right or wrong
    largest = _largest(_plain(expected).to(_widest(expected.dtype)))
    if dtype in (torch.bfloat16, torch.float16):
        return half * largest
    if dtype in (torch.float64, torch.complex128):
        return 1e-9 * max(1.0, largest)
    return 1e-5 * max(1.0, largest)


def _plain(tensor: Tensor) -> Tensor:
    """Return the numbers as they lie in memory, for NumPy to read."""
    detached = tensor.detach()
    return detached.resolve_conj().resolve_neg() if detached.is_conj() or detached.is_neg() else detached


def _largest(values: Tensor) -> float:
    """Return the largest finite absolute value."""
    if not values.numel():
        return 0.0
    sizes = np.abs(values.numpy())  # NumPy takes half the time for so few numbers
    largest = float(sizes.max())
    return largest if math.isfinite(largest) else float(sizes[np.isfinite(sizes)].max(initial=0.0))


def assert_tensor(got: object, what: str) -> Tensor:
    """Return ``got`` if it is a tensor, and fail otherwise."""
    if isinstance(got, Tensor):
        return got
    came = "None came. Is a `return` missing?" if got is None else f"{describe(got)} came."
    raise CheckFailure(f"{what}: a tensor should come back, but {came}")


def assert_shape(
    got: object, shape: Sequence[int], what: str, *, dtype: torch.dtype | None = None, device: str = "cpu"
) -> Tensor:
    """Check shape, dtype and device, and that the numbers are finite and not all the same.

    The last rule keeps ``torch.zeros(...)`` from earning a point for its shape. (On ``"meta"`` there are no numbers.)
    """
    tensor = assert_tensor(got, what)
    _assert_form(tensor, tuple(shape), dtype or tensor.dtype, torch.device(device), what)
    if device == "meta":
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
    _assert_form(tensor, tuple(expected.shape), dtype, expected.device, what)
    wide = _widest(torch.promote_types(tensor.dtype, expected.dtype))
    mine, right = _plain(tensor).to(wide), _plain(expected).to(wide)
    if tolerance is None:
        tolerance = tolerance_of(dtype, right, half=half)
    if _is_close(mine, right, tolerance):
        return
    if not right.isnan().any():
        _assert_no_nan(tensor, what)
    off = _distance(mine, right)
    wrong = ~(off <= tolerance)
    if wrong.any():
        raise CheckFailure(_difference(mine, right, off, wrong, what, tolerance) + (f" {hint}" if hint else ""))


def assert_differs(got: Tensor, other: Tensor, what: str) -> None:
    """Check that ``got`` is not just ``other`` again, so that doing nothing does not pass a property."""
    got, other = got.detach(), other.detach()
    if got.shape == other.shape and torch.allclose(got.double(), other.double(), rtol=1e-4, atol=1e-6):
        raise CheckFailure(f"{what}: nothing changed, although something should.")


def _assert_form(tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, place: torch.device, what: str) -> None:
    if tuple(tensor.shape) != shape:
        raise CheckFailure(f"{what}: the shape should be {shape}, but {tuple(tensor.shape)} came.")
    if tensor.dtype != dtype:
        raise CheckFailure(f"{what}: the dtype should be {_short(dtype)}, but {_short(tensor.dtype)} came.")
    if tensor.device.type != place.type:
        raise CheckFailure(
            f"{what}: it should lie on {place.type!r}, where the inputs are, not on {tensor.device.type!r}."
        )


def _assert_no_nan(tensor: Tensor, what: str) -> None:
    nan = tensor.isnan()
    if nan.any():
        first = [int(i) for i in nan.nonzero()[0]]
        raise CheckFailure(f"{what}: {_count(nan)} are NaN, the first at {first}. Where is 0/0, or inf - inf?")


def _widest(dtype: torch.dtype) -> torch.dtype:
    if dtype.is_complex:
        return torch.complex128
    return torch.float64 if dtype.is_floating_point else torch.int64


def _is_close(mine: Tensor, right: Tensor, tolerance: float) -> bool:
    """Say whether all is finite and close, as it mostly is; no need to look at it more closely then."""
    if mine.dtype == torch.int64:  # a difference may be more than it holds
        return torch.equal(mine, right)
    with np.errstate(invalid="ignore"):  # inf - inf is no number, and so not close
        return not mine.numel() or bool(np.abs(mine.numpy() - right.numpy()).max() <= tolerance)


def _distance(mine: Tensor, right: Tensor) -> Tensor:
    """Return ``|mine - right|``, with 0 where both are the same infinity or both are NaN."""
    same = (mine == right) | (mine.isnan() & right.isnan())
    if mine.dtype == torch.int64:
        return (mine.double() - right.double()).abs().clamp(min=1.0).masked_fill(same, 0.0)
    return (mine - right).abs().masked_fill(same, 0.0)


def _difference(mine: Tensor, right: Tensor, off: Tensor, wrong: Tensor, what: str, tolerance: float) -> str:
    if mine.dim() == 0:
        expected, came = _apart(right, mine)
        return f"{what}: {expected} was expected, but {came} came{_allowed(tolerance)}."
    if mine.numel() > 1 and mine.dtype != torch.int64 and bool((mine == mine.flatten()[0]).all()):
        return f"{what}: every number that came is {_number(mine.flatten()[0])}."
    worst = torch.where(off.isnan(), torch.full_like(off, torch.inf), off)
    worst = torch.where(wrong, worst, torch.zeros_like(worst))
    place = (worst == worst.max()).nonzero()[0].tolist()  # unravel_index makes torch import sympy
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
    if hasattr(value, "named_parameters"):
        return "a module"
    if isinstance(value, Opaque):
        name = value.type_name
        return f"a {name}" if name.endswith(" tensor") else f"an object of type {name}"
    return f"an object of type {type(value).__name__}"
