"""What a suite asserts: what passes, what fails, and the words that a learner reads."""

import math
import re
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from grader.candidate.wire import Opaque
from grader.judge.session import error_from
from grader.judge.suite import (
    CheckFailure,
    Panel,
    alternative,
    assert_close,
    assert_differs,
    assert_follows_device,
    assert_gradients_match,
    assert_no_loop,
    assert_rejects,
    assert_shape,
    assert_tensor,
    describe,
    misconception,
    observe,
    slip,
    tolerance_of,
)

NAN, INF = float("nan"), float("inf")


def t(*numbers, dtype=torch.float32):
    return torch.tensor(numbers, dtype=dtype)


@contextmanager
def fails(text):
    """Expect a ``CheckFailure`` with exactly these words."""
    with pytest.raises(CheckFailure, match=f"^{re.escape(text)}$"):
        yield


# --- tolerances ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dtype", "largest", "allowed"),
    [
        (torch.float32, 0.5, 1e-5),
        (torch.float32, 300.0, 3e-3),
        (torch.complex64, 2.0, 2e-5),
        (torch.float64, 0.5, 1e-9),
        (torch.float64, 300.0, 3e-7),
        (torch.complex128, 2.0, 2e-9),
        (torch.bfloat16, 0.5, 0.01),
        (torch.float16, 300.0, 6.0),
        (torch.int64, 300.0, 0.0),
        (torch.uint8, 3.0, 0.0),
        (torch.bool, 1.0, 0.0),
    ],
)
def test_the_tolerance_follows_from_dtype_and_size(dtype, largest, allowed):
    assert tolerance_of(dtype, t(-largest, 0.1)) == pytest.approx(allowed)


def test_the_tolerance_of_half_precision_can_be_chosen_and_is_nothing_for_zeros():
    assert tolerance_of(torch.bfloat16, t(2.0), half=0.05) == pytest.approx(0.1)
    assert tolerance_of(torch.bfloat16, t(0.0)) == 0.0


def test_the_tolerance_takes_no_notice_of_what_is_not_finite():
    assert tolerance_of(torch.float32, t(INF, NAN, -2.0)) == pytest.approx(2e-5)
    assert tolerance_of(torch.float32, t(INF)) == pytest.approx(1e-5)
    assert tolerance_of(torch.float32, torch.zeros(0)) == pytest.approx(1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_what_lies_within_the_tolerance_passes_and_what_lies_beyond_does_not(dtype):
    expected = t(1.0, -3.0, dtype=torch.float64)
    allowed = tolerance_of(dtype, expected)

    assert_close((expected + 0.5 * allowed).to(dtype), expected, "x", dtype=dtype)

    with pytest.raises(CheckFailure):
        assert_close((expected + 2.5 * allowed).to(dtype), expected, "x", dtype=dtype)


# --- is it a tensor ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("got", "came"),
    [
        (None, "None came. Is a `return` missing?"),
        ((t(1.0), t(2.0)), "a tuple of 2 came."),
        ([1.0], "a list of 1 came."),
        ({"a": 1}, "a dict of 1 came."),
        (1.5, "float 1.5 came."),
        ("words", "str 'words' came."),
        (True, "bool True came."),
        (Opaque("set"), "an object of type set came."),
        (Opaque("sparse_coo tensor"), "a sparse_coo tensor came."),
        (nn.Linear(1, 1), "a module came."),
        (object(), "an object of type object came."),
    ],
)
def test_what_is_no_tensor_is_named(got, came):
    for check in (
        lambda: assert_tensor(got, "the scores"),
        lambda: assert_close(got, t(1.0), "the scores"),
        lambda: assert_shape(got, (1,), "the scores"),
        lambda: assert_gradients_match(got, {}, t(1.0), {}, t(1.0), "the scores"),
    ):
        with fails(f"the scores: a tensor should come back, but {came}"):
            check()


def test_a_tensor_is_handed_through():
    tensor = t(1.0)

    assert assert_tensor(tensor, "x") is tensor
    assert describe(tensor) == "a tensor of shape (1,)"
    assert len(describe("x" * 1000)) < 60


# --- assert_shape --------------------------------------------------------------------------------------------------


def test_a_shape_that_is_right_passes_and_comes_back():
    tensor = t(1.0, 2.0).reshape(1, 2)

    assert assert_shape(tensor, (1, 2), "x") is tensor
    assert_shape(tensor, torch.Size([1, 2]), "x", dtype=torch.float32)
    assert_shape(t(0.0)[0], (), "one number may be any")
    assert_shape(torch.zeros(0, 3), (0, 3), "nothing is not all the same")
    assert_shape(t(1, 2), (2,), "integers", dtype=torch.float32)
    assert_shape(torch.tensor([True, False]), (2,), "booleans", dtype=torch.bool)


@pytest.mark.parametrize(
    ("got", "text"),
    [
        (torch.ones(2, 1), "x: the shape should be (1, 2), but (2, 1) came."),
        (torch.ones(2), "x: the shape should be (1, 2), but (2,) came."),
        (torch.ones(()), "x: the shape should be (1, 2), but () came."),
        (t(1.0, 2.0, dtype=torch.float64)[None], "x: the dtype should be float32, but float64 came."),
        (
            torch.empty(1, 2, device="meta"),
            "x: it should lie on 'cpu', where the inputs are, not on 'meta'.",
        ),
        (t(1.0, NAN)[None], "x: 1 of 2 numbers are NaN, the first at [0, 1]. Where is 0/0, or inf - inf?"),
        (t(1.0, -INF)[None], "x: the shape is right, but some numbers are infinite."),
        (torch.zeros(1, 2), "x: the shape is right, but every number is 0; the input should show in it."),
        (torch.full((1, 2), 0.25), "x: the shape is right, but every number is 0.25; the input should show in it."),
    ],
)
def test_a_shape_that_is_wrong_or_holds_nothing_fails(got, text):
    with fails(text):
        assert_shape(got, (1, 2), "x", dtype=torch.float32)


def test_the_dtype_is_looked_at_only_when_it_is_asked_for():
    assert_shape(t(1, 2, dtype=torch.int32), (2,), "x")


# --- assert_close: form --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "got",
    [
        t(1.0),
        t(1.0)[0],
        t(1.0, 1.0, 1.0)[None],
        t(1.0, 1.0, 1.0)[:, None],
        torch.ones(0),
        torch.ones(3, 1).expand(3, 3),
    ],
    ids=["one", "a number", "a row", "a column", "nothing", "broadcast"],
)
def test_what_could_be_broadcast_is_of_the_wrong_shape(got):
    with fails(f"x: the shape should be (3,), but {tuple(got.shape)} came."):
        assert_close(got, torch.ones(3), "x")


def test_an_empty_answer_passes_only_where_an_empty_one_is_asked_for():
    assert_close(torch.ones(0, 3), torch.ones(0, 3), "x")

    with fails("x: the shape should be (0, 3), but (3, 0) came."):
        assert_close(torch.ones(3, 0), torch.ones(0, 3), "x")


def test_the_dtype_is_that_of_the_expected_unless_it_is_told():
    assert_close(t(1.0), t(1.0, dtype=torch.float64), "x", dtype=torch.float32)

    with fails("x: the dtype should be float64, but float32 came."):
        assert_close(t(1.0), t(1.0, dtype=torch.float64), "x")
    with fails("x: the dtype should be bfloat16, but float32 came."):
        assert_close(t(1.0), t(1.0), "x", dtype=torch.bfloat16)


def test_the_device_is_that_of_the_expected():
    with fails("x: it should lie on 'cpu', where the inputs are, not on 'meta'."):
        assert_close(torch.empty(1, device="meta"), t(1.0), "x")


def test_strides_do_not_matter():
    x = torch.arange(6.0).reshape(2, 3)

    assert_close(x.mT.contiguous().mT, x, "x")
    assert_close(torch.ones(1, 3).expand(2, 3), torch.ones(2, 3), "x")


def test_tensors_that_want_gradients_are_compared_by_value():
    assert_close(t(1.0).requires_grad_() * 2, t(2.0).requires_grad_(), "x")


# --- assert_close: numbers -----------------------------------------------------------------------------------------


def test_a_number_that_is_off_is_shown_with_its_place_and_what_is_allowed():
    expected = torch.arange(6.0).reshape(2, 3)
    got = expected.clone()
    got[1, 0], got[0, 2] = 3.5, 2.25

    with fails(
        "x: 2 of 6 numbers differ, most at [1, 0]: 3 was expected, but 3.5 came (off by at most 5.0e-05 is allowed)."
    ):
        assert_close(got, expected, "x")


def test_a_hint_is_added_when_numbers_differ():
    with fails("x: 1 was expected, but 2 came (off by at most 1.0e-05 is allowed). Look at the sign."):
        assert_close(torch.tensor(2.0), torch.tensor(1.0), "x", hint="Look at the sign.")


def test_numbers_that_look_alike_are_shown_with_more_digits():
    with fails("x: 1 was expected, but 1.00000012 came (off by at most 1.0e-08 is allowed)."):
        assert_close(torch.tensor(1.0 + 2**-23), torch.tensor(1.0), "x", tolerance=1e-8)


def test_a_tolerance_that_is_given_counts():
    assert_close(t(1.4), t(1.0), "x", tolerance=0.5)
    assert_close(t(1.04, dtype=torch.bfloat16), t(1.0), "x", dtype=torch.bfloat16, half=0.05)

    with pytest.raises(CheckFailure):
        assert_close(t(1.04, dtype=torch.bfloat16), t(1.0), "x", dtype=torch.bfloat16, half=0.03)
    with pytest.raises(CheckFailure):
        assert_close(t(1.0 + 2**-20), t(1.0), "x", tolerance=0.0)


@pytest.mark.parametrize("number", [0.0, 0.5, -3.0])
def test_one_number_everywhere_is_told_as_such(number):
    with fails(f"x: every number that came is {number:g}."):
        assert_close(torch.full((2, 2), number), torch.arange(4.0).reshape(2, 2), "x")


def test_nan_is_told_first():
    with fails("x: 2 of 3 numbers are NaN, the first at [1]. Where is 0/0, or inf - inf?"):
        assert_close(t(5.0, NAN, NAN), t(1.0, 2.0, 3.0), "x")
    with fails("x: 1 of 1 numbers are NaN, the first at []. Where is 0/0, or inf - inf?"):
        assert_close(torch.tensor(NAN), torch.tensor(1.0), "x")


def test_nan_that_is_expected_must_come_and_only_there():
    expected = t(NAN, 1.0, 2.0)
    assert_close(t(NAN, 1.0, 2.0), expected, "x")

    with fails(
        "x: 1 of 3 numbers differ, most at [0]: nan was expected, but 0 came (off by at most 2.0e-05 is allowed)."
    ):
        assert_close(t(0.0, 1.0, 2.0), expected, "x")
    with fails(
        "x: 1 of 3 numbers differ, most at [1]: 1 was expected, but nan came (off by at most 2.0e-05 is allowed)."
    ):
        assert_close(t(NAN, NAN, 2.0), expected, "x")


@pytest.mark.parametrize("wrong", [1e30, -INF, 0.0])
def test_infinity_that_is_expected_must_come_with_its_sign(wrong):
    expected = t(0.0, INF, 1.0)
    assert_close(t(0.0, INF, 1.0), expected, "x")

    with pytest.raises(CheckFailure, match=re.escape("1 of 3 numbers differ, most at [1]: inf was expected")):
        assert_close(t(0.0, wrong, 1.0), expected, "x")


def test_infinity_that_is_not_expected_fails():
    with fails(
        "x: 1 of 2 numbers differ, most at [0]: 1 was expected, but inf came (off by at most 2.0e-05 is allowed)."
    ):
        assert_close(t(INF, 2.0), t(1.0, 2.0), "x")


@pytest.mark.parametrize("dtype", [torch.int64, torch.int8, torch.uint8])
def test_integers_are_right_or_wrong(dtype):
    expected = t(1, 2, 3, dtype=dtype)
    assert_close(expected.clone(), expected, "x")

    with fails("x: 1 of 3 numbers differ, most at [2]: 3 was expected, but 4 came."):
        assert_close(t(1, 2, 4, dtype=dtype), expected, "x")


def test_an_answer_in_floats_is_not_rounded_to_the_integers_that_are_expected():
    assert_close(t(0.0, 1.0), t(0, 1, dtype=torch.int64), "x", dtype=torch.float32)

    with fails("x: 0 was expected, but 0.9 came (off by at most 1.0e-05 is allowed)."):
        assert_close(torch.tensor(0.9), torch.tensor(0), "x", dtype=torch.float32)


def test_large_integers_are_not_rounded():
    with pytest.raises(CheckFailure):
        assert_close(torch.tensor([2**60 + 1]), torch.tensor([2**60]), "x")


def test_integers_of_another_width_are_another_dtype():
    with fails("x: the dtype should be int64, but int32 came."):
        assert_close(t(1, dtype=torch.int32), t(1, dtype=torch.int64), "x")


def test_booleans_are_right_or_wrong():
    expected = torch.tensor([True, False, True])
    assert_close(expected.clone(), expected, "x")

    with fails("x: 2 of 3 numbers differ, most at [0]: 1 was expected, but 0 came."):
        assert_close(~expected | torch.tensor([False, False, True]), expected, "x")
    with fails("x: the dtype should be bool, but float32 came."):
        assert_close(expected.float(), expected, "x")


def test_complex_numbers_are_compared_in_both_parts():
    expected = torch.tensor([1 + 2j, 3j])
    assert_close(expected + 1e-6j, expected, "x")

    with fails(
        "x: 1 of 2 numbers differ, most at [0]: 1+2i was expected, but 1-2i came (off by at most 3.0e-05 is allowed)."
    ):
        assert_close(torch.tensor([1 - 2j, 3j]), expected, "x")
    with pytest.raises(CheckFailure, match="NaN"):
        assert_close(torch.tensor([complex(NAN, 0), 3j]), expected, "x")
    with fails("x: the dtype should be complex64, but float32 came."):
        assert_close(t(1.0, 2.0), expected, "x")


def test_a_scalar_is_compared_without_a_place():
    assert_close(torch.tensor(1.0), torch.tensor(1.0), "x")

    with fails("x: 2 was expected, but 7 came."):
        assert_close(torch.tensor(7), torch.tensor(2), "x")


# --- assert_differs ------------------------------------------------------------------------------------------------


def test_what_changed_passes_and_what_did_not_fails():
    x = torch.arange(3.0)
    assert_differs(x + t(0.0, 0.0, 0.1), x, "the turned x")
    assert_differs(x[:2], x, "another shape is a difference")
    assert_differs(x.bool(), ~x.bool(), "booleans")

    for again in x, x.clone(), x.double(), x.requires_grad_() + 1e-7:
        with fails("the turned x: nothing changed, although something should."):
            assert_differs(again, x, "the turned x")


# --- gradients -----------------------------------------------------------------------------------------------------


def pair(slope=2.0):
    mine, right = t(1.0, 2.0).requires_grad_(), t(1.0, 2.0, dtype=torch.float64).requires_grad_()
    return (mine * slope).exp(), {"x": mine}, (right * 2.0).exp(), {"x": right}


COTANGENT = t(0.5, -1.0, dtype=torch.float64)


def test_gradients_that_agree_pass():
    assert_gradients_match(*pair(), COTANGENT)


def test_gradients_that_differ_are_told_by_name():
    with pytest.raises(
        CheckFailure, match=r"^the gradient of x: 2 of 2 numbers differ, most at \[1\]: -109.2 was expec"
    ):
        assert_gradients_match(*pair(slope=1.0), COTANGENT)


def test_a_gradient_that_does_not_flow_at_all_is_told():
    got, mine, expected, right = pair()

    with fails("dx: none flows at all. Is something detached, or turned into numbers and back?"):
        assert_gradients_match(got.detach(), mine, expected, right, COTANGENT, "dx")


def test_a_gradient_that_does_not_reach_an_input_is_told():
    got, mine, expected, right = pair()
    mine["y"], right["y"] = t(1.0).requires_grad_(), t(1.0, dtype=torch.float64).requires_grad_()

    with fails("the gradient: none reaches y. Is something detached on the way, or y not used?"):
        assert_gradients_match(got, mine, expected * right["y"], right, COTANGENT)


def test_what_the_reference_does_not_use_is_passed_over():
    got, mine, expected, right = pair()
    mine["y"], right["y"] = t(1.0).requires_grad_(), t(1.0, dtype=torch.float64).requires_grad_()

    assert_gradients_match(got, mine, expected, right, COTANGENT)


def test_a_gradient_has_the_dtype_of_its_input():
    x = t(1.0, 2.0, dtype=torch.bfloat16).requires_grad_()
    right = t(1.0, 2.0, dtype=torch.float64).requires_grad_()

    assert_gradients_match(x * 3, {"x": x}, right * 3, {"x": right}, COTANGENT)


# --- errors --------------------------------------------------------------------------------------------------------


def refuse(message="no"):
    raise ValueError(message)


def fine():
    assert_close(t(1.0), t(1.0), "the result")


def learners(kind, message, *bases):
    """Return a function that raises an error of the learner's."""

    def call():
        raise error_from({"type": kind, "bases": [*bases, "Exception"], "message": message})

    return call


def test_a_refusal_passes_when_the_neighbouring_call_works():
    assert_rejects(refuse, "an odd head_dim", good=fine)
    assert_rejects(learners("OddError", "3", "ValueError"), "an odd head_dim", good=fine)


def test_refusing_everything_fails():
    with fails("an odd head_dim: a call that is fine was refused as well (no)."):
        assert_rejects(refuse, "an odd head_dim", good=refuse)


def test_answering_nonsense_next_door_fails():
    with pytest.raises(CheckFailure, match=r"^the result: 1 of 1 numbers"):
        assert_rejects(refuse, "an odd head_dim", good=lambda: assert_close(t(2.0), t(1.0), "the result"))


def test_a_call_that_goes_through_fails():
    with fails("an odd head_dim: this should raise ValueError, but the call went through."):
        assert_rejects(lambda: 3, "an odd head_dim", good=fine)


@pytest.mark.parametrize(
    "kind", ["TypeError", "RuntimeError", "IndexError", "KeyError", "AssertionError", "OverflowError"]
)
def test_another_error_is_not_the_one_asked_for(kind):
    with fails(f"an odd head_dim: this should raise ValueError, but {kind} came: look here"):
        assert_rejects(learners(kind, "look here", kind), "an odd head_dim", good=fine)


def test_a_failure_of_another_kind_in_the_bad_call_is_handed_on():
    with fails("x: 1 was expected, but 2 came."):
        assert_rejects(lambda: assert_close(torch.tensor(2), torch.tensor(1), "x"), "odd", good=fine)


# --- evidence ------------------------------------------------------------------------------------------------------


class Traced:
    """An ``impl`` that only counts."""

    def __init__(self, mixed=()):
        self.count = 0
        self.mixed = mixed

    @contextmanager
    def trace(self):
        self.count, seen = 0, SimpleNamespace(ops=[], mixed=self.mixed)
        yield seen
        seen.ops = [None] * self.count

    def run(self, count):
        self.count += count


@pytest.mark.parametrize("cost", [lambda n: 7, lambda n: 7 + n // 2, lambda n: 7 + int(math.log2(n))])
def test_less_than_an_operation_for_each_is_no_loop(cost):
    impl = Traced()

    assert_no_loop(impl, lambda n: impl.run(cost(n)), "tokens")


def test_an_operation_for_each_is_a_loop():
    impl = Traced()

    with fails(
        "3 tokens take 5 tensor operations, but 40 take 42. "
        "A loop over tokens is not allowed here: which operation takes them all at once?"
    ):
        assert_no_loop(impl, lambda n: impl.run(2 + n), "tokens")
    with pytest.raises(CheckFailure, match=r"^2 heads take 4"):
        assert_no_loop(impl, lambda n: impl.run(2 * n), "heads", sizes=(2, 4))


def test_results_on_the_device_of_the_input_pass():
    there = torch.empty(2, device="meta")

    assert_follows_device(Traced(), lambda: there, "the output")
    assert_follows_device(Traced(), lambda: (there, there), "output and weights")


def test_two_devices_that_met_are_told():
    with fails(
        "the output: tensors of two devices met in `aten::mm`. Make every new tensor on the device of the input."
    ):
        assert_follows_device(Traced(["aten::mm"]), lambda: torch.empty(2, device="meta"), "the output")


@pytest.mark.parametrize("result", [torch.ones(2), (torch.empty(2, device="meta"), torch.ones(2))])
def test_a_result_elsewhere_is_told(result):
    with fails("the output: the result should lie on 'meta', but it lies on 'cpu'."):
        assert_follows_device(Traced(), lambda: result, "the output")


def test_a_probe_sees_results_and_the_names_of_errors():
    assert observe(lambda: 3) == 3
    assert observe(refuse) == "raises ValueError"
    assert observe(learners("OddError", "3", "ValueError")) == "raises OddError"


# --- declarations --------------------------------------------------------------------------------------------------


def test_variants_say_what_they_are():
    @misconception(replaces="f", caught_by="test_f")
    def halves():
        """You halve.

        Why
        not?
        """

    @slip(replaces="f", caught_by="test_g")
    def typo():
        """Not shown."""

    @alternative(replaces="F")
    class ByHand(nn.Module):
        pass

    seen = [
        (v.kind, v.name, v.replaces, v.caught_by, v.message) for v in (x.__variant__ for x in (halves, typo, ByHand))
    ]
    assert seen == [
        ("misconception", "halves", "f", "test_f", "You halve. Why not?"),
        ("slip", "typo", "f", "test_g", ""),
        ("alternative", "ByHand", "F", None, ""),
    ]
    assert ByHand.__variant__.value is ByHand


def test_a_panel_is_a_heat_map_unless_it_is_told():
    panel = Panel("scores", torch.ones(2, 2))

    assert (panel.kind, panel.labels) == ("heatmap", ())
