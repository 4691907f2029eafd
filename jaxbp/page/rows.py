"""Figures with one row a name: bars from zero, and dots on an axis that may be logarithmic and need not hold zero."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from jaxbp.page.frame import WIDTH, Mark, color, draw_marks, finite, lanes_height, legend, x_axis
from jaxbp.page.markup import Markup, element
from jaxbp.page.scales import Scale, fit_scale, spaced
from jaxbp.page.svg import NORMAL, drawing, line, rect, shape, text, text_width
from jaxbp.page.tables import number


_ROW = 22.0
_BELOW = 42.0


@dataclasses.dataclass(frozen=True)
class Dots:
    """One value for each row, drawn in one colour and shape."""

    name: str
    values: Sequence[float]


def bars(
    names: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    digits: int = 3,
    series: int = 0,
    description: str | None = None,
    width: float = WIDTH,
) -> Markup:
    """Bars from zero, one a row, each with its number on the right; a value that is not finite has the number alone.

    Raises: ValueError without rows, or where names and values differ in number.
    """
    _require_rows("bars", title, names, values)
    values = [float(v) for v in values]
    written = [number(int(v) if v.is_integer() and abs(v) < 1e15 else v, digits) for v in values]
    left, right = _name_room(names, width), width - 10 - max(text_width(w) for w in written)
    shown = [v for v in values if abs(v) <= 1e300]
    low, high = min([0.0, *shown]), max([0.0, *shown])
    x = Scale(low, high if high > low else 1.0, left, right)
    rows = [
        _bar_row(name, value, shown, x, _ROW * i, color(series), width)
        for i, (name, value, shown) in enumerate(zip(names, values, written, strict=True))
    ]
    zero, height = x.at(0.0) or 0.0, _ROW * len(names)
    told = "; ".join(f"{name} {w}" for name, w in zip(names, written, strict=True))
    return drawing(width, height + 2, title, description or f"{told}.", rows, line(zero, 0, zero, height, class_="axis"))


def _bar_row(name: str, value: float, written: str, x: Scale, top: float, fill: str, width: float) -> list[Markup | None]:
    place, zero = x.at(value), x.at(0.0)
    bar = None
    if place is not None and zero is not None:
        tip = element("title", f"{name}: {written}")
        bar = rect(min(zero, place), top + 4, abs(place - zero), _ROW - 8, tip, fill=fill)
    return [
        text(x.start - 8, top + 15, name, size=NORMAL, anchor="end", room=x.start - 8, class_="ink"),
        bar,
        text(width, top + 15, written, anchor="end", class_="ink"),
    ]


def dots(
    names: Sequence[str],
    series: Sequence[Dots],
    *,
    title: str,
    x_label: str,
    log: bool = False,
    marks: Sequence[Mark] = (),
    band: tuple[float, float] | None = None,
    description: str | None = None,
    width: float = WIDTH,
) -> Markup:
    """One dot for each name and series on a shared axis; marks are vertical lines, a band is shaded behind.

    On a logarithmic axis an exact 0 stands in a lane of its own on the left. What has no place (not finite, or negative
    on a logarithmic axis) is written out on the right of its row.

    Raises: ValueError without rows, or where nothing can be drawn.
    """
    for s in series:
        _require_rows("dots", title, names, s.values)
    series = [dataclasses.replace(s, values=[float(v) for v in s.values]) for s in series]
    everything = [v for s in series for v in s.values]
    if not finite(everything):
        raise ValueError(f"dots {title!r}: there is no finite value to draw")
    head, head_height = legend([s.name for s in series] if len(series) > 1 else [], _dot_swatch, width)
    left = _name_room(names, width)
    zero = left + 10 if log and 0.0 in everything else None
    x = _dots_scale([*everything, *(m.x for m in marks), *(band or ())], log, left + (34 if zero else 4), width - 34)
    top = head_height + lanes_height(marks, x) + 6
    step = max(_ROW, 9.0 * len(series) + 8)
    bottom = top + step * len(names)
    ticks = spaced(x, most=7, edge=width)
    if zero is not None:
        ticks = [(zero, "0"), *((p, label) for p, label in ticks if p - text_width(label) / 2 > zero + 14)]
    return drawing(
        width,
        bottom + _BELOW,
        title,
        description or _told(names, series),
        head,
        _band(band, x, top, bottom) if band is not None else None,
        [line(p, top, p, bottom, class_="grid") for p, _ in ticks],
        [_dot_row(name, i, series, x, zero, top + step * (i + 0.5), left, width) for i, name in enumerate(names)],
        x_axis(ticks, x_label, left, width, bottom, width),
        draw_marks(marks, x, None, top, bottom),
    )


def _require_rows(what: str, title: str, names: Sequence[str], values: Sequence[float]) -> None:
    if not len(names):
        raise ValueError(f"{what} {title!r}: there are no rows to draw")
    if len(names) != len(values):
        raise ValueError(f"{what} {title!r}: {len(names)} names, but {len(values)} values")


def _name_room(names: Sequence[str], width: float) -> float:
    return min(max(text_width(name, NORMAL) for name in names) + 10, 0.38 * width)


def _dots_scale(shown: Sequence[float], log: bool, start: float, stop: float) -> Scale:
    if log and not any(v > 0 for v in finite(shown)):
        return Scale(1e-16, 1.0, start, stop, True)  # every value is exactly 0
    return fit_scale(shown, start, stop, log=log)


def _band(band: tuple[float, float], x: Scale, top: float, bottom: float) -> Markup:
    low, high = (x.at(v) for v in band)
    low, high = (x.start if low is None else low), (x.stop if high is None else high)
    return rect(low, top, max(high - low, 1.0), bottom - top, class_="band")


def _dot_row(
    name: str, i: int, series: Sequence[Dots], x: Scale, zero: float | None, y: float, left: float, width: float
) -> list[Markup]:
    parts = [
        text(left - 8, y + 0.36 * NORMAL, name, size=NORMAL, anchor="end", room=left - 8, class_="ink"),
        line(left, y, width, y, class_="grid"),
    ]
    for k, s in enumerate(series):
        value, height = s.values[i], y + 9.0 * (k - (len(series) - 1) / 2)
        place = zero if zero is not None and value == 0 else x.at(value)
        if place is not None:
            tip = element("title", f"{name}, {s.name}: {number(value)}")
            parts.append(shape(k, place, height, 4.6, tip, fill=color(k), class_="dot"))
        else:
            parts.append(text(width - 3, height + 3.2, number(value), size=9.0, anchor="end", fill=color(k), class_="halo"))
    return parts


def _dot_swatch(i: int, x: float, y: float) -> Markup:
    return shape(i, x + 12, y, 4.6, fill=color(i), class_="dot")


def _told(names: Sequence[str], series: Sequence[Dots]) -> str:
    told = []
    for s in series:
        values = finite(s.values)
        told.append(f"{s.name}: " + (f"least {number(min(values))}, most {number(max(values))}" if values else "nothing finite"))
    return f"{len(names)} rows. {'; '.join(told)}."
