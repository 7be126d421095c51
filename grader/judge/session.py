"""One conversation with the learner's code: requests, and what the engine itself holds against an answer."""

from __future__ import annotations

import builtins
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Protocol

from grader.candidate.host import Host
from grader.candidate.wire import WireError, pack, unpack
from grader.judge.scripts import digest_of_one

CALL_SECONDS = 5.0
LOAD_SECONDS = 10.0
REHEARSAL_SECONDS = 2.0  # for all that a check asks; what takes longer is asked step by step
CLOSELY = 1 / 8  # of all calls, see `grader.candidate.trace`
MAX_LINE = 2**20  # no file that is read at all has as many
MAX_RAN = 20_000  # functions and operators; PyTorch has a few thousand


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
    made = [_error_class(_text(base)[:80]) for base in bases[:8]] if isinstance(bases, list) else []
    kind = next((error for error in made if error is not CandidateError), CandidateError)
    error = kind(clean(_text(said.get("message"))))
    error.type_name = clean(_text(said.get("type")) or "Exception", 80)
    error.line = line_from(said.get("line"))
    return error


def _text(said: object) -> str:
    """Return what the candidate says is a text, if it is one: to write out ten thousand tensors takes its time."""
    return said if isinstance(said, str) else ""


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
    """Carries requests to the learner's code and brings the replies."""

    def exchange(self, frames: Sequence[bytes], seconds: float) -> list[bytes]:
        """Return a reply for each request, and one frame more: what ran for the first time, or nothing.

        Raises:
            CandidateDied: If there are none.
        """

    def refuse(self, error: WireError) -> Exception:
        """Have done with whoever sent a reply that is none, and return what to raise."""

    def renew(self) -> None:
        """Put a fresh copy of the learner's code in the place of the one that answers.

        Raises:
            CandidateDied: If that cannot be done.
        """


class LocalLink:
    """A host in this very process: for authors' variants, which are trusted. Bytes cross all the same."""

    def __init__(self, host: Host) -> None:
        self._host = host

    def exchange(self, frames: Sequence[bytes], seconds: float) -> list[bytes]:
        """Answer at once; ``seconds`` is not watched."""
        return [*map(self._host.answer, frames), self._host.news()]

    def refuse(self, error: WireError) -> Exception:
        """Return the error itself."""
        return error

    def renew(self) -> None:
        """Do nothing: nothing is ever asked ahead here."""


@dataclass
class Session:
    """Sends requests of one check and remembers what went wrong besides their values.

    Attributes:
        link: Where the learner's code is.
        on_ran: Told of every function and operator that ran for the first time, with the line that led there.
        secret: Decides together with the check's seed, which the candidate is told, what it is not told.
        changed: Descriptions of inputs that were changed in place, since the check began.
        calls: How many calls were made since then.
        kinds: Name → kind of what the learner's file defines, once that is known.
        said: The requests since the check began.
        heard: Digests of the replies to them; the replies of a hostile candidate would fill the memory.
        looked_up: Name → kind of what the check has looked up in the learner's file.
        past: The requests before that, as a check after the other has made them.
    """

    link: Link
    on_ran: Callable[[str, int | None], None] = lambda name, line: None
    secret: int = 0
    changed: list[str] = field(default_factory=list)
    calls: int = 0
    kinds: Mapping[str, str] | None = None
    said: list[bytes] = field(default_factory=list)
    heard: list[bytes] = field(default_factory=list)
    looked_up: dict[str, str] = field(default_factory=dict)
    past: list[bytes] = field(default_factory=list)
    _script: Sequence[bytes] = ()
    _ahead: Sequence[bytes] = ()
    _digests: Sequence[bytes] = ()
    _ran_ahead: dict[str, int | None] = field(default_factory=dict)
    _names: int = 0  # of what ran, told so far
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
        reply = self._open(self._reply(pack(message, strided=True), seconds))
        if "error" in reply:
            failed = reply.get("failed")
            explain = later[failed][1] if type(failed) is int and 0 <= failed < len(later) else _as_it_is
            raise explain(error_from(reply["error"])) from None
        return reply

    def _reply(self, frame: bytes, seconds: float) -> bytes:
        place = len(self.said)
        if place < len(self._ahead) and frame == self._script[place]:
            reply, digest = self._ahead[place], self._digests[place]
        else:
            if self.has_asked_too_much():
                self.start_over()
            (reply,) = self._exchange([frame], seconds)
            digest = digest_of_one(reply)
        self.said.append(frame)
        self.heard.append(digest)
        self._tell_what_ran_ahead()
        return reply

    def _exchange(self, frames: Sequence[bytes], seconds: float) -> list[bytes]:
        *replies, news = self.link.exchange(frames, seconds)
        for name, line in self._ran(news).items():
            self.on_ran(name, line)
        return replies

    def _ran(self, news: bytes) -> dict[str, int | None]:
        """Return name → line of what ran for the first time."""
        ran = self._open(news).get("ran") if news else None
        if not isinstance(ran, dict):
            return {}
        self._names += len(ran)
        if self._names > MAX_RAN:
            raise self.link.refuse(WireError("more functions than there are"))
        return {clean(_text(name), 200): line_from(line) for name, line in ran.items()}

    def _open(self, frame: bytes) -> dict[str, Any]:
        try:
            return unpack(frame, trusted=False)
        except WireError as error:
            raise self.link.refuse(error) from None

    # --- asking ahead ------------------------------------------------------------------------------------------------

    def rehearse(self, script: Sequence[bytes]) -> Sequence[bytes]:
        """Ask all that the next check is going to ask, and return the replies' digests.

        The check gets these replies as long as it asks the same.

        Raises:
            CandidateDied: If there are no replies.
        """
        self._close_check()
        if script:
            *self._ahead, news = self.link.exchange(script, REHEARSAL_SECONDS)
            self._script, self._ran_ahead = script, self._ran(news)
            self._digests = [digest_of_one(reply) for reply in self._ahead]
        return self._digests if self._ahead else ()

    def skip(self, script: Sequence[bytes]) -> None:
        """Let the check that was rehearsed be over, as all that it asks was asked."""
        self.said = list(script)
        self._tell_what_ran_ahead()

    def has_asked_too_much(self) -> bool:
        """Say whether more was asked ahead than the check has asked."""
        return len(self.said) < len(self._ahead)

    def start_over(self) -> None:
        """Bring a fresh copy of the learner's code to where the check stands, as if nothing else was ever asked of it.

        Raises:
            CandidateDied: If it does not get there.
        """
        self._script = self._ahead = ()
        self._ran_ahead = {}  # in part by what the check did not ask; the rest runs again
        self.link.renew()
        if frames := [*self.past, *self.said]:
            self._exchange(frames, CALL_SECONDS * len(frames))

    def _close_check(self) -> None:
        self.past += self.said
        self.said, self.heard, self._script, self._ahead, self._ran_ahead = [], [], (), (), {}

    def _tell_what_ran_ahead(self) -> None:
        """Tell what ran while the check was asked ahead, once it has come to ask all of that."""
        if len(self.said) == len(self._ahead):
            for name, line in self._ran_ahead.items():
                self.on_ran(name, line)
            self._ran_ahead = {}

    # --- a check -----------------------------------------------------------------------------------------------------

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
        self.looked_up.clear()
        self._later.clear()
        self.calls = 0
        if self.said:
            self._close_check()
        self._dice.seed(self.secret ^ seed)
        if self.kinds is None:
            self.take_kinds(self.ask("reset", seed=seed))
        else:
            self.tell("reset", seed=seed)
        return self.kinds or {}

    def take_kinds(self, reply: Mapping[str, Any]) -> None:
        """Remember what the candidate says that the learner's file defines."""
        kinds = reply.get("value")
        self.kinds = {n: k for n, k in kinds.items() if type(k) is str} if isinstance(kinds, dict) else {}

    def closely(self) -> bool:
        """Say whether operators are listened to in the next call: in some of them, and nobody can know in which."""
        return self._dice.random() < CLOSELY
