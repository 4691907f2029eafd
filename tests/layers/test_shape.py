"""flatten and reshape: order, the residual without arrays, integers, bad shapes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp


KEY = jax.random.key(0)


def test_order_is_row_major_and_backward_is_the_way_back():
    x = jnp.arange(24.0).reshape(2, 3, 4)
    for layer, shape in ((bp.flatten(), (12,)), (bp.reshape(6, -1), (6, 2)), (bp.reshape(2, 2, 3), (2, 2, 3))):
        y, residual = layer.forward((), x)
        np.testing.assert_array_equal(y, np.arange(24.0).reshape(2, *shape))
        np.testing.assert_array_equal(layer.backward((), residual, y)[1], x)
        assert layer.init(KEY, (3, 4))[1].shape == shape


def test_a_scalar_example():
    assert bp.flatten().init(KEY, ())[1].shape == (1,)
    y, residual = bp.reshape().forward((), jnp.ones((5, 1)))
    assert y.shape == (5,)
    assert bp.reshape().backward((), residual, y)[1].shape == (5, 1)


def test_the_residual_is_structure_alone():
    """No array at all: nothing to keep, and still there after jit, scan and slicing of the batch."""
    layer, x = bp.flatten(), jnp.arange(12.0).reshape(2, 2, 3)
    y, residual = jax.jit(layer.forward)((), x)
    assert jax.tree.leaves(residual) == []
    np.testing.assert_array_equal(jax.jit(layer.backward)((), residual, y)[1], x)
    np.testing.assert_array_equal(layer.backward((), residual, y[:1])[1], x[:1])
    _, (ys, stacked) = jax.lax.scan(lambda carry, a: (carry, layer.forward((), a)), 0, x[None])
    np.testing.assert_array_equal(layer.backward((), stacked, ys[0])[1], x)


def test_vmap_over_a_leading_axis():
    layer, x = bp.reshape(3, 2), jnp.arange(24.0).reshape(2, 2, 6)
    y, residual = jax.vmap(lambda a: layer.forward((), a))(x)
    assert y.shape == (2, 2, 3, 2)
    np.testing.assert_array_equal(jax.vmap(lambda b: layer.backward((), residual, b)[1])(y), x)


def test_integers_pass_and_have_no_cotangent():
    net = bp.serial(bp.flatten(), bp.embedding(4, 2))  # a picture of ids
    params, spec = net.init(KEY, jax.ShapeDtypeStruct((2, 3), jnp.int32))
    assert spec.shape == (6, 2)
    ids = jnp.arange(12, dtype=jnp.int32).reshape(2, 2, 3) % 4
    y, residuals = net.forward(params, ids)
    found, x_bar = net.backward(params, residuals, y)
    assert x_bar is None
    assert found[1].table.rows.shape == (2, 6, 2)
    _, residual = bp.flatten().forward((), ids)
    float0 = np.zeros((2, 6), jax.dtypes.float0)  # what JAX hands a rule for an integer output
    assert bp.flatten().backward((), residual, float0)[1] is None


@pytest.mark.parametrize(
    ("build", "error", "says"),
    [
        (lambda: bp.reshape(0, 3), ValueError, "positive"),
        (lambda: bp.reshape(-2), ValueError, "positive"),
        (lambda: bp.reshape(-1, -1), ValueError, "at most one -1"),
        (lambda: bp.reshape(2.0), TypeError, "whole numbers"),
        (lambda: bp.reshape((2, 3)), TypeError, r"one an axis, such as reshape\(28, -1\)"),
        (lambda: bp.reshape(5, -1).init(KEY, (4, 3)), ValueError, r"12 entries of an example of shape \[4, 3\] do not fill"),
        (lambda: bp.reshape(6).init(KEY, (4, 3)), ValueError, "do not fill"),
        (lambda: bp.reshape(-1).forward((), jnp.ones((2, 0))), ValueError, "do not fill"),
        (lambda: bp.flatten().init(KEY, (4, 0)), ValueError, "do not fill"),
        (lambda: bp.reshape(6)((), jnp.ones((2, 5))), ValueError, "do not fill"),
    ],
)
def test_bad_shapes(build, error, says):
    with pytest.raises(error, match=says):
        build()
