"""Each: the cotangent of a parameter that has one small array an example."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from jaxbp.factors.base import Factor, columns, factor, sq_each, static, wide


@factor
class Each(Factor):
    """b_bar = sum_b value_b, for a parameter small enough to have one cotangent an example: biases, gains.

    value: (batch, *time, *shape), where `shape`, the last `ndim` axes, is the parameter's; axes between are summed.
    """

    value: jax.Array
    ndim: int = static(default=1)

    def total(self, dtype: Any = None) -> jax.Array:
        summed = tuple(range(self.value.ndim - self.ndim))
        return jnp.sum(wide(self.value), axis=summed).astype(dtype or self.value.dtype)

    def scaled(self, c: jax.Array) -> Each:
        return Each(columns(c, self.value), self.ndim)

    def examples(self) -> jax.Array:
        return jnp.sum(wide(self.value), axis=tuple(range(1, self.value.ndim - self.ndim)))

    def sq_norms(self) -> jax.Array:
        return sq_each(self.examples())

    def inner(self, other: Factor) -> jax.Array:
        if not isinstance(other, Each):
            return super().inner(other)
        return jnp.sum(self.examples() * other.examples(), axis=tuple(range(1, 1 + self.ndim)))

    def dot(self, v: jax.Array) -> jax.Array:
        return jnp.tensordot(self.examples(), wide(v), self.ndim)

    def second_moment(self) -> jax.Array:
        return jnp.sum(self.examples() ** 2, axis=0)
