"""A workflow for GitHub Actions that a teacher can paste, in the form of GitHub Classroom's autograding."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version

from grader.bank import find_exercise
from grader.classroom.html import render
from grader.model import Exercise

_INSTALL = 10  # minutes, for the kit and torch


def workflow(slugs: Sequence[str], exercises: Sequence[Exercise], *, feedback: str = "full") -> str:
    """Return the workflow as YAML.

    Args:
        slugs: The exercises to grade.
        exercises: The whole bank.
        feedback: What students read, ``full``, ``titles`` or ``score``.

    Raises:
        UsageError: If there is no such exercise.
    """
    chosen = [find_exercise(slug, exercises).slug for slug in dict.fromkeys(slugs)]
    torch = version("torch").partition("+")[0]
    return render("github.yml", slugs=chosen, feedback=feedback, torch=torch, minutes=_INSTALL + 2 * len(chosen))
