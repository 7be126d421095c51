"""Grading on a Dask cluster: files go to its workers as they were handed in, results come back.

A worker that dies costs time alone: the scheduler gives its work to another one, and a result counts when it arrives
here, once.
"""

from __future__ import annotations

import logging
import time
import uuid
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

import grader
from grader.candidate.sandbox import tier
from grader.classroom.batch.remote import describe, grade_file
from grader.classroom.batch.tasks import DIED_TWICE, Task, digest_of_suite, weakest
from grader.errors import EngineError, UsageError
from grader.model import Exercise, ExerciseResult, Sandbox
from grader.submission import is_notebook

CONNECT_SECONDS = 10.0
WORKER_SECONDS = 60.0  # without any worker
LOOK_SECONDS = 5.0  # between two looks at whether the cluster is still there
AHEAD = 2  # files under way for each thread of a worker: one in hand, one waiting
_RESUME = "What was graded is kept: go on by `--resume`."


class Cluster:
    """The workers of a Dask cluster.

    Args:
        address: The scheduler's, such as ``tcp://host:8786``.
        exercises: Those of the assignment; the workers must have the same answer keys.

    Raises:
        UsageError: If dask.distributed is not installed, the scheduler is not there, it has no workers, or they have
            another version of the kit or other answer keys.
    """

    def __init__(self, address: str, exercises: Sequence[Exercise]) -> None:
        self._address = address
        self._suites = {exercise.slug: digest_of_suite(exercise.folder) for exercise in exercises}
        self._dask = _import_dask()
        self._client = self._connect()
        self._sandbox: Sandbox | None = None
        self._versions: dict[str, str] = {}
        try:
            self._check_workers()
        except BaseException:
            self.close()
            raise

    @property
    def sandbox(self) -> Sandbox:
        """The weakest of all workers."""
        return self._sandbox or Sandbox(tier(()), ())

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of Python and torch, the same on all workers."""
        return {name: version for name, version in self._versions.items() if name != "kit"}

    def close(self) -> None:
        """Leave the cluster, which then drops what it has not begun."""
        self._client.close(timeout=2)

    def grade(self, tasks: Iterator[Task], seed: int) -> Iterator[tuple[Task, ExerciseResult]]:
        """Yield each task with its result, as they are finished.

        Raises:
            EngineError: If the cluster goes away.
            UsageError: If a worker joins that has another kit.
        """
        under_way: dict[Any, Task] = {}
        while True:
            for task in tasks:
                under_way[self._submit(task, seed)] = task
                if len(under_way) >= self._room():
                    break
            if not under_way:
                return
            for future in self._wait(list(under_way)):
                task = under_way.pop(future)
                yield task, self._result(future, task)

    # --- at the beginning --------------------------------------------------------------------------------------------

    def _connect(self) -> Any:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return self._dask.Client(self._address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError, TypeError, TimeoutError):
            raise UsageError(
                f"There is no Dask scheduler at `{self._address}`. Start one by `dask scheduler` and give the address "
                "that it prints."
            ) from None

    def _check_workers(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=WORKER_SECONDS)
            said = self._client.run(describe, on_error="return")
        except TimeoutError:
            raise UsageError(
                f"The scheduler at `{self._address}` has no workers. Start some by "
                f"`dask worker {self._address} --nthreads 1 --nworkers N`."
            ) from None
        for worker, facts in sorted(said.items()):
            if not isinstance(facts, dict):
                raise UsageError(
                    f"The worker `{worker}` cannot grade ({type(facts).__name__}). Install this kit there, "
                    f"version {grader.__version__}, with its answer keys."
                )
            self._check(
                f"The worker `{worker}`", facts, {slug: facts.get("suites", {}).get(slug) for slug in self._suites}
            )

    def _check(self, who: str, facts: Mapping[str, Any], suites: Mapping[str, Any]) -> None:
        """Refuse a worker whose results could differ from the others'."""
        if "unfit" in facts:
            raise UsageError(f"{who} cannot grade: {facts['unfit']}")
        wanted = self._versions or {**facts["versions"], "kit": grader.__version__}
        for name, version in wanted.items():
            if facts["versions"].get(name) != version:
                raise UsageError(
                    f"{who} has {name} {facts['versions'].get(name)}, and {version} is asked for: "
                    "results of different versions are not mixed. Install the same everywhere."
                )
        for slug, suite in suites.items():
            if suite != self._suites[slug]:
                raise UsageError(
                    f"{who} has another answer key for `{slug}` than this machine. Install the same kit everywhere."
                )
        self._versions = wanted
        now = Sandbox(tier(facts["layers"]), tuple(facts["layers"]))
        self._sandbox = now if self._sandbox is None else weakest(self._sandbox, now)

    # --- at work -----------------------------------------------------------------------------------------------------

    def _room(self) -> int:
        """Return how many files may be under way."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, AHEAD * sum(threads.values()))

    def _submit(self, task: Task, seed: int) -> Any:
        file = task.entry.file
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the size of a notebook with pictures
            return self._client.submit(
                grade_file, task.exercise.slug, task.data, file, is_notebook(task.entry.path), seed,
                key=f"grade-{uuid.uuid4().hex}", pure=False,
            )  # fmt: skip

    def _wait(self, futures: list[Any]) -> set[Any]:
        """Return those that are finished, at least one."""
        alone_since = None
        while True:
            try:
                with self._client.as_current():
                    waited = self._dask.wait(futures, timeout=LOOK_SECONDS, return_when="FIRST_COMPLETED")
            except TimeoutError:
                there = self._client.status == "running" and bool(self._client.scheduler_info()["workers"])
                alone_since = None if there else alone_since or time.monotonic()
                if alone_since is not None and time.monotonic() > alone_since + WORKER_SECONDS:
                    raise EngineError(f"The cluster at `{self._address}` has no workers any more. {_RESUME}") from None
            else:
                done: set[Any] = waited.done
                return done

    def _result(self, future: Any, task: Task) -> ExerciseResult:
        try:
            answer = future.result()
        except self._dask.KilledWorker:  # several workers, one after the other
            return ExerciseResult.unrunnable(task.exercise, task.entry.file, DIED_TWICE)
        except Exception as error:
            raise EngineError(f"The cluster at `{self._address}` failed ({type(error).__name__}). {_RESUME}") from error
        self._check("A worker that joined meanwhile", answer, {task.exercise.slug: answer.get("suite")})
        return ExerciseResult.from_dict(answer["result"])


def _import_dask() -> ModuleType:
    try:
        import distributed  # noqa: PLC0415 (an extra, and slow to import)
    except ImportError:
        raise UsageError(
            "`--scheduler` needs dask.distributed. Install it by `pip install 'transformer-interview-kit[cluster]'`."
        ) from None
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is said in sentences
    return distributed
