"""What is installed: the wheel works where there is no clone, and the two one-line commands say what they should."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from grader.cli import cli

ROOT = Path(__file__).resolve().parent.parent
FILES_OF_A_KEY = {"exercise.toml", "solution.py", "variants.py"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, ROOT]
    subprocess.run(command, check=True, capture_output=True)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def names(wheel):
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.mark.xdist_group("wheel")
def test_the_wheel_holds_every_answer_key(names):
    for folder in (ROOT / "solutions").glob("*/*/"):
        if not (folder / "exercise.toml").exists():
            continue
        inside = f"grader/solutions/{folder.parent.name}/{folder.name}/"
        held = {name.removeprefix(inside) for name in names if name.startswith(inside)}
        assert held >= FILES_OF_A_KEY | {f"test_{folder.name}.py"}


@pytest.mark.xdist_group("wheel")
def test_the_wheel_holds_the_package_and_nothing_else(names):
    tops = {name.split("/")[0] for name in names}

    assert tops == {"grader", next(top for top in tops if top.endswith(".dist-info"))}
    assert "grader/learner/samples/rotary_halves.py" in names
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


@pytest.mark.xdist_group("wheel")
def test_the_demo_runs_from_the_wheel_alone(wheel, tmp_path):
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)

    run = subprocess.run(
        [sys.executable, "-P", "-m", "grader", "demo"],
        capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(site)}, check=False,
    )  # fmt: skip

    assert (run.returncode, run.stderr) == (0, "")
    assert "What your code does" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def commands_of(section: str) -> list[str]:
    """Return the lines of the first code block below a heading of the README."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    block = re.search(rf"^## {section}$.*?^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    return block.group(1).splitlines()


def test_ci_runs_the_readmes_own_line():
    (line,) = commands_of("Run the tests")

    assert line in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert line.endswith("-m pytest")


def test_trying_it_takes_one_line():
    (line,) = commands_of("Try it")

    assert line.endswith("grade demo")


def test_every_dependency_has_a_tested_version():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    wanted = [line for line in (*project["dependencies"], *extras) if not line.startswith(project["name"])]

    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()

    pinned = {line.split("==")[0].lower() for line in lines if not line.startswith("#")}
    assert {re.split(r"[<>=!~\[ ]", line)[0].lower() for line in wanted} <= pinned
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines if not line.startswith("#"))


def test_every_command_is_in_the_readme():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    names = [name for name, command in cli.commands.items() if not command.hidden and name != "dev"]
    names += [f"dev {name}" for name in cli.commands["dev"].commands]

    assert [name for name in names if f"`grade {name}" not in readme] == []
