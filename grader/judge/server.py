"""The grader's own process: imports torch, forks the zygote, then judges what it is sent.

Started by ``grader.judge.client``. Jobs come on standard input and answers leave on standard output. Where there is
fork every job gets a judge of its own; elsewhere jobs are judged here, one after the other.
"""

from __future__ import annotations

import gc

if __name__ == "__main__":
    gc.disable()  # importing torch leaves no garbage, and looking for it takes a tenth of the time

import os
import pickle
import secrets
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, BinaryIO

import torch

from grader.candidate import zygote
from grader.judge.jobs import FileJob, GradeJob, receive, send

PACKAGE = str(Path(__file__).resolve().parents[1])  # with the answer keys in it, when installed from a wheel
JUDGE_SECONDS = 120.0  # a judge keeps its candidates' deadlines; this is for a judge that hangs itself
PROGRESS_SECONDS = 0.1  # between two words on how far a judge is: each wakes up two processes


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
    torch_version = str(torch.__version__)  # of a type of its own, which would take torch to unpickle
    versions = {"python": sys.version.split()[0], "torch": torch_version}
    return {"versions": versions, "seed": secrets.randbits(64)}


@dataclass
class _Judge:
    number: int
    job: Any
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
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)
    seen: Counter[str] = field(default_factory=Counter)

    def serve(self) -> None:
        """Serve until the command line hangs up; the judges end with this process.

        What many judges would do again, each for itself, is done here before they are forked, as soon as it keeps
        nobody waiting for a single result: pytest's session is started after the first one.
        """
        from grader.judge import grading, plugin  # noqa: F401, PLC0415 (judges inherit them; the zygote must not)

        gc.freeze()  # a collection in a judge would copy every page that it touches
        gc.enable()
        send(self.answers, _greeting())
        self.selector.register(self.requests, selectors.EVENT_READ, None)
        if self._loop(once=True):
            plugin.in_session(self._loop)

    def _loop(self, *, once: bool = False) -> bool:
        """Loop over requests and judges until the command line hangs up or, with ``once``, a first job is done."""
        gc.freeze()
        while True:
            for key, _ in self.selector.select(timeout=1.0):
                if key.data is None:
                    try:
                        number, job = receive(self.requests)
                    except EOFError:
                        return False
                    self._start(number, job)
                elif self._hear(key.data) and once:
                    return True
            self._stop_late_ones()

    def _get_ready(self, job: Any) -> None:
        """Load the answer key that a job needed, if it was needed twice; now, while nobody waits for a result."""
        from grader.judge.diagnose import keep_ready  # noqa: PLC0415

        if isinstance(job, (GradeJob, FileJob)):
            self.seen[job.exercise.slug] += 1
            if self.seen[job.exercise.slug] == 2:
                with suppress(Exception):  # the judge will meet the same, and say so
                    keep_ready(job.exercise)
                gc.freeze()

    def _start(self, number: int, job: Any) -> None:
        from grader.judge.candidates import ForkLauncher  # noqa: PLC0415

        ours, theirs = Pipe(duplex=False)
        session, zygote_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.control, [b"open"], [zygote_end.fileno()])
        zygote_end.close()
        launcher = ForkLauncher(session)
        if isinstance(job, (GradeJob, FileJob)):
            launcher.order()
        process = os.fork()
        if process == 0:
            try:
                zygote.die_with_parent()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                ours.close()
                _do(job, launcher, theirs.send)
            finally:
                os._exit(0)
        theirs.close()
        session.close()
        judge = _Judge(number, job, process, ours, time.monotonic() + getattr(job, "seconds", JUDGE_SECONDS))
        self.judges[number] = judge
        self.selector.register(ours, selectors.EVENT_READ, judge)

    def _hear(self, judge: _Judge) -> bool:
        """Pass on one message; say whether it was the last."""
        try:
            message = judge.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            message = {"broken": "The grader's own process ended without a verdict."}
        send(self.answers, {"number": judge.number, **message})
        if "check" in message:
            return False
        self.selector.unregister(judge.pipe)
        judge.pipe.close()
        os.waitpid(judge.process, 0)
        del self.judges[judge.number]
        self._get_ready(judge.job)
        return True

    def _stop_late_ones(self) -> None:
        for judge in self.judges.values():
            if time.monotonic() > judge.deadline:
                os.kill(judge.process, signal.SIGKILL)


def _do(job: Any, launcher: Any, tell: Callable[[dict[str, Any]], None]) -> None:
    """Run a job and tell its result, or the sentence that stands for it."""
    from grader.errors import KitError  # noqa: PLC0415

    told = time.monotonic()

    def on_check(done: int) -> None:
        nonlocal told
        if time.monotonic() > told + PROGRESS_SECONDS:
            told = time.monotonic()
            tell({"check": done})

    try:
        tell({"result": job(launcher, on_check)})
    except KitError as error:
        tell({"broken": str(error)})
    except Exception as error:  # a fault of ours must still end in an answer
        if os.environ.get("GRADE_DEBUG"):
            import traceback  # noqa: PLC0415

            traceback.print_exc()
        tell({"broken": f"The grader itself failed ({type(error).__name__}: {error})."})


def _serve_inline(requests: BinaryIO, answers: BinaryIO, hidden: Sequence[str]) -> None:
    from grader.judge.candidates import SpawnLauncher  # noqa: PLC0415

    gc.enable()
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
