"""What a report for other programs says of an exercise besides its checks."""

from __future__ import annotations

from grader.model import CheckResult, CheckVerdict, ExerciseResult, Verdict
from grader.report.text import one_line, plain
from grader.report.words import CHECKS


def remarks(result: ExerciseResult) -> list[str]:
    """Return what stands beside the checks: why nothing was run, what is not allowed, what the code does."""
    found = [plain(result.message)] if result.message else []
    for finding in result.policy:
        where = f"line {finding.line}: " if finding.line is not None else ""
        found.append(
            f"Not allowed in this exercise, so no check counts: {where}{one_line(finding.name)} "
            f"({one_line(finding.rule)})."
        )
    return found + [plain(diagnosis.message) for diagnosis in result.diagnoses]


def label(check: CheckResult) -> str:
    """Return what a reader knows a check by; one without a name sums up all of an exercise."""
    return one_line(check.title or check.name) or "all checks"


def reason(check: CheckResult, result: ExerciseResult) -> str:
    """Return why a check did not pass, on as many lines as it takes; empty if it did."""
    if check.verdict is CheckVerdict.PASSED:
        return ""
    if result.verdict in {Verdict.ERROR, Verdict.NOT_ATTEMPTED} and not check.message:
        return plain(result.message) or CHECKS[check.verdict].capitalize()
    return plain(check.message) or CHECKS[check.verdict].capitalize()
