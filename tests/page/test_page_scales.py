"""Scales and ticks."""

import itertools
import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pictures import measured

from jaxbp.page.scales import fit_scale, linear_ticks, log_ticks, spaced, tick_labels
from jaxbp.page.svg import SMALL, shorten, text_width


NUMBERS = st.floats(-1e299, 1e299)


def read(label: str) -> float:
    """The number that a tick label says."""
    label = label.replace("−", "-").replace(",", "")
    mantissa, _, power = label.rpartition("10") if any(c in "⁰¹²³⁴⁵⁶⁷⁸⁹" for c in label) else (label, "", "")
    if not power:
        return float(label)
    exponent = power.translate(str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-"))
    return float(f"{mantissa.rstrip('×') if mantissa not in ('', '-') else mantissa + '1'}e{exponent}")


@given(NUMBERS, NUMBERS, st.integers(1, 10))
def test_linear_ticks_are_round_evenly_spaced_and_inside(a, b, most):
    low, high = min(a, b), max(a, b)
    assume(high - low > 1e-6 * max(abs(low), abs(high)) and high - low > 1e-280)
    ticks = linear_ticks(low, high, most)
    assert len(ticks) <= most
    room = 1e-6 * (high - low)
    assert all(low - room <= t <= high + room for t in ticks)
    steps = [y - x for x, y in itertools.pairwise(ticks)]
    for step in steps:
        assert step == pytest.approx(steps[0], rel=1e-6)
        assert f"{step:.6e}"[0] in "125"
    if most >= 4:
        assert len(ticks) >= 2


@given(NUMBERS, NUMBERS, st.integers(2, 9))
def test_labels_say_where_their_ticks_stand(a, b, most):
    low, high = min(a, b), max(a, b)
    assume(high - low > 1e-6 * max(abs(low), abs(high)) and high - low > 1e-280)
    ticks = linear_ticks(low, high, most)
    labels = tick_labels(ticks)
    assert len(set(labels)) == len(labels)
    for tick, label in zip(ticks, labels, strict=True):
        assert read(label) == pytest.approx(tick, abs=1e-3 * (high - low))


@given(st.floats(-299, 299), st.floats(0.2, 500), st.integers(3, 9))
def test_log_ticks(start, decades, most):
    low, high = 10.0**start, 10.0 ** min(start + decades, 299.5)
    ticks = log_ticks(low, high, most)
    assert len(ticks) <= most
    assert all(low <= t <= high for t in ticks)
    assert all(read(label) == pytest.approx(t) for t, label in zip(ticks, tick_labels(ticks, log=True), strict=True))
    if decades >= 3 and start + decades < 299:
        assert len(ticks) >= 2
        assert all(math.log10(t) == pytest.approx(round(math.log10(t)), abs=1e-9) for t in ticks) or decades < 4


@pytest.mark.parametrize("log", [False, True])
@given(values=st.lists(st.floats(), min_size=1, max_size=6))
def test_a_scale_places_what_it_can_and_nothing_else(log, values):
    drawable = [v for v in values if abs(v) <= 1e300 and (v >= 1e-300 or not log)]
    if not drawable:
        with pytest.raises(ValueError, match="no finite"):
            fit_scale(values, 10.0, 200.0, log=log)
        return
    scale = fit_scale(values, 10.0, 200.0, log=log)
    for v in values:
        place = scale.at(v)
        assert (place is None) == (v not in drawable)
        assert place is None or 10.0 - 1e-6 <= place <= 200.0 + 1e-6
    assert len(spaced(scale)) >= 1


@given(NUMBERS, NUMBERS, st.floats(60, 800))
def test_spaced_labels_do_not_touch(a, b, room):
    scale = fit_scale([a, b], 0.0, room)
    for (p, first), (q, second) in itertools.pairwise(spaced(scale)):
        assert q - p >= (measured(first, SMALL) + measured(second, SMALL)) / 2 + 4
    for (p, _), (q, _) in itertools.pairwise(spaced(scale, upright=True)):
        assert q - p >= 1.3 * SMALL


def test_whole_numbers_for_epochs():
    labels = [label for _, label in spaced(fit_scale([1, 2, 3], 0, 400), whole=True)]
    assert labels == ["1", "2", "3"]


WORDS = [
    "The quick brown fox jumps over the lazy dog",
    "SIGMOID 0123456789",
    "params[0].w (64, 32)",
    "dense 64 → 32",
    "1.3e-07",
    "10⁻¹⁶",
    "5×10⁻²⁹⁹",
    "mmm WWW",
]


@pytest.mark.parametrize("text", WORDS)
@pytest.mark.parametrize("size", [9.0, 11.0, 12.0])
def test_the_estimate_of_a_width_is_not_below_a_real_font(text, size):
    assert measured(text, size) <= text_width(text, size) <= 1.3 * measured(text, size)


@given(st.text(max_size=60), st.floats(10, 200))
def test_shortened_texts_fit(text, room):
    short = shorten(text, room)
    assert text_width(short) <= room or short == "…"
    assert short == text or "…" in short
