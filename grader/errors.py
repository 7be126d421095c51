"""Everything that can go wrong in a way a person should read about.

::

    KitError                 its text is one or two plain sentences: what is wrong, and the next step
    ├── UsageError           an unknown slug, a missing file                                   (exit code 2)
    ├── SubmissionError      a submission that cannot be read or run at all                    (exit code 3)
    ├── SandboxError         the sandbox is below what was asked                               (exit code 4)
    ├── AnswerKeyError       an author's mistake in an exercise's folder                       (exit code 1)
    └── EngineError          the judge's own process failed; no verdict was made               (exit code 3)
"""

from __future__ import annotations


class KitError(Exception):
    """Base of the kit's errors; ``str(error)`` is fit to be shown as it stands."""

    exit_code = 1


class UsageError(KitError):
    """The command was called with something that does not exist or does not fit."""

    exit_code = 2


class SubmissionError(KitError):
    """A submission could not be read or run at all.

    Args:
        message: What is wrong and what to do next.
        line: Line of the submission (from 1) that the message is about, if there is one.
    """

    exit_code = 3

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message)
        self.line = line


class SandboxError(KitError):
    """The sandbox that this machine can give is weaker than the one asked for."""

    exit_code = 4


class AnswerKeyError(KitError):
    """An exercise's folder under ``solutions/`` breaks the rules that authors follow."""


class EngineError(KitError):
    """The grader's own process ended or answered nonsense, so there is no verdict."""

    exit_code = 3
