"""Two drawings of a check: error against the step of the differences, and where the worst leaf is wrong."""

from __future__ import annotations

import math
import os
import pathlib
import re
from typing import Any

import numpy as np

from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, document, figure
from jaxbp.page.frame import WIDTH
from jaxbp.page.heat import heat_map
from jaxbp.page.markup import Markup, element
from jaxbp.page.style import STYLE
from jaxbp.page.svg import rect, text


_LINES = 6  # series that a chart can tell apart
_CELLS = 40  # rows and columns of a heat-map; larger leaves are drawn in blocks
_FLOOR = 1e-17  # exact agreement, which a logarithmic axis cannot hold


def ladder_chart(report: Any) -> Markup | None:
    """|difference quotient − claimed| over the step h, a line a leaf; None where no ladder was climbed."""
    curves = {path: _errors(rungs) for path, rungs in (report.ladder or {}).items()}
    curves = {path: curve for path, curve in curves.items() if any(np.isfinite(curve[1]))}
    if not curves:
        return None
    worst = sorted(curves, key=lambda path: np.nanmin(curves[path][1]), reverse=True)[:_LINES]
    return line_chart(
        [Series(path, curves[path][1], curves[path][0]) for path in curves if path in worst],
        title="Error against step",
        x_label="log₁₀ of the step h",
        y_label="|difference quotient − claimed|, relative",
        log_y=True,
    )


def _errors(rungs: Any) -> tuple[list[float], list[float]]:
    """(log10 of each step, relative error at it), the steps upwards."""
    step, value, claimed = (np.asarray(rungs[name], np.float64) for name in ("step", "value", "claimed"))
    order = np.argsort(step)
    there = value[np.isfinite(value)]
    size = max(abs(float(claimed)) if np.isfinite(claimed) else 0.0, float(np.median(np.abs(there))) if there.size else 0.0)
    with np.errstate(all="ignore"):
        error = np.abs(value - claimed) / (size or 1.0)
        return np.log10(step[order]).tolist(), np.maximum(error, _FLOOR)[order].tolist()


LADDER_NOTE = (
    "The numerical derivative in one direction, held against the claimed one, step by step. A right gradient falls with the "
    "step (like h² where the function is smooth) until rounding lifts it again; a wrong one levels out at the size of its error."
)


def worst_leaf(report: Any) -> Any:
    """The leaf with the largest error among the worst verdicts that kept its entries; None if none did."""
    kept = [
        leaf
        for leaf in report.leaves
        if leaf.claimed_array is not None and np.shape(leaf.claimed_array) == np.shape(leaf.true_array)
    ]
    rank = {"fail": 2, "inconclusive": 1}
    size = lambda leaf: math.inf if math.isnan(leaf.error) else leaf.error
    return max(
        (leaf for leaf in kept if np.size(leaf.true_array)),
        key=lambda leaf: (rank.get(leaf.verdict, 0), size(leaf)),
        default=None,
    )


def leaf_map(report: Any) -> tuple[Markup, str, str] | None:
    """(drawing, title, note): the worst leaf's errors in units of its scale. Larger leaves in blocks."""
    leaf = worst_leaf(report)
    if leaf is None:
        return None
    with np.errstate(all="ignore"):
        errors = (np.asarray(leaf.claimed_array, np.float64) - np.asarray(leaf.true_array, np.float64)) / (leaf.scale or 1.0)
    same = np.isnan(leaf.claimed_array) & np.isnan(leaf.true_array) | (
        np.asarray(leaf.claimed_array) == np.asarray(leaf.true_array)
    )
    errors = np.where(same, 0.0, errors)
    matrix, rows, columns, block = _matrix(errors)
    drawing = heat_map(
        matrix.tolist(),
        rows=rows,
        columns=columns,
        title=f"Error of {leaf.path}",
        row_label=leaf.path if errors.ndim < 2 else "row" if errors.ndim < 3 else "leading index",
        column_label="index" if errors.ndim < 2 else "last axis",
        shade=_shade(matrix, leaf.resolution),
        hue=np.where(matrix < 0, 1, 2).tolist(),
    )
    note = "(claimed − true) / scale. Orange is too much, blue too little; what lies below the resolution stays blank."
    if block != (1, 1):
        note += f" A cell is the largest error of a block of {block[0]} × {block[1]} entries."
    return drawing, f"Where {leaf.path} is wrong" if leaf.verdict == "fail" else f"Errors of {leaf.path}", note


def _matrix(errors: np.ndarray) -> tuple[np.ndarray, list[str], list[str], tuple[int, int]]:
    """The errors as a matrix of at most _CELLS rows and columns, their names, and the entries of one cell."""
    flat = errors.reshape(-1, errors.shape[-1]) if errors.ndim else errors.reshape(1, 1)
    block = tuple(math.ceil(n / _CELLS) for n in flat.shape)
    starts = [range(0, n, b) for n, b in zip(flat.shape, block, strict=True)]
    cells = [[_largest(flat[i : i + block[0], j : j + block[1]]) for j in starts[1]] for i in starts[0]]
    lead = errors.shape[:-1]
    if len(lead) > 1:
        rows = [",".join(map(str, np.unravel_index(i, lead))) for i in starts[0]]
    else:
        rows = list(map(str, starts[0])) if errors.ndim > 1 else [""]
    return np.array(cells), rows, list(map(str, starts[1])) if errors.ndim else [""], (block[0], block[1])


def _largest(block: np.ndarray) -> float:
    """The entry of largest size with its sign; NaN is largest."""
    return float(block.flat[np.argmax(np.where(np.isnan(block), np.inf, np.abs(block)))])


def _shade(matrix: np.ndarray, resolution: float) -> list[list[float]]:
    """0.2 to 1 by the logarithm of the size; -1 (blank) below the resolution; 1 for NaN and infinity."""
    size = np.abs(matrix)
    least = resolution if math.isfinite(resolution) and resolution > 0 else 1e-300
    there = size[np.isfinite(size) & (size >= least)]
    most = there.max() if there.size else least
    low = max(least, 1e-3 * most)
    with np.errstate(all="ignore"):  # three decades below the largest are told apart
        share = np.log(np.maximum(size, low) / low) / (math.log(most / low) or 1.0)
    shade = np.where(size >= least, 0.2 + 0.8 * (share if most > low else np.ones_like(size)), -1.0)
    return np.where(np.isfinite(size), shade, 1.0).tolist()


def figures(report: Any) -> list[tuple[Markup, str, str]]:
    """(drawing, title, note) of all that can be drawn."""
    chart = ladder_chart(report)
    found = [leaf_map(report), (chart, "Error against the step", LADDER_NOTE) if chart is not None else None]
    return [item for item in found if item is not None]


def save(report: Any, path: str | os.PathLike[str]) -> pathlib.Path:
    """Write the drawings to a .svg or .html file and return its path."""
    path = pathlib.Path(path)
    if path.suffix.lower() not in (".svg", ".html"):
        raise ValueError(f"plot: a path that ends in .svg or .html was expected, got {str(path)!r}")
    drawn = figures(report)
    if not drawn:
        raise ValueError(f"plot: the check of {report.subject} kept no entries and no differences, there is nothing to draw")
    title = f"{report.verdict.upper()}: {report.subject}"
    if path.suffix.lower() == ".svg":
        path.write_text(_standalone(title, drawn), encoding="utf-8")
    else:
        blocks = [figure(*item) for item in drawn]
        path.write_text(document(title, [Section("Figures", blocks)], lead=report.reason), encoding="utf-8")
    return path


def _standalone(title: str, drawn: list[tuple[Markup, str, str]]) -> str:
    """One SVG file, the drawings below each other under their titles, that carries its own style, light and dark."""
    parts, y, widest = [], 52.0, WIDTH
    for drawing, name, _ in drawn:
        width, height = (float(n) for n in re.search(r'viewBox="0 0 (\d+) (\d+)"', drawing).groups())  # type: ignore[union-attr]
        parts.append(text(0, y, name, size=14, class_="ink", font_weight=600))
        parts.append(element("g", drawing, transform=f"translate(0 {y + 14:.0f})"))
        y, widest = y + height + 54, max(widest, width)
    size = {"width": round(widest + 48), "height": round(y + 4)}
    return element(
        "svg",
        element("title", title),
        element("style", Markup(STYLE)),
        rect(0, 0, size["width"], size["height"], fill="var(--surface)"),
        element(
            "g", text(0, 16, title, size=17, room=widest, class_="ink", font_weight=650), parts, transform="translate(24 24)"
        ),
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {size['width']} {size['height']}",
        style="font-family:var(--sans)",
        **size,
    )
