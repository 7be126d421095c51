"""``grade dev``: the commands of those who write exercises."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.text import Text

from grader.authoring import check, new, repository, sync
from grader.bank import find_bank, find_exercise, load_exercises
from grader.commands.progress import Progress
from grader.errors import UsageError
from grader.model import Exercise
from grader.report.layout import coded, make_console, print_row, print_text


def new_exercise(path: str) -> int:
    """Write the four files of a new exercise.

    Raises:
        UsageError: If ``path`` is not ``track/slug``, or there is such an exercise already.
    """
    track, _, slug = path.strip("/").partition("/")
    if not slug:
        raise UsageError(f"Name the track too: `grade dev new positions/{track}`.")
    repository()
    console = make_console(sys.stdout)
    for file in new(track, slug, find_bank()):
        print_text(console, Text(str(file)))
    print_text(console, coded(f"Next: write them, then `grade dev sync {slug}` and `grade dev check {slug}`."))
    return 0


def sync_stubs(slugs: Sequence[str]) -> int:
    """Write the stubs that are missing or out of date."""
    root = repository()
    written = sync(_chosen(slugs), root)
    console = make_console(sys.stdout)
    for file in written:
        print_text(console, Text(f"written: {file.relative_to(root).as_posix()}"))
    if not written:
        print_text(console, Text("All stubs are current."))
    return 0


def check_exercises(slugs: Sequence[str], jobs: int | None) -> int:
    """Prove answer keys; 1 if something is wrong with any."""
    root = repository()
    exercises = _chosen(slugs)
    console = make_console(sys.stdout)
    wrong_ones = 0
    with Progress() as progress:
        progress.say(f"Proving {len(exercises)} …")
        for done, (exercise, wrong) in enumerate(check(exercises, root, jobs), start=1):
            progress.clear()
            print_row(console, "bad" if wrong else "good", Text(f"{exercise.track}/{exercise.slug}"))
            for sentence in wrong:
                print_text(console, coded(sentence), 6)
            wrong_ones += bool(wrong)
            progress.say(f"Proved {done} of {len(exercises)} …")
    text = f"{wrong_ones} of {len(exercises)} need mending." if wrong_ones else f"{len(exercises)} proved."
    print_text(console, Text(text, "bold"))
    return 1 if wrong_ones else 0


def _chosen(slugs: Sequence[str]) -> list[Exercise]:
    exercises = load_exercises()
    return [find_exercise(slug, exercises) for slug in slugs] if slugs else list(exercises)
