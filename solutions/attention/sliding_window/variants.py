"""Other ways to write sliding_window: wrong ones that a learner may come up with, and right ones."""

import functools
import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import sliding_window_mask


def ages(length, window):
    """Return how many tokens ago each key came, seen from each query, (T, T), for sizes that are fine."""
    if length < 1 or window < 1:
        raise ValueError(f"{length=} and {window=} must be at least 1")
    tokens = torch.arange(length)
    return tokens[:, None] - tokens


def allowed_for(q, window):
    return sliding_window_mask(q.shape[-2], window).to(q.device)


def scores_of(q, k):
    return q @ k.mT / math.sqrt(q.shape[-1])  # (B, H, T, T)


def softmax_of(scores, allowed):
    return scores.masked_fill(~allowed, -math.inf).softmax(dim=-1)


# --- misconceptions about the mask ------------------------------------------------------------------------


@misconception(replaces="sliding_window_mask", caught_by="test_mask_drawn_by_hand")
def window_without_the_token_itself(length, window):
    """Your tokens see themselves and a whole window of tokens before them: one too many.

    With a window of 1, how many tokens may a token see?
    """
    age = ages(length, window)
    return (age >= 0) & (age <= window)


@misconception(replaces="sliding_window_mask", caught_by="test_mask_drawn_by_hand")
def one_token_short(length, window):
    """Your tokens see one token fewer than the window holds.

    With a window of 1 nothing is left to see. Does the window count the token itself?
    """
    age = ages(length, window)
    return (age >= 0) & (age < window - 1)


@misconception(replaces="sliding_window_mask", caught_by="test_a_token_sees_as_many_as_the_window")
def only_the_past(length, window):
    """Your tokens see the tokens before them but not themselves.

    What may token 0 attend to then?
    """
    age = ages(length, window)
    return (age > 0) & (age <= window)


@misconception(replaces="sliding_window_mask", caught_by="test_a_token_sees_as_many_as_the_window")
def looks_both_ways(length, window):
    """Your window reaches as far ahead as it reaches back, as in Longformer's encoder.

    Here the model writes token after token. What can be known of the tokens to the right of the diagonal?
    """
    return ages(length, window).abs() < window


@misconception(replaces="sliding_window_mask", caught_by="test_mask_drawn_by_hand")
def rows_are_keys(length, window):
    """Your mask is turned over: tokens see those after them.

    Rows are queries and columns are keys. What should the first row look like, the one of the first token?
    """
    age = ages(length, window).T
    return (age >= 0) & (age < window)


@misconception(replaces="sliding_window_mask", caught_by="test_mask_drawn_by_hand")
def true_is_masked(length, window):
    """Your mask is True for the keys that are hidden, as in nn.MultiheadAttention.

    PyTorch has both conventions. What does True mean in this exercise?
    """
    age = ages(length, window)
    return ~((age >= 0) & (age < window))


@misconception(replaces="sliding_window_mask", caught_by="test_mask_drawn_by_hand")
def forgets_the_window(length, window):
    """Your mask is the causal one: the window has no influence.

    Which of the five tokens in the check on paper may the last token no longer see?
    """
    return ages(length, window) >= 0


@misconception(replaces="sliding_window_mask", caught_by="test_mask_drawn_by_hand")
def window_without_the_future_hidden(length, window):
    """Your mask hides what has left the window, but not what is still to come.

    A window has two ends. Which key is the last one that token 0 may see?
    """
    return ages(length, window) < window


@misconception(replaces="sliding_window_mask", caught_by="test_mask_drawn_by_hand")
def window_in_steps(length, window):
    """You cut the tokens into blocks of one window, and a token sees the part of its own block up to itself.

    A sliding window moves by one with every token. How many tokens does the first token of a block see in yours?
    """
    block = torch.arange(length) // max(window, 1)
    return (ages(length, window) >= 0) & (block[:, None] == block)


# --- misconceptions about the attention -------------------------------------------------------------------


@misconception(replaces="sliding_window_attention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
def does_not_scale(q, k, v, window):
    """Your scores are plain dot products.

    They grow with the number of features. What are they divided by in the formula?
    """
    return softmax_of(q @ k.mT, allowed_for(q, window)) @ v


@misconception(replaces="sliding_window_attention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
def scales_by_the_head_width(q, k, v, window):
    """You divide the scores by K itself.

    If the entries of q and k have variance 1, what is the variance of their dot product? And its standard deviation?
    """
    return softmax_of(q @ k.mT / q.shape[-1], allowed_for(q, window)) @ v


@misconception(replaces="sliding_window_attention", caught_by="test_the_weights_sum_to_1")
def masks_after_the_softmax(q, k, v, window):
    """You take the softmax over all keys and set weights to 0 afterwards.

    Then the hidden keys have taken their share. What do the weights that are left sum to?
    """
    return scores_of(q, k).softmax(dim=-1) * allowed_for(q, window) @ v


@misconception(replaces="sliding_window_attention", caught_by="test_what_has_left_the_window_leaves_no_trace")
def masked_scores_are_zero(q, k, v, window):
    """You set the scores of hidden keys to 0.

    The softmax turns a score of 0 into a weight of exp(0) before it divides. Which score has an exponential of 0?
    """
    return scores_of(q, k).masked_fill(~allowed_for(q, window), 0.0).softmax(dim=-1) @ v


@misconception(replaces="sliding_window_attention", caught_by="test_a_window_of_one_returns_the_values")
def adds_the_mask(q, k, v, window):
    """You add the boolean mask to the scores, so allowed keys get 1 more and the others stay as they are.

    Which number has to be added to a score for its weight to become 0?
    """
    return (scores_of(q, k) + allowed_for(q, window)).softmax(dim=-1) @ v


@misconception(replaces="sliding_window_attention", caught_by="test_the_weights_sum_to_1")
def softmax_over_queries(q, k, v, window):
    """Your weights sum to 1 over the queries, so that all queries share out one key.

    A query takes an average of values. Over which dimension of (B, H, T, T) do its weights lie?
    """
    return scores_of(q, k).masked_fill(~allowed_for(q, window), -math.inf).softmax(dim=-2) @ v


@misconception(replaces="sliding_window_attention", caught_by="test_what_has_left_the_window_leaves_no_trace")
def attends_without_the_window(q, k, v, window):
    """Your attention is causal, but it does not use the window.

    The output of a late token still changes with token 0. Which mask do you give to the scores?
    """
    return softmax_of(scores_of(q, k), allowed_for(q, max(window, q.shape[-2]) if window > 0 else window)) @ v


# --- slips -------------------------------------------------------------------------------------------------


@slip(replaces="sliding_window_mask", caught_by="test_shapes")
def mask_of_zeros_and_minus_infinity(length, window):
    age = ages(length, window)
    return torch.zeros(length, length).masked_fill((age < 0) | (age >= window), -math.inf)


@slip(replaces="sliding_window_mask", caught_by="test_smallest_and_largest_window")
def window_modulo_the_length(length, window):
    return (ages(length, window) >= 0) & (ages(length, window) < (window - 1) % length + 1)


@slip(replaces="sliding_window_mask", caught_by="test_masks_of_many_sizes")
@functools.cache
def window_of_seven_at_most(length, window):
    return (ages(length, window) >= 0) & (ages(length, window) < min(window, 6))


_by_length = {}


@slip(replaces="sliding_window_mask", caught_by="test_masks_of_many_sizes")
def kept_by_length(length, window):
    age = ages(length, window)
    return _by_length.setdefault(length, (age >= 0) & (age < window))


@slip(replaces="sliding_window_mask", caught_by="test_the_mask_lies_on_the_default_device")
def mask_on_the_cpu(length, window):
    if length < 1 or window < 1:
        raise ValueError("below 1")
    tokens = torch.arange(length, device="cpu")
    age = tokens[:, None] - tokens
    return (age >= 0) & (age < window)


@slip(replaces="sliding_window_mask", caught_by="test_errors")
def asserts_the_sizes(length, window):
    assert length > 0 and window > 0
    tokens = torch.arange(length)
    return (tokens[:, None] >= tokens) & (tokens[:, None] - tokens < window)


@slip(replaces="sliding_window_mask", caught_by="test_errors")
def checks_the_window_alone(length, window):
    if window < 1:
        raise ValueError("window")
    tokens = torch.arange(max(length, 0))
    return (tokens[:, None] >= tokens) & (tokens[:, None] - tokens < window)


@slip(replaces="sliding_window_attention", caught_by="test_errors")
def mask_of_its_own(q, k, v, window):
    tokens = torch.arange(q.shape[-2], device=q.device)
    age = tokens[:, None] - tokens
    allowed = (age >= 0) & (age < max(window, 1))
    return softmax_of(scores_of(q, k), allowed) @ v


@slip(replaces="sliding_window_mask", caught_by="test_no_loop_over_tokens_or_batch")
def mask_row_by_row(length, window):
    mask = torch.zeros_like(ages(length, window), dtype=torch.bool)
    for i in range(length):
        mask[i, max(0, i - window + 1) : i + 1] = True
    return mask


@slip(replaces="sliding_window_attention", caught_by="test_no_loop_over_tokens_or_batch")
def token_by_token(q, k, v, window):
    if window < 1:
        raise ValueError("window")
    rows = []
    for t in range(q.shape[-2]):
        seen = slice(max(0, t - window + 1), t + 1)
        rows.append(scores_of(q[:, :, t : t + 1], k[:, :, seen]).softmax(dim=-1) @ v[:, :, seen])
    return torch.cat(rows, dim=2)


@slip(replaces="sliding_window_attention", caught_by="test_no_loop_over_tokens_or_batch")
def item_by_item(q, k, v, window):
    allowed = allowed_for(q, window)
    return torch.stack([softmax_of(scores_of(q[b], k[b]), allowed) @ v[b] for b in range(len(q))])


@slip(replaces="sliding_window_attention", caught_by="test_the_future_leaves_no_trace")
def centres_the_keys(q, k, v, window):
    return softmax_of(scores_of(q, k), allowed_for(q, window)) @ (v + 1e-2 * k.mean(dim=-2, keepdim=True))


@slip(replaces="sliding_window_attention", caught_by="test_huge_scores")
def softmax_overflows(q, k, v, window):
    powers = scores_of(q, k).exp() * allowed_for(q, window)
    return powers / powers.sum(dim=-1, keepdim=True) @ v


@slip(replaces="sliding_window_attention", caught_by="test_huge_scores")
def fills_with_a_small_number(q, k, v, window):
    return scores_of(q, k).masked_fill(~allowed_for(q, window), -1000.0).softmax(dim=-1) @ v


@slip(replaces="sliding_window_attention", caught_by="test_huge_scores")
def fills_with_minus_ten_thousand_in_bfloat16(q, k, v, window):
    lowest = -1e4 if q.dtype == torch.bfloat16 else -math.inf
    return scores_of(q, k).masked_fill(~allowed_for(q, window), lowest).softmax(dim=-1) @ v


@slip(replaces="sliding_window_attention", caught_by="test_three_tokens_by_hand")
def keys_as_values(q, k, v, window):
    return softmax_of(scores_of(q, k), allowed_for(q, window)) @ k


@slip(replaces="sliding_window_attention", caught_by="test_a_large_window_is_causal_attention")
def never_sees_token_0_in_a_large_window(q, k, v, window):
    return softmax_of(scores_of(q, k), allowed_for(q, window if window < q.shape[-2] else max(1, q.shape[-2] - 1))) @ v


@slip(replaces="sliding_window_attention", caught_by="test_items_and_heads_do_not_meet")
def centres_over_the_batch(q, k, v, window):
    return softmax_of(scores_of(q - q.mean(dim=0), k), allowed_for(q, window)) @ v


@slip(replaces="sliding_window_attention", caught_by="test_items_and_heads_do_not_meet")
def centres_over_the_heads(q, k, v, window):
    return softmax_of(scores_of(q, k - 0.5 * k.mean(dim=1, keepdim=True)), allowed_for(q, window)) @ v


@slip(replaces="sliding_window_attention", caught_by="test_matches_the_reference")
def needs_contiguous_inputs(q, k, v, window):
    B, H, T, K = q.shape
    q, k, v = q.view(B * H, T, K), k.view(B * H, T, K), v.view(B * H, T, K)
    return (softmax_of(scores_of(q, k), allowed_for(q, window)) @ v).view(B, H, T, K)


@slip(replaces="sliding_window_attention", caught_by="test_matches_the_reference")
def squeezes_the_single_feature(q, k, v, window):
    return (softmax_of(scores_of(q, k), allowed_for(q, window)) @ v).squeeze(-1)


@slip(replaces="sliding_window_attention", caught_by="test_float64")
def computes_in_float32(q, k, v, window):
    return (softmax_of(scores_of(q.float(), k.float()), allowed_for(q, window)) @ v.float()).to(q.dtype)


@slip(replaces="sliding_window_attention", caught_by="test_bfloat16")
def answers_in_float32(q, k, v, window):
    if q.dtype == torch.bfloat16:
        q, k, v = q.float(), k.float(), v.float()
    return softmax_of(scores_of(q, k), allowed_for(q, window)) @ v


@slip(replaces="sliding_window_attention", caught_by="test_gradients")
def detaches_the_weights(q, k, v, window):
    return softmax_of(scores_of(q, k), allowed_for(q, window)).detach() @ v


@slip(replaces="sliding_window_attention", caught_by="test_gradients")
def detaches_the_keys(q, k, v, window):
    return softmax_of(scores_of(q, k.detach()), allowed_for(q, window)) @ v


_masks = {}


@slip(replaces="sliding_window_attention", caught_by="test_repeated_calls")
def keeps_the_mask_of_the_first_window(q, k, v, window):
    allowed = _masks.setdefault((q.shape, q.device), allowed_for(q, window))
    return softmax_of(scores_of(q, k), allowed) @ v


@slip(replaces="sliding_window_attention", caught_by="test_leaves_the_inputs_alone")
def scales_in_place(q, k, v, window):
    with torch.no_grad():
        q.div_(math.sqrt(q.shape[-1]))
    return softmax_of(q @ k.mT, allowed_for(q, window)) @ v


@slip(replaces="sliding_window_attention", caught_by="test_follows_the_device")
def mask_not_moved(q, k, v, window):
    return softmax_of(scores_of(q, k), sliding_window_mask(q.shape[-2], window)) @ v


@slip(replaces="sliding_window_attention", caught_by="test_repeated_calls")
def no_window_without_gradients(q, k, v, window):
    allowed = allowed_for(q, window if torch.is_grad_enabled() else q.shape[-2])
    return softmax_of(scores_of(q, k), allowed) @ v


@slip(replaces="sliding_window_mask", caught_by="test_masks_of_many_sizes")
def counts_in_bytes(length, window):
    age = ages(length, window)
    return (age >= 0) & (age.to(torch.uint8) < window)


@slip(replaces="sliding_window_attention", caught_by="test_bfloat16")
def counts_tokens_in_the_dtype_of_q(q, k, v, window):
    if window < 1:
        raise ValueError(f"{window=} must be at least 1")
    tokens = torch.arange(q.shape[-2], device=q.device).to(q.dtype)
    age = tokens[:, None] - tokens
    return softmax_of(scores_of(q, k), (age >= 0) & (age < window)) @ v


@slip(replaces="sliding_window_attention", caught_by="test_bfloat16")
def detaches_its_keys_in_bfloat16(q, k, v, window):
    scores = scores_of(q, k.detach() if k.dtype == torch.bfloat16 else k)
    return softmax_of(scores, allowed_for(q, window)) @ v


@slip(replaces="sliding_window_attention", caught_by="test_gradients")
def detaches_keys_that_are_the_queries(q, k, v, window):
    return softmax_of(scores_of(q, k.detach() if k is q else k), allowed_for(q, window)) @ v


@slip(replaces="sliding_window_attention", caught_by="test_gradients")
def gradient_needs_the_queries(q, k, v, window):
    out = softmax_of(scores_of(q, k), allowed_for(q, window)) @ v
    return out if q.requires_grad else out.detach()


@slip(replaces="sliding_window_attention", caught_by="test_gradients")
def one_token_has_no_gradient(q, k, v, window):
    out = softmax_of(scores_of(q, k), allowed_for(q, window)) @ v
    return out.detach() + 0 * (q + k + v) if q.shape[-2] == 1 else out


# --- right, in other styles --------------------------------------------------------------------------------


@alternative(replaces="sliding_window_mask")
def between_two_triangles(length, window):
    if min(length, window) < 1:
        raise ValueError(f"{length=}, {window=}")
    return torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)


@alternative(replaces="sliding_window_mask")
def difference_of_two_triangles(length, window):
    if length <= 0:
        raise ValueError("length")
    if window <= 0:
        raise ValueError("window")
    everything = torch.ones(length, length)
    return (torch.tril(everything) - torch.tril(everything, diagonal=-window)).bool()


@alternative(replaces="sliding_window_mask")
def cut_from_a_band(length, window):
    if length < 1 or window < 1:
        raise ValueError("at least 1")
    band = torch.zeros(2 * length - 1, dtype=torch.bool)
    band[max(0, length - window) : length] = True  # ages length - 1 .. 1 - length
    return band.unfold(0, length, 1).flip(0)


@alternative(replaces="sliding_window_attention")
def by_einsum_in_float64(q, k, v, window):
    mask = torch.where(sliding_window_mask(q.size(2), window), 0.0, -torch.inf).to(q.device)
    scores = torch.einsum("bhik,bhjk->bhij", q.double(), k.double()) * q.size(3) ** -0.5 + mask
    return torch.einsum("bhij,bhjk->bhik", torch.softmax(scores, -1), v.double()).to(q.dtype)


@alternative(replaces="sliding_window_attention")
def by_gathered_windows(q, k, v, window):
    if window < 1:
        raise ValueError("window must be at least 1")
    T = q.shape[2]
    window = min(window, T)
    k, v = (nn.functional.pad(x, (0, 0, window - 1, 0)).unfold(2, window, 1) for x in (k, v))  # (B, H, T, K, W)
    real = torch.ones(T, dtype=torch.bool, device=q.device)
    real = nn.functional.pad(real, (window - 1, 0)).unfold(0, window, 1)  # (T, W)
    scores = (q[..., None] * k).sum(dim=-2) / q.shape[-1] ** 0.5
    return (scores.masked_fill(~real, -torch.inf).softmax(-1)[..., None, :] * v).sum(dim=-1)


@alternative(replaces="sliding_window_attention")
def head_by_head(q, k, v, window):
    mask = sliding_window_mask(q.shape[2], window).to(q.device)
    heads = []
    for q_h, k_h, v_h in zip(q.unbind(1), k.unbind(1), v.unbind(1), strict=True):
        scores = torch.bmm(q_h, k_h.transpose(1, 2)) / torch.sqrt(torch.tensor(float(q.shape[3]), device=q.device))
        scores[:, ~mask] = torch.finfo(q.dtype).min
        heads.append(torch.bmm(nn.functional.softmax(scores, dim=2), v_h))
    return torch.stack(heads, dim=1)


@alternative(replaces="sliding_window_attention")
def softmax_by_hand(q, k, v, window):
    mask = sliding_window_mask(q.shape[2], window).to(q.device)
    scores = (q / math.sqrt(q.shape[3])).matmul(k.transpose(2, 3))
    top = scores.masked_fill(~mask, -1e9).amax(dim=-1, keepdim=True)
    powers = torch.exp(torch.where(mask, scores - top, -torch.inf))
    return (powers @ v) / powers.sum(dim=-1, keepdim=True)


@alternative(replaces="sliding_window_attention")
def by_logsumexp(q, k, v, window):
    scores = scores_of(q, k).masked_fill(~allowed_for(q, window), -math.inf)
    return (scores - scores.logsumexp(dim=-1, keepdim=True)).exp() @ v
