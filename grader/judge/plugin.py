"""Runs a hidden suite with pytest, and turns what happens into one outcome per promised check."""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor, nn

from grader.candidate.wire import Opaque
from grader.judge.answerkey import AnswerKey
from grader.judge.candidates import CandidateDied
from grader.judge.comparing import describe
from grader.judge.proxy import Impl
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


class Subject(Protocol):
    """Whose code is judged: a candidate's, or a variant's in this process."""

    def begin(self, seed: int) -> Impl:
        """Start a check from a clean slate."""

    def changed(self) -> Sequence[str]:
        """Inputs that were changed in place since the check began.

        Raises:
            CandidateDied: If the process that runs the code has ended since then.
        """

    def where(self, line: int | None) -> str:
        """Say where a line of the submission is, as ``" (line 12)"``, or nothing."""


def seed_of(seed: int, *words: str) -> int:
    """Return 63 bits that follow from the run's seed and some words, and tell nothing about others."""
    text = ":".join([str(seed), *words])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


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
    plugin = _Plugin(key, subject, seed, on_check, only)
    if _open_sessions:  # once: what a suite leaves behind in a session would meet the next one
        plugin.run_in(_open_sessions.pop())
    else:
        _run_pytest(key.exercise.folder, plugin)
    return {check.name: plugin.outcome(check) for check in key.exercise.checks}


def in_session(serve: Callable[[], object]) -> None:
    """Call ``serve`` inside of a session of pytest: a process forked there runs its suite without starting one."""
    _run_pytest(Path(), _Host(serve))


_open_sessions: list[pytest.Session] = []  # that this process was forked in, or is serving in


class _Host:
    def __init__(self, serve: Callable[[], object]) -> None:
        self._serve = serve

    def pytest_configure(self, config: pytest.Config) -> None:
        _add_marks(config)

    def pytest_collection(self) -> bool:
        return True

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        _open_sessions.append(session)
        self._serve()
        _open_sessions.clear()
        return True


def _add_marks(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "visible: the learner may run this check alone")
    config.addinivalue_line("markers", "points(n): what the check is worth")


def _run_pytest(folder: Path, plugin: object) -> None:
    before = os.environ.get("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    try:
        pytest.main([*_OPTIONS, "--rootdir", str(folder)], plugins=[plugin])
    finally:
        os.environ.pop("PYTEST_DISABLE_PLUGIN_AUTOLOAD")
        if before is not None:
            os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = before


class _Suite(pytest.Module):
    """A test file that is loaded already."""

    loaded: ModuleType

    def _getobj(self) -> ModuleType:
        return self.loaded


class _Plugin:
    """Fixtures of a suite, and the book of what came of its checks."""

    def __init__(
        self, key: AnswerKey, subject: Subject, seed: int, on_check: Callable[[int], None], only: str | None
    ) -> None:
        self._key = key
        self._suite = key.suite
        self._subject = subject
        self._seed = seed
        self._on_check = on_check
        self._only = only
        self._outcomes: dict[str, list[Outcome]] = {}

    def outcome(self, check: Check) -> Outcome:
        """Return the check's outcome: the first that is not a pass, over its parameters."""
        outcomes = self._outcomes.get(check.name, [])
        bad = [outcome for outcome in outcomes if outcome.verdict is not CheckVerdict.PASSED]
        if bad or not outcomes:
            return bad[0] if bad else Outcome(CheckVerdict.SKIPPED, NOT_RUN)
        return outcomes[0]

    # --- pytest's hooks ----------------------------------------------------------------------------------------------

    def pytest_configure(self, config: pytest.Config) -> None:
        _add_marks(config)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self, session: pytest.Session) -> bool:
        """Take the checks from the suite as it is loaded, instead of looking for files."""
        exercise = self._key.exercise
        module: _Suite = _Suite.from_parent(session, path=exercise.folder / f"test_{exercise.slug}.py")
        module.loaded = self._suite
        items = [item for item in session.genitems(module) if isinstance(item, pytest.Function)]
        session.items = [item for item in items if self._only in (None, item.originalname)]
        return True

    def run_in(self, session: pytest.Session) -> None:
        """Run the suite in a session that was started for another purpose."""
        session.config.pluginmanager.register(self)
        self.pytest_collection(session)
        items = [item for item in session.items if isinstance(item, pytest.Function)]
        with suppress(KeyboardInterrupt, pytest.exit.Exception):  # the checks that are left have not run
            for item, following in itertools.zip_longest(items, items[1:]):
                self.pytest_runtest_protocol(item, following)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Function, nextitem: pytest.Item | None) -> bool:
        """Run one check and write down the outcome; pytest's own reports would take longer than the check."""
        hook = item.ihook
        error = _error_of(lambda: hook.pytest_runtest_setup(item=item))
        if error is None:
            error = _error_of(lambda: hook.pytest_runtest_call(item=item))
        late = _error_of(lambda: hook.pytest_runtest_teardown(item=item, nextitem=nextitem))
        error = late if error is None else error
        skipped = isinstance(error, pytest.skip.Exception) or any(item.iter_markers("xfail"))
        self._outcomes.setdefault(item.originalname, []).append(self._judge(error, skipped))
        self._on_check(len(self._outcomes))
        return True

    def _judge(self, error: BaseException | None, skipped: bool) -> Outcome:
        """Decide: what the engine saw comes before what the suite concluded."""
        try:
            changed = self._subject.changed()
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
        return Outcome(CheckVerdict.FAILED, self._message(error), _is_unwritten(error))

    def _message(self, error: BaseException) -> str:
        if isinstance(error, CandidateError):
            called = f"`{error.call}`" if error.call and error.call != "__call__" else "Your code"
            if error.call == "__call__":
                called = "Calling your module"
            if _is_unwritten(error):
                return f"{called} is not written yet{self._subject.where(error.line)}."
            if error.type_name == "WireError":
                return f"{called} returned something that cannot be judged: {error}."
            text = f": {error}" if str(error) else ""
            return f"{called} raised {error.type_name}{text}{self._subject.where(error.line)}"
        if isinstance(error, CheckFailure):
            return clean(str(error))
        if isinstance(error, AssertionError):
            return clean(str(error)) or "What came back is not what was asked for."
        if isinstance(error, AttributeError) and isinstance(error.obj, Opaque):
            came = clean(describe(error.obj))
            return f"What came back could not be used: {came}. Should it be a tensor, or a module?"
        return f"What came back could not be used ({type(error).__name__}: {clean(str(error), 200)})."

    # --- fixtures ----------------------------------------------------------------------------------------------------

    @pytest.fixture
    def impl(self, request: pytest.FixtureRequest) -> Impl:
        """Return the learner's file."""
        torch.default_generator.manual_seed(seed_of(self._seed, self._key.exercise.slug, request.node.name))
        return self._subject.begin(seed_of(self._seed, "candidate", self._key.exercise.slug, request.node.name))

    @pytest.fixture
    def reference(self) -> ModuleType:
        """Return the solution."""
        return self._key.solution

    @pytest.fixture
    def randn(self, request: pytest.FixtureRequest) -> Callable[..., Tensor]:
        """Return ``torch.randn`` with the check's own generator."""
        generator = self._generator(request, "randn")

        def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        return draw

    @pytest.fixture
    def randint(self, request: pytest.FixtureRequest) -> Callable[..., Tensor]:
        """Return ``torch.randint`` with the check's own generator."""
        generator = self._generator(request, "randint")

        def draw(low: int, high: int, shape: Sequence[int], dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.randint(low, high, tuple(shape), generator=generator, dtype=dtype)

        return draw

    @pytest.fixture
    def rng(self, request: pytest.FixtureRequest) -> random.Random:
        """Return a generator for odd sizes."""
        seed = seed_of(self._seed, "rng", self._key.exercise.slug, request.node.name)
        return random.Random(seed)  # noqa: S311 (inputs, not secrets)

    @pytest.fixture
    def twins(self, impl: Impl, reference: ModuleType, randn: Callable[..., Tensor]) -> Callable[..., Any]:
        """Return a maker of pairs: the learner's module and the reference in float64, with the same random weights."""

        def make(name: str, *args: Any, **kwargs: Any) -> tuple[Any, nn.Module]:
            ref: nn.Module = getattr(reference, name)(*args, **kwargs)
            weights = {n: _weight(n, tuple(p.shape), randn) for n, p in ref.named_parameters()}
            ref.load_state_dict(weights, strict=False)
            mine = getattr(impl, name)(*args, **kwargs)
            mine.load_state_dict(dict(ref.state_dict()), strict=True)
            return mine.eval(), ref.double().eval()

        return make

    def _generator(self, request: pytest.FixtureRequest, purpose: str) -> torch.Generator:
        seed = seed_of(self._seed, purpose, self._key.exercise.slug, request.node.name)
        return torch.Generator().manual_seed(seed)


def _error_of(step: Callable[[], object]) -> BaseException | None:
    try:
        step()
    except (KeyboardInterrupt, pytest.exit.Exception):
        raise
    except BaseException as error:  # a skip is no Exception, and SystemExit is a mistake like any other
        return error
    return None


def _weight(name: str, shape: tuple[int, ...], randn: Callable[..., Tensor]) -> Tensor:
    """Draw a weight: matrices that keep the scale, biases that are not 0, gains that are not 1."""
    values: Tensor = randn(*shape) if shape else randn(1).view(())
    if len(shape) > 1:
        return values.mul(shape[-1] ** -0.5)
    return 1.0 + 0.3 * values if name.endswith("weight") else 0.5 * values


def _is_unwritten(error: BaseException) -> bool:
    return isinstance(error, CandidateError) and isinstance(error, NotImplementedError) and not str(error)
