"""The benchmarks run and say something sensible; how fast this machine is, is not a matter for a test."""

import math
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

import budgets

pytestmark = pytest.mark.xdist_group("benchmarks")


@pytest.fixture(scope="module")
def rows():
    with budgets.as_a_learner():
        memory = budgets.private_memory()
        return {
            "cold": budgets.cold_start(1),
            "help": budgets.help_text(1),
            "locked": budgets.sandboxing(3),
            "class": budgets.whole_class(2),
            **dict(zip(("right", "wrong"), budgets.warm_start(1), strict=True)),
            **({"memory": memory[0]} if memory else {}),
        }


def test_every_ratio_is_a_number(rows):
    assert all(math.isfinite(row.ratio) and row.measured == row.measured for row in rows.values())
    assert all(row.other > 0 for row in rows.values())


def test_the_order_of_things_is_as_it_must_be(rows):
    torch = rows["cold"].other

    assert rows["help"].measured < torch  # it does not import torch
    assert rows["right"].measured < rows["cold"].measured  # a grader that runs has imported it
    assert rows["right"].other < torch  # and so has what forks


def test_the_table_names_every_budget(rows, capsys):
    budgets.show([*rows.values()])

    shown = capsys.readouterr().out
    assert all(word in shown for word in ("cold", "save", "sandboxing", "--help", "class", "within"))
