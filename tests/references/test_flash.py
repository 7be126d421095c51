"""The reference of flash against PyTorch's attention, and against the paper's algorithm number by number."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "flash" / "solution.py"
BLOCKS = [1, 2, 3, 4, 7, 8, 9, 100]


@pytest.fixture(scope="module")
def flash_attention():
    spec = importlib.util.spec_from_file_location("flash_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.flash_attention


def draw(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def inputs(B, H, T, S, K):
    return [draw(B, H, n, K, seed=seed).requires_grad_() for seed, n in enumerate((T, S, S))]


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize(("T", "S"), [(1, 1), (4, 7), (8, 8), (9, 4)])
def test_output_and_gradients_equal_scaled_dot_product_attention(flash_attention, T, S, block_size):
    q, k, v = inputs(2, 3, T, S, 5)
    cotangent = draw(2, 3, T, 5, seed=3)

    output = flash_attention(q, k, v, block_size)

    expected = F.scaled_dot_product_attention(q, k, v)
    assert_equal(output, expected)
    assert_equal(torch.autograd.grad(output, (q, k, v), cotangent), torch.autograd.grad(expected, (q, k, v), cotangent))


@pytest.mark.parametrize("block_size", BLOCKS)
@pytest.mark.parametrize(("T", "S"), [(1, 1), (1, 7), (4, 7), (8, 8)])
def test_causal_equals_scaled_dot_product_attention_with_the_last_query_at_the_last_key(
    flash_attention, T, S, block_size
):
    q, k, v = inputs(2, 3, T, S, 5)
    cotangent = draw(2, 3, T, 5, seed=3)
    mask = torch.tensor([[j <= i + S - T for j in range(S)] for i in range(T)])

    output = flash_attention(q, k, v, block_size, causal=True)

    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    assert_equal(output, expected)
    assert_equal(torch.autograd.grad(output, (q, k, v), cotangent), torch.autograd.grad(expected, (q, k, v), cotangent))


def test_as_many_queries_as_keys_are_causal_as_in_pytorch(flash_attention):
    q, k, v = inputs(2, 3, 6, 6, 4)

    assert_equal(flash_attention(q, k, v, 4, True), F.scaled_dot_product_attention(q, k, v, is_causal=True))


@pytest.mark.parametrize("block_size", [1, 2, 4])
def test_equals_algorithm_1_of_the_paper_number_by_number(flash_attention, block_size):
    """One query: m, l and O of lines 10 to 13, with the output divided in every block as printed."""
    q, k, v = inputs(1, 1, 1, 5, 3)
    scores = [sum(a * b for a, b in zip(q.flatten().tolist(), row, strict=True)) for row in k[0, 0].tolist()]
    values = v[0, 0].tolist()
    m, sums, out = -math.inf, 0.0, [0.0, 0.0, 0.0]
    for start in range(0, 5, block_size):
        block = range(start, min(5, start + block_size))
        block_m = max(scores[j] / math.sqrt(3) for j in block)
        powers = {j: math.exp(scores[j] / math.sqrt(3) - block_m) for j in block}
        new_m = max(m, block_m)
        old, new = math.exp(m - new_m), math.exp(block_m - new_m)
        new_sums = old * sums + new * sum(powers.values())
        out = [(sums * old * out[c] + new * sum(powers[j] * values[j][c] for j in block)) / new_sums for c in range(3)]
        m, sums = new_m, new_sums

    assert_equal(flash_attention(q, k, v, block_size).flatten(), torch.tensor(out, dtype=torch.float64))


@pytest.mark.parametrize("causal", [False, True])
def test_bfloat16_is_as_close_as_rounding_its_inputs_and_output_allows(flash_attention, causal):
    q, k, v = (x.detach().bfloat16() for x in inputs(1, 2, 64, 512, 16))
    mask = torch.ones(64, 512, dtype=torch.bool).tril(512 - 64) if causal else None

    output = flash_attention(q, k, v, 8, causal)

    expected = F.scaled_dot_product_attention(q.double(), k.double(), v.double(), attn_mask=mask)
    assert output.dtype == torch.bfloat16
    torch.testing.assert_close(output.double(), expected, rtol=2**-8, atol=1e-6)  # one rounding, at the very end


@pytest.mark.parametrize("block_size", [1, 7, 64])
def test_scores_in_the_thousands(flash_attention, block_size):
    q, k, v = (x.detach() for x in inputs(1, 2, 9, 20, 4))

    output = flash_attention(100.0 * q, 100.0 * k, v, block_size)

    assert_equal(output, F.scaled_dot_product_attention(100.0 * q, 100.0 * k, v))
