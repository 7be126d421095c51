"""Other ways to write multi-head attention: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import MultiHeadAttention


class Steps(MultiHeadAttention):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        weights = self.weigh(self.score(q, k), mask)
        heads = self.drop(weights) @ v
        return self.wo(self.join(heads)), weights

    def split(self, x):
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, K)

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, S)

    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)

    def drop(self, weights):
        return nn.functional.dropout(weights, self.dropout, self.training)

    def join(self, heads):
        return heads.transpose(1, 2).flatten(2)  # (B, H, T, K) -> (B, T, D)


# --- misconceptions about the scores and the softmax ------------------------------------------------------


@misconception(replaces="MultiHeadAttention", caught_by="test_weights_of_a_query_sum_to_1")
class SoftmaxOverQueries(Steps):
    """Your weights sum to 1 over the queries, so that all queries share out one key.

    In figure 2 each query takes an average of the values. Over which dimension of (B, H, T, S) do its weights lie?
    """

    def weigh(self, scores, mask):
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-2)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


@misconception(replaces="MultiHeadAttention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class ScalesByTheModelWidth(Steps):
    """You divide the scores by sqrt(D), the root of the model's width.

    The division undoes the growth of a dot product with the number of its terms. How many terms has it in one head?
    """

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1] * self.n_heads)


@misconception(replaces="MultiHeadAttention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class DoesNotScale(Steps):
    """Your scores are plain dot products.

    They spread more and more the more features a head has, and the softmax comes close to picking one key. What stands
    under the dot product in equation 1 of the paper?
    """

    def score(self, q, k):
        return q @ k.mT


@misconception(replaces="MultiHeadAttention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class ScalesByTheHeadWidth(Steps):
    """You divide the scores by K itself.

    If the entries of q and k have variance 1, what is the variance of their dot product? And its standard deviation?
    """

    def score(self, q, k):
        return q @ k.mT / q.shape[-1]


@misconception(replaces="MultiHeadAttention", caught_by="test_weights_of_a_query_sum_to_1")
class ScalesAfterSoftmax(Steps):
    """You divide after the softmax instead of before it.

    What do the weights of one query sum to then, and how large should the scores be when the softmax sees them?
    """

    def score(self, q, k):
        return q @ k.mT

    def weigh(self, scores, mask):
        return super().weigh(scores, mask) / math.sqrt(self.wq.weight.shape[0] // self.n_heads)


@misconception(replaces="MultiHeadAttention", caught_by="test_shapes")
class AveragesTheHeads(Steps):
    """You return one weight matrix, the average over the heads, as nn.MultiheadAttention does unless told otherwise.

    Here the weights of every head are asked for. What is their shape?
    """

    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return output, weights.mean(dim=1)


@misconception(replaces="MultiHeadAttention", caught_by="test_one_head_by_hand")
class ReturnsTheScores(Steps):
    """Your output is right, but what you return beside it are the scores.

    Do the numbers that you return for one query sum to 1?
    """

    def forward(self, query, key, value, mask=None):
        output, _ = super().forward(query, key, value, mask)
        return output, self.score(self.split(self.wq(query)), self.split(self.wk(key)))


# --- misconceptions about the heads and the projections ---------------------------------------------------


@misconception(replaces="MultiHeadAttention", caught_by="test_two_heads_by_hand")
class HeadsInterleaved(Steps):
    """You deal out the features to the heads one by one: head h gets the features h, h + H, h + 2H ...

    Trained from scratch that works as well, but weights of others do not fit. Which features does head 0 own here?
    """

    def split(self, x):
        return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)  # (B, T, K, H) -> (B, H, T, K)

    def join(self, heads):
        return heads.permute(0, 2, 3, 1).flatten(2)


@misconception(replaces="MultiHeadAttention", caught_by="test_two_heads_by_hand")
class SplitsWithoutTranspose(Steps):
    """You view (B, T, D) as (B, H, T, K) at once.

    The shape fits, but a view only counts through the numbers in the order in which they lie in memory. Whose features
    are in the first row of head 0, and whose in its second row?
    """

    def split(self, x):
        return x.reshape(x.shape[0], self.n_heads, x.shape[1], -1)


@misconception(replaces="MultiHeadAttention", caught_by="test_heads_are_joined_in_order")
class JoinsWithoutTranspose(Steps):
    """You reshape (B, H, T, K) to (B, T, D) at once.

    The shape fits, but a reshape keeps the order of the numbers. Which tokens' numbers are now in the first row?
    """

    def join(self, heads):
        return heads.reshape(heads.shape[0], heads.shape[2], -1)


@misconception(replaces="MultiHeadAttention", caught_by="test_output_goes_through_wo")
class ForgetsWo(Steps):
    """Your output is the heads side by side.

    In figure 2 of the paper something stands above "Concat". Which of your four projections has not been used?
    """

    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        weights = self.weigh(self.score(q, k), mask)
        return self.join(self.drop(weights) @ v), weights


@misconception(replaces="MultiHeadAttention", caught_by="test_query_key_and_value_have_their_own_parts")
class KeyAsValue(Steps):
    """You average the keys: the argument value has no influence on your output.

    In the paper's decoder keys and values happen to be one tensor. Which of the two decides where to look, and which
    what is fetched there?
    """

    def forward(self, query, key, value, mask=None):
        return super().forward(query, key, key, mask)


@misconception(replaces="MultiHeadAttention", caught_by="test_query_key_and_value_have_their_own_parts")
class OneProjectionForQueriesAndKeys(Steps):
    """You project the keys with wq, so that wk has no influence.

    With one projection for both, "a looks at b" scores like "b looks at a". Which projection belongs to the keys?
    """

    def forward(self, query, key, value, mask=None):
        weights = self.weigh(self.score(self.split(self.wq(query)), self.split(self.wq(key))), mask)
        return self.wo(self.join(self.drop(weights) @ self.split(self.wv(value)))), weights


@misconception(replaces="MultiHeadAttention", caught_by="test_parameter_names")
class ProjectionsWithoutBias(Steps):
    """Your projections have no biases, as in Llama and in the formulas of the paper.

    Both are sound, but these weights must be exchanged with others. What does nn.Linear(D, D) hold?
    """

    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__(d_model, n_heads, dropout)
        for name in ("wq", "wk", "wv", "wo"):
            setattr(self, name, nn.Linear(d_model, d_model, bias=False))


@misconception(replaces="MultiHeadAttention", caught_by="test_output_goes_through_wo")
class AddsTheResidual(Steps):
    """You add the query to your output.

    The encoder block does that, around this layer. What does the layer itself return when wo is all zeros?
    """

    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return output + query, weights


@misconception(replaces="MultiHeadAttention", caught_by="test_shapes")
class KeysCountedByTheQuery(Steps):
    """You split the keys and values with the number of queries.

    In self-attention the two agree. How many keys does a decoder see that writes word 3 of a translation of 20 words?
    """

    def forward(self, query, key, value, mask=None):
        q = self.split(self.wq(query))  # (B, H, T, K)
        B, H, T, K = q.shape
        k, v = (x.view(B, T, H, K).transpose(1, 2) for x in (self.wk(key), self.wv(value)))
        weights = self.weigh(self.score(q, k), mask)
        return self.wo(self.join(self.drop(weights) @ v)), weights


# --- misconceptions about masks ---------------------------------------------------------------------------


@misconception(replaces="MultiHeadAttention", caught_by="test_true_in_a_mask_means_may_attend")
class MaskInverted(Steps):
    """You hide the keys where the mask is True, as nn.MultiheadAttention does.

    PyTorch has both conventions. What does True mean in this exercise?
    """

    def weigh(self, scores, mask):
        return super().weigh(scores, None if mask is None else ~mask)


@misconception(replaces="MultiHeadAttention", caught_by="test_masked_weights_are_exactly_0")
class MasksAfterSoftmax(Steps):
    """You set masked weights to 0 after the softmax and leave the others as they are.

    Masked keys then still take their share of the sum. What do the weights of a query with a masked key sum to?
    """

    def weigh(self, scores, mask):
        weights = scores.softmax(dim=-1)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


@misconception(replaces="MultiHeadAttention", caught_by="test_masked_weights_are_exactly_0")
class MultipliesScoresByTheMask(Steps):
    """You multiply the scores by the mask, so that masked scores are 0.

    A score of 0 is no low score. What weight does the softmax give to it, next to a score of -1?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores * mask).softmax(dim=-1)


@misconception(replaces="MultiHeadAttention", caught_by="test_masked_weights_are_exactly_0")
class AddsTheMask(Steps):
    """You add the mask to the scores, which is right for masks of 0 and -inf.

    This mask is boolean. What does adding True to a score do, and what adding False?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores + mask).softmax(dim=-1)


@misconception(replaces="MultiHeadAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class FillsWithALargeNumber(Steps):
    """You fill masked scores with a large negative number and trust the softmax with the rest.

    That is fine as long as some key is allowed. Which weights come out of a row in which all scores are this number?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -1e9)).softmax(dim=-1)


@misconception(replaces="MultiHeadAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class FillsWithMinusInfinity(Steps):
    """You fill masked scores with -inf and trust the softmax with the rest.

    That is fine as long as some key is allowed. What are the numerator and the denominator in a row of -inf alone?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1)


@misconception(replaces="MultiHeadAttention", caught_by="test_one_head_by_hand")
class AlwaysCausal(Steps):
    """You hide the keys after each query, whatever the mask.

    That is right in a decoder. What may a query attend to in this layer when no mask is given?
    """

    def weigh(self, scores, mask):
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        return super().weigh(scores, causal if mask is None else causal & mask)


# --- misconceptions about dropout -------------------------------------------------------------------------


@misconception(replaces="MultiHeadAttention", caught_by="test_dropout_falls_on_single_weights")
class ReturnsWeightsAfterDropout(Steps):
    """You return the weights after dropout.

    What do their rows sum to in training? The caller wants to see where the layer looks.
    """

    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        weights = self.drop(self.weigh(self.score(q, k), mask))
        return self.wo(self.join(weights @ v)), weights


@misconception(replaces="MultiHeadAttention", caught_by="test_dropout_rests_in_eval")
class DropoutInEval(Steps):
    """Your dropout acts in eval mode too: two calls with the same inputs differ.

    F.dropout is a function and does not know your module. How does it learn whether you are training?
    """

    def drop(self, weights):
        return nn.functional.dropout(weights, self.dropout)


@misconception(replaces="MultiHeadAttention", caught_by="test_dropout_falls_on_single_weights")
class DropsTheOutput(Steps):
    """Your dropout falls on the result of the attention, not inside it.

    The encoder block does that as well, around this layer. Which tensor decides how much of each value is taken?
    """

    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return nn.functional.dropout(output, self.dropout, self.training), weights

    def drop(self, weights):
        return weights


@misconception(replaces="MultiHeadAttention", caught_by="test_dropout_falls_on_single_weights")
class DropsTheScores(Steps):
    """Your dropout sets scores to 0 before the softmax.

    A key with the score 0 still gets a weight. What should happen to the value of a key that is dropped?
    """

    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        scores = self.score(q, k)
        heads = self.weigh(self.drop(scores), mask) @ v
        return self.wo(self.join(heads)), self.weigh(scores, mask)


@misconception(replaces="MultiHeadAttention", caught_by="test_dropout_keeps_the_average")
class DropsWithoutScaling(Steps):
    """You set weights to 0 in training and leave the others as they are.

    Then the output is smaller in training than in eval mode, where nothing is dropped. By which factor, on average?
    """

    def drop(self, weights):
        if not self.training:
            return weights
        return weights * (torch.rand_like(weights) >= self.dropout)


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="MultiHeadAttention", caught_by="test_parameter_names")
class OtherNames(MultiHeadAttention):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__(d_model, n_heads, dropout)
        self.out_proj = self.wo
        del self.wo
        self.wo = self.out_proj.forward  # a method is no parameter: only out_proj is registered


@slip(replaces="MultiHeadAttention", caught_by="test_parameter_names")
class SavesTheMask(MultiHeadAttention):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__(d_model, n_heads, dropout)
        self.register_buffer("causal", torch.ones(32, 32, dtype=torch.bool).tril())


@slip(replaces="MultiHeadAttention", caught_by="test_biases_count")
class IgnoresTheBiasOfTheValues(Steps):
    def forward(self, query, key, value, mask=None):
        weights = self.weigh(self.score(self.split(self.wq(query)), self.split(self.wk(key))), mask)
        heads = self.drop(weights) @ self.split(nn.functional.linear(value, self.wv.weight))
        return self.wo(self.join(heads)), weights


@slip(replaces="MultiHeadAttention", caught_by="test_output_goes_through_wo")
class TransposesWo(Steps):
    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        weights = self.weigh(self.score(q, k), mask)
        return self.join(self.drop(weights) @ v) @ self.wo.weight + self.wo.bias, weights


@slip(replaces="MultiHeadAttention", caught_by="test_masks_of_every_shape")
class MaskMustHaveABatch(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if mask is None or mask.dim() > 3 else mask.expand(len(scores), 1, -1, -1))


@slip(replaces="MultiHeadAttention", caught_by="test_masks_of_every_shape")
class MaskOfTheFirstItem(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask[:1] if mask is not None and mask.dim() == 4 else mask)


@slip(replaces="MultiHeadAttention", caught_by="test_masks_of_every_shape")
class IgnoresAMaskOfOneRow(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if mask is None or mask.dim() > 1 else None)


@slip(replaces="MultiHeadAttention", caught_by="test_masks_of_every_shape")
class MaskOfHeadsTakenForItems(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.dim() == 3 and mask.shape[1] == 1:
            mask = mask[:, None]
        return super().weigh(scores, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_masks_of_every_shape")
class TurnsAColumnMaskOver(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.shape[-1] == 1 and scores.shape[-1] == scores.shape[-2]:
            mask = mask.mT
        return super().weigh(scores, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_masks_of_every_shape")
class OneKeyIsAlwaysSeen(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if scores.shape[-1] > 1 else None)


@slip(replaces="MultiHeadAttention", caught_by="test_repeated_calls")
class TakesTheMaskByNameAlone(Steps):
    def forward(self, query, key, value, *, mask=None):
        return super().forward(query, key, value, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_parameter_names")
class SavesTheMaskOfTheLastCall(Steps):
    def forward(self, query, key, value, mask=None):
        self.register_buffer("last", mask)
        return super().forward(query, key, value, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_dropout_rests_in_eval")
class NamesItsArgumentsOtherwise(Steps):
    def __init__(self, dim, heads, p=0.0):
        super().__init__(dim, heads, p)


@slip(replaces="MultiHeadAttention", caught_by="test_dropout_rests_in_eval")
class DropsOnlyWithGradients(Steps):
    def drop(self, weights):
        return super().drop(weights) if torch.is_grad_enabled() else weights


@slip(replaces="MultiHeadAttention", caught_by="test_dropout_rests_in_eval")
class DropsOnlyInCrossAttention(Steps):
    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        weights = self.weigh(self.score(q, k), mask)
        return self.wo(self.join((weights if query is key else self.drop(weights)) @ v)), weights


@slip(replaces="MultiHeadAttention", caught_by="test_dropout_rests_in_eval")
class DropsInPlace(Steps):
    def drop(self, weights):
        return nn.functional.dropout(weights, self.dropout, self.training, inplace=not weights.requires_grad)


@slip(replaces="MultiHeadAttention", caught_by="test_gradients_with_dropout")
class DetachesTheWeightsThatItDrops(Steps):
    def drop(self, weights):
        return super().drop(weights.detach() if self.training and self.dropout else weights)


@slip(replaces="MultiHeadAttention", caught_by="test_gradients_with_dropout")
class DrawsInFloat32(Steps):
    def drop(self, weights):
        if not self.training or not self.dropout:
            return weights
        kept = (torch.rand(weights.shape, device=weights.device) >= self.dropout).float()
        return weights * kept / (1 - self.dropout)  # float32, which bfloat16 values cannot be multiplied with


@slip(replaces="MultiHeadAttention", caught_by="test_gradients_with_dropout")
class DropsInFloat32(Steps):
    def drop(self, weights):
        return super().drop(weights.float()).to(weights.dtype) if self.training and self.dropout else weights


@slip(replaces="MultiHeadAttention", caught_by="test_gradients")
class DetachesTheValuesInTraining(Steps):
    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        weights = self.weigh(self.score(q, k), mask)
        return self.wo(self.join(self.drop(weights) @ (v.detach() if self.training else v))), weights


@slip(replaces="MultiHeadAttention", caught_by="test_gradients")
class TrainsOnlyWithTheInputs(Steps):
    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return output if value.requires_grad else output.detach(), weights


@slip(replaces="MultiHeadAttention", caught_by="test_gradients")
class DetachesValuesThatAreTheKeys(Steps):
    def forward(self, query, key, value, mask=None):
        alike = key is value and query is not key
        return super().forward(query, key, value.detach() if alike else value, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_gradients")
class TrainsCausally(Steps):
    def forward(self, query, key, value, mask=None):
        T, S = query.shape[1], key.shape[1]
        if self.training and mask is None:
            mask = torch.ones(T, S, dtype=torch.bool, device=query.device).tril(S - T)
        return super().forward(query, key, value, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_matches_the_reference")
class WantsTwoFeaturesInAHead(Steps):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__(d_model, n_heads, dropout)
        if d_model == n_heads > 3:
            raise ValueError(f"n_heads ({n_heads}) leaves one feature for each head")


@slip(replaces="MultiHeadAttention", caught_by="test_matches_the_reference")
class CausalWithManyTokens(Steps):
    def forward(self, query, key, value, mask=None):
        T = query.shape[1]
        if mask is None and query is key and T > 9:
            mask = torch.ones(T, T, dtype=torch.bool, device=query.device).tril()
        return super().forward(query, key, value, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_modules_are_their_weights")
class SharesItsHeads(Steps):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__(d_model, n_heads, dropout)
        SharesItsHeads.heads = n_heads

    def split(self, x):
        return x.unflatten(-1, (SharesItsHeads.heads, -1)).transpose(1, 2)


@slip(replaces="MultiHeadAttention", caught_by="test_modules_are_their_weights")
class KeepsItsWeightsWithoutGradients(Steps):
    kept = None

    def forward(self, query, key, value, mask=None):
        if torch.is_grad_enabled():
            return super().forward(query, key, value, mask)
        if self.kept is None:
            self.kept = [(w.weight.clone(), w.bias.clone()) for w in (self.wq, self.wk, self.wv)]
        pairs = zip((query, key, value), self.kept, strict=True)
        q, k, v = (self.split(x.to(w.dtype) @ w.mT + b) for x, (w, b) in pairs)
        weights = self.weigh(self.score(q, k), mask)
        return self.wo(self.join(weights @ v)), weights


@slip(replaces="MultiHeadAttention", caught_by="test_huge_scores")
class OverflowsInBfloat16(Steps):
    def weigh(self, scores, mask):
        if scores.dtype != torch.bfloat16:
            return super().weigh(scores, mask)
        powers = scores.exp() if mask is None else scores.exp() * mask
        total = powers.sum(dim=-1, keepdim=True)
        return powers / total.masked_fill(total == 0, 1.0)


@slip(replaces="MultiHeadAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class NanInBfloat16Alone(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        bias = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -3.4e38)  # -inf in bfloat16
        return (scores + bias.to(scores.dtype)).softmax(dim=-1) * mask


@slip(replaces="MultiHeadAttention", caught_by="test_bfloat16")
class DetachesTheKeysInBfloat16UnderAMask(Steps):
    def forward(self, query, key, value, mask=None):
        detached = mask is not None and key.dtype == torch.bfloat16
        return super().forward(query, key.detach() if detached else key, value, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_masked_weights_are_exactly_0")
class FillsWithASmallNumber(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        weights = scores.masked_fill(~mask, -100.0).softmax(dim=-1)
        return weights * mask.any(dim=-1, keepdim=True)


@slip(replaces="MultiHeadAttention", caught_by="test_masked_keys_leave_no_trace")
class AveragesOverMaskedKeys(Steps):
    def forward(self, query, key, value, mask=None):
        return super().forward(query, key - key.mean(dim=1, keepdim=True), value - 1e-3 * value.sum(1, True), mask)


@slip(replaces="MultiHeadAttention", caught_by="test_the_order_of_the_keys_does_not_matter")
class PrefersLateKeys(Steps):
    def score(self, q, k):
        return super().score(q, k) + 0.1 * torch.arange(k.shape[-2], device=k.device, dtype=k.dtype)


@slip(replaces="MultiHeadAttention", caught_by="test_huge_scores")
class SoftmaxOverflows(Steps):
    def weigh(self, scores, mask):
        powers = scores.exp() if mask is None else scores.exp() * mask
        total = powers.sum(dim=-1, keepdim=True)
        return powers / total.masked_fill(total == 0, 1.0)


@slip(replaces="MultiHeadAttention", caught_by="test_huge_scores")
class ClampsTheScores(Steps):
    def score(self, q, k):
        return super().score(q, k).clamp(-50.0, 50.0)


@slip(replaces="MultiHeadAttention", caught_by="test_matches_the_reference")
class NeedsContiguousInputs(Steps):
    def forward(self, query, key, value, mask=None):
        query = query.view(-1, query.shape[-1]).view(query.shape)
        return super().forward(query, key, value, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_matches_the_reference")
class SqueezesTheSingleKey(Steps):
    def join(self, heads):
        return heads.transpose(1, 2).flatten(2).squeeze(1)


@slip(replaces="MultiHeadAttention", caught_by="test_float64")
class ScoresInFloat32(Steps):
    def score(self, q, k):
        return super().score(q.float(), k.float()).to(q.dtype)


@slip(replaces="MultiHeadAttention", caught_by="test_float64")
class ProjectsInFloat32(Steps):
    def split(self, x):
        return super().split(x.float().to(x.dtype))


@alternative(replaces="MultiHeadAttention")
class RootAsATensor(Steps):
    def score(self, q, k):
        return q @ k.mT / torch.sqrt(torch.tensor(q.shape[-1], device=q.device))


@slip(replaces="MultiHeadAttention", caught_by="test_bfloat16")
class AnswersInFloat32(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores if scores.dtype == torch.float64 else scores.float(), mask)

    def drop(self, weights):
        return super().drop(weights).to(self.wv.weight.dtype)


@slip(replaces="MultiHeadAttention", caught_by="test_gradients")
class DetachesTheWeights(Steps):
    def drop(self, weights):
        return super().drop(weights.detach())


@slip(replaces="MultiHeadAttention", caught_by="test_gradients_under_a_mask")
class NanInTheGradient(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        return (scores + bias).softmax(dim=-1).nan_to_num()


@slip(replaces="MultiHeadAttention", caught_by="test_dropout_falls_on_single_weights")
class DropsWholeKeys(Steps):
    def drop(self, weights):
        return weights * nn.functional.dropout(torch.ones_like(weights[:, :, :1]), self.dropout, self.training)


@slip(replaces="MultiHeadAttention", caught_by="test_dropout_falls_on_single_weights")
class OneDrawForTheBatch(Steps):
    def drop(self, weights):
        return weights * nn.functional.dropout(torch.ones_like(weights[:1]), self.dropout, self.training)


@slip(replaces="MultiHeadAttention", caught_by="test_dropout_falls_on_single_weights")
class DropsOnlyWithoutAMask(Steps):
    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        weights = self.weigh(self.score(q, k), mask)
        return self.wo(self.join((self.drop(weights) if mask is None else weights) @ v)), weights


@slip(replaces="MultiHeadAttention", caught_by="test_dropout_keeps_the_average")
class ScalesByP(Steps):
    def drop(self, weights):
        return super().drop(weights) * (1 - self.dropout) / self.dropout if self.training and self.dropout else weights


@slip(replaces="MultiHeadAttention", caught_by="test_dropout_rests_in_eval")
class OneDrawForAllCalls(Steps):
    def drop(self, weights):
        generator = torch.Generator(weights.device).manual_seed(0) if weights.device.type != "meta" else None
        kept = torch.rand(weights.shape, generator=generator, device=weights.device) >= self.dropout
        return weights * kept / (1 - self.dropout) if self.training else weights


@slip(replaces="MultiHeadAttention", caught_by="test_repeated_calls")
class KeepsTheFirstMask(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return super().weigh(scores, None)
        if getattr(self, "cached", mask).shape != mask.shape or not hasattr(self, "cached"):
            self.cached = mask
        return super().weigh(scores, self.cached)


@slip(replaces="MultiHeadAttention", caught_by="test_batch_items_do_not_meet")
class CentresOverTheBatch(Steps):
    def score(self, q, k):
        return super().score(q - q.mean(dim=0), k)


@slip(replaces="MultiHeadAttention", caught_by="test_leaves_the_inputs_alone")
class InvertsTheMaskInPlace(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if mask is None else ~mask.logical_not_())


@slip(replaces="MultiHeadAttention", caught_by="test_leaves_the_inputs_alone")
class ShiftsTheKeysInPlace(Steps):
    def forward(self, query, key, value, mask=None):
        with torch.no_grad():
            key.add_(1.0)
        return super().forward(query, key - 1.0, value, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_errors")
class AssertsInsteadOfRaising(Steps):
    def __init__(self, d_model, n_heads, dropout=0.0):
        assert n_heads >= 1 and d_model >= 1 and d_model % n_heads == 0
        super().__init__(d_model, n_heads, dropout)


@slip(replaces="MultiHeadAttention", caught_by="test_errors")
class ChecksTheDivisionAlone(nn.Module):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__()
        if d_model % n_heads:
            raise ValueError(f"n_heads ({n_heads}) must divide d_model ({d_model})")
        self.n_heads, self.dropout = n_heads, dropout
        self.wq, self.wk, self.wv, self.wo = (nn.Linear(d_model, d_model) for _ in range(4))

    def forward(self, query, key, value, mask=None):
        return MultiHeadAttention.forward(self, query, key, value, mask)


@slip(replaces="MultiHeadAttention", caught_by="test_no_loop_over_tokens_or_batch")
class LoopsOverQueries(MultiHeadAttention):
    def forward(self, query, key, value, mask=None):
        T = query.shape[1]
        if mask is not None:
            mask = mask.expand(*mask.shape[:-2], T, mask.shape[-1])
        rows = [
            super(LoopsOverQueries, self).forward(
                query[:, t : t + 1], key, value, mask if mask is None else mask[..., t : t + 1, :]
            )
            for t in range(T)
        ]
        return torch.cat([output for output, _ in rows], dim=1), torch.cat([weights for _, weights in rows], dim=2)


@slip(replaces="MultiHeadAttention", caught_by="test_no_loop_over_tokens_or_batch")
class LoopsOverTheBatch(Steps):
    def score(self, q, k):
        return torch.stack([super(LoopsOverTheBatch, self).score(q[b], k[b]) for b in range(len(q))])


@slip(replaces="MultiHeadAttention", caught_by="test_follows_the_device")
class MakesItsMaskOnTheCpu(Steps):
    def weigh(self, scores, mask):
        everything = torch.ones(scores.shape[-2:], dtype=torch.bool)
        return super().weigh(scores, everything if mask is None else mask)


# --- right, in other styles -------------------------------------------------------------------------------


@alternative(replaces="MultiHeadAttention")
class ByEinsum(MultiHeadAttention):
    def forward(self, query, key, value, mask=None):
        q, k, v = (
            w(x).reshape(x.shape[0], x.shape[1], self.n_heads, -1)
            for w, x in ((self.wq, query), (self.wk, key), (self.wv, value))
        )  # (B, T, H, K)
        scores = torch.einsum("bthk,bshk->bhts", q, k) * q.shape[-1] ** -0.5
        if mask is not None:
            scores = torch.where(mask, scores, -torch.inf)
        weights = torch.softmax(scores, dim=-1)
        if mask is not None:
            weights = torch.where(mask, weights, 0.0)  # the NaN of a row of -inf goes, and its gradient with it
        heads = torch.einsum("bhts,bshk->bthk", nn.functional.dropout(weights, self.dropout, self.training), v)
        return self.wo(heads.reshape(query.shape)), weights


@alternative(replaces="MultiHeadAttention")
class HeadByHead(MultiHeadAttention):
    def forward(self, query, key, value, mask=None):
        B, T, D = query.shape
        S, K = key.shape[1], D // self.n_heads
        q, k, v = self.wq(query), self.wk(key), self.wv(value)
        allowed = torch.ones(1, dtype=torch.bool, device=q.device) if mask is None else mask
        allowed = torch.broadcast_to(allowed, (B, self.n_heads, T, S))
        heads, weights = [], []
        for h in range(self.n_heads):
            block = slice(h * K, (h + 1) * K)
            scores = torch.bmm(q[..., block], k[..., block].transpose(1, 2)) / K**0.5
            some = allowed[:, h].any(dim=-1, keepdim=True)
            scores = scores.masked_fill(~allowed[:, h] & some, float("-inf"))
            weights.append(scores.softmax(dim=-1) * some)
            heads.append(nn.functional.dropout(weights[-1], self.dropout, self.training) @ v[..., block])
        return self.wo(torch.cat(heads, dim=-1)), torch.stack(weights, dim=1)


@alternative(replaces="MultiHeadAttention")
class HeadsInTheBatch(MultiHeadAttention):
    def forward(self, query, key, value, mask=None):
        B, T, D = query.shape
        S, H, K = key.shape[1], self.n_heads, D // self.n_heads
        q = self.wq(query).view(B, T, H, K).transpose(1, 2).reshape(B * H, T, K)
        k = self.wk(key).view(B, S, H, K).permute(0, 2, 3, 1).reshape(B * H, K, S)
        v = self.wv(value).view(B, S, H, K).transpose(1, 2).reshape(B * H, S, K)
        bias = q.new_zeros(B, H, T, S)
        if mask is not None:
            bias = bias.masked_fill(mask.logical_not(), torch.finfo(q.dtype).min)
        scores = torch.baddbmm(bias.view(B * H, T, S), q, k, alpha=1 / math.sqrt(K))
        weights = torch.softmax(scores, dim=-1).view(B, H, T, S)
        if mask is not None:
            weights = weights * mask
        heads = torch.bmm(nn.functional.dropout(weights, self.dropout, self.training).view(B * H, T, S), v)
        return self.wo(heads.view(B, H, T, K).permute(0, 2, 1, 3).reshape(B, T, D)), weights


@alternative(replaces="MultiHeadAttention")
class SoftmaxByHand(Steps):
    def weigh(self, scores, mask):
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        top = scores.amax(dim=-1, keepdim=True).detach().clamp(min=torch.finfo(scores.dtype).min)
        powers = (scores - top).exp()
        return powers / powers.sum(dim=-1, keepdim=True).clamp(min=1e-30)

    def drop(self, weights):
        if not self.training or self.dropout == 0:
            return weights
        return torch.bernoulli(torch.full_like(weights, 1 - self.dropout)) * weights / (1 - self.dropout)


@alternative(replaces="MultiHeadAttention")
class NanToNum(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
        return weights.nan_to_num(0.0)


@alternative(replaces="MultiHeadAttention")
class Float64Inside(Steps):
    def score(self, q, k):
        return super().score(q.double(), k.double())

    def weigh(self, scores, mask):
        return super().weigh(scores, mask).to(self.wq.weight.dtype)


@alternative(replaces="MultiHeadAttention")
class ParametersInDicts(MultiHeadAttention):
    def __init__(self, d_model, n_heads, dropout=0.0):
        nn.Module.__init__(self)
        if min(d_model, n_heads) < 1 or d_model % n_heads != 0:
            raise ValueError(f"{d_model=} must be a multiple of {n_heads=}, both at least 1")
        self.n_heads, self.dropout = n_heads, dropout
        for name in ("wo", "wv", "wk", "wq"):  # in another order
            weight = nn.Parameter(torch.randn(d_model, d_model) / d_model**0.5)
            self.add_module(name, nn.ParameterDict({"weight": weight, "bias": nn.Parameter(torch.zeros(d_model))}))

    def forward(self, query, key, value, mask=None):
        q, k, v = (
            (x @ w["weight"].T + w["bias"]).unflatten(2, (self.n_heads, -1)).movedim(2, 1)
            for w, x in ((self.wq, query), (self.wk, key), (self.wv, value))
        )
        weights = Steps.weigh(self, q @ k.mT / q.shape[-1] ** 0.5, mask)
        heads = torch.dropout(weights, self.dropout, self.training) @ v
        return torch.nn.functional.linear(heads.movedim(1, 2).flatten(2), self.wo["weight"], self.wo["bias"]), weights


class Projection(nn.Linear):
    """A linear layer that splits its result into heads."""

    def __init__(self, width, n_heads):
        super().__init__(width, width)
        self.n_heads = n_heads

    def forward(self, x):
        return torch.stack(super().forward(x).chunk(self.n_heads, dim=-1), dim=1)  # (B, H, T, K)


@alternative(replaces="MultiHeadAttention")
class InModules(MultiHeadAttention):
    def __init__(self, d_model, n_heads, dropout=0.0):
        super().__init__(d_model, n_heads)
        self.wq, self.wk, self.wv = (Projection(d_model, n_heads) for _ in range(3))
        self.softmax, self.drop = nn.Softmax(dim=-1), nn.Dropout(dropout)

    def forward(self, query, key, value, mask=None):
        scores = torch.matmul(self.wq(query), self.wk(key).transpose(-1, -2)) / math.sqrt(
            query.shape[-1] // self.n_heads
        )
        if mask is not None:
            empty = ~mask.any(dim=-1, keepdim=True)  # such a row goes through the softmax unmasked
            scores = scores.masked_fill(~(mask | empty), -torch.inf)
        weights = self.softmax(scores)
        if mask is not None:
            weights = weights.masked_fill(empty, 0.0)
        heads = torch.matmul(self.drop(weights), self.wv(value))
        return self.wo(torch.cat(heads.unbind(dim=1), dim=-1)), weights
