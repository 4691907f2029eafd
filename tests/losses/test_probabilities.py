"""Losses on probabilities: equal to the fused losses, finite at 0 and 1."""

from __future__ import annotations

import cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_rules import assert_close, autodiff, by_hand, loss_and_grad

import jaxbp as bp
from jaxbp import losses
from jaxbp.layers.softmax import softmax


KEY = jax.random.key(0)


def unfused(layer, loss, z, targets, losses_bar):
    p, layer_residuals = layer.forward((), z)
    found, residuals = loss.forward(p, targets)
    return found, layer.backward((), layer_residuals, loss.backward(residuals, losses_bar))[1]


SOFTMAX_PAIR = (softmax(), losses.log_likelihood(), losses.softmax_cross_entropy())
SIGMOID_PAIR = (bp.sigmoid(), losses.binary_cross_entropy(), losses.sigmoid_cross_entropy())


@pytest.mark.parametrize(
    ("pair", "targets"),
    [
        (SOFTMAX_PAIR, cases.integers(0, 5)),
        (SOFTMAX_PAIR, cases.distributions(5)),
        (SIGMOID_PAIR, cases.integers(0, 2, 5)),
        (SIGMOID_PAIR, cases.shares(5)),
    ],
)
def test_fused_equals_unfused_in_float64(pair, targets):
    layer, apart, fused = pair
    z, t = 4 * cases.real(5)(KEY, 17, jnp.float64), targets(jax.random.fold_in(KEY, 1), 17, jnp.float64)
    bar = jax.random.normal(jax.random.fold_in(KEY, 2), (17,))
    for one, other in zip(unfused(layer, apart, z, t, bar), by_hand(fused, z, t, bar), strict=True):
        assert_close(one, other)


def test_delta_is_a_less_y():
    """The classics' output error: a - y for both cross-entropies and for a linear output with the quadratic loss."""
    z, labels = cases.real(4)(KEY, 6, jnp.float64), jnp.array([0, 1, 2, 3, 0, 1])
    y = jnp.eye(4)[labels]
    assert_close(loss_and_grad(losses.softmax_cross_entropy(), z, labels)[1], jax.nn.softmax(z) - y)
    assert_close(loss_and_grad(losses.sigmoid_cross_entropy(), z, y)[1], jax.nn.sigmoid(z) - y)
    assert_close(loss_and_grad(losses.quadratic(), z, y)[1], z - y)


@pytest.mark.parametrize("pair", [SOFTMAX_PAIR, SIGMOID_PAIR], ids=["softmax", "sigmoid"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_both_ways_are_finite_at_800(pair, dtype):
    layer, apart, fused = pair
    z = jnp.array([[800.0, -800.0], [-800.0, 800.0]], dtype)
    for t in (jnp.eye(2, dtype=dtype), 1 - jnp.eye(2, dtype=dtype), jnp.full((2, 2), 0.5, dtype)):
        for bar in (jnp.ones(2, dtype), jnp.full(2, 1e6, dtype)):
            chex.assert_tree_all_finite((unfused(layer, apart, z, t, bar), by_hand(fused, z, t, bar)))


@pytest.mark.parametrize(("dtype", "cost"), [(jnp.float32, 88.33655), (jnp.float64, 709.396418532264), (jnp.bfloat16, 88.33655)])
def test_certain_outputs_have_finite_costs_and_slopes(dtype, cost):
    a = jnp.array([[0.0], [1.0], [0.0], [1.0]], dtype)
    found, grad = loss_and_grad(losses.binary_cross_entropy(), a, jnp.array([0, 1, 1, 0]))
    np.testing.assert_allclose(found, [0, 0, cost, cost], rtol=1e-6)
    steep = 1 / float(jnp.finfo(dtype).tiny)
    np.testing.assert_allclose(grad[:, 0].astype(jnp.float64), [1, -1, -steep, steep], rtol=1e-6)
    p = jnp.array([[0.0, 1.0], [0.0, 1.0]], dtype)
    found, grad = loss_and_grad(losses.log_likelihood(), p, jnp.array([0, 1]))
    np.testing.assert_allclose(found, [cost, 0], rtol=1e-6)
    np.testing.assert_allclose(grad.astype(jnp.float64), [[-steep, 0], [0, -1]], rtol=1e-6)


@pytest.mark.parametrize("loss", [losses.binary_cross_entropy(), losses.log_likelihood()])
@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16, jnp.float32, jnp.float64])
def test_cotangents_of_certain_outputs_stay_finite_under_large_weights(loss, dtype):
    p = jnp.array([[0.0, 1.0], [1.0, 0.0]], dtype)
    found, residuals = loss.forward(p, 1 - p)
    bar = loss.backward(residuals, jnp.full_like(found, 1e4))
    assert np.all(np.isfinite(bar))
    # and the slope 0 of a saturated sigmoid makes them 0
    layer_residuals = bp.sigmoid().forward((), jnp.where(p > 0, 1, -1) * jnp.asarray(1e4, dtype))[1]
    np.testing.assert_array_equal(bp.sigmoid().backward((), layer_residuals, bar)[1], np.zeros((2, 2)))


def test_the_continuation_of_the_logarithm_agrees_with_autodiff_on_both_sides_of_its_seam():
    tiny = float(jnp.finfo(jnp.float64).tiny)
    a = jnp.array([[0.0], [tiny / 2], [tiny], [2 * tiny], [1e-300]])
    ones = jnp.ones(5), jnp.ones(5)
    loss = losses.binary_cross_entropy()
    for hand, auto in zip(by_hand(loss, a, *ones), autodiff(loss, a, *ones), strict=True):
        np.testing.assert_allclose(hand, auto, rtol=1e-12)
