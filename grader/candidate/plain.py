"""Takes what the learner's code returned to pieces that hold no code of the learner's any more.

An answer may be a list whose ``__iter__`` computes, a tensor whose ``shape`` lies, an object that poses as a tensor.
Each is looked at by its true type and through that type's own methods, so nothing of it runs after the call has ended.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from grader.candidate.elsewhere import Elsewhere
from grader.candidate.wire import MAX_DEPTH, MAX_NODES, Opaque, WireError

_AS_THEY_ARE = (Tensor, nn.Parameter, Elsewhere)
_dispatch = Tensor.__torch_dispatch__


def name_of(kind: type) -> str:
    """Return the name of a class, whatever its metaclass says."""
    name: str = vars(type)["__name__"].__get__(kind)
    return name


def plain(value: object) -> Any:
    """Return ``value`` as lists, tuples, dicts, strings, numbers, tensors and modules; the rest becomes ``Opaque``.

    Raises:
        WireError: If it is nested too deeply or holds too much, as one that holds itself.
    """
    return _Plain().value(value, 0)


class _Plain:
    def __init__(self) -> None:
        self._nodes = 0
        self._tensors: dict[int, Tensor] = {}  # one for one, however often it occurs

    def value(self, value: Any, depth: int) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise WireError("the value is nested too deeply or too large to be handed over")
        kind = type(value)
        if value is None or kind in (bool, torch.dtype, torch.device) or issubclass(kind, nn.Module):
            return value
        if issubclass(kind, Tensor):
            return self._tensor(value, kind)
        if issubclass(kind, list):
            return [self.value(item, depth + 1) for item in list.__iter__(value)]
        if issubclass(kind, tuple):
            return tuple(self.value(item, depth + 1) for item in tuple.__iter__(value))
        if issubclass(kind, dict):
            return {self.value(key, depth + 1): self.value(item, depth + 1) for key, item in dict.items(value)}
        for base in str, int, float:
            if issubclass(kind, base):
                return getattr(base, f"__{base.__name__}__")(value)
        return Opaque(name_of(kind))

    def _tensor(self, tensor: Tensor, kind: type[Tensor]) -> Tensor | Opaque:
        if kind in _AS_THEY_ARE:
            return tensor
        if kind.__torch_dispatch__ is not _dispatch:  # it may have no numbers of its own
            return Opaque(name_of(kind))
        if id(tensor) not in self._tensors:
            with torch._C.DisableTorchFunctionSubclass():
                self._tensors[id(tensor)] = Tensor.as_subclass(tensor, Tensor)
        return self._tensors[id(tensor)]
