"""Other ways to write ``sinusoidal``: wrong on purpose and worth explaining, just wrong, and right."""

import math

import torch
from torch import Tensor, nn

from grader.judge.suite import alternative, misconception, slip

from .solution import SinusoidalPositionEncoding, sinusoidal_table

# --- parts that the variants share, all of them right ----------------------------------------------------


def must_fit(max_len: int, d_model: int) -> None:
    if max_len < 1 or d_model < 1 or d_model % 2:
        raise ValueError("max_len must be at least 1, d_model even and at least 2")


def pair_numbers(max_len: int, d_model: int) -> Tensor:
    """Return i of every pair, shape (D/2,)."""
    must_fit(max_len, d_model)
    return torch.arange(d_model // 2)


def angles_of(max_len: int, speeds: Tensor) -> Tensor:
    """Return the angle of every position and speed, shape (max_len, number of speeds)."""
    return torch.arange(max_len, device=speeds.device)[:, None] * speeds


def interleaved(angles: Tensor) -> Tensor:
    """Return the sine and the cosine of each angle in columns beside each other."""
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)


class Steps(SinusoidalPositionEncoding):
    """The solution's module cut into steps, so that a variant bends one of them."""

    def forward(self, x):
        return self.add(x, self.rows(x))

    def rows(self, x):
        if x.shape[1] > len(self.table):
            raise ValueError("more tokens than max_len")
        return self.table[: x.shape[1]]  # (T, D)

    def add(self, x, rows):
        return x + rows


# --- misconceptions about the speeds ---------------------------------------------------------------------


@misconception(replaces="sinusoidal_table", caught_by="test_table_worked_out_by_hand")
def exponent_without_the_two(max_len, d_model, base=10_000.0):
    """Your exponents run from 0 to about one half: pair i seems to have the speed base ** (-i / D).

    The slowest pair should turn by little more than 1 / base per position. What is i multiplied by in the formula?
    """
    return interleaved(angles_of(max_len, base ** -(pair_numbers(max_len, d_model) / d_model)))


@misconception(replaces="sinusoidal_table", caught_by="test_table_worked_out_by_hand")
def exponent_with_the_two_twice(max_len, d_model, base=10_000.0):
    """Your exponents run from 0 to nearly 2: they are twice as large as in the formula.

    The i of the formula counts pairs. Does yours go 0, 1, 2 ..., or 0, 2, 4 ... already? And what do you divide by, the
    number of columns or the number of pairs?
    """
    return interleaved(angles_of(max_len, base ** -(4 * pair_numbers(max_len, d_model) / d_model)))


@misconception(replaces="sinusoidal_table", caught_by="test_dot_products_depend_on_the_distance")
def every_column_has_its_own_speed(max_len, d_model, base=10_000.0):
    """Your even columns are right, but each cosine is a little slower than the sine beside it.

    You seem to use the number of the column where the formula has 2i. Which i have columns 2 and 3?
    """
    must_fit(max_len, d_model)
    angles = angles_of(max_len, base ** -(torch.arange(d_model) / d_model))  # (max_len, D)
    return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=-1).flatten(-2)


@misconception(replaces="sinusoidal_table", caught_by="test_dot_products_depend_on_the_distance")
def every_column_has_its_own_speed_twice(max_len, d_model, base=10_000.0):
    """You seem to put the number of the column where the formula has i: your exponents are 2 * column / D.

    So they run up to nearly 2, and no cosine shares the angle of the sine beside it. Which i have columns 2 and 3?
    """
    must_fit(max_len, d_model)
    angles = angles_of(max_len, base ** -(2 * torch.arange(d_model) / d_model))  # (max_len, D)
    return torch.stack((angles[:, 0::2].sin(), angles[:, 1::2].cos()), dim=-1).flatten(-2)


@misconception(replaces="sinusoidal_table", caught_by="test_every_pair_has_its_own_speed")
def two_pairs_share_a_speed(max_len, d_model, base=10_000.0):
    """Your pairs have speeds two by two: 0 and 1 turn alike, 2 and 3 turn alike.

    2 * (j // 2) is right where j counts columns. What do you count?
    """
    i = pair_numbers(max_len, d_model)
    return interleaved(angles_of(max_len, base ** -(2 * (i // 2) / d_model)))


@misconception(replaces="sinusoidal_table", caught_by="test_every_pair_has_its_own_speed")
def last_pair_reaches_the_base(max_len, d_model, base=10_000.0):
    """You spread the exponents evenly from 0 to 1, both ends included: your last pair turns by 1 / base.

    Code that came with the paper does so, but its formula does not. What is 2i / D for the last pair, when D is 4?
    """
    i = pair_numbers(max_len, d_model)
    return interleaved(angles_of(max_len, base ** -(i / max(1, d_model // 2 - 1))))


@misconception(replaces="sinusoidal_table", caught_by="test_table_worked_out_by_hand")
def pairs_counted_from_one(max_len, d_model, base=10_000.0):
    """You seem to count the pairs from 1: your first pair already turns slower than one radian per position.

    Which number has the pair of columns 0 and 1 in the formula?
    """
    i = pair_numbers(max_len, d_model)
    return interleaved(angles_of(max_len, base ** -(2 * (i + 1) / d_model)))


@misconception(replaces="sinusoidal_table", caught_by="test_table_worked_out_by_hand")
def later_pairs_are_faster(max_len, d_model, base=10_000.0):
    """Your later pairs are faster than the first, by powers of the base.

    The formula divides the position by a power of the base. Does yours?
    """
    i = pair_numbers(max_len, d_model)
    return interleaved(angles_of(max_len, base ** (2 * i / d_model)))


@misconception(replaces="sinusoidal_table", caught_by="test_table_worked_out_by_hand")
def base_is_always_10000(max_len, d_model, base=10_000.0):
    """You seem to use 10000 whatever `base` is.

    That is the default. What if a caller says base=100.0?
    """
    return sinusoidal_table(max_len, d_model)


@misconception(replaces="sinusoidal_table", caught_by="test_row_of_position_zero")
def positions_start_at_one(max_len, d_model, base=10_000.0):
    """Your first row is that of position 1.

    Positions are counted from 0 here. Which numbers have the sine and the cosine of the angle 0?
    """
    return sinusoidal_table(max_len + 1, d_model, base)[1:] if max_len > 0 else sinusoidal_table(max_len, d_model)


# --- misconceptions about the columns --------------------------------------------------------------------


@misconception(replaces="sinusoidal_table", caught_by="test_table_worked_out_by_hand")
def sines_before_cosines(max_len, d_model, base=10_000.0):
    """You put all sines into the first half of the columns, and all cosines into the second.

    Whisper and others do so, and a model can be trained with it. In which columns does the paper want the cosines?
    """
    table = sinusoidal_table(max_len, d_model, base)
    return torch.cat((table[:, 0::2], table[:, 1::2]), dim=-1)


@misconception(replaces="sinusoidal_table", caught_by="test_row_of_position_zero")
def sine_and_cosine_swapped(max_len, d_model, base=10_000.0):
    """Your sines and cosines have changed places.

    What is in column 0 of position 0 in the paper's formula, and what is there in your table?
    """
    return sinusoidal_table(max_len, d_model, base).unflatten(-1, (-1, 2)).flip(-1).flatten(-2)


# --- misconceptions about the module ---------------------------------------------------------------------


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_sum_worked_out_by_hand")
class ReturnsTheRowsAlone(Steps):
    """You return the rows of the table without x.

    Many codes have a module that does so, and add its result later. What does this one promise to return?
    """

    def add(self, x, rows):
        return rows


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_short_texts_get_the_first_rows")
class AddsAllRows(Steps):
    """You add the whole table to x, so that your module works for T = max_len alone.

    Most texts are shorter. Which rows belong to a text of 3 tokens?
    """

    def rows(self, x):
        if x.shape[1] > len(self.table):
            raise ValueError("more tokens than max_len")
        return self.table


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_every_item_gets_the_same_rows")
class TokensAlongTheFirstDimension(Steps):
    """You give each item of the batch one row of the table, as if the shape of x were (T, B, D).

    A well-known tutorial has that layout. Which dimension counts the tokens here?
    """

    def rows(self, x):
        super().rows(x)
        return self.table[: x.shape[0], None]  # (B, 1, D)


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_sums_of_many_sizes")
class ForgetsTheBase(Steps):
    """Your module adds the rows for base 10000 whatever `base` is.

    The function on its own is right. Which of its arguments does it get from the module?
    """

    def __init__(self, max_len, d_model, base=10_000.0):
        super().__init__(max_len, d_model)


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_sum_worked_out_by_hand")
class ScalesTheTokens(Steps):
    """You multiply x by sqrt(D) before you add the rows.

    The paper does that in its embedding, which is another module. What shall happen to x here?
    """

    def add(self, x, rows):
        return x * math.sqrt(x.shape[-1]) + rows


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_tokens_stay_as_they_are")
class DropsInTraining(Steps):
    """Your sum changes in training mode: you seem to drop some of its numbers.

    The paper does so, and so does a well-known tutorial. What does this exercise say about dropout?
    """

    def add(self, x, rows):
        return nn.functional.dropout(x + rows, 0.1, self.training)


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_table_is_a_buffer_that_is_not_saved")
class TableIsAParameter(Steps):
    """Your table is a parameter.

    So it is counted, saved and, unless it is frozen, trained. What else moves with a module from device to device?
    """

    def __init__(self, max_len, d_model, base=10_000.0):
        super().__init__(max_len, d_model, base)
        del self.table
        self.table = nn.Parameter(sinusoidal_table(max_len, d_model, base), requires_grad=False)


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_table_is_a_buffer_that_is_not_saved")
class TableIsSaved(Steps):
    """Your table is a buffer, but `state_dict()` holds it.

    A checkpoint of a module with another max_len would not load then. Which argument of `register_buffer` decides it?
    """

    def __init__(self, max_len, d_model, base=10_000.0):
        super().__init__(max_len, d_model, base)
        self.register_buffer("table", sinusoidal_table(max_len, d_model, base))


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_table_is_a_buffer_that_is_not_saved")
class TableIsAPlainAttribute(Steps):
    """Your module does not know `table` as one of its buffers.

    A plain attribute stays where it is when the module moves to another device. How does a module get to know a tensor
    that is not trained?
    """

    def __init__(self, max_len, d_model, base=10_000.0):
        super().__init__(max_len, d_model, base)
        table = self.table
        del self.table
        self.table = table


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_bfloat16")
class AnglesInTheDtypeOfX(Steps):
    """Your positions or your angles have the dtype of x, which is too coarse when that is bfloat16.

    How many different numbers has bfloat16 between 256 and 512, and how many positions are there?
    """

    def __init__(self, max_len, d_model, base=10_000.0):
        super().__init__(max_len, d_model, base)
        self.d_model, self.base = d_model, base

    def rows(self, x):
        super().rows(x)
        positions = torch.arange(x.shape[1], device=x.device).to(x.dtype)
        exponents = torch.arange(0, self.d_model, 2, device=x.device) / self.d_model
        return interleaved(positions[:, None] * (self.base**-exponents).to(x.dtype))


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_refuses_longer_texts")
class LeavesLongTextsToPyTorch(Steps):
    """You leave it to PyTorch to complain about a text longer than max_len.

    It does with a RuntimeError, and not always: what happens in your code when max_len is 1?
    """

    def rows(self, x):
        return self.table[: x.shape[1]]


@misconception(replaces="SinusoidalPositionEncoding", caught_by="test_refuses_longer_texts")
class CutsLongTexts(Steps):
    """You cut a text that is longer than max_len, without a word.

    The caller gets fewer tokens back than were given. What should happen instead?
    """

    def forward(self, x):
        return super().forward(x[:, : len(self.table)])


# --- slips: the table ------------------------------------------------------------------------------------


@slip(replaces="sinusoidal_table", caught_by="test_returns_the_right_shapes")
def one_column_per_position(max_len, d_model, base=10_000.0):
    return sinusoidal_table(max_len, d_model, base).T


@slip(replaces="sinusoidal_table", caught_by="test_returns_the_right_shapes")
def table_in_float64(max_len, d_model, base=10_000.0):
    return sinusoidal_table(max_len, d_model, base).double()


@slip(replaces="sinusoidal_table", caught_by="test_dot_products_depend_on_the_distance")
def sines_alone(max_len, d_model, base=10_000.0):
    return sinusoidal_table(max_len, 2 * d_model, base)[:, 0::2]


@slip(replaces="sinusoidal_table", caught_by="test_far_positions")
def positions_in_bfloat16(max_len, d_model, base=10_000.0):
    i = pair_numbers(max_len, d_model)
    positions = torch.arange(max_len).bfloat16().float()
    return interleaved(positions[:, None] * base ** (-2 * i / d_model))


@slip(replaces="sinusoidal_table", caught_by="test_far_positions")
def angles_in_float16(max_len, d_model, base=10_000.0):
    i = pair_numbers(max_len, d_model)
    return interleaved(angles_of(max_len, base ** (-2 * i / d_model)).half().float())


@slip(replaces="sinusoidal_table", caught_by="test_far_positions")
def speeds_in_bfloat16(max_len, d_model, base=10_000.0):
    i = pair_numbers(max_len, d_model)
    return interleaved(angles_of(max_len, (base ** (-2 * i / d_model)).bfloat16().float()))


@slip(replaces="sinusoidal_table", caught_by="test_far_positions")
def starts_over_after_2048(max_len, d_model, base=10_000.0):
    return sinusoidal_table(max_len, d_model, base)[torch.arange(max_len) % 2048]


@slip(replaces="sinusoidal_table", caught_by="test_table_of_many_sizes")
def drops_a_dimension_of_size_one(max_len, d_model, base=10_000.0):
    return sinusoidal_table(max_len, d_model, base).squeeze()


@slip(replaces="sinusoidal_table", caught_by="test_takes_all_tokens_at_once")
def loops_over_positions(max_len, d_model, base=10_000.0):
    speeds = base ** (-2 * pair_numbers(max_len, d_model) / d_model)
    return torch.stack([interleaved(p * speeds) for p in range(max_len)])


@slip(replaces="sinusoidal_table", caught_by="test_takes_all_tokens_at_once")
def fills_in_number_by_number(max_len, d_model, base=10_000.0):
    must_fit(max_len, d_model)
    table = torch.zeros(max_len, d_model)
    for p in range(max_len):
        for j in range(0, d_model, 2):
            table[p, j] = math.sin(p / base ** (j / d_model))
            table[p, j + 1] = math.cos(p / base ** (j / d_model))
    return table


@slip(replaces="sinusoidal_table", caught_by="test_follows_the_device")
def made_on_the_cpu(max_len, d_model, base=10_000.0):
    with torch.device("cpu"):
        return sinusoidal_table(max_len, d_model, base)


@slip(replaces="sinusoidal_table", caught_by="test_follows_the_device")
def positions_on_the_cpu(max_len, d_model, base=10_000.0):
    i = pair_numbers(max_len, d_model)
    return interleaved(torch.arange(max_len, device="cpu")[:, None] * base ** (-2 * i / d_model))


_KEPT: dict[object, Tensor] = {}


@slip(replaces="sinusoidal_table", caught_by="test_follows_the_device")
def cache_forgets_the_device(max_len, d_model, base=10_000.0):
    key = "device", max_len, d_model, base
    if key not in _KEPT:
        _KEPT[key] = sinusoidal_table(max_len, d_model, base)
    return _KEPT[key]


@slip(replaces="sinusoidal_table", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_base(max_len, d_model, base=10_000.0):
    key = "base", max_len, d_model, torch.get_default_device()
    if key not in _KEPT:
        _KEPT[key] = sinusoidal_table(max_len, d_model, base)
    return _KEPT[key]


@slip(replaces="sinusoidal_table", caught_by="test_repeated_calls_stay_right")
def cache_rounds_the_base(max_len, d_model, base=10_000.0):
    key = "rounded", max_len, d_model, int(base), torch.get_default_device()
    if key not in _KEPT:
        _KEPT[key] = sinusoidal_table(max_len, d_model, base)
    return _KEPT[key]


@slip(replaces="sinusoidal_table", caught_by="test_every_pair_has_its_own_speed")
def base_of_2_at_least(max_len, d_model, base=10_000.0):
    return sinusoidal_table(max_len, d_model, max(2.0, base))


@slip(replaces="sinusoidal_table", caught_by="test_repeated_calls_stay_right")
def cache_forgets_the_length(max_len, d_model, base=10_000.0):
    key = "length", d_model, base, torch.get_default_device()
    if key not in _KEPT or len(_KEPT[key]) < max_len:
        _KEPT[key] = sinusoidal_table(max_len, d_model, base)
    return _KEPT[key]


@slip(replaces="sinusoidal_table", caught_by="test_refuses_impossible_sizes")
def cuts_an_odd_width(max_len, d_model, base=10_000.0):
    must_fit(max_len, max(2, d_model + d_model % 2))
    return sinusoidal_table(max_len, d_model + d_model % 2, base)[:, :d_model]


@slip(replaces="sinusoidal_table", caught_by="test_refuses_impossible_sizes")
def takes_a_length_of_zero(max_len, d_model, base=10_000.0):
    return sinusoidal_table(max(1, max_len), d_model, base)[: max(0, max_len)]


# --- slips: the module -----------------------------------------------------------------------------------


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_table_is_a_buffer_that_is_not_saved")
class TableWithABatchDimension(Steps):
    def __init__(self, max_len, d_model, base=10_000.0):
        super().__init__(max_len, d_model, base)
        self.table = self.table[None]

    def rows(self, x):
        if x.shape[1] > self.table.shape[1]:
            raise ValueError("more tokens than max_len")
        return self.table[:, : x.shape[1]]


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_short_texts_get_the_first_rows")
class AddsTheLastRows(Steps):
    def rows(self, x):
        super().rows(x)
        return self.table[len(self.table) - x.shape[1] :]


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_sums_of_many_sizes")
class DropsABatchOfOne(Steps):
    def forward(self, x):
        return super().forward(x).squeeze(0)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_every_item_gets_the_same_rows")
class KeepsTheFirstBatchSize(Steps):
    def rows(self, x):
        if not hasattr(self, "kept"):
            self.kept = self.table.expand(x.shape[0], -1, -1)
        super().rows(x)
        return self.kept[:, : x.shape[1]]


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_every_item_gets_the_same_rows")
class CountsOnThroughTheBatch(Steps):
    def rows(self, x):
        super().rows(x)
        B, T, _ = x.shape
        positions = torch.arange(B * T, device=x.device).view(B, T)
        return self.table[positions % len(self.table)]


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_sums_of_many_sizes")
class CutsOffLargeNumbers(Steps):
    def add(self, x, rows):
        return super().add(x, rows).clamp(-100.0, 100.0)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_takes_strided_inputs")
class WantsContiguousTokens(Steps):
    def add(self, x, rows):
        return (x.view(len(x), -1) + rows.flatten()).view(x.shape)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_bfloat16")
class ReturnsFloat32(Steps):
    def add(self, x, rows):
        return x + rows.to(torch.promote_types(x.dtype, torch.float32))


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_float64")
class RoundsTheTokens(Steps):
    def add(self, x, rows):
        return (x.float() + rows.float()).to(x.dtype)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_float64")
class RoundsTokensThatNeedAGradient(Steps):
    def add(self, x, rows):
        return (x.float() if x.requires_grad else x).to(x.dtype) + rows


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_the_mode_changes_nothing")
class OtherRowsWithoutGradients(Steps):
    def add(self, x, rows):
        return super().add(x, rows if torch.is_grad_enabled() else rows.flip(0))


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_the_mode_changes_nothing")
class TwiceTheRowsForATrainedX(Steps):
    def add(self, x, rows):
        return super().add(x, 2 * rows if x.requires_grad else rows)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_the_mode_changes_nothing")
class TwiceTheRowsInTraining(Steps):
    def add(self, x, rows):
        return super().add(x, 2 * rows if self.training else rows)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_the_mode_changes_nothing")
class ScalesASingleTokenInTraining(Steps):
    def add(self, x, rows):
        return super().add(1.5 * x if self.training and len(rows) == 1 else x, rows)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_gradient_reaches_x")
class CutsTheGradient(Steps):
    def add(self, x, rows):
        return x.detach() + rows


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_gradient_reaches_x")
class CutsTheGradientInBfloat16(Steps):
    def add(self, x, rows):
        return (x.detach() if x.dtype == torch.bfloat16 else x) + rows


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_gradient_reaches_x")
class CutsTheGradientOfABatchOfOne(Steps):
    def add(self, x, rows):
        return (x.detach() if len(x) == 1 else x) + rows


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_gradient_reaches_x")
class WithoutGrad(Steps):
    def forward(self, x):
        with torch.no_grad():
            return super().forward(x)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_repeated_calls_stay_right")
class KeepsTheFirstDtype(Steps):
    def rows(self, x):
        super().rows(x)
        if not hasattr(self, "kept"):
            self.kept = self.table
        return self.kept[: x.shape[1]]


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_leaves_x_alone")
class AddsInPlace(Steps):
    def add(self, x, rows):
        x += rows
        return x


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_takes_all_tokens_at_once")
class LoopsOverTheBatch(Steps):
    def add(self, x, rows):
        return torch.stack([item + rows for item in x])


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_takes_all_tokens_at_once")
class LoopsOverTokens(Steps):
    def add(self, x, rows):
        return torch.stack([x[:, t] + rows[t] for t in range(len(rows))], dim=1)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_follows_the_device")
class RowsOnTheCpu(Steps):
    def rows(self, x):
        return super().rows(x).cpu()


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_follows_the_device")
class ReturnsToTheCpu(Steps):
    def add(self, x, rows):
        return x.cpu() + rows.cpu()


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_refuses_longer_texts")
class StartsOver(Steps):
    def rows(self, x):
        return self.table[torch.arange(x.shape[1], device=x.device) % len(self.table)]


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_refuses_longer_texts")
class TurnsTheErrorOfPyTorchIntoAnother(Steps):
    def forward(self, x):
        try:
            return x + self.table[: x.shape[1]]
        except RuntimeError:
            raise ValueError("more tokens than max_len") from None


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_refuses_longer_texts")
class RefusesOnlyInEvaluation(Steps):
    def forward(self, x):
        return x if self.training and x.shape[1] > len(self.table) else super().forward(x)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_refuses_longer_texts")
class RefusesOnlySingleTexts(Steps):
    def forward(self, x):
        return x if len(x) > 1 and x.shape[1] > len(self.table) else super().forward(x)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_refuses_longer_texts")
class RefusesLargeBatches(Steps):
    def rows(self, x):
        if max(x.shape[:2]) > len(self.table):
            raise ValueError("more tokens than max_len")
        return super().rows(x)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_refuses_impossible_sizes")
class TakesAnOddWidth(SinusoidalPositionEncoding):
    def __init__(self, max_len, d_model, base=10_000.0):
        super().__init__(max_len, d_model + d_model % 2, base)
        self.table = self.table[:, :d_model]


@slip(replaces="sinusoidal_table", caught_by="test_table_worked_out_by_hand")
def base_has_another_name(max_len, d_model, theta=10_000.0):
    return sinusoidal_table(max_len, d_model, theta)


@slip(replaces="sinusoidal_table", caught_by="test_every_pair_has_its_own_speed")
def stops_after_256_columns(max_len, d_model, base=10_000.0):
    return sinusoidal_table(max_len, d_model, base) * (torch.arange(d_model) < 256)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_table_is_a_buffer_that_is_not_saved")
class BaseHasAnotherName(SinusoidalPositionEncoding):
    def __init__(self, max_len, d_model, theta=10_000.0):
        super().__init__(max_len, d_model, theta)


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_far_positions")
class CountsInFloat16(Steps):
    def rows(self, x):
        return super().rows(x)[torch.arange(x.shape[1], device=x.device).half().long().clamp(max=x.shape[1] - 1)]


@slip(replaces="SinusoidalPositionEncoding", caught_by="test_sums_of_many_sizes")
class TurnsASquareTableOver(Steps):
    def rows(self, x):
        rows = super().rows(x)
        return rows.T if len(x) > 1 and rows.shape[0] == rows.shape[1] else rows


# --- right, written another way --------------------------------------------------------------------------


@alternative(replaces="sinusoidal_table")
def by_exponential(max_len, d_model, base=10_000.0):
    must_fit(max_len, d_model)
    table = torch.zeros(max_len, d_model)
    position = torch.arange(0, max_len, dtype=torch.float).unsqueeze(1)
    speeds = torch.exp(torch.arange(0, d_model, 2).float() * (-math.log(base) / d_model))
    table[:, 0::2] = torch.sin(position * speeds)
    table[:, 1::2] = torch.cos(position * speeds)
    return table


@alternative(replaces="sinusoidal_table")
def by_python_numbers(max_len, d_model, base=10_000.0):
    must_fit(max_len, d_model)
    rows = []
    for p in range(max_len):
        angles = [p / base ** (2 * (j // 2) / d_model) for j in range(d_model)]
        rows.append([math.cos(a) if j % 2 else math.sin(a) for j, a in enumerate(angles)])
    return torch.tensor(rows)


@alternative(replaces="sinusoidal_table")
def pair_by_pair(max_len, d_model, base=10_000.0):
    must_fit(max_len, d_model)
    positions = torch.arange(max_len)
    columns = []
    for i in range(d_model // 2):
        angle = positions / base ** (2 * i / d_model)
        columns += [torch.sin(angle), torch.cos(angle)]
    return torch.stack(columns, dim=1)


@alternative(replaces="sinusoidal_table")
def by_complex_numbers(max_len, d_model, base=10_000.0):
    must_fit(max_len, d_model)
    speeds = base ** (-torch.arange(0, d_model, 2, dtype=torch.float64) / d_model)
    turns = torch.polar(torch.ones_like(speeds), speeds)  # of one position
    powers = turns ** torch.arange(max_len)[:, None]
    return torch.view_as_real(powers).flip(-1).flatten(1).float()


@alternative(replaces="sinusoidal_table")
def rounded_at_the_end(max_len, d_model, base=10_000.0):
    i = pair_numbers(max_len, d_model).double()
    angles = torch.einsum("p,i->pi", torch.arange(max_len).double(), base ** (-2 * i / d_model))
    return interleaved(angles).to(torch.float32)


@alternative(replaces="sinusoidal_table")
def cosine_as_a_shifted_sine(max_len, d_model, base=10_000.0):
    must_fit(max_len, d_model)
    column = torch.arange(d_model)
    angles = torch.arange(max_len)[:, None] / base ** ((column - column % 2) / d_model)
    return torch.sin(angles + (column % 2) * (math.pi / 2))


@alternative(replaces="sinusoidal_table")
def chosen_by_where(max_len, d_model, base=10_000.0):
    must_fit(max_len, d_model)
    column = torch.arange(d_model).expand(max_len, -1)
    position = torch.arange(max_len).float()[:, None]
    angle = position * torch.pow(1 / base, 2 * torch.div(column, 2, rounding_mode="floor") / d_model)
    return torch.where(column % 2 == 0, angle.sin(), angle.cos())


@alternative(replaces="sinusoidal_table")
def golfed(max_len, d_model, base=10_000.0):
    must_fit(n := max_len, d := d_model)
    a = torch.outer(torch.arange(n), base ** -(torch.arange(d // 2) * 2 / d))
    return torch.dstack([a.sin(), a.cos()]).reshape(n, d)


@alternative(replaces="SinusoidalPositionEncoding")
class LooksRowsUp(SinusoidalPositionEncoding):
    def forward(self, x):
        positions = torch.arange(x.size(1), device=x.device)
        if x.size(1) > self.table.size(0):
            raise ValueError(f"{x.size(1)} tokens, but max_len is {self.table.size(0)}")
        return nn.functional.embedding(positions, self.table).unsqueeze(0).add(x)


@alternative(replaces="SinusoidalPositionEncoding")
class SumsInFloat64(Steps):
    def add(self, x, rows):
        return torch.add(x.double(), rows.double()).to(x.dtype)


@alternative(replaces="SinusoidalPositionEncoding")
class MakesRowsInEachCall(Steps):
    def __init__(self, max_len, d_model, base=10_000.0):
        super().__init__(max_len, d_model, base)
        self.register_buffer("speeds", base ** (-torch.arange(0, d_model, 2).double() / d_model), persistent=False)
        self.sizes = max_len, d_model, base

    def rows(self, x):
        if x.shape[1] > self.sizes[0]:
            raise ValueError("more tokens than max_len")
        with torch.device(x.device):
            return sinusoidal_table(x.shape[1], *self.sizes[1:]).to(x.dtype)


@alternative(replaces="SinusoidalPositionEncoding")
class BySelfMadeTable(nn.Module):
    def __init__(self, max_len, d_model, base=10_000.0):
        super().__init__()
        must_fit(max_len, d_model)
        self.max_len = max_len
        pe = torch.zeros(max_len, d_model)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(base) / d_model))
        pe[:, 0::2] = torch.sin(position * div_term)
        pe[:, 1::2] = torch.cos(position * div_term)
        self.register_buffer("table", pe, persistent=False)

    def forward(self, x):
        B, T, D = x.shape
        if self.max_len < T:
            raise ValueError(f"T={T} > max_len={self.max_len}")
        return x + self.table[:T, :].unsqueeze(0).expand(B, T, D).requires_grad_(False)


@alternative(replaces="SinusoidalPositionEncoding")
class AddsIntoACopy(Steps):
    def add(self, x, rows):
        out = x.clone()
        out += rows.type_as(out)
        return out
