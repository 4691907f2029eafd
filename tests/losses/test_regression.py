"""Losses of real outputs."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from loss_rules import loss_and_grad

from jaxbp import losses


def test_quadratic_and_mse_by_hand():
    a, y = jnp.array([[1.0, 2.0, 4.0]]), jnp.array([[0.0, 4.0, 4.0]])
    for loss, value, grad in ((losses.quadratic(), 2.5, [[1, -2, 0]]), (losses.mse(), 5 / 3, [[2 / 3, -4 / 3, 0]])):
        found, bar = loss_and_grad(loss, a, y)
        np.testing.assert_allclose(found, [value], rtol=1e-15)
        np.testing.assert_allclose(bar, grad, rtol=1e-15)


def test_narrow_outputs_are_subtracted_and_summed_in_float32():
    a, y = jnp.full((1, 1000), 1.0, jnp.bfloat16), jnp.full((1, 1000), 1 + 2.0**-12, jnp.float32)
    found, grad = loss_and_grad(losses.quadratic(), a, y)
    np.testing.assert_allclose(found, [500 * 2.0**-24], rtol=1e-6)
    np.testing.assert_array_equal(grad.astype(jnp.float32), np.full((1, 1000), -(2.0**-12)))
