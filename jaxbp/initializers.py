"""Initial values: `initializer(key, shape, dtype)` draws one parameter.

fan_in and fan_out are the products over the axes before the last and over the last axis, as in (fan_in, fan_out) or
(height, width, in, out).
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxbp.contracts import Call, Constructed, constructor


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class Initializer(Constructed):
    draw: Callable
    name: str
    call: Call | None = None

    def __call__(self, key: jax.Array, shape: tuple[int, ...], dtype: jnp.dtype = jnp.float32) -> jax.Array:  # type: ignore[assignment]
        return self.draw(key, shape, dtype)


def _normal(key, shape, dtype, *, stddev):
    return jnp.asarray(stddev, dtype) * jax.random.normal(key, shape, dtype)


def _uniform(key, shape, dtype, *, low, high):
    return jax.random.uniform(key, shape, dtype, low, high)


def _constant(key, shape, dtype, *, value):
    return jnp.full(shape, value, dtype)


def _scaled_normal(key, shape, dtype, *, gain, fan):
    fan_in, fan_out = math.prod(shape[:-1]), shape[-1] * math.prod(shape[:-2])
    n = {"in": fan_in, "out": fan_out, "average": (fan_in + fan_out) / 2}[fan]
    return math.sqrt(gain / n) * jax.random.normal(key, shape, dtype)


@constructor
def normal(stddev: float = 1.0) -> Initializer:
    """N(0, stddev^2). `normal()` is Nielsen's "large" initialisation."""
    return Initializer(functools.partial(_normal, stddev=stddev), "normal")


@constructor
def uniform(low: float, high: float) -> Initializer:
    """U(low, high)."""
    if not low < high:
        raise ValueError(f"uniform: low has to lie below high, got {low} and {high}")
    return Initializer(functools.partial(_uniform, low=low, high=high), "uniform")


@constructor
def constant(value: float) -> Initializer:
    return Initializer(functools.partial(_constant, value=value), "constant")


@constructor
def zeros() -> Initializer:
    return Initializer(functools.partial(_constant, value=0), "zeros")


@constructor
def ones() -> Initializer:
    return Initializer(functools.partial(_constant, value=1), "ones")


@constructor
def lecun_normal() -> Initializer:
    """N(0, 1/fan_in): keeps the variance of sums of inputs. Nielsen's "default" initialisation."""
    return Initializer(functools.partial(_scaled_normal, gain=1.0, fan="in"), "lecun_normal")


@constructor
def glorot_normal() -> Initializer:
    """N(0, 2/(fan_in + fan_out)) (Glorot & Bengio 2010)."""
    return Initializer(functools.partial(_scaled_normal, gain=1.0, fan="average"), "glorot_normal")


@constructor
def he_normal() -> Initializer:
    """N(0, 2/fan_in), for relu (He et al. 2015)."""
    return Initializer(functools.partial(_scaled_normal, gain=2.0, fan="in"), "he_normal")
