"""A small net with its numbers: every unit, and every weight on its link."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from jaxbp.page.markup import Markup, element
from jaxbp.page.svg import NORMAL, SMALL, drawing, rect, shorten, text, text_width
from jaxbp.page.tables import number


_RADIUS = 17.0
_STEP = 62.0  # from one unit to the next, at the least
_NOTE = 14.0  # from one line of notes to the next
_GAP = (170.0, 260.0)  # between columns: the least, and the most that a page's width is used for
_PAGE = 700.0
_NAME = 2 * _RADIUS - 4
_THICK = (0.8, 4.5)
_SPOTS = (0.3, 0.7, 0.22, 0.78, 0.38, 0.62, 0.5, 0.15, 0.85)  # where on a link its number is tried

Box = tuple[float, float, float, float]


@dataclasses.dataclass(frozen=True)
class Node:
    """One unit: its name inside the circle, and what is known of it beside it or below ("out 0.751", "bias 0.60")."""

    name: str
    notes: Sequence[str] = ()


def draw_weights(
    columns: Sequence[Sequence[Node]],
    weights: Sequence[Sequence[Sequence[float]]],
    *,
    title: str,
    digits: int = 3,
    description: str | None = None,
) -> Markup:
    """An inline <svg> of the net from left to right.

    columns: the units of each layer, the inputs first. weights: for each pair of neighbouring columns a matrix, a row for each
    unit on the left and an entry for each on the right (w of x w + b). A positive weight is blue, a negative one orange and
    dashed, the thicker the larger. Its number, of `digits` digits, stands on the link where it touches nothing else; in any
    case in the tooltip.

    Raises: ValueError without columns or units, or where a matrix does not fit its columns.
    """
    _require(columns, weights, title)
    places, size = _places(columns)
    largest = max((abs(w) for matrix in weights for row in matrix for w in row if math.isfinite(w)), default=0.0) or 1.0
    links = list(_links(columns, weights, places))
    units = [(node, at, k) for k, column in enumerate(columns) for node, at in zip(column, places[k], strict=True)]
    notes = [note for node, at, k in units for note in _notes(node, at, k, len(columns))]
    taken = [box for box, _ in notes] + [(x - _RADIUS, y - _RADIUS, x + _RADIUS, y + _RADIUS) for _, (x, y), _ in units]
    numbers = _numbers(links, taken, digits)
    return drawing(
        *size,
        title,
        description or _told(columns, links, len(numbers)),
        [_link(link, largest) for link in links],
        [markup for _, markup in notes],
        numbers,
        [_circle(node, *at) for node, at, _ in units],
    )


@dataclasses.dataclass(frozen=True)
class _Link:
    """From one unit to another, and the weight on it."""

    start: tuple[float, float]
    end: tuple[float, float]
    weight: float
    names: str

    def at(self, share: float) -> tuple[float, float]:
        (a, b), (c, d) = self.start, self.end
        return a + share * (c - a), b + share * (d - b)


def _require(columns: Sequence[Sequence[Node]], weights: Sequence, title: str) -> None:
    if not columns or not all(columns):
        raise ValueError(f"draw_weights {title!r}: every column needs a unit, got columns of {[len(c) for c in columns]}")
    expected = [(len(a), len(b)) for a, b in itertools.pairwise(columns)]
    came = [(len(matrix), *{len(row) for row in matrix}) for matrix in weights]
    if came != expected:
        raise ValueError(f"draw_weights {title!r}: weights of shapes {expected} were expected, got {came}")


def _places(columns: Sequence[Sequence[Node]]) -> tuple[list[list[tuple[float, float]]], tuple[float, float]]:
    """The middle of every unit, and the size of the whole; a short column spreads over the height of the longest one."""
    below = _NOTE * max((len(node.notes) for column in columns[1:-1] for node in column), default=0)
    beside = _NOTE * max(len(node.notes) for column in (columns[0], columns[-1]) for node in column)
    step = max(2 * _RADIUS + 12 + below, 8 + beside, _STEP)
    left, right = (_RADIUS + 6 + _wide(columns[k]) for k in (0, -1))
    gap = min(max((_PAGE - left - right) / max(len(columns) - 1, 1), _GAP[0]), _GAP[1])
    gap = max(gap, *(_wide(column) + 2 * _RADIUS + 60 for column in columns[1:-1]), 0.0)
    high = step * max(map(len, columns))
    places = []
    for k, column in enumerate(columns):
        apart = min(high / len(column), 1.8 * step)
        middle = (high - (below if 0 < k < len(columns) - 1 else 0)) / 2 + 2
        places.append([(left + 4 + k * gap, middle + apart * (i - (len(column) - 1) / 2)) for i in range(len(column))])
    width = left + 8 + (len(columns) - 1) * gap + (right if len(columns) > 1 else left)
    return places, (width, high + 4)


def _wide(column: Sequence[Node]) -> float:
    return max((text_width(t) for node in column for t in node.notes), default=0.0)


def _links(columns: Sequence[Sequence[Node]], weights: Sequence, places: list[list[tuple[float, float]]]) -> Iterator[_Link]:
    for k, matrix in enumerate(weights):
        for i, row in enumerate(matrix):
            for j, w in enumerate(row):
                names = f"{columns[k][i].name} → {columns[k + 1][j].name}"
                yield _Link(places[k][i], places[k + 1][j], float(w), names)


def _link(link: _Link, largest: float) -> Markup:
    (x1, y1), (x2, y2) = link.start, link.end
    tip = element("title", f"{link.names}: {link.weight:.9g}")
    if not math.isfinite(link.weight):
        return element("line", tip, x1=x1, y1=y1, x2=x2, y2=y2, class_="link")
    share = abs(link.weight) / largest
    return element(
        "line",
        tip,
        x1=x1,
        y1=y1,
        x2=x2,
        y2=y2,
        stroke=f"var(--series-{1 if link.weight >= 0 else 2})",
        stroke_width=_THICK[0] + share * (_THICK[1] - _THICK[0]),
        stroke_opacity=0.35 + 0.5 * share,
        stroke_dasharray=None if link.weight >= 0 else "7 4",
    )


def _numbers(links: Sequence[_Link], taken: list[Box], digits: int) -> list[Markup]:
    """Each number where it lies on no other thing, on a patch of paper; none for a link that has no such place."""
    taken, shown = list(taken), []
    for link in links:
        written = number(link.weight, digits)
        half = text_width(written) / 2 + 2
        for x, y in map(link.at, _SPOTS):
            spot = (x - half, y - 8, x + half, y + 8)
            if not any(a < spot[2] and spot[0] < c and b < spot[3] and spot[1] < d for a, b, c, d in taken):
                taken.append(spot)
                tip = element("title", f"{link.names}: {link.weight:.9g}")
                patch = rect(spot[0], spot[1], 2 * half, 16, tip, rx=3, fill="var(--surface)")
                ink = text(x, y + 0.36 * SMALL, written, anchor="middle", class_="ink through")
                shown.append(element("g", patch, ink))
                break
    return shown


def _circle(node: Node, x: float, y: float) -> Markup:
    tip = element("title", ", ".join((node.name, *node.notes)))
    parts = [element("circle", tip, cx=x, cy=y, r=_RADIUS, class_="unit")]
    name = shorten(node.name, _NAME, NORMAL)
    return element("g", parts, text(x, y + 0.36 * NORMAL, name, size=NORMAL, anchor="middle", class_="ink through"))


def _notes(node: Node, at: tuple[float, float], column: int, columns: int) -> Iterator[tuple[Box, Markup]]:
    """The lines beside a unit of the first and the last column, below one between them."""
    x, y = at
    for i, note in enumerate(node.notes):
        wide = text_width(note)
        if column in (0, columns - 1):
            side = -1 if column == 0 else 1
            start, baseline = x + side * (_RADIUS + 5), y + 0.36 * SMALL + _NOTE * (i - (len(node.notes) - 1) / 2)
            left, anchor = (start - wide, "end") if side < 0 else (start, "start")
        else:
            start, baseline = x, y + _RADIUS + 11 + _NOTE * i
            left, anchor = x - wide / 2, "middle"
        box = (left - 2, baseline - 11, left + wide + 2, baseline + 3)
        patch = rect(box[0], box[1], box[2] - box[0], _NOTE, fill="var(--surface)")  # links pass below
        yield box, element("g", patch, text(start, baseline, note, anchor=None if anchor == "start" else anchor, class_="muted"))


def _told(columns: Sequence[Sequence[Node]], links: Sequence[_Link], shown: int) -> str:
    sizes = ", ".join(str(len(column)) for column in columns)
    return f"Layers of {sizes} units, {len(links)} weights, {shown} of them written on their links. Negative weights are dashed."
