import re
from dataclasses import replace
from io import BytesIO, StringIO, TextIOWrapper

import pytest

from grader.model import CheckVerdict, Diagnosis, ExerciseResult, PolicyFinding, Sandbox, Verdict
from grader.report.layout import make_console
from grader.report.terminal import OUTPUT_LINES, print_report


@pytest.fixture
def show(exercises, report_of):
    """Return a function from results to the lines that a person sees."""

    def page(*results, feedback="full", width=80, report=None):
        console = make_console(StringIO())
        console.width = width
        print_report(report or report_of(*results), exercises, console, feedback)
        return console.file.getvalue()

    return page


def test_a_check_is_a_mark_a_title_and_points(show, failed):
    lines = show(failed).splitlines()

    assert "  ✗ one token, turned on paper".ljust(77) + "0/2" in lines
    assert "  ✓ the last token alone equals the last row".ljust(77) + "1/1" in lines
    assert "      0.54 was asked, 1.0 came." in lines
    assert "  1 / 3 points, failed" in lines


def test_names_the_mistake_and_the_next_step(show, failed):
    page = show(failed)

    assert "What your code does" in page
    assert "You pair feature i with feature i + K/2." in page
    assert '  Next: look at "one token, turned on paper" first.' in page.splitlines()


def test_after_a_pass_comes_the_interviewers_question_and_the_next_exercise(show, passed):
    lines = show(passed).splitlines()

    assert "  An interviewer would now ask: Why float32?" in lines
    assert "  Next: Attention with linear biases (`grade alibi`)" in lines


def test_the_last_exercise_has_nothing_after_it(show, passed):
    assert "That was the last exercise." in show(replace(passed, slug="alibi"))


def test_a_policy_finding_has_its_line(show, failed):
    page = show(replace(failed, policy=(PolicyFinding("forbidden call", "F.softmax", 12),)))

    assert "    line 12: `F.softmax` (forbidden call)" in page.splitlines()
    assert "  Next: do without `F.softmax`." in page.splitlines()


def test_a_message_is_said_once(show, failed):
    wrong = failed.checks[0]

    page = show(replace(failed, checks=(wrong, replace(wrong, title="another check"))))

    assert page.count(wrong.message) == 1
    assert "      The same as above." in page.splitlines()


def test_a_file_that_does_not_run_says_where(show, exercises):
    result = ExerciseResult.unrunnable(exercises[0], "rotary.py", "Line 3: a bracket is never closed.", 3)

    page = show(result)

    assert "      Line 3: a bracket is never closed." in page.splitlines()
    assert "  0 / 3 points, could not be run" in page.splitlines()
    assert "one token" not in page


def test_a_stub_says_what_to_write(show, passed):
    checks = tuple(replace(check, points=0.0, verdict=CheckVerdict.SKIPPED) for check in passed.checks)

    page = show(replace(passed, verdict=Verdict.NOT_ATTEMPTED, checks=checks))

    assert "  0 / 3 points, not attempted" in page.splitlines()
    assert "  Next: open rotary.py and write `rotary_angles`, `apply_rotary`." in page.splitlines()


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        (CheckVerdict.TIMEOUT, "(took too long)"),
        (CheckVerdict.CRASHED, "(crashed)"),
        (CheckVerdict.SKIPPED, "(not run)"),
    ],
)
def test_how_a_check_ended_can_be_read_without_its_message(show, failed, verdict, words):
    result = replace(failed, checks=(replace(failed.checks[0], verdict=verdict),))

    assert f"one token, turned on paper {words}" in show(result, feedback="titles")


def test_several_exercises_end_in_a_sum(show, passed, failed):
    page = show(passed, failed)

    assert page.count("one token, turned on paper ") == 1, "one that passed needs no list among several"
    assert "  1 of 2 passed, 4 / 6 points" in page.splitlines()


def test_titles_shows_no_messages(show, failed):
    page = show(failed, feedback="titles")

    assert "one token, turned on paper" in page
    for hidden in ("0.54", "You pair", "shape (1, 2)"):
        assert hidden not in page


def test_score_shows_points_alone(show, failed):
    page = show(replace(failed, policy=(PolicyFinding("forbidden call", "F.softmax", 12),)), feedback="score")

    assert "1 / 3 points" in page
    for hidden in ("one token", "the last token", "0.54", "You pair", "shape (1, 2)", "F.softmax", "✓", "✗"):
        assert hidden not in page


@pytest.mark.parametrize("width", [20, 40, 80, 100])
def test_fits_the_window(show, failed, width):
    long = replace(failed, output="word " * 60, diagnoses=(Diagnosis("x", "a longword " * 30),), file="f" * 130)

    lines = show(long, width=width).splitlines()

    assert max(map(len, lines)) <= width
    assert not [line for line in lines if line != line.rstrip()]


HOSTILE = (
    "\x1b[31mred\x1b[0m [bold]b[/bold] \x07\x08\x00 \u202eabc\u2066 \x9b31m \x1b]0;WINDOW\x07 \ud800 :smile: "
    "\r\nnext\ttab"
)


def test_nothing_of_a_learners_steers_the_terminal(show, failed):
    hostile = replace(
        failed,
        file=HOSTILE,
        output=HOSTILE,
        checks=(replace(failed.checks[0], message=HOSTILE),),
        policy=(PolicyFinding("forbidden call", HOSTILE, 1),),
        diagnoses=(Diagnosis("x", HOSTILE),),
    )

    page = show(hostile)

    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", page)
    assert "red [bold]b[/bold]" in page, "markup is text"
    assert ":smile:" in page
    assert "WINDOW" not in page, "a whole escape sequence goes, not its first character alone"


def test_much_output_is_cut(show, failed):
    page = show(replace(failed, output="x\n" * (OUTPUT_LINES + 5)))

    assert page.splitlines().count("    x") == OUTPUT_LINES
    assert "    (5 more lines)" in page.splitlines()


def test_a_weak_sandbox_is_said(show, report_of, passed):
    weak = replace(report_of(passed), sandbox=Sandbox("process", ()))

    assert "Sandbox: process. `grade doctor` says more." in " ".join(show(report=weak).split())


def test_marks_have_words_where_the_encoding_has_no_signs(exercises, report_of, failed):
    stream = TextIOWrapper(BytesIO(), encoding="ascii")

    print_report(report_of(failed), exercises, make_console(stream))

    stream.flush()
    page = stream.buffer.getvalue().decode("ascii")
    assert "  FAIL one token" in page
    assert "  ok the last token" in page


def test_a_pipe_gets_no_escape_sequences(show, failed):
    assert "\x1b" not in show(failed)


def test_no_color_is_respected(monkeypatch, exercises, report_of, failed):
    class Terminal(StringIO):
        def isatty(self):
            return True

    monkeypatch.setenv("TERM", "xterm-256color")

    def codes():
        console = make_console(Terminal())
        print_report(report_of(failed), exercises, console)
        return set(re.findall(r"\x1b\[([0-9;]+)m", console.file.getvalue()))

    assert any("31" in code.split(";") for code in codes()), "red, where colours are welcome"
    monkeypatch.setenv("NO_COLOR", "1")
    assert codes() <= {"0", "1", "2"}, "bold and dim are no colours"
