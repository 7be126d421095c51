"""The hidden suite of ``learnable``, what the diagnosis asks, and the picture.

Most checks load their own numbers into whatever has the table's shape: its name, its initial values and whether it is a
parameter have checks of their own.
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
    assert_follows_device,
    assert_gradients_match,
    assert_no_loop,
    assert_rejects,
    assert_shape,
    observe,
)


def table_of(module, *shape: int) -> Tensor:
    """Return the learner's parameter of that shape."""
    parameters = dict(module.named_parameters())
    return parameters[_name_of_the_table(parameters, shape, "named_parameters()")]


def make(impl, table: Tensor):
    """Return the learner's module with ``table`` for its own, in evaluation mode."""
    module = impl.LearnablePositionEncoding(*table.shape).eval()
    name = _name_of_the_table(module.state_dict(), tuple(table.shape), "state_dict()")
    module.load_state_dict({name: table}, strict=False)
    return module


def _name_of_the_table(found: dict[str, Tensor], shape: tuple[int, ...], place: str) -> str:
    names = [name for name, tensor in found.items() if tensor.is_floating_point() and tuple(tensor.shape) == shape]
    if len(names) != 1:
        came = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in found.items()) or "nothing"
        raise CheckFailure(f"{place} should hold one table of shape {shape}, but it holds {came}.")
    return names[0]


def assert_sum(got: object, x: Tensor, rows: Tensor, what: str, hint: str = "") -> None:
    """Compare with x plus the rows, computed in float64."""
    assert_close(got, x.detach().double() + rows.detach().double(), what, dtype=x.dtype, hint=hint)


def rows_added(module, x: Tensor, what: str) -> Tensor:
    """Return what the module adds to x, shape (B, T, D), and check that it adds something."""
    out = assert_shape(module(x), x.shape, what, dtype=x.dtype)
    assert_differs(out, x, what)
    return out.detach() - x.detach()


# --- shapes, names and a sum by hand ----------------------------------------------------------------------


@pytest.mark.visible
def test_returns_the_right_shape(impl, randn):
    """the sum has the shape of x, (B, T, D)"""
    module = make(impl, randn(5, 7))
    seen = torch.zeros(0)

    for _ in range(2):
        x = randn(2, 5, 7)
        out = module(x)

        assert_shape(out, (2, 5, 7), "the result for an x of shape (2, 5, 7)", dtype=torch.float32)
        assert_differs(out, x, "the result for an x of shape (2, 5, 7)")
        assert_differs(out, seen, "the result for another x")
        seen = out


@pytest.mark.visible
def test_parameter_name(impl, randn):
    """one parameter with the name `table`, shape (max_len, D), is saved and loaded, and nothing else"""
    module = impl.LearnablePositionEncoding(max_len=6, d_model=3).eval()

    for when in "", " after a call":
        for found, place in (
            (module.named_parameters(), "named_parameters()"),
            (module.state_dict().items(), "state_dict()"),
        ):
            names = {name: tuple(tensor.shape) for name, tensor in found}
            if names != {"table": (6, 3)}:
                came = ", ".join(f"{name} {shape}" for name, shape in names.items()) or "nothing"
                raise CheckFailure(f"{place}{when} should hold table (6, 3) and nothing else, but it holds {came}.")
        table, x = randn(6, 3), randn(2, 6, 3)
        module.load_state_dict({"table": table})
        assert_sum(module(x), x, table, "the result with a table that was loaded")


@pytest.mark.visible
@pytest.mark.points(2)
def test_sum_worked_out_by_hand(impl):
    """two texts of two tokens: the rows (1, 2) and (3, 4) are added to their tokens"""
    module = make(impl, torch.tensor([[1.0, 2.0], [3.0, 4.0]]))

    for x, by_hand in (
        (
            [[[10.0, 20.0], [30.0, 40.0]], [[0.0, 0.0], [5.0, -4.0]]],
            [[[11.0, 22.0], [33.0, 44.0]], [[1.0, 2.0], [8.0, 0.0]]],
        ),
        ([[[0.5, 0.0], [0.0, 1.0]], [[1.0, 1.0], [1.0, 1.0]]], [[[1.5, 2.0], [3.0, 5.0]], [[2.0, 3.0], [4.0, 5.0]]]),
    ):
        out = module(torch.tensor(x))

        assert_close(out, torch.tensor(by_hand), f"x = {x}, table = [[1, 2], [3, 4]]")


# --- initial values ---------------------------------------------------------------------------------------


def drawn(impl, max_len: int, d_model: int) -> Tensor:
    """Return the initial table of a new module in float64, divided by 0.02."""
    table = table_of(impl.LearnablePositionEncoding(max_len, d_model), max_len, d_model).detach()
    assert_close(table, table.double(), "the initial table", dtype=torch.float32)  # the dtype, and no NaN
    return table.double() / 0.02


@pytest.mark.visible
def test_initial_mean_and_spread(impl):
    """the initial values have mean 0 and standard deviation 0.02, whatever the sizes"""
    for max_len, d_model in (500, 200), (100, 1000), (1, 100_000), (100_000, 1):
        values = drawn(impl, max_len, d_model)

        n, what = values.numel(), f"max_len = {max_len}, D = {d_model}: the initial values"
        mean, std = 0.02 * float(values.mean()), 0.02 * float(values.std())
        if abs(std - 0.02) > 0.02 * 6 / math.sqrt(2 * n):  # six standard deviations, and below too
            raise CheckFailure(f"{what} should have a standard deviation of 0.02, but it is {std:.5f}.")
        if abs(mean) > 0.02 * 6 / math.sqrt(n):
            raise CheckFailure(f"{what} should have mean 0, but it is {mean:.5f}.")
    together = torch.stack([drawn(impl, 9, 12) for _ in range(60)])
    std = 0.02 * float(together.std())
    if abs(std - 0.02) > 0.02 * 6 / math.sqrt(2 * together.numel()):
        what = "the initial values of 60 modules with max_len = 9, D = 12"
        raise CheckFailure(f"{what} should have a standard deviation of 0.02, but it is {std:.5f}.")


@pytest.mark.visible
def test_initial_values_are_normal(impl):
    """the initial values follow a normal distribution, each drawn on its own and anew for each module"""
    first, second = drawn(impl, 500, 200), drawn(impl, 500, 200)

    n = first.numel()
    if first.std() == 0 or second.std() == 0:
        raise CheckFailure("All initial values are alike, but each should be drawn on its own.")
    unit = first / first.std()  # how large it should be is another check
    for edge in 1.0, 2.0, 3.0:
        expected, share = math.erfc(edge / math.sqrt(2)), float((unit.abs() > edge).double().mean())
        if abs(share - expected) > 6 * math.sqrt(expected * (1 - expected) / n):
            raise CheckFailure(
                f"{share:.2%} of {n} initial values are more than {edge:g} standard deviation(s) from 0. "
                f"Of a normal distribution it would be {expected:.2%}."
            )
    distinct = unit.unique().numel()
    if distinct < 0.9 * n:  # float32 has enough numbers: fewer than 1 in 100 is drawn twice
        raise CheckFailure(f"Of {n} initial values only {distinct} are different. Is every number drawn on its own?")
    other = second / second.std()
    pairs = {
        "each number and the one in the next row": unit[1:] * unit[:-1],
        "each number and the one in the next column": unit[:, 1:] * unit[:, :-1],
        "the same places of two modules": unit * other,
    }
    for which, products in pairs.items():
        correlation = float(products.mean())
        if abs(correlation) > 6 / math.sqrt(products.numel()):
            raise CheckFailure(
                f"{which} have a correlation of {correlation:.3f} at first, where it should be about 0. "
                "Is every number drawn on its own, and anew for each module?"
            )


# --- what is added, and where -----------------------------------------------------------------------------


@pytest.mark.visible
def test_tokens_stay_as_they_are(impl, randn):
    """what is added does not depend on x, in training as in evaluation"""
    module = make(impl, randn(8, 16))

    for mode in "training", "evaluation":
        module.train(mode == "training")
        first, second = (rows_added(module, randn(4, 8, 16), f"the result in {mode}") for _ in range(2))

        assert_close(second, first, f"{mode}: what is added to one x and to another")


def test_the_mode_changes_nothing(impl, randn):
    """the same rows are added in training and in evaluation, with gradients and without"""
    module = make(impl, randn(6, 5))

    for B, T in (1, 6), (3, 1), (2, 4):
        expected = rows_added(module, randn(B, T, 5), f"the result in evaluation for B = {B}, T = {T}")
        for mode in "training", "evaluation":
            module.train(mode == "training")
            for kind in "an x that requires a gradient", "any other x", "any x under torch.no_grad()":
                x, what = randn(B, T, 5).requires_grad_("requires" in kind), f"the result in {mode} for {kind}"
                with torch.set_grad_enabled("no_grad" not in kind):
                    added = rows_added(module, x, what)

                assert_close(added, expected, f"B = {B}, T = {T}, {what}, less x, and the same in evaluation")


@pytest.mark.visible
def test_every_item_gets_the_same_rows(impl, randn):
    """every item of the batch gets the same rows, and each token another one, for any batch size"""
    module = make(impl, randn(5, 7))

    for B in 3, 1, 7:
        added = rows_added(module, randn(B, 4, 7), f"the result for B = {B}, T = 4")

        assert_close(added, added[:1].expand_as(added), f"B = {B}, T = 4: what is added to each item, and to item 0")
        assert_differs(added[:, 1:], added[:, :-1], f"B = {B}, T = 4: what is added, from one token to the next")


@pytest.mark.visible
def test_short_texts_get_the_first_rows(impl, randn):
    """a text shorter than max_len gets the first rows of the table"""
    table = torch.arange(1.0, 10.0)[:, None] * torch.ones(9, 4)  # row t is full of t + 1
    module = make(impl, table)

    for T in 9, 1, 4, 8:
        added = rows_added(module, randn(2, T, 4), f"the result for T = {T}, max_len = 9")

        what = f"max_len = 9, table rows full of 1, 2, 3 ...: what is added to a text of {T}"
        assert_close(added, table[:T].expand(2, T, 4), what, hint="Which row belongs to the first token?")


@pytest.mark.points(2)
def test_matches_on_many_sizes(impl, randn, rng):
    """x plus the rows for odd sizes and sizes of 1"""
    sizes = [(1, 1, 1, 1), (1, 1, 6, 4), (4, 1, 3, 1), (3, 5, 7, 5), (2, 70, 4, 100)]
    sizes += [(rng.randint(1, 6), rng.randint(2, 9), rng.randint(2, 17), rng.randint(9, 20)) for _ in range(5)]

    for B, T, D, max_len in sizes:
        table = randn(max_len, D)
        module = make(impl, table)
        for scale in 1.0, 1000.0:
            x = scale * randn(B, T, D)
            what = f"B = {B}, T = {T}, D = {D}, max_len = {max_len}, numbers of about {scale:g} in x"
            assert_sum(module(x), x, table[:T], what)


def test_takes_strided_inputs(impl, randn):
    """a transposed, sliced or repeated x is as good as any"""
    table = randn(7, 6)
    module = make(impl, table)
    several = {
        "transposed from (T, B, D)": randn(5, 3, 6).transpose(0, 1),
        "transposed from (B, D, T)": randn(3, 6, 5).transpose(1, 2),
        "every other feature of a wider": randn(3, 5, 12)[..., ::2],
        "every second token of a longer": randn(3, 10, 6)[:, 1::2],
        "repeated over the batch without a copy, an": randn(1, 5, 6).expand(3, 5, 6),
    }

    for kind, x in several.items():
        assert_sum(module(x), x, table[:5], f"{kind} x")


def test_float64(impl, randn):
    """a float64 module takes and returns float64, and rounds nothing"""
    table = randn(8, 5)
    module = make(impl, table).double()

    for T in 8, 3:
        x = randn(2, T, 5, dtype=torch.float64)

        assert_sum(module(x), x, table[:T], f"float64, T = {T}", "If float32 is right: what is only a float32 here?")


def test_bfloat16(impl, randn):
    """a bfloat16 module takes and returns bfloat16"""
    table = randn(600, 3).bfloat16()
    module = make(impl, table.float()).bfloat16()

    for T in 600, 300:  # bfloat16 has no 257
        x = randn(2, T, 3, dtype=torch.bfloat16)

        assert_sum(module(x), x, table[:T], f"bfloat16, T = {T}")


# --- gradients --------------------------------------------------------------------------------------------


def gradient_of_the_table(module, table: Tensor, x: Tensor, cotangent: Tensor) -> Tensor:
    """Send ``cotangent`` back through the module, and return what arrives at the table."""
    out = assert_shape(module(x), x.shape, "the result")
    gradient = None
    if out.requires_grad:
        (gradient,) = torch.autograd.grad((out * cotangent).sum(), [table], allow_unused=True)
    if gradient is None:
        raise CheckFailure("No gradient reaches the table, so it would never be trained. Is it detached somewhere?")
    return gradient


@pytest.mark.visible
@pytest.mark.points(2)
def test_gradient_worked_out_by_hand(impl, randn):
    """two texts of two tokens and a table of three rows: the gradients of the rows, worked out on paper"""
    module = make(impl, randn(3, 2))
    table = table_of(module, 3, 2)

    for cotangent, by_hand in (
        ([[[1.0, 2.0], [3.0, 4.0]], [[10.0, 20.0], [30.0, 40.0]]], [[11.0, 22.0], [33.0, 44.0], [0.0, 0.0]]),
        ([[[1.0, 0.0], [0.0, 0.0]], [[1.0, 0.0], [0.0, -5.0]]], [[2.0, 0.0], [0.0, -5.0], [0.0, 0.0]]),
    ):
        gradient = gradient_of_the_table(module, table, randn(2, 2, 2), torch.tensor(cotangent))

        what = f"T = 2, max_len = 3, gradient of the result {cotangent}: that of the table"
        assert_close(gradient, torch.tensor(by_hand), what, hint="Each row is used once for every text of the batch.")


def test_rows_beyond_the_text_get_no_gradient(impl, randn):
    """only the rows that are used receive a gradient, the others exactly 0"""
    module = make(impl, randn(9, 4))
    table = table_of(module, 9, 4)

    for T in 5, 1, 8:
        gradient = gradient_of_the_table(module, table, randn(3, T, 4), 1.0 + randn(3, T, 4).abs())

        rest = gradient[T:]
        assert_close(rest, torch.zeros_like(rest), f"T = {T}: the gradient of rows {T} to 8", tolerance=0.0)
        unreached = (gradient[:T] == 0).all(dim=-1).nonzero().flatten().tolist()
        if unreached:
            raise CheckFailure(f"T = {T}: rows 0 to {T - 1} should receive a gradient, but rows {unreached} do not.")


@pytest.mark.points(2)
def test_gradients_match(impl, randn):
    """the gradients of x and of the table in either mode and every dtype, also the second time and after other sizes"""
    table = randn(8, 5)

    for dtype in torch.float32, torch.float64, torch.bfloat16:
        module = make(impl, table).to(dtype)
        mine = table_of(module, 8, 5)
        for B, T, training in (2, 5, False), (2, 5, True), (1, 8, dtype == torch.float64), (4, 1, True):
            module.train(training)
            x, cotangent = randn(B, T, 5, dtype=dtype).requires_grad_(), randn(B, T, 5, dtype=dtype)
            true_x, true_table = x.detach().double().requires_grad_(), table.double().requires_grad_()
            out = assert_shape(module(x), x.shape, f"the result for B = {B}, T = {T}", dtype=dtype)

            leaves, true_leaves = {"x": x, "the table": mine}, {"x": true_x, "the table": true_table}
            expected = true_x + true_table[:T]
            what = f"B = {B}, T = {T} in {str(dtype).removeprefix('torch.')}: the gradient"
            assert_gradients_match(out, leaves, expected, true_leaves, cotangent, what)


def test_training_shows(impl, randn):
    """steps of gradient descent bring the sum to a target"""
    target, x = randn(5, 6), randn(4, 5, 6)
    module = make(impl, randn(7, 6))
    table = table_of(module, 7, 6)

    for _ in range(2):  # one such step reaches the target, the second stays there
        out = assert_shape(module(x), x.shape, "the result")
        gradient = gradient_of_the_table(module, table, x, out.detach() - x - target)
        with torch.no_grad():
            table.sub_(gradient / 4)

    assert_sum(module(x), x, target, "two steps towards a target: the result")


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls_stay_right(impl, randn):
    """a call is right whatever length, batch, table or dtype the calls before it had"""
    hint = "If single calls are right: is something kept from an earlier call that does not belong to this one?"
    tables = [randn(5, 6), randn(5, 6), randn(9, 3)]
    modules = [make(impl, table) for table in tables]

    for dtype in torch.float64, torch.float32, torch.float32, torch.float64:
        for i, module in enumerate(modules):
            module.to(dtype)
            max_len, D = tables[i].shape
            tables[i] = randn(max_len, D)
            with torch.no_grad():
                table_of(module, max_len, D).copy_(tables[i])  # as an optimizer does it
            for B, T in (2, 2), (3, max_len), (1, 1), (2, 2):  # first as last, so that rows kept from then would fit
                x = randn(B, T, D, dtype=dtype)
                what = f"B = {B}, T = {T}, max_len = {max_len} after other calls"
                for grad in True, False:
                    with torch.set_grad_enabled(grad):
                        assert_sum(module(x), x, tables[i][:T], what, hint)


def test_leaves_x_alone(impl, randn):
    """x and the table are the same after the call"""
    table = randn(6, 3)
    module = make(impl, table)

    for T in 6, 4:
        x = randn(2, T, 3)
        before = x.clone()
        out = module(x)

        assert_close(x, before, "x after the call and before it", tolerance=0.0)
        assert_sum(out, before, table[:T], f"T = {T}, max_len = 6")
        saved = next((tensor for tensor in module.state_dict().values() if tensor.shape == table.shape), None)
        assert_close(saved, table, "the table after the call and before it", tolerance=0.0)


def test_takes_all_tokens_at_once(impl, randn):
    """there is no loop over tokens or over the batch"""
    table, x = randn(40, 6), randn(40, 40, 6)
    module = make(impl, table)

    assert_sum(module(x), x, table, "40 tokens in a batch of 40")
    assert_no_loop(impl, lambda n: module(x[:2, :n]), "tokens")
    assert_no_loop(impl, lambda n: module(x[:n, :5]), "items of a batch")
    assert_no_loop(impl, lambda n: impl.LearnablePositionEncoding(n, 6), "positions of a new module")


def test_follows_the_device(impl, randn):
    """the module computes where it was moved"""
    table = randn(5, 6)
    here, moved = make(impl, table), make(impl, table).to("meta")  # meta stands for any accelerator

    for T in 5, 3:
        x = randn(2, T, 6)
        assert_follows_device(impl, lambda x=x: moved(x.to("meta")), "the result on the meta device")
        assert_sum(here(x), x, table[:T], "the result on the CPU, after one on another device")


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_refuses_sizes_below_one(impl, randn):
    """sizes below 1 are refused with ValueError"""

    def good() -> None:
        table, x = randn(1, 1), randn(2, 1, 1)
        assert_sum(make(impl, table)(x), x, table, "one token of one feature")

    for max_len, d_model in (0, 4), (-1, 4), (4, 0), (4, -2):
        sizes = f"max_len = {max_len}, d_model = {d_model}"
        assert_rejects(lambda m=max_len, d=d_model: impl.LearnablePositionEncoding(m, d), sizes, good=good)


@pytest.mark.visible
def test_refuses_longer_texts(impl, randn):
    """more tokens than max_len are refused with ValueError"""
    for max_len, T in (4, 5), (1, 3), (4, 9):
        table = randn(max_len, 6)
        module = make(impl, table)

        def good(module=module, table=table) -> None:
            x = randn(6, len(table), 6)  # a batch larger than max_len is fine
            assert_sum(module(x), x, table, f"{len(table)} tokens, max_len = {len(table)}")

        for mode, B in ("evaluation", 1), ("training", 1), ("evaluation", 3), ("training", 3):
            module.train(mode == "training")
            what = f"{T} tokens, max_len = {max_len}, B = {B}, in {mode}"
            assert_rejects(lambda module=module, B=B, T=T: module(randn(B, T, 6)), what, good=good)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask for names, sums and gradients; once those are right, for one thing after the other until one is wrong."""
    x = torch.tensor([(7 * n) % 11 - 5.0 for n in range(24)]).view(2, 3, 4)
    table = torch.tensor([(5 * n) % 13 - 6.5 for n in range(20)]).view(5, 4)

    def module(max_len):
        one = impl.LearnablePositionEncoding(max_len, 4).eval()
        one.load_state_dict({"table": table[:max_len], "table.weight": table[:max_len]}, strict=False)
        return one

    def names():
        one = module(5)
        return sorted(name for name, _ in one.named_parameters()), sorted(one.state_dict())

    def add(max_len):
        first, second = (module(max_len)(x).detach() for _ in range(2))
        if first.shape != second.shape or not torch.equal(first, second):
            return "differs from module to module"
        return first.expand(x.shape) if first.dim() <= 3 and first.shape[-2:] == x.shape[-2:] else first  # rows alone

    def gradients():
        one = module(5)
        out = (one(x) * x).sum()
        found = torch.autograd.grad(out, list(one.parameters()), allow_unused=True) if out.requires_grad else []
        return [None if gradient is None else gradient.detach() for gradient in found]

    def training_differs():
        one, ones = module(5).train(), torch.ones(200, 5, 4)
        return not torch.equal(one(ones), one.eval()(ones))

    def start():
        parameters = [parameter.detach() for parameter in impl.LearnablePositionEncoding(200, 100).parameters()]
        spread = float(parameters[0].std())
        if spread == 0:
            return "all alike"
        beyond = float((parameters[0].abs() > 2 * spread).float().mean())  # 4.6 % of a normal distribution
        return "none far out" if beyond < 0.02 else round(2 * math.log2(spread / 0.02))

    right_gradient = torch.cat((x.sum(dim=0), torch.zeros(2, 4)))
    seen = {
        "names": observe(names),
        "sum": observe(lambda: add(5)),
        "sum of all rows": observe(lambda: add(3)),
    }
    right = {"names": (["table"], ["table"]), "sum": x + table[:3], "sum of all rows": x + table[:3]}
    asked = {
        "gradients": (gradients, [right_gradient]),
        "training differs": (training_differs, False),
        "start": (start, 0),
        "too long": (lambda: module(2)(x), "raises ValueError"),
    }
    if all(_alike(seen[name], right[name]) for name in right):
        for name, (ask, answer) in asked.items():
            seen[name] = observe(ask)
            if not _alike(seen[name], answer):
                break
    return seen


def _alike(got: object, right: object) -> bool:
    if isinstance(got, Tensor) and isinstance(right, Tensor):
        return got.shape == right.shape and torch.allclose(got.double(), right.double(), atol=1e-4)
    if isinstance(got, list) and isinstance(right, list):
        return len(got) == len(right) and all(map(_alike, got, right))
    return type(got) is type(right) and got == right


def picture(impl) -> list[Panel]:
    """Show the table before any training, and how alike its rows are: there is no order in it yet."""
    table = table_of(impl.LearnablePositionEncoding(64, 48), 64, 48).detach()
    return [
        Panel("The table at the start", table, "heatmap", "column", "position"),
        Panel("Dot products of its rows", table @ table.T, "heatmap", "position", "position"),
    ]
