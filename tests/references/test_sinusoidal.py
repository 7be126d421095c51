"""The reference of ``sinusoidal`` against authorities that others wrote: the paper and published models."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

SOLUTION = Path(__file__).parents[2] / "solutions" / "positions" / "sinusoidal" / "solution.py"


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("sinusoidal_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def models() -> ModuleType:
    return pytest.importorskip("transformers").models


def sines_first(table: torch.Tensor) -> torch.Tensor:
    """Return the table with all even columns before all odd ones, the order of many published codes."""
    return torch.cat((table[:, 0::2], table[:, 1::2]), dim=-1)


# --- the paper, and numbers that were printed ------------------------------------------------------------


@pytest.mark.parametrize("base", [10_000.0, 500_000.0, 7.0])
@pytest.mark.parametrize("d_model", [2, 6, 512])
@pytest.mark.parametrize("position", [0, 1, 77, 4099])
def test_rows_are_those_of_section_3_5(solution, d_model, base, position):
    """PE(pos, 2i) = sin(pos / 10000^(2i/d)) and PE(pos, 2i+1) = cos(pos / 10000^(2i/d)), in Python's float64."""
    row = solution.sinusoidal_table(4100, d_model, base)[position]

    assert row.dtype == torch.float32
    tolerance = 1e-6 + 4e-7 * position
    for i in range(d_model // 2):
        assert row[2 * i].item() == pytest.approx(math.sin(position / base ** (2 * i / d_model)), abs=tolerance)
        assert row[2 * i + 1].item() == pytest.approx(math.cos(position / base ** (2 * i / d_model)), abs=tolerance)


def test_first_rows_of_a_printed_table(solution):
    """Sines and cosines of 0 to 3 and of tenths of them, as tables of mathematics print them: D = 4, base 100."""
    printed = [
        [0.00000000, 1.00000000, 0.00000000, 1.00000000],
        [0.84147098, 0.54030231, 0.09983342, 0.99500417],
        [0.90929743, -0.41614684, 0.19866933, 0.98006658],
        [0.14112001, -0.98999250, 0.29552021, 0.95533649],
    ]

    table = solution.sinusoidal_table(4, 4, 100.0)

    torch.testing.assert_close(table, torch.tensor(printed), rtol=0, atol=2e-7)


def test_wavelengths_run_from_2_pi_to_almost_10000_times_2_pi(solution):
    """The paper: the wavelengths form a geometric progression from 2 pi to 10000 * 2 pi."""
    table = solution.sinusoidal_table(2, 512).double()

    wavelengths = 2 * math.pi / torch.atan2(table[1, 0::2], table[1, 1::2])

    assert wavelengths[0].item() == pytest.approx(2 * math.pi, rel=1e-6)
    ratios = wavelengths[1:] / wavelengths[:-1]
    torch.testing.assert_close(ratios, torch.full_like(ratios, 10_000 ** (2 / 512)), rtol=2e-5, atol=0)
    assert wavelengths[-1].item() == pytest.approx(2 * math.pi * 10_000 ** (510 / 512), rel=1e-4)


@pytest.mark.parametrize("offset", [1, 5, 40])
def test_a_fixed_offset_is_a_linear_function(solution, offset):
    """The paper: PE(pos + k) can be represented as a linear function of PE(pos), for any fixed offset k."""
    table = solution.sinusoidal_table(100, 6, 20.0).double()

    before, after = table[:-offset], table[offset:]
    matrix = torch.linalg.lstsq(before[:30], after[:30]).solution  # learnt from the first positions alone

    torch.testing.assert_close(before @ matrix, after, rtol=0, atol=2e-4)


# --- published models ------------------------------------------------------------------------------------


@pytest.mark.parametrize("d_model", [2, 6, 64])
def test_agrees_with_distilbert(solution, models, d_model):
    """DistilBERT has the paper's order, computed in float64."""
    theirs = models.distilbert.modeling_distilbert
    expected = theirs.create_sinusoidal_embeddings(300, d_model, torch.empty(300, d_model))

    torch.testing.assert_close(solution.sinusoidal_table(300, d_model), expected, rtol=0, atol=1.2e-4)
    near = slice(0, 20)
    torch.testing.assert_close(solution.sinusoidal_table(20, d_model), expected[near], rtol=0, atol=5e-6)


@pytest.mark.parametrize("d_model", [2, 6, 64])
def test_agrees_with_roformer_gpt_j_ctrl_and_xlnet_once_columns_are_reordered(solution, models, d_model):
    table = sines_first(solution.sinusoidal_table(50, d_model))
    speeds = 1 / torch.pow(10000, torch.arange(0, d_model, 2.0) / d_model)
    xlnet = models.xlnet.modeling_xlnet.XLNetModel

    others = {
        "RoFormer": models.roformer.modeling_roformer.RoFormerSinusoidalPositionalEmbedding(
            50, d_model
        ).create_weight(),
        "GPT-J": models.gptj.modeling_gptj.create_sinusoidal_positions(50, d_model),
        "CTRL": models.ctrl.modeling_ctrl.positional_encoding(50, d_model, torch.float32),
        "XLNet": xlnet.positional_embedding(torch.arange(50.0), speeds)[:, 0],
    }

    for name, expected in others.items():
        torch.testing.assert_close(table, expected, rtol=0, atol=2e-5, msg=lambda text, name=name: f"{name}: {text}")


def test_is_not_the_table_of_whisper_and_tensor2tensor(solution, models):
    """They spread the exponents over D/2 - 1, as follow-up 3 tells: no order of columns makes the two equal."""
    theirs = models.whisper.modeling_whisper.sinusoids(20, 8)
    ours = sines_first(solution.sinusoidal_table(20, 8))

    torch.testing.assert_close(ours[:, [0, 4]], theirs[:, [0, 4]], rtol=0, atol=5e-6)  # the fastest pair agrees
    last = torch.tensor([math.sin(19 / 10_000), math.cos(19 / 10_000)])
    torch.testing.assert_close(theirs[19, [3, 7]], last, rtol=0, atol=1e-6)
    assert not torch.allclose(ours[:, [3, 7]], theirs[:, [3, 7]], atol=1e-3)


# --- the module ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_module_adds_the_first_rows(solution, dtype):
    x = torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)
    module = solution.SinusoidalPositionEncoding(9, 8, 50.0).to(dtype)

    out = module(x)

    expected = x.double() + solution.sinusoidal_table(5, 8, 50.0).double()
    assert out.dtype == dtype
    atol = {torch.float32: 1e-6, torch.float64: 1e-12, torch.bfloat16: 0.03}[dtype]
    torch.testing.assert_close(out.double(), expected, rtol=0, atol=atol)


def test_module_holds_a_buffer_that_is_not_saved(solution):
    module = solution.SinusoidalPositionEncoding(9, 8)

    assert [name for name, _ in module.named_buffers()] == ["table"]
    assert not module.state_dict()
    assert not list(module.parameters())
    module.load_state_dict({}, strict=True)


def test_gradient_is_the_numerical_one(solution):
    module = solution.SinusoidalPositionEncoding(4, 2).double()
    x = torch.randn(2, 3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)

    assert torch.autograd.gradcheck(module, (x,))


@pytest.mark.parametrize("sizes", [(4, 5), (4, 0), (4, -2), (0, 4), (-1, 4)])
def test_refuses_impossible_sizes(solution, sizes):
    with pytest.raises(ValueError, match=r"max_len|d_model"):
        solution.sinusoidal_table(*sizes)
    with pytest.raises(ValueError, match=r"max_len|d_model"):
        solution.SinusoidalPositionEncoding(*sizes)


def test_refuses_longer_texts(solution):
    with pytest.raises(ValueError, match=r"3 tokens.*max_len = 1"):
        solution.SinusoidalPositionEncoding(1, 4)(torch.zeros(2, 3, 4))
