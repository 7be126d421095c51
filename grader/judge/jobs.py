"""What the command line sends to the server, and how: frozen jobs, pickled in frames. Imports no torch."""

from __future__ import annotations

import pickle
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from grader.errors import SubmissionError
from grader.model import Exercise, ExerciseResult, Submission
from grader.submission import parse_submission

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
        checked: Whether the source was checked by this very process.
    """

    exercise: Exercise
    submission: Submission
    seed: int
    checked: bool = False

    @property
    def file(self) -> str:
        """The name to show."""
        return self.submission.file

    def __call__(self, launcher: Launcher, on_check: Callable[[int], None]) -> Any:
        """Return the result and the sandbox's layers."""
        from grader.judge.grading import grade  # noqa: PLC0415 (the command line must not import torch)

        return grade(self, launcher, on_check)


@dataclass(frozen=True)
class FileJob:
    """Grade a file as it was handed in: read by the judge, so that one which chokes a parser costs only itself.

    Attributes:
        exercise: What it answers.
        data: The file's bytes.
        file: The name to show.
        notebook: Whether it is a notebook.
        seed: The run's seed.
    """

    exercise: Exercise
    data: bytes
    file: str
    notebook: bool
    seed: int

    def __call__(self, launcher: Launcher, on_check: Callable[[int], None]) -> Any:
        """Return the result and the sandbox's layers (none if nothing ran)."""
        try:
            submission = parse_submission(self.data, self.file, self.exercise.slug, notebook=self.notebook)
        except SubmissionError as error:
            return ExerciseResult.unrunnable(self.exercise, self.file, str(error), error.line), ()
        return GradeJob(self.exercise, submission, self.seed, checked=True)(launcher, on_check)


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
