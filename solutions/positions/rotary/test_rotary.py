"""The hidden suite of ``rotary``, what the diagnosis asks, and the picture.

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

# --- what is right, and how far off an honest answer may be ----------------------------------------------


def angles_on_paper(positions: Sequence[int], head_dim: int, base: float = 10_000.0) -> Tensor:
    """Return the printed formula, number by number in float64, shape (T, K/2)."""
    angles = [[p * base ** (-2 * i / head_dim) for i in range(head_dim // 2)] for p in positions]
    return torch.tensor(angles, dtype=torch.float64)


def angle_error(positions: Tensor) -> float:
    """Return by how many radians angles computed in float32 may be off: rounding grows with the position."""
    return 1e-6 + 4e-7 * float(positions.abs().max())


def turn_error(x: Tensor, positions: Tensor) -> float:
    """Return how far a float32 ``x`` may end up from its place: the error of the angle times the longest pair."""
    longest = float(x.detach().unflatten(-1, (-1, 2)).norm(dim=-1).max())
    return angle_error(positions) * longest + 1e-5 * max(1.0, longest)


def assert_angles(got: object, positions: Tensor, head_dim: int, base: float, what: str, hint: str = "") -> None:
    expected = angles_on_paper(positions.tolist(), head_dim, base)
    assert_close(got, expected, what, dtype=torch.float32, tolerance=angle_error(positions), hint=hint)


def assert_turned(got: object, x: Tensor, positions: Tensor, base: float, reference, what: str, hint: str = "") -> None:
    """Compare with the reference in float64, as closely as the dtype of ``x`` allows."""
    expected = reference.apply_rotary(x.detach().double(), positions, base)
    tolerance = turn_error(x, positions) if x.dtype == torch.float32 else None
    assert_close(got, expected, what, dtype=x.dtype, tolerance=tolerance, hint=hint)


# --- the shape, and numbers worked out by hand -----------------------------------------------------------


@pytest.mark.visible
def test_returns_the_right_shapes(impl, randn):
    """the shapes are right: one angle per token and pair, one turned vector per token and head"""
    earlier = None

    for start in 1, 4:
        positions = torch.arange(start, start + 5)
        x = randn(2, 3, 5, 8)
        angles = impl.rotary_angles(positions, 8)
        out = impl.apply_rotary(x, positions)

        assert_shape(angles, (5, 4), "rotary_angles of 5 positions with head_dim 8", dtype=torch.float32)
        assert_shape(out, (2, 3, 5, 8), "apply_rotary of an x of shape (2, 3, 5, 8)", dtype=torch.float32)
        assert_differs(out, x, f"apply_rotary at positions {start} to {start + 4}")
        if earlier is not None:
            assert_differs(angles, earlier[0], "rotary_angles at other positions")
            assert_differs(out, earlier[1], "apply_rotary of another x")
        earlier = angles, out


@pytest.mark.visible
@pytest.mark.points(2)
def test_angles_worked_out_by_hand(impl):
    """three positions and two pairs: six angles that can be done on paper"""
    positions = torch.tensor([0, 1, 3])

    default = impl.rotary_angles(positions, 4)
    other = impl.rotary_angles(positions, head_dim=4, base=100.0)

    what, tolerance = "the angles of positions 0, 1, 3 with head_dim 4", angle_error(positions)
    by_hand = torch.tensor([[0.0, 0.0], [1.0, 0.01], [3.0, 0.03]])  # 10000 ** (-2/4) is 0.01
    assert_close(default, by_hand, what, tolerance=tolerance)
    by_hand = torch.tensor([[0.0, 0.0], [1.0, 0.1], [3.0, 0.3]])  # 100 ** (-2/4) is 0.1
    assert_close(other, by_hand, f"{what} and base 100", tolerance=tolerance)


@pytest.mark.visible
@pytest.mark.points(2)
def test_matches_a_rotation_done_by_hand(impl):
    """one token, four features, turned on paper"""
    x = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 1, 1, 4)

    for base in 10_000.0, 100.0:
        out = impl.apply_rotary(x, torch.tensor([1]), base=base)

        fast, slow = 1.0, base ** (-2 / 4)  # radians per position of pair 0 and of pair 1
        by_hand = [math.cos(fast), math.sin(fast), -math.sin(slow), math.cos(slow)]
        expected = torch.tensor(by_hand).view(1, 1, 1, 4)
        assert_close(out, expected, f"[1, 0, 0, 1] at position 1 with base {base:g}")


@pytest.mark.visible
def test_every_pair_has_its_own_speed(impl):
    """the speeds of the pairs follow the formula for every width and base"""
    position = torch.tensor([1])

    for head_dim, base in (2, 10_000.0), (6, 10_000.0), (6, 7.0), (10, 500_000.0), (64, 10_000.0), (128, 30.0):
        angles = impl.rotary_angles(position, head_dim, base)

        assert_angles(angles, position, head_dim, base, f"the speeds with head_dim {head_dim} and base {base:g}")


# --- what makes it a rotary embedding --------------------------------------------------------------------


@pytest.mark.visible
def test_position_zero_changes_nothing(impl, randn):
    """a token at position 0 stays as it is, the others do not"""
    x = randn(2, 3, 4, 6)

    still = impl.apply_rotary(x, torch.tensor([0, 0, 0, 0]))
    mixed = impl.apply_rotary(x, torch.tensor([1, 0, 0, 2]))

    assert_close(still, x, "four tokens, all at position 0")
    assert_close(mixed[:, :, 1:3], x[:, :, 1:3], "two tokens at position 0, among others")
    assert_differs(mixed[:, :, 0::3], x[:, :, 0::3], "the tokens at positions 1 and 2")


def test_keeps_the_length_of_every_pair(impl, randn):
    """turning makes no pair longer or shorter"""
    positions = torch.tensor([1, 2, 5, 40])

    for _ in range(2):
        x = randn(2, 3, 4, 6)
        out = impl.apply_rotary(x, positions)

        assert_shape(out, x.shape, "the turned x")
        lengths = [tensor.unflatten(-1, (3, 2)).norm(dim=-1) for tensor in (out, x)]
        assert_close(lengths[0], lengths[1], "the lengths of the pairs once they are turned")
        assert_differs(out, x, "apply_rotary at positions 1, 2, 5, 40")


def test_scores_depend_only_on_the_distance(impl, randn):
    """moving all tokens together changes no attention score"""
    q, k = randn(1, 2, 5, 8), randn(1, 2, 5, 8)
    here = torch.arange(5)

    def scores(positions: Tensor) -> Tensor:
        turned_q, turned_k = impl.apply_rotary(q, positions), impl.apply_rotary(k, positions)
        assert_shape(turned_q, q.shape, "the turned queries")
        assert_shape(turned_k, k.shape, "the turned keys")
        return turned_q @ turned_k.mT  # (1, 2, 5, 5)

    unmoved = scores(here)
    product = float(q.norm(dim=-1).max() * k.norm(dim=-1).max())
    plain = q @ k.mT

    tolerance = 2e-5 * max(1.0, product)
    same = "the scores of tokens with themselves, where both were turned alike"
    assert_close(unmoved.diagonal(dim1=-2, dim2=-1), plain.diagonal(dim1=-2, dim2=-1), same, tolerance=tolerance)
    assert_differs(unmoved, plain, "the scores of tokens at different positions")
    for shift in 1, 40, -17:
        moved = here + shift
        tolerance = (2 * angle_error(moved) + 2e-5) * max(1.0, product)
        assert_close(scores(moved), unmoved, f"the scores with {shift} added to every position", tolerance=tolerance)


def test_decoding_one_token_equals_the_full_pass(impl, reference, randn):
    """each token alone, at its true position, equals its row of the full pass"""
    x, positions = randn(2, 3, 6, 8), torch.arange(6)

    full = impl.apply_rotary(x, positions)
    steps = [impl.apply_rotary(x[:, :, t : t + 1], positions[t : t + 1]) for t in range(6)]

    assert_turned(full, x, positions, 10_000.0, reference, "six tokens at once")
    for t, step in enumerate(steps):
        hint = "Is the position taken from `positions`, or from the row?"
        assert_close(step, full[:, :, t : t + 1], f"token {t} alone at position {t}, and in the full pass", hint=hint)


# --- the numbers, on inputs of every kind ----------------------------------------------------------------


def test_angles_of_any_positions(impl, randint):
    """angles of positions that are negative, repeated, unsorted or far away, in float32"""
    several = {
        "negative and repeated": torch.tensor([-3, -3, 7, 0, -3, 7]),
        "unsorted": randint(-50, 50, (9,)),
        "int32": randint(-50, 50, (9,)).int(),
        "every third of a longer row of": torch.arange(2, 20)[::3],
        "one": torch.tensor([11]),
        "far": torch.tensor([257, 4097, 100_003, -4095, 65_537]),
    }

    for kind, positions in several.items():
        angles = impl.rotary_angles(positions, 10, 1000.0)

        what = f"the angles of {kind} positions {positions.tolist()}"
        assert_angles(angles, positions, 10, 1000.0, what, "The numbers in `positions` count, whatever they are.")


def test_turns_to_any_positions(impl, reference, randn, randint):
    """turning to positions that are negative, repeated, unsorted or far away"""
    x = randn(2, 3, 5, 6)
    several = {
        "negative and repeated": torch.tensor([-3, 7, -3, 0, 7]),
        "unsorted": randint(-50, 50, (5,)),
        "int32": randint(-50, 50, (5,)).int(),
        "not those counted from 0": torch.arange(20, 25),
        "far": torch.tensor([257, 4097, 8191, -4095, 65_537]),
    }

    for kind, positions in several.items():
        out = impl.apply_rotary(x, positions)

        what = f"x at {kind} positions {positions.tolist()}"
        assert_turned(out, x, positions, 10_000.0, reference, what, "The numbers in `positions` count.")


@pytest.mark.points(2)
def test_matches_the_reference_on_many_sizes(impl, reference, randn, randint, rng):
    """the numbers agree with the reference for odd sizes, sizes of 1, and other bases"""
    sizes = [(1, 1, 1, 2), (1, 3, 1, 6), (2, 1, 7, 10), (3, 4, 1, 2), (1, 1, 5, 2), (3, 3, 3, 14), (1, 9, 3, 128)]
    sizes += [(2, 3, 6, 6), (2, 4, 2, 4)]  # as many tokens, or heads, as features
    drawn = [(rng.randint(1, 4), rng.randint(1, 5), rng.randint(2, 9), 2 * rng.randint(2, 9)) for _ in range(2)]
    calls = [(shape, 10_000.0) for shape in sizes + drawn] + [(shape, rng.uniform(3.0, 1000.0)) for shape in drawn]

    for shape, base in calls:
        x, positions = randn(*shape), randint(1, 50, shape[2:3])
        out = impl.apply_rotary(x, positions, base)

        assert_turned(out, x, positions, base, reference, f"an x of shape {shape} with base {base:g}")
        with torch.no_grad():
            out = impl.apply_rotary(x, positions, base)
        assert_turned(out, x, positions, base, reference, f"an x of shape {shape} with base {base:g}, under no_grad")
        out = impl.apply_rotary(x.clone().requires_grad_(), positions, base)
        assert_turned(out, x, positions, base, reference, f"an x of shape {shape} that requires a gradient")


def test_takes_strided_inputs(impl, reference, randn):
    """a transposed, sliced or repeated x, and sliced positions, are as good as any"""
    positions = torch.arange(40)[3::7]  # 6 positions
    several = {
        "transposed from (B, T, H, K)": randn(2, 6, 3, 8).transpose(1, 2),
        "repeated over the batch without a copy, an": randn(1, 3, 6, 8).expand(2, 3, 6, 8),
        "every second token of a longer": randn(2, 3, 12, 8)[:, :, 1::2],
    }

    for kind, x in several.items():
        out = impl.apply_rotary(x, positions)

        assert_turned(out, x, positions, 10_000.0, reference, f"{kind} x")


def test_bfloat16_is_turned_by_precise_angles(impl, reference, randn):
    """a bfloat16 x comes back as bfloat16, turned by angles that are more precise"""
    positions = torch.tensor([257, 4097, 1027, 4099, -8189])  # none of them exists in bfloat16

    for base, size in (10_000.0, 1.0), (50.0, 1e5):
        x = (size * randn(2, 3, 5, 6)).to(torch.bfloat16)
        out = impl.apply_rotary(x, positions, base)

        hint = "If float32 is right already: bfloat16 has no 257. In which dtype are the angles computed?"
        what = f"a bfloat16 x at positions {positions.tolist()} with base {base:g}"
        assert_turned(out, x, positions, base, reference, what, hint)


def test_float64_is_turned_by_float64_angles(impl, reference, randn):
    """a float64 x comes back as float64, turned by angles computed in float64"""
    positions = torch.tensor([0, 257, 4097, 9973, -4095])

    for base in 10_000.0, 50.3:  # float32 has no 50.3
        x = randn(2, 3, 5, 6, dtype=torch.float64)
        out = impl.apply_rotary(x, positions, base)

        hint = "If float32 is right already: is any number on the way to the angles only a float32?"
        assert_turned(out, x, positions, base, reference, f"a float64 x with base {base:g}", hint)


# --- gradients, repeated calls, devices ------------------------------------------------------------------


@pytest.mark.points(2)
def test_gradient_reaches_x(impl, reference, randn):
    """the gradient of x is right, also the second time and after other sizes"""
    f32, f64, bf16 = torch.float32, torch.float64, torch.bfloat16
    calls = [
        (2, 3, 5, 6, 10_000.0, f32),
        (2, 3, 5, 6, 10_000.0, f32),
        (1, 2, 4, 10, 50.0, f32),
        (2, 3, 5, 6, 50.0, f64),
        (2, 3, 1, 6, 50.0, f32),  # a step of decoding
        (2, 3, 5, 6, 50.0, bf16),
    ]

    for B, H, T, K, base, dtype in calls:
        x = randn(B, H, T, K).to(dtype).requires_grad_()
        true_x = x.detach().double().requires_grad_()
        cotangent, positions = randn(B, H, T, K), torch.arange(3, 3 + T)
        out = impl.apply_rotary(x, positions, base)
        expected = reference.apply_rotary(true_x, positions, base)

        what = f"the gradient with an x of shape {(B, H, T, K)} and dtype {str(dtype).removeprefix('torch.')}"
        tolerance = turn_error(cotangent, positions) if dtype == f32 else None
        assert_shape(out, x.shape, f"the turned x of shape {(B, H, T, K)}", dtype=dtype)
        assert_gradients_match(out, {"x": x}, expected, {"x": true_x}, cotangent, what, tolerance=tolerance)


def test_repeated_calls_stay_right(impl, reference, randn):
    """a call is right whatever base, width, length, positions or dtype the calls before it had"""
    f32, f64, bf16 = torch.float32, torch.float64, torch.bfloat16
    calls = [
        ("in the first call", 5, 0, 6, 10_000.0, f32),
        ("with another base", 5, 0, 6, 100.0, f32),
        ("at other positions", 5, 300, 6, 100.0, f32),
        ("with more features", 5, 300, 10, 100.0, f32),
        ("in float64", 5, 300, 10, 100.0, f64),
        ("with more tokens", 9, 300, 10, 100.0, f64),
        ("with fewer tokens", 2, 300, 10, 100.0, f64),
        ("in bfloat16", 5, 300, 10, 100.0, bf16),
        ("in float32 again", 5, 300, 10, 100.0, f32),
        ("as in the first call", 5, 0, 6, 10_000.0, f32),
    ]

    for change, T, start, K, base, dtype in calls:
        x, positions = randn(2, 3, T, K, dtype=f64).to(dtype), torch.arange(start, start + T)
        out = impl.apply_rotary(x, positions, base)
        angles = impl.rotary_angles(positions, K, base)

        hint = "If single calls are right: is something kept from an earlier call that does not belong to this one?"
        assert_turned(out, x, positions, base, reference, f"apply_rotary {change}", hint)
        assert_angles(angles, positions, K, base, f"rotary_angles {change}", hint)

    x = randn(2, 3, 5, 6)
    for numbers in [2, 5, 9, 14, 20], [2, 9, 5, 14, 20]:  # the same ends and the same sum
        positions = torch.tensor(numbers)
        out = impl.apply_rotary(x, positions)
        what = f"apply_rotary at positions {numbers}"
        assert_turned(out, x, positions, 10_000.0, reference, what, hint)
        angles = impl.rotary_angles(positions, 6)
        assert_angles(angles, positions, 6, 10_000.0, what.replace("apply_rotary", "rotary_angles"), hint)


def test_leaves_the_inputs_alone(impl, reference, randn):
    """neither x nor positions is changed by a call"""
    x, positions = randn(2, 3, 4, 6), torch.tensor([3, 1, 4, 2])
    x_before, positions_before = x.clone(), positions.clone()

    for base in 10_000.0, 100.0:
        angles = impl.rotary_angles(positions, 6, base)
        assert_close(positions, positions_before, "positions after rotary_angles, which should be as before")
        out = impl.apply_rotary(x, positions, base)
        assert_close(positions, positions_before, "positions after apply_rotary, which should be as before")
        assert_close(x, x_before, "x after apply_rotary, which should be as before", tolerance=0.0)

        assert_angles(angles, positions_before, 6, base, f"rotary_angles with base {base:g}")
        assert_turned(out, x_before, positions_before, base, reference, f"apply_rotary with base {base:g}")


def test_takes_all_tokens_at_once(impl, reference, randn):
    """there is no loop over tokens or over the batch"""
    x, positions = randn(40, 2, 40, 6), torch.arange(1, 41)

    for base in 10_000.0, 100.0:
        angles = impl.rotary_angles(positions, 6, base)
        out = impl.apply_rotary(x, positions, base)

        assert_angles(angles, positions, 6, base, f"40 positions with base {base:g}")
        assert_turned(out, x, positions, base, reference, f"40 tokens in a batch of 40 with base {base:g}")
    assert_no_loop(impl, lambda T: impl.rotary_angles(positions[:T], 6), "positions")
    assert_no_loop(impl, lambda T: impl.apply_rotary(x[:2, :, :T], positions[:T]), "tokens")
    assert_no_loop(impl, lambda B: impl.apply_rotary(x[:B, :, :3], positions[:3]), "sequences of a batch")


def test_stays_on_the_device_of_its_inputs(impl, reference, randn):
    """results lie where the inputs lie, wherever the calls before were"""
    x, positions = randn(2, 3, 5, 6), torch.arange(1, 6)
    far_x, far_positions = x.to("meta"), positions.to("meta")  # meta stands for any accelerator

    def compare(base: float, when: str) -> None:
        assert_turned(impl.apply_rotary(x, positions, base), x, positions, base, reference, f"apply_rotary {when}")
        assert_angles(impl.rotary_angles(positions, 6, base), positions, 6, base, f"rotary_angles {when}")

    compare(10_000.0, "on the CPU")
    for base in 10_000.0, 100.0:
        angles, turned = "rotary_angles on the meta device", "apply_rotary on the meta device"
        assert_follows_device(impl, lambda b=base: impl.rotary_angles(far_positions, 6, b), angles)
        assert_follows_device(impl, lambda b=base: impl.apply_rotary(far_x, far_positions, b), turned)
    compare(100.0, "on the CPU after a call on the meta device")


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_refuses_a_width_without_pairs(impl, randn):
    """an odd width, or none at all, is refused with ValueError"""
    position, x = torch.tensor([1]), randn(1, 2, 1, 5)
    fresh = itertools.count(1)  # no two good calls ask for the same

    def good_angles() -> None:
        here = torch.tensor([next(fresh)])
        assert_angles(impl.rotary_angles(here, 4), here, 4, 10_000.0, "rotary_angles with head_dim 4")

    def good_turn() -> None:
        angle = next(fresh)  # with one pair only, the angle is the position
        out = impl.apply_rotary(torch.tensor([1.0, 0.0]).view(1, 1, 1, 2), torch.tensor([angle]))
        expected = torch.tensor([math.cos(angle), math.sin(angle)]).view(1, 1, 1, 2)
        assert_close(out, expected, f"[1, 0] turned to position {angle}")

    for head_dim in 5, 1, 0, -2:
        assert_rejects(lambda d=head_dim: impl.rotary_angles(position, d), f"head_dim {head_dim}", good=good_angles)
    for odd in x, x.double(), x[..., :1]:
        what = f"an x with K = {odd.shape[-1]}"
        assert_rejects(lambda odd=odd: impl.apply_rotary(odd, position), what, good=good_turn)


def test_refuses_another_number_of_positions(impl, reference, randn):
    """any number of positions other than one per token is refused with ValueError"""
    x, single = randn(2, 3, 5, 6), randn(2, 3, 1, 6)
    fresh = itertools.count(1)  # no two good calls ask for the same

    def refuses(tensor: Tensor, count: int, what: str) -> None:
        def good() -> None:
            here = torch.arange(tensor.shape[2]) + next(fresh)
            out = impl.apply_rotary(tensor, here)
            assert_turned(out, tensor, here, 10_000.0, reference, "as many positions as tokens")

        assert_rejects(lambda: impl.apply_rotary(tensor, torch.arange(1, count + 1)), what, good=good)

    refuses(x, 4, "4 positions for 5 tokens")
    refuses(x[:1], 1, "1 position for 5 tokens, in a batch of one")
    refuses(x, 6, "6 positions for 5 tokens")
    refuses(x, 10, "10 positions (as many as in the whole batch) for 5 tokens")
    refuses(x, 1, "1 position for 5 tokens")
    refuses(x, 3, "3 positions (as many as heads) for 5 tokens")
    refuses(x.double(), 1, "1 position for 5 tokens in float64")
    refuses(single, 5, "5 positions for 1 token")


# --- what the diagnosis asks, and the picture ------------------------------------------------------------


def probe(impl):
    """Ask for angles and for turned features, and about precision only where those are right.

    The most common mistake of all, float32 angles for a float64 x, would hide every other one without that order. As
    many heads as tokens let code go through that mixes up the two.
    """
    positions, base = torch.tensor([4, 1, 2]), 50.0
    x = torch.tensor([(7 * n) % 11 - 5.0 for n in range(72)]).view(1, 3, 3, 8)
    seen = {
        "angles": observe(lambda: impl.rotary_angles(positions, 8, base)),
        "turned": observe(lambda: impl.apply_rotary(x, positions, base)),
    }

    angles = angles_on_paper(positions.tolist(), 8, base)
    pairs = torch.view_as_complex(x.double().unflatten(-1, (4, 2)))
    right = torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2)
    turned = seen["turned"]
    if isinstance(turned, Tensor) and turned.shape == x.shape and torch.allclose(turned.double(), right, atol=1e-3):
        pair = torch.tensor([1.0, 0.5]).view(1, 1, 1, 2)  # its angle is its position
        not_in_bfloat16, not_in_float32 = torch.tensor([257]), torch.tensor([2**24 + 1])
        seen["bfloat16"] = observe(lambda: impl.apply_rotary(pair.bfloat16(), not_in_bfloat16))
        seen["float64"] = observe(lambda: impl.apply_rotary(pair.double(), not_in_float32))
    return seen


def picture(impl) -> list[Panel]:
    """Show how fast the pairs turn, and what becomes of a score as its two tokens move apart."""
    positions, head_dim = torch.arange(128), 64
    clock_hands = impl.rotary_angles(positions, head_dim).cos().T  # (K/2, T)

    ones = torch.ones(1, 1, 128, head_dim)
    lines = []
    for base in 10_000.0, 100.0:
        query = impl.apply_rotary(ones[:, :, :1], positions[:1], base)  # (1, 1, 1, K), at position 0
        keys = impl.apply_rotary(ones, positions, base)  # (1, 1, T, K)
        lines.append((query @ keys.mT).flatten() / head_dim)  # (T,), 1 where the distance is 0
    return [
        Panel("Cosine of each pair's angle", clock_hands, "heatmap", "position", "pair"),
        Panel(
            "Score of a query and a key of ones",
            torch.stack(lines),
            "lines",
            "distance",
            "score, as a share of that at distance 0",
            ("base 10000", "base 100"),
        ),
    ]
