"""Other ways to write ``rotary_complex``: wrong on purpose and worth explaining, just wrong, and right."""

import cmath
import functools
import math

import torch
from torch import Tensor

from grader.judge.suite import alternative, misconception, slip

from .solution import apply_rotary_emb, precompute_freqs_cis

# --- parts that the variants share, all of them right ----------------------------------------------------


def must_fit(x: Tensor, freqs_cis: Tensor) -> None:
    if x.shape[-1] % 2 or len(freqs_cis) != x.shape[1]:
        raise ValueError("an odd width, or another number of rows than tokens")


def pair_numbers(head_dim: int, max_len: int) -> Tensor:
    """Return i of every pair, shape (K/2,)."""
    if head_dim < 1 or head_dim % 2 or max_len < 1:
        raise ValueError("head_dim must be even and at least 2, max_len at least 1")
    return torch.arange(head_dim // 2)


def table_of(max_len: int, speeds: Tensor, first: int = 0) -> Tensor:
    """Return the turns for given radians per position, shape (max_len, K/2)."""
    angles = torch.arange(first, first + max_len)[:, None] * speeds
    return torch.polar(torch.ones_like(angles), angles)


def as_pairs(x: Tensor) -> Tensor:
    """Return neighbours as complex numbers, shape (B, T, H, K/2)."""
    return torch.view_as_complex(x.float().unflatten(-1, (-1, 2)).contiguous())


def as_features(pairs: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.view_as_real(pairs).flatten(-2).to(dtype)


def turn(x: Tensor, freqs_cis: Tensor) -> Tensor:
    must_fit(x, freqs_cis)
    return as_features(as_pairs(x) * freqs_cis[:, None], x.dtype)


# --- misconceptions about the table ----------------------------------------------------------------------


@misconception(replaces="precompute_freqs_cis", caught_by="test_table_worked_out_by_hand")
def exponent_without_the_two(head_dim, max_len, theta=10_000.0):
    """Your exponents run from 0 to about one half: pair i seems to turn by theta ** (-i / K).

    The slowest pair should turn by little more than 1 / theta per position. What is i multiplied by in the formula?
    """
    return table_of(max_len, theta ** -(pair_numbers(head_dim, max_len) / head_dim))


@misconception(replaces="precompute_freqs_cis", caught_by="test_every_pair_has_its_own_speed")
def exponent_over_the_number_of_pairs(head_dim, max_len, theta=10_000.0):
    """You seem to divide the exponent by the number of pairs, and to keep the 2 above the line as well.

    Then the later half of the pairs turns slower than 1 / theta. Does K count the features of a head, or its pairs?
    """
    return table_of(max_len, theta ** -(2 * pair_numbers(head_dim, max_len) / (head_dim // 2)))


@misconception(replaces="precompute_freqs_cis", caught_by="test_every_pair_has_its_own_speed")
def last_pair_reaches_theta(head_dim, max_len, theta=10_000.0):
    """You seem to spread the exponents evenly from 0 to 1, both ends included: your last pair turns by 1 / theta.

    Some position encodings do so. What does this formula give for the last pair, i = K / 2 - 1, when K is 4?
    """
    return table_of(max_len, theta ** -(pair_numbers(head_dim, max_len) / max(1, head_dim // 2 - 1)))


@misconception(replaces="precompute_freqs_cis", caught_by="test_table_worked_out_by_hand")
def pairs_counted_from_one(head_dim, max_len, theta=10_000.0):
    """You seem to count the pairs from 1: your first pair already turns slower than one radian per position.

    What does the formula give for the first pair, i = 0?
    """
    return table_of(max_len, theta ** -(2 * (pair_numbers(head_dim, max_len) + 1) / head_dim))


@misconception(replaces="precompute_freqs_cis", caught_by="test_table_worked_out_by_hand")
def later_pairs_turn_faster(head_dim, max_len, theta=10_000.0):
    """Your later pairs turn faster than the first, by powers of theta.

    They should be the slow hands of a clock. Which sign has the exponent?
    """
    return table_of(max_len, theta ** (2 * pair_numbers(head_dim, max_len) / head_dim))


@misconception(replaces="precompute_freqs_cis", caught_by="test_table_worked_out_by_hand")
def theta_is_always_10000(head_dim, max_len, theta=10_000.0):
    """You seem to use 10000 whatever `theta` is.

    That is the default, but Llama 3 was trained with 500000. What does your table look like for a caller who says so?
    """
    return precompute_freqs_cis(head_dim, max_len)


@misconception(replaces="precompute_freqs_cis", caught_by="test_table_worked_out_by_hand")
def positions_start_at_one(head_dim, max_len, theta=10_000.0):
    """Your table begins with position 1.

    The first token of a text is at position 0. By how much should it be turned, and which complex number does that?
    """
    return table_of(max_len, theta ** -(2 * pair_numbers(head_dim, max_len) / head_dim), first=1)


@misconception(replaces="precompute_freqs_cis", caught_by="test_table_worked_out_by_hand")
def clockwise_table(head_dim, max_len, theta=10_000.0):
    """The numbers in your table have the sign of their imaginary parts changed: they turn clockwise.

    Scores depend on the distance alone in your code too. Which sign has the sine in cos t + 1j * sin t?
    """
    return precompute_freqs_cis(head_dim, max_len, theta).conj().resolve_conj()


@misconception(replaces="precompute_freqs_cis", caught_by="test_table_worked_out_by_hand")
def sine_and_cosine_swapped(head_dim, max_len, theta=10_000.0):
    """Your numbers are sin t + 1j * cos t.

    At angle 0 that is 1j, which turns by a quarter. Which number turns by nothing at all?
    """
    table = precompute_freqs_cis(head_dim, max_len, theta)
    return torch.complex(table.imag, table.real)


@misconception(replaces="precompute_freqs_cis", caught_by="test_table_worked_out_by_hand")
def lengths_and_angles_swapped(head_dim, max_len, theta=10_000.0):
    """Your numbers all have the angle 1, and the lengths that should be their angles.

    torch.polar takes two tensors. Which comes first, and which length has a number that turns without stretching?
    """
    angles = torch.arange(max_len)[:, None] * theta ** -(2 * pair_numbers(head_dim, max_len) / head_dim)
    return torch.polar(angles, torch.ones_like(angles))


# --- misconceptions about the turn -----------------------------------------------------------------------


@misconception(replaces="apply_rotary_emb", caught_by="test_matches_a_turn_done_by_hand")
def pairs_are_halves(xq, xk, freqs_cis):
    """You pair feature i with feature i + K/2, as GPT-NeoX and Hugging Face's Llama do.

    That is a sound rotary embedding, for weights trained with it. Which two features does this exercise call a pair?
    """

    def turned(x):
        must_fit(x, freqs_cis)
        a, b = x.float().chunk(2, dim=-1)
        pairs = torch.complex(a.contiguous(), b.contiguous()) * freqs_cis[:, None]
        return torch.cat((pairs.real, pairs.imag), dim=-1).to(x.dtype)

    return turned(xq), turned(xk)


@misconception(replaces="apply_rotary_emb", caught_by="test_matches_a_turn_done_by_hand")
def turns_clockwise(xq, xk, freqs_cis):
    """You turn the other way, as if freqs_cis were conjugated.

    Scores depend on the distance alone in your code too, so most properties hold. What is 1j times 1?
    """
    return apply_rotary_emb(xq, xk, freqs_cis.conj())


@misconception(replaces="apply_rotary_emb", caught_by="test_scores_depend_only_on_the_distance")
def keys_turn_the_other_way(xq, xk, freqs_cis):
    """You turn the keys clockwise, and the queries counter-clockwise.

    A score should depend on the difference of two positions. On what do your scores depend?
    """
    return turn(xq, freqs_cis), turn(xk, freqs_cis.conj())


@misconception(replaces="apply_rotary_emb", caught_by="test_turns_of_1_change_nothing")
def keys_stay_as_they_are(xq, xk, freqs_cis):
    """Your keys come back as they went in.

    If only the queries turn, a score depends on where the query stands. What do the keys need?
    """
    return turn(xq, freqs_cis), xk.clone()


@misconception(replaces="apply_rotary_emb", caught_by="test_rows_belong_to_tokens")
def heads_taken_for_tokens(xq, xk, freqs_cis):
    """You seem to line up freqs_cis with the heads, as if the shape were (B, H, T, K).

    Many codes have that layout, but Llama's reference code turns before it transposes. Which dimension counts tokens?
    """
    must_fit(xq, freqs_cis)
    return tuple(as_features(as_pairs(x) * freqs_cis, x.dtype) for x in (xq, xk))


@misconception(replaces="apply_rotary_emb", caught_by="test_matches_a_turn_done_by_hand")
def parts_side_by_side(xq, xk, freqs_cis):
    """You turn neighbours, and then put all real parts before all imaginary ones.

    Each number is right, but many lie in another place than they came from. Where was the imaginary part of pair 0?
    """
    turned = apply_rotary_emb(xq, xk, freqs_cis)
    return tuple(torch.cat((x[..., 0::2], x[..., 1::2]), dim=-1) for x in turned)


@misconception(replaces="apply_rotary_emb", caught_by="test_keeps_the_length_of_every_pair")
def adds_instead_of_turning(xq, xk, freqs_cis):
    """You add the complex numbers to the pairs, as the sinusoidal encoding of the first transformer does.

    Here the position does not move a vector, it turns it. What should become of a token that is all zeros?
    """
    must_fit(xq, freqs_cis)
    return tuple(as_features(as_pairs(x) + freqs_cis[:, None], x.dtype) for x in (xq, xk))


@misconception(replaces="apply_rotary_emb", caught_by="test_each_comes_back_in_its_own_dtype")
def stays_in_float32(xq, xk, freqs_cis):
    """What was bfloat16 comes back as float32.

    The product has to be wider than bfloat16. Which dtype does the caller expect afterwards?
    """
    return apply_rotary_emb(xq.float(), xk.float(), freqs_cis)


@misconception(replaces="apply_rotary_emb", caught_by="test_each_comes_back_in_its_own_dtype")
def keys_in_the_dtype_of_the_queries(xq, xk, freqs_cis):
    """Your keys come back in the dtype of the queries.

    A cache may keep keys in another dtype than the queries have. From which tensor should each result take its dtype?
    """
    return turn(xq, freqs_cis), turn(xk, freqs_cis).to(xq.dtype)


@misconception(replaces="apply_rotary_emb", caught_by="test_keys_may_have_fewer_heads")
def keys_are_repeated(xq, xk, freqs_cis):
    """Your keys come back with as many heads as the queries.

    Grouped-query attention repeats them later, and a cache keeps the few. Which shape should the turned keys have?
    """
    if xq.shape[2] % xk.shape[2] == 0:
        xk = xk.repeat_interleave(xq.shape[2] // xk.shape[2], dim=2)
    return apply_rotary_emb(xq, xk, freqs_cis)


@misconception(replaces="apply_rotary_emb", caught_by="test_returns_the_right_shapes")
def left_complex(xq, xk, freqs_cis):
    """Your results are still complex numbers, one for each pair.

    Attention goes on with K real features per head. Which function undoes torch.view_as_complex?
    """
    must_fit(xq, freqs_cis)
    return tuple(as_pairs(x) * freqs_cis[:, None] for x in (xq, xk))


# --- slips -----------------------------------------------------------------------------------------------


@slip(replaces="precompute_freqs_cis", caught_by="test_returns_the_right_shapes")
def angles_alone(head_dim, max_len, theta=10_000.0):
    return precompute_freqs_cis(head_dim, max_len, theta).angle()


@slip(replaces="precompute_freqs_cis", caught_by="test_returns_the_right_shapes")
def one_column_per_feature(head_dim, max_len, theta=10_000.0):
    return precompute_freqs_cis(head_dim, max_len, theta).repeat_interleave(2, dim=-1)


@slip(replaces="precompute_freqs_cis", caught_by="test_returns_the_right_shapes")
def twice_as_many_positions(head_dim, max_len, theta=10_000.0):
    return precompute_freqs_cis(head_dim, 2 * max_len, theta)


@slip(replaces="precompute_freqs_cis", caught_by="test_returns_the_right_shapes")
def table_in_complex128(head_dim, max_len, theta=10_000.0):
    return precompute_freqs_cis(head_dim, max_len, theta).to(torch.complex128)


@slip(replaces="precompute_freqs_cis", caught_by="test_far_positions")
def positions_in_bfloat16(head_dim, max_len, theta=10_000.0):
    angles = torch.arange(max_len).bfloat16()[:, None] * theta ** -(2 * pair_numbers(head_dim, max_len) / head_dim)
    return torch.polar(torch.ones_like(angles), angles)


@slip(replaces="precompute_freqs_cis", caught_by="test_far_positions")
def at_most_2048_positions(head_dim, max_len, theta=10_000.0):
    return precompute_freqs_cis(head_dim, min(max_len, 2048), theta)


@slip(replaces="precompute_freqs_cis", caught_by="test_takes_all_tokens_at_once")
def loops_over_positions(head_dim, max_len, theta=10_000.0):
    speeds = theta ** -(2 * pair_numbers(head_dim, max_len) / head_dim)
    return torch.stack([torch.polar(torch.ones_like(speeds), p * speeds) for p in range(max_len)])


@slip(replaces="precompute_freqs_cis", caught_by="test_follows_the_device")
def table_on_the_cpu(head_dim, max_len, theta=10_000.0):
    i = torch.arange(len(pair_numbers(head_dim, max_len)), device="cpu")
    angles = torch.arange(max_len, device="cpu")[:, None] * theta ** -(2 * i / head_dim)
    return torch.polar(torch.ones_like(angles), angles)


@functools.cache
def remembered_table(head_dim: int, max_len: int, theta: float) -> Tensor:
    return precompute_freqs_cis(head_dim, max_len, theta)


@slip(replaces="precompute_freqs_cis", caught_by="test_follows_the_device")
def cache_forgets_the_device(head_dim, max_len, theta=10_000.0):
    return remembered_table(head_dim, max_len, theta)


_KEPT: dict[object, Tensor] = {}


@slip(replaces="precompute_freqs_cis", caught_by="test_repeated_calls_stay_right")
def cache_rounds_theta(head_dim, max_len, theta=10_000.0):
    table = precompute_freqs_cis(head_dim, max_len, theta)
    return _KEPT.setdefault(("rounded", head_dim, max_len, int(theta), table.device), table)


@slip(replaces="precompute_freqs_cis", caught_by="test_repeated_calls_stay_right")
def cache_forgets_theta(head_dim, max_len, theta=10_000.0):
    table = precompute_freqs_cis(head_dim, max_len, theta)
    return _KEPT.setdefault((head_dim, max_len, table.device), table)


@slip(replaces="precompute_freqs_cis", caught_by="test_refuses_sizes_that_make_no_table")
def takes_a_width_of_zero(head_dim, max_len, theta=10_000.0):
    if head_dim == 0 and max_len > 0:
        return torch.ones(max_len, 0, dtype=torch.complex64)
    return precompute_freqs_cis(head_dim, max_len, theta)


@slip(replaces="precompute_freqs_cis", caught_by="test_refuses_sizes_that_make_no_table")
def takes_no_positions(head_dim, max_len, theta=10_000.0):
    return precompute_freqs_cis(head_dim, max(1, max_len), theta)[: max(0, max_len)]


@slip(replaces="precompute_freqs_cis", caught_by="test_refuses_sizes_that_make_no_table")
def takes_an_odd_width(head_dim, max_len, theta=10_000.0):
    if head_dim < 1 or max_len < 1:
        raise ValueError("sizes must be at least 1")
    return table_of(max_len, theta ** -(torch.arange(0, head_dim, 2)[: head_dim // 2] / head_dim))


@slip(replaces="apply_rotary_emb", caught_by="test_returns_the_right_shapes")
def returns_the_queries_alone(xq, xk, freqs_cis):
    return turn(xq, freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_matches_a_turn_done_by_hand")
def keys_first(xq, xk, freqs_cis):
    return apply_rotary_emb(xq, xk, freqs_cis)[::-1]


@slip(replaces="apply_rotary_emb", caught_by="test_matches_the_reference_on_many_sizes")
def drops_dimensions_of_size_one(xq, xk, freqs_cis):
    return tuple(x.squeeze() for x in apply_rotary_emb(xq, xk, freqs_cis))


@slip(replaces="apply_rotary_emb", caught_by="test_takes_strided_inputs")
def wants_tokens_before_heads(xq, xk, freqs_cis):
    must_fit(xq, freqs_cis)
    flat = (x.float().view(x.shape[0], x.shape[1], -1, 2) for x in (xq, xk))  # the pairs of all heads in one row
    turned = (torch.view_as_complex(x).unflatten(2, (-1, freqs_cis.shape[1])) * freqs_cis[:, None] for x in flat)
    return tuple(as_features(pairs, x) for pairs, x in zip(turned, (xq, xk), strict=True))


@alternative(replaces="apply_rotary_emb")
def in_the_lines_of_llama(xq, xk, freqs_cis):
    must_fit(xq, freqs_cis)
    return tuple(
        as_features(torch.view_as_complex(x.float().unflatten(-1, (-1, 2))) * freqs_cis[:, None], x.dtype)
        for x in (xq, xk)
    )


@slip(replaces="apply_rotary_emb", caught_by="test_each_comes_back_in_its_own_dtype")
def has_no_complex_bfloat16(xq, xk, freqs_cis):
    must_fit(xq, freqs_cis)
    pairs = (torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2).contiguous()) for x in (xq, xk))
    return tuple(torch.view_as_real(z * freqs_cis[:, None]).flatten(-2) for z in pairs)


@slip(replaces="apply_rotary_emb", caught_by="test_gradients_reach_queries_and_keys")
def cuts_the_gradient_of_the_keys(xq, xk, freqs_cis):
    return apply_rotary_emb(xq, xk.detach(), freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_gradients_reach_queries_and_keys")
def cuts_the_gradient_in_bfloat16(xq, xk, freqs_cis):
    return apply_rotary_emb(xq.detach() if xq.dtype == torch.bfloat16 else xq, xk, freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_gradients_reach_queries_and_keys")
def cuts_the_gradient_of_keys_in_another_dtype(xq, xk, freqs_cis):
    return apply_rotary_emb(xq, xk if xk.dtype == xq.dtype else xk.detach(), freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_gradients_reach_queries_and_keys")
def cuts_the_gradient_of_a_single_token(xq, xk, freqs_cis):
    return apply_rotary_emb(xq.detach() if len(freqs_cis) == 1 else xq, xk, freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_gradients_reach_queries_and_keys")
def cuts_the_gradient_of_a_single_head_of_keys(xq, xk, freqs_cis):
    return apply_rotary_emb(xq, xk.detach() if xk.shape[2] == 1 else xk, freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_gradient_of_one_tensor_for_both")
def keys_are_a_copy_of_the_queries(xq, xk, freqs_cis):
    return apply_rotary_emb(xq, xk.detach() if xk is xq else xk, freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_the_same_without_gradients")
def keys_stay_without_gradients(xq, xk, freqs_cis):
    q, k = apply_rotary_emb(xq, xk, freqs_cis)
    return (q, k) if torch.is_grad_enabled() else (q, xk.clone())


@slip(replaces="apply_rotary_emb", caught_by="test_the_same_without_gradients")
def queries_moved_where_a_gradient_is_required(xq, xk, freqs_cis):
    q, k = apply_rotary_emb(xq, xk, freqs_cis)
    return q + 0.5 * xq.requires_grad, k


@slip(replaces="precompute_freqs_cis", caught_by="test_every_pair_has_its_own_speed")
def theta_of_2_at_least(head_dim, max_len, theta=10_000.0):
    return precompute_freqs_cis(head_dim, max_len, max(2.0, theta))


@slip(replaces="apply_rotary_emb", caught_by="test_matches_the_reference_on_many_sizes")
def cuts_off_large_numbers(xq, xk, freqs_cis):
    return tuple(x.clamp(-100.0, 100.0) for x in apply_rotary_emb(xq, xk, freqs_cis))


@slip(replaces="apply_rotary_emb", caught_by="test_refuses_another_number_of_rows")
def takes_a_row_for_every_sequence(xq, xk, freqs_cis):
    return (xq, xk) if len(freqs_cis) == len(xq) != xq.shape[1] else apply_rotary_emb(xq, xk, freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_refuses_another_number_of_rows")
def takes_twice_the_rows(xq, xk, freqs_cis):
    T = xq.shape[1]
    return apply_rotary_emb(xq, xk, freqs_cis[:T] if len(freqs_cis) == 2 * T else freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_leaves_the_inputs_alone")
def turns_in_place(xq, xk, freqs_cis):
    return tuple(x.copy_(turn(x, freqs_cis)) for x in (xq, xk))


@slip(replaces="apply_rotary_emb", caught_by="test_takes_all_tokens_at_once")
def loops_over_tokens(xq, xk, freqs_cis):
    must_fit(xq, freqs_cis)
    return tuple(
        torch.cat([turn(x[:, t : t + 1], freqs_cis[t : t + 1]) for t in range(x.shape[1])], dim=1) for x in (xq, xk)
    )


@slip(replaces="apply_rotary_emb", caught_by="test_takes_all_tokens_at_once")
def loops_over_the_batch(xq, xk, freqs_cis):
    return tuple(torch.stack([turn(row[None], freqs_cis)[0] for row in x]) for x in (xq, xk))


@slip(replaces="apply_rotary_emb", caught_by="test_follows_the_device")
def turns_on_the_cpu(xq, xk, freqs_cis):
    return apply_rotary_emb(xq.cpu(), xk.cpu(), freqs_cis.cpu())


@slip(replaces="apply_rotary_emb", caught_by="test_repeated_calls_stay_right")
def keeps_the_first_table(xq, xk, freqs_cis):
    must_fit(xq, freqs_cis)
    return apply_rotary_emb(xq, xk, _KEPT.setdefault((freqs_cis.shape, freqs_cis.device), freqs_cis))


@slip(replaces="apply_rotary_emb", caught_by="test_refuses_a_width_without_pairs")
def leaves_an_odd_feature_alone(xq, xk, freqs_cis):
    even = xq.shape[-1] // 2 * 2
    turned = apply_rotary_emb(xq[..., :even], xk[..., :even], freqs_cis[:, : even // 2])
    return tuple(torch.cat((x, rest[..., even:]), dim=-1) for x, rest in zip(turned, (xq, xk), strict=True))


@slip(replaces="apply_rotary_emb", caught_by="test_refuses_a_width_without_pairs")
def leaves_the_error_to_torch(xq, xk, freqs_cis):
    if len(freqs_cis) != xq.shape[1]:
        raise ValueError("another number of rows than tokens")
    return tuple(as_features(as_pairs(x) * freqs_cis[:, None], x.dtype) for x in (xq, xk))


@slip(replaces="apply_rotary_emb", caught_by="test_refuses_another_number_of_rows")
def broadcasts_one_row(xq, xk, freqs_cis):
    return apply_rotary_emb(xq, xk, freqs_cis.expand(xq.shape[1], -1) if len(freqs_cis) == 1 else freqs_cis)


@slip(replaces="apply_rotary_emb", caught_by="test_refuses_another_number_of_rows")
def takes_the_first_rows(xq, xk, freqs_cis):
    return apply_rotary_emb(xq, xk, freqs_cis[: xq.shape[1]])


@slip(replaces="apply_rotary_emb", caught_by="test_refuses_another_number_of_rows")
def asserts_instead_of_raising(xq, xk, freqs_cis):
    assert len(freqs_cis) == xq.shape[1]
    return apply_rotary_emb(xq, xk, freqs_cis)


@slip(replaces="precompute_freqs_cis", caught_by="test_table_worked_out_by_hand")
def theta_has_another_name(head_dim, max_len, base=10_000.0):
    return precompute_freqs_cis(head_dim, max_len, base)


@slip(replaces="apply_rotary_emb", caught_by="test_matches_the_reference_on_many_sizes")
def turns_64_features(xq, xk, freqs_cis):
    turned = apply_rotary_emb(xq, xk, freqs_cis)
    return tuple(torch.cat((y[..., :64], x[..., 64:]), dim=-1) for y, x in zip(turned, (xq, xk), strict=True))


# --- right, written another way --------------------------------------------------------------------------


@alternative(replaces="precompute_freqs_cis")
def as_in_llama(head_dim, max_len, theta=10_000.0):
    pair_numbers(head_dim, max_len)
    freqs = 1.0 / (theta ** (torch.arange(0, head_dim, 2)[: (head_dim // 2)].float() / head_dim))
    t = torch.arange(max_len, device=freqs.device)
    freqs = torch.outer(t, freqs).float()
    return torch.polar(torch.ones_like(freqs), freqs)


@alternative(replaces="precompute_freqs_cis")
def by_the_exponential(head_dim, max_len, theta=10_000.0):
    i = pair_numbers(head_dim, max_len)
    speeds = torch.exp(i * (-2 * math.log(theta) / head_dim))
    return torch.exp(1j * torch.einsum("p,i->pi", torch.arange(max_len).to(speeds.dtype), speeds))


@alternative(replaces="precompute_freqs_cis")
def from_cosines_and_sines(head_dim, max_len, theta=10_000.0):
    i = pair_numbers(head_dim, max_len).double()
    angles = torch.arange(max_len).double()[:, None] * theta ** (-2 * i / head_dim)
    return torch.view_as_complex(torch.stack((angles.cos(), angles.sin()), dim=-1)).to(torch.complex64)


@alternative(replaces="precompute_freqs_cis")
def from_python_numbers(head_dim, max_len, theta=10_000.0):
    if head_dim not in range(2, 1 << 20, 2) or max_len <= 0:
        raise ValueError(f"{head_dim=} must be even, {max_len=} positive")
    speeds = [1 / theta ** (2 * i / head_dim) for i in range(head_dim // 2)]
    return torch.tensor([[cmath.rect(1.0, p * speed) for speed in speeds] for p in range(max_len)])


@alternative(replaces="precompute_freqs_cis")
def by_powers(head_dim, max_len, theta=10_000.0):
    speeds = theta ** -(2 * pair_numbers(head_dim, max_len).double() / head_dim)
    one_step = torch.complex(speeds.cos(), speeds.sin())
    return (one_step ** torch.arange(max_len)[:, None]).to(torch.complex64)


@alternative(replaces="apply_rotary_emb")
def as_in_llama_s_model(xq, xk, freqs_cis):
    must_fit(xq, freqs_cis)
    xq_ = torch.view_as_complex(xq.float().reshape(*xq.shape[:-1], -1, 2).contiguous())
    xk_ = torch.view_as_complex(xk.float().reshape(*xk.shape[:-1], -1, 2).contiguous())
    freqs_cis = freqs_cis.view(*[d if i in (1, xq_.ndim - 1) else 1 for i, d in enumerate(xq_.shape)])
    xq_out = torch.view_as_real(xq_ * freqs_cis).flatten(3)
    xk_out = torch.view_as_real(xk_ * freqs_cis).flatten(3)
    return xq_out.type_as(xq), xk_out.type_as(xk)


@alternative(replaces="apply_rotary_emb")
def in_real_numbers(xq, xk, freqs_cis):
    def turned(x):
        must_fit(x, freqs_cis)
        cos, sin = freqs_cis.real[None, :, None], freqs_cis.imag[None, :, None]
        a, b = x[..., 0::2], x[..., 1::2]
        return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2).type_as(x)

    return [turned(xq), turned(xk)]


@alternative(replaces="apply_rotary_emb")
def by_einsum(xq, xk, freqs_cis):
    return tuple(
        as_features(torch.einsum("bthi,ti->bthi", as_pairs(x), freqs_cis), x.dtype)
        for x in (xq, xk)
        if must_fit(x, freqs_cis) is None
    )


@alternative(replaces="apply_rotary_emb")
def both_at_once(xq, xk, freqs_cis):
    must_fit(xq, freqs_cis)
    both = torch.cat((xq.float(), xk.float()), dim=2)  # (B, T, H + G, K)
    a, b = both.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.view_as_real(torch.complex(a, b) * freqs_cis.unsqueeze(1)).reshape(both.shape)
    q, k = turned.split((xq.shape[2], xk.shape[2]), dim=2)
    return q.to(xq.dtype), k.to(xk.dtype)


@alternative(replaces="apply_rotary_emb")
def head_by_head(xq, xk, freqs_cis):
    def turned(x):
        must_fit(x, freqs_cis)
        heads = [torch.view_as_complex(head.double().unflatten(-1, (-1, 2)).contiguous()) for head in x.unbind(2)]
        return torch.stack([torch.view_as_real(freqs_cis * head).flatten(2) for head in heads], dim=2).to(x.dtype)

    return turned(xq), turned(xk)


@alternative(replaces="apply_rotary_emb")
def by_rotation_matrices(xq, xk, freqs_cis):
    must_fit(xq, freqs_cis)
    columns = torch.stack((freqs_cis, 1j * freqs_cis), dim=-1)  # what becomes of 1 and of i, (T, K/2, 2)
    turns = torch.view_as_real(columns)  # (T, K/2, 2 columns, 2 rows)
    pairs = (x.unflatten(-1, (-1, 2)).to(turns.dtype) for x in (xq, xk))
    q, k = (torch.einsum("ticr,bthic->bthir", turns, x).flatten(-2) for x in pairs)
    return q.to(xq), k.to(xk)
