"""The reference of ``rotary_complex`` against authorities that others wrote: the paper and a published model."""

import cmath
import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

SOLUTIONS = Path(__file__).parents[2] / "solutions" / "positions"
B, T, H, G, K = 2, 6, 4, 2, 8


def load(slug: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{slug}_solution", SOLUTIONS / slug / "solution.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    return load("rotary_complex")


@pytest.fixture(scope="module")
def llama4() -> ModuleType:
    """The model of Llama's own kind: its published port kept the reference code's complex numbers."""
    return pytest.importorskip("transformers").models.llama4.modeling_llama4


@pytest.fixture
def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(B, T, H, K, generator=generator), torch.randn(B, T, G, K, generator=generator)


# --- the table -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0, 7.0])
@pytest.mark.parametrize("head_dim", [2, 6, 128])
def test_table_holds_the_powers_of_the_paper(solution, head_dim, theta):
    """Section 3.2.1 multiplies by e ** (i m theta_j), with theta_j = 10000 ** (-2 (j - 1) / d) for j in 1 .. d/2."""
    printed = [
        [cmath.exp(1j * m * theta ** (-2 * (j - 1) / head_dim)) for j in range(1, head_dim // 2 + 1)]
        for m in range(300)
    ]

    table = solution.precompute_freqs_cis(head_dim, 300, theta)

    assert table.dtype == torch.complex64
    torch.testing.assert_close(
        table.to(torch.complex128), torch.tensor(printed, dtype=torch.complex128), rtol=0, atol=1e-6 + 4e-7 * 300
    )


@pytest.mark.parametrize("theta", [10_000.0, 500_000.0])
def test_table_is_that_of_llama_4(solution, llama4, theta):
    parameters = {"rope_type": "default", "rope_theta": theta}
    config = llama4.Llama4TextConfig(
        hidden_size=H * K, num_attention_heads=H, num_key_value_heads=G, head_dim=K, rope_parameters=parameters
    )
    theirs = llama4.Llama4TextRotaryEmbedding(config)(torch.zeros(1), torch.arange(1000)[None])[0]

    table = solution.precompute_freqs_cis(K, 1000, theta)

    torch.testing.assert_close(table, theirs, rtol=0, atol=1e-6 + 4e-7 * 1000)


# --- the turn --------------------------------------------------------------------------------------------


def test_multiplies_every_pair_by_its_number(solution, inputs):
    """Number by number in Python's own complex arithmetic, in float64."""
    freqs_cis = [[cmath.rect(1.0, 1.7 * t - 0.3 * i) for i in range(K // 2)] for t in range(T)]
    inputs = [x.double() for x in inputs]

    turned = solution.apply_rotary_emb(*inputs, torch.tensor(freqs_cis, dtype=torch.complex128))

    for x, out in zip(inputs, turned, strict=True):
        expected = torch.empty_like(x)
        for b in range(B):
            for t in range(T):
                for h in range(x.shape[2]):
                    row = x[b, t, h].tolist()
                    for i in range(K // 2):
                        product = complex(row[2 * i], row[2 * i + 1]) * freqs_cis[t][i]
                        expected[b, t, h, 2 * i], expected[b, t, h, 2 * i + 1] = product.real, product.imag
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-13)


def test_equals_the_real_rotation_of_rotary(solution, inputs):
    """The same turn in real arithmetic, where heads come before tokens: (B, H, T, K)."""
    rotary, positions = load("rotary"), [0, 1, 50, 257, 4097, 1]
    angles = [[p * 10_000.0 ** (-2 * i / K) for i in range(K // 2)] for p in positions]
    freqs_cis = torch.polar(torch.ones(T, K // 2, dtype=torch.float64), torch.tensor(angles, dtype=torch.float64))
    inputs = [x.double() for x in inputs]

    turned = solution.apply_rotary_emb(*inputs, freqs_cis)

    for x, out in zip(inputs, turned, strict=True):
        expected = rotary.apply_rotary(x.transpose(1, 2), torch.tensor(positions)).transpose(1, 2)
        torch.testing.assert_close(out, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float32), (torch.bfloat16, torch.float32)])
def test_agrees_with_llama_4(solution, llama4, inputs, dtypes):
    xq, xk = (x.to(dtype) for x, dtype in zip(inputs, dtypes, strict=True))
    freqs_cis = solution.precompute_freqs_cis(K, 40)[30:36]

    turned = solution.apply_rotary_emb(xq, xk, freqs_cis)

    for out, theirs in zip(turned, llama4.apply_rotary_emb(xq, xk, freqs_cis[None]), strict=True):
        torch.testing.assert_close(out, theirs, rtol=0, atol=0)


def test_scores_obey_the_relative_law(solution):
    """q at m and k at n score as q at m - n and k at 0."""
    q, k = torch.randn(2, 1, 1, 1, K)
    table = solution.precompute_freqs_cis(K, 60)

    def score(m: int, n: int) -> float:
        turned_q = solution.apply_rotary_emb(q, q, table[m : m + 1])[0]
        turned_k = solution.apply_rotary_emb(k, k, table[n : n + 1])[1]
        return float((turned_q * turned_k).sum())

    for m, n in (5, 2), (59, 1), (7, 7):
        assert math.isclose(score(m, n), score(m - n, 0), abs_tol=1e-3)


def test_gradients_are_the_numerical_ones(solution):
    generator = torch.Generator().manual_seed(1)
    xq, xk = (torch.randn(1, 3, n, 4, dtype=torch.float64, generator=generator, requires_grad=True) for n in (2, 1))
    freqs_cis = solution.precompute_freqs_cis(4, 3).to(torch.complex128)

    assert torch.autograd.gradcheck(lambda q, k: solution.apply_rotary_emb(q, k, freqs_cis), (xq, xk))
