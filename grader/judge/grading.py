"""Grades one submission on one exercise: the judge's main job."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from grader.errors import SubmissionError
from grader.judge.answerkey import AnswerKey, keep
from grader.judge.candidates import CandidateDied, Launcher
from grader.judge.diagnose import diagnose
from grader.judge.fixtures import seed_of
from grader.judge.jobs import GradeJob
from grader.judge.plugin import NOT_RUN, Outcome, run_suite
from grader.judge.scripts import Scripts, scripts_of
from grader.judge.session import CandidateError
from grader.judge.subject import RemoteSubject
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
        if not job.checked:
            check_source(submission.source, submission.lines)
    except SubmissionError as error:
        return ExerciseResult.unrunnable(exercise, submission.file, str(error), error.line), ()
    if _is_stub(submission.source, exercise):
        return _not_attempted(exercise, submission.file), ()
    key = keep(exercise)
    result, layers = _run(job, key, launcher, on_check, scripts_of(key, job.seed))
    return replace(result, seconds=time.perf_counter() - started), layers


def _run(
    job: GradeJob, key: AnswerKey, launcher: Launcher, on_check: Callable[[int], None], scripts: Scripts | None
) -> tuple[ExerciseResult, tuple[str, ...]]:
    """Run the file through the suite, asking ahead by the scripts if there are any."""
    subject = RemoteSubject(launcher, job.submission, seed_of(job.seed, "secret"), scripts)
    try:
        subject.load()
    except (CandidateError, CandidateDied) as error:
        return _not_loaded(job.exercise, job.submission.file, error, subject), subject.layers
    outcomes = run_suite(key, subject, job.seed, on_check)
    output = subject.close()
    if output and subject.rehearsed and output != subject.output_of_loading():
        return _run(job, key, launcher, on_check, None)  # for what is printed while no more is asked than it takes
    return _judged(job, key, subject, outcomes, output), subject.layers


def _judged(
    job: GradeJob, key: AnswerKey, subject: RemoteSubject, outcomes: Mapping[str, Outcome], output: str
) -> ExerciseResult:
    """Put together what came of the checks, with findings and a diagnosis; the candidates are gone afterwards."""
    exercise = job.exercise
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
        subject.rehearse("probe")
        found = diagnose(key, subject.begin(seed_of(seed, "probe")))
        subject.conclude("probe", passed=True)
        return found
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
