"""``grade course export`` and its like: a class's results, or an assignment, in the forms that other systems take."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from grader.bank import load_exercises
from grader.classroom.exports import FOLDERS, FORMS
from grader.classroom.exports.roster import Export, read_roster
from grader.classroom.model import ClassReport
from grader.errors import UsageError
from grader.report.files import make_folder, write_whole


def export_class(out: Path, form: str, target: Path, roster: Path | None, feedback: str = "full") -> int:
    """Write the results in ``out`` in another form, and say what the teacher should know.

    Args:
        out: Folder of the results, from ``grade batch``.
        form: One of ``FORMS``.
        target: A file for the whole class, or for ``junit``, ``ctrf`` and ``gradescope`` a folder of students' files.
        roster: The list of people that Canvas or Moodle exports.
        feedback: What students' files tell, ``full``, ``titles`` or ``score``.
    """
    from grader.classroom.batch.store import load_class

    if roster is not None and form not in {"canvas", "moodle"}:
        raise UsageError(f"`--roster` goes with canvas and moodle; {form} needs no list of people.")
    report = load_class(out)
    if form in FOLDERS:
        make_folder(target)
        for name, text in _students_files(report, form, feedback):
            write_whole(target / name, text)
        _say(f"{len(report.students)} files written to {target}/.")
        return 0
    export = _whole(report, form, roster, feedback)
    write_whole(target, export.text)
    _say(f"Written to {target}.", *export.notes)
    return 0


def dispute_command(out: Path, student: str, submissions: Path, target: Path | None = None) -> int:
    """Write the bundle for a disputed result, by default into ``out/disputes/``."""
    from grader.classroom.batch.store import load_class
    from grader.classroom.dispute import bundle

    path = bundle(load_class(out), student, target or out / "disputes", submissions)
    _say(f"Written to {path}.", "Its README.md has the command that shows the result again.")
    return 0


def gradescope_zip(slugs: Sequence[str], target: Path, feedback: str = "full", weak: bool = False) -> int:
    """Write the autograder zip for an assignment on Gradescope."""
    from grader.classroom.exports.gradescope_zip import autograder_zip

    exercises = load_exercises()
    write_whole(target, autograder_zip(_asked(slugs), exercises, feedback=feedback, weak=weak))
    _say(f"Written to {target}.", "Upload it as the assignment's autograder. Its README.md says what to look at first.")
    return 0


def github_workflow(slugs: Sequence[str], target: Path, feedback: str = "full") -> int:
    """Write the workflow that grades at every push on GitHub."""
    from grader.classroom.exports.github import workflow

    text = workflow(_asked(slugs), load_exercises(), feedback=feedback)
    write_whole(target, text)
    _say(f"Written to {target}.", "Its first lines say where it goes and which secret it needs.")
    return 0


def _asked(slugs: Sequence[str]) -> Sequence[str]:
    if not slugs:
        raise UsageError("Say which exercises the assignment has, as in `rotary alibi`. `grade list` shows all.")
    return slugs


def _whole(report: ClassReport, form: str, roster: Path | None, feedback: str) -> Export:
    from grader.classroom.exports.canvas import canvas_csv
    from grader.classroom.exports.moodle import moodle_csv
    from grader.classroom.grades import grades_csv

    people = read_roster(roster) if roster is not None else None
    match form:
        case "csv":
            return Export(grades_csv(report))
        case "canvas":
            return canvas_csv(report, people)
        case "moodle":
            return moodle_csv(report, people)
        case "json":
            return Export(_class_json(report, feedback))
        case _:
            raise UsageError(f"There is no form `{form}`. Choose one of {', '.join(FORMS)}.")


def _class_json(report: ClassReport, feedback: str) -> str:
    from grader.classroom.pages import student_json
    from grader.classroom.statistics import by_student
    from grader.report.json import write_json

    pages = [json.loads(student_json(report, name, entries, feedback)) for name, entries in by_student(report).items()]
    return write_json({"schema": 1, "title": report.title, "notes": list(report.notes), "students": pages})


def _students_files(report: ClassReport, form: str, feedback: str) -> list[tuple[str, str]]:
    from grader.classroom.names import page_name
    from grader.classroom.pages import student_report
    from grader.classroom.statistics import by_student
    from grader.commands.grade import write_as

    return [
        (f"{page_name(name)}.{FOLDERS[form]}", write_as(form, student_report(report, entries), feedback))
        for name, entries in by_student(report).items()
    ]


def _say(first: str, *notes: str) -> None:
    from grader.report.layout import coded, make_console, print_text

    console = make_console(sys.stdout)
    print_text(console, coded(first))
    for note in notes:
        print_text(console, coded(note), 2)
