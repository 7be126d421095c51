"""Turn a solution into the stub that a learner gets, and tell whether a stub is still untouched."""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterator

from grader.errors import AnswerKeyError

BEGIN = "### BEGIN SOLUTION"
END = "### END SOLUTION"
GAP = "raise NotImplementedError"

_FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


def make_stub(solution_source: str) -> str:
    """Replace every region between the solution's markers by ``raise NotImplementedError``.

    A region stands in the body of a function or method and holds whole statements of one block. All else stays:
    imports, signatures, docstrings, and code before or after a region.

    Raises:
        AnswerKeyError: If a region is missing, empty, nested, cut through a statement or outside of a function, or if
            what is left does not compile.
    """
    tree = _parse(solution_source, "The solution")
    lines = solution_source.splitlines(keepends=True)
    for first, last in reversed(list(_regions(solution_source))):
        _check_region(tree, first, last, lines[first - 1])
        indent = lines[first - 1][: -len(lines[first - 1].lstrip())]
        lines[first - 1 : last] = [f"{indent}{GAP}\n"]
    stub = "".join(lines)
    _parse(stub, "What is left without the regions")
    return stub


def normalise(source: str) -> str:
    """Return what ``source`` does as text, without docstrings, comments and formatting.

    Raises:
        SyntaxError: If ``source`` is not valid Python.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, *_FUNCTION))
            and ast.get_docstring(node, clean=False) is not None
        ):
            del node.body[0]
    return ast.dump(tree)


def is_untouched(source: str, stub: str) -> bool:
    """Return whether ``source`` differs from ``stub`` by nothing but comments, docstrings and formatting."""
    if source == stub:
        return True
    try:
        return normalise(source) == normalise(stub)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False  # a file that does not even parse has been worked on


def _parse(source: str, what: str) -> ast.Module:
    try:
        compile(source, "<solution>", "exec", dont_inherit=True)
        return ast.parse(source)
    except (SyntaxError, ValueError) as error:
        raise AnswerKeyError(f"{what} is not valid Python: {error}. Fix that line of solution.py.") from None


def _regions(source: str) -> Iterator[tuple[int, int]]:
    """Yield the lines (from 1) of each pair of markers; a marker is a comment, so text that shows one is left alone."""
    begin: int | None = None
    found = False
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type != tokenize.COMMENT or token.string.rstrip() not in (BEGIN, END):
            continue
        line = token.start[0]
        if token.line[: token.start[1]].strip():
            raise AnswerKeyError(
                f"Line {line} of solution.py: a marker shares its line with code. Give it its own line."
            )
        if (token.string.rstrip() == BEGIN) != (begin is None):
            was = "is inside another region" if begin is not None else "has no `### BEGIN SOLUTION` before it"
            raise AnswerKeyError(f"Line {line} of solution.py: this marker {was}. Pair the markers, without nesting.")
        if begin is not None:
            yield begin, line
        begin = line if begin is None else None
        found = True
    if begin is not None:
        raise AnswerKeyError(f"Line {begin} of solution.py: this region has no end. Add `{END}`.")
    if not found:
        raise AnswerKeyError(
            f"solution.py has no region for the learner to write. Put `{BEGIN}` and `{END}` around one."
        )


def _check_region(tree: ast.Module, first: int, last: int, marker: str) -> None:
    """Check that the region holds whole statements of one block inside a function."""
    held, in_function = _find_block(tree.body, first, last, False)
    if not held:
        raise AnswerKeyError(f"Line {first} of solution.py: this region is empty. Put what is to be written inside.")
    if not in_function:
        raise AnswerKeyError(
            f"Line {first} of solution.py: a region may stand only in the body of a function, "
            "so that the learner keeps every signature. Move the markers inside."
        )
    if (held[-1].end_lineno or 0) > last or held[0].col_offset != len(marker) - len(marker.lstrip()):
        raise _cut(first)


def _find_block(block: list[ast.stmt], first: int, last: int, in_function: bool) -> tuple[list[ast.stmt], bool]:
    """Return the statements between the markers, and whether they belong to a function's body."""
    touched = [node for node in block if first_line(node) < last and (node.end_lineno or 0) > first]
    if not touched or first_line(touched[0]) > first:
        return touched, in_function
    outer = touched[0]  # begins above the region, so the region should lie inside it
    blocks = list(_blocks(outer))
    inner = [
        body for body in blocks if any(first_line(node) < last and (node.end_lineno or 0) > first for node in body)
    ]
    if len(touched) > 1 or not blocks or len(inner) > 1:
        raise _cut(first)
    if not inner:
        return [], in_function
    return _find_block(inner[0], first, last, _in_function(outer, in_function))


def _in_function(outer: ast.stmt, before: bool) -> bool:
    return isinstance(outer, _FUNCTION) or (before and not isinstance(outer, ast.ClassDef))


def _blocks(node: ast.stmt) -> Iterator[list[ast.stmt]]:
    """Yield the blocks of a compound statement: its body, its ``else``, its handlers and cases."""
    for part in ("body", "orelse", "finalbody"):
        if isinstance(block := getattr(node, part, None), list) and block:
            yield block
    for arm in (*getattr(node, "handlers", ()), *getattr(node, "cases", ())):
        yield arm.body


def first_line(node: ast.stmt) -> int:
    """Return the first line of a statement, decorators included."""
    if isinstance(node, (ast.ClassDef, *_FUNCTION)) and node.decorator_list:
        return min(decorator.lineno for decorator in node.decorator_list)
    return node.lineno


def _cut(first: int) -> AnswerKeyError:
    return AnswerKeyError(
        f"Line {first} of solution.py: this region cuts through a block. Put whole statements of one block between the "
        "markers, and the markers at their indentation."
    )
