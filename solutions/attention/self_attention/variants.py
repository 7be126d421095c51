"""Other ways to write self-attention: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import SelfAttention


class Steps(SelfAttention):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x):
        q, k, v = self.project(x)
        weights = self.weigh(self.score(q, k))
        return weights @ v, weights

    def project(self, x):
        return self.wq(x), self.wk(x), self.wv(x)  # (B, T, d_out) each

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])  # (B, T, T)

    def future(self, scores):
        """Return True where a query must not look, shape (T, T)."""
        T = scores.shape[-1]
        hidden = torch.ones(T, T, dtype=torch.bool, device=scores.device).triu(1)
        return hidden if self.causal else hidden & False

    def weigh(self, scores):
        return scores.masked_fill(self.future(scores), -math.inf).softmax(dim=-1)


# --- misconceptions about projections and scores ----------------------------------------------------------


@misconception(replaces="SelfAttention", caught_by="test_scores_are_divided_by_the_root_of_d_out")
class ScalesByTheInputWidth(Steps):
    """You divide the scores by sqrt(d_in), the root of the width of the tokens.

    The division undoes the growth of a dot product with the number of its terms. How many terms has q . k?
    """

    def score(self, q, k):
        return q @ k.mT / math.sqrt(self.wq.weight.shape[1])


@misconception(replaces="SelfAttention", caught_by="test_scores_are_divided_by_the_root_of_d_out")
class DoesNotScale(Steps):
    """Your scores are plain dot products, as in the book's first version without trainable weights.

    They spread more and more the larger d_out is, and the softmax comes close to picking one key. What are they
    divided by in section 3.4?
    """

    def score(self, q, k):
        return q @ k.mT


@misconception(replaces="SelfAttention", caught_by="test_scores_are_divided_by_the_root_of_d_out")
class ScalesByTheWidthItself(Steps):
    """You divide the scores by d_out itself.

    If the entries of q and k have variance 1, what is the variance of their dot product? And its standard deviation?
    """

    def score(self, q, k):
        return q @ k.mT / q.shape[-1]


@misconception(replaces="SelfAttention", caught_by="test_weights_of_a_query_sum_to_1")
class ScalesAfterSoftmax(Steps):
    """You divide after the softmax instead of before it.

    What do the weights of one query sum to then, and how large should the scores be when the softmax sees them?
    """

    def score(self, q, k):
        return q @ k.mT

    def weigh(self, scores):
        return super().weigh(scores) / math.sqrt(self.wq.weight.shape[0])


@misconception(replaces="SelfAttention", caught_by="test_weights_of_a_query_sum_to_1")
class SoftmaxOverQueries(Steps):
    """Your weights sum to 1 over the queries: down the columns instead of along the rows.

    Each query takes an average of the values. Over which dimension of (B, T, T) do its weights lie?
    """

    def weigh(self, scores):
        future = self.future(scores)
        return scores.masked_fill(future, torch.finfo(scores.dtype).min).softmax(dim=-2).masked_fill(future, 0.0)


@misconception(replaces="SelfAttention", caught_by="test_batch_items_do_not_meet")
class SoftmaxOverTheBatch(Steps):
    """Your weights sum to 1 over the batch: you take the softmax over the first dimension.

    The book's example has no batch. Which dimension of (B, T, T) counts the keys?
    """

    def weigh(self, scores):
        future = self.future(scores)
        return scores.masked_fill(future, torch.finfo(scores.dtype).min).softmax(dim=0).masked_fill(future, 0.0)


@misconception(replaces="SelfAttention", caught_by="test_two_tokens_by_hand")
class KeysCompareWithQueries(Steps):
    """Your table of scores lies on its side: you seem to compute k q^T.

    Row t should hold the scores of query t. Whose scores are in row t of k q^T?
    """

    def score(self, q, k):
        return super().score(k, q)


@misconception(replaces="SelfAttention", caught_by="test_two_tokens_by_hand")
class OneProjectionForQueriesAndKeys(Steps):
    """You project the keys with wq, so that wk has no influence.

    With one projection for both, "a looks at b" scores like "b looks at a". Which projection belongs to the keys?
    """

    def project(self, x):
        return self.wq(x), self.wq(x), self.wv(x)


@misconception(replaces="SelfAttention", caught_by="test_two_tokens_by_hand")
class AveragesTheKeys(Steps):
    """You average the keys, so that wv has no influence.

    The weights are found by queries and keys. What are they applied to?
    """

    def forward(self, x):
        q, k, _ = self.project(x)
        weights = self.weigh(self.score(q, k))
        return weights @ k, weights


@misconception(replaces="SelfAttention", caught_by="test_two_tokens_by_hand")
class AveragesTheInputs(Steps):
    """You average the tokens themselves, as in section 3.3, so that wv has no influence.

    Which of the three projections says what a token has to tell?
    """

    def forward(self, x):
        q, k, _ = self.project(x)
        weights = self.weigh(self.score(q, k))
        return weights @ x, weights


@misconception(replaces="SelfAttention", caught_by="test_two_tokens_by_hand")
class WeightsTransposed(Steps):
    """You multiply x by the weights as they are stored, x @ wq.weight.

    The book's first class does so with parameters of shape (d_in, d_out). nn.Linear stores (d_out, d_in): what does it
    do before it multiplies?
    """

    def project(self, x):
        return x @ self.wq.weight, x @ self.wk.weight, x @ self.wv.weight


@misconception(replaces="SelfAttention", caught_by="test_parameter_names")
class ProjectionsWithBias(Steps):
    """Your projections have biases.

    nn.Linear adds one unless it is told not to. Which argument tells it?
    """

    def __init__(self, d_in, d_out, causal=False):
        super().__init__(d_in, d_out, causal)
        self.wq, self.wk, self.wv = (nn.Linear(d_in, d_out) for _ in range(3))


@misconception(replaces="SelfAttention", caught_by="test_two_tokens_by_hand")
class ReturnsTheScores(Steps):
    """Your context is right, but what you return beside it are the scores.

    Do the numbers that you return for one query sum to 1?
    """

    def forward(self, x):
        q, k, v = self.project(x)
        scores = self.score(q, k)
        return self.weigh(scores) @ v, scores


# --- misconceptions about the causal mask -----------------------------------------------------------------


@misconception(replaces="SelfAttention", caught_by="test_causal_by_hand")
class IgnoresCausal(Steps):
    """Your causal layer looks at the future: the argument causal has no influence.

    Which half of the scores belongs to keys that come after their query?
    """

    def future(self, scores):
        return super().future(scores) & False


@misconception(replaces="SelfAttention", caught_by="test_without_the_mask_order_does_not_matter")
class AlwaysCausal(Steps):
    """You hide the future whether causal is set or not.

    An encoder reads the whole text at once. What may a token look at with causal=False?
    """

    def future(self, scores):
        return torch.ones_like(scores[0], dtype=torch.bool).triu(1)


@misconception(replaces="SelfAttention", caught_by="test_causal_by_hand")
class SeesOneTokenAhead(Steps):
    """Your mask is off by one: every token sees the token right after it.

    That is the very word that a language model is asked to guess. Where does the hidden part of row 0 begin?
    """

    def future(self, scores):
        return super().future(scores).triu(2)


@misconception(replaces="SelfAttention", caught_by="test_causal_by_hand")
class DoesNotSeeItself(Steps):
    """Your mask hides the diagonal too, so that a token does not see itself.

    What is left for the first token to look at? And what does a softmax make of that?
    """

    def future(self, scores):
        return torch.ones_like(scores[0], dtype=torch.bool).triu(0) if self.causal else super().future(scores)


@misconception(replaces="SelfAttention", caught_by="test_causal_by_hand")
class HidesThePast(Steps):
    """You hide the past and show the future: your mask is the other triangle.

    Rows are queries, columns are keys. In row 0, which columns come later?
    """

    def future(self, scores):
        return super().future(scores).mT


@misconception(replaces="SelfAttention", caught_by="test_causal_by_hand")
class MasksAfterSoftmax(Steps):
    """You set the future's weights to 0 after the softmax and leave the others as they are.

    The future still takes its share of the sum then. What do the weights of the first token sum to?
    """

    def weigh(self, scores):
        return scores.softmax(dim=-1).masked_fill(self.future(scores), 0.0)


@misconception(replaces="SelfAttention", caught_by="test_huge_scores")
class DividesByWhatIsLeft(Steps):
    """You take the future out after the softmax and divide each row by what is left of it.

    On paper that is right, and section 3.5.1 begins with it. What is left of a row whose largest score, by far, is in
    the future?
    """

    def weigh(self, scores):
        weights = scores.softmax(dim=-1).masked_fill(self.future(scores), 0.0)
        return weights / weights.sum(dim=-1, keepdim=True)


@misconception(replaces="SelfAttention", caught_by="test_causal_by_hand")
class FillsWithZero(Steps):
    """You set the scores of the future to 0, for example by torch.tril alone.

    A score of 0 is no low score. What weight does the softmax give to it, next to a score of -1?
    """

    def weigh(self, scores):
        return scores.masked_fill(self.future(scores), 0.0).softmax(dim=-1)


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="SelfAttention", caught_by="test_shapes")
class DropsABatchOfOne(Steps):
    def forward(self, x):
        context, weights = super().forward(x)
        return context, weights[0]


@slip(replaces="SelfAttention", caught_by="test_shapes")
class WeightsFirst(Steps):
    def forward(self, x):
        context, weights = super().forward(x)
        return weights, context


@slip(replaces="SelfAttention", caught_by="test_parameter_names")
class OtherNames(Steps):
    def __init__(self, d_in, d_out, causal=False):
        super().__init__(d_in, d_out, causal)
        self.W_query, self.W_key, self.W_value = self.wq, self.wk, self.wv
        del self.wq, self.wk, self.wv

    def project(self, x):
        return self.W_query(x), self.W_key(x), self.W_value(x)


@slip(replaces="SelfAttention", caught_by="test_parameter_names")
class SavesTheMask(Steps):
    def __init__(self, d_in, d_out, causal=False):
        super().__init__(d_in, d_out, causal)
        self.register_buffer("mask", torch.ones(256, 256, dtype=torch.bool).triu(1))


@slip(replaces="SelfAttention", caught_by="test_the_numbers_of_the_book")
class RoundsTheWeights(Steps):
    def weigh(self, scores):
        return super().weigh(scores).mul(100).round().div(100)


@slip(replaces="SelfAttention", caught_by="test_later_tokens_weigh_exactly_0")
class FillsWithASmallNumber(Steps):
    def weigh(self, scores):
        return scores.masked_fill(self.future(scores), -50.0).softmax(dim=-1)


@slip(replaces="SelfAttention", caught_by="test_huge_scores")
class FillsWithMinusTenThousand(Steps):
    def weigh(self, scores):
        return scores.masked_fill(self.future(scores), -1e4).softmax(dim=-1)


@slip(replaces="SelfAttention", caught_by="test_huge_scores")
class SoftmaxOverflows(Steps):
    def weigh(self, scores):
        powers = scores.exp().masked_fill(self.future(scores), 0.0)
        return powers / powers.sum(dim=-1, keepdim=True)


@slip(replaces="SelfAttention", caught_by="test_huge_scores")
class FillsWithMinusFifteenThousand(Steps):
    def weigh(self, scores):
        return scores.masked_fill(self.future(scores), -15_000.0).softmax(dim=-1)


@slip(replaces="SelfAttention", caught_by="test_huge_scores")
class OverflowsInBfloat16(Steps):
    def weigh(self, scores):
        if scores.dtype != torch.bfloat16:
            return super().weigh(scores)
        powers = scores.masked_fill(self.future(scores), -math.inf).exp()
        return powers / powers.sum(dim=-1, keepdim=True)


@slip(replaces="SelfAttention", caught_by="test_repeated_calls")
class NamesItsWidthsOtherwise(Steps):
    def __init__(self, dim_in, dim_out, causal=False):
        super().__init__(dim_in, dim_out, causal)


@slip(replaces="SelfAttention", caught_by="test_gradients")
class NoGradientThroughTheWeightsInTraining(Steps):
    def weigh(self, scores):
        return super().weigh(scores.detach() if self.training else scores)


@slip(replaces="SelfAttention", caught_by="test_gradients")
class NoGradientForABatchOfOne(Steps):
    def forward(self, x):
        context, weights = super().forward(x)
        return context.detach() if len(x) == 1 else context, weights


@slip(replaces="SelfAttention", caught_by="test_repeated_calls")
class TableOfAThousandTokens(Steps):
    def __init__(self, d_in, d_out, causal=False):
        super().__init__(d_in, d_out, causal)
        self.register_buffer("table", torch.ones(1024, 1024, dtype=torch.bool).triu(1), persistent=False)

    def future(self, scores):
        T = scores.shape[-1]
        return self.table[:T, :T] if self.causal else super().future(scores)


@slip(replaces="SelfAttention", caught_by="test_huge_scores")
class LargestScoreOfTheFuture(Steps):
    def weigh(self, scores):
        powers = (scores - scores.amax(dim=-1, keepdim=True)).exp().masked_fill(self.future(scores), 0.0)
        return powers / powers.sum(dim=-1, keepdim=True).clamp(min=1e-30)


@slip(replaces="SelfAttention", caught_by="test_the_future_leaves_no_trace")
class CentresOverTheTokens(Steps):
    def project(self, x):
        q, k, v = super().project(x)
        return q, k, v - 1e-3 * v.mean(dim=1, keepdim=True)


@slip(replaces="SelfAttention", caught_by="test_without_the_mask_order_does_not_matter")
class PrefersLateKeys(Steps):
    def score(self, q, k):
        return super().score(q, k) + 0.1 * torch.arange(k.shape[1], device=k.device, dtype=k.dtype)


@slip(replaces="SelfAttention", caught_by="test_matches_the_reference")
class SqueezesTheResult(Steps):
    def forward(self, x):
        context, weights = super().forward(x)
        return context.squeeze(1), weights


@slip(replaces="SelfAttention", caught_by="test_matches_the_reference")
class NeedsContiguousInputs(Steps):
    def project(self, x):
        rows = x.view(-1, x.shape[-1])
        return tuple(w(rows).view(x.shape[0], x.shape[1], -1) for w in (self.wq, self.wk, self.wv))


@slip(replaces="SelfAttention", caught_by="test_float64")
class ScoresInFloat32(Steps):
    def score(self, q, k):
        return super().score(q.float(), k.float()).to(q.dtype)


@slip(replaces="SelfAttention", caught_by="test_bfloat16")
class AnswersInFloat32(Steps):
    def forward(self, x):
        context, weights = super().forward(x)
        wide = torch.promote_types(x.dtype, torch.float32)
        return context.to(wide), weights.to(wide)


@slip(replaces="SelfAttention", caught_by="test_gradients")
class DetachesTheWeights(Steps):
    def forward(self, x):
        q, k, v = self.project(x)
        weights = self.weigh(self.score(q, k))
        return weights.detach() @ v, weights


@slip(replaces="SelfAttention", caught_by="test_gradients")
class DetachesTheKeysWhenCausal(Steps):
    def score(self, q, k):
        return super().score(q, k.detach() if self.causal else k)


@slip(replaces="SelfAttention", caught_by="test_repeated_calls")
class KeepsTheFirstMask(Steps):
    def future(self, scores):
        T = scores.shape[-1]
        if getattr(self, "kept", scores).shape[-1] < T or not hasattr(self, "kept"):
            self.kept = super().future(scores)
        return self.kept.roll(-1, 0)[:T, :T] if self.kept.shape[-1] > 2 * T else self.kept[:T, :T]


@slip(replaces="SelfAttention", caught_by="test_repeated_calls")
class MaskOfSixtyFourTokens(Steps):
    def __init__(self, d_in, d_out, causal=False):
        super().__init__(d_in, d_out, causal)
        self.register_buffer("mask", torch.ones(64, 64, dtype=torch.bool).triu(1), persistent=False)

    def future(self, scores):
        T = scores.shape[-1]
        return self.mask[:T, :T] if self.causal else super().future(scores)


@slip(replaces="SelfAttention", caught_by="test_batch_items_do_not_meet")
class LargestScoreOfTheBatch(Steps):
    def score(self, q, k):
        scores = super().score(q, k)
        return scores / scores.abs().max().clamp(min=1.0)


@slip(replaces="SelfAttention", caught_by="test_leaves_the_input_alone")
class CentresInPlace(Steps):
    def project(self, x):
        projected = super().project(x)
        with torch.no_grad():
            x.sub_(x.mean())
        return projected


@slip(replaces="SelfAttention", caught_by="test_errors")
class AssertsInsteadOfRaising(Steps):
    def __init__(self, d_in, d_out, causal=False):
        assert d_in >= 1 and d_out >= 1
        super().__init__(d_in, d_out, causal)


@slip(replaces="SelfAttention", caught_by="test_errors")
class TakesAnySize(Steps):
    def __init__(self, d_in, d_out, causal=False):
        super().__init__(max(1, d_in), max(1, d_out), causal)


@slip(replaces="SelfAttention", caught_by="test_no_loop_over_tokens_or_batch")
class MaskRowByRow(Steps):
    def future(self, scores):
        hidden = super().future(scores)
        for t in range(len(hidden) if self.causal else 0):
            hidden[t, : t + 1] = False
        return hidden


@slip(replaces="SelfAttention", caught_by="test_no_loop_over_tokens_or_batch")
class LoopsOverTheBatch(Steps):
    def score(self, q, k):
        return torch.stack([super(LoopsOverTheBatch, self).score(q[b], k[b]) for b in range(len(q))])


@slip(replaces="SelfAttention", caught_by="test_follows_the_device")
class MakesItsMaskOnTheCpu(Steps):
    def future(self, scores):
        T = scores.shape[-1]
        return torch.ones(T, T, dtype=torch.bool).triu(1) if self.causal else super().future(scores)


@slip(replaces="SelfAttention", caught_by="test_repeated_calls")
class ForgetsTheMaskWithoutGradients(Steps):
    def future(self, scores):
        return super().future(scores) & torch.is_grad_enabled()


@slip(replaces="SelfAttention", caught_by="test_repeated_calls")
class ForgetsTheMaskInTraining(Steps):
    def future(self, scores):
        return super().future(scores) & (not self.training)


@slip(replaces="SelfAttention", caught_by="test_modules_are_their_weights")
class KeepsItsWeightsInEval(Steps):
    def project(self, x):
        weights = torch.cat((self.wq.weight, self.wk.weight, self.wv.weight))
        if not self.training:
            if not hasattr(self, "kept") or self.kept.dtype != x.dtype or self.kept.device != x.device:
                self.kept = weights
            weights = self.kept
        return (x @ weights.T).chunk(3, dim=-1)


@slip(replaces="SelfAttention", caught_by="test_modules_are_their_weights")
class SharesItsScale(Steps):
    def __init__(self, d_in, d_out, causal=False):
        super().__init__(d_in, d_out, causal)
        SharesItsScale.scale = d_out**-0.5

    def score(self, q, k):
        return q @ k.mT * self.scale


@slip(replaces="SelfAttention", caught_by="test_float64")
class RoundsItsWeights(Steps):
    def project(self, x):
        return (x @ w.weight.float().to(x.dtype).T for w in (self.wq, self.wk, self.wv))


@slip(replaces="SelfAttention", caught_by="test_bfloat16")
class NoGradientInBfloat16(Steps):
    def project(self, x):
        return super().project(x.detach() if x.dtype == torch.bfloat16 else x)


@slip(replaces="SelfAttention", caught_by="test_gradients")
class OneTokenHasNoGradient(Steps):
    def forward(self, x):
        context, weights = super().forward(x)
        return (context.detach() + 0 * self.wv(x), weights) if x.shape[1] == 1 else (context, weights)


@slip(replaces="SelfAttention", caught_by="test_gradients")
class TrainsOnlyWithTheInput(Steps):
    def forward(self, x):
        context, weights = super().forward(x)
        return (context if x.requires_grad else context.detach()), weights


@slip(replaces="SelfAttention", caught_by="test_parameter_names")
class SavesTheMaskOfTheLastCall(Steps):
    def future(self, scores):
        if self.causal:
            self.register_buffer("mask", super().future(scores))
        return super().future(scores)


@slip(replaces="SelfAttention", caught_by="test_follows_the_device")
class LeavesItsMaskBehind(Steps):
    def future(self, scores):
        T = scores.shape[-1]
        if not hasattr(self, "mask") or len(self.mask) < T:
            self.mask = torch.ones(T, T, dtype=torch.bool, device=scores.device).triu(1)
        return self.mask[:T, :T] if self.causal else super().future(scores)


# --- right, in other styles -------------------------------------------------------------------------------


@alternative(replaces="SelfAttention")
class ByEinsum(SelfAttention):
    def forward(self, x):
        q, k, v = (torch.einsum("bti,oi->bto", x, w.weight) for w in (self.wq, self.wk, self.wv))
        scores = torch.einsum("bqo,bko->bqk", q, k) * q.shape[-1] ** -0.5
        if self.causal:
            place = torch.arange(x.shape[1], device=x.device)
            scores = torch.where(place[:, None] >= place, scores, torch.finfo(scores.dtype).min)
        weights = torch.softmax(scores, dim=-1)
        return torch.einsum("bqk,bko->bqo", weights, v), weights


@alternative(replaces="SelfAttention")
class BareParameters(SelfAttention):
    def __init__(self, d_in, d_out, causal=False):
        nn.Module.__init__(self)
        if not (d_in > 0 and d_out > 0):
            raise ValueError("d_in and d_out must be positive")
        self.causal = causal
        for name in ("wv", "wk", "wq"):  # in another order
            self.add_module(name, nn.ParameterDict({"weight": nn.Parameter(torch.rand(d_out, d_in))}))

    def forward(self, x):
        q, k, v = (x.matmul(w["weight"].t()) for w in (self.wq, self.wk, self.wv))
        scores = q.bmm(k.transpose(1, 2)).div(q.size(-1) ** 0.5)
        if self.causal:
            scores = scores + torch.full_like(scores[0], -1e9).triu(1)
        weights = nn.Softmax(dim=2)(scores)
        return [weights.bmm(v), weights]


@alternative(replaces="SelfAttention")
class SoftmaxByHand(Steps):
    def weigh(self, scores):
        scores = scores.masked_fill(self.future(scores), -math.inf)
        powers = (scores - scores.amax(dim=-1, keepdim=True).detach()).exp()
        return powers / powers.sum(dim=-1, keepdim=True)


@alternative(replaces="SelfAttention")
class WithALogsumexp(Steps):
    def weigh(self, scores):
        scores = scores.masked_fill(self.future(scores), -torch.inf)
        return (scores - scores.logsumexp(dim=-1, keepdim=True)).exp()


@alternative(replaces="SelfAttention")
class OneProductForAllThree(Steps):
    def project(self, x):
        return nn.functional.linear(x, torch.cat((self.wq.weight, self.wk.weight, self.wv.weight))).chunk(3, dim=-1)


@alternative(replaces="SelfAttention")
class QueriesScaledFirst(Steps):
    def score(self, q, k):
        return torch.matmul(q / math.sqrt(k.shape[-1]), k.permute(0, 2, 1))


@alternative(replaces="SelfAttention")
class RootAsATensor(Steps):
    def score(self, q, k):
        return q @ k.mT / torch.sqrt(torch.tensor(q.shape[-1], device=q.device))


@alternative(replaces="SelfAttention")
class Float64Inside(Steps):
    def forward(self, x):
        q, k, v = (t.double() for t in self.project(x))
        weights = self.weigh(self.score(q, k))
        return (weights @ v).to(x.dtype), weights.to(x.dtype)


@alternative(replaces="SelfAttention")
class MaskInABuffer(Steps):
    """The book's buffer, made larger when a longer text comes."""

    def __init__(self, d_in, d_out, causal=False):
        super().__init__(d_in, d_out, causal)
        self.register_buffer("mask", torch.ones(4, 4).triu(1), persistent=False)

    def weigh(self, scores):
        T = scores.shape[-1]
        if self.mask.shape[0] < T:
            self.mask = torch.ones(T, T, device=scores.device).triu(1)
        if self.causal:
            scores = scores.masked_fill(self.mask.bool()[:T, :T], -torch.inf)
        return torch.nn.functional.softmax(scores, -1)


@alternative(replaces="SelfAttention")
class ItemByItemInParallel(SelfAttention):
    def forward(self, x):
        def one(tokens):  # (T, d_in)
            q, k, v = tokens @ self.wq.weight.T, tokens @ self.wk.weight.T, tokens @ self.wv.weight.T
            scores = q @ k.T / q.shape[-1] ** 0.5
            if self.causal:
                scores = scores + torch.full_like(scores, -torch.inf).triu(1)
            weights = scores.softmax(-1)
            return weights @ v, weights

        return torch.vmap(one)(x)
