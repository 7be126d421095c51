"""Other ways to write an encoder block: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from grader.judge.suite import alternative, misconception, slip

from .solution import EncoderBlock


class Steps(EncoderBlock):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x, mask=None):
        if self.norm_first:
            x = self.add_before(x, self.norm1, lambda x: self.attend(x, mask))
            return self.add_before(x, self.norm2, self.feed)
        x = self.add_after(x, self.norm1, lambda x: self.attend(x, mask))
        return self.add_after(x, self.norm2, self.feed)

    def add_before(self, x, norm, layer):
        return x + self.drop_output(layer(norm(x)))

    def add_after(self, x, norm, layer):
        return norm(x + self.drop_output(layer(x)))

    def attend(self, x, mask):
        q, k, v = self.split(self.wq(x)), self.split(self.wk(x)), self.split(self.wv(x))
        return self.wo(self.join(self.drop_weights(self.weigh(self.score(q, k), mask)) @ v))

    def split(self, x):
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, K)

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, T)

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


# --- misconceptions about residuals and norms --------------------------------------------------------------


@misconception(replaces="EncoderBlock", caught_by="test_post_norm_by_hand")
class FormsSwapped(Steps):
    """Your block is pre-norm where post-norm is asked for, and the other way round.

    With norm_first=True each sub-layer reads what a norm made. With norm_first=False, where does the norm stand?
    """

    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        super().__init__(d_model, n_heads, d_ff, dropout, not norm_first)


@misconception(replaces="EncoderBlock", caught_by="test_pre_norm_by_hand")
class AlwaysPostNorm(Steps):
    """Your block is post-norm, whatever norm_first says.

    The paper has this form only. Where do the two norms stand in the models that came after GPT-2?
    """

    def add_before(self, x, norm, layer):
        return self.add_after(x, norm, layer)


@misconception(replaces="EncoderBlock", caught_by="test_post_norm_by_hand")
class AlwaysPreNorm(Steps):
    """Your block is pre-norm, whatever norm_first says.

    That is the form of most models today. Where do the two norms stand in figure 1 of the paper?
    """

    def add_after(self, x, norm, layer):
        return self.add_before(x, norm, layer)


@misconception(replaces="EncoderBlock", caught_by="test_pre_norm_by_hand")
class ResidualOfTheNormedInput(Steps):
    """In the pre-norm form you add the sub-layer's output to the normed x, not to x as it came.

    The residual path of a pre-norm model runs from the first block to the last without a norm. Which x stands at the
    left of the plus in the brief?
    """

    def add_before(self, x, norm, layer):
        x = norm(x)
        return x + self.drop_output(layer(x))


@misconception(replaces="EncoderBlock", caught_by="test_post_norm_by_hand")
class NormsTheSubLayerOnly(Steps):
    """In the post-norm form you norm what the sub-layer returns and then add x.

    In figure 1 the box is called "Add & Norm". Which of the two happens first?
    """

    def add_after(self, x, norm, layer):
        return x + norm(self.drop_output(layer(x)))


@misconception(replaces="EncoderBlock", caught_by="test_pre_norm_by_hand")
class NormsAgainAfterTheSum(Steps):
    """Your pre-norm block norms the sums as well.

    With silent sub-layers a pre-norm block returns x itself. Which norms of your block are in the way?
    """

    def add_before(self, x, norm, layer):
        return norm(super().add_before(x, norm, layer))


@misconception(replaces="EncoderBlock", caught_by="test_pre_norm_by_hand")
class EndsInANorm(Steps):
    """Your pre-norm block ends in a norm.

    A pre-norm model needs one norm after its last block. Does each block need it?
    """

    def forward(self, x, mask=None):
        out = super().forward(x, mask)
        return self.norm2(out) if self.norm_first else out


@misconception(replaces="EncoderBlock", caught_by="test_pre_norm_by_hand")
class NoResiduals(Steps):
    """Your block has no residual connections: the sub-layers' outputs replace x instead of being added to it.

    What does your block return when both sub-layers return 0, and what should be left then?
    """

    def add_before(self, x, norm, layer):
        return self.drop_output(layer(norm(x)))

    def add_after(self, x, norm, layer):
        return norm(self.drop_output(layer(x)))


@misconception(replaces="EncoderBlock", caught_by="test_pre_norm_by_hand")
class NoResidualAroundAttention(Steps):
    """There is no residual around your attention.

    A token whose attention returns 0 should be what it was. What is left of it in your block?
    """

    def forward(self, x, mask=None):
        if self.norm_first:
            x = self.drop_output(self.attend(self.norm1(x), mask))
            return self.add_before(x, self.norm2, self.feed)
        x = self.norm1(self.drop_output(self.attend(x, mask)))
        return self.add_after(x, self.norm2, self.feed)


@misconception(replaces="EncoderBlock", caught_by="test_pre_norm_by_hand")
class NoResidualAroundTheFeedForward(Steps):
    """There is no residual around your feed-forward.

    Figure 1 shows two arrows that go round something. Which two boxes do they go round?
    """

    def forward(self, x, mask=None):
        if self.norm_first:
            x = self.add_before(x, self.norm1, lambda x: self.attend(x, mask))
            return self.drop_output(self.feed(self.norm2(x)))
        x = self.add_after(x, self.norm1, lambda x: self.attend(x, mask))
        return self.norm2(self.drop_output(self.feed(x)))


@misconception(replaces="EncoderBlock", caught_by="test_feed_forward_alone")
class SubLayersSideBySide(Steps):
    """Your feed-forward reads the x from before the attention, so that both sub-layers work side by side.

    Some later models do so (GPT-J, PaLM). What does the second line for x in the brief start from?
    """

    def forward(self, x, mask=None):
        if self.norm_first:
            return x + self.drop(self.attend(self.norm1(x), mask)) + self.drop(self.feed(self.norm2(x)))
        after = self.add_after(x, self.norm1, lambda x: self.attend(x, mask))
        return self.norm2(after + self.drop(self.feed(x)))


@misconception(replaces="EncoderBlock", caught_by="test_post_norm_by_hand")
class OneNormForBoth(Steps):
    """You use norm1 in both places, so that norm2 has no influence.

    Each norm learns gains and biases of its own. Which sub-layer does norm2 belong to?
    """

    def forward(self, x, mask=None):
        if self.norm_first:
            x = self.add_before(x, self.norm1, lambda x: self.attend(x, mask))
            return self.add_before(x, self.norm1, self.feed)
        x = self.add_after(x, self.norm1, lambda x: self.attend(x, mask))
        return self.add_after(x, self.norm1, self.feed)


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

    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        super().__init__(d_model, n_heads, d_ff, dropout, norm_first)
        self.norm1, self.norm2 = self.norm(d_model), self.norm(d_model)


class DividesByOneLess(NormByHand):
    def spread(self, centred):
        return (centred.var(dim=-1, keepdim=True) + 1e-5).sqrt()


class AddsEpsToTheDeviation(NormByHand):
    def spread(self, centred):
        return centred.square().mean(dim=-1, keepdim=True).sqrt() + 1e-5


class TakesNoMean(NormByHand):
    def forward(self, x):
        return x / self.spread(x) * self.weight + self.bias


@misconception(replaces="EncoderBlock", caught_by="test_norms")
class UnbiasedVariance(NormsByHand):
    """Your norms divide the sum of squares by D - 1.

    That is what Tensor.var does by default, to estimate the variance of a larger whole. A layer norm has all D features
    before it. What does it divide by?
    """

    norm = DividesByOneLess


@misconception(replaces="EncoderBlock", caught_by="test_norms")
class EpsOutsideTheRoot(NormsByHand):
    """Your norms add eps to the standard deviation.

    The formula adds it to the variance. For which x does the difference show?
    """

    norm = AddsEpsToTheDeviation


@misconception(replaces="EncoderBlock", caught_by="test_norms")
class NormsByTheRootMeanSquare(NormsByHand):
    """Your norms divide by the root of the mean square without taking the mean away first.

    That is an RMS norm with a bias. What is the mean of a token's features after a layer norm, before gain and bias?
    """

    norm = TakesNoMean


# --- misconceptions about the sub-layers -------------------------------------------------------------------


@misconception(replaces="EncoderBlock", caught_by="test_feed_forward_by_hand")
class Gelu(Steps):
    """Your feed-forward has a GELU between its two layers, as in BERT and GPT.

    What does the original encoder have there, and what is its value at -1?
    """

    def activate(self, hidden):
        return F.gelu(hidden)


@misconception(replaces="EncoderBlock", caught_by="test_feed_forward_by_hand")
class NoActivation(Steps):
    """There is nothing between w1 and w2 in your feed-forward.

    Two linear layers in a row are one linear layer. What makes the hidden width worth having?
    """

    def activate(self, hidden):
        return hidden


@misconception(replaces="EncoderBlock", caught_by="test_feed_forward_by_hand")
class ActivatesTheOutput(Steps):
    """Your ReLU comes after w2 as well.

    Then the feed-forward can only add to a feature, never take away. Between which two layers does the ReLU stand?
    """

    def feed(self, x):
        return super().feed(x).relu()


@misconception(replaces="EncoderBlock", caught_by="test_attention_by_hand")
class ForgetsWo(Steps):
    """Your attention returns the heads side by side, and wo has no influence.

    What mixes the results of the heads before they are added to x?
    """

    def attend(self, x, mask):
        q, k, v = self.split(self.wq(x)), self.split(self.wk(x)), self.split(self.wv(x))
        return self.join(self.drop_weights(self.weigh(self.score(q, k), mask)) @ v)


@misconception(replaces="EncoderBlock", caught_by="test_attention_by_hand")
class ScalesByTheModelWidth(Steps):
    """You divide the scores by sqrt(D).

    The division undoes the growth of a dot product with the number of its terms. How many terms has it in one head?
    """

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1] * self.n_heads)


@misconception(replaces="EncoderBlock", caught_by="test_attention_by_hand")
class DoesNotScale(Steps):
    """Your scores are plain dot products.

    What stands under them in the brief, and what for?
    """

    def score(self, q, k):
        return q @ k.mT


@misconception(replaces="EncoderBlock", caught_by="test_attention_by_hand")
class HeadsInterleaved(Steps):
    """You deal out the features to the heads one by one: head h gets the features h, h + H, h + 2H ...

    Which features does head 0 own in the brief?
    """

    def split(self, x):
        return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)  # (B, T, K, H) -> (B, H, T, K)

    def join(self, heads):
        return heads.permute(0, 2, 3, 1).flatten(2)


@misconception(replaces="EncoderBlock", caught_by="test_attention_alone")
class SplitsWithoutTranspose(Steps):
    """You view (B, T, D) as (B, H, T, K) at once, and go back the same way.

    The shape fits, but a view only counts through the numbers in memory. Whose features are in the first row of head 0,
    and whose in its second row?
    """

    def split(self, x):
        return x.reshape(x.shape[0], self.n_heads, x.shape[1], -1)

    def join(self, heads):
        return heads.reshape(heads.shape[0], heads.shape[2], -1)


@misconception(replaces="EncoderBlock", caught_by="test_attention_alone")
class JoinsWithoutTranspose(Steps):
    """You reshape (B, H, T, K) to (B, T, D) at once.

    The shape fits, but a reshape keeps the order of the numbers. Which tokens' numbers are now in the first row?
    """

    def join(self, heads):
        return heads.reshape(heads.shape[0], heads.shape[2], -1)


@misconception(replaces="EncoderBlock", caught_by="test_attention_alone")
class SoftmaxOverQueries(Steps):
    """Your weights sum to 1 over the queries.

    Each token takes an average of the values. Over which dimension of (B, H, T, T) do its weights lie?
    """

    def weigh(self, scores, mask):
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-2)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


@misconception(replaces="EncoderBlock", caught_by="test_parameter_names")
class ProjectionsWithoutBias(Steps):
    """The projections of your attention have no biases, as in Llama.

    These weights must be exchanged with others. What does nn.Linear(D, D) hold?
    """

    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        super().__init__(d_model, n_heads, d_ff, dropout, norm_first)
        for name in ("wq", "wk", "wv", "wo"):
            setattr(self, name, nn.Linear(d_model, d_model, bias=False))


# --- misconceptions about masks ----------------------------------------------------------------------------


@misconception(replaces="EncoderBlock", caught_by="test_true_in_a_mask_means_may_attend")
class MaskInverted(Steps):
    """You hide tokens where the mask is True, as nn.TransformerEncoderLayer does.

    PyTorch has both conventions. What does True mean in this exercise?
    """

    def weigh(self, scores, mask):
        return super().weigh(scores, None if mask is None else ~mask)


@misconception(replaces="EncoderBlock", caught_by="test_attention_alone")
class AlwaysCausal(Steps):
    """You hide the tokens after each token, whatever the mask.

    A decoder does that. What may a token of an encoder attend to when no mask is given?
    """

    def weigh(self, scores, mask):
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        return super().weigh(scores, causal if mask is None else causal & mask)


@misconception(replaces="EncoderBlock", caught_by="test_true_in_a_mask_means_may_attend")
class IgnoresTheMask(Steps):
    """The mask has no influence in your block.

    Which function of yours should it reach?
    """

    def weigh(self, scores, mask):
        return super().weigh(scores, None)


@misconception(replaces="EncoderBlock", caught_by="test_masks_of_every_shape")
class MasksAfterSoftmax(Steps):
    """You set masked weights to 0 after the softmax and leave the others as they are.

    What do the weights of a token sum to when one of the others is masked?
    """

    def weigh(self, scores, mask):
        weights = scores.softmax(dim=-1)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


@misconception(replaces="EncoderBlock", caught_by="test_a_token_with_nothing_to_attend_to")
class FillsWithALargeNumber(Steps):
    """You fill masked scores with a large negative number and trust the softmax with the rest.

    That is fine as long as some token is allowed. Which weights come out of a row in which all scores are this number?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -1e9)).softmax(dim=-1)


@misconception(replaces="EncoderBlock", caught_by="test_a_token_with_nothing_to_attend_to")
class FillsWithMinusInfinity(Steps):
    """You fill masked scores with -inf and trust the softmax with the rest.

    That is fine as long as some token is allowed. What are the numerator and the denominator in a row of -inf alone?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1)


# --- misconceptions about dropout --------------------------------------------------------------------------


@misconception(replaces="EncoderBlock", caught_by="test_dropout_on_the_attention_weights")
class NoDropoutOnWeights(Steps):
    """In training your attention weights are never dropped.

    The brief names four places for dropout. Two of them lie inside attention and feed-forward, where?
    """

    def drop_weights(self, weights):
        return weights


@misconception(replaces="EncoderBlock", caught_by="test_dropout_after_the_relu")
class NoDropoutOnHiddenUnits(Steps):
    """In training the hidden units of your feed-forward are never dropped.

    The brief names four places for dropout. Which of them lies between w1 and w2?
    """

    def drop_hidden(self, hidden):
        return hidden


@misconception(replaces="EncoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class NoDropoutOnOutputs(Steps):
    """In training nothing that your sub-layers return is dropped before it is added to x.

    Section 5.4 of the paper names this place first. What happens there to the output of each sub-layer?
    """

    def drop_output(self, added):
        return added


@misconception(replaces="EncoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class DropsTheSum(Steps):
    """Your dropout falls on the sum of x and the sub-layer's output, so on x too.

    What should be left of a token when everything that can be dropped is dropped?
    """

    def add_before(self, x, norm, layer):
        return self.drop(x + layer(norm(x)))

    def add_after(self, x, norm, layer):
        return norm(self.drop(x + layer(x)))


@misconception(replaces="EncoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class DropsWhatTheNormsReturn(Steps):
    """Your dropout falls on what the norms return.

    In post-norm that is the token itself, and in pre-norm what a sub-layer reads. What does the brief put in drop(...)?
    """

    def add_before(self, x, norm, layer):
        return x + layer(self.drop(norm(x)))

    def add_after(self, x, norm, layer):
        return self.drop(norm(x + layer(x)))


@misconception(replaces="EncoderBlock", caught_by="test_dropout_rests_in_eval")
class DropoutInEval(Steps):
    """Your dropout acts in eval mode too: two calls with the same inputs differ.

    F.dropout is a function and does not know your module. How does it learn whether you are training?
    """

    def drop(self, x):
        return F.dropout(x, self.dropout)


@misconception(replaces="EncoderBlock", caught_by="test_dropout_keeps_the_average")
class DropsWithoutScaling(Steps):
    """You set numbers to 0 in training and leave the others as they are.

    Then sub-layers return less in training than in eval mode, where nothing is dropped. By which factor, on average?
    """

    def drop(self, x):
        return x * (torch.rand_like(x) >= self.dropout) if self.training else x


# --- slips -------------------------------------------------------------------------------------------------


@slip(replaces="EncoderBlock", caught_by="test_shapes")
class ForgetsTheBatch(Steps):
    def forward(self, x, mask=None):
        return super().forward(x, mask)[0]


@slip(replaces="EncoderBlock", caught_by="test_parameter_names")
class OtherNames(EncoderBlock):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        super().__init__(d_model, n_heads, d_ff, dropout, norm_first)
        self.linear1 = self.w1
        del self.w1
        self.w1 = self.linear1.forward  # a method is no parameter: only linear1 is registered


@slip(replaces="EncoderBlock", caught_by="test_parameter_names")
class SavesAMask(EncoderBlock):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        super().__init__(d_model, n_heads, d_ff, dropout, norm_first)
        self.register_buffer("everything", torch.ones(1, 1, dtype=torch.bool))


@slip(replaces="EncoderBlock", caught_by="test_parameter_names")
class FrozenNorms(EncoderBlock):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        super().__init__(d_model, n_heads, d_ff, dropout, norm_first)
        self.norm1.requires_grad_(False)


@slip(replaces="EncoderBlock", caught_by="test_post_norm_by_hand")
class PreNormByDefault(EncoderBlock):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=True):
        super().__init__(d_model, n_heads, d_ff, dropout, norm_first)


@slip(replaces="EncoderBlock", caught_by="test_post_norm_by_hand")
class NormsSwapped(Steps):
    def forward(self, x, mask=None):
        self_norms = self.norm1, self.norm2
        second, first = self_norms
        if self.norm_first:
            return super().forward(x, mask)
        x = self.add_after(x, first, lambda x: self.attend(x, mask))
        return self.add_after(x, second, self.feed)


@slip(replaces="EncoderBlock", caught_by="test_norms")
class SmallerEps(NormsByHand):
    class norm(NormByHand):  # noqa: N801 (it takes the place of a class attribute)
        def spread(self, centred):
            return (centred.square().mean(dim=-1, keepdim=True) + 1e-6).sqrt()


@slip(replaces="EncoderBlock", caught_by="test_attention_alone")
class IgnoresTheBiasOfTheValues(Steps):
    def attend(self, x, mask):
        q, k, v = self.split(self.wq(x)), self.split(self.wk(x)), self.split(F.linear(x, self.wv.weight))
        return self.wo(self.join(self.drop_weights(self.weigh(self.score(q, k), mask)) @ v))


@slip(replaces="EncoderBlock", caught_by="test_attention_alone")
class ValuesAreNotNormed(Steps):
    def forward(self, x, mask=None):
        if not self.norm_first:
            return super().forward(x, mask)
        u = self.norm1(x)
        q, k, v = self.split(self.wq(u)), self.split(self.wk(u)), self.split(self.wv(x))
        x = x + self.drop(self.wo(self.join(self.drop(self.weigh(self.score(q, k), mask)) @ v)))
        return self.add_before(x, self.norm2, self.feed)


@slip(replaces="EncoderBlock", caught_by="test_feed_forward_alone")
class FeedForwardWithoutItsBias(Steps):
    def feed(self, x):
        return F.linear(self.drop(self.w1(x).relu()), self.w2.weight)


@slip(replaces="EncoderBlock", caught_by="test_feed_forward_by_hand")
class LeakyRelu(Steps):
    def activate(self, hidden):
        return F.leaky_relu(hidden)


@slip(replaces="EncoderBlock", caught_by="test_masks_of_every_shape")
class MaskMustHaveABatch(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if mask is None or mask.dim() > 3 else mask.expand(len(scores), 1, -1, -1))


@slip(replaces="EncoderBlock", caught_by="test_masks_of_every_shape")
class TakesTwoDimensionsForPadding(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.dim() == 2 and len(mask) == len(scores):
            mask = mask[:, None, None, :]
        return super().weigh(scores, mask)


@slip(replaces="EncoderBlock", caught_by="test_a_token_with_nothing_to_attend_to")
class SilencesTheToken(Steps):
    def attend(self, x, mask):
        out = super().attend(x, mask)
        if mask is None:
            return out
        some = mask.any(dim=-1, keepdim=True).expand(len(x), self.n_heads, x.shape[1], 1).any(dim=1)
        return out * some


@slip(replaces="EncoderBlock", caught_by="test_masked_tokens_leave_no_trace")
class ValuesAreCentred(Steps):
    def attend(self, x, mask):
        return super().attend(x, mask) - 1e-3 * x.mean(dim=1, keepdim=True)


@slip(replaces="EncoderBlock", caught_by="test_huge_scores")
class SoftmaxOverflows(Steps):
    def weigh(self, scores, mask):
        powers = scores.exp() if mask is None else scores.exp() * mask
        total = powers.sum(dim=-1, keepdim=True)
        return powers / total.masked_fill(total == 0, 1.0)


@slip(replaces="EncoderBlock", caught_by="test_huge_scores")
class ClampsTheScores(Steps):
    def score(self, q, k):
        return super().score(q, k).clamp(-50.0, 50.0)


@slip(replaces="EncoderBlock", caught_by="test_huge_scores")
class FillsWithASmallNumber(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, -1000.0).softmax(dim=-1) * mask.any(dim=-1, keepdim=True)


@slip(replaces="EncoderBlock", caught_by="test_the_order_of_the_tokens_does_not_matter")
class PrefersLateTokens(Steps):
    def score(self, q, k):
        return super().score(q, k) + 0.1 * torch.arange(k.shape[-2], device=k.device, dtype=k.dtype)


@slip(replaces="EncoderBlock", caught_by="test_matches_the_reference")
class NeedsContiguousInputs(Steps):
    def attend(self, x, mask):
        return super().attend(x.view(-1, x.shape[-1]).view(x.shape), mask)


@slip(replaces="EncoderBlock", caught_by="test_matches_the_reference")
class SqueezesTheSingleItem(Steps):
    def forward(self, x, mask=None):
        out = super().forward(x, mask)
        return out if len(x) > 1 else out.squeeze(0)


@slip(replaces="EncoderBlock", caught_by="test_float64")
class WeighsInFloat32(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores.float(), mask).to(scores.dtype)


@slip(replaces="EncoderBlock", caught_by="test_float64")
class NormsInFloat32(NormsByHand):
    class norm(NormByHand):  # noqa: N801 (it takes the place of a class attribute)
        def forward(self, x):
            return super().forward(x.float()).to(x.dtype)


@slip(replaces="EncoderBlock", caught_by="test_bfloat16")
class AnswersInFloat32(Steps):
    def forward(self, x, mask=None):
        out = super().forward(x, mask)
        return out.float() if out.dtype == torch.bfloat16 else out


@slip(replaces="EncoderBlock", caught_by="test_gradients")
class DetachesTheResidual(Steps):
    def add_before(self, x, norm, layer):
        return x.detach() + self.drop_output(layer(norm(x)))


@slip(replaces="EncoderBlock", caught_by="test_gradients")
class DetachesTheStatistics(NormsByHand):
    class norm(NormByHand):  # noqa: N801 (it takes the place of a class attribute)
        def spread(self, centred):
            return super().spread(centred).detach()


@slip(replaces="EncoderBlock", caught_by="test_gradients_under_a_mask")
class NanInTheGradient(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        return (scores + bias).softmax(dim=-1).nan_to_num()


@slip(replaces="EncoderBlock", caught_by="test_dropout_on_the_attention_weights")
class DropsWeightsOnlyWithoutAMask(Steps):
    def attend(self, x, mask):
        q, k, v = self.split(self.wq(x)), self.split(self.wk(x)), self.split(self.wv(x))
        weights = self.weigh(self.score(q, k), mask)
        return self.wo(self.join((self.drop_weights(weights) if mask is None else weights) @ v))


@slip(replaces="EncoderBlock", caught_by="test_dropout_on_the_attention_weights")
class DropsWholeKeys(Steps):
    def drop_weights(self, weights):
        return weights * self.drop(torch.ones_like(weights[:, :, :1]))


@slip(replaces="EncoderBlock", caught_by="test_dropout_on_the_attention_weights")
class DropsTheScores(Steps):
    def score(self, q, k):
        return self.drop(super().score(q, k))

    def drop_weights(self, weights):
        return weights


@slip(replaces="EncoderBlock", caught_by="test_dropout_after_the_relu")
class DropsUnitsForAllTokens(Steps):
    def drop_hidden(self, hidden):
        return hidden * self.drop(torch.ones_like(hidden[:, :1]))


@slip(replaces="EncoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class NoDropoutAfterTheFeedForward(Steps):
    def drop_output(self, added):
        return added

    def attend(self, x, mask):
        return self.drop(super().attend(x, mask))


@slip(replaces="EncoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class OneDrawForTheBatch(Steps):
    def drop_output(self, added):
        return added * self.drop(torch.ones_like(added[:1]))


@slip(replaces="EncoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class DropsTwiceInPostNorm(Steps):
    def add_after(self, x, norm, layer):
        return self.drop(super().add_after(x, norm, layer))


@slip(replaces="EncoderBlock", caught_by="test_dropout_on_what_the_sub_layers_return")
class DropsTheSameFeatures(Steps):
    def forward(self, x, mask=None):
        self.draw = self.drop(torch.ones_like(x))
        return super().forward(x, mask)

    def drop_output(self, added):
        return added * self.draw


@slip(replaces="EncoderBlock", caught_by="test_dropout_keeps_the_average")
class DropsTheScoresToo(Steps):
    def score(self, q, k):
        return self.drop(super().score(q, k))


@slip(replaces="EncoderBlock", caught_by="test_dropout_keeps_the_average")
class DropsWhatTheQueriesRead(Steps):
    def attend(self, x, mask):
        q, k, v = self.split(self.wq(self.drop(x))), self.split(self.wk(x)), self.split(self.wv(x))
        return self.wo(self.join(self.drop_weights(self.weigh(self.score(q, k), mask)) @ v))


@slip(replaces="EncoderBlock", caught_by="test_dropout_keeps_the_average")
class DropsWhatTheFeedForwardReads(Steps):
    def feed(self, x):
        return super().feed(self.drop(x))


@slip(replaces="EncoderBlock", caught_by="test_dropout_keeps_the_average")
class ScalesByP(Steps):
    def drop(self, x):
        return super().drop(x) * (1 - self.dropout) / self.dropout if self.training and self.dropout else x


@slip(replaces="EncoderBlock", caught_by="test_gradients_in_training")
class StraightThrough(Steps):
    def drop(self, x):
        return x + (super().drop(x) - x).detach()


@slip(replaces="EncoderBlock", caught_by="test_attention_alone")
class SeesHundredTokens(Steps):
    def weigh(self, scores, mask):
        T = scores.shape[-1]
        near = torch.ones(T, T, dtype=torch.bool, device=scores.device).tril(99).triu(-99)
        return super().weigh(scores, near if mask is None else near & mask)


@slip(replaces="EncoderBlock", caught_by="test_shapes")
class RenamesAnArgument(Steps):
    def __init__(self, d_model, heads, d_ff, dropout=0.0, norm_first=False):
        super().__init__(d_model, heads, d_ff, dropout, norm_first)


@slip(replaces="EncoderBlock", caught_by="test_dropout_on_the_attention_weights")
class DrawsTheWeightsOnce(Steps):
    def drop_weights(self, weights):
        if getattr(self, "draw", weights).shape != weights.shape or not hasattr(self, "draw"):
            self.draw = self.drop(torch.ones_like(weights))
        return weights * self.draw.detach() if self.training else weights


@slip(replaces="EncoderBlock", caught_by="test_dropout_after_the_relu")
class SeedsTheDrawOfTheHiddenUnits(Steps):
    def drop_hidden(self, hidden):
        if not self.training:
            return hidden
        draw = torch.rand(hidden.shape, generator=torch.Generator().manual_seed(0)).to(hidden)
        return hidden * (draw >= self.dropout) / (1 - self.dropout)


@slip(replaces="EncoderBlock", caught_by="test_gradients_in_training")
class CutsTheWeightsWhereItDrops(Steps):
    def drop_weights(self, weights):
        return self.drop(weights.detach()) if self.training and self.dropout else weights


@slip(replaces="EncoderBlock", caught_by="test_dropout_rests_in_eval")
class DropsByAFloatMask(Steps):
    def drop(self, x):
        if not self.training or not self.dropout:
            return x
        return x * (torch.rand(x.shape, device=x.device) >= self.dropout).float() / (1 - self.dropout)


@slip(replaces="EncoderBlock", caught_by="test_dropout_rests_in_eval")
class DropsNothingUnderNoGrad(Steps):
    def drop(self, x):
        return super().drop(x) if torch.is_grad_enabled() else x


@slip(replaces="EncoderBlock", caught_by="test_dropout_rests_in_eval")
class ForgetsTheEvalMode(Steps):
    def drop(self, x):
        self.seen_training = self.training or getattr(self, "seen_training", False)
        return F.dropout(x, self.dropout, self.seen_training)


@slip(replaces="EncoderBlock", caught_by="test_repeated_calls")
class KeepsTheFirstMask(Steps):
    def weigh(self, scores, mask):
        if mask is not None:
            if not hasattr(self, "kept") or self.kept.shape != mask.shape:
                self.kept = mask
            mask = self.kept
        return super().weigh(scores, mask)


@slip(replaces="EncoderBlock", caught_by="test_repeated_calls")
class KeepsJoinedProjections(Steps):
    def attend(self, x, mask):
        if not hasattr(self, "joined") or self.joined[0].dtype != x.dtype:
            w = self.wq, self.wk, self.wv
            self.joined = [torch.cat([getattr(layer, n) for layer in w]).detach() for n in ("weight", "bias")]
        q, k, v = map(self.split, F.linear(x, *self.joined).chunk(3, dim=-1))
        return self.wo(self.join(self.drop_weights(self.weigh(self.score(q, k), mask)) @ v))


@slip(replaces="EncoderBlock", caught_by="test_batch_items_do_not_meet")
class NormsOverTheBatch(NormsByHand):
    class norm(NormByHand):  # noqa: N801 (it takes the place of a class attribute)
        def spread(self, centred):
            return super().spread(centred).mean(dim=0, keepdim=True)


@slip(replaces="EncoderBlock", caught_by="test_leaves_the_inputs_alone")
class AddsInPlace(Steps):
    def forward(self, x, mask=None):
        if self.norm_first and not x.requires_grad:
            with torch.no_grad():
                x += self.drop_output(self.attend(self.norm1(x), mask))
            return self.add_before(x, self.norm2, self.feed)
        return super().forward(x, mask)


@slip(replaces="EncoderBlock", caught_by="test_leaves_the_inputs_alone")
class InvertsTheMaskInPlace(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if mask is None else ~mask.logical_not_())


@slip(replaces="EncoderBlock", caught_by="test_errors")
class AssertsInsteadOfRaising(Steps):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        assert min(d_model, n_heads, d_ff) >= 1 and d_model % n_heads == 0
        super().__init__(d_model, n_heads, d_ff, dropout, norm_first)


@slip(replaces="EncoderBlock", caught_by="test_errors")
class AllowsNoHiddenUnits(Steps):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        super().__init__(d_model, n_heads, max(d_ff, 1), dropout, norm_first)


@slip(replaces="EncoderBlock", caught_by="test_no_loop_over_tokens_or_batch")
class FeedsTokenByToken(Steps):
    def feed(self, x):
        return torch.stack([super(FeedsTokenByToken, self).feed(token) for token in x.unbind(dim=1)], dim=1)


@slip(replaces="EncoderBlock", caught_by="test_no_loop_over_tokens_or_batch")
class LoopsOverTheBatch(Steps):
    def score(self, q, k):
        return torch.stack([super(LoopsOverTheBatch, self).score(q[b], k[b]) for b in range(len(q))])


@slip(replaces="EncoderBlock", caught_by="test_follows_the_device")
class MakesItsMaskOnTheCpu(Steps):
    def weigh(self, scores, mask):
        everything = torch.ones(scores.shape[-2:], dtype=torch.bool)
        return super().weigh(scores, everything if mask is None else mask)


# --- right, in other styles --------------------------------------------------------------------------------


@alternative(replaces="EncoderBlock")
class InSteps(Steps):
    pass


@alternative(replaces="EncoderBlock")
class NormsWrittenOut(NormsByHand):
    pass


class FromMoments(NormByHand):
    def forward(self, x):
        wide = x.double()
        mean = wide.mean(-1, True)
        variance = (wide * wide).mean(-1, True) - mean**2
        return ((wide - mean) * torch.rsqrt(variance + 1e-5) * self.weight.double() + self.bias.double()).to(x.dtype)


@alternative(replaces="EncoderBlock")
class NormsFromMoments(NormsByHand):
    norm = FromMoments


@alternative(replaces="EncoderBlock")
class ByEinsum(EncoderBlock):
    def forward(self, x, mask=None):
        u = self.norm1(x) if self.norm_first else x
        q, k, v = (w(u).reshape(*x.shape[:2], self.n_heads, -1) for w in (self.wq, self.wk, self.wv))  # (B, T, H, K)
        scores = torch.einsum("bthk,bshk->bhts", q, k) * q.shape[-1] ** -0.5
        if mask is not None:
            scores = torch.where(mask, scores, -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        if mask is not None:
            weights = torch.where(mask, weights, 0.0)  # the NaN of a row of -inf goes, and its gradient with it
        heads = torch.einsum("bhts,bshk->bthk", F.dropout(weights, self.dropout, self.training), v)
        x = x + F.dropout(self.wo(heads.reshape(x.shape)), self.dropout, self.training)
        x = x if self.norm_first else self.norm1(x)
        u = self.norm2(x) if self.norm_first else x
        hidden = F.dropout(torch.clamp(self.w1(u), min=0), self.dropout, self.training)
        x = x + F.dropout(self.w2(hidden), self.dropout, self.training)
        return x if self.norm_first else self.norm2(x)


@alternative(replaces="EncoderBlock")
class HeadByHead(Steps):
    def attend(self, x, mask):
        B, T, D = x.shape
        K = D // self.n_heads
        allowed = torch.ones(1, dtype=torch.bool, device=x.device) if mask is None else mask
        allowed = torch.broadcast_to(allowed, (B, self.n_heads, T, T))
        out = self.wo.bias.expand(x.shape)
        for h in range(self.n_heads):
            rows = slice(h * K, (h + 1) * K)
            q, k, v = (F.linear(x, w.weight[rows], w.bias[rows]) for w in (self.wq, self.wk, self.wv))
            some = allowed[:, h].any(dim=-1, keepdim=True)
            scores = torch.bmm(q, k.transpose(1, 2)) / K**0.5
            weights = scores.masked_fill(~allowed[:, h] & some, float("-inf")).softmax(dim=-1) * some
            out = out + self.drop(weights) @ v @ self.wo.weight[:, rows].T
        return out


@alternative(replaces="EncoderBlock")
class JoinedProjections(Steps):
    def attend(self, x, mask):
        layers = self.wq, self.wk, self.wv
        weight, bias = (torch.cat([getattr(w, name) for w in layers]) for name in ("weight", "bias"))
        B, T, D = x.shape
        H, K = self.n_heads, D // self.n_heads
        qkv = torch.addmm(bias, x.reshape(B * T, D), weight.t()).view(B, T, 3, H, K).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.reshape(3, B * H, T, K)
        bias = q.new_zeros(B, H, T, T)
        if mask is not None:
            bias = bias.masked_fill(mask.logical_not(), torch.finfo(q.dtype).min)
        scores = torch.baddbmm(bias.view(B * H, T, T), q, k.mT, alpha=1 / math.sqrt(K))
        weights = scores.softmax(-1).view(B, H, T, T)
        if mask is not None:
            weights = weights * mask
        heads = torch.bmm(self.drop(weights).view(B * H, T, T), v).view(B, H, T, K)
        return self.wo(heads.permute(0, 2, 1, 3).reshape(B, T, D))


@alternative(replaces="EncoderBlock")
class Float64Inside(Steps):
    def forward(self, x, mask=None):
        state = {name: parameter.double() for name, parameter in self.named_parameters()}

        def linear(name, x):
            return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

        def norm(name, x):
            return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])

        def attend(x):
            q, k, v = (self.split(linear(name, x)) for name in ("wq", "wk", "wv"))
            return linear("wo", self.join(self.drop(self.weigh(self.score(q, k), mask)) @ v))

        def feed(x):
            return linear("w2", self.drop(F.relu(linear("w1", x))))

        wide = x.double()
        for name, layer in (("norm1", attend), ("norm2", feed)):
            if self.norm_first:
                wide = wide + self.drop(layer(norm(name, wide)))
            else:
                wide = norm(name, wide + self.drop(layer(wide)))
        return wide.to(x.dtype)


@alternative(replaces="EncoderBlock")
class ParametersInDicts(EncoderBlock):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        nn.Module.__init__(self)
        if not (d_model >= 1 <= n_heads and d_ff >= 1) or d_model % n_heads:
            raise ValueError(f"{d_model=}, {n_heads=}, {d_ff=} do not fit")
        self.h, self.p, self.pre = n_heads, dropout, norm_first
        sizes = {"w2": (d_model, d_ff), "w1": (d_ff, d_model)} | dict.fromkeys(
            ["wo", "wv", "wk", "wq"], (d_model, d_model)
        )
        for name, size in sizes.items():  # in another order
            parameters = {"weight": nn.Parameter(torch.randn(size) / size[1] ** 0.5), "bias": torch.zeros(size[0])}
            setattr(self, name, nn.ParameterDict(parameters))
        for name in "norm1", "norm2":
            setattr(self, name, nn.ParameterDict({"weight": torch.ones(d_model), "bias": torch.zeros(d_model)}))

    def forward(self, x, mask=None):
        def d(t):
            return torch.dropout(t, self.p, self.training)

        def lin(w, t):
            return torch.nn.functional.linear(t, w["weight"], w["bias"])

        def norm(w, t):
            variance, mean = torch.var_mean(t, dim=-1, correction=0, keepdim=True)
            return (t - mean) / torch.sqrt(variance + 1e-5) * w["weight"] + w["bias"]

        def attention(t):
            q, k, v = (torch.stack(lin(w, t).chunk(self.h, dim=-1), dim=1) for w in (self.wq, self.wk, self.wv))
            s = q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5
            if mask is not None:
                m = mask.expand_as(s)
                s = s.masked_fill(~m, -torch.inf).masked_fill(~m.any(-1, keepdim=True), 0.0)
            s = s - s.amax(-1, keepdim=True).detach()
            e = s.exp()
            w = e / e.sum(-1, keepdim=True)
            if mask is not None:
                w = w * m.any(-1, keepdim=True)
            return lin(self.wo, torch.cat((d(w) @ v).unbind(1), dim=-1))

        def feed_forward(t):
            return lin(self.w2, d(torch.maximum(lin(self.w1, t), torch.zeros((), device=t.device, dtype=t.dtype))))

        for layer, w in ((attention, self.norm1), (feed_forward, self.norm2)):
            x = x + d(layer(norm(w, x))) if self.pre else norm(w, x + d(layer(x)))
        return x


@alternative(replaces="EncoderBlock")
class InModules(Steps):
    def __init__(self, d_model, n_heads, d_ff, dropout=0.0, norm_first=False):
        super().__init__(d_model, n_heads, d_ff, dropout, norm_first)
        self.softmax, self.relu = nn.Softmax(dim=-1), nn.ReLU()
        self.drop1, self.drop2, self.drop3 = (nn.Dropout(dropout) for _ in range(3))

    def weigh(self, scores, mask):
        if mask is None:
            return self.softmax(scores)
        empty = ~mask.any(dim=-1, keepdim=True)  # such a row goes through the softmax unmasked
        return self.softmax(scores.masked_fill(~(mask | empty), -torch.inf)).masked_fill(empty, 0.0)

    def activate(self, hidden):
        return self.relu(hidden)

    def drop_weights(self, weights):
        return self.drop1(weights)

    def drop_hidden(self, hidden):
        return self.drop2(hidden)

    def drop_output(self, added):
        return self.drop3(added)


@alternative(replaces="EncoderBlock")
class StartsFromZeros(Steps):
    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        for parameter in self.parameters():
            nn.init.zeros_(parameter)


@alternative(replaces="EncoderBlock")
class DropsByHand(Steps):
    def activate(self, hidden):
        return hidden * (hidden > 0)

    def drop(self, x):
        if not self.training or self.dropout == 0:
            return x
        return torch.where(torch.rand(x.shape, device=x.device) < self.dropout, 0.0, x / (1 - self.dropout))
