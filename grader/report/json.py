"""The report as JSON (schema 1), for programs."""

from __future__ import annotations

import json
from dataclasses import replace

from grader.model import Report
from grader.report.feedback import limit


def dump(report: Report, feedback: str = "full") -> str:
    """Return ``report`` as JSON text that ends with a line break.

    Keys are sorted, and nothing but ``timing`` differs between two runs with one seed. Everything outside of ASCII is
    escaped, so that no character of a learner's can steer the terminal that shows it.

    Raises:
        ValueError: If a number in the report is not finite, which JSON cannot hold.
    """
    shown = replace(report, exercises=tuple(limit(result, feedback) for result in report.exercises))
    return json.dumps(shown.to_dict(), indent=2, sort_keys=True, allow_nan=False) + "\n"
