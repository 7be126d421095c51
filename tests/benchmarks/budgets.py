"""Hold the grader against its budgets (ARCHITECTURE, section 6): ``python tests/benchmarks/budgets.py``.

Whatever is compared runs in turns, A B A B …, and medians are taken, so that a busy machine bends both sides alike. Run
it on a quiet machine all the same.
"""

from __future__ import annotations

import argparse
import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import psutil
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
sys.path.append(str(HERE))

from at_work import AtWork  # noqa: E402

from grader.bank import find_exercise, load_exercises  # noqa: E402
from grader.judge.client import Grader  # noqa: E402
from grader.model import Exercise, Submission, Verdict  # noqa: E402

SLUG = "rotary"
NBGRADER = 4.0  # seconds that stock `nbgrader autograde` takes for one notebook on one core
PATIENCE = 60.0  # seconds for what should happen at once


@dataclass(frozen=True)
class Row:
    """One budget.

    Attributes:
        what: What was measured.
        measured: Its value, in ``unit``.
        against: What it is held against.
        other: The value of that.
        ratio: One over the other.
        budget: The limit, as it is written.
        within: Whether it is kept.
        unit: ``s`` or ``MB``.
    """

    what: str
    measured: float
    against: str
    other: float
    ratio: float
    budget: str
    within: bool
    unit: str = "s"


def main() -> None:
    """Measure everything and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="how often each thing is measured")
    parser.add_argument("--class-size", type=int, default=40, help="submissions that are graded as a class")
    options = parser.parse_args()
    with as_a_learner():
        rows = [
            cold_start(options.rounds),
            *warm_start(options.rounds),
            sandboxing(options.rounds * 5),
            *private_memory(),
            help_text(options.rounds),
            whole_class(options.class_size),
        ]
    show(rows)


def show(rows: Sequence[Row]) -> None:
    """Print the table."""
    table = Table(title=f"Budgets on {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for column in "what", "measured", "held against", "ratio", "budget", "within":
        table.add_column(column, justify="left" if column in ("what", "held against") else "right")
    for row in rows:
        form = ".0f" if row.unit == "MB" else ".4f"
        against = f"{row.against}: {row.other:{form}} {row.unit}"
        kept = "yes" if row.within else "[bold]no[/bold]"
        table.add_row(row.what, f"{row.measured:{form}} {row.unit}", against, f"{row.ratio:.2f}", row.budget, kept)
    Console().print(table)


@contextmanager
def as_a_learner():
    """Let Python keep compiled files, as it does for everybody else."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    with mock.patch.dict(os.environ, environment | {"PYTHONPATH": str(HERE)}, clear=True):
        yield


# --- measuring -----------------------------------------------------------------------------------------------------


def in_turns(a: Callable[[], object], b: Callable[[], object], rounds: int) -> tuple[float, float]:
    """Return the median seconds of both, after one run of each that does not count."""
    a(), b()
    seconds = [(seconds_of(a), seconds_of(b)) for _ in range(rounds)]
    return statistics.median(s for s, _ in seconds), statistics.median(s for _, s in seconds)


def seconds_of(call: Callable[[], object]) -> float:
    """Return how long ``call`` takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def run(*command: str) -> None:
    """Run a program to its end, unseen."""
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def rotary() -> Exercise:
    """Return the exercise that stands for all."""
    return find_exercise(SLUG, load_exercises())


# --- the budgets ---------------------------------------------------------------------------------------------------


def cold_start(rounds: int) -> Row:
    """``grade FILE`` from nothing, against the least that any torch program takes."""
    file = str(rotary().folder / "solution.py")
    grade, torch = in_turns(
        lambda: run(sys.executable, "-m", "grader", file, "--as", SLUG),
        lambda: run(sys.executable, "-c", "import torch"),
        rounds,
    )
    ratio = grade / torch
    return Row(f"grade {SLUG}, cold", grade, 'python -c "import torch"', torch, ratio, "≤ 1.25 x", ratio <= 1.25)


def warm_start(rounds: int) -> list[Row]:
    """A file that was saved, to its verdict, in a grader that runs: one that is right, and one that is wrong."""
    exercise = rotary()
    right = Submission((exercise.folder / "solution.py").read_text("utf-8"), "rotary.py", SLUG)
    wrong = Submission(right.source.replace("angles.cos()", "angles.sin()"), "rotary.py", SLUG)
    rows = []
    seeds = itertools.count()  # a new one each time: of one that was used before, the checks are known
    with Grader(jobs=1) as grader, Bench("fork") as bench:
        for name, submission, verdict in ("right", right, Verdict.PASSED), ("wrong", wrong, Verdict.FAILED):

            def once(submission: Submission = submission, verdict: Verdict = verdict) -> None:
                (result,) = grader.grade([(exercise, submission)], next(seeds))
                assert result.verdict is verdict

            again, fork = in_turns(once, bench.once, rounds)
            what = f"save → verdict, {SLUG} {name}"
            rows.append(Row(what, again, "fork and one op", fork, again / fork, "≤ 0.20 s", again <= 0.20))
    return rows


def sandboxing(rounds: int) -> Row:
    """A fork that locks itself up, against one that does not."""
    with Bench("fork") as plain, Bench("locked") as locked:
        bare, sandboxed = in_turns(plain.once, locked.once, rounds)
    cost = sandboxed - bare
    return Row("sandboxing one candidate", cost, "the bare fork", bare, cost / bare, "≤ 0.005 s", cost <= 0.005)


def private_memory() -> list[Row]:
    """What one candidate holds for itself once it has run the whole suite; nothing where that cannot be read."""
    exercise = rotary()
    source = (exercise.folder / "solution.py").read_text("utf-8")
    with tempfile.TemporaryDirectory() as folder, Grader(jobs=1) as grader:
        done, go = Path(folder, "done"), Path(folder, "go")
        job = AtWork(exercise, Submission(source, "rotary.py", SLUG), folder)
        judging = threading.Thread(target=lambda: list(grader.run([job])))
        judging.start()
        end = time.monotonic() + PATIENCE
        while not done.exists() and time.monotonic() < end:
            time.sleep(0.01)
        processes = psutil.Process(grader._process.pid).children(recursive=True)
        (candidate,) = (p for p in processes if p.pid != int(done.read_text()) and not p.children())
        try:
            mine, zygotes = (p.memory_full_info().uss / 2**20 for p in (candidate, candidate.parent()))
        except psutil.AccessDenied:  # it is closed to all but root
            return []
        finally:
            go.touch()
            judging.join()
    what = "private memory of a candidate"
    return [Row(what, mine, "the zygote's own", zygotes, mine / zygotes, "≤ 60 MB", mine <= 60, "MB")]


def help_text(rounds: int) -> Row:
    """``grade --help``, against an interpreter that does nothing."""
    text, nothing = in_turns(
        lambda: run(sys.executable, "-m", "grader", "--help"), lambda: run(sys.executable, "-c", "pass"), rounds
    )
    return Row("grade --help", text, 'python -c "pass"', nothing, text / nothing, "≤ 0.25 s", text <= 0.25)


def whole_class(size: int) -> Row:
    """A class's submissions, some right and some wrong, per exercise and core."""
    exercise = rotary()
    source = (exercise.folder / "solution.py").read_text("utf-8")
    hands = [
        source,
        source.replace("turned", "rotated"),
        source.replace("angles.sin()", "-angles.sin()"),
        source + "\n",
    ]
    work = [(exercise, Submission(f"# {i}\n{hands[i % 4]}", f"{i}/rotary.py", SLUG)) for i in range(size)]
    cores = len(os.sched_getaffinity(0))
    with Grader(jobs=cores) as grader:
        list(grader.grade(work[:1]))
        seconds = seconds_of(lambda: list(grader.grade(work))) * min(cores, size) / size
    ratio = NBGRADER / seconds
    return Row("class, per exercise and core", seconds, "stock nbgrader", NBGRADER, ratio, "≥ 25 x faster", ratio >= 25)


# --- helpers -------------------------------------------------------------------------------------------------------


class Bench:
    """A process with torch loaded, one thread and no grader around it, that forks when it is asked to.

    Args:
        what: ``fork`` (a child runs one operator and ends) or ``locked`` (it gives up its rights first).
    """

    def __init__(self, what: str) -> None:
        command = [sys.executable, str(HERE / "forks.py"), what]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def once(self) -> None:
        """Fork one child and wait until it has ended."""
        pipe_in, pipe_out = self._process.stdin, self._process.stdout
        assert pipe_in is not None
        assert pipe_out is not None
        pipe_in.write(b"\n")
        pipe_in.flush()
        assert pipe_out.readline() == b"done\n"

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.communicate()


if __name__ == "__main__":
    main()
