"""The hidden suite of ``scaled_dot_product``: from the shapes over the parts to the whole.

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
    assert_shape,
    describe,
    observe,
)

PRECISE = (torch.float32, torch.float64)
COARSE = {torch.float32: 1e-3}  # float32 knows a score of 10 000 to this precision


def attend(impl, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Call the learner's function and check that a pair comes back."""
    call = impl.scaled_dot_product_attention
    pair = call(q, k, v) if mask is None else call(q, k, v, mask=mask)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise CheckFailure(f"The function should return the pair (output, weights), but {describe(pair)} came.")
    return tuple(pair)


def draw(randn, *lead: int, T: int = 4, S: int = 5, K: int = 4, Kv: int = 3, dtype=torch.float32) -> list[Tensor]:
    """Return random queries, keys and values."""
    return [randn(*lead, rows, width, dtype=dtype) for rows, width in ((T, K), (S, K), (S, Kv))]


def some_mask(randint, *shape: int) -> Tensor:
    """Return a random mask in which every row has an allowed key."""
    mask = randint(0, 2, shape).bool()
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


def assert_same(impl, reference, inputs, mask=None, what="random inputs", *, dtype=torch.float32, hint="") -> None:
    """Compare the weights, then the output, with the reference's for the same inputs."""
    inputs = [x.to(dtype) for x in inputs]
    output, weights = attend(impl, *inputs, mask)
    right, right_weights = reference.scaled_dot_product_attention(*(x.double() for x in inputs), mask)
    assert_close(weights, right_weights, f"{what}: the weights", dtype=dtype, hint=hint)
    assert_close(output, right, f"{what}: the output", dtype=dtype, hint=hint)


def assert_answers(impl, randn, dtype: torch.dtype = torch.float32) -> None:
    """Check that the function answers at all: with one key, its value comes back, whatever the rest does."""
    for _ in range(2):
        q, k, v = draw(randn, 2, T=1, S=1, dtype=dtype)
        output, weights = attend(impl, q, k, v)
        assert_close(weights, torch.ones(2, 1, 1, dtype=dtype), "one query and one key: the weight")
        assert_close(output, v, "one query and one key: the output, and the value")


# --- shapes ----------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the output is (..., T, Kv) and the weights are (..., T, S)"""
    seen = torch.zeros(0)

    for lead in (2, 3), (2, 3), (2,), (), (2, 1, 3):
        inputs = draw(randn, *lead)
        output, weights = attend(impl, *inputs)

        sizes = f"q {tuple(inputs[0].shape)}, k {tuple(inputs[1].shape)}, v {tuple(inputs[2].shape)}"
        assert_shape(weights, (*lead, 4, 5), f"{sizes}: the weights", dtype=torch.float32)
        assert_shape(output, (*lead, 4, 3), f"{sizes}: the output", dtype=torch.float32)
        assert_differs(output, seen, "the output of a second call, with other inputs")
        seen = output


# --- parts, worked out by hand ---------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_worked_out_by_hand(impl):
    """two queries and two keys with two features each, worked out on paper"""
    q = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    k = torch.tensor([[math.sqrt(2) * math.log(3), 7.0], [0.0, 5.0]])
    v = torch.tensor([[4.0, 0.0], [0.0, 8.0]])
    by_hand, result = torch.tensor([[3 / 4, 1 / 4], [1 / 2, 1 / 2]]), torch.tensor([[3.0, 2.0], [2.0, 4.0]])

    for order in [0, 1], [1, 0]:  # of the queries
        output, weights = attend(impl, q[order], k, v)

        scores = "scores (ln 3, 0) and (0, 0) after scaling"
        assert_close(weights, by_hand[order], f"the weights for {scores}")
        assert_close(output, result[order], f"the output for {scores}")


@pytest.mark.visible
@pytest.mark.points(2)
def test_scores_are_divided_by_the_root_of_their_width(impl):
    """the scores of queries with K features are divided by sqrt(K)"""
    for K, root in (4, 2.0), (9, 3.0), (16, 4.0), (1, 1.0):
        for odds in 3.0, 4.0:
            first = torch.zeros(3, K)
            first[:, 0] = 1.0
            k = torch.stack((root * math.log(odds) * first[0], 0 * first[0]))
            _, weights = attend(impl, first, k, torch.ones(2, 5))

            by_hand = torch.tensor([odds, 1.0]) / (odds + 1)
            what = f"K = {K}, Kv = 5, dot products {root * math.log(odds):.4f} and 0: the weights"
            assert_close(weights, by_hand.expand(3, 2), what, hint="How many terms has one dot product?")


@pytest.mark.visible
def test_values_have_their_own_width(impl):
    """values wider or narrower than keys are averaged by the weights"""
    q, k = torch.zeros(1, 2), torch.zeros(2, 2)
    v = torch.tensor([[1.0, 2.0, 3.0, 4.0, 5.0], [3.0, 2.0, 1.0, 0.0, 9.0]])

    for width, sign in (5, 1.0), (5, -1.0), (1, 1.0), (1, -1.0):
        output, _ = attend(impl, q, k, sign * v[:, :width])

        by_hand = sign * torch.tensor([[2.0, 2.0, 2.0, 2.0, 7.0]])[:, :width]
        assert_close(output, by_hand, f"scores (0, 0) and two values of {width} features: their average")


# --- what makes it attention -----------------------------------------------------------------------------


def test_weights_of_a_query_sum_to_1(impl, randn):
    """the weights of a query are not negative and sum to 1 over the keys"""
    for dtype in PRECISE:
        for lead in (), (3,), (2, 3):
            _, weights = attend(impl, *draw(randn, *lead, dtype=dtype))

            what = f"{len(lead)} leading dimensions"
            assert_close(weights.sum(dim=-1), torch.ones(*lead, 4, dtype=dtype), f"{what}: the sums of the weights")
            assert_close(weights, weights.detach().clamp(min=0.0), f"{what}: weights below 0, which should be above")
        assert_answers(impl, randn, dtype)


@pytest.mark.points(2)
def test_any_number_of_leading_dimensions(impl, randn):
    """a slice of a batch gets the same answer alone, with one to four leading dimensions"""
    for lead in (3,), (2, 3), (4, 4), (2, 1, 3), (2, 1, 2, 2):
        inputs = draw(randn, *lead, T=4, S=4, K=4)  # all alike, so that mixed up dimensions fit
        together = attend(impl, *inputs)

        for place in (lead[0] - 1, *[0] * (len(lead) - 1)), (*[0] * (len(lead) - 1), lead[-1] - 1):
            alone = attend(impl, *(x[place] for x in inputs))
            for name, mine, right in zip(("output", "weights"), alone, together, strict=True):
                what = f"slice {list(place)} of inputs with leading dimensions {lead}, alone and among the others"
                assert_close(mine, right.detach()[place], f"{what}: the {name}")
    assert_answers(impl, randn)


def test_the_order_of_the_keys_does_not_matter(impl, randn):
    """keys that change places together with their values change no output"""
    q, k, v = draw(randn, 2, 3)
    order = torch.tensor([3, 0, 4, 1, 2])

    output, weights = attend(impl, q, k, v)
    mixed, mixed_weights = attend(impl, q, k[..., order, :], v[..., order, :])

    assert_close(mixed, output.detach(), "the keys and values in another order: the output")
    what = "the keys and values in another order: the weights, in that order"
    assert_close(mixed_weights, weights.detach()[..., order], what)
    assert_answers(impl, randn)


def test_queries_do_not_see_each_other(impl, randn):
    """a query gets the same answer alone and among others, in any order"""
    q, k, v = draw(randn, 2, 3)
    order = torch.tensor([2, 0, 3, 1])

    output, weights = (tensor.detach() for tensor in attend(impl, q, k, v))
    mixed, mixed_weights = attend(impl, q[..., order, :], k, v)
    alone, its_weights = attend(impl, q[..., 1:2, :], k, v)

    assert_close(mixed_weights, weights[..., order, :], "the queries in another order: the weights, in that order")
    assert_close(mixed, output[..., order, :], "the queries in another order: the output, in that order")
    assert_close(its_weights, weights[..., 1:2, :], "query 1 alone and among four: the weights")
    assert_close(alone, output[..., 1:2, :], "query 1 alone and among four: the output")
    assert_answers(impl, randn)


def test_a_vector_added_to_all_keys_changes_nothing(impl, randn):
    """a vector that is added to all keys changes no weight; added to all values, it is added to the output"""
    for dtype in PRECISE:
        q, k, v = draw(randn, 2, dtype=dtype)
        added, wide = randn(2, 1, 4, dtype=dtype), randn(2, 1, 3, dtype=dtype)

        output, weights = attend(impl, q, k, v)
        moved, moved_weights = attend(impl, q, k + added, v + wide)

        assert_close(moved_weights, weights.detach(), "a vector added to all keys: the weights, which should not move")
        assert_close(moved, output.detach() + wide, "a vector added to all values: the output, which should move along")
        assert_answers(impl, randn, dtype)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000, in float32, float64 and bfloat16"""
    scores = torch.tensor([[1.0, 1.0, -1.0], [-1.0, -1.0, -1.0], [0.5, 1.0, 0.5], [3.0, 2.0, -3.0]]) * 10_000
    thirds = [1 / 3, 1 / 3, 1 / 3]
    for dtype in (*PRECISE, torch.bfloat16):
        q, v = torch.ones(4, 1, 1, dtype=dtype), torch.tensor([[1.0], [2.0], [6.0]], dtype=dtype).expand(4, 3, 1)

        for sign, by_hand, result in (
            (1.0, [[1 / 2, 1 / 2, 0.0], thirds, [0.0, 1.0, 0.0], [1.0, 0.0, 0.0]], [1.5, 3.0, 2.0, 1.0]),
            (-1.0, [[0.0, 0.0, 1.0], thirds, [1 / 2, 0.0, 1 / 2], [0.0, 0.0, 1.0]], [6.0, 3.0, 3.5, 6.0]),
        ):
            output, weights = attend(impl, sign * q, scores.to(dtype).unsqueeze(-1), v)

            rows = "(1e4, 1e4, -1e4), (-1e4, -1e4, -1e4), (5e3, 1e4, 5e3) and (3e4, 2e4, -3e4)"
            what = f"K = 1, scores of {sign:g} times {rows}"
            assert_close(
                weights[:, 0], torch.tensor(by_hand, dtype=dtype), f"{what}: the weights", tolerance=COARSE.get(dtype)
            )
            right = torch.tensor(result, dtype=dtype)
            assert_close(output[:, 0, 0], right, f"{what}: the output", tolerance=COARSE.get(dtype))


# --- masks -----------------------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_true_in_a_mask_means_may_attend(impl, randn):
    """a query that may attend to one key alone gets that key's value"""
    v = torch.arange(12.0).view(3, 4)

    for allowed in [0, 2], [1, 0]:  # the one key that query 0 may attend to, and that of query 1
        mask = torch.zeros(2, 3, dtype=torch.bool)
        mask[[0, 1], allowed] = True
        output, weights = attend(impl, randn(2, 5), randn(3, 5), v, mask)

        what = f"queries 0 and 1 may attend to keys {allowed[0]} and {allowed[1]} alone"
        assert_close(weights, mask.float(), f"{what}: the weights")
        assert_close(output, v[allowed], f"{what}: the output")


@pytest.mark.points(2)
def test_masks_of_every_shape(impl, randn, randint):
    """a mask broadcasts to (..., T, S); keys that score alike share what there is"""
    shapes = {  # leading dimensions and S, for T = 4; some sizes are alike, so that mixed up dimensions fit
        ((3, 2), 5): [(4, 5), (5,), (1, 5), (4, 1), (3, 1, 1, 5), (1, 2, 1, 5), (2, 4, 5), (2, 1, 5), (3, 2, 4, 5)],
        ((3, 3), 5): [(3, 4, 5), (3, 1, 4, 5)],  # the first belongs to the heads
        ((4, 4), 4): [(4, 4), (4, 1), (1, 4), (4,), (4, 4, 4), (4, 1, 1, 4), (4, 1, 4, 1)],
        ((3,), 5): [(4, 5), (5,), (1, 5), (3, 1, 5), (1, 4, 5), (3, 4, 5)],
        ((4,), 5): [(4, 5), (4, 1), (4, 1, 5)],
        ((), 5): [(4, 5), (5,), (1, 5), (4, 1)],
        ((), 4): [(4, 1)],
        ((2,), 1): [(4, 1), (2, 1, 1)],
        ((2, 1, 3), 5): [(4, 5), (3, 1, 5), (2, 1, 1, 1, 5)],
        ((2, 1, 2, 1), 5): [(2, 1, 4, 5)],
    }

    for (lead, S), masks in shapes.items():
        for shape in masks:
            for _ in range(2):
                q, k, v = draw(randn, *lead, S=S)
                mask = randint(0, 2, shape).bool() if shape[-1] == 1 else some_mask(randint, *shape)
                output, weights = attend(impl, 0 * q, k, v, mask)  # all scores are 0, so that their scale is no matter

                allowed = mask.expand(*lead, 4, S)
                by_hand = allowed / allowed.sum(dim=-1, keepdim=True).clamp(min=1)
                what = f"queries of 0 with leading dimensions {lead}, S = {S} and a mask of shape {shape}"
                assert_close(weights, by_hand, f"{what}: the weights")
                assert_close(output, by_hand @ v, f"{what}: the output")


def test_masked_weights_are_exactly_0(impl, randn, randint):
    """masked weights are exactly 0 and the others sum to 1, for small scores and for large ones"""
    for dtype in PRECISE:
        for size in 1.0, 100.0:  # of the inputs: scores of about 1, and of about 10 000
            mask = some_mask(randint, 3, 1, 4, 5)
            q, k, v = draw(randn, 3, 2, dtype=dtype)
            _, weights = attend(impl, size * q, size * k, v, mask)

            masked = weights[~mask.expand(3, 2, 4, 5)]
            what = f"queries and keys of size {size:g}"
            assert_close(masked, torch.zeros_like(masked), f"{what}: the masked weights", tolerance=0.0)
            ones, tolerance = torch.ones(3, 2, 4, dtype=dtype), None if size == 1 else COARSE.get(dtype)
            assert_close(weights.sum(dim=-1), ones, f"{what}: the sum of each query's weights", tolerance=tolerance)
        assert_answers(impl, randn, dtype)


@pytest.mark.points(2)
def test_a_query_with_nothing_to_attend_to(impl, randn, randint):
    """a query that may attend to nothing gets weights of 0 and an output of 0"""
    row, item, head = some_mask(randint, 4, 5), some_mask(randint, 3, 1, 1, 5), some_mask(randint, 3, 2, 4, 5)
    row[1], item[2], head[:, 1, 2] = False, False, False
    masks = {"query 1": row, "the last item": item, "query 2 in head 1": head, "everyone": torch.zeros(1, 5).bool()}
    masks["everyone, by a mask of shape (1, 1),"] = torch.tensor([[False]])
    masks["query 3, by a mask of shape (4, 1),"] = torch.tensor([[True], [True], [True], [False]])

    for dtype in (*PRECISE, torch.bfloat16):
        for who, mask in masks.items():
            output, weights = attend(impl, *draw(randn, 3, 2, dtype=dtype), mask)

            what = f"{who} may attend to nothing"
            some = mask.expand(3, 2, 4, 5).any(dim=-1)
            for name, rows in ("weights", weights[~some]), ("output", output[~some]):
                assert_close(rows, torch.zeros_like(rows), f"{what}: the {name} there", dtype=dtype, tolerance=0.0)
            assert_close(weights.sum(dim=-1), some.to(dtype), f"{what}: the sum of each query's weights")
        assert_answers(impl, randn, dtype)


def test_masked_keys_leave_no_trace(impl, randn):
    """whatever stands at masked keys and values, padding or the future, the output stays the same"""
    q, k, v = draw(randn, 2, T=6, S=6)
    padding = torch.tensor([[True] * 6, [True, True, True, True, False, False]])[:, None]
    causal = torch.ones(6, 6, dtype=torch.bool).tril()
    other_k, other_v = k.clone(), v.clone()
    other_k[1, 4:], other_v[1, 4:] = 50.0, -700.0
    future_k, future_v = torch.cat((k[:, :4], 30 * randn(2, 2, 4)), dim=1), torch.cat((v[:, :4], randn(2, 2, 3)), dim=1)

    before, _ = attend(impl, q, k, v, padding)
    after, _ = attend(impl, q, other_k, other_v, padding)
    assert_close(after, before.detach(), "other keys and values where the padding is: the output")
    before, _ = attend(impl, q, k, v, causal)
    after, _ = attend(impl, q, future_k, future_v, causal)
    assert_close(after[:, :4], before.detach()[:, :4], "other tokens 4 and 5 under a causal mask: outputs 0 to 3")
    assert_differs(after[:, 4:], before[:, 4:], "other tokens 4 and 5 under a causal mask: outputs 4 and 5")
    assert_answers(impl, randn)


# --- the numbers, on inputs of every kind ----------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_the_reference(impl, reference, randn, randint, rng):
    """random sizes, size 1, and tensors that are not contiguous, with a mask and without"""
    for lead in (), (1,), (3,), (2, 3), (3, 1), (2, 1, 2):
        T, S, K, Kv = (rng.choice((1, 2, 3, 5, 7)) for _ in range(4))
        q = randn(*lead, K, T).transpose(-2, -1)
        k, v = randn(*lead, S, 2 * K)[..., ::2], randn(S, *lead, Kv).movedim(0, -2)

        sizes = f"leading dimensions {lead}, T = {T}, S = {S}, K = {K}, Kv = {Kv}"
        assert_same(impl, reference, (q, k, v), what=sizes)
        mask = some_mask(randint, *lead, S, T).mT
        mask[..., 0] |= ~mask.any(dim=-1)
        assert_same(impl, reference, (q, k, v), mask, f"{sizes}, with a mask")
    for mask in None, some_mask(randint, 60, 70):
        what = f"T = 60, S = 70, K = 128, Kv = 32, {'no mask' if mask is None else 'with a mask'}"
        assert_same(impl, reference, draw(randn, 2, T=60, S=70, K=128, Kv=32), mask, what)
    assert_same(impl, reference, draw(randn, 9, 9, T=9, S=9, K=9, Kv=9), what="B = H = T = S = K = Kv = 9")
    for x in randn(2, 7, 4), randn(2, 3, 4, 4):
        assert_same(impl, reference, (x, x, x), what="one tensor for queries, keys and values")
    q, memory = randn(2, 4, 3), randn(2, 5, 3)
    assert_same(impl, reference, (q, memory, memory), what="one tensor for keys and values")


def test_float64(impl, reference, randn, randint):
    """float64 inputs are computed in float64 all the way"""
    for K in 4, 16:  # a sqrt(K) held in float32 is exact, and welcome
        for mask in None, some_mask(randint, 3, 1, 4, 5):
            hint = "If the other checks pass: what is rounded to float32 on the way?"
            inputs = draw(randn, 3, 2, K=K)
            assert_same(impl, reference, inputs, mask, f"float64, K = {K}", dtype=torch.float64, hint=hint)


def test_bfloat16(impl, reference, randn, randint):
    """bfloat16 inputs give a bfloat16 output and bfloat16 weights, and gradients flow as well"""
    for mask in None, None, some_mask(randint, 3, 1, 4, 5):
        assert_same(impl, reference, draw(randn, 3, 2, S=6), None, "bfloat16", dtype=torch.bfloat16)
        assert_same(impl, reference, draw(randn, 3, 2), mask, "bfloat16", dtype=torch.bfloat16)
    nothing = some_mask(randint, 3, 1, 4, 5)
    nothing[1, :, 2] = False
    for mask in None, nothing:
        assert_same_gradients(impl, reference, randn, (3, 2), mask, torch.bfloat16, "the gradient in bfloat16")


def assert_same_gradients(impl, reference, randn, lead, mask, dtype, what, names: str = "qkv", **sizes: int) -> None:
    """Compare the gradients of fresh queries, keys and values with the reference's.

    Args:
        names: Which of the three require a gradient; "x" if one tensor stands for all of them.
    """
    if names == "x":
        x = randn(*lead, 5, 4, dtype=dtype).requires_grad_()
        wide = x.detach().double().requires_grad_()
        inputs, wide_inputs, leaves, wide_leaves = (x, x, x), (wide, wide, wide), {"x": x}, {"x": wide}
    else:
        inputs = draw(randn, *lead, dtype=dtype, **sizes)
        wide_inputs = [x.clone().double() for x in inputs]
        leaves, wide_leaves = (
            {name: x.requires_grad_() for name, x in zip("qkv", some, strict=True) if name in names}
            for some in (inputs, wide_inputs)
        )
    output, _ = attend(impl, *inputs, mask)
    right, _ = reference.scaled_dot_product_attention(*wide_inputs, mask)
    cotangent, tolerance = randn(*right.shape, dtype=dtype), None
    if dtype == torch.bfloat16:
        loss = (right * cotangent.double()).sum()
        gradients = torch.autograd.grad(loss, list(wide_leaves.values()), retain_graph=True)
        tolerance = 0.1 * max(float(gradient.abs().max()) for gradient in gradients)
    assert_gradients_match(output, leaves, right, wide_leaves, cotangent, what, tolerance=tolerance)


@pytest.mark.points(2)
def test_gradients(impl, reference, randn):
    """the gradients of q, k and v, in a second call too, also if they are one tensor, and of one of them alone"""
    for dtype in PRECISE:
        for lead in (), (2, 3), (2, 3):
            what = f"the gradient with leading dimensions {lead}"
            assert_same_gradients(impl, reference, randn, lead, None, dtype, what)
        what = "one tensor for queries, keys and values: the gradient"
        assert_same_gradients(impl, reference, randn, (2, 3), None, dtype, what, "x")
        for name in "qkv":
            assert_same_gradients(
                impl, reference, randn, (2,), None, dtype, f"only {name} needs one: the gradient", name
            )
        for sizes in {"T": 1}, {"S": 1}, {"K": 1}:
            what = f"{sizes}: the gradient"
            assert_same_gradients(impl, reference, randn, (2, 3), None, dtype, what, **sizes)


@pytest.mark.points(2)
def test_gradients_under_a_mask(impl, reference, randn, randint):
    """the gradients under a mask, with a query that may attend to nothing: no NaN"""
    for dtype in PRECISE:
        for _ in range(2):
            mask = some_mask(randint, 2, 3, 4, 5)
            mask[1, :, 2], mask[0, 1, 3] = False, False
            assert_same_gradients(impl, reference, randn, (2, 3), mask, dtype, "the gradient under a mask")
        nothing = torch.zeros(1, 5, dtype=torch.bool)
        assert_same_gradients(impl, reference, randn, (2,), nothing, dtype, "the gradient where nothing is allowed")
        column = torch.tensor([[True], [False], [True], [True]])
        for S in 5, 1:
            what = f"S = {S}, a mask of shape (4, 1): the gradient"
            assert_same_gradients(impl, reference, randn, (2,), column, dtype, what, S=S)
        causal = torch.ones(5, 5, dtype=torch.bool).tril()
        what = "one tensor for queries, keys and values, a causal mask: the gradient"
        assert_same_gradients(impl, reference, randn, (2, 3), causal, dtype, what, "x")


# --- good manners ----------------------------------------------------------------------------------------


def test_repeated_calls(impl, reference, randn, randint):
    """call after call with other sizes, masks and dtypes, also under no_grad"""
    for dtype in torch.float32, torch.float64, torch.float32:
        for T, S, K, masked in (3, 4, 4, True), (3, 4, 4, True), (3, 4, 4, False), (6, 2, 16, True), (2, 7, 4, False):
            mask = some_mask(randint, 2, T, S) if masked else None
            what = f"T = {T}, S = {S}, K = {K}, after other calls"
            assert_same(impl, reference, draw(randn, 2, T=T, S=S, K=K), mask, what, dtype=dtype)
            with torch.no_grad():
                what = f"T = {T}, S = {S}, K = {K}, under no_grad"
                assert_same(impl, reference, draw(randn, 2, T=T, S=S, K=K), mask, what, dtype=dtype)
    for name_it in True, False:
        (q, k, v), mask = draw(randn, 2), some_mask(randint, 4, 5)
        call = impl.scaled_dot_product_attention
        output, weights = call(q, k, v, mask=mask) if name_it else call(q, k, v, mask)
        right, right_weights = reference.scaled_dot_product_attention(q.double(), k.double(), v.double(), mask)
        what = "called with the mask by name" if name_it else "called with the mask as fourth argument"
        assert_close(weights, right_weights, f"{what}: the weights", dtype=torch.float32)
        assert_close(output, right, f"{what}: the output", dtype=torch.float32)


def test_leaves_the_inputs_alone(impl, randn, randint):
    """q, k, v and mask are the same after the call"""
    inputs = dict(zip("qkv", draw(randn, 2, 3), strict=True)) | {"mask": some_mask(randint, 2, 1, 4, 5)}
    inputs["mask"][0, :, 1] = False
    before = {name: tensor.clone() for name, tensor in inputs.items()}

    attend(impl, *inputs.values())
    attend(impl, *list(inputs.values())[:3])

    for name, tensor in inputs.items():
        assert_close(tensor, before[name], f"{name} after the call and before it", tolerance=0.0)
    assert_answers(impl, randn)


def test_no_loop(impl, randn):
    """the number of tensor operations does not grow with the tokens or the batch"""
    q, k, v = draw(randn, 40, 40, T=5, S=5)
    many_q, many_k, many_v = draw(randn, 2, T=40, S=40)
    mask = torch.ones(40, 40, dtype=torch.bool).tril()

    assert_no_loop(impl, lambda n: attend(impl, many_q[:, :n], k[0, :2], v[0, :2], mask[:n, :5]), "queries")
    assert_no_loop(impl, lambda n: attend(impl, q[0, :2], many_k[:, :n], many_v[:, :n], mask[:5, :n]), "keys")
    assert_no_loop(impl, lambda n: attend(impl, q[:n, 0], k[:n, 0], v[:n, 0], mask[:5, :5]), "batch items")
    assert_no_loop(impl, lambda n: attend(impl, q[:n, :2], k[:n, :2], v[:n, :2]), "batch items with two heads")
    assert_answers(impl, randn)


def test_follows_the_device(impl, randn):
    """the output and the weights lie where the inputs lie"""
    far = [x.to("meta") for x in draw(randn, 2, 3)]  # meta stands for any accelerator

    for mask in None, torch.ones(4, 5, dtype=torch.bool, device="meta"):
        assert_answers(impl, randn)
        assert_follows_device(impl, lambda mask=mask: attend(impl, *far, mask), "output and weights")


# --- diagnosis and picture -------------------------------------------------------------------------------


def probe(impl):
    """Ask one question after the other up to the first wrong answer: the rest is often wrong for the same reason."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, width, generator=generator) for n, width in ((4, 6), (5, 6), (5, 3)))
    square = [torch.randn(3, 3, 3, 3, generator=generator) for _ in "qkv"]  # nothing fails for its shape
    few = torch.tensor([[True, False, True, False, False], [False, True, True, True, False]]).repeat(2, 1)
    none = few & torch.tensor([[True], [False], [True], [True]])  # query 1 may attend to nothing
    questions = {
        "shapes": (lambda: attend(impl, q, k, v), (q, k, v), None),
        "two leading": (lambda: attend(impl, *square), square, None),
        "one leading": (lambda: attend(impl, *(x[0] for x in square)), [x[0] for x in square], None),
        "no leading": (lambda: attend(impl, *(x[0, 0] for x in square)), [x[0, 0] for x in square], None),
        "masked": (lambda: attend(impl, 4 * q, 4 * k, v, few), (4 * q, 4 * k, v), few),
        "nothing allowed": (lambda: attend(impl, q, k, v, none), (q, k, v), none),
        "huge": (lambda: attend(impl, 90 * q, 90 * k, v, few), (90 * q, 90 * k, v), few),
    }
    seen = {}
    for name, (question, inputs, mask) in questions.items():
        seen[name] = observe(question)
        if name != "shapes" and not is_right(seen[name], inputs, mask):
            return seen
    seen["gradient"] = observe(lambda: gradient(impl, q, k, v, none))
    return seen


def is_right(seen: object, inputs, mask: Tensor | None) -> bool:
    """Say whether ``seen`` is the attention of the inputs."""
    q, k, v = (x.double() for x in inputs)
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    weights = scores.softmax(-1) if mask is None else scores.masked_fill(~mask, -1e9).softmax(-1) * mask
    right = weights @ v, weights
    return isinstance(seen, tuple) and all(
        isinstance(x, Tensor) and x.shape == y.shape and torch.allclose(x.double(), y, atol=1e-3)
        for x, y in zip(seen, right, strict=True)
    )


def gradient(impl, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> list[object]:
    """Return the gradients of the squares of the output under a mask."""
    leaves = [x.clone().requires_grad_() for x in (q, k, v)]
    output, _ = attend(impl, *leaves, mask)
    output.square().sum().backward()
    return [leaf.grad for leaf in leaves]


def picture(impl) -> list[Panel]:
    """Draw who attends to whom on a circle of 16 places, and what becomes of sharp signals that are averaged."""
    place = torch.arange(16.0) * (2 * math.pi / 16)
    q = k = 3.0 * torch.stack((place.cos(), place.sin()), dim=-1)  # (16, 2)
    causal = torch.ones(16, 16, dtype=torch.bool).tril()
    steps = (torch.arange(16) % 8 < 4).float()[:, None]  # (16, 1)

    lines, panels = [steps[:, 0]], []
    for title, mask in ("places on a circle", None), ("places on a circle, causal mask", causal):
        output, weights = attend(impl, q, k, steps, mask)
        lines.append(output.detach()[:, 0])
        panels.append(Panel(title, weights.detach(), x_label="key", y_label="query"))
    labels = "values", "output", "output under the causal mask"
    return [*panels, Panel("values and their averages", torch.stack(lines), "lines", "token", "value", labels)]
