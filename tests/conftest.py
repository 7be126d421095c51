"""What several test modules build on."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from grader.model import (
    Check,
    CheckResult,
    CheckVerdict,
    Diagnosis,
    Exercise,
    ExerciseResult,
    FollowUp,
    Report,
    Sandbox,
    Verdict,
)

BY_HAND, BY_STEPS = "one token, turned on paper", "the last token alone equals the last row"


@pytest.fixture
def exercises() -> tuple[Exercise, ...]:
    """Two exercises, the first with two checks and a follow-up question."""
    checks = (Check("test_by_hand", BY_HAND, True, 2.0), Check("test_steps", BY_STEPS))
    first = Exercise(
        "rotary", "positions", "Rotary position embedding", "", Path("rotary"), ("rotary_angles", "apply_rotary"),
        checks, "medium", 25, follow_ups=(FollowUp("Why float32?", "bfloat16 has no 257."),),
    )  # fmt: skip
    return first, replace(first, slug="alibi", title="Attention with linear biases", follow_ups=())


@pytest.fixture
def passed(exercises: tuple[Exercise, ...]) -> ExerciseResult:
    """``rotary`` with full points."""
    checks = tuple(
        CheckResult(c.name, c.title, c.visible, c.points, c.points, CheckVerdict.PASSED) for c in exercises[0].checks
    )
    return ExerciseResult(
        "rotary", "positions", exercises[0].title, "rotary.py", Verdict.PASSED, checks, seconds=0.1234
    )


@pytest.fixture
def failed(passed: ExerciseResult) -> ExerciseResult:
    """``rotary`` with its first check failed and everything that goes with it."""
    wrong = replace(passed.checks[0], points=0.0, verdict=CheckVerdict.FAILED, message="0.54 was asked, 1.0 came.")
    return replace(
        passed,
        verdict=Verdict.FAILED,
        checks=(wrong, passed.checks[1]),
        diagnoses=(Diagnosis("pairs_are_halves", "You pair feature i with feature i + K/2."),),
        output="shape (1, 2)\n",
    )


@pytest.fixture
def report_of() -> Callable[..., Report]:
    """Return a function that makes a report of the results it is given."""

    def make(*results: ExerciseResult) -> Report:
        return Report("0.1.0", 7, Sandbox("full", ("landlock", "seccomp")), {"python": "3.11", "torch": "2.4"}, results)

    return make
