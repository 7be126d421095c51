"""The reference of ``masks`` against loops, PyTorch's own masks, and those of a published model."""

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.attention.bias import causal_lower_right

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "masks" / "solution.py"


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("masks_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(("len_q", "len_k"), [(1, 1), (1, 6), (4, 4), (3, 7), (5, 6)])
def test_a_query_sees_what_stands_at_its_place_or_before(solution, len_q, len_k):
    """Number the keys from 0; the last query stands at the last key."""
    expected = [[key <= len_k - len_q + query for key in range(len_k)] for query in range(len_q)]

    assert solution.causal_mask(len_q, len_k).tolist() == expected


@pytest.mark.parametrize("length", [1, 2, 9])
def test_causal_mask_is_that_of_the_transformer_of_pytorch(solution, length):
    """That one holds 0 where a token may look, and -inf where not."""
    theirs = nn.Transformer.generate_square_subsequent_mask(length)

    assert torch.equal(solution.causal_mask(length), theirs == 0)
    assert torch.equal(solution.causal_mask(length, length), theirs == 0)


def test_causal_mask_gives_the_causal_attention_of_pytorch(solution):
    q, k, v = torch.randn(3, 2, 5, 4, generator=torch.Generator().manual_seed(0)).unbind()

    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=solution.causal_mask(5))

    torch.testing.assert_close(masked, F.scaled_dot_product_attention(q, k, v, is_causal=True))


def test_more_keys_are_the_lower_right_of_pytorch(solution):
    """PyTorch calls the alignment to the last key `causal_lower_right`."""
    q = torch.randn(1, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    k, v = torch.randn(2, 1, 2, 7, 4, generator=torch.Generator().manual_seed(1)).unbind()

    masked = F.scaled_dot_product_attention(q, k, v, attn_mask=solution.causal_mask(3, 7))

    torch.testing.assert_close(masked, F.scaled_dot_product_attention(q, k, v, attn_mask=causal_lower_right(3, 7)))


def test_padding_mask_marks_what_pad_sequence_did_not_add(solution):
    lengths = torch.tensor([3, 1, 5, 2])
    padded = nn.utils.rnn.pad_sequence([torch.ones(n) for n in lengths.tolist()], batch_first=True)

    assert torch.equal(solution.padding_mask(lengths, 5), padded.bool())
    assert solution.padding_mask(lengths.int(), 6).sum(dim=1).tolist() == lengths.tolist()


def test_padding_mask_of_extreme_lengths(solution):
    assert solution.padding_mask(torch.tensor([0, 2]), 2).tolist() == [[False, False], [True, True]]


def test_combined_mask_is_both_in_loops(solution):
    causal, padding = solution.causal_mask(3, 5), solution.padding_mask(torch.tensor([5, 2, 0, 4]), 5)

    combined = solution.combine_masks(causal, padding)

    assert combined.shape == (4, 1, 3, 5)
    for b in range(4):
        for t in range(3):
            for s in range(5):
                assert bool(combined[b, 0, t, s]) == (bool(causal[t, s]) and bool(padding[b, s]))


def test_combined_mask_hides_what_multihead_attention_hides(solution):
    """attn_mask and key_padding_mask of PyTorch's layer, whose True means hidden."""
    torch.manual_seed(0)
    layer = nn.MultiheadAttention(8, 2, batch_first=True).double().eval()
    x = torch.randn(3, 5, 8, dtype=torch.float64)
    causal, padding = solution.causal_mask(5), solution.padding_mask(torch.tensor([5, 2, 3]), 5)

    combined = solution.combine_masks(causal, padding)

    by_two, _ = layer(x, x, x, attn_mask=~causal, key_padding_mask=~padding)
    by_one, _ = layer(x, x, x, attn_mask=~combined.expand(3, 2, 5, 5).reshape(6, 5, 5))
    torch.testing.assert_close(by_one, by_two)


def test_combined_mask_is_that_of_hugging_face(solution):
    """Their masks for F.scaled_dot_product_attention have the shape (B, 1, T, S) and the same sign."""
    pytest.importorskip("transformers", minversion="5.20")  # the arguments had other names before
    masking = importlib.import_module("transformers.masking_utils")
    padding = solution.padding_mask(torch.tensor([6, 4]), 6)
    cached = {"q_length": 4, "kv_length": 6, "q_offset": 2}  # 2 tokens in a cache, 4 new ones

    theirs = masking.sdpa_mask(batch_size=2, attention_mask=padding, allow_is_causal_skip=False, **cached)

    assert torch.equal(solution.combine_masks(solution.causal_mask(4, 6), padding), theirs)


@pytest.mark.parametrize("sizes", [(0,), (-1,), (0, 0), (0, 2), (2, 1), (1, 0), (3, -1)])
def test_refuses_sizes(solution, sizes):
    with pytest.raises(ValueError, match="len_"):
        solution.causal_mask(*sizes)


@pytest.mark.parametrize(("lengths", "max_len"), [([5], 4), ([1, 5, 2], 4), ([-1, 2], 4), ([0], 0), ([0], -1)])
def test_refuses_lengths(solution, lengths, max_len):
    for dtype in torch.int64, torch.int32:
        with pytest.raises(ValueError, match="max_len"):
            solution.padding_mask(torch.tensor(lengths, dtype=dtype), max_len)
