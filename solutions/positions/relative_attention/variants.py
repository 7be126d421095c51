"""Other ways to write attention with relative positions: wrong ones that a learner may come up with, and right ones."""

import math

import torch
from torch import nn
from torch.nn.functional import dropout, embedding, linear, one_hot

from grader.judge.suite import alternative, misconception, slip

from .solution import RelativeMultiHeadAttention


class Steps(RelativeMultiHeadAttention):
    """The solution cut into steps, so that a variant bends one of them."""

    def forward(self, query, key, value, mask=None):
        q, k, v = self.split(self.wq(query)), self.split(self.wk(key)), self.split(self.wv(value))
        a_k, a_v = self.look_up(q.shape[2], k.shape[2])
        weights = self.weigh(self.score(q, k, a_k), mask)
        return self.wo(self.join(self.average(weights, v, a_v))), weights

    def split(self, x):
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, K)

    def distances(self, T, S):
        device = self.rel_k.device
        return torch.arange(S, device=device) - torch.arange(T, device=device)[:, None]  # (T, S)

    def rows(self, T, S):
        return self.distances(T, S).clamp(-self.max_distance, self.max_distance) + self.max_distance  # (T, S)

    def look_up(self, T, S):
        rows = self.rows(T, S)
        return self.rel_k[rows], self.rel_v[rows]  # (T, S, K) each

    def score(self, q, k, a_k):
        return (q @ k.mT + self.distance_score(q, k, a_k)) / math.sqrt(q.shape[-1])  # (B, H, T, S)

    def distance_score(self, q, k, a_k):
        return torch.einsum("bhtk,tsk->bhts", q, a_k)

    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(dim=-1).masked_fill(~mask, 0.0)

    def drop(self, weights):
        return dropout(weights, self.dropout, self.training)

    def average(self, weights, v, a_v):
        kept = self.drop(weights)
        return kept @ v + self.average_distances(kept, a_v)  # (B, H, T, K)

    def average_distances(self, weights, a_v):
        return torch.einsum("bhts,tsk->bhtk", weights, a_v)

    def join(self, heads):
        return heads.transpose(1, 2).flatten(2)  # (B, H, T, K) -> (B, T, D)


# --- misconceptions about the distances -------------------------------------------------------------------


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class FromKeyToQuery(Steps):
    """You count t - s: keys before the query get the high rows of the tables, and keys after it the low ones.

    That trains as well, but tables of others do not fit. Which position is subtracted from which?
    """

    def distances(self, T, S):
        return -super().distances(T, S)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class ClipsAfterTheOffset(Steps):
    """You add m before you clip to -m and m, so that row m is the last one ever reached.

    All keys after a query then look alike, and the upper half of both tables is never trained. What should be cut off,
    a distance or a row number?
    """

    def rows(self, T, S):
        return (self.distances(T, S) + self.max_distance).clamp(-self.max_distance, self.max_distance)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class ClipsBelow0(Steps):
    """You clip the distances to 0 and m, so that all keys before a query look alike.

    Under a causal mask no order would be left to see. How far does a distance reach to the other side?
    """

    def rows(self, T, S):
        return self.distances(T, S).clamp(0, self.max_distance) + self.max_distance


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class ForgetsTheOffset(Steps):
    """You look up the rows -m to m.

    Python counts negative rows from the end: table[-1] is the last row, and no error warns you. Which row belongs to a
    key that is one token before its query?
    """

    def rows(self, T, S):
        return self.distances(T, S).clamp(-self.max_distance, self.max_distance)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class BothSidesAlike(Steps):
    """Your distances have no sign: a key before the query and one after it share a row.

    "Dog bites man" and "man bites dog" look alike then. How many rows does a table have for a distance of 1?
    """

    def rows(self, T, S):
        return super().rows(T, S).sub(self.max_distance).abs() + self.max_distance


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class DoesNotClip(Steps):
    """You do not cut distances off: far pairs ask for rows beyond the tables.

    What should two tokens get that are further apart than max_distance?
    """

    def rows(self, T, S):
        return self.distances(T, S) + self.max_distance


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class AlignedToTheLastKey(Steps):
    """You let the last query stand at the last key, as a decoder with a KV cache needs it.

    That is another convention than this one. Which distance have query 0 and key 0 here, whatever T and S are?
    """

    def distances(self, T, S):
        return super().distances(T, S) - (S - T)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_query_key_and_value_have_their_own_parts")
class KeysCountedByTheQueries(Steps):
    """You look up the distances of T queries to T keys.

    In self-attention T and S agree. How many keys does a decoder see that translates 20 words into 15?
    """

    def rows(self, T, S):
        return super().rows(T, T)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class TransposedInTheProduct(Steps):
    """Your product of q and a_k has taken t and s in a_k for each other.

    a_k[t, s] is the vector from query t to key s. In your einsum, which letter stands for its first dimension?
    """

    def distance_score(self, q, k, a_k):
        return torch.einsum("bhtk,stk->bhts", q, a_k)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_values_of_distances_by_hand")
class TransposedInTheAverage(Steps):
    """Your sum over a_v has taken t and s in it for each other.

    a_v[t, s] is the vector from query t to key s. In your einsum, which letter stands for its first dimension?
    """

    def average_distances(self, weights, a_v):
        return torch.einsum("bhts,stk->bhtk", weights, a_v)


# --- misconceptions about the tables ----------------------------------------------------------------------


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_parameter_names")
class TablesForEveryHead(Steps):
    """Each of your heads has tables of its own.

    The paper shares them among the heads: learning to tell distances apart takes fewer numbers. Which shape has rel_k
    in the brief?
    """

    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        super().__init__(d_model, n_heads, max_distance, dropout)
        for name in "rel_k", "rel_v":
            table = torch.empty(n_heads, 2 * max_distance + 1, d_model // n_heads)
            setattr(self, name, nn.Parameter(nn.init.xavier_uniform_(table)))

    def look_up(self, T, S):
        rows = self.rows(T, S)
        return self.rel_k[:, rows], self.rel_v[:, rows]  # (H, T, S, K) each

    def distance_score(self, q, k, a_k):
        return torch.einsum("bhtk,htsk->bhts", q, a_k)

    def average_distances(self, weights, a_v):
        return torch.einsum("bhts,htsk->bhtk", weights, a_v)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_parameter_names")
class TablesInEmbeddings(Steps):
    """Your tables lie inside nn.Embedding, so their names are rel_k.weight and rel_v.weight.

    The lookup is the same, but names count when weights are exchanged. What makes a tensor itself a parameter?
    """

    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        super().__init__(d_model, n_heads, max_distance, dropout)
        for name in "rel_k", "rel_v":
            delattr(self, name)
            setattr(self, name, nn.Embedding(2 * max_distance + 1, d_model // n_heads))

    def look_up(self, T, S):
        device = self.wq.weight.device
        distances = torch.arange(S, device=device) - torch.arange(T, device=device)[:, None]
        rows = distances.clamp(-self.max_distance, self.max_distance) + self.max_distance
        return self.rel_k(rows), self.rel_v(rows)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_parameter_names")
class NewTablesInEachCall(Steps):
    """Your module makes its tables anew in each call, so there is nothing that could be trained or saved.

    What does an optimiser see that asks for module.parameters()? Where are layers made?
    """

    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        super().__init__(d_model, n_heads, max_distance, dropout)
        del self.rel_k, self.rel_v
        self.shape = 2 * max_distance + 1, d_model // n_heads

    def look_up(self, T, S):
        distances = torch.arange(S) - torch.arange(T)[:, None]
        rows = distances.clamp(-self.max_distance, self.max_distance) + self.max_distance
        return nn.Embedding(*self.shape)(rows), nn.Embedding(*self.shape)(rows)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_values_of_distances_by_hand")
class TablesBesideTheParameters(Steps):
    """Your module has rel_k and rel_v, but what it looks up is drawn anew in each call.

    Load tables with known numbers, call twice, and compare: do they show in the output?
    """

    def look_up(self, T, S):
        rows = self.rows(T, S)
        return [nn.init.xavier_uniform_(torch.empty_like(table))[rows] for table in (self.rel_k, self.rel_v)]


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class TablesSwapped(Steps):
    """You use rel_v in the scores and rel_k for the values.

    Both have the same shape, so only the numbers show it. Which letter do the two equations have in common with the
    name of each table?
    """

    def look_up(self, T, S):
        return super().look_up(T, S)[::-1]


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class ForgetsTheRelativeKeys(Steps):
    """Your scores do not see the distances: rel_k has no influence.

    Which term of the score would still tell two equal keys apart?
    """

    def distance_score(self, q, k, a_k):
        return torch.zeros(())


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_values_of_distances_by_hand")
class ForgetsTheRelativeValues(Steps):
    """You average v alone: rel_v has no influence.

    Equation 3 of the paper has a second term in its bracket. What is added to each value?
    """

    def average_distances(self, weights, a_v):
        return torch.zeros(())


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_values_of_distances_by_hand")
class OneTableForBoth(Steps):
    """You look up rel_k twice: rel_v has no influence.

    What must a table learn that decides where to look, and what one whose rows are fetched?
    """

    def look_up(self, T, S):
        a_k, _ = super().look_up(T, S)
        return a_k, a_k


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_values_of_distances_by_hand")
class RelativeValuesWithoutWeights(Steps):
    """You add up a_v over the keys without the weights.

    A key that gets no attention then adds its distance to the output all the same. What multiplies the bracket in
    equation 3?
    """

    def average_distances(self, weights, a_v):
        return a_v.sum(dim=1)  # (T, K)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class DistancesMeetTheKeys(Steps):
    """In your scores a_k is multiplied by the keys.

    In equation 4, a_k stands in one bracket with the key. What is this bracket multiplied by?
    """

    def distance_score(self, q, k, a_k):
        return torch.einsum("bhsk,tsk->bhts", k, a_k)


# --- misconceptions about the scores ----------------------------------------------------------------------


@misconception(
    replaces="RelativeMultiHeadAttention",
    caught_by="test_both_parts_of_a_score_are_divided_by_the_root_of_the_head_width",
)
class DistancesNotScaled(Steps):
    """You divide q . k by sqrt(K), but not q . a_k.

    Both are dot products of K terms. What does the fraction of equation 4 have above its line?
    """

    def score(self, q, k, a_k):
        return q @ k.mT / math.sqrt(q.shape[-1]) + self.distance_score(q, k, a_k)


@misconception(
    replaces="RelativeMultiHeadAttention",
    caught_by="test_both_parts_of_a_score_are_divided_by_the_root_of_the_head_width",
)
class ScalesByTheModelWidth(Steps):
    """You divide the scores by sqrt(D), the root of the model's width.

    The division undoes the growth of a dot product with the number of its terms. How many terms has it in one head?
    """

    def score(self, q, k, a_k):
        return super().score(q, k, a_k) / math.sqrt(self.n_heads)


@misconception(
    replaces="RelativeMultiHeadAttention",
    caught_by="test_both_parts_of_a_score_are_divided_by_the_root_of_the_head_width",
)
class DoesNotScale(Steps):
    """Your scores are plain dot products.

    They spread more and more the more features a head has, and the softmax comes close to picking one key. What stands
    below the line in equation 4?
    """

    def score(self, q, k, a_k):
        return super().score(q, k, a_k) * math.sqrt(q.shape[-1])


@misconception(
    replaces="RelativeMultiHeadAttention",
    caught_by="test_both_parts_of_a_score_are_divided_by_the_root_of_the_head_width",
)
class ScalesByTheHeadWidth(Steps):
    """You divide the scores by K itself.

    If the entries of q and k have variance 1, what is the variance of their dot product? And its standard deviation?
    """

    def score(self, q, k, a_k):
        return super().score(q, k, a_k) / math.sqrt(q.shape[-1])


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_scores_of_distances_by_hand")
class SoftmaxOverQueries(Steps):
    """Your weights sum to 1 over the queries, so that all queries share out one key.

    Each query takes an average of the values. Over which dimension of (B, H, T, S) do its weights lie?
    """

    def weigh(self, scores, mask):
        if mask is not None:
            scores = scores.masked_fill(~mask, torch.finfo(scores.dtype).min)
        weights = scores.softmax(dim=-2)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


# --- misconceptions about the heads -----------------------------------------------------------------------


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_tables_of_zeros_by_hand")
class HeadsInterleaved(Steps):
    """You deal out the features to the heads one by one: head h gets the features h, h + H, h + 2H ...

    Trained from scratch that works as well, but weights of others do not fit. Which features does head 0 own here?
    """

    def split(self, x):
        return x.unflatten(-1, (-1, self.n_heads)).permute(0, 3, 1, 2)  # (B, T, K, H) -> (B, H, T, K)

    def join(self, heads):
        return heads.permute(0, 2, 3, 1).flatten(2)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_heads_are_joined_in_order_and_go_through_wo")
class JoinsWithoutTranspose(Steps):
    """You reshape (B, H, T, K) to (B, T, D) at once.

    The shape fits, but a reshape keeps the order of the numbers. Which tokens' numbers are now in the first row?
    """

    def join(self, heads):
        return heads.reshape(heads.shape[0], heads.shape[2], -1)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_heads_are_joined_in_order_and_go_through_wo")
class DistancesAfterWo(Steps):
    """You add the vectors of the distances after wo.

    They join the values of each head, so they go where the values go. What do the joined heads pass last?
    """

    def average(self, weights, v, a_v):
        kept = self.drop(weights)
        self.late = self.join(self.average_distances(kept, a_v))
        return kept @ v

    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return output + self.late, weights


# --- misconceptions about masks ---------------------------------------------------------------------------


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_true_in_a_mask_means_may_attend")
class MaskInverted(Steps):
    """You hide the keys where the mask is True, as nn.MultiheadAttention does.

    PyTorch has both conventions. What does True mean in this exercise?
    """

    def weigh(self, scores, mask):
        return super().weigh(scores, None if mask is None else ~mask)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_masks_of_every_shape")
class MasksAfterSoftmax(Steps):
    """You set masked weights to 0 after the softmax and leave the others as they are.

    Masked keys then still take their share of the sum. What do the weights of a query with a masked key sum to?
    """

    def weigh(self, scores, mask):
        weights = scores.softmax(dim=-1)
        return weights if mask is None else weights.masked_fill(~mask, 0.0)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_masks_of_every_shape")
class MultipliesScoresByTheMask(Steps):
    """You multiply the scores by the mask, so that masked scores are 0.

    A score of 0 is no low score. What weight does the softmax give to it, next to a score of -1?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores * mask).softmax(dim=-1)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class FillsWithALargeNumber(Steps):
    """You fill masked scores with a large negative number and trust the softmax with the rest.

    That is fine as long as some key is allowed. Which weights come out of a row in which all scores are this number?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -1e9)).softmax(dim=-1)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class FillsWithMinusInfinity(Steps):
    """You fill masked scores with -inf and trust the softmax with the rest.

    That is fine as long as some key is allowed. What are the numerator and the denominator in a row of -inf alone?
    """

    def weigh(self, scores, mask):
        return (scores if mask is None else scores.masked_fill(~mask, -math.inf)).softmax(dim=-1)


# --- misconceptions about dropout -------------------------------------------------------------------------


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_the_same_dropped_out_weights_multiply_both")
class DropsForTheValuesAlone(Steps):
    """In training, your dropped-out weights multiply v, and those before dropout a_v.

    A key that is dropped then still adds its distance. What does equation 3 multiply by one and the same weight?
    """

    def average(self, weights, v, a_v):
        return self.drop(weights) @ v + self.average_distances(weights, a_v)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_the_same_dropped_out_weights_multiply_both")
class DropsForTheDistancesAlone(Steps):
    """In training, your dropped-out weights multiply a_v, and those before dropout v.

    A key that is dropped then still adds its value. What does equation 3 multiply by one and the same weight?
    """

    def average(self, weights, v, a_v):
        return weights @ v + self.average_distances(self.drop(weights), a_v)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_the_same_dropped_out_weights_multiply_both")
class DropsTwice(Steps):
    """You draw one dropout for v and another one for a_v.

    Then a key may lose its value and keep its distance. How many weights does a pair of query and key have?
    """

    def average(self, weights, v, a_v):
        return self.drop(weights) @ v + self.average_distances(self.drop(weights), a_v)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_dropout_grows_what_it_keeps_and_rests_in_eval")
class ReturnsWeightsAfterDropout(Steps):
    """You return the weights after dropout.

    What do their rows sum to in training? The caller wants to see where the layer looks.
    """

    def weigh(self, scores, mask):
        return super().drop(super().weigh(scores, mask))

    def drop(self, weights):
        return weights


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_dropout_grows_what_it_keeps_and_rests_in_eval")
class DropoutInEval(Steps):
    """Your dropout acts in eval mode too: two calls with the same inputs differ.

    F.dropout is a function and does not know your module. How does it learn whether you are training?
    """

    def drop(self, weights):
        return dropout(weights, self.dropout)


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_the_same_dropped_out_weights_multiply_both")
class DropsTheHeads(Steps):
    """Your dropout falls on the result of the attention, not inside it.

    The encoder block does that as well, around this layer. Which tensor decides how much of each value is taken?
    """

    def drop(self, weights):
        return weights

    def join(self, heads):
        return super().join(super().drop(heads))


@misconception(replaces="RelativeMultiHeadAttention", caught_by="test_dropout_grows_what_it_keeps_and_rests_in_eval")
class DropsWithoutScaling(Steps):
    """You set weights to 0 in training and leave the others as they are.

    Then the output is smaller in training than in eval mode, where nothing is dropped. By which factor, on average?
    """

    def drop(self, weights):
        return weights * (torch.rand_like(weights) >= self.dropout) if self.training else weights


# --- misconceptions about how the tables begin ------------------------------------------------------------


class Drawn(Steps):
    """The solution with tables that begin in another way."""

    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        super().__init__(d_model, n_heads, max_distance, dropout)
        with torch.no_grad():
            self.begin(self.rel_k)
            self.begin(self.rel_v)

    def begin(self, table):
        raise NotImplementedError


@misconception(
    replaces="RelativeMultiHeadAttention", caught_by="test_tables_are_drawn_from_xaviers_uniform_distribution"
)
class XavierNormal(Drawn):
    """Your tables have the right variance, but their numbers come from a normal distribution.

    Xavier's initialisation has two forms. How large can a number get in the one that is asked for?
    """

    def begin(self, table):
        nn.init.xavier_normal_(table)


@misconception(
    replaces="RelativeMultiHeadAttention", caught_by="test_tables_are_drawn_from_xaviers_uniform_distribution"
)
class StandardNormal(Drawn):
    """Your tables begin with numbers of variance 1, as nn.Embedding and torch.randn make them.

    That is many times too large here. On which two numbers does Xavier's bound depend?
    """

    def begin(self, table):
        table.normal_()


@misconception(
    replaces="RelativeMultiHeadAttention", caught_by="test_tables_are_drawn_from_xaviers_uniform_distribution"
)
class BeginsWithZeros(Drawn):
    """Your tables begin with zeros.

    That would do no harm, but another start is asked for. Which function of torch.nn.init is named after Xavier?
    """

    def begin(self, table):
        table.zero_()


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_tables_are_drawn_from_xaviers_uniform_distribution")
class BoundByTheModelWidth(Drawn):
    def begin(self, table):
        nn.init.uniform_(table, -1, 1).mul_((6 / (len(table) + self.wq.in_features)) ** 0.5)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_tables_are_drawn_from_xaviers_uniform_distribution")
class BothTablesBeginAlike(Drawn):
    def begin(self, table):
        table.copy_(self.rel_k)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_shapes")
class AveragesTheHeads(Steps):
    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return output, weights.mean(dim=1)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_parameter_names")
class AnotherDefaultDistance(Steps):
    def __init__(self, d_model, n_heads, max_distance=10, dropout=0.0):
        super().__init__(d_model, n_heads, max_distance, dropout)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_parameter_names")
class SavesTheRows(Steps):
    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        super().__init__(d_model, n_heads, max_distance, dropout)
        self.register_buffer("kept", super().rows(32, 32))


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_heads_are_joined_in_order_and_go_through_wo")
class ForgetsTheBiasOfWo(Steps):
    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return output - self.wo.bias, weights


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_only_clipped_distances_count")
class FadesWithTheDistance(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores - 0.1 * self.distances(*scores.shape[-2:]).abs(), mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_query_key_and_value_have_their_own_parts")
class KeyAsValue(Steps):
    def forward(self, query, key, value, mask=None):
        return super().forward(query, key, key, mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_makes_no_tensor_of_all_pairs_and_features")
class AddsTheTableToTheKeys(Steps):
    def score(self, q, k, a_k):
        together = k[:, :, None] + a_k  # (B, H, T, S, K)
        return (q[..., None, :] @ together.mT)[..., 0, :] / math.sqrt(q.shape[-1])


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_makes_no_tensor_of_all_pairs_and_features")
class MultipliesAndSums(Steps):
    def distance_score(self, q, k, a_k):
        return (q[:, :, :, None] * a_k).sum(dim=-1)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_makes_no_tensor_of_all_pairs_and_features")
class LetsMatmulBroadcast(Steps):
    def distance_score(self, q, k, a_k):
        return (q[:, :, :, None] @ a_k.mT)[..., 0, :]  # (B, H, T, 1, K) @ (T, K, S), which copies a_k


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_makes_no_tensor_of_all_pairs_and_features")
class WeighsTheTableFirst(Steps):
    def average_distances(self, weights, a_v):
        return (weights[..., None] * a_v).sum(dim=3)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_makes_no_tensor_of_all_pairs_and_features")
class AddsTheTableToTheValues(Steps):
    def average(self, weights, v, a_v):
        return (self.drop(weights)[..., None, :] @ (v[:, :, None] + a_v))[..., 0, :]


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_a_query_with_nothing_to_attend_to")
class DistancesIgnoreAnEmptyMask(Steps):
    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        if mask is None:
            return output, weights
        _, a_v = self.look_up(query.shape[1], key.shape[1])
        empty = ~mask.expand(weights.shape).any(dim=-1)  # (B, H, T)
        return output + self.join(empty[..., None] * a_v.mean(dim=1)), weights


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_huge_scores")
class SoftmaxWithoutTheMaximum(Steps):
    def weigh(self, scores, mask):
        powers = scores.exp() if mask is None else scores.exp() * mask
        return powers / powers.sum(dim=-1, keepdim=True).clamp(min=1e-30)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_matches_the_reference")
class ForShortTextsAlone(Steps):
    def rows(self, T, S):
        return super().rows(128, 128)[:T, :S]


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_matches_the_reference")
class NearKeysOfLongTextsAlone(Steps):
    def rows(self, T, S):
        return super().rows(T, S).clamp(max=7)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_float64_and_bfloat16")
class SoftmaxInFloat32(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores.float(), mask).to(scores.dtype)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_float64_and_bfloat16")
class TablesInFloat32(Steps):
    def look_up(self, T, S):
        return [table.float().to(self.wq.weight.dtype) for table in super().look_up(T, S)]


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_float64_and_bfloat16")
class ReturnsFloat32Weights(Steps):
    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return output, weights.float() if weights.dtype == torch.bfloat16 else weights


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_gradients")
class TablesAreNotTrained(Steps):
    def look_up(self, T, S):
        return [table.detach() for table in super().look_up(T, S)]


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_gradients")
class WeightsDetachedFromTheDistances(Steps):
    def average(self, weights, v, a_v):
        kept = self.drop(weights)
        return kept @ v + self.average_distances(kept.detach(), a_v)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_gradients_under_a_mask")
class ZerosAfterNan(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        powers = (scores - scores.masked_fill(~mask, -math.inf).amax(dim=-1, keepdim=True)).exp() * mask
        weights = powers / powers.sum(dim=-1, keepdim=True)
        return torch.where(mask, weights, 0.0)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_repeated_calls")
class KeepsTheFirstBatchSize(Steps):
    def join(self, heads):
        if not hasattr(self, "batch"):
            self.batch = len(heads)
        return heads.transpose(1, 2).reshape(self.batch, heads.shape[2], -1)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_repeated_calls")
class KeepsTheFirstVectors(Steps):
    def look_up(self, T, S):
        if not hasattr(self, "kept") or self.kept[0].shape[:2] != (T, S) or self.kept[0].dtype != self.rel_k.dtype:
            self.kept = [table.detach() for table in super().look_up(T, S)]
        return self.kept


_ROWS = {}


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_repeated_calls")
class SharesItsRowsWithOthers(Steps):
    def rows(self, T, S):
        rows = _ROWS.setdefault((T, S), super().rows(T, S))
        return rows.clamp(max=len(self.rel_k) - 1)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_errors")
class TakesAnyDistance(Steps):
    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        super().__init__(d_model, n_heads, max(1, max_distance), dropout)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_errors")
class AssertsInsteadOfRaising(Steps):
    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        assert n_heads >= 1 and d_model >= 1 and max_distance >= 1 and d_model % n_heads == 0
        super().__init__(d_model, n_heads, max_distance, dropout)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_no_loop_over_tokens_or_batch")
class LoopsOverTheQueries(Steps):
    def distance_score(self, q, k, a_k):
        return torch.stack([q[:, :, t] @ a_k[t].T for t in range(q.shape[2])], dim=2)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_no_loop_over_tokens_or_batch")
class LoopsOverTheBatch(Steps):
    def average_distances(self, weights, a_v):
        return torch.stack([torch.einsum("hts,tsk->htk", item, a_v) for item in weights])


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_follows_the_device")
class ScalesOnTheCpu(Steps):
    def score(self, q, k, a_k):
        return (q @ k.mT + self.distance_score(q, k, a_k)) / torch.FloatTensor([q.shape[-1]]).sqrt().to(q.dtype)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_follows_the_device")
class EmbedsRowsOnTheCpu(Steps):
    def look_up(self, T, S):
        distances = torch.arange(S) - torch.arange(T)[:, None]
        rows = distances.clamp(-self.max_distance, self.max_distance) + self.max_distance
        return embedding(rows, self.rel_k), embedding(rows, self.rel_v)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_repeated_calls")
class ForgetsTheMaskWithoutGradients(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask if torch.is_grad_enabled() else None)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_repeated_calls")
class ForgetsTheMaskInTraining(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, None if self.training else mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_repeated_calls")
class KeepsItsTablesWithoutGradients(Steps):
    def look_up(self, T, S):
        if torch.is_grad_enabled():
            return super().look_up(T, S)
        if not hasattr(self, "kept") or self.kept[0].dtype != self.rel_k.dtype:
            self.kept = self.rel_k.detach().clone(), self.rel_v.detach().clone()
        rows = self.rows(T, S)
        return self.kept[0][rows], self.kept[1][rows]


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_repeated_calls")
class SharesItsDropout(Steps):
    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        super().__init__(d_model, n_heads, max_distance, dropout)
        SharesItsDropout.last = dropout

    def drop(self, weights):
        return dropout(weights, self.last, self.training)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_repeated_calls")
class TakesTheMaskByNameAlone(Steps):
    def forward(self, query, key, value, *, mask=None):
        return super().forward(query, key, value, mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_masks_of_every_shape")
class TakesQueriesForTheBatch(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.dim() == 2 and len(mask) == len(scores) > 1:
            mask = mask[:, None, None]
        return super().weigh(scores, mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_masks_of_every_shape")
class TakesHeadsForTheBatch(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.dim() == 3 and len(mask) == len(scores) > 1:
            mask = mask[:, None]
        return super().weigh(scores, mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_masks_of_every_shape")
class TurnsAColumnMaskOver(Steps):
    def weigh(self, scores, mask):
        if mask is not None and mask.shape[-1] == 1 and scores.shape[-2] == scores.shape[-1]:
            mask = mask.mT
        return super().weigh(scores, mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_masks_of_every_shape")
class OneKeyIsAlwaysSeen(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, None if scores.shape[-1] == 1 else mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_float64_and_bfloat16")
class CountsInTheDtypeOfTheTables(Steps):
    def distances(self, T, S):
        queries, keys = (torch.arange(n, device=self.rel_k.device).to(self.rel_k.dtype) for n in (T, S))
        return (keys - queries[:, None]).long()


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_float64_and_bfloat16")
class NoGradientInBfloat16(Steps):
    def forward(self, query, key, value, mask=None):
        return super().forward(query, key.detach() if key.dtype == torch.bfloat16 else key, value, mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_float64_and_bfloat16")
class MaskedRowsSeeEverythingInBfloat16(Steps):
    def weigh(self, scores, mask):
        if mask is not None and scores.dtype == torch.bfloat16:
            mask = mask | ~mask.any(dim=-1, keepdim=True)
        return super().weigh(scores, mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_gradients")
class DetachesKeysThatAreTheQueries(Steps):
    def forward(self, query, key, value, mask=None):
        return super().forward(query, key.detach() if key is query else key, value, mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_gradients")
class DetachesValuesThatAreTheKeys(Steps):
    def forward(self, query, key, value, mask=None):
        return super().forward(query, key, value.detach() if value is key else value, mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_gradients")
class TrainsOnlyWithTheQuery(Steps):
    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return (output if query.requires_grad else output.detach()), weights


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_gradients")
class OneQueryHasNoGradient(Steps):
    def forward(self, query, key, value, mask=None):
        output, weights = super().forward(query, key, value, mask)
        return (output.detach() + 0 * self.wo(query) if query.shape[1] == 1 else output), weights


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_parameter_names")
class SavesTheRowsOfTheLastCall(Steps):
    def rows(self, T, S):
        rows = super().rows(T, S)
        if S > 1:
            self.register_buffer("row", rows)
        return rows


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_tables_are_drawn_from_xaviers_uniform_distribution")
class OneRowForBothSides(Steps):
    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        super().__init__(d_model, n_heads, max_distance, dropout)
        with torch.no_grad():
            self.rel_v[:max_distance] = self.rel_v[max_distance + 1 :].flip(0)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_follows_the_device")
class LeavesItsRowsBehind(Steps):
    def rows(self, T, S):
        if not hasattr(self, "kept"):
            self.kept = {}
        if (T, S) not in self.kept:
            self.kept[T, S] = super().rows(T, S)
        return self.kept[T, S]

    def look_up(self, T, S):
        return embedding(self.rows(T, S), self.rel_k), embedding(self.rows(T, S), self.rel_v)


_ROWS_OF_THE_FIRST_DEVICE = {}


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_follows_the_device")
class KeepsTheRowsOfTheFirstDevice(Steps):
    def rows(self, T, S):
        return _ROWS_OF_THE_FIRST_DEVICE.setdefault((T, S, self.max_distance), super().rows(T, S))


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_matches_the_reference")
class TellsFewQueriesApart(Steps):
    def rows(self, T, S):
        return super().rows(T, S)[torch.arange(T, device=self.rel_k.device).clamp(max=127)]


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_masks_of_every_shape")
class WantsTwoDimensionsOfAMask(Steps):
    def weigh(self, scores, mask):
        return super().weigh(scores, mask.unsqueeze(-3) if mask is not None and mask.dim() < 3 else mask)


@slip(replaces="RelativeMultiHeadAttention", caught_by="test_repeated_calls")
class KeepsItsJoinedWeightsWithoutGradients(Steps):
    def forward(self, query, key, value, mask=None):
        if torch.is_grad_enabled():
            return super().forward(query, key, value, mask)
        if not hasattr(self, "kept") or self.kept[0].dtype != query.dtype:
            projections = self.wq, self.wk, self.wv
            self.kept = torch.stack([p.weight for p in projections]), torch.stack([p.bias for p in projections])
        q, k, v = (linear(x, *p) for x, *p in zip((query, key, value), *self.kept, strict=True))
        q, k, v = self.split(q), self.split(k), self.split(v)
        a_k, a_v = self.look_up(q.shape[2], k.shape[2])
        weights = self.weigh(self.score(q, k, a_k), mask)
        return self.wo(self.join(self.average(weights, v, a_v))), weights


# --- right, in other styles -------------------------------------------------------------------------------


@alternative(replaces="RelativeMultiHeadAttention")
class PickedFromProductsWithTheTables(Steps):
    def look_up(self, T, S):
        rows = self.rows(T, S)
        return rows, rows  # the tables are multiplied before anything is picked

    def distance_score(self, q, k, rows):
        return (q @ self.rel_k.T).gather(-1, rows.expand(*q.shape[:2], *rows.shape))  # (B, H, T, 2m+1) -> (B, H, T, S)

    def average_distances(self, weights, rows):
        shared = weights.new_zeros(*weights.shape[:3], len(self.rel_v))  # (B, H, T, 2m+1)
        return shared.scatter_add(-1, rows.expand_as(weights), weights) @ self.rel_v


@alternative(replaces="RelativeMultiHeadAttention")
class PositionsInFront(RelativeMultiHeadAttention):
    def forward(self, query, key, value, mask=None):
        B, T, D = query.shape
        S, H, K, m = key.shape[1], self.n_heads, D // self.n_heads, self.max_distance
        q = self.wq(query).view(B, T, H, K).permute(0, 2, 1, 3).reshape(B * H, T, K)
        k = self.wk(key).view(B, S, H, K).permute(0, 2, 3, 1).reshape(B * H, K, S)
        v = self.wv(value).view(B, S, H, K).transpose(1, 2).reshape(B * H, S, K)
        here, there = torch.meshgrid(torch.arange(T), torch.arange(S), indexing="ij")
        rows = torch.clip(there - here + m, 0, 2 * m).to(query.device)
        scores = torch.bmm(q, k) + torch.bmm(q.transpose(0, 1), self.rel_k[rows].transpose(1, 2)).transpose(0, 1)
        bias = q.new_zeros(B, H, T, S)
        if mask is not None:
            bias = bias.masked_fill(mask.logical_not(), torch.finfo(q.dtype).min)
        weights = torch.softmax(scores.view(B, H, T, S) / math.sqrt(K) + bias, dim=-1)
        if mask is not None:
            weights = weights * mask
        kept = dropout(weights, self.dropout, self.training).view(B * H, T, S)
        heads = torch.bmm(kept, v) + torch.bmm(kept.transpose(0, 1), self.rel_v[rows]).transpose(0, 1)
        return self.wo(heads.view(B, H, T, K).permute(0, 2, 1, 3).reshape(B, T, D)), weights


@alternative(replaces="RelativeMultiHeadAttention")
class HeadByHead(RelativeMultiHeadAttention):
    def forward(self, query, key, value, mask=None):
        B, T, D = query.shape
        S, K, m = key.shape[1], D // self.n_heads, self.max_distance
        rows = torch.tensor([[max(-m, min(m, s - t)) + m for s in range(S)] for t in range(T)]).to(query.device)
        a_k, a_v = self.rel_k.index_select(0, rows.flatten()).view(T, S, K), self.rel_v[rows]
        q, k, v = self.wq(query), self.wk(key), self.wv(value)
        allowed = torch.ones(1, dtype=torch.bool, device=q.device) if mask is None else mask
        allowed = torch.broadcast_to(allowed, (B, self.n_heads, T, S))
        heads, weights = [], []
        for h in range(self.n_heads):
            block = slice(h * K, (h + 1) * K)
            near = torch.matmul(q[..., block].transpose(0, 1), a_k.transpose(1, 2)).transpose(0, 1)  # (B, T, S)
            scores = (torch.bmm(q[..., block], k[..., block].transpose(1, 2)) + near) / K**0.5
            some = allowed[:, h].any(dim=-1, keepdim=True)
            weights.append(scores.masked_fill(~allowed[:, h] & some, float("-inf")).softmax(dim=-1) * some)
            kept = nn.functional.dropout(weights[-1], self.dropout, self.training)
            heads.append(kept @ v[..., block] + torch.einsum("bts,tsk->btk", kept, a_v))
        return self.wo(torch.cat(heads, dim=-1)), torch.stack(weights, dim=1)


@alternative(replaces="RelativeMultiHeadAttention")
class OneHotRows(Steps):
    def look_up(self, T, S):
        picks = one_hot(self.rows(T, S), len(self.rel_k)).to(self.rel_k.dtype)  # (T, S, 2m+1)
        return picks @ self.rel_k, picks @ self.rel_v


@alternative(replaces="RelativeMultiHeadAttention")
class SlidingOverTheTables(Steps):
    def look_up(self, T, S):
        line = self.rows(1, T + S - 1)[0] if T == 1 else self.distances(1, T + S - 1)[0] - (T - 1)
        if T > 1:  # distances 1 - T .. S - 1
            line = line.clamp(-self.max_distance, self.max_distance) + self.max_distance
        return [t[line].unfold(0, S, 1).flip(0).transpose(1, 2) for t in (self.rel_k, self.rel_v)]


@alternative(replaces="RelativeMultiHeadAttention")
class QueriesScaledFirst(Steps):
    def score(self, q, k, a_k):
        q = q * q.shape[-1] ** -0.5
        return torch.einsum("bhtk,bhsk->bhts", q, k) + torch.einsum("bhtk,tsk->bhts", q, a_k)


@alternative(replaces="RelativeMultiHeadAttention")
class MatmulOverHeads(Steps):
    def distance_score(self, q, k, a_k):
        return (q.permute(0, 2, 1, 3) @ a_k.mT).permute(0, 2, 1, 3)  # (B, T, H, K) @ (T, K, S)

    def average_distances(self, weights, a_v):
        return torch.matmul(weights.transpose(1, 2), a_v).transpose(1, 2)  # (B, T, H, S) @ (T, S, K)


@alternative(replaces="RelativeMultiHeadAttention")
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


@alternative(replaces="RelativeMultiHeadAttention")
class NanToNum(Steps):
    def weigh(self, scores, mask):
        if mask is None:
            return scores.softmax(dim=-1)
        return scores.masked_fill(~mask, -math.inf).softmax(dim=-1).nan_to_num(0.0)


@alternative(replaces="RelativeMultiHeadAttention")
class Float64Inside(Steps):
    def forward(self, query, key, value, mask=None):
        q, k, v = (self.split(w(x)).double() for w, x in ((self.wq, query), (self.wk, key), (self.wv, value)))
        a_k, a_v = self.look_up(q.shape[2], k.shape[2])
        weights = self.weigh(self.score(q, k, a_k.double()), mask)
        heads = self.join(self.average(weights, v, a_v.double()))
        return self.wo(heads.to(query.dtype)), weights.to(query.dtype)


@alternative(replaces="RelativeMultiHeadAttention")
class ParametersInDicts(Steps):
    def __init__(self, d_model, n_heads, max_distance=16, dropout=0.0):
        nn.Module.__init__(self)
        if min(d_model, n_heads, max_distance) < 1 or d_model % n_heads != 0:
            raise ValueError(f"{d_model=}, {n_heads=} and {max_distance=} do not fit")
        self.n_heads, self.max_distance, self.dropout = n_heads, max_distance, dropout
        self.drop = nn.Dropout(dropout)
        rows, K = 2 * max_distance + 1, d_model // n_heads
        self.rel_v, self.rel_k = (
            nn.Parameter((torch.rand(rows, K) - 0.5) * math.sqrt(24 / (rows + K))) for _ in range(2)
        )
        for name in ("wo", "wv", "wk", "wq"):  # in another order
            weight = nn.Parameter(torch.randn(d_model, d_model) / d_model**0.5)
            self.add_module(name, nn.ParameterDict({"weight": weight, "bias": nn.Parameter(torch.zeros(d_model))}))

    def forward(self, query, key, value, mask=None):
        q, k, v = (
            (x @ w["weight"].T + w["bias"]).unflatten(2, (self.n_heads, -1)).movedim(2, 1)
            for w, x in ((self.wq, query), (self.wk, key), (self.wv, value))
        )
        a_k, a_v = self.look_up(q.shape[2], k.shape[2])
        weights = self.weigh(self.score(q, k, a_k), mask)
        heads = self.average(weights, v, a_v).movedim(1, 2).flatten(2)
        return [nn.functional.linear(heads, self.wo["weight"], self.wo["bias"]), weights]
