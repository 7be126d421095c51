"""The reference of ``scaled_dot_product`` against F.scaled_dot_product_attention and against equation 1 in loops."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "scaled_dot_product" / "solution.py"

B, H, T, S, K, KV = 2, 3, 4, 5, 6, 7


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("scaled_dot_product_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def draw(*lead: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(len(lead))
    shapes = (T, K), (S, K), (S, KV)
    return [torch.randn(*lead, *s, dtype=torch.float64, generator=generator, requires_grad=True) for s in shapes]


def some_mask(*shape: int) -> torch.Tensor:
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def by_loops(q, k, v, mask):
    """Work out equation 1 number by number; weights of 0 where nothing is allowed."""
    weights = [[0.0] * len(k) for _ in q]
    for t, query in enumerate(q):
        seen = [s for s in range(len(k)) if mask[t][s]]
        scores = {s: sum(a * b for a, b in zip(query, k[s], strict=True)) / math.sqrt(len(query)) for s in seen}
        total = sum(math.exp(score) for score in scores.values())
        for s, score in scores.items():
            weights[t][s] = math.exp(score) / total
    output = [[sum(w * value[d] for w, value in zip(row, v, strict=True)) for d in range(len(v[0]))] for row in weights]
    return output, weights


@pytest.mark.parametrize("empty_row", [False, True])
def test_equals_equation_1_in_loops(solution, empty_row):
    q, k, v = (x.detach() for x in draw())
    mask = some_mask(T, S)
    if empty_row:
        mask[2] = False

    output, weights = solution.scaled_dot_product_attention(q, k, v, mask)

    by_hand = by_loops(q.tolist(), k.tolist(), v.tolist(), mask.tolist())
    assert_equal(output, torch.tensor(by_hand[0], dtype=torch.float64))
    assert_equal(weights, torch.tensor(by_hand[1], dtype=torch.float64))


@pytest.mark.parametrize("lead", [(), (B,), (B, H), (2, 1, 3)])
def test_equals_pytorch_with_any_leading_dimensions(solution, lead):
    q, k, v = draw(*lead)

    output, weights = solution.scaled_dot_product_attention(q, k, v)

    assert_equal(output, F.scaled_dot_product_attention(q, k, v))
    assert_equal(weights @ v, output)
    assert weights.shape == (*lead, T, S)


MASKS = [(T, S), (S,), (1, S), (T, 1), (B, 1, 1, S), (B, 1, T, S), (1, H, 1, S), (H, T, S), (H, 1, S), (B, H, T, S)]


@pytest.mark.parametrize("shape", MASKS)
def test_output_and_gradients_equal_pytorch_under_masks(solution, shape):
    inputs, mask = draw(B, H), some_mask(*shape)
    cotangent = torch.randn(B, H, T, KV, dtype=torch.float64, generator=torch.Generator().manual_seed(9))

    output, weights = solution.scaled_dot_product_attention(*inputs, mask)

    expected = F.scaled_dot_product_attention(*inputs, attn_mask=mask.expand(B, H, T, S))
    assert_equal(output, expected)
    assert_equal(torch.autograd.grad(output, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent))
    assert weights[~mask.expand(B, H, T, S)].eq(0).all()


def test_equals_the_causal_attention_of_pytorch(solution):
    q, k, v = draw(B)[1][:, :T], *(x[:, :T] for x in draw(B)[1:])

    output, _ = solution.scaled_dot_product_attention(q, k, v, torch.ones(T, T, dtype=torch.bool).tril())

    assert_equal(output, F.scaled_dot_product_attention(q, k, v, is_causal=True))


def test_weights_equal_those_of_multihead_attention(solution):
    """With projections that change nothing, one head of nn.MultiheadAttention is equation 1."""
    theirs = nn.MultiheadAttention(K, 1, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.eye(K).repeat(3, 1))
        theirs.out_proj.weight.copy_(torch.eye(K))
    q, k, _ = draw(B)
    mask = some_mask(T, S)

    output, weights = solution.scaled_dot_product_attention(q, k, k, mask)

    expected, expected_weights = theirs(q, k, k, attn_mask=~mask)  # there True means hidden
    assert_equal(output, expected)
    assert_equal(weights, expected_weights)


def test_rows_where_nothing_is_allowed_are_zeros_by_definition(solution):
    inputs, mask = draw(B, H), some_mask(B, 1, T, S)
    mask[1, 0, 2] = False

    output, weights = solution.scaled_dot_product_attention(*inputs, mask)
    (output.square().sum() + weights.sum()).backward()

    assert output[1, :, 2].eq(0).all()
    assert weights[1, :, 2].eq(0).all()
    assert_equal(output, F.scaled_dot_product_attention(*inputs, attn_mask=mask))  # zeros since PyTorch 2.5
    assert inputs[0].grad[1, :, 2].eq(0).all()
    assert all(leaf.grad.isfinite().all() for leaf in inputs)


def test_gradients_are_the_numerical_ones(solution):
    inputs, mask = draw(2), some_mask(T, S)
    mask[1] = False

    assert torch.autograd.gradcheck(lambda *x: solution.scaled_dot_product_attention(*x, mask), inputs)
