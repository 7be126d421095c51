"""Hidden suite of multi_head: from the shapes over the parts to the whole.

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


def plain_weights(d_model, **changes):
    """Return weights under which every projection returns its input, except for ``changes``: ``wo_bias=...``."""
    weights = {}
    for name in ("wq", "wk", "wv", "wo"):
        weights[f"{name}.weight"] = changes.get(f"{name}_weight", torch.eye(d_model))
        weights[f"{name}.bias"] = changes.get(f"{name}_bias", torch.zeros(d_model))
    return weights


def plain(impl, d_model, n_heads, dropout=0.0, **changes):
    """Make the learner's module with ``plain_weights``."""
    module = impl.MultiHeadAttention(d_model, n_heads, dropout)
    module.load_state_dict(plain_weights(d_model, **changes))
    return module


def attend(module, query, key, value, mask=None):
    """Call the learner's module and check that a pair comes back."""
    pair = module(query, key, value) if mask is None else module(query, key, value, mask=mask)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise CheckFailure(f"forward should return the pair (output, weights), but {describe(pair)} came.")
    return tuple(pair)


def assert_same(mine, ref, inputs, mask=None, what="random inputs", *, dtype=torch.float32, hint=""):
    """Compare the weights, then the output, with the reference's for the same query, key, value."""
    inputs = [x.to(dtype) for x in inputs]
    output, weights = attend(mine, *inputs, mask)
    right, right_weights = ref(*(x.double() for x in inputs), mask=mask)
    assert_close(weights, right_weights, f"{what}: the weights", dtype=dtype, hint=hint)
    assert_close(output, right, f"{what}: the output", dtype=dtype, hint=hint)


def assert_answers(mine, ref, randn, dtype=torch.float32):
    """Check that the module answers at all: with one key, its projected value comes back, whatever the rest does."""
    for _ in range(2):
        assert_same(mine, ref, randn(3, 2, 1, ref.wo.in_features), what="one query and one key", dtype=dtype)


def some_mask(randint, *shape):
    """Return a random mask in which every row has an allowed key."""
    mask = randint(0, 2, shape).bool()
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


# --- shapes and names -------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the output is (B, T, D) and the weights are (B, H, T, S)"""
    module = impl.MultiHeadAttention(12, 2)
    with torch.no_grad():  # the names come later, and zeros would be fine to start with
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    seen = torch.zeros(0)

    for B, T, S in (3, 5, 7), (3, 5, 7), (2, 7, 4):
        query, memory = randn(B, T, 12), randn(B, S, 12)
        output, weights = attend(module, query, memory, memory)

        sizes = f"B = {B}, T = {T}, S = {S}, D = 12, H = 2"
        assert_shape(weights, (B, 2, T, S), f"the weights for {sizes}", dtype=torch.float32)
        assert_shape(output, (B, T, 12), f"the output for {sizes}", dtype=torch.float32)
        assert_differs(output, seen, "the output of a second call, with other inputs")
        seen = output


@pytest.mark.visible
def test_parameter_names(impl, randn):
    """the weights and biases of wq, wk, wv and wo, and nothing else, are saved and loaded"""
    module = impl.MultiHeadAttention(6, 2)

    assert_names(module.named_parameters(), "named_parameters()")
    assert_names(module.state_dict().items(), "state_dict()")
    for bias in torch.arange(6.0), torch.tensor([5.0, 0.0, -2.0, 1.0, 1.0, 3.0]):
        module.load_state_dict(plain_weights(6, wv_weight=torch.zeros(6, 6), wv_bias=bias))
        output, _ = attend(module, *randn(3, 1, 1, 6))

        assert_close(output.flatten(), bias, "one key, with weights loaded that make every value wv.bias: the output")
    attend(module, *randn(3, 1, 2, 6), torch.ones(2, 2, dtype=torch.bool).tril())
    assert_names(module.state_dict().items(), "state_dict() after three calls")


def assert_names(found, place):
    """Check the names and shapes of (name, tensor) pairs of a module with d_model = 6."""
    came = {name: tuple(tensor.shape) for name, tensor in found}
    asked = {name: tuple(tensor.shape) for name, tensor in plain_weights(6).items()}
    for name in sorted(came.keys() | asked.keys()):
        if came.get(name) != asked.get(name):
            wrong, right = came.get(name, "missing"), asked.get(name, "absent")
            raise CheckFailure(f"{place} for d_model = 6: {name} is {wrong}, but should be {right}.")


# --- parts, worked out by hand ----------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_one_head_by_hand(impl):
    """one head of two features, two queries and two keys, worked out on paper"""
    module = plain(impl, 2, 1)
    query = torch.tensor([[[1.0, 0.0], [0.0, 0.0]]])
    key = torch.tensor([[[math.sqrt(2) * math.log(3), 0.0], [0.0, 5.0]]])
    value = torch.tensor([[[4.0, 0.0], [0.0, 8.0]]])
    by_hand = torch.tensor([[3 / 4, 1 / 4], [1 / 2, 1 / 2]])

    for order in [0, 1], [1, 0]:  # of the queries
        output, weights = attend(module, query[:, order], key, value)

        scores = "scores (ln 3, 0) and (0, 0) after scaling"
        assert_close(weights[0, 0], by_hand[order], f"the weights for {scores}")
        assert_close(output[0], torch.tensor([[3.0, 2.0], [2.0, 4.0]])[order], f"the output for {scores}")


@pytest.mark.visible
def test_scores_are_divided_by_the_root_of_the_head_width(impl):
    """the scores of a head with K features are divided by sqrt(K)"""
    for d_model, n_heads, root in (8, 2, 2.0), (27, 3, 3.0), (16, 1, 4.0):  # K = 4, 9, 16
        module = plain(impl, d_model, n_heads)
        first = torch.zeros(1, 1, d_model)
        first[..., :: d_model // n_heads] = 1.0  # 1 in the first feature of every head
        for odds in 3.0, 4.0:
            memory = torch.cat((root * math.log(odds) * first, 0 * first), dim=1)
            _, weights = attend(module, first, memory, memory)

            by_hand = torch.tensor([odds, 1.0]) / (odds + 1)
            what = f"D = {d_model}, H = {n_heads}: dot products {root * math.log(odds):.4f} and 0, the weights"
            assert_close(weights, by_hand.expand(1, n_heads, 1, 2), what, hint="How many features does a head compare?")


@pytest.mark.visible
@pytest.mark.points(2)
def test_two_heads_by_hand(impl):
    """two heads of two features each, worked out on paper: a head owns K consecutive features"""
    module = plain(impl, 4, 2)
    query = torch.tensor([[[1.0, 0.0, 0.0, 1.0]]])
    key = torch.tensor([[[math.log(3), 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, math.log(4)]]]) * math.sqrt(2)
    value = torch.tensor([[[4.0, 8.0, 0.0, 0.0], [0.0, 0.0, 5.0, 10.0]]])

    for order, scores, by_hand, result in (
        ([0, 1], "(ln 3, 0) and (0, ln 4)", [[3 / 4, 1 / 4], [1 / 5, 4 / 5]], [3.0, 6.0, 4.0, 8.0]),
        ([1, 0], "(0, ln 3) and (ln 4, 0)", [[1 / 4, 3 / 4], [4 / 5, 1 / 5]], [1.0, 2.0, 1.0, 2.0]),
    ):
        output, weights = attend(module, query, key[:, order], value)

        what = f"scores {scores} in heads 0 and 1"
        assert_close(weights[0, :, 0], torch.tensor(by_hand), f"{what}: their weights")
        assert_close(output[0, 0], torch.tensor(result), f"{what}: the output, two features from each")


@pytest.mark.visible
def test_heads_are_joined_in_order(impl, randn):
    """the results of the heads lie side by side, head 0 first, for every token"""
    module = impl.MultiHeadAttention(6, 3)

    for values in torch.arange(1.0, 7.0), torch.tensor([2.0, 3.0, 5.0, 7.0, 11.0, 13.0]):
        module.load_state_dict(plain_weights(6, wv_weight=torch.zeros(6, 6), wv_bias=values))
        output, _ = attend(module, randn(2, 4, 6), *randn(2, 2, 5, 6))

        what = f"every value is {values.int().tolist()}, so every average is; the output before wo"
        assert_close(output, values.expand(2, 4, 6), what, hint="In which order do heads and tokens lie in memory?")


@pytest.mark.visible
def test_output_goes_through_wo(impl, randn):
    """the joined heads go through wo, with its weight and its bias"""
    for n_heads in 1, 2:
        module = impl.MultiHeadAttention(2, n_heads)
        for wo_bias, by_hand in ([0.0, 0.0], [10.0, 3.0]), ([1.0, -1.0], [11.0, 2.0]):
            changes = {"wv_weight": torch.zeros(2, 2), "wv_bias": torch.tensor([3.0, 5.0])}
            changes |= {"wo_weight": torch.tensor([[0.0, 2.0], [1.0, 0.0]]), "wo_bias": torch.tensor(wo_bias)}
            module.load_state_dict(plain_weights(2, **changes))
            output, _ = attend(module, *randn(3, 1, 4, 2))

            what = f"heads (3, 5), wo.weight [[0, 2], [1, 0]] and wo.bias {wo_bias}: the output"
            assert_close(output, torch.tensor(by_hand).expand(1, 4, 2), what)


def test_biases_count(twins, randn):
    """the biases of the projections are added"""
    mine, ref = twins("MultiHeadAttention", 6, 2)
    inputs = randn(3, 2, 4, 6)
    weights = {name: tensor.clone() for name, tensor in ref.state_dict().items()}

    for kept in "wq.bias", "wv.bias", "wo.bias":  # that of wk changes nothing: it adds the same to a row of scores
        changed = {name: torch.zeros_like(w) if "bias" in name and name != kept else w for name, w in weights.items()}
        mine.load_state_dict(changed)
        ref.load_state_dict(changed)
        assert_same(mine, ref, inputs, what=f"only {kept} is not 0")


def test_weights_of_a_query_sum_to_1(twins, randn):
    """the weights of a query are not negative and sum to 1 over the keys"""
    for dtype in PRECISE:
        mine, ref = twins("MultiHeadAttention", 8, 2)
        mine.to(dtype)
        _, weights = attend(mine, *randn(3, 3, 5, 8, dtype=dtype))

        assert_close(weights.sum(dim=-1), torch.ones(3, 2, 5, dtype=dtype), "the sum of each query's weights")
        assert_close(weights, weights.detach().clamp(min=0.0), "weights below 0, which should be 0 or more")
        assert_answers(mine, ref, randn, dtype)


def test_query_key_and_value_have_their_own_parts(twins, randn):
    """self-attention, cross-attention, and a value that is not the key"""
    mine, ref = twins("MultiHeadAttention", 12, 3)
    x, memory, value = randn(2, 4, 12), randn(2, 7, 12), randn(2, 7, 12)

    assert_same(mine, ref, (x, x, x), what="query, key and value are one tensor")
    assert_same(mine, ref, (x, memory, memory), what="4 queries and 7 keys")
    assert_same(mine, ref, (x, memory, value), what="a value that is not the key")


# --- masks ------------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_true_in_a_mask_means_may_attend(impl, randn):
    """a query that may attend to one key alone gets that key's value"""
    module = plain(impl, 4, 2)
    value = torch.arange(12.0).view(1, 3, 4)

    for allowed in [0, 2], [1, 0]:  # the one key that query 0 may attend to, and that of query 1
        mask = torch.zeros(2, 3, dtype=torch.bool)
        mask[[0, 1], allowed] = True
        output, weights = attend(module, randn(1, 2, 4), randn(1, 3, 4), value, mask)

        what = f"queries 0 and 1 may attend to keys {allowed[0]} and {allowed[1]} alone"
        assert_close(weights, mask.float().expand(1, 2, 2, 3), f"{what}: the weights")
        assert_close(output, value[:, allowed], f"{what}: the output")


@pytest.mark.points(2)
def test_masks_of_every_shape(twins, randn, randint):
    """a mask broadcasts to (B, H, T, S)"""
    mine, ref = twins("MultiHeadAttention", 8, 2)

    for dtype in PRECISE:
        mine.to(dtype)
        for shape in (4, 5), (1, 5), (3, 1, 4, 5), (3, 1, 1, 5), (1, 2, 1, 5), (2, 4, 5), (3, 2, 4, 5):
            inputs = randn(3, 4, 8), randn(3, 5, 8), randn(3, 5, 8)
            assert_same(mine, ref, inputs, some_mask(randint, *shape), f"a mask of shape {shape}", dtype=dtype)
    for B, T, shape in (2, 4, (2, 4, 5)), (4, 4, (4, 5)), (5, 4, (4, 5)):  # sizes by which dimensions are mixed up
        mine, inputs = mine.float(), (randn(B, T, 8), randn(B, 5, 8), randn(B, 5, 8))
        assert_same(mine, ref, inputs, some_mask(randint, *shape), f"B = {B}, a mask of shape {shape}")
    for shape in (5,), (2, 1, 5):
        inputs = randn(3, 4, 8), randn(3, 5, 8), randn(3, 5, 8)
        assert_same(mine, ref, inputs, some_mask(randint, *shape), f"a mask of shape {shape}")
    column = torch.tensor([[True], [False], [True], [True]])
    for S in 1, 4:
        inputs = randn(3, 4, 8), randn(3, S, 8), randn(3, S, 8)
        assert_same(mine, ref, inputs, column, f"T = 4, S = {S}, a mask of shape (4, 1)")


def test_masked_weights_are_exactly_0(twins, randn, randint):
    """masked weights are exactly 0 and the others sum to 1, for small scores and for large ones"""
    for dtype in PRECISE:
        mine, ref = twins("MultiHeadAttention", 8, 2)
        mine.to(dtype)
        for size in 1.0, 100.0:  # of the inputs: scores of about 1, and of about 10 000
            mask = some_mask(randint, 3, 1, 4, 5)
            query, memory = size * randn(3, 4, 8, dtype=dtype), size * randn(3, 5, 8, dtype=dtype)
            _, weights = attend(mine, query, memory, memory, mask)

            masked = weights[~mask.expand(3, 2, 4, 5)]
            what = f"inputs of size {size:g}"
            assert_close(masked, torch.zeros_like(masked), f"{what}: the masked weights", tolerance=0.0)
            assert_close(
                weights.sum(dim=-1), torch.ones(3, 2, 4, dtype=dtype), f"{what}: the sum of each query's weights"
            )
            assert_answers(mine, ref, randn, dtype)


@pytest.mark.points(2)
def test_a_query_with_nothing_to_attend_to(twins, randn, randint):
    """a query that may attend to nothing gets weights of 0 and, after wo, the bias of wo"""
    mine, ref = twins("MultiHeadAttention", 8, 2)
    row, item, head = some_mask(randint, 4, 5), some_mask(randint, 3, 1, 1, 5), some_mask(randint, 3, 2, 4, 5)
    row[1], item[2], head[:, 1, 2] = False, False, False
    masks = {"query 1": row, "the last item": item, "query 2 in head 1": head, "everyone": torch.zeros(1, 5).bool()}
    masks["query 3, by a mask (T, 1),"] = torch.tensor([[True], [True], [True], [False]])

    for dtype in (*PRECISE, torch.bfloat16):
        mine.to(dtype)
        for who, mask in masks.items():
            inputs = randn(3, 4, 8), randn(3, 5, 8), randn(3, 5, 8)
            output, weights = attend(mine, *(x.to(dtype) for x in inputs), mask)

            what = f"{who} may attend to nothing"
            some = mask.expand(3, 2, 4, 5).any(dim=-1)  # (B, H, T)
            nothing = torch.zeros(int((~some).sum()), 5, dtype=dtype)
            assert_close(weights[~some], nothing, f"{what}: the weights there", tolerance=0.0)
            assert_close(weights.sum(dim=-1), some.to(dtype), f"{what}: the sum of each query's weights")
            silent = output[~some.any(dim=1)]
            assert_close(silent, ref.wo.bias.to(dtype).expand_as(silent), f"{what}: the output there, which is wo.bias")


def test_masked_keys_leave_no_trace(twins, randn):
    """whatever stands at masked keys and values, padding or the future, the output stays the same"""
    mine, ref = twins("MultiHeadAttention", 6, 2)
    x = randn(2, 6, 6)
    other = x.clone()
    other[:, 4:] += 10.0
    padding, causal = (torch.arange(6) < 4).view(1, 1, 1, 6), torch.ones(6, 6, dtype=torch.bool).tril()

    before, after = (attend(mine, x, memory, memory, padding)[0].detach() for memory in (x, other))
    assert_close(after, before, "keys 4 and 5 are masked and were changed: the output")
    before, after = (attend(mine, tokens, tokens, tokens, causal)[0].detach() for tokens in (x, other))
    assert_close(after[:, :4], before[:, :4], "causal mask, tokens 4 and 5 were changed: the output of tokens 0 to 3")
    assert_differs(after[:, 4:], before[:, 4:], "tokens 4 and 5 were changed: their own output")
    before, after = (attend(mine, tokens, tokens, tokens)[0].detach() for tokens in (x, other))
    assert_differs(after[:, :4], before[:, :4], "no mask, tokens 4 and 5 were changed: the output of tokens 0 to 3")
    dropping, _ = twins("MultiHeadAttention", 6, 2, 0.5)
    other[:, 4:] = 1e6
    output, _ = attend(dropping.train(), x, x, other, padding)
    if not bool((output.abs() < 1e4).all()):
        raise CheckFailure("In training mode with dropout = 0.5, the values of masked keys reach the output.")
    assert_answers(mine, ref, randn)


# --- properties and the whole -----------------------------------------------------------------------------


def test_the_order_of_the_keys_does_not_matter(twins, randn, rng):
    """keys and values shuffled alike: the same output, and the weights shuffled"""
    mine, ref = twins("MultiHeadAttention", 8, 2)
    query, memory = randn(2, 5, 8), randn(2, 5, 8)
    order = rng.sample(range(5), 5)

    output, weights = attend(mine, query, memory, memory)
    shuffled, shuffled_weights = attend(mine, query, memory[:, order], memory[:, order])

    assert_close(shuffled_weights, weights.detach()[..., order], f"keys in the order {order}: the weights")
    assert_close(shuffled, output.detach(), f"keys in the order {order}: the output")
    assert_answers(mine, ref, randn)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000 give right weights, and no NaN"""
    for dtype in PRECISE:
        module = plain(impl, 3, 3).to(dtype)  # K = 1: a score is a product of two numbers
        scores = torch.tensor([[1.0, 1.0, -1.0], [-1.0, -1.0, -1.0], [0.9, 1.0, 0.9]], dtype=dtype) * 10_000  # (H, S)
        value = torch.tensor([[[1.0], [2.0], [6.0]]], dtype=dtype).expand(1, 3, 3)

        for sign, by_hand, result in (
            (1.0, [[1 / 2, 1 / 2, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0]], [1.5, 3.0, 2.0]),
            (-1.0, [[0.0, 0.0, 1.0], [1 / 3, 1 / 3, 1 / 3], [1 / 2, 0.0, 1 / 2]], [6.0, 3.0, 3.5]),
        ):
            output, weights = attend(module, torch.full((1, 1, 3), sign, dtype=dtype), scores.T[None], value)

            what = f"scores of {sign:g} times (1e4, 1e4, -1e4), (-1e4, -1e4, -1e4) and (9e3, 1e4, 9e3) in three heads"
            assert_close(weights[0, :, 0], torch.tensor(by_hand, dtype=dtype), f"{what}: the weights")
            assert_close(output[0, 0], torch.tensor(result, dtype=dtype), f"{what}: the output")
    for dtype in (*PRECISE, torch.bfloat16):
        alone = plain(impl, 1, 1).to(dtype)
        for sign in 1.0, -1.0:
            keys = sign * torch.tensor([[[1e4], [-1e4]]], dtype=dtype)
            mask, value = torch.tensor([[False, True]]), torch.tensor([[[3.0], [5.0]]], dtype=dtype)
            output, weights = attend(alone, torch.ones(1, 1, 1, dtype=dtype), keys, value, mask)

            what = f"a masked score of {sign * 1e4:g} and an allowed one of {-sign * 1e4:g}"
            assert_close(weights.flatten(), torch.tensor([0.0, 1.0], dtype=dtype), f"{what}: the weights")
            assert_close(output.flatten(), torch.tensor([5.0], dtype=dtype), f"{what}: the output")


@pytest.mark.points(3)
def test_matches_the_reference(twins, randn, randint, rng):
    """random sizes, size 1, and tensors that are not contiguous"""
    for B, T, S, H, K in [
        (1, 1, 1, 1, 1),
        (2, 3, 1, 2, 3),
        (2, 1, 4, 5, 1),
        *([rng.choice((1, 2, 3, 5, 7)) for _ in range(5)] for _ in range(6)),
    ]:
        mine, ref = twins("MultiHeadAttention", H * K, H)
        query = randn(T, B, H * K).transpose(0, 1)
        key, value = randn(B, H * K, S).transpose(1, 2), randn(B, S, 2 * H * K)[..., ::2]

        sizes = f"B = {B}, T = {T}, S = {S}, H = {H}, K = {K}"
        assert_same(mine, ref, (query, key, value), what=sizes)
        mask = some_mask(randint, B, 1, T, S)
        assert_same(mine, ref, (query, key, value), mask, f"{sizes}, with a mask")
    mine, ref = twins("MultiHeadAttention", 8, 2)
    x = randn(1, 70, 8)
    assert_same(mine, ref, (x, x, x), what="70 tokens, query, key and value are one tensor")


def test_float64(twins, randn, randint):
    """a float64 module computes in float64 all the way"""
    mine, ref = twins("MultiHeadAttention", 8, 2)  # K = 4: sqrt(K) held in float32 is exact, and welcome
    mine.double()
    finer = {name: w + 1e-6 * randn(*w.shape, dtype=torch.float64) for name, w in ref.state_dict().items()}
    mine.load_state_dict(finer)  # weights that float32 cannot hold
    ref.load_state_dict(finer)

    for mask in None, some_mask(randint, 3, 1, 4, 5):
        inputs = [randn(3, n, 8, dtype=torch.float64) for n in (4, 5, 5)]
        hint = "If the other checks pass: what is rounded to float32 on the way?"
        assert_same(mine, ref, inputs, mask, "float64", dtype=torch.float64, hint=hint)


def test_bfloat16(twins, randn, randint):
    """a bfloat16 module takes and returns bfloat16"""
    mine, ref = twins("MultiHeadAttention", 8, 2)
    mine.bfloat16()
    ref.bfloat16().double()  # the same weights, rounded

    for mask in None, some_mask(randint, 3, 1, 4, 5):
        inputs = randn(3, 4, 8), randn(3, 5, 8), randn(3, 5, 8)
        assert_same(mine, ref, inputs, mask, "bfloat16", dtype=torch.bfloat16)
    nothing = some_mask(randint, 4, 4)
    nothing[2] = False  # query 2 may attend to nothing
    for mask in None, nothing:
        x = randn(2, 4, 8).bfloat16().requires_grad_()
        wide, cotangent = x.detach().double().requires_grad_(), randn(2, 4, 8)
        output, right = attend(mine, x, x, x, mask)[0], ref(wide, wide, wide, mask)[0]
        loose = 0.1 * float(torch.autograd.grad((right * cotangent).sum(), wide, retain_graph=True)[0].abs().max())
        what = "bfloat16: the gradient" if mask is None else "bfloat16: the gradient under a mask"
        assert_gradients_match(output, {"x": x}, right, {"x": wide}, cotangent, what, tolerance=loose)


def assert_same_gradients(mine, ref, dtype, randn, what, mask=None, T=4):
    """Compare the gradients of fresh inputs and of all parameters with the reference's."""
    names = "query", "key", "value"
    inputs = [randn(2, n, 8, dtype=dtype).requires_grad_() for n in (T, 5, 5)]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    leaves = dict(zip(names, inputs, strict=True)) | dict(mine.named_parameters())
    wide_leaves = dict(zip(names, wide, strict=True)) | dict(ref.named_parameters())
    output, right = attend(mine, *inputs, mask)[0], ref(*wide, mask=mask)[0]
    assert_gradients_match(output, leaves, right, wide_leaves, randn(2, T, 8, dtype=dtype), what)


@pytest.mark.points(2)
def test_gradients(twins, randn):
    """the gradients of the inputs and of all parameters, in a second backward pass too"""
    for dtype in PRECISE:
        mine, ref = twins("MultiHeadAttention", 8, 2)
        mine.to(dtype)
        for what in "the gradient", "the gradient in training mode, in a second backward pass":
            mine.train("training" in what)
            assert_same_gradients(mine, ref, dtype, randn, what)
        assert_same_gradients(mine, ref, dtype, randn, "one query: the gradient", T=1)
        x, memory = (randn(2, n, 8, dtype=dtype).requires_grad_() for n in (4, 5))
        wide, wide_memory = (tensor.detach().double().requires_grad_() for tensor in (x, memory))
        cotangent = randn(2, 4, 8, dtype=dtype)
        output, right = attend(mine, x, x, x)[0], ref(wide, wide, wide)[0]
        assert_gradients_match(output, {"x": x}, right, {"x": wide}, cotangent, "self-attention: the gradient")
        output, right = attend(mine, x, memory, memory)[0], ref(wide, wide_memory, wide_memory)[0]
        leaves, wide_leaves = {"query": x, "memory": memory}, {"query": wide, "memory": wide_memory}
        what = "cross-attention, key and value are one tensor: the gradient"
        assert_gradients_match(output, leaves, right, wide_leaves, cotangent, what)
        inputs = randn(3, 2, 4, 8, dtype=dtype)
        output, right = attend(mine, *inputs)[0], ref(*inputs.double())[0]
        leaves, wide_leaves = dict(mine.named_parameters()), dict(ref.named_parameters())
        what = "the gradient, where the inputs need none,"
        assert_gradients_match(output, leaves, right, wide_leaves, cotangent, what)


def test_gradients_under_a_mask(twins, randn, randint):
    """the gradients under a mask, with a query that may attend to nothing: no NaN"""
    for dtype in PRECISE:
        mine, ref = twins("MultiHeadAttention", 8, 2)
        mine.to(dtype)
        for _ in range(2):
            mask = some_mask(randint, 2, 2, 4, 5)
            mask[1, :, 2], mask[0, 1, 3] = False, False  # no head of one query, and one head of another
            assert_same_gradients(mine, ref, dtype, randn, "the gradient under a mask", mask)


# --- dropout ----------------------------------------------------------------------------------------------


def weights_in_training(impl, randn, p, mask, B=256, T=4, S=3):
    """Return the weights that really multiplied the values in training mode, after a check of those returned.

    Every key's value is a unit vector, twice in each head, so the output before wo shows the weights that were used.

    Returns:
        used: Shape (B, T, H, 2, S): one copy from each half of a head's features.
        weights: Those without dropout, returned in eval mode, shape (B, T, H, 1, S).
    """
    module = plain(impl, 4 * S, 2, dropout=p)
    query, key, value = randn(B, T, 4 * S), randn(B, S, 4 * S), torch.eye(S).repeat(B, 1, 4)
    module.eval()
    _, weights = attend(module, query, key, value, mask)
    module.train()
    output, returned = attend(module, query, key, value, mask)

    assert_close(weights.sum(dim=-1), torch.ones(B, 2, T), f"dropout = {p}, eval mode: the sum of a query's weights")
    assert_close(returned, weights.detach(), f"dropout = {p}: the weights returned in training mode and in eval mode")
    return output.detach().view(B, T, 2, 2, S), weights.detach().transpose(1, 2).unsqueeze(3)


@pytest.mark.visible
def test_dropout_falls_on_single_weights(impl, randn):
    """in training, dropout sets single attention weights to 0, and the returned weights are those before"""
    for p, mask in (0.25, None), (0.6, torch.ones(4, 3, dtype=torch.bool)):
        used, _ = weights_in_training(impl, randn, p, mask)
        dropped = used[:, :, :, 0] == 0  # (B, T, H, S)

        share = float(dropped.double().mean())
        if abs(share - p) > 6 * math.sqrt(p * (1 - p) / dropped.numel()):  # six standard deviations
            raise CheckFailure(f"dropout = {p}: {share:.3f} of the weights that multiply the values are 0.")
        what = f"dropout = {p}, values that repeat within a head: the second half of the head's features and the first"
        assert_close(used[..., 1, :], used[..., 0, :], what, hint="What is dropped, weights or something else?")
        for dim, name in enumerate(("batch items", "queries", "heads", "keys")):
            n = dropped.shape[dim] - 1
            both = dropped.narrow(dim, 0, n) & dropped.narrow(dim, 1, n)
            rate = float(both.double().mean())
            if abs(rate - p * p) > 8 * p / math.sqrt(both.numel()):  # seven standard deviations or more
                raise CheckFailure(
                    f"dropout = {p}: neighbouring {name} lose a weight together in {rate:.3f} of all cases, "
                    f"but chance alone makes it {p * p:.3f}. Is every weight drawn on its own?"
                )


@pytest.mark.visible
def test_dropout_keeps_the_average(impl, randn):
    """in training, the weights that are kept grow, so that the output stays the same on average"""
    for p, mask in (0.25, None), (0.6, torch.ones(4, 3, dtype=torch.bool)):
        used, weights = weights_in_training(impl, randn, p, mask)

        kept = used != 0
        grown = (weights / (1 - p)).expand_as(used)
        assert_close(used[kept], grown[kept], f"dropout = {p}: the weights that are not dropped")
        spread = math.sqrt(p / (1 - p) * float((weights**2).mean()) / weights.numel())
        change, what = (used - weights).mean(), f"dropout = {p}: the change of the average weight"
        assert_close(change, torch.tensor(0.0), what, tolerance=6 * spread)  # six standard deviations


def test_gradients_with_dropout(impl, randn):
    """in training, gradients flow through the weights that are kept; dropout works in float64 and bfloat16 too"""
    unit_vectors = torch.eye(4).repeat(5, 1, 2)  # values, in each head, so that the output shows the weights
    for dtype in (*PRECISE, torch.bfloat16):
        module = plain(impl, 8, 2, 0.5).to(dtype).train()
        inputs = [x.to(dtype).requires_grad_() for x in (randn(5, 3, 8), randn(5, 4, 8), unit_vectors)]
        wide = [x.detach().double().requires_grad_() for x in inputs]
        output, _ = attend(module, *inputs)

        what = f"training mode with dropout = 0.5 in {str(dtype).removeprefix('torch.')}"
        assert_shape(output, (5, 3, 8), f"{what}: the output", dtype=dtype)
        q, k, v = (x.unflatten(2, (2, 4)).transpose(1, 2) for x in wide)  # the projections return their inputs
        kept = output.detach().unflatten(2, (2, 4)).transpose(1, 2) != 0  # (B, H, T, S)
        right = ((q @ k.mT / 2).softmax(dim=-1) * kept / 0.5 @ v).transpose(1, 2).flatten(2)
        assert_close(output, right, f"{what}: the output", dtype=dtype)
        if dtype != torch.bfloat16:
            leaves, wide_leaves = (dict(zip(("query", "key", "value"), some, strict=True)) for some in (inputs, wide))
            cotangent = randn(5, 3, 8, dtype=dtype)
            assert_gradients_match(output, leaves, right, wide_leaves, cotangent, f"{what}: the gradient")


def test_dropout_rests_in_eval(twins, randn):
    """dropout does nothing in eval mode or with probability 0, and draws afresh in training"""
    mine, ref = twins("MultiHeadAttention", d_model=8, n_heads=2, dropout=0.5)
    never, _ = twins("MultiHeadAttention", 8, 2)
    inputs = randn(3, 2, 5, 8)

    first, second = (attend(mine, *inputs)[0].detach() for _ in range(2))
    assert_close(second, first, "two calls in eval mode with dropout = 0.5")
    mine.train()
    first, second = (attend(mine, *inputs)[0].detach() for _ in range(2))
    assert_differs(first, second, "two calls in training mode with dropout = 0.5")
    x = inputs[0]
    with torch.no_grad():
        (first, before), (second, _) = attend(mine.eval(), x, x, x), attend(mine.train(), x, x, x)
        third, weights = attend(mine, x, x, x)
    what = "dropout = 0.5, under no_grad, query, key and value are one tensor:"
    assert_differs(second, first, f"{what} training mode and eval mode")
    assert_differs(third, second, f"{what} two calls in training mode")
    assert_close(weights, before, f"{what} the weights returned in training mode and in eval mode")
    mine.eval()
    assert_answers(mine, ref, randn)
    first = attend(never, *inputs)[0].detach()
    never.train()
    assert_close(attend(never, *inputs)[0], first, "no dropout, training mode and eval mode")


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls(twins, randn, randint):
    """one module, call after call with other sizes, masks and dtypes"""
    mine, ref = twins("MultiHeadAttention", 8, 2)

    for dtype in torch.float32, torch.float64, torch.float32:
        mine.to(dtype)
        for B, T, S, masked in (2, 3, 4, True), (2, 3, 4, True), (2, 3, 4, False), (1, 6, 2, True), (4, 2, 7, False):
            inputs = randn(B, T, 8), randn(B, S, 8), randn(B, S, 8)
            mask = some_mask(randint, B, 1, T, S) if masked else None
            assert_same(mine, ref, inputs, mask, f"B = {B}, T = {T}, S = {S}, after other calls", dtype=dtype)
            with torch.no_grad():
                assert_same(mine, ref, inputs, mask, f"B = {B}, T = {T}, S = {S}, under no_grad", dtype=dtype)
        inputs, mask = [randn(2, 4, 8) for _ in range(3)], some_mask(randint, 4, 4)
        assert_same(mine.train(), ref, inputs, mask, "training mode with dropout = 0 and a mask", dtype=dtype)
        mine.eval()
    output, weights = mine(*inputs, mask)
    right, right_weights = ref(*(x.double() for x in inputs), mask)
    assert_close(weights, right_weights, "called with the mask as fourth argument: the weights", dtype=torch.float32)
    assert_close(output, right, "called with the mask as fourth argument: the output", dtype=torch.float32)


def test_modules_are_their_weights(twins, randn):
    """answers follow weights that were changed in place, whatever other modules there are"""
    mine, ref = twins("MultiHeadAttention", 8, 2)
    other, other_ref = twins("MultiHeadAttention", 8, 4)

    for factor in 1.0, -0.5, 2.0:
        with torch.no_grad():
            for parameter in (*mine.parameters(), *ref.parameters()):
                parameter.mul_(factor)
            assert_same(mine, ref, randn(3, 2, 5, 8), what=f"all weights and biases times {factor}, under no_grad")
        assert_same(mine, ref, randn(3, 2, 5, 8), what=f"all weights and biases times {factor}")
        assert_same(other, other_ref, randn(3, 2, 5, 8), what="4 heads, beside a module with 2 heads")


def test_batch_items_do_not_meet(twins, randn, randint):
    """an item of a batch gets the same answer alone"""
    mine, ref = twins("MultiHeadAttention", 6, 2)
    query, memory, mask = randn(3, 4, 6), randn(3, 5, 6), some_mask(randint, 3, 1, 1, 5)

    together, weights = attend(mine, query, memory, memory, mask)

    for i in range(3):
        one = slice(i, i + 1)
        alone, its_weights = attend(mine, query[one], memory[one], memory[one], mask[one])
        assert_close(its_weights, weights[one].detach(), f"item {i} alone and in a batch of 3: the weights")
        assert_close(alone, together[one].detach(), f"item {i} alone and in a batch of 3: the output")
    assert_answers(mine, ref, randn)


def test_leaves_the_inputs_alone(twins, randn, randint):
    """query, key, value and mask are the same after the call"""
    mine, ref = twins("MultiHeadAttention", 6, 2)
    query, key, value = randn(3, 2, 5, 6)
    inputs = {"query": query, "key": key, "value": value, "mask": some_mask(randint, 2, 1, 5, 5)}
    before = {name: tensor.clone() for name, tensor in inputs.items()}

    attend(mine, *inputs.values())

    for name, tensor in inputs.items():
        assert_close(tensor, before[name], f"the {name} after the call and before it", tolerance=0.0)
    assert_answers(mine, ref, randn)


def test_errors(impl, twins, randn):
    """sizes below 1 and a head count that does not divide d_model raise ValueError"""
    mine, ref = twins("MultiHeadAttention", 6, 3)

    for d_model, n_heads in (6, 0), (6, -2), (0, 1), (-6, 3), (6, 4), (3, 6):
        assert_rejects(
            lambda sizes=(d_model, n_heads): impl.MultiHeadAttention(*sizes),
            f"d_model = {d_model}, n_heads = {n_heads}",
            good=lambda: assert_answers(mine, ref, randn),
        )


def test_no_loop_over_tokens_or_batch(impl, twins, randn):
    """the number of tensor operations does not grow with the tokens or the batch"""
    mine, ref = twins("MultiHeadAttention", 8, 2)
    x, many = randn(5, 5, 8), randn(40, 40, 8)
    mask = torch.ones(40, 40, dtype=torch.bool).tril()

    assert_no_loop(impl, lambda n: attend(mine, many[:1, :n], x[:1], x[:1], mask[:n, :5]), "queries")
    assert_no_loop(impl, lambda n: attend(mine, x[:1], many[:1, :n], many[:1, :n], mask[:5, :n]), "keys")
    assert_no_loop(impl, lambda n: attend(mine, many[:n, :5], many[:n, :5], many[:n, :5], mask[:5, :5]), "batch items")
    assert_answers(mine, ref, randn)


def test_follows_the_device(impl, twins, randn):
    """computes on the device that the module and the inputs are on"""
    module = impl.MultiHeadAttention(6, 2, 0.1).to("meta")
    x = randn(2, 5, 6).to("meta")

    for mask in None, torch.ones(5, 5, dtype=torch.bool, device="meta"):
        assert_follows_device(impl, lambda mask=mask: attend(module, x, x, x, mask), "output and weights")
    assert_answers(*twins("MultiHeadAttention", 6, 2), randn)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(tensor.shape, generator=generator) for name, tensor in plain_weights(6).items()}
    query, key, value = (torch.randn(2, n, 6, generator=generator) for n in (3, 4, 4))
    few = torch.tensor([[True, False, True, False], [False, False, True, False], [True, True, True, False]])
    none = few & torch.tensor([[True], [False], [True]])  # query 1 may attend to nothing

    def answer(query, mask=None, dropout=0.0):
        module = impl.MultiHeadAttention(6, 2, dropout)
        module.load_state_dict(weights, strict=False)
        module.eval()
        return [tensor.detach() for tensor in attend(module, query, key, value, mask)]

    def rests_in_eval():
        return [torch.allclose(*pair) for pair in zip(answer(query), answer(query, dropout=0.5), strict=True)]

    def drops():
        module = impl.MultiHeadAttention(4, 2, 0.5)
        module.load_state_dict(plain_weights(4), strict=False)
        module.train()
        ones = torch.zeros(500, 3, 4), torch.zeros(500, 4, 4), torch.ones(500, 4, 4)
        output, returned = attend(module, *ones)  # weights of 1/4; the output counts those kept
        steps, weights = ([round(x, 3) for x in tensor.unique().tolist()] for tensor in (output, returned))
        return steps, weights, torch.equal(output[..., 0], output[..., 1])

    return {
        "names": observe(lambda: sorted(impl.MultiHeadAttention(6, 2).state_dict())),
        "cross": observe(lambda: answer(query)),
        "square": observe(lambda: answer(key)),
        "masked": observe(lambda: answer(query, few)),
        "nothing allowed": observe(lambda: answer(query, none)),
        "dropout in eval": observe(rests_in_eval),
        "dropout in training": observe(drops),
    }


def picture(impl):
    """Draw whom each head attends to: head 0 sees a token's place on a circle, head 1 whether it is even or odd."""
    place = torch.arange(12.0) * (2 * math.pi / 12)
    odd = torch.arange(12) % 2
    x = torch.stack((2 * place.cos(), 2 * place.sin(), 2.0 * odd, 2.0 - 2.0 * odd), dim=-1)[None]  # (1, 12, 4)
    module = plain(impl, 4, 2)

    panels = []
    for name, mask in ("no mask", None), ("causal mask", torch.ones(12, 12, dtype=torch.bool).tril()):
        _, weights = attend(module, x, x, x, mask)
        for head, sight in enumerate(("place on a circle", "even or odd")):
            title = f"head {head} ({sight}), {name}"
            panels.append(Panel(title, weights[0, head].detach(), x_label="key", y_label="query"))
    return panels
