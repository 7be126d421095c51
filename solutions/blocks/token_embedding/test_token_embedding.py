"""The hidden suite of ``token_embedding``, what the diagnosis asks, and the picture.

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
    assert_no_loop,
    assert_rejects,
    assert_shape,
    assert_tensor,
    observe,
)


def table_of(module, *shape: int) -> Tensor:
    """Return the learner's parameter of that shape."""
    parameters = dict(module.named_parameters())
    return parameters[_name_of_the_table(parameters, shape, "named_parameters()")]


def make(impl, table: Tensor):
    """Return the learner's module with ``table`` for its own, in evaluation mode."""
    module = impl.TokenEmbedding(*table.shape).eval()
    name = _name_of_the_table(module.state_dict(), tuple(table.shape), "state_dict()")
    module.load_state_dict({name: table}, strict=False)
    return module


def _name_of_the_table(found: dict[str, Tensor], shape: tuple[int, ...], place: str) -> str:
    names = [name for name, tensor in found.items() if tensor.is_floating_point() and tuple(tensor.shape) == shape]
    if len(names) != 1:
        came = ", ".join(f"{name} {tuple(tensor.shape)}" for name, tensor in found.items()) or "nothing"
        raise CheckFailure(f"{place} should hold one table of shape {shape}, but it holds {came}.")
    return names[0]


def assert_looked_up(got: object, ids: Tensor, table: Tensor, what: str, hint: str = "") -> None:
    """Compare with the rows of ``table`` up to one factor, so that a wrong one does not fail every check."""
    tensor, rows = assert_tensor(got, what), table.detach().double()[ids]
    factor = float(rows.norm() / tensor.detach().double().norm())
    assert_close(tensor * factor if 0 < factor < math.inf else tensor, rows, what, dtype=table.dtype, hint=hint)


# --- shapes, names and rows by hand -----------------------------------------------------------------------


@pytest.mark.visible
def test_returns_the_right_shape(impl, randn):
    """every id becomes a vector of D numbers, shape (B, T, D)"""
    module = make(impl, randn(10, 7))
    seen = torch.zeros(0)

    for ids in torch.arange(10).view(2, 5), torch.arange(10).flip(0).view(2, 5), torch.tensor([[3], [9], [0]]):
        out = module(ids)

        shape = (*ids.shape, 7)
        assert_shape(out, shape, f"the result for ids of shape {tuple(ids.shape)}, D = 7", dtype=torch.float32)
        assert_differs(out, seen, "the result for other ids")
        seen = out


@pytest.mark.visible
def test_parameter_name(impl, randn):
    """one parameter with the name `table`, shape (V, D), is saved and loaded, and nothing else"""
    module = impl.TokenEmbedding(6, 3).eval()

    for when in "", " after a call":
        for found, place in (
            (module.named_parameters(), "named_parameters()"),
            (module.state_dict().items(), "state_dict()"),
        ):
            names = {name: tuple(tensor.shape) for name, tensor in found}
            if names != {"table": (6, 3)}:
                came = ", ".join(f"{name} {shape}" for name, shape in names.items()) or "nothing"
                raise CheckFailure(f"{place}{when} should hold table (6, 3) and nothing else, but it holds {came}.")
        table = randn(6, 3)
        module.load_state_dict({"table": table})
        ids = torch.tensor([[4, 0]])
        assert_looked_up(module(ids), ids, table, "the result with a table that was loaded")


@pytest.mark.visible
@pytest.mark.points(2)
def test_rows_worked_out_by_hand(impl):
    """a table of three rows of four numbers: the rows of the ids, times sqrt(4) = 2"""
    module = make(impl, torch.tensor([[1.0, 2.0, 3.0, 4.0], [0.0, -1.0, 0.0, 5.0], [10.0, 20.0, 30.0, 40.0]]))

    first, second, third = [2.0, 4.0, 6.0, 8.0], [0.0, -2.0, 0.0, 10.0], [20.0, 40.0, 60.0, 80.0]
    for ids, by_hand in (
        ([[0, 1], [2, 2]], [[first, second], [third, third]]),
        ([[1, 2], [0, 1]], [[second, third], [first, second]]),
    ):
        out = module(torch.tensor(ids))

        assert_close(out, torch.tensor(by_hand), f"ids {ids}, table rows (1, 2, 3, 4), (0, -1, 0, 5), (10, 20, 30, 40)")


@pytest.mark.visible
def test_rows_are_scaled_by_the_root_of_the_width(impl, randint):
    """the rows are multiplied by sqrt(D), whatever V and T are"""
    for V, D in (5, 1), (7, 4), (30, 9), (2, 16), (11, 12), (3, 100):
        ids, signs = randint(0, V, (2, 3)), 1.0 - 2.0 * randint(0, 2, (V, D))
        ids[0, 0], signs[:, 0] = V - 1, torch.arange(V) + 1.0  # a number that belongs to one row only
        out = assert_shape(make(impl, signs)(ids), (2, 3, D), f"the result for V = {V}, D = {D}")

        what = f"V = {V}, D = {D}: result / table row"
        factor = torch.full((2, 3, D), math.sqrt(D))
        assert_close(out / signs[ids], factor, what, hint="By what are the rows multiplied?")


# --- initial values ---------------------------------------------------------------------------------------


def drawn(impl, vocab_size: int, d_model: int) -> Tensor:
    """Return the initial table of a new module in float64, times the root of D."""
    table = table_of(impl.TokenEmbedding(vocab_size, d_model), vocab_size, d_model).detach()
    assert_close(table, table.double(), "the initial table", dtype=torch.float32)  # the dtype, and no NaN
    return table.double() * math.sqrt(d_model)


@pytest.mark.visible
def test_initial_mean_and_spread(impl):
    """the initial values have mean 0 and standard deviation D**-0.5, whatever V is"""
    for V, D in (2000, 25), (100, 400), (1, 40_000), (40_000, 1):
        values = drawn(impl, V, D)

        n, what = values.numel(), f"V = {V}, D = {D}: the initial values"
        mean, std = float(values.mean()), float(values.std())
        if abs(std - 1) > 6 / math.sqrt(2 * n):  # six standard deviations, and below too
            right = f"a standard deviation of D**-0.5 = {D**-0.5:.5f}"
            raise CheckFailure(f"{what} should have {right}, but it is {std * D**-0.5:.5f}.")
        if abs(mean) > 6 / math.sqrt(n):
            raise CheckFailure(f"{what} should have mean 0, but it is {mean * D**-0.5:.5f}.")


@pytest.mark.visible
def test_initial_values_are_normal(impl):
    """the initial values follow a normal distribution, each drawn on its own and anew for each module"""
    first, second = drawn(impl, 400, 150), drawn(impl, 400, 150)

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
    apart = [i for i, size in enumerate(unit.pow(2).mean(dim=1).tolist()) if not 0.3 < size < 2.5]  # chi-squared / 150
    if apart:
        raise CheckFailure(f"Row {apart[0]} of the initial table is drawn in another way than the others.")
    spread = float(unit.pow(2).mean(dim=1).std())  # of chi-squared / 150, a standard deviation of 0.115
    if not 0.07 < spread < 0.17:
        raise CheckFailure(
            f"The mean squares of the rows have a standard deviation of {spread:.3f}, where it should be about 0.115. "
            "Is every number drawn on its own, without regard to the others of its row?"
        )
    pairs = {
        "each number and the one in the next row": unit[1:] * unit[:-1],
        "each number and the one in the next column": unit[:, 1:] * unit[:, :-1],
        "the same places of two modules": unit * second / second.std(),
    }
    for which, products in pairs.items():
        correlation = float(products.mean())
        if abs(correlation) > 6 / math.sqrt(products.numel()):
            raise CheckFailure(
                f"{which} have a correlation of {correlation:.3f} at first, where it should be about 0. "
                "Is every number drawn on its own, and anew for each module?"
            )


# --- what comes out, and for which ids --------------------------------------------------------------------


@pytest.mark.visible
def test_a_token_has_one_vector(impl, randn):
    """an id gets the same vector wherever it stands, in training as in evaluation, and other ids get others"""
    module = make(impl, randn(5, 8))

    for mode in "training", "evaluation":
        module.train(mode == "training")
        for ids in torch.tensor([[0, 3, 1], [3, 4, 3]]), torch.tensor([[2, 0, 0], [1, 3, 0]]):
            out = assert_shape(module(ids), (2, 3, 8), f"the result in {mode}").detach()

            for (b, t), (c, s) in (((0, 1), (1, 0)), ((0, 1), (1, 2)), ((0, 1), (0, 2)), ((0, 0), (1, 1))):
                one, other = int(ids[b, t]), int(ids[c, s])
                what = f"{mode}: id {one} at [{b}, {t}] and id {other} at [{c}, {s}]"
                if one == other:
                    assert_close(out[c, s], out[b, t], f"{what}: their vectors", tolerance=0.0)
                else:
                    assert_differs(out[c, s], out[b, t], f"from one to the other, {what}")


@pytest.mark.points(2)
def test_matches_on_many_sizes(impl, randn, randint, rng):
    """the scaled rows for odd sizes, sizes of 1, the first id and the last"""
    sizes = [(1, 1, 1, 1), (1, 1, 6, 4), (4, 1, 3, 1), (3, 5, 7, 5), (5, 5, 5, 5), (2, 70, 1, 3), (1, 2, 2000, 100)]
    sizes += [(rng.randint(1, 6), rng.randint(2, 9), rng.randint(2, 30), rng.randint(2, 17)) for _ in range(4)]

    for B, T, V, D in sizes:
        table, ids = randn(V, D), randint(0, V, (B, T))
        ids.view(-1)[-1], ids.view(-1)[0] = 0, V - 1
        module, what = make(impl, table), f"B = {B}, T = {T}, V = {V}, D = {D}"
        rows = table.double()[ids] * math.sqrt(D)
        assert_close(module(ids), rows, what, dtype=torch.float32)
        with torch.no_grad():
            assert_close(module(ids), rows, f"{what}, under no_grad", dtype=torch.float32)


def test_takes_strided_ids(impl, randn, randint):
    """transposed, sliced or repeated ids are as good as any"""
    table = randn(9, 6)
    module = make(impl, table)
    several = {
        "transposed from (T, B)": randint(0, 9, (5, 3)).T,
        "every second token of longer": randint(0, 9, (3, 10))[:, 1::2],
        "every second text of more": randint(0, 9, (6, 5))[::2],
        "repeated over the batch without a copy,": randint(0, 9, (1, 5)).expand(3, 5),
    }

    for kind, ids in several.items():
        assert_looked_up(module(ids), ids, table, f"{kind} ids")


def test_float64(impl, randn, randint):
    """a float64 module returns float64, and rounds nothing"""
    for D in 4, 16:
        table, ids = randn(8, D, dtype=torch.float64), randint(0, 8, (2, 5))
        module = make(impl, table.float()).double()
        with torch.no_grad():
            table_of(module, 8, D).copy_(table)  # numbers that float32 does not hold

        rows, hint = table[ids] * math.sqrt(D), "If float32 is right: what is only a float32 here?"
        assert_close(module(ids), rows, f"float64, D = {D}", hint=hint)


def test_bfloat16(impl, randn, randint):
    """a bfloat16 module returns bfloat16, for large ids too"""
    table = randn(600, 6).bfloat16()
    module = make(impl, table.float()).bfloat16()

    for _ in range(2):
        ids = randint(257, 600, (3, 20))  # bfloat16 has no 257
        assert_looked_up(module(ids), ids, table, "bfloat16, V = 600")


# --- gradients --------------------------------------------------------------------------------------------


def gradient_of_the_table(module, table: Tensor, ids: Tensor, cotangent: Tensor) -> Tensor:
    """Send ``cotangent`` back through the module, and return what arrives at the table."""
    out = assert_shape(module(ids), cotangent.shape, "the result")
    gradient = None
    if out.requires_grad:
        (gradient,) = torch.autograd.grad((out * cotangent.to(out.dtype)).sum(), [table], allow_unused=True)
    if gradient is None:
        raise CheckFailure("No gradient reaches the table, so it would never be trained. Is it detached somewhere?")
    return gradient


@pytest.mark.visible
@pytest.mark.points(2)
def test_gradient_worked_out_by_hand(impl, randn):
    """two texts of two tokens and a table of four rows: the gradients of the rows, worked out on paper"""
    module = make(impl, randn(4, 4))
    table = table_of(module, 4, 4)
    steps = torch.tensor([1.0, 10.0, 100.0, 1000.0])
    cotangent = steps.view(2, 2, 1) * torch.tensor([1.0, 2.0, 0.0, -1.0])

    for ids, by_hand in (([[0, 2], [2, 2]], [1.0, 0.0, 1110.0, 0.0]), ([[3, 1], [0, 3]], [100.0, 10.0, 0.0, 1001.0])):
        gradient = gradient_of_the_table(module, table, torch.tensor(ids), cotangent)

        expected = 2.0 * torch.tensor(by_hand)[:, None] * torch.tensor([1.0, 2.0, 0.0, -1.0])
        what = f"ids {ids}, D = 4, gradients (1, 2, 0, -1) times 1, 10, 100, 1000 at the four tokens: that of the table"
        assert_close(gradient, expected, what, hint="How often is each row used, and what is it multiplied by?")


@pytest.mark.points(2)
def test_gradients_match(impl, randn, randint):
    """the gradient of the table in either mode, also the second time and after other sizes"""
    start = randn(8, 4)

    for dtype in torch.float32, torch.float64, torch.bfloat16:
        module = make(impl, start).to(dtype).train(dtype == torch.float64)
        table = table_of(module, 8, 4)
        for B, T in (2, 5), (2, 5), (1, 8), (4, 1), (1, 1), (6, 4):
            ids, cotangent = randint(0, 7, (B, T)), randn(B, T, 4, dtype=dtype)
            gradient = gradient_of_the_table(module, table, ids, cotangent)

            expected = torch.zeros(8, 4, dtype=torch.float64)
            expected.index_add_(0, ids.flatten(), 2.0 * cotangent.double().view(-1, 4))
            what = f"{str(dtype).removeprefix('torch.')}, B = {B}, T = {T}: the gradient of the table"
            assert_close(gradient, expected, what, dtype=dtype)
            unused = torch.ones(8, dtype=torch.bool).index_fill_(0, ids.flatten(), False)
            rest = gradient[unused]
            assert_close(rest, torch.zeros_like(rest), f"{what}, at tokens that do not occur", tolerance=0.0)


def test_training_shows(impl, randn):
    """steps of gradient descent bring the vectors of the tokens to a target"""
    target, ids = randn(1, 4, 6), torch.tensor([[3, 0, 4, 1]])
    module = make(impl, randn(7, 6))
    table = table_of(module, 7, 6)

    for _ in range(2):  # one such step reaches the target, the second stays there
        out = assert_shape(module(ids), (1, 4, 6), "the result")
        gradient = gradient_of_the_table(module, table, ids, out.detach() - target)
        with torch.no_grad():
            table.sub_(gradient / 6)

    assert_close(module(ids), target, "two steps towards a target: the result")


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls_stay_right(impl, randn, randint):
    """a call is right whatever sizes, ids, table or dtype the calls before it had"""
    hint = "If single calls are right: is something kept from an earlier call that does not belong to this one?"
    shapes = [(5, 4), (5, 4), (9, 16), (4, 1)]
    modules = [make(impl, randn(*shape)) for shape in shapes]

    for dtype in torch.float32, torch.float64, torch.float32:
        for (V, D), module in zip(shapes, modules, strict=True):
            module.to(dtype)
            table = randn(V, D, dtype=dtype)
            with torch.no_grad():
                table_of(module, V, D).copy_(table)  # as an optimizer does it
            for B, T in (2, 2), (2, 2), (3, 7), (1, 1):
                ids = randint(0, V, (B, T))
                assert_looked_up(module(ids), ids, table, f"B = {B}, T = {T}, V = {V}, D = {D} after other calls", hint)
    for _ in range(2):
        table, ids = randn(5, 4), randint(0, 5, (2, 3))
        with torch.no_grad():
            table_of(modules[0], 5, 4).copy_(table)
            assert_looked_up(modules[0](ids), ids, table, "under no_grad, after the table was changed", hint)


def test_leaves_ids_and_table_alone(impl, randn, randint):
    """the ids and the table are the same after the call"""
    table = 5.0 * randn(6, 3)
    module = make(impl, table)

    for _ in range(2):
        ids = randint(0, 6, (2, 4))
        ids[0, 0], ids[1, 3] = 0, 5  # the first id and the last
        before = ids.clone()
        out = module(ids)

        assert_close(ids, before, "the ids after the call and before it")
        assert_looked_up(out, before, table, "V = 6, D = 3")
        saved = next((tensor for tensor in module.state_dict().values() if tensor.shape == table.shape), None)
        assert_close(assert_tensor(saved, "the table"), table, "the table after the call and before it", tolerance=0.0)


def test_takes_all_tokens_at_once(impl, randn, randint):
    """there is no loop over tokens, over the batch or over the vocabulary"""
    table = randn(40, 6)
    module = make(impl, table)

    for _ in range(2):
        ids = randint(0, 3, (40, 40))
        assert_looked_up(module(ids), ids, table, "40 tokens in a batch of 40")
    assert_no_loop(impl, lambda n: module(ids[:2, :n]), "tokens")
    assert_no_loop(impl, lambda n: module(ids[:n, :5]), "items of a batch")
    assert_no_loop(impl, lambda n: impl.TokenEmbedding(n, 6)(ids[:2, :5]), "tokens of the vocabulary")


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_refuses_sizes_below_one(impl, randn):
    """sizes below 1 are refused with ValueError"""

    def good() -> None:
        table = randn(1, 1)
        assert_close(make(impl, table)(torch.tensor([[0, 0]])), table.expand(1, 2, 1), "one token of one feature")

    for V, D in (0, 4), (-1, 4), (4, 0), (4, -2):
        assert_rejects(lambda V=V, D=D: impl.TokenEmbedding(V, D), f"vocab_size = {V}, d_model = {D}", good=good)


def refuses(impl, randn, randint, bad_ids, V: int) -> None:
    """Check that each of ``bad_ids`` is refused, alone and among others, where all ids from 0 to V - 1 pass."""
    table = randn(V, 4)
    module = make(impl, table)

    def good() -> None:
        ids = randint(0, V, (2, max(V, 5)))
        ids[1, :V] = torch.arange(V)
        assert_looked_up(module(ids), ids, table, f"ids from 0 to {V - 1}, V = {V}")

    for row, bad in enumerate(bad_ids, start=1):
        among = randint(0, V, (3, 4))
        among[-row % 3, 2] = bad
        for ids, where in (torch.tensor([[bad]]), "alone"), (among, "among ids that are fine"):
            module.train(where == "alone")
            assert_rejects(lambda ids=ids: module(ids), f"the id {bad} {where}, V = {V}", good=good)


@pytest.mark.visible
def test_refuses_ids_beyond_the_vocabulary(impl, randn, randint):
    """an id of V or more is refused with ValueError"""
    for V, bad_ids in (5, (5, 6, 65_536, 2**32)), (1, (1, 2)):
        refuses(impl, randn, randint, bad_ids, V)


@pytest.mark.visible
def test_refuses_negative_ids(impl, randn, randint):
    """an id below 0 is refused with ValueError"""
    for V, bad_ids in (5, (-1, -5, -6)), (1, (-1, -100)):
        refuses(impl, randn, randint, bad_ids, V)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask for names, rows, gradients, the start and what becomes of ids outside of the vocabulary."""
    table = torch.tensor([(5 * n) % 13 - 6.5 for n in range(20)]).view(5, 4)
    ids = torch.tensor([[0, 3, 1], [3, 4, 3]])

    def module():
        one = impl.TokenEmbedding(5, 4).eval()
        one.load_state_dict({"table": table, "table.weight": table}, strict=False)
        return one

    def names():
        one = module()
        return sorted(name for name, _ in one.named_parameters()), sorted(one.state_dict())

    def gradients():
        one = module()
        out = (one(ids) * torch.arange(1.0, 7.0).view(2, 3, 1)).sum()
        found = torch.autograd.grad(out, list(one.parameters()), allow_unused=True) if out.requires_grad else []
        return [None if gradient is None else gradient.detach() for gradient in found]

    def training_differs():
        one, many = module().train(), ids.repeat(50, 1)
        return not torch.equal(one(many), one.eval()(many))

    def start():
        values = next(p.detach() for p in impl.TokenEmbedding(900, 100).parameters() if p.shape == (900, 100))
        spread = float(values.std())
        if spread == 0:
            return "all alike"
        if bool((values[0] == 0).all()):
            return "first row 0"
        beyond = float((values.abs() > 2 * spread).float().mean())  # 4.6 % of a normal distribution
        return "none far out" if beyond < 0.02 else round(2 * math.log2(10 * spread))

    def ends(bad):
        return observe(lambda: module()(torch.tensor([[1, bad]])).detach())

    return {
        "names": observe(names),
        "rows": observe(lambda: module()(ids).detach()),
        "gradients": observe(gradients),
        "training differs": observe(training_differs),
        "start": observe(start),
        "negative": ends(-1),
        "too large": ends(5),
    }


def picture(impl) -> list[Panel]:
    """Show the vectors of a text before any training, and their dot products: equal tokens alone are alike."""
    ids = torch.tensor([[3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8, 9, 7, 9, 3]])
    x = impl.TokenEmbedding(10, 64)(ids)[0].detach()
    return [
        Panel("Vectors of the tokens 3 1 4 1 5 9 2 6 ...", x, "heatmap", "feature", "token"),
        Panel("Their dot products, divided by D", x @ x.T / 64, "heatmap", "token", "token"),
    ]
