"""Hidden suite of encoder_block: shapes, the residuals and norms, each sub-layer alone, masks, the whole.

A check of one part silences the other, so that one mistake fails few checks. A check of a property ends in
``assert_answers``, which no made-up answer passes and none kept from before.
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

PRECISE = (torch.float32, torch.float64)
FORMS = {"post-norm": False, "pre-norm": True}
NO_ATTENTION = ("wo.weight", "wo.bias")
NO_FEED_FORWARD = ("w2.weight", "w2.bias")


def shapes_of(D, F):
    """Return names and shapes of all parameters."""
    shapes = {}
    for name, out_features, in_features in ("wq", D, D), ("wk", D, D), ("wv", D, D), ("wo", D, D), ("w1", F, D):
        shapes |= {f"{name}.weight": (out_features, in_features), f"{name}.bias": (out_features,)}
    shapes |= {"w2.weight": (D, F), "w2.bias": (D,)}
    return shapes | {f"norm{i}.{name}": (D,) for i in (1, 2) for name in ("weight", "bias")}


def silent_weights(D, F, changes):
    """Return weights of 0 and plain norms, so that both sub-layers return 0, except for ``changes``."""
    weights = {name: torch.zeros(shape) for name, shape in shapes_of(D, F).items()}
    return weights | {f"norm{i}.weight": torch.ones(D) for i in (1, 2)} | changes


def silent(impl, D, H, F, changes, *, dropout=0.0, norm_first=False):
    """Make the learner's block with ``silent_weights``."""
    module = impl.EncoderBlock(D, H, F, dropout, norm_first)
    module.load_state_dict(silent_weights(D, F, changes))
    return module


def with_zeros(pair, names):
    """Set some parameters of both twins to 0."""
    mine, ref = pair
    weights = ref.state_dict()
    weights |= {name: torch.zeros_like(weights[name]) for name in names}
    mine.load_state_dict(weights)
    ref.load_state_dict(weights)
    return mine, ref


def normed(x, gain, bias):
    """Return the formula of the layer norm, in float64."""
    x = x.double()
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * gain + bias


def run(module, x, mask=None):
    """Call a block."""
    return module(x) if mask is None else module(x, mask=mask)


def assert_same(mine, ref, x, mask=None, what="random input", *, dtype=torch.float32, hint=""):
    """Compare the output with the reference's."""
    x = x.to(dtype)
    assert_close(run(mine, x, mask), run(ref, x.double(), mask), what, dtype=dtype, hint=hint)


def constant_norms(bias):
    """Return gains of 0 and one bias for all norms: a post-norm block returns that bias, whatever the rest does."""
    gains = {f"norm{i}.weight": torch.zeros_like(bias) for i in (1, 2)}
    return gains | {f"norm{i}.bias": bias for i in (1, 2)}


def assert_answers(impl, randn):
    """Check that a block answers at all."""
    bias = randn(6)
    out = silent(impl, 6, 2, 5, constant_norms(bias))(randn(2, 4, 6))
    assert_close(out, bias.expand(2, 4, 6), "post-norm, gains of 0 in both norms: the output, which is norm2.bias")


def some_mask(randint, *shape):
    """Return a random mask in which every row has an allowed token."""
    mask = randint(0, 2, shape).bool()
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


# --- shapes and names -------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the output has the shape of the input"""
    for form, norm_first in FORMS.items():
        module = impl.EncoderBlock(d_model=12, n_heads=2, d_ff=20, norm_first=norm_first)
        with torch.no_grad():  # the names come later, and zeros would be fine to start with
            for parameter in module.parameters():
                parameter.uniform_(-0.5, 0.5)
        seen = torch.zeros(0)

        for B, T in (3, 5), (3, 5), (2, 7), (1, 1):
            x = randn(B, T, 12)
            out = module(x)

            what = f"{form}, B = {B}, T = {T}, D = 12: the output"
            assert_shape(out, (B, T, 12), what, dtype=torch.float32)
            assert_differs(out, x, f"{what}, which is x again")
            assert_differs(out, seen, f"{what} of a call with another x")
            seen = out


@pytest.mark.visible
def test_parameter_names(impl, randn):
    """the parameters have the names and shapes of the brief, and nothing else is saved and loaded"""
    asked = shapes_of(6, 10)
    for norm_first in FORMS.values():
        module = impl.EncoderBlock(6, 2, 10, norm_first=norm_first)
        places = {"named_parameters()": module.named_parameters(), "state_dict()": module.state_dict().items()}
        for place, found in places.items():
            came = {name: tuple(tensor.shape) for name, tensor in found}
            for name in sorted(came.keys() | asked.keys()):
                if came.get(name) != asked.get(name):
                    wrong, right = came.get(name, "missing"), asked.get(name, "absent")
                    raise CheckFailure(f"{place} for D = 6, F = 10: {name} is {wrong}, but should be {right}.")
        for frozen in (name for name, parameter in module.named_parameters() if not parameter.requires_grad):
            raise CheckFailure(f"{frozen} does not require a gradient, so it would not be trained.")
    for bias in torch.arange(6.0), torch.tensor([5.0, 0.0, -2.0, 1.0, 1.0, 3.0]):
        weights = silent_weights(6, 10, constant_norms(bias))
        module = impl.EncoderBlock(6, 2, 10)
        module.load_state_dict(weights)
        out = module(randn(1, 2, 6))

        assert_close(out, bias.expand(1, 2, 6), "loaded gains of 0 in both norms: the output, which is norm2.bias")
        saved = module.state_dict()
        assert saved.keys() == asked.keys(), f"state_dict() after a call holds {', '.join(saved)}."


# --- residuals and norms ----------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_post_norm_by_hand(impl, randn):
    """post-norm: x plus a sub-layer, then a norm, twice, with sub-layers that return constants"""
    c = torch.tensor([2.0, 1.0, 0.0, -4.0])
    gains = {"norm1.weight": torch.tensor([1.0, 2.0, 3.0, 4.0]), "norm1.bias": torch.tensor([1.0, -1.0, 1.0, 1.0])}
    gains |= {"norm2.weight": torch.tensor([2.0, 1.0, 1.0, 3.0]), "norm2.bias": torch.tensor([0.0, 1.0, 0.0, -1.0])}
    module = impl.EncoderBlock(4, 2, 3)  # post-norm is what one gets without asking

    for sum1, d, by_hand in (
        ([10.0, -10.0, 10.0, -10.0], [3.0, -2.0, 1.0, -2.0], [2.0, 0.0, 1.0, -4.0]),  # norm1 gives [2, -3, 4, -3]
        ([-10.0, 10.0, -10.0, 10.0], [-5.0, 4.0, -3.0, 0.0], [-2.0, 2.0, -1.0, 2.0]),  # and [0, 1, -2, 5]
    ):
        module.load_state_dict(silent_weights(4, 3, gains | {"wo.bias": c, "w2.bias": torch.tensor(d)}))
        x = torch.tensor(sum1) - c
        out = module(x.view(1, 1, 4))

        what = f"x = {x.tolist()}, attention returns {c.tolist()}, the feed-forward {d}: the output"
        assert_close(
            out.flatten(), torch.tensor(by_hand), what, hint="Where are the two sums, and where the two norms?"
        )
    for _ in range(2):
        weights = {"norm1.weight": 1 + randn(6), "norm1.bias": randn(6), "wo.bias": randn(6)}
        weights |= {"norm2.weight": 1 + randn(6), "norm2.bias": randn(6), "w2.bias": randn(6)}
        x = randn(2, 3, 6)
        out = silent(impl, 6, 3, 4, weights, norm_first=False)(x)

        middle = normed(x + weights["wo.bias"], weights["norm1.weight"], weights["norm1.bias"])
        right = normed(middle + weights["w2.bias"], weights["norm2.weight"], weights["norm2.bias"])
        assert_close(out, right, "sub-layers that return wo.bias and w2.bias: the output", dtype=torch.float32)


@pytest.mark.visible
@pytest.mark.points(2)
def test_pre_norm_by_hand(impl, randn):
    """pre-norm: the sub-layers are added to x as it came, with sub-layers that return constants"""
    for D, H in (4, 2), (4, 2), (5, 1):
        weights = {"norm1.weight": 1 + randn(D), "norm1.bias": randn(D), "wo.bias": randn(D)}
        weights |= {"norm2.weight": 1 + randn(D), "norm2.bias": randn(D), "w2.bias": randn(D)}
        x = 2.0 + randn(2, 3, D)
        out = silent(impl, D, H, 3, weights, norm_first=True)(x)

        what = "sub-layers that return wo.bias and w2.bias: the output, which is x + wo.bias + w2.bias"
        assert_close(
            out, x + weights["wo.bias"] + weights["w2.bias"], what, hint="What is normed here, and what is not?"
        )


def test_norms(impl, reference, randn):
    """the variance is divided by D, and eps = 1e-5 is added to it under the root"""
    for size in 3.0, 0.003, 0.003, 0.0003:  # the variance is far above eps, close to it, far below
        for norm in 1, 2:
            gain, bias = 1 + 0.3 * randn(4), randn(4)
            changes = {f"norm{norm}.weight": gain, f"norm{norm}.bias": bias, "wv.weight": torch.eye(4)}
            changes |= (
                {"wo.weight": torch.eye(4)}
                if norm == 1
                else {"w1.weight": torch.eye(4), "w1.bias": 9.0 * torch.ones(4)}
            )
            changes |= {} if norm == 1 else {"w2.weight": torch.eye(4), "w2.bias": -9.0 * torch.ones(4)}
            x = size * randn(3, 1, 4)
            out = silent(impl, 4, 2, 4, changes, norm_first=True)(x)

            what = f"pre-norm, features of about {size:g}, a sub-layer that returns what it gets: x + norm{norm}(x)"
            assert_close(out, x + normed(x, gain, bias), what, dtype=torch.float32)
        weights = {"norm1.bias": randn(4), "norm1.weight": 0.01 * randn(4), "norm2.weight": randn(4)}
        x = size * randn(3, 2, 4)
        out = silent(impl, 4, 2, 4, weights)(x)

        right = normed(normed(x, weights["norm1.weight"], weights["norm1.bias"]), weights["norm2.weight"], 0.0)
        what = f"post-norm, features of about {size:g}, silent sub-layers: norm2(norm1(x))"
        assert_close(out, right, what, dtype=torch.float32)


# --- the sub-layers, one at a time ------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_attention_by_hand(impl):
    """two heads of two features each in a pre-norm block, worked out on paper"""
    x = torch.tensor([[[10.0, -10.0, 10.0, -10.0], [10.0, -10.0, -10.0, 10.0]]])  # norm1 makes 1 and -1 of them
    sizes = torch.tensor([1.0, 2.0, 4.0, 8.0])
    changes = {"wk.weight": torch.eye(4), "wv.weight": sizes.diag(), "wo.weight": torch.eye(4)[[1, 0, 3, 2]]}

    for odds, by_hand in (3.0, [-2.0, 1.0, -4.0, 2.0]), (7.0, [-2.0, 1.0, -6.0, 3.0]):
        changes["wq.weight"] = math.sqrt(2) / 4 * math.log(odds) * torch.eye(4)
        module = silent(impl, 4, 2, 3, changes, norm_first=True)
        for order in [0, 1], [1, 0]:
            out = module(x[:, order])

            what = (
                "norm1(x) of (1, -1, 1, -1) and (1, -1, -1, 1), values of 1, 2, 4 and 8 times that, scores that are "
                f"equal in head 0 and in head 1 favour the token itself by {odds:g} : 1, a wo that swaps features "
                "0 and 1, and 2 and 3: what is added to x"
            )
            added = torch.tensor([by_hand, [*by_hand[:2], -by_hand[2], -by_hand[3]]])[order]
            assert_close(out - x[:, order], added[None], what, tolerance=2e-5)


@pytest.mark.points(2)
def test_attention_alone(twins, randn):
    """attention between its residual and its norm, in a block whose feed-forward returns 0"""
    for form, norm_first in FORMS.items():
        for D, H, T in (8, 2, 5), (8, 2, 1), (12, 3, 4), (9, 1, 6), (4, 2, 130):
            mine, ref = with_zeros(twins("EncoderBlock", D, H, 7, norm_first=norm_first), NO_FEED_FORWARD)

            assert_same(mine, ref, randn(2, T, D), what=f"{form}, D = {D}, H = {H}, T = {T}, w2 all 0: the output")


@pytest.mark.visible
@pytest.mark.points(2)
def test_feed_forward_by_hand(impl):
    """two features and three hidden units in a pre-norm block, worked out on paper"""
    changes = {"wo.bias": torch.tensor([3.0, 4.0])}
    changes |= {"norm2.weight": torch.tensor([2.0, 3.0]), "norm2.bias": torch.tensor([0.0, 1.0])}
    changes |= {
        "w1.weight": torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
        "w1.bias": torch.tensor([1.0, -1.0, 2.0]),
    }
    changes |= {"w2.weight": torch.tensor([[1.0, 5.0, 0.0], [0.0, -7.0, 2.0]]), "w2.bias": torch.tensor([1.0, -1.0])}
    module = silent(impl, 2, 1, 3, changes, norm_first=True)

    for middle, norm, hidden, by_hand in (
        ([10.0, -10.0], [2, -2], [3, -3, 2], [4.0, 3.0]),
        ([-10.0, 10.0], [-2, 4], [-1, 3, 4], [16.0, -14.0]),
    ):
        x = torch.tensor(middle) - changes["wo.bias"]
        out = module(x.view(1, 1, 2))

        what = (
            f"x plus the attention's output is {middle}, norm2 makes {norm} of it, w1 makes {hidden}, "
            f"the ReLU cuts, w2 returns {by_hand}: the output"
        )
        assert_close(out.flatten(), torch.tensor(middle) + torch.tensor(by_hand), what, tolerance=2e-5)


@pytest.mark.points(2)
def test_feed_forward_alone(twins, randn):
    """the feed-forward between its residual and its norm, in a block whose attention returns a constant"""
    for form, norm_first in FORMS.items():
        for D, F in (8, 20), (8, 3), (6, 6):
            mine, ref = with_zeros(twins("EncoderBlock", D, 2, F, norm_first=norm_first), NO_ATTENTION[:1])

            what = f"{form}, D = {D}, F = {F}, wo.weight all 0: the output"
            assert_same(mine, ref, randn(2, 5, D), what=what, hint="Which x does the feed-forward read?")


# --- masks ------------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_true_in_a_mask_means_may_attend(impl, randn):
    """a token that may attend to one token alone gets that token's value"""
    changes = {"wv.weight": torch.eye(4), "wo.weight": torch.eye(4), "norm1.bias": torch.tensor([1.0, 0.0, 2.0, 5.0])}
    module = silent(impl, 4, 2, 3, changes, norm_first=True)

    for allowed in [2, 0, 1], [1, 1, 0]:
        x = 3.0 * randn(1, 3, 4)
        mask = torch.zeros(3, 3, dtype=torch.bool)
        mask[[0, 1, 2], allowed] = True
        out = run(module, x, mask)

        value = normed(x, 1.0, changes["norm1.bias"])[:, allowed]
        what = f"pre-norm, tokens 0, 1, 2 may attend to tokens {', '.join(map(str, allowed))} alone: what is added to x"
        assert_close(out - x, value, what, dtype=torch.float32)


@pytest.mark.points(2)
def test_masks_of_every_shape(twins, randn, randint):
    """a mask broadcasts to (B, H, T, T)"""
    for form, norm_first in FORMS.items():
        mine, ref = twins("EncoderBlock", 8, 2, 5, norm_first=norm_first)
        for B, T, shape in (
            *((3, 4, shape) for shape in ((4, 4), (1, 4), (3, 1, 4, 4), (3, 1, 1, 4), (1, 2, 1, 4), (2, 4, 4))),
            *((3, 4, shape) for shape in ((3, 2, 4, 4), (4,), (1, 1, 4, 4))),
            *(
                (2, 4, (2, 4, 4)),
                (4, 4, (4, 4)),
                (2, 2, (2, 2)),
                (2, 2, (2, 1, 1, 2)),
                (4, 4, (4, 1, 1, 4)),
                (3, 1, (1, 1)),
            ),
        ):
            what = f"{form}, B = {B}, H = 2, T = {T}, a mask of shape {shape}: the output"
            assert_same(mine, ref, randn(B, T, 8), some_mask(randint, *shape), what)
        rows = torch.ones(4, 1, dtype=torch.bool)
        assert_same(mine, ref, randn(3, 4, 8), rows, f"{form}, a mask of shape (T, 1), all True: the output")


@pytest.mark.points(2)
def test_a_token_with_nothing_to_attend_to(twins, randn, randint):
    """a token that may attend to nothing gets heads of 0, so the bias of wo from the attention, and no NaN"""
    row, item, head = some_mask(randint, 4, 4), some_mask(randint, 3, 1, 1, 4), some_mask(randint, 3, 2, 4, 4)
    row[1], item[2], head[:, :, 2] = False, False, False
    masks = {"token 1": row, "the last item": item, "token 2": head, "everyone": torch.zeros(1, 4).bool()}
    masks["token 3, by a mask (T, 1),"] = torch.tensor([[True], [True], [True], [False]])

    for form, norm_first in FORMS.items():
        mine, ref = with_zeros(twins("EncoderBlock", 8, 2, 5, norm_first=norm_first), NO_FEED_FORWARD)
        for dtype in PRECISE:
            mine.to(dtype)
            for who, mask in masks.items():
                x = randn(3, 4, 8, dtype=dtype)
                out = run(mine, x, mask)

                silent = ~mask.expand(3, 2, 4, 4).any(dim=-1).any(dim=1)  # (B, T)
                right = x.double() + ref.wo.bias
                if not norm_first:
                    right = ref.norm2(ref.norm1(right))
                what = f"{form}, w2 all 0, {who} may attend to nothing: the output there"
                assert_shape(out, x.shape, what.removesuffix(" there"), dtype=dtype)
                assert_close(out[silent], right[silent], f"{what}, which comes from x + wo.bias", dtype=dtype)
    head[:, :, 2], head[:, 1, 1] = True, False  # one head of token 1 sees nothing, the other does
    assert_same(mine, ref, randn(3, 4, 8), head, "token 1 sees nothing in head 1: the output", dtype=torch.float64)
    alone = torch.tensor([True, False, True]).view(3, 1, 1, 1)
    what = "texts of one token, the second of which may not attend to it: the output"
    assert_same(mine, ref, randn(3, 1, 8), alone, what, dtype=torch.float64)


def test_masked_tokens_leave_no_trace(impl, twins, randn):
    """whatever stands at masked tokens, padding or the future, the output of the others stays the same"""
    padding, causal = (torch.arange(6) < 4).view(1, 1, 1, 6), torch.ones(6, 6, dtype=torch.bool).tril()
    for form, norm_first in FORMS.items():
        mine, _ = twins("EncoderBlock", 6, 2, 5, norm_first=norm_first)
        x = randn(2, 6, 6)
        other = x.clone()
        other[:, 4:] = 10.0 * randn(2, 2, 6)
        for name, mask in ("padding", padding), ("causal", causal), ("no", None):
            before, after = (run(mine, tokens, mask).detach() for tokens in (x, other))
            what = f"{form}, {name} mask, tokens 4 and 5 were changed: the output of tokens"
            if mask is None:
                assert_differs(after[:, :4], before[:, :4], f"{what} 0 to 3, who attend to them")
            else:
                assert_close(after[:, :4], before[:, :4], f"{what} 0 to 3")
            assert_differs(after[:, 4:], before[:, 4:], f"{what} 4 and 5")
    assert_answers(impl, randn)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000, allowed or masked, give right weights and no NaN"""
    changes = {name: torch.eye(3) for name in ("wk.weight", "wv.weight", "wo.weight")}
    x = torch.tensor([[[10.0, -10.0, 0.0], [10.0, 0.0, -10.0]]])  # dot products 3 and 1.5 after norm1
    hide_self = torch.tensor([[False, True], [True, False]])

    for dtype in PRECISE:
        for sign, mask, seen in (1, None, [0, 1]), (-1, None, [1, 0]), (1, hide_self, [1, 0]), (-1, ~hide_self, [0, 1]):
            changes["wq.weight"] = sign * 1e4 / math.sqrt(3) * torch.eye(3)
            module = silent(impl, 3, 1, 2, changes, norm_first=True).to(dtype)
            out = run(module, x.to(dtype), mask)

            scores = f"scores {sign * 10_000} for a token itself, {sign * 5000} for the other"
            hidden = "" if mask is None else ", of which one is masked"
            added = normed(x, 1.0, 0.0)[:, seen]
            tolerance = 2e-5 if dtype == torch.float32 else None
            what = f"pre-norm, {scores}{hidden}: what is added to x"
            assert_close(out - x, added, what, dtype=dtype, tolerance=tolerance)


# --- properties and the whole -----------------------------------------------------------------------------


def test_the_order_of_the_tokens_does_not_matter(impl, twins, randn, rng):
    """tokens shuffled: the output is shuffled alike"""
    for form, norm_first in FORMS.items():
        mine, _ = twins("EncoderBlock", 8, 2, 6, norm_first=norm_first)
        order = rng.sample(range(5), 5)
        x = randn(2, 5, 8)

        out, shuffled = run(mine, x), run(mine, x[:, order])

        assert_shape(out, x.shape, "the output")
        assert_close(shuffled, out.detach()[:, order], f"{form}, tokens in the order {order}: the output")
    assert_answers(impl, randn)


@pytest.mark.points(3)
def test_matches_the_reference(twins, randn, randint, rng):
    """random sizes, size 1, and inputs that are not contiguous, in both forms"""
    for B, T, H, K, F in [
        (1, 1, 1, 6, 1),
        (3, 1, 2, 4, 5),
        (2, 2, 2, 3, 6),  # sizes by which dimensions are mixed up
        *(
            (rng.choice((1, 2, 3, 5)), rng.choice((1, 2, 3, 5, 7)), *rng.choice(((1, 7), (2, 5), (5, 2), (8, 1))), F)
            for F in (3, 8, 13)
        ),
    ]:
        for form, norm_first in FORMS.items():
            mine, ref = twins("EncoderBlock", H * K, H, F, norm_first=norm_first)
            sizes = f"{form}, B = {B}, T = {T}, H = {H}, K = {K}, F = {F}"
            for name, x in (
                ("", randn(T, B, H * K).transpose(0, 1)),
                (", every second feature of a tensor", randn(B, T, 2 * H * K)[..., ::2]),
                (", a transposed tensor", randn(B, H * K, T).transpose(1, 2)),
            ):
                assert_same(mine, ref, x, what=f"{sizes}{name}: the output")
            mask, x = some_mask(randint, B, 1, T, T), randn(B, T, H * K)
            assert_close(mine(x, mask), ref(x.double(), mask), f"{sizes}, with a mask: the output", dtype=torch.float32)


def test_float64(twins, randn, randint):
    """a float64 block computes in float64 all the way"""
    for form, norm_first in FORMS.items():
        mine, ref = twins("EncoderBlock", 8, 2, 6, norm_first=norm_first)  # K = 4: sqrt(K) held in float32 is exact
        mine.double()
        finer = {name: w + 1e-6 * randn(*w.shape, dtype=torch.float64) for name, w in ref.state_dict().items()}
        mine.load_state_dict(finer)  # weights that float32 cannot hold
        ref.load_state_dict(finer)

        for mask in None, some_mask(randint, 3, 1, 5, 5):
            hint = "If the other checks pass: what is rounded to float32 on the way?"
            x = randn(3, 5, 8, dtype=torch.float64)
            assert_same(mine, ref, x, mask, f"{form}, float64", dtype=torch.float64, hint=hint)


def test_bfloat16(twins, randn, randint):
    """a bfloat16 block takes and returns bfloat16"""
    for form, norm_first in FORMS.items():
        mine, ref = twins("EncoderBlock", 16, 2, 12, norm_first=norm_first)
        mine.bfloat16()
        ref.bfloat16().double()  # the same weights, rounded

        for mask in None, some_mask(randint, 3, 1, 5, 5):
            x = randn(3, 5, 16).bfloat16()
            out, right = run(mine, x, mask), run(ref, x.double(), mask)
            assert_close(out, right, f"{form}, bfloat16: the output", dtype=torch.bfloat16, half=0.04)
        away_from_kinks(mine, ref)
        x = randn(3, 5, 16).bfloat16().requires_grad_()
        wide, cotangent = x.detach().double().requires_grad_(), randn(3, 5, 16)
        output, right = mine(x), ref(wide)
        loose = 0.1 * float(torch.autograd.grad((right * cotangent).sum(), wide, retain_graph=True)[0].abs().max())
        what = f"{form}, bfloat16: the gradient"
        assert_gradients_match(output, {"x": x}, right, {"x": wide}, cotangent, what, tolerance=loose)


# --- gradients --------------------------------------------------------------------------------------------


def away_from_kinks(mine, ref):
    """Make half of the hidden units large and half of them negative, so that no rounding moves one across 0."""
    with torch.no_grad():
        for module in mine, ref:
            bias = module.w1.bias
            bias.copy_(torch.tensor([8.0, -8.0]).repeat(len(bias))[: len(bias)])


def assert_same_gradients(mine, ref, dtype, randn, what, mask=None, B=3, T=4):
    """Compare the gradients of a fresh input and of all parameters with the reference's."""
    x = randn(B, T, 8, dtype=dtype).requires_grad_()
    wide = x.detach().double().requires_grad_()
    leaves, wide_leaves = {"x": x} | dict(mine.named_parameters()), {"x": wide} | dict(ref.named_parameters())
    output, right = run(mine, x, mask), run(ref, wide, mask)
    assert_gradients_match(output, leaves, right, wide_leaves, randn(B, T, 8, dtype=dtype), what)


@pytest.mark.points(2)
def test_gradients(twins, randn):
    """the gradients of the input and of all parameters, in a second backward pass too"""
    for form, norm_first in FORMS.items():
        for dtype in PRECISE:
            mine, ref = twins("EncoderBlock", 8, 2, 6, norm_first=norm_first)
            away_from_kinks(mine.to(dtype), ref)
            for what in "the gradient", "the gradient in a second backward pass":
                assert_same_gradients(mine, ref, dtype, randn, f"{form}: {what}")
            assert_same_gradients(mine, ref, dtype, randn, f"{form}, one token: the gradient", T=1)
            mine.train()
            assert_same_gradients(mine, ref, dtype, randn, f"{form}, training mode without dropout: the gradient")


def test_gradients_under_a_mask(twins, randn, randint):
    """the gradients under a mask, with a token that may attend to nothing: no NaN"""
    for form, norm_first in FORMS.items():
        for dtype in PRECISE:
            mine, ref = twins("EncoderBlock", 8, 2, 6, norm_first=norm_first)
            away_from_kinks(mine.to(dtype), ref)
            for _ in range(2):
                mask = some_mask(randint, 3, 2, 4, 4)
                mask[1, :, 2], mask[0, 1, 3] = False, False  # no head of one token, and one head of another
                assert_same_gradients(mine, ref, dtype, randn, f"{form}: the gradient under a mask", mask)


def test_gradients_in_training(impl, twins, randn):
    """with dropout, in training, the gradient goes through what was kept and reaches every parameter"""
    for form, norm_first in FORMS.items():
        mine, ref = twins("EncoderBlock", 8, 2, 6, 0.5, norm_first)
        away_from_kinks(mine.train(), ref)
        x = randn(16, 4, 8).requires_grad_()
        leaves = {"x": x} | {name: leaf for name, leaf in mine.named_parameters() if name != "wk.bias"}  # softmax: 0
        out = assert_shape(run(mine, x), x.shape, "the output", dtype=torch.float32)
        assert out.requires_grad, f"{form}, dropout = 0.5, training mode: no gradient flows at all."
        found = torch.autograd.grad((out * randn(16, 4, 8)).sum(), list(leaves.values()), allow_unused=True)
        for name, gradient in zip(leaves, found, strict=True):
            if gradient is None or not gradient.any():
                what = f"{form}, dropout = 0.5, training mode: no gradient reaches {name}"
                raise CheckFailure(f"{what}. Is something detached where numbers are dropped?")
    for first, last in ("wv", "wo"), ("w1", "w2"):  # a constant that is dropped, copied by an identity, dropped again
        constant = 1.0 + randn(40).abs()
        changes = {f"{first}.bias": constant, f"{last}.weight": torch.eye(40)}
        module = silent(impl, 40, 4, 40, changes, dropout=0.25, norm_first=True).train()
        x, cotangent = randn(16, 1, 40), randn(16, 1, 40)
        out = assert_shape(run(module, x), x.shape, "the output", dtype=torch.float32)

        leaf = constant.double().requires_grad_()
        right = x + (out.detach() - x).double() / constant * leaf
        what = f"pre-norm, dropout = 0.25, {first}.weight of zeros, {last}.weight the identity: the gradient"
        name = f"{first}.bias"
        leaves = {name: dict(module.named_parameters())[name]}
        assert_gradients_match(out, leaves, right, {name: leaf}, cotangent, what, tolerance=1e-4)


# --- dropout ----------------------------------------------------------------------------------------------

GROUPS, COPIES = 6, 8
D_DROP = GROUPS * COPIES + 2  # two heads: in each, three groups of eight features and one that is an anchor
ANCHORS = [D_DROP // 2 - 1, D_DROP - 1]
GROUPED = [i for i in range(D_DROP) if i not in ANCHORS]
ANCHOR_SIZE = 6.0
FIRST_OF_HEAD = [head * D_DROP // 2 + s for head in (0, 1) for s in (0, 1, 2)]
FIRST_OF_GROUP = [head * D_DROP // 2 + s * COPIES for head in (0, 1) for s in (0, 1, 2)]


def returned_in_training(impl, sub_layer, p, norm_first, mask=None, B=160):
    """Return what a sub-layer really added to x in training mode, shape (B, T = 3, 2, 3, COPIES).

    In attention every token's value is 1 in its group of features and 0 in the others, in both heads, so group s of
    head h shows the weight of token s, ``COPIES`` times. The weights are in the ratio 1 : 2 : 3. In the feed-forward
    every hidden unit is 1, and unit f is copied to group f. The two anchors are features to which no sub-layer adds
    anything. They tell how the norms behind the sum have moved and stretched each token, which is undone here. Queries
    and hidden units are read off an anchor, so that what is dropped before shows, too.
    """
    T = 3
    x = torch.zeros(1, T, D_DROP)
    x[0, :, ANCHORS] = torch.tensor([-ANCHOR_SIZE, ANCHOR_SIZE])
    pattern = torch.eye(3).repeat_interleave(COPIES, dim=1)  # (S, 3 * COPIES)
    picks = torch.zeros(D_DROP, GROUPS)
    picks[GROUPED, torch.arange(GROUPS).repeat_interleave(COPIES)] = 1.0
    if sub_layer == "attention":
        x[0, :, GROUPED] = 4.0 * pattern.repeat(1, 2)
        read = normed(x, 1.0, 0.0).float() if norm_first else x  # what wv gets
        low, high = float(read[0, 1, 0]), float(read[0, 0, 0])
        rows, columns = FIRST_OF_HEAD, FIRST_OF_GROUP
        value, key, query = torch.zeros(D_DROP), torch.zeros(D_DROP, D_DROP), torch.zeros(D_DROP, D_DROP)
        value[GROUPED], key[rows, columns] = 1.0, 1.0
        query[rows, ANCHORS[1]] = math.sqrt(D_DROP // 2) * torch.tensor([1.0, 2.0, 3.0]).log().repeat(2)
        changes = {"wv.weight": value.diag() / (high - low), "wv.bias": -low / (high - low) * value}
        changes |= {"wk.weight": key / (high - low), "wk.bias": -low / (high - low) * key.sum(dim=1)}
        changes |= {"wq.weight": query / float(read[0, 0, ANCHORS[1]]), "wo.weight": torch.eye(D_DROP)}
        sum_of = x
    else:
        sum_of, read = (x if norm_first else normed(x, 1.0, 0.0)).float(), normed(x, 1.0, 0.0)
        hidden = torch.zeros(GROUPS, D_DROP)
        hidden[:, ANCHORS[1]] = 1.0 / read[0, 0, ANCHORS[1]]  # norm2 of norm1 of x is norm1 of x, but for eps
        changes = {"w1.weight": hidden, "w2.weight": picks}
    module = silent(impl, D_DROP, 2, GROUPS, changes, dropout=p, norm_first=norm_first)
    module.train()
    calls = [run(module, x.expand(B // 2, T, D_DROP), mask) for _ in range(2)]
    for out in calls:
        assert_shape(out, (B // 2, T, D_DROP), "the output in training mode", dtype=torch.float32)
    out = torch.stack(calls, dim=1).flatten(0, 1).detach().double()  # in turn, so that a draw used again shows
    left, right = out[..., ANCHORS[:1]], out[..., ANCHORS[1:]]
    was = sum_of[..., ANCHORS].double()
    undone = was[..., :1] + (out - left) / (right - left) * (was[..., 1:] - was[..., :1])
    added = (undone - sum_of)[..., GROUPED]
    if not bool(added.isfinite().all()) or float((undone - sum_of)[..., GROUPED].abs().max()) > 1e3:
        raise CheckFailure(f"dropout = {p}: features of x that no sub-layer touches are dropped. What is dropout for?")
    return added.view(B, T, 2, 3, COPIES)


F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
DRAWS = ((F32, 1, 1, True), (F32, 2, 5, False), (F64, 2, 5, True), (BF16, 2, 5, True), (BF16, 1, 1, False))
DROPOUT_CASES = [(form, p) for form in FORMS for p in (0.25, 0.4)]


def assert_drawn_alone(dropped, among, p, what, names):
    """Check the share of ``dropped`` among those that count, and that neighbours along each axis are independent."""
    share, count = float(dropped[among].double().mean()), int(among.sum())
    if not abs(share - p) <= 6.5 * math.sqrt(p * (1 - p) / max(count, 1)) + 0.001:  # six standard deviations
        raise CheckFailure(f"{what}: {share:.3f} of them are 0 in training mode, where {p} is asked for.")
    for dim, name in enumerate(names):
        n = dropped.shape[dim] - 1
        pairs = among.narrow(dim, 0, n) & among.narrow(dim, 1, n)
        both = (dropped.narrow(dim, 0, n) & dropped.narrow(dim, 1, n))[pairs].double()
        rate = float(both.mean())
        if not abs(rate - p * p) <= 9 * p / math.sqrt(max(len(both), 1)):  # seven standard deviations or more
            raise CheckFailure(
                f"{what}: neighbouring {name} are 0 together in {rate:.3f} of all cases, but chance alone makes it "
                f"{p * p:.3f}. Is every number drawn on its own?"
            )


def test_dropout_on_the_attention_weights(impl, randn):
    """in training, dropout sets single attention weights to 0"""
    for form, p in DROPOUT_CASES:
        for mask in None, torch.tensor([[True, True, False]]):
            added = returned_in_training(impl, "attention", p, FORMS[form], mask)
            dropped = (added.abs() < 1e-3).all(dim=-1)  # (B, T, H, S)
            allowed = torch.ones_like(dropped) if mask is None else mask.expand_as(dropped)

            names = "batch items, of two calls in turn,", "queries", "heads", "keys"
            assert_drawn_alone(dropped, allowed, p, f"{form}, dropout = {p}, attention weights", names)
            assert dropped[~allowed].all(), f"{form}, dropout = {p}, training mode: a masked token is attended to."
    assert_answers(impl, randn)


def test_dropout_after_the_relu(impl, randn):
    """in training, dropout sets single hidden units of the feed-forward to 0"""
    for form, p in DROPOUT_CASES:
        added = returned_in_training(impl, "feed-forward", p, FORMS[form])
        dropped = (added.abs() < 1e-3).all(dim=-1).flatten(2)  # (B, T, F)

        names = "batch items, of two calls in turn,", "tokens", "hidden units"
        assert_drawn_alone(dropped, torch.ones_like(dropped), p, f"{form}, dropout = {p}, hidden units", names)
    assert_answers(impl, randn)


@pytest.mark.points(2)
def test_dropout_on_what_the_sub_layers_return(impl, randn):
    """in training, dropout sets single numbers of each sub-layer's output to 0, and none of x or of a norm"""
    for form, p in DROPOUT_CASES:
        for sub_layer in "attention", "feed-forward":
            added = returned_in_training(impl, sub_layer, p, FORMS[form])
            zero = added.abs() < 1e-3  # (B, T, 2, 3, COPIES)
            alive = (~zero).any(dim=-1, keepdim=True).expand_as(zero)

            what = f"{form}, dropout = {p}, what the {sub_layer} returns"
            names = "batch items, of two calls in turn,", "tokens", "heads", "groups", "features"
            assert_drawn_alone(zero, alive, p, what, names)
        changes = {"wo.bias": torch.ones(40), "w2.bias": torch.full((40,), 3.0)}
        module = silent(impl, 40, 2, 3, changes, dropout=p, norm_first=FORMS[form]).train()
        out = module(torch.zeros(30, 2, 40)).detach()
        levels = max(len(set(row)) for row in out.mul(1e3).round().flatten(0, 1).tolist())
        if levels < 4:  # of a feature, neither, one, the other or both
            what = f"{form}, dropout = {p}: the same features are dropped from what attention and feed-forward return"
            raise CheckFailure(f"{what}. Is every number drawn on its own?")
    assert_answers(impl, randn)


def test_dropout_keeps_the_average(impl, randn):
    """in training, what is not dropped grows by 1 / (1 - dropout), inside and at the end of each sub-layer"""
    for form, p in DROPOUT_CASES:
        for sub_layer, plain in ("attention", [1 / 6, 1 / 3, 1 / 2]), ("feed-forward", [1.0, 1.0, 1.0]):
            added = returned_in_training(impl, sub_layer, p, FORMS[form])

            kept = added.abs() >= 1e-3
            eval_mode = f"returns 0 or {plain[0]:.4g} and more in eval mode"
            what = f"{form}, dropout = {p}, a sub-layer ({sub_layer}) that {eval_mode}"
            if not kept.any():
                raise CheckFailure(f"{what}: it returns nothing but 0 in training mode.")
            right = (torch.tensor(plain).double() / (1 - p) ** 2).unsqueeze(-1).expand_as(added)
            assert_close(added[kept], right[kept], f"{what}: the numbers that are not dropped", tolerance=2e-3)
    assert_answers(impl, randn)


def test_dropout_rests_in_eval(impl, twins, randn):
    """dropout does nothing in eval mode or with probability 0, and draws afresh in training"""
    for form, norm_first in FORMS.items():
        mine, _ = twins("EncoderBlock", 8, 2, 6, 0.5, norm_first)
        x = randn(2, 5, 8)

        first, second = (run(mine, x).detach() for _ in range(2))
        assert_close(second, first, f"{form}, dropout = 0.5: two calls in eval mode")
        mine.train()
        first, second = (run(mine, x).detach() for _ in range(2))
        assert_differs(first, second, f"{form}, dropout = 0.5: two calls in training mode")
        mine.eval()
        assert_close(
            run(mine, x), run(mine, x).detach(), f"{form}, dropout = 0.5: two calls in eval mode after training"
        )
        never, _ = twins("EncoderBlock", 8, 2, 6, norm_first=norm_first)
        first = run(never, x).detach()
        never.train()
        assert_close(run(never, x), first, f"{form}, no dropout: training mode and eval mode")
        mine, _ = twins("EncoderBlock", d_model=64, n_heads=2, d_ff=6, dropout=0.5, norm_first=norm_first)
        for dtype, B, T, grad in DRAWS:
            mine.to(dtype).train()
            y, what = randn(B, T, 64, dtype=dtype), f"{form}, B = {B}, T = {T}, training mode with dropout = 0.5"
            with torch.set_grad_enabled(grad):
                outs = [assert_shape(run(mine, y), (B, T, 64), f"{what}: the output", dtype=dtype) for _ in range(2)]
            assert_differs(*outs, f"{what}: two calls" + ("" if grad else " under no_grad"))
    assert_answers(impl, randn)


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls(twins, randn, randint):
    """two blocks, call after call with other sizes, masks, dtypes and weights"""
    for form, norm_first in FORMS.items():
        pairs = [twins("EncoderBlock", 8, H, F, norm_first=norm_first) for H, F in ((2, 6), (8, 5))]
        for dtype in torch.float32, torch.float64, torch.float32:
            for mine, _ in pairs:
                mine.to(dtype).train(dtype == torch.float64)
            for B, T, masked in (2, 4, True), (2, 4, True), (2, 4, False), (1, 6, True), (4, 3, False):
                for mine, ref in pairs:
                    mask = some_mask(randint, B, 1, T, T) if masked else None
                    what = f"{form}, B = {B}, T = {T}, after other calls: the output"
                    assert_same(mine, ref, randn(B, T, 8), mask, what, dtype=dtype)
            with torch.no_grad():
                for mask in None, some_mask(randint, 4, 4):
                    what = f"{form}, under no_grad: the output"
                    assert_same(*pairs[0], randn(2, 4, 8), mask, what, dtype=dtype)
        mine, ref = pairs[0]
        with torch.no_grad():
            assert_same(mine, ref, randn(2, 4, 8), what=f"{form}, before all parameters are changed in place")
            theirs = dict(ref.named_parameters())
            for name, parameter in mine.named_parameters():
                theirs[name].copy_(0.5 * randn(*parameter.shape))
                parameter.copy_(theirs[name])
            assert_same(mine, ref, randn(2, 4, 8), what=f"{form}, under no_grad, after all parameters were changed")
        assert_same(mine, ref, randn(2, 4, 8), what=f"{form}, after all parameters were changed in place")


def test_batch_items_do_not_meet(impl, twins, randn, randint):
    """an item of a batch gets the same answer alone"""
    for form, norm_first in FORMS.items():
        mine, _ = twins("EncoderBlock", 6, 2, 5, norm_first=norm_first)
        x, mask = randn(3, 4, 6), some_mask(randint, 3, 1, 1, 4)

        together = run(mine, x, mask)

        assert_shape(together, x.shape, "the output")
        for i in range(3):
            alone = run(mine, x[i : i + 1], mask[i : i + 1])
            assert_close(alone, together[i : i + 1].detach(), f"{form}, item {i} alone and in a batch of 3: the output")
    assert_answers(impl, randn)


def test_leaves_the_inputs_alone(impl, twins, randn, randint):
    """x and the mask are the same after the call"""
    for norm_first in FORMS.values():
        mine, _ = twins("EncoderBlock", 6, 2, 5, norm_first=norm_first)
        inputs = {"x": randn(2, 5, 6), "mask": some_mask(randint, 2, 1, 5, 5)}
        before = {name: tensor.clone() for name, tensor in inputs.items()}

        for training in False, True:
            run(mine.train(training), inputs["x"])
            run(mine, **inputs)
            for name, tensor in inputs.items():
                assert_close(tensor, before[name], f"{name} after the call and before it", tolerance=0.0)
    assert_answers(impl, randn)


def test_errors(impl, randn):
    """sizes below 1 and a head count that does not divide d_model raise ValueError"""
    for sizes in (6, 0, 5), (6, -2, 5), (0, 1, 5), (-6, 3, 5), (6, 4, 5), (3, 6, 5), (6, 2, 0), (6, 2, -1):
        assert_rejects(
            lambda sizes=sizes: impl.EncoderBlock(*sizes),
            f"d_model = {sizes[0]}, n_heads = {sizes[1]}, d_ff = {sizes[2]}",
            good=lambda: assert_answers(impl, randn),
        )


def test_no_loop_over_tokens_or_batch(impl, twins, randn):
    """the number of tensor operations does not grow with the tokens or the batch"""
    many, mask = randn(40, 40, 8), torch.ones(40, 40, dtype=torch.bool).tril()
    for norm_first in FORMS.values():
        mine, _ = twins("EncoderBlock", 8, 2, 6, norm_first=norm_first)

        assert_no_loop(impl, lambda n, mine=mine: run(mine, many[:1, :n], mask[:n, :n]), "tokens")
        assert_no_loop(impl, lambda n, mine=mine: run(mine, many[:n, :5], mask[:5, :5]), "batch items")
    assert_answers(impl, randn)


def test_follows_the_device(impl, randn):
    """computes on the device that the block and the input are on"""
    for norm_first in FORMS.values():
        module = impl.EncoderBlock(6, 2, 5, 0.1, norm_first).to("meta")
        x = randn(2, 5, 6).to("meta")
        for mask in None, torch.ones(5, 5, dtype=torch.bool, device="meta"):
            assert_follows_device(
                impl, lambda m=module, x=x, mask=mask: assert_tensor(run(m, x, mask), "out"), "the output"
            )
    assert_answers(impl, randn)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in sorted(shapes_of(6, 7).items())}
    x = torch.randn(2, 4, 6, generator=generator)
    few = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0, 1]]).bool()
    none = few & torch.tensor([[True], [False], [True], [True]])  # token 1 may attend to nothing

    def answer(norm_first, x=x, mask=None, silence=(), dropout=0.0):
        module = impl.EncoderBlock(6, 2, 7, dropout, norm_first)
        module.load_state_dict(weights | {name: torch.zeros_like(weights[name]) for name in silence}, strict=False)
        return run(module.eval(), x, mask).detach()

    def rests(norm_first, silence):
        return torch.allclose(answer(norm_first, silence=silence), answer(norm_first, silence=silence, dropout=0.5))

    def dropped(norm_first, sub_layer):
        added = returned_in_training(impl, sub_layer, 0.5, norm_first, B=64)
        zero = added.abs() < 1e-3
        alive = (~zero).any(dim=-1)
        levels = sorted({round(value, 2) for value in added.flatten().tolist()})
        return levels if len(levels) < 9 else "many", bool(alive.all()), bool(zero[alive].any())

    answers = {"names": observe(lambda: sorted(impl.EncoderBlock(6, 2, 7).state_dict()))}
    for form, norm_first in FORMS.items():

        def ask(norm_first=norm_first, **changes):
            return observe(lambda: answer(norm_first, **changes))

        answers |= {
            f"{form}, attention": ask(silence=NO_FEED_FORWARD),
            f"{form}, feed-forward": ask(silence=NO_ATTENTION),
            f"{form}, constants": ask(silence=(NO_ATTENTION[0], NO_FEED_FORWARD[0])),
            f"{form}, tiny": ask(x=0.003 * x, silence=(*NO_ATTENTION, *NO_FEED_FORWARD)),
            f"{form}, whole": ask(),
            f"{form}, masked": ask(mask=few, silence=NO_FEED_FORWARD),
            f"{form}, nothing allowed": ask(mask=none, silence=NO_FEED_FORWARD),
            f"{form}, dropout in eval": observe(lambda n=norm_first: rests(n, NO_FEED_FORWARD)),
            f"{form}, hidden dropout in eval": observe(lambda n=norm_first: rests(n, NO_ATTENTION)),
            f"{form}, dropout in attention": observe(lambda n=norm_first: dropped(n, "attention")),
            f"{form}, dropout in the feed-forward": observe(lambda n=norm_first: dropped(n, "feed-forward")),
        }
    return answers


def picture(impl):
    """Draw what norm placement does to a deep stack, and whom a token hears of with and without a mask."""
    generator = torch.Generator().manual_seed(0)

    def block(norm_first):
        module = impl.EncoderBlock(16, 4, 32, norm_first=norm_first)
        shapes = shapes_of(16, 32)
        weights = {name: torch.zeros(shape) for name, shape in shapes.items()} | {
            name: torch.randn(shape, generator=generator) * shape[1] ** -0.5
            for name, shape in sorted(shapes.items())
            if len(shape) == 2
        }
        module.load_state_dict(weights | {f"norm{i}.weight": torch.ones(16) for i in (1, 2)})
        return module.eval()

    x = torch.randn(1, 12, 16, generator=generator)
    sizes = []
    with torch.no_grad():
        for norm_first in FORMS.values():
            stream, line = x, [x.square().mean().sqrt()]
            for _ in range(16):
                stream = block(norm_first)(stream)
                line.append(stream.square().mean().sqrt())
            sizes.append(torch.stack(line))
        panels = [
            Panel("size of x through 16 random blocks", torch.stack(sizes), "lines", "block", "size", tuple(FORMS))
        ]
        module = block(True)
        others = x.expand(12, 12, 16).clone()
        others[range(12), range(12)] += 1.0
        for name, mask in ("no mask", None), ("tokens 9 to 11 are padding", (torch.arange(12) < 9).view(1, 12)):
            change = (run(module, others, mask) - run(module, x, mask)).norm(dim=-1)  # (changed token, token)
            panels.append(Panel(f"change of the output, {name}", change.T.log1p(), "heatmap", "token changed", "token"))
    return panels
