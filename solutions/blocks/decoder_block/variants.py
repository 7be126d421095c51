"""Other ways to write a decoder block: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from grader.judge.suite import alternative, misconception, slip

from .solution import DecoderBlock


class Steps(DecoderBlock):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        self_mask = self.self_mask(x, self_mask)
        x = self.add(x, self.norm1, lambda x: self.attend("self", x, x, self_mask))
        x = self.add(x, self.norm2, lambda x: self.attend("cross", x, memory, memory_mask))
        return self.add(x, self.norm3, self.feed)

    def self_mask(self, x, mask):
        return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril() if mask is None else mask

    def add(self, x, norm, layer):
        return norm(x + self.drop_output(layer(x)))

    def layer(self, kind, name):
        return getattr(self, f"{kind}_{name}")

    def attend(self, kind, x, y, mask):
        q, k, v = (self.split(self.layer(kind, w)(t)) for w, t in (("wq", x), ("wk", y), ("wv", y)))
        weights = self.drop_weights(self.weigh(self.score(q, k), mask))
        return self.layer(kind, "wo")(self.join(weights @ v))

    def split(self, x):
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, K)

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, S)

    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)

    def join(self, heads):
        return heads.transpose(1, 2).flatten(2)  # (B, H, T, K) -> (B, T, D)

    def feed(self, x):
        return self.w2(self.drop_hidden(self.activate(self.w1(x))))

    def activate(self, hidden):
        return hidden.relu()

    def drop(self, x):
        return F.dropout(x, self.dropout, self.training)

    def drop_weights(self, weights):
        return self.drop(weights)

    def drop_hidden(self, hidden):
        return self.drop(hidden)

    def drop_output(self, added):
        return self.drop(added)


# --- misconceptions about the order of things --------------------------------------------------------------


@misconception(replaces="DecoderBlock", caught_by="test_residuals_and_norms_by_hand")
class PreNorm(Steps):
    """Your norms come before the sub-layers.

    That is the form of GPT-2 and of most models today. Where do the three norms stand in figure 1 of the paper?
    """

    def add(self, x, norm, layer):
        return x + self.drop_output(layer(norm(x)))


@misconception(replaces="DecoderBlock", caught_by="test_residuals_and_norms_by_hand")
class NormsTheSubLayerOnly(Steps):
    """You norm what a sub-layer returns and then add x.

    In figure 1 the box is called "Add & Norm". Which of the two happens first?
    """

    def add(self, x, norm, layer):
        return x + norm(self.drop_output(layer(x)))


@misconception(replaces="DecoderBlock", caught_by="test_residuals_and_norms_by_hand")
class NoResiduals(Steps):
    """Your block has no residual connections: the sub-layers' outputs replace x instead of being added to it.

    What does your block know of x when all sub-layers return 0?
    """

    def add(self, x, norm, layer):
        return norm(self.drop_output(layer(x)))


class WithoutOneResidual(Steps):
    without = 0

    def add(self, x, norm, layer):
        if norm is (self.norm1, self.norm2, self.norm3)[self.without]:
            return norm(self.drop_output(layer(x)))
        return super().add(x, norm, layer)


@misconception(replaces="DecoderBlock", caught_by="test_residuals_and_norms_by_hand")
class NoResidualAroundSelfAttention(WithoutOneResidual):
    """There is no residual around your self-attention.

    Figure 1 shows three arrows in the decoder that go round something. What does the lowest one go round?
    """


@misconception(replaces="DecoderBlock", caught_by="test_residuals_and_norms_by_hand")
class NoResidualAroundCrossAttention(WithoutOneResidual):
    """There is no residual around your cross-attention, so what comes after it knows of the memory only.

    Figure 1 shows three arrows in the decoder that go round something. What does the middle one go round?
    """

    without = 1


@misconception(replaces="DecoderBlock", caught_by="test_residuals_and_norms_by_hand")
class NoResidualAroundTheFeedForward(WithoutOneResidual):
    """There is no residual around your feed-forward.

    Figure 1 shows three arrows in the decoder that go round something. What does the uppermost one go round?
    """

    without = 2


@misconception(replaces="DecoderBlock", caught_by="test_residuals_and_norms_by_hand")
class NormsTwoAndThreeSwapped(Steps):
    """norm2 and norm3 stand in each other's place in your block.

    Which norm follows the cross-attention, and which the feed-forward?
    """

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        self_mask = self.self_mask(x, self_mask)
        x = self.add(x, self.norm1, lambda x: self.attend("self", x, x, self_mask))
        x = self.add(x, self.norm3, lambda x: self.attend("cross", x, memory, memory_mask))
        return self.add(x, self.norm2, self.feed)


@misconception(replaces="DecoderBlock", caught_by="test_residuals_and_norms_by_hand")
class NoNormAfterCrossAttention(Steps):
    """There is no norm between your cross-attention and your feed-forward.

    How many norms does the brief name, and after which sums do they stand?
    """

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        self_mask = self.self_mask(x, self_mask)
        x = self.add(x, self.norm1, lambda x: self.attend("self", x, x, self_mask))
        x = x + self.drop_output(self.attend("cross", x, memory, memory_mask))
        return self.add(x, self.norm3, self.feed)


@misconception(replaces="DecoderBlock", caught_by="test_residuals_and_norms_by_hand")
class CrossAttentionFirst(Steps):
    """Your block looks at the memory first and at the other targets after that.

    In which order do the two attentions stand in figure 1, from the bottom up?
    """

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        self_mask = self.self_mask(x, self_mask)
        x = self.add(x, self.norm2, lambda x: self.attend("cross", x, memory, memory_mask))
        x = self.add(x, self.norm1, lambda x: self.attend("self", x, x, self_mask))
        return self.add(x, self.norm3, self.feed)


@misconception(replaces="DecoderBlock", caught_by="test_cross_attention_alone")
class AsksWithTheOldX(Steps):
    """The queries of your cross-attention come from the x that entered the block.

    By then the self-attention has changed x. Which x stands in the second line of the brief?
    """

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        old, self_mask = x, self.self_mask(x, self_mask)
        x = self.add(x, self.norm1, lambda x: self.attend("self", x, x, self_mask))
        x = self.add(x, self.norm2, lambda _: self.attend("cross", old, memory, memory_mask))
        return self.add(x, self.norm3, self.feed)


@misconception(replaces="DecoderBlock", caught_by="test_cross_attention_alone")
class NoCrossAttention(Steps):
    """Your block never looks at the memory: the second attention looks at x again.

    Where do its keys and values come from? In figure 1 two arrows reach it from the encoder.
    """

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        self_mask = self.self_mask(x, self_mask)
        x = self.add(x, self.norm1, lambda x: self.attend("self", x, x, self_mask))
        x = self.add(x, self.norm2, lambda x: self.attend("cross", x, x, None))
        return self.add(x, self.norm3, self.feed)


@misconception(replaces="DecoderBlock", caught_by="test_cross_attention_alone")
class MemoryAsks(Steps):
    """In your cross-attention the memory asks and x answers.

    The result should have one row for each target token. So which of the two gives the queries?
    """

    def attend(self, kind, x, y, mask):
        return super().attend(kind, y, x, mask)


@misconception(replaces="DecoderBlock", caught_by="test_cross_attention_alone")
class NormsTheMemory(Steps):
    """You norm the memory before you use it.

    What comes out of the encoder has been through its norms already. Does this block have a norm for it?
    """

    def attend(self, kind, x, y, mask):
        return super().attend(kind, x, F.layer_norm(y, y.shape[-1:]) if kind == "cross" else y, mask)


@misconception(replaces="DecoderBlock", caught_by="test_cross_attention_by_hand")
class OneSetOfProjections(Steps):
    """Your cross-attention uses the projections of the self-attention.

    How many projections does the brief name? The two attentions learn to look for different things.
    """

    def layer(self, kind, name):
        return super().layer("self", name)


class NormByHand(nn.Module):
    """A layer norm written out, so that a variant bends it."""

    def __init__(self, width):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        centred = wide - wide.mean(dim=-1, keepdim=True)
        return ((centred / self.spread(centred)).to(x.dtype) * self.weight) + self.bias

    def spread(self, centred):
        return (centred.square().mean(dim=-1, keepdim=True) + 1e-5).sqrt()


class NormsByHand(Steps):
    """A block whose norms are written out."""

    norm = NormByHand

    def __init__(self, d_model, n_heads, d_ff, dropout=0.0):
        super().__init__(d_model, n_heads, d_ff, dropout)
        self.norm1, self.norm2, self.norm3 = (self.norm(d_model) for _ in range(3))


class DividesByOneLess(NormByHand):
    def spread(self, centred):
        return (centred.var(dim=-1, keepdim=True) + 1e-5).sqrt()


class AddsEpsToTheDeviation(NormByHand):
    def spread(self, centred):
        return centred.square().mean(dim=-1, keepdim=True).sqrt() + 1e-5


class TakesNoMean(NormByHand):
    def forward(self, x):
        return x / self.spread(x) * self.weight + self.bias


@misconception(replaces="DecoderBlock", caught_by="test_norms")
class UnbiasedVariance(NormsByHand):
    """Your norms divide the sum of squares by D - 1.

    That is what Tensor.var does by default, to estimate the variance of a larger whole. A layer norm has all D features
    before it. What does it divide by?
    """

    norm = DividesByOneLess


@misconception(replaces="DecoderBlock", caught_by="test_norms")
class EpsOutsideTheRoot(NormsByHand):
    """Your norms add eps to the standard deviation.

    The formula adds it to the variance. For which x does the difference show?
    """

    norm = AddsEpsToTheDeviation


@misconception(replaces="DecoderBlock", caught_by="test_norms")
class NormsByTheRootMeanSquare(NormsByHand):
    """Your norms divide by the root of the mean square without taking the mean away first.

    That is an RMS norm with a bias. What is the mean of a token's features after a layer norm, before gain and bias?
    """

    norm = TakesNoMean


# --- misconceptions about the sub-layers -------------------------------------------------------------------


@misconception(replaces="DecoderBlock", caught_by="test_feed_forward_by_hand")
class Gelu(Steps):
    """Your feed-forward has a GELU between its two layers, as in GPT.

    What does the original decoder have there, and what is its value at -1?
    """

    def activate(self, hidden):
        return F.gelu(hidden)


@misconception(replaces="DecoderBlock", caught_by="test_feed_forward_by_hand")
class NoActivation(Steps):
    """There is nothing between w1 and w2 in your feed-forward.

    Two linear layers in a row are one linear layer. What makes the hidden width worth having?
    """

    def activate(self, hidden):
        return hidden


@misconception(replaces="DecoderBlock", caught_by="test_self_attention_by_hand")
class ScalesByTheModelWidth(Steps):
    """You divide the scores by sqrt(D).

    The division undoes the growth of a dot product with the number of its terms. How many terms has it in one head?
    """

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1] * self.n_heads)


@misconception(replaces="DecoderBlock", caught_by="test_self_attention_by_hand")
class DoesNotScale(Steps):
    """Your scores are plain dot products.

    What stands under them in the brief, and what for?
    """

    def score(self, q, k):
        return q @ k.mT


@misconception(replaces="DecoderBlock", caught_by="test_self_attention_by_hand")
class HeadsInterleaved(Steps):
    """You deal out the features to the heads one by one: head h gets the features h, h + H, h + 2H ...

    Which features does head 0 own in the brief?
    """

    def split(self, x):
        return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)  # (B, T, K, H) -> (B, H, T, K)

    def join(self, heads):
        return heads.permute(0, 2, 3, 1).flatten(2)


@misconception(replaces="DecoderBlock", caught_by="test_self_attention_alone")
class JoinsWithoutTranspose(Steps):
    """You reshape (B, H, T, K) to (B, T, D) at once.

    The shape fits, but a reshape keeps the order of the numbers. Which tokens' numbers are now in the first row?
    """

    def join(self, heads):
        return heads.reshape(heads.shape[0], heads.shape[2], -1)


@misconception(replaces="DecoderBlock", caught_by="test_cross_attention_alone")
class SoftmaxOverQueries(Steps):
    """Your weights sum to 1 over the queries.

    Each token takes an average of the values. Over which dimension of (B, H, T, S) do its weights lie?
    """

    def weigh(self, scores, mask):
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-2)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


@misconception(replaces="DecoderBlock", caught_by="test_self_attention_by_hand")
class ForgetsTheOutputProjections(Steps):
    """Your attentions return the heads side by side, and self_wo and cross_wo have no influence.

    What mixes the results of the heads before they are added to x?
    """

    def attend(self, kind, x, y, mask):
        q, k, v = (self.split(self.layer(kind, w)(t)) for w, t in (("wq", x), ("wk", y), ("wv", y)))
        return self.join(self.drop_weights(self.weigh(self.score(q, k), mask)) @ v)


# --- misconceptions about masks ----------------------------------------------------------------------------


@misconception(replaces="DecoderBlock", caught_by="test_self_attention_is_causal")
class NotCausal(Steps):
    """Without a self_mask your tokens see all others, later ones too.

    What would the first token of a text learn in training if it saw the second?
    """

    def self_mask(self, x, mask):
        return mask


@misconception(replaces="DecoderBlock", caught_by="test_true_in_a_mask_means_may_attend")
class AlwaysCausal(Steps):
    """Your self-attention stays causal when a self_mask is given.

    The brief says what a self_mask does with the causal one. Is it added to it?
    """

    def self_mask(self, x, mask):
        causal = super().self_mask(x, None)
        return causal if mask is None else causal & mask


@misconception(replaces="DecoderBlock", caught_by="test_self_attention_is_causal")
class SeesTheNextToken(Steps):
    """Each of your tokens sees the one after it.

    Row t of the causal mask is True in the columns 0 to t. Which diagonal is the last?
    """

    def self_mask(self, x, mask):
        T = x.shape[1]
        return torch.ones(T, T, dtype=torch.bool, device=x.device).tril(1) if mask is None else mask


@misconception(replaces="DecoderBlock", caught_by="test_self_attention_is_causal")
class DoesNotSeeItself(Steps):
    """Your tokens see those before them, but not themselves.

    What may the first token attend to then? Row t of the causal mask is True in the columns 0 to t.
    """

    def self_mask(self, x, mask):
        T = x.shape[1]
        return torch.ones(T, T, dtype=torch.bool, device=x.device).tril(-1) if mask is None else mask


@misconception(replaces="DecoderBlock", caught_by="test_self_attention_is_causal")
class LooksAhead(Steps):
    """Your causal mask is the wrong way round: a token sees itself and the tokens after it.

    Row t belongs to the token that looks. Which columns should be True in it?
    """

    def self_mask(self, x, mask):
        return super().self_mask(x, None).T if mask is None else mask


@misconception(replaces="DecoderBlock", caught_by="test_cross_attention_alone")
class CrossAttentionIsCausal(Steps):
    """Your cross-attention is causal too: target token t sees the memory up to token t only.

    The source is known from the beginning to the end. What may a target token not see, and why?
    """

    def attend(self, kind, x, y, mask):
        if kind == "cross" and mask is None:
            mask = torch.ones(x.shape[1], y.shape[1], dtype=torch.bool, device=x.device).tril()
        return super().attend(kind, x, y, mask)


@misconception(replaces="DecoderBlock", caught_by="test_true_in_a_mask_means_may_attend")
class MasksInverted(Steps):
    """You hide tokens where a mask is True, as nn.TransformerDecoderLayer does.

    PyTorch has both conventions. What does True mean in this exercise?
    """

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        self_mask, memory_mask = (mask if mask is None else ~mask for mask in (self_mask, memory_mask))
        return super().forward(x, memory, self_mask, memory_mask)


@misconception(replaces="DecoderBlock", caught_by="test_true_in_a_mask_means_may_attend")
class IgnoresTheMemoryMask(Steps):
    """The memory_mask has no influence in your block.

    The source is padded, too. Which of your two attentions should the memory_mask reach?
    """

    def attend(self, kind, x, y, mask):
        return super().attend(kind, x, y, None if kind == "cross" else mask)


@misconception(replaces="DecoderBlock", caught_by="test_true_in_a_mask_means_may_attend")
class IgnoresTheSelfMask(Steps):
    """The self_mask has no influence in your block: the self-attention is causal in any case.

    What should happen to the causal mask when a self_mask is given?
    """

    def self_mask(self, x, mask):
        return super().self_mask(x, None)


@misconception(replaces="DecoderBlock", caught_by="test_masks_of_every_shape")
class MasksAfterSoftmax(Steps):
    """You set masked weights to 0 after the softmax and leave the others as they are.

    What do the weights of a token sum to when one of the others is masked?
    """

    def weigh(self, scores, mask):
        weights = scores.softmax(dim=-1)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


@misconception(replaces="DecoderBlock", caught_by="test_a_token_with_nothing_to_attend_to")
class FillsWithALargeNumber(Steps):
    """You fill masked scores with a large negative number and trust the softmax with the rest.

    That is fine as long as some token is allowed. Which weights come out of a row in which all scores are this number?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -1e9)).softmax(dim=-1)


@misconception(replaces="DecoderBlock", caught_by="test_a_token_with_nothing_to_attend_to")
class FillsWithMinusInfinity(Steps):
    """You fill masked scores with -inf and trust the softmax with the rest.

    That is fine as long as some token is allowed. What are the numerator and the denominator in a row of -inf alone?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1)


# --- misconceptions about dropout --------------------------------------------------------------------------


@misconception(replaces="DecoderBlock", caught_by="test_dropout_on_the_attention_weights")
class NoDropoutOnWeights(Steps):
    """In training your attention weights are never dropped.

    The brief names six places for dropout. Two of them lie inside the attentions, where?
    """

    def drop_weights(self, weights):
        return weights


@misconception(replaces="DecoderBlock", caught_by="test_dropout_after_the_relu")
class NoDropoutOnHiddenUnits(Steps):
    """In training the hidden units of your feed-forward are never dropped.

    The brief names six places for dropout. Which of them lies between w1 and w2?
    """

    def drop_hidden(self, hidden):
        return hidden


@misconception(replaces="DecoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class NoDropoutOnOutputs(Steps):
    """In training nothing that your sub-layers return is dropped before it is added to x.

    Section 5.4 of the paper names this place first. What happens there to the output of each sub-layer?
    """

    def drop_output(self, added):
        return added


@misconception(replaces="DecoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class DropsTheSum(Steps):
    """Your dropout falls on the sum of x and the sub-layer's output, so on x too.

    What should be left of a token when everything that can be dropped is dropped?
    """

    def add(self, x, norm, layer):
        return norm(self.drop(x + layer(x)))


@misconception(replaces="DecoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class DropsWhatTheNormsReturn(Steps):
    """Your dropout falls on what the norms return, which is the token itself.

    What does the brief put in drop(...)?
    """

    def add(self, x, norm, layer):
        return self.drop(norm(x + layer(x)))


@misconception(replaces="DecoderBlock", caught_by="test_dropout_rests_in_eval")
class DropoutInEval(Steps):
    """Your dropout acts in eval mode too: two calls with the same inputs differ.

    F.dropout is a function and does not know your module. How does it learn whether you are training?
    """

    def drop(self, x):
        return F.dropout(x, self.dropout)


@misconception(replaces="DecoderBlock", caught_by="test_dropout_keeps_the_average")
class DropsWithoutScaling(Steps):
    """You set numbers to 0 in training and leave the others as they are.

    Then sub-layers return less in training than in eval mode, where nothing is dropped. By which factor, on average?
    """

    def drop(self, x):
        return x * (torch.rand_like(x) >= self.dropout) if self.training else x


# --- slips -------------------------------------------------------------------------------------------------


@slip(replaces="DecoderBlock", caught_by="test_shapes")
class NeedsAMemoryAsLongAsX(Steps):
    def attend(self, kind, x, y, mask):
        return super().attend(kind, x, y.view(x.shape), mask)


@slip(replaces="DecoderBlock", caught_by="test_parameter_names")
class OtherNames(DecoderBlock):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0):
        super().__init__(d_model, n_heads, d_ff, dropout)
        self.linear1 = self.w1
        del self.w1
        self.w1 = self.linear1.forward  # a method is no parameter: only linear1 is registered


@slip(replaces="DecoderBlock", caught_by="test_parameter_names")
class SavesTheCausalMask(DecoderBlock):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0):
        super().__init__(d_model, n_heads, d_ff, dropout)
        self.register_buffer("causal", torch.ones(64, 64, dtype=torch.bool).tril())


@slip(replaces="DecoderBlock", caught_by="test_parameter_names")
class FrozenNorms(DecoderBlock):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0):
        super().__init__(d_model, n_heads, d_ff, dropout)
        self.norm3.requires_grad_(False)


@slip(replaces="DecoderBlock", caught_by="test_norms")
class SmallerEps(NormsByHand):
    class norm(NormByHand):  # noqa: N801 (it takes the place of a class attribute)
        def spread(self, centred):
            return (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()


@slip(replaces="DecoderBlock", caught_by="test_self_attention_alone")
class IgnoresTheBiasOfTheSelfValues(Steps):
    def attend(self, kind, x, y, mask):
        lost = self.split(self.self_wv.bias.expand_as(x)) if kind == "self" else 0.0
        q, k, v = (self.split(self.layer(kind, w)(t)) for w, t in (("wq", x), ("wk", y), ("wv", y)))
        return self.layer(kind, "wo")(self.join(self.drop_weights(self.weigh(self.score(q, k), mask)) @ (v - lost)))


@slip(replaces="DecoderBlock", caught_by="test_cross_attention_alone")
class CrossBiasFromSelf(Steps):
    def attend(self, kind, x, y, mask):
        out = super().attend(kind, x, y, mask)
        return out - self.cross_wo.bias + self.self_wo.bias if kind == "cross" else out


@slip(replaces="DecoderBlock", caught_by="test_cross_attention_alone")
class KeysAreValues(Steps):
    def attend(self, kind, x, y, mask):
        q = self.split(self.layer(kind, "wq")(x))
        k = self.split(self.layer(kind, "wk")(y))
        v = k if kind == "cross" else self.split(self.layer(kind, "wv")(y))
        return self.layer(kind, "wo")(self.join(self.drop_weights(self.weigh(self.score(q, k), mask)) @ v))


@slip(replaces="DecoderBlock", caught_by="test_feed_forward_alone")
class FeedForwardWithoutItsBias(Steps):
    def feed(self, x):
        return F.linear(self.drop(self.w1(x).relu()), self.w2.weight)


@slip(replaces="DecoderBlock", caught_by="test_feed_forward_alone")
class FeedForwardBesideCrossAttention(Steps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        self_mask = self.self_mask(x, self_mask)
        x = old = self.add(x, self.norm1, lambda x: self.attend("self", x, x, self_mask))
        x = self.add(x, self.norm2, lambda x: self.attend("cross", x, memory, memory_mask))
        return self.add(x, self.norm3, lambda x: self.feed(old))


@slip(replaces="DecoderBlock", caught_by="test_self_attention_is_causal")
class KnowsOneThousandTokens(Steps):
    def self_mask(self, x, mask):
        everyone = torch.ones(1024, 1024, dtype=torch.bool, device=x.device)
        return everyone.tril()[: x.shape[1], : x.shape[1]] if mask is None else mask


@slip(replaces="DecoderBlock", caught_by="test_masks_of_every_shape")
class MaskMustHaveABatch(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if mask is None or mask.dim() > 3 else mask.expand(len(scores), 1, -1, -1))


@slip(replaces="DecoderBlock", caught_by="test_masks_of_every_shape")
class TakesTwoDimensionsForPadding(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.dim() == 2 and len(mask) == len(scores):
            mask = mask[:, None, None, :]
        return super().weigh(scores, mask)


@slip(replaces="DecoderBlock", caught_by="test_masks_of_every_shape")
class SelfMaskHidesMemory(Steps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        if self_mask is not None and memory_mask is not None and x.shape[1] == memory.shape[1]:
            memory_mask = memory_mask & self_mask
        return super().forward(x, memory, self_mask, memory_mask)


@slip(replaces="DecoderBlock", caught_by="test_masks_of_every_shape")
class OneMaskForBoth(Steps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        return super().forward(x, memory, self_mask, self_mask if memory_mask is None else memory_mask)


@slip(replaces="DecoderBlock", caught_by="test_masks_of_every_shape")
class NotCausalUnderAMemoryMask(Steps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        if self_mask is None and memory_mask is not None:
            self_mask = torch.ones_like(memory_mask[..., :1])
        return super().forward(x, memory, self_mask, memory_mask)


@slip(replaces="DecoderBlock", caught_by="test_a_token_with_nothing_to_attend_to")
class SilencesTheToken(Steps):
    def attend(self, kind, x, y, mask):
        out = super().attend(kind, x, y, mask)
        if mask is None:
            return out
        some = mask.any(dim=-1, keepdim=True).expand(len(x), self.n_heads, x.shape[1], 1).any(dim=1)
        return out * some


@slip(replaces="DecoderBlock", caught_by="test_no_token_sees_the_future")
class AveragesOverTheTargets(Steps):
    def feed(self, x):
        return super().feed(x) - 1e-2 * x.mean(dim=1, keepdim=True)


@slip(replaces="DecoderBlock", caught_by="test_masked_memory_leaves_no_trace")
class CentresTheMemory(Steps):
    def attend(self, kind, x, y, mask):
        return super().attend(kind, x, y - 1e-2 * y.mean(dim=1, keepdim=True) if kind == "cross" else y, mask)


@slip(replaces="DecoderBlock", caught_by="test_masked_memory_leaves_no_trace")
class MasksValuesByZeros(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores if mask is None else scores.masked_fill(~mask, 0.0), None)


@slip(replaces="DecoderBlock", caught_by="test_huge_scores")
class SoftmaxOverflows(Steps):
    def weigh(self, scores, mask):
        powers = scores.exp() if mask is None else scores.exp() * mask
        total = powers.sum(dim=-1, keepdim=True)
        return powers / total.masked_fill(total == 0, 1.0)


@slip(replaces="DecoderBlock", caught_by="test_huge_scores")
class ClampsTheScores(Steps):
    def score(self, q, k):
        return super().score(q, k).clamp(-50.0, 50.0)


@slip(replaces="DecoderBlock", caught_by="test_huge_scores")
class FillsWithASmallNumber(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, -1000.0).softmax(dim=-1) * mask.any(dim=-1, keepdim=True)


@slip(replaces="DecoderBlock", caught_by="test_the_order_of_the_memory_does_not_matter")
class PrefersLateTokens(Steps):
    def score(self, q, k):
        return super().score(q, k) + 0.1 * torch.arange(k.shape[-2], device=k.device, dtype=k.dtype)


@slip(replaces="DecoderBlock", caught_by="test_matches_the_reference")
class NeedsContiguousInputs(Steps):
    def attend(self, kind, x, y, mask):
        return super().attend(kind, x, y.view(-1, y.shape[-1]).view(y.shape), mask)


@slip(replaces="DecoderBlock", caught_by="test_matches_the_reference")
class SqueezesTheSingleItem(Steps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        out = super().forward(x, memory, self_mask, memory_mask)
        return out if len(x) > 1 else out.squeeze(0)


@slip(replaces="DecoderBlock", caught_by="test_float64")
class WeighsInFloat32(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores.float(), mask).to(scores.dtype)


@slip(replaces="DecoderBlock", caught_by="test_float64")
class NormsInFloat32(NormsByHand):
    class norm(NormByHand):  # noqa: N801 (it takes the place of a class attribute)
        def forward(self, x):
            return super().forward(x.float()).to(x.dtype)


@slip(replaces="DecoderBlock", caught_by="test_bfloat16")
class AnswersInFloat32(Steps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        out = super().forward(x, memory, self_mask, memory_mask)
        return out.float() if out.dtype == torch.bfloat16 else out


@slip(replaces="DecoderBlock", caught_by="test_gradients")
class DetachesTheMemory(Steps):
    def attend(self, kind, x, y, mask):
        return super().attend(kind, x, y.detach() if kind == "cross" else y, mask)


@slip(replaces="DecoderBlock", caught_by="test_gradients")
class DetachesTheResidual(Steps):
    def add(self, x, norm, layer):
        return norm(x.detach() + self.drop_output(layer(x)))


@slip(replaces="DecoderBlock", caught_by="test_gradients_under_masks")
class NanInTheGradient(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        return (scores + bias).softmax(dim=-1).nan_to_num()


@slip(replaces="DecoderBlock", caught_by="test_dropout_on_the_attention_weights")
class DropsOnlyTheSelfWeights(Steps):
    def attend(self, kind, x, y, mask):
        q, k, v = (self.split(self.layer(kind, w)(t)) for w, t in (("wq", x), ("wk", y), ("wv", y)))
        weights = self.weigh(self.score(q, k), mask)
        return self.layer(kind, "wo")(self.join((self.drop_weights(weights) if kind == "self" else weights) @ v))


@slip(replaces="DecoderBlock", caught_by="test_dropout_on_the_attention_weights")
class DropsWholeKeys(Steps):
    def drop_weights(self, weights):
        return weights * self.drop(torch.ones_like(weights[:, :, :1]))


@slip(replaces="DecoderBlock", caught_by="test_dropout_after_the_relu")
class DropsUnitsForAllTokens(Steps):
    def drop_hidden(self, hidden):
        return hidden * self.drop(torch.ones_like(hidden[:, :1]))


class WithoutOneDropout(Steps):
    without = 0

    def add(self, x, norm, layer):
        if norm is (self.norm1, self.norm2, self.norm3)[self.without]:
            return norm(x + layer(x))
        return super().add(x, norm, layer)


@slip(replaces="DecoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class NoDropoutAfterSelfAttention(WithoutOneDropout):
    pass


@slip(replaces="DecoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class NoDropoutAfterCrossAttention(WithoutOneDropout):
    without = 1


@slip(replaces="DecoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class NoDropoutAfterTheFeedForward(WithoutOneDropout):
    without = 2


@slip(replaces="DecoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class OneDrawForTheBatch(Steps):
    def drop_output(self, added):
        return added * self.drop(torch.ones_like(added[:1]))


@slip(replaces="DecoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class DropsTheSameFeatures(Steps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        self.draw = self.drop(torch.ones_like(x))
        return super().forward(x, memory, self_mask, memory_mask)

    def drop_output(self, added):
        return added * self.draw


@slip(replaces="DecoderBlock", caught_by="test_dropout_keeps_the_average")
class DropsTheScoresToo(Steps):
    def score(self, q, k):
        return self.drop(super().score(q, k))


@slip(replaces="DecoderBlock", caught_by="test_dropout_keeps_the_average")
class DropsWhatTheQueriesRead(Steps):
    def attend(self, kind, x, y, mask):
        return super().attend(kind, self.drop(x) if kind == "cross" else x, y, mask)


@slip(replaces="DecoderBlock", caught_by="test_dropout_keeps_the_average")
class DropsWhatTheFeedForwardReads(Steps):
    def feed(self, x):
        return super().feed(self.drop(x))


@slip(replaces="DecoderBlock", caught_by="test_dropout_keeps_the_average")
class ScalesByP(Steps):
    def drop(self, x):
        return super().drop(x) * (1 - self.dropout) / self.dropout if self.training and self.dropout else x


@slip(replaces="DecoderBlock", caught_by="test_shapes")
class RenamesAnArgument(Steps):
    def __init__(self, d_model, heads, d_ff, dropout=0.0):
        super().__init__(d_model, heads, d_ff, dropout)


@slip(replaces="DecoderBlock", caught_by="test_dropout_on_the_attention_weights")
class DrawsTheWeightsOnce(Steps):
    def drop_weights(self, weights):
        if getattr(self, "draw", weights).shape != weights.shape or not hasattr(self, "draw"):
            self.draw = self.drop(torch.ones_like(weights))
        return weights * self.draw.detach() if self.training else weights


@slip(replaces="DecoderBlock", caught_by="test_dropout_after_the_relu")
class SeedsTheDrawOfTheHiddenUnits(Steps):
    def drop_hidden(self, hidden):
        if not self.training:
            return hidden
        draw = torch.rand(hidden.shape, generator=torch.Generator().manual_seed(0)).to(hidden)
        return hidden * (draw >= self.dropout) / (1 - self.dropout)


@slip(replaces="DecoderBlock", caught_by="test_gradients_in_training")
class CutsTheWeightsWhereItDrops(Steps):
    def drop_weights(self, weights):
        return self.drop(weights.detach()) if self.training and self.dropout else weights


@slip(replaces="DecoderBlock", caught_by="test_dropout_rests_in_eval")
class DropsByAFloatMask(Steps):
    def drop(self, x):
        if not self.training or not self.dropout:
            return x
        return x * (torch.rand(x.shape, device=x.device) >= self.dropout).float() / (1 - self.dropout)


@slip(replaces="DecoderBlock", caught_by="test_dropout_rests_in_eval")
class DropsNothingUnderNoGrad(Steps):
    def drop(self, x):
        return super().drop(x) if torch.is_grad_enabled() else x


@slip(replaces="DecoderBlock", caught_by="test_dropout_rests_in_eval")
class ForgetsTheEvalMode(Steps):
    def drop(self, x):
        self.seen_training = self.training or getattr(self, "seen_training", False)
        return F.dropout(x, self.dropout, self.seen_training)


@slip(replaces="DecoderBlock", caught_by="test_repeated_calls")
class KeepsTheMemory(Steps):
    def attend(self, kind, x, y, mask):
        if kind == "cross":
            if not hasattr(self, "kept") or (self.kept.shape, self.kept.dtype) != (y.shape, y.dtype):
                self.kept = y.detach()
            y = self.kept
        return super().attend(kind, x, y, mask)


@slip(replaces="DecoderBlock", caught_by="test_repeated_calls")
class KeepsTheFirstCausalMask(Steps):
    def self_mask(self, x, mask):
        if mask is not None:
            return mask
        if not hasattr(self, "kept") or len(self.kept) < x.shape[1]:
            self.kept = super().self_mask(x, None)
        return self.kept[-x.shape[1] :, : x.shape[1]]


@slip(replaces="DecoderBlock", caught_by="test_batch_items_do_not_meet")
class NormsOverTheBatch(NormsByHand):
    class norm(NormByHand):  # noqa: N801 (it takes the place of a class attribute)
        def spread(self, centred):
            return super().spread(centred).mean(dim=0, keepdim=True)


@slip(replaces="DecoderBlock", caught_by="test_leaves_the_inputs_alone")
class AddsInPlace(Steps):
    def add(self, x, norm, layer):
        added = layer(x)
        if not x.requires_grad:
            with torch.no_grad():
                x += self.drop_output(added)
            return norm(x)
        return norm(x + self.drop_output(added))


@slip(replaces="DecoderBlock", caught_by="test_leaves_the_inputs_alone")
class CutsTheMaskInPlace(Steps):
    def self_mask(self, x, mask):
        return super().self_mask(x, None) if mask is None else mask.logical_and_(torch.ones_like(mask).tril())


@slip(replaces="DecoderBlock", caught_by="test_errors")
class AssertsInsteadOfRaising(Steps):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0):
        assert min(d_model, n_heads, d_ff) >= 1 and d_model % n_heads == 0
        super().__init__(d_model, n_heads, d_ff, dropout)


@slip(replaces="DecoderBlock", caught_by="test_errors")
class AllowsNoHiddenUnits(Steps):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0):
        super().__init__(d_model, n_heads, max(d_ff, 1), dropout)


@slip(replaces="DecoderBlock", caught_by="test_no_loop_over_tokens_or_batch")
class FeedsTokenByToken(Steps):
    def feed(self, x):
        return torch.stack([super(FeedsTokenByToken, self).feed(token) for token in x.unbind(dim=1)], dim=1)


@slip(replaces="DecoderBlock", caught_by="test_no_loop_over_tokens_or_batch")
class WritesTheCausalMaskRowByRow(Steps):
    def self_mask(self, x, mask):
        if mask is not None:
            return mask
        T = x.shape[1]
        mask = torch.zeros(T, T, dtype=torch.bool, device=x.device)
        for t in range(T):
            mask[t, : t + 1] = True
        return mask


@slip(replaces="DecoderBlock", caught_by="test_follows_the_device")
class MakesItsMaskOnTheCpu(Steps):
    def self_mask(self, x, mask):
        return torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).tril() if mask is None else mask


# --- right, in other styles --------------------------------------------------------------------------------


@alternative(replaces="DecoderBlock")
class InSteps(Steps):
    pass


@alternative(replaces="DecoderBlock")
class NormsWrittenOut(NormsByHand):
    pass


@alternative(replaces="DecoderBlock")
class ByEinsum(DecoderBlock):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        def d(t):
            return F.dropout(t, p=self.dropout, training=self.training)

        def attention(wq, wk, wv, wo, x, y, mask):
            q, k, v = (w(t).reshape(*t.shape[:2], self.n_heads, -1) for w, t in ((wq, x), (wk, y), (wv, y)))
            scores = torch.einsum("bthk,bshk->bhts", q, k) * q.shape[-1] ** -0.5
            if mask is not None:
                scores = torch.where(mask, scores, -torch.inf)
            weights = torch.softmax(scores, dim=-1)
            if mask is not None:
                weights = torch.where(mask, weights, 0.0)  # the NaN of a row of -inf goes, and its gradient with it
            return d(wo(torch.einsum("bhts,bshk->bthk", d(weights), v).reshape(x.shape)))

        if self_mask is None:
            t = torch.arange(x.shape[1], device=x.device)
            self_mask = t[:, None] >= t
        projections = self.self_wq, self.self_wk, self.self_wv, self.self_wo
        x = self.norm1(x + attention(*projections, x, x, self_mask))
        projections = self.cross_wq, self.cross_wk, self.cross_wv, self.cross_wo
        x = self.norm2(x + attention(*projections, x, memory, memory_mask))
        return self.norm3(x + d(self.w2(d(torch.clamp(self.w1(x), min=0)))))


@alternative(replaces="DecoderBlock")
class HeadByHead(Steps):
    def attend(self, kind, x, y, mask):
        B, T, D = x.shape
        S, K = y.shape[1], D // self.n_heads
        wq, wk, wv, wo = (self.layer(kind, name) for name in ("wq", "wk", "wv", "wo"))
        allowed = torch.ones(1, dtype=torch.bool, device=x.device) if mask is None else mask
        allowed = torch.broadcast_to(allowed, (B, self.n_heads, T, S))
        out = wo.bias.expand(x.shape)
        for h in range(self.n_heads):
            rows = slice(h * K, (h + 1) * K)
            q, k, v = (F.linear(t, w.weight[rows], w.bias[rows]) for t, w in ((x, wq), (y, wk), (y, wv)))
            some = allowed[:, h].any(dim=-1, keepdim=True)
            scores = torch.bmm(q, k.transpose(1, 2)) / K**0.5
            weights = scores.masked_fill(~allowed[:, h] & some, float("-inf")).softmax(dim=-1) * some
            out = out + self.drop(weights) @ v @ wo.weight[:, rows].T
        return out


@alternative(replaces="DecoderBlock")
class JoinedProjections(Steps):
    def attend(self, kind, x, y, mask):
        B, T, D = x.shape
        S, H, K = y.shape[1], self.n_heads, D // self.n_heads
        wk, wv = self.layer(kind, "wk"), self.layer(kind, "wv")
        weight, bias = torch.cat((wk.weight, wv.weight)), torch.cat((wk.bias, wv.bias))
        kv = torch.addmm(bias, y.reshape(B * S, D), weight.t()).view(B, S, 2, H, K).permute(2, 0, 3, 1, 4)
        k, v = kv.reshape(2, B * H, S, K)
        q = self.layer(kind, "wq")(x).view(B, T, H, K).transpose(1, 2).reshape(B * H, T, K)
        bias = q.new_zeros(B, H, T, S)
        if mask is not None:
            bias = bias.masked_fill(mask.logical_not(), torch.finfo(q.dtype).min)
        weights = torch.baddbmm(bias.view(B * H, T, S), q, k.mT, alpha=1 / math.sqrt(K)).softmax(-1).view(B, H, T, S)
        if mask is not None:
            weights = weights * mask
        heads = torch.bmm(self.drop(weights).view(B * H, T, S), v).view(B, H, T, K)
        return self.layer(kind, "wo")(heads.permute(0, 2, 1, 3).reshape(B, T, D))


@alternative(replaces="DecoderBlock")
class Float64Inside(Steps):
    def forward(self, x, memory, self_mask=None, memory_mask=None):
        state = {name: parameter.double() for name, parameter in self.named_parameters()}

        def linear(name, x):
            return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

        def norm(name, x):
            return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

        def attend(kind, x, y, mask):
            pairs = (f"{kind}_wq", x), (f"{kind}_wk", y), (f"{kind}_wv", y)
            q, k, v = (self.split(linear(*pair)) for pair in pairs)
            return linear(f"{kind}_wo", self.join(self.drop(self.weigh(self.score(q, k), mask)) @ v))

        wide = x.double()
        wide = norm("norm1", wide + self.drop(attend("self", wide, wide, self.self_mask(x, self_mask))))
        wide = norm("norm2", wide + self.drop(attend("cross", wide, memory.double(), memory_mask)))
        hidden = self.drop(F.relu(linear("w1", wide)))
        return norm("norm3", wide + self.drop(linear("w2", hidden))).to(x.dtype)


@alternative(replaces="DecoderBlock")
class ParametersInDicts(DecoderBlock):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0):
        nn.Module.__init__(self)
        if not (d_model >= 1 <= n_heads and d_ff >= 1) or d_model % n_heads:
            raise ValueError(f"{d_model=}, {n_heads=}, {d_ff=} do not fit")
        self.h, self.p = n_heads, dropout
        sizes = {"w2": (d_model, d_ff), "w1": (d_ff, d_model)}
        sizes |= {f"{kind}_w{x}": (d_model, d_model) for x in "ovkq" for kind in ("cross", "self")}
        for name, size in sizes.items():  # in another order
            parameters = {"weight": nn.Parameter(torch.randn(size) / size[1] ** 0.5), "bias": torch.zeros(size[0])}
            setattr(self, name, nn.ParameterDict(parameters))
        for name in "norm1", "norm2", "norm3":
            setattr(self, name, nn.ParameterDict({"weight": torch.ones(d_model), "bias": torch.zeros(d_model)}))

    def forward(self, x, memory, self_mask=None, memory_mask=None):
        def d(t):
            return torch.dropout(t, self.p, self.training)

        def lin(w, t):
            return torch.nn.functional.linear(t, w["weight"], w["bias"])

        def norm(w, t):
            variance, mean = torch.var_mean(t, dim=-1, correction=0, keepdim=True)
            return (t - mean) / torch.sqrt(variance + 1e-5) * w["weight"] + w["bias"]

        def attention(wq, wk, wv, wo, t, y, mask):
            q, k, v = (torch.stack(lin(w, z).chunk(self.h, dim=-1), 1) for w, z in ((wq, t), (wk, y), (wv, y)))
            s = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            m = torch.ones_like(s, dtype=torch.bool) if mask is None else mask.expand_as(s)
            some = m.any(-1, keepdim=True)
            s = s.masked_fill(~m, -torch.inf).masked_fill(~some, 0.0)
            e = (s - s.amax(-1, keepdim=True).detach()).exp()
            w = e / e.sum(-1, keepdim=True) * some
            return lin(wo, torch.cat((d(w) @ v).unbind(1), dim=-1))

        if self_mask is None:
            self_mask = ~torch.triu(torch.ones(2 * x.shape[1:2], device=x.device), diagonal=1).bool()
        x = norm(self.norm1, x + d(attention(self.self_wq, self.self_wk, self.self_wv, self.self_wo, x, x, self_mask)))
        cross = self.cross_wq, self.cross_wk, self.cross_wv, self.cross_wo
        x = norm(self.norm2, x + d(attention(*cross, x, memory, memory_mask)))
        hidden = torch.maximum(lin(self.w1, x), torch.zeros((), device=x.device, dtype=x.dtype))
        return norm(self.norm3, x + d(lin(self.w2, d(hidden))))


@alternative(replaces="DecoderBlock")
class InModules(Steps):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0):
        super().__init__(d_model, n_heads, d_ff, dropout)
        self.softmax, self.relu, self.dropping = nn.Softmax(dim=-1), nn.ReLU(), nn.Dropout(dropout)
        self.register_buffer("causal", torch.ones(1, 1, dtype=torch.bool), persistent=False)

    def self_mask(self, x, mask):
        if mask is not None:
            return mask
        T = x.shape[1]
        if len(self.causal) < T or self.causal.device != x.device:
            self.causal = torch.ones(2 * T, 2 * T, dtype=torch.bool, device=x.device).tril()
        return self.causal[:T, :T]

    def weigh(self, scores, mask):
        if mask is None:
            return self.softmax(scores)
        empty = ~mask.any(dim=-1, keepdim=True)  # such a row goes through the softmax unmasked
        return self.softmax(scores.masked_fill(~(mask | empty), -torch.inf)).masked_fill(empty, 0.0)

    def activate(self, hidden):
        return self.relu(hidden)

    def drop(self, x):
        return self.dropping(x)


@alternative(replaces="DecoderBlock")
class StartsFromZeros(Steps):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


@alternative(replaces="DecoderBlock")
class DropsByHand(Steps):
    def activate(self, hidden):
        return hidden * (hidden > 0)

    def drop(self, x):
        if not self.training or self.dropout == 0:
            return x
        return torch.where(torch.rand(x.shape, device=x.device) < self.dropout, 0.0, x / (1 - self.dropout))
