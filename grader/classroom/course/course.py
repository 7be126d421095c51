"""Lay out a course for nbgrader, and write its source notebooks from the answer keys."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grader.classroom.course.kit import student_kit
from grader.classroom.course.notebooks import KIT_FILE, make_notebook
from grader.errors import UsageError
from grader.model import Exercise
from grader.report.files import write_whole

CONFIG = "nbgrader_config.py"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,99}")
_IGNORED = "gradebook.db*\n.ipynb_checkpoints/\nautograded/\nfeedback/\nsubmitted/\n"


@dataclass(frozen=True)
class Built:
    """What building one assignment came to.

    Attributes:
        written: Notebooks that are new or were brought up to date.
        kept: Notebooks that the teacher has changed by hand, left as they are.
    """

    assignment: str
    folder: Path
    written: tuple[str, ...]
    kept: tuple[str, ...]


def init_course(folder: Path, course_id: str) -> None:
    """Write the settings of a new course.

    Raises:
        UsageError: If ``course_id`` would not do, or there is a course already.
    """
    _check_name(course_id, "course")
    config = folder / CONFIG
    if config.exists():
        raise UsageError(f"{config} exists already, so {folder} is a course. `grade course build` adds assignments.")
    template = Path(__file__).parent / f"{CONFIG}.txt"
    try:
        (folder / "source").mkdir(parents=True, exist_ok=True)
        config.write_text(template.read_text("utf-8").replace("COURSE_ID", course_id), "utf-8")
        ignore = folder / ".gitignore"
        if not ignore.exists():
            ignore.write_text(_IGNORED, "utf-8")
    except OSError as error:
        raise UsageError(f"The course could not be written to {folder}: {error.strerror}.") from None


def build_assignment(course: Path, assignment: str, exercises: Sequence[Exercise], *, force: bool = False) -> Built:
    """Write the source notebooks of one assignment, one per exercise, and the kit that students need beside them.

    Args:
        course: Folder with ``nbgrader_config.py``.
        assignment: Name of the folder in ``source/``.
        exercises: What is asked.
        force: Replace notebooks that were changed by hand; each is kept beside the new one as ``NAME.ipynb.bak``.

    Raises:
        UsageError: If this is no course, the name would not do, or the folder cannot be written.
    """
    _check_name(assignment, "assignment")
    if not (course / CONFIG).is_file():
        raise UsageError(
            f"{course} is not a course: it has no {CONFIG}. `grade course init DIR --course-id ID` makes one."
        )
    folder = course / "source" / assignment
    written: list[str] = []
    kept: list[str] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for exercise in exercises:
            path = folder / f"{exercise.slug}.ipynb"
            done = _write(path, stamped(make_notebook(exercise)), force)
            (written if done else kept).append(path.name)
        write_whole(folder / KIT_FILE, student_kit(exercises))
    except OSError as error:
        raise UsageError(f"The assignment could not be written to {folder}: {error.strerror}.") from None
    return Built(assignment, folder, tuple(written), tuple(kept))


def stamped(notebook: dict[str, Any]) -> str:
    """Return a notebook as text, with a hash of its cells in it by which a later change can be seen."""
    notebook["metadata"]["grade"]["cells"] = _hash(notebook["cells"])
    return json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _write(path: Path, text: str, force: bool) -> bool:
    """Write a notebook unless a person has worked on the one that is there."""
    if path.exists() and _was_changed(path):
        if not force:
            return False
        path.replace(path.with_suffix(".ipynb.bak"))
    write_whole(path, text)
    return True


def _was_changed(path: Path) -> bool:
    try:
        notebook = json.loads(path.read_text("utf-8"))
        return bool(notebook["metadata"]["grade"]["cells"] != _hash(notebook["cells"]))
    except (ValueError, KeyError, TypeError, OSError):
        return True


def _hash(cells: Sequence[dict[str, Any]]) -> str:
    """Return a hash of what a person writes: kinds, text and points, not outputs."""
    said = [
        [cell["cell_type"], "".join(cell["source"]), cell.get("metadata", {}).get("nbgrader", {}).get("points")]
        for cell in cells
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _check_name(name: str, what: str) -> None:
    if not _NAME.fullmatch(name) or name.endswith((".", " ")) or "+" in name:
        raise UsageError(
            f"`{name[:60]}` will not do as the name of the {what}: letters, digits, spaces and . _ - only, "
            "and a letter or digit first."
        )
