"""Lets the cells of a notebook be one file: what a kernel allows there, and a file does not, is taken out or moved."""

from __future__ import annotations
import __future__

import ast
from collections.abc import Iterable

from grader.notebook import keep_statements, parse

_NESTED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)
_FUTURES = frozenset(__future__.all_feature_names) - {"barry_as_FLUFL"}
_WAITING = (ast.Await, ast.AsyncFor, ast.AsyncWith)


def as_in_a_file(source: str) -> tuple[str, list[str] | None]:
    """Return a cell's source with as many lines, and the features of ``__future__`` that it asks for.

    ``from __future__ …`` must come first in a file, and ``await`` cannot stand outside of functions. Of a cell that is
    no Python nothing is known, so None comes for the features.
    """
    try:
        body = parse(source).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # to be said by whoever checks it
        return source, None
    futures = [node for node in body if isinstance(node, ast.ImportFrom) and _is_future(node)]
    blanked = {*futures, *(node for node in body if _waits(node))}
    if blanked:
        source = keep_statements(source, body, {node for node in body if node not in blanked})
    return source, [alias.name for node in futures for alias in node.names]


def head_of(futures: Iterable[str], sources: Iterable[str]) -> str:
    """Return the line that comes before the cells: what they ask of ``__future__``, and a kernel's ``display``."""
    parts = [f"from __future__ import {', '.join(dict.fromkeys(futures))}"] if futures else []
    parts += ["display = print"] if any("display(" in source for source in sources) else []
    return "; ".join(parts)


def _is_future(node: ast.ImportFrom) -> bool:
    return node.module == "__future__" and not node.level and {alias.name for alias in node.names} <= _FUTURES


def _waits(statement: ast.stmt) -> bool:
    """Say whether it holds an ``await`` that belongs to no function in it."""
    nodes: list[ast.AST] = [] if isinstance(statement, _NESTED) else [statement]
    while nodes:
        node = nodes.pop()
        if isinstance(node, _WAITING) or (isinstance(node, ast.comprehension) and node.is_async):
            return True
        nodes += [child for child in ast.iter_child_nodes(node) if not isinstance(child, _NESTED)]
    return False
