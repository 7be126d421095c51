"""A suite cannot tell the learner's file in another process from a local module; and sees more of it where it should.

The scenarios stand in ``remote/scenarios.py``. Each runs on a plain module, through the frames of a local host, and in
a candidate that the zygote forked and the sandbox holds.
"""

import os
import sys
from pathlib import Path
from unittest import mock

import pytest

REMOTE = str(Path(__file__).parent / "remote")
sys.path.append(REMOTE)

from scenarios import SHARED, ScenariosJob, local_session, run_all, run_plain  # noqa: E402

from grader.candidate import sandbox  # noqa: E402
from grader.judge.client import Grader  # noqa: E402

pytestmark = pytest.mark.xdist_group("proxy")


@pytest.fixture(scope="module")
def plain():
    return run_plain()


@pytest.fixture(scope="module")
def local():
    return run_all(local_session())


@pytest.fixture(scope="module")
def forked():
    with mock.patch.dict(os.environ, PYTHONPATH=REMOTE), Grader(jobs=1) as grader:
        ((_, (seen, layers)),) = grader.run([ScenariosJob()])
    assert sandbox.tier(layers) == "full"
    return seen


@pytest.fixture(params=["local", "forked"])
def seen(request):
    """What the scenarios saw in one way of reaching the learner's code."""
    return request.getfixturevalue(request.param)


@pytest.mark.parametrize("name", SHARED)
def test_it_is_as_with_a_plain_module(name, plain, seen):
    assert not isinstance(plain[name], str), plain[name]
    assert seen[name] == plain[name]


# --- what only the engine knows ------------------------------------------------------------------------------------


def test_an_error_knows_where_it_came_from(seen):
    assert seen["an_error_knows_line_type_and_call"] == [
        ("ValueError", "odd", True, False),
        ("OddNumberError", "odd_in_my_own_words", False, False),
        ("SystemExit", "leave", False, False),
        ("KeyboardInterrupt", "interrupt", False, False),
        ("RudeError", "talk_back", False, False),
        ("TypeError", "Affine", False, False),
    ]
    assert seen["a_recursion_without_end_is_an_error"] == "RecursionError"


def test_what_cannot_cross_is_named_or_refused(seen):
    names = {"set": "set", "sparse": "sparse_coo tensor", "object": "object", "function": "function"}

    assert seen["what_cannot_cross_is_named"] == (names, "WireError")


def test_inputs_changed_in_place_are_told_and_stay_as_they_were_here(seen):
    told, view, nan = seen["inputs_that_were_changed_are_told_and_stay"]

    assert told == [(1, [0, 1, 2], [3]), (1, [0, 1, 2], [3]), (1, [0, 1, 2], [3]), (0, [0, 1, 2], [3])]
    assert view == ["`add_in_place` changed an input of shape (3, 4) in place"]
    assert nan == []


def test_what_is_no_number_changes_too(seen):
    changed = ["`is_one` changed an input of shape (2,) in place"]

    assert seen["numbers_put_for_what_is_none_are_told"] == ([1, 1, 1, 0], True, changed)


def test_names_that_are_missing_are_told(seen):
    missing, value, foreign = seen["a_name_that_is_missing_is_told"]

    assert missing.startswith("Your file has no `apply_rotary`. It defines `OddNumberError`, `Unhappy`, `echo`, ")
    assert missing.endswith(" Names and arguments must stay as they are in the stub.")
    assert value == "`calls` should be a function or a class, but your file assigns a value to that name."
    assert foreign.startswith("Your file has no `torch`.")


def test_a_misfit_of_weights_is_told(seen):
    assert seen["a_misfit_of_weights_is_told"] == (
        "The weights do not load. missing: gain (1,); not asked for: bias, seen; "
        "weight: shape (3, 2) is asked for, (2, 2) came. Names and shapes stand in the brief."
    )


def test_parts_that_are_missing_are_told(seen):
    names = "inner.weight, inner.bias, layers.0.weight, layers.1.weight"

    assert seen["a_part_that_is_missing_is_told"] == [
        f"Your module has no parameter or buffer `{path}`. Its parameters: {names}."
        for path in ("gain", "inner.gain", "layers.weight")
    ]


def test_a_class_that_makes_no_module_is_told(seen):
    text = "`Unhappy(...)` should make an nn.Module, but an object of type Unhappy came."

    assert seen["a_class_that_makes_no_module_is_told"] == text


def test_a_check_has_its_own_seed(seen):
    assert seen["the_seed_of_the_check_decides_what_is_drawn"] == (True, False)


def test_the_trace_counts_what_ran(seen):
    assert seen["the_trace_counts_operators"] == [2, 9, 1, 1]
    assert seen["the_trace_knows_shapes_and_sizes"] == (((5, 1), (1, 5)), ((5, 5),), ((),), 25, "torch.Tensor.sum")


def test_the_trace_is_of_its_block_alone(seen):
    assert seen["the_trace_ends_with_its_block"] == (1, 0)
    assert seen["a_trace_ends_when_the_call_raises"] == (0, [1.0, 1.0])


def test_a_trace_of_many_operators_arrives(seen):
    assert seen["a_long_trace_arrives"] == (12_000, ((2, 3, 4),))


def test_devices_that_meet_are_told(seen):
    assert seen["devices_that_meet_are_told"] == {
        "index_with_new": (False, "meta"),
        "index_a_new_one": (True, "meta"),
        "embed_in_new": (True, "meta"),
        "multiply_new": (True, "meta"),
        "follow": (False, "meta"),
        "to_cpu": (False, "cpu"),
        "looks_at_a_value": (False, "meta"),
    }
    assert seen["a_module_goes_to_another_device"] == (("meta", "meta"), "meta", (), True)


def test_nothing_of_all_this_made_torch_import_its_slow_parts(forked):
    assert forked["nothing_slow_was_imported_by_all_this"] == []
