"""The reference of swiglu against transformers' Llama, PyTorch's functions and published configurations."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

D, WIDTH = 6, 10
SOLUTION = Path(__file__).parents[2] / "solutions" / "blocks" / "swiglu" / "solution.py"


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("swiglu_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ours(solution):
    torch.manual_seed(0)
    return solution.SwiGLU(D, WIDTH).double()


@pytest.fixture
def x():
    torch.manual_seed(1)
    return (2.0 * torch.randn(3, 4, D, dtype=torch.float64)).requires_grad_()


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


# --- the hidden width -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dim", "multiple_of", "multiplier", "published"),
    [
        (4096, 256, None, 11008),  # LLaMA 7B, and Llama 2 7B
        (5120, 256, None, 13824),  # 13B
        (6656, 256, None, 17920),  # 33B
        (8192, 256, None, 22016),  # 65B
        (2048, 256, None, 5632),  # TinyLlama 1.1B
        (8192, 4096, 1.3, 28672),  # Llama 2 70B, and Llama 3 70B
        (4096, 1024, 1.3, 14336),  # Llama 3 8B
        (16384, 4096, 1.2, 53248),  # Llama 3.1 405B
        (2048, 256, 1.5, 8192),  # Llama 3.2 1B
        (3072, 256, 1.0, 8192),  # Llama 3.2 3B
    ],
)
def test_hidden_width_is_the_published_one(solution, dim, multiple_of, multiplier, published):
    """The widths are those of `intermediate_size` in the published configurations."""
    assert solution.swiglu_hidden_dim(dim, multiple_of, multiplier) == published


def test_default_config_of_llama_has_the_width_of_7b(solution):
    config = pytest.importorskip("transformers").LlamaConfig()

    assert solution.swiglu_hidden_dim(config.hidden_size) == config.intermediate_size


def test_hidden_width_is_that_of_llamas_code(solution):
    """The steps of the class FeedForward in Llama 2's model.py, which starts from 4 * dim."""
    for dim in range(1, 300):
        for multiple_of, multiplier in (1, None), (1, 1.3), (32, None), (48, 0.7), (256, 1.1):
            hidden_dim = 4 * dim
            hidden_dim = int(2 * hidden_dim / 3)
            if multiplier is not None:
                hidden_dim = int(multiplier * hidden_dim)
            hidden_dim = multiple_of * ((hidden_dim + multiple_of - 1) // multiple_of)

            assert solution.swiglu_hidden_dim(dim, multiple_of, multiplier) == hidden_dim


def test_parameters_stay_close_to_those_of_two_matrices(solution):
    for dim in 1024, 4096, 8192:
        width = solution.swiglu_hidden_dim(dim)

        assert 0 <= 3 * dim * width - 2 * dim * 4 * dim < 3 * dim * 256


# --- the network ------------------------------------------------------------------------------------------


def test_output_and_gradients_are_those_of_transformers(ours, x):
    """gate_proj, up_proj and down_proj are w1, w3 and w2."""
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(hidden_size=D, intermediate_size=WIDTH, num_attention_heads=1)
    theirs = transformers.models.llama.modeling_llama.LlamaMLP(config).double()
    weights = {"gate_proj": ours.w1, "up_proj": ours.w3, "down_proj": ours.w2}
    theirs.load_state_dict({f"{name}.weight": layer.weight for name, layer in weights.items()})
    cotangent = torch.randn_like(x)

    got, expected = ours(x), theirs(x)

    assert_equal(got, expected)
    mine = torch.autograd.grad(got, [x, *(layer.weight for layer in weights.values())], cotangent)
    right = torch.autograd.grad(expected, [x, *(getattr(theirs, name).weight for name in weights)], cotangent)
    assert_equal(mine, right)


def test_output_is_that_of_silu_and_glu(ours, x):
    """F.glu of (a b, a) is a b sigmoid(a)."""
    a, b = x @ ours.w1.weight.T, x @ ours.w3.weight.T

    assert_equal(ours(x), (F.silu(a) * b) @ ours.w2.weight.T)
    assert_equal(ours(x), F.glu(torch.cat((a * b, a), dim=-1)) @ ours.w2.weight.T)


def test_output_is_the_formula_number_by_number(ours, x):
    w1, w2, w3 = (layer.weight.tolist() for layer in (ours.w1, ours.w2, ours.w3))
    token = x[1, 2].tolist()

    hidden = []
    for row, column in zip(w1, w3, strict=True):
        gate = sum(w * number for w, number in zip(row, token, strict=True))
        through = sum(w * number for w, number in zip(column, token, strict=True))
        hidden.append(gate / (1 + math.exp(-gate)) * through)
    expected = [sum(w * number for w, number in zip(row, hidden, strict=True)) for row in w2]

    assert_equal(ours(x)[1, 2], torch.tensor(expected, dtype=torch.float64))


def test_gradient_is_the_numerical_one(ours, x):
    assert torch.autograd.gradcheck(ours, (x[:1, :2].detach().requires_grad_(),))
