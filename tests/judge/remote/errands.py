"""Jobs for a judge that is up to no good; their module has to be one that the server can import."""

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from grader.errors import UsageError
from grader.judge.impl import Impl
from grader.judge.jobs import GradeJob
from grader.judge.session import Session
from grader.model import Exercise, Submission

PATIENCE = 30.0  # seconds to wait for another job; it should be there at once


@dataclass(frozen=True)
class Errand:
    """Do what ``what`` names."""

    what: str
    argument: str = ""

    def __call__(self, launcher, on_check):
        return getattr(self, self.what)(launcher, on_check)

    def echo(self, launcher, on_check):
        return self.argument

    def exit(self, launcher, on_check):
        os._exit(3)

    def die(self, launcher, on_check):
        os.kill(os.getpid(), signal.SIGKILL)

    def die_once(self, launcher, on_check):
        """Die, and live the second time."""
        if Path(self.argument).exists():
            return "alive"
        Path(self.argument).touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def divide(self, launcher, on_check):
        return 1 / 0

    def complain(self, launcher, on_check):
        raise UsageError("This is not how it is used.")

    def bring_what_cannot_be_brought(self, launcher, on_check):
        return lambda: None

    def environment(self, launcher, on_check):
        return dict(os.environ)

    def pid(self, launcher, on_check):
        return os.getpid()

    def place(self, launcher, on_check):
        """Return the processors that the judge stays on, and those of its candidate."""
        candidate = launcher.launch()
        session = Session(candidate)
        session.ask("load", source="import os\ndef place(): return list(os.sched_getaffinity(0))")
        its = Impl(session, session.begin(7)).place()
        candidate.close()
        return list(os.sched_getaffinity(0)), its

    def meet(self, launcher, on_check):
        """Wait until two of these are at work at the same time."""
        place = Path(self.argument)
        (place / str(os.getpid())).touch()
        end = time.monotonic() + PATIENCE
        while len(list(place.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.005)
        return len(list(place.iterdir()))

    def sleep(self, launcher, on_check):
        """Start a candidate and wait with it until somebody ends both."""
        candidate = launcher.launch()
        Path(self.argument).write_text(str(os.getpid()))
        time.sleep(600)
        return candidate.layers


@dataclass(frozen=True)
class GradeAndLook:
    """Grade a submission, and say which parts of torch that take long to import the judge has by then."""

    exercise: Exercise
    submission: Submission

    def __call__(self, launcher, on_check):
        result, _ = GradeJob(self.exercise, self.submission, 7)(launcher, on_check)
        return result.verdict, [name for name in ("sympy", "torch._dynamo") if name in sys.modules]
