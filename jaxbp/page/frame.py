"""What figures with axes share: the legend, labelled vertical marks, grid and ticks, each placed so that nothing touches."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence

from jaxbp.page.markup import Markup, element
from jaxbp.page.scales import Scale, label_middle
from jaxbp.page.svg import NORMAL, SMALL, line, text, text_width


WIDTH = 480.0  # half of a page; half of it still reads on a telephone
LINE = 18.0  # from one line of text to the next
DASHES = (None, "6 5", "1 5", "10 5 1 5", "3 5", "14 5")  # round ends make dashes longer by the line width
_SWATCH = 26.0


@dataclasses.dataclass(frozen=True)
class Mark:
    """A labelled vertical line at x; with y also a ring around the point (x, y)."""

    x: float
    label: str
    y: float | None = None


def color(i: int) -> str:
    """The CSS colour of series i, counted from 0."""
    return f"var(--series-{i % 6 + 1})"


def legend(names: Sequence[str], swatch: Callable[[int, float, float], Markup], width: float) -> tuple[list[Markup], float]:
    """The swatches and names, as many on a line as fit in `width`, and the height that they take."""
    parts, x, y = [], 0.0, 12.0
    for i, name in enumerate(names):
        needed = min(_SWATCH + text_width(name, NORMAL) + 16, width)
        if x > 0 and x + needed > width:
            x, y = 0.0, y + LINE
        parts.append(swatch(i, x, y - 4))
        parts.append(text(x + _SWATCH, y, name, size=NORMAL, room=width - _SWATCH, class_="ink"))
        x += needed
    return parts, y + 8 if names else 0.0


def dash_swatch(i: int, x: float, y: float) -> Markup:
    return line(x, y, x + 20, y, stroke=color(i), stroke_width=2.5, stroke_dasharray=DASHES[i % len(DASHES)])


def lanes(marks: Sequence[tuple[float, str]], left: float, right: float) -> list[tuple[int, float, str]]:
    """(lane, start, label) of marks at these places; lane 0 lies next to the plot."""
    placed: list[tuple[int, float, str]] = []
    boxes: list[tuple[int, float, float]] = []
    for place, label in marks:
        width = min(text_width(label), right - left)
        start = place + 3 if place + 3 + width <= right else max(place - 3 - width, left)
        lane = 0
        while any(lane == other and start < b + 8 and a < start + width + 8 for other, a, b in boxes):
            lane += 1
        boxes.append((lane, start, start + width))
        placed.append((lane, start, label))
    return placed


def draw_marks(marks: Sequence[Mark], x: Scale, y: Scale | None, top: float, bottom: float) -> list[Markup]:
    """Dashed lines from `bottom` up to their labels above `top`; the lines lie under all labels."""
    places = [(place, mark) for mark in marks if (place := x.at(mark.x)) is not None]
    put = lanes([(place, mark.label) for place, mark in places], min(x.start, x.stop), max(x.start, x.stop))
    lines, labels = [], []
    for (place, mark), (lane, start, label) in zip(places, put, strict=True):
        baseline = top - 6 - lane * LINE
        lines.append(line(place, bottom, place, baseline - 9, class_="mark"))
        labels.append(text(start, baseline, label, room=max(x.start, x.stop) - min(x.start, x.stop), class_="muted halo"))
        height = y.at(mark.y) if y is not None and mark.y is not None else None
        if height is not None:
            labels.append(element("circle", cx=place, cy=height, r=5, class_="ring"))
    return lines + labels


def lanes_height(marks: Sequence[Mark], x: Scale) -> float:
    places = [(place, mark.label) for mark in marks if (place := x.at(mark.x)) is not None]
    put = lanes(places, min(x.start, x.stop), max(x.start, x.stop))
    return LINE * max((lane + 1 for lane, _, _ in put), default=0)


def x_axis(ticks: Sequence[tuple[float, str]], label: str, left: float, right: float, bottom: float, edge: float) -> list[Markup]:
    """Ticks (`spaced` with this edge) and their labels below `bottom`, inside [0, edge]; the axis label below on the right."""
    parts = [line(left, bottom, right, bottom, class_="axis")]
    for place, written in ticks:
        parts.append(line(place, bottom, place, bottom + 4, class_="axis"))
        parts.append(text(label_middle(place, written, edge), bottom + 16, written, anchor="middle", class_="muted"))
    parts.append(text(right, bottom + 34, label, size=NORMAL, anchor="end", room=right - left, class_="ink"))
    return parts


def y_axis(ticks: Sequence[tuple[float, str]], left: float, right: float) -> list[Markup]:
    """Grid lines across and their labels on the left."""
    parts = []
    for place, written in ticks:
        parts.append(line(left, place, right, place, class_="grid"))
        parts.append(text(left - 7, place + 0.36 * SMALL, written, anchor="end", class_="muted"))
    return parts


def finite(values: Sequence[float]) -> list[float]:
    return [v for v in values if math.isfinite(v)]
