"""Hidden suite of relative_attention: from the shapes over the parts, one path at a time, to the whole.

With zeros for a table or a projection one path through the layer is left, and its numbers can be worked out by hand. A
check of one property does not compare every number with the reference's, so that one mistake fails few checks; it ends
in ``assert_answers`` instead, which no made-up answer passes and none kept from before.
"""

import math

import pytest
import torch

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
    describe,
    observe,
)

NAME = "RelativeMultiHeadAttention"
ANY = "another output each time"
PRECISE = (torch.float32, torch.float64)
VIEWS = {  # of a smaller tensor: they make none
    *("alias", "as_strided", "detach", "diagonal", "expand", "permute", "select"),
    *("slice", "squeeze", "t", "transpose", "unfold", "unsqueeze", "view"),
}


def plain_weights(d_model, n_heads, max_distance, **changes):
    """Return projections that return their input and tables of zeros, except for ``changes``: ``wo_bias=...``."""
    weights = {}
    for name in ("wq", "wk", "wv", "wo"):
        weights[f"{name}.weight"] = changes.pop(f"{name}_weight", torch.eye(d_model))
        weights[f"{name}.bias"] = changes.pop(f"{name}_bias", torch.zeros(d_model))
    for name in ("rel_k", "rel_v"):
        weights[name] = changes.pop(name, torch.zeros(2 * max_distance + 1, d_model // n_heads))
    assert not changes, changes
    return weights


def plain(impl, d_model, n_heads, max_distance=2, dropout=0.0, **changes):
    """Make the learner's module with ``plain_weights``."""
    module = impl.RelativeMultiHeadAttention(d_model, n_heads, max_distance, dropout)
    module.load_state_dict(plain_weights(d_model, n_heads, max_distance, **changes))
    return module


def attend(module, query, key, value, mask=None):
    """Call the learner's module and check that a pair comes back."""
    pair = module(query, key, value) if mask is None else module(query, key, value, mask=mask)
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        raise CheckFailure(f"forward should return the pair (output, weights), but {describe(pair)} came.")
    return tuple(pair)


def assert_same(mine, ref, inputs, mask=None, what="random inputs", *, dtype=torch.float32, hint=""):
    """Compare the weights, then the output, with the reference's for the same query, key, value."""
    inputs = [x.to(dtype) for x in inputs]
    output, weights = attend(mine, *inputs, mask)
    right, right_weights = ref(*(x.double() for x in inputs), mask=mask)
    assert_close(weights, right_weights, f"{what}: the weights", dtype=dtype, hint=hint)
    assert_close(output, right, f"{what}: the output", dtype=dtype, hint=hint)


def assert_answers(mine, ref, randn, dtype=torch.float32):
    """Check that the module answers at all: with one key its value comes back, whatever the scores are.

    The row of the table that is added to the value is set to 0, so that only checks of the tables depend on them.
    """
    with torch.no_grad():
        kept = mine.rel_v.detach().clone()
        mine.rel_v.zero_()
        for _ in range(2):
            query, key, value = randn(3, 3, 1, ref.wo.in_features, dtype=torch.float64)
            right = ref.wo(ref.wv(value))
            output, weights = attend(mine, *(x.to(dtype) for x in (query, key, value)))
            ones = torch.ones(3, ref.n_heads, 1, 1)
            assert_close(weights, ones, "one query and one key: the weights", dtype=dtype)
            assert_close(output, right, "one query, one key, rel_v of zeros: the output", dtype=dtype)
        mine.rel_v.copy_(kept)


def some_mask(randint, *shape):
    """Return a random mask in which every row has an allowed key."""
    mask = randint(0, 2, shape).bool()
    mask[..., 0] |= ~mask.any(dim=-1)
    return mask


def shares(*odds):
    """Return rows that sum to 1: ``shares([1, 3])`` is [[1/4, 3/4]]."""
    rows = torch.tensor(odds, dtype=torch.float64)
    return (rows / rows.sum(dim=-1, keepdim=True)).float()


# --- shapes, names and how the tables begin ---------------------------------------------------------------


@pytest.mark.visible
def test_shapes(impl, randn):
    """the output is (B, T, D) and the weights are (B, H, T, S)"""
    module = impl.RelativeMultiHeadAttention(12, 2, 3)
    with torch.no_grad():  # the names come later, and zeros would be fine to start with
        for parameter in module.parameters():
            parameter.uniform_(-0.5, 0.5)
    seen = torch.zeros(0)

    for B, T, S in (3, 5, 7), (3, 5, 7), (2, 7, 4):
        query, memory = randn(B, T, 12), randn(B, S, 12)
        output, weights = attend(module, query, memory, memory)

        sizes = f"B = {B}, T = {T}, S = {S}, D = 12, H = 2, max_distance = 3"
        assert_shape(weights, (B, 2, T, S), f"the weights for {sizes}", dtype=torch.float32)
        assert_shape(output, (B, T, 12), f"the output for {sizes}", dtype=torch.float32)
        assert_differs(output, seen, "the output of a second call, with other inputs")
        seen = output


@pytest.mark.visible
def test_parameter_names(impl, randn):
    """four projections and two tables that all heads share are saved and loaded, and nothing else"""
    sizes = {"d_model = 6, n_heads = 2, max_distance = 3": (6, 2, 3), "d_model = 6, n_heads = 2": (6, 2)}

    for said, arguments in sizes.items():
        module = impl.RelativeMultiHeadAttention(*arguments)
        asked = plain_weights(6, 2, arguments[2] if len(arguments) > 2 else 16)
        assert_names(module.named_parameters(), asked, f"named_parameters() for {said}")
        assert_names(module.state_dict().items(), asked, f"state_dict() for {said}")
        for bias in torch.arange(6.0), torch.tensor([5.0, 0.0, -2.0, 1.0, 1.0, 3.0]):
            module.load_state_dict(asked | {"wv.weight": torch.zeros(6, 6), "wv.bias": bias})
            output, _ = attend(module, *randn(3, 1, 1, 6))

            what = "one key, with weights loaded that make every value wv.bias, and tables of zeros: the output"
            assert_close(output.flatten(), bias, what)
        attend(module, *randn(3, 2, 4, 6), torch.ones(4, 4, dtype=torch.bool).tril())
        assert_names(module.state_dict().items(), asked, f"state_dict() for {said}, after three calls")


def assert_names(found, asked, place):
    """Check the names and shapes of (name, tensor) pairs."""
    came = {name: tuple(tensor.shape) for name, tensor in found}
    shapes = {name: tuple(tensor.shape) for name, tensor in asked.items()}
    for name in sorted(came.keys() | shapes.keys()):
        if came.get(name) != shapes.get(name):
            wrong, right = came.get(name, "missing"), shapes.get(name, "absent")
            raise CheckFailure(f"{place}: {name} is {wrong}, but should be {right}.")


@pytest.mark.visible
def test_tables_are_drawn_from_xaviers_uniform_distribution(impl):
    """rel_k and rel_v start with numbers drawn evenly between -b and b, b = sqrt(6 / (rows + columns))"""
    for d_model, n_heads, m in (16, 1, 400), (100, 2, 120):
        first, second = (impl.RelativeMultiHeadAttention(d_model, n_heads, m) for _ in range(2))
        tables = [table.detach() for module in (first, second) for table in (module.rel_k, module.rel_v)]

        rows, columns = 2 * m + 1, d_model // n_heads
        sizes = f"d_model = {d_model}, n_heads = {n_heads}, max_distance = {m}"
        for name, table in zip(("rel_k", "rel_v"), tables, strict=False):
            assert_xavier(table, math.sqrt(6 / (rows + columns)), f"{name}, {rows} x {columns} numbers for {sizes},")
        for name, table in zip(("rel_k", "rel_v"), tables, strict=False):
            alike = int((table[:m] == table.flip(0)[:m]).all(dim=1).sum())
            if alike:
                raise CheckFailure(
                    f"{name}, {sizes}: {alike} rows for keys before the query equal those for keys after."
                )
        for i, other in enumerate(tables[1:]):
            which = ("rel_v and rel_k", "rel_k of two modules", "rel_v of one module and rel_k of another")[i]
            assert_differs(other, tables[0], f"{which}, {sizes}, should be drawn apart")


def assert_xavier(table, bound, what):
    """Check that the numbers of a large table are uniform between -bound and bound."""
    values = table.double().flatten()
    n, largest = values.numel(), float(values.abs().max())
    if not 0.99 * bound < largest < 1.0001 * bound:  # 0.99 ** 12 000 is 1e-53
        raise CheckFailure(f"{what} should reach up to {bound:.4f}, but the largest number has the size {largest:.4f}.")
    share = torch.arange(1, n + 1) / n  # of the numbers up to each, once they are sorted
    off = float((values.sort().values / (2 * bound) + 0.5 - share).abs().max())
    if off > 4 / math.sqrt(n):  # Kolmogorov and Smirnov: by chance once in 1e13
        raise CheckFailure(f"{what} has the right bound {bound:.4f}, but its numbers are not spread evenly up to it.")


# --- one path at a time, worked out by hand ---------------------------------------------------------------


@pytest.mark.visible
def test_tables_of_zeros_by_hand(impl):
    """with tables of zeros it is plain attention: two heads of four features each, worked out on paper"""
    module = plain(impl, 8, 2)
    query, key, value = torch.zeros(1, 1, 8), torch.zeros(1, 2, 8), torch.zeros(1, 2, 8)
    query[0, 0, [0, 7]] = 1.0  # the first feature of head 0 and the last of head 1
    key[0, 0, 0], key[0, 1, 7] = 2 * math.log(3), 2 * math.log(4)
    value[0, 0, [0, 1]], value[0, 1, [4, 7]] = torch.tensor([4.0, 8.0]), torch.tensor([5.0, 10.0])

    for order, scores, odds, by_hand in (
        ([0, 1], "(ln 3, 0) and (0, ln 4)", ([3, 1], [1, 4]), [3.0, 6.0, 0.0, 0.0, 4.0, 0.0, 0.0, 8.0]),
        ([1, 0], "(0, ln 3) and (ln 4, 0)", ([1, 3], [4, 1]), [1.0, 2.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0]),
    ):
        output, weights = attend(module, query, key[:, order], value)

        what = f"scores {scores} in heads 0 and 1"
        assert_close(weights[0, :, 0], shares(*odds), f"{what}: their weights")
        assert_close(output[0, 0], torch.tensor(by_hand), f"{what}: the output")


@pytest.mark.visible
@pytest.mark.points(2)
def test_scores_of_distances_by_hand(impl):
    """with keys of zeros only the distances count: weights of 3 queries and 4 keys, and of 4 and 2, done on paper"""
    rel_k = torch.zeros(3, 4)  # m = 1: before the query, at its place, after it
    rel_k[:, 0] = 2 * torch.tensor([1.0, 2.0, 3.0]).log()  # 2 is sqrt(K)
    rel_k[:, 1] = 2 * torch.tensor([3.0, 2.0, 1.0]).log()
    module = plain(impl, 8, 2, 1, rel_k=rel_k)
    growing = shares([2, 3, 3, 3], [1, 2, 3, 3], [1, 1, 2, 3])  # 2 at the query's place, 3 after it, 1 before it
    falling = shares([2, 1, 1, 1], [3, 2, 1, 1], [3, 3, 2, 1])

    for features, by_hand in ([0, 5], (growing, falling)), ([1, 4], (falling, growing)):
        query = torch.zeros(1, 3, 8)
        query[..., features] = 1.0
        _, weights = attend(module, query, torch.zeros(1, 4, 8), torch.zeros(1, 4, 8))

        what = f"keys of zeros, queries with a 1 in features {features[0]} and {features[1]}: the weights"
        assert_close(weights[0], torch.stack(by_hand), what, hint="Which row of rel_k belongs to each pair?")
    query = torch.zeros(1, 4, 8)
    query[..., [0, 5]] = 1.0
    _, weights = attend(module, query, torch.zeros(1, 2, 8), torch.zeros(1, 2, 8))
    by_hand = shares([2, 3], [1, 2], [1, 1], [1, 1]), shares([2, 1], [3, 2], [3, 3], [3, 3])
    assert_close(weights[0], torch.stack(by_hand), "4 queries and 2 keys of zeros: the weights")


@pytest.mark.visible
@pytest.mark.points(2)
def test_values_of_distances_by_hand(impl, randn):
    """with values of zeros only rel_v comes out: averages of its rows, worked out on paper"""
    flat = {"wk_weight": torch.zeros(4, 4), "wv_weight": torch.zeros(4, 4)}  # all weights are 1/4
    rel_v = torch.tensor([[0.0, 12.0], [4.0, 0.0], [8.0, 24.0]])  # m = 1: before the query, at its place, after it
    by_hand = torch.tensor([[7.0, 18.0], [5.0, 15.0], [3.0, 12.0]])  # of rows 1 2 2 2, 0 1 2 2 and 0 0 1 2

    for factor in torch.tensor([1.0, 1.0]), torch.tensor([2.0, -1.0]):
        module = plain(impl, 4, 2, 1, rel_v=rel_v * factor, **flat)
        output, weights = attend(module, randn(1, 3, 4), *randn(2, 1, 4, 4))

        assert_close(weights, torch.full((1, 2, 3, 4), 0.25), "scores of zeros: the weights")
        what = f"values of zeros, weights of 1/4 and rel_v {(rel_v * factor).tolist()}: the output"
        assert_close(output[0], (by_hand * factor).repeat(1, 2), what, hint="Which row of rel_v belongs to each pair?")


@pytest.mark.visible
@pytest.mark.points(2)
def test_both_parts_of_a_score_are_divided_by_the_root_of_the_head_width(impl):
    """the score is (q . k + q . a_k) / sqrt(K), for heads of several widths"""
    for d_model, n_heads, root in (8, 2, 2.0), (27, 3, 3.0), (16, 1, 4.0):  # K = 4, 9, 16
        K = d_model // n_heads
        for content, distance in (3.0, 5.0), (5.0, 2.0):
            rel_k = torch.zeros(3, K)
            rel_k[[0, 2], 1] = root * math.log(distance)  # a key that is not at the query's own place
            module = plain(impl, d_model, n_heads, 1, rel_k=rel_k)
            query, key = torch.zeros(1, 1, d_model), torch.zeros(1, 3, d_model)
            query[..., ::K] = 1.0  # 1 in the first two features of every head
            query[..., 1::K] = 1.0
            key[0, :2, ::K] = root * math.log(content)
            _, weights = attend(module, query, key, key)

            by_hand = shares([content, content * distance, distance]).expand(1, n_heads, 1, 3)
            parts = f"{root * math.log(content):.4f} from the keys 0 and 1, {root * math.log(distance):.4f} from the "
            what = (
                f"D = {d_model}, H = {n_heads}: {parts}distances of the keys 1 and 2, before they are divided: weights"
            )
            assert_close(weights, by_hand, what, hint="How many features does a head compare, in both products?")


@pytest.mark.visible
def test_heads_are_joined_in_order_and_go_through_wo(impl, randn):
    """v + a_v of the heads lie side by side, head 0 first, for every token, and go through wo"""
    values, more = torch.tensor([2.0, 3.0, 5.0, 7.0, 11.0, 13.0]), torch.tensor([100.0, 200.0])
    joined = values + more.repeat(3)  # what every key gives, so every average
    shuffled = torch.zeros(6, 6)
    shuffled[range(6), [5, 0, 3, 1, 4, 2]] = torch.tensor([1.0, 2.0, 1.0, -1.0, 3.0, 1.0])
    bias = torch.tensor([0.0, 1.0, 0.0, -4.0, 0.0, 9.0])

    for said, weight, add in ("as it is", torch.eye(6), torch.zeros(6)), ("mixed and shifted by wo", shuffled, bias):
        changes = {"wv_weight": torch.zeros(6, 6), "wv_bias": values, "wo_weight": weight, "wo_bias": add}
        module = plain(impl, 6, 3, 2, rel_v=more.expand(5, 2).clone(), **changes)
        output, _ = attend(module, randn(2, 4, 6), *randn(2, 2, 5, 6))

        what = f"every value is {values.tolist()}, every row of rel_v {more.tolist()}; the output, {said}"
        assert_close(output, (weight @ joined + add).expand(2, 4, 6), what)


# --- what defines it --------------------------------------------------------------------------------------


def test_only_clipped_distances_count(twins, randn, rng):
    """near keys may not change places, keys beyond the distance may, and with tables of zeros all may"""
    mine, ref = twins(NAME, 8, 2, 3)
    query, memory = randn(2, 1, 8), randn(2, 9, 8)
    usual, near = list(range(9)), [1, 0, *range(2, 9)]
    far = [0, 1, 2, *rng.sample(range(3, 9), 6)]  # 3 tokens or more after the only query

    def ask(order):
        output, weights = attend(mine, query, memory[:, order], memory[:, order])
        assert_shape(weights, (2, 2, 1, 9), "the weights of 1 query and 9 keys")
        return output.detach(), weights.detach()

    def assert_free(order, what):
        output, weights = ask(usual)
        moved, moved_weights = ask(order)
        assert_close(moved_weights, weights[..., order], f"{what}, one query, keys in the order {order}: the weights")
        assert_close(moved, output, f"{what}, one query, keys in the order {order}: the output")

    assert_free(far, "max_distance = 3")
    assert_differs(ask(near)[0], ask(usual)[0], "keys 0 and 1 changed places, at distances 0 and 1: the output")
    with torch.no_grad():
        mine.rel_k.zero_()
        mine.rel_v.zero_()
    assert_free(rng.sample(usual, 9), "tables of zeros")
    assert_answers(mine, ref, randn)


def test_query_key_and_value_have_their_own_parts(twins, randn):
    """tables of zeros: self-attention, cross-attention with more keys or queries, and a value that is not the key"""
    mine, ref = twins(NAME, 12, 3, 2)
    with torch.no_grad():
        for table in mine.rel_k, mine.rel_v, ref.rel_k, ref.rel_v:
            table.zero_()
    x, memory, value = randn(2, 4, 12), randn(2, 7, 12), randn(2, 7, 12)

    assert_same(mine, ref, (x, x, x), what="query, key and value are one tensor")
    assert_same(mine, ref, (x, memory, memory), what="4 queries and 7 keys")
    assert_same(mine, ref, (memory, x, x), what="7 queries and 4 keys")
    assert_same(mine, ref, (x, memory, value), what="a value that is not the key")


def test_makes_no_tensor_of_all_pairs_and_features(impl, twins, randn, randint):
    """no tensor of B * H * T * S * K numbers is made"""
    B, H, T, S, K = 3, 2, 5, 7, 4
    mine, ref = twins(NAME, H * K, H, 2)
    query, key, value = randn(B, T, H * K), randn(B, S, H * K), randn(B, S, H * K)

    for mask in None, some_mask(randint, B, 1, T, S):
        with impl.trace() as trace:
            attend(mine, query, key, value, mask)
        for op in trace.ops:
            for shape in op.outputs:
                if math.prod(shape) >= B * H * T * S * K and op.name not in VIEWS:
                    raise CheckFailure(
                        f"B = {B}, H = {H}, T = {T}, S = {S}, K = {K}: `{op.name}` makes a tensor of shape {shape}, "
                        f"{math.prod(shape)} numbers. B * H * T * S * K is {B * H * T * S * K}, and no tensor should "
                        "have as many. Can you multiply and sum in one step?"
                    )
    assert_answers(mine, ref, randn)


# --- masks ------------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_true_in_a_mask_means_may_attend(impl, randn):
    """a query that may attend to one key alone gets that key's value, and its row of rel_v"""
    row = torch.tensor([100.0, 200.0])
    module = plain(impl, 4, 2, 1, rel_k=randn(3, 2), rel_v=row.expand(3, 2).clone())
    value = torch.arange(12.0).view(1, 3, 4)

    for allowed in [0, 2], [1, 0]:  # the one key that query 0 may attend to, and that of query 1
        mask = torch.zeros(2, 3, dtype=torch.bool)
        mask[[0, 1], allowed] = True
        output, weights = attend(module, randn(1, 2, 4), randn(1, 3, 4), value, mask)

        what = f"queries 0 and 1 may attend to keys {allowed[0]} and {allowed[1]} alone, rows of rel_v {row.tolist()}"
        assert_close(weights, mask.float().expand(1, 2, 2, 3), f"{what}: the weights")
        assert_close(output, value[:, allowed] + row.repeat(2), f"{what}: the output")


@pytest.mark.points(2)
def test_masks_of_every_shape(twins, randn, randint):
    """a mask broadcasts to (B, H, T, S); masked weights are exactly 0, the others sum to 1"""
    mine, ref = twins(NAME, 8, 2, 2)
    shapes = (4, 5), (5,), (1, 5), (3, 1, 4, 5), (3, 1, 1, 5), (1, 2, 1, 5), (2, 4, 5), (3, 2, 4, 5)
    alike = (  # B, T, S by which dimensions are mixed up, and columns, which leave some queries nothing
        (2, 4, 5, [(2, 4, 5), (2, 1, 1, 5)]),
        (4, 4, 5, [(4, 5), (4, 1), (4, 1, 4, 1)]),
        (3, 4, 4, [(4, 1), (3, 1, 4, 1), (4, 4)]),
        (2, 2, 2, [(2, 2), (2, 1), (1, 2), (2, 2, 2), (2, 1, 2)]),
        (2, 3, 1, [(3, 1), (2, 1, 1, 1), (2, 1, 1)]),
    )

    for dtype, size in (torch.float32, 1.0), (torch.float32, 100.0), (torch.float64, 100.0):
        mine.to(dtype)
        for shape in shapes if size > 1 else shapes[:2]:
            mask, inputs = some_mask(randint, *shape), [size * randn(3, n, 8, dtype=dtype) for n in (4, 5, 5)]
            _, weights = attend(mine, *inputs, mask)

            what = f"a mask of shape {shape}, inputs of size {size:g}"  # 100: scores of about 10 000
            assert_shape(weights, (3, 2, 4, 5), f"{what}: the weights", dtype=dtype)
            masked = weights[~mask.expand(3, 2, 4, 5)]
            assert_close(masked, torch.zeros_like(masked), f"{what}: the masked weights", tolerance=0.0)
            ones = torch.ones(3, 2, 4, dtype=dtype)
            assert_close(weights.sum(dim=-1), ones, f"{what}: the sum of each query's weights")
    for B, T, S, several in alike:
        for shape in several:
            mask = randint(0, 2, shape).bool()
            _, weights = attend(mine, *(randn(B, n, 8, dtype=torch.float64) for n in (T, S, S)), mask)

            seen = mask.expand(B, 2, T, S)
            what = f"B = {B}, T = {T}, S = {S}, a mask of shape {shape}: where the weights are above 0 (1 is yes)"
            assert_close((weights > 0).int(), seen.int(), what)
    assert_answers(mine, ref, randn, torch.float64)


@pytest.mark.points(2)
def test_a_query_with_nothing_to_attend_to(twins, randn, randint):
    """a query that may attend to nothing gets weights of 0 and, after wo, the bias of wo"""
    mine, ref = twins(NAME, 8, 2, 2)
    row, item, head = some_mask(randint, 4, 5), some_mask(randint, 3, 1, 1, 5), some_mask(randint, 3, 2, 4, 5)
    row[1], item[2], head[:, 1, 2] = False, False, False
    masks = {"query 1": row, "the last item": item, "query 2 in head 1": head, "everyone": torch.zeros(1, 5).bool()}
    masks["query 3, by a mask (T, 1),"] = torch.tensor([[True], [True], [True], [False]])

    for dtype in PRECISE:
        mine.to(dtype)
        for who, mask in masks.items():
            inputs = randn(3, 4, 8), randn(3, 5, 8), randn(3, 5, 8)
            output, weights = attend(mine, *(x.to(dtype) for x in inputs), mask)

            what = f"{who} may attend to nothing"
            some = mask.expand(3, 2, 4, 5).any(dim=-1)  # (B, H, T)
            nothing = torch.zeros(int((~some).sum()), 5, dtype=dtype)
            assert_close(weights[~some], nothing, f"{what}: the weights there", tolerance=0.0)
            assert_close(weights.sum(dim=-1), some.to(dtype), f"{what}: the sum of each query's weights")
            silent = output[~some.any(dim=1)]
            assert_close(silent, ref.wo.bias.to(dtype).expand_as(silent), f"{what}: the output there, which is wo.bias")


# --- the whole --------------------------------------------------------------------------------------------


@pytest.mark.visible
def test_huge_scores(impl):
    """scores of 10 000 and -10 000 give right weights, and no NaN"""
    for dtype in PRECISE:
        for sign, odds in (1.0, ([1, 0, 0], [0, 1, 1])), (-1.0, ([0, 1, 1], [1, 0, 0])):
            rel_k = torch.tensor([[1.0], [0.0], [1.0]]) * -sign * 10_000.0  # K = 1, m = 1: for keys 1 and 2
            module = plain(impl, 2, 2, 1, rel_k=rel_k).to(dtype)
            query = torch.tensor([[[1.0, -1.0]]], dtype=dtype)  # of head 0 and head 1
            key = torch.tensor([[[0.0, 0.0], [1.0, 1.0], [1.0, 1.0]]], dtype=dtype)
            value = torch.tensor([[[2.0, 8.0], [4.0, 6.0], [6.0, 2.0]]], dtype=dtype)
            output, weights = attend(module, query, key, value)

            what = f"scores of about 0, {-sign:g}e4, {-sign:g}e4 in head 0 and 0, {sign:g}e4, {sign:g}e4 in head 1"
            by_hand = shares(*odds).to(dtype)
            assert_close(weights[0, :, 0], by_hand, f"{what}: the weights", dtype=dtype)
            averages = (by_hand * value[0].T).sum(dim=-1)
            assert_close(output[0, 0], averages, f"{what}: the output", dtype=dtype)


@pytest.mark.points(3)
def test_matches_the_reference(twins, randn, randint, rng):
    """random sizes, size 1, and tensors that are not contiguous"""
    drawn = [[rng.choice((1, 2, 3, 5, 7)) for _ in range(6)] for _ in range(6)]
    for B, T, S, H, K, m in [
        (1, 1, 1, 1, 1, 1),
        (2, 6, 9, 2, 4, 1),
        (2, 9, 6, 2, 3, 20),
        (1, 2, 300, 1, 2, 200),
        (1, 300, 2, 1, 2, 200),
        *drawn,
    ]:
        mine, ref = twins(NAME, H * K, H, m)
        query = randn(T, B, H * K).transpose(0, 1)
        key, value = randn(B, H * K, S).transpose(1, 2), randn(B, S, 2 * H * K)[..., ::2]

        sizes = f"B = {B}, T = {T}, S = {S}, H = {H}, K = {K}, max_distance = {m}"
        assert_same(mine, ref, (query, key, value), what=sizes)
        mask = some_mask(randint, B, 1, T, S)
        assert_same(mine, ref, (query, key, value), mask, f"{sizes}, with a mask")


def test_float64_and_bfloat16(twins, randn, randint):
    """a float64 module computes in float64 all the way, a bfloat16 module takes and returns bfloat16"""
    for dtype, hint in (
        (torch.float64, "If the other checks pass: what is rounded to float32 on the way?"),
        (torch.bfloat16, ""),
    ):
        mine, ref = twins(NAME, 8, 2, 2)  # K = 4: sqrt(K) held in float32 is exact, and welcome
        mine.to(dtype)
        finer = {name: w + 1e-5 * randn(*w.shape, dtype=torch.float64) for name, w in ref.state_dict().items()}
        ref.load_state_dict(finer)  # now of numbers that float32 has not
        ref.to(dtype).double()
        mine.load_state_dict(ref.state_dict())
        name, nothing = str(dtype).removeprefix("torch."), some_mask(randint, 3, 1, 4, 5)
        nothing[1, :, 2] = False  # one query may attend to nothing
        for mask in None, some_mask(randint, 3, 1, 4, 5), nothing:
            inputs = 0.5 * randn(3, 4, 8), 0.5 * randn(3, 5, 8), 0.5 * randn(3, 5, 8)
            assert_same(mine, ref, inputs, mask, name, dtype=dtype, hint=hint)
        far, far_ref = twins(NAME, 4, 1, 280)
        with torch.no_grad():
            for parameter in far_ref.parameters():
                parameter.mul_(0.5)  # scores near 0, or honest bfloat16 is off by 2 % once in a thousand runs
        far.to(dtype)
        far_ref.to(dtype).double()
        far.load_state_dict(far_ref.state_dict())
        inputs = 0.5 * randn(1, 2, 4), 0.5 * randn(1, 290, 4), 0.5 * randn(1, 290, 4)
        assert_same(far, far_ref, inputs, None, f"{name}, 290 keys, max_distance = 280", dtype=dtype, hint=hint)
    x = (0.5 * randn(2, 4, 8)).bfloat16().requires_grad_()  # mine and ref are of bfloat16 now
    wide, cotangent = x.detach().double().requires_grad_(), randn(2, 4, 8)
    output, right = attend(mine, x, x, x)[0], ref(wide, wide, wide)[0]
    loose = 0.1 * float(torch.autograd.grad((right * cotangent).sum(), wide, retain_graph=True)[0].abs().max())
    what = "bfloat16, self-attention: the gradient"
    assert_gradients_match(output, {"x": x}, right, {"x": wide}, cotangent, what, tolerance=loose)


def assert_same_gradients(mine, ref, dtype, randn, what, mask=None, T=4):
    """Compare the gradients of fresh inputs and of all parameters with the reference's."""
    names = "query", "key", "value"
    inputs = [randn(2, n, 8, dtype=dtype).requires_grad_() for n in (T, 5, 5)]
    wide = [x.detach().double().requires_grad_() for x in inputs]
    leaves = dict(zip(names, inputs, strict=True)) | dict(mine.named_parameters())
    wide_leaves = dict(zip(names, wide, strict=True)) | dict(ref.named_parameters())
    output, right = attend(mine, *inputs, mask)[0], ref(*wide, mask=mask)[0]
    assert_gradients_match(output, leaves, right, wide_leaves, randn(2, T, 8, dtype=dtype), what)


@pytest.mark.points(2)
def test_gradients(twins, randn):
    """the gradients of the inputs, the projections and both tables, in a second backward pass too"""
    for dtype in PRECISE:
        mine, ref = twins(NAME, 8, 2, 2)
        mine.to(dtype)
        for what in "the gradient", "the gradient in a second backward pass":
            assert_same_gradients(mine, ref, dtype, randn, what)
        assert_same_gradients(mine, ref, dtype, randn, "one query: the gradient", T=1)
        x, memory = randn(2, 4, 8, dtype=dtype), randn(2, 4, 8, dtype=dtype)
        for said, several in (
            ("query, key and value are one tensor", lambda x, memory: (x, x, x)),
            ("key and value are one tensor", lambda x, memory: (memory, x, x)),
        ):
            leaf, wide = x.clone().requires_grad_(), x.double().clone().requires_grad_()
            output, right = attend(mine, *several(leaf, memory))[0], ref(*several(wide, memory.double()))[0]
            what, cotangent = f"{said}: the gradient", randn(2, 4, 8, dtype=dtype)
            assert_gradients_match(output, {"x": leaf}, right, {"x": wide}, cotangent, what)
        output, right = attend(mine, x, memory, memory)[0], ref(x.double(), memory.double(), memory.double())[0]
        leaves, wide_leaves = dict(mine.named_parameters()), dict(ref.named_parameters())
        what = "the inputs need none: the gradient"
        assert_gradients_match(output, leaves, right, wide_leaves, randn(2, 4, 8, dtype=dtype), what)


def test_gradients_under_a_mask(twins, randn, randint):
    """the gradients under a mask, with a query that may attend to nothing: no NaN"""
    for dtype in PRECISE:
        mine, ref = twins(NAME, 8, 2, 2)
        mine.to(dtype)
        for _ in range(2):
            mask = some_mask(randint, 2, 2, 4, 5)
            mask[1, :, 2], mask[0, 1, 3] = False, False  # no head of one query, and one head of another
            assert_same_gradients(mine, ref, dtype, randn, "the gradient under a mask", mask)


# --- dropout ----------------------------------------------------------------------------------------------


def weights_in_training(impl, randn, p, mask, B=256, T=4, S=3):
    """Return the weights that really multiplied the values and rel_v in training mode.

    The value of key s is 1 in feature s of each head and 0 elsewhere, and every row of rel_v is 1 in the last feature
    alone, so the output before wo shows every single weight that a value met, and the sum of those that rel_v met.

    Returns:
        on_values: Shape (B, H, T, S).
        on_distances: Their sum over the keys, shape (B, H, T).
        returned: Those returned in training mode, shape (B, H, T, S).
        weights: Those returned in eval mode, same shape.
    """
    D = 2 * (S + 1)
    rel_v = torch.tensor([[0.0] * S + [1.0]] * 5)
    module = plain(impl, D, 2, 2, p, rel_k=randn(5, S + 1), rel_v=rel_v)
    value = torch.eye(S, S + 1).repeat(B, 1, 2)
    query, key = randn(B, T, D), randn(B, S, D)
    module.eval()
    _, weights = attend(module, query, key, value, mask)
    module.train()
    output, returned = attend(module, query, key, value, mask)

    assert_shape(output, (B, T, D), f"dropout = {p}: the output in training mode", dtype=torch.float32)
    heads = output.detach().unflatten(-1, (2, S + 1)).transpose(1, 2)  # (B, H, T, K)
    return heads[..., :S], heads[..., S], returned.detach(), weights.detach()


@pytest.mark.visible
@pytest.mark.points(2)
def test_the_same_dropped_out_weights_multiply_both(impl, randn):
    """in training, dropout sets single weights to 0, for the values and for rel_v alike"""
    for p, mask in (0.25, None), (0.6, torch.ones(4, 3, dtype=torch.bool)):
        on_values, on_distances, _, _ = weights_in_training(impl, randn, p, mask)

        what = f"dropout = {p}: the sum of the weights that multiply rel_v, and of those that multiply the values"
        assert_close(on_distances, on_values.sum(dim=-1), what)
        dropped = on_values == 0
        share = float(dropped.double().mean())
        if abs(share - p) > 6 * math.sqrt(p * (1 - p) / dropped.numel()):  # six standard deviations
            raise CheckFailure(f"dropout = {p}: {share:.3f} of the weights that multiply the values are 0.")
        for dim, name in enumerate(("batch items", "heads", "queries", "keys")):
            n = dropped.shape[dim] - 1
            both = dropped.narrow(dim, 0, n) & dropped.narrow(dim, 1, n)
            rate = float(both.double().mean())
            if abs(rate - p * p) > 8 * p / math.sqrt(both.numel()):  # seven standard deviations or more
                raise CheckFailure(
                    f"dropout = {p}: neighbouring {name} lose a weight together in {rate:.3f} of all cases, "
                    f"but chance alone makes it {p * p:.3f}. Is every weight drawn on its own?"
                )


@pytest.mark.visible
def test_dropout_grows_what_it_keeps_and_rests_in_eval(impl, randn):
    """kept weights grow by 1 / (1 - dropout), those returned are from before, and nothing happens in eval mode"""
    for p, mask in (0.25, None), (0.6, torch.ones(4, 3, dtype=torch.bool)), (0.0, None):
        on_values, on_distances, returned, weights = weights_in_training(impl, randn, p, mask)

        assert_close(weights.sum(dim=-1), torch.ones(256, 2, 4), f"dropout = {p}, eval mode: the sum of the weights")
        assert_close(returned, weights, f"dropout = {p}: the weights returned in training mode and in eval mode")
        kept = on_values != 0
        what = f"dropout = {p}: the weights that are not dropped and multiply the values"
        assert_close(on_values[kept], (weights / (1 - p))[kept], what)
        for name, total in ("the values", on_values.sum(dim=-1)), ("rel_v", on_distances):
            what = f"dropout = {p}: the average sum of a query's weights on {name}"
            spread = math.sqrt(p / (1 - p) / total.numel())  # at most: one weight of 1, kept or not
            assert_close(total.mean(), torch.tensor(1.0), what, tolerance=6 * spread + 1e-5)
    module = plain(impl, 8, 2, 2, 0.5, rel_k=randn(5, 4), rel_v=randn(5, 4))
    inputs = randn(3, 2, 5, 8)
    for mode, again in (module.eval, assert_close), (module.train, assert_differs):
        mode()
        first, second = (attend(module, *inputs)[0].detach() for _ in range(2))
        again(second, first, f"two calls in {'eval' if again is assert_close else 'training'} mode with dropout = 0.5")


# --- good manners -----------------------------------------------------------------------------------------


def test_repeated_calls(twins, randn, randint):
    """one module, call after call with other sizes, masks, dtypes and weights, also under no_grad and in training"""
    mine, ref = twins(NAME, 8, 2, 2)
    other, other_ref = twins(NAME, d_model=8, n_heads=4, max_distance=1, dropout=0.5)

    for dtype in torch.float32, torch.float64, torch.float32:
        mine.to(dtype)
        for B, T, S, masked in (2, 3, 4, True), (2, 3, 4, False), (1, 6, 2, True), (4, 2, 7, False), (2, 3, 4, True):
            inputs = randn(B, T, 8), randn(B, S, 8), randn(B, S, 8)
            mask = some_mask(randint, B, 1, T, S) if masked else None
            assert_same(mine, ref, inputs, mask, f"B = {B}, T = {T}, S = {S}, after other calls", dtype=dtype)
            with torch.no_grad():
                assert_same(mine, ref, inputs, mask, f"B = {B}, T = {T}, S = {S}, under no_grad", dtype=dtype)
        with torch.no_grad():
            for name in "rel_k", "rel_v":
                change = randn(5, 4)
                getattr(mine, name).add_(change)
                getattr(ref, name).copy_(getattr(mine, name).detach())
            assert_same(mine, ref, inputs, mask, "after other calls, the tables changed, under no_grad", dtype=dtype)
        assert_same(mine, ref, inputs, mask, "after other calls, the tables changed", dtype=dtype)
        with torch.no_grad():
            for parameter in (*mine.parameters(), *ref.parameters()):
                parameter.mul_(-0.5)
        assert_same(mine, ref, inputs, mask, "after other calls, all weights times -0.5", dtype=dtype)
        with torch.no_grad():
            assert_same(mine, ref, inputs, mask, "all weights times -0.5, under no_grad", dtype=dtype)
        for given in mask, None:
            what = f"dropout = 0, training mode, {'no' if given is None else 'a'} mask"
            assert_same(mine.train(), ref, inputs, given, what, dtype=dtype)
        mine.eval()
    assert_same(other, other_ref, inputs, mask, "a second module, of 4 heads and max_distance 1")
    right, right_weights = ref(*(x.double() for x in inputs), mask)
    for what, pair in (
        ("called with the mask by name", mine(*inputs, mask=mask)),
        ("called with the mask as fourth argument", mine(*inputs, mask)),
    ):
        assert_close(pair[1], right_weights, f"{what}: the weights", dtype=torch.float32)
        assert_close(pair[0], right, f"{what}: the output", dtype=torch.float32)


def test_errors(impl, twins, randn):
    """sizes below 1 and a head count that does not divide d_model raise ValueError"""
    mine, ref = twins(NAME, 6, 3, 2)

    for d_model, n_heads, m in (
        (6, 0, 2),
        (6, -2, 2),
        (0, 1, 2),
        (-6, 3, 2),
        (6, 4, 2),
        (3, 6, 2),
        (6, 3, 0),
        (6, 3, -1),
    ):
        assert_rejects(
            lambda sizes=(d_model, n_heads, m): impl.RelativeMultiHeadAttention(*sizes),
            f"d_model = {d_model}, n_heads = {n_heads}, max_distance = {m}",
            good=lambda: assert_answers(mine, ref, randn),
        )


def test_no_loop_over_tokens_or_batch(impl, twins, randn):
    """the number of tensor operations does not grow with the tokens or the batch"""
    mine, ref = twins(NAME, 8, 2, 2)
    x, many = randn(5, 5, 8), randn(40, 40, 8)
    mask = torch.ones(40, 40, dtype=torch.bool).tril()

    assert_no_loop(impl, lambda n: attend(mine, many[:1, :n], x[:1], x[:1], mask[:n, :5]), "queries")
    assert_no_loop(impl, lambda n: attend(mine, x[:1], many[:1, :n], many[:1, :n], mask[:5, :n]), "keys")
    assert_no_loop(impl, lambda n: attend(mine, many[:n, :5], many[:n, :5], many[:n, :5], mask[:5, :5]), "batch items")
    assert_answers(mine, ref, randn)


def test_follows_the_device(impl, twins, randn):
    """computes on the device that the module and the inputs are on"""
    module = impl.RelativeMultiHeadAttention(6, 2, 2, 0.1)
    query, memory = randn(2, 3, 6), randn(2, 5, 6)
    attend(module, query, memory, memory)
    module.to("meta")  # after a call, so that what it has kept must move as well
    query, memory = query.to("meta"), memory.to("meta")

    for mask in None, torch.ones(3, 5, dtype=torch.bool, device="meta"):
        call = lambda mask=mask: attend(module, query, memory, memory, mask)  # noqa: E731 (one line says it)
        assert_follows_device(impl, call, "output and weights")
    query, memory = randn(2, 7, 6), randn(2, 8, 6)  # 7 and 8: of no call on the CPU before
    far = [x.to("meta") for x in (query, memory, memory)]
    assert_follows_device(impl, lambda: attend(module, *far), "output and weights")
    mine, ref = twins(NAME, 6, 2, 2)
    what = "a module on the CPU, after one on another device: the sum of each query's weights"
    assert_close(attend(mine, query, memory, memory)[1].sum(dim=-1), torch.ones(2, 2, 7), what)
    assert_answers(mine, ref, randn)


# --- diagnosis and picture --------------------------------------------------------------------------------


def probe(impl):
    """Ask, on fixed inputs, what tells the misconceptions apart; nothing drawn at random is handed over."""
    generator = torch.Generator().manual_seed(0)
    weights = {n: torch.randn(tensor.shape, generator=generator) for n, tensor in plain_weights(6, 2, 1).items()}
    query, key, value = (torch.randn(2, n, 6, generator=generator) for n in (3, 4, 4))
    few = torch.tensor([[True, False, True, False], [False, False, True, False], [True, True, True, False]])
    none = few & torch.tensor([[True], [False], [True]])  # query 1 may attend to nothing

    def names():
        state = impl.RelativeMultiHeadAttention(6, 2, 1).state_dict()
        return sorted(f"{name} {tuple(tensor.shape)}" for name, tensor in state.items())

    def answer(query, mask=None, dropout=0.0):
        module = impl.RelativeMultiHeadAttention(6, 2, 1, dropout)
        module.load_state_dict(weights)
        module.eval()
        first, second = ([tensor.detach() for tensor in attend(module, query, key, value, mask)] for _ in range(2))
        return first if torch.equal(first[0], second[0]) else ANY

    def rests_in_eval():
        return [torch.allclose(*pair) for pair in zip(answer(query), answer(query, dropout=0.5), strict=True)]

    def drops():
        changes = {"wv_bias": torch.tensor([1.0, 0.0, 1.0, 0.0]), "rel_v": torch.tensor([[0.0, 1.0]] * 3)}
        module = impl.RelativeMultiHeadAttention(4, 2, 1, 0.5)
        module.load_state_dict(plain_weights(4, 2, 1, **changes))
        module.train()  # weights of 1/4; in each head feature 0 counts those on the values, 1 those on rel_v
        output, returned = attend(module, *(torch.zeros(500, n, 4) for n in (3, 4, 4)))
        steps = [[round(x, 3) for x in t.unique().tolist()] for t in (output[..., 0], output[..., 1], returned)]
        return steps, torch.allclose(output[..., 0], output[..., 1])

    def start():
        found = []
        for table in (
            getattr(impl.RelativeMultiHeadAttention(16, 1, 400), name).detach() for name in ("rel_k", "rel_v")
        ):
            bound = math.sqrt(6 / (801 + 16))
            size = max(1e-9, float(table.std()) * math.sqrt(3) / bound)
            found += [round(2 * math.log2(size)), float(table.abs().max()) < 1.01 * bound * size]
        return found

    seen = {"names": observe(names)}
    if seen["names"] == sorted(f"{name} {tuple(w.shape)}" for name, w in weights.items()):
        asked = {
            "cross": lambda: answer(query),
            "square": lambda: answer(key),
            "masked": lambda: answer(query, few),
            "nothing allowed": lambda: answer(query, none),
            "dropout in eval": rests_in_eval,
            "dropout in training": drops,
            "start": start,
        }
        if observe(lambda: answer(query)) == ANY:  # nothing more can be said of it
            return seen | {"random": True}
        seen |= {name: observe(call) for name, call in asked.items()}
    return seen


def picture(impl):
    """Draw the weights of tokens that all look alike: without tables, with a table, and with both and a causal mask."""
    n, m = 16, 5
    tokens = torch.ones(1, n, 4)
    distance = torch.arange(-m, m + 1.0)
    near = torch.zeros(2 * m + 1, 4)
    near[:, 0] = 6.0 - 1.2 * (distance + 2).abs()  # highest two tokens before the query
    causal = torch.ones(n, n, dtype=torch.bool).tril()

    panels = []
    for title, rel_k, mask in (
        ("tables of zeros: all keys look alike", torch.zeros_like(near), None),
        (f"rel_k highest 2 tokens before the query, max_distance {m}", near, None),
        ("the same under a causal mask", near, causal),
    ):
        module = plain(impl, 4, 1, m, rel_k=rel_k)
        _, weights = attend(module, tokens, tokens, tokens, mask)
        panels.append(Panel(title, weights[0, 0].detach(), x_label="key", y_label="query"))
    return panels
