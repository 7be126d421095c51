"""A class's results on one screen of a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from grader.classroom.model import ClassReport
from grader.classroom.statistics import ExerciseSummary, summarise
from grader.model import Verdict
from grader.report.layout import coded, print_text
from grader.report.text import number, one_line

NOTES = 5  # that are shown; the class's page has all


def print_summary(report: ClassReport, console: Console) -> None:
    """Print how the class did: a row for each exercise, what stops most of it, and what the teacher should know."""
    summary = summarise(report)
    console.print()
    print_text(console, Text(one_line(report.title), "bold"))
    line = f"{_count(len(report.students), 'student')}, mean {summary.mean:.0f} %, median {summary.median:.0f} %"
    absent = f"; {len(summary.absent)} handed in nothing" if summary.absent else ""
    print_text(console, Text(line + absent, "dim"))
    console.print()
    console.print(_table(summary.exercises))
    _print_hardest(summary.exercises, console)
    for belief in summary.beliefs[:1]:
        told = _count(belief.students, "student")
        print_text(console, Text(f"Commonest misconception ({belief.exercise.slug}, {told})", "bold"))
        print_text(console, coded(one_line(belief.diagnosis.message)), 2)
    _print_notes(report, console)
    console.print()
    conditions = f"Seed {report.seed}. Sandbox: {report.sandbox.tier}."
    print_text(console, Text(conditions, "dim"))


def _table(exercises: tuple[ExerciseSummary, ...]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, header_style="bold")
    table.add_column("exercise", no_wrap=True)
    for title in "passed", "failed", "not run", "missing", "mean":
        table.add_column(title, justify="right", no_wrap=True)
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
        )
    return table


def _print_hardest(exercises: tuple[ExerciseSummary, ...], console: Console) -> None:
    """Print the check that the largest part of those fail whose code ran."""
    failed = [(one, check) for one in exercises for check in one.checks[:1] if check.failed]
    for one, check in sorted(failed, key=lambda pair: -pair[1].failed / pair[0].ran)[:1]:
        print_text(console, Text(f"Hardest check ({one.exercise.slug}, {check.failed} of {one.ran} fail it)", "bold"))
        print_text(console, coded(one_line(check.title)), 2)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


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
