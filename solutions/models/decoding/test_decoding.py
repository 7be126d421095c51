"""Hidden suite of decoding: tables done on paper first, then every sequence there is, then random tables.

Log-probabilities are multiples of 1/8, so that sums of them are exact and ties are ties in whatever order one adds.
"""

import itertools
import math

import pytest
import torch

from grader.judge.suite import CheckFailure, Panel, assert_rejects, describe, observe

END = 3
SMALL = torch.tensor(  # from row to column; 0 is the start, 3 the end
    [
        [-4.0, -0.5, -0.75, -3.0],
        [-9.0, -2.0, -2.0, -2.5],
        [-9.0, -2.0, -5.0, -0.25],
        [-1.0, -1.0, -1.0, -1.0],
    ]
)


LATE = torch.tensor([[-9.0, -1.0, -0.5, -9.0], [-0.5, -9.0, -9.0, -1.5], [-9.0, -1.0, -9.0, -1.0], [-1.0] * 4])


# --- what comes back ----------------------------------------------------------------------------------------


def tokens_of(value, what):
    """Return a list of token ids, or say what is wrong with it."""
    if not isinstance(value, (list, tuple)):
        raise CheckFailure(f"{what}: a list of token ids should come back, but {describe(value)} came.")
    for token in value:
        if not isinstance(token, int) or isinstance(token, bool):
            raise CheckFailure(f"{what}: token ids should be Python ints, but one is {describe(token)}.")
    return list(value)


def beam_of(value, what):
    """Return a list of (sequence, score), or say what is wrong with it."""
    if not isinstance(value, (list, tuple)):
        raise CheckFailure(f"{what}: a list of pairs should come back, but {describe(value)} came.")
    for pair in value:
        if not isinstance(pair, (list, tuple)) or len(pair) != 2:
            raise CheckFailure(f"{what}: every item should be a pair (sequence, score), but {describe(pair)} came.")
        if not isinstance(pair[1], (int, float)) or isinstance(pair[1], bool):
            raise CheckFailure(f"{what}: scores should be Python floats, but one is {describe(pair[1])}.")
    return [(tokens_of(sequence, what), float(score)) for sequence, score in value]


def assert_tokens(got, right, what, hint=""):
    """Compare a sequence."""
    came = tokens_of(got, what)
    if came != right:
        raise CheckFailure(f"{what}: {right} was expected, but {came} came. {hint}".strip())


def assert_beam(got, right, what, hint=""):
    """Compare a beam: the sequences, best first, then their scores."""
    came = beam_of(got, what)
    for place, (mine, expected) in enumerate(zip(came, right, strict=False)):
        if mine[0] != expected[0]:
            where = f"place {place} of the beam"
            told = f"{expected[0]} (score {expected[1]:.6g}) was expected, but {mine[0]} (score {mine[1]:.6g}) came."
            raise CheckFailure(f"{what}: {where}: {told} {hint}".strip())
        if not abs(mine[1] - expected[1]) <= 1e-9 * max(1.0, abs(expected[1])):
            told = f"the score {expected[1]:.10g} was expected, but {mine[1]:.10g} came."
            raise CheckFailure(f"{what}: {mine[0]}: {told} {hint}".strip())
    if len(came) != len(right):
        raise CheckFailure(f"{what}: {len(right)} hypotheses were expected, but {len(came)} came. {hint}".strip())


def eighths(randint, V, low=-40):
    """Return a table of multiples of 1/8, below 0."""
    return randint(low, 0, (V, V)) / 8


def same_greedy(impl, reference, table, *rules, what):
    """Compare with the reference."""
    right = reference.greedy_decode(table, *rules)
    assert_tokens(impl.greedy_decode(table, *rules), right, f"greedy_decode, {what}, {told(*rules)}")


def same_beam(impl, reference, table, *rules, what, hint=""):
    """Compare with the reference."""
    right = reference.beam_search(table, *rules)
    assert_beam(impl.beam_search(table, *rules), right, f"beam_search, {what}, {told(*rules)}", hint)


def told(start, end, max_len, *rest):
    """Say what a call asked for."""
    named = zip(
        ("start_id", "end_id", "max_len", "beam_size", "length_penalty"), (start, end, max_len, *rest), strict=False
    )
    return ", ".join(f"{name} = {value}" for name, value in named)


def every_hypothesis(table, start, end, max_len, penalty=0.0):
    """Return all finished hypotheses with their scores, the best first, by trying all sequences of tokens."""
    rows, found = table.tolist(), []
    for n in range(1, max_len + 1):
        for tokens in itertools.product(range(len(rows)), repeat=n):
            if end in tokens[:-1] or (n < max_len and tokens[-1] != end):
                continue
            steps = zip((start, *tokens), tokens, strict=False)
            log_prob = sum(rows[last][token] for last, token in steps)
            found.append(([start, *tokens], log_prob / n**penalty))
    return sorted(found, key=lambda pair: (-pair[1], pair[0]))


# --- greedy search ------------------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_greedy_by_hand(impl):
    """greedy: the likeliest next token each time, with the start and the end"""
    table = torch.tensor(
        [[-3.0, -0.5, -1.0, -2.0], [-4.0, -2.0, -0.25, -1.0], [-1.0, -2.0, -3.0, -0.5], [0.0, -1.0, -1.0, -1.0]]
    )

    for what, rows, start, end, right in (
        ("the table of this check", table, 0, 3, [0, 1, 2, 3]),
        ("the table of this check", table, 2, 3, [2, 3]),
        ("the same table, transposed", table.T, 0, 2, [0, 3, 2]),
        ("the same table, its rows in reverse", table.flip(0), 0, 1, [0, 0, 0, 0, 0, 0]),
    ):
        assert_tokens(impl.greedy_decode(rows, start, end, 5), right, f"{what}, {told(start, end, 5)}")


@pytest.mark.visible
def test_greedy_ends(impl):
    """greedy: it ends with end_id, or max_len tokens after the start; the start itself ends nothing"""
    circle = torch.full((4, 4), -2.0)
    circle[[0, 1, 2, 3], [1, 2, 3, 0]] = -0.5  # 0 -> 1 -> 2 -> 3 -> 0

    for start, end, max_len, right in (
        (0, 3, 9, [0, 1, 2, 3]),
        (0, 3, 3, [0, 1, 2, 3]),
        (0, 3, 2, [0, 1, 2]),
        (1, 3, 1, [1, 2]),
        (2, 1, 6, [2, 3, 0, 1]),
        (2, 2, 9, [2, 3, 0, 1, 2]),
        (2, 2, 3, [2, 3, 0, 1]),
    ):
        out = impl.greedy_decode(circle, start, end, max_len)

        assert_tokens(out, right, f"0 -> 1 -> 2 -> 3 -> 0, {told(start, end, max_len)}")


@pytest.mark.visible
def test_greedy_ties(impl):
    """greedy: of equally likely tokens the lowest id is taken"""
    for row, best in ([-1.0, -0.5, -0.5, -0.5], 1), ([-0.5, -1.0, -0.5, -2.0], 0), ([-3.0, -2.0, -1.0, -1.0], 2):
        table = torch.tensor([row] * 4)

        right = [3, best, best, best]
        assert_tokens(impl.greedy_decode(table, 3, 3, 3), right, f"every row {row}, start_id = 3, max_len = 3")


def test_greedy_matches_the_reference(impl, reference, randint, rng):
    """greedy: random tables of any size, strided ones, and ties"""
    for V in (1, 2, 3, 5, 8, 30, rng.randint(4, 12), rng.randint(4, 12)):
        for low, kind in (-40, "a random table"), (-3, "a table with many ties"):
            table, rules = eighths(randint, V, low), (rng.randrange(V), rng.randrange(V), rng.randint(1, 12))
            same_greedy(impl, reference, table, *rules, what=f"{kind} of {V} tokens")
            same_greedy(impl, reference, table.T, *rules, what=f"{kind} of {V} tokens, transposed")
            wide = eighths(randint, 2 * V, low)[::2, 1::2]
            same_greedy(impl, reference, wide, *rules, what=f"every other row and column of {kind}")


# --- beam search, on paper ----------------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_beam_by_hand(impl):
    """beam: two steps of a small table, worked out on paper"""
    for max_len, size, right in (
        (1, 1, [([0, 1], -0.5)]),
        (1, 3, [([0, 1], -0.5), ([0, 2], -0.75), ([0, 3], -3.0)]),
        (2, 1, [([0, 1, 1], -2.5)]),
        (2, 2, [([0, 2, 3], -1.0), ([0, 1, 1], -2.5)]),
        (2, 3, [([0, 2, 3], -1.0), ([0, 1, 1], -2.5), ([0, 1, 2], -2.5)]),
        (3, 2, [([0, 2, 3], -1.0), ([0, 1, 1, 1], -4.5)]),
    ):
        out = impl.beam_search(SMALL, 0, END, max_len, size)

        assert_beam(out, right, f"the table of this check, {told(0, END, max_len, size)}")


@pytest.mark.visible
def test_beam_keeps_finished_hypotheses(impl):
    """beam: a finished hypothesis stays as it is, takes a place, and loses it to better ones"""
    far, worse = -9.0, -5.0
    place = torch.tensor([[far, -1.0, -1.25, -0.5], [worse] * 4, [far, far, far, -0.25], [far] * 4])
    chain = torch.tensor([[far, -1.0, far, -1.5, far], [far, far, -0.125, far, -0.25], *([[worse] * 5] * 3)])
    equal = torch.tensor([[far, -1.0, far, -1.5], [far, -0.125, -0.25, -0.5], [far, -3.0, far, -4.0], [-0.125] * 4])

    for what, table, max_len, size, right in (
        ("first table", place, 1, 2, [([0, 3], -0.5), ([0, 1], -1.0)]),
        ("first table", place, 2, 2, [([0, 3], -0.5), ([0, 1, 0], -6.0)]),  # no place was left for [0, 2]
        ("first table", place, 3, 3, [([0, 3], -0.5), ([0, 2, 3], -1.5), ([0, 1, 0, 3], -6.5)]),
        ("second table", chain, 2, 2, [([0, 1, 2], -1.125), ([0, 1, 4], -1.25)]),
        ("second table", chain, 3, 2, [([0, 1, 2, 0], -6.125), ([0, 1, 2, 1], -6.125)]),  # [0, 3] was given up
        ("third table", equal, 2, 4, [([0, 1, 1], -1.125), ([0, 1, 2], -1.25), ([0, 1, 3], -1.5), ([0, 3], -1.5)]),
        ("third table", equal, 4, 3, [([0, 1, 1, 1, 1], -1.375), ([0, 1, 1, 1, 2], -1.5), ([0, 1, 3], -1.5)]),
    ):
        out = impl.beam_search(table, 0, END, max_len, size)

        hint = "What becomes of a hypothesis that has ended, and when is it given up?"
        assert_beam(out, right, f"the {what} of this check, {told(0, END, max_len, size)}", hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_length_penalty_by_hand(impl):
    """beam: the score is the log-probability, divided by the number of tokens to the power of the penalty"""
    table = torch.tensor([[-9.0, -1.0, -9.0, -1.25], [-9.0, -9.0, -1.0, -2.0], [-9.0, -9.0, -9.0, -0.5], [-1.0] * 4])

    for penalty, right in (
        (0.0, [([0, 3], -1.25), ([0, 1, 2, 3], -2.5)]),
        (0.5, [([0, 3], -1.25), ([0, 1, 2, 3], -2.5 / math.sqrt(3))]),
        (1.0, [([0, 1, 2, 3], -2.5 / 3), ([0, 3], -1.25)]),
    ):
        out = impl.beam_search(table, 0, END, 3, 2, penalty)

        hint = "Which tokens are counted?"
        assert_beam(out, right, f"the table of this check, {told(0, END, 3, 2, penalty)}", hint)
    out = impl.beam_search(table, 0, END, 3, beam_size=2)
    assert_beam(out, [([0, 3], -1.25), ([0, 1, 2, 3], -2.5)], "the same without a length_penalty: the default is 0")


@pytest.mark.visible
def test_length_penalty_decides_at_every_step(impl):
    """beam: scores with their length penalty choose the beam at each step, not only at the end"""
    table = torch.tensor([[-9.0, -1.0, -9.0, -1.25], [-9.0, -9.0, -1.0, -2.0], [-9.0, -9.0, -9.0, -0.5], [-1.0] * 4])

    for size, right in (
        (2, [([0, 1, 2, 3], -2.5 / 9), ([0, 1, 3], -3.0 / 4)]),  # [0, 3], at -1.25, was given up in step 2
        (3, [([0, 1, 2, 3], -2.5 / 9), ([0, 1, 3], -3.0 / 4), ([0, 1, 2, 0], -11.0 / 9)]),
    ):
        out = impl.beam_search(table, 0, END, 3, size, length_penalty=2.0)

        assert_beam(out, right, f"the table of this check, {told(0, END, 3, size, 2.0)}")


@pytest.mark.visible
def test_beam_ties(impl):
    """beam: of two hypotheses with the same score the lexicographically smaller one is better"""
    even = torch.full((3, 3), -1.0)
    early = torch.tensor([[-9.0, -2.0, -1.0], [-9.0, -9.0, -9.0], [-1.0, -3.0, -9.0]])
    stop = torch.tensor([[-2.0, -2.0, -1.0], [-1.0, -1.0, -1.0], [-1.0, -1.0, -1.0]])

    for what, table, rules, right in (
        ("every entry -1", even, (1, 2, 2, 2), [([1, 0, 0], -2.0), ([1, 0, 1], -2.0)]),
        ("every entry -1", even, (0, 2, 2, 2, 1.0), [([0, 0, 0], -1.0), ([0, 0, 1], -1.0)]),
        (
            "every entry -1",
            even,
            (2, 0, 2, 4),
            [([2, 0], -1.0), ([2, 1, 0], -2.0), ([2, 1, 1], -2.0), ([2, 1, 2], -2.0)],
        ),
        ("the first table", LATE, (0, 3, 2, 1), [([0, 2, 1], -1.5)]),
        ("the first table", LATE, (0, 3, 2, 2), [([0, 1, 0], -1.5), ([0, 2, 1], -1.5)]),
        ("the first table", LATE, (0, 3, 2, 3), [([0, 1, 0], -1.5), ([0, 2, 1], -1.5), ([0, 2, 3], -1.5)]),
        ("the second table", stop, (0, 2, 2, 2, 1.0), [([0, 2], -1.0), ([0, 0, 2], -1.5)]),
        ("the third table", early, (0, 1, 2, 2), [([0, 1], -2.0), ([0, 2, 0], -2.0)]),
        ("the third table", early, (0, 1, 2, 1), [([0, 2, 0], -2.0)]),
        ("the third table", early, (2, 1, 3, 3), [([2, 0, 1], -3.0), ([2, 0, 2, 0], -3.0), ([2, 1], -3.0)]),
        ("the second table", stop, (0, 2, 2, 3), [([0, 2], -1.0), ([0, 0, 2], -3.0), ([0, 1, 0], -3.0)]),
    ):
        assert_beam(impl.beam_search(table, *rules), right, f"{what}, {told(*rules)}", "Which is the smaller list?")


@pytest.mark.visible
def test_a_start_that_is_the_end(impl):
    """beam: start_id may equal end_id: the start itself ends nothing"""
    table = torch.tensor([[-3.0, -0.5, -1.0], [-0.25, -2.0, -1.5], [-1.0, -2.0, -4.0]])

    for start, right in (
        (0, [([0, 1, 0], -0.75), ([0, 2, 0], -2.0), ([0, 1, 2, 0], -3.0)]),
        (1, [([1, 0, 1], -0.75), ([1, 1], -2.0), ([1, 0, 2, 0], -2.25)]),
    ):
        out = impl.beam_search(table, start, start, 3, 3)

        assert_beam(out, right, f"the table of this check, {told(start, start, 3, 3)}")


# --- beam search, by its properties -------------------------------------------------------------------------


@pytest.mark.visible
@pytest.mark.points(2)
def test_a_wide_beam_finds_everything(impl, randint):
    """beam: as wide as the space it returns every sequence there is, the best first"""
    for V, max_len, start, end in (2, 3, 0, 1), (3, 3, 1, 2), (3, 2, 0, 0), (4, 2, 3, 1), (2, 5, 1, 1), (1, 3, 0, 0):
        for penalty in 0.0, 0.75:
            table = eighths(randint, V)
            right = every_hypothesis(table, start, end, max_len, penalty)
            rules = start, end, max_len, V**max_len + 5, penalty
            hint = "The beam is wide enough for all of them. Is something given up too early, or forgotten?"
            assert_beam(impl.beam_search(table, *rules), right, f"a random table of {V} tokens, {told(*rules)}", hint)


def test_a_beam_of_one_is_greedy(impl, randint, rng):
    """beam: a beam of one takes the likeliest token each time"""
    for low in -40, -40, -3:
        V = rng.randint(3, 7)
        table, rules = eighths(randint, V, low), (rng.randrange(V), rng.randrange(V), rng.randint(2, 6))
        rows, sequence = table.tolist(), [rules[0]]
        while len(sequence) == 1 or (sequence[-1] != rules[1] and len(sequence) <= rules[2]):
            sequence.append(rows[sequence[-1]].index(max(rows[sequence[-1]])))

        log_prob = sum(rows[last][token] for last, token in itertools.pairwise(sequence))
        for penalty in 0.0, 1.5:
            right = [(sequence, log_prob / (len(sequence) - 1) ** penalty)]
            what = f"a random table of {V} tokens, {told(*rules, 1, penalty)}"
            assert_beam(impl.beam_search(table, *rules, 1, penalty), right, what)


def test_hypotheses_are_what_they_say(impl, randint, rng):
    """beam: all are finished, no one comes twice, none has another score than its tokens give, the best is first"""
    for penalty in 0.0, 0.5, 2.0:
        V, size = rng.randint(4, 7), rng.randint(3, 6)
        table, start, end, max_len = eighths(randint, V), rng.randrange(V), rng.randrange(V), rng.randint(3, 6)
        what = f"a random table of {V} tokens, {told(start, end, max_len, size, penalty)}"
        beam, rows = beam_of(impl.beam_search(table, start, end, max_len, size, penalty), what), table.tolist()

        if len(beam) != size:
            raise CheckFailure(f"{what}: {size} hypotheses were expected, but {len(beam)} came.")
        if len({tuple(sequence) for sequence, _ in beam}) != size:
            raise CheckFailure(f"{what}: a sequence comes twice.")
        for sequence, score in beam:
            n = len(sequence) - 1
            if n < 1 or sequence[0] != start or end in sequence[1:-1] or not (n == max_len or sequence[-1] == end):
                raise CheckFailure(f"{what}: {sequence} is no finished hypothesis.")
            right = sum(rows[last][token] for last, token in itertools.pairwise(sequence)) / n**penalty
            if abs(score - right) > 1e-9 * max(1.0, abs(right)):
                raise CheckFailure(f"{what}: {sequence} has the score {right:.10g}, but {score:.10g} came.")
        scores = [score for _, score in beam]
        if scores != sorted(scores, reverse=True):
            raise CheckFailure(f"{what}: the scores {scores} do not fall from one to the next.")


@pytest.mark.points(3)
def test_beam_matches_the_reference(impl, reference, randint, rng):
    """beam: random tables of any size, narrow beams and wide ones, with and without a length penalty, and ties"""
    for low, kind in (-40, "a random table"), (-3, "a table with many ties"):
        for penalty in 0.0, 0.0, 0.5, 0.75, 2.0:
            V, max_len, size = rng.randint(2, 9), rng.randint(1, 7), rng.randint(1, 8)
            table, start, end = eighths(randint, V, low), rng.randrange(V), rng.randrange(V)
            same_beam(impl, reference, table, start, end, max_len, size, penalty, what=f"{kind} of {V} tokens")
    rules = 3, 5, 25, 4
    same_beam(impl, reference, eighths(randint, 40), *rules, what="a random table of 40 tokens")
    never = eighths(randint, 6)
    never[:, 2] -= 50.0
    for penalty in 0.0, 1.0:
        same_beam(impl, reference, never, 0, 2, 12, 3, penalty, what="a table in which the end is unlikely")
        same_beam(impl, reference, never.T, 0, 2, 5, 3, penalty, what="the same table, transposed")


# --- numbers, and good manners ------------------------------------------------------------------------------


def test_tables_of_every_dtype(impl, reference, randint):
    """bfloat16, float32 and float64: sums are Python floats, whatever the table holds"""
    for dtype, offset in (torch.bfloat16, 0.0), (torch.float32, 2.0**19), (torch.float64, 2.0**32):
        what = f"{str(dtype).removeprefix('torch.')} entries of about {-3 - offset:g}"
        for _ in range(2):
            table = eighths(randint, 7, -40).double() - offset
            table[:, 0] -= 8.0
            table[:, 1] -= 8.0 + offset / 8  # the end is unlikely
            table = table.to(dtype)  # exact, but the sums need more bits
            same_greedy(impl, reference, table, 0, 1, 8, what=what)
            hint = "If other tables are right: in which precision are the log-probabilities added?"
            same_beam(impl, reference, table, 0, 1, 12, 3, what=what, hint=hint)


def test_strided_tables(impl, reference, randint):
    """transposed, sliced and repeated tables are as good as any"""
    for what, table in (
        ("a transposed table", eighths(randint, 5).T),
        ("every other row and column of a table", eighths(randint, 10)[::2, 1::2]),
        ("one row for all tokens", eighths(randint, 5)[:1].expand(5, 5)),
        ("the middle of a table", eighths(randint, 9)[2:7, 3:8]),
    ):
        same_greedy(impl, reference, table, 0, 4, 6, what=what)
        same_beam(impl, reference, table, 0, 4, 4, 3, 0.5, what=what)


def test_repeated_calls(impl, reference, randint):
    """a call is right whatever was called before, and the table stays as it is"""
    table, other = eighths(randint, 5) - 1.0, eighths(randint, 5) - 1.0
    table[0, 1], other[0, 2] = -0.125, -0.125  # so that they differ from the first token on
    before = table.clone()

    for rows, start, end, max_len, size, penalty in (
        (table, 0, 4, 4, 3, 0.0),
        (other, 0, 4, 4, 3, 0.0),
        (table, 0, 4, 4, 3, 1.5),
        (table, 0, 4, 4, 2, 0.0),
        (table, 0, 4, 2, 3, 0.0),
        (table, 1, 4, 4, 3, 0.0),
        (table, 0, 3, 4, 3, 0.0),
        (table, 0, 4, 4, 3, 0.0),
    ):
        same_greedy(impl, reference, rows, start, end, max_len, what="call after call")
        same_beam(impl, reference, rows, start, end, max_len, size, penalty, what="call after call")
    table[0] = other[0]
    same_greedy(impl, reference, table, 0, 4, 4, what="the same tensor with other numbers")
    same_beam(impl, reference, table, 0, 4, 4, 3, what="the same tensor with other numbers")
    table.copy_(before)
    impl.beam_search(table, 0, 4, 3, 2)
    impl.greedy_decode(table, 0, 4, 3)
    if not torch.equal(table, before):
        raise CheckFailure("The table is not the same after the calls.")


def test_errors(impl, reference, randint):
    """a max_len or a beam_size below 1 raises ValueError"""
    table = eighths(randint, 4)

    for max_len in 0, -1:
        assert_rejects(
            lambda n=max_len: impl.greedy_decode(table, 0, 3, n),
            f"greedy_decode with max_len = {max_len}",
            good=lambda: same_greedy(impl, reference, eighths(randint, 4), 0, 3, 1, what="a random table"),
        )
    for max_len, size in (0, 2), (-3, 2), (2, 0), (2, -1), (0, 0):
        assert_rejects(
            lambda n=max_len, k=size: impl.beam_search(table, 0, 3, n, k),
            f"beam_search with max_len = {max_len} and beam_size = {size}",
            good=lambda: same_beam(impl, reference, eighths(randint, 4), 0, 3, 1, 1, what="a random table"),
        )


# --- diagnosis and picture ----------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart."""
    greedy = torch.tensor(
        [[-3.0, -1.0, -1.0, -4.0], [-1.0, -3.0, -0.5, -2.0], [-2.0, -1.0, -3.0, -0.5], [-0.5, -1.0, -2.0, -4.0]]
    )
    seen = {}
    for rules in (0, 3, 6), (0, 3, 2), (3, 3, 6), (1, 0, 3):
        seen[f"greedy {rules}"] = observe(lambda rules=rules: impl.greedy_decode(greedy, *rules))
    even = torch.full((3, 3), -1.0)
    keeps = torch.tensor(
        [[-9.0, -1.0, -9.0, -1.5], [-9.0, -0.125, -0.25, -0.5], [-9.0, -3.0, -9.0, -4.0], [-0.125] * 4]
    )
    for name, table in ("small", SMALL), ("keeps", keeps), ("greedy", greedy), ("even", even):
        for rules in (
            (0, 2, 1, 2),
            (0, 2, 3, 1),
            (0, 2, 3, 2),
            (0, 2, 4, 3),
            (0, 2, 4, 4, 1.0),
            (0, 2, 3, 2, 2.0),
            (2, 2, 3, 3),
        ):
            seen[f"{name} {rules}"] = observe(lambda table=table, rules=rules: impl.beam_search(table, *rules))
    seen["ties"] = observe(lambda: [impl.beam_search(LATE, 0, END, 2, size) for size in (1, 2, 3)])
    return seen


def picture(impl):
    """Draw the beams: which tokens they hold, how their log-probabilities fall, and what width and penalty do."""
    V, max_len = 8, 10
    place = torch.arange(float(V))
    raw = torch.sin(1.7 * place[:, None] * (place + 2)) * 2 - (place - place[:, None] - 1).abs() / 4
    table = ((raw - raw.logsumexp(dim=1, keepdim=True)) * 8).round().clamp(max=-1) / 8
    panels = []
    for size in 2, 5:
        beam = beam_of(impl.beam_search(table, 0, V - 1, max_len, size), "the beam")
        tokens, sums = torch.full((len(beam), max_len + 1), -1.0), torch.zeros(len(beam), max_len + 1)
        for row, (sequence, _) in enumerate(beam):
            tokens[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.float32)
            steps = [float(table[last, token]) for last, token in itertools.pairwise(sequence)]
            steps += [0.0] * (max_len - len(steps))
            sums[row, 1:] = torch.tensor(steps).cumsum(dim=0)
        title = f"the last beam of {size}, ended by {V - 1}"
        panels.append(Panel(f"{title} (-1: nothing)", tokens, x_label="tokens", y_label="hypothesis, best first"))
        labels = tuple(" ".join(map(str, sequence)) for sequence, _ in beam)
        panels.append(Panel(f"{title}: log-probability", sums, "lines", "tokens after the start", "sum", labels))
    widths, penalties = range(1, 9), (0.0, 0.5, 1.0, 2.0)
    lengths = [
        [float(len(beam_of(impl.beam_search(table, 0, V - 1, max_len, k, p), "the beam")[0][0]) - 1) for k in widths]
        for p in penalties
    ]
    labels = tuple(f"length_penalty {p:g}" for p in penalties)
    title = "how long the best hypothesis is, for beams of 1 to 8"
    return [*panels, Panel(title, torch.tensor(lengths), "lines", "beam_size - 1", "tokens", labels)]
