"""A process like the zygote with nothing around it: for each line it reads, it forks a child and waits for it."""

import gc
import os
import sys

import torch

from grader.candidate import sandbox
from grader.candidate.trace import warm_up


def main() -> None:
    """Fork until standard input ends; with ``locked``, each child gives up its rights first."""
    torch.set_num_threads(1)
    warm_up()
    plan = sandbox.prepare() if sys.argv[1] == "locked" else None
    gc.freeze()
    for _ in sys.stdin.buffer:
        process = os.fork()
        if process == 0:
            if plan is not None:
                sandbox.lock_down(plan, ())
            (torch.ones(8, 8) @ torch.ones(8, 8)).sum().item()
            os._exit(0)
        os.waitpid(process, 0)
        sys.stdout.write("done\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
