"""The hidden suite of ``layer_norm``, what the diagnosis asks, and the picture: first LayerNorm, then BatchNorm.

Random checks use a large ``eps``, so that no honest order of operations comes near the tolerance when some variance
happens to be small. Small ones have checks of their own.
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
    tolerance_of,
)

DTYPES = (torch.float32, torch.float64, torch.bfloat16)
STATISTICS = ("running_mean", "running_var")
ROUNDED = 1e-3  # equal numbers are divided by sqrt(1e-5): x / root - mean / root leaves some 1e-7 * 4 / root


def load(module, **weights):
    """Load weights by name into the learner's module; what else it may hold has a check of its own."""
    there = dict(module.named_parameters())
    module.load_state_dict(weights, strict=not {"weight", "bias"} <= there.keys())
    return module


def some_weights(randn, width: int, statistics: bool = False) -> dict[str, Tensor]:
    """Return gains that are not 1, biases that are not 0 and, if asked for, statistics of earlier batches."""
    weights = {"weight": 1.0 + 0.3 * randn(width), "bias": 0.5 * randn(width)}
    if statistics:
        weights |= {"running_mean": randn(width), "running_var": 0.5 + randn(width).abs()}
    return weights


def pair(impl, reference, randn, name: str, width: int, **settings):
    """Return the learner's module and the reference in float64, with the same weights, in evaluation mode."""
    weights = some_weights(randn, width, name == "BatchNorm")
    mine = load(getattr(impl, name)(width, **settings), **weights)
    ref = load(getattr(reference, name)(width, **settings), **weights)
    return mine.eval(), ref.double().eval()


def short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def assert_same(mine, ref, x: Tensor, what: str, *, held: torch.dtype = torch.float64) -> None:
    """Compare with the reference in float64, as closely as the dtype of x and that of the numbers it meets allow."""
    expected = ref(x.detach().double())
    tolerance = max(tolerance_of(x.dtype, expected), tolerance_of(held, expected))
    assert_close(mine(x), expected, what, dtype=x.dtype, tolerance=tolerance)


def write(module, ref, randn) -> None:
    """Write new weights into parameters in place, as an optimizer does it."""
    mine = dict(module.named_parameters())
    with torch.no_grad():
        for name, parameter in ref.named_parameters():
            parameter.copy_(randn(*parameter.shape))
            mine[name].copy_(parameter)


def assert_names(module, parameters: dict[str, Tensor], state: dict[str, Tensor], when: str) -> None:
    """Check names, shapes and values of what is trained and of what is saved."""
    for found, expected, place in (
        (dict(module.named_parameters()), parameters, "named_parameters()"),
        (module.state_dict(), state, "state_dict()"),
    ):
        came = {name: tuple(tensor.shape) for name, tensor in found.items()}
        asked = {name: tuple(tensor.shape) for name, tensor in expected.items()}
        for name in sorted(came.keys() | asked.keys()):
            if came.get(name) != asked.get(name):
                wrong, right = came.get(name, "missing"), asked.get(name, "absent")
                raise CheckFailure(f"{place} {when}: {name} is {wrong}, but should be {right}.")
        for name, tensor in expected.items():
            assert_close(found[name], tensor, f"{name} {when}", dtype=tensor.dtype)


# --- LayerNorm: shapes, names and numbers by hand ---------------------------------------------------------


@pytest.mark.visible
def test_layer_norm_shape(impl, randn):
    """LayerNorm: the result has the shape of x, whatever the number of dimensions"""
    module = impl.LayerNorm(6)

    for shape in (3, 6), (2, 5, 6), (2, 3, 4, 6):
        seen = torch.zeros(0)
        for _ in range(2):
            x = randn(*shape)
            out = assert_shape(module(x), shape, f"LayerNorm(6) of an x of shape {shape}", dtype=torch.float32)
            assert_differs(out, x, f"LayerNorm(6) of an x of shape {shape}")
            assert_differs(out, seen, f"LayerNorm(6) of another x of shape {shape}")
            seen = out


@pytest.mark.visible
def test_layer_norm_names(impl, randn):
    """LayerNorm: weight (ones) and bias (zeros) are trained and saved, and nothing else"""
    module = impl.LayerNorm(4)
    start = {"weight": torch.ones(4), "bias": torch.zeros(4)}

    assert_names(module, start, start, "of a new LayerNorm(4)")
    for _ in range(2):
        values = {"weight": torch.zeros(4), "bias": randn(4)}
        module.load_state_dict(values)
        out = module(randn(2, 4))

        assert_close(out, values["bias"].expand(2, 4), "weights loaded, where weight is all 0: the result and the bias")
        assert_names(module, values, values, "of a LayerNorm(4) after loading and a call")


@pytest.mark.visible
@pytest.mark.points(2)
def test_layer_norm_by_hand(impl):
    """LayerNorm: two rows of four numbers, worked out on paper"""
    module = impl.LayerNorm(4, 0.5)  # under the root: 3.5 + 0.5 and 24.5 + 0.5

    for x, by_hand in (
        ([[1.0, 2.0, 3.0, 6.0], [7.0, -7.0, 0.0, 0.0]], [[-1.0, -0.5, 0.0, 1.5], [1.4, -1.4, 0.0, 0.0]]),
        ([[-2.0, 5.0, 5.0, 12.0], [6.0, 11.0, 10.0, 9.0]], [[-1.4, 0.0, 0.0, 1.4], [-1.5, 1.0, 0.5, 0.0]]),
    ):
        assert_close(module(torch.tensor(x)), torch.tensor(by_hand), f"LayerNorm(4, eps=0.5) of {x}")


@pytest.mark.visible
def test_layer_norm_variance(impl, randn):
    """LayerNorm: the variance is the mean of the squared deviations, divided by D"""
    for D in 2, 3, 5, 8:
        module = impl.LayerNorm(D, 1e-9)
        for sign in 1.0, -1.0:
            x = torch.zeros(1, D) + randn(1).abs().round()
            x[0, 0] += sign * D  # deviations D - 1 and, D - 1 times, -1: the mean of their squares is D - 1
            expected = sign * torch.tensor([[D - 1.0] + [-1.0] * (D - 1)]) / (D - 1) ** 0.5

            what = f"a row of {D} numbers, the first {sign * D:g} above the others, without gain and bias"
            assert_close(module(x), expected, what, hint="By what is the sum of the squares divided?")


@pytest.mark.visible
def test_layer_norm_eps(impl):
    """LayerNorm: eps is added to the variance, under the root, and is 1e-5 if not given"""
    row = torch.tensor([[1.0, -1.0, 1.0, -1.0]])  # variance 1

    for size, eps in (1.0, 3.0), (2.0, 12.0), (0.01, 1e-4), (0.002, None), (0.004, None), (1.0, 1e-12):
        module = impl.LayerNorm(4) if eps is None else impl.LayerNorm(4, eps=eps)
        out = module(size * row)

        expected = row * size / (size * size + (1e-5 if eps is None else eps)) ** 0.5
        given = "eps not given" if eps is None else f"eps = {eps:g}"
        assert_close(out, expected, f"{given}, a row with mean 0 and variance {size * size:g}")


@pytest.mark.visible
def test_layer_norm_gain_and_bias(impl, randn):
    """LayerNorm: the gain multiplies the normalised row, then the bias is added"""
    module = impl.LayerNorm(4, 0.5)

    for weight, bias, by_hand in (
        ([2.0, 10.0, 3.0, -1.0], [5.0, 0.0, 1.0, 1.0], [3.0, -5.0, 1.0, -0.5]),
        ([1.0, 0.0, 1.0, 2.0], [0.0, 7.0, 0.0, -3.0], [-1.0, 7.0, 0.0, 0.0]),
    ):
        load(module, weight=torch.tensor(weight), bias=torch.tensor(bias))
        shift = randn(1).round()
        out = module(shift + torch.tensor([[1.0, 2.0, 3.0, 6.0]]))  # normalised: (-1, -0.5, 0, 1.5)

        what = f"a row that is (-1, -0.5, 0, 1.5) once normalised, weight {weight}, bias {bias}"
        assert_close(out, torch.tensor([by_hand]), what)


# --- LayerNorm: properties and the whole ------------------------------------------------------------------


def test_layer_norm_rows_do_not_meet(impl, randn):
    """LayerNorm: what a row becomes depends on that row alone"""
    for B, T, D in (3, 4, 6), (4, 4, 4):  # equal sizes hide a wrong dimension from the shapes
        module = load(impl.LayerNorm(D, 0.1), **some_weights(randn, D)).eval()
        x = randn(B, T, D)
        other = x.clone()
        other[1, 2] = 3.0 * randn(D) + 1.0

        sizes = f"x of shape {(B, T, D)}"
        before, after = (assert_shape(module(tokens), x.shape, sizes).detach() for tokens in (x, other))
        alone = module(x[1:2, 2:3]).detach()

        assert_differs(before, x, f"LayerNorm with a gain, a bias and an {sizes}")
        kept = torch.ones(B, T, dtype=torch.bool)
        kept[1, 2] = False
        assert_close(after[kept], before[kept], f"{sizes}, one row changed: the other rows")
        assert_differs(after[1, 2], before[1, 2], f"{sizes}, one row changed: that row")
        assert_close(alone, before[1:2, 2:3], f"{sizes}: row [1, 2] alone and among the others")


def test_layer_norm_forgets_offset_and_size(impl, randn):
    """LayerNorm: a row comes out the same if it is shifted or stretched; a row of equal numbers gives the bias"""
    module = impl.LayerNorm(6, eps=1e-9)

    for _ in range(2):
        x = randn(2, 3, 6)
        x[..., 0] += 2.0  # no row with a small spread
        out = assert_shape(module(x), x.shape, "the result").detach()

        assert_close(out.mean(dim=-1), torch.zeros(2, 3), "no gain, no bias, tiny eps: the mean of each row")
        assert_close(module(x + 2.0), out, "2 added to every number: the result", tolerance=1e-4)
        assert_close(module(4.0 * x), out, "every number times 4: the result", tolerance=1e-4)
        assert_close(module(-x), -out, "every number times -1: the result, times -1", tolerance=1e-4)
    for D in 1, 5:
        weights = some_weights(randn, D)
        flat = randn(2, 3, 1).round().expand(2, 3, D)
        out = load(impl.LayerNorm(D), **weights)(flat)
        what = f"D = {D}, rows of equal numbers, the result and the bias"
        assert_close(out, weights["bias"].expand(2, 3, D), what, tolerance=ROUNDED)


@pytest.mark.points(2)
def test_layer_norm_matches_the_reference(impl, reference, randn, rng):
    """LayerNorm: the numbers for odd sizes, size 1, strided inputs, in either mode and under no_grad"""
    shapes = [(1, 1), (1, 3), (4, 1), (1, 1, 7), (5, 1, 2), (3, 3, 3), (2, 1, 2, 3, 5), (2, 1, 300)]
    shapes += [tuple(rng.randint(2, 9) for _ in range(n)) for n in (2, 3, 3, 4)]

    for shape in shapes:
        D, eps = shape[-1], rng.choice((0.05, 0.2, 1.5))
        mine, ref = pair(impl, reference, randn, "LayerNorm", D, eps=eps)
        what = f"LayerNorm({D}, eps={eps}) of an x of shape {shape}"
        assert_same(mine, ref, randn(*shape) + 0.5, what)
        assert_same(mine, ref, randn(*shape[1:], shape[0]).movedim(-1, 0), f"{what}, transposed")
        assert_same(mine.train(), ref, randn(*shape[:-1], 2 * D)[..., ::2], f"{what}, every second feature, training")
        with torch.no_grad():
            assert_same(mine, ref, randn(*shape), f"{what}, under no_grad")


def test_layer_norm_dtypes(impl, reference, randn):
    """LayerNorm: float64 and bfloat16, and a module of one dtype with an x of another"""
    for dtype, other in itertools.product(DTYPES, DTYPES):
        mine, ref = pair(impl, reference, randn, "LayerNorm", 16, eps=0.125)
        mine.to(dtype)
        ref.to(dtype).double()  # the same weights, rounded

        for _ in range(2):
            x = randn(3, 4, 16, dtype=torch.float64).to(other) + 0.25
            assert_same(mine, ref, x, f"a {short(dtype)} LayerNorm and a {short(other)} x")
    mine, ref = pair(impl, reference, randn, "LayerNorm", 5, eps=0.125)
    finer = {name: tensor + 1e-6 * randn(5, dtype=torch.float64) for name, tensor in ref.state_dict().items()}
    load(ref, **finer)
    load(mine.double(), **finer)  # weights that float32 does not hold
    assert_same(mine, ref, randn(2, 3, 5, dtype=torch.float64), "float64 weights: the result")


@pytest.mark.points(2)
def test_layer_norm_gradients(impl, reference, randn):
    """LayerNorm: the gradients of x, weight and bias, in a second backward pass and for rows of equal numbers too"""
    for dtype in torch.float32, torch.float64:
        mine, ref = pair(impl, reference, randn, "LayerNorm", 6, eps=0.125)
        mine.to(dtype)
        for shape in (2, 4, 6), (2, 4, 6), (1, 6), (1, 1, 6):
            mine.train(len(shape) == 3)
            write(mine, ref, randn)
            x = randn(*shape, dtype=dtype)
            if shape == (2, 4, 6):
                x[0, 0] = 0.5
            compare_gradients(mine, ref, x, randn(*shape, dtype=dtype), f"{short(dtype)}, x of shape {shape}")
    mine, ref = pair(impl, reference, randn, "LayerNorm", 6, eps=0.125)
    mine.bfloat16()
    ref.bfloat16().double()
    compare_gradients(mine, ref, randn(3, 6).bfloat16(), randn(3, 6).bfloat16(), "bfloat16")


def compare_gradients(mine, ref, x: Tensor, cotangent: Tensor, what: str) -> None:
    """Compare the gradients of x, weight and bias with the reference's."""
    x = x.detach().requires_grad_()
    wide = x.detach().double().requires_grad_()
    leaves, wide_leaves = {"x": x, **dict(mine.named_parameters())}, {"x": wide, **dict(ref.named_parameters())}
    out, expected = assert_shape(mine(x), x.shape, what, dtype=x.dtype), ref(wide)
    loose = None
    if x.dtype == torch.bfloat16:  # several roundings, and sums of rounded numbers
        found = torch.autograd.grad((expected * cotangent).sum(), list(wide_leaves.values()), retain_graph=True)
        loose = 0.1 * max(float(gradient.abs().max()) for gradient in found)
    assert_gradients_match(out, leaves, expected, wide_leaves, cotangent, f"{what}: the gradient", tolerance=loose)


def test_layer_norm_manners(impl, reference, randn):
    """LayerNorm: x is left alone, there is no loop, earlier calls leave no trace, the device is that of x"""
    mine, ref = pair(impl, reference, randn, "LayerNorm", 4, eps=0.125)
    wider, wider_ref = pair(impl, reference, randn, "LayerNorm", 7, eps=0.4)

    for dtype in torch.float64, torch.float32:
        mine.to(dtype)
        write(mine, ref, randn)
        for shape in (2, 3, 4), (2, 3, 4), (5, 4), (1, 1, 4):
            x = randn(*shape, dtype=dtype)
            before = x.clone()
            assert_same(mine, ref, x, f"{short(dtype)}, x of shape {shape}, after other calls")
            assert_close(x, before, "x after the call and before it", tolerance=0.0)
            assert_same(wider, wider_ref, randn(2, 7), "another LayerNorm, with other sizes and eps")
        for mode in "training", "evaluation":
            assert_same(mine.train(mode == "training"), ref, randn(2, 3, 4, dtype=dtype), f"{mode}, after other calls")
    for _ in range(2):
        write(mine, ref, randn)
        with torch.no_grad():
            assert_same(mine, ref, randn(2, 3, 4), "evaluation under no_grad, after the weights were changed")
    many = randn(40, 40, 4)
    assert_no_loop(impl, lambda n: mine(many[:2, :n]), "tokens")
    assert_no_loop(impl, lambda n: mine(many[:n, :3]), "items of a batch")
    assert_no_loop(impl, lambda n: mine(many[:n, :2, None]), "items of a batch with heads")
    far = impl.LayerNorm(4).to("meta")
    assert_follows_device(impl, lambda: far(many[:2].to("meta")), "the result on the meta device")


# --- BatchNorm: shapes, names and numbers by hand ---------------------------------------------------------


@pytest.mark.visible
def test_batch_norm_shape(impl, randn):
    """BatchNorm: the result has the shape of x, (B, F), in training and in evaluation"""
    module = impl.BatchNorm(6)

    for mode in "training", "evaluation":
        module.train(mode == "training")
        seen = torch.zeros(0)
        for _ in range(2):
            x = randn(5, 6) + 2.0
            out = assert_shape(module(x), (5, 6), f"BatchNorm(6) of an x of shape (5, 6) in {mode}", dtype=x.dtype)
            assert_differs(out, x, f"BatchNorm(6) in {mode}")
            assert_differs(out, seen, f"BatchNorm(6) of another x in {mode}")
            seen = out


@pytest.mark.visible
def test_batch_norm_names(impl, randn):
    """BatchNorm: weight and bias are trained, running_mean and running_var are saved beside them, and nothing else"""
    module = impl.BatchNorm(3)
    trained = {"weight": torch.ones(3), "bias": torch.zeros(3)}
    saved = trained | {"running_mean": torch.zeros(3), "running_var": torch.ones(3)}

    assert_names(module, trained, saved, "of a new BatchNorm(3)")
    for _ in range(2):
        trained = some_weights(randn, 3)
        saved = trained | {"running_mean": randn(3), "running_var": 1.0 + randn(3).abs()}
        module.load_state_dict(saved)
        out = module.eval()(saved["running_mean"].expand(2, 3))

        assert_close(
            out, trained["bias"].expand(2, 3), "x equal to running_mean in evaluation: the result and the bias"
        )
        assert_names(module, trained, saved, "of a BatchNorm(3) after loading and a call in evaluation")


@pytest.mark.visible
@pytest.mark.points(2)
def test_batch_norm_training_by_hand(impl):
    """BatchNorm in training: four items of two features, worked out on paper"""
    module = impl.BatchNorm(2, 0.5).train()  # under the roots: 3.5 + 0.5 and 24.5 + 0.5
    first, second = [1.0, 2.0, 3.0, 6.0], [7.0, -7.0, 0.0, 0.0]
    by_hand = torch.tensor([[-1.0, -0.5, 0.0, 1.5], [1.4, -1.4, 0.0, 0.0]])

    for order in [0, 1], [1, 0]:
        x = torch.tensor([first, second])[order].T
        out = module(x)

        assert_close(out, by_hand[order].T, f"BatchNorm(2, eps=0.5) in training: x = {x.tolist()}")
    load(module, weight=torch.tensor([2.0, 10.0]), bias=torch.tensor([5.0, -1.0]))
    out = module(torch.tensor([first, second]).T)
    expected = torch.tensor([[3.0, 4.0, 5.0, 8.0], [13.0, -15.0, -1.0, -1.0]]).T
    assert_close(out, expected, "the same with weight (2, 10) and bias (5, -1)")


@pytest.mark.visible
@pytest.mark.points(2)
def test_batch_norm_running_values_by_hand(impl):
    """BatchNorm in training: the running values after one batch and after two, worked out on paper"""
    x = torch.tensor([[1.0, 0.0], [2.0, 8.0], [3.0, 4.0], [6.0, 0.0]])  # means 3 and 3, sums of squares 14 and 44

    for momentum in None, 0.25, 1.0, 0.0:
        module = (impl.BatchNorm(2, 0.5) if momentum is None else impl.BatchNorm(2, 0.5, momentum=momentum)).train()
        m = 0.1 if momentum is None else momentum
        mean, var = torch.zeros(2), torch.ones(2)
        for shift in 0.0, 10.0:
            out = module(x + shift)

            mean = (1 - m) * mean + m * (3.0 + shift)
            var = (1 - m) * var + m * torch.tensor([14 / 3, 44 / 3])
            given = "momentum not given" if momentum is None else f"momentum = {momentum}"
            what = f"{given}, after {'one batch' if shift == 0 else 'two batches'} of 4 items"
            assert_close(module.running_mean, mean, f"{what}: running_mean")
            assert_close(module.running_var, var, f"{what}: running_var", hint="By what is the sum of squares divided?")
            centred = x - 3.0
            expected = centred / (torch.tensor([14 / 4, 44 / 4]) + 0.5).sqrt()
            assert_close(out, expected, f"{given}: the result in training, which comes from this batch alone")


@pytest.mark.visible
def test_batch_norm_evaluation_by_hand(impl):
    """BatchNorm in evaluation: the running values normalise, whatever the batch, and stay as they are"""
    statistics = {"running_mean": torch.tensor([1.0, -2.0]), "running_var": torch.tensor([3.5, 0.5])}
    module = load(impl.BatchNorm(2, 0.5), weight=torch.tensor([2.0, 3.0]), bias=torch.tensor([0.0, 10.0]), **statistics)
    module.eval()

    for x, by_hand in (
        ([[1.0, -2.0]], [[0.0, 10.0]]),
        ([[3.0, -1.0]], [[2.0, 13.0]]),
        ([[5.0, 0.0], [-1.0, -4.0], [5.0, 0.0]], [[4.0, 16.0], [-2.0, 4.0], [4.0, 16.0]]),
    ):
        out = module(torch.tensor(x))

        what = "running_mean (1, -2), running_var (3.5, 0.5), eps 0.5, weight (2, 3), bias (0, 10)"
        assert_close(out, torch.tensor(by_hand), f"{what}, x = {x} in evaluation")
        for name, values in statistics.items():
            assert_close(getattr(module, name), values, f"{name} after a call in evaluation and before it")


@pytest.mark.visible
def test_batch_norm_eps(impl):
    """BatchNorm: eps is added to the variance, under the root, in both modes, and is 1e-5 if not given"""
    column = torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]  # variance 1

    for size, eps in (1.0, 3.0), (2.0, 12.0), (0.002, None), (0.004, None), (1.0, 1e-12):
        module = impl.BatchNorm(1) if eps is None else impl.BatchNorm(1, eps=eps)
        module.load_state_dict({"running_var": torch.tensor([size * size])}, strict=False)
        given = "eps not given" if eps is None else f"eps = {eps:g}"
        for mode in "evaluation", "training":
            out = module.train(mode == "training")(size * column)

            expected = column * size / (size * size + (1e-5 if eps is None else eps)) ** 0.5
            assert_close(out, expected, f"{given}, mean 0 and variance {size * size:g}, in {mode}")


# --- BatchNorm: properties and the whole ------------------------------------------------------------------


def test_batch_norm_features_do_not_meet(impl, randn):
    """BatchNorm in training: what a feature becomes depends on that feature of the whole batch, and on no other"""
    for B, F in (5, 3), (4, 4):
        module = load(impl.BatchNorm(F, 0.1), **some_weights(randn, F)).train()
        x = randn(B, F)
        other = x.clone()
        other[2, 1] += 3.0

        before, after = module(x).detach(), module(other).detach()

        sizes = f"x of shape {(B, F)}, one number of feature 1 changed"
        rest = [f for f in range(F) if f != 1]
        assert_close(after[:, rest], before[:, rest], f"{sizes}: the other features")
        assert_differs(after[:2, 1], before[:2, 1], f"{sizes}: feature 1 of the other items")
    for _ in range(2):
        flat = randn(1, 3).round().expand(4, 3)
        weights = some_weights(randn, 3)
        out = load(impl.BatchNorm(3), **weights).train()(flat)
        what = "features of equal numbers in training: the result and the bias"
        assert_close(out, weights["bias"].expand(4, 3), what, tolerance=ROUNDED)


@pytest.mark.points(2)
def test_batch_norm_matches_the_reference(impl, reference, randn, rng):
    """BatchNorm: results and running values over several batches, of odd sizes and strided, in either mode"""
    sizes = [(2, 1), (2, 3), (4, 4), (3, 1), (50, 7), (rng.randint(3, 9), rng.randint(2, 9))]

    for B, F in sizes:
        eps, momentum = rng.choice((0.05, 0.2, 1.5)), rng.choice((0.1, 0.3, 0.6))
        mine, ref = pair(impl, reference, randn, "BatchNorm", F, eps=eps, momentum=momentum)
        for step, mode in enumerate(("training", "training", "evaluation", "training", "no_grad", "evaluation")):
            mine.train(mode != "evaluation")
            ref.train(mode != "evaluation")
            n = B if step < 4 else B + 1
            x = (1 + step) * (randn(F, n).T if step % 2 else randn(n, 2 * F)[:, ::2]) + 0.5
            what = f"BatchNorm({F}, {eps}, {momentum}), batch {step} of {n} items, {mode}"
            with torch.set_grad_enabled(mode != "no_grad"):
                assert_same(mine, ref, x, what)
            for name in STATISTICS:
                right = getattr(ref, name)
                assert_close(getattr(mine, name), right, f"{what}: {name} after it", dtype=torch.float32)


def test_batch_norm_dtypes(impl, reference, randn):
    """BatchNorm: float64 and bfloat16, and a module of one dtype with an x of another"""
    for dtype, other in itertools.product(DTYPES, DTYPES):
        mine, ref = pair(impl, reference, randn, "BatchNorm", 5, eps=0.125, momentum=0.25)
        mine.to(dtype)
        ref.to(dtype).double()  # the same weights and buffers, rounded

        for mode in "evaluation", "training":
            x = randn(16, 5, dtype=torch.float64).to(other) + 0.25
            what = f"a {short(dtype)} BatchNorm and a {short(other)} x in {mode}"
            held = dtype if mode == "evaluation" else torch.float64  # the running variance goes through a root there
            assert_same(mine.train(mode == "training"), ref.train(mode == "training"), x, what, held=held)
            if dtype == other == torch.float64:
                assert_same(mine.eval(), ref.eval(), x, "float64 in evaluation after a batch in training")
                for name in STATISTICS:
                    assert_close(getattr(mine, name), getattr(ref, name), f"float64: {name} after a batch in training")


@pytest.mark.points(2)
def test_batch_norm_gradients(impl, reference, randn):
    """BatchNorm: the gradients of x, weight and bias in both modes, in a second backward pass too"""
    for dtype in torch.float32, torch.float64:
        mine, ref = pair(impl, reference, randn, "BatchNorm", 4, eps=0.125)
        mine.to(dtype)
        for mode, B in ("training", 6), ("training", 6), ("evaluation", 6), ("evaluation", 1), ("training", 3):
            mine.train(mode == "training")
            ref.train(mode == "training")
            what = f"{short(dtype)}, {B} items in {mode}"
            compare_gradients(mine, ref, randn(B, 4, dtype=dtype), randn(B, 4, dtype=dtype), what)
    mine, ref = pair(impl, reference, randn, "BatchNorm", 4, eps=0.1)
    mine.bfloat16().train()
    ref.bfloat16().double().train()
    compare_gradients(mine, ref, randn(6, 4).bfloat16(), randn(6, 4).bfloat16(), "bfloat16 in training")


def test_batch_norm_running_values_need_no_gradient(impl, reference, randn):
    """BatchNorm: the running values require no gradient after a batch that does"""
    mine, ref = pair(impl, reference, randn, "BatchNorm", 3, eps=0.1)

    for _ in range(2):
        x = randn(4, 3).requires_grad_()
        assert_same(mine.train(), ref.train(), x, "an x that requires a gradient, in training")
        for name, buffer in mine.named_buffers():
            if buffer.requires_grad:
                raise CheckFailure(
                    f"{name} requires a gradient after a batch in training, so every batch would stay in memory, and a "
                    "later backward pass would run into this one. Should a note of past batches be part of the graph?"
                )


def test_batch_norm_manners(impl, reference, randn):
    """BatchNorm: x is left alone, there is no loop over the batch, modules share nothing, the device is that of x"""
    mine, ref = pair(impl, reference, randn, "BatchNorm", 4, eps=0.1)
    other, other_ref = pair(impl, reference, randn, "BatchNorm", 4, eps=0.4)

    for mode in "training", "evaluation", "training":
        for module, right in (mine, ref), (other, other_ref):
            module.train(mode == "training")
            right.train(mode == "training")
            write(module, right, randn)
            for _ in range(2):
                x = randn(5, 4)
                before = x.clone()
                assert_same(module, right, x, f"one of two modules, called in turns, in {mode}")
                assert_close(x, before, "x after the call and before it", tolerance=0.0)
    for _ in range(2):
        weights = some_weights(randn, 4, statistics=True)
        with torch.no_grad():
            what = "evaluation under no_grad, after weights were loaded"
            assert_same(load(mine, **weights).eval(), load(ref, **weights).eval(), randn(5, 4), what)
    many, far = randn(40, 4), impl.BatchNorm(4).to("meta")
    for mode in "training", "evaluation":
        mine.train(mode == "training")
        assert_no_loop(impl, lambda n: mine(many[:n]), "items of a batch")
        far.train(mode == "training")
        assert_follows_device(impl, lambda: far(many.to("meta")), f"the result on the meta device in {mode}")


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_refuses_sizes_below_one(impl, randn):
    """both: a width below 1 is refused with ValueError"""
    fresh = itertools.count(1)  # no two good calls ask for the same

    def good(name: str) -> None:
        bias = torch.tensor([float(next(fresh))])
        out = load(getattr(impl, name)(1), weight=torch.ones(1), bias=bias)(torch.zeros(2, 1))
        assert_close(out, bias.expand(2, 1), f"{name}(1) of zeros, where the bias is left")

    for name in "LayerNorm", "BatchNorm":
        for width in 0, -1, -4:
            assert_rejects(lambda n=name, w=width: getattr(impl, n)(w), f"{name}({width})", good=lambda n=name: good(n))


@pytest.mark.visible
def test_batch_norm_refuses_a_single_item_in_training(impl, randn):
    """BatchNorm: a batch of 1 is refused with ValueError in training, and fine in evaluation"""
    module = impl.BatchNorm(3, 0.1)

    def good() -> None:
        weights = some_weights(randn, 3, statistics=True)
        x, mean = randn(1, 3), weights["running_mean"]
        out = load(module, **weights).eval()(x)
        module.train()
        expected = (x - mean) / (weights["running_var"] + 0.1).sqrt() * weights["weight"] + weights["bias"]
        assert_close(out, expected, "a batch of 1 in evaluation")
        out = module(mean + torch.tensor([[1.0], [-1.0]]))
        assert_close(out.mean(dim=0), weights["bias"], "a batch of 2 in training: the mean of the result and the bias")

    for _ in range(2):
        assert_rejects(lambda: module(randn(1, 3)), "a batch of 1 in training", good=good)
        with torch.no_grad():
            assert_rejects(lambda: module(randn(1, 3)), "a batch of 1 in training, under no_grad", good=good)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, for names, results, gradients and running values of both modules."""
    x = torch.tensor([(7 * n) % 11 - 3.0 for n in range(24)]).view(2, 3, 4)
    weight, bias = torch.tensor([1.5, 0.5, -1.0, 2.0]), torch.tensor([0.25, -0.5, 1.0, 0.75])
    names = {"weight": weight, "bias": bias, "running_mean": bias + 1.0, "running_var": weight.abs()}

    def layer(**settings):
        module = impl.LayerNorm(4, **settings)
        module.load_state_dict({"weight": weight, "bias": bias}, strict=False)
        return module

    def batch(training, **settings):
        module = impl.BatchNorm(4, **settings)
        module.load_state_dict(names, strict=False)
        return module.train(training)

    def gradient(module, x):
        x = x.clone().requires_grad_()
        (found,) = torch.autograd.grad((module(x) * x.detach().cos()).sum(), [x], allow_unused=True)
        return found

    def kept(training):
        module = batch(training, eps=0.5)
        module(x[0])
        return [module.state_dict().get(name) for name in STATISTICS]

    def saved(name):
        module = getattr(impl, name)(4)
        return sorted(n for n, _ in module.named_parameters()), sorted(module.state_dict())

    return {
        "layer: names": observe(lambda: saved("LayerNorm")),
        "layer: result": observe(lambda: layer(eps=0.5)(x).detach()),
        "layer: small": observe(lambda: layer()(0.001 * x).detach()),
        "layer: gradient": observe(lambda: gradient(layer(eps=0.5), x)),
        "batch: names": observe(lambda: saved("BatchNorm")),
        "batch: training": observe(lambda: batch(True, eps=0.5)(x[0]).detach()),
        "batch: evaluation": observe(lambda: batch(False, eps=0.5)(x[0]).detach()),
        "batch: gradient": observe(lambda: gradient(batch(True, eps=0.5), x[0])),
        "batch: kept in training": observe(lambda: kept(True)),
        "batch: kept in evaluation": observe(lambda: kept(False)),
        "batch: single in training": observe(lambda: batch(True)(x[0, :1]).detach()),
        "batch: single in evaluation": observe(lambda: batch(False)(x[0, :1]).detach()),
    }


def picture(impl) -> list[Panel]:
    """Show which numbers share a mean: LayerNorm takes the stripes of loud rows away, BatchNorm those of columns."""
    row, column = torch.arange(16.0)[:, None], torch.arange(24.0)
    x = 2.0 * (row % 5 == 0) + 1.5 * (column % 6 == 0) + torch.sin(1.7 * row + 0.9 * column * column)
    by_row, by_column = impl.LayerNorm(24)(x).detach(), impl.BatchNorm(24).train()(x).detach()
    return [
        Panel("x: loud tokens and loud features", x, "heatmap", "feature", "item"),
        Panel("LayerNorm: every row has mean 0", by_row, "heatmap", "feature", "item"),
        Panel("BatchNorm: every column has mean 0", by_column, "heatmap", "feature", "item"),
    ]
