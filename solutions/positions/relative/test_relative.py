"""The hidden suite of ``relative``, what the diagnosis asks, and the picture.

A lookup is always asked for with more than one table, so that no answer kept from before passes.
"""

import math

import pytest
import torch
from torch import Tensor

from grader.judge.suite import (
    CheckFailure,
    Panel,
    assert_close,
    assert_differs,
    assert_follows_device,
    assert_gradients_match,
    assert_no_loop,
    assert_rejects,
    assert_shape,
    assert_tensor,
    observe,
)

# --- what is right ----------------------------------------------------------------------------------------


def index_on_paper(len_q: int, len_k: int, m: int) -> Tensor:
    """Return the printed formula, number by number, shape (T, S)."""
    return torch.tensor([[max(-m, min(m, k - q)) + m for k in range(len_k)] for q in range(len_q)])


def assert_index(impl, len_q: int, len_k: int, m: int, expected: Tensor | None = None, hint: str = "") -> None:
    """Compare the learner's index; of which integer dtype it is has a check of its own."""
    what = f"relative_index({len_q}, {len_k}, {m})"
    got = assert_tensor(impl.relative_index(len_q, len_k, m), what)
    assert_close(got.long(), index_on_paper(len_q, len_k, m) if expected is None else expected, what, hint=hint)


def with_table(impl, table: Tensor):
    """Make the learner's module with this table in it."""
    module = impl.RelativePosition(table.shape[1], table.shape[0] // 2)
    module.load_state_dict({"table": table})
    return module


def own_index(impl, len_q: int, len_k: int, table: Tensor) -> Tensor:
    """Return the learner's own index into ``table``; numbers that are no rows become those of the nearest row."""
    index = assert_tensor(impl.relative_index(len_q, len_k, table.shape[0] // 2), "relative_index")
    return index.long().clamp(-table.shape[0], table.shape[0] - 1)


def assert_lookup(impl, module, len_q: int, len_k: int, when: str) -> None:
    """Compare a lookup with the rows that the learner's own index names, so that a wrong index fails its own checks."""
    table = module.table.detach()
    what = f"T = {len_q}, S = {len_k}, {when}: the vectors and the rows that relative_index names"
    assert_close(module(len_q, len_k), table[own_index(impl, len_q, len_k, table)], what)


def assert_answers(impl, randn) -> None:
    """Check that modules answer at all."""
    for _ in range(2):
        assert_lookup(impl, with_table(impl, randn(7, 4)), 2, 3, "max_distance = 3")


# --- shapes, and the index worked out by hand -------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl):
    """the index is (T, S) and the vectors are (T, S, K)"""
    seen = torch.zeros(0)

    for len_q, len_k in (3, 5), (3, 5), (4, 2):
        sizes = f"T = {len_q}, S = {len_k}, max_distance = 2"
        assert_shape(impl.relative_index(len_q, len_k, 2), (len_q, len_k), f"relative_index for {sizes}")
        module = impl.RelativePosition(4, 2)
        with torch.no_grad():  # the name comes later
            for parameter in module.parameters():
                parameter.uniform_(-1.0, 1.0)
        vectors = module(len_q, len_k)
        assert_shape(vectors, (len_q, len_k, 4), f"the vectors for {sizes}, head_dim = 4", dtype=torch.float32)
        assert_differs(vectors, seen, "the vectors of another module, with another table")
        seen = vectors


@pytest.mark.visible
@pytest.mark.points(2)
def test_index_worked_out_by_hand(impl):
    """4 queries, 4 keys and distances up to 2, written down on paper"""
    by_hand = torch.tensor(
        [
            [2, 3, 4, 4],  # distances 0, 1, 2, and 3 cut off
            [1, 2, 3, 4],
            [0, 1, 2, 3],
            [0, 0, 1, 2],
        ]
    )

    assert_index(impl, 4, 4, 2, by_hand, "Which pairs have the same distance? They need the same number.")


@pytest.mark.visible
def test_queries_and_keys_are_counted_from_0(impl):
    """other numbers of queries than of keys, worked out by hand: both are counted from 0"""
    more_keys = torch.tensor([[2, 3, 4, 4, 4], [1, 2, 3, 4, 4]])
    more_queries = torch.tensor([[2, 3], [1, 2], [0, 1], [0, 0], [0, 0]])

    hint = "Which number stands where query 0 meets key 0?"
    assert_index(impl, 2, 5, 2, more_keys, hint)
    assert_index(impl, 5, 2, 2, more_queries, hint)


@pytest.mark.visible
def test_short_and_long_distances(impl):
    """a max_distance of 1, one that cuts nothing off, and a single query or key"""
    by_hand = {
        (3, 3, 1): [[1, 2, 2], [0, 1, 2], [0, 0, 1]],
        (2, 3, 10): [[10, 11, 12], [9, 10, 11]],
        (1, 4, 2): [[2, 3, 4, 4]],
        (4, 1, 2): [[2], [1], [0], [0]],
        (1, 1, 5): [[5]],
    }

    for sizes, expected in by_hand.items():
        assert_index(impl, *sizes, torch.tensor(expected))
    by_name = impl.relative_index(len_q=2, len_k=3, max_distance=10)
    assert_close(by_name, torch.tensor(by_hand[2, 3, 10]), "relative_index(len_q=2, len_k=3, max_distance=10)")


@pytest.mark.points(2)
def test_index_follows_the_formula(impl, rng):
    """the index is clip(k - q, -m, m) + m for many sizes"""
    drawn = [[rng.randint(1, 12) for _ in range(3)] for _ in range(8)]

    for len_q, len_k, m in [(6, 9, 1), (9, 6, 3), (7, 7, 6), (5, 5, 5), (1, 30, 4), (30, 1, 4), *drawn]:
        assert_index(impl, len_q, len_k, m)
    for len_q, len_k, m in (2, 5000, 2600), (700, 2, 650):
        assert_index(impl, len_q, len_k, m, hint="If short texts are right: how large can your numbers get?")


@pytest.mark.visible
def test_index_is_int64(impl):
    """the index is int64"""
    for len_q, len_k in (2, 3), (3, 2):
        what = f"relative_index({len_q}, {len_k}, 1)"
        assert_shape(impl.relative_index(len_q, len_k, 1), (len_q, len_k), what, dtype=torch.int64)


# --- the table --------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_parameter_name(impl, randn):
    """one parameter named table, of 2m + 1 rows, is saved and loaded, and nothing else"""
    for head_dim, m in (4, 2), (3, 1):
        module = impl.RelativePosition(head_dim=head_dim, max_distance=m)
        places = {"named_parameters()": module.named_parameters(), "state_dict()": module.state_dict().items()}
        for place, found in places.items():
            came = {name: tuple(tensor.shape) for name, tensor in found}
            asked = {"table": (2 * m + 1, head_dim)}
            if came != asked:
                what = f"{place} for head_dim = {head_dim}, max_distance = {m}"
                raise CheckFailure(f"{what}: {asked} is asked for, but {came or 'nothing'} came.")
    assert_answers(impl, randn)


@pytest.mark.visible
@pytest.mark.points(2)
def test_lookup_by_hand(impl):
    """a small table, looked up on paper"""
    for low, middle, high in ([1.0, -1.0], [0.0, 5.0], [7.0, 2.0]), ([0.5, 3.0], [4.0, -2.0], [6.0, 1.0]):
        module = with_table(impl, torch.tensor([low, middle, high]))  # m = 1
        vectors = module(len_q=2, len_k=3)

        by_hand = torch.tensor([[middle, high, high], [low, middle, high]])
        assert_close(vectors, by_hand, f"2 queries, 3 keys and the table {[low, middle, high]}: the vectors")


@pytest.mark.visible
def test_only_the_distance_counts(impl, randn):
    """pairs of the same distance share a vector, near pairs of other distances do not"""
    for _ in range(2):
        table = randn(7, 4)
        vectors = assert_shape(with_table(impl, table)(6, 8), (6, 8, 4), "the vectors for T = 6, S = 8").detach()

        assert_close(vectors[1:, 1:], vectors[:-1, :-1], "query q + 1 with key k + 1, and query q with key k")
        assert_close(
            vectors[0, 4:], vectors[0, 3:-1], "query 0 with keys 4 to 7, and with keys 3 to 6 (max_distance 3)"
        )
        assert_differs(vectors[0, 1:4], vectors[0, :3], "query 0 with keys 1 to 3, and with keys 0 to 2")
        assert_differs(vectors[1:4, 0], vectors[:3, 0], "queries 1 to 3 with key 0, and queries 0 to 2")
        assert_differs(vectors[0, 1], vectors[1, 0], "a key one token after its query, and one before it")
        own = table[own_index(impl, 6, 8, table)]
        assert_close(vectors, own, "the vectors for T = 6, S = 8 and the rows that relative_index names")


@pytest.mark.visible
def test_table_is_drawn_from_xaviers_uniform_distribution(impl):
    """the table starts with numbers drawn evenly between -b and b, b = sqrt(6 / (rows + columns))"""
    for head_dim, m in (16, 400), (300, 20):
        first, second = (impl.RelativePosition(head_dim, m).table.detach() for _ in range(2))

        rows = 2 * m + 1
        what = f"the table of {rows} x {head_dim} numbers"
        assert_xavier(first, math.sqrt(6 / (rows + head_dim)), what)
        assert_differs(first, second, f"{what} of two modules")


@pytest.mark.visible
def test_small_tables_are_drawn_alike(impl):
    """many small tables together: evenly between -b and b, each table drawn on its own"""
    for head_dim, m in (5, 1), (12, 3):
        tables = [impl.RelativePosition(head_dim, m).table.detach() for _ in range(1500 // head_dim // m)]

        bound, what = math.sqrt(6 / (2 * m + 1 + head_dim)), f"{len(tables)} tables of {2 * m + 1} x {head_dim} numbers"
        assert_xavier(torch.stack(tables).flatten(1), bound, what)


def assert_xavier(table: Tensor, bound: float, what: str) -> None:
    """Check that the numbers of a large table are uniform between -bound and bound, and independent."""
    values = table.double().flatten()
    n, largest = values.numel(), float(values.abs().max())
    if not 0.99 * bound < largest < 1.0001 * bound:  # 0.99 ** 12 000 is 1e-53
        raise CheckFailure(f"{what} should reach up to {bound:.4f}, but its largest number has the size {largest:.4f}.")
    share = torch.arange(1, n + 1) / n  # of the numbers up to each, once they are sorted
    off = float((values.sort().values / (2 * bound) + 0.5 - share).abs().max())
    if off > 4 / math.sqrt(n):  # Kolmogorov and Smirnov: by chance once in 1e13
        raise CheckFailure(f"{what} has the right bound {bound:.4f}, but its numbers are not spread evenly up to it.")
    scaled = table.double() / bound * math.sqrt(3)  # of variance 1
    for name, other in ("down", scaled.roll(1, 0)), ("across", scaled.roll(1, 1)), ("mirrored", scaled.flip(0)):
        alike = float((scaled * other).mean())
        if abs(alike) > 0.1:  # the mean of n products has a standard deviation of less than 0.013
            raise CheckFailure(f"{what}: its numbers are not independent of each other ({name}).")


@pytest.mark.points(2)
def test_matches_the_formula_on_many_sizes(impl, randn, rng):
    """random tables and sizes, size 1 among them"""
    drawn = [[rng.randint(1, 9) for _ in range(4)] for _ in range(6)]

    for len_q, len_k, head_dim, m in [
        (1, 1, 1, 1),
        (1, 6, 3, 2),
        (6, 1, 3, 2),
        (3, 4, 5, 20),
        (2, 300, 1, 200),
        (300, 2, 1, 200),
        *drawn,
    ]:
        table = randn(2 * m + 1, head_dim)
        vectors = with_table(impl, table)(len_q, len_k)

        sizes = f"T = {len_q}, S = {len_k}, head_dim = {head_dim}, max_distance = {m}"
        assert_close(vectors, table[index_on_paper(len_q, len_k, m)], f"the vectors for {sizes}")


@pytest.mark.points(2)
def test_gradient_reaches_the_table(impl, randn):
    """each row of the table gets the sum of the gradients of all its pairs, the second time too"""
    module = with_table(impl, randn(5, 3))

    for len_q, len_k in (4, 6), (4, 6), (5, 2):
        table = module.table.detach().double().requires_grad_()
        vectors = module(len_q, len_k)
        expected = table[own_index(impl, len_q, len_k, table)]

        assert_shape(vectors, expected.shape, f"the vectors for T = {len_q}, S = {len_k}")
        cotangent = randn(len_q, len_k, 3)
        assert_gradients_match(vectors, {"table": module.table}, expected, {"table": table}, cotangent)


def test_gradient_in_any_mode_and_dtype(impl, randn):
    """the gradient of the table is right in training and evaluation, in every dtype, for a single query or key too"""
    for dtype in torch.float32, torch.float64, torch.bfloat16:
        module = with_table(impl, randn(5, 3)).to(dtype)
        for len_q, len_k, training in (3, 4, False), (3, 4, True), (1, 4, True), (4, 1, False), (1, 1, True):
            module.train(training)
            table = module.table.detach().double().requires_grad_()
            vectors, expected = module(len_q, len_k), table[own_index(impl, len_q, len_k, table)]

            mode = "training" if training else "evaluation"
            what = f"T = {len_q}, S = {len_k} in {mode}, {str(dtype).removeprefix('torch.')}"
            assert_tensor(vectors, what)
            assert_close(vectors, expected, f"{what}: the vectors", dtype=dtype)
            cotangent = 1.0 + randn(len_q, len_k, 3, dtype=dtype).abs()
            leaves, true_leaves = {"table": module.table}, {"table": table}
            assert_gradients_match(vectors, leaves, expected, true_leaves, cotangent, f"{what}: the gradient")


# --- good manners -----------------------------------------------------------------------------------------


def test_shows_the_table_as_it_is(impl, randn):
    """the lookup follows other lengths, and a table that is trained or loaded"""
    module = with_table(impl, randn(7, 2))
    other = impl.RelativePosition(2, 1)

    for step in range(3):
        for len_q, len_k in (4, 5), (2, 9), (7, 3), (4, 8), (4, 5):
            assert_lookup(impl, module, len_q, len_k, f"after {step} changes of the table")
        with torch.no_grad():
            for training in False, True:
                module.train(training)
                mode = "training" if training else "evaluation"
                what = f"under torch.no_grad() in {mode}, after {step} changes of the table"
                assert_lookup(impl, module, 4, 5, what)
        with torch.no_grad():
            module.table.add_(randn(7, 2))
    module.load_state_dict({"table": randn(7, 2)})
    assert_lookup(impl, module, 4, 5, "after another table was loaded")
    assert_lookup(impl, other, 4, 5, "in a second module, of max_distance 1")


def test_float64_and_bfloat16(impl, randn):
    """a float64 or bfloat16 table gives vectors of that dtype"""
    for dtype in torch.float64, torch.bfloat16, torch.float64:
        module = with_table(impl, randn(5, 3)).to(dtype)
        with torch.no_grad():
            module.table.copy_(randn(5, 3, dtype=torch.float64))

        assert_lookup(impl, module, 4, 5, f"with a {str(dtype).removeprefix('torch.')} table")


def test_no_loop_over_tokens(impl, randn):
    """the number of tensor operations does not grow with the number of queries or of keys"""
    module = with_table(impl, randn(5, 3))

    assert_no_loop(impl, lambda n: impl.relative_index(n, 4, 2), "queries")
    assert_no_loop(impl, lambda n: impl.relative_index(4, n, 2), "keys")
    assert_no_loop(impl, lambda n: module(n, 4), "queries")
    assert_no_loop(impl, lambda n: module(4, n), "keys")
    assert_lookup(impl, module, 40, 40, "after those calls")


def test_follows_the_device(impl, randn):
    """the index is made on the default device, and the module computes where it was moved"""
    with impl.default_device("meta"), impl.trace() as trace:
        index = assert_tensor(impl.relative_index(3, 5, 2), "relative_index")
    if trace.mixed or index.device.type != "meta":
        raise CheckFailure(
            "relative_index makes a tensor on the CPU although PyTorch's default device, set with "
            "torch.set_default_device, is another one. Is a device written into the code?"
        )
    far = impl.RelativePosition(4, 2).to("meta")  # meta stands for any accelerator
    for len_q, len_k in (3, 5), (3, 5), (5, 2), (11, 13):  # the last of no call on the CPU before
        assert_follows_device(impl, lambda q=len_q, k=len_k: far(q, k), "the vectors")
    assert_lookup(impl, with_table(impl, randn(5, 4)), 11, 13, "a module on the CPU, after one on another device")
    assert_answers(impl, randn)


def test_refuses_sizes_below_1(impl, randn):
    """lengths, a max_distance and a head_dim below 1 are refused with ValueError"""
    module = with_table(impl, randn(5, 3))

    def good() -> None:
        with torch.no_grad():
            module.table.add_(randn(5, 3))
        assert_lookup(impl, module, 2, 1, "after a change of the table")

    for sizes in (0, 3, 2), (3, 0, 2), (3, 3, 0), (-1, 3, 2), (3, -2, 2), (3, 3, -1):
        call = f"relative_index{sizes}"
        assert_rejects(lambda sizes=sizes: impl.relative_index(*sizes), call, good=good)
    for sizes in (0, 2), (3, 0), (-4, 2), (3, -1):
        call = f"RelativePosition{sizes}"
        assert_rejects(lambda sizes=sizes: impl.RelativePosition(*sizes), call, good=good)
    for sizes in (0, 3), (3, 0), (-1, 3), (3, -2):
        call = f"a lookup for T = {sizes[0]}, S = {sizes[1]}"
        assert_rejects(lambda sizes=sizes: module(*sizes), call, good=good)


# --- what the diagnosis asks, and the picture -------------------------------------------------------------


def probe(impl):
    """Ask for indices, for lookups in a known table, and how a table begins.

    Nothing drawn at random is handed over, only what it says.
    """
    table = torch.tensor([[3.0, 1.0], [4.0, 1.5], [9.0, 2.0], [6.0, 5.0], [3.5, 8.0]])

    def names():
        state = impl.RelativePosition(2, 2).state_dict()
        return sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())

    def lookup(len_q, len_k):
        module = with_table(impl, table)
        first, second = (module(len_q, len_k).detach() for _ in range(2))
        return first if torch.equal(first, second) else "other vectors each time"

    def start():
        values = impl.RelativePosition(16, 400).table.detach()
        bound = math.sqrt(6 / (801 + 16))
        size = float(values.std()) * math.sqrt(3) / bound
        return round(2 * math.log2(max(size, 1e-9))), float(values.abs().max()) < 1.01 * bound * max(size, 1e-9)

    def trains():
        return with_table(impl, table)(2, 3).requires_grad

    seen = {
        "square": observe(lambda: impl.relative_index(4, 4, 2)),
        "more keys": observe(lambda: impl.relative_index(3, 6, 2)),
        "more queries": observe(lambda: impl.relative_index(6, 3, 2)),
        "nothing cut off": observe(lambda: impl.relative_index(3, 4, 9)),
        "names": observe(names),
    }
    if seen["names"] == ["table (5, 2)"]:
        asked = {
            "lookup": lambda: lookup(3, 6),
            "square lookup": lambda: lookup(5, 5),
            "start": start,
            "trains": trains,
        }
        seen |= {name: observe(call) for name, call in asked.items()}
    return seen


def picture(impl) -> list[Panel]:
    """Show the index as a matrix, for a small distance and for a larger one, and a lookup in a table of one wave."""
    panels = [
        Panel(f"Row of the table, max_distance {m}", impl.relative_index(16, 24, m).float(), "heatmap", "key", "query")
        for m in (3, 12)
    ]
    wave = torch.linspace(-math.pi, math.pi, 25).sin()[:, None]  # m = 12, one feature
    vectors = with_table(impl, wave)(16, 24)[..., 0].detach()
    return [*panels, Panel("Looked up: one wave over the 25 distances", vectors, "heatmap", "key", "query")]
