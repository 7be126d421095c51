"""Read a learner's file or notebook as text, with limits: nothing in it is trusted and nothing is run."""

from __future__ import annotations

import ast
import codecs
import io
import os
import re
import stat
import tokenize
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from grader.errors import SubmissionError, UsageError
from grader.model import Submission
from grader.notebook import Cell, parse, read_cells
from grader.onefile import as_in_a_file, head_of

MAX_SOURCE = 1 << 20  # bytes; the longest honest answer is a hundredth of it
MAX_NOTEBOOK = 16 << 20  # bytes; pictures in the output of cells take most of them
MAX_DEPTH = 200  # levels of the syntax tree
MAX_SHOWN = 120  # characters of a line that a message shows

_ENCODINGS = ("utf-8", "ascii", "iso8859-1", "iso8859-15", "cp1252")  # names as `codecs.lookup` gives them
_COPY = re.compile(r"(.+?) ?\(\d{1,3}\)")
_AGAIN = "Fix it and run the same command again."


def read_submission(path: Path, slug: str) -> Submission:
    """Read a ``.py`` file or a notebook as the answer to ``slug``.

    A notebook's code cells are joined, and what only IPython understands is blanked.

    Raises:
        UsageError: If there is no such file, or it is neither a Python file nor a notebook.
        SubmissionError: If it cannot be read as Python: binary, too large, a link or a device, a syntax error …
    """
    notebook = is_notebook(path)
    data = read_bytes(path, MAX_NOTEBOOK if notebook else MAX_SOURCE)
    if not notebook and path.suffix.lower() != ".py":
        raise UsageError(
            f"{_shown(path)} is neither a Python file nor a notebook. Give a file that ends in .py or .ipynb."
        )
    return parse_submission(data, _shown(path), slug, notebook=notebook)


def parse_submission(data: bytes, file: str, slug: str, *, notebook: bool) -> Submission:
    """Make a submission of what a file holds.

    Args:
        data: Its bytes.
        file: The name to show.
        slug: The exercise that it answers.
        notebook: Whether it is a notebook, not a Python file.

    Raises:
        SubmissionError: If it cannot be read as Python.
    """
    if notebook:
        return join_cells(read_cells(data, MAX_SOURCE), file, slug)
    source = _decode(data)
    check_source(source)
    return Submission(source=source, file=file, slug=slug)


def is_notebook(path: Path) -> bool:
    """Tell a notebook from other files by its name."""
    return path.suffix.lower() == ".ipynb"


def guess_slug(path: Path, slugs: Iterable[str]) -> str | None:
    """Return the slug that the file is named after: ``rotary.py``, or a browser's copy ``rotary (1).py``."""
    copy = _COPY.fullmatch(path.stem)
    stem = copy[1] if copy else path.stem
    return stem if stem in set(slugs) else None


def read_bytes(path: Path, limit: int, shown: str = "") -> bytes:
    """Return a regular file's content, never waiting and never reading more than ``limit`` bytes.

    Args:
        path: The file.
        limit: Bytes that it may have.
        shown: What an error calls it; by default its path.

    Raises:
        UsageError: If there is no such file, or it is a folder.
        SubmissionError: If it is larger, or anything but a regular file. A link could lead to an answer key.
    """
    shown = shown or _shown(path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    try:
        mode = path.lstat().st_mode  # before opening, since opening a device can do things
        if stat.S_ISDIR(mode):
            raise UsageError(f"{shown} is a folder. Give a file in it.")
        if not stat.S_ISREG(mode):
            what = "a link" if stat.S_ISLNK(mode) else "not a plain file"
            raise SubmissionError(f"{shown} is {what}, and only plain files are read. Give the file itself.")
        with os.fdopen(os.open(path, flags | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # swapped in between
                raise SubmissionError(f"{shown} is not a plain file, and only those are read. Give the file itself.")
            data = file.read(limit + 1)
    except (FileNotFoundError, NotADirectoryError, ValueError):  # a ValueError is a NUL in the name
        raise UsageError(f"There is no file {shown}. Check the name, or run `grade init` to get the stubs.") from None
    except OSError as error:
        raise SubmissionError(f"{shown} cannot be read: {error.strerror}. Check its name and permissions.") from None
    if len(data) > limit:
        raise SubmissionError(f"{shown} is larger than {limit >> 20} MiB. Remove what is not code.")
    return data


def check_source(source: str, lines: Sequence[str] = ()) -> None:
    """Check that ``source`` is Python which can be compiled, and that nobody chokes on it later.

    Args:
        source: Python source.
        lines: Where a person finds each line, if it was joined from cells.

    Raises:
        SubmissionError: If it is not; with the line.
    """
    if len(source) > MAX_SOURCE:
        raise SubmissionError(f"The code is longer than {MAX_SOURCE >> 20} MiB. Remove what is not needed.")
    if "\0" in source:
        raise SubmissionError(f"The code holds NUL characters, so it is no Python text. {_AGAIN}")
    try:
        source.encode()
        _check_depth(parse(source), lines)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compile(source, "<submission>", "exec", dont_inherit=True)  # finds a `return` outside of a function, too
    except UnicodeEncodeError:
        raise SubmissionError(f"The code holds half of a character (a lone surrogate). {_AGAIN}") from None
    except SyntaxError as error:
        raise _bad_syntax(error, source, lines) from None
    except (RecursionError, MemoryError):
        raise _too_deep(None, lines) from None
    except (ValueError, OverflowError) as error:
        raise SubmissionError(f"The code is not valid Python: {_clean(str(error))}. {_AGAIN}") from None


def join_cells(cells: Sequence[Cell], file: str, slug: str) -> Submission:
    """Join the cells of a notebook, each of which should be valid by itself.

    Raises:
        SubmissionError: If one of them is no Python, or all together are too long.
    """
    source: list[str] = []
    lines: list[str] = []
    if sum(len(cell.source) for cell in cells) > MAX_SOURCE:
        raise SubmissionError(
            f"The notebook holds more than {MAX_SOURCE >> 20} MiB of code. Remove what is not needed."
        )
    futures: list[str] = []
    for cell in cells:
        text, found = as_in_a_file(_newlines(cell.source))
        places = [f"cell {cell.number}, line {row}" for row in range(1, text.count("\n") + 2)]
        if found is None:
            check_source(text, places)  # says why; all that is more than grammar shows when they are joined
        futures += found or []
        source += text.split("\n")
        lines += places
    if head := head_of(futures, source):
        source.insert(0, head)
        lines.insert(0, lines[0])
    check_source("\n".join(source), lines)
    return Submission(source="\n".join(source), file=file, slug=slug, lines=tuple(lines))


def _decode(data: bytes) -> str:
    """Return the text of a Python file, by its byte order mark or its encoding line (PEP 263), UTF-8 otherwise."""
    save = "Save it as UTF-8 and run the same command again."
    if b"\0" in data:
        raise SubmissionError(f"The file holds NUL bytes, so it is no Python text. {save}")
    try:
        name = tokenize.detect_encoding(io.BytesIO(data).readline)[0]
        name = "utf-8" if name == "utf-8-sig" else codecs.lookup(name).name
    except (SyntaxError, LookupError, ValueError):
        raise SubmissionError(f"The file's encoding is not known. {save}") from None
    if name not in _ENCODINGS:
        raise SubmissionError(f"The file is encoded as {name}. {save}")
    try:
        return _newlines(data.removeprefix(codecs.BOM_UTF8).decode(name))
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise SubmissionError(f"Line {line} of the file is not {name.upper()} text. {save}", line) from None


def _newlines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _check_depth(tree: ast.AST, lines: Sequence[str]) -> None:
    """Check level by level, without recursion, that no walk over the tree will run out of stack."""
    level: list[ast.AST] = [tree]
    line = 1
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return
        line = next((node.lineno for node in level if isinstance(node, (ast.expr, ast.stmt))), line)
    raise _too_deep(line, lines)


def _too_deep(line: int | None, lines: Sequence[str]) -> SubmissionError:
    where = f"{_place(line, lines)} is" if line else "The code is"
    return SubmissionError(f"{where} nested too deeply. Split it into smaller steps.", line)


def _bad_syntax(error: SyntaxError, source: str, lines: Sequence[str]) -> SubmissionError:
    rows = source.split("\n")
    line = min(max(error.lineno or 1, 1), len(rows))
    text = _clean(rows[line - 1].strip())
    shown = f"\n    {text}\n" if text else " "
    reason = _clean(error.msg).rstrip(".")
    return SubmissionError(f"{_place(line, lines)} is not valid Python: {reason}.{shown}{_AGAIN}", line)


def _place(line: int, lines: Sequence[str]) -> str:
    return lines[line - 1].capitalize() if line <= len(lines) else f"Line {line}"


def _shown(path: Path) -> str:
    return _clean(path.as_posix())


def _clean(text: str) -> str:
    """Return text fit for a terminal: no control characters, and not too long."""
    text = "".join(char if char.isprintable() else " " for char in text[: MAX_SHOWN + 1])
    return text if len(text) <= MAX_SHOWN else text[: MAX_SHOWN - 1] + "…"
