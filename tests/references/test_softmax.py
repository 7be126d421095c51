"""The reference of ``softmax`` against torch.softmax, and against the formula in Python's own numbers."""

import importlib.util
import math
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import pytest
import torch

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "softmax" / "solution.py"

SHAPES = [(5,), (1,), (3, 4), (1, 7), (2, 3, 4), (2, 1, 3, 5)]


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("softmax_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def numbers(*shape: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return 3.0 * torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize("shape", SHAPES)
def test_equals_torch_along_every_dimension(solution, shape):
    x = numbers(*shape)

    for dim in range(-len(shape), len(shape)):
        torch.testing.assert_close(solution.softmax(x, dim), torch.softmax(x, dim), rtol=1e-14, atol=1e-15)
    torch.testing.assert_close(solution.softmax(x), torch.softmax(x, -1), rtol=1e-14, atol=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_torch_in_less_precise_dtypes(solution, dtype):
    x = numbers(6, 50, dtype=torch.float64).to(dtype)

    rounding = 1e-6 if dtype == torch.float32 else 0.01  # of a few operations, on weights up to 1
    torch.testing.assert_close(solution.softmax(x, 0), torch.softmax(x, 0), rtol=0, atol=rounding)
    torch.testing.assert_close(solution.softmax(x, 1), torch.softmax(x, 1), rtol=0, atol=rounding)


@pytest.mark.parametrize("shift", [-1e4, 0.0, 1e4])
def test_equals_the_formula_worked_out_with_fractions(solution, shift):
    """The powers of e as fractions of whole numbers, so that nothing can overflow."""
    row = [0.0, 1.5, -2.25, 0.125]
    powers = [Fraction(math.exp(value)) for value in row]
    expected = [float(power / sum(powers)) for power in powers]

    weights = solution.softmax(torch.tensor(row, dtype=torch.float64) + shift)

    assert weights.tolist() == pytest.approx(expected, rel=1e-14)


def test_equals_torch_for_extreme_numbers(solution):
    rows = [1e4, 9998.0, -1e4], [-1e4, -9999.0, -3e4], [700.0, -700.0, 0.0], [1e308, -1e308, 1e308]
    x = torch.tensor(rows, dtype=torch.float64)

    for dim in 0, 1:
        torch.testing.assert_close(solution.softmax(x, dim), torch.softmax(x, dim), rtol=1e-14, atol=0)


def test_minus_infinity_equals_torch_except_where_torch_gives_nan(solution):
    x = numbers(4, 6)
    x[numbers(4, 6).flip(1) > 1] = -math.inf
    x[2] = -math.inf

    weights = solution.softmax(x, 1)

    by_torch = torch.softmax(x, 1)
    assert by_torch[2].isnan().all()
    assert weights[2].eq(0).all()
    torch.testing.assert_close(weights[[0, 1, 3]], by_torch[[0, 1, 3]], rtol=1e-14, atol=0)


def test_gradient_equals_that_of_torch(solution):
    x = numbers(3, 4, 5)
    x[1, 2, 3] = x[0, 0, 0] = -math.inf
    cotangent = torch.randn(3, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))

    for dim in 0, 1, 2:
        leaves = [x.clone().requires_grad_() for _ in range(2)]
        for leaf, softmax in zip(leaves, (solution.softmax, torch.softmax), strict=True):
            (softmax(leaf, dim) * cotangent).sum().backward()
        torch.testing.assert_close(leaves[0].grad, leaves[1].grad, rtol=1e-12, atol=1e-14)


def test_gradient_is_the_numerical_one(solution):
    x = numbers(3, 4).requires_grad_()

    assert torch.autograd.gradcheck(lambda x: solution.softmax(x, 0), (x,))


def test_float16_does_not_overflow(solution):
    """Not asked for, but the same trick must do: exp(12) is beyond float16."""
    x = torch.tensor([12.0, 11.0, -60000.0, 60000.0], dtype=torch.float16)

    torch.testing.assert_close(solution.softmax(x[:3]), torch.softmax(x[:3], 0))
    torch.testing.assert_close(solution.softmax(x), torch.softmax(x, 0))
