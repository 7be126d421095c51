"""Forks candidates from one process in which torch is imported already.

The zygote holds nothing secret: it is forked before the first answer key is read, and it never runs a learner's code.
Judges talk to it over Unix sockets. On the control socket the server sends ``open`` with a new socket's descriptor;
that socket is then one judge's session:

=============  ===================================================  =========================================
request        answer                                               descriptors with it
=============  ===================================================  =========================================
``spawn <n>``  ``<id>``; ``n`` is the processor to stay on, if any  frames (a stream socket), output (a pipe)
``kill <id>``  exit code, as ``os.waitstatus_to_exitcode`` tells it
``wait <id>``  the same, after a moment to leave by itself
=============  ===================================================  =========================================

When a session's socket closes, its candidates are killed. When the server dies, the zygote does, and as it is process 1
of its namespace every candidate dies with it.
"""

from __future__ import annotations

import ctypes
import gc
import os
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import torch

from grader.candidate import sandbox, worker
from grader.candidate.channel import Channel
from grader.candidate.trace import warm_up

MAX_CANDIDATES = 8  # of one session at a time
GRACE = 0.2  # seconds in which a candidate that closed its end may still leave by itself
_PR_SET_PDEATHSIG = 1


@dataclass
class _Session:
    socket: socket.socket
    candidates: dict[int, int] = field(default_factory=dict)  # id → process


def start(hidden: Sequence[str]) -> socket.socket:
    """Fork the zygote and return the control socket.

    The calling process must have one thread and must not have read an answer key yet.

    Args:
        hidden: Folders that no candidate may read.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if os.fork() == 0:
        code = 1
        try:
            ours.close()
            die_with_parent()
            _below(theirs, hidden)
            code = 0
        finally:
            os._exit(code)
    theirs.close()
    return ours


def _below(control: socket.socket, hidden: Sequence[str]) -> None:
    """Enter the namespaces and run the zygote in a child, which is process 1 there."""
    namespaces = sandbox.enter_namespaces()
    if "pid" not in namespaces:
        _run(control, hidden, namespaces)
        return
    child = os.fork()
    if child == 0:
        die_with_parent()
        _run(control, hidden, namespaces)
        return
    control.close()
    os.waitpid(child, 0)


def die_with_parent() -> None:
    """Have this process killed when the one that forked it ends."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _run(control: socket.socket, hidden: Sequence[str], namespaces: Sequence[str]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the command line's to handle
    _keep_only(control.fileno())
    torch.set_num_threads(1)
    warm_up()
    plan = sandbox.prepare(hidden, namespaces)
    gc.freeze()  # a collection in a child would copy every page that it touches
    gc.enable()
    _Zygote(control, plan).serve()


def _keep_only(descriptor: int) -> None:
    """Close the server's connections, and let standard streams lead nowhere."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in 0, 1, 2:
        os.dup2(nothing, stream)
    os.closerange(3, descriptor)
    os.closerange(descriptor + 1, os.sysconf("SC_OPEN_MAX") if descriptor > 1024 else 1024)


class _Zygote:
    def __init__(self, control: socket.socket, plan: sandbox.Plan) -> None:
        self._control = control
        self._plan = plan
        self._selector = selectors.DefaultSelector()
        self._next = 0

    def serve(self) -> None:
        self._selector.register(self._control, selectors.EVENT_READ, self._open)
        while True:
            for key, _ in self._selector.select():
                handle: Callable[[], bool] = key.data
                if not handle():
                    return

    def _open(self) -> bool:
        message, descriptors, _, _ = socket.recv_fds(self._control, 64, 1)
        if not message:
            return False
        session = _Session(socket.socket(fileno=descriptors[0]))
        self._selector.register(session.socket, selectors.EVENT_READ, lambda: self._answer(session))
        return True

    def _answer(self, session: _Session) -> bool:
        try:
            words = session.socket.recv(64).decode().split()
            if words[:1] == ["spawn"] and len(session.candidates) < MAX_CANDIDATES:
                self._spawn(session, [int(processor) for processor in words[1:]])
            elif words[:1] in (["kill"], ["wait"]):
                grace = GRACE if words[0] == "wait" else 0.0
                code = _end(session.candidates.pop(int(words[1])), grace)
                session.socket.send(str(code).encode())
            else:
                self._close(session)
        except (OSError, KeyError, ValueError):
            self._close(session)
        return True

    def _close(self, session: _Session) -> None:
        self._selector.unregister(session.socket)
        session.socket.close()
        for process in session.candidates.values():
            _end(process)

    def _spawn(self, session: _Session, processors: Sequence[int]) -> None:
        judge, candidate = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        out_judge, out_candidate = os.pipe()
        process = os.fork()
        if process == 0:
            try:
                self._become_candidate(candidate, out_candidate, processors)
            finally:
                os._exit(1)
        candidate.close()
        os.close(out_candidate)
        self._next += 1
        session.candidates[self._next] = process
        socket.send_fds(session.socket, [str(self._next).encode()], [judge.fileno(), out_judge])
        judge.close()
        os.close(out_judge)

    def _become_candidate(self, wire: socket.socket, output: int, processors: Sequence[int]) -> None:
        if processors:
            with suppress(OSError):
                os.sched_setaffinity(0, processors)
        os.dup2(output, 1)
        os.dup2(output, 2)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        layers = sandbox.lock_down(self._plan, (wire.fileno(),))
        sys.stdout = os.fdopen(1, "w", buffering=1, errors="replace")
        sys.stderr = os.fdopen(2, "w", buffering=1, errors="replace")
        channel = Channel(wire.makefile("rb"), wire.makefile("wb"))
        worker.serve(channel, layers)
        os._exit(0)


def _end(process: int, grace: float = 0.0) -> int:
    """Kill the process if it does not end by itself within ``grace`` seconds, and return its exit code."""
    deadline = time.monotonic() + grace
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= deadline:
            os.kill(process, signal.SIGKILL)
            return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        time.sleep(0.002)
