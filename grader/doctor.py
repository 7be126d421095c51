"""What this machine gives to the grader, and what to do about what is missing."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from grader import __version__
from grader.bank import find_bank, load_exercises
from grader.candidate.sandbox import explain
from grader.errors import KitError
from grader.judge.client import Grader
from grader.learner.workspace import Status, Workspace

_TIERS = {
    "full": "full: what is graded here reaches neither your files nor the network.",
    "partial": "partial: grade only code that you would also run without a sandbox.",
    "process": "process only: grade only code that you would also run without a sandbox.",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        what: Its name.
        text: What was found, or what to do about what was not.
        fine: Whether it is in order.
        needed: Whether nothing can be graded without it.
    """

    what: str
    text: str
    fine: bool = True
    needed: bool = False


def examine() -> Iterator[Finding]:
    """Look at everything that grading depends on; the sandbox is one that a real candidate has put up."""
    yield Finding("kit", f"{__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    yield _processors()
    try:
        exercises = load_exercises()
    except KitError as error:
        yield Finding("answer keys", str(error), fine=False, needed=True)
        return
    yield Finding("answer keys", f"{len(exercises)} in {find_bank()}")
    workspace = Workspace.find(Path.cwd())
    present = sum(workspace.status(exercise) is not Status.MISSING for exercise in exercises)
    folder = workspace.root / "exercises"
    text = f"{present} of {len(exercises)} in {folder}" if present else "None in this folder: `grade init` writes them."
    yield Finding("your files", text, fine=present > 0)
    yield from _engine()


def _processors() -> Finding:
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count > 1:
        return Finding("processors", f"{count}, so {count} exercises are graded at a time")
    return Finding("processors", "1: exercises are graded one after the other, which is only slower.", fine=False)


def _engine() -> Iterator[Finding]:
    try:
        with Grader(jobs=1) as grader:
            versions, sandbox = grader.versions, grader.sandbox
    except KitError as error:
        yield Finding("PyTorch", str(error), fine=False, needed=True)
        return
    yield Finding("PyTorch", versions["torch"])
    yield Finding("sandbox", _TIERS[sandbox.tier], fine=sandbox.tier == "full")
    for layer, in_force, sentence in explain(sandbox.layers):
        yield Finding(f"  {layer}", sentence, fine=in_force)
