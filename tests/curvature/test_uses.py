"""What our curvature is for, in the hands of others: an optax transformation, a Laplace posterior in plain JAX, JAX's solvers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from explicit import assert_close
from jax.flatten_util import ravel_pytree

import jaxbp as bp
from jaxbp import curvature


KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)) * np.array([10.0, 1, 0.1, 3])  # badly scaled
TARGETS = X @ RNG.normal(size=(4, 2)) + 0.01 * RNG.normal(size=(64, 2))


def preconditioned(damping: float) -> optax.GradientTransformationExtraArgs:
    """updates -> A^-1 updates G^-1, by the blocks handed to update(..., blocks=)."""
    is_block = lambda node: isinstance(node, curvature.Kronecker)

    def update(updates, state, params=None, *, blocks, **_):
        return jax.tree.map(lambda block, g: block.solve(g, damping), blocks, updates, is_leaf=is_block), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def test_kfac_preconditions_an_optax_update():
    """On a linear net with squared loss each weight's block is exact: a step on it alone is Newton's and lands on its minimum."""
    net, loss = bp.dense(2, bias=False), bp.losses.quadratic()
    params = net.init(KEY, jax.ShapeDtypeStruct((4,), jnp.float64))[0]
    optimizer = optax.chain(preconditioned(1e-12), optax.sgd(1.0))

    @jax.jit
    def step(params, state):
        value, grads = bp.value_and_grad(net, loss)(params, X, TARGETS)
        blocks = curvature.kfac(net, loss)(params, X, TARGETS)
        updates, state = optimizer.update(grads, state, params, blocks=blocks)
        return optax.apply_updates(params, updates), state, value

    best = np.linalg.lstsq(X, TARGETS, rcond=None)[0]
    after, _, _ = step(params, optimizer.init(params))
    assert_close(after.w, best, 1e-4)


@pytest.mark.slow
def test_a_kfac_run_of_a_deep_net_beats_plain_descent():
    net, loss = bp.mlp([4, 8, 2], hidden=bp.tanh()), bp.losses.quadratic()
    params = net.init(KEY, jax.ShapeDtypeStruct((4,), jnp.float64))[0]

    kfac_factors = curvature.kfac(net, loss, of="fisher", samples=1)

    def last_value(transform, with_blocks):
        def step(carry, key):
            params, state = carry
            value, grads = bp.value_and_grad(net, loss)(params, X, TARGETS)
            options = {"blocks": kfac_factors(params, X, TARGETS, key=key)} if with_blocks else {}
            updates, state = transform.update(grads, state, params, **options)
            return (optax.apply_updates(params, updates), state), value

        _, values = jax.lax.scan(step, (params, transform.init(params)), jax.random.split(KEY, 30))
        return values[-1]

    kfac = optax.chain(preconditioned(0.3), optax.sgd(0.5))
    plain = [optax.sgd(rate) for rate in (0.001, 0.01, 0.03)]
    ours, *others = jax.jit(lambda: [last_value(kfac, True), *(last_value(t, False) for t in plain)])()
    assert ours < 0.5 * np.nanmin(others)


def test_a_laplace_posterior_from_the_ggn_diagonal():
    """Linear regression with features that do not meet: the diagonal is the whole matrix, so mean and variance are exact."""
    net, loss = bp.dense(1, bias=False), bp.losses.quadratic()
    x = np.diag([1.0, 2.0, 4.0, 0.5])[RNG.integers(0, 4, 50)]
    targets = x @ np.array([[1.0], [-1], [0.5], [2]]) + RNG.normal(size=(50, 1))
    prior = 0.7
    best = bp.Dense(np.linalg.solve(x.T @ x + prior * np.eye(4), x.T @ targets), None)

    @jax.jit
    def posterior(params):
        precision = curvature.ggn_diagonal(net, loss, reduction="sum")(params, x, targets, train=False)
        return jax.tree.map(lambda p: 1 / (p + prior), precision)

    variance = posterior(best)
    exact = np.linalg.inv(x.T @ x + prior * np.eye(4))
    assert_close(variance.w[:, 0], np.diagonal(exact), 1e-12)
    jacobian = jax.vmap(jax.grad(lambda params, x: net.forward(params, x[None])[0][0, 0]), (None, 0))(best, x[:3])
    predictive = jnp.sum(jacobian.w[..., 0] ** 2 * variance.w[:, 0][None], axis=1)
    assert_close(predictive, np.einsum("bi,ij,bj->b", x[:3], exact, x[:3]), 1e-12)


def test_newton_by_conjugate_gradients_of_the_product():
    """JAX's own solver on our Gauss-Newton product: the step of Hessian-free optimisation."""
    net, loss = bp.mlp([4, 3, 2], hidden=bp.tanh()), bp.losses.quadratic()
    params = net.init(KEY, jax.ShapeDtypeStruct((4,), jnp.float64))[0]
    damping = 0.1

    @jax.jit
    def run(params):
        grads = bp.value_and_grad(net, loss)(params, X, TARGETS)[1]
        product = curvature.ggn_vector_product(net, loss)
        damped = lambda v: jax.tree.map(lambda gv, v: gv + damping * v, product(params, v, X, TARGETS), v)
        step, _ = jax.scipy.sparse.linalg.cg(damped, grads, tol=1e-12, maxiter=200)
        matrix = jax.vmap(lambda v: ravel_pytree(damped(ravel_pytree(params)[1](v)))[0])(jnp.eye(ravel_pytree(params)[0].size))
        return ravel_pytree(step)[0], jnp.linalg.solve(matrix, ravel_pytree(grads)[0])

    got, want = run(params)
    assert_close(got, want, 1e-8)
