"""The bundle for a disputed result: what was handed in, what came of it, and the command that shows it again."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any

from grader.classroom.html import render
from grader.classroom.model import ClassReport, Graded
from grader.classroom.names import page_name, shown_name
from grader.classroom.pages import student_report
from grader.errors import SubmissionError, UsageError
from grader.report.files import make_folder, write_whole
from grader.report.json import dump, write_json
from grader.report.text import one_line
from grader.report.words import VERDICTS
from grader.submission import read_bytes

MAX_FILE = 64 << 20  # bytes; more than any file that is graded
_DAY = (1980, 1, 1, 0, 0, 0)  # of every file in the bundle, so that one result makes one bundle
_SAFE_PART = re.compile(r"(?!\.\.?$)[\w.()+@-]([\w .()+@-]*[\w()+@-])?")


@dataclass(frozen=True)
class _Item:
    """One exercise in the bundle; ``path`` is empty if there is no file to enclose."""

    entry: Graded
    path: str
    data: bytes

    @property
    def slug(self) -> str:
        return self.entry.result.slug

    @property
    def again(self) -> str:
        return f"{self.slug}.again.json"

    def command(self, seed: int) -> str:
        """Return the command that replays the result, run in the folder ``submission``."""
        if not self.path:
            return ""
        file = f"./{self.path}" if self.path.startswith("-") else self.path
        words = ["grade", file, "--as", self.slug, "--seed", str(seed), "--format", "json", "--out", self.again]
        return shlex.join(words)


def bundle(report: ClassReport, student: str, out_dir: Path, submissions: Path) -> Path:
    """Write a zip with one student's submission, the results, and how to see them again.

    Args:
        report: What was found out.
        student: Name of the student's folder.
        out_dir: Where to write; made if it is not there.
        submissions: The folder that was graded.

    Returns:
        The file that was written.

    Raises:
        UsageError: If there is no such student, or a file is no longer the one that was graded.
        SubmissionError: If a file became a link, or anything but a plain file.
    """
    entries = report.of(student)
    if not entries:
        raise UsageError(f"There is no student `{shown_name(student)}` in these results. report.html lists all.")
    items = [_item(entry, submissions / student) for entry in entries]
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, data in _contents(report, student, items).items():
            file.writestr(zipfile.ZipInfo(name, _DAY), data, zipfile.ZIP_DEFLATED)
    make_folder(out_dir)
    target = out_dir / f"{page_name(student)}.zip"
    write_whole(target, archive.getvalue())
    return target


def _contents(report: ClassReport, student: str, items: Sequence[_Item]) -> dict[str, bytes]:
    facts = _facts(report, student, items)
    readme = render("dispute.md", **facts, replayed=[item for item in items if item.path])
    files = {"README.md": readme.encode(), "bundle.json": write_json(facts | {"schema": 1}).encode()}
    for item in items:
        files[f"results/{item.slug}.json"] = dump(student_report(report, [item.entry])).encode()
        if item.path:
            files[f"submission/{item.path}"] = item.data
    return files


def _facts(report: ClassReport, student: str, items: Sequence[_Item]) -> dict[str, Any]:
    return {
        "title": report.title,
        "student": student,
        "points": report.points(student),
        "max_points": report.max_points,
        "seed": report.seed,
        "kit": report.kit,
        "tier": report.sandbox.tier,
        "layers": list(report.sandbox.layers),
        "versions": sorted(report.versions.items()),
        "items": [_told(item, report.seed) for item in items],
    }


def _told(item: _Item, seed: int) -> dict[str, Any]:
    result = item.entry.result
    return {
        "slug": result.slug,
        "word": VERDICTS[result.verdict],
        "points": result.points,
        "max_points": result.max_points,
        "message": result.message,
        "file": result.file,
        "path": item.path,
        "submission": item.entry.submission,
        "suite": item.entry.suite,
        "command": item.command(seed),
    }


# --- what was handed in -----------------------------------------------------------------------------------


def _item(entry: Graded, folder: Path) -> _Item:
    if not entry.submission:  # nothing was handed in, or nothing that could be read
        return _Item(entry, "", b"")
    return _Item(entry, _path_in_bundle(entry), _handed_in(entry, folder))


def _path_in_bundle(entry: Graded) -> str:
    """Return the file's own path, so that the replay names it alike, or a plain one if some system cannot write it."""
    path = PurePosixPath(entry.result.file)
    if path.parts and all(map(_SAFE_PART.fullmatch, path.parts)):
        return path.as_posix()
    return f"renamed/{entry.result.slug}{path.suffix if path.suffix in {'.py', '.ipynb'} else '.py'}"


def _handed_in(entry: Graded, folder: Path) -> bytes:
    """Return the file's content, found by its name or, where the name was cleaned to be shown, by its digest."""
    shown = f"{one_line(folder.name)}/{one_line(entry.result.file)}"
    path = PurePosixPath(entry.result.file)
    named = folder.joinpath(*path.parts)
    if not path.is_absolute() and ".." not in path.parts and _is_there(named):
        _refuse_links(folder, path)
        data = read_bytes(named, MAX_FILE)
        if _digest(data) == entry.submission:
            return data
        raise UsageError(
            f"`{shown}` has changed since it was graded: its SHA-256 was {entry.submission[:12]}… and is "
            f"{_digest(data)[:12]}… now. Put the file back as it was handed in, or grade the class again."
        )
    for place, _, names in os.walk(folder):  # follows no links
        for name in names:
            found = _readable(Path(place, name))
            if found is not None and _digest(found) == entry.submission:
                return found
    raise UsageError(f"`{shown}` is no longer there. Put it back as it was handed in, or grade the class again.")


def _is_there(path: Path) -> bool:
    try:
        return os.path.lexists(path)
    except ValueError:  # a NUL in the name
        return False


def _refuse_links(folder: Path, path: PurePosixPath) -> None:
    """Refuse folders on the way that are links: they could lead out of what was handed in."""
    for depth in range(len(path.parts)):
        place = folder.joinpath(*path.parts[:depth])
        if place.is_symlink():
            raise SubmissionError(f"`{one_line(place.name)}` is a link, and only plain folders are read.")


def _readable(path: Path) -> bytes | None:
    try:
        return read_bytes(path, MAX_FILE)
    except (UsageError, SubmissionError):
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
