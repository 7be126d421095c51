"""The grader's own process: imports torch, forks the zygote, then judges what it is sent.

Started by ``grader.judge.client``. Jobs come on standard input and answers leave on standard output. Where there is
fork every job gets a judge of its own; elsewhere jobs are judged here, one after the other.
"""

from __future__ import annotations

import os
import pickle
import secrets
import selectors
import signal
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, BinaryIO

import torch

from grader.candidate import zygote
from grader.judge.jobs import receive, send

PACKAGE = str(Path(__file__).resolve().parents[1])  # with the answer keys in it, when installed from a wheel
JUDGE_SECONDS = 120.0  # a judge keeps its candidates' deadlines; this is for a judge that hangs itself


def main() -> None:
    """Serve until standard input ends."""
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # a stray print must not end up between the answers
    hidden = [PACKAGE, *sys.argv[1:]]
    torch.set_num_threads(1)
    if "fork" in _ways():
        control = zygote.start(hidden)
        _ForkServer(requests, answers, control).serve()
    else:
        _serve_inline(requests, answers, hidden)


def _ways() -> Sequence[str]:
    """Name what this system offers; forking with torch loaded is only safe on Linux."""
    return ("fork",) if sys.platform == "linux" and os.environ.get("GRADE_FORK") != "0" else ()


def _greeting() -> dict[str, Any]:
    """Say that jobs may come; the seed is drawn here, after the zygote was forked."""
    versions = {"python": sys.version.split()[0], "torch": str(torch.__version__)}  # unpickling its own type takes torch
    return {"versions": versions, "seed": secrets.randbits(64)}


@dataclass
class _Judge:
    number: int
    process: int
    pipe: Connection
    deadline: float


@dataclass
class _ForkServer:
    """Forks one judge per job and passes on what it says."""

    requests: BinaryIO
    answers: BinaryIO
    control: socket.socket
    judges: dict[int, _Judge] = field(default_factory=dict)

    def serve(self) -> None:
        """Loop over requests and judges until both have ended."""
        import grader.judge.grading  # noqa: F401, PLC0415 (judges inherit it; the zygote must not have it)

        send(self.answers, _greeting())
        selector = selectors.DefaultSelector()
        selector.register(self.requests, selectors.EVENT_READ, None)
        reading = True
        while reading or self.judges:
            for key, _ in selector.select(timeout=1.0):
                if key.data is None:
                    try:
                        number, job = receive(self.requests)
                    except EOFError:
                        reading = False
                        selector.unregister(self.requests)
                        continue
                    judge = self._start(number, job)
                    selector.register(judge.pipe, selectors.EVENT_READ, judge)
                elif self._hear(key.data):
                    selector.unregister(key.data.pipe)
                    key.data.pipe.close()
            self._stop_late_ones()

    def _start(self, number: int, job: Any) -> _Judge:
        ours, theirs = Pipe(duplex=False)
        session, zygote_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.control, [b"open"], [zygote_end.fileno()])
        zygote_end.close()
        process = os.fork()
        if process == 0:
            try:
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                ours.close()
                _judge(job, session, theirs)
            finally:
                os._exit(0)
        theirs.close()
        session.close()
        judge = _Judge(number, process, ours, time.monotonic() + JUDGE_SECONDS)
        self.judges[number] = judge
        return judge

    def _hear(self, judge: _Judge) -> bool:
        """Pass on one message; say whether it was the last."""
        try:
            message = judge.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            message = {"broken": "The grader's own process ended without a verdict."}
        send(self.answers, {"number": judge.number, **message})
        if "check" in message:
            return False
        os.waitpid(judge.process, 0)
        del self.judges[judge.number]
        return True

    def _stop_late_ones(self) -> None:
        for judge in self.judges.values():
            if time.monotonic() > judge.deadline:
                os.kill(judge.process, signal.SIGKILL)


def _judge(job: Any, session: socket.socket, pipe: Connection) -> None:
    """Do one job in a forked judge."""
    from grader.judge.candidates import ForkLauncher  # noqa: PLC0415

    _do(job, ForkLauncher(session), pipe.send)


def _do(job: Any, launcher: Any, tell: Any) -> None:
    """Run a job and tell its result, or the sentence that stands for it."""
    from grader.errors import KitError  # noqa: PLC0415

    try:
        tell({"result": job(launcher, lambda done: tell({"check": done}))})
    except KitError as error:
        tell({"broken": str(error)})
    except Exception as error:  # a fault of ours must still end in an answer
        if os.environ.get("GRADE_DEBUG"):
            import traceback  # noqa: PLC0415

            traceback.print_exc()
        tell({"broken": f"The grader itself failed ({type(error).__name__}: {error})."})


def _serve_inline(requests: BinaryIO, answers: BinaryIO, hidden: Sequence[str]) -> None:
    from grader.judge.candidates import SpawnLauncher  # noqa: PLC0415

    launcher = SpawnLauncher(hidden)
    send(answers, _greeting())
    while True:
        try:
            number, job = receive(requests)
        except EOFError:
            return

        def tell(message: dict[str, Any], number: int = number) -> None:
            send(answers, {"number": number, **message})

        _do(job, launcher, tell)


if __name__ == "__main__":
    main()
