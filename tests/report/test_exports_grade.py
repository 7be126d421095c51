"""``grade --format junit|ctrf|gradescope``, read by what we did not write, with text that means harm."""

import io
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import junitparser
import pytest

from grader.commands.grade import write_as
from grader.learner import demo
from grader.model import CheckResult, CheckVerdict, Diagnosis, PolicyFinding, Verdict
from grader.report import ctrf, gradescope, junit

SCHEMA = json.loads((Path(__file__).parent / "schemas" / "ctrf-0.0.json").read_text("utf-8"))
HOSTILE = "<b>&]]> \x00\x08\x0b\x1b[31mred \ud800 \u202e \ufffe \uffff \u2028 'q' \"q\" 𝔘\nsecond line"
HARM = set("\x00\x08\x0b\x1b\ud800\u202e\ufffe\uffff\u2028")
FORMS = ("json", "junit", "ctrf", "gradescope")

# What https://gradescope-autograders.readthedocs.io/en/latest/specs/ allows in results.json.
TEXT_FORMATS = {"enum": ["text", "html", "simple_format", "md", "ansi"]}
VISIBILITY = {"enum": ["hidden", "after_due_date", "after_published", "visible"]}
GRADESCOPE = {
    "type": "object",
    "additionalProperties": False,
    "anyOf": [{"required": ["score"]}, {"properties": {"tests": {"minItems": 1, "items": {"required": ["score"]}}}}],
    "properties": {
        "score": {"type": "number"},
        "execution_time": {"type": "number", "minimum": 0},
        "output": {"type": "string"},
        "output_format": TEXT_FORMATS,
        "test_output_format": TEXT_FORMATS,
        "test_name_format": TEXT_FORMATS,
        "visibility": VISIBILITY,
        "stdout_visibility": VISIBILITY,
        "extra_data": {"type": "object"},
        "leaderboard": {"type": "array"},
        "tests": {
            "type": "array",
            "items": {
                "type": "object",
                "additionalProperties": False,
                "properties": {
                    "score": {"type": "number"},
                    "max_score": {"type": "number"},
                    "status": {"enum": ["passed", "failed"]},
                    "name": {"type": "string"},
                    "name_format": TEXT_FORMATS,
                    "number": {"type": "string"},
                    "output": {"type": "string"},
                    "output_format": TEXT_FORMATS,
                    "tags": {"type": "array", "items": {"type": "string"}},
                    "visibility": VISIBILITY,
                    "extra_data": {"type": "object"},
                },
            },
        },
    },
}


@pytest.fixture
def hostile(failed):
    """``rotary`` failed in every way at once, each text of it meant to break a reader."""
    checks = tuple(
        CheckResult(f"test_{verdict}", f"a {verdict} check", False, 0.0, 1.0, verdict, HOSTILE)
        for verdict in CheckVerdict
        if verdict is not CheckVerdict.PASSED
    )
    return replace(
        failed,
        file=f"my {HOSTILE}.py",
        checks=(failed.checks[1], *checks),
        diagnoses=(Diagnosis("a", HOSTILE),),
        policy=(PolicyFinding("forbidden call", f"F.{HOSTILE}", 3),),
        output=HOSTILE,
    )


@pytest.fixture
def broken(failed):
    """``alibi`` could not be run."""
    checks = tuple(replace(c, points=0.0, verdict=CheckVerdict.SKIPPED, message="") for c in failed.checks)
    return replace(
        failed, slug="alibi", verdict=Verdict.ERROR, checks=checks, message="Line 3 is not Python.", diagnoses=()
    )


def read_junit(text):
    return junitparser.JUnitXml.fromfile(io.BytesIO(text.encode("utf-8")))


# --- JUnit --------------------------------------------------------------------------------------------------------


def test_junit_is_read_with_every_check_and_its_verdict(hostile, broken, passed, report_of):
    report = read_junit(junit.dump(report_of(hostile, broken, replace(passed, slug="third"))))

    assert (report.tests, report.failures, report.errors, report.skipped) == (9, 2, 4, 0)
    suites = list(report)
    assert [suite.name for suite in suites] == ["rotary", "alibi", "third"]
    verdicts = [[type(result).__name__ for result in case.result] for case in suites[0]]
    assert verdicts == [[], ["Failure"], ["Failure"], ["Error"], ["Error"]]
    assert [case.classname for case in suites[1]] == ["positions.alibi"] * 2
    assert all("Line 3 is not Python." in case.result[0].text for case in suites[1])
    assert all(case.is_passed for case in suites[2])


def test_junit_counts_agree_with_what_is_there(hostile, broken, report_of):
    report = read_junit(junit.dump(report_of(hostile, broken)))
    said = [(s.tests, s.failures, s.errors, s.skipped) for s in [report, *report]]

    for suite in report:
        suite.update_statistics()
    report.update_statistics()

    assert [(s.tests, s.failures, s.errors, s.skipped) for s in [report, *report]] == said


def test_junit_holds_points_seed_and_sandbox(failed, report_of):
    text = junit.dump(report_of(failed))

    (suite,) = read_junit(text)
    facts = {prop.name: prop.value for prop in suite.properties()}
    assert (facts["points"], facts["max_points"], facts["seed"], facts["sandbox"]) == ("1", "3", "7", "full")
    assert "You pair feature i with feature i + K/2." in ElementTree.fromstring(text).findtext("testsuite/system-err")
    assert ElementTree.fromstring(text).findtext("testsuite/system-out").strip() == "shape (1, 2)"


def test_a_failure_says_its_first_line_and_then_all(hostile, report_of):
    (suite,) = read_junit(junit.dump(report_of(hostile)))

    failure = list(suite)[1].result[0]
    assert failure.message.startswith("<b>&]]> red")
    assert "second line" not in failure.message
    assert failure.text.endswith("second line")


# --- CTRF ---------------------------------------------------------------------------------------------------------


def test_ctrf_follows_its_published_schema(hostile, broken, passed, report_of):
    for results in ((), (passed,), (hostile, broken, passed)):
        jsonschema.validate(json.loads(ctrf.dump(report_of(*results), ended=1.7e9)), SCHEMA)


def test_ctrf_counts_every_check_that_did_not_pass_as_failed(hostile, broken, report_of):
    results = json.loads(ctrf.dump(report_of(hostile, broken), ended=1.7e9))["results"]

    summary = results["summary"]
    assert (summary["tests"], summary["passed"], summary["failed"], summary["suites"]) == (7, 1, 6, 2)
    assert (summary["skipped"], summary["pending"], summary["other"]) == (0, 0, 0)
    assert [test["rawStatus"] for test in results["tests"]][:5] == ["passed", "failed", "timeout", "crashed", "skipped"]
    assert results["tests"][5]["message"] == "Line 3 is not Python."
    assert summary["stop"] == 1_700_000_000_000
    assert summary["stop"] - summary["start"] == 247


# --- Gradescope ---------------------------------------------------------------------------------------------------


def test_gradescope_has_no_field_that_is_not_documented(hostile, broken, passed, report_of):
    for results in ((), (passed,), (hostile, broken, passed)):
        jsonschema.validate(json.loads(gradescope.dump(report_of(*results))), GRADESCOPE)


def test_gradescope_adds_up_to_the_points(hostile, failed, report_of):
    data = json.loads(gradescope.dump(report_of(hostile, failed)))

    assert "score" not in data  # it would override the sum of the tests
    assert sum(test["score"] for test in data["tests"]) == hostile.points + failed.points
    assert sum(test["max_score"] for test in data["tests"]) == hostile.max_points + failed.max_points
    assert [test["number"] for test in data["tests"]][-2:] == ["2.1", "2.2"]
    assert data["tests"][-2]["output"] == "0.54 was asked, 1.0 came."


def test_gradescope_reads_no_text_of_a_learner_as_html(hostile, report_of):
    data = json.loads(gradescope.dump(report_of(hostile)))

    assert {data["output_format"], data["test_output_format"], data["test_name_format"]} == {"text"}
    assert not [test for test in data["tests"] if "output_format" in test or "name_format" in test]
    assert data["stdout_visibility"] == "hidden"


# --- all of them --------------------------------------------------------------------------------------------------


def strings(value):
    if isinstance(value, dict):
        value = [*value, *value.values()]
    return (
        [value] if isinstance(value, str) else [s for v in value for s in strings(v)] if isinstance(value, list) else []
    )


@pytest.mark.parametrize("form", ["junit", "ctrf", "gradescope"])
def test_no_character_that_could_steer_a_reader_gets_through(form, hostile, report_of):
    text = write_as(form, report_of(hostile), "full")

    shown = [text] if form == "junit" else strings(json.loads(text))
    assert not {c for c in HARM - {"\ufffe", "\uffff"} if any(c in part for part in shown)}
    assert form != "junit" or not HARM & set(text)
    text.encode("utf-8")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("feedback", "titles"), [("full", True), ("titles", True), ("score", False)])
def test_feedback_is_kept_back_in_every_form(form, feedback, titles, failed, report_of):
    text = write_as(form, report_of(failed), feedback)

    assert ("one token, turned on paper" in text) is titles
    for secret in ("0.54 was asked", "You pair feature", "shape (1, 2)"):
        assert (secret in text) is (feedback == "full")


@pytest.mark.parametrize("form", FORMS)
def test_the_command_line_writes_every_form(form, tmp_path):
    out = tmp_path / "report"

    done = subprocess.run(
        [sys.executable, "-m", "grader", demo.SAMPLES / "rotary_halves.py", "--as", "rotary", "--format", form,
         "--out", out],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert (done.returncode, done.stdout) == (1, "")
    text = out.read_text("utf-8")
    match form:
        case "junit":
            assert read_junit(text).tests > 10
        case "ctrf":
            jsonschema.validate(json.loads(text), SCHEMA)
        case "gradescope":
            jsonschema.validate(json.loads(text), GRADESCOPE)
        case _:
            assert json.loads(text)["schema"] == 1
