"""Hints: errors of a whole leaf, and right entries in wrong places, get their name."""

import numpy as np
import pytest
from hinting import MANY, SHAPES, draw, first, hints

from jaxbp.check.hint_numbers import number


# --- a whole leaf


@pytest.mark.parametrize("shape", MANY)
def test_nan(shape):
    true = draw(shape)
    claimed = true.copy()
    claimed.reshape(-1)[-1] = np.nan
    category, text = first(claimed, true)
    assert category == "nan"
    assert "nan" in text


def test_nan_says_where_and_the_truth_may_be_infinite():
    value = np.array([1.0, 0.0, -2.0, 0.0, 3.0])
    true = np.array([np.inf, 2.0, 3.0, 4.0, 5.0])
    category, text = first(np.where(value == 0, np.inf, true), true, value=value)
    assert category == "nan"
    assert "where 'x' is 0" in text or "ties" in text
    assert first(np.where(np.isinf(true), np.nan, 2 * true), true)[0] == "factor"


@pytest.mark.parametrize("shape", MANY)
def test_zero_and_sign(shape):
    true = draw(shape)
    assert first(np.zeros(shape), true)[0] == "zero"
    assert first(-true, true)[0] == "sign"


@pytest.mark.parametrize("shape", MANY)
@pytest.mark.parametrize(("k", "name"), [(2.0, "2"), (0.5, "1/2"), (-2.0, "−2"), (1 / 32, "1/32, 32 the batch"), (48.0, "48")])
def test_known_factors(shape, k, name):
    category, text = first(k * draw(shape), draw(shape), batch=32, values={"w": draw((48, 3))})
    assert category == "factor"
    assert f"k = {name}" in text


@pytest.mark.parametrize("shape", [s for s in MANY if np.prod(s) > 1])
@pytest.mark.parametrize(("k", "name"), [(1.001, "1.001"), (0.9, "0.9"), (1.2345678, "about 1.23457")])
def test_other_factors_need_more_than_one_entry(shape, k, name):
    category, text = first(k * draw(shape), draw(shape))
    assert category == "factor"
    assert text.endswith(f"k = {name}")


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
@pytest.mark.parametrize("k", [1.2345678, 1.001, -0.7])
def test_a_scalar_is_parallel_to_anything(shape, k):
    true, other = draw(shape), draw(shape, 3)
    found = hints(k * true, true, values={"y": other}, true={"y": other}, out_bar=[draw(shape, 5)])
    assert found[0].category == "missing-term"
    assert "by no simple factor" in found[0].text


def test_names_of_numbers():
    shapes = {"'w'": (64, 10), "'b'": (10,)}
    name = lambda k, tolerance=1e-9: number(k, tolerance, shapes, 12).text
    assert name(1 / 8) == "1/√64, 64 the size of axis 0 of 'w'"
    assert name(0.15) == "0.15"
    assert name(10.0).startswith("10, the size of axis 1 of 'w'")
    assert name(-0.1).startswith("−1/10")
    assert name(1 / 12) == "1/12, 12 the batch size"
    assert "n − 1" in name(63.0)
    assert "(n − 1)/n" in name(11 / 12)
    assert name(np.pi) == "π"
    assert "640" in name(1 / 640)
    assert name(63.0001, 1e-2) == "63"
    assert name(1.5) == "3/2"


# --- the right entries elsewhere


@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (2, 4, 4), (4, 3, 4), (2, 3, 5, 5)])
def test_transposed(shape):
    true = draw(shape)
    claimed = np.swapaxes(true, -1, -2).reshape(shape) if shape != (4, 3, 4) else np.swapaxes(true, 0, 2)
    assert first(claimed, true)[0] == "transposed"


@pytest.mark.parametrize("rows", [(), (1,), (6,), (2, 3)])
def test_an_operand_not_transposed(rows):
    w, d = draw((4, 4)), draw((*rows, 4))
    category, text = first(d @ w, d @ w.T, values={"w": w, "k": draw((4, 4), 5)})
    assert category == "transposed"
    assert "'w'" in text
    if len(rows) == 1:
        assert first(w @ d.T, w.T @ d.T, values={"w": w})[0] == "transposed"
    inverse = np.linalg.inv(w)
    category, text = first(d @ inverse, d @ inverse.T, values={"w": w})
    assert category == "transposed"
    assert "inverse" in text


@pytest.mark.parametrize("shape", SHAPES)
def test_swapped(shape):
    true, other = draw(shape), draw(shape, 1)
    category, text = first(other, true, true={"params[1].w": other, "b": draw((3,))}, values={"params[1].w": draw(shape, 2)})
    assert category == "swapped"
    assert "'params[1].w'" in text


@pytest.mark.parametrize("shape", [(7,), (5, 4), (3, 1, 5), (2, 3, 4, 5)])
@pytest.mark.parametrize("axis", [0, -1])
def test_permuted(shape, axis):
    true = draw(shape)
    assert first(np.flip(true, axis), true) == ("permuted", f"claimed is true reversed along axis {axis % len(shape)}")
    category, text = first(np.roll(true, 1, axis), true)
    assert category == "permuted"
    if shape[axis] > 2:
        assert text == f"claimed is true rolled by 1 along axis {axis % len(shape)}"
    shuffled = np.random.default_rng(2).permutation(true.reshape(-1)).reshape(shape)
    assert first(shuffled, true)[0] == "permuted"


def test_permuted_more():
    true = draw((3, 3, 2, 4))
    assert first(true[::-1, ::-1], true) == ("permuted", "claimed is true reversed along axes 0 and 1")
    shifted = np.concatenate([np.zeros((9, 1)), draw((9, 6))[:, :-1]], 1)
    category, text = first(shifted, draw((9, 6)))
    assert category == "permuted"
    assert "shifted by 1 along axis 1" in text
    halves = draw((5, 8))
    assert first(np.roll(halves, 4, 1), halves)[1] == "claimed is true rolled by 4 along axis 1"


# --- the error's own shape


@pytest.mark.parametrize("shape", [*SHAPES, (2,)])
def test_decay(shape):
    true, value = draw(shape), draw(shape, 1)
    assert first(true + 0.01 * value, true, value=value)[0] == "decay"
    category, text = first(true - 2 * value, true, value=value)
    assert category == "decay"
    assert "−2" in text


def test_decay_beside_the_loss_and_a_projection():
    true, value = draw((5, 4)), draw((5, 4), 1)
    category, text = first(true + 0.01 * -0.7312345 * value, true, value=value, out_bar=[np.array(-0.7312345)])
    assert (category, "k = 0.01 × the output's cotangent" in text) == ("decay", True)
    assert first(true + 0.7312345 * value, true, value=value, out_bar=[draw((3,)), np.array(1.3)])[0] == "decay"
    category, text = first(true + 0.7312345 * value, true, value=value, out_bar=[draw((5, 4), 2)])
    assert (category, "the value of 'x'" in text) == ("missing-term", True)


def test_decay_of_a_scalar_by_a_short_rate():
    true, value, bar = draw(()), draw((), 1), np.array(-0.7312345)
    category, text = first(true + 0.05 * bar * value, true, value=value, out_bar=[bar])
    assert (category, "k = 0.05 × the output's cotangent" in text) == ("decay", True)
    assert first(true + 0.0512345 * bar * value, true, value=value, out_bar=[bar])[0] == "missing-term"
    assert first(np.array(7.0), np.array(12.0), value=np.array(2.0))[0] == "missing-term"  # −2.5 · 2, and much else


@pytest.mark.parametrize("shape", [s for s in SHAPES if s[-1] > 2])
def test_constant(shape):
    true = draw(shape)
    claimed = true + draw((*shape[:-1], 1), 4)
    category, text = first(claimed, true)
    assert category == "constant"
    assert str(len(shape) - 1) in text
    assert first(true + 0.3, true)[0] == "constant"


def test_constant_names_the_mean():
    g = draw((5, 7))
    centred = g - g.mean(1, keepdims=True)
    assert first(g, centred)[1].endswith("claimed − mean(claimed) along axis 1 would be right")
    assert "subtracted" in first(centred, g)[1]
