"""The reference of llama_shapes against transformers' Llama, published counts and published files."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch

SOLUTION = Path(__file__).parents[2] / "solutions" / "models" / "llama_shapes" / "solution.py"
LLAMA_2_7B = {"dim": 4096, "n_layers": 32, "n_heads": 32, "vocab_size": 32_000}
LLAMA_2_13B = {"dim": 5120, "n_layers": 40, "n_heads": 40, "vocab_size": 32_000}
LLAMA_2_70B = {
    "dim": 8192,
    "n_layers": 80,
    "n_heads": 64,
    "vocab_size": 32_000,
    "n_kv_heads": 8,
    "multiple_of": 4096,
    "ffn_dim_multiplier": 1.3,
}
LLAMA_3_8B = {
    "dim": 4096,
    "n_layers": 32,
    "n_heads": 32,
    "vocab_size": 128_256,
    "n_kv_heads": 8,
    "multiple_of": 1024,
    "ffn_dim_multiplier": 1.3,
}
LLAMA_3_405B = {
    "dim": 16_384,
    "n_layers": 126,
    "n_heads": 128,
    "vocab_size": 128_256,
    "n_kv_heads": 8,
    "multiple_of": 4096,
    "ffn_dim_multiplier": 1.2,
}
NAMES_OF_HUGGING_FACE = {
    "tok_embeddings": "model.embed_tokens",
    "norm": "model.norm",
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


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("llama_shapes_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def renamed(name):
    """Return the name of a weight in Hugging Face's files."""
    part = name.removesuffix(".weight")
    if part.startswith("layers."):
        _, number, part = part.split(".", 2)
        return f"model.layers.{number}.{NAMES_OF_HUGGING_FACE[part]}.weight"
    return f"{NAMES_OF_HUGGING_FACE[part]}.weight"


@pytest.mark.parametrize(
    ("model", "published"),
    [
        (LLAMA_2_7B, 6_738_415_616),
        (LLAMA_2_13B, 13_015_864_320),
        (LLAMA_2_70B, 68_976_648_192),
        (LLAMA_3_8B, 8_030_261_248),
        (LLAMA_3_405B, 405_853_388_800),
        ({"dim": 6656, "n_layers": 60, "n_heads": 52, "vocab_size": 32_000}, 32_528_943_616),
        ({"dim": 8192, "n_layers": 80, "n_heads": 64, "vocab_size": 32_000}, 65_285_660_672),
    ],
)
def test_count_is_the_published_one(solution, model, published):
    assert solution.parameter_count(**model) == published


@pytest.mark.parametrize(
    ("sizes", "hidden"),
    [
        (LLAMA_2_7B | {"n_layers": 2}, 11_008),
        (LLAMA_2_70B | {"n_layers": 2}, 28_672),
        (LLAMA_3_8B | {"n_layers": 11}, 14_336),
        ({"dim": 12, "n_layers": 2, "n_heads": 6, "vocab_size": 7, "n_kv_heads": 2, "multiple_of": 5}, 35),
    ],
)
def test_shapes_and_count_are_those_of_transformers(solution, sizes, hidden):
    """The model is made on the meta device: only its shapes exist."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        hidden_size=sizes["dim"],
        intermediate_size=hidden,
        num_hidden_layers=sizes["n_layers"],
        num_attention_heads=sizes["n_heads"],
        num_key_value_heads=sizes.get("n_kv_heads", sizes["n_heads"]),
        vocab_size=sizes["vocab_size"],
        tie_word_embeddings=False,
    )
    with torch.device("meta"):
        theirs = transformers.LlamaForCausalLM(config)

    shapes = solution.parameter_shapes(**sizes)

    assert {renamed(name): shape for name, shape in shapes.items()} == {
        name: tuple(weight.shape) for name, weight in theirs.named_parameters()
    }
    assert solution.parameter_count(**sizes) == sum(weight.numel() for weight in theirs.parameters())


def test_cache_is_that_of_transformers(solution):
    """Two layers of three key/value heads of 4 numbers, for 5 sequences of 7 tokens."""
    cache = pytest.importorskip("transformers").DynamicCache()
    for layer in range(2):
        cache.update(*(torch.zeros(5, 3, 7, 4, dtype=torch.bfloat16) for _ in range(2)), layer)

    held = [tensor for layer in cache.layers for tensor in (layer.keys, layer.values)]

    assert solution.kv_cache_bytes(2, 3, 4, 5, 7) == sum(t.numel() * t.element_size() for t in held)


def test_cache_of_llama_2(solution):
    """Half a mebibyte per token for 7B, as is often quoted; with 8 key/value heads for 64 query heads an eighth."""
    assert solution.kv_cache_bytes(32, 32, 128, 1, 1) == 2**19
    assert solution.kv_cache_bytes(80, 64, 128, 1, 4096) == 8 * solution.kv_cache_bytes(80, 8, 128, 1, 4096)


def test_answers_of_the_follow_up_questions(solution):
    """The numbers that the exercise's own answers give."""
    shapes = solution.parameter_shapes(**LLAMA_2_7B)
    whole = solution.parameter_count(**LLAMA_2_7B)

    def share(part):
        return sum(math.prod(shape) for name, shape in shapes.items() if part in name) / whole

    assert round(100 * share("feed_forward")) == 64
    assert round(100 * share("attention.w")) == 32
    assert round(100 * share("output")) == round(100 * share("tok_embeddings")) == 2
    assert round(whole * share("norm")) == 266_240
    assert round(12 * 32 * 4096**2 / 1e9, 1) == 6.4
    assert 2 * whole // solution.kv_cache_bytes(32, 32, 128, 1, 1) == 25_705
    full = {name: value for name, value in LLAMA_2_70B.items() if name != "n_kv_heads"}
    assert round((solution.parameter_count(**full) - solution.parameter_count(**LLAMA_2_70B)) / 1e9, 1) == 9.4
    assert solution.kv_cache_bytes(80, 8, 128, 1, 4096) == 1.25 * 2**30
