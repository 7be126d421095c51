"""The reference of feed_forward against PyTorch's and transformers' GELU, and against PyTorch's own blocks."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

D, WIDTH = 6, 10
SOLUTION = Path(__file__).parents[2] / "solutions" / "blocks" / "feed_forward" / "solution.py"


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("feed_forward_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def x():
    torch.manual_seed(0)
    return (3.0 * torch.randn(3, 5, D, dtype=torch.float64)).requires_grad_()


@pytest.fixture
def ours(solution):
    torch.manual_seed(1)
    return solution.FeedForward(D, WIDTH, dropout=0.3).double().eval()


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


# --- gelu -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("approximate", "theirs"), [(False, "none"), (True, "tanh")])
def test_gelu_and_its_gradient_are_those_of_pytorch(solution, x, approximate, theirs):
    cotangent = torch.randn_like(x)

    got, expected = solution.gelu(x, approximate), F.gelu(x, approximate=theirs)

    assert_equal(got, expected)
    assert_equal(torch.autograd.grad(got, x, cotangent), torch.autograd.grad(expected, x, cotangent))


@pytest.mark.parametrize(("approximate", "theirs"), [(False, "none"), (True, "tanh")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gelu_is_that_of_pytorch_in_other_dtypes(solution, approximate, theirs, dtype):
    x = torch.tensor([-1e4, -30.0, -3.0, -0.75, 0.0, 1e-3, 0.5, 2.0, 30.0, 1e4], dtype=dtype)

    got = solution.gelu(x, approximate)

    assert got.dtype == dtype
    loose = 1e-6 if dtype == torch.float32 else 2e-2
    torch.testing.assert_close(got, F.gelu(x, approximate=theirs), rtol=loose, atol=loose)


def test_gelu_is_the_formula_of_the_paper(solution):
    """x times the distribution function of the normal distribution, here from Python's library."""
    numbers = [-4.0, -1.0, -0.5, 0.0, 0.25, 1.0, 3.0]
    expected = [x * 0.5 * math.erfc(-x / math.sqrt(2)) for x in numbers]

    assert_equal(solution.gelu(torch.tensor(numbers, dtype=torch.float64)), torch.tensor(expected, dtype=torch.float64))


def test_tanh_form_is_that_of_gpt2(solution, x):
    activations = pytest.importorskip("transformers.activations")

    assert_equal(solution.gelu(x, approximate=True), activations.ACT2FN["gelu_new"](x))


# --- the network ------------------------------------------------------------------------------------------


def copied(ours, layers):
    """Copy the weights of ``ours`` into two linear layers."""
    with torch.no_grad():
        for mine, theirs in zip((ours.w1, ours.w2), layers, strict=True):
            theirs.weight.copy_(mine.weight)
            theirs.bias.copy_(mine.bias)


def test_network_is_that_of_the_encoder_layer(ours, x):
    """Without attention, a pre-norm layer of PyTorch's returns x plus the network of the normalised x."""
    layer = nn.TransformerEncoderLayer(D, 1, WIDTH, dropout=0.3, batch_first=True, norm_first=True).double().eval()
    copied(ours, (layer.linear1, layer.linear2))
    nn.init.zeros_(layer.self_attn.out_proj.weight)
    nn.init.zeros_(layer.self_attn.out_proj.bias)

    assert_equal(x + ours(layer.norm2(x)), layer(x))


@pytest.mark.parametrize("training", [False, True])
def test_output_and_gradients_are_those_of_a_stack_of_layers(ours, x, training):
    stack = nn.Sequential(nn.Linear(D, WIDTH), nn.ReLU(), nn.Dropout(0.3), nn.Linear(WIDTH, D)).double()
    copied(ours, (stack[0], stack[3]))
    ours.train(training)
    stack.train(training)
    cotangent = torch.randn_like(x)

    torch.manual_seed(2)
    got = ours(x)
    torch.manual_seed(2)
    expected = stack(x)

    assert_equal(got, expected)
    mine = torch.autograd.grad(got, [x, *ours.parameters()], cotangent)
    assert_equal(mine, torch.autograd.grad(expected, [x, *stack.parameters()], cotangent))


def test_gradient_is_the_numerical_one(ours, x):
    assert torch.autograd.gradcheck(ours, (x[:1, :2].detach().requires_grad_(),))
