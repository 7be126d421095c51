"""The reference of ``relative`` against the paper's formula, a drawing of it, and PyTorch's own parts."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "positions" / "relative" / "solution.py"


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("relative_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_index_drawn_by_hand(solution):
    """Section 3.2 with k = 2: five labels w_-2 .. w_2, and a_ij is the label at clip(j - i)."""
    drawn = """
         0  1  2  2  2
        -1  0  1  2  2
        -2 -1  0  1  2
        -2 -2 -1  0  1
    """
    labels = torch.tensor([[int(word) for word in line.split()] for line in drawn.strip().splitlines()])

    assert torch.equal(solution.relative_index(4, 5, 2), labels + 2)


@pytest.mark.parametrize("m", [1, 3, 50])
@pytest.mark.parametrize(("len_q", "len_k"), [(1, 1), (1, 7), (7, 1), (5, 9), (9, 5), (8, 8)])
def test_vectors_are_those_of_section_3_2(solution, len_q, len_k, m):
    """The paper prints a_ij = w_clip(j - i, k), w = (w_-k .. w_k), clip(x, k) = max(-k, min(k, x))."""
    torch.manual_seed(0)
    module = solution.RelativePosition(3, m).double()
    w = dict(zip(range(-m, m + 1), module.table.tolist(), strict=True))
    printed = [[w[max(-m, min(m, j - i))] for j in range(len_k)] for i in range(len_q)]

    vectors = module(len_q, len_k)

    assert vectors.tolist() == printed


def test_gradient_is_that_of_an_embedding(solution):
    module = solution.RelativePosition(3, 2).double()
    index = torch.tensor([[max(-2, min(2, j - i)) + 2 for j in range(6)] for i in range(4)])
    cotangent = torch.randn(4, 6, 3, dtype=torch.float64)
    weight = module.table.detach().clone().requires_grad_()

    (ours,) = torch.autograd.grad((module(4, 6) * cotangent).sum(), module.table)
    (theirs,) = torch.autograd.grad((F.embedding(index, weight) * cotangent).sum(), weight)

    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_table_begins_as_glorot_and_bengio_print_it(solution):
    """Their equation 16: uniform up to sqrt(6) / sqrt(n_in + n_out), so of variance 2 / (n_in + n_out)."""
    torch.manual_seed(0)
    table = solution.RelativePosition(100, 200).table.detach().double()

    bound = math.sqrt(6) / math.sqrt(401 + 100)
    assert 0.999 * bound < table.abs().max() <= bound * (1 + 1e-6)
    assert table.var().item() == pytest.approx(2 / (401 + 100), rel=0.02)
    assert table.mean().item() == pytest.approx(0, abs=6 * bound / math.sqrt(3 * table.numel()))


def test_index_is_that_of_wav2vec2_bert(solution):
    """A published model that clips k - q on both sides and numbers the rows from 0."""
    transformers = pytest.importorskip("transformers")
    bert = transformers.models.wav2vec2_bert.modeling_wav2vec2_bert
    config = transformers.Wav2Vec2BertConfig(
        hidden_size=8,
        num_attention_heads=2,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=3,
        right_max_position_embeddings=3,
    )
    attention = bert.Wav2Vec2BertSelfAttention(config).eval()
    seen = []
    attention.distance_embedding.register_forward_pre_hook(lambda _, args: seen.append(args[0]))

    attention(torch.randn(1, 9, 8))

    assert torch.equal(solution.relative_index(9, 9, 3), seen[0])
