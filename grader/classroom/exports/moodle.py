"""Grades for Moodle: a CSV file for *Grades → Import → CSV file*.

Moodle asks on import which column tells the person ("Map from"), by what ("Map to"), and which grade item each other
column belongs to.
"""

from __future__ import annotations

from collections.abc import Mapping

from grader.classroom.exports.roster import Export, Roster, match
from grader.classroom.grades import safe_cell, write_csv
from grader.classroom.model import ClassReport
from grader.classroom.statistics import by_student
from grader.errors import UsageError
from grader.report.text import number

# Column of Moodle's own exports that tells a person → what to choose in "Map to"; the surest first.
IDENTITIES = {"ID number": "useridnumber", "Email address": "useremail", "Username": "username"}
_NAMES = ("First name", "Last name", "Surname", "Full name")


def moodle_csv(report: ClassReport, roster: Roster | None = None) -> Export:
    """Return grades as Moodle imports them.

    Args:
        report: What was found out.
        roster: Grades or participants as Moodle exports them; without it, folders' names are taken for addresses if
            all of them hold an ``@``, and for user names otherwise.

    Raises:
        UsageError: If no column of the roster tells one person from another.
    """
    people: Mapping[str, str]
    if roster is None:
        addresses = bool(report.students) and all("@" in student for student in report.students)
        identity = "Email address" if addresses else "Username"
        people = {student: student for student in report.students}
        notes = [f"Folders' names were taken for `{identity}`. With --roster, Moodle's own are used."]
    else:
        identity = _identity(roster)
        rows = [row | {"Full name": _full_name(row)} for row in map(dict, roster.rows)]
        found = match(report.students, rows, [*IDENTITIES, "Full name"], "Moodle")
        people = {student: row[identity] for student, row in found.people.items()}
        notes = list(found.notes)
    notes.append(f"On import, choose `{identity}` in «Map from» and `{IDENTITIES[identity]}` in «Map to».")
    sizes = ", ".join(f"{one.slug} {number(one.max_points)}" for one in report.exercises)
    notes.append(f"Make the grade items first, out of these points: {sizes}. One that Moodle makes is out of 100.")
    entries = by_student(report)
    lines = [[identity, *(one.slug for one in report.exercises)]]
    for student, name in people.items():
        lines.append([safe_cell(name), *(number(entry.result.points) for entry in entries[student])])
    return Export(write_csv(lines, mark=False), tuple(notes))


def _identity(roster: Roster) -> str:
    """Return the first column that is there and that nobody has left empty or in common."""
    for column in IDENTITIES:
        values = [row.get(column, "").strip() for row in roster.rows]
        if values and all(values) and len(set(values)) == len(values):
            return column
    raise UsageError(
        "No column of the list tells everybody apart: none of "
        + ", ".join(f"`{column}`" for column in IDENTITIES)
        + " is filled in for all. Export it from Moodle again, with one of them."
    )


def _full_name(row: Mapping[str, str]) -> str:
    return row.get("Full name") or " ".join(row[name] for name in _NAMES if row.get(name))
