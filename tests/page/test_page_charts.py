"""Line charts: nothing touches, lines are where the axes say, odd values are gaps."""

import math
import re

import numpy as np
import pytest
from drawn import AXES, INF, LONG, NAN, paths, points, words
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import SVG, assert_readable, boxes, parse

from jaxbp.page.charts import Series, line_chart
from jaxbp.page.frame import Mark


# --- line charts

VALUES = {
    "plain": [2.3, 1.0, 0.4, 0.2],
    "gaps": [1, NAN, 3, INF, -INF, 2, NAN, 4],
    "one point": [3.0],
    "constant": [0.97] * 20,
    "zero": [0.0] * 5,
    "tiny": np.linspace(1e-20, 5e-20, 9),
    "huge": np.linspace(-1e300, 1e300, 9),
    "offset": 1e6 + np.linspace(0, 1e-3, 9),
    "denormal": [5e-324, 1e-310],
    "integers": np.arange(5),
    "float32": np.ones(4, np.float32) / 3,
    "many": np.sin(np.arange(20_000) / 900),
}


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES.keys())
@pytest.mark.parametrize("log", [False, True])
def test_line_chart_of_any_values(values, log):
    if log and not any(v >= 1e-300 for v in values):
        with pytest.raises(ValueError, match="'losses': there is no finite positive value to draw"):
            line_chart([Series("a", values)], title="losses", log_y=log, **AXES)
        return
    svg = line_chart([Series("a", values)], title="losses", log_y=log, **AXES)
    assert_readable(svg)
    assert len(svg) < 60_000
    (d,) = paths(svg, "bold")
    kept = sum(math.isfinite(v) and abs(v) <= 1e300 and (v > 0 or not log) for v in map(float, values))
    assert kept > 1000 or d.count(",") >= kept


@pytest.mark.parametrize("n", [1, 2, 6, 9])
@pytest.mark.parametrize("name", ["train", LONG])
def test_legend_and_marks_stay_apart(n, name):
    series = [Series(f"{name} {i}", np.cos(np.arange(40) + i)) for i in range(n)]
    marks = [Mark(5 * i + 1, f"{name} event {i}") for i in range(8)] + [Mark(40, "the end", 0.5), Mark(1, "the start")]
    svg = line_chart(series, title=name, x_label=LONG, y_label=LONG, marks=marks)
    assert_readable(svg)
    assert sum(text.endswith(f" {i}") for text in words(svg) for i in range(n)) >= (n if n > 1 else 0)
    assert "the end" in words(svg)
    assert parse(svg).find(f".//{SVG}circle[@class='ring']") is not None


@settings(deadline=None, max_examples=60)
@given(
    runs=st.lists(st.lists(st.floats(), min_size=1, max_size=8), min_size=1, max_size=3),
    names=st.lists(st.text("abcdefgh W.[]0123456789", max_size=90), min_size=3, max_size=3),
    marks=st.lists(st.tuples(st.floats(0, 30), st.text("abc W", max_size=60)), max_size=5),
)
def test_nothing_touches(runs, names, marks):
    series = [Series(name, run) for name, run in zip(names, runs, strict=False)]
    if not any(abs(v) <= 1e300 for run in runs for v in run):
        with pytest.raises(ValueError, match="no finite value"):
            line_chart(series, title="t", **AXES)
        return
    assert_readable(line_chart(series, title="t", marks=[Mark(*m) for m in marks], **AXES))


def test_gaps_are_gaps_and_lone_points_are_dots():
    (d,) = paths(line_chart([Series("a", [1, 2, NAN, 3, INF, 4, 5])], title="t", **AXES), "bold")
    assert [len(points(piece)) for piece in d.split("M")[1:] if "a" not in piece] == [2, 2]
    assert d.count("a1,1") == 2  # one circle: two arcs


def test_a_line_is_where_its_axes_say():
    svg = line_chart([Series("a", [0.0, 10.0])], title="t", **AXES)
    (start, stop) = points(paths(svg, "bold")[0])
    places = {text: (top + bottom) / 2 for text, _, top, _, bottom in boxes(parse(svg)) if re.fullmatch(r"[\d.]+", text)}
    assert start[1] == pytest.approx(places["0"], abs=1.5)
    assert stop[1] == pytest.approx(places["10"], abs=1.5)
    assert start[0] < stop[0]


def test_every_run_is_faint_behind_its_mean():
    runs = np.arange(12.0).reshape(3, 4)
    svg = line_chart([Series("validation", runs.mean(0), each=runs, each_name="fold")], title="t", **AXES)
    assert len(paths(svg, "faint")) == 3
    assert len(paths(svg, "bold")) == 1
    assert svg.rindex('class="faint"') < svg.index('class="bold"')
    assert [t.text for t in parse(svg).iter(f"{SVG}title")][1:] == [
        "validation, fold 0",
        "validation, fold 1",
        "validation, fold 2",
        "validation",
    ]
    assert "validation: from 4.00 to 7.00, least 4.00" in parse(svg).find(f"{SVG}desc").text


def test_many_points_keep_their_extremes():
    values = np.zeros(50_000)
    values[[12_345, 40_000]] = 5.0, -3.0
    svg = line_chart([Series("a", values)], title="t", **AXES)
    heights = [y for _, y in points(paths(svg, "bold")[0])]
    few = [y for _, y in points(paths(line_chart([Series("a", [5.0, -3.0])], title="t", **AXES), "bold")[0])]
    assert (min(heights), max(heights)) == (min(few), max(few))


def test_y_range_cuts_lines_off():
    svg = line_chart([Series("a", [0.1, 0.95, 0.97])], title="t", y_range=(0.94, 0.98), **AXES)
    assert_readable(svg)
    window = parse(svg).find(f"{SVG}svg")
    bottom = float(window.get("y")) + float(window.get("height"))
    assert max(y for _, y in points(paths(svg, "bold")[0])) > bottom
    assert "0.2" not in words(svg)


@pytest.mark.parametrize(
    ("series", "message"),
    [
        ([], "'t': there is no finite value to draw"),
        ([Series("a", [])], "no finite value"),
        ([Series("a", [NAN, INF])], "no finite value"),
        ([Series("a", [1, 2], x=[1])], "'a' has 2 values, but x has 1"),
        ([Series("a", [1, 2], each=[[1, 2], [1]])], r"each\[1\] has 1"),
        ([Series("a", [1, 2], x=[NAN, NAN])], "no finite value"),
    ],
)
def test_line_charts_that_cannot_be_drawn(series, message):
    with pytest.raises(ValueError, match=message):
        line_chart(series, title="t", **AXES)
