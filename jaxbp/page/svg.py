"""The pieces of a drawing: text whose width is known before it is drawn, lines, shapes, and the frame around them.

No browser tells us how wide a text will be, so `text_width` errs on the wide side: letters are taken as in DejaVu Sans,
the widest of the fonts that a system puts in the place of `system-ui`.
"""

from __future__ import annotations

import hashlib
import math
import unicodedata
from collections.abc import Iterable
from typing import Any

from jaxbp.page.markup import Markup, element


SMALL = 11.0  # ticks and numbers
NORMAL = 12.0  # names

_EM = {  # advance widths in em, by shape of the letter
    **dict.fromkeys("ijl|'", 0.30),
    **dict.fromkeys("I.,:;! ", 0.34),
    **dict.fromkeys("ft()[]/\\r-J`", 0.42),
    **dict.fromkeys('abcdeghknopqsuvxyz_"?*0123456789$', 0.64),
    **dict.fromkeys("ABCEFKLPRSTVXYZ^{}", 0.70),
    **dict.fromkeys("DGHNOQU&w+=<>~#×−±→", 0.84),
    **dict.fromkeys("mMW@%", 1.0),
}
_OTHER = 0.84


def text_width(text: str, size: float = SMALL) -> float:
    """An upper estimate of the width of `text` in a sans-serif font of that size."""
    return size * sum(_advance(c) for c in text)


def _advance(c: str) -> float:
    if unicodedata.combining(c):
        return 0.0
    if c in "⁰¹²³⁴⁵⁶⁷⁸⁹⁻":
        return 0.48
    return 1.0 if unicodedata.east_asian_width(c) in "WF" else _EM.get(unicodedata.normalize("NFD", c)[0], _OTHER)


def shorten(text: str, room: float, size: float = SMALL) -> str:
    """`text`, or its two ends around an ellipsis if it is wider than `room`."""
    if text_width(text, size) <= room:
        return text
    for keep in range(len(text) - 1, 1, -1):
        shorter = f"{text[: keep - keep // 3]}…{text[len(text) - keep // 3 :]}"
        if text_width(shorter, size) <= room:
            return shorter
    return "…"


def text(
    x: float,
    y: float,
    content: str,
    *,
    size: float = SMALL,
    anchor: str | None = None,
    room: float | None = None,
    **attributes: Any,
) -> Markup:
    """Text at its baseline (x, y); in `room` if given, and then the whole text is in its tooltip."""
    shown = content if room is None else shorten(content, room, size)
    whole = None if shown == content else element("title", content)
    return element("text", whole, shown, x=x, y=y, font_size=size, text_anchor=anchor, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, **attributes: Any) -> Markup:
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, **attributes)


def rect(x: float, y: float, width: float, height: float, *children: object, **attributes: Any) -> Markup:
    return element("rect", *children, x=x, y=y, width=width, height=height, **attributes)


def path(points: Iterable[tuple[float, float] | None], **attributes: Any) -> Markup | None:
    """A line through the points, broken at every None; a point between two breaks is drawn as a dot. None without points."""
    runs: list[list[tuple[float, float]]] = [[]]
    for point in points:
        if point is None:
            runs.append([])
        else:
            runs[-1].append(point)
    strokes = [_stroke(run) for run in runs if run]
    return element("path", d="".join(strokes), fill="none", **attributes) if strokes else None


def _stroke(run: list[tuple[float, float]]) -> str:
    if len(run) == 1:
        ((x, y),) = run
        return f"M{x - 1:.1f},{y:.1f}a1,1 0 1 0 2,0a1,1 0 1 0 -2,0"  # the stroke makes a dot of the circle
    start, *rest = (f"{x:.1f},{y:.1f}" for x, y in run)
    return f"M{start}L{' '.join(rest)}"


SHAPES = ("circle", "square", "triangle", "diamond")


def shape(kind: int, x: float, y: float, r: float, *children: object, **attributes: Any) -> Markup:
    """The kind-th of SHAPES (they repeat) around (x, y), all of about the same area."""
    name = SHAPES[kind % len(SHAPES)]
    if name == "circle":
        return element("circle", *children, cx=x, cy=y, r=r, **attributes)
    if name == "square":
        return rect(x - 0.9 * r, y - 0.9 * r, 1.8 * r, 1.8 * r, *children, **attributes)
    reach, angles = (1.3 * r, (-90, 30, 150)) if name == "triangle" else (1.25 * r, (0, 90, 180, 270))
    turns = [math.radians(degrees) for degrees in angles]
    points = " ".join(f"{x + reach * math.cos(a):.2f},{y + reach * math.sin(a):.2f}" for a in turns)
    return element("polygon", *children, points=points, **attributes)


def drawing(width: float, height: float, title: str, description: str, *children: object) -> Markup:
    """An <svg> that scales down with its box and tells a screen reader what it shows."""
    name = hashlib.sha256(f"{title}{description}{children}".encode(errors="replace")).hexdigest()[:10]
    return element(
        "svg",
        element("title", title, id=f"t{name}"),
        element("desc", description, id=f"d{name}"),
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {math.ceil(width)} {math.ceil(height)}",
        width=math.ceil(width),
        height=math.ceil(height),
        role="img",
        aria_labelledby=f"t{name} d{name}",
    )
