"""The reference of ``attention_weights`` against the book's printed numbers, its loops, and PyTorch's attention."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "attention_weights" / "solution.py"

BOOK = [
    (0.43, 0.15, 0.89),
    (0.55, 0.87, 0.66),
    (0.57, 0.85, 0.64),
    (0.22, 0.58, 0.33),
    (0.77, 0.25, 0.10),
    (0.05, 0.80, 0.55),
]


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("attention_weights_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def chain(solution, x):
    return solution.context_vectors(solution.attention_weights(solution.attention_scores(x)), x)


def test_prints_the_numbers_of_section_3_3(solution):
    x = torch.tensor(BOOK)

    scores = solution.attention_scores(x)
    weights = solution.attention_weights(scores)
    context = solution.context_vectors(weights, x)

    assert scores[0].tolist() == pytest.approx([0.9995, 0.9544, 0.9422, 0.4753, 0.4576, 0.6310], abs=5e-5)
    assert weights[1].tolist() == pytest.approx([0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581], abs=5e-5)
    assert context[1].tolist() == pytest.approx([0.4419, 0.6515, 0.5683], abs=5e-5)


def test_equals_the_loops_that_the_section_begins_with(solution):
    x = torch.tensor(BOOK, dtype=torch.float64)
    T, D = x.shape

    scores = [[sum(a * b for a, b in zip(one, other, strict=True)) for other in BOOK] for one in BOOK]
    powers = [[math.exp(score) for score in row] for row in scores]
    weights = [[power / sum(row) for power in row] for row in powers]
    context = [[sum(weights[i][j] * BOOK[j][d] for j in range(T)) for d in range(D)] for i in range(T)]

    torch.testing.assert_close(solution.attention_scores(x), torch.tensor(scores, dtype=torch.float64))
    exactly = torch.tensor(scores, dtype=torch.float64)
    torch.testing.assert_close(solution.attention_weights(exactly), torch.tensor(weights, dtype=torch.float64))
    exactly = torch.tensor(weights, dtype=torch.float64)
    torch.testing.assert_close(solution.context_vectors(exactly, x), torch.tensor(context, dtype=torch.float64))
    torch.testing.assert_close(chain(solution, x), torch.tensor(context, dtype=torch.float64))


@pytest.mark.parametrize(("T", "D"), [(1, 1), (1, 5), (4, 3), (7, 16)])
def test_the_chain_equals_attention_with_a_scale_of_1(solution, T, D):
    x = torch.randn(T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(T))

    expected = F.scaled_dot_product_attention(x[None], x[None], x[None], scale=1.0)[0]

    torch.testing.assert_close(chain(solution, x), expected, rtol=1e-12, atol=1e-12)


def test_scores_of_thousands_equal_the_limit(solution):
    scores = torch.tensor([[5000.0, 5000.0 - math.log(3), -5000.0], [-9000.0, -9000.0, -9000.0], [0.0, 1e4, 0.0]])

    weights = solution.attention_weights(scores.double())

    expected = torch.tensor([[3 / 4, 1 / 4, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.0, 1.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-4)  # the scores were rounded to float32 first


def test_gradients_are_the_numerical_ones(solution):
    generator = torch.Generator().manual_seed(0)
    x, table = (torch.randn(4, n, dtype=torch.float64, generator=generator, requires_grad=True) for n in (3, 4))

    assert torch.autograd.gradcheck(solution.attention_scores, (x,))
    assert torch.autograd.gradcheck(solution.attention_weights, (table,))
    assert torch.autograd.gradcheck(solution.context_vectors, (table, x))
