"""Reports as text and data, and which of them raise."""

import dataclasses
import json
import math
import pickle
import re

import numpy as np
import pytest
from reports import SIGN, audited, leaf, report, wrong

from jaxbp.check.report import Hint, Step, WrongGradientError


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
