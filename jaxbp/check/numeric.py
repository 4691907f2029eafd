"""The truth where the primal has no autodiff: the ladder alone, entry by entry where there are few, by bisection where many."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxbp.check import ladder
from jaxbp.check.instruments import Instruments


FEW = 128


class Numeric(NamedTuple):
    """true: by the ladder, NaN at entries that were not measured. error: the largest error of a measured entry or direction.

    tolerance: 10 times the ladder's own error estimate.
    """

    true: np.ndarray
    error: float
    tolerance: float
    wrong: bool


def leaf(tools: Instruments, leaves: tuple, seeds: Any, i: int, claimed: np.ndarray, noise: float) -> Numeric:
    """One result of a reverse-mode problem against the ladder."""
    x = np.asarray(leaves[tools.problem.diff[i]], np.float64)
    size = float(np.sqrt(np.mean(x**2))) if x.size else 1.0
    size = size if np.isfinite(size) and size > 0 else 1.0

    def along(v: np.ndarray) -> ladder.Slope:
        direction = [np.zeros(np.shape(leaves[j])) for j in tools.problem.diff]
        direction[i] = size * v
        return tools.slope(leaves, seeds, direction, noise)

    return _each(along, claimed, size) if claimed.size <= FEW else _bisect(along, claimed, size)


def _each(along: Any, claimed: np.ndarray, size: float) -> Numeric:
    true, errors, tolerances = (np.zeros(claimed.shape) for _ in range(3))
    wrong = False
    for index in np.ndindex(claimed.shape):
        v = np.zeros(claimed.shape)
        v[index] = 1.0
        slope = along(v)
        inside = slope.agrees(size * claimed[index], 1e-9 * abs(size * claimed[index]))
        true[index] = claimed[index] if slope.kink and inside else slope.value / size
        errors[index] = abs(true[index] - claimed[index])
        tolerances[index] = 10 * slope.error / size
        wrong |= bool(np.isfinite(slope.value)) and not inside
    return Numeric(true, float(np.nanmax(errors, initial=0.0)), float(np.nanmax(tolerances, initial=0.0)), wrong)


def _bisect(along: Any, claimed: np.ndarray, size: float) -> Numeric:
    """Dense random directions; where one disagrees, halve its support until one entry is left."""
    key = np.random.default_rng(0)
    true, error, tolerance = np.full(claimed.shape, np.nan), 0.0, 0.0
    for _ in range(3):
        v = key.uniform(0.5, 1.5, claimed.size) * key.choice([-1.0, 1.0], claimed.size)
        gap, slack = _gap(along, claimed, size, v)
        tolerance = max(tolerance, slack)
        if gap <= slack:
            continue
        support = np.arange(claimed.size)
        while len(support) > 1:
            first, second = np.array_split(support, 2)
            half, noise = _gap(along, claimed, size, _only(v, first))
            support = first if half > max(noise, gap / 4) else second
        index = np.unravel_index(support[0], claimed.shape)
        slope = along(_only(np.ones(claimed.size), support).reshape(claimed.shape))
        true[index] = slope.value / size
        return Numeric(true, float(abs(true[index] - claimed[index])), tolerance, True)
    return Numeric(true, error, tolerance, False)


def _only(v: np.ndarray, support: np.ndarray) -> np.ndarray:
    kept = np.zeros_like(v)
    kept[support] = v[support]
    return kept


def _gap(along: Any, claimed: np.ndarray, size: float, v: np.ndarray) -> tuple[float, float]:
    slope = along(v.reshape(claimed.shape))
    gap = abs(slope.value - size * float(np.sum(claimed.ravel() * v)))
    return (gap / size if np.isfinite(gap) else 0.0), 10 * slope.error / size
