"""What the gradebook knows of a notebook's cells as they were handed out: the only description to be trusted."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nbgrader.api import Gradebook

from grader.notebook import runs_checks


@dataclass(frozen=True)
class SourceCell:
    """A cell as the teacher made it.

    Attributes:
        points: What it is worth, None if it earns nothing.
        solution: Whether the student writes it.
        task: Whether a person grades what the student wrote beside it.
    """

    name: str
    kind: str
    source: str
    locked: bool
    checksum: str | None
    points: float | None
    solution: bool
    task: bool

    @property
    def is_test(self) -> bool:
        """Whether its points come from outputs."""
        return self.points is not None and not self.solution and not self.task

    @property
    def is_helper(self) -> bool:
        """Whether it is code that the answers may rely on."""
        return self.kind == "code" and self.locked and not self.is_test and not runs_checks(self.source)

    def asks(self) -> tuple[str, str] | None:
        """Return slug and section of the one ``grade_section("slug", "section", …)`` in it."""
        try:
            calls = [node for node in ast.walk(ast.parse(self.source)) if isinstance(node, ast.Call)]
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
        found = [call.args for call in calls if isinstance(call.func, ast.Name) and call.func.id == "grade_section"]
        if len(found) != 1 or len(found[0]) < 2:
            return None
        words = [arg.value for arg in found[0][:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)]
        return (words[0], words[1]) if len(words) == 2 else None

    def metadata(self) -> dict[str, Any]:
        """Return what nbgrader notes in a cell."""
        note: dict[str, Any] = {
            "schema_version": 3,
            "grade_id": self.name,
            "cell_type": self.kind,
            "grade": self.points is not None and not self.task,
            "solution": self.solution,
            "locked": self.locked,
            "task": self.task,
            "checksum": self.checksum,
        }
        return note if self.points is None else note | {"points": self.points}


def source_cells(nbgrader: Mapping[str, Any]) -> dict[str, SourceCell]:
    """Return the cells of a notebook by name, from the gradebook.

    Args:
        nbgrader: What nbgrader tells its preprocessors: ``db_url``, ``assignment`` and ``notebook``.

    Raises:
        nbgrader.api.MissingEntry: If the notebook was never handed out.
    """
    with Gradebook(nbgrader["db_url"]) as book:
        notebook = book.find_notebook(nbgrader["notebook"], nbgrader["assignment"])
        solutions = {cell.name for cell in notebook.solution_cells}
        tasks = {cell.name: float(cell.max_score) for cell in notebook.task_cells}
        points = {cell.name: float(cell.max_score) for cell in notebook.grade_cells} | tasks
        return {
            cell.name: SourceCell(
                name=cell.name,
                kind=cell.cell_type,
                source=cell.source or "",
                locked=bool(cell.locked),
                checksum=cell.checksum,
                points=points.get(cell.name),
                solution=cell.name in solutions,
                task=cell.name in tasks,
            )
            for cell in sorted(notebook.source_cells, key=lambda cell: cell.name)
        }
