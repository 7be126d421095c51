"""``grade batch`` with the two small exercises of the engine's tests in place of the kit's: a program for tests."""

import sys
from pathlib import Path

import grader.commands.batch
from grader.bank import load_exercises
from grader.cli import main

SMALL = Path(__file__).parents[1] / "engine" / "answer_keys"


def run(args):
    """Run the command line over the small exercises."""
    grader.commands.batch.load_exercises = lambda: load_exercises(SMALL)
    return main(args)


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
