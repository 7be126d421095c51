"""Frames that cross between judge and candidate: a JSON header and tensors as safetensors bytes. No pickle.

A frame is ``<u32 total length> <u32 header length> <header> <safetensors>``. The header holds the message, a tree of
plain values in which everything that JSON does not know is ``{"t": type, "v": ...}``; a tensor is an index into the
header's list of tensors. The judge unpacks with ``trusted=False``: sizes, depth, dtypes and element counts are looked
at before anything is built, and whatever breaks a rule is a ``WireError``.
"""

from __future__ import annotations

import ctypes
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import safetensors
import torch
from torch import Tensor, nn

MAX_FRAME = 256 * 2**20  # bytes
MAX_HEADER = 4 * 2**20  # bytes
MAX_DEPTH = 24
MAX_NODES = 200_000
MAX_TENSORS = 10_000
MAX_DIMS = 12
MAX_ELEMENTS = 2**40  # of a meta tensor, which takes no memory

_LENGTH = struct.Struct("<I")
_DTYPES = {
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
_BY_NAME = {str(dtype): dtype for dtype in _DTYPES.values()}
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_REAL = {"C64": "F32", "C128": "F64"}  # complex numbers travel as pairs of real ones
_PLAIN = frozenset((type(None), bool, float, str))  # cross as they are
_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)  # the packer has limited the depth


class WireError(Exception):
    """A frame that breaks the rules, or a value that cannot cross."""


@dataclass(frozen=True)
class Opaque:
    """Stands on the judge's side for a value that does not cross: only the name of its type does."""

    type_name: str


@dataclass(frozen=True)
class ModuleRef:
    """A module that lives on the candidate's side."""

    number: int


# --- packing ---------------------------------------------------------------------------------------------------------


class _Packer:
    """Turns one message into a header, remembering tensors by identity, so that one passed twice arrives as one."""

    def __init__(self, strided: bool, module_ref: Callable[[nn.Module], int] | None) -> None:
        self.strided = strided
        self.module_ref = module_ref
        self.specs: list[dict[str, Any]] = []
        self.data: list[bytes] = []
        self.table: dict[str, dict[str, Any]] = {}  # the header of the safetensors
        self._seen: dict[int, int] = {}
        self._end = 0  # bytes of data so far
        self._nodes = 0

    def value(self, value: object, depth: int = 0) -> Any:
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise WireError("the value is nested too deeply or too large to be handed over")
        if type(value) in _PLAIN:
            return value
        if isinstance(value, Tensor):
            return self.tensor(value)
        if isinstance(value, (int, float)):
            return float(value) if isinstance(value, float) else _small(int(value))
        if isinstance(value, (list, tuple)):
            kind = "list" if isinstance(value, list) else "tuple"
            return {"t": kind, "v": [self.value(item, depth + 1) for item in value]}
        if isinstance(value, str):
            return str(value)
        if isinstance(value, Mapping):
            pairs = [[self.value(key, depth + 1), self.value(item, depth + 1)] for key, item in value.items()]
            return {"t": "dict", "v": pairs}
        if isinstance(value, (torch.dtype, torch.device)):
            return {"t": type(value).__name__, "v": str(value).removeprefix("torch.")}
        if isinstance(value, ModuleRef):
            return {"t": "module", "v": value.number}
        if isinstance(value, nn.Module) and self.module_ref is not None:
            return {"t": "module", "v": self.module_ref(value)}
        return {"t": "object", "v": (value.type_name if isinstance(value, Opaque) else type(value).__name__)[:80]}

    def tensor(self, tensor: Tensor) -> Any:
        if tensor.is_nested:
            return {"t": "object", "v": "nested tensor"}
        if tensor.layout != torch.strided or tensor.device.type not in ("cpu", "meta") or tensor.is_quantized:
            strange = tensor.layout if tensor.layout != torch.strided else tensor.device.type
            what = "quantized" if tensor.is_quantized else str(strange).removeprefix("torch.")
            return {"t": "object", "v": f"{what} tensor"}
        if tensor.dtype not in _NAMES:
            return {"t": "object", "v": f"{tensor.dtype} tensor".removeprefix("torch.")}
        index = self._seen.get(id(tensor))
        if index is None:
            index = len(self.specs)
            if index >= MAX_TENSORS:
                raise WireError("the value holds too many tensors to be handed over")
            self._seen[id(tensor)] = index
            self.specs.append(self._spec(tensor, str(index)))
        return {"t": "tensor", "v": index}

    def _spec(self, tensor: Tensor, key: str) -> dict[str, Any]:
        shape = list(tensor.shape)
        spec: dict[str, Any] = {"dtype": _NAMES[tensor.dtype], "shape": shape, "grad": tensor.requires_grad}
        if tensor.device.type == "meta":
            spec["meta"] = True
            return spec
        plain = tensor.detach().resolve_conj().resolve_neg()
        if self.strided and not plain.is_contiguous() and plain.numel():
            spec["stride"] = list(plain.stride())
            extent = 1 + sum((size - 1) * step for size, step in zip(plain.shape, plain.stride(), strict=True))
            plain = plain.as_strided((extent,), (1,), plain.storage_offset())
        size = plain.numel() * plain.element_size()
        if self._end + size > MAX_FRAME - MAX_HEADER:
            raise WireError(f"a tensor of shape {tuple(shape)} is too large to be handed over")
        plain = torch.view_as_real(plain) if plain.is_complex() else plain
        plain = plain.contiguous()
        offsets = [self._end, self._end + size]
        self.table[key] = {"dtype": _NAMES[plain.dtype], "shape": list(plain.shape), "data_offsets": offsets}
        self.data.append(ctypes.string_at(plain.data_ptr(), size))
        self._end += size
        return spec

    def safetensors(self) -> bytes:
        """Return all tensors in the format of safetensors; its own ``save`` takes ten times as long."""
        if not self.table:
            return b""
        header = _to_json(self.table)
        return b"".join((struct.pack("<Q", len(header)), header, *self.data))


def pack(
    message: Mapping[str, object], *, strided: bool = False, module_ref: Callable[[nn.Module], int] | None = None
) -> bytes:
    """Return ``message`` as the bytes of one frame.

    Args:
        message: Plain values, tensors (CPU or meta, strided layout), dtypes, devices, modules; anything else crosses as
            ``Opaque``.
        strided: Whether strides (and the elements between them) are kept: the judge keeps them, the candidate does not.
        module_ref: Gives a module its number; without it modules are opaque.

    Raises:
        WireError: If the message is too large or nested too deeply.
    """
    packer = _Packer(strided, module_ref)
    tree = packer.value(message)
    header, body = _to_json({"tensors": packer.specs, "message": tree}), packer.safetensors()
    if len(header) > MAX_HEADER or len(header) + len(body) + 4 > MAX_FRAME:
        raise WireError("the value is too large to be handed over")
    return b"".join((_LENGTH.pack(len(header)), header, body))


def _to_json(value: object) -> bytes:
    return _encoder.encode(value).encode()


# --- unpacking -------------------------------------------------------------------------------------------------------


def unpack(frame: bytes, *, trusted: bool) -> dict[str, Any]:
    """Return the message in ``frame``.

    Args:
        frame: What ``Channel.receive`` returned.
        trusted: The judge sent it: strides are followed. Otherwise every tensor is contiguous and of its own.

    Raises:
        WireError: If anything in the frame breaks a rule.
    """
    try:
        return _unpack(frame, trusted)
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError, struct.error) as error:
        raise WireError(f"not a frame ({type(error).__name__})") from None
    except safetensors.SafetensorError:
        raise WireError("tensor data that is no safetensors") from None


def _unpack(frame: bytes, trusted: bool) -> dict[str, Any]:
    (length,) = _LENGTH.unpack_from(frame)
    if length > MAX_HEADER or length + 4 > len(frame):
        raise WireError("a header of a wrong length")
    header = json.loads(frame[4 : 4 + length])
    specs = header["tensors"]
    if len(specs) > MAX_TENSORS:
        raise WireError("too many tensors")
    body = frame[4 + length :]
    if body and struct.unpack_from("<Q", body)[0] > MAX_HEADER:
        raise WireError("tensor data with a header of a wrong length")
    data = dict(safetensors.deserialize(body)) if body else {}  # type: ignore[no-untyped-call]
    tensors = [_tensor(spec, data.get(str(index)), trusted) for index, spec in enumerate(specs)]
    message = _value(header["message"], tensors, [0], 0)
    if not isinstance(message, dict):
        raise WireError("not a message")
    return message


def _tensor(spec: dict[str, Any], data: dict[str, Any] | None, trusted: bool) -> Tensor:
    shape = [int(size) for size in spec["shape"]]
    dtype = _DTYPES[spec["dtype"]]
    if len(shape) > MAX_DIMS or any(size < 0 for size in shape):
        raise WireError("a tensor of an impossible shape")
    count = 1
    for size in shape:
        count *= max(size, 1)
    if spec.get("meta"):
        if count > MAX_ELEMENTS:
            raise WireError("a meta tensor of an absurd size")
        tensor = torch.empty(shape, dtype=dtype, device="meta")
        return _with_grad(tensor, spec)
    if data is None:
        raise WireError("a tensor without data")
    strides = spec.get("stride")
    if strides is not None and not trusted:
        raise WireError("a tensor with strides of its own")
    real = _REAL.get(spec["dtype"])
    stored = [*shape, 2] if real else shape
    if data["dtype"] != (real or spec["dtype"]) or (strides is None and data["shape"] != stored):
        raise WireError("a tensor whose data is of another shape or dtype")
    raw, stored_dtype = data["data"], _DTYPES[data["dtype"]]
    flat = torch.frombuffer(raw, dtype=stored_dtype) if len(raw) else torch.empty(0, dtype=stored_dtype)
    if real:
        flat = torch.view_as_complex(flat.view(-1, 2))
    elif dtype is torch.bool:
        flat = flat.view(torch.uint8) != 0  # other bytes than 0 and 1 would be true and yet not equal
    tensor = flat.view(shape) if strides is None else flat.as_strided(shape, strides)
    return _with_grad(tensor, spec)


def _with_grad(tensor: Tensor, spec: dict[str, Any]) -> Tensor:
    return tensor.requires_grad_() if spec["grad"] and (tensor.is_floating_point() or tensor.is_complex()) else tensor


def _value(node: Any, tensors: list[Tensor], count: list[int], depth: int) -> Any:
    count[0] += 1
    if depth > MAX_DEPTH + 1 or count[0] > MAX_NODES:
        raise WireError("a message nested too deeply or too large")
    if type(node) in _PLAIN:
        return node
    if type(node) is int:
        return _small(node)
    kind, value = node["t"], node["v"]
    if kind == "tensor":
        if not isinstance(value, int) or not 0 <= value < len(tensors):
            raise WireError("a tensor that is not there")
        return tensors[value]
    if kind in ("list", "tuple"):
        items = [_value(item, tensors, count, depth + 1) for item in value]
        return items if kind == "list" else tuple(items)
    if kind == "dict":
        pairs = [
            (_value(key, tensors, count, depth + 1), _value(item, tensors, count, depth + 1)) for key, item in value
        ]
        return dict(pairs)
    return _leaf(kind, value)


def _small(number: int) -> int:
    """Refuse what no 64 bits hold: keys of a dict that all have one hash would keep the judge busy for minutes."""
    if abs(number) >= 2**64:
        raise WireError("an integer of more than 64 bits")
    return number


def _leaf(kind: str, value: Any) -> object:
    if kind == "module":
        return ModuleRef(int(value))
    if kind == "dtype" and f"torch.{value}" in _BY_NAME:
        return _BY_NAME[f"torch.{value}"]
    if kind == "device":
        return torch.device(str(value))
    if kind == "object":
        return Opaque(str(value)[:80])
    raise WireError("a value of an unknown type")
