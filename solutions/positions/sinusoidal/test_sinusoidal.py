"""The hidden suite of ``sinusoidal``, what the diagnosis asks, and the picture.

Numbers are compared with the printed formula in float64. Where a check is about the module alone, it looks at what the
module adds to x, or compares with the learner's own table, so that a mistake in the table does not fail it.
"""

import math

import pytest
import torch
from torch import Tensor

from grader.judge.suite import (
    CheckFailure,
    Panel,
    assert_close,
    assert_differs,
    assert_follows_default_device,
    assert_follows_device,
    assert_gradients_match,
    assert_no_loop,
    assert_rejects,
    assert_shape,
    observe,
    tolerance_of,
)

# --- what is right, and how far off an honest answer may be ----------------------------------------------


def on_paper(max_len: int, d_model: int, base: float = 10_000.0) -> Tensor:
    """Return the printed formula, number by number in float64, shape (max_len, D)."""
    speeds = [base ** (-2 * i / d_model) for i in range(d_model // 2)]
    rows = [[f(p * speed) for speed in speeds for f in (math.sin, math.cos)] for p in range(max_len)]
    return torch.tensor(rows, dtype=torch.float64)


def table_error(max_len: int) -> float:
    """Return how far off a sine may be whose angle was computed in float32: rounding grows with the position."""
    return 1e-6 + 4e-7 * (max_len - 1)


def assert_table(got: object, max_len: int, d_model: int, base: float, what: str, hint: str = "") -> None:
    """Compare with the formula, the first 64 rows more closely."""
    expected = on_paper(max_len, d_model, base)
    near = assert_shape(got, expected.shape, what, dtype=torch.float32)[:64]
    assert_close(near, expected[:64], what, dtype=torch.float32, tolerance=table_error(len(near)), hint=hint)
    assert_close(got, expected, what, dtype=torch.float32, tolerance=table_error(max_len), hint=hint)


def assert_sum(got: object, x: Tensor, rows: Tensor, what: str, hint: str = "") -> None:
    """Compare with x plus the rows; also in float64, where the table may have been rounded to float32."""
    expected = x.detach().double() + rows
    tolerance = tolerance_of(x.dtype, expected) + (0.0 if x.dtype == torch.bfloat16 else table_error(x.shape[1]))
    assert_close(got, expected, what, dtype=x.dtype, tolerance=tolerance, hint=hint)


def rows_of(impl, x: Tensor, base: float = 10_000.0) -> Tensor:
    """Return the rows that the learner's own table has for x, shape (T, D)."""
    T, D = x.shape[1:]
    return assert_shape(impl.sinusoidal_table(T, D, base), (T, D), f"sinusoidal_table({T}, {D}, {base:g})")


def make(impl, *sizes: float):
    """Return the learner's module in evaluation mode: training has a check of its own."""
    return impl.SinusoidalPositionEncoding(*sizes).eval()


def rows_added(module, x: Tensor, what: str) -> Tensor:
    """Return what the module adds to x, shape (B, T, D), and check that it adds something."""
    out = assert_shape(module(x), x.shape, what, dtype=x.dtype)
    assert_differs(out, x, what)
    return out.detach() - x.detach()


# --- the shapes, and numbers worked out by hand ----------------------------------------------------------


@pytest.mark.visible
def test_returns_the_right_shapes(impl, randn):
    """the shapes are right: the table is (max_len, D), the sum is (B, T, D)"""
    module = make(impl, 5, 8)
    seen = torch.zeros(0)

    for _ in range(2):
        x = randn(2, 5, 8)
        table = impl.sinusoidal_table(5, 8)
        out = module(x)

        assert_shape(table, (5, 8), "sinusoidal_table(5, 8)", dtype=torch.float32)
        assert_shape(out, (2, 5, 8), "the result for an x of shape (2, 5, 8)", dtype=torch.float32)
        assert_differs(out, x, "the result for an x of shape (2, 5, 8)")
        assert_differs(out, seen, "the result for another x")
        seen = out


@pytest.mark.visible
@pytest.mark.points(2)
def test_table_worked_out_by_hand(impl):
    """three positions and four columns: twelve numbers that a pocket calculator gives"""
    default = impl.sinusoidal_table(3, 4)
    other = impl.sinusoidal_table(max_len=3, d_model=4, base=100.0)

    by_hand = [  # 10000 ** (2/4) is 100: the sine and cosine of p, then those of p / 100
        [0.0, 1.0, 0.0, 1.0],
        [0.84147098, 0.54030231, 0.00999983, 0.99995000],
        [0.90929743, -0.41614684, 0.01999867, 0.99980001],
    ]
    assert_close(default, torch.tensor(by_hand), "sinusoidal_table(3, 4)", tolerance=table_error(3))
    by_hand = [  # 100 ** (2/4) is 10: those of p, then those of p / 10
        [0.0, 1.0, 0.0, 1.0],
        [0.84147098, 0.54030231, 0.09983342, 0.99500417],
        [0.90929743, -0.41614684, 0.19866933, 0.98006658],
    ]
    assert_close(
        other, torch.tensor(by_hand), "sinusoidal_table(max_len=3, d_model=4, base=100.0)", tolerance=table_error(3)
    )


@pytest.mark.visible
def test_row_of_position_zero(impl):
    """the first row belongs to position 0: sine 0, cosine 1, sine 0, cosine 1 ..."""
    for max_len, d_model in (1, 2), (4, 6), (2, 16):
        table = assert_shape(impl.sinusoidal_table(max_len, d_model), (max_len, d_model), "the table")

        by_hand = torch.tensor([[0.0, 1.0]]).repeat(1, d_model // 2)
        assert_close(table[:1], by_hand, f"the first row of sinusoidal_table({max_len}, {d_model})", tolerance=1e-6)


@pytest.mark.visible
def test_every_pair_has_its_own_speed(impl):
    """the speeds of the pairs follow the formula for every width and base"""
    for d_model, base in (2, 10_000.0), (6, 10_000.0), (6, 7.0), (6, 1.5), (10, 500_000.0), (64, 10_000.0), (512, 30.0):
        table = impl.sinusoidal_table(2, d_model, base)

        hint = "Row 1 shows how fast each pair is: which power of the base does the formula give for it?"
        assert_table(table, 2, d_model, base, f"sinusoidal_table(2, {d_model}, {base:g})", hint)


# --- what makes it this encoding -------------------------------------------------------------------------


@pytest.mark.visible
def test_dot_products_depend_on_the_distance(impl):
    """the dot product of two rows depends on how far apart they are, and not on where"""
    for d_model, base in (16, 10_000.0), (6, 20.0):
        table = assert_shape(impl.sinusoidal_table(12, d_model, base), (12, d_model), "the table").double()
        products = table @ table.T  # (12, 12)

        what = f"sinusoidal_table(12, {d_model}, {base:g})"
        ones = torch.full((12,), d_model / 2, dtype=torch.float64)  # sine and cosine squared, D/2 times
        hint = "Do the sine and the cosine of a pair share their angle?"
        assert_close(products.diagonal(), ones, f"{what}: each row times itself", tolerance=1e-4, hint=hint)
        moved = f"{what}: dot products of rows 1 to 11, and of rows 0 to 10 at the same distances"
        assert_close(products[1:, 1:], products[:-1, :-1], moved, tolerance=1e-4, hint=hint)
        assert_differs(table[1:], table[:-1], f"{what}: from one row to the next")


def test_far_positions(impl):
    """thousands of positions are as right as float32 can be"""
    for d_model, base in (4, 10_000.0), (6, 50.0):
        table = impl.sinusoidal_table(4100, d_model, base)

        hint = "If the first rows are right: in which dtype are the positions and the angles?"
        assert_table(table, 4100, d_model, base, f"sinusoidal_table(4100, {d_model}, {base:g})", hint)
        x = torch.ones(1, 4100, d_model)
        what = f"a module of 4100 positions, D = {d_model}, base {base:g}: the result for ones"
        assert_sum(make(impl, 4100, d_model, base)(x), x, table, what)


def test_table_of_many_sizes(impl, rng):
    """the table follows the formula for every length, width and base"""
    sizes = [(1, 2), (1, 6), (7, 2), (2, 14), (33, 34)]
    drawn = [(rng.randint(3, 40), 2 * rng.randint(2, 20)) for _ in range(3)]

    for max_len, d_model in sizes + drawn:
        for base in 10_000.0, rng.uniform(3.0, 1000.0):
            table = impl.sinusoidal_table(max_len, d_model, base)

            assert_table(table, max_len, d_model, base, f"sinusoidal_table({max_len}, {d_model}, {base:g})")


# --- the module ------------------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_sum_worked_out_by_hand(impl):
    """two tokens of two features: the rows (0, 1) and (sin 1, cos 1) are added to them"""
    module = make(impl, 2, 2)

    for x in [[[10.0, 20.0], [30.0, 40.0]]], [[[-1.0, 0.0], [0.0, 3.0]]]:
        out = module(torch.tensor(x))

        first, second = x[0]
        by_hand = [[[first[0], first[1] + 1.0], [second[0] + math.sin(1.0), second[1] + math.cos(1.0)]]]
        assert_close(out, torch.tensor(by_hand), f"x = {x}")


@pytest.mark.visible
def test_table_is_a_buffer_that_is_not_saved(impl, randn):
    """the table is a buffer with the name `table`; there are no parameters, and nothing is saved"""
    for base in 10_000.0, 50.0:
        module = impl.SinusoidalPositionEncoding(max_len=6, d_model=4, base=base).eval()
        right = assert_shape(impl.sinusoidal_table(6, 4, base), (6, 4), "sinusoidal_table(6, 4)")

        for when in "", " after a call":
            assert_empty(module.named_parameters(), f"named_parameters(){when}", "Which numbers are trained here?")
            assert_empty(
                module.state_dict().items(), f"state_dict(){when}", "Must it be saved, if it can be made anew?"
            )
            buffers = dict(module.named_buffers())
            if "table" not in buffers:
                there = ", ".join(buffers) or "none"
                raise CheckFailure(f"The module has no buffer `table`{when}. Its buffers: {there}.")
            assert_close(buffers["table"], right, f"the buffer `table` with base {base:g}{when}, and sinusoidal_table")
            x = randn(2, 6, 4)
            assert_close(module(x), x + buffers["table"], "the result, and x plus the buffer `table`")


def assert_empty(found, place: str, hint: str) -> None:
    names = ", ".join(name for name, _ in found)
    if names:
        raise CheckFailure(f"{place} should be empty, but it holds {names}. {hint}")


@pytest.mark.visible
def test_tokens_stay_as_they_are(impl, randn):
    """what is added does not depend on x, in training as in evaluation"""
    module = make(impl, 8, 16)

    for mode in "training", "evaluation":
        module.train(mode == "training")
        first, second = (rows_added(module, randn(4, 8, 16), f"the result in {mode}") for _ in range(2))

        assert_close(second, first, f"{mode}: what is added to one x and to another")


def test_the_mode_changes_nothing(impl, randn):
    """the same rows are added in training and in evaluation, with gradients and without"""
    module = make(impl, 6, 4)

    for B, T in (1, 6), (3, 1), (2, 4):
        expected = rows_added(module, randn(B, T, 4), f"the result in evaluation for B = {B}, T = {T}")
        for mode in "training", "evaluation":
            module.train(mode == "training")
            for kind in "an x that requires a gradient", "any other x", "any x under torch.no_grad()":
                x, what = randn(B, T, 4).requires_grad_("requires" in kind), f"the result in {mode} for {kind}"
                with torch.set_grad_enabled("no_grad" not in kind):
                    added = rows_added(module, x, what)

                assert_close(added, expected, f"B = {B}, T = {T}, {what}, less x, and the same in evaluation")


@pytest.mark.visible
def test_every_item_gets_the_same_rows(impl, randn):
    """every item of the batch gets the same rows, and each token another one, for any batch size"""
    module = make(impl, 5, 6)

    for B in 3, 1, 7:
        added = rows_added(module, randn(B, 4, 6), f"the result for B = {B}, T = 4")

        assert_close(added, added[:1].expand_as(added), f"B = {B}, T = 4: what is added to each item, and to item 0")
        assert_differs(added[:, 1:], added[:, :-1], f"B = {B}, T = 4: what is added, from one token to the next")


@pytest.mark.visible
def test_short_texts_get_the_first_rows(impl, randn):
    """a text shorter than max_len gets the first rows of the table"""
    module = make(impl, 9, 6)
    all_rows = rows_added(module, randn(2, 9, 6), "the result for T = 9, max_len = 9")

    for T in 1, 4, 8:
        added = rows_added(module, randn(2, T, 6), f"the result for T = {T}, max_len = 9")

        what = f"max_len = 9: what is added to the tokens of a text of {T}, and to the first {T} of a text of 9"
        assert_close(added, all_rows[:, :T], what)


@pytest.mark.points(2)
def test_sums_of_many_sizes(impl, randn, rng):
    """x plus the formula for odd sizes, sizes of 1, and other bases"""
    sizes = [(1, 1, 2, 1), (1, 1, 6, 4), (4, 1, 2, 1), (3, 5, 8, 5), (3, 6, 6, 6), (2, 70, 4, 100)]
    drawn = [(rng.randint(1, 6), rng.randint(2, 9), 2 * rng.randint(2, 9), rng.randint(9, 20)) for _ in range(3)]

    for B, T, D, max_len in sizes + drawn:
        for base in 10_000.0, rng.uniform(3.0, 1000.0):
            x = (1000.0 if B > 3 else 1.0) * randn(B, T, D)
            out = make(impl, max_len, D, base)(x)

            assert_sum(out, x, on_paper(T, D, base), f"B = {B}, T = {T}, D = {D}, max_len = {max_len}, base {base:g}")


def test_takes_strided_inputs(impl, randn):
    """a transposed, sliced or repeated x is as good as any"""
    module = make(impl, 7, 6, 100.0)
    several = {
        "transposed from (T, B, D)": randn(5, 3, 6).transpose(0, 1),
        "transposed from (B, D, T)": randn(3, 6, 5).transpose(1, 2),
        "every other feature of a wider": randn(3, 5, 12)[..., ::2],
        "every second token of a longer": randn(3, 10, 6)[:, 1::2],
        "repeated over the batch without a copy, an": randn(1, 5, 6).expand(3, 5, 6),
    }

    for kind, x in several.items():
        assert_sum(module(x), x, rows_of(impl, x, 100.0), f"{kind} x")


def test_bfloat16(impl, randn):
    """a bfloat16 module takes and returns bfloat16, with angles that are more precise"""
    for base in 10_000.0, 50.0:
        module = make(impl, 700, 4, base).bfloat16()
        x = randn(2, 600, 4, dtype=torch.bfloat16)
        out = module(x)

        hint = "If float32 is right already: bfloat16 has no 257. In which dtype are the angles computed?"
        assert_sum(out, x, on_paper(600, 4, base), f"600 tokens in bfloat16, base {base:g}", hint)


def test_float64(impl, randn):
    """a float64 module takes and returns float64, and rounds no token"""
    for base in 10_000.0, 50.0:
        module = make(impl, 40, 6, base).double()
        x, nothing = randn(2, 30, 6, dtype=torch.float64), torch.zeros(2, 30, 6, dtype=torch.float64)
        rows, hint = module(nothing).detach(), "Is x only a float32 on the way?"
        for training in False, True:
            module.train(training)
            out = module(x.requires_grad_(training))

            assert_sum(out, x, rows_of(impl, x.detach(), base), f"30 tokens in float64, base {base:g}")
            assert_close(out.detach() - rows, x.detach(), "float64: the result for x, less that for zeros", hint=hint)


# --- gradients, repeated calls, devices ------------------------------------------------------------------


def test_gradient_reaches_x(impl, randn):
    """the gradient of x is that of the result, in either mode, in every dtype and also the second time"""
    module = make(impl, 8, 6)

    for dtype in torch.float32, torch.float64, torch.bfloat16:
        module.to(dtype)
        for B, T, training in (2, 5, False), (2, 5, True), (1, 8, True), (3, 1, False):
            module.train(training)
            x, cotangent = randn(B, T, 6, dtype=dtype).requires_grad_(), randn(B, T, 6, dtype=dtype)
            true_x = x.detach().double().requires_grad_()
            what = f"B = {B}, T = {T} in {str(dtype).removeprefix('torch.')}"
            out = assert_shape(module(x), x.shape, f"{what}: the result", dtype=dtype)

            assert_differs(out, x, f"{what}: the result")
            expected = true_x + on_paper(T, 6)
            assert_gradients_match(out, {"x": x}, expected, {"x": true_x}, cotangent, f"{what}: the gradient")


def test_repeated_calls_stay_right(impl, randn):
    """a call is right whatever length, width, base, batch or dtype the calls before it had"""
    hint = "If single calls are right: is something kept from an earlier call that does not belong to this one?"
    sizes = [(5, 6, 100.0), (5, 6, 10_000.0), (5, 10, 100.0), (9, 6, 100.0), (3, 6, 100.0), (5, 6, 100.5)]
    modules = []

    for max_len, d_model, base in sizes:
        what = f"({max_len}, {d_model}, {base:g}) after other calls"
        assert_table(impl.sinusoidal_table(max_len, d_model, base), max_len, d_model, base, f"the table {what}", hint)
        modules.append(make(impl, max_len, d_model, base))
    for dtype in torch.float64, torch.float32, torch.float64:
        for (max_len, d_model, base), module in zip(sizes, modules, strict=True):
            module.to(dtype)
            for B, T in (2, 2), (3, max_len), (1, 1):
                x = randn(B, T, d_model, dtype=dtype)
                what = f"B = {B}, T = {T} in a module ({max_len}, {d_model}, {base:g}) after other calls"
                assert_sum(module(x), x, on_paper(T, d_model, base), what, hint)


def test_leaves_x_alone(impl, randn):
    """x is the same after the call"""
    module = make(impl, 6, 4)

    for T in 6, 3:
        x = randn(2, T, 4)
        before = x.clone()
        out = module(x)

        assert_close(x, before, "x after the call and before it", tolerance=0.0)
        assert_sum(out, before, rows_of(impl, x), f"T = {T}, max_len = 6")


def test_takes_all_tokens_at_once(impl, randn):
    """there is no loop over positions, tokens or the batch"""
    x = randn(40, 40, 6)
    module = make(impl, 40, 6)

    assert_sum(module(x), x, rows_of(impl, x), "40 tokens in a batch of 40")
    assert_no_loop(impl, lambda n: impl.sinusoidal_table(n, 6), "positions")
    assert_no_loop(impl, lambda n: impl.SinusoidalPositionEncoding(n, 6), "positions of a module")
    assert_no_loop(impl, lambda n: module(x[:2, :n]), "tokens")
    assert_no_loop(impl, lambda n: module(x[:n, :5]), "items of a batch")


def test_follows_the_device(impl, randn):
    """the module computes where it was moved, and the table is made on the default device"""
    x = randn(2, 4, 6)

    for base in 10_000.0, 100.0:
        here, moved = (make(impl, 5, 6, base) for _ in range(2))
        right = rows_of(impl, x, base)
        moved.to("meta")  # meta stands for any accelerator
        assert_follows_device(impl, lambda module=moved: module(x.to("meta")), "a module on the meta device")
        assert_follows_default_device(impl, lambda b=base: impl.sinusoidal_table(4, 6, b), "sinusoidal_table")
        assert_close(rows_of(impl, x, base), right, "the table on the CPU, after one on another device and before it")
        assert_sum(here(x), x, right, "a module on the CPU, after one on another device")


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_refuses_impossible_sizes(impl, randn):
    """an odd width, and sizes below 1, are refused with ValueError"""

    def good_table() -> None:
        assert_table(impl.sinusoidal_table(1, 2), 1, 2, 10_000.0, "sinusoidal_table(1, 2)")

    def good_sum() -> None:
        x = randn(2, 1, 2)
        assert_sum(make(impl, 1, 2)(x), x, on_paper(1, 2), "one token of two features")

    for max_len, d_model in (4, 5), (4, 1), (4, 0), (4, -2), (0, 4), (-1, 4):
        sizes = f"max_len = {max_len}, d_model = {d_model}"
        assert_rejects(
            lambda m=max_len, d=d_model: impl.sinusoidal_table(m, d), f"sinusoidal_table, {sizes}", good=good_table
        )
        assert_rejects(
            lambda m=max_len, d=d_model: impl.SinusoidalPositionEncoding(m, d), f"the module, {sizes}", good=good_sum
        )


@pytest.mark.visible
def test_refuses_longer_texts(impl, randn):
    """more tokens than max_len are refused with ValueError"""
    for max_len, T in (4, 5), (1, 3), (4, 9):
        module = make(impl, max_len, 6)

        def good(module=module, max_len=max_len) -> None:
            x = randn(6, max_len, 6)  # a batch larger than max_len is fine
            assert_sum(module(x), x, rows_of(impl, x), f"{max_len} tokens, max_len = {max_len}")

        for mode, B in ("evaluation", 1), ("training", 1), ("evaluation", 3), ("training", 3):
            module.train(mode == "training")
            what = f"{T} tokens, max_len = {max_len}, B = {B}, in {mode}"
            assert_rejects(lambda module=module, B=B, T=T: module(randn(B, T, 6)), what, good=good)


# --- what the diagnosis asks, and the picture ------------------------------------------------------------


def probe(impl):
    """Ask for the table and for sums; once those are right, for one thing after the other until one is wrong."""
    x, base = torch.tensor([(7 * n) % 11 - 5.0 for n in range(48)]).view(2, 3, 8), 50.0

    def module(max_len=5):
        return impl.SinusoidalPositionEncoding(max_len, 8, base).eval()

    def add(max_len):
        out = module(max_len)(x)
        return out.expand(x.shape) if out.dim() <= 3 and out.shape[-2:] == x.shape[-2:] else out  # rows alone

    seen = {
        "table": observe(lambda: impl.sinusoidal_table(5, 8, base)),
        "sum": observe(lambda: add(5)),
        "sum of all rows": observe(lambda: add(3)),
    }
    table = on_paper(5, 8, base).float()
    right = {"table": table, "sum": x + table[:3], "sum of all rows": x + table[:3]}
    if not all(_alike(seen[name], right[name]) for name in right):
        return seen

    def names():
        one = module()
        return (
            sorted(n for n, _ in one.named_parameters()),
            sorted(one.state_dict()),
            "table" in dict(one.named_buffers()),
        )

    def training_differs():
        one = module().train()
        ones = torch.ones(40, 5, 8)
        return not torch.equal(one(ones), one.eval()(ones))

    def far():
        one = impl.SinusoidalPositionEncoding(600, 2).bfloat16()
        return one(torch.zeros(1, 600, 2, dtype=torch.bfloat16))[:, 257:260]

    asked = {
        "names": (names, ([], [], True)),
        "training differs": (training_differs, False),
        "bfloat16": (far, on_paper(260, 2)[None, 257:].bfloat16()),
        "too long": (lambda: module(2)(x), "raises ValueError"),
    }
    for name, (ask, answer) in asked.items():
        seen[name] = observe(ask)
        if not _alike(seen[name], answer):
            break
    return seen


def _alike(got: object, right: object) -> bool:
    if isinstance(got, Tensor) and isinstance(right, Tensor):
        atol = 2e-2 if right.dtype == torch.bfloat16 else 1e-4
        return got.shape == right.shape and torch.allclose(got.detach().double(), right.double(), atol=atol)
    return type(got) is type(right) and got == right


def picture(impl) -> list[Panel]:
    """Show the table, and how alike two rows are that lie some positions apart."""
    length, d_model = 128, 64
    lines = []
    for base in 10_000.0, 100.0:
        table = impl.sinusoidal_table(length, d_model, base)
        lines.append(table @ table[0] / (d_model / 2))  # (length,), 1 where the distance is 0
    return [
        Panel("The table", impl.sinusoidal_table(length, d_model), "heatmap", "column", "position"),
        Panel(
            "Dot product of two rows",
            torch.stack(lines),
            "lines",
            "distance",
            "dot product, as a share of that at distance 0",
            ("base 10000", "base 100"),
        ),
    ]
