"""Hidden suite of decoder_block: shapes, residuals and norms, each of the three sub-layers alone, masks, the whole.

A check of one part silences the others, so that one mistake fails few checks. A check of a property ends in
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
OUT = {"self": "self_wo", "cross": "cross_wo", "feed-forward": "w2"}  # the last layer of each sub-layer


def shapes_of(D, F):
    """Return names and shapes of all parameters."""
    shapes = {}
    for name in (f"{kind}_{w}" for kind in ("self", "cross") for w in ("wq", "wk", "wv", "wo")):
        shapes |= {f"{name}.weight": (D, D), f"{name}.bias": (D,)}
    shapes |= {"w1.weight": (F, D), "w1.bias": (F,), "w2.weight": (D, F), "w2.bias": (D,)}
    return shapes | {f"norm{i}.{name}": (D,) for i in (1, 2, 3) for name in ("weight", "bias")}


def silent_weights(D, F, changes):
    """Return weights of 0 and plain norms, so that all sub-layers return 0, except for ``changes``."""
    weights = {name: torch.zeros(shape) for name, shape in shapes_of(D, F).items()}
    return weights | {f"norm{i}.weight": torch.ones(D) for i in (1, 2, 3)} | changes


def silent(impl, D, H, F, changes, *, dropout=0.0):
    """Make the learner's block with ``silent_weights``."""
    module = impl.DecoderBlock(D, H, F, dropout)
    module.load_state_dict(silent_weights(D, F, changes))
    return module


def only(pair, kind):
    """Let all sub-layers of both twins but one return a constant: the bias of their last layer."""
    mine, ref = pair
    weights = ref.state_dict()
    weights |= {f"{w}.weight": torch.zeros_like(weights[f"{w}.weight"]) for k, w in OUT.items() if k != kind}
    mine.load_state_dict(weights)
    ref.load_state_dict(weights)
    return mine, ref


def normed(x, gain=1.0, bias=0.0):
    """Return the formula of the layer norm, in float64."""
    x = x.double()
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt() * gain + bias


def run(module, x, memory, self_mask=None, memory_mask=None):
    """Call a block with the masks that there are."""
    masks = {"self_mask": self_mask, "memory_mask": memory_mask}
    return module(x, memory, **{name: mask for name, mask in masks.items() if mask is not None})


def assert_same(mine, ref, x, memory, self_mask=None, memory_mask=None, what="random", *, dtype=torch.float32, hint=""):
    """Compare the output with the reference's."""
    x, memory = x.to(dtype), memory.to(dtype)
    right = run(ref, x.double(), memory.double(), self_mask, memory_mask)
    assert_close(run(mine, x, memory, self_mask, memory_mask), right, what, dtype=dtype, hint=hint)


def constant_norms(bias):
    """Return gains of 0 and one bias for all norms: the block returns that bias, whatever the rest does."""
    gains = {f"norm{i}.weight": torch.zeros_like(bias) for i in (1, 2, 3)}
    return gains | {f"norm{i}.bias": bias for i in (1, 2, 3)}


def assert_answers(impl, randn):
    """Check that a block answers at all."""
    bias = randn(6)
    out = silent(impl, 6, 2, 5, constant_norms(bias))(randn(2, 4, 6), randn(2, 3, 6))
    assert_close(out, bias.expand(2, 4, 6), "gains of 0 in all norms: the output, which is norm3.bias")


def some_mask(randint, *shape):
    """Return a random mask in which every row has an allowed token."""
    mask = randint(0, 2, shape).bool()
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


def causal(T):
    """Return the mask that stands in for none."""
    return torch.ones(T, T, dtype=torch.bool).tril()


# --- shapes and names -------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the output has the shape of x, whatever the length of the memory"""
    module = impl.DecoderBlock(d_model=12, n_heads=2, d_ff=20)
    with torch.no_grad():  # the names come later, and zeros would be fine to start with
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    seen = torch.zeros(0)

    for B, T, S in (3, 5, 7), (3, 5, 7), (2, 7, 4), (2, 4, 1), (1, 1, 3):
        x, memory = randn(B, T, 12), randn(B, S, 12)
        out = module(x, memory)

        what = f"B = {B}, T = {T}, S = {S}, D = 12: the output"
        assert_shape(out, (B, T, 12), what, dtype=torch.float32)
        assert_differs(out, x, f"{what}, which is x again")
        assert_differs(out, seen, f"{what} of a call with other inputs")
        seen = out


@pytest.mark.visible
def test_parameter_names(impl, randn):
    """the parameters have the names and shapes of the brief, and nothing else is saved and loaded"""
    asked = shapes_of(6, 10)
    module = impl.DecoderBlock(6, 2, 10)
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
        module.load_state_dict(silent_weights(6, 10, constant_norms(bias)))
        out = module(randn(1, 2, 6), randn(1, 3, 6))

        assert_close(out, bias.expand(1, 2, 6), "loaded gains of 0 in all norms: the output, which is norm3.bias")
        saved = module.state_dict()
        assert saved.keys() == asked.keys(), f"state_dict() after a call holds {', '.join(saved)}."


# --- residuals and norms ----------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_residuals_and_norms_by_hand(impl, randn):
    """x plus a sub-layer, then a norm, three times, with sub-layers that return constants"""
    gains = {"norm1.weight": torch.tensor([1.0, 2.0, 3.0, 4.0]), "norm1.bias": torch.tensor([1.0, -1.0, 1.0, 1.0])}
    gains |= {"norm2.weight": torch.tensor([2.0, 2.0, 1.0, 1.0]), "norm2.bias": torch.tensor([0.0, 0.0, 1.0, 1.0])}
    gains |= {"norm3.weight": torch.tensor([2.0, 1.0, 1.0, 3.0]), "norm3.bias": torch.tensor([0.0, 1.0, 0.0, -1.0])}
    c = torch.tensor([2.0, 1.0, 0.0, -4.0])
    module = impl.DecoderBlock(4, 2, 3)

    for sum1, d, e, by_hand in (  # norm1 gives [2, -3, 4, -3] and norm2 gives [2, -2, 2, 0]
        ([10.0, -10.0, 10.0, -10.0], [3.0, -2.0, 1.0, -2.0], [3.0, -3.0, 3.0, -5.0], [2.0, 0.0, 1.0, -4.0]),
        # here [0, 1, -2, 5] and [-2, 2, 0, 2]
        ([-10.0, 10.0, -10.0, 10.0], [-5.0, 4.0, -3.0, 0.0], [7.0, -7.0, 5.0, -7.0], [2.0, 0.0, 1.0, -4.0]),
        ([-10.0, 10.0, -10.0, 10.0], [-5.0, 4.0, -3.0, 0.0], [-3.0, 3.0, -5.0, 3.0], [-2.0, 2.0, -1.0, 2.0]),
    ):
        constants = {"self_wo.bias": c, "cross_wo.bias": torch.tensor(d), "w2.bias": torch.tensor(e)}
        module.load_state_dict(silent_weights(4, 3, gains | constants))
        x = torch.tensor(sum1) - c
        out = module(x.view(1, 1, 4), randn(1, 2, 4))

        what = f"x = {x.tolist()}, the sub-layers return {c.tolist()}, {d} and {e}: the output"
        hint = "Where are the three sums, and where the three norms?"
        assert_close(out.flatten(), torch.tensor(by_hand), what, hint=hint)
    weights = {f"norm{i}.{name}": i // 2 + randn(6) for i in (1, 2, 3) for name in ("weight", "bias")}
    weights |= {f"{name}.bias": randn(6) for name in OUT.values()}
    x = randn(2, 3, 6)
    out = silent(impl, 6, 3, 4, weights)(x, randn(2, 5, 6))

    right = x
    for i, name in enumerate(OUT.values(), start=1):
        right = normed(right + weights[f"{name}.bias"], weights[f"norm{i}.weight"], weights[f"norm{i}.bias"])
    what = "sub-layers that return self_wo.bias, cross_wo.bias and w2.bias: the output"
    assert_close(out, right, what, dtype=torch.float32)


def test_norms(impl, randn):
    """the variance is divided by D, and eps = 1e-5 is added to it under the root"""
    for size in 3.0, 0.003, 0.003, 0.0003:  # the variance is far above eps, close to it, far below
        for norm in 1, 2, 3:
            gains = {f"norm{i}.weight": torch.full((4,), 0.002 if i < norm else 1.0) for i in (1, 2, 3)}
            gains |= {f"norm{norm}.weight": 1 + 0.3 * randn(4), f"norm{norm}.bias": randn(4)}
            x = size * randn(3, 2, 4)
            out = silent(impl, 4, 2, 4, gains)(x, randn(3, 2, 4))

            right = x
            for i in 1, 2, 3:
                right = normed(right, gains[f"norm{i}.weight"], gains.get(f"norm{i}.bias", 0.0))
            what = f"features of about {size:g}, silent sub-layers, small gains before norm{norm}: the output"
            assert_close(out, right, what, dtype=torch.float32)


# --- the sub-layers, one at a time ------------------------------------------------------------------------


@pytest.mark.visible
def test_self_attention_is_causal(impl, randn):
    """without a self_mask a token attends to itself and to the tokens before it"""
    changes = {"self_wv.weight": torch.eye(4), "self_wo.weight": 3.0 * torch.eye(4)}
    module = silent(impl, 4, 2, 3, changes)  # equal scores: an average over the tokens so far

    for T, S in (4, 3), (4, 3), (1, 2), (6, 6), (1100, 2):  # nothing in the brief limits T
        x = randn(2, T, 4)
        out = module(x, randn(2, S, 4))

        average = x.cumsum(dim=1) / torch.arange(1, T + 1).view(T, 1)
        right = normed(normed(normed(x + 3.0 * average)))
        what = f"T = {T}, equal scores: three norms of x plus 3 times the average of the tokens 0 to t"
        assert_close(out, right, what, dtype=torch.float32)


@pytest.mark.visible
@pytest.mark.points(2)
def test_self_attention_by_hand(impl, randn):
    """two heads of two features each, causal, worked out on paper"""
    x = torch.tensor([[[1.0, -1.0, 1.0, -1.0], [1.0, -1.0, -1.0, 1.0]]])
    sizes = torch.tensor([1.0, 2.0, 4.0, 8.0])
    changes = {"self_wk.weight": torch.eye(4), "self_wv.weight": sizes.diag()}
    changes |= {"self_wo.weight": torch.eye(4)[[1, 0, 3, 2]]}

    for odds, last in (3.0, [-2.0, 1.0, 4.0, -2.0]), (7.0, [-2.0, 1.0, 6.0, -3.0]):
        changes["self_wq.weight"] = math.sqrt(2) / 4 * math.log(odds) * torch.eye(4)
        module = silent(impl, 4, 2, 3, changes)
        for order, sign in ([0, 1], 1.0), ([1, 0], -1.0):  # the second token's head 1 has the sign of the token
            out = module(x[:, order], randn(1, 3, 4))

            added = torch.tensor([[-2.0, 1.0, -8.0 * sign, 4.0 * sign], [*last[:2], sign * last[2], sign * last[3]]])
            what = (
                f"x = {x[0, order].tolist()}, values of 1, 2, 4 and 8 times that, scores of token 1 that are equal in "
                f"head 0 and favour itself by {odds:g} : 1 in head 1, a self_wo that swaps features 0 and 1, and 2 and "
                f"3: three norms of x + {[[round(n, 2) for n in row] for row in added.tolist()]}"
            )
            assert_close(out[0], normed(normed(normed(x[0, order] + added))), what, dtype=torch.float32)


@pytest.mark.points(2)
def test_self_attention_alone(twins, randn):
    """self-attention between its residual and its norm; the other sub-layers return constants"""
    for D, H, T, S in (8, 2, 5, 3), (8, 2, 1, 4), (12, 3, 4, 4), (9, 1, 6, 2):
        mine, ref = only(twins("DecoderBlock", D, H, 7), "self")

        what = f"D = {D}, H = {H}, T = {T}, cross_wo.weight and w2.weight all 0: the output"
        assert_same(mine, ref, randn(2, T, D), randn(2, S, D), what=what)


@pytest.mark.visible
@pytest.mark.points(2)
def test_cross_attention_by_hand(impl):
    """one target token and a memory of two, two heads, worked out on paper"""
    memory = torch.tensor([[[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]]])
    keys = math.sqrt(2) * torch.tensor([math.log(3), 1.0, 1.0, -math.log(4)])
    values = torch.tensor([[4.0, 0.0, 0.0, 0.0], [8.0, 0.0, 0.0, 4.0], [0.0, 0.0, 0.0, 10.0], [5.0, 0.0, 0.0, 0.0]])
    changes = {"cross_wq.weight": torch.eye(4), "cross_wk.weight": keys.diag(), "cross_wv.weight": values}
    changes |= {"cross_wo.weight": 2.0 * torch.eye(4)}
    module = silent(impl, 4, 2, 3, changes)

    for x, scores, added in (
        ([10.0, -10.0, 10.0, -10.0], "(ln 3, 0) in head 0 and (0, ln 4) in head 1", [6.0, 14.0, 16.0, 2.0]),
        ([-10.0, 10.0, -10.0, 10.0], "(-ln 3, 0) in head 0 and (0, -ln 4) in head 1", [2.0, 10.0, 4.0, 8.0]),
    ):
        out = module(torch.tensor(x).view(1, 1, 4), memory)

        token = torch.tensor(x) / 10
        what = f"norm1 makes {token.tolist()} of x, scores {scores}: two norms of that plus {added}"
        assert_close(out.flatten(), normed(normed(token + torch.tensor(added))), what, dtype=torch.float32)


@pytest.mark.points(2)
def test_cross_attention_alone(twins, randn):
    """cross-attention between its residual and its norm, with memories of other lengths than x"""
    for D, H, T, S in (8, 2, 5, 3), (8, 2, 2, 7), (12, 3, 1, 4), (9, 1, 4, 1), (8, 4, 4, 4):
        mine, ref = only(twins("DecoderBlock", D, H, 7), "cross")

        what = f"D = {D}, H = {H}, T = {T}, S = {S}, self_wo.weight and w2.weight all 0: the output"
        assert_same(mine, ref, randn(2, T, D), 2.0 * randn(2, S, D) + 1.0, what=what)


@pytest.mark.visible
@pytest.mark.points(2)
def test_feed_forward_by_hand(impl, randn):
    """four features and three hidden units, worked out on paper"""
    w1 = torch.tensor([[2.0, 0.0, 0.0, 0.0], [0.0, 3.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0]])
    w2 = torch.tensor([[1.0, 5.0, 0.0], [0.0, -7.0, 2.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]])
    changes = {"w1.weight": w1, "w1.bias": torch.tensor([1.0, -1.0, 2.0]), "w2.weight": w2}
    changes |= {"w2.bias": torch.tensor([1.0, -1.0, 0.0, 3.0]), "cross_wo.bias": torch.tensor([4.0, 4.0, 4.0, 4.0])}
    module = silent(impl, 4, 2, 3, changes)

    for x, hidden, returned in (
        ([10.0, -10.0, 10.0, -10.0], [3, -4, 2], [4.0, 3.0, 0.0, 3.0]),
        ([-10.0, 10.0, 10.0, -10.0], [-1, 2, 2], [11.0, -11.0, 2.0, 3.0]),
    ):
        out = module(torch.tensor(x).view(1, 1, 4), randn(1, 2, 4))

        token = torch.tensor(x) / 10
        what = f"norm2 gives {token.tolist()}, w1 makes {hidden}, the ReLU cuts: one norm of that plus {returned}"
        assert_close(out.flatten(), normed(token + torch.tensor(returned)), what, dtype=torch.float32)


@pytest.mark.points(2)
def test_feed_forward_alone(twins, randn):
    """the feed-forward between its residual and its norm; both attentions return constants"""
    for D, F in (8, 20), (8, 3), (6, 6):
        mine, ref = only(twins("DecoderBlock", D, 2, F), "feed-forward")

        what = f"D = {D}, F = {F}, self_wo.weight and cross_wo.weight all 0: the output"
        assert_same(mine, ref, randn(2, 5, D), randn(2, 3, D), what=what, hint="Which x does the feed-forward read?")


# --- masks ------------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_true_in_a_mask_means_may_attend(impl, randn):
    """a token that may attend to one token alone, even a later one, gets that token's value"""
    for kind, mask_name, S in ("self", "self_mask", 3), ("cross", "memory_mask", 4):
        changes = {f"{kind}_wv.weight": torch.eye(4), f"{kind}_wo.weight": torch.eye(4)}
        module = silent(impl, 4, 2, 3, changes)
        for allowed in [2, 0, 1], [1, S - 1, 0]:
            x, memory = 3.0 * randn(1, 3, 4), 3.0 * randn(1, S, 4)
            mask = torch.zeros(3, S, dtype=torch.bool)
            mask[[0, 1, 2], allowed] = True
            out = run(module, x, memory, **{mask_name: mask})

            who = f"tokens 0, 1, 2 may attend to tokens {', '.join(map(str, allowed))} of"
            if kind == "self":
                right, what = normed(normed(normed(x + x[:, allowed]))), f"{who} x alone: three norms of x + these"
            else:
                right = normed(normed(normed(x) + memory[:, allowed]))
                what = f"{who} the memory alone: two norms of norm1(x) + these"
            assert_close(out, right, f"{mask_name}: {what}", dtype=torch.float32)


@pytest.mark.points(2)
def test_masks_of_every_shape(twins, randn, randint):
    """self_mask broadcasts to (B, H, T, T), memory_mask to (B, H, T, S), and each acts on its own attention"""
    mine, ref = twins("DecoderBlock", 8, 2, 5)
    for B, T, S in (3, 4, 5), (2, 4, 4), (4, 4, 4), (2, 2, 3), (5, 4, 5), (3, 1, 3), (3, 3, 1):
        for shape in ((T, "S"), (1, "S"), (B, 1, T, "S"), (B, 1, 1, "S"), (1, 2, 1, "S"), (2, T, "S"), (B, 2, T, "S")):
            of_self, of_memory = (some_mask(randint, *shape[:-1], size) for size in (T, S))
            what = f"B = {B}, H = 2, T = {T}, S = {S}"
            x, memory = randn(B, T, 8), randn(B, S, 8)
            here = f"{what}, both masks, of shapes {tuple(of_self.shape)} and {tuple(of_memory.shape)}: the output"
            assert_same(mine, ref, x, memory, of_self, of_memory, here)
            if (B, T, S) == (3, 4, 5):
                here = f"{what}, a self_mask of shape {tuple(of_self.shape)} alone: the output"
                assert_same(mine, ref, x, memory, of_self, None, here, hint="Is it the only mask then?")
                here = f"{what}, a memory_mask of shape {tuple(of_memory.shape)} alone: the output"
                assert_same(mine, ref, x, memory, None, of_memory, here, hint="Which mask has the self-attention then?")
    rows = torch.ones(4, 1, dtype=torch.bool)
    assert_same(mine, ref, randn(3, 4, 8), randn(3, 5, 8), rows, rows, "masks of shape (T, 1), all True: the output")


@pytest.mark.points(2)
def test_a_token_with_nothing_to_attend_to(twins, randn, randint):
    """a token that may attend to nothing gets heads of 0, so the bias of that wo, and no NaN"""
    for kind, S in ("self", 4), ("cross", 5):
        mine, ref = only(twins("DecoderBlock", 8, 2, 5), kind)
        row, item, head = some_mask(randint, 4, S), some_mask(randint, 3, 1, 1, S), some_mask(randint, 3, 2, 4, S)
        row[1], item[2], head[:, :, 2] = False, False, False
        masks = {"token 1": row, "the last item": item, "token 2": head, "everyone": torch.zeros(1, S).bool()}
        masks["token 3, by a mask (T, 1),"] = torch.tensor([[True], [True], [True], [False]])
        name = "self_mask" if kind == "self" else "memory_mask"
        for dtype in PRECISE:
            mine.to(dtype)
            for who, mask in masks.items():
                x, memory = randn(3, 4, 8, dtype=dtype), randn(3, 5, 8, dtype=dtype)
                out = run(mine, x, memory, **{name: mask})

                nothing = ~mask.expand(3, 2, 4, S).any(dim=-1).any(dim=1)  # (B, T)
                right = x.double()
                for norm, last in zip((ref.norm1, ref.norm2, ref.norm3), OUT.values(), strict=True):
                    right = norm(right + getattr(ref, last).bias)
                what = f"{name}: {who} may attend to nothing: the output"
                assert_shape(out, x.shape, what, dtype=dtype)
                hint = f"There, {OUT[kind]}.bias alone is added."
                assert_close(out[nothing], right[nothing], f"{what} there", dtype=dtype, hint=hint)
        head[:, :, 2], head[:, 1, 1] = True, False  # one head of token 1 sees nothing, the other does
        what, mask = f"{name}: token 1 may attend to nothing in head 1: the output", {name: head}
        assert_same(mine, ref, randn(3, 4, 8), randn(3, 5, 8), **mask, what=what, dtype=torch.float64)
        alone = {name: torch.tensor([True, False, True]).view(3, 1, 1, 1)}
        sizes = (1, 5) if kind == "self" else (4, 1)
        what = f"{name}: one token to attend to, and the second item of the batch may not: the output"
        assert_same(mine, ref, *(randn(3, n, 8) for n in sizes), **alone, what=what, dtype=torch.float64)


def test_no_token_sees_the_future(impl, twins, randn):
    """teacher forcing: a later target token may change, the outputs before it stay the same"""
    mine, _ = twins("DecoderBlock", 6, 2, 5)
    memory, padding = randn(2, 6, 6), (torch.arange(6) < 4).view(1, 1, 1, 6)
    x = randn(2, 6, 6)
    for t in 1, 3, 5:
        other = x.clone()
        other[:, t:] = 10.0 * randn(2, 6 - t, 6)
        for name, mask in ("no memory_mask", None), ("a memory_mask", padding):
            before, after = (run(mine, tokens, memory, memory_mask=mask).detach() for tokens in (x, other))
            what = f"{name}, tokens from {t} on were changed: the output of the tokens"
            assert_close(after[:, :t], before[:, :t], f"{what} before")
            assert_differs(after[:, t:], before[:, t:], f"{what} from {t} on")
    everyone = torch.ones(6, 6, dtype=torch.bool)
    before, after = (run(mine, tokens, memory, everyone).detach() for tokens in (x, other))
    assert_differs(after[:, :5], before[:, :5], "a self_mask of True, token 5 was changed: the output of tokens 0 to 4")
    assert_answers(impl, randn)


def test_masked_memory_leaves_no_trace(impl, twins, randn):
    """whatever stands at padded tokens of the memory, the output stays the same"""
    mine, _ = twins("DecoderBlock", 6, 2, 5)
    x, memory = randn(2, 5, 6), randn(2, 7, 6)
    other = memory.clone()
    other[:, 4:] = 10.0 * randn(2, 3, 6)
    padding = (torch.arange(7) < 4).view(1, 1, 1, 7)

    before, after = (run(mine, x, m, memory_mask=padding).detach() for m in (memory, other))
    assert_close(after, before, "tokens 4 to 6 of the memory are masked and were changed: the output")
    for mask in None, ~padding:
        before, after = (run(mine, x, m, memory_mask=mask).detach() for m in (memory, other))
        for t in range(5):
            what = f"tokens 4 to 6 of the memory are not masked and were changed: the output of token {t}"
            assert_differs(after[:, t], before[:, t], what)
    assert_answers(impl, randn)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000, allowed or masked, give right weights and no NaN"""
    x = torch.tensor([[[10.0, -10.0, 0.0], [10.0, 0.0, -10.0]]])
    hide_same = torch.tensor([[False, True], [True, False]])

    for dtype, kind in ((dtype, kind) for dtype in PRECISE for kind in ("self", "cross")):
        changes = {f"{kind}_{name}.weight": torch.eye(3) for name in ("wk", "wv", "wo")}
        for sign, mask, seen in (1, None, [0, 1]), (-1, None, [1, 0]), (1, hide_same, [1, 0]), (-1, ~hide_same, [0, 1]):
            size = {"self": 100.0, "cross": 10 * normed(x)[0, 0, 0].item()}[kind]
            changes[f"{kind}_wq.weight"] = sign * 1e4 * math.sqrt(3) / (2 * size) * torch.eye(3)
            module = silent(impl, 3, 1, 2, changes).to(dtype)
            everyone = torch.ones(2, 2, dtype=torch.bool) if mask is None else mask
            out = run(module, x.to(dtype), x.to(dtype), *((everyone,) if kind == "self" else (None, mask)))

            middle = x + x[:, seen] if kind == "self" else normed(x) + x[:, seen]
            right = normed(normed(middle)) if kind == "cross" else normed(normed(normed(middle)))
            scores = f"{kind}-attention, scores {sign * 10_000} for a token like itself, {sign * 5000} for another"
            assert_close(out, right, f"{scores}{'' if mask is None else ', one masked'}: the output", dtype=dtype)


# --- properties and the whole -----------------------------------------------------------------------------


def test_the_order_of_the_memory_does_not_matter(impl, twins, randn, randint, rng):
    """the memory and its mask shuffled alike: the same output"""
    mine, _ = twins("DecoderBlock", 8, 2, 6)
    order = rng.sample(range(6), 6)
    x, memory, mask = randn(2, 4, 8), randn(2, 6, 8), some_mask(randint, 2, 1, 1, 6)

    for name, masks in ("no", (None, None)), ("a", (mask, mask[..., order])):
        out = run(mine, x, memory, memory_mask=masks[0])
        shuffled = run(mine, x, memory[:, order], memory_mask=masks[1])

        assert_shape(out, x.shape, "the output")
        assert_close(shuffled, out.detach(), f"{name} memory_mask, the memory in the order {order}: the output")
    assert_answers(impl, randn)


@pytest.mark.points(3)
def test_matches_the_reference(twins, randn, randint, rng):
    """random sizes, size 1, and inputs that are not contiguous"""
    for B, T, S, H, K, F in [
        (1, 1, 1, 1, 6, 1),
        (3, 1, 4, 2, 4, 5),
        (2, 3, 1, 3, 2, 4),
        (2, 2, 2, 2, 3, 6),  # sizes by which dimensions are mixed up
        *(
            (*(rng.choice((1, 2, 3, 5, 7)) for _ in range(3)), *rng.choice(((1, 7), (2, 5), (5, 2), (8, 1))), F)
            for F in (3, 8, 13)
        ),
    ]:
        mine, ref = twins("DecoderBlock", H * K, H, F)
        sizes = f"B = {B}, T = {T}, S = {S}, H = {H}, K = {K}, F = {F}"
        x, memory = randn(T, B, H * K).transpose(0, 1), randn(B, H * K, S).transpose(1, 2)
        assert_same(mine, ref, x, memory, what=f"{sizes}, transposed tensors: the output")
        x, memory = randn(B, T, 2 * H * K)[..., ::2], randn(B, 2 * S, H * K)[:, ::2]
        masks = some_mask(randint, B, 1, T, T), some_mask(randint, B, 1, 1, S)
        assert_same(mine, ref, x, memory, *masks, f"{sizes}, tensors with gaps, both masks: the output")
        right, what = ref(x.double(), x.double(), *masks[:1]), f"{sizes}, x as its own memory: the output"
        assert_close(mine(x, x, *masks[:1]), right, what, dtype=torch.float32)


def test_float64(twins, randn, randint):
    """a float64 block computes in float64 all the way"""
    mine, ref = twins("DecoderBlock", 8, 2, 6)  # K = 4: sqrt(K) held in float32 is exact, and welcome
    mine.double()
    finer = {name: w + 1e-6 * randn(*w.shape, dtype=torch.float64) for name, w in ref.state_dict().items()}
    mine.load_state_dict(finer)  # weights that float32 cannot hold
    ref.load_state_dict(finer)

    for masks in (None, None), (some_mask(randint, 3, 1, 5, 5), some_mask(randint, 3, 1, 1, 4)):
        hint = "If the other checks pass: what is rounded to float32 on the way?"
        x, memory = randn(3, 5, 8, dtype=torch.float64), randn(3, 4, 8, dtype=torch.float64)
        assert_same(mine, ref, x, memory, *masks, "float64: the output", dtype=torch.float64, hint=hint)


def test_bfloat16(twins, randn, randint):
    """a bfloat16 block takes and returns bfloat16"""
    mine, ref = twins("DecoderBlock", 16, 2, 12)
    mine.bfloat16()
    ref.bfloat16().double()  # the same weights, rounded

    for masks in (None, None), (some_mask(randint, 3, 1, 5, 5), some_mask(randint, 3, 1, 1, 4)):
        x, memory = randn(3, 5, 16).bfloat16(), randn(3, 4, 16).bfloat16()
        out, right = run(mine, x, memory, *masks), run(ref, x.double(), memory.double(), *masks)
        assert_close(out, right, "bfloat16: the output", dtype=torch.bfloat16, half=0.04)
    away_from_kinks(mine, ref)
    inputs = {"x": randn(3, 5, 16).bfloat16().requires_grad_(), "memory": randn(3, 4, 16).bfloat16().requires_grad_()}
    for name, leaf in inputs.items():
        wide = {name: tensor.detach().double().requires_grad_() for name, tensor in inputs.items()}
        output, right, cotangent = mine(**inputs), ref(**wide), randn(3, 5, 16)
        truth = torch.autograd.grad((right * cotangent).sum(), wide[name], retain_graph=True)[0]
        loose, what = 0.1 * float(truth.abs().max()), "bfloat16: the gradient"
        assert_gradients_match(output, {name: leaf}, right, {name: wide[name]}, cotangent, what, tolerance=loose)


# --- gradients --------------------------------------------------------------------------------------------


def away_from_kinks(mine, ref):
    """Make half of the hidden units large and half of them negative, so that no rounding moves one across 0."""
    with torch.no_grad():
        for module in mine, ref:
            bias = module.w1.bias
            bias.copy_(torch.tensor([8.0, -8.0]).repeat(len(bias))[: len(bias)])


def assert_same_gradients(mine, ref, dtype, randn, what, masks=(None, None), T=4, S=5):
    """Compare the gradients of fresh inputs and of all parameters with the reference's."""
    inputs = {"x": randn(3, T, 8, dtype=dtype).requires_grad_()}
    if S:
        inputs["memory"] = randn(3, S, 8, dtype=dtype).requires_grad_()
    wide = {name: tensor.detach().double().requires_grad_() for name, tensor in inputs.items()}
    output = run(mine, inputs["x"], inputs.get("memory", inputs["x"]), *masks)
    right = run(ref, wide["x"], wide.get("memory", wide["x"]), *masks)
    leaves, wide_leaves = inputs | dict(mine.named_parameters()), wide | dict(ref.named_parameters())
    assert_gradients_match(output, leaves, right, wide_leaves, randn(3, T, 8, dtype=dtype), what)


@pytest.mark.points(2)
def test_gradients(twins, randn):
    """the gradients of x, of the memory and of all parameters, in a second backward pass too"""
    for dtype in PRECISE:
        mine, ref = twins("DecoderBlock", 8, 2, 6)
        away_from_kinks(mine.to(dtype), ref)
        for what in "the gradient", "the gradient in a second backward pass":
            assert_same_gradients(mine, ref, dtype, randn, what)
        assert_same_gradients(mine, ref, dtype, randn, "one target token: the gradient", T=1)
        assert_same_gradients(mine, ref, dtype, randn, "x as its own memory: the gradient", S=0)
        mine.train()
        assert_same_gradients(mine, ref, dtype, randn, "training mode without dropout: the gradient")


def test_gradients_under_masks(twins, randn, randint):
    """the gradients under masks, with tokens that may attend to nothing: no NaN"""
    for dtype in PRECISE:
        mine, ref = twins("DecoderBlock", 8, 2, 6)
        away_from_kinks(mine.to(dtype), ref)
        for _ in range(2):
            masks = some_mask(randint, 3, 2, 4, 4), some_mask(randint, 3, 2, 4, 5)
            for mask in masks:
                mask[1, :, 2], mask[0, 1, 3] = False, False  # no head of one token, and one head of another
            assert_same_gradients(mine, ref, dtype, randn, "the gradient under two masks", masks)
            assert_same_gradients(mine, ref, dtype, randn, "the gradient under a memory_mask", (None, masks[1]))


def test_gradients_in_training(twins, randn):
    """with dropout, in training, the gradient reaches x, the memory and every parameter"""
    mine, ref = twins("DecoderBlock", 8, 2, 6, 0.5)
    away_from_kinks(mine.train(), ref)
    inputs = {"x": randn(16, 4, 8).requires_grad_(), "memory": randn(16, 5, 8).requires_grad_()}
    leaves = inputs | {name: leaf for name, leaf in mine.named_parameters() if "wk.bias" not in name}  # softmax: 0
    out = assert_shape(run(mine, **inputs), (16, 4, 8), "the output", dtype=torch.float32)

    assert out.requires_grad, "dropout = 0.5, training mode: no gradient flows at all."
    found = torch.autograd.grad((out * randn(16, 4, 8)).sum(), list(leaves.values()), allow_unused=True)
    for name, gradient in zip(leaves, found, strict=True):
        if gradient is None or not gradient.any():
            what = f"dropout = 0.5, training mode: no gradient reaches {name}"
            raise CheckFailure(f"{what}. Is something detached where numbers are dropped?")


# --- dropout ----------------------------------------------------------------------------------------------

GROUPS, COPIES = 6, 8
D_DROP = GROUPS * COPIES + 2  # two heads: in each, three groups of eight features and one that is an anchor
ANCHORS = [D_DROP // 2 - 1, D_DROP - 1]
GROUPED = [i for i in range(D_DROP) if i not in ANCHORS]
FIRST_OF_HEAD = [head * D_DROP // 2 + s for head in (0, 1) for s in (0, 1, 2)]
FIRST_OF_GROUP = [head * D_DROP // 2 + s * COPIES for head in (0, 1) for s in (0, 1, 2)]
F32, F64, BF16 = torch.float32, torch.float64, torch.bfloat16
DRAWS = ((F32, 1, 1, True), (F32, 2, 5, False), (F64, 2, 5, True), (BF16, 2, 5, True), (BF16, 1, 1, False))
EVERYONE, NOT_THE_LAST = torch.ones(3, 3, dtype=torch.bool), torch.tensor([[True, True, False]])


def returned_in_training(impl, sub_layer, p, mask=None, B=160):
    """Return what a sub-layer really added to x in training mode, shape (B, T = 3, 2, 3, COPIES).

    In an attention the value of token s is 1 in its group of features and 0 in the others, in both heads, so group s of
    head h shows the weight of token s, ``COPIES`` times. The weights are in the ratio 1 : 2 : 3. In the feed-forward
    every hidden unit is 1, and unit f is copied to group f. The two anchors are features to which no sub-layer adds
    anything. They tell how the norms behind the sum have moved and stretched each token, which is undone here. Queries
    and hidden units are read off an anchor, so that what is dropped before shows, too.
    """
    T = 3
    x = torch.zeros(1, T, D_DROP)
    x[0, :, ANCHORS] = torch.tensor([-6.0, 6.0])
    memory = torch.zeros(1, 3, D_DROP)
    pattern = torch.eye(3).repeat_interleave(COPIES, dim=1).repeat(1, 2)  # (S, 6 * COPIES)
    masks = (mask, None) if sub_layer == "self" else (None, mask)
    if sub_layer == "feed-forward":
        picks = torch.zeros(D_DROP, GROUPS)
        picks[GROUPED, torch.arange(GROUPS).repeat_interleave(COPIES)] = 1.0
        sum_of, hidden = normed(normed(x)), torch.zeros(GROUPS, D_DROP)
        hidden[:, ANCHORS[1]] = 1.0 / sum_of[0, 0, ANCHORS[1]]
        changes = {"w1.weight": hidden, "w2.weight": picks}
    else:
        (x if sub_layer == "self" else memory)[0, :, GROUPED] = 4.0 * pattern
        sum_of = x.double() if sub_layer == "self" else normed(x)
        value, key, query = torch.zeros(D_DROP), torch.zeros(D_DROP, D_DROP), torch.zeros(D_DROP, D_DROP)
        value[GROUPED], key[FIRST_OF_HEAD, FIRST_OF_GROUP] = 0.25, 0.25
        query[FIRST_OF_HEAD, ANCHORS[1]] = math.sqrt(D_DROP // 2) * torch.tensor([1.0, 2.0, 3.0]).log().repeat(2)
        weights = {"wq": query / sum_of[0, 0, ANCHORS[1]], "wk": key, "wv": value.diag(), "wo": torch.eye(D_DROP)}
        changes = {f"{sub_layer}_{name}.weight": weight.float() for name, weight in weights.items()}
    module = silent(impl, D_DROP, 2, GROUPS, changes, dropout=p)
    module.train()
    calls = [run(module, x.expand(B // 2, T, D_DROP), memory.expand(B // 2, 3, D_DROP), *masks) for _ in range(2)]
    for out in calls:
        assert_shape(out, (B // 2, T, D_DROP), "the output in training mode", dtype=torch.float32)
    out = torch.stack(calls, dim=1).flatten(0, 1).detach().double()  # in turn, so that a draw used again shows
    left, right = out[..., ANCHORS[:1]], out[..., ANCHORS[1:]]
    was = sum_of[..., ANCHORS]
    undone = was[..., :1] + (out - left) / (right - left) * (was[..., 1:] - was[..., :1])
    added = (undone - sum_of)[..., GROUPED]
    if not bool(added.isfinite().all()) or float(added.abs().max()) > 1e3:
        raise CheckFailure(f"dropout = {p}: features of x that no sub-layer touches are dropped. What is dropout for?")
    return added.view(B, T, 2, 3, COPIES)


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
    """in training, dropout sets single weights of each attention to 0"""
    for p in 0.25, 0.4:
        for kind, mask in ("self", None), ("self", EVERYONE), ("cross", None), ("cross", NOT_THE_LAST):
            added = returned_in_training(impl, kind, p, mask)
            dropped = (added.abs() < 1e-3).all(dim=-1)  # (B, T, H, S)
            allowed = causal(3) if kind == "self" and mask is None else EVERYONE if mask is None else mask
            allowed = allowed.expand(3, 3).unsqueeze(1).expand_as(dropped)

            what = f"dropout = {p}, weights of the {kind}-attention"
            names = "batch items, of two calls in turn,", "queries", "heads", "keys"
            assert_drawn_alone(dropped, allowed, p, what, names)
            assert dropped[~allowed].all(), f"dropout = {p}, training mode, {kind}: a masked token is attended to."
    assert_answers(impl, randn)


def test_dropout_after_the_relu(impl, randn):
    """in training, dropout sets single hidden units of the feed-forward to 0"""
    for p in 0.25, 0.4:
        added = returned_in_training(impl, "feed-forward", p)
        dropped = (added.abs() < 1e-3).all(dim=-1).flatten(2)  # (B, T, F)

        names = "batch items, of two calls in turn,", "tokens", "hidden units"
        assert_drawn_alone(dropped, torch.ones_like(dropped), p, f"dropout = {p}, hidden units", names)
    assert_answers(impl, randn)


@pytest.mark.points(2)
def test_dropout_on_what_the_sub_layers_return(impl, randn):
    """in training, dropout sets single numbers of each sub-layer's output to 0, and none of x or of a norm"""
    for p in 0.25, 0.4:
        for sub_layer in OUT:
            added = returned_in_training(impl, sub_layer, p, EVERYONE)
            zero = added.abs() < 1e-3  # (B, T, 2, 3, COPIES)
            alive = (~zero).any(dim=-1, keepdim=True).expand_as(zero)

            name = "feed-forward" if sub_layer == "feed-forward" else f"{sub_layer}-attention"
            names = "batch items, of two calls in turn,", "tokens", "heads", "groups", "features"
            assert_drawn_alone(zero, alive, p, f"dropout = {p}, what the {name} returns", names)
        changes = {
            f"{name}.bias": torch.full((40,), size) for name, size in zip(OUT.values(), (1.0, 3.0, 9.0), strict=True)
        }
        module = silent(impl, 40, 2, 3, changes, dropout=p).train()
        out = module(torch.zeros(40, 3, 40), torch.zeros(40, 2, 40)).detach()
        levels = max(len(set(row)) for row in out.mul(1e3).round().flatten(0, 1).tolist())
        if levels < 7:  # of a feature, any of three may be dropped or not
            what = f"dropout = {p}: the same features are dropped from what two of the sub-layers return"
            raise CheckFailure(f"{what}. Is every number drawn on its own?")
    assert_answers(impl, randn)


def test_dropout_keeps_the_average(impl, randn):
    """in training, what is not dropped grows by 1 / (1 - dropout), inside and at the end of each sub-layer"""
    for p in 0.25, 0.4:
        for sub_layer in OUT:
            added = returned_in_training(impl, sub_layer, p, EVERYONE)

            kept = added.abs() >= 1e-3
            plain = [1.0, 1.0, 1.0] if sub_layer == "feed-forward" else [1 / 6, 1 / 3, 1 / 2]
            what = f"dropout = {p}, a sub-layer ({sub_layer}) that returns 0 or {plain[0]:.4g} and more in eval mode"
            if not kept.any():
                raise CheckFailure(f"{what}: it returns nothing but 0 in training mode.")
            right = (torch.tensor(plain).double() / (1 - p) ** 2).unsqueeze(-1).expand_as(added)
            assert_close(added[kept], right[kept], f"{what}: the numbers that are not dropped", tolerance=2e-3)
    assert_answers(impl, randn)


def test_dropout_rests_in_eval(impl, twins, randn):
    """dropout does nothing in eval mode or with probability 0, and draws afresh in training"""
    x, memory = randn(2, 5, 8), randn(2, 3, 8)
    mine, _ = twins("DecoderBlock", 8, 2, 6, 0.5)

    first, second = (run(mine, x, memory).detach() for _ in range(2))
    assert_close(second, first, "dropout = 0.5: two calls in eval mode")
    mine.train()
    first, second = (run(mine, x, memory).detach() for _ in range(2))
    assert_differs(first, second, "dropout = 0.5: two calls in training mode")
    mine.eval()
    assert_close(run(mine, x, memory), run(mine, x, memory).detach(), "dropout = 0.5: two calls in eval after training")
    never, _ = twins("DecoderBlock", 8, 2, 6)
    first = run(never, x, memory).detach()
    never.train()
    assert_close(run(never, x, memory), first, "no dropout: training mode and eval mode")
    mine, _ = twins("DecoderBlock", d_model=64, n_heads=2, d_ff=6, dropout=0.5)
    for dtype, B, T, grad in DRAWS:
        mine.to(dtype).train()
        y, memory = randn(B, T, 64, dtype=dtype), randn(B, T, 64, dtype=dtype)
        what = f"B = {B}, T = S = {T}, training mode with dropout = 0.5"
        with torch.set_grad_enabled(grad):
            outs = [assert_shape(run(mine, y, memory), y.shape, f"{what}: the output", dtype=dtype) for _ in range(2)]
        assert_differs(*outs, f"{what}: two calls" + ("" if grad else " under no_grad"))
    assert_answers(impl, randn)


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls(twins, randn, randint):
    """two blocks, call after call with other sizes, memories, masks, dtypes and weights"""
    pairs = [twins("DecoderBlock", 8, H, F) for H, F in ((2, 6), (8, 5))]
    for dtype in torch.float32, torch.float64, torch.float32:
        for mine, _ in pairs:
            mine.to(dtype).train(dtype == torch.float64)
        for B, T, S, masked in (2, 4, 3, 1), (2, 4, 3, 1), (2, 4, 3, 0), (2, 4, 3, 0), (1, 6, 2, 1), (4, 3, 5, 0):
            for mine, ref in pairs:
                masks = (some_mask(randint, B, 1, T, T), some_mask(randint, B, 1, T, S)) if masked else (None, None)
                what = f"B = {B}, T = {T}, S = {S}, after other calls: the output"
                assert_same(mine, ref, randn(B, T, 8), randn(B, S, 8), *masks, what, dtype=dtype)
        with torch.no_grad():
            for masks in (None, None), (None, None), (some_mask(randint, 4, 4), some_mask(randint, 1, 3)):
                what = "under no_grad: the output"
                assert_same(*pairs[0], randn(2, 4, 8), randn(2, 3, 8), *masks, what, dtype=dtype)
    mine, ref = pairs[0]
    x, memory = randn(2, 4, 8), randn(2, 3, 8)
    with torch.no_grad():
        assert_same(mine, ref, x, memory, what="before all parameters are changed in place: the output")
        theirs = dict(ref.named_parameters())
        for name, parameter in mine.named_parameters():
            theirs[name].copy_(0.5 * randn(*parameter.shape))
            parameter.copy_(theirs[name])
        assert_same(mine, ref, x, memory, what="after all parameters were changed in place: the output")


def test_batch_items_do_not_meet(impl, twins, randn, randint):
    """an item of a batch gets the same answer alone"""
    mine, _ = twins("DecoderBlock", 6, 2, 5)
    inputs = randn(3, 4, 6), randn(3, 5, 6), some_mask(randint, 3, 1, 4, 4), some_mask(randint, 3, 1, 1, 5)

    together = run(mine, *inputs)

    assert_shape(together, inputs[0].shape, "the output")
    for i in range(3):
        alone = run(mine, *(tensor[i : i + 1] for tensor in inputs))
        assert_close(alone, together[i : i + 1].detach(), f"item {i} alone and in a batch of 3: the output")
    assert_answers(impl, randn)


def test_leaves_the_inputs_alone(impl, twins, randn, randint):
    """x, the memory and the masks are the same after the call"""
    mine, _ = twins("DecoderBlock", 6, 2, 5)
    inputs = {"x": randn(2, 5, 6), "memory": randn(2, 4, 6)}
    inputs |= {"self_mask": some_mask(randint, 2, 1, 5, 5), "memory_mask": some_mask(randint, 2, 1, 5, 4)}
    before = {name: tensor.clone() for name, tensor in inputs.items()}

    for training in False, True:
        run(mine.train(training), inputs["x"], inputs["memory"])
        run(mine, **inputs)
        for name, tensor in inputs.items():
            assert_close(tensor, before[name], f"{name} after the call and before it", tolerance=0.0)
    assert_answers(impl, randn)


def test_errors(impl, randn):
    """sizes below 1 and a head count that does not divide d_model raise ValueError"""
    for sizes in (6, 0, 5), (6, -2, 5), (0, 1, 5), (-6, 3, 5), (6, 4, 5), (3, 6, 5), (6, 2, 0), (6, 2, -1):
        assert_rejects(
            lambda sizes=sizes: impl.DecoderBlock(*sizes),
            f"d_model = {sizes[0]}, n_heads = {sizes[1]}, d_ff = {sizes[2]}",
            good=lambda: assert_answers(impl, randn),
        )


def test_no_loop_over_tokens_or_batch(impl, twins, randn):
    """the number of tensor operations does not grow with the tokens, the memory or the batch"""
    many, mask = randn(40, 40, 8), causal(40)
    mine, _ = twins("DecoderBlock", 8, 2, 6)

    assert_no_loop(impl, lambda n: run(mine, many[:1, :n], many[:1, :5]), "target tokens")
    assert_no_loop(impl, lambda n: run(mine, many[:1, :5], many[:1, :n], mask[:5, :5], mask[:5, :n]), "memory tokens")
    assert_no_loop(impl, lambda n: run(mine, many[:n, :5], many[:n, :4]), "batch items")
    assert_answers(impl, randn)


def test_follows_the_device(impl, randn):
    """computes on the device that the block and the inputs are on"""
    module = impl.DecoderBlock(6, 2, 5, 0.1).to("meta")
    x, memory = randn(2, 5, 6).to("meta"), randn(2, 4, 6).to("meta")
    mask = torch.ones(5, 5, dtype=torch.bool, device="meta")
    for masks in (None, None), (mask, mask[:, :4]):
        assert_follows_device(
            impl, lambda masks=masks: assert_tensor(run(module, x, memory, *masks), "the output"), "the output"
        )
    assert_answers(impl, randn)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(shape, generator=generator) for name, shape in sorted(shapes_of(6, 7).items())}
    x, memory = (torch.randn(2, n, 6, generator=generator) for n in (4, 3))
    few = torch.tensor([[1, 0, 1, 0], [0, 0, 1, 0], [1, 1, 1, 0], [0, 1, 0, 1]]).bool()
    none = few & torch.tensor([[True], [False], [True], [True]])  # token 1 may attend to nothing

    def answer(kind="", *masks, size=1.0, dropout=0.0, length=3):
        quiet = {"": (), "constants": OUT}.get(kind, [k for k in OUT if k != kind])
        changes = {f"{OUT[k]}.weight": torch.zeros_like(weights[f"{OUT[k]}.weight"]) for k in quiet}
        if size != 1.0:
            changes |= {f"{OUT[k]}.bias": torch.zeros(6) for k in quiet}
        module = impl.DecoderBlock(6, 2, 7, dropout)
        module.load_state_dict(weights | changes, strict=False)
        return run(module.eval(), size * x, memory[:, :length], *masks).detach()

    def rests(kind):
        return torch.allclose(answer(kind), answer(kind, dropout=0.5))

    def dropped(sub_layer):
        added = returned_in_training(impl, sub_layer, 0.5, EVERYONE, B=64)
        zero = added.abs() < 1e-3
        alive = (~zero).any(dim=-1)
        levels = sorted({round(value, 2) for value in added.flatten().tolist()})
        return levels if len(levels) < 9 else "many", bool(alive.all()), bool(zero[alive].any())

    def zeros_in_training():
        module = impl.DecoderBlock(6, 2, 7, 0.5)
        module.load_state_dict(weights, strict=False)
        return bool((run(module.train(), x, memory) == 0).any())

    answers = {
        "names": observe(lambda: sorted(impl.DecoderBlock(6, 2, 7).state_dict())),
        "constants": observe(lambda: answer("constants")),
        "tiny": observe(lambda: answer("constants", size=0.003)),
        "self, no mask": observe(lambda: answer("self")),
        "self, a mask": observe(lambda: answer("self", few)),
        "self, nothing allowed": observe(lambda: answer("self", none)),
        "cross, no mask": observe(lambda: answer("cross")),
        "cross, one token of memory": observe(lambda: answer("cross", length=1)),
        "cross, a mask": observe(lambda: answer("cross", None, few[:, :3])),
        "cross, nothing allowed": observe(lambda: answer("cross", None, none[:, :3])),
        "cross, a self_mask": observe(lambda: answer("cross", few)),
        "feed-forward": observe(lambda: answer("feed-forward")),
        "whole": observe(answer),
        "zeros in training": observe(zeros_in_training),
    }
    for kind in OUT:
        answers[f"dropout in eval, {kind}"] = observe(lambda kind=kind: rests(kind))
        answers[f"dropout in training, {kind}"] = observe(lambda kind=kind: dropped(kind))
    return answers


def picture(impl):
    """Draw which outputs change when one token of the targets, or of the memory, is changed."""
    generator = torch.Generator().manual_seed(0)
    module = impl.DecoderBlock(16, 4, 32)
    weights = {}
    for name, shape in sorted(shapes_of(16, 32).items()):
        scale = shape[1] ** -0.5 if len(shape) == 2 else 0.0
        weights[name] = torch.randn(shape, generator=generator) * scale + float("norm" in name and "weight" in name)
    module.load_state_dict(weights)
    module.eval()
    x, memory = torch.randn(1, 8, 16, generator=generator), torch.randn(1, 10, 16, generator=generator)
    padding = (torch.arange(10) < 7).view(1, 10)

    def change(targets, source, mask):
        out = run(module, targets, source, memory_mask=mask) - run(module, x, memory, memory_mask=mask)
        return out.detach().norm(dim=-1).T.log1p()  # (token, changed token)

    def each(tokens):
        changed = tokens.expand(tokens.shape[1], -1, -1).clone()
        changed[range(len(changed)), range(len(changed))] += 1.0
        return changed

    of_targets = change(each(x), memory.expand(8, -1, -1), None)
    panels = [Panel("change of the output by one target token", of_targets, "heatmap", "target changed", "target")]
    for name, mask in ("", None), (", tokens 7 to 9 are padding", padding):
        of_memory = change(x.expand(10, -1, -1), each(memory), mask)
        title = f"change of the output by one token of the memory{name}"
        panels.append(Panel(title, of_memory, "heatmap", "memory token changed", "target"))
    return panels
