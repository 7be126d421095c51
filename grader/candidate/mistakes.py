"""An error of the learner's code as plain text that runs nothing more of it."""

from __future__ import annotations

import builtins
from types import TracebackType
from typing import Any

from grader.candidate.plain import name_of, plain

MAX_TEXT = 2_000  # characters of an error's message
_lineno = vars(SyntaxError)["lineno"].__get__  # a subclass may say what it likes


def describe_error(error: BaseException, file: str) -> dict[str, Any]:
    """Return type, message and the innermost line of the learner's file.

    Args:
        error: What was raised.
        file: The name under which the learner's source was compiled.
    """
    try:
        message: str = plain(str(error))
    except BaseException:  # a learner's exception may break while it is printed
        message = ""
    kind = type(error)
    bases = [name_of(base) for base in type.mro(kind) if getattr(builtins, name_of(base), None) is base]
    line = _lineno(error) if isinstance(error, SyntaxError) else _line_of(error.__traceback__, file)
    return {"type": name_of(kind)[:80], "bases": bases, "message": message[:MAX_TEXT], "line": plain(line)}


def _line_of(trace: TracebackType | None, file: str) -> int | None:
    line = None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line
