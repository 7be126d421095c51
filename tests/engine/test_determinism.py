"""One seed, one report; another seed, other inputs; and a candidate that cannot tell them."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from grader.judge.client import Grader
from grader.judge.fixtures import seed_of
from grader.model import Submission

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

from made_up import sources

pytestmark = [pytest.mark.xdist_group("engine-determinism"), pytest.mark.timeout(400)]

TELLS = """
import random

import torch


def double(x):
    print("seed", torch.initial_seed(), "input", x.flatten()[:2].tolist(), "own", torch.rand(1).item(), random.random())
    return 2 * x


def halve(x):
    return x / 2
"""
WRONG = {
    "rows": "def apply_rotary(x, positions, base=10_000.0):\n    return x * positions[:, None].cos()\n",
    "dies": "import os\n\n\ndef apply_rotary(x, positions, base=10_000.0):\n    os._exit(3)\n",
    "random": "import torch\n\n\ndef apply_rotary(x, positions, base=10_000.0):\n    return torch.randn_like(x)\n",
}


@pytest.fixture(scope="module")
def grader():
    with Grader(jobs=2) as grader:
        yield grader


def report(grader, work, seed):
    """Return the JSON report without what is timing, exercises by name of their file."""
    results = sorted(grader.grade(work, seed), key=lambda result: result.file)
    data = grader.report(results, seed).to_dict()
    for exercise in data["exercises"]:
        del exercise["timing"]
    return json.dumps(data, sort_keys=True)


@pytest.fixture(scope="module")
def work(bank):
    """Submissions that pass, fail, are diagnosed, die and draw numbers of their own."""
    rotary = bank["rotary"]
    solution = (rotary.folder / "solution.py").read_text("utf-8")
    halves = solution.replace("x[..., 0::2], x[..., 1::2]", "x.chunk(2, dim=-1)").replace(
        "dim=-1)  # (B", "dim=-2)  # (B"
    )
    sources = {"right": solution, "halves": halves} | {name: solution + "\n\n" + part for name, part in WRONG.items()}
    return [(rotary, Submission(source, f"{name}.py", "rotary")) for name, source in sources.items()]


def test_one_seed_gives_one_report(grader, work):
    first = report(grader, work, 11)

    again = report(grader, work[::-1], 11)
    with Grader(jobs=1) as other:
        elsewhere = report(other, work, 11)

    assert first == again == elsewhere
    verdicts = {e["file"]: e["verdict"] for e in json.loads(first)["exercises"]}
    assert verdicts.pop("right.py") == "passed"
    assert set(verdicts.values()) == {"failed"}


def test_another_seed_gives_other_inputs(grader, bank):
    told = [lines(grader, bank, seed) for seed in (1, 2, 1)]

    assert told[0] == told[2]
    assert told[0]["inputs"].isdisjoint(told[1]["inputs"])
    assert told[0]["seeds"].isdisjoint(told[1]["seeds"])
    assert told[0]["own"].isdisjoint(told[1]["own"])


def lines(grader, bank, seed):
    (result,) = grader.grade([(bank["double"], Submission(TELLS, "tells.py", "double"))], seed)
    found = re.findall(r"seed (\d+) input \[(.*)\] own (.*)", result.output)
    random = [part for part in found if "." in part[1] and not re.fullmatch(r"[\d.0, ]+", part[1])]
    assert random
    return {
        "seeds": {int(one) for one, _, _ in found},
        "inputs": {inputs for _, inputs, _ in random},
        "own": {own for _, _, own in found},
    }


def test_a_candidate_does_not_know_the_judges_seeds(grader, bank):
    seeds = lines(grader, bank, 5)["seeds"]

    purposes = ["", "randn", "randint", "rng"]
    names = [check.name for check in bank["double"].checks]
    judges = {seed_of(5, *filter(None, (purpose, "double", name))) for purpose in purposes for name in names}
    assert len(seeds) >= 5  # one for each check
    assert seeds.isdisjoint(judges | {5})


def test_every_run_draws_a_seed_of_its_own(grader):
    with Grader(jobs=1) as other:
        seeds = {grader.seed, other.seed}

    assert len(seeds) == 2
    assert max(seeds) >= 2**32


@pytest.mark.parametrize("slug", ["masks", "self_attention"])
def test_a_submission_in_a_class_is_graded_as_if_it_were_alone(bank, slug):
    """What was asked of others before, and asked ahead of this one, is not to be seen in its result."""
    exercise, made = bank[slug], sources(bank[slug])
    chosen = [*made["right"][:2], *made["wrong"][:: max(1, len(made["wrong"]) // 6)]]
    files = [(exercise, Submission(source, f"{number}.py", slug)) for number, source in enumerate(chosen)]

    with Grader(jobs=1) as grader:
        together = list(grader.grade([*files, *files], seed=7))
        alone = []
        for file in files:
            next(iter(grader.grade(files[:1], seed=8)))  # with another seed, nothing that was learnt is of use
            alone += grader.grade([file], seed=7)

    without_time = [replace(result, seconds=0.0) for result in together]
    assert without_time == [replace(result, seconds=0.0) for result in [*alone, *alone]]
    assert {result.verdict.value for result in alone} == {"passed", "failed"}
