"""Rows, heat maps and drawings of nets."""

import math
import re

import numpy as np
import pytest
from drawn import AXES, INF, LONG, NAN, words
from pictures import SVG, assert_readable, boxes, parse, shown

from jaxbp.page.charts import Series, line_chart
from jaxbp.page.diagram import Units, draw_net
from jaxbp.page.frame import Mark
from jaxbp.page.heat import confusion_matrix, heat_map
from jaxbp.page.rows import Dots, bars, dots


# --- rows

ROWS = {
    "plain": (["fold 0", "fold 1", "fold 2"], [0.97, 0.95, 1.0]),
    "counts": (["0 (178 examples)", "1 (182 examples)"], [0, 12]),
    "long and not finite": ([LONG, "b", "c", "d"], [1.0, NAN, -INF, -2.5]),
    "extreme": (["a", "b"], [1e-300, 1e300]),
    "zero": (["a"], [0.0]),
}


@pytest.mark.parametrize(("names", "values"), ROWS.values(), ids=ROWS.keys())
def test_bars(names, values):
    svg = bars(names, values, title="Errors")
    assert_readable(svg)
    widths = [float(r.get("width")) for r in parse(svg).iter(f"{SVG}rect")]
    shares = [abs(v) for v in values if math.isfinite(v)]
    assert len(widths) == len(shares)
    assert np.allclose(np.array(widths) * max(shares), np.array(shares) * max(widths), atol=0.02 * max(shares))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(("names", "values"), ROWS.values(), ids=ROWS.keys())
def test_dots(names, values, log):
    series = [Dots("hand", values), Dots(LONG, values[::-1]), Dots("c", [1.0] * len(values))]
    marks = [Mark(0.5, LONG), Mark(0.51, "another"), Mark(2.0, "last")]
    svg = dots(names, series, title="t", x_label=LONG, log=log, marks=marks, band=(0.5, 0.6))
    assert_readable(svg)
    drawn = [node for node in parse(svg).iter() if node.get("class") == "dot"]
    placed = sum(math.isfinite(v) and (v >= 0 or not log) for s in series for v in s.values)
    assert len(drawn) == placed + 3  # the legend has one each
    assert sum(text in ("nan", "inf", "-inf", "-2.50") for text in words(svg)) == 3 * len(values) - placed


def test_an_exact_zero_has_its_place_on_a_logarithmic_axis():
    svg = dots(["a", "b"], [Dots("s", [0.0, 1e-16])], title="t", x_label="error", log=True)
    zero, tiny = (float(c.get("cx")) for c in parse(svg).iter(f"{SVG}circle"))
    labels = {text: (left + right) / 2 for text, left, _, right, _ in boxes(parse(svg))}
    assert zero == pytest.approx(labels["0"], abs=1)
    assert zero < tiny
    assert_readable(dots(["a"], [Dots("s", [0.0])], title="t", x_label="error", log=True))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: bars([], [], title="t"), "bars 't': there are no rows"),
        (lambda: bars(["a"], [1, 2], title="t"), "1 names, but 2 values"),
        (lambda: dots([], [Dots("s", [])], title="t", x_label="x"), "no rows"),
        (lambda: dots(["a"], [], title="t", x_label="x"), "no finite value"),
        (lambda: dots(["a"], [Dots("s", [NAN])], title="t", x_label="x"), "no finite value"),
        (lambda: dots(["a"], [Dots("s", [1, 2])], title="t", x_label="x"), "1 names, but 2 values"),
    ],
)
def test_rows_that_cannot_be_drawn(make, message):
    with pytest.raises(ValueError, match=message):
        make()


# --- heat maps


@pytest.mark.parametrize("names", [["0", "1", "2"], ["no", LONG, "yes"], ["", " ", "c"]])
def test_confusion_matrix(names):
    svg = confusion_matrix([[50, 1, 0], [3, 44, 0], [0, 0, 12_345]], names)
    assert_readable(svg)
    cells = [c.get("fill") for c in parse(svg).iter(f"{SVG}rect") if c.get("class") == "cell"]
    assert [c for i, c in enumerate(cells) if i % 4 == 0] == ["var(--heat-1-5)"] * 3  # the diagonal: blue, shares near 1
    assert cells[2] == cells[5] == "transparent"
    assert cells[1].startswith("var(--heat-2-")
    assert cells[1] < cells[3]  # one error is paler than three
    told = parse(svg).find(f"{SVG}desc").text
    assert told.startswith("12,439 of 12,443 on the diagonal.")
    assert f"{names[1]} taken for {names[0]}: 3; {names[0]} taken for {names[1]}: 1" in told


def test_cells_have_ink_that_belongs_to_their_colour():
    svg = heat_map(
        np.arange(12.0).reshape(3, 4), rows=list("abc"), columns=list("wxyz"), title="t", row_label="r", column_label="c"
    )
    assert_readable(svg)
    cells = [c.get("fill") for c in parse(svg).iter(f"{SVG}rect") if c.get("class") == "cell"]
    inks = [t.get("fill") for t in parse(svg).iter(f"{SVG}text") if t.get("class") == "through"]
    assert inks == [c.replace(")", "-ink)") for c in cells]
    assert cells[0] == "var(--heat-1-0)"
    assert cells[-1] == "var(--heat-1-5)"


@pytest.mark.parametrize("n", [1, 2, 10, 30, 31, 100])
def test_matrices_of_any_size(n):
    svg = confusion_matrix(np.eye(n) * 180 + 1, [f"class {i}" for i in range(n)])
    assert_readable(svg)
    assert svg.count("true class 0, predicted class 0: 181") == 1


def test_values_without_a_colour():
    svg = heat_map([[1.0, NAN], [INF, 2.0]], rows=["a", "b"], columns=["c", "d"], title="t", row_label="r", column_label="c")
    assert_readable(svg)
    assert {"nan", "inf"} <= set(words(svg))
    assert_readable(confusion_matrix([[0, 0], [0, 0]], ["a", "b"]))


@pytest.mark.parametrize(
    ("values", "message"), [([], "empty"), ([[]], "empty"), ([[1], [1, 2]], r"lengths \[1, 2\]"), ([[1, 2]], "2 row names")]
)
def test_matrices_that_cannot_be_drawn(values, message):
    with pytest.raises(ValueError, match=message):
        heat_map(values, rows=["a", "b"], columns=["c", "d"], title="t", row_label="r", column_label="c")


# --- drawings of nets


def count(svg, kind):
    return sum(node.get("class") == kind for node in parse(svg).iter())


@pytest.mark.parametrize(("size", "units", "more"), [(1, 1, 0), (9, 9, 0), (10, 8, 3), (784, 8, 3)])
def test_wide_layers_are_cut_around_an_ellipsis(size, units, more):
    svg = draw_net([Units(size, "input"), Units(3, ("dense", "sigmoid"))])
    assert_readable(svg)
    assert count(svg, "unit") == units + 3
    assert count(svg, "more") == more
    assert count(svg, "link") == units * 3
    assert f"{size:,}" in words(svg)


def test_links_sheets_and_skips():
    columns = [
        Units((28, 28, 1), "input"),
        Units((26, 26, 32), ("conv2d 3 × 3", "relu"), None),
        Units(64, "dense", None),
        Units(64, ("skip", "dense, relu"), "all", True),
        Units(64, "scale", "each"),
        Units(10, LONG),
    ]
    svg = draw_net(columns)
    assert_readable(svg)
    assert count(svg, "link") == 8 * 8 + 8 + 8 * 8
    assert "26 × 26 × 32" in words(svg)
    assert [shown(t) for t in parse(svg).iter(f"{SVG}title")].count("skip connection") == 1


@pytest.mark.parametrize("n", [1, 2, 5, 20])
def test_nets_of_any_depth(n):
    assert_readable(draw_net([Units(30, (f"dense 30 → 30 number {i}", "leaky_relu", "dropout")) for i in range(n)]))


@pytest.mark.parametrize(
    ("columns", "message"), [([], "no columns"), ([Units(3), Units(0)], "column 1 has size 0"), ([Units((3, 0))], "size")]
)
def test_nets_that_cannot_be_drawn(columns, message):
    with pytest.raises(ValueError, match=message):
        draw_net(columns)


def test_the_same_figure_twice_has_the_same_ids_and_different_figures_have_not():
    one, two = (line_chart([Series("a", [1, v])], title="t", **AXES) for v in (2, 3))
    assert one == line_chart([Series("a", [1, 2])], title="t", **AXES)
    assert re.search(r'id="(\w+)"', one)[1] != re.search(r'id="(\w+)"', two)[1]


def test_text_from_outside_is_escaped():
    bad = '<script>&"\x00'
    for svg in (
        line_chart([Series(bad, [1, 2]), Series("b", [1, 2])], title=bad, x_label=bad, y_label=bad, marks=[Mark(1, bad)]),
        bars([bad], [1], title=bad),
        dots([bad], [Dots(bad, [1])], title=bad, x_label=bad),
        confusion_matrix([[1]], [bad]),
        draw_net([Units(1, bad)], title=bad),
    ):
        assert "<script" not in svg
        parse(svg)
