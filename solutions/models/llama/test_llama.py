"""Hidden suite of llama: names, the way through the layers by hand, attention, the cache, gradients, the whole.

A check of one part sets the other parts' weights to zero. A check of one property does not compare every number with
the reference's, so that one mistake fails few checks: it ends in ``assert_answers`` instead, which no made-up answer
passes and none kept from before.
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

TINY = 1e-9  # an eps that changes no digit
PRODUCTS = {"mm", "bmm", "addmm", "baddbmm", "addbmm", "matmul", "linear", "mv", "addmv", "dot"}

# --- what the checks are made of --------------------------------------------------------------------------


def shapes_of(D, L, H, G, V, F):
    """Return name → shape of the weights that are asked for."""
    kv = D // H * G
    shapes = {"tok_embeddings.weight": (V, D), "norm.weight": (D,), "output.weight": (V, D)}
    for i in range(L):
        attention = {"wq": (D, D), "wk": (kv, D), "wv": (kv, D), "wo": (D, D)}
        shapes |= {f"layers.{i}.attention.{name}.weight": shape for name, shape in attention.items()}
        feed_forward = {"w1": (F, D), "w2": (D, F), "w3": (F, D)}
        shapes |= {f"layers.{i}.feed_forward.{name}.weight": shape for name, shape in feed_forward.items()}
        shapes |= {f"layers.{i}.{name}.weight": (D,) for name in ("attention_norm", "ffn_norm")}
    return shapes


def with_weights(impl, D, L, H, G, V, F=1, weights=(), **options):
    """Make the learner's model with these weights: name, or the end of a name such as ``wq``, → weight.

    The others are identities and gains of 1, but w2 is 0, so that the feed-forward adds nothing.
    """
    module = impl.Llama(D, L, H, G, V, F, **{"norm_eps": TINY} | options)
    given, state = dict(weights), {}
    for name, shape in shapes_of(D, L, H, G, V, F).items():
        short = name.removesuffix(".weight").split(".")[-1]
        plain = torch.eye(*shape) if len(shape) == 2 else torch.ones(shape)
        plain = torch.zeros(shape) if short == "w2" else plain
        plain = given.get(name.removesuffix(".weight"), given.get(short, plain))
        state[name] = torch.as_tensor(plain, dtype=torch.float32)
    module.load_state_dict(state)
    return module


def run(module, tokens, start_pos=0):
    """Call the learner's model and check that a tensor comes back."""
    logits = module(tokens, start_pos=start_pos) if start_pos else module(tokens)
    return assert_tensor(logits, "the logits")


def read(module, tokens, pieces):
    """Let the model read ``tokens`` in pieces of the given lengths, and join the logits."""
    logits, start_pos = [], 0
    for count in pieces:
        piece = tokens[:, start_pos : start_pos + count]
        logits.append(run(module, piece, start_pos).detach())
        if logits[-1].shape[:2] != piece.shape:
            what = f"{count} tokens of {len(tokens)} sequences at start_pos {start_pos}: the logits"
            raise CheckFailure(
                f"{what}: the shape should be {(*piece.shape, 'V')}, but {tuple(logits[-1].shape)} came."
            )
        start_pos += count
    return torch.cat(logits, dim=1)


def assert_same(mine, ref, tokens, start_pos=0, what="random tokens", *, tolerance=None, hint=""):
    """Compare the logits with the reference's after the same calls."""
    right = ref(tokens, start_pos).detach()
    assert_close(run(mine, tokens, start_pos), right, what, dtype=torch.float32, tolerance=tolerance, hint=hint)


def assert_answers(impl, randn):
    """Check that the code answers at all: logits grow in proportion to output.weight, whatever else may be wrong."""
    tokens, weights = torch.tensor([[1, 2]]), {"tok_embeddings": randn(3, 4), "wo": torch.zeros(4, 4)}
    direction, logits = randn(3, 4), []
    module = with_weights(impl, 4, 1, 1, 1, 3, weights=weights)
    plain = {name: weight.clone() for name, weight in module.state_dict().items()}
    for size in 0.0, 1.0, 3.0:
        module.load_state_dict(plain | {"output.weight": size * direction})
        logits.append(run(module, tokens).detach())
    zero, one, three = logits
    assert_shape(one, (1, 2, 3), "two tokens of a vocabulary of 3: the logits", dtype=torch.float32)
    assert_differs(one, zero, "two tokens: the logits once output.weight is not 0 any more")
    assert_close(three - one, 2 * (one - zero), "two tokens, output.weight times 0, 1 and 3: what each step changes")


def silu(z):
    return z / (1 + math.exp(-z))


def normed(x):
    """Return ``x`` over the root of the mean of its squares."""
    x = torch.as_tensor(x, dtype=torch.float64)
    return (x / x.square().mean(dim=-1, keepdim=True).sqrt()).float()


# --- shapes and names -------------------------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl):
    """the logits of every token are (B, T, V) and float32, for a prompt, a step and a chunk"""
    module = impl.Llama(12, 2, 3, 1, 11, 20, 3, 9)
    with torch.no_grad():  # the names come later, and zeros would be fine to start with
        for parameter in module.parameters():
            parameter.uniform_(-0.7, 0.7)
    seen = torch.zeros(0)

    for call, (B, T, start_pos) in enumerate([(2, 4, 0), (2, 4, 0), (2, 1, 4), (2, 3, 5), (3, 9, 0), (1, 1, 0)]):
        logits = run(module, (torch.arange(B * T).view(B, T) + 3 * call) % 11, start_pos)

        what = f"B = {B}, T = {T}, V = 11, start_pos {start_pos}: the logits"
        assert_shape(logits, (B, T, 11), what, dtype=torch.float32)
        assert_differs(logits, seen, f"{what} of a call with other tokens")
        seen = logits


@pytest.mark.visible
def test_parameter_names(impl, randn, randint):
    """the weights have the names of the published checkpoints, and nothing else is saved and loaded, no cache"""
    for sizes in (8, 2, 4, 2, 5, 6), (4, 3, 1, 1, 7, 3), (8, 1, 2, 2, 3, 9):
        module, shapes = impl.Llama(*sizes), shapes_of(*sizes)
        numbers = dict(
            zip(("dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "hidden_dim"), sizes, strict=True)
        )
        text = "with " + ", ".join(f"{name} {size}" for name, size in numbers.items())

        assert_names(module.named_parameters(), shapes, f"named_parameters() {text}")
        tokens = torch.tensor([[0, 1, 2]])
        first, second = ({name: randn(*shape) for name, shape in shapes.items()} for _ in range(2))
        logits = []
        for state in first, second, first:
            module.load_state_dict(state)
            logits.append(run(module, tokens).detach())
            assert_shape(logits[-1], (1, 3, sizes[4]), f"the logits {text}")
        assert_differs(logits[1], logits[0], "other weights were loaded: the logits")
        assert_close(logits[2], logits[0], "the first weights were loaded again: the logits and those of before")
        assert_names(module.state_dict().items(), shapes, f"state_dict() after three calls, {text}")


def assert_names(found, asked, place):
    """Check the names and shapes of (name, tensor) pairs."""
    came = {name: tuple(tensor.shape) for name, tensor in found}
    for name in sorted(came.keys() | asked.keys()):
        if came.get(name) != asked.get(name):
            wrong, right = came.get(name, "missing"), asked.get(name, "absent")
            raise CheckFailure(f"{place}: {name} is {wrong}, but should be {right}.")


# --- the way through the layers, worked out by hand -------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_layers_that_add_nothing(impl):
    """wo = 0 and w2 = 0 in all layers: embedding, last norm, output, worked out on paper"""
    table = torch.tensor([[1.0, 7.0], [7.0, -1.0], [5.0, 5.0], [-7.0, 1.0]])  # all squares have the mean 25
    for gain, output in (
        ([5.0, 10.0], [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.0]]),
        (
            [10.0, -5.0],
            [[0.0, 1.0], [1.0, -1.0], [3.0, 0.0], [0.0, 0.0]],
        ),
    ):
        for L in 1, 3:
            weights = {"tok_embeddings": table, "wo": torch.zeros(2, 2), "norm": gain, "output": output}
            weights |= {"attention_norm": [3.0, 2.0], "ffn_norm": [-2.0, 4.0]}
            module = with_weights(impl, 2, L, 1, 1, 4, weights=weights)
            logits = run(module, torch.tensor([[0, 3, 2, 1]]))

            n = table[[0, 3, 2, 1]] / 5 * torch.tensor(gain)
            what = f"{L} layers, embeddings (1, 7), (-7, 1), (5, 5), (7, -1), norm.weight {gain}: the logits"
            hint = "Which three operations are left when the layers add nothing?"
            assert_close(logits[0], n @ torch.tensor(output).T, what, hint=hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_layers_come_one_after_the_other(impl):
    """two layers of attention and one token, worked out on paper: what each reads and what it adds to"""
    for size in 1.0, -1.0:
        weights = {
            "tok_embeddings": [[0.0, 0.0], [1.0, 7.0]],
            "layers.0.attention.wv": [[30.0, 0.0], [0.0, 0.0]],  # reads (0.2, 1.4), adds (6, 0)
            "layers.1.attention.wv": [[0.0, 0.0], [-6.0, 0.0]],  # reads (1, 1), adds (0, -6)
            "output": [[size, 0.0], [0.0, 2.0]],
        }
        logits = run(with_weights(impl, 2, 2, 1, 1, 2, weights=weights), torch.tensor([[1]]))

        what = "embedding (1, 7), layer 0 makes it (7, 7), layer 1 (7, 1), the last norm (1.4, 0.2): the logits"
        hint = "Is the embedding scaled, which layer is first, and what does each add to?"
        assert_close(logits[0], torch.tensor([[1.4 * size, 0.4]]), what, hint=hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_feed_forward_by_hand(impl):
    """attention and feed-forward of one layer, one token, worked out on paper"""
    for gain in [2.0, 3.0], [-1.0, 4.0], [200.0, 0.01], [-200.0, 0.01]:
        weights = {
            "tok_embeddings": [[1.0, 7.0]],
            "wv": [[30.0, 0.0], [0.0, 0.0]],  # adds (6, 0)
            "ffn_norm": gain,
            "w1": [[1.0, 0.0]],
            "w3": [[0.0, 1.0]],
            "w2": [[1.0], [2.0]],
            "output": [[1.0, 2.0]],
        }
        logits = run(with_weights(impl, 2, 1, 1, 1, 1, weights=weights), torch.tensor([[0]]))

        added = silu(gain[0]) * gain[1]
        n = normed([7.0 + added, 7.0 + 2 * added])
        what = (
            f"after attention (7, 7), ffn_norm.weight = {gain}, so w1 n = {gain[0]:g} and w3 n = {gain[1]:g}: the logit"
        )
        hint = "In which branch stands silu, what does it read, and what is its result added to?"
        assert_close(logits.flatten(), (n[0] + 2 * n[1]).view(1), what, hint=hint)


@pytest.mark.visible
def test_eps_is_added_under_the_root(impl):
    """norm_eps is added to the mean of the squares, under the root, in all three kinds of norms"""
    table = [[1.0, 7.0], [7.0, 1.0]]  # whose squares have the mean 25
    for eps, root in (11.0, 6.0), (39.0, 8.0):
        what = f"embeddings (1, 7) and (7, 1), norm_eps = {eps:g}, so that they are divided by {root:g}: the logits"
        for token in 0, 1:
            x = torch.tensor(table[token])
            weights = {"tok_embeddings": table, "wo": torch.zeros(2, 2)}
            logits = run(with_weights(impl, 2, 1, 1, 1, 2, weights=weights, norm_eps=eps), torch.tensor([[token]]))
            assert_close(logits.flatten(), x / root, f"{what}, layers that add nothing")

            module = with_weights(impl, 2, 1, 1, 1, 2, weights={"tok_embeddings": table}, norm_eps=eps)
            h = x.double() * (1 + 1 / root)
            by_hand = h / (h.square().mean() + eps).sqrt()
            logits = run(module, torch.tensor([[token]]))
            assert_close(logits.flatten(), by_hand.float(), f"{what}, attention that adds the normalised token")

            weights |= {"w1": [[1.0, 0.0]], "w3": [[0.0, 1.0]], "w2": [[1.0], [2.0]]}
            n, h = x.tolist(), x.double()
            h = h + torch.tensor([1.0, 2.0]) * silu(n[0] / root) * n[1] / root
            by_hand = h / (h.square().mean() + eps).sqrt()
            logits = run(with_weights(impl, 2, 1, 1, 1, 2, weights=weights, norm_eps=eps), torch.tensor([[token]]))
            assert_close(logits.flatten(), by_hand.float(), f"{what}, a feed-forward alone")
    for x in [0.003, 0.001], [0.001, -0.003]:  # whose squares have the mean 5e-6
        module = impl.Llama(2, 1, 1, 1, 2, 1)
        weights = {"tok_embeddings": [x, x], "wo": torch.zeros(2, 2)}
        module.load_state_dict(with_weights(impl, 2, 1, 1, 1, 2, weights=weights).state_dict())
        logits = run(module, torch.tensor([[0]]))
        by_hand = torch.tensor(x) / math.sqrt(1.5e-5)
        assert_close(logits.flatten(), by_hand, f"embedding {x}, norm_eps left out, which is 1e-5: the logits")


# --- attention, worked out by hand ------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_averages_by_hand(impl):
    """queries of 0: attention adds the plain average of the tokens so far: at once, in chunks, in steps"""
    table = torch.tensor([[1.0, 7.0], [7.0, 1.0], [-5.0, -5.0], [5.0, 5.0]])  # all squares have the mean 25
    means = torch.tensor([[1.0, 7.0], [4.0, 4.0], [1.0, 1.0], [2.0, 2.0]])
    for sign in 1.0, 2.0:
        weights = {"tok_embeddings": table, "wq": torch.zeros(2, 2), "attention_norm": [5 * sign, 5 * sign]}
        right = normed(table + sign * means)
        for pieces in [4], [1, 1, 1, 1], [2, 2], [1, 3]:
            logits = read(with_weights(impl, 2, 1, 1, 1, 4, weights=weights), torch.arange(4)[None], pieces)

            what = f"values {(sign * table).int().tolist()}, queries of 0, pieces of {pieces}: the logits"
            hint = "How many keys does each token of each piece see?"
            assert_close(logits[0, :, :2], right, what, hint=hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_turns_by_hand(impl):
    """one key at position 0 and the same query at every position after it: the score shows the angle"""
    cases = (  # pair, features of the query and of the key in that pair, what the angle does to their product
        (0, [1, 0], [1, 0], math.cos),
        (1, [0, 1], [0, 1], math.cos),
        (0, [1, 0], [0, 1], math.sin),
        (1, [1, 0], [0, 1], math.sin),
    )
    for pair, q, k, curve in cases:
        for theta in 10_000.0, 9.0:
            features = slice(2 * pair, 2 * pair + 2)
            wq, wk, wv = torch.zeros(3, 4, 4)
            wq[features, 1] = 3.0 * torch.tensor(q)  # of token 1; token 0 has a key and a value
            wk[features, 0] = 2.0 * torch.tensor(k)
            wv[0, 0] = 4.0
            gain = torch.full((4,), 0.5)  # the norm of an embedding (1, 0, 0, 0) is (2, 0, 0, 0) without it
            weights = {"tok_embeddings": torch.eye(4), "wq": wq, "wk": wk, "wv": wv, "attention_norm": gain}
            speed = 1.0 if pair == 0 else theta**-0.5
            tokens = torch.tensor([[0, 1, 1, 1, 1, 1]])
            right = []
            for p in range(1, 6):
                odds = math.exp(3.0 * curve(p * speed))  # the score is 6 times the curve, over sqrt(4)
                right.append([4.0 * odds / (odds + p), 1.0, 0.0, 0.0])
            options = {"weights": weights, "theta": theta} if theta == 9.0 else {"weights": weights}
            logits = run(with_weights(impl, 4, 1, 1, 1, 4, **options), tokens)

            what = f"query {q} and key {k} in pair {pair}, theta {theta:g}: the logits at positions 1 to 5"
            hint = "Which features are a pair, how fast does it turn, and which way?"
            if logits.shape != (1, 6, 4):
                raise CheckFailure(f"{what}: the shape should be (1, 6, 4) for 6, but {tuple(logits.shape)} came.")
            assert_close(logits[0, 1:], normed(right), what, hint=hint, tolerance=5e-5)


@pytest.mark.visible
@pytest.mark.points(2)
def test_which_head_serves_whom(impl):
    """query head h uses key/value head h // (H // G), and the heads lie side by side in order"""
    for H, G in (4, 2), (6, 2), (3, 1), (3, 3):
        for sign in 1.0, -1.0:
            wv = torch.zeros(2 * G, 2 * H)
            wv[:, 0] = sign * torch.arange(1.0, 2 * G + 1)  # the value of head g is (2g + 1, 2g + 2)
            table = torch.ones(2, 2 * H)
            module = with_weights(
                impl, 2 * H, 1, H, G, 2 * H, weights={"tok_embeddings": table[:1].expand(2 * H, -1), "wv": wv}
            )
            by_hand = 1 + torch.tensor([sign * (2 * (h // (H // G)) + i) for h in range(H) for i in (1, 2)])

            logits = run(module, torch.tensor([[0, 1, 0]]))
            what = f"H = {H}, G = {G}, values of key/value head g are {sign:g} * (2g + 1, 2g + 2): the logits"
            assert_close(logits, normed(by_hand).expand(1, 3, -1), what)


@pytest.mark.visible
def test_scores_are_divided_by_the_root_of_the_head_width(impl):
    """the scores of a head with K features are divided by sqrt(K)"""
    for D, H, root in (8, 2, 2.0), (4, 1, 2.0), (32, 2, 4.0):  # K = 4, 4, 16
        K = D // H
        for odds in 3.0, 5.0:
            wq, wk, wv = torch.zeros(3, D, D)
            wq[K - 1 :: K, 1] = 1.0  # token 1 asks for the last feature of every head, which hardly turns
            wk[K - 1 :: K, 0] = root * math.log(odds)
            wv[::K, 0] = 1.0
            gain = torch.full((D,), D**-0.5)
            weights = {"tok_embeddings": torch.eye(D), "wq": wq, "wk": wk, "wv": wv, "attention_norm": gain}
            module = with_weights(impl, D, 1, H, H, D, weights=weights, theta=1e30)
            logits = run(module, torch.tensor([[0, 1]]))

            h = torch.eye(D)[1]
            h[::K] += odds / (odds + 1)
            what = f"D = {D}, H = {H}: token 1 has dot products {root * math.log(odds):.4f} and 0, its logits"
            hint = "How many features does a head compare?"
            assert_close(logits[0, 1], normed(h), what, hint=hint, tolerance=5e-5)


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000 give right results, and later tokens stay hidden"""
    for sign, best in (1.0, [0, 1, 1, 3]), (-1.0, [0, 0, 2, 2]):
        wq, wk, wv = torch.zeros(3, 8, 8)
        wq[6] = 200.0  # of every token, in a pair that hardly turns
        wk[6, :4] = sign * torch.tensor([120.0, 130.0, 110.0, 140.0])
        wv[:4, :4] = torch.eye(4)
        gain = torch.full((8,), 8**-0.5)
        weights = {"tok_embeddings": torch.eye(8), "wq": wq, "wk": wk, "wv": wv, "attention_norm": gain}
        for pieces in [4], [2, 2], [1, 1, 1, 1]:
            module = with_weights(impl, 8, 1, 1, 1, 8, weights=weights, theta=1e30)
            logits = read(module, torch.arange(4)[None], pieces)

            what = f"scores of {sign:g} times 7800 to 9900, the highest at positions {best}, pieces of {pieces}: logits"
            right = normed(torch.eye(8)[:4] + torch.eye(8)[best])
            assert_close(logits[0], right, what, hint="Which score has a weight of exactly 0?")


# --- reading piece by piece -------------------------------------------------------------------------------


@pytest.mark.points(2)
def test_later_tokens_leave_no_trace(impl, twins, randn, randint):
    """a token's logits depend on itself and those before it, not on those after it"""
    mine, _ = twins("Llama", 12, 2, 3, 1, 20, 10, max_batch=2, max_len=9)
    tokens = randint(0, 20, (2, 7))
    other = tokens.clone()
    other[:, 4:] = (other[:, 4:] + 1 + randint(0, 18, (2, 3))) % 20

    before, after = (run(mine, several).detach() for several in (tokens, other))

    assert_close(after[:, :4], before[:, :4], "tokens 4 to 6 were changed: the logits of tokens 0 to 3")
    assert_differs(after[:, 4:], before[:, 4:], "tokens 4 to 6 were changed: their own logits")
    other = tokens.clone()
    other[:, 0] = (other[:, 0] + 1) % 20
    after = run(mine, other).detach()
    for t in 1, 6:
        assert_differs(after[:, t], before[:, t], f"token 0 was changed: the logits of token {t}")
    assert_answers(impl, randn)


@pytest.mark.points(2)
def test_steps_equal_one_pass(impl, twins, randn, randint):
    """a prompt and then one token after the other: the same as the whole text at once"""
    for pieces in [3, 1, 1, 1, 1], [1] * 7:
        mine, _ = twins("Llama", 12, 2, 3, 1, 11, 10, max_batch=2, max_len=9)
        tokens = randint(0, 11, (2, 7))
        whole = read(mine, tokens, [7])
        steps = read(mine, tokens, pieces)

        hint = "Where does a step's token stand, and which keys does it see?"
        assert_close(steps, whole, f"7 tokens in pieces of {pieces} and at once: the logits", hint=hint)
        assert_differs(whole[:, 1:], whole[:, :-1], "the logits of neighbouring tokens")
    assert_answers(impl, randn)


@pytest.mark.points(2)
def test_chunks_equal_one_pass(impl, twins, randn, randint):
    """a text in chunks of several tokens: the same as the whole text at once"""
    for L, pieces in (1, [3, 4]), (2, [2, 2, 3]), (3, [4, 1, 2]), (2, [2, 5]):
        mine, _ = twins("Llama", 12, L, 3, 3, 11, 10, max_batch=2, max_len=7)
        tokens = randint(0, 11, (2, 7))
        whole = read(mine, tokens, [7])
        chunks = read(mine, tokens, pieces)

        hint = "How many keys does the first token of a chunk see, and how many the last?"
        assert_close(chunks, whole, f"7 tokens in chunks of {pieces} and at once: the logits", hint=hint)
        assert_differs(whole[:, 1:], whole[:, :-1], "the logits of neighbouring tokens")
    assert_answers(impl, randn)


@pytest.mark.points(2)
def test_a_new_text_starts_afresh(impl, twins, randn, randint):
    """a call with start_pos 0 forgets the text before, and start_pos may go back to any earlier position"""
    mine, _ = twins("Llama", 12, 2, 3, 1, 11, 10, max_batch=3, max_len=9)
    other, _ = twins("Llama", 12, 2, 3, 1, 11, 10, max_batch=3, max_len=9)
    other.load_state_dict(mine.state_dict())
    text, new = randint(0, 11, (3, 9)), randint(0, 11, (2, 8))

    fresh = read(other, new, [3, 1, 2])
    read(mine, text, [9])
    again = read(mine, new, [3, 1, 2])

    assert_close(again, fresh, "a text after a longer one, and in a model that has read nothing: the logits")
    run(mine, torch.flip(new, [1])[:, :5], 3)
    for start_pos, end in (4, 6), (2, 3), (3, 4), (4, 8), (1, 8):
        if start_pos == 4:  # so that positions 0 to 3 are those of the new text again
            read(mine, new, [2, 2])
        piece = run(mine, new[:, start_pos:end], start_pos).detach()
        right = read(other, new[:, :end], [end])[:, start_pos:]
        what = f"start_pos goes back to {start_pos}, to read the tokens {start_pos} to {end - 1}: the logits"
        assert_close(piece, right, what, hint="What counts of that which was kept behind start_pos?")
    assert_answers(impl, randn)


def test_fewer_sequences(impl, twins, randn, randint):
    """a later call may go on with the first sequences alone, and max_batch may be larger than the batch"""
    mine, ref = twins("Llama", 12, 2, 3, 1, 11, 10, max_batch=4, max_len=9)
    tokens = randint(0, 11, (3, 8))

    for B, start_pos, end in (3, 0, 4), (2, 4, 5), (1, 5, 7), (2, 5, 6), (1, 0, 2), (2, 2, 4), (3, 4, 5):
        # row 0 is cut off once, and rows 1 and 2 go on with what they had
        what = f"{B} of 3 sequences, tokens {start_pos} to {end - 1}: the logits"
        assert_same(mine, ref, tokens[:B, start_pos:end], start_pos, what)
    assert_answers(impl, randn)


def test_models_and_layers_have_their_own_caches(impl, twins, randn, randint):
    """two models do not share a cache, and no two layers do"""
    for L in 1, 3:
        one, _ = twins("Llama", 12, L, 3, 1, 11, 10, max_batch=2, max_len=9)
        other, _ = twins("Llama", 12, L, 3, 1, 11, 10, max_batch=2, max_len=9)
        tokens, others = randint(0, 11, (2, 6)), randint(0, 11, (2, 6))
        whole = read(one, tokens, [6])

        run(one, tokens[:, :4])
        run(other, others[:, :4])
        step = run(one, tokens[:, 4:5], 4).detach()
        run(other, others[:, 4:], 4)
        last = run(one, tokens[:, 5:], 5).detach()

        what = f"{L} layers, two steps, after another model of the same sizes was used: the logits"
        assert_close(torch.cat((step, last), dim=1), whole[:, 4:], what)
    assert_answers(impl, randn)


@pytest.mark.points(2)
def test_a_call_projects_only_its_own_tokens(impl, twins, randint):
    """the tokens of earlier calls are not computed again"""
    D, L, H, G, V, F = 12, 2, 3, 1, 30, 20
    mine, ref = twins("Llama", D, L, H, G, V, F, max_batch=2, max_len=70)
    tokens = randint(0, V, (2, 66))
    for module in mine, ref:
        module(tokens[:, :61])

    for start_pos, T in (61, 1), (62, 3):
        piece = tokens[:, start_pos : start_pos + T]
        with impl.trace() as trace:
            logits = run(mine, piece, start_pos)
        what = f"{T} tokens at start_pos {start_pos}: the logits"
        assert_close(logits, ref(piece, start_pos), what, dtype=torch.float32, tolerance=2e-4)
        made = 0  # numbers that are sums over 12 or 20 features: only projections make such ones, K is 4
        for op in trace.ops:
            factors = [shape for shape in op.inputs if len(shape) >= 2]
            if op.name in PRODUCTS and len(factors) >= 2 and {D, F} & {factors[-2][-1], factors[-1][-2]}:
                made += sum(math.prod(shape) for shape in op.outputs)
        asked = 2 * T * (L * (12 + 4 + 4 + 12 + 20 + 20 + 12) + V)
        if made > 2 * asked:
            raise CheckFailure(
                f"dim 12, 2 layers, B = 2, {T} new tokens at start_pos {start_pos}: the projections made {made} "
                f"numbers, but {asked} are enough for the new tokens. What is already in the cache?"
            )


# --- gradients --------------------------------------------------------------------------------------------


def assert_same_gradients(mine, ref, calls, randn, what, tolerance=None):
    """Make calls (tokens, start_pos), send one cotangent back through all their logits, compare all gradients."""
    got, expected = (torch.cat([module(*call) for call in calls], dim=1) for module in (mine, ref))
    leaves, wide_leaves = dict(mine.named_parameters()), dict(ref.named_parameters())
    cotangent = randn(*expected.shape)
    if tolerance is not None:
        right = torch.autograd.grad((expected * cotangent).sum(), list(wide_leaves.values()), retain_graph=True)
        tolerance *= max(float(gradient.abs().max()) for gradient in right)
    assert_gradients_match(got, leaves, expected, wide_leaves, cotangent, what, tolerance=tolerance)


@pytest.mark.points(3)
def test_gradients(twins, randn, randint):
    """the gradients of all weights, in a second backward pass too: keys and values of this call count"""
    for L, G, T in (1, 1, 5), (2, 2, 5), (2, 4, 1), (2, 1, 6):
        mine, ref = twins("Llama", 16, L, 4, G, 7, 10, max_batch=2, max_len=9)
        mine.train(G == 2)
        for what in "the gradient", "the gradient in a second backward pass":
            call = randint(0, 7, (2, T)), 0
            text = f"{L} layers, 4 heads, G = {G}, T = {T}, {'training' if G == 2 else 'eval'} mode: {what}"
            assert_same_gradients(mine, ref, [call], randn, text)


@pytest.mark.points(2)
def test_gradients_after_a_prompt(twins, randn, randint):
    """the gradients of a later call: what was kept from earlier calls has none"""
    mine, ref = twins("Llama", 16, 2, 4, 2, 7, 10, max_batch=2, max_len=9)
    for T in 3, 1, 3:
        tokens = randint(0, 7, (2, 4 + T))
        for module in mine, ref:
            module(tokens[:, :4])
        call = tokens[:, 4:], 4
        assert_same_gradients(mine, ref, [call], randn, f"{T} tokens after a prompt of 4: the gradient")
        with torch.no_grad():
            for module in mine, ref:
                module(tokens[:, :4])
        assert_same_gradients(mine, ref, [call], randn, f"{T} tokens after a prompt without gradients: the gradient")


def test_gradients_of_several_calls(twins, randn, randint):
    """several calls, then one backward pass through all their logits"""
    for B, G in (2, 2), (1, 4):
        mine, ref = twins("Llama", 16, 2, 4, G, 7, 10, max_batch=2, max_len=9)
        tokens = randint(0, 7, (B, 6))
        several = {
            "two prompts": [(tokens[:, :3], 0), (tokens[:, 3:], 0)],
            "a prompt, a chunk and a step": [(tokens[:, :3], 0), (tokens[:, 3:5], 3), (tokens[:, 5:], 5)],
        }
        for name, calls in several.items():
            assert_same_gradients(mine, ref, calls, randn, f"{name}, then one backward pass: the gradient")


# --- the whole --------------------------------------------------------------------------------------------


@pytest.mark.points(3)
def test_matches_the_reference(twins, randint, rng):
    """random sizes, size 1, other eps and theta, tokens that are not contiguous, at once and in pieces"""
    sizes = [(1, 1, 1, 2, 1, 1, 1), (2, 2, 2, 4, 3, 8, 9), (1, 2, 3, 2, 5, 3, 4), (3, 1, 2, 2, 4, 4, 4)]
    sizes += [(rng.randint(1, 3), rng.choice((1, 2)), rng.choice((1, 2, 3)), rng.choice((2, 4, 6)), rng.randint(1, 4),
               rng.randint(1, 9), rng.randint(2, 12)) for _ in range(4)]  # fmt: skip
    for L, G, n_rep, K, B, F, V in sizes:
        H, start_pos = G * n_rep, 0
        options = B + rng.randint(0, 1), 8, rng.choice((1e-5, 0.3)), rng.choice((10_000.0, 50.0))
        mine, ref = twins("Llama", H * K, L, H, G, V, F, *options)
        tokens = randint(0, V, (8, B)).T
        for T in rng.choice(([8], [1, 1, 6], [3, 4, 1], [5, 1, 2])):
            what = f"B = {B}, H = {H}, G = {G}, K = {K}, L = {L}, F = {F}, V = {V}, {T} tokens at start_pos {start_pos}"
            assert_same(mine, ref, tokens[:, start_pos : start_pos + T], start_pos, what)
            start_pos += T
        with torch.no_grad():
            assert_same(mine, ref, tokens[:, ::2], what=f"B = {B}, T = 4, without gradients")
            assert_same(mine, ref, tokens[:, 4:6], 4, f"B = {B}, 2 tokens at start_pos 4, without gradients")


def test_bfloat16(twins, randn, randint):
    """a bfloat16 model, whose logits are float32, at once and in pieces"""
    mine, ref = twins("Llama", 16, 2, 4, 2, 11, 20, max_batch=2, max_len=9)
    state = {name: 4 * weight if "embeddings" in name else weight for name, weight in ref.state_dict().items()}
    ref.load_state_dict({name: weight.bfloat16() for name, weight in state.items()})
    mine.bfloat16()
    mine.load_state_dict({name: weight.bfloat16() for name, weight in ref.state_dict().items()})

    for _ in range(2):
        tokens, start_pos = randint(0, 11, (2, 8)), 0
        for T in 5, 1, 2:
            piece = tokens[:, start_pos : start_pos + T]
            loose = 0.05 * float(ref(piece, start_pos).detach().abs().max())
            what = f"bfloat16, {T} tokens at start_pos {start_pos}: the logits"
            assert_same(mine, ref, piece, start_pos, what, tolerance=loose)
            start_pos += T
    assert_same_gradients(mine, ref, [(tokens[:, :4], 0)], randn, "bfloat16: the gradient", tolerance=0.1)


def test_float64(twins, randn, randint):
    """a float64 model answers as well, with float32 logits, and goes back to float32"""
    mine, ref = twins("Llama", 16, 2, 4, 2, 11, 20, max_batch=2, max_len=9)
    mine.double()
    tokens, start_pos = randint(0, 11, (2, 8)), 0
    for T in 5, 1, 2:
        what = f"float64, {T} tokens at start_pos {start_pos}: the logits"
        assert_same(mine, ref, tokens[:, start_pos : start_pos + T], start_pos, what)
        start_pos += T
    assert_same_gradients(mine, ref, [(tokens[:, :4], 0)], randn, "float64: the gradient", tolerance=1e-5)
    mine.float()
    assert_same(mine, ref, tokens, what="float32 again, 8 tokens: the logits")


def test_far_positions(impl):
    """positions up to 600 turn by precise angles, in bfloat16 too, which has no 257"""
    for pair, speed in (0, 1.0), (1, 7.0**-0.5):
        features = slice(2 * pair, 2 * pair + 2)
        wq, wk, wv = torch.zeros(3, 4, 4)
        wq[features.start, 1] = 4.0  # of token 1; token 0 has a key and a value
        wk[features.start, 0] = 4.0
        wv[2, 0] = 4.0
        gain = torch.full((4,), 0.5)
        weights = {"tok_embeddings": torch.eye(4), "wq": wq, "wk": wk, "wv": wv, "attention_norm": gain}
        module = with_weights(impl, 4, 1, 1, 1, 4, weights=weights, theta=7.0, max_len=600)
        tokens = torch.ones(1, 600, dtype=torch.int64)
        tokens[0, 0] = 0
        positions = torch.arange(1, 600)
        odds = torch.exp(8.0 * torch.cos(positions.double() * speed))
        right = torch.zeros(599, 4, dtype=torch.float64)
        right[:, 1], right[:, 2] = 1.0, 4.0 * odds / (odds + positions)
        for dtype, loose in (torch.float32, 5e-3), (torch.bfloat16, 0.15):
            if dtype == torch.bfloat16:
                module.bfloat16()
            for pieces in [600], [300, 200, 100]:
                logits = read(module, tokens, pieces)[0, 1:]
                what = f"{dtype}, pair {pair}, theta 7, pieces of {pieces}: the logits at positions 1 to 599"
                hint = "Does every number on the way to the angles have the precision of float32?"
                assert_close(logits, normed(right), what, tolerance=loose, hint=hint)


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls(twins, randint):
    """one model, call after call with other sizes, weights and modes"""
    mine, ref = twins("Llama", 8, 2, 4, 2, 9, 6, max_batch=4, max_len=30)
    several = [{n: w.float() for n, w in twins("Llama", 8, 2, 4, 2, 9, 6)[1].state_dict().items()} for _ in range(2)]

    for weights in 0, 1, 0:
        mine.load_state_dict(several[weights])
        ref.load_state_dict(several[weights])
        mine.train() if weights else mine.eval()
        for B, T in (2, 4), (2, 4), (1, 30), (4, 2):
            for start_pos, count in (0, T - 1), (T - 1, 1):
                tokens = randint(0, 9, (B, count))
                what = f"B = {B}, {count} tokens at start_pos {start_pos}, after calls with other sizes and weights"
                assert_same(mine, ref, tokens, start_pos, what, tolerance=1e-4)
    with torch.no_grad():
        for module in mine, ref:
            for parameter in module.parameters():
                parameter.mul_(1.5)
    assert_same(mine, ref, randint(0, 9, (2, 4)), what="after the weights were changed in place: the logits")


def test_sequences_do_not_meet(impl, twins, randn, randint):
    """a sequence gets the same logits alone"""
    mine, _ = twins("Llama", 12, 2, 3, 1, 11, 10, max_batch=3, max_len=9)
    tokens = randint(0, 11, (3, 6))
    together = read(mine, tokens, [4, 1, 1])

    for item in range(3):
        alone = read(mine, tokens[item : item + 1], [4, 1, 1])
        assert_close(alone, together[item : item + 1], f"sequence {item} alone and in a batch of 3: the logits")
    assert_differs(together[0], together[1], "the logits of two sequences")
    assert_answers(impl, randn)


def test_leaves_tokens_and_weights_alone(impl, twins, randn, randint):
    """the tokens and the weights are the same after the call"""
    mine, _ = twins("Llama", 12, 2, 3, 1, 11, 10, max_batch=2, max_len=9)
    tokens = randint(1, 11, (2, 6))
    before = tokens.clone()
    weights = {name: tensor.clone() for name, tensor in mine.state_dict().items()}

    run(mine, tokens)
    run(mine, tokens[:, :2], 6)
    with torch.no_grad():
        run(mine, tokens)
        run(mine, tokens[:, :1], 6)

    assert_close(tokens, before, "the tokens after the calls and before them", tolerance=0.0)
    for name, tensor in mine.state_dict().items():
        assert_close(tensor, weights[name], f"{name} after the calls and before them", tolerance=0.0)
    assert_answers(impl, randn)


def test_errors_of_sizes(impl, randn):
    """sizes below 1, head counts that do not divide, and an odd head width raise ValueError"""
    assert_answers(impl, randn)  # so that refusing everything earns nothing
    names = "dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "hidden_dim", "max_batch", "max_len"
    right = dict(zip(names, (12, 2, 3, 1, 5, 7, 2, 9), strict=True))
    several = [{name: size} for name in names for size in (0, -2)]
    several += [{"n_heads": 5}, {"dim": 24, "n_heads": 6, "n_kv_heads": 4}, {"n_kv_heads": 6}, {"dim": 2, "n_heads": 4}]
    several += [{"dim": 15, "n_heads": 5}, {"dim": 3, "n_heads": 3}, {"dim": 12, "n_heads": 4, "n_kv_heads": 2}]
    for sizes in several:
        what = ", ".join(f"{name} = {size}" for name, size in (right | sizes).items())
        assert_rejects(lambda s=sizes: impl.Llama(**right | s), what, good=lambda: None)


@pytest.mark.points(2)
def test_what_does_not_fit_is_refused(impl, twins, randn, randint):
    """more tokens than max_len, or more sequences than max_batch, raise ValueError; what just fits does not"""
    assert_answers(impl, randn)
    for options, max_batch, max_len in ({"max_batch": 2, "max_len": 6}, 2, 6), ({}, 1, 128), ({"max_len": 7}, 1, 7):
        mine, _ = twins("Llama", 8, 1, 2, 1, 5, 3, **options)
        text = f"max_batch {max_batch} and max_len {max_len}" + (", the defaults" if not options else "")

        tokens = randint(0, 5, (max_batch, max_len))
        tokens[:, 0], tokens[:, -1] = 0, 1  # neighbours that differ
        logits = run(mine, tokens).detach()
        assert_shape(logits, (max_batch, max_len, 5), f"{text}: the logits of a text that just fits")
        step = run(mine, tokens[:, -1:], max_len - 1)
        what = f"{text}: the logits of the last token, at once and as a step"
        assert_close(step, logits[:, -1:], what, tolerance=1e-4)
        cases = {
            f"{max_len + 1} tokens": (1, max_len + 1, 0),
            f"2 tokens at start_pos {max_len - 1}": (1, 2, max_len - 1),
            f"1 token at start_pos {max_len}": (1, 1, max_len),
            f"{max_batch + 1} sequences": (max_batch + 1, 2, 0),
            f"{max_batch + 1} sequences at start_pos 2": (max_batch + 1, 1, 2),
        }
        for what, (B, T, start_pos) in cases.items():
            bad = randint(0, 5, (B, T))
            good = bad[:max_batch, :1]
            assert_rejects(
                lambda m=mine, t=bad, p=start_pos: run(m, t, p),
                f"{text}: {what}",
                good=lambda m=mine, t=good: run(m, t),
            )


def test_no_loop_over_tokens_or_batch(impl, twins, randn, randint):
    """the number of tensor operations does not grow with the new tokens, the cached tokens or the batch"""
    mine, _ = twins("Llama", 8, 1, 4, 2, 7, 6, max_batch=40, max_len=90)
    tokens = randint(0, 7, (40, 45))

    assert_no_loop(impl, lambda n: run(mine, tokens[:2, :n]), "new tokens")
    run(mine, tokens[:40, :40])
    assert_no_loop(impl, lambda n: run(mine, tokens[:2, :2], n), "cached tokens")
    assert_no_loop(impl, lambda n: run(mine, tokens[:n, :3], 3), "sequences")
    assert_answers(impl, randn)


def test_follows_the_device(impl, twins, randn, randint):
    """computes on the device that the model was moved to, also after calls on another one"""
    mine, _ = twins("Llama", 12, 2, 3, 1, 11, 10, max_batch=2, max_len=9)
    module = impl.Llama(12, 2, 3, 1, 11, 10, 2, 9).to("meta")  # meta stands for any accelerator
    tokens = randint(0, 11, (2, 4))
    far = tokens.to("meta")

    before = run(mine, tokens).detach()
    for where in module, mine:
        where.to("meta")
        for start_pos in 0, 4:
            what = f"the logits at start_pos {start_pos}"
            assert_follows_device(impl, lambda m=where, p=start_pos: run(m, far, p), what)
    again, _ = twins("Llama", 12, 2, 3, 1, 11, 10, max_batch=2, max_len=9)
    assert_differs(run(again, tokens), before, "the logits of another model on the CPU")
    assert_answers(impl, randn)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    generator = torch.Generator().manual_seed(0)
    sizes = 16, 2, 4, 2, 9, 10
    weights = {}
    for name, shape in shapes_of(*sizes).items():
        draw = torch.randn(shape, generator=generator)
        weights[name] = 1 + 0.3 * draw if len(shape) == 1 else 1.5 * draw / shape[1] ** 0.5
    tokens, others = torch.randint(0, 9, (2, 2, 6), generator=generator)

    def fresh(eps=1e-5, theta=30.0, **changes):
        module = impl.Llama(*sizes, max_batch=2, max_len=8, norm_eps=eps, theta=theta)
        state = module.state_dict()
        if any(state[name].shape != weight.shape for name, weight in weights.items() if name in state):
            return None
        biases = {name: torch.zeros_like(tensor) for name, tensor in state.items() if name.endswith("bias")}
        changed = {name: weight * changes.get(name.split(".")[-2], 1.0) for name, weight in weights.items()}
        module.load_state_dict({**changed, **biases}, strict=False)
        return module

    def after(*calls, **options):
        module = fresh(**options)
        return [run(module, *call).detach() for call in calls][-1]

    def two_models():
        one, other = fresh(), fresh()
        run(one, tokens[:, :5])
        run(other, others[:, :5])
        return run(one, tokens[:, 5:], 5).detach()

    def half():
        module = fresh().bfloat16()
        return str(run(module, tokens).dtype)

    def gradients(*calls):
        module = fresh()
        logits = [run(module, *call) for call in calls]
        (logits[-1] * torch.arange(1.0, 10.0)).sum().backward()
        found = {name: parameter.grad for name, parameter in module.named_parameters()}
        return [name for name, gradient in found.items() if gradient is None or not gradient.abs().sum() > 0]

    def two_backward_passes():
        module = fresh()
        for call in (tokens[:, :3], 0), (tokens[:, 3:], 3), (tokens, 0):
            run(module, *call).sum().backward()
        return "fine"

    return {
        "names": observe(
            lambda: {name: tuple(tensor.shape) for name, tensor in impl.Llama(*sizes).state_dict().items()}
        ),
        "names later": observe(lambda: sorted(fresh().state_dict())),
        "no layers": observe(lambda: after((tokens,), wo=0.0, w2=0.0)),
        "attention of one token": observe(lambda: after((tokens[:, :1],), w2=0.0)),
        "attention": observe(lambda: after((tokens,), w2=0.0)),
        "attention, nothing turned": observe(lambda: after((tokens[:, :3],), w2=0.0, wq=0.0)),
        "feed-forward": observe(lambda: after((tokens,), wo=0.0)),
        "eps": observe(lambda: after((tokens,), eps=0.7)),
        "theta": observe(lambda: after((tokens,), theta=5.0)),
        "step": observe(lambda: after((tokens[:, :5],), (tokens[:, 5:], 5))),
        "chunk": observe(lambda: after((tokens[:, :3],), (tokens[:, 3:], 3))),
        "second text": observe(lambda: after((tokens,), (others[:, :3],), (others[:, 3:4], 3))),
        "two models": observe(two_models),
        "bfloat16": observe(half),
        "gradients": observe(lambda: gradients((tokens,))),
        "gradients later": observe(two_backward_passes),
        "too long": observe(lambda: after((torch.cat((tokens, others), dim=1),))),
    }


def picture(impl):
    """Draw where the parameters of Llama 2 7B sit, and how a change of one token moves the logits after it."""
    D, L, V, F = 4096, 32, 32_000, 11_008
    shares = torch.tensor([[V * D, 4 * L * D * D, 3 * L * D * F, (2 * L + 1) * D, V * D]]) / 6_738_415_616
    T, sizes = 12, (16, 3, 4, 2, 13, 24)
    generator = torch.Generator().manual_seed(0)
    module = impl.Llama(*sizes, max_batch=T, max_len=T)
    state = {}
    for name, shape in shapes_of(*sizes).items():
        draw = torch.randn(shape, generator=generator)
        state[name] = torch.ones(shape) if len(shape) == 1 else 1.5 * draw / shape[1] ** 0.5
    module.load_state_dict(state)
    tokens = torch.arange(T)[None]
    changed = tokens.repeat(T, 1)
    changed[torch.arange(T), torch.arange(T)] = 12  # item s: token s was changed
    here, there = (run(module, several).detach() for several in (tokens, changed))
    moved = (there - here).norm(dim=-1).T.log1p()  # (T of the logits, T of the change)
    parts = "share of the parameters of Llama 2 7B: embedding, attention, feed-forward, norms, output"
    return [
        Panel(parts, shares, x_label="part", y_label=""),
        Panel("how far logits move", moved, x_label="token that was changed", y_label="token whose logits move"),
    ]
