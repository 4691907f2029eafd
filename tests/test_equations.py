"""The equations of the classics, each against `jax.grad` in float64: BP1 to BP4, averaging, any depth, initialisation.

z^l = a^(l-1) w^l + b^l, a^l = f(z^l), delta^l = dC/dz^l. Source: Nielsen, Neural Networks and Deep Learning, chapter 2.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp
from jaxbp import losses


RNG = np.random.default_rng(0)
REAL, LABELS, ONE_HOT = RNG.normal(size=(5, 3)), np.array([0, 2, 1, 1, 0]), np.eye(3)[[0, 2, 1, 1, 0]]
LINEAR = [bp.identity(), bp.tanh(), bp.relu(), bp.leaky_relu(), bp.elu(), bp.gelu(), bp.silu(), bp.softplus(), bp.softsign()]
PAIRS = [
    *((losses.quadratic(), f, REAL) for f in (*LINEAR, bp.sigmoid(), bp.softmax())),
    *((losses.mse(), f, REAL) for f in LINEAR),
    *((losses.softmax_cross_entropy(), f, LABELS) for f in LINEAR),
    *((losses.sigmoid_cross_entropy(), f, ONE_HOT) for f in LINEAR),
    *((losses.hinge(), f, 2 * ONE_HOT - 1) for f in LINEAR),
    *((losses.logistic(), f, 2 * ONE_HOT - 1) for f in LINEAR),
    (losses.binary_cross_entropy(), bp.sigmoid(), ONE_HOT),
    (losses.log_likelihood(), bp.softmax(), LABELS),
]
Z = RNG.normal(size=(5, 3)) + 0.01


def test_bp1_the_error_of_the_output():
    """delta^L = f'(z)^T dC/da for every loss and activation; J^T dC/da where f is softmax."""

    def by_hand(loss, f, z, targets):
        a, kept = f.forward((), z)
        _, residuals = loss.forward(a, targets)
        return f.backward((), kept, loss.backward(residuals, jnp.ones(len(z))))[1]

    def by_jax(loss, f, z, targets):
        return jax.grad(lambda z: jnp.sum(loss.forward(f.forward((), z)[0], targets)[0]))(z)

    every = lambda way: jax.jit(lambda z: [way(loss, f, z, targets) for loss, f, targets in PAIRS])(Z)
    for (loss, f, _), found, true in zip(PAIRS, every(by_hand), every(by_jax), strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-12, atol=1e-12, err_msg=f"{loss} {f}")


SIZES = [(3, 2), (3, 4, 2), (3, 5, 1, 2), (3, 2, 4, 3, 2), (3, 2, 2, 2, 2, 2, 2)]


def drawn(sizes):
    net = bp.mlp(list(sizes), hidden=bp.sigmoid())
    shapes, _ = jax.eval_shape(lambda key: net.init(key, jax.ShapeDtypeStruct((sizes[0],), jnp.float64)), jax.random.key(0))
    params = jax.tree.map(lambda s: jnp.asarray(RNG.normal(size=s.shape)), shapes)  # biases too, which begin at 0
    return net, params, RNG.normal(size=(5, sizes[0])), RNG.integers(0, sizes[-1], 5)


def shifted_loss(net, params, x, labels, shifts):
    """The losses of a batch with a number added to every z."""
    shifts = list(shifts)
    for layer, p in zip(net.parts, params, strict=True):
        x = layer.forward(p, x)[0]
        if isinstance(p, bp.Dense):
            x = x + shifts.pop(0)
    return LOSS.forward(x, labels)[0]


LOSS = losses.softmax_cross_entropy()


@pytest.mark.parametrize("sizes", SIZES)
def test_bp2_bp3_bp4_at_any_depth(sizes):
    """delta^l is the derivative by a zero added to z^l, dC/db = sum delta, dC/dw = sum a delta: one pass gives them all."""
    net, params, x, labels = drawn(sizes)

    @jax.jit
    def both(params):
        outputs, residuals = net.forward(params, x)
        _, of_loss = LOSS.forward(outputs, labels)
        found, _ = net.backward(params, residuals, LOSS.backward(of_loss, jnp.ones(5)))
        deltas = [layer.b.value for layer in found if isinstance(layer, bp.Dense)]
        grads = bp.factors.total(params, found)
        zeros = [jnp.zeros_like(d) for d in deltas]
        true = jax.grad(lambda s: jnp.sum(shifted_loss(net, params, x, labels, s)))(zeros)
        by_jax = jax.grad(lambda p: jnp.sum(shifted_loss(net, p, x, labels, zeros)))(params)
        return (deltas, grads), (true, by_jax)

    for found, true in zip(*map(jax.tree.leaves, both(params)), strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-11, atol=1e-13)


def test_the_gradient_is_the_mean_over_the_examples():
    """dC/dw = (1/m) sum_x dC_x/dw, in one product of matrices or one example after the other."""
    net, params, x, labels = drawn((3, 4, 2))
    gradient = jax.jit(bp.value_and_grad(net, LOSS))
    _, whole = gradient(params, x, labels)
    each = [gradient(params, x[i : i + 1], labels[i : i + 1])[1] for i in range(5)]
    mean = jax.tree.map(lambda *g: sum(g) / 5, *each)
    for found, true in zip(*map(jax.tree.leaves, (whole, mean)), strict=True):
        np.testing.assert_allclose(found, true, rtol=1e-12, atol=1e-15)
    _, summed = jax.jit(bp.value_and_grad(net, LOSS, reduction="sum"))(params, x, labels)
    np.testing.assert_allclose(summed[0].w, 5 * whole[0].w, rtol=1e-12)


def test_a_matrix_forward_pass_is_the_sums_of_single_neurons():
    net, params, x, _ = drawn((3, 4, 2))
    (w1, b1), _, (w2, b2) = (params[0], None, params[2])
    for row, outputs in zip(x, net(params, x), strict=True):
        hidden = [1 / (1 + np.exp(-(sum(row[i] * w1[i, j] for i in range(3)) + b1[j]))) for j in range(4)]
        neurons = [sum(hidden[j] * w2[j, k] for j in range(4)) + b2[k] for k in range(2)]
        np.testing.assert_allclose(outputs, neurons, rtol=1e-12)


def test_initial_weights_of_unit_variance_saturate_and_scaled_ones_do_not():
    """1,000 inputs, half of them 1, b ~ N(0, 1): z spreads by sqrt(501) with w ~ N(0, 1), by sqrt(3/2) with w ~ N(0, 1/n_in)."""
    x = jnp.concatenate([jnp.ones(500), jnp.zeros(500)])[None]
    unit = bp.initializers.normal(1.0)
    for w_init, spread in ((unit, 501**0.5), (bp.initializers.lecun_normal(), 1.5**0.5)):
        layer = bp.dense(1000, w_init=w_init, b_init=unit)
        params, _ = layer.init(jax.random.key(0), (1000,))
        np.testing.assert_allclose(np.std(layer(params, x.astype(jnp.float32))), spread, rtol=0.07)
