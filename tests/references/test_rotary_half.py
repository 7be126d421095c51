"""The reference of ``rotary_half`` against authorities that others wrote: the papers and published models."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

SOLUTIONS = Path(__file__).parents[2] / "solutions" / "positions"

ANY_POSITIONS = [0, 1, -3, 257, 4097, 1]  # T = 6
NEAR = [0, 1, -3, 25, 50, 1]  # float32 angles are close to exact ones there


def load(slug: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"{slug}_solution", SOLUTIONS / slug / "solution.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    return load("rotary_half")


@pytest.fixture(scope="module")
def llama() -> ModuleType:
    return pytest.importorskip("transformers").models.llama.modeling_llama


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 6, 8, generator=torch.Generator().manual_seed(0))  # (B, H, T, K)


def llama_tables(llama: ModuleType, x: torch.Tensor, base: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the cosines and sines (1, T, K) of the published class, in the dtype of ``x``."""
    parameters = {"rope_type": "default", "rope_theta": base}
    config = llama.LlamaConfig(hidden_size=24, num_attention_heads=3, head_dim=8, rope_parameters=parameters)
    return llama.LlamaRotaryEmbedding(config)(x, torch.tensor([NEAR]))


def published_permutation(weight: torch.Tensor, n_heads: int) -> torch.Tensor:
    """Permute as the script does that converted the published weights of Llama to Hugging Face's layout.

    (``permute`` of ``convert_llama_weights_to_hf.py``, which the package does not ship as a module.)
    """
    dim1, dim2 = weight.shape
    return weight.view(n_heads, dim1 // n_heads // 2, 2, dim2).transpose(1, 2).reshape(dim1, dim2)


# --- turning ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("base", [10_000.0, 500_000.0, 7.0])
@pytest.mark.parametrize("head_dim", [2, 6, 64])
def test_turns_each_pair_by_the_angle_of_the_paper(solution, head_dim, base):
    """Number by number: theta_i = base ** (-2 (i - 1) / d) for i in 1 .. d/2, pairs half a head apart."""
    x = torch.randn(2, 2, 6, head_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    expected = torch.empty_like(x)
    half = head_dim // 2
    for t, m in enumerate(ANY_POSITIONS):
        for i in range(half):
            angle = m * base ** (-2 * i / head_dim)
            first, second = x[:, :, t, i], x[:, :, t, i + half]
            expected[:, :, t, i] = first * math.cos(angle) - second * math.sin(angle)
            expected[:, :, t, i + half] = first * math.sin(angle) + second * math.cos(angle)

    turned = solution.apply_rotary_half(x, torch.tensor(ANY_POSITIONS), base)

    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-11)


def test_rotate_half_is_that_of_the_published_models(solution, llama, x):
    neox = pytest.importorskip("transformers").models.gpt_neox.modeling_gpt_neox

    for given in x, x[0, 0], x[0, 0, 0], x.double(), x.bfloat16(), x.transpose(1, 2):
        torch.testing.assert_close(solution.rotate_half(given), llama.rotate_half(given), rtol=0, atol=0)
        torch.testing.assert_close(solution.rotate_half(given), neox.rotate_half(given), rtol=0, atol=0)


@pytest.mark.parametrize("base", [10_000.0, 500_000.0])
def test_agrees_with_llama(solution, llama, x, base):
    cos, sin = llama_tables(llama, x, base)
    expected, _ = llama.apply_rotary_pos_emb(x, x, cos, sin)

    turned = solution.apply_rotary_half(x, torch.tensor(NEAR), base)

    torch.testing.assert_close(turned, expected, rtol=0, atol=5e-5)


def test_agrees_with_llama_in_bfloat16(solution, llama, x):
    x = x.bfloat16()
    expected, _ = llama.apply_rotary_pos_emb(x, x, *llama_tables(llama, x, 10_000.0))

    turned = solution.apply_rotary_half(x, torch.tensor(NEAR))

    assert turned.dtype == torch.bfloat16
    torch.testing.assert_close(turned, expected, rtol=0, atol=0.02 * float(x.abs().max()))


def test_agrees_with_llama_s_function_in_float64(solution, llama, x):
    """The published function with tables that are as exact as ours."""
    x = x.double()
    angles = torch.tensor([[p * 10_000.0 ** (-2 * i / 8) for i in range(4)] for p in ANY_POSITIONS], dtype=x.dtype)
    tables = torch.cat((angles, angles), dim=-1)[None]  # (1, T, K)
    expected, _ = llama.apply_rotary_pos_emb(x, x, tables.cos(), tables.sin())

    turned = solution.apply_rotary_half(x, torch.tensor(ANY_POSITIONS))

    torch.testing.assert_close(turned, expected, rtol=0, atol=1e-11)


def test_gradient_is_the_numerical_one(solution):
    x = torch.randn(1, 2, 3, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)

    assert torch.autograd.gradcheck(lambda x: solution.apply_rotary_half(x, torch.tensor([5, -2, 0])), (x,))
    assert torch.autograd.gradcheck(solution.rotate_half, (x,))


# --- converting ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("n_heads", "head_dim", "dim"), [(1, 2, 3), (1, 8, 8), (2, 2, 4), (3, 8, 5), (4, 6, 24)])
def test_converts_as_the_published_script(solution, n_heads, head_dim, dim):
    weight = torch.randn(n_heads * head_dim, dim)

    converted = solution.interleaved_to_half(weight, n_heads)

    assert torch.equal(converted, published_permutation(weight, n_heads))
    assert converted.untyped_storage().data_ptr() != weight.untyped_storage().data_ptr()


@pytest.mark.parametrize("n_heads", [1, 3])
def test_converted_projections_give_the_scores_of_the_interleaved_formula(solution, n_heads):
    """Scores by the formula of the paper in plain Python numbers, pairs of neighbours."""
    D, K, base = 5, 6, 100.0
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(6, D, dtype=torch.float64, generator=generator)  # (T, D)
    wq, wk = torch.randn(2, n_heads * K, D, dtype=torch.float64, generator=generator)

    def turned(token: int, weight: torch.Tensor, head: int) -> list[float]:
        features = (weight[head * K : (head + 1) * K] @ hidden[token]).tolist()
        result = []
        for i in range(K // 2):
            angle = ANY_POSITIONS[token] * base ** (-2 * i / K)
            a, b = features[2 * i], features[2 * i + 1]
            result += [a * math.cos(angle) - b * math.sin(angle), a * math.sin(angle) + b * math.cos(angle)]
        return result

    def score(t: int, s: int, head: int) -> float:
        return sum(a * b for a, b in zip(turned(t, wq, head), turned(s, wk, head), strict=True))

    expected = [[[score(t, s, head) for s in range(6)] for t in range(6)] for head in range(n_heads)]
    q, k = (
        solution.apply_rotary_half(
            (hidden @ solution.interleaved_to_half(w, n_heads).T).view(1, 6, n_heads, K).transpose(1, 2),
            torch.tensor(ANY_POSITIONS),
            base,
        )
        for w in (wq, wk)
    )
    torch.testing.assert_close((q @ k.mT)[0], torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)


def test_converted_projections_give_the_scores_of_rotary(solution):
    rotary = load("rotary")
    positions = torch.tensor(ANY_POSITIONS)
    hidden = torch.randn(2, 6, 7, dtype=torch.float64)
    wq, wk = torch.randn(4 * 8, 7, dtype=torch.float64), torch.randn(2 * 8, 7, dtype=torch.float64)  # 2 heads of keys

    def scores(turn, wq, wk):
        q = turn((hidden @ wq.T).unflatten(-1, (4, 8)).transpose(1, 2), positions)
        k = turn((hidden @ wk.T).unflatten(-1, (2, 8)).transpose(1, 2), positions)
        return q @ k.repeat_interleave(2, dim=1).mT

    ours = scores(solution.apply_rotary_half, solution.interleaved_to_half(wq, 4), solution.interleaved_to_half(wk, 2))

    torch.testing.assert_close(ours, scores(rotary.apply_rotary, wq, wk), rtol=0, atol=1e-10)
    plain = scores(solution.apply_rotary_half, wq, wk)
    assert (plain - ours).abs().max() > 1  # the conversion is needed
