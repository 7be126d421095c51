"""Hidden suite of grouped_query: the repeated heads, shapes and names, numbers done by hand, masks, the whole.

A check of one property does not compare every number with the reference's, so that one mistake fails few checks. It
ends in ``assert_answers`` instead, which no made-up answer passes and none kept from before.
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


def shapes_of(D, H, G):
    """Return name → shape of the weights that are asked for."""
    K = D // H
    return {"wq.weight": (H * K, D), "wk.weight": (G * K, D), "wv.weight": (G * K, D), "wo.weight": (D, H * K)}


def with_weights(impl, D, H, G, **weights):
    """Make the learner's module with these weights, ``wq=...``; the others return the first features they get."""
    module = impl.GroupedQueryAttention(D, H, G)
    plain = {name: torch.eye(*shape) for name, shape in shapes_of(D, H, G).items()}
    module.load_state_dict(plain | {f"{name}.weight": weight for name, weight in weights.items()})
    return module


def columns(rows, *vectors):
    """Return a weight of so many rows: token e_i, 1 in feature i alone, is projected to vector i."""
    weight = torch.zeros(rows, rows)
    for i, vector in enumerate(vectors):
        weight[: len(vector), i] = torch.tensor(vector, dtype=torch.float32)
    return weight


def attend(module, x, freqs_cis, mask=None):
    """Call the learner's module and check that a tensor comes back."""
    output = module(x, freqs_cis) if mask is None else module(x, freqs_cis, mask=mask)
    return assert_tensor(output, "the output of forward")


def assert_same(mine, ref, x, freqs_cis, mask=None, what="random inputs", *, dtype=torch.float32):
    """Compare the output with the reference's for the same x."""
    x = x.to(dtype)
    assert_close(attend(mine, x, freqs_cis, mask), ref(x.double(), freqs_cis, mask), what, dtype=dtype)


def anchor(twins, randn):
    """Return a check that the code answers at all: one head and one token, whose projected value comes back."""
    mine, ref = twins("GroupedQueryAttention", 4, 1)
    return lambda: assert_same(mine, ref, randn(2, 1, 4), random_turns(randn, 1, 4), what="one token and one head")


def assert_answers(twins, randn):
    answers = anchor(twins, randn)
    for _ in range(2):
        answers()


def some_mask(randint, *shape):
    """Return a random mask in which every row has an allowed key."""
    mask = randint(0, 2, shape).bool()
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


# --- repeated heads ---------------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_each_head_is_repeated_in_a_row(impl):
    """repeat_kv of the heads a, b: a a b b, and not a b a b"""
    for a, b in ([1.0, 2.0], [3.0, 4.0]), ([5.0, 6.0], [7.0, 8.0]):
        x = torch.tensor([[a, b]]).unsqueeze(0)  # (1, 1, 2, 2)
        for n_rep, by_hand in (1, [a, b]), (2, [a, a, b, b]), (3, [a, a, a, b, b, b]):
            out = impl.repeat_kv(x, n_rep)

            what = f"repeat_kv of the heads {a} and {b} with n_rep = {n_rep}"
            assert_close(out, torch.tensor(by_hand).view(1, 1, -1, 2), what)


def test_repeat_kv_of_any_tensor(impl, reference, randn):
    """repeat_kv keeps batch, tokens, features, dtype and device in their places, whatever the sizes and strides"""
    for shape, n_rep in ((2, 3, 4, 6), 2), ((3, 4, 1, 2), 5), ((1, 5, 3, 4), 1), ((4, 2, 2, 2), 4), ((2, 3, 3, 3), 2):
        for dtype in torch.float32, torch.float64, torch.bfloat16:
            B, S, G, K = shape
            several = {"an": randn(*shape), "a transposed": randn(B, G, S, K).transpose(1, 2)}
            for kind, values in several.items():
                x = values.to(dtype)
                what = f"repeat_kv of {kind} x of shape {shape}, {dtype}, with n_rep = {n_rep}"
                assert_close(impl.repeat_kv(x, n_rep), reference.repeat_kv(x, n_rep), what, tolerance=0.0)
    far = randn(2, 3, 2, 4).to("meta")
    assert_follows_device(impl, lambda: impl.repeat_kv(far, 2), "repeat_kv")


def test_repeat_kv_sums_the_gradients_of_its_copies(impl, reference, randn):
    """the gradient of a repeated head is the sum over its copies"""
    for n_rep in 3, 1, 3:
        x = randn(2, 3, 2, 4).requires_grad_()
        wide = x.detach().double().requires_grad_()
        out, right = impl.repeat_kv(x, n_rep), reference.repeat_kv(wide, n_rep)
        cotangent = randn(2, 3, 2 * n_rep, 4)
        assert_gradients_match(out, {"x": x}, right, {"x": wide}, cotangent, f"the gradient with n_rep = {n_rep}")


# --- shapes and names -------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the output is (B, T, D), for any number of key/value heads"""
    for G in 4, 2, 1, None:
        module = impl.GroupedQueryAttention(16, 4, G)
        with torch.no_grad():  # the names come later, and zeros would be fine to start with
            for parameter in module.parameters():
                parameter.uniform_(-0.5, 0.5)
        seen = torch.zeros(0)
        for B, T in (3, 5), (3, 5), (2, 7):
            x = randn(B, T, 16)
            output = attend(module, x, turns(range(T), 4))

            what = f"the output for B = {B}, T = {T}, D = 16, H = 4, G = {G}"
            assert_shape(output, (B, T, 16), what, dtype=torch.float32)
            assert_differs(output, x, f"{what}, and x")
            assert_differs(output, seen, "the output of a second call, with another x")
            seen = output


@pytest.mark.visible
def test_parameter_names(impl, randn):
    """the weights of wq, wk, wv and wo, without biases and with nothing else, are saved and loaded"""
    for G, kv_heads in (2, 2), (1, 1), (None, 4):  # None: as many as query heads
        module = impl.GroupedQueryAttention(8, 4, G)
        shapes = shapes_of(8, 4, kv_heads)

        assert_names(module.named_parameters(), shapes, f"named_parameters() for G = {G}")
        for _ in range(2):
            weights = {name: randn(*shape) for name, shape in shapes.items()}
            module.load_state_dict(weights | {"wo.weight": torch.eye(8)})
            output = attend(module, torch.eye(8)[None, 1:2], random_turns(randn, 1, 2))

            what = "one token, 1 in feature 1 alone: the output of head 0 before wo, from wv.weight as it was loaded"
            assert_close(output[0, 0, :2], weights["wv.weight"][:2, 1], what)
        attend(module, randn(1, 3, 8), random_turns(randn, 3, 2), torch.ones(3, 3, dtype=torch.bool).tril())
        assert_names(module.state_dict().items(), shapes, f"state_dict() after three calls for G = {G}")


def assert_names(found, asked, place):
    """Check the names and shapes of (name, tensor) pairs of a module with D = 8 and H = 4."""
    came = {name: tuple(tensor.shape) for name, tensor in found}
    for name in sorted(came.keys() | asked.keys()):
        if came.get(name) != asked.get(name):
            wrong, right = came.get(name, "missing"), asked.get(name, "absent")
            raise CheckFailure(f"{place}, with D = 8 and H = 4: {name} is {wrong}, but should be {right}.")


# --- parts, worked out by hand ----------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_which_head_serves_whom(impl):
    """four query heads and two key/value heads, worked out on paper: heads 0 and 1 use head 0, 2 and 3 use head 1"""
    for a, b in (3.0, 4.0), (5.0, 2.0):
        key = math.sqrt(2)
        module = with_weights(
            impl, 8, 4, 2,
            wq=columns(8, [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]),  # token 0 asks for feature 0, 1, 0, 1 of a head
            wk=columns(8, [key * math.log(a), 0.0, 0.0, 0.0], [0.0, 0.0, key * math.log(b), 0.0])[:4],
            wv=columns(8, [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0])[:4],  # so that a head returns its weights
        )  # fmt: skip
        output = attend(module, torch.eye(8)[None, :2], no_turn(2, 2))

        even = [1 / 2, 1 / 2]
        by_hand = [[a / (a + 1), 1 / (a + 1)], even, [1 / (b + 1), b / (b + 1)], even]
        what = f"token 0 has scores (ln {a:g}, 0), (0, 0), (0, ln {b:g}), (0, 0) in query heads 0 to 3"
        hint = "Which of the two key/value heads do query heads 1 and 2 use?"
        assert_close(output[0, 0].view(4, 2), torch.tensor(by_hand), f"{what}: the weights of its heads", hint=hint)
    for value in [1.0, 2.0, 3.0, 4.0], [5.0, 7.0, 8.0, 9.0]:
        module = with_weights(impl, 8, 4, 2, wv=columns(8, value)[:4])
        output = attend(module, torch.eye(8)[None, :1], no_turn(1, 2))

        by_hand = torch.tensor(2 * value[:2] + 2 * value[2:])
        what = f"one token, values {value[:2]} and {value[2:]} in key/value heads 0 and 1: the four heads side by side"
        assert_close(output.flatten(), by_hand, what)


@pytest.mark.visible
def test_scores_are_divided_by_the_root_of_the_head_width(impl):
    """the scores of a head with K features are divided by sqrt(K)"""
    for D, H, G, root in (8, 2, 1, 2.0), (4, 1, 1, 2.0), (32, 2, 2, 4.0):
        K = D // H
        for odds in 3.0, 4.0:
            first, second = torch.eye(K)[:2].tolist()
            wk = columns(D, (torch.tensor(first * G) * root * math.log(odds)).tolist())[: G * K]
            wv = columns(D, first * G, second * G)[: G * K]  # so that a head returns its weights
            module = with_weights(impl, D, H, G, wq=columns(D, first * H), wk=wk, wv=wv)
            output = attend(module, torch.eye(D)[None, :2], no_turn(2, K))

            by_hand = torch.tensor([odds, 1.0]) / (odds + 1)
            what = f"D = {D}, H = {H}: dot products {root * math.log(odds):.4f} and 0 in every head, the weights"
            hint = "How many features does a head compare?"
            assert_close(output[0, 0].view(H, K)[:, :2], by_hand.expand(H, 2), what, hint=hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_turns_by_hand(impl):
    """queries and keys of one head turned by quarter turns, worked out on paper"""
    cases = (  # the query of token 0, the key of token 1, rows 0 and 1 of freqs_cis; the key of token 0 is 0
        ("row 1 turns pair 0 of key 1", [1, 0, 0, 0], [0, -2, 0, 0], [1, 1], [1j, 1]),
        ("row 1 turns pair 1 of key 1", [0, 0, 1, 0], [0, 0, 0, -2], [1, 1], [1, 1j]),
        ("row 0 turns pair 0 of query 0", [0, -1, 0, 0], [2, 0, 0, 0], [1j, 1], [1, 1]),
        ("row 0 turns pair 1 of query 0", [0, 0, 0, -1], [0, 0, 2, 0], [1, 1j], [1, 1]),
        ("both rows turn pair 0", [1, 0, 0, 0], [2, 0, 0, 0], [1j, 1], [1j, 1]),
    )

    for name, q, k, *rows in cases:
        for odds in 3.0, 4.0:
            wk = columns(4, [0.0], [math.log(odds) * x for x in k])
            module = with_weights(impl, 4, 1, 1, wq=columns(4, q), wk=wk)  # token i has the value e_i
            output = attend(module, torch.eye(4)[None, :2], torch.tensor(rows, dtype=torch.complex64))

            by_hand = torch.tensor([1.0, odds, 0.0, 0.0]) / (odds + 1)
            numbers = f"query {q}, key ln {odds:g} times {k}, rows {rows}"
            what = f"{name}, so that token 0 has the scores (0, ln {odds:g}): its output. In numbers: {numbers}"
            assert_close(output[0, 0], by_hand, what)


@pytest.mark.visible
def test_values_are_not_turned(impl, randn):
    """a token alone gets its own value, however its row turns"""
    for H, G in (1, 1), (2, 2), (2, 1):
        module = with_weights(impl, 8, H, G)
        for _ in range(2):
            x = randn(3, 1, 8)
            output = attend(module, x, random_turns(randn, 1, 8 // H))

            value = x[..., : 8 * G // H].repeat(1, 1, H // G)
            assert_close(output, value, f"one token, H = {H}, G = {G}, weights that change nothing: the output")


# --- positions --------------------------------------------------------------------------------------------


def test_only_distances_count(twins, randn):
    """rows cut out of the middle of a table give the same output as its first rows, others do not"""
    mine, _ = twins("GroupedQueryAttention", 16, 4, 2)
    x, table = randn(2, 5, 16), turns(range(60), 4)

    first = attend(mine, x, table[:5]).detach()
    for start in 1, 17, 55:
        moved = attend(mine, x, table[start : start + 5])
        assert_close(moved, first, f"rows {start} to {start + 4} of a table, and rows 0 to 4: the output")
    for rows, name in ((table[:5].flip(0), "in reverse"), (table[:15:3], "with a distance of 3")):
        assert_differs(attend(mine, x, rows), first, f"five rows {name}: the output")
    assert_answers(twins, randn)


def test_the_rows_count_and_not_their_numbers(twins, randn):
    """the turns come from the rows of freqs_cis, from whatever positions and base"""
    mine, ref = twins("GroupedQueryAttention", 8, 2, 1)
    several = {
        "every third row of a table": turns(range(40), 4)[2:17:3],
        "rows of a table with theta = 100": turns(range(5), 4, 100.0),
        "rows of negative, repeated and far positions": turns([-3, 7, 7, 4097, 0], 4),
        "rows turned at random": random_turns(randn, 5, 4),
        "columns of a wider table": random_turns(randn, 5, 8)[:, ::2],
    }

    for name, rows in several.items():
        assert_same(mine, ref, randn(2, 5, 8), rows, what=f"freqs_cis holds {name}: the output")


def test_without_a_mask_everyone_sees_everyone(twins, randn, rng):
    """no mask: tokens in another order, with their rows, give the same output in that order"""
    mine, _ = twins("GroupedQueryAttention", 16, 4, 2)
    x, rows, order = randn(2, 5, 16), random_turns(randn, 5, 4), rng.sample(range(5), 5)
    other = x.clone()
    other[:, 4] += 1.0

    before = attend(mine, x, rows).detach()
    shuffled = attend(mine, x[:, order], rows[order])

    assert_close(shuffled, before[:, order], f"tokens and rows in the order {order}: the output")
    assert_differs(attend(mine, other, rows)[:, :4], before[:, :4], "no mask, token 4 was changed: tokens 0 to 3")
    assert_answers(twins, randn)


def test_equals_multi_head_attention_with_repeated_weights(impl, twins, randn):
    """G heads answer like H heads whose key and value weights are repeated in a row"""
    for D, H, G in (16, 4, 2), (12, 6, 3), (16, 4, 1):
        mine, ref = twins("GroupedQueryAttention", D, H, G)
        K = D // H
        weights = {name: weight.float() for name, weight in ref.state_dict().items()}
        for name in "wk.weight", "wv.weight":
            heads = weights[name].view(G, K, D)
            weights[name] = heads.repeat_interleave(H // G, dim=0).view(H * K, D)
        many = impl.GroupedQueryAttention(D, H)
        many.load_state_dict(weights)
        x, rows = randn(2, 5, D), random_turns(randn, 5, K)

        grouped, repeated = attend(mine, x, rows), attend(many, x, rows).detach()

        assert_close(grouped, repeated, f"G = {G} heads, and H = {H} with weights repeated: the output")
    assert_answers(twins, randn)


# --- masks ------------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_true_in_a_mask_means_may_attend(impl, randn):
    """a query that may attend to one key alone gets that key's value"""
    module = with_weights(impl, 4, 2, 2)

    for allowed in [2, 0, 1], [1, 1, 0]:  # the one key that each query may attend to
        x, mask = randn(1, 3, 4), torch.zeros(3, 3, dtype=torch.bool)
        mask[[0, 1, 2], allowed] = True
        output = attend(module, x, random_turns(randn, 3, 2), mask)

        what = f"queries 0, 1, 2 may attend to keys {allowed} alone, weights that change nothing: the output"
        assert_close(output, x[:, allowed], what)


@pytest.mark.points(2)
def test_masks_of_every_shape(twins, randn, randint):
    """a mask broadcasts to (B, H, T, T)"""
    mine, ref = twins("GroupedQueryAttention", 8, 4, 2)

    shapes = (3, 3), (3,), (1, 3), (3, 1, 3, 3), (3, 1, 1, 3), (1, 4, 1, 3), (4, 3, 3), (3, 4, 3, 3), (4, 1, 3)
    for shape in shapes:  # B = T
        what = f"B = 3, H = 4, T = 3, no turns, a mask of shape {shape}"
        assert_same(mine, ref, randn(3, 3, 8), no_turn(3, 2), some_mask(randint, *shape), what)
    for B, T, several in (  # sizes by which dimensions are mixed up, and columns, which leave some tokens nothing
        (3, 3, [(3, 1), (3, 1, 3, 1), (3, 4, 3, 1), (4, 3, 1)]),
        (4, 3, [(4, 3, 3), (4, 1, 3), (3, 3)]),
        (4, 4, [(4, 4), (4, 1), (1, 4), (4, 4, 4), (4, 1, 1, 4), (4, 4, 1, 1)]),
        (2, 1, [(1, 1), (2, 1, 1, 1), (4, 1, 1)]),
    ):
        for shape in several:
            mask = randint(0, 2, shape).bool()
            if shape[-1] > 1:
                mask[..., 0] |= ~mask.any(dim=-1)
            what = f"B = {B}, H = 4, T = {T}, no turns, a mask of shape {shape}"
            assert_same(mine, ref, randn(B, T, 8), no_turn(T, 2), mask, what)


def weights_seen(impl, randn, size, mask):
    """Return the weights of a module whose values are unit vectors, so that they show, (3, 2, 4, 4)."""
    weights = {name: torch.cat((randn(rows, 4), torch.zeros(rows, 4)), dim=1) for name, rows in (("wq", 8), ("wk", 4))}
    wv = torch.cat((torch.zeros(4, 4), torch.eye(4)), dim=1)
    module = with_weights(impl, 8, 2, 1, wv=wv, **weights)
    x = torch.cat((size * randn(3, 4, 4), torch.eye(4).expand(3, 4, 4)), dim=-1)
    output = attend(module, x, random_turns(randn, 4, 4), mask)
    return assert_shape(output, (3, 4, 8), "the output").detach().view(3, 4, 2, 4).transpose(1, 2)


def test_weights_sum_to_1_and_masked_ones_are_0(impl, twins, randn, randint):
    """weights are not negative and sum to 1, masked ones are exactly 0, for small scores and for large ones"""
    for size in 1.0, 100.0:  # of the inputs: scores of about 1, and of about 10 000
        for mask in None, some_mask(randint, 3, 1, 4, 4), torch.ones(4, 4, dtype=torch.bool).tril():
            weights = weights_seen(impl, randn, size, mask)

            what = (
                f"inputs of size {size:g}, {'no mask' if mask is None else 'with a mask'}, values that are unit vectors"
            )
            loose = 2e-3 if size > 1 else None  # float32 knows a logarithm of about 10 000 to 0.0005
            total = weights.sum(dim=-1)
            assert_close(total, torch.ones(3, 2, 4), f"{what}: the sum of a query's weights", tolerance=loose)
            assert_close(weights, weights.clamp(min=0.0), f"{what}: weights below 0, which should be 0 or more")
            if mask is not None:
                masked = weights[~mask.expand(3, 2, 4, 4)]
                assert_close(masked, torch.zeros_like(masked), f"{what}: the masked weights", tolerance=0.0)
    assert_answers(twins, randn)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000 give right weights and no NaN, with a mask as well"""
    everything, few = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[False, False, True]])
    calls = (  # the three scores over 10 000, the mask, the weights
        ([1, 1, -1], None, [1 / 2, 1 / 2, 0]),
        ([-1, -1, 1], None, [0, 0, 1]),
        ([-1, -1, -1], None, [1 / 3, 1 / 3, 1 / 3]),
        ([0.9, 1, 0.9], everything, [0, 1, 0]),
        ([1, 1, -1], few, [0, 0, 1]),
        ([-1, -1, 1], torch.tensor([[True, True, False]]), [1 / 2, 1 / 2, 0]),
    )

    for scores, mask, by_hand in calls:
        keys = [[100.0 * score] for score in scores]
        module = with_weights(impl, 4, 1, 1, wq=columns(4, [200.0], [200.0], [200.0]), wk=columns(4, *keys))
        output = attend(module, torch.eye(4)[None, :3], no_turn(3, 4), mask)

        what = f"scores of 10 000 times {scores}, mask {None if mask is None else mask.tolist()}: the weights"
        hint = "If smaller scores work: what is left of exp(10000), and what is lower than any score?"
        right = torch.tensor(by_hand, dtype=torch.float32).expand(3, 3)
        assert_close(output[0, :, :3], right, what, tolerance=2e-3, hint=hint)
    one = torch.tensor([[True, False, False]])
    module = with_weights(impl, 4, 1, 1, wq=columns(4, [200.0]), wk=columns(4, [-100.0], [100.0])).bfloat16()
    output = attend(module, torch.eye(4)[None, :3].bfloat16(), no_turn(3, 4), one)
    what = "bfloat16, token 0 with the scores 10 000 times (-1, 1, 0), of which the first alone is allowed: the weights"
    assert_close(output[0, 0], torch.eye(4)[0].bfloat16(), what, hint="What is lower than any score in bfloat16?")


@pytest.mark.points(2)
def test_a_query_with_nothing_to_attend_to(twins, randn, randint):
    """a query that may attend to nothing gets an output of exactly 0"""
    mine, ref = twins("GroupedQueryAttention", 8, 4, 2)
    row, item, head = some_mask(randint, 5, 5), some_mask(randint, 3, 1, 1, 5), some_mask(randint, 3, 4, 5, 5)
    row[1], item[2], head[:, 1, 2] = False, False, False
    masks = {"query 1": row, "the last item": item, "query 2 in head 1": head, "everyone": torch.zeros(1, 5).bool()}
    masks["query 3, by a mask (T, 1),"] = torch.tensor([[True], [True], [True], [False], [True]])

    for who, mask in masks.items():
        x, rows = randn(3, 5, 8), no_turn(5, 2)
        output = attend(mine, x, rows, mask)

        what = f"{who} may attend to nothing"
        if output.shape != x.shape:
            raise CheckFailure(f"{what}: the shape should be {tuple(x.shape)}, but {tuple(output.shape)} came.")
        silent = output[~mask.expand(3, 4, 5, 5).any(dim=-1).any(dim=1)]
        assert_close(silent, torch.zeros_like(silent), f"{what}: the output there", tolerance=0.0)
        assert_close(output, ref(x.double(), rows, mask), f"{what}: the whole output", dtype=torch.float32)


def test_masked_tokens_leave_no_trace(twins, randn):
    """whatever stands at masked tokens, padding or the future, the output of the others stays the same"""
    mine, _ = twins("GroupedQueryAttention", 8, 4, 2)
    x, rows = randn(2, 6, 8), turns(range(6), 2)
    other = x.clone()
    other[:, 4:] += 10.0
    padding, causal = (torch.arange(6) < 4).view(1, 1, 1, 6), torch.ones(6, 6, dtype=torch.bool).tril()

    for name, mask in ("padding", padding), ("causal mask", causal):
        before, after = (attend(mine, tokens, rows, mask).detach() for tokens in (x, other))
        assert_close(after[:, :4], before[:, :4], f"{name}, tokens 4 and 5 were changed: the output of tokens 0 to 3")
        assert_differs(after[:, 4:], before[:, 4:], f"{name}, tokens 4 and 5 were changed: their own output")
    assert_answers(twins, randn)


# --- the whole --------------------------------------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_the_reference(twins, randn, randint, rng):
    """random sizes, size 1, and tensors that are not contiguous"""
    sizes = [(1, 1, 1, 1, 2), (3, 1, 2, 2, 4), (2, 4, 2, 2, 6), (2, 3, 1, 2, 16)]
    sizes += [(*(rng.choice((1, 2, 3, 5, 7)) for _ in range(4)), rng.choice((2, 4, 6, 10))) for _ in range(5)]
    for B, T, G, n_rep, K in sizes:
        H = G * n_rep
        mine, ref = twins("GroupedQueryAttention", H * K, H, G)
        rows = random_turns(randn, T, K)

        what = f"B = {B}, T = {T}, H = {H}, G = {G}, K = {K}"
        assert_same(mine, ref, randn(T, B, H * K).transpose(0, 1), rows, what=what)
        mask = some_mask(randint, B, 1, T, T)
        assert_same(mine, ref, randn(B, T, 2 * H * K)[..., ::2], rows, mask, f"{what}, with a mask")


def test_bfloat16(twins, randn, randint):
    """a bfloat16 module takes and returns bfloat16, with a complex64 freqs_cis, and gradients flow as well"""
    mine, ref = twins("GroupedQueryAttention", 16, 4, 2)
    mine.bfloat16()
    ref.bfloat16().double()  # the same weights, rounded

    nothing = some_mask(randint, 3, 1, 5, 5)
    nothing[1, :, 2] = False  # one query may attend to nothing
    for mask in None, some_mask(randint, 3, 1, 5, 5), nothing:
        for rows in random_turns(randn, 5, 4), turns(range(300, 305), 4):
            x = (0.5 * randn(3, 5, 16)).bfloat16()  # scores below 1: of larger ones bfloat16 keeps too few digits
            assert_same(mine, ref, x, rows, mask, "bfloat16: the output", dtype=torch.bfloat16)
        x.requires_grad_()
        wide, cotangent = x.detach().double().requires_grad_(), randn(3, 5, 16)
        output, right = attend(mine, x, rows, mask), ref(wide, rows, mask)
        loose = 0.1 * float(torch.autograd.grad((right * cotangent).sum(), wide, retain_graph=True)[0].abs().max())
        what = "bfloat16: the gradient"
        assert_gradients_match(output, {"x": x}, right, {"x": wide}, cotangent, what, tolerance=loose)


def assert_same_gradients(mine, ref, randn, what, mask=None, T=5):
    """Compare the gradients of a fresh x and of all weights with the reference's."""
    x, rows = randn(2, T, 16).requires_grad_(), random_turns(randn, T, 4)
    wide = x.detach().double().requires_grad_()
    leaves, wide_leaves = ({"x": leaf} | dict(m.named_parameters()) for leaf, m in ((x, mine), (wide, ref)))
    output, right = attend(mine, x, rows, mask), ref(wide, rows, mask)
    assert_gradients_match(output, leaves, right, wide_leaves, randn(2, T, 16), what)


@pytest.mark.points(2)
def test_gradients(twins, randn):
    """the gradients of x and of all four weights, in a second backward pass too"""
    for G in 2, 4, 1:
        mine, ref = twins("GroupedQueryAttention", 16, 4, G)
        for what in "the gradient", "the gradient in a second backward pass":
            assert_same_gradients(mine, ref, randn, f"G = {G}: {what}")
        assert_same_gradients(mine, ref, randn, f"G = {G}, one token: the gradient", T=1)
        x, rows = randn(2, 5, 16), random_turns(randn, 5, 4)
        leaves, wide_leaves = dict(mine.named_parameters()), dict(ref.named_parameters())
        right = ref(x.double(), rows)
        what = f"G = {G}, where x needs none: the gradient"
        assert_gradients_match(attend(mine, x, rows), leaves, right, wide_leaves, randn(2, 5, 16), what)


def test_gradients_under_a_mask(twins, randn, randint):
    """the gradients under a mask, with a query that may attend to nothing: no NaN"""
    mine, ref = twins("GroupedQueryAttention", 16, 4, 2)
    for _ in range(2):
        mask = some_mask(randint, 2, 4, 5, 5)
        mask[1, :, 2], mask[0, 1, 3] = False, False  # no head of one query, and one head of another
        assert_same_gradients(mine, ref, randn, "the gradient under a mask", mask)


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls(twins, randn, randint):
    """one module, call after call with other sizes, rows, masks and dtypes, also under no_grad and in training mode"""
    mine, ref = twins("GroupedQueryAttention", 8, 4, 2)
    ref.bfloat16().double()
    mine.load_state_dict({name: weight.float() for name, weight in ref.state_dict().items()})  # exact in both dtypes

    for dtype in torch.float32, torch.bfloat16, torch.float32:
        mine.to(dtype)
        sizes = (2, 4, True), (2, 4, True), (2, 4, False), (1, 6, True), (4, 2, False), (1, 90, False), (1, 90, True)
        for B, T, masked in sizes:
            if T == 90 and dtype == torch.bfloat16:
                continue  # averages of many values are small, and bfloat16 keeps too few digits of them
            mask = some_mask(randint, B, 1, T, T) if masked else None
            what = f"B = {B}, T = {T}, after other calls"
            x = 0.5 * randn(B, T, 8)
            assert_same(mine, ref, x, random_turns(randn, T, 2), mask, what, dtype=dtype)
            with torch.no_grad():
                what = f"B = {B}, T = {T}, under no_grad"
                assert_same(mine, ref, x, random_turns(randn, T, 2), mask, what, dtype=dtype)
        for masked in True, False, False:
            mask, x = some_mask(randint, 3, 3) if masked else None, 0.5 * randn(2, 3, 8)
            assert_same(mine.train(), ref, x, random_turns(randn, 3, 2), mask, "in training mode", dtype=dtype)
        mine.eval()


def test_modules_are_their_weights(twins, randn, randint):
    """answers follow weights that were changed in place, whatever other modules there are"""
    mine, ref = twins("GroupedQueryAttention", dim=8, n_heads=4, n_kv_heads=2)
    other, other_ref = twins("GroupedQueryAttention", 8, 2, 2)

    for factor in 1.0, -0.5, 2.0:
        x, rows = randn(2, 5, 8), random_turns(randn, 5, 2)
        with torch.no_grad():
            for parameter in (*mine.parameters(), *ref.parameters()):
                parameter.mul_(factor)
            assert_same(mine, ref, x, rows, what=f"all weights times {factor}, under no_grad")
        assert_same(mine, ref, x, rows, what=f"all weights times {factor}")
        wide_rows = random_turns(randn, 5, 4)
        assert_same(other, other_ref, x, wide_rows, what="H = 2, G = 2, beside a module with H = 4, G = 2")
    x, rows, mask = randn(2, 5, 8), random_turns(randn, 5, 2), some_mask(randint, 5, 5)
    right = ref(x.double(), rows, mask)
    what = "called with the mask by name: the output"
    assert_close(mine(x, rows, mask=mask), right, what, dtype=torch.float32)
    what = "called with the mask as third argument: the output"
    assert_close(mine(x, rows, mask), right, what, dtype=torch.float32)


def test_batch_items_do_not_meet(twins, randn, randint):
    """an item of a batch gets the same answer alone"""
    mine, _ = twins("GroupedQueryAttention", 8, 4, 2)
    x, rows, mask = randn(3, 4, 8), random_turns(randn, 4, 2), some_mask(randint, 3, 1, 1, 4)
    mask[..., :2] = True  # of a single key the scores would not show

    together = attend(mine, x, rows, mask).detach()

    for i in range(3):
        alone = attend(mine, x[i : i + 1], rows, mask[i : i + 1])
        assert_close(alone, together[i : i + 1], f"item {i} alone and in a batch of 3: the output")
    assert_answers(twins, randn)


def test_leaves_the_inputs_alone(impl, twins, randn, randint):
    """x, freqs_cis and the mask are the same after the call"""
    mine, _ = twins("GroupedQueryAttention", 8, 4, 2)
    inputs = {"x": randn(2, 5, 8), "freqs_cis": random_turns(randn, 5, 2), "mask": some_mask(randint, 2, 1, 5, 5)}
    heads = randn(2, 5, 2, 4)
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    heads_before = heads.clone()

    attend(mine, *inputs.values())
    for n_rep in 1, 2:
        impl.repeat_kv(heads, n_rep)

    for name, tensor in inputs.items():
        assert_close(tensor, before[name], f"{name} after the call and before it", tolerance=0.0)
    assert_close(heads, heads_before, "the x of repeat_kv after the call and before it", tolerance=0.0)
    assert_answers(twins, randn)


def test_errors_of_sizes(impl, twins, randn):
    """sizes below 1, head counts that do not divide and an odd head width raise ValueError"""
    good, x = anchor(twins, randn), randn(1, 2, 2, 2)

    def good_repeat():
        heads = randn(1, 2, 1, 2)
        assert_close(impl.repeat_kv(heads, 2), torch.cat((heads, heads), dim=2), "repeat_kv with n_rep = 2")

    below_1 = (8, 0), (8, -2), (0, 2), (-8, 2), (8, 4, 0), (8, 4, -1)
    not_dividing = (8, 3), (2, 4), (8, 4, 3), (8, 2, 4), (24, 6, 4)
    odd = (6, 2), (5, 1), (4, 4, 2), (12, 4, 4)
    for sizes in below_1 + not_dividing + odd:
        named = zip(("dim", "n_heads", "n_kv_heads"), sizes, strict=False)
        what = ", ".join(f"{name} = {size}" for name, size in named)
        assert_rejects(lambda sizes=sizes: impl.GroupedQueryAttention(*sizes), what, good=good)
    for n_rep in 0, -1:
        assert_rejects(lambda n=n_rep: impl.repeat_kv(x, n), f"repeat_kv with n_rep = {n_rep}", good=good_repeat)


def test_errors_of_rows(twins, randn):
    """freqs_cis with another number of rows than tokens raises ValueError"""
    mine, ref = twins("GroupedQueryAttention", 8, 4)

    for B, T, several in (2, 5, (4, 6, 1, 10, 2)), (2, 1, (4, 2)):  # 4 heads, 2 batch items

        def good(B=B, T=T):
            x = randn(B, 1, 8).expand(B, T, 8)  # equal tokens, so that no turn and no weight counts
            assert_same(mine, ref, x, random_turns(randn, T, 2), what=f"{T} equal tokens and as many rows: the output")

        for count in several:
            x, rows = randn(B, T, 8), random_turns(randn, count, 2)
            what = f"freqs_cis with {count} rows for {T} tokens"
            assert_rejects(lambda x=x, rows=rows: attend(mine, x, rows), what, good=good)


def test_no_loop_over_tokens_or_batch(impl, twins, randn):
    """the number of tensor operations does not grow with the tokens or the batch"""
    mine, _ = twins("GroupedQueryAttention", 8, 4, 2)
    x, rows, mask = randn(40, 40, 8), turns(range(40), 2), torch.ones(40, 40, dtype=torch.bool).tril()
    heads = x.view(40, 40, 4, 2)

    assert_no_loop(impl, lambda T: attend(mine, x[:1, :T], rows[:T], mask[:T, :T]), "tokens")
    assert_no_loop(impl, lambda B: attend(mine, x[:B, :3], rows[:3]), "batch items")
    assert_no_loop(impl, lambda S: impl.repeat_kv(heads[:1, :S], 2), "tokens in repeat_kv")
    assert_no_loop(impl, lambda B: impl.repeat_kv(heads[:B, :3], 2), "batch items in repeat_kv")
    assert_answers(twins, randn)


def test_follows_the_device(impl, twins, randn):
    """computes on the device of the module and its inputs, and on the CPU again afterwards"""
    mine, _ = twins("GroupedQueryAttention", 8, 4, 2)
    module, x, rows = impl.GroupedQueryAttention(8, 4, 2), randn(2, 5, 8), random_turns(randn, 5, 2)
    attend(module, x, rows)
    module.to("meta")  # after a call, so that what it has kept must move as well
    far, far_rows = x.to("meta"), rows.to("meta")  # meta stands for any accelerator

    before = attend(mine, x, rows).detach()
    for mask in None, torch.ones(5, 5, dtype=torch.bool, device="meta"):
        assert_follows_device(impl, lambda mask=mask: attend(module, far, far_rows, mask), "the output")
    after = attend(mine, x, rows)

    assert_close(after, before, "the output on the CPU, before and after a call on another device")
    assert_answers(twins, randn)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart.

    As many heads as tokens let code go through that mixes up the two.
    """
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in shapes_of(24, 6, 2).items()}
    x = torch.randn(2, 6, 24, generator=generator)
    angles = 3 * torch.randn(6, 2, generator=generator)
    rows = torch.polar(torch.ones(6, 2), angles)
    few = torch.arange(36).view(6, 6) * 5 % 7 < 3  # two or three keys in each row
    none = few & (torch.arange(6) != 1)[:, None]  # query 1 may attend to nothing

    def names():
        return {name: tuple(p.shape) for name, p in impl.GroupedQueryAttention(24, 6, 2).state_dict().items()}

    def answer(mask=None, T=6, rows=rows):
        module = impl.GroupedQueryAttention(24, 6, 2)
        state = module.state_dict()
        if any(state[name].shape != weight.shape for name, weight in weights.items() if name in state):
            return "shapes"
        biases = {name: torch.zeros_like(tensor) for name, tensor in state.items() if name.endswith("bias")}
        module.load_state_dict({**weights, **biases}, strict=False)
        return attend(module, x[:, :T], rows[:T], mask).detach()

    return {
        "names": observe(names),
        "repeated": observe(lambda: impl.repeat_kv(x.view(2, 6, 6, 4), 2)),
        "one token": observe(lambda: answer(T=1)),
        "three tokens": observe(lambda: answer(T=3)),
        "six tokens": observe(answer),
        "no turn": observe(lambda: answer(rows=no_turn(6, 4))),
        "masked": observe(lambda: answer(few)),
        "nothing allowed": observe(lambda: answer(none)),
    }


def picture(impl):
    """Draw what four query heads see that share two key/value heads: each token's key is its place on a circle."""
    T, D, K = 24, 8, 2
    place = torch.arange(T) * (2 * math.pi / T)
    ones = torch.ones(T)
    x = torch.stack((4 * place.cos(), 4 * place.sin(), 4 * ones, *torch.zeros(D - 3, T)), dim=-1)[None]  # (1, T, D)
    wq = columns(D, [1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1], [0, 0, 1, 0, 0, 0, 1])
    wk = columns(D, [1, 0], [0, 1], [0, 0, 1])[: 2 * K]  # head 0 sees the circle, head 1 is the same for all tokens

    def weights(rows):
        """Let each key in turn have a value of 1: what comes out is its weight."""
        wv = torch.zeros(2 * K, D)
        wv[0, 3] = wv[2, 3] = 1.0
        module = with_weights(impl, D, 4, 2, wq=wq, wk=wk, wv=wv)
        batch = x.expand(T, T, D).clone()
        batch[:, :, 3] = torch.eye(T)  # item s: token s has the value 1
        return attend(module, batch, rows).detach()[:, :, ::K].permute(2, 1, 0)  # (H, T, S)

    panels = []
    for name, rows in ("no turn", no_turn(T, K)), ("turned by 0.1 per token", turns(0.1 * torch.arange(T), K)):
        for head, seen in enumerate(weights(rows)):
            title = f"query head {head}, key/value head {head // 2}, {name}"
            panels.append(Panel(title, seen, x_label="key", y_label="query"))
    return panels
