"""Other ways to write ``learnable``: wrong on purpose and worth explaining, just wrong, and right."""

import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import LearnablePositionEncoding


class Steps(LearnablePositionEncoding):
    """The solution cut into steps, so that a variant bends one of them."""

    def __init__(self, max_len, d_model):
        super().__init__(max_len, d_model)
        with torch.no_grad():
            self.table.copy_(self.draw(max_len, d_model))

    def draw(self, max_len, d_model):
        return 0.02 * torch.randn(max_len, d_model)

    def forward(self, x):
        self.look_at(x)
        return self.add(x, self.rows(x))

    def look_at(self, x):
        if x.shape[1] > len(self.table):
            raise ValueError("more tokens than max_len")

    def rows(self, x):
        return self.table[: x.shape[1]]  # (T, D)

    def add(self, x, rows):
        return x + rows


# --- misconceptions about the parameter -------------------------------------------------------------------


@misconception(replaces="LearnablePositionEncoding", caught_by="test_parameter_name")
class EmbeddingInsteadOfParameter(Steps):
    """Your `table` is an nn.Embedding, so the name of its parameter is `table.weight`.

    It computes the same, but weights of others do not load by that name. What would make `table` itself a parameter?
    """

    def __init__(self, max_len, d_model):
        super().__init__(max_len, d_model)
        start = self.table.detach()
        del self.table
        self.table = nn.Embedding.from_pretrained(start, freeze=False)

    def look_at(self, x):
        if x.shape[1] > self.table.num_embeddings:
            raise ValueError("more tokens than max_len")

    def rows(self, x):
        return self.table(torch.arange(x.shape[1], device=x.device))


@misconception(replaces="LearnablePositionEncoding", caught_by="test_training_shows")
class MadeAnewInEachCall(Steps):
    """Your module has no parameter: the vectors seem to be drawn anew in each call.

    An optimizer cannot train what is made in `forward` and thrown away after it. Where do modules make their weights?
    """

    def __init__(self, max_len, d_model):
        super().__init__(max_len, d_model)
        del self.table
        self.sizes = max_len, d_model

    def forward(self, x):
        if x.shape[1] > self.sizes[0]:
            raise ValueError("more tokens than max_len")
        return x + nn.Embedding(*self.sizes)(torch.arange(x.shape[1]))


@misconception(replaces="LearnablePositionEncoding", caught_by="test_parameter_name")
class TableIsABuffer(Steps):
    """Your table is saved, but it is no parameter.

    Buffers are for numbers that nobody trains. How will an optimizer find this table?
    """

    def __init__(self, max_len, d_model):
        super().__init__(max_len, d_model)
        start = self.table.detach()
        del self.table
        self.register_buffer("table", start)


@misconception(replaces="LearnablePositionEncoding", caught_by="test_parameter_name")
class SavesTheNumbersOfThePositions(Steps):
    """You save the numbers 0, 1, 2 ... beside the table, as BERT's code did for a long time.

    Other codes refuse such a checkpoint. Must the counting be saved, or which kind of buffer is not?
    """

    def __init__(self, max_len, d_model):
        super().__init__(max_len, d_model)
        self.register_buffer("position_ids", torch.arange(max_len))

    def rows(self, x):
        return self.table[self.position_ids[: x.shape[1]]]


@misconception(replaces="LearnablePositionEncoding", caught_by="test_gradient_worked_out_by_hand")
class CutsTheTableOff(Steps):
    """Your sum is right, but no gradient reaches the table.

    So it keeps its random start for ever. Where is it detached, or used without grad?
    """

    def rows(self, x):
        return self.table.detach()[: x.shape[1]]


@misconception(replaces="LearnablePositionEncoding", caught_by="test_gradient_worked_out_by_hand")
class AveragesTheGradient(Steps):
    """The gradients that reach your table are divided by the size of the batch.

    Each row is used once for every text, and these uses add up. Does the loss average over the batch, or this module?
    """

    def rows(self, x):
        rows = super().rows(x)
        return rows.detach() + (rows - rows.detach()) / x.shape[0]


# --- misconceptions about the initial values --------------------------------------------------------------


@misconception(replaces="LearnablePositionEncoding", caught_by="test_initial_mean_and_spread")
class StartsWithSpreadOne(Steps):
    """Your initial values have a standard deviation of 1, as torch.randn and nn.Embedding draw them.

    BERT and GPT-2 start much smaller, so that positions do not drown the tokens. Which spread does the brief ask for?
    """

    def draw(self, max_len, d_model):
        return torch.randn(max_len, d_model)


@misconception(replaces="LearnablePositionEncoding", caught_by="test_initial_mean_and_spread")
class StartsByTheWidth(Steps):
    """The spread of your initial values depends on D: it seems to be 1 / sqrt(D).

    Embeddings of words are often drawn like that. Which spread does the brief ask for here?
    """

    def draw(self, max_len, d_model):
        return torch.randn(max_len, d_model) / math.sqrt(d_model)


@misconception(replaces="LearnablePositionEncoding", caught_by="test_initial_mean_and_spread")
class StartsWithVarianceGiven(Steps):
    """Your initial values have a variance of about 0.02, so their standard deviation is about 0.14.

    Which of the two does the brief give, and which does the function take that you draw with?
    """

    def draw(self, max_len, d_model):
        return math.sqrt(0.02) * torch.randn(max_len, d_model)


@misconception(replaces="LearnablePositionEncoding", caught_by="test_initial_mean_and_spread")
class StartsAtZero(Steps):
    """All numbers of your table are alike at first.

    It could be trained all the same, but the brief asks for values that are drawn. From which distribution?
    """

    def draw(self, max_len, d_model):
        return torch.zeros(max_len, d_model)


@misconception(replaces="LearnablePositionEncoding", caught_by="test_initial_values_are_normal")
class StartsUniformly(Steps):
    """None of your initial values lies far out: you seem to draw them uniformly, or to cut the distribution.

    How large is the share of a normal distribution beyond two standard deviations?
    """

    def draw(self, max_len, d_model):
        return 0.02 * math.sqrt(3) * (2 * torch.rand(max_len, d_model) - 1)


# --- misconceptions about the sum -------------------------------------------------------------------------


@misconception(replaces="LearnablePositionEncoding", caught_by="test_sum_worked_out_by_hand")
class ReturnsTheRowsAlone(Steps):
    """You return the rows of the table without x.

    Many codes have a module that does so, and add its result later. What does this one promise to return?
    """

    def add(self, x, rows):
        return rows


@misconception(replaces="LearnablePositionEncoding", caught_by="test_short_texts_get_the_first_rows")
class AddsAllRows(Steps):
    """You add the whole table to x, so that your module works for T = max_len alone.

    Most texts are shorter. Which rows belong to a text of 3 tokens?
    """

    def rows(self, x):
        return self.table


@misconception(replaces="LearnablePositionEncoding", caught_by="test_short_texts_get_the_first_rows")
class StartsAtRowOne(Steps):
    """Your first token gets row 1 of the table: you seem to count positions from 1.

    Then row 0 is never trained, and a text of max_len tokens finds one row too few. Where does the brief start?
    """

    def rows(self, x):
        return self.table[1 : x.shape[1] + 1]


@misconception(replaces="LearnablePositionEncoding", caught_by="test_every_item_gets_the_same_rows")
class TokensAlongTheFirstDimension(Steps):
    """You give each item of the batch one row of the table, as if the shape of x were (T, B, D).

    A well-known tutorial has that layout. Which dimension counts the tokens here?
    """

    def rows(self, x):
        return self.table[: x.shape[0], None]  # (B, 1, D)


@misconception(replaces="LearnablePositionEncoding", caught_by="test_returns_the_right_shape")
class PutsRowsBesideTokens(Steps):
    """You put the rows beside the tokens, so that the result is twice as wide.

    Codes for images do that at times. BERT and GPT-2 keep the width D: what do they do with the two vectors?
    """

    def add(self, x, rows):
        return torch.cat((x, rows.expand_as(x)), dim=-1)


@misconception(replaces="LearnablePositionEncoding", caught_by="test_sum_worked_out_by_hand")
class ScalesTheTokens(Steps):
    """You multiply x by sqrt(D) before you add the rows.

    The first transformer does that in its embedding, which is another module. What shall happen to x here?
    """

    def add(self, x, rows):
        return x * math.sqrt(x.shape[-1]) + rows


@misconception(replaces="LearnablePositionEncoding", caught_by="test_tokens_stay_as_they_are")
class DropsInTraining(Steps):
    """Your sum changes in training mode: you seem to drop some of its numbers.

    BERT and GPT-2 do so right after the sum. What does this exercise say about dropout?
    """

    def add(self, x, rows):
        return nn.functional.dropout(x + rows, 0.1, self.training)


@misconception(replaces="LearnablePositionEncoding", caught_by="test_sum_worked_out_by_hand")
class NormalisesTheSum(Steps):
    """You normalise the sum.

    BERT does so right after it. What does this module promise to return?
    """

    def add(self, x, rows):
        return nn.functional.layer_norm(x + rows, x.shape[-1:])


@misconception(replaces="LearnablePositionEncoding", caught_by="test_refuses_longer_texts")
class LeavesLongTextsToPyTorch(Steps):
    """You leave it to PyTorch to complain about a text longer than max_len.

    It does with a RuntimeError, and not always: what happens in your code when max_len is 1?
    """

    def look_at(self, x):
        pass


@misconception(replaces="LearnablePositionEncoding", caught_by="test_refuses_longer_texts")
class LeavesLongTextsToTheIndex(Steps):
    """You look up the rows by number, and leave it to PyTorch to complain about a number that is too large.

    It does with an IndexError, and on a GPU much later and less clearly. Which error does the brief ask for?
    """

    def look_at(self, x):
        pass

    def rows(self, x):
        return self.table[torch.arange(x.shape[1], device=x.device)]


@misconception(replaces="LearnablePositionEncoding", caught_by="test_refuses_longer_texts")
class CutsLongTexts(Steps):
    """You cut a text that is longer than max_len, without a word.

    The caller gets fewer tokens back than were given. What should happen instead?
    """

    def forward(self, x):
        return super().forward(x[:, : len(self.table)])


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="LearnablePositionEncoding", caught_by="test_parameter_name")
class TrainsAFactor(Steps):
    def __init__(self, max_len, d_model):
        super().__init__(max_len, d_model)
        self.scale = nn.Parameter(torch.ones(()))

    def add(self, x, rows):
        return x + rows * self.scale


@slip(replaces="LearnablePositionEncoding", caught_by="test_parameter_name")
class TableWithABatchDimension(Steps):
    def __init__(self, max_len, d_model):
        super().__init__(max_len, d_model)
        self.table = nn.Parameter(self.table.detach()[None])

    def look_at(self, x):
        if x.shape[1] > self.table.shape[1]:
            raise ValueError("more tokens than max_len")

    def rows(self, x):
        return self.table[:, : x.shape[1]]


@slip(replaces="LearnablePositionEncoding", caught_by="test_initial_mean_and_spread")
class StartsAroundOne(Steps):
    def draw(self, max_len, d_model):
        return 1.0 + super().draw(max_len, d_model)


@slip(replaces="LearnablePositionEncoding", caught_by="test_initial_mean_and_spread")
class StartsByXavier(Steps):
    def draw(self, max_len, d_model):
        return nn.init.xavier_normal_(torch.empty(max_len, d_model))


@slip(replaces="LearnablePositionEncoding", caught_by="test_initial_values_are_normal")
class CutAtTwoStandardDeviations(Steps):
    def draw(self, max_len, d_model):
        wide = nn.init.trunc_normal_(torch.empty(max_len, d_model), a=-2.0, b=2.0)
        return 0.02 * wide / wide.std()


@slip(replaces="LearnablePositionEncoding", caught_by="test_initial_values_are_normal")
class SameRowEverywhere(Steps):
    def draw(self, max_len, d_model):
        return 0.02 * torch.randn(1, d_model).expand(max_len, -1)


@slip(replaces="LearnablePositionEncoding", caught_by="test_initial_mean_and_spread")
class StartsSmallTablesAtZero(Steps):
    def draw(self, max_len, d_model):
        return super().draw(max_len, d_model) * (max_len * d_model > 1000)


@slip(replaces="LearnablePositionEncoding", caught_by="test_initial_values_are_normal")
class SameColumnEverywhere(Steps):
    def draw(self, max_len, d_model):
        return 0.02 * torch.randn(max_len, 1).expand(-1, d_model)


@slip(replaces="LearnablePositionEncoding", caught_by="test_initial_values_are_normal")
class RowsThatComeAgain(Steps):
    def draw(self, max_len, d_model):
        return super().draw(100, d_model)[torch.arange(max_len) % 100]


@slip(replaces="LearnablePositionEncoding", caught_by="test_initial_values_are_normal")
class SameStartForEveryModule(Steps):
    def draw(self, max_len, d_model):
        return 0.02 * torch.randn(max_len, d_model, generator=torch.Generator().manual_seed(0))


@slip(replaces="LearnablePositionEncoding", caught_by="test_initial_values_are_normal")
class StartsWithSines(Steps):
    def draw(self, max_len, d_model):
        angles = torch.arange(max_len)[:, None] * 10_000 ** (-torch.arange(d_model) / d_model)
        return 0.02 * math.sqrt(2) * angles.sin()


@slip(replaces="LearnablePositionEncoding", caught_by="test_short_texts_get_the_first_rows")
class AddsTheLastRows(Steps):
    def rows(self, x):
        return self.table[len(self.table) - x.shape[1] :]


@slip(replaces="LearnablePositionEncoding", caught_by="test_every_item_gets_the_same_rows")
class KeepsTheFirstBatchSize(Steps):
    def rows(self, x):
        if not hasattr(self, "batch"):
            self.batch = x.shape[0]
        return self.table[: x.shape[1]].expand(self.batch, -1, -1)


@slip(replaces="LearnablePositionEncoding", caught_by="test_matches_on_many_sizes")
class DropsDimensionsOfSizeOne(Steps):
    def add(self, x, rows):
        return (x + rows).squeeze()


@slip(replaces="LearnablePositionEncoding", caught_by="test_matches_on_many_sizes")
class WantsAnEvenWidth(Steps):
    def __init__(self, max_len, d_model):
        if d_model % 2:
            raise ValueError("d_model must be even")
        super().__init__(max_len, d_model)


@slip(replaces="LearnablePositionEncoding", caught_by="test_takes_strided_inputs")
class WantsContiguousTokens(Steps):
    def add(self, x, rows):
        return (x.view(len(x), -1) + rows.flatten()).view(x.shape)


@slip(replaces="LearnablePositionEncoding", caught_by="test_float64")
class RoundsTheTokens(Steps):
    def add(self, x, rows):
        return (x.float() + rows.float()).to(x.dtype)


@slip(replaces="LearnablePositionEncoding", caught_by="test_bfloat16")
class ReturnsFloat32(Steps):
    def add(self, x, rows):
        return x + rows.to(torch.promote_types(x.dtype, torch.float32))


@slip(replaces="LearnablePositionEncoding", caught_by="test_bfloat16")
class CountsInTheDtypeOfX(Steps):
    def rows(self, x):
        return self.table[torch.arange(x.shape[1]).to(x.device, x.dtype).long()]


@slip(replaces="LearnablePositionEncoding", caught_by="test_rows_beyond_the_text_get_no_gradient")
class PullsAtEveryRow(Steps):
    def rows(self, x):
        return self.table[: x.shape[1]] + 1e-3 * (self.table - self.table.detach()).sum()


@slip(replaces="LearnablePositionEncoding", caught_by="test_rows_beyond_the_text_get_no_gradient")
class FirstRowIsPadding(Steps):
    def rows(self, x):
        positions = torch.arange(x.shape[1], device=x.device)
        return nn.functional.embedding(positions, self.table, padding_idx=0)


@slip(replaces="LearnablePositionEncoding", caught_by="test_gradients_match")
class CutsTheTokensOff(Steps):
    def add(self, x, rows):
        return x.detach() + rows


@slip(replaces="LearnablePositionEncoding", caught_by="test_gradients_match")
class CutsTheTokensOffInBfloat16(Steps):
    def add(self, x, rows):
        return (x.detach() if x.dtype == torch.bfloat16 else x) + rows


@slip(replaces="LearnablePositionEncoding", caught_by="test_gradients_match")
class CutsTheTableOffInBfloat16(Steps):
    def add(self, x, rows):
        return x + (rows.detach() if x.dtype == torch.bfloat16 else rows)


@slip(replaces="LearnablePositionEncoding", caught_by="test_gradients_match")
class TrainsInEvaluationOnly(Steps):
    def add(self, x, rows):
        return x + (rows.detach() if self.training and x.dtype == torch.float32 else rows)


@slip(replaces="LearnablePositionEncoding", caught_by="test_the_mode_changes_nothing")
class OtherRowsWithoutGradients(Steps):
    def rows(self, x):
        return super().rows(x) if torch.is_grad_enabled() else super().rows(x).flip(0)


@slip(replaces="LearnablePositionEncoding", caught_by="test_the_mode_changes_nothing")
class TwiceTheRowsForATrainedX(Steps):
    def add(self, x, rows):
        return x + rows + (rows.detach() if x.requires_grad else 0.0)


@slip(replaces="LearnablePositionEncoding", caught_by="test_the_mode_changes_nothing")
class TwiceTheRowsInTraining(Steps):
    def add(self, x, rows):
        return x + rows + (rows.detach() if self.training else 0.0)


@slip(replaces="LearnablePositionEncoding", caught_by="test_matches_on_many_sizes")
class CutsOffLargeNumbers(Steps):
    def add(self, x, rows):
        return super().add(x, rows).clamp(-100.0, 100.0)


@slip(replaces="LearnablePositionEncoding", caught_by="test_gradient_worked_out_by_hand")
class OnlyTheFirstTextTrains(Steps):
    def add(self, x, rows):
        return x + torch.cat((rows[None], rows.detach().expand(len(x) - 1, -1, -1)))


@slip(replaces="LearnablePositionEncoding", caught_by="test_gradients_match")
class SharesTheGradientByFrequency(Steps):
    def rows(self, x):
        positions = torch.arange(x.shape[1], device=x.device).expand(x.shape[0], -1)
        return nn.functional.embedding(positions, self.table, scale_grad_by_freq=True)


@slip(replaces="LearnablePositionEncoding", caught_by="test_training_shows")
class KeepsItsFirstTable(Steps):
    def rows(self, x):
        if not hasattr(self, "kept"):
            self.kept = self.table.detach().clone()
        return (self.table - self.table.detach() + self.kept.to(self.table))[: x.shape[1]]


@slip(replaces="LearnablePositionEncoding", caught_by="test_repeated_calls_stay_right")
class KeepsRowsWithoutGradients(Steps):
    def rows(self, x):
        rows = super().rows(x)
        if torch.is_grad_enabled():
            return rows
        self.kept = getattr(self, "kept", {})
        return self.kept.setdefault((rows.shape, rows.dtype, rows.device), rows.clone())


@slip(replaces="LearnablePositionEncoding", caught_by="test_repeated_calls_stay_right")
class KeepsTheLastRowsWithoutGradients(Steps):
    def rows(self, x):
        rows = super().rows(x)
        if torch.is_grad_enabled():
            return rows
        kept = getattr(self, "kept", None)
        if kept is None or (kept.shape, kept.dtype, kept.device) != (rows.shape, rows.dtype, rows.device):
            self.kept = rows.clone()
        return self.kept


@slip(replaces="LearnablePositionEncoding", caught_by="test_repeated_calls_stay_right")
class KeepsItsFirstRows(Steps):
    def rows(self, x):
        if not hasattr(self, "kept"):
            self.kept = self.table[: x.shape[1]]
        return self.kept


@slip(replaces="LearnablePositionEncoding", caught_by="test_leaves_x_alone")
class AddsInPlace(Steps):
    def add(self, x, rows):
        with torch.no_grad():
            x += rows
        return x + (rows - rows.detach())


@slip(replaces="LearnablePositionEncoding", caught_by="test_leaves_x_alone")
class ShortensItsRows(Steps):
    def rows(self, x):
        rows = super().rows(x).clone()
        with torch.no_grad():
            self.table.renorm_(2, 0, 1.0)
        return rows


@slip(replaces="LearnablePositionEncoding", caught_by="test_takes_all_tokens_at_once")
class LoopsOverTokens(Steps):
    def add(self, x, rows):
        return torch.stack([x[:, t] + rows[t] for t in range(len(rows))], dim=1)


@slip(replaces="LearnablePositionEncoding", caught_by="test_takes_all_tokens_at_once")
class LoopsOverTheBatch(Steps):
    def add(self, x, rows):
        return torch.stack([item + rows for item in x])


@slip(replaces="LearnablePositionEncoding", caught_by="test_follows_the_device")
class CountsOnTheCpu(Steps):
    def rows(self, x):
        return nn.functional.embedding(torch.arange(x.shape[1], device="cpu"), self.table)


@slip(replaces="LearnablePositionEncoding", caught_by="test_follows_the_device")
class ReturnsToTheCpu(Steps):
    def add(self, x, rows):
        return x.cpu() + rows.cpu()


@slip(replaces="LearnablePositionEncoding", caught_by="test_refuses_sizes_below_one")
class TakesAnySize(nn.Module):
    def __init__(self, max_len, d_model):
        super().__init__()
        self.table = nn.Parameter(0.02 * torch.randn(max(0, max_len), max(0, d_model)))

    def forward(self, x):
        return LearnablePositionEncoding.forward(self, x)


@slip(replaces="LearnablePositionEncoding", caught_by="test_refuses_longer_texts")
class RefusesOnlyInEvaluation(Steps):
    def forward(self, x):
        return x if self.training and x.shape[1] > len(self.table) else super().forward(x)


@slip(replaces="LearnablePositionEncoding", caught_by="test_refuses_longer_texts")
class RefusesOnlySingleTexts(Steps):
    def forward(self, x):
        return x if len(x) > 1 and x.shape[1] > len(self.table) else super().forward(x)


@slip(replaces="LearnablePositionEncoding", caught_by="test_refuses_longer_texts")
class StartsOver(Steps):
    def look_at(self, x):
        pass

    def rows(self, x):
        return self.table[torch.arange(x.shape[1], device=x.device) % len(self.table)]


@slip(replaces="LearnablePositionEncoding", caught_by="test_refuses_longer_texts")
class TurnsTheErrorOfPyTorchIntoAnother(Steps):
    def forward(self, x):
        try:
            return x + self.table[: x.shape[1]]
        except RuntimeError:
            raise ValueError("more tokens than max_len") from None


@slip(replaces="LearnablePositionEncoding", caught_by="test_refuses_longer_texts")
class RefusesLargeBatches(Steps):
    def look_at(self, x):
        if max(x.shape[:2]) > len(self.table):
            raise ValueError("more tokens than max_len")


@slip(replaces="LearnablePositionEncoding", caught_by="test_parameter_name")
class SizesHaveOtherNames(Steps):
    def __init__(self, length, width):
        super().__init__(length, width)


# --- right, written another way ---------------------------------------------------------------------------


@alternative(replaces="LearnablePositionEncoding")
class LooksRowsUp(nn.Module):
    def __init__(self, max_len, d_model):
        super().__init__()
        if min(max_len, d_model) <= 0:
            raise ValueError(f"sizes must be positive: {max_len}, {d_model}")
        self.table = nn.Parameter(torch.empty(max_len, d_model))
        nn.init.normal_(self.table, mean=0.0, std=0.02)
        self.register_buffer("positions", torch.arange(max_len), persistent=False)

    def forward(self, x):
        T = x.size(1)
        if self.table.size(0) < T:
            raise ValueError(f"{T} tokens")
        return nn.functional.embedding(self.positions[:T], self.table).unsqueeze(0) + x


@alternative(replaces="LearnablePositionEncoding")
class FromAnEmbedding(nn.Module):
    def __init__(self, max_len, d_model):
        super().__init__()
        if max_len < 1 or d_model < 1:
            raise ValueError("sizes must be positive")
        embedding = nn.Embedding(max_len, d_model)
        embedding.weight.data.normal_(0.0, 0.02)
        self.table = embedding.weight

    def forward(self, x):
        T = x.shape[-2]
        if T not in range(self.table.shape[0] + 1):
            raise ValueError("more tokens than max_len")
        return x.add(self.table.index_select(0, torch.arange(T, device=x.device)))


@alternative(replaces="LearnablePositionEncoding")
class ByAOneHotProduct(Steps):
    def rows(self, x):
        pick = torch.eye(len(self.table), dtype=x.dtype, device=x.device)[: x.shape[1]]  # (T, max_len)
        return pick @ self.table


@alternative(replaces="LearnablePositionEncoding")
class SumsInFloat64(Steps):
    def draw(self, max_len, d_model):
        return torch.normal(torch.zeros(max_len, d_model), 0.02)

    def add(self, x, rows):
        return torch.einsum("btd,->btd", x.double(), torch.ones_like(x[0, 0, 0]).double()).add(rows).to(x.dtype)


@alternative(replaces="LearnablePositionEncoding")
class GathersForEachItem(Steps):
    def rows(self, x):
        B, T, D = x.shape
        positions = torch.arange(T, device=x.device)[None, :, None].expand(B, T, D)
        return self.table.expand(B, -1, -1).gather(1, positions)


@alternative(replaces="LearnablePositionEncoding")
class AddsIntoACopy(Steps):
    def add(self, x, rows):
        out = x.clone()
        out[:, : len(rows)] += rows
        return out


@alternative(replaces="LearnablePositionEncoding")
class SplitsTheTable(Steps):
    def rows(self, x):
        T = x.shape[1]
        first, _ = self.table.split((T, len(self.table) - T))
        return first.repeat(x.shape[0], 1, 1)
