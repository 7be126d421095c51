"""Several frames as one: what the judge asks in one go, and what the candidate answers to all of it."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from grader.candidate.tensors import WireError

_HEAD = struct.Struct("<qI")  # number of the envelope, count of its frames
_LENGTH = struct.Struct("<I")


def seal(number: int, frames: Sequence[bytes]) -> bytes:
    """Return frames in an envelope.

    Args:
        number: By which an answer shows what it is an answer to.
        frames: What is in it.
    """
    parts = [_HEAD.pack(number, len(frames))]
    for frame in frames:
        parts += (_LENGTH.pack(len(frame)), frame)
    return b"".join(parts)


def unseal(data: bytes, wanted: int | None = None) -> tuple[int, list[bytes]]:
    """Return number and frames of an envelope.

    Args:
        data: The envelope.
        wanted: How many frames must be in it, if that is known: millions of empty ones would take a minute.

    Raises:
        WireError: If it is none.
    """
    if len(data) < _HEAD.size:
        raise WireError("an envelope that is too short")
    number, count = _HEAD.unpack_from(data)
    if wanted not in (None, count):
        raise WireError("an envelope with more or fewer frames than were asked for")
    place, frames = _HEAD.size, []
    for _ in range(count):
        if place + _LENGTH.size > len(data):
            raise WireError("an envelope with fewer frames than it says")
        (length,) = _LENGTH.unpack_from(data, place)
        place += _LENGTH.size
        frames.append(data[place : place + length])
        place += length
    if place != len(data):
        raise WireError("an envelope of another length than its frames'")
    return number, frames
