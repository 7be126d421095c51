"""Asking ahead what a check is going to ask: less is sent, and nothing that is said about a submission is another."""

import builtins
from dataclasses import replace

import pytest
import torch

from grader.candidate.host import Host
from grader.candidate.wire import pack, unpack
from grader.judge.answerkey import keep
from grader.judge.candidates import CandidateDied
from grader.judge.grading import grade
from grader.judge.jobs import GradeJob
from grader.judge.plugin import run_suite
from grader.judge.scripts import MAX_BYTES, Scripts, digest_of, digest_of_one, scripts_of
from grader.judge.session import MAX_RAN, LocalLink, Session, error_from
from grader.judge.subject import MAX_TIMEOUTS, SLOW_SECONDS, RemoteSubject
from grader.model import CheckVerdict, Submission

PASSED, FAILED = CheckVerdict.PASSED, CheckVerdict.FAILED
SUITE = """
    import pytest
    import torch
    from grader.judge.suite import assert_close

    def test_one(impl, randn):
        "one call"
        x = randn(3)
        assert_close(impl.double(x), 2 * x, "one")

    @pytest.mark.parametrize("n", [2, 5])
    def test_many(impl, randn, n):
        "many calls"
        for _ in range(n):
            x = randn(4)
            assert_close(impl.double(x), 2 * x, "many")

    def test_chain(impl, randn):
        "a call with what the one before returned"
        x = randn(2)
        once = impl.double(x + 0.1)
        assert_close(impl.double(once), 4 * (x + 0.1), "twice")

    def test_gradient(impl, randn):
        "the gradient is 2"
        x = randn(3).requires_grad_()
        impl.double(x).sum().backward()
        assert_close(x.grad, torch.full((3,), 2.0), "the gradient")
"""
RIGHT = "def double(x, times=1):\n    return x * 2**times\n"
OTHER_BITS = (
    "def double(x, times=1):\n    return ((x.double() * 3 - x.double()) * 2**times / 2 * (1 + 1e-7)).to(x.dtype)\n"
)


class Counting:
    """A candidate in this process that counts how often it is asked, and how much at a time."""

    layers = ("process",)

    def __init__(self, launcher):
        self._link = LocalLink(Host())
        self._launcher = launcher
        self.output = ""

    def exchange(self, frames, seconds):
        self._launcher.asked.append(len(frames))
        for frame in frames:
            name = unpack(frame, trusted=True).get("name")
            if name == self._launcher.deadly and len(frames) > 1:
                self._launcher.deaths += 1
                raise CandidateDied("It is gone.", timed_out=True)
        return self._link.exchange(frames, seconds)

    def close(self):
        pass


class Launcher:
    def __init__(self, deadly=""):
        self.asked, self.launched, self.deaths, self.deadly = [], 0, 0, deadly

    def launch(self):
        self.launched += 1
        return Counting(self)


@pytest.fixture
def key(make_key):
    return make_key(SUITE)


def run(key, source, scripts=None, launcher=None):
    launcher = launcher or Launcher()
    subject = RemoteSubject(launcher, Submission(source, "tiny.py", "tiny"), 3, scripts)
    outcomes = run_suite(key, subject, 7)
    return {name: (outcome.verdict, outcome.message) for name, outcome in outcomes.items()}, launcher.asked[1:]


def test_the_second_is_asked_in_one_go(key):
    scripts = Scripts()

    first, asked_first = run(key, RIGHT, scripts)
    second, asked_second = run(key, RIGHT, scripts)

    assert first == second
    assert {verdict for verdict, _ in second.values()} == {PASSED}
    assert asked_first == [1] * (1 + 2 + 5 + 2 + 2)
    assert asked_second == [1, 2, 5, 2, 2]


def test_right_answers_in_other_bits_are_judged_anew(key):
    scripts = Scripts()
    run(key, RIGHT, scripts)

    for _ in range(2):
        outcomes, _ = run(key, OTHER_BITS, scripts)
        assert {verdict for verdict, _ in outcomes.values()} == {PASSED}


def test_a_check_that_asks_by_the_answers_is_asked_step_by_step_from_then_on(key):
    scripts = Scripts()
    run(key, RIGHT, scripts)

    _, diverging = run(key, OTHER_BITS, scripts)
    _, later = run(key, OTHER_BITS, scripts)

    assert diverging == [1, 2, 5, 2, 1, 9, 1, 1, 1]  # the chain: ahead, loaded anew, all up to where it was; then steps
    assert later == [1, 2, 5, 1, 1, 2]


@pytest.mark.parametrize(
    "wrong",
    [
        "def double(x, times=1):\n    return x * 2.001\n",
        "def double(x, times=1):\n    return x.mul_(2)\n",
        "def double(x, times=1):\n    raise ValueError('no')\n",
        "def double(x, times=1):\n    return None\n",
        "def double(x, times=1):\n    return 2 * x.detach()\n",
        "def double(x, times=1):\n    return 2 * x if len(x) < 4 else x\n",
        "def double(x):\n    return 2 * x.double()\n",
        "def other(x):\n    return 2 * x\n",
        "calls = []\ndef double(x):\n    calls.append(1)\n    return 2 * x if len(calls) < 4 else x\n",
        "seen = {}\ndef double(x):\n    return 2 * seen.setdefault(tuple(x.shape), x)\n",
        "def __getattr__(name):\n    return lambda x: 2 * x\n",
        RIGHT.replace("    return", "    print('asked')\n    return"),
    ],
)
def test_what_is_said_of_a_wrong_one_is_what_is_said_without_asking_ahead(key, wrong):
    scripts = Scripts()
    run(key, RIGHT, scripts)
    run(key, RIGHT, scripts)

    ahead, _ = run(key, wrong, scripts)
    alone, _ = run(key, wrong)

    assert ahead == alone


def test_the_first_check_is_asked_the_same_by_the_first_and_by_the_next(key):
    scripts = Scripts()

    run(key, RIGHT, scripts)
    run(key, RIGHT, scripts)

    assert len(scripts.find("test_one").passed) == 1


def test_answers_pass_a_check_only_if_the_file_defines_what_it_looked_up(key):
    scripts = Scripts()
    run(key, RIGHT, scripts)

    for source in RIGHT, f"from math import *\n{RIGHT}def more():\n    pass\n", RIGHT.replace("double", "triple"):
        run(key, source, scripts)

    assert scripts.find("test_one").kinds == {"double": "function"}
    assert len(scripts.find("test_one").passed) == 1


def test_a_file_is_loaded_anew_once_at_most_whatever_was_learnt_before(key):
    scripts = Scripts()
    run(key, RIGHT, scripts)
    for script in scripts._scripts.values():  # as if the first one's odd answers had made every check ask more
        script.requests = (*script.requests[:-1], pack({"op": "odd"}), script.requests[-1])
    launcher = Launcher()

    outcomes, _ = run(key, RIGHT, scripts, launcher)

    assert {verdict for verdict, _ in outcomes.values()} == {PASSED}
    assert launcher.launched == 2


def test_nothing_is_asked_ahead_of_code_whose_time_is_used_up(key):
    scripts = Scripts()
    run(key, RIGHT, scripts)
    run(key, RIGHT, scripts)
    subject = RemoteSubject(Launcher(), Submission(RIGHT, "tiny.py", "tiny"), 3, scripts)
    subject._timeouts = MAX_TIMEOUTS

    outcomes = run_suite(key, subject, 7)

    assert {outcome.verdict for outcome in outcomes.values()} == {CheckVerdict.SKIPPED}


def test_nothing_is_asked_ahead_of_slow_code(key):
    scripts = Scripts()
    run(key, RIGHT, scripts)
    subject = RemoteSubject(Launcher(), Submission(RIGHT, "tiny.py", "tiny"), 3, scripts)
    subject._begun -= SLOW_SECONDS

    outcomes = run_suite(key, subject, 7)

    assert {outcome.verdict for outcome in outcomes.values()} == {PASSED}
    assert not subject.rehearsed


def test_what_ran_is_what_runs_without_asking_ahead(key):
    scripts = Scripts()
    run(key, RIGHT, scripts)
    wrong = "calls = []\ndef double(x):\n    calls.append(1)\n"
    wrong += "    return x.sin() if calls[3:] else x * (3 if calls[2:] else 2)\n"

    for source in RIGHT, wrong:
        ahead, alone = (
            RemoteSubject(Launcher(), Submission(source, "tiny.py", "tiny"), 3, given) for given in (scripts, None)
        )
        for subject in ahead, alone:
            run_suite(key, subject, 7, only="test_many")
        assert ahead.ran == alone.ran
        assert "aten::mul" in " ".join(ahead.ran) and "sin" not in " ".join(ahead.ran)


def test_replies_are_not_kept(key):
    subject = RemoteSubject(Launcher(), Submission(RIGHT, "tiny.py", "tiny"), 3, Scripts())

    assert subject.begin(1).double(torch.zeros(1000)).sum() == 0

    assert sum(map(len, subject._session.heard)) == 32


def test_a_wrong_answer_is_not_learnt(key):
    scripts = Scripts()
    wrong = RIGHT.replace("2**times", "3")
    run(key, RIGHT, scripts)

    for _ in range(2):
        outcomes, _ = run(key, wrong, scripts)
        assert {verdict for verdict, _ in outcomes.values()} == {FAILED}


def test_one_that_dies_while_it_is_asked_ahead_is_asked_step_by_step(key):
    scripts = Scripts()
    run(key, RIGHT, scripts)
    launcher = Launcher(deadly="double")

    outcomes, _ = run(key, RIGHT, scripts, launcher)

    assert {verdict for verdict, _ in outcomes.values()} == {PASSED}
    assert launcher.deaths == 1
    assert launcher.launched == 2


def test_scripts_are_those_of_one_seed_and_one_answer_key(key):
    scripts = scripts_of(key, 7)

    assert scripts_of(key, 7) is scripts
    assert scripts_of(key, 8) is not scripts
    assert scripts_of(key, 7) is not scripts


def test_what_would_take_too_much_memory_is_not_remembered():
    scripts = Scripts()

    scripts.learn("test_large", [bytes(MAX_BYTES + 1)], [b"answer"], {})
    scripts.learn("test_small", [b"question"], [b"answer"], {})

    assert scripts.find("test_large").requests == ()
    assert scripts.find("test_other").requests == ()


def test_a_digest_tells_where_an_answer_ends():
    def digest(*answers):
        return digest_of(map(digest_of_one, answers))

    assert digest(b"ab", b"c") != digest(b"a", b"bc")
    assert digest(b"ab", b"") != digest(b"ab")


class Flooding:
    """Says of a thousand more functions after each request that they ran."""

    def __init__(self):
        self.told = 0

    def exchange(self, frames, seconds):
        self.told += 1000
        return [pack({"value": None})] * len(frames) + [pack({"ran": {f"f{self.told + i}": 1 for i in range(1000)}})]

    def refuse(self, error):
        return CandidateDied(str(error))


def test_a_flood_of_names_ends_in_a_refusal():
    session = Session(Flooding())

    with pytest.raises(CandidateDied, match="more functions"):
        for _ in range(MAX_RAN):
            session.ask("state", owner=0)

    assert session.link.told <= MAX_RAN + 1000


def test_an_error_is_described_by_texts_alone():
    error = error_from({"type": [1], "message": [torch.zeros(3)], "bases": [["ValueError"], "x" * 10**6, "OSError"]})

    assert isinstance(error, OSError)
    assert (error.type_name, str(error)) == ("Exception", "")


# --- whole results ---------------------------------------------------------------------------------------------------


class Loud(Counting):
    """Hears what the code says by ``say``, as a pipe would."""

    def exchange(self, frames, seconds):
        builtins.say = self.hear
        return super().exchange(frames, seconds)

    def hear(self, text):
        self.output += text


class LoudLauncher(Launcher):
    def launch(self):
        self.launched += 1
        return Loud(self)


LOUD = "say('loaded ')\ndef double(x, times=1):\n    say('asked ')\n    return x * 2**times + (len(x) == 2)\n"
LOUD_WHEN_LOADED = "say('loaded ')\ndef double(x, times=1):\n    return x * 2**times\n"


@pytest.mark.parametrize("source", [LOUD, LOUD_WHEN_LOADED, RIGHT])
def test_a_result_is_the_same_for_the_first_and_for_the_next(key, source):
    def result(source):
        return replace(
            grade(GradeJob(key.exercise, Submission(source, "tiny.py", "tiny"), 7), LoudLauncher())[0], seconds=0.0
        )

    scripts_of(keep(key.exercise), 0)
    first = result(source)
    scripts_of(keep(key.exercise), 0)
    result(RIGHT)

    assert result(source) == first
    assert ("loaded" in first.output, "asked" in first.output) == ("loaded" in source, "asked" in source)


MISTAKEN_AT_FIRST = "calls = []\ndef double(x):\n    calls.append(1)\n    return x * x if len(calls) == 1 else x * 3\n"
SQUARES = """
    from grader.judge.suite import misconception

    @misconception(replaces="double", caught_by="test_one")
    def squares(x, times=1):
        "You square."
        return x * x
"""
PROBE = """
    def probe(impl):
        return {"double": impl.double(torch.tensor([1.0, 3.0]))}
"""


def test_a_diagnosis_is_the_same_for_the_first_and_for_the_next(make_key):
    key = make_key(SUITE + PROBE, variants=SQUARES)
    job = GradeJob(key.exercise, Submission(MISTAKEN_AT_FIRST, "tiny.py", "tiny"), 7)

    results = [grade(job, LoudLauncher())[0] for _ in range(3)]

    assert [[found.name for found in result.diagnoses] for result in results] == [["squares"]] * 3


def test_what_is_printed_while_loading_alone_costs_no_second_run(key):
    job = GradeJob(key.exercise, Submission(LOUD_WHEN_LOADED, "tiny.py", "tiny"), 7)
    grade(job, LoudLauncher())
    launcher = LoudLauncher()

    grade(job, launcher)

    assert launcher.launched == 2  # one that is asked, and one that loads the file alone
    assert launcher.asked == [1, 1, 2, 5, 2, 2, 1]
