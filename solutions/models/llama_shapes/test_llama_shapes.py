"""Hidden suite of llama_shapes: names, then the shapes part by part, the count, and the cache.

No tensor is made by what is judged; the answers are dicts and ints.
"""

import math
from collections.abc import Mapping

import pytest
import torch

from grader.judge.suite import CheckFailure, Panel, assert_rejects, describe, observe

OUTSIDE = ("tok_embeddings.weight", "norm.weight", "output.weight")
IN_A_LAYER = (
    "attention_norm.weight",
    "attention.wq.weight",
    "attention.wk.weight",
    "attention.wv.weight",
    "attention.wo.weight",
    "ffn_norm.weight",
    "feed_forward.w1.weight",
    "feed_forward.w2.weight",
    "feed_forward.w3.weight",
)
MODELS = {  # dim, n_layers, n_heads, vocab_size, and what differs from the defaults
    "Llama 2 7B": ((4096, 32, 32, 32_000), {}, 6_738_415_616),
    "Llama 2 13B": ((5120, 40, 40, 32_000), {}, 13_015_864_320),
    "LLaMA 33B": ((6656, 60, 52, 32_000), {}, 32_528_943_616),
    "LLaMA 65B": ((8192, 80, 64, 32_000), {}, 65_285_660_672),
    "Llama 2 70B": (
        (8192, 80, 64, 32_000),
        {"n_kv_heads": 8, "multiple_of": 4096, "ffn_dim_multiplier": 1.3},
        68_976_648_192,
    ),
    "Llama 3 8B": (
        (4096, 32, 32, 128_256),
        {"n_kv_heads": 8, "multiple_of": 1024, "ffn_dim_multiplier": 1.3},
        8_030_261_248,
    ),
}


def shapes_of(impl, *args, **kwargs) -> dict[str, tuple[int, ...]]:
    """Return the learner's shapes as tuples, after a check of all types."""
    found = impl.parameter_shapes(*args, **kwargs)
    if not isinstance(found, Mapping):
        raise CheckFailure(f"parameter_shapes: a dict should come back, but {came(found)} came.")
    shapes = {}
    for name, shape in found.items():
        if not isinstance(name, str):
            raise CheckFailure(f"parameter_shapes: names should be strings, but {came(name)} is one of them.")
        if not isinstance(shape, (tuple, list)):
            raise CheckFailure(f"parameter_shapes: the shape of {name} should be a tuple, but it is {came(shape)}.")
        for size in shape:
            if type(size) is not int:
                raise CheckFailure(f"parameter_shapes: the shape of {name} holds {came(size)}, but should hold ints.")
        shapes[name] = tuple(shape)
    return shapes


def came(value: object) -> str:
    return "None" if value is None else describe(value)


def assert_shapes(shapes: dict[str, tuple[int, ...]], expected: dict[str, tuple[int, ...]], what: str) -> None:
    """Check the shapes of the weights in ``expected``; others are other checks' business."""
    for name, shape in expected.items():
        if name not in shapes:
            raise CheckFailure(f"{what}: {name} is missing.")
        if shapes[name] != shape:
            raise CheckFailure(f"{what}: {name} should be {shape}, but it is {shapes[name]}.")


def assert_number(got: object, expected: int, what: str, hint: str = "") -> None:
    """Compare a count, which is a Python int."""
    if type(got) is not int:
        raise CheckFailure(f"{what}: an int should come back, but {came(got)} came.")
    if got != expected:
        raise CheckFailure(f"{what}: {expected:,} was expected, but {got:,} came. {hint}".strip())


def arguments(args: tuple[int, ...], changes: Mapping[str, object]) -> str:
    """Return ``(4096, 32, 32, 32000, n_kv_heads=8)``."""
    return "(" + ", ".join([*map(str, args), *(f"{name}={value}" for name, value in changes.items())]) + ")"


# --- names and shapes ---------------------------------------------------------------------------------------


@pytest.mark.visible
def test_names(impl):
    """the weights have the names of the published checkpoints: none is missing and none is too many"""
    for n_layers in 2, 1, 12:
        shapes = shapes_of(impl, 8, n_layers, 2, 10)

        asked = {*OUTSIDE, *(f"layers.{i}.{name}" for i in range(n_layers) for name in IN_A_LAYER)}
        missing, extra = sorted(asked - shapes.keys()), sorted(shapes.keys() - asked)
        if missing or extra:
            parts = [f"{name} is missing" for name in missing[:3]] + [f"{name} is not asked for" for name in extra[:3]]
            raise CheckFailure(f"parameter_shapes with {n_layers} layers: {', '.join(parts)}.")
        small = [name for name, shape in shapes.items() if len(shape) not in (1, 2) or min(shape) < 2]
        if small:  # all sizes of this model are 8 or more
            raise CheckFailure(f"parameter_shapes with dim = 8: {small[0]} cannot have the shape {shapes[small[0]]}.")


@pytest.mark.visible
@pytest.mark.points(2)
def test_shapes_outside_of_the_layers(impl):
    """the embeddings, the last norm and the output matrix"""
    for dim, vocab_size in (6, 11), (12, 5), (4, 4):
        shapes = shapes_of(impl, dim, 1, 2, vocab_size)

        expected = {
            "tok_embeddings.weight": (vocab_size, dim),
            "norm.weight": (dim,),
            "output.weight": (vocab_size, dim),
        }
        assert_shapes(shapes, expected, f"dim = {dim}, vocab_size = {vocab_size}")


@pytest.mark.visible
@pytest.mark.points(2)
def test_shapes_of_attention(impl):
    """queries, keys, values and their norm, with as many key/value heads as query heads and with fewer"""
    for dim, n_heads, n_kv_heads, kv_width in (
        (12, 6, None, 12),
        (12, 6, 6, 12),
        (12, 6, 3, 6),
        (12, 6, 2, 4),
        (12, 6, 1, 2),
        (20, 4, 2, 10),
        (15, 3, 1, 5),  # an odd head width is fine
        (6, 1, None, 6),
    ):
        shapes = shapes_of(impl, dim, 2, n_heads, 10, n_kv_heads)

        expected = {"attention.wq.weight": (dim, dim), "attention.wk.weight": (kv_width, dim)}
        expected |= {"attention.wv.weight": (kv_width, dim), "attention.wo.weight": (dim, dim)}
        expected |= {"attention_norm.weight": (dim,)}
        for i in 0, 1:
            layer = {f"layers.{i}.{name}": shape for name, shape in expected.items()}
            assert_shapes(shapes, layer, f"dim = {dim}, n_heads = {n_heads}, n_kv_heads = {n_kv_heads}")


@pytest.mark.visible
@pytest.mark.points(2)
def test_shapes_of_feed_forward(impl):
    """the three matrices of the feed-forward network and their norm: the hidden width is rounded up"""
    for dim, multiple_of, hidden in (6, 1, 16), (6, 16, 16), (6, 10, 20), (8, 1, 21), (8, 32, 32), (4, 256, 256):
        changes = {} if multiple_of == 256 else {"multiple_of": multiple_of}  # 256 is the default
        shapes = shapes_of(impl, dim, 2, 2, 10, **changes)

        expected = {"feed_forward.w1.weight": (hidden, dim), "feed_forward.w2.weight": (dim, hidden)}
        expected |= {"feed_forward.w3.weight": (hidden, dim), "ffn_norm.weight": (dim,)}
        for i in 0, 1:
            layer = {f"layers.{i}.{name}": shape for name, shape in expected.items()}
            assert_shapes(shapes, layer, f"dim = {dim}, multiple_of = {multiple_of}, so F = {hidden}")


@pytest.mark.visible
def test_hidden_width_with_a_multiplier(impl):
    """the multiplier comes between the rounding down and the rounding up"""
    for dim, multiple_of, multiplier, hidden in (
        (6, 1, 1.25, 20),
        (6, 10, 1.25, 20),  # 16 -> 20; rounded up before it would be 20 -> 25
        (10, 1, 1.5, 39),  # 26 -> 39; without the first rounding it would be 40
        (14, 1, 1.5, 55),  # 37 -> 55.5
        (150, 1, 1.15, 459),  # 400 -> 459.99999999999994, as Python floats have it
        (6, 7, 1.0, 21),
        (6, 1, 0.25, 4),
        (8192, 4096, 1.3, 28672),
        (4096, 1024, 1.3, 14336),
        (4096, 256, None, 11008),
    ):
        shapes = shapes_of(impl, dim, 1, 2, 10, None, multiple_of, multiplier)

        what = f"dim = {dim}, multiple_of = {multiple_of}, ffn_dim_multiplier = {multiplier}, so F = {hidden}"
        names = {"w1": (hidden, dim), "w2": (dim, hidden), "w3": (hidden, dim)}
        expected = {f"layers.0.feed_forward.{name}.weight": shape for name, shape in names.items()}
        assert_shapes(shapes, expected, what)


def test_layers_are_alike(impl, rng):
    """every layer has the same shapes, and their number changes nothing else"""
    for n_layers in 3, 11:
        n_kv_heads = rng.choice((1, 2, 4))
        dim = 4 * rng.randint(2, 9)
        shapes = shapes_of(impl, dim, n_layers, 4, 10, n_kv_heads, 8)

        what = f"dim = {dim}, n_layers = {n_layers}, n_heads = 4, n_kv_heads = {n_kv_heads}"
        first = {name: shapes.get(f"layers.0.{name}", ()) for name in IN_A_LAYER}
        for i in range(n_layers):
            assert_shapes(shapes, {f"layers.{i}.{name}": shape for name, shape in first.items()}, what)
        assert_shapes(shapes, {"layers.0.attention.wq.weight": (dim, dim)}, what)


def test_shapes_match_the_reference(impl, reference, rng):
    """all shapes of models of random sizes"""
    for multiple_of in (1, 2, 3, 32, 100, 256) * 2:
        n_kv_heads = rng.randint(1, 4)
        n_heads = n_kv_heads * rng.randint(1, 4)
        args = (n_heads * rng.randint(1, 40), rng.randint(1, 4), n_heads, rng.randint(1, 500))
        changes = {
            "n_kv_heads": rng.choice((None, n_kv_heads)),
            "multiple_of": multiple_of,
            "ffn_dim_multiplier": rng.choice((None, 1.3, 1.0, rng.uniform(0.5, 2.0))),
        }
        shapes = shapes_of(impl, *args, **changes)

        expected = reference.parameter_shapes(*args, **changes)
        assert_shapes(shapes, expected, f"parameter_shapes{arguments(args, changes)}")
        extra = sorted(shapes.keys() - expected.keys())
        if extra:
            raise CheckFailure(f"parameter_shapes{arguments(args, changes)}: {extra[0]} is not asked for.")


# --- the count ----------------------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_count_by_hand(impl):
    """the parameters of a model with one layer of width 4, worked out on paper"""
    outside = 10 * 4 + 4 + 10 * 4  # embeddings, norm, output
    attention, feed_forward = 4 + 4 * (4 * 4), 4 + 3 * (4 * 10)  # with their norms
    grouped = 4 + 2 * (4 * 4) + 2 * (2 * 4)  # one key/value head of two

    whole = outside + attention + feed_forward
    assert_number(impl.parameter_count(4, 1, 2, 10, multiple_of=1), whole, "dim = 4, F = 10, 2 heads, 10 words")
    what = "dim = 4, F = 10, 2 query heads and 1 key/value head, 10 words"
    assert_number(impl.parameter_count(4, 1, 2, 10, 1, 1), whole - attention + grouped, what)
    what = "dim = 4, F = 20, 2 heads, 10 words"
    assert_number(impl.parameter_count(4, 1, 2, 10, 2, 20), whole + 3 * 4 * 10, what)
    what = "dim = 4, F = 15 by a multiplier of 1.5, 2 heads, 10 words"
    assert_number(impl.parameter_count(4, 1, 2, 10, None, 1, 1.5), whole + 3 * 4 * 5, what)


@pytest.mark.visible
@pytest.mark.points(3)
def test_published_counts(impl):
    """the published numbers of parameters of six models, from Llama 2 7B to 70B and Llama 3 8B"""
    for model, (args, changes, published) in MODELS.items():
        found = impl.parameter_count(*args, **changes)

        off = found - published if type(found) is int else 0
        hint = f"That is {abs(off):,} too {'many' if off > 0 else 'few'}. Which weights have so many numbers?"
        assert_number(found, published, f"{model}, parameter_count{arguments(args, changes)}", hint)


def test_each_layer_and_each_word_add_the_same(impl, rng):
    """one layer more adds one layer's parameters, one word more adds 2 * dim"""
    for _ in range(3):
        n_heads, n_layers, vocab_size = 2 * rng.randint(1, 4), rng.randint(1, 20), rng.randint(1, 1000)
        dim = n_heads * rng.randint(1, 30)
        changes = {"n_kv_heads": n_heads // 2, "multiple_of": 16}
        count = impl.parameter_count(dim, n_layers, n_heads, vocab_size, **changes)
        word = impl.parameter_count(dim, n_layers, n_heads, vocab_size + 1, **changes)
        layers = [impl.parameter_count(dim, n_layers + more, n_heads, vocab_size, **changes) for more in (1, 2)]

        for number in (count, word, *layers):
            if type(number) is not int:
                raise CheckFailure(f"parameter_count: an int should come back, but {came(number)} came.")
        sizes = f"dim = {dim}, n_layers = {n_layers}, vocab_size = {vocab_size}"
        assert_number(word - count, 2 * dim, f"{sizes}: what one word more adds")
        assert_number(layers[1] - layers[0], layers[0] - count, f"{sizes}: what the second layer more adds")


def test_counts_match_the_reference(impl, reference, rng):
    """the parameters of models of random sizes"""
    for _ in range(25):
        n_kv_heads = rng.randint(1, 8)
        n_heads = n_kv_heads * rng.randint(1, 8)
        args = (n_heads * rng.randint(1, 130), rng.randint(1, 100), n_heads, rng.randint(1, 200_000))
        changes = {
            "n_kv_heads": rng.choice((None, n_kv_heads)),
            "multiple_of": rng.choice((1, 2, 3, 32, 100, 256, 4096)),
            "ffn_dim_multiplier": rng.choice((None, 1.3, 1.0, rng.uniform(0.5, 2.0))),
        }
        expected = reference.parameter_count(*args, **changes)

        assert_number(impl.parameter_count(*args, **changes), expected, f"parameter_count{arguments(args, changes)}")


# --- the cache ----------------------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_cache_by_hand(impl):
    """the cache of a small model, of Llama 2 7B and of Llama 2 70B"""
    assert_number(impl.kv_cache_bytes(1, 1, 1, 1, 1, 1), 2, "one layer, head, feature, sequence, token and byte")
    assert_number(impl.kv_cache_bytes(1, 1, 1, 1, 1), 4, "one layer, head, feature, sequence and token of 2 bytes")
    what = "2 layers, 3 key/value heads of 5 features, 7 sequences of 11 tokens, 4 bytes"
    assert_number(impl.kv_cache_bytes(2, 3, 5, 7, 11, 4), 18_480, what)
    what = "Llama 2 7B: 32 layers, 32 heads of 128 features, one sequence of 4096 tokens"
    assert_number(impl.kv_cache_bytes(32, 32, 128, 1, 4096), 2 * 1024**3, what)
    what = "Llama 2 70B: 80 layers, 8 key/value heads of 128 features, 4 sequences of 4096 tokens"
    assert_number(impl.kv_cache_bytes(80, 8, 128, batch=4, length=4096), 5 * 1024**3, what)


def test_cache_grows_with_everything(impl, rng):
    """the cache is proportional to each of its six sizes"""
    names = ("n_layers", "n_kv_heads", "head_dim", "batch", "length", "bytes_per_value")
    for _ in range(3):
        sizes = {name: rng.randint(1, 60) for name in names}
        cache = impl.kv_cache_bytes(**sizes)

        assert_number(cache, 2 * math.prod(sizes.values()), f"kv_cache_bytes{arguments((), sizes)}")
        for name in names:
            larger = sizes | {name: 3 * sizes[name]}
            what = f"kv_cache_bytes{arguments((), larger)}, three times the {name}"
            assert_number(impl.kv_cache_bytes(**larger), 3 * cache, what)


# --- errors and good manners --------------------------------------------------------------------------------


def wrong_sizes():
    """Return what is wrong -> arguments that must be refused."""
    fine = {"dim": 12, "n_layers": 2, "n_heads": 4, "vocab_size": 10, "n_kv_heads": 2, "multiple_of": 8}
    wrong = {f"{name} = {bad}": fine | {name: bad} for name in fine for bad in (0, -1, -4)}
    wrong["dim = -12 and n_heads = -4"] = fine | {"dim": -12, "n_heads": -4, "n_kv_heads": None}
    wrong["n_heads = 0 and no n_kv_heads"] = fine | {"n_heads": 0, "n_kv_heads": None}
    wrong["5 heads for a dim of 12"] = fine | {"n_heads": 5, "n_kv_heads": None}
    wrong["5 heads and 5 key/value heads for a dim of 12"] = fine | {"n_heads": 5, "n_kv_heads": 5}
    wrong["24 heads for a dim of 12"] = fine | {"n_heads": 24, "n_kv_heads": 1}
    wrong["3 key/value heads for 4 query heads"] = fine | {"n_kv_heads": 3}
    wrong["8 key/value heads for 4 query heads"] = fine | {"n_kv_heads": 8}
    return wrong


@pytest.mark.visible
def test_errors_of_shapes(impl, rng):
    """parameter_shapes refuses sizes below 1 and heads that do not divide, and an odd head width is fine"""

    def good() -> None:
        dim = 3 * rng.randint(1, 20)
        shapes = shapes_of(impl, dim, 1, 3, 10, 1)
        assert_shapes(shapes, {"tok_embeddings.weight": (10, dim)}, f"dim = {dim}, n_heads = 3, n_kv_heads = 1")

    for what, args in wrong_sizes().items():
        assert_rejects(lambda args=args: impl.parameter_shapes(**args), f"parameter_shapes with {what}", good=good)


@pytest.mark.visible
def test_errors_of_the_count(impl, rng):
    """parameter_count refuses what parameter_shapes refuses"""

    def good() -> None:
        dim = 3 * rng.randint(1, 20)
        two = [impl.parameter_count(dim, 1, 3, vocab_size, 1) for vocab_size in (10, 11)]
        if not all(type(count) is int for count in two) or two[1] <= two[0]:
            raise CheckFailure(f"parameter_count({dim}, 1, 3, vocab_size, 1) is {two[0]} and {two[1]} for 10 and 11.")

    for what, args in wrong_sizes().items():
        assert_rejects(lambda args=args: impl.parameter_count(**args), f"parameter_count with {what}", good=good)


@pytest.mark.visible
def test_errors_of_the_cache(impl, rng):
    """kv_cache_bytes refuses sizes below 1"""

    def good() -> None:
        length = rng.randint(1, 100)
        found = [impl.kv_cache_bytes(1, 1, 1, 1, n) for n in (length, 3 * length)]
        if not all(type(number) is int for number in found) or not 0 < 3 * found[0] == found[1]:
            raise CheckFailure(f"kv_cache_bytes is {found[0]} and {found[1]} for {length} and {3 * length} tokens.")

    fine = {"n_layers": 2, "n_kv_heads": 3, "head_dim": 4, "batch": 5, "length": 6, "bytes_per_value": 2}
    wrong = [{name: bad} for name in fine for bad in (0, -2)] + [{"n_layers": -2, "batch": -5}]
    for bad in wrong:
        what = " and ".join(f"{name} = {value}" for name, value in bad.items())
        assert_rejects(lambda bad=bad: impl.kv_cache_bytes(**fine | bad), what, good=good)


def test_repeated_calls(impl):
    """a call is right whatever was called before, and two calls in a row agree"""
    calls = [
        ((12, 3, 4, 10, 2, 8), {}),
        ((12, 1, 4, 10, 2, 8), {}),  # fewer layers than before
        ((12, 1, 4, 10), {}),
        ((12, 1, 4, 10), {"ffn_dim_multiplier": 1.5, "multiple_of": 1}),
        ((6, 1, 2, 7), {"multiple_of": 1}),
        ((12, 3, 4, 10, 2, 8), {}),
    ]
    for args, changes in [calls[0], *calls]:
        shapes = shapes_of(impl, *args, **changes)
        count = impl.parameter_count(*args, **changes)

        what = f"parameter_shapes{arguments(args, changes)}, after other calls"
        if len(shapes) != len(OUTSIDE) + args[1] * len(IN_A_LAYER):
            raise CheckFailure(f"{what}: {len(shapes)} weights came. Is something left from an earlier call?")
        assert_shapes(shapes, {"norm.weight": (args[0],)}, what)
        assert_number(count, sum(map(math.prod, shapes.values())), f"{what}: parameter_count, and the shapes' own sum")


# --- diagnosis and picture ----------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart; numbers in tensors, so that likeness can be seen."""
    models = [((12, 2, 6, 10, 2, 8, 1.5), {}), ((20, 1, 2, 7), {"multiple_of": 1}), ((16, 1, 4, 9, 4, 32, 1.25), {})]

    def names():
        return sorted(impl.parameter_shapes(*models[0][0]))

    def shapes():
        rows = []
        for args, changes in models:
            found = impl.parameter_shapes(*args, **changes)
            rows += [[float(size) for size in (*found[name], 0, 0)][:2] for name in sorted(found)]
        return torch.tensor(rows)

    def counts():
        return torch.tensor([float(impl.parameter_count(*args, **changes)) for args, changes in models])

    def types():
        numbers = impl.parameter_count(*models[0][0]), impl.kv_cache_bytes(1, 2, 3, 4, 5)
        return [type(number).__name__ for number in numbers]

    def caches():
        calls = (2, 3, 5, 7, 11, 4), (32, 32, 128, 1, 4096), (1, 1, 1, 1, 1, 1)
        return torch.tensor([float(impl.kv_cache_bytes(*args)) for args in calls])

    return {
        "names": observe(names),
        "shapes": observe(shapes),
        "counts": observe(counts),
        "types": observe(types),
        "caches": observe(caches),
    }


def picture(impl) -> list[Panel]:
    """Draw in which parts of four models the parameters sit, and how their caches grow."""
    drawn = ("Llama 2 7B", "Llama 2 13B", "Llama 2 70B", "Llama 3 8B")
    parts = ("tok_embeddings", "attention.wq", "attention.wk", "attention.wv", "attention.wo")
    parts += ("feed_forward.w1", "feed_forward.w2", "feed_forward.w3", "norm.", "output")
    shares, caches = [], []
    for model in drawn:
        args, changes, _ = MODELS[model]
        sizes = {name: math.prod(shape) for name, shape in impl.parameter_shapes(*args, **changes).items()}
        shares.append(
            [100 * sum(n for name, n in sizes.items() if part in name) / sum(sizes.values()) for part in parts]
        )
        dim, n_layers, n_heads, _ = args
        heads = changes.get("n_kv_heads", n_heads)
        lengths = range(1024, 32_769, 1024)
        caches.append([impl.kv_cache_bytes(n_layers, heads, dim // n_heads, 1, n) / 2**30 for n in lengths])
    return [
        Panel(
            f"Per cent of the parameters: {', '.join(drawn)}",
            torch.tensor(shares),
            "heatmap",
            "embeddings, wq, wk, wv, wo, w1, w2, w3, norms, output",
            "model",
        ),
        Panel(
            "Cache of one sequence in 16 bits",
            torch.tensor(caches),
            "lines",
            "tokens, from 1024 to 32768 in steps of 1024",
            "GiB",
            drawn,
        ),
    ]
