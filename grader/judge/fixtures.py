"""The fixtures that a suite may ask for; what they give is that of the run at hand."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import pytest
import torch
from torch import Tensor, nn

from grader.judge.answerkey import AnswerKey
from grader.judge.impl import Impl


class Subject(Protocol):
    """Whose code is judged: a candidate's, or a variant's in this process."""

    def begin(self, seed: int) -> Impl:
        """Start a check from a clean slate."""

    def changed(self) -> Sequence[str]:
        """Inputs that were changed in place since the check began.

        Raises:
            CandidateDied: If the process that runs the code has ended since then.
        """

    def has_passed(self, name: str) -> bool:
        """Say whether a check is passed for sure, so that it need not be run."""

    def conclude(self, name: str, *, passed: bool) -> None:
        """Hear what came of a check that was run."""

    def where(self, line: int | None) -> str:
        """Say where a line of the submission is, as ``" (line 12)"``, or nothing."""


@dataclass(frozen=True)
class Run:
    """A suite on its way through somebody's code.

    Attributes:
        key: The exercise's answer key.
        subject: What is judged.
        seed: The run's seed.
    """

    key: AnswerKey
    subject: Subject
    seed: int


def seed_of(seed: int, *words: str) -> int:
    """Return 63 bits that follow from the run's seed and some words, and tell nothing about others."""
    text = ":".join([str(seed), *words])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


class Fixtures:
    """A plugin of pytest.

    Attributes:
        run: The run at hand; what the fixtures give belongs to it.
    """

    run: Run

    @pytest.fixture
    def impl(self, request: pytest.FixtureRequest) -> Impl:
        """Return the learner's file."""
        torch.default_generator.manual_seed(self._seed(request))
        return self.run.subject.begin(self._seed(request, "candidate"))

    @pytest.fixture
    def reference(self) -> ModuleType:
        """Return the solution."""
        return self.run.key.solution

    @pytest.fixture
    def randn(self, request: pytest.FixtureRequest) -> Callable[..., Tensor]:
        """Return ``torch.randn`` with the check's own generator."""
        generator = torch.Generator().manual_seed(self._seed(request, "randn"))

        def draw(*shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

        return draw

    @pytest.fixture
    def randint(self, request: pytest.FixtureRequest) -> Callable[..., Tensor]:
        """Return ``torch.randint`` with the check's own generator."""
        generator = torch.Generator().manual_seed(self._seed(request, "randint"))

        def draw(low: int, high: int, shape: Sequence[int], dtype: torch.dtype = torch.int64) -> Tensor:
            return torch.randint(low, high, tuple(shape), generator=generator, dtype=dtype)

        return draw

    @pytest.fixture
    def rng(self, request: pytest.FixtureRequest) -> random.Random:
        """Return a generator for odd sizes."""
        return random.Random(self._seed(request, "rng"))  # noqa: S311 (inputs, not secrets)

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

    def _seed(self, request: pytest.FixtureRequest, *purpose: str) -> int:
        return seed_of(self.run.seed, *purpose, self.run.key.exercise.slug, request.node.name)


def _weight(name: str, shape: tuple[int, ...], randn: Callable[..., Tensor]) -> Tensor:
    """Draw a weight: matrices that keep the scale, biases that are not 0, gains that are not 1."""
    values: Tensor = randn(*shape) if shape else randn(1).view(())
    if len(shape) > 1:
        return values.mul(shape[-1] ** -0.5)
    return 1.0 + 0.3 * values if name.endswith("weight") else 0.5 * values
