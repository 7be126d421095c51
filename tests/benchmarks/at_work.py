"""A job that leaves its candidate standing once the suite has run, so that it can be looked at."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from grader.model import Exercise, Submission


@dataclass(frozen=True)
class AtWork:
    """Run a suite, then wait with the candidate.

    Attributes:
        exercise: Whose suite.
        submission: What it runs on.
        folder: Where the judge's process id is put into ``done``, and ``go`` is waited for.
    """

    exercise: Exercise
    submission: Submission
    folder: str

    def __call__(self, launcher, on_check):
        """Return how many checks were run."""
        from grader.judge.answerkey import AnswerKey  # noqa: PLC0415 (the benchmark itself needs no torch)
        from grader.judge.grading import RemoteSubject  # noqa: PLC0415
        from grader.judge.plugin import run_suite  # noqa: PLC0415

        subject = RemoteSubject(launcher, self.submission)
        outcomes = run_suite(AnswerKey(self.exercise), subject, 7)
        draft = Path(self.folder, "draft")
        draft.write_text(str(os.getpid()))
        draft.replace(Path(self.folder, "done"))
        while not Path(self.folder, "go").exists():
            time.sleep(0.01)
        subject.close()
        return len(outcomes)
