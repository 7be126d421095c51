"""``grade batch``: from a class's folder to its results."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from rich.text import Text

from grader.bank import find_exercise, load_exercises
from grader.classroom.batch.discover import Found, find_class
from grader.classroom.batch.local import Local
from grader.classroom.batch.run import Run, Wishes, grade_class, prepare
from grader.classroom.batch.store import RESULTS, Store
from grader.classroom.batch.tasks import Workers
from grader.classroom.model import ClassReport, Graded
from grader.classroom.pages import write_pages
from grader.commands.class_progress import ClassProgress
from grader.commands.class_summary import print_summary
from grader.errors import UsageError
from grader.model import Exercise, Verdict
from grader.report.layout import make_console, print_text

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


@dataclass(frozen=True)
class Ways:
    """How the work is done.

    Attributes:
        jobs: Submissions at a time on this machine; None for one per core.
        scheduler: Address of a Dask scheduler, if a cluster does it.
        feedback: What students get: ``full``, ``titles`` or ``score``.
    """

    jobs: int | None = None
    scheduler: str | None = None
    feedback: str = "full"


def grade_batch(wishes: Wishes, ways: Ways) -> int:
    """Grade a class and return the exit code: 0 if all passed, else 1.

    Raises:
        UsageError: If the folders or names do not fit.
        SandboxError: If the sandbox is below what class grading asks for.
        EngineError: If nothing could be graded.
    """
    _check_folders(wishes)
    with ExitStack() as stack:
        local = Local(ways.jobs) if ways.scheduler is None else None  # now: it imports torch in the meantime
        if local is not None:
            stack.callback(local.close)
        exercises = load_exercises()
        asked = tuple(find_exercise(slug, exercises).slug for slug in wishes.slugs)
        found = find_class(wishes.submissions, exercises, asked)
        store = stack.enter_context(Store(wishes.out, resume=wishes.resume))
        if not _grade(wishes, ways, local, found, store):
            return INTERRUPTED
        report = store.report()
    return _deliver(report, wishes.out, ways.feedback)


def _grade(wishes: Wishes, ways: Ways, local: Local | None, found: Found, store: Store) -> bool:
    """Do the work that is left; say whether all of it was done."""
    done = 0

    def count(_: Graded) -> None:
        nonlocal done
        done += 1
        progress.step()

    with ClassProgress() as progress:
        workers = local or _cluster(ways, found.exercises)
        try:
            run = prepare(wishes, found, store, workers)
            if kept := _what_is_kept(run):
                progress.say(kept)
            progress.begin(len(run.plan.todo))
            grade_class(run, store, workers, count)
        except KeyboardInterrupt:
            progress.close()
            progress.say(*_how_to_resume(wishes, ways, done, store))
            return False
        finally:
            workers.close()
    return True


def _cluster(ways: Ways, exercises: Sequence[Exercise]) -> Workers:
    from grader.classroom.batch.cluster import Cluster

    return Cluster(ways.scheduler or "", exercises)


def _check_folders(wishes: Wishes) -> None:
    """Refuse results among the submissions: the next run would take them for a student."""
    submissions, out = wishes.submissions.resolve(), wishes.out.resolve()
    if not submissions.is_dir():
        raise UsageError(f"There is no folder `{wishes.submissions}`. Expected one with a folder for each student.")
    if out.is_relative_to(submissions):
        raise UsageError(f"`{wishes.out}` lies among the submissions. Choose a folder outside of them.")
    if wishes.out.exists() and not wishes.out.is_dir():
        raise UsageError(f"`{wishes.out}` is a file. Choose a folder for the results.")


# --- what is said -----------------------------------------------------------------------------------------


def _what_is_kept(run: Run) -> str:
    """Say how much of an earlier run counts; nothing for a first run."""
    plan = run.plan
    if run.anew:
        return f"Everything is graded again, since results of different versions are not mixed: {run.anew}."
    if not (plan.kept or plan.changed or plan.outdated):
        return ""
    outdated = dict(plan.outdated)
    parts = [f"{plan.kept} kept"]
    if new := len(plan.todo) - plan.changed - sum(outdated.values()):
        parts.append(f"{new} not graded yet")
    if plan.changed:
        parts.append(f"{plan.changed} handed in anew")
    parts += [f"{number} of `{slug}`, whose answer key has changed" for slug, number in outdated.items()]
    return f"Going on with seed {run.seed}: {', '.join(parts)}."


def _how_to_resume(wishes: Wishes, ways: Ways, done: int, store: Store) -> tuple[str, str]:
    if store.facts is None:
        return "Stopped before anything was graded.", ""
    words = ["grade", "batch", str(wishes.submissions), "--out", str(wishes.out), *_options(wishes, ways), "--resume"]
    kept = f"Stopped. What was graded in this run ({done}) is kept in `{wishes.out / RESULTS}`. Go on by:"
    return kept, shlex.join(words)


def _options(wishes: Wishes, ways: Ways) -> list[str]:
    options = [word for slug in wishes.slugs for word in ("--slugs", slug)]
    options += ["--scheduler", ways.scheduler] if ways.scheduler else []
    options += ["--feedback", ways.feedback] if ways.feedback != "full" else []
    return options + (["--allow-weak-sandbox"] if wishes.allow_weak_sandbox else [])


# --- the end ----------------------------------------------------------------------------------------------


def _deliver(report: ClassReport, out: Path, feedback: str) -> int:
    write_pages(report, out, feedback)
    console = make_console(sys.stdout)
    print_summary(report, console)
    console.print()
    print_text(console, Text(f"{out / 'report.html'}  the class", ""), 2)
    print_text(console, Text(f"{out / 'students'}  a page and a report for each student", ""), 2)
    print_text(console, Text(f"{out / 'grades.csv'}  all points", ""), 2)
    return 0 if all(entry.result.verdict is Verdict.PASSED for entry in report.graded) else 1
