"""The reference of multi_head against PyTorch's own attention, in float64."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

B, T, S, D, H = 3, 4, 5, 12, 3
SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "multi_head" / "solution.py"


@pytest.fixture
def ours():
    """Return the reference with PyTorch's default weights and random biases."""
    spec = importlib.util.spec_from_file_location("multi_head_solution", SOLUTION)
    solution = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(solution)
    torch.manual_seed(0)
    module = solution.MultiHeadAttention(D, H, dropout=0.5).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith("bias"):
                parameter.normal_()
    return module.eval()


@pytest.fixture
def theirs(ours):
    """Return nn.MultiheadAttention with the weights of ``ours``."""
    module = nn.MultiheadAttention(D, H, dropout=0.5, batch_first=True).double()
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat((ours.wq.weight, ours.wk.weight, ours.wv.weight)))
        module.in_proj_bias.copy_(torch.cat((ours.wq.bias, ours.wk.bias, ours.wv.bias)))
        module.out_proj.weight.copy_(ours.wo.weight)
        module.out_proj.bias.copy_(ours.wo.bias)
    return module.eval()


@pytest.fixture
def inputs():
    """Return a query, keys and values that require gradients."""
    torch.manual_seed(1)
    return [torch.randn(B, n, D, dtype=torch.float64, requires_grad=True) for n in (T, S, S)]


def some_mask(*shape):
    """Return a random mask, True = may attend, in which every row has an allowed key."""
    mask = torch.rand(shape) < 0.5
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


def split(x):
    return x.view(B, -1, H, D // H).transpose(1, 2)  # (B, T, D) -> (B, H, T, K)


def by_scaled_dot_product(ours, query, key, value, mask):
    q, k, v = split(ours.wq(query)), split(ours.wk(key)), split(ours.wv(value))
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return ours.wo(heads.transpose(1, 2).reshape(B, T, D))


def test_equals_multihead_attention_without_a_mask(ours, theirs, inputs):
    output, weights = ours(*inputs)

    expected, expected_weights = theirs(*inputs, average_attn_weights=False)
    assert_equal(output, expected)
    assert_equal(weights, expected_weights)


@pytest.mark.parametrize("shape", [(T, S), (B, 1, 1, S), (B, H, T, S)], ids=["attention", "padding", "all"])
def test_equals_multihead_attention_with_masks_of_opposite_sign(ours, theirs, inputs, shape):
    mask = some_mask(*shape)

    output, weights = ours(*inputs, mask)

    hidden = ~mask
    if shape == (B, 1, 1, S):
        theirs_mask = {"key_padding_mask": hidden.view(B, S)}
    else:
        theirs_mask = {"attn_mask": hidden if shape == (T, S) else hidden.view(B * H, T, S)}
    expected, expected_weights = theirs(*inputs, average_attn_weights=False, **theirs_mask)
    assert_equal(output, expected)
    assert_equal(weights, expected_weights)


def test_self_attention_equals_multihead_attention(ours, theirs, inputs):
    x, causal = inputs[0], torch.ones(T, T, dtype=torch.bool).tril()

    output, weights = ours(x, x, x, causal)

    expected, expected_weights = theirs(x, x, x, attn_mask=~causal, average_attn_weights=False)
    assert_equal(output, expected)
    assert_equal(weights, expected_weights)


def test_drops_the_weights_that_multihead_attention_drops(ours, theirs, inputs):
    _, in_eval = ours(*inputs)
    ours.train()
    theirs.train()

    torch.manual_seed(2)
    output, weights = ours(*inputs)

    torch.manual_seed(2)
    expected, _ = theirs(*inputs, average_attn_weights=False)
    assert_equal(output, expected)
    assert_equal(weights, in_eval)  # where theirs returns those after dropout


@pytest.mark.parametrize("shape", [None, (T, S), (1, S), (H, T, S), (B, 1, 1, S), (B, 1, T, S), (B, H, 1, S)])
def test_output_and_gradients_equal_scaled_dot_product_attention(ours, inputs, shape):
    mask = None if shape is None else some_mask(*shape)
    leaves = [*inputs, *ours.parameters()]
    cotangent = torch.randn(B, T, D, dtype=torch.float64)

    output, _ = ours(*inputs, mask)

    expected = by_scaled_dot_product(ours, *inputs, mask)
    assert_equal(output, expected)
    assert_equal(torch.autograd.grad(output, leaves, cotangent), torch.autograd.grad(expected, leaves, cotangent))


def test_a_query_with_nothing_to_attend_to_equals_scaled_dot_product_attention(ours, inputs):
    mask = some_mask(B, 1, T, S)
    mask[1, 0, 2] = False

    output, weights = ours(*inputs, mask)

    assert_equal(output, by_scaled_dot_product(ours, *inputs, mask))  # zeros since PyTorch 2.5, NaN before
    assert_equal(output[1, 2], ours.wo.bias)
    assert weights[1, :, 2].eq(0).all()
    torch.autograd.backward(output.sum())
    assert all(leaf.grad.isfinite().all() for leaf in [*inputs, *ours.parameters()])
