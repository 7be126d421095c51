"""A small class with everything that pages and exports must bear: mistakes, absence, and names that mean harm."""

import hashlib
from dataclasses import replace
from pathlib import Path

from grader.classroom.model import ClassReport, Graded
from grader.model import (
    Check,
    CheckResult,
    CheckVerdict,
    Diagnosis,
    Exercise,
    ExerciseResult,
    PolicyFinding,
    Sandbox,
    Verdict,
)

HTML = "<script>alert('x')</script>"
FORMULA = '=HYPERLINK("http://evil.example","A")'
REVERSED = "anna\u202e"
BROKEN = "half \ud800 \x1b[31m \x00 \uffff name"
STUDENTS = tuple(sorted([FORMULA, HTML, REVERSED, BROKEN, "anna", "ben", "cleo"]))
BELIEF = Diagnosis("pairs_are_halves", "You pair feature `i` with feature `i + K/2`.\n\nWhich two are a pair here?")
BAD_MESSAGE = f"`impl.f(x)`: {HTML} & \x1b[31mred\x1b[0m \x00\x0b\ud800\u202e\uffff ]]> came."


def sha(text):
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def exercise(slug, title, *points):
    checks = tuple(Check(f"test_{slug}_{i}", f"{slug}: check {i}", i == 0, p) for i, p in enumerate(points))
    return Exercise(slug, "positions", title, "", Path(slug), (slug,), checks, "easy", 10)


EXERCISES = exercise("rotary", "Rotary position embedding", 2.0, 1.0, 1.0), exercise("alibi", "Linear biases", 1.5, 2.5)


def result(one, failed=(), **changes):
    checks = tuple(
        CheckResult(c.name, c.title, c.visible, 0.0, c.points, CheckVerdict.FAILED, BAD_MESSAGE)
        if i in failed
        else CheckResult(c.name, c.title, c.visible, c.points, c.points, CheckVerdict.PASSED)
        for i, c in enumerate(one.checks)
    )
    verdict = Verdict.FAILED if failed else Verdict.PASSED
    plain = ExerciseResult(one.slug, one.track, one.title, f"{one.slug}.py", verdict, checks, seconds=0.25)
    return replace(plain, **changes)


def graded(student, what, notes=()):
    return Graded(student, what, sha(student + what.slug), sha(what.slug), notes)


def missing(student, one):
    nothing = ExerciseResult.unrunnable(one, "", "Nothing was handed in.")
    return Graded(student, replace(nothing, verdict=Verdict.NOT_ATTEMPTED), "", "")


def entries_of(student):
    rotary, alibi = EXERCISES
    match student:
        case "anna":
            return graded(student, result(rotary)), graded(student, result(alibi))
        case "ben":
            wrong = result(rotary, {0, 1}, diagnoses=(BELIEF,), output=f"printed {HTML}\n\x1b[2J")
            return graded(student, wrong, ("There is a second file for it, `a.py`.",)), missing(student, alibi)
        case "cleo":
            broken = ExerciseResult.unrunnable(alibi, "alibi.py", "Line 3 is not valid Python.", 3)
            return missing(student, rotary), graded(student, broken)
        case _ if student == HTML:
            policy = (PolicyFinding("forbidden call", "F.softmax", 12),)
            return graded(student, result(rotary, {0, 1, 2}, policy=policy)), graded(student, result(alibi, {1}))
        case _ if student == BROKEN:
            return missing(student, rotary), missing(student, alibi)
        case _:
            return graded(student, result(rotary, {1}, diagnoses=(BELIEF,))), graded(student, result(alibi))


def make_class(**changes):
    """Return the report of the class of seven."""
    entries = tuple(entry for student in STUDENTS for entry in entries_of(student))
    report = ClassReport(
        "autumn <2026>", "0.1.0", 7, Sandbox("full", ("landlock", "seccomp")), {"python": "3.11", "torch": "2.4"},
        EXERCISES, STUDENTS, entries, (f"`{HTML}/x.txt` answers no exercise.",),
    )  # fmt: skip
    return replace(report, **changes)
