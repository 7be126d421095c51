"""The reference of decoder_block against nn.TransformerDecoderLayer with the same weights, in float64."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch import nn

B, T, S, D, H, F = 3, 4, 6, 12, 3, 20
SOLUTION = Path(__file__).parents[2] / "solutions" / "blocks" / "decoder_block" / "solution.py"
CAUSAL = torch.ones(T, T, dtype=torch.bool).tril()
PADDING = torch.arange(S) < torch.tensor([[6], [3], [1]])  # (B, S)


@pytest.fixture
def ours():
    """Return the reference with random weights, biases other than 0 and gains other than 1."""
    spec = importlib.util.spec_from_file_location("decoder_block_solution", SOLUTION)
    solution = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(solution)
    torch.manual_seed(0)
    module = solution.DecoderBlock(D, H, F, dropout=0.4).double()
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.dim() == 1:
                parameter.copy_(torch.randn(len(parameter)) * 0.5 + float(name.endswith("weight")))
    return module.eval()


@pytest.fixture
def theirs(ours):
    """Return PyTorch's layer with the weights of ``ours``."""
    module = nn.TransformerDecoderLayer(D, H, F, 0.4, batch_first=True).double()
    weights = ours.state_dict()
    renamed = {"self_attn.out_proj": "self_wo", "multihead_attn.out_proj": "cross_wo", "linear1": "w1", "linear2": "w2"}
    renamed |= {f"norm{i}": f"norm{i}" for i in (1, 2, 3)}
    state = {f"{a}.{n}": weights[f"{b}.{n}"] for a, b in renamed.items() for n in ("weight", "bias")}
    for kind, layer in ("self", "self_attn"), ("cross", "multihead_attn"):
        for n in "weight", "bias":
            state[f"{layer}.in_proj_{n}"] = torch.cat([weights[f"{kind}_{w}.{n}"] for w in ("wq", "wk", "wv")])
    module.load_state_dict(state)
    return module.eval()


@pytest.fixture
def inputs():
    """Return x and a memory of another length."""
    torch.manual_seed(1)
    return [torch.randn(B, n, D, dtype=torch.float64, requires_grad=True) for n in (T, S)]


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


def test_without_masks_equals_the_causal_decoder_layer_of_pytorch(ours, theirs, inputs):
    assert_equal(ours(*inputs), theirs(*inputs, tgt_mask=~CAUSAL))
    generated = nn.Transformer.generate_square_subsequent_mask(T, dtype=torch.float64)
    assert_equal(ours(*inputs), theirs(*inputs, tgt_mask=generated, tgt_is_causal=True))


def test_takes_masks_of_the_opposite_sign(ours, theirs, inputs):
    everyone = torch.ones(T, T, dtype=torch.bool)
    by_head = (torch.rand(B, H, T, S) < 0.5) | torch.eye(T, S, dtype=torch.bool)

    padded = theirs(*inputs, tgt_mask=~CAUSAL, memory_key_padding_mask=~PADDING)
    assert_equal(ours(*inputs, memory_mask=PADDING[:, None, None]), padded)
    assert_equal(ours(*inputs, everyone), theirs(*inputs))
    of_heads = theirs(*inputs, memory_mask=~by_head.view(B * H, T, S))
    assert_equal(ours(*inputs, everyone, by_head), of_heads)


def test_gradients_equal_those_of_pytorch(ours, theirs, inputs):
    cotangent = torch.randn(B, T, D, dtype=torch.float64)
    out = ours(*inputs, memory_mask=PADDING[:, None, None])
    right = theirs(*inputs, tgt_mask=~CAUSAL, memory_key_padding_mask=~PADDING)

    mine = torch.autograd.grad(out, [*inputs, *ours.parameters()], cotangent)
    right = torch.autograd.grad(right, [*inputs, *theirs.parameters()], cotangent)

    mine = dict(zip(["x", "memory", *(name for name, _ in ours.named_parameters())], mine, strict=True))
    right = dict(zip(["x", "memory", *(name for name, _ in theirs.named_parameters())], right, strict=True))
    for name in "x", "memory", *(f"norm{i}.{n}" for i in (1, 2, 3) for n in ("weight", "bias")):
        assert_equal(mine[name], right[name])
    for name in "weight", "bias":
        for kind, layer in ("self", "self_attn"), ("cross", "multihead_attn"):
            joined = torch.cat([mine[f"{kind}_{w}.{name}"] for w in ("wq", "wk", "wv")])
            assert_equal(joined, right[f"{layer}.in_proj_{name}"])
            assert_equal(mine[f"{kind}_wo.{name}"], right[f"{layer}.out_proj.{name}"])
        assert_equal(mine[f"w1.{name}"], right[f"linear1.{name}"])
        assert_equal(mine[f"w2.{name}"], right[f"linear2.{name}"])


def test_drops_like_pytorch_on_average(ours, theirs, inputs):
    """Mean and spread of each number over many draws are those of PyTorch's layer, up to six standard deviations."""
    n = 5000
    many = [tensor[:1].detach().expand(n, -1, D) for tensor in inputs]
    torch.manual_seed(2)

    with torch.no_grad():
        mine, right = ours.train()(*many), theirs.train()(*many, tgt_mask=~CAUSAL)

    spread = right.std(dim=0)
    assert ((mine.mean(dim=0) - right.mean(dim=0)).abs() <= 6 * spread * (2 / n) ** 0.5).all()
    assert (mine.std(dim=0) / spread - 1).abs().max() < 0.1
    assert spread.min() > 0.01


def test_a_stack_equals_the_decoder_of_pytorch(ours, theirs, inputs):
    decoder = nn.TransformerDecoder(theirs, 3).eval()  # three copies of one layer
    x, memory = inputs

    for _ in range(3):
        x = ours(x, memory, None, PADDING[:, None, None])

    assert_equal(x, decoder(*inputs, tgt_mask=~CAUSAL, memory_key_padding_mask=~PADDING))


def test_one_token_at_a_time_equals_the_whole(ours, inputs):
    x, memory = inputs

    whole = ours(x, memory)

    for t in range(T):
        assert_equal(ours(x[:, : t + 1], memory)[:, -1], whole[:, t])


def test_a_token_with_nothing_to_attend_to_keeps_the_biases(ours, inputs):
    x, memory = inputs
    masks = CAUSAL.clone(), torch.ones(T, S, dtype=torch.bool)
    for mask in masks:
        mask[2] = False

    out = ours(x, memory, *masks)

    middle = ours.norm2(ours.norm1(x[:, 2] + ours.self_wo.bias) + ours.cross_wo.bias)
    assert_equal(out[:, 2], ours.norm3(middle + ours.w2(ours.w1(middle).relu())))
    out.sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in [*inputs, *ours.parameters()])
