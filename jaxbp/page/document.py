"""A page: one self-contained HTML file, light and dark, that prints; no script, nothing loaded from elsewhere."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from jaxbp.page.markup import Markup, element
from jaxbp.page.style import STYLE
from jaxbp.page.tables import number


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading, the sentence below it, and blocks: figures, tables, text (a plain string is a paragraph)."""

    title: str
    blocks: Sequence[object]
    lead: str | None = None

    @property
    def name(self) -> str:
        """The section's place in the address, such as #learning-curves."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


def document(title: str, sections: Sequence[Section], *, lead: object = None, footer: object = None) -> str:
    """The whole file, from <!doctype html> on."""
    names = _unique([s.name for s in sections])
    contents = [element("li", element("a", s.title, href=f"#{n}")) for s, n in zip(sections, names, strict=True)]
    header = element(
        "header",
        element("h1", title),
        element("p", lead, class_="lead") if lead else None,
        element("nav", element("ul", contents), aria_label="Sections") if len(contents) > 1 else None,
    )
    body = [
        element("section", element("h2", s.title, id=n), element("p", s.lead) if s.lead else None, *map(_block, s.blocks))
        for s, n in zip(sections, names, strict=True)
    ]
    head = [
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Markup(STYLE)),
    ]
    foot = element("footer", footer) if footer else None
    page = element("html", element("head", head), element("body", element("main", header, body, foot)), lang="en")
    return f"<!doctype html>\n{page}\n"


def figure(drawing: Markup, title: str | None = None, note: str | None = None) -> Markup:
    """A drawing under its title and over its note, in a box that scrolls when the drawing is wider than the page."""
    return element(
        "figure",
        element("h3", title) if title else None,
        element("div", drawing, class_="scroll", tabindex="0", role="region", aria_label=title or "figure"),
        element("figcaption", note) if note else None,
    )


def grid(*blocks: object) -> Markup:
    """Blocks side by side where the page is wide enough, else one below the other."""
    return element("div", [element("div", _block(b)) for b in blocks if b is not None], class_="grid")


def key_figures(figures: Sequence[tuple[str, Any] | tuple[str, Any, str]]) -> Markup:
    """The few numbers that a reader came for: (label, value, note) each."""
    items = []
    for label, value, *note in figures:
        shown = value if isinstance(value, str) else number(value)
        below = element("dd", note[0], class_="note") if note and note[0] else None
        items.append(element("div", element("dt", label), element("dd", shown), below))
    return element("dl", items, class_="key")


def facts(values: Mapping[str, Any]) -> Markup:
    """Names and values below each other; a mapping inside is opened, as "outer.inner"."""
    flat = list(_flat(values))
    return element("dl", [element("div", element("dt", k), element("dd", v)) for k, v in flat], class_="facts")


def code(text: str) -> Markup:
    """Source code, broken over lines where it is longer than the page is wide."""
    return element("pre", element("code", text))


def _block(block: object) -> Markup:
    return block if isinstance(block, Markup) else element("p", block)


def _flat(values: Mapping[str, Any], before: str = "") -> Any:
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", _fact(value)


def _fact(value: Any) -> str:
    if value is None or isinstance(value, (bool, str)):
        return {None: "none", True: "yes", False: "no"}.get(value, value)  # type: ignore[arg-type, return-value]
    if isinstance(value, (list, tuple, Mapping)):  # a mapping that comes here is empty
        return ", ".join(map(_fact, value)) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _unique(names: Sequence[str]) -> list[str]:
    seen: dict[str, int] = {}
    unique = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        unique.append(name if seen[name] == 1 else f"{name}-{seen[name]}")
    return unique
