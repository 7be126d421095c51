"""Other ways to write the masks: wrong on purpose and worth explaining, just wrong, and right."""

import functools
import math

import torch
from torch.nn import functional as F

from grader.judge.suite import alternative, misconception, slip

from .solution import causal_mask, combine_masks, padding_mask


def sizes(len_q, len_k):
    """Return both sizes, refusing what must be refused."""
    len_k = len_q if len_k is None else len_k
    if len_q < 1 or len_k < len_q:
        raise ValueError(f"{len_q} queries and {len_k} keys")
    return len_q, len_k


def square(len_q, len_k, offset):
    """Return a (T, S) mask that is True up to the diagonal ``offset``."""
    return torch.ones(sizes(len_q, len_k), dtype=torch.bool).tril(offset)


def must_fit(lengths, max_len):
    if max_len < 1 or ((lengths < 0) | (lengths > max_len)).any():
        raise ValueError(f"lengths {lengths.tolist()} and max_len {max_len}")


def places(lengths, max_len):
    """Return the numbers of the tokens, shape (S,), after a check of the arguments."""
    must_fit(lengths, max_len)
    return torch.arange(max_len, device=lengths.device)


# --- misconceptions about the causal mask ----------------------------------------------------------------


@misconception(replaces="causal_mask", caught_by="test_causal_by_hand")
def causal_true_means_hidden(len_q, len_k=None):
    """Your causal mask is True where a query must not look.

    nn.MultiheadAttention reads masks that way, F.scaled_dot_product_attention the other way. What does True mean here?
    """
    return ~causal_mask(len_q, len_k)


@misconception(replaces="causal_mask", caught_by="test_causal_by_hand")
def looks_ahead(len_q, len_k=None):
    """Your queries see themselves and the keys after them: the triangle is the upper one.

    Rows are queries and columns are keys. Which of the two must have the larger number, so that nothing of the future
    is seen?
    """
    T, S = sizes(len_q, len_k)
    return torch.ones(T, S, dtype=torch.bool).triu(S - T)


@misconception(replaces="causal_mask", caught_by="test_causal_by_hand")
def sees_one_token_ahead(len_q, len_k=None):
    """Your queries see one key too many: the one right after their own place.

    That is the very token that they should predict. Where does your triangle end, on the diagonal or beside it?
    """
    T, S = sizes(len_q, len_k)
    return square(T, S, S - T + 1)


@misconception(replaces="causal_mask", caught_by="test_causal_by_hand")
def does_not_see_itself(len_q, len_k=None):
    """Your queries see the keys before their own place, but not the one there.

    Then the first token sees nothing at all. Does a token know itself when it guesses the next one?
    """
    T, S = sizes(len_q, len_k)
    return square(T, S, S - T - 1)


@misconception(replaces="causal_mask", caught_by="test_causal_by_hand")
def causal_of_minus_infinity(len_q, len_k=None):
    """Your causal mask holds the numbers 0 and -inf, to be added to the scores.

    Many codes do so. Which dtype is asked for here, and what does True stand for?
    """
    T, S = sizes(len_q, len_k)
    return torch.full((T, S), -math.inf).triu(S - T + 1)


@misconception(replaces="causal_mask", caught_by="test_causal_by_hand")
def causal_of_ones_and_zeros(len_q, len_k=None):
    """Your causal mask holds the numbers 1 and 0 instead of True and False.

    `~mask` and `masked_fill` need truth values. Which dtype does torch.ones make unless it is told otherwise?
    """
    return causal_mask(len_q, len_k).float()


@misconception(replaces="causal_mask", caught_by="test_causal_with_more_keys_by_hand")
def first_query_stands_at_the_first_key(len_q, len_k=None):
    """With more keys than queries, your first query stands at the first key.

    The extra keys are those of earlier tokens, which a cache holds. Which key belongs to the last query?
    """
    return square(len_q, len_k, 0)


@misconception(replaces="causal_mask", caught_by="test_causal_with_more_keys_by_hand")
def shifted_the_wrong_way(len_q, len_k=None):
    """With more keys than queries, your triangle moves to the left, and queries lose keys.

    Should more keys from earlier mean that a query sees more, or less? Which sign has the shift?
    """
    T, S = sizes(len_q, len_k)
    return square(T, S, T - S)


@misconception(replaces="causal_mask", caught_by="test_shapes")
def only_as_many_keys_as_queries(len_q, len_k=None):
    """Your causal mask has as many keys as queries, whatever `len_k` says.

    In training the two agree. How many keys does a single new token meet when 100 came before it?
    """
    T, _ = sizes(len_q, len_k)
    return causal_mask(T)


# --- misconceptions about the padding mask ---------------------------------------------------------------


@misconception(replaces="padding_mask", caught_by="test_padding_by_hand")
def padding_true_means_hidden(lengths, max_len):
    """Your padding mask is True for padding.

    nn.MultiheadAttention's key_padding_mask is like that. What does True mean in this exercise?
    """
    return ~padding_mask(lengths, max_len)


@misconception(replaces="padding_mask", caught_by="test_padding_by_hand")
def one_token_too_many(lengths, max_len):
    """Your padding mask takes the first padded token for a real one.

    The tokens are numbered from 0. Which number has the last real token of a sequence of length 2?
    """
    return places(lengths, max_len) <= lengths[:, None]


@misconception(replaces="padding_mask", caught_by="test_padding_by_hand")
def one_token_too_few(lengths, max_len):
    """Your padding mask takes the last real token for padding.

    The tokens are numbered from 0. How many numbers are there from 0 up to `length - 1`?
    """
    return places(lengths, max_len) < lengths[:, None] - 1


@misconception(replaces="padding_mask", caught_by="test_padding_by_hand")
def padding_in_front(lengths, max_len):
    """Your padding stands before the real tokens.

    Generation often pads so. Where does the padding stand in this exercise?
    """
    return places(lengths, max_len) >= max_len - lengths[:, None]


@misconception(replaces="padding_mask", caught_by="test_padding_by_hand")
def padding_of_ones_and_zeros(lengths, max_len):
    """Your padding mask holds numbers instead of True and False.

    `~mask` and `masked_fill` need truth values. Which dtype is asked for?
    """
    return padding_mask(lengths, max_len).float()


@misconception(replaces="padding_mask", caught_by="test_shapes")
def padding_has_its_axes_already(lengths, max_len):
    """Your padding mask has the axes for heads and queries already: its shape is (B, 1, 1, max_len).

    That is what attention needs in the end, but who adds these axes here? Which shape does the docstring ask for?
    """
    return padding_mask(lengths, max_len)[:, None, None, :]


@misconception(replaces="padding_mask", caught_by="test_refuses_lengths_out_of_range")
def lengths_are_taken_on_trust(lengths, max_len):
    """Your padding mask accepts lengths that cannot be: more tokens than there is room for, or fewer than none.

    Such a number is a mistake made elsewhere. What will a caller see of it if nothing is raised here?
    """
    if max_len < 1:
        raise ValueError("max_len must be at least 1")
    return torch.arange(max_len, device=lengths.device) < lengths[:, None]


@misconception(replaces="padding_mask", caught_by="test_refuses_lengths_out_of_range")
def negative_lengths_are_taken_on_trust(lengths, max_len):
    """Your padding mask refuses lengths that are too large, but none below 0.

    What would a sequence of -1 tokens be?
    """
    must_fit(lengths.clamp(min=0), max_len)
    return torch.arange(max_len, device=lengths.device) < lengths[:, None]


# --- misconceptions about the combination ----------------------------------------------------------------


@misconception(replaces="combine_masks", caught_by="test_combined_by_hand")
def one_mask_is_enough(causal, padding):
    """Your combined mask allows what either mask allows, the future of real tokens among it.

    With masks in which True means hidden, `or` is right. What must hold of both masks if True means may attend?
    """
    return causal | padding[:, None, None, :]


@misconception(replaces="combine_masks", caught_by="test_shapes")
def without_an_axis_for_heads(causal, padding):
    """Your combined mask has the shape (B, T, S), without an axis for the heads.

    Beside scores of shape (B, H, T, S) PyTorch would line B up with the heads. Where must an axis of size 1 stand?
    """
    return causal & padding[:, None, :]


@misconception(replaces="combine_masks", caught_by="test_padding_belongs_to_the_keys")
def padding_hides_queries(causal, padding):
    """Your padding hides rows, which are queries, and leaves the padded keys to be seen.

    Whom does it harm if a padded query looks around, and whom if a real query looks at padding?
    """
    return causal & padding[:, None, :, None]


@misconception(replaces="combine_masks", caught_by="test_padding_belongs_to_the_keys")
def padding_hides_queries_too(causal, padding):
    """Your padding hides keys, which is right, but queries as well.

    The output of a padded query is read by nobody, and a row without a single key is awkward for a softmax. Which of
    the two does the docstring name?
    """
    return causal & padding[:, None, None, :] & padding[:, None, :, None]


@misconception(replaces="combine_masks", caught_by="test_combined_by_hand")
def padding_is_forgotten(causal, padding):
    """Your combined mask is the causal mask, once for every sequence.

    What do two sequences of different lengths have in common, and where do they differ?
    """
    return causal.expand(len(padding), 1, *causal.shape)


@misconception(replaces="combine_masks", caught_by="test_combined_by_hand")
def causal_is_forgotten(causal, padding):
    """Your combined mask is the padding mask, once for every query.

    It lets every token look at those that come later. Which argument has no influence on your result?
    """
    return padding[:, None, None, :].expand(-1, -1, len(causal), -1)


# --- slips -----------------------------------------------------------------------------------------------


@slip(replaces="causal_mask", caught_by="test_every_query_sees_one_key_more")
def a_window_of_four_keys(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    return square(T, S, S - T).triu(S - T - 3)


@slip(replaces="causal_mask", caught_by="test_a_cache_changes_nothing")
def a_single_query_sees_itself(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    return square(T, S, S - T) if T > 1 else torch.arange(S)[None] == S - 1


@slip(replaces="causal_mask", caught_by="test_causal_of_any_size")
def a_table_of_128_tokens(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    return causal_mask(max(128, S))[S - T : S, :S] if S <= 128 else square(T, S, 127)


@slip(replaces="causal_mask", caught_by="test_causal_of_any_size")
def drops_axes_of_size_one(len_q, len_k=None):
    return causal_mask(len_q, len_k).squeeze()


@slip(replaces="causal_mask", caught_by="test_causal_by_hand")
def needs_the_number_of_keys(len_q, len_k):
    return causal_mask(len_q, len_k)


@slip(replaces="causal_mask", caught_by="test_refuses_fewer_keys_than_queries")
def takes_fewer_keys(len_q, len_k=None):
    len_k = len_q if len_k is None else len_k
    if len_q < 1 or len_k < 1:
        raise ValueError("sizes must be at least 1")
    return torch.ones(len_q, len_k, dtype=torch.bool).tril(len_k - len_q)


@slip(replaces="causal_mask", caught_by="test_refuses_fewer_keys_than_queries")
def asserts_the_sizes(len_q, len_k=None):
    assert len_q >= 1
    assert len_k is None or len_k >= len_q
    return causal_mask(len_q, len_k)


@slip(replaces="causal_mask", caught_by="test_refuses_sizes_below_one")
def no_keys_means_as_many_as_queries(len_q, len_k=None):
    return causal_mask(len_q, len_k or len_q)


@slip(replaces="causal_mask", caught_by="test_refuses_sizes_below_one")
def takes_no_queries(len_q, len_k=None):
    len_k = len_q if len_k is None else len_k
    if len_q < 0 or len_k < len_q:
        raise ValueError("fewer keys than queries")
    return torch.ones(len_q, len_k, dtype=torch.bool).tril(len_k - len_q)


@slip(replaces="causal_mask", caught_by="test_no_loop")
def row_by_row(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    mask = torch.zeros(T, S, dtype=torch.bool)
    for q in range(T):
        mask[q, : q + S - T + 1] = True
    return mask


@slip(replaces="causal_mask", caught_by="test_follows_the_device")
def causal_on_the_cpu(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    return torch.ones(T, S, dtype=torch.bool, device="cpu").tril(S - T)


_cached = functools.cache(causal_mask)


@slip(replaces="causal_mask", caught_by="test_follows_the_device")
def cache_forgets_the_device(len_q, len_k=None):
    return _cached(len_q, len_k)


@slip(replaces="padding_mask", caught_by="test_lengths_at_the_limits")
def refuses_length_zero(lengths, max_len):
    if (lengths < 1).any():
        raise ValueError("a sequence has at least one token")
    return padding_mask(lengths, max_len)


@slip(replaces="padding_mask", caught_by="test_lengths_at_the_limits")
def names_it_otherwise(lengths, max_length):
    return padding_mask(lengths, max_length)


@slip(replaces="padding_mask", caught_by="test_lengths_at_the_limits")
def refuses_sequences_without_padding(lengths, max_len):
    if (lengths >= max_len).any():
        raise ValueError("too long")
    return padding_mask(lengths, max_len)


@slip(replaces="padding_mask", caught_by="test_padding_of_any_lengths")
def wants_int64(lengths, max_len):
    must_fit(lengths, max_len)
    return F.one_hot(lengths, max_len + 1).cumsum(dim=1)[:, :-1] == 0


@slip(replaces="padding_mask", caught_by="test_padding_of_any_lengths")
def wants_contiguous_lengths(lengths, max_len):
    return padding_mask(lengths.view(-1, 1)[:, 0] if lengths.is_contiguous() else lengths.sort().values, max_len)


@slip(replaces="padding_mask", caught_by="test_padding_of_any_lengths")
def drops_the_batch_of_one(lengths, max_len):
    return padding_mask(lengths, max_len).squeeze(0)


@slip(replaces="padding_mask", caught_by="test_refuses_lengths_out_of_range")
def cuts_lengths_to_size(lengths, max_len):
    return padding_mask(lengths.clamp(0, max_len), max_len)


@slip(replaces="padding_mask", caught_by="test_refuses_lengths_out_of_range")
def refuses_only_if_all_are_too_long(lengths, max_len):
    if (lengths > max_len).all() or (lengths < 0).all():
        raise ValueError("too long, or below 0")
    return padding_mask(lengths.clamp(0, max_len), max_len)


@slip(replaces="padding_mask", caught_by="test_refuses_lengths_out_of_range")
def looks_at_the_first_length(lengths, max_len):
    must_fit(lengths[:1], max_len)
    return padding_mask(lengths.clamp(0, max_len), max_len)


@slip(replaces="padding_mask", caught_by="test_refuses_lengths_out_of_range")
def refuses_everything(lengths, max_len):
    raise ValueError("no")


@slip(replaces="padding_mask", caught_by="test_refuses_sizes_below_one")
def takes_no_room(lengths, max_len):
    if ((lengths < 0) | (lengths > max(0, max_len))).any():
        raise ValueError("too long, or below 0")
    return torch.arange(max(0, max_len)) < lengths[:, None]


@slip(replaces="padding_mask", caught_by="test_leaves_the_inputs_alone")
def counts_the_lengths_down(lengths, max_len):
    mask = padding_mask(lengths, max_len)
    lengths -= max_len
    return mask


@slip(replaces="padding_mask", caught_by="test_no_loop")
def sequence_by_sequence(lengths, max_len):
    return torch.stack([places(length[None], max_len) < length for length in lengths])


@slip(replaces="combine_masks", caught_by="test_combines_any_masks")
def makes_its_own_causal_mask(causal, padding):
    T, S = causal.shape
    return combine_masks(causal_mask(T, max(T, S))[:, :S], padding)


@slip(replaces="combine_masks", caught_by="test_combines_any_masks")
def hides_padded_queries_of_longer_texts(causal, padding):
    combined = combine_masks(causal, padding)
    return combined & padding[:, None, :, None] if 4 < len(causal) == causal.shape[1] else combined


@slip(replaces="combine_masks", caught_by="test_combines_any_masks")
def wants_contiguous_masks(causal, padding):
    return combine_masks(causal.view(-1).view(causal.shape), padding)


@slip(replaces="combine_masks", caught_by="test_combines_any_masks")
def padding_of_queries_where_they_are_sequences(causal, padding):
    combined = combine_masks(causal, padding)
    return (causal & padding)[:, None, None].expand_as(combined) if len(causal) == len(padding) else combined


@slip(replaces="combine_masks", caught_by="test_padding_belongs_to_the_keys")
def forgets_the_padding_of_a_single_key(causal, padding):
    return combine_masks(causal, padding | (causal.shape[1] == 1))


@slip(replaces="combine_masks", caught_by="test_the_same_without_gradients")
def turned_over_without_gradients(causal, padding):
    combined = combine_masks(causal, padding)
    return combined if torch.is_grad_enabled() else ~combined


@slip(replaces="padding_mask", caught_by="test_padding_of_any_lengths")
def counts_in_float16(lengths, max_len):
    must_fit(lengths, max_len)
    return torch.arange(max_len, device=lengths.device).half() < lengths[:, None].half()


@slip(replaces="padding_mask", caught_by="test_follows_the_device")
def places_on_the_default_device(lengths, max_len):
    must_fit(lengths, max_len)
    return torch.arange(max_len) < lengths[:, None].to(torch.get_default_device())


@slip(replaces="combine_masks", caught_by="test_combines_any_masks")
def padding_of_the_first_sequence(causal, padding):
    return combine_masks(causal, padding[:1]).expand(len(padding), -1, -1, -1)


@slip(replaces="combine_masks", caught_by="test_combined_by_hand")
def true_where_both_agree(causal, padding):
    return causal == padding[:, None, None, :]


@slip(replaces="combine_masks", caught_by="test_padding_belongs_to_the_keys")
def a_padded_token_sees_itself(causal, padding):
    own = torch.eye(*causal.shape, dtype=torch.bool, device=causal.device)
    return combine_masks(causal, padding) | (causal & own)


@slip(replaces="combine_masks", caught_by="test_leaves_the_inputs_alone")
def combines_in_place(causal, padding):
    causal &= padding[0]
    return combine_masks(causal, padding)


@slip(replaces="combine_masks", caught_by="test_no_loop")
def one_sequence_after_the_other(causal, padding):
    return torch.stack([causal & row for row in padding]).unsqueeze(1)


@slip(replaces="combine_masks", caught_by="test_follows_the_device")
def begins_with_ones_on_the_cpu(causal, padding):
    B, (T, S) = len(padding), causal.shape
    return torch.ones(B, 1, T, S, dtype=torch.bool) & combine_masks(causal, padding)


# --- right, written another way --------------------------------------------------------------------------


@alternative(replaces="causal_mask")
def by_comparison(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    own = torch.arange(S - T, S)  # the key at which each query stands
    return torch.arange(S).unsqueeze(0) <= own.unsqueeze(1)


@alternative(replaces="causal_mask")
def without_the_upper_triangle(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    return torch.logical_not(torch.triu(torch.ones(T, S), diagonal=S - T + 1))


@alternative(replaces="causal_mask")
def last_rows_of_the_square(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    return torch.tril(torch.ones((S, S), dtype=torch.bool))[S - T :]


@alternative(replaces="causal_mask")
def cached_keys_beside_the_square(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    return F.pad(torch.ones(T, T).tril(), (S - T, 0), value=1.0).bool()


@alternative(replaces="causal_mask")
def by_lists(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    return torch.tensor([[k <= q + S - T for k in range(S)] for q in range(T)])


@alternative(replaces="causal_mask")
def by_indices(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    mask = torch.zeros(T, S, dtype=torch.bool)
    rows, columns = torch.tril_indices(T, S, S - T)
    mask[rows, columns] = True
    return mask


@alternative(replaces="causal_mask")
def by_where_and_isinf(len_q, len_k=None):
    T, S = sizes(len_q, len_k)
    bias = torch.zeros(T, S).masked_fill(torch.ones(T, S).triu(S - T + 1) == 1, -math.inf)
    return torch.where(bias.isinf(), False, True)


@alternative(replaces="padding_mask")
def padding_by_lists(lengths, max_len):
    must_fit(lengths, max_len)
    rows = [[True] * n + [False] * (max_len - n) for n in lengths.tolist()]
    return torch.tensor(rows, device=lengths.device)


@alternative(replaces="padding_mask")
def padding_from_a_table(lengths, max_len):
    must_fit(lengths, max_len)
    table = torch.ones(max_len + 1, max_len, dtype=torch.bool, device=lengths.device).tril(-1)
    return table[lengths.long()]


@alternative(replaces="padding_mask")
def padding_by_broadcast_tensors(lengths, max_len):
    if max_len <= 0:
        raise ValueError(f"{max_len=}")
    if int(lengths.max()) > max_len or int(lengths.min()) < 0:
        raise ValueError(f"{lengths=}, {max_len=}")
    steps = torch.arange(max_len, dtype=lengths.dtype, device=lengths.device).repeat(lengths.shape[0], 1)
    return torch.lt(steps, lengths.reshape(-1, 1).expand_as(steps))


@alternative(replaces="padding_mask")
def padding_by_counting(lengths, max_len):
    must_fit(lengths, max_len)
    ones = torch.ones(len(lengths), max_len, device=lengths.device)
    return ones.cumsum(dim=1).sub(lengths.unsqueeze(-1)).le(0)


@alternative(replaces="combine_masks")
def combined_by_logical_and(causal, padding):
    return torch.logical_and(causal[None, None], padding.unsqueeze(1).unsqueeze(1))


@alternative(replaces="combine_masks")
def combined_by_filling(causal, padding):
    (B, S), T = padding.shape, causal.shape[0]
    return causal.expand(B, 1, T, S).masked_fill(~padding.view(B, 1, 1, S).expand(B, 1, T, S), False)


@alternative(replaces="combine_masks")
def combined_by_product(causal, padding):
    return torch.einsum("ts,bs->bts", causal.int(), padding.int()).bool()[:, None]


@alternative(replaces="combine_masks")
def combined_as_de_morgan_says(causal, padding):
    return ~(~causal | ~padding[:, None, None])
