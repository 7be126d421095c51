"""Other ways to write ``rotary_half``: wrong on purpose and worth explaining, just wrong, and right."""

import functools
import math

import torch
from torch import Tensor

from grader.judge.suite import alternative, misconception, slip

from .solution import apply_rotary_half, interleaved_to_half, rotate_half

# --- parts that the variants share, all of them right ----------------------------------------------------


def must_fit(x: Tensor, positions: Tensor) -> None:
    if x.shape[-1] % 2 or positions.shape != x.shape[-2:-1]:
        raise ValueError("an odd width, or another number of positions than tokens")


def must_be_even(x: Tensor) -> None:
    if x.shape[-1] % 2:
        raise ValueError("an odd width")


def head_width(weight: Tensor, n_heads: int) -> int:
    """Return K, or refuse."""
    if n_heads < 1 or len(weight) % n_heads or len(weight) // n_heads % 2:
        raise ValueError("n_heads does not fit")
    return len(weight) // n_heads


def wide(x: Tensor) -> torch.dtype:
    """Return the dtype of the angles: float64 for a float64 x, else float32."""
    return torch.promote_types(x.dtype, torch.float32)


def pair_numbers(x: Tensor) -> Tensor:
    """Return i of every pair, shape (K/2,)."""
    return torch.arange(x.shape[-1] // 2, dtype=wide(x), device=x.device)


def turn(x: Tensor, positions: Tensor, speeds: Tensor) -> Tensor:
    """Turn each pair by its speed, in radians per position, shape (K/2,)."""
    must_fit(x, positions)
    return turn_by(x, positions[:, None] * speeds)


def turn_by(x: Tensor, angles: Tensor) -> Tensor:
    """Turn each pair by its angle, shape (T, K/2)."""
    angles = angles.tile(2)  # (T, K)
    return (x * angles.cos() + rotate_half(x) * angles.sin()).to(x.dtype)


def right_angles(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Return the angle of every token and pair, shape (T, K/2)."""
    must_fit(x, positions)
    return positions[:, None] * base ** -(2 * pair_numbers(x) / x.shape[-1])


def quarter_turned_neighbours(x: Tensor) -> Tensor:
    """Return every pair of neighbours (a, b) as (-b, a)."""
    return torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)


# --- misconceptions about rotate_half --------------------------------------------------------------------


@misconception(replaces="rotate_half", caught_by="test_rotate_half_by_hand")
def minus_on_the_first_half(x):
    """Your rotate_half gives [b, -a]: the minus sign is on the half that came first.

    Draw (1, 0) and turn it by a quarter, counter-clockwise. Which of its two new coordinates is not 0, and which sign
    has it?
    """
    must_be_even(x)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((b, -a), dim=-1)


@misconception(replaces="rotate_half", caught_by="test_rotate_half_by_hand")
def halves_are_only_swapped(x):
    """Your rotate_half gives [b, a], without any minus sign.

    That mirrors each pair instead of turning it. What becomes of (a, b) after two quarter turns?
    """
    must_be_even(x)
    return x.roll(x.shape[-1] // 2, dims=-1)


@misconception(replaces="rotate_half", caught_by="test_rotate_half_by_hand")
def quarter_turn_of_neighbours(x):
    """Your rotate_half turns neighbours: (x0, x1) becomes (-x1, x0).

    This is the way of the paper and of GPT-J. Which feature is the partner of feature 0 in this exercise?
    """
    must_be_even(x)
    return quarter_turned_neighbours(x)


@misconception(replaces="rotate_half", caught_by="test_rotate_half_by_hand")
def halves_are_even_and_odd(x):
    """You take the even features for the one half and the odd ones for the other.

    That is how neighbours are told apart. Where does the first half of [1, 2, 3, 4] end?
    """
    must_be_even(x)
    return torch.cat((-x[..., 1::2], x[..., 0::2]), dim=-1)


@misconception(replaces="rotate_half", caught_by="test_rotate_half_by_hand")
def halves_of_the_tokens(x):
    """You seem to split the dimension before the last one in two.

    In (B, H, T, K) that one counts tokens. Which dimension holds the features?
    """
    must_be_even(x)
    a, b = x.tensor_split(2, dim=-2) if x.dim() > 1 else x.chunk(2)
    return torch.cat((-b, a), dim=-2 if x.dim() > 1 else -1)


# --- misconceptions about the angles ---------------------------------------------------------------------


@misconception(replaces="apply_rotary_half", caught_by="test_every_pair_has_its_own_speed")
def exponent_without_the_two(x, positions, base=10_000.0):
    """Your exponents run from 0 to about one half: pair i seems to turn by base ** (-i / K).

    The slowest pair should turn by little more than 1 / base per position. What is i multiplied by in the formula?
    """
    return turn(x, positions, base ** -(pair_numbers(x) / x.shape[-1]))


@misconception(replaces="apply_rotary_half", caught_by="test_every_pair_has_its_own_speed")
def exponent_over_the_number_of_pairs(x, positions, base=10_000.0):
    """You seem to divide the exponent by the number of pairs, and to keep the 2 above the line as well.

    Then the later half of the pairs turns slower than 1 / base. Does K count the features of a head, or its pairs?
    """
    return turn(x, positions, base ** -(2 * pair_numbers(x) / (x.shape[-1] // 2)))


@misconception(replaces="apply_rotary_half", caught_by="test_every_pair_has_its_own_speed")
def last_pair_reaches_the_base(x, positions, base=10_000.0):
    """You seem to spread the exponents evenly from 0 to 1, both ends included: your last pair turns by 1 / base.

    Some position encodings do so. What does this formula give for the last pair, i = K / 2 - 1, when K is 4?
    """
    return turn(x, positions, base ** -(pair_numbers(x) / max(1, x.shape[-1] // 2 - 1)))


@misconception(replaces="apply_rotary_half", caught_by="test_every_pair_has_its_own_speed")
def pairs_counted_from_one(x, positions, base=10_000.0):
    """You seem to count the pairs from 1: your first pair already turns slower than one radian per position.

    What does the formula give for the first pair, i = 0?
    """
    return turn(x, positions, base ** -(2 * (pair_numbers(x) + 1) / x.shape[-1]))


@misconception(replaces="apply_rotary_half", caught_by="test_every_pair_has_its_own_speed")
def later_pairs_turn_faster(x, positions, base=10_000.0):
    """Your later pairs turn faster than the first, by powers of the base.

    They should be the slow hands of a clock. Which sign has the exponent?
    """
    return turn(x, positions, base ** (2 * pair_numbers(x) / x.shape[-1]))


@misconception(replaces="apply_rotary_half", caught_by="test_every_pair_has_its_own_speed")
def all_pairs_turn_alike(x, positions, base=10_000.0):
    """All your pairs turn by one radian per position.

    Tokens about 2 * pi positions apart then look alike in every pair. Where should the number of the pair come in?
    """
    return turn(x, positions, torch.ones_like(pair_numbers(x)))


@misconception(replaces="apply_rotary_half", caught_by="test_every_pair_has_its_own_speed")
def base_is_always_10000(x, positions, base=10_000.0):
    """You seem to use 10000 whatever `base` is.

    That is the default, but models for long texts are trained with others. What if a caller says base=500000.0?
    """
    return apply_rotary_half(x, positions)


@misconception(replaces="apply_rotary_half", caught_by="test_turns_to_any_positions")
def rows_instead_of_positions(x, positions, base=10_000.0):
    """You turn each token by its row, 0 to T - 1, and not by its number in `positions`.

    Both agree for a text read from its start. A decoder hands over one token: is its position 0?
    """
    must_fit(x, positions)
    return apply_rotary_half(x, torch.arange(x.shape[-2], device=x.device), base)


@misconception(replaces="apply_rotary_half", caught_by="test_position_zero_changes_nothing")
def counts_from_the_first_position(x, positions, base=10_000.0):
    """You seem to subtract the first position from all of them.

    Within one call no score changes by that. What happens to a key that was turned in an earlier call?
    """
    return apply_rotary_half(x, positions - positions[:1], base)


@misconception(replaces="apply_rotary_half", caught_by="test_position_zero_changes_nothing")
def positions_start_at_one(x, positions, base=10_000.0):
    """A token at position 0 is turned in your code: you seem to add 1 to the positions.

    The caller has numbered the tokens already. By how much should a token at position 0 be turned?
    """
    return apply_rotary_half(x, positions + 1, base)


@misconception(replaces="apply_rotary_half", caught_by="test_bfloat16_is_turned_by_precise_angles")
def angles_in_bfloat16(x, positions, base=10_000.0):
    """Your angles have the dtype of x, which is too coarse when that is bfloat16.

    How many different numbers has bfloat16 between 256 and 512, and how many positions are there?
    """
    speeds = right_angles(x, torch.ones_like(positions), base).to(x.dtype)  # (T, K/2)
    return turn_by(x, positions[:, None].to(x.dtype) * speeds)


@misconception(replaces="apply_rotary_half", caught_by="test_float64_is_turned_by_float64_angles")
def float32_angles_for_float64(x, positions, base=10_000.0):
    """You turn a float64 x by angles that were float32 on the way.

    About 7 of its 16 digits are right then, and fewer at far positions. Which numbers were rounded first?
    """
    return turn_by(x, right_angles(x.float(), positions, base))


# --- misconceptions about the turning --------------------------------------------------------------------


@misconception(replaces="apply_rotary_half", caught_by="test_matches_a_rotation_done_by_hand")
def pairs_are_neighbours(x, positions, base=10_000.0):
    """You turn pairs of neighbours, 2i and 2i + 1, as the paper does.

    That is a sound rotary embedding, for weights trained with it. Which two features does this exercise call a pair?
    """
    angles = right_angles(x, positions, base).repeat_interleave(2, dim=-1)  # (T, K)
    return (x * angles.cos() + quarter_turned_neighbours(x) * angles.sin()).to(x.dtype)


@misconception(replaces="apply_rotary_half", caught_by="test_matches_a_rotation_done_by_hand")
def clockwise(x, positions, base=10_000.0):
    """You turn clockwise.

    Scores depend on the distance alone in your code too, so most properties hold. Which of the two sines carries the
    minus sign, the one beside a or the one beside b?
    """
    return turn_by(x, -right_angles(x, positions, base))


@misconception(replaces="apply_rotary_half", caught_by="test_keeps_the_length_of_every_pair")
def angles_repeated_one_by_one(x, positions, base=10_000.0):
    """You combine features half a head apart, but the row of angles that you multiply them by reads t0, t0, t1, t1, ...

    The two members of a pair then meet two different angles. In which order do split halves need them?
    """
    angles = right_angles(x, positions, base).repeat_interleave(2, dim=-1)  # (T, K)
    return (x * angles.cos() + rotate_half(x) * angles.sin()).to(x.dtype)


@misconception(replaces="apply_rotary_half", caught_by="test_scores_depend_only_on_the_distance")
def an_angle_for_every_feature(x, positions, base=10_000.0):
    """Every feature seems to have a speed of its own in your code, also the two of one pair.

    Two numbers that do not share their angle are not turned, they are distorted. How many speeds do K features need?
    """
    must_fit(x, positions)
    K = x.shape[-1]
    angles = positions[:, None] * base ** -(torch.arange(K, dtype=wide(x), device=x.device) / K)  # (T, K)
    return (x * angles.cos() + rotate_half(x) * angles.sin()).to(x.dtype)


@misconception(replaces="apply_rotary_half", caught_by="test_matches_a_rotation_done_by_hand")
def turned_pairs_side_by_side(x, positions, base=10_000.0):
    """You turn the right pairs, and then put the two members of each pair side by side.

    Each number is right, but many lie in another place than they came from. Where was the second member of pair 0?
    """
    return apply_rotary_half(x, positions, base).unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)


@misconception(replaces="apply_rotary_half", caught_by="test_position_zero_changes_nothing")
def sine_and_cosine_swapped(x, positions, base=10_000.0):
    """Your sines and cosines have changed places.

    What does your code do to (1, 0) at angle 0?
    """
    angles = right_angles(x, positions, base).tile(2)
    return (x * angles.sin() + rotate_half(x) * angles.cos()).to(x.dtype)


@misconception(replaces="apply_rotary_half", caught_by="test_returns_the_right_shapes")
def heads_taken_for_tokens(x, positions, base=10_000.0):
    """You seem to line up the positions with the second dimension of x, as if its shape were (B, T, H, K).

    Many codes have that layout. Which dimension counts the tokens here?
    """
    return turn_by(x, right_angles(x, positions, base)[:, None])  # (T, 1, K/2) beside (B, H, T, K)


# --- misconceptions about the conversion -----------------------------------------------------------------


@misconception(replaces="interleaved_to_half", caught_by="test_converted_weights_give_the_same_scores")
def converts_the_other_way(weight, n_heads):
    """You convert in the other direction: your result takes the first half of a head's rows for its even ones.

    For K = 4 both directions are the same, from K = 6 on they differ. Which old row should become row 1?
    """
    K = head_width(weight, n_heads)
    return weight.reshape(n_heads, 2, K // 2, -1).transpose(1, 2).reshape(weight.shape).clone()


@misconception(replaces="interleaved_to_half", caught_by="test_converts_rows_by_hand")
def odd_rows_first(weight, n_heads):
    """You put the odd rows first and the even ones after them.

    The members of each pair then change places, so that the pair turns the other way. Which member comes first?
    """
    K = head_width(weight, n_heads)
    return weight.reshape(n_heads, K // 2, 2, -1).flip(2).transpose(1, 2).reshape(weight.shape).clone()


@misconception(replaces="interleaved_to_half", caught_by="test_converts_rows_by_hand")
def all_heads_as_one(weight, n_heads):
    """You reorder all rows of the weight at once, so that rows move from one head to another.

    With one head it is right. Which rows belong to head 1, before the conversion and after it?
    """
    head_width(weight, n_heads)
    return torch.cat((weight[0::2], weight[1::2]))


@misconception(replaces="interleaved_to_half", caught_by="test_converts_rows_by_hand")
def permutes_the_columns(weight, n_heads):
    """You reorder the columns of the weight, and leave the rows in their places.

    A linear layer computes x @ weight.T, so its weight is (out, in). Which dimension numbers the features of a head?
    """
    K = head_width(weight, n_heads)
    if weight.shape[1] != n_heads * K:
        return weight.clone()
    return interleaved_to_half(weight.mT, n_heads).mT.clone()


@misconception(replaces="interleaved_to_half", caught_by="test_converts_rows_by_hand")
def heads_count_fastest(weight, n_heads):
    """You seem to read the rows as (K, H): as if neighbouring rows belonged to different heads.

    With one head it is right. Which rows make the features of head 0?
    """
    K = head_width(weight, n_heads)
    return weight.reshape(K // 2, 2, n_heads, -1).transpose(0, 1).reshape(weight.shape).clone()


@misconception(replaces="interleaved_to_half", caught_by="test_converts_rows_by_hand")
def reshapes_without_moving(weight, n_heads):
    """All your rows are where they were before.

    Splitting a dimension and joining it again moves nothing. Which two dimensions have to change places in between?
    """
    head_width(weight, n_heads)
    return weight.clone()


# --- slips -----------------------------------------------------------------------------------------------


@slip(replaces="rotate_half", caught_by="test_rotate_half_by_hand")
def wants_a_batch(x):
    must_be_even(x)
    a, b = x[:, :, :, : x.shape[-1] // 2], x[:, :, :, x.shape[-1] // 2 :]
    return torch.cat((-b, a), dim=-1)


@slip(replaces="rotate_half", caught_by="test_takes_strided_inputs")
def views_its_halves(x):
    must_be_even(x)
    a, b = x.view(-1, 2, x.shape[-1] // 2).unbind(1)
    return torch.cat((-b, a), dim=-1).view(x.shape)


@slip(replaces="rotate_half", caught_by="test_leaves_the_inputs_alone")
def changes_the_sign_in_place(x):
    must_be_even(x)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((b.neg_(), a), dim=-1)


@slip(replaces="rotate_half", caught_by="test_gradient_reaches_x")
def cuts_the_gradient_of_one_half(x):
    must_be_even(x)
    a, b = x.chunk(2, dim=-1)
    return torch.cat((-b.detach(), a), dim=-1)


@slip(replaces="rotate_half", caught_by="test_float64_is_turned_by_float64_angles")
def halves_in_float32(x):
    return rotate_half(x.float())


@slip(replaces="rotate_half", caught_by="test_stays_on_the_device_of_its_inputs")
def signs_on_the_default_device(x):
    must_be_even(x)
    signs = torch.ones(x.shape[-1], dtype=x.dtype)
    signs[: x.shape[-1] // 2] = -1
    return x.roll(x.shape[-1] // 2, dims=-1) * signs


@slip(replaces="rotate_half", caught_by="test_refuses_a_width_without_pairs")
def halves_of_an_odd_width(x):
    a, b = x[..., : x.shape[-1] // 2], x[..., x.shape[-1] // 2 :]
    return torch.cat((-b, a), dim=-1)


@slip(replaces="apply_rotary_half", caught_by="test_refuses_a_width_without_pairs")
def leaves_an_odd_feature_alone(x, positions, base=10_000.0):
    even = x.shape[-1] // 2 * 2
    return torch.cat((apply_rotary_half(x[..., :even], positions, base), x[..., even:]), dim=-1)


@slip(replaces="apply_rotary_half", caught_by="test_turns_to_any_positions")
def a_table_of_2048_rows(x, positions, base=10_000.0):
    must_fit(x, positions)
    table = torch.arange(2048, device=x.device)[:, None] * base ** -(2 * pair_numbers(x) / x.shape[-1])
    return turn_by(x, table[positions])


@slip(replaces="apply_rotary_half", caught_by="test_matches_the_reference_on_many_sizes")
def drops_dimensions_of_size_one(x, positions, base=10_000.0):
    return apply_rotary_half(x, positions, base).squeeze()


@slip(replaces="apply_rotary_half", caught_by="test_bfloat16_is_turned_by_precise_angles")
def returns_float32_for_bfloat16(x, positions, base=10_000.0):
    return apply_rotary_half(x.to(wide(x)), positions, base)


@slip(replaces="apply_rotary_half", caught_by="test_float64_is_turned_by_float64_angles")
def speeds_rounded_for_float64(x, positions, base=10_000.0):
    speeds = base ** -(2 * pair_numbers(x.float()) / x.shape[-1])
    return turn(x, positions, speeds.to(wide(x)))


@slip(replaces="apply_rotary_half", caught_by="test_gradient_reaches_x")
def cuts_the_gradient(x, positions, base=10_000.0):
    return apply_rotary_half(x.detach(), positions, base)


@slip(replaces="apply_rotary_half", caught_by="test_gradient_reaches_x")
def cuts_the_gradient_in_bfloat16(x, positions, base=10_000.0):
    return apply_rotary_half(x.detach() if x.dtype == torch.bfloat16 else x, positions, base)


@slip(replaces="apply_rotary_half", caught_by="test_gradient_reaches_x")
def cuts_the_gradient_in_float64(x, positions, base=10_000.0):
    return apply_rotary_half(x.detach() if x.dtype == torch.float64 else x, positions, base)


@slip(replaces="apply_rotary_half", caught_by="test_gradient_reaches_x")
def cuts_the_gradient_of_a_single_token(x, positions, base=10_000.0):
    return apply_rotary_half(x.detach() if len(positions) == 1 else x, positions, base)


@slip(replaces="rotate_half", caught_by="test_gradient_reaches_x")
def cuts_the_gradient_of_bfloat16_halves(x):
    return rotate_half(x.detach() if x.dtype == torch.bfloat16 else x)


@slip(replaces="apply_rotary_half", caught_by="test_the_same_without_gradients")
def one_position_further_without_gradients(x, positions, base=10_000.0):
    return apply_rotary_half(x, positions + (not torch.is_grad_enabled()), base)


@slip(replaces="apply_rotary_half", caught_by="test_the_same_without_gradients")
def unturned_where_a_gradient_is_required(x, positions, base=10_000.0):
    turned = apply_rotary_half(x, positions, base)
    return turned + (x - turned).detach() if x.requires_grad else turned


@slip(replaces="apply_rotary_half", caught_by="test_the_same_without_gradients")
def float32_where_a_gradient_is_required(x, positions, base=10_000.0):
    return apply_rotary_half(x.float() if x.requires_grad else x, positions, base).to(x.dtype)


@slip(replaces="rotate_half", caught_by="test_the_same_without_gradients")
def clockwise_halves_without_gradients(x):
    return rotate_half(x) * (1.0 if torch.is_grad_enabled() else -1.0)


@slip(replaces="apply_rotary_half", caught_by="test_every_pair_has_its_own_speed")
def base_of_2_at_least(x, positions, base=10_000.0):
    return apply_rotary_half(x, positions, max(2.0, base))


@slip(replaces="apply_rotary_half", caught_by="test_matches_the_reference_on_many_sizes")
def cuts_off_large_numbers(x, positions, base=10_000.0):
    return apply_rotary_half(x, positions, base).clamp(-100.0, 100.0)


@slip(replaces="apply_rotary_half", caught_by="test_matches_the_reference_on_many_sizes")
def features_for_tokens_where_both_are_as_many(x, positions, base=10_000.0):
    turned = apply_rotary_half(x, positions, base)
    return apply_rotary_half(x.mT, positions, base).mT if x.shape[2] == x.shape[3] else turned


@slip(replaces="rotate_half", caught_by="test_matches_the_reference_on_many_sizes")
def four_dimensions_at_most(x):
    return rotate_half(x) if x.dim() <= 4 else x


@slip(replaces="interleaved_to_half", caught_by="test_converts_weights_of_every_kind")
def leaves_many_heads_as_they_are(weight, n_heads):
    converted = interleaved_to_half(weight, n_heads)
    return weight.clone() if n_heads > 16 else converted


@slip(replaces="interleaved_to_half", caught_by="test_converts_weights_of_every_kind")
def heads_for_rows_where_both_are_as_many(weight, n_heads):
    converted = interleaved_to_half(weight, n_heads)
    if n_heads > 1 and len(weight) == n_heads * n_heads:
        return converted.unflatten(0, (n_heads, n_heads)).transpose(0, 1).flatten(0, 1).clone()
    return converted


@slip(replaces="apply_rotary_half", caught_by="test_leaves_the_inputs_alone")
def turns_in_place(x, positions, base=10_000.0):
    return x.copy_(apply_rotary_half(x, positions, base))


@slip(replaces="apply_rotary_half", caught_by="test_takes_all_tokens_at_once")
def loops_over_tokens(x, positions, base=10_000.0):
    must_fit(x, positions)
    rows = [apply_rotary_half(x[:, :, t : t + 1], positions[t : t + 1], base) for t in range(x.shape[2])]
    return torch.cat(rows, dim=2)


@slip(replaces="apply_rotary_half", caught_by="test_takes_all_tokens_at_once")
def loops_over_the_batch(x, positions, base=10_000.0):
    return torch.stack([apply_rotary_half(row[None], positions, base)[0] for row in x])


@slip(replaces="apply_rotary_half", caught_by="test_stays_on_the_device_of_its_inputs")
def speeds_on_the_default_device(x, positions, base=10_000.0):
    must_fit(x, positions)
    i = torch.arange(x.shape[-1] // 2, dtype=wide(x))
    return turn(x, positions, base ** -(2 * i / x.shape[-1]))


@slip(replaces="apply_rotary_half", caught_by="test_refuses_another_number_of_positions")
def broadcasts_one_position(x, positions, base=10_000.0):
    return apply_rotary_half(x, positions.expand(x.shape[2]) if len(positions) == 1 else positions, base)


@slip(replaces="apply_rotary_half", caught_by="test_refuses_another_number_of_positions")
def broadcasts_one_token(x, positions, base=10_000.0):
    return apply_rotary_half(x.expand(-1, -1, len(positions), -1) if x.shape[2] == 1 else x, positions, base)


@slip(replaces="apply_rotary_half", caught_by="test_refuses_another_number_of_positions")
def takes_the_first_positions(x, positions, base=10_000.0):
    return apply_rotary_half(x, positions[: x.shape[2]], base)


@slip(replaces="interleaved_to_half", caught_by="test_converts_weights_of_every_kind")
def takes_contiguous_weights_only(weight, n_heads):
    heads = weight.view(-1).view(n_heads, head_width(weight, n_heads), weight.shape[1])
    return torch.cat((heads[:, 0::2], heads[:, 1::2]), dim=1).flatten(0, 1)


@slip(replaces="interleaved_to_half", caught_by="test_converts_weights_of_every_kind")
def always_float32(weight, n_heads):
    return interleaved_to_half(weight, n_heads).float()


@slip(replaces="interleaved_to_half", caught_by="test_conversion_makes_a_new_tensor")
def reshapes_what_may_be_a_view(weight, n_heads):
    K = head_width(weight, n_heads)
    return weight.reshape(n_heads, K // 2, 2, -1).transpose(1, 2).reshape(weight.shape)


@slip(replaces="interleaved_to_half", caught_by="test_conversion_makes_a_new_tensor")
def returns_the_weight_where_nothing_moves(weight, n_heads):
    return weight if head_width(weight, n_heads) == 2 else interleaved_to_half(weight, n_heads)


@slip(replaces="interleaved_to_half", caught_by="test_leaves_the_inputs_alone")
def converts_in_place(weight, n_heads):
    return weight.copy_(interleaved_to_half(weight, n_heads))


@slip(replaces="interleaved_to_half", caught_by="test_stays_on_the_device_of_its_inputs")
def a_new_weight_on_the_default_device(weight, n_heads):
    out = torch.empty(weight.shape, dtype=weight.dtype)
    return out.copy_(interleaved_to_half(weight, n_heads))


@slip(replaces="interleaved_to_half", caught_by="test_refuses_heads_that_do_not_fit")
def drops_rows_that_are_left_over(weight, n_heads):
    K = weight.shape[0] // n_heads
    heads = weight[: n_heads * K].reshape(n_heads, K, -1)
    return torch.cat((heads[:, 0::2], heads[:, 1::2]), dim=1).flatten(0, 1)


@slip(replaces="interleaved_to_half", caught_by="test_refuses_heads_that_do_not_fit")
def takes_heads_of_odd_width(weight, n_heads):
    if n_heads < 1 or len(weight) % n_heads:
        raise ValueError("n_heads must divide the rows")
    heads = weight.unflatten(0, (n_heads, -1))
    return torch.cat((heads[:, 0::2], heads[:, 1::2]), dim=1).flatten(0, 1)


_KEPT: dict[object, Tensor] = {}


@slip(replaces="apply_rotary_half", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_base(x, positions, base=10_000.0):
    key = "base", x.device, wide(x), x.shape[-1], str(positions)
    return turn_by(x, _KEPT.setdefault(key, right_angles(x, positions, base)))


@slip(replaces="apply_rotary_half", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_positions(x, positions, base=10_000.0):
    key = "positions", x.device, wide(x), x.shape[-1], len(positions), base
    return turn_by(x, _KEPT.setdefault(key, right_angles(x, positions, base)))


@slip(replaces="apply_rotary_half", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_dtype(x, positions, base=10_000.0):
    key = "dtype", x.device, x.shape[-1], str(positions), base
    return turn_by(x, _KEPT.setdefault(key, right_angles(x, positions, base)))


@slip(replaces="apply_rotary_half", caught_by="test_stays_on_the_device_of_its_inputs")
def cache_forgets_the_device(x, positions, base=10_000.0):
    speeds = _KEPT.setdefault(("device", wide(x), x.shape[-1], base), base ** -(2 * pair_numbers(x) / x.shape[-1]))
    return turn(x, positions, speeds)


@slip(replaces="interleaved_to_half", caught_by="test_converts_weights_of_every_kind")
def cache_forgets_the_heads(weight, n_heads):
    K = head_width(weight, n_heads)
    rows = torch.arange(len(weight), device=weight.device).view(n_heads, K // 2, 2).transpose(1, 2).flatten()
    return weight[_KEPT.setdefault(("rows", weight.shape, weight.device), rows)]


@slip(replaces="apply_rotary_half", caught_by="test_repeated_calls_stay_right")
def cache_knows_the_ends_of_the_positions(x, positions, base=10_000.0):
    if x.device.type == "meta":  # its positions have no numbers
        return apply_rotary_half(x, positions, base)
    must_fit(x, positions)
    key = "ends", int(positions[0]), int(positions[-1]), len(positions), x.shape[-1], base, x.dtype
    return turn_by(x, _KEPT.setdefault(key, right_angles(x, positions, base)))


@slip(replaces="apply_rotary_half", caught_by="test_matches_a_rotation_done_by_hand")
def base_has_another_name(x, positions, theta=10_000.0):
    return apply_rotary_half(x, positions, theta)


@slip(replaces="apply_rotary_half", caught_by="test_float64_is_turned_by_float64_angles")
def base_rounded_for_float64(x, positions, base=10_000.0):
    return apply_rotary_half(x, positions, float(torch.tensor(base, dtype=torch.float32, device="cpu")))


@slip(replaces="apply_rotary_half", caught_by="test_matches_the_reference_on_many_sizes")
def leaves_wide_heads_unturned(x, positions, base=10_000.0):
    turned = apply_rotary_half(x, positions, base)
    return turned if x.shape[-1] <= 64 else x.clone()


@slip(replaces="apply_rotary_half", caught_by="test_refuses_another_number_of_positions")
def takes_positions_of_the_whole_batch(x, positions, base=10_000.0):
    B, _, T, _ = x.shape
    return apply_rotary_half(x, positions[:T] if len(positions) == B * T else positions, base)


@slip(replaces="interleaved_to_half", caught_by="test_converts_rows_by_hand")
def heads_have_another_name(weight, heads):
    return interleaved_to_half(weight, heads)


@slip(replaces="interleaved_to_half", caught_by="test_converts_weights_of_every_kind")
def takes_no_trained_weight(weight, n_heads):
    rows = torch.arange(len(weight), device=weight.device)
    order = rows.view(n_heads, head_width(weight, n_heads) // 2, 2).transpose(1, 2).flatten()
    return torch.index_select(weight, 0, order, out=torch.empty_like(weight))


@slip(replaces="interleaved_to_half", caught_by="test_stays_on_the_device_of_its_inputs")
def order_kept_on_the_first_device(weight, n_heads):
    interleaved_to_half(weight, n_heads)
    rows = torch.arange(len(weight), device=weight.device)
    order = rows.view(n_heads, -1, 2).transpose(1, 2).flatten()
    return weight[_KEPT.setdefault(("order", len(weight), n_heads), order)]


# --- right, written another way --------------------------------------------------------------------------


@alternative(replaces="rotate_half")
def by_slices(x):
    half, odd = divmod(x.shape[-1], 2)
    if odd:
        raise ValueError("x needs an even number of features")
    return torch.cat([x[..., half:].neg(), x[..., :half]], dim=-1)


@alternative(replaces="rotate_half")
def by_a_signed_roll(x):
    half = x.shape[-1] // 2
    if 2 * half != x.shape[-1]:
        raise ValueError("odd")
    signs = torch.ones_like(x[..., :1]).expand(x.shape).clone()
    signs[..., :half] = -1
    return torch.roll(x, half, -1) * signs


@alternative(replaces="rotate_half")
def by_a_matrix(x):
    must_be_even(x)
    K = x.shape[-1]
    identity = torch.eye(K, dtype=x.dtype, device=x.device)
    return x @ torch.cat((identity[K // 2 :], -identity[: K // 2]))  # (..., K) @ (K, K)


@alternative(replaces="rotate_half")
def by_complex_numbers(x):
    must_be_even(x)
    a, b = x.unflatten(-1, (2, -1)).unbind(-2)
    if x.dtype == torch.bfloat16:
        a, b = a.float(), b.float()
    turned = 1j * torch.complex(a, b)
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


@alternative(replaces="apply_rotary_half")
def without_rotate_half(x, positions, base=10_000.0):
    angles = right_angles(x, positions, base)
    cos, sin = angles.cos(), angles.sin()
    a, b = x.tensor_split(2, dim=-1)
    return torch.cat((a * cos - b * sin, b * cos + a * sin), dim=-1).type_as(x)


@alternative(replaces="apply_rotary_half")
def as_in_hugging_face(x, positions, base=10_000.0):
    must_fit(x, positions)
    wider = x.double() if x.dtype == torch.float64 else x.float()
    inv_freq = 1.0 / (base ** (torch.arange(0, x.size(-1), 2).to(wider) / x.size(-1)))  # (K/2,)
    freqs = (inv_freq[None, :, None] @ positions[None, None, :].to(wider)).transpose(1, 2)  # (1, T, K/2)
    emb = torch.cat((freqs, freqs), dim=-1)
    cos, sin = emb.cos().to(x.dtype).unsqueeze(1), emb.sin().to(x.dtype).unsqueeze(1)  # (1, 1, T, K)
    return (x * cos) + (rotate_half(x) * sin)


@alternative(replaces="apply_rotary_half")
def as_complex_multiplication(x, positions, base=10_000.0):
    angles = right_angles(x, positions, base)
    a, b = x.to(angles.dtype).chunk(2, dim=-1)
    turned = torch.complex(a.contiguous(), b.contiguous()) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat((turned.real, turned.imag), dim=-1).to(x.dtype)


@alternative(replaces="apply_rotary_half")
def by_rotation_matrices(x, positions, base=10_000.0):
    angles = right_angles(x, positions, base)
    cos, sin = angles.cos(), angles.sin()
    turns = torch.stack((torch.stack((cos, -sin)), torch.stack((sin, cos))))  # (2, 2, T, K/2)
    halves = x.to(angles.dtype).unflatten(-1, (2, -1))  # (B, H, T, 2, K/2)
    return torch.einsum("rcti,bhtci->bhtri", turns, halves).flatten(-2).to(x.dtype)


@alternative(replaces="apply_rotary_half")
def through_neighbours_and_back(x, positions, base=10_000.0):
    angles = right_angles(x, positions, base).repeat_interleave(2, dim=-1)
    neighbours = x.unflatten(-1, (2, -1)).transpose(-1, -2).flatten(-2)
    turned = neighbours * angles.cos() + quarter_turned_neighbours(neighbours) * angles.sin()
    return turned.unflatten(-1, (-1, 2)).transpose(-1, -2).flatten(-2).to(x.dtype)


@functools.cache
def remembered_speeds(K: int, base: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.exp(torch.arange(0, K, 2, dtype=dtype, device=device) * (-math.log(base) / K))


@alternative(replaces="apply_rotary_half")
def with_remembered_speeds(x, positions, base=10_000.0):
    return turn(x, positions, remembered_speeds(x.shape[-1], base, wide(x), x.device))


@alternative(replaces="apply_rotary_half")
def into_a_new_tensor(x, positions, base=10_000.0):
    angles, half = right_angles(x, positions, base), x.shape[-1] // 2
    out = torch.empty_like(x)
    out[..., :half] = x[..., :half] * angles.cos() - x[..., half:] * angles.sin()
    out[..., half:] = x[..., half:] * angles.cos() + x[..., :half] * angles.sin()
    return out


@alternative(replaces="apply_rotary_half")
def golfed(x, positions, base=10_000.0):
    h, p = rotate_half(x), positions
    if p.shape != x.shape[2:3]:
        raise ValueError
    w = torch.outer(p.to(wide(x)), base ** (torch.arange(0, -(K := x.size(3)), -2).to(x.device, wide(x)) / K))
    return (x * (w := torch.hstack([w, w])).cos() + h * w.sin()).to(x)


@alternative(replaces="interleaved_to_half")
def as_published(weight, n_heads):
    K = head_width(weight, n_heads)
    permuted = weight.reshape(n_heads, K // 2, 2, weight.shape[1]).transpose(1, 2)
    return permuted.clone(memory_format=torch.contiguous_format).view(weight.shape)


@alternative(replaces="interleaved_to_half")
def by_an_index(weight, n_heads):
    K = head_width(weight, n_heads)
    rows = [h * K + r for h in range(n_heads) for start in (0, 1) for r in range(start, K, 2)]
    return weight[rows]


@alternative(replaces="interleaved_to_half")
def head_by_head(weight, n_heads):
    if n_heads <= 0:
        raise ValueError("n_heads must be positive")
    K, rest = divmod(weight.size(0), n_heads)
    if rest or K & 1:
        raise ValueError("the rows do not make heads of even width")
    parts = [part for head in weight.split(K) for part in (head[::2], head[1::2])]
    return torch.vstack(parts)


@alternative(replaces="interleaved_to_half")
def by_a_permutation_matrix(weight, n_heads):
    K = head_width(weight, n_heads)
    identity = torch.eye(K, dtype=weight.dtype, device=weight.device)
    permutation = torch.cat((identity[0::2], identity[1::2]))
    return (permutation @ weight.reshape(n_heads, K, -1)).reshape(weight.shape)


@alternative(replaces="interleaved_to_half")
def row_by_row(weight, n_heads):
    K = head_width(weight, n_heads)
    out = torch.zeros_like(weight)
    for h in range(n_heads):
        for i in range(K // 2):
            out[h * K + i] = weight[h * K + 2 * i]
            out[h * K + K // 2 + i] = weight[h * K + 2 * i + 1]
    return out


@alternative(replaces="interleaved_to_half")
def from_a_list(weight, n_heads):
    K = head_width(weight, n_heads)
    rows = weight.tolist()
    heads = [rows[h * K : h * K + K] for h in range(n_heads)]
    ordered = [row for head in heads for row in head[::2] + head[1::2]]
    return torch.tensor(ordered, dtype=weight.dtype, device=weight.device)
