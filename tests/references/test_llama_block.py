"""The reference of llama_block against Hugging Face's decoder layer, PyTorch's parts and plain loops."""

import cmath
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "blocks" / "llama_block" / "solution.py"
B, T, D, H, K, HIDDEN, EPS = 2, 5, 24, 4, 6, 17, 0.01
POSITIONS = (3, 0, -7, 40, 41)


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("llama_block_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[1, 2, 4], ids="G={}".format)
def ours(request, solution):
    """Return a block in float64 with 1, 2 or 4 key/value heads and gains other than 1."""
    torch.manual_seed(request.param)
    block = solution.LlamaBlock(D, H, request.param, HIDDEN, norm_eps=EPS).double()
    with torch.no_grad():
        for norm in block.attention_norm, block.ffn_norm:
            norm.weight.add_(0.3 * torch.randn(D))
    return block


@pytest.fixture
def x():
    return torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)


@pytest.fixture
def freqs_cis():
    """Return the rows of POSITIONS as complex128, so that all is float64."""
    rows = [[cmath.exp(1j * p * 10_000.0 ** (-2 * i / K)) for i in range(K // 2)] for p in POSITIONS]
    return torch.tensor(rows, dtype=torch.complex128)


def random_mask(*shape):
    return torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.5


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-11, atol=1e-11)


# --- PyTorch's parts -------------------------------------------------------------------------------------


def by_parts(block, x, freqs_cis, mask):
    """Put the block together from nn.RMSNorm's, scaled_dot_product_attention's and F.silu's answers."""
    w = block.state_dict(keep_vars=True)
    cos, sin = freqs_cis.real, freqs_cis.imag
    matrices = torch.stack((cos, -sin, sin, cos), dim=-1).view(T, 1, K // 2, 2, 2)

    def norm(y, name):
        return F.rms_norm(y, (D,), w[name], EPS)

    n = norm(x, "attention_norm.weight")
    q, k = ((n @ w[f"attention.{name}.weight"].T).view(B, T, -1, K // 2, 2, 1) for name in ("wq", "wk"))
    q, k = ((matrices @ y).view(B, T, -1, K).transpose(1, 2) for y in (q, k))
    v = (n @ w["attention.wv.weight"].T).view(B, T, -1, K).transpose(1, 2)
    if mask is None:
        heads = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    else:
        heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    h = x + heads.transpose(1, 2).reshape(B, T, D) @ w["attention.wo.weight"].T
    n = norm(h, "ffn_norm.weight")
    gate, value = (n @ w[f"feed_forward.{name}.weight"].T for name in ("w1", "w3"))
    return h + F.silu(gate) * value @ w["feed_forward.w2.weight"].T


@pytest.mark.parametrize("shape", [None, (T, T), (1, T), (T, 1), (H, T, T), (B, 1, 1, T), (B, H, T, T)], ids=str)
def test_output_and_gradients_equal_pytorchs_parts(ours, x, freqs_cis, shape):
    mask = None if shape is None else random_mask(*shape)
    cotangent = torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    leaves = [x, *ours.parameters()]

    output = ours(x, freqs_cis, mask)

    expected = by_parts(ours, x, freqs_cis, mask if shape is None else mask.expand(B, H, T, T))
    assert_equal(output, expected)  # a row that may attend to nothing is 0 there since PyTorch 2.5
    assert_equal(torch.autograd.grad(output, leaves, cotangent), torch.autograd.grad(expected, leaves, cotangent))


# --- the formula, in plain Python ------------------------------------------------------------------------


def by_loops(block, x, freqs_cis):
    """Work out every number of a causal block with lists, floats and complex numbers."""
    w = {name: tensor.tolist() for name, tensor in block.state_dict().items()}
    rows, G = freqs_cis.tolist(), len(w["attention.wk.weight"]) // K

    def times(name, vector):
        return [sum(a * b for a, b in zip(row, vector, strict=True)) for row in w[name]]

    def norm(name, vector):
        root = math.sqrt(sum(a * a for a in vector) / D + EPS)
        return [a / root * g for a, g in zip(vector, w[name], strict=True)]

    def turned(vector, head, t):
        pairs = [complex(*vector[head * K + 2 * i : head * K + 2 * i + 2]) * rows[t][i] for i in range(K // 2)]
        return [part for pair in pairs for part in (pair.real, pair.imag)]

    batch = []
    for tokens in x.tolist():
        normed = [norm("attention_norm.weight", token) for token in tokens]
        q, k, v = ([times(f"attention.{name}.weight", n) for n in normed] for name in ("wq", "wk", "wv"))
        output = []
        for t, token in enumerate(tokens):
            heads = []
            for h in range(H):
                g = h // (H // G)
                query = turned(q[t], h, t)
                keys = [turned(k[s], g, s) for s in range(t + 1)]
                powers = [math.exp(sum(a * b for a, b in zip(query, key, strict=True)) / K**0.5) for key in keys]
                values = [v[s][g * K : (g + 1) * K] for s in range(t + 1)]
                heads += [
                    sum(p * value[i] for p, value in zip(powers, values, strict=True)) / sum(powers) for i in range(K)
                ]
            middle = [a + b for a, b in zip(token, times("attention.wo.weight", heads), strict=True)]
            n = norm("ffn_norm.weight", middle)
            gate, value = times("feed_forward.w1.weight", n), times("feed_forward.w3.weight", n)
            hidden = [a / (1 + math.exp(-a)) * b for a, b in zip(gate, value, strict=True)]
            output.append([a + b for a, b in zip(middle, times("feed_forward.w2.weight", hidden), strict=True)])
        batch.append(output)
    return torch.tensor(batch, dtype=torch.float64)


def test_equals_the_formula_in_plain_loops(ours, x, freqs_cis):
    assert_equal(ours(x, freqs_cis).detach(), by_loops(ours, x, freqs_cis))


# --- Hugging Face's Llama --------------------------------------------------------------------------------


def halves(weight):
    """Reorder rows for code that pairs feature i with i + K/2: in each head the even rows first, then the odd ones."""
    return weight.view(-1, K // 2, 2, D).transpose(1, 2).reshape(weight.shape)


@pytest.fixture
def theirs(ours):
    """Return transformers' decoder layer with the weights of ``ours``, and its rotary embedding."""
    llama = pytest.importorskip("transformers").models.llama
    config = llama.LlamaConfig(
        hidden_size=D,
        intermediate_size=HIDDEN,
        num_attention_heads=H,
        num_key_value_heads=ours.attention.wk.weight.shape[0] // K,
        rms_norm_eps=EPS,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        attn_implementation="eager",
    )
    layer = llama.modeling_llama.LlamaDecoderLayer(config, layer_idx=0).double().eval()
    w = ours.state_dict()
    names = {
        "self_attn.q_proj.weight": halves(w["attention.wq.weight"]),
        "self_attn.k_proj.weight": halves(w["attention.wk.weight"]),
        "self_attn.v_proj.weight": w["attention.wv.weight"],
        "self_attn.o_proj.weight": w["attention.wo.weight"],
        "mlp.gate_proj.weight": w["feed_forward.w1.weight"],
        "mlp.up_proj.weight": w["feed_forward.w3.weight"],
        "mlp.down_proj.weight": w["feed_forward.w2.weight"],
        "input_layernorm.weight": w["attention_norm.weight"],
        "post_attention_layernorm.weight": w["ffn_norm.weight"],
    }
    layer.load_state_dict(names)
    return layer, llama.modeling_llama.LlamaRotaryEmbedding(config)


@pytest.mark.parametrize("causal", [True, False])
def test_equals_llamas_decoder_layer_once_query_and_key_rows_are_reordered(ours, theirs, x, freqs_cis, causal):
    layer, rotary = theirs
    added = torch.zeros(1, 1, T, T, dtype=torch.float64)
    if causal:
        added += torch.full((T, T), -math.inf, dtype=torch.float64).triu(1)

    output = ours(x, freqs_cis, None if causal else torch.ones(T, T, dtype=torch.bool))

    expected = layer(x, attention_mask=added, position_embeddings=rotary(x, torch.tensor([POSITIONS])))
    expected = expected if isinstance(expected, torch.Tensor) else expected[0]
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-5)  # their angles, norms and softmax are float32


def test_the_names_are_those_of_a_published_checkpoint(ours):
    """As they stand in consolidated.00.pth of Llama 2, behind ``layers.0.``."""
    published = {f"attention.{name}.weight" for name in ("wq", "wk", "wv", "wo")}
    published |= {f"feed_forward.{name}.weight" for name in ("w1", "w2", "w3")}
    published |= {"attention_norm.weight", "ffn_norm.weight"}

    assert set(ours.state_dict()) == published
    assert all(isinstance(parameter, nn.Parameter) for parameter in ours.parameters())


def test_llama_2_7b_has_as_many_parameters_in_a_block(solution):
    """6,738,415,616 in all, less embedding, output and the last norm, is 32 blocks."""
    with torch.device("meta"):
        block = solution.LlamaBlock(4096, 32, 32, 11008)

    count = sum(parameter.numel() for parameter in block.parameters())

    assert 32 * count + 2 * 32000 * 4096 + 4096 == 6_738_415_616


def test_computes_in_float64_with_complex64_rows(ours, x, freqs_cis):
    """The suite compares with the reference in float64 on complex64 rows: nothing else may be rounded."""
    rows = freqs_cis.to(torch.complex64)

    assert_equal(ours(x, rows), ours(x, rows.to(torch.complex128)))


def test_a_token_with_nothing_to_attend_to_gets_no_nan(ours, x, freqs_cis):
    mask = torch.ones(B, 1, T, T, dtype=torch.bool)
    mask[1, 0, 2] = False

    output = ours(x, freqs_cis, mask)

    h = x[1, 2]
    n = F.rms_norm(h, (D,), ours.ffn_norm.weight, EPS)
    w = ours.feed_forward
    assert_equal(output[1, 2], h + w.w2(F.silu(w.w1(n)) * w.w3(n)))
    output.sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in [x, *ours.parameters()])
