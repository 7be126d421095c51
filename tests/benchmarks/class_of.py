"""How `grade batch` grows with the class: ``python tests/benchmarks/class_of.py 100 300 1000``.

Submissions are made from the answer keys' solutions and variants: right, wrong and broken ones. Beside seconds on the
clock stands the processor time of the whole tree of processes, which a busy machine bends less, and the most memory
that the tree held (each page that several processes share counts once).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
from rich.console import Console
from rich.table import Table

sys.path.append(str(Path(__file__).parent))

from made_up import write_class

from grader.bank import find_exercise, load_exercises

SLUGS = ("sinusoidal", "rotary", "softmax", "masks", "scaled_dot_product")
NBGRADER = 4.0  # seconds that stock `nbgrader autograde` takes for one notebook on one core
EVERY_SECONDS = 0.25  # between two looks at the processes


@dataclass(frozen=True)
class Size:
    """What a class of one size took.

    Attributes:
        number: Submissions.
        seconds: On the clock, from start to pages.
        processor: Seconds of processor time of all processes together.
        memory: The most that all processes held together, in MB.
    """

    number: int
    seconds: float
    processor: float
    memory: float


def main() -> None:
    """Grade a class of each size and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("numbers", nargs="*", type=int, default=[100, 300, 1000], help="submissions")
    parser.add_argument("--slugs", nargs="*", default=SLUGS, help="exercises of the assignment")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="at a time")
    options = parser.parse_args()
    sizes = [measure(number, options.slugs, options.jobs) for number in options.numbers]
    show(sizes, options.jobs)


def measure(number: int, slugs: Sequence[str], jobs: int) -> Size:
    """Make a class of ``number`` submissions and grade it."""
    exercises = [find_exercise(slug, load_exercises()) for slug in slugs]
    with tempfile.TemporaryDirectory() as folder:
        write_class(Path(folder, "class"), exercises, number)
        words = [sys.executable, "-m", "grader", "batch", f"{folder}/class", "--out", f"{folder}/out"]
        started = time.perf_counter()
        process = subprocess.Popen([*words, "--jobs", str(jobs), "--seed", "7"], stdout=subprocess.DEVNULL)
        processor, memory = watch(process)
        assert process.returncode in (0, 1), "the class was not graded"
        return Size(number, time.perf_counter() - started, processor, memory)


def watch(process: subprocess.Popen[bytes]) -> tuple[float, float]:
    """Return the processor time and the most memory of a tree of processes, seen until it ends."""
    root = psutil.Process(process.pid)
    processor = memory = 0.0
    while process.poll() is None:
        now, held = 0.0, 0.0
        with suppress(psutil.NoSuchProcess):
            for one in [root, *root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                    now += sum(one.cpu_times()[:4])  # its own, and that of children which have ended
                    held += one.memory_full_info().pss / 1e6
        processor, memory = max(processor, now), max(memory, held)
        time.sleep(EVERY_SECONDS)
    return processor, memory


def show(sizes: Sequence[Size], jobs: int) -> None:
    """Print the table; growth is held against the first row."""
    table = Table(title=f"grade batch, {jobs} at a time, load {os.getloadavg()[0]:.1f}")
    for column in "files", "clock s", "per s, core", "CPU s each", "x nbgrader", "growth", "MB", "growth":
        table.add_column(column, justify="right")
    for size in sizes:
        first, each = sizes[0], size.processor / size.number
        table.add_row(
            str(size.number),
            f"{size.seconds:.1f}",
            f"{size.number / size.seconds / jobs:.1f}",
            f"{each:.3f}",
            f"{NBGRADER / each:.0f}",
            f"{each / (first.processor / first.number):.2f}",
            f"{size.memory:.0f}",
            f"{size.memory / first.memory:.2f}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
