"""A class's results on one screen of a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grader.classroom.model import ClassReport
from grader.classroom.statistics import ExerciseSummary, summarise
from grader.model import Verdict
from grader.report.layout import print_text
from grader.report.text import number, one_line

NOTES = 5  # that are shown; the class's page has all


def print_summary(report: ClassReport, console: Console) -> None:
    """Print how the class did: a row for each exercise, what stops most of it, and what the teacher should know."""
    summary = summarise(report)
    students = len(report.students)
    console.print()
    print_text(console, Text(one_line(report.title), "bold"))
    handed_in = students - len(summary.absent)
    line = f"{students} students, {handed_in} of whom handed something in; mean {summary.mean:.0f} %"
    print_text(console, Text(f"{line}, median {summary.median:.0f} %", "dim"))
    console.print()
    console.print(_table(summary.exercises))
    for belief in summary.beliefs[:1]:
        console.print()
        print_text(console, Text(f"The commonest misconception ({belief.students} in {belief.exercise.slug})", "bold"))
        print_text(console, Text(one_line(belief.diagnosis.message)), 2)
    _print_notes(report, console)
    console.print()
    conditions = f"Seed {report.seed}. Sandbox: {report.sandbox.tier}."
    print_text(console, Text(conditions, "dim"))


def _table(exercises: tuple[ExerciseSummary, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, expand=True, header_style="bold")
    table.add_column("exercise", no_wrap=True)
    for title in "passed", "failed", "no code", "missing", "mean":
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("hardest check (students who fail it)", ratio=1)
    for one in exercises:
        verdicts = one.verdicts
        broken = verdicts[Verdict.ERROR] + verdicts[Verdict.NOT_ATTEMPTED]
        table.add_row(
            Text(one.exercise.slug),
            Text(str(verdicts[Verdict.PASSED]), "green"),
            Text(str(verdicts[Verdict.FAILED]), "red" if verdicts[Verdict.FAILED] else "dim"),
            Text(str(broken), "red" if broken else "dim"),
            Text(str(one.missing), "yellow" if one.missing else "dim"),
            Text(f"{number(round(one.mean, 1))} / {number(one.exercise.max_points)}"),
            _hardest(one),
        )
    return table


def _hardest(one: ExerciseSummary) -> Text:
    check = one.checks[0] if one.checks else None
    if check is None or not check.failed:
        return Text("none", "dim")
    return Text(f"{one_line(check.title)} ({check.failed})")


def _print_notes(report: ClassReport, console: Console) -> None:
    """Print the first notes, and where all of them are."""
    of_files = [f"{one_line(entry.student)}: {one_line(note)}" for entry in report.graded for note in entry.notes]
    notes = [*map(one_line, report.notes), *of_files]
    if not notes:
        return
    console.print()
    print_text(console, Text("Worth knowing", "bold"))
    for note in notes[:NOTES]:
        print_text(console, Text(note), 2)
    if len(notes) > NOTES:
        print_text(console, Text(f"and {len(notes) - NOTES} more, all of them in report.html", "dim"), 2)
