"""Tensors as bytes: specs for a frame's header, and one block in the format of safetensors for all their numbers.

A spec is ``{"dtype", "shape", "grad"}``, with ``"meta"`` for a tensor that has no numbers and ``"stride"`` for a view
whose strides are kept (the elements between come along). From the specs follows, byte for byte, how the block begins;
one that begins in another way is refused unread.
"""

from __future__ import annotations

import ctypes
import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

MAX_BYTES = 252 * 2**20  # of all tensors of a frame
MAX_TENSORS = 10_000
MAX_DIMS = 12
MAX_ELEMENTS = 2**40  # of a meta tensor, which takes no memory
MAX_KEPT = 64  # tensors of a frame whose layout is kept: those of larger ones would fill a judge's memory

DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
    "C128": torch.complex128,
}
_NAMES = {dtype: name for name, dtype in DTYPES.items()}
_WIDTHS = {name: dtype.itemsize for name, dtype in DTYPES.items()}
_REAL = {"C64": "F32", "C128": "F64"}  # complex numbers travel as pairs of real ones


class WireError(Exception):
    """A frame that breaks the rules, or a value that cannot cross."""


def strange(tensor: Tensor) -> str:
    """Return what kind of tensor this is, if it is one that does not cross."""
    if tensor.is_nested:
        return "nested tensor"
    if tensor.is_quantized:
        return "quantized tensor"
    if tensor.layout != torch.strided:
        return f"{tensor.layout} tensor".removeprefix("torch.")
    if not (tensor.is_cpu or tensor.is_meta):
        return f"{tensor.device.type} tensor"
    return "" if tensor.dtype in _NAMES else f"{tensor.dtype} tensor".removeprefix("torch.")


class TensorPacker:
    """Collects the tensors of one frame, by identity, so that one passed twice arrives as one.

    Args:
        strided: Whether strides are kept.

    Attributes:
        specs: Of the tensors so far.
    """

    def __init__(self, strided: bool) -> None:
        self.specs: list[dict[str, Any]] = []
        self._strided = strided
        self._data: dict[int, bytes] = {}
        self._seen: dict[int, int] = {}
        self._size = 0

    def index(self, tensor: Tensor) -> int:
        """Return the place of a tensor in ``specs``.

        Raises:
            WireError: If it is too much.
        """
        index = self._seen.get(id(tensor))
        if index is None:
            index = self._seen[id(tensor)] = len(self.specs)
            if index >= MAX_TENSORS:
                raise WireError("the value holds too many tensors to be handed over")
            self.specs.append(self._spec(tensor, index))
        return index

    def _spec(self, tensor: Tensor, index: int) -> dict[str, Any]:
        shape = list(tensor.shape)
        spec: dict[str, Any] = {"dtype": _NAMES[tensor.dtype], "shape": shape, "grad": tensor.requires_grad}
        if tensor.is_meta:
            spec["meta"] = True
            return spec
        plain = tensor.detach()
        if plain.is_conj() or plain.is_neg():
            plain = plain.resolve_conj().resolve_neg()
        if not plain.is_contiguous():
            if self._strided and plain.numel():
                spec["stride"] = list(plain.stride())
                plain = plain.as_strided((_extent(shape, spec["stride"]),), (1,), plain.storage_offset())
            else:
                self._check_size(plain)  # before it is copied
                plain = plain.contiguous()
        self._check_size(plain)
        self._data[index] = ctypes.string_at(plain.data_ptr(), plain.numel() * plain.element_size())
        self._size += len(self._data[index])
        return spec

    def _check_size(self, tensor: Tensor) -> None:
        if self._size + tensor.numel() * tensor.element_size() > MAX_BYTES:
            raise WireError(f"a tensor of shape {tuple(tensor.shape)} is too large to be handed over")

    def block(self) -> bytes:
        """Return all numbers in the format of safetensors; its own ``save`` takes ten times as long."""
        if not self._data:
            return b""
        header, offsets, _ = _lay_out(self.specs)
        return b"".join((header, *(self._data[index] for index in offsets)))


def read_tensors(specs: Any, memory: bytearray, *, trusted: bool) -> list[Tensor]:
    """Return the tensors that lie in ``memory``; what is written into them later is written there.

    Args:
        specs: As they came.
        memory: The block.
        trusted: Whether strides are followed. Otherwise every tensor is contiguous and of its own.

    Raises:
        WireError: If specs and block do not fit. (What is no spec at all may raise anything that a dict or list can.)
    """
    if len(specs) > MAX_TENSORS:
        raise WireError("too many tensors")
    for spec in specs:
        _check_spec(spec, trusted)
    header, offsets, end = _lay_out(specs)
    if len(memory) != (len(header) + end if offsets else 0) or (offsets and not memory.startswith(header)):
        raise WireError("tensor data of another length, shape or dtype than was announced")
    return [_tensor(spec, memory, len(header) + offsets.get(i, 0), trusted) for i, spec in enumerate(specs)]


def _check_spec(spec: dict[str, Any], trusted: bool) -> None:
    shape = spec["shape"]
    if spec["dtype"] not in DTYPES or type(shape) is not list or len(shape) > MAX_DIMS:
        raise WireError("a tensor of an unknown dtype or an impossible shape")
    if any(type(size) is not int or not 0 <= size <= MAX_ELEMENTS for size in shape):
        raise WireError("a tensor of an impossible shape")
    if "stride" in spec and not trusted:
        raise WireError("a tensor with strides of its own")
    if spec.get("meta") and math.prod(max(size, 1) for size in shape) > MAX_ELEMENTS:
        raise WireError("a meta tensor of an absurd size")


def _tensor(spec: dict[str, Any], memory: bytearray, offset: int, trusted: bool) -> Tensor:
    shape, dtype, strides = spec["shape"], DTYPES[spec["dtype"]], spec.get("stride")
    count = math.prod(shape) if strides is None else _extent(shape, strides)
    if spec.get("meta"):
        tensor = torch.empty(shape, dtype=dtype, device="meta")
    elif not count:
        tensor = torch.empty(shape, dtype=dtype)
    elif dtype is torch.bool and not trusted:  # other bytes than 0 and 1 would be true and yet not equal
        tensor = (torch.frombuffer(memory, dtype=torch.uint8, count=count, offset=offset) != 0).view(shape)
    else:
        flat = torch.frombuffer(memory, dtype=dtype, count=count, offset=offset)
        tensor = flat.view(shape) if strides is None else flat.as_strided(shape, strides)
    if spec["grad"] and (dtype.is_floating_point or dtype.is_complex):
        tensor.requires_grad_()
    return tensor


def _lay_out(specs: Sequence[dict[str, Any]]) -> tuple[bytes, dict[int, int], int]:
    """Return how the block of these tensors begins, where each of them lies behind that, and where the last ends.

    Those of the widest numbers come first, so that each lies where its numbers can be read in place.
    """
    parts = []
    for index, spec in enumerate(specs):
        if not spec.get("meta"):
            shape = (_extent(spec["shape"], spec["stride"]),) if "stride" in spec else tuple(spec["shape"])
            parts.append((_WIDTHS[spec["dtype"]], index, spec["dtype"], shape))
    return (_lay_out_again if len(parts) <= MAX_KEPT else _lay_out_parts)(tuple(parts))


def _lay_out_parts(parts: tuple[tuple[int, int, str, tuple[int, ...]], ...]) -> tuple[bytes, dict[int, int], int]:
    entries: list[str] = []
    offsets: dict[int, int] = {}
    end = 0
    for width, index, dtype, shape in sorted(parts, key=lambda part: -part[0]):
        begin = offsets[index] = end
        end += width * math.prod(shape)
        real = _REAL.get(dtype)
        sizes = ",".join(map(str, (*shape, 2) if real else shape))
        entries.append(f'"{index}":{{"dtype":"{real or dtype}","shape":[{sizes}],"data_offsets":[{begin},{end}]}}')
    text = f"{{{','.join(entries)}}}"
    text += " " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text.encode(), offsets, end


_lay_out_again = lru_cache(maxsize=1024)(_lay_out_parts)  # most suites use a few shapes again and again


def _extent(shape: Sequence[int], strides: Sequence[int]) -> int:
    """Return how many elements lie from a view's first to its last."""
    return 1 + sum((size - 1) * step for size, step in zip(shape, strides, strict=True))
