"""Directional derivatives by central differences, with an error estimate, independent of autodiff.

phi(t) = <bar, f(x + t v)> in float64 at t = +-h_k, h_k = 1/4^(k+1); Richardson extrapolation of neighbours; of all
steps the one of least estimated error is kept. At a kink the one-sided slopes are told instead.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np


RUNGS = 15
STEPS = 0.25 / 4.0 ** np.arange(RUNGS)
POINTS = np.concatenate([[0.0], STEPS, -STEPS])
EPS = 2.0**-52
UNRESOLVED = 1e-2  # noise beyond this share of what phi moves: even the least step is too long to see a slope


class Slope(NamedTuple):
    """A directional derivative: value +- error. At a kink the slopes ahead (t > 0) and behind (t < 0) differ."""

    value: float
    error: float
    ahead: float
    behind: float
    steps: np.ndarray
    values: np.ndarray

    @property
    def kink(self) -> bool:
        return self.ahead != self.behind

    @property
    def low(self) -> float:
        return min(self.ahead, self.behind)

    @property
    def high(self) -> float:
        return max(self.ahead, self.behind)

    def agrees(self, claimed: float, tolerance: float = 0.0) -> bool:
        slack = 10 * self.error + tolerance
        return self.low - slack <= claimed <= self.high + slack


def make(primal: Callable, merge: Callable, diff: tuple[int, ...]) -> Callable:
    """phis(leaves, bars, direction) -> phi at all `POINTS`; one compilation, one vectorised call."""

    def phis(leaves: tuple, bars: Any, direction: Any) -> jax.Array:
        def phi(t: jax.Array) -> jax.Array:
            moved = [leaves[i] + t * v for i, v in zip(diff, direction, strict=True)]
            outs = primal(merge(leaves, moved))
            parts = [jnp.sum(b * out.astype(jnp.float64)) for b, out in zip(bars, outs, strict=True)]
            return jnp.sum(jnp.stack(parts))

        size = sum(np.size(leaves[i]) for i in diff)
        points = jnp.asarray(POINTS)
        return jax.vmap(phi)(points) if size < 20_000 else jax.lax.map(phi, points, batch_size=4)

    return phis


def slope(phi: np.ndarray, noise: float) -> Slope:
    """The derivative at 0 from phi at `POINTS`; `noise` is how far rounding moves one phi."""
    zero, plus, minus = phi[0], phi[1 : RUNGS + 1], phi[RUNGS + 1 :]
    noise = max(noise, EPS * float(np.nanmax(np.abs(phi), initial=0.0)) if np.isfinite(phi).any() else 0.0)
    seen = _seen_noise(zero, plus, minus)
    moved, size = _moved(phi), float(np.nanmax(np.abs(phi), initial=0.0))
    if seen > UNRESOLVED * moved and seen > min(10 * noise, max(0.3 * moved, 1e-6 * size)):
        return Slope(np.nan, np.inf, np.nan, np.nan, STEPS, (plus - minus) / (2 * STEPS))
    with np.errstate(all="ignore"):
        central = (plus - minus) / (2 * STEPS)
        extrapolated = (16 * central[1:] - central[:-1]) / 15
        spread = np.abs(np.diff(extrapolated)) + 4 * max(noise, seen) / STEPS[2:]
    spread = np.where(np.isfinite(spread), spread, np.inf)
    if not np.isfinite(spread).any():
        return Slope(np.nan, np.inf, np.nan, np.nan, STEPS, central)
    best = int(np.argmin(np.where(_lasting(extrapolated[1:], spread), spread, np.inf)))
    value, error = float(extrapolated[best + 1]), float(spread[best])
    ahead, behind = _one_sided(zero, plus, minus, noise)
    if ahead is not None:
        return Slope((ahead + behind) / 2, error, ahead, behind, STEPS, central)
    return Slope(value, error, value, value, STEPS, central)


def _lasting(values: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Which estimates the finer ones bear out: beyond a kink on the way a slope can look as steady as the one at 0."""
    with np.errstate(all="ignore"):
        apart = np.abs(values[:, None] - values) > 10 * (spread[:, None] + spread)
    return np.isfinite(spread) & ~np.any(np.triu(apart, 1), axis=1)


def _seen_noise(zero: float, plus: np.ndarray, minus: np.ndarray) -> float:
    """What second differences at the least steps hold beyond curvature, which shrinks by 16 from one to the next."""
    with np.errstate(all="ignore"):
        second = np.abs(plus + minus - 2 * zero)[-4:]
    return float(np.nanmax(second[1:] - second[:-1] / 16, initial=0.0))


def _moved(phi: np.ndarray) -> float:
    """How far the larger steps move phi, those that leave its domain aside."""
    with np.errstate(all="ignore"):
        moved = np.abs(phi - phi[0])[[*range(1, 7), *range(RUNGS + 1, RUNGS + 7)]]
    return float(np.median(moved[np.isfinite(moved)])) if np.isfinite(moved).any() else 0.0


def _one_sided(zero: float, plus: np.ndarray, minus: np.ndarray, noise: float) -> tuple:
    """The one-sided slopes where second differences shrink like h (a kink at 0), not like h^2; else (None, None)."""
    with np.errstate(all="ignore"):
        second = plus + minus - 2 * zero
        ratios = second[:-1] / second[1:]
    clear = (np.abs(second[1:]) > 1e3 * noise) & np.isfinite(ratios)
    at_kink = clear & (np.abs(ratios - 4) < 0.02)  # steps shrink by 4: 16 where smooth, 4 at a kink
    good = np.flatnonzero(at_kink[:-1] & at_kink[1:])
    # a kink persists down to the smallest step that noise allows; one passed on the way does not
    usable = np.flatnonzero(clear)
    if not len(good) or not len(usable) or not at_kink[usable[-1]]:
        return None, None
    k = int(usable[-1])
    quotient = lambda side: [(side[j] - zero) / STEPS[j] for j in (k, k + 1)]
    ahead, behind = ((4 * fine - coarse) / 3 for coarse, fine in (quotient(plus), quotient(minus)))
    return float(ahead), float(-behind)


def directions(leaves: Any, key: np.random.Generator) -> list[np.ndarray]:
    """One dense direction per leaf: entries of random sign and of 0.5 to 1.5 times the leaf's root mean square."""
    found = []
    for leaf in leaves:
        leaf = np.asarray(leaf, np.float64)
        size = float(np.sqrt(np.mean(leaf**2))) if leaf.size else 0.0
        size = size if np.isfinite(size) and size > 0 else 1.0
        found.append(size * key.uniform(0.5, 1.5, leaf.shape) * key.choice([-1.0, 1.0], leaf.shape))
    return found
