"""What ``grade dev check`` proves of an answer key, by running its suite on what should pass and on what must not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from grader.candidate.host import Host
from grader.judge.answerkey import AnswerKey
from grader.judge.diagnose import observe, same
from grader.judge.impl import Impl
from grader.judge.impostors import KINDS, Impostor
from grader.judge.plugin import Outcome, in_session, run_suite
from grader.judge.session import LocalLink, Session
from grader.model import CheckVerdict, Exercise
from grader.stub import make_stub

Failures = Iterator[str]


class LocalSubject:
    """An author's code in this very process, reached through the same frames as a candidate's.

    Args:
        namespace: What stands in for the learner's file.
        on_begin: Called when a check begins.
    """

    def __init__(self, namespace: ModuleType, on_begin: Callable[[], None] = lambda: None) -> None:
        self._session = Session(LocalLink(Host(namespace, str(namespace.__file__))))
        self._on_begin = on_begin

    def begin(self, seed: int) -> Impl:
        """Start a check."""
        self._on_begin()
        return Impl(self._session, self._session.begin(seed))

    def changed(self) -> Sequence[str]:
        """Inputs that were changed in place since the check began."""
        return self._session.changed

    def has_passed(self, name: str) -> bool:
        """Run every check."""
        return False

    def conclude(self, name: str, *, passed: bool) -> None:
        """Remember nothing."""

    def where(self, line: int | None) -> str:
        """Say where a line is."""
        return f" (line {line})" if line else ""


def prove(exercise: Exercise, seed: int) -> list[str]:
    """Return a sentence for everything that is wrong with an answer key; none if it is right."""
    found: list[str] = []
    in_session(lambda: found.extend(_all_failures(AnswerKey(exercise), seed)))
    return found


def _all_failures(key: AnswerKey, seed: int) -> list[str]:
    return [
        *_right_ones_pass(key, seed),
        *_wrong_ones_fail(key, seed),
        *_nothing_passes_for_nothing(key, seed),
        *_checks_catch_something(key),
        *_misconceptions_differ(key),
        *_visible_checks_stand_alone(key),
    ]


def _run(key: AnswerKey, namespace: ModuleType, seed: int) -> Mapping[str, Outcome]:
    return run_suite(key, LocalSubject(namespace), seed)


def _failed(outcomes: Mapping[str, Outcome]) -> dict[str, Outcome]:
    return {name: outcome for name, outcome in outcomes.items() if outcome.verdict is not CheckVerdict.PASSED}


def _right_ones_pass(key: AnswerKey, seed: int) -> Failures:
    right = {"the solution": key.build([])}
    right |= {f"the alternative `{v.name}`": key.build([v.name]) for v in key.variants if v.kind == "alternative"}
    for name, namespace in right.items():
        for check, outcome in _failed(_run(key, namespace, seed)).items():
            yield f"{name} fails {check}: {outcome.message}"


def _wrong_ones_fail(key: AnswerKey, seed: int) -> Failures:
    names = {check.name for check in key.exercise.checks}
    for variant in key.variants:
        if variant.kind == "alternative":
            continue
        if variant.caught_by not in names:
            yield f"`{variant.name}` names the check {variant.caught_by}, which the suite has not."
            continue
        subject = LocalSubject(key.build([variant.name]))
        outcome = run_suite(key, subject, seed, only=variant.caught_by)[variant.caught_by]
        if outcome.verdict is CheckVerdict.PASSED:
            yield f"{variant.caught_by} lets the {variant.kind} `{variant.name}` pass."
        if variant.kind == "misconception" and not variant.message:
            yield f"The misconception `{variant.name}` has no docstring, so the learner would read nothing."


def _nothing_passes_for_nothing(key: AnswerKey, seed: int) -> Failures:
    """The stub passes no check, and no impostor passes a check in which it lied."""
    stub = ModuleType("stub")
    stub.__file__ = "stub"
    source = make_stub((key.exercise.folder / "solution.py").read_text("utf-8"))
    exec(compile(source, "stub", "exec", dont_inherit=True), stub.__dict__)  # noqa: S102 (the author's own file)
    names = [check.name for check in key.exercise.checks]
    yield from (f"The stub passes {name}." for name in names if name not in _failed(_run(key, stub, seed)))
    for kind in KINDS:
        impostor = Impostor(key.build([]), key.exercise.names, kind)
        if kind == "stale":  # let it see each shape once, with other numbers
            _run(key, impostor.namespace, seed + 1)
        book = _Book(impostor)
        failed = _failed(run_suite(key, LocalSubject(impostor.namespace, book.turn), seed, book.done))
        yield from (
            f"{name} lets the impostor `{kind}` pass." for name in names if name in book.lied(names) - failed.keys()
        )


class _Book:
    """Notes in which checks an impostor lied."""

    def __init__(self, impostor: Impostor) -> None:
        self._impostor = impostor
        self._lies: list[bool] = []

    def turn(self) -> None:
        self._impostor.lied = False

    def done(self, count: int) -> None:
        self._lies += [False] * (count - len(self._lies))
        self._lies[count - 1] |= self._impostor.lied

    def lied(self, names: Sequence[str]) -> set[str]:
        return {name for name, lie in zip(names, self._lies, strict=False) if lie}


def _checks_catch_something(key: AnswerKey) -> Failures:
    caught = {v.caught_by for v in key.variants if v.kind != "alternative"}
    for check in key.exercise.checks:
        if check.name not in caught:
            yield f"{check.name} is named by no misconception and no slip: nothing shows that it can fail."


def _misconceptions_differ(key: AnswerKey) -> Failures:
    seen: dict[str, Any] = {"the solution": observe(key, key.build([]))}
    for variant in key.variants:
        if variant.kind == "misconception":
            seen[f"`{variant.name}`"] = observe(key, key.build([variant.name]))
    for (a, first), (b, second) in itertools.combinations(seen.items(), 2):
        if same(first, second):
            yield f"The probe cannot tell {a} from {b}."
    for variant in key.variants:
        if variant.kind == "alternative" and not same(observe(key, key.build([variant.name])), seen["the solution"]):
            yield f"The probe takes the alternative `{variant.name}` for something else than the solution."


def _visible_checks_stand_alone(key: AnswerKey) -> Failures:
    for check in key.exercise.checks:
        code = getattr(key.suite, check.name).__code__
        used = {"reference", "twins"} & set(code.co_varnames[: code.co_argcount])
        if check.visible and used:
            yield f"{check.name} is visible, so it cannot use {', '.join(sorted(used))}."
