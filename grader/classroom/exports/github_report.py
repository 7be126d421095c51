"""The last step of the workflow: points as notices and as the run's summary, from a report in JSON.

The notices are the two that ``classroom-resources/autograding-grading-reporter`` writes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from grader.report.markdown import in_markdown
from grader.report.text import number
from grader.report.words import CHECKS, VERDICTS


def notices(report: dict[str, Any]) -> list[str]:
    """Return the workflow commands that show the points beside the run."""
    points = sum(one["points"] for one in report["exercises"])
    maximum = sum(one["max_points"] for one in report["exercises"])
    totals = json.dumps({"totalPoints": points, "maxPoints": maximum})
    return [
        f"::notice title=Autograding complete::Points {number(points)}/{number(maximum)}",
        f"::notice title=Autograding report::{totals}",
    ]


def summary(report: dict[str, Any]) -> str:
    """Return the run's summary in Markdown: a table of the exercises, and one of the checks of each."""
    lines = ["| Exercise | Result | Points |", "|---|---|---:|"]
    for one in report["exercises"]:
        lines.append(f"| {in_markdown(one['title'])} | {VERDICTS[one['verdict']]} | {_score(one)} |")
    for one in report["exercises"]:
        lines += ["", f"### {in_markdown(one['title'])}", ""]
        remarks = [one["message"], *(diagnosis["message"] for diagnosis in one["diagnoses"])]
        remarks += [f"Not allowed in this exercise, so no check counts: {f['name']}" for f in one["policy"]]
        lines += [f"- {in_markdown(remark)}" for remark in remarks if remark]
        if any(check["title"] for check in one["checks"]):
            lines += ["", "| Check | Result | Points |", "|---|---|---:|"]
            lines += [_check(check) for check in one["checks"]]
    return "\n".join(lines) + "\n"


def _check(check: dict[str, Any]) -> str:
    told = f"<br>{in_markdown(check['message'])}" if check["message"] else ""
    return f"| {in_markdown(check['title'])}{told} | {CHECKS[check['verdict']]} | {_score(check)} |"


def _score(one: dict[str, Any]) -> str:
    return f"{number(one['points'])} of {number(one['max_points'])}"


def main(words: Sequence[str]) -> int:
    """Write notices and summary, and return 1 unless everything has passed, so that the run shows it."""
    report = json.loads(Path(words[0]).read_text("utf-8"))
    print(*notices(report), sep="\n")
    if place := os.environ.get("GITHUB_STEP_SUMMARY"):
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(summary(report))
    return 0 if all(one["verdict"] == "passed" for one in report["exercises"]) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
