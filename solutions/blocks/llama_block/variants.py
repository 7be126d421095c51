"""Other ways to write Llama's block: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from grader.judge.suite import alternative, misconception, slip

from .solution import LlamaBlock


class Steps(LlamaBlock):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, x, freqs_cis, mask=None):
        self.must_fit(x, freqs_cis)
        h = self.around_attention(x, freqs_cis, mask)
        return self.around_feed_forward(h, x)

    def must_fit(self, x, freqs_cis):
        if freqs_cis.shape[0] != x.shape[1]:
            raise ValueError("freqs_cis needs one row per token")

    def around_attention(self, x, freqs_cis, mask):
        return x + self.attend(self.norm(x, self.attention_norm.weight), freqs_cis, mask)

    def around_feed_forward(self, h, x):
        return h + self.feed(self.norm(h, self.ffn_norm.weight))

    def norm(self, x, weight):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.gain(self.rescale(wide).to(x.dtype), weight)

    def gain(self, x, weight):
        return x * weight

    def rescale(self, x):
        return x / self.root(x.square().mean(dim=-1, keepdim=True))

    def root(self, mean):
        return torch.sqrt(mean + self.norm_eps)

    def attend(self, n, freqs_cis, mask):
        q, k, v = self.turn_all(*self.project(n), freqs_cis)
        q, k, v = q.transpose(1, 2), self.share(k), self.share(v)  # (B, H, T, K) each
        return self.combine(self.join(self.weigh(self.score(q, k), self.mask_of(n, mask)) @ v))

    def combine(self, heads):
        return self.attention.wo(heads)

    def mask_of(self, n, mask):
        return self.causal(n) if mask is None else mask

    def causal(self, n):
        return torch.ones(n.shape[1], n.shape[1], dtype=torch.bool, device=n.device).tril()

    def project(self, n):
        w = self.attention
        return [self.split(part(n)) for part in (w.wq, w.wk, w.wv)]  # (B, T, heads, K) each

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
        return heads.repeat_interleave(self.n_rep, dim=2).transpose(1, 2)  # (B, T, G, K) -> (B, H, T, K)

    def score(self, q, k):
        return q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, T)

    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)

    def join(self, heads):
        return heads.transpose(1, 2).flatten(2)  # (B, H, T, K) -> (B, T, D)

    def feed(self, n):
        w = self.feed_forward
        return w.w2(self.gate(w.w1(n), w.w3(n)))

    def gate(self, a, b):
        return F.silu(a) * b


# --- misconceptions about the residuals and the order -----------------------------------------------------


@misconception(replaces="LlamaBlock", caught_by="test_tokens_pass_by_both_parts")
class NormsAfterTheSums(Steps):
    """You normalise the sums, as the paper of 2017 does: norm(x + attention(x)).

    In Llama the norm stands before each part, and what goes from block to block is never normalised. What should come
    out when both parts add nothing?
    """

    def around_attention(self, x, freqs_cis, mask):
        return self.norm(x + self.attend(x, freqs_cis, mask), self.attention_norm.weight)

    def around_feed_forward(self, h, x):
        return self.norm(h + self.feed(h), self.ffn_norm.weight)


@misconception(replaces="LlamaBlock", caught_by="test_attention_is_added_by_hand")
class NormsWhatAttentionFound(Steps):
    """You normalise what attention and feed-forward give, and not what they read.

    x + norm(attention(x)) is another design. Which tensor goes into the norm in the formula?
    """

    def around_attention(self, x, freqs_cis, mask):
        return x + self.norm(self.attend(x, freqs_cis, mask), self.attention_norm.weight)

    def around_feed_forward(self, h, x):
        return h + self.norm(self.feed(h), self.ffn_norm.weight)


@misconception(replaces="LlamaBlock", caught_by="test_tokens_pass_by_both_parts")
class AddsToTheNormalised(Steps):
    """You add what each part gives to the normalised tokens: n + attention(n) with n = norm(x).

    If a line reads x = norm(x), the tokens as they were are gone. To what does the formula add?
    """

    def around_attention(self, x, freqs_cis, mask):
        n = self.norm(x, self.attention_norm.weight)
        return n + self.attend(n, freqs_cis, mask)

    def around_feed_forward(self, h, x):
        n = self.norm(h, self.ffn_norm.weight)
        return n + self.feed(n)


@misconception(replaces="LlamaBlock", caught_by="test_attention_is_added_by_hand")
class NothingGoesAroundAttention(Steps):
    """What attention gives is not added to the tokens: the residual connection around it is missing.

    With wo = 0 the tokens are lost in your code. What is h in the formula?
    """

    def around_attention(self, x, freqs_cis, mask):
        return self.attend(self.norm(x, self.attention_norm.weight), freqs_cis, mask)


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class NothingGoesAroundTheFeedForward(Steps):
    """Your output is that of the feed-forward: the residual connection around it is missing.

    With w2 = 0 the tokens are lost in your code. What is added to feed_forward(norm(h)) in the formula?
    """

    def around_feed_forward(self, h, x):
        return self.feed(self.norm(h, self.ffn_norm.weight))


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_reads_the_sum_by_hand")
class BothReadTheTokens(Steps):
    """Attention and feed-forward both read x, side by side, as in GPT-J and PaLM.

    That is a sound block, but not Llama's: the feed-forward does not see what attention found. What does it read in the
    formula?
    """

    def around_feed_forward(self, h, x):
        return h + self.feed(self.norm(x, self.ffn_norm.weight))


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_reads_the_sum_by_hand")
class AddsToTheFirstTokens(Steps):
    """You add the feed-forward's result to x, the block's input.

    What attention has added is lost on the direct way. To what is the second result added?
    """

    def around_feed_forward(self, h, x):
        return x + self.feed(self.norm(h, self.ffn_norm.weight))


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_reads_the_sum_by_hand")
class FeedForwardReadsAttentionAlone(Steps):
    """Your feed-forward reads what attention gave, without the tokens that it was added to.

    Which of the two goes into ffn_norm: attention(...) or h?
    """

    def around_feed_forward(self, h, x):
        return h + self.feed(self.norm(h - x, self.ffn_norm.weight))


# --- misconceptions about the norms -----------------------------------------------------------------------


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class OneNormForBoth(Steps):
    """You use the gain of attention_norm in front of the feed-forward, too.

    There are two norms with a weight each. What has ffn_norm.weight been used for?
    """

    def around_feed_forward(self, h, x):
        return h + self.feed(self.norm(h, self.attention_norm.weight))


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class NormsChangePlaces(Steps):
    """Your two norms have changed places.

    Which one stands before attention, judging by its name?
    """

    def around_attention(self, x, freqs_cis, mask):
        return x + self.attend(self.norm(x, self.ffn_norm.weight), freqs_cis, mask)

    def around_feed_forward(self, h, x):
        return h + self.feed(self.norm(h, self.attention_norm.weight))


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class NoNormBeforeTheFeedForward(Steps):
    """Your feed-forward reads h as it is.

    Then it grows with every block. Which norm has not been used?
    """

    def around_feed_forward(self, h, x):
        return h + self.feed(h)


@misconception(replaces="LlamaBlock", caught_by="test_attention_is_added_by_hand")
class NoNormBeforeAttention(Steps):
    """Your attention reads x as it is.

    Then scores grow with the tokens. Which norm has not been used?
    """

    def around_attention(self, x, freqs_cis, mask):
        return x + self.attend(x, freqs_cis, mask)


@misconception(replaces="LlamaBlock", caught_by="test_attention_is_added_by_hand")
class SubtractsTheMean(Steps):
    """You subtract the mean of the features first, as layer normalisation does.

    RMSNorm only rescales. What is left of a token whose features are all the same?
    """

    def rescale(self, x):
        return super().rescale(x - x.mean(dim=-1, keepdim=True))


@misconception(replaces="LlamaBlock", caught_by="test_attention_is_added_by_hand")
class DividesByTheLength(Steps):
    """You divide by the root of the sum of the squares, so that each token has the length 1.

    Then features get smaller the more of them there are. Is it the sum or the mean?
    """

    def rescale(self, x):
        return x / self.root(x.square().sum(dim=-1, keepdim=True))


@misconception(replaces="LlamaBlock", caught_by="test_eps_is_added_under_the_root")
class EpsOutsideTheRoot(Steps):
    """You add norm_eps to the root instead of the mean.

    For a token of zeros the two differ most. What stands under the root in the formula?
    """

    def root(self, mean):
        return mean.sqrt() + self.norm_eps


@misconception(replaces="LlamaBlock", caught_by="test_eps_is_added_under_the_root")
class EpsIsFixed(Steps):
    """Your norms always use 1e-5, whatever norm_eps is.

    Checkpoints come with their own: Llama 1 was trained with 1e-6. Where does the argument go?
    """

    def root(self, mean):
        return torch.sqrt(mean + 1e-5)


@misconception(replaces="LlamaBlock", caught_by="test_attention_is_added_by_hand")
class GainStartsAtZero(Steps):
    """You multiply by 1 + weight.

    Gemma's norms do that, with weights that start at 0. By what does this one multiply?
    """

    def gain(self, x, weight):
        return x * (1 + weight)


@misconception(replaces="LlamaBlock", caught_by="test_attention_is_added_by_hand")
class NormsWithoutGain(Steps):
    """Your norms rescale, but their weights have no influence.

    What is the rescaled token multiplied with, feature by feature?
    """

    def gain(self, x, weight):
        return x + 0 * weight


# --- misconceptions about the feed-forward ----------------------------------------------------------------


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class SiluOnTheOtherBranch(Steps):
    """You apply silu to w3's branch: w2(w1 n * silu(w3 n)).

    Trained from scratch that works as well, but weights of others do not fit. Which branch is the gate here?
    """

    def gate(self, a, b):
        return a * F.silu(b)


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class NoSecondBranch(Steps):
    """Your feed-forward is w2(silu(w1 n)): w3 has no influence.

    SwiGLU multiplies two projections, one of which went through silu. What is w3 for?
    """

    def gate(self, a, b):
        return F.silu(a) + 0 * b


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class SigmoidGate(Steps):
    """Your gate is sigmoid(w1 n), the first form of gated linear units.

    silu(z) is z * sigmoid(z). Which factor is missing?
    """

    def gate(self, a, b):
        return a.sigmoid() * b


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class GeluGate(Steps):
    """Your gate is gelu(w1 n).

    That is GEGLU, from the same paper. What is the Swi in SwiGLU?
    """

    def gate(self, a, b):
        return F.gelu(a) * b


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class ReluGate(Steps):
    """Your gate is relu(w1 n).

    That is ReGLU, from the same paper. What is the Swi in SwiGLU?
    """

    def gate(self, a, b):
        return a.relu() * b


@misconception(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class SiluOfTheProduct(Steps):
    """You multiply the branches first and apply silu to the product.

    Which of the factors does silu stand around in the formula?
    """

    def gate(self, a, b):
        return F.silu(a * b)


@misconception(replaces="LlamaBlock", caught_by="test_parameter_names")
class WorksOutTheHiddenWidth(LlamaBlock):
    """You take two thirds of hidden_dim, as Llama's code does with 4 * dim.

    That was done before hidden_dim came to you. How many rows should w1 have?
    """

    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        super().__init__(dim, n_heads, n_kv_heads, max(int(2 * hidden_dim / 3), min(hidden_dim, 1)), norm_eps)


# --- misconceptions about masks ---------------------------------------------------------------------------


@misconception(replaces="LlamaBlock", caught_by="test_causal_without_a_mask")
class EveryoneSeesEveryone(Steps):
    """Without a mask every token sees every token, later ones too.

    A decoder would learn to copy the next token. What does "no mask" mean in this exercise?
    """

    def causal(self, n):
        return super().causal(n) | True


@misconception(replaces="LlamaBlock", caught_by="test_causal_without_a_mask")
class SeesNotItself(Steps):
    """Without a mask your tokens see those before them, but not themselves.

    What is left for token 0 to see? Compare with "the tokens 0 to t".
    """

    def causal(self, n):
        return super().causal(n).tril(-1)


@misconception(replaces="LlamaBlock", caught_by="test_causal_without_a_mask")
class SeesTheFuture(Steps):
    """Your causal mask is upside down: tokens see themselves and those after them.

    Print it for T = 3. How many True should the row of token 0 have?
    """

    def causal(self, n):
        return super().causal(n).mT


@misconception(replaces="LlamaBlock", caught_by="test_true_in_a_mask_means_may_attend")
class MaskBesideTheCausalOne(Steps):
    """A mask that is given only takes keys away: your causal mask still holds beside it.

    The brief says that it replaces the causal one. May token 0 attend to token 2 if the mask says so?
    """

    def mask_of(self, n, mask):
        return self.causal(n) if mask is None else self.causal(n) & mask


@misconception(replaces="LlamaBlock", caught_by="test_true_in_a_mask_means_may_attend")
class IgnoresTheMask(Steps):
    """Your output is the same with a mask and without one: attention is always causal.

    Where do the scores meet the argument mask?
    """

    def mask_of(self, n, mask):
        return self.causal(n)


@misconception(replaces="LlamaBlock", caught_by="test_true_in_a_mask_means_may_attend")
class MaskInverted(Steps):
    """You hide the keys where the mask is True, as nn.MultiheadAttention does.

    PyTorch has both conventions. What does True mean in this exercise?
    """

    def mask_of(self, n, mask):
        return self.causal(n) if mask is None else ~mask


@misconception(replaces="LlamaBlock", caught_by="test_causal_without_a_mask")
class MasksAfterSoftmax(Steps):
    """You set masked weights to 0 after the softmax and leave the others as they are.

    Masked keys then still take their share of the sum. What do the weights of a query with a masked key sum to?
    """

    def weigh(self, scores, mask):
        return scores.softmax(dim=-1).masked_fill(~mask, 0.0)


@misconception(replaces="LlamaBlock", caught_by="test_a_query_with_nothing_to_attend_to")
class NothingAllowedIsNan(Steps):
    """A token that may attend to nothing becomes NaN.

    All its scores are minus infinity, so the softmax divides 0 by 0. What should attention add to it?
    """

    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, -math.inf).softmax(dim=-1)


@misconception(replaces="LlamaBlock", caught_by="test_a_query_with_nothing_to_attend_to")
class NothingAllowedAveragesAll(Steps):
    """A token that may attend to nothing gets the average of all values.

    Its scores are all the same very low number, and a softmax only sees differences. What should attention add to it?
    """

    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)


# --- misconceptions about the turn ------------------------------------------------------------------------


@misconception(replaces="LlamaBlock", caught_by="test_values_are_not_turned")
class TurnsTheValues(Steps):
    """You turn the values as well.

    The turn is there for the scores, where the turns of query and key combine. What would wo have to know to read a
    turned value?
    """

    def turn_all(self, q, k, v, freqs_cis):
        return [self.turn(heads, freqs_cis) for heads in (q, k, v)]


@misconception(replaces="LlamaBlock", caught_by="test_turns_by_hand")
class TurnsTheQueriesAlone(Steps):
    """You turn the queries and leave the keys as they are.

    A score then depends on where the query stands, and not on the distance to the key. Which turn is missing for that?
    """

    def turn_all(self, q, k, v, freqs_cis):
        return self.turn(q, freqs_cis), k, v


@misconception(replaces="LlamaBlock", caught_by="test_turns_by_hand")
class TurnsTheKeysAlone(Steps):
    """You turn the keys and leave the queries as they are.

    A score then depends on where the key stands, and not on the distance to the query. Which turn is missing for that?
    """

    def turn_all(self, q, k, v, freqs_cis):
        return q, self.turn(k, freqs_cis), v


@misconception(replaces="LlamaBlock", caught_by="test_turns_by_hand")
class DoesNotTurn(Steps):
    """Your output does not depend on freqs_cis.

    Then the block cannot know how far apart two tokens stand. What should freqs_cis be multiplied with?
    """

    def turn_all(self, q, k, v, freqs_cis):
        return q, k, v


@misconception(replaces="LlamaBlock", caught_by="test_turns_by_hand")
class TurnsClockwise(Steps):
    """You turn the other way round, as if freqs_cis were conjugated.

    Turn (1, 0) by a small angle, counter-clockwise: which sign has its second coordinate then?
    """

    def turn(self, heads, freqs_cis):
        return super().turn(heads, freqs_cis.conj())


@misconception(replaces="LlamaBlock", caught_by="test_turns_by_hand")
class PairsAreHalves(Steps):
    """You pair feature i with feature i + K/2, as GPT-NeoX and Hugging Face's Llama do.

    That is a sound rotary embedding, for weights trained with it. Which two features does this exercise call a pair?
    """

    def multiply(self, heads, freqs_cis):
        a, b = heads.chunk(2, dim=-1)
        cos, sin = freqs_cis.real[:, None], freqs_cis.imag[:, None]
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


@misconception(replaces="LlamaBlock", caught_by="test_matches_the_reference")
class HeadsTakenForTokens(Steps):
    """You line up the rows of freqs_cis with the heads.

    Without a dimension of size 1 in between, (T, K/2) meets the last two dimensions of (B, T, H, K/2). With as many
    heads as tokens nothing complains. Where should freqs_cis get a dimension?
    """

    def multiply(self, heads, freqs_cis):
        pairs = torch.view_as_complex(heads.unflatten(-1, (-1, 2)).contiguous())
        return torch.view_as_real(pairs * freqs_cis).flatten(-2)


@misconception(replaces="LlamaBlock", caught_by="test_the_rows_count_and_not_their_numbers")
class MakesItsOwnAngles(Steps):
    """You work out angles from the number of tokens, so that the numbers in freqs_cis have no influence.

    A decoder asks for one token at position 100. What is in freqs_cis then, and what do you compute?
    """

    def turn(self, heads, freqs_cis):
        T, pairs = freqs_cis.shape
        angles = torch.outer(torch.arange(T), 10_000.0 ** -(torch.arange(pairs) / pairs)).to(heads.device)
        return super().turn(heads, torch.polar(torch.ones_like(angles), angles))


# --- misconceptions about heads and scores ----------------------------------------------------------------


@misconception(replaces="LlamaBlock", caught_by="test_which_head_serves_whom")
class HeadsTakeTurns(Steps):
    """Query head h uses key/value head h % G in your code: the heads take turns.

    Tensor.repeat and a cat of copies do that. Which query heads belong to key/value head 0 if there are 4 for 2?
    """

    def share(self, heads):
        return heads.repeat(1, 1, self.n_rep, 1).transpose(1, 2)


@misconception(replaces="LlamaBlock", caught_by="test_parameter_names")
class KeysOfEveryHead(Steps):
    """Your wk and wv have an output for every query head, as in multi-head attention.

    Sharing saves just these rows, and with them most of the cache of a decoder. How many features do G heads have?
    """

    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        super().__init__(dim, n_heads, n_kv_heads, hidden_dim, norm_eps)
        self.attention.wk, self.attention.wv = (nn.Linear(dim, dim, bias=False) for _ in range(2))

    def share(self, heads):
        return heads.transpose(1, 2)


@misconception(replaces="LlamaBlock", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class ScalesByTheModelWidth(Steps):
    """You divide the scores by sqrt(D), the root of the model's width.

    The division undoes the growth of a dot product with the number of its terms. How many terms has it in one head?
    """

    def score(self, q, k):
        return q @ k.mT / math.sqrt(self.attention.wo.weight.shape[0])


@misconception(replaces="LlamaBlock", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class DoesNotScale(Steps):
    """Your scores are plain dot products.

    They spread more and more the more features a head has, and the softmax comes close to picking one key. By what
    are they divided in the brief?
    """

    def score(self, q, k):
        return q @ k.mT


@misconception(replaces="LlamaBlock", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
class ScalesByTheHeadWidth(Steps):
    """You divide the scores by K itself.

    If the entries of q and k have variance 1, what is the variance of their dot product? And its standard deviation?
    """

    def score(self, q, k):
        return q @ k.mT / q.shape[-1]


@misconception(replaces="LlamaBlock", caught_by="test_which_head_serves_whom")
class HeadsInterleaved(Steps):
    """You deal out the features to the heads one by one: head h gets the features h, h + H, h + 2H ...

    Trained from scratch that works as well, but weights of others do not fit. Which features does head 0 own here?
    """

    def split(self, x):
        return x.unflatten(-1, (self.head_dim, -1)).transpose(-1, -2)


@misconception(replaces="LlamaBlock", caught_by="test_which_head_serves_whom")
class SplitsWithoutTranspose(Steps):
    """You view (B, T, H*K) as (B, H, T, K) at once.

    The shape fits, but a view only counts through the numbers in the order in which they lie in memory. Whose features
    are in the first row of head 0, and whose in its second row?
    """

    def split(self, x):
        B, T, _ = x.shape
        return x.reshape(B, -1, T, self.head_dim).transpose(1, 2)


@misconception(replaces="LlamaBlock", caught_by="test_which_head_serves_whom")
class JoinsWithoutTranspose(Steps):
    """You reshape (B, H, T, K) to (B, T, D) at once.

    The shape fits, but a reshape keeps the order of the numbers. Which tokens' numbers are now in the first row?
    """

    def join(self, heads):
        B, H, T, K = heads.shape
        return heads.reshape(B, T, H * K)


@misconception(replaces="LlamaBlock", caught_by="test_tokens_pass_by_both_parts")
class ForgetsWo(Steps):
    """You add the heads side by side, as they are.

    Which of the four projections of attention has not been used?
    """

    def combine(self, heads):
        return heads


@misconception(replaces="LlamaBlock", caught_by="test_parameter_names")
class ProjectionsWithBias(Steps):
    """Your projections have biases.

    nn.Linear adds one unless it is told not to. Llama has none. Which argument tells it?
    """

    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        super().__init__(dim, n_heads, n_kv_heads, hidden_dim, norm_eps)
        for part in self.attention, self.feed_forward:
            for name, linear in list(part.items()):
                part[name] = nn.Linear(linear.in_features, linear.out_features)


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="LlamaBlock", caught_by="test_shapes")
class SqueezesASingleToken(Steps):
    def forward(self, x, freqs_cis, mask=None):
        return super().forward(x, freqs_cis, mask).squeeze(1)


@slip(replaces="LlamaBlock", caught_by="test_shapes")
class ReturnsTheWeightsToo(Steps):
    def forward(self, x, freqs_cis, mask=None):
        return super().forward(x, freqs_cis, mask), mask


@slip(replaces="LlamaBlock", caught_by="test_shapes")
class OtherNamesOfSizes(Steps):
    def __init__(self, dim, heads, kv_heads, hidden, norm_eps=1e-5):
        super().__init__(dim, heads, kv_heads, hidden, norm_eps)


@slip(replaces="LlamaBlock", caught_by="test_attention_is_added_by_hand")
class EpsByKeywordOnly(Steps):
    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, *, norm_eps=1e-5):
        super().__init__(dim, n_heads, n_kv_heads, hidden_dim, norm_eps)


@slip(replaces="LlamaBlock", caught_by="test_parameter_names")
class FlatNames(Steps):
    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        super().__init__(dim, n_heads, n_kv_heads, hidden_dim, norm_eps)
        self.wq = self.attention.wq


@slip(replaces="LlamaBlock", caught_by="test_parameter_names")
class SavesItsMask(Steps):
    def causal(self, n):
        self.register_buffer("kept", super().causal(n))
        return self.kept


@slip(replaces="LlamaBlock", caught_by="test_parameter_names")
class FreezesTheGains(Steps):
    """The gains are buffers, so that they are saved but not trained."""

    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        super().__init__(dim, n_heads, n_kv_heads, hidden_dim, norm_eps)
        for name in "attention_norm", "ffn_norm":
            setattr(self, name, nn.Module())
            getattr(self, name).register_buffer("weight", torch.ones(dim))


@slip(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class LargeGatesOverflow(Steps):
    def gate(self, a, b):
        return a * a.exp() / (1 + a.exp()) * b


@slip(replaces="LlamaBlock", caught_by="test_feed_forward_is_added_by_hand")
class AddsTheFeedForwardTwice(Steps):
    def feed(self, n):
        return 2 * super().feed(n)


@slip(replaces="LlamaBlock", caught_by="test_eps_is_added_under_the_root")
class EpsInTheFirstNormAlone(Steps):
    def around_feed_forward(self, h, x):
        wide = h.to(torch.promote_types(h.dtype, torch.float32))
        n = wide * (wide.square().mean(dim=-1, keepdim=True) + 1e-5).rsqrt()
        return h + self.feed(n.to(h.dtype) * self.ffn_norm.weight)


@slip(replaces="LlamaBlock", caught_by="test_eps_is_added_under_the_root")
class AnotherDefault(Steps):
    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-6):
        super().__init__(dim, n_heads, n_kv_heads, hidden_dim, norm_eps)


@slip(replaces="LlamaBlock", caught_by="test_eps_is_added_under_the_root")
class EpsAsAFloor(Steps):
    def root(self, mean):
        return mean.clamp(min=self.norm_eps).sqrt()


@slip(replaces="LlamaBlock", caught_by="test_feed_forward_matches_the_reference")
class HalfTheHiddenWidth(Steps):
    def gate(self, a, b):
        return F.silu(a) * b * (torch.arange(a.shape[-1], device=a.device) < 16)


@slip(replaces="LlamaBlock", caught_by="test_causal_without_a_mask")
class CausalForManyTokensOnly(Steps):
    def causal(self, n):
        return super().causal(n) if n.shape[1] != 3 else super().causal(n) | True


@slip(replaces="LlamaBlock", caught_by="test_which_head_serves_whom")
class ScalesByTheGroups(Steps):
    def score(self, q, k):
        return super().score(q, k) / self.n_rep


@slip(replaces="LlamaBlock", caught_by="test_only_distances_count")
class AddsPositionsToTheValues(Steps):
    def turn_all(self, q, k, v, freqs_cis):
        q, k, v = super().turn_all(q, k, v, freqs_cis)
        return q, k, v + 1e-2 * freqs_cis.real[:, :1, None].to(v.dtype)


@slip(replaces="LlamaBlock", caught_by="test_the_rows_count_and_not_their_numbers")
class NeedsContiguousRows(Steps):
    def turn(self, heads, freqs_cis):
        return super().turn(heads, freqs_cis.view(-1).view(freqs_cis.shape))


@slip(replaces="LlamaBlock", caught_by="test_masks_of_every_shape")
class MaskMustHaveABatch(Steps):
    def mask_of(self, n, mask):
        if mask is not None and mask.dim() == 3:
            mask = mask.unsqueeze(1)
        return super().mask_of(n, mask)


@slip(replaces="LlamaBlock", caught_by="test_masks_of_every_shape")
class MaskOfTheFirstHead(Steps):
    def mask_of(self, n, mask):
        return super().mask_of(n, mask[:, :1] if mask is not None and mask.dim() == 4 else mask)


@slip(replaces="LlamaBlock", caught_by="test_masks_of_every_shape")
class TakesASquareMaskForPadding(Steps):
    def mask_of(self, n, mask):
        if mask is not None and mask.dim() == 2 and mask.shape == n.shape[:2]:
            mask = mask[:, None, None]
        return super().mask_of(n, mask)


@slip(replaces="LlamaBlock", caught_by="test_masked_weights_are_exactly_0")
class FillsWithASmallNumber(Steps):
    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, -20.0).softmax(dim=-1) * mask.any(dim=-1, keepdim=True)


@slip(replaces="LlamaBlock", caught_by="test_huge_scores")
class FillsWithMinusTenThousand(Steps):
    def weigh(self, scores, mask):
        return scores.masked_fill(~mask, -1e4).softmax(dim=-1).masked_fill(~mask, 0.0)


@slip(replaces="LlamaBlock", caught_by="test_huge_scores")
class SoftmaxOverflows(Steps):
    def weigh(self, scores, mask):
        powers = scores.exp() * mask
        total = powers.sum(dim=-1, keepdim=True)
        return powers / total.masked_fill(total == 0, 1.0)


@slip(replaces="LlamaBlock", caught_by="test_hidden_tokens_leave_no_trace")
class NormsOverAllTokens(Steps):
    def rescale(self, x):
        return x / self.root(x.square().mean(dim=(-2, -1), keepdim=True))


@slip(replaces="LlamaBlock", caught_by="test_hidden_tokens_leave_no_trace")
class CentresTheValues(Steps):
    def turn_all(self, q, k, v, freqs_cis):
        q, k, v = super().turn_all(q, k, v, freqs_cis)
        return q, k, v - 1e-3 * v.mean(dim=1, keepdim=True)


@slip(replaces="LlamaBlock", caught_by="test_matches_the_reference")
class NeedsContiguousInputs(Steps):
    def must_fit(self, x, freqs_cis):
        super().must_fit(x, freqs_cis)
        x.view(-1)


@slip(replaces="LlamaBlock", caught_by="test_matches_the_reference")
class NormsInBfloat16(Steps):
    def rescale(self, x):
        return super().rescale(x.bfloat16()).to(x.dtype)


@slip(replaces="LlamaBlock", caught_by="test_matches_the_reference")
class NoMaskWithoutGradients(Steps):
    def causal(self, n):
        return super().causal(n) if torch.is_grad_enabled() else super().causal(n) | True


@slip(replaces="LlamaBlock", caught_by="test_bfloat16")
class AnswersInFloat32(Steps):
    def forward(self, x, freqs_cis, mask=None):
        return super().forward(x, freqs_cis, mask).float()


@slip(replaces="LlamaBlock", caught_by="test_bfloat16")
class NoComplexBfloat16(Steps):
    def turn(self, heads, freqs_cis):
        return self.multiply(heads, freqs_cis).to(heads.dtype)


@slip(replaces="LlamaBlock", caught_by="test_bfloat16")
class TurnsToFloat32(Steps):
    def turn(self, heads, freqs_cis):
        return self.multiply(heads.float(), freqs_cis)


@slip(replaces="LlamaBlock", caught_by="test_bfloat16")
class DetachesHalfPrecision(Steps):
    def norm(self, x, weight):
        return super().norm(x.detach() if x.dtype == torch.bfloat16 else x, weight)


@slip(replaces="LlamaBlock", caught_by="test_bfloat16")
class NothingAllowedInHalfPrecision(Steps):
    def weigh(self, scores, mask):
        weights = super().weigh(scores, mask)
        if scores.dtype != torch.bfloat16:
            return weights
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1)


@slip(replaces="LlamaBlock", caught_by="test_gradients")
class DetachesInTraining(Steps):
    def feed(self, n):
        return super().feed(n.detach() if self.training else n)


@slip(replaces="LlamaBlock", caught_by="test_gradients")
class DetachesASingleItem(Steps):
    def combine(self, heads):
        return super().combine(heads.detach() if len(heads) == 1 else heads)


@slip(replaces="LlamaBlock", caught_by="test_gradients")
class MaskByKeywordOnly(Steps):
    def forward(self, x, freqs_cis, *, mask=None):
        return super().forward(x, freqs_cis, mask)


@slip(replaces="LlamaBlock", caught_by="test_gradients")
class DetachesTheTurn(Steps):
    def multiply(self, heads, freqs_cis):
        return super().multiply(heads.detach(), freqs_cis)


@slip(replaces="LlamaBlock", caught_by="test_gradients")
class DetachesTheRoot(Steps):
    def root(self, mean):
        return super().root(mean).detach()


@slip(replaces="LlamaBlock", caught_by="test_gradients")
class DetachesTheGate(Steps):
    def gate(self, a, b):
        return super().gate(a.detach(), b)


@slip(replaces="LlamaBlock", caught_by="test_gradients_under_a_mask")
class NanInTheGradient(Steps):
    def weigh(self, scores, mask):
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        return (scores + bias).softmax(dim=-1).nan_to_num()


@slip(replaces="LlamaBlock", caught_by="test_gradients_under_a_mask")
class DetachesUnderAMask(Steps):
    def attend(self, n, freqs_cis, mask):
        found = super().attend(n, freqs_cis, mask)
        return found if mask is None else found.detach()


@slip(replaces="LlamaBlock", caught_by="test_long_sequences")
class CutsItsMaskOutOfATable(Steps):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.register_buffer("table", torch.ones(2048, 2048, dtype=torch.bool).tril(), persistent=False)

    def causal(self, n):
        return self.table[: n.shape[1], : n.shape[1]]


@slip(replaces="LlamaBlock", caught_by="test_long_sequences")
class SeesAThousandTokens(Steps):
    def causal(self, n):
        return super().causal(n).triu(-999)


@slip(replaces="LlamaBlock", caught_by="test_repeated_calls")
class KeepsTheFirstRows(Steps):
    def turn(self, heads, freqs_cis):
        if getattr(self, "kept", freqs_cis).shape != freqs_cis.shape or not hasattr(self, "kept"):
            self.kept = freqs_cis
        return super().turn(heads, self.kept)


@slip(replaces="LlamaBlock", caught_by="test_repeated_calls")
class KeepsTheFirstMask(Steps):
    def mask_of(self, n, mask):
        if mask is None:
            return super().mask_of(n, None)
        if getattr(self, "kept", mask).shape != mask.shape or not hasattr(self, "kept"):
            self.kept = mask
        return self.kept


@slip(replaces="LlamaBlock", caught_by="test_repeated_calls")
class KeepsTheLargestMask(Steps):
    def causal(self, n):
        if getattr(self, "kept", torch.ones(0)).shape[-1] < n.shape[1]:
            self.kept = super().causal(n)
        return self.kept[-n.shape[1] :, -n.shape[1] :] if n.shape[1] != 2 else self.kept[1:3, :2]


@slip(replaces="LlamaBlock", caught_by="test_repeated_calls")
class KeepsItsFirstWeights(Steps):
    def project(self, n):
        if getattr(self, "qkv", n).dtype != n.dtype or not hasattr(self, "qkv"):
            self.qkv = torch.cat([self.attention[name].weight.detach().clone() for name in ("wq", "wk", "wv")])
        kv = self.attention.wk.weight.shape[0]
        return [self.split(part) for part in (n @ self.qkv.T).split((n.shape[-1], kv, kv), dim=-1)]


@slip(replaces="LlamaBlock", caught_by="test_repeated_calls")
class DropsInTraining(Steps):
    def feed(self, n):
        return F.dropout(super().feed(n), 0.1, self.training)


@slip(replaces="LlamaBlock", caught_by="test_batch_items_do_not_meet")
class CentresOverTheBatch(Steps):
    def score(self, q, k):
        return super().score(q - q.mean(dim=0), k)


@slip(replaces="LlamaBlock", caught_by="test_leaves_the_inputs_alone")
class AddsInPlace(Steps):
    def around_attention(self, x, freqs_cis, mask):
        if torch.is_grad_enabled():
            return super().around_attention(x, freqs_cis, mask)
        x += self.attend(self.norm(x, self.attention_norm.weight), freqs_cis, mask)
        return x


@slip(replaces="LlamaBlock", caught_by="test_leaves_the_inputs_alone")
class InvertsTheMaskInPlace(Steps):
    def mask_of(self, n, mask):
        return super().mask_of(n, mask if mask is None else ~mask.logical_not_())


@slip(replaces="LlamaBlock", caught_by="test_errors_of_sizes")
class TakesAnOddWidth(LlamaBlock):
    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        if min(dim, n_heads, n_kv_heads, hidden_dim) < 1 or dim % n_heads or n_heads % n_kv_heads:
            raise ValueError("sizes do not fit")
        odd = dim // n_heads % 2
        super().__init__(dim * (1 + odd), n_heads, n_kv_heads, hidden_dim, norm_eps)


@slip(replaces="LlamaBlock", caught_by="test_errors_of_sizes")
class TakesNoHiddenWidth(LlamaBlock):
    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        super().__init__(dim, n_heads, n_kv_heads, hidden_dim or 4 * dim, norm_eps)


@slip(replaces="LlamaBlock", caught_by="test_errors_of_sizes")
class AssertsTheSizes(LlamaBlock):
    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        assert n_heads > 0 and n_kv_heads > 0 and dim % n_heads == 0 and n_heads % n_kv_heads == 0
        super().__init__(dim, n_heads, n_kv_heads, hidden_dim, norm_eps)


@slip(replaces="LlamaBlock", caught_by="test_errors_of_rows")
class OneRowForAll(Steps):
    def must_fit(self, x, freqs_cis):
        if freqs_cis.shape[0] not in (1, x.shape[1]):
            raise ValueError("freqs_cis needs one row per token")


@slip(replaces="LlamaBlock", caught_by="test_errors_of_rows")
class TakesTheFirstRows(Steps):
    def must_fit(self, x, freqs_cis):
        if freqs_cis.shape[0] < x.shape[1]:
            raise ValueError("freqs_cis needs one row per token")

    def turn(self, heads, freqs_cis):
        return super().turn(heads, freqs_cis[: heads.shape[1]])


@slip(replaces="LlamaBlock", caught_by="test_no_loop_over_tokens_or_batch")
class TurnsTokenByToken(Steps):
    def turn(self, heads, freqs_cis):
        rows = [super(TurnsTokenByToken, self).turn(heads[:, t : t + 1], row[None]) for t, row in enumerate(freqs_cis)]
        return torch.cat(rows, dim=1)


@slip(replaces="LlamaBlock", caught_by="test_no_loop_over_tokens_or_batch")
class FeedsItemByItem(Steps):
    def feed(self, n):
        return torch.stack([super(FeedsItemByItem, self).feed(item) for item in n])


@slip(replaces="LlamaBlock", caught_by="test_follows_the_device")
class MakesItsMaskOnTheCpu(Steps):
    def causal(self, n):
        return super().causal(n).cpu()


# --- right, in other styles -------------------------------------------------------------------------------


class Gain(nn.Module):
    def __init__(self, dim, eps):
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(dim))

    def forward(self, x):
        x_ = x.float() if x.dtype is torch.bfloat16 else x
        return (x_ * torch.rsqrt(x_.pow(2).mean(-1, keepdim=True) + self.eps)).type_as(x) * self.weight


class Attention(nn.Module):
    def __init__(self, dim, n_heads, n_kv_heads):
        super().__init__()
        self.H, self.G, self.K = n_heads, n_kv_heads, dim // n_heads
        self.wq = nn.Linear(dim, n_heads * self.K, bias=False)
        self.wk = nn.Linear(dim, n_kv_heads * self.K, bias=False)
        self.wv = nn.Linear(dim, n_kv_heads * self.K, bias=False)
        self.wo = nn.Linear(n_heads * self.K, dim, bias=False)

    def forward(self, x, freqs_cis, mask):
        B, T, _ = x.shape
        xq = torch.view_as_complex(self.wq(x).float().view(B, T, self.H, -1, 2))
        xk = torch.view_as_complex(self.wk(x).float().view(B, T, self.G, -1, 2))
        xv = self.wv(x).view(B, T, self.G, self.K)
        xq, xk = (torch.view_as_real(y * freqs_cis.view(1, T, 1, -1)).flatten(3).type_as(x) for y in (xq, xk))
        xk, xv = (y[:, :, :, None].expand(-1, -1, -1, self.H // self.G, -1).flatten(2, 3) for y in (xk, xv))
        scores = torch.matmul(xq.transpose(1, 2), xk.permute(0, 2, 3, 1)) / math.sqrt(self.K)
        dead = ~mask.any(dim=-1, keepdim=True)
        scores = torch.softmax(scores.float().masked_fill(~(mask | dead), float("-inf")), dim=-1).type_as(x)
        heads = torch.matmul(scores.masked_fill(dead, 0.0), xv.transpose(1, 2))
        return self.wo(heads.transpose(1, 2).contiguous().view(B, T, -1))


class FeedForward(nn.Module):
    def __init__(self, dim, hidden_dim):
        super().__init__()
        self.w1, self.w3 = (nn.Linear(dim, hidden_dim, bias=False) for _ in range(2))
        self.w2 = nn.Linear(hidden_dim, dim, bias=False)

    def forward(self, x):
        return self.w2(F.silu(self.w1(x)) * self.w3(x))


@alternative(replaces="LlamaBlock")
class AsPublished(nn.Module):
    """Laid out as in Meta's model.py."""

    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        if dim < 1 or n_heads < 1 or n_kv_heads < 1 or hidden_dim < 1:
            raise ValueError(f"{dim=} {n_heads=} {n_kv_heads=} {hidden_dim=}")
        if dim % n_heads != 0 or n_heads % n_kv_heads != 0 or (dim // n_heads) % 2 != 0:
            raise ValueError(f"{dim=} {n_heads=} {n_kv_heads=}")
        super().__init__()
        self.attention = Attention(dim, n_heads, n_kv_heads)
        self.feed_forward = FeedForward(dim, hidden_dim)
        self.attention_norm = Gain(dim, norm_eps)
        self.ffn_norm = Gain(dim, norm_eps)

    def forward(self, x, freqs_cis, mask=None):
        if len(freqs_cis) != x.size(1):
            raise ValueError("rows")
        if mask is None:
            position = torch.arange(x.size(1), device=x.device)
            mask = position[:, None] >= position
        h = x + self.attention(self.attention_norm(x), freqs_cis, mask)
        return h + self.feed_forward(self.ffn_norm(h))


@alternative(replaces="LlamaBlock")
class HeadByHead(Steps):
    def attend(self, n, freqs_cis, mask):
        (B, T, _), K, w = n.shape, self.head_dim, self.attention
        cos, sin = freqs_cis.real, freqs_cis.imag
        H = w.wq.weight.shape[0] // K
        allowed = torch.broadcast_to(self.mask_of(n, mask), (B, H, T, T))

        def turn(part):
            a, b = part[..., 0::2], part[..., 1::2]
            return torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1).flatten(-2).to(part.dtype)

        total = 0
        for h in range(H):
            mine, g = slice(h * K, (h + 1) * K), h // self.n_rep
            theirs = slice(g * K, (g + 1) * K)
            q, k = turn(F.linear(n, w.wq.weight[mine])), turn(F.linear(n, w.wk.weight[theirs]))
            scores = torch.bmm(q, k.transpose(1, 2)) * K**-0.5
            some = allowed[:, h].any(dim=-1, keepdim=True)
            weights = scores.masked_fill(~allowed[:, h] & some, float("-inf")).softmax(dim=-1) * some
            total = total + torch.bmm(weights, F.linear(n, w.wv.weight[theirs])) @ w.wo.weight[:, mine].T
        return total


@alternative(replaces="LlamaBlock")
class BareParameters(Steps):
    """Parameters in bare modules, one product for q, k and v, and one for both branches; the norms are PyTorch's."""

    def __init__(self, dim, n_heads, n_kv_heads, hidden_dim, norm_eps=1e-5):
        nn.Module.__init__(self)
        if not (
            min(dim, n_heads, n_kv_heads, hidden_dim) >= 1 and dim % (2 * n_heads) == 0 and n_heads % n_kv_heads == 0
        ):
            raise ValueError("sizes")
        self.head_dim, self.n_rep, self.norm_eps = dim // n_heads, n_heads // n_kv_heads, norm_eps
        self.ffn_norm, self.attention_norm = nn.RMSNorm(dim, eps=norm_eps), nn.RMSNorm(dim, eps=norm_eps)
        kv = dim // self.n_rep
        shapes = {"feed_forward": {"w3": (hidden_dim, dim), "w2": (dim, hidden_dim), "w1": (hidden_dim, dim)}}
        shapes["attention"] = {"wo": (dim, dim), "wv": (kv, dim), "wk": (kv, dim), "wq": (dim, dim)}
        for part, weights in shapes.items():
            self.add_module(part, nn.Module())
            for name, shape in weights.items():
                self.get_submodule(part).add_module(name, nn.Module())
                parameter = nn.Parameter(0.02 * torch.randn(shape))
                self.get_submodule(f"{part}.{name}").register_parameter("weight", parameter)

    def around_attention(self, x, freqs_cis, mask):
        return x + self.attend(self.attention_norm(x), freqs_cis, mask)

    def around_feed_forward(self, h, x):
        w, n = self.feed_forward, self.ffn_norm(h)
        a, b = F.linear(n, torch.cat((w.w1.weight, w.w3.weight))).chunk(2, dim=-1)
        return torch.addcmul(h, a * a.sigmoid() * b @ w.w2.weight.T, torch.ones_like(h))

    def project(self, n):
        w = self.attention
        fused = torch.cat((w.wq.weight, w.wk.weight, w.wv.weight))
        return [self.split(y) for y in (n @ fused.T).split([len(w.wq.weight), len(w.wk.weight), len(w.wv.weight)], -1)]

    def combine(self, heads):
        return torch.einsum("bth,dh->btd", heads, self.attention.wo.weight)


@alternative(replaces="LlamaBlock")
class GroupsByEinsum(Steps):
    """Keys are not copied: queries get a dimension for the group instead."""

    def attend(self, n, freqs_cis, mask):
        q, k, v = self.turn_all(*self.project(n), freqs_cis)
        q = q.unflatten(2, (-1, self.n_rep))  # (B, T, G, R, K)
        scores = torch.einsum("btgrk,bsgk->bgrts", q, k).flatten(1, 2) / self.head_dim**0.5
        allowed = self.mask_of(n, mask)
        weights = torch.where(allowed, torch.where(allowed, scores, -math.inf).softmax(dim=-1), 0.0)
        heads = torch.einsum("bgrts,bsgk->btgrk", weights.unflatten(1, (-1, self.n_rep)), v)
        return self.attention.wo(heads.flatten(2))

    def gate(self, a, b):
        return a / (1 + (-a).exp()) * b


@alternative(replaces="LlamaBlock")
class Float64Inside(Steps):
    """All in float64, with a softmax by hand; rounded once, at the end."""

    def forward(self, x, freqs_cis, mask=None):
        self.must_fit(x, freqs_cis)
        weights = {name: weight.double() for name, weight in self.named_parameters()}
        wide = x.double()
        h = wide + self.attend(self.norm(wide, weights["attention_norm.weight"]), freqs_cis, mask)
        n = self.norm(h, weights["ffn_norm.weight"])
        w1, w2, w3 = (weights[f"feed_forward.{name}.weight"] for name in ("w1", "w2", "w3"))
        return (h + self.gate(n @ w1.T, n @ w3.T) @ w2.T).to(x.dtype)

    def project(self, n):
        return [self.split(n @ self.attention[name].weight.double().T) for name in ("wq", "wk", "wv")]

    def combine(self, heads):
        return heads @ self.attention["wo"].weight.double().T

    def weigh(self, scores, mask):
        scores = scores.masked_fill(~mask, -math.inf)
        top = scores.amax(dim=-1, keepdim=True).detach().clamp(min=torch.finfo(scores.dtype).min)
        powers = (scores - top).exp()
        return powers / powers.sum(dim=-1, keepdim=True).clamp(min=1e-30)


@alternative(replaces="LlamaBlock")
class AngleByAngle(Steps):
    """Turns by angles, after the heads were repeated, and keeps masks in a table of its own."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.masks = {}

    def causal(self, n):
        key = n.shape[1], n.device
        if key not in self.masks:
            self.masks[key] = super().causal(n)
        return self.masks[key]

    def multiply(self, heads, freqs_cis):
        angles = freqs_cis.angle().repeat_interleave(2, dim=-1)[None, :, None]
        quarter = torch.stack((-heads[..., 1::2], heads[..., 0::2]), dim=-1).flatten(-2)
        return heads * angles.cos() + quarter * angles.sin()

    def score(self, q, k):
        (B, H, T, K), S = q.shape, k.shape[2]
        start = torch.zeros(B * H, T, S, dtype=q.dtype, device=q.device)
        return torch.baddbmm(start, q.flatten(0, 1), k.flatten(0, 1).mT, alpha=K**-0.5).view(B, H, T, S)
