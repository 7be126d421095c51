"""Find the code in a notebook: which cells count, and what in them is IPython's rather than Python."""

from __future__ import annotations

import ast
import json
import re
import warnings
from dataclasses import dataclass
from typing import Any

from grader.errors import SubmissionError

ROLES = ("answer", "helper")  # what a cell of a notebook made by the kit says of itself if it counts

_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MAGIC = re.compile(r"\s*(?:[%!?]|[\w.]+\s*=\s*[%!]|[%\w.*]+\?{1,2}\s*$)")
_DOTTED = re.compile(r"(?:\.[\s\\]*+\w++[\s\\]*+){200}")  # takes Python's parser quadratic time
_WRAPPERS = re.compile(r"\s*%%(?:time|timeit|capture|prun)\b")  # their cell is Python all the same
_EFFORT = 4 << 20  # characters to be parsed at most while looking for the magics of one cell
_AGAIN = "Save the notebook again in Jupyter and run the same command again."


@dataclass(frozen=True)
class Cell:
    """A code cell.

    Attributes:
        number: Its place among all cells, from 1.
        source: Its code as Python; as many lines as in the notebook.
    """

    number: int
    source: str


def read_cells(data: bytes, limit: int) -> tuple[Cell, ...]:
    """Return the code cells that count, in order; of all code cells at most ``limit`` characters.

    In a notebook that the kit made (``{"grade": {"slug": …}}`` in its metadata), a cell counts in full if its own
    ``grade.role`` is one of ``ROLES``. Of a cell that the learner added there, the definitions count, so that a helper
    is not lost, and experiments are not run. In any other notebook every code cell counts.

    Raises:
        SubmissionError: If ``data`` is not a notebook, or holds more code than that.
    """
    notebook = _load(data)
    made = isinstance(_grade(notebook).get("slug"), str)
    cells: list[Cell] = []
    for number, cell in enumerate(notebook["cells"], 1):
        if not isinstance(cell, dict):
            raise SubmissionError(f"Cell {number} of the notebook is not a cell. {_AGAIN}")
        if cell.get("cell_type") != "code":
            continue
        source = _text(cell, number)
        limit -= len(source)
        if limit < 0:
            raise SubmissionError("The notebook holds too much code. Remove the cells that are not needed.")
        role = _grade(cell).get("role")
        if made and role is not None and role not in ROLES:
            continue
        source = blank_magics(source)
        cells.append(Cell(number, _definitions(source) if made and role is None else source))
    if not cells:
        raise SubmissionError("The notebook holds no code cell. Write your answer in one and save the notebook.")
    return tuple(cells)


def blank_magics(source: str) -> str:
    """Replace what only IPython understands by ``pass``, line by line.

    A line is touched only if Python itself stumbles over it, so a string or a long expression whose next line begins
    with ``%`` stays as it is.
    """
    lines = source.split("\n")
    first = next((row for row, line in enumerate(lines) if line.strip()), 0)
    if lines and lines[first].lstrip().startswith("%%"):
        if not _WRAPPERS.match(lines[first]):
            return "\n" * (len(lines) - 1)  # a cell of shell, HTML …
        lines[first] = ""
    if not any(_MAGIC.match(line) for line in lines):
        return "\n".join(lines)
    for _ in range(min(200, 1 + _EFFORT // (len(source) + 1))):
        row = _stumbles(lines)
        if row is None or not _MAGIC.match(lines[row]):
            return "\n".join(lines)
        _blank(lines, row)
    for row, line in enumerate(lines):  # so many that looking at each would take too long
        if _MAGIC.match(line):
            _blank(lines, row)
    return "\n".join(lines)


def _blank(lines: list[str], row: int) -> None:
    indent = lines[row][: -len(lines[row].lstrip())]
    while lines[row].endswith("\\") and row + 1 < len(lines):  # a shell command over several lines
        lines[row], row = "", row + 1
    lines[row] = f"{indent}pass"


def _stumbles(lines: list[str]) -> int | None:
    """Return the row of the first syntax error."""
    try:
        parse("\n".join(lines))
    except SyntaxError as error:
        return min(max((error.lineno or 1) - 1, 0), len(lines) - 1)
    except (ValueError, RecursionError, MemoryError):
        return None
    return None


def parse(source: str) -> ast.Module:
    """Parse without warnings.

    Raises:
        RecursionError: If it is nested too deeply, or has a dotted name so long that the parser would take minutes.
        SyntaxError: If it is not valid Python.
    """
    if _DOTTED.search(source):
        raise RecursionError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(source)


def _definitions(source: str) -> str:
    """Keep imports, functions, classes and plain constants; blank the other lines. Nothing, if it is no Python."""
    lines = source.split("\n")
    kept: set[int] = set()
    dropped: set[int] = set()
    try:
        for node in parse(source).body:
            decorators = [decorator.lineno for decorator in getattr(node, "decorator_list", ())]
            rows = range(min([node.lineno, *decorators]), (node.end_lineno or node.lineno) + 1)
            constant = isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Constant)
            (kept if constant or isinstance(node, _DEFINITIONS) else dropped).update(rows)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return "\n" * (len(lines) - 1)
    kept -= dropped  # several statements in one line
    return "\n".join(line if row in kept else "" for row, line in enumerate(lines, 1))


def _load(data: bytes) -> dict[str, Any]:
    try:
        notebook = json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise SubmissionError(f"The notebook is not UTF-8 text. {_AGAIN}") from None
    except (ValueError, RecursionError, MemoryError):
        raise SubmissionError(f"The notebook is damaged: it is not valid JSON. {_AGAIN}") from None
    if isinstance(notebook, dict) and "worksheets" in notebook:
        raise SubmissionError(f"The notebook is in an old format (nbformat 3). {_AGAIN}")
    if not isinstance(notebook, dict) or not isinstance(notebook.get("cells"), list):
        raise SubmissionError(f"The file is not a notebook: it has no list of cells. {_AGAIN}")
    return notebook


def _grade(holder: dict[str, Any]) -> dict[str, Any]:
    """Return what the kit has noted in the metadata of a notebook or a cell."""
    metadata = holder.get("metadata")
    note = metadata.get("grade") if isinstance(metadata, dict) else None
    return note if isinstance(note, dict) else {}


def _text(cell: dict[str, Any], number: int) -> str:
    source = cell.get("source", "")
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(source, str):
        raise SubmissionError(f"Cell {number} of the notebook has no text. {_AGAIN}")
    return source.replace("\r\n", "\n").replace("\r", "\n")
