"""A class's results as files: ``grades.csv``, ``report.html``, and two files for each student."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from grader.classroom.grades import grades_csv
from grader.classroom.html import render
from grader.classroom.model import ClassReport, Graded
from grader.classroom.names import page_name, shown_name
from grader.classroom.statistics import ClassSummary, by_student, is_missing, percent, summarise
from grader.model import CheckVerdict, ExerciseResult, Report, Verdict
from grader.report.feedback import Feedback, limit
from grader.report.files import make_folder, write_whole
from grader.report.json import dump
from grader.report.text import number
from grader.report.words import CHECKS, VERDICTS

_CHART = 180  # height of the highest bar of the distribution
_KINDS = {Verdict.PASSED: "good", Verdict.FAILED: "bad", Verdict.NOT_ATTEMPTED: "none", Verdict.ERROR: "bad"}
_SIGNS = {Verdict.PASSED: "✓", Verdict.FAILED: "", Verdict.NOT_ATTEMPTED: "○", Verdict.ERROR: "✗"}


def write_pages(report: ClassReport, out: Path, feedback: str = "full") -> None:
    """Write the class's table and page, and what each student gets to read.

    Args:
        report: What was found out.
        out: Folder of the results; made if it is not there.
        feedback: What the students' files tell, ``full``, ``titles`` or ``score``. The class's own files tell all.

    Raises:
        UsageError: If a file or folder cannot be written.
    """
    folder = out / "students"
    make_folder(folder)
    for student, entries in by_student(report).items():
        write_whole(folder / f"{page_name(student)}.json", student_json(report, student, entries, feedback))
        write_whole(folder / f"{page_name(student)}.html", student_page(report, student, entries, feedback))
    write_whole(out / "grades.csv", grades_csv(report))
    write_whole(out / "report.html", class_page(report))


def student_report(report: ClassReport, entries: Sequence[Graded]) -> Report:
    """Return one student's results in the form of a run of ``grade``."""
    results = tuple(entry.result for entry in entries)
    return Report(report.kit, report.seed, report.sandbox, report.versions, results)


def student_json(report: ClassReport, student: str, entries: Sequence[Graded], feedback: str = "full") -> str:
    """Return one student's report (schema 1), with name, digests and notes beside it."""
    digests = {entry.result.slug: {"submission": entry.submission, "suite": entry.suite} for entry in entries}
    notes = {entry.result.slug: list(entry.notes) for entry in entries if entry.notes}
    more = {"student": student, "hashes": digests, "notes": notes}
    return dump(student_report(report, entries), feedback, more)


# --- one student ------------------------------------------------------------------------------------------


def student_page(report: ClassReport, student: str, entries: Sequence[Graded], feedback: str = "full") -> str:
    """Return one student's page, which tells of no other student."""
    points = sum(entry.result.points for entry in entries)
    return render(
        "student.html",
        **_conditions(report),
        student=student,
        points=points,
        percent=percent(points, report.max_points),
        passed=sum(entry.result.verdict is Verdict.PASSED for entry in entries),
        entries=[_shown_entry(entry, feedback) for entry in entries],
    )


def _shown_entry(entry: Graded, feedback: str) -> dict[str, Any]:
    result = limit(entry.result, feedback)
    missing = is_missing(entry)
    return {
        "result": result,
        "word": "nothing handed in" if missing else VERDICTS[result.verdict],
        "kind": "none" if missing else _KINDS[result.verdict],
        "notes": entry.notes,
        "submission": entry.submission,
        "suite": entry.suite,
        "checks": [] if feedback == Feedback.SCORE else _shown_checks(result),
    }


def _shown_checks(result: ExerciseResult) -> list[dict[str, Any]]:
    """Return the checks of a result; none if none was made."""
    if result.verdict in {Verdict.ERROR, Verdict.NOT_ATTEMPTED}:
        return []
    return [
        {
            "check": check,
            "word": CHECKS[check.verdict],
            "kind": {CheckVerdict.PASSED: "good", CheckVerdict.SKIPPED: "none"}.get(check.verdict, "bad"),
        }
        for check in result.checks
    ]


# --- the class --------------------------------------------------------------------------------------------


def class_page(report: ClassReport) -> str:
    """Return the page for the teacher."""
    summary = summarise(report)
    students = by_student(report)
    return render(
        "class.html",
        **_conditions(report),
        summary=summary,
        bins=_bins(summary),
        full=sum(score >= 100 for score in summary.scores),
        rows=[_row(report, student, entries) for student, entries in sorted(students.items(), key=_by_name)],
        layers=report.sandbox.layers,
        notes=report.notes,
        remarks=[
            {"student": entry.student, "slug": entry.result.slug, "note": note}
            for entry in report.graded
            for note in entry.notes
        ],
        suites=[
            (exercise.slug, sorted({e.suite for e in report.graded if e.result.slug == exercise.slug and e.suite}))
            for exercise in report.exercises
        ],
    )


def _by_name(item: tuple[str, tuple[Graded, ...]]) -> tuple[str, str]:
    return item[0].casefold(), item[0]


def _conditions(report: ClassReport) -> dict[str, Any]:
    return {
        "title": report.title,
        "max_points": report.max_points,
        "kit": report.kit,
        "seed": report.seed,
        "tier": report.sandbox.tier,
        "versions": sorted(report.versions.items()),
    }


def _bins(summary: ClassSummary) -> list[dict[str, Any]]:
    step = 100 // len(summary.bins)
    highest = max(summary.bins, default=0) or 1
    return [
        {
            "label": f"{place * step}–{place * step + step}",
            "students": students,
            "height": round(_CHART * students / highest, 1),
        }
        for place, students in enumerate(summary.bins)
    ]


def _row(report: ClassReport, student: str, entries: Sequence[Graded]) -> dict[str, Any]:
    points = sum(entry.result.points for entry in entries)
    return {
        "name": shown_name(student),
        "link": f"students/{quote(page_name(student))}.html",
        "percent": f"{percent(points, report.max_points):.0f}",
        "points": number(points),
        "cells": [_cell(entry) for entry in entries],
    }


def _cell(entry: Graded) -> dict[str, str]:
    result = entry.result
    points = number(result.points)
    if is_missing(entry):
        return {"points": "", "sign": "–", "kind": "none", "word": "nothing handed in"}
    if result.policy:
        return {"points": points, "sign": "!", "kind": "bad", "word": "uses what is not allowed"}
    word = VERDICTS[result.verdict]
    return {"points": points, "sign": _SIGNS[result.verdict], "kind": _KINDS[result.verdict], "word": word}
