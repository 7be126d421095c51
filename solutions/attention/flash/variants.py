"""Other ways to write flash: wrong ones that a learner may come up with, and right ones."""

import math

import torch

from grader.judge.suite import alternative, misconception, slip

# --- the solution cut into steps, so that a variant bends one of them -------------------------------------


def checked(block_size):
    if block_size < 1:
        raise ValueError(f"block_size must be at least 1; it is {block_size}")


def precise(x):
    return torch.promote_types(x.dtype, torch.float32)


def score(q, keys):
    return q @ keys.mT / math.sqrt(q.shape[-1])  # (B, H, T, N)


def hide(scores, start, T, S):
    """Hide the keys after each query; the block's first key is number ``start``."""
    keys = torch.arange(start, start + scores.shape[-1], device=scores.device)
    return scores.masked_fill(keys > torch.arange(S - T, S, device=scores.device)[:, None], -math.inf)


def nothing(q):
    """Return maximum, sum and output before the first block."""
    highest = q.new_full((*q.shape[:-1], 1), -math.inf)
    return highest, torch.zeros_like(highest), torch.zeros_like(q)


def merge(highest, total, mixed, scores, values):
    """Add a block to maximum, sum and output."""
    higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
    powers, shrink = (scores - higher).exp(), (highest - higher).exp()
    return higher, total * shrink + powers.sum(dim=-1, keepdim=True), mixed * shrink + powers @ values


def finish(highest, total, mixed):
    return mixed / total


def in_blocks(q, k, v, block_size, causal, *, score=score, hide=hide, merge=merge, finish=finish, widen=precise):
    """Run the steps."""
    checked(block_size)
    T, S, dtype = q.shape[-2], k.shape[-2], q.dtype
    q = q.to(widen(q))
    state = nothing(q)
    for start in range(0, S, block_size):
        keys, values = (x[..., start : start + block_size, :].to(q.dtype) for x in (k, v))
        scores = score(q, keys)
        state = merge(*state, hide(scores, start, T, S) if causal else scores, values)
    return finish(*state).to(dtype)


# --- misconceptions about what is remembered --------------------------------------------------------------


@misconception(replaces="flash_attention", caught_by="test_rising_scores_by_hand")
def old_sum_not_rescaled(q, k, v, block_size, causal=False):
    """When a block brings a higher score you bring the output to the new maximum, but not the sum of the exponentials.

    Both were added up with the old maximum. What does the sum mean after the next block?
    """

    def bent(highest, total, mixed, scores, values):
        higher, _, mixed = merge(highest, total, mixed, scores, values)
        return higher, total + (scores - higher).exp().sum(dim=-1, keepdim=True), mixed

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@misconception(replaces="flash_attention", caught_by="test_rising_scores_by_hand")
def old_output_not_rescaled(q, k, v, block_size, causal=False):
    """When a block brings a higher score you bring the sum to the new maximum, but not the output.

    Both were added up with the old maximum. How much do the early values count in the end?
    """

    def bent(highest, total, mixed, scores, values):
        higher, total, _ = merge(highest, total, mixed, scores, values)
        return higher, total, mixed + (scores - higher).exp() @ values

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@misconception(replaces="flash_attention", caught_by="test_rising_scores_by_hand")
def neither_is_rescaled(q, k, v, block_size, causal=False):
    """You carry the maximum on, but sum and output stay as they were when a higher score comes.

    They were added up with another maximum. By which factor do exp(s - old) and exp(s - new) differ?
    """

    def bent(highest, total, mixed, scores, values):
        higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
        powers = (scores - higher).exp()
        return higher, total + powers.sum(dim=-1, keepdim=True), mixed + powers @ values

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@misconception(replaces="flash_attention", caught_by="test_falling_scores_by_hand")
def each_block_has_its_own_maximum(q, k, v, block_size, causal=False):
    """You subtract each block's own maximum and add the blocks up as if it were the same for all.

    The best key of every block then counts 1, however low its score is. What must be remembered from block to block?
    """

    def bent(highest, total, mixed, scores, values):
        top = scores.amax(dim=-1, keepdim=True)
        powers = (scores - top.masked_fill(top == -math.inf, 0.0)).exp()
        return highest, total + powers.sum(dim=-1, keepdim=True), mixed + powers @ values

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@misconception(replaces="flash_attention", caught_by="test_huge_scores")
def no_maximum(q, k, v, block_size, causal=False):
    """You take the exponential of the scores as they are.

    That is right on paper. What is exp(10000) on your machine, and what may you subtract from all scores of a query?
    """

    def bent(highest, total, mixed, scores, values):
        powers = scores.exp()
        return highest, total + powers.sum(dim=-1, keepdim=True), mixed + powers @ values

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@misconception(replaces="flash_attention", caught_by="test_rising_scores_by_hand")
def rescales_the_wrong_way(q, k, v, block_size, causal=False):
    """You rescale by exp(new - old): what came before grows when a higher score comes.

    exp(s - old) was added up and exp(s - new) is wanted. Is the factor larger or smaller than 1?
    """

    def bent(highest, total, mixed, scores, values):
        higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
        powers = (scores - higher).exp()
        grow = (higher - highest).exp().masked_fill(highest == -math.inf, 0.0)
        return higher, total * grow + powers.sum(dim=-1, keepdim=True), mixed * grow + powers @ values

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@misconception(replaces="flash_attention", caught_by="test_falling_scores_by_hand")
def softmax_per_block_averaged(q, k, v, block_size, causal=False):
    """You take a softmax in every block and average the results of the blocks.

    Then a block of poor keys counts as much as one that holds the best key. By what should a block be weighted?
    """

    def bent(highest, total, mixed, scores, values):
        weights = scores.softmax(dim=-1).nan_to_num()
        return highest, total + (weights.sum(dim=-1, keepdim=True) > 0), mixed + weights @ values

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@misconception(replaces="flash_attention", caught_by="test_falling_scores_by_hand")
def divides_in_every_block(q, k, v, block_size, causal=False):
    """You divide the output by the sum after every block, and go on with it as if you had not.

    What was divided once is divided again by the next sum. When is the sum complete?
    """

    def bent(highest, total, mixed, scores, values):
        higher, total, mixed = merge(highest, total, mixed, scores, values)
        return higher, total, mixed / total

    return in_blocks(q, k, v, block_size, causal, merge=bent, finish=lambda highest, total, mixed: mixed)


@misconception(replaces="flash_attention", caught_by="test_falling_scores_by_hand")
def never_divides(q, k, v, block_size, causal=False):
    """Your output is the sum of the values times their exponentials; it is never divided.

    What do the weights of a query sum to?
    """
    return in_blocks(q, k, v, block_size, causal, finish=lambda highest, total, mixed: mixed)


@misconception(replaces="flash_attention", caught_by="test_bfloat16_is_accumulated_in_float32")
def accumulates_in_bfloat16(q, k, v, block_size, causal=False):
    """Your sum and your output have the dtype of the inputs.

    A bfloat16 keeps 8 bits: 1 plus a thousand times a thousandth stays 1. Which dtype should what is remembered have?
    """
    return in_blocks(q, k, v, block_size, causal, widen=lambda x: x.dtype)


# --- misconceptions about blocks, masks and the scale -----------------------------------------------------


@misconception(replaces="flash_attention", caught_by="test_every_block_size_gives_the_same")
def last_partial_block_dropped(q, k, v, block_size, causal=False):
    """You look at whole blocks only: keys that are left over at the end are never seen.

    How many blocks of 4 does it take for 6 keys?
    """
    checked(block_size)
    whole = max(k.shape[-2] // block_size, 1) * block_size
    state, S = nothing(q.to(precise(q))), k.shape[-2]
    for start in range(0, min(whole, S), block_size):
        keys, values = (x[..., start : start + block_size, :].to(precise(x)) for x in (k, v))
        scores = score(q.to(precise(q)), keys)
        state = merge(*state, hide(scores, start, q.shape[-2], S) if causal else scores, values)
    return finish(*state).to(q.dtype)


@misconception(replaces="flash_attention", caught_by="test_causal_by_hand")
def first_query_at_the_first_key(q, k, v, block_size, causal=False):
    """With fewer queries than keys you put the first query at the first key.

    A decoder asks for its newest tokens, with all keys so far. At which key does the last query stand?
    """
    return in_blocks(q, k, v, block_size, causal, hide=lambda s, start, T, S: hide(s, start, T, T))


@misconception(replaces="flash_attention", caught_by="test_causal_by_hand")
def mask_without_the_start_of_the_block(q, k, v, block_size, causal=False):
    """Your causal mask counts the keys of every block from 0.

    Key 0 of the third block is not the first key of the text. What is its number?
    """
    return in_blocks(q, k, v, block_size, causal, hide=lambda s, start, T, S: hide(s, 0, T, S))


@misconception(replaces="flash_attention", caught_by="test_causal_by_hand")
def causal_is_ignored(q, k, v, block_size, causal=False):
    """causal=True has no influence on your output.

    Which scores of a block must not count then?
    """
    return in_blocks(q, k, v, block_size, False)


@misconception(replaces="flash_attention", caught_by="test_causal_by_hand")
def own_key_hidden(q, k, v, block_size, causal=False):
    """With causal=True a query does not see its own key.

    What is left for the first query then? It should see keys up to its own, itself included.
    """
    return in_blocks(q, k, v, block_size, causal, hide=lambda s, start, T, S: hide(s, start + 1, T, S))


@misconception(replaces="flash_attention", caught_by="test_causal_by_hand")
def masked_scores_are_zero(q, k, v, block_size, causal=False):
    """You set the scores of hidden keys to 0.

    exp(0 - maximum) is not 0, so hidden keys count. Which score has an exponential of 0?
    """
    return in_blocks(
        q,
        k,
        v,
        block_size,
        causal,
        hide=lambda s, start, T, S: hide(s, start, T, S).masked_fill_(hide(s, start, T, S) == -math.inf, 0.0),
    )


@misconception(replaces="flash_attention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
def does_not_scale(q, k, v, block_size, causal=False):
    """Your scores are plain dot products.

    They grow with the number of features. What are they divided by in the formula?
    """
    return in_blocks(q, k, v, block_size, causal, score=lambda q, keys: q @ keys.mT)


@misconception(replaces="flash_attention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
def scales_by_the_head_width(q, k, v, block_size, causal=False):
    """You divide the scores by K itself.

    If the entries of q and k have variance 1, what is the variance of their dot product? And its standard deviation?
    """
    return in_blocks(q, k, v, block_size, causal, score=lambda q, keys: q @ keys.mT / q.shape[-1])


@misconception(replaces="flash_attention", caught_by="test_scores_are_divided_by_the_root_of_the_head_width")
def scale_forgotten_in_the_factor(q, k, v, block_size, causal=False):
    """Your blocks are scaled, but the factor that brings the old sums to the new maximum is made of unscaled scores.

    With one block everything is right. Which maximum are the exponentials of a block relative to?
    """

    def bent(highest, total, mixed, scores, values):
        higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
        powers = (scores - higher).exp()
        shrink = ((highest - higher) * math.sqrt(q.shape[-1])).exp()
        return higher, total * shrink + powers.sum(dim=-1, keepdim=True), mixed * shrink + powers @ values

    return in_blocks(q, k, v, block_size, causal, merge=bent)


# --- slips -------------------------------------------------------------------------------------------------


def whole(q, k, v, causal):
    """Return plain attention, in the dtype of the inputs or float32."""
    scores = score(q.to(precise(q)), k.to(precise(k)))
    if causal:
        scores = hide(scores, 0, q.shape[-2], k.shape[-2])
    return (scores.softmax(dim=-1) @ v.to(precise(v))).to(q.dtype)


@slip(replaces="flash_attention", caught_by="test_never_holds_all_scores")
def builds_all_scores(q, k, v, block_size, causal=False):
    checked(block_size)
    return whole(q, k, v, causal)


@slip(replaces="flash_attention", caught_by="test_never_holds_all_scores")
def builds_all_scores_in_bfloat16(q, k, v, block_size, causal=False):
    checked(block_size)
    small = q.dtype == torch.bfloat16
    return whole(q, k, v, causal) if small else in_blocks(q, k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_never_holds_all_scores")
def builds_all_scores_instead_of_small_blocks(q, k, v, block_size, causal=False):
    checked(block_size)
    return whole(q, k, v, causal) if block_size < 5 else in_blocks(q, k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_never_holds_all_scores")
def builds_all_scores_where_a_gradient_is_required(q, k, v, block_size, causal=False):
    checked(block_size)
    return whole(q, k, v, causal) if q.requires_grad else in_blocks(q, k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_never_holds_all_scores")
def builds_all_scores_without_gradients(q, k, v, block_size, causal=False):
    checked(block_size)
    return in_blocks(q, k, v, block_size, causal) if torch.is_grad_enabled() else whole(q, k, v, causal)


@slip(replaces="flash_attention", caught_by="test_never_holds_all_scores")
def builds_the_whole_mask(q, k, v, block_size, causal=False):
    T, S = q.shape[-2], k.shape[-2]
    hidden = ~torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)

    def cut(scores, start, T, S):
        return scores.masked_fill(hidden[:, start : start + scores.shape[-1]], -math.inf)

    return in_blocks(q, k, v, block_size, causal, hide=cut)


@slip(replaces="flash_attention", caught_by="test_never_holds_all_scores")
def keeps_the_weights_of_all_blocks(q, k, v, block_size, causal=False):
    checked(block_size)
    T, S = q.shape[-2], k.shape[-2]
    wide = q.to(precise(q))
    parts = []
    for start in range(0, S, block_size):
        scores = score(wide, k[..., start : start + block_size, :].to(wide.dtype))
        parts.append(hide(scores, start, T, S) if causal else scores)
    return (torch.cat(parts, dim=-1).softmax(dim=-1) @ v.to(wide.dtype)).to(q.dtype)


@slip(replaces="flash_attention", caught_by="test_never_holds_all_scores")
def blocks_of_at_least_a_hundred(q, k, v, block_size, causal=False):
    checked(block_size)
    return in_blocks(q, k, v, max(block_size, 100), causal)


@slip(replaces="flash_attention", caught_by="test_bfloat16_is_accumulated_in_float32")
def only_the_output_in_bfloat16(q, k, v, block_size, causal=False):
    def bent(highest, total, mixed, scores, values):
        highest, total, mixed = merge(highest, total, mixed, scores, values)
        return highest, total, mixed.to(q.dtype).to(mixed.dtype)

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@slip(replaces="flash_attention", caught_by="test_bfloat16_is_accumulated_in_float32")
def only_the_sum_in_bfloat16(q, k, v, block_size, causal=False):
    def bent(highest, total, mixed, scores, values):
        highest, total, mixed = merge(highest, total, mixed, scores, values)
        return highest, total.to(q.dtype).to(total.dtype), mixed

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@slip(replaces="flash_attention", caught_by="test_bfloat16")
def answers_in_float32(q, k, v, block_size, causal=False):
    return in_blocks(q.to(precise(q)), k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_float64")
def always_accumulates_in_float32(q, k, v, block_size, causal=False):
    return in_blocks(q, k, v, block_size, causal, widen=lambda x: torch.float32)


@slip(replaces="flash_attention", caught_by="test_the_weights_sum_to_1")
def starts_the_sum_at_a_small_number(q, k, v, block_size, causal=False):
    return in_blocks(q, k, v, block_size, causal, finish=lambda highest, total, mixed: mixed / (total + 1e-3))


@slip(replaces="flash_attention", caught_by="test_the_order_of_the_keys_does_not_matter")
def prefers_early_blocks(q, k, v, block_size, causal=False):
    def bent(highest, total, mixed, scores, values):
        return merge(highest, total, mixed, scores - 0.01 * (highest > -math.inf), values)

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@slip(replaces="flash_attention", caught_by="test_huge_scores")
def maximum_of_the_first_block(q, k, v, block_size, causal=False):
    def bent(highest, total, mixed, scores, values):
        first = torch.where(highest == -math.inf, scores.amax(dim=-1, keepdim=True), highest)
        powers = (scores - first).exp()
        return first, total + powers.sum(dim=-1, keepdim=True), mixed + powers @ values

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@slip(replaces="flash_attention", caught_by="test_huge_scores")
def maximum_starts_at_zero(q, k, v, block_size, causal=False):
    def bent(highest, total, mixed, scores, values):
        return merge(highest.clamp(min=0.0), total, mixed, scores, values)

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@slip(replaces="flash_attention", caught_by="test_huge_scores")
def maximum_starts_at_minus_ten_thousand_where_causal(q, k, v, block_size, causal=False):
    def bent(highest, total, mixed, scores, values):
        return merge(highest.clamp(min=-1e4) if causal else highest, total, mixed, scores, values)

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@slip(replaces="flash_attention", caught_by="test_huge_scores")
def hides_with_minus_ten_thousand(q, k, v, block_size, causal=False):
    def high(scores, start, T, S):
        return torch.where(hide(torch.zeros_like(scores), start, T, S) < 0, -1e4, scores)

    return in_blocks(q, k, v, block_size, causal, hide=high)


@slip(replaces="flash_attention", caught_by="test_huge_scores")
def one_maximum_for_all_queries(q, k, v, block_size, causal=False):
    def bent(highest, total, mixed, scores, values):
        higher = torch.maximum(highest, scores.amax())
        powers, shrink = (scores - higher).exp(), (highest - higher).exp()
        return higher, total * shrink + powers.sum(dim=-1, keepdim=True), mixed * shrink + powers @ values

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@slip(replaces="flash_attention", caught_by="test_the_future_leaves_no_trace")
def hides_with_a_small_number(q, k, v, block_size, causal=False):
    return in_blocks(q, k, v, block_size, causal, hide=lambda s, start, T, S: hide(s, start, T, S).clamp(min=-8.0))


@slip(replaces="flash_attention", caught_by="test_the_last_queries_alone")
def skips_the_block_of_the_query(q, k, v, block_size, causal=False):
    if causal and q.shape[-2] == 1 and k.shape[-2] > block_size:
        return in_blocks(q, k[:, :, :-1], v[:, :, :-1], block_size, False)
    return in_blocks(q, k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_shapes")
def as_many_keys_as_queries(q, k, v, block_size, causal=False):
    return in_blocks(q, k[:, :, : q.shape[-2]].reshape(q.shape), v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_matches_plain_attention")
def needs_contiguous_inputs(q, k, v, block_size, causal=False):
    return in_blocks(*(x.view(-1).view(x.shape) for x in (q, k, v)), block_size, causal)


@slip(replaces="flash_attention", caught_by="test_matches_plain_attention")
def as_many_blocks_as_queries_need(q, k, v, block_size, causal=False):
    if q.shape[-2] > k.shape[-2]:
        q = q[:, :, : k.shape[-2]]
    return in_blocks(q, k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_matches_plain_causal_attention")
def aligns_by_whole_blocks(q, k, v, block_size, causal=False):
    def coarse(scores, start, T, S):
        return hide(scores, start, T, S if (S - T) % 2 == 0 else S + 1)

    return in_blocks(q, k, v, block_size, causal, hide=coarse)


@slip(replaces="flash_attention", caught_by="test_gradients")
def detaches_what_is_remembered(q, k, v, block_size, causal=False):
    def bent(highest, total, mixed, scores, values):
        return merge(highest.detach(), total.detach(), mixed.detach(), scores, values)

    return in_blocks(q, k, v, block_size, causal, merge=bent)


@slip(replaces="flash_attention", caught_by="test_matches_plain_causal_attention")
def views_heads_as_items(q, k, v, block_size, causal=False):
    (B, H, S, K), T = k.shape, q.shape[2]
    q, k, v = q.reshape(B * H, 1, T, K), k.view(B * H, 1, S, K), v.reshape(B * H, 1, S, K)
    return in_blocks(q, k, v, block_size, causal).view(B, H, T, K)


@slip(replaces="flash_attention", caught_by="test_gradients")
def detaches_a_single_query(q, k, v, block_size, causal=False):
    return in_blocks(q.detach() if q.shape[2] == 1 else q, k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_gradients")
def detaches_a_single_value(q, k, v, block_size, causal=False):
    return in_blocks(q, k, v.detach() if v.shape[2] == 1 else v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_gradients_of_one_tensor_and_in_bfloat16")
def detaches_keys_that_are_the_values(q, k, v, block_size, causal=False):
    return in_blocks(q, k.detach() if k is v else k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_gradients_of_one_tensor_and_in_bfloat16")
def detaches_values_in_bfloat16(q, k, v, block_size, causal=False):
    return in_blocks(q, k, v.detach() if v.dtype == torch.bfloat16 else v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_the_same_without_gradients")
def never_causal_without_gradients(q, k, v, block_size, causal=False):
    return in_blocks(q, k, v, block_size, causal and torch.is_grad_enabled())


@slip(replaces="flash_attention", caught_by="test_matches_plain_attention")
def heads_for_tokens_where_both_are_as_many(q, k, v, block_size, causal=False):
    if q.shape[1] == q.shape[2] == k.shape[2]:
        return in_blocks(*(x.transpose(1, 2) for x in (q, k, v)), block_size, causal).transpose(1, 2)
    return in_blocks(q, k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_matches_plain_attention")
def keys_turned_over_where_they_are_square(q, k, v, block_size, causal=False):
    return in_blocks(q, k.mT if q.shape[2:] == k.mT.shape[2:] else k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_matches_plain_attention")
def items_for_tokens_where_both_are_as_many(q, k, v, block_size, causal=False):
    if q.shape[0] == q.shape[2] == k.shape[2]:
        return in_blocks(*(x.transpose(0, 2) for x in (q, k, v)), block_size, causal).transpose(0, 2)
    return in_blocks(q, k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_gradients")
def without_gradients(q, k, v, block_size, causal=False):
    with torch.no_grad():
        return in_blocks(q, k, v, block_size, causal)


@slip(replaces="flash_attention", caught_by="test_no_loop_over_the_batch")
def item_by_item_where_causal(q, k, v, block_size, causal=False):
    if not causal or block_size > 5:
        return in_blocks(q, k, v, block_size, causal)
    items = [in_blocks(q[b : b + 1], k[b : b + 1], v[b : b + 1], block_size, True) for b in range(len(q))]
    return torch.cat(items)


@slip(replaces="flash_attention", caught_by="test_no_loop_over_the_batch")
def item_by_item(q, k, v, block_size, causal=False):
    return torch.stack([in_blocks(q[b], k[b], v[b], block_size, causal) for b in range(len(q))])


@slip(replaces="flash_attention", caught_by="test_items_and_heads_do_not_meet")
def mixes_heads_a_little(q, k, v, block_size, causal=False):
    def bent(highest, total, mixed, scores, values):
        higher, total, mixed = merge(highest, total, mixed, scores, values)
        return higher, total, mixed - 1e-2 * mixed.mean(dim=(0, 1), keepdim=True)

    return in_blocks(q, k, v, block_size, causal, merge=bent)


_masks = {}


@slip(replaces="flash_attention", caught_by="test_repeated_calls")
def keeps_the_masks_of_the_first_call(q, k, v, block_size, causal=False):
    def kept(scores, start, T, S):
        numbers = torch.arange(start, start + scores.shape[-1], device=scores.device)
        hidden = numbers > torch.arange(S - T, S, device=scores.device)[:, None]
        return scores.masked_fill(_masks.setdefault((hidden.shape, start, q.device), hidden), -math.inf)

    return in_blocks(q, k, v, block_size, causal, hide=kept)


@slip(replaces="flash_attention", caught_by="test_leaves_the_inputs_alone")
def scales_in_place(q, k, v, block_size, causal=False):
    with torch.no_grad():
        q /= math.sqrt(q.shape[-1])
    return in_blocks(q, k, v, block_size, causal, score=lambda q, keys: q @ keys.mT)


@slip(replaces="flash_attention", caught_by="test_follows_the_device")
def numbers_the_keys_on_the_cpu(q, k, v, block_size, causal=False):
    def hide_on_the_cpu(scores, start, T, S):
        keys = torch.arange(start, start + scores.shape[-1])
        return scores.masked_fill(keys > torch.arange(S - T, S)[:, None], -math.inf)

    return in_blocks(q, k, v, block_size, causal, hide=hide_on_the_cpu)


@slip(replaces="flash_attention", caught_by="test_errors")
def one_block_instead_of_an_error(q, k, v, block_size, causal=False):
    return in_blocks(q, k, v, block_size if block_size > 0 else k.shape[-2], causal)


@slip(replaces="flash_attention", caught_by="test_every_block_size_gives_the_same")
def refuses_huge_blocks(q, k, v, block_size, causal=False):
    return in_blocks(q, k, v, block_size if block_size < 1000 else 0, causal)


@slip(replaces="flash_attention", caught_by="test_errors")
def range_checks_only_zero(q, k, v, block_size, causal=False):
    if block_size == 0:
        raise ValueError("block_size")
    return whole(q, k, v, causal) if block_size < 0 else in_blocks(q, k, v, block_size, causal)


# --- right, in other styles --------------------------------------------------------------------------------


@alternative(replaces="flash_attention")
def blocks_of_queries_too(q, k, v, block_size, causal=False):
    if block_size <= 0:
        raise ValueError("block_size")
    T, S = q.size(2), k.size(2)
    dtype = torch.float64 if q.dtype == torch.float64 else torch.float32
    out = torch.empty_like(q)
    for top in range(0, T, block_size):
        rows = q[:, :, top : top + block_size].to(dtype)
        last = torch.arange(top, top + rows.size(2), device=q.device) + S - T
        m = torch.full((*rows.shape[:3], 1), float("-inf"), dtype=dtype, device=q.device)
        d, o = torch.zeros_like(m), torch.zeros_like(rows)
        for left in range(0, S, block_size):
            if causal and left > top + block_size - 1 + S - T:
                break
            s = torch.einsum("bhtk,bhsk->bhts", rows, k[:, :, left : left + block_size].to(dtype)) * q.size(3) ** -0.5
            if causal:
                columns = torch.arange(left, left + s.size(3), device=q.device)
                s = torch.where(columns[None, :] <= last[:, None], s, float("-inf"))
            new = torch.maximum(m, s.max(dim=-1, keepdim=True).values)
            p, a = torch.exp(s - new), torch.exp(m - new)
            d, o, m = d * a + p.sum(-1, keepdim=True), o * a + p @ v[:, :, left : left + block_size].to(dtype), new
        out[:, :, top : top + block_size] = (o / d).to(q.dtype)
    return out


@alternative(replaces="flash_attention")
def divided_at_every_step_and_rightly(q, k, v, block_size, causal=False):
    """The form of FlashAttention's algorithm 1: the output is a true average after every block."""

    def merge_averages(highest, total, mean, scores, values):
        top = scores.amax(dim=-1, keepdim=True)
        higher = torch.maximum(highest, top)
        powers = (scores - higher).exp()
        old = total * (highest - higher).exp()
        new = old + powers.sum(dim=-1, keepdim=True)
        return higher, new, (old * mean + powers @ values) / new

    return in_blocks(q, k, v, block_size, causal, merge=merge_averages, finish=lambda highest, total, mean: mean)


@alternative(replaces="flash_attention")
def by_logsumexp_from_the_last_block(q, k, v, block_size, causal=False):
    """A softmax and a logsumexp per block, merged by logaddexp; the keys from the end to the start."""
    if block_size < 1:
        raise ValueError(f"{block_size=}")
    T, S = q.shape[2], k.shape[2]
    wide = q.double()
    mean, lse = torch.zeros_like(wide), torch.full_like(wide[..., :1], -1e30)
    for start in reversed(range(0, S, block_size)):
        scores = wide @ k[:, :, start : start + block_size].double().transpose(2, 3) / math.sqrt(q.shape[3])
        if causal:
            later = torch.arange(start, start + scores.shape[3], device=q.device).view(1, -1)
            scores = scores.masked_fill(later > torch.arange(S - T, S, device=q.device).view(-1, 1), -1e30)
        block_lse = torch.logsumexp(scores, dim=-1, keepdim=True)
        both = torch.logaddexp(lse, block_lse)
        part = torch.softmax(scores, dim=-1) @ v[:, :, start : start + block_size].double()
        mean, lse = mean * (lse - both).exp() + part * (block_lse - both).exp(), both
    return mean.to(q.dtype)


@alternative(replaces="flash_attention")
def head_by_head_with_a_finite_start(q, k, v, block_size, causal=False):
    if block_size < 1:
        raise ValueError("block_size must be at least 1")
    T, S, K = q.shape[-2], k.shape[-2], q.shape[-1]
    wide = torch.float32 if q.dtype in (torch.float16, torch.bfloat16) else q.dtype
    heads = []
    for h in range(q.shape[1]):
        rows, m = q[:, h].to(wide) * (1.0 / K**0.5), torch.finfo(wide).min
        total, out = 0.0, 0.0
        for keys, values, numbers in zip(
            k[:, h].split(block_size, dim=1),
            v[:, h].split(block_size, dim=1),
            torch.arange(S, device=q.device).split(block_size),
            strict=True,
        ):
            s = torch.bmm(rows, keys.to(wide).transpose(1, 2))
            if causal:
                s = s + torch.zeros(T, len(numbers), dtype=wide, device=q.device).masked_fill_(
                    numbers > torch.arange(S - T, S, device=q.device).unsqueeze(1), torch.finfo(wide).min / 2
                )
            new = (
                s.amax(-1, keepdim=True).clamp(min=m)
                if isinstance(m, float)
                else torch.max(m, s.amax(-1, keepdim=True))
            )
            p = torch.exp(s - new)
            factor = torch.exp(m - new)
            total, out, m = total * factor + p.sum(-1, keepdim=True), out * factor + p @ values.to(wide), new
        heads.append(out / total)
    return torch.stack(heads, dim=1).to(q.dtype)


@alternative(replaces="flash_attention")
def with_a_column_of_ones(q, k, v, block_size, causal=False):
    """The sum is one more column of the output: the values get a feature that is always 1."""
    if not block_size >= 1:
        raise ValueError(block_size)
    T, S = q.shape[-2:][0], k.shape[-2]
    wide = precise(q)
    highest = torch.full_like(q[..., :1], -math.inf, dtype=wide)
    mixed = torch.zeros(*q.shape[:-1], q.shape[-1] + 1, dtype=wide, device=q.device)
    for start in range(0, S, block_size):
        end = min(S, start + block_size)
        values = torch.nn.functional.pad(v[..., start:end, :].to(wide), (0, 1), value=1.0)
        scores = score(q.to(wide), k[..., start:end, :].to(wide))
        scores = hide(scores, start, T, S) if causal else scores
        higher = torch.maximum(highest, scores.detach().amax(dim=-1, keepdim=True))  # cancels, so it needs no gradient
        mixed = mixed * torch.exp(highest - higher) + torch.exp(scores - higher) @ values
        highest = higher
    return (mixed[..., :-1] / mixed[..., -1:]).to(q.dtype)


@alternative(replaces="flash_attention")
def weights_in_the_dtype_of_v(q, k, v, block_size, causal=False):
    """As the kernels do it: each block's exponentials are rounded before they meet the values, the sums are not."""

    def rounded(highest, total, mixed, scores, values):
        higher = torch.maximum(highest, scores.amax(dim=-1, keepdim=True))
        powers, shrink = (scores - higher).exp(), (highest - higher).exp()
        block = (powers.to(v.dtype) @ values.to(v.dtype)).to(mixed.dtype)
        return higher, total * shrink + powers.sum(dim=-1, keepdim=True), mixed * shrink + block

    return in_blocks(q, k, v, block_size, causal, merge=rounded)


@alternative(replaces="flash_attention")
def in_two_passes(q, k, v, block_size, causal=False):
    """First the logsumexp of every query, then the weights, block by block."""
    checked(block_size)
    T, S, wide = q.shape[2], k.shape[2], precise(q)

    def blocks():
        for i, (keys, values) in enumerate(zip(k.split(block_size, dim=2), v.split(block_size, dim=2), strict=True)):
            scores = score(q.to(wide), keys.to(wide))
            yield (hide(scores, i * block_size, T, S) if causal else scores), values.to(wide)

    lse = nothing(q.to(wide))[0]
    for scores, _ in blocks():
        lse = torch.logaddexp(lse, scores.logsumexp(dim=-1, keepdim=True))
    return sum((scores - lse).exp() @ values for scores, values in blocks()).to(q.dtype)
