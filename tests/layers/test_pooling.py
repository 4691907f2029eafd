"""Pools: the first maximum takes all, as in XLA; the mean counts what is in the image."""

from __future__ import annotations

import itertools
import math

import brute
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import jaxbp as bp
from jaxbp import inputs


KEY = jax.random.key(0)
GEOMETRIES = [
    ((2, 2), (2, 2), "VALID", (4, 6)),
    ((2, 3), (2, 3), "VALID", (5, 8)),  # rows and columns left over
    ((2, 2), (2, 2), "SAME", (5, 3)),
    ((3, 2), (3, 2), ((1, 2), (1, 0)), (6, 5)),
    ((3, 3), (2, 2), "VALID", (7, 8)),
    ((3, 3), (1, 1), "SAME", (4, 5)),
    ((2, 1), (3, 4), "VALID", (8, 9)),  # entries between windows
    ((1, 1), (1, 1), "VALID", (3, 1)),
    ((3, 2), (1, 2), ((2, 0), (1, 1)), (4, 3)),
    ((3,), (2,), "SAME", (7,)),
    ((2, 1, 2), (1, 1, 2), "VALID", (3, 2, 4)),
    ((9, 8), (9, 8), ((4, 0), (0, 1)), (15, 15)),  # more taps than are written out
]
every_geometry = pytest.mark.parametrize(("window", "strides", "padding", "image"), GEOMETRIES, ids=str)


def reduce_window(x, window, strides, padding):
    padding = padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window, 1), (1, *strides, 1), padding)


def both(layer, x, y_bar):
    """x_bar by hand and by autodiff of the forward."""
    _, residuals = layer.forward((), x)
    return layer.backward((), residuals, y_bar)[1], jax.vjp(lambda x: layer.forward((), x)[0], x)[1](y_bar)[0]


def y_bar_of(layer, x, key=1):
    return jnp.asarray(brute.random(key, *jax.eval_shape(lambda x: layer.forward((), x)[0], x).shape), x.dtype)


# --- maximum


@every_geometry
@pytest.mark.parametrize("ties", [False, True], ids=["all different", "ties"])
def test_values_and_winners_are_those_of_xla(window, strides, padding, image, ties):
    """Bit for bit where a cotangent reaches an entry once; among equals the first in row-major order wins in both."""
    layer = bp.max_pool(window, strides=strides, padding=padding)
    shape = (3, *image, 2)
    draw = np.random.default_rng(0)
    x = jnp.asarray(draw.integers(-2, 1, size=shape).astype(float) if ties else draw.normal(size=shape))
    y_bar = jnp.asarray(draw.integers(-8, 9, size=y_bar_of(layer, x).shape).astype(float))  # sums of these are exact

    def run(x, y_bar):
        wanted, vjp = jax.vjp(lambda x: reduce_window(x, window, strides, padding), x)
        return layer.forward((), x)[0], wanted, *both(layer, x, y_bar), vjp(y_bar)[0]

    y, wanted, hand, auto, xla = jax.jit(run)(x, y_bar)
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(hand, auto)
    np.testing.assert_array_equal(hand, xla)


@pytest.mark.parametrize(("window", "strides"), [(2, 2), (2, 1)])
def test_of_equals_the_first_takes_all(window, strides):
    x = jnp.zeros((1, 2, 2, 1))
    hand, auto = both(bp.max_pool(window, strides=strides), x, jnp.full((1, 1, 1, 1), 5.0))
    assert hand.ravel().tolist() == auto.ravel().tolist() == [5.0, 0.0, 0.0, 0.0]


@pytest.mark.parametrize(("window", "strides"), [(2, 2), (2, 1), (9, 9)])
def test_the_first_nan_is_the_maximum_and_takes_all(window, strides):
    x = jnp.asarray([[jnp.inf, jnp.nan], [jnp.nan, 3.0]]).reshape(1, 2, 2, 1)
    x = jnp.pad(x, ((0, 0), (0, window - 2), (0, window - 2), (0, 0)))
    layer = bp.max_pool(window, strides=strides)
    y, _ = layer.forward((), x)
    assert jnp.isnan(y).all()
    for x_bar in both(layer, x, jnp.full((1, 1, 1, 1), 5.0)):
        assert float(x_bar[0, 0, 1, 0]) == float(jnp.sum(x_bar)) == 5.0


def test_a_window_of_nothing_but_minus_infinity():
    x = jnp.full((1, 2, 2, 1), -jnp.inf)
    for padding, wanted in (("VALID", [5.0, 0.0, 0.0, 0.0]), (((1, 0), (0, 0)), [0.0, 0.0, 0.0, 0.0])):
        layer = bp.max_pool(2, strides=2, padding=padding)
        y, residuals = layer.forward((), x)
        assert (y == -jnp.inf).all()
        assert layer.backward((), residuals, jnp.full(y.shape, 5.0))[1].ravel().tolist() == wanted


@pytest.mark.parametrize(("window", "dtype"), [(2, jnp.uint8), (16, jnp.uint8), (17, jnp.int32)])
def test_residuals_are_the_winners_alone(window, dtype):
    layer = bp.max_pool(window)
    x = jnp.asarray(brute.random(0, 2, 2 * window, window, 3), jnp.float32)
    (winner, outline), hand, auto = jax.jit(lambda x, y_bar: (layer.forward((), x)[1], *both(layer, x, y_bar)))(
        x, y_bar_of(layer, x)
    )
    assert winner.dtype == dtype
    assert winner.shape == (2, 2, 1, 3)
    assert outline.size == 0
    np.testing.assert_array_equal(hand, auto)


def test_overlapping_windows_are_summed_in_float32():
    x = jnp.zeros((1, 4, 4, 1), jnp.bfloat16).at[0, 1, 1, 0].set(1)
    layer = bp.max_pool(2, strides=1)
    y, residuals = layer.forward((), x)
    y_bar = jnp.zeros(y.shape, y.dtype).at[0, :2, :2, 0].set(jnp.asarray([[256.0, 1.0], [1.0, 1.0]], y.dtype))
    x_bar = layer.backward((), residuals, y_bar)[1]
    assert x_bar.dtype == jnp.bfloat16
    assert float(x_bar[0, 1, 1, 0]) == 260.0  # 259 rounded once; bfloat16 would have stayed at 256


# --- mean


@every_geometry
def test_the_mean_is_over_what_is_in_the_image(window, strides, padding, image):
    layer = bp.avg_pool(window, strides=strides, padding=padding)
    x = jnp.asarray(brute.random(0, 2, *image, 3))
    total = lambda x: lax.reduce_window(
        x, 0.0, lax.add, (1, *window, 1), (1, *strides, 1), padding if isinstance(padding, str) else ((0, 0), *padding, (0, 0))
    )
    np.testing.assert_allclose(layer.forward((), x)[0], total(x) / total(jnp.ones_like(x)), rtol=1e-13, atol=1e-14)
    hand, auto = jax.jit(lambda *a: both(layer, *a))(x, y_bar_of(layer, x))
    np.testing.assert_allclose(hand, auto, rtol=0, atol=1e-13)


def test_the_mean_is_taken_in_float32():
    x = jnp.ones((1, 20, 20, 1), jnp.bfloat16)
    layer = bp.avg_pool(20)
    y, residuals = layer.forward((), x)
    assert (float(y[0, 0, 0, 0]), y.dtype) == (1.0, jnp.bfloat16)  # bfloat16 counts to 256
    overlapping = bp.avg_pool(2, strides=1)
    y, residuals = overlapping.forward((), x)
    x_bar = overlapping.backward((), residuals, jnp.ones_like(y))[1]
    assert x_bar.dtype == jnp.bfloat16
    assert x_bar[0, 1:-1, 1:-1].min() == x_bar[0, 1:-1, 1:-1].max() == 1


# --- both

pools = pytest.mark.parametrize("pool", [bp.max_pool, bp.avg_pool])


@pools
@every_geometry
def test_shapes_are_known_before_anything_runs(pool, window, strides, padding, image):
    layer = pool(window, strides=strides, padding=padding)
    _, out = layer.init(KEY, (*image, 2))
    x = jnp.zeros((4, *image, 2), jnp.float32)
    assert inputs.check_batch(layer, (), x) == out
    assert jax.eval_shape(lambda x: layer.forward((), x)[0], x).shape == (4, *out.shape)


@pools
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float32], ids=lambda dtype: dtype.__name__)
def test_each_dtype_is_kept(pool, dtype):
    for strides, batch in itertools.product((2, 1), (1, 3)):
        layer = pool(2, strides=strides)
        x = jnp.asarray(brute.random(0, batch, 4, 4, 1), dtype)
        assert layer.forward((), x)[0].dtype == dtype
        hand, auto = both(layer, x, y_bar_of(layer, x))
        assert hand.dtype == dtype
        np.testing.assert_allclose(
            hand.astype(float), auto.astype(float), rtol=0, atol=8 * float(jnp.finfo(dtype).eps) * float(jnp.abs(auto).max())
        )


@pools
def test_tangents_of_the_backward(pool):
    """x_bar is linear in y_bar and does not move with x, so a Hessian-vector product has no term of its own here."""
    layer = pool(2, strides=1)
    x, x_dot = jnp.asarray(brute.random(0, 2, 3, 3, 1)), jnp.asarray(brute.random(1, 2, 3, 3, 1))
    y_bar, y_bar_dot = y_bar_of(layer, x), y_bar_of(layer, x, key=3)
    rule = lambda x, y_bar: layer.backward((), layer.forward((), x)[1], y_bar)[1]
    _, x_bar_dot = jax.jvp(rule, (x, y_bar), (x_dot, y_bar_dot))
    np.testing.assert_allclose(x_bar_dot, rule(x, y_bar_dot), atol=1e-14)
    assert not math.isclose(float(jnp.sum(x_bar_dot**2)), 0)


@pools
@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"window": 0}, ValueError, "window has to be positive"),
        ({"window": (2, -2)}, ValueError, "window has to be positive, got -2"),
        ({"window": 2.5}, TypeError, "window is a whole number"),
        ({"window": ()}, ValueError, "window is one number or one for each"),
        ({"window": 2, "strides": 0}, ValueError, "strides has to be positive"),
        ({"window": 2, "padding": "same"}, ValueError, "'SAME', 'VALID' or a .* pair"),
        ({"window": 2, "padding": 1}, TypeError, "pair for every spatial axis"),
    ],
)
def test_options_they_refuse(pool, options, error, says):
    with pytest.raises(error, match=f"_pool: .*{says}"):
        pool(**options)


@pools
@pytest.mark.parametrize(
    ("options", "spec", "error", "says"),
    [
        ({"window": (4, 2)}, (3, 5, 1), ValueError, r"over \[4, 2\] entries .* an image of \[3, 5\]"),
        ({"window": (2, 2)}, (6, 1), ValueError, r"window \[2, 2\] has 2 entries, the image 1 spatial axes"),
        ({"window": 2}, (6,), ValueError, r"\(\*image, channels\), such as .* got \[6\]"),
        ({"window": 2}, (), ValueError, r"got \[\]"),
        ({"window": 2}, (4, 4, 0), ValueError, r"got \[4, 4, 0\]"),
        ({"window": 2}, (0, 4, 1), ValueError, r"an image of \[0, 4\]"),
        ({"window": 2, "padding": ((2, 0), (0, 0))}, (4, 4, 1), ValueError, r"has to be smaller than the window \[2, 2\]"),
        ({"window": 2}, jax.ShapeDtypeStruct((4, 4, 1), jnp.int32), TypeError, r"floating-point inputs, got int32\[4, 4, 1\]"),
    ],
)
def test_examples_they_refuse(pool, options, spec, error, says):
    with pytest.raises(error, match=f"_pool: .*{says}"):
        pool(**options).init(KEY, spec)
