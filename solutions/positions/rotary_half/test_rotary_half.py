"""The hidden suite of ``rotary_half``, what the diagnosis asks, and the picture.

Nearly every check calls twice with the same shapes and different answers, so that none of them is passed by an answer
that was kept from before.
"""

import itertools
import math
from collections.abc import Sequence

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

F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
VIEWS = {  # operators whose result shares the memory of what went in
    *("_reshape_alias", "_unsafe_view", "alias", "as_strided", "detach", "diagonal", "expand", "permute", "select"),
    *("slice", "split", "split_with_sizes", "squeeze", "t", "transpose", "unbind", "unfold", "unsqueeze", "view"),
}

# --- what is right, and how far off an honest answer may be ----------------------------------------------


def angles_on_paper(positions: Sequence[int], head_dim: int, base: float = 10_000.0) -> Tensor:
    """Return the printed formula, number by number in float64, shape (T, K/2)."""
    angles = [[p * base ** (-2 * i / head_dim) for i in range(head_dim // 2)] for p in positions]
    return torch.tensor(angles, dtype=torch.float64)


def turn_error(x: Tensor, positions: Tensor) -> float:
    """Return how far a float32 ``x`` may end up from its place: the error of the angle times the longest pair."""
    longest = float(x.detach().unflatten(-1, (2, -1)).norm(dim=-2).max())
    return (1e-6 + 4e-7 * float(positions.abs().max())) * longest + 1e-5 * max(1.0, longest)


def assert_turned(got: object, x: Tensor, positions: Tensor, base: float, reference, what: str, hint: str = "") -> None:
    """Compare with the reference in float64, as closely as the dtype of ``x`` allows."""
    expected = reference.apply_rotary_half(x.detach().double(), positions, base)
    tolerance = turn_error(x, positions) if x.dtype == F32 else None
    assert_close(got, expected, what, dtype=x.dtype, tolerance=tolerance, hint=hint)


def turned_as_neighbours(x: Tensor, positions: Tensor) -> Tensor:
    """Turn pairs of neighbours by complex multiplication, in float64: what the converted weights were trained for."""
    angles = angles_on_paper(positions.tolist(), x.shape[-1])
    pairs = torch.view_as_complex(x.double().unflatten(-1, (-1, 2)).contiguous())  # (B, H, T, K/2)
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)


def numbered_rows(rows: int, first: int = 0) -> Tensor:
    """Return a weight (rows, 3) in which every number tells its row and its column: 5.1 is row 5, column 1."""
    return torch.arange(first, first + rows)[:, None] + torch.tensor([0.0, 0.1, 0.2])


# --- the shapes, and numbers worked out by hand ----------------------------------------------------------


@pytest.mark.visible
def test_returns_the_right_shapes(impl, randn):
    """the shapes are right: every result has the shape of what went in"""
    earlier: list[Tensor] = []

    for start in 1, 4:
        x, weight = randn(2, 3, 5, 8), randn(24, 7)
        results = {
            "rotate_half": (impl.rotate_half(x), x),
            "apply_rotary_half": (impl.apply_rotary_half(x, torch.arange(start, start + 5)), x),
            "interleaved_to_half": (impl.interleaved_to_half(weight, 3), weight),
        }

        for name, (out, given) in results.items():
            what = f"{name} of a tensor of shape {tuple(given.shape)}"
            assert_shape(out, given.shape, what, dtype=F32)
            assert_differs(out, given, what)
            for old in earlier:
                assert_differs(out, old, f"{what}, in another call")
        earlier = [out for out, _ in results.values()]


@pytest.mark.visible
def test_rotate_half_by_hand(impl):
    """rotate_half of vectors of 2, 4 and 6 numbers, worked out on paper"""
    for given, by_hand in (
        ([1.0, 2.0, 3.0, 4.0], [-3.0, -4.0, 1.0, 2.0]),
        ([5.0, -6.0, 0.0, 8.0], [0.0, -8.0, 5.0, -6.0]),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [-4.0, -5.0, -6.0, 1.0, 2.0, 3.0]),
        ([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], [[-2.0, 1.0], [-4.0, 3.0], [-6.0, 5.0]]),
    ):
        assert_close(impl.rotate_half(torch.tensor(given)), torch.tensor(by_hand), f"rotate_half of {given}")


@pytest.mark.visible
@pytest.mark.points(2)
def test_matches_a_rotation_done_by_hand(impl):
    """one token, four features, turned on paper"""
    x = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 1, 1, 4)  # pair 0 is (1, 0), pair 1 is (0, 1)

    for base in 10_000.0, 100.0:
        out = impl.apply_rotary_half(x, torch.tensor([1]), base=base)

        fast, slow = 1.0, base ** (-2 / 4)  # radians per position of pair 0 and of pair 1
        by_hand = torch.tensor([math.cos(fast), -math.sin(slow), math.sin(fast), math.cos(slow)])
        assert_close(out, by_hand.view(1, 1, 1, 4), f"[1, 0, 0, 1] at position 1 with base {base:g}")


@pytest.mark.visible
def test_every_pair_has_its_own_speed(impl):
    """the speeds of the pairs follow the formula for every width and base"""
    for K, base in (2, 10_000.0), (6, 10_000.0), (6, 7.0), (6, 1.5), (10, 500_000.0), (64, 10_000.0), (128, 30.0):
        x = (torch.arange(K) < K // 2).float().view(1, 1, 1, K)  # every pair is (1, 0)
        out = impl.apply_rotary_half(x, torch.tensor([1]), base)

        angles = angles_on_paper([1], K, base)
        expected = torch.cat((angles.cos(), angles.sin()), dim=-1).view(1, 1, 1, K)
        what = f"{K // 2} pairs (1, 0) at position 1 with base {base:g}: their cosines, then their sines"
        assert_close(out, expected, what, dtype=F32)


@pytest.mark.visible
@pytest.mark.points(2)
def test_converts_rows_by_hand(impl):
    """weights of one head and of two, with six rows for each head, converted on paper"""
    for n_heads, order in (1, [0, 2, 4, 1, 3, 5]), (2, [0, 2, 4, 1, 3, 5, 6, 8, 10, 7, 9, 11]):
        for first in 0, 20:
            weight = numbered_rows(len(order), first)
            out = impl.interleaved_to_half(weight, n_heads=n_heads)

            expected = [first + row for row in order]
            what = f"rows {first} to {first + len(order) - 1} with n_heads = {n_heads}, in the order {expected}"
            assert_close(out, weight[order], what, hint="5.1 stands for row 5, column 1.")


# --- what makes it a rotary embedding --------------------------------------------------------------------


@pytest.mark.visible
def test_position_zero_changes_nothing(impl, randn):
    """a token at position 0 stays as it is, the others do not"""
    x = randn(2, 3, 4, 6)

    still = impl.apply_rotary_half(x, torch.tensor([0, 0, 0, 0]))
    mixed = impl.apply_rotary_half(x, torch.tensor([1, 0, 0, 2]))

    assert_close(still, x, "four tokens, all at position 0")
    assert_close(mixed[:, :, 1:3], x[:, :, 1:3], "two tokens at position 0, among others")
    assert_differs(mixed[:, :, 0::3], x[:, :, 0::3], "the tokens at positions 1 and 2")


def test_keeps_the_length_of_every_pair(impl, randn):
    """turning makes no pair longer or shorter"""
    for _ in range(2):
        x = randn(2, 3, 4, 6)
        out = impl.apply_rotary_half(x, torch.tensor([1, 2, 5, 40]))

        assert_shape(out, x.shape, "the turned x")
        lengths = [tensor.unflatten(-1, (2, 3)).norm(dim=-2) for tensor in (out, x)]
        assert_close(lengths[0], lengths[1], "the lengths of the pairs once they are turned")
        assert_differs(out, x, "apply_rotary_half at positions 1, 2, 5, 40")


def test_scores_depend_only_on_the_distance(impl, randn):
    """moving all tokens together changes no attention score"""
    q, k = randn(1, 2, 5, 8), randn(1, 2, 5, 8)
    here = torch.arange(5)

    def scores(positions: Tensor) -> Tensor:
        turned = [impl.apply_rotary_half(tensor, positions) for tensor in (q, k)]
        assert_shape(turned[0], q.shape, "the turned queries")
        assert_shape(turned[1], k.shape, "the turned keys")
        return turned[0] @ turned[1].mT  # (1, 2, 5, 5)

    unmoved, plain = scores(here), q @ k.mT
    tolerance = 2e-5 * max(1.0, float(q.norm(dim=-1).max() * k.norm(dim=-1).max()))
    same = "the scores of tokens with themselves, where both were turned alike"
    assert_close(unmoved.diagonal(dim1=-2, dim2=-1), plain.diagonal(dim1=-2, dim2=-1), same, tolerance=tolerance)
    for shift in 3, -7:
        what = f"the scores with all positions moved by {shift}, and unmoved"
        assert_close(scores(here + shift), unmoved, what, tolerance=tolerance)
    assert_differs(unmoved, plain, "the scores of turned queries and keys")


# --- the numbers, on inputs of every kind ----------------------------------------------------------------


def test_turns_to_any_positions(impl, reference, randn, randint):
    """turning to positions that are negative, repeated, unsorted or far away"""
    several = {
        "negative and repeated": torch.tensor([-3, 7, -3, 0, 7]),
        "unsorted": randint(-50, 50, (5,)),
        "int32": randint(-50, 50, (5,)).int(),
        "not those counted from 0": torch.arange(20, 25),
        "every seventh of a longer row of": torch.arange(40)[3::7][:5],
        "far": torch.tensor([257, 4097, 100_003, -4095, 511]),
    }

    for kind, positions in several.items():
        x = randn(2, 3, 5, 6)
        out = impl.apply_rotary_half(x, positions)

        what = f"x at {kind} positions {positions.tolist()}"
        assert_turned(out, x, positions, 10_000.0, reference, what, "The numbers in `positions` count.")


@pytest.mark.points(2)
def test_matches_the_reference_on_many_sizes(impl, reference, randn, randint, rng):
    """the numbers agree with the reference for odd sizes, sizes of 1, and other bases"""
    sizes = [
        (1, 1, 1, 2),
        (1, 3, 1, 6),
        (2, 1, 7, 10),
        (3, 4, 1, 2),
        (1, 1, 5, 2),
        (3, 3, 3, 14),
        (2, 3, 6, 6),
        (1, 2, 3, 128),
    ]
    drawn = [(rng.randint(1, 4), rng.randint(1, 5), rng.randint(2, 9), 2 * rng.randint(2, 9)) for _ in range(2)]
    calls = [(shape, 10_000.0) for shape in sizes + drawn] + [(shape, rng.uniform(3.0, 1000.0)) for shape in drawn]

    for shape, base in calls:
        positions, what = randint(1, 50, shape[2:3]), f"an x of shape {shape} with base {base:g}"
        for factor in 1.0, 1000.0:
            x = factor * randn(*shape)
            out = impl.apply_rotary_half(x, positions, base)

            assert_turned(out, x, positions, base, reference, f"{what}, numbers of about {factor:g}")
    for shape in (3, 6), (2, 3, 2, 5, 4):
        x = randn(*shape)
        assert_close(impl.rotate_half(x), reference.rotate_half(x), f"rotate_half of an x of shape {shape}")


def test_the_same_without_gradients(impl, reference, randn):
    """the results are the same for an x that requires a gradient, for any other, and under torch.no_grad()"""
    for base in 10_000.0, 100.0:
        for kind in "an x that requires a gradient", "any other x", "any x under torch.no_grad()":
            x, positions = randn(2, 3, 4, 6).requires_grad_("requires" in kind), torch.tensor([3, 1, 4, 2])
            with torch.set_grad_enabled("no_grad" not in kind):
                halves, out = impl.rotate_half(x), impl.apply_rotary_half(x, positions, base)

            assert_close(halves, reference.rotate_half(x), f"rotate_half of {kind}")
            assert_turned(out, x, positions, base, reference, f"apply_rotary_half of {kind}, base {base:g}")
        x = randn(2, 3, 4, 6, dtype=F64).requires_grad_()
        out = impl.apply_rotary_half(x, positions, base)
        assert_turned(out, x, positions, base, reference, f"a float64 x that requires a gradient, base {base:g}")


def test_takes_strided_inputs(impl, reference, randn):
    """a transposed, sliced or repeated x is as good as any"""
    positions = torch.arange(1, 7)
    several = {
        "transposed from (B, T, H, K)": randn(2, 6, 3, 8).transpose(1, 2),
        "every other feature of a wider": randn(2, 3, 6, 16)[..., ::2],
        "with features moved to the end of": randn(2, 8, 3, 6).movedim(1, -1),
        "repeated over the batch without a copy, an": randn(1, 3, 6, 8).expand(2, 3, 6, 8),
        "every second token of a longer": randn(2, 3, 12, 8)[:, :, 1::2],
    }

    for kind, x in several.items():
        assert_close(impl.rotate_half(x), reference.rotate_half(x), f"rotate_half of {kind} x")
        out = impl.apply_rotary_half(x, positions)
        assert_turned(out, x, positions, 10_000.0, reference, f"apply_rotary_half of {kind} x")


def test_bfloat16_is_turned_by_precise_angles(impl, reference, randn):
    """a bfloat16 x comes back as bfloat16, turned by angles that are more precise"""
    positions = torch.tensor([257, 4097, 1027, 4099, -8189])  # none of them exists in bfloat16

    for base in 10_000.0, 50.0:
        x = randn(2, 3, 5, 6).to(BF16)
        halves = impl.rotate_half(x)
        out = impl.apply_rotary_half(x, positions, base)

        assert_close(halves, reference.rotate_half(x), "rotate_half of a bfloat16 x")
        hint = "If float32 is right already: bfloat16 has no 257. In which dtype are the angles computed?"
        what = f"a bfloat16 x at positions {positions.tolist()} with base {base:g}"
        assert_turned(out, x, positions, base, reference, what, hint)


def test_float64_is_turned_by_float64_angles(impl, reference, randn):
    """a float64 x comes back as float64, turned by angles computed in float64"""
    positions = torch.tensor([0, 257, 4097, 9973, -4095])

    for base in 10_000.0, 50.3:  # float32 has no 50.3
        x = randn(2, 3, 5, 6, dtype=F64)
        halves = impl.rotate_half(x)
        out = impl.apply_rotary_half(x, positions, base)

        assert_close(halves, reference.rotate_half(x), "rotate_half of a float64 x")
        hint = "If float32 is right already: is any number on the way to the angles only a float32?"
        assert_turned(out, x, positions, base, reference, f"a float64 x with base {base:g}", hint)


# --- the conversion --------------------------------------------------------------------------------------


@pytest.mark.points(2)
def test_converted_weights_give_the_same_scores(impl, randn):
    """converted query and key projections give the scores that pairs of neighbours gave before"""
    positions = torch.tensor([0, 1, 2, 5, 11])

    for n_heads in 1, 3:
        x, weights = randn(2, 5, 7, dtype=F64), [randn(n_heads * 8, 7, dtype=F64) for _ in range(2)]

        def turned(weight: Tensor, turn, x=x, n_heads=n_heads) -> Tensor:
            features = (x @ weight.mT).unflatten(-1, (n_heads, 8)).transpose(1, 2)  # (B, H, T, K)
            return turn(features, positions)

        q, k = (turned(weight, turned_as_neighbours) for weight in weights)
        converted = [impl.interleaved_to_half(weight, n_heads) for weight in weights]
        for weight in converted:
            assert_shape(weight, (n_heads * 8, 7), "the converted weight", dtype=F64)
        new_q, new_k = (turned(weight, impl.apply_rotary_half) for weight in converted)

        assert_shape(new_q, q.shape, "the turned queries", dtype=F64)
        what = f"n_heads = {n_heads}: the scores after the conversion and before"
        assert_close(new_q @ new_k.mT, q @ k.mT, what, tolerance=1e-2)


def test_converts_weights_of_every_kind(impl, reference, randn):
    """weights of other sizes, head counts, dtypes and strides are converted, call after call"""
    calls = [("", randn(24, 5), n_heads) for n_heads in (1, 2, 3, 4, 6, 12)]
    calls += [("", randn(16, 16), 2), ("", randn(2, 3), 1), ("", randn(24, 1), 3), ("", randn(256, 6), 2)]
    calls += [("", randn(16, 5), 4), ("", randn(32 * 4, 3), 32)]
    calls += [("trained ", torch.nn.Parameter(randn(24, 5)), 3)]  # a projection's own weight
    calls += [("float64 ", randn(24, 5, dtype=F64), 3), ("bfloat16 ", randn(24, 5).to(BF16), 3)]
    calls += [("transposed ", randn(5, 24).mT, 3), ("sliced ", randn(48, 10)[::2, ::2], 3)]

    for kind, weight, n_heads in calls:
        out = impl.interleaved_to_half(weight, n_heads)

        what = f"a {kind}weight of shape {tuple(weight.shape)} with n_heads = {n_heads}"
        assert_close(out, reference.interleaved_to_half(weight, n_heads), what)


def test_conversion_makes_a_new_tensor(impl, randn):
    """the converted weight shares no memory with the weight, also where no row moves"""
    for rows, n_heads in (6, 3), (2, 1), (6, 3):
        weight = randn(rows, 4)
        with impl.trace() as trace:
            out = impl.interleaved_to_half(weight, n_heads)

        what = f"a weight of {rows} rows with n_heads = {n_heads}"
        assert_close(out, weight, f"{what}, whose rows all stay in their places")
        if all(op.name in VIEWS for op in trace.ops):
            raise CheckFailure(f"{what}: the result is the weight itself or a view of it, and not a new tensor.")


# --- gradients, repeated calls, devices ------------------------------------------------------------------


@pytest.mark.points(2)
def test_gradient_reaches_x(impl, reference, randn):
    """the gradients of rotate_half and apply_rotary_half are right, the second time too, in other sizes and dtypes"""
    calls = [(2, 3, 5, 6, 10_000.0, F32), (2, 3, 5, 6, 10_000.0, F32), (1, 2, 4, 10, 50.0, F32)]
    calls += [(2, 3, 1, 6, 50.0, F32), (1, 1, 1, 2, 50.0, F32), (2, 3, 5, 4, 50.0, F64), (2, 3, 5, 4, 50.0, BF16)]

    for B, H, T, K, base, dtype in calls:
        x = randn(B, H, T, K, dtype=dtype).requires_grad_()
        true_x = x.detach().double().requires_grad_()
        cotangent, positions = randn(B, H, T, K, dtype=dtype), torch.arange(3, 3 + T)

        for name, args in ("rotate_half", ()), ("apply_rotary_half", (positions, base)):
            out = getattr(impl, name)(x, *args)
            expected = getattr(reference, name)(true_x, *args)

            kind = str(dtype).removeprefix("torch.")
            what = f"the gradient of {name} with an x of shape {(B, H, T, K)}, {kind}"
            tolerance = turn_error(cotangent, positions) if dtype == F32 else None
            assert_shape(out, x.shape, f"{name} of an x of shape {(B, H, T, K)}, {kind}", dtype=dtype)
            assert_gradients_match(out, {"x": x}, expected, {"x": true_x}, cotangent, what, tolerance=tolerance)


def test_repeated_calls_stay_right(impl, reference, randn):
    """a call is right whatever base, width, length, positions or dtype the calls before it had"""
    calls = [
        ("in the first call", 5, 0, 6, 10_000.0, F32),
        ("with another base", 5, 0, 6, 100.0, F32),
        ("at other positions", 5, 300, 6, 100.0, F32),
        ("with more features", 5, 300, 10, 100.0, F32),
        ("in float64", 5, 300, 10, 100.0, F64),
        ("with more tokens", 9, 300, 10, 100.0, F64),
        ("with fewer tokens", 2, 300, 10, 100.0, F64),
        ("in bfloat16", 5, 300, 10, 100.0, BF16),
        ("in float32 again", 5, 300, 10, 100.0, F32),
        ("as in the first call", 5, 0, 6, 10_000.0, F32),
    ]

    for change, T, start, K, base, dtype in calls:
        x, positions = randn(2, 3, T, K, dtype=F64).to(dtype), torch.arange(start, start + T)
        out = impl.apply_rotary_half(x, positions, base)

        hint = "If single calls are right: is something kept from an earlier call that does not belong to this one?"
        assert_turned(out, x, positions, base, reference, f"apply_rotary_half {change}", hint)

    x = randn(2, 3, 5, 6)
    for numbers in [2, 5, 9, 14, 20], [2, 9, 5, 14, 20]:  # the same ends and the same sum
        positions = torch.tensor(numbers)
        out = impl.apply_rotary_half(x, positions)
        what = f"apply_rotary_half at positions {numbers}"
        assert_turned(out, x, positions, 10_000.0, reference, what, hint)


def test_leaves_the_inputs_alone(impl, reference, randn):
    """neither x, nor positions, nor weight is changed by a call"""
    for base in 10_000.0, 100.0:
        x, positions, weight = randn(2, 3, 4, 6), torch.tensor([3, 1, 4, 2]), randn(12, 5)
        before = {"x": x.clone(), "positions": positions.clone(), "weight": weight.clone()}
        halves, converted = impl.rotate_half(x), impl.interleaved_to_half(weight, 2)
        out = impl.apply_rotary_half(x, positions, base)

        for name, tensor in ("x", x), ("positions", positions), ("weight", weight):
            assert_close(tensor, before[name], f"{name} after the calls, which should be as before", tolerance=0.0)
        assert_close(halves, reference.rotate_half(x), "rotate_half")
        assert_close(converted, reference.interleaved_to_half(weight, 2), "interleaved_to_half")
        assert_turned(out, x, positions, base, reference, f"apply_rotary_half with base {base:g}")


def test_takes_all_tokens_at_once(impl, reference, randn):
    """there is no loop over tokens or over the batch"""
    positions = torch.arange(1, 41)

    for base in 10_000.0, 100.0:
        x = randn(40, 2, 40, 6)
        out = impl.apply_rotary_half(x, positions, base)

        assert_turned(out, x, positions, base, reference, f"40 tokens in a batch of 40 with base {base:g}")
    assert_no_loop(impl, lambda T: impl.rotate_half(x[:2, :, :T]), "tokens")
    assert_no_loop(impl, lambda T: impl.apply_rotary_half(x[:2, :, :T], positions[:T]), "tokens")
    assert_no_loop(impl, lambda B: impl.apply_rotary_half(x[:B, :, :3], positions[:3]), "sequences of a batch")


def test_stays_on_the_device_of_its_inputs(impl, reference, randn):
    """results lie where the inputs lie, wherever the calls before were"""
    x, positions, weight = randn(2, 3, 5, 6), torch.arange(1, 6), randn(12, 5)
    far_x, far_positions, far_weight = (t.to("meta") for t in (x, positions, weight))  # meta: any accelerator

    def compare(base: float, when: str) -> None:
        out = impl.apply_rotary_half(x, positions, base)
        assert_turned(out, x, positions, base, reference, f"apply_rotary_half {when}")

    compare(10_000.0, "on the CPU")
    for base in 10_000.0, 100.0:
        what = "apply_rotary_half on the meta device"
        assert_follows_device(impl, lambda b=base: impl.apply_rotary_half(far_x, far_positions, b), what)
    assert_follows_device(impl, lambda: impl.rotate_half(far_x), "rotate_half on the meta device")
    assert_follows_device(impl, lambda: impl.interleaved_to_half(far_weight, 2), "the conversion on the meta device")
    compare(100.0, "on the CPU after a call on the meta device")
    weight = randn(44, 3)  # 44 rows: those of no other check
    far_weight = weight.to("meta")
    assert_follows_device(impl, lambda: impl.interleaved_to_half(far_weight, 2), "the conversion on the meta device")
    out, right = impl.interleaved_to_half(weight, 2), reference.interleaved_to_half(weight, 2)
    assert_close(out, right, "the conversion on the CPU after one on the meta device")


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_refuses_a_width_without_pairs(impl, randn):
    """an odd width is refused with ValueError"""
    fresh = itertools.count(1)  # no two good calls ask for the same

    def good_half() -> None:
        a = float(next(fresh))
        assert_close(impl.rotate_half(torch.tensor([a, 0.5])), torch.tensor([-0.5, a]), f"rotate_half of [{a}, 0.5]")

    def good_turn() -> None:
        angle = next(fresh)  # with one pair only, the angle is the position
        out = impl.apply_rotary_half(torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), torch.tensor([angle]))
        expected = torch.tensor([math.cos(angle), math.sin(angle)]).view(1, 1, 1, 2)
        assert_close(out, expected, f"[1, 0] turned to position {angle}")

    for K in 5, 1:
        x, what = randn(1, 2, 1, K), f"an x with K = {K}"
        assert_rejects(lambda x=x: impl.rotate_half(x), f"rotate_half of {what}", good=good_half)
        for odd in x, x.double():
            assert_rejects(lambda odd=odd: impl.apply_rotary_half(odd, torch.tensor([1])), what, good=good_turn)


def test_refuses_another_number_of_positions(impl, reference, randn):
    """any number of positions other than one per token is refused with ValueError"""
    x, single = randn(2, 3, 5, 6), randn(2, 3, 1, 6)
    fresh = itertools.count(1)  # no two good calls ask for the same

    def refuses(tensor: Tensor, count: int, what: str) -> None:
        def good() -> None:
            here = torch.arange(tensor.shape[2]) + next(fresh)
            out = impl.apply_rotary_half(tensor, here)
            expected = reference.apply_rotary_half(tensor, here)
            assert_close(out, expected, "as many positions as tokens", tolerance=1e-3)

        assert_rejects(lambda: impl.apply_rotary_half(tensor, torch.arange(1, count + 1)), what, good=good)

    refuses(x, 4, "4 positions for 5 tokens")
    refuses(x, 6, "6 positions for 5 tokens")
    refuses(x, 10, "10 positions (as many as in the whole batch) for 5 tokens")
    refuses(x, 1, "1 position for 5 tokens")
    refuses(x, 3, "3 positions (as many as heads) for 5 tokens")
    refuses(x.double(), 1, "1 position for 5 tokens in float64")
    refuses(single, 5, "5 positions for 1 token")


@pytest.mark.visible
def test_refuses_heads_that_do_not_fit(impl):
    """a number of heads below 1, or one that does not divide the rows into heads of even width, is refused"""
    fresh = itertools.count(1)  # no two good calls ask for the same

    def good() -> None:
        weight = numbered_rows(12, next(fresh))
        expected = weight[[0, 2, 1, 3, 4, 6, 5, 7, 8, 10, 9, 11]]
        assert_close(impl.interleaved_to_half(weight, 3), expected, "12 rows and n_heads = 3")

    for rows, n_heads in (12, 0), (12, -2), (12, 5), (4, 8), (12, 4), (15, 5), (7, 1):
        what = f"{rows} rows and n_heads = {n_heads}"
        assert_rejects(lambda r=rows, n=n_heads: impl.interleaved_to_half(numbered_rows(r), n), what, good=good)


# --- what the diagnosis asks, and the picture ------------------------------------------------------------


def probe(impl):
    """Ask each function, and go on to the next question only where the answer before was right.

    What ``rotate_half`` returns shows in the turning for those who use it there; float32 angles for a float64 x, the
    most common mistake of all, would hide every other one. As many heads as tokens let code go through that mixes up
    the two, and a square weight code that mixes up rows and columns.
    """
    positions, base = torch.tensor([4, 1, 2]), 50.0
    x = torch.tensor([(7 * n) % 11 - 5.0 for n in range(72)]).view(1, 3, 3, 8)
    seen = {
        "halves": observe(lambda: impl.rotate_half(x)),
        "one head": observe(lambda: impl.interleaved_to_half(torch.arange(64.0).view(8, 8), 1)),
        "two heads": observe(lambda: impl.interleaved_to_half(torch.arange(256.0).view(16, 16), 2)),
    }

    a, b = x.chunk(2, dim=-1)
    if not _is_about(seen["halves"], torch.cat((-b, a), dim=-1)):
        return seen
    seen["turned"] = observe(lambda: impl.apply_rotary_half(x, positions, base))
    angles = angles_on_paper(positions.tolist(), 8, base)
    cos, sin = angles.cos(), angles.sin()
    if _is_about(seen["turned"], torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1)):
        pair = torch.tensor([1.0, 0.5]).view(1, 1, 1, 2)  # its angle is its position
        not_in_bfloat16, not_in_float32 = torch.tensor([257]), torch.tensor([2**24 + 1])
        seen["bfloat16"] = observe(lambda: impl.apply_rotary_half(pair.bfloat16(), not_in_bfloat16))
        seen["float64"] = observe(lambda: impl.apply_rotary_half(pair.double(), not_in_float32))
    return seen


def _is_about(got: object, right: Tensor) -> bool:
    return (
        isinstance(got, Tensor) and got.shape == right.shape and torch.allclose(got.double(), right.double(), atol=1e-3)
    )


def picture(impl) -> list[Panel]:
    """Show what turning does to a head of ones, and where the conversion puts each row of a weight."""
    positions = torch.arange(128)
    turned = impl.apply_rotary_half(torch.ones(1, 1, 128, 64), positions)[0, 0].mT  # (K, T)
    order = impl.interleaved_to_half(torch.eye(32), 2)  # row r of the result is a 1 in the column of the old row
    scores = []
    for base in 10_000.0, 100.0:
        ones = impl.apply_rotary_half(torch.ones(1, 1, 128, 64), positions, base)
        scores.append((ones[:, :, :1] @ ones.mT).flatten() / 64)  # (T,), 1 where the distance is 0
    return [
        Panel("Ones, turned: features i and i + 32 are partners", turned, "heatmap", "position", "feature"),
        Panel("Rows of a weight with two heads", order, "heatmap", "row before", "row after the conversion"),
        Panel(
            "Score of a query and a key of ones",
            torch.stack(scores),
            "lines",
            "distance",
            "score, as a share of that at distance 0",
            ("base 10000", "base 100"),
        ),
    ]
