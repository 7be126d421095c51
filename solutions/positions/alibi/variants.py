"""Other ways to write ``alibi``: wrong on purpose and worth explaining, just wrong, and right."""

import functools
import math

import torch
from torch import Tensor

from grader.judge.suite import alternative, misconception, slip

from .solution import alibi_bias, alibi_slopes

# --- parts that the variants share, all of them right ----------------------------------------------------


def must_be_counts(*counts: int) -> None:
    if min(counts) < 1:
        raise ValueError("counts must be at least 1")


def slopes_of_power(m: int) -> list[float]:
    """Return the slopes of ``m`` heads, where ``m`` is a power of two."""
    return [2 ** (-8 * h / m) for h in range(1, m + 1)]


def power_below(n_heads: int) -> int:
    """Return the largest power of two up to ``n_heads``."""
    must_be_counts(n_heads)
    return 2 ** int(math.log2(n_heads))


def distances(len_q: int, len_k: int) -> Tensor:
    """Return how far each key lies behind each query, shape (T, S)."""
    must_be_counts(len_q, len_k)
    return torch.arange(len_k - len_q, len_k)[:, None] - torch.arange(len_k)


def sloped(n_heads: int, distance: Tensor) -> Tensor:
    """Return -slope * distance, shape (H, T, S)."""
    return -alibi_slopes(n_heads)[:, None, None] * distance


# --- misconceptions about the slopes ---------------------------------------------------------------------


@misconception(replaces="alibi_slopes", caught_by="test_slopes_between_powers_of_two")
def one_formula_for_all(n_heads):
    """You seem to use 2 ** (-8 * h / H) for every number of heads.

    That is the rule for powers of two. What does the brief say about 3 heads?
    """
    must_be_counts(n_heads)
    return torch.tensor(slopes_of_power(n_heads))


@misconception(replaces="alibi_slopes", caught_by="test_slopes_between_powers_of_two")
def first_of_the_next_power(n_heads):
    """For a number that is no power of two you seem to take the first slopes of the next power above it.

    Which power of two does the rule begin with, and which slopes does it take from the next one?
    """
    m = power_below(n_heads)
    return torch.tensor(slopes_of_power(m if m == n_heads else 2 * m)[:n_heads])


@misconception(replaces="alibi_slopes", caught_by="test_slopes_between_powers_of_two")
def fills_up_with_the_first(n_heads):
    """You take the slopes of m heads and fill up with the first slopes of 2m heads.

    Every second one of those is there already, since 2 ** (-8 * 2 / 2m) is 2 ** (-8 / m). Which are new?
    """
    m = power_below(n_heads)
    return torch.tensor(slopes_of_power(m) + slopes_of_power(2 * m)[: n_heads - m])


@misconception(replaces="alibi_slopes", caught_by="test_slopes_between_powers_of_two")
def fills_up_with_even_ones(n_heads):
    """You fill up with the 2nd, 4th, 6th ... slope of 2m heads: those are the slopes of m heads once more.

    Two heads with the same slope see the same. Counted from 1, which ones does the rule take?
    """
    m = power_below(n_heads)
    return torch.tensor(slopes_of_power(m) + slopes_of_power(2 * m)[1::2][: n_heads - m])


@misconception(replaces="alibi_slopes", caught_by="test_slopes_between_powers_of_two")
def fills_up_with_the_last(n_heads):
    """You fill up with every other slope of 2m heads, but with the last of them instead of the first.

    For 3 heads that gives 2 ** -6 in the end. Which one does the example of the brief have?
    """
    m = power_below(n_heads)
    return torch.tensor(slopes_of_power(m) + slopes_of_power(2 * m)[0::2][2 * m - n_heads :])


@misconception(replaces="alibi_slopes", caught_by="test_slopes_between_powers_of_two")
def slopes_in_order_of_size(n_heads):
    """Your slopes are the right ones, but sorted by size.

    Weights that were trained with the authors' order belong to certain heads. Where do the added slopes stand?
    """
    return alibi_slopes(n_heads).sort(descending=True).values


@misconception(replaces="alibi_slopes", caught_by="test_published_slopes_of_eight_heads")
def heads_counted_from_zero(n_heads):
    """You count the heads from 0, so that your first slope is 1.

    With which h does the formula begin, and which is the first slope that the paper prints for 8 heads?
    """
    m = power_below(n_heads)
    between = [2 ** (-8 * h / (2 * m)) for h in range(0, 2 * m, 2)]
    return torch.tensor([2 ** (-8 * h / m) for h in range(m)] + between[: n_heads - m])


@misconception(replaces="alibi_slopes", caught_by="test_slopes_of_other_powers_of_two")
def halves_whatever_the_number(n_heads):
    """Each of your slopes is half of the one before it, whatever the number of heads.

    That is right for 8 heads. What do the slopes of 16 heads end with, by the formula and by your code?
    """
    must_be_counts(n_heads)
    return torch.tensor([2.0**-h for h in range(1, n_heads + 1)])


@misconception(replaces="alibi_slopes", caught_by="test_published_slopes_of_eight_heads")
def slopes_grow(n_heads):
    """Your slopes are in the reverse order: the first head has the smallest.

    Which of the paper's eight heads sees the least of what lies far back?
    """
    return alibi_slopes(n_heads).flip(0)


# --- misconceptions about the bias -----------------------------------------------------------------------


@misconception(replaces="alibi_bias", caught_by="test_bias_of_four_tokens_by_hand")
def far_keys_are_favoured(n_heads, len_q, len_k):
    """Your bias grows with the distance.

    It is added to the scores. Which keys should have the higher ones, near or far?
    """
    distance = distances(len_q, len_k)
    return (-sloped(n_heads, distance)).masked_fill(distance < 0, -torch.inf)


@misconception(replaces="alibi_bias", caught_by="test_later_keys_are_hidden_and_no_others")
def looks_both_ways(n_heads, len_q, len_k):
    """Your bias falls on both sides of the query, so keys after it can be seen.

    Encoders may use it like this. What does the brief ask for where k_pos > q_pos?
    """
    return sloped(n_heads, distances(len_q, len_k).abs())


@misconception(replaces="alibi_bias", caught_by="test_later_keys_are_hidden_and_no_others")
def later_keys_get_a_bonus(n_heads, len_q, len_k):
    """Keys after the query get a positive bias in your code: the formula is used for them too.

    A query must not see what comes after it. Which number takes a key's weight to exactly 0?
    """
    return sloped(n_heads, distances(len_q, len_k))


@misconception(replaces="alibi_bias", caught_by="test_later_keys_are_hidden_and_no_others")
def later_keys_get_zero(n_heads, len_q, len_k):
    """Keys after the query get a bias of 0.

    That hides nothing, it even puts them on a level with the query's own key. What does exp(0) count for in a softmax?
    """
    return sloped(n_heads, distances(len_q, len_k).clamp(min=0))


@misconception(replaces="alibi_bias", caught_by="test_later_keys_are_hidden_and_no_others")
def a_large_finite_number(n_heads, len_q, len_k):
    """You hide later keys with a large negative number that is finite.

    A softmax makes 0 of it too. But other biases may be added to this one, and half precision has no such number. What
    does the brief ask for?
    """
    distance = distances(len_q, len_k)
    return sloped(n_heads, distance).masked_fill(distance < 0, -1e9)


@misconception(replaces="alibi_bias", caught_by="test_later_keys_are_hidden_and_no_others")
def hidden_by_multiplication(n_heads, len_q, len_k):
    """Your bias has NaN in it: 0 * -inf is neither 0 nor -inf.

    A mask of zeros and ones times -inf looks right on paper. Which operation writes -inf only where it belongs?
    """
    distance = distances(len_q, len_k)
    return sloped(n_heads, distance) + (distance < 0) * -torch.inf


@misconception(replaces="alibi_bias", caught_by="test_last_query_stands_at_the_last_key")
def queries_start_at_the_first_key(n_heads, len_q, len_k):
    """You place the first query at the first key: its position seems to be its row.

    That is right for a text read from its start. Where does one new token stand when 100 keys lie in a cache before it?
    """
    must_be_counts(len_q, len_k)
    distance = torch.arange(len_q)[:, None] - torch.arange(len_k)
    return sloped(n_heads, distance).masked_fill(distance < 0, -torch.inf)


@misconception(replaces="alibi_bias", caught_by="test_returns_the_right_shapes")
def keys_before_queries(n_heads, len_q, len_k):
    """Your keys are the rows and your queries the columns.

    Scores have the shape (H, T, S). Which of the two dimensions does a softmax sum over?
    """
    return alibi_bias(n_heads, len_q, len_k).mT.contiguous()


@misconception(replaces="alibi_bias", caught_by="test_bias_of_four_tokens_by_hand")
def grows_with_the_key_alone(n_heads, len_q, len_k):
    """You add slope * k_pos, without the query's position.

    The authors' code does so too, because a softmax does not see what is the same in a whole row. But which value does
    the brief ask for where key and query are the same token?
    """
    hidden = distances(len_q, len_k) < 0
    return sloped(n_heads, -torch.arange(len_k).expand(len_q, -1)).masked_fill(hidden, -torch.inf)


@misconception(replaces="alibi_bias", caught_by="test_bias_of_four_tokens_by_hand")
def hides_the_token_itself(n_heads, len_q, len_k):
    """You hide the query's own key as well.

    The first token of a text then has no key left at all. At which keys may a query look?
    """
    distance = distances(len_q, len_k)
    return sloped(n_heads, distance).masked_fill(distance <= 0, -torch.inf)


@misconception(replaces="alibi_bias", caught_by="test_bias_of_four_tokens_by_hand")
def distance_counted_from_one(n_heads, len_q, len_k):
    """Your bias is one step too low everywhere: the query's own key has a distance of 1.

    A softmax does not notice. What is q_pos - k_pos where both are the same token?
    """
    distance = distances(len_q, len_k)
    return sloped(n_heads, distance + 1).masked_fill(distance < 0, -torch.inf)


@misconception(replaces="alibi_bias", caught_by="test_bias_of_four_tokens_by_hand")
def all_heads_alike(n_heads, len_q, len_k):
    """Your bias is minus the distance, in all heads.

    Then all of them look equally far back. Which number makes the difference between heads?
    """
    distance = distances(len_q, len_k)
    bias = -distance.float().expand(len(alibi_slopes(n_heads)), -1, -1)
    return bias.masked_fill(distance < 0, -torch.inf)


# --- slips -----------------------------------------------------------------------------------------------


@slip(replaces="alibi_slopes", caught_by="test_returns_the_right_shapes")
def slopes_in_float64(n_heads):
    return alibi_slopes(n_heads).double()


@slip(replaces="alibi_slopes", caught_by="test_published_slopes_of_eight_heads")
def slopes_as_a_list(n_heads):
    return alibi_slopes(n_heads).tolist()


@slip(replaces="alibi_slopes", caught_by="test_slopes_of_other_powers_of_two")
def eight_divided_as_an_integer(n_heads):
    must_be_counts(n_heads)
    return torch.tensor([2.0 ** -(h * max(1, 8 // n_heads)) for h in range(1, n_heads + 1)])


@slip(replaces="alibi_slopes", caught_by="test_slopes_of_every_number_of_heads")
def repeats_beyond_64_heads(n_heads):
    must_be_counts(n_heads)
    return alibi_slopes(n_heads) if n_heads <= 64 else alibi_slopes(64).repeat(2)[:n_heads]


@slip(replaces="alibi_slopes", caught_by="test_follows_the_default_device")
def slopes_on_the_cpu(n_heads):
    return alibi_slopes(n_heads).cpu()


@slip(replaces="alibi_slopes", caught_by="test_refuses_counts_below_one")
def no_heads_no_slopes(n_heads):
    return alibi_slopes(n_heads) if n_heads > 0 else torch.empty(0)


@slip(replaces="alibi_bias", caught_by="test_returns_the_right_shapes")
def bias_with_a_batch(n_heads, len_q, len_k):
    return alibi_bias(n_heads, len_q, len_k)[None]


@slip(replaces="alibi_bias", caught_by="test_returns_the_right_shapes")
def bias_in_float64(n_heads, len_q, len_k):
    return alibi_bias(n_heads, len_q, len_k).double()


@slip(replaces="alibi_bias", caught_by="test_matches_the_reference_on_many_sizes")
def distances_in_bfloat16(n_heads, len_q, len_k):
    distance = distances(len_q, len_k)
    return sloped(n_heads, distance.bfloat16()).masked_fill(distance < 0, -torch.inf)


@slip(replaces="alibi_bias", caught_by="test_matches_the_reference_on_many_sizes")
def drops_dimensions_of_size_one(n_heads, len_q, len_k):
    return alibi_bias(n_heads, len_q, len_k).squeeze()


@slip(replaces="alibi_bias", caught_by="test_only_the_distance_counts")
def distance_as_a_share_of_the_length(n_heads, len_q, len_k):
    return alibi_bias(n_heads, len_q, len_k) / len_q


@slip(replaces="alibi_bias", caught_by="test_every_head_falls_by_its_slope")
def penalty_ends_at_four(n_heads, len_q, len_k):
    distance = distances(len_q, len_k)
    return sloped(n_heads, distance.clamp(max=4)).masked_fill(distance < 0, -torch.inf)


@slip(replaces="alibi_bias", caught_by="test_takes_all_tokens_at_once")
def loops_over_queries(n_heads, len_q, len_k):
    must_be_counts(n_heads, len_q, len_k)
    rows = [alibi_bias(n_heads, 1, len_k - len_q + q + 1) for q in range(len_q)]
    pad = torch.nn.functional.pad
    return torch.cat([pad(row, (0, len_k - row.shape[-1]), value=-torch.inf) for row in rows], dim=1)


@slip(replaces="alibi_bias", caught_by="test_takes_all_tokens_at_once")
def loops_over_keys(n_heads, len_q, len_k):
    bias = alibi_bias(n_heads, len_q, len_k)
    return torch.stack([bias[:, :, k] for k in range(len_k)], dim=-1)


_KEPT: dict[object, Tensor] = {}


@slip(replaces="alibi_bias", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_queries(n_heads, len_q, len_k):
    bias = alibi_bias(n_heads, len_q, len_k)
    kept = _KEPT.setdefault((n_heads, len_k, bias.device), bias)
    return kept if kept.shape == bias.shape or kept.shape[1] < len_q else kept[:, :len_q]


@slip(replaces="alibi_bias", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_heads(n_heads, len_q, len_k):
    bias = alibi_bias(n_heads, len_q, len_k)
    kept = _KEPT.setdefault((len_q, len_k, bias.device), bias)
    return kept[:n_heads] if len(kept) >= n_heads else bias


@functools.cache
def remembered_bias(n_heads: int, len_q: int, len_k: int) -> Tensor:
    return alibi_bias(n_heads, len_q, len_k)


@slip(replaces="alibi_bias", caught_by="test_follows_the_default_device")
def cache_forgets_the_device(n_heads, len_q, len_k):
    return remembered_bias(n_heads, len_q, len_k)


@slip(replaces="alibi_bias", caught_by="test_follows_the_default_device")
def mask_on_the_cpu(n_heads, len_q, len_k):
    later = torch.ones(len_q, len_k, dtype=torch.bool, device="cpu").triu(len_k - len_q + 1)
    return sloped(n_heads, distances(len_q, len_k)).masked_fill(later, -torch.inf)


@slip(replaces="alibi_bias", caught_by="test_refuses_counts_below_one")
def empty_without_keys(n_heads, len_q, len_k):
    return alibi_bias(n_heads, len_q, len_q)[..., :0] if len_k < 1 <= len_q else alibi_bias(n_heads, len_q, len_k)


@slip(replaces="alibi_bias", caught_by="test_matches_the_reference_on_many_sizes")
def heads_backwards_where_they_are_keys(n_heads, len_q, len_k):
    bias = alibi_bias(n_heads, len_q, len_k)
    return bias.flip(0) if n_heads == len_k else bias


@slip(replaces="alibi_bias", caught_by="test_matches_the_reference_on_many_sizes")
def ends_at_minus_a_thousand(n_heads, len_q, len_k):
    bias = alibi_bias(n_heads, len_q, len_k)
    return torch.where(bias.isinf(), bias, bias.clamp(min=-1000.0))


@slip(replaces="alibi_bias", caught_by="test_matches_the_reference_on_many_sizes")
def another_bias_without_gradients(n_heads, len_q, len_k):
    return alibi_bias(n_heads, len_q, len_k) * (1.0 if torch.is_grad_enabled() else 2.0)


@slip(replaces="alibi_bias", caught_by="test_follows_the_default_device")
def a_single_query_on_the_cpu(n_heads, len_q, len_k):
    bias = alibi_bias(n_heads, len_q, len_k)
    return bias.cpu() if len_q == 1 else bias


@slip(replaces="alibi_bias", caught_by="test_refuses_counts_below_one")
def empty_without_queries(n_heads, len_q, len_k):
    if len_q == 0 and len_k > 0:
        return torch.empty(len(alibi_slopes(n_heads)), 0, len_k)
    return alibi_bias(n_heads, len_q, len_k)


@slip(replaces="alibi_slopes", caught_by="test_published_slopes_of_eight_heads")
def heads_have_another_name(heads):
    return alibi_slopes(heads)


@slip(replaces="alibi_bias", caught_by="test_bias_of_four_tokens_by_hand")
def counts_have_other_names(heads, n_queries, n_keys):
    return alibi_bias(heads, n_queries, n_keys)


@slip(replaces="alibi_bias", caught_by="test_matches_the_reference_on_many_sizes")
def tells_128_queries_apart(n_heads, len_q, len_k):
    return alibi_bias(n_heads, len_q, len_k)[:, torch.arange(len_q).clamp(max=127)]


# --- right, written another way --------------------------------------------------------------------------


@alternative(replaces="alibi_slopes")
def as_the_authors_do(n_heads):
    must_be_counts(n_heads)

    def of_power(n):
        start = 2 ** (-(2 ** -(math.log2(n) - 3)))
        return [start * start**i for i in range(n)]

    if math.log2(n_heads).is_integer():
        return torch.tensor(of_power(n_heads))
    below = 2 ** math.floor(math.log2(n_heads))
    rest = as_the_authors_do(2 * below)[0::2][: n_heads - below]
    return torch.cat((torch.tensor(of_power(below)), rest))


@alternative(replaces="alibi_slopes")
def by_tensors(n_heads):
    m = power_below(n_heads)
    between = torch.arange(1, 2 * m, 2)[: n_heads - m] / (2 * m)
    return torch.exp2(-8 * torch.cat((torch.arange(1, m + 1) / m, between)))


@alternative(replaces="alibi_slopes")
def by_repeated_products(n_heads):
    m = power_below(n_heads)
    ratio, between = 2.0 ** (-8 / m), 2.0 ** (-4 / m)
    slopes = torch.full((m,), ratio, dtype=torch.float64).cumprod(0)
    others = torch.full((2 * m,), between, dtype=torch.float64).cumprod(0)[::2]
    return torch.hstack([slopes, others[: n_heads - m]]).float()


@alternative(replaces="alibi_slopes")
def doubling_until_it_fits(n_heads):
    if n_heads <= 0:
        raise ValueError("no heads")
    m, exponents = 1, [8.0]
    while 2 * m <= n_heads:
        m *= 2
        exponents = [8 * h / m for h in range(1, m + 1)]
    exponents += [8 * h / (2 * m) for h in range(1, 2 * (n_heads - m), 2)]
    return 0.5 ** torch.tensor(exponents)


@alternative(replaces="alibi_bias")
def by_where(n_heads, len_q, len_k):
    must_be_counts(len_q, len_k)
    back = (torch.arange(len_k)[None, :] - torch.arange(len_k)[:, None])[-len_q:]  # (T, S), 0 or less where it is seen
    return torch.where(back > 0, float("-inf"), torch.einsum("h,qk->hqk", alibi_slopes(n_heads), back.float()))


@alternative(replaces="alibi_bias")
def slope_times_infinity(n_heads, len_q, len_k):
    distance = distances(len_q, len_k).float()
    distance[distance < 0] = torch.inf
    return -alibi_slopes(n_heads).view(-1, 1, 1) * distance


@alternative(replaces="alibi_bias")
def by_triu(n_heads, len_q, len_k):
    must_be_counts(len_q, len_k)
    hidden = torch.full((len_q, len_k), float("-inf")).triu(len_k - len_q + 1)
    q, k = torch.meshgrid(torch.arange(len_k - len_q, len_k), torch.arange(len_k), indexing="ij")
    return torch.stack([slope * (k - q) + hidden for slope in alibi_slopes(n_heads)])


@alternative(replaces="alibi_bias")
def last_rows_of_a_square(n_heads, len_q, len_k):
    must_be_counts(len_q, len_k)
    steps = torch.ones(len_k, len_k).tril(-1).cumsum(0).tril()  # how many steps back, (S, S)
    seen = torch.ones(len_k, len_k, dtype=torch.bool).tril()
    bias = (-alibi_slopes(n_heads).double()[:, None, None] * steps).masked_fill(~seen, -math.inf)
    return bias[:, len_k - len_q :].float()


@alternative(replaces="alibi_bias")
def from_one_row(n_heads, len_q, len_k):
    must_be_counts(len_q, len_k)
    row = torch.cat((torch.arange(1.0 - len_k, 1.0), torch.full((len_q - 1,), -torch.inf)))  # (S + T - 1,)
    windows = row.unfold(0, len_k, 1).flip(0)  # (T, S): each query's row starts one further on
    return alibi_slopes(n_heads).reshape(n_heads, 1, 1) * windows
