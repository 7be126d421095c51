"""The reference of attention_by_head against plain loops, PyTorch's own attention and Hugging Face's Llama."""

import cmath
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "attention_by_head" / "solution.py"
T, D, H, K = 5, 12, 6, 4
POSITIONS = (3, 0, -7, 40, 41)


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("attention_by_head_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[1, 2, 3, 6])
def inputs(request):
    """Return x, wq, wk and wv of 6 query heads and 1, 2, 3 or 6 key/value heads, in float64, all with gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = (T, D), (H, K, D), (request.param, K, D), (request.param, K, D)
    return [torch.randn(shape, dtype=torch.float64, generator=generator, requires_grad=True) for shape in shapes]


@pytest.fixture
def freqs_cis():
    """Return the rows of POSITIONS as complex128, so that all is float64."""
    rows = [[cmath.exp(1j * p * 10_000.0 ** (-2 * i / K)) for i in range(K // 2)] for p in POSITIONS]
    return torch.tensor(rows, dtype=torch.complex128)


def some_mask(*shape):
    """Return a random mask in which every row has an allowed key."""
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(2)) < 0.5
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


def assert_equal(got, expected):
    torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


# --- the formula, in plain Python ------------------------------------------------------------------------


def head_by_loops(x, wq, wk, wv, freqs_cis, mask):
    """Work out every number of one head with lists, floats and complex numbers; ``mask[t][s]``."""
    q, k, v = ([[dot(row, token) for row in w] for token in x] for w in (wq, wk, wv))
    output = []
    for t in range(T):
        powers = []
        for s in range(T):
            score = dot(turned(q[t], freqs_cis[t]), turned(k[s], freqs_cis[s])) / math.sqrt(K)
            powers.append(math.exp(score) if mask[t][s] else 0.0)
        weights = [power / (sum(powers) or 1.0) for power in powers]
        output.append([dot(weights, [value[i] for value in v]) for i in range(K)])
    return output


def dot(a, b):
    return sum(first * second for first, second in zip(a, b, strict=True))


def turned(features, row):
    """Multiply the pairs of neighbours by complex numbers."""
    products = [complex(features[2 * i], features[2 * i + 1]) * row[i] for i in range(K // 2)]
    return [part for product in products for part in (product.real, product.imag)]


@pytest.mark.parametrize("shape", [None, (T, T), (T, 1), (1, T)])
def test_equals_the_formula_in_plain_loops(solution, inputs, freqs_cis, shape):
    mask = None if shape is None else torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5
    x, wq, wk, wv = inputs
    numbers = (torch.ones(T, T, dtype=torch.bool) if mask is None else mask.expand(T, T)).tolist()

    output = solution.attention_all_heads(x, wq, wk, wv, freqs_cis, mask)

    for h in range(H):
        g = h // (H // len(wk))
        weights = (wq[h].tolist(), wk[g].tolist(), wv[g].tolist())
        expected = torch.tensor(head_by_loops(x.tolist(), *weights, freqs_cis.tolist(), numbers), dtype=torch.float64)
        assert_equal(output[:, h * K : (h + 1) * K], expected)
        assert_equal(solution.attention_head(x, wq[h], wk[g], wv[g], freqs_cis, mask), expected)


# --- PyTorch ---------------------------------------------------------------------------------------------


def by_scaled_dot_product(x, wq, wk, wv, freqs_cis, mask):
    """Let PyTorch attend and share the heads; pairs are turned by 2 x 2 matrices."""
    cos, sin = freqs_cis.real, freqs_cis.imag
    matrices = torch.stack((cos, -sin, sin, cos), dim=-1).view(T, K // 2, 2, 2)
    q, k, v = (torch.einsum("td,hkd->htk", x, w) for w in (wq, wk, wv))
    q, k = (torch.einsum("tpij,htpj->htpi", matrices, t.unflatten(-1, (-1, 2))).flatten(-2) for t in (q, k))
    heads = F.scaled_dot_product_attention(q[None], k[None], v[None], attn_mask=mask, enable_gqa=True)
    return heads[0].transpose(0, 1).reshape(T, H * K)


@pytest.mark.parametrize("shape", [None, (T, T), (1, T)])
def test_output_and_gradients_equal_scaled_dot_product_attention(solution, inputs, freqs_cis, shape):
    mask = None if shape is None else some_mask(*shape)
    cotangent = torch.randn(T, H * K, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    output = solution.attention_all_heads(*inputs, freqs_cis, mask)

    expected = by_scaled_dot_product(*inputs, freqs_cis, mask)
    assert_equal(output, expected)
    assert_equal(torch.autograd.grad(output, inputs, cotangent), torch.autograd.grad(expected, inputs, cotangent))


def test_a_query_with_nothing_to_attend_to_equals_scaled_dot_product_attention(solution, inputs, freqs_cis):
    mask = some_mask(T, T)
    mask[2] = False

    output = solution.attention_all_heads(*inputs, freqs_cis, mask)

    assert_equal(output, by_scaled_dot_product(*inputs, freqs_cis, mask))  # zeros since PyTorch 2.5, NaN before
    assert output[2].eq(0).all()
    output.sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in inputs)


# --- Hugging Face's Llama --------------------------------------------------------------------------------


@pytest.mark.parametrize("causal", [False, True])
def test_equals_llama_once_query_and_key_rows_are_reordered(solution, inputs, freqs_cis, causal):
    """Its output projection is set to the identity, and its rows to pairs of i and i + K/2."""
    llama = pytest.importorskip("transformers").models.llama
    x, wq, wk, wv = inputs
    config = llama.LlamaConfig(
        hidden_size=D,
        num_attention_heads=H,
        num_key_value_heads=len(wk),
        head_dim=K,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        attn_implementation="eager",
    )
    attention = llama.modeling_llama.LlamaAttention(config, layer_idx=0).double().eval()
    attention.o_proj = torch.nn.Identity()
    halves = torch.cat((torch.arange(0, K, 2), torch.arange(1, K, 2)))
    weights = {"q_proj": wq[:, halves], "k_proj": wk[:, halves], "v_proj": wv}
    attention.load_state_dict({f"{name}.weight": weight.flatten(0, 1) for name, weight in weights.items()})
    mask = torch.ones(T, T, dtype=torch.bool).tril()
    added = torch.zeros(T, T, dtype=torch.float64).masked_fill(~mask, -math.inf) if causal else None

    output = solution.attention_all_heads(x, wq, wk, wv, freqs_cis, mask if causal else None)

    cos_and_sin = llama.modeling_llama.LlamaRotaryEmbedding(config)(x, torch.tensor([POSITIONS]))
    expected, _ = attention(x[None], position_embeddings=cos_and_sin, attention_mask=added)
    torch.testing.assert_close(output, expected[0], rtol=0, atol=1e-5)  # their angles and softmax are float32


def test_computes_in_float64_with_complex64_rows(solution, inputs, freqs_cis):
    """The suite compares with the reference in float64 on complex64 rows: nothing else may be rounded."""
    rows = freqs_cis.to(torch.complex64)

    outputs = (solution.attention_all_heads(*inputs, r) for r in (rows, rows.to(torch.complex128)))
    assert_equal(*outputs)
