"""Text that came from a learner, made fit to be shown to a person."""

from __future__ import annotations

import re
import unicodedata

# Whole escape sequences first, so that coloured output does not leave "[31m" behind: CSI, then OSC with its two ends.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")
# Controls, format characters (bidirectional overrides among them), lone surrogates, Unicode's own line ends.
_UNFIT = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def plain(text: str) -> str:
    """Return ``text`` without anything that could steer a terminal, its line ends as ``\\n`` and its tabs as spaces."""
    text = _ESCAPES.sub("", text).replace("\r\n", "\n").replace("\r", "\n").expandtabs(4)
    return "".join(c for c in text if c == "\n" or unicodedata.category(c) not in _UNFIT)


def one_line(text: str) -> str:
    """Return ``plain(text)`` on a single line: the name of a file or of a function."""
    return " ".join(plain(text).split())


def number(points: float) -> str:
    """Return points as people write them: ``9`` and ``0.5``."""
    return f"{points:g}"
