"""What the checks of a suite ask with one seed, and which answers have passed them.

A class is asked the same by everybody's seed, and suites ask in the same order whatever comes back, as long as nothing
is wrong. So from the second submission on, all that a check is going to ask can be asked in one go, and where the
answers are those that have passed the check before, byte for byte, it is passed without being run again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from grader.judge.answerkey import AnswerKey

MAX_BYTES = 64 * 2**20  # of the requests that are remembered for one exercise and seed


@dataclass
class Script:
    """Of one check.

    Attributes:
        requests: All that it asks, in order; nothing if what it asks depends on the answers.
        kinds: Name → kind of what it looks up in the learner's file: its outcome depends on these, too.
        passed: Digests of answers that have passed it, of files with names of these kinds.
    """

    requests: tuple[bytes, ...]
    kinds: Mapping[str, str] = field(default_factory=dict)
    passed: set[bytes] = field(default_factory=set)

    def is_passed_by(self, heard: Sequence[bytes], kinds: Mapping[str, str]) -> bool:
        """Say whether these answers have passed the check before.

        Args:
            heard: Their digests.
            kinds: Name → kind of what the file defines that they come from.
        """
        alike = all(kinds.get(name) == kind for name, kind in self.kinds.items())
        return alike and digest_of(heard) in self.passed


class Scripts:
    """Of the checks of one suite with one seed, by the checks' names."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script] = {}
        self._size = 0

    def find(self, name: str) -> Script:
        """Return the script of a check; an empty one as long as there is none."""
        return self._scripts.get(name, _UNKNOWN)

    def learn(self, name: str, said: Sequence[bytes], heard: Sequence[bytes], kinds: Mapping[str, str]) -> None:
        """Remember what a check has asked, and what was answered, when it was passed.

        One that has asked something else before, and was passed then too, depends on the answers.

        Args:
            name: Of the check.
            said: What it has asked.
            heard: Digests of the answers.
            kinds: Name → kind of what it has looked up in the learner's file.
        """
        script = self._scripts.get(name)
        if script is None:
            self._size += sum(map(len, said))
            script = self._scripts[name] = Script(tuple(said) if self._size <= MAX_BYTES else (), dict(kinds))
        elif script.requests != tuple(said):
            script = self._scripts[name] = Script(())
        if script.requests and script.kinds == kinds:
            script.passed.add(digest_of(heard))


_UNKNOWN = Script(())
_kept: WeakKeyDictionary[AnswerKey, tuple[int, Scripts]] = WeakKeyDictionary()


def scripts_of(key: AnswerKey, seed: int) -> Scripts:
    """Return what this process remembers of an exercise: of one seed, the last one."""
    if _kept.get(key, (None, None))[0] != seed:
        _kept[key] = seed, Scripts()
    return _kept[key][1]


def digest_of_one(answer: bytes) -> bytes:
    """Return what stands for an answer."""
    return hashlib.sha256(answer).digest()


def digest_of(digests: Iterable[bytes]) -> bytes:
    """Return what stands for several answers in their order."""
    return hashlib.sha256(b"".join(digests)).digest()
