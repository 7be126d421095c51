"""Grades for Canvas: a CSV file for *Grades → Import*.

Canvas wants ``Student`` and ``ID`` first, ``Section`` last of what tells a person, and then a column for each
assignment. One that it knows has its number behind the name, ``Rotary (4711)``; for one that it does not know, it asks
whether to make it. A line that begins with ``Points Possible`` says what the assignments are out of.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from grader.classroom.exports.roster import Export, Roster, match
from grader.classroom.grades import safe_cell, write_csv
from grader.classroom.model import ClassReport, Graded
from grader.classroom.names import shown_name
from grader.classroom.statistics import by_student
from grader.errors import UsageError
from grader.report.text import number

# What tells a person, in the order in which Canvas writes and reads it.
PERSON = ("Student", "ID", "SIS User ID", "SIS Login ID", "Integration ID", "Root Account", "Section")
_NEEDED = ("Student", "ID", "Section")
_POSSIBLE = "Points Possible"


def canvas_csv(report: ClassReport, roster: Roster | None = None) -> Export:
    """Return grades as Canvas imports them.

    Args:
        report: What was found out.
        roster: The gradebook as Canvas exports it; without it, folders' names are taken for login names.

    Raises:
        UsageError: If the roster is no gradebook of Canvas.
    """
    if roster is None:
        columns: tuple[str, ...] = ("Student", "ID", "SIS Login ID", "Section")
        people: Mapping[str, Mapping[str, str]] = {
            student: {"Student": shown_name(student), "SIS Login ID": student} for student in report.students
        }
        notes: tuple[str, ...] = ("Folders' names were taken for login names. With --roster, Canvas's own are used.",)
        titles: dict[str, str] = {}
        possible: Mapping[str, str] = {}
    else:
        if missing := [name for name in _NEEDED if name not in roster.headers]:
            raise UsageError(
                f"The list has no column `{missing[0]}`. Give the gradebook that Canvas exports, as it is."
            )
        columns = tuple(name for name in PERSON if name in roster.headers)
        possible = next((row for row in roster.rows if _POSSIBLE in row.get("Student", "")), {})
        rows = [row for row in roster.rows if row.get("ID", "").strip()]
        found = match(report.students, rows, [name for name in columns if name != "Section"], "Canvas")
        people, notes = found.people, found.notes
        titles = _known(report, roster.headers)
    header = [*columns, *(titles.get(one.slug, one.slug) for one in report.exercises)]
    out_of = {one.slug: number(one.max_points) for one in report.exercises}
    told = _differing(titles, possible, out_of)
    points = [_POSSIBLE, *("" for _ in columns[1:]), *out_of.values()]
    entries = by_student(report)
    lines = [_line(columns, person, entries[student]) for student, person in people.items()]
    text = write_csv([[safe_cell(cell) for cell in header], points, *lines], mark=False)
    return Export(text, (*notes, *told))


def _known(report: ClassReport, headers: Sequence[str]) -> dict[str, str]:
    """Return slug → header of the assignments that Canvas knows by the exercise's slug or title."""
    names = {name.casefold(): one.slug for one in report.exercises for name in (one.slug, one.title)}
    titles: dict[str, str] = {}
    for header in headers:
        bare = (
            header.rpartition(" (")[0] if header.endswith(")") and header[:-1].rpartition("(")[2].isdigit() else header
        )
        if slug := names.get(bare.casefold()):
            titles.setdefault(slug, header)
    return titles


def _differing(titles: Mapping[str, str], possible: Mapping[str, str], out_of: Mapping[str, str]) -> list[str]:
    notes = []
    for slug, header in titles.items():
        told = possible.get(header, "").strip()
        if _value(told) not in {None, float(out_of[slug])}:
            notes.append(
                f"`{safe_cell(header)}` is out of {safe_cell(told)} in Canvas and out of {out_of[slug]} here. "
                "Change the assignment in Canvas before you import."
            )
    return notes


def _value(text: str) -> float | None:
    try:
        return float(text.replace(",", "."))
    except ValueError:
        return None


def _line(columns: Sequence[str], person: Mapping[str, str], entries: Sequence[Graded]) -> list[str]:
    return [
        *(safe_cell(person.get(column, "")) for column in columns),
        *(number(entry.result.points) for entry in entries),
    ]
