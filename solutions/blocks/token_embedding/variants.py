"""Other ways to write ``token_embedding``: wrong on purpose and worth explaining, just wrong, and right."""

import math

import torch
from torch import nn

from grader.judge.suite import alternative, misconception, slip

from .solution import TokenEmbedding


class Steps(TokenEmbedding):
    """The solution cut into steps, so that a variant bends one of them."""

    def __init__(self, vocab_size, d_model):
        super().__init__(vocab_size, d_model)
        with torch.no_grad():
            self.table.copy_(self.draw(vocab_size, d_model))

    def draw(self, vocab_size, d_model):
        return torch.randn(vocab_size, d_model) * d_model**-0.5

    def forward(self, ids):
        self.look_at(ids)
        return self.scale(self.rows(ids))

    def look_at(self, ids):
        if ids.min() < 0 or ids.max() >= len(self.table):
            raise ValueError("an id outside of the vocabulary")

    def rows(self, ids):
        return self.table[ids]  # (B, T, D)

    def scale(self, rows):
        return rows * math.sqrt(rows.shape[-1])


# --- misconceptions about the parameter -------------------------------------------------------------------


@misconception(replaces="TokenEmbedding", caught_by="test_parameter_name")
class EmbeddingInsteadOfParameter(Steps):
    """Your `table` is an nn.Embedding, so the name of its parameter is `table.weight`.

    It computes the same, but weights of others do not load by that name. What would make `table` itself a parameter?
    """

    def __init__(self, vocab_size, d_model):
        super().__init__(vocab_size, d_model)
        start = self.table.detach()
        del self.table
        self.table = nn.Embedding.from_pretrained(start, freeze=False)

    def look_at(self, ids):
        if ids.min() < 0 or ids.max() >= self.table.num_embeddings:
            raise ValueError("an id outside of the vocabulary")

    def rows(self, ids):
        return self.table(ids)


@misconception(replaces="TokenEmbedding", caught_by="test_parameter_name")
class TableIsABuffer(Steps):
    """Your table is saved, but it is no parameter.

    Buffers are for numbers that nobody trains. How will an optimizer find this table?
    """

    def __init__(self, vocab_size, d_model):
        super().__init__(vocab_size, d_model)
        start = self.table.detach()
        del self.table
        self.register_buffer("table", start)


@misconception(replaces="TokenEmbedding", caught_by="test_gradient_worked_out_by_hand")
class CutsTheTableOff(Steps):
    """Your vectors are right, but no gradient reaches the table.

    So it keeps its random start for ever. Where is it detached, or used without grad?
    """

    def rows(self, ids):
        return self.table.detach()[ids]


@misconception(replaces="TokenEmbedding", caught_by="test_parameter_name")
class SavesTheFactor(Steps):
    """You save the factor beside the table.

    Others refuse such a checkpoint, or have no factor to load. Does a number that follows from D have to be saved?
    """

    def __init__(self, vocab_size, d_model):
        super().__init__(vocab_size, d_model)
        self.register_buffer("factor", torch.tensor(math.sqrt(d_model), dtype=torch.float64))

    def scale(self, rows):
        return rows * self.factor.to(rows.dtype)


# --- misconceptions about the factor ----------------------------------------------------------------------


@misconception(replaces="TokenEmbedding", caught_by="test_rows_worked_out_by_hand")
class DoesNotScale(Steps):
    """Your result is the rows as they stand in the table.

    nn.Embedding does that. What does section 3.4 of the paper do to the embeddings in its last sentence?
    """

    def scale(self, rows):
        return rows


@misconception(replaces="TokenEmbedding", caught_by="test_rows_worked_out_by_hand")
class DividesByTheRoot(Steps):
    """You divide the rows by sqrt(D), as attention divides its scores.

    The table starts with a spread of 1 / sqrt(D). Which spread would your result have at the start, and which should it
    have?
    """

    def scale(self, rows):
        return rows / math.sqrt(rows.shape[-1])


@misconception(replaces="TokenEmbedding", caught_by="test_rows_worked_out_by_hand")
class ScalesByTheWidth(Steps):
    """You multiply the rows by D itself.

    The table starts with a spread of 1 / sqrt(D). Which factor brings that to 1?
    """

    def scale(self, rows):
        return rows * rows.shape[-1]


@misconception(replaces="TokenEmbedding", caught_by="test_rows_are_scaled_by_the_root_of_the_width")
class ScalesByTheVocabulary(Steps):
    """Your factor grows with the vocabulary: it seems to be sqrt(V).

    How many numbers has one vector, and how many rows has the table? Which of the two does the brief name?
    """

    def scale(self, rows):
        return rows * math.sqrt(len(self.table))


@misconception(replaces="TokenEmbedding", caught_by="test_rows_worked_out_by_hand")
class ScalesAtTheStartInstead(Steps):
    """Your table starts with a spread of 1, and the rows are not multiplied by anything.

    At the start the result looks the same. What happens when the weights of somebody else are loaded?
    """

    def draw(self, vocab_size, d_model):
        return torch.randn(vocab_size, d_model)

    def scale(self, rows):
        return rows


@misconception(replaces="TokenEmbedding", caught_by="test_gradient_worked_out_by_hand")
class ScalesBehindTheBackOfAutograd(Steps):
    """Your result is right, but the gradient of the table lacks the factor sqrt(D).

    Is the factor applied to `.data`, or under no_grad? What is the derivative of c * x by x?
    """

    def scale(self, rows):
        return rows + rows.detach() * (math.sqrt(rows.shape[-1]) - 1)


# --- misconceptions about the initial values --------------------------------------------------------------


@misconception(replaces="TokenEmbedding", caught_by="test_initial_mean_and_spread")
class StartsWithSpreadOne(Steps):
    """Your initial values have a standard deviation of 1, as torch.randn and nn.Embedding draw them.

    The rows are still to be multiplied by sqrt(D). How large would the result be?
    """

    def draw(self, vocab_size, d_model):
        return torch.randn(vocab_size, d_model)


@misconception(replaces="TokenEmbedding", caught_by="test_initial_mean_and_spread")
class StartsWithVarianceOneOverDSquared(Steps):
    """Your initial values have a standard deviation of 1 / D, so their variance is D**-2.

    Which of the two does the brief give, and which does the function take that you draw with?
    """

    def draw(self, vocab_size, d_model):
        return torch.randn(vocab_size, d_model) / d_model


@misconception(replaces="TokenEmbedding", caught_by="test_initial_mean_and_spread")
class StartsLikeGpt2(Steps):
    """Your initial values have a standard deviation of 0.02, whatever D is.

    BERT and GPT-2 start so, and do not multiply by anything. Which spread does the brief ask for?
    """

    def draw(self, vocab_size, d_model):
        return 0.02 * torch.randn(vocab_size, d_model)


@misconception(replaces="TokenEmbedding", caught_by="test_initial_mean_and_spread")
class StartsByTheVocabulary(Steps):
    """The spread of your initial values depends on V, the number of rows.

    A vector has D numbers, however many other vectors there are. By what is its spread given?
    """

    def draw(self, vocab_size, d_model):
        return torch.randn(vocab_size, d_model) * vocab_size**-0.5


@misconception(replaces="TokenEmbedding", caught_by="test_initial_values_are_normal")
class StartsUniformly(Steps):
    """None of your initial values lies far out: you seem to draw them uniformly, or to cut the distribution.

    How large is the share of a normal distribution beyond two standard deviations?
    """

    def draw(self, vocab_size, d_model):
        return (2 * torch.rand(vocab_size, d_model) - 1) * math.sqrt(3 / d_model)


@misconception(replaces="TokenEmbedding", caught_by="test_gradient_worked_out_by_hand")
class FirstRowIsPadding(Steps):
    """Row 0 of your table is special: it starts as zeros, or gets no gradient, as with `padding_idx=0`.

    In this exercise, is id 0 a token like any other?
    """

    def draw(self, vocab_size, d_model):
        return super().draw(vocab_size, d_model).index_fill(0, torch.tensor([0]), 0.0)

    def rows(self, ids):
        return nn.functional.embedding(ids, self.table, padding_idx=0)


# --- misconceptions about the ids -------------------------------------------------------------------------


@misconception(replaces="TokenEmbedding", caught_by="test_rows_worked_out_by_hand")
class CountsFromOne(Steps):
    """The id 1 gets the first row of your table: you seem to count ids from 1.

    Which row belongs to id 0 in the brief?
    """

    def rows(self, ids):
        return self.table[ids - 1]


@misconception(replaces="TokenEmbedding", caught_by="test_refuses_negative_ids")
class NegativeIdsCountFromTheEnd(Steps):
    """An id of -1 gets the last row of your table, as Python counts.

    Data often uses -1 or -100 for "no token". Would anybody notice that such numbers were embedded?
    """

    def look_at(self, ids):
        if ids.min() < -len(self.table) or ids.max() >= len(self.table):
            raise ValueError("an id outside of the vocabulary")


@misconception(replaces="TokenEmbedding", caught_by="test_refuses_ids_beyond_the_vocabulary")
class LetsPyTorchComplain(Steps):
    """You leave ids outside of the vocabulary to PyTorch.

    It raises IndexError for some of them on the CPU, stops the whole process on a GPU, and takes -1 for the last row.
    Which error does the brief ask for, and for which ids?
    """

    def look_at(self, ids):
        pass


@misconception(replaces="TokenEmbedding", caught_by="test_refuses_ids_beyond_the_vocabulary")
class ClampsTheIds(Steps):
    """You move ids outside of the vocabulary to the nearest row.

    Then a wrong tokenizer goes unnoticed, and the last token is trained with the gradients of others. What should
    happen instead?
    """

    def look_at(self, ids):
        pass

    def rows(self, ids):
        return self.table[ids.clamp(0, len(self.table) - 1)]


# --- slips ------------------------------------------------------------------------------------------------


@slip(replaces="TokenEmbedding", caught_by="test_returns_the_right_shape")
class FeaturesFirst(Steps):
    def forward(self, ids):
        return super().forward(ids).transpose(1, 2)


@slip(replaces="TokenEmbedding", caught_by="test_returns_the_right_shape")
class TokensFirst(Steps):
    def forward(self, ids):
        return super().forward(ids).transpose(0, 1)


@slip(replaces="TokenEmbedding", caught_by="test_rows_are_scaled_by_the_root_of_the_width")
class AlwaysTimesTwo(Steps):
    def scale(self, rows):
        return 2.0 * rows


@slip(replaces="TokenEmbedding", caught_by="test_rows_are_scaled_by_the_root_of_the_width")
class RoundsTheRoot(Steps):
    def scale(self, rows):
        return rows * math.isqrt(rows.shape[-1])


@slip(replaces="TokenEmbedding", caught_by="test_initial_values_are_normal")
class OneDrawForAllRows(Steps):
    def draw(self, vocab_size, d_model):
        return (torch.randn(d_model) * d_model**-0.5).expand(vocab_size, d_model)


@slip(replaces="TokenEmbedding", caught_by="test_initial_values_are_normal")
class SameStartForEveryModule(Steps):
    def draw(self, vocab_size, d_model):
        return torch.randn(vocab_size, d_model, generator=torch.Generator().manual_seed(0)) * d_model**-0.5


@slip(replaces="TokenEmbedding", caught_by="test_initial_values_are_normal")
class FirstRowStartsAtZero(Steps):
    def draw(self, vocab_size, d_model):
        return super().draw(vocab_size, d_model).index_fill(0, torch.tensor([0]), 0.0)


@slip(replaces="TokenEmbedding", caught_by="test_initial_values_are_normal")
class LastRowStartsAtZero(Steps):
    def draw(self, vocab_size, d_model):
        return super().draw(vocab_size, d_model).index_fill(0, torch.tensor([vocab_size - 1]), 0.0)


@slip(replaces="TokenEmbedding", caught_by="test_initial_values_are_normal")
class RowsOfLengthOne(Steps):
    def draw(self, vocab_size, d_model):
        return nn.functional.normalize(torch.randn(vocab_size, d_model), dim=-1)


@slip(replaces="TokenEmbedding", caught_by="test_initial_mean_and_spread")
class StartsInTheMiddleOfOne(Steps):
    def draw(self, vocab_size, d_model):
        return super().draw(vocab_size, d_model) + 0.1 * d_model**-0.5


@slip(replaces="TokenEmbedding", caught_by="test_a_token_has_one_vector")
class AddsThePosition(Steps):
    def scale(self, rows):
        return super().scale(rows) + torch.arange(rows.shape[1], device=rows.device, dtype=rows.dtype)[:, None]


@slip(replaces="TokenEmbedding", caught_by="test_a_token_has_one_vector")
class DropsInTraining(Steps):
    def scale(self, rows):
        return nn.functional.dropout(super().scale(rows), 0.1, self.training)


@slip(replaces="TokenEmbedding", caught_by="test_matches_on_many_sizes")
class DropsDimensionsOfSizeOne(Steps):
    def scale(self, rows):
        return super().scale(rows).squeeze()


@slip(replaces="TokenEmbedding", caught_by="test_matches_on_many_sizes")
class WantsAnEvenWidth(Steps):
    def __init__(self, vocab_size, d_model):
        if d_model % 2:
            raise ValueError("d_model must be even")
        super().__init__(vocab_size, d_model)


@slip(replaces="TokenEmbedding", caught_by="test_matches_on_many_sizes")
class ScalesOnlyWithGrad(Steps):
    def scale(self, rows):
        return super().scale(rows) if rows.requires_grad else rows


@slip(replaces="TokenEmbedding", caught_by="test_takes_strided_ids")
class WantsContiguousIds(Steps):
    def rows(self, ids):
        return self.table[ids.view(-1)].view(*ids.shape, -1)


@slip(replaces="TokenEmbedding", caught_by="test_float64")
class RoundsTheRows(Steps):
    def rows(self, ids):
        return super().rows(ids).float().to(self.table.dtype)


@slip(replaces="TokenEmbedding", caught_by="test_bfloat16")
class ReturnsFloat32(Steps):
    def scale(self, rows):
        return super().scale(rows.to(torch.promote_types(rows.dtype, torch.float32)))


@slip(replaces="TokenEmbedding", caught_by="test_bfloat16")
class IdsInTheDtypeOfTheTable(Steps):
    def rows(self, ids):
        return self.table[ids.to(self.table.dtype).long()]


@slip(replaces="TokenEmbedding", caught_by="test_gradient_worked_out_by_hand")
class SharesTheGradientByFrequency(Steps):
    def rows(self, ids):
        return nn.functional.embedding(ids, self.table, scale_grad_by_freq=True)


@slip(replaces="TokenEmbedding", caught_by="test_gradient_worked_out_by_hand")
class OnlyTheFirstTextTrains(Steps):
    def rows(self, ids):
        rows = super().rows(ids)
        return torch.cat((rows[:1], rows[1:].detach()))


@slip(replaces="TokenEmbedding", caught_by="test_gradients_match")
class PullsAtEveryRow(Steps):
    def rows(self, ids):
        return super().rows(ids) + 1e-3 * (self.table - self.table.detach()).sum()


@slip(replaces="TokenEmbedding", caught_by="test_gradients_match")
class TrainsInTrainingAlone(Steps):
    def rows(self, ids):
        return super().rows(ids) if self.training else super().rows(ids) + 0.5 * (self.table - self.table.detach())[ids]


@slip(replaces="TokenEmbedding", caught_by="test_training_shows")
class KeepsItsFirstTable(Steps):
    def rows(self, ids):
        if not hasattr(self, "kept"):
            self.kept = self.table.detach().clone()
        return (self.table - self.table.detach() + self.kept.to(self.table))[ids]


@slip(replaces="TokenEmbedding", caught_by="test_repeated_calls_stay_right")
class KeepsItsFirstRows(Steps):
    def rows(self, ids):
        if not hasattr(self, "kept") or self.kept.shape[:2] != ids.shape:
            self.kept = super().rows(ids)
        return self.kept


@slip(replaces="TokenEmbedding", caught_by="test_repeated_calls_stay_right")
class KeepsItsScaledTableForInference(Steps):
    def forward(self, ids):
        if self.training or torch.is_grad_enabled():
            return super().forward(ids)
        self.look_at(ids)
        if getattr(self, "scaled", self.table[:0]).dtype != self.table.dtype or not hasattr(self, "scaled"):
            self.scaled = self.scale(self.table)
        return self.scaled[ids]


_FACTORS: list[float] = []


@slip(replaces="TokenEmbedding", caught_by="test_rows_are_scaled_by_the_root_of_the_width")
class SharesTheFirstFactor(Steps):
    def scale(self, rows):
        _FACTORS.append(math.sqrt(rows.shape[-1]))
        return rows * _FACTORS[0]


@slip(replaces="TokenEmbedding", caught_by="test_leaves_ids_and_table_alone")
class ShortensItsRows(Steps):
    def rows(self, ids):
        rows = super().rows(ids).clone()
        with torch.no_grad():
            self.table.renorm_(2, 0, 1.0)
        return rows


@slip(replaces="TokenEmbedding", caught_by="test_leaves_ids_and_table_alone")
class ReplacesIdsInPlace(Steps):
    def rows(self, ids):
        rows = super().rows(ids)
        ids.clamp_(max=len(self.table) - 2)
        return rows


@slip(replaces="TokenEmbedding", caught_by="test_takes_all_tokens_at_once")
class LoopsOverTokens(Steps):
    def rows(self, ids):
        return torch.stack([self.table[ids[:, t]] for t in range(ids.shape[1])], dim=1)


@slip(replaces="TokenEmbedding", caught_by="test_takes_all_tokens_at_once")
class LoopsOverTheBatch(Steps):
    def rows(self, ids):
        return torch.stack([self.table[text] for text in ids])


@slip(replaces="TokenEmbedding", caught_by="test_takes_all_tokens_at_once")
class DrawsRowByRow(Steps):
    def draw(self, vocab_size, d_model):
        return torch.stack([torch.randn(d_model) for _ in range(vocab_size)]) * d_model**-0.5


@slip(replaces="TokenEmbedding", caught_by="test_refuses_sizes_below_one")
class TakesAnySize(nn.Module):
    def __init__(self, vocab_size, d_model):
        super().__init__()
        self.table = nn.Parameter(torch.randn(max(0, vocab_size), max(0, d_model)) * max(1, d_model) ** -0.5)

    def forward(self, ids):
        return TokenEmbedding.forward(self, ids)


@slip(replaces="TokenEmbedding", caught_by="test_refuses_ids_beyond_the_vocabulary")
class LooksAtTheFirstTokens(Steps):
    def look_at(self, ids):
        if ids[:, 0].min() < 0 or ids[:, 0].max() >= len(self.table):
            raise ValueError("an id outside of the vocabulary")


@slip(replaces="TokenEmbedding", caught_by="test_refuses_ids_beyond_the_vocabulary")
class LooksAtTheLastText(Steps):
    def look_at(self, ids):
        super().look_at(ids[-1:])


@slip(replaces="TokenEmbedding", caught_by="test_refuses_ids_beyond_the_vocabulary")
class OneIdTooMany(Steps):
    def look_at(self, ids):
        if ids.min() < 0 or ids.max() > len(self.table):
            raise ValueError("an id outside of the vocabulary")


@slip(replaces="TokenEmbedding", caught_by="test_refuses_ids_beyond_the_vocabulary")
class StartsOver(Steps):
    def look_at(self, ids):
        if ids.min() < 0:
            raise ValueError("an id outside of the vocabulary")

    def rows(self, ids):
        return self.table[ids % len(self.table)]


@slip(replaces="TokenEmbedding", caught_by="test_refuses_negative_ids")
class RefusesIfAllAreNegative(Steps):
    def look_at(self, ids):
        if ids.max() < 0 or ids.max() >= len(self.table):
            raise ValueError("an id outside of the vocabulary")


@slip(replaces="TokenEmbedding", caught_by="test_refuses_negative_ids")
class LooksInTrainingAlone(Steps):
    def look_at(self, ids):
        if ids.max() >= len(self.table) or (self.training and ids.min() < 0):
            raise ValueError("an id outside of the vocabulary")


@slip(replaces="TokenEmbedding", caught_by="test_refuses_ids_beyond_the_vocabulary")
class RefusesTheLastId(Steps):
    def look_at(self, ids):
        if ids.min() < 0 or ids.max() >= max(1, len(self.table) - 1):
            raise ValueError("an id outside of the vocabulary")


# --- right, written another way ---------------------------------------------------------------------------


@alternative(replaces="TokenEmbedding")
class LooksRowsUp(nn.Module):
    def __init__(self, vocab_size, d_model):
        super().__init__()
        if min(vocab_size, d_model) <= 0:
            raise ValueError(f"sizes must be positive: {vocab_size}, {d_model}")
        self.d_model = d_model
        self.table = nn.Parameter(torch.empty(vocab_size, d_model))
        nn.init.normal_(self.table, mean=0.0, std=d_model**-0.5)

    def forward(self, ids):
        if torch.any(ids < 0) or torch.any(ids >= self.table.size(0)):
            raise ValueError("an id outside of the vocabulary")
        return nn.functional.embedding(ids, self.table) * self.d_model**0.5


@alternative(replaces="TokenEmbedding")
class FromAnEmbedding(nn.Module):
    def __init__(self, vocab_size, d_model):
        super().__init__()
        if vocab_size < 1 or d_model < 1:
            raise ValueError("sizes must be positive")
        embedding = nn.Embedding(vocab_size, d_model)
        embedding.weight.data /= d_model**0.5
        self.table = embedding.weight

    def forward(self, ids):
        lowest, highest = ids.aminmax()
        if lowest.item() not in range(len(self.table)) or highest.item() not in range(len(self.table)):
            raise ValueError("an id outside of the vocabulary")
        rows = self.table.index_select(0, ids.reshape(-1))
        return (rows * math.sqrt(rows.shape[-1])).reshape(*ids.shape, -1)


@alternative(replaces="TokenEmbedding")
class ByAOneHotProduct(Steps):
    def look_at(self, ids):
        if not bool(torch.isin(ids, torch.arange(len(self.table))).all()):
            raise ValueError("an id outside of the vocabulary")

    def rows(self, ids):
        return (ids[..., None] == torch.arange(len(self.table))).to(self.table.dtype) @ self.table


@alternative(replaces="TokenEmbedding")
class ScalesTheTableFirst(Steps):
    def draw(self, vocab_size, d_model):
        return torch.normal(0.0, d_model**-0.5, (vocab_size, d_model))

    def forward(self, ids):
        self.look_at(ids)
        return (self.table * torch.tensor(self.table.shape[1], dtype=self.table.dtype).sqrt())[ids]


@alternative(replaces="TokenEmbedding")
class GathersInFloat64(Steps):
    def rows(self, ids):
        B, T = ids.shape
        places = ids.reshape(B * T, 1).expand(-1, self.table.shape[1])
        return self.table.double().gather(0, places).unflatten(0, (B, T))

    def scale(self, rows):
        return super().scale(rows).to(self.table.dtype)


@alternative(replaces="TokenEmbedding")
class TurnsTheErrorOfPyTorchIntoAnother(Steps):
    def look_at(self, ids):
        if (ids < 0).any():
            raise ValueError("an id below 0")

    def rows(self, ids):
        try:
            return nn.functional.embedding(ids, self.table)
        except IndexError as error:
            raise ValueError(str(error)) from error


@alternative(replaces="TokenEmbedding")
class WithTheFactorInABuffer(Steps):
    def __init__(self, vocab_size, d_model):
        super().__init__(vocab_size, d_model)
        self.register_buffer("factor", torch.tensor(float(d_model)).sqrt(), persistent=False)

    def scale(self, rows):
        return self.factor * rows
