"""A plane: a function of two variables as coloured regions, the line where it crosses a threshold, and points on it."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from jaxbp.page.frame import LINE, WIDTH, color, legend, x_axis
from jaxbp.page.markup import Markup, element
from jaxbp.page.scales import Scale, spaced
from jaxbp.page.svg import NORMAL, SMALL, drawing, path, rect, shape, text, text_width
from jaxbp.page.tables import number


_BELOW = 42.0
_TALLEST = 420.0
_LAP = 0.8
_LEVELS = 3  # of the heat colours, the palest ones: points have to stand out on them


@dataclasses.dataclass(frozen=True)
class Points:
    """Points of one kind, in one colour and shape."""

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclasses.dataclass(frozen=True)
class Surface:
    """f at the middles of a grid of equal cells over a rectangle.

    Fields:
      values: rows of numbers, the row of the least y first.
      x, y: the edges of the rectangle, (low, high) each.
      threshold: where one region ends and the other begins; a value of exactly that is above.
      below, above: what the two regions are called in the description.
    """

    values: Sequence[Sequence[float]]
    x: tuple[float, float]
    y: tuple[float, float]
    threshold: float = 0.0
    below: str = "below"
    above: str = "above"


def plane(
    points: Sequence[Points],
    *,
    title: str,
    x_label: str,
    y_label: str,
    surface: Surface | None = None,
    square: bool = False,
    description: str | None = None,
    width: float = WIDTH,
) -> Markup:
    """An inline <svg>: a scatter plot, over the regions of `surface` where there is one (at most 200 by 200 cells).

    Below the threshold the plane is blue, above it orange, the deeper the farther from the threshold; the line between them
    is the decision boundary. `square` gives a unit of both axes the same length. The first two kinds of points have the
    colours of the regions; points that are not finite, or lie outside the surface, are left out.

    Raises: ValueError where nothing can be drawn, lengths disagree, or the surface is ragged or empty.
    """
    points = [_checked(p, title) for p in points]
    x_range, y_range = _ranges(points, surface, title)
    left = 14 + max((text_width(tick) for _, tick in spaced(Scale(*y_range, 250.0, 0.0), upright=True, most=6)), default=0.0)
    head, head_height = legend([p.name for p in points], _swatch, width)
    x = Scale(*x_range, left, width - 8)
    span = (y_range[1] - y_range[0]) / (x_range[1] - x_range[0])
    height = min((x.stop - x.start) * span, _TALLEST) if square else 0.75 * (x.stop - x.start)
    if square:
        x = dataclasses.replace(x, stop=left + height / span)
    top = head_height + LINE + 4
    y = Scale(*y_range, top + height, top)
    return drawing(
        width,
        y.start + _BELOW,
        title,
        description or _told(points, surface, x_label, y_label),
        head,
        text(0, head_height + 12, y_label, size=NORMAL, room=width, class_="ink"),
        _regions(surface, x, y) if surface else rect(left, top, x.stop - left, height, fill="none", class_="axis"),
        [text(left - 7, at + 0.36 * SMALL, tick, anchor="end", class_="muted") for at, tick in spaced(y, upright=True, most=6)],
        x_axis(spaced(x, edge=width), x_label, left, x.stop, y.start, width),
        _boundary(surface, x, y) if surface else None,
        [_dots(p, i, x, y) for i, p in enumerate(points)],
    )


def _checked(points: Points, title: str) -> Points:
    if len(points.x) != len(points.y):
        raise ValueError(f"plane {title!r}: {points.name!r} has {len(points.x)} x, but {len(points.y)} y")
    kept = [(float(a), float(b)) for a, b in zip(points.x, points.y, strict=True) if math.isfinite(a) and math.isfinite(b)]
    return Points(points.name, [a for a, _ in kept], [b for _, b in kept])


def _ranges(points: Sequence[Points], surface: Surface | None, title: str) -> tuple[tuple[float, float], tuple[float, float]]:
    if surface is not None:
        lengths = {len(row) for row in surface.values}
        if len(lengths) != 1 or not 1 <= max(lengths) <= 200 or len(surface.values) > 200:
            raise ValueError(f"plane {title!r}: the surface has {len(surface.values)} rows of lengths {sorted(lengths)}")
        for low, high in (surface.x, surface.y):
            if not low < high:
                raise ValueError(f"plane {title!r}: the surface's edges are (low, high), got {(low, high)}")
        return surface.x, surface.y
    ranges = []
    for values in ([v for p in points for v in p.x], [v for p in points for v in p.y]):
        if not values:
            raise ValueError(f"plane {title!r}: there is no finite point to draw")
        low, high = min(values), max(values)
        room = 0.06 * (high - low) or 0.5 * abs(high) or 0.5
        ranges.append((low - room, high + room))
    return ranges[0], ranges[1]


def _regions(surface: Surface, x: Scale, y: Scale) -> list[Markup]:
    """Cells of one colour that lie side by side are one rectangle; each reaches below the next, so that no gap shows."""
    rows, columns = len(surface.values), len(surface.values[0])
    width, height = (x.stop - x.start) / columns, (y.start - y.stop) / rows
    most = [max((abs(v - surface.threshold) for row in surface.values for v in row if _on(surface, v) is on), default=0.0)
            for on in (False, True)]  # fmt: skip
    parts = []
    for i, row in enumerate(surface.values):
        start = 0
        for fill, run in itertools.groupby(_fill(surface, v, most) for v in row):
            n = len(list(run))
            right, up = (_LAP if more else 0.0 for more in (start + n < columns, i + 1 < rows))
            box = (x.start + start * width, y.start - (i + 1) * height - up, n * width + right, height + up)
            parts += [] if fill is None else [rect(*box, fill=fill, shape_rendering="crispEdges")]
            start += n
    return parts


def _on(surface: Surface, value: float) -> bool | None:
    return None if not math.isfinite(value) else value >= surface.threshold


def _fill(surface: Surface, value: float, most: Sequence[float]) -> str | None:
    on = _on(surface, value)
    if on is None:
        return None
    level = min(int(_LEVELS * abs(value - surface.threshold) / (most[on] or 1.0)), _LEVELS - 1)
    return f"var(--heat-{2 if on else 1}-{level})"


def _boundary(surface: Surface, x: Scale, y: Scale) -> Markup | None:
    """Where the values between neighbouring middles cross the threshold, piece by piece."""
    pieces = [point for piece in crossings(surface) for point in (*((x.at(a), y.at(b)) for a, b in piece), None)]
    return path(pieces, stroke="var(--ink)", stroke_width=1.6, stroke_linecap="round")  # type: ignore[arg-type]


def crossings(surface: Surface) -> Iterator[list[tuple[float, float]]]:
    """The line at the threshold as straight pieces, [(x, y), (x, y)] each in the units of the axes.

    Marching squares over the middles of the cells; a saddle is cut by its mean, and a square with a NaN has no piece.
    """
    values, t = surface.values, surface.threshold
    dx, dy = ((high - low) / n for (low, high), n in ((surface.x, len(values[0])), (surface.y, len(values))))
    at = lambda i, j: (surface.x[0] + (j + 0.5) * dx, surface.y[0] + (i + 0.5) * dy)
    for i, j in itertools.product(range(len(values) - 1), range(len(values[0]) - 1)):
        corners = [(i, j), (i, j + 1), (i + 1, j + 1), (i + 1, j)]
        around = [float(values[a][b]) - t for a, b in corners]
        if not all(map(math.isfinite, around)):
            continue
        crossed = []
        for k in range(4):
            a, b = around[k], around[(k + 1) % 4]
            if (a >= 0) != (b >= 0):
                (x1, y1), (x2, y2), s = at(*corners[k]), at(*corners[(k + 1) % 4]), a / (a - b)
                crossed.append((x1 + s * (x2 - x1), y1 + s * (y2 - y1)))
        if len(crossed) == 4 and (sum(around) >= 0) != (around[0] >= 0):  # the middle goes with corners 1 and 3
            crossed = [crossed[3], *crossed[:3]]
        yield from (crossed[k : k + 2] for k in range(0, len(crossed), 2))


def _dots(points: Points, i: int, x: Scale, y: Scale) -> list[Markup]:
    inside = lambda scale, v: min(scale.low, scale.high) <= v <= max(scale.low, scale.high)
    return [
        shape(i, x.at(a), y.at(b), 4.4, element("title", f"{points.name}: {number(a)}, {number(b)}"), fill=color(i), class_="dot")  # type: ignore[arg-type]
        for a, b in zip(points.x, points.y, strict=True)
        if inside(x, a) and inside(y, b)
    ]


def _swatch(i: int, x: float, y: float) -> Markup:
    return shape(i, x + 12, y, 4.6, fill=color(i), class_="dot")


def _told(points: Sequence[Points], surface: Surface | None, x_label: str, y_label: str) -> str:
    told = [f"{p.name}: {len(p.x)} points" for p in points]
    if surface is not None:
        cells = [v for row in surface.values for v in row]
        share = sum(v >= surface.threshold for v in cells) / len(cells)
        told.append(f"{share:.0%} of the plane is {surface.above}, the rest {surface.below}")
    return f"{y_label} against {x_label}. {'; '.join(told)}."
