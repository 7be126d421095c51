"""The reference of ``decoding`` against searches that try everything, and against Viterbi's algorithm."""

import importlib.util
import itertools
import math
from pathlib import Path
from types import ModuleType

import pytest
import torch

SOLUTION = Path(__file__).parents[2] / "solutions" / "models" / "decoding" / "solution.py"
SIZES = [(2, 4, 0, 1), (3, 4, 1, 2), (3, 3, 2, 2), (4, 3, 0, 3), (5, 2, 4, 0), (1, 3, 0, 0)]  # V, max_len, start, end


@pytest.fixture(scope="module")
def solution() -> ModuleType:
    spec = importlib.util.spec_from_file_location("decoding_solution", SOLUTION)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def eighths(V: int, seed: int, low: int = -40) -> torch.Tensor:
    """Return a table of multiples of 1/8 below 0."""
    return torch.randint(low, 0, (V, V), generator=torch.Generator().manual_seed(seed)) / 8


def everything(table, max_len, start, end, penalty):
    """Return all hypotheses that are finished, with their scores, the best first."""
    found = []
    for n in range(1, max_len + 1):
        for tokens in itertools.product(range(len(table)), repeat=n):
            ended = [place for place, token in enumerate(tokens, start=1) if token == end]
            if ended in ([], [n]) and (n == max_len or ended):
                log_prob = 0.0
                for last, token in itertools.pairwise((start, *tokens)):
                    log_prob += float(table[last, token])
                found.append(([start, *tokens], log_prob / n**penalty))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


@pytest.mark.parametrize("penalty", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize(("V", "max_len", "start", "end"), SIZES)
@pytest.mark.parametrize("low", [-40, -3])
def test_a_beam_as_wide_as_the_space_is_an_exhaustive_search(solution, V, max_len, start, end, low, penalty):
    table = eighths(V, seed=V, low=low)

    beam = solution.beam_search(table, start, end, max_len, V**max_len, penalty)

    assert beam == everything(table, max_len, start, end, penalty)


@pytest.mark.parametrize(("V", "max_len", "start", "end"), SIZES)
def test_each_step_keeps_the_best_of_what_the_beam_before_leads_to(solution, V, max_len, start, end):
    """The definition, step by step: a beam for max_len - 1 holds what the beam for max_len extends."""
    table, size = eighths(V, seed=7), 3
    before = solution.beam_search(table, start, end, 1, size, 0.5)
    assert before == everything(table, 1, start, end, 0.5)[:size]
    for n in range(2, max_len + 1):
        candidates = []
        for sequence, score in before:
            if sequence[-1] == end:
                candidates.append((sequence, score))
                continue
            total = sum(float(table[a, b]) for a, b in itertools.pairwise(sequence))
            candidates += [([*sequence, b], (total + float(table[sequence[-1], b])) / n**0.5) for b in range(V)]

        beam = solution.beam_search(table, start, end, n, size, 0.5)

        assert beam == sorted(candidates, key=lambda pair: (-pair[1], pair[0]))[:size]
        before = beam


@pytest.mark.parametrize("seed", range(4))
def test_the_best_of_a_wide_beam_is_the_path_of_viterbi(solution, seed):
    """Without a length penalty the best sequence is a shortest path, which dynamic programming finds."""
    V, max_len, start, end = 5, 4, 0, 4
    table = eighths(V, seed)
    best = {start: 0.0}  # the best log-probability of an open sequence that ends in this token
    finished = []
    for n in range(1, max_len + 1):
        step = {b: max(value + float(table[a, b]) for a, value in best.items()) for b in range(V)}
        finished += list(step.values()) if n == max_len else [step[end]]
        best = {token: value for token, value in step.items() if token != end}

    beam = solution.beam_search(table, start, end, max_len, V**max_len)

    assert beam[0][1] == max(finished)


@pytest.mark.parametrize("low", [-40, -3])
@pytest.mark.parametrize("seed", range(4))
def test_greedy_is_a_walk_along_argmax_and_a_beam_of_one(solution, seed, low):
    V, max_len = 6, 5
    table = eighths(V, seed, low)
    for start, end in itertools.product(range(V), repeat=2):
        walk = [start]
        for _ in range(max_len):
            walk.append(int(torch.argmax(table[walk[-1]])))
            if walk[-1] == end:
                break

        greedy = solution.greedy_decode(table, start, end, max_len)

        assert greedy == walk
        assert [sequence for sequence, _ in solution.beam_search(table, start, end, max_len, 1)] == [walk]


def test_a_narrow_beam_may_miss_the_best(solution):
    """The garden path: the likelier first word leads to the worse sentence."""
    half, most = math.log(0.6), math.log(0.4)
    far = -50.0
    table = torch.tensor(
        [[far, half, most, far], [math.log(0.4), far, far, half], [far, far, far, 0.0], [far] * 4],
        dtype=torch.float64,
    )
    narrow, wide = (solution.beam_search(table, 0, 3, 2, size) for size in (1, 2))

    assert narrow == [([0, 1, 3], pytest.approx(math.log(0.36)))]
    assert wide == [([0, 2, 3], most), narrow[0]]
