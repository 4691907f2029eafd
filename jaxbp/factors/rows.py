"""Rows: the cotangent of a table that is read by index."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp.factors.base import Factor, at_least_float32, columns, factor, sq_each, static, wide
from jaxbp.factors.outer import Outer


@factor
class Rows(Factor):
    """table_bar[i] = sum over (b, t) with indices[b, t] = i of rows[b, t]: the cotangent of a look-up, never a dense table.

    indices: (batch, *time) integers; rows: (batch, *time, width); size: the number of rows of the table. An index outside
    [0, size) adds nothing.
    """

    reach: ClassVar[int] = 1

    indices: jax.Array
    rows: jax.Array
    size: int = static()

    def total(self, dtype: Any = None) -> jax.Array:
        zero = jnp.zeros((self.size, self.rows.shape[-1]), at_least_float32(self.rows))
        return self.add_to(zero).astype(dtype or self.rows.dtype)

    def add_to(self, table: jax.Array) -> jax.Array:
        """table + total, by scattering the rows: its cost does not depend on the table's size where `table` is donated."""
        return _at(table, self.indices).add(self.rows.astype(table.dtype), mode="drop")

    def scaled(self, c: jax.Array) -> Rows:
        return Rows(self.indices, columns(c, self.rows), self.size)

    def merged(self) -> Rows:
        """The same factor with each index at most once an example: repeats are summed into one row, the rest dropped."""
        return Rows(*jax.vmap(self._merge_one)(*self._flat()), self.size)

    def _flat(self) -> tuple[jax.Array, jax.Array]:
        """indices (batch, time) and rows (batch, time, width) in float32 or wider; time is 1 where there is none."""
        steps = math.prod(self.indices.shape[1:])
        return self.indices.reshape(-1, steps), wide(self.rows).reshape(-1, steps, self.rows.shape[-1])

    def _merge_one(self, indices: jax.Array, rows: jax.Array) -> tuple[jax.Array, jax.Array]:
        valid = (indices >= 0) & (indices < self.size)
        indices = jnp.where(valid, indices, self.size)
        order = jnp.argsort(indices)
        ordered = indices[order]
        group = jnp.cumsum(jnp.concatenate([jnp.zeros(1, jnp.int32), (ordered[1:] != ordered[:-1]).astype(jnp.int32)]))
        summed = jax.ops.segment_sum(rows[order], group, indices.shape[0])
        first = jnp.full(indices.shape, self.size, indices.dtype).at[group].set(ordered)
        return first, jnp.where((first < self.size)[:, None], summed, 0)

    def sq_norms(self) -> jax.Array:
        return sq_each(self.merged().rows)

    def inner(self, other: Factor) -> jax.Array:
        if isinstance(other, Outer):  # <Rows, sum_s x_s (outer) y_s> = sum_ts x_s[i_t] (row_t . y_s)
            x, y_bar = other._timed()
            indices, rows = self._flat()
            indices = jnp.where(indices < 0, self.size, indices)
            picked = jax.vmap(lambda x, i: x.at[:, i].get(mode="fill", fill_value=0))(x, indices)
            return jnp.sum(picked * jnp.einsum("bsd,btd->bst", y_bar, rows), axis=(1, 2))
        if isinstance(other, Rows):  # sum_ts [i_t = j_s] row_t . row'_s
            i, r = self._flat()
            j, s = other._flat()
            meet = (i[:, :, None] == j[:, None, :]) & ((i >= 0) & (i < self.size))[:, :, None]
            return jnp.sum(jnp.where(meet, jnp.einsum("btd,bsd->bts", r, s), 0), axis=(1, 2))
        return super().inner(other)

    def dot(self, v: jax.Array) -> jax.Array:
        picked = _at(wide(v), self.indices).get(mode="fill", fill_value=0)
        return jnp.sum((picked * wide(self.rows)).reshape(self.batch, -1), axis=1)

    def gram(self, other: Factor | None = None) -> jax.Array:
        other = self if other is None else other
        if not isinstance(other, Rows):
            return super().gram(other)
        with_all = lambda one: jax.vmap(lambda h: one.of_one().inner(h.of_one())[0])(other)
        return lax.map(with_all, self)

    def second_moment(self) -> jax.Array:
        merged = self.merged()
        zero = jnp.zeros((self.size, self.rows.shape[-1]), merged.rows.dtype)
        return _at(zero, merged.indices).add(merged.rows**2, mode="drop")


def _at(table: jax.Array, indices: jax.Array) -> Any:
    # a negative index counts from the end in NumPy's convention; here it is outside, like one that is too large
    return table.at[jnp.where(indices < 0, table.shape[0], indices)]
