"""The hidden suite of ``alibi``, what the diagnosis asks, and the picture.

Checks of the bias take the learner's own slopes, or those of few heads, so that a mistake in the others shows once.
"""

import pytest
import torch
from torch import Tensor

from grader.judge.suite import (
    CheckFailure,
    Panel,
    assert_close,
    assert_follows_default_device,
    assert_no_loop,
    assert_rejects,
    assert_tensor,
    observe,
)

INF = float("inf")


def numbers(got: object, shape: tuple[int, ...], what: str) -> Tensor:
    """Check that a tensor of that shape came, without NaN and not one number throughout; return it in float32.

    (Its dtype is a matter of its own, for a few checks and not for all.)
    """
    tensor = assert_tensor(got, what)
    if tuple(tensor.shape) != shape:
        raise CheckFailure(f"{what}: the shape should be {shape}, but {tuple(tensor.shape)} came.")
    if tensor.isnan().any():
        raise CheckFailure(f"{what}: {int(tensor.isnan().sum())} of {tensor.numel()} numbers are NaN. Is it 0 * inf?")
    if tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
        raise CheckFailure(f"{what}: the shape is right, but every number is {tensor.flatten()[0].item():g}.")
    return tensor.float()


def slopes_of(impl, n_heads: int) -> Tensor:
    return numbers(impl.alibi_slopes(n_heads), (n_heads,), f"alibi_slopes({n_heads})")


def bias_of(impl, n_heads: int, len_q: int, len_k: int) -> Tensor:
    what = f"alibi_bias({n_heads}, {len_q}, {len_k})"
    return numbers(impl.alibi_bias(n_heads, len_q, len_k), (n_heads, len_q, len_k), what)


# --- shapes and slopes -----------------------------------------------------------------------------------


@pytest.mark.visible
def test_returns_the_right_shapes(impl):
    """the shapes are right: a slope per head, and a bias per head, query and key, in float32"""
    for n_heads in 4, 5:
        results = {f"alibi_slopes({n_heads})": (impl.alibi_slopes(n_heads), (n_heads,))}
        for len_q, len_k in (3, 7), (7, 7), (1, 6):
            bias = impl.alibi_bias(n_heads, len_q, len_k)
            results[f"alibi_bias({n_heads}, {len_q}, {len_k})"] = bias, (n_heads, len_q, len_k)

        for what, (got, shape) in results.items():
            numbers(got, shape, what)
            if got.dtype != torch.float32:
                came = str(got.dtype).removeprefix("torch.")
                raise CheckFailure(f"{what}: the dtype should be float32, but {came} came.")


@pytest.mark.visible
@pytest.mark.points(2)
def test_published_slopes_of_eight_heads(impl):
    """the slopes of 8 heads are those that the paper prints: 1/2, 1/4, ... 1/256"""
    printed = [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]

    assert_close(slopes_of(impl, 8), torch.tensor(printed), "the slopes of 8 heads")
    assert_close(impl.alibi_slopes(n_heads=8), torch.tensor(printed), "alibi_slopes(n_heads=8)")


@pytest.mark.visible
def test_slopes_of_other_powers_of_two(impl):
    """1, 2, 4, 16 and 32 heads: the slopes begin at 2 ** (-8 / H) and end at 2 ** -8"""
    for n_heads in 1, 2, 4, 16, 32:
        expected = torch.tensor([2 ** (-8 * h / n_heads) for h in range(1, n_heads + 1)])

        assert_close(slopes_of(impl, n_heads), expected, f"alibi_slopes({n_heads})")


@pytest.mark.visible
@pytest.mark.points(2)
def test_slopes_between_powers_of_two(impl):
    """3, 6 and 12 heads: the slopes of 2, 4 and 8 heads, then every other slope of 4, 8 and 16"""
    for n_heads, exponents in (
        (3, [-4, -8, -2]),
        (6, [-2, -4, -6, -8, -1, -3]),
        (12, [-1, -2, -3, -4, -5, -6, -7, -8, -0.5, -1.5, -2.5, -3.5]),
    ):
        what = f"the slopes of {n_heads} heads, which are 2 to the power of {', '.join(map(str, exponents))}"
        assert_close(slopes_of(impl, n_heads), 2.0 ** torch.tensor(exponents), what)


def test_slopes_of_every_number_of_heads(impl, reference):
    """the slopes agree with the reference for all numbers of heads up to 40, and some large ones"""
    for n_heads in (*range(1, 41), 63, 64, 65, 71, 112, 128, 200):
        assert_close(impl.alibi_slopes(n_heads), reference.alibi_slopes(n_heads), f"alibi_slopes({n_heads})")


# --- the bias --------------------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_bias_of_four_tokens_by_hand(impl):
    """four queries and four keys, worked out on paper"""
    steps = [[0.0, -INF, -INF, -INF], [-1.0, 0.0, -INF, -INF], [-2.0, -1.0, 0.0, -INF], [-3.0, -2.0, -1.0, 0.0]]

    for n_heads, slope in (8, 1 / 2), (2, 1 / 16):
        what = f"alibi_bias({n_heads}, 4, 4), the first head, whose slope is {slope:g}"
        assert_close(bias_of(impl, n_heads, 4, 4)[0], slope * torch.tensor(steps), what)
    named = impl.alibi_bias(n_heads=1, len_q=4, len_k=4)
    assert_close(named[0], 2**-8 * torch.tensor(steps), "alibi_bias(n_heads=1, len_q=4, len_k=4)")


@pytest.mark.visible
@pytest.mark.points(2)
def test_last_query_stands_at_the_last_key(impl):
    """fewer queries than keys, as with a cache: the last query stands at the last key"""
    slopes = slopes_of(impl, 2)

    for len_q, steps in (
        (1, [[-4.0, -3.0, -2.0, -1.0, 0.0]]),
        (2, [[-3.0, -2.0, -1.0, 0.0, -INF], [-4.0, -3.0, -2.0, -1.0, 0.0]]),
    ):
        expected = slopes[0] * torch.tensor(steps)
        what = f"alibi_bias(2, {len_q}, 5), the first head, which is {steps} times your slope {slopes[0]:g}"
        assert_close(bias_of(impl, 2, len_q, 5)[0], expected, what)


@pytest.mark.visible
def test_later_keys_are_hidden_and_no_others(impl):
    """keys after the query have -inf; all other numbers are finite"""
    for len_q, len_k in (6, 6), (3, 7), (1, 4), (2, 40):
        bias = bias_of(impl, 8, len_q, len_k)

        later = torch.ones(len_q, len_k).triu(len_k - len_q + 1).bool()
        wrong = torch.where(later, ~bias.isneginf(), ~bias.isfinite())
        if wrong.any():
            h, q, k = (int(i) for i in wrong.nonzero()[0])
            asked = "comes after it and should have -inf" if later[q, k] else "should have a finite number"
            place = f"query {q} is at position {q + len_k - len_q}, and key {k} {asked}"
            raise CheckFailure(f"alibi_bias(8, {len_q}, {len_k}): {place}, but {bias[h, q, k].item():g} came.")


def test_every_head_falls_by_its_slope(impl):
    """from one key to the key before it, the bias of each head falls by the slope that alibi_slopes gives for it"""
    for n_heads in 2, 6, 8:
        slopes, bias = slopes_of(impl, n_heads), bias_of(impl, n_heads, 4, 9)

        steps = bias[:, :, 1:6] - bias[:, :, :5]  # of keys that every one of the queries 5 to 8 may see
        what = f"alibi_bias({n_heads}, 4, 9)"
        assert_close(steps, slopes[:, None, None].expand(n_heads, 4, 5), f"{what}, the rise from each key to the next")
        at_itself = bias.diagonal(offset=5, dim1=-2, dim2=-1)
        assert_close(at_itself, torch.zeros(n_heads, 4), f"{what}, where query and key are the same token")


def test_only_the_distance_counts(impl):
    """the bias is the same along every diagonal, and a step with a cache equals the last rows of the full pass"""
    full = bias_of(impl, 4, 9, 9)

    assert_close(full[:, 1:, 1:], full[:, :-1, :-1], "alibi_bias(4, 9, 9), one query and one key later")
    for len_q in 1, 2, 5:
        what = f"alibi_bias(4, {len_q}, 9), and the last rows of alibi_bias(4, 9, 9)"
        hint = "Does the position of a query depend on the number of keys?"
        assert_close(bias_of(impl, 4, len_q, 9), full[:, 9 - len_q :], what, hint=hint)


@pytest.mark.points(2)
def test_matches_the_reference_on_many_sizes(impl, reference, rng):
    """the numbers agree with the reference for odd sizes, sizes of 1, and long texts"""
    sizes = [
        (1, 1, 1),
        (3, 1, 1),
        (1, 1, 5),
        (5, 5, 5),
        (6, 3, 6),
        (3, 3, 7),
        (4, 2, 4),
        (72, 2, 3),
        (8, 2, 3000),
        (2, 150, 200),
    ]
    for _ in range(5):
        len_q = rng.randint(1, 9)
        sizes.append((rng.randint(1, 24), len_q, len_q + rng.randint(0, 9)))

    for size in sizes:
        assert_close(impl.alibi_bias(*size), reference.alibi_bias(*size), f"alibi_bias{size}")
        with torch.no_grad():
            what = f"alibi_bias{size} under torch.no_grad()"
            assert_close(impl.alibi_bias(*size), reference.alibi_bias(*size), what)


# --- repeated calls, loops, devices, errors --------------------------------------------------------------


def test_repeated_calls_stay_right(impl, reference):
    """a call is right whatever counts the calls before it had"""
    for n_heads, len_q, len_k in (4, 3, 5), (6, 3, 5), (6, 5, 5), (6, 5, 8), (6, 2, 8), (2, 2, 8), (4, 3, 5):
        slopes = impl.alibi_slopes(n_heads)
        bias = impl.alibi_bias(n_heads, len_q, len_k)

        hint = "If single calls are right: is something kept from an earlier call that does not belong to this one?"
        what = "after other calls"
        assert_close(slopes, reference.alibi_slopes(n_heads), f"alibi_slopes({n_heads}) {what}", hint=hint)
        expected = reference.alibi_bias(n_heads, len_q, len_k)
        assert_close(bias, expected, f"alibi_bias({n_heads}, {len_q}, {len_k}) {what}", hint=hint)


def test_takes_all_tokens_at_once(impl):
    """there is no loop over queries or keys"""
    bias_of(impl, 2, 40, 40)

    assert_no_loop(impl, lambda n: impl.alibi_bias(2, n, 40), "queries")
    assert_no_loop(impl, lambda n: impl.alibi_bias(2, 3, n), "keys")


def test_follows_the_default_device(impl):
    """both results are made on the default device, wherever the calls before were"""
    before = slopes_of(impl, 6), bias_of(impl, 6, 3, 5)

    calls = {"alibi_slopes(6)": lambda: impl.alibi_slopes(6), "alibi_bias(6, 3, 5)": lambda: impl.alibi_bias(6, 3, 5)}
    for what, call in (*calls.items(), ("alibi_bias(1, 1, 4)", lambda: impl.alibi_bias(1, 1, 4))):
        assert_follows_default_device(impl, call, what)
    for (what, call), old in zip(calls.items(), before, strict=True):
        result = call()
        if result.device.type != "cpu":
            raise CheckFailure(f"The default device is 'cpu' again, but {what} lies on {result.device.type!r}.")
        assert_close(
            result, old, f"{what} on the CPU, after a call on the meta device and before it", dtype=result.dtype
        )


@pytest.mark.visible
def test_refuses_counts_below_one(impl):
    """a number of heads, queries or keys below 1 is refused with ValueError"""
    for n_heads in 0, -1, -8:
        what = f"alibi_slopes({n_heads})"
        assert_rejects(lambda n=n_heads: impl.alibi_slopes(n), what, good=lambda: slopes_of(impl, 2))
    for counts in (0, 2, 2), (-1, 2, 2), (1, 0, 2), (1, -1, 2), (1, 0, 0), (2, -3, -1), (1, 1, 0), (1, 2, -1):
        what = f"alibi_bias{counts}"
        assert_rejects(lambda c=counts: impl.alibi_bias(*c), what, good=lambda: bias_of(impl, 1, 1, 2))


# --- what the diagnosis asks, and the picture ------------------------------------------------------------


def probe(impl):
    """Ask for slopes, and for a bias with as many queries as keys and with fewer."""

    def bias(*counts: int) -> object:
        result = impl.alibi_bias(*counts)
        if isinstance(result, Tensor) and result.is_floating_point():  # -1e4, -1e9 and the lowest number are one idea
            return result.masked_fill((result < -1000) & result.isfinite(), -1e9)
        return result

    return {
        "powers of two": observe(lambda: [impl.alibi_slopes(n_heads) for n_heads in (1, 8, 16)]),
        "others": observe(lambda: [impl.alibi_slopes(n_heads) for n_heads in (3, 6, 12)]),
        "square": observe(lambda: bias(8, 4, 4)),
        "with a cache": observe(lambda: bias(8, 2, 5)),
    }


def picture(impl) -> list[Panel]:
    """Show how far back each of eight heads looks, as exp(bias): what is left of a weight."""
    bias = impl.alibi_bias(8, 48, 48)
    panels = [Panel(f"exp(bias) of head {h} of 8", bias[h - 1].exp(), "heatmap", "key", "query") for h in (1, 3, 5, 8)]
    back = impl.alibi_bias(8, 1, 48)[:, 0].flip(-1)  # (H, S), from distance 0 on
    names = tuple(f"head {h}" for h in range(1, 9))
    return [*panels, Panel("The bias of each head", back, "lines", "distance", "bias", names)]
