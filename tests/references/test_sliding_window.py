"""The reference of sliding_window against PyTorch's attention, Hugging Face's masks for Mistral, and plain loops."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "sliding_window" / "solution.py"
SIZES = [(1, 1), (1, 4), (6, 1), (6, 2), (6, 5), (6, 6), (6, 7), (9, 4)]  # length, window


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("sliding_window_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("length", "window"), SIZES)
def test_mask_entry_by_entry(solution, length, window):
    mask = solution.sliding_window_mask(length, window)

    assert mask.dtype == torch.bool
    assert mask.tolist() == [[j in range(max(0, i + 1 - window), i + 1) for j in range(length)] for i in range(length)]


@pytest.mark.parametrize(("length", "window"), SIZES)
def test_mask_is_that_of_mistral(solution, length, window):
    """The rule that Hugging Face's Mistral hands to its attention, asked for every pair of tokens."""
    masking = pytest.importorskip("transformers.masking_utils")
    allowed = masking.sliding_window_causal_mask_function(window)

    theirs = [[bool(allowed(0, 0, torch.tensor(i), torch.tensor(j))) for j in range(length)] for i in range(length)]

    assert solution.sliding_window_mask(length, window).tolist() == theirs


@pytest.mark.parametrize(("length", "window"), SIZES)
def test_output_and_gradients_equal_scaled_dot_product_attention(solution, length, window):
    q, k, v = (draw(2, 3, length, 5, seed=n).requires_grad_() for n in range(3))
    mask = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)
    cotangent = draw(2, 3, length, 5, seed=3)

    output = solution.sliding_window_attention(q, k, v, window)

    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert_equal(output, expected)
    assert_equal(torch.autograd.grad(output, (q, k, v), cotangent), torch.autograd.grad(expected, (q, k, v), cotangent))


@pytest.mark.parametrize("window", [1, 2, 4, 20])
def test_output_number_by_number(solution, window):
    q, k, v = (draw(1, 2, 5, 3, seed=n) for n in range(3))
    expected = torch.empty_like(v)
    for h in range(2):
        for i in range(5):
            seen = range(max(0, i - window + 1), i + 1)
            powers = [
                math.exp(sum(q[0, h, i, c].item() * k[0, h, j, c].item() for c in range(3)) / math.sqrt(3))
                for j in seen
            ]
            for c in range(3):
                total = sum(p * v[0, h, j, c].item() for p, j in zip(powers, seen, strict=True))
                expected[0, h, i, c] = total / sum(powers)

    assert_equal(solution.sliding_window_attention(q, k, v, window), expected)


def test_equals_the_attention_of_mistral(solution):
    """One attention layer of Hugging Face's Mistral, its positions taken out: cos = 1, sin = 0."""
    mistral = pytest.importorskip("transformers.models.mistral.modeling_mistral")
    config = mistral.MistralConfig(
        hidden_size=12, num_attention_heads=3, num_key_value_heads=3, sliding_window=3, attn_implementation="eager"
    )
    layer = mistral.MistralAttention(config, 0).double().eval()
    x, B, T = draw(2, 7, 12), 2, 7
    mask = torch.zeros(T, T, dtype=torch.float64).masked_fill(~solution.sliding_window_mask(T, 3), -math.inf)
    unturned = torch.ones(B, T, 4, dtype=torch.float64), torch.zeros(B, T, 4, dtype=torch.float64)

    expected = layer(x, position_embeddings=unturned, attention_mask=mask.expand(B, 1, T, T))[0]

    q, k, v = (w(x).view(B, T, 3, 4).transpose(1, 2) for w in (layer.q_proj, layer.k_proj, layer.v_proj))
    ours = layer.o_proj(solution.sliding_window_attention(q, k, v, 3).transpose(1, 2).flatten(2))
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-6)  # theirs takes its softmax in float32
