"""The reference of ``learnable`` against the embeddings of published models, and its start against theirs."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn

B, T, D, MAX_LEN = 3, 5, 8, 9
SOLUTION = Path(__file__).parents[2] / "solutions" / "positions" / "learnable" / "solution.py"


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("learnable_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models() -> ModuleType:
    return pytest.importorskip("transformers").models


@pytest.fixture
def ours(solution):
    torch.manual_seed(0)
    return solution.LearnablePositionEncoding(MAX_LEN, D).double()


@pytest.fixture
def x() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(B, T, D, dtype=torch.float64, generator=generator, requires_grad=True)


# --- the sum ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 4, MAX_LEN])
def test_equals_nn_embedding_and_its_gradients(ours, length):
    """Position numbers looked up in nn.Embedding, one row for each text of the batch, as most codes write it."""
    theirs = nn.Embedding(MAX_LEN, D, dtype=torch.float64)
    theirs.load_state_dict({"weight": ours.table.detach()})
    x = torch.randn(B, length, D, dtype=torch.float64, requires_grad=True)
    cotangent = torch.randn(B, length, D, dtype=torch.float64)

    out = ours(x)

    expected = x + theirs(torch.arange(length).expand(B, length))
    torch.testing.assert_close(out, expected, rtol=0, atol=0)
    gradients = torch.autograd.grad(out, (x, ours.table), cotangent)
    expected_gradients = torch.autograd.grad(expected, (x, theirs.weight), cotangent)
    torch.testing.assert_close(gradients, expected_gradients, rtol=1e-14, atol=1e-14)
    assert gradients[1][length:].eq(0).all()


def test_equals_the_embeddings_of_gpt_2(ours, models, x):
    """Without its dropout, what enters GPT-2's first block is the token plus the row of wpe."""
    config = models.gpt2.GPT2Config(vocab_size=5, n_positions=MAX_LEN, n_embd=D, n_layer=1, n_head=1)
    theirs = models.gpt2.GPT2Model(config).double().eval()
    theirs.wpe.load_state_dict({"weight": ours.table.detach()})

    enters = theirs(inputs_embeds=x, output_hidden_states=True).hidden_states[0]

    torch.testing.assert_close(ours(x), enters, rtol=0, atol=1e-14)


def test_equals_the_embeddings_of_bert(ours, models, x):
    """Without segments, dropout and its normalisation, BERT's embeddings are the token plus the row."""
    config = models.bert.BertConfig(vocab_size=5, max_position_embeddings=MAX_LEN, hidden_size=D, type_vocab_size=1)
    theirs = models.bert.modeling_bert.BertEmbeddings(config).double().eval()
    theirs.position_embeddings.load_state_dict({"weight": ours.table.detach()})
    theirs.token_type_embeddings.load_state_dict({"weight": torch.zeros(1, D)})
    theirs.LayerNorm = nn.Identity()

    torch.testing.assert_close(ours(x), theirs(inputs_embeds=x), rtol=0, atol=1e-14)


def test_gradient_is_the_numerical_one(ours, x):
    def add(x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(ours, {"table": table}, (x,))

    assert torch.autograd.gradcheck(add, (x, ours.table))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_keeps_the_dtype(ours, x, dtype):
    out = ours.to(dtype)(x.detach().to(dtype))

    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), x.detach() + ours.table.double()[:T], rtol=2e-2, atol=2e-2)


# --- the parameter and its start --------------------------------------------------------------------------


def test_has_one_parameter(ours):
    assert {name: tuple(p.shape) for name, p in ours.named_parameters()} == {"table": (MAX_LEN, D)}
    assert list(ours.state_dict()) == ["table"]


def test_starts_as_gpt_2_and_bert_do(solution, models):
    """Both draw normally with the standard deviation of their configuration, 0.02 by default."""
    config = models.gpt2.GPT2Config(vocab_size=5, n_positions=1000, n_embd=400, n_layer=0, n_head=1)
    torch.manual_seed(0)
    theirs = models.gpt2.GPT2Model(config).wpe.weight.detach().double()
    start = solution.LearnablePositionEncoding(1000, 400).table.detach()
    ours = start.double()

    assert start.dtype == torch.float32
    assert config.initializer_range == models.bert.BertConfig().initializer_range == 0.02
    assert ours.std().item() == pytest.approx(0.02, rel=0.007)  # six standard deviations
    assert ours.mean().item() == pytest.approx(0.0, abs=2e-4)
    quantiles = torch.tensor([0.001, 0.02, 0.16, 0.5, 0.84, 0.98, 0.999], dtype=torch.float64)
    normal = 0.02 * math.sqrt(2) * torch.erfinv(2 * quantiles - 1)
    for values in ours, theirs:
        torch.testing.assert_close(values.flatten().quantile(quantiles), normal, rtol=0.03, atol=3e-4)


@pytest.mark.parametrize("sizes", [(0, 4), (-1, 4), (4, 0), (4, -2)])
def test_refuses_sizes_below_one(solution, sizes):
    with pytest.raises(ValueError, match=r"max_len .* and d_model .* must be at least 1"):
        solution.LearnablePositionEncoding(*sizes)


def test_refuses_longer_texts(solution):
    with pytest.raises(ValueError, match=r"3 tokens.*max_len = 1"):
        solution.LearnablePositionEncoding(1, 4)(torch.zeros(2, 3, 4))
