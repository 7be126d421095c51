"""The hidden suite of ``attention_weights``, what the diagnosis asks, and the picture.

Each function is checked by itself, on inputs of the judge's own, so that a mistake in one of them fails no check of
another. Checks call twice with the same shapes and different answers, so that no answer that was kept passes.
"""

import math

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
    assert_shape,
    observe,
)

PRECISE = (torch.float32, torch.float64)
COARSE = {torch.float32: 1e-3}  # float32 knows a score of 10 000 to this precision

BOOK = torch.tensor(
    [
        [0.43, 0.15, 0.89],  # Your
        [0.55, 0.87, 0.66],  # journey
        [0.57, 0.85, 0.64],  # starts
        [0.22, 0.58, 0.33],  # with
        [0.77, 0.25, 0.10],  # one
        [0.05, 0.80, 0.55],  # step
    ]
)
ORDERS = [0, 1, 2, 3, 4, 5], [3, 5, 1, 0, 4, 2]  # of the six tokens
PRINTED = 6e-5  # four decimals, and a little for rounding


def assert_same(impl, reference, name: str, inputs, what: str, *, dtype: torch.dtype = torch.float32, hint="") -> None:
    """Compare one function with the reference's in float64."""
    inputs = [tensor.to(dtype) for tensor in inputs]
    expected = getattr(reference, name)(*(tensor.double() for tensor in inputs))
    assert_close(getattr(impl, name)(*inputs), expected, f"{name} of {what}", dtype=dtype, hint=hint)


def assert_all_same(impl, reference, randn, T: int, D: int, what: str, **options) -> None:
    """Compare all three functions with the reference's on inputs of their own."""
    assert_same(impl, reference, "attention_scores", [randn(T, D)], what, **options)
    assert_same(impl, reference, "attention_weights", [2.0 * randn(T, T)], what, **options)
    assert_same(impl, reference, "context_vectors", [randn(T, T), randn(T, D)], what, **options)


def assert_answers(impl, randn) -> None:
    """Check that all three functions answer at all, by numbers that depend on the inputs, be they right or wrong."""
    x, other = randn(2, 5, 3)
    scores = [assert_shape(impl.attention_scores(tokens), (5, 5), "the scores of 5 tokens") for tokens in (x, other)]
    assert_differs(*scores, "the scores of other tokens")
    table, other = randn(2, 5, 5)
    weights = [assert_shape(impl.attention_weights(rows), (5, 5), "the weights of 5 tokens") for rows in (table, other)]
    assert_differs(*weights, "the weights for other scores")
    assert_differs(weights[0], table, "the weights for random scores, and these scores")
    for token in randn(2, 1, 4):
        context = impl.context_vectors(torch.ones(1, 1), token)
        assert_close(context, token, "a single token with the weight 1: its context, and the token")


# --- shapes, the chapter's example, and numbers worked out by hand ---------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """scores and weights are (T, T), context vectors are (T, D)"""
    earlier = None

    for _ in range(2):
        x, table = randn(5, 3), randn(5, 5)
        results = impl.attention_scores(x), impl.attention_weights(table), impl.context_vectors(table, x)

        for name, result, shape in zip(
            ("scores", "weights", "context"), results, ((5, 5), (5, 5), (5, 3)), strict=True
        ):
            assert_shape(result, shape, f"the {name} of 5 tokens with 3 features", dtype=torch.float32)
        for name, result, other in zip(("scores", "weights", "context"), results, earlier or (), strict=False):
            assert_differs(result, other, f"the {name} of other inputs")
        assert_differs(results[1], table, "attention_weights of random scores, and these scores")
        earlier = results


@pytest.mark.visible
@pytest.mark.points(2)
def test_scores_printed_in_the_chapter(impl):
    """the scores of the first of the six tokens are those that are printed"""
    printed = torch.tensor([0.9995, 0.9544, 0.9422, 0.4753, 0.4576, 0.6310])

    for order in ORDERS:
        scores = impl.attention_scores(BOOK[order])

        assert_shape(scores, (6, 6), "the scores of the six tokens", dtype=torch.float32)
        what = f"the scores of `Your` with the six tokens in the order {order}"
        assert_close(scores[order.index(0)], printed[order], what, tolerance=PRINTED)


@pytest.mark.visible
@pytest.mark.points(2)
def test_weights_printed_in_the_chapter(impl):
    """the weights of the second of the six tokens are those that are printed"""
    printed = torch.tensor([0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581])

    for order in ORDERS:
        weights = impl.attention_weights(BOOK[order] @ BOOK[order].T)

        assert_shape(weights, (6, 6), "the weights of the six tokens", dtype=torch.float32)
        what = f"the weights of `journey` with the six tokens in the order {order}"
        assert_close(weights[order.index(1)], printed[order], what, tolerance=PRINTED)


@pytest.mark.visible
@pytest.mark.points(2)
def test_context_printed_in_the_chapter(impl):
    """the context vector of the second of the six tokens is the one that is printed"""
    printed = torch.tensor([0.4419, 0.6515, 0.5683])

    for order in ORDERS:
        x = BOOK[order]
        context = impl.context_vectors(torch.softmax(x @ x.T, dim=1), x)

        assert_shape(context, (6, 3), "the context vectors of the six tokens", dtype=torch.float32)
        what = f"the context vector of `journey` with the six tokens in the order {order}"
        assert_close(context[order.index(1)], printed, what, tolerance=PRINTED)


@pytest.mark.visible
def test_scores_worked_out_by_hand(impl):
    """two tokens of four features, four dot products on paper"""
    for x, by_hand in (
        ([[1.0, 2.0, 0.0, -1.0], [3.0, 0.0, 5.0, 1.0]], [[6.0, 2.0], [2.0, 35.0]]),
        ([[0.0, 1.0, 1.0, 0.0], [2.0, -3.0, 1.0, 1.0]], [[2.0, -2.0], [-2.0, 15.0]]),
    ):
        scores = impl.attention_scores(torch.tensor(x))

        assert_close(scores, torch.tensor(by_hand), f"the scores of the tokens {x[0]} and {x[1]}")


@pytest.mark.visible
def test_weights_worked_out_by_hand(impl):
    """scores that are not symmetric: every row is shared out"""
    for scores, by_hand in (
        ([[0.0, math.log(3)], [math.log(4), 0.0]], [[1 / 4, 3 / 4], [4 / 5, 1 / 5]]),
        ([[0.0, math.log(4)], [math.log(2), math.log(2)]], [[1 / 5, 4 / 5], [1 / 2, 1 / 2]]),
    ):
        weights = impl.attention_weights(torch.tensor(scores))

        rows = " and ".join(f"({a:.4f}, {b:.4f})" for a, b in scores)
        assert_close(weights, torch.tensor(by_hand), f"the weights for the rows {rows}", hint="What sums to 1?")


@pytest.mark.visible
def test_context_worked_out_by_hand(impl):
    """two tokens averaged on paper, by weights that are not symmetric"""
    x = torch.tensor([[4.0, 0.0, 8.0], [0.0, 4.0, 4.0]])

    for weights, by_hand in (
        ([[1 / 4, 3 / 4], [1.0, 0.0]], [[1.0, 3.0, 5.0], [4.0, 0.0, 8.0]]),
        ([[1 / 2, 1 / 2], [0.0, 1.0]], [[2.0, 2.0, 6.0], [0.0, 4.0, 4.0]]),
    ):
        context = impl.context_vectors(torch.tensor(weights), x)

        what = f"the tokens (4, 0, 8) and (0, 4, 4) by the weights {weights[0]} and {weights[1]}"
        assert_close(context, torch.tensor(by_hand), what, hint="Whose weights stand in row 0?")


# --- what makes it attention -----------------------------------------------------------------------------


def test_scores_are_not_scaled(impl, randn):
    """a token's score with itself is its squared length, however many features it has"""
    for D in 1, 4, 9, 64:
        for _ in range(2):
            x = randn(5, D)
            scores = impl.attention_scores(x)

            assert_shape(scores, (5, 5), f"the scores of 5 tokens with {D} features", dtype=torch.float32)
            what = f"the scores of 5 tokens with {D} features: those of a token with itself, and its squared length"
            assert_close(scores.diagonal(), x.double().square().sum(dim=1), what, dtype=torch.float32)
            assert_close(
                scores.T, scores.detach(), f"the scores of 5 tokens with {D} features, rows and columns swapped"
            )


def test_rows_sum_to_1(impl, randn):
    """no weight is negative and every row sums to 1"""
    earlier = torch.zeros(0)

    for dtype in PRECISE:
        for T in 5, 5, 60:
            scores = 2.0 * randn(T, T, dtype=dtype)
            scores[:, 2] += 12.0
            weights = impl.attention_weights(scores)

            what = f"the weights of {T} tokens"
            assert_close(weights.sum(dim=1), torch.ones(T, dtype=dtype), f"{what}: the sum of each row")
            assert_close(weights, weights.detach().clamp(min=0.0), f"{what}: weights below 0, which should be above")
            assert_differs(weights, earlier, f"{what} for other scores")
            earlier = weights


@pytest.mark.visible
def test_scores_of_thousands(impl):
    """scores of many thousands, above 0 and below, in float32, float64 and bfloat16"""
    scores = torch.tensor([[5e3, 5e3, -5e3], [9e4, 8e4, 0.0], [-9e4, -1e4, -2e4]])
    by_hand = torch.tensor([[1 / 2, 1 / 2, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)

    for dtype in (*PRECISE, torch.bfloat16):
        for order in [0, 1, 2], [2, 0, 1]:
            weights = impl.attention_weights(scores[order].to(dtype))

            what = "the weights for rows of (5e3, 5e3, -5e3), (9e4, 8e4, 0) and (-9e4, -1e4, -2e4)"
            hint = "Which number is safe to take exp of?"
            assert_close(weights, by_hand[order], what, dtype=dtype, tolerance=COARSE.get(dtype), hint=hint)


def test_adding_a_number_to_a_row_changes_nothing(impl, randint):
    """a number that is added to all scores of a token leaves its weights as they are"""
    scores, other = (randint(-24, 25, (4, 4)) / 8 for _ in range(2))

    weights = impl.attention_weights(scores)
    moved = impl.attention_weights(scores + torch.tensor([[3.0], [0.0], [-20.0], [40.0]]))

    assert_close(moved, weights.detach(), "scores with 3, 0, -20 and 40 added to their rows: the weights")
    assert_close(weights.sum(dim=1), torch.ones(4), "the sum of each row")
    assert_differs(impl.attention_weights(other), weights, "the weights for other scores")


def test_weights_of_one_pick_a_token(impl, randn):
    """a token that gives all its weight to one token gets exactly that one, and all tokens a mean"""
    x = randn(5, 3)

    for order in [3, 0, 4, 1, 2], [1, 2, 3, 4, 0]:
        picked = impl.context_vectors(torch.eye(5)[order], x)
        mean = impl.context_vectors(torch.full((5, 5), 1 / 5), x)

        assert_close(picked, x[order], f"tokens that give all their weight to the tokens {order}: their context")
        assert_close(
            mean, x.mean(dim=0).expand(5, 3), "equal weights for all tokens: their context, and the mean token"
        )


@pytest.mark.points(2)
def test_the_order_of_the_tokens_does_not_matter(impl, reference, randn):
    """all three steps together: tokens in another order get the same context vectors, in that order"""

    def attend(x: Tensor) -> Tensor:
        return impl.context_vectors(impl.attention_weights(impl.attention_scores(x)), x)

    x, order = randn(6, 4), torch.tensor([4, 2, 0, 5, 1, 3])
    expected = reference.attention_weights(reference.attention_scores(x.double())) @ x.double()

    context, mixed = attend(x), attend(x[order])

    assert_close(mixed, context.detach()[order], "six tokens in another order: their context, in that order")
    assert_close(context, expected, "the context of six random tokens", dtype=torch.float32)


# --- the numbers, on inputs of every kind ----------------------------------------------------------------


@pytest.mark.points(2)
def test_matches_the_reference(impl, reference, randn, rng):
    """random sizes, a single token, a single feature, and tensors that are not contiguous"""
    sizes = [(1, 1), (1, 4), (4, 1), (3, 3), *((rng.randint(2, 9), rng.randint(2, 9)) for _ in range(2))]

    for T, D in sizes:
        assert_all_same(impl, reference, randn, T, D, f"T = {T}, D = {D}")
        x, table = randn(D, T).T, randn(T, 2 * T)[:, ::2]
        assert_same(impl, reference, "attention_scores", [x], f"T = {T}, D = {D}, transposed")
        assert_same(impl, reference, "attention_weights", [table], f"T = {T}, every other column of a wider table")
        assert_same(impl, reference, "context_vectors", [table, x], f"T = {T}, D = {D}, strided inputs")


def test_float64(impl, reference, randn):
    """float64 inputs give float64 results, computed in float64 all the way"""
    for _ in range(2):
        hint = "If float32 is right: what is rounded to float32 on the way?"
        assert_all_same(impl, reference, randn, 6, 4, "float64 inputs", dtype=torch.float64, hint=hint)


def test_bfloat16(impl, reference, randn):
    """bfloat16 inputs give bfloat16 results, and gradients flow as well"""
    for _ in range(2):
        assert_all_same(impl, reference, randn, 6, 4, "bfloat16 inputs", dtype=torch.bfloat16)
    x, table = randn(6, 4).bfloat16(), randn(6, 6).bfloat16()
    what = "the gradient in bfloat16"
    assert_same_gradients(impl, reference, "attention_scores", {"x": x}, randn, what=what)
    assert_same_gradients(impl, reference, "attention_weights", {"scores": table}, randn, what=what)
    assert_same_gradients(impl, reference, "context_vectors", {"weights": table, "x": x}, randn, what=what)


@pytest.mark.points(2)
def test_gradients(impl, reference, randn):
    """gradients flow through all three functions, to both inputs of the last one, in a second call too"""
    for dtype in PRECISE:
        for _ in range(2):
            assert_same_gradients(impl, reference, "attention_scores", {"x": randn(5, 3, dtype=dtype)}, randn)
            assert_same_gradients(impl, reference, "attention_weights", {"scores": randn(5, 5, dtype=dtype)}, randn)
            both = {"weights": randn(5, 5, dtype=dtype), "x": randn(5, 3, dtype=dtype)}
            for wanted in ("weights", "x"), ("weights",), ("x",):
                assert_same_gradients(impl, reference, "context_vectors", both, randn, wanted)
    token, one, what = randn(1, 3), randn(1, 1), "the gradient for a single token"
    assert_same_gradients(impl, reference, "attention_scores", {"x": token}, randn, what=what)
    assert_same_gradients(impl, reference, "attention_weights", {"scores": one}, randn, what=what)
    assert_same_gradients(impl, reference, "context_vectors", {"weights": one, "x": token}, randn, what=what)
    for size in 5000.0, -5000.0:
        scores, what = size + randn(5, 5, dtype=torch.float64), f"the gradient for scores of about {size:g}"
        assert_same_gradients(impl, reference, "attention_weights", {"scores": scores}, randn, what=what)


def assert_same_gradients(impl, reference, name: str, inputs, randn, wanted=None, what: str = "the gradient") -> None:
    """Compare the gradients of those inputs that are wanted, by default all, with the reference's."""
    wanted = wanted or tuple(inputs)
    mine = {leaf: tensor.clone().requires_grad_(leaf in wanted) for leaf, tensor in inputs.items()}
    wide = {leaf: tensor.clone().double().requires_grad_(leaf in wanted) for leaf, tensor in inputs.items()}
    out, right = getattr(impl, name)(*mine.values()), getattr(reference, name)(*wide.values())
    leaves, wide_leaves = ({leaf: some[leaf] for leaf in wanted} for some in (mine, wide))
    cotangent = randn(*right.shape, dtype=out.dtype)
    tolerance = None
    if out.dtype == torch.bfloat16:
        gradients = torch.autograd.grad(
            (right * cotangent.double()).sum(), list(wide_leaves.values()), retain_graph=True
        )
        tolerance = 0.05 * max(float(gradient.abs().max()) for gradient in gradients)
    assert_gradients_match(out, leaves, right, wide_leaves, cotangent, f"{name}: {what}", tolerance=tolerance)


# --- good manners ----------------------------------------------------------------------------------------


def test_repeated_calls(impl, reference, randn):
    """call after call with other sizes and dtypes, also under no_grad"""
    for dtype in torch.float32, torch.float64, torch.float32:
        for T, D in (4, 3), (4, 3), (7, 3), (4, 9), (5, 5), (2, 2):
            assert_all_same(impl, reference, randn, T, D, f"T = {T}, D = {D}, after other calls", dtype=dtype)
            with torch.no_grad():
                assert_all_same(impl, reference, randn, T, D, f"T = {T}, D = {D}, under no_grad", dtype=dtype)
    assert_all_same(impl, reference, randn, 150, 7, "T = 150, D = 7, after smaller ones")
    x, other = randn(2, 5, 3)
    mixed = torch.cat((x[:1], other[1:]))  # the first token is the same, the others are not
    for tokens in x, mixed:
        table = randn(5, 5)
        scores, weights = impl.attention_scores(tokens), impl.attention_weights(table)
        context = impl.context_vectors(table, tokens)
        for name, got, inputs in (
            ("attention_scores", scores, [tokens]),
            ("attention_weights", weights, [table]),
            ("context_vectors", context, [table, tokens]),
        ):
            right = getattr(reference, name)(*(tensor.double() for tensor in inputs))
            assert_close(got, right, f"{name}, the first token as before and the others not", dtype=torch.float32)


def test_leaves_the_inputs_alone(impl, randn):
    """x, scores and weights are the same after the calls"""
    x, scores, weights = randn(4, 3), randn(4, 4), randn(4, 4)
    before = x.clone(), scores.clone(), weights.clone()

    impl.attention_scores(x)
    impl.attention_weights(scores)
    impl.context_vectors(weights, x)

    for name, tensor, old in zip(("x", "scores", "weights"), (x, scores, weights), before, strict=True):
        assert_close(tensor, old, f"{name} after the calls and before them", tolerance=0.0)
    assert_answers(impl, randn)


def test_no_loop(impl, randn):
    """the number of tensor operations does not grow with the tokens"""
    x, table = randn(40, 40), randn(40, 40)

    assert_no_loop(impl, lambda n: impl.attention_scores(x[:n, :3]), "tokens")
    assert_no_loop(impl, lambda n: impl.attention_weights(table[:n, :n]), "tokens")
    assert_no_loop(impl, lambda n: impl.context_vectors(table[:n, :n], x[:n, :3]), "tokens")
    assert_answers(impl, randn)


def test_follows_the_device(impl, randn):
    """results lie where the inputs lie"""
    x, table = randn(5, 3).to("meta"), randn(5, 5).to("meta")  # meta stands for any accelerator

    for _ in range(2):
        assert_answers(impl, randn)
        assert_follows_device(impl, lambda: impl.attention_scores(x), "attention_scores on the meta device")
        assert_follows_device(impl, lambda: impl.attention_weights(table), "attention_weights on the meta device")
        assert_follows_device(impl, lambda: impl.context_vectors(table, x), "context_vectors on the meta device")


# --- diagnosis and picture -------------------------------------------------------------------------------


def probe(impl):
    """Ask one question after the other up to the first wrong answer: the rest is often wrong for the same reason."""
    x = torch.tensor([[2.0, 1.0, 0.0, 1.0], [0.0, -1.0, 1.0, 3.0], [1.0, 0.5, -2.0, 0.0]])
    table = torch.tensor([[0.0, 1.5, -2.0], [3.0, 0.5, 1.0], [-1.0, 2.0, 2.5]])
    large = torch.tensor([[1e4, 9999.0, -1e4], [-1e4, -1e4, 9998.0], [1.0, 0.0, 1e4]])
    questions = {
        "scores": (lambda: impl.attention_scores(x), x @ x.T),
        "weights": (lambda: impl.attention_weights(table), table.softmax(dim=1)),
        "context": (lambda: impl.context_vectors(table, x), table @ x),
        "large": (lambda: impl.attention_weights(large), large.softmax(dim=1)),
    }
    seen = {}
    for name, (question, right) in questions.items():
        answer = seen[name] = observe(question)
        fine = isinstance(answer, Tensor) and answer.shape == right.shape
        if not (fine and torch.allclose(answer.float(), right, atol=1e-3)):
            return seen
    return seen


def picture(impl) -> list[Panel]:
    """Draw the chapter's six tokens: their scores, their weights, and tokens beside their context vectors."""
    scores = impl.attention_scores(BOOK)
    weights = impl.attention_weights(scores)
    context = impl.context_vectors(weights, BOOK)
    where = {"x_label": "token that is looked at", "y_label": "token that looks"}
    return [
        Panel("scores of the six tokens", scores.detach(), **where),
        Panel("weights of the six tokens: every row sums to 1", weights.detach(), **where),
        Panel("the six tokens", BOOK, x_label="feature", y_label="token"),
        Panel("their context vectors", context.detach(), x_label="feature", y_label="token"),
    ]
