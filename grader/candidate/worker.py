"""A candidate: one process that locks itself up, says what holds it, and answers calls until the judge hangs up.

Forked by the zygote, it enters at ``serve``. Where there is no fork it is started as
``python -m grader.candidate.worker``, with frames on standard input and output, and prints go to standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from types import ModuleType

import torch

from grader.candidate.channel import Channel, Closed
from grader.candidate.envelope import seal, unseal
from grader.candidate.host import Host
from grader.candidate.trace import warm_up
from grader.candidate.wire import WireError, pack


def serve(channel: Channel, layers: Sequence[str]) -> None:
    """Say hello with the sandbox's layers, then answer one request after the other.

    The process is the learner's alone from here on: threads are listened to, the grader's modules are taken out of
    ``sys.modules``, where the learner's code could change them, and the command line that names the answer keys' folder
    is forgotten.

    Args:
        channel: Frames from and to the judge.
        layers: What ``sandbox.lock_down`` returned; nothing of the learner's has run when the judge reads it.
    """
    channel.send(pack({"layers": list(layers)}))
    host = Host()
    host.watch_new_threads()
    for name in [name for name in sys.modules if name.partition(".")[0] in ("grader", "__main__")]:
        del sys.modules[name]
    sys.modules["__main__"] = ModuleType("__main__")
    sys.argv, sys.orig_argv = [""], [sys.executable]
    try:
        while True:
            number, frames = unseal(channel.receive())
            answers = [host.answer(frame) for frame in frames]
            channel.send(seal(number, [*answers, host.news()]))
    except (Closed, WireError):
        return


def main() -> None:
    """Serve on standard input and output, for systems without fork."""
    from grader.candidate import sandbox  # noqa: PLC0415 (a forked candidate never comes here)

    reader, writer = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # prints must not end up between the frames
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    torch.set_num_threads(1)
    warm_up()
    layers = sandbox.lock_down(sandbox.prepare(sys.argv[1:]), (reader.fileno(), writer.fileno()))
    serve(Channel(reader, writer), layers)


if __name__ == "__main__":
    main()
