"""Files in a submission that nbgrader would stumble over: it passes them by, and the notebooks beside them are graded.

nbgrader copies whatever lies beside a notebook. A link that leads nowhere, a pipe or a damaged ``timestamp.txt`` would
end the grading of that student, and a folder with a line break in its name that of the whole class.
"""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.converters import Autograde
from nbgrader.coursedir import CourseDirectory


class CarefulCourse(CourseDirectory):  # type: ignore[misc]
    """The course's folder, in which a student's file may be anything."""

    def get_existing_timestamp(self, dest_path: str) -> datetime | None:
        """Return when something was handed in; None, as without the file, if the file does not say."""
        try:
            moment: datetime | None = super().get_existing_timestamp(dest_path)
        except (AttributeError, ValueError, OverflowError, OSError):  # nbgrader stumbles while it reports the first
            self.log.warning("timestamp.txt in %s holds no time: taken as handed in on time.", dest_path)
            return None
        return moment


class Passer:
    """Tells nbgrader's ``Autograde`` what to pass by.

    Args:
        converter: What is about to grade; it knows its submissions already.
    """

    def __init__(self, converter: Autograde) -> None:
        course = converter.coursedir
        settings = {name: getattr(course, name) for name in course.trait_names(config=True)}
        self._course = converter.coursedir = CarefulCourse(log=converter.log, **settings)
        self._log = converter.log
        self._ignored = list(course.ignore)
        self._after = converter.pre_convert_hook
        converter.pre_convert_hook = self.before
        known = self._handed_out()
        converter.assignments = {
            folder: notebooks
            for folder, notebooks in converter.assignments.items()
            if self._fits(folder, notebooks, known)
        }

    def before(self, *, notebooks: Sequence[str], **names: Any) -> None:
        """Look through the submission that is next; nbgrader calls it as its ``pre_convert_hook``."""
        folder = Path(notebooks[0]).parent
        given = Path(self._course.format_path(self._course.source_directory, ".", folder.name))
        odd = sorted(set(_odd_names(folder, given)))
        for name in odd:
            self._log.warning("%r in %s is not copied: it is no plain file, or in the way of yours.", name, folder)
        self._course.ignore = [*self._ignored, *(glob.escape(name) for name in odd)]
        if self._after is not None:
            self._after(notebooks=notebooks, **names)

    def _handed_out(self) -> set[str]:
        with Gradebook(self._course.db_url, self._course.course_id) as book:
            try:
                return {notebook.name for notebook in book.find_assignment(self._course.assignment_id).notebooks}
            except MissingEntry:
                return set()  # nbgrader says what is to be done

    def _fits(self, folder: str, notebooks: Sequence[str], known: set[str]) -> bool:
        """Say whether there is anything to grade in a folder, and name it if not."""
        names = [Path(notebook).stem for notebook in notebooks]
        if "\n" in folder:
            self._log.error("The folder %r has a line break in its name and is passed by. Rename it.", folder)
            return False
        if known and not known.intersection(names):
            self._log.error(
                "%s holds no notebook of this assignment, but %s. Rename what is meant, and grade again.",
                folder,
                ", ".join(repr(f"{name}.ipynb") for name in names),
            )
            return False
        return True


def _odd_names(folder: Path, given: Path) -> Iterator[str]:
    """Yield the names of what cannot be copied, or would be in the way of the teacher's own files."""
    for place, folders, files in os.walk(folder):
        for name in folders + files:
            path = Path(place, name)
            ours = given / path.relative_to(folder)
            mode = path.lstat().st_mode
            folder_too = stat.S_ISDIR(mode)
            plain = stat.S_ISREG(mode) and os.access(path, os.R_OK)
            if not (plain or folder_too) or (ours.exists() and ours.is_dir() != folder_too):
                yield name
