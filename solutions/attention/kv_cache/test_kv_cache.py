"""Hidden suite of kv_cache: the cache itself, attention over it by hand, and a text read at once or piece by piece.

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
    assert_no_loop,
    assert_rejects,
    assert_shape,
    observe,
)

PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "addbmm", "matmul", "linear"}


def turns(first, count, head_dim):
    """Return freqs_cis of the positions ``first`` and following, complex64 (count, K/2)."""
    speeds = 100.0 ** (-torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)
    angles = torch.arange(first, first + count)[:, None] * speeds
    return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def no_turns(count, head_dim):
    """Return freqs_cis that leave everything as it is."""
    return torch.ones(count, head_dim // 2, dtype=torch.complex64)


def plain_weights(dim, n_heads, n_kv_heads, **changes):
    """Return weights under which queries and output are as they come, and keys and values the first features."""
    eye, first = torch.eye(dim), torch.eye(dim)[: dim // n_heads * n_kv_heads]
    weights = {"wq.weight": eye, "wk.weight": first, "wv.weight": first, "wo.weight": eye}
    return weights | {f"{name}.weight": value for name, value in changes.items()}


def plain(impl, dim, n_heads, n_kv_heads, max_batch, max_len, **changes):
    """Make the learner's module with ``plain_weights``."""
    module = impl.CachedAttention(dim, n_heads, n_kv_heads, max_batch, max_len)
    module.load_state_dict(plain_weights(dim, n_heads, n_kv_heads, **changes))
    return module


def attend(module, x, start_pos, freqs_cis, mask=None):
    """Call a module without gradients."""
    with torch.no_grad():
        if mask is None:
            return module(x, start_pos, freqs_cis)
        return module(x, start_pos, freqs_cis, mask=mask)


def read(module, x, head_dim, pieces, start_pos=0):
    """Let the module read ``x`` in pieces of the given lengths, and join the outputs."""
    outputs = []
    for count in pieces:
        piece = x[:, start_pos : start_pos + count]
        outputs.append(attend(module, piece, start_pos, turns(start_pos, count, head_dim)))
        assert_shape(outputs[-1], piece.shape, f"{count} tokens at start_pos {start_pos}: the output", dtype=x.dtype)
        start_pos += count
    return torch.cat(outputs, dim=1)


def assert_same(mine, ref, x, start_pos, what, mask=None, *, dtype=torch.float32, hint=""):
    """Compare the output with the reference's in float64 after the same calls."""
    x, head_dim = x.to(dtype), ref.wq.weight.shape[0] // ref.n_heads
    freqs_cis = turns(start_pos, x.shape[1], head_dim)
    out = attend(mine, x, start_pos, freqs_cis, mask)
    assert_close(out, attend(ref, x.double(), start_pos, freqs_cis, mask), what, dtype=dtype, hint=hint)


def assert_answers(mine, ref, randn):
    """Check that the module answers at all: a first token gets its own value, whatever the rest does."""
    for _ in range(2):
        assert_same(mine, ref, randn(1, 1, ref.wo.out_features), 0, "a single token at start_pos 0")


# --- shapes, names and the cache ---------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the output has the shape of the new tokens, at the start and later"""
    module = impl.CachedAttention(12, 3, 1, 3, 9)
    with torch.no_grad():  # the names come later, and zeros would be fine to start with
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    earlier = torch.zeros(0)

    for B, T, start_pos in (2, 4, 0), (2, 4, 0), (2, 1, 4), (2, 3, 5), (3, 9, 0):
        x = randn(B, T, 12)
        out = attend(module, x, start_pos, turns(start_pos, T, 4))

        what = f"B = {B}, T = {T}, D = 12, start_pos {start_pos}: the output"
        assert_shape(out, (B, T, 12), what, dtype=torch.float32)
        assert_differs(out, x, f"{what}, which is x again")
        assert_differs(out, earlier, f"{what} of a call with other inputs")
        earlier = out


@pytest.mark.visible
def test_parameter_names(impl, randn):
    """the weights of wq, wk, wv and wo, and nothing else, are saved and loaded: no biases, no caches"""
    module = plain(impl, 8, 4, 2, 1, 3)
    asked = {name: tuple(weight.shape) for name, weight in plain_weights(8, 4, 2).items()}

    places = {"named_parameters()": module.named_parameters(), "state_dict()": module.state_dict().items()}
    for place, found in places.items():
        came = {name: tuple(tensor.shape) for name, tensor in found}
        for name in sorted(came.keys() | asked.keys()):
            if came.get(name) != asked.get(name):
                wrong, right = came.get(name, "missing"), asked.get(name, "absent")
                text = f"{place} for dim 8, 4 heads and 2 key/value heads"
                raise CheckFailure(f"{text}: {name} is {wrong}, but should be {right}.")
    for _ in range(2):
        x = randn(1, 1, 8)
        by_hand = x[..., [0, 1, 0, 1, 2, 3, 2, 3]]  # each of two values serves two heads
        out = attend(module, x, 0, turns(0, 1, 2))
        assert_close(out, by_hand, "a single token, loaded weights that pick its first four features: the output")
    attend(module, randn(1, 2, 8), 1, turns(1, 2, 2), torch.ones(2, 3, dtype=torch.bool))
    extra = sorted(set(module.state_dict()) - set(asked))
    if extra:
        raise CheckFailure(f"After three calls state_dict() also holds {', '.join(extra)}, which would be saved.")


@pytest.mark.visible
def test_caches_are_buffers(impl, randn):
    """cache_k and cache_v are buffers of zeros, not saved, and still right after load_state_dict"""
    module = plain(impl, 8, 4, 2, 3, 5)
    for name in "cache_k", "cache_v":
        buffers = dict(module.named_buffers())
        if name not in buffers:
            there = ", ".join(buffers) or "none"
            raise CheckFailure(f"`{name}` should be a buffer of the module. Its buffers: {there}.")
        if name in module.state_dict():
            raise CheckFailure(
                f"`{name}` is in state_dict(), so it would be saved. Which argument of a buffer says no?"
            )
        zeros = torch.zeros(3, 5, 2, 2)
        assert_close(buffers[name], zeros, f"3 sequences of 5 tokens, 2 heads, K = 2: {name} at first")
    for _ in range(2):
        x = randn(1, 1, 8)
        out = attend(module, x, 0, turns(0, 1, 2))
        assert_close(out, x[..., [0, 1, 0, 1, 2, 3, 2, 3]], "a single token, which gets its own value: the output")


@pytest.mark.visible
@pytest.mark.points(2)
def test_cache_by_hand(impl):
    """the cache holds turned keys and plain values, at their positions: worked out on paper"""
    turn = torch.tensor([[1, 1], [1j, -1], [-1, -1j]])  # pair 0 by 0, 90 and 180 degrees, pair 1 by 0, 180 and -90
    for size in 1.0, 2.0:
        module = plain(impl, 4, 1, 1, 1, 4, wo=3.0 * torch.eye(4))
        x = size * torch.tensor([[[1.0, 0.0, 2.0, 5.0], [3.0, 1.0, 0.0, 4.0], [0.0, 2.0, 1.0, 1.0]]])
        first = attend(module, x[:, :2], 0, turn[:2])
        attend(module, x[:, 2:], 2, turn[2:])

        what = "three tokens of four features, pairs turned by multiples of 90 degrees"
        keys = [[1.0, 0.0, 2.0, 5.0], [-1.0, 3.0, 0.0, -4.0], [0.0, -2.0, 1.0, -1.0], [0.0] * 4]
        hint = "Keys are turned before they are stored. A pair (a, b) becomes (-b, a) at 90 degrees."
        assert_close(module.cache_k, size * torch.tensor(keys).view(1, 4, 1, 4), f"{what}: cache_k", hint=hint)
        values = torch.cat((x, torch.zeros(1, 1, 4)), dim=1).view(1, 4, 1, 4)
        assert_close(module.cache_v, values, f"{what}: cache_v", hint="Values are not turned.")
        assert_close(first[:, 0], 3.0 * x[:, 0], f"{what}: the output of token 0, three times its own value")


def test_the_rest_of_the_cache_stays(impl, twins, randn):
    """a call writes its own rows and positions, and leaves the rest of the cache alone"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 3, 6)
    read(mine, randn(3, 6, 12), 4, [6])
    before = {name: cache.clone() for name, cache in mine.named_buffers()}

    for B, start_pos, T in (2, 2, 1), (1, 4, 2), (2, 0, 2):
        attend(mine, randn(B, T, 12), start_pos, turns(start_pos, T, 4))
        for name, cache in mine.named_buffers():
            if name not in ("cache_k", "cache_v"):
                continue
            written = torch.zeros(cache.shape, dtype=torch.bool)
            written[:B, start_pos : start_pos + T] = True
            what = f"a call with {B} of 3 sequences and {T} tokens at start_pos {start_pos}: {name}"
            assert_close(cache[~written], before[name][~written], f"{what} where nothing is written")
            assert_differs(cache[written], before[name][written], f"{what} where the new tokens belong")
            before[name] = cache.clone()
    assert_answers(mine, ref, randn)


def test_modules_have_their_own_caches(impl, twins, randn):
    """two modules do not share a cache"""
    one, ref = twins("CachedAttention", 12, 3, 1, max_batch=2, max_len=6)
    other, _ = twins("CachedAttention", dim=12, n_heads=3, n_kv_heads=1, max_batch=2, max_len=6)
    x, y = randn(2, 3, 12), randn(2, 3, 12)

    attend(one, x[:, :2], 0, turns(0, 2, 4))
    attend(other, y[:, :2], 0, turns(0, 2, 4))

    attend(ref, x[:, :2].double(), 0, turns(0, 2, 4))
    assert_same(one, ref, x[:, 2:], 2, "a step, after another module of the same sizes was used: the output")


# --- attention, worked out by hand -------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_averages_by_hand(impl):
    """with queries of 0 every token gets the plain average of the values up to itself: at once, in chunks, in steps"""
    for shift in 0.0, 3.0:
        v = torch.tensor([2.0, 4.0, 9.0, 1.0, 4.0]) + shift
        x = torch.stack((v, -v), dim=-1)[None]
        means = torch.tensor([2.0, 3.0, 5.0, 4.0, 4.0]) + shift
        by_hand = torch.stack((means, -means), dim=-1)[None]
        for pieces in [5], [1, 1, 1, 1, 1], [3, 2], [2, 3], [1, 4]:
            module = plain(impl, 2, 1, 1, 1, 7, wq=torch.zeros(2, 2))
            outputs, start_pos = [], 0
            for count in pieces:
                end = start_pos + count
                outputs.append(attend(module, x[:, start_pos:end], start_pos, turns(start_pos, count, 2)))
                what = f"values {v[:end].int().tolist()} in pieces of {pieces}, queries of 0: the output"
                hint = "How many keys does each query of this piece see?"
                assert_close(outputs[-1], by_hand[:, start_pos:end], f"{what} at start_pos {start_pos}", hint=hint)
                start_pos = end


@pytest.mark.visible
def test_scores_are_divided_by_the_root_of_the_head_width(impl):
    """the scores of a head with K features are divided by sqrt(K)"""
    for dim, n_heads, root in (8, 2, 2.0), (32, 2, 4.0), (4, 1, 2.0):  # K = 4, 16, 4
        K = dim // n_heads
        picked = torch.zeros(dim, dim)
        picked[::K, 0] = 1.0  # the first feature of every head is the first of the token
        module = plain(impl, dim, n_heads, n_heads, 1, 2, wq=picked, wk=picked)
        for odds in 3.0, 4.0:
            x = torch.zeros(1, 2, dim)
            x[0, 1, 0] = (root * math.log(odds)) ** 0.5
            x[0, :, 1] = torch.tensor([0.0, 1.0])
            out = attend(module, x, 0, no_turns(2, K))

            product = f"{root * math.log(odds):.4f}"
            what = f"D = {dim}, H = {n_heads}, dot products 0 and {product}: the weight of the second token"
            by_hand = torch.tensor(odds / (odds + 1))
            assert_close(out[0, 1, 1], by_hand, what, hint="How many features does a head compare?")


@pytest.mark.visible
@pytest.mark.points(2)
def test_groups_of_heads(impl):
    """query head h uses key/value head h // (H // G)"""
    for H, G in (4, 2), (6, 3), (6, 2), (3, 1), (3, 3):
        for sign in 1.0, -1.0:
            wv = torch.zeros(2 * G, 2 * H)
            wv[:, 0] = sign * torch.arange(1.0, 2 * G + 1)  # the value of head g is (2g + 1, 2g + 2)
            module = plain(impl, 2 * H, H, G, 2, 4, wv=wv)
            x = torch.ones(2, 3, 2 * H)
            by_hand = [sign * (2 * (h // (H // G)) + i) for h in range(H) for i in (1, 2)]

            for pieces in [3], [2, 1]:
                what = f"H = {H}, G = {G}, values of key/value head g are {sign:g} * (2g + 1, 2g + 2), pieces {pieces}"
                out = read(module, x, 2, pieces)
                assert_close(out, torch.tensor(by_hand).expand(2, 3, 2 * H), f"{what}: the output")


@pytest.mark.visible
def test_huge_scores(impl, randn):
    """scores of 10 000 and -10 000 give right results, and later tokens stay hidden"""
    pick = torch.tensor([[1.0, 0.0], [0.0, 0.0]])  # a score is the product of two first features, over sqrt(2)
    for sign, best in (-1.0, [0, 0, 0, 0]), (1.0, [0, 1, 1, 3]):
        for pieces in [4], [2, 2], [1, 1, 1, 1]:
            module = plain(impl, 2, 1, 1, 1, 5, wq=pick, wk=sign * pick)
            x = torch.stack((torch.tensor([120.0, 130.0, 125.0, 140.0]), randn(4)), dim=-1)[None]
            outputs, start_pos = [], 0
            for count in pieces:
                piece = x[:, start_pos : start_pos + count]
                outputs.append(attend(module, piece, start_pos, no_turns(count, 2)))
                start_pos += count

            seen = f"scores of {sign:g} times 10 000 to 14 000, pieces of {pieces}"
            what = f"{seen}, the highest of each token at positions {best}: the output"
            assert_close(torch.cat(outputs, dim=1), x[:, best], what, hint="Which score has a weight of exactly 0?")
    module = plain(impl, 2, 1, 1, 1, 4, wq=pick, wk=-pick).bfloat16()
    x = torch.tensor([[[120.0, 1.0], [120.0, 2.0], [0.0, 4.0]]]).bfloat16()
    out = attend(module, x, 0, no_turns(3, 2), torch.tensor([[True, False, False]]))
    what = "bfloat16, tokens 0 and 1 with scores of -10 000, 10 000 and 0 ... the first position alone is allowed"
    assert_close(out[:, :2], x[:, [0, 0]], what, hint="What is lower than any score in bfloat16?")


# --- reading piece by piece --------------------------------------------------------------------------------


@pytest.mark.points(2)
def test_steps_equal_one_pass(twins, randn):
    """a prompt and then one token after the other: the same as the whole text at once"""
    for pieces in [3, 1, 1, 1, 1], [1] * 7:
        mine, ref = twins("CachedAttention", 12, 3, 1, 2, 9)
        x = randn(2, 7, 12)
        whole = read(mine, x, 4, [7])
        steps = read(mine, x, 4, pieces)

        hint = "Which keys does a step see, and where is each token turned to?"
        assert_close(steps, whole, f"7 tokens in pieces of {pieces} and at once: the output", hint=hint)
        assert_answers(mine, ref, randn)


@pytest.mark.points(2)
def test_chunks_equal_one_pass(twins, randn):
    """a text in chunks of several tokens: the same as the whole text at once"""
    for pieces in [3, 4], [2, 2, 3], [4, 1, 2]:
        mine, ref = twins("CachedAttention", 12, 3, 1, 2, 9)
        x = randn(2, 7, 12)
        whole = read(mine, x, 4, [7])
        chunks = read(mine, x, 4, pieces)

        hint = "Query i of a chunk is token start_pos + i. Which keys does it see?"
        assert_close(chunks, whole, f"7 tokens in pieces of {pieces} and at once: the output", hint=hint)
        assert_answers(mine, ref, randn)


def test_later_tokens_leave_no_trace(twins, randn):
    """whatever comes later in a prompt or a chunk, the output of a token stays the same"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 2, 9)
    x = randn(2, 7, 12)
    other = x.clone()
    other[:, 5:] = 3.0 - 2.0 * other[:, 5:]

    for pieces in [7], [3, 4]:
        before, after = read(mine, x, 4, pieces), read(mine, other, 4, pieces)
        what = f"pieces of {pieces}, tokens 5 and 6 were changed"
        assert_close(after[:, :5], before[:, :5], f"{what}: the output of tokens 0 to 4")
        assert_differs(after[:, 5:], before[:, 5:], f"{what}: their own output")
    assert_answers(mine, ref, randn)


def test_a_new_sequence_forgets_the_old_one(twins, randn):
    """with start_pos 0 a new sequence begins, and start_pos may go back to any position"""
    used, ref = twins("CachedAttention", 12, 3, 1, 3, 9)
    read(used, randn(3, 9, 12), 4, [9])

    x = randn(2, 6, 12)
    for start_pos, T in (0, 3), (3, 1), (4, 2), (2, 2), (4, 1), (0, 1):
        what = f"{T} tokens at start_pos {start_pos}, where longer sequences were before: the output"
        piece = x[:, start_pos : start_pos + T] if start_pos != 2 else randn(2, T, 12)
        assert_same(used, ref, piece, start_pos, what, hint="Which part of the cache belongs to this sequence?")


def test_items_do_not_meet(twins, randn):
    """a sequence of a batch gets the same answer alone, in whatever row of the cache it is"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 3, 7)
    x = randn(3, 5, 12)
    together = read(mine, x, 4, [3, 1, 1])

    for item in range(3):
        alone = read(mine, x[item : item + 1], 4, [3, 1, 1])
        assert_close(alone, together[item : item + 1], f"sequence {item} alone and in a batch of 3: the output")
    assert_answers(mine, ref, randn)


def test_only_distances_count(twins, randn):
    """moving all positions of freqs_cis together changes nothing, moving only the later ones does"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 2, 9)
    x = randn(2, 5, 12)

    def steps(first, later):
        prompt = attend(mine, x[:, :4], 0, turns(first, 4, 4))
        return torch.cat((prompt, attend(mine, x[:, 4:], 4, turns(later, 1, 4))), dim=1)

    here, moved, apart = steps(0, 4), steps(5, 9), steps(0, 9)
    assert_close(moved, here, "freqs_cis of the positions 5 to 9, and of 0 to 4: the output", tolerance=5e-5)
    assert_differs(apart[:, 4], here[:, 4], "freqs_cis of the position 9 for token 4, and of 4: its output")
    assert_answers(mine, ref, randn)


def test_a_step_projects_only_the_new_token(impl, twins, randn):
    """earlier tokens are not projected again"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 2, 90)
    x = randn(2, 84, 12)
    for module, tokens in (mine, x), (ref, x.double()):
        attend(module, tokens[:, :80], 0, turns(0, 80, 4))

    for start_pos, T in (80, 1), (81, 3):
        with impl.trace() as trace:
            step = attend(mine, x[:, start_pos : start_pos + T], start_pos, turns(start_pos, T, 4))
        right = attend(ref, x[:, start_pos : start_pos + T].double(), start_pos, turns(start_pos, T, 4))
        assert_close(step, right, f"{T} tokens at start_pos {start_pos}: the output", dtype=torch.float32)
        made = 0  # numbers that are sums over 12 features: only the four projections make such ones, K is 4
        for op in trace.ops:
            factors = [shape for shape in op.inputs if len(shape) >= 2]
            if op.name in PRODUCTS and len(factors) >= 2 and 12 in (factors[-2][-1], factors[-1][-2]):
                made += sum(math.prod(shape) for shape in op.outputs)
        asked = 2 * T * (12 + 4 + 4 + 12)
        if made > 2 * asked:
            raise CheckFailure(
                f"D = 12, {T} new tokens at start_pos {start_pos}, B = 2: the projections made {made} numbers, but "
                f"{asked} are enough for the new tokens. What is already in the cache?"
            )


# --- masks -------------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_true_in_a_mask_means_may_attend(impl, randn):
    """a token that may attend to one position alone gets the value there, even of a later token"""
    for seen in [2, 0, 1], [1, 2, 0]:  # the position that each token of the prompt may attend to
        module = plain(impl, 4, 2, 2, 2, 5)
        x = randn(2, 4, 4)
        mask = torch.zeros(3, 3, dtype=torch.bool)
        mask[[0, 1, 2], seen] = True
        out = attend(module, x[:, :3], 0, turns(0, 3, 2), mask)
        assert_close(out, x[:, seen], f"tokens 0, 1, 2 may attend to the positions {seen} alone: the output")
        mask = torch.arange(4)[None] == seen[0]  # (T, S) = (1, 4)
        out = attend(module, x[:, 3:], 3, turns(3, 1, 2), mask)
        assert_close(out, x[:, seen[:1]], f"token 3 may attend to position {seen[0]} alone: the output")


@pytest.mark.points(2)
def test_masks_of_every_shape(twins, randn, randint):
    """a mask broadcasts to (B, H, T, start_pos + T) and replaces the causal one"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 3, 9)

    for start_pos, T, S in (0, 5, 5), (5, 2, 7), (7, 1, 8), (0, 3, 3), (3, 3, 6):  # 3 tokens, sequences and heads
        for shape in (T, S), (S,), (1, S), (3, 1, T, S), (3, 1, 1, S), (1, 3, 1, S), (3, T, S), (3, 3, T, S):
            mask = randint(0, 2, shape).bool()
            mask[..., 0] |= ~mask.any(dim=-1)
            what = f"a mask of shape {shape}, {T} tokens at start_pos {start_pos}: the output"
            assert_same(mine, ref, randn(3, T, 12), start_pos, what, mask)
        full = torch.ones(T, 1, dtype=torch.bool)
        assert_same(mine, ref, randn(3, T, 12), start_pos, f"a mask of {T} times True: the output", full)
        for shape in (T, 1), (3, 1, T, 1), (3, 3, 1, 1):
            column, what = (
                randint(0, 2, shape).bool(),
                f"a mask of shape {shape}, {T} tokens at {start_pos}: the output",
            )
            assert_same(mine, ref, randn(3, T, 12), start_pos, what, column)
        assert_same(mine, ref, randn(3, T, 12), start_pos, f"{T} tokens at {start_pos} without a mask: the output")


def test_a_query_with_nothing_to_attend_to(twins, randn, randint):
    """a token that may attend to nothing gets an output of exactly 0"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 3, 9)

    for start_pos, T, S in (0, 4, 4), (4, 2, 6), (6, 1, 7), (0, 1, 1):
        row, item = randint(0, 2, (T, S)).bool(), torch.ones(3, 1, 1, S, dtype=torch.bool)
        row[:, 0], row[T // 2], item[2] = True, False, False
        for who, mask in {
            f"new token {T // 2}": row,
            "the last sequence": item,
            "everyone": torch.zeros(1, 1).bool(),
        }.items():
            x = randn(3, T, 12)
            out = attend(mine, x, start_pos, turns(start_pos, T, 4), mask)

            what = f"{who} may attend to nothing, {T} tokens at start_pos {start_pos}"
            silent = out[~mask.expand(3, 1, T, S).any(dim=-1)[:, 0]]
            assert_close(silent, torch.zeros_like(silent), f"{what}: the output there", tolerance=0.0)
            right = attend(ref, x.double(), start_pos, turns(start_pos, T, 4), mask)
            assert_close(out, right, f"{what}: the output of all", dtype=torch.float32)
    assert_answers(mine, ref, randn)


# --- the numbers, on modules of every kind -----------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_the_reference(twins, randn, rng):
    """random sizes, size 1, as many key/value heads as heads, and tensors that are not contiguous"""
    sizes = [(1, 1, 2, 1), (2, 2, 2, 3), (4, 1, 6, 2), (6, 2, 4, 1)]
    sizes += [(G * rng.choice((1, 2, 3)), G, 2 * rng.randint(1, 4), rng.randint(1, 4)) for G in (1, 2, 3)]
    for H, G, K, B in sizes:
        mine, ref = twins("CachedAttention", H * K, H, G, B + rng.randint(0, 2), 8)
        x = randn(8, B, H * K).transpose(0, 1)
        for start_pos, T in (0, rng.randint(1, 4)), (1, 1), (2, rng.randint(1, 6)):
            what = f"H = {H}, G = {G}, K = {K}, B = {B}, {T} tokens at start_pos {start_pos}: the output"
            assert_same(mine, ref, x[:, start_pos : start_pos + T], start_pos, what)


def test_bfloat16(twins, randn, randint):
    """a bfloat16 module takes and returns bfloat16, and its caches are bfloat16"""
    mine, ref = twins("CachedAttention", 16, 4, 2, 2, 9)
    mine.bfloat16()
    ref.bfloat16().double()  # the same weights, rounded

    for start_pos, T in (0, 5), (5, 1), (6, 2), (0, 3):
        what = f"bfloat16, {T} tokens at start_pos {start_pos}: the output"
        assert_same(mine, ref, randn(2, T, 16), start_pos, what, dtype=torch.bfloat16)
    mask = randint(0, 2, (2, 1, 2, 5)).bool()
    mask[..., 0] = True
    assert_same(mine, ref, randn(2, 2, 16), 3, "bfloat16, with a mask: the output", mask, dtype=torch.bfloat16)
    mask[1] = False
    what = "bfloat16, a sequence that may attend to nothing: the output"
    assert_same(mine, ref, randn(2, 2, 16), 3, what, mask, dtype=torch.bfloat16)
    long, long_ref = twins("CachedAttention", 4, 1, 1, 1, 300)
    weights = {name: weight.bfloat16() for name, weight in plain_weights(4, 1, 1).items()}
    for module in long.bfloat16(), long_ref:
        module.load_state_dict(weights)
    size = torch.zeros(1, 300, 1)
    size[0, [100, 296, 297, 298, 299], 0] = torch.tensor([-16.0, 8.0, 16.0, 24.0, -8.0])  # each likes the farthest
    x = size * randn(1, 1, 4).sign()
    attend(long, x[:, :290].bfloat16(), 0, no_turns(290, 4))
    attend(long_ref, x[:, :290].double(), 0, no_turns(290, 4))
    out = attend(long, x[:, 290:].bfloat16(), 290, no_turns(10, 4))
    right = attend(long_ref, x[:, 290:].double(), 290, no_turns(10, 4))
    hint = "bfloat16 has no 257: in which dtype are the positions?"
    assert_close(out, right, "bfloat16, 10 tokens at start_pos 290: the output", dtype=torch.bfloat16, hint=hint)
    for name in "cache_k", "cache_v":
        right = dict(ref.named_buffers())[name]
        assert_close(dict(mine.named_buffers())[name], right, f"{name} of a bfloat16 module", dtype=torch.bfloat16)


# --- good manners ------------------------------------------------------------------------------------------


def test_repeated_calls(twins, randn, randint):
    """call after call: with names, in training mode, beside another module, and after the weights were changed"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 3, 9)
    other, other_ref = twins("CachedAttention", 12, 2, 2, 3, 9)

    for factor in 1.0, -0.5, 2.0:
        with torch.no_grad():
            for parameter in (*mine.parameters(), *ref.parameters()):
                parameter.mul_(factor)
        for start_pos, T in (0, 4), (4, 1), (5, 2):
            what = f"all weights times {factor}, {T} tokens at start_pos {start_pos}: the output"
            assert_same(mine, ref, randn(2, T, 12), start_pos, what)
            what = f"H = 2, G = 2, beside a module with H = 3, G = 1, {T} tokens at start_pos {start_pos}: the output"
            assert_same(other, other_ref, randn(2, T, 12), start_pos, what)
    mine.train()
    for start_pos, T in (0, 4), (4, 1), (5, 3):
        mask = randint(0, 2, (T, start_pos + T)).bool()
        mask[:, 0] = True
        for given in mask, None:
            what = f"in training mode, {T} tokens at start_pos {start_pos}, {'no' if given is None else 'a'} mask"
            assert_same(mine, ref, randn(2, T, 12), start_pos, f"{what}: the output", given)
    for by_name in True, False:
        x, freqs_cis, mask = randn(2, 3, 12), turns(2, 3, 4), randint(0, 2, (3, 5)).bool()
        with torch.no_grad():
            right = ref(x.double(), 2, freqs_cis, mask)
            out = mine(x, 2, freqs_cis, mask=mask) if by_name else mine(x, 2, freqs_cis, mask)
        what = "called with the mask by name" if by_name else "called with the mask as fourth argument"
        assert_close(out, right, f"{what}: the output", dtype=torch.float32)


def test_leaves_the_inputs_alone(twins, randn):
    """x, freqs_cis and the mask are the same after the call"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 2, 9)

    for start_pos in 0, 4:
        mask = torch.ones(4, start_pos + 4, dtype=torch.bool).tril(start_pos)
        inputs = {"x": randn(2, 4, 12), "freqs_cis": turns(start_pos, 4, 4), "mask": mask}
        before = {name: tensor.clone() for name, tensor in inputs.items()}
        attend(mine, inputs["x"], start_pos, inputs["freqs_cis"], inputs["mask"])
        for name, tensor in inputs.items():
            differs = bool((tensor != before[name]).any())
            if differs:
                raise CheckFailure(f"{name} is not the same after the call as before it.")
    assert_answers(mine, ref, randn)


def test_no_loop_over_tokens_or_batch(impl, twins, randn):
    """the number of tensor operations does not grow with the new tokens, the cached tokens or the batch"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 40, 90)
    x = randn(40, 45, 12)
    freqs_cis = turns(0, 90, 4)

    assert_same(mine, ref, x[:, :40], 0, "40 tokens of 40 sequences: the output")
    assert_no_loop(impl, lambda n: attend(mine, x[:2, :n], 0, freqs_cis[:n]), "new tokens")
    assert_no_loop(impl, lambda n: attend(mine, x[:2, :2], n, freqs_cis[:2]), "cached tokens")
    assert_no_loop(impl, lambda n: attend(mine, x[:n, :3], 3, freqs_cis[:3]), "sequences")
    assert_answers(mine, ref, randn)


def test_follows_the_device(impl, twins, randn):
    """computes on the device that the module and the inputs are on"""
    module = impl.CachedAttention(12, 3, 1, 2, 9)
    attend(module, randn(2, 4, 12), 0, turns(0, 4, 4))
    module.to("meta")  # after a call, so that what it has kept must move as well
    x, freqs_cis = randn(2, 4, 12).to("meta"), turns(0, 4, 4).to("meta")

    assert_follows_device(impl, lambda: attend(module, x, 0, freqs_cis), "the output of a prompt")
    assert_follows_device(impl, lambda: attend(module, x, 4, freqs_cis), "the output of a chunk")
    mask = torch.ones(1, 4, dtype=torch.bool, device="meta")
    assert_follows_device(impl, lambda: attend(module, x, 0, freqs_cis, mask), "the output with a mask")
    assert_answers(*twins("CachedAttention", 12, 3, 1, 2, 9), randn)


def test_errors_of_the_module(impl, twins, randn):
    """sizes below 1, head counts that do not divide, and an odd head width raise ValueError"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 2, 9)
    several = {
        "n_heads that does not divide dim": (12, 5, 1, 2, 9),
        "n_kv_heads that does not divide n_heads": (24, 6, 4, 2, 9),
        "n_kv_heads above n_heads": (12, 3, 6, 2, 9),
        "an odd K": (15, 5, 1, 2, 9),
    }
    for index, name in enumerate(("dim", "n_heads", "n_kv_heads", "max_batch", "max_len")):
        for size in 0, -2:
            several[f"{name} = {size}"] = tuple(size if i == index else n for i, n in enumerate((12, 3, 1, 2, 9)))
    for what, sizes in several.items():

        def bad(sizes=sizes):
            module = impl.CachedAttention(*sizes)
            attend(module, randn(1, 1, max(sizes[0], 1)), 0, turns(0, 1, 4))

        assert_rejects(bad, what, good=lambda: assert_answers(mine, ref, randn))


@pytest.mark.points(2)
def test_what_does_not_fit_is_refused(impl, twins, randn):
    """too many tokens or sequences, or other rows of freqs_cis, raise ValueError, and the cache stays as it was"""
    mine, ref = twins("CachedAttention", 12, 3, 1, 2, 6)
    read(mine, randn(2, 6, 12), 4, [6])
    cases = {
        "7 tokens for a cache of 6": (2, 7, 0, 7),
        "2 tokens at start_pos 5 for a cache of 6": (2, 2, 5, 2),
        "1 token at start_pos 6 for a cache of 6": (1, 1, 6, 1),
        "3 sequences for a cache of 2": (3, 2, 0, 2),
        "3 sequences at start_pos 2 for a cache of 2": (3, 1, 2, 1),
        "3 rows of freqs_cis for 2 tokens": (2, 2, 0, 3),
        "1 row of freqs_cis for 3 tokens": (2, 3, 1, 1),
        "5 rows of freqs_cis, as many as there are keys, for 2 tokens": (2, 2, 3, 5),
        "2 rows of freqs_cis for 1 token": (2, 1, 2, 2),
    }
    for what, (B, T, start_pos, rows) in cases.items():
        bad = randn(B, T, 12)

        def good():
            for T in 6, 1:
                assert_same(mine, ref, randn(2, T, 12), 6 - T, f"{T} tokens that just fit: the output")

        def refused(x=bad, start_pos=start_pos, rows=rows):
            attend(mine, x, start_pos, turns(0, rows, 4))

        assert_rejects(refused, what, good=good)
        before = dict(ref.named_buffers())
        after = dict(mine.named_buffers())
        for name in "cache_k", "cache_v":
            text = f"{what}: {name} after the error, which should be as before"
            assert_close(after[name], before[name], text, dtype=torch.float32, hint="Check before you write.")


# --- diagnosis and picture ---------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    generator = torch.Generator().manual_seed(0)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    shapes = {name: weight.shape for name, weight in plain_weights(16, 4, 2).items()}
    weights = {name: 0.4 * draw(*shape) for name, shape in shapes.items()}
    x, y = draw(3, 6, 16), draw(2, 6, 16)
    few = torch.tensor([[True, False, True, False], [False, False, True, False]])
    none = few & torch.tensor([[True], [False]])

    def fresh():
        module = impl.CachedAttention(16, 4, 2, 3, 7)
        module.load_state_dict(weights, strict=False)
        return module

    def after(*calls, caches=True):
        module = fresh()
        outputs = [attend(module, new, start, turns(start, new.shape[1], 4), *mask) for new, start, *mask in calls]
        buffers = dict(module.named_buffers()) if caches else {}
        return [outputs[-1], *(buffers[name].clone() for name in sorted(buffers) if name.startswith("cache"))]

    def too_many():
        module = fresh()
        attend(module, x[:, :4], 0, turns(0, 4, 4))
        error = observe(lambda: attend(module, y[:, :4], 4, turns(4, 4, 4)))
        return [str(error), *(buffer.clone() for _, buffer in sorted(module.named_buffers()))]

    return {
        "names": observe(lambda: sorted(fresh().state_dict())),
        "prompt": observe(lambda: after((x[:, :4], 0))),
        "step": observe(lambda: after((x[:, :4], 0), (x[:, 4:5], 4), caches=False)),
        "chunk": observe(lambda: after((x[:, :3], 0), (x[:, 3:], 3), caches=False)),
        "mask": observe(lambda: after((x[:, :2], 0), (x[:, 2:4], 2, few), caches=False)),
        "nothing allowed": observe(lambda: after((x[:, :2], 0), (x[:, 2:4], 2, none), caches=False)),
        "all allowed": observe(lambda: after((x[:, :4], 0, torch.ones(4, 4).bool()), caches=False)),
        "second sequence": observe(lambda: after((x, 0), (y[:, :2], 0), (y[:, 2:3], 2))),
        "two modules": observe(lambda: [after((x[:, :3], 0)), after((y[:, :2], 1))]),
        "too many tokens": observe(too_many),
    }


def picture(impl):
    """Draw how the cache fills up, call by call: how long the key at each position is."""
    module = plain(impl, 8, 2, 2, 1, 16)
    x = torch.full((1, 16, 8), 0.5)
    rows, start_pos = [module.cache_k[0].flatten(1).norm(dim=-1)], 0
    for count in 6, 1, 1, 1, 3:
        attend(module, (1.0 + 0.1 * len(rows)) * x[:, :count], start_pos, turns(start_pos, count, 4))
        rows.append(module.cache_k[0].flatten(1).norm(dim=-1))
        start_pos += count
    keys = module.cache_k[0, :, 0]
    return [
        Panel(
            "lengths of cached keys: a prompt, three steps, a chunk",
            torch.stack(rows),
            x_label="position",
            y_label="calls",
        ),
        Panel("features of cached keys, turned by their positions", keys.T, x_label="position", y_label="feature"),
    ]
