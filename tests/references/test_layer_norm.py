"""The reference of ``layer_norm`` against F.layer_norm and nn.BatchNorm1d, in float64, and against loops in Python."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "blocks" / "layer_norm" / "solution.py"


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("layer_norm_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def randn(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


def with_weights(module: nn.Module) -> nn.Module:
    """Return the module in float64, with random gains and biases."""
    module.double()
    with torch.no_grad():
        module.weight.copy_(1.0 + 0.3 * randn(len(module.weight)))
        module.bias.copy_(randn(len(module.bias)))
    return module


# --- LayerNorm --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("eps", [1e-5, 0.3])
@pytest.mark.parametrize("shape", [(4, 6), (2, 3, 6), (2, 3, 4, 6), (5, 1), (1, 1, 7)])
def test_layer_norm_equals_pytorch_and_its_gradients(solution, shape, eps):
    ours = with_weights(solution.LayerNorm(shape[-1], eps))
    x, cotangent = (2.0 * randn(*shape) + 1.0).requires_grad_(), randn(*shape)
    leaves = x, ours.weight, ours.bias

    out = ours(x)

    expected = F.layer_norm(x, shape[-1:], ours.weight, ours.bias, eps)
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
    gradients = torch.autograd.grad(out, leaves, cotangent)
    expected_gradients = torch.autograd.grad(expected, leaves, cotangent)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-10, atol=1e-10)


def test_layer_norm_equals_the_formula_number_by_number(solution):
    ours, eps = with_weights(solution.LayerNorm(5, 0.01)), 0.01
    x = randn(3, 5)

    out = ours(x).tolist()

    for row, normalised in zip(x.tolist(), out, strict=True):
        mean = sum(row) / 5
        root = math.sqrt(sum((number - mean) ** 2 for number in row) / 5 + eps)
        by_hand = [
            (a - mean) / root * w + b for a, w, b in zip(row, ours.weight.tolist(), ours.bias.tolist(), strict=True)
        ]
        assert normalised == pytest.approx(by_hand, abs=1e-12)


def test_layer_norm_has_the_defaults_of_pytorch(solution):
    ours, theirs = solution.LayerNorm(6), nn.LayerNorm(6)

    assert ours.eps == theirs.eps
    ours.load_state_dict(theirs.state_dict())
    assert {n: p.tolist() for n, p in ours.named_parameters()} == {n: p.tolist() for n, p in theirs.named_parameters()}


@pytest.mark.parametrize("other", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_layer_norm_keeps_the_dtype_of_x(solution, dtype, other):
    ours = solution.LayerNorm(6).to(dtype)
    x = randn(4, 6).to(other)

    out = ours(x)

    assert out.dtype == other
    torch.testing.assert_close(out.double(), F.layer_norm(x.double(), (6,)), rtol=5e-3, atol=5e-3)


# --- BatchNorm --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("settings", [{}, {"eps": 0.3, "momentum": 0.4}, {"momentum": 1.0}])
def test_batch_norm_equals_pytorch_over_several_batches(solution, settings):
    ours, theirs = with_weights(solution.BatchNorm(4, **settings)), nn.BatchNorm1d(4, **settings).double()
    theirs.load_state_dict({**ours.state_dict(), "num_batches_tracked": torch.tensor(0)})

    for B, mode in (5, True), (2, True), (9, True), (6, False), (1, False), (3, True), (4, False):
        ours.train(mode)
        theirs.train(mode)
        x, cotangent = (2.0 * randn(B, 4) + 1.0).requires_grad_(), randn(B, 4)
        out, expected = ours(x), theirs(x)

        torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.running_mean, theirs.running_mean, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(ours.running_var, theirs.running_var, rtol=1e-12, atol=1e-12)
        gradients = torch.autograd.grad(out, (x, ours.weight, ours.bias), cotangent)
        expected_gradients = torch.autograd.grad(expected, (x, theirs.weight, theirs.bias), cotangent)
        torch.testing.assert_close(gradients, expected_gradients, rtol=1e-9, atol=1e-9)
        assert not ours.running_mean.requires_grad
        assert not ours.running_var.requires_grad


def test_batch_norm_running_values_number_by_number(solution):
    ours, x = solution.BatchNorm(2).double().train(), randn(6, 2)

    ours(x)

    for f, column in enumerate(x.T.tolist()):
        mean = sum(column) / 6
        unbiased = sum((number - mean) ** 2 for number in column) / 5
        assert ours.running_mean[f].item() == pytest.approx(0.1 * mean, abs=1e-14)
        assert ours.running_var[f].item() == pytest.approx(0.9 + 0.1 * unbiased, abs=1e-14)


def test_batch_norm_has_the_defaults_of_pytorch(solution):
    ours, theirs = solution.BatchNorm(6), nn.BatchNorm1d(6)

    assert (ours.eps, ours.momentum) == (theirs.eps, theirs.momentum)
    state = theirs.state_dict()
    del state["num_batches_tracked"]
    assert {n: t.tolist() for n, t in ours.state_dict().items()} == {n: t.tolist() for n, t in state.items()}


def test_batch_norm_refuses_one_item_as_pytorch_does(solution):
    for module in solution.BatchNorm(3), nn.BatchNorm1d(3):
        with pytest.raises(ValueError):
            module.train()(torch.zeros(1, 3))
        assert module.eval()(torch.zeros(1, 3)).eq(0).all()


@pytest.mark.parametrize("width", [0, -3])
def test_refuses_widths_below_one(solution, width):
    with pytest.raises(ValueError, match="d_model"):
        solution.LayerNorm(width)
    with pytest.raises(ValueError, match="n_features"):
        solution.BatchNorm(width)
