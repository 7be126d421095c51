"""The report as a person reads it in a terminal.

Whatever comes from a learner (messages quote it, ``output`` is it) goes through ``plain`` and into ``rich.text.Text``,
which reads no markup, so it can neither colour nor move anything on the reader's screen.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import islice

from rich.console import Console
from rich.padding import Padding
from rich.panel import Panel
from rich.text import Text

from grader.model import CheckResult, CheckVerdict, Exercise, ExerciseResult, Report, Verdict
from grader.report.feedback import limit
from grader.report.layout import MARKS, capped, coded, print_row, print_text
from grader.report.text import number, one_line, plain

OUTPUT_LINES = 20  # of what the learner's code printed
MESSAGE_LINES = 30

_REASONS = {CheckVerdict.TIMEOUT: "took too long", CheckVerdict.CRASHED: "crashed", CheckVerdict.SKIPPED: "not run"}
_VERDICTS = {
    Verdict.PASSED: ("good", "passed"),
    Verdict.FAILED: ("bad", "failed"),
    Verdict.NOT_ATTEMPTED: ("none", "not attempted"),
    Verdict.ERROR: ("bad", "could not be run"),
}


def print_report(report: Report, exercises: Sequence[Exercise], console: Console, feedback: str = "full") -> None:
    """Print every exercise's result, and what to do next.

    Args:
        report: What was found out.
        exercises: The whole bank in its order, for what comes next.
        console: Where to print.
        feedback: ``full``, ``titles`` or ``score``.
    """
    for result in report.exercises:
        print_result(result, console, feedback, brief=len(report.exercises) > 1)
    print_ending(report, exercises, console, feedback)


def print_result(result: ExerciseResult, console: Console, feedback: str = "full", *, brief: bool = False) -> None:
    """Print one exercise; with ``brief``, one that passed loses its list of checks."""
    result = limit(result, feedback)
    console.print()
    print_text(console, Text(result.title, "bold"))
    print_text(console, Text(f"{result.slug}, {one_line(result.file)}", "dim"))
    if result.verdict is Verdict.ERROR:
        _print_error(result, console)
    elif _lists_checks(result, feedback, brief=brief):
        _print_checks(result.checks, console)
    _print_policy(result, console)
    _print_diagnoses(result, console)
    _print_output(result, console)
    _print_score(result, console)


def print_ending(report: Report, exercises: Sequence[Exercise], console: Console, feedback: str = "full") -> None:
    """Print what to do next, and what is needed to see the same again."""
    if len(report.exercises) > 1:
        _print_sums(report.exercises, console)
    open_ones = [result for result in report.exercises if result.verdict is not Verdict.PASSED]
    hints: list[str] = []
    if open_ones:
        hints = [] if feedback == "score" else _what_to_mend(open_ones[0], exercises)
    elif report.exercises:
        hints = _what_comes_after(report.exercises[-1].slug, exercises)
    if hints:
        console.print()
    for hint in hints:
        print_text(console, coded(hint), 2)
    console.print()
    print_text(console, Text(_conditions(report), "dim"))


# --- parts of one exercise --------------------------------------------------------------------------------


def _lists_checks(result: ExerciseResult, feedback: str, *, brief: bool) -> bool:
    if feedback == "score" or result.verdict is Verdict.NOT_ATTEMPTED:
        return False
    return not (brief and result.verdict is Verdict.PASSED)


def _print_error(result: ExerciseResult, console: Console) -> None:
    console.print()
    print_row(console, "bad", Text("The file could not be run, so no check was made."))
    if result.message:
        print_text(console, coded(capped(result.message, MESSAGE_LINES)), 6)


def _print_checks(checks: Iterable[CheckResult], console: Console) -> None:
    said: set[str] = set()
    console.print()
    for check in checks:
        kind = "good" if check.verdict is CheckVerdict.PASSED else "bad"
        if check.verdict is CheckVerdict.SKIPPED:
            kind = "none"
        title = coded(check.title or check.name, "" if kind == "good" else "bold")
        if check.verdict in _REASONS:
            title.append(f" ({_REASONS[check.verdict]})", "yellow")
        print_row(console, kind, title, f"{number(check.points)}/{number(check.max_points)}")
        told = check.verdict is CheckVerdict.SKIPPED and check.message in said  # "not run" says it again
        if check.message and check.verdict is not CheckVerdict.PASSED and not told:
            message = "The same as above." if check.message in said else capped(check.message, MESSAGE_LINES)
            print_text(console, coded(message), 6)
            said.add(check.message)


def _print_policy(result: ExerciseResult, console: Console) -> None:
    if not result.policy:
        return
    console.print()
    print_text(console, Text("Not allowed in this exercise, so no check counts:", "bold"), 2)
    for finding in result.policy:
        where = f"line {finding.line}: " if finding.line is not None else ""
        print_text(console, coded(f"{where}`{one_line(finding.name)}` ({one_line(finding.rule)})"), 4)


def _print_diagnoses(result: ExerciseResult, console: Console) -> None:
    if not result.diagnoses:
        return
    text = coded("\n\n".join(plain(diagnosis.message) for diagnosis in result.diagnoses))
    title = Text("What your code does", "bold")
    panel = Panel(text, title=title, title_align="left", border_style="cyan", padding=(0, 2))
    console.print()
    console.print(Padding(panel, (0, 0, 0, 2)))


def _print_output(result: ExerciseResult, console: Console) -> None:
    if not result.output.strip():
        return
    console.print()
    print_text(console, Text("Your code printed:", "bold"), 2)
    print_text(console, Text(capped(result.output, OUTPUT_LINES), "dim"), 4)


def _print_score(result: ExerciseResult, console: Console) -> None:
    kind, word = _VERDICTS[result.verdict]
    style = MARKS[kind][2]
    text = Text(f"{number(result.points)} / {number(result.max_points)} points", f"bold {style}")
    console.print()
    print_text(console, text.append(f", {word}", style), 2)


# --- the end of a report ----------------------------------------------------------------------------------


def _print_sums(results: Sequence[ExerciseResult], console: Console) -> None:
    console.print()
    console.rule(style="dim")
    width = max(len(result.slug) for result in results)
    for result in results:
        kind, word = _VERDICTS[result.verdict]
        title = Text(f"{result.slug:{width}}  ").append(word, MARKS[kind][2])
        print_row(console, kind, title, f"{number(result.points)} / {number(result.max_points)}")
    passed = sum(result.verdict is Verdict.PASSED for result in results)
    points = sum(result.points for result in results)
    out_of = sum(result.max_points for result in results)
    console.print()
    line = f"{passed} of {len(results)} passed, {number(points)} / {number(out_of)} points"
    print_text(console, Text(line, "bold"), 2)


def _what_to_mend(result: ExerciseResult, exercises: Sequence[Exercise]) -> list[str]:
    """Return the next step for an exercise that has not passed."""
    if result.verdict is Verdict.ERROR:
        return [f"Next: make {one_line(result.file)} run, then grade it again."]
    names = [name for exercise in exercises if exercise.slug == result.slug for name in exercise.names]
    if result.verdict is Verdict.NOT_ATTEMPTED:
        what = ", ".join(f"`{name}`" for name in names) or "it"
        return [f"Next: open {one_line(result.file)} and write {what}."]
    if result.policy:
        return [f"Next: do without `{one_line(result.policy[0].name)}`."]
    failed = (check for check in result.checks if check.verdict is not CheckVerdict.PASSED)
    return [f'Next: look at "{check.title or check.name}" first.' for check in islice(failed, 1)]


def _what_comes_after(slug: str, exercises: Sequence[Exercise]) -> list[str]:
    """Return what an interviewer would ask about ``slug``, and the exercise after it."""
    slugs = [exercise.slug for exercise in exercises]
    if slug not in slugs:
        return []
    at = slugs.index(slug)
    hints = [f"An interviewer would now ask: {follow_up.question}" for follow_up in exercises[at].follow_ups[:1]]
    if at + 1 < len(exercises):
        hints.append(f"Next: {exercises[at + 1].title} (`grade {exercises[at + 1].slug}`)")
    else:
        hints.append("That was the last exercise.")
    return hints


def _conditions(report: Report) -> str:
    """Return the line that says what held the code and how to see the same inputs again."""
    text = f"Seed {report.seed} (the same inputs again: --seed). Sandbox: {report.sandbox.tier}."
    return text if report.sandbox.tier == "full" else f"{text} `grade doctor` says more."
