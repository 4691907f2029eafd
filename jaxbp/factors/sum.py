"""Sum: the cotangent of a parameter that is used several times."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxbp.factors.base import Factor, at_least_float32, factor


@factor
class Sum(Factor):
    """g_b = sum_i g_b^(i): one parameter used several times (tied weights), cross terms included.

    parts: factors of the same parameter and batch.
    """

    reach: ClassVar[int] = 2

    parts: tuple[Factor, ...]

    @property
    def batch(self) -> int:
        (batch,) = {part.batch for part in self.parts}
        return batch

    def total(self, dtype: Any = None) -> jax.Array:
        totals = [part.total(dtype=at_least_float32(part.dtype)) for part in self.parts]
        return sum(totals[1:], totals[0]).astype(dtype or self.dtype)

    def scaled(self, c: jax.Array) -> Sum:
        return Sum(tuple(part.scaled(c) for part in self.parts))

    def examples(self) -> jax.Array:
        return sum(part.examples() for part in self.parts)  # type: ignore[return-value]

    def sq_norms(self) -> jax.Array:
        norms = sum(part.sq_norms() for part in self.parts)
        pairs = [(a, b) for i, a in enumerate(self.parts) for b in self.parts[:i]]
        return jnp.maximum(norms + 2 * sum(a.inner(b) for a, b in pairs), 0)

    def inner(self, other: Factor) -> jax.Array:
        return sum(part.inner(other) for part in self.parts)  # type: ignore[return-value]

    def gram(self, other: Factor | None = None) -> jax.Array:
        others = self.parts if other is None else other.parts if isinstance(other, Sum) else (other,)
        return sum(g.gram(h) for g in self.parts for h in others)  # type: ignore[return-value]

    def dot(self, v: jax.Array) -> jax.Array:
        return sum(part.dot(v) for part in self.parts)  # type: ignore[return-value]
