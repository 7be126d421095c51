"""The report as JUnit XML, which nearly every continuous integration reads: a suite an exercise, a case a check.

Every check that did not pass is a failure or an error, also one that never ran: a case that is merely skipped would
count as good.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET  # only writes here; nothing is parsed
from collections.abc import Sequence

from grader.model import CheckResult, CheckVerdict, ExerciseResult, Report
from grader.report.feedback import limit
from grader.report.remarks import label, reason, remarks
from grader.report.text import number, one_line, plain
from grader.report.words import CHECKS, VERDICTS

_UNFIT = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # what no XML 1.0 document may hold
_ERRORS = {CheckVerdict.CRASHED, CheckVerdict.SKIPPED}  # the check could not say anything


def dump(report: Report, feedback: str = "full") -> str:
    """Return ``report`` as XML text that ends with a line break.

    Args:
        report: What was found out.
        feedback: ``full``, ``titles`` or ``score``; with the last, an exercise is a single case.
    """
    results = [limit(result, feedback) for result in report.exercises]
    root = ET.Element("testsuites", {"name": "grade", **_counts(results)})
    for result in results:
        suite = ET.SubElement(root, "testsuite", {"name": _fit(result.slug), **_counts([result])})
        _properties(suite, _facts(report, result))
        for check in result.checks:
            _case(suite, check, result)
        _text(suite, "system-out", plain(result.output))
        _text(suite, "system-err", "\n\n".join(remarks(result)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="unicode") + "\n"


def _counts(results: Sequence[ExerciseResult]) -> dict[str, str]:
    bad = [check for result in results for check in result.checks if check.verdict is not CheckVerdict.PASSED]
    errors = sum(check.verdict in _ERRORS for check in bad)
    return {
        "tests": str(sum(len(result.checks) for result in results)),
        "failures": str(len(bad) - errors),
        "errors": str(errors),
        "skipped": "0",
        "time": f"{sum(result.seconds for result in results):.4f}",
    }


def _facts(report: Report, result: ExerciseResult) -> dict[str, str]:
    return {
        "title": result.title,
        "file": result.file,
        "verdict": VERDICTS[result.verdict],
        "points": number(result.points),
        "max_points": number(result.max_points),
        "seed": str(report.seed),
        "sandbox": report.sandbox.tier,
        "kit": report.kit,
        **report.versions,
    }


def _case(suite: ET.Element, check: CheckResult, result: ExerciseResult) -> None:
    names = {"name": _fit(label(check)), "classname": _fit(f"{result.track}.{result.slug}")}
    case = ET.SubElement(suite, "testcase", names)
    _properties(case, {"points": number(check.points), "max_points": number(check.max_points)})
    why = _fit(reason(check, result))
    if why:
        tag = "error" if check.verdict in _ERRORS else "failure"
        first = why.strip().partition("\n")[0]
        ET.SubElement(case, tag, {"type": CHECKS[check.verdict], "message": first}).text = why


def _properties(parent: ET.Element, facts: dict[str, str]) -> None:
    properties = ET.SubElement(parent, "properties")
    for name, value in facts.items():
        ET.SubElement(properties, "property", {"name": _fit(one_line(name)), "value": _fit(one_line(value))})


def _text(parent: ET.Element, tag: str, text: str) -> None:
    if text.strip():
        ET.SubElement(parent, tag).text = _fit(text)


def _fit(text: str) -> str:
    return _UNFIT.sub("", text)
