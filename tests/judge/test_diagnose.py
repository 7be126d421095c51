"""The mistake is named by how the code behaves: one misconception, or two, or the one that explains most, or none."""

import pytest
import torch

from grader.judge import diagnose as module
from grader.judge.answerkey import keep
from grader.judge.diagnose import diagnose, observe, same
from grader.judge.proofs import LocalSubject

SOLUTION = '''
    """Two steps

    Shift, then scale.
    """
    import torch

    def shift(x, by=1.0):
        """Return x, shifted."""
        ### BEGIN SOLUTION
        return x + by
        ### END SOLUTION

    def scale(x, by=2.0):
        """Return shifted x, scaled."""
        ### BEGIN SOLUTION
        return shift(x) * by
        ### END SOLUTION

    def norm(x):
        """Return the norm of x."""
        ### BEGIN SOLUTION
        if x.dim() != 1:
            raise ValueError("one dimension")
        return x.square().sum().sqrt()
        ### END SOLUTION
'''
VARIANTS = '''
    import torch
    from .solution import shift
    from grader.judge.suite import alternative, misconception, slip

    @misconception(replaces="shift", caught_by="test_x")
    def shifts_back(x, by=1.0):
        """You subtract."""
        return x - by

    @misconception(replaces="scale", caught_by="test_x")
    def divides(x, by=2.0):
        """You divide."""
        return shift(x) / by

    @misconception(replaces="norm", caught_by="test_x")
    def forgets_the_root(x):
        """You forget the root."""
        if x.dim() != 1:
            raise ValueError("one dimension")
        return x.square().sum()

    @misconception(replaces="norm", caught_by="test_x")
    def takes_any_shape(x):
        """You take any shape."""
        return x.square().sum().sqrt()

    @slip(replaces="shift", caught_by="test_x")
    def shifts_twice(x, by=1.0):
        return x + 2 * by

    @alternative(replaces="shift")
    def adds(x, by=1.0):
        return torch.add(x, by)
'''
SUITE = """
    import torch
    from grader.judge.suite import observe

    def probe(impl):
        x = torch.randn(4)
        return {
            "shift": observe(lambda: impl.shift(x)),
            "scale": observe(lambda: impl.scale(x)),
            "scale by": observe(lambda: impl.scale(x, 3.0)),
            "norm": observe(lambda: impl.norm(x)),
            "norm of two": observe(lambda: impl.norm(x[None])),
        }

    def test_x(impl):
        pass
"""


@pytest.fixture
def key(make_key):
    return make_key(SUITE, "test_x", solution=SOLUTION, variants=VARIANTS)


def named(key, *variants, change=None):
    namespace = key.build(variants)
    if change is not None:
        change(namespace)
    return [diagnosis.name for diagnosis in diagnose(key, LocalSubject(namespace).begin(3))]


# --- naming --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["shifts_back", "divides", "forgets_the_root", "takes_any_shape"])
def test_every_misconception_is_named(key, name):
    assert named(key, name) == [name]


def test_the_message_is_the_misconceptions_own(key):
    (diagnosis,) = diagnose(key, LocalSubject(key.build(["divides"])).begin(3))

    assert diagnosis.message == "You divide."


@pytest.mark.parametrize("names", [(), ("adds",)])
def test_right_code_has_no_diagnosis(key, names):
    assert named(key, *names) == []


def test_a_slip_is_not_explained(key):
    assert named(key, "shifts_twice") == []


@pytest.mark.parametrize("pair", [("shifts_back", "divides"), ("divides", "forgets_the_root")])
def test_two_misconceptions_at_once_are_both_named(key, pair):
    assert named(key, *pair) == [*pair]


def test_only_so_many_pairs_are_tried(key, monkeypatch):
    monkeypatch.setattr(module, "MAX_PAIRS", 0)

    assert named(key, "divides", "forgets_the_root") != ["divides", "forgets_the_root"]


def test_a_misconception_beside_another_mistake_is_named(key):
    def break_shift(namespace):
        namespace.norm = lambda x: torch.tensor([3.0, 4.0])

    assert named(key, "divides", change=break_shift) == ["divides"]


def test_a_mistake_that_nobody_thought_of_has_no_diagnosis(key):
    def strange(namespace):
        namespace.shift = lambda x, by=1.0: x * 0.77 + 0.1

    assert named(key, change=strange) == []


def test_errors_alone_prove_nothing(key):
    def unwritten(namespace):
        for name in "shift", "scale", "norm":
            setattr(namespace, name, lambda *args: 1 / 0)

    assert named(key, change=unwritten) == []


@pytest.mark.parametrize(
    "answer", [None, "words", [1, [2]], {"a": {1}}, torch.eye(2).to_sparse(), float("nan"), 10**30]
)
def test_answers_that_are_no_answers_have_no_diagnosis(key, answer):
    def strange(namespace):
        namespace.shift = namespace.norm = lambda *args: answer

    assert named(key, change=strange) == []


def test_a_probe_that_stumbles_has_no_diagnosis(make_key):
    suite = "def probe(impl):\n    return {'x': impl.double(1).shape}\n\ndef test_x(impl):\n    pass\n"
    key = make_key(suite, "test_x")

    assert diagnose(key, LocalSubject(key.build([])).begin(3)) == ()


def test_the_probe_sees_the_same_for_all_and_each_time(key):
    first, again = observe(key, key.solution), observe(key, key.build([]))
    mine = observe(key, LocalSubject(key.build([])).begin(3))

    assert same(first, again)
    assert same(mine, first)
    assert first["norm of two"] == "raises ValueError"


# --- when two observations are the same ----------------------------------------------------------------------------

T = torch.tensor


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (T([1.0, 2.0]), T([1.0, 2.00001])),
        (T([1.0, float("nan")]), T([1.0, float("nan")])),
        (T([1.0, float("inf")]), T([1.0, float("inf")])),
        (T([1.0, 2.0]).bfloat16(), T([1.0, 2.02]).bfloat16()),
        (T([1 + 1j]), T([1 + 1.00001j])),
        (T([1, 2]), T([1, 2])),
        (T([True]), T([True])),
        (T(1.0).requires_grad_(), T(1.0)),
        (torch.empty(2, 3, device="meta"), torch.empty(2, 3, device="meta")),
        (1.0, 1.00001),
        (float("inf"), float("inf")),
        (3, 3),
        ("raises ValueError", "raises ValueError"),
        (None, None),
        ([T(1.0), (2, "x")], [T(1.0), (2, "x")]),
        ({"a": T(1.0)}, {"a": T(1.0)}),
        ((), ()),
    ],
)
def test_these_are_the_same(a, b):
    assert same(a, b)
    assert same(b, a)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (T([1.0, 2.0]), T([1.0, 2.1])),
        (T([1.0, 2.0]), T([[1.0, 2.0]])),
        (T([1.0]), T(1.0)),
        (T([1.0]), T([1.0]).double()),
        (T([1.0]), T([float("nan")])),
        (T([float("inf")]), T([-float("inf")])),
        (T([1, 2]), T([1, 3])),
        (T([1.0]), torch.empty(1, device="meta")),
        (torch.empty(2, device="meta"), torch.empty(3, device="meta")),
        (T(1.0), 1.0),
        (1.0, 1.1),
        (1, 1.0),
        (True, 1),
        ("raises ValueError", "raises TypeError"),
        (None, "None"),
        ([T(1.0)], [T(1.0), T(1.0)]),
        ({"a": 1}, {"b": 1}),
        ({"a": 1}, {"a": 1, "b": 2}),
        ([1], {"a": 1}),
    ],
)
def test_these_are_not_the_same(a, b):
    assert not same(a, b)
    assert not same(b, a)


# --- keys that are kept -------------------------------------------------------------------------------------------


def test_a_key_is_loaded_once_and_remembers_what_its_misconceptions_do(make_key):
    exercise = make_key(SUITE, "test_x", solution=SOLUTION, variants=VARIANTS).exercise
    key = keep(exercise)

    diagnose(key, key.build([key.variants[0].name]))

    assert keep(exercise) is key
    assert {()} | {(v.name,) for v in key.variants if v.kind == "misconception"} <= key.observed.keys()


def test_a_key_whose_files_changed_is_loaded_anew(make_key):
    exercise = make_key(SUITE, "test_x", solution=SOLUTION, variants=VARIANTS).exercise
    before = keep(exercise)
    with (exercise.folder / "variants.py").open("a") as file:
        file.write("# another line\n")

    assert keep(exercise) is not before
