"""Submissions as files, graded by the real grader: one more case is one more file, and no code.

``submissions/<slug>/<folder>/<case>.py`` is graded as ``<slug>``, an exercise of the kit or of ``answer_keys/``.
``<case>.toml`` beside it says what must come out; without one, ``right`` must pass and everything else must fail:

==================  =============================================================================================
``verdict``         of the exercise
``points``          all of them, exactly
``message, line``   why there is no verdict per check: part of the text, and the line
``fails``           checks that must fail, besides others
``[messages]``      check → part of what its message says
``output``          part of what was printed; ``not_in_output`` must not be in it
``open``            why the case is known to come out otherwise
==================  =============================================================================================
"""

import time
import tomllib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from grader.bank import load_exercises
from grader.errors import SubmissionError
from grader.judge.client import Grader
from grader.model import ExerciseResult, Submission
from grader.submission import read_submission

HERE = Path(__file__).parent
collect_ignore_glob = ["answer_keys/*", "submissions/*"]
SEED = 7
NEVER_SHOWN = ("Traceback", "grader/", "answer_keys", "site-packages", "BEGIN SOLUTION", "answerkey_")


@dataclass(frozen=True)
class Case:
    path: Path

    @property
    def slug(self):
        return self.path.parts[-3]

    @property
    def folder(self):
        return self.path.parts[-2]

    @property
    def expected(self):
        golden = self.path.with_suffix(".toml")
        default = {"verdict": "passed" if self.folder == "right" else "failed"}
        return default | (tomllib.loads(golden.read_text("utf-8")) if golden.exists() else {})

    def __str__(self):
        return f"{self.slug}/{self.path.stem}"


def cases_in(folders):
    return [Case(path) for folder in folders for path in sorted((HERE / "submissions").glob(f"*/{folder}/*.py"))]


def pytest_generate_tests(metafunc):
    if "case" in metafunc.fixturenames:
        cases = []
        for case in cases_in(metafunc.module.FOLDERS):
            known = case.expected.get("open")
            marks = [pytest.mark.xfail(reason=known, strict=False)] if known else []
            cases.append(pytest.param(case, id=str(case), marks=marks))
        metafunc.parametrize("case", cases)


@pytest.fixture(scope="session")
def bank():
    """Every exercise, those of the kit and the two small ones of these tests."""
    return {exercise.slug: exercise for root in (None, HERE / "answer_keys") for exercise in load_exercises(root)}


@dataclass
class Graded:
    """What came of all cases of a module.

    Attributes:
        results: Path → result.
        seconds: How long all of them took together.
        left: Processes that were still there afterwards and had not been before, the judges apart, which stay.
        gone: Whether every process of the grader ended with it.
    """

    results: dict
    seconds: float
    left: list
    gone: bool


def alive(server):
    found = set()
    for child in server.children(recursive=True):
        with suppress(psutil.NoSuchProcess):  # it ended while it was looked at
            if child.status() != psutil.STATUS_ZOMBIE:
                found.add(child)
    return found


def judges(server):
    """Return the processes that wait for the next job: no more than there may be at work."""
    _, *others = sorted(server.children(), key=lambda process: process.pid)
    return set(others)


@pytest.fixture(scope="module")
def graded(request, bank):
    """All cases in the module's ``FOLDERS``, graded side by side."""
    cases = cases_in(request.module.FOLDERS)
    results, work, start = {}, [], time.monotonic()
    for case in cases:
        try:
            work.append((bank[case.slug], named(read_submission(case.path, case.slug), case.path)))
        except SubmissionError as error:
            results[case.path] = ExerciseResult.unrunnable(bank[case.slug], str(case.path), str(error), error.line)
    with Grader(jobs=getattr(request.module, "JOBS", None)) as grader:
        server = psutil.Process(grader._process.pid)
        assert grader.sandbox.tier == "full", grader.sandbox
        before = alive(server)
        results |= {Path(result.file): result for result in grader.grade(work, SEED)}
        seconds = time.monotonic() - start
        left = [process for process in alive(server) - before - judges(server) if not ends(process)]
        tree = [server, *alive(server)]
    return Graded(results, seconds, left, gone=not psutil.wait_procs(tree, timeout=5)[1])


def named(submission, path):
    return Submission(submission.source, str(path), submission.slug, submission.lines)


def ends(process):
    try:
        process.wait(3)
    except psutil.TimeoutExpired:
        return False
    return True


@pytest.fixture
def check_golden(graded):
    """Compare the result of a case with what is written down for it, and with what holds for every submission."""

    def check(case):
        result, expected = graded.results[case.path], case.expected
        assert_fit_to_be_shown(result)
        assert result.verdict == expected["verdict"], summary(result)
        if "points" in expected:
            assert result.points == expected["points"], summary(result)
        if result.verdict == "passed":
            assert result.points == result.max_points
            assert not result.diagnoses
            assert not result.policy
        failed = {check.name: check for check in result.checks if check.verdict != "passed"}
        assert set(expected.get("fails", ())) <= set(failed), summary(result)
        for name, part in expected.get("messages", {}).items():
            assert part in failed[name].message
        assert expected.get("message", "") in result.message
        assert expected.get("line", result.line) == result.line
        assert expected.get("output", "") in result.output
        assert "not_in_output" not in expected or expected["not_in_output"] not in result.output

    return check


def summary(result):
    failed = [f"{check.name} ({check.verdict}): {check.message}" for check in result.checks if check.points == 0]
    return "\n".join([f"{result.verdict} {result.points:g} of {result.max_points:g} {result.message}", *failed])


def assert_fit_to_be_shown(result):
    texts = [result.message, *(check.message for check in result.checks)]
    texts += [part.message for part in result.diagnoses] + [finding.name for finding in result.policy]
    for text in texts:
        assert not [word for word in NEVER_SHOWN if word in text], text
        assert len(text) <= 3000
    for text in [*texts, result.output]:
        assert not [c for c in text if not (c.isprintable() or c in "\n\t")], text
    assert len(result.output) <= 4000
    for check in result.checks:
        assert check.points in (0.0, check.max_points)
        assert (check.points > 0) == (check.verdict == "passed")
        assert check.message or check.verdict in ("passed", "skipped")
