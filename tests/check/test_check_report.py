"""Reports: what a person reads on a terminal, on a page and in a picture; what a program reads; what a test raises."""

import dataclasses
import json
import math
import pickle
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from jaxbp.check.pages import entry, run_page
from jaxbp.check.report import AuditReport, Hint, LeafReport, Report, RuleReport, Step, WrongGradientError


SIGN = Hint("sign", "the claimed cotangent is -1 times the true one")
TRUE = np.array([[0.5, -1.0, 0.25], [2.0, 0.0, -0.125]])


def leaf(path="w", verdict="pass", **changes):
    made = LeafReport(path, (2, 3), "float32", verdict, 1.1e-16, 9.3e-10, 2.0, (0, 1), -1.0, -1.0, 1.2e-14)
    return dataclasses.replace(made, **changes)


def report(**changes):
    made = Report(
        subject="my_rule",
        claim="cotangents by the custom rule of my_rule",
        reference="autodiff of the bare primal in float64, and central differences",
        verdict="pass",
        reason="all leaves agree at the given input and at 9 derived ones",
        leaves=(leaf("w"), leaf("b", resolution=3e-4)),
        steps=(Step("structure", "pass"), Step("primal", "pass"), Step("ladder", "pass", "estimate 1e-12")),
        hints=(),
        reproduction="import jax\nprint(my_rule)",
    )
    return dataclasses.replace(made, **changes)


def wrong():
    bad = leaf(
        verdict="fail",
        error=2.0,
        ulp=16777216.0,
        index=(1, 0),
        claimed=-2.0,
        true=2.0,
        hints=(SIGN,),
        claimed_array=-TRUE,
        true_array=TRUE,
    )
    steps = np.array([0.25 / 4**k for k in range(15)])
    ladder = {"w": {"step": steps, "value": 1 + steps**2 + 1e-16 / steps, "claimed": -1.0}}
    steps = (Step("structure", "pass"), Step("cotangent", "fail", "w differs by 2 of its scale"), Step("jit", "pass"))
    why = "the cotangent of w is wrong; two references agree against it"
    return report(verdict="fail", reason=why, leaves=(bad, leaf("b")), steps=steps, hints=(SIGN,), ladder=ladder)


def audited():
    rules = (
        RuleReport("fine", "custom_jvp", "pass", "a.py:3", "b.py:7", (), report()),
        RuleReport("bad", "custom_vjp", "fail", "a.py:9", "b.py:8", ("jit train", "scan, last step"), wrong(), "w is wrong"),
        RuleReport("far", "custom_vjp", "inconclusive", "a.py:20", "", (), None, "not reached"),
    )
    return AuditReport("loss", "fail", "1 of 3 rules is wrong: bad", rules)


# --- text


def test_a_pass_says_what_it_would_have_seen():
    text = " ".join(str(report()).split())
    assert text.startswith("PASS my_rule: all leaves agree")
    assert (
        "An error of 1.2e-14 of the leaf's scale in any entry of w would have been seen, and of 3.0e-04 in any entry of b."
        in text
    )
    assert "To reproduce" not in text
    assert text.endswith("Steps pass ladder: estimate 1e-12. pass structure, primal")


def test_a_fail_says_who_is_who_where_why_and_how_to_see_it_again():
    lines = str(wrong()).splitlines()
    assert lines[0] == "FAIL  my_rule: the cotangent of w is wrong; two references agree against it."
    assert "claimed (yours):   cotangents by the custom rule of my_rule" in lines
    assert "true (reference):  autodiff of the bare primal in float64, and central differences" in lines
    (row,) = (line.split() for line in lines if line.startswith("w "))
    assert row[:3] == ["w", "f32[2,3]", "FAIL"]
    assert row[5:9] == ["[1,", "0]", "-2", "2"]
    assert "  sign, in w: the claimed cotangent is -1 times the true one." in lines
    assert "  FAIL  cotangent: w differs by 2 of its scale." in lines
    assert "  pass  structure, jit" in lines
    assert lines[-3:] == ["To reproduce:", "import jax", "print(my_rule)"]  # flush left: it can be copied
    assert "would have been seen" not in str(wrong())


def test_values_have_the_digits_that_tell_them_apart():
    shown = str(report(verdict="fail", leaves=(leaf(verdict="fail", claimed=0.123456789, true=0.123456788),)))
    assert "0.123456789" in shown
    assert "0.123456788" in shown


@pytest.mark.parametrize("width", [60, 80, 100, 140])
def test_prose_fits_the_width(width):
    long = wrong()
    long = dataclasses.replace(long, reason=long.reason + " and so on" * 20, hints=(Hint("sign", "word " * 60), SIGN))
    prose = [line for line in long.to_text(width).splitlines() if not line.startswith(("w ", "b ", "leaf", "-"))]
    assert max(map(len, prose)) <= width


def test_of_many_leaves_those_that_pass_are_counted():
    leaves = (*(leaf(f"w{i}", resolution=1e-12 * (i + 1)) for i in range(60)), leaf("bad", "fail", error=1.0))
    text = str(report(verdict="fail", leaves=leaves))
    assert "60 more leaves pass" in text
    assert "\nbad " in text
    assert "w7" not in text
    passed = " ".join(str(report(leaves=leaves[:-1])).split())
    assert (
        "An error of 6.0e-11 of the leaf's scale in any entry of any leaf would have been seen (w59 is the coarsest; in w0"
        in passed
    )


def test_leaves_without_numbers_and_scalars_are_shown():
    nothing = leaf(
        "s", "inconclusive", shape=(), error=math.nan, ulp=math.nan, index=None, claimed=None, true=None, resolution=math.inf
    )
    scalar = leaf("t", "fail", shape=(), index=(), claimed=math.nan, true=1.0, error=math.inf)
    text = str(report(verdict="inconclusive", leaves=(nothing, scalar)))
    assert "f32[]" in text
    assert "nan" in text
    assert "the value" in text


def test_what_was_not_tried_did_not_pass():
    steps = (Step("a: x", "pass"), Step("a: z", "pass"), Step("b", "pass", "not tried: out of the domain"))
    steps += (Step("c", "inconclusive", "noise"), Step("d", "fail", "off"))
    lines = str(report(verdict="fail", steps=steps)).splitlines()
    start = lines.index("Steps") + 1
    assert lines[start : start + 4] == ["  FAIL  d: off.", "  inconclusive  c: noise.", "  pass  a (x, z)", "  not tried  b"]


def test_an_audit_lists_every_rule_and_opens_the_wrong_ones():
    text = str(audited())
    assert text.startswith("FAIL  loss: 1 of 3 rules is wrong: bad.")
    table, *opened = text.split("-" * 100)
    assert [line.split()[0] for line in table.splitlines() if ".py:" in line] == ["fine", "bad", "far"]
    assert "a.py:9" in table
    assert len(opened) == 2
    assert "bad (custom_vjp), defined at a.py:9, called at b.py:8, inside jit train > scan, last step" in " ".join(
        opened[0].split()
    )
    assert str(wrong()).splitlines()[0] in opened[0]
    assert "not reached." in opened[1]


def test_rich_shows_the_same_text_in_colour():
    from rich.console import Console

    console = Console(width=100, force_terminal=True, color_system="standard")
    with console.capture() as capture:
        console.print(wrong())
    assert "\x1b[1;31mFAIL" in capture.get()
    plain = re.sub(r"\x1b\[[\d;]*m", "", capture.get()).rstrip()
    assert [line.rstrip() for line in plain.splitlines()] == [line.rstrip() for line in str(wrong()).splitlines()]


# --- data


def strict_json(text):
    return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


def test_json_is_strict_and_complete():
    found = dataclasses.replace(
        wrong(), leaves=(leaf(error=math.inf, claimed=-math.inf, true=np.float64("nan"), index=(np.int64(1), 2)),)
    )
    data = strict_json(found.to_json())
    assert data == found.to_dict()
    assert data["ok"] is False
    (row,) = data["leaves"]
    assert (row["error"], row["claimed"], row["true"]) == ("inf", "-inf", "nan")
    assert row["index"] == [1, 2]
    assert "true_array" not in row
    assert data["ladder"]["w"]["claimed"] == -1.0
    assert len(data["ladder"]["w"]["step"]) == 15
    assert data["hints"] == [{"category": "sign", "text": SIGN.text}]


def test_an_audit_is_json_with_the_reports_inside():
    data = strict_json(audited().to_json())
    assert data["rules"][1]["report"]["leaves"][0]["claimed"] == -2.0
    assert data["rules"][1]["path"] == ["jit train", "scan, last step"]
    assert data["rules"][2]["report"] is None


# --- verdicts


def test_only_a_fail_raises_unless_strict():
    report().raise_if_wrong(strict=True)
    unsure = report(verdict="inconclusive", reason="NaN at [0] on both sides")
    unsure.raise_if_wrong()
    with pytest.raises(WrongGradientError, match="INCONCLUSIVE  my_rule: NaN"):
        unsure.raise_if_wrong(strict=True)
    with pytest.raises(AssertionError) as caught:
        wrong().raise_if_wrong()
    assert str(caught.value) == str(wrong())
    assert caught.value.report == wrong()
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(wrong())


@pytest.mark.parametrize(("verdict", "ok"), [("pass", True), ("fail", False), ("inconclusive", False)])
def test_ok_is_a_pass_only(verdict, ok):
    assert report(verdict=verdict).ok is ok
    assert dataclasses.replace(audited(), verdict=verdict).ok is ok


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
