"""Which code of a handed-in notebook counts, and what is left out when it cannot be loaded."""

import runpy
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("nbgrader")

from nbformat import from_dict

import grader.classroom.cell
from grader.classroom.course.answers import only_needed, read_answers, without_line
from grader.classroom.course.gradebook import SourceCell
from grader.errors import SubmissionError
from grader.notebook import Cell
from grader.submission import join_cells

KNOWN = {
    name: SourceCell(name, "code", "", locked=False, checksum=None, points=None, solution=True, task=False)
    for name in ("one", "two")
}
F = "def f(x):\n    return x"


def notebook(*sources, **named):
    """Return a notebook with cells that a student added, and behind them answer cells by name."""
    both = [(source, {}) for source in sources]
    both += [(source, {"nbgrader": {"grade_id": name}}) for name, source in named.items()]
    made = [{"cell_type": "code", "metadata": metadata, "source": source} for source, metadata in both]
    return from_dict({"cells": made, "metadata": {}})


def read(*sources, **named):
    return read_answers(notebook(*sources, **named), KNOWN, ["f"])


def loaded(cells):
    """Return what the cells define, once they have been joined to a file and loaded."""
    names = {"__name__": "submission"}
    exec(compile(join_cells(cells, "nb.ipynb", "slug").source, "nb", "exec"), names)
    return names


# --- a cell as part of a file -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "source",
    [
        f"x = 1\nfrom __future__ import annotations\n{F}",
        f"{F}\nawait f(1)",
        f"async with f(1) as g:\n    pass\n{F}",
        f"y = [z async for z in f(1)]\n{F}",
        "if __name__ == '__main__':\n    def f(x):\n        return x",
        "if ('__main__' == __name__):  # ü\n    def f(x): return x",
        f"display(1)\n{F}",
        f"%%time\n{F}\n!ls",
        f"{F}\nif {'+'.join('1' * 150)}:\n    pass",
    ],
)
def test_what_a_kernel_allows_does_not_keep_an_answer_from_being_loaded(source):
    answers = read(one=source)

    assert loaded(answers.cells)["f"](3) == 3
    assert answers.left_out == ""


def test_annotations_stay_unread_if_any_cell_asks_for_that():
    answers = read(one="from __future__ import annotations", two="def f(x: Unknown) -> Unknown:\n    return x")

    assert loaded(answers.cells)["f"](3) == 3


def test_await_within_a_function_is_left_as_it_is():
    answers = read(one=f"async def g():\n    await g()\n\n{F}")

    assert "await g()" in answers.cells[0].source


def test_experiments_under_main_are_not_run():
    answers = read(one=f"{F}\nif __name__ == '__main__':\n    broken")

    assert loaded(answers.cells)["f"](3) == 3


def test_a_cell_that_is_no_python_costs_itself_and_is_named():
    answers = read(one="def g(:\n    pass", two=F)

    assert loaded(answers.cells)["f"](3) == 3
    assert answers.left_out.startswith("Cell 1, line 1 is not valid Python")


def test_a_condition_that_is_nested_too_deeply_costs_its_cell_alone():
    answers = read(one=f"if {'+'.join('1' * 2000)}:\n    pass", two=F)

    assert loaded(answers.cells)["f"](3) == 3
    assert "nested too deeply" in answers.left_out


def test_a_notebook_whose_answer_is_no_python_is_refused_with_the_line():
    with pytest.raises(SubmissionError, match=r"Cell 2, line 1 is not valid Python"):
        read(one="import torch", two="def f(:\n    pass")


def test_a_long_experiment_costs_no_answer():
    answers = read("DATA = '" + "x" * (2 << 20) + "'", one=F)

    assert loaded(answers.cells)["f"](3) == 3
    assert answers.left_out == "Cell 1 is too long: the notebook holds more than 1 MiB of code."


def test_many_cells_that_are_left_out_are_counted():
    known = {f"c{number}": KNOWN["one"] for number in range(9)}
    broken = dict.fromkeys(known, "def g(:") | {"c8": F}

    answers = read_answers(notebook(**broken), known, ["f"])

    assert answers.left_out.count("is not valid Python") == 3
    assert answers.left_out.endswith("So it is with 5 more cells.")


# --- the second try ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "experiment",
    [
        "print(1 / 0)",
        "f(1).sum()",
        "assert f(1) == 2",
        "import pandas_of_mine as pd\npd.show(f(1))",
        "while True:\n    f(1)",
        "for i in range(3):\n    missing(i)",
        "def plot():\n    pd.show()\nimport pandas_of_mine as pd",
        "raise SystemExit",
        "import torch\ntorch.testing.assert_close(f(1), 2)",
    ],
)
def test_experiments_are_not_needed(experiment):
    (cell,) = only_needed([Cell(1, f"{F}\n{experiment}")], ["f"])

    assert cell.source.strip() == F


@pytest.mark.parametrize(
    "needed",
    [
        "TABLE = [1]",
        "TABLE = []\nTABLE.append(1)",
        "TABLE = {}\nfor i in range(3):\n    TABLE[i] = i",
        "import math\nTABLE = [math.pi]",
        "class TABLE:\n    pass\nsetattr(TABLE, 'a', 1)",
        "class TABLE:\n    pass\nTABLE.a = 1",
        "from math import *\nTABLE = pi",
        "try:\n    TABLE = a\nexcept NameError:\n    TABLE = 1",
        "with open('x') as TABLE:\n    pass",
    ],
)
def test_what_an_answer_reads_is_needed(needed):
    source = f"{needed}\ndef f(x):\n    return TABLE"

    (cell,) = only_needed([Cell(1, source)], ["f"])

    assert cell.source == source


def test_what_undoes_an_answer_is_not_left_out():
    source = f"{F}\ndel f"

    (cell,) = only_needed([Cell(1, source)], ["f"])

    assert cell.source == source


def test_a_line_is_left_out_with_its_whole_statement():
    cells = [Cell(1, "a = 1"), Cell(2, "b = [\n    broken,\n]\nc = 1")]

    rest = without_line(cells, 3)

    assert [cell.source for cell in rest] == ["a = 1", "\n\n\nc = 1"]


@pytest.mark.parametrize("line", [None, 1, 3, 99])
def test_a_line_that_was_handed_out_or_is_none_is_not_left_out(line):
    assert without_line([Cell(0, "import torch"), Cell(1, "a = 1\n\n")], line) is None


def test_a_chain_of_many_assignments_takes_no_time():
    chain = "\n".join(f"a{number} = a{number + 1}" for number in range(20_000))
    source = f"{chain}\ndef f(x):\n    return a0"
    started = time.monotonic()

    (cell,) = only_needed([Cell(1, source)], ["f"])

    assert cell.source == source
    assert time.monotonic() - started < 20


# --- what students run ------------------------------------------------------------------------------------------------


def test_an_old_python_is_told_so(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 9, 18))

    with pytest.raises(ImportError, match=r"needs Python 3\.11 or newer, and this notebook runs on Python 3\.9\."):
        runpy.run_path(grader.classroom.cell.__file__)


def test_a_damaged_kit_is_told(tmp_path, monkeypatch, capsys):
    kit = Path(tmp_path, "kit.zip")
    kit.write_bytes(b"no zip")
    monkeypatch.setattr(sys, "path", [*sys.path, str(kit)])

    grader.classroom.cell.try_checks("rotary", {})

    assert "Keep the kit.zip it came with in its folder." in capsys.readouterr().out
