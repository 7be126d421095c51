"""Runs a hidden suite with pytest, and turns what happens into one outcome per promised check."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from types import ModuleType
from weakref import WeakKeyDictionary

import pytest

from grader.candidate.wire import Opaque
from grader.judge.answerkey import AnswerKey
from grader.judge.candidates import CandidateDied
from grader.judge.comparing import describe
from grader.judge.fixtures import Fixtures, Run, Subject
from grader.judge.session import CandidateError, clean
from grader.judge.suite import CheckFailure
from grader.model import Check, CheckVerdict

_UNUSED = (  # parts of pytest that print, write files or take time (the last two end in several garbage collections)
    "terminal cacheprovider capture logging doctest junitxml faulthandler tmpdir warnings debugging pastebin setuponly "
    "setupplan stepwise subtests tracemalloc unittest legacypath unraisableexception threadexception"
)
_OPTIONS = [f"-pno:{part}" for part in _UNUSED.split()] + ["--assert=plain", "--noconftest", "-c", os.devnull]
NOT_RUN = "This check did not run."


@dataclass(frozen=True)
class Outcome:
    """How one check ended, before points are given.

    Attributes:
        unwritten: It failed because a stub's ``NotImplementedError`` is still there.
    """

    verdict: CheckVerdict
    message: str = ""
    unwritten: bool = False


def run_suite(
    key: AnswerKey,
    subject: Subject,
    seed: int,
    on_check: Callable[[int], None] = lambda done: None,
    only: str | None = None,
) -> dict[str, Outcome]:
    """Run every check of the suite on ``subject``.

    Args:
        key: The exercise's answer key.
        subject: What is judged.
        seed: The run's seed.
        on_check: Told how many checks are done.
        only: Name of the one check to run.

    Returns:
        Name of the check → outcome, for every check that the bank promised; one that did not run is ``skipped``.
    """
    outcomes: dict[str, list[Outcome]] = {}

    def run() -> None:
        _open_sessions[-1].run(Run(key, subject, seed), outcomes, on_check, only)

    _ = key.suite  # now: an answer key that cannot be loaded is no matter of pytest's
    run() if _open_sessions else in_session(run)
    return {check.name: _worst(outcomes.get(check.name, []), check) for check in key.exercise.checks}


def in_session(work: Callable[[], object]) -> None:
    """Call ``work`` inside of a session of pytest: all suites that are run meanwhile share it, and start none.

    A suite's checks are taken from its file once, and run as often as they are asked for.
    """
    before = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    fixtures = Fixtures()
    session = _Session(work, fixtures)
    try:
        pytest.main([*_OPTIONS, "--rootdir", str(Path())], plugins=[fixtures, session])
    finally:
        os.environ.pop("PYTEST_DISABLE_PLUGIN_AUTOLOAD", None)
        if before is not None:
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = before
    if session.error is not None:
        raise session.error


def _worst(outcomes: list[Outcome], check: Check) -> Outcome:
    """Return the first outcome that is not a pass, over a check's parameters."""
    bad = [outcome for outcome in outcomes if outcome.verdict is not CheckVerdict.PASSED]
    if bad or not outcomes:
        return bad[0] if bad else Outcome(CheckVerdict.SKIPPED, NOT_RUN)
    return outcomes[0]


class _Suite(pytest.Module):
    """A test file that is loaded already."""

    loaded: ModuleType

    def _getobj(self) -> ModuleType:
        return self.loaded


class _Session:
    """A plugin of pytest that runs suites for as long as somebody wants it to."""

    session: pytest.Session
    error: BaseException | None = None

    def __init__(self, work: Callable[[], object], fixtures: Fixtures) -> None:
        self._work = work
        self._fixtures = fixtures
        self._items: WeakKeyDictionary[AnswerKey, list[pytest.Function]] = WeakKeyDictionary()

    # --- pytest's hooks ----------------------------------------------------------------------------------------------

    def pytest_configure(self, config: pytest.Config) -> None:
        config.addinivalue_line("markers", "visible: the learner may run this check alone")
        config.addinivalue_line("markers", "points(n): what the check is worth")

    def pytest_collection(self) -> bool:
        """Look for no files: suites come when they are to be run."""
        return True

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        self.session = session
        _open_sessions.append(self)
        try:
            self._work()
        except BaseException as error:  # pytest would say it in its own way
            self.error = error
        finally:
            _open_sessions.remove(self)
        return True

    # --- one suite ---------------------------------------------------------------------------------------------------

    def run(
        self, run: Run, outcomes: dict[str, list[Outcome]], on_check: Callable[[int], None], only: str | None
    ) -> None:
        """Run the checks and write down the outcomes; pytest's own reports would take longer than the checks."""
        self._fixtures.run = run
        items = [item for item in self._checks(run.key) if only in (None, item.originalname)]
        try:
            for item, following in zip_longest(items, items[1:]):
                outcomes.setdefault(item.originalname, []).append(_outcome(item, following, run.subject))
                on_check(len(outcomes))
        except (KeyboardInterrupt, pytest.exit.Exception):  # the checks that are left have not run
            self._items.pop(run.key)
        finally:  # the last check may not have been run
            with suppress(Exception):
                self.session._setupstate.teardown_exact(None)

    def _checks(self, key: AnswerKey) -> list[pytest.Function]:
        if key not in self._items:
            exercise = key.exercise
            module: _Suite = _Suite.from_parent(self.session, path=exercise.folder / f"test_{exercise.slug}.py")
            module.loaded = key.suite
            self._items[key] = [i for i in self.session.genitems(module) if isinstance(i, pytest.Function)]
        return self._items[key]


_open_sessions: list[_Session] = []  # that this process is at work in


def _outcome(item: pytest.Function, following: pytest.Function | None, subject: Subject) -> Outcome:
    if subject.has_passed(item.name):
        return Outcome(CheckVerdict.PASSED)
    error, skipped = _run_check(item, following)
    outcome = _judge(error, skipped, subject)
    subject.conclude(item.name, passed=outcome.verdict is CheckVerdict.PASSED)
    return outcome


def _run_check(item: pytest.Function, following: pytest.Function | None) -> tuple[BaseException | None, bool]:
    """Run one check; return what it raised, and whether it was skipped."""
    item._initrequest()  # nothing of its last run is left
    hook = item.ihook
    error = _error_of(lambda: hook.pytest_runtest_setup(item=item))
    if error is None:
        error = _error_of(lambda: hook.pytest_runtest_call(item=item))
    late = _error_of(lambda: hook.pytest_runtest_teardown(item=item, nextitem=following))
    error = late if error is None else error
    return error, isinstance(error, pytest.skip.Exception) or any(item.iter_markers("xfail"))


def _error_of(step: Callable[[], object]) -> BaseException | None:
    try:
        step()
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as error:  # a skip is no Exception, and SystemExit is a mistake like any other
        return error
    return None


# --- outcomes --------------------------------------------------------------------------------------------------------


def _judge(error: BaseException | None, skipped: bool, subject: Subject) -> Outcome:
    """Decide: what the engine saw comes before what the suite concluded."""
    changed: tuple[str, ...] = ()
    try:
        changed = tuple(subject.changed())
    except CandidateDied as death:
        error = error if isinstance(error, CandidateDied) else death  # the suite may have caught it
    if isinstance(error, CandidateDied):
        verdict = CheckVerdict.TIMEOUT if error.timed_out else CheckVerdict.CRASHED
        return Outcome(CheckVerdict.SKIPPED if error.not_run else verdict, str(error))
    if changed:
        return Outcome(CheckVerdict.FAILED, f"{changed[0]}. Inputs must stay as they are: make a new tensor.")
    if skipped:
        return Outcome(CheckVerdict.SKIPPED, NOT_RUN)
    if error is None:
        return Outcome(CheckVerdict.PASSED)
    return Outcome(CheckVerdict.FAILED, _message(error, subject), _is_unwritten(error))


def _message(error: BaseException, subject: Subject) -> str:
    if isinstance(error, CandidateError):
        called = f"`{error.call}`" if error.call and error.call != "__call__" else "Your code"
        if error.call == "__call__":
            called = "Calling your module"
        if _is_unwritten(error):
            return f"{called} is not written yet{subject.where(error.line)}."
        if error.type_name == "WireError":
            return f"{called} returned something that cannot be judged: {error}."
        text = f": {error}" if str(error) else ""
        return f"{called} raised {error.type_name}{text}{subject.where(error.line)}"
    if isinstance(error, CheckFailure):
        return clean(str(error))
    if isinstance(error, AssertionError):
        return clean(str(error)) or "What came back is not what was asked for."
    if isinstance(error, AttributeError) and isinstance(error.obj, Opaque):
        came = clean(describe(error.obj))
        return f"What came back could not be used: {came}. Should it be a tensor, or a module?"
    return f"What came back could not be used ({type(error).__name__}: {clean(str(error), 200)})."


def _is_unwritten(error: BaseException) -> bool:
    return isinstance(error, CandidateError) and isinstance(error, NotImplementedError) and not str(error)
