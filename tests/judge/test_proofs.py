"""Each proof finds the one flaw that it is there for, in an answer key that is right but for that."""

from dataclasses import replace

import pytest
import torch

from grader.judge.impostors import KINDS, Impostor
from grader.judge.proofs import prove

SUITE = """
import pytest
import torch
from grader.judge.suite import assert_close, observe

@pytest.mark.visible
def test_by_hand(impl):
    "two numbers, doubled on paper"
    assert_close(impl.double(torch.tensor([1.0, -2.0])), torch.tensor([2.0, -4.0]), "x")
    assert_close(impl.double(torch.tensor([3.0, 5.0])), torch.tensor([6.0, 10.0]), "x")

def test_times(impl, reference, randn):
    "doubled several times"
    for times in 2, 3:
        x = randn(4)
        assert_close(impl.double(x, times), reference.double(x.double(), times), "x", dtype=torch.float32)

def probe(impl):
    x = torch.randn(3)
    return {"once": observe(lambda: impl.double(x)), "twice": observe(lambda: impl.double(x, 2))}
"""
VARIANTS = '''
from grader.judge.suite import alternative, misconception, slip

@misconception(replaces="double", caught_by="test_by_hand")
def squares(x, times=1):
    """You square."""
    return x**2

@misconception(replaces="double", caught_by="test_times")
def once_only(x, times=1):
    """You double once."""
    return x * 2

@slip(replaces="double", caught_by="test_times")
def multiplies(x, times=1):
    return x * 2 * times

@alternative(replaces="double")
def adds(x, times=1):
    for _ in range(times):
        x = x + x
    return x
'''


@pytest.fixture
def flaws(make_key):
    """Return what is found wrong once parts of the files are replaced or added to."""

    def find(suite="", variants="", solution=None, change=lambda exercise: exercise, **replaced):
        changed = SUITE.replace(*replaced.get("in_suite", ("", ""))) + suite
        more = VARIANTS.replace(*replaced.get("in_variants", ("", ""))) + variants
        key = make_key(changed, variants=more, **({"solution": solution} if solution else {}))
        return prove(change(key.exercise), 7)

    return find


def test_a_right_answer_key_has_no_flaw(flaws):
    assert flaws() == []


# --- what is right must pass ---------------------------------------------------------------------------------------


def test_a_solution_that_fails_is_found(flaws):
    found = flaws(in_suite=("[6.0, 10.0]", "[6.0, 11.0]"))

    text = "fails test_by_hand: x: 1 of 2 numbers differ, most at [1]: 11 was expected, but 10 came"
    assert any(flaw.startswith(f"the solution {text}") for flaw in found)
    assert any(flaw.startswith(f"the alternative `adds` {text}") for flaw in found)


def test_an_alternative_that_fails_is_found(flaws):
    code = "\n@alternative(replaces='double')\ndef odd(x, times=1):\n    return x * 2**times if times < 3 else x\n"
    found = flaws(variants=code)

    assert len(found) == 1
    assert found[0].startswith("the alternative `odd` fails test_times: x: ")


def test_an_alternative_that_the_probe_takes_for_something_else_is_found(flaws):
    found = flaws(
        suite='\ndef probe(impl):\n    return {"names": impl.double.__class__.__name__, "sees": impl.double(2.5, 0)}\n',
        variants="\n@alternative(replaces='double')\ndef odd(x, times=1):\n    return x * 2**times if times else 0.0\n",
    )

    assert "The probe takes the alternative `odd` for something else than the solution." in found


# --- what is wrong must fail ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["misconception", "slip"])
def test_a_variant_that_passes_the_check_it_names_is_found(flaws, kind):
    code = f"\n@{kind}(replaces='double', caught_by='test_by_hand')\ndef sly(x, times=1):\n    "
    found = flaws(variants=code + "'''You stop at two.'''\n    return x * 2 ** min(times, 2)\n")

    told = f"test_by_hand lets the {kind} `sly` pass."
    assert [flaw for flaw in found if not flaw.startswith("The probe")] == [told]


def test_a_variant_that_names_no_check_is_found(flaws):
    found = flaws(variants="\n@slip(replaces='double', caught_by='test_gone')\ndef lost(x, times=1): ...\n")

    assert found == ["`lost` names the check test_gone, which the suite has not."]


def test_a_misconception_without_words_is_found(flaws):
    found = flaws(in_variants=('    """You square."""\n', ""))

    assert found == ["The misconception `squares` has no docstring, so the learner would read nothing."]


def test_a_check_that_the_stub_passes_is_found(flaws):
    found = flaws(
        suite="""
def test_nothing(impl):
    "a check that swallows whatever comes"
    try:
        impl.double(torch.ones(1))
    except Exception:
        pass
""",
        variants="\n@slip(replaces='double', caught_by='test_nothing')\ndef nothing(x, times=1):\n    x.add_(1)\n",
    )

    assert found == [
        "The stub passes test_nothing.",
        *(f"test_nothing lets the impostor `{kind}` pass." for kind in KINDS[:4]),  # ones have one right answer
    ]


@pytest.mark.parametrize(
    ("check", "kinds"),
    [
        ("assert impl.double(torch.ones(3)).shape == (3,)", ["zeros", "constant", "nan", "first_argument"]),
        ("assert_close(impl.double(torch.zeros(3)), torch.zeros(3), 'x')", []),
        ("assert_close(impl.double(torch.ones(2)).double(), 2 * torch.ones(2).double(), 'x')", []),
        ("assert impl.double(torch.ones(2)).isfinite().all()", ["zeros", "constant", "first_argument", "stale"]),
        ("assert impl.double(torch.ones(2)).isfinite().any() or True", [*KINDS]),
        (
            "x = torch.ones(1, 2); assert_close(impl.double(x), 2 * x, 'x'); assert impl.double(-x).shape == (1, 2)",
            ["stale"],
        ),
    ],
)
def test_a_check_that_an_impostor_passes_is_found(flaws, check, kinds):
    found = flaws(
        suite=f"\ndef test_weak(impl):\n    'a weak check'\n    {check}\n",
        variants="\n@slip(replaces='double', caught_by='test_weak')\ndef empty(x, times=1):\n    return None\n",
    )

    assert found == [f"test_weak lets the impostor `{kind}` pass." for kind in kinds]


def test_a_check_that_catches_no_variant_is_found(flaws):
    found = flaws(
        suite="""
def test_more(impl, reference):
    "more of the same"
    for start in 1.0, 2.0:
        x = torch.arange(start, start + 3)
        assert_close(impl.double(x), reference.double(x), "x")
"""
    )

    assert found == ["test_more is named by no misconception and no slip: nothing shows that it can fail."]


# --- the probe -----------------------------------------------------------------------------------------------------


def test_misconceptions_that_the_probe_cannot_tell_apart_are_found(flaws):
    blind = '\ndef probe(impl):\n    x = torch.randn(3)\n    return {"twice": observe(lambda: impl.double(x, 2))}\n'
    also = '''
@misconception(replaces="double", caught_by="test_times")
def twice_at_most(x, times=1):
    """You stop at two."""
    return x * 2 ** min(times, 2)

@misconception(replaces="double", caught_by="test_times")
def never_more_than_once(x, times=1):
    """You double once."""
    return x + x
'''

    assert flaws(suite=blind, variants=also) == [
        "The probe cannot tell the solution from `twice_at_most`.",
        "The probe cannot tell `once_only` from `never_more_than_once`.",
    ]


# --- visible checks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fixture", ["reference", "twins"])
def test_a_visible_check_that_uses_the_reference_is_found(flaws, fixture):
    def make_visible(exercise):
        return replace(exercise, checks=tuple(replace(check, visible=True) for check in exercise.checks))

    found = flaws(
        suite=f"\ndef test_seen(impl, {fixture}):\n    'a check'\n    assert impl.double(2) == 4\n",
        change=make_visible,
    )

    assert f"test_seen is visible, so it cannot use {fixture}." in found


# --- impostors -----------------------------------------------------------------------------------------------------

NET = '''
    """Net

    A net.
    """
    import torch

    def parts(x, n=2):
        """Return parts."""
        return [x * n, (x.argmax(), n)]

    class Net(torch.nn.Module):
        """A net."""
        def __init__(self):
            """Make it."""
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(2))

        def forward(self, x):
            """Return x, weighed."""
            return parts(x)[0] * self.weight
'''


@pytest.fixture
def impostor(make_key):
    key = make_key("def test_x(impl): pass\n", "test_x", solution=NET)

    def make(kind):
        return Impostor(key.build([]), ("parts", "Net"), kind)

    return make


@pytest.mark.parametrize(
    ("kind", "tensor", "index", "number"),
    [
        ("zeros", [0.0, 0.0], 0, 0),
        ("constant", [0.5, 0.5], 1, 1),
        ("first_argument", [1.0, 3.0], 1, 0),
    ],
)
def test_an_impostor_answers_in_the_right_form(impostor, kind, tensor, index, number):
    liar = impostor(kind)

    x, (place, n) = liar.namespace.parts(torch.tensor([1.0, 3.0]))

    assert (x.tolist(), place.item(), n) == (tensor, index, number)
    assert place.dtype == torch.int64
    assert liar.lied


def test_an_impostor_says_nan_where_there_can_be_one(impostor):
    x, (place, _) = impostor("nan").namespace.parts(torch.tensor([1.0, 3.0]))

    assert x.isnan().all()
    assert place.item() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_a_module_lies_as_a_whole_and_lets_gradients_flow(impostor, kind):
    liar = impostor(kind)
    net, x = liar.namespace.Net(), torch.tensor([1.0, 3.0], requires_grad=True)

    out = net(x)

    assert isinstance(net, torch.nn.Module)
    assert out.requires_grad
    assert (out.tolist() == [2.0, 6.0]) is (kind == "stale")
    assert liar.lied is (kind != "stale")


def test_a_stale_impostor_gives_its_first_answer_for_arguments_of_one_form(impostor):
    liar = impostor("stale")
    parts = liar.namespace.parts

    answers = [parts(torch.tensor(x))[0].tolist() for x in ([1.0, 2.0], [5.0, 6.0], [1.0, 2.0, 3.0])]
    other_number = parts(torch.tensor([5.0, 6.0]), 3)[0].tolist()

    assert answers == [[2.0, 4.0], [2.0, 4.0], [2.0, 4.0, 6.0]]
    assert other_number == [15.0, 18.0]
