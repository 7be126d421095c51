"""Whatever a clumsy learner hands in gets a verdict, a plain sentence, and an end."""

from dataclasses import replace

import pytest

from grader.judge.client import Grader
from grader.model import Submission

FOLDERS = ("bad_input",)
pytestmark = [pytest.mark.xdist_group("engine-bad-input"), pytest.mark.timeout(400)]

DOUBLE = "def double(x):\n    {}\n    return 2 * x\n\n\ndef halve(x):\n    return x / 2\n"
REFUSES = "if x.dim() == 0: raise ValueError('a number')"


@pytest.fixture
def grader():
    with Grader(jobs=2) as grader:
        yield grader


def test_bad_input_gets_a_verdict_and_a_plain_sentence(case, check_golden):
    check_golden(case)


def test_it_is_over_soon(graded):
    assert graded.seconds < 120
    assert max(result.seconds for result in graded.results.values()) < 40


def test_no_process_is_left(graded):
    assert graded.left == []
    assert graded.gone


def test_a_judge_that_fails_costs_its_own_submission_alone(grader, bank, tmp_path):
    for file in bank["double"].folder.iterdir():
        if file.is_file():
            (tmp_path / file.name).write_text(file.read_text())
    (tmp_path / "test_double.py").write_text("raise RuntimeError('the suite is broken')\n")
    broken = replace(bank["double"], folder=tmp_path)
    right = Submission(DOUBLE.format(REFUSES), "right.py", "double")
    wrong = Submission(DOUBLE.format(REFUSES), "wrong.py", "double")

    results = {
        result.file: result
        for result in grader.grade([(broken, wrong), (bank["double"], right), (broken, wrong), (bank["double"], right)])
    }

    assert results["right.py"].verdict == "passed"
    assert results["wrong.py"].verdict == "error"
    assert "the suite is broken" in results["wrong.py"].message


def test_answers_of_a_run_that_was_left_halfway_are_not_taken_for_another_one(grader, bank):
    late = Submission(DOUBLE.format("import time; time.sleep(0.3)"), "late.py", "double")
    soon = Submission(DOUBLE.format("pass"), "soon.py", "double")

    double = bank["double"]

    first = next(grader.grade([(double, soon), (double, late), (double, late)]))
    right = Submission(DOUBLE.format(REFUSES), "right.py", "double")
    results = list(grader.grade([(double, right)]))

    assert first.file == "soon.py"
    assert [(result.file, result.verdict) for result in results] == [("right.py", "passed")]
