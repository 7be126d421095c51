"""Names the mistake: compares how the learner's code behaves with how each misconception does."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from grader.judge.answerkey import AnswerKey
from grader.judge.suite import Variant
from grader.model import Diagnosis

MAX_PAIRS = 40  # tried once no single misconception fits; a count, so that two runs with one seed agree
_SEED = 20_170_612  # the probe's inputs are the same for all, so any fixed number will do


def observe(key: AnswerKey, impl: Any) -> Mapping[str, Any]:
    """Return what the suite's probe sees of ``impl``."""
    torch.default_generator.manual_seed(_SEED)
    seen: Mapping[str, Any] = key.suite.probe(impl)
    return seen


def _observed(key: AnswerKey, names: tuple[str, ...]) -> Mapping[str, Any]:
    """Return what the probe sees of the solution with some variants put in; the same each time, so looked at once."""
    if names not in key.observed:
        key.observed[names] = observe(key, key.build(names) if names else key.solution)
    return key.observed[names]


def diagnose(key: AnswerKey, impl: Any) -> tuple[Diagnosis, ...]:
    """Return the misconceptions whose behaviour the learner's code shares: one, or a pair, or none.

    One that explains everything comes first, then a pair that does, then the one that explains most of what it would
    cause, beside other mistakes.

    Args:
        key: The exercise's answer key.
        impl: The learner's code, at the start of a fresh check.
    """
    try:
        mine = observe(key, impl)
    except Exception:  # a probe may look at an answer of a kind that nobody thought of
        return ()
    right = _observed(key, ())
    if same(mine, right):
        return ()
    wrong = {variant.name: variant for variant in key.variants if variant.kind == "misconception"}
    seen = {name: _observed(key, (name,)) for name in wrong}
    names = [name for name in wrong if same(mine, seen[name])][:1]
    if not names:
        pairs = _pairs(key, list(wrong.values()), mine, right, seen)
        names = next(([a, b] for a, b in pairs if same(mine, _observed(key, (a, b)))), [])
    names = names or _closest(mine, right, seen)
    return tuple(Diagnosis(name, wrong[name].message) for name in names)


def _closest(mine: Mapping[str, Any], right: Mapping[str, Any], seen: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the one misconception that explains most answers, if it explains at least half of what it would change.

    Only answers with numbers in them count: that two codes raise the same error, or save the same names, is no proof.
    """
    explained: dict[str, int] = {}
    for name, theirs in seen.items():
        symptoms = [part for part in right if part in theirs and not same(theirs[part], right[part])]
        shared = [p for p in symptoms if p in mine and _has_numbers(mine[p]) and same(mine[p], theirs[p])]
        if 2 * len(shared) >= len(symptoms) > 0:
            explained[name] = len(shared)
    most = max(explained.values(), default=0)
    best = [name for name, count in explained.items() if count == most]
    return best if len(best) == 1 else []


def _has_numbers(value: object) -> bool:
    if isinstance(value, (list, tuple)):
        return any(map(_has_numbers, value))
    if not isinstance(value, Tensor) or value.device.type == "meta":
        return False
    return value.numel() > 1 and bool(value.isfinite().any())


def _symptoms(seen: Mapping[str, Any], right: Mapping[str, Any]) -> set[str]:
    """Return the parts of an observation that are not right."""
    return {part for part in right if part not in seen or not same(seen[part], right[part])}


def _pairs(
    key: AnswerKey,
    variants: Sequence[Variant],
    mine: Mapping[str, Any],
    right: Mapping[str, Any],
    seen: Mapping[str, Mapping[str, Any]],
) -> list[tuple[str, str]]:
    """Return pairs of misconceptions that can be held together and miss no symptom in ``mine``, the likeliest first.

    Those are the pairs that cause all symptoms between them, each of those that only one of the two causes looking as
    it does with that one alone.
    """
    mines = _symptoms(mine, right)
    symptoms = {variant.name: _symptoms(seen[variant.name], right) for variant in variants}
    fitting = [variant for variant in variants if symptoms[variant.name] <= mines]
    pairs = [(a.name, b.name) for a, b in itertools.combinations(fitting, 2) if key.combine(a, b)]

    def doubts(pair: tuple[str, str]) -> int:
        a, b = (symptoms[name] for name in pair)
        alone = [(part, pair[0]) for part in a - b] + [(part, pair[1]) for part in b - a]
        alike = all(same(mine.get(part), seen[name].get(part)) for part, name in alone)
        return (not alike) + (a | b != mines)

    return sorted(pairs, key=doubts)[:MAX_PAIRS]


def same(mine: object, other: object) -> bool:
    """Say whether two observations agree: same structure, shapes and dtypes, numbers alike up to rounding."""
    if isinstance(mine, Tensor) and isinstance(other, Tensor):
        return _same_tensor(mine.detach(), other.detach())
    if isinstance(mine, Mapping) and isinstance(other, Mapping):
        return mine.keys() == other.keys() and all(same(mine[name], other[name]) for name in mine)
    if isinstance(mine, (list, tuple)) and isinstance(other, (list, tuple)):
        return len(mine) == len(other) and all(map(same, mine, other))
    if isinstance(mine, float) and isinstance(other, float):
        return mine == other or abs(mine - other) <= 1e-4 * max(1.0, abs(other))
    return type(mine) is type(other) and mine == other


def _same_tensor(mine: Tensor, other: Tensor) -> bool:
    if mine.shape != other.shape or mine.dtype != other.dtype or mine.device != other.device:
        return False
    if mine.device.type == "meta":
        return True
    if not (mine.is_floating_point() or mine.is_complex()):
        return torch.equal(mine, other)
    tolerance = 2e-2 if mine.dtype in (torch.bfloat16, torch.float16) else 1e-4
    return torch.allclose(mine, other, rtol=tolerance, atol=tolerance, equal_nan=True)
