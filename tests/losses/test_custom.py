"""Any function as a loss."""

from __future__ import annotations

import cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
from loss_rules import by_hand

from jaxbp import losses


KEY = jax.random.key(0)


def half_square(output, target):
    return jnp.sum((output - target) ** 2) / 2


def test_loss_from_gives_what_the_hand_written_losses_give():
    z, y = cases.real(2, 3)(KEY, 5, jnp.float64), cases.real(2, 3)(jax.random.fold_in(KEY, 1), 5, jnp.float64)
    bar = jnp.arange(5.0)
    found, grad = by_hand(losses.loss_from(half_square), z, y, bar)
    want, want_grad = by_hand(losses.quadratic(), z, y, jnp.broadcast_to(bar[:, None], (5, 2)))
    chex.assert_trees_all_close((found, grad), (want.sum(1), want_grad), rtol=1e-12)


def weighted_distance(output, target):
    return jnp.sum(jnp.where(jnp.arange(3) < output["length"], output["y"] - target[0], 0) ** 2) * target[1]


def test_loss_from_takes_trees_and_gives_integer_leaves_no_cotangent():
    outputs = {"y": jnp.ones((2, 3), jnp.bfloat16), "length": jnp.array([2, 3])}
    targets = (jnp.zeros((2, 3)), jnp.array([1.0, 0.5]))
    loss = losses.loss_from(weighted_distance)
    np.testing.assert_array_equal(loss(outputs, targets), [2.0, 1.5])
    bar = by_hand(loss, outputs, targets, jnp.ones(2))[1]
    assert bar["length"] is None
    assert bar["y"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(bar["y"].astype(jnp.float32), [[2, 2, 0], [1, 1, 1]])
