"""The reference of relative_attention against the paper's equations, PyTorch's attention and two published models."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

B, T, S, D, H = 2, 4, 6, 12, 3
K = D // H
SOLUTION = Path(__file__).parents[2] / "solutions" / "positions" / "relative_attention" / "solution.py"


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("relative_attention_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def make(solution):
    """Return a maker of modules in float64 with random weights and biases."""

    def make(max_distance, tables=1.0, dropout=0.0, width=D, heads=H):
        torch.manual_seed(0)
        module = solution.RelativeMultiHeadAttention(width, heads, max_distance, dropout).double()
        with torch.no_grad():
            for name, parameter in module.named_parameters():
                parameter.normal_(0, tables if name.startswith("rel") else 0.4)
        return module.eval()

    return make


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


def equations_3_to_5(module, query, key, value, allowed):
    """Work out the paper's z_i number by number, for one item; ``allowed[h][i][j]`` stands for a mask."""
    q, k, v = module.wq(query).tolist(), module.wk(key).tolist(), module.wv(value).tolist()
    rel_k, rel_v, m = module.rel_k.tolist(), module.rel_v.tolist(), module.max_distance
    z = [[0.0] * D for _ in range(len(q))]
    alpha = [[[0.0] * len(k) for _ in q] for _ in range(H)]
    for h in range(H):
        features = range(h * K, (h + 1) * K)
        for i in range(len(q)):
            e = {}
            for j in range(len(k)):
                a = rel_k[max(-m, min(m, j - i)) + m]
                e[j] = sum(q[i][f] * (k[j][f] + a[f - h * K]) for f in features) / math.sqrt(K)  # equation 4
            powers = {j: math.exp(e[j]) for j in e if allowed[h][i][j]}
            for j, power in powers.items():
                alpha[h][i][j] = power / sum(powers.values())  # equation 2
                a = rel_v[max(-m, min(m, j - i)) + m]
                for f in features:
                    z[i][f] += alpha[h][i][j] * (v[j][f] + a[f - h * K])  # equation 3
    return module.wo(torch.tensor(z, dtype=torch.float64)), torch.tensor(alpha, dtype=torch.float64)


@pytest.mark.parametrize("m", [1, 2, 16])
@pytest.mark.parametrize("swapped", [False, True], ids=["more keys", "more queries"])
@pytest.mark.parametrize("masked", [False, True])
def test_equals_equations_3_to_5(make, inputs, m, swapped, masked):
    module = make(m)
    query, key, value = (inputs[1], inputs[0], inputs[0] * 2) if swapped else inputs
    mask = some_mask(B, H, query.shape[1], key.shape[1]) if masked else None
    if masked:
        mask[1, :, 2], mask[0, 1, 0] = False, False  # queries with nothing to attend to

    output, weights = module(query, key, value, mask)

    for b in range(B):
        allowed = torch.ones_like(weights[b]) if mask is None else mask[b]
        expected, expected_weights = equations_3_to_5(module, query[b], key[b], value[b], allowed.tolist())
        assert_equal(output[b], expected)
        assert_equal(weights[b], expected_weights)


def test_gradient_is_the_numerical_one(make, inputs):
    module = make(2)
    mask = some_mask(B, 1, T, S)
    mask[1, 0, 2] = False
    names, parameters = zip(*module.named_parameters(), strict=True)

    def output(query, key, value, *parameters):
        state = dict(zip(names, parameters, strict=True))
        return torch.func.functional_call(module, state, (query, key, value, mask))[0]

    assert torch.autograd.gradcheck(output, (*inputs, *parameters), fast_mode=True)


# --- with tables of zeros it is plain attention -----------------------------------------------------------


@pytest.fixture
def plain(make):
    return make(2, tables=0.0, dropout=0.5)


@pytest.fixture
def theirs(plain):
    """Return nn.MultiheadAttention with the weights of ``plain``."""
    module = nn.MultiheadAttention(D, H, dropout=0.5, batch_first=True).double()
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat((plain.wq.weight, plain.wk.weight, plain.wv.weight)))
        module.in_proj_bias.copy_(torch.cat((plain.wq.bias, plain.wk.bias, plain.wv.bias)))
        module.out_proj.weight.copy_(plain.wo.weight)
        module.out_proj.bias.copy_(plain.wo.bias)
    return module.eval()


@pytest.mark.parametrize("masked", [False, True])
def test_without_tables_equals_multihead_attention(plain, theirs, inputs, masked):
    mask = some_mask(T, S) if masked else None

    output, weights = plain(*inputs, mask)

    hidden = None if mask is None else ~mask
    expected, expected_weights = theirs(*inputs, average_attn_weights=False, attn_mask=hidden)
    assert_equal(output, expected)
    assert_equal(weights, expected_weights)


def test_without_tables_drops_what_multihead_attention_drops(plain, theirs, inputs):
    _, in_eval = plain(*inputs)
    plain.train()
    theirs.train()

    torch.manual_seed(2)
    output, weights = plain(*inputs)

    torch.manual_seed(2)
    assert_equal(output, theirs(*inputs)[0])
    assert_equal(weights, in_eval)  # where theirs returns those after dropout


# --- as scaled dot-product attention, which adds what is given as a mask to the scores ---------------------


@pytest.mark.parametrize("shape", [None, (T, S), (1, S), (H, T, S), (B, 1, 1, S), (B, 1, T, S), (B, H, 1, S)])
def test_scores_and_gradients_equal_scaled_dot_product_attention(make, inputs, shape):
    """With rel_v of zeros, q . a_k / sqrt(K) is a bias of the scores, worked out here for each pair on its own."""
    module, mask = make(2), None if shape is None else some_mask(*shape)
    with torch.no_grad():
        module.rel_v.zero_()
    leaves = [*inputs, *(p for name, p in module.named_parameters() if name != "rel_v")]
    cotangent = torch.randn(B, T, D, dtype=torch.float64)

    output, _ = module(*inputs, mask)

    q, k, v = (
        w(x).view(B, -1, H, K).transpose(1, 2) for w, x in zip((module.wq, module.wk, module.wv), inputs, strict=True)
    )
    rows = [[module.rel_k[max(-2, min(2, s - t)) + 2] for s in range(S)] for t in range(T)]
    pairs = [torch.stack([q[:, :, t] @ rows[t][s] for s in range(S)], dim=-1) for t in range(T)]
    bias = torch.stack(pairs, dim=2) / math.sqrt(K)
    if mask is not None:
        bias = bias.masked_fill(~mask, -math.inf)
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=bias)
    expected = module.wo(heads.transpose(1, 2).reshape(B, T, D))
    assert_equal(output, expected)
    assert_equal(torch.autograd.grad(output, leaves, cotangent), torch.autograd.grad(expected, leaves, cotangent))


# --- published models -------------------------------------------------------------------------------------


def copy_linear(target, source):
    target.weight.copy_(source.weight)
    target.bias.copy_(source.bias)


def test_equals_wav2vec2_bert_with_relative_keys(make, inputs):
    """It has a table for the keys alone, of clipped distances, and self-attention."""
    transformers = pytest.importorskip("transformers")
    config = transformers.Wav2Vec2BertConfig(
        hidden_size=D,
        num_attention_heads=H,
        position_embeddings_type="relative_key",
        left_max_position_embeddings=3,
        right_max_position_embeddings=3,
        attn_implementation="eager",
    )
    theirs = transformers.models.wav2vec2_bert.modeling_wav2vec2_bert.Wav2Vec2BertSelfAttention(config)
    theirs, ours, x = theirs.double().eval(), make(3), inputs[1]
    with torch.no_grad():
        ours.rel_v.zero_()
        theirs.distance_embedding.weight.copy_(ours.rel_k)
        for name in "q", "k", "v":
            copy_linear(getattr(theirs, f"linear_{name}"), getattr(ours, f"w{name}"))
        copy_linear(theirs.linear_out, ours.wo)

    output, _ = ours(x, x, x)

    assert_equal(output, theirs(x)[0])


def test_equals_vits_with_both_tables(make, inputs):
    """It has tables for the keys and for the values, and agrees as long as no distance is cut off."""
    transformers = pytest.importorskip("transformers")
    config = transformers.VitsConfig(hidden_size=D, num_attention_heads=H, window_size=S, attention_dropout=0.0)
    theirs = transformers.models.vits.modeling_vits.VitsAttention(config).double().eval()
    ours, x = make(S), inputs[1]
    with torch.no_grad():
        theirs.emb_rel_k.copy_(ours.rel_k[None])
        theirs.emb_rel_v.copy_(ours.rel_v[None])
        for name in "q", "k", "v":
            copy_linear(getattr(theirs, f"{name}_proj"), getattr(ours, f"w{name}"))
        copy_linear(theirs.out_proj, ours.wo)

    output, weights = ours(x, x, x)

    expected, expected_weights = theirs(x, output_attentions=True)
    assert_equal(output, expected)
    assert_equal(weights, expected_weights.view_as(weights))


# --- how the tables begin ---------------------------------------------------------------------------------


def test_tables_begin_as_glorot_and_bengio_print_it(solution):
    """Their equation 16: uniform up to sqrt(6) / sqrt(n_in + n_out), so of variance 2 / (n_in + n_out)."""
    torch.manual_seed(0)
    module = solution.RelativeMultiHeadAttention(100, 2, 200)

    bound = math.sqrt(6) / math.sqrt(401 + 50)
    for table in module.rel_k.detach().double(), module.rel_v.detach().double():
        assert 0.999 * bound < table.abs().max() <= bound * (1 + 1e-6)
        assert table.var().item() == pytest.approx(2 / (401 + 50), rel=0.03)
    assert not torch.equal(module.rel_k, module.rel_v)
