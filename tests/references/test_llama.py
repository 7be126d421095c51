"""The reference of llama against Hugging Face's LlamaForCausalLM with its cache, and published parameter counts."""

import importlib.util
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "models" / "llama" / "solution.py"
B, T, D, H, K, L, V, HIDDEN, EPS, THETA = 2, 9, 24, 4, 6, 3, 13, 17, 0.01, 500.0
PIECES = [[9], [1] * 9, [4, 1, 1, 1, 1, 1], [2, 3, 4], [1, 8]]


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("llama_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[1, 2, 4], ids="G={}".format)
def ours(solution, request):
    """Return a model in float64 with 1, 2 or 4 key/value heads and gains other than 1."""
    torch.manual_seed(request.param)
    model = solution.Llama(D, L, H, request.param, V, HIDDEN, B + 1, T + 2, norm_eps=EPS, theta=THETA).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.add_(0.3 * torch.randn(D))
    return model


@pytest.fixture
def tokens():
    return torch.randint(0, V, (B, T), generator=torch.Generator().manual_seed(0))


def read(model, tokens, pieces):
    logits, start = [], 0
    for count in pieces:
        logits.append(model(tokens[:, start : start + count], start))
        start += count
    return torch.cat(logits, dim=1)


# --- Hugging Face's Llama --------------------------------------------------------------------------------


def halves(weight):
    """Reorder rows for code that pairs feature i with i + K/2: in each head the even rows first, then the odd ones."""
    return weight.view(-1, K // 2, 2, D).transpose(1, 2).reshape(weight.shape)


def as_in_hugging_face(state):
    """Return their names → our tensors, the rows of wq and wk reordered."""
    names = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
    for i in range(L):
        ours, theirs = f"layers.{i}", f"model.layers.{i}"
        names |= {f"{ours}.attention.w{a}": f"{theirs}.self_attn.{a}_proj" for a in "qkvo"}
        parts = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}
        names |= {f"{ours}.feed_forward.{a}": f"{theirs}.mlp.{b}" for a, b in parts.items()}
        names |= {f"{ours}.attention_norm": f"{theirs}.input_layernorm"}
        names |= {f"{ours}.ffn_norm": f"{theirs}.post_attention_layernorm"}
    found = {}
    for name, tensor in state.items():
        turned = name.endswith(("wq.weight", "wk.weight"))
        found[names[name.removesuffix(".weight")] + ".weight"] = halves(tensor) if turned else tensor
    return found


@pytest.fixture
def theirs(ours):
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=V,
        hidden_size=D,
        intermediate_size=HIDDEN,
        num_hidden_layers=L,
        num_attention_heads=H,
        num_key_value_heads=ours.layers[0]["attention"]["wk"].weight.shape[0] // K,
        max_position_embeddings=T + 2,
        rms_norm_eps=EPS,
        rope_parameters={"rope_type": "default", "rope_theta": THETA},
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    model = transformers.LlamaForCausalLM(config).double().eval()
    model.load_state_dict(as_in_hugging_face(ours.state_dict()))
    return model


@pytest.mark.parametrize("pieces", PIECES, ids=str)
def test_logits_equal_those_of_llama_for_causal_lm(ours, theirs, tokens, pieces):
    """Each reads the text in the same pieces with a cache of its own."""
    with torch.no_grad():
        logits = read(ours, tokens, pieces)
        cache, expected, start = None, [], 0
        for count in pieces:
            answer = theirs(tokens[:, start : start + count], past_key_values=cache, use_cache=True)
            cache, start = answer.past_key_values, start + count
            expected.append(answer.logits)

    expected = torch.cat(expected, dim=1)
    assert expected.std() > 0.1
    torch.testing.assert_close(logits, expected.float(), rtol=0, atol=1e-5)  # their angles and norms are float32


def test_gradients_equal_those_of_llama_for_causal_lm(ours, theirs, tokens):
    """The loss of the next token, and the gradient of every weight."""
    losses = []
    for logits in ours(tokens), theirs(tokens).logits.float():
        losses.append(F.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()))
        losses[-1].backward()

    torch.testing.assert_close(*losses, rtol=0, atol=1e-5)
    found = as_in_hugging_face({name: parameter.grad for name, parameter in ours.named_parameters()})
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(found[name], parameter.grad, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")


def test_writes_the_same_text_as_generate(ours, theirs, tokens):
    """Greedy, one token after the other, from a prompt of four."""
    prompt = tokens[:, :4]
    theirs.generation_config.eos_token_id = None
    expected = theirs.generate(
        prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False, pad_token_id=0
    )

    text = prompt
    with torch.no_grad():
        logits = ours(prompt)
        while text.shape[1] < expected.shape[1]:
            text = torch.cat((text, logits[:, -1:].argmax(dim=-1)), dim=1)
            logits = ours(text[:, -1:], text.shape[1] - 1)

    assert torch.equal(text, expected)


# --- the cache -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", PIECES, ids=str)
def test_pieces_equal_one_pass(ours, tokens, pieces):
    torch.testing.assert_close(read(ours, tokens, pieces), ours(tokens), rtol=0, atol=1e-6)  # logits are float32


def test_a_new_text_equals_that_of_a_fresh_model(ours, solution, tokens):
    G = ours.layers[0]["attention"]["wk"].weight.shape[0] // K
    fresh = solution.Llama(D, L, H, G, V, HIDDEN, B, T, norm_eps=EPS, theta=THETA).double()
    fresh.load_state_dict(ours.state_dict())
    read(ours, tokens, [T])
    new = tokens[:1].flip(1)[:, :6]

    torch.testing.assert_close(read(ours, new, [3, 1, 2]), read(fresh, new, [3, 1, 2]), rtol=0, atol=1e-6)


def test_the_cache_holds_no_graph(ours, tokens):
    """Calls with gradients enabled leave nothing behind that a later backward pass would need."""
    for _ in range(2):
        ours(tokens[:, :4]).sum().backward()
        ours(tokens[:, 4:], 4).sum().backward()

    assert not any(buffer.requires_grad for buffer in ours.buffers())


@pytest.mark.parametrize(("shape", "start_pos"), [((1, 12), 0), ((1, 1), 11), ((4, 2), 0)])
def test_what_does_not_fit_leaves_the_cache_alone(ours, tokens, shape, start_pos):
    read(ours, tokens, [T])
    before = [buffer.clone() for buffer in ours.buffers()]

    with pytest.raises(ValueError, match="cache"):
        ours(torch.zeros(shape, dtype=torch.int64), start_pos)

    assert all(torch.equal(*pair) for pair in zip(before, ours.buffers(), strict=True))


# --- published counts ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sizes", "count"),
    [
        ((4096, 32, 32, 32, 32_000, 11_008), 6_738_415_616),  # Llama 2 7B
        ((5120, 40, 40, 40, 32_000, 13_824), 13_015_864_320),  # 13B
        ((8192, 80, 64, 8, 32_000, 28_672), 68_976_648_192),  # 70B
        ((4096, 32, 32, 8, 128_256, 14_336), 8_030_261_248),  # Llama 3 8B
    ],
    ids=["7B", "13B", "70B", "3 8B"],
)
def test_parameters_are_as_many_as_published(solution, sizes, count):
    with torch.device("meta"):
        model = solution.Llama(*sizes, max_len=1)

    assert sum(parameter.numel() for parameter in model.parameters()) == count
