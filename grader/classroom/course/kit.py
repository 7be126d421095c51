"""What goes beside an assignment's notebooks: the kit without answer keys, and the checks that students may see."""

from __future__ import annotations

import ast
import zipfile
from collections.abc import Iterator, Sequence
from io import BytesIO
from pathlib import Path

import grader
from grader.model import Exercise
from grader.stub import first_line

_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same kit makes the same file
_LEFT_OUT = ("solutions", "samples", "template", "__pycache__")  # answers, and what only authors need


def visible_suite(exercise: Exercise) -> str:
    """Return the suite with nothing in it but the visible checks and what they use."""
    source = (exercise.folder / f"test_{exercise.slug}.py").read_text("utf-8")
    lines = source.splitlines()
    body = [node for node in ast.parse(source).body if not _is_docstring(node)]
    wanted = {check.name for check in exercise.checks if check.visible}
    kept: list[ast.stmt] = []
    while more := [node for node in body if node not in kept and _names(node) & wanted]:
        kept += more
        wanted |= {name.id for node in more for name in ast.walk(node) if isinstance(name, ast.Name)}
    parts = ["\n".join(lines[first_line(node) - 1 : node.end_lineno]) for node in body if node in kept]
    heading = f'"""The checks of {exercise.slug} that you may see."""'
    return "\n\n".join([heading, *(part for part in _imports(body, wanted)), *parts]) + "\n"


def student_kit(exercises: Sequence[Exercise]) -> bytes:
    """Return a zip file from which Python can import the kit, with the visible checks of ``exercises`` in it."""
    root = Path(grader.__file__).parent
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as bundle:
        for path in sorted(root.rglob("*.py")):
            if not set(_LEFT_OUT) & set(path.relative_to(root).parts):
                _add(bundle, f"grader/{path.relative_to(root).as_posix()}", path.read_bytes())
        for exercise in exercises:
            _add(bundle, f"visible/test_{exercise.slug}.py", visible_suite(exercise).encode())
    return buffer.getvalue()


def _add(bundle: zipfile.ZipFile, name: str, data: bytes) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    bundle.writestr(entry, data)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _names(node: ast.stmt) -> set[str]:
    """Return what a statement at the top of a suite defines; imports are dealt with apart."""
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return {name.id for target in targets if target for name in ast.walk(target) if isinstance(name, ast.Name)}


def _imports(body: Sequence[ast.stmt], wanted: set[str]) -> Iterator[str]:
    """Yield the imports, without the names that nothing needs."""
    for node in body:
        if isinstance(node, ast.Import):
            names = [alias for alias in node.names if (alias.asname or alias.name.partition(".")[0]) in wanted]
            yield from [ast.unparse(ast.Import(names))] if names else []
        elif isinstance(node, ast.ImportFrom):
            future = node.module == "__future__"
            names = [alias for alias in node.names if future or (alias.asname or alias.name) in wanted]
            yield from [ast.unparse(ast.ImportFrom(node.module, names, node.level))] if names else []
