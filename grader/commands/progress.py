"""One line on the terminal that says what is going on, gone when the work is done."""

from __future__ import annotations

import os
import shutil
import sys
from types import TracebackType


class Progress:
    """A line on standard error; nothing at all where that is no terminal.

    Plain carriage returns do for one line, and cost none of the time that a live display's thread takes from the judge.
    """

    def __init__(self) -> None:
        self._shows = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._width = 0  # of the line that stands there

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.clear()

    def say(self, text: str) -> None:
        """Put ``text`` in place of the line."""
        if not self._shows:
            return
        text = text[: shutil.get_terminal_size().columns - 1]
        sys.stderr.write("\r" + text.ljust(self._width))
        sys.stderr.flush()
        self._width = len(text)

    def on_check(self, slug: str, done: int, total: int) -> None:
        """Say how far the checks of one exercise are."""
        self.say(f"{slug}: check {min(done + 1, total)} of {total} …")

    def clear(self) -> None:
        """Take the line away, before something else is printed."""
        if self._width:
            sys.stderr.write("\r" + " " * self._width + "\r")
            sys.stderr.flush()
            self._width = 0
