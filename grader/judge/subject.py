"""A submission on its way through a suite: the candidates that run it, one after the other."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress

from grader.candidate.wire import WireError, pack
from grader.judge.candidates import Candidate, CandidateDied, Launcher
from grader.judge.impl import Impl
from grader.judge.scripts import Scripts
from grader.judge.session import LOAD_SECONDS, CandidateError, Session, clean
from grader.model import Submission

EXERCISE_SECONDS = 60.0
SLOW_SECONDS = 10.0  # code that has taken as long is asked step by step: to start over would take as long again
MAX_TIMEOUTS = 3  # after so many checks that had to be stopped, the rest is not tried
_OUTPUT_SHOWN = 4_000  # characters


class RemoteSubject:
    """The learner's code in a candidate; a candidate that died is replaced at the next check.

    Args:
        launcher: Starts candidates.
        submission: What they load.
        secret: See ``Session``.
        scripts: What the checks ask, as far as that is known.

    Attributes:
        layers: Of the sandbox that held the last candidate.
        ran: Function or operator that ran → the line that led there.
        rehearsed: Whether anything was asked ahead.
    """

    def __init__(
        self, launcher: Launcher, submission: Submission, secret: int = 0, scripts: Scripts | None = None
    ) -> None:
        self._launcher = launcher
        self._submission = submission
        self._secret = secret
        self._scripts = scripts
        self._candidate: Candidate | None = None
        self._session: Session | None = None
        self._begun = time.monotonic()
        self._timeouts = 0
        self._death: CandidateDied | None = None
        self._printed: list[str] = []
        self.layers: tuple[str, ...] = ()
        self.ran: dict[str, int | None] = {}
        self.rehearsed = False
        self._step_by_step = False  # as what is asked depends on the answers, or they are wrong

    def begin(self, seed: int) -> Impl:
        """Start a check, in a new candidate if the last one is gone."""
        if self._is_used_up():
            raise CandidateDied("Not run: your code had used up its time in the checks before.", not_run=True)
        self._death = None
        session = self._session or self.load()
        return Impl(session, session.begin(seed))

    def load(self) -> Session:
        """Start a candidate and let it load the submission.

        Raises:
            CandidateError: What the file raised.
            CandidateDied: If it did not get as far as that.
        """
        self._launch()
        session = Session(self, on_ran=self._note, secret=self._secret)
        session.take_kinds(session.ask("load", LOAD_SECONDS, source=self._submission.source))
        session.said.clear()  # of what is asked again after another candidate has loaded the file
        session.heard.clear()
        self._session = session
        return session

    def has_passed(self, name: str) -> bool:
        """Ask all that a check is going to ask, if that is known, and say whether the answers are some that pass it."""
        heard = self.rehearse(name)
        session = self._session
        if not heard or session is None or self._scripts is None:
            return False
        script = self._scripts.find(name)
        if not script.is_passed_by(heard, session.kinds or {}):
            return False
        session.skip(script.requests)
        return True

    def rehearse(self, name: str) -> Sequence[bytes]:
        """Ask all that the next check is going to ask, if that is known, and return the answers' digests."""
        script = self._scripts.find(name) if self._scripts is not None else None
        if script is None or not script.requests or not self._can_be_asked_ahead():
            return ()
        try:
            session = self._session or self.load()
        except (CandidateDied, CandidateError):  # to be met again when the check begins
            return ()
        self.rehearsed, timeouts = True, self._timeouts
        try:
            return session.rehearse(script.requests)
        except CandidateDied:  # whatever this is, it shows again, step by step
            self._scripts, self._session, self._death, self._timeouts = None, session, None, timeouts
            self._start_over(session)
            return ()

    def _can_be_asked_ahead(self) -> bool:
        slow = time.monotonic() > self._begun + SLOW_SECONDS
        return not (self._step_by_step or slow or self._is_used_up())

    def _is_used_up(self) -> bool:
        """Say whether the code has had the time that it is given."""
        return self._timeouts >= MAX_TIMEOUTS or time.monotonic() > self._begun + EXERCISE_SECONDS

    def conclude(self, name: str, *, passed: bool) -> None:
        """Remember what a check asked, if it was passed.

        If more was asked ahead than it came to, the next check begins where it would if that had not been.
        """
        session = self._session
        if session is None or self._scripts is None:
            return
        if passed:
            self._scripts.learn(name, session.said, session.heard, session.looked_up)
        if session.has_asked_too_much():
            self._start_over(session)

    def _start_over(self, session: Session) -> None:
        with suppress(CandidateDied):  # then the next check begins with another, as ever
            session.start_over()

    # --- for the session ---------------------------------------------------------------------------------------------

    def exchange(self, frames: Sequence[bytes], seconds: float) -> list[bytes]:
        """Send requests to the present candidate, within the exercise's time."""
        if self._candidate is None:
            raise CandidateDied("Your code's process is gone.")
        left = max(0.1, self._begun + EXERCISE_SECONDS - time.monotonic())
        try:
            return self._candidate.exchange(frames, min(seconds, left))
        except CandidateDied as death:
            raise self._mourn(death) from None

    def refuse(self, error: WireError) -> CandidateDied:
        """End the present candidate for a reply that is none."""
        if self._candidate is None:
            return CandidateDied("Your code's process is gone.")
        return self._mourn(self._candidate.refuse(error))

    def renew(self) -> None:
        """Start another candidate in the present one's place; its time begins anew, as what was asked is asked again.

        From then on the checks are asked step by step: one that went astray would cost as much again.
        """
        session = self._session
        self._step_by_step, self._begun = True, time.monotonic()
        self._launch()
        self.exchange([pack({"op": "load", "source": self._submission.source})], LOAD_SECONDS)
        self._session = session

    def _launch(self) -> None:
        self._hang_up()
        self._candidate = self._launcher.launch()
        self.layers = self._candidate.layers

    def _mourn(self, death: CandidateDied) -> CandidateDied:
        if self._session is not None:
            self._timeouts += death.timed_out
        self._session, self._death = None, death
        return death

    # --- what came of it ---------------------------------------------------------------------------------------------

    def changed(self) -> Sequence[str]:
        """Inputs that were changed in place since the check began.

        Raises:
            CandidateDied: If the process has ended since then.
        """
        if self._death is not None:
            raise self._death
        return self._session.changed if self._session is not None else ()

    def where(self, line: int | None) -> str:
        """Say where a line of the submission is."""
        if line is None:
            return ""
        lines = self._submission.lines
        return f" ({lines[line - 1]})" if 0 < line <= len(lines) else f" (line {line})"

    def output_of_loading(self) -> str:
        """Return what the file prints when it is loaded and nothing is asked of it."""
        self._printed.clear()
        with suppress(CandidateDied, CandidateError):
            self.load()
        return self.close()

    def close(self) -> str:
        """End the candidate and return what the learner's code printed, cleaned and capped."""
        self._hang_up()
        self._step_by_step = False
        return clean("".join(self._printed), _OUTPUT_SHOWN)

    def _hang_up(self) -> None:
        if self._candidate is not None:
            self._candidate.close()
            self._printed.append(self._candidate.output)
            self._candidate = self._session = None

    def _note(self, name: str, line: int | None) -> None:
        self.ran.setdefault(name, line)
