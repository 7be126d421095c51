"""The processes behind ``grade``: what comes back, what is said when one of them fails, and that none is left over."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import psutil
import pytest

from grader.bank import find_exercise, load_exercises
from grader.errors import EngineError
from grader.judge.client import Grader
from grader.model import Submission, Verdict

REMOTE = str(Path(__file__).parent / "remote")
sys.path.append(REMOTE)

from errands import Errand, GradeAndLook  # noqa: E402

pytestmark = pytest.mark.xdist_group("server")
PATIENCE = 30.0  # seconds for what should happen at once
AGAIN = " Run the same command again; GRADE_DEBUG=1 shows more."


@pytest.fixture(scope="module")
def grader():
    with mock.patch.dict(os.environ, PYTHONPATH=REMOTE, SECRET_TOKEN="x"), Grader(jobs=2) as grader:
        yield grader


@pytest.fixture(scope="module")
def rotary():
    exercise = find_exercise("rotary", load_exercises())
    return exercise, Submission((exercise.folder / "solution.py").read_text(), "rotary.py", "rotary")


def until(holds):
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "this took too long"
        time.sleep(0.01)


def all_below(pid):
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def alive(processes):
    return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


# --- results -------------------------------------------------------------------------------------------------------


def test_each_job_has_its_result(grader):
    jobs = [Errand("echo", str(number)) for number in range(7)]

    results = dict(grader.run(jobs))

    assert results == {number: str(number) for number in range(7)}


def test_two_jobs_are_at_work_at_the_same_time(grader, tmp_path):
    met = [result for _, result in grader.run([Errand("meet", str(tmp_path))] * 2)]

    assert met == [2, 2]


def test_a_judge_stays_for_the_next_job(grader):
    pids = [result for _, result in grader.run([Errand("pid")] * 6)]

    assert len(set(pids)) <= grader.jobs


def test_a_judge_that_died_is_replaced_by_another():
    with mock.patch.dict(os.environ, PYTHONPATH=REMOTE), Grader(jobs=1) as grader:
        ((_, before),) = grader.run([Errand("pid")])
        with pytest.raises(EngineError):
            list(grader.run([Errand("die")]))
        ((_, after),) = grader.run([Errand("pid")])

    assert before != after


def test_a_job_is_not_to_blame_for_a_judge_that_has_done_others_before(tmp_path):
    with mock.patch.dict(os.environ, PYTHONPATH=REMOTE), Grader(jobs=1) as grader:
        list(grader.run([Errand("echo", "first")]))
        results = dict(grader.run([Errand("die_once", str(tmp_path / "died"))]))

    assert results == {0: "alive"}


def test_a_judge_and_its_candidate_share_a_processor(grader):
    places = [result for _, result in grader.run([Errand("place")] * 4)]

    assert all(mine == its and len(mine) == 1 for mine, its in places)


def test_a_run_that_was_left_halfway_does_not_get_into_the_next(grader):
    for _ in grader.run([Errand("echo", str(number)) for number in range(4)]):
        break

    assert dict(grader.run([Errand("echo", "a"), Errand("echo", "b")])) == {0: "a", 1: "b"}


def test_a_submission_is_graded_with_the_seed_that_is_given(grader, rotary):
    results = list(grader.grade([rotary, rotary], seed=7))
    report = grader.report(results, 7)

    assert [result.verdict for result in results] == [Verdict.PASSED] * 2
    assert (report.seed, report.sandbox.tier) == (7, "full")


@pytest.mark.parametrize(
    ("slug", "line", "instead", "verdict"),
    [
        ("rotary", "angles.cos()", "angles.cos()", Verdict.PASSED),
        ("rotary", "angles.cos()", "angles.sin()", Verdict.FAILED),
        ("rotary", "angles.cos()", "angles.cosinus()", Verdict.FAILED),
        ("multi_head", "math.sqrt(", "math.cosh(", Verdict.FAILED),
    ],
)
def test_neither_passing_nor_failing_imports_the_slow_parts_of_torch(grader, slug, line, instead, verdict):
    exercise = find_exercise(slug, load_exercises())
    source = (exercise.folder / "solution.py").read_text()
    assert line in source

    ((_, seen),) = grader.run([GradeAndLook(exercise, Submission(source.replace(line, instead), "x.py", slug))])

    assert seen == (verdict, [])


def test_progress_is_told_while_a_submission_is_graded(grader, rotary):
    exercise, _ = rotary
    slow = "import time\ndef rotary_angles(*a):\n    time.sleep(0.02)\ndef apply_rotary(*a):\n    time.sleep(0.02)\n"
    told = []
    grader.on_check = lambda *words: told.append(words)

    (result,) = grader.grade([(exercise, Submission(slow, "rotary.py", "rotary"))])

    assert result.verdict is Verdict.FAILED
    assert {(slug, total) for slug, _, total in told} == {("rotary", len(exercise.checks))}
    assert [done for _, done, _ in told] == sorted(done for _, done, _ in told)


def test_the_server_knows_nothing_of_the_environment_but_what_it_needs(grader):
    ((_, environment),) = grader.run([Errand("environment")])

    assert "SECRET_TOKEN" not in environment
    assert {"PATH", "PYTHONPATH"} <= environment.keys()


def test_the_command_line_needs_no_torch_to_hear_of_it():
    code = """if True:
        import sys
        from grader.judge.client import Grader
        with Grader() as grader:
            assert grader.versions["torch"] and grader.seed and grader.sandbox.tier
        assert "torch" not in sys.modules
    """

    subprocess.run([sys.executable, "-c", code], check=True)


# --- failures ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("errand", "sentence"),
    [
        ("exit", "The grader's own process ended without a verdict."),
        ("die", "The grader's own process ended without a verdict."),
        ("divide", "The grader itself failed (ZeroDivisionError: division by zero)."),
        ("complain", "This is not how it is used."),
    ],
)
def test_a_judge_that_fails_is_told_in_a_sentence_and_harms_no_other(grader, errand, sentence):
    with pytest.raises(EngineError) as raised:
        list(grader.run([Errand(errand)]))

    assert str(raised.value) == sentence + AGAIN
    assert dict(grader.run([Errand("echo", "next")])) == {0: "next"}


def test_a_result_that_cannot_be_brought_is_a_failure_of_the_graders(grader):
    with pytest.raises(EngineError, match=r"^The grader"):
        list(grader.run([Errand("bring_what_cannot_be_brought")]))

    assert dict(grader.run([Errand("echo", "next")])) == {0: "next"}


def test_a_server_that_is_gone_is_told_in_a_sentence():
    with Grader() as grader:
        assert grader.versions
        grader._process.kill()
        with pytest.raises(EngineError, match=r"^The grader's own process has ended\. Is PyTorch installed here\?"):
            list(grader.run([Errand("echo")]))


# --- no process is left --------------------------------------------------------------------------------------------


def test_closing_ends_every_process(tmp_path):
    note = tmp_path / "note"
    with mock.patch.dict(os.environ, PYTHONPATH=REMOTE), Grader(jobs=1) as grader:
        running = grader.run([Errand("echo", "first"), Errand("sleep", str(note))])
        next(running)
        until(note.exists)
        processes = all_below(grader._process.pid)

    assert len(processes) >= 4  # server, zygote, judge, candidate
    until(lambda: not alive(processes))


def test_a_command_line_that_is_killed_leaves_no_process(tmp_path):
    note = tmp_path / "note"
    code = f"""if True:
        import sys
        sys.path.append({REMOTE!r})
        from errands import Errand
        from grader.judge.client import Grader
        with Grader() as grader:
            list(grader.run([Errand("sleep", {str(note)!r})]))
    """
    client = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": REMOTE})
    until(note.exists)
    processes = all_below(client.pid)

    client.kill()
    client.wait()

    assert len(processes) >= 5
    until(lambda: not alive(processes))


def test_ctrl_c_ends_everything_at_once(tmp_path):
    stuck = tmp_path / "rotary.py"
    stuck.write_text(
        "def rotary_angles(*args):\n    while True: pass\n\napply_rotary = lambda *args: rotary_angles()\n"
    )
    command = [sys.executable, "-m", "grader", str(stuck)]
    cli = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True, text=True)
    until(lambda: any(p.cpu_times().user > 0.2 for p in all_below(cli.pid)[3:] if p.is_running()))
    processes = all_below(cli.pid)

    os.killpg(cli.pid, signal.SIGINT)
    _, said = cli.communicate(timeout=PATIENCE)

    assert cli.returncode == 130
    assert said.strip() == "Stopped."
    until(lambda: not alive(processes))


# --- without fork --------------------------------------------------------------------------------------------------


def test_without_fork_a_submission_is_graded_all_the_same(rotary):
    exercise, submission = rotary
    wrong = Submission(submission.source.replace("angles.cos()", "angles.sin()"), "rotary.py", "rotary")

    with mock.patch.dict(os.environ, GRADE_FORK="0"), Grader(jobs=1) as grader:
        results = list(grader.grade([rotary, (exercise, wrong)], seed=7))
        processes = all_below(grader._process.pid)
        tier, layers = grader.sandbox.tier, grader.sandbox.layers

    assert [result.verdict for result in results] == [Verdict.PASSED, Verdict.FAILED]
    assert tier in ("process", "partial", "full")
    assert not {"user", "pid"} & set(layers)
    until(lambda: not alive(processes))
