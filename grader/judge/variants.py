"""Other ways to write a part of a solution: wrong ones that a suite must catch, right ones that it must not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

F = TypeVar("F", bound=Callable[..., object])
Kind = Literal["misconception", "slip", "alternative"]


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
