"""Loads an answer key's code: the solution, its suite, and copies of the solution with other parts put in."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from grader.errors import AnswerKeyError
from grader.judge.suite import Variant
from grader.model import Exercise

_copies = itertools.count()
_kept: dict[Path, tuple[object, AnswerKey]] = {}  # folder → state of its files, and the key that was loaded from it


class AnswerKey:
    """The code of one exercise's folder; read where it lies, run in this process.

    Args:
        exercise: The exercise whose folder is loaded, on first use of each part.

    Attributes:
        observed: What the probe saw of the solution with some variants put in, by their names.
    """

    def __init__(self, exercise: Exercise) -> None:
        self.exercise = exercise
        self.observed: dict[tuple[str, ...], Mapping[str, Any]] = {}
        self._codes: dict[str, CodeType | None] = {}
        self._package = self._new_package()

    @cached_property
    def solution(self) -> ModuleType:
        """The solution."""
        return self._load(self._package, "solution")

    @cached_property
    def suite(self) -> ModuleType:
        """The suite, with ``probe`` and perhaps ``picture``."""
        return self._load(self._package, f"test_{self.exercise.slug}")

    @cached_property
    def variants(self) -> tuple[Variant, ...]:
        """All variants, in the order of the file."""
        _ = self.solution  # variants import it
        found = vars(self._load(self._package, "variants")).values()
        return tuple(v for v in (vars(value).get("__variant__") for value in found if hasattr(value, "__dict__")) if v)

    def variant(self, name: str) -> Variant:
        """Return the variant called ``name``.

        Raises:
            AnswerKeyError: If there is none.
        """
        for variant in self.variants:
            if variant.name == name:
                return variant
        raise AnswerKeyError(f"{self.exercise.slug}/variants.py has no variant `{name}`.")

    def build(self, names: Sequence[str]) -> ModuleType:
        """Return a fresh copy of the solution in which the named variants stand in for what they replace.

        Each variant is loaded anew beside the copy, so that it sees the other ones' parts and the solution's rest. Two
        classes that replace the same one are joined by inheritance.
        """
        package = self._new_package()
        copy = self._load(package, "solution")
        parts: dict[str, list[str]] = {}
        for name in names:
            parts.setdefault(self.variant(name).replaces, []).append(name)
        for part, chosen in parts.items():
            if not hasattr(copy, part):
                raise AnswerKeyError(
                    f"{self.exercise.slug}: `{chosen[0]}` replaces `{part}`, which the solution has not."
                )
            beside = self._load(package, "variants")
            values = [getattr(beside, name) for name in chosen]
            setattr(copy, part, values[0] if len(values) == 1 else type(part, tuple(values), {}))
            for other in parts.keys() - {part}:
                if hasattr(beside, other):
                    setattr(beside, other, getattr(self._load(package, "variants"), parts[other][0]))
        return copy

    def combine(self, a: Variant, b: Variant) -> bool:
        """Say whether ``build`` can put both in: they replace different parts, or change different methods of one."""
        if a.replaces != b.replaces:
            return True
        if not (isinstance(a.value, type) and isinstance(b.value, type)):
            return False
        return not {n for n in vars(a.value) if not n.startswith("__")} & vars(b.value).keys()

    def _new_package(self) -> str:
        """Register an empty package over the folder, so that ``from .solution import …`` works in it."""
        name = f"answerkey_{next(_copies)}_{self.exercise.slug}"
        package = ModuleType(name)
        package.__path__ = [str(self.exercise.folder)]
        sys.modules[name] = package
        return name

    def _load(self, package: str, part: str) -> ModuleType:
        """Run a file of the folder as a new module of ``package``; it is read and compiled only once."""
        name = f"{package}.{part}"
        path = str(self.exercise.folder / f"{part}.py")
        try:
            if part not in self._codes:
                self._codes[part] = SourceFileLoader(part, path).get_code(part)
            module = ModuleType(name)
            module.__file__ = path
            module.__package__ = package
            sys.modules[name] = module
            exec(self._codes[part] or "", module.__dict__)  # noqa: S102 (an answer key is ours)
        except Exception as error:
            where = f"{self.exercise.folder.name}/{part}.py"
            raise AnswerKeyError(f"{where} cannot be loaded: {type(error).__name__}: {error}") from error
        return module


def keep(exercise: Exercise) -> AnswerKey:
    """Return the exercise's answer key, loaded only once as long as its files stay as they are."""
    state = _state(exercise)
    if _kept.get(exercise.folder, (None, None))[0] != state:
        _kept[exercise.folder] = state, AnswerKey(exercise)
    return _kept[exercise.folder][1]


def _state(exercise: Exercise) -> object:
    files = sorted(exercise.folder.glob("*.py"))
    return exercise, *((file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files)
