"""Planes: regions, the line between them, points on them."""

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pictures import SVG, assert_readable, parse

from jaxbp.page.plane import Points, Surface, crossings, plane


AXES = {"title": "t", "x_label": "x", "y_label": "y"}


def grid(f, n=40, x=(-2.0, 2.0), y=(-1.0, 3.0)):
    xs, ys = (low + (np.arange(n) + 0.5) * (high - low) / n for low, high in (x, y))
    return Surface(f(xs[None, :] + 0 * ys[:, None], ys[:, None] + 0 * xs[None, :]).tolist(), x, y)


def test_the_boundary_of_a_circle_has_its_length_and_place():
    surface = grid(lambda x, y: np.hypot(x, y - 1) - 0.8, n=80)
    pieces = list(crossings(surface))
    assert sum(math.dist(*piece) for piece in pieces) == pytest.approx(2 * math.pi * 0.8, rel=2e-3)
    assert max(abs(math.hypot(x, y - 1) - 0.8) for piece in pieces for x, y in piece) < 1e-2


@pytest.mark.parametrize(("middle", "parted"), [(0.4, (0, 2)), (-0.4, (1, 3))])
def test_a_saddle_is_cut_by_its_mean(middle, parted):
    """One square, corners of alternating sign: the two pieces cut off the corners that differ from the mean's sign."""
    corners = [(0.5, 0.5), (1.5, 0.5), (1.5, 1.5), (0.5, 1.5)]
    values = [[1 + middle, -1 + middle], [-1 + middle, 1 + middle]]  # rows upwards: corners 0 and 1, then 3 and 2
    pieces = list(crossings(Surface(values, (0.0, 2.0), (0.0, 2.0))))
    assert len(pieces) == 2
    lonely = [k for k in range(4) if k not in parted]
    for k in lonely:
        assert any(all(math.dist(end, corners[k]) < 1 for end in piece) for piece in pieces)
    for k in parted:
        assert not any(all(math.dist(end, corners[k]) < 0.5 for end in piece) for piece in pieces)


def test_cells_have_the_colour_of_their_side():
    svg = plane([], surface=Surface([[-3.0, -1.0], [0.0, math.nan]], (0, 1), (0, 1)), **AXES)
    root = parse(svg)
    rects = [r for r in root.iter(f"{SVG}rect") if "heat" in r.get("fill", "")]
    assert sorted(r.get("fill") for r in rects) == ["var(--heat-1-1)", "var(--heat-1-2)", "var(--heat-2-0)"]  # the NaN has none
    lower, upper = (float(next(r.get("y") for r in rects if r.get("fill") == f"var(--heat-{k})")) for k in ("1-2", "2-0"))
    assert lower > upper  # the first row lies below
    assert_readable(svg)


def test_points_stand_where_the_axes_say():
    points = [Points("a", [0.0, math.nan, 9.0], [0.0, 0.0, 0.0]), Points("b", [1.0], [2.0])]
    svg = plane(points, surface=grid(lambda x, y: x), **AXES)
    root = parse(svg)
    titles = [t.text for t in root.iter(f"{SVG}title")][1:]
    assert titles == ["a: 0, 0", "b: 1.00, 2.00"]  # what is not finite or outside is left out
    circle = next(c for c in root.iter(f"{SVG}circle") if c.find(f"{SVG}title") is not None)
    axis = next(line for line in root.iter(f"{SVG}line") if line.get("class") == "axis")
    middle = (float(axis.get("x1")) + float(axis.get("x2"))) / 2
    assert float(circle.get("cx")) == pytest.approx(middle, abs=0.1)  # x from -2 to 2
    assert_readable(svg)


@pytest.mark.parametrize("y", [(-1.0, 3.0), (-1.0, 0.0), (-4.0, 8.0)])
def test_square_units(y):
    svg = plane([Points("a", [0, 1], [0, 1])], surface=grid(lambda x, y: x, y=y), square=True, **AXES)
    assert_readable(svg)
    boxes = [r for r in parse(svg).iter(f"{SVG}rect") if "heat" in r.get("fill", "")]
    edges = [[float(r.get(k)) for k in ("x", "y", "width", "height")] for r in boxes]
    wide = max(a + c for a, _, c, _ in edges) - min(a for a, *_ in edges)
    high = max(b + d for _, b, _, d in edges) - min(b for _, b, *_ in edges)
    assert wide / 4 == pytest.approx(high / (y[1] - y[0]), rel=1e-3)


@settings(max_examples=40)
@given(
    x=st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6),
    scale=st.sampled_from([1e-9, 1.0, 1e9]),
    names=st.lists(st.text("abc W.0123456789", max_size=90), min_size=2, max_size=2),
)
@example(x=[1.2014486226208744e-283], scale=1e-9, names=["a", "b"])  # a label that the edge pushes back
def test_scatter_without_a_surface(x, scale, names):
    x = [scale * v for v in x]
    svg = plane([Points(names[0], x, x[::-1]), Points(names[1], x, [1.0] * len(x))], **AXES)
    assert_readable(svg)
    assert not re.search(r"nan|inf", svg.split("<desc")[1].split("</desc>")[1])


@pytest.mark.parametrize(
    ("points", "surface", "message"),
    [
        ([], None, "'t': there is no finite point to draw"),
        ([Points("a", [math.nan], [0.0])], None, "no finite point"),
        ([Points("a", [1.0], [])], None, "'a' has 1 x, but 0 y"),
        ([], Surface([], (0, 1), (0, 1)), "surface has 0 rows"),
        ([], Surface([[1.0], [1.0, 2.0]], (0, 1), (0, 1)), r"rows of lengths \[1, 2\]"),
        ([], Surface([[1.0]], (1, 1), (0, 1)), r"edges are \(low, high\), got \(1, 1\)"),
    ],
)
def test_planes_that_cannot_be_drawn(points, surface, message):
    with pytest.raises(ValueError, match=message):
        plane(points, surface=surface, **AXES)


def test_no_gap_between_cells():
    """Neighbours overlap by less than a cell, and nothing reaches beyond the plot."""
    svg = plane([], surface=grid(lambda x, y: x + y, n=30), **AXES)
    edges = [[float(r.get(k)) for k in ("x", "y", "width", "height")] for r in parse(svg).iter(f"{SVG}rect")]
    rows = sorted({(b, b + d) for _, b, _, d in edges})
    assert all(bottom > top for (_, bottom), (top, _) in itertools.pairwise(rows))
    right = max(a + c for a, _, c, _ in edges)
    last = [a + c for a, b, c, _ in edges if b == rows[0][0]]
    assert max(last) == right
