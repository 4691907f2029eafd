"""Tables as text and as HTML."""

import math
import re
import xml.etree.ElementTree as ET

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxbp.page.tables import Column, Table, number


@pytest.mark.parametrize(
    ("x", "written"),
    [
        (1.3e-7, "1.3e-07"),
        (0.973, "0.973"),
        (0.97, "0.970"),
        (12, "12"),
        (12.0, "12.0"),
        (999.96, "1000"),
        (0.99999, "1.00"),
        (9.9996e-4, "0.00100"),
        (999_999.6, "1.0e+06"),
        (-45_678.0, "-45,678"),
        (1797, "1797"),
        (23_860, "23,860"),
        (-23_860, "-23,860"),
        (0, "0"),
        (0.0, "0"),
        (-0.0, "0"),
        (math.nan, "nan"),
        (-math.inf, "-inf"),
        (5e-324, "4.9e-324"),
        (1e300, "1.0e+300"),
        (np.float32(0.5), "0.500"),
        (np.int32(7), "7"),
        (np.array(0.25), "0.250"),
    ],
)
def test_number(x, written):
    assert number(x) == written


def test_numbers_of_arrays_that_numpy_does_not_own():
    assert number(jnp.bfloat16(0.5)) == "0.500"
    assert number(jnp.int32(3)) == "3"


@given(st.floats(-1e307, 1e307), st.integers(2, 8))
def test_number_keeps_its_digits(x, digits):
    kept = digits if 1e-3 <= abs(x) < 1e6 else digits - 1
    assert float(number(x, digits).replace(",", "")) == pytest.approx(x, rel=0.51 * 10 ** (1 - kept), abs=5e-323)


def test_columns_of_similar_size_share_their_decimals():
    column = lambda cells: [line.split()[-1] for line in str(Table(["a", "b"], [["x", c] for c in cells])).splitlines()[2:]]
    assert column([0.9717, 0.5, 1.0]) == ["0.97", "0.50", "1.00"]
    assert column([12.5, 0.0312]) == ["12.5", "0.0312"]
    assert column([1.3e-7, 0.0, 0.5]) == ["1.3e-07", "0", "0.500"]
    assert column([12_345.6, 999.0]) == ["12,346", "999"]


def gradient_table(paths):
    columns = [
        "leaf",
        "shape",
        "scale",
        "hand f64",
        "jax.grad f64",
        Column("hand f32", "scales"),
        Column("jax.grad f32", "scales"),
        "ULP",
    ]
    rows = [[path, (784, 30), 0.0312, 2.1e-16, 1e-16, 1.4e-7, None, 1.2] for path in paths]
    return Table(
        columns, rows, title="Gradients", note="A note. " * 30, foot=[["worst", None, None, 2.1e-16, 1e-16, 1.4e-7, None, 1.2]]
    )


@pytest.mark.parametrize("length", [1, 20, 90, 300])
def test_text_is_aligned_and_fits_100_columns(length):
    lines = str(gradient_table(["p" * length, "params[0].w"])).splitlines()
    assert max(map(len, lines)) <= 100
    rules = [line for line in lines if set(line) <= {"-", " "}]
    assert len(rules) == 2
    assert rules[0] == rules[1]
    ends = [m.end() for m in re.finditer("-+", rules[0])]
    rows = lines[lines.index(rules[0]) + 1 :][:2]
    assert len(ends) == 8
    for end in ends[2:]:  # numbers end where their column ends, and two blanks part the columns
        assert all(row[end - 1] not in " " and row[end : end + 2].strip() == "" for row in rows)


def test_long_headings_wrap_at_the_bottom_before_cells_are_cut():
    table = Table(["leaf"] + ["a heading of several words"] * 6, [["params[0].layers.projection.w", *range(6)]])
    lines = str(table).splitlines()
    assert max(map(len, lines)) <= 100
    assert "params[0].layers.projection.w" in lines[-1]
    rule = next(i for i, line in enumerate(lines) if set(line) <= {"-", " "})
    assert rule > 1
    assert lines[rule - 1].startswith("leaf")


def test_wide_characters_and_accents_keep_the_columns():
    lines = str(Table(["name", "n"], [["日本", 1], ["e\u0301", 2], ["ab", 3]])).splitlines()[2:]
    assert lines == ["日本  1", "e\u0301     2", "ab    3"]


def test_cells_of_every_kind():
    table = Table(["a", "b", "c", "d", "e"], [[True, (3, 4), None, (), "two\nlines"]])
    assert str(table).splitlines()[-1].split("  ") == ["yes", "3x4", "-", "scalar", "two lines"]
    assert str(table).isascii()
    assert [cell.text for cell in ET.fromstring(table.to_html()).iter("td")] == ["3 × 4", "–", "scalar", "two lines"]


def test_html_tells_headers_from_cells():
    figure = ET.fromstring(gradient_table(["[0].w <b>", "[0].b"]).to_html())
    assert [th.get("scope") for th in figure.find(".//thead/tr")] == ["col"] * 8
    rows = figure.findall(".//tbody/tr")
    assert [row[0].tag for row in rows] == ["th", "th"]
    assert rows[0][0].get("scope") == "row"
    assert rows[0][0].text == "[0].w <b>"
    assert [cell.get("class") for cell in rows[0]] == [None, None, *["n"] * 6]
    assert figure.find(".//caption").text == "Gradients"
    assert [cell.text for cell in figure.find(".//tfoot/tr")][1:3] == [None, None]  # blank, where a row has a gap sign
    box = figure.find("div")
    assert (box.get("class"), box.get("tabindex"), box.get("aria-label")) == ("scroll", "0", "Gradients")


def test_a_table_without_rows_still_has_its_head():
    assert str(Table(["a", "bc"], [])).splitlines() == ["a  bc", "-  --"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Table([], []), "at least one column"),
        (lambda: Table(["a", "b"], [[1, 2], [1]]), r"rows\[1\] has 1 cells"),
        (lambda: Table(["a"], [[1]], foot=[[1, 2]]), r"foot\[0\] has 2 cells"),
    ],
)
def test_bad_tables(make, message):
    with pytest.raises(ValueError, match=message):
        make()
