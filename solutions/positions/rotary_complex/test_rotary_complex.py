"""The hidden suite of ``rotary_complex``, what the diagnosis asks, and the picture.

Checks of the turning bring their own table, so that a mistake in ``precompute_freqs_cis`` does not show there too.
"""

import itertools
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
    describe,
    observe,
)

F32, BF16, C64 = torch.float32, torch.bfloat16, torch.complex64

# --- what is right, and how far off an honest answer may be ----------------------------------------------


def turns_on_paper(head_dim: int, max_len: int, theta: float = 10_000.0) -> Tensor:
    """Return the printed formula, angle by angle in float64: complex128, shape (max_len, K/2)."""
    angles = [[p * theta ** (-2 * i / head_dim) for i in range(head_dim // 2)] for p in range(max_len)]
    return torch.polar(
        torch.ones(max_len, head_dim // 2, dtype=torch.float64), torch.tensor(angles, dtype=torch.float64)
    )


def assert_table(got: object, head_dim: int, max_len: int, theta: float, what: str, hint: str = "") -> None:
    """Compare with the printed formula as closely as float32 angles allow: their rounding grows with the position."""
    expected = turns_on_paper(head_dim, max_len, theta)
    assert_close(got, expected, what, dtype=C64, tolerance=2e-6 + 4e-7 * (max_len - 1), hint=hint)


def some_turns(randn, T: int, pairs: int) -> Tensor:
    """Return random turns: complex64 numbers of length 1, shape (T, pairs)."""
    return torch.polar(torch.ones(T, pairs), 3.0 * randn(T, pairs))


def turn(impl, xq: Tensor, xk: Tensor, freqs_cis: Tensor) -> tuple[Tensor, Tensor]:
    """Call the learner's function and check that a pair comes back."""
    pair = impl.apply_rotary_emb(xq, xk, freqs_cis)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise CheckFailure(f"apply_rotary_emb should return queries and keys, a pair, but {describe(pair)} came.")
    return pair[0], pair[1]


def assert_turned(impl, reference, xq: Tensor, xk: Tensor, freqs_cis: Tensor, what: str, hint: str = "") -> None:
    """Turn, and compare with the reference in float64."""
    q, k = turn(impl, xq, xk, freqs_cis)
    right = reference.apply_rotary_emb(xq.double(), xk.double(), freqs_cis.to(torch.complex128))
    assert_close(q, right[0], f"{what}: the queries", dtype=xq.dtype, hint=hint)
    assert_close(k, right[1], f"{what}: the keys", dtype=xk.dtype, hint=hint)


# --- the shapes, and numbers worked out by hand ----------------------------------------------------------


@pytest.mark.visible
def test_returns_the_right_shapes(impl, randn):
    """the shapes are right: one complex number per position and pair, and turned tensors like those that went in"""
    table = impl.precompute_freqs_cis(8, 5)
    assert_shape(table, (5, 4), "precompute_freqs_cis(8, 5)", dtype=C64)

    earlier = None
    for _ in range(2):
        xq, xk = randn(2, 5, 6, 8), randn(2, 5, 3, 8)
        out = turn(impl, xq, xk, some_turns(randn, 5, 4))

        for name, got, given in ("queries", out[0], xq), ("keys", out[1], xk):
            assert_shape(got, given.shape, f"the turned {name}", dtype=F32)
            assert_differs(got, given, f"the turned {name} of shape {tuple(given.shape)}")
        if earlier is not None:
            assert_differs(out[0], earlier[0], "the turned queries of another call")
            assert_differs(out[1], earlier[1], "the turned keys of another call")
        earlier = out


@pytest.mark.visible
@pytest.mark.points(2)
def test_table_worked_out_by_hand(impl):
    """three positions and two pairs: six complex numbers that can be done on paper"""
    for theta, slow in (10_000.0, 0.01), (100.0, 0.1):  # theta ** (-2/4) radians per position of pair 1
        table = impl.precompute_freqs_cis(head_dim=4, max_len=3, theta=theta)

        angles = [[0.0, 0.0], [1.0, slow], [2.0, 2 * slow]]
        by_hand = torch.tensor([[complex(math.cos(t), math.sin(t)) for t in row] for row in angles])
        assert_close(table, by_hand, f"positions 0, 1, 2 with head_dim 4 and theta {theta:g}: the angles are {angles}")


@pytest.mark.visible
def test_every_pair_has_its_own_speed(impl):
    """the speeds of the pairs follow the formula for every width and theta"""
    for head_dim, theta in (2, 1e4), (6, 1e4), (6, 7.0), (6, 1.5), (10, 5e5), (64, 1e4), (128, 30.0):
        table = impl.precompute_freqs_cis(head_dim, 2, theta)

        assert_table(table, head_dim, 2, theta, f"positions 0 and 1 with head_dim {head_dim} and theta {theta:g}")


@pytest.mark.visible
@pytest.mark.points(2)
def test_matches_a_turn_done_by_hand(impl):
    """one token of four features, multiplied by complex numbers on paper"""
    quarter, other = complex(0, 1), complex(0.6, 0.8)
    xq, xk = torch.tensor([1.0, 0.0, 0.0, 1.0]).view(1, 1, 1, 4), torch.tensor([2.0, 1.0, 3.0, -1.0]).view(1, 1, 1, 4)

    for row, by_hand in (
        ([quarter, other], ([0.0, 1.0, -0.8, 0.6], [-1.0, 2.0, 2.6, 1.8])),
        ([other, quarter], ([0.6, 0.8, -1.0, 0.0], [0.4, 2.2, 1.0, 3.0])),
    ):
        out = turn(impl, xq, xk, torch.tensor([row]))

        for name, got, given, expected in zip(("query", "key"), out, (xq, xk), by_hand, strict=True):
            what = f"the {name} {given.flatten().tolist()} with freqs_cis {row[0]}, {row[1]}"
            assert_close(got, torch.tensor(expected).view(1, 1, 1, 4), what)


@pytest.mark.visible
def test_rows_belong_to_tokens(impl):
    """row t of freqs_cis turns token t in every head, also where there are as many heads as tokens"""
    ones = torch.tensor([1.0, 0.0]).expand(2, 3, 3, 2)  # B = 2, T = 3, H = G = 3: each pair is the number 1

    for turns, expected in (
        ("1j, -1, -1j", [[0.0, 1.0], [-1.0, 0.0], [0.0, -1.0]]),
        ("-1, 1j, 1", [[-1.0, 0.0], [0.0, 1.0], [1.0, 0.0]]),
    ):
        rows = torch.view_as_complex(torch.tensor(expected)).view(3, 1)
        out = turn(impl, ones, ones, rows)

        for name, got in zip(("queries", "keys"), out, strict=True):
            what = f"3 tokens with 3 heads, every pair (1, 0), and turns {turns}: the {name}"
            hint = "Which dimension of (B, T, H, K) counts the tokens?"
            assert_close(got, torch.tensor(expected)[:, None].expand(2, 3, 3, 2), what, hint=hint)


# --- what makes it a rotary embedding --------------------------------------------------------------------


def test_far_positions(impl):
    """the table is right at far positions, and all its numbers have length 1"""
    for head_dim, max_len, theta in (6, 4200, 10_000.0), (10, 3000, 50.0), (6, 1, 10_000.0):
        table = impl.precompute_freqs_cis(head_dim, max_len, theta)

        what = f"precompute_freqs_cis({head_dim}, {max_len}, {theta:g})"
        assert_table(table, head_dim, max_len, theta, what)
        assert_close(table.abs(), torch.ones(max_len, head_dim // 2), f"the lengths in {what}")


@pytest.mark.visible
def test_turns_of_1_change_nothing(impl, randn):
    """a token whose turns are 1, as at position 0, stays as it is; the others do not"""
    xq, xk = randn(2, 4, 3, 6), randn(2, 4, 3, 6)
    turns = torch.tensor([1j, 1, 1, -1])[:, None].expand(4, 3)

    for name, got, given in zip(("queries", "keys"), turn(impl, xq, xk, turns), (xq, xk), strict=True):
        assert_close(got[:, 1:3], given[:, 1:3], f"the {name} of two tokens with turns of 1, among others")
        assert_differs(got[:, 0::3], given[:, 0::3], f"the {name} of tokens with turns of 1j and -1")
    for name, got, given in zip(("queries", "keys"), turn(impl, xq, xk, turns * 0 + 1), (xq, xk), strict=True):
        assert_close(got, given, f"the {name} of four tokens with turns of 1")


def test_keeps_the_length_of_every_pair(impl, randn):
    """turning makes no pair longer or shorter"""
    for _ in range(2):
        given = randn(2, 4, 3, 6), randn(2, 4, 2, 6)
        out = turn(impl, *given, some_turns(randn, 4, 3))

        for name, got, x in zip(("queries", "keys"), out, given, strict=True):
            assert_shape(got, x.shape, f"the turned {name}", dtype=F32)
            lengths = [tensor.unflatten(-1, (3, 2)).norm(dim=-1) for tensor in (got, x)]
            assert_close(lengths[0], lengths[1], f"the lengths of the pairs of the {name} once they are turned")
            assert_differs(got, x, f"the turned {name}")


def test_scores_depend_only_on_the_distance(impl, randn):
    """moving all tokens together, along the table that was made, changes no attention score"""
    q, k = randn(1, 5, 2, 8), randn(1, 5, 2, 8)
    table = impl.precompute_freqs_cis(8, 20)
    assert_shape(table, (20, 4), "precompute_freqs_cis(8, 20)", dtype=C64)

    def scores(start: int) -> Tensor:
        turned_q, turned_k = turn(impl, q, k, table[start : start + 5])
        assert_shape(turned_q, q.shape, "the turned queries")
        assert_shape(turned_k, k.shape, "the turned keys")
        return torch.einsum("bthk,bshk->bhts", turned_q, turned_k)

    unmoved, plain = scores(0), torch.einsum("bthk,bshk->bhts", q, k)
    tolerance = 5e-5 * max(1.0, float(q.norm(dim=-1).max() * k.norm(dim=-1).max()))
    same = "the scores of tokens with themselves, where both were turned alike"
    assert_close(unmoved.diagonal(dim1=-2, dim2=-1), plain.diagonal(dim1=-2, dim2=-1), same, tolerance=tolerance)
    for start in 3, 15:
        what = f"the scores with rows {start} to {start + 4} of the table, and with rows 0 to 4"
        assert_close(scores(start), unmoved, what, tolerance=tolerance)
    assert_differs(unmoved, plain, "the scores of turned queries and keys")


# --- the numbers, on inputs of every kind ----------------------------------------------------------------


def test_keys_may_have_fewer_heads(impl, reference, randn):
    """queries and keys have their own numbers of heads, and both are turned"""
    for H, G in (4, 2), (3, 1), (1, 3), (6, 3):
        xq, xk = randn(2, 3, H, 6), randn(2, 3, G, 6)

        assert_turned(impl, reference, xq, xk, some_turns(randn, 3, 3), f"{H} heads of queries and {G} of keys")


@pytest.mark.points(2)
def test_matches_the_reference_on_many_sizes(impl, reference, randn, rng):
    """the turned queries and keys agree with the reference for odd sizes and sizes of 1"""
    sizes = [
        (1, 1, 1, 1, 2),
        (1, 1, 3, 1, 6),
        (2, 7, 1, 1, 10),
        (3, 1, 4, 2, 2),
        (1, 5, 5, 5, 2),
        (3, 3, 3, 3, 14),
        (8, 4, 2, 2, 6),
        (1, 3, 2, 1, 128),
    ]
    sizes += [[rng.randint(1, 5) for _ in range(4)] + [2 * rng.randint(1, 9)] for _ in range(3)]

    for B, T, H, G, K in sizes:
        what = f"B = {B}, T = {T}, H = {H}, G = {G}, K = {K}"
        for factor in 1.0, 1000.0:
            xq, xk = factor * randn(B, T, H, K), factor * randn(B, T, G, K)
            numbers = f"{what}, numbers of about {factor:g}"
            assert_turned(impl, reference, xq, xk, some_turns(randn, T, K // 2), numbers)


def test_the_same_without_gradients(impl, reference, randn):
    """the results are the same for inputs that require a gradient, for any other, and under torch.no_grad()"""
    for _ in range(2):
        for kind in "inputs that require a gradient", "any other inputs", "any inputs under torch.no_grad()":
            xq, xk = (randn(2, 4, heads, 6).requires_grad_("require" in kind) for heads in (3, 2))
            with torch.set_grad_enabled("no_grad" not in kind):
                assert_turned(impl, reference, xq, xk, some_turns(randn, 4, 3), kind)
                table = impl.precompute_freqs_cis(6, 5, 100.0)
            assert_table(table, 6, 5, 100.0, "precompute_freqs_cis(6, 5, 100)")


def test_takes_strided_inputs(impl, reference, randn):
    """transposed, sliced or repeated queries and keys, and rows picked from a table, are as good as any"""
    table = some_turns(randn, 40, 8)
    several = {
        "transposed from (B, H, T, K)": (randn(2, 3, 6, 8).transpose(1, 2), table[3::7, :4]),
        "every second token of longer": (randn(2, 12, 3, 8)[:, ::2], table[:6, ::2]),
        "repeated over the batch without a copy,": (randn(1, 6, 3, 8).expand(2, 6, 3, 8), table[:6, :4]),
        "cut out of wider": (randn(2, 6, 3, 12)[..., 2:10], table[[5, 3, 3, 1, 0, 8], :4]),
    }

    for kind, (x, turns) in several.items():
        other = randn(2, 6, 2, 8)

        assert_turned(impl, reference, x, other, turns, f"{kind} queries")
        assert_turned(impl, reference, other, x, turns, f"{kind} keys")


def test_each_comes_back_in_its_own_dtype(impl, reference, randn):
    """bfloat16 comes back as bfloat16 and float32 as float32, also where queries and keys differ"""
    for q_dtype, k_dtype in (BF16, BF16), (BF16, F32), (F32, BF16), (BF16, BF16):
        xq, xk, turns = randn(2, 5, 3, 6).to(q_dtype), randn(2, 5, 3, 6).to(k_dtype), some_turns(randn, 5, 3)

        names = " and ".join(str(dtype).removeprefix("torch.") for dtype in (q_dtype, k_dtype))
        assert_turned(impl, reference, xq, xk, turns, f"queries and keys of {names}")


# --- gradients, repeated calls, devices ------------------------------------------------------------------


@pytest.mark.points(2)
def test_gradients_reach_queries_and_keys(impl, reference, randn):
    """the gradients of xq and xk are right, also the second time, after other sizes, and in bfloat16"""
    calls = [
        (2, 3, 4, 2, 6, F32, F32),
        (2, 3, 4, 2, 6, F32, F32),
        (1, 4, 2, 2, 10, F32, F32),
        (2, 1, 4, 1, 6, F32, F32),
    ]
    calls += [(2, 3, 2, 2, 4, BF16, BF16), (2, 3, 2, 2, 4, BF16, F32), (2, 3, 2, 1, 4, F32, BF16)]

    for B, T, H, G, K, q_dtype, k_dtype in calls:
        xq, xk = randn(B, T, H, K, dtype=q_dtype), randn(B, T, G, K, dtype=k_dtype)
        leaves = {"xq": xq.requires_grad_(), "xk": xk.requires_grad_()}
        wide = {name: x.detach().double().requires_grad_() for name, x in leaves.items()}
        turns = some_turns(randn, T, K // 2)
        out = turn(impl, *leaves.values(), turns)
        right = reference.apply_rotary_emb(*wide.values(), turns.to(torch.complex128))

        for got, (name, x) in zip(out, leaves.items(), strict=True):
            assert_shape(got, x.shape, f"the turned {name} of shape {tuple(x.shape)}", dtype=x.dtype)
        flat, right = (torch.cat([tensor.double().flatten() for tensor in pair]) for pair in (out, right))  # one way
        names = " and ".join(str(dtype).removeprefix("torch.") for dtype in (q_dtype, k_dtype))
        what = f"the gradient with T = {T}, {H} heads of queries and {G} of keys, {names}"
        assert_gradients_match(flat, leaves, right, wide, randn(flat.numel()).double(), what)


def test_gradient_of_one_tensor_for_both(impl, reference, randn):
    """one tensor for queries and keys receives the gradients of both"""
    for T in 4, 1:
        x, turns = randn(2, T, 3, 6).requires_grad_(), some_turns(randn, T, 3)
        wide = x.detach().double().requires_grad_()
        out, right = turn(impl, x, x, turns), reference.apply_rotary_emb(wide, wide, turns.to(torch.complex128))

        for got, name in zip(out, ("queries", "keys"), strict=True):
            assert_shape(got, x.shape, f"the turned {name} of shape {tuple(x.shape)}", dtype=F32)
        flat, right = (torch.cat([tensor.flatten() for tensor in pair]) for pair in (out, right))
        what = "the gradient of one tensor that is xq and xk"
        assert_gradients_match(flat, {"x": x}, right, {"x": wide}, randn(flat.numel()), what)


def test_repeated_calls_stay_right(impl, reference, randn):
    """a call is right whatever theta, width, length, table or dtype the calls before it had"""
    calls = [
        ("in the first call", 6, 5, 10_000.0, F32),
        ("with another theta", 6, 5, 100.0, F32),
        ("with nearly the same theta", 6, 5, 100.5, F32),
        ("with more positions", 6, 9, 100.0, F32),
        ("with fewer positions", 6, 2, 100.0, F32),
        ("with more features", 10, 5, 100.0, F32),
        ("in bfloat16", 10, 5, 100.0, BF16),
        ("in float32 again", 10, 5, 100.0, F32),
        ("as in the first call", 6, 5, 10_000.0, F32),
    ]

    hint = "If single calls are right: is something kept from an earlier call that does not belong to this one?"
    for change, K, T, theta, dtype in calls:
        table = impl.precompute_freqs_cis(K, T, theta)
        assert_table(table, K, T, theta, f"precompute_freqs_cis {change}", hint)
        xq, xk = randn(2, T, 3, K).to(dtype), randn(2, T, 2, K).to(dtype)
        assert_turned(impl, reference, xq, xk, some_turns(randn, T, K // 2), f"apply_rotary_emb {change}", hint)


def test_leaves_the_inputs_alone(impl, reference, randn):
    """neither xq, nor xk, nor freqs_cis is changed by a call"""
    for _ in range(2):
        inputs = {"xq": randn(2, 4, 3, 6), "xk": randn(2, 4, 2, 6), "freqs_cis": some_turns(randn, 4, 3)}
        before = {name: tensor.clone() for name, tensor in inputs.items()}

        assert_turned(impl, reference, *inputs.values(), "a call")
        for name, tensor in inputs.items():
            assert_close(tensor, before[name], f"{name} after the call, which should be as before", tolerance=0.0)


def test_takes_all_tokens_at_once(impl, reference, randn):
    """there is no loop over positions, tokens or the batch"""
    for _ in range(2):
        xq, xk, turns = randn(40, 40, 2, 6), randn(40, 40, 1, 6), some_turns(randn, 40, 3)
        assert_turned(impl, reference, xq, xk, turns, "40 tokens in a batch of 40")

    assert_table(impl.precompute_freqs_cis(6, 40), 6, 40, 10_000.0, "a table of 40 positions")
    assert_no_loop(impl, lambda n: impl.precompute_freqs_cis(6, n), "positions")
    assert_no_loop(impl, lambda T: impl.apply_rotary_emb(xq[:2, :T], xk[:2, :T], turns[:T]), "tokens")
    assert_no_loop(impl, lambda B: impl.apply_rotary_emb(xq[:B, :3], xk[:B, :3], turns[:3]), "sequences of a batch")


def test_follows_the_device(impl, reference, randn):
    """the table is made on the default device, and turned tensors lie where the inputs lie"""
    inputs = randn(2, 5, 3, 6), randn(2, 5, 2, 6), some_turns(randn, 5, 3)
    far = [tensor.to("meta") for tensor in inputs]  # meta stands for any accelerator

    def compare(when: str) -> None:
        assert_table(impl.precompute_freqs_cis(6, 5), 6, 5, 10_000.0, f"precompute_freqs_cis {when}")
        assert_turned(impl, reference, *inputs, f"apply_rotary_emb {when}")

    compare("on the CPU")
    assert_follows_default_device(impl, lambda: impl.precompute_freqs_cis(6, 5), "precompute_freqs_cis(6, 5)")
    assert_follows_device(impl, lambda: turn(impl, *far), "apply_rotary_emb on the meta device")
    compare("on the CPU after a call on the meta device")


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_refuses_sizes_that_make_no_table(impl):
    """an odd width, or a size below 1, is refused with ValueError"""
    fresh = itertools.count(2)  # no two good calls ask for the same

    def good() -> None:
        max_len = next(fresh)
        assert_table(impl.precompute_freqs_cis(4, max_len), 4, max_len, 10_000.0, f"precompute_freqs_cis(4, {max_len})")

    for head_dim, max_len in (5, 3), (1, 3), (0, 3), (-2, 3), (4, 0), (4, -1):
        what = f"head_dim {head_dim} and max_len {max_len}"
        assert_rejects(lambda k=head_dim, n=max_len: impl.precompute_freqs_cis(k, n), what, good=good)


def test_refuses_a_width_without_pairs(impl, reference, randn):
    """queries and keys of odd width are refused with ValueError"""
    for K in 5, 1:
        xq, xk, turns = randn(1, 2, 3, K), randn(1, 2, 3, K), some_turns(randn, 2, max(1, K // 2))

        def good(K=K) -> None:
            fresh = randn(1, 2, 3, K + 1), randn(1, 2, 3, K + 1), some_turns(randn, 2, (K + 1) // 2)
            assert_turned(impl, reference, *fresh, f"K = {K + 1}")

        assert_rejects(lambda q=xq, k=xk, t=turns: impl.apply_rotary_emb(q, k, t), f"K = {K}", good=good)


def test_refuses_another_number_of_rows(impl, reference, randn):
    """a freqs_cis with another number of rows than there are tokens is refused with ValueError"""

    def refuses(T: int, rows: int, what: str) -> None:
        def good() -> None:
            fresh = randn(2, T, 3, 6), randn(2, T, 2, 6), some_turns(randn, T, 3)
            assert_turned(impl, reference, *fresh, "as many rows as tokens")

        xq, xk, turns = randn(2, T, 3, 6), randn(2, T, 2, 6), some_turns(randn, rows, 3)
        assert_rejects(lambda: impl.apply_rotary_emb(xq, xk, turns), what, good=good)

    refuses(5, 4, "4 rows for 5 tokens")
    refuses(5, 8, "8 rows for 5 tokens")
    refuses(5, 1, "1 row for 5 tokens")
    refuses(5, 3, "3 rows (as many as heads of queries) for 5 tokens")
    refuses(5, 2, "2 rows (as many as sequences, and as heads of keys) for 5 tokens")
    refuses(5, 10, "10 rows for 5 tokens")
    refuses(1, 5, "5 rows for 1 token")


# --- what the diagnosis asks, and the picture ------------------------------------------------------------


def probe(impl):
    """Ask for a table and for turned features, and about heads and dtypes only where those are right.

    As many heads as tokens let code go through that mixes up the two.
    """
    x = torch.tensor([(7 * n) % 11 - 5.0 for n in range(72)]).view(1, 3, 3, 8)
    turns = turns_on_paper(8, 6, 50.0)[[4, 1, 2]].to(C64)
    seen = {
        "table": observe(lambda: impl.precompute_freqs_cis(8, 4, 50.0)),
        "turned": observe(lambda: impl.apply_rotary_emb(x, 2.0 - x, turns)),
    }

    right = torch.view_as_real(torch.view_as_complex(torch.stack((x, 2.0 - x)).unflatten(-1, (4, 2))) * turns[:, None])
    got = seen["turned"]
    if (
        isinstance(got, (tuple, list))
        and len(got) == 2
        and all(isinstance(t, Tensor) and t.shape == x.shape for t in got)
    ):
        seen["turned"] = got = tuple(got)
        if all(torch.allclose(t.double(), r.flatten(-2).double(), atol=1e-3) for t, r in zip(got, right, strict=True)):
            seen["fewer heads"] = observe(lambda: tuple(impl.apply_rotary_emb(x, x[:, :, :1], turns)))
            seen["dtypes"] = observe(lambda: tuple(impl.apply_rotary_emb(x.bfloat16(), x, turns)))
    return seen


def picture(impl) -> list[Panel]:
    """Show how fast the pairs turn, and what becomes of a score as its two tokens move apart."""
    table = impl.precompute_freqs_cis(64, 128)

    ones = torch.ones(1, 128, 1, 64)  # (B, T, H, K)
    lines = []
    for theta in 10_000.0, 100.0:
        q, k = impl.apply_rotary_emb(ones, ones, impl.precompute_freqs_cis(64, 128, theta))
        lines.append((q[0, :1, 0] @ k[0, :, 0].mT).flatten() / 64)  # (T,), 1 where the distance is 0
    return [
        Panel("Real part of the table: the cosine of each pair's angle", table.real.mT, "heatmap", "position", "pair"),
        Panel("Imaginary part of the table: its sine", table.imag.mT, "heatmap", "position", "pair"),
        Panel(
            "Score of a query and a key of ones",
            torch.stack(lines),
            "lines",
            "distance",
            "score, as a share of that at distance 0",
            ("theta 10000", "theta 100"),
        ),
    ]
