"""Whole frames over a pair of byte streams."""

from __future__ import annotations

import struct
from typing import BinaryIO

from grader.candidate.wire import MAX_FRAME, WireError

_LENGTH = struct.Struct("<I")


class Closed(Exception):  # noqa: N818 (not an error by itself: the other side is gone)
    """The other side has closed the channel."""


class Channel:
    """Whole frames over two byte streams; blocks until a frame is there or the stream ends."""

    def __init__(self, reader: BinaryIO, writer: BinaryIO) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, frame: bytes) -> None:
        """Write one frame.

        Raises:
            Closed: If nobody reads any more.
        """
        try:
            self._writer.write(_LENGTH.pack(len(frame)) + frame)  # in one piece: the reader wakes up once
            self._writer.flush()
        except (OSError, ValueError):
            raise Closed from None

    def receive(self) -> bytes:
        """Read one frame.

        Raises:
            Closed: If the stream ends, in the middle of a frame too.
            WireError: If the frame is announced as longer than ``MAX_FRAME``.
        """
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size))
        if length > MAX_FRAME:
            raise WireError(f"a frame of {length} bytes was announced")
        return self._read(length)

    def _read(self, size: int) -> bytes:
        try:
            data = self._reader.read(size)
        except (OSError, ValueError):
            raise Closed from None
        if data is None or len(data) < size:
            raise Closed
        return data

    def close(self) -> None:
        """Close both streams; what was buffered for a dead reader is dropped."""
        for stream in (self._writer, self._reader):
            try:
                stream.close()
            except OSError:
                continue
