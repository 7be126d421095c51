"""Other ways to write attention by head: wrong ones that a learner may come up with, and right ones."""

import math

import torch

from grader.judge.suite import alternative, misconception, slip

from .solution import attention_all_heads, attention_head

# --- the solution cut into steps, so that a variant bends one of them --------------------------------------


def must_fit(x, wq, freqs_cis):
    if wq.shape[-2] % 2 or freqs_cis.shape[0] != x.shape[0]:
        raise ValueError("an odd K, or another number of rows than tokens")


def multiply(features, freqs_cis):
    """Turn pairs of neighbours, (T, K) or (..., T, K) in float32 or float64."""
    pairs = torch.view_as_complex(features.unflatten(-1, (-1, 2)).contiguous())
    return torch.view_as_real(pairs * freqs_cis).flatten(-2)


def turn(features, freqs_cis, by=multiply):
    return by(features.to(torch.promote_types(features.dtype, torch.float32)), freqs_cis).to(features.dtype)


def score(q, k):
    return q @ k.mT / math.sqrt(q.shape[-1])


def weigh(scores, mask):
    if mask is None:
        return scores.softmax(dim=-1)
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)


def attend(x, weights, freqs_cis, mask, *, fit=must_fit, by=multiply, turned="qk", score=score, weigh=weigh):
    """Return one head's output, with some of the steps replaced.

    Args:
        weights: wq, wk and wv.
        turned: Which of q, k and v are turned.
    """
    fit(x, weights[0], freqs_cis)
    q, k, v = (
        turn(x @ w.mT, freqs_cis, by) if name in turned else x @ w.mT for name, w in zip("qkv", weights, strict=True)
    )
    return weigh(score(q, k), mask) @ v


def share(weights):
    """Return the key or value weights of G heads repeated for H query heads."""
    wq, wk, wv = weights
    if wq.shape[0] % wk.shape[0]:
        raise ValueError("G must divide H")
    n_rep = wq.shape[0] // wk.shape[0]
    return wq, wk.repeat_interleave(n_rep, dim=0), wv.repeat_interleave(n_rep, dim=0)


def by_heads(x, weights, freqs_cis, mask, serves):
    """Set the heads side by side; query head h uses key/value head ``serves(h, H, G)``."""
    wq, wk, wv = weights
    H, G = len(wq), len(wk)
    if H % G:
        raise ValueError("G must divide H")
    served = [serves(h, H, G) for h in range(H)]
    heads = [attention_head(x, w, wk[g], wv[g], freqs_cis, mask) for w, g in zip(wq, served, strict=True)]
    return torch.cat(heads, dim=-1)


# --- misconceptions about projections and scores ----------------------------------------------------------


@misconception(replaces="attention_head", caught_by="test_two_tokens_by_hand")
def weights_as_they_lie(x, wq, wk, wv, freqs_cis, mask=None):
    """You multiply x by the weights as they are stored, x @ wq.

    nn.Linear stores (out_features, in_features), here (K, D). What does it do before it multiplies?
    """
    return attend(x, [w.mT for w in (wq, wk, wv)], freqs_cis, mask)


@misconception(replaces="attention_head", caught_by="test_two_tokens_by_hand")
def queries_for_keys(x, wq, wk, wv, freqs_cis, mask=None):
    """You project the keys with wq, so that wk has no influence.

    With one projection for both, "a looks at b" scores like "b looks at a". Which projection belongs to the keys?
    """
    return attend(x, [wq, wq, wv], freqs_cis, mask)


@misconception(replaces="attention_head", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
def scales_by_the_model_width(x, wq, wk, wv, freqs_cis, mask=None):
    """You divide the scores by sqrt(D), the root of the model's width.

    The division undoes the growth of a dot product with the number of its terms. How many terms has it in one head?
    """
    return attend(x, [wq, wk, wv], freqs_cis, mask, score=lambda q, k: q @ k.mT / math.sqrt(x.shape[-1]))


@misconception(replaces="attention_head", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
def does_not_scale(x, wq, wk, wv, freqs_cis, mask=None):
    """Your scores are plain dot products.

    They spread more and more the more features a head has, and the softmax comes close to picking one key. By what
    are they divided in the brief?
    """
    return attend(x, [wq, wk, wv], freqs_cis, mask, score=lambda q, k: q @ k.mT)


@misconception(replaces="attention_head", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
def scales_by_the_head_width(x, wq, wk, wv, freqs_cis, mask=None):
    """You divide the scores by K itself.

    If the entries of q and k have variance 1, what is the variance of their dot product? And its standard deviation?
    """
    return attend(x, [wq, wk, wv], freqs_cis, mask, score=lambda q, k: q @ k.mT / q.shape[-1])


@misconception(replaces="attention_head", caught_by="test_weights_sum_to_1_and_masked_ones_are_0")
def softmax_over_queries(x, wq, wk, wv, freqs_cis, mask=None):
    """Your weights sum to 1 over the queries, so that all queries share out one key.

    Each query takes an average of the values. Over which dimension of (T, T) do its weights lie?
    """

    def down_the_columns(scores, mask):
        hidden = torch.zeros_like(scores, dtype=torch.bool) if mask is None else ~mask
        return scores.masked_fill(hidden, torch.finfo(scores.dtype).min).softmax(dim=0).masked_fill(hidden, 0.0)

    return attend(x, [wq, wk, wv], freqs_cis, mask, weigh=down_the_columns)


# --- misconceptions about the turn ------------------------------------------------------------------------


@misconception(replaces="attention_head", caught_by="test_values_are_not_turned")
def turns_the_values(x, wq, wk, wv, freqs_cis, mask=None):
    """You turn the values as well.

    The turn is there for the scores, where the turns of query and key combine. What would a later layer have to know
    to read a turned value?
    """
    return attend(x, [wq, wk, wv], freqs_cis, mask, turned="qkv")


@misconception(replaces="attention_head", caught_by="test_turns_by_hand")
def turns_the_queries_alone(x, wq, wk, wv, freqs_cis, mask=None):
    """You turn the queries and leave the keys as they are.

    A score then depends on where the query stands, and not on the distance to the key. Which turn is missing for that?
    """
    return attend(x, [wq, wk, wv], freqs_cis, mask, turned="q")


@misconception(replaces="attention_head", caught_by="test_turns_by_hand")
def turns_the_keys_alone(x, wq, wk, wv, freqs_cis, mask=None):
    """You turn the keys and leave the queries as they are.

    A score then depends on where the key stands, and not on the distance to the query. Which turn is missing for that?
    """
    return attend(x, [wq, wk, wv], freqs_cis, mask, turned="k")


@misconception(replaces="attention_head", caught_by="test_turns_by_hand")
def does_not_turn(x, wq, wk, wv, freqs_cis, mask=None):
    """Your output does not depend on freqs_cis.

    Then nothing shows in which order the tokens stand. What should freqs_cis be multiplied with?
    """
    return attend(x, [wq, wk, wv], freqs_cis, mask, turned="")


@misconception(replaces="attention_head", caught_by="test_turns_by_hand")
def turns_clockwise(x, wq, wk, wv, freqs_cis, mask=None):
    """You turn the other way round, as if freqs_cis were conjugated.

    Turn (1, 0) by a small angle, counter-clockwise: which sign has its second coordinate then?
    """
    return attend(x, [wq, wk, wv], freqs_cis.conj(), mask)


@misconception(replaces="attention_head", caught_by="test_turns_by_hand")
def pairs_are_halves(x, wq, wk, wv, freqs_cis, mask=None):
    """You pair feature i with feature i + K/2, as GPT-NeoX and Hugging Face's Llama do.

    That is a sound rotary embedding, for weights trained with it. Which two features does this exercise call a pair?
    """

    def halves(features, freqs_cis):
        a, b = features.chunk(2, dim=-1)
        cos, sin = freqs_cis.real, freqs_cis.imag
        return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)

    return attend(x, [wq, wk, wv], freqs_cis, mask, by=halves)


@misconception(replaces="attention_head", caught_by="test_the_rows_count_and_not_their_numbers")
def makes_its_own_angles(x, wq, wk, wv, freqs_cis, mask=None):
    """You work out angles from the number of tokens, so that the numbers in freqs_cis have no influence.

    A decoder asks for one token at position 100. What is in freqs_cis then, and what do you compute?
    """
    T, pairs = freqs_cis.shape
    angles = torch.outer(torch.arange(T), 10_000.0 ** -(torch.arange(pairs) / pairs)).to(x.device)
    return attend(x, [wq, wk, wv], torch.polar(torch.ones_like(angles), angles), mask)


# --- misconceptions about masks ---------------------------------------------------------------------------


@misconception(replaces="attention_head", caught_by="test_without_a_mask_everyone_sees_everyone")
def always_causal(x, wq, wk, wv, freqs_cis, mask=None):
    """You hide the tokens after each query, whatever the mask.

    Llama does want that, and hands over such a mask. What may a query attend to here when no mask is given?
    """
    causal = torch.ones(len(x), len(x), dtype=torch.bool, device=x.device).tril()
    return attend(x, [wq, wk, wv], freqs_cis, causal if mask is None else causal & mask)


@misconception(replaces="attention_head", caught_by="test_without_a_mask_everyone_sees_everyone")
def causal_without_a_mask(x, wq, wk, wv, freqs_cis, mask=None):
    """Without a mask you hide the tokens after each query.

    Some layers have that default, and this function has not. What does "no mask" mean in the brief?
    """
    causal = torch.ones(len(x), len(x), dtype=torch.bool, device=x.device).tril()
    return attend(x, [wq, wk, wv], freqs_cis, causal if mask is None else mask)


@misconception(replaces="attention_head", caught_by="test_true_in_a_mask_means_may_attend")
def ignores_the_mask(x, wq, wk, wv, freqs_cis, mask=None):
    """Your output is the same with a mask and without one.

    Where do the scores meet the mask? And does attention_all_heads hand it on?
    """
    return attend(x, [wq, wk, wv], freqs_cis, None)


@misconception(replaces="attention_head", caught_by="test_true_in_a_mask_means_may_attend")
def mask_inverted(x, wq, wk, wv, freqs_cis, mask=None):
    """You hide the keys where the mask is True, as nn.MultiheadAttention does.

    PyTorch has both conventions. What does True mean in this exercise?
    """
    return attend(x, [wq, wk, wv], freqs_cis, None if mask is None else ~mask)


@misconception(replaces="attention_head", caught_by="test_weights_sum_to_1_and_masked_ones_are_0")
def masks_after_softmax(x, wq, wk, wv, freqs_cis, mask=None):
    """You set masked weights to 0 after the softmax and leave the others as they are.

    Masked keys then still take their share of the sum. What do the weights of a query with a masked key sum to?
    """

    def too_late(scores, mask):
        weights = scores.softmax(dim=-1)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)

    return attend(x, [wq, wk, wv], freqs_cis, mask, weigh=too_late)


@misconception(replaces="attention_head", caught_by="test_true_in_a_mask_means_may_attend")
def adds_the_mask(x, wq, wk, wv, freqs_cis, mask=None):
    """You add the mask to the scores, as Llama's code does with a mask of 0 and -inf.

    This mask is boolean. What does adding True to a score do, and what adding False?
    """

    def added(scores, mask):
        return (scores if mask is None else scores + mask).softmax(dim=-1)

    return attend(x, [wq, wk, wv], freqs_cis, mask, weigh=added)


@misconception(replaces="attention_head", caught_by="test_a_query_with_nothing_to_attend_to")
def fills_with_a_large_number(x, wq, wk, wv, freqs_cis, mask=None):
    """You fill masked scores with a large negative number and trust the softmax with the rest.

    That is fine as long as some key is allowed. Which weights come out of a row in which all scores are this number?
    """

    def trusting(scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -1e9)).softmax(dim=-1)

    return attend(x, [wq, wk, wv], freqs_cis, mask, weigh=trusting)


@misconception(replaces="attention_head", caught_by="test_a_query_with_nothing_to_attend_to")
def fills_with_minus_infinity(x, wq, wk, wv, freqs_cis, mask=None):
    """You fill masked scores with -inf and trust the softmax with the rest.

    That is fine as long as some key is allowed. What are the numerator and the denominator in a row of -inf alone?
    """

    def trusting(scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1)

    return attend(x, [wq, wk, wv], freqs_cis, mask, weigh=trusting)


# --- misconceptions about all heads -----------------------------------------------------------------------


@misconception(replaces="attention_all_heads", caught_by="test_which_head_serves_whom")
def serves_in_turn(x, wq, wk, wv, freqs_cis, mask=None):
    """Your query head h uses key/value head h % G: heads 0, 1, 0, 1 for H = 4 and G = 2.

    Copies laid end to end have that order, and h // (H // G) has another. Which neighbours share a head?
    """
    return by_heads(x, (wq, wk, wv), freqs_cis, mask, lambda h, H, G: h % G)


@misconception(replaces="attention_all_heads", caught_by="test_which_head_serves_whom")
def divides_by_the_number_of_groups(x, wq, wk, wv, freqs_cis, mask=None):
    """Your query head h seems to use key/value head h // G.

    With H = 4 and G = 2 that is the same as the brief's rule. How many query heads share one key/value head when H = 6
    and G = 3?
    """
    return by_heads(x, (wq, wk, wv), freqs_cis, mask, lambda h, H, G: h // G)


@misconception(replaces="attention_all_heads", caught_by="test_which_head_serves_whom")
def first_head_for_all(x, wq, wk, wv, freqs_cis, mask=None):
    """All your query heads use key/value head 0.

    That is multi-query attention, the case G = 1. What are the other key/value heads for?
    """
    return by_heads(x, (wq, wk, wv), freqs_cis, mask, lambda h, H, G: 0)


@misconception(replaces="attention_all_heads", caught_by="test_heads_lie_side_by_side")
def joins_without_transpose(x, wq, wk, wv, freqs_cis, mask=None):
    """You stack the heads to (H, T, K) and reshape that to (T, H*K) at once.

    The shape fits, but a reshape keeps the order of the numbers. Which tokens' numbers are now in the first row?
    """
    blocks = attention_all_heads(x, wq, wk, wv, freqs_cis, mask).unflatten(-1, (len(wq), -1))
    return blocks.transpose(0, 1).reshape(len(x), -1)


@misconception(replaces="attention_all_heads", caught_by="test_heads_lie_side_by_side")
def deals_out_the_features(x, wq, wk, wv, freqs_cis, mask=None):
    """You lay the first features of all heads side by side, then the second ones, and so on.

    Each head should have its K features together. Which of the two stays in one piece in a cat along the last
    dimension?
    """
    blocks = attention_all_heads(x, wq, wk, wv, freqs_cis, mask).unflatten(-1, (len(wq), -1))
    return blocks.transpose(1, 2).flatten(1)


@misconception(replaces="attention_all_heads", caught_by="test_shape_of_all_heads")
def heads_under_each_other(x, wq, wk, wv, freqs_cis, mask=None):
    """You lay the heads under each other, (H*T, K).

    Each token should end up with the features of all its heads. Along which dimension do you join?
    """
    blocks = attention_all_heads(x, wq, wk, wv, freqs_cis, mask).unflatten(-1, (len(wq), -1))
    return blocks.transpose(0, 1).flatten(0, 1)


@misconception(replaces="attention_all_heads", caught_by="test_shape_of_all_heads")
def heads_taken_for_tokens(x, wq, wk, wv, freqs_cis, mask=None):
    """You line up the rows of freqs_cis with the heads.

    In (T, H, K/2) the heads come right before the pairs, so (T, K/2) meets them. With as many heads as tokens nothing
    complains. Where should freqs_cis get a dimension?
    """
    must_fit(x, wq, freqs_cis)
    q, k, v = (torch.einsum("td,hkd->thk", x, w) for w in share((wq, wk, wv)))
    q, k, v = (t.transpose(0, 1) for t in (turn(q, freqs_cis), turn(k, freqs_cis), v))
    return (weigh(score(q, k), mask) @ v).transpose(0, 1).flatten(1)


@misconception(replaces="attention_all_heads", caught_by="test_each_block_is_one_head")
def scales_by_all_features(x, wq, wk, wv, freqs_cis, mask=None):
    """Your attention_all_heads divides the scores by sqrt(H * K).

    The brief divides by the root of the number of features that a dot product adds over. How many has one head?
    """
    root = math.sqrt(len(wq))
    heads = [
        attend(x, weights, freqs_cis, mask, score=lambda q, k: score(q, k) / root)
        for weights in zip(*share((wq, wk, wv)), strict=True)
    ]
    return torch.cat(heads, dim=-1)


@misconception(replaces="attention_all_heads", caught_by="test_each_block_is_one_head")
def forgets_to_hand_on_the_mask(x, wq, wk, wv, freqs_cis, mask=None):
    """Your attention_all_heads gives the same output with a mask and without one, while attention_head knows masks.

    What happens to the mask on the way from one function to the other?
    """
    return attention_all_heads(x, wq, wk, wv, freqs_cis)


# --- slips of one head ------------------------------------------------------------------------------------


@slip(replaces="attention_head", caught_by="test_shape_of_one_head")
def returns_the_weights_too(x, wq, wk, wv, freqs_cis, mask=None):
    out = attention_head(x, wq, wk, wv, freqs_cis, mask)
    return out, out


@slip(replaces="attention_head", caught_by="test_only_distances_count")
def adds_positions_to_the_values(x, wq, wk, wv, freqs_cis, mask=None):
    out = attention_head(x, wq, wk, wv, freqs_cis, mask)
    return out + 1e-3 * freqs_cis.real.mean().to(out.dtype)


@slip(replaces="attention_head", caught_by="test_the_rows_count_and_not_their_numbers")
def needs_contiguous_rows(x, wq, wk, wv, freqs_cis, mask=None):
    freqs_cis.view(-1)
    return attention_head(x, wq, wk, wv, freqs_cis, mask)


@slip(replaces="attention_head", caught_by="test_huge_scores")
def softmax_overflows(x, wq, wk, wv, freqs_cis, mask=None):
    def overflowing(scores, mask):
        powers = scores.exp() if mask is None else scores.exp() * mask
        total = powers.sum(dim=-1, keepdim=True)
        return powers / total.masked_fill(total == 0, 1.0)

    return attend(x, [wq, wk, wv], freqs_cis, mask, weigh=overflowing)


@slip(replaces="attention_head", caught_by="test_huge_scores")
def fills_with_minus_ten_thousand(x, wq, wk, wv, freqs_cis, mask=None):
    def high(scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, -1e4).softmax(dim=-1).masked_fill(~mask, 0.0)

    return attend(x, [wq, wk, wv], freqs_cis, mask, weigh=high)


@slip(replaces="attention_head", caught_by="test_weights_sum_to_1_and_masked_ones_are_0")
def fills_with_a_small_number(x, wq, wk, wv, freqs_cis, mask=None):
    def small(scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, -100.0).softmax(dim=-1) * mask.any(dim=-1, keepdim=True)

    return attend(x, [wq, wk, wv], freqs_cis, mask, weigh=small)


@slip(replaces="attention_head", caught_by="test_masked_tokens_leave_no_trace")
def centres_the_tokens(x, wq, wk, wv, freqs_cis, mask=None):
    out = attention_head(x, wq, wk, wv, freqs_cis, mask)
    return out + 1e-3 * (x - x.mean(dim=0))[:, :1] * (len(x) > 1)


@slip(replaces="attention_head", caught_by="test_one_head_matches_the_reference")
def squeezes_a_single_token(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_head(x, wq, wk, wv, freqs_cis, mask).squeeze()


@slip(replaces="attention_head", caught_by="test_one_head_matches_the_reference")
def needs_contiguous_tokens(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_head(x.view(-1).view(x.shape), wq, wk, wv, freqs_cis, mask)


@slip(replaces="attention_head", caught_by="test_bfloat16")
def answers_in_float32(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_head(x.float(), wq.float(), wk.float(), wv.float(), freqs_cis, mask)


@slip(replaces="attention_head", caught_by="test_bfloat16")
def no_complex_bfloat16(x, wq, wk, wv, freqs_cis, mask=None):
    if x.dtype == torch.bfloat16:
        torch.view_as_complex((x @ wq.T).unflatten(-1, (-1, 2)))
    return attention_head(x, wq, wk, wv, freqs_cis, mask)


@slip(replaces="attention_head", caught_by="test_gradients")
def detaches_the_turned(x, wq, wk, wv, freqs_cis, mask=None):
    return attend(
        x, [wq, wk, wv], freqs_cis, mask, by=lambda features, freqs_cis: multiply(features.detach(), freqs_cis)
    )


@slip(replaces="attention_head", caught_by="test_gradients")
def nan_in_the_gradient(x, wq, wk, wv, freqs_cis, mask=None):
    def late_repair(scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        bias = torch.zeros_like(mask, dtype=scores.dtype).masked_fill(~mask, -math.inf)
        return (scores + bias).softmax(dim=-1).nan_to_num()

    return attend(x, [wq, wk, wv], freqs_cis, mask, weigh=late_repair)


_KEPT = {}


@slip(replaces="attention_head", caught_by="test_repeated_calls")
def keeps_the_first_rows(x, wq, wk, wv, freqs_cis, mask=None):
    kept = _KEPT.setdefault((freqs_cis.shape, freqs_cis.device), freqs_cis)
    must_fit(x, wq, freqs_cis)
    return attention_head(x, wq, wk, wv, kept, mask)


@slip(replaces="attention_head", caught_by="test_repeated_calls")
def keeps_the_first_mask(x, wq, wk, wv, freqs_cis, mask=None):
    if mask is not None:
        mask = _KEPT.setdefault((mask.shape, mask.device), mask)
    return attention_head(x, wq, wk, wv, freqs_cis, mask)


@slip(replaces="attention_head", caught_by="test_leaves_the_inputs_alone")
def conjugates_in_place(x, wq, wk, wv, freqs_cis, mask=None):
    out = attention_head(x, wq, wk, wv, freqs_cis, mask)
    with torch.no_grad():
        freqs_cis.mul_(1.001)
    return out


@slip(replaces="attention_head", caught_by="test_leaves_the_inputs_alone")
def inverts_the_mask_in_place(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_head(x, wq, wk, wv, freqs_cis, mask if mask is None else ~mask.logical_not_())


@slip(replaces="attention_head", caught_by="test_errors_of_heads")
def leaves_an_odd_feature_alone(x, wq, wk, wv, freqs_cis, mask=None):
    K = wq.shape[0]

    def all_but_the_last(features, freqs_cis):
        return torch.cat((multiply(features[..., : K - 1], freqs_cis), features[..., K - 1 :]), dim=-1)

    fit = lambda x, wq, freqs_cis: must_fit(x, wq[: K // 2 * 2], freqs_cis)  # noqa: E731
    return attend(x, [wq, wk, wv], freqs_cis, mask, fit=fit, by=all_but_the_last if K % 2 else multiply)


@slip(replaces="attention_head", caught_by="test_errors_of_rows")
def one_row_for_all(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_head(x, wq, wk, wv, freqs_cis.expand(len(x), -1) if len(freqs_cis) == 1 else freqs_cis, mask)


@slip(replaces="attention_head", caught_by="test_errors_of_rows")
def takes_the_first_rows(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_head(x, wq, wk, wv, freqs_cis[: len(x)], mask)


@slip(replaces="attention_head", caught_by="test_errors_of_rows")
def leaves_it_to_broadcasting(x, wq, wk, wv, freqs_cis, mask=None):
    return attend(x, [wq, wk, wv], freqs_cis, mask, fit=lambda x, wq, freqs_cis: None)


@slip(replaces="attention_head", caught_by="test_no_loop_over_tokens")
def turns_token_by_token(x, wq, wk, wv, freqs_cis, mask=None):
    def one_by_one(features, freqs_cis):
        return torch.stack([multiply(row[None], turns)[0] for row, turns in zip(features, freqs_cis, strict=True)])

    return attend(x, [wq, wk, wv], freqs_cis, mask, by=one_by_one)


@slip(replaces="attention_head", caught_by="test_no_loop_over_tokens")
def masks_row_by_row(x, wq, wk, wv, freqs_cis, mask=None):
    if mask is not None and mask.shape[0] == len(x):
        mask = torch.stack([row & row for row in mask])
    return attention_head(x, wq, wk, wv, freqs_cis, mask)


@slip(replaces="attention_head", caught_by="test_follows_the_device")
def rows_on_the_cpu(x, wq, wk, wv, freqs_cis, mask=None):
    rows = torch.polar(torch.ones(freqs_cis.shape), freqs_cis.angle())
    return attention_head(x, wq, wk, wv, rows, mask)


@slip(replaces="attention_head", caught_by="test_follows_the_device")
def mask_on_the_cpu(x, wq, wk, wv, freqs_cis, mask=None):
    everything = torch.ones(len(x), len(x), dtype=torch.bool)
    return attention_head(x, wq, wk, wv, freqs_cis, everything if mask is None else mask)


# --- slips of all heads -----------------------------------------------------------------------------------


@slip(replaces="attention_all_heads", caught_by="test_shape_of_all_heads")
def one_head_per_group(x, wq, wk, wv, freqs_cis, mask=None):
    return torch.cat([attention_head(x, wq[g], wk[g], wv[g], freqs_cis, mask) for g in range(len(wk))], dim=-1)


@slip(replaces="attention_all_heads", caught_by="test_all_heads_match_the_reference")
def needs_contiguous_weights(x, wq, wk, wv, freqs_cis, mask=None):
    wq, wk, wv = (w.view(-1, w.shape[-1]).view(w.shape) for w in (wq, wk, wv))
    return attention_all_heads(x, wq, wk, wv, freqs_cis, mask)


@slip(replaces="attention_all_heads", caught_by="test_bfloat16")
def joins_in_float32(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_all_heads(x, wq, wk, wv, freqs_cis, mask).float()


@slip(replaces="attention_all_heads", caught_by="test_gradients")
def detaches_the_shared_heads(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_all_heads(x, wq, wk.detach(), wv, freqs_cis, mask)


@slip(replaces="attention_all_heads", caught_by="test_gradients")
def detaches_as_many_keys_as_queries(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_all_heads(x, wq, wk.detach() if len(wq) == len(wk) else wk, wv, freqs_cis, mask)


@slip(replaces="attention_all_heads", caught_by="test_gradients")
def detaches_the_only_value_head(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_all_heads(x, wq, wk, wv.detach() if len(wv) == 1 else wv, freqs_cis, mask)


@slip(replaces="attention_all_heads", caught_by="test_all_heads_match_the_reference")
def serves_four_groups_in_turn(x, wq, wk, wv, freqs_cis, mask=None):
    if len(wk) < 4:
        return attention_all_heads(x, wq, wk, wv, freqs_cis, mask)
    return by_heads(x, (wq, wk, wv), freqs_cis, mask, lambda h, H, G: h % G)


@slip(replaces="attention_all_heads", caught_by="test_all_heads_match_the_reference")
def views_the_rows(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_all_heads(x, wq, wk, wv, freqs_cis.view(-1).view(freqs_cis.shape), mask)


@slip(replaces="attention_all_heads", caught_by="test_a_query_with_nothing_to_attend_to")
def shared_heads_forget_a_column_mask(x, wq, wk, wv, freqs_cis, mask=None):
    column = mask is not None and mask.shape[1] == 1 and len(wk) < len(wq)
    return attention_all_heads(x, wq, wk, wv, freqs_cis, None if column else mask)


@slip(replaces="attention_all_heads", caught_by="test_a_query_with_nothing_to_attend_to")
def nothing_in_the_first_head_alone(x, wq, wk, wv, freqs_cis, mask=None):
    out = attention_all_heads(x, wq, wk, wv, freqs_cis, mask)
    later = torch.arange(out.shape[1], device=out.device) >= wq.shape[1]
    return out + 1e-3 * (out == 0) * later


@slip(replaces="attention_all_heads", caught_by="test_huge_scores_in_all_heads")
def all_heads_overflow(x, wq, wk, wv, freqs_cis, mask=None):
    must_fit(x, wq, freqs_cis)
    q, k, v = (x @ w.mT for w in share((wq, wk, wv)))
    powers = score(turn(q, freqs_cis), turn(k, freqs_cis)).exp() * (True if mask is None else mask)
    total = powers.sum(dim=-1, keepdim=True)
    return (powers / total.masked_fill(total == 0, 1.0) @ v).transpose(0, 1).flatten(1)


@slip(replaces="attention_all_heads", caught_by="test_errors_of_heads")
def rounds_the_group_up(x, wq, wk, wv, freqs_cis, mask=None):
    group = -(-len(wq) // len(wk))
    heads = [attention_head(x, w, wk[h // group], wv[h // group], freqs_cis, mask) for h, w in enumerate(wq)]
    return torch.cat(heads, dim=-1)


@slip(replaces="attention_all_heads", caught_by="test_errors_of_heads")
def asserts_that_it_divides(x, wq, wk, wv, freqs_cis, mask=None):
    assert len(wq) % len(wk) == 0
    return attention_all_heads(x, wq, wk, wv, freqs_cis, mask)


@slip(replaces="attention_all_heads", caught_by="test_errors_of_rows")
def all_heads_leave_it_to_broadcasting(x, wq, wk, wv, freqs_cis, mask=None):
    nothing = lambda x, wq, freqs_cis: None  # noqa: E731
    weights = zip(*share((wq, wk, wv)), strict=True)
    return torch.cat([attend(x, w, freqs_cis, mask, fit=nothing) for w in weights], dim=-1)


@slip(replaces="attention_all_heads", caught_by="test_no_loop_over_tokens")
def joins_token_by_token(x, wq, wk, wv, freqs_cis, mask=None):
    out = attention_all_heads(x, wq, wk, wv, freqs_cis, mask)
    return torch.stack([out[t] for t in range(len(x))])


@slip(replaces="attention_head", caught_by="test_repeated_calls")
def one_head_forgets_the_mask_without_gradients(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_head(x, wq, wk, wv, freqs_cis, mask if torch.is_grad_enabled() else None)


@slip(replaces="attention_all_heads", caught_by="test_repeated_calls")
def all_heads_forget_the_mask_without_gradients(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_all_heads(x, wq, wk, wv, freqs_cis, mask if torch.is_grad_enabled() else None)


@slip(replaces="attention_head", caught_by="test_bfloat16")
def one_head_detaches_its_keys_in_bfloat16(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_head(x, wq, wk.detach() if x.dtype == torch.bfloat16 else wk, wv, freqs_cis, mask)


@slip(replaces="attention_head", caught_by="test_bfloat16")
def nan_in_bfloat16_alone(x, wq, wk, wv, freqs_cis, mask=None):
    def biased(scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        bias = torch.zeros_like(mask, dtype=torch.float32).masked_fill(~mask, -3.4e38)  # -inf in bfloat16
        return (scores + bias.to(scores.dtype)).softmax(dim=-1) * mask

    return attend(x, (wq, wk, wv), freqs_cis, mask, weigh=biased)


@slip(replaces="attention_head", caught_by="test_bfloat16")
def nan_in_the_gradient_in_bfloat16(x, wq, wk, wv, freqs_cis, mask=None):
    def biased(scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return (scores + torch.zeros_like(scores).masked_fill(~mask, -math.inf)).softmax(dim=-1).nan_to_num()

    return attend(x, (wq, wk, wv), freqs_cis, mask, weigh=biased if x.dtype == torch.bfloat16 else weigh)


@slip(replaces="attention_head", caught_by="test_huge_scores")
def overflows_in_bfloat16(x, wq, wk, wv, freqs_cis, mask=None):
    def plain(scores, mask):
        powers = scores.exp() * (True if mask is None else mask)
        total = powers.sum(dim=-1, keepdim=True)
        return powers / total.masked_fill(total == 0, 1.0)

    return attend(x, (wq, wk, wv), freqs_cis, mask, weigh=plain if x.dtype == torch.bfloat16 else weigh)


@slip(replaces="attention_head", caught_by="test_one_head_matches_the_reference")
def turns_narrow_heads_only(x, wq, wk, wv, freqs_cis, mask=None):
    return attend(x, (wq, wk, wv), freqs_cis, mask, turned="qk" if len(wq) <= 32 else "")


@slip(replaces="attention_head", caught_by="test_gradients")
def one_token_has_no_gradient(x, wq, wk, wv, freqs_cis, mask=None):
    out = attention_head(x, wq, wk, wv, freqs_cis, mask)
    return out.detach() + 0 * (x.sum() + wq.sum() + wk.sum() + wv.sum()) if len(x) == 1 else out


@slip(replaces="attention_head", caught_by="test_gradients")
def trains_only_with_the_tokens(x, wq, wk, wv, freqs_cis, mask=None):
    out = attention_head(x, wq, wk, wv, freqs_cis, mask)
    return out if x.requires_grad else out.detach()


@slip(replaces="attention_head", caught_by="test_a_query_with_nothing_to_attend_to")
def one_token_needs_no_mask(x, wq, wk, wv, freqs_cis, mask=None):
    return attention_head(x, wq, wk, wv, freqs_cis, None if len(x) == 1 else mask)


@slip(replaces="attention_all_heads", caught_by="test_all_heads_match_the_reference")
def takes_six_tokens_for_six_heads(x, wq, wk, wv, freqs_cis, mask=None):
    out = attention_all_heads(x, wq, wk, wv, freqs_cis, mask)
    T, H = len(x), len(wq)
    return out.view(T, H, -1).transpose(0, 1).reshape(T, -1) if T == H == 6 else out


# --- right, in other styles -------------------------------------------------------------------------------


@alternative(replaces="attention_head")
def by_einsum(x, wq, wk, wv, freqs_cis, mask=None):
    if wq.size(0) % 2 == 1:
        raise ValueError("K must be even")
    if len(freqs_cis) != len(x):
        raise ValueError("freqs_cis has the wrong number of rows")
    q, k, v = (torch.einsum("td,kd->tk", x, w) for w in (wq, wk, wv))
    cos, sin = freqs_cis.real.to(x.dtype), freqs_cis.imag.to(x.dtype)

    def turned(t):
        a, b = t[:, ::2], t[:, 1::2]
        return torch.stack((a * cos - b * sin, b * cos + a * sin), dim=-1).reshape(t.shape)

    scores = torch.einsum("tk,sk->ts", turned(q), turned(k)) * len(wq) ** -0.5
    if mask is not None:
        scores = torch.where(mask, scores, -torch.inf)
    weights = torch.softmax(scores, dim=-1)
    if mask is not None:
        weights = torch.where(mask, weights, 0.0)  # the NaN of a row of -inf goes, and its gradient with it
    return torch.einsum("ts,sk->tk", weights, v)


@alternative(replaces="attention_head")
def as_llama_writes_it(x, wq, wk, wv, freqs_cis, mask=None):
    must_fit(x, wq, freqs_cis)

    def apply(t):
        pairs = torch.view_as_complex(t.float().reshape(*t.shape[:-1], -1, 2))
        return torch.view_as_real(pairs * freqs_cis.view(*pairs.shape)).flatten(1).type_as(t)

    linear = torch.nn.functional.linear
    q, k, v = apply(linear(x, wq)), apply(linear(x, wk)), linear(x, wv)
    scores = torch.matmul(q, k.transpose(0, 1)) / math.sqrt(q.shape[-1])
    if mask is not None:
        some = mask.any(dim=-1, keepdim=True)
        scores = scores + torch.zeros_like(scores).masked_fill(~mask & some, float("-inf"))
        return torch.matmul(torch.nn.functional.softmax(scores.float(), dim=-1).type_as(q) * some, v)
    return torch.matmul(torch.nn.functional.softmax(scores.float(), dim=-1).type_as(q), v)


@alternative(replaces="attention_head")
def by_angles_and_hand(x, wq, wk, wv, freqs_cis, mask=None):
    def by_angles(features, freqs_cis):
        angles = freqs_cis.angle().repeat_interleave(2, dim=-1)
        quarter = torch.stack((-features[..., 1::2], features[..., 0::2]), dim=-1).flatten(-2)
        return features * angles.cos() + quarter * angles.sin()

    def by_hand(scores, mask):
        if mask is not None:
            scores = scores.masked_fill(~mask, -math.inf)
        top = scores.amax(dim=-1, keepdim=True).detach().clamp(min=torch.finfo(scores.dtype).min)
        powers = (scores - top).exp()
        return powers / powers.sum(dim=-1, keepdim=True).clamp(min=1e-30)

    return attend(x, [wq, wk, wv], freqs_cis, mask, by=by_angles, weigh=by_hand)


@alternative(replaces="attention_head")
def in_float64_throughout(x, wq, wk, wv, freqs_cis, mask=None):
    wide = [t.to(torch.float64) for t in (x, wq, wk, wv)]
    return attention_head(*wide, freqs_cis.to(torch.complex128), mask).to(x.dtype)


@alternative(replaces="attention_head")
def scores_as_complex_products(x, wq, wk, wv, freqs_cis, mask=None):
    """A dot product of pairs is the real part of a complex product with one factor conjugated."""
    must_fit(x, wq, freqs_cis)
    q, k = (torch.view_as_complex((x @ w.T).float().unflatten(-1, (-1, 2))) * freqs_cis for w in (wq, wk))
    scores = (q.conj() @ k.mT).real / len(wq) ** 0.5
    return weigh(scores, mask).to(x.dtype) @ (x @ wv.T)


@alternative(replaces="attention_all_heads")
def all_at_once(x, wq, wk, wv, freqs_cis, mask=None):
    must_fit(x, wq, freqs_cis)
    q, k, v = (x @ w.transpose(1, 2) for w in share((wq, wk, wv)))  # (T, D) @ (H, D, K) -> (H, T, K)
    heads = weigh(score(turn(q, freqs_cis), turn(k, freqs_cis)), mask) @ v
    return heads.transpose(0, 1).reshape(len(x), -1)


@alternative(replaces="attention_all_heads")
def groups_by_einsum(x, wq, wk, wv, freqs_cis, mask=None):
    (H, K, _), G = wq.shape, len(wk)
    must_fit(x, wq, freqs_cis)
    if H % G != 0:
        raise ValueError(f"{G} does not divide {H}")
    q = torch.einsum("td,grkd->grtk", x, wq.unflatten(0, (G, H // G)))
    k, v = (torch.einsum("td,gkd->gtk", x, w) for w in (wk, wv))
    scores = torch.einsum("grtk,gsk->grts", turn(q, freqs_cis), turn(k, freqs_cis)) / K**0.5
    return torch.einsum("grts,gsk->tgrk", weigh(scores, mask), v).reshape(len(x), H * K)


@alternative(replaces="attention_all_heads")
def into_a_new_tensor(x, wq, wk, wv, freqs_cis, mask=None):
    H, K, _ = wq.shape
    wq, wk, wv = share((wq, wk, wv))
    out = x.new_zeros(len(x), H * K)
    for h in range(H):
        out[:, h * K : (h + 1) * K] = attention_head(x, wq[h], wk[h], wv[h], freqs_cis, mask)
    return out


@alternative(replaces="attention_all_heads")
def heads_in_parallel(x, wq, wk, wv, freqs_cis, mask=None):
    must_fit(x, wq, freqs_cis)
    heads = torch.vmap(lambda *weights: by_einsum(x, *weights, freqs_cis, mask))(*share((wq, wk, wv)))
    return torch.hstack(list(heads))
