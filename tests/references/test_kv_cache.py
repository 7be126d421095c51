"""The reference of kv_cache against Hugging Face's Llama with its DynamicCache, and PyTorch's attention."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "kv_cache" / "solution.py"
B, T, H, K, THETA = 2, 7, 4, 6, 500.0
PIECES = [[7], [1] * 7, [4, 1, 1, 1], [2, 3, 2], [1, 6]]


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("kv_cache_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[1, 2, 4], ids="G={}".format)
def ours(solution, request):
    torch.manual_seed(request.param)
    return solution.CachedAttention(H * K, H, request.param, B + 1, T + 2).double().eval()


@pytest.fixture
def x():
    return torch.randn(B, T, H * K, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def freqs_cis():
    speeds = [THETA ** (-2 * i / K) for i in range(K // 2)]
    angles = torch.tensor([[p * speed for speed in speeds] for p in range(T)], dtype=torch.float64)
    return torch.polar(torch.ones_like(angles), angles)


@torch.no_grad()
def read(module, x, pieces, mask=None):
    outputs, start = [], 0
    for count in pieces:
        end = start + count
        part = None if mask is None else mask[..., start:end, :end]
        outputs.append(module(x[:, start:end], start, freqs_cis()[start:end], part))
        start = end
    return torch.cat(outputs, dim=1)


def by_scaled_dot_product(module, x, mask):
    """Return one full pass without a cache: complex multiplication, grouped heads by PyTorch."""
    q, k, v = (w(x).unflatten(-1, (-1, K)) for w in (module.wq, module.wk, module.wv))
    q, k = (
        torch.view_as_real(torch.view_as_complex(y.unflatten(-1, (-1, 2))) * freqs_cis()[:, None]).flatten(-2)
        for y in (q, k)
    )
    q, k, v = (y.transpose(1, 2) for y in (q, k, v))
    heads = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    return module.wo(heads.transpose(1, 2).flatten(2))


@pytest.mark.parametrize("pieces", PIECES, ids=str)
def test_equals_scaled_dot_product_attention(ours, x, pieces):
    causal = torch.tensor([[j <= i for j in range(T)] for i in range(T)])

    with torch.no_grad():
        expected = by_scaled_dot_product(ours, x, causal)

    torch.testing.assert_close(read(ours, x, pieces), expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", [(T, T), (1, T), (B, 1, T, T), (B, H, T, T)], ids=str)
def test_equals_scaled_dot_product_attention_with_masks(ours, x, shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(1)) < 0.5
    mask[..., -1, :] = False  # zeros since PyTorch 2.5, NaN before

    with torch.no_grad():
        expected = by_scaled_dot_product(ours, x, mask.expand(B, H, T, T))

    torch.testing.assert_close(read(ours, x, [T], mask), expected, rtol=1e-11, atol=1e-11)


def to_halves(weight, heads):
    """Reorder the rows of each head: the even ones first, then the odd ones, as Hugging Face's Llama pairs them."""
    return weight.unflatten(0, (heads, K // 2, 2)).transpose(1, 2).reshape(weight.shape)


@pytest.mark.parametrize("pieces", PIECES, ids=str)
def test_equals_the_attention_of_llama_with_its_cache(ours, x, pieces):
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    cache_utils = pytest.importorskip("transformers.cache_utils")
    config = llama.LlamaConfig(
        hidden_size=H * K,
        num_attention_heads=H,
        num_key_value_heads=ours.n_kv_heads,
        head_dim=K,
        num_hidden_layers=1,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        attn_implementation="eager",
    )
    theirs = llama.LlamaAttention(config, 0).double().eval()
    theirs.load_state_dict(
        {
            "q_proj.weight": to_halves(ours.wq.weight, H),
            "k_proj.weight": to_halves(ours.wk.weight, ours.n_kv_heads),
            "v_proj.weight": ours.wv.weight,
            "o_proj.weight": ours.wo.weight,
        }
    )
    rotary, cache = llama.LlamaRotaryEmbedding(config), cache_utils.DynamicCache(config=config)
    expected, start = [], 0
    for count in pieces:
        end = start + count
        positions = torch.arange(start, end)[None]
        mask = torch.full((count, end), -torch.inf, dtype=torch.float64).triu(start + 1)[None, None]
        with torch.no_grad():
            turn = rotary(x, positions)
            expected.append(theirs(x[:, start:end], turn, mask, past_key_values=cache)[0])
        start = end

    torch.testing.assert_close(
        read(ours, x, pieces), torch.cat(expected, dim=1), rtol=0, atol=1e-6
    )  # float32 in theirs
    theirs_k, theirs_v = cache.layers[0].keys, cache.layers[0].values  # (B, G, T, K)
    ours_k = torch.cat((ours.cache_k[..., 0::2], ours.cache_k[..., 1::2]), dim=-1)
    torch.testing.assert_close(ours_k[:B, :T].transpose(1, 2), theirs_k, rtol=0, atol=1e-6)
    torch.testing.assert_close(ours.cache_v[:B, :T].transpose(1, 2), theirs_v, rtol=0, atol=1e-12)


def test_second_sequence_equals_a_fresh_module(ours, solution, x):
    fresh = solution.CachedAttention(H * K, H, ours.n_kv_heads, B + 1, T + 2).double()
    fresh.load_state_dict(ours.state_dict())
    read(ours, x, [T])

    torch.testing.assert_close(read(ours, x[:1, :4].flip(1), [2, 1, 1]), read(fresh, x[:1, :4].flip(1), [2, 1, 1]))


def test_the_cache_holds_no_graph(ours, x):
    """A call with gradients enabled leaves nothing behind that a second backward pass would need."""
    for _ in range(2):
        ours(x[:, :4], 0, freqs_cis()[:4])
        ours(x[:, 4:], 4, freqs_cis()[4:]).sum().backward()

    assert not ours.cache_k.requires_grad
    assert not ours.cache_v.requires_grad
