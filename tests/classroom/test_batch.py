"""``grade batch``, whole: hostile work beside honest work, interruptions, and what a teacher reads."""

import csv
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

import grader.classroom.batch.run
import grader.commands.batch
from grader.bank import load_exercises
from grader.classroom.batch.discover import Entry
from grader.classroom.batch.local import Local
from grader.classroom.batch.store import RESULTS, load_class
from grader.classroom.batch.tasks import DIED_TWICE, Task, read_tasks
from grader.cli import main
from grader.model import CheckResult, CheckVerdict, ExerciseResult, Sandbox, Verdict
from grader.stub import make_stub

HERE = Path(__file__).parent
SMALL = HERE.parent / "engine" / "answer_keys"
PROGRAM = HERE / "small_class.py"
pytestmark = [pytest.mark.xdist_group("batch"), pytest.mark.timeout(300)]

DOUBLE = (SMALL / "small/double/solution.py").read_text("utf-8")
SCALE = (SMALL / "small/scale/solution.py").read_text("utf-8")
TRIPLE = DOUBLE.replace("return 2 * x", "return 3 * x")
WORK = {  # student → what was handed in for `double`: verdict and points
    "ann": (DOUBLE, "passed", 8),
    "bob": (TRIPLE, "failed", 1),
    "hangs": ("while True: pass\n", "error", 0),
    "crashes": (
        DOUBLE.replace("return 2 * x", "__import__('ctypes').string_at(0)"),
        "failed",
        0,
    ),  # ctypes is not allowed
    "forks": (DOUBLE.replace("return 2 * x", "__import__('os').fork(); return 2 * x"), "failed", 1),
    "floods": ("print('x' * 10**7)\n" + DOUBLE, "passed", 8),
    "kills": (DOUBLE.replace("return 2 * x", "__import__('os').kill(-1, 9); return 2 * x"), "failed", 1),
    "stumbles": ("def double(x:\n", "error", 0),
    "latin": ("# caf\xe9\n".encode("latin-1"), "error", 0),
    "=cmd|calc!A0": (DOUBLE, "passed", 8),
    "stub": (None, "not_attempted", 0),
    "damaged": (b'{"cells": [', "error", 0),
}


@pytest.fixture(scope="module")
def exercises():
    return {exercise.slug: exercise for exercise in load_exercises(SMALL)}


def hand_in(folder, work):
    for student, (given, *_) in work.items():
        source = make_stub(DOUBLE) if given is None else given
        file = folder / student / ("double.ipynb" if student == "damaged" else "double.py")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source if isinstance(source, bytes) else source.encode())


def run(*args, **options):
    """Run the program and return exit code, output and errors."""
    words = [sys.executable, str(PROGRAM), "batch", *map(str, args)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, **options)
    return done.returncode, done.stdout, done.stderr


def students_files(out):
    """Return what students get, without how long it took."""
    found = {}
    for file in sorted((out / "students").glob("*.json")):
        data = json.loads(file.read_text("utf-8"))
        for exercise in data["exercises"]:
            del exercise["timing"]
        found[file.name] = json.dumps(data, sort_keys=True)
    return found


def rows(out):
    base = sqlite3.connect(out / RESULTS)
    try:
        return base.execute("SELECT count(*) FROM results").fetchone()[0]
    finally:
        base.close()


# --- a class, graded once for all tests that look at it --------------------------------------------------------------


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    """Submissions, results, exit code and output of a run without any interruption."""
    root = tmp_path_factory.mktemp("batch")
    hand_in(root / "class", WORK)
    (root / "class" / "ghost").mkdir()
    (root / "class" / "ann" / "scale.py").write_text(SCALE)
    return root / "class", root / "out", run(root / "class", "--out", root / "out", "--seed", "7", "--jobs", "4")


@pytest.mark.parametrize("student", WORK)
def test_hostile_work_costs_itself_alone(graded, student):
    _, verdict, points = WORK[student]

    result = next(e.result for e in load_class(graded[1]).of(student) if e.result.slug == "double")

    assert (result.verdict, result.points) == (verdict, points), result.message


def test_who_handed_in_nothing_gets_nothing_and_is_there(graded):
    report = load_class(graded[1])

    double, scale = report.of("ghost")

    assert [exercise.slug for exercise in report.exercises] == ["double", "scale"]
    assert double.result.verdict == scale.result.verdict == "not_attempted"
    assert double.result.file == double.submission == ""
    assert report.points("ghost") == 0


def test_the_totals_are_those_of_the_checks(graded):
    report = load_class(graded[1])

    assert report.max_points == 13
    assert report.points("ann") == 13
    assert sum(report.points(student) for student in report.students) == 13 + sum(
        points for name, (_, _, points) in WORK.items() if name != "ann"
    )


def test_grades_are_files_for_people_and_programs(graded):
    out = graded[1]

    with (out / "grades.csv").open(encoding="utf-8-sig", newline="") as file:
        table = list(csv.reader(file))

    assert len(table) == 1 + len(WORK) + 1
    assert (out / "report.html").read_text("utf-8").startswith("<!")
    assert len(list((out / "students").glob("*.html"))) == len(WORK) + 1


def test_the_summary_says_how_the_class_did(graded):
    code, output, errors = graded[2]

    assert code == 1
    assert "13 students" in output
    assert "Hardest check (double" in output
    assert "report.html" in output
    assert errors.startswith("Grading 13 files.")
    assert "\x1b" not in output + errors


# --- interruptions ---------------------------------------------------------------------------------------------------


def start(*args):
    words = [sys.executable, str(PROGRAM), "batch", *map(str, args)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_rows(out, number, process):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if (out / RESULTS).exists():
            try:
                if rows(out) >= number:
                    return
            except sqlite3.Error:
                pass
        time.sleep(0.02)
    raise AssertionError(f"only {rows(out)} results, exit code {process.poll()}")


def test_a_run_that_was_killed_goes_on_to_the_same_results(graded, tmp_path):
    submissions, whole, _ = graded
    out = tmp_path / "out"
    missing = 13  # known before anything is graded: scale of all but ann, double of ghost
    process = start(submissions, "--out", out, "--seed", "7", "--jobs", "1")
    wait_for_rows(out, missing + 2, process)
    tree = [process, *psutil.Process(process.pid).children(recursive=True)]
    process.kill()
    process.communicate()
    before = rows(out)

    code, _, errors = run(submissions, "--out", out, "--resume", "--jobs", "4")

    assert missing < before < 2 * len(load_class(whole).students)
    assert not psutil.wait_procs(tree[1:], timeout=10)[1]
    assert f"Going on with seed 7: {before - missing} kept" in errors
    assert code == 1
    assert students_files(out) == students_files(whole)
    assert (out / "grades.csv").read_bytes() == (whole / "grades.csv").read_bytes()


def test_ctrl_c_says_how_to_go_on(graded, tmp_path):
    out = tmp_path / "out"
    process = start(graded[0], "--out", out, "--jobs", "1", "--feedback", "titles")
    wait_for_rows(out, 15, process)

    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)

    assert process.returncode == 130
    assert "Stopped. What was graded in this run" in errors
    assert f"grade batch {graded[0]} --out {out} --feedback titles --resume" in " ".join(errors.split())
    assert "Traceback" not in errors


def test_what_changed_is_graded_again_and_nothing_else(graded, tmp_path):
    submissions, out = tmp_path / "class", tmp_path / "out"
    hand_in(submissions, {name: WORK[name] for name in ("ann", "bob")})
    assert run(submissions, "--out", out)[0] == 1
    hand_in(submissions, {"bob": (DOUBLE,), "eve": (DOUBLE,)})

    code, _, errors = run(submissions, "--out", out, "--resume")

    assert code == 0
    assert "1 kept, 1 not graded yet, 1 handed in anew." in " ".join(errors.split())
    assert "2 of 2 graded" in errors


def test_results_that_are_there_are_not_touched_without_resume(graded):
    submissions, out, _ = graded

    code, _, errors = run(submissions, "--out", out)

    assert code == 2
    assert "holds results already" in errors


def test_another_seed_is_refused(graded):
    submissions, out, _ = graded

    code, _, errors = run(submissions, "--out", out, "--resume", "--seed", "8")

    assert code == 2
    assert "was begun with the seed 7" in errors


# --- in this process: what does not take a grader --------------------------------------------------------------------


class FakeWorkers:
    """Takes every file for a pass, and counts them."""

    sandbox = Sandbox("full", ("process", "landlock", "seccomp"))
    versions = {"python": "3.11", "torch": "2.4"}  # noqa: RUF012

    def __init__(self, *_):
        self.graded = []
        FakeWorkers.last = self

    def grade(self, tasks, seed):
        for task in tasks:
            self.graded.append((task.entry.student, task.exercise.slug))
            checks = tuple(
                CheckResult(c.name, c.title, c.visible, c.points, c.points, CheckVerdict.PASSED)
                for c in task.exercise.checks
            )
            exercise = task.exercise
            yield (
                task,
                ExerciseResult(exercise.slug, exercise.track, exercise.title, task.entry.file, Verdict.PASSED, checks),
            )

    def close(self):
        pass


@pytest.fixture
def batch(monkeypatch, tmp_path, capsys):
    """Return a function that runs the command with fake workers: exit code, output, errors."""
    monkeypatch.setattr(grader.commands.batch, "Local", FakeWorkers)
    monkeypatch.setattr(grader.commands.batch, "load_exercises", lambda: load_exercises(SMALL))

    def go(*args):
        code = main(["batch", str(tmp_path / "class"), "--out", str(tmp_path / "out"), *args])
        said = capsys.readouterr()
        return code, " ".join(said.out.split()), " ".join(said.err.split())

    return go


@pytest.fixture
def two_students(tmp_path):
    hand_in(tmp_path / "class", {"ann": (DOUBLE,), "bob": (DOUBLE,)})
    return tmp_path / "class"


def test_all_passed_is_exit_code_0(batch, two_students):
    code, output, _ = batch()

    assert code == 0
    assert "2 students, mean 100 %" in output


def test_a_weak_sandbox_is_refused(batch, two_students, monkeypatch):
    monkeypatch.setattr(FakeWorkers, "sandbox", Sandbox("partial", ("process", "seccomp")))

    code, _, errors = batch()

    assert code == 4
    assert "only `partial` here, which is too weak" in errors
    assert FakeWorkers.last.graded == []


def test_a_weak_sandbox_that_was_asked_for_stands_in_the_report(batch, two_students, monkeypatch, tmp_path):
    monkeypatch.setattr(FakeWorkers, "sandbox", Sandbox("partial", ("process", "seccomp")))

    code, output, _ = batch("--allow-weak-sandbox")

    assert code == 0
    assert "Sandbox: partial." in output
    assert load_class(tmp_path / "out").sandbox.tier == "partial"


def test_weak_results_are_not_taken_up_as_strong_ones(batch, two_students, monkeypatch):
    with monkeypatch.context() as weak:
        weak.setattr(FakeWorkers, "sandbox", Sandbox("partial", ("process", "seccomp")))
        batch("--allow-weak-sandbox")

    code, _, errors = batch("--resume")

    assert code == 4
    assert "was graded in a sandbox that is only `partial`" in errors


def test_another_answer_key_means_grading_again(batch, two_students, monkeypatch):
    batch()
    monkeypatch.setattr(grader.classroom.batch.run, "digest_of_suite", lambda folder: f"another {folder.name}")

    _, _, errors = batch("--resume")

    assert FakeWorkers.last.graded == [("ann", "double"), ("bob", "double")]
    assert "0 kept, 2 of `double`, whose answer key has changed." in errors


def test_another_version_means_grading_everything_again(batch, two_students, monkeypatch):
    batch()
    monkeypatch.setattr(FakeWorkers, "versions", {"python": "3.11", "torch": "2.5"})

    _, _, errors = batch("--resume")

    assert len(FakeWorkers.last.graded) == 2
    assert "Everything is graded again" in errors
    assert "torch 2.4 before, 2.5 now" in errors


def test_what_a_student_took_back_is_not_attempted(batch, two_students, tmp_path):
    batch()
    (two_students / "bob" / "double.py").unlink()

    code, _, _ = batch("--resume")

    assert code == 1
    assert load_class(tmp_path / "out").points("bob") == 0


def test_a_link_gets_a_sentence_and_no_points(batch, two_students, tmp_path):
    (two_students / "eve").mkdir()
    (two_students / "eve" / "double.py").symlink_to(SMALL / "small/double/solution.py")

    batch()

    (entry,) = load_class(tmp_path / "out").of("eve")
    assert entry.result.verdict == "error"
    assert entry.result.message == "`double.py` is a link, and only plain files are read. Give the file itself."
    assert "3 kept." in batch("--resume")[2]


def test_slugs_make_the_assignment(batch, two_students, tmp_path):
    batch("--slugs", "scale")

    (entry,) = load_class(tmp_path / "out").of("ann")
    assert entry.result.slug == "scale"
    assert entry.result.verdict == "not_attempted"
    assert FakeWorkers.last.graded == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--slugs", "dubble"], "There is no exercise `dubble`. Did you mean `double`?"),
        (["--jobs", "0"], "Invalid value for '--jobs'"),
        (["--feedback", "some"], "Invalid value for '--feedback'"),
    ],
)
def test_wrong_words_are_refused(batch, two_students, args, message):
    code, _, errors = batch(*args)

    assert code == 2
    assert message in errors


def test_results_among_the_submissions_are_refused(batch, two_students):
    code = main(["batch", str(two_students), "--out", str(two_students / "results")])

    assert code == 2
    assert not (two_students / "results").exists()


def test_a_title_replaces_the_folders_name(batch, two_students, tmp_path):
    batch("--title", "Transformers, spring")

    assert load_class(tmp_path / "out").title == "Transformers, spring"
    batch("--resume")
    assert load_class(tmp_path / "out").title == "Transformers, spring"


# --- a grader that dies ----------------------------------------------------------------------------------------------


def test_a_grader_that_dies_costs_only_the_work_at_hand(exercises, tmp_path):
    hand_in(tmp_path, {f"s{number}": (DOUBLE,) for number in range(6)})
    entries = [Entry(f"s{number}", "double", tmp_path / f"s{number}" / "double.py", "double.py") for number in range(6)]
    tasks = read_tasks(entries, list(exercises.values()), {"double": ""}, lambda graded: None)

    results = []
    with Local(jobs=2) as local:
        for task, result in local.grade(tasks, 7):
            if not results:
                os.kill(local._grader._process.pid, signal.SIGKILL)
            results.append((task.entry.student, result.verdict))

    assert sorted(results) == [(f"s{number}", "passed") for number in range(6)]


def test_what_kills_the_grader_twice_is_given_up(exercises, tmp_path, monkeypatch):
    entry = Entry("eve", "double", tmp_path / "double.py", "double.py")
    deadly = Task(entry, replace(exercises["double"], slug="deadly"), b"", "")
    honest = Task(entry, exercises["double"], DOUBLE.encode(), "")

    with Local(jobs=1) as local:
        answers = type(local._grader).judge

        def judge(self, jobs):
            for job in jobs:
                if job.exercise.slug == "deadly":
                    self._process.kill()
                yield from answers(self, [job])

        monkeypatch.setattr(type(local._grader), "judge", judge)
        results = [result for _, result in local.grade(iter([honest, deadly, honest]), 7)]

    assert [result.verdict for result in results] == ["passed", "error", "passed"]
    assert results[1].message == DIED_TWICE


def test_files_are_read_when_they_are_needed(exercises, tmp_path):
    hand_in(tmp_path, {"ann": (DOUBLE,)})
    entries = (Entry(name, "double", tmp_path / name / "double.py", "double.py") for name in ("ann", "bob"))
    unread = []

    tasks = read_tasks(entries, list(exercises.values()), {"double": ""}, unread.append)

    assert next(tasks).entry.student == "ann"
    assert unread == []
    assert list(tasks) == []
    assert [graded.student for graded in unread] == ["bob"]
