"""Cross-entropies on logits: softmax and sigmoid fused with their losses, exact to the last digits at any margin."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from jaxbp.contracts import Loss, constructor
from jaxbp.layers.softmax import anchor, exp_difference, log_sum, split
from jaxbp.losses.entrywise import dtype_of, entrywise, per_row, widened
from jaxbp.losses.targets import are_labels, as_distributions, check_classes, check_unit, one_hot


_SOFTMAX = "softmax_cross_entropy"


def softmax_cross_entropy_forward(label_smoothing: float, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, tuple]:
    """C = -sum_k t_k ln p_k, p = softmax(z). Residuals: s dC/dz, s = sum_j e^{z_j - max z}, and the dtype of the outputs."""
    if are_labels(_SOFTMAX, outputs, targets) and not label_smoothing:
        losses, slopes, s, empty = _of_labels(widened(outputs), jnp.asarray(targets))
    else:
        z = widened(outputs)
        losses, slopes, s, empty = _of_distributions(z, as_distributions(_SOFTMAX, outputs, targets, z.dtype), label_smoothing)
    return losses[..., 0], (slopes, jnp.where(empty, jnp.inf, s), dtype_of(outputs))


def softmax_cross_entropy_backward(residuals: tuple, losses_bar: jax.Array) -> jax.Array:
    """z_bar = dC/dz losses_bar."""
    slopes, s, like = residuals
    return (slopes * (per_row(losses_bar, s) / s)).astype(like.dtype)


def _of_labels(z: jax.Array, labels: jax.Array) -> tuple:
    """e_k = e^{z_k - max z}, rest = sum_{j != y} e_j:  C = ln(rest + e_y) - ln e_y,  s dC/dz_y = -rest,  s dC/dz_k = e_k."""
    z_y = jnp.take_along_axis(z, labels[..., None], axis=-1, mode="clip")
    z, m, empty = anchor(z)
    hot, valid = one_hot(labels, z.shape[-1])
    e = exp_difference(jnp.where(hot, -jnp.inf, z), m)
    rest = jnp.sum(e, axis=-1, keepdims=True)
    d = jnp.where(valid, jnp.where(empty, 0, z_y), jnp.nan) - m
    e_y = jnp.exp(d)
    # e_y - 1 is exactly 0 for a label that leads; for any other, rest is at least 1
    return jnp.log1p(rest + (e_y - 1)) - d, jnp.where(hot, -rest, e), rest + e_y, empty


def _of_distributions(z: jax.Array, t: jax.Array, label_smoothing: float) -> tuple:
    """With T = sum t:  C = T ln s + sum_k t_k (max z - z_k),  s dC/dz_k = T e_k - s t_k.

    For a class with more than half of s the last cancels; with the sums over all others, rest of e and rest_t of t, it is
    rest_t e_k - rest t_k.
    """
    z, m, empty = anchor(z)
    t = _smoothed(z, t, label_smoothing)
    e = exp_difference(z, m)
    s, rest, dominant = split(e)
    t_sum = jnp.sum(t, axis=-1, keepdims=True)
    rest_t = jnp.sum(jnp.where(dominant, 0, t), axis=-1, keepdims=True)
    costs = jnp.where(t == 0, 0, t * (m - z))  # 0 ln 0 = 0
    losses = t_sum * log_sum(s, rest) + jnp.sum(costs, axis=-1, keepdims=True)
    at_dominant = rest_t * (s - rest) - rest * (t_sum - rest_t)
    return losses, jnp.where(dominant, at_dominant, t_sum * e - s * t), s, empty


def _smoothed(z: jax.Array, t: jax.Array, label_smoothing: float) -> jax.Array:
    """(1 - label_smoothing) t, the rest spread evenly over the classes that are not masked."""
    if not label_smoothing:
        return t
    possible = (z > -jnp.inf).astype(t.dtype)
    return (1 - label_smoothing) * t + label_smoothing * (possible / jnp.sum(possible, axis=-1, keepdims=True))


@constructor
def softmax_cross_entropy(label_smoothing: float = 0.0) -> Loss:
    """C = -sum_k t_k ln p_k with p = softmax(z) on logits z; dC/dz = p - t. For a label y, t is 1 at y: C = -ln p_y.

    With label smoothing a, t becomes (1 - a) t + a / n over the n classes that are not masked.

    Shapes: outputs (batch, *axes, classes) in any floating dtype; targets integer labels (batch, *axes), or distributions of
    the shape of the outputs. Losses (batch, *axes) in at least float32. Residuals: dC/dz times s, and s, the sum of the
    exponentials of a row, in at least float32.

    Digits: dC/dz is right to a few units in the last place in every entry. At the label, where p_y - 1 would cancel, it is minus
    the sum of the other probabilities; for distributions it is p_k sum_{j != k} t_j - t_k sum_{j != k} p_j, which cancels only
    where p_k and t_k are near each other and far from 0 and 1.

    Conventions: finite where differences of logits are. A logit of -inf masks its class: p = 0, cotangent 0; on a masked label
    C = inf and dC/dz = p - t. A row of nothing but -inf counts as a row of equal logits with cotangent 0. Under jit, where values
    cannot be checked, a label outside [0, classes) gives NaN in its row.

    >>> import jax, jaxbp
    >>> loss = jaxbp.losses.softmax_cross_entropy()
    >>> print(loss(jax.numpy.array([[0.0, 0.0], [20.0, 0.0], [-800.0, 800.0]]), jax.numpy.array([0, 0, 0])))
    [6.9314718e-01 2.0611537e-09 1.6000000e+03]

    Raises: ValueError for labels outside [0, classes), distributions that are none, shapes that do not fit and label_smoothing
    outside [0, 1); TypeError for floating labels and integer outputs.
    Source: Nielsen, Neural Networks and Deep Learning, eqs. 78-82; label smoothing: Szegedy et al. 2016.
    """
    if isinstance(label_smoothing, bool) or not isinstance(label_smoothing, (int, float)):
        raise TypeError(f"{_SOFTMAX}: label_smoothing is a number, got {label_smoothing!r}")
    if not 0 <= label_smoothing < 1:
        raise ValueError(f"{_SOFTMAX}: label_smoothing has to lie in [0, 1), got {label_smoothing!r}")
    forward = functools.partial(softmax_cross_entropy_forward, label_smoothing)
    return Loss(forward, softmax_cross_entropy_backward, _SOFTMAX, functools.partial(check_classes, _SOFTMAX))


def sigmoid_parts(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """|z|, ln(1 + e^{-|z|}), sigma(z), sigma(-z), none by a difference, all from one exponential."""
    up = z >= 0
    size = jnp.where(up, z, -z)  # its derivative at 0 is 1, like that of the branches below that are taken there
    e = jnp.exp(-size)
    larger = 1 / (1 + e)
    smaller = e * larger
    return size, jnp.log1p(e), jnp.where(up, larger, smaller), jnp.where(up, smaller, larger)


def sigmoid_cross_entropy_entry(z: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """C = -y ln sigma(z) - (1 - y) ln sigma(-z), dC/dz = sigma(z) - y = (1 - y) sigma(z) - y sigma(-z)."""
    size, near, yes, no = sigmoid_parts(z)
    return near + jnp.where(z >= 0, 1 - y, y) * size, (1 - y) * yes - y * no


@constructor
def sigmoid_cross_entropy() -> Loss:
    """C = sum_k -y_k ln sigma(z_k) - (1 - y_k) ln(1 - sigma(z_k)) on logits z; dC/dz = sigma(z) - y.

    The mathematics of a sigmoid layer and `binary_cross_entropy` in one step, finite for every finite logit.

    Shapes: outputs (batch, *axes, entries) in any floating dtype, targets in [0, 1] of the same shape (a last axis of 1 may be
    left out); losses (batch, *axes) in at least float32. Residual: dC/dz. For targets 0 and 1 it is right to a few units in the
    last place however small: -sigma(-z) where y = 1.

    >>> import jax, jaxbp
    >>> loss = jaxbp.losses.sigmoid_cross_entropy()
    >>> loss(jax.numpy.array([[800.0], [-800.0]]), jax.numpy.array([1, 1])).tolist()
    [0.0, 800.0]

    Raises: ValueError for shapes that do not fit and targets outside [0, 1], TypeError for integer outputs.
    Source: Nielsen, Neural Networks and Deep Learning, eqs. 57-63.
    """
    return entrywise("sigmoid_cross_entropy", sigmoid_cross_entropy_entry, check_unit)
