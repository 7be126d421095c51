"""What the command line sends to the server, and how: frozen jobs, pickled in frames. Imports no torch."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from grader.model import Exercise, Submission

if TYPE_CHECKING:
    from grader.judge.candidates import Launcher

_LENGTH = struct.Struct("<I")


class Job(Protocol):
    """A piece of work for a judge."""

    def __call__(self, launcher: Launcher, on_check: Callable[[int], None]) -> Any:
        """Do it, in a judge's process."""


@dataclass(frozen=True)
class GradeJob:
    """Grade one submission.

    Attributes:
        exercise: What it answers.
        submission: The learner's work.
        seed: The run's seed, from which all inputs follow.
    """

    exercise: Exercise
    submission: Submission
    seed: int

    def __call__(self, launcher: Launcher, on_check: Callable[[int], None]) -> Any:
        """Return the result and the sandbox's layers."""
        from grader.judge.grading import grade  # noqa: PLC0415 (the command line must not import torch)

        return grade(self, launcher, on_check)


@dataclass(frozen=True)
class LayersJob:
    """Start a candidate only to see what holds it."""

    def __call__(self, launcher: Launcher, on_check: Callable[[int], None]) -> Any:
        """Return the sandbox's layers."""
        candidate = launcher.launch()
        candidate.close()
        return candidate.layers


def send(stream: BinaryIO, value: object) -> None:
    """Write one frame."""
    data = pickle.dumps(value)
    stream.write(_LENGTH.pack(len(data)) + data)
    stream.flush()


def receive(stream: BinaryIO) -> Any:
    """Read one frame; nothing of the next one is taken from the stream.

    Raises:
        EOFError: If the stream ends.
    """
    (length,) = _LENGTH.unpack(_exactly(stream, _LENGTH.size))
    return pickle.loads(_exactly(stream, length))  # noqa: S301 (both ends are ours; no learner's code is near)


def _exactly(stream: BinaryIO, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = stream.read(size - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
