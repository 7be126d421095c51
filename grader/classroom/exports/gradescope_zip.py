"""The autograder zip for Gradescope: setup, run script, the kit, and the answer keys that the assignment needs."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from io import BytesIO
from pathlib import Path

import grader
from grader.bank import find_exercise
from grader.classroom.html import render
from grader.model import Exercise
from grader.report.json import write_json

_EPOCH = (1980, 1, 1, 0, 0, 0)  # of every entry, so that the same kit makes the same file
_LEFT_OUT = {"solutions", "samples", "template", "__pycache__"}  # keys come by themselves; the rest only authors need
_NEEDED = ("numpy", "pytest", "nbformat", "rich", "click", "jinja2")
_SCRIPTS = {"setup.sh": "gradescope_setup.sh", "run_autograder": "gradescope_run.sh", "README.md": "gradescope.md"}


def autograder_zip(
    slugs: Sequence[str], exercises: Sequence[Exercise], *, feedback: str = "full", weak: bool = False
) -> bytes:
    """Return the zip file to upload as the assignment's autograder.

    Args:
        slugs: The exercises of the assignment.
        exercises: The whole bank.
        feedback: What students read, ``full``, ``titles`` or ``score``.
        weak: Whether to grade also where the sandbox is below ``full``.

    Raises:
        UsageError: If there is no such exercise.
    """
    chosen = [find_exercise(slug, exercises) for slug in dict.fromkeys(slugs)]
    config = {"slugs": [one.slug for one in chosen], "feedback": feedback, "allow_weak_sandbox": weak}
    facts = {"exercises": chosen, "kit": grader.__version__, "torch": _pinned("torch"), "pins": _pins(), **config}
    buffer = BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, template in _SCRIPTS.items():
            _add(archive, name, render(template, **facts).encode(), runs=not name.endswith(".md"))
        _add(archive, "config.json", write_json(config).encode())
        for name, path in _kit():
            _add(archive, f"kit/grader/{name}", path.read_bytes())
        for one in _with_required(chosen, exercises):
            for path in sorted(one.folder.iterdir()):
                if path.suffix in {".py", ".toml"}:
                    _add(archive, f"kit/grader/solutions/{one.track}/{one.slug}/{path.name}", path.read_bytes())
    return buffer.getvalue()


def _with_required(chosen: Sequence[Exercise], exercises: Sequence[Exercise]) -> list[Exercise]:
    """Return the exercises and all that they require, without which no bank can be read, in the bank's order."""
    wanted = {one.slug for one in chosen}
    for one in reversed(exercises):  # none comes before what it requires
        if one.slug in wanted:
            wanted |= set(one.requires)
    return [one for one in exercises if one.slug in wanted]


def _kit() -> Iterator[tuple[str, Path]]:
    root = Path(grader.__file__).parent
    for path in sorted(root.rglob("*")):
        place = path.relative_to(root)
        if path.is_file() and not _LEFT_OUT & set(place.parts) and path.suffix != ".pyc":
            yield place.as_posix(), path


def _pins() -> list[str]:
    return [f"{name}=={_pinned(name)}" for name in _NEEDED]


def _pinned(name: str) -> str:
    """Return the version that is installed here, so that Gradescope grades as this machine does."""
    return version(name).partition("+")[0]  # "2.13.0+cpu" is called 2.13.0 there


def _add(archive: zipfile.ZipFile, name: str, data: bytes, *, runs: bool = False) -> None:
    entry = zipfile.ZipInfo(name, _EPOCH)
    entry.compress_type = zipfile.ZIP_DEFLATED
    entry.external_attr = (0o100755 if runs else 0o100644) << 16
    archive.writestr(entry, data)
