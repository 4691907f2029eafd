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

    The examples are told apart before anything is computed: targets that leave out an axis of 1 of the outputs, as losses allow,
    would be broadcast to (batch, batch) by `outputs - targets`. They come as they were given.

    >>> import jax.numpy as jnp
    >>> def distance(outputs, targets):
    ...     return jnp.abs(outputs - targets)[:, 0]
    >>> metric = mean_of("mae", distance)
    >>> float(metric(jnp.array([[1.0], [2.0]]), jnp.array([[1.0], [5.0]])))
    1.5

    Raises: where it is used, ValueError for values of another shape, whatever the size of the batch.
    """
    return Metric(name, functools.partial(_weighted_sums, name, per_example), ratio)


def _weighted_sums(name: str, per_example: Callable, outputs: Any, targets: Any, sample_weight: Any = None) -> tuple:
    _require_one_each(name, per_example, outputs, targets)
    return weighted(per_example(outputs, targets), sample_weight)


def _require_one_each(name: str, per_example: Callable, outputs: Any, targets: Any) -> None:
    """Raise unless the values have the shape of a leading part of outputs or targets, for a batch as long as no other axis."""
    leaves = jax.tree.leaves((outputs, targets))
    n = 1 + max(size for leaf in leaves for size in jnp.shape(leaf))
    same = lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf), jnp.result_type(leaf))
    other = lambda leaf: jax.ShapeDtypeStruct((n, *jnp.shape(leaf)[1:]), jnp.result_type(leaf))
    came = " and ".join(str(jax.tree.map(lambda leaf: ["batch", *jnp.shape(leaf)[1:]], a)) for a in (outputs, targets))
    try:
        jax.eval_shape(per_example, *jax.tree.map(same, (outputs, targets)))  # to fail in the words of these shapes, if it does
        made = jax.eval_shape(per_example, *jax.tree.map(other, (outputs, targets)))
    except (TypeError, ValueError) as error:
        error.add_note(f"in the metric {name!r}, called with outputs and targets of shapes {came}")
        raise
    wanted = {jnp.shape(leaf)[1:stop] for leaf in leaves for stop in range(1, jnp.ndim(leaf) + 1)}
    if not hasattr(made, "shape") or made.shape[:1] != (n,) or made.shape[1:] not in wanted:
        got = jax.tree.map(lambda a: ["batch" if size == n else size for size in a.shape], made)
        raise ValueError(
            f"metric {name!r}: one value an example was expected, shape ['batch'] or ['batch', time], got {got} from outputs and "
            f"targets of shapes {came}; bring both to one shape first, as by targets.reshape(outputs.shape), and reduce the rest"
        )


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
