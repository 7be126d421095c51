"""What a class page tells: pure numbers from a ``ClassReport``."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean, median

from grader.classroom.model import ClassReport, Graded
from grader.model import CheckVerdict, Diagnosis, Exercise, Verdict

BINS = 10  # of the distribution, each as wide as the others


@dataclass(frozen=True)
class CheckCount:
    """How many students fail one check."""

    name: str
    title: str
    failed: int


@dataclass(frozen=True)
class Belief:
    """One misconception, and how many students hold it."""

    exercise: Exercise
    diagnosis: Diagnosis
    students: int


@dataclass(frozen=True)
class ExerciseSummary:
    """How the class did in one exercise.

    Attributes:
        exercise: Which one.
        mean: Mean points of those who handed something in.
        missing: Students who handed in nothing.
        verdicts: Of those who handed something in.
        forbidden: Students who used what the exercise does not allow, so that no check of theirs counts.
        ran: Students whose checks say something: the code ran, and used nothing that is not allowed.
        checks: Counted among those who ``ran``; the one that most of them fail comes first.
    """

    exercise: Exercise
    mean: float
    missing: int
    verdicts: Counter[Verdict]
    forbidden: int
    ran: int
    checks: tuple[CheckCount, ...]


@dataclass(frozen=True)
class ClassSummary:
    """How the class did.

    Attributes:
        scores: Percent of all points for each student, in the order of the class.
        bins: How many students lie in each tenth of the scale; full points lie in the last.
        absent: Students who handed in nothing at all.
        exercises: In the order of the assignment.
        beliefs: The one that most of the class holds comes first.
    """

    scores: tuple[float, ...]
    bins: tuple[int, ...]
    absent: tuple[str, ...]
    exercises: tuple[ExerciseSummary, ...]
    beliefs: tuple[Belief, ...]

    @property
    def mean(self) -> float:
        """Mean of the scores; 0 for a class without students."""
        return mean(self.scores) if self.scores else 0.0

    @property
    def median(self) -> float:
        """Median of the scores; 0 for a class without students."""
        return median(self.scores) if self.scores else 0.0


def by_student(report: ClassReport) -> dict[str, tuple[Graded, ...]]:
    """Return every student's results, in one pass over the class."""
    found: dict[str, list[Graded]] = {student: [] for student in report.students}
    for entry in report.graded:
        found[entry.student].append(entry)
    return {student: tuple(entries) for student, entries in found.items()}


def is_missing(entry: Graded) -> bool:
    """Tell whether the student handed in nothing for the exercise."""
    return not entry.result.file


def percent(points: float, max_points: float) -> float:
    """Return points as percent of all points; 0 where there are none to earn."""
    return 100 * points / max_points if max_points else 0.0


def summarise(report: ClassReport) -> ClassSummary:
    """Count everything that the class page shows."""
    students = by_student(report)
    scores = tuple(
        percent(sum(entry.result.points for entry in entries), report.max_points) for entries in students.values()
    )
    places = Counter(min(int(score * BINS / 100), BINS - 1) for score in scores)
    per_exercise: dict[str, list[Graded]] = defaultdict(list)
    for entry in report.graded:
        per_exercise[entry.result.slug].append(entry)
    return ClassSummary(
        scores=scores,
        bins=tuple(places[place] for place in range(BINS)),
        absent=tuple(student for student, entries in students.items() if all(map(is_missing, entries))),
        exercises=tuple(_summarise(exercise, per_exercise[exercise.slug]) for exercise in report.exercises),
        beliefs=_beliefs(report.exercises, per_exercise),
    )


def _summarise(exercise: Exercise, entries: Sequence[Graded]) -> ExerciseSummary:
    handed_in = [entry.result for entry in entries if not is_missing(entry)]
    ran = [result for result in handed_in if result.verdict in {Verdict.PASSED, Verdict.FAILED} and not result.policy]
    failed = Counter(
        check.name for result in ran for check in result.checks if check.verdict is not CheckVerdict.PASSED
    )
    counts = [CheckCount(check.name, check.title, failed[check.name]) for check in exercise.checks]
    return ExerciseSummary(
        exercise=exercise,
        mean=mean(result.points for result in handed_in) if handed_in else 0.0,
        missing=len(entries) - len(handed_in),
        verdicts=Counter(result.verdict for result in handed_in),
        forbidden=sum(bool(result.policy) for result in handed_in),
        ran=len(ran),
        checks=tuple(sorted(counts, key=lambda count: -count.failed)),  # stable: equals stay as in the suite
    )


def _beliefs(exercises: Sequence[Exercise], per_exercise: dict[str, list[Graded]]) -> tuple[Belief, ...]:
    found = []
    for exercise in exercises:
        holders: Counter[str] = Counter()
        diagnoses: dict[str, Diagnosis] = {}
        for entry in per_exercise[exercise.slug]:
            for diagnosis in {diagnosis.name: diagnosis for diagnosis in entry.result.diagnoses}.values():
                holders[diagnosis.name] += 1
                diagnoses.setdefault(diagnosis.name, diagnosis)
        found += [Belief(exercise, diagnoses[name], count) for name, count in holders.items()]
    return tuple(sorted(found, key=lambda belief: -belief.students))
