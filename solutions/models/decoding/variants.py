"""Other ways to decode: wrong ones that a learner may come up with, and right ones."""

import heapq
import itertools
import math
from dataclasses import dataclass, field

import torch

from grader.judge.suite import alternative, misconception, slip

from .solution import beam_search, greedy_decode


def refuse(*counts):
    """Raise ValueError for a count below 1."""
    if min(counts) < 1:
        raise ValueError(f"counts must be at least 1: {counts}")


class Search:
    """The solution cut into steps, so that a variant bends one of them."""

    def __init__(self, log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
        refuse(max_len, beam_size)
        self.table, self.start, self.end, self.max_len = log_probs.tolist(), start_id, end_id, max_len
        self.size, self.penalty = beam_size, length_penalty

    def run(self):
        beam = [([self.start], 0.0)]
        while self.goes_on(beam):
            candidates = []
            for sequence, log_prob in beam:
                candidates += self.follow(sequence, log_prob)
            beam = self.choose(candidates)
        return self.answer(beam)

    def goes_on(self, beam):
        return any(self.is_open(sequence) for sequence, _ in beam)

    def is_open(self, sequence):
        return len(sequence) == 1 or (len(sequence) <= self.max_len and sequence[-1] != self.end)

    def follow(self, sequence, log_prob):
        return self.extend(sequence, log_prob) if self.is_open(sequence) else [(sequence, log_prob)]

    def extend(self, sequence, log_prob):
        return [([*sequence, token], log_prob + step) for token, step in enumerate(self.table[sequence[-1]])]

    def choose(self, candidates):
        return sorted(candidates, key=self.rank)[: self.size]

    def rank(self, candidate):
        return -self.score(*candidate), candidate[0]

    def score(self, sequence, log_prob):
        return log_prob / self.count(sequence) ** self.penalty

    def count(self, sequence):
        return len(sequence) - 1

    def answer(self, beam):
        return [(sequence, self.score(sequence, log_prob)) for sequence, log_prob in beam]


def searching(kind):
    """Return ``beam_search`` by a class of searches."""
    return lambda *args, **kwargs: kind(*args, **kwargs).run()


# --- misconceptions about greedy search -------------------------------------------------------------------


@misconception(replaces="greedy_decode", caught_by="test_greedy_by_hand")
def greedy_leaves_out_the_start(log_probs, start_id, end_id, max_len):
    """Your greedy sequence does not begin with the start.

    Both functions return sequences of the same form. What is the first token of each of them?
    """
    return greedy_decode(log_probs, start_id, end_id, max_len)[1:]


@misconception(replaces="greedy_decode", caught_by="test_greedy_by_hand")
def greedy_leaves_out_the_end(log_probs, start_id, end_id, max_len):
    """Your greedy sequence stops before end_id.

    The end is a token that the model has chosen, like the others. What does the brief say of the last token?
    """
    first, *tokens = greedy_decode(log_probs, start_id, end_id, max_len)
    return [first, *(token for token in tokens if token != end_id)]


@misconception(replaces="greedy_decode", caught_by="test_greedy_ends")
def greedy_counts_the_start(log_probs, start_id, end_id, max_len):
    """Your greedy sequence has max_len tokens with the start.

    What does max_len count, tokens of the list or tokens that are added?
    """
    refuse(max_len)
    return greedy_decode(log_probs, start_id, end_id, max_len)[:max_len]


@misconception(replaces="greedy_decode", caught_by="test_greedy_by_hand")
def greedy_never_ends(log_probs, start_id, end_id, max_len):
    """Your greedy search goes on after end_id.

    What follows the end of a sentence in a model's training data? When should the loop stop?
    """
    refuse(max_len)
    sequence = [start_id]
    for _ in range(max_len):
        sequence.append(int(log_probs[sequence[-1]].argmax()))
    return sequence


@misconception(replaces="greedy_decode", caught_by="test_greedy_ends")
def greedy_start_may_end(log_probs, start_id, end_id, max_len):
    """Your greedy search looks at the start, and ends at once where start_id equals end_id.

    Many models have one token for both. Which tokens can end a sequence?
    """
    refuse(max_len)
    return [start_id] if start_id == end_id else greedy_decode(log_probs, start_id, end_id, max_len)


@misconception(replaces="greedy_decode", caught_by="test_greedy_ties")
def greedy_takes_the_last_of_equals(log_probs, start_id, end_id, max_len):
    """Of equally likely tokens your greedy search takes the one with the highest id.

    Which one is asked for?
    """
    refuse(max_len)
    table, sequence = log_probs.tolist(), [start_id]
    while len(sequence) <= max_len and (len(sequence) == 1 or sequence[-1] != end_id):
        sequence.append(max(range(len(table)), key=lambda token: (table[sequence[-1]][token], token)))
    return sequence


@misconception(replaces="greedy_decode", caught_by="test_greedy_by_hand")
def greedy_reads_columns(log_probs, start_id, end_id, max_len):
    """Your greedy search reads the table by columns.

    log_probs[a, b] belongs to b after a. Which index is the last token, the first or the second?
    """
    return greedy_decode(log_probs.T, start_id, end_id, max_len)


# --- misconceptions about finished hypotheses ---------------------------------------------------------------


class SetsFinishedOnesAside(Search):
    def run(self):
        beam, done = [([self.start], 0.0)], []
        while beam:
            candidates = [c for sequence, log_prob in beam for c in self.extend(sequence, log_prob)]
            done += [c for c in candidates if not self.is_open(c[0])]
            beam = self.choose([c for c in candidates if self.is_open(c[0])])
        return self.answer(self.choose(done))


@misconception(replaces="beam_search", caught_by="test_beam_keeps_finished_hypotheses")
def finished_ones_are_set_aside(*args, **kwargs):
    """You put finished hypotheses aside and fill the beam with open ones, as many libraries do.

    Then nothing that has ended is ever given up. Where do finished hypotheses wait in this exercise, and what do they
    take up there?
    """
    return SetsFinishedOnesAside(*args, **kwargs).run()


class ExtendsFinishedOnes(Search):
    def is_open(self, sequence):
        return len(sequence) <= self.max_len


@misconception(replaces="beam_search", caught_by="test_beam_keeps_finished_hypotheses")
def finished_ones_are_extended(*args, **kwargs):
    """Your beam search goes on after end_id.

    A hypothesis that has ended should stay as it is. Which of the beam's hypotheses may be extended?
    """
    return ExtendsFinishedOnes(*args, **kwargs).run()


class StopsAtTheFirst(Search):
    def goes_on(self, beam):
        return self.is_open(beam[0][0])


@misconception(replaces="beam_search", caught_by="test_beam_keeps_finished_hypotheses")
def stops_when_the_best_is_finished(*args, **kwargs):
    """Your beam search stops as soon as the best hypothesis is finished, while others are still open.

    With a length penalty an open one may still overtake it, and the whole beam is asked for. When is the beam done?
    """
    return StopsAtTheFirst(*args, **kwargs).run()


class DropsFinishedOnes(Search):
    def follow(self, sequence, log_prob):
        return self.extend(sequence, log_prob) if self.is_open(sequence) else []


@misconception(replaces="beam_search", caught_by="test_beam_keeps_finished_hypotheses")
def finished_ones_are_lost(*args, **kwargs):
    """Your finished hypotheses are gone after the next step.

    The candidates of a step are the extensions of the open ones and something else. What?
    """
    return DropsFinishedOnes(*args, **kwargs).run()


class StartMayEnd(Search):
    def is_open(self, sequence):
        return len(sequence) <= self.max_len and sequence[-1] != self.end


@misconception(replaces="beam_search", caught_by="test_a_start_that_is_the_end")
def the_start_may_end(*args, **kwargs):
    """Your beam search is over before it begins where start_id equals end_id.

    Many models have one token for both. Which tokens can end a sequence?
    """
    search = StartMayEnd(*args, **kwargs)
    return [([search.start], 0.0)] if search.start == search.end else search.run()


class CountsTheStartForTheEnd(Search):
    def is_open(self, sequence):
        return len(sequence) == 1 or (len(sequence) < self.max_len and sequence[-1] != self.end)


@misconception(replaces="beam_search", caught_by="test_beam_by_hand")
def max_len_counts_the_start(*args, **kwargs):
    """Your hypotheses have at most max_len tokens with the start.

    What does max_len count, tokens of the list or tokens that are added?
    """
    return CountsTheStartForTheEnd(*args, **kwargs).run()


class OnlyEnded(Search):
    def answer(self, beam):
        return [pair for pair in super().answer(beam) if pair[0][-1] == self.end]


@misconception(replaces="beam_search", caught_by="test_beam_by_hand")
def unended_ones_are_left_out(*args, **kwargs):
    """You leave out hypotheses that came to max_len without end_id.

    They are finished, too. What should be returned in the end?
    """
    return OnlyEnded(*args, **kwargs).run()


# --- misconceptions about scores and the choice -------------------------------------------------------------


class PenaltyAtTheEnd(Search):
    def rank(self, candidate):
        return -candidate[1], candidate[0]

    def answer(self, beam):
        return sorted(super().answer(beam), key=lambda pair: (-pair[1], pair[0]))


@misconception(replaces="beam_search", caught_by="test_length_penalty_decides_at_every_step")
def penalty_comes_at_the_end(*args, **kwargs):
    """You choose the beam by plain log-probabilities, and divide by the length at the end.

    Short finished hypotheses then push out long ones before the penalty can help them. What decides at each step?
    """
    return PenaltyAtTheEnd(*args, **kwargs).run()


class CountsTheStart(Search):
    def count(self, sequence):
        return len(sequence)


@misconception(replaces="beam_search", caught_by="test_length_penalty_by_hand")
def start_is_counted(*args, **kwargs):
    """Your length counts the start.

    The start has no log-probability in the sum. How many numbers are added up for [0, 1, 3]?
    """
    return CountsTheStart(*args, **kwargs).run()


class DoesNotCountTheEnd(Search):
    def count(self, sequence):
        return max(1, len(sequence) - 1 - (sequence[-1] == self.end))


@misconception(replaces="beam_search", caught_by="test_length_penalty_by_hand")
def end_is_not_counted(*args, **kwargs):
    """Your length does not count the end.

    The end has a log-probability in the sum, like every other token. How many numbers are added up for [0, 1, 3]?
    """
    return DoesNotCountTheEnd(*args, **kwargs).run()


class DividesByPenalisedLength(Search):
    def score(self, sequence, log_prob):
        return log_prob / ((5 + self.count(sequence)) / 6) ** self.penalty


@misconception(replaces="beam_search", caught_by="test_length_penalty_by_hand")
def penalty_of_google(*args, **kwargs):
    """Your length penalty is ((5 + n) / 6) ** length_penalty, as in Google's translation system.

    That is in use, too. What does this exercise divide by?
    """
    return DividesByPenalisedLength(*args, **kwargs).run()


class MultipliesByTheLength(Search):
    def score(self, sequence, log_prob):
        return log_prob * self.count(sequence) ** self.penalty


@misconception(replaces="beam_search", caught_by="test_length_penalty_by_hand")
def multiplies_by_the_length(*args, **kwargs):
    """You multiply by the power of the length, so that long hypotheses lose even more.

    A log-probability is below 0. Should a long hypothesis come closer to 0 or further from it?
    """
    return MultipliesByTheLength(*args, **kwargs).run()


class AddsToScores(Search):
    def extend(self, sequence, log_prob):
        return [(longer, self.score(longer, total)) for longer, total in super().extend(sequence, log_prob)]

    def rank(self, candidate):
        return -candidate[1], candidate[0]

    def answer(self, beam):
        return beam


@misconception(replaces="beam_search", caught_by="test_length_penalty_by_hand")
def adds_to_divided_scores(*args, **kwargs):
    """You keep the score in the beam, divided already, and add the next log-probability to it.

    Then early tokens are divided again and again. Which number should a hypothesis carry along?
    """
    return AddsToScores(*args, **kwargs).run()


class IgnoresThePenalty(Search):
    def score(self, sequence, log_prob):
        return log_prob


@misconception(replaces="beam_search", caught_by="test_length_penalty_by_hand")
def penalty_is_forgotten(*args, **kwargs):
    """Your scores are plain log-probabilities: length_penalty has no influence.

    What is the log-probability divided by?
    """
    return IgnoresThePenalty(*args, **kwargs).run()


class ReturnsLogProbs(Search):
    def answer(self, beam):
        return beam


@misconception(replaces="beam_search", caught_by="test_length_penalty_by_hand")
def returns_log_probabilities(*args, **kwargs):
    """Your beam is right, but what you return beside the sequences are log-probabilities.

    By which number was the beam sorted?
    """
    return ReturnsLogProbs(*args, **kwargs).run()


class OneChildEach(Search):
    def extend(self, sequence, log_prob):
        first = len(sequence) == 1
        children = sorted(super().extend(sequence, log_prob), key=self.rank)
        return children if first else children[:1]


@misconception(replaces="beam_search", caught_by="test_beam_by_hand")
def one_extension_each(*args, **kwargs):
    """Each of your hypotheses keeps its best extension only, so that they never compete with each other.

    May the next beam hold several extensions of one hypothesis, and none of another?
    """
    return OneChildEach(*args, **kwargs).run()


class TiesAsTheyCome(Search):
    def rank(self, candidate):
        return -self.score(*candidate)


@misconception(replaces="beam_search", caught_by="test_beam_ties")
def ties_as_they_come(*args, **kwargs):
    """On a tie you keep the candidate that happens to come first.

    The order of the beam follows the scores, so that a larger sequence may come first. What decides on a tie?
    """
    return TiesAsTheyCome(*args, **kwargs).run()


class TiesToTheLarger(Search):
    def choose(self, candidates):
        return sorted(candidates, key=lambda c: (self.score(*c), c[0]), reverse=True)[: self.size]


@misconception(replaces="beam_search", caught_by="test_beam_ties")
def ties_to_the_larger(*args, **kwargs):
    """On a tie you keep the lexicographically larger sequence.

    Sorting pairs in reverse turns round both of their entries. Which of them should stay as it is?
    """
    return TiesToTheLarger(*args, **kwargs).run()


@misconception(replaces="beam_search", caught_by="test_beam_by_hand")
def only_the_best(*args, **kwargs):
    """You return the best hypothesis alone.

    What is asked for is the whole last beam. How many pairs are in it?
    """
    return beam_search(*args, **kwargs)[:1]


@misconception(replaces="beam_search", caught_by="test_beam_by_hand")
def sequences_without_the_start(*args, **kwargs):
    """Your sequences do not begin with the start.

    What is the first token of a hypothesis?
    """
    return [(sequence[1:], score) for sequence, score in beam_search(*args, **kwargs)]


@misconception(replaces="beam_search", caught_by="test_beam_by_hand")
def scores_are_probabilities(*args, **kwargs):
    """Your scores are probabilities: you take exp of the log-probabilities.

    Their order is the same as long as they are not too small. What is the score made of?
    """
    return [(sequence, math.exp(score)) for sequence, score in beam_search(*args, **kwargs)]


# --- slips --------------------------------------------------------------------------------------------------


@slip(replaces="greedy_decode", caught_by="test_greedy_matches_the_reference")
def greedy_for_contiguous_tables(log_probs, start_id, end_id, max_len):
    flat = log_probs.as_strided(log_probs.shape, (len(log_probs), 1))
    return greedy_decode(flat, start_id, end_id, max_len)


@slip(replaces="greedy_decode", caught_by="test_tables_of_every_dtype")
def greedy_in_float32(log_probs, start_id, end_id, max_len):
    return greedy_decode(log_probs.float(), start_id, end_id, max_len)


@slip(replaces="greedy_decode", caught_by="test_greedy_by_hand")
def greedy_returns_tensors(log_probs, start_id, end_id, max_len):
    return [torch.tensor(token) for token in greedy_decode(log_probs, start_id, end_id, max_len)]


@slip(replaces="greedy_decode", caught_by="test_errors")
def greedy_takes_no_steps(log_probs, start_id, end_id, max_len):
    return greedy_decode(log_probs, start_id, end_id, max_len) if max_len > 0 else [start_id]


_KEPT = {}


@slip(replaces="greedy_decode", caught_by="test_repeated_calls")
def greedy_keeps_the_first_table(log_probs, start_id, end_id, max_len):
    table = _KEPT.setdefault(("greedy", log_probs.shape, log_probs.dtype), log_probs.detach().clone())
    return greedy_decode(table, start_id, end_id, max_len)


@slip(replaces="beam_search", caught_by="test_repeated_calls")
def forgets_the_penalty_of_the_second_call(log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
    key = str(log_probs.tolist()), start_id, end_id, max_len, beam_size
    if key not in _KEPT:
        _KEPT[key] = beam_search(log_probs, start_id, end_id, max_len, beam_size, length_penalty)
    return _KEPT[key]


@slip(replaces="beam_search", caught_by="test_repeated_calls")
def subtracts_in_place(log_probs, *args, **kwargs):
    beam = beam_search(log_probs, *args, **kwargs)
    log_probs -= 1.0
    return beam


@slip(replaces="beam_search", caught_by="test_length_penalty_by_hand")
def penalty_of_one_by_default(log_probs, start_id, end_id, max_len, beam_size, length_penalty=1.0):
    return beam_search(log_probs, start_id, end_id, max_len, beam_size, length_penalty)


@slip(replaces="beam_search", caught_by="test_a_wide_beam_finds_everything")
def as_many_as_tokens(log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
    return beam_search(log_probs, start_id, end_id, max_len, min(beam_size, len(log_probs)), length_penalty)


@slip(replaces="beam_search", caught_by="test_a_wide_beam_finds_everything")
def fills_the_beam_up(log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
    beam = beam_search(log_probs, start_id, end_id, max_len, beam_size, length_penalty)
    return beam + [beam[-1]] * (beam_size - len(beam))


@slip(replaces="beam_search", caught_by="test_beam_by_hand")
def worst_first(*args, **kwargs):
    return beam_search(*args, **kwargs)[::-1]


@slip(replaces="beam_search", caught_by="test_hypotheses_are_what_they_say")
def best_twice(*args, **kwargs):
    beam = beam_search(*args, **kwargs)
    return [*beam[:1], *beam[: len(beam) - 1]] if len(beam) > 2 else beam


class TiesToTheLonger(Search):
    def rank(self, candidate):
        return -self.score(*candidate), -len(candidate[0]), candidate[0]


@slip(replaces="beam_search", caught_by="test_beam_ties")
def ties_to_the_longer(*args, **kwargs):
    return TiesToTheLonger(*args, **kwargs).run()


class SamplesAll(Search):
    """Tries every sequence there is, whatever the beam."""

    def choose(self, candidates):
        return sorted(candidates, key=self.rank)

    def answer(self, beam):
        return super().answer(beam)[: self.size]


@slip(replaces="beam_search", caught_by="test_beam_by_hand")
def tries_everything(log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
    if len(log_probs) ** max_len > 100:
        return beam_search(log_probs, start_id, end_id, max_len, beam_size, length_penalty)
    return SamplesAll(log_probs, start_id, end_id, max_len, beam_size, length_penalty).run()


class GreedyAfterTheFirst(Search):
    def extend(self, sequence, log_prob):
        return sorted(super().extend(sequence, log_prob), key=self.rank)[:2]


@slip(replaces="beam_search", caught_by="test_beam_matches_the_reference")
def two_extensions_each(*args, **kwargs):
    return GreedyAfterTheFirst(*args, **kwargs).run()


class IsGreedyForOne(Search):
    def choose(self, candidates):
        return max([c] for c in candidates) if self.size == 1 else super().choose(candidates)


@slip(replaces="beam_search", caught_by="test_a_beam_of_one_is_greedy")
def one_is_the_largest_sequence(*args, **kwargs):
    return IsGreedyForOne(*args, **kwargs).run()


class NeverEndsByItself(Search):
    def extend(self, sequence, log_prob):
        return [c for c in super().extend(sequence, log_prob) if c[0][-1] != self.start]


@slip(replaces="beam_search", caught_by="test_a_start_that_is_the_end")
def never_comes_back_to_the_start(*args, **kwargs):
    return NeverEndsByItself(*args, **kwargs).run()


class AddsInFloat32(Search):
    def extend(self, sequence, log_prob):
        return [(c, float(torch.tensor(x, dtype=torch.float32))) for c, x in super().extend(sequence, log_prob)]


@slip(replaces="beam_search", caught_by="test_tables_of_every_dtype")
def adds_in_float32(*args, **kwargs):
    return AddsInFloat32(*args, **kwargs).run()


@slip(replaces="beam_search", caught_by="test_tables_of_every_dtype")
def adds_in_the_dtype_of_the_table(log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
    class Rounds(Search):
        def extend(self, sequence, log_prob):
            return [(c, float(torch.tensor(x, dtype=log_probs.dtype))) for c, x in super().extend(sequence, log_prob)]

    return Rounds(log_probs, start_id, end_id, max_len, beam_size, length_penalty).run()


@slip(replaces="beam_search", caught_by="test_tables_of_every_dtype")
def by_numpy_as_it_is(log_probs, *args, **kwargs):
    return beam_search(torch.from_numpy(log_probs.numpy()), *args, **kwargs)


@slip(replaces="beam_search", caught_by="test_strided_tables")
def for_contiguous_tables(log_probs, *args, **kwargs):
    return beam_search(log_probs.view(-1).view(log_probs.shape), *args, **kwargs)


@slip(replaces="beam_search", caught_by="test_beam_by_hand")
def scores_are_tensors(log_probs, *args, **kwargs):
    return [(sequence, torch.tensor(score)) for sequence, score in beam_search(log_probs, *args, **kwargs)]


@slip(replaces="beam_search", caught_by="test_errors")
def asserts_the_counts(log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
    assert max_len > 0
    assert beam_size > 0
    return beam_search(log_probs, start_id, end_id, max_len, beam_size, length_penalty)


@slip(replaces="beam_search", caught_by="test_errors")
def takes_a_beam_of_none(log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
    if beam_size < 1:
        refuse(max_len)
        return []
    return beam_search(log_probs, start_id, end_id, max_len, beam_size, length_penalty)


# --- right, in other styles ---------------------------------------------------------------------------------


@alternative(replaces="greedy_decode")
def greedy_by_argmax(log_probs, start_id, end_id, max_len):
    refuse(max_len)
    sequence = [start_id]
    while len(sequence) <= max_len:
        sequence.append(log_probs[sequence[-1]].argmax().item())
        if sequence[-1] == end_id:
            break
    return sequence


@alternative(replaces="greedy_decode")
def greedy_from_a_list_of_successors(log_probs, start_id, end_id, max_len):
    if max_len <= 0:
        raise ValueError(max_len)
    best = (log_probs == log_probs.max(dim=1, keepdim=True).values).int().argmax(dim=1).tolist()
    path = [start_id, best[start_id]]
    while path[-1] != end_id and len(path) < max_len + 1:
        path += [best[path[-1]]]
    return path


@alternative(replaces="greedy_decode")
def greedy_by_recursion(log_probs, start_id, end_id, max_len):
    refuse(max_len)
    row = [float(x) for x in log_probs[start_id]]
    token = min(range(len(row)), key=lambda i: (-row[i], i))
    if token == end_id or max_len == 1:
        return [start_id, token]
    return [start_id, *greedy_by_recursion(log_probs, token, end_id, max_len - 1)]


@alternative(replaces="greedy_decode")
def greedy_in_one_tensor(log_probs, start_id, end_id, max_len):
    refuse(max_len)
    path = torch.tensor([start_id], device=log_probs.device)
    for _ in range(max_len):
        path = torch.cat((path, log_probs[path[-1]].max(dim=-1).indices.view(1)))
        if int(path[-1]) == end_id:
            break
    return path.tolist()


@dataclass(order=True)
class Hypothesis:
    """One sequence; the smaller of two is the better."""

    minus_score: float
    tokens: list[int]
    log_prob: float = field(compare=False)
    done: bool = field(compare=False, default=False)


@alternative(replaces="beam_search")
def by_a_heap(log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
    if max_len < 1 or beam_size < 1:
        raise ValueError(f"{max_len=}, {beam_size=}")
    beam = [Hypothesis(0.0, [start_id], 0.0)]
    for n in range(1, max_len + 1):
        heap = [h for h in beam if h.done]
        for h in beam:
            if h.done:
                continue
            for token in range(log_probs.shape[1]):
                total = h.log_prob + log_probs[h.tokens[-1], token].item()
                heap.append(Hypothesis(-(total / n**length_penalty), [*h.tokens, token], total, token == end_id))
        beam = heapq.nsmallest(beam_size, heap)
        if all(h.done for h in beam):
            break
    return [(h.tokens, -h.minus_score) for h in beam]


@alternative(replaces="beam_search")
def by_matrices(log_probs, start_id, end_id, max_len, beam_size, length_penalty=0.0):
    refuse(max_len, beam_size)
    table = log_probs.to("cpu", torch.float64)
    beam, sums, done = [(start_id,)], table.new_zeros(1), [False]
    for _ in range(max_len):
        totals = sums[:, None] + table[[tokens[-1] for tokens in beam]]  # (beam, V)
        found = [(beam[i], sums[i].item(), True) for i, over in enumerate(done) if over]
        for i, over in enumerate(done):
            if not over:
                found += [((*beam[i], b), x, b == end_id) for b, x in enumerate(totals[i].tolist())]
        found.sort(key=lambda c: (c[1] / (len(c[0]) - 1) ** length_penalty * -1, c[0]))
        beam, numbers, done = (list(part) for part in zip(*found[:beam_size], strict=True))
        sums = torch.tensor(numbers, dtype=torch.float64)
    return [[list(b), s / pow(len(b) - 1, length_penalty)] for b, s in zip(beam, sums.tolist(), strict=True)]


@alternative(replaces="beam_search")
def by_sorting_twice(log_probs, start, end, max_len, beam_size, length_penalty=0.0):
    refuse(max_len, beam_size)
    rows = {i: row.tolist() for i, row in enumerate(log_probs.unbind())}
    beam = {(start,): 0.0}

    def over(h):
        return len(h) > 1 and (h[-1] == end or len(h) == max_len + 1)

    def value(h, total):
        return total / math.pow(len(h) - 1, length_penalty)

    while not all(map(over, beam)):
        grown = {h: x for h, x in beam.items() if over(h)}
        grown |= {(*h, b): x + y for h, x in beam.items() if not over(h) for b, y in enumerate(rows[h[-1]])}
        order = sorted(sorted(grown), key=lambda h: value(h, grown[h]), reverse=True)  # a stable sort keeps ties
        beam = {h: grown[h] for h in itertools.islice(order, beam_size)}
    return [(list(h), value(h, x)) for h, x in beam.items()]
