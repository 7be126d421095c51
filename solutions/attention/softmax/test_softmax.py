"""The hidden suite of ``softmax``, what the diagnosis asks, and the picture.

Nearly every check calls twice with the same shapes and different answers, so that none of them is passed by an answer
that was kept from before.
"""

import math

import pytest
import torch
from torch import Tensor

from grader.judge.suite import (
    Panel,
    assert_close,
    assert_differs,
    assert_follows_device,
    assert_gradients_match,
    assert_no_loop,
    assert_shape,
    observe,
)

PRECISE = (torch.float32, torch.float64)
COARSE = {torch.float32: 1e-3}  # float32 knows a number of 10 000 to this precision
INF = math.inf


def assert_same(impl, reference, x: Tensor, dim: int, what: str, hint: str = "") -> None:
    """Compare with the reference in float64, as closely as the dtype of ``x`` allows."""
    expected = reference.softmax(x.double(), dim)
    assert_close(impl.softmax(x, dim), expected, what, dtype=x.dtype, hint=hint)


def eighths(randint, *shape: int) -> Tensor:
    """Return multiples of 1/8 between -4 and 4: whole numbers can be added to them without rounding."""
    return randint(-32, 33, shape) / 8


def strew_minus_inf(x: Tensor, randint, dim: int) -> Tensor:
    """Return ``x`` with many numbers replaced by -inf, but never by chance a whole slice."""
    hidden = randint(0, 2, x.shape).bool()
    hidden.select(dim, 0).logical_and_(~hidden.all(dim=dim))
    return x.masked_fill(hidden, -INF)


# --- the shape, and numbers worked out by hand -----------------------------------------------------------


@pytest.mark.visible
def test_keeps_the_shape(impl, randn):
    """as many weights come back as numbers went in, in the same shape"""
    earlier = None

    for shape, dim in ((5,), 0), ((3, 4), 0), ((3, 4), 1), ((3, 4), 1), ((2, 3, 4), 1), ((2, 1, 3, 4), -1):
        x = randn(*shape)
        out = impl.softmax(x, dim)

        assert_shape(out, shape, f"softmax of an x of shape {shape} along dim {dim}", dtype=torch.float32)
        assert_differs(out, x, "softmax of x, and x")
        if earlier is not None:
            assert_differs(out, earlier, "softmax of another x")
        earlier = out


@pytest.mark.visible
@pytest.mark.points(2)
def test_numbers_worked_out_by_hand(impl):
    """slices of three numbers that can be done on paper"""
    for numbers, by_hand in (
        ([0.0, math.log(2), math.log(5)], [1 / 8, 2 / 8, 5 / 8]),
        ([math.log(5), 0.0, math.log(2)], [5 / 8, 1 / 8, 2 / 8]),
        ([-1.0, -1.0, -1.0 - math.log(3)], [3 / 7, 3 / 7, 1 / 7]),
    ):
        out = impl.softmax(torch.tensor(numbers))

        shown = ", ".join(f"{number:.4f}" for number in numbers)
        assert_close(out, torch.tensor(by_hand), f"the softmax of [{shown}]")


@pytest.mark.visible
@pytest.mark.points(2)
def test_rows_and_columns_by_hand(impl):
    """two rows and two columns, along rows and along columns; along the last dimension when no dim is given"""
    odds = torch.tensor([[1.0, 3.0], [4.0, 1.0]])
    by_row = torch.tensor([[1 / 4, 3 / 4], [4 / 5, 1 / 5]])
    by_column = torch.tensor([[1 / 5, 3 / 4], [4 / 5, 1 / 4]])

    for kind, turned in ("[[0, ln 3], [ln 4, 0]]", False), ("[[0, ln 4], [ln 3, 0]]", True):
        x = odds.T.log() if turned else odds.log()
        rows, columns = (by_column.T, by_row.T) if turned else (by_row, by_column)

        assert_close(impl.softmax(x), rows, f"x = {kind}, no dim given: every row sums to 1")
        for dim in 1, -1:
            assert_close(impl.softmax(x, dim), rows, f"x = {kind}, dim = {dim}: every row sums to 1")
        for dim in 0, -2:
            assert_close(impl.softmax(x, dim=dim), columns, f"x = {kind}, dim = {dim}: every column sums to 1")


# --- what makes it a softmax -----------------------------------------------------------------------------


def test_slices_sum_to_1(impl, randn):
    """no weight is negative and every slice sums to 1, in float64 too"""
    earlier = torch.zeros(0)

    for dtype in PRECISE:
        for shape, dim in ((4, 5), 1), ((4, 5), 1), ((7, 4), 0), ((2, 300, 3), 1), ((2, 3, 1), 2):
            x = 3.0 * randn(*shape, dtype=dtype)
            out = impl.softmax(x, dim)

            what = f"an x of shape {shape} in {str(dtype).removeprefix('torch.')}, dim = {dim}"
            assert_close(out, out.detach().clamp(min=0.0), f"{what}: weights below 0, which should be 0 or more")
            hint = "If only the last digits differ: is something added to the sum that is not one of the powers?"
            assert_close(out.sum(dim=dim), torch.ones_like(x.sum(dim=dim)), f"{what}: the sums", hint=hint)
            assert_differs(out, earlier, f"{what}, and another x before")
            earlier = out


def test_adding_a_number_changes_nothing(impl, randint):
    """a number that is added to a whole slice leaves its weights as they are"""
    x, other = eighths(randint, 3, 6), eighths(randint, 3, 6)

    out = impl.softmax(x, 1)
    assert_differs(impl.softmax(other, 1), out, "the softmax of another x")
    assert_close(out.sum(dim=1), torch.ones(3), "the sums of the slices")
    for shift in 1.0, -3.0, 20.0, torch.tensor([[7.0], [0.0], [-20.0]]):
        shown = shift if isinstance(shift, float) else "7, 0 and -20"
        assert_close(impl.softmax(x + shift, 1), out, f"three slices, with {shown} added to their numbers: the weights")


def test_the_order_of_the_numbers_does_not_matter(impl, randn):
    """numbers in another order get the same weights, in that order"""
    x, order = randn(3, 4), torch.tensor([2, 0, 3, 1])

    out = impl.softmax(x, 1)
    mixed = impl.softmax(x[:, order], 1)

    assert_close(mixed, out.detach()[:, order], "each slice in the order 2, 0, 3, 1: the weights, and those before")
    assert_differs(mixed, out, "the weights of x in another order")
    assert_close(out.sum(dim=1), torch.ones(3), "the sums of the slices")


# --- large numbers, and -inf -----------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_large_numbers(impl):
    """numbers of 10 000 and -10 000, in float32, float64 and bfloat16"""
    third, odds = 1 / 3, 1 / (1 + math.exp(-2.0))
    for dtype in (*PRECISE, torch.bfloat16):
        cases = [
            ([1e4, 1e4, -1e4], [1 / 2, 1 / 2, 0.0]),
            ([-1e4, 1e4, 0.0], [0.0, 1.0, 0.0]),
            ([-1e4, -1e4, -1e4], [third, third, third]),
        ]
        if dtype != torch.bfloat16:  # it has no 9998
            cases += [([9998.0, 1e4, 0.0], [1 - odds, odds, 0.0]), ([-9998.0, -1e4, -9e4], [odds, 1 - odds, 0.0])]
        for numbers, by_hand in cases:
            out = impl.softmax(torch.tensor(numbers, dtype=dtype), 0)

            what = f"the softmax of {[int(number) for number in numbers]} in {str(dtype).removeprefix('torch.')}"
            hint, right = "Which number is safe to take exp of?", torch.tensor(by_hand, dtype=dtype)
            assert_close(out, right, what, tolerance=COARSE.get(dtype), hint=hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_slices_far_apart(impl):
    """slices around 10 000, 0 and -10 000 in one tensor do not disturb each other"""
    numbers = torch.tensor([[1e4, 1e4, 1e4 - 1], [0.0, 2.0, 1.0], [-1e4, -1e4, -1e4 - 3], [500.0, -500.0, 500.0]])
    e, f, g = math.exp(-1), math.exp(-2), math.exp(-3)
    both = [
        [1 / (2 + e), 1 / (2 + e), e / (2 + e)],
        [f / (1 + e + f), 1 / (1 + e + f), e / (1 + e + f)],
        [1 / (2 + g), 1 / (2 + g), g / (2 + g)],
        [0.5, 0.0, 0.5],
    ]

    for dtype in PRECISE:
        x, by_hand = numbers.to(dtype), torch.tensor(both, dtype=torch.float64)
        for order in [0, 1, 2, 3], [3, 2, 0, 1]:
            rows, columns = impl.softmax(x[order], 1), impl.softmax(x[order].T, 0)

            what = "four slices, around 10000, 0, -10000 and at 500 and -500"
            hint = "If one such slice alone is right: which maximum is subtracted from which slice?"
            for got, right, kind in (rows, by_hand[order], "rows"), (columns, by_hand[order].T, "columns"):
                assert_close(got, right, f"{what}, as {kind}", dtype=dtype, tolerance=COARSE.get(dtype), hint=hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_minus_infinity_gets_nothing(impl, randn, randint):
    """-inf gets a weight of exactly 0, and the other numbers share what there is"""
    for numbers, by_hand in (
        ([-INF, 0.0, -INF, math.log(3)], [0.0, 1 / 4, 0.0, 3 / 4]),
        ([math.log(3), -INF, -INF, 0.0], [3 / 4, 0.0, 0.0, 1 / 4]),
        ([-1e4, -INF, -1e4, -INF], [1 / 2, 0.0, 1 / 2, 0.0]),
        ([-INF, -1e5, -1e5, -1e5], [0.0, 1 / 3, 1 / 3, 1 / 3]),
    ):
        out = impl.softmax(torch.tensor(numbers))
        assert_close(out, torch.tensor(by_hand), f"the softmax of [{', '.join(f'{n:.4f}' for n in numbers)}]")
    for dtype in PRECISE:
        for _ in range(2):
            x = strew_minus_inf(randn(5, 6, dtype=dtype), randint, 1)
            out = impl.softmax(x, 1)

            masked, what = out[x == -INF], "an x of shape (5, 6) with some numbers -inf"
            assert_close(masked, torch.zeros_like(masked), f"{what}: the weights of -inf", tolerance=0.0)
            assert_close(out.sum(dim=1), torch.ones(5, dtype=dtype), f"{what}: the sums of the slices")


@pytest.mark.visible
@pytest.mark.points(2)
def test_a_slice_of_minus_infinity_alone(impl):
    """a slice in which every number is -inf gets only zeros, beside slices that are as usual"""
    for dtype in (*PRECISE, torch.bfloat16):
        for empty, other, odds in (0, 1, 3.0), (1, 0, 4.0):
            x = torch.full((2, 2), -INF, dtype=dtype)
            x[other] = torch.tensor([0.0, math.log(odds)], dtype=dtype)
            by_hand = torch.zeros(2, 2, dtype=dtype)
            by_hand[other] = torch.tensor([1 / (1 + odds), odds / (1 + odds)], dtype=dtype)
            rows, columns, alone = impl.softmax(x), impl.softmax(x.T, 0), impl.softmax(x[empty])

            what = f"[-inf, -inf] beside [0, ln {odds:g}]"
            assert_close(rows, by_hand, f"{what}, as rows")
            assert_close(columns, by_hand.T, f"{what}, as columns")
            for dim in 0, 1, -1:
                single = impl.softmax(torch.tensor([[-INF]], dtype=dtype), dim)
                zero = torch.zeros(1, 1, dtype=dtype)
                assert_close(single, zero, f"[[-inf]], dim = {dim}: the weight of -inf alone", tolerance=0.0)
            for got in rows[empty], columns[:, empty], alone:
                assert_close(got, torch.zeros(2, dtype=dtype), f"{what}: the weights of -inf alone", tolerance=0.0)


# --- the numbers, on inputs of every kind ----------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_the_reference(impl, reference, randn, rng):
    """one to five dimensions, along each of them, sizes of 1 among them"""
    shapes = [(1,), (6,), (1, 1), (4, 1), (1, 4), (3, 3), (2, 3, 4), (3, 3, 3), (2, 1, 3, 4), (2, 2, 2, 2, 2)]
    shapes += [tuple(rng.randint(2, 7) for _ in range(dims)) for dims in (2, 3, 4)]

    for shape in shapes:
        for dim in range(-len(shape), len(shape)):
            assert_same(impl, reference, 2.0 * randn(*shape), dim, f"an x of shape {shape}, dim = {dim}")


def test_takes_strided_inputs(impl, reference, randn):
    """a transposed, sliced or repeated x is as good as any"""
    several = {
        "transposed": randn(3, 6, 4).transpose(0, 2),
        "every other number of a wider": randn(4, 6, 6)[..., ::2],
        "with its last dimension moved to the front": randn(6, 3, 4).movedim(-1, 0),
        "repeated without a copy, an": randn(1, 6, 3).expand(4, 6, 3),
        "the middle of a larger": randn(6, 9, 5)[1:5, 2:8, 1:4],
    }

    for kind, x in several.items():
        for dim in 0, 1, 2:
            assert_same(impl, reference, x, dim, f"{kind} x, dim = {dim}")


def test_float64(impl, reference, randn):
    """a float64 x comes back as float64, computed in float64 all the way"""
    for shape, dim in ((4, 5), 1), ((4, 5), 1), ((3, 4, 5), 2), ((6,), 0):
        x = 2.0 * randn(*shape, dtype=torch.float64)
        hint = "If float32 is right already: is anything rounded to float32 on the way, or added to the sum?"
        assert_same(impl, reference, x, dim, f"a float64 x of shape {shape}, dim = {dim}", hint)


def test_bfloat16(impl, reference, randn):
    """a bfloat16 x comes back as bfloat16"""
    for shape, dim in ((4, 5), 1), ((4, 5), 1), ((3, 4, 5), 2), ((2, 64), 1):
        x = 2.0 * randn(*shape).bfloat16()
        assert_same(impl, reference, x, dim, f"a bfloat16 x of shape {shape}, dim = {dim}")


@pytest.mark.points(2)
def test_gradient(impl, reference, randn, randint):
    """the gradient of x is that of the formula, with -inf among the numbers, and for large ones"""
    calls = [(4, 5, 1, "of about 1"), (4, 5, 1, "of about 1"), (4, 5, 0, "some of them -inf"), (3, 6, -1, "near 1e4")]

    for dtype in PRECISE:
        for rows, columns, dim, kind in calls:
            numbers = eighths(randint, rows, columns).to(dtype)
            if kind == "some of them -inf":
                numbers = strew_minus_inf(numbers, randint, dim)
            x = (numbers + 1e4 if kind == "near 1e4" else numbers).requires_grad_()
            wide = x.detach().double().requires_grad_()
            out, expected = impl.softmax(x, dim), reference.softmax(wide, dim)

            what = f"the gradient for numbers {kind}, dim = {dim}"
            tolerance, weights = COARSE.get(dtype) if kind == "near 1e4" else None, f"{what}: the weights, on the way"
            assert_close(out, expected, weights, dtype=dtype, tolerance=tolerance)
            cotangent = randn(rows, columns, dtype=dtype)
            assert_gradients_match(out, {"x": x}, expected, {"x": wide}, cotangent, what, tolerance=tolerance)


def test_gradient_of_other_shapes_and_dtypes(impl, reference, randn, randint):
    """the gradient of x with one dimension and with several, of single numbers, beside -inf alone, and in bfloat16"""
    calls = [((6,), 0, torch.float32), ((2, 3, 4), 1, torch.float32), ((2, 3, 4), -1, torch.float64)]
    calls += [((3, 1), 1, torch.float32), ((4, 5), 1, torch.bfloat16), ((6,), 0, torch.bfloat16)]
    calls += [((2, 1, 3, 4), 3, torch.float32)]

    for shape, dim, dtype in calls:
        x = eighths(randint, *shape).to(dtype).requires_grad_()
        wide = x.detach().double().requires_grad_()
        out, expected = impl.softmax(x, dim), reference.softmax(wide, dim)

        what = f"an x of shape {shape} in {str(dtype).removeprefix('torch.')}, dim = {dim}"
        assert_close(out, expected, f"{what}: the weights", dtype=dtype)
        tolerance, cotangent = 0.05 if dtype == torch.bfloat16 else None, randn(*shape, dtype=dtype)
        leaves, true_leaves = {"x": x}, {"x": wide}
        assert_gradients_match(
            out, leaves, expected, true_leaves, cotangent, f"{what}: the gradient", tolerance=tolerance
        )
    x = eighths(randint, 3, 5).requires_grad_()
    wide = x.detach().double().requires_grad_()
    nothing = torch.full((1, 5), -INF)  # whose own gradient is not asked for
    out, expected = impl.softmax(torch.cat((nothing, x)), 1)[1:], reference.softmax(wide, 1)
    what = "three slices below one of -inf alone: their gradient"
    assert_gradients_match(out, {"x": x}, expected, {"x": wide}, randn(3, 5), what)


def test_the_same_without_gradients(impl, reference, randint):
    """the weights are the same for an x that requires a gradient, for any other, and under torch.no_grad()"""
    for dtype in (*PRECISE, torch.bfloat16):
        for kind in "an x that requires a gradient", "any other x", "any x under torch.no_grad()":
            x = eighths(randint, 4, 6).to(dtype)
            x[1] = 1e4
            x[1, 3] = -1e4
            x[2, ::2] = -INF
            x[3] = -INF
            x.requires_grad_("requires" in kind)
            with torch.set_grad_enabled("no_grad" not in kind):
                out = impl.softmax(x, 1)

            what = f"{kind} in {str(dtype).removeprefix('torch.')}, slices of about 1, of 10000, with -inf and of -inf"
            expected = reference.softmax(x.detach().double(), 1)
            assert_close(out, expected, what, dtype=dtype, tolerance=COARSE.get(dtype))


# --- good manners ----------------------------------------------------------------------------------------


def test_repeated_calls(impl, reference, randn):
    """a call is right whatever shape, dim or dtype the calls before it had"""
    f32, f64, bf16 = torch.float32, torch.float64, torch.bfloat16
    calls = [
        ("in the first call", (3, 4), 1, f32),
        ("with other numbers", (3, 4), 1, f32),
        ("along another dim", (3, 4), 0, f32),
        ("in float64", (3, 4), 0, f64),
        ("with more numbers", (3, 7), 1, f64),
        ("with one dimension more", (2, 3, 7), 1, f64),
        ("in bfloat16", (2, 3, 7), 1, bf16),
        ("as in the first call", (3, 4), 1, f32),
    ]

    for change, shape, dim, dtype in calls:
        hint = "If single calls are right: is something kept from an earlier call that does not belong to this one?"
        assert_same(impl, reference, randn(*shape, dtype=f64).to(dtype), dim, f"softmax {change}", hint)


def test_leaves_x_alone(impl, reference, randn):
    """x is the same after the call"""
    for dim in 0, 1:
        x = randn(3, 4)
        x[1, 2] = -INF
        before = x.clone()

        impl.softmax(x, dim)

        assert_close(x, before, f"x after the call and before it, dim = {dim}", tolerance=0.0)
        assert_same(impl, reference, randn(3, 4), 1, "another x")


def test_no_loop(impl, reference, randn):
    """the number of tensor operations does not grow with the slices, nor with the numbers in one"""
    x = randn(40, 40)

    for dim in 0, 1:
        assert_same(impl, reference, randn(40, 40), 1, "40 slices of 40 numbers")
        assert_no_loop(impl, lambda n, d=dim: impl.softmax(x[:n, :3], d), "rows")
        assert_no_loop(impl, lambda n, d=dim: impl.softmax(x[:3, :n], d), "columns")


def test_follows_the_device(impl, reference, randn):
    """the weights lie where x lies, wherever the calls before were"""
    far = randn(3, 4).to("meta")  # meta stands for any accelerator

    for when in "on the CPU", "on the CPU, after a call on another device":
        assert_same(impl, reference, randn(3, 4), 1, f"x {when}")
        for dim in 0, 1:
            assert_follows_device(impl, lambda d=dim: impl.softmax(far, d), "softmax of an x on the meta device")


# --- diagnosis and picture -------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart; the rarer questions once the common ones are right."""
    small = torch.tensor([[0.0, 1.5, -2.0], [3.0, 0.5, 1.0], [-1.0, 2.0, 2.5]])
    seen = {f"dim {dim}": observe(lambda d=dim: impl.softmax(small, d)) for dim in (1, 0)}
    if not all(is_right(seen[f"dim {dim}"], small, dim) for dim in (1, 0)):
        return seen

    large = torch.tensor([[1e4, 9999.0, -1e4], [-1e4, -1e4, 9998.0], [9998.0, 9998.0, 1e4]])
    apart = torch.tensor([[1e4, 9999.0, 9999.0], [1.0, 0.0, 2.0], [-1e4, -1e4, -9999.0]])
    for name, x in ("large", large), ("far apart", apart):
        seen[name] = observe(lambda x=x: impl.softmax(x, 1))
        if not is_right(seen[name], x, 1):
            return seen

    seen["-inf alone"] = observe(lambda: impl.softmax(torch.tensor([[-INF, -INF], [0.0, 1.0]])))
    seen["float64"] = observe(lambda: precise(impl, small.double()))
    seen["gradient"] = observe(lambda: gradient(impl, small))
    return seen


def is_right(seen: object, x: Tensor, dim: int) -> bool:
    """Say whether ``seen`` is the softmax of an ``x`` without a slice of -inf alone."""
    right = torch.softmax(x.double(), dim)
    return isinstance(seen, Tensor) and seen.shape == x.shape and torch.allclose(seen.double(), right, atol=1e-3)


def precise(impl, x: Tensor) -> tuple[bool, str]:
    """Say whether ratios of weights are as fine as float64 is, and what becomes of the sums."""
    powers, weights = (x - x.amax(dim=1, keepdim=True)).exp(), impl.softmax(x, 1).double()
    ratios = (weights / weights[:, :1] / (powers / powers[:, :1]) - 1).abs().max()
    total = weights.sum(dim=1)
    added = powers.sum(dim=1) * (1 / total - 1)  # what was added to the sum of the powers, if that explains it
    if (total - 1).abs().max() < 1e-11:
        sums = "right"
    else:
        sums = "something added" if added.min() > 0.9 * added.max() > 0 else "rounded"
    return bool(ratios < 1e-11), sums


def gradient(impl, x: Tensor) -> Tensor | str:
    """Return the gradient of a sum of weights by their place, or what is known of it."""
    leaf, places = x.clone().requires_grad_(), torch.arange(9.0).view(3, 3)
    (impl.softmax(leaf, 1) * places).sum().backward()
    if leaf.grad is None:
        return "none"
    if bool(leaf.grad.isclose(torch.softmax(x, 1) * places, atol=1e-4).sum(dim=1).ge(2).all()):
        return "the sum is a constant"  # perhaps not the maximum, so one number of a slice may differ
    return leaf.grad


def picture(impl) -> list[Panel]:
    """Show how a temperature sharpens or flattens the weights, and which slices sum to 1."""
    scores = 3.0 * torch.sin(torch.arange(24.0) * (2 * math.pi / 24)) + torch.linspace(0.0, 1.0, 24)
    temperatures = 0.3, 1.0, 3.0, 30.0
    lines = torch.stack([impl.softmax(scores / t) for t in temperatures]).detach()  # (4, 24)
    labels = tuple(f"temperature {t:g}" for t in temperatures)

    table = torch.arange(6.0)[:, None].cos() * 2 + torch.arange(8.0).sin()  # (6, 8)
    table[2:4, 5:] = -INF
    return [
        Panel("softmax(scores / temperature)", lines, "lines", "number of the slice", "weight", labels),
        Panel("along dim 0, six numbers at -inf", impl.softmax(table, 0).detach(), x_label="column", y_label="row"),
        Panel("along dim 1, six numbers at -inf", impl.softmax(table, 1).detach(), x_label="column", y_label="row"),
    ]
