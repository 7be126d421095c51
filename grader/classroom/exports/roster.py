"""A teacher's list of people, exported from another system, and which of them is which student."""

from __future__ import annotations

import csv
import io
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from grader.classroom.names import shown_name
from grader.errors import SubmissionError, UsageError
from grader.submission import read_bytes

MAX_ROSTER = 16 << 20  # bytes
_LISTED = 5  # names in one sentence


@dataclass(frozen=True)
class Roster:
    """A table with a line of headers.

    Attributes:
        headers: As they stand in the file, without spaces around them.
        rows: One mapping from header to cell for each line.
    """

    headers: tuple[str, ...]
    rows: tuple[Mapping[str, str], ...]


@dataclass(frozen=True)
class Match:
    """Which line of the roster belongs to which student.

    Attributes:
        people: Student → line; students without one are not in it.
        notes: On everybody for whom no grade is exported.
    """

    people: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Export:
    """A file for another system, and what the teacher should know before importing it."""

    text: str
    notes: tuple[str, ...] = ()


def read_roster(path: Path) -> Roster:
    """Read a CSV file with commas, semicolons or tabs.

    Raises:
        UsageError: If there is no such file, or it is no table.
    """
    try:
        text = read_bytes(path, MAX_ROSTER).decode("utf-8-sig")
        delimiter = max(",;\t", key=text.partition("\n")[0].count)
        lines = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except SubmissionError as error:
        raise UsageError(str(error)) from None
    except (UnicodeDecodeError, csv.Error):
        raise UsageError(f"`{path}` is no CSV file in UTF-8. Export the list of students again, as CSV.") from None
    headers = tuple(cell.strip() for cell in lines[0]) if lines else ()
    if len(headers) < 2:
        raise UsageError(f"`{path}` has no line of headers. Export the list of students again, as CSV.")
    rows = tuple(dict(zip(headers, line, strict=False)) for line in lines[1:] if any(cell.strip() for cell in line))
    return Roster(headers, rows)


def match(students: Sequence[str], rows: Sequence[Mapping[str, str]], columns: Iterable[str], system: str) -> Match:
    """Find each student's line by the folder's name, which may be any of a person's names and numbers.

    Upper and lower case make no difference, nor do accents, spaces and signs; of an address, the part before ``@`` is
    enough. Nobody is guessed: a name that fits two people, or two folders that fit one person, count as not found.

    Args:
        students: Names of the folders.
        rows: The people.
        columns: Those that hold names and numbers.
        system: What to call the other system.
    """
    columns = tuple(columns)
    places: dict[str, set[int]] = defaultdict(set)
    for place, row in enumerate(rows):
        for key in _keys(row, columns):
            places[key].add(place)
    found = {student: places.get(_key(student), set()) for student in students}
    claimed: dict[int, list[str]] = defaultdict(list)
    for student, fitting in found.items():
        if len(fitting) == 1:
            claimed[next(iter(fitting))].append(student)
    people = {names[0]: rows[place] for place, names in claimed.items() if len(names) == 1}
    notes = [
        *_note([s for s, f in found.items() if not f], f"nobody in the list from {system} has this name or number"),
        *_note([s for s, f in found.items() if len(f) > 1], f"several people in the list from {system} have this name"),
        *_note(
            [s for names in claimed.values() if len(names) > 1 for s in names], "another folder is the same person's"
        ),
    ]
    if absent := len(rows) - len(claimed):
        notes.append(f"{absent} in the list from {system} without a folder here: they keep the grade that they have.")
    return Match({student: people[student] for student in students if student in people}, tuple(notes))


def _note(students: Sequence[str], why: str) -> list[str]:
    if not students:
        return []
    names = ", ".join(f"`{shown_name(student)}`" for student in students[:_LISTED])
    more = f" and {len(students) - _LISTED} more" if len(students) > _LISTED else ""
    return [f"No grade is exported for {names}{more}: {why}. Rename the folder, or enter the grade by hand."]


def _keys(row: Mapping[str, str], columns: Iterable[str]) -> set[str]:
    texts = [row.get(column, "") for column in columns]
    texts += [text.partition("@")[0] for text in texts if "@" in text]
    texts += [" ".join(reversed(text.split(",", 1))) for text in texts if "," in text]  # "Jones, Ben" is Ben Jones
    return {key for text in texts if (key := _key(text))}


def _key(text: str) -> str:
    bare = unicodedata.normalize("NFKD", text).casefold()
    return "".join(char for char in bare if char.isalnum() or char == "@")
