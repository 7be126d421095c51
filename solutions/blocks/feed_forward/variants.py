"""Other ways to write GELU and the feed-forward network: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import FeedForward, gelu

ROOT = math.sqrt(2 / math.pi)


class Steps(FeedForward):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x):
        return self.finish(self.w2(self.drop(self.activate(self.w1(self.start(x))))))

    def start(self, x):
        return x

    def activate(self, hidden):
        return torch.relu(hidden)

    def drop(self, hidden):
        return nn.functional.dropout(hidden, self.dropout, self.training)

    def finish(self, out):
        return out


# --- misconceptions about gelu ------------------------------------------------------------------------------


@misconception(replaces="gelu", caught_by="test_tanh_form_by_hand")
def approximated_by_a_sigmoid(x, approximate=False):
    """Your approximation of gelu is x * sigmoid(1.702 x).

    The same paper offers it, as the coarser of two. Which function stands in the formula of the tanh form?
    """
    return x * torch.sigmoid(1.702 * x) if approximate else gelu(x)


@misconception(replaces="gelu", caught_by="test_tanh_form_by_hand")
def always_exact(x, approximate=False):
    """Your gelu gives the exact form with approximate=True, too.

    The two are close, and not the same: a model that was trained with one should be run with it. What is gelu(1) in the
    tanh form?
    """
    return gelu(x)


@misconception(replaces="gelu", caught_by="test_gelu_by_hand")
def always_the_tanh_form(x, approximate=False):
    """Your gelu gives the tanh form with approximate=False, too.

    The exact gelu(1) is the probability that a standard normal number lies below 1. Which function of PyTorch gives
    that?
    """
    return gelu(x, True)


@misconception(replaces="gelu", caught_by="test_gelu_by_hand")
def flag_inverted(x, approximate=False):
    """Your two forms of gelu are exchanged.

    Which of them is asked for when the caller says nothing?
    """
    return gelu(x, not approximate)


@misconception(replaces="gelu", caught_by="test_gelu_by_hand")
def erf_without_the_root(x, approximate=False):
    """Your exact gelu takes erf(x).

    The error function belongs to a normal distribution with variance 1/2. By what has x to be divided, so that the
    variance is 1?
    """
    return gelu(x, True) if approximate else 0.5 * x * (1 + torch.erf(x))


@misconception(replaces="gelu", caught_by="test_gelu_by_hand")
def probability_alone(x, approximate=False):
    """Your gelu returns the probability that a standard normal number lies below x, so all results lie within 0 and 1.

    What is weighed by this probability?
    """
    inner = ROOT * (x + 0.044715 * x**3)
    return 0.5 * (1 + (torch.tanh(inner) if approximate else torch.erf(x / math.sqrt(2))))


@misconception(replaces="gelu", caught_by="test_gelu_by_hand")
def twice_as_large(x, approximate=False):
    """Your gelu is twice as large as it should be.

    1 + erf(z) runs from 0 to 2. From where to where does a probability run?
    """
    return 2 * gelu(x, approximate)


@misconception(replaces="gelu", caught_by="test_tanh_form_by_hand")
def cube_outside_the_brackets(x, approximate=False):
    """In your tanh form the factor sqrt(2 / pi) belongs to x alone, and the cube is added as it is.

    Which terms stand within the brackets that it multiplies?
    """
    return 0.5 * x * (1 + torch.tanh(ROOT * x + 0.044715 * x**3)) if approximate else gelu(x)


@misconception(replaces="gelu", caught_by="test_tanh_form_by_hand")
def without_the_cube(x, approximate=False):
    """Your tanh form takes tanh(sqrt(2 / pi) x), without a cube.

    That has the right slope at 0, but grows too slowly. Which term bends it towards the error function?
    """
    return 0.5 * x * (1 + torch.tanh(ROOT * x)) if approximate else gelu(x)


@misconception(replaces="gelu", caught_by="test_tanh_form_by_hand")
def root_turned_over(x, approximate=False):
    """Your tanh form has the factor sqrt(pi / 2).

    Near 0 the tanh must grow like erf(x / sqrt(2)), whose slope there is 2 / sqrt(2 pi). Is that above 1 or below 1?
    """
    return 0.5 * x * (1 + torch.tanh((x + 0.044715 * x**3) / ROOT)) if approximate else gelu(x)


@misconception(replaces="gelu", caught_by="test_gelu_by_hand")
def silu_for_gelu(x, approximate=False):
    """Your gelu is x * sigmoid(x), which is SiLU.

    The two look alike. By which probability does GELU weigh a number?
    """
    return x * torch.sigmoid(x)


# --- misconceptions about the network -----------------------------------------------------------------------


@misconception(replaces="FeedForward", caught_by="test_relu_stands_between_the_layers")
class GeluInTheNetwork(Steps):
    """Your network has a GELU between its layers.

    BERT and GPT-2 have it there. Which activation does the brief name for FeedForward?
    """

    def activate(self, hidden):
        return gelu(hidden)


@misconception(replaces="FeedForward", caught_by="test_relu_stands_between_the_layers")
class NoActivation(Steps):
    """Your network has no activation between its layers.

    Two linear layers in a row are one linear layer. What stands between them?
    """

    def activate(self, hidden):
        return hidden


@misconception(replaces="FeedForward", caught_by="test_relu_stands_between_the_layers")
class ReluAtTheEndToo(Steps):
    """Your output has no negative numbers: there is a ReLU after w2, too.

    A block adds this output to its input. What could it never do if the output were never negative?
    """

    def finish(self, out):
        return torch.relu(out)


@misconception(replaces="FeedForward", caught_by="test_relu_stands_between_the_layers")
class ReluAfterTheSecondLayer(Steps):
    """Your ReLU stands after w2 and not between the layers.

    Which of the two lines of the formula does it belong to?
    """

    def activate(self, hidden):
        return hidden

    def finish(self, out):
        return torch.relu(out)


@misconception(replaces="FeedForward", caught_by="test_relu_stands_between_the_layers")
class ReluBeforeTheFirstLayer(Steps):
    """Your ReLU acts on the input, before w1.

    Negative features of a token are lost then before anything has looked at them. Which numbers does the brief call
    hidden?
    """

    def start(self, x):
        return torch.relu(x)

    def activate(self, hidden):
        return hidden


@misconception(replaces="FeedForward", caught_by="test_network_by_hand")
class AddsTheResidual(Steps):
    """You add x to the output.

    The block around this network does that. What does FeedForward itself return when w2 is all zeros?
    """

    def forward(self, x):
        return x + super().forward(x)


@misconception(replaces="FeedForward", caught_by="test_parameter_names")
class LayersWithoutBias(Steps):
    """Your layers have no biases, as Llama's have none.

    Both are sound, but these weights must be exchanged with others. What does nn.Linear(D, F) hold?
    """

    def __init__(self, d_model, d_ff, dropout=0.0):
        super().__init__(d_model, d_ff, dropout)
        self.w1, self.w2 = nn.Linear(d_model, d_ff, bias=False), nn.Linear(d_ff, d_model, bias=False)


# --- misconceptions about dropout ---------------------------------------------------------------------------


@misconception(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class DropsTheOutput(Steps):
    """Your dropout acts on the output, after w2.

    In the blocks of the paper there is a dropout in that place as well, but it belongs to the block. Where does this
    network have its own?
    """

    def drop(self, hidden):
        return hidden

    def finish(self, out):
        return nn.functional.dropout(out, self.dropout, self.training)


@misconception(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class DropsTheInput(Steps):
    """Your dropout acts on x, before w1.

    Which features are to be dropped, those of the token or the hidden ones?
    """

    def start(self, x):
        return nn.functional.dropout(x, self.dropout, self.training)

    def drop(self, hidden):
        return hidden


@misconception(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class DropsTwice(Steps):
    """Your dropout acts twice, on the hidden features and on the output.

    The second one belongs to the block around this network. Which one is asked for here?
    """

    def finish(self, out):
        return nn.functional.dropout(out, self.dropout, self.training)


@misconception(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class ForgetsDropout(Steps):
    """Your network drops nothing in training.

    Which argument of __init__ has not been used?
    """

    def drop(self, hidden):
        return hidden


@misconception(replaces="FeedForward", caught_by="test_dropout_in_eval_and_afresh")
class DropsInEvalToo(Steps):
    """Your dropout acts in eval mode, too.

    nn.Dropout knows its mode from its parent. How would F.dropout know?
    """

    def drop(self, hidden):
        return nn.functional.dropout(hidden, self.dropout)


@misconception(replaces="FeedForward", caught_by="test_dropout_keeps_the_average")
class KeepsWithoutGrowing(Steps):
    """You set hidden features to 0 in training and leave the others as they are.

    The sum that w2 takes is then smaller in training than in evaluation. By which factor, on average?
    """

    def drop(self, hidden):
        return super().drop(hidden) * (1 - self.dropout) if self.training else hidden


@misconception(replaces="FeedForward", caught_by="test_dropout_keeps_the_average")
class ShrinksInEval(Steps):
    """You leave the kept features as they are in training, and shrink all of them in evaluation.

    The first dropout paper did so. Which of the two modes should know nothing of dropout, so that a model can be used
    without it?
    """

    def drop(self, hidden):
        keep = 1 - self.dropout
        return super().drop(hidden) * keep if self.training else hidden * keep


@misconception(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class DropoutIsWhatIsKept(Steps):
    """You take dropout for the probability with which a feature is kept.

    With dropout = 0.1, how many of 100 hidden features should be left?
    """

    def drop(self, hidden):
        return nn.functional.dropout(hidden, 1 - self.dropout, self.training) if self.dropout else hidden


# --- slips in gelu ------------------------------------------------------------------------------------------


@slip(replaces="gelu", caught_by="test_gelu_keeps_the_shape")
def flattens(x, approximate=False):
    return gelu(x, approximate).flatten()


@slip(replaces="gelu", caught_by="test_gelu_of_opposite_numbers")
def relu_for_gelu_times_a_bit(x, approximate=False):
    return x.relu() + 0.01 * x.clamp(max=0.0)


@slip(replaces="gelu", caught_by="test_gelu_of_large_numbers")
def tanh_by_powers(x, approximate=False):
    z = ROOT * (x + 0.044715 * x**3)
    return 0.5 * x * (1 + (z.exp() - (-z).exp()) / (z.exp() + (-z).exp())) if approximate else gelu(x)


@slip(replaces="gelu", caught_by="test_gelu_of_large_numbers")
def erf_by_a_series(x, approximate=False):
    z = x / math.sqrt(2)
    series = sum((-1) ** n * z ** (2 * n + 1) / (math.factorial(n) * (2 * n + 1)) for n in range(40))
    return gelu(x, True) if approximate else 0.5 * x * (1 + 2 / math.sqrt(math.pi) * series)


@slip(replaces="gelu", caught_by="test_gelu_matches_the_reference")
def erf_of_a_handbook(x, approximate=False):
    t = 1 / (1 + 0.47047 * x.abs() / math.sqrt(2))  # off by up to 2.5e-5
    erf = 1 - (0.3480242 * t - 0.0958798 * t**2 + 0.7478556 * t**3) * torch.exp(-(x**2) / 2)
    return gelu(x, True) if approximate else 0.5 * x * (1 + erf * x.sign())


@slip(replaces="gelu", caught_by="test_tanh_form_by_hand")
def cube_for_another_constant(x, approximate=False):
    return 0.5 * x * (1 + torch.tanh(ROOT * (x + 0.04715 * x**3))) if approximate else gelu(x)


@slip(replaces="gelu", caught_by="test_gelu_matches_the_reference")
def rounds_to_float32(x, approximate=False):
    return gelu(x.float(), approximate).to(x.dtype)


@slip(replaces="gelu", caught_by="test_gelu_matches_the_reference")
def rounds_the_inner_term_to_float32(x, approximate=False):
    if not approximate:
        return 0.5 * x * (1 + torch.erf((x / math.sqrt(2)).float()).to(x.dtype))
    return 0.5 * x * (1 + torch.tanh((ROOT * (x + 0.044715 * x**3)).float()).to(x.dtype))


@slip(replaces="gelu", caught_by="test_gelu_matches_the_reference")
def coarser_under_no_grad(x, approximate=False):
    return gelu(x, approximate) if torch.is_grad_enabled() else x * torch.sigmoid(1.702 * x)


@slip(replaces="gelu", caught_by="test_gelu_of_bfloat16")
def returns_float32(x, approximate=False):
    return gelu(x.float(), approximate) if x.dtype == torch.bfloat16 else gelu(x, approximate)


@slip(replaces="gelu", caught_by="test_gelu_gradients")
def detaches_the_probability(x, approximate=False):
    right = gelu(x.detach(), approximate)
    return x * torch.where(x == 0, torch.full_like(x, 0.5), right / x.detach())


@slip(replaces="gelu", caught_by="test_gelu_gradients")
def takes_a_root_on_the_way(x, approximate=False):
    size = (x * x).sqrt()  # its slope at 0 is NaN
    return gelu(size, approximate) - torch.where(x < 0, size, 0.0)


@slip(replaces="gelu", caught_by="test_gelu_gradients")
def by_numbers(x, approximate=False):
    return torch.tensor([math.erf(number) for number in x.flatten().tolist()]).view(x.shape).to(x) * 0 + gelu(
        x.detach()
    )


@slip(replaces="gelu", caught_by="test_leaves_the_inputs_alone")
def halves_in_place(x, approximate=False):
    with torch.no_grad():
        out = gelu(x, approximate)
        x.mul_(0.5)
    return out if not x.requires_grad else gelu(2 * x, approximate)


@slip(replaces="gelu", caught_by="test_no_loops")
def row_by_row(x, approximate=False):
    return torch.stack([gelu(row, approximate) for row in x]) if x.dim() else gelu(x, approximate)


@slip(replaces="gelu", caught_by="test_follows_the_device")
def makes_its_constant_on_the_cpu(x, approximate=False):
    return gelu(x, approximate) * torch.ones(x.shape[-1:], dtype=x.dtype)


_KEPT = {}


@slip(replaces="gelu", caught_by="test_repeated_calls")
def keeps_its_answers(x, approximate=False):
    return _KEPT.setdefault((x.shape, x.dtype, approximate), gelu(x, approximate))


# --- slips in the network -----------------------------------------------------------------------------------


@slip(replaces="FeedForward", caught_by="test_network_shapes")
class ReturnsTheHiddenFeatures(Steps):
    def forward(self, x):
        return self.activate(self.w1(x))


@slip(replaces="FeedForward", caught_by="test_parameter_names")
class OtherNames(FeedForward):
    def __init__(self, d_model, d_ff, dropout=0.0):
        nn.Module.__init__(self)
        self.net = nn.Sequential(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_ff, d_model))

    def forward(self, x):
        return self.net(x)


@slip(replaces="FeedForward", caught_by="test_parameter_names")
class KeepsABuffer(Steps):
    def __init__(self, d_model, d_ff, dropout=0.0):
        super().__init__(d_model, d_ff, dropout)
        self.register_buffer("rate", torch.tensor(dropout))


@slip(replaces="FeedForward", caught_by="test_network_by_hand")
class SwapsTheColumns(Steps):
    def start(self, x):
        return x.flip(-1)


@slip(replaces="FeedForward", caught_by="test_relu_stands_between_the_layers")
class LeakyRelu(Steps):
    def activate(self, hidden):
        return nn.functional.leaky_relu(hidden, 0.01)


@slip(replaces="FeedForward", caught_by="test_relu_stands_between_the_layers")
class CutsWhatIsSmall(Steps):
    def activate(self, hidden):
        return nn.functional.threshold(hidden, 1e-3, 0.0)


@slip(replaces="FeedForward", caught_by="test_relu_stands_between_the_layers")
class ReluUpToSix(Steps):
    def activate(self, hidden):
        return hidden.clamp(0.0, 6.0)


@slip(replaces="FeedForward", caught_by="test_biases_count")
class ForgetsTheSecondBias(Steps):
    def finish(self, out):
        return out - self.w2.bias


@slip(replaces="FeedForward", caught_by="test_tokens_do_not_meet")
class CentresOverTheTokens(Steps):
    def start(self, x):
        return x - x.mean(dim=1, keepdim=True)


@slip(replaces="FeedForward", caught_by="test_matches_the_reference")
class ViewsAContiguousInput(Steps):
    def start(self, x):
        return x.view(-1, x.shape[-1]).view(x.shape)


@slip(replaces="FeedForward", caught_by="test_matches_the_reference")
class SqueezesWhatIsOne(Steps):
    def finish(self, out):
        return out.squeeze(-1)


@slip(replaces="FeedForward", caught_by="test_float64")
class RoundsToFloat32(Steps):
    def activate(self, hidden):
        return torch.relu(hidden.float()).to(hidden.dtype)


@slip(replaces="FeedForward", caught_by="test_bfloat16")
class ReturnsFloat32(Steps):
    def finish(self, out):
        return out.float() if out.dtype == torch.bfloat16 else out


@slip(replaces="FeedForward", caught_by="test_gradients")
class DetachesTheHiddenFeatures(Steps):
    def activate(self, hidden):
        return torch.relu(hidden).detach()


@slip(replaces="FeedForward", caught_by="test_gradients")
class FreezesItsBias(Steps):
    def __init__(self, d_model, d_ff, dropout=0.0):
        super().__init__(d_model, d_ff, dropout)
        self.w1.bias.requires_grad_(False)


@slip(replaces="FeedForward", caught_by="test_gradients_in_training")
class DetachesWhatIsDropped(Steps):
    def drop(self, hidden):
        return super().drop(hidden.detach()) if self.training and self.dropout else hidden


@slip(replaces="FeedForward", caught_by="test_gradients_in_training")
class StraightThrough(Steps):
    def drop(self, hidden):
        return hidden + (super().drop(hidden) - hidden).detach()


@slip(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class DropsTheOutputButNotItsBias(Steps):
    def drop(self, hidden):
        return hidden

    def finish(self, out):
        return nn.functional.dropout(out - self.w2.bias, self.dropout, self.training) + self.w2.bias


@slip(replaces="FeedForward", caught_by="test_dropout_in_eval_and_afresh")
class DropsNothingFromASingleToken(Steps):
    def drop(self, hidden):
        return super().drop(hidden) if hidden.shape[1] > 1 else hidden


@slip(replaces="FeedForward", caught_by="test_dropout_in_eval_and_afresh")
class KeepsAFloatMask(Steps):
    def forward(self, x):
        hidden = self.activate(self.w1(x))
        if self.training and self.dropout:
            hidden = hidden * (torch.rand(hidden.shape, device=x.device) >= self.dropout).float() / (1 - self.dropout)
        return nn.functional.linear(hidden, self.w2.weight.to(hidden.dtype), self.w2.bias.to(hidden.dtype))


@slip(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class DropsAFixedNumber(Steps):
    def drop(self, hidden):
        if not self.training:
            return hidden
        gone = torch.rand_like(hidden).argsort(dim=-1) < round(hidden.shape[-1] * self.dropout)
        return hidden.masked_fill(gone, 0.0) / (1 - self.dropout)


@slip(replaces="FeedForward", caught_by="test_dropout_keeps_the_average")
class GrowsInFloat32Alone(Steps):
    def drop(self, hidden):
        grown = super().drop(hidden)
        return grown * (1 - self.dropout) if self.training and hidden.dtype != torch.float32 else grown


@slip(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class DropsWholeTokens(Steps):
    def drop(self, hidden):
        if not self.training:
            return hidden
        return hidden * nn.functional.dropout(torch.ones_like(hidden[..., :1]), self.dropout)


@slip(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class DropsTheSameInEveryItem(Steps):
    def drop(self, hidden):
        if not self.training:
            return hidden
        return hidden * nn.functional.dropout(torch.ones_like(hidden[:1]), self.dropout)


@slip(replaces="FeedForward", caught_by="test_dropout_falls_on_hidden_features")
class DropsTheSameInEveryToken(Steps):
    def drop(self, hidden):
        if not self.training:
            return hidden
        return hidden * nn.functional.dropout(torch.ones_like(hidden[:, :1]), self.dropout)


@slip(replaces="FeedForward", caught_by="test_dropout_in_eval_and_afresh")
class DrawsOnce(Steps):
    def drop(self, hidden):
        if not self.training or not self.dropout:
            return hidden
        if getattr(self, "kept", hidden).shape != hidden.shape or not hasattr(self, "kept"):
            self.kept = nn.functional.dropout(torch.ones_like(hidden), self.dropout)
        return hidden * self.kept.detach()


@slip(replaces="FeedForward", caught_by="test_repeated_calls")
class KeepsItsFirstWeights(Steps):
    def forward(self, x):
        if getattr(self, "kept", x).dtype != x.dtype or not hasattr(self, "kept"):
            self.kept = self.w2.weight.detach().clone()
        hidden = self.drop(self.activate(self.w1(x)))
        return self.w2(hidden) if torch.is_grad_enabled() and self.training else hidden @ self.kept.T + self.w2.bias


@slip(replaces="FeedForward", caught_by="test_repeated_calls")
class KeepsItsWeightsForEvaluation(Steps):
    def forward(self, x):
        if torch.is_grad_enabled() or self.training:
            return super().forward(x)
        if getattr(self, "kept", x).dtype != x.dtype or not hasattr(self, "kept"):
            self.kept = self.w2.weight.T.contiguous()
        return self.activate(self.w1(x)) @ self.kept + self.w2.bias


@slip(replaces="FeedForward", caught_by="test_leaves_the_inputs_alone")
class CentresInPlace(Steps):
    def start(self, x):
        with torch.no_grad():
            x.add_(1.0)
        return x - 1.0


@slip(replaces="FeedForward", caught_by="test_errors")
class ChecksOneSize(Steps):
    def __init__(self, d_model, d_ff, dropout=0.0):
        if d_model < 1:
            raise ValueError(f"d_model ({d_model}) must be at least 1")
        nn.Module.__init__(self)
        self.w1, self.w2, self.dropout = nn.Linear(d_model, d_ff), nn.Linear(d_ff, d_model), dropout


@slip(replaces="FeedForward", caught_by="test_errors")
class AssertsTheSizes(Steps):
    def __init__(self, d_model, d_ff, dropout=0.0):
        assert min(d_model, d_ff) > 0
        super().__init__(d_model, d_ff, dropout)


@slip(replaces="FeedForward", caught_by="test_no_loops")
class TokenByToken(Steps):
    def forward(self, x):
        return torch.stack([super(TokenByToken, self).forward(token) for token in x.unbind(1)], dim=1)


@slip(replaces="FeedForward", caught_by="test_no_loops")
class ItemByItem(Steps):
    def drop(self, hidden):
        return torch.stack([nn.functional.dropout(item, self.dropout, self.training) for item in hidden])


@slip(replaces="FeedForward", caught_by="test_follows_the_device")
class MakesItsMaskOnTheCpu(Steps):
    def drop(self, hidden):
        if not self.training:
            return hidden
        kept = torch.rand(hidden.shape) >= self.dropout
        return hidden * kept / (1 - self.dropout)


# --- right, in other styles ---------------------------------------------------------------------------------


@alternative(replaces="gelu")
def by_erfc(x, approximate=False):
    if not approximate:
        return x * torch.special.erfc(-x * 2**-0.5) / 2
    return x * torch.sigmoid(2 * ROOT * x * (1 + 0.044715 * x * x))  # (1 + tanh z) / 2 is sigmoid(2 z)


@alternative(replaces="gelu")
def with_constants_as_tensors(x, approximate=False):
    if approximate:
        root = torch.sqrt(torch.tensor(2.0 / torch.pi))
        return x / 2 * (torch.tanh(root * (x + torch.tensor(0.044715) * torch.pow(x, 3))) + 1)
    return x / 2 + x / 2 * torch.erf(x / torch.sqrt(torch.tensor(2.0)))


@alternative(replaces="gelu")
def by_the_normal_distribution(x, approximate=False):
    if approximate:
        wide = x.double()
        z = (2 / torch.pi) ** 0.5 * torch.addcmul(wide, wide**2, wide, value=0.044715)
        return (wide - wide / (1 + torch.exp(2 * z))).to(x.dtype)
    return (x.double() * torch.special.ndtr(x.double())).type_as(x)


@alternative(replaces="gelu")
def golfed(x, approximate=False):
    return x * [x.mul(0.5**0.5).erf, x.mul(ROOT * 0.044715).mul(x).add(ROOT).mul(x).tanh][approximate]().add(1).mul(0.5)


@alternative(replaces="FeedForward")
class InModules(FeedForward):
    def __init__(self, d_model, d_ff, dropout=0.0):
        super().__init__(d_model, d_ff)
        self.act, self.drop = nn.ReLU(inplace=True), nn.Dropout(p=dropout)

    def forward(self, x):
        return self.w2(self.drop(self.act(self.w1(x))))


class Layer(nn.Module):
    """A linear layer of one's own."""

    def __init__(self, width_in, width_out):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(width_out))
        self.weight = nn.Parameter(torch.empty(width_out, width_in).normal_(0.0, width_in**-0.5))

    def forward(self, x):
        return x.matmul(self.weight.t()) + self.bias


@alternative(replaces="FeedForward")
class WithParametersOfItsOwn(FeedForward):
    def __init__(self, d_model, d_ff, dropout=0.0):
        nn.Module.__init__(self)
        if d_model <= 0 or d_ff <= 0:
            raise ValueError("both widths must be positive")
        self.w2, self.w1 = Layer(d_ff, d_model), Layer(d_model, d_ff)
        self.p = dropout

    def forward(self, x):
        h = self.w1(x)
        h = h * (h > 0)
        if self.training and self.p > 0:
            h = h * torch.empty_like(h).bernoulli_(1 - self.p).div(1 - self.p)
        return self.w2(h)


@alternative(replaces="FeedForward")
class ByEinsum(FeedForward):
    def forward(self, x):
        hidden = torch.einsum("btd,fd->btf", x, self.w1.weight) + self.w1.bias
        hidden = torch.dropout(hidden.clamp(min=0), self.dropout, self.training)
        return torch.einsum("btf,df->btd", hidden, self.w2.weight) + self.w2.bias


@alternative(replaces="FeedForward")
class InFloat64(FeedForward):
    def forward(self, x):
        w1, b1, w2, b2 = (parameter.double() for parameter in self.parameters())
        h = torch.baddbmm(b1, x.double(), w1.T.expand(len(x), -1, -1))
        h = torch.where(h > 0, h, 0.0)
        if self.training:
            h = h.masked_fill(torch.rand_like(h) < self.dropout, 0.0) / (1 - self.dropout)
        return (h @ w2.T + b2).to(x.dtype)


@alternative(replaces="FeedForward")
class DropsBeforeTheRelu(FeedForward):
    def forward(self, x):
        rows = nn.functional.linear(x.reshape(-1, x.shape[-1]), self.w1.weight, self.w1.bias)  # (B * T, F)
        rows = torch.maximum(nn.functional.dropout(rows, self.dropout, self.training), rows.new_zeros(()))
        return torch.addmm(self.w2.bias, rows, self.w2.weight.mT).view_as(x)


@alternative(replaces="FeedForward")
class StartsFromZeros(FeedForward):
    def __init__(self, d_model, d_ff, dropout=0.0):
        super().__init__(d_model, d_ff, dropout)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


@alternative(replaces="FeedForward")
class ParametersInDicts(FeedForward):
    def __init__(self, d_model, d_ff, dropout=0.0):
        nn.Module.__init__(self)
        if not (d_model >= 1 and d_ff >= 1):
            raise ValueError(f"{d_model=}, {d_ff=}")
        self.rate = nn.Dropout(dropout)
        for name, (fan_in, fan_out) in {"w1": (d_model, d_ff), "w2": (d_ff, d_model)}.items():
            weight, bias = torch.randn(fan_out, fan_in) * 0.02, torch.zeros(fan_out)
            self.add_module(name, nn.ParameterDict({"weight": nn.Parameter(weight), "bias": nn.Parameter(bias)}))

    def forward(self, x):
        h = nn.functional.relu(nn.functional.linear(x, self.w1["weight"], self.w1["bias"]))
        return nn.functional.linear(self.rate(h), self.w2["weight"], self.w2["bias"])
