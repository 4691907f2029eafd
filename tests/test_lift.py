"""`lift`: a foreign model as one layer, with jax.vjp as its backward."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import pytest

import jaxbp as bp
from jaxbp import losses


KEY = jax.random.key(0)


def init(key, x):
    return {"w": jax.random.normal(key, (x.shape[-1], 3), x.dtype), "steps": jnp.array(2)}


def apply(params, x):
    return jnp.tanh(x @ params["w"]) * params["steps"]


def apply_noisy(params, x, *, train, key):
    y = apply(params, x)
    return y + jax.random.normal(key, y.shape) if train else y


def problem():
    x = jax.random.normal(KEY, (6, 4), jnp.float64)
    params, spec = bp.lift(init, apply).init(KEY, x[0])
    assert spec.shape == (3,)
    return params, x, jnp.array([0, 1, 2, 2, 1, 0])


def test_gradients_are_those_of_jax_grad():
    params, x, labels = problem()
    loss = losses.softmax_cross_entropy()
    value, grads = bp.value_and_grad(bp.lift(init, apply), loss)(params, x, labels)
    plain = lambda w: jnp.mean(loss(apply({**params, "w": w}, x), labels))
    want_value, want = jax.value_and_grad(plain)(params["w"])
    chex.assert_trees_all_close((value, grads["w"]), (want_value, want), rtol=1e-12)
    assert int(grads["steps"]) == 0


def test_it_composes_with_our_layers():
    net = bp.serial(bp.lift(lambda key, x: jnp.ones(()), lambda p, x: x * p), bp.dense(2))
    x = jax.random.normal(KEY, (6, 4), jnp.float64)
    params, _ = net.init(KEY, x[0])
    loss = losses.softmax_cross_entropy()
    labels = jnp.array([0, 1] * 3)
    hand, auto = bp.value_and_grad(net, loss), jax.value_and_grad(bp.objective(net, loss))
    chex.assert_trees_all_close(hand(params, x, labels), auto(params, x, labels), rtol=1e-12)


def test_stochastic_models_get_train_and_key():
    params, x, _ = problem()
    net = bp.lift(init, apply_noisy, stochastic=True)
    chex.assert_trees_all_close(net(params, x), apply(params, x))
    noisy = net(params, x, train=True, key=KEY)
    chex.assert_trees_all_close(noisy, apply_noisy(params, x, train=True, key=KEY))
    with pytest.raises(ValueError, match="pass key="):
        net(params, x, train=True)


def test_only_the_sum_is_kept():
    params, x, _ = problem()
    net = bp.lift(init, apply)
    y, residuals = net.forward(params, x)
    factors, x_bar = net.backward(params, residuals, y)
    assert x_bar.shape == x.shape
    with pytest.raises(ValueError, match="only the sum"):
        factors["w"].sq_norms()


def test_bad_input():
    with pytest.raises(TypeError, match="apply has to be a function"):
        bp.lift(init, 3)
    with pytest.raises(ValueError, match="keep the leading batch axis"):
        bp.lift(init, lambda p, x: jnp.sum(x)).init(KEY, (4,))
