"""Pruning: which links of a trained net can go. Links are the entries of the weights, the leaves of two or more axes.

    scores(net, loss, by=...)   how much each link is worth
    keep(scores, share)         the mask that keeps the best share of the links
    greedy(net, ...)            the least links gone, block by block, while the criterion set's accuracy holds
    curve(net, ...)             accuracy against the share of links that remain

A mask goes into `fit(..., mask=mask)` or `masked(optimizer, mask)`, under which what is gone stays exactly 0.
Sources: Han and Kamber, Data Mining, 9.2 (least effect first, while the accuracy holds); LeCun, Denker and Solla 1990,
Optimal Brain Damage; Molchanov et al. 2017 (first order).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import inputs, tree
from jaxbp.backprop import value_and_grad
from jaxbp.contracts import Layer, Loss
from jaxbp.curvature import empirical_fisher_diagonal, ggn_diagonal
from jaxbp.training.masking import apply_mask, masked
from jaxbp.training.metrics import Metric, resolve


WAYS = ("magnitude", "first-order", "obd", "fisher")
SCOPES = ("net", "layer")


def scores(net: Layer, loss: Loss, by: str = "obd") -> Callable:
    """The saliency of every link w_k: about how much the objective rises when it is set to 0.

    | by | score | needs |
    |---|---|---|
    | "magnitude" | abs w_k | nothing |
    | "first-order" | abs (w_k dC/dw_k), the step -w_k along the gradient | one gradient |
    | "obd" | 1/2 G_kk w_k^2, G the Gauss-Newton matrix of the objective | its exact diagonal |
    | "fisher" | 1/2 F_kk w_k^2, F the mean of g_b g_b^T over the examples | the second moment of their gradients |

    Returns f(params, x, targets, *, sample_weight=None) -> a tree like params, None at what is no link; in prediction form
    (train=False). Raises: ValueError for another `by`; as `jaxbp.curvature` for nets and losses that it refuses.
    """
    if by not in WAYS:
        raise ValueError(f"scores: by is one of {', '.join(map(repr, WAYS))}, got {by!r}")
    diagonal = {"obd": ggn_diagonal, "fisher": empirical_fisher_diagonal}
    size = diagonal[by](net, loss) if by in diagonal else value_and_grad(net, loss)

    def f(params: Any, x: Any, targets: Any, *, sample_weight: Any = None) -> Any:
        links = _links(params)
        if by == "magnitude":
            return _score(lambda on, w: jnp.abs(w) if on else None, links, params)
        found = size(params, x, targets, sample_weight=sample_weight, train=False)
        if by == "first-order":
            return _score(lambda on, w, g: jnp.abs(w * g) if on else None, links, params, found[1])
        return _score(lambda on, w, h: 0.5 * h * w.astype(h.dtype) ** 2 if on else None, links, params, found)

    return f


def _score(rule: Callable, *trees: Any) -> Any:
    return jax.tree.map(rule, *trees)


def _links(params: Any) -> Any:
    links = tree.weights(params)
    if not any(jax.tree.leaves(links)):
        raise ValueError("pruning: params hold no weights, leaves of two or more axes, so there is no link")
    return links


def keep(scores: Any, share: float, *, mask: Any = None, scope: str = "net") -> Any:
    """The mask of the `share` of all links with the largest scores (a tree with None at what is no link; True there).

    mask: links that are gone already, which stay gone. scope: "net" ranks all links together, "layer" each leaf by itself. Of
    equal scores the first stays. Raises: ValueError for a share outside 0 to 1 or another scope.
    """
    inputs.require_number("keep", "share", share)
    if not 0 <= share <= 1:
        raise ValueError(f"keep: share: a number from 0 to 1 was expected, got {share}")
    if scope not in SCOPES:
        raise ValueError(f"keep: scope is 'net' or 'layer', got {scope!r}")
    ranks = _ranks(scores, mask, scope)
    one = lambda rank: True if rank is None else jnp.asarray(rank < round(share * (rank.size if scope == "layer" else total)))
    total = count(scores)
    return jax.tree.map(one, ranks, is_leaf=_is_none)


def _ranks(scores: Any, mask: Any, scope: str) -> Any:
    """For every link its place among all, 0 for the best; what is gone already comes last."""
    alive = lambda s, m: None if s is None else np.where(np.broadcast_to(np.asarray(m), np.shape(s)), np.asarray(s), -np.inf)
    mask = jax.tree.map(lambda _: True, scores, is_leaf=_is_none) if mask is None else mask
    values = jax.tree.map(alive, scores, mask, is_leaf=_is_none)
    if scope == "layer":
        return jax.tree.map(lambda v: None if v is None else _order(v.ravel()).reshape(v.shape), values, is_leaf=_is_none)
    leaves, structure = jax.tree.flatten(values)
    order = _order(np.concatenate([leaf.ravel() for leaf in leaves]))
    ends = np.cumsum([leaf.size for leaf in leaves])
    parts = [part.reshape(leaf.shape) for part, leaf in zip(np.split(order, ends[:-1]), leaves, strict=True)]
    return jax.tree.unflatten(structure, parts)


def _order(values: np.ndarray) -> np.ndarray:
    order = np.empty(len(values), np.int64)
    order[np.argsort(-values, kind="stable")] = np.arange(len(values))
    return order


def _is_none(node: Any) -> bool:
    return node is None


def count(a: Any) -> int:
    """How many links a tree of scores has, or how many entries a mask of arrays keeps."""
    leaves = [np.asarray(leaf) for leaf in jax.tree.leaves(a)]
    return sum(int(leaf.sum()) if leaf.dtype == bool else leaf.size for leaf in leaves if leaf.ndim)


# --- what remains and what it is worth


class Pruned(NamedTuple):
    """What pruning left.

    mask: for `fit`. params: 0 where the mask is False. links, remaining: how many there were and are. score, before: of the
    criterion set, after and before. curve: (remaining, score, whether it was taken) of every block that was tried.
    """

    mask: Any
    params: Any
    links: int
    remaining: int
    score: float
    before: float
    curve: tuple[tuple[int, float, bool], ...]

    def __repr__(self) -> str:
        return f"<Pruned: {self.remaining:,} of {self.links:,} links remain; {self.before:.4g} before, {self.score:.4g} now>"


def greedy(
    net: Layer,
    params: Any,
    score: Callable,
    criterion: tuple,
    *,
    metric: Any = "accuracy",
    loss: Loss | None = None,
    tolerance: float = 0.0,
    block: float = 0.1,
    least: int | None = None,
) -> Pruned:
    """Take the links of least effect off a trained net, a block at a time, while the criterion set's metric holds.

    score(params) -> scores, as of `scores` with its data filled in; asked again after every block that is taken. criterion:
    (x, targets), not the rows that the net was trained on. A block is at most the share `block` of the links that remain. It is
    taken where the metric stays at or above that of the unpruned net less `tolerance`; else half of it is tried, and a block of
    `least` links (default: a 200th of all) that may not go is kept for good. It ends when every link is gone or kept, so the
    result never scores less than `before - tolerance`.

    metric: a name or Metric that is the better the larger; loss: where a name needs it to tell logits from probabilities.
    Raises: ValueError or TypeError for a criterion set that does not fit.
    """
    inputs.require_positive("greedy", "block", block, whole=False)
    if least is not None:
        inputs.require_positive("greedy", "least", least)
    measure = _measure(net, params, metric, criterion, loss)
    before = measure(params)
    mask = jax.tree.map(lambda on, p: np.ones(p.shape, bool) if on else True, _links(params), params)
    kept = jax.tree.map(lambda m: np.zeros(np.shape(m), bool), mask)
    links = remaining = count(mask)
    least = least or -(-links // 200)
    now, size, ranked, tried = before, max(least, int(block * links)), score(params), []
    while remaining > count(kept):
        size = min(size, remaining - count(kept))
        candidate = keep(_with_kept(ranked, kept), (remaining - size) / links, mask=mask)
        found = measure(apply_mask(candidate, params))
        taken = found >= before - tolerance
        tried.append((remaining - size, found, taken))
        if taken:
            mask, now, remaining = candidate, found, remaining - size
            params = apply_mask(mask, params)
            ranked, size = score(params), max(least, min(2 * size, int(block * remaining)))
        elif size > least:
            size = max(least, size // 2)
        else:
            kept = jax.tree.map(lambda k, m, c: k | (np.asarray(m) & ~np.asarray(c)), kept, mask, candidate)
    return Pruned(mask, params, links, remaining, now, before, tuple(tried))


def _with_kept(scores: Any, kept: Any) -> Any:
    return jax.tree.map(lambda s, k: None if s is None else np.where(k, np.inf, np.asarray(s)), scores, kept, is_leaf=_is_none)


def curve(
    net: Layer,
    params: Any,
    scores: Any,
    data: tuple,
    shares: Sequence[float],
    *,
    metric: Any = "accuracy",
    loss: Loss | None = None,
    scope: str = "net",
) -> np.ndarray:
    """The metric on data = (x, targets) with each share of the links left, those of the largest scores. Nothing is trained."""
    measure = _measure(net, params, metric, data, loss)
    return np.array([measure(apply_mask(keep(scores, share, scope=scope), params)) for share in shares])


def _measure(net: Layer, params: Any, metric: Any, data: Any, loss: Loss | None) -> Callable[[Any], float]:
    if not isinstance(data, tuple) or len(data) != 2:
        raise TypeError(f"pruning: a set (x, targets) was expected, got {type(data).__name__}")
    x, targets = jax.tree.map(jnp.asarray, data)
    inputs.check_batch(net, params, x)
    outputs = jax.eval_shape(lambda p: net.forward(p, x, train=False, key=None)[0], params)
    if not isinstance(metric, Metric):
        (metric,) = resolve(metric, loss, outputs, targets)  # type: ignore[arg-type]
    return lambda params: float(_score_of(net, metric, params, x, targets))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _score_of(net: Layer, metric: Metric, params: Any, x: Any, targets: Any) -> jax.Array:
    return metric(net.forward(params, x, train=False, key=None)[0], targets)


__all__ = ["WAYS", "Pruned", "apply_mask", "count", "curve", "greedy", "keep", "masked", "scores"]
