"""The reference of ``alibi`` against authorities that others wrote: the paper, its authors' rule, and two models."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

SOLUTION = Path(__file__).parents[2] / "solutions" / "positions" / "alibi" / "solution.py"


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("alibi_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models() -> ModuleType:
    return pytest.importorskip("transformers").models


def slopes_by_the_authors_rule(n: int) -> list[float]:
    """Work out the slopes as the published code of the paper defines them: a geometric row, by recursion if need be."""

    def of_a_power_of_two(n: int) -> list[float]:
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if math.log2(n).is_integer():
        return of_a_power_of_two(n)
    below = 2 ** math.floor(math.log2(n))
    return of_a_power_of_two(below) + slopes_by_the_authors_rule(2 * below)[0::2][: n - below]


# --- slopes ----------------------------------------------------------------------------------------------


def test_slopes_of_eight_heads_are_those_of_section_3(solution):
    """The paper: for 8 heads 1/2, 1/4 ... 1/256; for 16 heads those and the geometric means between them."""
    eight = [2.0**-h for h in range(1, 9)]
    sixteen = [2.0 ** (-h / 2) for h in range(1, 17)]

    assert solution.alibi_slopes(8).tolist() == eight
    torch.testing.assert_close(solution.alibi_slopes(16), torch.tensor(sixteen), rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_heads", [*range(1, 34), 40, 63, 64, 65, 96, 112, 128])
def test_slopes_follow_the_authors_rule(solution, n_heads):
    slopes = solution.alibi_slopes(n_heads)

    assert slopes.dtype == torch.float32
    torch.testing.assert_close(slopes, torch.tensor(slopes_by_the_authors_rule(n_heads)), rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_heads", [1, 2, 3, 6, 8, 12, 20, 32, 112])
def test_slopes_are_those_of_bloom(solution, models, n_heads):
    """BLOOM multiplies the slopes by the positions of the keys; position 1 shows them."""
    alibi = models.bloom.modeling_bloom.build_alibi_tensor(torch.ones(1, 2), n_heads, torch.float32)  # (H, 1, 2)

    torch.testing.assert_close(solution.alibi_slopes(n_heads), alibi[:, 0, 1], rtol=1e-6, atol=0)


# --- bias ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_heads", "len_q", "len_k"), [(8, 5, 5), (3, 1, 1), (12, 1, 7), (6, 3, 8), (1, 4, 4)])
def test_bias_is_the_definition_number_by_number(solution, n_heads, len_q, len_k):
    expected = torch.empty(n_heads, len_q, len_k, dtype=torch.float64)
    for h, slope in enumerate(slopes_by_the_authors_rule(n_heads)):
        for q in range(len_q):
            for k in range(len_k):
                back = q + len_k - len_q - k
                expected[h, q, k] = -slope * back if back >= 0 else -math.inf

    bias = solution.alibi_bias(n_heads, len_q, len_k)

    assert bias.dtype == torch.float32
    torch.testing.assert_close(bias.double(), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_heads", [1, 2, 3, 6, 8, 12, 16, 20])
def test_a_new_token_has_the_bias_of_mpt(solution, models, n_heads):
    """MPT keeps one row per head, that of the last query."""
    theirs = models.mpt.modeling_mpt.build_mpt_alibi_tensor(n_heads, 9)  # (H, 1, S)

    torch.testing.assert_close(solution.alibi_bias(n_heads, 1, 9), theirs.view(n_heads, 1, 9), rtol=1e-6, atol=0)


@pytest.mark.parametrize("n_heads", [3, 8, 12])
def test_gives_the_attention_of_bloom(solution, models, n_heads):
    """BLOOM adds slope * k_pos and masks apart: a softmax does not see what is the same in a whole row."""
    scores = torch.randn(n_heads, 6, 6, generator=torch.Generator().manual_seed(0))
    alibi = models.bloom.modeling_bloom.build_alibi_tensor(torch.ones(1, 6), n_heads, torch.float32)  # (H, 1, S)
    later = torch.ones(6, 6, dtype=torch.bool).triu(1)
    expected = (scores + alibi).masked_fill(later, -torch.inf).softmax(dim=-1)

    weights = (scores + solution.alibi_bias(n_heads, 6, 6)).softmax(dim=-1)

    torch.testing.assert_close(weights, expected, rtol=0, atol=1e-6)
