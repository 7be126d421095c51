"""The learner's folder: ``exercises/<track>/<slug>.py``, and what was graded last in ``.grade/state.json``."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from grader.errors import KitError, UsageError
from grader.model import Exercise, Verdict
from grader.stub import is_untouched, make_stub
from grader.submission import MAX_SOURCE, read_bytes

_MAX_STATE = 1 << 20  # bytes


class Status(StrEnum):
    """How far the learner's file has come."""

    MISSING = "missing"
    UNTOUCHED = "untouched"
    EDITED = "edited"


@dataclass(frozen=True)
class Graded:
    """What came of the last grading of one file.

    Attributes:
        digest: Of the file's bytes at that time, see ``Workspace.digest_of``.
        verdict: What they earned.
    """

    digest: str
    verdict: Verdict


@dataclass(frozen=True)
class Workspace:
    """A folder in which a learner works.

    Attributes:
        root: The folder that holds ``exercises/``.
    """

    root: Path

    @classmethod
    def find(cls, cwd: Path) -> Workspace:
        """Return the workspace around ``cwd``: the nearest folder upward with ``exercises/``, else ``cwd`` itself."""
        cwd = cwd.absolute()
        return cls(next((folder for folder in (cwd, *cwd.parents) if (folder / "exercises").is_dir()), cwd))

    def stub_path(self, exercise: Exercise) -> Path:
        """Return where the learner's file for ``exercise`` lies."""
        return self.root / "exercises" / exercise.track / f"{exercise.slug}.py"

    def init(self, exercises: Iterable[Exercise]) -> list[tuple[Path, bool]]:
        """Write the stubs that are missing; whatever is there already is kept.

        Returns:
            For each exercise its file, and whether it was written now.

        Raises:
            UsageError: If the folder cannot be written.
        """
        return [
            (path, _create(path, stub_of(exercise))) for exercise in exercises for path in [self.stub_path(exercise)]
        ]

    def status(self, exercise: Exercise) -> Status:
        """Return whether the learner has begun; a file that cannot be read counts as edited: grading says why."""
        try:
            source = read_bytes(self.stub_path(exercise), MAX_SOURCE).decode("utf-8-sig")
        except UsageError:
            return Status.MISSING
        except (KitError, UnicodeDecodeError):
            return Status.EDITED
        return Status.UNTOUCHED if is_untouched(source, stub_of(exercise)) else Status.EDITED

    def changed_since_last(self, exercises: Iterable[Exercise]) -> tuple[Exercise, ...]:
        """Return those whose file the learner has edited since it was last graded."""
        last = {slug: graded.digest for slug, graded in self.last().items()}
        edited = [exercise for exercise in exercises if self.status(exercise) is Status.EDITED]
        return tuple(one for one in edited if not last.get(one.slug) or last[one.slug] != self.digest_of(one))

    def last(self) -> dict[str, Graded]:
        """Return what came of the last grading, by slug; nothing, if the note is missing or damaged."""
        try:
            return parse_state(read_bytes(self._state, _MAX_STATE))
        except KitError:
            return {}

    def digest_of(self, exercise: Exercise) -> str:
        """Return a name for the content of the learner's file, taken before grading; empty if it cannot be read."""
        try:
            return hashlib.sha256(read_bytes(self.stub_path(exercise), MAX_SOURCE)).hexdigest()
        except KitError:
            return ""

    def record(self, results: Mapping[str, Graded]) -> None:
        """Note what came of a grading, by slug.

        The note only saves work later, so a folder that cannot be written is no error.
        """
        with contextlib.suppress(OSError):
            self._state.parent.mkdir(exist_ok=True)
            _replace(self._state, dump_state(self.last() | dict(results)))

    @property
    def _state(self) -> Path:
        return self.root / ".grade" / "state.json"


def stub_of(exercise: Exercise) -> str:
    """Return what a learner gets for ``exercise``."""
    return make_stub((exercise.folder / "solution.py").read_text(encoding="utf-8"))


def parse_state(data: bytes) -> dict[str, Graded]:
    """Read ``dump_state``'s form, leaving out whatever does not fit it."""
    try:
        state = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    entries = state.get("graded") if isinstance(state, dict) else None
    graded: dict[str, Graded] = {}
    for slug, entry in entries.items() if isinstance(entries, dict) else ():
        with contextlib.suppress(KeyError, TypeError, ValueError):
            graded[slug] = Graded(str(entry["digest"]), Verdict(entry["verdict"]))
    return graded


def dump_state(graded: Mapping[str, Graded]) -> bytes:
    """Return the note as JSON."""
    entries = {slug: {"digest": one.digest, "verdict": one.verdict.value} for slug, one in graded.items()}
    return json.dumps({"schema": 1, "graded": entries}, indent=1, sort_keys=True).encode()


def _create(path: Path, text: str) -> bool:
    """Write a file unless something of that name is there; return whether it was written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except FileExistsError:
        if path.parent.is_dir():
            return False
        raise UsageError(f"{path.parent} is in the way: it is no folder. Move it, or choose another folder.") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror}. Choose another folder.") from None
    return True


def _replace(path: Path, data: bytes) -> None:
    """Write a file in one step, so that a reader never sees half of it."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
