"""The reference of ``token_embedding`` against nn.Embedding and published models with the same factor."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

B, T, V, D = 3, 5, 11, 6
SOLUTION = Path(__file__).parents[2] / "solutions" / "blocks" / "token_embedding" / "solution.py"


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("token_embedding_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ours(solution):
    torch.manual_seed(0)
    return solution.TokenEmbedding(V, D).double()


@pytest.fixture
def ids() -> torch.Tensor:
    return torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(1))


# --- the lookup -------------------------------------------------------------------------------------------


def test_equals_nn_embedding_and_its_gradient(ours, ids):
    theirs = nn.Embedding(V, D, dtype=torch.float64)
    theirs.load_state_dict({"weight": ours.table.detach()})
    cotangent = torch.randn(B, T, D, dtype=torch.float64)

    out = ours(ids)

    expected = theirs(ids) * math.sqrt(D)
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(out, ours.table, cotangent)
    (expected_gradient,) = torch.autograd.grad(expected, theirs.weight, cotangent)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-14, atol=1e-14)


def test_equals_a_product_with_one_hot_vectors(ours, ids):
    expected = F.one_hot(ids, V).double() @ ours.table * math.sqrt(D)

    torch.testing.assert_close(ours(ids), expected, rtol=0, atol=1e-14)


def test_equals_the_scaled_embedding_of_bart(ours, ids):
    """A published module with the factor of the first transformer."""
    bart = pytest.importorskip("transformers").models.bart.modeling_bart
    theirs = bart.BartScaledWordEmbedding(V, D, padding_idx=1, embed_scale=math.sqrt(D)).double()
    theirs.load_state_dict({"weight": ours.table.detach()}, strict=False)

    torch.testing.assert_close(ours(ids), theirs(ids), rtol=0, atol=1e-14)


def test_gradient_is_the_numerical_one(ours, ids):
    def look_up(table: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(ours, {"table": table}, (ids,))

    assert torch.autograd.gradcheck(look_up, (ours.table,))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_keeps_the_dtype(ours, ids, dtype):
    expected = ours(ids)

    out = ours.to(dtype)(ids)

    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), expected, rtol=2e-2, atol=2e-2)


# --- the parameter and its start --------------------------------------------------------------------------


def test_has_one_parameter(ours):
    assert {name: tuple(p.shape) for name, p in ours.named_parameters()} == {"table": (V, D)}
    assert list(ours.state_dict()) == ["table"]


def test_starts_normally_with_the_inverse_root_of_the_width(solution):
    torch.manual_seed(0)
    start = solution.TokenEmbedding(1000, 400).table.detach()

    assert start.dtype == torch.float32
    quantiles = torch.tensor([0.001, 0.02, 0.16, 0.5, 0.84, 0.98, 0.999], dtype=torch.float64)
    normal = math.sqrt(2) * torch.erfinv(2 * quantiles - 1) / math.sqrt(400)
    torch.testing.assert_close(start.double().flatten().quantile(quantiles), normal, rtol=0.03, atol=7e-4)
    out = solution.TokenEmbedding(1000, 400)(torch.arange(1000).view(1, 1000))
    assert out.std().item() == pytest.approx(1.0, rel=0.007)  # the point of both factors


# --- errors -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [(0, 4), (-1, 4), (4, 0), (4, -2)])
def test_refuses_sizes_below_one(solution, sizes):
    with pytest.raises(ValueError, match=r"vocab_size .* and d_model .* must be at least 1"):
        solution.TokenEmbedding(*sizes)


@pytest.mark.parametrize("bad", [-1, -100, V, V + 1])
def test_refuses_ids_outside_of_the_vocabulary(ours, ids, bad):
    ids[1, 2] = bad

    with pytest.raises(ValueError, match=r"ids must lie between 0 and 10"):
        ours(ids)
