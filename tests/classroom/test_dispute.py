"""A disputed result can be seen again: the bundle of a student, replayed by the command that it names."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "sample"))

from seven import graded, make_class, missing, result

from grader.bank import load_exercises
from grader.classroom.dispute import bundle
from grader.classroom.model import ClassReport, Graded
from grader.errors import SubmissionError, UsageError
from grader.judge.client import Grader
from grader.learner import demo
from grader.submission import read_submission

SOURCE = b"# right\n"


def class_of_one(student, file, data, **changes):
    report = make_class()
    one = report.exercises[0]
    entry = replace(
        graded(student, result(one, {1}, file=file)), submission=hashlib.sha256(data).hexdigest(), **changes
    )
    return replace(report, students=(student,), graded=(entry, missing(student, report.exercises[1])))


def hand_in(folder, student, file, data=SOURCE):
    path = folder / student / file
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    return path


def names_in(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        return archive.namelist()


def readme_of(path):
    with zipfile.ZipFile(path) as archive:
        return archive.read("README.md").decode("utf-8")


# --- what is in it ------------------------------------------------------------------------------------------------


def test_holds_the_file_as_it_was_handed_in_with_digests_and_results(tmp_path):
    report = class_of_one("ben", "week 1/rotary.py", SOURCE)
    hand_in(tmp_path / "in", "ben", "week 1/rotary.py")

    path = bundle(report, "ben", tmp_path / "out", tmp_path / "in")

    assert path == tmp_path / "out" / "ben.zip"
    assert sorted(names_in(path)) == [
        "README.md", "bundle.json", "results/alibi.json", "results/rotary.json", "submission/week 1/rotary.py",
    ]  # fmt: skip
    with zipfile.ZipFile(path) as archive:
        assert archive.read("submission/week 1/rotary.py") == SOURCE
        told = json.loads(archive.read("bundle.json"))
    assert (told["seed"], told["kit"], told["tier"]) == (7, "0.1.0", "full")
    assert told["items"][0]["submission"] == hashlib.sha256(SOURCE).hexdigest()
    assert told["items"][0]["suite"] == report.graded[0].suite
    text = readme_of(path)
    assert "grade 'week 1/rotary.py' --as rotary --seed 7 --format json --out rotary.again.json" in text
    assert hashlib.sha256(SOURCE).hexdigest() in text
    assert "Nothing was handed in, so there is nothing to replay." in text


def test_one_result_makes_one_bundle_byte_by_byte(tmp_path):
    report = class_of_one("ben", "rotary.py", SOURCE)
    hand_in(tmp_path / "in", "ben", "rotary.py")

    first, second = (bundle(report, "ben", tmp_path / name, tmp_path / "in").read_bytes() for name in "ab")

    assert first == second


@pytest.mark.parametrize("file", ["a\nb.py", "$(touch x).py", "a:b.py", "`x`.py", "\u202egnp.py"])
def test_a_name_that_not_every_system_writes_is_replaced_and_said_so(tmp_path, file):
    shown = " ".join(file.replace("\u202e", "").split())  # as a report shows it: the file must be found all the same
    hand_in(tmp_path / "in", "ben", file)

    path = bundle(class_of_one("ben", shown, SOURCE), "ben", tmp_path, tmp_path / "in")

    enclosed = [name for name in names_in(path) if name.startswith("submission/")]
    assert enclosed in (["submission/renamed/rotary.py"], [f"submission/{shown}"])
    for command in re.findall(r"^grade .*$", readme_of(path), re.MULTILINE):
        assert shlex.split(command)[1] == enclosed[0].removeprefix("submission/")


def test_a_file_that_begins_with_a_dash_is_no_option(tmp_path):
    hand_in(tmp_path / "in", "ben", "-rf.py")

    path = bundle(class_of_one("ben", "-rf.py", SOURCE), "ben", tmp_path, tmp_path / "in")

    assert "grade ./-rf.py --as" in readme_of(path)


def test_nothing_in_a_students_name_is_markup_in_the_readme(tmp_path):
    report = class_of_one("![x](http://y) <img src=z>", "rotary.py", SOURCE)
    nothing = [missing(entry.student, one) for entry, one in zip(report.graded, report.exercises, strict=True)]

    path = bundle(replace(report, graded=tuple(nothing)), report.students[0], tmp_path, tmp_path)

    assert r"the result of \!\[x\](http\://y) \<img src=z\>" in readme_of(path)


# --- what is refused ----------------------------------------------------------------------------------------------


def test_a_student_who_is_not_in_the_results_is_told_in_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="no student `nobody`"):
        bundle(make_class(), "nobody", tmp_path, tmp_path)


def test_a_file_that_changed_since_is_no_evidence(tmp_path):
    hand_in(tmp_path / "in", "ben", "rotary.py", b"# better now\n")

    with pytest.raises(UsageError, match=r"`ben/rotary\.py` has changed since it was graded"):
        bundle(class_of_one("ben", "rotary.py", SOURCE), "ben", tmp_path, tmp_path / "in")

    assert not list(tmp_path.glob("*.zip"))


def test_a_file_that_is_gone_is_told_in_a_sentence(tmp_path):
    (tmp_path / "in" / "ben").mkdir(parents=True)

    with pytest.raises(UsageError, match=r"`ben/rotary\.py` is no longer there"):
        bundle(class_of_one("ben", "rotary.py", SOURCE), "ben", tmp_path, tmp_path / "in")


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="no links here")
@pytest.mark.parametrize("place", ["file", "folder", "student"])
def test_links_are_not_followed(tmp_path, place):
    secret = hand_in(tmp_path, "elsewhere", "rotary.py")
    report = class_of_one("ben", "a/rotary.py", SOURCE)
    (tmp_path / "in").mkdir()
    link = {"student": "ben", "folder": "ben/a", "file": "ben/a/rotary.py"}[place]
    (tmp_path / "in" / link).parent.mkdir(parents=True, exist_ok=True)
    if place == "student":
        hand_in(tmp_path, "real", "a/rotary.py")
        secret = tmp_path / "real" / "a" / "rotary.py"
    (tmp_path / "in" / link).symlink_to({"student": secret.parents[1], "folder": secret.parent, "file": secret}[place])

    with pytest.raises(SubmissionError, match="is a link"):
        bundle(report, "ben", tmp_path, tmp_path / "in")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_in_the_files_place_is_not_waited_for(tmp_path):
    (tmp_path / "in" / "ben").mkdir(parents=True)
    os.mkfifo(tmp_path / "in" / "ben" / "rotary.py")

    with pytest.raises(SubmissionError, match="not a plain file"):
        bundle(class_of_one("ben", "rotary.py", SOURCE), "ben", tmp_path, tmp_path / "in")


def test_a_submission_that_was_refused_when_graded_is_named_and_not_enclosed(tmp_path):
    report = class_of_one("ben", "rotary.py", SOURCE)
    refused = replace(report.graded[0], submission="", result=replace(report.graded[0].result, message="It is a link."))

    path = bundle(replace(report, graded=(refused, report.graded[1])), "ben", tmp_path, tmp_path / "in")

    assert "so it is not enclosed: It is a link." in readme_of(path)
    assert not [name for name in names_in(path) if name.startswith("submission/")]


# --- the replay ---------------------------------------------------------------------------------------------------


@pytest.mark.xdist_group("dispute")
def test_the_command_in_the_bundle_gives_the_same_result_but_for_timing(tmp_path, monkeypatch):
    rotary = next(exercise for exercise in load_exercises() if exercise.slug == "rotary")
    data = (demo.SAMPLES / "rotary_halves.py").read_bytes() + b"\nprint('loaded')\n"
    work = hand_in(tmp_path / "in", "ben", "hand in/my rotary.py", data)
    monkeypatch.chdir(tmp_path / "in" / "ben")
    with Grader(jobs=1) as grader:
        submission = read_submission(work.relative_to(Path.cwd()), "rotary")
        (outcome,) = grader.grade([(rotary, submission)], seed=1234567890123456789)
        run = grader.report([outcome], 1234567890123456789)
    entry = Graded("ben", outcome, hashlib.sha256(data).hexdigest(), "0" * 64)
    report = ClassReport("w", run.kit, run.seed, run.sandbox, run.versions, (rotary,), ("ben",), (entry,))
    path = bundle(report, "ben", tmp_path / "out", tmp_path / "in")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "bundle")
    folder = tmp_path / "bundle" / "submission"
    (command,) = re.findall(r"^grade .*$", (tmp_path / "bundle" / "README.md").read_text("utf-8"), re.MULTILINE)

    done = subprocess.run(
        [sys.executable, "-m", *shlex.split(command.replace("grade", "grader", 1))], cwd=folder, check=False
    )

    assert done.returncode == 1
    again = (folder / "rotary.again.json").read_text().splitlines()
    before = (tmp_path / "bundle" / "results" / "rotary.json").read_text().splitlines()
    assert len(again) > 50
    different = {
        line.strip().split(":")[0] for pair in zip(again, before, strict=True) if pair[0] != pair[1] for line in pair
    }
    assert different <= {'"seconds"'}
