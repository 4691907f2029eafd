"""The metrics by name, which of them suit a run, and those of real targets. Their form: `jaxbp.training.gathering`."""

from __future__ import annotations

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.contracts import Loss
from jaxbp.factors import at_least_float32
from jaxbp.training.class_metrics import (
    accuracy,
    balanced_accuracy,
    binary_accuracy,
    calibration_error,
    per_class_accuracy,
    sign_accuracy,
)
from jaxbp.training.gathering import Metric, mean_of, ratio, weighted, weights_like


__all__ = ["BY_NAME", "Metric", "automatic", "class_labels", "mae", "mean_of", "mse", "r2", "ratio", "resolve", "weighted"]


# --- real targets


def _alike(outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Both in the shape of the outputs and in at least float32; targets may leave out a last axis of 1."""
    if targets.shape != outputs.shape and (*targets.shape, 1) != outputs.shape and targets.shape != (*outputs.shape, 1):
        raise ValueError(f"targets of the shape {list(outputs.shape)} of the outputs were expected, got {list(targets.shape)}")
    wide = at_least_float32(outputs)
    return outputs.astype(wide), targets.astype(wide).reshape(outputs.shape)


def squared_errors(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean over an example's outputs of (a - y)^2."""
    outputs, targets = _alike(outputs, targets)
    return jnp.mean((outputs - targets) ** 2, axis=tuple(range(1, outputs.ndim)))


@functools.cache
def mse() -> Metric:
    """The mean of (a - y)^2 over outputs and examples."""
    return mean_of("mse", squared_errors)


def absolute_errors(outputs: jax.Array, targets: jax.Array) -> jax.Array:
    """The mean over an example's outputs of |a - y|."""
    outputs, targets = _alike(outputs, targets)
    return jnp.mean(jnp.abs(outputs - targets), axis=tuple(range(1, outputs.ndim)))


@functools.cache
def mae() -> Metric:
    """The mean of |a - y| over outputs and examples."""
    return mean_of("mae", absolute_errors)


def r2(shift: float | tuple[float, ...] = 0.0) -> Metric:
    """R^2 = 1 - sum_b w_b (a_b - y_b)^2 / sum_b w_b (y_b - ybar)^2,  ybar = sum_b w_b y_b / sum_b w_b.

    For each entry of an output, then the mean over entries, as scikit-learn's `r2_score` does by default.

    Shapes: outputs and targets (batch, ...); sample_weight (batch,). shift: a number near the targets, one for all entries or
    a tuple of one an entry; it changes nothing but rounding.

    Rounding: with c_k the mean of batch k, the second sum is  sum_k sum_{b in k} w_b (y_b - c_k)^2  +  sum_k W_k (c_k - ybar)^2.
    The first part is gathered as it stands. The second has to be sum_k W_k c_k^2 - (sum_k W_k c_k)^2 / W, since sums of
    batches are all there is, and loses (mean / deviation)^2 of the digits: so c_k is taken from `shift`, and where nothing
    but rounding is left the part counts as 0. Called on all rows at once it is 0, so any shift is safe; in a run over many
    batches the name "r2" sets the shift near the mean of the targets, 0 where that is within two deviations of 0.

    Conventions: an entry whose targets are all the same, up to rounding, has 1 if its errors are 0 too, else 0; NaN for
    fewer than two rows of positive weight. Both are scikit-learn's.

    >>> import jax.numpy as jnp
    >>> print(f"{r2()(jnp.array([[1.0], [2.0], [4.0]]), jnp.array([[1.0], [3.0], [5.0]])):.3f}")  # 1 - 2 / 8
    0.750

    Raises: TypeError for a shift that is no number or tuple of numbers; ValueError when called for targets of another shape.
    """
    shift = tuple(map(float, shift)) if isinstance(shift, tuple) else float(shift)
    return _r2(0.0 if not np.any(shift) else shift)


@functools.cache
def _r2(shift: float | tuple[float, ...]) -> Metric:
    return Metric("r2", functools.partial(r2_sums, shift=shift), r2_value)


def r2_sums(
    outputs: jax.Array, targets: jax.Array, sample_weight: Any = None, *, shift: float | tuple[float, ...] = 0.0
) -> tuple:
    """(W, rows that count, W c, W c^2, sum w (y - c)^2, sum w (a - y)^2), c = sum w y / W of this batch, from the shift."""
    outputs, targets = (a.reshape(a.shape[0], -1) for a in _alike(outputs, targets))
    total = lambda a: jnp.sum(jnp.where(weights == 0, 0, a), axis=0)
    weights = weights_like(targets[:, 0], sample_weight)
    count, rows = jnp.sum(weights), jnp.sum(weights > 0, dtype=weights.dtype)
    weights = jnp.broadcast_to(weights[:, None], targets.shape)
    shifted = targets - jnp.broadcast_to(jnp.asarray(shift, targets.dtype).reshape(1, -1), targets.shape)
    center = ratio((total(weights * shifted), jnp.broadcast_to(count, targets.shape[1:])))
    center = jnp.where(count == 0, 0, center)  # a batch of nothing adds nothing
    spread = total(weights * (shifted - jnp.broadcast_to(center, targets.shape)) ** 2)
    return count, rows, count * center, count * center**2, spread, total(weights * (outputs - targets) ** 2)


def r2_value(sums: tuple) -> jax.Array:
    count, rows, first, second, spread, errors = sums
    some = jnp.where(count == 0, 1, count)
    between = second - first**2 / some
    spread = spread + jnp.where(between <= 16 * jnp.finfo(second.dtype).eps * second, 0, between)
    varies = spread > (8 * jnp.finfo(second.dtype).eps) ** 2 * second  # what rounding leaves of a constant is no spread
    score = jnp.where(varies, 1 - errors / jnp.where(varies, spread, 1), jnp.where(errors == 0, 1, 0))
    score = jnp.where(jnp.isnan(errors), jnp.nan, score)
    return jnp.where(rows < 2, jnp.nan, jnp.mean(score))


def shift_for(targets: np.ndarray) -> float | tuple[float, ...]:
    """A round number near the mean of each entry, on a grid about its deviation wide, so that targets that differ little
    share a compiled program; 0 where the mean is within two deviations of 0."""
    values = np.asarray(targets, np.float64).reshape(len(targets), -1)
    return tuple(_near(column) for column in values.T)


def _near(values: np.ndarray) -> float:
    mean, deviation = float(np.mean(values)), float(np.std(values))
    if np.ptp(values) == 0:
        return float(values[0])
    if abs(mean) <= 2 * deviation or not math.isfinite(deviation):
        return 0.0
    grid = 2.0 ** math.ceil(math.log2(deviation))
    return round(mean / grid) * grid


# --- by name


def _accuracy(loss: Loss, outputs: Any, targets: Any) -> Metric:
    """In the form that the targets ask for."""
    return next((m for m in automatic(loss, outputs, targets) if m.name == "accuracy"), accuracy())


def _by_class(build: Any, loss: Loss, outputs: Any, targets: Any) -> Metric:
    """per_class_accuracy or balanced_accuracy for the number of classes that the outputs show."""
    chosen = automatic(loss, outputs, targets)
    if chosen == (accuracy(),):
        return build(outputs.shape[-1])
    if chosen and chosen[0].name == "accuracy":  # one output an example
        return build(2, 0.0 if chosen == (sign_accuracy(),) else _threshold(loss))
    raise ValueError(
        f"metrics: {build.__name__!r} by its name needs targets that are clearly classes; else give the number of them: "
        f"{build.__name__}(classes)"
    )


def _calibration(loss: Loss, outputs: Any, targets: Any) -> Metric:
    if loss.name not in LINK_OF:
        raise ValueError(
            f"metrics: 'calibration_error' by its name is for the losses {sorted(LINK_OF)}, which tell what the outputs are, "
            f"got {loss!r}; else say it: calibration_error(link='softmax')"
        )
    return calibration_error(link=LINK_OF[loss.name])


def _r2_of(loss: Loss, outputs: Any, targets: Any) -> Metric:
    return r2(shift_for(targets) if hasattr(targets, "shape") else 0.0)


BY_NAME = {  # functions of (loss, spec of all outputs, all targets)
    "accuracy": _accuracy,
    "balanced_accuracy": functools.partial(_by_class, balanced_accuracy),
    "binary_accuracy": lambda loss, outputs, targets: binary_accuracy(_threshold(loss)),
    "calibration_error": _calibration,
    "mae": lambda loss, outputs, targets: mae(),
    "mse": lambda loss, outputs, targets: mse(),
    "per_class_accuracy": functools.partial(_by_class, per_class_accuracy),
    "r2": _r2_of,
    "sign_accuracy": lambda loss, outputs, targets: sign_accuracy(),
}


def resolve(metrics: Any, loss: Loss, outputs: Any, targets: Any) -> tuple[Metric, ...]:
    """The metrics of a run: None chooses by the targets, else names of the registry, Metric objects, or both.

    outputs: the spec of all outputs; targets: the values.
    """
    if metrics is None:
        return automatic(loss, outputs, targets)
    if isinstance(metrics, (str, Metric)) or callable(metrics):
        metrics = (metrics,)
    found = tuple(_one(metric, loss, outputs, targets) for metric in metrics)
    names = [metric.name for metric in found]
    if len(set(names)) < len(names) or "loss" in names:
        raise ValueError(f"metrics: each needs a name of its own, and 'loss' is taken; got {names}")
    return found


def _one(metric: Any, loss: Loss, outputs: Any, targets: Any) -> Metric:
    if isinstance(metric, Metric):
        return metric
    if isinstance(metric, str) and metric in BY_NAME:
        return BY_NAME[metric](loss, outputs, targets)
    raise ValueError(
        f"metrics: a Metric or one of {sorted(BY_NAME)} was expected, got {metric!r}; make one of a function of your own by "
        "jaxbp.training.mean_of(name, fun)"
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
            return (binary_accuracy(_threshold(loss)),)
        return (mse(),)
    if values.shape == shape[:-1] and np.issubdtype(values.dtype, np.integer):
        return (accuracy(),)
    if values.shape != shape:
        return ()
    return (accuracy(),) if shape[-1] > 1 and _are_distributions(values) else (mse(),)


ON_LOGITS = ("sigmoid_cross_entropy",)  # losses on 0/1 targets whose outputs are logits
LINK_OF = {
    "softmax_cross_entropy": "softmax",
    "log_likelihood": "class_probs",
    "sigmoid_cross_entropy": "sigmoid",
    "logistic": "sigmoid",
    "binary_cross_entropy": "probs",
}


def _threshold(loss: Loss) -> float:
    """What an output is compared with: 0 for a logit, 1/2 for anything on the scale of 0/1 targets."""
    return 0.0 if loss.name in ON_LOGITS else 0.5


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
