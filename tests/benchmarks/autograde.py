"""Three ways to grade the same notebooks, in one run and in turns: ``python tests/benchmarks/autograde.py``.

``nbgrader autograde`` with its own ``Execute`` (a kernel per notebook, the hidden suite in that kernel), ``nbgrader
autograde`` with our ``Judge``, and ``grade batch`` on one core. Only the ratios mean anything. Half of the notebooks
are right, each in another way (the answer keys' alternatives), half are wrong, each in another way.

What ``nbgrader`` takes for a notebook does not depend on how many there are, so it grades the first students alone;
``grade batch`` grades the whole class.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parent))

from made_up import sources

from grader.bank import find_exercise, load_exercises

SLUGS = ("rotary", "multi_head", "softmax", "masks")
BUDGETS = {"nbgrader with our judge": 8.0, "grade batch, per core": 25.0}


def main() -> None:
    """Grade a class in three ways and print how they compare."""
    words = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    words.add_argument("--students", type=int, default=6, help="of whom each hands in four notebooks")
    words.add_argument("--class", type=int, default=80, dest="all", help="students that `grade batch` grades")
    words.add_argument("--rounds", type=int, default=1)
    given = words.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        everybody = max(given.all, given.students)
        course = lay_out(Path(scratch), given.students, everybody)
        seconds: dict[str, list[float]] = {}
        for _ in range(given.rounds):
            for name, way, students in (
                ("stock nbgrader", stock, given.students),
                ("nbgrader with our judge", ours, given.students),
                ("grade batch, per core", batch, everybody),
            ):
                started = time.perf_counter()
                way(course)
                seconds.setdefault(name, []).append((time.perf_counter() - started) / (students * len(SLUGS)))
    each = {name: statistics.median(values) for name, values in seconds.items()}
    show(each, f"{given.students * len(SLUGS)} notebooks in nbgrader, {everybody * len(SLUGS)} in a batch")


def lay_out(scratch: Path, students: int, everybody: int) -> Path:
    """Make a course in which everybody hands in everything: every other student with mistakes, all in their own way.

    The first ``students`` are in nbgrader's folder, everybody is in ``class``.
    """
    run(scratch, "grader", "course", "init", "course", "--course-id", "bench")
    course = scratch / "course"
    run(course, "grader", "course", "build", "--assignment", "week1", "--slugs", *SLUGS)
    run(course, "nbgrader", "generate_assignment", "week1")
    ways = {slug: sources(find_exercise(slug, load_exercises())) for slug in SLUGS}
    for number in range(everybody):
        place = course / "class" / f"student{number:02}" / "week1"
        shutil.copytree(course / "source" / "week1", place)
        for path in place.glob("*.ipynb"):
            path.chmod(0o644)
            choice = ways[path.stem]["wrong" if number % 2 else "right"]
            write_answer(path, choice[number // 2 % len(choice)])
        if number < students:
            shutil.copytree(place, course / "submitted" / place.parent.name / "week1")
    shutil.copytree(course, scratch / "stock")
    config = scratch / "stock" / "nbgrader_config.py"
    config.write_text(re.sub(r"(?s)c\.Autograde\.\w+ = .*?(?=\nc\.Judge)", "", config.read_text("utf-8")), "utf-8")
    return course


def write_answer(path: Path, source: str) -> None:
    """Put a whole answer into the last of a notebook's answer cells, and nothing into the others."""
    notebook = json.loads(path.read_text("utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["metadata"].get("nbgrader", {}).get("solution")]
    cells = [cell for cell in cells if cell["cell_type"] == "code"]
    for cell in cells:
        cell["source"] = "pass"
    cells[-1]["source"] = source
    path.write_text(json.dumps(notebook), "utf-8")


def stock(course: Path) -> None:
    """Grade with nbgrader alone."""
    run(course.with_name("stock"), "nbgrader", "autograde", "week1", "--force")


def ours(course: Path) -> None:
    """Grade with nbgrader and our judge."""
    run(course, "nbgrader", "autograde", "week1", "--force")


def batch(course: Path) -> None:
    """Grade without nbgrader, on one core."""
    out = course / "out"
    shutil.rmtree(out, ignore_errors=True)
    run(course, "grader", "batch", "class", "--out", str(out), "--jobs", "1", code=1)


def run(folder: Path, *words: str, code: int = 0) -> None:
    """Run a command."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        [sys.executable, "-m", *words],
        cwd=folder,
        capture_output=True,
        text=True,
        env=os.environ | {"PATH": path},
        check=False,
    )
    if done.returncode != code:
        raise SystemExit(done.stdout + done.stderr)


def show(seconds: dict[str, float], title: str) -> None:
    """Print seconds and ratios."""
    table = Table(title=title)
    for heading in "way", "s / notebook", "faster than stock", "budget", "":
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for name, value in seconds.items():
        ratio = seconds["stock nbgrader"] / value
        budget = BUDGETS.get(name)
        kept = "" if budget is None else "kept" if ratio >= budget else "MISSED"
        table.add_row(name, f"{value:.3f}", f"{ratio:.1f} ×", f"≥ {budget:g} ×" if budget else "", kept)
    Console().print(table)


if __name__ == "__main__":
    main()
