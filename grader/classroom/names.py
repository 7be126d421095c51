"""Names of students: as names of files, and as people read them."""

from __future__ import annotations

import hashlib
import re
import unicodedata

from grader.report.text import one_line

_SAFE = re.compile(r"[a-z0-9](?:[a-z0-9._@-]{0,62}[a-z0-9])?")
_RESERVED = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?")  # by Windows, with any suffix
_KEPT = 40  # characters of a name that is not safe as it stands


def page_name(student: str) -> str:
    """Return the name, without suffix, of a student's files in the results.

    No two students share one, not even where upper and lower case or ways to write an accent make no difference:
    a name of small ASCII letters, digits and ``._@-`` stands as it is, every other gets ``~`` and a digest of itself.
    """
    if _SAFE.fullmatch(student) and not _RESERVED.fullmatch(student):
        return student
    digest = hashlib.sha256(student.encode("utf-8", "surrogatepass")).hexdigest()[:20]
    bare = unicodedata.normalize("NFKD", student).encode("ascii", "ignore").decode().lower()
    readable = re.sub(r"[^a-z0-9]+", "-", bare)[:_KEPT].strip("-")
    return f"{readable or 'student'}~{digest}"


def shown_name(student: str) -> str:
    """Return a student's name fit to be shown; one that had to be changed for it is told apart by ``page_name``."""
    line = one_line(student)
    return line if line == student else f"{line} [{page_name(student)}]".lstrip()
