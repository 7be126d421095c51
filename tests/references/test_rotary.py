"""The reference of ``rotary`` against authorities that others wrote: the paper and three published models."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

SOLUTION = Path(__file__).parents[2] / "solutions" / "positions" / "rotary" / "solution.py"

ANY_POSITIONS = [0, 1, -3, 257, 4097, 1]  # T = 6


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("rotary_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models() -> ModuleType:
    return pytest.importorskip("transformers").models


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))  # (B, H, T, K)


# --- the paper -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [10_000.0, 500_000.0, 7.0])
@pytest.mark.parametrize("head_dim", [2, 6, 128])
def test_angles_are_those_of_section_3_2_2(solution, head_dim, base):
    """The paper prints theta_i = 10000 ** (-2 (i - 1) / d) for i in 1 .. d/2."""
    printed = [[p * base ** (-2 * (i - 1) / head_dim) for i in range(1, head_dim // 2 + 1)] for p in ANY_POSITIONS]

    angles = solution.rotary_angles(torch.tensor(ANY_POSITIONS), head_dim, base)

    assert angles.dtype == torch.float32
    torch.testing.assert_close(angles.double(), torch.tensor(printed, dtype=torch.float64), rtol=4e-7, atol=1e-6)


def test_turns_as_the_efficient_form_of_section_3_4_2(solution, x):
    """Work out x * cos + (-x2, x1, -x4, x3, ...) * sin number by number, features counted from 1 as printed."""
    x, base, d = x.double(), 10_000.0, 8
    expected = torch.empty_like(x)
    for b in range(2):
        for h in range(3):
            for t, m in enumerate(ANY_POSITIONS):
                row = [math.nan, *x[b, h, t].tolist()]  # row[1] is x1
                for i in range(1, d // 2 + 1):
                    angle = m * base ** (-2 * (i - 1) / d)
                    first, second = row[2 * i - 1], row[2 * i]
                    expected[b, h, t, 2 * i - 2] = first * math.cos(angle) - second * math.sin(angle)
                    expected[b, h, t, 2 * i - 1] = second * math.cos(angle) + first * math.sin(angle)

    turned = solution.apply_rotary(x, torch.tensor(ANY_POSITIONS), base)

    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-11)


def test_two_dimensions_are_the_product_with_a_complex_number_of_section_3_2_1(solution):
    """In two dimensions the paper multiplies by e ** (i m theta), with theta = 1 for the only pair."""
    x = torch.tensor([[0.3, -1.2], [2.0, 0.7], [-0.5, 0.1]], dtype=torch.float64)

    turned = solution.apply_rotary(x.view(1, 1, 3, 2), torch.tensor([2, -40, 99]))

    for row, out, m in zip(x.tolist(), turned[0, 0].tolist(), (2, -40, 99), strict=True):
        product = complex(*row) * complex(math.cos(m), math.sin(m))
        assert complex(*out) == pytest.approx(product, abs=1e-12)


def test_agrees_with_complex_multiplication(solution, x):
    x, positions = x.double(), torch.tensor(ANY_POSITIONS)
    speeds = torch.tensor([50.0 ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
    unit = torch.exp(1j * positions[:, None] * speeds)  # complex128 (T, K/2)
    expected = torch.view_as_real(torch.view_as_complex(x.unflatten(-1, (4, 2))) * unit).flatten(-2)

    turned = solution.apply_rotary(x, positions, 50.0)

    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-11)


def test_matrices_obey_the_relative_law_of_section_3_2_2(solution):
    """The matrices R_m are orthogonal, and R_m^T R_n is R_(n - m)."""
    identity = torch.eye(8, dtype=torch.float64).view(1, 8, 1, 8)  # one basis vector per head

    def matrix(m: int) -> torch.Tensor:
        return solution.apply_rotary(identity, torch.tensor([m]))[0, :, 0].T  # its columns are the turned basis

    torch.testing.assert_close(matrix(11).T @ matrix(11), torch.eye(8, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(matrix(11).T @ matrix(4), matrix(4 - 11), rtol=0, atol=1e-12)


def test_gradient_is_the_numerical_one(solution):
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)

    assert torch.autograd.gradcheck(lambda x: solution.apply_rotary(x, torch.tensor([5, -2, 0])), (x,))


# --- published models ------------------------------------------------------------------------------------


def test_agrees_with_roformer(solution, models, x):
    """The port of the paper's own model: pairs of neighbours, positions from 0."""
    roformer = models.roformer.modeling_roformer
    table = roformer.RoFormerSinusoidalPositionalEmbedding(6, 8)
    sines_and_cosines = table.create_weight()[None, None]  # (1, 1, T, K), the sines first
    expected, _ = roformer.RoFormerSelfAttention.apply_rotary_position_embeddings(sines_and_cosines, x, x)

    torch.testing.assert_close(solution.apply_rotary(x, torch.arange(6)), expected, rtol=0, atol=2e-6)


def test_agrees_with_gpt_j(solution, models, x):
    """GPT-J: pairs of neighbours ("rotate every two"), tokens before heads, any positions from a table."""
    gptj = models.gptj.modeling_gptj
    positions = torch.tensor([0, 1, 33, 257, 4097, 1])
    sin, cos = gptj.create_sinusoidal_positions(4098, 8)[positions][None].chunk(2, dim=-1)  # (1, T, K/2) each
    expected = gptj.apply_rotary_pos_emb(x.transpose(1, 2), sin, cos).transpose(1, 2)

    torch.testing.assert_close(solution.apply_rotary(x, positions), expected, rtol=0, atol=5e-3)
    near = slice(0, 3)  # float32 angles are closer there
    torch.testing.assert_close(solution.apply_rotary(x, positions)[:, :, near], expected[:, :, near], rtol=0, atol=5e-5)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_agrees_with_llama_once_features_are_reordered(solution, models, x, base):
    """Hugging Face's Llama pairs i with i + K/2: the even features first, then the odd ones, and it is the same."""
    llama = models.llama.modeling_llama
    parameters = {"rope_type": "default", "rope_theta": base}
    config = models.llama.LlamaConfig(hidden_size=24, num_attention_heads=3, head_dim=8, rope_parameters=parameters)
    positions = torch.tensor([[-3, 0, 1, 50, 257, 1]])
    halves = torch.cat((torch.arange(0, 8, 2), torch.arange(1, 8, 2)))

    rotary = llama.LlamaRotaryEmbedding(config)
    cos, sin = rotary(x, positions)
    expected, _ = llama.apply_rotary_pos_emb(x[..., halves], x[..., halves], cos, sin)
    turned = solution.apply_rotary(x, positions[0], base)

    torch.testing.assert_close(turned[..., halves], expected, rtol=0, atol=3e-4)
    torch.testing.assert_close(solution.rotary_angles(torch.tensor([1]), 8, base)[0], rotary.inv_freq)


def test_gives_the_scores_of_llama(solution, models, x):
    """The order of the features is a convention: attention scores do not know it."""
    llama = models.llama.modeling_llama
    parameters = {"rope_type": "default", "rope_theta": 10_000.0}
    config = models.llama.LlamaConfig(hidden_size=24, num_attention_heads=3, head_dim=8, rope_parameters=parameters)
    q, k, positions = x, x.flip(0), torch.arange(6)
    halves = torch.cat((torch.arange(0, 8, 2), torch.arange(1, 8, 2)))

    cos, sin = llama.LlamaRotaryEmbedding(config)(x, positions[None])
    their_q, their_k = llama.apply_rotary_pos_emb(q[..., halves], k[..., halves], cos, sin)
    ours = solution.apply_rotary(q, positions) @ solution.apply_rotary(k, positions).mT

    torch.testing.assert_close(ours, their_q @ their_k.mT, rtol=0, atol=2e-5)
