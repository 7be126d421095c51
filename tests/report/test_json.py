import json
from dataclasses import replace

import pytest

from grader.model import PolicyFinding
from grader.report.json import dump

RESULT_KEYS = {
    "slug", "track", "title", "file", "verdict", "points", "max_points", "message", "line", "checks", "diagnoses",
    "policy", "output", "timing",
}  # fmt: skip


def test_holds_what_the_schema_promises(failed, report_of):
    data = json.loads(dump(report_of(replace(failed, policy=(PolicyFinding("forbidden call", "F.softmax", 12),)))))

    assert set(data) == {"schema", "kit", "seed", "sandbox", "versions", "exercises"}
    assert (data["schema"], data["seed"]) == (1, 7)
    assert data["sandbox"] == {"tier": "full", "layers": ["landlock", "seccomp"]}
    (result,) = data["exercises"]
    assert set(result) == RESULT_KEYS
    assert (result["verdict"], result["points"], result["max_points"]) == ("failed", 1.0, 3.0)
    assert result["checks"][0] == {
        "name": "test_by_hand", "title": "one token, turned on paper", "visible": True, "points": 0.0,
        "max_points": 2.0, "verdict": "failed", "message": "0.54 was asked, 1.0 came.",
    }  # fmt: skip
    assert result["diagnoses"] == [{"name": "pairs_are_halves", "message": "You pair feature i with feature i + K/2."}]
    assert result["policy"] == [{"rule": "forbidden call", "name": "F.softmax", "line": 12}]
    assert result["timing"] == {"seconds": 0.1234}


def test_two_runs_differ_in_timing_alone(failed, report_of):
    first, second = dump(report_of(failed)), dump(report_of(replace(failed, seconds=9.0)))

    different = [a for a, b in zip(first.splitlines(), second.splitlines(), strict=True) if a != b]

    assert [line.strip() for line in different] == ['"seconds": 0.1234']


def test_is_sorted_and_ends_with_a_line_break(passed, report_of):
    text = dump(report_of(passed))

    assert text == json.dumps(json.loads(text), indent=2, sort_keys=True) + "\n"


def test_refuses_what_json_cannot_hold(failed, report_of):
    with pytest.raises(ValueError, match="JSON"):
        dump(report_of(replace(failed, seconds=float("nan"))))


def test_learners_characters_are_escaped(failed, report_of):
    text = dump(report_of(replace(failed, output="\x1b[31m \u202e \ud800 é")))

    assert text.isascii()
    assert "\x1b" not in text
    assert json.loads(text)["exercises"][0]["output"] == "\x1b[31m \u202e \ud800 é"


def test_titles_keeps_messages_back(failed, report_of):
    (result,) = json.loads(dump(report_of(failed), "titles"))["exercises"]

    assert set(result) == RESULT_KEYS
    assert [check["title"] for check in result["checks"]] == [check.title for check in failed.checks]
    assert [check["message"] for check in result["checks"]] == ["", ""]
    assert (result["diagnoses"], result["output"]) == ([], "")


def test_score_keeps_everything_but_the_points_back(failed, report_of):
    (result,) = json.loads(dump(report_of(replace(failed, message="why")), "score"))["exercises"]

    assert set(result) == RESULT_KEYS
    assert (result["points"], result["max_points"], result["verdict"]) == (1.0, 3.0, "failed")
    assert [(check["name"], check["title"], check["message"]) for check in result["checks"]] == [("", "", "")]
    assert (result["message"], result["diagnoses"], result["policy"], result["output"]) == ("", [], [], "")
