"""From measurements to verdicts: one leaf against the truth, and the second opinion that every failure needs."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from jaxbp.check import ladder
from jaxbp.check.instruments import Instruments, Measured


MARGIN = 10.0  # a failure lies beyond so many times the measured noise
SHARE = 1e-3  # a leaf far below the whole gradient is judged at this share of the whole's largest entry
EPS = 2.0**-52
TOGETHER = 12  # entries at kinks that are looked at together
VANISHED = 1e-250  # a gradient below this is lost to underflow on either side


class Judged(NamedTuple):
    """One leaf: verdict, largest error and tolerance in the leaf's own units, its scale, the worst entry."""

    verdict: str
    error: float
    tolerance: float
    scale: float
    index: tuple[int, ...] | None
    note: str = ""

    @property
    def relative(self) -> float:
        return self.error / self.scale if self.scale else self.error


def scales(true: list) -> list[float]:
    """max(largest entry, 1e-3 of the largest of all leaves), over finite entries."""
    own = [float(np.max(np.abs(t[np.isfinite(t)]), initial=0.0)) for t in true]
    return [max(s, SHARE * max(own, default=0.0)) for s in own]


def judge(claimed: list, true: list, noise: list, floor: float = 8 * EPS) -> list[Judged]:
    """Every leaf against the truth, at 10 times the noise measured for it."""
    judged = []
    for c, t, n, scale in zip(claimed, true, noise, scales(true), strict=True):
        tolerance = max(MARGIN * n, floor * scale, VANISHED)
        judged.append(_judge_one(c, t, tolerance, scale))
    return judged


def _judge_one(claimed: np.ndarray, true: np.ndarray, tolerance: float, scale: float) -> Judged:
    lost = ~np.isfinite(claimed) & np.isfinite(true)
    if lost.any():
        index = _first(lost)
        return Judged("fail", np.inf, tolerance, scale, index, f"{claimed[index]} where the truth is {true[index]:.6g}")
    undefined = ~np.isfinite(true)
    difference = np.abs(np.where(undefined, 0.0, claimed) - np.where(undefined, 0.0, true))
    error = float(np.max(difference, initial=0.0))
    index = tuple(int(i) for i in np.unravel_index(int(np.argmax(difference)), difference.shape)) if difference.size else None
    if error > tolerance:
        return Judged("fail", error, tolerance, scale, index)
    if undefined.any():
        index = _first(undefined)
        return Judged("inconclusive", error, tolerance, scale, index, f"the reference is {true[index]} at {list(index)}")
    return Judged("pass", error, tolerance, scale, index)


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


class Opinion(NamedTuple):
    verdict: str  # "fail": the claim is wrong; "pass": it is right, the reference was not; "inconclusive": cannot tell
    note: str


def second_opinion(tools: Instruments, leaves: tuple, seeds: Any, i: int, claimed: np.ndarray, truth: Measured) -> Opinion:
    """The ladder along the direction in which claim and autodiff differ most: which of the two does it follow?"""
    true = truth.results[i]
    wrong = np.where(np.isfinite(claimed) & np.isfinite(true), claimed - true, 0.0)
    if not np.any(wrong):
        return Opinion("inconclusive", "")
    for w in (wrong, np.where(np.abs(wrong) == np.max(np.abs(wrong)), wrong, 0.0)):
        bars, direction, weights = _aim(tools, leaves, seeds, i, w)
        slope = tools.slope(leaves, bars, direction, phi_noise(bars, truth))
        by_claim, by_truth = float(np.sum(claimed * weights)), float(np.sum(true * weights))
        gap = abs(by_claim - by_truth)
        if not np.isfinite(slope.value) or not slope.error * 3 < gap:
            continue
        if slope.kink:
            return _at_kink(tools, leaves, seeds, i, claimed, truth, wrong)
        if abs(slope.value - by_claim) <= max(10 * slope.error, 0.1 * gap):
            return Opinion("pass", "central differences agree with the claim, not with JAX's autodiff of the primal")
        return Opinion("fail", f"central differences say {slope.value:.9g}, the claim {by_claim:.9g}")
    return Opinion("inconclusive", "central differences are too noisy here to decide")


def _aim(tools: Instruments, leaves: tuple, seeds: Any, i: int, w: np.ndarray) -> tuple[list, list, np.ndarray]:
    """(bars, direction, weights): a slope whose value is sum(result_i * weights)."""
    problem = tools.problem
    if not problem.reverse:
        bars = [np.zeros(np.shape(o)) for o in tools.claim(leaves, seeds).outs]
        bars[i] = w
        return bars, list(seeds), w
    x = np.asarray(leaves[problem.diff[i]], np.float64)
    size = float(np.sqrt(np.mean(x**2))) if x.size else 1.0
    v = w / np.max(np.abs(w)) * (size if np.isfinite(size) and size > 0 else 1.0)
    direction = [np.zeros(np.shape(leaves[j])) for j in problem.diff]
    direction[i] = v
    return list(seeds), direction, v


def phi_noise(bars: Any, truth: Measured) -> float:
    """How far rounding moves <bars, outputs>."""
    return float(sum(np.sqrt(np.sum(np.square(b))) * n for b, n in zip(bars, truth.outs_noise or [], strict=True)))


def _at_kink(
    tools: Instruments, leaves: tuple, seeds: Any, i: int, claimed: np.ndarray, truth: Measured, wrong: np.ndarray
) -> Opinion:
    """A claim that differs at kinks is a convention where it lies between the one-sided slopes.

    That is asked of each entry alone. Where the kinks of several entries are one (a tie of max), it is asked of them
    together too: every tied entry could take all the cotangent otherwise. Kinks are apart where jumps add up.
    """

    def along(w: np.ndarray) -> tuple[ladder.Slope, float, float]:
        bars, direction, weights = _aim(tools, leaves, seeds, i, w)
        by_claim = float(np.sum(claimed * weights))
        slope = tools.slope(leaves, bars, direction, phi_noise(bars, truth))
        return slope, by_claim, 1e-5 * (float(np.sum(np.abs(claimed * weights))) + abs(slope.value))

    entries = np.argsort(-np.abs(wrong), axis=None)[: min(TOGETHER, int(np.count_nonzero(wrong)))]
    only = lambda values: np.reshape(np.bincount(entries, values, wrong.size), wrong.shape)
    jumps = np.zeros(len(entries))
    for k in range(len(entries)):
        slope, by_claim, slack = along(only(np.eye(len(entries))[k]))
        jumps[k] = slope.ahead - slope.behind
        if np.isfinite(slope.value) and not slope.agrees(by_claim, slack):
            return _outside(slope, by_claim)
    key = np.random.default_rng(0)
    for values in key.uniform(0.5, 1.0, (3, len(entries))):
        values /= values.max()  # _aim scales the largest entry to one
        slope, by_claim, slack = along(only(values))
        added = np.sum(jumps * values)
        apart = abs(slope.ahead - slope.behind - added) <= 1e-3 * np.sum(np.abs(jumps) * values)
        if not apart and np.isfinite(slope.value) and not slope.agrees(by_claim, slack):
            return _outside(slope, by_claim)
    return Opinion("pass", "at a kink: the claim lies between the one-sided slopes, a convention of its own")


def _outside(slope: ladder.Slope, by_claim: float) -> Opinion:
    return Opinion("fail", f"outside the one-sided slopes [{slope.low:.6g}, {slope.high:.6g}]: the claim gives {by_claim:.6g}")
