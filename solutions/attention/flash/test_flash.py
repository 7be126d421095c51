"""Hidden suite of flash: by hand, by the properties that an online softmax must keep, by numbers, and by its memory.

A check of one property does not compare every number with the reference's. It ends in ``assert_answers`` instead, which
no made-up answer passes and none kept from before.
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
    observe,
)

PRECISE = (torch.float32, torch.float64)


def plain(q, k, v, causal=False):
    """Return the attention by the plain formula in float64."""
    q, k, v = q.double(), k.double(), v.double()
    scores = q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, S)
    if causal:
        T, S = scores.shape[-2:]
        scores = scores.masked_fill(~torch.ones(T, S, dtype=torch.bool).tril(S - T), -math.inf)
    return scores.softmax(dim=-1) @ v


def assert_same(impl, inputs, block_size, causal, what, *, dtype=torch.float32, hint=""):
    """Compare with the plain formula for the same q, k, v."""
    inputs = [x.to(dtype) for x in inputs]
    out = impl.flash_attention(*inputs, block_size, causal)
    assert_close(out, plain(*inputs, causal), what, dtype=dtype, hint=hint)


def draw(randn, B, H, T, S, K, dtype=torch.float32):
    """Return random q, k, v."""
    return [randn(B, H, n, K, dtype=dtype) for n in (T, S, S)]


def assert_answers(impl, randn, dtype=torch.float32):
    """Check that the attention answers at all: with a single key its value comes back, whatever the rest does."""
    for _ in range(2):
        q, k, v = draw(randn, 2, 3, 1, 1, 4, dtype)
        assert_close(impl.flash_attention(q, k, v, 1), v, "one query and one key, whose value comes back")


def lined(*numbers, dtype=torch.float32):
    """Return tokens of one feature, shape (1, 1, tokens, 1)."""
    return torch.tensor(numbers, dtype=dtype).view(1, 1, -1, 1)


# --- the shape, and numbers worked out by hand -------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the output has the shape of the queries"""
    earlier = torch.zeros(0)

    for B, H, T, S, K in (2, 3, 4, 6, 5), (2, 3, 4, 6, 5), (1, 2, 7, 3, 2):
        inputs = draw(randn, B, H, T, S, K)
        out = impl.flash_attention(*inputs, 2)

        sizes = f"B = {B}, H = {H}, T = {T}, S = {S}, K = {K}, block_size 2"
        assert_shape(out, (B, H, T, K), f"the output for {sizes}", dtype=torch.float32)
        assert_differs(out, inputs[0], f"the output for {sizes}, which are the queries again")
        assert_differs(out, earlier, "the output of a second call, with other inputs")
        earlier = out


@pytest.mark.visible
@pytest.mark.points(2)
def test_falling_scores_by_hand(impl):
    """one query, three keys, the highest score first, worked out on paper"""
    for factor in 1.0, 2.0:
        k, v = lined(math.log(5), math.log(2), 0.0), lined(16.0 * factor, 4.0, 8.0)
        for block_size in 3, 2, 1:
            out = impl.flash_attention(lined(1.0), k, v, block_size)

            what = f"scores ln 5, ln 2, 0, values {16 * factor:g}, 4, 8, block_size {block_size}: the output"
            assert_close(out, lined(10.0 * factor + 2.0), what, hint="The weights are 5/8, 2/8 and 1/8.")


@pytest.mark.visible
@pytest.mark.points(2)
def test_rising_scores_by_hand(impl):
    """the same keys with the highest score last: what was added up before has to be brought to the new maximum"""
    for factor in 1.0, 2.0:
        k, v = lined(0.0, math.log(2), math.log(5)), lined(8.0, 4.0, 16.0 * factor)
        for block_size in 3, 2, 1:
            out = impl.flash_attention(lined(1.0), k, v, block_size)

            what = f"scores 0, ln 2, ln 5, values 8, 4, {16 * factor:g}, block_size {block_size}: the output"
            hint = "The weights are 1/8, 2/8 and 5/8. Write down maximum, sum and output after each block."
            assert_close(out, lined(10.0 * factor + 2.0), what, hint=hint)


@pytest.mark.visible
def test_scores_are_divided_by_the_root_of_the_head_width(impl):
    """the scores of a head with K features are divided by sqrt(K)"""
    for K, root in (4, 2.0), (9, 3.0), (16, 4.0):
        for odds in 3.0, 4.0:
            q = torch.zeros(1, 1, 1, K)
            q[..., 0] = 1.0
            k = q * torch.tensor([root * math.log(odds), 0.0]).view(2, 1)
            v = torch.tensor([1.0, 0.0]).view(2, 1).expand(1, 1, 2, K)
            for block_size, order in (2, [0, 1]), (1, [0, 1]), (1, [1, 0]):
                out = impl.flash_attention(q, k[:, :, order], v[:, :, order], block_size)

                pairs = f"({root * math.log(odds):.4f}, 1)", "(0, 0)"
                dots = f"K = {K}, dot products and values {pairs[order[0]]} and {pairs[order[1]]}"
                by_hand = torch.full((1, 1, 1, K), odds / (odds + 1))
                hint = "How many features does a head compare? Is every score divided, wherever it is used?"
                assert_close(out, by_hand, f"{dots}, block_size {block_size}: the output", hint=hint)


@pytest.mark.visible
def test_causal_by_hand(impl):
    """causal attention with equal keys gives the plain average of the values so far"""
    for shift in 0.0, 3.0:
        v = lined(2.0, 4.0, 9.0, 1.0) + shift
        for block_size in 4, 3, 2, 1:
            what = f"causal, equal keys, values {v.flatten().tolist()}, block_size {block_size}"
            out = impl.flash_attention(lined(1.0, 1.0, 1.0, 1.0), torch.zeros_like(v), v, block_size, True)
            assert_close(out, lined(2.0, 3.0, 5.0, 4.0) + shift, f"{what}, four queries: the output")
            out = impl.flash_attention(lined(1.0, 1.0), torch.zeros_like(v), v, block_size, causal=True)
            hint = "The last query stands at the last key. At which key does the first of the two stand?"
            assert_close(out, lined(5.0, 4.0) + shift, f"{what}, two queries: the output", hint=hint)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 20 000 and -20 000 give right results, in whatever block they come, and no NaN"""
    for dtype in PRECISE:
        v = lined(1.0, 2.0, 6.0, 4.0, dtype=dtype)
        for scores, result in (
            ((9e3, 1e4, 1e4, -1e4), 4.0),
            ((-1e4, -1e4, -1e4, -9e3), 4.0),
            ((1e4, -1e4, 9e3, 0.0), 1.0),
            ((-1e4, -1e4, -1e4, -1e4), 3.25),
            ((-2e4, -2e4, -2e4, -2e4), 3.25),
            ((2e4, 2e4, -2e4, 1e4), 1.5),
        ):
            for block_size in 4, 2, 1:
                q, k = lined(1.0, 0.0, dtype=dtype), lined(*scores, dtype=dtype)
                out = impl.flash_attention(q, k, v, block_size)
                what = f"values (1, 2, 6, 4), query 0 with scores {scores}, query 1 with scores of 0"
                hint = "Has every query its own maximum?"
                by_hand = lined(result, 3.25, dtype=dtype)
                tolerance = 0.02 if dtype == torch.float32 else None  # it knows a logarithm of about 20 000 to 0.001
                what = f"{what}, block_size {block_size}: the output"
                assert_close(out, by_hand, what, tolerance=tolerance, hint=hint)
        for score in -2e4, 2e4:
            for block_size in 4, 2:
                out = impl.flash_attention(torch.ones_like(v), torch.full_like(v, score), v, block_size, True)

                by_hand = lined(1.0, 1.5, 3.0, 3.25, dtype=dtype)
                tolerance = 0.02 if dtype == torch.float32 else None
                what = f"causal, values (1, 2, 6, 4), all scores {score:g}, block_size {block_size}: the output"
                assert_close(out, by_hand, what, tolerance=tolerance, hint="What is lower than any score?")


# --- what an online softmax must keep ----------------------------------------------------------------------


@pytest.mark.visible
def test_every_block_size_gives_the_same(impl, randn):
    """the block size changes nothing: 1, one that divides, one that does not, one larger than everything"""
    for causal in False, True:
        inputs = draw(randn, 2, 2, 6, 8, 4)
        whole = impl.flash_attention(*inputs, 8, causal)
        for block_size in 1, 2, 3, 5, 7, 9, 100, 100_000:
            out = impl.flash_attention(*inputs, block_size, causal)

            what = f"8 keys, causal = {causal}, block_size {block_size}, and one block of 8: the output"
            assert_close(out, whole, what, hint="Which keys are in the last block?")
    assert_answers(impl, randn)


def test_the_order_of_the_keys_does_not_matter(impl, randn, rng):
    """keys and values shuffled alike: the same output"""
    for block_size in 1, 2, 3:
        q, k, v = draw(randn, 2, 2, 5, 7, 4)
        order = rng.sample(range(7), 7)
        out = impl.flash_attention(q, k, v, block_size)
        shuffled = impl.flash_attention(q, k[:, :, order], v[:, :, order], block_size)

        assert_close(shuffled, out, f"block_size {block_size}, keys in the order {order}: the output")
    assert_answers(impl, randn)


@pytest.mark.visible
def test_the_weights_sum_to_1(impl, randn):
    """a value that all keys share comes back as it is"""
    for causal in False, True:
        for block_size in 1, 2, 5, 7, 20:
            q, k, v = draw(randn, 2, 3, 5, 7, 4)
            same = v[:, :, :1].expand(2, 3, 7, 4)
            out = impl.flash_attention(q, k, same, block_size, causal)

            what = f"block_size {block_size}, causal = {causal}, one value for all 7 keys: the output"
            assert_close(out, same[:, :, :5], what, hint="What is the sum of a query's weights over all blocks?")


def test_the_future_leaves_no_trace(impl, randn):
    """with causal=True keys after a query leave no trace, and its own key does matter"""
    for T, S, block_size in (6, 6, 1), (6, 6, 4), (6, 6, 9), (3, 7, 2), (3, 7, 5):
        q, k, v = draw(randn, 2, 2, T, S, 4)
        changed_k, changed_v = k.clone(), v.clone()
        changed_k[:, :, S - 2 :] += 5.0
        changed_v[:, :, S - 2 :] -= 5.0
        before = impl.flash_attention(q, k, v, block_size, True)
        after = impl.flash_attention(q, changed_k, changed_v, block_size, True)

        what = f"{T} queries, {S} keys, block_size {block_size}, causal, the last two keys were changed"
        assert_close(after[:, :, : T - 2], before[:, :, : T - 2], f"{what}: the output of the queries before them")
        for t in T - 2, T - 1:
            assert_differs(after[:, :, t], before[:, :, t], f"{what}: the output of query {t}, which sees one of them")
    assert_answers(impl, randn)


def test_the_last_queries_alone(impl, randn):
    """with causal=True the last queries alone get what they get among all of them"""
    for S, T, block_size in (7, 1, 2), (7, 3, 2), (8, 5, 3), (6, 2, 8):
        q, k, v = draw(randn, 2, 2, S, S, 4)
        among_all = impl.flash_attention(q, k, v, block_size, True)
        alone = impl.flash_attention(q[:, :, S - T :], k, v, block_size, True)

        what = f"the last {T} of {S} queries, block_size {block_size}, causal: the output alone and among all"
        assert_close(alone, among_all[:, :, S - T :], what, hint="The last query stands at the last key.")
        assert_close(among_all[:, :, :1], v[:, :, :1], f"{S} queries, causal: query 0, which sees key 0 alone")


def test_items_and_heads_do_not_meet(impl, randn):
    """an item of a batch, and a head, gets the same answer alone"""
    inputs = draw(randn, 3, 2, 4, 5, 4)
    together = impl.flash_attention(*inputs, 2)

    for item in range(3):
        alone = impl.flash_attention(*(x[item : item + 1] for x in inputs), 2)
        assert_close(alone, together[item : item + 1], f"item {item} alone and in a batch of 3: the output")
    for head in range(2):
        alone = impl.flash_attention(*(x[:, head : head + 1] for x in inputs), 2)
        assert_close(alone, together[:, head : head + 1], f"head {head} alone and among 2: the output")
    assert_answers(impl, randn)


# --- the numbers, on inputs of every kind ------------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_plain_attention(impl, randn, rng):
    """random sizes and blocks, size 1, more queries than keys, and tensors that are not contiguous"""
    sizes = [(1, 1, 1, 1, 1, 1), (2, 1, 6, 1, 3, 2), (1, 2, 1, 9, 2, 4), (1, 3, 9, 4, 5, 3)]
    sizes += [(4, 3, 4, 4, 2, 3), (2, 4, 4, 4, 2, 3), (2, 3, 4, 4, 4, 3), (3, 3, 3, 3, 3, 2)]
    sizes += [[rng.choice((1, 2, 3, 5, 7)) for _ in range(6)] for _ in range(5)]
    for B, H, T, S, K, block_size in sizes:
        q, v = randn(B, T, H, K).transpose(1, 2), randn(B, H, S, 2 * K)[..., ::2]
        k = randn(B, H, K, S).mT

        sizes = f"B = {B}, H = {H}, T = {T}, S = {S}, K = {K}, block_size {block_size}"
        assert_same(impl, (3.0 * q, k, v), block_size, False, sizes)


@pytest.mark.points(2)
def test_matches_plain_causal_attention(impl, randn, rng):
    """the same with causal=True, as many keys as queries or more"""
    sizes = [(1, 1, 1, 1, 1, 1), (2, 1, 1, 6, 3, 2), (1, 3, 4, 9, 5, 4), (2, 2, 9, 9, 4, 4)]
    sizes += [(4, 3, 4, 4, 2, 3), (2, 4, 4, 4, 2, 3), (2, 3, 4, 4, 4, 3), (3, 3, 3, 3, 3, 2)]
    for _ in range(5):
        B, H, T, K, block_size = (rng.choice((1, 2, 3, 5, 7)) for _ in range(5))
        sizes.append((B, H, T, T + rng.randint(0, 6), K, block_size))
    for B, H, T, S, K, block_size in sizes:
        q, k = randn(B, H, T, 2 * K)[..., ::2], randn(B, S, H, K).transpose(1, 2)
        v = randn(S, K, B, H).permute(2, 3, 0, 1)

        sizes = f"B = {B}, H = {H}, T = {T}, S = {S}, K = {K}, block_size {block_size}, causal"
        assert_same(impl, (3.0 * q, k, v), block_size, True, sizes)


def test_float64(impl, randn):
    """float64 inputs are computed in float64 all the way"""
    for block_size, causal in (1, False), (3, True), (9, False):
        inputs = draw(randn, 2, 3, 5, 7, 4)  # K = 4: sqrt(K) held in float32 is exact, and welcome
        hint = "If the other checks pass: what is rounded to float32 on the way?"
        what = f"float64, block_size {block_size}, causal = {causal}"
        assert_same(impl, inputs, block_size, causal, what, dtype=torch.float64, hint=hint)


def test_bfloat16(impl, randn):
    """bfloat16 inputs give a bfloat16 output"""
    for block_size, causal in (2, False), (3, True), (9, False):
        inputs = draw(randn, 2, 3, 5, 7, 4)
        what = f"bfloat16, block_size {block_size}, causal = {causal}"
        assert_same(impl, inputs, block_size, causal, what, dtype=torch.bfloat16)


@pytest.mark.points(2)
def test_bfloat16_is_accumulated_in_float32(impl, randn):
    """many small weights after a large one: in bfloat16 they would be lost one by one"""
    S = 1024
    k = torch.zeros(1, 1, S, 16)
    k[:, :, 1:, 0] = -9.0  # weights of about 1/8000 beside one of 1, together an eighth of it
    q = torch.zeros(1, 1, 2, 16)
    q[..., 0] = 4.0  # sqrt(K)
    for block_size, causal in (
        (16, False),
        (8, False),
        (16, True),
    ):  # the last query sees all keys, the other all but one
        v = torch.ones(1, 1, S, 16)
        v[:, :, 1:, 0], v[:, :, 0, 1] = 0.0, 0.0  # feature 0 of the first key alone, feature 1 of the others
        v[..., 3:] = randn(1, 1, 1, 13).tanh()

        what = (
            f"{S} keys in bfloat16, one of score 0 and then all others of score -9, block_size {block_size}, "
            f"causal = {causal}: the output"
        )
        hint = "In which dtype are the sum and the output while the blocks come in? bfloat16 has no 1.003."
        assert_same(impl, (q, k, v), block_size, causal, what, dtype=torch.bfloat16, hint=hint)


@pytest.mark.points(2)
def test_gradients(impl, randn):
    """the gradients of q, k and v through all blocks, in a second backward pass too"""
    for dtype in PRECISE:
        for T, S, block_size, causal in (
            (4, 5, 2, False),
            (4, 5, 2, True),
            (4, 5, 2, False),
            (5, 5, 1, True),
            (3, 4, 9, 0),
            (1, 4, 3, True),
            (3, 1, 1, False),
        ):
            leaves = dict(zip("qkv", draw(randn, 2, 2, T, S, 4, dtype), strict=True))
            wide = {name: x.double().requires_grad_() for name, x in leaves.items()}
            leaves = {name: x.requires_grad_() for name, x in leaves.items()}
            out = impl.flash_attention(*leaves.values(), block_size, bool(causal))

            what = f"T = {T}, S = {S}, block_size {block_size}, causal = {bool(causal)}"
            assert_shape(out, (2, 2, T, 4), f"{what}: the output", dtype=dtype)
            right = plain(*wide.values(), causal)
            assert_gradients_match(out, leaves, right, wide, randn(2, 2, T, 4, dtype=dtype), f"{what}: the gradient")


def test_gradients_of_one_tensor_and_in_bfloat16(impl, randn):
    """the gradients where one tensor is q, k and v, or k and v, and those in bfloat16"""
    for dtype, which, causal in (
        (torch.float32, "qqq", True),
        (torch.float32, "qkk", False),
        (torch.bfloat16, "qkv", False),
        (torch.bfloat16, "qkv", True),
    ):
        leaves = {name: randn(2, 2, 5, 4, dtype=dtype) for name in sorted(set(which))}
        wide = {name: x.double().requires_grad_() for name, x in leaves.items()}
        leaves = {name: x.requires_grad_() for name, x in leaves.items()}
        out = impl.flash_attention(*(leaves[name] for name in which), 2, causal)

        what = f"flash_attention({', '.join(which)}) in {str(dtype).removeprefix('torch.')}, causal = {causal}"
        right, cotangent = plain(*(wide[name] for name in which), causal), randn(2, 2, 5, 4, dtype=dtype)
        assert_close(out, right, f"{what}: the output", dtype=dtype)
        tolerance = 0.15 if dtype == torch.bfloat16 else None
        assert_gradients_match(out, leaves, right, wide, cotangent, f"{what}: the gradient", tolerance=tolerance)


def test_the_same_without_gradients(impl, randn):
    """the output is the same for inputs that require a gradient, for any other, and under torch.no_grad()"""
    for causal in False, True:
        for kind in "inputs that require a gradient", "any other inputs", "any inputs under torch.no_grad()":
            inputs = [x.requires_grad_("require" in kind) for x in draw(randn, 2, 3, 4, 6, 4)]
            with torch.set_grad_enabled("no_grad" not in kind):
                assert_same(impl, inputs, 2, causal, f"{kind}, causal = {causal}")


# --- memory and good manners -------------------------------------------------------------------------------


@pytest.mark.points(3)
def test_never_holds_all_scores(impl, randn):
    """no operation returns a tensor with as many elements as there are scores, masks included"""
    f32, f64, bf16 = torch.float32, torch.float64, torch.bfloat16
    needs, without, off = "inputs that require a gradient", "inputs that require none", "inputs under torch.no_grad()"
    for T, S, block_size, causal, dtype, kind in (
        (40, 48, 8, False, f32, without),
        (40, 48, 8, True, f32, needs),
        (48, 48, 5, True, f32, off),
        (56, 40, 30, False, f32, needs),
        (40, 48, 3, True, f32, without),
        (40, 48, 8, True, bf16, without),
        (40, 48, 20, False, f64, off),
    ):
        inputs = [x.requires_grad_(kind == needs) for x in draw(randn, 1, 1, T, S, 2, dtype)]
        with impl.trace() as trace, torch.set_grad_enabled(kind != off):
            out = impl.flash_attention(*inputs, block_size, causal)

        sizes = (
            f"T = {T}, S = {S}, block_size {block_size}, causal = {causal}, {str(dtype).removeprefix('torch.')} {kind}"
        )
        assert_close(out, plain(*inputs, causal), f"{sizes}: the output", dtype=dtype)
        if trace.largest >= T * S:
            name, shape = next(
                ((op.name, shape) for op in trace.ops for shape in op.outputs if math.prod(shape) >= T * S),
                ("an operation", "unknown"),
            )
            raise CheckFailure(
                f"{sizes}: `{name}` returned a tensor of shape {shape}, as large as all T * S = {T * S} scores. "
                "Which part of the keys, or of the mask, does one block need?"
            )


def test_no_loop_over_the_batch(impl, randn):
    """the number of tensor operations does not grow with the batch"""
    many = draw(randn, 40, 2, 4, 5, 4)

    assert_same(impl, many, 2, False, "a batch of 40")
    assert_no_loop(impl, lambda n: impl.flash_attention(*(x[:n] for x in many), 2), "batch items")
    assert_no_loop(impl, lambda n: impl.flash_attention(*(x[:n] for x in many), 2, True), "batch items")
    assert_no_loop(impl, lambda n: impl.flash_attention(*(x[:n] for x in many), 9, True), "batch items")


def test_repeated_calls(impl, randn):
    """call after call with other sizes, blocks and dtypes"""
    for dtype in torch.float32, torch.float64, torch.float32:
        for B, T, S, block_size, causal in (
            (2, 3, 5, 2, True),
            (2, 3, 6, 2, True),
            (1, 5, 9, 2, False),
            (2, 3, 5, 3, True),
        ):
            what = f"B = {B}, T = {T}, S = {S}, block_size {block_size}, causal = {causal}, after other calls"
            assert_same(impl, draw(randn, B, 2, T, S, 4), block_size, causal, what, dtype=dtype)


def test_leaves_the_inputs_alone(impl, randn):
    """q, k and v are the same after the call"""
    for dtype in PRECISE:
        inputs = dict(zip("qkv", draw(randn, 2, 3, 4, 5, 4, dtype), strict=True))
        before = {name: x.clone() for name, x in inputs.items()}

        impl.flash_attention(*inputs.values(), 2, True)

        for name, x in inputs.items():
            assert_close(x, before[name], f"{name} after the call and before it", tolerance=0.0)
    assert_answers(impl, randn)


def test_follows_the_device(impl, randn):
    """computes on the device that q, k and v lie on"""
    inputs = [x.to("meta") for x in draw(randn, 2, 3, 4, 5, 4)]

    assert_answers(impl, randn)
    for causal in False, True:
        call = f"the output, causal = {causal}"
        assert_follows_device(impl, lambda c=causal: impl.flash_attention(*inputs, 2, c), call)
    assert_answers(impl, randn)


def test_errors(impl, randn):
    """a block_size below 1 raises ValueError"""
    for block_size in 0, -1, -8:
        for causal in False, True:
            inputs = draw(randn, 1, 2, 3, 4, 4)
            assert_rejects(
                lambda size=block_size, causal=causal, inputs=inputs: impl.flash_attention(*inputs, size, causal),
                f"block_size {block_size}, causal = {causal}",
                good=lambda: assert_answers(impl, randn),
            )


# --- diagnosis and picture ---------------------------------------------------------------------------------


def probe(impl):
    """Ask with one block, with several that divide and that do not, causal and not, and with scores that overflow."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, n, 4, generator=generator) for n in (4, 6, 6))
    low, first = torch.zeros(1, 1, 512, 4), torch.zeros(1, 1, 512, 4)
    low[:, :, 1:, 0], first[:, :, 0] = -18.0, 1.0  # one weight of 1, then many of 1/8000
    half = [x.bfloat16() for x in (torch.ones(1, 1, 2, 4), low, first)]
    return {
        "one block": observe(lambda: impl.flash_attention(q, k, v, 6)),
        "blocks": observe(lambda: impl.flash_attention(q, k, v, 2)),
        "a last block that is shorter": observe(lambda: impl.flash_attention(q, k, v, 4)),
        "causal": observe(lambda: impl.flash_attention(k, k, v, 2, True)),
        "causal with fewer queries": observe(lambda: impl.flash_attention(q, k, v, 2, True)),
        "causal in one block": observe(lambda: impl.flash_attention(q, k, v, 6, True)),
        "large scores": observe(lambda: impl.flash_attention(100.0 * q, 100.0 * k, v, 2)),
        "bfloat16": observe(lambda: impl.flash_attention(*half, 8)),
    }


def picture(impl):
    """Draw what is remembered: how sum and output of one query grow as the keys come in, block by block."""
    S = 24
    place = torch.arange(float(S))
    k = (2.5 * (place / 4).sin() + place / 12).view(1, 1, S, 1)
    q, v = torch.ones(1, 1, 1, 1), (place / S).view(1, 1, S, 1)
    so_far = [impl.flash_attention(q, k[:, :, :n], v[:, :, :n], 4).item() for n in range(1, S + 1)]
    highest = k.flatten().cummax(dim=0).values
    lines = torch.stack((torch.tensor(so_far), highest, k.flatten()))
    weights = impl.flash_attention(
        torch.nn.functional.pad(k, (0, S - 1)) * S**0.5,
        torch.nn.functional.pad(k, (0, S - 1)),
        torch.eye(S).view(1, 1, S, S),
        4,
        True,
    )[0, 0]
    labels = ("output if the keys ended here", "highest score so far", "score of the key")
    return [
        Panel("one query, keys coming in", lines, "lines", "key", "output and scores", labels),
        Panel("causal weights in blocks of 4", weights, x_label="key", y_label="query"),
    ]
