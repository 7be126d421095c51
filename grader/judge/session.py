"""One conversation with the learner's code: requests, and what the engine itself holds against an answer."""

from __future__ import annotations

import builtins
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from grader.candidate.host import Host
from grader.candidate.wire import pack, unpack

CALL_SECONDS = 5.0
LOAD_SECONDS = 10.0
CLOSELY = 1 / 8  # of all calls, see `grader.candidate.trace`
MAX_LINE = 2**20  # no file that is read at all has as many


class CandidateError(Exception):
    """An exception of the learner's code; it is also of the built-in type that the learner raised.

    Attributes:
        type_name: Name of the learner's exception class.
        line: Line of the submission where it was raised, if that is known.
        call: The function, class or method that the suite had called.
    """

    type_name = "Exception"
    call = ""
    line: int | None = None

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


@lru_cache(maxsize=256)
def _error_class(base: str) -> type[CandidateError]:
    """Return a class that ``except base`` catches."""
    parent = getattr(builtins, base, None)
    usable = isinstance(parent, type) and issubclass(parent, Exception) and parent is not Exception
    if not usable or not isinstance(parent, type):
        return CandidateError
    try:
        made = type(f"Candidate{base}", (CandidateError, parent), {})
        made("a message")
    except TypeError:  # a layout that cannot be mixed, or more arguments than one, as UnicodeDecodeError's
        return CandidateError
    return made


def error_from(reply: object) -> CandidateError:
    """Return the learner's exception as an exception to raise here."""
    said: Mapping[str, Any] = reply if isinstance(reply, Mapping) else {}
    bases = said.get("bases")
    made = [_error_class(str(base)) for base in bases[:8]] if isinstance(bases, list) else []
    kind = next((error for error in made if error is not CandidateError), CandidateError)
    error = kind(clean(str(said.get("message", ""))))
    error.type_name = clean(str(said.get("type", "Exception")), 80)
    error.line = line_from(said.get("line"))
    return error


def line_from(said: object) -> int | None:
    """Return what the candidate says is a line, if it can be one."""
    return said if type(said) is int and 0 < said < MAX_LINE else None


def clean(text: str, limit: int = 2_000) -> str:
    """Return ``text`` without control and direction characters, and no longer than ``limit``."""
    kept = "".join(c for c in text[: limit + 1] if c in "\n\t" or (c.isprintable() and not "\u2066" <= c <= "\u2069"))
    return kept if len(kept) <= limit else kept[: limit - 1] + "…"


Explain = Callable[[CandidateError], Exception]


def _as_it_is(error: CandidateError) -> Exception:
    return error


class Link(Protocol):
    """Carries one request to the learner's code and brings the reply."""

    def ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Return the reply, or raise ``CandidateDied``."""


class LocalLink:
    """A host in this very process: for authors' variants, which are trusted. Bytes cross all the same."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def ask(self, message: dict[str, Any], seconds: float) -> dict[str, Any]:
        """Answer at once; ``seconds`` is not watched."""
        return unpack(self._host.answer(pack(message, strided=True)), trusted=False)


@dataclass
class Session:
    """Sends requests of one check and remembers what went wrong besides their values.

    Attributes:
        link: Where the learner's code is.
        on_ran: Told of every function and operator that ran for the first time, with the line that led there.
        secret: Decides together with the check's seed, which the candidate is told, what it is not told.
        changed: Descriptions of inputs that were changed in place, since the check began.
        calls: How many calls were made.
        kinds: Name → kind of what the learner's file defines, once that is known.
    """

    link: Link
    on_ran: Callable[[str, int | None], None] = lambda name, line: None
    secret: int = 0
    changed: list[str] = field(default_factory=list)
    calls: int = 0
    kinds: Mapping[str, str] | None = None
    _later: list[tuple[dict[str, Any], Explain]] = field(default_factory=list)
    _dice: random.Random = field(default_factory=random.Random)

    def ask(self, op: str, seconds: float = CALL_SECONDS, **fields: Any) -> Any:
        """Return the reply to a request.

        Raises:
            CandidateError: If the learner's code raised.
            CandidateDied: If there is no reply.
        """
        message: dict[str, Any] = {"op": op, **fields}
        later, self._later = self._later, []
        if later:
            message["first"] = [request for request, _ in later]
        reply = self.link.ask(message, seconds)
        ran = reply.get("ran")
        if isinstance(ran, dict):
            for name, line in ran.items():
                self.on_ran(clean(str(name), 200), line_from(line))
        if "error" in reply:
            failed = reply.get("failed")
            explain = later[failed][1] if type(failed) is int and 0 <= failed < len(later) else _as_it_is
            raise explain(error_from(reply["error"])) from None
        return reply

    def tell(self, op: str, explain: Explain = _as_it_is, **fields: Any) -> None:
        """Send a request along with the next one, as nothing but an error could come back.

        Args:
            op: See ``ask``. What the fields hold must stay as it is until then.
            explain: Turns an error of the learner's into the one to raise; the next ``ask`` raises it.
        """
        self._later.append(({"op": op, **fields}, explain))

    def begin(self, seed: int) -> Mapping[str, str]:
        """Start a check: nothing of the one before is left. Return what the learner's file defines."""
        self.changed.clear()
        self._later.clear()
        self._dice.seed(self.secret ^ seed)
        if self.kinds is None:
            self.take_kinds(self.ask("reset", seed=seed))
        else:
            self.tell("reset", seed=seed)
        return self.kinds or {}

    def take_kinds(self, reply: Mapping[str, Any]) -> None:
        """Remember what the candidate says that the learner's file defines."""
        kinds = reply.get("value")
        self.kinds = kinds if isinstance(kinds, dict) else {}

    def closely(self) -> bool:
        """Say whether operators are listened to in the next call: in some of them, and nobody can know in which."""
        return self._dice.random() < CLOSELY
