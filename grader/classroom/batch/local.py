"""Grading on this machine: one grader that keeps every core busy, and is started anew if it dies.

(One grader with a judge per core was measured against one grader per core: the same speed, and half the memory, since
its judges share what is loaded.)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import TracebackType

from grader.classroom.batch.tasks import DIED_TWICE, Task, weakest
from grader.errors import EngineError
from grader.judge.client import Grader
from grader.judge.jobs import FileJob
from grader.model import ExerciseResult, Sandbox
from grader.submission import is_notebook


class Local:
    """Judges on this machine; a context manager.

    Args:
        jobs: How many submissions are judged at a time; by default as many as there are processors.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self._jobs = jobs
        self._grader = Grader(jobs)
        self._weakest: Sandbox | None = None

    def __enter__(self) -> Local:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the grader."""
        self._grader.close()

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of Python and torch."""
        return self._grader.versions

    @property
    def sandbox(self) -> Sandbox:
        """The weakest that held a learner's code so far, or would hold it."""
        now = self._grader.sandbox
        self._weakest = now if self._weakest is None else weakest(self._weakest, now)
        return self._weakest

    def grade(self, tasks: Iterator[Task], seed: int) -> Iterator[tuple[Task, ExerciseResult]]:
        """Yield each task with its result, as they are finished.

        If the grader dies, the tasks at hand are tried again, each of them alone: the one to blame costs no other.

        Raises:
            EngineError: If the grader cannot be started.
        """
        at_hand: dict[int, Task] = {}

        def jobs() -> Iterator[FileJob]:
            for task in tasks:
                job = _job(task, seed)
                at_hand[id(job)] = task
                yield job

        while True:
            try:
                for job, result in self._grader.judge(jobs()):
                    yield at_hand.pop(id(job)), result
                return
            except EngineError:
                self._start_again()
            for task in list(at_hand.values()):
                yield task, self._grade_alone(task, seed)
            at_hand.clear()

    def _grade_alone(self, task: Task, seed: int) -> ExerciseResult:
        try:
            ((_, result),) = self._grader.judge([_job(task, seed)])
        except EngineError:
            self._start_again()
            return ExerciseResult.unrunnable(task.exercise, task.entry.file, DIED_TWICE)
        return result

    def _start_again(self) -> None:
        self._grader.close()
        self._grader = Grader(self._jobs)
        _ = self.sandbox  # now: while it works, it cannot be asked


def _job(task: Task, seed: int) -> FileJob:
    return FileJob(task.exercise, task.data, task.entry.file, is_notebook(task.entry.path), seed)
