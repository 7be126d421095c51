"""The learner's file as if it were a local module."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from grader.judge.proxy import RemoteCallable
from grader.judge.session import Session
from grader.judge.suite import CheckFailure
from grader.judge.traces import Trace


class Impl:
    """What a suite calls ``impl``.

    Args:
        session: The conversation.
        kinds: Name → kind of what the learner's file defines.
    """

    def __init__(self, session: Session, kinds: Mapping[str, str]) -> None:
        self._session = session
        self._kinds = kinds

    def __getattr__(self, name: str) -> RemoteCallable:
        if name.startswith("__"):
            raise AttributeError(name)
        if self._kinds.get(name) not in ("function", "class", "import"):
            raise CheckFailure(self._missing(name))
        self._session.looked_up[name] = self._kinds[name]
        return RemoteCallable(self._session, name, is_class=self._kinds[name] == "class")

    def _missing(self, name: str) -> str:
        if name in self._kinds:
            return f"`{name}` should be a function or a class, but your file assigns a value to that name."
        found = [other for other, kind in self._kinds.items() if kind in ("function", "class")][:8]
        there = "It defines " + ", ".join(f"`{other}`" for other in found) + "." if found else "It defines nothing."
        return f"Your file has no `{name}`. {there} Names and arguments must stay as they are in the stub."

    @contextmanager
    def trace(self) -> Iterator[Trace]:
        """Record what the learner's code runs inside the block."""
        trace = Trace()
        self._session.tell("trace", on=True)
        try:
            yield trace
        finally:
            log = self._session.ask("trace", on=False)["value"]
        try:
            trace.fill(log)
        except (TypeError, ValueError, KeyError):
            raise CheckFailure("What your code ran could not be recorded.") from None

    @contextmanager
    def default_device(self, device: str) -> Iterator[None]:
        """Let tensors that the learner makes without a device lie on ``device`` inside the block."""
        self._session.tell("device", device=torch.device(device))
        try:
            yield
        finally:
            self._session.tell("device", device=None)
