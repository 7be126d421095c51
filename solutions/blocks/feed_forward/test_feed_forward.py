"""Hidden suite of feed_forward: the activation, then the network from its shape over its parts to the whole.

A check of one property does not compare every number with the reference's, so that one mistake fails few checks. It
ends in ``assert_answers`` instead, which no made-up answer passes and none kept from before.
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
    assert_tensor,
    observe,
)

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
PRECISE = (F32, F64)
CONSTANTS = 1e-7  # what sqrt(2 / pi) and sqrt(2) held in float32 may cost in float64
NAMES = {False: "gelu(x)", True: "gelu(x, approximate=True)"}


def gelu_on_paper(x: float, approximate: bool) -> float:
    """Return the printed formula for one number."""
    if approximate:
        return 0.5 * x * (1 + math.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return 0.5 * x * math.erfc(-x / math.sqrt(2))


def call_gelu(impl, x: Tensor, approximate: bool) -> Tensor:
    """Call with the default for the exact form, and the flag by its name for the other."""
    return impl.gelu(x, approximate=True) if approximate else impl.gelu(x)


def weights_of(d_model: int, d_ff: int, randn) -> dict[str, Tensor]:
    """Return random weights with the right names."""
    return {
        "w1.weight": randn(d_ff, d_model) / d_model**0.5,
        "w1.bias": 0.5 * randn(d_ff),
        "w2.weight": randn(d_model, d_ff) / d_ff**0.5,
        "w2.bias": 0.5 * randn(d_model),
    }


def assert_answers(impl, randn, dtype: torch.dtype = F32) -> None:
    """Check that a network answers at all: with w1 of zeros, w2 b1 + b2 comes back for a large b1."""
    module = impl.FeedForward(3, 4)
    weights = weights_of(3, 4, randn)
    weights |= {"w1.weight": torch.zeros(4, 3), "w1.bias": 10.0 + 5.0 * randn(4).abs()}
    module.load_state_dict(weights)
    module.eval()
    expected = weights["w2.weight"].double() @ weights["w1.bias"].double() + weights["w2.bias"].double()
    out = module.to(dtype)(randn(2, 5, 3, dtype=dtype))

    what = "w1.weight is 0 and w1.bias positive, so that the output is w2 b1 + b2 for every token: the output"
    assert_close(out, expected.expand(2, 5, 3), what, dtype=dtype)


def assert_same(mine, ref, x: Tensor, what: str, hint: str = "") -> None:
    """Compare with the reference in float64, as closely as the dtype of ``x`` allows."""
    assert_close(mine(x), ref(x.detach().double()), what, dtype=x.dtype, hint=hint)


# --- gelu ---------------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_gelu_keeps_the_shape(impl, randn):
    """gelu gives one number for each number, in the same shape"""
    for approximate in False, True:
        earlier = None
        for shape in (5,), (5,), (2, 3), (2, 3, 4), (1, 2, 1, 3):
            x = randn(*shape)
            out = call_gelu(impl, x, approximate)

            what = f"{NAMES[approximate]} for an x of shape {shape}"
            assert_shape(out, shape, what, dtype=F32)
            assert_differs(out, x, f"{what}, and x")
            if earlier is not None:
                assert_differs(out, earlier, f"{what}, and the result for another x")
            earlier = out


@pytest.mark.visible
@pytest.mark.points(2)
def test_gelu_by_hand(impl):
    """the exact gelu of five numbers, from a table of the normal distribution"""
    for numbers, below in (
        ([0.0, 1.0, -1.0, 2.0, -0.5], [0.5, 0.8413447, 0.1586553, 0.9772499, 0.3085375]),
        ([3.0, -3.0, 0.5, -2.0, 0.25], [0.9986501, 0.0013499, 0.6914625, 0.0227501, 0.5987063]),
    ):
        by_hand = torch.tensor([x * share for x, share in zip(numbers, below, strict=True)])  # share of numbers below x

        assert_close(impl.gelu(torch.tensor(numbers)), by_hand, f"gelu of {numbers}")
        assert_close(impl.gelu(torch.tensor(numbers), False), by_hand, f"gelu of {numbers} with approximate = False")


@pytest.mark.visible
@pytest.mark.points(2)
def test_tanh_form_by_hand(impl):
    """the tanh form of gelu of five numbers"""
    for numbers, by_hand in (
        ([0.0, 1.0, -1.0, 2.0, -0.5], [0.0, 0.8411920, -0.1588080, 1.9545977, -0.1542860]),
        ([3.0, -3.0, 0.5, -2.0, 2.5], [2.9963626, -0.0036374, 0.3457140, -0.0454023, 2.4849157]),
    ):
        what = f"the tanh form of gelu of {numbers}"
        assert_close(impl.gelu(torch.tensor(numbers), approximate=True), torch.tensor(by_hand), what)
        assert_close(impl.gelu(torch.tensor(numbers), True), torch.tensor(by_hand), what)


def test_gelu_of_opposite_numbers(impl, randn):
    """gelu(x) - gelu(-x) is x, in both forms"""
    for dtype in PRECISE:
        for approximate in False, True:
            x = 2.0 * randn(3, 7, dtype=dtype)
            out, opposite = (assert_tensor(call_gelu(impl, y, approximate), NAMES[approximate]) for y in (x, -x))

            assert_close(out - opposite, x, f"{NAMES[approximate]}: gelu(x) - gelu(-x)")


@pytest.mark.visible
def test_gelu_of_large_numbers(impl):
    """far from 0 gelu is the number itself, or 0, in every dtype"""
    for dtype in F32, F64, BF16:
        for approximate in False, True:
            for numbers in [30.0, 100.0, 10_000.0], [-30.0, -100.0, -10_000.0], [10.0, -10_000.0, 50.0]:
                x = torch.tensor(numbers, dtype=dtype)
                out = call_gelu(impl, x, approximate)

                what = f"{NAMES[approximate]} of {numbers} in {str(dtype).removeprefix('torch.')}"
                positive = x.clamp(min=0.0)
                assert_close(out, positive, what)
                assert_close(out[x < 0], positive[x < 0], f"{what}: the negative numbers", tolerance=1e-4)


@pytest.mark.points(2)
def test_gelu_matches_the_reference(impl, randn, rng):
    """gelu of random numbers, of any shape and strides, in float32 and float64"""
    for dtype in PRECISE:
        several = {
            "a single number": randn(1, dtype=dtype)[0],
            "an x of shape (1,)": randn(1, dtype=dtype),
            "another x of shape (1,)": randn(1, dtype=dtype),
            "a transposed x": randn(4, 3, 5, dtype=dtype).transpose(0, 2),
            "every other number of an x": 2.0 * randn(3, 10, dtype=dtype)[:, ::2],
            "a repeated x": randn(1, 5, dtype=dtype).expand(4, 5),
            "a wide x": 4.0 * randn(rng.randint(2, 5), rng.randint(6, 60), dtype=dtype),
            "an x of large numbers": 1000.0 * randn(7, dtype=dtype),
        }
        for approximate in False, True:
            for kind, x in several.items():
                paper = [gelu_on_paper(number, approximate) for number in x.double().flatten().tolist()]
                expected = torch.tensor(paper, dtype=F64).view(x.shape)

                what = f"{NAMES[approximate]} of {kind} in {str(dtype).removeprefix('torch.')}"
                tolerance = CONSTANTS if dtype == F64 else None
                hint = "If float32 is right: what is rounded to float32 on the way?" if dtype == F64 else ""
                assert_close(
                    call_gelu(impl, x, approximate), expected, what, dtype=dtype, tolerance=tolerance, hint=hint
                )
            x = torch.cat((randn(6, dtype=dtype), torch.tensor([1.0, -1.0, 2.0], dtype=dtype)))
            expected = torch.tensor([gelu_on_paper(number, approximate) for number in x.tolist()], dtype=F64)
            with torch.no_grad():
                out = call_gelu(impl, x, approximate)
            what = f"{NAMES[approximate]} in {str(dtype).removeprefix('torch.')}"
            assert_close(out, expected, f"{what}, under no_grad", dtype=dtype, tolerance=tolerance, hint=hint)
    x = torch.cat((2.0 * randn(20, dtype=F64), torch.tensor([0.5, 1.0, -1.5], dtype=F64)))
    for approximate in False, True:  # a constant held in float32 moves neighbours alike, a rounding does not
        low, high = (assert_shape(call_gelu(impl, y, approximate), x.shape, NAMES[approximate]) for y in (x, x + 1e-3))
        paper = [gelu_on_paper(a + 1e-3, approximate) - gelu_on_paper(a, approximate) for a in x.tolist()]
        what = f"{NAMES[approximate]} in float64, from a number to the number that is larger by 0.001: the growth"
        hint = "What is rounded to float32 on the way?"
        assert_close(high - low, torch.tensor(paper, dtype=F64), what, hint=hint)


def test_gelu_of_bfloat16(impl, randn):
    """gelu of bfloat16 is bfloat16"""
    for approximate in False, True:
        for _ in range(2):
            x = 2.0 * randn(4, 9, dtype=BF16)
            paper = [gelu_on_paper(number, approximate) for number in x.flatten().tolist()]

            what = f"{NAMES[approximate]} in bfloat16"
            assert_close(call_gelu(impl, x, approximate), torch.tensor(paper).view(4, 9), what, dtype=BF16)


@pytest.mark.points(2)
def test_gelu_gradients(impl, reference, randn):
    """the gradient of gelu in both forms, in a second backward pass too"""
    for dtype in (*PRECISE, BF16):
        for approximate in False, True:
            for _ in range(2):
                x = 2.0 * randn(3, 5, dtype=dtype)
                x[1, 2] = 0.0  # where a root or a sign on the way has no slope, but gelu has one
                x.requires_grad_()
                true_x, cotangent = x.detach().double().requires_grad_(), randn(3, 5)
                out, right = call_gelu(impl, x, approximate), reference.gelu(true_x, approximate)

                what = f"{NAMES[approximate]} in {str(dtype).removeprefix('torch.')}: the gradient"
                assert_shape(out, (3, 5), f"{NAMES[approximate]} of an x of shape (3, 5)", dtype=dtype)
                tolerance = {F32: None, F64: 3 * CONSTANTS, BF16: 0.05 * float(cotangent.abs().max())}[dtype]
                assert_gradients_match(out, {"x": x}, right, {"x": true_x}, cotangent, what, tolerance=tolerance)


# --- the network: shapes, names and parts -------------------------------------------------------------------


@pytest.mark.visible
def test_network_shapes(impl, randn):
    """FeedForward returns as many features per token as it was given"""
    module = impl.FeedForward(6, 10)
    with torch.no_grad():  # the names come later, and zeros would be fine to start with
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    seen = torch.zeros(0)

    for B, T in (3, 5), (3, 5), (1, 1), (2, 7):
        x = randn(B, T, 6)
        out = module(x)

        what = f"the output for B = {B}, T = {T}, D = 6, F = 10"
        assert_shape(out, (B, T, 6), what, dtype=F32)
        assert_differs(out, seen, f"{what}, and the output for another x")
        assert_differs(out, x, f"{what}, and x")
        seen = out


@pytest.mark.visible
def test_parameter_names(impl, randn):
    """the weights and biases of w1 and w2, and nothing else, are saved and loaded"""
    module = impl.FeedForward(3, 5, 0.1).eval()
    asked = {name: tuple(tensor.shape) for name, tensor in weights_of(3, 5, randn).items()}

    for when in "", " after a call":
        for found, place in (
            (module.named_parameters(), "named_parameters()"),
            (module.state_dict().items(), "state_dict()"),
        ):
            came = {name: tuple(tensor.shape) for name, tensor in found}
            for name in sorted(came.keys() | asked.keys()):
                if came.get(name) != asked.get(name):
                    wrong, right = came.get(name, "missing"), asked.get(name, "absent")
                    raise CheckFailure(f"{place}{when} for D = 3, F = 5: {name} is {wrong}, but should be {right}.")
        bias = randn(3)
        module.load_state_dict(weights_of(3, 5, randn) | {"w2.weight": torch.zeros(3, 5), "w2.bias": bias})
        assert_close(module(randn(1, 1, 3)).flatten(), bias, "a w2.weight of zeros was loaded: the output is w2.bias")


@pytest.mark.visible
@pytest.mark.points(2)
def test_network_by_hand(impl):
    """two tokens of two features and a hidden layer of three, worked out on paper"""
    module = impl.FeedForward(2, 3).eval()
    w1, b1 = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-1.0, 1.0]]), torch.tensor([0.0, 1.0, -1.0])
    w2 = torch.tensor([[1.0, 1.0, 0.0], [0.0, 2.0, 3.0]])

    for b2 in [0.5, -20.0], [-7.0, 4.0]:
        module.load_state_dict({"w1.weight": w1, "w1.bias": b1, "w2.weight": w2, "w2.bias": torch.tensor(b2)})
        out = module(torch.tensor([[[1.0, 2.0], [-3.0, 1.0]]]))

        # w1 x + b1 is (1, 5, 0) and (-3, 3, 3), and after the ReLU (1, 5, 0) and (0, 3, 3)
        by_hand = torch.tensor([[[6.0, 10.0], [3.0, 15.0]]]) + torch.tensor(b2)
        what = f"x = (1, 2) and (-3, 1), hidden features (1, 5, 0) and (0, 3, 3), w2.bias = {b2}: the output"
        assert_close(out, by_hand, what)


@pytest.mark.visible
def test_relu_stands_between_the_layers(impl, randn):
    """the negative hidden features become 0, the positive ones stay, and the output may be negative"""
    eye = torch.eye(4)

    for sign, what in (1.0, "ReLU(x) + ReLU(-x) = |x|"), (-1.0, "ReLU(x) - ReLU(-x) = x"):
        module = impl.FeedForward(4, 8).eval()
        w1, w2 = torch.cat((eye, -eye)), torch.cat((eye, sign * eye), dim=1)
        for shift, size in (0.0, 8.0), (-5.0, 8.0), (3.0, 0.002):
            weights = {"w1.weight": w1, "w1.bias": torch.zeros(8), "w2.weight": w2}
            module.load_state_dict(weights | {"w2.bias": torch.full((4,), shift)})
            x = size * randn(2, 3, 4)
            out = module(x)

            expected = x.abs() + shift if sign == 1.0 else x + shift
            hint = "Which activation stands where?"
            assert_close(out, expected, f"weights with which the output is {what}, plus {shift:g}", hint=hint)


def test_biases_count(twins, randn):
    """the biases of both layers are added"""
    mine, ref = twins("FeedForward", 5, 7)
    weights = {name: tensor.float() for name, tensor in ref.state_dict().items()}

    for kept in "w1.bias", "w2.bias":
        changed = {n: torch.zeros_like(w) if n.endswith("bias") and n != kept else w for n, w in weights.items()}
        for scale in 1.0, -2.0:
            changed[kept] = scale * weights[kept]
            mine.load_state_dict(changed)
            ref.load_state_dict(changed)
            assert_same(mine, ref, randn(2, 3, 5), f"only {kept} is not 0: the output")


def test_tokens_do_not_meet(impl, twins, randn):
    """a token gets the same output whatever stands beside it"""
    mine, _ = twins("FeedForward", 6, 9)
    x, other = randn(3, 5, 6), randn(3, 5, 6)

    out = assert_shape(mine(x), (3, 5, 6), "the output").detach()

    assert_close(mine(x[1:2, 3:4]), out[1:2, 3:4], "a token alone, and among others")
    assert_close(mine(x[:, [4, 0, 3, 1, 2]]), out[:, [4, 0, 3, 1, 2]], "the tokens in another order")
    assert_close(mine(x.transpose(0, 1)), out.transpose(0, 1), "tokens and batch items exchanged")
    other[2, 4] = x[2, 4]
    assert_close(mine(other)[2, 4], out[2, 4], "a token whose neighbours were exchanged")
    assert_answers(impl, randn)


# --- the whole ----------------------------------------------------------------------------------------------


@pytest.mark.points(2)
def test_matches_the_reference(twins, randn, rng):
    """random sizes, size 1, and tensors that are not contiguous"""
    drawn = [[rng.choice((1, 2, 3, 5, 7)) for _ in range(4)] for _ in range(4)]
    for B, T, D, F in (1, 1, 1, 1), (2, 3, 4, 4), (3, 3, 5, 2), (4, 2, 4, 2), (2, 3, 1, 6), *drawn:
        mine, ref = twins("FeedForward", D, F)
        sizes = f"B = {B}, T = {T}, D = {D}, F = {F}"

        assert_same(mine, ref, randn(B, T, D), sizes)
        assert_same(mine, ref, randn(B, T, D), f"{sizes}, another x")
        assert_same(mine, ref, randn(T, B, D).transpose(0, 1), f"{sizes}, an x transposed from (T, B, D)")
        assert_same(mine, ref, randn(B, D, 2 * T)[..., ::2].transpose(1, 2), f"{sizes}, a sliced and transposed x")
        with torch.no_grad():
            assert_same(mine, ref, randn(B, T, D), f"{sizes}, under no_grad")
        assert_same(mine.train(), ref, randn(B, T, D), f"{sizes}, training mode with dropout = 0")


def test_float64(twins, randn):
    """a float64 network computes in float64 all the way"""
    mine, ref = twins("FeedForward", 5, 7)
    mine.double()

    for _ in range(2):
        finer = {name: w + 1e-6 * randn(*w.shape, dtype=F64) for name, w in ref.state_dict().items()}
        mine.load_state_dict(finer)  # weights that float32 cannot hold
        ref.load_state_dict(finer)
        hint = "If the other checks pass: what is rounded to float32 on the way?"
        assert_same(mine, ref, randn(2, 3, 5, dtype=F64), "float64", hint)


def test_bfloat16(twins, randn):
    """a bfloat16 network takes and returns bfloat16"""
    mine, ref = twins("FeedForward", 6, 9)
    mine.bfloat16()
    ref.bfloat16().double()  # the same weights, rounded

    for _ in range(2):
        assert_same(mine, ref, randn(2, 3, 6, dtype=BF16), "bfloat16")
    far = ref.state_dict()
    far["w1.bias"] = torch.tensor([6.0, -6.0, 5.0] * 3, dtype=F64)  # no hidden feature near 0, where the slope jumps
    mine.load_state_dict({name: weight.bfloat16() for name, weight in far.items()})
    ref.load_state_dict(far)
    x, cotangent = randn(2, 3, 6, dtype=BF16).requires_grad_(), randn(2, 3, 6, dtype=BF16)
    true_x = x.detach().double().requires_grad_()
    out = assert_shape(mine(x), (2, 3, 6), "the output", dtype=BF16)
    loose = 0.1 * float(cotangent.float().abs().max())
    what = "bfloat16: the gradient"
    assert_gradients_match(out, {"x": x}, ref(true_x), {"x": true_x}, cotangent, what, tolerance=loose)


@pytest.mark.points(2)
def test_gradients(twins, randn):
    """the gradients of x and of all parameters, in a second backward pass too"""
    for dtype in PRECISE:
        mine, ref = twins("FeedForward", 5, 8)
        mine.to(dtype)
        for B, T, training in (2, 4, False), (2, 4, True), (3, 1, False), (1, 2, True):
            mine.train(training)
            x = randn(B, T, 5, dtype=dtype).requires_grad_()
            true_x, cotangent = x.detach().double().requires_grad_(), randn(B, T, 5, dtype=dtype)
            out = assert_shape(mine(x), (B, T, 5), "the output", dtype=dtype)

            leaves = {"x": x} | dict(mine.named_parameters())
            true_leaves = {"x": true_x} | dict(ref.named_parameters())
            what = f"B = {B}, T = {T}, {'training' if training else 'eval'} mode: the gradient"
            assert_gradients_match(out, leaves, ref(true_x), true_leaves, cotangent, what)


# --- dropout ------------------------------------------------------------------------------------------------


def mixing(F: int) -> Tensor:
    """Return a w2.weight under which output i is hidden feature i plus half of feature i - 1."""
    return torch.eye(F) + 0.5 * torch.eye(F).roll(1, dims=0)


def unmixed(out: Tensor, bias: Tensor) -> Tensor:
    """Return the hidden features that ``mixing`` and ``bias`` turned into ``out``, in float64."""
    return (out.detach() - bias).double() @ mixing(len(bias)).double().inverse().T


def hidden_in_training(impl, randn, p: float, dtype: torch.dtype = F32) -> tuple[Tensor, Tensor]:
    """Return the hidden features with dropout and without it, both (B, T, F), after a check of the latter.

    They are all positive, and the output tells them.
    """
    B, T, F = 60, 8, 12
    module = impl.FeedForward(F, F, p)
    w1, b1, b2 = 0.1 * randn(F, F), 3.0 + randn(F).abs(), 7.0 + randn(F).abs()
    module.load_state_dict({"w1.weight": w1, "w1.bias": b1, "w2.weight": mixing(F), "w2.bias": b2})
    module.to(dtype)
    x = randn(B, T, F).clamp(-2.0, 2.0)

    hidden = (x @ w1.T + b1).double()
    expected = hidden @ mixing(F).double().T + b2
    what, tolerance = f"dropout = {p}, eval mode, all hidden features positive: the output", 1e-4
    assert_close(
        module.eval()(x.to(dtype)), expected, what, dtype=dtype, tolerance=None if dtype == BF16 else tolerance
    )
    out = assert_shape(module.train()(x.to(dtype)), (B, T, F), f"dropout = {p}, training mode: the output", dtype=dtype)
    return unmixed(out, b2), hidden


@pytest.mark.visible
@pytest.mark.points(2)
def test_dropout_falls_on_hidden_features(impl, randn):
    """in training, dropout sets single hidden features to 0, each drawn on its own"""
    for p in 0.25, 0.6:
        used, _ = hidden_in_training(impl, randn, p)
        gone = used.abs() < 1e-4

        share = float(gone.double().mean())
        if abs(share - p) > 6 * math.sqrt(p * (1 - p) / gone.numel()):  # six standard deviations
            raise CheckFailure(
                f"dropout = {p}, training mode: the outputs show that {share:.3f} of the hidden features were 0, "
                f"but it should be {p}. All are positive before dropout."
            )
        counts = gone.double().sum(dim=-1)  # of each token
        if float(counts.var()) < 0.5 * 12 * p * (1 - p):
            raise CheckFailure(
                f"dropout = {p}: the tokens lose nearly the same number of hidden features each, "
                f"{counts.min():.0f} to {counts.max():.0f} of 12. Is every number drawn on its own?"
            )
        for dim, name in enumerate(("batch items", "tokens", "hidden features")):
            n = gone.shape[dim] - 1
            both = float((gone.narrow(dim, 0, n) & gone.narrow(dim, 1, n)).double().mean())
            if abs(both - p * p) > 8 * p / math.sqrt(gone.numel()):  # more than six standard deviations
                raise CheckFailure(
                    f"dropout = {p}: neighbouring {name} lose a number together in {both:.3f} of all cases, "
                    f"but chance alone makes it {p * p:.3f}. Is every number drawn on its own?"
                )


@pytest.mark.visible
def test_dropout_keeps_the_average(impl, randn):
    """in training, the hidden features that are kept grow to 1 / (1 - dropout) of what they were"""
    for p in 0.25, 0.6:
        used, hidden = hidden_in_training(impl, randn, p)

        kept = used.abs() > 1e-4
        if not kept.any():
            raise CheckFailure(f"dropout = {p}: no hidden feature is left in training mode.")
        what = f"dropout = {p}, training mode: the hidden features that are not dropped"
        assert_close(used[kept], (hidden / (1 - p))[kept], what, tolerance=1e-4, hint="Is anything else dropped?")
        for dtype in F64, BF16:
            used, hidden = hidden_in_training(impl, randn, p, dtype)
            change = float((used.mean() - hidden.mean()).abs())
            chance = 6 * math.sqrt(p / (1 - p) * float((hidden**2).mean()) / hidden.numel())  # six standard deviations
            if not change < chance + 0.02 * float(hidden.mean()):
                raise CheckFailure(
                    f"dropout = {p}, training mode in {str(dtype).removeprefix('torch.')}: the average hidden feature "
                    f"is {float(used.mean()):.3f}, but it should stay near {float(hidden.mean()):.3f}."
                )
        assert_answers(impl, randn)


def test_dropout_in_eval_and_afresh(impl, twins, randn):
    """dropout does nothing in eval mode or with probability 0, and draws afresh in each call of training"""
    mine, ref = twins("FeedForward", 8, 300, 0.5)  # so many that no two draws are alike by chance
    never, _ = twins("FeedForward", 8, 300)
    x = randn(3, 5, 8)

    for _ in range(2):  # there and back
        assert_close(mine(x), mine(x).detach(), "two calls in eval mode with dropout = 0.5")
        first, second = (assert_shape(mine.train()(x), (3, 5, 8), "the output").detach() for _ in range(2))
        assert_differs(second, first, "two calls in training mode with dropout = 0.5")
        mine.eval()
    assert_same(mine, ref, randn(2, 4, 8), "eval mode with dropout = 0.5, after training")
    quiet = never(x).detach()
    assert_close(never.train()(x), quiet, "no dropout, training mode and eval mode")
    mine.train()
    for dtype in F32, F64, BF16:
        mine.to(dtype)
        for B, T in (1, 5), (5, 1), (1, 1):
            y, what = randn(B, T, 8, dtype=dtype), f"B = {B}, T = {T}, training mode with dropout = 0.5"
            for grad in True, False:
                with torch.set_grad_enabled(grad):
                    outs = [assert_shape(mine(y), (B, T, 8), f"{what}: the output", dtype=dtype) for _ in range(2)]
                assert_differs(*outs, f"{what}: two calls" + ("" if grad else " under no_grad"))
    keyword = impl.FeedForward(d_model=8, d_ff=300, dropout=0.5).train()
    keyword.load_state_dict(weights_of(8, 300, randn))  # zeros would be fine to start with
    first, second = (assert_shape(keyword(x), (3, 5, 8), "the output").detach() for _ in range(2))
    assert_differs(second, first, "two calls in training mode with dropout=0.5 given by its name")
    assert_answers(impl, randn)


def test_gradients_in_training(impl, randn):
    """the gradient goes through the hidden features that were kept, grown like them"""
    for p in 0.5, 0.2:
        module = impl.FeedForward(6, 6, p)
        w1, b1 = 0.2 * randn(6, 6), torch.tensor([3.0, -3.0, 2.5, 4.0, 3.0, 2.5])  # none near 0, where the slope jumps
        b2 = randn(6)
        module.load_state_dict({"w1.weight": w1, "w1.bias": b1, "w2.weight": mixing(6), "w2.bias": b2})
        x, cotangent = randn(5, 4, 6).clamp(-2.0, 2.0).requires_grad_(), randn(5, 4, 6)
        out = assert_shape(module.train()(x), (5, 4, 6), "the output")

        true_x, true_w1 = x.detach().double().requires_grad_(), w1.double().requires_grad_()
        kept = (unmixed(out, b2).abs() > 1e-3) / (1 - p)
        right = (torch.relu(true_x @ true_w1.T + b1) * kept) @ mixing(6).double().T + b2
        hint = "Some hidden features should be 0, the others 1 / (1 - dropout) of what they were."
        assert_close(out, right, f"dropout = {p}, training mode: the output", dtype=F32, tolerance=1e-4, hint=hint)
        leaves, true_leaves = {"x": x, "w1.weight": module.w1.weight}, {"x": true_x, "w1.weight": true_w1}
        what = f"training mode with dropout = {p}: the gradient"
        assert_gradients_match(out, leaves, right, true_leaves, cotangent, what)


# --- good manners -------------------------------------------------------------------------------------------


def test_repeated_calls(impl, twins, randn):
    """call after call with other sizes, weights and dtypes, and two networks that share nothing"""
    pairs = [twins("FeedForward", 5, 7), twins("FeedForward", 5, 7), twins("FeedForward", 3, 4)]

    for dtype in F32, F64, F32:
        for mine, ref in pairs:
            mine.to(dtype)
            D = ref.w1.in_features
            for B, T in (2, 3), (2, 3), (4, 1), (1, 6):
                assert_same(mine, ref, randn(B, T, D, dtype=dtype), f"B = {B}, T = {T}, after other calls")
            with torch.no_grad():  # as an optimizer does it
                assert_same(mine, ref, randn(2, 3, D, dtype=dtype), "under no_grad, before the weights are changed")
                for name, parameter in mine.named_parameters():
                    parameter.mul_(0.5)
                    dict(ref.named_parameters())[name].mul_(0.5)
                assert_same(mine, ref, randn(2, 3, D, dtype=dtype), "under no_grad, after the weights were changed")
            assert_same(mine, ref, randn(2, 3, D, dtype=dtype), "after the weights were changed in place")
    for approximate in False, True:
        for dtype in F32, F64, F32:
            for x in randn(4, dtype=dtype), randn(4, dtype=dtype), randn(2, 3, dtype=dtype):
                paper = [gelu_on_paper(number, approximate) for number in x.double().flatten().tolist()]
                expected = torch.tensor(paper, dtype=F64).view(x.shape)
                tolerance = CONSTANTS if dtype == F64 else None
                out, what = call_gelu(impl, x, approximate), f"{NAMES[approximate]} after other calls"
                assert_close(out, expected, what, dtype=dtype, tolerance=tolerance)


def test_leaves_the_inputs_alone(impl, twins, randn):
    """x is the same after the call, and so are the weights"""
    mine, _ = twins("FeedForward", 4, 6, 0.5)
    x = randn(2, 3, 4)
    before, weights = x.clone(), {name: tensor.clone() for name, tensor in mine.state_dict().items()}

    for mode in mine.eval(), mine.train():
        mode(x)
        assert_close(x, before, "x after a call of FeedForward and before it", tolerance=0.0)
    for name, tensor in mine.state_dict().items():
        assert_close(tensor, weights[name], f"{name} after the calls and before them", tolerance=0.0)
    for approximate in False, True:
        x = randn(7)
        before = x.clone()
        out = call_gelu(impl, x, approximate)
        assert_close(x, before, f"x after {NAMES[approximate]} and before it", tolerance=0.0)
        assert_differs(out, x, f"{NAMES[approximate]}, and x")
        opposite = call_gelu(impl, -x, approximate)
        assert_close(assert_tensor(out, "gelu") - opposite, x, f"{NAMES[approximate]}: gelu(x) - gelu(-x)")
    assert_answers(impl, randn)


@pytest.mark.visible
def test_errors(impl, randn):
    """sizes below 1 raise ValueError"""
    for d_model, d_ff in (0, 4), (-3, 4), (4, 0), (4, -1), (0, 0):
        assert_rejects(
            lambda sizes=(d_model, d_ff): impl.FeedForward(*sizes),
            f"d_model = {d_model}, d_ff = {d_ff}",
            good=lambda: assert_answers(impl, randn),
        )


def test_no_loops(impl, twins, randn):
    """the number of tensor operations does not grow with the tokens, the batch or the numbers"""
    mine, _ = twins("FeedForward", 4, 6)
    dropping, _ = twins("FeedForward", 4, 6, 0.5)
    dropping.train()
    x = randn(40, 40, 4)

    for module in mine, dropping:
        assert_no_loop(impl, lambda n, module=module: module(x[:2, :n]), "tokens")
        assert_no_loop(impl, lambda n, module=module: module(x[:n, :2]), "batch items")
    for approximate in False, True:
        assert_no_loop(impl, lambda n, a=approximate: call_gelu(impl, x[:n, :2], a), "rows of an x for gelu")
        assert_no_loop(impl, lambda n, a=approximate: call_gelu(impl, x[:n, 0], a), "rows of a matrix for gelu")
        assert_no_loop(impl, lambda n, a=approximate: call_gelu(impl, x[0, :n, 0], a), "numbers of an x for gelu")
        out, y = call_gelu(impl, x[:, 0], approximate), x[:, 0]
        opposite = call_gelu(impl, -y, approximate)
        assert_close(assert_tensor(out, "gelu") - opposite, y, f"{NAMES[approximate]}: gelu(x) - gelu(-x)")
    assert_answers(impl, randn)


def test_follows_the_device(impl, twins, randn):
    """computes on the device that the module and the input are on"""
    module = impl.FeedForward(4, 6, 0.3).to("meta")
    x = randn(2, 3, 4).to("meta")

    for mode in module.eval(), module.train():
        assert_follows_device(impl, lambda mode=mode: mode(x), "the output of FeedForward")
    for approximate in False, True:
        assert_follows_device(impl, lambda a=approximate: call_gelu(impl, x, a), NAMES[approximate])
        y = randn(3, 4)
        out, opposite = (assert_tensor(call_gelu(impl, z, approximate), "gelu") for z in (y, -y))
        assert_close(out - opposite, y, f"{NAMES[approximate]} on the CPU: gelu(x) - gelu(-x)")
    assert_answers(impl, randn)


# --- diagnosis and picture ----------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    numbers = torch.tensor([-2.5, -1.0, -0.25, 0.0, 0.5, 1.0, 3.0])
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in (("w1", (7, 4)), ("w2", (4, 7)))}
    x = torch.randn(2, 3, 4, generator=generator)

    def make(d_model, d_ff, dropout, **loaded):
        module = impl.FeedForward(d_model, d_ff, dropout)
        zeros = {"w1.bias": torch.zeros(d_ff), "w2.bias": torch.zeros(d_model)}  # they may be missing
        module.load_state_dict({f"{name}.weight": w for name, w in loaded.items()} | zeros, strict=False)
        return module

    def in_eval(dropout):
        return make(4, 7, dropout, **weights).eval()(x).detach()

    def rests_in_eval():
        return torch.allclose(in_eval(0.5), in_eval(0.0))

    def in_training():
        """With weights of 1/4 and 1/3, what is dropped shows in which shares of 1 come out."""
        averages = {"w1": torch.full((3, 4), 1 / 4), "w2": torch.full((4, 3), 1 / 3)}
        out = make(4, 3, 0.25, **averages).train()(torch.ones(800, 2, 4)).detach()
        return sorted({round(float(value), 2) for value in out.unique()})[:20], round(float(out.mean()), 1)

    return {
        "exact": observe(lambda: impl.gelu(numbers)),
        "tanh form": observe(lambda: impl.gelu(numbers, approximate=True)),
        "names": observe(lambda: sorted(impl.FeedForward(4, 7).state_dict())),
        "output": observe(lambda: in_eval(0.0)),
        "dropout in eval": observe(rests_in_eval),
        "dropout in training": observe(in_training),
    }


def picture(impl) -> list[Panel]:
    """Draw both forms of GELU beside ReLU, and how far the forms are apart."""
    x = torch.linspace(-4.0, 4.0, 161)
    exact, close = impl.gelu(x).detach(), impl.gelu(x, approximate=True).detach()
    across = "x from -4 to 4"
    curves = torch.stack((exact, close, x.relu()))
    return [
        Panel("GELU and ReLU", curves, "lines", across, "activation", ("exact", "tanh form", "ReLU")),
        Panel("The tanh form less the exact form", (close - exact)[None], "lines", across, "difference"),
    ]
