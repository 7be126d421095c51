"""What the parts of the grader tell each other: frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

SCHEMA = 1


class Verdict(StrEnum):
    """How an exercise ended."""

    PASSED = "passed"
    FAILED = "failed"
    NOT_ATTEMPTED = "not_attempted"
    ERROR = "error"  # the submission could not be run at all


class CheckVerdict(StrEnum):
    """How one check ended."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CRASHED = "crashed"
    SKIPPED = "skipped"  # never ran; counts as failed


@dataclass(frozen=True)
class Check:
    """One test function of a hidden suite, as it is promised before anything runs.

    Attributes:
        name: Name of the test function.
        title: First line of its docstring, the line that the learner reads.
        visible: Whether the learner may run it alone, without the reference.
        points: What passing it is worth.
        section: Heading of the part of the suite that it stands in (``# --- masks ---``); empty without one.
    """

    name: str
    title: str
    visible: bool = False
    points: float = 1.0
    section: str = ""


@dataclass(frozen=True)
class FollowUp:
    """A question that an interviewer asks once the code works, and a model answer."""

    question: str
    answer: str


@dataclass(frozen=True)
class Exercise:
    """One folder under ``solutions/``, read without running anything in it.

    Attributes:
        slug: Name of the folder.
        track: Name of the folder above it.
        title: First line of the solution's docstring.
        brief: The rest of that docstring.
        folder: Where the answer key lies.
        names: Public functions and classes that the learner writes, in the order of the file.
        checks: The suite's checks, in the order of the file.
        requires: Slugs that come before this one.
        forbids: Names that must not be called, besides those that no exercise allows.
        minutes: What an interviewer would allow.
    """

    slug: str
    track: str
    title: str
    brief: str
    folder: Path
    names: tuple[str, ...]
    checks: tuple[Check, ...]
    difficulty: str
    minutes: int
    requires: tuple[str, ...] = ()
    forbids: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()
    follow_ups: tuple[FollowUp, ...] = ()

    @property
    def max_points(self) -> float:
        """Sum of the points of all checks."""
        return sum(check.points for check in self.checks)


@dataclass(frozen=True)
class Submission:
    """A learner's work on one exercise, as source text.

    Attributes:
        source: Python source; for a notebook, its code cells joined.
        file: The name to show in messages and in the report.
        slug: The exercise that it answers.
        lines: For each line of ``source``, where a person finds it (``"cell 3, line 2"``); empty for a plain file,
            whose own line numbers hold.
    """

    source: str
    file: str
    slug: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class PolicyFinding:
    """One use of something that the exercise forbids."""

    rule: str
    name: str
    line: int | None


@dataclass(frozen=True)
class Diagnosis:
    """A misconception whose behaviour the learner's code shares."""

    name: str
    message: str


@dataclass(frozen=True)
class CheckResult:
    """What came of one check."""

    name: str
    title: str
    visible: bool
    points: float
    max_points: float
    verdict: CheckVerdict
    message: str = ""


@dataclass(frozen=True)
class ExerciseResult:
    """What came of one exercise."""

    slug: str
    track: str
    title: str
    file: str
    verdict: Verdict
    checks: tuple[CheckResult, ...]
    message: str = ""  # why there is no verdict per check: a syntax error, an import error …
    line: int | None = None  # the line of the submission that ``message`` is about
    diagnoses: tuple[Diagnosis, ...] = ()
    policy: tuple[PolicyFinding, ...] = ()
    output: str = ""
    seconds: float = 0.0

    @property
    def points(self) -> float:
        """Points earned."""
        return sum(check.points for check in self.checks)

    @property
    def max_points(self) -> float:
        """Points that could be earned."""
        return sum(check.max_points for check in self.checks)

    @classmethod
    def unrunnable(cls, exercise: Exercise, file: str, message: str, line: int | None = None) -> ExerciseResult:
        """Return the result of a submission that could not be run at all: every check skipped, no points."""
        checks = tuple(
            CheckResult(c.name, c.title, c.visible, 0.0, c.points, CheckVerdict.SKIPPED) for c in exercise.checks
        )
        return cls(exercise.slug, exercise.track, exercise.title, file, Verdict.ERROR, checks, message, line)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as the JSON report holds it (schema 1)."""
        data: dict[str, Any] = {
            "slug": self.slug,
            "track": self.track,
            "title": self.title,
            "file": self.file,
            "verdict": self.verdict.value,
            "points": float(self.points),
            "max_points": float(self.max_points),
            "message": self.message,
            "line": self.line,
            "checks": [asdict(check) | {"verdict": check.verdict.value} for check in self.checks],
            "diagnoses": [asdict(diagnosis) for diagnosis in self.diagnoses],
            "policy": [asdict(finding) for finding in self.policy],
            "output": self.output,
            "timing": {"seconds": round(self.seconds, 4)},
        }
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExerciseResult:
        """Rebuild a result from ``to_dict``'s form."""
        return cls(
            slug=data["slug"],
            track=data["track"],
            title=data["title"],
            file=data["file"],
            verdict=Verdict(data["verdict"]),
            checks=tuple(
                CheckResult(**check | {"verdict": CheckVerdict(check["verdict"])}) for check in data["checks"]
            ),
            message=data["message"],
            line=data["line"],
            diagnoses=tuple(Diagnosis(**diagnosis) for diagnosis in data["diagnoses"]),
            policy=tuple(PolicyFinding(**finding) for finding in data["policy"]),
            output=data["output"],
            seconds=data["timing"]["seconds"],
        )


@dataclass(frozen=True)
class Sandbox:
    """What held the learner's code: ``tier`` is ``full``, ``partial`` or ``process``."""

    tier: str
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """Everything that one run of ``grade`` found out."""

    kit: str
    seed: int
    sandbox: Sandbox
    versions: Mapping[str, str]
    exercises: tuple[ExerciseResult, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON holds it (schema 1)."""
        return {
            "schema": SCHEMA,
            "kit": self.kit,
            "seed": self.seed,
            "sandbox": {"tier": self.sandbox.tier, "layers": list(self.sandbox.layers)},
            "versions": dict(self.versions),
            "exercises": [result.to_dict() for result in self.exercises],
        }
