"""Results on disk: nothing is lost, nothing is counted twice, and nobody writes to them beside us."""

import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from grader.classroom.batch.store import RESULTS, Known, Store, load_class
from grader.classroom.model import ClassReport, Graded
from grader.errors import UsageError
from grader.model import Sandbox

FULL = Sandbox("full", ("process", "landlock", "seccomp"))
WEAK = Sandbox("partial", ("process", "seccomp"))


@pytest.fixture
def report(exercises, passed, failed):
    seed = 2**64 - 1
    graded = (
        Graded("ann", replace(passed, file="rotary.py"), "a" * 64, "5" * 64, ("a note",)),
        Graded("bob\u2028", failed, "b" * 64, "5" * 64),
    )
    return ClassReport(
        "Class", "0.1.0", seed, FULL, {"python": "3.11", "torch": "2.4"}, exercises[:1], ("ann", "bob\u2028"), graded,
        ("a stray file",),
    )  # fmt: skip


@pytest.fixture
def out(tmp_path, report):
    with Store(tmp_path / "out") as store:
        store.begin(report)
        store.put(*report.graded)
    return tmp_path / "out"


def same(one, other):
    """Compare without the folders of the answer keys, which are of a machine."""
    return replace(one, exercises=()) == replace(other, exercises=()) and [
        replace(a, folder=b.folder) == b for a, b in zip(one.exercises, other.exercises, strict=True)
    ] == [True] * len(other.exercises)


def test_what_is_written_is_read_again(out, report):
    assert same(load_class(out), report)


def test_a_result_is_there_as_soon_as_it_is_put(tmp_path, report):
    with Store(tmp_path / "out") as store:
        store.begin(report)
        store.put(report.graded[0])

        other = sqlite3.connect(tmp_path / "out" / RESULTS)
        rows = other.execute("SELECT student, submission FROM results").fetchall()
        other.close()

    assert rows == [("ann", "a" * 64)]


def test_the_same_student_and_exercise_count_once(out, report):
    better = replace(report.graded[0], submission="c" * 64)

    with Store(out, resume=True) as store:
        store.put(better, better)

        assert store.count() == 2
        assert store.report().graded[0] == better


def test_several_results_are_put_together_or_not_at_all(out, report):
    with Store(out, resume=True) as store:
        store.forget()
        with pytest.raises(UsageError, match="cannot be read or written"):
            store.put(report.graded[0], replace(report.graded[1], submission=None))

        assert store.count() == 0


def test_what_results_were_made_from_is_known(out):
    with Store(out, resume=True) as store:
        assert store.known()["ann", "rotary"] == Known("rotary.py", "a" * 64, "5" * 64)


def test_results_that_are_there_are_not_written_over(out):
    with pytest.raises(UsageError, match=r"holds results already, 2 of them. Go on with them by `--resume`"):
        Store(out)


def test_a_second_run_is_kept_out_and_the_first_goes_on(out, report):
    with Store(out, resume=True) as store:
        with pytest.raises(UsageError, match="Another run is at work"):
            Store(out, resume=True)
        store.put(*report.graded)

    with Store(out, resume=True) as store:
        assert store.count() == 2


def test_a_run_that_was_killed_keeps_nobody_out(tmp_path):
    script = "import os, sys; from pathlib import Path; from grader.classroom.batch.store import Store\n"
    script += "store = Store(Path(sys.argv[1])); print('open', flush=True); os.kill(os.getpid(), 9)"
    killed = subprocess.run([sys.executable, "-c", script, tmp_path / "out"], capture_output=True, check=False)
    assert killed.stdout == b"open\n"

    with Store(tmp_path / "out") as store:
        assert store.count() == 0


def test_the_weakest_sandbox_is_what_counts(out, report):
    with Store(out, resume=True) as store:
        store.note_sandbox(WEAK)
        store.note_sandbox(FULL)

    assert load_class(out).sandbox == WEAK


def test_a_class_that_is_not_done_is_not_read_as_if_it_were(tmp_path, report):
    with Store(tmp_path / "out") as store:
        store.begin(report)
        store.put(report.graded[0])

    with pytest.raises(UsageError, match=r"1 of 2 results in .* are not there yet. Go on by"):
        load_class(tmp_path / "out")


def test_results_of_students_who_are_gone_are_kept_and_not_shown(out, report):
    with Store(out, resume=True) as store:
        store.begin(replace(report, students=("ann",)))

        assert [entry.student for entry in store.report().graded] == ["ann"]
        assert store.count() == 2


@pytest.mark.parametrize("content", [b"", b"this is no database " * 100, None])
def test_a_folder_without_results_is_a_sentence(tmp_path, content):
    if content is not None:
        (tmp_path / RESULTS).write_bytes(content)

    with pytest.raises(UsageError, match=r"holds no results|cannot be read or written"):
        load_class(tmp_path)


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path):
    (tmp_path / "file").write_text("")

    with pytest.raises(UsageError, match="cannot be made: Not a directory"):
        Store(tmp_path / "file" / "out")


def test_results_of_another_version_are_a_sentence(out):
    base = sqlite3.connect(out / RESULTS)
    base.execute("""UPDATE class SET facts = '{"schema": 99}'""")
    base.commit()
    base.close()

    with pytest.raises(UsageError, match="written by another version of the kit"):
        Store(out, resume=True)
