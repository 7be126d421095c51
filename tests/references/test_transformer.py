"""The reference of ``transformer`` against PyTorch's own stacks and its own cross-entropy, in float64."""

import importlib.util
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.nn import functional as F

B, S, T, D, H, WIDTH, N = 3, 5, 4, 12, 3, 20, 3
SRC, TGT, PAD = 11, 9, 2
SOLUTION = Path(__file__).parents[2] / "solutions" / "models" / "transformer" / "solution.py"


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("transformer_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ours(solution):
    """Return the reference with random biases and gains."""
    torch.manual_seed(0)
    model = solution.Transformer(SRC, TGT, D, H, WIDTH, N, PAD, dropout=0.3).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name:
                parameter.normal_(1.0, 0.3)
            elif name.endswith("bias"):
                parameter.normal_()
    return model.eval()


def copy_attention(theirs, block, kind):
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([block[f"{kind}w{name}"].weight for name in "qkv"]))
        theirs.in_proj_bias.copy_(torch.cat([block[f"{kind}w{name}"].bias for name in "qkv"]))
    theirs.out_proj.load_state_dict(block[f"{kind}wo"].state_dict())


@pytest.fixture
def stacks(ours):
    """Return nn.TransformerEncoder and nn.TransformerDecoder with the weights of ``ours``, without a last norm."""
    sizes = {"dim_feedforward": WIDTH, "dropout": 0.3, "batch_first": True, "dtype": torch.float64}
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(D, H, **sizes), N, norm=None, enable_nested_tensor=False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(D, H, **sizes), N, norm=None)
    for layer, block in zip(encoder.layers, ours.encoder, strict=True):
        copy_attention(layer.self_attn, block, "")
    for layer, block in zip(decoder.layers, ours.decoder, strict=True):
        copy_attention(layer.self_attn, block, "self_")
        copy_attention(layer.multihead_attn, block, "cross_")
    for layer, block in zip([*encoder.layers, *decoder.layers], [*ours.encoder, *ours.decoder], strict=True):
        names = {"linear1": "w1", "linear2": "w2", "norm1": "norm1", "norm2": "norm2", "norm3": "norm3"}
        for name, part in names.items():
            if hasattr(layer, name):
                getattr(layer, name).load_state_dict(block[part].state_dict())
    return encoder.eval(), decoder.eval()


@pytest.fixture
def ids():
    """Return a source with padding at the end, in the middle and nowhere, and a target."""
    generator = torch.Generator().manual_seed(1)
    src = torch.randint(3, SRC, (B, S), generator=generator)
    src[0, 3:], src[1, 1] = PAD, PAD
    return src, torch.randint(0, TGT, (B, T), generator=generator)


def embed(weight, tokens):
    """Return scaled embeddings with the sines and cosines of section 3.5, number by number."""
    rows = [
        [(math.sin, math.cos)[c % 2](pos / 10_000 ** ((c - c % 2) / D)) for c in range(D)]
        for pos in range(tokens.shape[1])
    ]
    return F.embedding(tokens, weight) * D**0.5 + torch.tensor(rows, dtype=torch.float64)


def by_stacks(ours, stacks, src, tgt):
    encoder, decoder = stacks
    hidden = src == PAD  # of the opposite sign
    later = torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool).triu(1)
    memory = encoder(embed(ours.src_embedding.weight, src), src_key_padding_mask=hidden)
    x = embed(ours.tgt_embedding.weight, tgt)
    return ours.output(decoder(x, memory, tgt_mask=later, memory_key_padding_mask=hidden))


def test_equals_the_stacks_of_pytorch(ours, stacks, ids):
    torch.testing.assert_close(ours(*ids), by_stacks(ours, stacks, *ids), rtol=1e-11, atol=1e-11)


def test_gradients_equal_those_of_the_stacks(ours, stacks, ids):
    cotangent = torch.randn(B, T, TGT, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    (ours(*ids) * cotangent).sum().backward()
    embeddings = ours.src_embedding.weight.grad.clone(), ours.tgt_embedding.weight.grad.clone()
    w1 = [block["w1"].weight.grad.clone() for block in (*ours.encoder, *ours.decoder)]
    wv = [block["wv"].weight.grad.clone() for block in ours.encoder]
    cross_wk = [block["cross_wk"].weight.grad.clone() for block in ours.decoder]
    ours.zero_grad()

    (by_stacks(ours, stacks, *ids) * cotangent).sum().backward()

    encoder, decoder = stacks
    close = {"rtol": 1e-9, "atol": 1e-11}
    torch.testing.assert_close(embeddings, (ours.src_embedding.weight.grad, ours.tgt_embedding.weight.grad), **close)
    torch.testing.assert_close(w1, [x.linear1.weight.grad for x in (*encoder.layers, *decoder.layers)], **close)
    torch.testing.assert_close(wv, [x.self_attn.in_proj_weight.grad[2 * D :] for x in encoder.layers], **close)
    torch.testing.assert_close(
        cross_wk, [x.multihead_attn.in_proj_weight.grad[D : 2 * D] for x in decoder.layers], **close
    )


def test_in_training_mode_without_dropout_nothing_changes(ours, ids):
    in_eval = ours(*ids)
    ours.dropout = 0.0

    torch.testing.assert_close(ours.train()(*ids), in_eval)


def dropping_stacks(ours, stacks, src, tgt):
    encoder, decoder = stacks
    hidden, later = src == PAD, torch.ones(T, T, dtype=torch.bool).triu(1)
    memory = encoder(F.dropout(embed(ours.src_embedding.weight, src), 0.1), src_key_padding_mask=hidden)
    x = F.dropout(embed(ours.tgt_embedding.weight, tgt), 0.1)
    return ours.output(decoder(x, memory, tgt_mask=later, memory_key_padding_mask=hidden))


def test_dropout_keeps_the_average_of_what_a_sublayer_adds(ours, stacks, ids):
    """In training mode logits spread as those of PyTorch's stacks do, around the same mean."""
    src, tgt = (x[:1].expand(4000, -1) for x in ids)
    ours.dropout = 0.1
    for stack in stacks:
        stack.train()
        for module in stack.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.1
            if isinstance(module, nn.MultiheadAttention):
                module.dropout = 0.1
    torch.manual_seed(3)
    with torch.no_grad():
        mine, theirs = ours.train()(src, tgt), dropping_stacks(ours, stacks, src, tgt)
    error = float(mine.std(dim=0).max()) / 4000**0.5
    torch.testing.assert_close(mine.mean(dim=0), theirs.mean(dim=0), rtol=0, atol=8 * error)  # of two means
    torch.testing.assert_close(mine.std(dim=0), theirs.std(dim=0), rtol=0.1, atol=0)


def test_a_source_of_padding_only_leaves_the_biases_of_wo(ours, ids):
    """Then no source token and none of the encoder's other weights has a part in the logits."""
    _, tgt = ids
    few, many = (ours(torch.full((B, n), PAD), tgt) for n in (1, 7))

    torch.testing.assert_close(few, many)
    (few.square()).sum().backward()
    gradients = {name: p.grad for name, p in ours.named_parameters()}
    assert all(g is None or g.isfinite().all() for g in gradients.values())
    assert gradients["src_embedding.weight"].eq(0).all()
    assert gradients["decoder.0.cross_wv.weight"].eq(0).all()
    assert gradients["decoder.0.cross_wo.bias"].ne(0).any()


@pytest.mark.parametrize("pad_id", [0, 3, 6])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_loss_equals_cross_entropy_token_by_token(solution, pad_id, dtype):
    generator = torch.Generator().manual_seed(4)
    logits = torch.randn(B, T, 7, generator=generator, dtype=dtype)
    targets = torch.randint(0, 7, (B, T), generator=generator)
    targets[0, :2] = pad_id
    losses = [
        math.log(sum(math.exp(x) for x in logits[b, t].tolist())) - float(logits[b, t, targets[b, t]])
        for b in range(B)
        for t in range(T)
        if targets[b, t] != pad_id
    ]

    loss = solution.sequence_loss(logits, targets, pad_id)

    assert float(loss) == pytest.approx(sum(losses) / len(losses), rel=1e-6)
    torch.testing.assert_close(loss, F.cross_entropy(logits.mT, targets, ignore_index=pad_id))


def test_learns_to_reverse_a_source(solution):
    """The whole of it works: a small model learns to write sources of four tokens backwards."""
    torch.manual_seed(5)
    model = solution.Transformer(8, 9, 16, 2, 32, 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(250):
        src = torch.randint(1, 8, (32, 4))
        targets = src.flip(1)
        loss = solution.sequence_loss(model(src, solution.shift_right(targets, 8)), targets, 0)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))

    assert losses[0] > 1.5
    assert sum(losses[-10:]) / 10 < 0.6
