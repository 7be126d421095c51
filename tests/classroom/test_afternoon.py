"""A teacher's afternoon as ``grader/classroom/README.md`` tells it: from nothing to grades, with students who hand in.

``GRADE_PICTURES=1 pytest tests/classroom/test_afternoon.py`` takes the guide's pictures anew.
"""

import csv
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

pytest.importorskip("nbgrader")

from nbgrader.api import Gradebook

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "grader" / "classroom" / "pictures"
SCRIPTS = Path(sys.executable).parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
QUIET = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--hide-scrollbars"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]

pytestmark = pytest.mark.timeout(600)


class Course:
    """A course, its students' folders, and the commands of both."""

    def __init__(self, root):
        self.root, self.folder = root, root / "llm101"
        self.environment = os.environ | {
            "PATH": f"{SCRIPTS}{os.pathsep}{os.environ['PATH']}",
            "JUPYTER_CONFIG_DIR": str(root / "jupyter"),
        }

    def run(self, *words, folder=None, code=0):
        command = [sys.executable, "-m", *words]
        place = folder or self.folder
        environment = self.environment | {"HOME": str(place)}  # nbgrader keeps what a student handed in there
        done = subprocess.run(command, cwd=place, capture_output=True, text=True, env=environment, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def settings(self, text):
        with (self.folder / "nbgrader_config.py").open("a", encoding="utf-8") as file:
            file.write(text)

    def hand_in(self, student, work):
        """Fetch, write and submit as a student who has an account of their own."""
        folder = self.root / student
        folder.mkdir()
        exchange = self.root / "exchange"
        (folder / "nbgrader_config.py").write_text(
            f"c = get_config()\nc.Exchange.root = {str(exchange)!r}\nc.CourseDirectory.course_id = 'llm101'\n"
            f"c.CourseDirectory.student_id = {student!r}\n",
            "utf-8",
        )
        self.run("nbgrader", "fetch_assignment", "week1", folder=folder)
        for path in (folder / "week1").glob("*.ipynb"):
            notebook = json.loads(path.read_text("utf-8"))
            work(notebook)
            path.write_text(json.dumps(notebook), "utf-8")
        self.run("nbgrader", "submit", "week1", folder=folder)


def solution_of(folder, slug):
    notebook = json.loads((folder / "source" / "week1" / f"{slug}.ipynb").read_text("utf-8"))
    return {cell["metadata"].get("nbgrader", {}).get("grade_id"): cell["source"] for cell in notebook["cells"]}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    course = Course(tmp_path_factory.mktemp("afternoon"))
    course.run("grader", "course", "init", "llm101", "--course-id", "llm101", folder=course.root)
    course.run("grader", "course", "build", "--assignment", "week1", "--slugs", "rotary")
    exchange = course.root / "exchange"
    exchange.mkdir()
    exchange.chmod(0o777)
    due = datetime.now(tz=UTC) - timedelta(hours=1)
    course.settings(f"\nc.Exchange.root = {str(exchange)!r}\nc.LateSubmissionPlugin.penalty_method = 'zero'\n")
    course.run("nbgrader", "generate_assignment", "week1")
    course.run("nbgrader", "release_assignment", "week1")
    right = solution_of(course.folder, "rotary")

    def rightly(notebook):
        for cell in notebook["cells"]:
            name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
            cell["source"] = right[name] if name.startswith("answer-") else cell["source"]

    def halves(notebook):
        written = (ROOT / "grader" / "learner" / "samples" / "rotary_halves.py").read_text("utf-8")
        for cell in notebook["cells"]:
            name = cell["metadata"].get("nbgrader", {}).get("grade_id", "")
            if name.startswith("answer-"):
                cell["source"], written = written, "# Both functions stand in the cell above."

    course.hand_in("ada", rightly)
    course.hand_in("ben", halves)
    course.run("nbgrader", "collect", "week1")
    late = course.folder / "submitted" / "carl" / "week1"
    shutil.copytree(course.folder / "submitted" / "ada" / "week1", late)
    (late / "timestamp.txt").write_text((due + timedelta(days=1)).strftime("%Y-%m-%d %H:%M:%S %Z"), "utf-8")
    with Gradebook(f"sqlite:///{course.folder / 'gradebook.db'}") as book:
        book.update_or_create_assignment("week1", duedate=(due + timedelta(hours=12)).replace(tzinfo=None))
    course.run("nbgrader", "autograde", "week1")
    course.run("nbgrader", "generate_feedback", "week1")
    course.run("nbgrader", "release_feedback", "week1")
    course.run("nbgrader", "export")
    return course


def test_students_get_their_work_back_graded_and_late_work_costs_what_the_plugin_says(course):
    with (course.folder / "grades.csv").open(encoding="utf-8") as file:
        rows = {row["student_id"]: row for row in csv.DictReader(file)}

    scores = {student: float(row["score"]) for student, row in rows.items()}

    assert scores["ada"] == 25
    assert 0 < scores["ben"] < 25
    assert float(rows["carl"]["raw_score"]) == 25
    assert scores["carl"] == 0


def test_a_student_fetches_feedback_that_names_the_mistake(course):
    course.run("nbgrader", "fetch_feedback", "week1", folder=course.root / "ben")

    (page,) = (course.root / "ben").rglob("rotary.html")

    assert "You pair feature i with feature i + K/2" in page.read_text("utf-8")


# --- what a person sees -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def formgrader(course):
    """The address of a running formgrader."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["jupyter_server", "--allow-root", "--no-browser", "--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}"]
    words += ["--IdentityProvider.token=", "--ServerApp.disable_check_xsrf=True"]
    words += ["--ServerApp.jpserver_extensions={'nbgrader.server_extensions.formgrader': True}"]
    process = subprocess.Popen(
        [sys.executable, "-m", *words],
        cwd=course.folder,
        env=course.environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        address = f"http://127.0.0.1:{port}/formgrader"
        _wait_for(address)
        yield address
    finally:
        process.terminate()
        process.wait(20)


def _wait_for(address):
    for _ in range(200):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"nobody answers at {address}")


@pytest.fixture
def browse(tmp_path):
    """Return a function that opens a page as a person would, and returns it as it looks in the end."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium")

    def open_page(address, picture, height):
        base = [CHROMIUM, *QUIET, f"--user-data-dir={tmp_path / 'profile'}", f"--window-size=1100,{height}"]
        base += ["--virtual-time-budget=10000"]
        shot = tmp_path / picture
        subprocess.run([*base, f"--screenshot={shot}", address], check=True, capture_output=True, timeout=120)
        if os.environ.get("GRADE_PICTURES"):
            PICTURES.mkdir(exist_ok=True)
            shutil.copy(shot, PICTURES / picture)
        assert shot.stat().st_size > 10_000
        done = subprocess.run([*base, "--dump-dom", address], check=True, capture_output=True, text=True, timeout=120)
        return done.stdout

    return open_page


def test_the_formgrader_shows_the_scores(formgrader, browse):
    page = browse(f"{formgrader}/gradebook/week1/rotary", "formgrader-scores.png", 560)

    assert "25 / 27" in page
    assert "ada" in page


def test_the_formgrader_shows_what_the_judge_found(course, formgrader, browse):
    with urllib.request.urlopen(f"{formgrader}/api/submitted_notebooks/week1/rotary", timeout=30) as answer:
        (mine,) = [one for one in json.load(answer) if one["student"] == "ben"]

    page = browse(f"{formgrader}/submissions/{mine['id']}", "formgrader-findings.png", 2900)

    assert "You pair feature i with feature i + K/2" in page
    assert "Model answer" in page


def test_feedback_is_a_page_that_a_student_can_read(course, browse):
    page = course.folder / "feedback" / "ben" / "week1" / "rotary.html"

    shown = browse(page.as_uri(), "feedback.png", 2300)

    assert "What your code does" in shown


def test_the_same_folder_is_graded_without_nbgrader(course, browse):
    course.run("grader", "batch", "submitted", "--out", "out", "--title", "Week 1", code=1)
    shown = browse((course.folder / "out" / "report.html").as_uri(), "class.png", 1500)

    with (course.folder / "grades.csv").open(encoding="utf-8") as file:
        by_nbgrader = {row["student_id"]: float(row["raw_score"]) for row in csv.DictReader(file)}
    with (course.folder / "out" / "grades.csv").open(encoding="utf-8-sig") as file:
        by_batch = {row["student"]: float(row["total"]) for row in csv.DictReader(file)}

    assert by_batch == by_nbgrader
    assert "You pair feature i with feature i + K/2" in shown
