"""Whole and Statistic: what has no cotangent per example."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from jaxbp.factors.base import Factor, factor


@factor
class Whole(Factor):
    """A cotangent of which only the sum over the batch is kept: layers in which examples meet, models that are not ours.

    value: the shape of the parameter. It answers `total` alone.
    """

    reach: ClassVar[int] = 3

    value: jax.Array

    def total(self, dtype: Any = None) -> jax.Array:
        return self.value.astype(dtype or self.value.dtype)

    def _only_the_sum(self, *_: Any, **__: Any) -> Any:
        raise ValueError(_ONLY_SUM)

    @property
    def batch(self) -> int:
        raise ValueError(_ONLY_SUM)

    scaled = examples = sq_norms = inner = dot = second_moment = gram = _example = map_examples = _only_the_sum


_ONLY_SUM = (
    "this parameter keeps only the sum of its cotangent over the batch (factor Whole): its layer mixes the examples of a "
    "batch or is a lifted model, so per-example quantities are not defined here; use a net without such layers"
)


@factor
class Statistic(Whole):
    """A new value for a population statistic (batch norm's running mean). Its gradient is zero; a trainer reads `value`."""

    def total(self, dtype: Any = None) -> jax.Array:
        return jnp.zeros(self.value.shape, dtype or self.value.dtype)
