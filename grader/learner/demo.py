"""The tour: one file with a classic mistake, graded, mended and graded again."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console
from rich.text import Text

from grader.bank import find_exercise
from grader.judge.client import Grader
from grader.model import Exercise, ExerciseResult, Verdict
from grader.report.layout import coded, print_text
from grader.report.terminal import print_result
from grader.submission import read_submission

SLUG = "rotary"
SAMPLES = Path(__file__).parent / "samples"


def run_demo(exercises: Sequence[Exercise], console: Console) -> bool:
    """Grade the sample with its mistake and without it, in a temporary folder.

    Args:
        exercises: The bank.
        console: Where to print.

    Returns:
        Whether both went as they should: the mistake was named, and the mended file passed.
    """
    exercise = find_exercise(SLUG, exercises)
    wrong = (SAMPLES / "rotary_halves.py").read_text(encoding="utf-8")
    right = (SAMPLES / "rotary_pairs.py").read_text(encoding="utf-8")
    with Grader(jobs=1) as grader, TemporaryDirectory(prefix="grade-demo-") as folder:
        file = Path(folder) / f"{SLUG}.py"
        _say(console, f"1. A learner wrote {file.name} for the exercise `{SLUG}`:")
        _show_source(console, wrong)
        first = _grade(grader, exercise, file, wrong)
        print_result(_with_first_message(first), console)
        _say(console, "(Only the first message is shown here; `grade` shows them all.)", "dim")
        _say(console, f"2. The same file with the pairs that `{SLUG}` asks for:")
        _show_diff(console, wrong, right)
        second = _grade(grader, exercise, file, right)
        print_result(second, console)
    went_well = first.verdict is Verdict.FAILED and bool(first.diagnoses) and second.verdict is Verdict.PASSED
    _say(console, _farewell(len(exercises)) if went_well else "The demo did not go as it should: see `grade doctor`.")
    return went_well


def _grade(grader: Grader, exercise: Exercise, file: Path, source: str) -> ExerciseResult:
    file.write_text(source, encoding="utf-8")
    submission = replace(read_submission(file, SLUG), file=file.name)
    (result,) = grader.grade([(exercise, submission)], None)
    return result


def _with_first_message(result: ExerciseResult) -> ExerciseResult:
    """Keep the demo on two pages: one mistake fails many checks, and one message says it."""
    failed = [check.name for check in result.checks if check.message]
    return replace(
        result,
        checks=tuple(check if check.name in failed[:1] else replace(check, message="") for check in result.checks),
    )


def _farewell(count: int) -> str:
    return (
        f"Your turn: `grade init` lays out {count} exercises in a folder of your own, `grade list` shows them, and "
        f"`grade {SLUG}` grades what you wrote. Nothing of yours was touched by this demo."
    )


def _say(console: Console, text: str, style: str = "bold") -> None:
    console.print()
    print_text(console, coded(text, style))


def _show_source(console: Console, source: str) -> None:
    console.print()
    for number, line in enumerate(source.splitlines(), start=1):
        console.print(Text(f"  {number:3}  ", "dim").append(line, "not dim"), soft_wrap=True)


def _show_diff(console: Console, before: str, after: str) -> None:
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=1, lineterm="")
    console.print()
    for line in list(lines)[3:]:  # without the file names and the position
        style = {"-": "red", "+": "green"}.get(line[:1], "dim")
        console.print(Text(f"  {line}", style), soft_wrap=True)
