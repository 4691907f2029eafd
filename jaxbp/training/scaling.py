"""Scaling fitted on the training rows alone: a pair of pure functions.

    fit(x, sample_weight) -> statistics       rows of weight 0 must not count: they are another fold's, or padding
    apply(statistics, x)  -> scaled x         of a batch, inside the compiled step

The statistics are fitted inside the compiled program, once a run or once a fold, and applied to each batch as it is
gathered: the data are never copied. Any such pair will do; make it of module-level functions, so that a second run
finds the program of the first.
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
    """fit(x, sample_weight) -> statistics; apply(statistics, x) -> scaled x."""

    fit: Callable
    apply: Callable


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


def as_scale(scale: Any) -> Scale | None:
    """The pair as a Scale; raises TypeError for anything else."""
    if scale is None or isinstance(scale, Scale):
        return scale
    if isinstance(scale, tuple) and len(scale) == 2 and all(callable(f) for f in scale):
        return Scale(*scale)
    hint = "; call it first" if callable(scale) else ""
    raise TypeError(f"scale: a pair of functions (fit, apply) such as standardize() was expected, got {scale!r}{hint}")
