"""The reference of self_attention against the book's printed numbers, plain loops and PyTorch's own attention."""

import importlib.util
import math
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

SOLUTION = Path(__file__).parents[2] / "solutions" / "attention" / "self_attention" / "solution.py"
INPUTS = (  # "Your journey starts with one step", Raschka, section 3.3
    (0.43, 0.15, 0.89),
    (0.55, 0.87, 0.66),
    (0.57, 0.85, 0.64),
    (0.22, 0.58, 0.33),
    (0.77, 0.25, 0.10),
    (0.05, 0.80, 0.55),
)


@pytest.fixture(scope="module")
def solution():
    spec = importlib.util.spec_from_file_location("self_attention_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(params=[False, True], ids=["all", "causal"])
def ours(request, solution):
    """Return a module in float64, from 5 features to 3."""
    torch.manual_seed(0)
    return solution.SelfAttention(5, 3, request.param).double()


@pytest.fixture
def x():
    return torch.randn(2, 4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)


def assert_printed(got, printed):
    torch.testing.assert_close(got, torch.tensor(printed), rtol=0, atol=6e-5)  # four digits are printed


# --- the book --------------------------------------------------------------------------------------------


def test_prints_what_the_book_prints_in_3_4_1(solution):
    """Weights drawn by torch.rand with seed 123, used as x @ W: the row of "journey", then all context vectors."""
    torch.manual_seed(123)
    weights = {f"{name}.weight": torch.rand(3, 2).T for name in ("wq", "wk", "wv")}
    module = solution.SelfAttention(3, 2)
    module.load_state_dict(weights)

    context, attention = module(torch.tensor([INPUTS]))

    assert_printed(attention[0, 1], [0.1500, 0.2264, 0.2199, 0.1311, 0.0906, 0.1820])
    printed = [
        [0.2996, 0.8053],
        [0.3061, 0.8210],
        [0.3058, 0.8203],
        [0.2948, 0.7939],
        [0.2927, 0.7891],
        [0.2990, 0.8040],
    ]
    assert_printed(context[0], printed)


def test_prints_what_the_book_prints_in_3_4_2(solution):
    """Weights drawn by nn.Linear with seed 789, in the order query, key, value."""
    torch.manual_seed(789)
    layers = [torch.nn.Linear(3, 2, bias=False) for _ in range(3)]
    module = solution.SelfAttention(3, 2)
    module.load_state_dict({f"{n}.weight": layer.weight for n, layer in zip(("wq", "wk", "wv"), layers, strict=True)})

    context, attention = module(torch.tensor([INPUTS]))

    assert_printed(attention[0, 0], [0.1921, 0.1646, 0.1652, 0.1550, 0.1721, 0.1510])
    printed = [
        [-0.0739, 0.0713],
        [-0.0748, 0.0703],
        [-0.0749, 0.0702],
        [-0.0760, 0.0685],
        [-0.0763, 0.0679],
        [-0.0754, 0.0693],
    ]
    assert_printed(context[0], printed)


def test_prints_what_the_book_prints_in_3_5_1(solution):
    """The same weights, with the future hidden."""
    torch.manual_seed(789)
    layers = [torch.nn.Linear(3, 2, bias=False) for _ in range(3)]
    module = solution.SelfAttention(3, 2, causal=True)
    module.load_state_dict({f"{n}.weight": layer.weight for n, layer in zip(("wq", "wk", "wv"), layers, strict=True)})

    _, attention = module(torch.tensor([INPUTS]))

    printed = [
        [1.0000, 0.0000, 0.0000, 0.0000, 0.0000, 0.0000],
        [0.5517, 0.4483, 0.0000, 0.0000, 0.0000, 0.0000],
        [0.3800, 0.3097, 0.3103, 0.0000, 0.0000, 0.0000],
        [0.2758, 0.2460, 0.2462, 0.2319, 0.0000, 0.0000],
        [0.2175, 0.1983, 0.1984, 0.1888, 0.1971, 0.0000],
        [0.1935, 0.1663, 0.1666, 0.1542, 0.1666, 0.1529],
    ]
    assert_printed(attention[0], printed)


# --- the formula, and PyTorch ----------------------------------------------------------------------------


def by_loops(module, x):
    """Work the formula out in plain Python: lists of numbers, no tensor operation."""
    wq, wk, wv = (module.get_parameter(f"{name}.weight").tolist() for name in ("wq", "wk", "wv"))
    contexts, weights = [], []
    for tokens in x.tolist():
        q, k, v = ([[dot(row, token) for row in w] for token in tokens] for w in (wq, wk, wv))
        rows = []
        for i in range(len(tokens)):
            seen = range(i + 1) if module.causal else range(len(tokens))
            powers = [math.exp(dot(q[i], k[j]) / math.sqrt(len(q[i]))) if j in seen else 0.0 for j in range(len(k))]
            rows.append([power / sum(powers) for power in powers])
        weights.append(rows)
        contexts.append([[dot(row, [value[o] for value in v]) for o in range(len(v[0]))] for row in rows])
    return torch.tensor(contexts, dtype=torch.float64), torch.tensor(weights, dtype=torch.float64)


def dot(a, b):
    return sum(first * second for first, second in zip(a, b, strict=True))


def test_equals_the_formula_in_plain_loops(ours, x):
    context, weights = ours(x)

    expected, expected_weights = by_loops(ours, x)
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-13)
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-13)


def test_output_and_gradients_equal_scaled_dot_product_attention(ours, x):
    leaves = [x, *ours.parameters()]
    cotangent = torch.randn(2, 4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    context, _ = ours(x)

    expected = F.scaled_dot_product_attention(ours.wq(x), ours.wk(x), ours.wv(x), is_causal=ours.causal)
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-13)
    gradients = (torch.autograd.grad(out, leaves, cotangent) for out in (context, expected))
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-12)


def test_equals_multihead_attention_with_one_head(ours):
    """Square projections, since nn.MultiheadAttention has no others; its output projection is the identity."""
    module = type(ours)(4, 4, ours.causal).double()
    theirs = torch.nn.MultiheadAttention(4, 1, bias=False, batch_first=True).double()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat((module.wq.weight, module.wk.weight, module.wv.weight)))
        theirs.out_proj.weight.copy_(torch.eye(4))
    x = torch.randn(2, 5, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    hidden = torch.ones(5, 5, dtype=torch.bool).triu(1) if ours.causal else None

    context, weights = module(x)

    expected, expected_weights = theirs(x, x, x, attn_mask=hidden)
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-13)
    torch.testing.assert_close(weights, expected_weights, rtol=0, atol=1e-13)
