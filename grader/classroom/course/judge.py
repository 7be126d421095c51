"""The preprocessor that stands in for nbgrader's ``Execute``: no kernel starts, and our judge gives the points.

c.Autograde.autograde_preprocessors = [Judge, LimitOutput, SaveAutoGrades, AssignLatePenalties, CheckCellMetadata]
"""

from __future__ import annotations

import atexit
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import nbformat
from nbformat import NotebookNode
from nbgrader.preprocessors import NbGraderPreprocessor
from traitlets import Bool, Enum, Integer

from grader import __version__
from grader.bank import load_exercises
from grader.classroom.course.answers import define, only_needed, read_answers, without_line
from grader.classroom.course.gradebook import SourceCell, source_cells
from grader.classroom.course.notebooks import sections
from grader.classroom.course.outputs import Findings, cell_outputs, notes_of, refused
from grader.errors import EngineError, SandboxError, SubmissionError
from grader.judge.client import Grader
from grader.model import CheckResult, CheckVerdict, Exercise, ExerciseResult, Verdict
from grader.notebook import Cell
from grader.report.feedback import Feedback, limit
from grader.submission import join_cells

MAX_TRIES = 4  # to load the code of one notebook with less and less of it


class Judge(NbGraderPreprocessor):  # type: ignore[misc]
    """Judges the answer cells of a notebook and writes points and findings into its test cells."""

    feedback = Enum(
        [level.value for level in Feedback],
        "full",
        help="What students read: full (messages and diagnoses), titles (which checks failed), score (points alone).",
    ).tag(config=True)
    allow_weak_sandbox = Bool(
        False, help="Grade even where this machine cannot lock up students' code completely (`grade doctor`)."
    ).tag(config=True)
    seed = Integer(
        None, allow_none=True, help="Seed of all inputs, to repeat an earlier grading; by default they are fresh."
    ).tag(config=True)

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Fill in the outputs of one notebook's test cells.

        Raises:
            SandboxError: If the sandbox is weaker than ``full``, and that was not allowed.
            EngineError: If the grader's own process fails; nbgrader then records no grade.
        """
        known = source_cells(resources["nbgrader"])
        broken = nb.metadata.get("grade", {}).get("broken")
        results: dict[str, ExerciseResult] = {}
        told: set[str] = set()
        for count, (cell, source) in enumerate(_tests(nb, known), 1):
            asked = source.asks()
            exercise = _exercises().get(asked[0]) if asked else None
            checks = dict(sections(exercise)).get(asked[1]) if asked and exercise else None
            if asked is None or exercise is None or checks is None:
                self._unknown(source.name, asked)
                outputs = refused("The answer keys have no checks for this cell. Please tell your teacher.")
            else:
                if asked[0] not in results:
                    results[asked[0]] = self._judge(nb, known, exercise, broken)
                first = asked[0] not in told
                told.add(asked[0])
                names = {check.name for check in checks}
                outputs = cell_outputs(self._findings(results[asked[0]], names, source, first), count)
            cell.outputs = [nbformat.from_dict(output) for output in outputs]
            cell.execution_count = count
        return nb, resources

    def _unknown(self, name: str, asked: tuple[str, str] | None) -> None:
        """Tell the teacher about a test cell that cannot be graded."""
        if asked is None:
            call = 'grade_section("slug", "section", globals())'
            self.log.error("The test cell %r does not call %s, so it is not judged and earns nothing.", name, call)
            return
        self.log.error(
            "The test cell %r asks for the checks %r of %r, which no answer key has, and earns nothing. Run "
            "`grade course build` and `nbgrader generate_assignment --force`, then grade again with --force.",
            name,
            asked[1],
            asked[0],
        )

    def _judge(
        self, nb: NotebookNode, known: Mapping[str, SourceCell], exercise: Exercise, broken: str | None
    ) -> ExerciseResult:
        sandbox = _grader().sandbox
        if sandbox.tier != "full" and not self.allow_weak_sandbox:
            raise SandboxError(
                f"This machine locks students' code up only at the tier `{sandbox.tier}`, and a class is graded at "
                "`full`. `grade doctor` says what is missing; c.Judge.allow_weak_sandbox = True grades all the same."
            )
        if broken:
            return ExerciseResult.unrunnable(exercise, f"{exercise.slug}.ipynb", broken)
        try:
            answers = read_answers(nb, known, exercise.names)
        except SubmissionError as error:
            return ExerciseResult.unrunnable(exercise, f"{exercise.slug}.ipynb", str(error), error.line)
        result = self._patiently(exercise, answers.cells)
        said = [text for text in (answers.left_out, result.message) if text]
        return replace(result, message="\n".join(said))

    def _patiently(self, exercise: Exercise, cells: tuple[Cell, ...]) -> ExerciseResult:
        """Grade; if the code cannot be loaded, once more without what the answers do without."""
        first = self._grade(exercise, cells)
        if first.verdict is not Verdict.ERROR:
            return first
        rest: tuple[Cell, ...] | None = only_needed(cells, exercise.names)
        for _ in range(MAX_TRIES):
            if rest is None or not define(rest, exercise.names):
                break
            result = self._grade(exercise, rest)
            if result.verdict is not Verdict.ERROR:
                return replace(result, message=first.message)
            rest = without_line(rest, result.line)
        return first

    def _grade(self, exercise: Exercise, cells: tuple[Cell, ...]) -> ExerciseResult:
        name = f"{exercise.slug}.ipynb"
        try:
            submission = join_cells(cells, name, exercise.slug)
        except SubmissionError as error:
            return ExerciseResult.unrunnable(exercise, name, str(error), error.line)
        try:
            return next(iter(_grader().grade([(exercise, submission)], self.seed)))
        except EngineError:  # it was killed, perhaps for want of memory: that must not cost the students that follow
            self.log.warning("The grader's own process had ended and is started anew.")
            _grader().close()
            _grader.cache_clear()
            return next(iter(_grader().grade([(exercise, submission)], self.seed)))

    def _findings(self, result: ExerciseResult, names: set[str], source: SourceCell, first: bool) -> Findings:
        checks = [check for check in result.checks if check.name in names]
        limited = limit(result, self.feedback)
        shown: tuple[CheckResult, ...] = tuple(check for check in limited.checks if check.name in names)
        worth = source.points or 0.0
        return Findings(
            checks=shown,
            points=_scaled(checks, worth),
            max_points=worth,
            notes=notes_of(limited) if first else (),
            stamp=self._stamp(),
        )

    def _stamp(self) -> str:
        seed = _grader().seed if self.seed is None else self.seed
        return f"Judged by the kit {__version__} in a process apart; sandbox: {_grader().sandbox.tier}; seed: {seed}."


def _scaled(checks: list[CheckResult], worth: float) -> float:
    """Return the points earned, in the measure of a teacher who changed what the cell is worth."""
    earned, possible = sum(check.points for check in checks), sum(check.max_points for check in checks)
    if not possible:
        earned, possible = sum(check.verdict is CheckVerdict.PASSED for check in checks), len(checks)
    return earned if worth == possible else min(worth, worth * earned / possible)


def _tests(nb: NotebookNode, known: Mapping[str, SourceCell]) -> Iterator[tuple[NotebookNode, SourceCell]]:
    for cell in nb.cells:
        source = known.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if source is not None and source.is_test and source.kind == cell.cell_type == "code":
            yield cell, source


@cache
def _exercises() -> dict[str, Exercise]:
    return {exercise.slug: exercise for exercise in load_exercises()}


@cache
def _grader() -> Grader:
    """Return the one grader of this process; it imports torch once for all notebooks."""
    grader = Grader()
    atexit.register(grader.close)
    return grader
