"""Frames that cross between judge and candidate: a JSON header and tensors as safetensors bytes. No pickle.

A frame is ``<u32 total length> <u32 header length> <header> <safetensors>``. The header holds the message, a tree of
plain values in which everything that JSON does not know is ``{"t": type, "v": ...}``; a tensor is an index into the
header's list of tensors. The judge unpacks with ``trusted=False``: sizes, depth, dtypes and element counts are looked
at before anything is built, and whatever breaks a rule is a ``WireError``.
"""

from __future__ import annotations

import json
import struct
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from grader.candidate.tensors import DTYPES, TensorPacker, WireError, read_tensors, strange

__all__ = ["ModuleRef", "Opaque", "WireError", "pack", "unpack", "unpack_in_place"]

MAX_FRAME = 256 * 2**20  # bytes
MAX_HEADER = 4 * 2**20  # bytes
MAX_DEPTH = 24
MAX_NODES = 200_000
MAX_ALIKE = 64  # keys of a dict with one hash

_LENGTH = struct.Struct("<I")
_BY_NAME = {str(dtype): dtype for dtype in DTYPES.values()}
_PLAIN = frozenset((type(None), bool, float, str))  # cross as they are
_encoder = json.JSONEncoder(separators=(",", ":"), check_circular=False)  # the packer has limited the depth


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
    """Turns one message into a tree that JSON knows, and hands its tensors to ``TensorPacker``."""

    def __init__(self, strided: bool, module_ref: Callable[[nn.Module], int] | None) -> None:
        self.tensors = TensorPacker(strided)
        self.module_ref = module_ref
        self._nodes = 0

    def value(self, value: object, depth: int = 0) -> Any:
        if type(value) in _PLAIN:
            return value
        self._nodes += 1
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise WireError("the value is nested too deeply or too large to be handed over")
        if isinstance(value, Tensor):
            odd = strange(value)
            return {"t": "object", "v": odd} if odd else {"t": "tensor", "v": self.tensors.index(value)}
        if isinstance(value, (int, float)):
            return float(value) if isinstance(value, float) else _small(int(value))
        if isinstance(value, (list, tuple)):
            self._nodes += len(value)
            kind = "list" if isinstance(value, list) else "tuple"
            return {"t": kind, "v": [self.value(item, depth + 1) for item in value]}
        if isinstance(value, str):
            return str(value)
        if isinstance(value, Mapping):
            self._nodes += len(value)
            if all(type(key) is str for key in value):
                return {"t": "map", "v": {key: self.value(item, depth + 1) for key, item in value.items()}}
            pairs = [[self.value(key, depth + 1), self.value(item, depth + 1)] for key, item in value.items()]
            return {"t": "dict", "v": pairs}
        if isinstance(value, (torch.dtype, torch.device)):
            return {"t": type(value).__name__, "v": str(value).removeprefix("torch.")}
        if isinstance(value, ModuleRef):
            return {"t": "module", "v": value.number}
        if isinstance(value, nn.Module) and self.module_ref is not None:
            return {"t": "module", "v": self.module_ref(value)}
        return {"t": "object", "v": (value.type_name if isinstance(value, Opaque) else type(value).__name__)[:80]}


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
    header, body = _to_json({"tensors": packer.tensors.specs, "message": tree}), packer.tensors.block()
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
    return unpack_in_place(frame, trusted=trusted)[0]


def unpack_in_place(frame: bytes, *, trusted: bool) -> tuple[dict[str, Any], bytearray]:
    """Return the message in ``frame`` and the memory that its tensors share: as it came, the end of ``frame``.

    Raises:
        WireError: If anything in the frame breaks a rule.
    """
    try:
        return _unpack(frame, trusted)
    except WireError:
        raise
    except (ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError, struct.error) as error:
        raise WireError(f"not a frame ({type(error).__name__})") from None


def _unpack(frame: bytes, trusted: bool) -> tuple[dict[str, Any], bytearray]:
    (length,) = _LENGTH.unpack_from(frame)
    if length > MAX_HEADER or length + 4 > len(frame):
        raise WireError("a header of a wrong length")
    header = json.loads(frame[4 : 4 + length])
    memory = bytearray(memoryview(frame)[4 + length :])
    message = _Unpacker(read_tensors(header["tensors"], memory, trusted=trusted)).value(header["message"])
    if not isinstance(message, dict):
        raise WireError("not a message")
    return message, memory


class _Unpacker:
    """Builds what a header's tree describes."""

    def __init__(self, tensors: list[Tensor]) -> None:
        self.tensors = tensors
        self._nodes = 0

    def value(self, node: Any, depth: int = 0) -> Any:
        if type(node) in _PLAIN:
            return node
        if type(node) is int:
            return _small(node)
        kind, value = node["t"], node["v"]
        if kind == "tensor":
            if not isinstance(value, int) or not 0 <= value < len(self.tensors):
                raise WireError("a tensor that is not there")
            return self.tensors[value]
        if kind not in ("list", "tuple", "map", "dict"):
            return _leaf(kind, value)
        self._nodes += 1 + len(value)
        if depth > MAX_DEPTH or self._nodes > MAX_NODES:
            raise WireError("a message nested too deeply or too large")
        if kind == "map":
            return {str(key): self.value(item, depth + 1) for key, item in value.items()}
        if kind == "dict":
            entries = [(self.value(key, depth + 1), self.value(item, depth + 1)) for key, item in value]
            return dict(_spread(entries))
        items = [self.value(item, depth + 1) for item in value]
        return items if kind == "list" else tuple(items)


def _spread(entries: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Refuse keys of a dict that have one hash, as numbers or tuples can be made to: they cost the judge minutes."""
    if max(Counter(hash(key) for key, _ in entries).values(), default=0) > MAX_ALIKE:
        raise WireError("a dict whose keys are too much alike")
    return entries


def _small(number: int) -> int:
    """Refuse what no 64 bits hold: PyTorch has no such number, and arithmetic with long ones takes its time."""
    if abs(number) >= 2**64:
        raise WireError("an integer of more than 64 bits")
    return number


def _leaf(kind: str, value: Any) -> object:
    if kind == "module":
        return ModuleRef(_small(int(value)))
    if kind == "dtype" and f"torch.{value}" in _BY_NAME:
        return _BY_NAME[f"torch.{value}"]
    if kind == "device":
        return torch.device(str(value))
    if kind == "object":
        return Opaque(str(value)[:80])
    raise WireError("a value of an unknown type")
