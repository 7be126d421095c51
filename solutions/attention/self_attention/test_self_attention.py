"""Hidden suite of self_attention: shapes and names, numbers done by hand, the causal mask, the whole.

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
    describe,
    observe,
)

PRECISE = (torch.float32, torch.float64)
SENTENCE = ["Your", "journey", "starts", "with", "one", "step"]
TOKENS = (  # the sentence as printed in section 3.3
    (0.43, 0.15, 0.89),
    (0.55, 0.87, 0.66),
    (0.57, 0.85, 0.64),
    (0.22, 0.58, 0.33),
    (0.77, 0.25, 0.10),
    (0.05, 0.80, 0.55),
)
BOOK = {  # the weights of SelfAttention_v2 with seed 789, transposed into rows per output feature by nn.Linear
    "wq.weight": ((0.3161, 0.4568, 0.5118), (-0.1683, -0.3379, -0.0918)),
    "wk.weight": ((0.4058, -0.4704, 0.2368), (0.2134, -0.2601, -0.5105)),
    "wv.weight": ((0.2526, -0.1415, -0.1962), (0.5191, -0.0852, -0.2043)),
}


def matrix(rows):
    return torch.tensor(rows, dtype=torch.float32)


def with_weights(impl, wq, wk, wv, causal=False):
    """Make the learner's module with these weights, each of shape (d_out, d_in)."""
    module = impl.SelfAttention(wq.shape[1], wq.shape[0], causal)
    module.load_state_dict({"wq.weight": wq, "wk.weight": wk, "wv.weight": wv})
    return module


def attend(module, x):
    """Call the learner's module and check that a pair comes back."""
    pair = module(x)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise CheckFailure(f"forward should return the pair (context, weights), but {describe(pair)} came.")
    return tuple(pair)


def assert_same(mine, ref, x, what, *, dtype=torch.float32, hint=""):
    """Compare the weights, then the context, with the reference's for the same x."""
    x = x.to(dtype)
    context, weights = attend(mine, x)
    right, right_weights = ref(x.double())
    assert_close(weights, right_weights, f"{what}: the weights", dtype=dtype, hint=hint)
    assert_close(context, right, f"{what}: the context", dtype=dtype, hint=hint)


def assert_answers(mine, ref, randn, dtype=torch.float32):
    """Check that the module answers at all: a token alone gets its own value, whatever the rest does."""
    for _ in range(2):
        assert_same(mine, ref, randn(2, 1, ref.wq.in_features), "one token alone", dtype=dtype)


# --- shapes and names -------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the context is (B, T, d_out) and the weights are (B, T, T)"""
    for causal in False, True:
        module = impl.SelfAttention(6, 4, causal)
        with torch.no_grad():  # the names come later, and zeros would be fine to start with
            for parameter in module.parameters():
                parameter.uniform_(-0.5, 0.5)
        seen = torch.zeros(0)
        for B, T in (3, 5), (3, 5), (2, 7):
            context, weights = attend(module, randn(B, T, 6))

            sizes = f"B = {B}, T = {T}, d_in = 6, d_out = 4, causal = {causal}"
            assert_shape(weights, (B, T, T), f"the weights for {sizes}", dtype=torch.float32)
            assert_shape(context, (B, T, 4), f"the context for {sizes}", dtype=torch.float32)
            assert_differs(context, seen, "the context of a second call, with another x")
            seen = context


@pytest.mark.visible
def test_parameter_names(impl, randn):
    """the weights of wq, wk and wv, (d_out, d_in) each and nothing else, are saved and loaded"""
    for causal in False, True:
        module = impl.SelfAttention(3, 5, causal)
        wq, wk = randn(2, 5, 3)

        assert_names(module.named_parameters(), "named_parameters()")
        assert_names(module.state_dict().items(), "state_dict()")
        for shift in 0.0, 4.0:
            wv = torch.arange(15.0).view(5, 3) + shift
            module.load_state_dict({"wq.weight": wq, "wk.weight": wk, "wv.weight": wv})
            context, _ = attend(module, torch.tensor([[[0.0, 1.0, 0.0]]]))

            what = "the one token (0, 1, 0): the context, which is column 1 of the wv.weight that was loaded"
            assert_close(context.flatten(), wv[:, 1], what)
        assert_names(module.state_dict().items(), f"state_dict() after two calls, causal = {causal},")


def assert_names(found, place):
    """Check the names and shapes of (name, tensor) pairs of a module with d_in = 3 and d_out = 5."""
    came = {name: tuple(tensor.shape) for name, tensor in found}
    asked = dict.fromkeys(("wq.weight", "wk.weight", "wv.weight"), (5, 3))
    for name in sorted(came.keys() | asked.keys()):
        if came.get(name) != asked.get(name):
            wrong, right = came.get(name, "missing"), asked.get(name, "absent")
            raise CheckFailure(f"{place} for d_in = 3, d_out = 5: {name} is {wrong}, but should be {right}.")


# --- worked out by hand, and printed ----------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_two_tokens_by_hand(impl):
    """two tokens with two features each, worked out on paper: every projection has its own part"""
    # Token (1, 0) picks column 0 of a weight, token (0, 1) column 1.
    wq = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    wk = torch.tensor([[0.0, math.log(3)], [5.0, 0.0]]) * math.sqrt(2)
    wv = torch.tensor([[4.0, 0.0], [1.0, 8.0]])
    module = with_weights(impl, wq, wk, wv)

    for order in [0, 1], [1, 0]:  # of the tokens
        context, weights = attend(module, torch.eye(2)[order].unsqueeze(0))

        scores = f"scores (0, ln 3) and (0, 0) after scaling, tokens in the order {order}"
        by_hand = torch.tensor([[1 / 4, 3 / 4], [1 / 2, 1 / 2]])[order][:, order]
        assert_close(weights[0], by_hand, f"{scores}: the weights")
        assert_close(context[0], torch.tensor([[1.0, 6.25], [2.0, 4.5]])[order], f"{scores}: the context")


@pytest.mark.visible
def test_the_numbers_of_the_book(impl):
    """the sentence "Your journey starts with one step": the numbers printed in the book"""
    weights_of_the_book = [matrix(BOOK[f"{name}.weight"]) for name in ("wq", "wk", "wv")]
    x = matrix(TOKENS)
    printed = {
        "journey": ([0.2041, 0.1659, 0.1662, 0.1496, 0.1665, 0.1477], [-0.0748, 0.0703]),
        "step": ([0.1935, 0.1663, 0.1666, 0.1542, 0.1666, 0.1529], [-0.0754, 0.0693]),
    }

    for causal in False, True:
        module = with_weights(impl, *weights_of_the_book, causal=causal)
        for order in [0, 1, 2, 3, 4, 5], [1, 0, 4, 3, 2, 5]:  # "step" comes last in both, so it always sees everything
            context, weights = attend(module, x[order].unsqueeze(0))

            for word in ["step"] if causal else printed:
                row, place = SENTENCE.index(word), order.index(SENTENCE.index(word))
                right, result = (torch.tensor(numbers) for numbers in printed[word])
                what = f"the book's sentence in the order {order}, causal = {causal}, the word {row} ({word!r})"
                assert_close(weights[0, place], right[order], f"{what}: its weights", tolerance=2e-4)
                assert_close(context[0, place], result, f"{what}: its context", tolerance=2e-4)


@pytest.mark.visible
def test_scores_are_divided_by_the_root_of_d_out(impl):
    """the scores are divided by sqrt(d_out), whatever d_in is"""
    for d_in, d_out, root in (3, 4, 2.0), (2, 9, 3.0), (16, 1, 1.0):
        for odds in 3.0, 4.0:
            wq, wk = torch.zeros(2, d_out, d_in)
            wq[0, 0], wk[0, 0] = 1.0, root * math.log(odds)
            module = with_weights(impl, wq, wk, torch.ones(d_out, d_in))
            _, weights = attend(module, torch.eye(d_in)[None, :2])

            by_hand = torch.tensor([[odds / (odds + 1), 1 / (odds + 1)], [1 / 2, 1 / 2]])
            what = f"d_in = {d_in}, d_out = {d_out}, dot products ({root * math.log(odds):.4f}, 0) and (0, 0)"
            hint = "Over how many features does the dot product add?"
            assert_close(weights[0], by_hand, f"{what}: the weights", hint=hint)


def test_weights_of_a_query_sum_to_1(twins, randn):
    """the weights of a query are not negative and sum to 1 over the keys"""
    for causal in False, True:
        for dtype in PRECISE:
            mine, ref = twins("SelfAttention", 6, 4, causal=causal)
            mine.to(dtype)
            _, weights = attend(mine, randn(3, 5, 6, dtype=dtype))

            what = f"causal = {causal}"
            assert_close(weights.sum(dim=-1), torch.ones(3, 5, dtype=dtype), f"{what}: the sum of each query's weights")
            assert_close(
                weights, weights.detach().clamp(min=0.0), f"{what}: weights below 0, which should be 0 or more"
            )
            assert_answers(mine, ref, randn, dtype)


# --- who sees whom ----------------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_causal_by_hand(impl, randn):
    """causal, and all scores alike: every token takes the mean of the tokens up to itself"""
    zeros = torch.zeros(2, 2)
    module = with_weights(impl, zeros, zeros, torch.eye(2), causal=True)
    by_hand = torch.tensor([[1.0, 0.0, 0.0], [1 / 2, 1 / 2, 0.0], [1 / 3, 1 / 3, 1 / 3]])

    for x, means in (
        ([[6.0, 0.0], [0.0, 6.0], [3.0, 3.0]], [[6.0, 0.0], [3.0, 3.0], [3.0, 3.0]]),
        ([[1.0, 2.0], [3.0, 2.0], [-4.0, 5.0]], [[1.0, 2.0], [2.0, 2.0], [0.0, 3.0]]),
    ):
        context, weights = attend(module, torch.tensor([x]))

        what = f"causal, scores of 0, values {x}"
        assert_close(weights[0], by_hand, f"{what}: the weights", hint="Which tokens may token 0 look at?")
        assert_close(context[0], torch.tensor(means), f"{what}: the context")


def test_later_tokens_weigh_exactly_0(twins, randn):
    """causal: the weights of later tokens are exactly 0 and the others are not, for small scores and for large ones"""
    for dtype in PRECISE:
        mine, ref = twins("SelfAttention", 6, 4, causal=True)
        mine.to(dtype)
        for size in 1.0, 100.0:  # of the inputs: scores of about 1, and of about 10 000
            _, weights = attend(mine, size * randn(3, 5, 6, dtype=dtype))

            future = torch.ones(5, 5, dtype=torch.bool).triu(1).expand(3, 5, 5)
            masked, seen = weights[future], weights.detach()[~future].clone()
            what = f"causal, inputs of size {size:g}"
            assert_close(masked, torch.zeros_like(masked), f"{what}: the weights of later tokens", tolerance=0.0)
            if size == 1.0 and not (seen > 0).all():
                raise CheckFailure(f"{what}: {int((seen == 0).sum())} weights of tokens that may be seen are 0.")
        assert_answers(mine, ref, randn, dtype)


@pytest.mark.points(2)
def test_the_future_leaves_no_trace(twins, randn, rng):
    """causal: whatever comes later, the earlier tokens' contexts and weights stay as they are"""
    mine, ref = twins("SelfAttention", 6, 4, causal=True)

    for size in 1.0, 30.0:
        x, t = randn(2, 7, 6), rng.randint(1, 5)
        other = x.clone()
        other[:, t:] = size * randn(2, 7 - t, 6)
        context, weights = (tensor.detach() for tensor in attend(mine, x))
        changed, changed_weights = attend(mine, other)
        short, short_weights = attend(mine, x[:, :t])

        what = f"tokens from {t} on were replaced by others of size {size:g}, in 7"
        assert_close(changed_weights[:, :t, :t], weights[:, :t, :t], f"{what}: the weights of tokens before {t}")
        assert_close(changed[:, :t], context[:, :t], f"{what}: the contexts of tokens before {t}")
        assert_differs(changed[:, t:], context[:, t:], f"{what}: the contexts of those tokens")
        assert_close(short_weights, weights[:, :t, :t], f"{t} tokens alone and the first {t} of 7: the weights")
        assert_close(short, context[:, :t], f"{t} tokens alone and the first {t} of 7: the contexts")
        assert_answers(mine, ref, randn)


def test_without_the_mask_order_does_not_matter(twins, randn, rng):
    """not causal: tokens in another order give the same contexts in that order, and every token sees every other"""
    mine, ref = twins("SelfAttention", 6, 4)
    x, order = randn(2, 5, 6), rng.sample(range(5), 5)

    context, weights = (tensor.detach() for tensor in attend(mine, x))
    shuffled, shuffled_weights = attend(mine, x[:, order])

    what = f"tokens in the order {order}"
    assert_close(shuffled_weights, weights[:, order][:, :, order], f"{what}: the weights")
    assert_close(shuffled, context[:, order], f"{what}: the context")
    if not (weights > 0).all():
        raise CheckFailure("causal = False: some weights are 0, although every token may look at every other.")
    assert_answers(mine, ref, randn)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000 give right weights and no NaN, causal or not"""
    one = torch.ones(1, 1)  # d_in = d_out = 1: a score is a product of two numbers
    thirds = [1 / 3, 1 / 3, 1 / 3]
    calls = (  # the weight of wk and x, then the weights without and with the mask
        (1, [100, -100, 100], [[0.5, 0, 0.5], [0, 1, 0], [0.5, 0, 0.5]], [[1, 0, 0], [0, 1, 0], [0.5, 0, 0.5]]),
        (1, [0, 100, -90], [thirds, [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 1, 0], [0, 0, 1]]),
        (1, [-90, 0, -100], [[0, 0, 1], thirds, [0, 0, 1]], [[1, 0, 0], [0.5, 0.5, 0], [0, 0, 1]]),
        (-1, [100, -100, 100], [[0, 1, 0], [0.5, 0, 0.5], [0, 1, 0]], [[1, 0, 0], [1, 0, 0], [0, 1, 0]]),
        (-1, [200, 0, 100], [[0, 1, 0], thirds, [0, 1, 0]], [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]]),
    )

    for dtype in (*PRECISE, torch.bfloat16):
        # From one number of the size of these scores to the next; in bfloat16, what 1/3 may be off.
        step = 5e-3 if dtype == torch.bfloat16 else max(1e-9, 1e4 * torch.finfo(dtype).eps)
        for sign, numbers, without, masked in calls[1:3] if dtype == torch.bfloat16 else calls:  # no equal large scores
            for causal, rows in (False, without), (True, masked):
                module = with_weights(impl, one, sign * one, one, causal=causal).to(dtype)
                x, by_hand = torch.tensor(numbers, dtype=dtype), torch.tensor(rows, dtype=dtype)
                context, weights = attend(module, x.view(1, 3, 1))

                what = f"causal = {causal}, d_out = 1, queries and values {numbers}, keys {sign} times these"
                assert_close(weights[0], by_hand, f"{what}: the weights", tolerance=step)
                assert_close(context[0, :, 0], by_hand @ x, f"{what}: the context", tolerance=200 * step)


# --- the whole --------------------------------------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_the_reference(twins, randn, rng):
    """random sizes, size 1, and tensors that are not contiguous"""
    sizes = [(1, 1, 1, 1), (3, 1, 4, 2), (2, 4, 5, 5)]
    sizes += [tuple(rng.choice((1, 2, 3, 5, 7)) for _ in range(4)) for _ in range(4)]
    for B, T, d_in, d_out in sizes:
        for causal in False, True:
            mine, ref = twins("SelfAttention", d_in, d_out, causal=causal)

            what = f"B = {B}, T = {T}, d_in = {d_in}, d_out = {d_out}, causal = {causal}"
            assert_same(mine, ref, randn(T, B, d_in).transpose(0, 1), what)
            assert_same(mine, ref, randn(B, T, 2 * d_in)[..., ::2], f"{what}, every other feature of a wider x")


def test_float64(twins, randn):
    """a float64 module computes in float64 all the way"""
    for causal in False, True:
        mine, ref = twins("SelfAttention", 6, 4, causal=causal)  # sqrt(4) held in float32 is exact, and welcome
        mine.double()
        finer = {name: w + 1e-6 * randn(*w.shape, dtype=torch.float64) for name, w in ref.state_dict().items()}
        mine.load_state_dict(finer)  # weights that float32 cannot hold
        ref.load_state_dict(finer)
        hint = "If the other checks pass: what is rounded to float32 on the way?"
        for _ in range(2):
            assert_same(mine, ref, randn(3, 5, 6), f"float64, causal = {causal}", dtype=torch.float64, hint=hint)


def test_bfloat16(twins, randn):
    """a bfloat16 module takes and returns bfloat16, and gradients flow as well"""
    for causal in False, True:
        mine, ref = twins("SelfAttention", 6, 4, causal=causal)
        mine.bfloat16()
        ref.bfloat16().double()  # the same weights, rounded
        for _ in range(2):
            x = 0.5 * randn(3, 5, 6)  # scores below 1: of larger ones bfloat16 keeps too few digits
            assert_same(mine, ref, x.bfloat16(), f"bfloat16, causal = {causal}", dtype=torch.bfloat16)
        x = (0.5 * randn(3, 5, 6)).bfloat16().requires_grad_()
        wide, cotangent = x.detach().double().requires_grad_(), randn(3, 5, 4)
        context, right = attend(mine, x)[0], ref(wide)[0]
        loose = 0.1 * float(torch.autograd.grad((right * cotangent).sum(), wide, retain_graph=True)[0].abs().max())
        what = f"bfloat16, causal = {causal}: the gradient"
        assert_gradients_match(context, {"x": x}, right, {"x": wide}, cotangent, what, tolerance=loose)


@pytest.mark.points(2)
def test_gradients(twins, randn):
    """the gradients of x and of the three weights, causal or not, in a second backward pass too"""
    for causal in False, True:
        for dtype in PRECISE:
            mine, ref = twins("SelfAttention", 6, 4, causal=causal)
            mine.to(dtype)
            for what, B, T in (
                ("the gradient", 2, 5),
                ("the gradient in training mode, for a batch of 1, in a second backward pass", 1, 5),
                ("one token's gradient", 2, 1),
            ):
                mine.train("training" in what)
                x = randn(B, T, 6, dtype=dtype).requires_grad_()
                wide = x.detach().double().requires_grad_()
                leaves = {"x": x} | dict(mine.named_parameters())
                wide_leaves = {"x": wide} | dict(ref.named_parameters())
                cotangent = randn(B, T, 4, dtype=dtype)
                output, right = attend(mine, x)[0], ref(wide)[0]
                when = f"{what}, causal = {causal},"
                assert_gradients_match(output, leaves, right, wide_leaves, cotangent, when)
            x, cotangent = randn(2, 5, 6, dtype=dtype), randn(2, 5, 4, dtype=dtype)
            leaves, wide_leaves = dict(mine.named_parameters()), dict(ref.named_parameters())
            output, right = attend(mine, x)[0], ref(x.double())[0]
            when = f"the gradient, where x needs none, causal = {causal},"
            assert_gradients_match(output, leaves, right, wide_leaves, cotangent, when)


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls(twins, randn):
    """two modules, call after call with other sizes and dtypes, also under no_grad and in training mode"""
    modules = {causal: twins("SelfAttention", 6, 4, causal=causal) for causal in (True, False)}

    for dtype in torch.float32, torch.float64, torch.float32:
        for B, T in (2, 3), (2, 3), (1, 6), (4, 2), (4, 4), (1, 150):
            for causal, (mine, ref) in modules.items():
                mine.to(dtype)
                what = f"B = {B}, T = {T}, causal = {causal}, after other calls"
                assert_same(mine, ref, randn(B, T, 6), what, dtype=dtype)
                with torch.no_grad():
                    what = f"B = {B}, T = {T}, causal = {causal}, under no_grad"
                    assert_same(mine, ref, randn(B, T, 6), what, dtype=dtype)
        for causal, (mine, ref) in modules.items():
            what = f"causal = {causal}, in training mode"
            assert_same(mine.train(), ref, randn(3, 3, 6), what, dtype=dtype)
            mine.eval()
    mine, ref = twins("SelfAttention", d_in=2, d_out=1, causal=True)
    with torch.no_grad():
        assert_same(mine, ref, randn(1, 1030, 2), "T = 1030, causal = True, under no_grad")  # no table is large enough


def test_modules_are_their_weights(impl, twins, randn):
    """answers follow weights that were changed in place, whatever other modules there are"""
    for causal in False, True:
        mine, ref = twins("SelfAttention", 6, 4, causal=causal)
        other, other_ref = twins("SelfAttention", 6, 9, not causal)

        for factor in 1.0, -0.5, 2.0:
            with torch.no_grad():
                for parameter in (*mine.parameters(), *ref.parameters()):
                    parameter.mul_(factor)
                assert_same(mine, ref, randn(2, 5, 6), f"causal = {causal}, all weights times {factor}, under no_grad")
            assert_same(mine, ref, randn(2, 5, 6), f"causal = {causal}, all weights times {factor}")
            assert_same(other, other_ref, randn(2, 5, 6), f"d_out = 9, causal = {not causal}, beside another module")


def test_batch_items_do_not_meet(twins, randn):
    """an item of a batch gets the same answer alone"""
    for causal in False, True:
        mine, ref = twins("SelfAttention", 6, 4, causal=causal)
        x = randn(3, 4, 6)

        together, weights = (tensor.detach() for tensor in attend(mine, x))

        for i in range(3):
            alone, its_weights = attend(mine, x[i : i + 1])
            assert_close(its_weights, weights[i : i + 1], f"item {i} alone and in a batch of 3: the weights")
            assert_close(alone, together[i : i + 1], f"item {i} alone and in a batch of 3: the context")
        assert_answers(mine, ref, randn)


def test_leaves_the_input_alone(twins, randn):
    """x is the same after the call"""
    for causal in False, True:
        mine, ref = twins("SelfAttention", 6, 4, causal=causal)
        x = randn(2, 5, 6)
        before = x.clone()

        attend(mine, x)

        assert_close(x, before, f"causal = {causal}: x after the call and before it", tolerance=0.0)
        assert_answers(mine, ref, randn)


def test_errors(impl, twins, randn):
    """sizes below 1 raise ValueError"""
    mine, ref = twins("SelfAttention", 3, 2)

    for sizes in (0, 2), (3, 0), (-3, 2), (3, -1):
        assert_rejects(
            lambda sizes=sizes: impl.SelfAttention(*sizes),
            f"d_in = {sizes[0]}, d_out = {sizes[1]}",
            good=lambda: assert_answers(mine, ref, randn),
        )


def test_no_loop_over_tokens_or_batch(impl, twins, randn):
    """the number of tensor operations does not grow with the tokens or the batch"""
    x = randn(40, 40, 6)

    for causal in False, True:
        mine, ref = twins("SelfAttention", 6, 4, causal=causal)
        assert_no_loop(impl, lambda T, mine=mine: attend(mine, x[:1, :T]), "tokens")
        assert_no_loop(impl, lambda B, mine=mine: attend(mine, x[:B, :3]), "batch items")
        assert_answers(mine, ref, randn)


def test_follows_the_device(impl, twins, randn):
    """computes on the device that the module and x are on, and on the CPU again afterwards"""
    for causal in False, True:
        mine, ref = twins("SelfAttention", 6, 4, causal=causal)
        module, x = impl.SelfAttention(6, 4, causal=causal), randn(2, 5, 6)
        attend(module, x)
        module.to("meta")  # after a call, so that what it has kept must move as well
        far = x.to("meta")  # meta stands for any accelerator

        before, _ = attend(mine, x)
        assert_follows_device(impl, lambda m=module, x=far: attend(m, x), f"context and weights, causal = {causal}")
        after, _ = attend(mine, x)

        assert_close(after, before.detach(), "the context on the CPU, before and after a call on another device")
        assert_answers(mine, ref, randn)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(shape, generator=generator)

    def attended(wq, wk, wv, x, causal):
        module = impl.SelfAttention(wq.shape[1], wq.shape[0], causal)
        biases = {n: torch.zeros_like(p) for n, p in module.state_dict().items() if n.endswith("bias")}
        module.load_state_dict({"wq.weight": wq, "wk.weight": wk, "wv.weight": wv, **biases}, strict=False)
        return [tensor.detach() for tensor in attend(module, x)]

    def answers(d_in, d_out, causal):
        return attended(*draw(3, d_out, d_in), draw(2, 4, d_in), causal)

    def huge_and_causal():
        return attended(*torch.ones(3, 1, 1), torch.tensor([[[-90.0], [0.0], [-100.0]]]), True)

    return {
        "names": observe(lambda: sorted(impl.SelfAttention(3, 2).state_dict())),
        "square": observe(lambda: answers(3, 3, False)),
        "not square": observe(lambda: answers(3, 5, False)),
        "causal": observe(lambda: answers(3, 3, True)),
        "causal, not square": observe(lambda: answers(5, 2, True)),
        "huge scores": observe(huge_and_causal),
    }


def picture(impl):
    """Draw who looks at whom in the book's sentence, without the mask and with it."""
    weights = {name: 6.0 * matrix(rows) for name, rows in BOOK.items()}  # larger than printed, so that choices show

    panels = []
    for causal in False, True:
        module = with_weights(impl, *weights.values(), causal=causal)
        _, seen = attend(module, matrix(TOKENS).unsqueeze(0))
        title = f"{' '.join(SENTENCE)}: {'causal' if causal else 'no mask'}"
        panels.append(Panel(title, seen[0].detach(), x_label="key", y_label="query"))
    return panels
