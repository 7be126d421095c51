"""Other ways to write grouped-query attention: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import GroupedQueryAttention, repeat_kv


class Steps(GroupedQueryAttention):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x, freqs_cis, mask=None):
        self.must_fit(x, freqs_cis)
        q, k, v = self.turn_all(*self.project(x), freqs_cis)
        q, k, v = q.transpose(1, 2), self.share(k), self.share(v)  # (B, H, T, K) each
        return self.wo(self.join(self.weigh(self.score(q, k), mask) @ v))

    def must_fit(self, x, freqs_cis):
        if freqs_cis.shape[0] != x.shape[1]:
            raise ValueError("freqs_cis needs one row per token")

    def project(self, x):
        return [self.split(w(x)) for w in (self.wq, self.wk, self.wv)]  # (B, T, heads, K) each

    def split(self, x):
        return x.unflatten(-1, (-1, self.head_dim))

    def turn_all(self, q, k, v, freqs_cis):
        return self.turn(q, freqs_cis), self.turn(k, freqs_cis), v

    def turn(self, heads, freqs_cis):
        wide = heads.to(torch.promote_types(heads.dtype, torch.float32))
        return self.multiply(wide, freqs_cis).to(heads.dtype)

    def multiply(self, heads, freqs_cis):
        pairs = torch.view_as_complex(heads.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * freqs_cis[:, None]).flatten(-2)

    def share(self, heads):
        return repeat_kv(heads, self.n_rep).transpose(1, 2)  # (B, T, G, K) -> (B, H, T, K)

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, T)

    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)

    def join(self, heads):
        return heads.transpose(1, 2).flatten(2)  # (B, H, T, K) -> (B, T, D)


# --- misconceptions about the shared heads ----------------------------------------------------------------


@misconception(replaces="repeat_kv", caught_by="test_each_head_is_repeated_in_a_row")
def lays_copies_end_to_end(x, n_rep):
    """You lay copies of all heads end to end: a b a b, so that query head h uses head h % G.

    Tensor.repeat, torch.tile and a cat of copies do that. Which heads does the rule h // (H // G) give to query heads
    0 and 1 when H = 4 and G = 2?
    """
    if n_rep < 1:
        raise ValueError("n_rep must be at least 1")
    return x.repeat(1, 1, n_rep, 1)


@misconception(replaces="repeat_kv", caught_by="test_repeat_kv_of_any_tensor")
def repeats_the_tokens(x, n_rep):
    """You repeat the second dimension of x, which counts the tokens here.

    The heads come before the tokens in (B, G, S, K), but repeat_kv is given (B, S, G, K). Which dimension should grow?
    """
    if n_rep < 1:
        raise ValueError("n_rep must be at least 1")
    return x.repeat_interleave(n_rep, dim=1)


@misconception(replaces="repeat_kv", caught_by="test_each_head_is_repeated_in_a_row")
def repeats_the_features(x, n_rep):
    """You repeat the features of each head and not the heads: a1 a2 becomes a1 a1 a2 a2.

    The shape fits after a reshape. Which numbers should the second copy of head a hold?
    """
    if n_rep < 1:
        raise ValueError("n_rep must be at least 1")
    return x.repeat_interleave(n_rep, dim=3).reshape(*x.shape[:2], -1, x.shape[3])


@misconception(replaces="GroupedQueryAttention", caught_by="test_parameter_names")
class KeysOfEveryHead(Steps):
    """Your wk and wv have an output for every query head, as in multi-head attention.

    Sharing saves just these rows, and with them most of the cache of a decoder. How many features do G heads have?
    """

    def __init__(self, dim, n_heads, n_kv_heads=None):
        super().__init__(dim, n_heads, n_kv_heads)
        self.wk, self.wv = (nn.Linear(dim, dim, bias=False) for _ in range(2))

    def share(self, heads):
        return heads.transpose(1, 2)


# --- misconceptions about the turn ------------------------------------------------------------------------


@misconception(replaces="GroupedQueryAttention", caught_by="test_values_are_not_turned")
class TurnsTheValues(Steps):
    """You turn the values as well.

    The turn is there for the scores, where the turns of query and key combine. What would wo have to know to read a
    turned value?
    """

    def turn_all(self, q, k, v, freqs_cis):
        return [self.turn(heads, freqs_cis) for heads in (q, k, v)]


@misconception(replaces="GroupedQueryAttention", caught_by="test_turns_by_hand")
class TurnsTheQueriesAlone(Steps):
    """You turn the queries and leave the keys as they are.

    A score then depends on where the query stands, and not on the distance to the key. Which turn is missing for that?
    """

    def turn_all(self, q, k, v, freqs_cis):
        return self.turn(q, freqs_cis), k, v


@misconception(replaces="GroupedQueryAttention", caught_by="test_turns_by_hand")
class TurnsTheKeysAlone(Steps):
    """You turn the keys and leave the queries as they are.

    A score then depends on where the key stands, and not on the distance to the query. Which turn is missing for that?
    """

    def turn_all(self, q, k, v, freqs_cis):
        return q, self.turn(k, freqs_cis), v


@misconception(replaces="GroupedQueryAttention", caught_by="test_turns_by_hand")
class DoesNotTurn(Steps):
    """Your output does not depend on freqs_cis.

    Then the layer cannot know in which order the tokens stand. What should freqs_cis be multiplied with?
    """

    def turn_all(self, q, k, v, freqs_cis):
        return q, k, v


@misconception(replaces="GroupedQueryAttention", caught_by="test_turns_by_hand")
class TurnsClockwise(Steps):
    """You turn the other way round, as if freqs_cis were conjugated.

    Turn (1, 0) by a small angle, counter-clockwise: which sign has its second coordinate then?
    """

    def turn(self, heads, freqs_cis):
        return super().turn(heads, freqs_cis.conj())


@misconception(replaces="GroupedQueryAttention", caught_by="test_turns_by_hand")
class PairsAreHalves(Steps):
    """You pair feature i with feature i + K/2, as GPT-NeoX and Hugging Face's Llama do.

    That is a sound rotary embedding, for weights trained with it. Which two features does this exercise call a pair?
    """

    def multiply(self, heads, freqs_cis):
        a, b = heads.chunk(2, dim=-1)
        cos, sin = freqs_cis.real[:, None], freqs_cis.imag[:, None]
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


@misconception(replaces="GroupedQueryAttention", caught_by="test_turns_by_hand")
class PairsComeBackAsHalves(Steps):
    """You turn pairs of neighbours, but put the first members in one half and the second members in the other.

    Done to queries and keys alike it would change no score, but look again: is it done to both in the same way?
    """

    def turn_all(self, q, k, v, freqs_cis):
        turned = self.turn(q, freqs_cis)
        return torch.cat((turned[..., 0::2], turned[..., 1::2]), dim=-1), self.turn(k, freqs_cis), v


@misconception(replaces="GroupedQueryAttention", caught_by="test_matches_the_reference")
class HeadsTakenForTokens(Steps):
    """You line up the rows of freqs_cis with the heads.

    Without a dimension of size 1 in between, (T, K/2) meets the last two dimensions of (B, T, H, K/2). With as many
    heads as tokens nothing complains. Where should freqs_cis get a dimension?
    """

    def multiply(self, heads, freqs_cis):
        pairs = torch.view_as_complex(heads.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * freqs_cis).flatten(-2)


@misconception(replaces="GroupedQueryAttention", caught_by="test_the_rows_count_and_not_their_numbers")
class MakesItsOwnAngles(Steps):
    """You work out angles from the number of tokens, so that the numbers in freqs_cis have no influence.

    A decoder asks for one token at position 100. What is in freqs_cis then, and what do you compute?
    """

    def turn(self, heads, freqs_cis):
        T, pairs = freqs_cis.shape
        angles = torch.outer(torch.arange(T), 10_000.0 ** -(torch.arange(pairs) / pairs)).to(heads.device)
        return super().turn(heads, torch.polar(torch.ones_like(angles), angles))


# --- misconceptions about scores and heads ----------------------------------------------------------------


@misconception(replaces="GroupedQueryAttention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class ScalesByTheModelWidth(Steps):
    """You divide the scores by sqrt(D), the root of the model's width.

    The division undoes the growth of a dot product with the number of its terms. How many terms has it in one head?
    """

    def score(self, q, k):
        return q @ k.mT / math.sqrt(self.wo.weight.shape[0])


@misconception(replaces="GroupedQueryAttention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class DoesNotScale(Steps):
    """Your scores are plain dot products.

    They spread more and more the more features a head has, and the softmax comes close to picking one key. By what
    are they divided in the brief?
    """

    def score(self, q, k):
        return q @ k.mT


@misconception(replaces="GroupedQueryAttention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class ScalesByTheHeadWidth(Steps):
    """You divide the scores by K itself.

    If the entries of q and k have variance 1, what is the variance of their dot product? And its standard deviation?
    """

    def score(self, q, k):
        return q @ k.mT / q.shape[-1]


@misconception(replaces="GroupedQueryAttention", caught_by="test_weights_sum_to_1_and_masked_ones_are_0")
class SoftmaxOverQueries(Steps):
    """Your weights sum to 1 over the queries, so that all queries share out one key.

    Each query takes an average of the values. Over which dimension of (B, H, T, T) do its weights lie?
    """

    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-2)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-2).masked_fill(~mask, 0.0)


@misconception(replaces="GroupedQueryAttention", caught_by="test_true_in_a_mask_means_may_attend")
class HeadsInterleaved(Steps):
    """You deal out the features to the heads one by one: head h gets the features h, h + H, h + 2H ...

    Trained from scratch that works as well, but weights of others do not fit. Which features does head 0 own here?
    """

    def split(self, x):
        return x.unflatten(-1, (self.head_dim, -1)).transpose(-1, -2)


@misconception(replaces="GroupedQueryAttention", caught_by="test_true_in_a_mask_means_may_attend")
class SplitsWithoutTranspose(Steps):
    """You view (B, T, H*K) as (B, H, T, K) at once.

    The shape fits, but a view only counts through the numbers in the order in which they lie in memory. Whose features
    are in the first row of head 0, and whose in its second row?
    """

    def split(self, x):
        B, T, _ = x.shape
        return x.reshape(B, -1, T, self.head_dim).transpose(1, 2)


@misconception(replaces="GroupedQueryAttention", caught_by="test_true_in_a_mask_means_may_attend")
class JoinsWithoutTranspose(Steps):
    """You reshape (B, H, T, K) to (B, T, D) at once.

    The shape fits, but a reshape keeps the order of the numbers. Which tokens' numbers are now in the first row?
    """

    def join(self, heads):
        B, H, T, K = heads.shape
        return heads.reshape(B, T, H * K)


@misconception(replaces="GroupedQueryAttention", caught_by="test_matches_the_reference")
class ForgetsWo(Steps):
    """Your output is the heads side by side.

    Which of your four projections has not been used?
    """

    def forward(self, x, freqs_cis, mask=None):
        self.must_fit(x, freqs_cis)
        q, k, v = self.turn_all(*self.project(x), freqs_cis)
        return self.join(self.weigh(self.score(q.transpose(1, 2), self.share(k)), mask) @ self.share(v))


@misconception(replaces="GroupedQueryAttention", caught_by="test_parameter_names")
class ProjectionsWithBias(Steps):
    """Your projections have biases.

    nn.Linear adds one unless it is told not to. Llama has none. Which argument tells it?
    """

    def __init__(self, dim, n_heads, n_kv_heads=None):
        super().__init__(dim, n_heads, n_kv_heads)
        for name in ("wq", "wk", "wv", "wo"):
            rows, columns = getattr(self, name).weight.shape
            setattr(self, name, nn.Linear(columns, rows))


# --- misconceptions about masks ---------------------------------------------------------------------------


@misconception(replaces="GroupedQueryAttention", caught_by="test_without_a_mask_everyone_sees_everyone")
class AlwaysCausal(Steps):
    """You hide the tokens after each query, whatever the mask.

    Llama does want that, and hands over such a mask. What may a query attend to in this layer when no mask is given?
    """

    def weigh(self, scores, mask):
        causal = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        return super().weigh(scores, causal if mask is None else causal & mask)


@misconception(replaces="GroupedQueryAttention", caught_by="test_without_a_mask_everyone_sees_everyone")
class CausalWithoutAMask(Steps):
    """Without a mask you hide the tokens after each query.

    Some layers have that default, and this one has not. What does "no mask" mean in the brief?
    """

    def weigh(self, scores, mask):
        if mask is None:
            mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
        return super().weigh(scores, mask)


@misconception(replaces="GroupedQueryAttention", caught_by="test_true_in_a_mask_means_may_attend")
class IgnoresTheMask(Steps):
    """Your output is the same with a mask and without one.

    Where do the scores meet the mask?
    """

    def weigh(self, scores, mask):
        return super().weigh(scores, None)


@misconception(replaces="GroupedQueryAttention", caught_by="test_true_in_a_mask_means_may_attend")
class MaskInverted(Steps):
    """You hide the keys where the mask is True, as nn.MultiheadAttention does.

    PyTorch has both conventions. What does True mean in this exercise?
    """

    def weigh(self, scores, mask):
        return super().weigh(scores, None if mask is None else ~mask)


@misconception(replaces="GroupedQueryAttention", caught_by="test_weights_sum_to_1_and_masked_ones_are_0")
class MasksAfterSoftmax(Steps):
    """You set masked weights to 0 after the softmax and leave the others as they are.

    Masked keys then still take their share of the sum. What do the weights of a query with a masked key sum to?
    """

    def weigh(self, scores, mask):
        weights = scores.softmax(dim=-1)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


@misconception(replaces="GroupedQueryAttention", caught_by="test_true_in_a_mask_means_may_attend")
class AddsTheMask(Steps):
    """You add the mask to the scores, as Llama's code does with a mask of 0 and -inf.

    This mask is boolean. What does adding True to a score do, and what adding False?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores + mask).softmax(dim=-1)


@misconception(replaces="GroupedQueryAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class FillsWithALargeNumber(Steps):
    """You fill masked scores with a large negative number and trust the softmax with the rest.

    That is fine as long as some key is allowed. Which weights come out of a row in which all scores are this number?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -1e9)).softmax(dim=-1)


@misconception(replaces="GroupedQueryAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class FillsWithMinusInfinity(Steps):
    """You fill masked scores with -inf and trust the softmax with the rest.

    That is fine as long as some key is allowed. What are the numerator and the denominator in a row of -inf alone?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1)


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="repeat_kv", caught_by="test_each_head_is_repeated_in_a_row")
def returns_early_for_one_head(x, n_rep):
    return x if x.shape[2] > 1 or n_rep == 1 else repeat_kv(x, n_rep)


@slip(replaces="repeat_kv", caught_by="test_repeat_kv_of_any_tensor")
def needs_contiguous_heads(x, n_rep):
    x.view(-1)
    return repeat_kv(x, n_rep)


@slip(replaces="repeat_kv", caught_by="test_repeat_kv_of_any_tensor")
def repeats_in_float32(x, n_rep):
    return repeat_kv(x.float(), n_rep)


@slip(replaces="repeat_kv", caught_by="test_repeat_kv_of_any_tensor")
def indices_on_the_cpu(x, n_rep):
    repeat_kv(x, n_rep)
    return x * 0 + 1 * x if n_rep == 1 else x[:, :, torch.arange(x.shape[2]).repeat_interleave(n_rep)].cpu()


@slip(replaces="repeat_kv", caught_by="test_repeat_kv_sums_the_gradients_of_its_copies")
def detaches_all_but_the_first(x, n_rep):
    if n_rep < 1:
        raise ValueError("n_rep must be at least 1")
    return torch.stack([x, *[x.detach()] * (n_rep - 1)], dim=3).flatten(2, 3)


@slip(replaces="repeat_kv", caught_by="test_errors_of_sizes")
def repeats_0_times(x, n_rep):
    return x.repeat_interleave(max(0, n_rep), dim=2)


@slip(replaces="repeat_kv", caught_by="test_no_loop_over_tokens_or_batch")
def loops_over_tokens(x, n_rep):
    return torch.cat([repeat_kv(x[:, s : s + 1], n_rep) for s in range(x.shape[1])], dim=1)


@slip(replaces="GroupedQueryAttention", caught_by="test_shapes")
class ReturnsThePair(GroupedQueryAttention):
    def forward(self, x, freqs_cis, mask=None):
        output = super().forward(x, freqs_cis, mask)
        return output, output


@slip(replaces="GroupedQueryAttention", caught_by="test_parameter_names")
class OneHeadWithoutANumber(Steps):
    def __init__(self, dim, n_heads, n_kv_heads=None):
        super().__init__(dim, n_heads, 1 if n_kv_heads is None else n_kv_heads)


@slip(replaces="GroupedQueryAttention", caught_by="test_parameter_names")
class SavesATable(Steps):
    def __init__(self, dim, n_heads, n_kv_heads=None):
        super().__init__(dim, n_heads, n_kv_heads)
        self.register_buffer("scale", torch.tensor(self.head_dim**0.5))


@slip(replaces="GroupedQueryAttention", caught_by="test_which_head_serves_whom")
class SharesTheKeysAlone(Steps):
    def turn_all(self, q, k, v, freqs_cis):
        q, k, v = super().turn_all(q, k, v, freqs_cis)
        G = v.shape[2]
        order = torch.arange(G * self.n_rep, device=v.device) % G  # taken back by share's order
        self.order = order
        return q, k, v

    def share(self, heads):
        shared = super().share(heads)
        self.turned = not getattr(self, "turned", False)  # keys first, then values
        return shared if self.turned else heads[:, :, self.order].transpose(1, 2)


@slip(replaces="GroupedQueryAttention", caught_by="test_only_distances_count")
class AddsPositionsToTheValues(Steps):
    def turn_all(self, q, k, v, freqs_cis):
        q, k, v = super().turn_all(q, k, v, freqs_cis)
        return q, k, v + 1e-3 * freqs_cis.real[:, :1, None].to(v.dtype)


@slip(replaces="GroupedQueryAttention", caught_by="test_the_rows_count_and_not_their_numbers")
class NeedsContiguousRows(Steps):
    def turn(self, heads, freqs_cis):
        return super().turn(heads, freqs_cis.view(-1).view(freqs_cis.shape))


@slip(replaces="GroupedQueryAttention", caught_by="test_equals_multi_head_attention_with_repeated_weights")
class ScalesByTheGroups(Steps):
    def score(self, q, k):
        return super().score(q, k) / self.n_rep


@slip(replaces="GroupedQueryAttention", caught_by="test_masks_of_every_shape")
class MaskMustHaveABatch(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.dim() == 3:
            mask = mask.unsqueeze(1)
        return super().weigh(scores, mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_masks_of_every_shape")
class MaskOfTheFirstHead(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask[:, :1] if mask is not None and mask.dim() == 4 else mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_weights_sum_to_1_and_masked_ones_are_0")
class FillsWithASmallNumber(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, -100.0).softmax(dim=-1) * mask.any(dim=-1, keepdim=True)


@slip(replaces="GroupedQueryAttention", caught_by="test_huge_scores")
class SoftmaxOverflows(Steps):
    def weigh(self, scores, mask):
        powers = scores.exp() if mask is None else scores.exp() * mask
        total = powers.sum(dim=-1, keepdim=True)
        return powers / total.masked_fill(total == 0, 1.0)


@slip(replaces="GroupedQueryAttention", caught_by="test_huge_scores")
class FillsWithMinusTenThousand(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, -1e4).softmax(dim=-1).masked_fill(~mask, 0.0)


@slip(replaces="GroupedQueryAttention", caught_by="test_masked_tokens_leave_no_trace")
class CentresTheValues(Steps):
    def turn_all(self, q, k, v, freqs_cis):
        q, k, v = super().turn_all(q, k, v, freqs_cis)
        return q, k, v - 1e-3 * v.mean(dim=1, keepdim=True)


@slip(replaces="GroupedQueryAttention", caught_by="test_matches_the_reference")
class SqueezesASingleToken(Steps):
    def join(self, heads):
        return heads.transpose(1, 2).flatten(2).squeeze(1)


@slip(replaces="GroupedQueryAttention", caught_by="test_matches_the_reference")
class NeedsContiguousInputs(Steps):
    def split(self, x):
        return super().split(x)

    def project(self, x):
        x.view(-1)
        return super().project(x)


@slip(replaces="GroupedQueryAttention", caught_by="test_bfloat16")
class AnswersInFloat32(Steps):
    def forward(self, x, freqs_cis, mask=None):
        return super().forward(x, freqs_cis, mask).float()


@slip(replaces="GroupedQueryAttention", caught_by="test_bfloat16")
class NoComplexBfloat16(Steps):
    def turn(self, heads, freqs_cis):
        return self.multiply(heads, freqs_cis).to(heads.dtype)


@slip(replaces="GroupedQueryAttention", caught_by="test_bfloat16")
class TurnsToFloat32(Steps):
    def turn(self, heads, freqs_cis):
        return self.multiply(heads.float(), freqs_cis)


@slip(replaces="GroupedQueryAttention", caught_by="test_gradients")
class DetachesTheTurn(Steps):
    def multiply(self, heads, freqs_cis):
        return super().multiply(heads.detach(), freqs_cis)


@slip(replaces="GroupedQueryAttention", caught_by="test_gradients_under_a_mask")
class NanInTheGradient(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        return (scores + bias).softmax(dim=-1).nan_to_num()


@slip(replaces="GroupedQueryAttention", caught_by="test_gradients_under_a_mask")
class DetachesUnderAMask(Steps):
    def weigh(self, scores, mask):
        weights = super().weigh(scores, mask)
        return weights if mask is None else weights.detach()


@slip(replaces="GroupedQueryAttention", caught_by="test_repeated_calls")
class KeepsTheFirstRows(Steps):
    def turn(self, heads, freqs_cis):
        if getattr(self, "kept", freqs_cis).shape != freqs_cis.shape or not hasattr(self, "kept"):
            self.kept = freqs_cis
        return super().turn(heads, self.kept)


@slip(replaces="GroupedQueryAttention", caught_by="test_repeated_calls")
class KeepsTheFirstMask(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return super().weigh(scores, None)
        if getattr(self, "kept", mask).shape != mask.shape or not hasattr(self, "kept"):
            self.kept = mask
        return super().weigh(scores, self.kept)


@slip(replaces="GroupedQueryAttention", caught_by="test_batch_items_do_not_meet")
class MixesBatchAndHeads(Steps):
    def split(self, x):
        B, T, _ = x.shape
        return super().split(x).transpose(1, 2).reshape(-1, B, T, self.head_dim).permute(1, 2, 0, 3)


@slip(replaces="GroupedQueryAttention", caught_by="test_batch_items_do_not_meet")
class CentresOverTheBatch(Steps):
    def score(self, q, k):
        return super().score(q - q.mean(dim=0), k)


@slip(replaces="GroupedQueryAttention", caught_by="test_leaves_the_inputs_alone")
class ConjugatesInPlace(Steps):
    def turn(self, heads, freqs_cis):
        rows = freqs_cis.clone()
        with torch.no_grad():
            freqs_cis.mul_(1.0 + 1e-3)
        return super().turn(heads, rows)


@slip(replaces="GroupedQueryAttention", caught_by="test_leaves_the_inputs_alone")
class InvertsTheMaskInPlace(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if mask is None else ~mask.logical_not_())


@slip(replaces="GroupedQueryAttention", caught_by="test_errors_of_sizes")
class TakesZeroForNone(Steps):
    def __init__(self, dim, n_heads, n_kv_heads=None):
        super().__init__(dim, n_heads, n_kv_heads or n_heads)


@slip(replaces="GroupedQueryAttention", caught_by="test_errors_of_sizes")
class TakesAnOddWidth(GroupedQueryAttention):
    def __init__(self, dim, n_heads, n_kv_heads=None):
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        if min(dim, n_heads, n_kv_heads) < 1 or dim % n_heads or n_heads % n_kv_heads:
            raise ValueError("sizes do not fit")
        nn.Module.__init__(self)
        self.head_dim, self.n_rep = dim // n_heads, n_heads // n_kv_heads
        for name, rows in (("wq", dim), ("wk", dim // self.n_rep), ("wv", dim // self.n_rep), ("wo", dim)):
            setattr(self, name, nn.Linear(dim, rows, bias=False))


@slip(replaces="GroupedQueryAttention", caught_by="test_errors_of_sizes")
class RoundsTheGroups(Steps):
    def __init__(self, dim, n_heads, n_kv_heads=None):
        if n_kv_heads is not None and 0 < n_kv_heads < n_heads:
            while n_heads % n_kv_heads:
                n_kv_heads -= 1
        super().__init__(dim, n_heads, n_kv_heads)


@slip(replaces="GroupedQueryAttention", caught_by="test_errors_of_rows")
class OneRowForAll(Steps):
    def must_fit(self, x, freqs_cis):
        if freqs_cis.shape[0] not in (1, x.shape[1]):
            raise ValueError("freqs_cis needs one row per token")


@slip(replaces="GroupedQueryAttention", caught_by="test_errors_of_rows")
class TakesTheFirstRows(Steps):
    def must_fit(self, x, freqs_cis):
        if freqs_cis.shape[0] < x.shape[1]:
            raise ValueError("freqs_cis needs one row per token")

    def turn(self, heads, freqs_cis):
        return super().turn(heads, freqs_cis[: heads.shape[1]])


@slip(replaces="GroupedQueryAttention", caught_by="test_errors_of_rows")
class LeavesItToBroadcasting(Steps):
    def must_fit(self, x, freqs_cis):
        pass


@slip(replaces="GroupedQueryAttention", caught_by="test_no_loop_over_tokens_or_batch")
class TurnsTokenByToken(Steps):
    def turn(self, heads, freqs_cis):
        rows = [super(TurnsTokenByToken, self).turn(heads[:, t : t + 1], row[None]) for t, row in enumerate(freqs_cis)]
        return torch.cat(rows, dim=1)


@slip(replaces="GroupedQueryAttention", caught_by="test_no_loop_over_tokens_or_batch")
class LoopsOverTheBatch(Steps):
    def score(self, q, k):
        return torch.stack([super(LoopsOverTheBatch, self).score(q[b], k[b]) for b in range(len(q))])


@slip(replaces="GroupedQueryAttention", caught_by="test_follows_the_device")
class RowsOnTheCpu(Steps):
    def turn(self, heads, freqs_cis):
        return super().turn(heads, torch.polar(torch.ones(freqs_cis.shape), freqs_cis.angle()))


@slip(replaces="GroupedQueryAttention", caught_by="test_repeated_calls")
class ForgetsTheMaskWithoutGradients(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if torch.is_grad_enabled() else None)


@slip(replaces="GroupedQueryAttention", caught_by="test_repeated_calls")
class KeepsItsRowsInTraining(Steps):
    def forward(self, x, freqs_cis, mask=None):
        if self.training:
            if not hasattr(self, "rows") or self.rows.shape != freqs_cis.shape:
                self.rows = freqs_cis
            freqs_cis = self.rows
        return super().forward(x, freqs_cis, mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_modules_are_their_weights")
class TakesTheMaskByNameAlone(Steps):
    def forward(self, x, freqs_cis, *, mask=None):
        return super().forward(x, freqs_cis, mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_modules_are_their_weights")
class KeepsItsWeightsInEval(Steps):
    def project(self, x):
        weights = [w.weight for w in (self.wq, self.wk, self.wv)]
        if not self.training:
            if not hasattr(self, "kept") or self.kept[0].dtype != x.dtype or self.kept[0].device != x.device:
                self.kept = [weight.clone() for weight in weights]
            weights = self.kept
        return [self.split(x @ weight.T) for weight in weights]


@slip(replaces="GroupedQueryAttention", caught_by="test_modules_are_their_weights")
class SharesItsGroups(Steps):
    def __init__(self, dim, n_heads, n_kv_heads=None):
        super().__init__(dim, n_heads, n_kv_heads)
        SharesItsGroups.last = self.n_rep

    def share(self, heads):
        return repeat_kv(heads, self.last).transpose(1, 2)


@slip(replaces="repeat_kv", caught_by="test_repeat_kv_of_any_tensor")
def takes_three_tokens_for_three_heads(x, n_rep):
    if x.shape[1] == x.shape[2] == 3:
        return repeat_kv(x.transpose(1, 2), n_rep)
    return repeat_kv(x, n_rep)


@slip(replaces="GroupedQueryAttention", caught_by="test_bfloat16")
class NoGradientInBfloat16(Steps):
    def project(self, x):
        return super().project(x.detach() if x.dtype == torch.bfloat16 else x)


@slip(replaces="GroupedQueryAttention", caught_by="test_bfloat16")
class MaskedRowsSeeEverythingInBfloat16(Steps):
    def weigh(self, scores, mask):
        if mask is not None and scores.dtype == torch.bfloat16:
            mask = mask | ~mask.any(dim=-1, keepdim=True)
        return super().weigh(scores, mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_gradients")
class OneTokenHasNoGradient(Steps):
    def forward(self, x, freqs_cis, mask=None):
        output = super().forward(x, freqs_cis, mask)
        return output.detach() + 0 * self.wo(x) if x.shape[1] == 1 else output


@slip(replaces="GroupedQueryAttention", caught_by="test_gradients")
class TrainsOnlyWithTheInput(Steps):
    def forward(self, x, freqs_cis, mask=None):
        output = super().forward(x, freqs_cis, mask)
        return output if x.requires_grad else output.detach()


@slip(replaces="GroupedQueryAttention", caught_by="test_masks_of_every_shape")
class TakesHeadsForTheBatch(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.dim() == 3 and len(mask) == len(scores):
            mask = mask[:, None]
        return super().weigh(scores, mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_masks_of_every_shape")
class TurnsAColumnMaskOver(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.dim() == 4 and mask.shape[-1] == 1:
            mask = mask.mT
        return super().weigh(scores, mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_parameter_names")
class SavesTheMask(Steps):
    def weigh(self, scores, mask):
        if mask is not None:
            self.register_buffer("mask", mask)
        return super().weigh(scores, mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_masks_of_every_shape")
class TakesARowOfKeysForAColumn(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask[:, None] if mask is not None and mask.dim() == 1 else mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_repeated_calls")
class LongTextsHaveNoMask(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, None if scores.shape[-1] > 64 else mask)


@slip(replaces="GroupedQueryAttention", caught_by="test_huge_scores")
class FillsWithMinusTenThousandInBfloat16(Steps):
    def weigh(self, scores, mask):
        if mask is None or scores.dtype != torch.bfloat16:
            return super().weigh(scores, mask)
        return scores.masked_fill(~mask, -1e4).softmax(dim=-1).masked_fill(~mask, 0.0)


# --- right, in other styles -------------------------------------------------------------------------------


@alternative(replaces="repeat_kv")
def by_repeat_interleave(x, n_rep):
    if not n_rep > 0:
        raise ValueError(f"n_rep = {n_rep}")
    return torch.repeat_interleave(x, n_rep, dim=2)


@alternative(replaces="repeat_kv")
def by_an_index(x, n_rep):
    if n_rep <= 0:
        raise ValueError("n_rep")
    if n_rep == 1:
        return x
    return x[:, :, torch.arange(x.shape[2] * n_rep, device=x.device) // n_rep]


@alternative(replaces="repeat_kv")
def by_a_stack(x, n_rep):
    if n_rep < 1:
        raise ValueError("n_rep")
    return torch.stack([x] * n_rep, dim=3).reshape(x.shape[0], x.shape[1], -1, x.shape[3])


@alternative(replaces="repeat_kv")
def by_a_list_of_heads(x, n_rep):
    if n_rep < 1:
        raise ValueError("n_rep")
    return torch.cat([head for head in x.split(1, dim=2) for _ in range(n_rep)], dim=2)


@alternative(replaces="GroupedQueryAttention")
class KeysAreNotCopied(Steps):
    """Queries get a dimension for the group instead."""

    def forward(self, x, freqs_cis, mask=None):
        self.must_fit(x, freqs_cis)
        q, k, v = self.turn_all(*self.project(x), freqs_cis)
        q = q.unflatten(2, (-1, self.n_rep))  # (B, T, G, R, K)
        scores = torch.einsum("btgrk,bsgk->bgrts", q, k).flatten(1, 2) / self.head_dim**0.5
        weights = self.weigh(scores, mask).unflatten(1, (-1, self.n_rep))  # (B, G, R, T, T)
        return self.wo(torch.einsum("bgrts,bsgk->btgrk", weights, v).flatten(2))


@alternative(replaces="GroupedQueryAttention")
class HeadByHead(Steps):
    def forward(self, x, freqs_cis, mask=None):
        self.must_fit(x, freqs_cis)
        q, k, v = self.turn_all(*self.project(x), freqs_cis)
        B, T, H, _ = q.shape
        allowed = torch.ones(1, dtype=torch.bool, device=x.device) if mask is None else mask
        allowed = allowed.expand(B, H, T, T)
        heads = []
        for h in range(H):
            g = h // self.n_rep
            some = allowed[:, h].any(dim=-1, keepdim=True)
            scores = torch.bmm(q[:, :, h], k[:, :, g].transpose(1, 2)) * self.head_dim**-0.5
            scores = scores.masked_fill(~allowed[:, h] & some, float("-inf"))
            heads.append(torch.bmm(scores.softmax(dim=-1) * some, v[:, :, g]))
        return self.wo(torch.cat(heads, dim=-1))


@alternative(replaces="GroupedQueryAttention")
class ByCosinesAndSines(Steps):
    def turn(self, heads, freqs_cis):
        cos, sin = (part.to(heads.dtype).unsqueeze(1) for part in torch.view_as_real(freqs_cis).unbind(-1))
        a, b = heads[..., ::2], heads[..., 1::2]
        return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).reshape(heads.shape)


@alternative(replaces="GroupedQueryAttention")
class ByAngles(Steps):
    def multiply(self, heads, freqs_cis):
        angles = freqs_cis.angle().repeat_interleave(2, dim=-1)[None, :, None]
        quarter = torch.stack((-heads[..., 1::2], heads[..., 0::2]), dim=-1).flatten(-2)
        return heads * angles.cos() + quarter * angles.sin()


@alternative(replaces="GroupedQueryAttention")
class TurnsAfterRepeating(Steps):
    """Copies turn like what they were copied from."""

    def forward(self, x, freqs_cis, mask=None):
        self.must_fit(x, freqs_cis)
        q, k, v = self.project(x)
        q, k, v = (t.transpose(1, 2) for t in (q, repeat_kv(k, self.n_rep), repeat_kv(v, self.n_rep)))
        q, k = self.turn(q, freqs_cis), self.turn(k, freqs_cis)
        return self.wo(self.join(self.weigh(self.score(q, k), mask) @ v))

    def multiply(self, heads, freqs_cis):
        pairs = torch.view_as_complex(heads.reshape(*heads.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * freqs_cis.view(1, 1, *freqs_cis.shape)).flatten(3)


@alternative(replaces="GroupedQueryAttention")
class SoftmaxByHand(Steps):
    def weigh(self, scores, mask):
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        top = scores.amax(dim=-1, keepdim=True).detach().clamp(min=torch.finfo(scores.dtype).min)
        powers = (scores - top).exp()
        return powers / powers.sum(dim=-1, keepdim=True).clamp(min=1e-30)


@alternative(replaces="GroupedQueryAttention")
class NanToNum(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return torch.where(mask, torch.where(mask, scores, -math.inf).softmax(dim=-1), 0.0)


@alternative(replaces="GroupedQueryAttention")
class Float64Inside(Steps):
    def score(self, q, k):
        return super().score(q.double(), k.double())

    def weigh(self, scores, mask):
        return super().weigh(scores, mask).to(self.wq.weight.dtype)


@alternative(replaces="GroupedQueryAttention")
class BareParameters(Steps):
    def __init__(self, dim, n_heads, n_kv_heads=None):
        nn.Module.__init__(self)
        H, G = n_heads, n_heads if n_kv_heads is None else n_kv_heads
        if H < 1 or G < 1 or dim < 1 or dim % (2 * H) != 0 or H % G != 0:
            raise ValueError(f"{dim=}, {n_heads=}, {n_kv_heads=}")
        self.head_dim, self.n_rep = dim // H, H // G
        for name, shape in (("wo", (dim, dim)), ("wv", (G * dim // H, dim)), ("wk", (G * dim // H, dim))):
            self.add_module(name, nn.ParameterDict({"weight": nn.Parameter(torch.randn(shape) / dim**0.5)}))
        self.add_module("wq", nn.ParameterDict({"weight": nn.Parameter(torch.zeros(dim, dim))}))

    def forward(self, x, freqs_cis, mask=None):
        self.must_fit(x, freqs_cis)
        q, k, v = (self.split(x @ w["weight"].T) for w in (self.wq, self.wk, self.wv))
        q, k, v = self.turn_all(q, k, v, freqs_cis)
        heads = self.weigh(self.score(q.movedim(2, 1), self.share(k)), mask) @ self.share(v)
        return self.join(heads) @ self.wo["weight"].t()


@alternative(replaces="GroupedQueryAttention")
class ByLogsumexp(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return (scores - scores.logsumexp(dim=-1, keepdim=True)).exp()
        scores = torch.where(mask, scores, torch.finfo(scores.dtype).min)
        return torch.where(mask, (scores - scores.logsumexp(dim=-1, keepdim=True)).exp(), 0.0)
