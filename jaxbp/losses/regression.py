"""Losses of real outputs: half the squared distance, and the mean squared error."""

from __future__ import annotations

import jax

from jaxbp.contracts import Loss, constructor
from jaxbp.losses.entrywise import entrywise
from jaxbp.losses.targets import check_real


def quadratic_entry(a: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """C = (a - y)^2 / 2, dC/da = a - y."""
    d = a - y
    return d * d / 2, d


@constructor
def quadratic() -> Loss:
    """C = 1/2 sum_k (a_k - y_k)^2 over the last axis; dC/da = a - y.

    Shapes: outputs (batch, *axes, entries) in any floating dtype, targets real and of the same shape (a last axis of 1 may be
    left out); losses (batch, *axes) in at least float32. Residual: a - y.

    >>> import jax, jaxbp
    >>> loss = jaxbp.losses.quadratic()
    >>> loss(jax.numpy.array([[1.0, 2.0]]), jax.numpy.array([[0.0, 4.0]])).tolist()
    [2.5]

    Raises: ValueError for shapes that do not fit and targets that are NaN or infinite, TypeError for integer outputs.
    Source: Nielsen, Neural Networks and Deep Learning, eq. 27.
    """
    return entrywise("quadratic", quadratic_entry, check_real)


def mse_entry(a: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """C = (a - y)^2 / n, dC/da = 2 (a - y) / n, n the length of the last axis."""
    d, n = a - y, a.shape[-1]
    return d * d / n, 2 * d / n


@constructor
def mse() -> Loss:
    """C = 1/n sum_k (a_k - y_k)^2, the mean over a last axis of n entries; dC/da = 2 (a - y) / n.

    Shapes, dtypes and errors as `quadratic`. Residual: dC/da.

    >>> import jax, jaxbp
    >>> loss = jaxbp.losses.mse()
    >>> loss(jax.numpy.array([[1.0, 2.0]]), jax.numpy.array([[0.0, 4.0]])).tolist()
    [2.5]
    """
    return entrywise("mse", mse_entry, check_real)
