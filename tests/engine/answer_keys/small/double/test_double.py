"""Hidden suite of ``double``."""

import pytest
import torch

from grader.judge.suite import (
    assert_close,
    assert_gradients_match,
    assert_no_loop,
    assert_rejects,
    assert_shape,
    observe,
)


@pytest.mark.visible
@pytest.mark.points(2)
def test_by_hand(impl):
    """three numbers doubled on paper"""
    for first in 1.0, 4.0:
        out = impl.double(torch.tensor([first, 2.0, 3.0]))

        assert_close(out, torch.tensor([2 * first, 4.0, 6.0]), "three numbers doubled")


@pytest.mark.visible
def test_shape(impl, randn):
    """the result has the shape of the input"""
    for _ in range(2):
        x = randn(2, 3)
        out = impl.double(x)

        assert_shape(out, (2, 3), "double of an x of shape (2, 3)", dtype=torch.float32)
        assert_close(out.sum(), 2 * x.sum(), "the sum of 6 numbers doubled")


def test_matches_the_reference(impl, reference, randn, rng):
    """random sizes, in float32 and float64"""
    for dtype in torch.float32, torch.float64:
        x = randn(rng.randint(1, 9), rng.randint(1, 9), dtype=dtype)
        assert_close(impl.double(x), reference.double(x), f"double of an x of shape {tuple(x.shape)}")


def test_gradient(impl, reference, randn):
    """the gradient reaches x"""
    x = randn(4).requires_grad_()
    true_x = x.detach().double().requires_grad_()

    out, expected = impl.double(x), reference.double(true_x)

    assert_gradients_match(out, {"x": x}, expected, {"x": true_x}, randn(4))


def test_all_at_once(impl, randn):
    """there is no loop over the numbers"""
    x = randn(40)

    assert_close(impl.double(x), x + x, "40 numbers doubled")
    assert_no_loop(impl, lambda n: impl.double(x[:n]), "numbers")


def test_refuses_a_number(impl, randn):
    """a tensor without a dimension is refused with ValueError"""
    x = randn(3)

    assert_rejects(
        lambda: impl.double(torch.tensor(1.0)),
        "a single number",
        good=lambda: assert_close(impl.double(x), x + x, "three numbers doubled"),
    )


@pytest.mark.visible
def test_half_by_hand(impl):
    """two numbers halved on paper"""
    for first in 2.0, 8.0:
        assert_close(impl.halve(torch.tensor([first, 3.0])), torch.tensor([first / 2, 1.5]), "two numbers halved")


def probe(impl):
    """Ask for three numbers."""
    return {"double": observe(lambda: impl.double(torch.tensor([1.0, 2.0, 3.0])))}
