"""Hints: random errors get no cause, and the most telling cause comes first."""

import time

import ml_dtypes
import numpy as np
import pytest
from hinting import MANY, draw, first, hints

from jaxbp.check.hints import Context, explain


# --- no wrong hint


@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize("size", [1e-5, 1e-2, 1.0, 100.0])
def test_random_errors_get_no_cause(shape, size):
    others = {"y": draw(shape, 5), "w": draw((4, 4), 6), "b": draw((4,), 7), "tokens": np.array([1, 0, 1, 1])}
    for seed in range(10):
        true = draw(shape, seed)
        claimed = true + size * draw(shape, seed + 50)
        more = {"true": {"y": draw(shape, 8)}, "claimed": {"y": draw(shape, 9)}, "out_bar": [draw(shape, 4)]}
        found = hints(claimed, true, values=others, **more)
        assert found[0].category in ("missing-term", "localised")
        told = (" entries are wrong, most of all [", "by no simple factor")
        assert found[0].category == "localised" or any(words in found[0].text for words in told)


def test_random_errors_at_random_entries():
    for seed in range(30):
        rng = np.random.default_rng(seed)
        true, value, mask = rng.normal(size=(6, 7)), rng.normal(size=(6, 7)), rng.random((6, 7)) < 0.3
        text = first(true + mask * rng.normal(size=(6, 7)), true, value=value)[1]
        assert text.startswith(f"right but for {mask.sum()} of 42 entries, at [")


def test_small_entries_are_not_right_ones():
    """Entries whose error is below the noise because the cotangent is, as in saturation, do not make a subset."""
    true = draw((40,)) * np.logspace(0, -12, 40)
    assert first(true * (1 + draw((40,), 1)), true)[0] == "missing-term"


def test_noise_is_respected():
    true = draw((5, 4))
    noisy = 2 * true + 1e-6 * draw((5, 4), 1)
    assert first(noisy, true, tolerance=1e-5) == ("factor", "claimed = k · true on every entry, with k = 2")
    assert first(noisy, true, tolerance=1e-9)[0] == "missing-term"
    assert hints(true + 1e-12, true)[0].category == "localised"


def test_sparse_true_cotangents():
    """Zeros on both sides say nothing: a factor stays a factor, a dense error stays one."""
    true = draw((9, 4)) * (np.arange(9) % 3 == 0)[:, None]
    assert first(2 * true, true)[0] == "factor"
    assert first(true * (1 + draw((9, 4), 1)), true)[0] == "missing-term"
    category, text = first(draw((9, 4)), np.zeros((9, 4)), true={"y": draw((3,))})
    assert (category, "true cotangent is zero" in text) == ("missing-term", True)


# --- precedence


def test_precedence():
    value = draw((4, 4), 1)
    square = value + value.T
    skew = value - value.T
    assert first(skew.T, skew)[0] == "sign"
    assert first(square * 2, square, value=square)[0] == "factor"
    assert first(-value, value, true={"y": -value}, values={"y": value})[0] == "sign"
    assert first(value.T, value, true={"y": value.T}, values={"y": value})[0] == "transposed"
    assert first(value[::-1], value, true={"y": value[::-1]}, values={"y": value})[0] == "swapped"
    assert first(np.zeros((4, 4)), square, value=-square)[0] == "zero"
    nan = np.full((4, 4), np.nan)
    assert first(nan, value)[0] == "nan"


def test_arrays_of_any_dtype():
    true, g = draw((5, 4)), draw((5, 4), 1)
    values = {
        "x": draw((5, 4)).astype(ml_dtypes.bfloat16),
        "i": np.arange(5),
        "m": np.ones(5, bool),
        "w": np.full((4, 4), np.nan),
    }
    leaves = {"x": true, "i": np.zeros(5, [("float0", "V")]), "huge": np.full((5, 4), 1e300)}
    for claimed, category in [(true + 0.3 * g, "missing-term"), (1e200 * g, "missing-term"), (2 * true, "factor")]:
        context = Context(values, leaves, leaves, [g.astype(np.float32).astype(np.float64), np.float32(2)])
        context = context if category == "factor" else context._replace(true={"x": true, "i": leaves["i"]})
        assert explain("x", claimed, true, context)[0].category == category
    assert explain("e", np.zeros((0, 3)), np.zeros((0, 3)), Context({}, {}, {}))[0].category == "localised"


def test_bad_shapes():
    with pytest.raises(ValueError, match="one shape"):
        explain("x", draw((3,)), draw((4,)), Context({}, {}, {}))


def test_large_leaves_are_quick():
    rng = np.random.default_rng(0)
    shape = (784, 256)
    true, value, other = rng.normal(size=shape), rng.normal(size=shape), rng.normal(size=shape)
    context = Context({"w": value, "v": other}, {}, {"w": true, "v": other}, [rng.normal(size=(32, 256))])
    wrong = true.copy()
    wrong[3, 5] *= 1.0001
    start = time.process_time()
    hint = explain("w", wrong, true, context)[0]
    seconds = time.process_time() - start
    assert hint.category == "subset"
    assert "[3, 5]" in hint.text
    assert seconds < 1.0
    assert explain("w", true + rng.normal(size=shape), true, context)[0].category == "missing-term"
