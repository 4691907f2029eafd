"""A matrix as coloured cells with their numbers; the confusion matrix."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

from jaxbp.page.colors import LEVELS
from jaxbp.page.frame import WIDTH
from jaxbp.page.markup import Markup, element
from jaxbp.page.svg import NORMAL, SMALL, drawing, rect, text, text_width
from jaxbp.page.tables import number


_NUMBERED = 30  # rows or columns beyond which cells are small and carry no number
_NAMES = 120.0  # the most that a name may take
_LABEL = 60.0  # the least room for the label of the rows


@dataclasses.dataclass(frozen=True)
class _Grid:
    """Where the cells stand."""

    left: float
    top: float
    width: float
    height: float
    numbered: bool

    def box(self, i: int, j: int) -> tuple[float, float, float, float]:
        return self.left + j * self.width, self.top + i * self.height, self.width, self.height


def heat_map(
    values: Sequence[Sequence[float]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    title: str,
    row_label: str,
    column_label: str,
    shade: Sequence[Sequence[float]] | None = None,
    hue: Sequence[Sequence[int]] | None = None,
    description: str | None = None,
) -> Markup:
    """An inline <svg> of the matrix, rows downwards.

    The colour of a cell is `shade` (0 to 1; by default the value between the least and the largest) in hue 1 (blue) or
    2 (orange). A value that is not finite stands on the bare surface. Beyond 30 rows or columns cells shrink and the
    numbers are in their tooltips only.

    Raises: ValueError for an empty or ragged matrix, or names that do not match it.
    """
    values = _checked(values, rows, columns, title)
    written = [[_written(v) for v in row] for row in values]
    grid = _grid(written, rows, columns)
    shade = shade if shade is not None else _shades(values)
    cells = [
        _cell(
            written[i][j],
            f"{row_label} {r}, {column_label} {c}: {written[i][j]}",
            grid,
            (i, j),
            hue[i][j] if hue else 1,
            shade[i][j],
        )
        for i, r in enumerate(rows)
        for j, c in enumerate(columns)
        if grid.numbered or values[i][j] != 0
    ]
    right, bottom = grid.left + grid.width * len(columns), grid.top + grid.height * len(rows)
    label = min(text_width(f"← {row_label}", NORMAL), max(bottom - grid.top, _LABEL))
    return drawing(
        max(right + 2, grid.left + text_width(f"{column_label} →", NORMAL)),
        max(bottom, (grid.top + bottom + label) / 2) + 2,  # the label may be longer than few rows are high
        title,
        description or f"{len(rows)} rows ({row_label}) by {len(columns)} columns ({column_label}).",
        _labels(row_label, column_label, grid.left, grid.top, bottom),
        _column_names(columns, grid),
        _row_names(rows, grid),
        cells,
        rect(grid.left, grid.top, right - grid.left, bottom - grid.top, fill="none", class_="axis"),
    )


def _checked(values: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], title: str) -> list[list[float]]:
    values = [[float(v) for v in row] for row in values]
    if not values or not values[0]:
        raise ValueError(f"heat_map {title!r}: the matrix is empty")
    if len(rows) != len(values) or any(len(row) != len(columns) for row in values):
        raise ValueError(
            f"heat_map {title!r}: {len(rows)} row names and {len(columns)} column names for a matrix with "
            f"{len(values)} rows of lengths {sorted({len(row) for row in values})}"
        )
    return values


def _grid(written: list[list[str]], rows: Sequence[str], columns: Sequence[str]) -> _Grid:
    """Cells that hold their numbers and fill half a page if they can; small ones where they are many."""
    left = 26 + min(max(text_width(n) for n in rows), _NAMES)
    longest = max(text_width(c) for c in columns)
    if max(len(rows), len(columns)) > _NUMBERED:
        return _Grid(left, 30 + min(longest, _NAMES), 9.0, 9.0, False)
    filling = min(max((WIDTH - left - 2) / len(columns), 30.0), 42.0)
    width = max(filling, 8 + max(text_width(w) for row in written for w in row))
    return _Grid(left, 44.0 if longest <= width - 4 else 30 + min(longest, _NAMES), width, filling, True)


def confusion_matrix(counts: Sequence[Sequence[float]], names: Sequence[str], *, title: str = "Confusion matrix") -> Markup:
    """True class downwards, predicted class across. The diagonal is blue by its share of the row; errors are orange.

    The orange is scaled to the largest error, on a square root, so that single errors of a good classifier show.
    """
    counts = [[float(v) for v in row] for row in counts]
    worst = max((v for i, row in enumerate(counts) for j, v in enumerate(row) if i != j), default=0.0)
    right, total = sum(counts[i][i] for i in range(len(counts))), sum(map(sum, counts))
    shade = [
        [
            v / (sum(row) or 1.0) if i == j else (0.15 + 0.65 * math.sqrt(v / worst) if v and worst > 0 else -1.0)
            for j, v in enumerate(row)
        ]
        for i, row in enumerate(counts)
    ]
    return heat_map(
        counts,
        rows=names,
        columns=names,
        title=title,
        row_label="true",
        column_label="predicted",
        shade=shade,
        hue=[[1 if i == j else 2 for j in range(len(counts))] for i in range(len(counts))],
        description=f"{number(int(right))} of {number(int(total))} on the diagonal. {_worst_pairs(counts, names)}",
    )


def _worst_pairs(counts: list[list[float]], names: Sequence[str], most: int = 3) -> str:
    errors = sorted(((-v, i, j) for i, row in enumerate(counts) for j, v in enumerate(row) if i != j and v > 0))
    told = "; ".join(f"{names[i]} taken for {names[j]}: {number(int(-v))}" for v, i, j in errors[:most])
    return f"Most frequent errors: {told}." if told else "No errors."


def _written(value: float) -> str:
    return number(int(value) if value.is_integer() and abs(value) < 1e15 else value)


def _shades(values: list[list[float]]) -> list[list[float]]:
    there = [v for row in values for v in row if abs(v) <= 1e300]
    low, high = (min(there), max(there)) if there else (0.0, 1.0)
    return [[(v - low) / ((high - low) or 1.0) if abs(v) <= 1e300 else -1.0 for v in row] for row in values]


def _level(shade: float) -> int | None:
    """The colour level of a shade in [0, 1]; None for the bare surface."""
    return None if not shade >= 0 else min(int(shade * LEVELS), LEVELS - 1)


def _cell(written: str, tip: str, grid: _Grid, at: tuple[int, int], hue: int, shade: float) -> list[Markup]:
    x, y, width, height = grid.box(*at)
    level = _level(shade)
    name = f"heat-{hue}-{level}"
    fill, ink = ("transparent", "var(--muted)") if level is None else (f"var(--{name})", f"var(--{name}-ink)")
    parts = [rect(x, y, width, height, element("title", tip), fill=fill, class_="cell")]
    if grid.numbered:
        shown = "·" if written == "0" and level is None else written
        parts.append(text(x + width / 2, y + height / 2 + 0.36 * SMALL, shown, anchor="middle", fill=ink, class_="through"))
    return parts


def _column_names(columns: Sequence[str], grid: _Grid) -> list[Markup]:
    """The names above the columns: level where they fit, else turned upright; every second, third, ... over small cells."""
    y = grid.top - 6
    if max(text_width(c) for c in columns) <= grid.width - 4:
        return [text(grid.left + (j + 0.5) * grid.width, y, c, anchor="middle", class_="muted") for j, c in enumerate(columns)]
    every, parts = _every(grid.width), []
    for j, c in enumerate(columns):
        if j % every == 0:
            x = grid.left + (j + 0.5) * grid.width + 0.36 * SMALL
            parts.append(text(x, y, c, room=_NAMES, class_="muted", transform=f"rotate(-90 {x:.2f} {y:.2f})"))
    return parts


def _row_names(rows: Sequence[str], grid: _Grid) -> list[Markup]:
    every = _every(grid.height)
    return [
        text(grid.left - 6, grid.top + (i + 0.5) * grid.height + 0.36 * SMALL, r, anchor="end", room=_NAMES, class_="muted")
        for i, r in enumerate(rows)
        if i % every == 0
    ]


def _every(cell: float) -> int:
    """Only one in so many names has room beside cells of this size."""
    return max(1, math.ceil(1.3 * SMALL / cell))


def _labels(row_label: str, column_label: str, left: float, top: float, bottom: float) -> list[Markup]:
    y = (top + bottom) / 2
    turn = f"rotate(-90 12 {y:.2f})"
    return [
        text(left, 13, f"{column_label} →", size=NORMAL, class_="ink"),
        text(12, y, f"← {row_label}", size=NORMAL, anchor="middle", room=max(bottom - top, _LABEL), class_="ink", transform=turn),
    ]
