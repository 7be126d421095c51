"""The report in the Common Test Report Format (https://ctrf.io, specification 0.0)."""

from __future__ import annotations

from collections import Counter
from typing import Any

from grader.model import CheckResult, CheckVerdict, ExerciseResult, Report
from grader.report.feedback import limit
from grader.report.json import write_json
from grader.report.remarks import label, reason, remarks
from grader.report.text import one_line, plain

SPECIFICATION = "0.0.0"


def dump(report: Report, feedback: str = "full", *, ended: float) -> str:
    """Return ``report`` as JSON text that ends with a line break.

    A check that never ran has failed; what the judge calls it stands in ``rawStatus``. The judge times an exercise and
    not each check, so a check's duration is 0.

    Args:
        report: What was found out.
        feedback: ``full``, ``titles`` or ``score``; with the last, an exercise is a single test.
        ended: When the run was over, in seconds since 1970.
    """
    results = [limit(result, feedback) for result in report.exercises]
    tests = [_test(check, result) for result in results for check in result.checks]
    took = round(1000 * sum(result.seconds for result in results))
    stop = round(1000 * ended)
    counts = Counter(test["status"] for test in tests)
    summary = {
        "tests": len(tests),
        **{status: counts[status] for status in ("passed", "failed", "skipped", "pending", "other")},
        "suites": len(results),
        "start": stop - took,
        "stop": stop,
    }
    return write_json(
        {
            "reportFormat": "CTRF",
            "specVersion": SPECIFICATION,
            "generatedBy": f"grade {report.kit}",
            "results": {
                "tool": {"name": "grade", "version": report.kit},
                "summary": summary,
                "tests": tests,
                "extra": _facts(report) | {"exercises": [_exercise(result) for result in results]},
            },
        }
    )


def _test(check: CheckResult, result: ExerciseResult) -> dict[str, Any]:
    passed = check.verdict is CheckVerdict.PASSED
    test: dict[str, Any] = {
        "name": label(check),
        "status": "passed" if passed else "failed",
        "rawStatus": check.verdict.value,
        "duration": 0,
        "suite": [result.track, result.slug],
        "filePath": one_line(result.file),
        "extra": {"points": check.points, "maxPoints": check.max_points},
    }
    return test if passed else test | {"message": reason(check, result)}


def _facts(report: Report) -> dict[str, Any]:
    return {
        "seed": str(report.seed),  # as text: it has more bits than a number in JavaScript
        "sandbox": {"tier": report.sandbox.tier, "layers": list(report.sandbox.layers)},
        "versions": dict(report.versions),
    }


def _exercise(result: ExerciseResult) -> dict[str, Any]:
    return {
        "slug": result.slug,
        "title": result.title,
        "verdict": result.verdict.value,
        "points": result.points,
        "maxPoints": result.max_points,
        "durationMilliseconds": round(1000 * result.seconds),
        "remarks": remarks(result),
        "output": plain(result.output),
    }
