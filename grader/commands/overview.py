"""The table of all exercises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby

from rich.console import Console
from rich.table import Table
from rich.text import Text

from grader.learner.workspace import Status
from grader.model import Exercise, Verdict

_WORDS: dict[Status | Verdict, tuple[str, str]] = {
    Status.MISSING: ("no file", "dim"),
    Status.UNTOUCHED: ("not begun", "dim"),
    Status.EDITED: ("changed", "yellow"),
    Verdict.PASSED: ("passed", "green"),
    Verdict.FAILED: ("failed", "red"),
    Verdict.NOT_ATTEMPTED: ("not attempted", "yellow"),
    Verdict.ERROR: ("does not run", "red"),
}


def print_overview(
    exercises: Sequence[Exercise], console: Console, found: Mapping[str, Status | Verdict] | None = None
) -> None:
    """Print every exercise in order, a table per track.

    Args:
        exercises: The bank.
        console: Where to print.
        found: Where each slug stands; None to leave that column out.
    """
    for track, members in groupby(exercises, key=lambda exercise: exercise.track):
        console.print()
        console.print(Text(track, "bold"))
        console.print(_table(list(members), found))


def _table(exercises: Sequence[Exercise], found: Mapping[str, Status | Verdict] | None) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True, min_width=18)  # the longest slug
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    table.add_column(no_wrap=True, min_width=6)
    table.add_column(no_wrap=True, min_width=6, justify="right")
    if found is not None:
        table.add_column(no_wrap=True, min_width=max(len(word) for word, _ in _WORDS.values()))
    for exercise in exercises:
        row = [
            Text(exercise.slug, "cyan"),
            Text(exercise.title, no_wrap=True, overflow="ellipsis"),
            Text(exercise.difficulty, "dim"),
            Text(f"{exercise.minutes} min", "dim"),
        ]
        if found is not None:
            row.append(Text(*_WORDS[found[exercise.slug]]))
        table.add_row(*row)
    return table
