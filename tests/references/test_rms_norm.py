"""The reference of ``rms_norm`` against nn.RMSNorm and Llama's in transformers, and against loops in Python."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "blocks" / "rms_norm" / "solution.py"


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rms_norm_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def with_weight(module: nn.Module) -> nn.Module:
    """Return the module in float64, with a random gain."""
    module.double()
    with torch.no_grad():
        module.weight.copy_(1.0 + 0.3 * randn(len(module.weight)))
    return module


@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (2, 3, 4, 6), (5, 1), (1, 1, 7)])
def test_equals_nn_rms_norm_and_its_gradients(solution, shape, eps):
    ours, theirs = with_weight(solution.RMSNorm(shape[-1], eps)), nn.RMSNorm(shape[-1], eps).double()
    theirs.load_state_dict(ours.state_dict())
    x, cotangent = (2.0 * randn(*shape) + 1.0).requires_grad_(), randn(*shape)

    out = ours(x)

    expected = theirs(x)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(out, (x, ours.weight), cotangent)
    expected_gradients = torch.autograd.grad(expected, (x, theirs.weight), cotangent)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-10)


def test_equals_the_formula_number_by_number(solution):
    ours, eps = with_weight(solution.RMSNorm(5, 0.01)), 0.01
    x = randn(3, 5)

    out = ours(x).tolist()

    for row, normalised in zip(x.tolist(), out, strict=True):
        root = math.sqrt(sum(number**2 for number in row) / 5 + eps)
        by_hand = [number / root * gain for number, gain in zip(row, ours.weight.tolist(), strict=True)]
        assert normalised == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_equals_the_norm_of_llama_in_transformers(solution, dtype):
    """Llama's rounds before the gain, so that both agree up to one rounding."""
    llama = pytest.importorskip("transformers").models.llama.modeling_llama
    ours = with_weight(solution.RMSNorm(64, 1e-6)).to(dtype)
    theirs = llama.LlamaRMSNorm(64, 1e-6).to(dtype)
    theirs.load_state_dict(ours.state_dict())
    x = (300.0 * randn(4, 5, 64)).to(dtype)

    out, expected = ours(x), theirs(x)

    assert out.dtype == expected.dtype == dtype
    precision = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(out, expected, rtol=precision, atol=precision)


@pytest.mark.parametrize("other", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_keeps_the_dtype_of_x(solution, dtype, other):
    ours = solution.RMSNorm(6).to(dtype)
    x = (100.0 * randn(4, 6)).to(other)

    out = ours(x)

    assert out.dtype == other
    precision = torch.finfo(other).eps if other != torch.float64 else 1e-14
    torch.testing.assert_close(out.double(), F.rms_norm(x.double(), (6,), eps=1e-5), rtol=precision, atol=precision)


def test_gradient_is_the_numerical_one_for_a_row_of_zeros_too(solution):
    ours, x = with_weight(solution.RMSNorm(4, 0.1)), randn(3, 4)
    x[1] = 0.0

    def normalise(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(ours, {"weight": weight}, (x,))

    assert torch.autograd.gradcheck(normalise, (x.requires_grad_(), ours.weight))


def test_has_one_parameter_of_ones(solution):
    ours = solution.RMSNorm(6)

    assert ours.eps == 1e-5
    assert list(ours.state_dict()) == ["weight"]
    assert ours.weight.tolist() == nn.RMSNorm(6).weight.tolist() == [1.0] * 6


@pytest.mark.parametrize("width", [0, -3])
def test_refuses_widths_below_one(solution, width):
    with pytest.raises(ValueError, match="must be at least 1"):
        solution.RMSNorm(width)
