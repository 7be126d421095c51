"""The hidden suite of ``masks``, what the diagnosis asks, and the picture.

Checks on ``padding_mask`` and ``combine_masks`` call twice with the same shapes and different answers, so that none of
them is passed by an answer that was kept from before.
"""

import pytest
import torch
from torch import Tensor

from grader.judge.suite import (
    CheckFailure,
    Panel,
    assert_close,
    assert_differs,
    assert_follows_device,
    assert_no_loop,
    assert_rejects,
    assert_shape,
    observe,
)


def table(*rows: str) -> Tensor:
    """Return a mask drawn with ``x`` for True and ``.`` for False."""
    return torch.tensor([[sign == "x" for sign in row] for row in rows])


def some_mask(randint, *shape: int) -> Tensor:
    """Return a random mask."""
    return randint(0, 2, shape).bool()


def assert_mask(got: object, expected: Tensor, what: str, hint: str = "") -> None:
    """Compare with a mask in which True means: may attend; a difference is shown as a drawn row."""
    if isinstance(got, Tensor) and (got.shape, got.dtype) == (expected.shape, torch.bool):
        for place in (got != expected).any(dim=-1).nonzero()[:1].tolist():
            right, came = (draw(mask[tuple(place)]) for mask in (expected, got))
            raise CheckFailure(f"{what}: row {place} should be {right} (x is True), but {came} came. {hint}".strip())
    assert_close(got, expected, what, dtype=torch.bool, tolerance=0.0, hint=hint)


def draw(row: Tensor) -> str:
    """Return a row as ``xx.``, cut off if it is long."""
    signs = "".join("x" if allowed else "." for allowed in row[:40].tolist())
    return f"`{signs}`" + (" …" if len(row) > 40 else "")


def assert_causal_answers(impl) -> None:
    """Check that a causal mask comes in the right form and not all alike, be it right or wrong."""
    assert_shape(impl.causal_mask(3, 5), (3, 5), "causal_mask(3, 5)", dtype=torch.bool)


def assert_padding_answers(impl) -> None:
    """Check that padding masks come in the right form, not all alike and not always the same."""
    masks = [impl.padding_mask(torch.tensor(lengths), 5) for lengths in ([1, 4], [3, 2])]
    for mask in masks:
        assert_shape(mask, (2, 5), "padding_mask of 2 lengths with max_len 5", dtype=torch.bool)
    assert_differs(*masks, "padding_mask of other lengths")


def assert_combined_answers(impl, randint) -> None:
    """Check that combined masks come in the right form, not all alike and not always the same."""
    causal = some_mask(randint, 3, 5)
    causal[0] = True
    masks = [impl.combine_masks(causal, table(*rows)) for rows in (("xxxx.", "..xx."), ("x...x", "xxxxx"))]
    for mask in masks:
        assert_shape(mask, (2, 1, 3, 5), "combine_masks of shapes (3, 5) and (2, 5)", dtype=torch.bool)
    assert_differs(*masks, "combine_masks with another padding")


def assert_padding(got: object, lengths: Tensor, max_len: int, what: str) -> None:
    """Compare with a padding mask that is written out sequence by sequence."""
    rows = [[place < length for place in range(max_len)] for length in lengths.tolist()]
    assert_mask(got, torch.tensor(rows), what)


# --- shapes, and masks drawn by hand ---------------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl):
    """the masks are boolean and have the right shapes"""
    causal = torch.arange(6) <= torch.arange(2, 6)[:, None]
    earlier = None

    for lengths in [3, 5], [1, 2]:
        padding = impl.padding_mask(torch.tensor(lengths), 6)
        combined = impl.combine_masks(causal, torch.arange(6) < torch.tensor(lengths)[:, None])

        assert_shape(impl.causal_mask(4, 6), (4, 6), "causal_mask(4, 6)", dtype=torch.bool)
        assert_shape(impl.causal_mask(4), (4, 4), "causal_mask(4)", dtype=torch.bool)
        assert_shape(padding, (2, 6), "padding_mask of 2 lengths with max_len 6", dtype=torch.bool)
        assert_shape(combined, (2, 1, 4, 6), "combine_masks of shapes (4, 6) and (2, 6)", dtype=torch.bool)
        if earlier is not None:
            assert_differs(padding, earlier[0], "padding_mask of other lengths")
            assert_differs(combined, earlier[1], "combine_masks with another padding")
        earlier = padding, combined


@pytest.mark.visible
@pytest.mark.points(2)
def test_causal_by_hand(impl):
    """as many keys as queries: a query sees itself and what came before"""
    assert_mask(impl.causal_mask(1), table("x"), "causal_mask(1)")
    assert_mask(impl.causal_mask(3), table("x..", "xx.", "xxx"), "causal_mask(3)")
    assert_mask(impl.causal_mask(4, 4), table("x...", "xx..", "xxx.", "xxxx"), "causal_mask(4, 4)")


@pytest.mark.visible
@pytest.mark.points(2)
def test_causal_with_more_keys_by_hand(impl):
    """more keys than queries: the last query stands at the last key"""
    hint = "The last query sees every key. Which keys does the one before it see?"

    assert_mask(impl.causal_mask(2, 4), table("xxx.", "xxxx"), "causal_mask(2, 4)", hint)
    assert_mask(impl.causal_mask(1, 5), table("xxxxx"), "causal_mask(1, 5)", hint)
    assert_mask(impl.causal_mask(3, 4), table("xx..", "xxx.", "xxxx"), "causal_mask(3, 4)", hint)
    assert_mask(impl.causal_mask(len_q=2, len_k=7), table("xxxxxx.", "xxxxxxx"), "causal_mask(len_q=2, len_k=7)", hint)


@pytest.mark.visible
@pytest.mark.points(2)
def test_padding_by_hand(impl):
    """real tokens are True, the padding after them is False"""
    for lengths, by_hand in (
        ([3, 1, 2], table("xxx.", "x...", "xx..")),
        ([1, 3, 3], table("x...", "xxx.", "xxx.")),
    ):
        assert_mask(impl.padding_mask(torch.tensor(lengths), 4), by_hand, f"padding_mask of lengths {lengths} to 4")


@pytest.mark.visible
@pytest.mark.points(2)
def test_combined_by_hand(impl):
    """a key counts if both masks allow it"""
    causal = table("x..", "xx.", "xxx")

    for padding, by_hand in (
        (("xx.", "x.."), (("x..", "xx.", "xx."), ("x..", "x..", "x.."))),
        (("xxx", ".xx"), (("x..", "xx.", "xxx"), ("...", ".x.", ".xx"))),
    ):
        combined = impl.combine_masks(causal, table(*padding))

        expected = torch.stack([table(*rows) for rows in by_hand])[:, None]
        assert_mask(combined, expected, f"the causal mask of 3 tokens, combined with padding {' and '.join(padding)}")


# --- the causal mask -------------------------------------------------------------------------------------


def test_every_query_sees_one_key_more(impl):
    """the last query sees all keys, and each one before it one key less"""
    for len_q, len_k in (5, 5), (5, 9), (2, 8), (7, 8):
        mask = impl.causal_mask(len_q, len_k)

        assert_shape(mask, (len_q, len_k), f"causal_mask({len_q}, {len_k})", dtype=torch.bool)
        counts = torch.arange(len_k - len_q + 1, len_k + 1)
        assert_close(mask.sum(dim=1), counts, f"causal_mask({len_q}, {len_k}): how many keys each query sees")


def test_a_cache_changes_nothing(impl):
    """queries that come late see the same keys as in a pass over all tokens"""
    full = impl.causal_mask(7)
    assert_shape(full, (7, 7), "causal_mask(7)", dtype=torch.bool)

    for new in 1, 2, 6, 7:
        what = f"the last {new} of 7 tokens: causal_mask({new}, 7), and the last rows of causal_mask(7)"
        assert_mask(impl.causal_mask(new, 7), full[7 - new :], what)


def test_causal_of_any_size(impl, reference, rng):
    """causal masks of random sizes, small ones and large ones"""
    sizes = [(1, 1), (1, 2), (2, 2), (2, 3), (1, 300), (129, 257)]
    sizes += [(len_q, len_q + rng.randint(0, 9)) for len_q in rng.sample(range(2, 40), 4)]

    for len_q, len_k in sizes:
        expected = reference.causal_mask(len_q, len_k)
        assert_mask(impl.causal_mask(len_q, len_k), expected, f"causal_mask({len_q}, {len_k})")
        assert_mask(impl.causal_mask(len_k), reference.causal_mask(len_k), f"causal_mask({len_k})")


# --- the padding mask ------------------------------------------------------------------------------------


@pytest.mark.visible
def test_lengths_at_the_limits(impl):
    """a sequence may be all padding, or have none"""
    for lengths, by_hand in (
        ([0, 3, 1], table("...", "xxx", "x..")),
        ([3, 2, 0], table("xxx", "xx.", "...")),
    ):
        assert_mask(impl.padding_mask(torch.tensor(lengths), 3), by_hand, f"padding_mask of lengths {lengths} to 3")
    for length in 0, 1:
        what = f"padding_mask of length {length} with max_len=1 by its name"
        assert_mask(impl.padding_mask(torch.tensor([length]), max_len=1), torch.tensor([[bool(length)]]), what)


def test_padding_of_any_lengths(impl, randint, rng):
    """random lengths, int64 and int32, one sequence and many, lengths that are strided"""
    for _ in range(2):
        for B, max_len in (1, 5), (4, 4), (6, 3), (3, 300), (2, 5000), (rng.randint(2, 9), rng.randint(2, 9)):
            lengths = randint(0, max_len + 1, (B,))
            what = f"padding_mask of {B} lengths up to {max_len}"
            assert_padding(impl.padding_mask(lengths, max_len), lengths, max_len, what)
            small = lengths.flip(0).int()
            assert_padding(impl.padding_mask(small, max_len), small, max_len, f"{what} in int32")
            strided = randint(0, max_len + 1, (B, 3))[:, 1]
            assert_padding(impl.padding_mask(strided, max_len), strided, max_len, f"{what}, a column of a table")


# --- both together ---------------------------------------------------------------------------------------


def test_combines_any_masks(impl, reference, randint, rng):
    """random masks of any size, T and S different, one sequence and many, strided ones"""
    sizes = [(1, 1, 2), (2, 3, 3), (3, 3, 3), (5, 1, 4), (2, 7, 5), (3, 3, 5), (5, 3, 5), (3, 4, 1), (2, 70, 70)]
    for _ in range(2):
        for B, T, S in (*sizes, [rng.randint(2, 6) for _ in range(3)]):
            causal, padding = some_mask(randint, T, S), some_mask(randint, B, S)
            what = f"combine_masks of shapes {(T, S)} and {(B, S)}"
            assert_mask(impl.combine_masks(causal, padding), reference.combine_masks(causal, padding), what)
            causal, padding = some_mask(randint, S, T).T, some_mask(randint, B, 2 * S)[:, ::2]
            what += ", transposed and sliced"
            assert_mask(impl.combine_masks(causal, padding), reference.combine_masks(causal, padding), what)


def test_padding_belongs_to_the_keys(impl, randint):
    """where everything is allowed, padding hides columns and never rows, in its own sequence alone"""
    everything = torch.ones(4, 4, dtype=torch.bool)

    for padding in table("xx..", "xxxx", "x..."), table("xxx.", ".x..", "xxxx"):
        combined = impl.combine_masks(everything, padding)

        what = "a mask that allows everything, combined with padding"
        assert_shape(combined, (3, 1, 4, 4), what, dtype=torch.bool)
        for query in 0, 3:
            assert_mask(combined[:, 0, query], padding, f"{what}: what query {query} sees in each sequence")
    for column in (".", "x", "."), ("x", ".", "x"):
        combined = impl.combine_masks(everything[:, :1], table(*column))
        expected = table(*column)[:, None, None].expand(3, 1, 4, 1)
        assert_mask(combined, expected, f"four queries and a single key, padding {' '.join(column)}")


# --- errors ----------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_refuses_fewer_keys_than_queries(impl):
    """fewer keys than queries are refused with ValueError"""
    for len_q, len_k in (3, 2), (5, 1), (2, 1):
        assert_rejects(
            lambda q=len_q, k=len_k: impl.causal_mask(q, k),
            f"causal_mask({len_q}, {len_k})",
            good=lambda: assert_causal_answers(impl),
        )


@pytest.mark.visible
def test_refuses_sizes_below_one(impl):
    """sizes below 1 are refused with ValueError"""
    for sizes in (0,), (-1,), (0, 0), (0, 3), (-2, 3), (1, 0), (2, -1):
        what = f"causal_mask({', '.join(map(str, sizes))})"
        assert_rejects(lambda sizes=sizes: impl.causal_mask(*sizes), what, good=lambda: assert_causal_answers(impl))
    for max_len in 0, -1:
        what = f"padding_mask of length 0 to {max_len}"
        assert_rejects(
            lambda n=max_len: impl.padding_mask(torch.tensor([0]), n), what, good=lambda: assert_padding_answers(impl)
        )


@pytest.mark.visible
def test_refuses_lengths_out_of_range(impl):
    """a length above max_len or below 0 is refused with ValueError, wherever it stands"""
    for lengths in [5], [-1], [4, 2, 5], [5, 1, 0], [2, -1, 4], [0, 9, 1], [-3, -1, -2]:
        for dtype in torch.int64, torch.int32:
            assert_rejects(
                lambda lengths=torch.tensor(lengths, dtype=dtype): impl.padding_mask(lengths, 4),
                f"padding_mask of lengths {lengths} to 4",
                good=lambda: assert_padding_answers(impl),
            )


# --- good manners ----------------------------------------------------------------------------------------


def test_leaves_the_inputs_alone(impl, randint):
    """lengths and masks are the same after the call"""
    lengths, causal, padding = randint(0, 6, (3,)), some_mask(randint, 4, 5), some_mask(randint, 3, 5)
    before = lengths.clone(), causal.clone(), padding.clone()

    impl.padding_mask(lengths, 5)
    impl.combine_masks(causal, padding)

    names = "the lengths", "the causal mask", "the padding mask"
    for name, tensor, old in zip(names, (lengths, causal, padding), before, strict=True):
        assert_close(tensor, old, f"{name} after the call and before it", tolerance=0.0)
    assert_causal_answers(impl)
    assert_padding_answers(impl)
    assert_combined_answers(impl, randint)


def test_the_same_without_gradients(impl, reference, randint):
    """the masks are the same under torch.no_grad()"""
    for _ in range(2):
        lengths, causal, padding = randint(0, 6, (3,)), some_mask(randint, 4, 5), some_mask(randint, 3, 5)
        with torch.no_grad():
            masks = impl.causal_mask(4, 6), impl.padding_mask(lengths, 5), impl.combine_masks(causal, padding)

        assert_mask(masks[0], reference.causal_mask(4, 6), "causal_mask(4, 6) under torch.no_grad()")
        assert_padding(masks[1], lengths, 5, f"padding_mask of lengths {lengths.tolist()} to 5 under torch.no_grad()")
        assert_mask(masks[2], reference.combine_masks(causal, padding), "combine_masks under torch.no_grad()")


def test_no_loop(impl, randint):
    """the number of tensor operations does not grow with the tokens or the sequences"""
    lengths, three = randint(0, 41, (40,)), torch.tensor([3, 0, 2])
    causal, padding = some_mask(randint, 40, 40), some_mask(randint, 40, 40)

    assert_no_loop(impl, lambda n: impl.causal_mask(n, 40), "queries")
    assert_no_loop(impl, lambda n: impl.causal_mask(3, n), "keys")
    assert_no_loop(impl, lambda n: impl.padding_mask(lengths[:n], 40), "sequences")
    assert_no_loop(impl, lambda n: impl.padding_mask(three, n), "tokens of a sequence")
    assert_no_loop(impl, lambda n: impl.combine_masks(causal[:n, :3], padding[:3, :3]), "queries")
    assert_no_loop(impl, lambda n: impl.combine_masks(causal[:3, :n], padding[:3, :n]), "keys")
    assert_no_loop(impl, lambda n: impl.combine_masks(causal[:3, :3], padding[:n, :3]), "sequences")
    assert_causal_answers(impl)
    assert_padding_answers(impl)
    assert_combined_answers(impl, randint)


def test_follows_the_device(impl, randint):
    """masks lie where their inputs lie, and causal_mask on the default device"""
    far = some_mask(randint, 3, 5).to("meta"), some_mask(randint, 2, 5).to("meta")  # meta stands for any accelerator

    for _ in range(2):
        assert_causal_answers(impl)
        assert_padding_answers(impl)
        assert_combined_answers(impl, randint)
        with impl.default_device("meta"):
            what = "causal_mask, where the default device is 'meta'"
            assert_follows_device(impl, lambda: impl.causal_mask(3, 5), what)
            assert_follows_device(impl, lambda: impl.causal_mask(3), what)
            what = "padding_mask of lengths on the CPU, where the default device is 'meta'"
            assert_follows_device(impl, lambda: impl.padding_mask(torch.tensor([1, 4]), 5), what, "cpu")
        assert_follows_device(impl, lambda: impl.combine_masks(*far), "combine_masks of masks on the meta device")
    place = assert_shape(impl.causal_mask(3, 5), (3, 5), "causal_mask(3, 5)", dtype=torch.bool).device.type
    if place != "cpu":
        raise CheckFailure(f"causal_mask on the CPU, after calls on another device: the result lies on {place!r}.")


# --- diagnosis and picture -------------------------------------------------------------------------------


def probe(impl):
    """Ask one question after the other up to the first wrong answer: the rest is often wrong for the same reason."""
    anything = table("xx.x", ".xxx", "x.x.", "xxx.")  # no causal mask, so that one which is made anew shows
    padding = table("xxx.", "x...", ".xxx", "xx.x")
    both = torch.stack([anything & row for row in padding])[:, None]
    questions = {
        "causal": (lambda: impl.causal_mask(4), table("x...", "xx..", "xxx.", "xxxx")),
        "more keys": (lambda: impl.causal_mask(2, 5), table("xxxx.", "xxxxx")),
        "padding": (lambda: impl.padding_mask(torch.tensor([2, 4, 0, 1]), 4), table("xx..", "xxxx", "....", "x...")),
        "combined": (lambda: impl.combine_masks(anything, padding), both),
        "fewer keys": (lambda: impl.causal_mask(3, 2), "raises ValueError"),
        "too long": (lambda: impl.padding_mask(torch.tensor([5, 1]), 4), "raises ValueError"),
        "below 0": (lambda: impl.padding_mask(torch.tensor([-1, 1]), 4), "raises ValueError"),
    }
    seen = {}
    for name, (question, right) in questions.items():
        answer = seen[name] = observe(question)
        if isinstance(answer, Tensor) and isinstance(right, Tensor):
            fine = answer.dtype == right.dtype and torch.equal(answer, right)
        else:
            fine = isinstance(answer, str) and answer == right
        if not fine:
            return seen
    return seen


def picture(impl) -> list[Panel]:
    """Draw the masks of three sequences that hold 12, 7 and 3 real tokens."""
    causal, padding = impl.causal_mask(12), impl.padding_mask(torch.tensor([12, 7, 3]), 12)
    combined = impl.combine_masks(causal, padding)
    cached = impl.causal_mask(4, 12)
    panels = [
        Panel("causal_mask(12)", causal.float(), x_label="key", y_label="query"),
        Panel("causal_mask(4, 12), with 8 tokens in a cache", cached.float(), x_label="key", y_label="query"),
        Panel("padding_mask([12, 7, 3], 12)", padding.float(), x_label="token", y_label="sequence"),
    ]
    for sequence, length in enumerate((12, 7, 3)):
        title = f"combined, sequence {sequence} with {length} real tokens"
        panels.append(Panel(title, combined[sequence, 0].float(), x_label="key", y_label="query"))
    return panels
