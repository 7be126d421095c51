"""Hidden suite of attention_by_head: one head by hand, its positions and masks, then all heads.

A check of one property does not compare every number with the reference's, so that one mistake fails few checks. It
ends in ``assert_answers`` instead, which no made-up answer passes and none kept from before. Checks of one head do not
need the other function, so that each can be written first.
"""

import math

import pytest
import torch

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

# --- what the checks are made of --------------------------------------------------------------------------


def turns(positions, head_dim, base=10_000.0):
    """Return the rows of freqs_cis for these positions, complex64 (T, K/2)."""
    speeds = base ** -(torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.outer(torch.as_tensor(positions, dtype=torch.float64), speeds)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def random_turns(randn, T, K):
    """Return rows that turn every pair of every token by an angle of its own."""
    angles = 3 * randn(T, K // 2, dtype=torch.float64)
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def no_turn(T, K):
    return torch.ones(T, K // 2, dtype=torch.complex64)


def columns(D, *vectors):
    """Return a weight (K, D): the token e_i, 1 in feature i alone, is projected to vector i."""
    weight = torch.zeros(len(vectors[0]), D)
    for i, vector in enumerate(vectors):
        weight[:, i] = torch.tensor(vector, dtype=torch.float32)
    return weight


def draw(randn, D, K):
    """Return wq, wk and wv of one head."""
    return tuple(randn(3, K, D) / D**0.5)


def draw_heads(randn, D, K, H, G):
    """Return wq, wk and wv of all heads."""
    return tuple(randn(n, K, D) / D**0.5 for n in (H, G, G))


def assert_same(call, ref, x, weights, rows, mask=None, what="random inputs", *, dtype=torch.float32):
    """Compare a function of the learner's with the same one of the reference."""
    x, weights = x.to(dtype), [weight.to(dtype) for weight in weights]
    rest = () if mask is None else (mask,)
    right = ref(x.double(), *(weight.double() for weight in weights), rows, *rest)
    assert_close(call(x, *weights, rows, *rest), right, what, dtype=dtype)


def of_shape(out, shape, what):
    """Return ``out`` if it is a tensor of this shape, and fail otherwise."""
    if assert_tensor(out, what).shape != shape:
        raise CheckFailure(f"{what}: the shape should be {tuple(shape)}, but {tuple(out.shape)} came.")
    return out


def assert_answers(impl, randn, heads=None):
    """Check that a function answers at all: a token alone gets its projected value, whatever the rest does.

    Args:
        heads: Number of heads, for ``attention_all_heads``; None for ``attention_head``.
    """
    for _ in range(2):
        x, rows, (wq, wk, wv) = randn(1, 5), random_turns(randn, 1, 4), draw(randn, 5, 4)
        if heads is None:
            out = impl.attention_head(x, wq, wk, wv, rows)
        else:
            several = (weight.expand(heads, 4, 5).clone() for weight in (wq, wk, wv))  # alike
            out = impl.attention_all_heads(x, *several, rows)
        value = (x.double() @ wv.double().T).repeat(1, heads or 1)
        assert_close(out, value, "a token alone: the output, which is its value", dtype=torch.float32)


def some_mask(randint, *shape):
    """Return a random mask in which every row has an allowed key."""
    mask = randint(0, 2, shape).bool()
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


# --- one head: shape, and numbers worked out by hand ------------------------------------------------------


@pytest.mark.visible
def test_shape_of_one_head(impl, randn):
    """one head returns (T, K), whatever D is"""
    for T, D, K in (5, 6, 4), (3, 2, 8), (4, 4, 4):
        seen = torch.zeros(0)
        for _ in range(2):
            x = randn(T, D)
            out = impl.attention_head(x, *draw(randn, D, K), turns(range(T), K))

            assert_shape(out, (T, K), f"attention_head with T = {T}, D = {D}, K = {K}", dtype=torch.float32)
            assert_differs(out, seen, "attention_head of other inputs")
            assert_differs(out.flatten(), x.flatten()[: T * K], "attention_head, and x")
            seen = out


@pytest.mark.visible
@pytest.mark.points(2)
def test_two_tokens_by_hand(impl):
    """one head, two tokens, nothing turned, worked out on paper: each projection has its own part"""
    # Token (1, 0) picks column 0 of a weight, token (0, 1) column 1.
    wq = torch.tensor([[0.0, 1.0], [0.0, 0.0]])
    wk = torch.tensor([[0.0, math.log(3)], [5.0, 0.0]]) * math.sqrt(2)
    wv = torch.tensor([[4.0, 0.0], [1.0, 8.0]])

    for order in [0, 1], [1, 0]:  # of the tokens
        out = impl.attention_head(torch.eye(2)[order], wq, wk, wv, no_turn(2, 2))

        by_hand = torch.tensor([[2.0, 4.5], [1.0, 6.25]])[order]
        what = (
            "token (1, 0) has the scores (0, 0) and the value (4, 1), (0, 1) the scores (0, ln 3) and the value (0, 8)"
        )
        hint = "How do weights of shape (K, D) multiply x of shape (T, D)?"
        assert_close(out, by_hand, f"{what}, tokens in the order {order}: the output", hint=hint)


@pytest.mark.visible
def test_scores_are_divided_by_the_root_of_the_head_width(impl):
    """the scores are divided by sqrt(K), whatever D is"""
    for D, K, root in (7, 4, 2.0), (3, 16, 4.0), (9, 4, 2.0):
        for odds in 3.0, 4.0:
            first, second = torch.eye(K)[:2].tolist()
            wk = columns(D, [root * math.log(odds) * number for number in first])
            out = impl.attention_head(
                torch.eye(D)[:2], columns(D, first), wk, columns(D, first, second), no_turn(2, K)
            )  # values (1, 0 ...) and (0, 1 ...), so that the output is the weights

            by_hand = torch.tensor([odds, 1.0]) / (odds + 1)
            what = f"D = {D}, K = {K}, dot products {root * math.log(odds):.4f} and 0: the weights"
            assert_close(out[0, :2], by_hand, what, hint="Over how many features does the dot product add?")


@pytest.mark.visible
@pytest.mark.points(2)
def test_turns_by_hand(impl):
    """queries and keys turned by quarter turns, worked out on paper"""
    cases = (  # the query of token 0, the key of token 1, rows 0 and 1 of freqs_cis; the key of token 0 is 0
        ("row 1 turns pair 0 of key 1", [1, 0, 0, 0], [0, -2, 0, 0], [1, 1], [1j, 1]),
        ("row 1 turns pair 1 of key 1", [0, 0, 1, 0], [0, 0, 0, -2], [1, 1], [1, 1j]),
        ("row 0 turns pair 0 of query 0", [0, -1, 0, 0], [2, 0, 0, 0], [1j, 1], [1, 1]),
        ("row 0 turns pair 1 of query 0", [0, 0, 0, -1], [0, 0, 2, 0], [1, 1j], [1, 1]),
        ("both rows turn pair 0", [1, 0, 0, 0], [2, 0, 0, 0], [1j, 1], [1j, 1]),
    )

    for name, q, k, *rows in cases:
        for odds in 3.0, 4.0:
            wk = columns(2, [0.0] * 4, [math.log(odds) * number for number in k])
            wv = columns(2, [1, 0, 0, 0], [0, 1, 0, 0])  # so that the output is the weights
            out = impl.attention_head(torch.eye(2), columns(2, q), wk, wv, torch.tensor(rows, dtype=torch.complex64))

            by_hand = torch.tensor([1.0, odds, 0.0, 0.0]) / (odds + 1)
            numbers = f"query {q}, key ln {odds:g} times {k}, rows {rows}"
            what = f"{name}, so that token 0 has the scores (0, ln {odds:g}): its weights. In numbers: {numbers}"
            assert_close(out[0], by_hand, what)


@pytest.mark.visible
def test_values_are_not_turned(impl, randn):
    """a token alone gets its own value, however its row turns"""
    wv = torch.tensor([[0.0, 2.0, 0.0], [0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 0.0, -1.0]])

    for a, b, c in (1.0, 2.0, 3.0), (5.0, 3.0, 7.0):
        wq, wk = randn(2, 4, 3)
        out = impl.attention_head(torch.tensor([[a, b, c]]), wq, wk, wv, random_turns(randn, 1, 4))

        what = f"the token {a, b, c} alone, wv {wv.int().tolist()}: the output"
        assert_close(out[0], torch.tensor([2 * b, c, a, -c]), what)


# --- one head: positions ----------------------------------------------------------------------------------


def test_only_distances_count(impl, randn):
    """rows cut out of the middle of a table give the same output as its first rows, others do not"""
    x, weights, table = randn(5, 6), draw(randn, 6, 4), turns(range(60), 4)

    first = impl.attention_head(x, *weights, table[:5])
    for start in 1, 17, 55:
        moved = impl.attention_head(x, *weights, table[start : start + 5])
        assert_close(moved, first, f"rows {start} to {start + 4} of a table, and rows 0 to 4: the output")
    for rows, name in ((table[:5].flip(0), "in reverse"), (table[:15:3], "with a distance of 3")):
        assert_differs(impl.attention_head(x, *weights, rows), first, f"five rows {name}: the output")
    assert_answers(impl, randn)


def test_the_rows_count_and_not_their_numbers(impl, reference, randn):
    """the turns come from the rows of freqs_cis, from whatever positions and base"""
    several = {
        "every third row of a table": turns(range(40), 4)[2:17:3],
        "rows of a table with theta = 100": turns(range(5), 4, 100.0),
        "rows of negative, repeated and far positions": turns([-3, 7, 7, 4097, 0], 4),
        "rows turned at random": random_turns(randn, 5, 4),
        "columns of a wider table": random_turns(randn, 5, 8)[:, ::2],
    }

    for name, rows in several.items():
        what = f"freqs_cis holds {name}: the output"
        assert_same(impl.attention_head, reference.attention_head, randn(5, 6), draw(randn, 6, 4), rows, what=what)


def test_without_a_mask_everyone_sees_everyone(impl, randn, rng):
    """no mask: tokens in another order, with their rows, give the same output in that order"""
    x, weights, rows = randn(5, 6), draw(randn, 6, 4), random_turns(randn, 5, 4)
    order = rng.sample(range(5), 5)
    other = x.clone()
    other[4] += 1.0

    before = impl.attention_head(x, *weights, rows)
    shuffled = impl.attention_head(x[order], *weights, rows[order])
    changed = impl.attention_head(other, *weights, rows)

    assert_close(shuffled, before[order], f"tokens and rows in the order {order}: the output")
    assert_differs(changed[:4], before[:4], "no mask, token 4 was changed: the output of tokens 0 to 3")
    assert_answers(impl, randn)


# --- one head: masks --------------------------------------------------------------------------------------


@pytest.mark.visible
def test_true_in_a_mask_means_may_attend(impl, randn):
    """a query that may attend to one key alone gets that key's value"""
    wv = torch.eye(4)[:2] * 2.0  # the value is twice the first two features

    for allowed in [2, 0, 1], [1, 1, 0]:  # the one key that each query may attend to
        x, mask = randn(3, 4), torch.zeros(3, 3, dtype=torch.bool)
        mask[[0, 1, 2], allowed] = True
        wq, wk = randn(2, 2, 4)
        out = impl.attention_head(x, wq, wk, wv, random_turns(randn, 3, 2), mask=mask)

        what = f"queries 0, 1, 2 may attend to keys {allowed} alone, values of 2 * x[:, :2]: the output"
        assert_close(out, 2 * x[allowed, :2], what)


def weights_seen(impl, randn, size, mask):
    """Return the weights of a head whose values are unit vectors, so that they show, (4, 4)."""
    wq, wk = (torch.cat((weight, torch.zeros(4, 4)), dim=1) for weight in randn(2, 4, 4))
    wv = torch.cat((torch.zeros(4, 4), torch.eye(4)), dim=1)
    x = torch.cat((size * randn(4, 4), torch.eye(4)), dim=1)
    rest = () if mask is None else (mask,)
    out = impl.attention_head(x, wq, wk, wv, random_turns(randn, 4, 4), *rest)
    return assert_shape(out, (4, 4), "the output of values that are unit vectors")


def test_weights_sum_to_1_and_masked_ones_are_0(impl, randn, randint):
    """weights are not negative and sum to 1, masked ones are exactly 0, for small scores and for large ones"""
    for size in 1.0, 100.0:  # of the inputs: scores of about 1, and of about 10 000
        for mask in None, some_mask(randint, 4, 4), torch.ones(4, 4, dtype=torch.bool).tril():
            weights = weights_seen(impl, randn, size, mask)

            what = (
                f"inputs of size {size:g}, {'no mask' if mask is None else 'with a mask'}, values that are unit vectors"
            )
            assert_close(weights.sum(dim=-1), torch.ones(4), f"{what}: the sum of a query's weights")
            assert_close(weights, weights.clamp(min=0.0), f"{what}: weights below 0, which should be 0 or more")
            if mask is not None:
                masked = weights[~mask]
                assert_close(masked, torch.zeros_like(masked), f"{what}: the masked weights", tolerance=0.0)
    assert_answers(impl, randn)


@pytest.mark.visible
def test_huge_scores(impl):
    """one head: scores of 10 000 and -10 000 give right weights and no NaN, with a mask as well"""
    assert_survives_huge_scores(lambda x, wq, wk, wv, *rest: impl.attention_head(x, wq, wk, wv, *rest)[:, :3])


def assert_survives_huge_scores(weights_of):
    """Check the weights of three tokens that all have the same query; the values of the keys are unit vectors."""
    calls = (  # the three scores over 10 000, the mask, the weights
        ([1, 1, -1], None, [1 / 2, 1 / 2, 0]),
        ([-1, -1, 1], None, [0, 0, 1]),
        ([-1, -1, -1], None, [1 / 3, 1 / 3, 1 / 3]),
        ([0.9, 1, 0.9], [True, True, True], [0, 1, 0]),
        ([1, 1, -1], [False, False, True], [0, 0, 1]),
        ([-1, -1, 1], [True, True, False], [1 / 2, 1 / 2, 0]),
    )
    first, second, third, _ = torch.eye(4).tolist()

    for dtype in torch.float32, torch.bfloat16:
        for scores, allowed, by_hand in calls:
            if dtype == torch.bfloat16 and 1 not in by_hand:
                continue  # equal large scores: their logarithms have too few digits there
            wq = columns(3, *[[200.0, 0, 0, 0]] * 3)
            wk = columns(3, *([100.0 * score, 0, 0, 0] for score in scores))
            inputs = (tensor.to(dtype) for tensor in (torch.eye(3), wq, wk, columns(3, first, second, third)))
            weights = weights_of(*inputs, no_turn(3, 4), *(() if allowed is None else (torch.tensor([allowed]),)))

            what = f"scores of 10 000 times {scores}, mask {allowed}: the weights"
            hint = "If smaller scores work: what is left of exp(10000), and what is lower than any score?"
            right = torch.tensor(by_hand, dtype=dtype).expand(3, 3)
            assert_close(weights, right, what, tolerance=2e-3, hint=hint)


@pytest.mark.points(2)
def test_a_query_with_nothing_to_attend_to(impl, reference, randn, randint):
    """a query that may attend to nothing gets an output of exactly 0; masks (T, T), (1, T) and (T, 1)"""
    row = some_mask(randint, 5, 5)
    row[1] = False
    masks = {
        "query 1 may attend to nothing": row,
        "query 3 may attend to nothing, a mask (T, 1)": torch.tensor([[True], [True], [True], [False], [True]]),
        "nobody may attend to anything, a mask (1, T)": torch.zeros(1, 5, dtype=torch.bool),
        "some keys are hidden from everyone, a mask (1, T)": some_mask(randint, 1, 5),
        "one token that may attend to nothing": torch.tensor([[False]]),
    }
    head, many = impl.attention_head, impl.attention_all_heads

    for what, mask in masks.items():
        no_query, wk, wv = draw_heads(randn, 6, 4, 4, 2)
        no_query *= 0.0  # all scores are 0
        for name, call, ref, weights in (
            ("one head", head, reference.attention_head, draw(randn, 6, 4)),
            ("4 heads", many, reference.attention_all_heads, (no_query, wk, wv)),
        ):
            T = 1 if mask.shape == (1, 1) else 5
            x = randn(T, 6)
            out = call(x, *weights, no_turn(T, 4), mask)

            right = ref(x.double(), *(weight.double() for weight in weights), no_turn(T, 4), mask)
            there = of_shape(out, right.shape, f"{what}, {name}: the output")[~mask.expand(T, T).any(dim=-1)]
            assert_close(there, torch.zeros_like(there), f"{what}, {name}: the output there", tolerance=0.0)
            assert_close(out, right, f"{what}, {name}: the whole output", dtype=torch.float32)
    assert_answers(impl, randn)


def test_masked_tokens_leave_no_trace(impl, randn):
    """whatever stands at masked tokens, padding or the future, the output of the others stays the same"""
    x, weights, rows = randn(6, 6), draw(randn, 6, 4), turns(range(6), 4)
    other = x.clone()
    other[4:] += 10.0
    padding, causal = (torch.arange(6) < 4).view(1, 6), torch.ones(6, 6, dtype=torch.bool).tril()

    for name, mask in ("padding", padding), ("causal mask", causal):
        before, after = (impl.attention_head(tokens, *weights, rows, mask) for tokens in (x, other))
        assert_close(after[:4], before[:4], f"{name}, tokens 4 and 5 were changed: the output of tokens 0 to 3")
        assert_differs(after[4:], before[4:], f"{name}, tokens 4 and 5 were changed: their own output")
    assert_answers(impl, randn)


# --- all heads --------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shape_of_all_heads(impl, randn):
    """all heads return (T, H*K), for any number of key/value heads"""
    for H, G in (4, 4), (4, 2), (4, 1), (6, 3):
        seen = torch.zeros(0)
        for _ in range(2):
            x = randn(5, 30)
            out = impl.attention_all_heads(x, *draw_heads(randn, 30, 4, H, G), turns(range(5), 4))

            what = f"attention_all_heads with T = 5, D = 30, H = {H}, G = {G}, K = 4"
            assert_shape(out, (5, 4 * H), what, dtype=torch.float32)
            assert_differs(out, seen, "attention_all_heads of other inputs")
            assert_differs(out.flatten(), x.flatten()[: out.numel()], "attention_all_heads, and x")
            seen = out


@pytest.mark.visible
@pytest.mark.points(2)
def test_which_head_serves_whom(impl):
    """query heads that share key/value heads, worked out on paper: query head h uses head h // (H // G)"""
    for H, served in (4, [0, 0, 1, 1]), (6, [0, 0, 1, 1, 2, 2]), (6, [0, 0, 0, 1, 1, 1]), (3, [0, 0, 0]):
        G = max(served) + 1
        for shift in 2, 5:
            odds = [float(shift + g) for g in range(G)]
            wk = torch.stack([columns(2, [math.sqrt(2) * math.log(odd), 0.0]) for odd in odds])
            wv = torch.stack([columns(2, [1.0, 0.0], [0.0, 1.0])] * G)  # so that a head returns its weights
            wq = torch.stack([columns(2, [1.0, 0.0])] * H)
            out = impl.attention_all_heads(torch.eye(2), wq, wk, wv, no_turn(2, 2))

            by_hand = torch.tensor([[odds[g], 1.0] for g in served])
            by_hand /= by_hand.sum(dim=1, keepdim=True)
            scores = ", ".join(f"(ln {odd:g}, 0)" for odd in odds)
            what = f"H = {H}, G = {G}, token 0 has the scores {scores} with the keys of heads 0 to {G - 1}"
            hint = f"Which key/value heads do the {H} query heads use?"
            of_shape(out, (2, 2 * H), what)
            assert_close(out[0].view(H, 2), by_hand, f"{what}: the weights of the query heads", hint=hint)


@pytest.mark.visible
def test_heads_lie_side_by_side(impl):
    """the outputs of the heads lie side by side in order, for every token"""
    for first in 1.0, 20.0:
        values = torch.arange(first, first + 6).view(3, 2)  # of heads 0, 1, 2, for every token
        wq, wk = torch.zeros(2, 3, 2, 4)
        wv = values[:, :, None] * torch.tensor([1.0, 0.0, 0.0, 0.0])
        x = torch.ones(5, 4)
        out = impl.attention_all_heads(x, wq, wk, wv, turns(range(5), 2))

        what = f"every token has the values {values.int().tolist()} in heads 0, 1, 2: the output"
        hint = "In which order do heads and tokens lie in memory?"
        assert_close(out, values.flatten().expand(5, 6), what, hint=hint)


def test_each_block_is_one_head(impl, randn, rng):
    """block h of all heads is what one head returns for its weights, and moves with them"""
    x, rows, mask = randn(5, 7), random_turns(randn, 5, 4), torch.ones(5, 5, dtype=torch.bool).tril()
    order = rng.sample(range(4), 4)

    for H, G, rest in (4, 4, ()), (4, 2, (mask,)), (4, 1, ()):
        wq, wk, wv = draw_heads(randn, 7, 4, H, G)
        blocks = impl.attention_all_heads(x, wq, wk, wv, rows, *rest)
        assert_shape(blocks, (5, 4 * H), f"attention_all_heads with H = {H}, G = {G}, K = 4")
        for h in range(H):
            g = h // (H // G)
            alone = impl.attention_head(x, wq[h], wk[g], wv[g], rows, *rest)
            what = f"H = {H}, G = {G}: block {h} of attention_all_heads, and attention_head with weights {h} and {g}"
            assert_close(blocks[:, 4 * h : 4 * h + 4], alone, what)
        if G == 1:
            moved = impl.attention_all_heads(x, wq[order], wk, wv, rows).view(5, 4, 4)
            assert_close(moved, blocks.view(5, 4, 4)[:, order], f"query heads in the order {order}: the blocks")
    assert_answers(impl, randn)
    assert_answers(impl, randn, heads=3)


def test_huge_scores_in_all_heads(impl):
    """all heads: scores of 10 000 and -10 000 give right weights and no NaN, with a mask as well"""

    def weights_of(x, wq, wk, wv, *rest):
        small = wq / 1000  # of head 0; head 1 has the huge scores
        out = impl.attention_all_heads(x, torch.stack((small, wq)), wk[None], wv[None], *rest)
        return of_shape(out, (3, 8), "two query heads with K = 4: the output")[:, 4:7]

    assert_survives_huge_scores(weights_of)


# --- the whole --------------------------------------------------------------------------------------------


@pytest.mark.points(2)
def test_one_head_matches_the_reference(impl, reference, randn, randint, rng):
    """one head of random sizes, of size 1, and with tensors that are not contiguous"""
    sizes = [(1, 1, 2), (1, 5, 6), (4, 1, 4), (3, 4, 64)]
    sizes += [(rng.choice((2, 3, 5, 7)), rng.choice((2, 3, 5, 7)), rng.choice((2, 4, 6, 10))) for _ in range(5)]
    for T, D, K in sizes:
        rows = random_turns(randn, T, K)
        strided = [randn(D, K).T / D**0.5, randn(K, 2 * D)[:, ::2] / D**0.5, randn(2 * K, D)[1::2] / D**0.5]

        head, what = (impl.attention_head, reference.attention_head), f"T = {T}, D = {D}, K = {K}"
        assert_same(*head, randn(T, D), draw(randn, D, K), rows, what=what)
        mask = some_mask(randint, T, T)
        assert_same(*head, randn(D, T).T, strided, rows, mask, f"{what}, strided, with a mask")


@pytest.mark.points(3)
def test_all_heads_match_the_reference(impl, reference, randn, randint, rng):
    """all heads of random sizes, of size 1, and with tensors that are not contiguous"""
    sizes = [(1, 1, 1, 1, 2), (4, 5, 4, 1, 4), (6, 6, 3, 2, 6), (3, 3, 3, 1, 6), (2, 4, 1, 2, 16), (3, 5, 4, 2, 64)]
    sizes += [
        (*(rng.choice((2, 3, 5, 7)) for _ in range(3)), rng.choice((1, 2, 3)), rng.choice((2, 4, 6))) for _ in range(4)
    ]
    for T, D, G, n_rep, K in sizes:
        H = G * n_rep
        rows = random_turns(randn, T, K)
        strided = [randn(K, n, D).transpose(0, 1) / D**0.5 for n in (H, G, G)]

        many, what = (
            (impl.attention_all_heads, reference.attention_all_heads),
            f"T = {T}, {D = }, {H = }, {G = }, {K = }",
        )
        assert_same(*many, randn(T, D), draw_heads(randn, D, K, H, G), rows, what=what)
        mask, rows = some_mask(randint, T, T), random_turns(randn, K // 2, 2 * T).T
        assert_same(*many, randn(T, 2 * D)[:, ::2], strided, rows, mask, f"{what}, strided, with a mask")


def test_bfloat16(impl, reference, randn, randint):
    """a bfloat16 x and weights give bfloat16, with a complex64 freqs_cis, and gradients flow as well"""
    head = impl.attention_head, reference.attention_head
    many = impl.attention_all_heads, reference.attention_all_heads

    nothing = some_mask(randint, 5, 5)
    nothing[2] = False  # query 2 may attend to nothing
    for mask in None, nothing:
        for rows in random_turns(randn, 5, 4), turns(range(300, 305), 4):
            x = (0.5 * randn(5, 16)).bfloat16()  # scores below 1: of larger ones bfloat16 keeps too few digits
            one = [weight.bfloat16() for weight in draw(randn, 16, 4)]
            several = [weight.bfloat16() for weight in draw_heads(randn, 16, 4, 4, 2)]
            assert_same(*head, x, one, rows, mask, "bfloat16, one head", dtype=torch.bfloat16)
            assert_same(*many, x, several, rows, mask, "bfloat16, 4 heads", dtype=torch.bfloat16)
        for name, (call, ref), weights in ("one head", head, one), ("4 heads", many, several):
            assert_same_gradients(call, ref, x, weights, rows, mask, randn, f"bfloat16, {name}: the gradient")


def assert_same_gradients(call, ref, x, weights, rows, mask, randn, what, wanted=("x", "wq", "wk", "wv")):
    """Compare the gradients of x and the three weights, or of those that are wanted, with the reference's."""
    leaves = dict(zip(("x", "wq", "wk", "wv"), (x, *weights), strict=True))
    wide = {name: leaf.double().requires_grad_(name in wanted) for name, leaf in leaves.items()}
    leaves = {name: leaf.clone().requires_grad_(name in wanted) for name, leaf in leaves.items()}
    rest = () if mask is None else (mask,)
    out, right = call(*leaves.values(), rows, *rest), ref(*wide.values(), rows, *rest)
    leaves, wide = ({name: some[name] for name in wanted} for some in (leaves, wide))
    cotangent, tolerance = randn(*right.shape), None
    if x.dtype == torch.bfloat16:
        gradients = torch.autograd.grad((right * cotangent).sum(), list(wide.values()), retain_graph=True)
        tolerance = 0.1 * max(float(gradient.abs().max()) for gradient in gradients)
    assert_gradients_match(out, leaves, right, wide, cotangent, what, tolerance=tolerance)


@pytest.mark.points(2)
def test_gradients(impl, reference, randn, randint):
    """the gradients of x, wq, wk and wv, also under a mask that leaves a query nothing: no NaN"""
    mask = some_mask(randint, 5, 5)
    mask[2] = False

    for rest, H, G in (None, 4, 4), (mask, 4, 2), (None, 3, 1):
        rows, what = random_turns(randn, 5, 4), "the gradient" if rest is None else "the gradient under a mask"
        one, several = draw(randn, 6, 4), draw_heads(randn, 6, 4, H, G)
        head, many = impl.attention_head, impl.attention_all_heads
        assert_same_gradients(head, reference.attention_head, randn(5, 6), one, rows, rest, randn, f"one head: {what}")
        ref = reference.attention_all_heads
        assert_same_gradients(many, ref, randn(5, 6), several, rows, rest, randn, f"{H} heads: {what}")
    for name, call, ref, weights in (
        ("one head", impl.attention_head, reference.attention_head, draw(randn, 6, 4)),
        ("4 heads", impl.attention_all_heads, reference.attention_all_heads, draw_heads(randn, 6, 4, 4, 2)),
    ):
        what = f"{name}, one token: the gradient"
        assert_same_gradients(call, ref, randn(1, 6), weights, random_turns(randn, 1, 4), None, randn, what)
        for wanted in ("x",), ("wq", "wk", "wv"):
            what, rows = f"{name}, where only {' and '.join(wanted)} need one: the gradient", random_turns(randn, 5, 4)
            assert_same_gradients(call, ref, randn(5, 6), weights, rows, None, randn, what, wanted)


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls(impl, reference, randn, randint):
    """call after call with other sizes, weights, rows, masks and dtypes, also under no_grad, and with names"""
    for dtype in torch.float32, torch.bfloat16, torch.float32:
        for T, K, masked in (4, 4, True), (4, 4, True), (4, 4, False), (6, 2, True), (2, 8, False), (90, 4, False):
            if T == 90 and dtype == torch.bfloat16:
                continue  # averages of many values are small, and bfloat16 keeps too few digits of them
            mask, rows = some_mask(randint, T, T) if masked else None, random_turns(randn, T, K)
            x = (0.5 * randn(T, 6)).to(dtype)
            one, several = ([w.to(dtype) for w in ws] for ws in (draw(randn, 6, K), draw_heads(randn, 6, K, 4, 2)))
            what = f"T = {T}, K = {K}, after other calls"
            head, many = impl.attention_head, impl.attention_all_heads
            assert_same(head, reference.attention_head, x, one, rows, mask, f"one head, {what}", dtype=dtype)
            assert_same(many, reference.attention_all_heads, x, several, rows, mask, f"4 heads, {what}", dtype=dtype)
            with torch.no_grad():
                what, ref = f"T = {T}, K = {K}, under no_grad", reference.attention_all_heads
                assert_same(head, reference.attention_head, x, one, rows, mask, f"one head, {what}", dtype=dtype)
                assert_same(many, ref, x, several, rows, mask, f"4 heads, {what}", dtype=dtype)
    for call, ref, weights in (
        (impl.attention_head, reference.attention_head, draw(randn, 6, 4)),
        (impl.attention_all_heads, reference.attention_all_heads, draw_heads(randn, 6, 4, 4, 2)),
    ):
        values = randn(5, 6), *weights, random_turns(randn, 5, 4), some_mask(randint, 5, 5)
        right = ref(values[0].double(), *(weight.double() for weight in weights), *values[4:])
        out = call(*values[:-1], mask=values[-1])
        assert_close(out, right, "called with the mask by name: the output", dtype=torch.float32)


def test_leaves_the_inputs_alone(impl, randn, randint):
    """no input is changed by a call"""
    for H in None, 4:
        names = "x", "wq", "wk", "wv", "freqs_cis", "mask"
        weights = draw(randn, 6, 4) if H is None else draw_heads(randn, 6, 4, H, 2)
        values = (randn(5, 6), *weights, random_turns(randn, 5, 4), some_mask(randint, 5, 5))
        before = [value.clone() for value in values]

        (impl.attention_head if H is None else impl.attention_all_heads)(*values)

        for name, value, old in zip(names, values, before, strict=True):
            assert_close(value, old, f"{name} after the call and before it", tolerance=0.0)
        assert_answers(impl, randn, heads=H)


def test_errors_of_heads(impl, randn):
    """an odd number of features, and a number of key/value heads that does not divide, raise ValueError"""
    x = randn(5, 6)

    for K in 3, 1, 5:
        weights, rows = draw(randn, 6, K), no_turn(5, K)
        what = f"attention_head with K = {K}"
        assert_rejects(
            lambda w=weights, r=rows: impl.attention_head(x, *w, r), what, good=lambda: assert_answers(impl, randn)
        )
    for H, G, K in (4, 3, 4), (2, 4, 4), (6, 4, 4), (4, 2, 3):
        weights, rows = draw_heads(randn, 6, K, H, G), no_turn(5, K)
        what = f"attention_all_heads with H = {H}, G = {G}, K = {K}"
        assert_rejects(
            lambda w=weights, r=rows: impl.attention_all_heads(x, *w, r),
            what,
            good=lambda: assert_answers(impl, randn, heads=2),
        )


def test_errors_of_rows(impl, randn):
    """freqs_cis with another number of rows than tokens raises ValueError"""
    for call, weights in (
        (impl.attention_head, draw(randn, 6, 4)),
        (impl.attention_all_heads, draw_heads(randn, 6, 4, 4, 4)),
    ):
        for T, several in (5, (4, 6, 1, 10)), (1, (4, 2)):  # 4 heads

            def good(call=call, weights=weights, T=T):
                x = randn(1, 6).expand(T, 6)  # equal tokens, so that no turn and no weight counts
                out = call(x, *weights, random_turns(randn, T, 4))
                value = x.double() @ weights[2].double().flatten(0, -2).T
                assert_close(out, value, f"{T} equal tokens and as many rows: the output", dtype=torch.float32)

            for count in several:
                x, rows = randn(T, 6), random_turns(randn, count, 4)
                what = f"freqs_cis with {count} rows for {T} tokens"
                assert_rejects(lambda a=(x, *weights, rows), call=call: call(*a), what, good=good)


def test_no_loop_over_tokens(impl, randn):
    """the number of tensor operations does not grow with the tokens"""
    x, rows, mask = randn(40, 6), turns(range(40), 4), torch.ones(40, 40, dtype=torch.bool).tril()
    one, several = draw(randn, 6, 4), draw_heads(randn, 6, 4, 2, 1)

    for rest in False, True:
        masks = (lambda T: (mask[:T, :T],)) if rest else (lambda T: ())
        assert_no_loop(impl, lambda T, m=masks: impl.attention_head(x[:T], *one, rows[:T], *m(T)), "tokens")
        assert_no_loop(impl, lambda T, m=masks: impl.attention_all_heads(x[:T], *several, rows[:T], *m(T)), "tokens")
    assert_answers(impl, randn)
    assert_answers(impl, randn, heads=2)


def test_follows_the_device(impl, randn):
    """computes on the device of its inputs, and on the CPU again afterwards"""
    mask = torch.ones(5, 5, dtype=torch.bool).tril()

    for heads in None, 4:
        call = impl.attention_head if heads is None else impl.attention_all_heads
        weights = draw(randn, 6, 4) if heads is None else draw_heads(randn, 6, 4, heads, 2)
        inputs = (randn(5, 6), *weights, random_turns(randn, 5, 4))
        far = [tensor.to("meta") for tensor in inputs]  # meta stands for any accelerator

        before = call(*inputs)
        for rest in (), (mask.to("meta"),):
            assert_follows_device(impl, lambda call=call, far=far, rest=rest: call(*far, *rest), "the output")
        after = call(*inputs)

        assert_close(after, before, "the output on the CPU, before and after a call on another device")
        assert_answers(impl, randn, heads=heads)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart.

    As many heads as tokens, and as many features as a token has, let code go through that mixes them up.
    """
    generator = torch.Generator().manual_seed(0)

    def made(*shape):
        return torch.randn(shape, generator=generator)

    rows = torch.polar(torch.ones(4, 3), 3 * made(4, 3))
    few = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 1], [1, 1, 1, 0], [0, 1, 0, 0]]).bool()
    none = few & torch.tensor([[True], [False], [True], [True]])  # query 1 may attend to nothing
    square = made(4, 6), *made(3, 6, 6), rows
    wide = made(4, 10), *made(3, 6, 10), rows
    grouped = made(4, 10), made(4, 6, 10), *made(2, 2, 6, 10), rows
    three_groups = made(4, 10), made(6, 6, 10), *made(2, 3, 6, 10), rows
    return {
        "square": observe(lambda: impl.attention_head(*square)),
        "one head": observe(lambda: impl.attention_head(*wide)),
        "no turn": observe(lambda: impl.attention_head(*wide[:4], no_turn(4, 6))),
        "masked": observe(lambda: impl.attention_head(*wide, few)),
        "nothing allowed": observe(lambda: impl.attention_head(*wide, none)),
        "four heads": observe(lambda: impl.attention_all_heads(*grouped)),
        "six heads": observe(lambda: impl.attention_all_heads(*three_groups)),
        "four heads, masked": observe(lambda: impl.attention_all_heads(*grouped, few)),
    }


def picture(impl):
    """Draw whom each token attends to when all tokens are alike: only the turns and the mask tell them apart."""
    T = 24
    x = torch.cat((torch.ones(T, 1), torch.eye(T)), dim=1)  # (T, 1 + T)
    ones = torch.cat((torch.ones(T, 1), torch.zeros(T, T)), dim=1)  # queries and keys see the first feature
    wv = torch.cat((torch.zeros(T, 1), torch.eye(T)), dim=1)  # K = T, and values that are unit vectors show the weights
    causal = torch.ones(T, T, dtype=torch.bool).tril()

    calls = (
        ("not turned", no_turn(T, T), None),
        ("turned by their positions", turns(range(T), T, 100.0), None),
        ("turned, with a causal mask", turns(range(T), T, 100.0), causal),
    )
    panels = []
    for title, rows, mask in calls:
        weights = impl.attention_head(x, ones, ones, wv, rows, *(() if mask is None else (mask,)))
        panels.append(Panel(f"equal tokens, {title}", weights, x_label="key", y_label="query"))
    return panels
