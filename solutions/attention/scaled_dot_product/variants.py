"""Other ways to write scaled dot-product attention: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch.nn import functional as F

from grader.judge.suite import alternative, misconception, slip

from .solution import scaled_dot_product_attention

# --- the solution cut into steps, so that a variant bends one of them ------------------------------------


def score(q, k):
    return q @ k.mT / math.sqrt(q.shape[-1])  # (..., T, S)


def weigh(scores, mask):
    if mask is None:
        return scores.softmax(dim=-1)
    return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)


def answer(scores, v, mask, weigh=weigh):
    weights = weigh(scores, mask)
    return weights @ v, weights


# --- misconceptions about the scores ---------------------------------------------------------------------


@misconception(replaces="scaled_dot_product_attention", caught_by="test_scores_are_divided_by_the_root_of_their_width")
def does_not_scale(q, k, v, mask=None):
    """Your scores are plain dot products.

    They spread more and more the wider queries and keys are, and the softmax comes close to picking one key. What
    stands under the dot product in equation 1 of the paper?
    """
    return answer(q @ k.mT, v, mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_scores_are_divided_by_the_root_of_their_width")
def scales_by_the_width(q, k, v, mask=None):
    """You divide the scores by K itself, or by sqrt(K) twice, which is the same.

    If the entries of q and k have variance 1, what is the variance of their dot product? And its standard deviation?
    """
    return answer(q @ k.mT / q.shape[-1], v, mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_scores_are_divided_by_the_root_of_their_width")
def multiplies_by_the_root(q, k, v, mask=None):
    """You multiply the scores by sqrt(K).

    The root is there to undo the growth of a dot product with its number of terms. Does it make scores larger or
    smaller?
    """
    return answer(q @ k.mT * math.sqrt(q.shape[-1]), v, mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_scores_are_divided_by_the_root_of_their_width")
def scales_by_the_width_of_the_values(q, k, v, mask=None):
    """You divide the scores by the root of Kv, the width of the values.

    The paper has a d_k and a d_v, which are often equal. Over how many products does one dot product of q and k sum?
    """
    return answer(q @ k.mT / math.sqrt(v.shape[-1]), v, mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_scores_are_divided_by_the_root_of_their_width")
def scales_by_the_number_of_keys(q, k, v, mask=None):
    """You divide the scores by the root of S, the number of keys.

    Then a score depends on how many other keys there are. How many products does one dot product of q and k sum up?
    """
    return answer(q @ k.mT / math.sqrt(k.shape[-2]), v, mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_scores_are_divided_by_the_root_of_their_width")
def scales_by_the_number_of_queries(q, k, v, mask=None):
    """You divide the scores by the root of T, the number of queries.

    Then a query gets another answer alone than among others. How many products does one dot product of q and k sum up?
    """
    return answer(q @ k.mT / math.sqrt(q.shape[-2]), v, mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_weights_of_a_query_sum_to_1")
def scales_after_the_softmax(q, k, v, mask=None):
    """You divide after the softmax instead of before it.

    What do the weights of one query sum to then, and how large should the scores be when the softmax sees them?
    """
    return answer(q @ k.mT, v, mask, lambda scores, mask: weigh(scores, mask) / math.sqrt(q.shape[-1]))


@misconception(replaces="scaled_dot_product_attention", caught_by="test_shapes")
def transposes_everything(q, k, v, mask=None):
    """You seem to use `k.T`, which turns round all dimensions of k.

    For a (S, K) matrix that is right. Which two dimensions have to change places if a batch stands before them?
    """
    return answer(q @ k.permute(*range(k.dim() - 1, -1, -1)) / math.sqrt(q.shape[-1]), v, mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_shapes")
def transposes_dimensions_1_and_2(q, k, v, mask=None):
    """You swap dimensions 1 and 2 of k, counted from the front.

    That is right with exactly one leading dimension. How does one count if there may be none, or three?
    """
    return answer(q @ k.transpose(1, 2) / math.sqrt(q.shape[-1]), v, mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_shapes")
def transposes_dimensions_2_and_3(q, k, v, mask=None):
    """You swap dimensions 2 and 3 of k, counted from the front.

    That is right with a batch and heads before them. How does one count if there may be other leading dimensions?
    """
    return answer(q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]), v, mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_worked_out_by_hand")
def reshapes_instead_of_transposing(q, k, v, mask=None):
    """You reshape k from (S, K) to (K, S).

    The shape fits, but a reshape keeps the numbers in the order in which they lie in memory. Whose features stand in
    the first column then?
    """
    return answer(q @ k.reshape(*k.shape[:-2], k.shape[-1], k.shape[-2]) / math.sqrt(q.shape[-1]), v, mask)


# --- misconceptions about the softmax and the result -----------------------------------------------------


@misconception(replaces="scaled_dot_product_attention", caught_by="test_weights_of_a_query_sum_to_1")
def softmax_over_the_queries(q, k, v, mask=None):
    """Your weights sum to 1 over the queries, so that all queries share out one key.

    Each query takes an average of the values. Over which dimension of (..., T, S) do its weights lie?
    """

    def weigh(scores, mask):
        if mask is None:
            return scores.softmax(dim=-2)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-2).masked_fill(~mask, 0.0)

    return answer(score(q, k), v, mask, weigh)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_weights_of_a_query_sum_to_1")
def softmax_over_dimension_1(q, k, v, mask=None):
    """Your softmax goes over dimension 1, counted from the front.

    Without leading dimensions these are the keys, with one they are the queries, with two the heads. How does one name
    the keys in all of these cases?
    """

    def weigh(scores, mask):
        if mask is None:
            return scores.softmax(dim=1)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=1).masked_fill(~mask, 0.0)

    return answer(score(q, k), v, mask, weigh)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_worked_out_by_hand")
def returns_the_scores(q, k, v, mask=None):
    """Your output is right, but what you return beside it are the scores.

    Do the numbers that you return for one query sum to 1?
    """
    return scaled_dot_product_attention(q, k, v, mask)[0], score(q, k)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_shapes")
def weights_come_first(q, k, v, mask=None):
    """You return the weights first and the output second.

    What does the docstring name first?
    """
    return scaled_dot_product_attention(q, k, v, mask)[::-1]


@misconception(replaces="scaled_dot_product_attention", caught_by="test_shapes")
def averages_the_keys(q, k, v, mask=None):
    """You average the keys: the argument v has no influence on your output.

    Keys decide where a query looks. What does it fetch there?
    """
    return answer(score(q, k), k, mask)


# --- misconceptions about masks --------------------------------------------------------------------------


@misconception(replaces="scaled_dot_product_attention", caught_by="test_true_in_a_mask_means_may_attend")
def mask_inverted(q, k, v, mask=None):
    """You hide the keys where the mask is True, as nn.MultiheadAttention does.

    PyTorch has both conventions. What does True mean in this exercise?
    """
    return answer(score(q, k), v, None if mask is None else ~mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_masked_weights_are_exactly_0")
def masks_after_the_softmax(q, k, v, mask=None):
    """You set masked weights to 0 after the softmax and leave the others as they are.

    Masked keys then still take their share of the sum. What do the weights of a query with a masked key sum to?
    """
    return answer(score(q, k), v, mask, lambda s, m: s.softmax(-1) if m is None else s.softmax(-1).masked_fill(~m, 0.0))


@misconception(replaces="scaled_dot_product_attention", caught_by="test_masked_weights_are_exactly_0")
def multiplies_scores_by_the_mask(q, k, v, mask=None):
    """You multiply the scores by the mask, so that masked scores are 0.

    A score of 0 is no low score. What weight does the softmax give to it, next to a score of -1?
    """
    return answer(score(q, k) if mask is None else score(q, k) * mask, v, None)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_masked_weights_are_exactly_0")
def adds_the_mask(q, k, v, mask=None):
    """You add the mask to the scores, which is right for masks of 0 and -inf.

    This mask is boolean. What does adding True to a score do, and what adding False?
    """
    return answer(score(q, k) if mask is None else score(q, k) + mask, v, None)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_worked_out_by_hand")
def always_causal(q, k, v, mask=None):
    """You hide the keys after each query, whatever the mask.

    That is right in a decoder. What may a query attend to here when no mask is given?
    """
    causal = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool, device=q.device).tril()
    return answer(score(q, k), v, causal if mask is None else causal & mask)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_a_query_with_nothing_to_attend_to")
def fills_with_a_large_number(q, k, v, mask=None):
    """You fill masked scores with a large negative number and trust the softmax with the rest.

    That is fine as long as some key is allowed. Which weights come out of a row in which all scores are this number?
    """
    return answer(score(q, k) if mask is None else score(q, k).masked_fill(~mask, -1e9), v, None)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_a_query_with_nothing_to_attend_to")
def fills_with_minus_infinity(q, k, v, mask=None):
    """You fill masked scores with -inf and trust the softmax with the rest.

    That is fine as long as some key is allowed. What are the numerator and the denominator in a row of -inf alone?
    """
    return answer(score(q, k) if mask is None else score(q, k).masked_fill(~mask, -math.inf), v, None)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_a_query_with_nothing_to_attend_to")
def averages_where_nothing_is_allowed(q, k, v, mask=None):
    """Your output is not 0 for a query that may attend to nothing, although its weights are.

    What is the average of the values by these weights? Were they cleared before or after the output was made?
    """
    scores = score(q, k) if mask is None else score(q, k).masked_fill(~mask, -1e9)
    weights = scores.softmax(dim=-1)
    return weights @ v, weights if mask is None else weights.masked_fill(~mask, 0.0)


@misconception(replaces="scaled_dot_product_attention", caught_by="test_masked_weights_are_exactly_0")
def masked_scores_are_not_low_enough(q, k, v, mask=None):
    """You fill masked scores with a number that is low, but not low enough: large scores get below it.

    Which number is below every score that can occur?
    """
    if mask is None:
        return scaled_dot_product_attention(q, k, v)
    weights = score(q, k).masked_fill(~mask, -100.0).softmax(dim=-1)
    return answer(score(q, k), v, mask, lambda _, mask: weights * mask.any(dim=-1, keepdim=True))


@misconception(replaces="scaled_dot_product_attention", caught_by="test_gradients_under_a_mask")
def nan_in_the_gradient(q, k, v, mask=None):
    """Your results are right, but in a gradient NaN comes out: a query that may attend to nothing spoils it.

    Where a NaN is replaced afterwards, the backward pass still goes through the place where it arose. How can the NaN
    be kept from arising?
    """
    if mask is None:
        return scaled_dot_product_attention(q, k, v)
    bias = torch.zeros_like(mask, dtype=q.dtype).masked_fill(~mask, -math.inf)
    weights = (score(q, k) + bias).softmax(dim=-1).nan_to_num()
    return weights @ v, weights


# --- slips -----------------------------------------------------------------------------------------------


@slip(replaces="scaled_dot_product_attention", caught_by="test_shapes")
def drops_leading_dimensions_of_size_one(q, k, v, mask=None):
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    return output.squeeze(), weights.squeeze()


@slip(replaces="scaled_dot_product_attention", caught_by="test_values_have_their_own_width")
def centres_the_values(q, k, v, mask=None):
    return scaled_dot_product_attention(q, k, v - v.mean(dim=-1, keepdim=True), mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_any_number_of_leading_dimensions")
def centres_over_the_batch(q, k, v, mask=None):
    return scaled_dot_product_attention(q - q.mean(dim=0) if q.dim() > 2 else q, k, v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_any_number_of_leading_dimensions")
def folds_leading_dimensions_wrongly(q, k, v, mask=None):
    if q.dim() < 4:
        return scaled_dot_product_attention(q, k, v, mask)
    fold = lambda x: x.movedim(0, -3).flatten(0, -3)  # noqa: E731
    output, weights = scaled_dot_product_attention(fold(q), fold(k), fold(v))
    return output.view(*q.shape[:-1], -1), weights.view(*q.shape[:-1], -1)


@slip(replaces="scaled_dot_product_attention", caught_by="test_the_order_of_the_keys_does_not_matter")
def prefers_late_keys(q, k, v, mask=None):
    late = 0.1 * torch.arange(k.shape[-2], device=k.device, dtype=k.dtype)
    return answer(score(q, k) + late, v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_queries_do_not_see_each_other")
def subtracts_the_mean_query(q, k, v, mask=None):
    return answer(score(q - q.mean(dim=-2, keepdim=True), k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_a_vector_added_to_all_keys_changes_nothing")
def cosine_similarity(q, k, v, mask=None):
    return answer(score(q, F.normalize(k, dim=-1)), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_huge_scores")
def softmax_overflows(q, k, v, mask=None):
    def weigh(scores, mask):
        powers = scores.exp() if mask is None else scores.exp() * mask
        total = powers.sum(dim=-1, keepdim=True)
        return powers / total.masked_fill(total == 0, 1.0)

    return answer(score(q, k), v, mask, weigh)


@slip(replaces="scaled_dot_product_attention", caught_by="test_huge_scores")
def clamps_the_scores(q, k, v, mask=None):
    return answer(score(q, k).clamp(-50.0, 50.0), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_huge_scores")
def clamps_at_ten_thousand(q, k, v, mask=None):
    return answer(score(q, k).clamp(-1e4, 1e4), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_a_query_with_nothing_to_attend_to")
def takes_a_mask_of_one_number_for_none(q, k, v, mask=None):
    return answer(score(q, k), v, None if mask is not None and mask.numel() == 1 else mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_matches_the_reference")
def masks_short_texts_only(q, k, v, mask=None):
    return answer(score(q, k), v, mask if k.shape[-2] <= 64 else None)


@slip(replaces="scaled_dot_product_attention", caught_by="test_matches_the_reference")
def centres_keys_that_are_the_values(q, k, v, mask=None):
    return answer(score(q, k), v - v.mean(dim=-1, keepdim=True) if v is k and q is not k else v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_huge_scores")
def overflows_in_bfloat16_only(q, k, v, mask=None):
    if q.dtype != torch.bfloat16:
        return scaled_dot_product_attention(q, k, v, mask)
    return softmax_overflows(q, k, v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_masks_of_every_shape")
def mask_of_the_first_item(q, k, v, mask=None):
    return answer(score(q, k), v, mask[:1] if mask is not None and mask.dim() > 2 else mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_masks_of_every_shape")
def masks_by_batch_item(q, k, v, mask=None):
    if mask is not None and mask.dim() == 3 and q.dim() == 4 and len(mask) == len(q):
        mask = mask[:, None]
    return answer(score(q, k), v, mask if mask is None or mask.dim() > 1 else mask.expand(q.shape[-2], -1))


@slip(replaces="scaled_dot_product_attention", caught_by="test_masks_of_every_shape")
def expects_a_mask_for_every_query(q, k, v, mask=None):
    def weigh(scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        weights = scores.masked_fill(~mask, -math.inf).softmax(dim=-1)
        empty = ~mask.any(dim=-1)
        weights[..., empty if empty.dim() == 1 else empty.expand(scores.shape[:-1]), :] = 0.0
        return weights

    return answer(score(q, k), v, mask, weigh)


@slip(replaces="scaled_dot_product_attention", caught_by="test_masked_weights_are_exactly_0")
def renormalises_after_the_softmax(q, k, v, mask=None):
    def weigh(scores, mask):
        weights = scores.softmax(dim=-1)
        if mask is None:
            return weights
        weights = weights * mask
        return weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-9)

    return answer(score(q, k), v, mask, weigh)


@slip(replaces="scaled_dot_product_attention", caught_by="test_a_query_with_nothing_to_attend_to")
def clears_whole_rows_for_all_heads(q, k, v, mask=None):
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    if mask is not None and mask.dim() == 4:
        some = mask.any(dim=-1, keepdim=True).all(dim=1, keepdim=True)
        return output * some, weights * some
    return output, weights


@slip(replaces="scaled_dot_product_attention", caught_by="test_masked_keys_leave_no_trace")
def averages_over_masked_keys(q, k, v, mask=None):
    return scaled_dot_product_attention(q, k - k.mean(dim=-2, keepdim=True), v - 1e-3 * v.sum(-2, True), mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_matches_the_reference")
def needs_contiguous_inputs(q, k, v, mask=None):
    return scaled_dot_product_attention(q.view(-1, q.shape[-1]).view(q.shape), k, v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_matches_the_reference")
def mask_for_wide_inputs_only(q, k, v, mask=None):
    output, weights = scaled_dot_product_attention(q, k, v, mask)
    return (output, weights) if q.shape[-1] < 64 else (output, weights.round(decimals=2))


@slip(replaces="scaled_dot_product_attention", caught_by="test_float64")
def scores_in_float32(q, k, v, mask=None):
    return answer(score(q.float(), k.float()).to(q.dtype), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_float64")
def answers_in_float32(q, k, v, mask=None):
    return scaled_dot_product_attention(q.float(), k.float(), v.float(), mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_bfloat16")
def weights_in_float32(q, k, v, mask=None):
    weights = weigh(score(q, k).to(torch.promote_types(q.dtype, torch.float32)), mask)
    return weights.to(v.dtype) @ v, weights


@slip(replaces="scaled_dot_product_attention", caught_by="test_gradients")
def detaches_the_weights(q, k, v, mask=None):
    return answer(score(q, k).detach(), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_gradients")
def detaches_the_keys(q, k, v, mask=None):
    return answer(score(q, k.detach()), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_gradients_under_a_mask")
def detaches_the_weights_under_a_mask(q, k, v, mask=None):
    return answer(score(q, k) if mask is None else score(q, k).data, v, mask)


_KEPT = {}


@slip(replaces="scaled_dot_product_attention", caught_by="test_repeated_calls")
def keeps_the_first_mask(q, k, v, mask=None):
    if mask is not None:
        mask = _KEPT.setdefault((mask.shape, q.dtype, mask.device), mask.clone())
    return answer(score(q, k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_repeated_calls")
def keeps_the_first_root(q, k, v, mask=None):
    return answer(q @ k.mT / _KEPT.setdefault("root", math.sqrt(q.shape[-1])), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_leaves_the_inputs_alone")
def inverts_the_mask_in_place(q, k, v, mask=None):
    return answer(score(q, k), v, mask if mask is None else ~mask.logical_not_())


@slip(replaces="scaled_dot_product_attention", caught_by="test_leaves_the_inputs_alone")
def scales_the_queries_in_place(q, k, v, mask=None):
    with torch.no_grad():
        q /= math.sqrt(q.shape[-1])
    return answer(q @ k.mT, v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_no_loop")
def query_by_query(q, k, v, mask=None):
    pairs = []
    for t in range(q.shape[-2]):
        row = mask if mask is None or mask.dim() < 2 or mask.shape[-2] == 1 else mask[..., t : t + 1, :]
        pairs.append(scaled_dot_product_attention(q[..., t : t + 1, :], k, v, row))
    return tuple(torch.cat(parts, dim=-2) for parts in zip(*pairs, strict=True))


@slip(replaces="scaled_dot_product_attention", caught_by="test_no_loop")
def item_by_item(q, k, v, mask=None):
    if q.dim() < 3:
        return scaled_dot_product_attention(q, k, v, mask)
    scores = torch.stack([score(*pair) for pair in zip(q, k, strict=True)])
    return answer(scores, v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_follows_the_device")
def makes_its_mask_on_the_cpu(q, k, v, mask=None):
    everything = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool)
    return answer(score(q, k), v, everything if mask is None else mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_repeated_calls")
def forgets_the_mask_without_gradients(q, k, v, mask=None):
    return answer(score(q, k), v, mask if torch.is_grad_enabled() else None)


@slip(replaces="scaled_dot_product_attention", caught_by="test_repeated_calls")
def takes_the_mask_by_name_alone(q, k, v, *, mask=None):
    return answer(score(q, k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_bfloat16")
def detaches_the_keys_in_bfloat16(q, k, v, mask=None):
    return answer(score(q, k.detach() if k.dtype == torch.bfloat16 else k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_masks_of_every_shape")
def takes_a_square_mask_for_padding(q, k, v, mask=None):
    if mask is not None and mask.dim() == 2 and q.dim() > 2 and len(mask) == len(q):
        mask = mask.view(len(mask), *[1] * (q.dim() - 2), mask.shape[-1])
    return answer(score(q, k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_masks_of_every_shape")
def turns_a_column_mask_over(q, k, v, mask=None):
    if mask is not None and mask.dim() > 1 and mask.shape[-1] == 1 and q.shape[-2] == k.shape[-2]:
        mask = mask.mT
    return answer(score(q, k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_masks_of_every_shape")
def one_key_is_always_seen(q, k, v, mask=None):
    if k.shape[-2] == 1:
        weights = torch.ones_like(score(q, k))
        return weights @ v, weights
    return answer(score(q, k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_gradients")
def one_key_has_no_gradient(q, k, v, mask=None):
    if k.shape[-2] == 1 and mask is None:
        return v.detach().expand(*q.shape[:-1], v.shape[-1]) + 0 * q.sum(), torch.ones_like(score(q, k))
    return answer(score(q, k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_gradients")
def detaches_keys_that_are_the_queries(q, k, v, mask=None):
    return answer(score(q, k.detach() if k is q else k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_matches_the_reference")
def self_attention_is_causal(q, k, v, mask=None):
    if mask is None and q is k and q.dim() == 4:
        mask = torch.ones(q.shape[-2], q.shape[-2], dtype=torch.bool, device=q.device).tril()
    return answer(score(q, k), v, mask)


@slip(replaces="scaled_dot_product_attention", caught_by="test_any_number_of_leading_dimensions")
def three_leading_dimensions_at_most(q, k, v, mask=None):
    assert q.dim() <= 5
    return answer(score(q, k), v, mask)


# --- right, in other styles ------------------------------------------------------------------------------


@alternative(replaces="scaled_dot_product_attention")
def by_einsum(q, k, v, mask=None):
    scores = torch.einsum("...tk,...sk->...ts", q, k) * q.shape[-1] ** -0.5
    if mask is not None:
        scores = torch.where(mask, scores, -torch.inf)
    weights = torch.softmax(scores, dim=-1)
    if mask is not None:
        weights = torch.where(mask, weights, 0.0)  # the NaN of a row of -inf goes, and its gradient with it
    return torch.einsum("...ts,...sv->...tv", weights, v), weights


@alternative(replaces="scaled_dot_product_attention")
def scales_queries_and_keys(q, k, v, mask=None):
    fourth_root = q.size(-1) ** 0.25
    scores = torch.matmul(q / fourth_root, (k / fourth_root).transpose(-1, -2))
    if mask is None:
        weights = torch.nn.Softmax(dim=-1)(scores)
    else:
        some = mask.any(dim=-1, keepdim=True)
        weights = F.softmax(scores.masked_fill(~mask & some, float("-inf")), dim=-1) * some * mask
    return torch.matmul(weights, v), weights


@alternative(replaces="scaled_dot_product_attention")
def in_one_batch(q, k, v, mask=None):
    lead, (T, S) = q.shape[:-2], (q.shape[-2], k.shape[-2])
    flat = [x.reshape(-1, *x.shape[-2:]) for x in (q, k, v)]
    bias = q.new_zeros(*lead, T, S)
    if mask is not None:
        bias = bias.masked_fill(mask.logical_not(), torch.finfo(q.dtype).min)
    scores = torch.baddbmm(bias.view(-1, T, S), flat[0], flat[1].transpose(1, 2), alpha=1 / math.sqrt(q.shape[-1]))
    weights = torch.softmax(scores, dim=2).view(*lead, T, S)
    if mask is not None:
        weights = weights * mask
    return torch.bmm(weights.view(-1, T, S), flat[2]).view(*lead, T, v.shape[-1]), weights


@alternative(replaces="scaled_dot_product_attention")
def softmax_by_hand(q, k, v, mask=None):
    scores = score(q, k)
    if mask is not None:
        scores = scores.masked_fill(~mask, -math.inf)
    top = scores.amax(dim=-1, keepdim=True).detach().clamp(min=torch.finfo(scores.dtype).min)
    powers = (scores - top).exp()
    total = powers.sum(dim=-1, keepdim=True).clamp(min=1e-30)
    return powers @ v / total, powers / total  # divided once the values are added up


@alternative(replaces="scaled_dot_product_attention")
def nan_to_num_of_filled_scores(q, k, v, mask=None):
    scores = score(q, k) if mask is None else score(q, k).masked_fill(~mask, -math.inf)
    weights = scores.softmax(dim=-1).nan_to_num(0.0)
    return weights @ v, weights


@alternative(replaces="scaled_dot_product_attention")
def float64_inside(q, k, v, mask=None):
    weights = weigh(score(q.double(), k.double()), mask)
    return (weights @ v.double()).to(v.dtype), weights.to(q.dtype)


@alternative(replaces="scaled_dot_product_attention")
def head_by_head(q, k, v, mask=None):
    if q.dim() != 4:
        return scaled_dot_product_attention(q, k, v, mask)
    if mask is not None:
        mask = torch.broadcast_to(mask, (*q.shape[:-1], k.shape[-2]))
    parts = [
        scaled_dot_product_attention(q[:, h], k[:, h], v[:, h], mask if mask is None else mask[:, h])
        for h in range(q.shape[1])
    ]
    return tuple(torch.stack(heads, dim=1) for heads in zip(*parts, strict=True))


@alternative(replaces="scaled_dot_product_attention")
def root_as_a_tensor(q, k, v, mask=None):
    scores = q @ k.mT / torch.sqrt(torch.tensor(q.shape[-1], device=q.device))
    if mask is not None:
        empty = ~mask.any(dim=-1, keepdim=True)  # such a row goes through the softmax unmasked
        scores = scores.masked_fill(~(mask | empty), -torch.inf)
    weights = scores.softmax(-1)
    if mask is not None:
        weights = weights.masked_fill(empty, 0.0)
    return [weights.matmul(v), weights]  # a list is as good as a tuple


@alternative(replaces="scaled_dot_product_attention")
def by_log_softmax(q, k, v, mask=None):
    scores = (q.unsqueeze(-2) * k.unsqueeze(-3)).sum(dim=-1) / math.sqrt(k.shape[-1])  # (..., T, S, K) -> (..., T, S)
    if mask is not None:
        scores = scores + torch.where(mask, 0.0, -1e30).to(scores.dtype)
    scores = scores.to(torch.promote_types(scores.dtype, torch.float32))  # a sum of 10 000 and ln 2 needs the digits
    weights = (scores - scores.logsumexp(dim=-1, keepdim=True)).exp().to(q.dtype)
    if mask is not None:
        weights = weights.where(mask, torch.zeros_like(weights))
    return (weights.unsqueeze(-1) * v.unsqueeze(-3)).sum(dim=-2), weights
