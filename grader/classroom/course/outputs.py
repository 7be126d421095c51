"""What the judge found, as outputs of a notebook's test cell: HTML and text for people, a number for nbgrader."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from grader.model import CheckResult, CheckVerdict, ExerciseResult, Verdict
from grader.report.text import number, plain

_SIGNS = {CheckVerdict.PASSED: "✓", CheckVerdict.SKIPPED: "–"}
_COLOURS = {CheckVerdict.PASSED: "#1a7f37", CheckVerdict.SKIPPED: "#6e7781"}
_WRONG = ("✗", "#b42318")
_HEADINGS = {Verdict.ERROR: "Your code could not be run", Verdict.NOT_ATTEMPTED: "Not written yet"}
_LEFT_OUT = "What was asked for is graded, without this"
_QUOTE = "margin:.2em 0 .6em 1.6em;white-space:pre-wrap;font-family:ui-monospace,monospace;font-size:.92em"


@dataclass(frozen=True)
class Findings:
    """What one test cell shows.

    Attributes:
        checks: Results of its checks, with as much in them as students may read.
        points: What the cell earns.
        max_points: What nbgrader says that the cell is worth.
        notes: Sentences about the whole work: why it could not be run, what the code does, what it printed.
        stamp: Who graded it, and how well the code was locked up.
    """

    checks: tuple[CheckResult, ...]
    points: float
    max_points: float
    notes: tuple[tuple[str, str], ...]
    stamp: str


def cell_outputs(found: Findings, count: int) -> list[dict[str, Any]]:
    """Return the outputs of a test cell; nbgrader reads the number in the last one as the points."""
    shown = {"text/html": _html(found), "text/plain": _plain(found)}
    value = {"text/plain": repr(float(found.points))}
    return [
        {"output_type": "display_data", "data": shown, "metadata": {}},
        {"output_type": "execute_result", "data": value, "metadata": {}, "execution_count": count},
    ]


def refused(sentence: str) -> list[dict[str, Any]]:
    """Return the output of a cell that could not be graded: an error, which nbgrader counts as no points."""
    traceback = [f"NotGraded: {sentence}"]
    return [{"output_type": "error", "ename": "NotGraded", "evalue": sentence, "traceback": traceback}]


def notes_of(result: ExerciseResult) -> tuple[tuple[str, str], ...]:
    """Return heading and text of everything that is about the work as a whole."""
    notes: list[tuple[str, str]] = []
    if result.message:
        notes.append((_HEADINGS.get(result.verdict, _LEFT_OUT), result.message))
    elif result.verdict is Verdict.NOT_ATTEMPTED:
        notes.append((_HEADINGS[result.verdict], "None of what was asked for is written."))
    notes += [("Not allowed here", f"{finding.rule}: {finding.name}") for finding in result.policy]
    notes += [("What your code does", diagnosis.message) for diagnosis in result.diagnoses]
    if result.output:
        notes.append(("What your code printed", result.output))
    return tuple((heading, plain(text)) for heading, text in notes)


def _sign(check: CheckResult) -> tuple[str, str]:
    return _SIGNS.get(check.verdict, _WRONG[0]), _COLOURS.get(check.verdict, _WRONG[1])


def _total(found: Findings) -> str:
    return f"{number(round(found.points, 4))} of {number(found.max_points)} points"


def _html(found: Findings) -> str:
    rows = "".join(_row(check) for check in found.checks)
    notes = "".join(
        f'<div style="border-left:3px solid #9a6700;padding:.2em .8em;margin:.6em 0"><strong>{escape(heading)}</strong>'
        f'<div style="white-space:pre-wrap">{escape(text)}</div></div>'
        for heading, text in found.notes
    )
    return (
        f'<div style="max-width:52em;line-height:1.45"><p style="margin:.3em 0"><strong>{_total(found)}</strong></p>'
        f'{rows}{notes}<p style="color:#6e7781;font-size:.85em;margin:.6em 0 0">{escape(found.stamp)}</p></div>'
    )


def _row(check: CheckResult) -> str:
    sign, colour = _sign(check)
    message = f'<div style="{_QUOTE}">{escape(plain(check.message))}</div>' if check.message else ""
    points = f"{number(check.points)}/{number(check.max_points)}"
    return (
        f'<div><span style="color:{colour};display:inline-block;width:1.4em">{sign}</span>{escape(check.title)} '
        f'<span style="color:#6e7781">{points}</span></div>{message}'
    )


def _plain(found: Findings) -> str:
    lines = [_total(found), ""]
    for check in found.checks:
        lines.append(f"{_sign(check)[0]} {check.title}  {number(check.points)}/{number(check.max_points)}")
        lines += _indented(plain(check.message)) if check.message else []
    for heading, text in found.notes:
        lines += ["", heading, *_indented(text)]
    return "\n".join([*lines, "", found.stamp])


def _indented(text: str) -> Sequence[str]:
    return [f"    {line}" for line in text.split("\n")]
