"""Students' Markdown as HTML without anything active: a teacher who grades is logged in where the grades are."""

from __future__ import annotations

import re
from typing import Any

import bleach  # type: ignore[import-untyped]
from bleach.css_sanitizer import CSSSanitizer  # type: ignore[import-untyped]
from jinja2 import pass_context
from jinja2.runtime import Context
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath

_TAGS = bleach.ALLOWED_TAGS.union(
    {f"h{level}" for level in range(1, 7)},
    {"br", "dd", "del", "div", "dl", "dt", "hr", "img", "ins", "kbd", "p", "pre", "s", "span", "sub", "sup"},
    {"table", "tbody", "td", "th", "thead", "tr"},
)
_COLOURS = re.compile(r"highlight|[a-z0-9]{1,3}")  # the classes of code in colour; others could cover the page


def _is_colour(tag: str, name: str, value: str) -> bool:
    return name == "class" and _COLOURS.fullmatch(value) is not None


_ATTRIBUTES = {
    "a": ["href", "title"],
    "div": _is_colour,
    "img": ["src", "alt", "title", "width", "height"],
    "ol": ["start"],
    "span": _is_colour,
    "td": ["style"],
    "th": ["style"],
}
_STYLES = CSSSanitizer(allowed_css_properties=["text-align"])


@pass_context
def safe_markdown(context: Context, source: str) -> str:
    """Render Markdown as nbconvert does, pictures that a teacher attached included, and take out what could run.

    Takes the place of nbconvert's filter ``markdown2html``.
    """
    cell: Any = context.get("cell", {})
    renderer = IPythonRenderer(escape=False, attachments=cell.get("attachments", {}))
    html = MarkdownWithMath(renderer=renderer).render(source)
    clean: str = bleach.clean(
        html,
        tags=_TAGS,
        attributes=_ATTRIBUTES,
        protocols=["http", "https", "mailto", "data"],
        css_sanitizer=_STYLES,
    )
    return clean
