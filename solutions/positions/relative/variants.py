"""Other ways to write ``relative``: wrong on purpose and worth explaining, just wrong, and right."""

import functools

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import RelativePosition, relative_index

# --- parts that the variants share, all of them right ----------------------------------------------------


def must_count(*sizes):
    if min(sizes) < 1:
        raise ValueError("every size must be at least 1")


def distances(len_q, len_k):
    """Return k - q, shape (T, S)."""
    return torch.arange(len_k)[None, :] - torch.arange(len_q)[:, None]


# --- misconceptions about the index -----------------------------------------------------------------------


@misconception(replaces="relative_index", caught_by="test_index_worked_out_by_hand")
def from_key_to_query(len_q, len_k, max_distance):
    """You count q - k: keys before the query get the high rows of the table, and keys after it the low ones.

    That trains as well, but its tables do not fit others. Which of the two is subtracted from which in the formula?
    """
    must_count(len_q, len_k, max_distance)
    return (-distances(len_q, len_k)).clamp(-max_distance, max_distance) + max_distance


@misconception(replaces="relative_index", caught_by="test_index_worked_out_by_hand")
def clips_after_the_offset(len_q, len_k, max_distance):
    """You add m before you clip to -m and m, so that row m is the last one ever reached.

    All keys after a query then look alike, and rows m + 1 to 2m are never used. What should be cut off, a distance or a
    row number?
    """
    must_count(len_q, len_k, max_distance)
    return (distances(len_q, len_k) + max_distance).clamp(-max_distance, max_distance)


@misconception(replaces="relative_index", caught_by="test_index_worked_out_by_hand")
def clips_below_0(len_q, len_k, max_distance):
    """You clip the distances to 0 and m, so that all keys before a query look alike.

    A causal model would see no order at all. How far does a distance reach to the other side?
    """
    must_count(len_q, len_k, max_distance)
    return distances(len_q, len_k).clamp(0, max_distance) + max_distance


@misconception(replaces="relative_index", caught_by="test_index_worked_out_by_hand")
def clips_row_numbers_to_m(len_q, len_k, max_distance):
    """You clip the row numbers to 0 and m: a key after its query seems to stand at the query's own place.

    The table has 2m + 1 rows. Which numbers do they have?
    """
    must_count(len_q, len_k, max_distance)
    return (distances(len_q, len_k) + max_distance).clamp(0, max_distance)


@misconception(replaces="relative_index", caught_by="test_index_worked_out_by_hand")
def forgets_the_offset(len_q, len_k, max_distance):
    """Your index runs from -m to m, so keys before a query have negative row numbers.

    Python counts those from the end: table[-1] is the last row, and no error warns you. What has to be added?
    """
    must_count(len_q, len_k, max_distance)
    return distances(len_q, len_k).clamp(-max_distance, max_distance)


@misconception(replaces="relative_index", caught_by="test_index_worked_out_by_hand")
def both_sides_alike(len_q, len_k, max_distance):
    """Your index depends on how far apart two tokens are, but not on which side the key lies.

    "Dog bites man" and "man bites dog" look alike then. How many rows does the table have for a distance of 1?
    """
    must_count(len_q, len_k, max_distance)
    return distances(len_q, len_k).abs().clamp(max=max_distance) + max_distance


@misconception(replaces="relative_index", caught_by="test_index_worked_out_by_hand")
def does_not_clip(len_q, len_k, max_distance):
    """You do not cut distances off: far pairs get row numbers beyond the table, or below 0.

    What should two tokens get that are further apart than max_distance?
    """
    must_count(len_q, len_k, max_distance)
    return distances(len_q, len_k) + max_distance


@misconception(replaces="relative_index", caught_by="test_index_worked_out_by_hand")
def wraps_around(len_q, len_k, max_distance):
    """Distances that are too far start again from the other end in your index, as with a remainder.

    A key far behind the query then looks like one before it. What does clip do with a number that is too large?
    """
    must_count(len_q, len_k, max_distance)
    return (distances(len_q, len_k) + max_distance) % (2 * max_distance + 1)


@misconception(replaces="relative_index", caught_by="test_queries_and_keys_are_counted_from_0")
def aligned_to_the_last_key(len_q, len_k, max_distance):
    """You let the last query stand at the last key, as a decoder with a KV cache needs it.

    That is another convention than this one. Which distance have query 0 and key 0 here, whatever T and S are?
    """
    must_count(len_q, len_k, max_distance)
    return (distances(len_q, len_k) - (len_k - len_q)).clamp(-max_distance, max_distance) + max_distance


@misconception(replaces="relative_index", caught_by="test_queries_and_keys_are_counted_from_0")
def keys_counted_by_the_queries(len_q, len_k, max_distance):
    """Your index is square: it has as many columns as there are queries.

    In self-attention the two agree. How many keys does a decoder see that translates 20 words into 15?
    """
    must_count(len_q, len_k, max_distance)
    return relative_index(len_q, len_q, max_distance)


@misconception(replaces="relative_index", caught_by="test_queries_and_keys_are_counted_from_0")
def rows_are_keys(len_q, len_k, max_distance):
    """Your index has a row for each key and a column for each query.

    For as many queries as keys nothing shows, for the numbers inside are k - q all the same. Whose rows come first in
    (T, S)?
    """
    must_count(len_q, len_k, max_distance)
    return relative_index(len_k, len_q, max_distance)


@misconception(replaces="relative_index", caught_by="test_index_is_int64")
def index_in_int32(len_q, len_k, max_distance):
    """Your index is int32.

    The numbers are right, but this exercise asks for the dtype that every PyTorch function takes as an index. Which
    one does torch.arange make when it is not told otherwise?
    """
    return relative_index(len_q, len_k, max_distance).int()


@misconception(replaces="relative_index", caught_by="test_index_is_int64")
def index_in_floats(len_q, len_k, max_distance):
    """Your index holds floating numbers.

    A row number counts, and a tensor of floats cannot pick rows. Which of your steps makes floats?
    """
    return relative_index(len_q, len_k, max_distance).float()


# --- misconceptions about the table -----------------------------------------------------------------------


@misconception(replaces="RelativePosition", caught_by="test_parameter_name")
class NewTableInEachCall(nn.Module):
    """Your module makes its embedding anew in each call, so there is nothing that could be trained or saved.

    What does an optimiser see that asks for module.parameters()? Where are layers made?
    """

    def __init__(self, head_dim, max_distance):
        super().__init__()
        must_count(head_dim, max_distance)
        self.head_dim, self.max_distance = head_dim, max_distance

    def forward(self, len_q, len_k):
        embedding = nn.Embedding(2 * self.max_distance + 1, self.head_dim)
        return embedding(relative_index(len_q, len_k, self.max_distance))


@misconception(replaces="RelativePosition", caught_by="test_lookup_by_hand")
class TableBesideTheParameter(RelativePosition):
    """Your module has a parameter, but what it looks up is another table, made anew in each call.

    Load a table with known numbers: do they come back?
    """

    def forward(self, len_q, len_k):
        fresh = nn.init.xavier_uniform_(torch.empty_like(self.table))
        return fresh[relative_index(len_q, len_k, self.max_distance).to(fresh.device)]


@misconception(replaces="RelativePosition", caught_by="test_parameter_name")
class TableInAnEmbedding(nn.Module):
    """Your table lies inside an nn.Embedding, so its name is table.weight.

    The lookup is the same, but names count when weights are exchanged. What makes a tensor itself a parameter?
    """

    def __init__(self, head_dim, max_distance):
        super().__init__()
        must_count(head_dim, max_distance)
        self.max_distance = max_distance
        self.table = nn.Embedding(2 * max_distance + 1, head_dim)
        nn.init.xavier_uniform_(self.table.weight)

    def forward(self, len_q, len_k):
        return self.table(relative_index(len_q, len_k, self.max_distance).to(self.table.weight.device))


@misconception(replaces="RelativePosition", caught_by="test_parameter_name")
class TwoMRows(RelativePosition):
    """Your table has 2m rows.

    There are m distances on either side, and one more. Which one, and what does the lookup do for a key that is m
    tokens after its query?
    """

    def __init__(self, head_dim, max_distance):
        super().__init__(head_dim, max_distance)
        self.table = nn.Parameter(nn.init.xavier_uniform_(torch.empty(2 * max_distance, head_dim)))


@misconception(replaces="RelativePosition", caught_by="test_lookup_by_hand")
class KeysFirst(RelativePosition):
    """Your vectors have the shape (S, T, K): keys first.

    Which of the two comes first in the shape that is asked for?
    """

    def forward(self, len_q, len_k):
        return super().forward(len_q, len_k).transpose(0, 1)


@misconception(replaces="RelativePosition", caught_by="test_gradient_reaches_the_table")
class TableIsNotTrained(RelativePosition):
    """No gradient reaches your table, so it stays as it was drawn.

    The vectors are meant to be learnt. What cuts a tensor off from the graph: .data, .detach(), no_grad, a buffer?
    """

    def forward(self, len_q, len_k):
        return super().forward(len_q, len_k).detach()


class Drawn(RelativePosition):
    """The solution with a table that begins in another way."""

    def __init__(self, head_dim, max_distance):
        super().__init__(head_dim, max_distance)
        with torch.no_grad():
            self.draw(self.table)

    def draw(self, table):
        raise NotImplementedError


@misconception(replaces="RelativePosition", caught_by="test_table_is_drawn_from_xaviers_uniform_distribution")
class XavierNormal(Drawn):
    """Your table has the right variance, but its numbers come from a normal distribution.

    Xavier's initialisation has two forms. How large can a number get in the one that is asked for?
    """

    def draw(self, table):
        nn.init.xavier_normal_(table)


@misconception(replaces="RelativePosition", caught_by="test_table_is_drawn_from_xaviers_uniform_distribution")
class StandardNormal(Drawn):
    """Your table begins with numbers of variance 1, as nn.Embedding and torch.randn make them.

    That is many times too large here. On which two numbers does Xavier's bound depend?
    """

    def draw(self, table):
        table.normal_()


@misconception(replaces="RelativePosition", caught_by="test_table_is_drawn_from_xaviers_uniform_distribution")
class BoundByColumnsAlone(Drawn):
    """Your numbers are uniform, but up to a bound that depends on the number of columns alone, as in nn.Linear.

    Xavier's bound looks at both sides of a matrix. Which two sizes does this one have?
    """

    def draw(self, table):
        nn.init.kaiming_uniform_(table, a=5**0.5)


@misconception(replaces="RelativePosition", caught_by="test_table_is_drawn_from_xaviers_uniform_distribution")
class BeginsWithZeros(Drawn):
    """Your table begins with zeros.

    That would do no harm, but another start is asked for. Which function of torch.nn.init is named after Xavier?
    """

    def draw(self, table):
        table.zero_()


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="relative_index", caught_by="test_short_and_long_distances")
def needs_room_for_the_distance(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    near = min(max_distance, len_k - 1)
    return distances(len_q, len_k).clamp(-near, near) + near


@slip(replaces="relative_index", caught_by="test_short_and_long_distances")
def squeezes(len_q, len_k, max_distance):
    return relative_index(len_q, len_k, max_distance).squeeze()


@slip(replaces="relative_index", caught_by="test_index_follows_the_formula")
def last_row_only_for_short_texts(len_q, len_k, max_distance):
    index = relative_index(len_q, len_k, max_distance)
    return index if len_k < 6 else index.clamp(max=2 * max_distance - 1)


@slip(replaces="relative_index", caught_by="test_index_follows_the_formula")
def counts_in_float16(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    distance = torch.arange(len_k).half() - torch.arange(len_q).half()[:, None]
    return (distance.clamp(-max_distance, max_distance) + max_distance).long()


@slip(replaces="relative_index", caught_by="test_index_follows_the_formula")
def counts_to_255(len_q, len_k, max_distance):
    return relative_index(len_q, len_k, max_distance).to(torch.uint8).long()


@slip(replaces="relative_index", caught_by="test_shapes")
def with_a_batch_dimension(len_q, len_k, max_distance):
    return relative_index(len_q, len_k, max_distance)[None]


@slip(replaces="relative_index", caught_by="test_no_loop_over_tokens")
def query_by_query(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    rows = [(torch.arange(len_k) - q).clamp(-max_distance, max_distance) + max_distance for q in range(len_q)]
    return torch.stack(rows)


@slip(replaces="relative_index", caught_by="test_no_loop_over_tokens")
def key_by_key(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    columns = [(k - torch.arange(len_q)).clamp(-max_distance, max_distance) + max_distance for k in range(len_k)]
    return torch.stack(columns, dim=1)


@slip(replaces="relative_index", caught_by="test_follows_the_device")
def always_on_the_cpu(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    q, k = torch.arange(len_q, device="cpu"), torch.arange(len_k, device="cpu")
    return (k[None, :] - q[:, None]).clamp(-max_distance, max_distance) + max_distance


@slip(replaces="relative_index", caught_by="test_follows_the_device")
def half_on_the_cpu(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    distance = torch.arange(len_k) - torch.arange(len_q, device="cpu")[:, None]
    return distance.clamp(-max_distance, max_distance) + max_distance


@slip(replaces="relative_index", caught_by="test_refuses_sizes_below_1")
def takes_any_size(len_q, len_k, max_distance):
    return distances(len_q, len_k).clamp(-max_distance, max_distance) + max_distance


@slip(replaces="relative_index", caught_by="test_refuses_sizes_below_1")
def takes_no_distance(len_q, len_k, max_distance):
    if min(len_q, len_k) < 1 or max_distance < 0:
        raise ValueError("lengths must be at least 1")
    return takes_any_size(len_q, len_k, max_distance)


@slip(replaces="RelativePosition", caught_by="test_refuses_sizes_below_1")
class TakesAnySize(RelativePosition):
    def __init__(self, head_dim, max_distance):
        nn.Module.__init__(self)
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.zeros(max(0, 2 * max_distance + 1), max(0, head_dim)))


@slip(replaces="RelativePosition", caught_by="test_refuses_sizes_below_1")
class TakesAnyLength(RelativePosition):
    def forward(self, len_q, len_k):
        return self.table[takes_any_size(len_q, len_k, self.max_distance)]


@slip(replaces="RelativePosition", caught_by="test_parameter_name")
class SavesItsIndex(RelativePosition):
    def __init__(self, head_dim, max_distance):
        super().__init__(head_dim, max_distance)
        self.register_buffer("index", relative_index(32, 32, max_distance))


@slip(replaces="RelativePosition", caught_by="test_parameter_name")
class TableIsABuffer(RelativePosition):
    def __init__(self, head_dim, max_distance):
        super().__init__(head_dim, max_distance)
        table = self.table.detach()
        del self.table
        self.register_buffer("table", table)


@slip(replaces="RelativePosition", caught_by="test_only_the_distance_counts")
class UsesEveryRowInTurn(RelativePosition):
    def forward(self, len_q, len_k):
        index = torch.arange(len_q * len_k).remainder(len(self.table))
        return self.table[index.view(len_q, len_k)]


@slip(replaces="RelativePosition", caught_by="test_table_is_drawn_from_xaviers_uniform_distribution")
class OneRowRepeated(Drawn):
    def draw(self, table):
        table.copy_(table[0].expand_as(table))


@slip(replaces="RelativePosition", caught_by="test_table_is_drawn_from_xaviers_uniform_distribution")
class BothSidesBeginAlike(Drawn):
    def draw(self, table):
        table[: len(table) // 2] = table[len(table) // 2 + 1 :].flip(0)


@slip(replaces="RelativePosition", caught_by="test_table_is_drawn_from_xaviers_uniform_distribution")
class PositiveOnly(Drawn):
    def draw(self, table):
        table.abs_()


@slip(replaces="RelativePosition", caught_by="test_table_is_drawn_from_xaviers_uniform_distribution")
class BoundByHalfTheRows(Drawn):
    def draw(self, table):
        table.mul_((sum(table.shape) / (len(table) // 2 + table.shape[1])) ** 0.5)


@slip(replaces="RelativePosition", caught_by="test_table_is_drawn_from_xaviers_uniform_distribution")
class SeedsItsGenerator(Drawn):
    def draw(self, table):
        bound = (6 / sum(table.shape)) ** 0.5
        table.uniform_(-bound, bound, generator=torch.Generator().manual_seed(0))


@slip(replaces="RelativePosition", caught_by="test_small_tables_are_drawn_alike")
class SmallTablesBeginWithZeros(Drawn):
    def draw(self, table):
        table.mul_(table.numel() > 1000)


@slip(replaces="RelativePosition", caught_by="test_gradient_in_any_mode_and_dtype")
class NotTrainedInEvaluation(RelativePosition):
    def forward(self, len_q, len_k):
        vectors = super().forward(len_q, len_k)
        return vectors if self.training else vectors.detach()


@slip(replaces="RelativePosition", caught_by="test_gradient_in_any_mode_and_dtype")
class NotTrainedByASingleQuery(RelativePosition):
    def forward(self, len_q, len_k):
        vectors = super().forward(len_q, len_k)
        return vectors.detach() if len_q == 1 else vectors


@slip(replaces="RelativePosition", caught_by="test_gradient_in_any_mode_and_dtype")
class NotTrainedByASingleKey(RelativePosition):
    def forward(self, len_q, len_k):
        vectors = super().forward(len_q, len_k)
        return vectors.detach() if len_k == 1 else vectors


@slip(replaces="RelativePosition", caught_by="test_gradient_in_any_mode_and_dtype")
class NotTrainedInFloat64(RelativePosition):
    def forward(self, len_q, len_k):
        vectors = super().forward(len_q, len_k)
        return vectors.detach() if vectors.dtype == torch.float64 else vectors


@slip(replaces="RelativePosition", caught_by="test_gradient_in_any_mode_and_dtype")
class DropsOutInEvaluation(RelativePosition):
    def forward(self, len_q, len_k):
        return nn.functional.dropout(super().forward(len_q, len_k), 0.1, not self.training)


@slip(replaces="RelativePosition", caught_by="test_shows_the_table_as_it_is")
class OtherVectorsWithoutGradients(RelativePosition):
    def forward(self, len_q, len_k):
        vectors = super().forward(len_q, len_k)
        return vectors if torch.is_grad_enabled() else vectors.flip(0)


@slip(replaces="RelativePosition", caught_by="test_shows_the_table_as_it_is")
class KeepsVectorsWithoutGradients(RelativePosition):
    def forward(self, len_q, len_k):
        vectors = super().forward(len_q, len_k)
        if torch.is_grad_enabled():
            return vectors
        self.kept = getattr(self, "kept", {})
        return self.kept.setdefault((len_q, len_k, vectors.dtype), vectors)


@slip(replaces="RelativePosition", caught_by="test_gradient_reaches_the_table")
class GradientOfTheLastPairOnly(RelativePosition):
    def forward(self, len_q, len_k):
        vectors = super().forward(len_q, len_k)
        return torch.cat((vectors[:-1].detach(), vectors[-1:]))


@slip(replaces="RelativePosition", caught_by="test_matches_the_formula_on_many_sizes")
class PadsWithZeros(RelativePosition):
    def forward(self, len_q, len_k):
        vectors = super().forward(len_q, len_k)
        near = distances(len_q, len_k).abs() <= self.max_distance + 1
        return vectors * near[..., None]


@slip(replaces="RelativePosition", caught_by="test_shows_the_table_as_it_is")
class KeepsTheFirstVectors(RelativePosition):
    def forward(self, len_q, len_k):
        if not hasattr(self, "kept") or self.kept.shape[:2] != (len_q, len_k):
            self.kept = super().forward(len_q, len_k)
        return self.kept


@slip(replaces="RelativePosition", caught_by="test_shows_the_table_as_it_is")
class KeepsTheFirstIndex(RelativePosition):
    def forward(self, len_q, len_k):
        if not hasattr(self, "index") or len(self.index) < len_q:
            self.index = relative_index(len_q, max(len_q, len_k), self.max_distance)
        return self.table[self.index[:len_q, :len_k]]


@slip(replaces="RelativePosition", caught_by="test_matches_the_formula_on_many_sizes")
class ForShortTextsAlone(RelativePosition):
    def forward(self, len_q, len_k):
        index = relative_index(128, 128, self.max_distance).to(self.table.device)
        must_count(len_q, len_k)
        return self.table[index[:len_q, :len_k]]


_INDICES = {}


@slip(replaces="RelativePosition", caught_by="test_shows_the_table_as_it_is")
class SharesItsIndexWithOthers(RelativePosition):
    def forward(self, len_q, len_k):
        must_count(len_q, len_k)
        index = _INDICES.setdefault((len_q, len_k), relative_index(len_q, len_k, self.max_distance))
        return self.table[index.clamp(max=len(self.table) - 1)]


@slip(replaces="RelativePosition", caught_by="test_float64_and_bfloat16")
class AlwaysFloat32(RelativePosition):
    def forward(self, len_q, len_k):
        return super().forward(len_q, len_k).float()


@slip(replaces="RelativePosition", caught_by="test_float64_and_bfloat16")
class ThroughFloat32(RelativePosition):
    def forward(self, len_q, len_k):
        return super().forward(len_q, len_k).float().to(self.table.dtype)


@slip(replaces="RelativePosition", caught_by="test_follows_the_device")
class EmbedsAnIndexOnTheCpu(RelativePosition):
    def forward(self, len_q, len_k):
        return nn.functional.embedding(relative_index(len_q, len_k, self.max_distance), self.table)


@slip(replaces="relative_index", caught_by="test_short_and_long_distances")
def sizes_have_other_names(n_queries, n_keys, distance):
    return relative_index(n_queries, n_keys, distance)


@slip(replaces="relative_index", caught_by="test_index_follows_the_formula")
def tells_512_queries_apart(len_q, len_k, max_distance):
    index = relative_index(len_q, len_k, max_distance)
    return index[torch.arange(len_q).clamp(max=511)]


@slip(replaces="RelativePosition", caught_by="test_matches_the_formula_on_many_sizes")
class TellsFewQueriesApart(RelativePosition):
    def forward(self, len_q, len_k):
        vectors = super().forward(len_q, len_k)
        return vectors[torch.arange(len_q, device=vectors.device).clamp(max=127)]


@slip(replaces="RelativePosition", caught_by="test_parameter_name")
class SizesHaveOtherNames(RelativePosition):
    def __init__(self, width, distance):
        super().__init__(width, distance)


@slip(replaces="RelativePosition", caught_by="test_lookup_by_hand")
class LengthsHaveOtherNames(RelativePosition):
    def forward(self, n_queries, n_keys):
        return super().forward(n_queries, n_keys)


_INDICES_OF_THE_FIRST_DEVICE = {}


@slip(replaces="RelativePosition", caught_by="test_follows_the_device")
class KeepsTheIndexOfTheFirstDevice(RelativePosition):
    def forward(self, len_q, len_k):
        index = relative_index(len_q, len_k, self.max_distance).to(self.table.device)
        key = len_q, len_k, self.max_distance
        return self.table[_INDICES_OF_THE_FIRST_DEVICE.setdefault(key, index)]


# --- right, written another way ---------------------------------------------------------------------------


@alternative(replaces="relative_index")
def by_lists(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    m = max_distance
    return torch.tensor([[min(max(k - q, -m), m) + m for k in range(len_k)] for q in range(len_q)])


@alternative(replaces="relative_index")
def by_minimum_and_maximum(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    q, k = torch.meshgrid(torch.arange(len_q), torch.arange(len_k), indexing="ij")
    m = torch.tensor(max_distance)
    return torch.minimum(torch.maximum(k - q, -m), m) + m


@alternative(replaces="relative_index")
def clips_row_numbers_to_2m(len_q, len_k, max_distance):
    for name, size in {"len_q": len_q, "len_k": len_k, "max_distance": max_distance}.items():
        if size <= 0:
            raise ValueError(f"{name} must be positive, got {size}")
    queries, keys = torch.arange(0, len_q).unsqueeze(1), torch.arange(0, len_k).unsqueeze(0)
    return torch.clip(keys - queries + max_distance, min=0, max=2 * max_distance).long()


@alternative(replaces="relative_index")
def by_sliding_a_window(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    line = torch.arange(1 - len_q, len_k).clamp(-max_distance, max_distance) + max_distance  # (T + S - 1,)
    return line.unfold(0, len_k, 1).flip(0)


@alternative(replaces="relative_index")
def by_floats_and_back(len_q, len_k, max_distance):
    must_count(len_q, len_k, max_distance)
    distance = torch.ones(len_q, len_k).cumsum(1) - torch.ones(len_q, len_k).cumsum(0)
    return (torch.nn.functional.hardtanh(distance, -max_distance, max_distance) + max_distance).to(torch.int64)


@functools.cache
def remembered(len_q, len_k, max_distance, device):
    return relative_index(len_q, len_k, max_distance)


@alternative(replaces="relative_index")
def with_a_memory(len_q, len_k, max_distance):
    return remembered(len_q, len_k, max_distance, torch.get_default_device()).clone()


@alternative(replaces="RelativePosition")
class ByIndexAlone(RelativePosition):
    def forward(self, len_q, len_k):
        return self.table[relative_index(len_q, len_k, self.max_distance)]


@alternative(replaces="RelativePosition")
class ByEmbedding(nn.Module):
    def __init__(self, head_dim, max_distance):
        super().__init__()
        if head_dim < 1 or max_distance < 1:
            raise ValueError("head_dim and max_distance must be at least 1")
        rows = 2 * max_distance + 1
        bound = (6 / (rows + head_dim)) ** 0.5
        self.table = nn.Parameter((torch.rand(rows, head_dim) * 2 - 1) * bound)

    def forward(self, len_q, len_k):
        index = relative_index(len_q, len_k, self.table.shape[0] // 2)
        return nn.functional.embedding(index.to(self.table.device), self.table)


@alternative(replaces="RelativePosition")
class ByOneHot(RelativePosition):
    def forward(self, len_q, len_k):
        index = relative_index(len_q, len_k, self.max_distance).to(self.table.device)
        return nn.functional.one_hot(index, len(self.table)).to(self.table.dtype) @ self.table


@alternative(replaces="RelativePosition")
class ByIndexSelect(RelativePosition):
    def forward(self, len_q, len_k):
        index = relative_index(len_q, len_k, self.max_distance).to(self.table.device)
        return self.table.index_select(0, index.flatten()).view(len_q, len_k, -1)


@alternative(replaces="RelativePosition")
class BySlidingOverTheTable(RelativePosition):
    def forward(self, len_q, len_k):
        line = relative_index(1, len_q + len_k - 1, 10**6)[0] - 10**6 - (len_q - 1)  # 1 - T .. S - 1
        must_count(len_q, len_k)
        line = line.clamp(-self.max_distance, self.max_distance) + self.max_distance
        rows = self.table[line.to(self.table.device)]  # (T + S - 1, K)
        return rows.unfold(0, len_k, 1).flip(0).transpose(1, 2)  # (T, K, S) -> (T, S, K)


@alternative(replaces="RelativePosition")
class WithABufferThatGrows(RelativePosition):
    def __init__(self, head_dim, max_distance):
        super().__init__(head_dim, max_distance)
        self.register_buffer("index", relative_index(8, 8, max_distance), persistent=False)

    def forward(self, len_q, len_k):
        must_count(len_q, len_k)
        longest = max(len_q, len_k)
        if longest > len(self.index):
            self.index = relative_index(longest, longest, self.max_distance).to(self.table.device)
        return self.table[self.index[:len_q, :len_k]]
