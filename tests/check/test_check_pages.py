"""Reports as pages and pictures."""

import dataclasses
import math
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from reports import TRUE, audited, leaf, report, wrong

from jaxbp.check.pages import entry, run_page


# --- pages and pictures


def test_a_page_holds_all_and_escapes():
    odd = dataclasses.replace(wrong(), subject="<lambda>", reason="a < b & c")
    page = odd.to_html()
    assert page.startswith("<!doctype html>")
    assert "<lambda>" not in page
    assert "&lt;lambda&gt;" in page
    assert "a &lt; b &amp; c" in page
    for text in ("claimed (yours)", "true (reference)", "sign", "To reproduce", "print(my_rule)", "w differs by 2 of its scale"):
        assert text in page
    assert page.count("<svg") >= 2
    assert "would have been seen" in report().to_html()


def test_a_fragment_styles_only_itself():
    for made in (report(), wrong(), audited()):
        before, style, after = re.split("</?style>", made._repr_html_())
        assert before.startswith('<div class="jaxbp-report"')
        assert style.startswith(".jaxbp-report{&{")
        assert style.count("{") == style.count("}")
        assert ":root" not in style
        ET.fromstring(before + after)  # well formed


def test_plot_writes_svg_and_html(tmp_path):
    path = wrong().plot(tmp_path / "wrong.svg")
    svg = ET.parse(path).getroot()
    titles = [element.text for element in svg.iter("{http://www.w3.org/2000/svg}title")]
    assert titles[0] == "FAIL: my_rule"
    assert {"Error of w", "Error against step"} <= set(titles)
    assert "row 1, index 0: -2.00" not in titles
    assert wrong().plot(str(tmp_path / "wrong.html")).read_text(encoding="utf-8").startswith("<!doctype html>")
    with pytest.raises(ValueError, match=r"\.svg or \.html was expected, got .*wrong\.png"):
        wrong().plot(tmp_path / "wrong.png")
    with pytest.raises(ValueError, match="nothing to draw"):
        report().plot(tmp_path / "empty.svg")


def cells(drawing):
    """(tooltip, fill) of every cell of a heat-map."""
    found = (
        ET.fromstring(drawing).iter("rect")
        if "xmlns" not in drawing
        else ET.fromstring(drawing).iter("{http://www.w3.org/2000/svg}rect")
    )
    return [(rect[0].text, rect.get("fill")) for rect in found if len(rect)]


def test_the_map_leaves_right_entries_blank_and_tells_too_much_from_too_little():
    from jaxbp.check.plots import leaf_map

    claimed = TRUE.copy()
    claimed[0, 2] += 0.2
    claimed[1, 1] -= 2e-9
    claimed[1, 2] = np.nan
    bad = leaf(verdict="fail", error=math.inf, claimed_array=claimed, true_array=TRUE)
    drawing, title, _ = leaf_map(report(verdict="fail", leaves=(leaf("b"), bad)))
    assert title == "Where w is wrong"
    fills = [fill for _, fill in cells(drawing)]
    assert fills[0] == fills[1] == fills[3] == "transparent"
    assert fills[2] == "var(--heat-2-5)"  # the largest, too much
    assert fills[4].startswith("var(--heat-1-")  # small, too little, and yet in sight
    assert fills[5] == "var(--heat-2-5)"  # NaN


def test_the_label_of_a_single_row_is_all_inside_the_map():
    from jaxbp.check.plots import leaf_map
    from jaxbp.page.svg import NORMAL, text_width

    bad = leaf("args[0]", verdict="fail", shape=(3,), claimed_array=np.ones(3), true_array=np.zeros(3))
    drawing, _, _ = leaf_map(report(verdict="fail", leaves=(bad,)))
    middle = float(re.search(r"rotate\(-90 12 ([\d.]+)\)", drawing)[1])
    height = float(re.search(r'viewBox="0 0 \d+ (\d+)"', drawing)[1])
    assert middle + text_width("← args[0]", NORMAL) / 2 <= height


@pytest.mark.parametrize("shape", [(), (1,), (7,), (300,), (64, 200), (3, 5, 4), (2, 3, 50, 60)])
def test_one_wrong_entry_shows_in_a_map_of_any_shape(shape):
    from jaxbp.check.plots import leaf_map

    true = np.ones(shape)
    claimed = true.copy()
    claimed[tuple(n // 2 for n in shape)] = 1.001
    bad = leaf(verdict="fail", shape=shape, scale=1.0, error=1e-3, claimed_array=claimed, true_array=true)
    drawing, _, note = leaf_map(report(verdict="fail", leaves=(bad,)))
    assert sum("heat" in fill for _, fill in cells(drawing)) == 1
    assert len(drawing) < 700_000
    assert ("block of" in note) == (max(shape[-1:], default=0) > 40 or math.prod(shape[:-1]) > 40)


def test_the_chart_of_a_wrong_gradient_levels_out_and_exact_agreement_is_drawn():
    from jaxbp.check.plots import _errors, ladder_chart

    steps, errors = _errors(wrong().ladder["w"])
    assert steps == sorted(steps)
    assert min(errors) > 1.5
    exact = report(ladder={"w": {"step": [1e-2, 1e-1], "value": [3.0, 3.1], "claimed": 3.0}})
    assert _errors(exact.ladder["w"])[1][0] == 1e-17
    assert ladder_chart(exact) is not None
    assert ladder_chart(report(ladder={"w": {"step": [0.1], "value": [math.nan], "claimed": 1.0}})) is None


def test_the_page_of_a_run_lists_wrong_ones_first_and_links():
    reports = [("t.py::ok", "passed", report()), ("t.py::bad", "failed", wrong()), ("t.py::rules", "failed", audited())]
    page = run_page([{"test": test, "outcome": outcome, **entry(made)} for test, outcome, made in reports])
    index = page[: page.index('id="report-')]
    assert index.index("t.py::bad") < index.index("t.py::rules") < index.index("t.py::ok")
    for i in (1, 2, 3):
        assert f'href="#report-{i}"' in index
        assert page.count(f'id="report-{i}"') == 1
    assert "No test made a report." in run_page([])
