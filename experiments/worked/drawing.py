"""The net as one drawing: a box for each unit with its z, a and δ, and on each edge what it carries forward and back.

The page steps through this very drawing: its script finds boxes, edges and values by their data- attributes, and changes what
stands in them. An edge has three numbers: w, w a on its way forward (→), w δ on its way back (←).
"""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Iterator

from experiments.worked.net import Net, unit, weight_name
from experiments.worked.passes import Values
from experiments.worked.text import kind, short
from jaxbp.page.colors import DARK, LIGHT
from jaxbp.page.markup import Markup, element
from jaxbp.page.svg import NORMAL, drawing, rect, text, text_width


ROW = 14.0  # of text in a box or on an edge
BOX = 104.0  # width of a unit's box
CELL = 96.0  # room of one number on an edge where all three stand on one line
WIDE = 94.0  # width of an edge's label where they stand below each other
REACH = (34.0, 46.0)  # from a box to an edge's label, where labels are three lines and where they are one
MOST_TALL = 9  # edges between two layers that have labels of three lines
TOP, BOTTOM = 42.0, 34.0
CSS = pathlib.Path(__file__).with_name("drawing.css")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where things stand: the left edge of each column of boxes, the middle of each unit, whether labels are tall."""

    lefts: tuple[float, ...]
    middles: tuple[tuple[float, ...], ...]
    tall: bool
    height: float

    @property
    def label(self) -> tuple[float, float]:
        """Width and height of an edge's label."""
        return (WIDE, 3 * ROW + 5) if self.tall else (3 * CELL + 6, ROW + 3)

    @property
    def cost(self) -> float:
        return self.lefts[-1] + BOX + 58


def draw(net: Net, values: Values) -> Markup:
    """The drawing as an inline <svg>, whose colours are the page's."""
    at = _places(net)
    edges = [_edge(net, values, at, *key) for key in _edges(net)]
    units = [_unit(net, values, at, layer, j) for layer, n in enumerate(net.sizes) for j in range(n)]
    title = f"The net {kind(net)}, with every value"
    told = f"Cost {short(values.cost)}. " + ". ".join(_told(net, values, layer) for layer in range(len(net.sizes))) + "."
    parts = (_titles(net, at), _to_cost(net, at), edges, units, _cost(net, values, at), _key(at))
    return drawing(at.cost + BOX + 6, at.height, title, told, element("g", *parts, class_="worked"))


def alone(net: Net, values: Values) -> str:
    """The drawing as a file of its own, light and dark."""
    names = lambda palette: "".join(f"--{name}:{value};" for name, value in palette.items())
    style = (
        f"svg{{{names(LIGHT)}background:var(--surface);font-family:system-ui,'DejaVu Sans',sans-serif}}"
        f"@media (prefers-color-scheme:dark){{svg{{{names(DARK)}}}}}svg .ink{{fill:var(--ink)}}svg .muted{{fill:var(--muted)}}"
    )
    svg = draw(net, values)
    start = svg.index("<g ")
    return f"{svg[:start]}<style>{style}{CSS.read_text(encoding='utf-8')}</style>{svg[start:]}\n"


def color(layer: int) -> str:
    """The class of a layer's colour: the inputs grey, the others in turn; orange is left for what goes back."""
    return "of-inputs" if layer == 0 else f"of-{(layer - 1) % 4 + 1}"


# --- where things stand


def _edges(net: Net) -> Iterator[tuple[int, int, int]]:
    """(layer, to, from) of every weight, counted from 0 but for the layer."""
    for layer in range(1, len(net.sizes)):
        for j in range(net.sizes[layer]):
            yield from ((layer, j, k) for k in range(net.sizes[layer - 1]))


def rows(net: Net, layer: int) -> tuple[str, ...]:
    """The values in a unit's box."""
    last = len(net.sizes) - 1
    return ("a",) if layer == 0 else ("b", "z", "a", "y", "d") if layer == last else ("b", "z", "a", "d")


def _box_height(net: Net, layer: int) -> float:
    return 24 + ROW * len(rows(net, layer))


def _places(net: Net) -> Place:
    tall = all(n * m <= MOST_TALL for n, m in zip(net.sizes, net.sizes[1:], strict=False))
    place = Place((), (), tall, 0.0)
    width, height = place.label
    pitches = [
        max(_box_height(net, layer) + 14, (net.sizes[layer + 1] * (height + 4) + 8) if layer + 1 < len(net.sizes) else 0)
        for layer in range(len(net.sizes))
    ]
    extent = max(pitch * n for pitch, n in zip(pitches, net.sizes, strict=True))
    gap = width + 2 * (REACH[0] if tall else REACH[1])
    lefts = tuple(4 + layer * (BOX + gap) for layer in range(len(net.sizes)))
    middles = tuple(
        tuple(TOP + extent / 2 + (j - (n - 1) / 2) * pitch for j in range(n)) for pitch, n in zip(pitches, net.sizes, strict=True)
    )
    return Place(lefts, middles, tall, TOP + extent + BOTTOM)


def _slot(net: Net, at: Place, layer: int, j: int, k: int) -> tuple[float, float]:
    """Top left corner of an edge's label: below those of the same unit that lead to units above."""
    width, height = at.label
    left = (at.lefts[layer - 1] + BOX + at.lefts[layer]) / 2 - width / 2
    return left, at.middles[layer - 1][k] + (j - net.sizes[layer] / 2) * (height + 4) + 2


# --- what stands there


def _edge(net: Net, values: Values, at: Place, layer: int, j: int, k: int) -> Markup:
    (left, top), (width, height) = _slot(net, at, layer, j, k), at.label
    middle, w = top + height / 2, float(net.weights[layer - 1][j, k])
    start, end = (at.lefts[layer - 1] + BOX, at.middles[layer - 1][k]), (at.lefts[layer], at.middles[layer][j])
    line = f"{_curve(start, (left, middle))}{_curve((left + width, middle), end).replace('M', 'L')}"
    numbers = (("w", "w", w), ("→", "f", w * values.a[layer - 1][k]), ("←", "r", w * values.delta[layer - 1][j]))
    label = [rect(left, top, width, height, rx=4.0, class_="plate")]
    for i, (sign, name, value) in enumerate(numbers):
        x, y = (left + 6, top + ROW * (i + 1) - 1) if at.tall else (left + 5 + CELL * i, top + ROW - 1.5)
        room = width - 12 if at.tall else CELL - 10
        label.append(_number(sign, name, value, x, y, room))
    names = f"{weight_name(net, layer, j + 1, k + 1)}, from {unit(net, layer - 1, k)} to {unit(net, layer, j)}"
    children = (element("title", names), element("path", d=line, class_="wire"), label)
    return element("g", *children, class_=f"edge {color(layer)}", data_edge=f"{layer},{j},{k}")


def _curve(start: tuple[float, float], end: tuple[float, float]) -> str:
    bend = (end[0] - start[0]) * 0.55
    return (
        f"M{start[0]:.1f},{start[1]:.1f}C{start[0] + bend:.1f},{start[1]:.1f} {end[0] - bend:.1f},{end[1]:.1f} "
        f"{end[0]:.1f},{end[1]:.1f}"
    )


def _number(sign: str, name: str, value: float, x: float, y: float, room: float) -> Markup:
    shown = short(value).replace("-", "−")
    return element(
        "g",
        text(x, y, sign, class_="sign"),
        text(x + room, y, shown, anchor="end", class_="number", data_value=name),
        class_=f"value v-{name}",
    )


def _unit(net: Net, values: Values, at: Place, layer: int, j: int) -> Markup:
    left, middle, height = at.lefts[layer], at.middles[layer][j], _box_height(net, layer)
    top = middle - height / 2
    found = {"a": values.a[layer][j]}
    if layer:
        found |= {"b": net.biases[layer - 1][j], "z": values.z[layer - 1][j], "d": values.delta[layer - 1][j]}
    if layer == len(net.biases):
        found["y"] = net.targets[j]
    parts = [rect(left, top, BOX, height, rx=9.0, class_="box"), _name(unit(net, layer, j), left + BOX / 2, top + 16)]
    for i, name in enumerate(rows(net, layer), 1):
        sign = {"d": "δ", "y": "target"}.get(name, name)
        parts.append(_number(sign, name, float(found[name]), left + 9, top + 16 + ROW * i, BOX - 18))
    return element("g", *parts, class_=f"unit-box {color(layer)}", data_unit=f"{layer},{j}")


def _name(name: str, x: float, y: float) -> Markup:
    return text(x, y, name, size=NORMAL, anchor="middle", class_="name")


def _titles(net: Net, at: Place) -> list[Markup]:
    last, parts = len(net.sizes) - 1, []
    for layer, left in enumerate(at.lefts):
        name = "inputs" if layer == 0 else f"layer {layer}" + (", outputs" if layer == last else "")
        below = "" if layer == 0 else net.output if layer == last else net.activation
        middle = left + BOX / 2
        parts.append(text(middle, 14, name, size=NORMAL, anchor="middle", class_=f"name {color(layer)}"))
        parts.append(text(middle, 29, below, anchor="middle", class_="muted") if below else None)
    return [part for part in parts if part is not None]


def _cost(net: Net, values: Values, at: Place) -> Markup:
    middle = at.middles[0][0] + (at.middles[0][-1] - at.middles[0][0]) / 2
    top, height = middle - 20, 24 + ROW
    parts = (rect(at.cost, top, BOX, height, rx=9.0, class_="box"), _name("cost", at.cost + BOX / 2, top + 16))
    number = _number("C", "c", values.cost, at.cost + 9, top + 16 + ROW, BOX - 18)
    return element("g", *parts, number, class_="unit-box of-cost", data_unit="cost")


def _to_cost(net: Net, at: Place) -> list[Markup]:
    middle = at.middles[0][0] + (at.middles[0][-1] - at.middles[0][0]) / 2
    ends = [((at.lefts[-1] + BOX, y), (at.cost, middle)) for y in at.middles[-1]]
    return [element("path", d=_curve(*pair), class_="wire of-cost", data_cost=str(j)) for j, pair in enumerate(ends)]


def _key(at: Place) -> list[Markup]:
    """What the signs on an edge mean."""
    parts, x, y = [], 4.0, at.height - 8
    for name, words in (("w", "w weight"), ("f", "→ w·a, forward"), ("r", "← w·δ, back"), ("r", "δ is ∂C/∂z")):
        parts.append(element("g", text(x, y, words, class_="sign"), class_=f"value v-{name} key"))
        x += text_width(words) + 16
    return parts


def _told(net: Net, values: Values, layer: int) -> str:
    """The layer in words, for whoever does not see it."""
    each = []
    for j in range(net.sizes[layer]):
        delta = f", δ {short(values.delta[layer - 1][j])}" if layer else ""
        each.append(f"{unit(net, layer, j)} a {short(values.a[layer][j])}{delta}")
    return ("Inputs: " if layer == 0 else f"Layer {layer}: ") + "; ".join(each)
