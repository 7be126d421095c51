"""``grade``: from the words on the command line to a report and an exit code."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from io import StringIO
from pathlib import Path

from grader.bank import load_exercises
from grader.commands.progress import Progress
from grader.commands.standing import Record, standings
from grader.commands.targets import Target, find_targets, in_workspace
from grader.errors import SubmissionError, UsageError
from grader.judge.client import Grader
from grader.learner.workspace import Status, Workspace
from grader.model import Exercise, ExerciseResult, Report, Submission, Verdict
from grader.report.files import write_whole
from grader.report.text import one_line
from grader.submission import read_submission


@dataclass(frozen=True)
class Wishes:
    """How a report is wanted.

    Attributes:
        seed: Seed of the inputs, None for fresh ones.
        form: ``text``, ``json``, ``junit``, ``ctrf`` or ``gradescope``.
        out: Where to write, None for standard output.
        feedback: ``full``, ``titles`` or ``score``.
    """

    seed: int | None = None
    form: str = "text"
    out: Path | None = None
    feedback: str = "full"

    @property
    def streams(self) -> bool:
        """Whether results are printed as they come."""
        return self.form == "text" and self.out is None


def grade_targets(words: Sequence[str], slug: str | None, wishes: Wishes) -> int:
    """Grade the slugs and files that were named, and return the exit code.

    Args:
        words: Slugs and files.
        slug: The exercise that the one file answers, if its name does not say.
        wishes: How the report is wanted.

    Raises:
        UsageError: If a word names nothing that could be graded.
    """
    with Grader() as grader:  # first, since importing torch takes longer than everything that follows
        exercises = load_exercises()
        report = _grade(grader, find_targets(words, slug, exercises), wishes)
    _deliver(report, wishes, exercises)
    return exit_code({result.verdict for result in report.exercises})


def grade_changed(wishes: Wishes) -> int:
    """Show where every exercise stands, and grade those whose file changed since it was last graded.

    Returns:
        The exit code of all that the learner has begun, whether it was graded now or before.
    """
    with Grader() as grader:
        exercises = load_exercises()
        workspace = Workspace.find(Path.cwd())
        found = standings(workspace, exercises)
        changed = [exercise for exercise in exercises if found[exercise.slug] is Status.EDITED]
        if wishes.streams:
            _show_overview(exercises, found)
        before = {standing for standing in found.values() if isinstance(standing, Verdict)}
        if not changed and wishes.streams:
            return exit_code(before)
        report = _grade(grader, [Target(one, in_workspace(workspace, one)) for one in changed], wishes)
    _deliver(report, wishes, exercises)
    return exit_code(before | {result.verdict for result in report.exercises})


def exit_code(verdicts: Set[Verdict]) -> int:
    """Return 0 if all passed, 3 if a file could not be run at all, else 1; without any verdict nothing has passed."""
    if Verdict.ERROR in verdicts:
        return 3
    return 0 if verdicts == {Verdict.PASSED} else 1


def _show_overview(exercises: Sequence[Exercise], found: Mapping[str, Status | Verdict]) -> None:
    from grader.commands.overview import print_overview
    from grader.report.layout import coded, make_console, print_text

    console = make_console(sys.stdout)
    print_overview(exercises, console, found)
    if Status.EDITED not in found.values():
        console.print()
        print_text(console, coded(_nothing_to_grade(found)))


def _nothing_to_grade(found: Mapping[str, Status | Verdict]) -> str:
    if any(isinstance(standing, Verdict) for standing in found.values()):
        return "Nothing has changed since it was last graded."
    if Status.UNTOUCHED in found.values():
        return "Nothing to grade yet: open a file in exercises/, write what is missing there, and run `grade` again."
    return "There are no exercises in this folder. `grade init` writes them."


# --- grading ----------------------------------------------------------------------------------------------


def _grade(grader: Grader, targets: Sequence[Target], wishes: Wishes) -> Report:
    if wishes.out is not None:
        _check_out(wishes.out, targets)
    record = Record(targets)
    with Progress() as progress:
        report = _report(grader, progress, targets, wishes)
    record.note(report.exercises)
    return report


def _report(grader: Grader, progress: Progress, targets: Sequence[Target], wishes: Wishes) -> Report:
    progress.say("Starting …")
    from grader.report.layout import make_console  # rich, while the server imports torch
    from grader.report.terminal import print_result

    console = make_console(sys.stdout)
    grader.on_check = progress.on_check
    results = []
    for result in _in_order(grader, targets, wishes.seed):
        results.append(result)
        if wishes.streams:
            progress.clear()
            print_result(result, console, wishes.feedback, brief=len(targets) > 1)
    return grader.report(results, wishes.seed)


def _in_order(grader: Grader, targets: Sequence[Target], seed: int | None) -> Iterator[ExerciseResult]:
    """Yield one result per target, in their order, each as soon as it and those before it are there."""
    done: dict[int, ExerciseResult] = {}
    jobs: list[tuple[Exercise, Submission]] = []
    places: dict[tuple[str, str], list[int]] = {}  # of the results, by slug and file
    for place, target in enumerate(targets):
        name = one_line(target.file.as_posix())
        try:
            submission = read_submission(target.file, target.exercise.slug)
        except SubmissionError as error:
            done[place] = ExerciseResult.unrunnable(target.exercise, name, str(error), error.line)
        else:
            jobs.append((target.exercise, replace(submission, file=name)))
            places.setdefault((target.exercise.slug, name), []).append(place)
    place = 0
    for result in grader.grade(jobs, seed):
        done[places[result.slug, result.file].pop(0)] = result
        while place in done:
            yield done.pop(place)
            place += 1
    yield from (done[place] for place in sorted(done))


# --- the report's way out ---------------------------------------------------------------------------------


def _deliver(report: Report, wishes: Wishes, exercises: Sequence[Exercise]) -> None:
    if wishes.form != "text":
        text = write_as(wishes.form, report, wishes.feedback)
    else:
        from grader.report.layout import make_console
        from grader.report.terminal import print_ending, print_report

        if wishes.out is None:
            print_ending(report, exercises, make_console(sys.stdout), wishes.feedback)
            return
        page = StringIO()
        print_report(report, exercises, make_console(page, colour=False), wishes.feedback)
        text = page.getvalue()
    if wishes.out is None:
        sys.stdout.write(text)
    else:
        write_whole(wishes.out, text)


def write_as(form: str, report: Report, feedback: str) -> str:
    """Return the report in a form for programs."""
    from grader.report import ctrf, gradescope, json, junit

    match form:
        case "junit":
            return junit.dump(report, feedback)
        case "ctrf":
            return ctrf.dump(report, feedback, ended=time.time())
        case "gradescope":
            return gradescope.dump(report, feedback)
        case _:
            return json.dump(report, feedback)


def _check_out(out: Path, targets: Sequence[Target]) -> None:
    """Refuse a place for the report before any work is done."""
    if not out.parent.is_dir():
        raise UsageError(f"The report cannot be written to `{out}`: there is no folder `{out.parent}`.")
    if out.exists() and not out.is_file():
        raise UsageError(f"The report cannot be written to `{out}`: that is not a file.")
    if any(out.exists() and target.file.exists() and out.samefile(target.file) for target in targets):
        raise UsageError(f"`--out {out}` would replace the file that is being graded. Choose another name.")
