"""Who handed in what: a folder of students' folders, looked through with limits. Nothing in it is trusted."""

from __future__ import annotations

import itertools
import os
from collections import Counter, deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from grader.errors import SubmissionError, UsageError
from grader.model import Exercise
from grader.notebook import slug_of
from grader.report.text import one_line
from grader.submission import MAX_NOTEBOOK, guess_slug, is_notebook, read_bytes

MAX_FILES = 5_000  # looked at in one student's folder
MAX_DEPTH = 16  # folders below it
MAX_NOTES = 50  # of the class
MAX_NAME = 160  # characters of a file's name that are shown
_LISTED = 3  # files that one note names
_PASSED_OVER = ("__MACOSX", "__pycache__")  # made by machines; so are hidden ones
_NBGRADERS = ("kit.zip", "timestamp.txt", "submission_secret.txt")  # beside the notebooks of a course


@dataclass(frozen=True)
class Entry:
    """One student's file for one exercise.

    Attributes:
        student: Name of the student.
        slug: The exercise.
        path: Where the file lies.
        file: Its path inside the student's folder, fit to be shown.
        notes: What the teacher should know besides.
    """

    student: str
    slug: str
    path: Path
    file: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a class handed in.

    Attributes:
        students: Every student, sorted.
        exercises: Those of the assignment, in the bank's order.
        entries: By student and then in the order of ``exercises``.
        notes: On files and folders that answer nothing.
    """

    students: tuple[str, ...]
    exercises: tuple[Exercise, ...]
    entries: tuple[Entry, ...]
    notes: tuple[str, ...]


def find_class(folder: Path, exercises: Sequence[Exercise], asked: Collection[str] = ()) -> Found:
    """Look through ``folder`` for ``<student>/…/<slug>.py`` and for notebooks.

    Args:
        folder: The class's folder.
        exercises: The bank.
        asked: Slugs of the assignment; without any, it is every exercise that somebody answered.

    Raises:
        UsageError: If there is no such folder, no student in it, or nothing that could be graded.
    """
    students, strays = _students(folder)
    if not students:
        raise UsageError(f"`{folder}` holds no student's folder. Expected `{folder}/<student>/<slug>.py`.")
    slugs = [exercise.slug for exercise in exercises]
    notes = [f"`{name}` lies in no student's folder and was not graded." for name in strays]
    chosen: dict[tuple[str, str], Entry] = {}
    unasked: Counter[str] = Counter()
    for student, path in students.items():
        look = _Look(path, slugs)
        notes += [f"{_shown(student)}: {note}" for note in look.notes()]
        for slug, files in look.answers.items():
            if asked and slug not in asked:
                unasked[slug] += 1
                continue
            chosen[student, slug] = _choose(student, slug, files)
    notes += [f"{_count(unasked[slug], 'student')} answered `{slug}`, which is not asked." for slug in sorted(unasked)]
    answered = set(asked) or {slug for _, slug in chosen}
    part = tuple(exercise for exercise in exercises if exercise.slug in answered)
    if not part:
        raise UsageError(
            f"None of {_count(len(students), 'student')} in `{folder}` handed in a file that answers an exercise. "
            "Files are named after it, as in `rotary.py`; `grade list` shows all names."
        )
    entries = [chosen[s, e.slug] for s in students for e in part if (s, e.slug) in chosen]
    return Found(tuple(students), part, tuple(entries), tuple(_capped(notes)))


def _students(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """Return name → folder of every student, sorted, and the names of what else lies there."""
    try:
        rows = _rows(folder)
    except OSError as error:
        raise UsageError(f"The folder `{folder}` cannot be read: {error.strerror}.") from None
    students: dict[str, Path] = {}
    strays = []
    for row in rows:
        name = _text(row.name)
        if _is_passed_over(row.name):
            continue
        if not _is_folder(row):
            strays.append(_shown(name))
            continue
        while name in students:  # only where a name had to be rewritten to be text at all
            name += " (2)"
        students[name] = Path(row.path)
    return dict(sorted(students.items())), strays


@dataclass(frozen=True)
class _File:
    path: Path
    shown: str
    rank: tuple[bool, bool, int, bool, str]  # the lowest counts


@dataclass
class _Look:
    """A look through one student's folder."""

    root: Path
    slugs: Sequence[str]
    answers: dict[str, list[_File]] = field(default_factory=dict)
    _strange: list[str] = field(default_factory=list)  # Python and notebooks that answer nothing
    _links: list[str] = field(default_factory=list)
    _closed: list[str] = field(default_factory=list)
    _others: int = 0
    _cut: bool = False

    def __post_init__(self) -> None:
        for depth, row in self._walk():
            path, shown = Path(row.path), _shown(_text(os.path.relpath(row.path, self.root)))
            slug = self._slug(row, path)
            if slug is not None:
                exact = path.stem == slug
                regular = row.is_file(follow_symlinks=False)
                rank = (not regular, not exact, depth, is_notebook(path), row.path)
                self.answers.setdefault(slug, []).append(_File(path, shown, rank))
            elif row.is_symlink():
                self._links.append(shown)
            elif path.suffix.lower() in (".py", ".ipynb"):
                self._strange.append(shown)
            elif path.name not in _NBGRADERS:
                self._others += 1

    def notes(self) -> Iterator[str]:
        """Yield a sentence on each kind of thing that was not graded."""
        if self._strange:
            yield f"no exercise is called like {_listed(self._strange)}. A file is named after its exercise."
        if self._links:
            yield f"links are not followed: {_listed(self._links)}."
        if self._closed:
            yield f"could not be looked into: {_listed(self._closed)}."
        if self._others:
            yield f"{_count(self._others, 'file')} besides, neither Python nor a notebook."
        if self._cut:
            yield f"more than {MAX_FILES} files or {MAX_DEPTH} folders deep; what lies beyond was not looked at."

    def _walk(self) -> Iterator[tuple[int, os.DirEntry[str]]]:
        """Yield every file with its depth, the shallow ones first."""
        folders = deque([(0, str(self.root))])
        left = MAX_FILES
        while folders:
            depth, folder = folders.popleft()
            try:
                rows = _rows(folder, left + 1)
            except OSError:
                self._closed.append(_shown(_text(os.path.relpath(folder, self.root))))
                continue
            for row in rows:
                left -= 1
                if left < 0:
                    self._cut = True
                    return
                if _is_passed_over(row.name):
                    continue
                if _is_folder(row) and depth == MAX_DEPTH:
                    self._cut = True
                elif _is_folder(row):
                    folders.append((depth + 1, row.path))
                else:
                    yield depth, row

    def _slug(self, row: os.DirEntry[str], path: Path) -> str | None:
        """Return the exercise that a file answers: by its name, or by what the kit noted in a notebook."""
        if path.suffix.lower() not in (".py", ".ipynb"):
            return None
        slug = guess_slug(path, self.slugs) or guess_slug(Path(path.name.lower()), self.slugs)
        if slug is None and is_notebook(path) and row.is_file(follow_symlinks=False):
            try:
                slug = slug_of(read_bytes(path, MAX_NOTEBOOK))
            except (SubmissionError, UsageError):  # damaged, or gone meanwhile
                return None
        return slug if slug in self.slugs else None


def _choose(student: str, slug: str, files: Sequence[_File]) -> Entry:
    """Take the file with the exact name and the shortest way to it, and name the others."""
    best, *others = sorted(files, key=lambda file: file.rank)
    notes: tuple[str, ...] = ()
    if others:
        names = _listed([file.shown for file in others])
        notes = (f"`{best.shown}` was graded; there was also {names} for `{slug}`.",)
    return Entry(student, slug, best.path, best.shown, notes)


# --- names ------------------------------------------------------------------------------------------------


def _rows(folder: str | Path, most: int | None = None) -> list[os.DirEntry[str]]:
    with os.scandir(folder) as rows:
        return sorted(itertools.islice(rows, most), key=lambda row: row.name)


def _is_folder(row: os.DirEntry[str]) -> bool:
    try:
        return row.is_dir(follow_symlinks=False)
    except OSError:
        return False


def _is_passed_over(name: str) -> bool:
    return name.startswith(".") or name in _PASSED_OVER


def _text(name: str) -> str:
    """Return a file's name as text: bytes in it that are no UTF-8 are written out."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def _shown(name: str) -> str:
    """Return a name on one line, its beginning cut off if it is too long."""
    line = one_line(name.replace(os.sep, "/")).replace("`", "'")
    return line if len(line) <= MAX_NAME else "…" + line[-MAX_NAME + 1 :]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:_LISTED])
    more = len(names) - _LISTED
    return f"{shown} and {more} more" if more > 0 else shown


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _capped(notes: Sequence[str]) -> list[str]:
    more = len(notes) - MAX_NOTES
    return [*notes[:MAX_NOTES], f"… and {more} more notes."] if more > 0 else list(notes)
