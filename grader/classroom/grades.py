"""Grades as tables: cells that no spreadsheet program runs, and ``grades.csv``."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence

from grader.classroom.model import ClassReport, Graded
from grader.classroom.names import shown_name
from grader.classroom.statistics import by_student, is_missing, percent
from grader.model import Verdict
from grader.report.text import number, one_line
from grader.report.words import VERDICTS

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")  # the last four: wide signs
_BYTE_ORDER_MARK = "\ufeff"  # without it, Excel takes UTF-8 for the encoding of the country


def safe_cell(text: str) -> str:
    """Return ``text`` on one line, so that a spreadsheet program shows it and never computes it."""
    line = one_line(text)
    return f"'{line}" if line.startswith(_FORMULA) else line


def write_csv(rows: Iterable[Sequence[str]], *, mark: bool = True) -> str:
    """Return rows as CSV (RFC 4180).

    Args:
        rows: Text that ``safe_cell`` or ``number`` has made.
        mark: Whether a byte order mark comes first: spreadsheet programs want it, importers may not.
    """
    page = io.StringIO(newline="")
    csv.writer(page).writerows(rows)
    return (_BYTE_ORDER_MARK if mark else "") + page.getvalue()


def grades_csv(report: ClassReport) -> str:
    """Return one row for each student: points in each exercise, their sum, all points, percent, notes."""
    slugs = [exercise.slug for exercise in report.exercises]
    rows = [["student", *slugs, "total", "max", "percent", "notes"]]
    for student, entries in by_student(report).items():
        total = sum(entry.result.points for entry in entries)
        rows.append(
            [
                safe_cell(shown_name(student)),
                *(number(entry.result.points) for entry in entries),
                number(total),
                number(report.max_points),
                f"{percent(total, report.max_points):.1f}",
                safe_cell("; ".join(note for entry in entries for note in notes_on(entry))),
            ]
        )
    return write_csv(rows)


def notes_on(entry: Graded) -> list[str]:
    """Return what a reader of bare points should know about one of them."""
    slug, result = entry.result.slug, entry.result
    notes = []
    if is_missing(entry):
        notes.append(f"{slug}: nothing handed in")
    elif result.verdict in {Verdict.ERROR, Verdict.NOT_ATTEMPTED}:
        notes.append(f"{slug}: {VERDICTS[result.verdict]}")
    if result.policy:
        notes.append(f"{slug}: uses {result.policy[0].name}, which is not allowed")
    return notes + [f"{slug}: {note}" for note in entry.notes]
