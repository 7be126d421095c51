"""A device that is not the CPU, on any machine: tensors that say ``meta`` and hold numbers all the same.

Code that works on the CPU can still have the CPU written into it. On real meta tensors that shows, but honest code
that looks at a value fails there too, and indexing, embedding and matmul let two devices meet. An ``Elsewhere`` tensor
claims to lie on the meta device, computes on the CPU inside, and the listening dispatch mode sees two devices meet.
"""

from __future__ import annotations

from collections.abc import Collection
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

DEVICE = torch.device("meta")


class Elsewhere(Tensor):
    """A tensor whose ``device`` is ``meta`` and whose numbers lie in ``inside``, on the CPU."""

    inside: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls, inside: Tensor) -> Elsewhere:
        """Wrap ``inside``, which keeps its memory: views of it are views of this tensor."""
        outer: Elsewhere = torch.Tensor._make_wrapper_subclass(
            cls,
            inside.shape,
            strides=inside.stride(),
            storage_offset=inside.storage_offset(),
            dtype=inside.dtype,
            device=DEVICE,
            requires_grad=inside.requires_grad,
        )
        outer.inside = inside.detach()
        return outer

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        return f"tensor of shape {tuple(self.shape)} elsewhere"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return run(func, args, kwargs or {})


def elsewhere(tensor: Tensor) -> Tensor:
    """Return a stand-in for a true meta tensor, with zeros for numbers."""
    inside = torch.zeros(tensor.shape, dtype=tensor.dtype)
    return Elsewhere(inside.requires_grad_(tensor.requires_grad))


def concerns(types: Collection[type], kwargs: dict[str, Any]) -> bool:
    """Say whether an operator has to do with the other device: an argument lies there, or the result shall.

    Args:
        types: Those of the operator's arguments that are more than plain tensors, as a dispatch mode is told.
        kwargs: The operator's keyword arguments.
    """
    device = kwargs.get("device")
    return bool(types) or (device is not None and torch.device(device).type == DEVICE.type)


def _holds(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.device.type == DEVICE.type
    return isinstance(value, (list, tuple)) and any(_holds(item) for item in value)


def run(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run one operator on the numbers inside, and let its results lie where they would lie on a real device."""
    outer: dict[int, Tensor] = {}
    stays = any(_holds(value) for value in (*args, *kwargs.values()))
    wanted = kwargs.get("device")
    if wanted is not None:
        stays = torch.device(wanted).type == DEVICE.type
        kwargs = {**kwargs, "device": torch.device("cpu")}
    with _no_inference_mode():
        result = func(*_inside(args, outer), **_inside(kwargs, outer))
        return _outside(result, outer, stays)


def _no_inference_mode() -> AbstractContextManager[None]:
    """Leave inference mode if it is on: torch cannot make a view of a wrapper in it."""
    return torch.inference_mode(False) if torch.is_inference_mode_enabled() else nullcontext()


def _inside(value: Any, outer: dict[int, Tensor]) -> Any:
    if isinstance(value, Tensor) and value.device.type == DEVICE.type:
        inside = value.inside if isinstance(value, Elsewhere) else torch.zeros(value.shape, dtype=value.dtype)
        outer[id(inside)] = value
        return inside
    if isinstance(value, (list, tuple)):
        return type(value)(_inside(item, outer) for item in value)
    if isinstance(value, dict):
        return {key: _inside(item, outer) for key, item in value.items()}
    return value


def _outside(value: Any, outer: dict[int, Tensor], stays: bool) -> Any:
    if isinstance(value, Tensor):
        if id(value) in outer:  # an operator that works in place returns the tensor that it was given
            return outer[id(value)]
        return Elsewhere(value) if stays else value
    if isinstance(value, (list, tuple)):
        return type(value)(_outside(item, outer, stays) for item in value)
    return value
