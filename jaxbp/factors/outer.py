"""Outer: the cotangent of a weight matrix."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp.factors.base import CHUNK, Factor, at_least_float32, columns, factor, same_dtype, sq_each, wide


@factor
class Outer(Factor):
    """w_bar = sum_b x_b (outer) y_bar_b (BP4), for a weight of shape (fan_in, fan_out) that multiplies x from the right.

    x: (batch, *time, fan_in); y_bar: (batch, *time, fan_out). Axes between are summed inside each example.
    """

    x: jax.Array
    y_bar: jax.Array

    def total(self, dtype: Any = None) -> jax.Array:
        shared = tuple(range(self.x.ndim - 1))
        x, y_bar = same_dtype(self.x, self.y_bar)
        w_bar = lax.dot_general(x, y_bar, ((shared, shared), ((), ())), preferred_element_type=at_least_float32(x))
        return w_bar.astype(dtype or self.y_bar.dtype)

    def scaled(self, c: jax.Array) -> Outer:
        return Outer(self.x, columns(c, self.y_bar))

    @property
    def T(self) -> Outer:
        """The same cotangent for the transposed parameter: y_bar_b (outer) x_b."""
        return Outer(self.y_bar, self.x)

    def _timed(self) -> tuple[jax.Array, jax.Array]:
        """x and y_bar as (batch, time, features) in float32 or wider; time is 1 where there is none."""
        flat = lambda a: wide(a).reshape(a.shape[0], -1, a.shape[-1])
        return flat(self.x), flat(self.y_bar)

    def _pairs_are_cheaper(self, other: Outer) -> bool:
        steps = min(math.prod(f.x.shape[1:-1]) for f in (self, other))
        return pairs_are_cheaper(steps, self.x.shape[-1], self.y_bar.shape[-1])

    def sq_norms(self) -> jax.Array:
        """|x_b|^2 |y_bar_b|^2 without time; with time sum_ts <x_t, x_s><y_t, y_s>, or instantiated where that is cheaper."""
        if self.x.ndim == 2:
            return sq_each(self.x) * sq_each(self.y_bar)
        if self._pairs_are_cheaper(self):
            return jnp.maximum(self.inner(self), 0)  # a sum of squares that rounding may leave below zero
        return self.map_examples(lambda g: jnp.sum(g**2))

    def inner(self, other: Factor) -> jax.Array:
        if not isinstance(other, Outer) or not self._pairs_are_cheaper(other):
            return super().inner(other)
        (x, y_bar), (u, v_bar) = self._timed(), other._timed()
        return jnp.sum(jnp.einsum("bti,bsi->bts", x, u) * jnp.einsum("bto,bso->bts", y_bar, v_bar), axis=(1, 2))

    def dot(self, v: jax.Array) -> jax.Array:
        """sum_t y_bar_t . (x_t v)."""
        x, y_bar = self._timed()
        return jnp.sum((x @ v.astype(x.dtype)) * y_bar, axis=(1, 2))

    def second_moment(self) -> jax.Array:
        if self.x.ndim == 2:  # (x_i y_o)^2 = x_i^2 y_o^2: one more product of the same size
            return Outer(wide(self.x) ** 2, wide(self.y_bar) ** 2).total()
        return super().second_moment()

    def gram(self, other: Factor | None = None) -> jax.Array:
        if not (other is None or isinstance(other, Outer)):
            return super().gram(other)
        (x, y_bar), (u, v_bar) = self._timed(), (other or self)._timed()
        if x.shape[1] == u.shape[1] == 1:
            return (x[:, 0] @ u[:, 0].T) * (y_bar[:, 0] @ v_bar[:, 0].T)
        return _gram_by_columns(x, y_bar, u, v_bar) if other is not None else _gram_by_columns(x, y_bar)


def pairs_are_cheaper(steps: int, fan_in: int, fan_out: int) -> bool:
    """Whether <g, h> takes fewer multiplications as sum_ts <x_t, u_s><y_t, v_s> than from g and h instantiated.

    steps: of the shorter one. |g|^2 over pairs then takes less room than g too.
    """
    return steps == 1 or steps * (fan_in + fan_out) <= fan_in * fan_out


def _gram_by_columns(x: jax.Array, y_bar: jax.Array, u: Any = None, v_bar: Any = None) -> jax.Array:
    """<g_b, h_c>, g = x^T y_bar and h = u^T v_bar instantiated some columns at a time: about `CHUNK` parameters of memory.

    Summing over all pairs of steps instead takes, at 64 examples, 128 x 128 weights and 48 steps, 15 times as long.
    """
    batch, _, features = y_bar.shape
    others = batch if v_bar is None else len(v_bar)
    width = min(features, max(1, features * CHUNK // max(batch, others)))

    def add(total: jax.Array, block: tuple) -> tuple[jax.Array, None]:
        g = _flat_examples(x, block[0])
        h = g if v_bar is None else _flat_examples(u, block[1])
        return total + g @ h.T, None

    blocks = tuple(_split_columns(a, width) for a in (y_bar, v_bar) if a is not None)
    return lax.scan(add, jnp.zeros((batch, others), y_bar.dtype), blocks)[0]


def _flat_examples(x: jax.Array, y_bar: jax.Array) -> jax.Array:
    return jnp.einsum("bti,bto->bio", x, y_bar).reshape(len(x), -1)


def _split_columns(a: jax.Array, width: int) -> jax.Array:
    """(blocks, batch, time, width); columns of zeros, which add nothing, fill the last block."""
    short = -a.shape[-1] % width
    a = jnp.pad(a, ((0, 0), (0, 0), (0, short)))
    return jnp.moveaxis(a.reshape(*a.shape[:-1], -1, width), -2, 0)
