"""Pages from templates. Those in HTML are one file each, with their own style and no scripts, and load nothing.

Whatever comes from a student goes through ``plain`` or ``one_line`` and is escaped by the template engine.
"""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache, lru_cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup, escape

from grader.classroom.names import shown_name
from grader.report.markdown import in_markdown
from grader.report.text import number, one_line, plain

_CODE = re.compile(r"`([^`\n]+)`")


def render(template: str, **values: Any) -> str:
    """Return a page made from a file in ``templates/``."""
    return _environment().get_template(template).render(values)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("grader.classroom"),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "coded": _coded,
        "counted": _counted,
        "in_markdown": in_markdown,
        "number": number,
        "one_line": one_line,
        "plain": plain,
        "shown_name": shown_name,
    }
    style = environment.get_template("style.css").render()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    environment.globals |= {"style": Markup(style), "style_hash": f"sha256-{digest}"}  # noqa: S704 (our own file)
    return environment


@lru_cache(maxsize=4096)  # a class reads the same titles and messages over and over
def _coded(text: str) -> Markup:
    """Escape ``plain(text)`` and set what stands in backticks as code."""
    safe = str(escape(plain(text).strip("\n")))
    return Markup(_CODE.sub(r"<code>\1</code>", safe))  # noqa: S704 (escaped just before)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
