"""``grade course``: from words on the command line to a course for nbgrader."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from grader.bank import find_exercise, load_exercises
from grader.classroom.course.course import Built, build_assignment, init_course
from grader.errors import UsageError
from grader.report.layout import coded, make_console, print_text


def make_course(folder: Path, course_id: str) -> int:
    """Lay out a new course and say what comes next."""
    init_course(folder, course_id)
    _say(
        f"The course `{course_id}` is ready in {folder}/.\n\n"
        f"Next: `cd {folder}`, then `grade course build` writes an assignment for every track, or "
        "`grade course build --assignment week1 --slugs rotary,multi_head` one of your own."
    )
    return 0


def build_course(assignment: str | None, words: Sequence[str], force: bool) -> int:
    """Write assignments into the course in the current folder: the one that was asked for, or one per track.

    Args:
        assignment: Its name; None for one assignment per track.
        words: Tracks and slugs; none for everything.
        force: Replace notebooks that were changed by hand.
    """
    exercises = load_exercises()
    tracks = list(dict.fromkeys(exercise.track for exercise in exercises))
    slugs = {find_exercise(word, exercises).slug for word in words if word not in tracks}
    chosen = [one for one in exercises if not words or one.track in words or one.slug in slugs]
    if assignment is None and slugs:
        raise UsageError("Give the assignment a name: `grade course build --assignment NAME --slugs …`.")
    names = [assignment] if assignment is not None else [track for track in tracks if not words or track in words]
    built = []
    for name in names:
        part = [one for one in chosen if assignment is not None or one.track == name]
        built.append(build_assignment(Path(), name, part, force=force))
        _say(_line(built[-1]))
    first = built[0].assignment
    _say(f"\nNext: `nbgrader generate_assignment {shlex.quote(first)}` makes what students get, in release/{first}/.")
    return 0


def _line(built: Built) -> str:
    text = f"{built.folder.as_posix()}/: {len(built.written)} notebooks written"
    if built.kept:
        text += f"; kept as you changed them: {', '.join(built.kept)} (`--force` writes them anew, with a backup)"
    return text


def _say(text: str) -> None:
    print_text(make_console(sys.stdout), coded(text))
