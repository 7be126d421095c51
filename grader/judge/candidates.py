"""Candidates as the judge holds them: started, asked, watched against their deadlines, killed.

A launcher starts them: ``ForkLauncher`` through the zygote, ``SpawnLauncher`` as subprocesses where there is no fork.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Protocol

from grader.candidate.channel import Channel, Closed
from grader.candidate.envelope import seal, unseal
from grader.candidate.wire import WireError, unpack

OUTPUT_KEPT = 16_000  # bytes of what a candidate prints
START_SECONDS = 30.0  # a spawned worker imports torch first


def _draw_numbers() -> Iterator[int]:
    """Draw a number for every request, so that a frame sent ahead is no answer; many at a time, as it is slow."""
    while True:
        yield from struct.unpack("<256q", secrets.token_bytes(256 * 8))


class CandidateDied(Exception):  # noqa: N818 (what happened to it is the point)
    """The candidate is gone, or answered what no candidate answers.

    Attributes:
        timed_out: Whether it was killed for taking too long.
        not_run: Whether it was not even asked, as its time was used up before.
    """

    def __init__(self, message: str, *, timed_out: bool = False, not_run: bool = False) -> None:
        super().__init__(message)
        self.timed_out = timed_out
        self.not_run = not_run


class Launcher(Protocol):
    """Starts candidates."""

    def launch(self) -> Candidate:
        """Start one; its first frame, the sandbox's layers, has been read."""


class Candidate:
    """One process that runs the learner's code.

    Args:
        channel: Frames to and from it.
        output: What it prints.
        end: Ends the process, at once or after a moment's grace, and returns its exit code.
    """

    def __init__(self, channel: Channel, output: BinaryIO, end: Callable[[bool], int | None]) -> None:
        self._channel = channel
        self._end = end
        self._output = bytearray()
        self._numbers = _draw_numbers()
        self._lock = threading.Lock()
        self._deadline: float | None = None
        self._over = threading.Event()
        self._timed_out = False
        self._code: int | None = None
        self._dead: CandidateDied | None = None
        self._reader = threading.Thread(target=self._collect, args=(output,), daemon=True)
        self._reader.start()
        threading.Thread(target=self._watch, daemon=True).start()
        self.layers: tuple[str, ...] = tuple(str(layer) for layer in self.hear(START_SECONDS)["layers"])

    def exchange(self, frames: Sequence[bytes], seconds: float) -> list[bytes]:
        """Send requests and return the replies, with one frame more: see ``Link``.

        Raises:
            CandidateDied: If they are not there within ``seconds``, or are none; the process is gone then.
        """
        if self._dead is not None:
            raise self._dead
        number = next(self._numbers)
        with self._limit(seconds):
            try:
                self._channel.send(seal(number, frames))
                answered, replies = unseal(self._channel.receive(), len(frames) + 1)
            except (Closed, WireError) as error:
                raise self._died(error, seconds) from None
        if answered != number:
            raise self.refuse(WireError("a reply to something that was not asked"))
        return replies

    def refuse(self, error: WireError) -> CandidateDied:
        """End the process for a reply that is none, and return what to raise."""
        return self._died(error, 0.0)

    def renew(self) -> None:
        """Fail: whoever started this candidate would have to start another."""
        raise CandidateDied("Your code's process is gone.")

    def hear(self, seconds: float) -> dict[str, Any]:
        """Return the next frame, for which nothing was asked."""
        with self._limit(seconds):
            try:
                frame = self._channel.receive()
            except (Closed, WireError) as error:
                raise self._died(error, seconds) from None
        return self._open(frame)

    def close(self) -> None:
        """End the process; what it printed stays to be read."""
        if not self._over.is_set():
            self._over.set()
            self._finish(at_once=True)
        self._channel.close()
        self._reader.join(0.2)

    @property
    def output(self) -> str:
        """What was printed so far, capped."""
        return bytes(self._output).decode(errors="replace")

    # --- deadlines and death -----------------------------------------------------------------------------------------

    def _limit(self, seconds: float) -> _Limit:
        return _Limit(self, time.monotonic() + seconds)

    def _watch(self) -> None:
        while not self._over.wait(0.05):
            if self._deadline is not None and time.monotonic() > self._deadline:
                self._timed_out = True
                self._over.set()
                self._finish(at_once=True)

    def _finish(self, *, at_once: bool) -> None:
        with self._lock:
            if self._code is None:
                self._code = self._end(at_once)

    def _open(self, frame: bytes) -> dict[str, Any]:
        try:
            return unpack(frame, trusted=False)
        except WireError as error:
            raise self.refuse(error) from None

    def _died(self, error: Exception, seconds: float) -> CandidateDied:
        self._over.set()
        self._finish(at_once=isinstance(error, WireError))
        self._dead = CandidateDied(self._obituary(error, seconds), timed_out=self._timed_out)
        return self._dead

    def _obituary(self, error: Exception, seconds: float) -> str:
        if self._timed_out:
            return (
                f"Your code was still running after {seconds:g} seconds and was stopped. Is there a loop without end?"
            )
        if isinstance(error, WireError):
            return f"Your code's process answered something that is no answer: {error}."
        if self._code is not None and self._code < 0:
            return f"Your code's process was ended by signal {-self._code}{_SIGNALS.get(-self._code, '')}."
        return f"Your code ended its process (exit code {self._code}). Call neither exit() nor os._exit()."

    def _collect(self, output: BinaryIO) -> None:
        with output:
            while True:
                try:
                    data = output.read(4096)
                except (OSError, ValueError):
                    return
                if not data:
                    return
                self._output += data[: max(0, OUTPUT_KEPT - len(self._output))]


_SIGNALS = {
    4: " (an illegal instruction)",
    6: " (abort: a check inside a library failed)",
    9: " (killed: was it out of memory?)",
    11: " (segmentation fault: was the recursion too deep?)",
    24: " (out of processor time)",
    31: " (a system call that is not allowed)",
}


class _Limit:
    def __init__(self, candidate: Candidate, deadline: float) -> None:
        self._candidate = candidate
        self._deadline = deadline

    def __enter__(self) -> None:
        self._candidate._deadline = self._deadline

    def __exit__(self, *_: object) -> None:
        self._candidate._deadline = None


class ForkLauncher:
    """Asks the zygote for candidates over one session socket.

    Args:
        session: The judge's end of a session (see ``grader.candidate.zygote``).

    Attributes:
        place: Processor that candidates shall stay on, if any. Judge and candidate take turns, so on two processors
            each would have to be woken up for every call.
    """

    def __init__(self, session: socket.socket) -> None:
        self._session = session
        self._turn = threading.Lock()
        self._ordered = False
        self.place: int | None = None

    def order(self) -> None:
        """Have a candidate forked while the caller does something else; the next ``launch`` takes it."""
        if not self._ordered:
            self._session.send(b"spawn" if self.place is None else b"spawn %d" % self.place)
            self._ordered = True

    def cancel(self) -> None:
        """End the candidate that was ordered, if nobody has taken it."""
        if self._ordered:
            self.launch().close()

    def launch(self) -> Candidate:
        """Fork one from the zygote."""
        with self._turn:
            self.order()
            self._ordered = False
            number, descriptors, _, _ = socket.recv_fds(self._session, 64, 2)
        if len(descriptors) != 2:
            raise CandidateDied("The process that starts your code is gone. Run the same command again.")
        wire = socket.socket(fileno=descriptors[0])
        channel = Channel(wire.makefile("rb"), wire.makefile("wb"))
        wire.close()  # the two files keep it open

        def end(at_once: bool) -> int | None:
            with self._turn:
                try:
                    self._session.send((b"kill " if at_once else b"wait ") + number)
                    return int(self._session.recv(64) or b"-9")
                except OSError:
                    return None

        return Candidate(channel, os.fdopen(descriptors[1], "rb", buffering=0), end)


class SpawnLauncher:
    """Starts each candidate as a Python of its own, which imports torch first.

    Args:
        hidden: Folders that no candidate may read.
    """

    def __init__(self, hidden: Sequence[str]) -> None:
        self._hidden = list(hidden)

    def launch(self) -> Candidate:
        """Start one subprocess."""
        pipe = subprocess.PIPE
        command = [sys.executable, "-P", "-m", "grader.candidate.worker", *self._hidden]
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe)  # noqa: S603 (our own interpreter)
        if process.stdin is None or process.stdout is None or process.stderr is None:
            raise CandidateDied("The process for your code could not be started.")

        def end(at_once: bool) -> int | None:
            try:
                return process.wait(0.0 if at_once else 0.2)
            except subprocess.TimeoutExpired:
                process.kill()
                return process.wait()

        output: Any = process.stderr
        return Candidate(Channel(process.stdout, process.stdin), output, end)  # type: ignore[arg-type]
