"""What ``run_autograder`` starts in Gradescope's container: grade one submission and write ``results.json``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from grader.bank import find_exercise, load_exercises
from grader.errors import KitError, SandboxError, SubmissionError, UsageError
from grader.judge.client import Grader
from grader.model import Exercise, ExerciseResult, Submission, Verdict
from grader.report import gradescope
from grader.report.files import make_folder, write_whole
from grader.report.text import one_line, plain
from grader.submission import guess_slug, read_submission

SOURCES = (".py", ".ipynb")
MAX_FILES = 5_000  # looked at in a submission


def grade_submission(root: Path) -> None:
    """Grade ``root/submission`` as ``root/source/config.json`` says, into ``root/results/results.json``.

    Raises:
        SandboxError: If the sandbox is below ``full``, and the teacher has not said that it may be.
    """
    config = json.loads((root / "source" / "config.json").read_text("utf-8"))
    with Grader() as grader:
        exercises = load_exercises()
        chosen = [find_exercise(slug, exercises) for slug in config["slugs"]]
        tier = grader.sandbox.tier
        if tier != "full" and not config["allow_weak_sandbox"]:
            raise SandboxError(
                f"The sandbox of this container is `{tier}`, below `full`, so nothing was graded. To grade all the "
                "same, build the autograder again with `--allow-weak-sandbox`; its README.md says what that means."
            )
        report = grader.report(_results(grader, chosen, root / "submission"))
    make_folder(root / "results")
    write_whole(root / "results" / "results.json", gradescope.dump(report, config["feedback"]))


def _results(grader: Grader, exercises: Sequence[Exercise], folder: Path) -> list[ExerciseResult]:
    files = _find(folder, [exercise.slug for exercise in exercises])
    done: dict[str, ExerciseResult] = {}
    work: list[tuple[Exercise, Submission]] = []
    for exercise in exercises:
        file = files.get(exercise.slug)
        if file is None:
            text = f"There is no file for this exercise. Hand in `{exercise.slug}.py` or `{exercise.slug}.ipynb`."
            done[exercise.slug] = replace(ExerciseResult.unrunnable(exercise, "", text), verdict=Verdict.NOT_ATTEMPTED)
            continue
        shown = one_line(file.relative_to(folder).as_posix())
        try:
            work.append((exercise, replace(read_submission(file, exercise.slug), file=shown)))
        except (SubmissionError, UsageError) as error:
            done[exercise.slug] = ExerciseResult.unrunnable(exercise, shown, str(error), getattr(error, "line", None))
    done |= {result.slug: result for result in grader.grade(work)}
    return [done[exercise.slug] for exercise in exercises]


def _find(folder: Path, slugs: Sequence[str]) -> dict[str, Path]:
    """Return the file for each exercise: named after it, the exact name before a copy's, the shortest way to it first.

    If one exercise is asked and one file handed in, no name is needed.
    """
    files = sorted(_sources(folder), key=lambda path: (len(path.parts), path.stem not in slugs, path.as_posix()))
    found: dict[str, Path] = {}
    for file in files:
        slug = guess_slug(file, slugs)
        if slug is not None:
            found.setdefault(slug, file)
    if not found and len(files) == len(slugs) == 1:
        found[slugs[0]] = files[0]
    return found


def _sources(folder: Path) -> Iterator[Path]:
    seen = 0
    for place, folders, names in os.walk(folder):  # follows no links
        folders[:] = sorted(name for name in folders if name[0] not in "._")
        for name in sorted(names):
            seen += 1
            if seen > MAX_FILES:
                return
            if name.lower().endswith(SOURCES) and name[0] != ".":
                yield Path(place, name)


def main(words: Sequence[str]) -> int:
    """Grade, or say on standard output, which teachers read, why not."""
    try:
        grade_submission(Path(words[0]))
    except KitError as error:
        print(plain(str(error)))
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
