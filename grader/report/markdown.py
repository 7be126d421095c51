"""Text in a page of Markdown."""

from __future__ import annotations

from grader.report.text import one_line

_SIGNS = str.maketrans({sign: f"\\{sign}" for sign in "\\`*_[]<>|#~&!$:@"})


def in_markdown(text: str) -> str:
    """Return ``text`` on one line, so that nothing in it is read as Markdown or HTML."""
    return one_line(text).translate(_SIGNS)
