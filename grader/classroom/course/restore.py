"""Bring a handed-in notebook back to the cells that were handed out, whatever was done to it.

Goes in front of nbgrader's own sanitizing. Cells are known by ``grade_id``; what else a cell says of itself is taken
from the gradebook. Of a cell that is there twice, the last copy counts as the answer, as it would in a kernel.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import nbformat
from nbconvert.exporters import NotebookExporter
from nbformat import NotebookNode
from nbgrader.converters import Autograde
from nbgrader.preprocessors import ClearMarkScheme, NbGraderPreprocessor
from nbgrader.utils import is_task
from traitlets import List

from grader.classroom.course.gradebook import SourceCell, source_cells
from grader.classroom.course.submitted import Passer
from grader.errors import KitError, SubmissionError
from grader.notebook import load_notebook
from grader.submission import MAX_NOTEBOOK, read_bytes

_KINDS = ("code", "markdown", "raw")
_WHERE = "It was handed in without this cell, which is put back here."


class CarefulExporter(NotebookExporter):
    """Reads what a student handed in: with limits, and never failing.

    A file that is no notebook becomes an empty one that says why; its test cells are put back and earn nothing, and
    the student's other notebooks are graded as ever.
    """

    def __init__(self, *args: Any, **kw: Any) -> None:
        super().__init__(*args, **kw)  # type: ignore[no-untyped-call]
        if isinstance(self.parent, Autograde):
            Passer(self.parent)

    def from_filename(self, filename: str, resources: Any = None, **kw: Any) -> tuple[NotebookNode, Any]:
        """Read and convert a file."""
        if not getattr(self.parent, "_sanitizing", True):  # nbgrader's second look, at what was written by the first
            return super().from_filename(filename, resources, **kw)
        path = Path(filename)
        resources = resources if resources is not None else {}
        resources["metadata"] = {"name": path.stem, "path": str(path.parent)}
        try:
            notebook = clean_notebook(load_notebook(read_bytes(path, MAX_NOTEBOOK)))
            nbformat.validate(notebook)
        except (KitError, nbformat.ValidationError) as error:
            reason = str(error) if isinstance(error, KitError) else "It is not a valid notebook."
            self.log.warning("%s could not be read as a notebook: %s", path.name, reason)
            notebook = clean_notebook({"cells": []})
            notebook.metadata["grade"] = {"broken": reason}
        return self.from_notebook_node(notebook, resources=resources, **kw)  # type: ignore[no-any-return,no-untyped-call]


def clean_notebook(raw: Mapping[str, Any]) -> NotebookNode:
    """Return a valid notebook of format 4.5 with the cells of ``raw``: their text, kind and what nbgrader notes.

    Outputs, attachments and other metadata are dropped: nothing that is graded depends on them.

    Raises:
        SubmissionError: If a cell is not a cell.
    """
    cells = [_clean_cell(cell, number) for number, cell in enumerate(raw["cells"], 1)]
    metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    notebook: NotebookNode = nbformat.from_dict(
        {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    )
    return notebook


def _clean_cell(raw: Any, number: int) -> dict[str, Any]:
    source = raw.get("source", "") if isinstance(raw, dict) else None
    if isinstance(source, list) and all(isinstance(line, str) for line in source):
        source = "".join(source)
    if not isinstance(raw, dict) or raw.get("cell_type") not in _KINDS or not isinstance(source, str):
        raise SubmissionError(f"Cell {number} of the notebook is not a cell. Save the notebook again in Jupyter.")
    metadata = raw.get("metadata") if isinstance(raw.get("metadata"), dict) else {}
    note = metadata.get("nbgrader") if isinstance(metadata, dict) else None
    name = note.get("grade_id") if isinstance(note, dict) else None
    kept = {"nbgrader": {"grade_id": name}} if isinstance(name, str) else {}
    kind = "code" if raw["cell_type"] == "code" else "markdown"  # a raw cell would be shown as HTML, unread
    cell = {"cell_type": kind, "id": f"cell-{number}", "metadata": kept, "source": _fit(source)}
    return cell | {"execution_count": None, "outputs": []} if kind == "code" else cell


def _fit(text: str) -> str:
    """Return text that can be written to a file: lone surrogates cannot."""
    return text.encode("utf-8", "replace").decode("utf-8")


class RestoreCells(NbGraderPreprocessor):  # type: ignore[misc]
    """Sets every cell's metadata, kind and (if locked) text as they were handed out, and puts missing cells back."""

    def preprocess(self, nb: NotebookNode, resources: Any) -> tuple[NotebookNode, Any]:
        """Restore one notebook."""
        known = source_cells(resources["nbgrader"])
        seen: set[str] = set()
        for place, cell in reversed(list(enumerate(nb.cells))):
            note = cell.metadata.pop("nbgrader", None)
            name = note.get("grade_id") if isinstance(note, dict) else None
            if name not in known or name in seen:
                if name is not None:
                    self.log.warning("A cell with the id %r is there twice, or was never handed out.", name)
                continue
            seen.add(name)
            nb.cells[place] = _restored(known[name], cell.source, cell.get("id", f"cell-{place}"))
        for name, source in known.items():
            if name not in seen and source.points is not None:
                self.log.warning("The cell %r is missing and is put back.", name)
                nb.cells.append(_missing(source))
        return nb, resources


def _restored(source: SourceCell, written: str, identity: str) -> NotebookNode:
    text = source.source if source.locked else written
    cell: dict[str, Any] = {
        "cell_type": source.kind,
        "id": identity,
        "metadata": {"nbgrader": source.metadata()},
        "source": text,
    }
    if source.kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    node: NotebookNode = nbformat.from_dict(cell)
    return node


def _missing(source: SourceCell) -> NotebookNode:
    """Return a cell that was deleted; an answer comes back empty, not as the handed-out text that it may hold."""
    note = "" if source.locked else _WHERE
    return _restored(source, note, f"missing-{source.name}"[:64])


class HideMarkSchemes(ClearMarkScheme):  # type: ignore[misc]
    """Takes the mark schemes out of the feedback: nbgrader puts them back when it grades, and leaves them there."""

    display_data_priority = List(["text/html", "text/plain"]).tag(config=True)  # the feedback sets it on all

    def preprocess_cell(self, cell: NotebookNode, resources: Any, cell_index: int) -> tuple[NotebookNode, Any]:
        """Look at questions alone: elsewhere the words are a student's."""
        if not is_task(cell):
            return cell, resources
        return super().preprocess_cell(cell, resources, cell_index)  # type: ignore[no-any-return]
