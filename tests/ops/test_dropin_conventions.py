"""The drop-in functions at their singular points, with bad input, and as parts of other programs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxbp import ops


INF = np.inf
TINY = float(np.finfo(np.float32).tiny)


@pytest.mark.parametrize(
    ("fun", "x", "value", "slope"),
    [
        (ops.sigmoid, [-INF, INF], [0, 1], [0, 0]),
        (ops.tanh, [-INF, 0.0, INF], [-1, 0, 1], [0, 1, 0]),
        (ops.softplus, [-INF, INF], [0, INF], [0, 1]),
        (ops.log_sigmoid, [-INF, INF], [-INF, 0], [1, 0]),
        (ops.safe_sqrt, [-1.0, -0.0, 0.0, 4.0, INF], [0, 0, 0, 2, INF], [0, 0, 0, 0.25, 0]),
        (ops.arccos, [-1.5, -1.0, 0.0, 1.0, 1.5], [np.pi, np.pi, np.pi / 2, 0, 0], [0, 0, -1, 0, 0]),
        (lambda p: ops.xlogy(p, p), [0.0, 1.0], [0, 0], [0, 1]),
        (lambda y: ops.xlogy(0.0, y), [-1.0, 0.0, 2.0, INF], [0, 0, 0, 0], [0, 0, 0, 0]),
        (lambda p: ops.bce(p, 1.0), [0.0, 1.0], [1 - np.log(TINY), 0], [-1 / TINY, -1]),
        (lambda p: ops.bce(p, 0.0), [0.0, 1.0], [0, 1 - np.log(TINY)], [1, 1 / TINY]),
        (lambda z: ops.sigmoid_cross_entropy(z, 1.0), [-INF, INF], [INF, 0], [-1, 0]),
    ],
)  # fmt: skip
def test_scalars_at_singular_points(fun, x, value, slope):
    values, slopes = jax.jit(jax.vmap(jax.value_and_grad(fun)))(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(values, value, rtol=1e-6)
    np.testing.assert_allclose(slopes, slope, rtol=1e-6)


@pytest.mark.parametrize(
    ("fun", "x", "value", "slope"),
    [
        (ops.norm, [0.0, 0.0], 0, [0, 0]),
        (ops.norm, [INF, 1.0], INF, [1, 0]),
        (ops.norm, [3e30, -4e30], 5e30, [0.6, -0.8]),
        (ops.std, [0.1, 0.1, 0.1], 0, [0, 0, 0]),
        (ops.std, [7.0], 0, [0]),
        (ops.logsumexp, [-INF, -INF], -INF, [0, 0]),
        (ops.logsumexp, [INF, INF, 0.0], INF, [0.5, 0.5, 0]),
        (lambda x: ops.cosine_similarity(x, jnp.ones(2, x.dtype)), [0.0, 0.0], 0, [0, 0]),
        (lambda x: ops.layer_norm(x, epsilon=0.0)[0], [2.0, 2.0, 2.0], 0, [0, 0, 0]),
        (lambda z: ops.softmax_cross_entropy(z, 0), [-INF, -INF], np.log(2), [0, 0]),
        (lambda z: ops.softmax_cross_entropy(z, 0), [0.0, -INF], 0, [0, 0]),
        (lambda z: ops.softmax_cross_entropy(z, 0), [-INF, 0.0, 0.0], INF, [-1, 0.5, 0.5]),
        (lambda z: ops.softmax_cross_entropy(z, 0), [INF, 0.0], 0, [0, 0]),
        (lambda z: ops.softmax_cross_entropy(z, 2), [1.0, 0.0], np.nan, [np.nan, np.nan]),
        (lambda z: ops.softmax_cross_entropy(z, jnp.asarray([0.5, 0.5, 0.0])), [0.0, 0.0, -INF], np.log(2), [0, 0, 0]),
        (lambda z: ops.softmax_cross_entropy(z, jnp.asarray([0.5, 0.5])), [-INF, -INF], np.log(2), [0, 0]),
    ],
)  # fmt: skip
def test_rows_at_singular_points(fun, x, value, slope):
    for run in (jax.value_and_grad(fun), jax.jit(jax.value_and_grad(fun))):
        got, slopes = run(jnp.asarray(x, jnp.float32))
        np.testing.assert_allclose(got, value, rtol=1e-6)
        np.testing.assert_allclose(slopes, slope, rtol=1e-6, atol=1e-7)


def test_the_derivative_of_abs_at_0():
    """What the comment on |x| in ops/plain.py says of JAX."""
    assert jax.grad(jnp.abs)(0.0) == 1


def test_forward_mode_leaves_out_what_is_not_differentiated():
    """0 times a slope of -inf would be NaN."""
    assert jax.jvp(lambda y: ops.xlogy(2.0, y), (0.0,), (1.0,))[1] == INF
    assert jax.grad(lambda z: ops.sigmoid_cross_entropy(z, 1.0))(jnp.inf) == 0


def test_subnormal_numbers_are_no_zeros():
    x = np.float32([1e-40, 1e-44])
    np.testing.assert_allclose(jax.vmap(jax.grad(ops.safe_sqrt))(x), 0.5 / np.sqrt(x.astype(float)), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(ops.xlogy))(np.float32([1, 1]), x), np.log(x.astype(float)), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(ops.norm)(x), x.astype(float) / np.linalg.norm(x.astype(float)), rtol=1e-6)


@pytest.mark.parametrize(
    "dtype", [jnp.float16, *(pytest.param(d, marks=pytest.mark.slow) for d in (jnp.bfloat16, jnp.float32, jnp.float64))]
)
def test_dtypes_are_kept(dtype):
    x, y = jnp.asarray([[0.25, 0.5, 0.125]], dtype), jnp.asarray([[0.5, 0.25, 0.75]], dtype)
    for fun in (
        ops.sigmoid,
        ops.tanh,
        ops.softplus,
        ops.log_sigmoid,
        ops.safe_sqrt,
        ops.arccos,
        ops.logsumexp,
        ops.norm,
        ops.std,
        ops.layer_norm,
    ):
        value, vjp = jax.vjp(fun, x)
        assert value.dtype == dtype
        assert vjp(value)[0].dtype == dtype
    for fun in (ops.xlogy, ops.bce, ops.sigmoid_cross_entropy, ops.softmax_cross_entropy, ops.cosine_similarity):
        value, vjp = jax.vjp(fun, x, y)
        assert value.dtype == dtype
        assert {bar.dtype for bar in vjp(value)} == {jnp.dtype(dtype)}


def test_axes():
    x = np.random.default_rng(0).standard_normal((2, 3, 4))
    for axis in (None, 0, -1, (0, 2), (-1, 0)):
        np.testing.assert_allclose(ops.norm(x, axis), np.sqrt((x * x).sum(axis)))
        np.testing.assert_allclose(ops.std(x, axis, ddof=1, keepdims=True), x.std(axis, ddof=1, keepdims=True))
        np.testing.assert_allclose(ops.logsumexp(x, axis), np.log(np.exp(x).sum(axis)))


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda: ops.sigmoid(jnp.arange(3)), TypeError, "sigmoid: takes floating-point inputs, got int"),
        (lambda: ops.norm(jnp.arange(3)), TypeError, "norm: takes floating-point"),
        (lambda: ops.norm(jnp.ones(3), 1), ValueError, "norm: axis has to name axes"),
        (lambda: ops.logsumexp(jnp.ones((2, 3)), (0, -2)), ValueError, "each once"),
        (lambda: ops.std(jnp.ones((2, 0)), -1), ValueError, "at least one entry"),
        (lambda: ops.std(jnp.ones(3), ddof=3), ValueError, r"ddof has to lie in \[0, 3\)"),
        (lambda: ops.cosine_similarity(jnp.ones(3), jnp.ones(2)), ValueError, "two arrays of one shape"),
        (lambda: ops.layer_norm(jnp.ones((2, 3)), jnp.ones(2)), ValueError, r"gain of shape \[3\] was expected"),
        (lambda: ops.layer_norm(jnp.ones(3), epsilon=-1.0), ValueError, "epsilon is a number, 0 or positive"),
        (lambda: ops.softmax_cross_entropy(jnp.ones((2, 3)), jnp.zeros(2)), TypeError, "labels are integers"),
        (lambda: ops.softmax_cross_entropy(jnp.ones((2, 3)), jnp.zeros(3, int)), ValueError, r"labels \[2\] or distributions"),
        (lambda: ops.softmax_cross_entropy(1.0, 0), ValueError, "a last axis of classes"),
        (lambda: ops.xlogy(jnp.ones(3), jnp.ones(2)), ValueError, "ncompatible shapes"),
    ],
)  # fmt: skip
def test_bad_input(call, error, said):
    with pytest.raises(error, match=said):
        call()
