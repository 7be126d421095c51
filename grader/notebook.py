"""Find the code in a notebook: which cells count, and what in them is IPython's rather than Python."""

from __future__ import annotations

import ast
import json
import re
import symtable
import warnings
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any

from grader.errors import SubmissionError
from grader.stub import first_line

ROLES = ("answer", "helper")  # what a cell of a notebook made by the kit says of itself if it counts

_DEFINITIONS = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MAGIC = re.compile(r"\s*(?:[%!?]|[\w.]+\s*=\s*[%!]|[%\w.*]+\?{1,2}\s*$)")
_DOTTED = re.compile(r"(?:\.[\s\\]*+\w++[\s\\]*+){200}")  # takes Python's parser quadratic time
_WRAPPERS = re.compile(r"\s*%%(?:time|timeit|capture|prun)\b")  # their cell is Python all the same
_KIT = re.compile(r"^from grader\.classroom\.cell import ", re.MULTILINE)
_MAX_ADDED = 500  # assignments in cells that a learner added; nobody's answer needs so many
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
    ``grade.role`` is one of ``ROLES``. Of a cell that the learner added there, what the answer needs counts, so that a
    helper is not lost, and experiments are not run. In any other notebook every code cell counts.

    Raises:
        SubmissionError: If ``data`` is not a notebook, or holds more code than that.
    """
    notebook = load_notebook(data)
    made = isinstance(_grade(notebook).get("slug"), str)
    whole: dict[int, str] = {}
    added: dict[int, str] = {}
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
        if (made and role is not None and role not in ROLES) or runs_checks(source):
            continue
        (added if made and role is None else whole)[number] = blank_magics(source)
    if not whole and not added:
        raise SubmissionError("The notebook holds no code cell. Write your answer in one and save the notebook.")
    sources = whole | count_added(added, whole.values())
    return tuple(Cell(number, sources[number]) for number in sorted(sources))


def runs_checks(source: str) -> bool:
    """Say whether a cell calls the kit, which is no part of an answer: the checks would run among themselves."""
    return _KIT.search(source) is not None


def slug_of(data: bytes) -> str | None:
    """Return the exercise that the kit made the notebook for, if it did.

    Raises:
        SubmissionError: If ``data`` is not a notebook.
    """
    slug = _grade(load_notebook(data)).get("slug")
    return slug if isinstance(slug, str) else None


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


def count_added(added: Mapping[int, str], whole: Iterable[str]) -> dict[int, str]:
    """Blank, in the cells that a learner added, what the answer does without.

    What stays is imports, functions, classes, plain constants, and assignments to names that the code which counts
    reads as globals or defines (``Model.forward = forward``). Nothing stays of a cell that is no Python.

    Args:
        added: Number of a cell → its source.
        whole: Sources of the cells that count in full.
    """
    bodies = {number: body for number, source in added.items() if (body := _body(source)) is not None}
    nodes = [node for body in bodies.values() for node in body]
    new = [node for node in nodes if isinstance(node, _DEFINITIONS) or _is_constant(node)]
    kept = set(new)
    wanted = set().union(*map(global_names, whole))
    rest = [(node, names) for node in nodes if node not in kept and (names := _targets(node))][:_MAX_ADDED]
    while new:
        wanted |= set().union(*(global_names(text_of(node)) for node in new))
        new = [node for node, names in rest if node not in kept and names & wanted]
        kept |= set(new)
    return {number: keep_statements(source, bodies.get(number, []), kept) for number, source in added.items()}


def _body(source: str) -> list[ast.stmt] | None:
    try:
        return parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def text_of(node: ast.stmt) -> str:
    """Return a statement as Python again; nothing if it is nested too deeply."""
    try:
        return ast.unparse(node)
    except RecursionError:
        return ""


def _is_constant(node: ast.stmt) -> bool:
    return isinstance(node, (ast.Assign, ast.AnnAssign)) and isinstance(node.value, ast.Constant)


def _targets(node: ast.stmt) -> set[str]:
    """Return the names that an assignment changes: ``a`` for ``a, b.c[0] = …`` and ``b`` as well."""
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    if not isinstance(node, (ast.Assign, ast.AnnAssign, ast.AugAssign)):
        return set()
    found = set()
    for target in targets:
        for part in target.elts if isinstance(target, (ast.Tuple, ast.List)) else [target]:
            root = part
            while isinstance(root, (ast.Attribute, ast.Subscript, ast.Starred)):
                root = root.value
            found |= {root.id} if isinstance(root, ast.Name) else set()
    return found


def global_names(source: str) -> set[str]:
    """Return the global names that some code reads or sets, at its top or inside its functions."""
    try:
        tables = [symtable.symtable(source, "<cell>", "exec")]
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()
    found: set[str] = set()
    while tables:
        table = tables.pop()
        top = table.get_type() == "module"
        found |= {symbol.get_name() for symbol in table.get_symbols() if top or symbol.is_global()}
        tables += table.get_children()
    return found


def keep_statements(source: str, body: Sequence[ast.stmt], kept: Set[ast.stmt]) -> str:
    """Blank the lines of all other statements in ``body``, and what stands between statements."""
    lines = source.split("\n")
    rows: dict[bool, set[int]] = {True: set(), False: set()}
    for node in body:
        rows[node in kept].update(range(first_line(node), (node.end_lineno or node.lineno) + 1))
    counted = rows[True] - rows[False]  # several statements in one line
    return "\n".join(line if row in counted else "" for row, line in enumerate(lines, 1))


def load_notebook(data: bytes) -> dict[str, Any]:
    """Return a notebook's JSON, of which nothing but the list of cells is certain.

    Raises:
        SubmissionError: If it is damaged, or of an older format.
    """
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
