"""The hidden suite of ``rms_norm``, what the diagnosis asks, and the picture.

Random checks use a large ``eps``, so that no honest order of operations comes near the tolerance when some row happens
to be small. Small ones have checks of their own.
"""

import itertools

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

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
HALF = 0.01  # share of the largest number that a half result may be off


def make(impl, weight: Tensor, **settings):
    """Return the learner's module with ``weight``; what else it may hold has a check of its own."""
    module = impl.RMSNorm(len(weight), **settings)
    module.load_state_dict({"weight": weight}, strict="weight" not in dict(module.named_parameters()))
    return module


def pair(impl, reference, randn, width: int, **settings):
    """Return the learner's module and the reference in float64, with the same gains other than 1."""
    weight = 1.0 + 0.3 * randn(width)
    ref = reference.RMSNorm(width, **settings)
    ref.load_state_dict({"weight": weight})
    return make(impl, weight, **settings).eval(), ref.double().eval()


def write(mine, ref, weight: Tensor) -> None:
    """Write a new weight into both modules in place, as an optimizer does it."""
    with torch.no_grad():
        ref.weight.copy_(weight)
        mine.weight.copy_(weight)


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def assert_same(mine, ref, x: Tensor, what: str, hint: str = "") -> None:
    """Compare with the reference in float64."""
    assert_close(mine(x), ref(x.detach().double()), what, dtype=x.dtype, half=HALF, hint=hint)


# --- shapes, names and numbers by hand --------------------------------------------------------------------


@pytest.mark.visible
def test_returns_the_right_shape(impl, randn):
    """the result has the shape of x, whatever the number of dimensions"""
    module = impl.RMSNorm(6)

    for shape in (3, 6), (2, 5, 6), (2, 3, 4, 6):
        seen = torch.zeros(0)
        for _ in range(2):
            x = 2.0 * randn(*shape)
            out = assert_shape(module(x), shape, f"RMSNorm(6) of an x of shape {shape}", dtype=torch.float32)
            assert_differs(out, x, f"RMSNorm(6) of an x of shape {shape}")
            assert_differs(out, seen, f"RMSNorm(6) of another x of shape {shape}")
            seen = out


@pytest.mark.visible
def test_parameter_name(impl, randn):
    """one parameter with the name `weight`, all ones at the start, is saved and loaded, and nothing else"""
    module = impl.RMSNorm(4)
    weight = torch.ones(4)

    for when in "of a new RMSNorm(4)", "after loading and a call", "after loading again":
        for found, place in (
            (dict(module.named_parameters()), "named_parameters()"),
            (module.state_dict(), "state_dict()"),
        ):
            names = {name: tuple(tensor.shape) for name, tensor in found.items()}
            if names != {"weight": (4,)}:
                came = ", ".join(f"{name} {shape}" for name, shape in names.items()) or "nothing"
                raise CheckFailure(f"{place} {when} should hold weight (4,) and nothing else, but it holds {came}.")
            assert_close(found["weight"], weight, f"weight in {place} {when}")
        weight = randn(4)
        module.load_state_dict({"weight": weight})
        out = assert_shape(module(torch.tensor([[3.0, 3.0, -3.0, 3.0]])), (1, 4), "the result with a weight loaded")
        ratio = out[0].detach() / (weight * torch.tensor([1.0, 1.0, -1.0, 1.0]))  # how large it is has other checks
        assert_close(ratio / ratio[0].abs(), torch.ones(4), "the row (3, 3, -3, 3), weight loaded: result / weight")


@pytest.mark.visible
@pytest.mark.points(2)
def test_rows_worked_out_by_hand(impl):
    """rows of four numbers, worked out on paper"""
    module = impl.RMSNorm(4, 3.0)  # means of the squares: 6 + 3 = 9 and 13 + 3 = 16, then 22 + 3 = 25 and 1 + 3 = 4

    for x, by_hand in (
        ([[4.0, -2.0, 2.0, 0.0], [4.0, 6.0, 0.0, 0.0]], [[4 / 3, -2 / 3, 2 / 3, 0.0], [1.0, 1.5, 0.0, 0.0]]),
        ([[6.0, 6.0, 0.0, -4.0], [1.0, 1.0, 1.0, 1.0]], [[1.2, 1.2, 0.0, -0.8], [0.5, 0.5, 0.5, 0.5]]),
    ):
        assert_close(module(torch.tensor(x)), torch.tensor(by_hand), f"RMSNorm(4, eps=3) of {x}")


@pytest.mark.visible
def test_divides_by_the_mean_of_the_squares(impl, randn):
    """the squares are summed and divided by D, whatever D is"""
    for D in 1, 2, 3, 9, 16, 400:
        module = impl.RMSNorm(D, 1e-9)
        for sign in 1.0, -1.0:
            x = torch.zeros(1, D)
            x[0, D // 2] = sign * (1.0 + randn(1).abs())  # the mean of the squares is its square / D
            expected = torch.zeros(1, D)
            expected[0, D // 2] = sign * D**0.5

            what = f"D = {D}, a row that is 0 but for one number, weight 1: the result, which is sqrt({D}) there"
            assert_close(module(x), expected, what)


@pytest.mark.visible
def test_eps_stands_under_the_root(impl):
    """eps is added to the mean of the squares, under the root, and is 1e-5 if not given"""
    row = torch.tensor([[1.0, -1.0, 1.0, 1.0]])  # mean of the squares 1

    for size, eps in (1.0, 3.0), (2.0, 12.0), (0.01, 1e-4), (0.002, None), (0.004, None), (1e-5, 1e-12):
        module = impl.RMSNorm(4) if eps is None else impl.RMSNorm(4, eps=eps)
        out = module(size * row)

        expected = row * size / (size * size + (1e-5 if eps is None else eps)) ** 0.5
        given = "eps not given" if eps is None else f"eps = {eps:g}"
        assert_close(out, expected, f"{given}, a row whose squares have the mean {size * size:g}")


@pytest.mark.visible
def test_gain_multiplies_the_normalised_row(impl):
    """every feature is multiplied by its own gain, once the row is normalised"""
    x = torch.tensor([[4.0, -2.0, 2.0, 0.0], [-8.0, -4.0, 0.0, 4.0]])
    normalised = torch.tensor([[4 / 3, -2 / 3, 2 / 3, 0.0], [-8 / 27**0.5, -4 / 27**0.5, 0.0, 4 / 27**0.5]])

    for weight in [3.0, -6.0, 1.5, 7.0], [0.0, 3.0, 0.3, 1.0]:
        out = make(impl, torch.tensor(weight), eps=3.0)(x)

        expected = normalised * torch.tensor(weight)
        assert_close(out, expected, f"rows (4, -2, 2, 0) and (-8, -4, 0, 4), eps = 3, weight {weight}")


# --- properties -------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_fixes_the_size_of_a_row(impl, randn):
    """without a gain the mean of the squares becomes 1, and stretching a row changes nothing"""
    module = impl.RMSNorm(6, eps=1e-9)

    for _ in range(2):
        x = randn(2, 3, 6)
        x[..., 0] += 3.0  # no small row
        out = assert_shape(module(x), x.shape, "the result").detach()

        squares = out.square().mean(dim=-1)
        assert_close(
            squares, torch.ones(2, 3), "no gain, tiny eps: the mean of the squares of each row", tolerance=1e-4
        )
        assert_close(module(40.0 * x), out, "every number times 40: the result")
        assert_close(module(-x), -out, "every number times -1: the result, times -1")
        assert_close(out * x[..., :1], x * out[..., :1], "the numbers of a row keep their proportions", tolerance=1e-4)


def test_rows_do_not_meet(impl, randn):
    """what a row becomes depends on that row alone"""
    for B, T, D in (3, 4, 6), (4, 4, 4):  # equal sizes hide a wrong dimension from the shapes
        module = make(impl, 1.0 + 0.3 * randn(D), eps=0.1).eval()
        x = randn(B, T, D)
        other = x.clone()
        other[1, 2] = 3.0 * randn(D) + 1.0

        sizes = f"x of shape {(B, T, D)}"
        before, after = (assert_shape(module(tokens), x.shape, sizes).detach() for tokens in (x, other))
        alone = module(x[1:2, 2:3]).detach()

        assert_differs(before, x, f"RMSNorm with a gain and an {sizes}")
        kept = torch.ones(B, T, dtype=torch.bool)
        kept[1, 2] = False
        assert_close(after[kept], before[kept], f"{sizes}, one row changed: the other rows")
        assert_differs(after[1, 2], before[1, 2], f"{sizes}, one row changed: that row")
        assert_close(alone, before[1:2, 2:3], f"{sizes}: row [1, 2] alone and among the others")


# --- the numbers, on inputs of every kind -----------------------------------------------------------------


@pytest.mark.points(2)
def test_matches_the_reference(impl, reference, randn, rng):
    """the numbers for odd sizes, size 1, strided inputs, rows of zeros, in either mode and under no_grad"""
    shapes = [(1, 1), (1, 3), (4, 1), (1, 1, 7), (5, 1, 2), (3, 3, 3), (2, 2, 3, 5), (2, 1, 300)]
    shapes += [tuple(rng.randint(2, 9) for _ in range(n)) for n in (2, 3, 3, 4)]

    for shape in shapes:
        D, eps = shape[-1], rng.choice((0.05, 0.2, 1.5))
        mine, ref = pair(impl, reference, randn, D, eps=eps)
        what = f"RMSNorm({D}, eps={eps}) of an x of shape {shape}"
        assert_same(mine, ref, randn(*shape) + 0.5, what)
        assert_same(mine, ref, randn(*shape[1:], shape[0]).movedim(-1, 0), f"{what}, transposed")
        assert_same(mine.train(), ref, randn(*shape[:-1], 2 * D)[..., ::2], f"{what}, every second feature, training")
        with torch.no_grad():
            x = randn(*shape)
            x[0] = 0.0
            assert_same(mine, ref, x, f"{what}, under no_grad, the first item all 0")


def test_every_dtype(impl, reference, randn):
    """float64 and bfloat16, and a module of one dtype with an x of another: the result has the dtype of x"""
    for dtype, other in itertools.product(DTYPES, (*DTYPES, torch.float16)):
        mine, ref = pair(impl, reference, randn, 16, eps=0.125)
        mine.to(dtype)
        ref.to(dtype).double()  # the same weight, rounded

        for _ in range(2):
            x = randn(3, 4, 16, dtype=torch.float64).to(other)
            assert_same(mine, ref, x, f"a {short(dtype)} RMSNorm and a {short(other)} x")
    mine, ref = pair(impl, reference, randn, 5, eps=0.125)
    finer = 1.0 + 0.3 * randn(5, dtype=torch.float64)
    write(mine.double(), ref, finer)  # a weight that float32 does not hold
    assert_same(mine, ref, randn(2, 3, 5, dtype=torch.float64), "a float64 weight: the result")


def test_float16_squares_do_not_overflow(impl, reference, randn):
    """float16 rows of large numbers, whose squares float16 does not hold"""
    for dtype in torch.float32, torch.float16:
        mine, ref = pair(impl, reference, randn, 12)
        mine.to(dtype)
        ref.to(dtype).double()

        for size in 300.0, 300.0, 3000.0:
            x = (size * randn(2, 3, 12)).to(torch.float16)
            x[..., 0] = 2.0 * size
            hint = "In which dtype are the squares, and how large is the largest number of float16?"
            assert_same(mine, ref, x, f"a float16 x of numbers around {size:g}, a {short(dtype)} RMSNorm", hint)


def rows_between(randn, low: float, high: float, count: int, D: int = 512) -> Tensor:
    """Return bfloat16 rows in which the mean of the squares lies between ``low`` and ``high``, shape (count, D)."""
    rows: list[Tensor] = []
    while len(rows) < count:
        x = randn(D, dtype=torch.float64)
        x = (x * ((low + high) / 2 / x.square().mean()).sqrt()).bfloat16()
        if low < x.double().square().mean() < high:
            rows.append(x)
    return torch.stack(rows)


def test_bfloat16_statistics_are_precise(impl, reference, randn):
    """for a bfloat16 x the mean of the squares is not rounded to bfloat16 on the way"""
    mine, ref = impl.RMSNorm(512), reference.RMSNorm(512).double().requires_grad_(False)

    # Next to 1.011 bfloat16 has 1.0078 and 1.0156. A mean of the squares that is rounded makes every number of a row
    # 0.54 % too large; one root rounded at the end makes 0.21 %, and rounding the results cancels out over a row.
    for dtype, size in (torch.bfloat16, 1.0), (torch.float32, 1.0), (torch.bfloat16, 4.0), (torch.bfloat16, 0.5):
        x = size * rows_between(randn, 1.0106, 1.0112, 12)
        right = ref(x.double())
        out = assert_shape(mine.to(dtype)(x), x.shape, "a bfloat16 x", dtype=torch.bfloat16).detach().double()

        off = float((out * right).sum() / right.square().sum()) - 1.0
        if abs(off) > 0.0035:
            raise CheckFailure(
                f"a bfloat16 x of shape {tuple(x.shape)}, a {short(dtype)} RMSNorm: the numbers of a row are all too "
                f"{'large' if off > 0 else 'small'}, by {abs(off):.2%} on average. Rounding the results alone cancels "
                "out over a row. In which dtype is the mean of the squares?"
            )


# --- gradients --------------------------------------------------------------------------------------------


@pytest.mark.points(2)
def test_gradients_match(impl, reference, randn):
    """the gradients of x and weight, in a second backward pass and for rows of zeros too"""
    for dtype in torch.float32, torch.float64:
        mine, ref = pair(impl, reference, randn, 6, eps=0.125)
        mine.to(dtype)
        for shape in (2, 4, 6), (2, 4, 6), (1, 6), (1, 1, 6):
            mine.train(len(shape) == 3)
            write(mine, ref, randn(6))
            x = randn(*shape, dtype=dtype)
            if shape == (2, 4, 6):
                x[0, 0] = 0.0
            compare_gradients(mine, ref, x, randn(*shape, dtype=dtype), f"{short(dtype)}, x of shape {shape}")
    mine, ref = pair(impl, reference, randn, 6, eps=0.125)
    compare_gradients(mine, ref, randn(3, 6).bfloat16(), randn(3, 6), "a float32 RMSNorm and a bfloat16 x")
    mine.bfloat16()
    ref.bfloat16().double()
    compare_gradients(mine, ref, randn(3, 6).bfloat16(), randn(3, 6).bfloat16(), "bfloat16")


def compare_gradients(mine, ref, x: Tensor, cotangent: Tensor, what: str) -> None:
    """Compare the gradients of x and weight with the reference's."""
    x = x.detach().requires_grad_()
    wide = x.detach().double().requires_grad_()
    leaves, wide_leaves = {"x": x, **dict(mine.named_parameters())}, {"x": wide, "weight": ref.weight}
    out, expected = assert_shape(mine(x), x.shape, what, dtype=x.dtype), ref(wide)
    loose = None
    if x.dtype == torch.bfloat16:  # several roundings, and sums of rounded numbers
        found = torch.autograd.grad((expected * cotangent).sum(), list(wide_leaves.values()), retain_graph=True)
        loose = 0.1 * max(float(gradient.abs().max()) for gradient in found)
    assert_gradients_match(out, leaves, expected, wide_leaves, cotangent, f"{what}: the gradient", tolerance=loose)


# --- good manners and errors ------------------------------------------------------------------------------


def test_repeated_calls_stay_right(impl, reference, randn):
    """a call is right whatever sizes, weights, modes, dtypes or other modules came before it"""
    mine, ref = pair(impl, reference, randn, 4, eps=0.125)
    wider, wider_ref = pair(impl, reference, randn, 7, eps=0.4)

    for dtype in torch.float64, torch.float32, torch.bfloat16, torch.float32:
        mine.to(dtype)
        write(mine, ref, randn(4).to(dtype))
        for shape in (2, 3, 4), (2, 3, 4), (5, 4), (1, 1, 4):
            assert_same(mine, ref, randn(*shape, dtype=dtype), f"{short(dtype)}, x of shape {shape}, after other calls")
            assert_same(wider, wider_ref, randn(2, 7), "another RMSNorm, with other sizes and eps")
        for mode in "training", "evaluation":
            mine.train(mode == "training")
            assert_same(mine, ref, randn(2, 3, 4, dtype=dtype), f"{short(dtype)}, {mode}, after other calls")


def test_leaves_x_alone(impl, randn):
    """x and the weight are the same after the call"""
    weight = 1.0 + 0.3 * randn(5)
    module = make(impl, weight, eps=0.125)

    for dtype in torch.float32, torch.float64:
        module.to(dtype)
        x = randn(2, 3, 5, dtype=dtype)
        before = x.clone()
        module(x)
        assert_close(x, before, f"a {short(dtype)} x after the call and before it", tolerance=0.0)
        held = next((tensor for tensor in module.state_dict().values() if tensor.shape == (5,)), weight)
        assert_close(held, weight.to(dtype), "the weight after the call and before it", tolerance=0.0)
        assert_answers(module, randn, 5, dtype)


def assert_answers(module, randn, width: int, dtype: torch.dtype = torch.float32) -> None:
    """Check that the module answers at all, so that one wrong number in the formula does not fail every check."""
    seen = torch.zeros(0)
    for _ in range(2):
        x = 2.0 * randn(2, 3, width, dtype=dtype)
        out = assert_shape(module(x), x.shape, "the result", dtype=dtype).detach()
        assert_differs(out, x, "the result")
        assert_differs(out, seen, "the result for another x")
        assert_close(module(x[1:, 2:]), out[1:, 2:], "a row alone and among the others")
        seen = out


def test_takes_all_rows_at_once(impl, randn):
    """there is no loop over tokens or over the batch"""
    module, many = make(impl, 1.0 + 0.3 * randn(4), eps=0.125), randn(40, 40, 4)

    assert_no_loop(impl, lambda n: module(many[:2, :n]), "tokens")
    assert_no_loop(impl, lambda n: module(many[:n, :3]), "items of a batch")
    assert_no_loop(impl, lambda n: module(many[:n, :2, None]), "items of a batch with heads")
    assert_answers(module, randn, 4)


def test_follows_the_device(impl, randn):
    """the module computes where it was moved"""
    module, far = impl.RMSNorm(4, 0.125), impl.RMSNorm(4, 0.125).to("meta")  # meta stands for any accelerator

    for dtype in torch.float32, torch.bfloat16:
        x = randn(2, 3, 4, dtype=dtype).to("meta")
        assert_follows_device(impl, lambda x=x: far(x), "the result on the meta device")
        assert_answers(module, randn, 4)


@pytest.mark.visible
def test_refuses_a_width_below_one(impl, randn):
    """a width below 1 is refused with ValueError"""
    for width in 0, -1, -4:
        what = f"dim = {width}"
        assert_rejects(lambda w=width: impl.RMSNorm(w), what, good=lambda: assert_answers(impl.RMSNorm(5), randn, 5))


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, for names, results, the gradient and what becomes of other dtypes."""
    x = torch.tensor([(7 * n) % 11 - 3.0 for n in range(24)]).view(2, 3, 4)
    weight = torch.tensor([1.5, 0.5, -1.0, 2.0])

    def module(**settings):
        one = impl.RMSNorm(4, **settings)
        one.load_state_dict({"weight": weight}, strict=False)
        return one

    def gradient():
        leaf = x.clone().requires_grad_()
        (found,) = torch.autograd.grad((module(eps=0.5)(leaf) * x.cos()).sum(), [leaf], allow_unused=True)
        return found

    def names():
        one = impl.RMSNorm(4)
        state = one.state_dict()
        return sorted(name for name, _ in one.named_parameters()), {name: state[name] for name in sorted(state)}

    def rounds():
        fine = x.double() / 3.0
        out = module(eps=0.5).double()(fine)
        right = fine / (fine.square().mean(dim=-1, keepdim=True) + 0.5).sqrt() * weight
        off = float((out.detach() - right).abs().max())
        return 1e-9 < off < 1e-5  # True if float32 was on the way

    return {
        "names": observe(names),
        "result": observe(lambda: module(eps=0.5)(x).detach()),
        "small": observe(lambda: module()(0.001 * x).detach()),
        "gradient": observe(gradient),
        "a bfloat16 x": observe(lambda: str(module()(x.bfloat16()).dtype)),
        "large in float16": observe(lambda: bool(module()((300 * x).half()).abs().sum() > 1.0)),
        "float64 is rounded": observe(rounds),
    }


def picture(impl) -> list[Panel]:
    """Show what it does to loud and quiet tokens, and to tokens with an offset, which it keeps."""
    row, column = torch.arange(12.0)[:, None], torch.arange(24.0)
    size = torch.where(row % 4 == 1, 3.0, 1.0)
    x = size * torch.sin(1.7 * row + 0.9 * column * column) + torch.where(row % 4 == 3, 2.0, 0.0)
    out = impl.RMSNorm(24)(x).detach()
    lengths = torch.stack((x.square().mean(dim=-1).sqrt(), out.square().mean(dim=-1).sqrt(), out.mean(dim=-1)))
    labels = ("root mean square before", "root mean square after", "mean after")
    return [
        Panel("x: every fourth token is loud, every fourth has an offset", x, "heatmap", "feature", "token"),
        Panel("RMSNorm of x: the offsets are still there", out, "heatmap", "feature", "token"),
        Panel("Size and mean of each token", lengths, "lines", "token", "size", labels),
    ]
