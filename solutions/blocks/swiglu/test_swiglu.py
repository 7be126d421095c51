"""Hidden suite of swiglu: the hidden width, then the network from its shape over its parts to the whole.

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
    describe,
    observe,
)

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
PRECISE = (F32, F64)


def assert_width(got: object, expected: int, what: str, hint: str = "") -> None:
    """Compare a hidden width, which is a Python int."""
    if type(got) is not int:
        raise CheckFailure(f"{what}: an int should come back, but {describe(got)} came.")
    if got != expected:
        raise CheckFailure(f"{what}: {expected} was expected, but {got} came. {hint}".strip())


def weights_of(dim: int, hidden_dim: int, randn) -> dict[str, Tensor]:
    """Return random weights with the right names."""
    return {
        "w1.weight": randn(hidden_dim, dim) / dim**0.5,
        "w2.weight": randn(dim, hidden_dim) / hidden_dim**0.5,
        "w3.weight": randn(hidden_dim, dim) / dim**0.5,
    }


def load(impl, w1: Tensor, w2: Tensor, w3: Tensor):
    """Return the learner's module with these weights."""
    module = impl.SwiGLU(w1.shape[1], w1.shape[0])
    module.load_state_dict({"w1.weight": w1, "w2.weight": w2, "w3.weight": w3})
    return module


def assert_answers(impl, randn, dtype: torch.dtype = F32) -> None:
    """Check that a network answers at all: where both branches are far above 0, their product goes through w2."""
    open_wide, through, w2 = 40.0 + 5.0 * randn(4).abs(), 40.0 + 5.0 * randn(4).abs(), randn(3, 4)
    first = torch.eye(3)[:1]  # only the first feature counts, and it is 1
    module = load(impl, open_wide[:, None] * first, w2, through[:, None] * first).to(dtype).eval()
    x = randn(2, 5, 3, dtype=dtype)
    x[..., 0] = 1.0
    expected = w2.double() @ (open_wide.double() * through.double())

    what = "both branches far above 0, where SiLU changes nothing: the output"
    assert_close(module(x), expected.expand(2, 5, 3), what, dtype=dtype)


def assert_same(mine, ref, x: Tensor, what: str, hint: str = "") -> None:
    """Compare with the reference in float64, as closely as the dtype of ``x`` allows."""
    assert_close(mine(x), ref(x.detach().double()), what, dtype=x.dtype, hint=hint)


# --- the hidden width ---------------------------------------------------------------------------------------


@pytest.mark.visible
def test_two_thirds_by_hand(impl):
    """two thirds of 4 * dim, rounded down, with multiple_of = 1"""
    for dim, by_hand in (3, 8), (6, 16), (4, 10), (5, 13), (1, 2), (100, 266), (400_000, 1_066_666):
        assert_width(impl.swiglu_hidden_dim(dim, 1), by_hand, f"dim = {dim}, so two thirds of {4 * dim}, rounded down")
        what = f"dim = {dim} by name, multiple_of = 1 by name, no multiplier"
        assert_width(impl.swiglu_hidden_dim(dim=dim, multiple_of=1, ffn_dim_multiplier=None), by_hand, what)


@pytest.mark.visible
@pytest.mark.points(2)
def test_rounds_up_to_a_multiple(impl):
    """the width is rounded up to a multiple; one that is a multiple already stays"""
    for dim, multiple_of, by_hand in (
        (4, 4, 12),
        (4, 10, 10),
        (6, 16, 16),
        (6, 8, 16),
        (6, 15, 30),
        (5, 7, 14),
        (5, 100, 100),
        (96, 256, 256),
        (97, 256, 512),
        (48, 128, 128),
    ):
        what = f"dim = {dim}, multiple_of = {multiple_of}: {8 * dim // 3} rounded up"
        assert_width(impl.swiglu_hidden_dim(dim, multiple_of), by_hand, what)


@pytest.mark.visible
@pytest.mark.points(2)
def test_published_widths(impl):
    """the hidden widths of LLaMA 7B, 13B, 33B and 65B, with the default multiple of 256"""
    for name, dim, published in (
        ("7B", 4096, 11008),
        ("13B", 5120, 13824),
        ("33B", 6656, 17920),
        ("65B", 8192, 22016),
    ):
        hint = f"Two thirds of {4 * dim} is {8 * dim // 3}; which multiples of 256 lie next to it?"
        assert_width(impl.swiglu_hidden_dim(dim), published, f"LLaMA {name}, dim = {dim}", hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_multiplier(impl):
    """the multiplier comes between the rounding down and the rounding up"""
    for dim, multiple_of, multiplier, right in (
        (4, 1, 1.5, 15),
        (5, 1, 1.5, 19),  # 13 * 1.5 = 19.5; without the first rounding it would be 20
        (5, 1, 1.0, 13),
        (7, 1, 0.5, 9),
        (6, 12, 1.25, 24),  # 16 -> 20 -> 24
        (6, 10, 1.25, 20),  # 16 -> 20; rounded up before it would be 20 -> 25
        (6, 1, 0.25, 4),
        (19, 1, 0.58, 28),  # 50 * 0.58 is 28.999999999999996 in floats
        (6, 1, 2.0, 32),
        (1, 4, 0.5, 4),  # 2 -> 1 -> 4
        (4, 1, 0.7, 7),  # 10 * 0.7 is 7.0 in floats
    ):
        what = f"dim = {dim}, multiple_of = {multiple_of}, multiplier {multiplier}, so {8 * dim // 3} * {multiplier}"
        assert_width(impl.swiglu_hidden_dim(dim, multiple_of, multiplier), right, what, "In which order is rounded?")
    for name, dim, multiple_of, multiplier, published in (
        ("Llama 2 70B", 8192, 4096, 1.3, 28672),
        ("Llama 3 8B", 4096, 1024, 1.3, 14336),
        ("Llama 3.1 405B", 16384, 4096, 1.2, 53248),
        ("Llama 3.2 1B", 2048, 256, 1.5, 8192),
    ):
        width = impl.swiglu_hidden_dim(dim, multiple_of, ffn_dim_multiplier=multiplier)
        what = f"{name}, dim = {dim}, multiple_of = {multiple_of}, multiplier {multiplier}"
        assert_width(width, published, what)


def test_widths_of_all_kinds(impl, rng):
    """the three steps for random widths, multiples and multipliers"""
    for _ in range(40):
        dim, multiple_of = rng.randint(1, 9000), rng.choice((1, 2, 3, 32, 100, 256, 1024))
        multiplier = rng.choice((None, 1.3, 1.25, 0.9, 1.0, rng.uniform(0.2, 2.0)))
        two_thirds = 8 * dim // 3
        scaled = two_thirds if multiplier is None else int(multiplier * two_thirds)
        expected = next(n for n in range(scaled, scaled + multiple_of) if n % multiple_of == 0)
        if expected > 0:
            what = f"dim = {dim}, multiple_of = {multiple_of}, multiplier {multiplier}"
            assert_width(impl.swiglu_hidden_dim(dim, multiple_of, multiplier), expected, what)


@pytest.mark.visible
def test_width_errors(impl, rng):
    """a dim or a multiple_of below 1 raises ValueError"""

    def good() -> None:
        dim = 3 * rng.randint(1, 1000)
        assert_width(impl.swiglu_hidden_dim(dim, 1), 8 * dim // 3, f"dim = {dim}, multiple_of = 1")

    for dim, multiple_of in (0, 256), (-4096, 256), (4096, 0), (4096, -256), (0, 1):
        for multiplier in None, 1.3:
            assert_rejects(
                lambda sizes=(dim, multiple_of, multiplier): impl.swiglu_hidden_dim(*sizes),
                f"dim = {dim}, multiple_of = {multiple_of}",
                good=good,
            )


# --- the network: shapes, names and parts -------------------------------------------------------------------


@pytest.mark.visible
def test_network_shapes(impl, randn):
    """SwiGLU returns as many features per token as it was given"""
    module = impl.SwiGLU(dim=6, hidden_dim=10)
    with torch.no_grad():  # the names come later, and zeros would be fine to start with
        for parameter in module.parameters():
            parameter.uniform_(-1.0, 1.0)
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
    """the weights of w1, w2 and w3, with the hidden width as given, and nothing else, are saved and loaded"""
    for D, F in (3, 5), (4, 2), (3, 1):
        module = impl.SwiGLU(D, F)
        asked = {name: tuple(tensor.shape) for name, tensor in weights_of(D, F, randn).items()}

        for when in "", " after a call":
            for found, place in (
                (module.named_parameters(), "named_parameters()"),
                (module.state_dict().items(), "state_dict()"),
            ):
                came = {name: tuple(tensor.shape) for name, tensor in found}
                for name in sorted(came.keys() | asked.keys()):
                    if came.get(name) != asked.get(name):
                        wrong, right = came.get(name, "missing"), asked.get(name, "absent")
                        raise CheckFailure(f"{place}{when} for D = {D}, F = {F}: {name} is {wrong}, not {right}.")
            module.load_state_dict(weights_of(D, F, randn))
            assert_shape(module(randn(2, 2, D)), (2, 2, D), "the output with weights that were loaded")
    assert_answers(impl, randn)


@pytest.mark.visible
@pytest.mark.points(2)
def test_network_by_hand(impl):
    """one token of two features and a hidden width of three, worked out on paper"""
    log3 = math.log(3)  # silu(ln 3) is ln 3 * 3/4 and silu(-ln 3) is -ln 3 * 1/4
    w1, w3 = torch.tensor([[log3, 0.0], [0.0, log3], [0.0, -log3]]), torch.tensor([[0.0, 4.0], [4.0, 0.0], [2.0, 6.0]])
    w2 = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 1.0]])
    module = load(impl, w1, w2, w3)

    # w1 x is ln 3 times (1, 1, -1) and (1, -1, 1), w3 x is (4, 4, 8) and (-4, 4, -4)
    for x, hidden, by_hand in (
        ([1.0, 1.0], "ln 3 * (3, 3, -2)", [1.0, 4.0]),
        ([1.0, -1.0], "ln 3 * (-3, -1, -3)", [-6.0, -5.0]),
    ):
        out = module(torch.tensor([[x]]))

        what = f"x = {x}, after the gate {hidden}: the output"
        assert_close(out.flatten(), log3 * torch.tensor(by_hand), what)


def branches(impl):
    """Return a module of two features a, b whose output is (silu(a) * b, 0): w1 takes a, w3 takes b."""
    a, b = torch.eye(2).split(1)
    return load(impl, a, a.T.clone(), b)


@pytest.mark.visible
def test_the_gate_is_silu_of_w1(impl, randn):
    """SiLU acts on the branch of w1; the branch of w3 goes through as it is"""
    module = branches(impl)
    gates = {
        0.0: 0.0,
        math.log(3): 0.75 * math.log(3),
        -math.log(4): -0.2 * math.log(4),
        math.log(9): 0.9 * math.log(9),
    }

    for a, gate in gates.items():
        b = 3.0 * randn(1, 6)
        x = torch.stack((torch.full_like(b, a), b), dim=-1)  # (1, 6, 2)
        out = assert_shape(module(x), (1, 6, 2), "the output") if a else module(x)

        what = f"w1 x = {a:.4f}, so a gate of {gate:.4f}: the output for any w3 x"
        hint = "Which branch is the gate, and through what does it go?"
        assert_close(out[..., 0], gate * b, what, hint=hint)


@pytest.mark.visible
def test_large_gates(impl):
    """gates of 10 000 and -10 000 are open and shut, in every dtype"""
    for dtype in F32, F64, BF16:
        module = branches(impl).to(dtype)
        for size in 100.0, 10_000.0:
            x = torch.tensor([[[size, 3.0], [-size, 3.0], [size, -0.5], [-size, -size], [size, 0.0]]], dtype=dtype)
            out = module(x)

            by_hand = torch.tensor([[3.0 * x[0, 0, 0], 0.0, -0.5 * x[0, 2, 0], 0.0, 0.0]])
            what = f"gates of {size:g} and -{size:g} in {str(dtype).removeprefix('torch.')}: the output"
            assert_close(out[..., 0], by_hand, what, dtype=dtype)
            assert_close(
                out[:, [1, 3], 0], by_hand[:, [1, 3]], f"{what} behind shut gates", dtype=dtype, tolerance=1e-4
            )


def test_tokens_do_not_meet(impl, twins, randn):
    """a token gets the same output whatever stands beside it"""
    mine, _ = twins("SwiGLU", 6, 9)
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
    """random sizes, size 1, and tensors that are not contiguous, in training and in evaluation"""
    drawn = [[rng.choice((1, 2, 3, 5, 7)) for _ in range(4)] for _ in range(4)]
    for B, T, D, F in (1, 1, 1, 1), (2, 3, 4, 4), (3, 3, 5, 2), (4, 2, 4, 2), (2, 3, 1, 6), *drawn:
        mine, ref = twins("SwiGLU", D, F)
        sizes = f"B = {B}, T = {T}, D = {D}, F = {F}"

        assert_same(mine, ref, randn(B, T, D), sizes)
        assert_same(mine, ref, randn(T, B, D).transpose(0, 1), f"{sizes}, an x transposed from (T, B, D)")
        assert_same(mine, ref, randn(B, D, 2 * T)[..., ::2].transpose(1, 2), f"{sizes}, a sliced and transposed x")
        with torch.no_grad():
            assert_same(mine, ref, randn(B, T, D), f"{sizes}, under no_grad")
        assert_same(mine.train(), ref, randn(B, T, D), f"{sizes}, training mode")


def test_float64(twins, randn):
    """a float64 network computes in float64 all the way"""
    mine, ref = twins("SwiGLU", 5, 7)
    mine.double()

    for _ in range(2):
        finer = {name: w + 1e-6 * randn(*w.shape, dtype=F64) for name, w in ref.state_dict().items()}
        mine.load_state_dict(finer)  # weights that float32 cannot hold
        ref.load_state_dict(finer)
        hint = "If the other checks pass: what is rounded to float32 on the way?"
        assert_same(mine, ref, randn(2, 3, 5, dtype=F64), "float64", hint)


def test_bfloat16(twins, randn):
    """a bfloat16 network takes and returns bfloat16"""
    mine, ref = twins("SwiGLU", 6, 9)
    mine.bfloat16()
    ref.bfloat16().double()  # the same weights, rounded

    for training in False, True:
        assert_same(mine.train(training), ref, randn(2, 3, 6, dtype=BF16), "bfloat16")
    x, cotangent = randn(2, 3, 6, dtype=BF16).requires_grad_(), randn(2, 3, 6, dtype=BF16)
    true_x = x.detach().double().requires_grad_()
    out, right = assert_shape(mine(x), (2, 3, 6), "the output", dtype=BF16), ref(true_x)
    loose = 0.1 * float(torch.autograd.grad((right * cotangent).sum(), true_x, retain_graph=True)[0].abs().max())
    what = "bfloat16: the gradient"
    assert_gradients_match(out, {"x": x}, right, {"x": true_x}, cotangent, what, tolerance=loose)


@pytest.mark.points(2)
def test_gradients(twins, randn):
    """the gradients of x and of all parameters, in a second backward pass too"""
    for dtype in PRECISE:
        mine, ref = twins("SwiGLU", 5, 8)
        mine.to(dtype)
        for B, T, training in (2, 4, False), (2, 4, True), (3, 1, False), (1, 2, True):
            mine.train(training)
            x = randn(B, T, 5, dtype=dtype)
            x[0, 0] = 0.0  # SiLU has a slope there
            x.requires_grad_()
            true_x, cotangent = x.detach().double().requires_grad_(), randn(B, T, 5, dtype=dtype)
            out = assert_shape(mine(x), (B, T, 5), "the output", dtype=dtype)

            leaves = {"x": x} | dict(mine.named_parameters())
            true_leaves = {"x": true_x} | dict(ref.named_parameters())
            what = f"B = {B}, T = {T}, {'training' if training else 'eval'} mode: the gradient"
            assert_gradients_match(out, leaves, ref(true_x), true_leaves, cotangent, what)


# --- good manners -------------------------------------------------------------------------------------------


def test_repeated_calls(twins, randn):
    """call after call with other sizes, weights and dtypes, and two networks that share nothing"""
    pairs = [twins("SwiGLU", 5, 7), twins("SwiGLU", 5, 7), twins("SwiGLU", 3, 4)]

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


def test_leaves_the_inputs_alone(impl, twins, randn):
    """x is the same after the call, and so are the weights"""
    mine, _ = twins("SwiGLU", 4, 6)
    x = randn(2, 3, 4)
    before, weights = x.clone(), {name: tensor.clone() for name, tensor in mine.state_dict().items()}

    for mode in mine.eval(), mine.train():
        mode(x)
        assert_close(x, before, "x after a call of SwiGLU and before it", tolerance=0.0)
    for name, tensor in mine.state_dict().items():
        assert_close(tensor, weights[name], f"{name} after the calls and before them", tolerance=0.0)
    assert_answers(impl, randn)


@pytest.mark.visible
def test_network_errors(impl, randn):
    """sizes below 1 raise ValueError"""
    for dim, hidden_dim in (0, 4), (-3, 4), (4, 0), (4, -1), (0, 0):
        assert_rejects(
            lambda sizes=(dim, hidden_dim): impl.SwiGLU(*sizes),
            f"dim = {dim}, hidden_dim = {hidden_dim}",
            good=lambda: assert_answers(impl, randn),
        )


def test_no_loops(impl, twins, randn):
    """the number of tensor operations does not grow with the tokens or the batch"""
    mine, _ = twins("SwiGLU", 4, 6)
    x = randn(40, 40, 4)

    assert_no_loop(impl, lambda n: mine(x[:2, :n]), "tokens")
    assert_no_loop(impl, lambda n: mine(x[:n, :2]), "batch items")
    assert_answers(impl, randn)


def test_follows_the_device(impl, randn):
    """computes on the device that the module and the input are on"""
    module = impl.SwiGLU(4, 6).to("meta")
    x = randn(2, 3, 4).to("meta")

    for mode in module.eval(), module.train():
        assert_follows_device(impl, lambda mode=mode: mode(x), "the output")
    for dtype in PRECISE:
        assert_answers(impl, randn, dtype)


# --- diagnosis and picture ----------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    generator = torch.Generator().manual_seed(0)
    shapes = {"w1.weight": (7, 4), "w2.weight": (4, 7), "w3.weight": (7, 4)}
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    weights |= {"w1.bias": torch.zeros(7), "w2.bias": torch.zeros(4), "w3.bias": torch.zeros(7)}  # not asked for
    x = torch.randn(2, 3, 4, generator=generator)

    def names():
        return sorted((name, tuple(weight.shape)) for name, weight in impl.SwiGLU(4, 7).state_dict().items())

    def output():
        module = impl.SwiGLU(4, 7)
        if any(weights.get(n, weight).shape != weight.shape for n, weight in module.state_dict().items()):
            return "other shapes"
        module.load_state_dict(weights, strict=False)
        return module.eval()(x).detach()

    def widths(*calls):
        return [observe(lambda call=call: impl.swiglu_hidden_dim(*call)) for call in calls]

    return {
        "widths": widths((5, 1), (6, 16), (97, 32), (100, 256), (4096,)),
        "widths with a multiplier": widths((5, 1, 1.5), (6, 10, 1.25), (4096, 1024, 1.3), (100, 7, 0.9)),
        "names": observe(names),
        "output": observe(output),
    }


def picture(impl) -> list[Panel]:
    """Draw the gate, the product of both branches, and the hidden width beside the lines that it follows."""
    gate = torch.linspace(-6.0, 6.0, 61)
    through = torch.linspace(-3.0, 3.0, 31)
    grid = torch.stack(torch.meshgrid(through, gate, indexing="ij")[::-1], dim=-1)  # (31, 61, 2), rows of equal w3 x
    product = branches(impl)(grid).detach()[..., 0]
    dims = range(256, 8193, 256)
    widths = [[impl.swiglu_hidden_dim(d) for d in dims], [8 * d / 3 for d in dims], [4 * d for d in dims]]
    return [
        Panel("silu(w1 x), the gate", product[20:21], "lines", "w1 x from -6 to 6", "gate"),  # where w3 x is 1
        Panel("silu(w1 x) * w3 x", product, "heatmap", "w1 x from -6 to 6", "w3 x from -3 to 3"),
        Panel(
            "Hidden width of SwiGLU",
            torch.tensor(widths, dtype=F32),
            "lines",
            "dim from 256 to 8192 in steps of 256",
            "hidden width",
            ("rounded to 256", "8/3 dim", "4 dim"),
        ),
    ]
