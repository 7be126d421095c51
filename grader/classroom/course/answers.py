"""The code of a handed-in notebook that counts, with a kernel's patience for what stands beside it.

In a kernel a cell that fails costs what comes after it in that cell, not the definitions in other cells. Here all cells
make one file, so what would keep that file from being loaded is taken out of it, and only then.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from nbformat import NotebookNode

from grader.classroom.course.gradebook import SourceCell
from grader.errors import SubmissionError
from grader.notebook import Cell, blank_magics, count_added, global_names, keep_statements, parse, runs_checks, text_of
from grader.onefile import as_in_a_file, head_of
from grader.stub import first_line
from grader.submission import MAX_SOURCE, check_source

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_MAX_SHOWN = 3  # sentences about cells that were left out


@dataclass(frozen=True)
class Answers:
    """The code that counts.

    Attributes:
        cells: What makes the file that is judged, in order.
        left_out: Why cells do not count that a student may think do; empty if all is well.
    """

    cells: tuple[Cell, ...]
    left_out: str = ""


def read_answers(nb: NotebookNode, known: Mapping[str, SourceCell], names: Sequence[str]) -> Answers:
    """Return what was handed out locked, then the answer cells and what they need of cells that a student added.

    Raises:
        SubmissionError: If the code is too long, or a cell is no Python and no other one defines one of ``names``.
    """
    trouble: list[str] = []
    futures: list[str] = []
    cells: list[Cell] = []
    for cell in _counting(nb, known, trouble):
        source, found = as_in_a_file(_main_counts(cell.source, names))
        try:
            check_source(source, [f"cell {cell.number}, line {row}" for row in range(1, source.count("\n") + 2)])
        except SubmissionError as error:
            trouble.append(str(error))
            continue
        futures += found or []
        cells.append(Cell(cell.number, source))
    if trouble and not define(cells, names):
        raise SubmissionError(_some(trouble))
    head = head_of(futures, (cell.source for cell in cells))
    return Answers((*([Cell(0, head)] if head else []), *cells), _some(trouble))


def define(cells: Sequence[Cell], names: Sequence[str]) -> bool:
    """Say whether cells hold at least one of the definitions that are asked for."""
    return any(_changed(node) & set(names) for cell in cells for node in parse(cell.source).body)


def only_needed(cells: Sequence[Cell], names: Sequence[str]) -> tuple[Cell, ...]:
    """Blank what the definitions of ``names`` do without: experiments, and what was imported for those."""
    bodies = {cell: parse(cell.source).body for cell in cells}
    nodes = [node for body in bodies.values() for node in body]
    variables = {name for node in nodes if not isinstance(node, _DEFINITIONS) for name in _changed(node)}
    variables -= {name for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom)) for name in _changed(node)}
    makers: defaultdict[str, list[ast.stmt]] = defaultdict(list)
    for node in nodes:
        for name in _changed(node) | (_called_on(node) & variables):
            makers[name].append(node)
    wanted = ["*", *names]
    seen, kept = set(wanted), set()
    while wanted:
        new = [node for node in makers[wanted.pop()] if node not in kept]
        kept.update(new)
        more = {name for node in new for name in global_names(text_of(node))} - seen
        seen |= more
        wanted += more
    return tuple(Cell(cell.number, keep_statements(cell.source, bodies[cell], kept)) for cell in cells)


def without_line(cells: Sequence[Cell], line: int | None) -> tuple[Cell, ...] | None:
    """Blank the statement that holds a line of all cells joined; None if there is none, or it was handed out."""
    for place, cell in enumerate(cells):
        if line is None:
            return None
        rows = cell.source.count("\n") + 1
        if line > rows:
            line -= rows
            continue
        body = parse(cell.source).body
        kept = {node for node in body if not first_line(node) <= line <= (node.end_lineno or 0)}
        if cell.number == 0 or len(kept) == len(body):
            return None
        rest = Cell(cell.number, keep_statements(cell.source, body, kept))
        return (*cells[:place], rest, *cells[place + 1 :])
    return None


def _counting(nb: NotebookNode, known: Mapping[str, SourceCell], trouble: list[str]) -> Iterator[Cell]:
    whole: dict[int, str] = {}
    added: dict[int, str] = {}
    room = {True: MAX_SOURCE, False: MAX_SOURCE}  # apart, so that a long experiment costs no answer
    for number, cell in enumerate(nb.cells, 1):
        source = known.get(cell.metadata.get("nbgrader", {}).get("grade_id"))
        if cell.cell_type != "code" or (source is None and runs_checks(cell.source)):
            continue
        if source is not None and not source.solution:
            continue
        room[source is None] -= len(cell.source)
        if room[source is None] < 0:
            trouble.append(f"Cell {number} is too long: the notebook holds more than {MAX_SOURCE >> 20} MiB of code.")
            room[source is None] += len(cell.source)
            continue
        (added if source is None else whole)[number] = blank_magics(cell.source)
    for source in known.values():
        if source.is_helper:
            yield Cell(0, source.source)
    counted = whole | count_added(added, [*whole.values()])
    for number in sorted(counted):
        yield Cell(number, counted[number])


def _main_counts(source: str, names: Sequence[str]) -> str:
    """Let answers that stand under ``if __name__ == "__main__":`` count, as they do in a kernel."""
    try:
        body = parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return source
    lines = source.split("\n")
    for node in body:
        if isinstance(node, ast.If) and _is_main(node.test) and _changed(node) & set(names):
            row, start, end = node.test.lineno - 1, node.test.col_offset, node.test.end_col_offset
            lines[row] = f"{lines[row][:start]}True{lines[row][end:]}"
    return "\n".join(lines)


def _is_main(test: ast.expr) -> bool:
    if not isinstance(test, ast.Compare) or not isinstance(test.ops[0], ast.Eq) or len(test.ops) > 1:
        return False
    sides = [
        side.id if isinstance(side, ast.Name) else getattr(side, "value", None)
        for side in (test.left, *test.comparators)
    ]
    return test.lineno == test.end_lineno and sides in (["__name__", "__main__"], ["__main__", "__name__"])


def _changed(statement: ast.stmt) -> set[str]:
    """Return the names that a statement at the top of a cell binds, or in whose attributes or items it writes."""
    if isinstance(statement, _DEFINITIONS):
        return {statement.name}
    found = set()
    for node in ast.walk(statement):
        if isinstance(node, _DEFINITIONS):
            found.add(node.name)
        elif isinstance(node, ast.alias):
            found.add(node.asname or node.name.partition(".")[0])
        elif isinstance(getattr(node, "ctx", None), (ast.Store, ast.Del)):
            found.add(_root(node))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("setattr", "delattr"):
            found |= {_root(node.args[0])} if node.args else set()
    return found - {""}


def _called_on(statement: ast.stmt) -> set[str]:
    """Return ``TABLE`` for ``TABLE.append(…)``, which may change it."""
    if isinstance(statement, _DEFINITIONS):
        return set()
    calls = [node.func for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return {_root(called) for called in calls if isinstance(called, ast.Attribute)} - {""}


def _root(node: ast.AST) -> str:
    while isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""


def _some(sentences: Sequence[str]) -> str:
    more = len(sentences) - _MAX_SHOWN
    return "\n".join([*sentences[:_MAX_SHOWN], *([f"So it is with {more} more cells."] if more > 0 else [])])
