"""Softmax and log-softmax over the last axis, and the exponentials that they share with their losses.

Everything is relative to the largest logit m: e_k = exp(x_k - m) <= 1 and s = sum e_k >= 1. Two habits keep every digit at
any margin: the rounding error of x_k - m is carried, because exp makes of an absolute error a relative one (32 units in
the last place at a margin of 80); and one minus a probability is the sum of the others, never a subtraction from 1.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp import inputs
from jaxbp.contracts import Layer, constructor, deterministic
from jaxbp.factors import at_least_float32


def anchor(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(z, m, empty), m = max z over the last axis, kept as an axis; a constant to autodiff, as no result depends on it.

    empty marks rows of nothing but -inf. By convention these count as constant rows of zeros: all classes equally likely,
    cotangent 0.
    """
    m = lax.stop_gradient(jnp.max(z, axis=-1, keepdims=True))
    empty = m == -jnp.inf
    floor = jnp.where(empty, 0.0, -jnp.inf).astype(z.dtype)
    return jnp.where(z < floor, floor, z), jnp.where(empty, 0, m), empty  # where(empty, 0, z) runs three times as long on CPU


def exp_difference(z: jax.Array, m: jax.Array) -> jax.Array:
    """exp(z - m) with the rounding error of the difference (Knuth's TwoSum) carried: exp(d + err) = exp(d) (1 + err)."""
    d = z - m
    z, m, rounded = lax.stop_gradient((z, m, d))
    minus_m = rounded - z
    err = (z - (rounded - minus_m)) - (m + minus_m)
    # times 1 + err, not plus exp(d) err, which is flushed to zero long before exp(d) is
    return jnp.exp(d) * jnp.where(rounded == -jnp.inf, 1, 1 + err)


def split(e: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(s, rest, dominant) of e >= 0: s = sum e over the last axis, dominant the entry above s / 2, rest = sum e without it.

    s and rest keep the axis. A row has at most one dominant entry; of e = exp_difference(z, max z) it is the maximum, exactly 1.
    """
    s = jnp.sum(e, axis=-1, keepdims=True)
    dominant = 2 * e > s
    return s, jnp.sum(jnp.where(dominant, 0, e), axis=-1, keepdims=True), dominant


def log_sum(s: jax.Array, rest: jax.Array) -> jax.Array:
    """ln s for (s, rest) = split(exp_difference(z, max z)): log1p(rest) where s < 2, as the dominant entry is 1."""
    s_minus_1 = jnp.where(s < 2, rest, s - 1)
    return jnp.log1p(lax.stop_gradient(s_minus_1) + (s - lax.stop_gradient(s)))  # its value, with the derivative of s


def softmax_forward(params: tuple, x: jax.Array) -> tuple[jax.Array, tuple]:
    """y_k = e^{x_k} / sum_j e^{x_j}. Residuals: y, and which rows are empty."""
    z, m, empty = anchor(x.astype(at_least_float32(x)))
    e = exp_difference(z, m)
    y = (e / jnp.sum(e, axis=-1, keepdims=True)).astype(x.dtype)
    return y, (y, empty)


def softmax_backward(params: tuple, residuals: tuple, y_bar: jax.Array) -> tuple[tuple, jax.Array]:
    """x_bar_k = y_k (y_bar_k - sum_j y_j y_bar_j), the Jacobian being diag(y) - y y^T."""
    y, empty = residuals
    p, bar = y.astype(at_least_float32(y)), y_bar.astype(at_least_float32(y))
    # sum y = 1, so y_bar may be shifted by a constant: by its entry where y > 1/2, which would cancel between the two terms
    bar = bar - lax.stop_gradient(jnp.sum(jnp.where(2 * p > 1, bar, 0), axis=-1, keepdims=True))
    x_bar = p * (bar - jnp.sum(p * bar, axis=-1, keepdims=True))
    return (), jnp.where(empty, 0, x_bar).astype(y.dtype)


def log_softmax_forward(params: tuple, x: jax.Array) -> tuple[jax.Array, tuple]:
    """y_k = x_k - log sum_j e^{x_j}. Residuals: the softmax p = e^y, and which rows are empty."""
    z, m, empty = anchor(x.astype(at_least_float32(x)))
    e = exp_difference(z, m)
    s, rest, _ = split(e)
    return ((z - m) - log_sum(s, rest)).astype(x.dtype), ((e / s).astype(x.dtype), empty)


def log_softmax_backward(params: tuple, residuals: tuple, y_bar: jax.Array) -> tuple[tuple, jax.Array]:
    """x_bar_k = y_bar_k - p_k sum_j y_bar_j; where that cancels, y_bar_k sum_{j != k} p_j - p_k sum_{j != k} y_bar_j."""
    narrow, empty = residuals
    p, bar = narrow.astype(at_least_float32(narrow)), y_bar.astype(at_least_float32(narrow))
    cancels = 2 * p > 1  # at most one a row
    others = lambda a: jnp.sum(jnp.where(cancels, 0, a), axis=-1, keepdims=True)
    x_bar = jnp.where(cancels, bar * others(p) - p * others(bar), bar - p * jnp.sum(bar, axis=-1, keepdims=True))
    return (), jnp.where(empty, 0, x_bar).astype(narrow.dtype)


def _softmax_init(key: Any, spec: Any, *, name: str) -> tuple:
    spec = inputs.as_spec(spec)
    inputs.require_floating(name, spec)
    if not spec.shape or spec.shape[-1] == 0:
        raise ValueError(f"{name}: one example needs a last axis of at least one class, got shape {list(spec.shape)}")
    return (), spec


@constructor
def softmax() -> Layer:
    """y_k = e^{x_k} / sum_j e^{x_j} over the last axis, with its full Jacobian product x_bar = y (y_bar - sum y y_bar).

    Shapes and dtype: x (batch, *axes, classes) in any floating dtype, y the same; sums in at least float32. Residuals: y and
    a boolean a row. Finite for every finite x. An x_k of -inf (a masked class) has y_k = 0. A row of nothing but -inf
    is given equal probabilities and cotangent 0.

    For training with `losses.log_likelihood` on these outputs as the classics do; `losses.softmax_cross_entropy` on logits is
    the same mathematics in one step, which cannot underflow.

    >>> import jax, jaxbp
    >>> layer = jaxbp.softmax()
    >>> params, _ = layer.init(jax.random.key(0), (2,))
    >>> layer(params, jax.numpy.array([[0.0, 0.0], [800.0, -800.0]])).tolist()
    [[0.5, 0.5], [1.0, 0.0]]

    Raises: TypeError for integer x, ValueError for examples without a last axis.
    Source: Nielsen, Neural Networks and Deep Learning, eq. 78.
    """
    return deterministic("softmax", functools.partial(_softmax_init, name="softmax"), softmax_forward, softmax_backward)


@constructor
def log_softmax() -> Layer:
    """y_k = x_k - log sum_j e^{x_j} over the last axis, with x_bar = y_bar - e^y sum y_bar.

    Shapes and dtype: x (batch, *axes, classes) in any floating dtype, y the same; sums in at least float32. Residuals: e^y
    and a boolean a row. Finite where differences of x are; the entry of a dominant class keeps its digits however near to 0.
    An x_k of -inf (a masked class) has y_k = -inf. A row of nothing but -inf gets -log(classes) and cotangent 0.

    >>> import jax, jaxbp
    >>> layer = jaxbp.log_softmax()
    >>> params, _ = layer.init(jax.random.key(0), (2,))
    >>> layer(params, jax.numpy.array([[800.0, -800.0]])).tolist()
    [[0.0, -1600.0]]

    Raises: TypeError for integer x, ValueError for examples without a last axis.
    """
    init = functools.partial(_softmax_init, name="log_softmax")
    return deterministic("log_softmax", init, log_softmax_forward, log_softmax_backward)
