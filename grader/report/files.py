"""Files on their way to the disk."""

from __future__ import annotations

import os
from pathlib import Path

from grader.errors import UsageError


def write_whole(path: Path, content: str | bytes) -> None:
    """Write ``content`` to ``path`` so that no reader ever finds half of it; text as UTF-8, its line ends as they are.

    Raises:
        UsageError: If the folder does not let us.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with draft.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise UsageError(f"`{path}` could not be written: {error.strerror}.") from error


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, if it is not there.

    Raises:
        UsageError: If the folder above does not let us, or a file is in the way.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"The folder `{path}` could not be made: {error.strerror}. Choose another one.") from error
