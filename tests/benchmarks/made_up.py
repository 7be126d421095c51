"""A class that never was: submissions made from the answer keys' solutions and variants."""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

from grader.model import Exercise

KINDS = ("right", "wrong", "broken")
MIX = (4, 5, 1)  # how often each is made
BROKEN = (
    "def oops(:\n",
    "import nothing_of_this_name\n",
    "raise RuntimeError('left over from an experiment')\n",
    "caf\xe9 = 1\n".encode("latin-1"),
    "",
)


def write_class(folder: Path, exercises: Sequence[Exercise], number: int, seed: int = 7) -> int:
    """Write ``number`` submissions under ``folder``, a student for every ``len(exercises)`` of them.

    Returns:
        How many students there are.
    """
    made = {exercise.slug: sources(exercise) for exercise in exercises}
    rng = random.Random(seed)
    for count in range(number):
        student = folder / f"student_{count // len(exercises):04}"
        student.mkdir(parents=True, exist_ok=True)
        slug = exercises[count % len(exercises)].slug
        (kind,) = rng.choices(KINDS, MIX)
        source = rng.choice(BROKEN if kind == "broken" else made[slug][kind])
        data = source if isinstance(source, bytes) else source.encode()
        (student / f"{slug}.py").write_bytes(data)
    return len(list(folder.iterdir()))


def sources(exercise: Exercise) -> dict[str, list[str]]:
    """Return what could have been handed in: ``right`` and ``wrong`` ways to write the exercise."""
    solution = (exercise.folder / "solution.py").read_text("utf-8")
    found: dict[str, list[str]] = {"right": [solution], "wrong": []}
    for kind, source in _variants(solution, (exercise.folder / "variants.py").read_text("utf-8")):
        found["right" if kind == "alternative" else "wrong"].append(source)
    return found


class _Rename(ast.NodeTransformer):
    """Lets a variant that uses a part of the solution use the right one, also where it takes that part's place."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name(f"right_{node.id}", node.ctx) if node.id in self.names else node


def _variants(solution: str, variants: str) -> Iterator[tuple[str, str]]:
    """Yield every variant's kind, and the solution with that variant put in."""
    shared, declared, rename = [], [], _Rename()
    for node in ast.parse(variants).body:
        if isinstance(node, ast.ImportFrom) and node.level:
            rename.names |= {alias.name for alias in node.names}
            shared += [f"right_{alias.name} = {alias.name}" for alias in node.names]
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "grader.judge.suite":
            continue
        decorators = getattr(node, "decorator_list", ())
        marks = [d for d in decorators if isinstance(d, ast.Call) and isinstance(d.func, ast.Name)]
        marks = [d for d in marks if d.func.id in ("misconception", "slip", "alternative")]
        if not marks:
            shared.append(ast.unparse(rename.visit(node)))
            continue
        node.decorator_list = [d for d in decorators if d not in marks]
        replaces = next(k.value.value for k in marks[0].keywords if k.arg == "replaces")
        declared.append((marks[0].func.id, node.name, replaces, ast.unparse(rename.visit(node))))
    for kind, name, replaces, code in declared:
        yield kind, "\n\n\n".join([solution, *shared, code, f"{replaces} = {name}\n"])
