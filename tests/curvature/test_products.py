"""Hessian- and Gauss-Newton-vector products: penalties, weights, nets in which examples meet, bad input."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from explicit import assert_close
from jax.flatten_util import ravel_pytree

import jaxbp as bp
from jaxbp import curvature


KEY = jax.random.key(0)
CE = bp.losses.softmax_cross_entropy()
NET = bp.serial(bp.dense(4), bp.batch_norm(), bp.sigmoid(), bp.dense(3))
RNG = np.random.default_rng(2)
X, LABELS, WEIGHTS = RNG.normal(size=(6, 5)), RNG.integers(0, 3, 6), np.array([0.0, 1, 2, 0.5, 0, 1])


def random_like(net, seed):
    params = jax.eval_shape(lambda: net.init(KEY, jax.ShapeDtypeStruct((5,), jnp.float64))[0])
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda s: rng.uniform(0.5, 1.5, s.shape) if s.ndim == 1 else rng.normal(size=s.shape), params)


PARAMS, V = random_like(NET, 0), random_like(NET, 1)


def test_of_a_net_in_which_examples_meet():
    """Both products of batch norm in training, with weights and a penalty, against the matrices of the whole batch."""
    penalty = bp.penalties.l2(0.1)
    flat, restore = ravel_pytree(PARAMS)
    options = {"sample_weight": WEIGHTS}

    @jax.jit
    def run(flat, v):
        params = restore(flat)
        by = lambda door: ravel_pytree(door(params, restore(v), X, LABELS, **options))[0]
        value = lambda flat: bp.objective(NET, CE, penalty=penalty)(restore(flat), X, LABELS, **options)
        outputs = lambda flat: NET.forward(restore(flat), X, train=True)[0].ravel()
        mean = lambda z: jnp.sum(WEIGHTS * CE.forward(z.reshape(6, 3), LABELS)[0]) / WEIGHTS.sum()
        jacobian, inside = jax.jacrev(outputs)(flat), jax.hessian(mean)(outputs(flat))
        hessian = by(curvature.hessian_vector_product(NET, CE, penalty=penalty))
        got = hessian, by(curvature.ggn_vector_product(NET, CE)), by(curvature.ggn_vector_product(NET, CE, reduction="sum"))
        ggn = jacobian.T @ inside @ jacobian @ v
        return got, (jax.hessian(value)(flat) @ v, ggn, ggn * WEIGHTS.sum())

    for got, want in zip(*run(flat, ravel_pytree(V)[0]), strict=True):
        assert_close(got, want, 1e-10)


def test_one_trace_and_several_vectors_at_once():
    door = curvature.ggn_vector_product(NET, CE)
    counted = chex.assert_max_traces(lambda v: door(PARAMS, v, X, LABELS, train=False), n=2)  # alone and under vmap
    alone, several = jax.jit(counted), jax.jit(jax.vmap(counted))
    both = several(jax.tree.map(lambda a: np.stack([a, 2 * a]), V))
    want = alone(V)
    chex.assert_trees_all_equal(alone(V), want)
    chex.assert_trees_all_close(both, jax.tree.map(lambda a: np.stack([a, 2 * a]), want), rtol=1e-12, atol=1e-15)


def test_vectors_are_taken_in_the_dtype_of_their_parameter():
    narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float32), (PARAMS, X))
    for door in (curvature.ggn_vector_product, curvature.hessian_vector_product):
        got = jax.eval_shape(door(NET, CE), narrow[0], V, narrow[1], LABELS)
        assert {leaf.dtype for leaf in jax.tree.leaves(got)} == {jnp.dtype("float32")}


@pytest.mark.parametrize("make", [curvature.hessian_vector_product, curvature.ggn_vector_product], ids=lambda f: f.__name__)
def test_bad_input(make):
    net = bp.dense(3)
    params = v = random_like(net, 0)
    door = make(net, CE)
    with pytest.raises(ValueError, match="tree of params"):
        door(params, (v,), X, LABELS)
    with pytest.raises(ValueError, match=r"v.b needs the shape \[3\]"):
        door(params, v._replace(b=np.ones(5)), X, LABELS)
    with pytest.raises(ValueError, match="the batch is empty"):
        door(params, v, X[:0], LABELS[:0])
    with pytest.raises(ValueError, match="sample_weight"):
        door(params, v, X, LABELS, sample_weight=np.ones(5))
    with pytest.raises(ValueError, match="labels have to lie in"):
        door(params, v, X, LABELS + 3)
    with pytest.raises(TypeError, match="a Layer was expected"):
        make("net", CE)
    with pytest.raises(ValueError, match="reduction is"):
        make(net, CE, reduction="none")
