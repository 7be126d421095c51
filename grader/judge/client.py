"""The command line's end of the server: starts it, keeps it busy, hands out results. Imports no torch."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, BinaryIO, TypeVar

import grader
from grader.bank import find_bank
from grader.candidate import sandbox
from grader.errors import EngineError
from grader.judge.jobs import FileJob, GradeJob, Job, LayersJob, receive, send
from grader.model import Exercise, ExerciseResult, Report, Sandbox, Submission

ToGrade = TypeVar("ToGrade", GradeJob, FileJob)
AnyJob = TypeVar("AnyJob", bound=Job)


class Grader:
    """A running server, as a context manager; it starts at once and imports torch while the caller goes on.

    Args:
        jobs: How many submissions are judged at a time; by default as many as there are processors.

    Attributes:
        on_check: Called with slug, checks done and checks in all while an exercise is being graded.
    """

    def __init__(self, jobs: int | None = None) -> None:
        self.jobs = jobs or len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else jobs or 1
        self.on_check: Callable[[str, int, int], None] | None = None
        self._numbers = itertools.count()
        self._greeting: dict[str, Any] | None = None
        self._layers: tuple[str, ...] | None = None
        self._process = subprocess.Popen(  # noqa: S603 (our own interpreter and module)
            [sys.executable, "-P", "-m", "grader.judge.server", str(find_bank())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("GRADE_DEBUG") else subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the command line, which then ends the server
        )

    def __enter__(self) -> Grader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the server and, with it, every judge and candidate."""
        self._process.kill()
        self._process.wait()
        for stream in self._process.stdin, self._process.stdout:
            if stream is not None:
                try:
                    stream.close()
                except OSError:
                    continue

    # --- what it knows -----------------------------------------------------------------------------------------------

    @property
    def seed(self) -> int:
        """The seed that the server drew for this run, used unless another is given."""
        return int(self._hello()["seed"])

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of Python and torch."""
        versions: Mapping[str, str] = self._hello()["versions"]
        return versions

    @property
    def sandbox(self) -> Sandbox:
        """What held the candidates of this run, or would hold one."""
        if self._layers is None:
            self._layers = next(iter(self.run([LayersJob()])))[1]
        return Sandbox(sandbox.tier(self._layers), self._layers)

    def report(self, results: Sequence[ExerciseResult], seed: int | None = None) -> Report:
        """Return the report of a run over ``results``."""
        chosen = self.seed if seed is None else seed
        return Report(grader.__version__, chosen, self.sandbox, self.versions, tuple(results))

    # --- work --------------------------------------------------------------------------------------------------------

    def grade(self, work: Sequence[tuple[Exercise, Submission]], seed: int | None = None) -> Iterator[ExerciseResult]:
        """Yield the result of each pair, as they are finished; a judge that fails costs its own pair alone.

        Raises:
            EngineError: If the server is gone.
        """
        chosen = self.seed if seed is None else seed
        for _, result in self.judge(GradeJob(exercise, submission, chosen) for exercise, submission in work):
            yield result

    def judge(self, jobs: Iterable[ToGrade]) -> Iterator[tuple[ToGrade, ExerciseResult]]:
        """Yield each job with its result, as they are finished; a judge that fails costs its own job alone.

        Args:
            jobs: Taken one by one, each when there is nearly a judge for it.

        Raises:
            EngineError: If the server is gone.
        """
        for _, job, answer in self._answers(jobs):
            if "broken" in answer:
                yield job, ExerciseResult.unrunnable(job.exercise, job.file, answer["broken"])
                continue
            result, layers = answer["result"]
            if layers and (self._layers is None or _rank(layers) < _rank(self._layers)):
                self._layers = layers
            yield job, result

    def run(self, jobs: Sequence[Job]) -> Iterator[tuple[int, Any]]:
        """Yield index and result of each job, as they are finished, with up to ``self.jobs`` of them at work.

        Raises:
            EngineError: If the grader itself failed.
        """
        for index, _, answer in self._answers(jobs):
            if "broken" in answer:
                raise EngineError(f"{answer['broken']} Run the same command again; GRADE_DEBUG=1 shows more.")
            yield index, answer["result"]

    def _answers(self, jobs: Iterable[AnyJob]) -> Iterator[tuple[int, AnyJob, dict[str, Any]]]:
        self._hello()
        waiting = iter(enumerate(jobs))
        upcoming: list[tuple[int, AnyJob]] = []
        busy: dict[int, tuple[int, AnyJob]] = {}  # answers to an earlier run that was left halfway are passed over

        def look_ahead() -> None:
            upcoming.extend(itertools.islice(waiting, 1 - len(upcoming)))

        def start() -> None:
            look_ahead()
            for index, job in upcoming:
                number = next(self._numbers)
                busy[number] = index, job
                self._tell((number, job))
            upcoming.clear()

        for _ in range(self.jobs):
            start()
        while busy:
            look_ahead()  # while all judges are at work
            answer = self._hear()
            if answer["number"] not in busy:
                continue
            if "check" in answer:
                self._progress(busy[answer["number"]][1], answer["check"])
                continue
            index, job = busy.pop(answer["number"])
            start()
            yield index, job, answer

    def _progress(self, job: Job, done: int) -> None:
        if self.on_check is not None and isinstance(job, (GradeJob, FileJob)):
            self.on_check(job.exercise.slug, done, len(job.exercise.checks))

    def _hello(self) -> dict[str, Any]:
        if self._greeting is None:
            self._greeting = self._hear()
        return self._greeting

    def _tell(self, message: object) -> None:
        try:
            send(_stream(self._process.stdin), message)
        except OSError:
            raise EngineError(_GONE) from None

    def _hear(self) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = receive(_stream(self._process.stdout))
        except EOFError:
            raise EngineError(_GONE) from None
        return answer


def _environment() -> dict[str, str]:
    """Return what the server needs of the environment: a candidate could find the rest in its own memory."""
    kept = {name: value for name, value in os.environ.items() if name.startswith(_KEPT)}
    return kept | _OURS


_OURS = {
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",  # nothing is graded there, and PyTorch starts threads for it, which no fork survives
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",  # memory in huge pages: a fork takes half as long
}
_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "LC_",
    "TMP",
    "TEMP",
    "SYSTEMROOT",
    "PYTHON",
    "VIRTUAL_ENV",
    "LD_LIBRARY_PATH",
    "GRADE_",
)
_GONE = "The grader's own process has ended. Is PyTorch installed here? GRADE_DEBUG=1 shows what it said."
_TIERS = ("process", "partial", "full")


def _rank(layers: Sequence[str]) -> int:
    return _TIERS.index(sandbox.tier(layers))


def _stream(stream: Any) -> BinaryIO:
    binary: BinaryIO = stream
    return binary
