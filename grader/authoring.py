"""What an author does: starts an exercise, writes its stub, has its answer key proved. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from grader.bank import find_bank
from grader.errors import UsageError
from grader.judge.client import Grader
from grader.model import Exercise
from grader.stub import make_stub

if TYPE_CHECKING:
    from grader.judge.candidates import Launcher

_TRACKS = ("positions", "attention", "blocks", "models")


@dataclass(frozen=True)
class ProveJob:
    """Prove one answer key.

    Attributes:
        exercise: Whose.
        seed: From which the inputs of its checks follow.
    """

    seconds: ClassVar[float] = 1800.0  # hundreds of suites run here, on a busy machine for minutes
    exercise: Exercise
    seed: int

    def __call__(self, launcher: Launcher, on_check: Callable[[int], None]) -> Any:
        """Return a sentence for everything that is wrong."""
        from grader.judge.proofs import prove  # noqa: PLC0415 (the command line must not import torch)

        return prove(self.exercise, self.seed)


def stub_path(exercise: Exercise, root: Path) -> Path:
    """Return where the exercise's stub lies below ``root``."""
    return root / "exercises" / exercise.track / f"{exercise.slug}.py"


def repository() -> Path:
    """Return the clone that the answer keys belong to.

    Raises:
        UsageError: If the kit runs from an installed wheel.
    """
    root = find_bank().parent
    if not (root / "pyproject.toml").is_file():
        raise UsageError("Authors work in a clone of the repository; this kit is installed as a package.")
    return root


def sync(exercises: Sequence[Exercise], root: Path) -> list[Path]:
    """Write the stubs that are missing or out of date; return their paths."""
    written = []
    for exercise in exercises:
        stub, path = _fresh_stub(exercise), stub_path(exercise, root)
        if not path.is_file() or path.read_text("utf-8") != stub:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(stub, "utf-8")
            written.append(path)
    return written


def check(
    exercises: Sequence[Exercise], root: Path | None, jobs: int | None = None, seed: int | None = None
) -> Iterator[tuple[Exercise, list[str]]]:
    """Yield each exercise with what is wrong about it, as the proofs are finished.

    Args:
        exercises: Whose answer keys to prove.
        root: The clone whose stubs must be current; ``None`` leaves stubs out.
        jobs: How many to prove at a time.
        seed: The seed of the checks' inputs; by default a new one.
    """
    with Grader(jobs) as grader:
        chosen = grader.seed if seed is None else seed
        for number, wrong in grader.run([ProveJob(exercise, chosen) for exercise in exercises]):
            exercise = exercises[number]
            if root is not None:
                path = stub_path(exercise, root)
                if not path.is_file() or path.read_text("utf-8") != _fresh_stub(exercise):
                    wrong.append(f"Its stub is not current: run `grade dev sync {exercise.slug}`.")
            yield exercise, wrong


def new(track: str, slug: str, bank: Path) -> list[Path]:
    """Write the four files of a new exercise, which pass every proof as they are; return their paths.

    Raises:
        UsageError: If the name is taken or cannot be one.
    """
    if track not in _TRACKS:
        raise UsageError(f"There is no track `{track}`. Take one of {', '.join(_TRACKS)}.")
    if not slug.isidentifier() or slug != slug.lower():
        raise UsageError(f"`{slug}` cannot be a slug: it names Python files, so small letters, digits and _ only.")
    if list(bank.glob(f"*/{slug}")):
        raise UsageError(f"The exercise `{slug}` is there already.")
    folder = bank / track / slug
    folder.mkdir(parents=True)
    written = []
    for template in sorted((Path(__file__).parent / "template").glob("*.txt")):
        path = folder / template.name.removesuffix(".txt").replace("SLUG", slug)
        path.write_text(template.read_text("utf-8").replace("SLUG", slug), "utf-8")
        written.append(path)
    return written


def _fresh_stub(exercise: Exercise) -> str:
    return make_stub((exercise.folder / "solution.py").read_text("utf-8"))
