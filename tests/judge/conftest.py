"""Answer keys of a few lines, written to a temporary folder."""

from textwrap import dedent

import pytest

from grader.bank import read_exercise
from grader.judge.answerkey import AnswerKey
from grader.model import Check, Exercise

SETTINGS = """
difficulty = "easy"
minutes = 5
requires = []
forbids = []
hints = ["one", "two", "three"]
[[follow_up]]
question = "Why?"
answer = "So."
[[follow_up]]
question = "And if not?"
answer = "Then not."
"""
SOLUTION = '''
"""Twice

Return twice what came.
"""
import torch

def double(x, times=1):
    """Return x, doubled."""
    ### BEGIN SOLUTION
    return x * 2**times
    ### END SOLUTION
'''


def pytest_configure(config):
    """Let suites that are loaded here use their marks under ``--strict-markers``."""
    for mark in "visible", "points":
        config.addinivalue_line("markers", f"{mark}: see grader.judge.plugin")


@pytest.fixture
def write_key(tmp_path):
    """Return a writer of answer keys: the parts that are not given are those of an exercise about doubling."""

    def write(suite, variants="", solution=SOLUTION, slug="tiny"):
        folder = tmp_path / "positions" / slug
        folder.mkdir(parents=True)
        (folder / "exercise.toml").write_text(SETTINGS)
        (folder / "solution.py").write_text(dedent(solution).lstrip())
        (folder / f"test_{slug}.py").write_text(f'"""PYTEST_DONT_REWRITE"""\n{dedent(suite)}')  # by the pytest around
        (folder / "variants.py").write_text(dedent(variants))
        return folder

    return write


@pytest.fixture
def make_key(write_key):
    """Return a maker of loaded answer keys; with ``checks``, these are promised, whatever the suite holds."""

    def make(suite, *checks, **parts):
        folder = write_key(suite, **parts)
        if not checks:
            return AnswerKey(read_exercise(folder))
        promised = tuple(Check(name, name) for name in checks)
        return AnswerKey(Exercise(folder.name, "positions", "T", "B", folder, ("double",), promised, "easy", 5))

    return make
