"""The reference of encoder_block against nn.TransformerEncoderLayer with the same weights, in float64."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

B, T, D, H, F = 3, 5, 12, 3, 20
SOLUTION = Path(__file__).parents[2] / "solutions" / "blocks" / "encoder_block" / "solution.py"


@pytest.fixture(params=[False, True], ids=["post-norm", "pre-norm"])
def ours(request):
    """Return the reference with random weights, biases other than 0 and gains other than 1."""
    spec = importlib.util.spec_from_file_location("encoder_block_solution", SOLUTION)
    solution = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(solution)
    torch.manual_seed(0)
    module = solution.EncoderBlock(D, H, F, dropout=0.4, norm_first=request.param).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(torch.randn(len(parameter)) * 0.5 + float(name.endswith("weight")))
    return module.eval()


@pytest.fixture
def theirs(ours):
    """Return PyTorch's layer with the weights of ``ours``."""
    module = nn.TransformerEncoderLayer(D, H, F, 0.4, batch_first=True, norm_first=ours.norm_first).double()
    weights = ours.state_dict()
    renamed = {"self_attn.out_proj": "wo", "linear1": "w1", "linear2": "w2", "norm1": "norm1", "norm2": "norm2"}
    state = {f"{a}.{n}": weights[f"{b}.{n}"] for a, b in renamed.items() for n in ("weight", "bias")}
    for name in "weight", "bias":
        state[f"self_attn.in_proj_{name}"] = torch.cat([weights[f"{w}.{name}"] for w in ("wq", "wk", "wv")])
    module.load_state_dict(state)
    return module.eval()


@pytest.fixture
def x():
    return torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


def test_equals_the_encoder_layer_of_pytorch(ours, theirs, x):
    assert_equal(ours(x), theirs(x))


def test_takes_masks_of_the_opposite_sign(ours, theirs, x):
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    padding = torch.arange(T) < torch.tensor([[5], [3], [1]])  # (B, T)

    assert_equal(ours(x, causal), theirs(x, src_mask=~causal))
    assert_equal(ours(x, padding[:, None, None]), theirs(x, src_key_padding_mask=~padding))
    both = causal & padding[:, None, None]
    assert_equal(ours(x, both), theirs(x, src_mask=~causal, src_key_padding_mask=~padding))
    by_head = (torch.rand(B, H, T, T) < 0.5) | torch.eye(T, dtype=torch.bool)
    assert_equal(ours(x, by_head), theirs(x, src_mask=~by_head.view(B * H, T, T)))


def test_gradients_equal_those_of_pytorch(ours, theirs, x):
    padding = torch.arange(T) < torch.tensor([[5], [3], [1]])
    cotangent = torch.randn(B, T, D, dtype=torch.float64)

    mine = torch.autograd.grad(ours(x, padding[:, None, None]), [x, *ours.parameters()], cotangent)
    right = torch.autograd.grad(theirs(x, src_key_padding_mask=~padding), [x, *theirs.parameters()], cotangent)

    mine = dict(zip(["x", *(name for name, _ in ours.named_parameters())], mine, strict=True))
    right = dict(zip(["x", *(name for name, _ in theirs.named_parameters())], right, strict=True))
    for a, b in ("x", "x"), ("self_attn.out_proj.weight", "wo.weight"), ("linear1.bias", "w1.bias"):
        assert_equal(mine[b], right[a])
    for name in "weight", "bias":
        joined = torch.cat([mine[f"{w}.{name}"] for w in ("wq", "wk", "wv")])
        assert_equal(joined, right[f"self_attn.in_proj_{name}"])
        for norm in "norm1", "norm2":
            assert_equal(mine[f"{norm}.{name}"], right[f"{norm}.{name}"])


def test_drops_like_pytorch_on_average(ours, theirs, x):
    """Mean and spread of each number over many draws are those of PyTorch's layer, up to six standard deviations."""
    n = 5000
    many = x[:1].detach().expand(n, T, D)
    torch.manual_seed(2)

    with torch.no_grad():
        mine, right = ours.train()(many), theirs.train()(many)

    spread = right.std(dim=0)
    assert ((mine.mean(dim=0) - right.mean(dim=0)).abs() <= 6 * spread * (2 / n) ** 0.5).all()
    assert (mine.std(dim=0) / spread - 1).abs().max() < 0.1
    assert spread.min() > 0.01


def test_a_stack_equals_the_encoder_of_pytorch(ours, theirs, x):
    encoder = nn.TransformerEncoder(theirs, 3, enable_nested_tensor=False).eval()  # three copies of one layer
    padding = torch.arange(T) < torch.tensor([[5], [3], [1]])

    out = x
    for _ in range(3):
        out = ours(out, padding[:, None, None])

    assert_equal(out, encoder(x, src_key_padding_mask=~padding))


def test_a_token_with_nothing_to_attend_to_keeps_the_bias_of_wo(ours, x):
    mask = torch.ones(T, T, dtype=torch.bool)
    mask[2] = False
    with torch.no_grad():
        ours.w2.weight.zero_()
        ours.w2.bias.zero_()

    out = ours(x, mask)

    expected = x[:, 2] + ours.wo.bias
    assert_equal(out[:, 2], expected if ours.norm_first else ours.norm2(ours.norm1(expected)))
    out.sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in [x, *ours.parameters()])
