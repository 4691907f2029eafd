"""Where the boxes of a graph stand: layers from above, few crossings, no two boxes on each other. Knows no JAX.

A layer is the longest way from an argument; an edge over several layers gets a place in each of them (a waypoint), so that
it goes round the boxes. Orders come from barycentre sweeps, places from least squares under the order (pooled neighbours).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence


GAP_X, GAP_Y, MARGIN = 22.0, 50.0, 16.0
_WAYPOINT = 8.0
_SWEEPS = 12


@dataclasses.dataclass(frozen=True)
class Layout:
    """Centres of the boxes, the points of each edge (bottom of its source to top of its target), the whole size."""

    centres: list[tuple[float, float]]
    routes: list[list[tuple[float, float]]]
    width: float
    height: float


def layout(sizes: Sequence[tuple[float, float]], edges: Sequence[tuple[int, int]], top: float = MARGIN) -> Layout:
    """Boxes of these (width, height) from `top` down, edges (source, target) with source < target."""
    level = _levels(len(sizes), edges)
    widths = [width for width, _ in sizes]
    chains: list[list[int]] = []
    for a, b in edges:
        chain = [a]
        for between in range(level[a] + 1, level[b]):
            chain.append(len(widths))
            widths.append(_WAYPOINT)
            level.append(between)
        chains.append([*chain, b])
    above: list[list[int]] = [[] for _ in widths]
    below: list[list[int]] = [[] for _ in widths]
    for chain in chains:
        for a, b in itertools.pairwise(chain):
            below[a].append(b)
            above[b].append(a)
    layers: list[list[int]] = [[] for _ in range(max(level, default=-1) + 1)]
    for i, at in enumerate(level):
        layers[at].append(i)
    _order(layers, above, below)
    x = _places(layers, widths, above, below)
    return _assembled(sizes, chains, layers, level, x, widths, top)


def _levels(count: int, edges: Sequence[tuple[int, int]]) -> list[int]:
    level = [0] * count
    targets: list[list[int]] = [[] for _ in range(count)]
    sources: list[int] = [0] * count
    for a, b in edges:
        targets[a].append(b)
        sources[b] += 1
    for a in range(count):
        for b in targets[a]:
            level[b] = max(level[b], level[a] + 1)
    for a in reversed(range(count)):  # down to right above its first use, where that lengthens no more edges than it shortens
        if targets[a] and sources[a] <= len(targets[a]):
            level[a] = min(level[b] for b in targets[a]) - 1
    top = min(level, default=0)
    level[:] = [at - top for at in level]
    return level


def _order(layers: list[list[int]], above: list[list[int]], below: list[list[int]]) -> None:
    """Sort each layer by the mean place of its neighbours, down and up in turn; keep the order with the fewest crossings."""
    best, fewest = [list(layer) for layer in layers], _crossings(layers, below)
    for sweep in range(_SWEEPS):
        near, turn = (above, layers) if sweep % 2 == 0 else (below, layers[::-1])
        for layer in turn:
            rank = {i: k / max(len(other) - 1, 1) for other in layers for k, i in enumerate(other)}
            layer.sort(key=lambda i: sum(rank[j] for j in near[i]) / len(near[i]) if near[i] else rank[i])
        crossings = _crossings(layers, below)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    layers[:] = best


def _crossings(layers: list[list[int]], below: list[list[int]]) -> int:
    place = {i: k for layer in layers for k, i in enumerate(layer)}
    total = 0
    for layer in layers:
        ends = [place[j] for i in layer for j in sorted(below[i], key=place.__getitem__)]
        total += sum(a > b for k, b in enumerate(ends) for a in ends[:k])
    return total


def _places(layers: list[list[int]], widths: list[float], above: list[list[int]], below: list[list[int]]) -> list[float]:
    x = [0.0] * len(widths)
    for layer in layers:
        _settle(layer, widths, x, lambda i: 0.0)
    for sweep in range(2 * _SWEEPS):
        near = above if sweep % 2 == 0 else below
        for layer in layers if sweep % 2 == 0 else layers[::-1]:
            _settle(layer, widths, x, lambda i, near=near: sum(x[j] for j in near[i]) / len(near[i]) if near[i] else x[i])
    return x


def _settle(layer: list[int], widths: list[float], x: list[float], wish: Callable[[int], float]) -> None:
    """The places nearest to the wishes that keep order and distance: blocks that would overlap are pooled to their mean."""
    offsets, wishes, at = [], [wish(i) for i in layer], 0.0
    for k, i in enumerate(layer):
        at += (widths[layer[k - 1]] + widths[i]) / 2 + GAP_X if k else 0.0
        offsets.append(at)
    pools: list[list[float]] = []  # [sum of wishes less offsets, how many]
    for wished, offset in zip(wishes, offsets, strict=True):
        pools.append([wished - offset, 1])
        while len(pools) > 1 and pools[-2][0] / pools[-2][1] > pools[-1][0] / pools[-1][1]:
            total, count = pools.pop()
            pools[-1] = [pools[-1][0] + total, pools[-1][1] + count]
    bases = [total / count for total, count in pools for _ in range(int(count))]
    for i, base, offset in zip(layer, bases, offsets, strict=True):
        x[i] = base + offset


def _assembled(
    sizes: Sequence,
    chains: list[list[int]],
    layers: list[list[int]],
    level: list[int],
    x: list[float],
    widths: list[float],
    top: float,
) -> Layout:
    count = len(sizes)
    heights = [max((sizes[i][1] for i in layer if i < count), default=0.0) for layer in layers]
    crowds = [0] * len(layers)
    for chain in chains:
        for i in chain[:-1]:
            crowds[level[i]] += 1
    tops, at = [], top
    for height, crowd in zip(heights, crowds, strict=True):  # room for the labels of many edges
        tops.append(at)
        at += height + GAP_Y + min(max(4.0 * (crowd - 6), 0.0), 60.0)
    left = min((x[i] - widths[i] / 2 for i in range(len(x))), default=0.0) - MARGIN
    right = max((x[i] + widths[i] / 2 for i in range(len(x))), default=0.0) + MARGIN
    middle = [tops[level[i]] + heights[level[i]] / 2 for i in range(len(x))]
    routes = []
    for chain in chains:
        a, b = chain[0], chain[-1]
        points = [(x[a] - left, middle[a] + sizes[a][1] / 2)]
        for i in chain[1:-1]:
            points += [(x[i] - left, tops[level[i]]), (x[i] - left, tops[level[i]] + heights[level[i]])]
        routes.append([*points, (x[b] - left, middle[b] - sizes[b][1] / 2)])
    centres = [(x[i] - left, middle[i]) for i in range(count)]
    return Layout(centres, routes, right - left, at - GAP_Y + MARGIN)
