"""The form of a metric: a number that is reported, never differentiated.

A metric is two pure functions around a sum over examples, so that it can be gathered batch by batch and fold by fold:

    sums(outputs, targets, sample_weight) -> a pytree of sums     added over batches
    value(sums)                           -> the number, or an array of numbers

Calling the metric does both at once: `accuracy()(outputs, targets)`. Weights multiply each example's share; a row of
weight 0 is as if it were absent. Where all weights are 0 the value is NaN: there is nothing to report.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.factors import at_least_float32


@dataclasses.dataclass(frozen=True)
class Metric:
    """A number of (outputs, targets, sample_weight), gathered as sums over examples."""

    name: str
    sums: Callable
    value: Callable

    def __call__(self, outputs: Any, targets: Any, sample_weight: Any = None) -> jax.Array:
        return self.value(self.sums(outputs, targets, sample_weight))


def mean_of(name: str, per_example: Callable) -> Metric:
    """sum_b w_b v_b / sum_b w_b for v = per_example(outputs, targets) of shape (batch,) or (batch, time).

    >>> import jax.numpy as jnp
    >>> def distance(outputs, targets):
    ...     return jnp.abs(outputs - targets)[:, 0]
    >>> metric = mean_of("mae", distance)
    >>> float(metric(jnp.array([[1.0], [2.0]]), jnp.array([[1.0], [5.0]])))
    1.5
    """
    return Metric(name, functools.partial(_weighted_sums, per_example), ratio)


def _weighted_sums(per_example: Callable, outputs: Any, targets: Any, sample_weight: Any = None) -> tuple:
    return weighted(per_example(outputs, targets), sample_weight)


def weighted(values: jax.Array, sample_weight: Any = None) -> tuple[jax.Array, jax.Array]:
    """(sum w v, sum w) in float32 or wider; weights have the shape of the values or (batch,)."""
    values = values.astype(at_least_float32(values))
    if sample_weight is None:
        return jnp.sum(values), jnp.asarray(values.size, values.dtype)
    weights = weights_like(values, sample_weight)
    return jnp.sum(jnp.where(weights == 0, 0, weights * values)), jnp.sum(weights)


def weights_like(values: jax.Array, sample_weight: Any = None) -> jax.Array:
    """The weight of every value, in its dtype: sample_weight (batch,) or of a leading part of the shape; 1 without."""
    if sample_weight is None:
        return jnp.ones(values.shape, values.dtype)
    weights = jnp.asarray(sample_weight, values.dtype)
    if weights.shape != values.shape[: weights.ndim]:
        raise ValueError(f"sample_weight: {list(weights.shape)} weights do not fit a metric of {list(values.shape)} values")
    return jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim)), values.shape)


def ratio(sums: tuple[jax.Array, jax.Array]) -> jax.Array:
    """sum w v / sum w, NaN where all weights are 0."""
    total, weight = sums
    return jnp.where(weight == 0, jnp.nan, total / jnp.where(weight == 0, 1, weight))
