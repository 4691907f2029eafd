"""A net as columns of units, with what makes each column written below it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal

from jaxbp.page.frame import WIDTH
from jaxbp.page.markup import Markup, element
from jaxbp.page.svg import drawing, line, rect, text, text_width


_MOST = 9  # units drawn; of more, the first and the last four around an ellipsis
_STEP = 18.0
_RADIUS = 5.5
_GAPS = (74.0, 160.0)  # between columns: the least, and the most that a page's width is used for
_PAGE = 760.0
_CAPTION = 150.0  # the most that a line of a caption may take


@dataclasses.dataclass(frozen=True)
class Units:
    """One column.

    Fields:
      size: the number of units, drawn as circles; or a shape (height, width, channels), drawn as sheets.
      caption: what makes these units of the column before, a line each ("dense 64 → 32", "sigmoid").
      links: "all", every unit from every unit before; "each", one from one; None, an arrow.
      skip: an arc from the column before, beside the links (a skip connection).
    """

    size: int | tuple[int, ...]
    caption: str | Sequence[str] = ()
    links: Literal["all", "each"] | None = "all"
    skip: bool = False

    @property
    def lines(self) -> tuple[str, ...]:
        return (self.caption,) if isinstance(self.caption, str) else tuple(self.caption)

    @property
    def label(self) -> str:
        return f"{self.size:,}" if isinstance(self.size, int) else " × ".join(str(n) for n in self.size)


def draw_net(columns: Sequence[Units], *, title: str = "The net", description: str | None = None) -> Markup:
    """An inline <svg> of the columns from left to right; wide layers are cut to nine units, the count stands above.

    Raises: ValueError without columns, or for a column without units.
    """
    for i, column in enumerate(columns):
        if not column.size or (isinstance(column.size, tuple) and min(column.size) < 1):
            raise ValueError(f"draw_net: column {i} has size {column.size}, at least one unit was expected")
    if not columns:
        raise ValueError("draw_net: there are no columns to draw")
    places, width = _places(columns)
    arcs = 26.0 if any(c.skip for c in columns) else 0.0
    top = arcs + 24
    middle = top + max(map(_height, columns)) / 2
    bottom = 2 * middle - top + 10
    parts: list[object] = []
    for i in range(1, len(columns)):
        parts.append(list(_links(columns[i - 1], columns[i], places[i - 1], places[i], middle)))
        if columns[i].skip:
            parts.append(_arc(places[i - 1], places[i], top - 20))
    for column, x in zip(columns, places, strict=True):
        parts.append(_column(column, x, middle))
        parts.append(text(x, middle - _height(column) / 2 - 8, column.label, anchor="middle", class_="ink halo"))
        for k, caption in enumerate(column.lines):
            tone = "ink" if k == 0 else "muted"
            parts.append(text(x, bottom + 16 + 16 * k, caption, anchor="middle", room=_CAPTION, class_=tone))
    height = bottom + 16 * max((len(c.lines) for c in columns), default=0) + 8
    told = description or "; ".join(f"{c.label} units{': ' + ', '.join(c.lines) if c.lines else ''}" for c in columns) + "."
    return drawing(max(width, WIDTH / 2), height, title, told, *parts)


def _places(columns: Sequence[Units]) -> tuple[list[float], float]:
    """The middle of each column, far enough from its neighbours for captions and links, and the whole width."""
    halves = [max(_RADIUS, *(min(text_width(t), _CAPTION) / 2 for t in (c.label, *c.lines)), _half(c)) for c in columns]
    drawn = sum(2 * _half(c) for c in columns)
    gap = min(max((_PAGE - drawn) / max(len(columns) - 1, 1), _GAPS[0]), _GAPS[1])
    places = [halves[0] + 4]
    for before, after, a, b in zip(halves, halves[1:], columns, columns[1:], strict=False):
        places.append(places[-1] + max(before + after + 16, _half(a) + _half(b) + gap))
    return places, places[-1] + halves[-1] + 4


def _half(column: Units) -> float:
    """Half the width of what is drawn."""
    return _RADIUS if isinstance(column.size, int) else _sheet(column.size)[0] / 2 + 2.5 * (_sheets(column.size) - 1)


def _height(column: Units) -> float:
    if isinstance(column.size, int):
        return _STEP * (min(column.size, _MOST) - 1) + 2 * _RADIUS
    return _sheet(column.size)[1] + 5.0 * (_sheets(column.size) - 1)


def _sheet(shape: tuple[int, ...]) -> tuple[float, float]:
    """Width and height of a sheet: larger for larger shapes, slowly."""
    height, width = shape[0], shape[1] if len(shape) > 1 else 1
    return tuple(min(16.0 + 9.0 * n**0.5, 90.0) for n in (width, height))  # type: ignore[return-value]


def _sheets(shape: tuple[int, ...]) -> int:
    return min(shape[2], 5) if len(shape) > 2 else 1


def _units(column: Units, middle: float) -> list[float | None]:
    """The heights of the units from above; None for the ellipsis."""
    n = column.size if isinstance(column.size, int) else 1
    shown = min(n, _MOST)
    heights: list[float | None] = [middle + _STEP * (k - (shown - 1) / 2) for k in range(shown)]
    if n > _MOST:
        heights[_MOST // 2] = None
    return heights


def _column(column: Units, x: float, middle: float) -> list[Markup]:
    if not isinstance(column.size, int):
        width, height = _sheet(column.size)
        n = _sheets(column.size)
        shifts = [5.0 * (k - (n - 1) / 2) for k in reversed(range(n))]
        return [rect(x - width / 2 + s, middle - height / 2 - s, width, height, class_="unit") for s in shifts]
    parts = []
    for y in _units(column, middle):
        if y is None:
            parts += [element("circle", cx=x, cy=middle + d, r=1.4, class_="more") for d in (-5.0, 0.0, 5.0)]
        else:
            parts.append(element("circle", cx=x, cy=y, r=_RADIUS, class_="unit"))
    return parts


def _links(a: Units, b: Units, x1: float, x2: float, middle: float) -> Iterator[Markup]:
    if b.links is None or not (isinstance(a.size, int) and isinstance(b.size, int)):
        start, end = x1 + _half(a) + 6, x2 - _half(b) - 6
        yield line(start, middle, end, middle, class_="arrow")
        yield element(
            "path", d=f"M{end - 6:.1f},{middle - 4:.1f}L{end:.1f},{middle:.1f}L{end - 6:.1f},{middle + 4:.1f}", class_="arrow"
        )
        return
    before, after = _units(a, middle), _units(b, middle)
    pairs = zip(before, after, strict=False) if b.links == "each" else ((y, z) for y in before for z in after)
    for y, z in pairs:
        if y is not None and z is not None:
            yield line(x1 + _RADIUS, y, x2 - _RADIUS, z, class_="link")


def _arc(x1: float, x2: float, y: float) -> Markup:
    lift = y - 22
    d = f"M{x1:.1f},{y:.1f}C{x1:.1f},{lift:.1f} {x2:.1f},{lift:.1f} {x2:.1f},{y:.1f}"
    return element("path", element("title", "skip connection"), d=d, class_="arrow")
