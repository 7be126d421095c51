"""How much of a result its reader gets to see."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from grader.model import CheckResult, CheckVerdict, ExerciseResult


class Feedback(StrEnum):
    """From everything to nothing but the points."""

    FULL = "full"
    TITLES = "titles"  # every check's title and verdict, no messages
    SCORE = "score"  # points and the exercise's verdict


def limit(result: ExerciseResult, feedback: str) -> ExerciseResult:
    """Return ``result`` with what ``feedback`` keeps back taken out; verdict and points stay.

    ``titles`` keeps the sentence on why a file could not be run at all: it is about the file, not about the checks.
    ``score`` sums the checks up in one without a name, so that not even their order tells which of them failed.
    """
    match Feedback(feedback):
        case Feedback.FULL:
            return result
        case Feedback.TITLES:
            checks = tuple(replace(check, message="") for check in result.checks)
            return replace(result, checks=checks, diagnoses=(), output="")
        case Feedback.SCORE:
            total = _summed(result)
            return replace(result, checks=total, message="", line=None, diagnoses=(), policy=(), output="")


def _summed(result: ExerciseResult) -> tuple[CheckResult, ...]:
    if not result.checks:
        return ()
    verdicts = {check.verdict for check in result.checks}
    verdict = verdicts.pop() if len(verdicts) == 1 else CheckVerdict.FAILED
    return (CheckResult("", "", False, result.points, result.max_points, verdict),)
