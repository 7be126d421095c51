"""Other ways to write SwiGLU and its hidden width: wrong ones that a learner may come up with, and right ones."""

import functools
import itertools
import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import SwiGLU, swiglu_hidden_dim


def check_sizes(dim, multiple_of):
    """Refuse what the solution refuses."""
    if dim < 1 or multiple_of < 1:
        raise ValueError(f"{dim=} and {multiple_of=} must be at least 1")


def round_up(number, multiple_of):
    return -(-number // multiple_of) * multiple_of


class Steps(SwiGLU):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x):
        return self.finish(self.w2(self.join(self.w1(x), self.w3(x))))

    def join(self, gate, through):
        return nn.functional.silu(gate) * through

    def finish(self, out):
        return out


# --- misconceptions about the hidden width ------------------------------------------------------------------


@misconception(replaces="swiglu_hidden_dim", caught_by="test_published_widths")
def four_times_as_wide(dim, multiple_of=256, ffn_dim_multiplier=None):
    """Your hidden width starts from 4 * dim, as in a network with two matrices.

    SwiGLU has three. Which share of 4 * dim gives as many parameters?
    """
    check_sizes(dim, multiple_of)
    return round_up(int((1.0 if ffn_dim_multiplier is None else ffn_dim_multiplier) * 4 * dim), multiple_of)


@misconception(replaces="swiglu_hidden_dim", caught_by="test_two_thirds_by_hand")
def two_thirds_of_dim(dim, multiple_of=256, ffn_dim_multiplier=None):
    """Your hidden width starts from two thirds of dim.

    Two thirds of what does the brief say? A hidden layer is wider than the token as a rule.
    """
    check_sizes(dim, multiple_of)
    hidden = 2 * dim // 3
    return round_up(hidden if ffn_dim_multiplier is None else int(ffn_dim_multiplier * hidden), multiple_of)


@misconception(replaces="swiglu_hidden_dim", caught_by="test_rounds_up_to_a_multiple")
def rounds_down(dim, multiple_of=256, ffn_dim_multiplier=None):
    """You round down to a multiple.

    For Llama 7B 10922 becomes 11008. Which way is that?
    """
    return swiglu_hidden_dim(dim, 1, ffn_dim_multiplier) // max(multiple_of, 1) * swiglu_multiple(dim, multiple_of)


def swiglu_multiple(dim, multiple_of):
    check_sizes(dim, multiple_of)
    return multiple_of


@misconception(replaces="swiglu_hidden_dim", caught_by="test_rounds_up_to_a_multiple")
def rounds_to_the_nearest(dim, multiple_of=256, ffn_dim_multiplier=None):
    """You round to the nearest multiple.

    Which multiple of 256 does dim = 97 get, whose two thirds of 4 * dim is 258?
    """
    check_sizes(dim, multiple_of)
    return round(swiglu_hidden_dim(dim, 1, ffn_dim_multiplier) / multiple_of) * multiple_of


@misconception(replaces="swiglu_hidden_dim", caught_by="test_rounds_up_to_a_multiple")
def always_goes_on(dim, multiple_of=256, ffn_dim_multiplier=None):
    """You go on to the next multiple even from a number that is a multiple already.

    What should become of 16, rounded up to a multiple of 16?
    """
    check_sizes(dim, multiple_of)
    return (swiglu_hidden_dim(dim, 1, ffn_dim_multiplier) // multiple_of + 1) * multiple_of


@misconception(replaces="swiglu_hidden_dim", caught_by="test_rounds_up_to_a_multiple")
def forgets_the_multiple(dim, multiple_of=256, ffn_dim_multiplier=None):
    """You do not round to a multiple.

    Which argument of swiglu_hidden_dim has not been used?
    """
    check_sizes(dim, multiple_of)
    return swiglu_hidden_dim(dim, 1, ffn_dim_multiplier)


@misconception(replaces="swiglu_hidden_dim", caught_by="test_multiplier")
def forgets_the_multiplier(dim, multiple_of=256, ffn_dim_multiplier=None):
    """Your hidden width does not depend on the multiplier.

    Llama 2 70B needs it. At which of the steps does it come in?
    """
    return swiglu_hidden_dim(dim, multiple_of)


@misconception(replaces="swiglu_hidden_dim", caught_by="test_multiplier")
def multiplier_for_two_thirds(dim, multiple_of=256, ffn_dim_multiplier=None):
    """You take the multiplier in place of the two thirds.

    Llama 2 70B has 1.3, and its hidden width is 28672 for a dim of 8192. Which number does 1.3 multiply there?
    """
    if ffn_dim_multiplier is None:
        return swiglu_hidden_dim(dim, multiple_of)
    check_sizes(dim, multiple_of)
    return round_up(int(ffn_dim_multiplier * 4 * dim), multiple_of)


@misconception(replaces="swiglu_hidden_dim", caught_by="test_multiplier")
def multiplier_at_the_end(dim, multiple_of=256, ffn_dim_multiplier=None):
    """You multiply after rounding up, so that the width may be no multiple any more.

    What is the rounding up for, and so, where must it stand?
    """
    hidden = swiglu_hidden_dim(dim, multiple_of)
    return hidden if ffn_dim_multiplier is None else int(ffn_dim_multiplier * hidden)


@misconception(replaces="swiglu_hidden_dim", caught_by="test_multiplier")
def rounds_down_only_once(dim, multiple_of=256, ffn_dim_multiplier=None):
    """You take two thirds and multiply before you round down for the first time.

    Work out dim = 5 with a multiplier of 1.5 and multiple_of = 1: which whole number is multiplied, and what comes out?
    """
    check_sizes(dim, multiple_of)
    hidden = int(8 * dim / 3 * (1.0 if ffn_dim_multiplier is None else ffn_dim_multiplier))
    return round_up(hidden, multiple_of)


@misconception(replaces="swiglu_hidden_dim", caught_by="test_two_thirds_by_hand")
def returns_a_float(dim, multiple_of=256, ffn_dim_multiplier=None):
    """Your hidden width is a float.

    nn.Linear would refuse it. Which division of Python's gives whole numbers, and what makes an int of a float?
    """
    return float(swiglu_hidden_dim(dim, multiple_of, ffn_dim_multiplier))


# --- misconceptions about the network -----------------------------------------------------------------------


@misconception(replaces="SwiGLU", caught_by="test_the_gate_is_silu_of_w1")
class GateOnTheOtherBranch(Steps):
    """You apply SiLU to w3 x.

    Trained from scratch that works as well, but the weights of others do not fit. Which branch is the gate here?
    """

    def join(self, gate, through):
        return super().join(through, gate)


@misconception(replaces="SwiGLU", caught_by="test_the_gate_is_silu_of_w1")
class SigmoidGate(Steps):
    """Your gate is sigmoid(w1 x), which is the plain GLU that F.glu computes.

    What is sigmoid multiplied by in SiLU?
    """

    def join(self, gate, through):
        return torch.sigmoid(gate) * through


@misconception(replaces="SwiGLU", caught_by="test_the_gate_is_silu_of_w1")
class GeluGate(Steps):
    """Your gate is gelu(w1 x), which is GEGLU.

    The same paper has it. Which function stands in the formula here?
    """

    def join(self, gate, through):
        return nn.functional.gelu(gate) * through


@misconception(replaces="SwiGLU", caught_by="test_the_gate_is_silu_of_w1")
class ReluGate(Steps):
    """Your gate is ReLU(w1 x), which is ReGLU.

    The same paper has it. Which function stands in the formula here?
    """

    def join(self, gate, through):
        return torch.relu(gate) * through


@misconception(replaces="SwiGLU", caught_by="test_the_gate_is_silu_of_w1")
class NoActivation(Steps):
    """You multiply the branches as they are.

    What does the formula do to w1 x before the product?
    """

    def join(self, gate, through):
        return gate * through


@misconception(replaces="SwiGLU", caught_by="test_the_gate_is_silu_of_w1")
class SiluOfTheProduct(Steps):
    """You multiply the branches first and apply SiLU to the product.

    Where do the brackets of silu(...) end in the formula?
    """

    def join(self, gate, through):
        return nn.functional.silu(gate * through)


@misconception(replaces="SwiGLU", caught_by="test_the_gate_is_silu_of_w1")
class SiluOnBothBranches(Steps):
    """You apply SiLU to both branches.

    One of them is the gate. What should happen to the other one if the gate is wide open?
    """

    def join(self, gate, through):
        return nn.functional.silu(gate) * nn.functional.silu(through)


@misconception(replaces="SwiGLU", caught_by="test_the_gate_is_silu_of_w1")
class AddsTheBranches(Steps):
    """You add the branches.

    A gate that is shut must let nothing through. Which operation does that, number by number?
    """

    def join(self, gate, through):
        return nn.functional.silu(gate) + through


@misconception(replaces="SwiGLU", caught_by="test_network_by_hand")
class SiluAtTheEndToo(Steps):
    """There is another SiLU after w2.

    A block adds this output to its input, and should be able to add any number. What does the formula do after w2?
    """

    def finish(self, out):
        return nn.functional.silu(out)


@misconception(replaces="SwiGLU", caught_by="test_network_by_hand")
class AddsTheResidual(Steps):
    """You add x to the output.

    The block around this network does that. What does SwiGLU itself return when w2 is all zeros?
    """

    def forward(self, x):
        return x + super().forward(x)


@misconception(replaces="SwiGLU", caught_by="test_parameter_names")
class LayersWithBias(Steps):
    """Your layers have biases.

    Published weights of Llama have none. How does one tell nn.Linear?
    """

    def __init__(self, dim, hidden_dim):
        super().__init__(dim, hidden_dim)
        self.w1, self.w3 = nn.Linear(dim, hidden_dim), nn.Linear(dim, hidden_dim)
        self.w2 = nn.Linear(hidden_dim, dim)


@misconception(replaces="SwiGLU", caught_by="test_parameter_names")
class NamesInReadingOrder(SwiGLU):
    """Your w2 leads to the hidden width, and your w3 leads back.

    The names are those of Llama's checkpoints, and do not follow the order of the computation. Which one leads back
    there?
    """

    def __init__(self, dim, hidden_dim):
        super().__init__(dim, hidden_dim)
        self.w2, self.w3 = self.w3, self.w2

    def forward(self, x):
        return self.w3(nn.functional.silu(self.w1(x)) * self.w2(x))


@misconception(replaces="SwiGLU", caught_by="test_parameter_names")
class RoundsItsHiddenWidth(Steps):
    """You change the hidden width that SwiGLU is given.

    Two thirds and rounding are the business of swiglu_hidden_dim, whose result may be what is passed. What would happen
    if both did it?
    """

    def __init__(self, dim, hidden_dim):
        nn.Module.__init__(self)
        check_sizes(dim, hidden_dim)
        width = round_up(2 * hidden_dim // 3, 256)
        self.w1, self.w3 = nn.Linear(dim, width, bias=False), nn.Linear(dim, width, bias=False)
        self.w2 = nn.Linear(width, dim, bias=False)


# --- slips in the width -------------------------------------------------------------------------------------


@slip(replaces="swiglu_hidden_dim", caught_by="test_two_thirds_by_hand")
def rounds_two_thirds_to_the_nearest(dim, multiple_of=256, ffn_dim_multiplier=None):
    check_sizes(dim, multiple_of)
    hidden = round(8 * dim / 3)
    return round_up(hidden if ffn_dim_multiplier is None else int(ffn_dim_multiplier * hidden), multiple_of)


@slip(replaces="swiglu_hidden_dim", caught_by="test_two_thirds_by_hand")
def four_times_a_rounded_sixth(dim, multiple_of=256, ffn_dim_multiplier=None):
    check_sizes(dim, multiple_of)
    hidden = 4 * (2 * dim // 3)
    return round_up(hidden if ffn_dim_multiplier is None else int(ffn_dim_multiplier * hidden), multiple_of)


@slip(replaces="swiglu_hidden_dim", caught_by="test_two_thirds_by_hand")
def two_thirds_to_six_digits(dim, multiple_of=256, ffn_dim_multiplier=None):
    check_sizes(dim, multiple_of)
    hidden = int(0.666667 * 4 * dim)
    return round_up(hidden if ffn_dim_multiplier is None else int(ffn_dim_multiplier * hidden), multiple_of)


@slip(replaces="swiglu_hidden_dim", caught_by="test_multiplier")
def rounds_the_product_to_the_nearest(dim, multiple_of=256, ffn_dim_multiplier=None):
    check_sizes(dim, multiple_of)
    hidden = 8 * dim // 3
    return round_up(hidden if ffn_dim_multiplier is None else round(ffn_dim_multiplier * hidden), multiple_of)


@slip(replaces="swiglu_hidden_dim", caught_by="test_multiplier")
def multiplies_before_two_thirds(dim, multiple_of=256, ffn_dim_multiplier=None):
    check_sizes(dim, multiple_of)
    return round_up(2 * int((ffn_dim_multiplier or 1.0) * 4 * dim) // 3, multiple_of)


@slip(replaces="swiglu_hidden_dim", caught_by="test_multiplier")
def multiplies_exactly(dim, multiple_of=256, ffn_dim_multiplier=None):
    hidden = swiglu_hidden_dim(dim, 1)
    check_sizes(dim, multiple_of)
    if ffn_dim_multiplier is not None:
        hidden = math.floor(hidden * round(ffn_dim_multiplier * 10**9) / 10**9 + 1e-9)
    return round_up(hidden, multiple_of)


@slip(replaces="swiglu_hidden_dim", caught_by="test_published_widths")
def another_default(dim, multiple_of=32, ffn_dim_multiplier=None):
    return swiglu_hidden_dim(dim, multiple_of, ffn_dim_multiplier)


@slip(replaces="swiglu_hidden_dim", caught_by="test_widths_of_all_kinds")
def rounds_by_bits(dim, multiple_of=256, ffn_dim_multiplier=None):
    hidden = swiglu_hidden_dim(dim, 1, ffn_dim_multiplier)
    check_sizes(dim, multiple_of)
    return (hidden + multiple_of - 1) & -multiple_of  # right for powers of two alone


@slip(replaces="swiglu_hidden_dim", caught_by="test_width_errors")
def checks_dim_alone(dim, multiple_of=256, ffn_dim_multiplier=None):
    return swiglu_hidden_dim(dim, max(multiple_of, 1), ffn_dim_multiplier)


@slip(replaces="swiglu_hidden_dim", caught_by="test_width_errors")
def asserts_the_sizes(dim, multiple_of=256, ffn_dim_multiplier=None):
    assert dim > 0
    assert multiple_of > 0
    return swiglu_hidden_dim(dim, multiple_of, ffn_dim_multiplier)


# --- slips in the network -----------------------------------------------------------------------------------


@slip(replaces="SwiGLU", caught_by="test_network_shapes")
class ReturnsTheHiddenFeatures(Steps):
    def forward(self, x):
        return self.join(self.w1(x), self.w3(x))


@slip(replaces="SwiGLU", caught_by="test_network_shapes")
class RenamesAnArgument(Steps):
    def __init__(self, dim, hidden):
        super().__init__(dim, hidden)


@slip(replaces="SwiGLU", caught_by="test_parameter_names")
class KeepsABuffer(Steps):
    def __init__(self, dim, hidden_dim):
        super().__init__(dim, hidden_dim)
        self.register_buffer("width", torch.tensor(hidden_dim))


@slip(replaces="SwiGLU", caught_by="test_the_gate_is_silu_of_w1")
class FasterGate(Steps):
    def join(self, gate, through):
        return gate * torch.sigmoid(1.702 * gate) * through


@slip(replaces="SwiGLU", caught_by="test_large_gates")
class GateByPowers(Steps):
    def join(self, gate, through):
        return gate * gate.exp() / (1 + gate.exp()) * through


@slip(replaces="SwiGLU", caught_by="test_large_gates")
class ClipsItsGate(Steps):
    def join(self, gate, through):
        return super().join(gate.clamp(-50.0, 50.0), through)


@slip(replaces="SwiGLU", caught_by="test_tokens_do_not_meet")
class CentresOverTheTokens(Steps):
    def forward(self, x):
        return super().forward(x - x[..., 1:].mean() * torch.arange(x.shape[-1], device=x.device).clamp(max=1))


@slip(replaces="SwiGLU", caught_by="test_matches_the_reference")
class TransposesASquare(Steps):
    def forward(self, x):
        hidden = self.join(self.w1(x), self.w3(x))
        return hidden @ self.w2.weight if hidden.shape[-1] == x.shape[-1] > 1 else self.w2(hidden)


@slip(replaces="SwiGLU", caught_by="test_matches_the_reference")
class DropsInTraining(Steps):
    def finish(self, out):
        return nn.functional.dropout(out, 0.1, self.training)


@slip(replaces="SwiGLU", caught_by="test_matches_the_reference")
class ViewsAContiguousInput(Steps):
    def forward(self, x):
        return super().forward(x.view(-1, x.shape[-1])).view(x.shape)


@slip(replaces="SwiGLU", caught_by="test_float64")
class RoundsToFloat32(Steps):
    def join(self, gate, through):
        return super().join(gate.float(), through.float()).to(gate.dtype)


@slip(replaces="SwiGLU", caught_by="test_bfloat16")
class ReturnsFloat32(Steps):
    def finish(self, out):
        return out.float() if out.dtype == torch.bfloat16 else out


@slip(replaces="SwiGLU", caught_by="test_gradients")
class DetachesTheGate(Steps):
    def join(self, gate, through):
        return super().join(gate.detach(), through)


@slip(replaces="SwiGLU", caught_by="test_gradients")
class TakesARootOnTheWay(Steps):
    def join(self, gate, through):
        half = (gate * gate).sqrt() / 2  # its slope at 0 is NaN
        return gate / 2 * (1 + gate.sign() * half.tanh()) * through


@slip(replaces="SwiGLU", caught_by="test_gradients")
class FreezesAWeight(Steps):
    def __init__(self, dim, hidden_dim):
        super().__init__(dim, hidden_dim)
        self.w3.weight.requires_grad_(False)


@slip(replaces="SwiGLU", caught_by="test_repeated_calls")
class KeepsItsFirstWeights(Steps):
    def forward(self, x):
        if getattr(self, "kept", x).dtype != x.dtype or not hasattr(self, "kept"):
            self.kept = torch.cat((self.w1.weight, self.w3.weight)).detach()
        return self.finish(self.w2(self.join(*(x @ self.kept.T).chunk(2, dim=-1))))


@slip(replaces="SwiGLU", caught_by="test_repeated_calls")
class KeepsItsWeightsForEvaluation(Steps):
    def forward(self, x):
        if torch.is_grad_enabled() or self.training:
            return super().forward(x)
        if getattr(self, "kept", x).dtype != x.dtype or not hasattr(self, "kept"):
            self.kept = torch.cat((self.w1.weight, self.w3.weight)).T
        return self.finish(self.w2(self.join(*(x @ self.kept).chunk(2, dim=-1))))


_SHARED = {}


@slip(replaces="SwiGLU", caught_by="test_repeated_calls")
class SharesItsLayers(Steps):
    def __init__(self, dim, hidden_dim):
        super().__init__(dim, hidden_dim)
        self.w1, self.w2, self.w3 = _SHARED.setdefault((dim, hidden_dim), (self.w1, self.w2, self.w3))


@slip(replaces="SwiGLU", caught_by="test_leaves_the_inputs_alone")
class ScalesInPlace(Steps):
    def forward(self, x):
        with torch.no_grad():
            x.mul_(2.0)
        return super().forward(x / 2)


@slip(replaces="SwiGLU", caught_by="test_network_errors")
class ChecksDimAlone(Steps):
    def __init__(self, dim, hidden_dim):
        nn.Module.__init__(self)
        if dim < 1:
            raise ValueError(f"dim ({dim}) must be at least 1")
        self.w1, self.w3 = nn.Linear(dim, hidden_dim, bias=False), nn.Linear(dim, hidden_dim, bias=False)
        self.w2 = nn.Linear(hidden_dim, dim, bias=False)


@slip(replaces="SwiGLU", caught_by="test_no_loops")
class TokenByToken(Steps):
    def forward(self, x):
        return torch.stack([super(TokenByToken, self).forward(token) for token in x.unbind(1)], dim=1)


@slip(replaces="SwiGLU", caught_by="test_no_loops")
class ItemByItem(Steps):
    def join(self, gate, through):
        return torch.stack([super(ItemByItem, self).join(*pair) for pair in zip(gate, through, strict=True)])


@slip(replaces="SwiGLU", caught_by="test_follows_the_device")
class MakesItsConstantOnTheCpu(Steps):
    def join(self, gate, through):
        return super().join(gate, through) * torch.ones(gate.shape[-1:], dtype=gate.dtype)


# --- right, in other styles ---------------------------------------------------------------------------------


@alternative(replaces="swiglu_hidden_dim")
def as_in_llamas_code(dim, multiple_of=256, ffn_dim_multiplier=None):
    if min(dim, multiple_of) <= 0:
        raise ValueError("dim and multiple_of must be positive")
    hidden_dim = 4 * dim
    hidden_dim = int(2 * hidden_dim / 3)
    if ffn_dim_multiplier is not None:
        hidden_dim = int(ffn_dim_multiplier * hidden_dim)
    return multiple_of * ((hidden_dim + multiple_of - 1) // multiple_of)


@alternative(replaces="swiglu_hidden_dim")
def with_ceilings(dim, multiple_of=256, ffn_dim_multiplier=None):
    check_sizes(dim, multiple_of)
    hidden = math.floor(math.floor(8 * dim / 3) * (ffn_dim_multiplier or 1))
    return math.ceil(hidden / multiple_of) * multiple_of


@alternative(replaces="swiglu_hidden_dim")
def by_remainder(dim, multiple_of=256, ffn_dim_multiplier=None):
    check_sizes(dim, multiple_of)
    hidden = (dim * 8 - dim * 8 % 3) // 3
    if ffn_dim_multiplier:
        hidden = int(hidden * ffn_dim_multiplier)
    rest = hidden % multiple_of
    return hidden + (multiple_of - rest if rest else 0)


@alternative(replaces="swiglu_hidden_dim")
def by_counting(dim, multiple_of=256, ffn_dim_multiplier=None):
    check_sizes(dim, multiple_of)
    hidden = divmod(8 * dim, 3)[0]
    hidden = hidden if ffn_dim_multiplier is None else (hidden * ffn_dim_multiplier).__floor__()
    return next(width for width in itertools.count(multiple_of, multiple_of) if width >= hidden)


@alternative(replaces="SwiGLU")
class OneProductForBothBranches(SwiGLU):
    def forward(self, x):
        both = nn.functional.linear(x, torch.cat((self.w1.weight, self.w3.weight)))  # (B, T, 2 F)
        gate, through = both.chunk(2, dim=-1)
        return self.w2(
            nn.functional.silu(gate).mul_(through) if not x.requires_grad else torch.sigmoid(gate) * gate * through
        )


class Matrix(nn.Module):
    """A linear layer of one's own."""

    def __init__(self, width_in, width_out):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width_out, width_in))
        nn.init.xavier_normal_(self.weight)


@alternative(replaces="SwiGLU")
class ByEinsum(SwiGLU):
    def __init__(self, dim, hidden_dim):
        nn.Module.__init__(self)
        check_sizes(dim, hidden_dim)
        self.w3, self.w2, self.w1 = Matrix(dim, hidden_dim), Matrix(hidden_dim, dim), Matrix(dim, hidden_dim)

    def forward(self, x):
        gate, through = (torch.einsum("btd,fd->btf", x, w.weight) for w in (self.w1, self.w3))
        return torch.einsum("btf,df->btd", gate / (1 + torch.exp(-gate)) * through, self.w2.weight)


@alternative(replaces="SwiGLU")
class ByFoldedGlu(SwiGLU):
    def forward(self, x):
        gate = self.w1(x)
        return self.w2(nn.functional.glu(torch.cat((gate * self.w3(x), gate), dim=-1)))  # a * b * sigmoid(a)


@alternative(replaces="SwiGLU")
class InFloat64(SwiGLU):
    def forward(self, x):
        w1, w2, w3 = (parameter.double() for parameter in (self.w1.weight, self.w2.weight, self.w3.weight))
        rows = x.double().flatten(0, 1)  # (B * T, D)
        gate = rows @ w1.T
        return (torch.special.expit(gate) * gate * (rows @ w3.T) @ w2.T).unflatten(0, x.shape[:2]).type_as(x)


@alternative(replaces="SwiGLU")
class InModules(SwiGLU):
    def __init__(self, dim, hidden_dim):
        if not (dim >= 1 <= hidden_dim):
            raise ValueError(f"{dim=}, {hidden_dim=}")
        nn.Module.__init__(self)
        linear = functools.partial(nn.Linear, bias=False)
        for name, sizes in {"w1": (dim, hidden_dim), "w2": (hidden_dim, dim), "w3": (dim, hidden_dim)}.items():
            setattr(self, name, linear(*sizes))
        self.act = nn.SiLU(inplace=True)

    def forward(self, x):
        return self.w2.forward(torch.mul(self.act(self.w1(x)), self.w3(x)))


@alternative(replaces="SwiGLU")
class ParametersInDicts(SwiGLU):
    def __init__(self, dim, hidden_dim):
        nn.Module.__init__(self)
        check_sizes(dim, hidden_dim)
        for name in ("w1", "w2", "w3"):
            shape = (dim, hidden_dim) if name == "w2" else (hidden_dim, dim)
            self.add_module(name, nn.ParameterDict({"weight": nn.Parameter(torch.randn(shape) * 0.02)}))

    def forward(self, x):
        w1, w2, w3 = self.w1["weight"], self.w2["weight"], self.w3["weight"]
        z = x @ w1.mT
        return (z * torch.sigmoid(z) * (x @ w3.mT)) @ w2.mT
