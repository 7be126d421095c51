"""A run over a class: what is left to do is planned, graded and stored."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import grader
from grader.candidate.sandbox import tier
from grader.classroom.batch.discover import Found
from grader.classroom.batch.store import Store
from grader.classroom.batch.tasks import Plan, Workers, digest_of_suite, make_plan, missing, read_tasks, weakest
from grader.classroom.model import ClassReport, Graded
from grader.errors import SandboxError, UsageError
from grader.model import Sandbox

FULL = "full"


@dataclass(frozen=True)
class Wishes:
    """What a teacher asks for.

    Attributes:
        submissions: The class's folder.
        out: Where the results go.
        slugs: The assignment's exercises; none for those that somebody answered.
        seed: Seed of the inputs; None for that of the run which is taken up, or a fresh one.
        resume: Whether a run that was stopped is taken up.
        title: What the class is called; empty for that of the run which is taken up, or its folder's name.
        allow_weak_sandbox: Whether a tier below ``full`` will do.
    """

    submissions: Path
    out: Path
    slugs: tuple[str, ...] = ()
    seed: int | None = None
    resume: bool = False
    title: str = ""
    allow_weak_sandbox: bool = False


@dataclass(frozen=True)
class Run:
    """A run that is about to begin.

    Attributes:
        found: What the class handed in.
        plan: What is left to do.
        suites: Slug → digest of the answer key.
        seed: Of all inputs.
        anew: Why results that were there are not kept, if so.
    """

    found: Found
    plan: Plan
    suites: Mapping[str, str]
    seed: int
    anew: str = ""


def prepare(wishes: Wishes, found: Found, store: Store, workers: Workers) -> Run:
    """Plan a run, and write down what holds for all of its results.

    Raises:
        SandboxError: If the learners' code would be held by less than it should be.
        UsageError: If the run that is taken up had another seed.
    """
    sandbox = _strong_enough(workers.sandbox, store, wishes)
    seed = _seed(wishes, store)
    versions = dict(workers.versions)
    anew = _why_anew(store, versions)
    suites = {exercise.slug: digest_of_suite(exercise.folder) for exercise in found.exercises}
    plan = make_plan(found, {} if anew else store.known(), suites)
    title = wishes.title or (store.facts or {}).get("title") or wishes.submissions.resolve().name
    report = ClassReport(
        title, grader.__version__, seed, sandbox, versions, found.exercises, found.students, (), found.notes
    )
    if anew:
        store.forget()
    store.begin(report)
    store.renote(dict(plan.notes))
    store.put(*missing(found, suites))
    return Run(found, plan, suites, seed, anew)


def grade_class(run: Run, store: Store, workers: Workers, on_result: Callable[[Graded], None]) -> None:
    """Grade what is left to do, and store each result before it is told.

    Args:
        run: What to do.
        store: Where results go.
        workers: Who grades.
        on_result: Told of each.
    """

    def keep(graded: Graded) -> None:
        store.put(graded)
        on_result(graded)

    tasks = read_tasks(run.plan.todo, run.found.exercises, run.suites, keep)
    for task, result in workers.grade(tasks, run.seed):
        store.note_sandbox(workers.sandbox)
        keep(task.graded(result))


def _strong_enough(now: Sandbox, store: Store, wishes: Wishes) -> Sandbox:
    """Return the weaker of the present sandbox and of the one that held what is graded already."""
    before = tuple(store.facts["layers"]) if store.facts is not None and store.count() else now.layers
    if wishes.allow_weak_sandbox:
        return weakest(now, Sandbox(tier(before), before))
    if now.tier != FULL:
        raise SandboxError(
            f"The sandbox is only `{now.tier}` here, which is too weak for other people's code. `grade doctor` says "
            "what is missing; `--allow-weak-sandbox` grades all the same."
        )
    if tier(before) != FULL:
        raise SandboxError(
            f"What `{wishes.out}` holds was graded in a sandbox that is only `{tier(before)}`. Choose another folder, "
            "or keep it by `--allow-weak-sandbox`."
        )
    return now


def _seed(wishes: Wishes, store: Store) -> int:
    if store.facts is None:
        return secrets.randbits(64) if wishes.seed is None else wishes.seed
    seed = int(store.facts["seed"])
    if wishes.seed not in (None, seed):
        raise UsageError(
            f"`{wishes.out}` was begun with the seed {seed}, and all students get the same inputs. Leave `--seed` out, "
            "or choose another folder."
        )
    return seed


def _why_anew(store: Store, versions: Mapping[str, str]) -> str:
    """Say why results that are there cannot stand beside new ones."""
    if store.facts is None or not store.count():
        return ""
    before = {"kit": store.facts["kit"], **store.facts["versions"]}
    now = {"kit": grader.__version__, **versions}
    changes = [f"{name} {before.get(name)} before, {now[name]} now" for name in now if before.get(name) != now[name]]
    return "; ".join(changes)
