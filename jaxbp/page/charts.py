"""Line charts: bold series, each over the faint lines of its runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

from jaxbp.page.frame import (
    DASHES,
    LINE,
    WIDTH,
    Mark,
    color,
    dash_swatch,
    draw_marks,
    finite,
    lanes_height,
    legend,
    x_axis,
    y_axis,
)
from jaxbp.page.markup import Markup, element
from jaxbp.page.scales import Scale, fit_scale, spaced
from jaxbp.page.svg import NORMAL, drawing, path, text, text_width
from jaxbp.page.tables import number


_PLOT = 200.0  # height of the plot itself
_BELOW = 42.0  # tick labels and the axis label
_MOST = 1000  # points of a path; beyond, each piece keeps its least and its largest


@dataclasses.dataclass(frozen=True)
class Series:
    """A bold line and, faint behind it, the lines it sums up (every fold behind their mean).

    Fields:
      name: as the legend has it.
      values: one y a point; NaN and infinity leave a gap.
      x: one x a point; None counts 1, 2, 3, ...
      each: the faint lines, over the same x.
      each_name: what one of them is, for its tooltip ("fold" gives "validation, fold 3", counted from 0).
    """

    name: str
    values: Sequence[float]
    x: Sequence[float] | None = None
    each: Sequence[Sequence[float]] = ()
    each_name: str = "run"


def line_chart(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str,
    y_label: str,
    log_y: bool = False,
    log_x: bool = False,
    y_range: tuple[float, float] | None = None,
    marks: Sequence[Mark] = (),
    description: str | None = None,
    width: float = WIDTH,
) -> Markup:
    """An inline <svg> of the series, with a legend above where there are several.

    On a logarithmic axis (`log_y`, `log_x`) zero and negative values leave gaps, as NaN and infinity do everywhere. Lines that
    leave `y_range` are cut off at its edge.

    Raises: ValueError where nothing can be drawn, or where lengths disagree.
    """
    series = [_checked(s, title) for s in series]
    head, head_height = legend([s.name for s in series] if len(series) > 1 else [], dash_swatch, width)
    try:
        y = fit_scale(y_range or _all_values(series), _PLOT, 0.0, log=log_y)
        left = 14 + max((text_width(label) for _, label in spaced(y, upright=True, most=6)), default=0.0)
        x = fit_scale([*_all_x(series), *(m.x for m in marks)], left, width - 8, log=log_x, pad=0.03)
    except ValueError as error:
        raise ValueError(f"line_chart {title!r}: {error}") from None
    top = head_height + LINE + lanes_height(marks, x) + 4
    y = dataclasses.replace(y, start=top + _PLOT, stop=top)
    whole = not log_x and all(v.is_integer() for v in finite(_all_x(series)))
    return drawing(
        width,
        y.start + _BELOW,
        title,
        description or _described(series, x_label, y_label),
        head,
        text(0, head_height + 12, y_label, size=NORMAL, room=width, class_="ink"),
        y_axis(spaced(y, upright=True, most=6), left, width - 8),
        x_axis(spaced(x, whole=whole, edge=width), x_label, left, width - 8, y.start, width),
        _window(x, y, [_faint(s, i, x, y) for i, s in enumerate(series)], [_bold(s, i, x, y) for i, s in enumerate(series)]),
        draw_marks(marks, x, y, top, y.start),
    )


def _window(x: Scale, y: Scale, *children: object) -> Markup:
    """The plot's rectangle in the coordinates of the whole drawing; what leaves it is cut off."""
    left, top, width, height = x.start - 2, y.stop - 2, x.stop - x.start + 4, y.start - y.stop + 4
    box = f"{left:.2f} {top:.2f} {width:.2f} {height:.2f}"
    return element("svg", *children, x=left, y=top, width=width, height=height, viewBox=box)


def _checked(series: Series, title: str) -> Series:
    """The series in plain floats, with its x."""
    values = _floats(series.values)
    x = _floats(series.x) if series.x is not None else [float(i + 1) for i in range(len(values))]
    each = [_floats(run) for run in series.each]
    for what, n in (("x", len(x)), *((f"each[{i}]", len(run)) for i, run in enumerate(each))):
        if n != len(values):
            raise ValueError(f"line_chart {title!r}: series {series.name!r} has {len(values)} values, but {what} has {n}")
    return dataclasses.replace(series, values=values, x=x, each=each)


def _floats(values: Iterable[Any]) -> list[float]:
    return [float("nan") if v is None else float(v) for v in values]


def _all_values(series: Sequence[Series]) -> list[float]:
    return [v for s in series for run in (s.values, *s.each) for v in run]


def _all_x(series: Sequence[Series]) -> list[float]:
    return [v for s in series for v in s.x or ()]


def _faint(series: Series, i: int, x: Scale, y: Scale) -> list[Markup | None]:
    return [
        element("g", element("title", f"{series.name}, {series.each_name} {n}"), drawn)
        for n, run in enumerate(series.each)
        if (drawn := path(_points(series, run, x, y), stroke=color(i), class_="faint")) is not None
    ]


def _bold(series: Series, i: int, x: Scale, y: Scale) -> Markup | None:
    dashes = DASHES[i % len(DASHES)]
    drawn = path(_points(series, series.values, x, y), stroke=color(i), class_="bold", stroke_dasharray=dashes)
    return drawn and element("g", element("title", series.name), drawn)


def _points(series: Series, values: Sequence[float], x: Scale, y: Scale) -> list[tuple[float, float] | None]:
    places = [(x.at(a), y.at(b)) for a, b in zip(series.x or (), values, strict=True)]
    return _thinned([None if a is None or b is None else (a, b) for a, b in places])


def _thinned(points: list[tuple[float, float] | None]) -> list[tuple[float, float] | None]:
    """Of many points the least and the largest of each piece, gaps kept, so that the picture stays and the page is small."""
    if len(points) <= _MOST:
        return points
    size, kept = 2 * len(points) // _MOST + 1, []
    for start in range(0, len(points), size):
        piece = points[start : start + size]
        there = [p for p in piece if p is not None]
        ends = {min(there, key=lambda p: p[1]), max(there, key=lambda p: p[1])} if there else set()
        kept += sorted(ends) + ([None] if len(there) < len(piece) else [])
    return kept


def _described(series: Sequence[Series], x_label: str, y_label: str) -> str:
    parts = []
    for s in series:
        there = finite(s.values)
        if there:
            parts.append(f"{s.name}: from {number(there[0])} to {number(there[-1])}, least {number(min(there))}")
    return f"{y_label} against {x_label}. {'; '.join(parts)}."
