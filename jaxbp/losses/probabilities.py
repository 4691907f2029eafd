"""Losses on probabilities, as the classics have them: after a sigmoid or a softmax layer.

Convention at 0: below `tiny`, the smallest normal number of the losses' dtype, ln is continued by its tangent at tiny. It is then
finite with a finite slope: ln 0 = ln tiny - 1 (-88.3 in float32, -709.4 in float64), slope 1 / tiny, and 0 ln 0 = 0.
A cotangent beyond the largest number of its dtype is that number, because the activation's slope of 0 would make NaN of inf.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.contracts import Loss, constructor
from jaxbp.losses.entrywise import dtype_of, entrywise_forward, per_row, widened
from jaxbp.losses.targets import as_distributions, check_classes, check_probabilities, check_unit


def log_and_slope(a: jax.Array) -> tuple[jax.Array, jax.Array]:
    """ln a and 1 / a, for a < tiny those of the tangent at tiny."""
    tiny = float(jnp.finfo(a.dtype).tiny)
    normal = jnp.maximum(a, tiny)
    return jnp.log(normal) + (jnp.minimum(a, tiny) - tiny) / tiny, 1 / normal


def probability_backward(residuals: tuple, losses_bar: jax.Array) -> jax.Array:
    """a_bar = dC/da losses_bar, held within the numbers of its dtype."""
    slopes, like = residuals
    largest = float(jnp.finfo(like.dtype).max)
    return jnp.clip(slopes * per_row(losses_bar, slopes), -largest, largest).astype(like.dtype)


def binary_cross_entropy_entry(a: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """C = -y ln a - (1 - y) ln(1 - a), dC/da = -y / a + (1 - y) / (1 - a)."""
    (ln_a, slope), (ln_rest, rest_slope) = log_and_slope(a), log_and_slope(1 - a)
    return -(y * ln_a + (1 - y) * ln_rest), (1 - y) * rest_slope - y * slope


def _check_binary(outputs: Any, targets: Any) -> None:
    check_unit("binary_cross_entropy", outputs, targets)
    check_probabilities("binary_cross_entropy", outputs, "sigmoid_cross_entropy")


@constructor
def binary_cross_entropy() -> Loss:
    """C = sum_k -y_k ln a_k - (1 - y_k) ln(1 - a_k) on probabilities a; dC/da = (a - y) / (a (1 - a)).

    Shapes: outputs (batch, *axes, entries) in [0, 1], the values of a sigmoid, in any floating dtype; targets in [0, 1] of the
    same shape (a last axis of 1 may be left out); losses (batch, *axes) in at least float32. Residual: dC/da.

    Finite at 0 and 1: below `tiny`, the smallest normal number of the losses' dtype, ln is continued by its tangent at tiny. So
    an output that is certain and right costs 0, one that is certain and wrong 88.3 in float32 and 709.4 in float64, with
    slope 1 / tiny. In float32 a sigmoid is 1 from z = 17 on; `sigmoid_cross_entropy` on logits keeps the digits.

    >>> import jax, jaxbp
    >>> loss = jaxbp.losses.binary_cross_entropy()
    >>> print(loss(jax.numpy.array([[0.5], [0.0]]), jax.numpy.array([1, 1])))
    [ 0.6931472 88.33655  ]

    Raises: ValueError for shapes that do not fit and outputs or targets outside [0, 1], TypeError for integer outputs.
    Source: Nielsen, Neural Networks and Deep Learning, eq. 63.
    """
    forward = functools.partial(entrywise_forward, "binary_cross_entropy", binary_cross_entropy_entry)
    return Loss(forward, probability_backward, "binary_cross_entropy", _check_binary)


def log_likelihood_forward(outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, tuple]:
    """C = -sum_k t_k ln p_k over the last axis. Residuals: dC/dp = -t / p, and the dtype of the outputs."""
    p = widened(outputs)
    t = as_distributions("log_likelihood", outputs, targets, p.dtype)
    ln_p, slopes = log_and_slope(p)
    return -jnp.sum(t * ln_p, axis=-1), (-t * slopes, dtype_of(outputs))


def _check_log_likelihood(outputs: Any, targets: Any) -> None:
    check_classes("log_likelihood", outputs, targets)
    check_probabilities("log_likelihood", outputs, "softmax_cross_entropy")


@constructor
def log_likelihood() -> Loss:
    """C = -ln p_y for a label y, -sum_k t_k ln p_k for a distribution t, on probabilities p; dC/dp = -t / p.

    Shapes: outputs (batch, *axes, classes) in [0, 1], the values of a softmax, in any floating dtype; targets integer labels
    (batch, *axes), or distributions of the shape of the outputs; losses (batch, *axes) in at least float32. Residual: dC/dp.

    Finite at p = 0, by the convention of `binary_cross_entropy`: 88.3 in float32, 709.4 in float64. Under jit, where values
    cannot be checked, a label outside [0, classes) gives NaN in its row.

    >>> import jax, jaxbp
    >>> loss = jaxbp.losses.log_likelihood()
    >>> print(loss(jax.numpy.array([[0.5, 0.5], [0.0, 1.0]]), jax.numpy.array([1, 0])))
    [ 0.6931472 88.33655  ]

    Raises: ValueError for outputs outside [0, 1], labels outside [0, classes), distributions that are none and shapes that do not
    fit; TypeError for floating labels and integer outputs.
    Source: Nielsen, Neural Networks and Deep Learning, eq. 80.
    """
    return Loss(log_likelihood_forward, probability_backward, "log_likelihood", _check_log_likelihood)
