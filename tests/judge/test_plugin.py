"""From what happens in a suite to one outcome per promised check."""

from types import ModuleType

import pytest
import torch

from grader.candidate.host import Host
from grader.candidate.wire import unpack
from grader.errors import AnswerKeyError
from grader.judge.candidates import CandidateDied
from grader.judge.fixtures import seed_of
from grader.judge.plugin import NOT_RUN, in_session, run_suite
from grader.judge.proofs import LocalSubject
from grader.judge.session import LocalLink
from grader.judge.subject import MAX_TIMEOUTS, RemoteSubject
from grader.model import CheckVerdict, Submission

PASSED, FAILED, SKIPPED = CheckVerdict.PASSED, CheckVerdict.FAILED, CheckVerdict.SKIPPED
LEARNER = """
import torch

def double(x, times=1):
    return x * 2**times

def change(x):
    return x.add_(1)

def refuse(x):
    raise ValueError("not\\x1b[31m this")

def unwritten(x):
    raise NotImplementedError

class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(3, 2))
        self.gain_weight = torch.nn.Parameter(torch.zeros(4))
        self.bias = torch.nn.Parameter(torch.zeros(3))
    def forward(self, x):
        raise ValueError("no")
"""


def namespace(source=LEARNER):
    module = ModuleType("learner")
    module.__file__ = "learner.py"
    exec(compile(source, "learner.py", "exec"), module.__dict__)
    return module


class FakeCandidate:
    """Answers in this process until it is asked for ``die`` or ``hang``."""

    layers = ("process",)
    output = ""

    def __init__(self):
        self._link = LocalLink(Host())

    def exchange(self, frames, seconds):
        for name in "die", "hang":
            if any(unpack(frame, trusted=True).get("name") == name for frame in frames):
                raise CandidateDied("It is gone.", timed_out=name == "hang")
        return self._link.exchange(frames, seconds)

    def close(self):
        pass


class FakeLauncher:
    def __init__(self):
        self.launched = 0

    def launch(self):
        self.launched += 1
        return FakeCandidate()


def remote():
    launcher = FakeLauncher()
    source = LEARNER + "\ndef die(): pass\n\ndef hang(): pass\n"
    return RemoteSubject(launcher, Submission(source, "tiny.py", "tiny")), launcher


def run(key, subject=None, **more):
    return run_suite(key, subject or LocalSubject(namespace()), 7, **more)


def verdicts(outcomes):
    return {name: outcome.verdict for name, outcome in outcomes.items()}


# --- passing and failing -------------------------------------------------------------------------------------------


def test_what_holds_passes_and_what_does_not_fails(make_key):
    key = make_key(
        """
        from grader.judge.suite import assert_close
        import torch

        def test_right(impl):
            "it doubles"
            assert_close(impl.double(torch.ones(2)), 2 * torch.ones(2), "x")

        def test_wrong(impl):
            "it does not"
            assert_close(impl.double(torch.ones(2)), torch.tensor([2.0, 3.0]), "x")

        def test_plain_assert(impl):
            "an assertion without words"
            assert impl.double(1) == 3

        def test_own_words(impl):
            "an assertion with words"
            assert impl.double(1) == 3, "three was\\x07 asked for"

        def test_own_mistake(impl):
            "a mistake of the author's, or an answer that does not fit"
            impl.double(1).shape
        """
    )

    outcomes = run(key)

    assert verdicts(outcomes) == dict(zip(outcomes, [PASSED, FAILED, FAILED, FAILED, FAILED], strict=True))
    assert [outcome.message for outcome in outcomes.values()] == [
        "",
        "x: every number that came is 2.",
        "What came back is not what was asked for.",
        "three was asked for",
        "What came back could not be used (AttributeError: 'int' object has no attribute 'shape').",
    ]


def test_an_error_of_the_learners_is_told_with_its_line(make_key):
    key = make_key(
        """
        import torch

        def test_function(impl):
            "a function raises"
            impl.refuse(1)

        def test_module(impl):
            "a module raises"
            impl.Net()(torch.ones(1))

        def test_unwritten(impl):
            "a part of the stub is left"
            impl.unwritten(1)

        def test_missing(impl):
            "a name is missing"
            impl.triple(1)
        """
    )

    outcomes = run(key)

    assert set(verdicts(outcomes).values()) == {FAILED}
    assert [outcome.unwritten for outcome in outcomes.values()] == [False, False, True, False]
    function, module, unwritten, missing = (outcome.message for outcome in outcomes.values())
    assert function == "`refuse` raised ValueError: not[31m this (line 11)"
    assert module == "Calling your module raised ValueError: no (line 23)"
    assert unwritten == "`unwritten` is not written yet (line 14)."
    assert missing.startswith("Your file has no `triple`. It defines `double`, ")


# --- what does not run ---------------------------------------------------------------------------------------------


def test_a_check_that_is_skipped_or_expected_to_fail_has_not_passed(make_key):
    names = ["called", "marked", "conditional", "xfailed", "xpassed", "xfail_called", "import"]
    key = make_key(
        """
        import pytest

        def test_called(impl):
            pytest.skip("not today")

        @pytest.mark.skip
        def test_marked(impl):
            pass

        @pytest.mark.skipif(True, reason="not here")
        def test_conditional(impl):
            pass

        @pytest.mark.xfail
        def test_xfailed(impl):
            assert False

        @pytest.mark.xfail
        def test_xpassed(impl):
            pass

        def test_xfail_called(impl):
            pytest.xfail("known")

        def test_import(impl):
            pytest.importorskip("a_module_that_is_not_there")
        """,
        *(f"test_{name}" for name in names),
    )

    outcomes = run(key)

    assert PASSED not in verdicts(outcomes).values()
    skipped = {name: outcome for name, outcome in outcomes.items() if name != "test_xfail_called"}
    assert {(outcome.verdict, outcome.message) for outcome in skipped.values()} == {(SKIPPED, NOT_RUN)}


def test_a_check_that_is_promised_and_missing_is_skipped_and_one_not_promised_is_nothing(make_key):
    key = make_key(
        """
        def test_there(impl):
            pass

        def test_more(impl):
            assert False
        """,
        "test_there",
        "test_gone",
    )

    assert verdicts(run(key)) == {"test_there": PASSED, "test_gone": SKIPPED}


def test_a_suite_that_cannot_be_loaded_is_the_authors_mistake(make_key):
    key = make_key("import a_module_that_is_not_there", "test_x")

    with pytest.raises(AnswerKeyError, match=r"^tiny/test_tiny\.py cannot be loaded: ModuleNotFoundError"):
        run(key)


@pytest.mark.parametrize("how", ["pytest.exit('enough')", "raise KeyboardInterrupt", "raise SystemExit(0)"])
def test_a_suite_that_stops_leaves_no_check_passed_from_there_on(make_key, how):
    key = make_key(
        f"""
        import pytest

        def test_before(impl):
            pass

        def test_stops(impl):
            {how}

        def test_after(impl):
            pass
        """,
        "test_before",
        "test_stops",
        "test_after",
    )

    outcomes = verdicts(run(key))

    assert outcomes["test_before"] is PASSED
    assert outcomes["test_stops"] is not PASSED
    assert outcomes["test_after"] is SKIPPED or "SystemExit" in how


# --- parameters and fixtures ---------------------------------------------------------------------------------------


def test_a_check_with_parameters_passes_if_all_of_them_do(make_key):
    key = make_key(
        """
        import pytest

        @pytest.mark.parametrize("n", [1, 2, 3])
        def test_all(impl, n):
            assert impl.double(n) == 2 * n

        @pytest.mark.parametrize("n", [1, 2, 3])
        def test_not_all(impl, n):
            assert n < 2, f"{n} came"

        @pytest.mark.parametrize("n", [1, pytest.param(2, marks=pytest.mark.skip), 3])
        def test_one_skipped(impl, n):
            pass

        @pytest.mark.parametrize("n", [])
        def test_none(impl, n):
            pass
        """,
        "test_all",
        "test_not_all",
        "test_one_skipped",
        "test_none",
    )

    outcomes = run(key)

    assert list(verdicts(outcomes).values()) == [PASSED, FAILED, SKIPPED, SKIPPED]
    assert outcomes["test_not_all"].message == "2 came"


def test_a_check_whose_fixture_fails_fails(make_key):
    key = make_key(
        """
        import pytest

        @pytest.fixture
        def broken():
            assert False, "before"

        @pytest.fixture
        def broken_after():
            yield 1
            assert False, "after"

        def test_setup(impl, broken):
            pass

        def test_teardown(impl, broken_after):
            pass

        def test_unknown(impl, no_such_fixture):
            pass

        def test_own_fixture(impl, request):
            pass
        """,
        "test_setup",
        "test_teardown",
        "test_unknown",
        "test_own_fixture",
    )

    outcomes = run(key)

    assert list(verdicts(outcomes).values()) == [FAILED, FAILED, FAILED, PASSED]
    assert [outcomes[name].message for name in ("test_setup", "test_teardown")] == ["before", "after"]


def test_inputs_follow_from_the_seed_and_the_checks_name(make_key):
    key = make_key(
        """
        seen = {}

        def note(name, randn, randint, rng):
            seen[name] = (randn(2, 3), randn(4, dtype=__import__("torch").bfloat16), randint(0, 99, (5,)), rng.random())

        def test_one(impl, randn, randint, rng):
            note("one", randn, randint, rng)

        def test_other(impl, randn, randint, rng):
            note("other", randn, randint, rng)
        """,
        "test_one",
        "test_other",
    )

    draws = []
    for seed in 7, 7, 8:
        run_suite(key, LocalSubject(namespace()), seed)
        draws.append({name: [*map(str, values)] for name, values in key.suite.seen.items()})

    first, again, other = draws
    assert first == again
    assert first["one"] != first["other"]
    assert all(a != b for a, b in zip(first["one"], other["one"], strict=True))
    assert (key.suite.seen["one"][0].dtype, key.suite.seen["one"][1].dtype) == (torch.float32, torch.bfloat16)


def test_seeds_of_different_words_have_nothing_in_common():
    seeds = {seed_of(seed, *words) for seed in (1, 2) for words in (("a",), ("b",), ("a", "b"), ("ab",), ())}

    assert len(seeds) == 10
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_twins_have_the_same_weights_and_none_of_them_is_trivial(make_key):
    solution = '''
        """Net

        Write it.
        """
        import torch

        class Net(torch.nn.Module):
            """A net."""
            def __init__(self):
                """Make it."""
                super().__init__()
                self.weight = torch.nn.Parameter(torch.zeros(3, 2))
                self.gain_weight = torch.nn.Parameter(torch.zeros(4))
                self.bias = torch.nn.Parameter(torch.zeros(3))
                self.small = torch.nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))
    '''
    key = make_key(
        """
        import torch

        def test_twins(twins):
            mine, ref = twins("Net")
            assert not mine.training and not ref.training
            assert all(p.dtype == torch.float64 for p in ref.parameters())
            for name, p in ref.named_parameters():
                assert torch.equal(dict(mine.named_parameters())[name].double(), p), name
            assert (ref.bias != 0).all() and (ref.weight != 0).all()
            assert (ref.gain_weight != 1).all() and abs(ref.gain_weight.mean() - 1) < 1
        """,
        "test_twins",
        solution=solution,
    )

    outcomes = run(key, LocalSubject(key.build([])))

    assert outcomes["test_twins"].message == ""


# --- what the engine saw -------------------------------------------------------------------------------------------

SWALLOWS = """
import pytest
import torch

def test_changed(impl):
    x = torch.zeros(2)
    impl.change(x)
    assert x.tolist() == [0, 0]

def test_changed_in_silence(impl):
    try:
        impl.change(torch.zeros(2))
    except Exception:
        pass

def test_changed_and_failed(impl):
    impl.change(torch.zeros(2))
    assert False, "something else"

def test_changed_and_skipped(impl):
    impl.change(torch.zeros(2))
    pytest.skip("well")

def test_died(impl):
    impl.die()

def test_died_in_silence(impl):
    with pytest.raises(Exception):
        impl.die()
    try:
        impl.double(1)
    except Exception:
        pass

def test_hung_in_silence(impl):
    try:
        impl.hang()
    except BaseException:
        pass

def test_fine(impl):
    assert impl.double(1) == 2
"""


def test_what_the_engine_saw_comes_before_what_the_suite_concludes(make_key):
    names = (
        "changed changed_in_silence changed_and_failed changed_and_skipped died died_in_silence hung_in_silence fine"
    )
    key = make_key(SWALLOWS, *(f"test_{name}" for name in names.split()))
    subject, launcher = remote()

    outcomes = run(key, subject)

    crashed, timeout = CheckVerdict.CRASHED, CheckVerdict.TIMEOUT
    assert list(verdicts(outcomes).values()) == [*[FAILED] * 4, crashed, crashed, timeout, PASSED]
    text = "`change` changed an input of shape (2,) in place. Inputs must stay as they are: make a new tensor."
    assert {outcomes[f"test_{name}"].message for name in names.split()[:4]} == {text}
    assert {outcomes[f"test_{name}"].message for name in names.split()[4:7]} == {"It is gone."}
    assert launcher.launched == 4  # one, and another after each death


def test_after_too_many_that_hung_the_rest_is_not_tried(make_key):
    suite = "".join(f"def test_{i}(impl): impl.hang()\n" for i in range(MAX_TIMEOUTS + 2))
    key = make_key(suite, *(f"test_{i}" for i in range(MAX_TIMEOUTS + 2)))
    subject, launcher = remote()

    outcomes = [outcome for _, outcome in sorted(run(key, subject).items())]

    assert [outcome.verdict for outcome in outcomes] == [CheckVerdict.TIMEOUT] * MAX_TIMEOUTS + [SKIPPED] * 2
    assert outcomes[-1].message == "Not run: your code had used up its time in the checks before."
    assert launcher.launched == MAX_TIMEOUTS


def test_each_check_begins_afresh(make_key):
    key = make_key(
        """
        import torch
        keep = []

        def test_a(impl):
            keep.append(impl.Net())
            impl.change(torch.zeros(1))

        def test_b(impl):
            assert impl.double(1) == 2

        def test_c(impl):
            assert impl.Net()._number == 0
        """,
        "test_a",
        "test_b",
        "test_c",
    )

    assert list(verdicts(run(key)).values()) == [FAILED, PASSED, PASSED]


# --- pytest itself -------------------------------------------------------------------------------------------------


def test_one_check_alone_is_run_when_only_one_is_asked_for(make_key):
    key = make_key("def test_a(impl): pass\n\ndef test_ab(impl): pass\n", "test_a", "test_ab")
    done = []

    outcomes = run(key, only="test_a", on_check=done.append)

    assert verdicts(outcomes) == {"test_a": PASSED, "test_ab": SKIPPED}
    assert done == [1]


def test_progress_counts_checks_and_not_their_parameters(make_key):
    suite = """
        import pytest

        @pytest.mark.parametrize("n", [1, 2])
        def test_a(impl, n): pass

        def test_b(impl): pass
    """
    done = []

    run(make_key(suite, "test_a", "test_b"), on_check=done.append)

    assert done == [1, 1, 2]


def test_nothing_around_the_suite_has_a_say(make_key, monkeypatch, capfd):
    key = make_key("def test_a(impl): print('a word')\n", "test_a")
    (key.exercise.folder / "conftest.py").write_text("raise RuntimeError")
    (key.exercise.folder / "pytest.ini").write_text("[pytest]\naddopts = --no-such-option\n")
    monkeypatch.setenv("PYTEST_ADDOPTS", "-k nothing")
    monkeypatch.chdir(key.exercise.folder)

    assert verdicts(run(key)) == {"test_a": PASSED}
    assert not list(key.exercise.folder.glob(".pytest_cache"))


def test_a_suite_says_the_same_in_a_session_that_is_open_already(make_key):
    key = make_key(
        """
        import pytest
        @pytest.mark.parametrize("n", [1, 2])
        def test_a(impl, randn, n): assert impl.double(randn(n)).shape == (n,)
        def test_b(impl): assert False, "never"
        def test_c(missing): pass
        def test_d(impl): raise KeyboardInterrupt
        def test_e(impl): pass
        """,
        "test_a", "test_b", "test_c", "test_d", "test_e",
    )  # fmt: skip
    inside = []

    in_session(lambda: inside.extend([run(key), run(key)]))  # the second starts one of its own again

    assert inside == [run(key)] * 2
    assert verdicts(inside[0]) == {
        "test_a": PASSED, "test_b": FAILED, "test_c": FAILED, "test_d": SKIPPED, "test_e": SKIPPED
    }  # fmt: skip


def test_a_fixture_that_fails_at_its_end_fails_the_check(make_key):
    key = make_key(
        """
        import pytest
        @pytest.fixture
        def strict():
            yield
            raise RuntimeError("at the end")
        def test_a(impl, strict): pass
        """,
        "test_a",
    )

    assert verdicts(run(key)) == {"test_a": FAILED}


def test_a_session_that_is_opened_says_nothing(capfd):
    in_session(lambda: None)

    assert capfd.readouterr() == ("", "")
