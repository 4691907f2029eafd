"""What the losses share that are a sum over entries: one formula gives the value of an entry and its slope."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.contracts import Loss
from jaxbp.factors import at_least_float32
from jaxbp.losses.targets import require_alike


def entrywise(name: str, rule: Callable, check: Callable) -> Loss:
    """The Loss sum_k C(a_k, y_k) of a rule (a, y) -> C, dC/da on arrays of one shape in float32 or wider."""
    return Loss(functools.partial(entrywise_forward, name, rule), entrywise_backward, name, functools.partial(check, name))


def entrywise_forward(name: str, rule: Callable, outputs: jax.Array, targets: jax.Array) -> tuple[jax.Array, tuple]:
    """sum_k C(a_k, y_k) over the last axis. Residuals: the slopes dC/da, and the dtype of the outputs."""
    require_alike(name, outputs, targets)
    a = widened(outputs)
    values, slopes = rule(a, jnp.reshape(targets, a.shape).astype(a.dtype))
    return jnp.sum(values, axis=-1), (slopes, dtype_of(outputs))


def entrywise_backward(residuals: tuple, losses_bar: jax.Array) -> jax.Array:
    """a_bar = dC/da losses_bar."""
    slopes, like = residuals
    return (slopes * per_row(losses_bar, slopes)).astype(like.dtype)


def widened(outputs: Any) -> jax.Array:
    """outputs in float32, or as they are where wider."""
    return jnp.asarray(outputs, at_least_float32(outputs))


def dtype_of(outputs: jax.Array) -> jax.Array:
    """An empty array, to carry the dtype of the outputs among residuals."""
    return jnp.zeros((0,), outputs.dtype)


def per_row(losses_bar: jax.Array, like: jax.Array) -> jax.Array:
    """losses_bar in the dtype of `like`, with a last axis of 1: one factor for all entries of a row."""
    return losses_bar.astype(like.dtype)[..., None]
