"""Markup that cannot be malformed: one builder for SVG and HTML, everything that comes as plain text is escaped."""

from __future__ import annotations

import html
import math


class Markup(str):
    """Text that is markup already; `element` passes it through, any other string is escaped."""

    __slots__ = ()


EMPTY = Markup("")
_VOID = frozenset(("meta", "br", "hr", "col", "img", "input"))
_NO_CONTROLS = {code: "\ufffd" for code in range(32) if code not in (9, 10, 13)}


def escape(text: object) -> Markup:
    """Markup that shows `text`; control characters, which XML cannot hold at all, become U+FFFD.

    >>> escape('a < "b"')
    'a &lt; &quot;b&quot;'
    """
    return text if isinstance(text, Markup) else Markup(html.escape(str(text).translate(_NO_CONTROLS)))


def element(tag: str, *children: object, **attributes: object) -> Markup:
    """<tag attributes>children</tag>.

    Attribute names are Python words: a trailing underscore falls off (`class_`), an inner one is a hyphen
    (`stroke_width`). None leaves an attribute or a child out; numbers are written short.

    >>> element("text", "a < b", x=1.50, class_="ink")
    '<text x="1.5" class="ink">a &lt; b</text>'
    """
    written = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{_value(value)}"' for name, value in attributes.items() if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}>")
    return Markup(f"<{tag}{written}>{join(children)}</{tag}>")


def join(children: object) -> Markup:
    """All children, one after another; nested lists and tuples are opened, None is left out."""
    if children is None:
        return EMPTY
    if isinstance(children, (list, tuple)):
        return Markup("".join(join(child) for child in children))
    return escape(children)


def _value(value: object) -> str:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"an attribute has to be finite, got {value}")
        return f"{round(value, 2) + 0.0:.2f}".rstrip("0").rstrip(".")  # + 0.0 makes -0.0 plain
    return escape(value)
