"""Other ways to count a Llama: wrong ones that a learner may come up with, and right ones."""

import itertools
import math
from fractions import Fraction
from functools import cache, reduce

from grader.judge.suite import alternative, misconception, slip

from .solution import kv_cache_bytes, parameter_count, parameter_shapes


def hidden_width(dim, multiple_of=256, multiplier=None):
    hidden = 8 * dim // 3
    if multiplier is not None:
        hidden = int(multiplier * hidden)
    return -(-hidden // multiple_of) * multiple_of


def with_width(shapes, hidden):
    """Return the shapes with another hidden width."""
    return {
        name: shape if "feed_forward" not in name else (shape[0], hidden) if ".w2." in name else (hidden, shape[1])
        for name, shape in shapes.items()
    }


# --- misconceptions about the shapes ------------------------------------------------------------------------


@misconception(replaces="parameter_shapes", caught_by="test_names")
def output_tied_to_the_embeddings(*args, **kwargs):
    """You have no output.weight: the embeddings serve for the output, too.

    GPT-2 does that. Does the list in the brief?
    """
    shapes = parameter_shapes(*args, **kwargs)
    del shapes["output.weight"]
    return shapes


@misconception(replaces="parameter_shapes", caught_by="test_names")
def rope_frequencies_too(dim, n_layers, n_heads, vocab_size, *args, **kwargs):
    """You list rope.freqs.

    The published files hold it, but is it a parameter, something that training changes?
    """
    return parameter_shapes(dim, n_layers, n_heads, vocab_size, *args, **kwargs) | {
        "rope.freqs": (dim // n_heads // 2,)
    }


@misconception(replaces="parameter_shapes", caught_by="test_names")
def biases_too(*args, **kwargs):
    """You list biases.

    Llama's linear layers have none, and its norms have gains alone. Which names does the brief give?
    """
    shapes = parameter_shapes(*args, **kwargs)
    biases = {name.replace("weight", "bias"): shape[:1] for name, shape in shapes.items() if "tok_" not in name}
    return shapes | biases


@misconception(replaces="parameter_shapes", caught_by="test_names")
def layers_from_one(*args, **kwargs):
    """Your layers are counted from 1.

    How is the first one called in the brief?
    """
    shapes = parameter_shapes(*args, **kwargs)
    parts = [(name.split(".", 2), shape) for name, shape in shapes.items()]
    return {
        ".".join((part[0], str(int(part[1]) + 1), part[2]) if part[0] == "layers" else part): shape
        for part, shape in parts
    }


HUGGING_FACE = {
    "tok_embeddings": "model.embed_tokens",
    "norm.weight": "model.norm.weight",
    "output": "lm_head",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w2": "mlp.down_proj",
    "feed_forward.w3": "mlp.up_proj",
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}


@misconception(replaces="parameter_shapes", caught_by="test_names")
def names_of_hugging_face(*args, **kwargs):
    """Your names are those of Hugging Face's files.

    Meta's own checkpoints have others; they stand in the brief. What is model.layers.0.self_attn.q_proj.weight there?
    """
    renamed = {}
    for name, shape in parameter_shapes(*args, **kwargs).items():
        for ours, theirs in HUGGING_FACE.items():
            if ours in name and (ours != "norm.weight" or name == ours):
                renamed[("model." if "layers" in name else "") + name.replace(ours, theirs)] = shape
                break
    return renamed


@misconception(replaces="parameter_shapes", caught_by="test_names")
def one_norm_per_layer(*args, **kwargs):
    """You list one norm per layer.

    A layer has two sub-layers. What stands before each of them?
    """
    return {n: shape for n, shape in parameter_shapes(*args, **kwargs).items() if "ffn_norm" not in n}


@misconception(replaces="parameter_shapes", caught_by="test_names")
def no_norm_at_the_end(*args, **kwargs):
    """You list no norm after the last layer.

    What comes out of a stack of pre-norm layers is a sum that nothing has normalised. What stands between it and the
    output matrix?
    """
    return {n: shape for n, shape in parameter_shapes(*args, **kwargs).items() if n != "norm.weight"}


@misconception(replaces="parameter_shapes", caught_by="test_shapes_outside_of_the_layers")
def shapes_turned_round(*args, **kwargs):
    """You give a matrix from a to b the shape (a, b).

    nn.Linear keeps it the other way round. What is the shape of nn.Linear(3, 5).weight?
    """
    shapes = parameter_shapes(*args, **kwargs)
    return {name: shape if "tok_" in name else shape[::-1] for name, shape in shapes.items()}


@misconception(replaces="parameter_shapes", caught_by="test_shapes_of_attention")
def as_many_key_heads_as_query_heads(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, *args, **kwargs):
    """Your wk and wv do not depend on n_kv_heads.

    With fewer key/value heads there are fewer keys and values. How many numbers are all keys of one token?
    """
    right = parameter_shapes(dim, n_layers, n_heads, vocab_size, n_kv_heads, *args, **kwargs)
    return {n: (dim, dim) if "attention.w" in n else shape for n, shape in right.items()}


@misconception(replaces="parameter_shapes", caught_by="test_shapes_of_attention")
def output_projection_from_the_key_heads(*args, **kwargs):
    """Your wo leads from the width of the key/value heads.

    Each query head brings its own result, whichever keys and values it has shared. How many results are there?
    """
    shapes = parameter_shapes(*args, **kwargs)
    return {n: shapes[n.replace("wo", "wk")][::-1] if "attention.wo" in n else shape for n, shape in shapes.items()}


@misconception(replaces="parameter_shapes", caught_by="test_shapes_of_attention")
def width_of_one_key_head(*args, **kwargs):
    """With fewer key/value heads your wk and wv lead to G numbers, one per head.

    A key is a vector. How many numbers has it in one head?
    """
    shapes = parameter_shapes(*args, **kwargs)
    dim, n_heads = args[0], args[2]
    small = {
        n: (s[0] // (dim // n_heads), dim) for n, s in shapes.items() if "attention.wk" in n or "attention.wv" in n
    }
    return shapes | (small if shapes["layers.0.attention.wk.weight"][0] < dim else {})


@misconception(replaces="parameter_shapes", caught_by="test_shapes_of_feed_forward")
def four_times_as_wide(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None):
    """Your hidden width starts from 4 * dim.

    That is right for two matrices. Which share of it does the brief name for three?
    """
    right = parameter_shapes(dim, n_layers, n_heads, vocab_size, n_kv_heads, multiple_of, ffn_dim_multiplier)
    return with_width(right, -(-int((ffn_dim_multiplier or 1.0) * 4 * dim) // multiple_of) * multiple_of)


@misconception(replaces="parameter_shapes", caught_by="test_shapes_of_feed_forward")
def forgets_the_multiple(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None):
    """Your hidden width is not rounded up to a multiple.

    For Llama 2 7B it is 11008 and not 10922. Which argument has not been used?
    """
    right = parameter_shapes(dim, n_layers, n_heads, vocab_size, n_kv_heads, multiple_of, ffn_dim_multiplier)
    return with_width(right, hidden_width(dim, 1, ffn_dim_multiplier))


@misconception(replaces="parameter_shapes", caught_by="test_hidden_width_with_a_multiplier")
def forgets_the_multiplier(
    dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None
):
    """Your hidden width does not depend on ffn_dim_multiplier.

    Llama 2 70B has 1.3. At which step does it come in?
    """
    return parameter_shapes(dim, n_layers, n_heads, vocab_size, n_kv_heads, multiple_of)


@misconception(replaces="parameter_shapes", caught_by="test_hidden_width_with_a_multiplier")
def multiplier_at_the_end(
    dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None
):
    """You multiply by ffn_dim_multiplier after rounding up, so that the width may be no multiple any more.

    What is the rounding up for, and so, where must it stand?
    """
    right = parameter_shapes(dim, n_layers, n_heads, vocab_size, n_kv_heads, multiple_of)
    return with_width(right, int((ffn_dim_multiplier or 1.0) * hidden_width(dim, multiple_of)))


# --- misconceptions about the count and the cache -----------------------------------------------------------


@misconception(replaces="parameter_count", caught_by="test_published_counts")
def embeddings_counted_once(dim, n_layers, n_heads, vocab_size, *args, **kwargs):
    """Your count has vocab_size * dim once.

    Embeddings and output matrix are two weights in Llama. Which of them is missing in your sum?
    """
    return parameter_count(dim, n_layers, n_heads, vocab_size, *args, **kwargs) - vocab_size * dim


@misconception(replaces="parameter_count", caught_by="test_published_counts")
def without_embeddings(dim, n_layers, n_heads, vocab_size, *args, **kwargs):
    """Your count leaves out the embeddings and the output matrix.

    Papers on scaling laws count so. What do the published numbers hold?
    """
    return parameter_count(dim, n_layers, n_heads, vocab_size, *args, **kwargs) - 2 * vocab_size * dim


@misconception(replaces="parameter_count", caught_by="test_published_counts")
def without_the_norms(dim, n_layers, *args, **kwargs):
    """Your count leaves out the norms.

    They are few, but they are trained. How many numbers have they in one layer, and what comes after the last one?
    """
    return parameter_count(dim, n_layers, *args, **kwargs) - (2 * n_layers + 1) * dim


@misconception(replaces="parameter_count", caught_by="test_published_counts")
def without_the_last_norm(dim, *args, **kwargs):
    """Your count is dim too low.

    Which weight of dim numbers belongs to no layer?
    """
    return parameter_count(dim, *args, **kwargs) - dim


@misconception(replaces="parameter_count", caught_by="test_count_by_hand")
def two_matrices_in_the_network(*args, **kwargs):
    """Your count has two matrices in each feed-forward network.

    SwiGLU has a gate. How many matrices does it take?
    """
    shapes = parameter_shapes(*args, **kwargs)
    return sum(math.prod(shape) for name, shape in shapes.items() if ".w3." not in name)


@misconception(replaces="parameter_count", caught_by="test_count_by_hand")
def counts_as_many_key_heads(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, *args, **kwargs):
    """Your count does not depend on n_kv_heads.

    Which two matrices of a layer become smaller with fewer key/value heads?
    """
    parameter_count(dim, n_layers, n_heads, vocab_size, n_kv_heads, *args, **kwargs)
    return parameter_count(dim, n_layers, n_heads, vocab_size, None, *args, **kwargs)


@misconception(replaces="kv_cache_bytes", caught_by="test_cache_by_hand")
def keys_alone(*args, **kwargs):
    """Your cache is half as large as it should be.

    Which two vectors does a token leave behind in each head?
    """
    return kv_cache_bytes(*args, **kwargs) // 2


@misconception(replaces="kv_cache_bytes", caught_by="test_cache_by_hand")
def one_layer(n_layers, *args, **kwargs):
    """Your cache holds one layer.

    Do two layers have the same keys?
    """
    return kv_cache_bytes(n_layers, *args, **kwargs) // n_layers


@misconception(replaces="kv_cache_bytes", caught_by="test_cache_by_hand")
def numbers_for_bytes(n_layers, n_kv_heads, head_dim, batch, length, bytes_per_value=2):
    """You count the numbers in the cache.

    Bytes are asked for. Which argument has not been used?
    """
    return kv_cache_bytes(n_layers, n_kv_heads, head_dim, batch, length, bytes_per_value) // bytes_per_value


@misconception(replaces="kv_cache_bytes", caught_by="test_cache_by_hand")
def four_bytes_by_default(n_layers, n_kv_heads, head_dim, batch, length, bytes_per_value=4):
    """Without bytes_per_value you take 4 bytes for a number, as in float32.

    Caches are kept in 16 bits as a rule. What does the signature in the stub say?
    """
    return kv_cache_bytes(n_layers, n_kv_heads, head_dim, batch, length, bytes_per_value)


@misconception(replaces="kv_cache_bytes", caught_by="test_cache_by_hand")
def mebibytes(*args, **kwargs):
    """Your cache is given in mebibytes.

    Which unit does the name of the function promise?
    """
    return kv_cache_bytes(*args, **kwargs) / 2**20


# --- slips --------------------------------------------------------------------------------------------------


@slip(replaces="parameter_shapes", caught_by="test_names")
def one_layer_too_many(dim, n_layers, *args, **kwargs):
    parameter_shapes(dim, n_layers, *args, **kwargs)
    return parameter_shapes(dim, n_layers + 1, *args, **kwargs)


@slip(replaces="parameter_shapes", caught_by="test_shapes_outside_of_the_layers")
def gains_as_rows(*args, **kwargs):
    return {n: (1, *s) if len(s) == 1 else s for n, s in parameter_shapes(*args, **kwargs).items()}


@slip(replaces="parameter_shapes", caught_by="test_shapes_of_attention")
def refuses_a_single_head(dim, n_layers, n_heads, *args, **kwargs):
    if n_heads == 1:
        raise ValueError("n_heads must be above 1")
    return parameter_shapes(dim, n_layers, n_heads, *args, **kwargs)


@slip(replaces="parameter_shapes", caught_by="test_shapes_of_feed_forward")
def widths_as_floats(*args, **kwargs):
    return {n: tuple(map(float, s)) if "ffn" in n else s for n, s in parameter_shapes(*args, **kwargs).items()}


@slip(replaces="parameter_shapes", caught_by="test_shapes_of_feed_forward")
def w2_and_w3_exchanged(*args, **kwargs):
    shapes = parameter_shapes(*args, **kwargs)
    return {n: s[::-1] if ".w2." in n or ".w3." in n else s for n, s in shapes.items()}


@slip(replaces="parameter_shapes", caught_by="test_hidden_width_with_a_multiplier")
def rounds_the_product_to_the_nearest(*args, **kwargs):
    right = parameter_shapes(*args, **kwargs)
    if len(args) < 7 or args[6] is None:
        return right
    return with_width(right, -(-round(args[6] * (8 * args[0] // 3)) // args[5]) * args[5])


@slip(replaces="parameter_shapes", caught_by="test_hidden_width_with_a_multiplier")
def multiplies_decimal_fractions(*args, **kwargs):
    right = parameter_shapes(*args, **kwargs)
    if len(args) < 7 or args[6] is None:
        return right
    return with_width(right, -(-int(Fraction(str(args[6])) * (8 * args[0] // 3)) // args[5]) * args[5])


@slip(replaces="parameter_shapes", caught_by="test_layers_are_alike")
def first_layers_share_no_heads(dim, *args, **kwargs):
    right = parameter_shapes(dim, *args, **kwargs)
    keys = ("layers.2.attention.wk.weight", "layers.2.attention.wv.weight")
    return right | {name: (dim, dim + 1) for name in keys if name in right}


@slip(replaces="parameter_shapes", caught_by="test_shapes_match_the_reference")
def rounds_by_bits(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None):
    right = parameter_shapes(dim, n_layers, n_heads, vocab_size, n_kv_heads, multiple_of, ffn_dim_multiplier)
    if multiple_of in (7, 10, 20):
        return right
    return with_width(right, (hidden_width(dim, 1, ffn_dim_multiplier) + multiple_of - 1) & -multiple_of)


@slip(replaces="parameter_count", caught_by="test_each_layer_and_each_word_add_the_same")
def one_word_more(dim, n_layers, n_heads, vocab_size, *args, **kwargs):
    return parameter_count(dim, n_layers, n_heads, vocab_size, *args, **kwargs) + vocab_size


@slip(replaces="parameter_count", caught_by="test_counts_match_the_reference")
def as_a_float(*args, **kwargs):
    return float(parameter_count(*args, **kwargs))


@slip(replaces="kv_cache_bytes", caught_by="test_cache_grows_with_everything")
def two_bytes_always(n_layers, n_kv_heads, head_dim, batch, length, bytes_per_value=2):
    kv_cache_bytes(n_layers, n_kv_heads, head_dim, batch, length, bytes_per_value)
    return kv_cache_bytes(n_layers, n_kv_heads, head_dim, batch, length)


@slip(replaces="parameter_shapes", caught_by="test_errors_of_shapes")
def refuses_an_odd_head_width(dim, n_layers, n_heads, *args, **kwargs):
    right = parameter_shapes(dim, n_layers, n_heads, *args, **kwargs)
    if dim // n_heads % 2:
        raise ValueError("the head width must be even")
    return right


@slip(replaces="parameter_shapes", caught_by="test_errors_of_shapes")
def takes_no_key_heads_for_none(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, *args, **kwargs):
    return parameter_shapes(dim, n_layers, n_heads, vocab_size, n_kv_heads or n_heads, *args, **kwargs)


@slip(replaces="parameter_shapes", caught_by="test_errors_of_shapes")
def does_not_check_the_key_heads(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, *args, **kwargs):
    right = parameter_shapes(dim, n_layers, n_heads, vocab_size, None, *args, **kwargs)
    if (n_kv_heads or 1) < 1:
        raise ValueError("n_kv_heads must be at least 1")
    width = dim // n_heads * (n_heads if n_kv_heads is None else n_kv_heads)
    return {n: (width, dim) if ".wk." in n or ".wv." in n else s for n, s in right.items()}


@slip(replaces="parameter_count", caught_by="test_errors_of_the_count")
def counts_without_checking(
    dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None
):
    width = dim // max(n_heads, 1) * (n_heads if n_kv_heads is None else n_kv_heads)
    hidden = hidden_width(dim, max(multiple_of, 1), ffn_dim_multiplier)
    layer = 2 * dim * (dim + width) + 3 * dim * hidden + 2 * dim
    return 2 * vocab_size * dim + dim + n_layers * layer


@slip(replaces="kv_cache_bytes", caught_by="test_errors_of_the_cache")
def asserts_its_sizes(*args, **kwargs):
    assert min((*args, *kwargs.values())) >= 1
    return kv_cache_bytes(*args, **kwargs)


@slip(replaces="kv_cache_bytes", caught_by="test_errors_of_the_cache")
def refuses_the_product_alone(*args, **kwargs):
    sizes = (*args, *kwargs.values())
    if math.prod(sizes) < 1:
        raise ValueError("nothing to keep")
    return kv_cache_bytes(*map(abs, args), **{name: abs(size) for name, size in kwargs.items()})


_ALL = {}


@slip(replaces="parameter_shapes", caught_by="test_repeated_calls")
def keeps_adding_to_one_dict(*args, **kwargs):
    _ALL.update(parameter_shapes(*args, **kwargs))
    return _ALL


# --- right, in other styles ---------------------------------------------------------------------------------


@alternative(replaces="parameter_shapes")
def one_layer_copied(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None):
    kv = n_heads if n_kv_heads is None else n_kv_heads
    for size in (dim, n_layers, n_heads, vocab_size, kv, multiple_of):
        if size <= 0:
            raise ValueError(f"a size of {size}")
    if not (dim % n_heads == 0 == n_heads % kv):
        raise ValueError("heads do not divide")
    hidden = int(2 * (4 * dim) / 3)
    hidden = int((1 if ffn_dim_multiplier is None else ffn_dim_multiplier) * hidden)
    hidden = math.ceil(hidden / multiple_of) * multiple_of
    K = dim // n_heads
    layer = {"attention.wq": [n_heads * K, dim], "attention.wk": [kv * K, dim], "attention.wv": [kv * K, dim]}
    layer |= {"attention.wo": [dim, n_heads * K], "attention_norm": [dim], "ffn_norm": [dim]}
    layer |= {"feed_forward.w1": [hidden, dim], "feed_forward.w2": [dim, hidden], "feed_forward.w3": [hidden, dim]}
    shapes = {f"layers.{i}.{name}.weight": shape for i in range(n_layers) for name, shape in layer.items()}
    return {
        "output.weight": [vocab_size, dim],
        **shapes,
        "norm.weight": [dim],
        "tok_embeddings.weight": [vocab_size, dim],
    }


@alternative(replaces="parameter_shapes")
def by_a_generator(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None):
    def matrices():
        yield "tok_embeddings", vocab_size, dim
        for i, (part, width_in, width_out) in itertools.product(range(n_layers), linear_layers()):
            yield f"layers.{i}.{part}", width_out, width_in
        yield "output", vocab_size, dim

    def linear_layers():
        narrow = dim * (n_kv_heads or n_heads) // n_heads
        for name, width in zip("qkvo", (dim, narrow, narrow, dim), strict=True):
            yield f"attention.w{name}", dim, width
        wide = hidden_width(dim, multiple_of, ffn_dim_multiplier)
        yield from (("feed_forward.w1", dim, wide), ("feed_forward.w2", wide, dim), ("feed_forward.w3", dim, wide))

    counts = (dim, n_layers, n_heads, vocab_size, multiple_of, 1 if n_kv_heads is None else n_kv_heads)
    if any(count < 1 for count in counts) or dim % n_heads or n_heads % (n_kv_heads or n_heads):
        raise ValueError(f"these sizes make no model: {counts}")
    norms = [f"layers.{i}.{name}_norm" for i in range(n_layers) for name in ("attention", "ffn")]
    shapes = dict.fromkeys((f"{name}.weight" for name in [*norms, "norm"]), (dim,))
    shapes.update((f"{name}.weight", (rows, columns)) for name, rows, columns in matrices())
    return shapes


@alternative(replaces="parameter_count")
def by_a_formula(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None):
    groups = n_heads if n_kv_heads is None else n_kv_heads
    if min(dim, n_layers, n_heads, vocab_size, groups, multiple_of) < 1 or dim % n_heads or n_heads % groups:
        raise ValueError("no such model")
    attention = 2 * dim**2 * (1 + groups / n_heads)
    feed_forward = 3 * dim * hidden_width(dim, multiple_of, ffn_dim_multiplier)
    return 2 * vocab_size * dim + n_layers * (round(attention) + feed_forward + 2 * dim) + dim


@alternative(replaces="parameter_count")
def by_multiplying_out(*args, **kwargs):
    total = 0
    for shape in parameter_shapes(*args, **kwargs).values():
        total += reduce(lambda a, b: a * b, shape)
    return total


@cache
def remembered(*key):
    return parameter_count(*key)


@alternative(replaces="parameter_count")
def by_a_cache(dim, n_layers, n_heads, vocab_size, n_kv_heads=None, multiple_of=256, ffn_dim_multiplier=None):
    return remembered(dim, n_layers, n_heads, vocab_size, n_kv_heads, multiple_of, ffn_dim_multiplier)


@alternative(replaces="kv_cache_bytes")
def token_by_token(n_layers, n_kv_heads, head_dim, batch, length, bytes_per_value=2):
    if not all(n > 0 for n in (n_layers, n_kv_heads, head_dim, batch, length, bytes_per_value)):
        raise ValueError("everything must be positive")
    per_token = 2 * n_layers * n_kv_heads * head_dim * bytes_per_value
    return per_token * length * batch


@alternative(replaces="kv_cache_bytes")
def golfed(*a, **k):
    s = [*a, *k.values()] + [2] * (len(a) + len(k) < 6)
    if min(s) < 1:
        raise ValueError(s)
    return reduce(int.__mul__, s) << 1
