"""What the parts of the classroom tell each other: frozen values, no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from grader.model import Exercise, ExerciseResult, Sandbox


@dataclass(frozen=True)
class Graded:
    """What came of one student's work on one exercise.

    Attributes:
        student: Name of the student's folder.
        result: The judge's result; ``result.file`` is the path inside the student's folder, empty if nothing was
            handed in.
        submission: SHA-256 of the file as it was handed in, in hexadecimal digits; empty if nothing was.
        suite: SHA-256 of the answer key that graded it.
        notes: What the teacher should know besides: a second file for the same exercise, a damaged notebook …
    """

    student: str
    result: ExerciseResult
    submission: str
    suite: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassReport:
    """Everything that one run over a class found out.

    Attributes:
        title: Name of the folder of submissions, or the teacher's name for it.
        seed: From which all inputs of all students follow.
        exercises: The exercises of the assignment, in order.
        students: Every student, also one who handed nothing in, sorted.
        graded: One entry for each student and exercise, by student and then in the order of ``exercises``.
        notes: What the teacher should know of the folder itself: files that answer no exercise …
    """

    title: str
    kit: str
    seed: int
    sandbox: Sandbox
    versions: Mapping[str, str]
    exercises: tuple[Exercise, ...]
    students: tuple[str, ...]
    graded: tuple[Graded, ...]
    notes: tuple[str, ...] = field(default=())

    def of(self, student: str) -> tuple[Graded, ...]:
        """Return a student's results, in the order of the exercises."""
        return tuple(entry for entry in self.graded if entry.student == student)

    def points(self, student: str) -> float:
        """Return a student's points in all exercises together."""
        return sum(entry.result.points for entry in self.of(student))

    @property
    def max_points(self) -> float:
        """Points that could be earned in all exercises together."""
        return sum(exercise.max_points for exercise in self.exercises)
