"""Sums of exponentials, for any JAX code: logsumexp and softmax cross-entropy.

Everything is relative to the largest entry m: e_k = exp(x_k - m) <= 1. The rounding error of x_k - m is carried, because exp
makes of an absolute error a relative one, and one minus a probability is the sum of the others. A +inf counts as the largest
number of its dtype, so that no difference is inf - inf.
"""

from __future__ import annotations

import functools
import operator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from jaxbp import inputs
from jaxbp.ops.lengths import axes_of, total, wide, without


def anchored(axes: tuple[int, ...], x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(x, m, empty): x without +inf, m its largest entry, a constant; empty marks rows of nothing but -inf, whose m is 0."""
    largest = float(jnp.finfo(x.dtype).max)
    m = jnp.minimum(lax.stop_gradient(jnp.max(x, axis=axes, keepdims=True)), largest)
    empty = m == -jnp.inf
    return jnp.where(x > largest, largest, x), jnp.where(empty, 0, m), empty


def _root(x: jax.Array) -> float:
    """2^32 (float64: 2^256). Exponentials are multiplied by its square, so that a sum of flushed ones is not flushed."""
    return 2.0 ** -(int(jnp.finfo(x.dtype).minexp) // 4)


def exp_difference(x: jax.Array, m: jax.Array) -> jax.Array:
    """root^2 exp(x - m) with the rounding error of the difference (Knuth's TwoSum) carried: exp(d + err) = exp(d) (1 + err)."""
    d = x - m
    x, m, rounded = lax.stop_gradient((x, m, d))
    minus_m = rounded - x
    err = (x - (rounded - minus_m)) - (m + minus_m)
    half = _root(x) * jnp.exp(d / 2)
    return half * half * jnp.where(rounded == -jnp.inf, 1, 1 + err)


def _reciprocal(s: jax.Array) -> jax.Array:
    """1 / s of a sum with the factor root^2; by way of 1 / (s / root^2), whose derivative has no root^-4 to be flushed."""
    unit = _root(s) ** -2
    return (1 / (s * unit)) * unit


def _exponentials(axes: tuple[int, ...], x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """(e, s, m, empty), s the sum of e, root^2 where the row is empty."""
    x, m, empty = anchored(axes, x)
    e = exp_difference(x, m)
    return e, jnp.where(empty, _root(x) ** 2, total(e, axes)), m, empty


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _logsumexp(axes: tuple[int, ...], x: jax.Array) -> jax.Array:
    _, s, m, empty = _exponentials(axes, x)
    y = jnp.where(empty, -jnp.inf, m + jnp.log(s * _root(x) ** -2))
    return jnp.where(jnp.max(x, axis=axes, keepdims=True) == jnp.inf, jnp.inf, y)


@_logsumexp.defjvp
def _logsumexp_jvp(axes: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple:
    (x,), (x_dot,) = primals, tangents
    return _logsumexp(axes, x), total(_softmax(axes, x) * x_dot, axes)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _softmax(axes: tuple[int, ...], x: jax.Array) -> jax.Array:
    e, s, _, _ = _exponentials(axes, x)
    return e * _reciprocal(s)


@_softmax.defjvp
def _softmax_jvp(axes: tuple[int, ...], primals: tuple, tangents: tuple) -> tuple:
    (x,), (x_dot,) = primals, tangents
    p = _softmax(axes, x)
    return p, p * (x_dot - total(p * x_dot, axes))


def logsumexp(x: Any, axis: Any = None, *, keepdims: bool = False) -> jax.Array:
    """log(sum exp(x)) over `axis` (None: all axes); derivative softmax(x).

    Conventions: a row of nothing but -inf gives -inf with derivative 0; an entry of inf gives inf, and the entries of inf share
    the derivative 1 among them.

    >>> import jax, jax.numpy as jnp
    >>> print(jax.grad(logsumexp)(jnp.full(2, -jnp.inf)), jax.grad(logsumexp)(jnp.array([jnp.inf, 0.0])))
    [0. 0.] [1. 0.]

    Raises: TypeError for integer x, ValueError for an axis that x has not.
    """
    a = wide("logsumexp", x)
    axes = axes_of("logsumexp", a, axis)
    return without(_logsumexp(axes, a), axes, keepdims, jnp.result_type(x))


# --- softmax cross-entropy, the classes on the last axis

LAST = (-1,)


def _at(hot: jax.Array, labels: jax.Array, z: jax.Array) -> jax.Array:
    """z at the labels: for few classes a masked sum is faster on CPU, for many a gather."""
    if z.shape[-1] <= 64:
        return total(jnp.where(hot, z, 0), LAST)
    return jnp.take_along_axis(z, labels, axis=-1, mode="clip")


def _of_labels(z: jax.Array, labels: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(C, dC/dz): with rest = sum_{j != y} e_j, C = log(rest + e_y) - log(e_y), dC/dz_y = -rest / s, dC/dz_k = e_k / s."""
    z, m, empty = anchored(LAST, z)
    labels = labels.astype(jnp.promote_types(labels.dtype, jnp.int32))[..., None]  # the classes may not fit in a narrow type
    hot = labels == lax.broadcasted_iota(labels.dtype, z.shape, z.ndim - 1)
    valid = (labels >= 0) & (labels < z.shape[-1])
    z_y = _at(hot, labels, z)
    e = exp_difference(jnp.where(hot, -jnp.inf, z), m)
    rest = total(e, LAST)
    d = jnp.where(empty, 0, jnp.where(valid, z_y, jnp.nan) - m)
    e_y, one = exp_difference(d, jnp.zeros_like(d)), _root(z) ** 2
    inverse = jnp.where(empty, 0, _reciprocal(jnp.where(empty, one, rest + e_y)))
    # e_y - one is exactly 0 for a label that leads; for any other, rest is at least one
    log_s = jnp.log1p(jnp.where(empty, z.shape[-1] - 1, (rest + (e_y - one)) / one))
    return log_s - d, jnp.where(hot, -rest, e) * inverse


def _of_distributions(z: jax.Array, t: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(C, dC/dz, dC/dt): C = sum_k t_k c_k, c_k = log(s) + m - z_k, and with T = sum t, s dC/dz_k = T e_k - s t_k.

    For a class with more than half of s that difference cancels; with the sums over the others it is rest_t e_k - rest t_k.
    """
    z, m, empty = anchored(LAST, z)
    floor = jnp.where(empty, 0.0, -jnp.inf).astype(z.dtype)
    z = jnp.where(z < floor, floor, z)  # where(empty, 0, z) runs three times as long on CPU
    e = exp_difference(z, m)
    s = total(e, LAST)
    dominant = 2 * e > s
    rest, rest_t = total(jnp.where(dominant, 0, e), LAST), total(jnp.where(dominant, 0, t), LAST)
    t_sum = total(t, LAST)
    one = _root(z) ** 2
    over = lax.stop_gradient(
        jnp.where(s < 2 * one, rest, s - one)
    )  # where s < 2 the largest entry, exactly 1, is the dominant one
    log_s = jnp.log1p((over + (s - lax.stop_gradient(s))) / one)  # its value, with the derivative of s
    costs = log_s + (m - z)
    costs = jnp.where((t == 0) & (costs == jnp.inf), 0, costs)  # 0 log 0 = 0
    slopes = jnp.where(dominant, rest_t * (s - rest) - rest * (t_sum - rest_t), t_sum * e - s * t)
    return total(t * costs, LAST), slopes * jnp.where(empty, 0, _reciprocal(s)), costs


@jax.custom_jvp
def _labels_loss(z: jax.Array, labels: jax.Array) -> jax.Array:
    return _of_labels(z, labels)[0]


@_labels_loss.defjvp
def _labels_loss_jvp(primals: tuple, tangents: tuple) -> tuple:
    return _labels_loss(*primals), total(_of_labels(*primals)[1] * tangents[0], LAST)


@jax.custom_jvp
def _distributions_loss(z: jax.Array, t: jax.Array) -> jax.Array:
    return _of_distributions(z, t)[0]


@functools.partial(_distributions_loss.defjvp, symbolic_zeros=True)
def _distributions_loss_jvp(primals: tuple, tangents: tuple) -> tuple:
    parts = zip(_of_distributions(*primals)[1:], tangents, strict=True)
    moving = [total(slope * dot, LAST) for slope, dot in parts if not isinstance(dot, SymbolicZero)]
    y = _distributions_loss(*primals)
    return y, functools.reduce(operator.add, moving) if moving else jnp.zeros_like(y)


def softmax_cross_entropy(logits: Any, targets: Any) -> jax.Array:
    """-sum_k t_k log p_k over the last axis, p = softmax(logits); derivative p - t in the logits, -log p in the distributions.

    Shapes: logits (*batch, classes); targets integer labels (*batch), or distributions of the shape of the logits. The result,
    (*batch), has the dtype of the logits.

    At a label, where p_y - 1 would cancel, the derivative is minus the sum of the other probabilities: right to its last
    digits at any margin. Conventions: a logit of -inf masks its class (p = 0, derivative 0; on a masked label the result is inf
    and the derivative p - t); a row of nothing but -inf counts as a row of equal logits with derivative 0; a logit of inf counts
    as the largest number of its dtype; 0 log 0 = 0. A label outside [0, classes) gives NaN in its row.

    >>> import jax, jax.numpy as jnp
    >>> print(jax.grad(softmax_cross_entropy)(jnp.array([20.0, 0.0]), 0))
    [-2.0611537e-09  2.0611537e-09]

    Raises: TypeError for integer logits and floating labels, ValueError for shapes that do not fit.
    """
    z, targets = wide("softmax_cross_entropy", logits), jnp.asarray(targets)
    if not z.ndim or not z.shape[-1]:
        raise ValueError(f"softmax_cross_entropy: logits need a last axis of classes, got {inputs.describe(z)}")
    if targets.shape == z.shape:
        loss = _distributions_loss(z, targets.astype(z.dtype))
    elif targets.shape != z.shape[:-1]:
        raise ValueError(
            f"softmax_cross_entropy: labels {list(z.shape[:-1])} or distributions {list(z.shape)} were expected for the logits, "
            f"got {inputs.describe(targets)}"
        )
    elif jnp.issubdtype(targets.dtype, jnp.integer):
        loss = _labels_loss(z, targets)
    else:
        raise TypeError(f"softmax_cross_entropy: labels are integers, got {inputs.describe(targets)}; use targets.astype(int)")
    return without(loss, (z.ndim - 1,), False, jnp.result_type(logits))
