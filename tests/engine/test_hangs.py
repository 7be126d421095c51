"""Code that does not end is ended."""

import threading
import time
from contextlib import suppress

import psutil
import pytest

from grader.errors import EngineError
from grader.judge.client import Grader
from grader.model import Submission

FOLDERS = ("hangs",)
JOBS = 8  # they mostly wait
pytestmark = [pytest.mark.xdist_group("engine-hangs"), pytest.mark.timeout(400)]


def test_what_does_not_end_is_ended(case, check_golden):
    check_golden(case)


def test_after_three_checks_the_rest_is_not_tried(graded):
    for path, result in graded.results.items():
        stopped = [check for check in result.checks if check.verdict == "timeout"]
        assert len(stopped) <= 3, path
        if len(stopped) == 3:
            last = result.checks[-1]
            assert last.verdict == "skipped"
            assert last.message == "Not run: your code had used up its time in the checks before."


def test_no_process_is_left(graded):
    assert graded.left == []
    assert graded.gone


def test_whoever_closes_the_grader_leaves_no_process_behind(bank):
    endless = Submission("def double(x):\n    while True: pass\n", "endless.py", "double")

    def run():
        with suppress(EngineError):
            list(grader.grade([(bank["double"], endless)] * 2))

    with Grader(jobs=2) as grader:
        thread = threading.Thread(target=run)
        thread.start()
        server = psutil.Process(grader._process.pid)
        while len(server.children(recursive=True)) < 5:  # two of the zygote, a judge and two candidates at least
            time.sleep(0.05)
        tree = [server, *server.children(recursive=True)]
    thread.join(10)

    assert not psutil.wait_procs(tree, timeout=5)[1]
    assert not thread.is_alive()
