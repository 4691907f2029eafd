"""The noise scale of gradients along a run, and the steps that batch sizes take to a target loss."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxbp as bp
from experiments.config.uses import NoiseScale
from experiments.uses import shared
from jaxbp import per_example


RATES = tuple(0.1 * 2.0 ** (k / 2) for k in range(11))  # 0.1 to 3.2
POINTS = 80  # of a run
ROUNDS = 100  # looks at the loss in one call
LOOKED_AT = 512  # training images whose mean loss is to reach the target


class Followed(NamedTuple):
    """One run for each seed at one rate. scale: the estimate by moving averages (seeds, steps). at: steps at which the whole
    training set was looked at: exact (seeds, points), the same moving averages of its noise and signal; loss, its mean."""

    rate: float
    scale: np.ndarray
    at: np.ndarray
    exact: np.ndarray
    loss: np.ndarray

    def reaches(self, target: float) -> int:
        """The point at which the loss, mean over seeds, first is the target; the last where it never is."""
        below = self.loss.mean(0) <= target
        return int(np.argmax(below)) if below.any() else len(self.at) - 1

    def advice(self, target: float) -> np.ndarray:
        """(seeds,): the estimate at the step at which the target is reached."""
        return self.scale[:, self.at[self.reaches(target)] - 1]


class Reached(NamedTuple):
    """One batch size. steps: to the target for each seed at the best rate, NaN where it was not reached; rate: that rate."""

    size: int
    rate: float
    steps: np.ndarray

    @property
    def median(self) -> float:
        return float(np.median(np.where(np.isfinite(self.steps), self.steps, np.inf)))


def follow(options: NoiseScale, net: bp.Layer, data: shared.Data, rate: float) -> Followed:
    n, every = len(data.train), max(1, options.steps // POINTS)
    points = options.steps // every
    found = []
    for seed in range(options.seed, options.seed + options.seeds):
        rows = np.random.default_rng([seed, 5]).integers(n, size=(points, every, options.batch_size)).astype(np.int32)
        params = shared.start(net, data.train, seed)
        run = watched(params, data.train.images, data.train.labels, rows, rate, of=net, decay=options.decay)
        found.append([np.asarray(values).reshape(points * every if i == 0 else points) for i, values in enumerate(run)])
    scale, noise, signal, loss = (np.stack(values) for values in zip(*found, strict=True))
    exact = averaged(noise, options.decay**every) / averaged(signal, options.decay**every)
    return Followed(rate, scale, 1 + every * np.arange(points), exact, loss)


def averaged(values: np.ndarray, decay: float) -> np.ndarray:
    """The moving average along the last axis, without the bias of its start."""
    kept, weight, found = 0.0, 0.0, []
    for value in values.T:
        kept, weight = decay * kept + (1 - decay) * value, decay * weight + 1 - decay
        found.append(kept / weight)
    return np.stack(found, -1)


@functools.partial(jax.jit, static_argnames=("of", "decay"))
def watched(params: Any, x: Any, labels: Any, order: Any, rate: Any, *, of: bp.Layer, decay: float) -> tuple:
    """(estimate of every step; noise, signal and loss of the whole set at every point); order (points, steps, batch).

    Each step's norms come with its gradient, and `noise_scale_ema` makes the estimate of both.
    """
    gradient = per_example.value_grads_and_norms(of, shared.LOSS)
    follower: Any = per_example.noise_scale_ema(decay)

    def step(carry: tuple, rows: jax.Array) -> tuple:
        params, state = carry
        _, grads, norms = gradient(params, x[rows], labels[rows])
        grads, state = follower.update(grads, state, params, norms=norms)
        return (shared.stepped(params, grads, rate), state), state.estimate.scale

    def point(carry: tuple, rows: jax.Array) -> tuple:
        params, n = carry[0], len(x)
        found = per_example.noise_scale(of, shared.LOSS)(params, x, labels)
        loss = jnp.mean(shared.LOSS.forward(of(params, x), labels)[0])
        carry, scale = lax.scan(step, carry, rows)
        # batches are drawn from these n images: the variance is over n, and their mean gradient is the true one
        return carry, (scale, found.noise * (n - 1) / n, found.signal + found.noise / n, loss)

    return lax.scan(point, (params, follower.init(params)), order)[1]


# --- steps to a target


def steps_to_target(options: NoiseScale, net: bp.Layer, data: shared.Data, size: int) -> Reached:
    """Steps until the training loss is the target, median over seeds, at the best of the rates; all rates run side by side."""
    n, every = len(data.train), max(1, 128 // size)  # the loss is looked at after every 128 examples, or every step
    seeds = range(options.seed, options.seed + options.seeds)
    draws = [np.random.default_rng([seed, 6]) for seed in seeds]
    params = jax.tree.map(lambda *leaves: np.stack(leaves), *(shared.start(net, data.train, seed) for seed in seeds))
    params = jax.tree.map(lambda leaf: np.stack([np.asarray(leaf)] * len(RATES)), params)
    seen = jax.tree.map(lambda leaf: leaf[:LOOKED_AT], (data.train.images, data.train.labels))
    losses, rates = np.empty((len(RATES), len(seeds), 0)), np.array(RATES, np.float32)
    while True:
        rows = np.stack([rng.integers(n, size=(ROUNDS, every, size)) for rng in draws]).astype(np.int32)
        params, new = advanced(params, data.train.images, data.train.labels, rows, rates, seen, of=net)
        losses = np.concatenate([losses, np.asarray(new)], 2)
        steps = crossing(losses, options.target, every)
        median = np.median(steps, 1)
        best = int(np.argmin(median))
        # a rate that has not reached it in half of its runs by now is slower than one that has in all
        if np.isfinite(steps[best]).all() or losses.shape[2] * every >= options.most_steps:
            return Reached(size, RATES[best], np.where(np.isfinite(steps[best]), steps[best], np.nan))


@functools.partial(jax.jit, static_argnames=("of",))
def advanced(params: Any, x: Any, labels: Any, rows: Any, rates: Any, seen: Any, *, of: bp.Layer) -> tuple:
    """(params, losses (rates, seeds, rounds)) of runs side by side; rows (seeds, rounds, steps between two looks, batch)."""
    gradient = bp.value_and_grad(of, shared.LOSS)

    def one(params: Any, rows: jax.Array, rate: jax.Array) -> tuple:
        def step(params: Any, rows: jax.Array) -> tuple:
            return shared.stepped(params, gradient(params, x[rows], labels[rows])[1], rate), None

        def look(params: Any, rows: jax.Array) -> tuple:
            params, _ = lax.scan(step, params, rows)
            return params, jnp.mean(shared.LOSS.forward(of(params, seen[0]), seen[1])[0])

        return lax.scan(look, params, rows)

    return jax.vmap(jax.vmap(one, (0, 0, None)), (0, None, 0))(params, rows, rates)


def crossing(losses: np.ndarray, target: float, every: int) -> np.ndarray:
    """Steps at which each run's loss first falls to the target, by a line between two looks; inf where it does not."""
    below = losses <= target
    first = np.argmax(below, axis=-1)
    take = lambda i: np.take_along_axis(losses, i[..., None], -1)[..., 0]
    after, before = take(first), take(np.maximum(first - 1, 0))
    gap = before - after
    share = np.where((first > 0) & (gap > 0), (before - target) / np.where(gap > 0, gap, 1), 1.0)
    return np.where(below.any(-1), every * (first + share), np.inf)


def fitted(reached: list[Reached]) -> tuple[float, float] | None:
    """(least steps, critical batch size) of steps = least (1 + critical / size), by least squares of relative errors."""
    there = [r for r in reached if np.isfinite(r.median)]
    if len(there) < 2:
        return None
    steps, sizes = np.array([r.median for r in there]), np.array([r.size for r in there], float)
    (least, examples), *_ = np.linalg.lstsq(np.stack([1 / steps, 1 / (steps * sizes)], 1), np.ones(len(steps)), rcond=None)
    return float(least), float(examples / least)
