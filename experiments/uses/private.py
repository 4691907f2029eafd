"""Training by clipped and noised gradient sums of Poisson batches, for many clip norms and noises side by side."""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import jaxbp as bp
from experiments.config.uses import DpSgd
from experiments.uses import shared
from jaxbp import per_example


FACTORS = (0.3, 1.0, 3.0)  # of --learning-rate: every pair is trained at each, the best is told


class Trained(NamedTuple):
    """accuracy on the test images and share of gradients that were clipped, (clip norms, noises, seeds), at the best rate
    (clip norms, noises); plain (seeds,): accuracy of as many steps without clipping or noise, at its best rate; epsilons: one
    for each noise, None where nobody counts."""

    accuracy: np.ndarray
    clipped: np.ndarray
    rate: np.ndarray
    plain: np.ndarray
    epsilons: list[float] | None
    steps: int
    finite: bool


def train(options: DpSgd, data: shared.Data) -> Trained:
    """All clip norms and noises side by side, rate by rate and seed by seed, on the same Poisson batches."""
    net, n = shared.net(options, data.train), len(data.train)
    steps = max(round(options.epochs * n / options.batch_size), 1)
    pairs = np.array([(c, s) for c in options.clip_norms for s in options.noise_multipliers], np.float32)
    rates = options.learning_rate * np.array(FACTORS)
    accuracy, clipped = np.empty((2, len(rates), len(pairs), options.seeds))
    plain = np.empty((len(rates), options.seeds))
    for k, seed in enumerate(range(options.seed, options.seed + options.seeds)):
        rows, there = poisson(np.random.default_rng([seed, 7]), n, options.batch_size, steps)
        arrays: tuple = (shared.start(net, data.train, seed), data.train.images, data.train.labels, rows, there)
        for r, rate in enumerate((rates / options.batch_size).tolist()):
            params, clipped[r, :, k] = private(*arrays, pairs, rate, jax.random.key(seed), of=net)
            accuracy[r, :, k] = [shared.accuracy(net, shared.one_of(params, i), data.test) for i in range(len(pairs))]
            plain[r, k] = shared.accuracy(net, unclipped(*arrays, rate, of=net), data.test)
    best = accuracy.mean(2).argmax(0)
    shape = (len(options.clip_norms), len(options.noise_multipliers))
    accuracy, cut = (values[best, np.arange(len(pairs))].reshape(*shape, -1) for values in (accuracy, clipped))
    plain = plain[plain.mean(1).argmax()]
    chosen = rates[best].reshape(shape)
    return Trained(accuracy, cut, chosen, plain, epsilons(options, n, steps), steps, shared.finite(clipped))


def poisson(rng: np.random.Generator, n: int, expected: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows (steps, room) in which each of n examples is with chance expected / n, and 1 where a row is there, 0 on padding.

    The room is six standard deviations above the mean; what one step in some hundred million has more is left out.
    """
    chance = expected / n
    room = min(n, math.ceil(expected + 6 * math.sqrt(expected * (1 - chance)) + 1))
    rows, there = np.zeros((steps, room), np.int32), np.zeros((steps, room), np.float32)
    for row, present in zip(rows, there, strict=True):
        drawn = np.flatnonzero(rng.random(n) < chance)[:room]
        row[: len(drawn)], present[: len(drawn)] = drawn, 1
    return rows, there


@functools.partial(jax.jit, static_argnames=("of",))
def private(
    params: Any, x: Any, labels: Any, rows: Any, there: Any, pairs: Any, rate: Any, key: jax.Array, *, of: bp.Layer
) -> tuple[Any, jax.Array]:
    """(params, share of gradients clipped) for each (clip norm C, noise multiplier σ) of pairs.

    p <- p - rate (sum of clipped gradients + N(0, σ² C²)) / C: over C, so that the step does not hang on it. Padding weighs 0.
    """

    def one(pair: jax.Array) -> tuple[Any, jax.Array]:
        clip_norm, noise = pair
        summed = per_example.clipped_sum(of, shared.LOSS, clip_norm)
        noising = optax.add_noise(eta=(noise * clip_norm) ** 2, gamma=0.0, key=key)

        def step(carry: tuple, now: tuple) -> tuple:
            (params, state), (rows, there) = carry, now
            _, sums, norms = summed(params, x[rows], labels[rows], sample_weight=there)
            noisy, state = noising.update(sums, state)
            cut = jnp.sum(norms > clip_norm) / jnp.maximum(jnp.sum(there), 1)  # padding has norm 0
            return (shared.stepped(params, noisy, rate / clip_norm), state), cut

        (end, _), cut = lax.scan(step, (params, noising.init(params)), (rows, there))
        return end, jnp.mean(cut)

    return jax.vmap(one)(pairs)


@functools.partial(jax.jit, static_argnames=("of",))
def unclipped(params: Any, x: Any, labels: Any, rows: Any, there: Any, rate: Any, *, of: bp.Layer) -> Any:
    """The same steps by the plain sum of gradients."""
    gradient = bp.value_and_grad(of, shared.LOSS, reduction="sum")

    def step(params: Any, now: tuple) -> tuple:
        rows, there = now
        _, grads = gradient(params, x[rows], labels[rows], sample_weight=there)
        return shared.stepped(params, grads, rate), None

    return lax.scan(step, params, (rows, there))[0]


def epsilons(options: DpSgd, n: int, steps: int) -> list[float] | None:
    """ε for each noise multiplier, as dp-accounting counts it for Poisson sampling; None where it is not installed."""
    try:
        import dp_accounting  # pyright: ignore[reportMissingImports]
    except ImportError:
        return None
    found = []
    for noise in options.noise_multipliers:
        if noise == 0:
            found.append(math.inf)
            continue
        account = dp_accounting.pld.PLDAccountant()
        one = dp_accounting.PoissonSampledDpEvent(options.batch_size / n, dp_accounting.GaussianDpEvent(noise))
        account.compose(dp_accounting.SelfComposedDpEvent(one, steps))
        found.append(float(account.get_epsilon(options.delta)))
    return found
