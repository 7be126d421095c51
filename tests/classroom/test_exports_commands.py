"""What a teacher types to get results out: which files come, and what is said."""

import json
import sys
import types
import zipfile
from pathlib import Path

import junitparser
import pytest

sys.path.append(str(Path(__file__).parent / "sample"))

from seven import STUDENTS, make_class

from grader.classroom.names import page_name
from grader.commands import classroom_exports as commands
from grader.errors import UsageError


@pytest.fixture(autouse=True)
def results(monkeypatch):
    """Let every folder of results hold the class of seven."""
    store = types.ModuleType("grader.classroom.batch.store")
    store.load_class = lambda out: make_class()
    monkeypatch.setitem(sys.modules, "grader.classroom.batch", types.ModuleType("grader.classroom.batch"))
    monkeypatch.setitem(sys.modules, "grader.classroom.batch.store", store)


def test_every_form_is_written_and_said(tmp_path, capsys):
    for form in commands.FORMS:
        target = tmp_path / form

        assert commands.export_class(tmp_path, form, target, None) == 0

        assert target.is_dir() is (form in commands.FOLDERS)
        assert str(target) in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("form", commands.FOLDERS)
def test_a_folder_has_a_file_for_each_student(form, tmp_path):
    commands.export_class(tmp_path, form, tmp_path / "out", None)

    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"{page_name(student)}.{commands.FOLDERS[form]}" for student in STUDENTS}


def test_a_students_junit_holds_all_exercises(tmp_path):
    commands.export_class(tmp_path, "junit", tmp_path / "out", None)

    report = junitparser.JUnitXml.fromfile(str(tmp_path / "out" / "ben.xml"))
    assert [(suite.name, suite.tests, suite.failures, suite.errors) for suite in report] == [
        ("rotary", 3, 2, 0), ("alibi", 2, 0, 2),
    ]  # fmt: skip


def test_the_class_as_json_holds_every_student(tmp_path):
    commands.export_class(tmp_path, "json", tmp_path / "class.json", None, "titles")

    data = json.loads((tmp_path / "class.json").read_text("ascii"))
    assert [student["student"] for student in data["students"]] == list(STUDENTS)
    assert "came." not in (tmp_path / "class.json").read_text("ascii")


def test_a_list_of_people_goes_with_canvas_and_moodle_alone(tmp_path):
    with pytest.raises(UsageError, match="`--roster` goes with canvas and moodle; csv needs no list of people"):
        commands.export_class(tmp_path, "csv", tmp_path / "x", tmp_path / "people.csv")


def test_what_the_teacher_should_know_is_said(tmp_path, capsys):
    people = tmp_path / "people.csv"
    people.write_text('Student,ID,SIS Login ID,Section\n"B, Ben",1,ben,x\n')

    commands.export_class(tmp_path, "canvas", tmp_path / "canvas.csv", people)

    told = " ".join(capsys.readouterr().out.split())
    assert "nobody in the list from Canvas has this name or number" in told
    assert (tmp_path / "canvas.csv").read_text().splitlines()[2] == '"B, Ben",1,ben,x,1,0'


def test_a_bundle_lies_beside_the_results(tmp_path, capsys):
    with pytest.raises(UsageError, match="is no longer there"):
        commands.dispute_command(tmp_path / "out", "ben", tmp_path / "in")
    (broken,) = [student for student in STUDENTS if student.startswith("half")]

    assert commands.dispute_command(tmp_path / "out", broken, tmp_path / "in") == 0

    (path,) = (tmp_path / "out" / "disputes").iterdir()
    assert path.name == f"{page_name(broken)}.zip"
    assert "README.md" in zipfile.ZipFile(path).namelist()
    assert "disputes" in "".join(capsys.readouterr().out.split())  # wherever the lines end


def test_the_zip_and_the_workflow_are_written(tmp_path, capsys):
    assert commands.gradescope_zip(["rotary"], tmp_path / "a.zip", "titles", weak=True) == 0
    assert commands.github_workflow(["rotary"], tmp_path / "classroom.yml") == 0

    config = json.loads(zipfile.ZipFile(tmp_path / "a.zip").read("config.json"))
    assert config == {"slugs": ["rotary"], "feedback": "titles", "allow_weak_sandbox": True}
    assert (tmp_path / "classroom.yml").read_text("utf-8").startswith("# Save this as")
    assert "Upload it" in capsys.readouterr().out


@pytest.mark.parametrize("command", [commands.gradescope_zip, commands.github_workflow])
def test_an_assignment_without_exercises_is_told_in_a_sentence(command, tmp_path):
    with pytest.raises(UsageError, match="Say which exercises the assignment has"):
        command([], tmp_path / "x")
