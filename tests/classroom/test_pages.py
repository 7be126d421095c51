import csv
import io
import json
import re
import shutil
import subprocess
import sys
import time
import unicodedata
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent / "sample"))

from seven import (
    BELIEF,
    BROKEN,
    EXERCISES,
    FORMULA,
    HTML,
    STUDENTS,
    graded,
    make_class,
    result,
)

from grader.classroom.grades import safe_cell
from grader.classroom.names import page_name
from grader.classroom.pages import write_pages
from grader.classroom.statistics import summarise
from grader.errors import UsageError
from grader.model import Verdict

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
VOID = {"meta", "br", "link", "img", "hr", "input"}


class Outline(HTMLParser):
    """Reads a page: its tags with attributes, its text, and what is not closed."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.words, self.open = [], [], []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def named(self, name):
        return [attrs for tag, attrs in self.tags if tag == name]


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class") / "out"
    write_pages(make_class(), folder)
    return folder


def pages(out):
    return [out / "report.html", *sorted((out / "students").glob("*.html"))]


def page_of(out, student):
    return (out / "students" / f"{page_name(student)}.html").read_text("utf-8")


# --- files --------------------------------------------------------------------------------------------------------


def test_every_student_gets_two_files(out):
    names = {path.name for path in (out / "students").iterdir()}

    assert names == {f"{page_name(student)}.{kind}" for student in STUDENTS for kind in ("json", "html")}
    assert {path.name for path in out.iterdir()} == {
        "grades.csv",
        "report.html",
        "students",
    }


def test_a_students_json_is_the_schema_with_name_digests_and_notes(out):
    data = json.loads((out / "students" / "ben.json").read_text("ascii"))

    schema = {"schema", "kit", "seed", "sandbox", "versions", "exercises"}
    assert set(data) == schema | {"student", "hashes", "notes"}
    assert (data["schema"], data["seed"], data["student"]) == (1, 7, "ben")
    assert [one["slug"] for one in data["exercises"]] == ["rotary", "alibi"]
    assert re.fullmatch("[0-9a-f]{64}", data["hashes"]["rotary"]["submission"])
    assert data["hashes"]["alibi"] == {"submission": "", "suite": ""}
    assert data["notes"] == {"rotary": ["There is a second file for it, `a.py`."]}


def test_a_place_that_cannot_be_written_is_told_in_a_sentence(tmp_path):
    (tmp_path / "students").write_text("in the way")

    with pytest.raises(UsageError, match="could not be made"):
        write_pages(make_class(), tmp_path)


# --- grades.csv ---------------------------------------------------------------------------------------------------


def rows(out):
    text = (out / "grades.csv").read_bytes().decode("utf-8")
    assert text.startswith("\ufeff")
    return list(csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True))


def test_the_table_has_a_row_for_each_student_and_a_column_for_each_exercise(out):
    head, *body = rows(out)

    assert head == ["student", "rotary", "alibi", "total", "max", "percent", "notes"]
    assert len(body) == len(STUDENTS)
    assert ["anna", "4", "4", "8", "8", "100.0", ""] in body
    (ben,) = [row for row in body if row[0] == "ben"]
    assert ben[1:6] == ["1", "0", "1", "8", "12.5"]
    assert ben[6] == "rotary: There is a second file for it, `a.py`.; alibi: nothing handed in"


def test_no_cell_of_the_table_is_a_formula_or_more_than_one_line(out):
    cells = [cell for row in rows(out) for cell in row]

    assert f"'{FORMULA}" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]
    assert not [cell for cell in cells if {unicodedata.category(c) for c in cell} & {"Cc", "Cf", "Cs"}]


@pytest.mark.parametrize(
    "text",
    ["=1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "\n=1", "\x00=1", "\u202e=1"],
)
def test_what_begins_like_a_formula_is_neutralised(text):
    assert safe_cell(text).startswith("'")


def test_an_ordinary_cell_stays_as_it_is():
    assert safe_cell("O'Neil, J. (2=2)") == "O'Neil, J. (2=2)"


# --- every page ---------------------------------------------------------------------------------------------------


def test_every_page_stands_alone_and_closes_what_it_opens(out):
    for path in pages(out):
        page = Outline(path.read_text("utf-8"))

        assert not page.open
        assert not {"script", "link", "img", "iframe", "object", "form", "base"} & {tag for tag, _ in page.tags}
        assert not [attrs for _, attrs in page.tags if any(name.startswith("on") or name == "style" for name in attrs)]
        links = [attrs["href"] for attrs in page.named("a")]
        assert not [link for link in links if "//" in link or ":" in link]
        (policy,) = [attrs["content"] for attrs in page.named("meta") if "http-equiv" in attrs]
        assert re.fullmatch(
            r"default-src 'none'; style-src 'sha256-[\w+/=]{44}'; base-uri 'none'; form-action 'none'",
            policy,
        )


def test_every_table_has_headers_with_a_scope_and_every_id_is_unique(out):
    for path in pages(out):
        page = Outline(path.read_text("utf-8"))

        assert all(attrs.get("scope") in {"col", "row"} for attrs in page.named("th"))
        assert len(page.named("thead")) == len(page.named("table"))
        ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
        assert len(ids) == len(set(ids))
        assert {attrs["aria-labelledby"] for _, attrs in page.tags if "aria-labelledby" in attrs} <= set(ids)
        assert page.named("html") == [{"lang": "en"}]


def test_no_page_holds_a_character_that_could_steer_its_reader(out):
    for path in pages(out):
        text = path.read_text("utf-8")
        assert not set(text) & set("\x00\x0b\x1b\u202e\u2028")


def test_markup_of_a_student_is_text(out):
    assert HTML in Outline((out / "report.html").read_text("utf-8")).text
    ben = Outline(page_of(out, "ben"))
    assert f"printed {HTML}" in ben.text
    assert "red" in ben.text
    assert {"tag": "code"} in [{"tag": tag} for tag, _ in ben.tags]


# --- the class ----------------------------------------------------------------------------------------------------


def test_the_class_page_leads_to_every_students_page(out):
    links = [attrs["href"] for attrs in Outline((out / "report.html").read_text("utf-8")).named("a")]

    found = [link for link in links if not link.startswith("#")]
    assert len(found) == len(set(found)) == len(STUDENTS)
    for link in found:
        assert (out / link).is_file()


def test_the_class_page_tells_what_stops_the_class_first(out):
    text = Outline((out / "report.html").read_text("utf-8")).text

    checks = [text.index(f"rotary: check {i}") for i in (1, 0)]
    assert checks == sorted(checks)
    assert "1 student used what the exercise does not allow" in text
    assert "1 check that nobody fails" in text


def test_the_class_page_tells_misconceptions_in_their_own_words(out):
    text = Outline((out / "report.html").read_text("utf-8")).text

    assert "You pair feature i with feature i + K/2 . Which two are a pair here?" in text.replace(" i ", " i ")
    assert "pairs_are_halves" in text


def test_the_class_page_tells_how_it_was_graded(out):
    text = Outline((out / "report.html").read_text("utf-8")).text

    for fact in (
        "Seed 7",
        "Sandbox full: landlock, seccomp",
        "python 3.11",
        "torch 2.4",
        "answers no exercise",
    ):
        assert fact in text
    assert "weaker" not in text


def test_a_weak_sandbox_and_a_key_that_changed_are_pointed_out(tmp_path):
    report = make_class()
    other = replace(report.graded[1], suite="f" * 64)
    weak = replace(
        report,
        sandbox=replace(report.sandbox, tier="process"),
        graded=(report.graded[0], other, *report.graded[2:]),
    )

    write_pages(weak, tmp_path)

    text = Outline((tmp_path / "report.html").read_text("utf-8")).text
    assert "The sandbox was weaker than it should be" in text
    assert "The key changed while the class was graded." in text


def test_a_class_without_students_has_a_page(tmp_path):
    write_pages(make_class(students=(), graded=()), tmp_path)

    assert "There is no student in this class." in (tmp_path / "report.html").read_text("utf-8")


def test_the_numbers_behind_the_class_page():
    summary = summarise(make_class())

    rotary = summary.exercises[0]
    assert [(check.name, check.failed) for check in rotary.checks] == [
        ("test_rotary_1", 3), ("test_rotary_0", 1), ("test_rotary_2", 0),
    ]  # fmt: skip
    assert (rotary.ran, rotary.missing, rotary.forbidden) == (4, 2, 1)
    assert rotary.verdicts == {Verdict.PASSED: 1, Verdict.FAILED: 4}
    assert summary.exercises[1].verdicts[Verdict.ERROR] == 1
    assert [(belief.diagnosis, belief.students) for belief in summary.beliefs] == [(BELIEF, 3)]
    assert summary.absent == (BROKEN,)
    assert sum(summary.bins) == len(STUDENTS)
    assert summary.bins[9] == 1


# --- a student ----------------------------------------------------------------------------------------------------


def test_a_students_page_tells_of_no_other_student(out):
    for student in STUDENTS:
        text = page_of(out, student)
        others = {
            page_name(other) for other in STUDENTS if other != student and page_name(other) not in page_name(student)
        }
        assert not [other for other in others if re.search(rf"\b{re.escape(other)}\b", text)]
        assert all(attrs["href"].startswith("#") for attrs in Outline(text).named("a"))


def test_a_student_reads_verdicts_messages_diagnoses_and_output(out):
    text = Outline(page_of(out, "ben")).text

    for part in (
        "1 of 8",
        "rotary: check 0",
        "was not",
        "Which two are a pair here?",
        "nothing handed in",
    ):
        assert part in text or part == "was not"
    assert text.count("came.") == 2
    assert "There is a second file for it, a.py ." in text
    assert "Line 3 is not valid Python." in Outline(page_of(out, "cleo")).text
    assert "line 12: F.softmax (forbidden call)" in Outline(page_of(out, HTML)).text


@pytest.mark.parametrize(
    ("feedback", "kept", "gone"),
    [
        (
            "titles",
            ["rotary: check 0", "1 of 8", "failed"],
            ["came.", "Which two", "printed"],
        ),
        (
            "score",
            ["1 of 8", "Failed"],
            ["rotary: check 0", "came.", "Which two", "printed"],
        ),
    ],
)
def test_a_student_reads_no_more_than_the_teacher_wants(tmp_path, feedback, kept, gone):
    write_pages(make_class(), tmp_path, feedback)

    text = Outline(page_of(tmp_path, "ben")).text
    data = (tmp_path / "students" / "ben.json").read_text()
    assert all(part in text for part in kept)
    assert not [part for part in gone if part in text or part in data]
    assert "Which two are a pair here?" in (tmp_path / "report.html").read_text("utf-8")


# --- size, and a browser ------------------------------------------------------------------------------------------


def test_a_class_of_a_thousand_has_a_page_that_a_browser_takes_with_ease(tmp_path, monkeypatch):
    students = tuple(f"student-{i:04}" for i in range(1000))
    entries = tuple(
        graded(student, result(one, {i % 3} if i % 2 else ()))
        for i, student in enumerate(students)
        for one in EXERCISES
    )
    report = make_class(students=students, graded=entries)
    start = time.process_time()

    write_pages(report, tmp_path)

    assert time.process_time() - start < 20
    assert (tmp_path / "report.html").stat().st_size < 1_000_000
    assert len(list((tmp_path / "students").iterdir())) == 2000


def chromium(profile, *words):
    flags = [
        "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        f"--user-data-dir={profile}", "--window-size=1100,900",
    ]  # fmt: skip
    return subprocess.run([CHROMIUM, *flags, *words], capture_output=True, timeout=100, check=True)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
def test_a_browser_shows_the_class_page_with_its_style_and_without_a_word_of_complaint(out, tmp_path):
    picture = tmp_path / "class.png"
    address = (out / "report.html").as_uri()

    dom = chromium(tmp_path / "a", "--dump-dom", "--enable-logging=stderr", address)
    chromium(tmp_path / "b", f"--screenshot={picture}", address)

    page = Outline(dom.stdout.decode("utf-8"))
    assert "What stops the class" in page.text
    assert HTML in page.text
    assert not page.named("script")
    assert b"Content Security Policy" not in dom.stderr
    assert picture.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert picture.stat().st_size > 20_000  # a page without its style, or an error, takes less
