"""Losses of scores with labels -1 and +1. A score is right iff it has the sign of its label."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from jaxbp.contracts import Loss, constructor
from jaxbp.losses.cross_entropy import sigmoid_parts
from jaxbp.losses.entrywise import entrywise
from jaxbp.losses.targets import check_signs


def _signs(y: jax.Array) -> jax.Array:
    """Labels -1 and +1 as they are, anything else as NaN."""
    return jnp.where(y * y == 1, y, jnp.nan)


def hinge_entry(s: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """C = max(0, 1 - y s), dC/ds = -y where y s < 1, 0 where y s >= 1."""
    y = _signs(y)
    short = 1 - y * s
    return jnp.where(short <= 0, 0, short), jnp.where(short <= 0, 0, -y)


@constructor
def hinge() -> Loss:
    """C = sum_k max(0, 1 - y_k s_k) on scores s with labels -1 and +1; dC/ds = -y where y s < 1, else 0, at the kink too.

    Shapes: outputs (batch, *axes, entries) in any floating dtype; labels -1 and +1, integer or floating, of the same shape (a
    last axis of 1 may be left out: scores (batch, 1) take labels (batch,)); losses (batch, *axes) in at least float32.
    Residual: dC/ds. Under jit, where values cannot be checked, any other label gives NaN.

    >>> import jax, jaxbp
    >>> loss = jaxbp.losses.hinge()
    >>> loss(jax.numpy.array([[0.25], [3.0], [3.0]]), jax.numpy.array([1, 1, -1])).tolist()
    [0.75, 0.0, 4.0]

    Raises: ValueError for shapes that do not fit and labels that are not -1 or +1, TypeError for integer outputs.
    Source: Rosasco et al. 2004, "Are loss functions all the same?".
    """
    return entrywise("hinge", hinge_entry, check_signs)


def logistic_entry(s: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """C = ln(1 + e^{-y s}) = -ln sigma(y s), dC/ds = -y sigma(-y s)."""
    y = _signs(y)
    size, near, _, wrong = sigmoid_parts(y * s)
    return near + jnp.where(y * s >= 0, 0, size), -y * wrong


@constructor
def logistic() -> Loss:
    """C = sum_k ln(1 + e^{-y_k s_k}) on scores s with labels -1 and +1; dC/ds = -y sigma(-y s).

    The same as `sigmoid_cross_entropy` with labels 0 and 1, y = 2 label - 1. Shapes, dtypes and errors as `hinge`.

    >>> import jax, jaxbp
    >>> loss = jaxbp.losses.logistic()
    >>> print(loss(jax.numpy.array([[0.0], [800.0], [-800.0]]), jax.numpy.array([1, 1, 1])))
    [6.931472e-01 0.000000e+00 8.000000e+02]
    """
    return entrywise("logistic", logistic_entry, check_signs)
