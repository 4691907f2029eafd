"""draw: the graph of a run as an SVG that stands alone, light and dark; no program outside is needed.

A box is a value: what made it, the value, its adjoint. An edge goes from an operand to what uses it; on it stand the value
that goes down and the adjoint that this use sends back up. Of arrays stand shape and mean size. Above `most` boxes those of
one source line become one, then those of one function, then those of one file.
"""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from jaxbp.graph.layout import Layout, layout
from jaxbp.graph.nodes import Graph, Node, adjoints, statistics
from jaxbp.page.colors import DARK, LIGHT
from jaxbp.page.markup import Markup, element
from jaxbp.page.svg import NORMAL, SMALL, drawing, rect, text, text_width
from jaxbp.page.tables import number


MOST = 200
_EITHER_WAY = ("add", "mul", "max", "min")
_LINE, _PAD = 15.0, 9.0
_NAME_ROOM = 220.0
_TOP, _LEAST = 44.0, 360.0  # room for the legend


@dataclasses.dataclass
class Box:
    """What is drawn of one node, or of the nodes that became one."""

    title: str
    lines: tuple[tuple[str, str], ...]  # (class, text)
    kind: str
    tip: str

    @property
    def size(self) -> tuple[float, float]:
        widest = max(min(text_width(self.title, NORMAL), _NAME_ROOM), *(text_width(t) for _, t in self.lines))
        return widest + 2 * _PAD, 2 * _PAD + 3 + _LINE * (1 + len(self.lines))


@dataclasses.dataclass
class Link:
    """An edge: what stands on it, and whether it leads back to an earlier box (loops of a collapsed graph)."""

    source: int
    target: int
    value: str
    bar: str | None


def draw(fun: Callable, *, cotangent: Any = None, most: int = MOST, title: str | None = None) -> Callable[..., Markup]:
    """The graph of fun(*args) with values and adjoints, as an <svg>.

    Args:
      fun, cotangent: as for `adjoints`.
      most: more boxes than this are collapsed by source line, then by function, then by file.
      title: what the picture is called; the function's name if None.

    Returns: a function of the arguments that gives the markup; write it to a file that ends in .svg, or put it on a page.
    Raises: as `adjoints`; ValueError where more than `most` boxes are left in the end.
    """

    def drawn(*args: Any) -> Markup:
        graph = adjoints(fun, cotangent=cotangent)(*args)
        return draw_graph(graph, most=most, title=title or getattr(fun, "__name__", "function"))

    return drawn


def draw_graph(graph: Graph, *, most: int = MOST, title: str = "graph") -> Markup:
    """The same of a `Graph` that is there already."""
    boxes, links, how = _contents(graph, most)
    forward = [link for link in links if link.source < link.target]
    placed = layout([box.size for box in boxes], [(link.source, link.target) for link in forward], _TOP)
    back = [link for link in links if link.source > link.target]
    width = max(placed.width, _LEAST)
    parts = [element("style", Markup(_style())), rect(0, 0, width, placed.height, class_="g-paper"), _legend()]
    shown = [_curve(link, route) for link, route in zip(forward, placed.routes, strict=True)]
    shown += [_back(boxes, link, placed) for link in back]
    shown += [_box(box, x, y) for box, (x, y) in zip(boxes, placed.centres, strict=True)]
    shown += _labels(boxes, forward, placed)
    told = f"{len(boxes)} boxes{how}, {len(links)} edges; each with its value and its adjoint."
    return drawing(width, placed.height, title, told, parts, shown)


def _contents(graph: Graph, most: int) -> tuple[list[Box], list[Link], str]:
    """Boxes and edges, collapsed as far as needed."""
    fixed: set[int] = set()  # what no argument reaches stands in the boxes of its uses, where it is a number
    for node in graph:
        if node.kind == "constant" or (node.kind == "equation" and all(edge.source in fixed for edge in node.edges)):
            fixed.add(node.index)
    shown = [node for node in graph if node.index in graph.outputs or (node.index not in fixed and not node.opened)]
    keys: list[tuple[str, Callable[[Node], Any]]] = [
        ("", lambda node: node.index),
        (", one for each source line", lambda node: node.place or node.index),
        (", one for each function", lambda node: (node.place.rpartition(":")[0], node.function) if node.place else "arguments"),
        (", one for each file", lambda node: node.place.rpartition(":")[0]),
    ]
    count = 0
    for how, key in keys:
        groups: dict[Any, list[Node]] = {}
        for node in shown:
            groups.setdefault(key(node), []).append(node)
        count = len(groups)
        if count <= most:
            boxes = [_box_of(graph, nodes, key, fixed) for nodes in groups.values()]
            return boxes, _links(graph, list(groups.values())), how
    raise ValueError(f"draw: {count:,} boxes are left where the graph is collapsed by file; most={most:,}")


def _box_of(graph: Graph, nodes: list[Node], key: Callable, fixed: set[int]) -> Box:
    node, last = nodes[0], nodes[-1]
    file = pathlib.Path(node.place).name
    if len(nodes) == 1:
        sources = [graph.nodes[edge.source] for edge in node.edges]
        scalars = [i for i, source in enumerate(sources) if source.index in fixed and _is_number(source)]
        name = node.name
        if len(scalars) == 1 and len(sources) > 1:  # 'div 2' is x / 2, '10 div' is 10 / x
            written, first = _short(sources[scalars[0]].value), scalars == [0] and name not in _EITHER_WAY
            name = f"{written} {name}" if first else f"{name} {written}"
        turn = f" [{', '.join(map(str, node.turns))}]" if node.turns else ""
        title, where = name + turn, file
    else:
        what = key(node)
        title = what if isinstance(what, str) and what == "arguments" else node.function if isinstance(what, tuple) else file
        where = f"{len(nodes):,} values, the last:"
    lines = [("muted", where)] if where else []
    lines += [("g-value", f"value {_short(last.value)}")]
    lines += [("g-bar", f"adjoint {_short(last.adjoint)}" if last.adjoint is not None else "no adjoint")]
    inside = f"\ninside {' > '.join(node.path)}" if node.path else ""
    kind = "argument" if node.kind == "argument" else "output" if last.index in graph.outputs else "inner"
    return Box(title, tuple(lines), kind, f"{title}\n{node.place}{inside}\n{node.how or ''}".strip())


def _is_number(node: Node) -> bool:
    return np.size(node.value) == 1 and statistics(node.value) is not None


def _short(array: Any) -> str:
    """A number, or shape and mean size of an array."""
    told = statistics(array)
    shape = " × ".join(str(n) for n in np.shape(array))
    if told is None:
        return shape or "not a number"
    if np.size(array) == 1:
        return _number(np.asarray(array).item(), 4)
    bad = f", {told.nonfinite:,} not finite" if told.nonfinite else ""
    return f"{shape}: mean size {number(told.mean_abs)}{bad}"


def _number(x: float, digits: int) -> str:
    """Whole numbers without decimals."""
    return number(int(x) if math.isfinite(x) and x == int(x) and abs(x) < 1e6 else x, digits)


def _links(graph: Graph, groups: Sequence[list[Node]]) -> list[Link]:
    at = {node.index: g for g, nodes in enumerate(groups) for node in nodes}
    found: dict[tuple[int, int], list] = {}
    for g, nodes in enumerate(groups):
        for node in nodes:
            for edge in node.edges:
                source = at.get(edge.source)
                if source is not None and source != g:
                    found.setdefault((source, g), []).append((graph.nodes[edge.source], edge.bar))
    links = []
    for (source, target), uses in found.items():
        bars = [bar for _, bar in uses if bar is not None]
        value = _brief([uses[-1][0].value])
        links.append(Link(source, target, value, _brief(bars) if bars else None))
    return links


def _brief(arrays: Iterable[Any]) -> str:
    """Scalars: their sum, for what two operands of one box send adds up. Arrays: the mean size of all entries."""
    arrays = [np.asarray(a, np.float64) for a in arrays if statistics(a) is not None]
    if not arrays:
        return "–"
    if all(a.size == 1 for a in arrays):
        return _number(float(sum(a.sum() for a in arrays)), 3)
    return f"∅{number(float(np.concatenate([np.abs(a).ravel() for a in arrays]).mean()), 3)}"


def _box(box: Box, x: float, y: float) -> Markup:
    width, height = box.size
    left, top = x - width / 2, y - height / 2
    parts: list[Markup] = [rect(left, top, width, height, rx=5, class_=f"g-box g-{box.kind}")]
    baseline = top + _PAD + 11
    parts.append(text(x, baseline, box.title, size=NORMAL, anchor="middle", room=_NAME_ROOM, class_="g-name"))
    for k, (tone, line) in enumerate(box.lines, 1):
        parts.append(text(x, baseline + _LINE * k + 1, line, anchor="middle", class_=f"g-{tone}" if tone == "muted" else tone))
    return element("g", element("title", box.tip), parts)


def _curve(link: Link, route: list[tuple[float, float]]) -> Markup:
    """A smooth way through the points: vertical where it meets boxes and waypoints."""
    (x, y), *rest = route
    d = f"M{x:.1f},{y:.1f}"
    for k, (to_x, to_y) in enumerate(rest):
        if k % 2:  # along a waypoint
            d += f"L{to_x:.1f},{to_y:.1f}"
        else:
            half = (y + to_y) / 2
            d += f"C{x:.1f},{half:.1f} {to_x:.1f},{half:.1f} {to_x:.1f},{to_y:.1f}"
        x, y = to_x, to_y
    tip = element("title", f"value {link.value}, adjoint {link.bar or 'none'}")
    head = element("path", d=f"M{x - 4:.1f},{y - 6:.1f}L{x:.1f},{y:.1f}L{x + 4:.1f},{y - 6:.1f}", class_="g-edge")
    return element("g", tip, element("path", d=d, class_="g-edge" if link.bar else "g-edge g-still"), head)


def _back(boxes: list[Box], link: Link, placed: Layout) -> Markup:
    """From the side of a box round to the side of an earlier one."""
    (x1, y1), (x2, y2) = placed.centres[link.source], placed.centres[link.target]
    start, end = x1 + boxes[link.source].size[0] / 2, x2 + boxes[link.target].size[0] / 2
    out = min(max(start, end) + 26, placed.width - 4)
    d = f"M{start:.1f},{y1:.1f}C{out:.1f},{y1:.1f} {out:.1f},{y2:.1f} {end:.1f},{y2:.1f}"
    return element("path", element("title", "the next iteration"), d=d, class_="g-edge g-still")


def _labels(boxes: list[Box], links: list[Link], placed: Layout) -> list[Markup]:
    """Value and adjoint on each edge, where they lie on no box and on no other label; else they stay in the tooltip."""
    taken = []
    for (x, y), box in zip(placed.centres, boxes, strict=True):
        w, h = box.size
        taken.append((x - w / 2, y - h / 2, x + w / 2, y + h / 2))
    parts = []
    for link, route in zip(links, placed.routes, strict=True):
        told = [("g-value", f"↓{link.value}"), *([("g-bar", f"↑{link.bar}")] if link.bar else [])]
        wide = max(text_width(t) for _, t in told)
        for x, y in _spots(route):
            spot = (x - wide / 2 - 2, y - 8 * len(told), x + wide / 2 + 2, y + 8 * len(told))
            if not any(a < spot[2] and spot[0] < c and b < spot[3] and spot[1] < d for a, b, c, d in taken):
                taken.append(spot)
                parts.append(rect(spot[0] + 1, spot[1] + 1, wide + 2, 16 * len(told) - 2, class_="g-paper"))
                for k, (tone, t) in enumerate(told):
                    height = y + 4 + 14 * (k - (len(told) - 1) / 2)
                    parts.append(text(x, height, t, size=SMALL, anchor="middle", class_=tone))
                break
    return parts


def _spots(route: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Points on the edge to try for its label, the gaps between layers first."""
    spots = []
    for t in (0.5, 0.4, 0.6, 0.3, 0.7):
        for k in range(0, len(route) - 1, 2):
            (x1, y1), (x2, y2) = route[k], route[k + 1]
            s = t * t * (3 - 2 * t)
            # the curve x(t) and y(t) of a cubic with both handles at half height
            spots.append((x1 + (x2 - x1) * s, y1 + (y2 - y1) * (1.5 * t * (1 - t) + t**3)))
    return spots


def _legend() -> Markup:
    y = 20.0
    return element(
        "g",
        text(14, y, "↓ value, forward", class_="g-value"),
        text(26 + text_width("↓ value, forward"), y, "↑ adjoint, backward", class_="g-bar"),
        text(38 + text_width("↓ value, forward↑ adjoint, backward"), y, "∅ mean size", class_="g-muted"),
    )


def _style() -> str:
    used = ("surface", "ink", "muted", "rule", "series-1", "series-2")
    variables = lambda palette: "".join(f"--g-{name}:{palette[name]};" for name in used)
    return (
        f"svg{{{variables(LIGHT)}font-family:system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',Arial,sans-serif}}"
        f"@media screen and (prefers-color-scheme:dark){{svg{{{variables(DARK)}}}}}"
        ".g-paper{fill:var(--g-surface)}.g-box{fill:var(--g-surface);stroke:var(--g-rule);stroke-width:1.2}"
        ".g-argument{stroke:var(--g-series-1)}.g-output{stroke:var(--g-series-2);stroke-width:2}"
        ".g-name{fill:var(--g-ink);font-weight:600}.g-muted{fill:var(--g-muted)}"
        ".g-value{fill:var(--g-series-1)}.g-bar{fill:var(--g-series-2)}"
        ".g-edge{fill:none;stroke:var(--g-muted);stroke-width:1.1}.g-still{stroke-dasharray:3 4}"
    )
