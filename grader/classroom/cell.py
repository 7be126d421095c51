"""What the cells of a course's notebooks call when they are run in a kernel.

``try_checks`` is for students. ``grade_section`` says to a student that there is nothing to see; under nbgrader's own
``Execute``, on a machine with the answer keys, it grades in that very kernel. A student's code shares it there and
could write any grade it likes, so grades that must count come from ``grader.classroom.course.judge``.
"""

from __future__ import annotations

import sys

if sys.version_info < (3, 11):  # noqa: UP036 (a student's kernel may be anything)
    raise ImportError(
        "The kit needs Python 3.11 or newer, and this notebook runs on Python "
        + ".".join(map(str, sys.version_info[:2]))
        + ". Choose another kernel, or install one."
    )

import secrets
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from grader.bank import find_bank, load_exercises, read_checks
from grader.errors import AnswerKeyError, KitError
from grader.model import Check, CheckVerdict, Exercise

if TYPE_CHECKING:
    from grader.judge.plugin import Outcome

_outcomes: dict[str, dict[str, Outcome]] = {}


def try_checks(slug: str, namespace: Mapping[str, Any]) -> None:
    """Run the checks that students may see on what the notebook has defined, and print what came of them."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            exercise = _visible(slug, Path(scratch))
            outcomes = _run(exercise, namespace)
        except KitError as error:
            print(error)
            return
    passed = [check for check in exercise.checks if _show(check, outcomes[check.name])]
    print(f"\n{len(passed)} of {len(exercise.checks)} visible checks passed. The others run when your work is graded.")


def grade_section(slug: str, section: str, namespace: Mapping[str, Any]) -> float | None:
    """Return the points of a group of checks, where the answer keys are; elsewhere say when they will be there."""
    try:
        exercise = next(one for one in load_exercises(find_bank()) if one.slug == slug)
    except (AnswerKeyError, StopIteration):
        print("Nothing to do here: these checks run when your work is graded.")
        return None
    if slug not in _outcomes:
        _outcomes[slug] = _run(exercise, namespace)
    checks = [check for check in exercise.checks if check.section == section]
    return sum(check.points for check in checks if _show(check, _outcomes[slug][check.name]))


def _show(check: Check, outcome: Outcome) -> bool:
    good = outcome.verdict is CheckVerdict.PASSED
    print(f"{'✓' if good else '✗'} {check.title}")
    if outcome.message:
        print("\n".join(f"    {line}" for line in outcome.message.split("\n")))
    return good


def _run(exercise: Exercise, namespace: Mapping[str, Any]) -> dict[str, Outcome]:
    try:
        from grader.judge.answerkey import AnswerKey  # noqa: PLC0415 (these need torch, NumPy and pytest)
        from grader.judge.plugin import run_suite  # noqa: PLC0415
        from grader.judge.proofs import LocalSubject  # noqa: PLC0415
    except ImportError as error:
        raise AnswerKeyError(
            f"The checks need {error.name}, which is not installed: %pip install {error.name}"
        ) from None
    module = ModuleType("notebook")
    module.__dict__.update({key: value for key, value in namespace.items() if not key.startswith("__")})
    module.__file__ = "notebook"
    return run_suite(AnswerKey(exercise), LocalSubject(module), seed=secrets.randbits(63))


def _visible(slug: str, scratch: Path) -> Exercise:
    """Return the exercise with its visible checks alone, read from the kit file or from the answer keys."""
    name = f"test_{slug}.py"
    for place in sys.path:
        if place.endswith(".zip") and Path(place).is_file():
            try:
                with zipfile.ZipFile(place) as kit:
                    (scratch / name).write_bytes(kit.read(f"visible/{name}"))
            except (OSError, KeyError, zipfile.BadZipFile):
                continue
            return Exercise(slug, "", slug, "", scratch, (), read_checks(scratch / name), "", 0)
    raise AnswerKeyError(
        f"There are no checks for {slug} beside this notebook. Keep the kit.zip it came with in its folder."
    )
