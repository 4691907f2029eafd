"""Penalties: values by hand, gradients against jax.grad, which leaves they take, dtypes, bad strengths."""

import pickle

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxbp as bp
from jaxbp import penalties
from jaxbp.tree import Population


PARAMS = {
    "dense": bp.Dense(w=jnp.array([[1.0, -2.0], [0.0, 3.0]]), b=jnp.array([10.0, -10.0])),
    "no bias": bp.Dense(w=jnp.array([[4.0]]), b=None),
    "statistics": Population(mean=jnp.full((1, 3), 100.0), variance=jnp.full((1, 3), 100.0)),
    "indices": jnp.array([[7, 8]]),
}
ALL = [
    penalties.l2(0.3),
    penalties.l2(0.3, biases=True),
    penalties.l1(0.3),
    penalties.l1(0.3, biases=True),
    penalties.weight_decay(5.0, 20),
]
every_penalty = pytest.mark.parametrize("penalty", ALL, ids=repr)


@pytest.mark.parametrize(
    ("penalty", "value"),
    [
        (penalties.l2(0.5), 0.25 * (1 + 4 + 9 + 16)),
        (penalties.l2(0.5, biases=True), 0.25 * (30 + 200)),
        (penalties.l1(0.5), 0.5 * (1 + 2 + 3 + 4)),
        (penalties.l1(0.5, biases=True), 0.5 * (10 + 20)),
        (penalties.weight_decay(5.0, 50), 5 / 100 * 30),
        (penalties.l2(0), 0.0),
    ],
)
def test_values_by_hand(penalty, value):
    np.testing.assert_allclose(penalty(PARAMS), value, rtol=1e-15)
    assert penalty(PARAMS).shape == ()


def test_gradients_by_hand():
    grads = penalties.weight_decay(5.0, 50).backward(PARAMS)
    np.testing.assert_allclose(grads["dense"].w, 0.1 * PARAMS["dense"].w, rtol=1e-15)
    np.testing.assert_array_equal(grads["dense"].b, [0, 0])
    grads = penalties.l1(0.5, biases=True).backward(PARAMS)
    np.testing.assert_array_equal(grads["dense"].w, [[0.5, -0.5], [0, 0.5]])  # 0 at 0
    np.testing.assert_array_equal(grads["dense"].b, [0.5, -0.5])


@every_penalty
def test_backward_is_the_gradient_of_forward(penalty):
    """Zeros among the weights are the kink of |w|; statistics and integers have none of it."""
    hand, auto = jax.jit(lambda p: (penalty.backward(p), jax.grad(penalty.forward, allow_int=True)(p)))(PARAMS)
    np.testing.assert_array_equal(hand.pop("indices"), [[0, 0]])
    assert auto.pop("indices").dtype == jax.dtypes.float0
    chex.assert_trees_all_close(hand, auto, rtol=1e-14)
    for leaf in hand["statistics"]:
        np.testing.assert_array_equal(leaf, np.zeros((1, 3)))


@every_penalty
def test_contract(penalty):
    for dtype in (jnp.float32, jnp.bfloat16):
        params = bp.tree.cast(PARAMS, dtype)
        value, grads = jax.eval_shape(lambda p: (penalty.forward(p), penalty.backward(p)), params)
        assert (value.shape, value.dtype) == ((), jnp.float32)
        chex.assert_trees_all_equal_shapes_and_dtypes(grads, params)
    chex.assert_trees_all_close(jax.jit(penalty.backward)(PARAMS), penalty.backward(PARAMS), rtol=1e-15)
    stacked = jax.tree.map(lambda a: jnp.stack([a, 2 * a]), PARAMS)
    np.testing.assert_allclose(jax.vmap(penalty.forward)(stacked)[0], penalty(PARAMS), rtol=1e-15)


@every_penalty
def test_construction_is_cached_repr_is_code_and_pickle_is_the_call(penalty):
    assert eval(repr(penalty), vars(bp)) is penalty
    assert pickle.loads(pickle.dumps(penalty)) is penalty
    assert repr(penalty).startswith("penalties.")


def test_hessian_vector_product_of_l2_is_the_strength_times_the_direction():
    dense = PARAMS["dense"]
    _, along = jax.jvp(penalties.l2(0.3).backward, (dense,), (bp.Dense(jnp.ones((2, 2)), jnp.ones(2)),))
    np.testing.assert_allclose(along.w, np.full((2, 2), 0.3))
    np.testing.assert_array_equal(along.b, [0, 0])


def test_sums_over_narrow_leaves_are_taken_in_float32():
    w = jnp.full((300, 300), 0.125, jnp.bfloat16)
    np.testing.assert_allclose(penalties.l1(1.0)([w]), 90_000 / 8, rtol=1e-6)
    np.testing.assert_allclose(penalties.l2(1.0)([w]), 90_000 / 128, rtol=1e-6)


def test_nothing_to_penalize_costs_nothing():
    for params in ((), {"b": jnp.ones(3)}):
        assert penalties.l2(1.0)(params) == 0
    chex.assert_trees_all_equal(penalties.l2(1.0).backward({"b": jnp.ones(3)}), {"b": jnp.zeros(3)})


@pytest.mark.parametrize(
    ("build", "error", "message"),
    [
        (lambda: penalties.l2(-0.1), ValueError, "not negative, got -0.1"),
        (lambda: penalties.l1(float("nan")), ValueError, "finite"),
        (lambda: penalties.l1(float("inf")), ValueError, "finite"),
        (lambda: penalties.l2("0.1"), TypeError, "is a number"),
        (lambda: penalties.l2(True), TypeError, "is a number"),
        (lambda: penalties.l2(0.1, biases="yes"), TypeError, "biases is True or False"),
        (lambda: penalties.weight_decay(-5.0, 100), ValueError, "lmbda"),
        (lambda: penalties.weight_decay(5.0, 0), ValueError, "n has to be positive"),
        (lambda: penalties.weight_decay(5.0, 10.5), TypeError, "whole number"),
        (lambda: penalties.l2(), TypeError, "strength"),
        (lambda: penalties.l2(0.1, bias=True), TypeError, "bias"),
    ],
)
def test_bad_configuration(build, error, message):
    with pytest.raises(error, match=message):
        build()
