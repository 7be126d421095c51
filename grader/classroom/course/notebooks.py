"""An answer key as a source notebook for nbgrader: brief, answer cells, test cells with points, a question."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from grader import __version__
from grader.errors import AnswerKeyError
from grader.model import Check, Exercise
from grader.report.text import number
from grader.stub import BEGIN

KIT_FILE = "kit.zip"  # beside the notebooks of an assignment: the kit without its answer keys
QUESTION_POINTS = 2

Cell = dict[str, Any]

_PATH = f'import sys; sys.path.append("{KIT_FILE}")  # an installed kit is taken first'


def make_notebook(exercise: Exercise) -> dict[str, Any]:
    """Return the instructor's notebook of an exercise, with its solutions and its mark scheme.

    What nbgrader makes of it for students (``generate_assignment``) holds neither.

    Raises:
        AnswerKeyError: If the solution has no region to write.
    """
    cells = [
        _text("brief", f"# {exercise.title}\n\n{_markdown(exercise.brief)}"),
        *_code(exercise),
        _try(exercise),
        _text("grading", _grading(exercise)),
        *(_test(exercise, place, section, checks) for place, (section, checks) in enumerate(sections(exercise), 1)),
        *_question(exercise),
    ]
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
        "grade": {"slug": exercise.slug, "kit": __version__},
    }
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def sections(exercise: Exercise) -> list[tuple[str, tuple[Check, ...]]]:
    """Return the groups of checks that get points together, each with its heading."""
    found: dict[str, tuple[Check, ...]] = {}
    for section, checks in groupby(exercise.checks, key=lambda check: check.section):
        found[section] = (*found.get(section, ()), *checks)
    return list(found.items())


def segments(source: str) -> tuple[str, list[tuple[str, str]]]:
    """Cut a solution into what stands above the first definition, and one piece per definition to be written.

    A definition without a region (a helper) goes with the piece after it, or with the last one.

    Returns:
        The head without the docstring, and name and source of each piece.
    """
    tree = ast.parse(source)
    lines = source.splitlines()
    body = tree.body[1:] if ast.get_docstring(tree) is not None else tree.body
    row = (tree.body[0].end_lineno or 0) if body is not tree.body else 0
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    head_end = max([row] + [node.end_lineno or 0 for node in body if isinstance(node, (ast.Import, ast.ImportFrom))])
    head, row = "\n".join(lines[row:head_end]).strip(), head_end
    pieces: list[tuple[str, str]] = []
    for node in body:
        end = node.end_lineno or 0
        while end < len(lines) and lines[end].lstrip().startswith("#") and lines[end][0].isspace():
            end += 1  # the last marker stands behind the last statement
        if not isinstance(node, kinds) or end <= row or BEGIN not in "\n".join(lines[row:end]):
            continue
        pieces.append((node.name, "\n".join(lines[row:end]).strip()))
        row = end
    rest = "\n".join(lines[row:]).strip()
    if rest and pieces:
        pieces[-1] = (pieces[-1][0], f"{pieces[-1][1]}\n\n\n{rest}")
    return head, pieces


# --- cells -----------------------------------------------------------------------------------------------


def _text(name: str, source: str) -> Cell:
    return _cell("markdown", name, source, locked=True)


def _code(exercise: Exercise) -> Iterator[Cell]:
    head, pieces = segments((exercise.folder / "solution.py").read_text("utf-8"))
    if not pieces:
        raise AnswerKeyError(f"{exercise.folder / 'solution.py'} has no region for the learner to write.")
    if head:
        yield _cell("code", "imports", head, locked=True, role="helper")
    for name, source in pieces:
        yield _cell("code", f"answer-{name}", source, solution=True, role="answer")


def _try(exercise: Exercise) -> Cell:
    return _cell(
        "code",
        "try",
        "# Run this cell as often as you like: it runs the checks that you may see.\n"
        f"{_PATH}\nfrom grader.classroom.cell import try_checks\n\n"
        f"try_checks({json.dumps(exercise.slug)}, globals())",
        locked=True,
        role="check",
    )


def _grading(exercise: Exercise) -> str:
    rows = "\n".join(
        f"| {section or 'checks'} | {len(checks)} | {number(sum(check.points for check in checks))} |"
        for section, checks in sections(exercise)
    )
    return (
        "## How it is graded\n\n"
        "Your code is run in a process of its own, on fresh inputs, and a judge in another process looks at what comes "
        "back. The cells below hold its findings once your work is graded; there is nothing to write in them.\n\n"
        f"| Checks of | Checks | Points |\n|---|---|---|\n{rows}\n"
    )


def _test(exercise: Exercise, place: int, section: str, checks: tuple[Check, ...]) -> Cell:
    points = sum(check.points for check in checks)
    source = (
        f"# {number(points)} points: {section or 'checks'}.\n"
        "# The judge's findings stand here once your work is graded.\n"
        f"{_PATH}\nfrom grader.classroom.cell import grade_section\n\n"
        f"grade_section({json.dumps(exercise.slug)}, {json.dumps(section)}, globals())"
    )
    return _cell("code", f"checks-{place:02}", source, locked=True, points=points, role="check")


def _question(exercise: Exercise) -> Iterator[Cell]:
    """Yield a question that a person grades, with its mark scheme, and a cell for the answer."""
    if not exercise.follow_ups:
        return
    asked = exercise.follow_ups[0]
    scheme = (
        f"{QUESTION_POINTS} points for the reason, in whatever words; half of them for the right claim without it.\n\n"
        f"Model answer: {asked.answer}"
    )
    yield _cell(
        "markdown",
        "question",
        f"## A question\n\n{asked.question}\n\n"
        f"*{QUESTION_POINTS} points, given by your teacher. Answer in the cell below, in a few sentences.*\n\n"
        f"=== BEGIN MARK SCHEME ===\n\n{scheme}\n\n=== END MARK SCHEME ===",
        locked=True,
        task=True,
        points=QUESTION_POINTS,
    )
    metadata = {"grade": {"role": "text"}}
    yield {"cell_type": "markdown", "id": "question-answer", "metadata": metadata, "source": "Your answer:"}


def _cell(
    kind: str,
    name: str,
    source: str,
    *,
    locked: bool = False,
    solution: bool = False,
    task: bool = False,
    points: float | None = None,
    role: str = "text",
) -> Cell:
    note: dict[str, Any] = {
        "schema_version": 3,
        "grade_id": name,
        "grade": points is not None and not task,
        "solution": solution,
        "locked": locked,
        "task": task,
    }
    if points is not None:
        note["points"] = points
    metadata = {"nbgrader": note, "grade": {"role": role}}
    cell: Cell = {"cell_type": kind, "id": name[:64], "metadata": metadata, "source": source}
    return cell | {"execution_count": None, "outputs": []} if kind == "code" else cell


def _markdown(brief: str) -> str:
    """Turn the docstring's reStructuredText into Markdown: they differ in how code is quoted."""
    return re.sub(r"``(.+?)``", r"`\1`", brief)
