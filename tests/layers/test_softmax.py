"""Softmax and log-softmax: digits of values and cotangents, the full Jacobian, rows with -inf."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from ulps import ulp_errors

import jaxbp as bp
from jaxbp.layers.softmax import log_softmax, softmax


LAYERS = {"softmax": softmax(), "log_softmax": log_softmax()}
every_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
MARGINS = [0.0, 5.0, 15.0, 20.0, 80.0]


def plain_y_and_x_bar(layer, x, y_bar):
    y, residuals = layer.forward((), x)
    return y, layer.backward((), residuals, y_bar)[1]


y_and_x_bar = jax.jit(plain_y_and_x_bar, static_argnums=0)


def ahead(margin, offset=0.0, rows=64, classes=8):
    """float32 rows whose class 3 is `margin` above all others."""
    x = np.random.default_rng(round(margin)).normal(size=(rows, classes)) + offset
    x[:, 3] = x.max(-1) + margin
    return jnp.asarray(x, jnp.float32)


def truth(x):
    """Softmax and log-softmax in extended precision, no probability near 1 taken as a difference."""
    d = np.asarray(x).astype(np.longdouble)
    d = d - d.max(-1, keepdims=True)
    e = np.exp(d)
    top = np.eye(d.shape[-1])[d.argmax(-1)] > 0
    log_s = np.log1p(np.where(top, 0, e).sum(-1, keepdims=True))
    return (e / e.sum(-1, keepdims=True)).astype(np.float64), (d - log_s).astype(np.float64)


def true_x_bar(name, x, y_bar):
    """sum_j J_jk y_bar_j in extended precision; differences of cotangents of the softmax are taken before they are weighed."""
    p, bar = truth(x)[0].astype(np.longdouble), np.asarray(y_bar).astype(np.longdouble)
    off = 1 - np.eye(p.shape[-1])
    if name == "softmax":
        differences = bar[:, :, None] - bar[:, None, :]
        return (p * (differences * p[:, None, :]).sum(-1)).astype(np.float64)
    return (bar * (p @ off) - p * (bar @ off)).astype(np.float64)


@pytest.mark.parametrize("compiled", [True, False], ids=["jit", "plain"])
def test_values_are_right_to_the_last_digits_at_any_margin(compiled):
    run = y_and_x_bar if compiled else plain_y_and_x_bar
    for margin in MARGINS:
        for offset in (0.0, 70.0, -3000.0):
            x = ahead(margin, offset)
            for layer, want in zip(LAYERS.values(), truth(x), strict=True):
                assert ulp_errors(run(layer, x, x)[0], want, jnp.float32).max() <= 6, (margin, offset)


def test_the_usual_forms_lose_what_these_keep():
    x = ahead(80.0)
    assert ulp_errors(jax.jit(jax.nn.softmax)(x), truth(x)[0], jnp.float32).max() > 16
    x = ahead(20.0)
    assert ulp_errors(jax.jit(jax.nn.log_softmax)(x), truth(x)[1], jnp.float32).max() > 1e6


@pytest.mark.parametrize("name", LAYERS)
def test_the_cotangent_of_one_class_is_right_to_the_last_digits(name):
    """As a loss on one class sends it back: -1/p (log-likelihood) or -1. At a class that leads, the Jacobian's terms cancel."""
    for margin in MARGINS:
        x = ahead(margin)
        p = np.asarray(LAYERS["softmax"].forward((), x)[0])
        for k in (3, 0):
            entries = -1 / p[:, k] if name == "softmax" else -np.ones(64, np.float32)
            y_bar = jnp.zeros_like(x).at[:, k].set(entries)
            got, want = y_and_x_bar(LAYERS[name], x, y_bar)[1], true_x_bar(name, x, y_bar)
            assert ulp_errors(got, want, jnp.float32).max() <= 16, (margin, k)


def test_the_usual_jacobian_product_cancels_there():
    x = ahead(20.0)
    p = jax.nn.softmax(x)
    y_bar = jnp.zeros_like(x).at[:, 3].set(-1.0)
    usual = {
        "softmax": p * (y_bar - jnp.sum(p * y_bar, -1, keepdims=True)),
        "log_softmax": y_bar - p * jnp.sum(y_bar, -1, keepdims=True),
    }
    for name, x_bar in usual.items():
        assert ulp_errors(x_bar, true_x_bar(name, x, y_bar), jnp.float32)[:, 3].max() > 1e5


def test_backward_is_the_full_jacobian():
    x = jax.random.normal(jax.random.key(0), (4,))
    p = np.asarray(jax.nn.softmax(x))
    for layer, jacobian in zip(LAYERS.values(), (np.diag(p) - np.outer(p, p), np.eye(4) - np.ones((4, 1)) * p), strict=True):
        rows = y_and_x_bar(layer, jnp.broadcast_to(x, (4, 4)), jnp.eye(4))[1]  # row j: the gradient of y_j
        np.testing.assert_allclose(rows, jacobian, rtol=1e-12, atol=1e-15)


@every_layer
def test_hessian_vector_product_is_that_of_forward(layer):
    x = jnp.concatenate([jax.random.normal(jax.random.key(0), (4, 5)), jnp.eye(2, 5) * 3, jnp.zeros((1, 5))])
    y_bar, direction = jax.random.normal(jax.random.key(1), (2, 7, 5))
    by_hand = lambda x: plain_y_and_x_bar(layer, x, y_bar)[1]
    automatic = lambda x: jax.vjp(lambda x: layer.forward((), x)[0], x)[1](y_bar)[0]
    hand, auto = jax.jit(lambda: [jax.jvp(rule, (x,), (direction,))[1] for rule in (by_hand, automatic)])()
    np.testing.assert_allclose(hand, auto, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_finite_at_800(dtype):
    x = jnp.array([[800.0, -800.0, 800.0], [-800.0, -800.0, -800.0]], dtype)
    y, x_bar = y_and_x_bar(LAYERS["softmax"], x, jnp.array([[1.0, 2.0, 3.0], [1.0, 0.0, 0.0]], dtype))
    chex.assert_trees_all_close(y, jnp.array([[0.5, 0, 0.5], [1 / 3] * 3], dtype), rtol=1e-3 if dtype != jnp.bfloat16 else 1e-2)
    np.testing.assert_allclose(x_bar.astype(jnp.float32)[0], [-0.5, 0, 0.5])
    y, x_bar = y_and_x_bar(LAYERS["log_softmax"], x, jnp.ones_like(x))
    np.testing.assert_allclose(y.astype(jnp.float32), [[-np.log(2), -1600 - np.log(2), -np.log(2)], [-np.log(3)] * 3], rtol=1e-2)
    assert np.all(np.isfinite(x_bar.astype(jnp.float32)))


def test_masked_classes_and_rows_of_nothing_but_masked_classes():
    x = jnp.array([[0.0, -jnp.inf, 0.0], [-jnp.inf] * 3])
    y_bar = jnp.array([[1.0, 5.0, 0.0], [1.0, 2.0, 3.0]])
    y, x_bar = y_and_x_bar(LAYERS["softmax"], x, y_bar)
    np.testing.assert_allclose(y, [[0.5, 0, 0.5], [1 / 3] * 3], rtol=1e-15)
    np.testing.assert_allclose(x_bar, [[0.25, 0, -0.25], [0, 0, 0]], rtol=1e-15)
    y, x_bar = y_and_x_bar(LAYERS["log_softmax"], x, y_bar)
    np.testing.assert_allclose(y, [[-np.log(2), -np.inf, -np.log(2)], [-np.log(3)] * 3], rtol=1e-15)
    np.testing.assert_allclose(x_bar, [[1 - 3, 5, -3], [0, 0, 0]], rtol=1e-15)


@every_layer
def test_cotangents_of_masked_rows_are_those_of_forward(layer):
    x = jnp.array([[0.3, -jnp.inf, 0.0], [-jnp.inf] * 3])
    y_bar = jnp.array([[1.0, 5.0, 2.0], [1.0, 2.0, 3.0]])
    (auto,) = jax.vjp(lambda x: layer.forward((), x)[0], x)[1](y_bar)
    np.testing.assert_allclose(y_and_x_bar(layer, x, y_bar)[1], auto, rtol=1e-14)


@every_layer
def test_nan_stays_in_its_row(layer):
    x = jnp.array([[0.0, jnp.nan], [0.0, 1.0]])
    np.testing.assert_array_equal(np.isnan(y_and_x_bar(layer, x, x)[0]), [[True, True], [False, False]])


@settings(max_examples=100, deadline=None)
@given(hnp.arrays(np.float32, (3, 6), elements=st.floats(-(2.0**127), 2.0**127, width=32)))
def test_softmax_is_a_distribution_for_every_finite_x(x):
    p = np.asarray(y_and_x_bar(LAYERS["softmax"], x, x * 0)[0], np.float64)
    assert np.all(p >= 0)
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-6)
    at_top = np.take_along_axis(p, x.argmax(-1)[:, None], -1)
    assert np.all(p <= at_top)


def test_sums_over_narrow_entries_are_taken_in_float32():
    x = jnp.zeros((1, 3000), jnp.bfloat16)
    y_bar = jnp.ones_like(x).at[0, :1500].set(3.0)
    y, x_bar = y_and_x_bar(LAYERS["softmax"], x, y_bar)
    np.testing.assert_allclose(y.astype(jnp.float32), 1 / 3000, rtol=2**-8)
    np.testing.assert_allclose(x_bar.astype(jnp.float32), np.sign(np.asarray(y_bar, np.float32) - 2)[:] / 3000, rtol=2**-6)
    _, x_bar = y_and_x_bar(LAYERS["log_softmax"], x, jnp.ones_like(x))
    assert np.max(np.abs(x_bar.astype(jnp.float32))) <= 2**-8


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ((), ValueError, "last axis of at least one class"),
        ((3, 0), ValueError, "last axis of at least one class"),
        (jax.ShapeDtypeStruct((3,), jnp.int32), TypeError, "floating-point inputs"),
    ],
)
@every_layer
def test_bad_input(layer, spec, error, message):
    with pytest.raises(error, match=message):
        layer.init(jax.random.key(0), spec)


def test_a_batch_of_scalars_is_refused_because_its_only_axis_is_the_batch():
    with pytest.raises(ValueError, match="last axis"):
        bp.softmax()((), jnp.ones(3))
