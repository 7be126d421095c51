"""Who handed in what: names, copies, notebooks, and everything else that turns up in a folder of submissions."""

import json
import os
from dataclasses import replace

import pytest

from grader.classroom.batch import discover
from grader.classroom.batch.discover import find_class
from grader.errors import UsageError


@pytest.fixture
def bank(exercises):
    first, second = exercises  # rotary and alibi
    return first, second, replace(first, slug="masks")


@pytest.fixture
def hand_in(tmp_path):
    def write(path, content="x = 1\n"):
        file = tmp_path / "class" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    return write


@pytest.fixture
def found(tmp_path, bank):
    return lambda *asked: find_class(tmp_path / "class", bank, asked)


def files_of(found):
    return [(entry.student, entry.slug, entry.file) for entry in found.entries]


def notebook(slug=None):
    metadata = {} if slug is None else {"grade": {"slug": slug}}
    return json.dumps({"cells": [], "metadata": metadata, "nbformat": 4, "nbformat_minor": 5})


@pytest.mark.parametrize(
    "name",
    ["rotary.py", "rotary.ipynb", "hw1/rotary.py", "a/b/c/rotary.py", "rotary (1).py", "rotary(2).ipynb", "Rotary.PY"],
)
def test_a_file_that_is_called_like_an_exercise_answers_it(name, hand_in, found):
    hand_in(f"ann/{name}")

    assert files_of(found()) == [("ann", "rotary", name)]


def test_a_notebook_of_the_kit_says_itself_what_it_answers(hand_in, found):
    hand_in("ann/my homework.ipynb", notebook("alibi"))

    assert files_of(found()) == [("ann", "alibi", "my homework.ipynb")]


@pytest.mark.parametrize("content", [notebook(), notebook("unknown"), notebook(["rotary"]), "{", b"\xff", "[" * 10**5])
def test_a_notebook_that_says_nothing_useful_is_noted(content, hand_in, found):
    hand_in("ann/rotary.py")
    hand_in("ann/my homework.ipynb", content)

    (note,) = found().notes

    assert note == "ann: no exercise is called like `my homework.ipynb`. A file is named after its exercise."


def test_of_two_files_the_exact_name_on_the_shortest_way_counts_and_the_other_is_named(hand_in, found):
    for name in "old/rotary.py", "rotary.py", "rotary (1).py", "rotary.ipynb":
        hand_in(f"ann/{name}")

    (entry,) = found().entries

    assert entry.file == "rotary.py"
    assert entry.notes == (
        "`rotary.py` was graded; there was also `rotary.ipynb`, `old/rotary.py`, `rotary (1).py` for `rotary`.",
    )


def test_a_link_never_comes_before_a_file(hand_in, found):
    file = hand_in("ann/sub/rotary (1).py")
    (file.parents[1] / "rotary.py").symlink_to("/etc/passwd")

    (entry,) = found().entries

    assert entry.file == "sub/rotary (1).py"


def test_links_to_folders_are_not_followed(hand_in, found, tmp_path):
    hand_in("ann/rotary.py")
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "alibi.py").write_text("x")
    (tmp_path / "class" / "ann" / "more").symlink_to(secret)
    (tmp_path / "class" / "bob").symlink_to(secret)

    class_ = found()

    assert files_of(class_) == [("ann", "rotary", "rotary.py")]
    assert class_.notes == (
        "`bob` lies in no student's folder and was not graded.",
        "ann: links are not followed: `more`.",
    )


def test_a_pipe_is_not_waited_for(hand_in, found, tmp_path):
    hand_in("ann/alibi.py")
    os.mkfifo(tmp_path / "class" / "ann" / "rotary.ipynb")
    os.mkfifo(tmp_path / "class" / "ann" / "what.ipynb")

    assert files_of(found()) == [("ann", "rotary", "rotary.ipynb"), ("ann", "alibi", "alibi.py")]


def test_the_assignment_is_what_somebody_answered_in_the_order_of_the_bank(hand_in, found):
    hand_in("bob/masks.py")
    hand_in("ann/rotary.py")

    assert [exercise.slug for exercise in found().exercises] == ["rotary", "masks"]


def test_what_is_asked_for_is_the_assignment_and_other_answers_are_noted(hand_in, found):
    hand_in("bob/masks.py")
    hand_in("ann/rotary.py")

    class_ = found("alibi", "rotary")

    assert [exercise.slug for exercise in class_.exercises] == ["rotary", "alibi"]
    assert files_of(class_) == [("ann", "rotary", "rotary.py")]
    assert class_.notes == ("1 student answered `masks`, which is not asked.",)


def test_a_student_with_an_empty_folder_is_a_student(hand_in, found, tmp_path):
    hand_in("bob/rotary.py")
    (tmp_path / "class" / "ann").mkdir()

    assert found().students == ("ann", "bob")


def test_hidden_files_and_those_of_machines_are_passed_over(hand_in, found):
    for name in "ann/rotary.py", "ann/.ipynb_checkpoints/alibi.ipynb", "ann/__MACOSX/masks.py", ".git/alibi.py", ".x":
        hand_in(name)

    class_ = found()

    assert class_.students == ("ann",)
    assert files_of(class_) == [("ann", "rotary", "rotary.py")]
    assert class_.notes == ()


def test_files_that_answer_nothing_are_noted(hand_in, found):
    for name in "stray.py", "ann/rotary.py", "ann/a.py", "ann/b.py", "ann/c.py", "ann/d.ipynb", "ann/e.txt":
        hand_in(name)

    assert found().notes == (
        "`stray.py` lies in no student's folder and was not graded.",
        "ann: no exercise is called like `a.py`, `b.py`, `c.py` and 1 more. A file is named after its exercise.",
        "ann: 1 file besides, neither Python nor a notebook.",
    )


def test_more_notes_than_anybody_reads_are_counted(hand_in, found):
    hand_in("ann/rotary.py")
    for number in range(discover.MAX_NOTES + 7):
        hand_in(f"stray{number:03}.py")

    notes = found().notes

    assert len(notes) == discover.MAX_NOTES + 1
    assert notes[-1] == "… and 7 more notes."


@pytest.mark.parametrize("name", ["\x1b[31mred", "a\nb", "=cmd|calc!A0", "x..", "ÿ" * 120, "a`b", " ", "-rf"])
def test_an_odd_name_of_a_student_stays_a_name_and_steers_no_terminal(name, hand_in, found):
    hand_in(f"{name}/rotary.py")
    hand_in(f"{name}/what.py")

    class_ = found()

    assert class_.students == (name,)
    assert all(char.isprintable() for note in class_.notes for char in note)


def test_names_that_are_no_text_become_text_and_stay_apart(tmp_path, found):
    for name in b"caf\xe9", b"caf\\xe9":
        folder = tmp_path / "class" / os.fsdecode(name)
        folder.mkdir(parents=True)
        (folder / "rotary.py").write_bytes(name)

    class_ = found()

    assert class_.students == ("caf\\xe9", "caf\\xe9 (2)")
    assert {entry.path.read_bytes() for entry in class_.entries} == {b"caf\xe9", b"caf\\xe9"}
    [student.encode() for student in class_.students]


def test_a_folder_without_end_is_looked_at_as_far_as_it_makes_sense(hand_in, found, monkeypatch):
    monkeypatch.setattr(discover, "MAX_FILES", 20)
    monkeypatch.setattr(discover, "MAX_DEPTH", 2)
    hand_in("ann/a/b/rotary.py")
    hand_in("bob/a/b/c/alibi.py")
    for number in range(30):
        hand_in(f"eve/{number}.txt")

    class_ = found()

    assert files_of(class_) == [("ann", "rotary", "a/b/rotary.py")]
    assert class_.notes[0] == "bob: more than 20 files or 2 folders deep; what lies beyond was not looked at."
    assert class_.notes[-1].startswith("eve: more than 20 files")


def test_a_folder_that_cannot_be_read_is_noted(hand_in, found, monkeypatch):
    hand_in("ann/rotary.py")
    hand_in("ann/closed/alibi.py")
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)

    assert found().notes == ("ann: could not be looked into: `closed`.",)


def test_a_folder_that_is_not_there_is_a_sentence(found):
    with pytest.raises(UsageError, match="cannot be read: No such file or directory"):
        found()


def test_a_folder_without_students_is_a_sentence(hand_in, found):
    hand_in("rotary.py")

    with pytest.raises(UsageError, match="holds no student's folder"):
        found()


def test_a_class_that_answered_nothing_is_a_sentence(hand_in, found):
    hand_in("ann/readme.txt")

    with pytest.raises(UsageError, match="None of 1 student in"):
        found()
