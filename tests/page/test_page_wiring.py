"""Nets with their weights: every number on its own link, nothing on anything else."""

import itertools
import math

import numpy as np
import pytest
from pictures import SVG, assert_readable, boxes, parse

from jaxbp.page.wiring import Node, draw_weights


def net(*sizes, notes=0, seed=0):
    draw = np.random.default_rng(seed)
    columns = [[Node(f"u{i}", [f"note {k} -0.123" for k in range(notes)]) for i in range(n)] for n in sizes]
    return columns, [draw.normal(size=(a, b)).tolist() for a, b in itertools.pairwise(sizes)]


@pytest.mark.parametrize("sizes", [(1,), (1, 1), (2, 2, 2), (3, 2, 1), (6, 2, 1), (4, 4, 1), (8, 3, 8), (2, 5, 5, 3)])
@pytest.mark.parametrize("notes", [0, 1, 3])
def test_nothing_touches(sizes, notes):
    svg = draw_weights(*net(*sizes, notes=notes), title="A net")
    assert_readable(svg)
    root = parse(svg)
    circles = [tuple(float(c.get(k)) for k in ("cx", "cy", "r")) for c in root.iter(f"{SVG}circle")]
    assert len(circles) == sum(sizes)
    for text, left, top, right, bottom in boxes(root):
        inside = [c for c in circles if left < c[0] + c[2] and c[0] - c[2] < right and top < c[1] + c[2] and c[1] - c[2] < bottom]
        assert len(inside) == (1 if text.startswith("u") else 0), text  # only its own name is in a circle


def test_every_weight_of_a_small_net_stands_on_its_link():
    columns, weights = net(2, 2, 1)
    svg = draw_weights(columns, weights, title="A net", digits=4)
    root = parse(svg)
    lines = [(line.find(f"{SVG}title").text, line) for line in root.iter(f"{SVG}line")]
    assert [name for name, _ in lines] == [
        f"u{i} → u{j}: {w:.9g}" for matrix in weights for i, row in enumerate(matrix) for j, w in enumerate(row)
    ]
    patches = [(r.find(f"{SVG}title").text, r) for r in root.iter(f"{SVG}rect") if r.find(f"{SVG}title") is not None]
    assert [name for name, _ in patches] == [name for name, _ in lines]
    for (_, line), (_, patch) in zip(lines, patches, strict=True):
        x1, y1, x2, y2 = (float(line.get(k)) for k in ("x1", "y1", "x2", "y2"))
        x = float(patch.get("x")) + float(patch.get("width")) / 2
        assert float(patch.get("y")) + 8 == pytest.approx(y1 + (y2 - y1) * (x - x1) / (x2 - x1), abs=0.1)


def test_signs_and_sizes_show():
    svg = draw_weights([[Node("a")], [Node("b"), Node("c"), Node("d")]], [[[2.0, -1.0, math.nan]]], title="A net")
    positive, negative, neither = parse(svg).iter(f"{SVG}line")
    assert positive.get("stroke") == "var(--series-1)"
    assert positive.get("stroke-dasharray") is None
    assert negative.get("stroke") == "var(--series-2)"
    assert negative.get("stroke-dasharray")
    assert float(positive.get("stroke-width")) > float(negative.get("stroke-width"))
    assert neither.get("class") == "link"


@pytest.mark.parametrize(
    ("columns", "weights", "message"),
    [
        ([], [], "every column needs a unit, got columns of"),
        ([[Node("a")], []], [[[]]], r"columns of \[1, 0\]"),
        ([[Node("a")], [Node("b")]], [], r"shapes \[\(1, 1\)\] were expected, got \[\]"),
        ([[Node("a")], [Node("b")]], [[[1.0, 2.0]]], r"got \[\(1, 2\)\]"),
        ([[Node("a"), Node("b")], [Node("c")]], [[[1.0], [1.0, 2.0]]], r"got \[\(2, 1, 2\)\]"),
    ],
)
def test_nets_that_cannot_be_drawn(columns, weights, message):
    with pytest.raises(ValueError, match=message):
        draw_weights(columns, weights, title="t")
