"""The grader's own process: imports torch, forks the zygote, then judges what it is sent.

Started by ``grader.judge.client``. Jobs come on standard input and answers leave on standard output. Where there is
fork, judges work beside each other and each job goes to one that has none; elsewhere jobs are judged here, one
after the other.
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
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import torch

from grader.candidate import zygote
from grader.judge.jobs import FileJob, GradeJob, receive, send

if TYPE_CHECKING:
    from grader.judge.candidates import ForkLauncher

PACKAGE = str(Path(__file__).resolve().parents[1])  # with the answer keys in it, when installed from a wheel
JUDGE_SECONDS = 240.0  # a judge keeps its candidates' deadlines; this is for a judge that hangs itself
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
    """A judge's process as the server sees it, with the job that it is at.

    Attributes:
        done: How many jobs it has done before.
    """

    process: int
    pipe: Connection
    number: int | None = None
    job: Any = None
    deadline: float = 0.0
    done: int = 0


@dataclass
class _ForkServer:
    """Gives each job to a judge that has none, and passes on what the judges say.

    A judge stays for the next job: what it has loaded, compiled and looked at serves that one too. One that dies, or
    has to be stopped, costs the job at hand alone; if it has done others before, that job may not be to blame, and goes
    to a new judge.
    """

    requests: BinaryIO
    answers: BinaryIO
    control: socket.socket
    judges: list[_Judge] = field(default_factory=list)
    selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def serve(self) -> None:
        """Serve until the command line hangs up; the judges end with this process."""
        from grader.judge import grading, plugin  # noqa: F401, PLC0415 (judges inherit them; the zygote must not)

        gc.freeze()  # a collection in a judge would copy every page that it touches
        gc.enable()
        send(self.answers, _greeting())
        self.selector.register(self.requests, selectors.EVENT_READ, None)
        while True:
            for key, _ in self.selector.select(timeout=1.0):
                if key.data is not None:
                    self._hear(key.data)
                    continue
                try:
                    number, job = receive(self.requests)
                except EOFError:
                    return
                self._give(number, job)
            self._stop_late_ones()

    def _give(self, number: int, job: Any) -> None:
        judge = next((judge for judge in self.judges if judge.number is None), None) or self._fork()
        self._let(judge, number, job)

    def _let(self, judge: _Judge, number: int, job: Any) -> None:
        judge.number, judge.job = number, job
        judge.deadline = time.monotonic() + getattr(job, "seconds", JUDGE_SECONDS)
        with suppress(OSError):  # it has died: to be heard of in a moment
            judge.pipe.send((job, None if len(self.judges) == 1 else self.judges.index(judge)))

    def _fork(self) -> _Judge:
        from grader.judge.candidates import ForkLauncher  # noqa: PLC0415

        ours, theirs = Pipe()
        session, zygote_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        socket.send_fds(self.control, [b"open"], [zygote_end.fileno()])
        zygote_end.close()
        process = os.fork()
        if process == 0:
            try:
                zygote.die_with_parent()
                signal.signal(signal.SIGINT, signal.SIG_IGN)
                for pipe in ours, *(judge.pipe for judge in self.judges):
                    pipe.close()
                _judge(theirs, ForkLauncher(session))
            finally:
                os._exit(0)
        theirs.close()
        session.close()
        judge = _Judge(process, ours)
        self.judges.append(judge)
        self.selector.register(ours, selectors.EVENT_READ, judge)
        return judge

    def _hear(self, judge: _Judge) -> None:
        """Pass on one message; a judge that has none to send any more is gone."""
        number = judge.number
        try:
            message = judge.pipe.recv()
        except (EOFError, OSError, pickle.UnpicklingError):
            self._bury(judge)
            if number is None:
                return
            if judge.done and time.monotonic() < judge.deadline:
                self._let(self._fork(), number, judge.job)
                return
            message = {"broken": "The grader's own process ended without a verdict."}
        if "check" not in message:
            judge.number = judge.job = None
            judge.done += 1
        send(self.answers, {"number": number, **message})

    def _bury(self, judge: _Judge) -> None:
        self.selector.unregister(judge.pipe)
        judge.pipe.close()
        with suppress(ProcessLookupError):
            os.kill(judge.process, signal.SIGKILL)
        os.waitpid(judge.process, 0)
        self.judges.remove(judge)

    def _stop_late_ones(self) -> None:
        for judge in self.judges:
            if judge.number is not None and time.monotonic() > judge.deadline:
                os.kill(judge.process, signal.SIGKILL)


def _judge(pipe: Connection, launcher: ForkLauncher) -> None:
    """Do one job after the other, all in one session of pytest, until the server hangs up."""
    from grader.judge.plugin import in_session  # noqa: PLC0415

    everywhere = os.sched_getaffinity(0)

    def work() -> None:
        while True:
            try:
                job, slot = pipe.recv()
            except EOFError:
                return
            with suppress(OSError, IndexError, ValueError):  # no matter of life and death
                launcher.place = _here() if slot is None else sorted(everywhere)[slot % len(everywhere)]
                os.sched_setaffinity(0, {launcher.place})
            if isinstance(job, (GradeJob, FileJob)):
                launcher.order()
            _do(job, launcher, pipe.send)
            launcher.cancel()
            with suppress(OSError):
                os.sched_setaffinity(0, everywhere)

    in_session(work)


def _here() -> int:
    """Return the processor that this process runs on: one that was free when it woke up."""
    return int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[36])


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
    from grader.judge.plugin import in_session  # noqa: PLC0415

    gc.enable()
    launcher = SpawnLauncher(hidden)
    send(answers, _greeting())

    def work() -> None:
        while True:
            try:
                number, job = receive(requests)
            except EOFError:
                return

            def tell(message: dict[str, Any], number: int = number) -> None:
                send(answers, {"number": number, **message})

            _do(job, launcher, tell)

    in_session(work)


if __name__ == "__main__":
    main()
