"""Lines, rows and marks: how the kit lays out text on a console."""

from __future__ import annotations

from typing import IO

from rich.console import Console
from rich.text import Text

from grader.report.text import plain

WIDEST, NARROWEST = 100, 10  # columns: longer lines are hard to read, shorter ones hold no word

# Sign, word where the encoding lacks the sign, and style.
MARKS = {"good": ("✓", "ok", "green"), "bad": ("✗", "FAIL", "red"), "none": ("–", "--", "yellow")}


def make_console(file: IO[str], *, colour: bool | None = None) -> Console:
    """Return a console that writes to ``file``: colours only on a terminal without ``NO_COLOR``, lines of one width.

    Args:
        file: Where to write.
        colour: False for no escape sequences whatever ``file`` is; None to look.
    """
    forced = False if colour is False else None
    console = Console(file=file, highlight=False, markup=False, emoji=False, force_terminal=forced)
    console.width = min(console.width, WIDEST)
    return console


def mark(console: Console, kind: str) -> Text:
    """Return a mark of ``MARKS`` that ``console`` can show."""
    sign, word, style = MARKS[kind]
    return Text(sign if console.encoding.lower().startswith("utf") else word, style)


def capped(text: str, lines: int) -> str:
    """Return the first ``lines`` lines of ``plain(text)``, and how many there are more."""
    shown = plain(text).strip("\n").split("\n")
    more = len(shown) - lines
    return "\n".join(shown if more <= 0 else [*shown[:lines], f"({more} more lines)"])


def coded(text: str, style: str = "") -> Text:
    """Return ``text`` with what stands in backticks in the colour of code."""
    shown = Text(text, style)
    shown.highlight_regex(r"`[^`\n]+`", "cyan")
    return shown


def print_text(console: Console, text: Text, indent: int = 0) -> None:
    """Print ``text`` wrapped and indented, without spaces at the ends of its lines."""
    for line in text.wrap(console, max(console.width - indent, NARROWEST)):
        line.rstrip()
        console.print(Text(" " * indent).append_text(line), soft_wrap=True)


def print_row(console: Console, kind: str, title: Text, score: str = "") -> None:
    """Print ``mark title … score``: the title wrapped beside the mark, the score at the right edge.

    Args:
        console: Where to print.
        kind: A key of ``MARKS``.
        title: What the row is about.
        score: Short enough to stand on one line.
    """
    sign = mark(console, kind)
    indent = 2 + sign.cell_len + 1
    lines = title.wrap(console, max(console.width - indent - len(score) - 2, NARROWEST))
    for i, line in enumerate(lines):
        line.rstrip()
        if i > 0:
            console.print(Text(" " * indent).append_text(line), soft_wrap=True)
            continue
        gap = console.width - indent - line.cell_len - len(score)
        row = Text("  ").append_text(sign).append(" ").append_text(line)
        console.print(row.append(" " * gap + score, "dim") if score else row, soft_wrap=True)
