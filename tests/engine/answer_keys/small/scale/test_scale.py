"""Hidden suite of ``scale``."""

import pytest
import torch

from grader.judge.suite import CheckFailure, assert_close, assert_gradients_match, observe


@pytest.mark.visible
def test_names(impl, randn):
    """weight and bias are saved and loaded, and nothing else"""
    module = impl.Scale(2)

    for names in module.state_dict(), dict(module.named_parameters()):
        if sorted(names) != ["bias", "weight"]:
            raise CheckFailure(f"weight and bias should be there, but {sorted(names)} came.")
    for bias in torch.tensor([1.0, 2.0]), torch.tensor([3.0, -1.0]):
        module.load_state_dict({"weight": torch.zeros(2), "bias": bias})
        assert_close(module.eval()(randn(2)), bias, "a weight of 0")


@pytest.mark.visible
def test_by_hand(impl):
    """two features, on paper"""
    module = impl.Scale(2).eval()

    for bias in 1.0, 2.0:
        module.load_state_dict({"weight": torch.tensor([2.0, 3.0]), "bias": torch.tensor([0.0, bias])})
        assert_close(module(torch.tensor([5.0, 1.0])), torch.tensor([10.0, 3.0 + bias]), "5 * 2 and 1 * 3 + bias")


def test_matches_the_reference(twins, randn):
    """random weights, in float32 and float64"""
    mine, ref = twins("Scale", 5)

    for dtype in torch.float32, torch.float64:
        mine.to(dtype)
        x = randn(3, 5)
        assert_close(mine(x.to(dtype)), ref(x.double()), f"x of shape (3, 5) in {dtype}", dtype=dtype)


def test_gradients(twins, randn):
    """gradients reach the input and both parameters"""
    mine, ref = twins("Scale", 4)

    x = randn(3, 4).requires_grad_()
    true_x = x.detach().double().requires_grad_()
    leaves, true_leaves = ({"x": a} | dict(m.named_parameters()) for a, m in ((x, mine), (true_x, ref)))
    assert_gradients_match(mine(x), leaves, ref(true_x), true_leaves, randn(3, 4))


def test_dropout(impl):
    """in training, numbers are dropped or doubled"""
    module = impl.Scale(1000)
    module.load_state_dict({"weight": torch.ones(1000), "bias": torch.zeros(1000)})

    for size in 1.0, 3.0:
        out = module(torch.full((1000,), size))
        assert_close(out.mean(), torch.tensor(size), "the average stays", tolerance=0.3 * size)
        assert_close(out.amax(), torch.tensor(2 * size), "what stays is doubled")
        assert_close(out.amin(), torch.tensor(0.0), "what is dropped is 0")


def probe(impl):
    """Ask for one number."""
    return {"scale": observe(lambda: impl.Scale(1).eval()(torch.ones(1)).detach())}
