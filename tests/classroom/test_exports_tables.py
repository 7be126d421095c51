"""Grades for Canvas and Moodle, read again by the rules that these systems import by."""

import csv
import io
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "sample"))

from seven import FORMULA, HTML, STUDENTS, entries_of, make_class

from grader.classroom.exports.canvas import canvas_csv
from grader.classroom.exports.moodle import moodle_csv
from grader.classroom.exports.roster import match, read_roster
from grader.classroom.grades import grades_csv
from grader.errors import UsageError

GRADEBOOK = """\
Student,ID,SIS User ID,SIS Login ID,Section,Rotary position embedding (4711),Essay (12),Current Score
,,,,,Manual Posting,,
    Points Possible,,,,,10.00,5.00,(read only)
"Jones, Ben",101,u1,ben,CS 1,3.00,,30
"Miller, Anna",102,u2,a.miller@uni.edu,CS 1,,,
"Roe, Cleo",103,cleo,c.roe,"CS 1, late",,,
"Absent, Al",104,u4,al,CS 1,,,
"Student, Test",105,,0a1b,CS 1,,,
"""
PARTICIPANTS = """\
First name,Last name,ID number,Institution,Email address,Assignment: Rotary (Real)
Ben,Jones,u1,,ben@uni.edu,-
Anna,Miller,,,anna@uni.edu,-
Cleo,Roe,u3,,c.roe@uni.edu,-
"""


def table(text):
    assert not text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text, newline=""), strict=True))


def roster(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "people.csv"
    path.write_bytes(text.encode(encoding))
    return read_roster(path)


def class_of(*students):
    return make_class(students=students, graded=tuple(entry for name in students for entry in named(name)))


def named(student):
    """Return the entries of somebody of the sample class under a name of the roster."""
    sample = "ben" if "b" in student.casefold() else "cleo" if "c" in student.casefold() else "anna"
    return [replace(entry, student=student) for entry in entries_of(sample)]


class Canvas:
    """Reads a file by the rules of Canvas's importer: who is whom, which assignments there are, out of how many points.

    The rules are those of ``GradebookImporter``: Student and ID come first; what tells a person ends with Section; a
    title may end with the assignment's number; the line with «Points Possible» in its first cell has the maxima.
    """

    def __init__(self, text):
        header, *rows = table(text)
        assert "Student" in header[0]
        assert "ID" in header[1]
        width = 3
        if re.search(r"SIS\s+Login\s+ID", header[2]):
            width = 4
        elif re.search(r"SIS\s+User\s+ID", header[2]) and re.search(r"SIS\s+Login\s+ID", header[3]):
            width = 5 + bool(re.search(r"Integration\s+ID", header[4]))
        assert "Section" in header[width - 1]
        self.assignments = header[width:]
        assert not [name for name in self.assignments if re.search("Current|Final|Override", name)]
        (possible,) = [row for row in rows if "Points Possible" in row[0]]
        self.possible = dict(zip(self.assignments, possible[width:], strict=True))
        people = [row for row in rows if row is not possible]
        self.grades = {
            row[1] or row[header.index("SIS Login ID")]: dict(zip(self.assignments, row[width:], strict=True))
            for row in people
        }


# --- Canvas -------------------------------------------------------------------------------------------------------


def test_canvas_gets_the_grade_of_each_person_under_the_number_that_it_knows(tmp_path):
    export = canvas_csv(class_of("ben", "a.miller", "Cleo Roe"), roster(tmp_path, GRADEBOOK))

    read = Canvas(export.text)
    assert read.assignments == ["Rotary position embedding (4711)", "alibi"]
    assert read.possible == {"Rotary position embedding (4711)": "4", "alibi": "4"}
    assert read.grades == {
        "101": {"Rotary position embedding (4711)": "1", "alibi": "0"},
        "102": {"Rotary position embedding (4711)": "4", "alibi": "4"},
        "103": {"Rotary position embedding (4711)": "0", "alibi": "0"},
    }


def test_canvas_notes_say_who_gets_no_grade_and_which_maximum_differs(tmp_path):
    export = canvas_csv(class_of("ben", "nobody"), roster(tmp_path, GRADEBOOK))

    notes = "\n".join(export.notes)
    assert "No grade is exported for `nobody`: nobody in the list from Canvas has this name or number." in notes
    assert "4 in the list from Canvas without a folder here" in notes
    assert "is out of 10.00 in Canvas and out of 4 here" in notes


def test_canvas_keeps_every_column_that_tells_a_person(tmp_path):
    text = GRADEBOOK.replace("SIS Login ID,Section", "SIS Login ID,Integration ID,Section").replace(
        ",CS 1,", ",int,CS 1,"
    )
    text = text.replace(',"CS 1, late",', ',int,"CS 1, late",')

    read = Canvas(canvas_csv(class_of("ben"), roster(tmp_path, text)).text)

    assert list(read.grades) == ["101"]


def test_canvas_without_a_gradebook_takes_folders_for_logins():
    export = canvas_csv(class_of("anna", "ben"))

    assert Canvas(export.text).grades == {
        "anna": {"rotary": "4", "alibi": "4"},
        "ben": {"rotary": "1", "alibi": "0"},
    }
    assert "login names" in export.notes[0]


def test_a_list_that_is_no_gradebook_is_told_in_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="has no column `Student`"):
        canvas_csv(class_of("ben"), roster(tmp_path, PARTICIPANTS))


# --- Moodle -------------------------------------------------------------------------------------------------------


def test_moodle_gets_the_column_that_tells_everybody_apart(tmp_path):
    export = moodle_csv(class_of("ben", "Anna Miller", "u3"), roster(tmp_path, PARTICIPANTS))

    header, *rows = table(export.text)
    assert header == ["Email address", "rotary", "alibi"]  # not the ID number, which Anna has not
    assert rows == [["ben@uni.edu", "1", "0"], ["anna@uni.edu", "4", "4"], ["c.roe@uni.edu", "4", "4"]]
    notes = "\n".join(export.notes)
    assert "`Email address` in «Map from» and `useremail` in «Map to»" in notes
    assert "rotary 4, alibi 4" in notes


def test_moodle_without_a_list_takes_folders_for_addresses_or_user_names():
    assert table(moodle_csv(class_of("anna", "ben")).text)[0][0] == "Username"
    assert table(moodle_csv(class_of("anna@uni.edu", "ben@uni.edu")).text)[0][0] == "Email address"


def test_a_list_that_tells_nobody_apart_is_told_in_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="No column of the list tells everybody apart"):
        moodle_csv(class_of("ben"), roster(tmp_path, "First name,Last name\nBen,Jones\n"))


# --- who is whom --------------------------------------------------------------------------------------------------

PEOPLE = (
    {"Student": "Jones, Ben", "ID": "1"},
    {"Student": "Jones, Ann", "ID": "2"},
    {"Student": "Ben Jones", "ID": "3"},
)


def test_nobody_is_guessed():
    found = match(["Ben Jones", "ann-jones", "2", "x"], PEOPLE, ["Student", "ID"], "Canvas")

    assert found.people == {}
    assert [note.partition(":")[0] for note in found.notes[:3]] == [
        "No grade is exported for `x`",
        "No grade is exported for `Ben Jones`",
        "No grade is exported for `ann-jones`, `2`",
    ]


@pytest.mark.parametrize("name", ["jürgen müller", "Juergen", "MÜLLER, Jürgen", "mueller.j", "müller jürgen"])
def test_a_person_is_found_by_any_of_the_names(name):
    people = [{"Student": "Müller, Jürgen", "SIS Login ID": "mueller.j@uni.edu", "SIS User ID": "Juergen"}]

    assert match([name], people, people[0], "Canvas").people == {name: people[0]}


def test_many_names_are_counted_and_not_all_listed():
    (note,) = match([f"s{i}" for i in range(9)], [], ["ID"], "Canvas").notes

    assert "`s4` and 4 more: nobody" in note


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_list_is_read_with_any_separator_and_byte_order_mark(tmp_path, delimiter):
    table = roster(tmp_path, f'Student{delimiter}ID\n"Jones, Ben"{delimiter}1\n\n', "utf-8-sig")

    assert table.headers == ("Student", "ID")
    assert table.rows == ({"Student": "Jones, Ben", "ID": "1"},)


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\x00", b"one\n", b'a,b\n"open'])
def test_what_is_no_list_is_told_in_a_sentence(tmp_path, data):
    path = tmp_path / "people.csv"
    path.write_bytes(data)

    with pytest.raises(UsageError, match="Export the list of students again"):
        read_roster(path)


def test_a_list_that_is_not_there_is_told_in_a_sentence(tmp_path):
    with pytest.raises(UsageError, match="There is no file"):
        read_roster(tmp_path / "people.csv")


# --- harm ---------------------------------------------------------------------------------------------------------


def test_no_table_holds_a_formula_or_a_second_line():
    for text in (
        grades_csv(make_class()).removeprefix("\ufeff"),
        canvas_csv(make_class()).text,
        moodle_csv(make_class()).text,
    ):
        cells = [cell for row in table(text) for cell in row]
        assert f"'{FORMULA}" in cells
        assert HTML in cells  # text like any other
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@")) or "\n" in cell or "\x1b" in cell]


def test_a_formula_in_the_list_itself_is_neutralised(tmp_path):
    text = GRADEBOOK.replace('"Jones, Ben"', '"=cmd|x, Ben"').replace("Rotary position embedding (4711)", "=1+1")

    rows = table(canvas_csv(class_of("ben"), roster(tmp_path, text)).text)

    assert not [cell for row in rows for cell in row if cell.startswith("=")]


def test_every_student_has_a_line_when_there_is_no_list():
    assert len(table(canvas_csv(make_class()).text)) == len(STUDENTS) + 2
    assert len(table(moodle_csv(make_class()).text)) == len(STUDENTS) + 1
