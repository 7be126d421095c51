"""The commands that a learner needs beside ``grade`` itself."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from rich.table import Table
from rich.text import Text

from grader.bank import load_exercises
from grader.commands.overview import print_overview
from grader.commands.progress import Progress
from grader.doctor import examine
from grader.errors import UsageError
from grader.learner.demo import run_demo
from grader.learner.workspace import Workspace
from grader.report.layout import coded, make_console, mark, print_text
from grader.report.text import one_line


def lay_out(folder: Path) -> int:
    """Write the stubs that are missing in ``folder``; what is there stays as it is.

    Raises:
        UsageError: If ``folder`` cannot be written.
    """
    exercises = load_exercises()
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"`{folder}` is a file. Name a folder.")
    files = Workspace(folder.absolute()).init(exercises)
    written = [file for file, is_new in files if is_new]
    place = one_line((folder / "exercises").as_posix())
    kept = len(files) - len(written)
    console = make_console(sys.stdout)
    if written:
        print_text(console, coded(f"{_count(len(written))} written to {place}."))
    if kept:
        print_text(console, coded(f"{_count(kept)} there already, left as {'it was' if kept == 1 else 'they were'}."))
    first = exercises[0]
    where = "" if folder == Path() else f"go to {one_line(folder.as_posix())}, "
    file = os.path.relpath(files[0][0], folder)
    print_text(
        console, coded(f"Next: {where}write what is missing in {one_line(file)}, then run `grade {first.slug}`.")
    )
    return 0


def show_exercises() -> int:
    """Print the table of all exercises."""
    print_overview(load_exercises(), make_console(sys.stdout))
    return 0


def show_demo() -> int:
    """Run the demo; 1 if it did not go as it should."""
    return 0 if run_demo(load_exercises(), make_console(sys.stdout)) else 1


def show_doctor() -> int:
    """Print what this machine gives; 1 if something without which nothing can be graded is missing."""
    console = make_console(sys.stdout)
    code = 0
    console.print()
    with Progress() as progress:
        progress.say("Looking …")
        for finding in examine():
            progress.clear()
            row = Table.grid(padding=(0, 1, 0, 0))
            row.add_column()
            row.add_column(min_width=11)
            kind = "good" if finding.fine else "bad" if finding.needed else "none"
            row.add_row(mark(console, kind), Text(finding.what, "bold"), coded(one_line(finding.text)))
            console.print(row)
            code |= finding.needed
    return code


def _count(number: int) -> str:
    return f"{number} exercise" if number == 1 else f"{number} exercises"
