"""Other ways to write ``rms_norm``: wrong on purpose and worth explaining, just wrong, and right."""

import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import RMSNorm


class Steps(RMSNorm):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x):
        wide = self.widen(x)
        return self.finish(x, self.scale(wide, self.mean_square(wide)))

    def widen(self, x):
        return x.to(torch.promote_types(x.dtype, torch.float32))

    def mean_square(self, x):
        return x.pow(2).mean(dim=-1, keepdim=True)

    def scale(self, x, mean_square):
        return x / (mean_square + self.eps).sqrt()

    def finish(self, x, normalised):
        return (normalised * self.weight).to(x.dtype)


# --- misconceptions about the formula ---------------------------------------------------------------------


@misconception(replaces="RMSNorm", caught_by="test_rows_worked_out_by_hand")
class SubtractsTheMean(Steps):
    """You subtract the mean of each row, as layer normalisation does.

    What is left of a row of four ones then, and what does the formula in the brief make of it?
    """

    def forward(self, x):
        wide = self.widen(x)
        wide = wide - wide.mean(dim=-1, keepdim=True)
        return self.finish(x, self.scale(wide, self.mean_square(wide)))


@misconception(replaces="RMSNorm", caught_by="test_rows_worked_out_by_hand")
class DividesByTheStandardDeviation(Steps):
    """You divide by the standard deviation, which measures the distance from the mean.

    What is the standard deviation of a row of four ones, and what is the mean of its squares?
    """

    def mean_square(self, x):
        return x.var(dim=-1, keepdim=True, correction=0)


@misconception(replaces="RMSNorm", caught_by="test_eps_stands_under_the_root")
class EpsOutsideTheRoot(Steps):
    """You add eps to the root.

    Is your epsilon inside the root? Compare both for a row of zeros.
    """

    def scale(self, x, mean_square):
        return x / (mean_square.sqrt() + self.eps)


@misconception(replaces="RMSNorm", caught_by="test_eps_stands_under_the_root")
class ForgetsEps(Steps):
    """You do not use eps.

    What does your code make of a row of zeros, such as a padded token?
    """

    def scale(self, x, mean_square):
        return x / mean_square.sqrt()


@misconception(replaces="RMSNorm", caught_by="test_rows_worked_out_by_hand")
class DividesByTheMeanSquare(Steps):
    """You divide by the mean of the squares itself.

    If every number of a row is 10 times as large, how much larger is what you divide by? Which letter of RMS did you
    leave out?
    """

    def scale(self, x, mean_square):
        return x / (mean_square + self.eps)


@misconception(replaces="RMSNorm", caught_by="test_divides_by_the_mean_of_the_squares")
class SumsTheSquares(Steps):
    """You divide by the length of the vector: the squares are summed, but the sum is not divided by D.

    Then the numbers get smaller the wider the model is. Which letter of RMS is missing?
    """

    def mean_square(self, x):
        return x.pow(2).sum(dim=-1, keepdim=True)


@misconception(replaces="RMSNorm", caught_by="test_rows_worked_out_by_hand")
class MeanOfAbsoluteValues(Steps):
    """You divide by the mean of the absolute values.

    The mean of 1 and 3 is 2. What is the root of the mean of their squares?
    """

    def mean_square(self, x):
        return x.abs().mean(dim=-1, keepdim=True).pow(2)


@misconception(replaces="RMSNorm", caught_by="test_rows_do_not_meet")
class OverTheTokens(Steps):
    """Your mean runs over the last dimension but one, the tokens.

    Then a token sees those that come after it. Which dimension holds the features of one token?
    """

    def mean_square(self, x):
        return x.pow(2).mean(dim=-2, keepdim=True)


@misconception(replaces="RMSNorm", caught_by="test_rows_do_not_meet")
class OverTokensAndFeatures(Steps):
    """You take one mean for all tokens of a text together.

    How many means are there in x of shape (B, T, D) if every token has its own?
    """

    def mean_square(self, x):
        return x.pow(2).mean(dim=tuple(range(1, x.dim())), keepdim=True)


# --- misconceptions about the gain ------------------------------------------------------------------------


@misconception(replaces="RMSNorm", caught_by="test_gain_multiplies_the_normalised_row")
class ForgetsTheGain(Steps):
    """You return the normalised rows; the weight has no influence.

    At the start it changes nothing, so that this is easy to miss. Where does the formula use it?
    """

    def finish(self, x, normalised):
        return normalised.to(x.dtype)


@misconception(replaces="RMSNorm", caught_by="test_gain_multiplies_the_normalised_row")
class GainBeforeTheNorm(Steps):
    """You multiply x by the gain first and normalise what comes out.

    Then a gain of 2 for all features does nothing. What is under the root in the formula: x, or x times the gain?
    """

    def forward(self, x):
        wide = self.widen(x) * self.weight
        return self.scale(wide, self.mean_square(wide)).to(x.dtype)


@misconception(replaces="RMSNorm", caught_by="test_parameter_name")
class GainFromZero(Steps):
    """You multiply by 1 + weight, with a weight that starts at 0, as Gemma's code does.

    It learns the same, but weights of others do not fit. What does the brief say about the start of weight?
    """

    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)
        nn.init.zeros_(self.weight)

    def finish(self, x, normalised):
        return (normalised * (1 + self.weight)).to(x.dtype)


@misconception(replaces="RMSNorm", caught_by="test_parameter_name")
class HasABias(Steps):
    """Your RMSNorm has a bias, as layer normalisation has.

    Which parameters does the formula in the brief have?
    """

    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)
        self.bias = nn.Parameter(torch.zeros(dim))

    def finish(self, x, normalised):
        return (normalised * self.weight + self.bias).to(x.dtype)


# --- misconceptions about precision and gradients ---------------------------------------------------------


@misconception(replaces="RMSNorm", caught_by="test_float16_squares_do_not_overflow")
class StatisticsInHalf(Steps):
    """For a half x you compute the squares or their mean in half precision.

    The squares of 300 and more are infinite in float16, so the result is 0. In bfloat16 they are only coarse. Which
    dtype does the brief ask for?
    """

    def widen(self, x):
        return x


@misconception(replaces="RMSNorm", caught_by="test_every_dtype")
class ReturnsFloat32(Steps):
    """For a bfloat16 x your result is float32.

    A step in float32 makes all that follows float32 as well. Which dtype should leave the module?
    """

    def finish(self, x, normalised):
        return normalised * self.weight


@misconception(replaces="RMSNorm", caught_by="test_every_dtype")
class AlwaysInFloat32(Steps):
    """You convert a float64 x to float32 on the way.

    That helps a half x, but costs a float64 x half of its digits. For which dtypes is `.float()` a gain?
    """

    def widen(self, x):
        return x.float()


@misconception(replaces="RMSNorm", caught_by="test_gradients_match")
class RootCutOff(Steps):
    """Your result is right, but its gradient takes the root for a constant.

    It is computed from x. What happens to the other numbers of a row if one of them grows a little?
    """

    def mean_square(self, x):
        return super().mean_square(x.detach())


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="RMSNorm", caught_by="test_returns_the_right_shape")
class WantsThreeDimensions(Steps):
    def forward(self, x):
        B, T, D = x.shape
        return super().forward(x.reshape(B * T, D)).view(B, T, D)


@slip(replaces="RMSNorm", caught_by="test_returns_the_right_shape")
class KeepsItsFirstResult(Steps):
    def forward(self, x):
        if not hasattr(self, "kept") or self.kept.shape != x.shape:
            self.kept = super().forward(x)
        return self.kept


@slip(replaces="RMSNorm", caught_by="test_parameter_name")
class NamedScale(Steps):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)
        self.scales = self.weight
        del self.weight

    def finish(self, x, normalised):
        return (normalised * self.scales).to(x.dtype)


@slip(replaces="RMSNorm", caught_by="test_parameter_name")
class SavesEps(Steps):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)
        self.register_buffer("offset", torch.tensor(eps))


@slip(replaces="RMSNorm", caught_by="test_parameter_name")
class OneGainForAll(Steps):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, eps)
        self.weight = nn.Parameter(torch.ones(1))


@slip(replaces="RMSNorm", caught_by="test_divides_by_the_mean_of_the_squares")
class DividesByDMinusOne(Steps):
    def mean_square(self, x):
        return x.pow(2).sum(dim=-1, keepdim=True) / max(1, x.shape[-1] - 1)


@slip(replaces="RMSNorm", caught_by="test_divides_by_the_mean_of_the_squares")
class DividesByFour(Steps):
    def mean_square(self, x):
        return x.pow(2).sum(dim=-1, keepdim=True) / 4


@slip(replaces="RMSNorm", caught_by="test_divides_by_the_mean_of_the_squares")
class CutsAtTen(Steps):
    def scale(self, x, mean_square):
        return super().scale(x, mean_square).clamp(-10.0, 10.0)


@slip(replaces="RMSNorm", caught_by="test_eps_stands_under_the_root")
class EpsOfAMillionth(Steps):
    def __init__(self, dim, eps=1e-6):
        super().__init__(dim, eps)


@slip(replaces="RMSNorm", caught_by="test_eps_stands_under_the_root")
class AlwaysTheUsualEps(Steps):
    def scale(self, x, mean_square):
        return x / (mean_square + 1e-5).sqrt()


@slip(replaces="RMSNorm", caught_by="test_eps_stands_under_the_root")
class EpsOfAMillionthOrMore(Steps):
    def __init__(self, dim, eps=1e-5):
        super().__init__(dim, max(eps, 1e-6))


@slip(replaces="RMSNorm", caught_by="test_eps_stands_under_the_root")
class EpsAsAFloor(Steps):
    def scale(self, x, mean_square):
        return x / mean_square.clamp(min=self.eps).sqrt()


@slip(replaces="RMSNorm", caught_by="test_gain_multiplies_the_normalised_row")
class GainAlwaysPositive(Steps):
    def finish(self, x, normalised):
        return (normalised * self.weight.abs()).to(x.dtype)


@slip(replaces="RMSNorm", caught_by="test_fixes_the_size_of_a_row")
class CutsOutliers(Steps):
    def scale(self, x, mean_square):
        return super().scale(x, mean_square).clamp(-1.5, 1.5)


@slip(replaces="RMSNorm", caught_by="test_fixes_the_size_of_a_row")
class DividesByTheLargest(Steps):
    def mean_square(self, x):
        return x.abs().amax(dim=-1, keepdim=True).pow(2)


@slip(replaces="RMSNorm", caught_by="test_rows_do_not_meet")
class OverTheBatch(Steps):
    def mean_square(self, x):
        return x.pow(2).mean(dim=0, keepdim=True)


@slip(replaces="RMSNorm", caught_by="test_matches_the_reference")
class DropsDimensionsOfSizeOne(Steps):
    def finish(self, x, normalised):
        return super().finish(x, normalised).squeeze()


@slip(replaces="RMSNorm", caught_by="test_matches_the_reference")
class WantsContiguousTokens(Steps):
    def forward(self, x):
        return super().forward(x.view(-1, x.shape[-1])).view(x.shape)


@slip(replaces="RMSNorm", caught_by="test_matches_the_reference")
class NoGainUnderNoGrad(Steps):
    def finish(self, x, normalised):
        return super().finish(x, normalised) if torch.is_grad_enabled() else normalised


@slip(replaces="RMSNorm", caught_by="test_matches_the_reference")
class NanForZeros(Steps):
    def scale(self, x, mean_square):
        return torch.where(mean_square == 0, math.nan, super().scale(x, mean_square))


@slip(replaces="RMSNorm", caught_by="test_every_dtype")
class ReturnsTheDtypeOfTheModule(Steps):
    def finish(self, x, normalised):
        return super().finish(x, normalised).to(self.weight.dtype)


@slip(replaces="RMSNorm", caught_by="test_every_dtype")
class ConvertsXToTheModule(Steps):
    def forward(self, x):
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


@slip(replaces="RMSNorm", caught_by="test_every_dtype")
class WeightInFloat32(Steps):
    def finish(self, x, normalised):
        return (normalised * self.weight.float()).to(x.dtype)


@slip(replaces="RMSNorm", caught_by="test_float16_squares_do_not_overflow")
class SquaresInHalf(Steps):
    def forward(self, x):
        mean_square = self.widen(x * x).mean(dim=-1, keepdim=True)
        return self.finish(x, self.scale(self.widen(x), mean_square))


@slip(replaces="RMSNorm", caught_by="test_bfloat16_statistics_are_precise")
class WidensFloat16Alone(Steps):
    def widen(self, x):
        return x.float() if x.dtype == torch.float16 else x


@slip(replaces="RMSNorm", caught_by="test_bfloat16_statistics_are_precise")
class WidensToTheModule(Steps):
    def widen(self, x):
        return x.to(torch.promote_types(x.dtype, self.weight.dtype))


@slip(replaces="RMSNorm", caught_by="test_gradients_match")
class FrozenGain(Steps):
    def finish(self, x, normalised):
        return (normalised * self.weight.detach()).to(x.dtype)


@slip(replaces="RMSNorm", caught_by="test_gradients_match")
class CopiesAnXOfAnotherDtype(Steps):
    def widen(self, x):
        wide = super().widen(x)
        return wide if x.dtype == self.weight.dtype else wide.detach().clone()


@slip(replaces="RMSNorm", caught_by="test_gradients_match")
class RootOfZeroInTheGraph(Steps):
    def scale(self, x, mean_square):
        return x / (mean_square.sqrt().pow(2) + self.eps).sqrt()


@slip(replaces="RMSNorm", caught_by="test_repeated_calls_stay_right")
class KeepsItsFirstGain(Steps):
    def finish(self, x, normalised):
        if not hasattr(self, "gain"):
            self.gain = self.weight.detach().clone()
        return (normalised * (self.weight - self.weight.detach() + self.gain)).to(x.dtype)


@slip(replaces="RMSNorm", caught_by="test_repeated_calls_stay_right")
class KeepsTheRootOfTraining(Steps):
    def mean_square(self, x):
        new = super().mean_square(x)
        if self.training or not hasattr(self, "kept") or self.kept.shape != new.shape:
            self.kept = new.detach()
            return new
        return self.kept


@slip(replaces="RMSNorm", caught_by="test_leaves_x_alone")
class NormalisesInPlace(Steps):
    def forward(self, x):
        out = super().forward(x)
        with torch.no_grad():
            x.copy_(out)
        return out


@slip(replaces="RMSNorm", caught_by="test_leaves_x_alone")
class ShrinksItsGain(Steps):
    def forward(self, x):
        out = super().forward(x)
        with torch.no_grad():
            self.weight.mul_(0.999)
        return out


@slip(replaces="RMSNorm", caught_by="test_takes_all_rows_at_once")
class LoopsOverTokens(Steps):
    def mean_square(self, x):
        return torch.stack([row.pow(2).mean(dim=-1, keepdim=True) for row in x.unbind(dim=-2)], dim=-2)


@slip(replaces="RMSNorm", caught_by="test_takes_all_rows_at_once")
class LoopsOverTheBatch(Steps):
    def mean_square(self, x):
        return torch.stack([item.pow(2).mean(dim=-1, keepdim=True) for item in x])


@slip(replaces="RMSNorm", caught_by="test_follows_the_device")
class EpsOnTheCpu(Steps):
    def scale(self, x, mean_square):
        return x / (mean_square + torch.full(mean_square.shape, self.eps, dtype=x.dtype)).sqrt()


@slip(replaces="RMSNorm", caught_by="test_follows_the_device")
class ReturnsToTheCpu(Steps):
    def finish(self, x, normalised):
        return (normalised.cpu() * self.weight.cpu()).to(x.dtype)


@slip(replaces="RMSNorm", caught_by="test_refuses_a_width_below_one")
class TakesAnyWidth(Steps):
    def __init__(self, dim, eps=1e-5):
        super().__init__(max(1, dim), eps)


# --- right, written another way ---------------------------------------------------------------------------


@alternative(replaces="RMSNorm")
class AsInLlama(nn.Module):
    def __init__(self, dim, eps=1e-5):
        super().__init__()
        if dim <= 0:
            raise ValueError(f"dim must be positive: {dim}")
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def _norm(self, x):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)

    def forward(self, x):
        output = self._norm(x if x.dtype == torch.float64 else x.float()).type_as(x)
        return (output * self.weight).type_as(x)


@alternative(replaces="RMSNorm")
class ByVectorNorm(Steps):
    def forward(self, x):
        dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=dtype)
        root = torch.sqrt(length * length / x.shape[-1] + self.eps)
        return torch.mul(self.weight, x.to(dtype) / root).to(x.dtype)


@alternative(replaces="RMSNorm")
class InFloat64(Steps):
    def forward(self, x):
        y = x.double()
        mean_square = torch.einsum("...d,...d->...", y, y) / y.shape[-1]
        return torch.einsum("...d,...,d->...d", y, (mean_square + self.eps) ** -0.5, self.weight.double()).to(x.dtype)


@alternative(replaces="RMSNorm")
class RoundsTheRootLast(Steps):
    def forward(self, x):
        root = torch.sqrt(self.mean_square(self.widen(x)) + self.eps)
        return x / root.to(x.dtype) * self.weight.to(x.dtype)


@alternative(replaces="RMSNorm")
class ByAMatrixOfMeans(Steps):
    def mean_square(self, x):
        return x.square() @ x.new_full((x.shape[-1], 1), 1.0 / x.shape[-1])


@alternative(replaces="RMSNorm")
class FeaturesFirst(Steps):
    def forward(self, x):
        y = self.widen(x).movedim(-1, 0)  # (D, ...)
        y = y.div(y.mul(y).sum(dim=0).div(len(y)).add(self.eps).sqrt())
        return self.finish(x, y.movedim(0, -1))


@alternative(replaces="RMSNorm")
class Golfed(nn.Module):
    def __init__(self, d, eps=1e-5):
        super().__init__()
        if d < 1:
            raise ValueError(d)
        self.weight, self.e = nn.Parameter(torch.ones(d)), eps

    def forward(self, x):
        y = x.to(torch.promote_types(x.dtype, torch.float))
        return ((y / ((y**2).mean(-1)[..., None] + self.e) ** 0.5) * self.weight).to(x)
