"""Metrics of classifiers: shares that are right, over all, class by class and beside the confidence; and class weights."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs
from jaxbp.factors import at_least_float32
from jaxbp.training.gathering import Metric, mean_of, ratio, weights_like


# --- accuracy


def class_hits(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """1 where argmax(outputs) is the label; targets are integer labels or distributions. Ties go to the lower class."""
    return (jnp.argmax(outputs, axis=-1) == _labels(outputs, targets)).astype(at_least_float32(outputs))


def _labels(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    if targets.shape not in (outputs.shape[:-1], outputs.shape):
        raise ValueError(
            f"for outputs {list(outputs.shape)}, labels {list(outputs.shape[:-1])} or distributions {list(outputs.shape)} were "
            f"expected, got targets {list(targets.shape)}"
        )
    return targets if targets.ndim < outputs.ndim else jnp.argmax(targets, axis=-1)


def threshold_hits(outputs: jax.Array, targets: jax.Array, *, output: float, target: float) -> jax.Array:
    """1 where output and target lie on the same side of their thresholds (one output an example)."""
    outputs, targets = outputs.reshape(outputs.shape[0], -1), targets.reshape(targets.shape[0], -1)
    return ((outputs > output) == (targets > target)).astype(at_least_float32(outputs))[:, 0]


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


# --- class by class


def per_class_accuracy(classes: int, threshold: float | None = None) -> Metric:
    """r_c = sum_b w_b [y_b = c] [yhat_b = c] / sum_b w_b [y_b = c]: the recall of every class, an array (classes,).

    Shapes: outputs (batch, ..., classes), yhat their argmax, ties to the lower class; targets labels (batch, ...), or one-hot
    rows or distributions of the shape of the outputs, y their argmax. threshold: for one output an example, where classes
    is 2: yhat is [output > threshold] (0 for a logit or a margin, 1/2 for a probability) and y is [target > 1/2], which
    reads 0/1 and +-1 alike.

    Conventions: NaN for a class without a member of positive weight; a label outside [0, classes) is of no class.
    Tables and the printed lines of a run leave arrays out.

    >>> import jax.numpy as jnp
    >>> outputs = jnp.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 2.0, 1.0]])
    >>> print(per_class_accuracy(3)(outputs, jnp.array([0, 0, 1])))
    [0.5 1.  nan]

    Raises: ValueError for fewer than 2 classes, and when called for outputs of another number of classes.
    """
    return _per_class("per_class_accuracy", *_checked_classes("per_class_accuracy", classes, threshold))


def balanced_accuracy(classes: int, threshold: float | None = None) -> Metric:
    """mean_c r_c over the classes that have a member of positive weight, r as of `per_class_accuracy`.

    So a class counts as much as any other however rare it is; chance is 1 / classes. Classes without a member are left
    out of the mean, as scikit-learn's `balanced_accuracy_score` does; NaN where all are. Not the mean over folds of what
    each fold's classes give where folds lack classes: stratify.

    >>> import jax.numpy as jnp
    >>> outputs = jnp.array([[2.0, 1.0, 0.0], [0.0, 3.0, 1.0], [0.0, 2.0, 1.0]])
    >>> print(balanced_accuracy(3)(outputs, jnp.array([0, 0, 1])))
    0.75

    Shapes, threshold and errors: those of `per_class_accuracy`.
    """
    return _per_class("balanced_accuracy", *_checked_classes("balanced_accuracy", classes, threshold))


def _checked_classes(name: str, classes: Any, threshold: Any) -> tuple[int, float | None]:
    inputs.require_positive(name, "the number of classes", classes)
    if classes < 2 or (threshold is not None and classes != 2):
        wanted = "2 or more" if threshold is None else "2, which a threshold divides"
        raise ValueError(f"{name}: the number of classes has to be {wanted}, got {classes}")
    return int(classes), None if threshold is None else float(threshold)


@functools.cache  # behind the checks, so that f(3) and f(classes=3) are one object and one compiled program
def _per_class(name: str, classes: int, threshold: float | None) -> Metric:
    value = ratio if name == "per_class_accuracy" else mean_recall
    return Metric(name, functools.partial(class_sums, name=name, classes=classes, threshold=threshold), value)


def class_sums(
    outputs: jax.Array, targets: jax.Array, sample_weight: Any = None, *, name: str, classes: int, threshold: float | None
) -> tuple[jax.Array, jax.Array]:
    """(the weight of the members that are right, the weight of all members), each (classes,)."""
    labels, predicted = _labels_and_predictions(name, outputs, targets, classes, threshold)
    hits = (labels == predicted).astype(at_least_float32(outputs))
    weights = weights_like(hits, sample_weight)
    return by_bin(weights * hits, labels, classes), by_bin(weights, labels, classes)


def by_bin(values: jax.Array, index: jax.Array, bins: int) -> jax.Array:
    """(bins,): the sum of the values of each bin. A comparison and a sum, not a scatter: on a GPU those add in any order."""
    numbers = jnp.arange(bins, dtype=index.dtype).reshape((1,) * index.ndim + (bins,))
    inside = jnp.expand_dims(index, -1) == numbers
    return jnp.sum(jnp.where(inside, jnp.expand_dims(values, -1), 0), axis=tuple(range(index.ndim)))


def _labels_and_predictions(name: str, outputs: Any, targets: Any, classes: int, threshold: float | None) -> tuple:
    if threshold is not None:
        if outputs.size != outputs.shape[0] or targets.size != outputs.size:
            raise ValueError(
                f"{name}: a threshold is for one output and one target an example, got outputs {list(outputs.shape)} and "
                f"targets {list(targets.shape)}"
            )
        return (targets.reshape(-1) > 0.5).astype(jnp.int32), (outputs.reshape(-1) > threshold).astype(jnp.int32)
    if outputs.ndim < 2 or outputs.shape[-1] != classes:
        raise ValueError(
            f"{name}: outputs (batch, ..., {classes}) were expected, got {list(outputs.shape)}; one output an example needs "
            "threshold="
        )
    labels = _labels(outputs, targets)
    return labels.astype(jnp.int32), jnp.argmax(outputs, axis=-1).astype(jnp.int32)


def mean_recall(sums: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The mean of the classes' shares, of the classes that have any weight."""
    met = sums[1] > 0
    return ratio((jnp.sum(jnp.where(met, ratio(sums), 0)), jnp.sum(met, dtype=sums[0].dtype)))


# --- confidence


LINKS = ("softmax", "sigmoid", "class_probs", "probs")


def calibration_error(bins: int = 15, link: str = "softmax") -> Metric:
    """ECE = sum_m (W_m / W) |acc_m - conf_m| = (1 / W) sum_m |sum_{b in m} w_b (hit_b - c_b)|, W_m = sum_{b in m} w_b.

    The expected calibration error of the class that is predicted: c_b is the probability that the net gives it, hit_b is 1
    where it is the label, and bin m of `bins` equal widths holds the examples with c_b in (m / bins, (m + 1) / bins].

    link: what the outputs are.
      "softmax"      logits (batch, ..., classes):  c = max softmax(z)
      "sigmoid"      logits of 0/1 or +-1 targets, every output an example of its own:  c = max(s(z), 1 - s(z)) >= 1/2
      "class_probs"  probabilities (batch, ..., classes):  c = max p
      "probs"        probabilities of 0/1 targets, every output an example of its own:  c = max(p, 1 - p)
    By the name "calibration_error" the loss tells it.

    Conventions: ties go to the lower class; a confidence within rounding of an edge may fall on either side of it; an empty
    bin counts nothing. The estimate is biased upwards where bins hold few examples, and it is no mean over batches: the
    sums of all are added first. Worked out in at least float32.

    >>> import jax.numpy as jnp
    >>> logits = jnp.log(jnp.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.4, 0.6]]))
    >>> f"{calibration_error()(logits, jnp.array([0, 1, 1, 1])):.3f}"  # 2 of 4 at |1/2 - 0.9|, 2 of 4 at |1 - 0.6|
    '0.400'

    Raises: ValueError for no bins and for another link.
    Source: Guo, Pleiss, Sun & Weinberger, On Calibration of Modern Neural Networks, ICML 2017, eq. 3.
    """
    inputs.require_positive("calibration_error", "the number of bins", bins)
    if link not in LINKS:
        raise ValueError(f"calibration_error: link is one of {list(LINKS)}, got {link!r}")
    return _calibration_error(int(bins), link)


@functools.cache
def _calibration_error(bins: int, link: str) -> Metric:
    return Metric("calibration_error", functools.partial(calibration_sums, bins=bins, link=link), total_gap)


def calibration_sums(
    outputs: jax.Array, targets: jax.Array, sample_weight: Any = None, *, bins: int, link: str
) -> tuple[jax.Array, jax.Array]:
    """(sum w (hit - c) of each bin, sum w)."""
    confidence, hits = _confidence_and_hits(outputs.astype(at_least_float32(outputs)), targets, link)
    weights = weights_like(hits, sample_weight)
    gaps = jnp.where(weights == 0, 0, weights * (hits - confidence))
    index = jnp.clip(jnp.ceil(confidence * bins).astype(jnp.int32) - 1, 0, bins - 1)
    return by_bin(gaps, index, bins), jnp.sum(weights)


def _confidence_and_hits(outputs: jax.Array, targets: jax.Array, link: str) -> tuple[jax.Array, jax.Array]:
    if link in ("softmax", "class_probs"):
        top = jnp.max(outputs, axis=-1)
        if link == "softmax":
            top = 1 / jnp.sum(jnp.exp(outputs - jnp.broadcast_to(jnp.expand_dims(top, -1), outputs.shape)), axis=-1)
        return top, class_hits(outputs, targets)
    if targets.shape[:1] != outputs.shape[:1] or targets.size != outputs.size:
        raise ValueError(
            f"calibration_error: link {link!r} takes a target for every output, got outputs {list(outputs.shape)} and targets "
            f"{list(targets.shape)}"
        )
    ones = targets.reshape(outputs.shape) > 0.5
    if link == "sigmoid":
        return 1 / (1 + jnp.exp(-jnp.abs(outputs))), ((outputs > 0) == ones).astype(outputs.dtype)
    return jnp.maximum(outputs, 1 - outputs), ((outputs > 0.5) == ones).astype(outputs.dtype)


def total_gap(sums: tuple[jax.Array, jax.Array]) -> jax.Array:
    return ratio((jnp.sum(jnp.abs(sums[0])), sums[1]))


# --- weights


def class_weights(labels: Any, weights: str | Mapping = "balanced") -> np.ndarray:
    """w_b = n / (classes n_c) for a row b of class c with n_c rows, so that every class weighs the same and all weigh n.

    labels (n,): the class of each row, numbers or texts. weights: "balanced", or a mapping {class: weight >= 0}, in which a
    class without an entry has weight 1. Returns float64 (n,), for `sample_weight=`.

    The weights scale the loss, and the scores of `fit` and `cross_validate` too: over the rows that were counted, accuracy
    under "balanced" weights is `balanced_accuracy` without. In `cross_validate` the rows of held-out folds help to count,
    which matters only where folds differ much in their classes.

    >>> print(class_weights(["a", "a", "a", "b"]))
    [0.66666667 0.66666667 0.66666667 2.        ]
    >>> print(class_weights([0, 1, 1], {1: 3}))
    [1. 3. 3.]

    Raises: ValueError for labels that are not (n,), weights that are negative or not finite, and a mapping that names a class
    that is not there while one that is there has no entry; TypeError for anything else.
    Source: scikit-learn's `compute_class_weight`; King & Zeng, Logistic Regression in Rare Events Data, 2001.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"class_weights: labels of shape [n], one a row, were expected, got {list(labels.shape)}")
    classes, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if isinstance(weights, Mapping):
        return _named_weights(classes.tolist(), weights)[class_of]
    if not isinstance(weights, str):
        raise TypeError(f"class_weights: 'balanced' or a mapping from class to weight was expected, got {weights!r}")
    if weights != "balanced":
        raise ValueError(f"class_weights: 'balanced' or a mapping from class to weight was expected, got {weights!r}")
    return (len(labels) / (len(classes) * counts))[class_of]


def _named_weights(classes: list, weights: Mapping) -> np.ndarray:
    unknown, unnamed = [c for c in weights if c not in classes], [c for c in classes if c not in weights]
    if unknown and unnamed:  # a slip of the pen rather than a class that is missing here
        raise ValueError(f"class_weights: {unknown} are no classes of the labels, while {unnamed} have no weight")
    chosen = np.array([weights.get(c, 1) for c in classes], np.float64)
    if not np.all(np.isfinite(chosen) & (chosen >= 0)):
        raise ValueError(f"class_weights: finite weights of 0 or more were expected, got {dict(weights)}")
    return chosen
