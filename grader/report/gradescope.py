"""The report as Gradescope's ``results.json`` (https://gradescope-autograders.readthedocs.io/en/latest/specs/)."""

from __future__ import annotations

from typing import Any

from grader.model import CheckResult, CheckVerdict, ExerciseResult, Report
from grader.report.feedback import limit
from grader.report.json import write_json
from grader.report.remarks import label, reason, remarks
from grader.report.text import number, one_line, plain
from grader.report.words import VERDICTS


def dump(report: Report, feedback: str = "full") -> str:
    """Return ``report`` as JSON text that ends with a line break.

    Every text is declared as plain, since Gradescope reads the output of a whole submission as HTML otherwise.

    Args:
        report: What was found out.
        feedback: ``full``, ``titles`` or ``score``; with the last, an exercise is a single test.
    """
    results = [limit(result, feedback) for result in report.exercises]
    data: dict[str, Any] = {
        "output": "\n\n".join([*map(_told, results), _conditions(report)]),
        "output_format": "text",
        "test_output_format": "text",
        "test_name_format": "text",
        "stdout_visibility": "hidden",
        "execution_time": round(sum(result.seconds for result in results)),
        "tests": [
            _test(check, result, f"{first}.{second}")
            for first, result in enumerate(results, 1)
            for second, check in enumerate(result.checks, 1)
        ],
        "extra_data": {
            "kit": report.kit,
            "seed": str(report.seed),  # as text: it has more bits than a number in JavaScript
            "sandbox": report.sandbox.tier,
            "versions": dict(report.versions),
        },
    }
    return write_json(data if data["tests"] else data | {"score": 0.0})


def _test(check: CheckResult, result: ExerciseResult, place: str) -> dict[str, Any]:
    return {
        "name": f"{result.slug}: {label(check)}",
        "number": place,
        "score": check.points,
        "max_score": check.max_points,
        "status": "passed" if check.verdict is CheckVerdict.PASSED else "failed",
        "output": reason(check, result),
        "tags": [result.track, result.slug],
        "visibility": "visible",
    }


def _told(result: ExerciseResult) -> str:
    score = f"{number(result.points)} of {number(result.max_points)} points"
    parts = [f"{one_line(result.title)}: {VERDICTS[result.verdict]}, {score}.", *remarks(result)]
    if result.output.strip():
        parts.append(f"Your code printed:\n{plain(result.output)}")
    return "\n\n".join(parts)


def _conditions(report: Report) -> str:
    return f"Seed {report.seed}. Sandbox: {report.sandbox.tier}. Kit {report.kit}."
