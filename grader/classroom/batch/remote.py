"""What a worker of a cluster does: it keeps a grader alive, and says of every result what it was made with.

The answer keys are the worker's own, from the kit that is installed there; none ever crosses the network.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from queue import Empty, LifoQueue
from typing import Any

import grader
from grader.bank import load_exercises
from grader.classroom.batch.tasks import DIED_TWICE, digest_of_suite
from grader.errors import EngineError, KitError
from grader.judge.client import Grader
from grader.judge.jobs import FileJob
from grader.model import Exercise, ExerciseResult


def describe() -> dict[str, Any]:
    """Return what this worker grades with (versions, layers, digests of the answer keys), or ``unfit``: why not."""
    try:
        return _with_a_grader(_described) | {"suites": {slug: _suite(slug) for slug in _exercises()}}
    except KitError as error:
        return {"unfit": str(error)}


def grade_file(slug: str, data: bytes, file: str, notebook: bool, seed: int) -> dict[str, Any]:
    """Grade one file.

    Returns:
        The result as JSON holds it, with versions, layers and the digest of the answer key; or ``unfit``: why not.
    """
    try:
        job = FileJob(_exercises()[slug], data, file, notebook, seed)
        try:
            return _with_a_grader(lambda judge: _graded(judge, job))
        except _Died:
            pass
        try:
            return _with_a_grader(lambda judge: _graded(judge, job))
        except _Died:  # and with the next one, other files are graded
            result = ExerciseResult.unrunnable(job.exercise, file, DIED_TWICE)
            return _with_a_grader(_described) | {"result": result.to_dict(), "suite": _suite(slug)}
    except KitError as error:
        return {"unfit": str(error)}


class _Died(Exception):  # noqa: N818 (what happened to the grader)
    """The grader died while it judged."""


def _with_a_grader(do: Callable[[Grader], dict[str, Any]]) -> dict[str, Any]:
    """Lend a grader; one that has died is not lent again."""
    judge = _take()
    try:
        done = do(judge)
    except BaseException:
        judge.close()
        raise
    _idle().put(judge)
    return done


def _described(judge: Grader) -> dict[str, Any]:
    versions = {"kit": grader.__version__, **judge.versions}
    return {"versions": versions, "layers": list(judge.sandbox.layers)}


def _graded(judge: Grader, job: FileJob) -> dict[str, Any]:
    _ = judge.sandbox  # raises if there is no grader to be had on this machine
    try:
        ((_, result),) = judge.judge([job])
    except EngineError:
        raise _Died from None
    return _described(judge) | {"result": result.to_dict(), "suite": _suite(job.exercise.slug)}


def _take() -> Grader:
    """Return a grader that has nothing to do; a worker with several threads comes to have one for each."""
    try:
        return _idle().get_nowait()
    except Empty:
        return Grader(jobs=1)


@cache
def _idle() -> LifoQueue[Grader]:
    return LifoQueue()


@cache
def _exercises() -> dict[str, Exercise]:
    return {exercise.slug: exercise for exercise in load_exercises()}


@cache
def _suite(slug: str) -> str:
    return digest_of_suite(_exercises()[slug].folder)
