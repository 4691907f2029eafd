"""Metrics: numbers that are reported, never differentiated.

A metric is two pure functions around a sum over examples, so that it can be gathered batch by batch and fold by fold:

    sums(outputs, targets, sample_weight) -> a pytree of sums     added over batches
    value(sums)                           -> the number

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
import numpy as np

from jaxbp.contracts import Loss
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
    weights = jnp.asarray(sample_weight, values.dtype)
    weights = jnp.broadcast_to(weights.reshape(weights.shape + (1,) * (values.ndim - weights.ndim)), values.shape)
    return jnp.sum(jnp.where(weights == 0, 0, weights * values)), jnp.sum(weights)


def ratio(sums: tuple[jax.Array, jax.Array]) -> jax.Array:
    """sum w v / sum w, NaN where all weights are 0."""
    total, weight = sums
    return jnp.where(weight == 0, jnp.nan, total / jnp.where(weight == 0, 1, weight))


def class_hits(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """1 where argmax(outputs) is the label; targets are integer labels or distributions. Ties go to the lower class."""
    labels = targets if targets.ndim < outputs.ndim else jnp.argmax(targets, axis=-1)
    return (jnp.argmax(outputs, axis=-1) == labels).astype(at_least_float32(outputs))


def threshold_hits(outputs: jax.Array, targets: jax.Array, *, output: float, target: float) -> jax.Array:
    """1 where output and target lie on the same side of their thresholds (one output an example)."""
    outputs, targets = outputs.reshape(outputs.shape[0], -1), targets.reshape(targets.shape[0], -1)
    return ((outputs > output) == (targets > target)).astype(at_least_float32(outputs))[:, 0]


def squared_errors(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean over an example's outputs of (a - y)^2."""
    wide = at_least_float32(outputs)
    errors = outputs.astype(wide) - targets.astype(wide).reshape(outputs.shape)  # targets may leave out a last axis of 1
    return jnp.mean(errors**2, axis=tuple(range(1, outputs.ndim)))


@functools.cache
def accuracy() -> Metric:
    """The share of examples whose largest output is the label (integer labels, one-hot rows or distributions)."""
    return mean_of("accuracy", class_hits)


@functools.cache
def binary_accuracy(threshold: float = 0.5) -> Metric:
    """The share right for one output against 0/1 targets: right iff (output > threshold) == (target > 1/2).

    Probabilities have threshold 0.5, logits 0.
    """
    return mean_of("accuracy", functools.partial(threshold_hits, output=threshold, target=0.5))


@functools.cache
def sign_accuracy() -> Metric:
    """The share right for one output against +-1 labels: right iff the signs agree. An output of 0 counts as -1."""
    return mean_of("accuracy", functools.partial(threshold_hits, output=0.0, target=0.0))


@functools.cache
def mse() -> Metric:
    """The mean of (a - y)^2 over outputs and examples."""
    return mean_of("mse", squared_errors)


BY_NAME = {"accuracy": accuracy, "binary_accuracy": binary_accuracy, "sign_accuracy": sign_accuracy, "mse": mse}


def resolve(metrics: Any, loss: Loss, outputs: Any, targets: Any) -> tuple[Metric, ...]:
    """The metrics of a run: None chooses by the targets, else names of the registry, Metric objects, or both.

    outputs: the spec of all outputs; targets: the values.
    """
    if metrics is None:
        return automatic(loss, outputs, targets)
    if isinstance(metrics, (str, Metric)):
        metrics = (metrics,)
    found = tuple(_one(metric, loss, outputs, targets) for metric in metrics)
    names = [metric.name for metric in found]
    if len(set(names)) < len(names) or "loss" in names:
        raise ValueError(f"metrics: each needs a name of its own, and 'loss' is taken; got {names}")
    return found


def _one(metric: Any, loss: Loss, outputs: Any, targets: Any) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if metric == "accuracy":  # its form depends on the targets
        return next((m for m in automatic(loss, outputs, targets) if m.name == "accuracy"), accuracy())
    if metric in BY_NAME:
        return BY_NAME[metric]()
    raise ValueError(
        f"metrics: a Metric or one of {sorted(BY_NAME)} was expected, got {metric!r}; make one by mean_of(name, fun)"
    )


def automatic(loss: Loss, outputs: Any, targets: Any) -> tuple[Metric, ...]:
    """Accuracy where targets are clearly classes, mse where they have the shape of the outputs and are not, else nothing.

    Classes are: integer labels with one axis less than the outputs; rows that are distributions over two or more
    outputs; one output against targets that are all +-1 or all 0/1 (threshold 0 for a loss on logits, else 1/2).
    """
    shape = getattr(outputs, "shape", None)
    if shape is None or not hasattr(targets, "shape"):
        return ()
    values = np.asarray(targets)
    if _is_single(shape, values):
        if _within(values, -1, 1):
            return (sign_accuracy(),)
        if _within(values, 0, 1):
            return (binary_accuracy(0.0 if loss.name in ON_LOGITS else 0.5),)
        return (mse(),)
    if values.shape == shape[:-1] and np.issubdtype(values.dtype, np.integer):
        return (accuracy(),)
    if values.shape != shape:
        return ()
    return (accuracy(),) if shape[-1] > 1 and _are_distributions(values) else (mse(),)


ON_LOGITS = ("sigmoid_cross_entropy",)  # losses on 0/1 targets whose outputs are logits


def _is_single(shape: tuple, values: np.ndarray) -> bool:
    """Whether there is one output an example and one target for it; both may leave out an axis of 1."""
    return shape[1:] in ((), (1,)) and values.shape in (shape, shape[:1])


def _within(values: np.ndarray, *allowed: int) -> bool:
    return bool(np.all(np.isin(values, allowed)))


def _are_distributions(values: np.ndarray) -> bool:
    values = values.astype(np.float64)
    return bool(np.all(values >= 0) and np.all(np.abs(values.sum(-1) - 1) < 1e-3))


def class_labels(outputs: Any, targets: Any) -> np.ndarray | None:
    """The integer class of every row where targets are clearly classes, one a row; None where they are not."""
    shape = getattr(outputs, "shape", ())
    if len(shape) not in (1, 2) or not hasattr(targets, "shape"):
        return None
    values = np.asarray(targets)
    if _is_single(shape, values):
        return (values.reshape(-1) > 0).astype(np.int64) if _within(values, -1, 1) or _within(values, 0, 1) else None
    if values.shape == shape[:1] and np.issubdtype(values.dtype, np.integer):
        return values.astype(np.int64)
    one_hot = values.shape == shape and _within(values, 0, 1) and _are_distributions(values)
    return values.argmax(-1) if one_hot else None
