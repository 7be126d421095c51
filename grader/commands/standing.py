"""Where the learner stands: what was graded before, and what has changed since."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from grader.commands.targets import Target
from grader.learner.workspace import Graded, Status, Workspace
from grader.model import Exercise, ExerciseResult, Verdict


def standings(workspace: Workspace, exercises: Sequence[Exercise]) -> dict[str, Status | Verdict]:
    """Return for each slug what its file as it is now has earned, or its status if it was not graded so far."""
    found: dict[str, Status | Verdict] = {exercise.slug: workspace.status(exercise) for exercise in exercises}
    edited = [exercise for exercise in exercises if found[exercise.slug] is Status.EDITED]
    changed = {exercise.slug for exercise in workspace.changed_since_last(edited)}
    last = workspace.last()
    return found | {e.slug: last[e.slug].verdict for e in edited if e.slug not in changed}


class Record:
    """What the workspace's files held before grading, so that it is known what it was that earned the verdict."""

    def __init__(self, targets: Sequence[Target]) -> None:
        self._workspace = Workspace.find(Path.cwd())
        self._own = [t.file.absolute() == self._workspace.stub_path(t.exercise) for t in targets]
        self._digests = [self._workspace.digest_of(t.exercise) for t in targets]

    def note(self, results: Sequence[ExerciseResult]) -> None:
        """Note what the workspace's files earned; files from elsewhere leave no trace.

        Args:
            results: The targets' results, in the same order.
        """
        notes = zip(self._own, self._digests, results, strict=True)
        graded = {result.slug: Graded(digest, result.verdict) for own, digest, result in notes if own and digest}
        if graded:
            self._workspace.record(graded)
