"""Other ways to write ``softmax``: wrong on purpose and worth explaining, just wrong, and right."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from grader.judge.suite import alternative, misconception, slip

from .solution import softmax

INF = math.inf


def top_of(x: Tensor, dim: int) -> Tensor:
    """Return the maximum of each slice, 0 where all are -inf."""
    top = x.detach().amax(dim=dim, keepdim=True)
    return top.masked_fill(top == -INF, 0.0)


def shared(powers: Tensor, dim: int) -> Tensor:
    """Return powers divided by their sum, zeros where the sum is 0."""
    total = powers.sum(dim=dim, keepdim=True)
    return powers / total.masked_fill(total == 0, 1.0)


# --- misconceptions about the formula --------------------------------------------------------------------


@misconception(replaces="softmax", caught_by="test_numbers_worked_out_by_hand")
def shares_without_powers(x, dim=-1):
    """You divide each number by the sum of its slice, without taking a power of e first.

    Then -1, 0 and 1 are divided by 0. What makes the weights positive in the formula?
    """
    return x / x.sum(dim=dim, keepdim=True)


@misconception(replaces="softmax", caught_by="test_numbers_worked_out_by_hand")
def returns_logarithms(x, dim=-1):
    """You return the logarithms of the weights.

    A loss works with those, and they are computed with the same trick. What should a slice sum to here?
    """
    moved = x - top_of(x, dim)
    return moved - moved.exp().sum(dim=dim, keepdim=True).log()


@misconception(replaces="softmax", caught_by="test_numbers_worked_out_by_hand")
def largest_gets_least(x, dim=-1):
    """Your weights fall as the numbers grow: the smallest number gets the largest weight.

    Is each difference taken the right way round, the number minus the maximum?
    """
    return softmax(-x, dim)


@misconception(replaces="softmax", caught_by="test_rows_and_columns_by_hand")
def always_along_the_last_dim(x, dim=-1):
    """Your weights sum to 1 along the last dimension, whatever `dim` is.

    Each step that joins the numbers of a slice has to know where the slice lies. Which steps are these?
    """
    return softmax(x)


@misconception(replaces="softmax", caught_by="test_rows_and_columns_by_hand")
def always_along_the_first_dim(x, dim=-1):
    """Your weights sum to 1 along the first dimension, whatever `dim` is.

    Which dimension does dim = -1 mean, and is it the same for a table and for a row?
    """
    return softmax(x, 0)


@misconception(replaces="softmax", caught_by="test_rows_and_columns_by_hand")
def one_sum_for_all(x, dim=-1):
    """All your weights together sum to 1, instead of those of each slice.

    That is right for a single row. Over which numbers does the sum below the line go for one row of a table?
    """
    powers = (x - x.max()).exp()
    return powers / powers.sum()


@misconception(replaces="softmax", caught_by="test_rows_and_columns_by_hand")
def sum_without_keepdim(x, dim=-1):
    """Your sums seem to have lost the dimension over which they were taken.

    PyTorch lines up the 3 sums of a (3, 3) table with its columns, so that each row meets the sums of all rows. Which
    shape must they have to stay beside their own slice?
    """
    return (x - top_of(x, dim)).exp() / (x - top_of(x, dim)).exp().sum(dim=dim)


@misconception(replaces="softmax", caught_by="test_rows_and_columns_by_hand")
def maximum_without_keepdim(x, dim=-1):
    """Your maxima seem to have lost the dimension over which they were taken, so each slice meets those of all slices.

    A number only cancels if it is subtracted from a whole slice. Which shape must the maxima of a (3, 3) table have?
    """
    return shared((x - x.amax(dim=dim)).exp(), dim)


@misconception(replaces="softmax", caught_by="test_rows_and_columns_by_hand")
def neither_with_keepdim(x, dim=-1):
    """Your maxima and your sums seem to have lost the dimension over which they were taken.

    PyTorch then lines them up with the last dimension of x, whichever they came from. Which shape must they have so
    that each stays beside its own slice?
    """
    powers = (x - x.amax(dim=dim)).exp()
    return powers / powers.sum(dim=dim)


@misconception(replaces="softmax", caught_by="test_rows_and_columns_by_hand")
def maximum_along_the_last_dim(x, dim=-1):
    """You sum along `dim`, but the maximum that you subtract is that of the last dimension.

    Subtracting a number leaves the weights as they are only if all numbers of a slice lose the same. Do they?
    """
    return shared((x - top_of(x, -1)).exp(), dim)


# --- misconceptions about large numbers ------------------------------------------------------------------


@misconception(replaces="softmax", caught_by="test_large_numbers")
def formula_as_printed(x, dim=-1):
    """You take the powers of the numbers as they come.

    exp(89) is infinite in float32, and exp(-104) is 0. Which number can you subtract from a whole slice so that the
    weights stay the same, no power is larger than 1, and at least one is exactly 1?
    """
    powers = x.exp()
    return powers / powers.sum(dim=dim, keepdim=True)


@misconception(replaces="softmax", caught_by="test_slices_far_apart")
def maximum_of_everything(x, dim=-1):
    """You subtract the maximum of the whole tensor from every slice.

    Nothing overflows then. But what is left of a slice around 0 once 10000 is subtracted, and what is its sum?
    """
    powers = (x - x.max()).exp()
    return powers / powers.sum(dim=dim, keepdim=True)


@misconception(replaces="softmax", caught_by="test_slices_far_apart")
def maximum_of_everything_and_zeros(x, dim=-1):
    """You subtract the maximum of the whole tensor from every slice, and turn what is undefined into 0.

    A slice around 0 beside one around 10000 is not undefined. Whose maximum would have saved it?
    """
    return shared((x - x.max()).exp(), dim)


@misconception(replaces="softmax", caught_by="test_large_numbers")
def subtracts_the_mean(x, dim=-1):
    """You subtract the mean of each slice, which cancels as any number does.

    How far above the mean of 10000 and -10000 does the larger one lie, and what is exp of that?
    """
    powers = (x - x.mean(dim=dim, keepdim=True)).exp()
    return powers / powers.sum(dim=dim, keepdim=True)


@misconception(replaces="softmax", caught_by="test_large_numbers")
def cuts_off_large_numbers(x, dim=-1):
    """You seem to cut numbers off at a limit before you take their powers.

    Nothing overflows then, but 9998 and 10000 become the same number. What can be done to a slice that keeps its
    differences?
    """
    return shared(x.clamp(-80.0, 80.0).exp() * (x != -INF), dim)


@misconception(replaces="softmax", caught_by="test_large_numbers")
def turns_nan_into_zeros(x, dim=-1):
    """You take the powers of the numbers as they come, and replace the NaN that comes out.

    The weights are lost by then: the largest number of a slice has got nothing. What can be subtracted beforehand?
    """
    powers = x.exp()
    return (powers / powers.sum(dim=dim, keepdim=True)).nan_to_num()


# --- misconceptions about -inf, the sum and the gradient --------------------------------------------------


@misconception(replaces="softmax", caught_by="test_a_slice_of_minus_infinity_alone")
def nan_for_minus_infinity_alone(x, dim=-1):
    """A slice of -inf alone becomes NaN in your code.

    What is -inf - (-inf)? And if that were 0 or -inf: by which sum would you divide?
    """
    powers = (x - x.amax(dim=dim, keepdim=True)).exp()
    return powers / powers.sum(dim=dim, keepdim=True)


@misconception(replaces="softmax", caught_by="test_a_slice_of_minus_infinity_alone")
def uniform_for_minus_infinity_alone(x, dim=-1):
    """A slice of -inf alone gets equal weights in your code, as if all of its numbers were alike and finite.

    -inf says: nothing from here. What should be taken if that holds for every number of the slice?
    """
    return softmax(x.clamp(min=torch.finfo(x.dtype).min), dim)


@misconception(replaces="softmax", caught_by="test_slices_sum_to_1")
def small_number_in_the_denominator(x, dim=-1):
    """You seem to add a small number to the sum, so that it is never 0.

    Then no slice sums to exactly 1, which shows in float64. Once the maximum is subtracted, how small can the sum of a
    slice be? And which slices need care?
    """
    powers = (x - top_of(x, dim)).exp()
    return powers / (powers.sum(dim=dim, keepdim=True) + 1e-8)


@misconception(replaces="softmax", caught_by="test_float64")
def float32_inside(x, dim=-1):
    """You compute in float32, also where x is float64.

    Making bfloat16 finer is welcome, but this throws away half of the digits of a float64. Which conversion does it?
    """
    return softmax(x.float(), dim).to(x.dtype)


@misconception(replaces="softmax", caught_by="test_gradient")
def gradient_passes_by_the_sum(x, dim=-1):
    """Your weights are right, but in their gradient the sum below the line seems to be a constant.

    If one number grows, the weights of the others shrink. Is something detached, or computed under no_grad, that
    depends on x and does not cancel?
    """
    powers = (x - top_of(x, dim)).exp()
    total = powers.sum(dim=dim, keepdim=True).detach()
    return powers / total.masked_fill(total == 0, 1.0)


@misconception(replaces="softmax", caught_by="test_gradient")
def no_gradient_at_all(x, dim=-1):
    """Your weights are right, but no gradient flows from them to x.

    Is everything computed under no_grad, from x.data, or from a copy that is detached?
    """
    return softmax(x.detach(), dim)


# --- slips -----------------------------------------------------------------------------------------------


@slip(replaces="softmax", caught_by="test_keeps_the_shape")
def flattens(x, dim=-1):
    return softmax(x, dim).flatten()


@slip(replaces="softmax", caught_by="test_matches_the_reference")
def drops_dimensions_of_size_one(x, dim=-1):
    return softmax(x, dim).squeeze()


@slip(replaces="softmax", caught_by="test_matches_the_reference")
def two_dimensions_at_most(x, dim=-1):
    return softmax(x.T, -1).T if dim in (0, -2) else softmax(x, -1)


@slip(replaces="softmax", caught_by="test_matches_the_reference")
def negative_dims_count_from_the_front(x, dim=-1):
    return softmax(x, -1 if dim == -1 else abs(dim) % x.dim())


@slip(replaces="softmax", caught_by="test_rows_and_columns_by_hand")
def dim_is_0_by_default(x, dim=0):
    return softmax(x, dim)


@slip(replaces="softmax", caught_by="test_adding_a_number_changes_nothing")
def bounded_powers(x, dim=-1):
    return shared(x.clamp(max=10.0).exp(), dim)


@slip(replaces="softmax", caught_by="test_the_order_of_the_numbers_does_not_matter")
def prefers_late_numbers(x, dim=-1):
    late = torch.arange(x.shape[dim], device=x.device, dtype=x.dtype) / 1000
    return softmax((x.movedim(dim, -1) + late).movedim(-1, dim), dim)


@slip(replaces="softmax", caught_by="test_large_numbers")
def largest_absolute_value(x, dim=-1):
    powers = (x - x.abs().amax(dim=dim, keepdim=True)).exp()
    return powers / powers.sum(dim=dim, keepdim=True)


@slip(replaces="softmax", caught_by="test_large_numbers")
def float64_instead_of_care(x, dim=-1):
    return shared(x.double().clamp(-700.0, 700.0).exp(), dim).to(x.dtype)


@slip(replaces="softmax", caught_by="test_minus_infinity_gets_nothing")
def almost_nothing_for_minus_infinity(x, dim=-1):
    return softmax(x.clamp(min=-80.0), dim)


@slip(replaces="softmax", caught_by="test_minus_infinity_gets_nothing")
def ten_thousand_below_0_for_minus_infinity(x, dim=-1):
    hidden = x == -INF
    return softmax(x.masked_fill(hidden, -1e4), dim).masked_fill(hidden, 0.0)


@slip(replaces="softmax", caught_by="test_minus_infinity_gets_nothing")
def maximum_of_at_least_minus_ten_thousand(x, dim=-1):
    return shared((x - x.detach().amax(dim=dim, keepdim=True).clamp(min=-1e4)).exp(), dim)


@slip(replaces="softmax", caught_by="test_minus_infinity_gets_nothing")
def one_minus_infinity_silences_the_slice(x, dim=-1):
    return softmax(x, dim) * ~(x == -INF).any(dim=dim, keepdim=True)


@slip(replaces="softmax", caught_by="test_minus_infinity_gets_nothing")
def minus_infinity_silences_its_row(x, dim=-1):
    return softmax(x.masked_fill((x == -INF).any(dim=-1, keepdim=True), -INF), dim)


@slip(replaces="softmax", caught_by="test_a_slice_of_minus_infinity_alone")
def one_empty_slice_silences_all(x, dim=-1):
    return softmax(x, dim) * ~(x == -INF).all(dim=dim).any()


@slip(replaces="softmax", caught_by="test_a_slice_of_minus_infinity_alone")
def looks_for_empty_rows_only(x, dim=-1):
    powers = (x - x.amax(dim=dim, keepdim=True)).exp()
    weights = powers / powers.sum(dim=dim, keepdim=True)
    return weights.masked_fill((x == -INF).all(dim=-1, keepdim=True), 0.0)


@slip(replaces="softmax", caught_by="test_takes_strided_inputs")
def wants_contiguous_numbers(x, dim=-1):
    return softmax(x.view(-1).view(x.shape), dim)


@slip(replaces="softmax", caught_by="test_takes_strided_inputs")
def answers_into_the_memory_of_x(x, dim=-1):
    return softmax(x, dim).contiguous().as_strided(x.shape, x.stride())


@slip(replaces="softmax", caught_by="test_bfloat16")
def answers_in_float32(x, dim=-1):
    return softmax(x.to(torch.promote_types(x.dtype, torch.float32)), dim)


@slip(replaces="softmax", caught_by="test_gradient_of_other_shapes_and_dtypes")
def no_gradient_in_bfloat16(x, dim=-1):
    return softmax(x.detach() if x.dtype == torch.bfloat16 else x, dim)


@slip(replaces="softmax", caught_by="test_gradient_of_other_shapes_and_dtypes")
def no_gradient_in_three_dimensions(x, dim=-1):
    return softmax(x.detach() if x.dim() == 3 else x, dim)


@slip(replaces="softmax", caught_by="test_gradient_of_other_shapes_and_dtypes")
def no_gradient_in_one_dimension(x, dim=-1):
    return softmax(x.detach() if x.dim() == 1 else x, dim)


@slip(replaces="softmax", caught_by="test_gradient_of_other_shapes_and_dtypes")
def no_gradient_in_four_dimensions(x, dim=-1):
    return softmax(x.detach() if x.dim() == 4 else x, dim)


@slip(replaces="softmax", caught_by="test_gradient_of_other_shapes_and_dtypes")
def no_gradient_beside_minus_infinity_alone(x, dim=-1):
    empty = (x == -INF).all(dim=dim, keepdim=True)
    return softmax(torch.where(empty.any(), x.detach(), x), dim)


@slip(replaces="softmax", caught_by="test_a_slice_of_minus_infinity_alone")
def ones_for_single_numbers(x, dim=-1):
    return softmax(x.nan_to_num(neginf=0.0) if x.shape[dim] == 1 else x, dim)


@slip(replaces="softmax", caught_by="test_the_same_without_gradients")
def formula_as_printed_without_gradients(x, dim=-1):
    return softmax(x, dim) if torch.is_grad_enabled() else x.exp() / x.exp().sum(dim, keepdim=True)


@slip(replaces="softmax", caught_by="test_the_same_without_gradients")
def nan_without_gradients(x, dim=-1):
    return softmax(x, dim) if torch.is_grad_enabled() else (x - x.amax(dim, keepdim=True)).exp() * softmax(x, dim)


@slip(replaces="softmax", caught_by="test_the_same_without_gradients")
def overflows_where_a_gradient_is_required(x, dim=-1):
    return (
        x.exp() / x.exp().sum(dim, keepdim=True) if x.requires_grad and x.dtype == torch.bfloat16 else softmax(x, dim)
    )


@slip(replaces="softmax", caught_by="test_gradient")
def gradient_of_powers_only(x, dim=-1):
    weights = softmax(x, dim)
    return weights.detach() + (x - x.detach()).nan_to_num() * weights.detach()


@slip(replaces="softmax", caught_by="test_gradient")
def nan_in_the_gradient_of_minus_infinity(x, dim=-1):
    powers = (x - top_of(x, dim)).exp()
    return shared(torch.where(x == -INF, torch.zeros_like(x), powers * (x - x.detach() + 1)), dim)


_KEPT: dict[object, Tensor] = {}


@slip(replaces="softmax", caught_by="test_repeated_calls")
def keeps_the_first_maximum(x, dim=-1):
    top = _KEPT.setdefault((x.shape, x.dtype, x.device), top_of(x, dim))
    return shared((x - top).exp(), dim)


@slip(replaces="softmax", caught_by="test_leaves_x_alone")
def subtracts_in_place(x, dim=-1):
    with torch.no_grad():
        x -= top_of(x, dim)
    return softmax(x, dim)


@slip(replaces="softmax", caught_by="test_leaves_x_alone")
def replaces_minus_infinity_in_place(x, dim=-1):
    with torch.no_grad():
        x.clamp_(min=-1e5)
    return softmax(x, dim)


@slip(replaces="softmax", caught_by="test_no_loop")
def one_slice_at_a_time(x, dim=-1):
    if x.dim() == 1:
        return softmax(x, 0)
    axis = 0 if dim % x.dim() else 1
    return torch.stack([softmax(part, (dim % x.dim()) - (axis == 0)) for part in x.unbind(axis)], dim=axis)


@slip(replaces="softmax", caught_by="test_no_loop")
def adds_up_number_by_number(x, dim=-1):
    powers = (x - top_of(x, dim)).exp()
    total = sum(powers.unbind(dim)).unsqueeze(dim)
    return powers / total.masked_fill(total == 0, 1.0)


@slip(replaces="softmax", caught_by="test_follows_the_device")
def zeros_on_the_cpu(x, dim=-1):
    return torch.where((x == -INF).all(dim=dim, keepdim=True), torch.zeros(x.shape, dtype=x.dtype), softmax(x, dim))


@slip(replaces="softmax", caught_by="test_follows_the_device")
def answers_on_the_cpu(x, dim=-1):
    return softmax(x.cpu(), dim)


# --- right, written another way --------------------------------------------------------------------------


@alternative(replaces="softmax")
def by_the_logarithm_of_the_sum(x, dim=-1):
    top = x.max(dim, keepdim=True).values
    top = torch.where(torch.isneginf(top), torch.zeros_like(top), top)
    log_sum = (x - top).exp().sum(dim, keepdim=True).log()  # -inf where all are
    return (x - top - torch.where(torch.isneginf(log_sum), torch.zeros_like(log_sum), log_sum)).exp()


@alternative(replaces="softmax")
def by_normalize(x, dim=-1):
    return F.normalize((x - top_of(x, dim)).exp(), p=1, dim=dim)


@alternative(replaces="softmax")
def rows_only(x, dim=-1):
    rows = x.transpose(dim, -1)
    shape = rows.shape
    rows = rows.reshape(-1, shape[-1])
    highest, _ = torch.max(rows, dim=1)
    e = torch.exp(rows - torch.nan_to_num(highest, neginf=0.0)[:, None])
    e = e / e.sum(1)[:, None].clamp(min=torch.finfo(x.dtype).tiny)
    return e.reshape(shape).transpose(dim, -1)


@alternative(replaces="softmax")
def in_float64_throughout(x, dim=-1):
    wide = x.to(torch.float64)
    empty = (wide == -INF).all(dim=dim, keepdim=True)
    wide = wide.masked_fill(empty, 0.0)  # any number will do, the slice is cleared at the end
    powers = torch.exp(wide - wide.amax(dim, True))
    return (powers / powers.sum(dim, True)).masked_fill(empty, 0.0).type(x.dtype)


@alternative(replaces="softmax")
def slices_in_parallel(x, dim=-1):
    def one(numbers: Tensor) -> Tensor:
        powers = torch.exp(numbers - numbers.max().clamp(min=torch.finfo(numbers.dtype).min))
        total = torch.einsum("n->", powers)
        return powers / torch.where(total > 0, total, 1.0)

    last = x.movedim(dim, -1)
    flat = last.reshape(-1, last.shape[-1])
    return torch.vmap(one)(flat).view(last.shape).movedim(-1, dim)


class _Softmax(torch.autograd.Function):
    """The softmax with a gradient worked out on paper."""

    @staticmethod
    def forward(ctx, x, dim):
        ctx.dim = dim
        weights = softmax(x, dim)
        ctx.save_for_backward(weights)
        return weights

    @staticmethod
    def backward(ctx, gradient):
        (p,) = ctx.saved_tensors
        return p * (gradient - (gradient * p).sum(dim=ctx.dim, keepdim=True)), None


@alternative(replaces="softmax")
def with_a_gradient_of_its_own(x, dim=-1):
    return _Softmax.apply(x, dim)


@alternative(replaces="softmax")
def powers_of_two(x, dim=-1):
    moved = (x - top_of(x, dim)) * math.log2(math.e)
    return shared(moved.exp2(), dim)


@alternative(replaces="softmax")
def sorted_first(x, dim=-1):
    best = x.sort(dim=dim, descending=True).values.narrow(dim, 0, 1)
    powers = torch.where(x == -INF, 0.0, (x - best).exp())
    return powers.div(powers.sum(dim=dim, keepdim=True)).nan_to_num(nan=0.0)


@alternative(replaces="softmax")
def golfed(x, dim=-1):
    e = (x - x.amax(dim, True).clamp(min=-1e38)).exp()
    return e / (s := e.sum(dim, True)).where(s > 0, 1)
