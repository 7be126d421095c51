"""Other ways to write ``rotary``: wrong on purpose and worth explaining, just wrong, and right."""

import functools
import math

import torch
from torch import Tensor

from grader.judge.suite import alternative, misconception, slip

from .solution import apply_rotary, rotary_angles

# --- parts that the variants share, all of them right ----------------------------------------------------


def pair_numbers(positions: Tensor, head_dim: int) -> Tensor:
    """Return i of every pair, shape (K/2,)."""
    if head_dim < 1 or head_dim % 2:
        raise ValueError("head_dim must be even and at least 2")
    return torch.arange(head_dim // 2, device=positions.device)


def must_fit(x: Tensor, positions: Tensor) -> None:
    if x.shape[-1] % 2 or positions.shape != x.shape[-2:-1]:
        raise ValueError("an odd width, or another number of positions than tokens")


def wide(x: Tensor) -> torch.dtype:
    """Return the dtype of the angles: float64 for a float64 x, else float32."""
    return torch.promote_types(x.dtype, torch.float32)


@functools.cache
def speeds(K: int, base: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the radians per position of each pair, shape (K/2,)."""
    return base ** -(torch.arange(0, K, 2, dtype=dtype, device=device) / K)


def angles_for(x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Return the angles of every token and pair, shape (T, K/2), as precise as x asks for."""
    must_fit(x, positions)
    if x.dtype == torch.float64:
        return positions[:, None] * speeds(x.shape[-1], base, x.dtype, x.device)
    return rotary_angles(positions, x.shape[-1], base)  # so that a mistake in it shows here too


def turn(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn neighbours counter-clockwise."""
    a, b = x[..., 0::2], x[..., 1::2]  # (B, H, T, K/2) each
    return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2).to(x.dtype)


def turn_by(x: Tensor, angles: Tensor) -> Tensor:
    return turn(x, angles.cos(), angles.sin())


def quarter_turned(x: Tensor) -> Tensor:
    """Return every pair (a, b) as (-b, a)."""
    return torch.stack((-x[..., 1::2], x[..., 0::2]), dim=-1).flatten(-2)


# --- misconceptions about the angles ---------------------------------------------------------------------


@misconception(replaces="rotary_angles", caught_by="test_angles_worked_out_by_hand")
def exponent_without_the_two(positions, head_dim, base=10_000.0):
    """Your exponents run from 0 to about one half: pair i seems to turn by base ** (-i / K).

    The slowest pair should turn by little more than 1 / base per position. What is i multiplied by in the formula?
    """
    i = pair_numbers(positions, head_dim)
    return positions[:, None] * base ** -(i / head_dim)


@misconception(replaces="rotary_angles", caught_by="test_every_pair_has_its_own_speed")
def exponent_over_the_number_of_pairs(positions, head_dim, base=10_000.0):
    """You seem to divide the exponent by the number of pairs, and to keep the 2 above the line as well.

    Then the later half of the pairs turns slower than 1 / base. Does K count the features of a head, or its pairs?
    """
    i = pair_numbers(positions, head_dim)
    return positions[:, None] * base ** -(2 * i / (head_dim // 2))


@misconception(replaces="rotary_angles", caught_by="test_every_pair_has_its_own_speed")
def last_pair_reaches_the_base(positions, head_dim, base=10_000.0):
    """You seem to spread the exponents evenly from 0 to 1, both ends included: your last pair turns by 1 / base.

    Some position encodings do so. What does this formula give for the last pair, i = K / 2 - 1, when K is 4?
    """
    i = pair_numbers(positions, head_dim)
    return positions[:, None] * base ** -(i / max(1, head_dim // 2 - 1))


@misconception(replaces="rotary_angles", caught_by="test_angles_worked_out_by_hand")
def pairs_counted_from_one(positions, head_dim, base=10_000.0):
    """You seem to count the pairs from 1: your first pair already turns slower than one radian per position.

    The paper counts from 1 too, but what does its exponent do to i?
    """
    i = pair_numbers(positions, head_dim)
    return positions[:, None] * base ** -(2 * (i + 1) / head_dim)


@misconception(replaces="rotary_angles", caught_by="test_angles_worked_out_by_hand")
def later_pairs_turn_faster(positions, head_dim, base=10_000.0):
    """Your later pairs turn faster than the first, by powers of the base.

    They should be the slow hands of a clock. Which sign has the exponent?
    """
    i = pair_numbers(positions, head_dim)
    return positions[:, None] * base ** (2 * i / head_dim)


@misconception(replaces="rotary_angles", caught_by="test_angles_worked_out_by_hand")
def all_pairs_turn_alike(positions, head_dim, base=10_000.0):
    """All your pairs turn by one radian per position.

    Tokens about 2 * pi positions apart then look alike in every pair. Where should the number of the pair come in?
    """
    i = pair_numbers(positions, head_dim)
    return positions[:, None] * torch.ones_like(i, dtype=torch.float32)


@misconception(replaces="rotary_angles", caught_by="test_angles_worked_out_by_hand")
def base_is_always_10000(positions, head_dim, base=10_000.0):
    """You seem to use 10000 whatever `base` is.

    That is the default, but models for long texts are trained with others. What if a caller says base=500000.0?
    """
    return rotary_angles(positions, head_dim)


@misconception(replaces="rotary_angles", caught_by="test_angles_worked_out_by_hand")
def angles_in_whole_turns(positions, head_dim, base=10_000.0):
    """Your angles are 2 * pi times too large: you seem to read the speeds as whole turns per position.

    In which unit does the formula give an angle, and in which does `cos` take it?
    """
    return rotary_angles(positions, head_dim, base) * (2 * math.pi)


@misconception(replaces="rotary_angles", caught_by="test_angles_of_any_positions")
def angles_count_rows(positions, head_dim, base=10_000.0):
    """Your angles seem to come from the row of each token, 0 to T - 1, and not from the numbers in `positions`.

    Both agree for a text read from its start. What does a decoder ask for that adds token 100 alone?
    """
    return rotary_angles(torch.arange(positions.shape[0], device=positions.device), head_dim, base)


@misconception(replaces="rotary_angles", caught_by="test_position_zero_changes_nothing")
def positions_start_at_one(positions, head_dim, base=10_000.0):
    """A token at position 0 is turned in your code: you seem to add 1 to the positions.

    The caller has numbered the tokens already. By how much should a token at position 0 be turned?
    """
    return rotary_angles(positions + 1, head_dim, base)


# --- misconceptions about the turning --------------------------------------------------------------------


@misconception(replaces="apply_rotary", caught_by="test_matches_a_rotation_done_by_hand")
def pairs_are_halves(x, positions, base=10_000.0):
    """You pair feature i with feature i + K/2, as GPT-NeoX and Hugging Face's Llama do.

    That is a sound rotary embedding, for weights trained with it. Which two features does this exercise call a pair?
    """
    angles = angles_for(x, positions, base)
    cos, sin = angles.cos(), angles.sin()
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x.dtype)


@misconception(replaces="apply_rotary", caught_by="test_matches_a_rotation_done_by_hand")
def clockwise(x, positions, base=10_000.0):
    """You turn clockwise.

    Scores depend on the distance alone in your code too, so most properties hold. Which of the two sines carries the
    minus sign, the one beside a or the one beside b?
    """
    return turn_by(x, -angles_for(x, positions, base))


@misconception(replaces="apply_rotary", caught_by="test_matches_a_rotation_done_by_hand")
def turned_halves_side_by_side(x, positions, base=10_000.0):
    """You turn neighbours, and then put all first members before all second members.

    Each number is right, but many lie in another place than they came from. Where was the second member of pair 0?
    """
    angles = angles_for(x, positions, base)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1).to(x.dtype)


@misconception(replaces="apply_rotary", caught_by="test_keeps_the_length_of_every_pair")
def angles_repeated_as_a_block(x, positions, base=10_000.0):
    """You combine neighbours, but the row of angles that you multiply them by reads t0, t1, ..., t0, t1, ...

    The two members of a pair then meet two different angles. In which order do pairs of neighbours need them?
    """
    angles = angles_for(x, positions, base).repeat(1, 2)  # (T, K)
    return (x * angles.cos() + quarter_turned(x) * angles.sin()).to(x.dtype)


@misconception(replaces="apply_rotary", caught_by="test_keeps_the_length_of_every_pair")
def partners_half_a_head_away(x, positions, base=10_000.0):
    """Your angles are laid out for pairs of neighbours, but the features that you combine are K/2 apart.

    Those are pieces of two conventions, and each needs its other piece. Which one does this exercise follow?
    """
    angles = angles_for(x, positions, base).repeat_interleave(2, dim=-1)  # (T, K)
    a, b = x.chunk(2, dim=-1)
    return (x * angles.cos() + torch.cat((-b, a), dim=-1) * angles.sin()).to(x.dtype)


@misconception(replaces="apply_rotary", caught_by="test_keeps_the_length_of_every_pair")
def an_angle_for_every_feature(x, positions, base=10_000.0):
    """Every feature seems to have a speed of its own in your code, also the two of one pair.

    Two numbers that do not share their angle are not turned, they are distorted. How many speeds do K features need?
    """
    must_fit(x, positions)
    K = x.shape[-1]
    angles = positions[:, None] * base ** -(torch.arange(K, dtype=wide(x), device=x.device) / K)  # (T, K)
    return (x * angles.cos() + quarter_turned(x) * angles.sin()).to(x.dtype)


@misconception(replaces="apply_rotary", caught_by="test_keeps_the_length_of_every_pair")
def no_minus_sign(x, positions, base=10_000.0):
    """Your pair becomes (a cos + b sin, a sin + b cos), with a plus in both places.

    Draw (0, 1) and turn it a little counter-clockwise. Which sign has its first coordinate then?
    """
    angles = angles_for(x, positions, base)
    cos, sin = angles.cos(), angles.sin()
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack((a * cos + b * sin, a * sin + b * cos), dim=-1).flatten(-2).to(x.dtype)


@misconception(replaces="apply_rotary", caught_by="test_position_zero_changes_nothing")
def sine_and_cosine_swapped(x, positions, base=10_000.0):
    """Your sines and cosines have changed places.

    What does your code do to (1, 0) at angle 0?
    """
    angles = angles_for(x, positions, base)
    return turn(x, angles.sin(), angles.cos())


@misconception(replaces="apply_rotary", caught_by="test_scores_depend_only_on_the_distance")
def adds_instead_of_turning(x, positions, base=10_000.0):
    """You add sines and cosines to x, as the sinusoidal encoding of the first transformer does.

    Here the position does not move a vector, it turns it. What should become of a token that is all zeros?
    """
    angles = angles_for(x, positions, base)
    return (x + torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)).to(x.dtype)


@misconception(replaces="apply_rotary", caught_by="test_decoding_one_token_equals_the_full_pass")
def rows_instead_of_positions(x, positions, base=10_000.0):
    """You turn each token by its row, 0 to T - 1, and not by its number in `positions`.

    Both agree for a text read from its start. A decoder hands over one token: is its position 0?
    """
    must_fit(x, positions)
    return turn_by(x, angles_for(x, torch.arange(x.shape[-2], device=x.device), base))


@misconception(replaces="apply_rotary", caught_by="test_position_zero_changes_nothing")
def counts_from_the_first_position(x, positions, base=10_000.0):
    """You seem to subtract the first position from all of them.

    Within one call no score changes by that. What happens to a key that was turned in an earlier call?
    """
    return turn_by(x, angles_for(x, positions - positions[:1], base))


@misconception(replaces="apply_rotary", caught_by="test_returns_the_right_shapes")
def heads_taken_for_tokens(x, positions, base=10_000.0):
    """You seem to line up the positions with the second dimension of x, as if its shape were (B, T, H, K).

    Llama's reference code has that layout. Which dimension counts the tokens here?
    """
    must_fit(x, positions)
    return turn_by(x, angles_for(x, positions, base)[:, None])  # (T, 1, K/2) beside (B, H, T, K/2)


@misconception(replaces="apply_rotary", caught_by="test_bfloat16_is_turned_by_precise_angles")
def angles_in_bfloat16(x, positions, base=10_000.0):
    """Your angles have the dtype of x, which is too coarse when that is bfloat16.

    How many different numbers has bfloat16 between 256 and 512, and how many positions are there?
    """
    return turn_by(x, positions[:, None].to(x.dtype) * angles_for(x, torch.ones_like(positions), base).to(x.dtype))


@misconception(replaces="apply_rotary", caught_by="test_float64_is_turned_by_float64_angles")
def float32_angles_for_float64(x, positions, base=10_000.0):
    """You turn a float64 x by angles that were float32 on the way.

    About 7 of its 16 digits are right then, and fewer at far positions. Which numbers were rounded first?
    """
    must_fit(x, positions)
    return turn_by(x, rotary_angles(positions, x.shape[-1], base))


# --- slips -----------------------------------------------------------------------------------------------


@slip(replaces="rotary_angles", caught_by="test_returns_the_right_shapes")
def one_column_per_feature(positions, head_dim, base=10_000.0):
    return rotary_angles(positions, head_dim, base).repeat_interleave(2, dim=-1)


@slip(replaces="rotary_angles", caught_by="test_angles_of_any_positions")
def angles_in_float64(positions, head_dim, base=10_000.0):
    return rotary_angles(positions, head_dim, base).double()


@slip(replaces="rotary_angles", caught_by="test_angles_of_any_positions")
def a_table_of_2048_rows(positions, head_dim, base=10_000.0):
    return rotary_angles(torch.arange(2048, device=positions.device), head_dim, base)[positions]


@slip(replaces="rotary_angles", caught_by="test_leaves_the_inputs_alone")
def changes_the_positions(positions, head_dim, base=10_000.0):
    return -rotary_angles(positions.neg_(), head_dim, base)


@slip(replaces="rotary_angles", caught_by="test_takes_all_tokens_at_once")
def loops_over_positions(positions, head_dim, base=10_000.0):
    return torch.cat([rotary_angles(position[None], head_dim, base) for position in positions])


@slip(replaces="rotary_angles", caught_by="test_stays_on_the_device_of_its_inputs")
def speeds_on_the_default_device(positions, head_dim, base=10_000.0):
    i = torch.arange(len(pair_numbers(positions, head_dim)))
    return positions[:, None] * base ** -(2 * i / head_dim)


@slip(replaces="rotary_angles", caught_by="test_stays_on_the_device_of_its_inputs")
def angles_on_the_cpu(positions, head_dim, base=10_000.0):
    return rotary_angles(positions.cpu(), head_dim, base)


@slip(replaces="rotary_angles", caught_by="test_refuses_a_width_without_pairs")
def takes_a_width_of_zero(positions, head_dim, base=10_000.0):
    if head_dim % 2:
        raise ValueError("head_dim must be even")
    return positions[:, None] * base ** -(torch.arange(0, max(0, head_dim), 2, device=positions.device) / head_dim)


@slip(replaces="apply_rotary", caught_by="test_turns_to_any_positions")
def puts_the_positions_in_order(x, positions, base=10_000.0):
    return apply_rotary(x, positions.sort().values, base)


@slip(replaces="apply_rotary", caught_by="test_matches_the_reference_on_many_sizes")
def drops_dimensions_of_size_one(x, positions, base=10_000.0):
    return apply_rotary(x, positions, base).squeeze()


@slip(replaces="apply_rotary", caught_by="test_takes_strided_inputs")
def wants_heads_in_the_batch(x, positions, base=10_000.0):
    B, H, T, K = x.shape
    angles = angles_for(x, positions, base)
    a, b = x.view(B * H, T, K // 2, 2).unbind(-1)
    turned = torch.stack((a * angles.cos() - b * angles.sin(), a * angles.sin() + b * angles.cos()), dim=-1)
    return turned.view(x.shape).to(x.dtype)


@alternative(replaces="apply_rotary")
def by_viewing_pairs_as_complex(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base)
    pairs = torch.view_as_complex(x.to(angles.dtype).unflatten(-1, (-1, 2)))
    return torch.view_as_real(pairs * torch.polar(torch.ones_like(angles), angles)).flatten(-2).to(x.dtype)


@slip(replaces="apply_rotary", caught_by="test_bfloat16_is_turned_by_precise_angles")
def returns_float32_for_bfloat16(x, positions, base=10_000.0):
    return apply_rotary(x.to(wide(x)), positions, base)


@slip(replaces="apply_rotary", caught_by="test_float64_is_turned_by_float64_angles")
def speeds_rounded_for_float64(x, positions, base=10_000.0):
    must_fit(x, positions)
    return turn_by(x, positions[:, None] * speeds(x.shape[-1], base, torch.float32, x.device).to(wide(x)))


@slip(replaces="apply_rotary", caught_by="test_gradient_reaches_x")
def cuts_the_gradient(x, positions, base=10_000.0):
    return apply_rotary(x.detach(), positions, base)


@slip(replaces="apply_rotary", caught_by="test_gradient_reaches_x")
def cuts_half_of_the_gradient(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base).repeat_interleave(2, dim=-1)  # (T, K)
    return (x * angles.cos() + quarter_turned(x.detach()) * angles.sin()).to(x.dtype)


@slip(replaces="apply_rotary", caught_by="test_leaves_the_inputs_alone")
def turns_in_place(x, positions, base=10_000.0):
    return x.copy_(apply_rotary(x, positions, base))


@slip(replaces="apply_rotary", caught_by="test_takes_all_tokens_at_once")
def loops_over_tokens(x, positions, base=10_000.0):
    must_fit(x, positions)
    rows = [apply_rotary(x[:, :, t : t + 1], positions[t : t + 1], base) for t in range(x.shape[2])]
    return torch.cat(rows, dim=2)


@slip(replaces="apply_rotary", caught_by="test_takes_all_tokens_at_once")
def loops_over_the_batch(x, positions, base=10_000.0):
    return torch.stack([apply_rotary(row[None], positions, base)[0] for row in x])


@slip(replaces="apply_rotary", caught_by="test_refuses_a_width_without_pairs")
def leaves_an_odd_feature_alone(x, positions, base=10_000.0):
    even = x.shape[-1] // 2 * 2
    return torch.cat((apply_rotary(x[..., :even], positions, base), x[..., even:]), dim=-1)


@slip(replaces="apply_rotary", caught_by="test_refuses_another_number_of_positions")
def broadcasts_one_position(x, positions, base=10_000.0):
    return apply_rotary(x, positions.expand(x.shape[2]) if len(positions) == 1 else positions, base)


@slip(replaces="apply_rotary", caught_by="test_refuses_another_number_of_positions")
def broadcasts_one_token(x, positions, base=10_000.0):
    return apply_rotary(x.expand(-1, -1, len(positions), -1) if x.shape[2] == 1 else x, positions, base)


@slip(replaces="apply_rotary", caught_by="test_refuses_another_number_of_positions")
def takes_the_first_positions(x, positions, base=10_000.0):
    return apply_rotary(x, positions[: x.shape[2]], base)


@slip(replaces="apply_rotary", caught_by="test_refuses_another_number_of_positions")
def refuses_everything(x, positions, base=10_000.0):
    raise ValueError("no")


_KEPT: dict[object, Tensor] = {}


def angles_kept_by(key: object, x: Tensor, positions: Tensor, base: float) -> Tensor:
    """Return the angles that were computed when ``key`` came for the first time."""
    angles = angles_for(x, positions, base)
    return _KEPT.setdefault(key, angles)


@slip(replaces="apply_rotary", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_base(x, positions, base=10_000.0):
    key = "base", x.device, wide(x), x.shape[-1], str(positions)
    return turn_by(x, angles_kept_by(key, x, positions, base))


@slip(replaces="apply_rotary", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_positions(x, positions, base=10_000.0):
    key = "positions", x.device, wide(x), x.shape[-1], len(positions), base
    return turn_by(x, angles_kept_by(key, x, positions, base))


@slip(replaces="apply_rotary", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_dtype(x, positions, base=10_000.0):
    key = "dtype", x.device, x.shape[-1], str(positions), base
    return turn_by(x, angles_kept_by(key, x, positions, base))


@slip(replaces="apply_rotary", caught_by="test_stays_on_the_device_of_its_inputs")
def cache_forgets_the_device(x, positions, base=10_000.0):
    must_fit(x, positions)
    key = "device", wide(x), x.shape[-1], base
    speed = angles_kept_by(key, x[..., :1, :], torch.ones_like(positions[:1]), base)  # angles of position 1, (1, K/2)
    return turn_by(x, positions[:, None] * speed)


@slip(replaces="apply_rotary", caught_by="test_repeated_calls_stay_right")
def cache_knows_the_ends_of_the_positions(x, positions, base=10_000.0):
    if x.device.type == "meta":  # its positions have no numbers
        return apply_rotary(x, positions, base)
    must_fit(x, positions)
    key = "ends", int(positions[0]), int(positions[-1]), len(positions), x.shape[-1], base, wide(x)
    return turn_by(x, angles_kept_by(key, x, positions, base))


@slip(replaces="rotary_angles", caught_by="test_angles_worked_out_by_hand")
def base_of_the_angles_has_another_name(positions, head_dim, theta=10_000.0):
    return rotary_angles(positions, head_dim, theta)


@slip(replaces="apply_rotary", caught_by="test_matches_a_rotation_done_by_hand")
def base_has_another_name(x, positions, theta=10_000.0):
    return apply_rotary(x, positions, theta)


@slip(replaces="apply_rotary", caught_by="test_float64_is_turned_by_float64_angles")
def base_rounded_for_float64(x, positions, base=10_000.0):
    return apply_rotary(x, positions, float(torch.tensor(base, dtype=torch.float32, device="cpu")))


@slip(replaces="apply_rotary", caught_by="test_matches_the_reference_on_many_sizes")
def turns_64_features(x, positions, base=10_000.0):
    return torch.cat((apply_rotary(x, positions, base)[..., :64], x[..., 64:]), dim=-1)


@slip(replaces="apply_rotary", caught_by="test_refuses_another_number_of_positions")
def takes_positions_of_the_whole_batch(x, positions, base=10_000.0):
    B, _, T, _ = x.shape
    return apply_rotary(x, positions[:T] if len(positions) == B * T else positions, base)


# --- right, written another way --------------------------------------------------------------------------


@alternative(replaces="rotary_angles")
def speeds_by_exponential(positions, head_dim, base=10_000.0):
    i = pair_numbers(positions, head_dim)
    return torch.outer(positions.float(), torch.exp(i * (-2 * math.log(base) / head_dim)))


@alternative(replaces="rotary_angles")
def speeds_by_python(positions, head_dim, base=10_000.0):
    if head_dim not in range(2, 1 << 30, 2):
        raise ValueError("head_dim must be even and at least 2")
    speed = [1 / base ** (i / head_dim) for i in range(0, head_dim, 2)]
    return positions.unsqueeze(-1).to(torch.float32) * torch.tensor(speed, device=positions.device)


@alternative(replaces="rotary_angles")
def rounded_at_the_end(positions, head_dim, base=10_000.0):
    i = pair_numbers(positions, head_dim).double()
    return torch.einsum("t,i->ti", positions.double(), base ** (-2 * i / head_dim)).float()


@alternative(replaces="apply_rotary")
def by_complex_numbers(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base)
    pairs = torch.view_as_complex(x.to(angles.dtype).unflatten(-1, (-1, 2)).contiguous())  # (B, H, T, K/2)
    turned = pairs * torch.polar(torch.ones_like(angles), angles)
    return torch.view_as_real(turned).flatten(-2).type_as(x)


@alternative(replaces="apply_rotary")
def by_rotation_matrices(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base)
    cos, sin = angles.cos(), angles.sin()
    turns = torch.stack((cos, -sin, sin, cos), dim=-1).unflatten(-1, (2, 2))  # (T, K/2, 2, 2)
    pairs = x.to(angles.dtype).unflatten(-1, (-1, 2))  # (B, H, T, K/2, 2)
    return torch.einsum("tirc,bhtic->bhtir", turns, pairs).flatten(-2).to(x.dtype)


@alternative(replaces="apply_rotary")
def by_one_large_matrix(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base)
    K = x.shape[-1]
    matrix = angles.new_zeros(len(positions), K, K)
    first = torch.arange(0, K, 2, device=x.device)
    matrix[:, first, first] = matrix[:, first + 1, first + 1] = angles.cos()
    matrix[:, first + 1, first] = angles.sin()
    matrix[:, first, first + 1] = -angles.sin()
    return (matrix @ x.to(angles.dtype)[..., None])[..., 0].to(x.dtype)  # (T, K, K) @ (B, H, T, K, 1)


@alternative(replaces="apply_rotary")
def by_a_quarter_turn(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base).repeat_interleave(2, dim=-1)  # (T, K)
    return (x * angles.cos() + quarter_turned(x) * angles.sin()).to(x.dtype)


@alternative(replaces="apply_rotary")
def through_halves_and_back(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base).tile(2)  # (T, K)
    a, b = halves = x.unflatten(-1, (-1, 2)).unbind(-1)
    swapped = torch.cat((-b, a), -1)
    turned = torch.cat(halves, -1) * angles.cos() + swapped * angles.sin()
    return turned.unflatten(-1, (2, -1)).transpose(-1, -2).reshape(x.shape).to(x.dtype)


@alternative(replaces="apply_rotary")
def with_cosines_in_the_dtype_of_x(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base)
    return turn(x, angles.cos().to(x.dtype), angles.sin().to(x.dtype))


@alternative(replaces="apply_rotary")
def with_remembered_speeds(x, positions, base=10_000.0):
    must_fit(x, positions)
    return turn_by(x, positions[:, None] * speeds(x.shape[-1], base, wide(x), x.device))


@alternative(replaces="apply_rotary")
def in_float64_throughout(x, positions, base=10_000.0):
    must_fit(x, positions)
    wider = x.to(torch.float64)
    return turn_by(wider, angles_for(wider, positions, base)).to(x.dtype)


@alternative(replaces="apply_rotary")
def into_a_new_tensor(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base)
    out = torch.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * angles.cos() - x[..., 1::2] * angles.sin()
    out[..., 1::2] = x[..., 0::2] * angles.sin() + x[..., 1::2] * angles.cos()
    return out


@alternative(replaces="apply_rotary")
def token_by_token_in_parallel(x, positions, base=10_000.0):
    angles = angles_for(x, positions, base)
    return torch.vmap(turn_by, in_dims=(2, 0), out_dims=2)(x, angles)


@alternative(replaces="apply_rotary")
def golfed(x, p, base=10_000.0):
    must_fit(x, p)
    w = p.to(wide(x)).outer(base ** (-torch.arange(0, K := x.shape[-1], 2).to(x.device, wide(x)) / K))
    c, s, a, b = w.cos(), w.sin(), x[..., ::2], x[..., 1::2]
    return torch.stack([a * c - b * s, a * s + b * c], -1).view(x.shape).to(x)


@slip(replaces="apply_rotary", caught_by="test_matches_the_reference_on_many_sizes")
def takes_tokens_for_features_where_they_are_as_many(x, positions, base=10_000.0):
    if x.shape[-2] == x.shape[-1]:
        return apply_rotary(x.transpose(-2, -1), positions, base).transpose(-2, -1)
    return apply_rotary(x, positions, base)


@slip(replaces="apply_rotary", caught_by="test_matches_the_reference_on_many_sizes")
def turns_the_other_way_if_a_gradient_is_asked_for(x, positions, base=10_000.0):
    return apply_rotary(x, -positions if x.requires_grad else positions, base)
