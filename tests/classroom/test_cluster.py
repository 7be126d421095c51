"""``grade batch --scheduler``: a real scheduler and real workers, as processes of their own."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("distributed", reason="needs the extra `cluster`")

import grader.classroom.batch.cluster
from grader.bank import find_exercise, load_exercises
from grader.classroom.batch import remote
from grader.classroom.batch.cluster import Cluster
from grader.classroom.batch.store import load_class
from grader.cli import main

SLUG = "masks"
STUDENTS = 8
pytestmark = [pytest.mark.xdist_group("cluster"), pytest.mark.timeout(300)]


@contextmanager
def process(*words, **options):
    command = [sys.executable, *map(str, words)]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **options)
    try:
        yield started
    finally:
        started.kill()
        started.communicate()


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory):
    """The address of a scheduler."""
    folder = tmp_path_factory.mktemp("scheduler")
    args = ["--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", folder / "scheduler.json"]
    with process("-m", "distributed.cli.dask_scheduler", *args):
        deadline = time.monotonic() + 60
        while not (folder / "scheduler.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield json.loads((folder / "scheduler.json").read_text())["address"]


def worker(scheduler, folder):
    args = ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", folder]
    return process("-m", "distributed.cli.dask_worker", scheduler, *args)


@pytest.fixture(scope="module")
def submissions(tmp_path_factory):
    folder = tmp_path_factory.mktemp("class")
    source = (find_exercise(SLUG, load_exercises()).folder / "solution.py").read_text("utf-8")
    for number in range(STUDENTS):
        student = folder / f"s{number:02}"
        student.mkdir()
        wrong = "def causal_mask(T, S=None):\n    return None\n" if number % 3 == 0 else source
        (student / f"{SLUG}.py").write_text(wrong)
    return folder


def results_of(out):
    found = []
    for entry in load_class(out).graded:
        result = entry.result.to_dict()
        del result["timing"]
        found.append((entry.student, entry.submission, entry.suite, result))
    return found


def test_a_worker_that_is_killed_costs_nothing_and_the_results_are_those_of_one_machine(
    scheduler, submissions, tmp_path, monkeypatch
):
    with worker(scheduler, tmp_path / "one") as first, worker(scheduler, tmp_path / "two"):
        graded = 0
        whole = Cluster._result

        def result(self, future, task):
            nonlocal graded
            graded += 1
            if graded == 3:
                first.send_signal(signal.SIGKILL)
            return whole(self, future, task)

        monkeypatch.setattr(Cluster, "_result", result)
        words = ["batch", str(submissions), "--seed", "7"]
        assert main([*words, "--out", str(tmp_path / "cluster"), "--scheduler", scheduler]) == 1
    assert main([*words, "--out", str(tmp_path / "local")]) == 1

    assert first.returncode == -signal.SIGKILL
    assert graded == STUDENTS
    assert results_of(tmp_path / "cluster") == results_of(tmp_path / "local")


def test_a_scheduler_that_is_not_there_is_a_sentence(submissions, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(grader.classroom.batch.cluster, "CONNECT_SECONDS", 0.5)

    code = main(["batch", str(submissions), "--out", str(tmp_path / "out"), "--scheduler", "tcp://127.0.0.1:9"])

    assert code == 2
    assert "There is no Dask scheduler at `tcp://127.0.0.1:9`." in capsys.readouterr().err


@pytest.mark.parametrize("address", ["nonsense", "tcp://", "http//x", ""])
def test_an_address_that_is_none_is_a_sentence(address, submissions, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(grader.classroom.batch.cluster, "CONNECT_SECONDS", 0.5)

    code = main(["batch", str(submissions), "--out", str(tmp_path / "out"), "--scheduler", address])

    assert code == 2
    assert "There is no Dask scheduler at" in capsys.readouterr().err


def test_a_cluster_without_workers_is_a_sentence(scheduler, submissions, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(grader.classroom.batch.cluster, "WORKER_SECONDS", 0.5)

    code = main(["batch", str(submissions), "--out", str(tmp_path / "out"), "--scheduler", scheduler])

    assert code == 2
    assert f"`dask worker {scheduler} --nthreads 1 --nworkers N`" in capsys.readouterr().err


def test_a_missing_extra_is_a_sentence(submissions, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)

    code = main(["batch", str(submissions), "--out", str(tmp_path / "out"), "--scheduler", "tcp://127.0.0.1:9"])

    assert code == 2
    assert "pip install 'transformer-interview-kit[cluster]'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("__version__ = .*", '__version__ = "9.9"'), r"has kit 9\.9, and .* is asked for"),
        (("another key", ""), "has another answer key for `masks` than this machine"),
    ],
)
def test_a_worker_with_another_kit_is_refused(change, message, scheduler, submissions, tmp_path, capsys):
    kit = tmp_path / "kit"
    root = Path(remote.__file__).parents[3]
    ignore = shutil.ignore_patterns("__pycache__")
    for name in "grader", "solutions":
        shutil.copytree(root / name, kit / name, ignore=ignore)
    shutil.copy(root / "pyproject.toml", kit)
    if change[1]:
        start = kit / "grader" / "__init__.py"
        start.write_text(re.sub(*change, start.read_text()))
    else:
        with next((kit / "solutions").glob(f"*/{SLUG}/solution.py")).open("a") as file:
            file.write("# another line\n")
    args = [scheduler, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", tmp_path / "worker"]
    with process("-m", "distributed.cli.dask_worker", *args, cwd=kit, env={**os.environ, "PYTHONPATH": str(kit)}):
        code = main(["batch", str(submissions), "--out", str(tmp_path / "out"), "--scheduler", scheduler])

    assert code == 2
    assert re.search(message, " ".join(capsys.readouterr().err.split()))
