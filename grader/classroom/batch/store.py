"""A class's results on disk: written as they come, so that nothing done is lost, and read again afterwards.

``results.sqlite3`` holds two tables::

    class    one row: what holds for all results, as JSON (seed, kit, versions, sandbox, exercises, students, notes)
    results  one row for each student and exercise: file, digests of submission and answer key, result and notes

Every result is a transaction of its own in write-ahead mode: after a crash, power cut included, a result is there whole
or not at all. A second file, locked for as long as a run lasts and by the kernel alone, keeps other runs out.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from grader.bank import find_bank
from grader.candidate.sandbox import tier
from grader.classroom.model import ClassReport, Graded
from grader.errors import AnswerKeyError, UsageError
from grader.model import Check, Exercise, ExerciseResult, FollowUp, Sandbox

RESULTS = "results.sqlite3"
LOCK = ".running.sqlite3"
SCHEMA = 1
TIERS = ("process", "partial", "full")  # of the sandbox, the weakest first
_TABLES = """
CREATE TABLE IF NOT EXISTS class (id INTEGER PRIMARY KEY CHECK (id = 1), facts TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS results (
    student TEXT NOT NULL, slug TEXT NOT NULL, file TEXT NOT NULL, submission TEXT NOT NULL, suite TEXT NOT NULL,
    result TEXT NOT NULL, notes TEXT NOT NULL, PRIMARY KEY (student, slug)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Known:
    """What a stored result was made from.

    Attributes:
        file: Path inside the student's folder.
        submission: Digest of the file.
        suite: Digest of the answer key.
    """

    file: str
    submission: str
    suite: str


class Store:
    """The results of one folder, open for one run; a context manager.

    Args:
        out: The folder; made if it is not there.
        resume: Whether results that are there already are welcome.

    Raises:
        UsageError: If they are not, if another run is at work there, or if the folder cannot be used.
    """

    def __init__(self, out: Path, *, resume: bool = False) -> None:
        self.out = out
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"The folder `{out}` cannot be made: {error.strerror}. Choose another one.") from None
        self._lock = _lock(out)
        try:
            with _sentences(out):
                self._base = _connect(out / RESULTS)
                self._base.executescript(_TABLES)
            self.facts = _facts(self._base, out)
            if self.facts is not None and not resume:
                raise UsageError(
                    f"`{out}` holds results already, {self.count()} of them. Go on with them by `--resume`, or choose "
                    "another folder."
                )
        except BaseException:
            self._lock.close()
            raise

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self._base.close()
        self._lock.close()

    # --- what is there -----------------------------------------------------------------------------------------------

    def count(self) -> int:
        """Return how many results there are."""
        return int(self._base.execute("SELECT count(*) FROM results").fetchone()[0])

    def known(self) -> dict[tuple[str, str], Known]:
        """Return student and slug → what the result was made from."""
        rows = self._base.execute("SELECT student, slug, file, submission, suite FROM results")
        return {(student, slug): Known(*rest) for student, slug, *rest in rows}

    def report(self) -> ClassReport:
        """Return everything that was found out."""
        return _report(self._base, self.out)

    # --- what comes --------------------------------------------------------------------------------------------------

    def begin(self, report: ClassReport) -> None:
        """Write down what holds for all results of this run; the results in ``report`` itself do not count."""
        self.facts = {
            "schema": SCHEMA,
            "title": report.title,
            "kit": report.kit,
            "seed": report.seed,
            "versions": dict(report.versions),
            "layers": list(report.sandbox.layers),
            "exercises": [_written(exercise) for exercise in report.exercises],
            "students": list(report.students),
            "notes": list(report.notes),
        }
        with _sentences(self.out), self._base:
            self._write_facts()

    def note_sandbox(self, sandbox: Sandbox) -> None:
        """Write down what held the learners' code, if it is less than was known before."""
        if self.facts is None or TIERS.index(sandbox.tier) >= TIERS.index(tier(self.facts["layers"])):
            return
        self.facts["layers"] = list(sandbox.layers)
        with _sentences(self.out), self._base:
            self._write_facts()

    def put(self, *results: Graded) -> None:
        """Write results, in place of older ones for the same student and exercise; all of them or none."""
        rows = [
            (
                graded.student,
                graded.result.slug,
                graded.result.file,
                graded.submission,
                graded.suite,
                json.dumps(graded.result.to_dict()),
                json.dumps(graded.notes),
            )
            for graded in results
        ]
        with _sentences(self.out), self._base:
            self._base.executemany("INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def forget(self) -> None:
        """Drop all results: they cannot stand beside those that will come."""
        with _sentences(self.out), self._base:
            self._base.execute("DELETE FROM results")

    def renote(self, notes: Mapping[tuple[str, str], tuple[str, ...]]) -> None:
        """Replace the notes on results that stay as they are."""
        rows = [(json.dumps(value), student, slug) for (student, slug), value in notes.items()]
        with _sentences(self.out), self._base:
            self._base.executemany("UPDATE results SET notes = ? WHERE student = ? AND slug = ?", rows)

    def _write_facts(self) -> None:
        self._base.execute("INSERT OR REPLACE INTO class VALUES (1, ?)", (json.dumps(self.facts),))


def load_class(out: Path) -> ClassReport:
    """Read a class's results again.

    Raises:
        UsageError: If there are none, or not all of them yet.
    """
    if not (out / RESULTS).is_file():
        raise UsageError(f"`{out}` holds no results. Make some by `grade batch SUBMISSIONS --out {out}`.")
    with _sentences(out):
        base = _connect(out / RESULTS)
        try:
            return _report(base, out)
        finally:
            base.close()


# --- the files --------------------------------------------------------------------------------------------


@contextmanager
def _sentences(out: Path) -> Iterator[None]:
    """Turn what SQLite complains about into a sentence."""
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise UsageError(
            f"The results in `{out}` cannot be read or written ({error}). Is the disk full, or the file damaged?"
        ) from None


def _connect(file: Path) -> sqlite3.Connection:
    base = sqlite3.connect(file, timeout=10.0)
    base.execute("PRAGMA journal_mode = WAL")  # where the file system has none, SQLite keeps to its older way
    base.execute("PRAGMA synchronous = FULL")
    return base


def _lock(out: Path) -> sqlite3.Connection:
    """Hold a lock that ends with this process, however it ends."""
    with _sentences(out):
        lock = sqlite3.connect(out / LOCK, timeout=0.0, isolation_level=None)
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError as error:
            lock.close()
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY:
                raise
            raise UsageError(
                f"Another run is at work in `{out}`. Wait until it is done, or choose another folder."
            ) from None
        return lock


# --- between rows and values ------------------------------------------------------------------------------


def _facts(base: sqlite3.Connection, out: Path) -> dict[str, Any] | None:
    with _sentences(out):
        row = base.execute("SELECT facts FROM class").fetchone()
    if row is None:
        return None
    facts: dict[str, Any] = json.loads(row[0])
    if facts["schema"] != SCHEMA:
        raise UsageError(f"The results in `{out}` were written by another version of the kit. Choose another folder.")
    return facts


def _report(base: sqlite3.Connection, out: Path) -> ClassReport:
    facts = _facts(base, out)
    if facts is None:
        raise UsageError(f"`{out}` holds no results yet. Go on by `grade batch SUBMISSIONS --out {out} --resume`.")
    layers = tuple(facts["layers"])
    report = ClassReport(
        title=facts["title"],
        kit=facts["kit"],
        seed=facts["seed"],
        sandbox=Sandbox(tier(layers), layers),
        versions=facts["versions"],
        exercises=tuple(_read(exercise) for exercise in facts["exercises"]),
        students=tuple(facts["students"]),
        graded=(),
        notes=tuple(facts["notes"]),
    )
    found = {(graded.student, graded.result.slug): graded for graded in _graded(base)}
    wanted = [(student, exercise.slug) for student in report.students for exercise in report.exercises]
    if missing := sum(pair not in found for pair in wanted):
        raise UsageError(
            f"{missing} of {len(wanted)} results in `{out}` are not there yet. Go on by "
            f"`grade batch SUBMISSIONS --out {out} --resume`."
        )
    return replace(report, graded=tuple(found[pair] for pair in wanted))


def _graded(base: sqlite3.Connection) -> Iterable[Graded]:
    for student, submission, suite, result, notes in base.execute(
        "SELECT student, submission, suite, result, notes FROM results"
    ):
        yield Graded(student, ExerciseResult.from_dict(json.loads(result)), submission, suite, tuple(json.loads(notes)))


def _written(exercise: Exercise) -> dict[str, Any]:
    data = asdict(exercise)
    del data["folder"]  # of this machine
    return data


def _read(data: Mapping[str, Any]) -> Exercise:
    place = Path(data["track"], data["slug"])
    with suppress(AnswerKeyError):  # results are read without answer keys, too
        place = find_bank() / place
    values: dict[str, Any] = dict(data) | {
        "folder": place,
        "checks": tuple(Check(**check) for check in data["checks"]),
        "follow_ups": tuple(FollowUp(**follow_up) for follow_up in data["follow_ups"]),
    }
    fields: dict[str, Any] = {key: tuple(item) if isinstance(item, list) else item for key, item in values.items()}
    return Exercise(**fields)
