"""Losses of scores with labels -1 and +1."""

from __future__ import annotations

import cases
import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from loss_rules import loss_and_grad

from jaxbp import losses


KEY = jax.random.key(0)


def test_logistic_is_sigmoid_cross_entropy_with_other_labels():
    s, y = cases.logits(3)(KEY, 30, jnp.float32), cases.signs(3)(jax.random.fold_in(KEY, 1), 30, jnp.float32)
    chex.assert_trees_all_close(
        loss_and_grad(losses.logistic(), s, y), loss_and_grad(losses.sigmoid_cross_entropy(), s, (y + 1) / 2), rtol=1e-7
    )


def test_hinge_has_slope_zero_at_its_kink():
    s = jnp.array([[1.0], [1 - 1e-6], [-1.0], [-1 + 1e-6], [3.0], [-3.0]])
    found, grad = loss_and_grad(losses.hinge(), s, jnp.array([1, 1, -1, -1, 1, 1]))
    np.testing.assert_allclose(found, [0, 1e-6, 0, 1e-6, 0, 4], atol=1e-12)
    np.testing.assert_array_equal(grad[:, 0], [0, -1, 0, 1, 0, -1])


@pytest.mark.parametrize("loss", [losses.hinge(), losses.logistic()])
def test_labels_other_than_signs_give_nan_under_jit(loss):
    found, grad = loss_and_grad(loss, jnp.full((3, 1), 2.0), jnp.array([1, 0, -1]))
    np.testing.assert_array_equal(np.isnan(found), [False, True, False])
    assert not np.any(np.isnan(grad[::2]))
