"""The report as JSON (schema 1), for programs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from grader.model import Report
from grader.report.feedback import limit


def dump(report: Report, feedback: str = "full", more: Mapping[str, Any] | None = None) -> str:
    """Return ``report`` as JSON text that ends with a line break.

    Keys are sorted, and nothing but ``timing`` differs between two runs with one seed. Everything outside of ASCII is
    escaped, so that no character of a learner's can steer the terminal that shows it.

    Args:
        report: What was found out.
        feedback: ``full``, ``titles`` or ``score``.
        more: Keys to stand beside those of the schema.

    Raises:
        ValueError: If a number in the report is not finite, which JSON cannot hold.
    """
    shown = replace(report, exercises=tuple(limit(result, feedback) for result in report.exercises))
    return write_json(shown.to_dict() | dict(more or {}))


def write_json(data: Mapping[str, Any]) -> str:
    """Return ``data`` as JSON text in ASCII, sorted, that ends with a line break."""
    return json.dumps(data, indent=2, sort_keys=True, allow_nan=False) + "\n"
