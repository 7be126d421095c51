"""The reference of grouped_query against plain loops, PyTorch's own grouped attention and Hugging Face's Llama."""

import cmath
import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "grouped_query" / "solution.py"
B, T, D, H, K = 2, 5, 24, 4, 6
POSITIONS = (3, 0, -7, 40, 41)


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("grouped_query_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[1, 2, 4])
def ours(request, solution):
    """Return a module in float64 with 1, 2 or 4 key/value heads."""
    torch.manual_seed(0)
    return solution.GroupedQueryAttention(D, H, request.param).double()


@pytest.fixture
def x():
    return torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)


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


# --- repeat_kv -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_rep", [1, 2, 5])
def test_repeat_kv_is_repeat_interleave(solution, n_rep):
    """The comment in Meta's code says what it stands for: torch.repeat_interleave(x, dim=2, repeats=n_rep)."""
    x = torch.randn(2, 3, 4, 6)

    assert torch.equal(solution.repeat_kv(x, n_rep), torch.repeat_interleave(x, dim=2, repeats=n_rep))


@pytest.mark.parametrize("n_rep", [1, 2, 5])
def test_repeat_kv_equals_that_of_transformers(solution, n_rep):
    llama = pytest.importorskip("transformers").models.llama.modeling_llama
    x = torch.randn(2, 3, 4, 6)

    theirs = llama.repeat_kv(x.transpose(1, 2), n_rep).transpose(1, 2)  # which takes the heads before the tokens

    assert torch.equal(solution.repeat_kv(x, n_rep), theirs)


# --- the formula, in plain Python ------------------------------------------------------------------------


def by_loops(module, x, freqs_cis, mask):
    """Work out every number with lists, floats and complex numbers; ``mask[b][h][t][s]``."""
    wq, wk, wv, wo = (module.get_parameter(f"{name}.weight").tolist() for name in ("wq", "wk", "wv", "wo"))
    G = len(wk) // K
    rows = freqs_cis.tolist()
    batch = []
    for b, tokens in enumerate(x.tolist()):
        q, k, v = ([[dot(row, token) for row in w] for token in tokens] for w in (wq, wk, wv))
        output = []
        for t in range(T):
            heads = []
            for h in range(H):
                g = h // (H // G)
                query = turned(q[t][h * K : (h + 1) * K], rows[t])
                powers = []
                for s in range(T):
                    key = turned(k[s][g * K : (g + 1) * K], rows[s])
                    powers.append(math.exp(dot(query, key) / math.sqrt(K)) if mask[b][h][t][s] else 0.0)
                weights = [power / (sum(powers) or 1.0) for power in powers]
                heads += [dot(weights, [value[g * K + i] for value in v]) for i in range(K)]
            output.append([dot(row, heads) for row in wo])
        batch.append(output)
    return torch.tensor(batch, dtype=torch.float64)


def dot(a, b):
    return sum(first * second for first, second in zip(a, b, strict=True))


def turned(features, row):
    """Multiply the pairs of neighbours by complex numbers."""
    products = [complex(features[2 * i], features[2 * i + 1]) * row[i] for i in range(K // 2)]
    return [part for product in products for part in (product.real, product.imag)]


@pytest.mark.parametrize("shape", [None, (T, T), (T, 1), (B, 1, 1, T), (H, T, T), (B, H, T, T)])
def test_equals_the_formula_in_plain_loops(ours, x, freqs_cis, shape):
    mask = None if shape is None else torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.5

    output = ours(x, freqs_cis, mask)

    everywhere = torch.ones(B, H, T, T, dtype=torch.bool) & (torch.tensor(True) if mask is None else mask)
    assert_equal(output, by_loops(ours, x, freqs_cis, everywhere.tolist()))


# --- PyTorch ---------------------------------------------------------------------------------------------


def by_scaled_dot_product(ours, x, freqs_cis, mask):
    """Let PyTorch attend and share the heads; pairs are turned by 2 x 2 matrices."""
    cos, sin = freqs_cis.real, freqs_cis.imag
    matrices = torch.stack((cos, -sin, sin, cos), dim=-1).view(T, 1, K // 2, 2, 2)

    def heads(w):
        return w(x).view(B, T, -1, K // 2, 2, 1)

    q, k = ((matrices @ heads(w)).view(B, T, -1, K).transpose(1, 2) for w in (ours.wq, ours.wk))
    v = heads(ours.wv).view(B, T, -1, K).transpose(1, 2)
    attended = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return ours.wo(attended.transpose(1, 2).reshape(B, T, D))


@pytest.mark.parametrize("shape", [None, (T, T), (1, T), (H, T, T), (B, 1, 1, T), (B, 1, T, T), (B, H, T, T)])
def test_output_and_gradients_equal_scaled_dot_product_attention(ours, x, freqs_cis, shape):
    mask = None if shape is None else some_mask(*shape)
    leaves = [x, *ours.parameters()]
    cotangent = torch.randn(B, T, D, dtype=torch.float64, generator=torch.Generator().manual_seed(4))

    output = ours(x, freqs_cis, mask)

    expected = by_scaled_dot_product(ours, x, freqs_cis, mask)
    assert_equal(output, expected)
    assert_equal(torch.autograd.grad(output, leaves, cotangent), torch.autograd.grad(expected, leaves, cotangent))


def test_a_query_with_nothing_to_attend_to_equals_scaled_dot_product_attention(ours, x, freqs_cis):
    mask = some_mask(B, 1, T, T)
    mask[1, 0, 2] = False

    output = ours(x, freqs_cis, mask)

    assert_equal(output, by_scaled_dot_product(ours, x, freqs_cis, mask))  # zeros since PyTorch 2.5, NaN before
    assert output[1, 2].eq(0).all()
    output.sum().backward()
    assert all(leaf.grad.isfinite().all() for leaf in [x, *ours.parameters()])


# --- Hugging Face's Llama --------------------------------------------------------------------------------


def halves(weight):
    """Reorder rows for code that pairs feature i with i + K/2: in each head the even rows first, then the odd ones."""
    return weight.view(-1, K // 2, 2, D).transpose(1, 2).reshape(weight.shape)


@pytest.fixture
def theirs(ours):
    """Return transformers' attention with the weights of ``ours``, and its rotary embedding."""
    llama = pytest.importorskip("transformers").models.llama
    config = llama.LlamaConfig(
        hidden_size=D,
        num_attention_heads=H,
        num_key_value_heads=ours.wk.weight.shape[0] // K,
        rope_parameters={"rope_type": "default", "rope_theta": 10_000.0},
        attn_implementation="eager",
    )
    attention = llama.modeling_llama.LlamaAttention(config, layer_idx=0).double().eval()
    weights = {"q_proj": halves(ours.wq.weight), "k_proj": halves(ours.wk.weight)}
    weights |= {"v_proj": ours.wv.weight, "o_proj": ours.wo.weight}
    attention.load_state_dict({f"{name}.weight": weight for name, weight in weights.items()})
    return attention, llama.modeling_llama.LlamaRotaryEmbedding(config)


@pytest.mark.parametrize("causal", [False, True])
def test_equals_llama_once_query_and_key_rows_are_reordered(ours, theirs, x, freqs_cis, causal):
    attention, rotary = theirs
    mask = torch.ones(T, T, dtype=torch.bool).tril() if causal else None
    added = torch.zeros(1, 1, T, T, dtype=torch.float64)
    if causal:
        added.masked_fill_(~mask, -math.inf)

    output = ours(x, freqs_cis, mask)

    cos_and_sin = rotary(x, torch.tensor([POSITIONS]))
    expected, _ = attention(x, position_embeddings=cos_and_sin, attention_mask=added)
    torch.testing.assert_close(output, expected, rtol=0, atol=5e-6)  # their angles and softmax are float32


def test_computes_in_float64_with_complex64_rows(ours, x, freqs_cis):
    """The suite compares with the reference in float64 on complex64 rows: nothing else may be rounded."""
    rows = freqs_cis.to(torch.complex64)

    assert_equal(ours(x, rows), ours(x, rows.to(torch.complex128)))
