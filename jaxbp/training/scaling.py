"""Preprocessing fitted on the training rows alone: a pair of pure functions.

    fit(x, sample_weight) -> statistics       rows of weight 0 must not count: they are another fold's, or padding
    apply(statistics, x)  -> scaled x         of a batch, inside the compiled step

The statistics are fitted inside the compiled program, once a run or once a fold, and applied to each batch as it is
gathered: the data are never copied. Any such pair will do; make it of module-level functions, so that a second run
finds the program of the first. `chain` makes one pair of several.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxbp.factors import at_least_float32
from jaxbp.inputs import is_floating


class Scale(NamedTuple):
    """fit(x, sample_weight) -> statistics; apply(statistics, x) -> scaled x.

    takes_nan: whether x may hold NaN for values that are missing. What `apply` gives has to be free of it.
    """

    fit: Callable
    apply: Callable
    takes_nan: bool = False


class Affine(NamedTuple):
    """The map x -> (x - shift) * factor, one shift and one factor a feature."""

    shift: jax.Array
    factor: jax.Array


def _columns(weight: jax.Array, x: jax.Array) -> jax.Array:
    return jnp.broadcast_to(weight.reshape(weight.shape + (1,) * (x.ndim - 1)), x.shape)


def _inverse(spread: jax.Array) -> jax.Array:
    return 1 / jnp.where(spread == 0, 1, spread)  # a constant feature is shifted and left at that


def standardize_fit(x: jax.Array, sample_weight: jax.Array | None = None) -> Affine:
    """shift = sum w x / sum w, factor = 1 / sqrt(sum w (x - shift)^2 / sum w), 1 for a constant feature."""
    x = x.astype(at_least_float32(x))
    weight = jnp.ones(x.shape[0], x.dtype) if sample_weight is None else sample_weight.astype(x.dtype)
    weight = weight / jnp.sum(weight)
    mean = jnp.tensordot(weight, x, 1)
    variance = jnp.sum(_columns(weight, x) * (x - jnp.broadcast_to(mean, x.shape)) ** 2, axis=0)
    # what rounding leaves of a constant feature is no spread
    tiny = (8 * jnp.finfo(x.dtype).eps * jnp.abs(mean)) ** 2
    return Affine(mean, _inverse(jnp.where(variance <= tiny, 0, jnp.sqrt(variance))))


def min_max_fit(x: jax.Array, sample_weight: jax.Array | None = None) -> Affine:
    """shift = min x, factor = 1 / (max x - min x) over the rows of positive weight, 1 for a constant feature."""
    x = x.astype(at_least_float32(x))
    counts = _columns(jnp.ones(x.shape[0]) if sample_weight is None else sample_weight, x) > 0
    low = jnp.min(jnp.where(counts, x, jnp.inf), axis=0)
    high = jnp.max(jnp.where(counts, x, -jnp.inf), axis=0)
    return Affine(low, _inverse(high - low))


class Fill(NamedTuple):
    """What stands in for a missing value, one a feature."""

    value: jax.Array


def impute_fit(x: jax.Array, sample_weight: jax.Array | None = None) -> Fill:
    """sum w x / sum w over the rows of positive weight where x is there, feature by feature; 0 where it is there in none."""
    x = x.astype(at_least_float32(x))
    weight = _columns(jnp.ones(x.shape[0], x.dtype) if sample_weight is None else sample_weight.astype(x.dtype), x)
    weight = jnp.where(jnp.isnan(x), 0, weight)
    total = jnp.sum(weight, axis=0)
    share = weight / jnp.broadcast_to(jnp.where(total == 0, 1, total), x.shape)
    return Fill(jnp.sum(jnp.where(share == 0, 0, share * x), axis=0))  # 0 * NaN is NaN


def impute_apply(statistics: Fill, x: jax.Array) -> jax.Array:
    """x with the fill where it is NaN, in the dtype of x, or of the statistics where x holds integers."""
    x = x if is_floating(x) else x.astype(statistics.value.dtype)
    return jnp.where(jnp.isnan(x), jnp.broadcast_to(statistics.value.astype(x.dtype), x.shape), x)


def impute_marked_apply(statistics: Fill, x: jax.Array) -> jax.Array:
    """The filled x, then along the last axis as many features again: 1 where x was missing, 0 elsewhere."""
    if x.ndim < 2:
        raise ValueError(f"impute_mean(indicator=True): rows of features [n, ..., features] were expected, got {list(x.shape)}")
    y = impute_apply(statistics, x)
    return jnp.concatenate([y, jnp.isnan(x).astype(y.dtype)], axis=-1)


def chain_fit(x: jax.Array, sample_weight: jax.Array | None = None, *, scales: tuple[Scale, ...]) -> tuple:
    """The statistics of each scale, fitted on what those before it make of x."""
    statistics = []
    for scale in scales:
        statistics.append(scale.fit(x, sample_weight))
        x = scale.apply(statistics[-1], x)
    return tuple(statistics)


def chain_apply(statistics: tuple, x: jax.Array, *, scales: tuple[Scale, ...]) -> jax.Array:
    for scale, fitted in zip(scales, statistics, strict=True):
        x = scale.apply(fitted, x)
    return x


def affine_apply(statistics: Affine, x: jax.Array) -> jax.Array:
    """(x - shift) * factor in the dtype of x, or of the statistics where x holds integers."""
    wide = x.astype(statistics.shift.dtype)
    y = (wide - jnp.broadcast_to(statistics.shift, x.shape)) * jnp.broadcast_to(statistics.factor, x.shape)
    return y.astype(x.dtype) if is_floating(x) else y


@functools.cache
def standardize() -> Scale:
    """Mean 0 and standard deviation 1 for every feature of the training rows (weighted; divisor sum w, as for a population)."""
    return Scale(standardize_fit, affine_apply)


@functools.cache
def min_max() -> Scale:
    """Every feature of the training rows on [0, 1]."""
    return Scale(min_max_fit, affine_apply)


@functools.cache
def impute_mean(indicator: bool = False) -> Scale:
    """NaN becomes the mean of its feature:  x_bj <- sum_a w_a x_aj / sum_a w_a  over the training rows a where x_aj is there.

    Shapes: x (n, features) or (n, ..., features), where every entry of an example is a feature of its own; statistics
    `Fill(value)` of the shape of an example. indicator: True appends, along the last axis, features that are 1 where the
    value was missing and 0 where it was there: one for every feature, whether or not it ever misses, since the shape has to
    be known before the data are; the net then has twice the features.

    Conventions: a row of weight 0 does not count; a feature that no training row has is filled with 0 (put `standardize()`
    behind it and that is its mean); infinity is a value, not a gap, and is refused by `fit` and `cross_validate`. The mean
    is taken in at least float32; the result has the dtype of x, float32 where x holds integers, which are never missing.

    >>> import jax.numpy as jnp
    >>> scale = impute_mean(indicator=True)
    >>> x = jnp.array([[1.0, jnp.nan], [3.0, 4.0], [jnp.nan, 8.0]])
    >>> print(scale.apply(scale.fit(x, jnp.array([1.0, 1.0, 0.0])), x))
    [[1. 4. 0. 1.]
     [3. 4. 0. 0.]
     [2. 8. 1. 0.]]
    """
    return Scale(impute_fit, impute_marked_apply if indicator else impute_apply, takes_nan=True)


def chain(*scales: Any) -> Scale:
    """x <- apply_k(s_k, ... apply_1(s_1, x)),  s_i = fit_i(x as scales 1 .. i - 1 left it, sample_weight).

    Statistics: a tuple, one entry a scale. All are fitted inside the traced function, on the training rows and with their
    weights. Missing values may come in where the first scale takes them.

    >>> import jax.numpy as jnp
    >>> scale = chain(impute_mean(), min_max())
    >>> x = jnp.array([[1.0], [jnp.nan], [3.0]])
    >>> print(scale.apply(scale.fit(x), x)[:, 0])
    [0.  0.5 1. ]

    Raises: TypeError for what is no pair (fit, apply), ValueError for none at all.
    """
    checked = [as_scale(scale) for scale in scales]
    if not checked or None in checked:
        raise ValueError(f"chain: one or more pairs (fit, apply) such as standardize() were expected, got {scales}")
    return _chain(*checked)


@functools.cache  # equal chains are one object, so that a second run finds the program of the first
def _chain(*scales: Scale) -> Scale:
    fit, apply = functools.partial(chain_fit, scales=scales), functools.partial(chain_apply, scales=scales)
    return Scale(fit, apply, scales[0].takes_nan)


def as_scale(scale: Any) -> Scale | None:
    """The pair as a Scale; raises TypeError for anything else."""
    if scale is None or isinstance(scale, Scale):
        return scale
    if isinstance(scale, tuple) and len(scale) == 2 and all(callable(f) for f in scale):
        return Scale(*scale)
    hint = "; call it first" if callable(scale) else ""
    raise TypeError(f"scale: a pair of functions (fit, apply) such as standardize() was expected, got {scale!r}{hint}")
