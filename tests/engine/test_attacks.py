"""Attacks earn nothing and harm nothing."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grader.bank import find_bank
from grader.judge.client import Grader
from grader.model import Submission

FOLDERS = ("attacks",)
pytestmark = [pytest.mark.xdist_group("engine-attacks"), pytest.mark.timeout(400)]

MARK = "open({path!r}, 'w').write('was here')\n"


def digest(folder):
    files = sorted(path for path in folder.rglob("*.*") if path.suffix in (".py", ".toml"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def test_an_attack_earns_nothing(case, check_golden):
    check_golden(case)


def test_attacks_leave_no_trace(graded):
    assert graded.left == []
    assert graded.gone
    assert not list(Path("/tmp").glob("grader-was-here*"))


def test_a_right_answer_passes_among_attacks(graded, bank):
    source = (bank["double"].folder / "solution.py").read_text()
    attack = next(path for path in graded.results if path.stem == "harms_what_it_can").read_text()
    before = digest(find_bank())
    submissions = Submission(attack, "attack", "double"), Submission(source, "right", "double")
    work = [(bank["double"], submission) for submission in submissions]

    with Grader(jobs=2) as grader:
        results = [(result.file, result.points) for result in grader.grade(work * 3)]

    assert sorted(results) == [("attack", 0.0)] * 3 + [("right", bank["double"].max_points)] * 3
    assert digest(find_bank()) == before


def test_files_beside_a_submission_are_not_imported(bank, tmp_path):
    mark = tmp_path / "mark"
    names = "torch solution conftest sitecustomize usercustomize pytest numpy json pickle grader plugin test_rotary"
    for name in names.split():
        (tmp_path / f"{name}.py").write_text(MARK.format(path=str(mark)))
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = -p plugin\n")
    (tmp_path / "answer.py").write_text((bank["rotary"].folder / "solution.py").read_text())
    odd = {"PYTEST_ADDOPTS": "-p plugin --collect-only", "PYTEST_PLUGINS": "plugin", "TORCH_LOGS": "+all"}
    command = [sys.executable, "-P", "-m", "grader", "answer.py", "--as", "rotary", "--format", "json"]

    done = subprocess.run(
        command,
        check=False,
        cwd=tmp_path,
        env=os.environ | odd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["exercises"][0]["verdict"] == "passed"
    assert not mark.exists()
