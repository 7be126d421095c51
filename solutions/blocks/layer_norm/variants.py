"""Other ways to write ``layer_norm``: wrong on purpose and worth explaining, just wrong, and right."""

import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import BatchNorm, LayerNorm


def wide(x):
    return x.to(torch.promote_types(x.dtype, torch.float32))


class Layer(LayerNorm):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x):
        mean = self.mean(wide(x))
        variance = self.variance(wide(x), mean)
        return self.finish(x, self.scale(wide(x) - mean, variance))

    def mean(self, x):
        return x.mean(dim=-1, keepdim=True)

    def variance(self, x, mean):
        return (x - mean).pow(2).mean(dim=-1, keepdim=True)

    def scale(self, centred, variance):
        return centred / (variance + self.eps).sqrt()

    def finish(self, x, normalised):
        return (normalised * self.weight + self.bias).to(x.dtype)


class Batch(BatchNorm):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x):
        if self.training:
            self.look_at(x)
            mean = wide(x).mean(dim=0)
            variance = self.variance(wide(x), mean)
            self.note(mean.detach(), variance.detach(), len(x))
        else:
            mean, variance = self.running_mean, self.running_var
        return self.finish(x, self.scale(wide(x) - mean, variance))

    def look_at(self, x):
        if len(x) == 1:
            raise ValueError("a batch of 1 in training")

    def variance(self, x, mean):
        return (x - mean).pow(2).mean(dim=0)

    def note(self, mean, variance, n):
        self.blend(mean, variance * n / (n - 1), self.momentum)

    def blend(self, mean, variance, share):
        self.running_mean.mul_(1 - share).add_(share * mean)
        self.running_var.mul_(1 - share).add_(share * variance)

    def scale(self, centred, variance):
        return centred / (variance + self.eps).sqrt()

    def finish(self, x, normalised):
        return (normalised * self.weight + self.bias).to(x.dtype)


# --- misconceptions about LayerNorm -----------------------------------------------------------------------


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_by_hand")
class UnbiasedVariance(Layer):
    """Your LayerNorm divides the sum of the squared deviations by D - 1, as torch.var and torch.std do by default.

    That is for estimates from a sample. What does the formula in the brief divide by, and what happens for D = 1?
    """

    def variance(self, x, mean):
        return x.var(dim=-1, keepdim=True)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_eps")
class EpsOutsideTheRoot(Layer):
    """Your LayerNorm adds eps to the standard deviation.

    Is your epsilon inside the root? Compare both for a row whose variance is 0.
    """

    def scale(self, centred, variance):
        return centred / (variance.sqrt() + self.eps)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_eps")
class ForgetsEps(Layer):
    """Your LayerNorm does not use eps.

    What does it make of a row of equal numbers?
    """

    def scale(self, centred, variance):
        return centred / variance.sqrt()


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_by_hand")
class DividesByTheVariance(Layer):
    """Your LayerNorm divides by the variance.

    The result should have a variance of 1. What is the variance of x / c, and which c makes it 1?
    """

    def scale(self, centred, variance):
        return centred / (variance + self.eps)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_by_hand")
class KeepsTheMean(Layer):
    """Your LayerNorm divides by the root, but does not subtract the mean first.

    What should the mean of a normalised row be?
    """

    def forward(self, x):
        variance = self.variance(wide(x), self.mean(wide(x)))
        return self.finish(x, self.scale(wide(x), variance))


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_by_hand")
class VarianceAboutZero(Layer):
    """Your LayerNorm takes the mean of the squares of x, where the squares of its deviations are asked for.

    RMSNorm does that, and subtracts no mean. Add 100 to a row: should the result change?
    """

    def variance(self, x, mean):
        return x.pow(2).mean(dim=-1, keepdim=True)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_rows_do_not_meet")
class LayerOverTheBatch(Layer):
    """Your LayerNorm takes mean and variance over the first dimension, the batch.

    That is what BatchNorm does. Which numbers share a mean here?
    """

    def mean(self, x):
        return x.mean(dim=0, keepdim=True)

    def variance(self, x, mean):
        return (x - mean).pow(2).mean(dim=0, keepdim=True)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_rows_do_not_meet")
class OverTheTokens(Layer):
    """Your LayerNorm takes mean and variance over the last dimension but one, the tokens.

    Then a token sees those that come after it. Which dimension holds the features of one token?
    """

    def mean(self, x):
        return x.mean(dim=-2, keepdim=True)

    def variance(self, x, mean):
        return (x - mean).pow(2).mean(dim=-2, keepdim=True)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_rows_do_not_meet")
class OverTokensAndFeatures(Layer):
    """Your LayerNorm takes one mean and one variance for all tokens of a text together.

    In images that is usual. How many means are there in x of shape (B, T, D) if every token has its own?
    """

    def mean(self, x):
        return x.mean(dim=tuple(range(1, x.dim())), keepdim=True)

    def variance(self, x, mean):
        return (x - mean).pow(2).mean(dim=tuple(range(1, x.dim())), keepdim=True)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_gain_and_bias")
class BiasBeforeGain(Layer):
    """Your LayerNorm adds the bias first and multiplies by the gain afterwards.

    Then the gain multiplies the bias too. In which order does the formula have them?
    """

    def finish(self, x, normalised):
        return ((normalised + self.bias) * self.weight).to(x.dtype)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_gain_and_bias")
class ForgetsGainAndBias(Layer):
    """Your LayerNorm returns the normalised rows; weight and bias have no influence.

    At the start they change nothing, so that this is easy to miss. Where does the formula use them?
    """

    def finish(self, x, normalised):
        return normalised.to(x.dtype)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_names")
class GainFromZero(Layer):
    """Your LayerNorm multiplies by 1 + weight, with a weight that starts at 0, as Gemma's code does.

    It learns the same, but weights of others do not fit. What does the brief say about the start of weight?
    """

    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        nn.init.zeros_(self.weight)

    def finish(self, x, normalised):
        return (normalised * (1 + self.weight) + self.bias).to(x.dtype)


@misconception(replaces="LayerNorm", caught_by="test_layer_norm_gradients")
class StatisticsCutOff(Layer):
    """The result of your LayerNorm is right, but its gradient takes mean and variance for constants.

    They are computed from x. What happens to the result if one number of a row grows a little?
    """

    def forward(self, x):
        mean = self.mean(wide(x).detach())
        variance = self.variance(wide(x).detach(), mean)
        return self.finish(x, self.scale(wide(x) - mean, variance))


# --- misconceptions about BatchNorm -----------------------------------------------------------------------


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_features_do_not_meet")
class BatchOverTheFeatures(Batch):
    """Your BatchNorm takes mean and variance over the features of each item, as LayerNorm does.

    Which numbers share a mean in batch normalisation, and how many means are there for an x of shape (B, F)?
    """

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        self.look_at(x)
        self.note(wide(x).mean(dim=0).detach(), wide(x).var(dim=0, correction=0).detach(), len(x))
        mean = wide(x).mean(dim=1, keepdim=True)
        variance = (wide(x) - mean).pow(2).mean(dim=1, keepdim=True)
        return self.finish(x, self.scale(wide(x) - mean, variance))


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_evaluation_by_hand")
class BatchStatisticsInEvaluation(Batch):
    """Your BatchNorm normalises with the batch at hand in evaluation too.

    Then the answer for one item depends on the others. What are the running values for, and what becomes of a batch of
    one item?
    """

    def forward(self, x):
        if self.training:
            return super().forward(x)
        mean = wide(x).mean(dim=0)
        return self.finish(x, self.scale(wide(x) - mean, self.variance(wide(x), mean)))


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_training_by_hand")
class RunningValuesInTraining(Batch):
    """Your BatchNorm normalises with the running values in training as well.

    Which mean and which variance should the result have in training?
    """

    def forward(self, x):
        if self.training:
            self.look_at(x)
            mean = wide(x).mean(dim=0)
            self.note(mean.detach(), self.variance(wide(x), mean).detach(), len(x))
        return self.finish(x, self.scale(wide(x) - self.running_mean, self.running_var))


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_running_values_by_hand")
class RunningVarianceBiased(Batch):
    """Your BatchNorm notes down the biased variance.

    It normalises with that one, but the running value shall estimate the variance of all data. By what does the brief
    multiply?
    """

    def note(self, mean, variance, n):
        self.blend(mean, variance, self.momentum)


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_training_by_hand")
class UnbiasedInTraining(Batch):
    """Your BatchNorm normalises with the unbiased variance in training.

    There are two variances in this exercise. Which one makes the batch at hand have a variance of 1?
    """

    def variance(self, x, mean):
        return x.var(dim=0)

    def note(self, mean, variance, n):
        self.blend(mean, variance, self.momentum)


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_running_values_by_hand")
class MomentumReversed(Batch):
    """In your BatchNorm momentum is the share of the old running value, as in TensorFlow and in most optimizers.

    Here, how much of a new batch comes in with momentum = 0.1?
    """

    def blend(self, mean, variance, share):
        super().blend(mean, variance, 1 - share)


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_evaluation_by_hand")
class NotesInEvaluation(Batch):
    """Your BatchNorm changes its running values in evaluation too.

    Then the same x gets another answer each time. When should they be noted down?
    """

    def forward(self, x):
        out = super().forward(x)
        if not self.training and len(x) > 1:
            self.note(wide(x).mean(dim=0).detach(), wide(x).var(dim=0, correction=0).detach(), len(x))
        return out


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_running_values_by_hand")
class NotesTheStandardDeviation(Batch):
    """What your BatchNorm notes down in running_var is a standard deviation.

    The root is to be taken where x is normalised. Of what is running_var the name?
    """

    def note(self, mean, variance, n):
        super().note(mean, variance.sqrt(), n)


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_names")
class SavesACounter(Batch):
    """Your BatchNorm saves a count of its batches, as PyTorch's does in `num_batches_tracked`.

    PyTorch needs it only for momentum = None. What does the brief list in state_dict()?
    """

    def __init__(self, n_features, eps=1e-5, momentum=0.1):
        super().__init__(n_features, eps, momentum)
        self.register_buffer("num_batches_tracked", torch.tensor(0))


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_names")
class RunningValuesNotSaved(Batch):
    """Your running values are not in state_dict().

    A model that is loaded would start again with mean 0 and variance 1. How does a module keep tensors that are no
    parameters?
    """

    def __init__(self, n_features, eps=1e-5, momentum=0.1):
        super().__init__(n_features, eps, momentum)
        del self.running_mean, self.running_var
        self.register_buffer("running_mean", torch.zeros(n_features), persistent=False)
        self.register_buffer("running_var", torch.ones(n_features), persistent=False)


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_names")
class RunningValuesAreParameters(Batch):
    """Your running values are parameters.

    An optimizer would get them in its list, and weight decay would shrink them. What is the other kind of tensor that a
    module saves?
    """

    def __init__(self, n_features, eps=1e-5, momentum=0.1):
        super().__init__(n_features, eps, momentum)
        del self.running_mean, self.running_var
        self.running_mean = nn.Parameter(torch.zeros(n_features), requires_grad=False)
        self.running_var = nn.Parameter(torch.ones(n_features), requires_grad=False)


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_gradients")
class BatchStatisticsCutOff(Batch):
    """The result of your BatchNorm is right, but in training its gradient takes mean and variance for constants.

    They are computed from the batch. Which part of the code is kept from the gradient, and which part should be?
    """

    def forward(self, x):
        if not self.training:
            return super().forward(x)
        self.look_at(x)
        mean = wide(x).detach().mean(dim=0)
        variance = self.variance(wide(x).detach(), mean)
        self.note(mean, variance, len(x))
        return self.finish(x, self.scale(wide(x) - mean, variance))


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_refuses_a_single_item_in_training")
class TakesASingleItem(Batch):
    """Your BatchNorm takes a batch of 1 in training.

    Its result would be the bias, whatever x is, and the unbiased variance 0 / 0. What does the brief ask for?
    """

    def look_at(self, x):
        pass

    def note(self, mean, variance, n):
        self.blend(mean, variance * n / max(1, n - 1), self.momentum)


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_refuses_a_single_item_in_training")
class RefusesASingleItemAlways(Batch):
    """Your BatchNorm refuses a batch of 1 in evaluation as well.

    Which statistics are used there, and do they need a second item?
    """

    def forward(self, x):
        self.look_at(x)
        return super().forward(x)


@misconception(replaces="BatchNorm", caught_by="test_batch_norm_eps")
class BatchEpsOutsideTheRoot(Batch):
    """Your BatchNorm adds eps to the standard deviation.

    Is your epsilon inside the root, in both modes?
    """

    def scale(self, centred, variance):
        return centred / (variance.sqrt() + self.eps)


# --- slips in LayerNorm -----------------------------------------------------------------------------------


@slip(replaces="LayerNorm", caught_by="test_layer_norm_shape")
class WantsThreeDimensions(Layer):
    def forward(self, x):
        B, T, D = x.shape
        return super().forward(x.reshape(B * T, D)).view(B, T, D)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_shape")
class KeepsItsFirstResult(Layer):
    def forward(self, x):
        if not hasattr(self, "kept") or self.kept.shape != x.shape:
            self.kept = super().forward(x)
        return self.kept


@slip(replaces="LayerNorm", caught_by="test_layer_norm_names")
class WithoutBias(Layer):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        del self.bias
        self.bias = 0.0


@slip(replaces="LayerNorm", caught_by="test_layer_norm_names")
class NamedGammaAndBeta(Layer):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        self.gamma, self.beta = self.weight, self.bias
        del self.weight, self.bias

    def finish(self, x, normalised):
        return (normalised * self.gamma + self.beta).to(x.dtype)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_names")
class OneGainForAll(Layer):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(d_model, eps)
        self.weight = nn.Parameter(torch.ones(1))


@slip(replaces="LayerNorm", caught_by="test_layer_norm_variance")
class DividesByFour(Layer):
    def variance(self, x, mean):
        return (x - mean).pow(2).sum(dim=-1, keepdim=True) / 4


@slip(replaces="LayerNorm", caught_by="test_layer_norm_variance")
class MeanAbsoluteDeviation(Layer):
    def variance(self, x, mean):
        return (x - mean).abs().mean(dim=-1, keepdim=True).pow(2)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_eps")
class EpsBetweenOneAndTwo(Layer):
    def __init__(self, d_model, eps=1e-6):
        super().__init__(d_model, eps)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_eps")
class AlwaysTheUsualEps(Layer):
    def scale(self, centred, variance):
        return centred / (variance + 1e-5).sqrt()


@slip(replaces="LayerNorm", caught_by="test_layer_norm_eps")
class EpsAsAFloor(Layer):
    def scale(self, centred, variance):
        return centred / variance.clamp(min=self.eps).sqrt()


@slip(replaces="LayerNorm", caught_by="test_layer_norm_gain_and_bias")
class ForgetsTheBias(Layer):
    def finish(self, x, normalised):
        return (normalised * self.weight).to(x.dtype)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_gain_and_bias")
class GainAlwaysPositive(Layer):
    def finish(self, x, normalised):
        return (normalised * self.weight.abs() + self.bias).to(x.dtype)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_forgets_offset_and_size")
class CutsOutliers(Layer):
    def finish(self, x, normalised):
        return super().finish(x, normalised.clamp(-0.9, 2.0))


@slip(replaces="LayerNorm", caught_by="test_layer_norm_forgets_offset_and_size")
class NanForEqualNumbers(Layer):
    def scale(self, centred, variance):
        return torch.where(variance == 0, math.nan, super().scale(centred, variance))


@slip(replaces="LayerNorm", caught_by="test_layer_norm_matches_the_reference")
class DropsDimensionsOfSizeOne(Layer):
    def finish(self, x, normalised):
        return super().finish(x, normalised).squeeze()


@slip(replaces="LayerNorm", caught_by="test_layer_norm_matches_the_reference")
class KnowsFourDimensions(Layer):
    def forward(self, x):
        return super().forward(x.flatten(0, -4) if x.dim() > 4 else x)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_matches_the_reference")
class WantsContiguousTokens(Layer):
    def forward(self, x):
        return super().forward(x.view(-1, x.shape[-1])).view(x.shape)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_matches_the_reference")
class NoGainUnderNoGrad(Layer):
    def finish(self, x, normalised):
        return super().finish(x, normalised) if torch.is_grad_enabled() else normalised


@slip(replaces="LayerNorm", caught_by="test_layer_norm_dtypes")
class AlwaysInFloat32(Layer):
    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_dtypes")
class ReturnsTheWiderDtype(Layer):
    def finish(self, x, normalised):
        return normalised * self.weight + self.bias


@slip(replaces="LayerNorm", caught_by="test_layer_norm_dtypes")
class ReturnsTheDtypeOfTheModule(Layer):
    def finish(self, x, normalised):
        return super().finish(x, normalised).to(self.weight.dtype)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_dtypes")
class ConvertsXToTheModule(Layer):
    def forward(self, x):
        return super().forward(x.to(self.weight.dtype)).to(x.dtype)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_gradients")
class CutsTheMeanOff(Layer):
    def mean(self, x):
        return super().mean(x).detach()


@slip(replaces="LayerNorm", caught_by="test_layer_norm_gradients")
class FrozenGain(Layer):
    def finish(self, x, normalised):
        return (normalised * self.weight.detach() + self.bias).to(x.dtype)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_gradients")
class RootOfZeroInTheGraph(Layer):
    def scale(self, centred, variance):
        return centred / (variance.sqrt().pow(2) + self.eps).sqrt()


@slip(replaces="LayerNorm", caught_by="test_layer_norm_manners")
class CentresInPlace(Layer):
    def forward(self, x):
        out = super().forward(x)
        with torch.no_grad():
            x -= self.mean(x)
        return out


@slip(replaces="LayerNorm", caught_by="test_layer_norm_manners")
class LoopsOverTokens(Layer):
    def mean(self, x):
        return torch.stack([row.mean(dim=-1, keepdim=True) for row in x.unbind(dim=-2)], dim=-2)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_manners")
class LayerLoopsOverTheBatch(Layer):
    def mean(self, x):
        return torch.stack([item.mean(dim=-1, keepdim=True) for item in x])


@slip(replaces="LayerNorm", caught_by="test_layer_norm_manners")
class KeepsItsFirstGain(Layer):
    def finish(self, x, normalised):
        if not hasattr(self, "gain"):
            self.gain = self.weight.detach().clone()
        return (normalised * (self.weight - self.weight.detach() + self.gain) + self.bias).to(x.dtype)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_manners")
class KeepsItsGainForInference(Layer):
    def finish(self, x, normalised):
        if self.training or torch.is_grad_enabled():
            return super().finish(x, normalised)
        if not hasattr(self, "gain") or self.gain.dtype != self.weight.dtype:
            self.gain = self.weight.clone()
        return (normalised * self.gain + self.bias).to(x.dtype)


@slip(replaces="LayerNorm", caught_by="test_layer_norm_manners")
class StatisticsOnTheCpu(Layer):
    def variance(self, x, mean):
        return super().variance(x.cpu(), mean.cpu())


@slip(replaces="LayerNorm", caught_by="test_refuses_sizes_below_one")
class TakesAnyWidth(Layer):
    def __init__(self, d_model, eps=1e-5):
        super().__init__(max(1, d_model), eps)


# --- slips in BatchNorm -----------------------------------------------------------------------------------


@slip(replaces="BatchNorm", caught_by="test_batch_norm_shape")
class OneNumberForEachItem(Batch):
    def finish(self, x, normalised):
        return super().finish(x, normalised).mean(dim=1, keepdim=True)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_names")
class RunningVarianceFromZero(Batch):
    def __init__(self, n_features, eps=1e-5, momentum=0.1):
        super().__init__(n_features, eps, momentum)
        self.running_var.zero_()


@slip(replaces="BatchNorm", caught_by="test_batch_norm_training_by_hand")
class BatchForgetsGainAndBias(Batch):
    def finish(self, x, normalised):
        return normalised.to(x.dtype)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_evaluation_by_hand")
class NoGainInEvaluation(Batch):
    def finish(self, x, normalised):
        return super().finish(x, normalised) if self.training else normalised.to(x.dtype)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_running_values_by_hand")
class ForgetsToNote(Batch):
    def note(self, mean, variance, n):
        pass


@slip(replaces="BatchNorm", caught_by="test_batch_norm_running_values_by_hand")
class NotesTheFirstBatchAlone(Batch):
    def note(self, mean, variance, n):
        if not hasattr(self, "noted"):
            super().note(mean, variance, n)
        self.noted = True


@slip(replaces="BatchNorm", caught_by="test_batch_norm_running_values_by_hand")
class FirstBatchReplacesTheStart(Batch):
    def note(self, mean, variance, n):
        self.blend(mean, variance * n / (n - 1), self.momentum if hasattr(self, "noted") else 1.0)
        self.noted = True


@slip(replaces="BatchNorm", caught_by="test_batch_norm_running_values_by_hand")
class AlwaysOneTenth(Batch):
    def note(self, mean, variance, n):
        self.blend(mean, variance * n / (n - 1), 0.1)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_running_values_by_hand")
class MomentumOfZeroIsNoMomentum(Batch):
    def note(self, mean, variance, n):
        self.blend(mean, variance * n / (n - 1), self.momentum or 0.1)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_running_values_by_hand")
class NotesVarianceWithEps(Batch):
    def note(self, mean, variance, n):
        super().note(mean, variance + self.eps, n)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_eps")
class NoEpsInEvaluation(Batch):
    def scale(self, centred, variance):
        return centred / (variance + self.eps * self.training).sqrt()


@slip(replaces="BatchNorm", caught_by="test_batch_norm_eps")
class BatchEpsOfAMillionth(Batch):
    def __init__(self, n_features, eps=1e-6, momentum=0.1):
        super().__init__(n_features, eps, momentum)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_features_do_not_meet")
class OneVarianceForAllFeatures(Batch):
    def variance(self, x, mean):
        return super().variance(x, mean).mean().expand(x.shape[1])


@slip(replaces="BatchNorm", caught_by="test_batch_norm_matches_the_reference")
class NotesOnlyWithGrad(Batch):
    def note(self, mean, variance, n):
        if torch.is_grad_enabled():
            super().note(mean, variance, n)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_matches_the_reference")
class KeepsItsFirstBatchSize(Batch):
    def note(self, mean, variance, n):
        if not hasattr(self, "n"):
            self.n = n
        super().note(mean, variance, self.n)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_matches_the_reference")
class BatchWantsContiguousItems(Batch):
    def forward(self, x):
        return super().forward(x.view(-1).view(x.shape))


@slip(replaces="BatchNorm", caught_by="test_batch_norm_dtypes")
class BatchAlwaysInFloat32(Batch):
    def forward(self, x):
        return super().forward(x.float()).to(x.dtype)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_dtypes")
class RunningValuesInFloat32(Batch):
    def blend(self, mean, variance, share):
        super().blend(mean.float(), variance.float(), share)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_dtypes")
class BatchReturnsTheWiderDtype(Batch):
    def finish(self, x, normalised):
        return normalised * self.weight + self.bias


@slip(replaces="BatchNorm", caught_by="test_batch_norm_gradients")
class GradientThroughRunningMean(Batch):
    def forward(self, x):
        if self.training:
            return super().forward(x)
        return self.finish(x, self.scale(wide(x).detach() - self.running_mean, self.running_var) + 0 * x)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_running_values_need_no_gradient")
class NotesWithItsGraph(Batch):
    def forward(self, x):
        if self.training and len(x) > 1:
            mean = wide(x).mean(dim=0)
            m, variance = self.momentum, wide(x).var(dim=0)
            out = super().forward(x)
            dtype = self.weight.dtype
            self.running_mean = (self.running_mean - m * mean.detach() + m * mean).to(dtype)
            self.running_var = (self.running_var - m * variance.detach() + m * variance).to(dtype)
            return out
        return super().forward(x)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_manners")
class BatchCentresInPlace(Batch):
    def forward(self, x):
        out = super().forward(x)
        with torch.no_grad():
            x -= x.mean(dim=0)
        return out


@slip(replaces="BatchNorm", caught_by="test_batch_norm_manners")
class BatchLoopsOverTheBatch(Batch):
    def finish(self, x, normalised):
        return torch.stack([super(BatchLoopsOverTheBatch, self).finish(x, row) for row in normalised])


_SHARED: dict[int, torch.Tensor] = {}


@slip(replaces="BatchNorm", caught_by="test_batch_norm_manners")
class SharesItsRunningMean(Batch):
    def note(self, mean, variance, n):
        super().note(mean, variance, n)
        _SHARED[len(mean)] = self.running_mean.clone()

    def forward(self, x):
        kept = _SHARED.get(x.shape[1])
        if not self.training and kept is not None and kept.device == x.device:
            self.running_mean.copy_(kept)
        return super().forward(x)


@slip(replaces="BatchNorm", caught_by="test_batch_norm_manners")
class KeepsItsFactorForInference(Batch):
    def forward(self, x):
        if self.training or torch.is_grad_enabled():
            self.factor = None
            return super().forward(x)
        if self.factor is None:
            self.factor = self.weight / (self.running_var + self.eps).sqrt()
        return ((wide(x) - self.running_mean) * self.factor + self.bias).to(x.dtype)

    factor = None


@slip(replaces="BatchNorm", caught_by="test_batch_norm_manners")
class NotesOnTheCpu(Batch):
    def note(self, mean, variance, n):
        self.running_mean = self.running_mean.cpu()
        self.running_var = self.running_var.cpu()
        super().note(mean.cpu(), variance.cpu(), n)


@slip(replaces="BatchNorm", caught_by="test_refuses_sizes_below_one")
class BatchTakesAnyWidth(Batch):
    def __init__(self, n_features, eps=1e-5, momentum=0.1):
        super().__init__(max(1, n_features), eps, momentum)


# --- right, written another way ---------------------------------------------------------------------------


@alternative(replaces="LayerNorm")
class ByVarMean(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        if d_model <= 0:
            raise ValueError(f"d_model must be positive: {d_model}")
        self.register_parameter("bias", nn.Parameter(torch.zeros(d_model)))
        self.register_parameter("weight", nn.Parameter(torch.ones(d_model)))
        self.eps = eps

    def forward(self, x):
        dtype = x.dtype
        if dtype == torch.bfloat16:
            x = x.float()
        variance, mean = torch.var_mean(x, dim=-1, correction=0, keepdim=True)
        return torch.addcmul(self.bias, (x - mean) * torch.rsqrt(variance + self.eps), self.weight).to(dtype)


@alternative(replaces="LayerNorm")
class BySquaresMinusSquare(Layer):
    def variance(self, x, mean):
        return ((x * x).mean(dim=-1, keepdim=True) - mean * mean).clamp(min=0.0)


@alternative(replaces="LayerNorm")
class InFloat64(Layer):
    def forward(self, x):
        D = x.shape[-1]
        y = x.double()
        centring = torch.eye(D, dtype=y.dtype, device=x.device) - 1.0 / D  # (D, D)
        y = y @ centring
        y = y * (torch.einsum("...d,...d->...", y, y)[..., None] / D + self.eps) ** -0.5
        return torch.einsum("...d,d->...d", y, self.weight.double()).add(self.bias.double()).to(x)


@alternative(replaces="LayerNorm")
class ByRmsNorm(Layer):
    def forward(self, x):
        y = wide(x)
        y = nn.functional.rms_norm(y - y.mean(-1, keepdim=True), y.shape[-1:], eps=self.eps)
        return (self.weight * y + self.bias).type_as(x)


@alternative(replaces="LayerNorm")
class InTheDtypeOfX(Layer):
    def forward(self, x):
        mean = x.sum(-1, keepdim=True) / x.size(-1)
        root = ((x - mean).square().sum(-1, keepdim=True) / x.size(-1) + self.eps).sqrt()
        return self.weight.to(x.dtype) * ((x - mean) / root) + self.bias.to(x.dtype)


@alternative(replaces="LayerNorm")
class AsOneProduct(Layer):
    """As PyTorch's own kernel does it: a factor and a shift for every row."""

    def forward(self, x):
        mean = self.mean(wide(x))
        factor = (self.variance(wide(x), mean) + self.eps).rsqrt()
        return self.finish(x, wide(x) * factor - mean * factor)


@alternative(replaces="LayerNorm")
class Golfed(nn.Module):
    def __init__(self, d_model, eps=1e-5):
        super().__init__()
        if d_model < 1:
            raise ValueError("d_model")
        self.weight, self.bias, self.e = nn.Parameter(torch.ones(d_model)), nn.Parameter(torch.zeros(d_model)), eps

    def forward(self, x):
        c = (y := wide(x)) - y.mean(-1)[..., None]
        return (c / ((c**2).mean(-1) + self.e)[..., None] ** 0.5 * self.weight + self.bias).to(x)


@alternative(replaces="BatchNorm")
class BatchByVarMean(nn.Module):
    def __init__(self, n_features, eps=1e-5, momentum=0.1):
        super().__init__()
        if n_features <= 0:
            raise ValueError(f"n_features must be positive: {n_features}")
        self.eps, self.momentum = eps, momentum
        self.register_buffer("running_var", torch.ones(n_features))
        self.register_buffer("running_mean", torch.zeros(n_features))
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))

    def forward(self, x):
        dtype = x.dtype
        if dtype == torch.bfloat16:
            x = x.float()
        if not self.training:
            return ((x - self.running_mean) * (self.running_var + self.eps).rsqrt() * self.weight + self.bias).to(dtype)
        if x.shape[0] < 2:
            raise ValueError("at least two items in training")
        variance, mean = torch.var_mean(x, dim=0, correction=0)
        with torch.no_grad():
            for name, new in ("running_mean", mean), ("running_var", x.var(dim=0)):
                old = getattr(self, name)
                setattr(self, name, ((1 - self.momentum) * old + self.momentum * new).to(old.dtype))
        return ((x - mean) * (variance + self.eps).rsqrt() * self.weight + self.bias).to(dtype)


@alternative(replaces="BatchNorm")
class ByTransposing(Batch):
    def forward(self, x):
        if not self.training:
            return super().forward(x)
        self.look_at(x)
        columns = wide(x).T.contiguous()  # (F, B)
        mean = columns.mean(dim=1, keepdim=True)
        variance = columns.square().mean(dim=1, keepdim=True) - mean.square()
        self.note(mean.detach()[:, 0], variance.detach()[:, 0], x.shape[0])
        return self.finish(x, self.scale(columns - mean, variance).T)


@alternative(replaces="BatchNorm")
class FeatureByFeature(Batch):
    def forward(self, x):
        if not self.training:
            return super().forward(x)
        self.look_at(x)
        means, variances, columns = [], [], []
        for column in wide(x).unbind(dim=1):
            mean = column.mean()
            variance = (column - mean).pow(2).mean()
            columns.append((column - mean) / (variance + self.eps).sqrt())
            means.append(mean.detach())
            variances.append(variance.detach())
        self.note(torch.stack(means), torch.stack(variances), len(x))
        return self.finish(x, torch.stack(columns, dim=1))


@alternative(replaces="BatchNorm")
class BatchInFloat64(Batch):
    def forward(self, x):
        y = x.double()
        mean, variance = self.running_mean.double(), self.running_var.double()
        if self.training:
            self.look_at(x)
            mean, variance = y.mean(dim=0), y.var(dim=0, unbiased=False)
            self.running_mean.data = torch.lerp(self.running_mean.double(), mean.data, self.momentum).to(self.weight)
            old, new = self.running_var.double(), y.data.var(dim=0, unbiased=True)
            self.running_var.data = torch.lerp(old, new, self.momentum).to(self.weight)
        factor = self.weight.double() / torch.sqrt(variance + self.eps)
        return (y * factor + (self.bias.double() - mean * factor)).to(x.dtype)


@alternative(replaces="BatchNorm")
class BatchInTheDtypeOfX(Batch):
    def forward(self, x):
        if self.training:
            self.look_at(x)
            mean, variance = x.mean(0, keepdim=True), x.var(0, keepdim=True, correction=0)
            self.note(mean.detach()[0], variance.detach()[0], x.size(0))
        else:
            mean, variance = self.running_mean.to(x.dtype), self.running_var.to(x.dtype)
        root = torch.sqrt(variance + self.eps)
        return (x - mean) / root * self.weight.to(x.dtype) + self.bias.to(x.dtype)


@alternative(replaces="BatchNorm")
class BatchAsOneProduct(Batch):
    """As it is folded into the layer before: a factor and a shift for every feature."""

    def forward(self, x):
        mean, variance = self.running_mean, self.running_var
        if self.training:
            self.look_at(x)
            variance, mean = torch.var_mean(wide(x), dim=0, correction=0)
            self.note(mean.detach(), variance.detach(), len(x))
        factor = self.weight * (variance + self.eps).rsqrt()
        return (wide(x) * factor + (self.bias - mean * factor)).to(x.dtype)
