"""Hidden suite of llama_block: names, residuals and norms by hand, feed-forward, attention, masks, the whole.

A check of one part sets the other parts' weights to zero. A check of one property does not compare every number with
the reference's, so that one mistake fails few checks: it ends in ``assert_answers`` instead, which no made-up answer
passes and none kept from before.
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

TINY = 1e-9  # an eps that changes no digit

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


def shapes_of(D, H, G, F):
    """Return name → shape of the weights that are asked for."""
    kv = D // H * G
    return {
        "attention.wq.weight": (D, D),
        "attention.wk.weight": (kv, D),
        "attention.wv.weight": (kv, D),
        "attention.wo.weight": (D, D),
        "feed_forward.w1.weight": (F, D),
        "feed_forward.w2.weight": (D, F),
        "feed_forward.w3.weight": (F, D),
        "attention_norm.weight": (D,),
        "ffn_norm.weight": (D,),
    }


def with_weights(impl, D, H, G, F=1, eps=TINY, **weights):
    """Make the learner's block with these weights: ``wq=...``, ``ffn_norm=...``.

    The others let attention hand on the first features of what it gets and the feed-forward add nothing. The first
    norm's gain is such that a token e_i, 1 in feature i alone, comes out of it as e_i.
    """
    module = impl.LlamaBlock(D, H, G, F, eps)
    state = {}
    for name, shape in shapes_of(D, H, G, F).items():
        short = name.removesuffix(".weight").split(".")[-1]
        plain = torch.eye(*shape) if len(shape) == 2 else torch.ones(shape)
        plain = {"w2": torch.zeros(shape), "attention_norm": torch.full(shape, D**-0.5)}.get(short, plain)
        state[name] = torch.as_tensor(weights.get(short, plain), dtype=torch.float32)
    module.load_state_dict(state)
    return module


def columns(rows, *vectors):
    """Return a weight of so many rows: token e_i, 1 in feature i alone, is projected to vector i."""
    weight = torch.zeros(rows, rows)
    for i, vector in enumerate(vectors):
        weight[: len(vector), i] = torch.tensor(vector, dtype=torch.float32)
    return weight


def run(module, x, freqs_cis, mask=None):
    """Call the learner's block and check that a tensor comes back."""
    output = module(x, freqs_cis) if mask is None else module(x, freqs_cis, mask=mask)
    return assert_tensor(output, "the output of forward")


def attended(module, x, freqs_cis, mask=None):
    """Return what a block whose feed-forward adds nothing has added to its tokens: the output of attention."""
    output = run(module, x, freqs_cis, mask)
    if output.shape != x.shape:
        raise CheckFailure(f"the output: the shape should be {tuple(x.shape)}, but {tuple(output.shape)} came.")
    return output - x


def silu(z):
    return z / (1 + math.exp(-z))


def assert_same(mine, ref, x, freqs_cis, mask=None, what="random inputs", *, dtype=torch.float32, hint=""):
    """Compare the output with the reference's for the same x."""
    x = x.to(dtype)
    assert_close(run(mine, x, freqs_cis, mask), ref(x.double(), freqs_cis, mask), what, dtype=dtype, hint=hint)


def assert_answers(impl, randn):
    """Check that the code answers at all: what is added grows in proportion to wo, whatever else may be wrong."""
    x, weights = randn(2, 2, 4), {"wq": torch.zeros(4, 4), "wv": randn(4, 4)}
    module = with_weights(impl, 4, 1, 1, wo=torch.zeros(4, 4), **weights)
    plain = {name: weight.clone() for name, weight in module.state_dict().items()}
    outputs = []
    for size in 0.0, 1.0, 3.0:
        module.load_state_dict(plain | {"attention.wo.weight": size * torch.eye(4)})
        outputs.append(run(module, x, no_turn(2, 4)).detach())
    zero, one, three = outputs
    assert_shape(one, x.shape, "two tokens: the output", dtype=torch.float32)
    assert_differs(one, zero, "two tokens: the output once wo is 1 and no longer 0")
    assert_close(three - one, 2 * (one - zero), "two tokens, wo = 0, 1 and 3: what each step changes in the output")


def some_mask(randint, *shape):
    """Return a random mask in which every row has an allowed key."""
    mask = randint(0, 2, shape).bool()
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


# --- shapes and names -------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the output is (B, T, D), for any number of key/value heads and any hidden width"""
    for G, F in (4, 24), (2, 5), (1, 1):
        module = impl.LlamaBlock(dim=16, n_heads=4, n_kv_heads=G, hidden_dim=F)
        with torch.no_grad():  # the names come later, and zeros would be fine to start with
            for parameter in module.parameters():
                parameter.uniform_(-0.5, 0.5)
        seen = torch.zeros(0)
        for B, T in (3, 5), (3, 5), (2, 7), (1, 1):
            x = randn(B, T, 16)
            output = run(module, x, turns(range(T), 4))

            what = f"the output for B = {B}, T = {T}, D = 16, H = 4, G = {G}, F = {F}"
            assert_shape(output, (B, T, 16), what, dtype=torch.float32)
            assert_differs(output, x, f"{what}, and x")
            assert_differs(output, seen, "the output of a second call, with another x")
            seen = output


@pytest.mark.visible
def test_parameter_names(impl, randn):
    """the nine weights have the names of the published checkpoints, and nothing else is saved and loaded"""
    for G, F in (2, 6), (1, 5), (4, 12):
        module = impl.LlamaBlock(8, 4, G, F)
        shapes = shapes_of(8, 4, G, F)

        sizes = f"with dim 8, 4 heads, {G} key/value heads and hidden_dim {F}"
        assert_names(module.named_parameters(), shapes, f"named_parameters() {sizes}")
        x = torch.ones(1, 3, 8)
        first, second = ({name: randn(*shape) for name, shape in shapes.items()} for _ in range(2))
        outputs = []
        for state in first, second, first:
            module.load_state_dict(state)
            outputs.append(run(module, x, turns(range(3), 2)).detach())
            assert_shape(outputs[-1], x.shape, f"the output {sizes}")
        assert_differs(outputs[1], outputs[0], "other weights were loaded: the output")
        assert_close(outputs[2], outputs[0], "the first weights were loaded again: the output and that of before")
        assert_names(module.state_dict().items(), shapes, f"state_dict() after three calls, {sizes}")


def assert_names(found, asked, place):
    """Check the names and shapes of (name, tensor) pairs."""
    came = {name: tuple(tensor.shape) for name, tensor in found}
    for name in sorted(came.keys() | asked.keys()):
        if came.get(name) != asked.get(name):
            wrong, right = came.get(name, "missing"), asked.get(name, "absent")
            raise CheckFailure(f"{place}: {name} is {wrong}, but should be {right}.")


# --- residuals, norms and feed-forward, worked out by hand ------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_tokens_pass_by_both_parts(impl, randn):
    """with wo = 0 and w2 = 0 neither part adds anything, and the tokens come out as they went in"""
    for D, H, G, F in (8, 2, 1, 5), (4, 1, 1, 3):
        weights = {"wq": randn(D, D), "wv": randn(D // H * G, D), "w1": randn(F, D), "w3": randn(F, D)}
        gains = {"attention_norm": randn(D), "ffn_norm": randn(D)}
        module = with_weights(impl, D, H, G, F, wo=torch.zeros(D, D), **weights, **gains)
        x = randn(2, 3, D)

        output = run(module, x, random_turns(randn, 3, D // H))

        assert_close(output, x, "wo = 0 and w2 = 0: the output, which is x", hint="What goes around each part?")
    assert_answers(impl, randn)


@pytest.mark.visible
@pytest.mark.points(2)
def test_attention_is_added_by_hand(impl):
    """w2 = 0, one token of two features: attention reads the normalised token and is added to the token as it was"""
    for x, gain, by_hand in (  # the squares of x have the mean 25, so the root is 5
        ([1.0, 7.0], [5.0, 10.0], [1.0 + 14.0, 7.0 + 1.0]),
        ([-7.0, 1.0], [5.0, 10.0], [-7.0 + 2.0, 1.0 - 7.0]),
        ([1.0, 7.0], [-5.0, 1.0], [1.0 + 1.4, 7.0 - 1.0]),
        ([5.0, 5.0], [3.0, 2.0], [5.0 + 2.0, 5.0 + 3.0]),
    ):
        swap = torch.tensor([[0.0, 1.0], [1.0, 0.0]])  # wv, so that the two features change places
        module = with_weights(impl, 2, 1, 1, wv=swap, attention_norm=gain, ffn_norm=[7.0, -3.0])
        output = run(module, torch.tensor([[x]]), no_turn(1, 2))

        what = f"x = {x}, attention_norm.weight = {gain}, wv swaps the two features, wo hands on, w2 = 0: the output"
        hint = "What is the root of the mean of the squares, what does attention read, and what is added to what?"
        assert_close(output.flatten(), torch.tensor(by_hand), what, hint=hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_feed_forward_is_added_by_hand(impl):
    """wo = 0, one token of two features: the feed-forward reads the normalised token and is added to the token"""
    for x, gain, first, second in (  # the squares of x have the mean 25; w1 takes the first feature, w3 the second
        ([1.0, 7.0], [10.0, 5.0], 2.0, 7.0),
        ([-7.0, 1.0], [1.0, 5.0], -1.4, 1.0),
        ([7.0, -1.0], [1.0, 5.0], 1.4, -1.0),
        ([5.0, 5.0], [-3.0, 2.0], -3.0, 2.0),
        ([5.0, 5.0], [200.0, 0.5], 200.0, 0.5),
        ([5.0, 5.0], [-200.0, 0.5], -200.0, 0.5),  # silu(-200) is 0, but for 85 zeros
    ):
        weights = {"w1": [[1.0, 0.0]], "w3": [[0.0, 1.0]], "w2": [[1.0], [2.0]]}
        gains = {"attention_norm": [3.0, -2.0], "ffn_norm": gain}
        module = with_weights(impl, 2, 1, 1, 1, wo=torch.zeros(2, 2), **weights, **gains)
        output = run(module, torch.tensor([[x]]), no_turn(1, 2))

        added = silu(first) * second
        what = (
            f"x = {x}, ffn_norm.weight = {gain}, w1 n = {first:g}, w3 n = {second:g}, w2 = (1, 2), wo = 0: the output"
        )
        hint = "In which branch stands silu, and what is added to what?"
        assert_close(output.flatten(), torch.tensor([x[0] + added, x[1] + 2 * added]), what, hint=hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_feed_forward_reads_the_sum_by_hand(impl):
    """the feed-forward reads what attention has left behind, token and addition, and adds to that"""
    for gain in [2.0, 3.0], [-1.0, 4.0]:
        weights = {"wv": [[30.0, 0.0], [0.0, 0.0]], "w1": [[1.0, 0.0]], "w3": [[0.0, 1.0]], "w2": [[1.0], [0.0]]}
        module = with_weights(impl, 2, 1, 1, 1, attention_norm=[1.0, 1.0], ffn_norm=gain, **weights)
        output = run(module, torch.tensor([[[1.0, 7.0]]]), no_turn(1, 2))

        what = "x = (1, 7), attention adds (6, 0), and (7, 7) is (1, 1) once it is normalised: the output"
        hint = "What does the feed-forward read, and what is its result added to?"
        by_hand = torch.tensor([7.0 + silu(gain[0]) * gain[1], 7.0])
        assert_close(output.flatten(), by_hand, f"ffn_norm.weight = {gain}, {what}", hint=hint)


@pytest.mark.visible
def test_eps_is_added_under_the_root(impl):
    """norm_eps is added to the mean of the squares, under the root, in both norms"""
    weights = {"w1": [[1.0, 0.0]], "w3": [[0.0, 1.0]], "w2": [[1.0], [2.0]]}
    for x, eps, root in (
        ([1.0, 7.0], 11.0, 6.0),
        ([7.0, 1.0], 39.0, 8.0),
        ([0.0, 0.0], 4.0, 2.0),
        ([5.0, 5.0], 0.0, 5.0),
    ):
        token, n = torch.tensor([[x]]), torch.tensor(x) / root
        what = f"x = {x}, norm_eps = {eps:g}, so that x is divided by {root:g}: the output"
        module = with_weights(impl, 2, 1, 1, eps=eps, attention_norm=[2.0, 2.0])
        output = run(module, token, no_turn(1, 2))
        assert_close(output.flatten(), torch.tensor(x) + 2 * n, f"{what}, with w2 = 0")
        module = with_weights(impl, 2, 1, 1, eps=eps, wo=torch.zeros(2, 2), **weights)
        output = run(module, token, no_turn(1, 2))
        added = silu(float(n[0])) * float(n[1])
        assert_close(output.flatten(), torch.tensor([x[0] + added, x[1] + 2 * added]), f"{what}, with wo = 0")
    for x in [0.003, 0.001], [0.001, -0.003]:  # whose squares have the mean 5e-6
        module = impl.LlamaBlock(2, 1, 1, 1)
        module.load_state_dict(with_weights(impl, 2, 1, 1, attention_norm=[1.0, 1.0]).state_dict())
        output = run(module, torch.tensor([[x]]), no_turn(1, 2))
        by_hand = torch.tensor(x) * (1 + 1 / math.sqrt(1.5e-5))
        assert_close(output.flatten(), by_hand, f"x = {x}, norm_eps left out, which is 1e-5: the output, with w2 = 0")


def test_feed_forward_matches_the_reference(twins, randn):
    """the feed-forward on its own, for several widths: wo = 0, random tokens"""
    for D, F in (4, 1), (8, 8), (6, 17), (8, 3):
        mine, ref = twins("LlamaBlock", D, 1, 1, F)
        state = {name: weight.clone() for name, weight in ref.state_dict().items()}
        state["attention.wo.weight"].zero_()
        for module in mine, ref:
            module.load_state_dict(state)
        for size in 0.1, 3.0:
            x = size * randn(2, 3, D)
            what = f"D = {D}, F = {F}, tokens of size {size:g}, wo = 0: the output"
            assert_same(mine, ref, x, random_turns(randn, 3, D), what=what)


# --- attention, worked out by hand ------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_causal_without_a_mask(impl):
    """queries of 0 and no mask: attention finds the plain average of the tokens up to each one"""
    x = torch.tensor([[[1.0, 7.0], [7.0, 1.0], [-5.0, -5.0], [5.0, 5.0]]])  # all squares have the mean 25
    means = torch.tensor([[[1.0, 7.0], [4.0, 4.0], [1.0, 1.0], [2.0, 2.0]]])
    for sign in 1.0, -1.0:
        module = with_weights(impl, 2, 1, 1, wq=torch.zeros(2, 2), attention_norm=[sign * 5, sign * 5])
        for T in 4, 3, 1:
            found = attended(module, x[:, :T], turns(range(T), 2))

            what = f"{T} tokens, values {(sign * x[0, :T]).int().tolist()}, queries of 0: what attention adds"
            assert_close(found, sign * means[:, :T], what, hint="Which keys does token t see without a mask?")


@pytest.mark.visible
def test_scores_are_divided_by_the_root_of_the_head_width(impl):
    """the scores of a head with K features are divided by sqrt(K)"""
    for D, H, G, root in (8, 2, 1, 2.0), (4, 1, 1, 2.0), (32, 2, 2, 4.0):
        K = D // H
        for odds in 3.0, 4.0:
            first, second = torch.eye(K)[:2].tolist()
            wq = columns(D, [0.0], first * H)
            wk = columns(D, (torch.tensor(first * G) * root * math.log(odds)).tolist())[: G * K]
            wv = columns(D, first * G, second * G)[: G * K]  # so that a head returns its weights
            module = with_weights(impl, D, H, G, wq=wq, wk=wk, wv=wv)
            found = attended(module, torch.eye(D)[None, :2], no_turn(2, K))

            by_hand = torch.tensor([odds, 1.0]) / (odds + 1)
            what = f"D = {D}, H = {H}: token 1 has dot products {root * math.log(odds):.4f} and 0, its weights"
            hint = "How many features does a head compare?"
            assert_close(found[0, 1].view(H, K)[:, :2], by_hand.expand(H, 2), what, hint=hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_which_head_serves_whom(impl):
    """four query heads and two key/value heads, worked out on paper: heads 0 and 1 use head 0, 2 and 3 use head 1"""
    for a, b in (3.0, 4.0), (5.0, 2.0):
        key = math.sqrt(2)
        module = with_weights(
            impl, 8, 4, 2,
            wq=columns(8, [0.0], [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]),  # token 1 asks for feature 0, 1, 0, 1
            wk=columns(8, [key * math.log(a), 0.0, 0.0, 0.0], [0.0, 0.0, key * math.log(b), 0.0])[:4],
            wv=columns(8, [1.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 1.0])[:4],  # so that a head returns its weights
        )  # fmt: skip
        found = attended(module, torch.eye(8)[None, :2], no_turn(2, 2))

        even = [1 / 2, 1 / 2]
        by_hand = [[a / (a + 1), 1 / (a + 1)], even, [1 / (b + 1), b / (b + 1)], even]
        what = f"token 1 has scores (ln {a:g}, 0), (0, 0), (0, ln {b:g}), (0, 0) in query heads 0 to 3"
        hint = "Which of the two key/value heads do query heads 1 and 2 use?"
        assert_close(found[0, 1].view(4, 2), torch.tensor(by_hand), f"{what}: the weights of its heads", hint=hint)
    for value in [1.0, 2.0, 3.0, 4.0], [5.0, 7.0, 8.0, 9.0]:
        module = with_weights(impl, 8, 4, 2, wv=columns(8, value)[:4])
        found = attended(module, torch.eye(8)[None, :1], no_turn(1, 2))

        by_hand = torch.tensor(2 * value[:2] + 2 * value[2:])
        what = f"one token, values {value[:2]} and {value[2:]} in key/value heads 0 and 1: the four heads side by side"
        assert_close(found.flatten(), by_hand, what)


@pytest.mark.visible
@pytest.mark.points(2)
def test_turns_by_hand(impl):
    """queries and keys of one head turned by quarter turns, worked out on paper"""
    cases = (  # the query of token 1, the key of token 0, rows 0 and 1 of freqs_cis; the key of token 1 is 0
        ("row 0 turns pair 0 of key 0", [1, 0, 0, 0], [0, -2, 0, 0], [1j, 1], [1, 1]),
        ("row 0 turns pair 1 of key 0", [0, 0, 1, 0], [0, 0, 0, -2], [1, 1j], [1, 1]),
        ("row 1 turns pair 0 of query 1", [0, -1, 0, 0], [2, 0, 0, 0], [1, 1], [1j, 1]),
        ("row 1 turns pair 1 of query 1", [0, 0, 0, -1], [0, 0, 2, 0], [1, 1], [1, 1j]),
        ("both rows turn pair 0", [1, 0, 0, 0], [2, 0, 0, 0], [1j, 1], [1j, 1]),
    )

    for name, q, k, *rows in cases:
        for odds in 3.0, 4.0:
            wk = columns(4, [math.log(odds) * x for x in k])
            module = with_weights(impl, 4, 1, 1, wq=columns(4, [0.0], q), wk=wk)  # token i has the value e_i
            found = attended(module, torch.eye(4)[None, :2], torch.tensor(rows, dtype=torch.complex64))

            by_hand = torch.tensor([odds, 1.0, 0.0, 0.0]) / (odds + 1)
            numbers = f"query {q}, key ln {odds:g} times {k}, rows {rows}"
            what = (
                f"{name}, so that token 1 has the scores (ln {odds:g}, 0): what attention adds. In numbers: {numbers}"
            )
            assert_close(found[0, 1], by_hand, what)


@pytest.mark.visible
def test_values_are_not_turned(impl, randn):
    """a token alone gets its own value, however its row turns"""
    for H, G in (1, 1), (2, 2), (2, 1):
        module = with_weights(impl, 8, H, G, wv=randn(8 * G // H, 8))
        x = randn(3, 1, 8)
        still = attended(module, x, no_turn(1, 8 // H))
        for _ in range(2):
            found = attended(module, x, random_turns(randn, 1, 8 // H))
            what = f"one token, H = {H}, G = {G}: what attention adds with a row that turns, and with one that does not"
            assert_close(found, still, what)
    assert_answers(impl, randn)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000 give right weights and no NaN, with a mask as well"""
    everything, few = torch.ones(1, 3, dtype=torch.bool), torch.tensor([[False, False, True]])
    calls = (  # the three scores of token 2 over 10 000, the mask, the weights
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
        found = attended(module, torch.eye(4)[None, :3], no_turn(3, 4), mask)

        what = f"scores of 10 000 times {scores}, mask {None if mask is None else mask.tolist()}: the weights"
        hint = "If smaller scores work: what is left of exp(10000), and what is lower than any score?"
        assert_close(found[0, 2, :3], torch.tensor(by_hand, dtype=torch.float32), what, tolerance=2e-3, hint=hint)
        if mask is None:
            assert_close(found[0, 0, :3], torch.eye(3)[0], f"{what} of token 0, which sees itself alone")


# --- positions --------------------------------------------------------------------------------------------


def test_only_distances_count(impl, twins, randn):
    """rows cut out of the middle of a table give the same output as its first rows, others do not"""
    mine, _ = twins("LlamaBlock", 16, 4, 2, 5)
    x, table = randn(2, 5, 16), turns(range(60), 4)

    first = run(mine, x, table[:5]).detach()
    for start in 1, 17, 55:
        moved = run(mine, x, table[start : start + 5])
        what = f"rows {start} to {start + 4} of a table, and rows 0 to 4: the output"
        assert_close(moved, first, what, tolerance=5e-5)
    for rows, name in ((table[:5].flip(0), "in reverse"), (table[:15:3], "with a distance of 3")):
        assert_differs(run(mine, x, rows), first, f"five rows {name}: the output")
    assert_answers(impl, randn)


def test_the_rows_count_and_not_their_numbers(twins, randn):
    """the turns come from the rows of freqs_cis, from whatever positions and base"""
    mine, ref = twins("LlamaBlock", 8, 2, 1, 5)
    several = {
        "every third row of a table": turns(range(40), 4)[2:17:3],
        "rows of a table with theta = 100": turns(range(5), 4, 100.0),
        "rows of negative, repeated and far positions": turns([-3, 7, 7, 4097, 0], 4),
        "rows turned at random": random_turns(randn, 5, 4),
        "columns of a wider table": random_turns(randn, 5, 8)[:, ::2],
    }

    for name, rows in several.items():
        assert_same(mine, ref, randn(2, 5, 8), rows, what=f"freqs_cis holds {name}: the output")


# --- masks ------------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_true_in_a_mask_means_may_attend(impl, randn):
    """a token that may attend to one token alone gets that one's value, even of a later token"""
    x = torch.eye(4)[None, :3]
    for seen in [2, 0, 1], [1, 2, 0]:  # the token that each token may attend to
        mask = torch.zeros(3, 3, dtype=torch.bool)
        mask[[0, 1, 2], seen] = True
        for H in 1, 2:
            module = with_weights(impl, 4, H, H, wq=randn(4, 4), wk=randn(4, 4))
            found = attended(module, x, turns(range(3), 4 // H), mask)

            what = f"H = {H}, tokens 0, 1, 2 may attend to tokens {seen} alone: what attention adds"
            assert_close(found, x[:, seen], what, hint="A mask replaces the causal one.")


@pytest.mark.points(2)
def test_masks_of_every_shape(twins, randn, randint):
    """a mask broadcasts to (B, H, T, T) and replaces the causal one"""
    mine, ref = twins("LlamaBlock", 16, 4, 2, 5)

    for B, T in (3, 5), (5, 5), (4, 4), (2, 4):  # sizes by which dimensions are mixed up
        rows = random_turns(randn, T, 4)
        for shape in (T, T), (1, T), (1, 1, T, T), (B, 1, 1, T), (B, 1, T, T), (4, T, T), (4, 1, T), (B, 4, T, T):
            what = f"B = {B}, T = {T}, H = 4, a mask of shape {shape}: the output"
            assert_same(mine, ref, randn(B, T, 16), rows, some_mask(randint, *shape), what)
        column = torch.arange(T)[:, None] != 1  # (T, 1): token 1 sees nobody, the others everyone
        assert_same(mine, ref, randn(B, T, 16), rows, column, f"B = {B}, T = {T}, a mask of shape (T, 1): the output")
        assert_same(mine, ref, randn(B, T, 16), rows, what=f"B = {B}, T = {T}, no mask: the output")


@pytest.mark.points(2)
def test_a_query_with_nothing_to_attend_to(impl, randn, randint):
    """attention adds exactly 0 to a token that may attend to nothing"""
    row, item, head = some_mask(randint, 5, 5), some_mask(randint, 3, 1, 1, 5), some_mask(randint, 3, 4, 5, 5)
    row[1], item[2], head[:, :, 2] = False, False, False
    masks = {"token 1": row, "the last item": item, "token 2, in all heads,": head}
    masks |= {"everyone": torch.zeros(1, 5).bool(), "everyone, T = 1,": torch.zeros(1, 1).bool()}
    masks["token 3, by a mask (T, 1),"] = torch.tensor([[True], [True], [True], [False], [True]])

    for who, mask in masks.items():
        T = 1 if "T = 1" in who else 5
        wv, x = randn(4, 8), randn(3, T, 8)
        module = with_weights(impl, 8, 4, 2, wq=randn(8, 8), wv=wv, attention_norm=torch.ones(8))
        output = run(module, x, no_turn(T, 2), mask)

        what = f"{who} may attend to nothing, w2 = 0"
        if output.shape != x.shape:
            raise CheckFailure(f"{what}: the shape should be {tuple(x.shape)}, but {tuple(output.shape)} came.")
        silent = ~mask.expand(3, 4, T, T).any(dim=-1).any(dim=1)  # (B, T)
        assert_close(output[silent], x[silent], f"{what}: the output there, which is x", tolerance=0.0)
        if not silent.all():
            assert_differs(output[~silent], x[~silent], f"{what}: the output of the other tokens, and x")
    assert_answers(impl, randn)


def test_masked_weights_are_exactly_0(impl, randn):
    """a masked token's value adds nothing at all, however large it is, and the other weights sum to 1"""
    for hidden in 0, 2:
        mask = torch.arange(3) != hidden  # (3,), broadcasts to every row
        x = torch.eye(4)[None, :3]
        wv = columns(4, [1.0], [1.0], [1.0])
        wv[1, hidden] = 1e9
        wk = randn(4, 4)
        found = attended(with_weights(impl, 4, 1, 1, wq=randn(4, 4), wk=wk, wv=wv), x, no_turn(3, 4), mask[None])

        by_hand = torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(1, 3, 4)
        what = f"token {hidden} is masked and has a value of 1e9 in feature 1, all have 1 in feature 0"
        assert_close(found, by_hand, f"{what}: what attention adds")
    assert_answers(impl, randn)


@pytest.mark.points(2)
def test_hidden_tokens_leave_no_trace(impl, twins, randn):
    """whatever stands at later tokens, or at masked ones, the output of the others stays the same"""
    mine, _ = twins("LlamaBlock", 8, 4, 2, 5)
    x, rows = randn(2, 6, 8), turns(range(6), 2)
    other = x.clone()
    other[:, 4:] += 10.0
    padding = (torch.arange(6) < 4).view(1, 1, 1, 6)

    for name, mask in ("no mask", None), ("a padding mask", padding):
        before, after = (run(mine, tokens, rows, mask).detach() for tokens in (x, other))
        assert_close(after[:, :4], before[:, :4], f"{name}, tokens 4 and 5 were changed: the output of tokens 0 to 3")
        assert_differs(after[:, 4:], before[:, 4:], f"{name}, tokens 4 and 5 were changed: their own output")
    shorter = run(mine, x[:, :4], rows[:4])
    assert_close(
        shorter, run(mine, x, rows)[:, :4], "no mask, tokens 0 to 3 alone and followed by two more: their output"
    )
    everyone = torch.ones(6, 6, dtype=torch.bool)
    before, after = (run(mine, tokens, rows, everyone).detach() for tokens in (x, other))
    assert_differs(after[:, :4], before[:, :4], "a mask of True, tokens 4 and 5 were changed: tokens 0 to 3")
    assert_answers(impl, randn)


# --- the whole --------------------------------------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_the_reference(twins, randn, randint, rng):
    """random sizes, size 1, and tensors that are not contiguous, with and without a mask"""
    sizes = [(1, 1, 1, 1, 2, 1), (3, 1, 2, 2, 4, 8), (2, 4, 2, 2, 6, 7), (2, 3, 1, 2, 16, 5), (4, 4, 4, 1, 2, 8)]
    sizes += [
        (*(rng.choice((1, 2, 3, 5)) for _ in range(4)), rng.choice((2, 4, 6)), rng.randint(1, 9)) for _ in range(4)
    ]
    for B, T, G, n_rep, K, F in sizes:
        H = G * n_rep
        mine, ref = twins("LlamaBlock", H * K, H, G, F, norm_eps=rng.choice((1e-5, 0.3)))
        rows = random_turns(randn, T, K)

        what = f"B = {B}, T = {T}, H = {H}, G = {G}, K = {K}, F = {F}"
        x = randn(T, B, H * K).transpose(0, 1)
        assert_same(mine, ref, x, rows, what=what)
        mask = some_mask(randint, B, 1, T, T)
        wide = randn(B, T, 2 * H * K)[..., ::2]
        assert_same(mine, ref, wide, rows, mask, f"{what}, with a mask")
        with torch.no_grad():
            assert_same(mine, ref, x, rows, what=f"{what}, under no_grad")
            assert_same(mine, ref, wide, rows, mask, f"{what}, with a mask, under no_grad")


def test_bfloat16(twins, randn, randint):
    """a bfloat16 block takes and returns bfloat16, with a complex64 freqs_cis"""
    mine, ref = twins("LlamaBlock", 16, 4, 2, 12)
    mine.bfloat16()
    ref.bfloat16().double()  # the same weights, rounded

    few = some_mask(randint, 3, 1, 5, 5)
    few[1], few[2, :, 3:] = False, False  # these tokens may attend to nothing
    for mask in None, few:
        for rows in random_turns(randn, 5, 4), turns(range(300, 305), 4):
            x = 3 * randn(3, 5, 16)  # large beside what is added, of which bfloat16 keeps few digits
            assert_same(mine, ref, x, rows, mask, "bfloat16: the output", dtype=torch.bfloat16)
    x, rows = randn(2, 4, 16).bfloat16().requires_grad_(), turns(range(4), 4)
    wide, cotangent = x.detach().double().requires_grad_(), randn(2, 4, 16)
    output, right = run(mine, x, rows), ref(wide, rows)
    leaves, wide_leaves = ({"x": leaf} | dict(m.named_parameters()) for leaf, m in ((x, mine), (wide, ref)))
    truth = torch.autograd.grad((right * cotangent).sum(), list(wide_leaves.values()), retain_graph=True)
    loose = 0.1 * max(float(gradient.abs().max()) for gradient in truth)
    assert_gradients_match(output, leaves, right, wide_leaves, cotangent, "bfloat16: the gradient", tolerance=loose)


def assert_same_gradients(mine, ref, randn, what, mask=None, B=2, T=5):
    """Compare the gradients of a fresh x and of all weights with the reference's."""
    x, rows = randn(B, T, 16).requires_grad_(), random_turns(randn, T, 4)
    wide = x.detach().double().requires_grad_()
    leaves, wide_leaves = ({"x": leaf} | dict(m.named_parameters()) for leaf, m in ((x, mine), (wide, ref)))
    output, right = assert_tensor(mine(x, rows, mask), "the output"), ref(wide, rows, mask)
    assert_gradients_match(output, leaves, right, wide_leaves, randn(B, T, 16), what)


@pytest.mark.points(2)
def test_gradients(twins, randn):
    """the gradients of x and of all nine weights, in a second backward pass too"""
    for G in 2, 4, 1:
        mine, ref = twins("LlamaBlock", 16, 4, G, 7)
        mine.train(G == 4)
        for what in "the gradient", "the gradient in a second backward pass":
            assert_same_gradients(mine, ref, randn, f"G = {G}, {'training' if G == 4 else 'eval'} mode: {what}")
        assert_same_gradients(mine, ref, randn, f"G = {G}, one token: the gradient", B=1, T=1)


def test_gradients_under_a_mask(twins, randn, randint):
    """the gradients under a mask, with a query that may attend to nothing: no NaN"""
    mine, ref = twins("LlamaBlock", 16, 4, 2, 7)
    for _ in range(2):
        mask = some_mask(randint, 2, 4, 5, 5)
        mask[1, :, 2], mask[0, 1, 3] = False, False  # no head of one query, and one head of another
        assert_same_gradients(mine, ref, randn, "the gradient under a mask", mask)


# --- good manners -----------------------------------------------------------------------------------------


def test_long_sequences(twins, randn):
    """thousands of tokens: the causal mask has no last row"""
    mine, ref = twins("LlamaBlock", 2, 1, 1, 1)
    T = 2100

    with torch.no_grad():
        assert_same(mine, ref, randn(1, T, 2), random_turns(randn, T, 2), what=f"{T} tokens, no mask: the output")


@pytest.mark.points(2)
def test_repeated_calls(twins, randn, randint):
    """one block, call after call with other sizes, rows, masks, weights, dtypes and modes"""
    mine, ref = twins("LlamaBlock", 8, 4, 2, 6)
    several = [{n: w.bfloat16() for n, w in twins("LlamaBlock", 8, 4, 2, 6)[1].state_dict().items()} for _ in range(2)]
    sizes = (2, 4, True), (2, 4, True), (2, 4, False), (1, 6, True), (4, 2, False), (1, 30, False)

    for dtype, weights in (torch.float32, 0), (torch.float32, 1), (torch.bfloat16, 1), (torch.float32, 0):
        mine.bfloat16() if dtype == torch.bfloat16 else mine.float()
        mine.load_state_dict({name: weight.to(dtype) for name, weight in several[weights].items()})
        ref.load_state_dict(several[weights])
        mine.train() if weights else mine.eval()
        for B, T, masked in sizes:
            mask = some_mask(randint, B, 1, T, T) if masked else None
            what = f"B = {B}, T = {T}, after calls with other inputs, weights and dtypes"
            assert_same(mine, ref, 3 * randn(B, T, 8), random_turns(randn, T, 2), mask, what, dtype=dtype)


def test_batch_items_do_not_meet(impl, twins, randn, randint):
    """an item of a batch gets the same answer alone"""
    mine, _ = twins("LlamaBlock", 8, 4, 2, 6)
    x, rows, mask = randn(3, 4, 8), random_turns(randn, 4, 2), some_mask(randint, 3, 1, 1, 4)

    for several in mask, None:
        together = run(mine, x, rows, several).detach()
        for i in range(3):
            alone = run(mine, x[i : i + 1], rows, None if several is None else several[i : i + 1])
            assert_close(alone, together[i : i + 1], f"item {i} alone and in a batch of 3: the output")
    assert_answers(impl, randn)


def test_leaves_the_inputs_alone(impl, twins, randn, randint):
    """x, freqs_cis, the mask and the weights are the same after the call"""
    mine, _ = twins("LlamaBlock", 8, 4, 2, 6)
    inputs = {"x": randn(2, 5, 8), "freqs_cis": random_turns(randn, 5, 2), "mask": some_mask(randint, 2, 1, 5, 5)}
    before = {name: tensor.clone() for name, tensor in inputs.items()}
    weights = {name: tensor.clone() for name, tensor in mine.state_dict().items()}

    run(mine, *inputs.values())
    with torch.no_grad():
        run(mine, *inputs.values())

    for name, tensor in inputs.items():
        assert_close(tensor, before[name], f"{name} after the call and before it", tolerance=0.0)
    for name, tensor in mine.state_dict().items():
        assert_close(tensor, weights[name], f"{name} after the call and before it", tolerance=0.0)
    assert_answers(impl, randn)


def test_errors_of_sizes(impl, randn):
    """sizes below 1, head counts that do not divide and an odd head width raise ValueError"""
    sizes = (
        (8, 0, 1, 4),
        (8, -2, 1, 4),
        (0, 2, 1, 4),
        (-8, 2, 1, 4),
        (8, 4, 0, 4),
        (8, 4, -1, 4),
        (8, 4, 2, 0),
        (8, 4, 2, -3),
    )
    sizes += (8, 3, 1, 4), (2, 4, 1, 4), (8, 4, 3, 4), (8, 2, 4, 4), (24, 6, 4, 4)  # which do not divide
    sizes += (6, 2, 1, 4), (5, 1, 1, 4), (4, 4, 2, 4), (12, 4, 4, 4)  # odd K
    for several in sizes:
        what = ", ".join(
            f"{n} = {s}" for n, s in zip(("dim", "n_heads", "n_kv_heads", "hidden_dim"), several, strict=True)
        )
        assert_rejects(lambda s=several: impl.LlamaBlock(*s), what, good=lambda: assert_answers(impl, randn))


def test_errors_of_rows(impl, twins, randn):
    """freqs_cis with another number of rows than tokens raises ValueError"""
    mine, _ = twins("LlamaBlock", 8, 4, 4, 3)

    for B, T, several in (2, 5, (4, 6, 1, 10, 2)), (2, 1, (4, 2)):  # 4 heads, 2 batch items

        def good(B=B, T=T):
            assert_shape(run(mine, randn(B, T, 8), random_turns(randn, T, 2)), (B, T, 8), f"{T} tokens and {T} rows")
            assert_answers(impl, randn)

        for count in several:
            x, rows = randn(B, T, 8), random_turns(randn, count, 2)
            what = f"freqs_cis with {count} rows for {T} tokens"
            assert_rejects(lambda x=x, rows=rows: run(mine, x, rows), what, good=good)


def test_no_loop_over_tokens_or_batch(impl, twins, randn):
    """the number of tensor operations does not grow with the tokens or the batch"""
    mine, _ = twins("LlamaBlock", 8, 4, 2, 6)
    x, rows, mask = randn(40, 40, 8), turns(range(40), 2), torch.ones(40, 40, dtype=torch.bool)

    assert_no_loop(impl, lambda T: run(mine, x[:1, :T], rows[:T]), "tokens")
    assert_no_loop(impl, lambda T: run(mine, x[:1, :T], rows[:T], mask[:T, :T]), "tokens under a mask")
    assert_no_loop(impl, lambda B: run(mine, x[:B, :3], rows[:3]), "batch items")
    assert_answers(impl, randn)


def test_follows_the_device(impl, twins, randn):
    """computes on the device of the module and its inputs, and on the CPU again afterwards"""
    mine, _ = twins("LlamaBlock", 8, 4, 2, 6)
    module = impl.LlamaBlock(8, 4, 2, 6).to("meta")
    x, rows = randn(2, 5, 8), random_turns(randn, 5, 2)
    far, far_rows = x.to("meta"), rows.to("meta")  # meta stands for any accelerator

    before = run(mine, x, rows).detach()
    for mask in None, torch.ones(5, 5, dtype=torch.bool, device="meta"):
        assert_follows_device(impl, lambda mask=mask: run(module, far, far_rows, mask), "the output")
    after = run(mine, x, rows)
    assert_close(after, before, "the output on the CPU, before and after a call on another device")
    mine.to("meta")
    assert_follows_device(impl, lambda: run(mine, far, far_rows), "the output of a block that has answered on the CPU")
    assert_answers(impl, randn)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart.

    As many heads as tokens let code go through that mixes up the two.
    """
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    weights = {}
    for name, shape in shapes_of(24, 6, 2, 10).items():
        weights[name] = 1 + 0.3 * draw(*shape) if len(shape) == 1 else draw(*shape) / shape[1] ** 0.5
    x = 2 * draw(2, 6, 24)
    rows = torch.polar(torch.ones(6, 2), 3 * draw(6, 2))
    few = torch.arange(36).view(6, 6) * 5 % 7 < 3  # two or three keys in each row
    none = few & (torch.arange(6) != 1)[:, None]  # token 1 may attend to nothing

    def names():
        return {name: tuple(p.shape) for name, p in impl.LlamaBlock(24, 6, 2, 10).state_dict().items()}

    def answer(mask=None, T=6, rows=rows, eps=0.5, **changes):
        module = impl.LlamaBlock(24, 6, 2, 10, norm_eps=eps)
        state = module.state_dict()
        if any(state[name].shape != weight.shape for name, weight in weights.items() if name in state):
            return "shapes"
        biases = {name: torch.zeros_like(tensor) for name, tensor in state.items() if name.endswith("bias")}
        changed = {name: weights[name] * factor for name, factor in changes.items()}
        module.load_state_dict({**weights, **biases, **changed}, strict=False)
        return run(module, x[:, :T], rows[:T], mask).detach()

    no_attention, no_feed_forward = {"attention.wo.weight": 0.0}, {"feed_forward.w2.weight": 0.0}
    return {
        "names": observe(names),
        "neither": observe(lambda: answer(**no_attention, **no_feed_forward)),
        "feed-forward": observe(lambda: answer(eps=1e-5, **no_attention)),
        "feed-forward, eps": observe(lambda: answer(**no_attention)),
        "one token": observe(lambda: answer(T=1, eps=1e-5, **no_feed_forward)),
        "one token, eps": observe(lambda: answer(T=1, **no_feed_forward)),
        "three tokens": observe(lambda: answer(T=3, eps=1e-5, **no_feed_forward)),
        "no turn": observe(lambda: answer(rows=no_turn(6, 4), eps=1e-5, **no_feed_forward)),
        "masked": observe(lambda: answer(few, eps=1e-5, **no_feed_forward)),
        "nothing allowed": observe(lambda: answer(none, eps=1e-5, **no_feed_forward)),
        "whole": observe(answer),
    }


def picture(impl):
    """Draw whose change moves whose output: each token is changed in turn, in a block with fixed random weights."""
    T, D, H, G, F = 16, 16, 4, 2, 24
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, shape in shapes_of(D, H, G, F).items():
        short = name.removesuffix(".weight").split(".")[-1]
        weights[short] = torch.ones(shape)
        if len(shape) == 2:
            weights[short] = 1.5 * torch.randn(shape, generator=generator) / shape[1] ** 0.5
    x = torch.randn(1, T, D, generator=generator)
    moved = x.repeat(T, 1, 1)
    moved[torch.arange(T), torch.arange(T)] += torch.randn(D, generator=generator)  # item s: token s was changed

    panels = []
    for name, mask, changes in (
        ("no mask: causal", None, {}),
        ("a mask of True: everyone sees everyone", torch.ones(T, T, dtype=torch.bool), {}),
        ("wo = 0: norm and feed-forward alone", None, {"wo": torch.zeros(D, D)}),
    ):
        module = with_weights(impl, D, H, G, F, eps=1e-5, **(weights | changes))
        here, there = (run(module, tokens, turns(range(T), D // H), mask).detach() for tokens in (x, moved))
        distance = (there - here).norm(dim=-1).T  # (T of the output, T of the change)
        panels.append(
            Panel(name, distance.log1p(), x_label="token that was changed", y_label="token whose output moves")
        )
    return panels
