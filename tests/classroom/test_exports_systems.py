"""What Gradescope and GitHub run: the zip in a folder that looks like their container, the workflow by its schema."""

import json
import os
import shutil
import stat
import subprocess
import sys
import zipfile
from dataclasses import replace

import jinja2
import pytest
import torch
from ruamel.yaml import YAML

import grader
from grader.bank import load_exercises
from grader.classroom.exports import github_report, gradescope_run
from grader.classroom.exports.github import workflow
from grader.classroom.exports.gradescope_zip import autograder_zip
from grader.errors import UsageError
from grader.learner import demo
from grader.model import ExerciseResult, Report, Sandbox

EXERCISES = load_exercises()


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("zip") / "autograder.zip"
    path.write_bytes(autograder_zip(["rotary", "alibi"], EXERCISES))
    return path


def lay_out(archive, root):
    """Unpack as Gradescope does: the zip's files in source/, the run script beside it."""
    subprocess.run([sys.executable, "-m", "zipfile", "-e", archive, root / "source"], check=True)
    shutil.copy(root / "source" / "run_autograder", root / "run_autograder")
    for name in ("submission", "results"):
        (root / name).mkdir()
    return root


def run(root):
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables |= {"AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": sys.executable}
    return subprocess.run(
        ["bash", root / "run_autograder"], cwd=root, env=variables, capture_output=True, text=True, check=False
    )


# --- Gradescope ---------------------------------------------------------------------------------------------------


def test_the_zip_has_both_scripts_at_its_root_and_they_may_run(archive):
    with zipfile.ZipFile(archive) as file:
        for name in ("setup.sh", "run_autograder"):
            assert stat.S_IMODE(file.getinfo(name).external_attr >> 16) == 0o755
            assert file.read(name).startswith(b"#!/usr/bin/env bash\n")
            subprocess.run(["bash", "-n"], input=file.read(name), check=True)


def test_the_zip_holds_the_keys_of_the_assignment_and_what_they_build_on_alone(archive):
    with zipfile.ZipFile(archive) as file:
        keys = {name.split("/")[4] for name in file.namelist() if name.startswith("kit/grader/solutions/")}

    wanted = {"rotary", "alibi"}
    while more := {slug for one in EXERCISES if one.slug in wanted for slug in one.requires} - wanted:
        wanted |= more
    assert keys == wanted
    assert len(wanted) < len(EXERCISES)


def test_the_same_kit_makes_the_same_zip(archive):
    assert autograder_zip(["rotary", "alibi"], EXERCISES) == archive.read_bytes()


def test_the_zip_pins_the_versions_of_this_machine(archive):
    with zipfile.ZipFile(archive) as file:
        setup = file.read("setup.sh").decode()

    assert f"'torch=={torch.__version__.partition('+')[0]}'" in setup
    assert f"'jinja2=={jinja2.__version__}'" in setup


def test_an_exercise_that_does_not_exist_is_told_in_a_sentence():
    with pytest.raises(UsageError, match=r"no exercise `rotery`\. Did you mean `rotary`"):
        autograder_zip(["rotery"], EXERCISES)


@pytest.mark.xdist_group("gradescope")
def test_the_run_script_grades_a_submission_into_results(archive, tmp_path):
    root = lay_out(archive, tmp_path / "autograder")
    (root / "submission" / "week 1").mkdir()
    shutil.copy(demo.SAMPLES / "rotary_halves.py", root / "submission" / "week 1" / "rotary (1).py")

    done = run(root)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    data = json.loads((root / "results" / "results.json").read_text())
    rotary = [test for test in data["tests"] if test["name"].startswith("rotary: ")]
    assert 0 < sum(test["score"] for test in rotary) < sum(test["max_score"] for test in rotary)
    assert sum(test["score"] for test in data["tests"]) == sum(test["score"] for test in rotary)
    assert "There is no file for this exercise. Hand in `alibi.py`" in data["output"]
    assert "You pair feature i with feature i + K/2" in data["output"]
    assert data["extra_data"]["kit"] == grader.__version__


@pytest.mark.xdist_group("gradescope")
def test_hostile_submissions_get_a_result_as_well(archive, tmp_path):
    root = lay_out(archive, tmp_path / "autograder")
    (root / "submission" / "rotary.py").write_text(
        f"import os, pathlib\npathlib.Path({str(root)!r}, 'results', 'results.json').write_text('x')\nos._exit(0)\n"
    )
    (root / "submission" / "alibi.py").symlink_to(root / "source" / "kit" / "grader" / "__init__.py")

    done = run(root)

    assert done.returncode == 0
    data = json.loads((root / "results" / "results.json").read_text())
    assert {test["score"] for test in data["tests"]} == {0.0}
    assert "is a link" in data["output"]


class WeakGrader:
    """Stands for the engine in a container that lets neither Landlock nor seccomp through."""

    sandbox = Sandbox("process", ())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def grade(self, work):
        return (ExerciseResult.unrunnable(exercise, submission.file, "x") for exercise, submission in work)

    def report(self, results):
        return Report("0.1.0", 7, self.sandbox, {}, tuple(results))


@pytest.mark.parametrize("weak", [False, True])
def test_a_weak_sandbox_grades_only_if_the_teacher_said_so(weak, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gradescope_run, "Grader", WeakGrader)
    (tmp_path / "source").mkdir()
    config = {"slugs": ["rotary"], "feedback": "full", "allow_weak_sandbox": weak}
    (tmp_path / "source" / "config.json").write_text(json.dumps(config))

    code = gradescope_run.main([str(tmp_path)])

    assert code == (0 if weak else 4)
    assert (tmp_path / "results" / "results.json").exists() is weak
    assert ("below `full`, so nothing was graded" in capsys.readouterr().out) is not weak


def test_a_file_is_found_by_its_name_and_a_single_one_without(tmp_path):
    for name in (
        "a/b/rotary.py",
        "a/rotary (2).py",
        "rotary (1).py",
        "alibi.ipynb",
        ".x/alibi.py",
        "__MACOSX/alibi.py",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()

    found = gradescope_run._find(tmp_path, ["rotary", "alibi"])

    assert {slug: path.relative_to(tmp_path).as_posix() for slug, path in found.items()} == {
        "rotary": "rotary (1).py",
        "alibi": "alibi.ipynb",
    }
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "homework.py").touch()
    assert gradescope_run._find(tmp_path / "one", ["rotary"]) == {"rotary": tmp_path / "one" / "homework.py"}
    assert gradescope_run._find(tmp_path / "one", ["rotary", "alibi"]) == {}


# --- GitHub -------------------------------------------------------------------------------------------------------


def test_the_workflow_follows_the_published_schema(tmp_path):
    path = tmp_path / "classroom.yml"
    path.write_text(workflow(["rotary", "alibi"], EXERCISES), "utf-8")

    done = subprocess.run(
        [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", path],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_workflow_is_what_autograding_looks_for():
    data = YAML(typ="safe").load(workflow(["rotary", "alibi"], EXERCISES, feedback="titles"))

    assert data["name"] == "Autograding Tests"
    assert list(data["jobs"]) == ["run-autograding-tests"]
    assert data["permissions"] == {"contents": "read"}
    (step,) = [step for step in data["jobs"]["run-autograding-tests"]["steps"] if step["name"] == "Grade"]
    assert step["run"].startswith("grade rotary alibi --format json --feedback titles --out ")


def test_the_notices_have_the_points_in_the_form_of_the_reporter(failed, report_of):
    complete, totals = github_report.notices(report_of(failed).to_dict())

    assert complete == "::notice title=Autograding complete::Points 1/3"
    assert json.loads(totals.removeprefix("::notice title=Autograding report::")) == {
        "totalPoints": 1.0,
        "maxPoints": 3.0,
    }


def test_the_summary_reads_no_text_of_a_learner_as_markup(failed, report_of):
    bad = replace(failed.checks[0], message="<img src=x> | [a](http://x) `b` @team\n::error::x\n# c")
    text = github_report.summary(report_of(replace(failed, checks=(bad, failed.checks[1]))).to_dict())

    assert "| one token, turned on paper<br>\\<img src=x\\> \\| \\[a\\](http\\://x)" in text
    assert "\\@team \\:\\:error" in text
    assert not [line for line in text.splitlines() if line.startswith(("::", "# "))]


def test_the_last_step_writes_the_summary_and_fails_with_the_work(
    failed, passed, report_of, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    for number, (result, code) in enumerate([(failed, 1), (passed, 0)], 1):
        (tmp_path / "report.json").write_text(json.dumps(report_of(result).to_dict()))

        assert github_report.main([str(tmp_path / "report.json")]) == code

        assert (tmp_path / "summary.md").read_text("utf-8").count("| Exercise | Result | Points |") == number
    assert "Points 3/3" in capsys.readouterr().out


def test_the_steps_of_the_workflow_run_one_after_the_other(tmp_path):
    steps = YAML(typ="safe").load(workflow(["rotary"], EXERCISES))["jobs"]["run-autograding-tests"]["steps"]
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "grade").write_text(f'#!/bin/sh\nexec {sys.executable} -m grader "$@"\n')
    (tools / "python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    for tool in tools.iterdir():
        tool.chmod(0o755)
    (tmp_path / "work").mkdir()
    variables = os.environ | {
        "PATH": f"{tools}:{os.environ['PATH']}", "RUNNER_TEMP": str(tmp_path),
        "GITHUB_STEP_SUMMARY": str(tmp_path / "s.md"),
    }  # fmt: skip

    def shell(script):
        return subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=tmp_path / "work",
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )

    shell("grade init")
    graded, told = (shell(step["run"]) for step in steps[-2:])

    assert graded.returncode == 0, graded.stderr
    assert told.returncode == 1
    assert "::notice title=Autograding complete::Points 0/" in told.stdout
    assert "not attempted" in (tmp_path / "s.md").read_text("utf-8")
