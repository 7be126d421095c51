"""Hidden suite of transformer: the two functions of its training, then the model, part by part.

To look at one part alone, the last projection of every other sub-layer is set to 0, so that only its residual and its
norm are left. A sub-layer stays silent then whatever it computes, and a failure says which part is wrong.
"""

import functools
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
NORMS = {"encoder": 2, "decoder": 3}
PROJECTIONS = {
    "encoder": ("wq", "wk", "wv", "wo"),
    "decoder": tuple(f"{kind}_{name}" for kind in ("self", "cross") for name in ("wq", "wk", "wv", "wo")),
}
LAST = {  # the last projection of each kind of sub-layer
    "the encoder's attention": ("encoder", "wo"),
    "the encoder's feed-forward": ("encoder", "w2"),
    "the decoder's self-attention": ("decoder", "self_wo"),
    "the cross-attention": ("decoder", "cross_wo"),
    "the decoder's feed-forward": ("decoder", "w2"),
}
SMALL = (7, 6, 8, 2, 12, 1)  # src_vocab, tgt_vocab, D, H, F, N


# --- weights ----------------------------------------------------------------------------------------------


def quiet_weights(src_vocab, tgt_vocab, d_model, d_ff, n_layers):
    """Return weights of all names that are asked for: norms that only normalise, and zeros everywhere else."""
    weights = {"src_embedding.weight": torch.zeros(src_vocab, d_model)}
    weights["tgt_embedding.weight"] = torch.zeros(tgt_vocab, d_model)
    for stack, projections in PROJECTIONS.items():
        for i in range(n_layers):
            shapes = dict.fromkeys(projections, (d_model, d_model)) | {"w1": (d_ff, d_model), "w2": (d_model, d_ff)}
            for name, shape in shapes.items():
                weights[f"{stack}.{i}.{name}.weight"] = torch.zeros(shape)
                weights[f"{stack}.{i}.{name}.bias"] = torch.zeros(shape[0])
            for n in range(1, NORMS[stack] + 1):
                weights[f"{stack}.{i}.norm{n}.weight"] = torch.ones(d_model)
                weights[f"{stack}.{i}.norm{n}.bias"] = torch.zeros(d_model)
    weights["output.weight"], weights["output.bias"] = torch.zeros(tgt_vocab, d_model), torch.zeros(tgt_vocab)
    return weights


def load(pair, changes):
    """Load the reference's weights with changes, name → tensor, into both of a pair."""
    mine, ref = pair
    weights = {name: tensor.clone() for name, tensor in ref.state_dict().items()} | changes
    ref.load_state_dict(weights)
    mine.load_state_dict(weights)
    return mine, ref


def only(pair, *kept):
    """Silence every sub-layer of both but those of the kinds ``kept``, which are keys of ``LAST``."""
    silent = {place for kind, place in LAST.items() if kind not in kept}
    changes = {}
    for name, tensor in pair[1].state_dict().items():
        stack, *_, part, _ = (*name.split("."), "") if name.count(".") < 3 else name.split(".")
        if (stack, part) in silent:
            changes[name] = torch.zeros_like(tensor)
    return load(pair, changes)


def drowned_positions(ref):
    """Return changes under which the rounding of the positions cannot be seen: embeddings that are larger by far.

    The queries and keys of the first blocks are scaled back, so that their scores stay as they are.
    """
    changes = {name: w * 1e5 for name, w in ref.state_dict().items() if "embedding" in name}
    for name in "encoder.0.wq", "encoder.0.wk", "decoder.0.self_wq", "decoder.0.self_wk":
        changes[f"{name}.weight"] = ref.state_dict()[f"{name}.weight"] * 1e-5
    return changes


def away_from_kinks(ref):
    """Return changes under which no input of a ReLU comes near 0, where its derivative jumps."""
    changes = {}
    for name, w in ref.state_dict().items():
        if ".w1." in name:
            signs = torch.ones(w.shape[0], dtype=w.dtype)
            signs[::3] = -1.0
            changes[name] = 4.0 * signs + 0.1 * w if name.endswith("bias") else w * (0.5 / w.norm(dim=1, keepdim=True))
    return changes


# --- calls ------------------------------------------------------------------------------------------------


def ids(randint, B, n, vocab, low=1):
    """Return random ids, of which none is 0 unless ``low`` is."""
    return randint(low, vocab, (B, n))


def pad(src, lengths, pad_id=0):
    """Return ``src`` with padding from the given lengths on."""
    return src.masked_fill(torch.arange(src.shape[1]) >= torch.tensor(lengths)[:, None], pad_id)


def assert_same(pair, src, tgt, what, *, dtype=torch.float32, tolerance=None, half=0.02, hint=""):
    """Compare the logits with the reference's."""
    mine, ref = pair
    right = ref(src, tgt)
    assert_close(mine(src, tgt), right, what, dtype=dtype, tolerance=tolerance, half=half, hint=hint)


def assert_answers(impl, randn):
    """Check that a model answers at all: with weights that leave nothing but output.bias, this bias comes back."""
    module = impl.Transformer(7, 5, 2, 1, 2, 1)
    for _ in range(2):
        bias = randn(5)
        module.load_state_dict(quiet_weights(7, 5, 2, 2, 1) | {"output.bias": bias})
        logits = module(torch.tensor([[1, 2]]), torch.tensor([[3, 1, 0]]))
        assert_close(logits, bias.expand(1, 3, 5), "weights that leave nothing but output.bias: the logits")


def normed(x):
    """Return ``x`` normalised over its last dimension, without weight and bias."""
    x = x - x.mean(dim=-1, keepdim=True)
    return x / (x.pow(2).mean(dim=-1, keepdim=True) + 1e-5).sqrt()


def positions_on_paper(n):
    """Return the sines and cosines of the first positions for D = 4, float64, shape (n, 4)."""
    places = torch.arange(n, dtype=torch.float64)
    return torch.stack((places.sin(), places.cos(), (places / 100).sin(), (places / 100).cos()), dim=1)


# --- shifting the targets ---------------------------------------------------------------------------------


@pytest.mark.visible
def test_shift_right_by_hand(impl):
    """shift_right: the start comes first, every target moves on by one place, the last one is dropped"""
    for targets, start, by_hand in (
        ([[5, 6, 7], [8, 9, 2]], 1, [[1, 5, 6], [1, 8, 9]]),
        ([[3, 3, 0], [4, 0, 0]], 7, [[7, 3, 3], [7, 4, 0]]),
        ([[9]], 2, [[2]]),
        ([[4]], 3, [[3]]),
    ):
        out = impl.shift_right(torch.tensor(targets), start)

        assert_close(out, torch.tensor(by_hand), f"shift_right({targets}, {start})")


def test_shift_right_of_any_size(impl, reference, randint, rng):
    """shift_right: any batch, any length, strided targets, on their device, without a loop"""
    sizes = [(1, 1), (4, 1), (1, 6), (3, 3), (3, 3), (rng.randint(2, 9), rng.randint(2, 9))]

    for B, T in sizes:
        wide, some = randint(1, 50, (T, 2 * B)), rng.randint(50, 99)
        for targets, kind, start in (wide[:, ::2].T, "strided", some), (wide[:, :B].T.contiguous(), "plain", 0):
            before = targets.clone()
            out = impl.shift_right(targets, start)

            what = f"shift_right of {kind} targets of shape {(B, T)}, start {start}"
            assert_close(out, reference.shift_right(before, start), what)
            assert_close(targets, before, "the targets after shift_right and before it")
    many = randint(0, 50, (40, 40))
    assert_no_loop(impl, lambda n: impl.shift_right(many[:3, :n], 1), "target tokens")
    assert_no_loop(impl, lambda n: impl.shift_right(many[:n, :3], 1), "sequences")
    assert_follows_device(impl, lambda: impl.shift_right(many.to("meta"), 1), "shift_right")


# --- the loss ---------------------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_loss_by_hand(impl):
    """sequence_loss: three real tokens, whose probabilities are known"""
    odds = torch.tensor([[[1.0, 2.0, 5.0], [4.0, 2.0, 2.0]], [[1.0, 1.0, 6.0], [5.0, 2.0, 1.0]]])  # out of 8

    for targets, pad_id, chances, count in (
        ([[1, 2], [2, 0]], 0, (2 / 8, 2 / 8, 6 / 8), 3),
        ([[2, 1], [0, 0]], 0, (5 / 8, 2 / 8), 2),
        ([[0, 1], [0, 2]], 2, (1 / 8, 2 / 8, 1 / 8), 3),
        ([[2, 0], [2, 0]], 1, (5 / 8, 4 / 8, 6 / 8, 5 / 8), 4),
    ):
        loss = impl.sequence_loss(odds.log(), torch.tensor(targets), pad_id)

        by_hand = torch.tensor(sum(-math.log(chance) for chance in chances) / count)
        assert_close(loss, by_hand, f"targets {targets} with pad_id {pad_id}, {count} real tokens: the loss")


@pytest.mark.visible
def test_loss_leaves_padding_out(impl, randn):
    """sequence_loss: whatever the logits say at padded places, the loss and the other gradients stay the same"""
    targets = torch.tensor([[3, 1, 2, 4, 1], [2, 0, 0, 0, 0], [1, 3, 0, 0, 0]])
    padded = targets == 0

    for _ in range(2):
        logits = randn(3, 5, 6).requires_grad_()
        loss = assert_tensor(impl.sequence_loss(logits, targets, 0), "the loss")
        other = logits.detach().clone()
        other[padded] = 100.0 * randn(7, 6)

        assert_close(impl.sequence_loss(other, targets, 0), loss.detach(), "padded logits changed: the loss")
        right = -logits.detach().double().log_softmax(dim=-1)
        mean = right[~padded].gather(1, targets[~padded][:, None]).mean()
        what = "sequences of 5, 1 and 2 real tokens: the loss"
        assert_close(loss, mean, what, dtype=torch.float32, hint="How many tokens are averaged?")
        if not loss.requires_grad:
            raise CheckFailure("No gradient flows from the loss to the logits. Is something turned into a number?")
        (gradient,) = torch.autograd.grad(loss, logits)
        assert_close(gradient[padded], torch.zeros(7, 6), "the gradient of padded logits", tolerance=0.0)
        assert_differs(gradient[~padded], torch.zeros(8, 6), "the gradient of the other logits, and 0")


@pytest.mark.visible
def test_loss_of_large_logits(impl):
    """sequence_loss: logits of 1000 and -1000 give right losses, and no NaN"""
    for dtype in PRECISE:
        for logits, targets, by_hand in (
            ([[1000.0, -1000.0, 0.0], [-1000.0, -1000.0, -1000.0]], [1, 2], (2000.0 + math.log(3)) / 2),
            ([[1000.0, -1000.0, 0.0], [-1000.0, -1000.0, 500.0]], [2, 2], 500.0),
            ([[1000.0, 1000.0, -1000.0], [-1000.0, 1000.0, 0.0]], [1, 1], math.log(2) / 2),
        ):
            loss = impl.sequence_loss(torch.tensor([logits], dtype=dtype), torch.tensor([targets]), 0)

            what = f"logits {logits}, targets {targets}: the loss"
            assert_close(loss, torch.tensor(by_hand, dtype=dtype), what)


@pytest.mark.points(2)
def test_loss_matches_the_reference(impl, reference, randn, randint, rng):
    """sequence_loss: sizes that coincide, any pad_id, strided tensors, all dtypes, the gradient, no loop"""
    sizes = [
        (1, 1, 2),
        (2, 4, 4),
        (4, 4, 4),
        (5, 3, 5),
        (3, 1, 7),
        *([rng.randint(2, 6) for _ in range(3)] for _ in "ab"),
    ]

    for B, T, V in sizes:
        for dtype in (*PRECISE, torch.bfloat16):
            pad_id = rng.randrange(V)
            targets = randint(0, V, (T, B)).T
            targets[0, 0] = (pad_id + 1) % V
            logits = randn(V, T, B).to(dtype).permute(2, 1, 0).requires_grad_()
            wide = logits.detach().double().requires_grad_()
            loss, right = impl.sequence_loss(logits, targets, pad_id), reference.sequence_loss(wide, targets, pad_id)

            what = f"the loss for B = {B}, T = {T}, V = {V}, pad_id = {pad_id}"
            half = dtype == torch.bfloat16  # a small loss is a difference of large logits, and its gradient of 1 and p
            loss_off = 0.02 * max(float(right.detach()), float(wide.detach().abs().max())) if half else None
            gradient_off = 0.02 / int((targets != pad_id).sum()) if half else None
            assert_close(loss, right, what, dtype=dtype, tolerance=loss_off)
            leaves, wide_leaves, one = {"the logits": logits}, {"the logits": wide}, torch.tensor(1.0, dtype=dtype)
            assert_gradients_match(
                loss, leaves, right, wide_leaves, one, f"{what}: the gradient", tolerance=gradient_off
            )
    many, goals = randn(40, 40, 3), randint(0, 3, (40, 40))
    goals[:, 0] = 1
    assert_no_loop(impl, lambda n: impl.sequence_loss(many[:3, :n], goals[:3, :n], 0), "target tokens")
    assert_no_loop(impl, lambda n: impl.sequence_loss(many[:n, :3], goals[:n, :3], 0), "sequences")


# --- the model: shapes and names --------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randint):
    """the logits are (B, T, tgt_vocab), for sources and targets of any length"""
    module = impl.Transformer(src_vocab=9, tgt_vocab=5, d_model=8, n_heads=2, d_ff=12, n_layers=1)
    with torch.no_grad():  # zeros would be fine to start with
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    seen = torch.zeros(0)

    for B, S, T in (3, 4, 6), (3, 4, 6), (2, 7, 3), (1, 1, 1):
        logits = module(ids(randint, B, S, 9), ids(randint, B, T, 5))

        what = f"the logits for B = {B}, S = {S}, T = {T}, tgt_vocab = 5"
        assert_shape(logits, (B, T, 5), what, dtype=torch.float32)
        assert_differs(logits, seen, "the logits of a second call, with other ids")
        seen = logits


@pytest.mark.visible
def test_parameter_names(impl):
    """all weights and biases have the names of the brief, and nothing else is saved and loaded"""
    for src_vocab in 3, 5:  # as many source tokens as target tokens, and more
        module = impl.Transformer(src_vocab, 3, 4, 2, 6, 2)
        asked = quiet_weights(src_vocab, 3, 4, 6, 2)
        for place, found in (
            ("named_parameters()", module.named_parameters()),
            ("state_dict()", module.state_dict().items()),
        ):
            came = {name: tuple(tensor.shape) for name, tensor in found}
            for name in sorted(came.keys() | asked.keys()):
                right = tuple(asked[name].shape) if name in asked else "absent"
                if came.get(name, "missing") != right:
                    sizes = f"src_vocab = {src_vocab}, tgt_vocab = 3, D = 4, F = 6, N = 2"
                    raise CheckFailure(
                        f"{place} for {sizes}: {name} is {came.get(name, 'missing')}, but should be {right}."
                    )
    for bias in torch.tensor([1.0, -2.0, 5.0]), torch.tensor([4.0, 0.0, 3.0]):
        module.load_state_dict(asked | {"output.bias": bias})
        logits = module(torch.tensor([[1, 2]]), torch.tensor([[1, 2, 0]]))

        assert_close(logits, bias.expand(1, 3, 3), "weights loaded that leave nothing but output.bias: the logits")


# --- the model: part by part ------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_target_embedding_by_hand(impl):
    """embeddings of the target are scaled by sqrt(D) and get sines and cosines added"""
    module = impl.Transformer(5, 4, 4, 2, 6, 1)
    quiet = quiet_weights(5, 4, 4, 6, 1) | {"output.weight": torch.eye(4)}
    tgt = torch.tensor([[2, 1, 3], [3, 3, 0]])

    for size, kind in (0.0, "embeddings of 0"), (1.0, "embeddings"), (-0.5, "other embeddings"):
        table = size * torch.tensor(
            [[1.0, 0.0, 2.0, 0.0], [0.0, 3.0, 0.0, 1.0], [2.0, -1.0, 0.0, 0.0], [0.5, 1.0, -2.0, 1.0]]
        )
        module.load_state_dict(quiet | {"tgt_embedding.weight": table})
        logits = module(torch.tensor([[1, 2], [3, 1]]), tgt)

        by_hand = normed(normed(normed(2.0 * table[tgt] + positions_on_paper(3).float())))  # every sub-layer adds 0
        what = f"{kind}, every sub-layer silent, output the identity: the logits, which are x after three norms"
        assert_close(logits, by_hand, what, hint="What is x when all sub-layers add 0?")


def test_residuals_and_norms(twins, randint):
    """with silent sub-layers, each block is its norms: after the residual, with weight, bias and eps; no more norms"""
    for n_layers in 1, 2:
        pair = only(twins("Transformer", *SMALL[:5], n_layers))
        for _ in range(2):
            src, tgt = ids(randint, 3, 4, 7), ids(randint, 3, 5, 6)
            what = f"{n_layers} layers whose sub-layers add 0: the logits"
            assert_same(pair, src, tgt, what, hint="Where do the norms stand, and how many are there?")
    mine, ref = pair
    alternating = torch.tensor([1.0, -1.0]).repeat(4)
    start = torch.tensor([0.0, 1.0]).repeat(4)  # the position 0
    table = torch.stack([(spread * alternating - start) / math.sqrt(8) for spread in (0.001, 0.002, 0.003, 0.004)])
    table = torch.cat((table, table[:2]))  # x is now as small as the root of eps
    load(pair, {"tgt_embedding.weight": table, "decoder.0.norm1.weight": torch.full((8,), 3.0)})
    src, tgt = ids(randint, 2, 3, 7), torch.tensor([[0], [1], [2], [3]])[randint(0, 4, (2,))]
    what = "a token whose features are about 0.002: the logits"
    assert_close(mine(src, tgt), ref(src, tgt), what, dtype=torch.float32, tolerance=1e-3, hint="Where does eps stand?")


@pytest.mark.points(2)
def test_decoder_self_attention(twins, randint):
    """the decoder's self-attention alone, every other sub-layer silent"""
    for sizes in SMALL[:5], (7, 6, 12, 3, 8):
        pair = only(twins("Transformer", *sizes, 1), "the decoder's self-attention")
        for B, T in (3, 5), (3, 5), (2, 2):
            src, tgt = ids(randint, B, 4, 7), ids(randint, B, T, 6)
            what = f"only the decoder's self-attention, B = {B}, T = {T}, D = {sizes[2]}, H = {sizes[3]}: the logits"
            assert_same(pair, src, tgt, what)


@pytest.mark.points(2)
def test_cross_attention(twins, randint):
    """the attention of the decoder to the source alone, the encoder and every other sub-layer silent"""
    for sizes in SMALL[:5], (7, 6, 12, 3, 8):
        pair = only(twins("Transformer", *sizes, 1), "the cross-attention")
        for B, S, T in (3, 4, 5), (3, 4, 5), (2, 6, 2), (2, 3, 1), (2, 1, 3), (3, 3, 3):
            src, tgt = ids(randint, B, S, 7), ids(randint, B, T, 6)
            what = f"only the cross-attention, B = {B}, S = {S}, T = {T}, D = {sizes[2]}, H = {sizes[3]}: the logits"
            assert_same(pair, src, tgt, what)


def test_decoder_feed_forward(twins, randint):
    """the decoder's feed-forward alone, every other sub-layer silent"""
    pair = only(twins("Transformer", *SMALL), "the decoder's feed-forward")

    for B, T in (3, 5), (3, 5), (1, 1):
        src, tgt = ids(randint, B, 4, 7), ids(randint, B, T, 6)
        assert_same(pair, src, tgt, f"only the decoder's feed-forward, B = {B}, T = {T}: the logits")


@pytest.mark.points(2)
def test_encoder_attention(twins, randint):
    """the encoder's attention: every source token sees every other, seen through the cross-attention"""
    for sizes in SMALL[:5], (7, 6, 12, 3, 8):
        pair = only(twins("Transformer", *sizes, 1), "the encoder's attention", "the cross-attention")
        for B, S, T in (3, 4, 5), (3, 4, 5), (2, 5, 1), (1, 2, 2):
            src, tgt = ids(randint, B, S, 7), ids(randint, B, T, 6)
            what = f"only the encoder's attention and the cross-attention, B = {B}, S = {S}, T = {T}: the logits"
            assert_same(pair, src, tgt, what, hint="If the cross-attention alone is right: look at the encoder.")


def test_encoder_feed_forward(twins, randint):
    """the encoder's feed-forward, seen through the cross-attention"""
    pair = only(twins("Transformer", *SMALL), "the encoder's feed-forward", "the cross-attention")

    for B, S, T in (3, 4, 5), (3, 4, 5), (1, 1, 1):
        src, tgt = ids(randint, B, S, 7), ids(randint, B, T, 6)
        what = f"only the encoder's feed-forward and the cross-attention, B = {B}, S = {S}, T = {T}: the logits"
        assert_same(pair, src, tgt, what, hint="If the cross-attention alone is right: look at the encoder.")


def test_stacks(twins, randint):
    """the blocks follow each other, and every decoder block attends to what comes out of the last encoder block"""
    pair = twins("Transformer", *SMALL[:5], 3)

    for _ in range(2):
        src, tgt = ids(randint, 3, 4, 7), ids(randint, 3, 5, 6)
        assert_same(pair, src, tgt, "3 encoder blocks and 3 decoder blocks: the logits")


# --- masks ------------------------------------------------------------------------------------------------


@pytest.mark.points(2)
def test_teacher_forcing_sees_no_future(impl, twins, randn, randint):
    """a later target token changes no logits before it, and the logits of a prefix are those of the whole"""
    pair = twins("Transformer", *SMALL[:5], 2)
    mine, _ = pair

    for changed in 1, 3, 5:
        src, targets = ids(randint, 3, 4, 7), ids(randint, 3, 6, 6)
        other = targets.clone()
        other[:, changed] = (targets[:, changed] + 1) % 6
        before, after = (mine(src, impl.shift_right(t, 1)).detach() for t in (targets, other))

        place = changed + 1  # where it stands once it is shifted
        what = f"target {changed} was changed, which the decoder sees at place {place}"
        assert_close(after[:, :place], before[:, :place], f"{what}: the logits before that place")
        if place < 6:
            assert_differs(after[:, place:], before[:, place:], f"{what}: the logits from there on")
        tgt = ids(randint, 3, 6, 6)
        whole, prefix = mine(src, tgt).detach(), mine(src, tgt[:, :changed])
        assert_close(prefix, whole[:, :changed], f"the first {changed} of 6 target tokens alone: their logits")
    assert_answers(impl, randn)


@pytest.mark.points(2)
def test_decoder_does_not_see_padding(twins, randint):
    """padding of the source is hidden from the decoder (the encoder's sub-layers are silent)"""
    kept = "the cross-attention", "the decoder's self-attention"
    pairs = {pad_id: only(twins("Transformer", *SMALL, pad_id), *kept) for pad_id in (0, 4)}

    for pad_id, pair in pairs.items():
        for B, S, T, lengths in (3, 5, 4, (2, 5, 3)), (3, 5, 4, (4, 1, 5)), (4, 4, 4, (1, 2, 3, 4)), (2, 6, 1, (3, 5)):
            src = ids(randint, B, S, 4) + (pad_id == 0)
            what = (
                f"sources of {lengths} real tokens, padded to {S} with {pad_id}, T = {T}, a silent encoder: the logits"
            )
            assert_same(pair, pad(src, lengths, pad_id), ids(randint, B, T, 4), what)


@pytest.mark.points(2)
def test_encoder_does_not_see_padding(twins, randint):
    """padding of the source is hidden in the encoder as well"""
    for pad_id in 0, 4:
        pair = only(twins("Transformer", *SMALL, pad_id), "the cross-attention", "the encoder's attention")
        for B, S, T, lengths in (3, 5, 4, (2, 5, 3)), (3, 5, 4, (4, 1, 5)), (4, 4, 4, (1, 2, 3, 4)), (2, 6, 1, (3, 5)):
            src = ids(randint, B, S, 4) + (pad_id == 0)
            what = f"sources of {lengths} real tokens, padded to {S} with {pad_id}, T = {T}: the logits"
            assert_same(
                pair,
                pad(src, lengths, pad_id),
                ids(randint, B, T, 4),
                what,
                hint="If padding is hidden from the decoder: is it hidden in the encoder?",
            )


def test_padding_leaves_no_trace(twins, randn, randint):
    """a padded source gives the logits of the source alone; what padding is embedded as does not matter"""
    pair = twins("Transformer", *SMALL[:5], 2)
    mine, ref = pair
    src, tgt = ids(randint, 2, 3, 7), ids(randint, 2, 4, 6)

    alone = mine(src, tgt).detach()
    for padding in 1, 4:
        padded = torch.cat((src, torch.zeros(2, padding, dtype=torch.int64)), dim=1)
        assert_close(
            mine(padded, tgt), alone, f"a source of 3 tokens with {padding} of padding, and without: the logits"
        )
    among = ids(randint, 2, 5, 7)
    among[0, 1], among[1, 3], among[1, 0] = 0, 0, 0
    before = mine(among, tgt).detach()
    assert_same(pair, among, tgt, "padding among the real tokens: the logits")
    table = ref.src_embedding.weight.detach().float().clone()
    table[0] = 5.0 * randn(8)
    load(pair, {"src_embedding.weight": table})
    assert_close(mine(among, tgt), before, "another embedding of padding: the logits")
    table[1:] = randn(6, 8)
    load(pair, {"src_embedding.weight": table})
    assert_differs(mine(among, tgt), before, "other embeddings of real tokens: the logits")


def test_padding_gets_nothing_whatever_the_scores(twins, randint):
    """padding and the future get weights of exactly 0, also where the other scores are very low"""
    pair = twins("Transformer", *SMALL)
    low = {}
    for name, w in pair[1].state_dict().items():
        if name.split(".")[-2].endswith(("wq", "wk")):  # every query is 1, 1, 1, 1, and every key the same as well
            bias = torch.full_like(w, -1e5 if "wk" in name else 1.0)
            low[name] = bias if name.endswith("bias") else torch.zeros_like(w)
    load(pair, low)

    for lengths in (2, 3), (5, 1):
        src, tgt = pad(ids(randint, 2, 5, 7), lengths), ids(randint, 2, 4, 6)
        assert_same(pair, src, tgt, f"every score -200 000, sources of {lengths} real tokens: the logits")


@pytest.mark.points(2)
def test_a_source_of_padding_only(twins, randint):
    """a source of padding only: no NaN, attention adds the bias of wo alone, and the other items are as ever"""
    for pad_id in 0, 4:
        pair = twins("Transformer", *SMALL, pad_id)
        for B, S, T, lengths in (3, 4, 5, (0, 4, 2)), (3, 4, 5, (3, 0, 0)), (1, 2, 2, (0,)), (2, 1, 3, (0, 1)):
            src, tgt = pad(ids(randint, B, S, 4) + (pad_id == 0), lengths, pad_id), ids(randint, B, T, 6)
            what = f"sources of {lengths} real tokens, padded to {S} with {pad_id}: the logits"
            assert_same(pair, src, tgt, what, hint="What does your softmax make of a row with nothing allowed?")


def test_padding_of_the_target_counts(twins, randint):
    """in tgt the id pad_id is a token like any other, also where tgt_vocab has no such id"""
    pair = twins("Transformer", 7, 6, 8, 2, 12, 1, 2)

    for tgt in [[2, 2, 1, 3], [4, 2, 2, 2]], [[2, 0, 2, 5], [1, 3, 2, 2]], [[2], [2]], [[2], [1]]:
        src = ids(randint, 2, 4, 5) + 2
        src[src == 2] = 1
        assert_same(pair, src, torch.tensor(tgt), f"pad_id = 2, tgt = {tgt}: the logits")
    pair = twins("Transformer", 9, 3, 8, 2, 12, 1, 7)
    src = pad(ids(randint, 2, 4, 7), (2, 3), 7)
    assert_same(pair, src, randint(0, 3, (2, 5)), "src_vocab = 9, tgt_vocab = 3, pad_id = 7: the logits")


# --- the whole --------------------------------------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_the_reference(twins, randint, rng):
    """random sizes, sizes that coincide, size 1, padding, and ids that are strided"""
    for B, S, T, H, K, F, N in [
        (1, 1, 1, 1, 4, 1, 1),
        (2, 2, 2, 2, 2, 4, 2),
        (4, 3, 3, 4, 1, 3, 1),
        (3, 5, 1, 3, 2, 7, 1),
        (2, 1, 5, 1, 6, 5, 1),
        (rng.randint(1, 4), rng.randint(2, 6), rng.randint(2, 6), rng.choice((2, 3, 4)), 2, 9, 2),
    ]:
        pad_id = rng.randrange(5)
        pair = twins("Transformer", 5, 9, H * K, H, F, N, pad_id)
        src, tgt = randint(0, 5, (S, 2 * B)).T[::2], randint(0, 9, (B, 2 * T))[:, ::2]
        what = f"B = {B}, S = {S}, T = {T}, D = {H * K}, H = {H}, F = {F}, N = {N}, pad_id = {pad_id}: the logits"
        assert_same(pair, src, tgt, what)


def test_float64(twins, randn, randint):
    """a float64 model computes in float64 all the way (positions may be held in float32)"""
    pair = twins("Transformer", *SMALL)
    mine, ref = pair
    mine.double()
    finer = drowned_positions(ref)
    finer |= {
        name: (finer.get(name, w) + 1e-7 * randn(*w.shape, dtype=torch.float64)) for name, w in ref.state_dict().items()
    }
    load(pair, finer)  # weights that float32 cannot hold

    for lengths in (5, 5, 5), (2, 5, 0):
        src, tgt = pad(ids(randint, 3, 5, 7), lengths), ids(randint, 3, 4, 6)
        hint = "If the other checks pass: what is rounded to float32 on the way?"
        assert_same(pair, src, tgt, f"float64, sources of {lengths} tokens: the logits", dtype=torch.float64, hint=hint)


def test_bfloat16(twins, randint):
    """a bfloat16 model returns bfloat16, and tells token 256 from token 257"""
    pair = twins("Transformer", 7, 6, 8, 2, 12, 1)
    mine, ref = pair
    mine.bfloat16()
    ref.bfloat16().double()  # the same weights, rounded

    for lengths in (4, 4, 4), (2, 4, 0):
        src, tgt = pad(ids(randint, 3, 4, 7), lengths), ids(randint, 3, 5, 6)
        assert_same(pair, src, tgt, "bfloat16: the logits", dtype=torch.bfloat16, half=0.05)
    only(pair)
    src, tgt = ids(randint, 1, 2, 7), ids(randint, 1, 300, 6)
    what = "bfloat16, 300 target tokens, every sub-layer silent: the logits"
    assert_same(
        pair, src, tgt, what, dtype=torch.bfloat16, half=0.05, hint="bfloat16 has no 257. In which dtype are angles?"
    )


def assert_same_gradients(pair, src, tgt, randn, dtype, what, tolerance=None):
    """Compare the gradients of all parameters with the reference's."""
    mine, ref = pair
    logits, right = mine(src, tgt), ref(src, tgt)
    leaves, wide_leaves = dict(mine.named_parameters()), dict(ref.named_parameters())
    cotangent = randn(*right.shape, dtype=dtype)
    assert_gradients_match(logits, leaves, right, wide_leaves, cotangent, what, tolerance=tolerance)


@pytest.mark.points(2)
def test_gradients(twins, randn, randint):
    """the gradients of all parameters, in a second backward pass too"""
    for dtype in PRECISE:
        pair = twins("Transformer", *SMALL[:5], 2 if dtype == torch.float64 else 1)
        pair[0].to(dtype)
        load(pair, away_from_kinks(pair[1]) | (drowned_positions(pair[1]) if dtype == torch.float64 else {}))
        for T, what in (5, "the gradient"), (1, "one target token, in a second backward pass: the gradient"):
            src, tgt = ids(randint, 3, 4, 7), ids(randint, 3, T, 6, low=0)
            assert_same_gradients(pair, src, tgt, randn, dtype, what)


@pytest.mark.points(2)
def test_gradients_under_padding(twins, randn, randint):
    """the gradients under padding, also with a source of padding only: no NaN"""
    for dtype in PRECISE:
        pair = twins("Transformer", *SMALL)
        pair[0].to(dtype)
        load(pair, away_from_kinks(pair[1]) | (drowned_positions(pair[1]) if dtype == torch.float64 else {}))
        for lengths in (2, 0, 3), (0, 0, 0):
            src, tgt = pad(ids(randint, 3, 4, 7), lengths), ids(randint, 3, 5, 6, low=0)
            assert_same_gradients(pair, src, tgt, randn, dtype, f"sources of {lengths} real tokens: the gradient")


@pytest.mark.points(2)
def test_training_with_teacher_forcing(impl, reference, twins, randint):
    """three steps of gradient descent: shift the targets, take the loss, follow its gradient"""
    pair = twins("Transformer", *SMALL)
    load(pair, away_from_kinks(pair[1]))
    src = pad(ids(randint, 4, 5, 7), (5, 2, 4, 1))
    targets = pad(ids(randint, 4, 6, 6), (3, 6, 1, 4))
    losses = [[], []]

    for model, task, seen in zip(pair, (impl, reference), losses, strict=True):
        model.train()
        for _ in range(4):
            loss = task.sequence_loss(model(src, task.shift_right(targets, 1)), targets, 0)
            seen.append(assert_tensor(loss, "the loss").detach())
            model.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.sub_(0.05 * parameter.grad)
    for step, (mine, right) in enumerate(zip(*losses, strict=True)):
        what = f"the loss after {step} steps, in training mode with dropout = 0"
        assert_close(mine, right, what, dtype=torch.float32, tolerance=1e-4)


# --- dropout ----------------------------------------------------------------------------------------------
#
# A model of two blocks a stack. The norm before one sub-layer has the weight 0 and its bias is PATTERN, so that
# exactly PATTERN enters the sub-layer, whatever dropout did before. The sub-layer adds 1 to every feature of
# CONTENT: head 0 (or hidden feature 0) to those of the first group, head 1 (or hidden feature 1) to the second. So
# where a whole group is missing, attention weights or a hidden feature were dropped; where single features are, the
# sub-layer's output was. The norms that follow only shift and scale a token, which its known features undo.

WIDTH = 20
KNOWN = math.sqrt(WIDTH / 4)  # so that PATTERN has variance 1 and stays as it is in a norm
PATTERN = torch.zeros(WIDTH).index_copy(0, torch.arange(4), torch.tensor([KNOWN, -KNOWN, KNOWN, -KNOWN]))
CONTENT = slice(4, WIDTH)
LOOKS = 24  # target tokens that look at the same memory: it is hidden from all of them in one of 10^10 cases
GROUP = torch.tensor([0] * 6 + [1] * 10)  # of each feature of CONTENT: its head


BEFORE = {  # the block that a sub-layer is in here, and the norm before it
    ("encoder", "wo"): (1, "0.norm2"),
    ("encoder", "w2"): (0, "0.norm1"),
    ("decoder", "self_wo"): (1, "0.norm3"),
    ("decoder", "cross_wo"): (0, "0.norm1"),
    ("decoder", "w2"): (0, "0.norm2"),
}


def noisy_weights(stack, sublayer):
    """Return the weights of such a model, in which one sub-layer adds 1 to ``CONTENT``."""
    weights = quiet_weights(3, WIDTH, WIDTH, 2, 2) | {"output.weight": torch.eye(WIDTH)}
    i, norm = BEFORE[stack, sublayer]
    for place in (f"{stack}.{norm}", "decoder.0.norm3") if stack == "encoder" else (f"{stack}.{norm}",):
        weights |= {f"{place}.weight": torch.zeros(WIDTH), f"{place}.bias": PATTERN.clone()}
    if stack == "encoder":  # the cross-attention shows the memory, but does not touch features 0 and 1
        weights["decoder.1.cross_wv.weight"] = torch.eye(WIDTH)
        weights["decoder.1.cross_wo.weight"] = torch.diag((torch.arange(WIDTH) > 1).float())
    if sublayer == "w2":
        weights[f"{stack}.{i}.w1.bias"] = torch.ones(2)
        weights[f"{stack}.{i}.w2.weight"][CONTENT] = torch.nn.functional.one_hot(GROUP, 2).float()
    else:
        weights[f"{stack}.{i}.{sublayer.replace('wo', 'wv')}.bias"] = torch.ones(WIDTH)
        weights[f"{stack}.{i}.{sublayer}.weight"] = torch.diag((torch.arange(WIDTH) > 3).float())
    return weights


def undo_norms(x, high):
    """Undo what norms did to ``x``, whose features ``high`` and ``high + 1`` were KNOWN and -KNOWN."""
    top, bottom = x[..., high : high + 1], x[..., high + 1 : high + 2]
    return KNOWN + (x - top) * 2 * KNOWN / (top - bottom)


def added(module, stack, B, every=False):
    """Return what the sub-layer has added to ``CONTENT``, once the norms are undone, (B, 16).

    With ``every`` both target tokens of an item follow each other, (2 * B, 16); else it is the last one alone, which
    sees two tokens in every attention.
    """
    S, T = (1, LOOKS) if stack == "encoder" else (2, 2)
    logits = module(torch.ones(B, S, dtype=torch.int64), torch.ones(B, T, dtype=torch.int64))
    assert_shape(logits, (B, T, WIDTH), "the logits")
    x = undo_norms(logits.detach().double(), 0)
    if stack == "encoder":  # of all looks at the memory take the one in which nothing was dropped on the way
        x = x - PATTERN
        x = undo_norms(x.gather(1, x.abs().argmax(dim=1, keepdim=True)), 2)
    return x[:, :, CONTENT].flatten(0, 1) if every else x[:, -1, CONTENT]


def assert_rate(events, p, what):
    """Check that events come with probability ``p``, and independently along the first two dimensions."""
    rate = float(events.double().mean())
    if not abs(rate - p) <= 6 * math.sqrt(p * (1 - p) / events.numel()):  # six standard deviations
        raise CheckFailure(f"{what}: {rate:.3f} are dropped, but {p:.3f} were expected.")
    for dim, name in enumerate(("batch items", "neighbours")):
        n = events.shape[dim] - 1
        both = events.narrow(dim, 0, n) & events.narrow(dim, 1, n)
        rate = float(both.double().mean())
        if abs(rate - p * p) > 8 * p / math.sqrt(both.numel()):  # seven standard deviations or more
            raise CheckFailure(
                f"{what}: {name} are dropped together in {rate:.3f} of all cases, but chance alone makes it "
                f"{p * p:.3f}. Is every number drawn on its own?"
            )


def assert_dropout(impl, stack, kinds, p, B):
    """Check dropout inside and behind each kind of sub-layer of a stack: ``{"wo": (name, what is dropped in it)}``."""
    for sublayer, (name, inner) in kinds.items():
        module = impl.Transformer(3, WIDTH, WIDTH, 2, 2, 2, 0, p)
        module.load_state_dict(noisy_weights(stack, sublayer))
        module.eval()
        every = stack == "decoder" and sublayer == "w2"  # so that tokens which are dropped together show
        still = added(module, stack, 2, every)
        assert_close(still, torch.ones_like(still), f"{name} in eval mode: what it adds", tolerance=1e-3)

        module.train()
        came, once, again = (added(module, stack, size, every) for size in (B, 8, 8))

        if not bool(came.isfinite().all()):
            raise CheckFailure(f"{name}, training mode: features that it does not touch are dropped. Is x dropped too?")
        zero = came.abs() < 1e-3
        silent = torch.stack([zero[:, group].all(dim=1) for group in (GROUP.eq(0), GROUP.eq(1))], dim=1)  # (B, 2)
        kept, n = came[~zero], 2 if "_" in sublayer else 1  # two weights of 1/2, or one weight or feature of 1
        hint = "A number is divided by 1 - dropout for each dropout that it comes through: one inside, one behind."
        what = f"dropout = {p}, {name}"
        right = (kept * n * (1 - p) ** 2).round().clamp(1, n) / n / (1 - p) ** 2
        assert_close(kept, right, f"{what}: what is left of 1", tolerance=1e-2, hint=hint)
        assert_rate(silent, p**n, f"{what}: {inner if n == 1 else f'all {n} of {inner}'}")
        single = zero[~silent.any(dim=1)]  # items with both groups
        assert_rate(single, p, f"{what}: its output features")
        assert_differs(once, again, f"{name}: two calls in training mode")


def test_dropout_in_the_decoder(impl):
    """in training: dropout on attention weights, after the ReLU and on sub-layers' outputs in the decoder"""
    kinds = {
        "self_wo": ("the decoder's self-attention", "its attention weights"),
        "cross_wo": ("the cross-attention", "its attention weights"),
        "w2": ("the decoder's feed-forward", "its hidden features"),
    }
    assert_dropout(impl, "decoder", kinds, 0.3, 300)


def test_dropout_in_the_encoder(impl):
    """in training: dropout on attention weights, after the ReLU and on sub-layers' outputs in the encoder"""
    kinds = {
        "wo": ("the encoder's attention", "its attention weights"),
        "w2": ("the encoder's feed-forward", "its hidden features"),
    }
    assert_dropout(impl, "encoder", kinds, 0.2, 120)


def test_dropout_rests_in_eval(impl, twins, randn, randint):
    """dropout does nothing in eval mode or with probability 0, and draws afresh in training"""
    pair = twins("Transformer", *SMALL, dropout=0.5)
    mine, _ = pair
    never = twins("Transformer", *SMALL)
    src, tgt = pad(ids(randint, 2, 4, 7), (2, 4)), ids(randint, 2, 5, 6)

    first, second = (mine(src, tgt).detach() for _ in range(2))
    assert_close(second, first, "two calls in eval mode with dropout = 0.5")
    mine.train()
    first, second = (mine(src, tgt).detach() for _ in range(2))
    assert_differs(first, second, "two calls in training mode with dropout = 0.5")
    mine.eval()
    assert_same(pair, src, tgt, "dropout = 0.5, eval mode after training mode: the logits")
    never[0].train()
    assert_same(never, src, tgt, "no dropout, training mode: the logits")
    assert_answers(impl, randn)


# --- good manners -----------------------------------------------------------------------------------------


def test_long_sequences(impl, twins, randn, randint):
    """thousands of target tokens, then hundreds of source tokens: the positions have no last row"""
    module, table, tgt = impl.Transformer(7, 4, 4, 1, 1, 1), randn(4, 4), randint(0, 4, (1, 2100))
    quiet = quiet_weights(7, 4, 4, 1, 1) | {"output.weight": torch.eye(4), "tgt_embedding.weight": table}
    module.load_state_dict(quiet)
    pair = only(twins("Transformer", 7, 6, 4, 1, 1, 1), "the cross-attention")

    with torch.no_grad():
        by_hand = normed(normed(normed(2.0 * table[tgt] + positions_on_paper(2100))))
        what = "2100 target tokens, every sub-layer silent, output the identity: the logits"
        assert_close(module(ids(randint, 1, 1, 7), tgt), by_hand, what, dtype=torch.float32, tolerance=2e-2)
        what = "600 source tokens, only the cross-attention: the logits"
        assert_same(pair, ids(randint, 1, 600, 7), ids(randint, 1, 2, 6), what, tolerance=5e-3)


def test_repeated_calls(impl, twins, randn, randint):
    """one model, call after call with other sizes, dtypes and weights"""
    pair = twins("Transformer", *SMALL)
    mine, ref = pair

    for dtype in torch.float32, torch.float64, torch.float32:
        mine.to(dtype)
        for B, S, T in (2, 3, 4), (1, 6, 2), (3, 2, 7), (2, 2, 2):
            src, tgt = randint(0, 7, (B, S)), randint(0, 6, (B, T))
            what = f"B = {B}, S = {S}, T = {T}, after other calls: the logits"
            assert_same(pair, src, tgt, what, dtype=dtype, tolerance=5e-5)
        with torch.no_grad():
            assert_same(pair, src, tgt, f"{what}, under no_grad", dtype=dtype, tolerance=5e-5)
    load(pair, {name: w.flip(0) for name, w in ref.state_dict().items()})
    assert_answers(impl, randn)
    with torch.no_grad():
        for model in pair:
            for parameter in model.parameters():
                parameter.mul_(0.9)
    assert_same(pair, ids(randint, 2, 3, 7), ids(randint, 2, 4, 6), "weights changed in place: the logits")


def test_batch_items_do_not_meet(impl, twins, randn, randint):
    """an item of a batch gets the same logits alone"""
    pair = twins("Transformer", *SMALL)
    mine, _ = pair
    src, tgt = pad(ids(randint, 3, 4, 7), (4, 2, 3)), ids(randint, 3, 5, 6)

    together = mine(src, tgt).detach()

    for i in range(3):
        alone = mine(src[i : i + 1], tgt[i : i + 1])
        assert_close(alone, together[i : i + 1], f"item {i} alone and in a batch of 3: the logits")
    assert_answers(impl, randn)


def test_leaves_the_inputs_alone(impl, twins, randn, randint):
    """src, tgt and the parameters are the same after the call"""
    pair = twins("Transformer", *SMALL)
    src, tgt = pad(ids(randint, 3, 4, 7), (4, 2, 0)), ids(randint, 3, 5, 6)
    before = src.clone(), tgt.clone()

    pair[0](src, tgt)

    assert_close(src, before[0], "src after the call and before it")
    assert_close(tgt, before[1], "tgt after the call and before it")
    for name, weight in pair[0].state_dict().items():
        assert_close(weight, pair[1].state_dict()[name].float(), f"{name} after the call and before it", tolerance=0.0)
    assert_answers(impl, randn)


def test_errors(impl, randn):
    """sizes below 1, an odd d_model and a head count that does not divide it raise ValueError"""
    good = (3, 2, 6, 3, 2, 1)
    names = "src_vocab", "tgt_vocab", "d_model", "n_heads", "d_ff", "n_layers"
    for place, values in enumerate([(0, -2), (0,), (0, -6, 5, 4), (0, -3, 4, 12), (0,), (0, -1)]):
        for value in values:
            sizes = (*good[:place], value, *good[place + 1 :])
            what = ", ".join(f"{name} = {size}" for name, size in zip(names, sizes, strict=True))
            assert_rejects(lambda sizes=sizes: impl.Transformer(*sizes), what, good=lambda: impl.Transformer(*good))
    right = functools.partial(assert_answers, impl, randn)
    assert_rejects(lambda: impl.Transformer(7, 6, 9, 3, 5, 1), "d_model = 9, n_heads = 3", good=right)


def test_no_loop_over_tokens_or_batch(impl, twins, randn, randint):
    """the number of tensor operations does not grow with the tokens or the batch"""
    pair = twins("Transformer", 7, 6, 4, 2, 4, 1)
    mine, _ = pair
    src, tgt = randint(0, 7, (40, 40)), randint(0, 6, (40, 40))

    assert_no_loop(impl, lambda n: mine(src[:1, :n], tgt[:1, :4]), "source tokens")
    assert_no_loop(impl, lambda n: mine(src[:1, :4], tgt[:1, :n]), "target tokens")
    assert_no_loop(impl, lambda n: mine(src[:n, :2], tgt[:n, :3]), "batch items")
    assert_answers(impl, randn)


def test_follows_the_device(impl, randn, randint):
    """computes on the device that the model and the ids are on"""
    module = impl.Transformer(7, 6, 4, 2, 4, 1, dropout=0.1).to("meta")

    for B, S, T in (2, 3, 4), (1, 6, 2):
        src, tgt = randint(0, 7, (B, S)).to("meta"), randint(0, 6, (B, T)).to("meta")
        assert_follows_device(impl, lambda src=src, tgt=tgt: module(src, tgt), "the logits")
    assert_answers(impl, randn)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for name, tensor in quiet_weights(6, 5, 4, 6, 2).items():
        drawn = torch.randn(tensor.shape, generator=generator) * (0.6 if tensor.dim() > 1 else 0.4)
        weights[name] = drawn + 1.0 if "norm" in name and name.endswith("weight") else drawn
    src = torch.tensor([[1, 5, 2, 3], [4, 2, 2, 1]])
    tgt = torch.tensor([[1, 3, 2], [4, 0, 1]])

    made = {}

    def answer(src, tgt, silent="", *settings):
        if settings not in made:
            made[settings] = impl.Transformer(6, 5, 4, 2, 6, 2, *settings)
            made[settings].eval()
        module = made[settings]
        changes = {name: 0.0 * w for name, w in weights.items() if name.split(".")[-2] in silent.split()}
        module.load_state_dict(weights | changes, strict=False)
        return module(src, tgt).detach()

    def drops(stack, sublayer):
        """Say whether groups are dropped, and single features, and by how much the others have grown at most."""
        module = impl.Transformer(3, WIDTH, WIDTH, 2, 2, 2, dropout=0.5)
        module.load_state_dict(noisy_weights(stack, sublayer), strict=False)
        module.train()
        came = added(module, stack, 100)
        if not bool(came.isfinite().all()):
            return "x is dropped"
        zero = came.abs() < 1e-3
        silent = zero[:, GROUP.eq(0)].all(dim=1)
        single = zero[~silent][:, GROUP.eq(0)]
        return bool(silent.double().mean() > 0.1), bool(single.double().mean() > 0.2), round(float(came.max()), 2)

    logits = torch.tensor([[[0.0, 1.0, 2.0], [3.0, 0.5, 1.0]], [[-1.0, 2.0, 2.5], [1.0, 0.0, 4.0]]])
    seen = {
        "shift": observe(lambda: impl.shift_right(torch.tensor([[5, 6, 7], [8, 9, 0]]), 1)),
        "loss": observe(lambda: impl.sequence_loss(logits, torch.tensor([[1, 2], [2, 1]]), 0)),
        "padded loss": observe(lambda: impl.sequence_loss(logits, torch.tensor([[1, 2], [2, 0]]), 0)),
        "loss padded with 2": observe(lambda: impl.sequence_loss(logits, torch.tensor([[1, 2], [0, 1]]), 2)),
        "large loss": observe(lambda: impl.sequence_loss(1000 * logits, torch.tensor([[1, 2], [2, 0]]), 0)),
        "names": observe(lambda: sorted(name for name, _ in impl.Transformer(6, 5, 4, 2, 6, 2).named_parameters())),
        "silent": observe(lambda: answer(src, tgt, "wo w2 self_wo cross_wo")),
        "decoder alone": observe(lambda: answer(src, tgt, "wo w2 cross_wo")),
        "cross alone": observe(lambda: answer(src, tgt, "wo w2 self_wo")),
        "whole": observe(lambda: answer(src, tgt)),
        "square": observe(lambda: answer(src[:, :3], tgt)),
        "padded": observe(lambda: answer(torch.tensor([[1, 5, 0, 0], [4, 0, 2, 1]]), tgt)),
        "padding only": observe(lambda: answer(torch.zeros_like(src), tgt)),
        "pad_id 3": observe(lambda: answer(src, tgt, "", 3)),
        "long": observe(lambda: tuple(answer(src[:1], torch.ones(1, 520, dtype=torch.int64), "self_wo").shape)),
        "dropout in eval": observe(lambda: torch.equal(answer(src, tgt), answer(src, tgt, "", 0, 0.5))),
    }
    for stack, sublayer in ("decoder", "self_wo"), ("decoder", "cross_wo"), ("decoder", "w2"):
        seen[f"dropout, {sublayer}"] = observe(lambda where=(stack, sublayer): drops(*where))
    return seen


def picture(impl):
    """Draw the three masks: which tokens have a part in which result, found by changing one token's embedding."""
    places = torch.arange(6)
    src, tgt = (places + 1)[None], places[None]
    padded = src.masked_fill(places >= 4, 0)
    weights = quiet_weights(7, 6, 6, 2, 1) | {"output.weight": torch.eye(6)}
    weights["src_embedding.weight"] = torch.cat((torch.ones(1, 6), 10.0 * torch.eye(6)))
    weights["tgt_embedding.weight"] = 10.0 * torch.eye(6)
    eye = torch.eye(6)
    cross = {"decoder.0.cross_wv.weight": eye, "decoder.0.cross_wo.weight": eye}
    one = {
        "decoder.0.cross_wq.weight": 30.0 * eye,
        "decoder.0.cross_wk.weight": eye,
    }  # target i looks at source i alone
    own = {"decoder.0.self_wv.weight": eye, "decoder.0.self_wo.weight": eye}
    encoder = {"encoder.0.wv.weight": 0.5 * eye, "encoder.0.wo.weight": eye}

    hidden, source, target = "4 source tokens and 2 of padding", "source token", "target token"
    panels = []
    for title, side, changes, rows, sees, seen in (
        (f"encoder: {hidden}", "src", encoder | cross | one, 4, source, source),
        ("decoder, self-attention: causal", "tgt", own, 6, target, target),
        (f"decoder, cross-attention: {hidden}", "src", cross, 6, target, source),
    ):
        module = impl.Transformer(7, 6, 6, 1, 2, 1)
        module.load_state_dict(weights | changes)
        module.eval()
        before, moved = module(padded, tgt).detach(), []
        for token in (padded if side == "src" else tgt)[0].tolist():
            table = weights[f"{side}_embedding.weight"].clone()
            table[token] += torch.linspace(0.0, 1.0, 6)
            module.load_state_dict(weights | changes | {f"{side}_embedding.weight": table})
            moved.append((module(padded, tgt).detach() - before)[0, :rows].norm(dim=-1))
        part = torch.stack(moved, dim=1)  # (rows, tokens)
        panels.append(
            Panel(title, (part > 1e-4 * part.max()).float(), x_label=f"{seen} (seen)", y_label=f"{sees} (sees)")
        )
    return panels
