"""What a verdict is called in a report for people."""

from __future__ import annotations

from grader.model import CheckVerdict, Verdict

VERDICTS = {
    Verdict.PASSED: "passed",
    Verdict.FAILED: "failed",
    Verdict.NOT_ATTEMPTED: "not attempted",
    Verdict.ERROR: "could not be run",
}
CHECKS = {
    CheckVerdict.PASSED: "passed",
    CheckVerdict.FAILED: "failed",
    CheckVerdict.TIMEOUT: "took too long",
    CheckVerdict.CRASHED: "crashed",
    CheckVerdict.SKIPPED: "not run",
}
