"""Curvature matrices written out: Jacobians and Hessians by autodiff of the forwards alone, one row for every parameter entry."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree


class Problem(NamedTuple):
    net: Any
    loss: Any
    params: Any
    x: Any
    targets: Any
    weights: Any  # in the shape of the losses
    train: bool = True

    @property
    def flat(self):
        return ravel_pytree(self.params)

    def outputs(self, flat, x):
        """All outputs of one example side by side."""
        one = jax.tree.map(lambda leaf: leaf[None], x)
        return self.net.forward(self.flat[1](flat), one, train=self.train)[0].ravel()

    def loss_of(self, z, target, weights):
        """sum_t w_t C_t of one example."""
        shape = jax.eval_shape(lambda p, x: self.net.forward(p, x, train=self.train)[0], self.params, self.x).shape[1:]
        return jnp.sum(weights * self.loss.forward(z.reshape(1, *shape), target[None])[0][0])


def ggn(p: Problem):
    """1/W sum_b J_b^T H_b J_b."""
    flat, _ = p.flat
    jacobians = jax.vmap(jax.jacrev(p.outputs), (None, 0))(flat, p.x)
    z = jax.vmap(p.outputs, (None, 0))(flat, p.x)
    hessians = jax.vmap(jax.hessian(p.loss_of))(z, p.targets, p.weights)
    return jnp.einsum("bip,bij,bjq->pq", jacobians, hessians, jacobians) / jnp.sum(p.weights)


def hessian(p: Problem):
    """The second derivative of 1/W sum_b w_b C_b."""
    return jax.hessian(lambda flat: _objective(p, flat))(p.flat[0])


def _objective(p: Problem, flat):
    one = lambda x, target, w: p.loss_of(p.outputs(flat, x), target, w)
    return jnp.sum(jax.vmap(one)(p.x, p.targets, p.weights)) / jnp.sum(p.weights)


def gradients(p: Problem, targets):
    """(batch, entries): the gradient of sum_t sqrt(w_bt) C_bt at these targets."""
    one = lambda flat, x, target, w: p.loss_of(p.outputs(flat, x), target, jnp.sqrt(w))
    return jax.vmap(jax.grad(one), (None, 0, 0, 0))(p.flat[0], p.x, targets, p.weights)


def outer_products(p: Problem, targets):
    """1/W sum_b g_b g_b^T."""
    g = gradients(p, targets)
    return g.T @ g / jnp.sum(p.weights)


def blocks(params, matrix) -> list:
    """The diagonal block of every leaf."""
    ends = np.cumsum([0, *(leaf.size for leaf in jax.tree.leaves(params))])
    return [matrix[i:j, i:j] for i, j in itertools.pairwise(ends)]


def assert_close(got, want, tolerance):
    """All leaves within tolerance of the largest entry of all that is wanted."""
    got, want = (np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(t)]).astype(np.float64) for t in (got, want))
    assert got.shape == want.shape
    assert np.all(np.isfinite(want))
    assert np.any(want) or not np.any(got)
    assert np.max(np.abs(got - want)) <= tolerance * np.max(np.abs(want))
