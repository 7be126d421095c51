"""A course from nothing to exported grades, with nbgrader itself, and students of every kind in it."""

import copy
import csv
import functools
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from grader.bank import load_exercises
from grader.errors import EngineError, SandboxError
from grader.model import ExerciseResult, Sandbox

pytest.importorskip("nbgrader")

from bs4 import BeautifulSoup
from nbgrader.api import Gradebook
from nbgrader.nbgraderformat import MetadataValidator

from grader.classroom.course import judge

BANK = {exercise.slug: exercise for exercise in load_exercises()}
SLUGS = ("rotary", "masks")
ANSWER, CHECKS = re.compile("answer-"), re.compile("checks-")
SCRIPTS = Path(sys.executable).parent
ENVIRONMENT = os.environ | {"PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}"}  # nbgrader calls alembic

pytestmark = pytest.mark.timeout(600)


def run(folder, *words, code=0):
    """Run a command as a teacher would; return what it said."""
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    said = done.stdout + done.stderr
    assert done.returncode == code, said
    return said


def nbgrader(folder, *words, code=0):
    return run(folder, sys.executable, "-m", "nbgrader", *words, code=code)


def grade(folder, *words, code=0):
    return run(folder, sys.executable, "-m", "grader", *words, code=code)


def read(path):
    return json.loads(path.read_text("utf-8"))


def name_of(cell):
    return cell["metadata"].get("nbgrader", {}).get("grade_id", "")


def cells(notebook, pattern):
    return [cell for cell in notebook["cells"] if pattern.match(name_of(cell))]


def code(source, **metadata):
    return {"cell_type": "code", "id": f"x{abs(hash(source)):x}"[:20], "metadata": metadata, "source": source} | {
        "outputs": [],
        "execution_count": None,
    }


# --- students: each gets the two released notebooks, with the right answers in them, and spoils them ------------------


def honest(notebook):
    return notebook


def blank(notebook):
    return notebook["released"]


def wrong(notebook):
    """Pairs features the other way round; masks are upside down."""
    for cell in cells(notebook, ANSWER):
        cell["source"] = cell["source"].replace("x[..., 0::2], x[..., 1::2]", "x.chunk(2, -1)")
        cell["source"] = cell["source"].replace("torch.stack((a * cos - b * sin, a * sin + b * cos), dim=-1)", "X")
        cell["source"] = cell["source"].replace("turned = X", "turned = torch.cat((a*cos - b*sin, a*sin + b*cos), -1)")
        cell["source"] = cell["source"].replace("return turned.flatten(-2)", "return turned")
    return notebook


def writes_its_own_points(notebook):
    """The answers are missing, and every number that a student can reach is full marks."""
    notebook = notebook["released"]
    for cell in cells(notebook, CHECKS):
        cell["source"] = "1000.0"
        cell["metadata"]["nbgrader"]["points"] = 1000
        cell["outputs"] = [
            {"output_type": "execute_result", "data": {"text/plain": "6.0"}, "metadata": {}, "execution_count": 1}
        ]
    notebook["cells"].append(code("999.0", nbgrader={"grade_id": "mine", "grade": True, "points": 99, "locked": True}))
    return notebook


def fights_the_grader(notebook):
    notebook = notebook["released"]
    cells(notebook, ANSWER)[0]["source"] = (
        "import sys, os\n"
        "print('25.0')\n"
        "def cheat(*a, **k): return 1000.0\n"
        "for name, module in list(sys.modules.items()):\n"
        "    if name.startswith(('grader', 'nbgrader', 'pytest')):\n"
        "        for key in list(vars(module)): setattr(module, key, cheat)\n"
        "rotary_angles = apply_rotary = causal_mask = padding_mask = combine_masks = cheat\n"
    )
    return notebook


def not_json(notebook):
    return "{ this is no notebook"


def no_metadata(notebook):
    """Copied by hand into a new notebook: code without a word from nbgrader."""
    plain = [{"cell_type": cell["cell_type"], "source": cell["source"]} for cell in notebook["cells"]]
    return {"nbformat": 4, "nbformat_minor": 2, "cells": plain}


def copied_cells(notebook):
    """Every answer is there twice: first a wrong one, then the right one."""
    doubled = []
    for cell in notebook["cells"]:
        if ANSWER.match(name_of(cell)):
            first = copy.deepcopy(cell)
            first["source"] = re.sub(r"(?m)^def (\w+)\(.*", r"def \1(*a, **k): return None", first["source"])[:60]
            doubled.append(first)
        doubled.append(cell)
    notebook["cells"] = doubled
    return notebook


def deleted_cells(notebook):
    """Nothing but the answers is left; even the imports are gone."""
    notebook["cells"] = cells(notebook, ANSWER)
    return notebook


def retyped_cells(notebook):
    for cell in notebook["cells"]:
        if name_of(cell):
            cell["cell_type"] = "raw" if cell["cell_type"] == "markdown" else "markdown"
            cell["attachments"] = {"a.png": {"image/png": "AAAA"}}
            cell.pop("outputs", None), cell.pop("execution_count", None)
    return notebook


def reordered_cells(notebook):
    notebook["cells"].reverse()
    return notebook


def magics_and_helpers(notebook):
    """Helper cells that the answer needs, experiments that would fail, and what only IPython understands."""
    for cell in cells(notebook, ANSWER):
        cell["source"] = "%matplotlib inline\n!pip list\n" + cell["source"].replace(
            "### BEGIN SOLUTION", "assert CHUNK.get('size') == WIDTH * 2, helper()"
        )
    notebook["cells"].insert(
        0, code("%load_ext autoreload\nWIDTH = int('21')\nCHUNK = dict(size=WIDTH)\nCHUNK['size'] *= 2")
    )
    notebook["cells"].insert(1, code("def helper():\n    return 'needed'"))
    notebook["cells"].append(code("broken_experiment = rotary_angles('nonsense')\nraise SystemExit"))
    notebook["cells"].append(code("%%bash\nrm -rf everything"))
    return notebook


def forged_metadata(notebook):
    """Every note of nbgrader's and of ours is of another type, and ids, formats and languages are nonsense."""
    values = itertools.cycle(["x", [1], {"a": {}}, None, 1e300, float("nan"), -5, True])
    for cell in notebook["cells"]:
        note = cell["metadata"].get("nbgrader", {})
        note |= {key: next(values) for key in (*note, "task", "cell_type") if key != "grade_id"}
        cell |= {"id": "same", "attachments": {"a.png": [1]}}
    notebook["cells"][0]["metadata"] = "none"
    notebook["metadata"] |= {"grade": {"broken": "<b>so it says</b>", "slug": [1]}, "kernelspec": "R"}
    return notebook | {"nbformat": 9, "nbformat_minor": None}


def failing_experiments(notebook):
    """What a kernel shrugs off, or only a kernel knows, before and behind every answer."""
    before = (
        "from __future__ import annotations\nimport pandas_of_mine as pd\nget_ipython().run_line_magic('time', '')\n"
    )
    behind = "\ndisplay(pd)\nawait pd.later()\nassert 1 == 2\nwhile True:\n    exit()\ninput()\nimport os; os._exit(0)"
    last = cells(notebook, ANSWER)[-1]
    last["source"] = "if __name__ == '__main__':\n" + "\n".join(f"    {row}" for row in last["source"].split("\n"))
    for cell in cells(notebook, ANSWER):
        cell["source"] = before + cell["source"] + behind
    return notebook


def broken_definitions(notebook):
    for cell in cells(notebook, ANSWER):
        cell["source"] = f"@broken\n{cell['source']}"
    return notebook


HTML = "</pre><script>alert('me')</script><img src=x onerror=alert(1)>[a](java&#115;cript:alert(2))"


def writes_html(notebook):
    """Whatever a student can write, wherever it is shown; and the words by which nbgrader finds mark schemes."""
    cells(notebook, ANSWER)[0]["source"] += f"\nprint({HTML!r})\nraise ValueError({HTML!r})"
    scheme = f"{HTML}\n=== BEGIN MARK SCHEME ===\n2 of 2\n\n{HTML}"
    for kind in "markdown", "raw":
        notebook["cells"].append({"cell_type": kind, "id": kind, "metadata": {}, "source": scheme})
    return notebook


RIGHT = [honest, no_metadata, copied_cells, deleted_cells, retyped_cells, reordered_cells, magics_and_helpers]
RIGHT += [forged_metadata, failing_experiments, writes_html]
NOTHING = [blank, writes_its_own_points, fights_the_grader, not_json, broken_definitions]
STUDENTS = [*RIGHT, *NOTHING, wrong]


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """A course of one assignment that everybody has handed in, graded, with feedback and grades."""
    root = tmp_path_factory.mktemp("teacher")
    said = {"init": grade(root, "course", "init", "llm", "--course-id", "llm101")}
    folder = root / "llm"
    said["build"] = grade(folder, "course", "build", "--assignment", "week1", "--slugs", *SLUGS)
    said["generate"] = nbgrader(folder, "generate_assignment", "week1")
    for student in STUDENTS:
        hand_in(folder, student)
    spoil_one(folder)
    hand_in_odd_files(folder)
    said["autograde"] = nbgrader(folder, "autograde", "week1")
    said["feedback"] = nbgrader(folder, "generate_feedback", "week1")
    nbgrader(folder, "export", "--to", "grades.csv")
    return SimpleNamespace(folder=folder, said=said)


def hand_in(folder, student):
    place = folder / "submitted" / student.__name__ / "week1"
    place.mkdir(parents=True)
    for slug in SLUGS:
        released = read(folder / "release" / "week1" / f"{slug}.ipynb")
        source = {name_of(cell): cell["source"] for cell in read(folder / "source/week1" / f"{slug}.ipynb")["cells"]}
        notebook = copy.deepcopy(released) | {"released": released}
        for cell in cells(notebook, ANSWER):
            cell["source"] = source[name_of(cell)]
        made = student(notebook)
        if isinstance(made, dict):
            made.pop("released", None)
        (place / f"{slug}.ipynb").write_text(made if isinstance(made, str) else json.dumps(made), "utf-8")


def spoil_one(folder):
    """Let one student hand in one good and one damaged notebook, two of one name, and one late."""
    place = folder / "submitted" / "half" / "week1"
    place.mkdir(parents=True)
    good = folder / "submitted" / "honest" / "week1" / "rotary.ipynb"
    (place / "rotary.ipynb").write_bytes(good.read_bytes())
    (place / "rotary (1).ipynb").write_bytes(b"[]")
    (place / "masks.ipynb").write_bytes(b"\x00\xff" * 1000)


def hand_in_odd_files(folder):
    """Let one student hand in what nbgrader cannot copy, one notebooks of other names, and one in a strange folder."""
    good = (folder / "submitted" / "honest" / "week1" / "masks.ipynb").read_bytes()
    for student in "odd_files", "renamed", "two\nlines":
        place = folder / "submitted" / student / "week1"
        place.mkdir(parents=True)
        (place / ("masks (1).ipynb" if student == "renamed" else "masks.ipynb")).write_bytes(good)
    place = folder / "submitted" / "odd_files" / "week1"
    os.mkfifo(place / "pipe.txt")
    os.mkfifo(place / "rotary.ipynb")
    (place / "link.csv").symlink_to("nowhere")
    (place / "kit.zip").mkdir()
    (place / "kit.zip" / "torch.py").touch()
    (place / "timestamp.txt").write_bytes(b"yesterday, \xff honestly")


def points(course, student, slug):
    """Return what the gradebook holds: points for code, and points at most."""
    with Gradebook(f"sqlite:///{course.folder / 'gradebook.db'}") as book:
        found = book.find_submission_notebook(slug, "week1", student)
        return found.code_score, found.max_code_score


def outputs(course, student, slug):
    notebook = read(course.folder / "autograded" / student / "week1" / f"{slug}.ipynb")
    return "\n".join(
        "".join(output["data"]["text/plain"])
        for cell in cells(notebook, CHECKS)
        for output in cell["outputs"]
        if output["output_type"] == "display_data"
    )


# --- what is handed out -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", SLUGS)
def test_notebooks_are_valid_by_the_schemas_of_jupyter_and_nbgrader(course, slug):
    for stage in "source", "release":
        notebook = nbformat.read(course.folder / stage / "week1" / f"{slug}.ipynb", as_version=4)

        nbformat.validate(notebook)
        MetadataValidator().validate_nb(notebook)


@pytest.mark.parametrize("slug", SLUGS)
def test_a_notebook_leads_from_the_brief_over_answers_to_a_question(course, slug):
    notebook = read(course.folder / "source" / "week1" / f"{slug}.ipynb")
    exercise = BANK[slug]

    names = [name_of(cell) for cell in notebook["cells"] if name_of(cell)]
    worth = sum(cell["metadata"]["nbgrader"]["points"] for cell in cells(notebook, CHECKS))

    assert exercise.title in notebook["cells"][0]["source"]
    assert [name for name in names if ANSWER.match(name)] == [f"answer-{name}" for name in exercise.names]
    assert names.index("try") < names.index("checks-01") < names.index("question")
    assert worth == exercise.max_points
    assert all("### BEGIN SOLUTION" in cell["source"] for cell in cells(notebook, ANSWER))


@pytest.mark.parametrize("slug", SLUGS)
def test_nothing_secret_is_handed_out(course, slug):
    folder = course.folder / "release" / "week1"
    with zipfile.ZipFile(folder / "kit.zip") as kit:
        handed_out = {name: kit.read(name).decode() for name in kit.namelist()}
    handed_out |= {path.name: path.read_text("utf-8") for path in folder.glob("*.ipynb")}
    everything = "\n".join(handed_out.values())

    key = BANK[slug].folder
    hidden = [check.name for check in BANK[slug].checks if not check.visible]
    written = re.findall(r"### BEGIN SOLUTION\n(.*?)### END SOLUTION", (key / "solution.py").read_text(), re.DOTALL)
    lines = {line.strip() for part in written for line in part.splitlines() if len(line.strip()) > 40}
    beliefs = re.findall(r'"""(.+)', (key / "variants.py").read_text())[1:]
    secrets = [*hidden, *lines, *beliefs, BANK[slug].follow_ups[0].answer, "def probe"]

    assert [secret for secret in secrets if secret in everything] == []
    assert not [name for name in handed_out if "solutions" in name or name.endswith(f"{slug}/variants.py")]


def test_students_can_try_the_visible_checks_without_the_answer_keys(course, tmp_path):
    notebook = read(course.folder / "submitted" / "wrong" / "week1" / "rotary.ipynb")
    sources = ["".join(cell["source"]) for cell in notebook["cells"] if cell["cell_type"] == "code"]
    (tmp_path / "kit.zip").write_bytes((course.folder / "release" / "week1" / "kit.zip").read_bytes())
    script = "import sys; sys.path = [p for p in sys.path if 'transformer' not in p]\n" + "\n".join(sources)
    (tmp_path / "notebook.py").write_text(script, "utf-8")
    site = next(path for path in sys.path if path.endswith("site-packages"))
    bare = f"import sys; sys.path[:0] = ['kit.zip', {site!r}]; exec(open('notebook.py').read())"

    said = run(tmp_path, sys.executable, "-S", "-c", bare)

    assert "✓ three positions and two pairs: six angles that can be done on paper" in said
    assert "✗ one token, four features, turned on paper" in said
    assert "5 of 6 visible checks passed" in said
    assert said.count("Nothing to do here: these checks run when your work is graded.") == 5


# --- what is graded ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("student", RIGHT, ids=lambda student: student.__name__)
def test_a_right_answer_gets_all_points_whatever_was_done_to_the_notebook(course, student, slug):
    earned, most = points(course, student.__name__, slug)

    assert earned == most == BANK[slug].max_points, outputs(course, student.__name__, slug)


@pytest.mark.parametrize("slug", SLUGS)
@pytest.mark.parametrize("student", NOTHING, ids=lambda student: student.__name__)
def test_no_answer_gets_no_point_whatever_the_notebook_says(course, student, slug):
    assert points(course, student.__name__, slug) == (0, BANK[slug].max_points)


def test_a_wrong_answer_gets_part_of_the_points_and_is_told_what_it_does(course):
    earned, most = points(course, "wrong", "rotary")
    said = outputs(course, "wrong", "rotary")

    assert 0 < earned < most
    assert "You pair feature i with feature i + K/2" in said
    assert "✗ one token, four features, turned on paper  0/2" in said


def test_one_damaged_notebook_costs_only_itself_and_is_named(course):
    assert points(course, "half", "rotary")[0] == BANK["rotary"].max_points
    assert points(course, "half", "masks")[0] == 0
    assert "masks.ipynb could not be read as a notebook" in course.said["autograde"]
    assert "not UTF-8" in outputs(course, "half", "masks")
    assert re.search(r"Skipping unknown notebook: .*rotary \(1\)\.ipynb", course.said["autograde"])


def test_odd_files_cost_nothing_but_themselves_and_are_named(course):
    said = course.said["autograde"]

    assert points(course, "odd_files", "masks")[0] == BANK["masks"].max_points
    assert points(course, "odd_files", "rotary")[0] == 0
    assert "not a plain file" in outputs(course, "odd_files", "rotary")
    assert not [name for name in ("pipe.txt", "link.csv", "kit.zip") if f"{name!r} in " not in said]
    assert re.search(r"timestamp\.txt in .*odd_files/week1 holds no time", said)
    assert re.search(r"renamed/week1 holds no notebook of this assignment, but 'masks \(1\)\.ipynb'", said)
    assert re.search(r"two\\nlines/week1' has a line break in its name", said)


def test_an_answer_that_cannot_be_loaded_is_told_why(course):
    said = outputs(course, "broken_definitions", "rotary")

    assert points(course, "broken_definitions", "rotary")[0] == 0
    assert "Your code could not be run" in said
    assert "name 'broken' is not defined (cell 3, line 1)" in said


def test_what_was_left_out_of_an_answer_is_told(course):
    said = outputs(course, "failing_experiments", "rotary")

    assert "What was asked for is graded, without this" in said
    assert "No module named 'pandas_of_mine'" in said


def test_every_output_says_who_graded_and_how_well_the_code_was_locked_up(course):
    said = outputs(course, "honest", "rotary")

    assert len(re.findall(r"Judged by the kit .* sandbox: full; seed: \d+\.", said)) == 5


def test_nothing_of_a_students_is_changed(course):
    before = course.folder / "submitted" / "not_json" / "week1" / "rotary.ipynb"

    assert before.read_text() == "{ this is no notebook"


def test_no_kernel_was_started(course):
    assert "IPKernelApp" not in course.said["autograde"]
    assert "Traceback" not in course.said["autograde"]


# --- what comes after -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("slug", SLUGS)
def test_feedback_shows_the_findings_and_nothing_secret(course, slug):
    page = (course.folder / "feedback" / "wrong" / "week1" / f"{slug}.html").read_text("utf-8")

    assert BANK[slug].checks[0].title in page
    assert "Judged by the kit" in page
    assert "MARK SCHEME" not in page
    assert BANK[slug].follow_ups[0].answer[:40] not in page
    assert not [check.name for check in BANK[slug].checks if not check.visible and check.name in page]


@pytest.mark.parametrize("slug", SLUGS)
def test_nothing_that_a_student_writes_is_active_in_a_page(course, slug):
    page = BeautifulSoup(
        (course.folder / "feedback" / "writes_html" / "week1" / f"{slug}.html").read_text(), "html.parser"
    )

    active = [tag for tag in page.find_all("script") if "alert" in tag.get_text()]
    active += [tag for tag in page.find_all(True) for value in tag.attrs.values() if "alert" in str(value)]

    assert not active
    assert page.get_text().count("alert('me')") == 7  # twice in code, in what it raised, twice in two cells of text


def test_grades_are_exported_with_what_a_person_gave_for_the_question(course):
    with Gradebook(f"sqlite:///{course.folder / 'gradebook.db'}") as book:
        grade_of = book.find_grade("question", "rotary", "week1", "honest")
        grade_of.manual_score, grade_of.needs_manual_grade = 1.5, False
        book.db.commit()
    nbgrader(course.folder, "export", "--to", "again.csv")

    with (course.folder / "again.csv").open(encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}

    code_points = sum(BANK[slug].max_points for slug in SLUGS)
    assert float(rows["honest"]["score"]) == code_points + 1.5
    assert float(rows["honest"]["max_score"]) == code_points + 4
    assert float(rows["writes_its_own_points"]["score"]) == 0


def test_mark_schemes_are_there_for_whoever_grades(course):
    text = (course.folder / "autograded" / "honest" / "week1" / "rotary.ipynb").read_text("utf-8")

    assert "Model answer" in text


# --- a teacher's wishes -----------------------------------------------------------------------------------------------


@pytest.fixture
def copied(course, tmp_path):
    """The same course in another folder, to be graded in another way."""
    folder = tmp_path / "llm"
    shutil.copytree(course.folder, folder, ignore=shutil.ignore_patterns("autograded", "feedback", "odd_files"))
    return SimpleNamespace(folder=folder)


def regrade(copied, student, *words, code=0):
    return nbgrader(copied.folder, "autograde", "week1", f"--student={student}", *words, code=code)


def test_titles_keeps_messages_and_diagnoses_back(copied):
    regrade(copied, "wrong", "--Judge.feedback=titles")

    said = outputs(copied, "wrong", "rotary")
    assert "✗ one token, four features, turned on paper  0/2\n" in said
    assert "You pair feature i" not in said
    assert "were expected" not in said


def test_score_keeps_even_the_titles_back(copied):
    regrade(copied, "wrong", "--Judge.feedback=score")

    said = outputs(copied, "wrong", "rotary")
    assert "one token" not in said
    assert re.match(r"\d of 6 points\n", said)


def test_an_earlier_grading_can_be_repeated(copied):
    regrade(copied, "wrong", "--Judge.seed=7")
    first = outputs(copied, "wrong", "rotary")
    regrade(copied, "wrong", "--Judge.seed=7", "--force")

    assert "seed: 7." in first
    assert outputs(copied, "wrong", "rotary") == first


def test_grading_again_keeps_what_a_person_gave(copied):
    with Gradebook(f"sqlite:///{copied.folder / 'gradebook.db'}") as book:
        for name, score in (("question", 1.5), ("checks-01", 0.5)):
            book.find_grade(name, "masks", "week1", "honest").manual_score = score
        book.find_comment("question", "masks", "week1", "honest").manual_comment = "well put"
        book.db.commit()

    regrade(copied, "honest", "--force", "--notebook=masks")

    with Gradebook(f"sqlite:///{copied.folder / 'gradebook.db'}") as book:
        grades = {grade.name: grade for grade in book.find_submission_notebook("masks", "week1", "honest").grades}
        assert (grades["question"].manual_score, grades["checks-01"].manual_score) == (1.5, 0.5)
        assert grades["checks-01"].needs_manual_grade
        assert book.find_comment("question", "masks", "week1", "honest").manual_comment == "well put"


def test_a_test_cell_that_cannot_be_judged_earns_nothing_and_is_named(copied):
    source = copied.folder / "source" / "week1" / "masks.ipynb"
    notebook = read(source)
    own, renamed = cells(notebook, CHECKS)[:2]
    own["source"] = "assert True"
    renamed["source"] = 'from grader.classroom.cell import grade_section\ngrade_section("masks", "of old", globals())'
    source.write_text(json.dumps(notebook), "utf-8")
    nbgrader(copied.folder, "generate_assignment", "week1", "--force")

    said = regrade(copied, "honest", "--notebook=masks")

    earned, most = points(copied, "honest", "masks")
    assert earned == most - sum(cell["metadata"]["nbgrader"]["points"] for cell in (own, renamed))
    assert "The test cell 'checks-01' does not call grade_section" in said
    assert "The test cell 'checks-02' asks for the checks 'of old' of 'masks', which no answer key has" in said


def test_a_teacher_may_change_what_a_cell_is_worth(copied):
    source = copied.folder / "source" / "week1" / "rotary.ipynb"
    notebook = read(source)
    for cell in cells(notebook, CHECKS):
        cell["metadata"]["nbgrader"]["points"] *= 10
    source.write_text(json.dumps(notebook), "utf-8")
    nbgrader(copied.folder, "generate_assignment", "week1", "--force")

    regrade(copied, "honest")

    assert points(copied, "honest", "rotary") == (250, 250)


def test_a_notebook_that_a_teacher_changed_is_not_overwritten(copied):
    source = copied.folder / "source" / "week1" / "rotary.ipynb"
    source.write_text(source.read_text("utf-8").replace("## A question", "## My question"), "utf-8")

    said = grade(copied.folder, "course", "build", "--assignment", "week1", "--slugs", "rotary,masks")
    kept = source.read_text("utf-8")
    grade(copied.folder, "course", "build", "--assignment", "week1", "--slugs", "rotary", "--force")

    assert "kept as you changed them: rotary.ipynb" in " ".join(said.split())
    assert "My question" in kept
    assert "My question" not in source.read_text("utf-8")
    assert "My question" in source.with_suffix(".ipynb.bak").read_text("utf-8")


def test_a_weak_sandbox_is_refused_unless_allowed(copied, monkeypatch):
    weak = SimpleNamespace(sandbox=Sandbox("partial", ("seccomp",)))
    monkeypatch.setattr(judge, "_grader", lambda: weak)
    notebook = nbformat.read(copied.folder / "release" / "week1" / "masks.ipynb", as_version=4)
    resources = {"nbgrader": {"db_url": f"sqlite:///{copied.folder / 'gradebook.db'}"}}
    resources["nbgrader"] |= {"assignment": "week1", "notebook": "masks", "student": "honest"}

    with pytest.raises(SandboxError, match=r"only at the tier `partial`.*grades all the same"):
        judge.Judge().preprocess(notebook, resources)


def test_a_grader_that_ended_is_started_anew_for_the_next_student(copied, monkeypatch):
    class Grader:
        sandbox, seed, closed = Sandbox("full", ()), 7, 0

        def grade(self, work, seed):
            if not Grader.closed:
                raise EngineError("gone")
            return (ExerciseResult.unrunnable(exercise, "masks.ipynb", "graded") for exercise, _ in work)

        def close(self):
            Grader.closed += 1

    monkeypatch.setattr(judge, "_grader", functools.cache(Grader))
    notebook = nbformat.read(copied.folder / "release" / "week1" / "masks.ipynb", as_version=4)
    resources = {"nbgrader": {"db_url": f"sqlite:///{copied.folder / 'gradebook.db'}"}}
    resources["nbgrader"] |= {"assignment": "week1", "notebook": "masks", "student": "honest"}

    graded, _ = judge.Judge().preprocess(notebook, resources)

    assert "graded" in cells(graded, CHECKS)[0]["outputs"][0]["data"]["text/plain"]
    assert Grader.closed == 1


def test_the_notebooks_work_with_nbgraders_own_execute(copied):
    config = copied.folder / "nbgrader_config.py"
    stock = re.sub(r"(?s)c\.Autograde\.\w+ = .*?(?=\nc\.Judge)", "", config.read_text("utf-8"))
    config.write_text(stock, "utf-8")

    said = regrade(copied, "honest", "--notebook=masks") + regrade(copied, "blank", "--notebook=masks")

    assert "IPKernelApp" in said
    assert points(copied, "honest", "masks")[0] == BANK["masks"].max_points
    assert points(copied, "blank", "masks")[0] == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["init", ".", "--course-id", "x"], "is a course"),
        (["init", "new", "--course-id", "../x"], "will not do as the name of the course"),
        (["build", "--slugs", "rotary"], "Give the assignment a name"),
        (["build", "--assignment", "a+b"], "will not do as the name of the assignment"),
        (["build", "--assignment", "a", "--slugs", "rotory"], "Did you mean `rotary`?"),
    ],
)
def test_wrong_words_get_a_sentence(course, words, message):
    said = grade(course.folder, "course", *words, code=2)

    assert message in " ".join(said.split())


def test_building_outside_of_a_course_says_how_to_make_one(tmp_path):
    assert "grade course init DIR" in " ".join(grade(tmp_path, "course", "build", code=2).split())
