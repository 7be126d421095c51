"""Trivial answers in the right shape: no check of any suite may be passed by one of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

KINDS = ("zeros", "constant", "nan", "first_argument", "stale")


class Impostor:
    """A solution whose results are replaced by something that takes no thought.

    Args:
        solution: A fresh copy of the solution; its public functions and classes are wrapped in place.
        names: Those that a learner writes.
        kind: One of ``KINDS``: zeros, one number everywhere, NaN, the first tensor that was passed, or the answer that
            was right the first time that arguments of these shapes were passed.

    Attributes:
        namespace: The solution, wrapped.
        lied: Whether any result differed from the right one since it was last set to ``False``.
    """

    def __init__(self, solution: ModuleType, names: Sequence[str], kind: str) -> None:
        self.namespace = solution
        self.kind = kind
        self.lied = False
        self._inside = False
        self._answers: dict[str, Any] = {}
        for name in names:
            value = getattr(solution, name)
            setattr(solution, name, self._wrap_class(value) if isinstance(value, type) else self._wrap(value))

    def _wrap_class(self, value: type) -> type:
        if not issubclass(value, nn.Module):
            return value
        forward = self._wrap(value.forward)
        return type(value.__name__, (value,), {"forward": forward, "__module__": value.__module__})

    def _wrap(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def pretend(*args: Any, **kwargs: Any) -> Any:
            if self._inside:  # the solution calls its own parts; only what the suite calls is a lie
                return function(*args, **kwargs)
            self._inside = True
            try:
                right = function(*args, **kwargs)
                answer = self._lie(right, function, args, kwargs)
            finally:
                self._inside = False
            self.lied |= not _equal(right, answer)
            return answer

        return pretend

    def _lie(self, right: Any, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self.kind == "stale":
            return self._answers.setdefault(f"{function.__qualname__} {_form((args, kwargs))}", _detach(right))
        if self.kind == "first_argument":
            given = next(_tensors((args, kwargs)), None)
            return _change(right, lambda t: _as_form(given, t), lambda number: number * 0)
        fill = {"zeros": 0.0, "constant": 0.5, "nan": float("nan")}[self.kind]
        return _change(right, lambda t: _filled(t, fill), lambda number: type(number)(0 if fill == 0 else 1))


def _filled(tensor: Tensor, value: float) -> Tensor:
    if tensor.is_floating_point() or tensor.is_complex():
        return tensor * 0.0 + value  # keeps the graph, so that a gradient of zeros flows
    return torch.full_like(tensor, value > 0)


def _as_form(given: Tensor | None, right: Tensor) -> Tensor:
    if given is None or given.numel() < right.numel() or given.device != right.device:
        return _filled(right, 0.0)
    return given.flatten()[: right.numel()].reshape(right.shape).to(right.dtype)


def _form(value: Any) -> str:
    """Return what can be seen of arguments without reading a number in a tensor."""
    parts = [f"{tuple(x.shape)} {x.dtype} {x.device}" if isinstance(x, Tensor) else repr(x) for x in _leaves(value)]
    return "; ".join(parts)


def _detach(value: Any) -> Any:
    """Return a copy that keeps a graph of its own, so that gradients flow and are wrong."""
    return _change(value, lambda t: t.detach().clone().requires_grad_(t.requires_grad), lambda number: number)


def _change(value: Any, tensor: Callable[[Tensor], Tensor], number: Callable[[Any], Any]) -> Any:
    if isinstance(value, Tensor):
        return tensor(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_change(item, tensor, number) for item in value)
    if isinstance(value, Mapping):
        return {key: _change(item, tensor, number) for key, item in value.items()}
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value)
    return value


def _equal(a: Any, b: Any) -> bool:
    first, second = list(_leaves(a)), list(_leaves(b))
    if len(first) != len(second):
        return False
    for x, y in zip(first, second, strict=True):
        if isinstance(x, Tensor) and isinstance(y, Tensor):
            if x.device.type == "meta" and x.shape == y.shape:
                continue
            if x.shape != y.shape or not torch.equal(x, y):
                return False
        elif x is not y and x != y:
            return False
    return True


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _leaves(item)
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _leaves(item)
    else:
        yield value


def _tensors(value: Any) -> Iterator[Tensor]:
    return (leaf for leaf in _leaves(value) if isinstance(leaf, Tensor))
