"""How far a class is: a bar on a terminal, a line now and then in a pipe."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn
from rich.text import Text

from grader.report.layout import coded, make_console, print_text
from grader.report.text import one_line, plain

EVERY_SECONDS = 30.0  # between two lines in a pipe


class ClassProgress:
    """Counts results and shows how many there are, how fast they come and how long the rest will take.

    A context manager; writes to standard error.
    """

    def __init__(self) -> None:
        self._console = make_console(sys.stderr)
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._total = self._done = 0
        self._started = self._told = time.monotonic()

    def __enter__(self) -> ClassProgress:
        if self._console.is_terminal:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(None),
                MofNCompleteColumn(),
                TextColumn("{task.fields[pace]}"),
            )
            self._bar = Progress(*columns, console=self._console, transient=True, refresh_per_second=4)
            self._task = self._bar.add_task("Starting", total=None, pace="")
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, text: str, command: str = "") -> None:
        """Print a sentence, above the bar where there is one, and below it a command in one piece, to be copied."""
        print_text(self._console, coded(plain(text)))
        if command:
            self._console.print(Text(f"  {one_line(command)}", "cyan"), soft_wrap=True)

    def begin(self, total: int) -> None:
        """Begin to count."""
        self._total = total
        self._started = self._told = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, description="Grading", total=total)
        elif total:
            self._console.print(f"Grading {total} files.")

    def step(self) -> None:
        """Count one."""
        self._done += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=self._done, pace=self._pace())
        elif time.monotonic() > self._told + EVERY_SECONDS or self._done == self._total:
            self._told = time.monotonic()
            self._console.print(f"{self._done} of {self._total} graded, {self._pace()}.", soft_wrap=True)

    def _pace(self) -> str:
        """Say how fast it goes, and how long it will take."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        speed = self._done / seconds
        left = (self._total - self._done) / speed
        return f"{speed:.1f} per second" + (f", {_duration(left)} left" if left else "")


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {rest:02} s" if minutes else f"{rest} s"
