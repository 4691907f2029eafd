"""Errors in units in the last place, and the points to look for them at."""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np


@functools.lru_cache
def sweep(dtype: Any, bound: float = 100.0, points: int = 300_001) -> np.ndarray:
    """Every scale of [-bound, bound] in `dtype`, as float64: evenly spaced points, logarithmic ones, 0. None is subnormal."""
    tiny = float(jnp.finfo(dtype).tiny)
    steep = np.geomspace(tiny, bound, points // 3)
    x = np.concatenate([np.linspace(-bound, bound, points), steep, -steep, [0.0]])
    x = np.unique(np.asarray(jnp.asarray(x, dtype)).astype(np.float64))
    return x[(np.abs(x) >= tiny) | (x == 0)]


def is_normal(truth: np.ndarray, dtype: Any) -> np.ndarray:
    return np.abs(truth) >= float(jnp.finfo(dtype).tiny)


def ulp_errors(got: Any, truth: np.ndarray, dtype: Any, scale: float | None = None) -> np.ndarray:
    """|got - truth| in ulps of `truth` (or of `scale`), both float64; 0 where the truth is no normal number of `dtype`."""
    counted = is_normal(truth, dtype)
    size = np.where(counted, np.abs(truth), 1.0) if scale is None else scale
    ulp = float(jnp.finfo(dtype).eps) * 2.0 ** np.floor(np.log2(size))
    errors = np.abs(np.asarray(got).astype(np.float64) - truth) / ulp
    return np.where(counted, np.where(np.isnan(errors), np.inf, errors), 0.0)
