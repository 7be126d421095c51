"""Grades one submission on one exercise: the judge's main job."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from grader.errors import SubmissionError
from grader.judge.answerkey import AnswerKey, keep
from grader.judge.candidates import Candidate, CandidateDied, Launcher
from grader.judge.diagnose import diagnose
from grader.judge.fixtures import seed_of
from grader.judge.impl import Impl
from grader.judge.jobs import GradeJob
from grader.judge.plugin import NOT_RUN, Outcome, run_suite
from grader.judge.session import LOAD_SECONDS, CandidateError, Session, clean
from grader.model import (
    Check,
    CheckResult,
    CheckVerdict,
    Diagnosis,
    Exercise,
    ExerciseResult,
    PolicyFinding,
    Submission,
    Verdict,
)
from grader.policy import is_forbidden, read_policy
from grader.stub import is_untouched, make_stub
from grader.submission import check_source

EXERCISE_SECONDS = 60.0
MAX_TIMEOUTS = 3  # after so many checks that had to be stopped, the rest is not tried
_OUTPUT_SHOWN = 4_000  # characters


class RemoteSubject:
    """The learner's code in a candidate; a candidate that died is replaced at the next check.

    Args:
        launcher: Starts candidates.
        submission: What they load.
        secret: See ``Session``.
    """

    def __init__(self, launcher: Launcher, submission: Submission, secret: int = 0) -> None:
        self._launcher = launcher
        self._submission = submission
        self._secret = secret
        self._candidate: Candidate | None = None
        self._session: Session | None = None
        self._end = time.monotonic() + EXERCISE_SECONDS
        self._timeouts = 0
        self._death: CandidateDied | None = None
        self._printed: list[str] = []
        self.layers: tuple[str, ...] = ()
        self.ran: dict[str, int | None] = {}

    def begin(self, seed: int) -> Impl:
        """Start a check, in a new candidate if the last one is gone."""
        if self._timeouts >= MAX_TIMEOUTS or time.monotonic() > self._end:
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
        self._hang_up()
        self._candidate = self._launcher.launch()
        self.layers = self._candidate.layers
        session = Session(self, on_ran=self._note, secret=self._secret)
        session.take_kinds(session.ask("load", LOAD_SECONDS, source=self._submission.source))
        self._session = session
        return session

    def ask(self, message: dict[str, object], seconds: float) -> dict[str, object]:
        """Send a request to the present candidate, within the exercise's time."""
        if self._candidate is None:
            raise CandidateDied("Your code's process is gone.")
        left = max(0.1, self._end - time.monotonic())
        try:
            return self._candidate.ask(message, min(seconds, left))
        except CandidateDied as death:
            if self._session is not None:
                self._timeouts += death.timed_out
            self._session, self._death = None, death
            raise

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

    def close(self) -> str:
        """End the candidate and return what the learner's code printed, cleaned and capped."""
        self._hang_up()
        return clean("".join(self._printed), _OUTPUT_SHOWN)

    def _hang_up(self) -> None:
        if self._candidate is not None:
            self._candidate.close()
            self._printed.append(self._candidate.output)
            self._candidate = self._session = None

    def _note(self, name: str, line: int | None) -> None:
        self.ran.setdefault(name, line)


def grade(
    job: GradeJob, launcher: Launcher, on_check: Callable[[int], None] = lambda done: None
) -> tuple[ExerciseResult, tuple[str, ...]]:
    """Return the result of a submission, and the sandbox's layers that held it (none if nothing ran).

    Args:
        job: What to grade, and with which seed.
        launcher: Starts candidates.
        on_check: Told how many checks are done.
    """
    started = time.perf_counter()
    exercise, submission = job.exercise, job.submission
    try:
        check_source(submission.source, submission.lines)
    except SubmissionError as error:
        return ExerciseResult.unrunnable(exercise, submission.file, str(error), error.line), ()
    if _is_stub(submission.source, exercise):
        return _not_attempted(exercise, submission.file), ()
    subject = RemoteSubject(launcher, submission, seed_of(job.seed, "secret"))
    key = keep(exercise)
    try:
        subject.load()
    except (CandidateError, CandidateDied) as error:
        return _not_loaded(exercise, submission.file, error, subject), subject.layers
    result = _judged(job, key, subject, run_suite(key, subject, job.seed, on_check))
    return replace(result, seconds=time.perf_counter() - started), subject.layers


def _judged(job: GradeJob, key: AnswerKey, subject: RemoteSubject, outcomes: Mapping[str, Outcome]) -> ExerciseResult:
    """Put together what came of the checks, with findings and a diagnosis; the candidates are gone afterwards."""
    exercise, output = job.exercise, subject.close()
    policy = _policy(exercise, job.submission, subject)
    diagnoses = _diagnose(key, subject, outcomes, job.seed)
    subject.close()
    return ExerciseResult(
        slug=exercise.slug,
        track=exercise.track,
        title=exercise.title,
        file=job.submission.file,
        verdict=_verdict(outcomes, policy),
        checks=tuple(_result(check, outcomes[check.name], policy, job.submission) for check in exercise.checks),
        diagnoses=diagnoses,
        policy=policy,
        output=output,
    )


def _not_attempted(exercise: Exercise, file: str) -> ExerciseResult:
    result = ExerciseResult.unrunnable(exercise, file, "Nothing is written yet: this is the stub as it came.")
    return replace(result, verdict=Verdict.NOT_ATTEMPTED)


def _is_stub(source: str, exercise: Exercise) -> bool:
    if "NotImplementedError" not in source:  # as most are; taking both to pieces takes longer than a look
        return False
    return is_untouched(source, make_stub((exercise.folder / "solution.py").read_text("utf-8")))


def _not_loaded(exercise: Exercise, file: str, error: Exception, subject: RemoteSubject) -> ExerciseResult:
    output = subject.close()
    line = error.line if isinstance(error, CandidateError) else None
    return replace(ExerciseResult.unrunnable(exercise, file, _why_not(error, subject), line), output=output)


def _why_not(error: Exception, subject: RemoteSubject) -> str:
    """Say why a file could not be loaded, with the next step."""
    if not isinstance(error, CandidateError):
        return f"While your file was being loaded: {error}"
    where, text = subject.where(error.line), str(error)
    if error.type_name == "EOFError":
        return f"Your file waits for the keyboard{where}; there is none here. Take input() out."
    if error.type_name == "SystemExit":
        return f"Your file calls exit(){where} while it is being loaded. Take that out."
    if isinstance(error, ImportError):
        text = re.sub(r" \([^()]+\)$", "", text)  # the path of the file that was found instead
        return f"An import failed{where}: {text}. Use what PyTorch and Python bring along."
    detail = f": {text}" if text else ""
    return (
        f"Your file raised {error.type_name}{detail}{where} while it was being loaded. Run it with python to see more."
    )


def _policy(exercise: Exercise, submission: Submission, subject: RemoteSubject) -> tuple[PolicyFinding, ...]:
    """Return uses of forbidden names: read from the source, and heard while it ran."""
    findings = list(read_policy(submission.source, exercise.names, exercise.forbids))
    lines = {finding.line for finding in findings} | ({None} if findings else set())
    for name, line in sorted(subject.ran.items(), key=lambda item: item[1] is None):  # those with a line first
        if is_forbidden(name, exercise.forbids) and line not in lines and not (line is None and findings):
            findings.append(PolicyFinding("forbidden call", name, line))
            lines.add(line)
    return tuple(findings)


def _diagnose(
    key: AnswerKey, subject: RemoteSubject, outcomes: Mapping[str, Outcome], seed: int
) -> tuple[Diagnosis, ...]:
    """Diagnose a fresh copy of the learner's code, in which no check has left anything behind."""
    if _all(outcomes, CheckVerdict.PASSED):
        return ()
    if any(outcome.unwritten or outcome.verdict is CheckVerdict.TIMEOUT for outcome in outcomes.values()):
        return ()
    try:
        return diagnose(key, subject.begin(seed_of(seed, "probe")))
    except Exception:  # whatever a strange answer does to it, the verdict is made already
        return ()


def _verdict(outcomes: Mapping[str, Outcome], policy: Sequence[PolicyFinding]) -> Verdict:
    if all(outcome.unwritten for outcome in outcomes.values()):
        return Verdict.NOT_ATTEMPTED
    return Verdict.PASSED if _all(outcomes, CheckVerdict.PASSED) and not policy else Verdict.FAILED


def _all(outcomes: Mapping[str, Outcome], verdict: CheckVerdict) -> bool:
    return bool(outcomes) and all(outcome.verdict is verdict for outcome in outcomes.values())


def _result(check: Check, outcome: Outcome, policy: Sequence[PolicyFinding], submission: Submission) -> CheckResult:
    if outcome.verdict is CheckVerdict.PASSED and policy:
        use = f"{_place(policy[0].line, submission)} uses {policy[0].name}"
        outcome = Outcome(CheckVerdict.FAILED, f"Not counted: {use}, which this exercise does not allow.")
    passed = outcome.verdict is CheckVerdict.PASSED
    points = check.points if passed else 0.0
    message = "" if passed else outcome.message or NOT_RUN
    return CheckResult(check.name, check.title, check.visible, points, check.points, outcome.verdict, message)


def _place(line: int | None, submission: Submission) -> str:
    """Say where a line is: in a notebook, the cell and its own line."""
    if line is None:
        return "your code"
    return submission.lines[line - 1] if 0 < line <= len(submission.lines) else f"line {line}"
