"""What the words after ``grade`` stand for: files, and exercises of the workspace."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.bank import find_exercise
from grader.errors import UsageError
from grader.learner.workspace import Workspace
from grader.model import Exercise
from grader.submission import guess_slug

SOURCES = (".py", ".ipynb")


@dataclass(frozen=True)
class Target:
    """One file to grade, and the exercise that it answers."""

    exercise: Exercise
    file: Path


def find_targets(words: Sequence[str], slug: str | None, exercises: Sequence[Exercise]) -> list[Target]:
    """Return what to grade, in the order of ``words`` and each file once.

    Args:
        words: Slugs and files.
        slug: The exercise that the one file answers, from ``--as``.
        exercises: The bank.

    Raises:
        UsageError: If a word names nothing that could be graded, or ``--as`` is used with anything but one file.
    """
    if slug is not None and (len(words) != 1 or not is_file_name(words[0])):
        raise UsageError("`--as` goes with one file: `grade FILE --as SLUG`.")
    targets: dict[tuple[str, Path], Target] = {}
    for word in words:
        target = _of_file(word, slug, exercises) if is_file_name(word) else _of_slug(word, exercises)
        targets.setdefault((target.exercise.slug, target.file.resolve()), target)
    return list(targets.values())


def is_file_name(word: str) -> bool:
    """Tell a file from a slug: by a path separator, a source file's suffix, or dots at the start."""
    return word.startswith(".") or word.lower().endswith(SOURCES) or "/" in word or os.sep in word


def _of_file(word: str, slug: str | None, exercises: Sequence[Exercise]) -> Target:
    file = Path(word)
    try:
        file.stat()
    except OSError as error:
        raise UsageError(f"The file `{word}` cannot be read: {error.strerror}.") from error
    guessed = slug or guess_slug(file, [exercise.slug for exercise in exercises])
    if guessed is None:
        raise UsageError(
            f"Which exercise does `{word}` answer? Say so with `grade {word} --as SLUG`, or name the file after the "
            "exercise, as in `rotary.py`. `grade list` shows all slugs."
        )
    return Target(find_exercise(guessed, exercises), file)


def _of_slug(slug: str, exercises: Sequence[Exercise]) -> Target:
    exercise = find_exercise(slug, exercises)
    file = in_workspace(Workspace.find(Path.cwd()), exercise)
    if not os.path.lexists(file):
        raise UsageError(
            f"There is no file {file.as_posix()} yet: `grade init` writes it. "
            f"A file of another name is graded by `grade FILE --as {slug}`."
        )
    return Target(exercise, file)


def in_workspace(workspace: Workspace, exercise: Exercise) -> Path:
    """Return the learner's file for ``exercise`` as a person would type it."""
    return Path(os.path.relpath(workspace.stub_path(exercise)))
