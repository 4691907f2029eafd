"""From measurements to verdicts: one leaf against the truth, and the second opinion that every failure needs."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxbp.check import ladder
from jaxbp.check.instruments import Instruments, Measured


MARGIN = 10.0  # a failure lies beyond so many times the measured noise
SHARE = 1e-3  # a leaf far below the whole gradient is judged at this share of the whole's largest entry
EPS = 2.0**-52
NEIGHBOURS = 16
TOGETHER = 12  # and of these together
ALONE = 64  # entries at kinks that are looked at one by one
VANISHED = 1e-250  # a gradient below this is lost to underflow on either side


class Judged(NamedTuple):
    """One leaf: verdict, largest error and tolerance in the leaf's own units, its scale, the worst entry."""

    verdict: str
    error: float
    tolerance: float
    scale: float
    place: tuple[int, ...] | None
    note: str = ""

    @property
    def relative(self) -> float:
        return self.error / self.scale if self.scale else self.error


def scales(true: list) -> list[float]:
    """max(largest entry, 1e-3 of the largest of all leaves), over finite entries."""
    own = [float(np.max(np.abs(t[np.isfinite(t)]), initial=0.0)) for t in true]
    return [max(s, SHARE * max(own, default=0.0)) for s in own]


def judge(claimed: list, true: list, noise: Sequence[float], floor: float = 8 * EPS) -> list[Judged]:
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
    if error > tolerance and tolerance > scale > 0:
        return Judged(
            "inconclusive", error, tolerance, scale, index, f"rounding alone moves it by {tolerance / scale:.1e} of its scale"
        )
    if error > tolerance:
        return Judged("fail", error, tolerance, scale, index)
    if undefined.any():
        index = _first(undefined)
        return Judged("inconclusive", error, tolerance, scale, index, f"the reference is {true[index]} at {list(index)}")
    return Judged("pass", error, tolerance, scale, index)


def _first(mask: np.ndarray) -> tuple[int, ...]:
    return tuple(int(i) for i in np.argwhere(mask)[0])


class Opinion(NamedTuple):
    """What central differences say of a leaf whose claim differs from autodiff. true: as settled by them.

    verdict "fail": the claim is wrong; "pass": it is right, autodiff is not; "torn": both are; "inconclusive": they cannot tell.
    """

    verdict: str
    note: str
    true: np.ndarray | None = None


def second_opinion(
    tools: Instruments, leaves: tuple, seeds: Any, i: int, claimed: np.ndarray, truth: Measured, tolerance: float, held: bool
) -> Opinion:
    """The ladder along the direction in which claim and autodiff differ most: which of the two does it follow?

    Where it follows neither the references are torn, unless the function has values `held` fixed that the ladder moves.
    """
    known = np.isfinite(claimed) & np.isfinite(truth.results[i])
    claimed, true = np.where(known, claimed, 0.0), np.where(known, truth.results[i], 0.0)
    wrong = claimed - true
    for w in (wrong, np.where(np.abs(wrong) == np.max(np.abs(wrong)), wrong, 0.0)):
        slope, weights = _along(tools, leaves, seeds, i, truth, w)
        by_claim, by_truth = float(np.sum(claimed * weights)), float(np.sum(true * weights))
        gap = abs(by_claim - by_truth)
        if not np.isfinite(slope.value):
            return Opinion("torn", "central differences see no slope at any step here")
        if not slope.error * 3 < gap:
            continue
        if slope.kink or _special(tools, leaves, seeds, i, float(np.max(np.abs(wrong)))):
            return by_entries(tools, leaves, seeds, i, claimed, truth, np.abs(wrong) > tolerance)
        if abs(slope.value - by_claim) <= max(10 * slope.error, 0.1 * gap):
            if held and np.any(true):
                return Opinion("fail", "the function holds values fixed by stop_gradient, which the claim does not heed")
            settled = np.where(np.abs(wrong) > tolerance, claimed, truth.results[i])
            return Opinion("pass", "central differences agree with the claim, not with JAX's autodiff of the primal", settled)
        if abs(slope.value - by_truth) > max(10 * slope.error, 0.1 * gap) and not held:
            return Opinion(
                "torn",
                f"along their difference autodiff has a slope of {by_truth:.9g}, the claim {by_claim:.9g}, and central "
                f"differences measure {slope.value:.9g}",
            )
        return Opinion(
            "fail", f"along that error central differences measure a slope of {slope.value:.9g}, the claim has {by_claim:.9g}"
        )
    return Opinion("inconclusive", "central differences are too noisy here to decide")


def _along(
    tools: Instruments, leaves: tuple, seeds: Any, i: int, truth: Measured, w: np.ndarray
) -> tuple[ladder.Slope, np.ndarray]:
    """A slope and the weights for which it is sum(result_i * weights)."""
    problem = tools.problem
    if not problem.reverse:
        bars = [np.zeros(np.shape(o)) for o in truth.outs]
        bars[i] = w
        return tools.slope(leaves, bars, list(seeds), phi_noise(bars, truth)), w
    x = np.asarray(leaves[problem.diff[i]], np.float64)
    size = float(np.sqrt(np.mean(x**2))) if x.size else 1.0
    v = w / np.max(np.abs(w)) * (size if np.isfinite(size) and size > 0 else 1.0)
    direction = [np.zeros(np.shape(leaves[j])) for j in problem.diff]
    direction[i] = v
    return tools.slope(leaves, list(seeds), direction, phi_noise(seeds, truth)), v


def phi_noise(bars: Any, truth: Measured) -> float:
    """How far rounding moves <bars, outputs>."""
    return float(sum(np.sqrt(np.sum(np.square(b))) * n for b, n in zip(bars, truth.outs_noise, strict=True)))


def _together(count: int) -> list[tuple[list[int], np.ndarray]]:
    """(numbers, weights) of the groups of doubted entries to ask of at once: all of them three times, and each pair."""
    weights = np.random.default_rng(0).uniform(0.5, 1.0, (3, count))
    all_of_them = [
        (list(range(count)), values / values.max()) for values in weights if count > 2
    ]  # `_along` scales the largest to one
    return all_of_them + [(list(pair), np.array([1.0, 0.8])) for pair in itertools.combinations(range(count), 2)]


def by_entries(
    tools: Instruments, leaves: tuple, seeds: Any, i: int, claimed: np.ndarray, truth: Measured, doubted: np.ndarray
) -> Opinion:
    """Where autodiff does not settle it (at kinks, where it is not finite): a claim between the one-sided slopes is right.

    That is asked of each doubted entry alone, of the `ALONE` that differ most. Where the kinks of several entries are
    one (a tie of max), it is asked of them together too: every tied entry could take all the cotangent otherwise. Kinks
    are apart where jumps add up.
    """
    settled = np.where(doubted, claimed, truth.results[i])
    away = np.abs(np.where(np.isfinite(truth.results[i]), claimed - truth.results[i], np.inf))
    order = [int(n) for n in np.argsort(-away, axis=None) if doubted.flat[n]]
    neighbours = _Neighbours(tools, leaves, seeds, i)
    only = lambda entries, values: np.reshape(np.bincount(entries, values, claimed.size), claimed.shape)

    def outside(w: np.ndarray) -> tuple[ladder.Slope, Opinion | None]:
        slope, weights = _along(tools, leaves, seeds, i, truth, w)
        some = weights != 0
        parts = claimed[some] * weights[some]
        by_claim, slack = float(np.sum(parts)), 1e-5 * (float(np.sum(np.abs(parts))) + abs(slope.value))
        if not np.isfinite(slope.value):
            return slope, Opinion("inconclusive", "central differences are not finite there either")
        if slope.agrees(by_claim, slack):
            return slope, None
        if np.count_nonzero(some) == 1:
            settled[some] = slope.value / weights[some]
        text = f"outside the one-sided slopes [{slope.low:.6g}, {slope.high:.6g}]: the claim gives {by_claim:.6g}"
        return slope, Opinion("fail", text, settled)

    entries, jumps = order[:ALONE], []
    for n in entries:
        slope, found = outside(only([n], np.ones(1)))
        if found and not neighbours.span([n], np.ones(1), claimed, 0.5):
            return found
        jumps.append(slope.ahead - slope.behind)
    for group, values in _together(len(entries[:TOGETHER])):
        slope, found = outside(only([entries[k] for k in group], values))
        sizes = np.array([jumps[k] for k in group]) * values
        apart = abs(slope.ahead - slope.behind - np.sum(sizes)) <= 1e-3 * np.sum(np.abs(sizes))
        if found and not apart and not neighbours.span([entries[k] for k in group], values, claimed, 1.0):
            return found._replace(true=None)
    return Opinion("pass", "at a kink, where the claim lies between the one-sided slopes: a convention of its own", settled)


class _Neighbours:
    """What autodiff gives a billionth away: where several entries tie, the derivative may be that of any order of them."""

    def __init__(self, tools: Instruments, leaves: tuple, seeds: Any, i: int):
        self.measure = lambda k: tools.truth(beside(tools, leaves, k), seeds).results[i]
        self.found: list[np.ndarray] = []

    def span(self, entries: list[int], weights: np.ndarray, claimed: np.ndarray, more: float) -> bool:
        """Whether a weighted sum of entries lies in the range of the neighbours', widened where they take many values."""
        self.found = self.found or [self.measure(k) for k in range(NEIGHBOURS)]
        sums = np.array([np.sum(r.flat[entries] * weights) for r in self.found])
        width, slack = np.ptp(sums), 1e-6 * np.max(np.abs(sums))
        margin = slack + (more * width if np.count_nonzero(np.diff(np.sort(sums)) > 1e-3 * width) > 1 else 0.0)
        return bool(np.min(sums) - margin <= np.sum(claimed.flat[entries] * weights) <= np.max(sums) + margin)


def beside(tools: Instruments, leaves: tuple, k: int, share: float = 1e-9) -> tuple:
    """The leaves moved at random by a share of their size."""
    diff = tools.problem.diff
    moves = ladder.directions([leaves[i] for i in diff], np.random.default_rng(k))
    return tools.problem.merge(leaves, [leaves[i] + share * v for i, v in zip(diff, moves, strict=True)])


def _special(tools: Instruments, leaves: tuple, seeds: Any, i: int, gap: float) -> bool:
    """Whether claim and autodiff, which differ by `gap` here, agree at neighbours."""
    places = [beside(tools, leaves, k) for k in (0, 1)]
    errors = [np.abs(tools.claim(at, seeds).results[i] - tools.truth(at, seeds).results[i]) for at in places]
    return all(np.all(error < 1e-3 * gap) for error in errors)
