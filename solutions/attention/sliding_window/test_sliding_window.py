"""Hidden suite of sliding_window: the mask first, then the attention, by hand, by its properties and by numbers.

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


def drawn(*rows):
    """Return a mask as it is drawn: ``x`` may attend, ``.`` may not."""
    return torch.tensor([[sign == "x" for sign in row] for row in rows])


def mask_on_paper(length, window):
    """Return the mask entry by entry."""
    return torch.tensor([[i - window < j <= i for j in range(length)] for i in range(length)])


def assert_mask(mask, right, what):
    """Compare masks exactly, and show the first row that differs as it would be drawn."""
    if isinstance(mask, torch.Tensor) and (mask.dtype, mask.shape, mask.device) == (
        torch.bool,
        right.shape,
        right.device,
    ):
        wrong = (mask != right).any(dim=-1).nonzero().flatten().tolist()
        if wrong:
            came, asked = ("".join("x" if seen else "." for seen in row[wrong[0]].tolist()) for row in (mask, right))
            where = f"row {wrong[0]} (what query {wrong[0]} may attend to, x = True)"
            raise CheckFailure(f"{what}: {where} should be {asked}, but {came} came.")
    assert_close(mask, right, what, tolerance=0.0)


def assert_same(impl, reference, inputs, window, what, *, dtype=torch.float32, hint=""):
    """Compare the attention with the reference in float64 for the same q, k, v."""
    inputs = [x.to(dtype) for x in inputs]
    out = impl.sliding_window_attention(*inputs, window)
    right = reference.sliding_window_attention(*(x.double() for x in inputs), window)
    assert_close(out, right, what, dtype=dtype, hint=hint)


def assert_answers(impl, randn, dtype=torch.float32):
    """Check that the attention answers at all: a single token gets its own value, whatever the rest does."""
    for _ in range(2):
        q, k, v = (randn(2, 3, 1, 4, dtype=dtype) for _ in range(3))
        assert_close(impl.sliding_window_attention(q, k, v, 3), v, "a single token, which gets its own value")


# --- the mask ---------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the mask is boolean (T, T), the attention returns the shape of its inputs"""
    earlier = torch.zeros(0)

    for length, window in (5, 2), (3, 2):
        mask = impl.sliding_window_mask(length, window)
        what = f"the mask for length {length} and window {window}"
        assert_shape(mask, (length, length), what, dtype=torch.bool)
    for B, H, T, K in (2, 3, 5, 4), (2, 3, 5, 4), (3, 1, 4, 7):
        out = impl.sliding_window_attention(*(randn(B, H, T, K) for _ in range(3)), 2)
        assert_shape(out, (B, H, T, K), f"the output for inputs of shape {(B, H, T, K)}", dtype=torch.float32)
        assert_differs(out, earlier, "the output of a second call, with other inputs")
        earlier = out


@pytest.mark.visible
@pytest.mark.points(2)
def test_mask_drawn_by_hand(impl):
    """five tokens with windows of 2 and 3, drawn on paper"""
    two = drawn("x....", "xx...", ".xx..", "..xx.", "...xx")
    three = drawn("x....", "xx...", "xxx..", ".xxx.", "..xxx")

    for window, by_hand in (2, two), (3, three):
        mask = impl.sliding_window_mask(5, window)

        assert_mask(mask, by_hand, f"the mask of 5 tokens with window {window}")


@pytest.mark.visible
def test_smallest_and_largest_window(impl):
    """a window of 1 shows the token itself, one of T or more all tokens up to it"""
    for length in 4, 6:
        tokens = torch.arange(length)
        itself, causal = tokens[:, None] == tokens, tokens[:, None] >= tokens

        assert_mask(impl.sliding_window_mask(length, 1), itself, f"{length} tokens and window 1: the mask")
        for window in length, length + 1, 1000:
            mask = impl.sliding_window_mask(length, window)
            assert_mask(mask, causal, f"{length} tokens and window {window}: the mask")
    assert_mask(impl.sliding_window_mask(1, 1), torch.tensor([[True]]), "1 token and window 1: the mask")
    assert_mask(impl.sliding_window_mask(1, 5), torch.tensor([[True]]), "1 token and window 5: the mask")


@pytest.mark.visible
def test_a_token_sees_as_many_as_the_window(impl, rng):
    """a token sees window tokens, or all that there are so far; itself among them, none after it"""
    for _ in range(6):
        length = rng.randint(3, 12)
        window = rng.randint(1, length)
        mask = impl.sliding_window_mask(length, window)

        what = f"{length} tokens and window {window}"
        itself = mask.diagonal().int()
        assert_close(itself, torch.ones_like(itself), f"{what}: whether each token sees itself (1 is yes)")
        seen = torch.tensor([min(i + 1, window) for i in range(length)])
        assert_close(mask.sum(dim=-1), seen, f"{what}: how many tokens each token sees")
        later = mask.int().triu(1).sum(dim=-1)
        assert_close(later, torch.zeros_like(later), f"{what}: how many later tokens each token sees")


def test_masks_of_many_sizes(impl, rng):
    """the mask is right for many lengths and windows, one after the other"""
    sizes = [(rng.randint(1, 20), rng.randint(1, 25)) for _ in range(10)]

    for length, window in [*sizes, (40, 7), (7, 3), (7, 4), (9, 4), (7, 3), (290, 2)]:
        mask = impl.sliding_window_mask(length, window)
        assert_mask(mask, mask_on_paper(length, window), f"the mask of {length} tokens with window {window}")


# --- the attention, worked out by hand ---------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_three_tokens_by_hand(impl):
    """three tokens with one feature and a window of 2, worked out on paper"""
    q, v = torch.ones(1, 1, 3, 1), torch.tensor([4.0, 8.0, 0.0]).view(1, 1, 3, 1)

    for odds, by_hand in (3.0, [4.0, 7.0, 6.0]), (1.0, [4.0, 6.0, 4.0]):
        k = torch.tensor([0.0, math.log(odds), 0.0]).view(1, 1, 3, 1)
        out = impl.sliding_window_attention(q, k, v, 2)

        what = f"keys (0, ln {odds:g}, 0), queries of 1, values (4, 8, 0), window 2: the output"
        assert_close(out.flatten(), torch.tensor(by_hand), what)


@pytest.mark.visible
def test_scores_are_divided_by_the_root_of_the_head_width(impl):
    """the scores of a head with K features are divided by sqrt(K)"""
    for K, root in (4, 2.0), (9, 3.0), (16, 4.0):
        for odds in 3.0, 4.0:
            first = torch.zeros(1, 1, 2, K)
            first[..., 0] = 1.0
            k = first * torch.tensor([root * math.log(odds), 0.0]).view(2, 1)
            v = torch.tensor([1.0, 0.0]).view(2, 1).expand(1, 1, 2, K)
            out = impl.sliding_window_attention(first, k, v, 2)

            by_hand = torch.tensor([1.0, odds / (odds + 1)]).view(2, 1).expand(1, 1, 2, K)
            what = f"K = {K}, dot products {root * math.log(odds):.4f} and 0, values 1 and 0: the output"
            assert_close(out, by_hand, what, hint="How many features does a head compare?")


@pytest.mark.visible
def test_a_window_of_one_returns_the_values(impl, randn):
    """with a window of 1 every token gets its own value"""
    for _ in range(2):
        q, k, v = (randn(2, 3, 5, 4) for _ in range(3))

        assert_close(impl.sliding_window_attention(q, k, v, 1), v, "window 1: the output, which should be v")


@pytest.mark.visible
def test_the_weights_sum_to_1(impl, randn):
    """equal values come back as they are, and equal keys give the plain average of the window"""
    for window in 1, 2, 4, 6:
        q, k, v = (randn(2, 3, 6, 4) for _ in range(3))

        out = impl.sliding_window_attention(q, k, v[:, :, :1].expand(2, 3, 6, 4), window)
        same = v[:, :, :1].expand(2, 3, 6, 4)
        assert_close(out, same, f"window {window}, a value that is the same for all tokens: the output")
        out = impl.sliding_window_attention(q, k[:, :, :1].expand(2, 3, 6, 4), v, window)
        means = [v[:, :, max(0, i - window + 1) : i + 1].mean(dim=2) for i in range(6)]
        assert_close(out, torch.stack(means, dim=2), f"window {window}, keys that are all the same: the output")


# --- what is seen and what is not --------------------------------------------------------------------------


def change(tensors, where):
    """Return copies in which the tokens ``where`` are different."""
    others = [x.clone() for x in tensors]
    for x in others:
        x[:, :, where] = 3.0 - 2.0 * x[:, :, where]
    return others


def test_the_future_leaves_no_trace(impl, randn):
    """whatever comes after a token, its output stays the same"""
    for window in 2, 3, 9:
        inputs = [randn(2, 3, 7, 4) for _ in range(3)]
        before = impl.sliding_window_attention(*inputs, window)
        after = impl.sliding_window_attention(*change(inputs, slice(4, 7)), window)

        what = f"window {window}, tokens 4 to 6 were changed"
        assert_close(after[:, :, :4], before[:, :, :4], f"{what}: the output of tokens 0 to 3")
        assert_differs(after[:, :, 4:], before[:, :, 4:], f"{what}: their own output")
    assert_answers(impl, randn)


def test_what_has_left_the_window_leaves_no_trace(impl, randn):
    """a token that has left the window no longer matters, and one that is still in it does"""
    for window in 2, 3, 4:
        inputs = [randn(2, 3, 7, 4) for _ in range(3)]
        before = impl.sliding_window_attention(*inputs, window)
        after = impl.sliding_window_attention(*change(inputs, slice(0, 1)), window)

        what = f"window {window}, token 0 was changed"
        rest = f"the output of tokens {window} to 6, which do not see it"
        assert_close(after[:, :, window:], before[:, :, window:], f"{what}: {rest}")
        for t in range(window):
            assert_differs(after[:, :, t], before[:, :, t], f"{what}: the output of token {t}, which sees it")
    assert_answers(impl, randn)


def test_a_large_window_is_causal_attention(impl, randn):
    """a window of T tokens or more is causal attention"""
    for T in 5, 8:
        q, k, v = (randn(2, 3, T, 4) for _ in range(3))
        powers = (q.double() @ k.double().mT / 2.0).exp().tril()  # sqrt(4) is 2
        causal = powers @ v.double() / powers.sum(dim=-1, keepdim=True)
        for window in T, T + 1, 1000:
            out = impl.sliding_window_attention(q, k, v, window)
            assert_close(out, causal, f"{T} tokens, window {window}: the output", dtype=torch.float32)


def test_items_and_heads_do_not_meet(impl, randn):
    """an item of a batch, and a head, gets the same answer alone"""
    inputs = [randn(3, 2, 5, 4) for _ in range(3)]
    together = impl.sliding_window_attention(*inputs, 2)

    for item in range(3):
        alone = impl.sliding_window_attention(*(x[item : item + 1] for x in inputs), 2)
        assert_close(alone, together[item : item + 1], f"item {item} alone and in a batch of 3: the output")
    for head in range(2):
        alone = impl.sliding_window_attention(*(x[:, head : head + 1] for x in inputs), 2)
        assert_close(alone, together[:, head : head + 1], f"head {head} alone and among 2: the output")
    assert_answers(impl, randn)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000 give right weights, and no NaN"""
    for dtype in PRECISE:
        k = torch.tensor([[9e3, 1e4, 1e4, -1e4], [-1e4, -1e4, -1e4, -9e3]], dtype=dtype).view(1, 2, 4, 1)
        v = torch.tensor([1.0, 2.0, 6.0, 4.0], dtype=dtype).view(1, 1, 4, 1).expand(1, 2, 4, 1)
        for sign, by_hand in (
            (1.0, [[1.0, 2.0, 4.0, 6.0], [1.0, 1.5, 4.0, 4.0]]),
            (-1.0, [[1.0, 1.0, 4.0, 4.0], [1.0, 1.5, 4.0, 6.0]]),
        ):
            out = impl.sliding_window_attention(torch.full_like(k, sign), k, v, 2)

            what = f"window 2, scores of {sign:g} times (9e3, 1e4, 1e4, -1e4) and (-1e4, -1e4, -1e4, -9e3): the output"
            tolerance = 4e-3 if dtype == torch.float32 else None  # it knows a logarithm of about 10 000 to 0.0005
            assert_close(out[0, ..., 0], torch.tensor(by_hand, dtype=dtype), what, tolerance=tolerance)
    v = torch.tensor([1.0, 2.0, 6.0, 4.0]).bfloat16().view(1, 1, 4, 1)
    q = torch.ones_like(v)
    out = impl.sliding_window_attention(q, -1e4 * q, v, 1)
    what = "bfloat16, window 1, scores of -1e4: the output, which should be v"
    assert_close(out, v, what, hint="What is lower than any score in bfloat16?")


# --- the numbers, on inputs of every kind ------------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_the_reference(impl, reference, randn, rng):
    """random sizes and windows, size 1, and tensors that are not contiguous"""
    sizes = [(1, 1, 1, 1, 1), (2, 1, 6, 1, 3), (1, 3, 5, 7, 2), (2, 4, 4, 4, 2), (3, 3, 5, 5, 2), (4, 2, 4, 2, 3)]
    sizes += [[rng.choice((1, 2, 3, 5, 7)) for _ in range(5)] for _ in range(6)]
    for B, H, T, K, window in sizes:
        q, v = randn(B, T, H, K).transpose(1, 2), randn(B, H, T, 2 * K)[..., ::2]
        k = randn(B, H, K, T).mT

        sizes = f"B = {B}, H = {H}, T = {T}, K = {K}, window {window}"
        assert_same(impl, reference, (q, k, v), window, sizes)
    x = randn(2, 3, 6, 5)
    assert_same(impl, reference, (x, x, x), 3, "q, k and v are one tensor")


def test_float64(impl, reference, randn):
    """float64 inputs are computed in float64 all the way"""
    for window in 1, 3, 9:
        inputs = [randn(2, 3, 7, 4) for _ in range(3)]  # K = 4: sqrt(K) held in float32 is exact, and welcome
        hint = "If the other checks pass: what is rounded to float32 on the way?"
        assert_same(impl, reference, inputs, window, "float64", dtype=torch.float64, hint=hint)


def test_bfloat16(impl, reference, randn):
    """bfloat16 inputs give a bfloat16 output, also of long texts, and gradients flow as well"""
    for window in 1, 3, 9:
        inputs = [randn(2, 3, 7, 4) for _ in range(3)]
        assert_same(impl, reference, inputs, window, f"bfloat16, window {window}", dtype=torch.bfloat16)
        what = f"bfloat16, window {window}: the gradient"
        assert_same_gradients(impl, reference, randn, 7, window, torch.bfloat16, what)
    inputs = [0.5 * randn(1, 1, 300, 4) for _ in range(3)]
    assert_same(impl, reference, inputs, 2, "bfloat16, 300 tokens, window 2", dtype=torch.bfloat16)


def assert_same_gradients(impl, reference, randn, T, window, dtype, what, wanted="qkv"):
    """Compare the gradients of those of q, k, v that are wanted with the reference's; "x" is one tensor for all."""
    inputs = {name: randn(2, 3, T, 4, dtype=dtype) for name in ("x" if wanted == "x" else "qkv")}
    wide = {name: x.clone().double().requires_grad_(name in wanted) for name, x in inputs.items()}
    leaves = {name: x.requires_grad_(name in wanted) for name, x in inputs.items()}
    times = 3 // len(inputs)
    out = impl.sliding_window_attention(*[*leaves.values()] * times, window)
    right = reference.sliding_window_attention(*[*wide.values()] * times, window)
    leaves, wide = ({name: some[name] for name in wanted} for some in (leaves, wide))
    cotangent, tolerance = randn(2, 3, T, 4, dtype=dtype), None
    if dtype == torch.bfloat16:
        gradients = torch.autograd.grad((right * cotangent.double()).sum(), list(wide.values()), retain_graph=True)
        tolerance = 0.1 * max(float(gradient.abs().max()) for gradient in gradients)
    assert_shape(out, (2, 3, T, 4), f"window {window}, {T} tokens: the output", dtype=dtype)
    assert_gradients_match(out, leaves, right, wide, cotangent, what, tolerance=tolerance)


@pytest.mark.points(2)
def test_gradients(impl, reference, randn):
    """the gradients of q, k and v, in a second backward pass too, of one of them alone, and of one tensor for all"""
    for dtype in PRECISE:
        for window, T in (3, 6), (3, 6), (1, 4), (9, 4), (2, 1):
            what = f"window {window}, {T} tokens: the gradient"
            assert_same_gradients(impl, reference, randn, T, window, dtype, what)
        for wanted in "q", "k", "v":
            what = f"only {wanted} needs one, window 3: the gradient"
            assert_same_gradients(impl, reference, randn, 6, 3, dtype, what, wanted)
        what = "one tensor for q, k and v, window 3: the gradient"
        assert_same_gradients(impl, reference, randn, 6, 3, dtype, what, "x")


# --- good manners ------------------------------------------------------------------------------------------


def test_repeated_calls(impl, reference, randn):
    """call after call with other sizes, windows and dtypes, also under no_grad"""
    for dtype in torch.float32, torch.float64, torch.float32:
        for B, T, window in (2, 5, 2), (2, 5, 3), (2, 5, 2), (1, 9, 3), (3, 4, 3), (2, 5, 5):
            what = f"B = {B}, T = {T}, window {window}, after other calls"
            assert_same(impl, reference, [randn(B, 2, T, 4) for _ in range(3)], window, what, dtype=dtype)
            with torch.no_grad():
                what = f"B = {B}, T = {T}, window {window}, under no_grad"
                assert_same(impl, reference, [randn(B, 2, T, 4) for _ in range(3)], window, what, dtype=dtype)
    for T, window in (6, 2), (5, 3):
        q, k, v = (randn(2, 3, T, 4) for _ in range(3))
        right = reference.sliding_window_attention(q.double(), k.double(), v.double(), window)
        out = impl.sliding_window_attention(q, k, v, window=window)
        assert_close(out, right, "called with the window by name: the output", dtype=torch.float32)


def test_leaves_the_inputs_alone(impl, randn):
    """q, k and v are the same after the call"""
    inputs = {name: randn(2, 3, 5, 4) for name in "qkv"}
    before = {name: x.clone() for name, x in inputs.items()}

    impl.sliding_window_attention(*inputs.values(), 2)

    for name, x in inputs.items():
        assert_close(x, before[name], f"{name} after the call and before it", tolerance=0.0)
    assert_answers(impl, randn)


def test_no_loop_over_tokens_or_batch(impl, reference, randn):
    """the number of tensor operations does not grow with the tokens or the batch"""
    x, small = randn(1, 2, 40, 4), randn(40, 2, 5, 4)
    long_q, long_k, long_v = (randn(1, 2, 40, 4) for _ in range(3))

    assert_mask(impl.sliding_window_mask(40, 3), mask_on_paper(40, 3), "the mask of 40 tokens with window 3")
    assert_same(impl, reference, (long_q, long_k, long_v), 3, "40 tokens with window 3")
    assert_no_loop(impl, lambda n: impl.sliding_window_mask(n, 3), "tokens")
    assert_no_loop(impl, lambda n: impl.sliding_window_attention(*[x[:, :, :n]] * 3, 3), "tokens")
    assert_no_loop(impl, lambda n: impl.sliding_window_attention(*[small[:n]] * 3, 3), "batch items")


def test_the_mask_lies_on_the_default_device(impl):
    """the mask is made on PyTorch's default device"""
    for length in 4, 6:
        assert_mask(impl.sliding_window_mask(length, 2), mask_on_paper(length, 2), f"the mask of {length} tokens")
        with impl.default_device("meta"):  # meta stands for any accelerator
            what = "the mask, with `torch.set_default_device`"
            assert_follows_device(impl, lambda n=length: impl.sliding_window_mask(n, 2), what)
        assert_mask(impl.sliding_window_mask(length, 2), mask_on_paper(length, 2), f"the mask of {length} tokens")


def test_follows_the_device(impl, randn):
    """the attention runs on the device that q, k and v lie on"""
    inputs = [randn(2, 3, 5, 4).to("meta") for _ in range(3)]

    assert_answers(impl, randn)
    for window in 2, 9:
        call = "the output"
        assert_follows_device(impl, lambda w=window: impl.sliding_window_attention(*inputs, w), call)
    assert_answers(impl, randn)


def test_errors(impl, randn):
    """a length or a window below 1 raises ValueError, in both functions"""
    x = randn(1, 2, 3, 4)

    def good():
        assert_mask(impl.sliding_window_mask(3, 2), drawn("x..", "xx.", ".xx"), "the mask of 3 tokens with window 2")
        assert_mask(impl.sliding_window_mask(1, 1), drawn("x"), "the mask of 1 token with window 1")
        assert_answers(impl, randn)

    for length, window in (3, 0), (3, -1), (0, 2), (-2, 2), (0, 0):
        what = f"the mask with length {length} and window {window}"
        assert_rejects(lambda sizes=(length, window): impl.sliding_window_mask(*sizes), what, good=good)
    for window in 0, -3:
        what = f"the attention with window {window}"
        assert_rejects(lambda w=window: impl.sliding_window_attention(x, x, x, w), what, good=good)


# --- diagnosis and picture ---------------------------------------------------------------------------------


def probe(impl):
    """Ask for masks, and for an attention in which heads and tokens differ in number."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, 7, 4, generator=generator) for _ in range(3))
    return {
        "mask": observe(lambda: impl.sliding_window_mask(7, 3)),
        "narrow": observe(lambda: impl.sliding_window_mask(4, 1)),
        "output": observe(lambda: impl.sliding_window_attention(q, k, v, 3)),
        "causal": observe(lambda: impl.sliding_window_attention(q, k, v, 7)),
    }


def picture(impl):
    """Draw the mask, and how much of each token arrives at each other one."""
    T = 24
    mask = impl.sliding_window_mask(T, 6).float()
    place = torch.arange(float(T)) * (2 * math.pi / 8)
    x = 2.0 * torch.stack((place.cos(), place.sin()), dim=-1).view(1, 1, T, 2)  # every 8th token is alike
    x = torch.nn.functional.pad(x, (0, T - 2))  # as wide as there are tokens, so that v can be one-hot

    panels = [Panel("the mask with window 6", mask, x_label="key", y_label="query")]
    for window in 6, 12:
        weights = impl.sliding_window_attention(x, x, torch.eye(T).view(1, 1, T, T), window)[0, 0]
        panels.append(Panel(f"weights with window {window}", weights, x_label="key", y_label="query"))
    return panels
