"""What the learner's code ran, as a suite reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Op:
    """See ``grader.judge.suite.Op``."""

    name: str
    inputs: tuple[tuple[int, ...], ...]
    outputs: tuple[tuple[int, ...], ...]


class Trace:
    """See ``grader.judge.suite.Trace``; filled when the ``with`` block ends."""

    def __init__(self) -> None:
        self.ops: tuple[Op, ...] = ()
        self.functions: tuple[str, ...] = ()
        self.largest = 0
        self.mixed: tuple[str, ...] = ()

    def fill(self, log: Mapping[str, Any]) -> None:
        """Take over what the candidate wrote down."""
        ops = [str(op).split("|") for op in log["ops"]]
        self.ops = tuple(
            Op(name.removeprefix("aten::"), _shapes(inputs), _shapes(outputs)) for name, inputs, outputs in ops
        )
        self.functions = tuple(str(name) for name in log["functions"])
        self.largest = int(log["largest"])
        self.mixed = tuple(str(name) for name in log["mixed"])


def _shapes(text: str) -> tuple[tuple[int, ...], ...]:
    """Read shapes as the host writes them: ``"2,3;;"`` is two of them, the second that of a number."""
    return tuple(tuple(int(size) for size in shape.split(",") if size) for shape in text.split(";")[:-1])
