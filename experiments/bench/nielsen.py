"""A whole published run against a plain float64 scan of the same steps and evaluations.

    python -m experiments.bench.nielsen --data-dir DIR [--epochs 400] [--samples 1000] [--rounds 5]

"ours": `experiments nielsen` from its options to its curves, shuffles, copies and progress included, without the report.
"plain": one jitted scan over all epochs, written with jax.numpy and jax.grad alone, on the same shuffled rows, drawn before.
Both are compiled before they are timed, run in turns, and the ratio is the median of the paired ratios.
"""

from __future__ import annotations

import argparse
import functools
import pathlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config.nielsen import Nielsen
from experiments.nielsen import data, recipe
from experiments.nielsen.run import reproduce


def logits(params, x):
    (w1, b1), (w2, b2) = params
    return (1 / (1 + jnp.exp(-(x @ w1 + b1)))) @ w2 + b2


def batch_cost(params, x, y):
    z = logits(params, x)
    return jnp.sum(jnp.logaddexp(0.0, z) - y * z) / len(x)


def evaluated(params, images, decay):
    x, y, labels = images
    a = 1 / (1 + jnp.exp(-logits(params, x)))
    cost = jnp.sum(jnp.nan_to_num(-y * jnp.log(a) - (1 - y) * jnp.log(1 - a))) / len(x)
    squares = sum(jnp.sum(w**2) for w, _ in params)
    return cost + 0.5 * decay / len(x) * squares, jnp.sum(jnp.argmax(a, axis=1) == labels)


@jax.jit
def plain(params, train, test, orders, rate, decay):
    keep = 1 - rate * decay / len(train[0])

    def step(params, rows):
        grads = jax.grad(batch_cost)(params, train[0][rows], train[1][rows])
        return tuple((keep * w - rate * dw, b - rate * db) for (w, b), (dw, db) in zip(params, grads, strict=True)), None

    def epoch(params, batches):
        params, _ = jax.lax.scan(step, params, batches)
        return params, (evaluated(params, test, decay), evaluated(params, train, decay))

    return jax.lax.scan(epoch, params, orders)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--data-dir", type=pathlib.Path)
    for name, default in (("epochs", 400), ("samples", 1000), ("rounds", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()
    sets = data.load(options.data_dir)
    for gradient in ("manual", "autodiff"):
        compare(
            Nielsen(samples=options.samples, epochs=options.epochs, weight_decay=0.1, gradient=gradient), sets, options.rounds
        )


def one_round(options: Nielsen, sets: data.Sets, given: tuple) -> tuple:
    """(seconds of ours, seconds of the plain scan, our result, its costs, its hits)."""
    begun = time.perf_counter()
    result = reproduce(options, sets)
    between = time.perf_counter()
    _, ((cost, hits), _) = jax.block_until_ready(plain(*given, options.learning_rate, options.weight_decay))
    return between - begun, time.perf_counter() - between, result, cost, hits


def compare(options: Nielsen, sets: data.Sets, rounds: int) -> None:
    n = options.samples or len(sets.train.labels)
    script, layers = recipe.began(options.legacy_seed, len(sets.train.labels), options.sizes, large=True)
    orders = np.stack([rows.reshape(-1, 10) for rows, _ in zip(script.epochs(n), range(options.epochs), strict=False)])
    with jax.enable_x64():
        params = tuple((jnp.asarray(layer.w.T), jnp.asarray(layer.b)) for layer in layers)
        train, test = (tuple(map(jnp.asarray, images)) for images in (sets.train.rows(slice(n)), sets.test))
        both = functools.partial(one_round, options, sets, (params, train, test, orders))
        _, _, result, cost, hits = both()  # compiles
        seconds: dict[str, list[float]] = {"ours": [], "plain": []}
        for _ in range(rounds):
            ours, there, result, cost, hits = both()
            seconds["ours"].append(ours)
            seconds["plain"].append(there)
    ratio = statistics.median(a / b for a, b in zip(seconds["ours"], seconds["plain"], strict=True))
    ours, there = (statistics.median(s) for s in seconds.values())
    apart = np.max(np.abs(np.asarray(cost) - result.history["test_cost"]))
    same = int(np.sum(np.asarray(hits) != result.history["test_accuracy"]))
    print(f"{options.epochs} epochs on {n} images, {options.gradient}: {ours:.2f} s, plain scan {there:.2f} s, ratio {ratio:.2f}")
    print(
        f"  costs apart by {apart:.1e} at most, {same} of {options.epochs} accuracies differ (a ratio of at most 1.5 is wanted)"
    )


if __name__ == "__main__":
    main()
