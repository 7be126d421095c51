"""What there is to do for a class: which files are to be graded, and each of them as a piece of work."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from grader.classroom.batch.discover import Entry, Found
from grader.classroom.batch.store import TIERS, Known
from grader.classroom.model import Graded
from grader.errors import SubmissionError, UsageError
from grader.model import Exercise, ExerciseResult, Sandbox, Verdict
from grader.submission import MAX_NOTEBOOK, MAX_SOURCE, is_notebook, read_bytes

DIED_TWICE = "The grader's own process ended twice while it judged this file, which no file should bring about."
NOTHING = "Nothing was handed in for this exercise."


@dataclass(frozen=True)
class Task:
    """One file as it was handed in, to be graded.

    Attributes:
        entry: Whose it is.
        exercise: What it answers.
        data: Its bytes.
        suite: Digest of the answer key.
    """

    entry: Entry
    exercise: Exercise
    data: bytes
    suite: str

    def graded(self, result: ExerciseResult) -> Graded:
        """Return the result with what it was made from."""
        return Graded(self.entry.student, result, _digest(self.data), self.suite, self.entry.notes)


class Workers(Protocol):
    """Who grades: this machine or a cluster."""

    @property
    def sandbox(self) -> Sandbox:
        """The weakest that held a learner's code so far, or would hold it."""

    @property
    def versions(self) -> Mapping[str, str]:
        """Versions of Python and torch."""

    def grade(self, tasks: Iterator[Task], seed: int) -> Iterator[tuple[Task, ExerciseResult]]:
        """Yield each task with its result, as they are finished; tasks are taken one by one."""

    def close(self) -> None:
        """End them."""


@dataclass(frozen=True)
class Plan:
    """What is left to do.

    Attributes:
        todo: To be graded.
        kept: How many results stay as they are.
        changed: How many of ``todo`` were graded before, and their file is another now.
        outdated: How many of ``todo`` were graded before with another answer key, by slug.
        notes: Of the results that stay, as they are now.
    """

    todo: tuple[Entry, ...]
    kept: int = 0
    changed: int = 0
    outdated: tuple[tuple[str, int], ...] = ()
    notes: tuple[tuple[tuple[str, str], tuple[str, ...]], ...] = ()


def make_plan(found: Found, known: Mapping[tuple[str, str], Known], suites: Mapping[str, str]) -> Plan:
    """Compare what was handed in with what is graded already.

    Args:
        found: What the class handed in.
        known: What earlier results were made from.
        suites: Slug → digest of the answer key as it is now.
    """
    todo, kept, changed = [], [], 0
    outdated: dict[str, int] = {}
    for entry in found.entries:
        before = known.get((entry.student, entry.slug))
        if before is not None and before.file:
            if before.suite != suites[entry.slug]:
                outdated[entry.slug] = outdated.get(entry.slug, 0) + 1
            elif before != Known(entry.file, _digest_of(entry), before.suite):
                changed += 1
            else:
                kept.append(((entry.student, entry.slug), entry.notes))
                continue
        todo.append(entry)
    return Plan(tuple(todo), len(kept), changed, tuple(outdated.items()), tuple(kept))


def missing(found: Found, suites: Mapping[str, str]) -> Iterator[Graded]:
    """Yield a result for every student and exercise for which nothing was handed in."""
    there = {(entry.student, entry.slug) for entry in found.entries}
    for student in found.students:
        for exercise in found.exercises:
            if (student, exercise.slug) not in there:
                nothing = ExerciseResult.unrunnable(exercise, "", NOTHING)
                yield Graded(student, replace(nothing, verdict=Verdict.NOT_ATTEMPTED), "", suites[exercise.slug])


def read_tasks(
    entries: Iterable[Entry],
    exercises: Sequence[Exercise],
    suites: Mapping[str, str],
    on_unreadable: Callable[[Graded], None],
) -> Iterator[Task]:
    """Read one file after the other, each when it is asked for, so that never all of them are in memory.

    Args:
        entries: What to read.
        exercises: Those of the assignment.
        suites: Slug → digest of the answer key.
        on_unreadable: Gets the result of a file that is too large, a link, gone …
    """
    by_slug = {exercise.slug: exercise for exercise in exercises}
    for entry in entries:
        exercise, suite = by_slug[entry.slug], suites[entry.slug]
        try:
            data = _read(entry)
        except (SubmissionError, UsageError) as error:
            result = ExerciseResult.unrunnable(exercise, entry.file, str(error))
            on_unreadable(Graded(entry.student, result, "", suite, entry.notes))
        else:
            yield Task(entry, exercise, data, suite)


def weakest(*sandboxes: Sandbox) -> Sandbox:
    """Return the one that holds least."""
    return min(sandboxes, key=lambda sandbox: TIERS.index(sandbox.tier))


def digest_of_suite(folder: Path) -> str:
    """Return the digest of an answer key: of its files' names and contents."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        if file.suffix in (".py", ".toml"):
            for part in file.name.encode(), file.read_bytes():
                digest.update(len(part).to_bytes(8) + part)
    return digest.hexdigest()


def _read(entry: Entry) -> bytes:
    return read_bytes(entry.path, MAX_NOTEBOOK if is_notebook(entry.path) else MAX_SOURCE, f"`{entry.file}`")


def _digest_of(entry: Entry) -> str:
    try:
        return _digest(_read(entry))
    except (SubmissionError, UsageError):
        return ""


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
