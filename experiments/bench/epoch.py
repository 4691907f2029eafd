"""An epoch of MNIST's size, against a plain compiled scan and a Python loop; and ten folds against ten runs.

    python -m experiments.bench.epoch

[784, 30, 10], sigmoid, batches of 10, 50,000 random images, plain SGD. "scan": one jitted `lax.scan` of `jax.grad` steps that
gathers its batches by a permutation drawn on the host; "loop": a Python loop of jitted optax steps over permuted batches. Runs
alternate, medians of the paired ratios. "floor" is the time that the multiplications of the step take at the rate of one large
matrix product on this machine. Folds: [64, 32, 10] on digits, 10 folds, batches of 10, 10 epochs; "ten runs" calls a compiled
one-fold program ten times.
"""

from __future__ import annotations

import os


os.environ.setdefault("NPROC", "2")

import argparse
import statistics
import time
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from sklearn.datasets import load_digits

import jaxbp


N, BATCH, RATE = 50_000, 10, 0.5
NET, LOSS = jaxbp.mlp([784, 30, 10], hidden=jaxbp.sigmoid()), jaxbp.losses.softmax_cross_entropy()
SGD = optax.sgd(RATE)
OBJECTIVE = jaxbp.objective(NET, LOSS)


def seconds(run: Callable, *args) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(run(*args))
    return time.perf_counter() - begun


@jax.jit
def scan_epoch(params, x, labels, order):
    def step(params, rows):
        grads = jax.grad(OBJECTIVE)(params, jnp.take(x, rows, axis=0), jnp.take(labels, rows, axis=0))
        return jax.tree.map(lambda p, g: p - RATE * g, params, grads), None

    return jax.lax.scan(step, params, order)[0]


@jax.jit
def loop_step(params, state, x, labels):
    updates, state = SGD.update(jax.grad(OBJECTIVE)(params, x, labels), state, params)
    return optax.apply_updates(params, updates), state


def epochs(rounds: int) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.random((N, 784), np.float32), rng.integers(0, 10, N)
    x, y = jnp.asarray(images), jnp.asarray(labels)
    params, _ = NET.init(jax.random.key(0), (784,))

    def ours(seed):
        return jaxbp.fit(
            NET, LOSS, SGD, x, y, params=params, key=jax.random.key(seed), epochs=1, batch_size=BATCH, metrics=()
        ).params

    def scan(seed):
        return scan_epoch(params, x, y, np.random.default_rng(seed).permutation(N).reshape(-1, BATCH).astype(np.int32))

    def loop(seed):
        order, p, state = np.random.default_rng(seed).permutation(N).reshape(-1, BATCH), params, SGD.init(params)
        for rows in order:
            p, state = loop_step(p, state, images[rows], labels[rows])
        return p

    for run in (ours, scan, loop):
        run(0)
    took = {run: [] for run in (ours, scan, loop)}
    for seed in range(rounds):
        for run in took:
            took[run].append(seconds(run, seed))
    flops = N * 2 * (784 * 30 * 2 + 30 * 10 * 3)
    side = 2048
    a = jnp.ones((side, side))
    product = jax.jit(lambda a: a @ a)
    seconds(product, a)
    floor = flops / (2 * side**3 / min(seconds(product, a) for _ in range(7)))
    median = {run.__name__: statistics.median(t) for run, t in took.items()}
    ratio = median["ours"] / floor
    print(f"one epoch, {N} images, batches of {BATCH}: jaxbp {median['ours']:.3f} s, floor {floor:.3f} s ({ratio:.1f}x)")
    for other, wanted in ((scan, 0.95), (loop, 0.7)):
        ratio = statistics.median(o / t for o, t in zip(took[ours], took[other], strict=True))
        print(f"  against the {other.__name__} ({median[other.__name__]:.3f} s): {ratio:.2f}x  (at most {wanted} is wanted)")


def folds(rounds: int) -> None:
    x, labels = load_digits(return_X_y=True)
    x = (x / 16).astype(np.float32)
    net = jaxbp.mlp([64, 32, 10], hidden=jaxbp.sigmoid())
    common = {"key": jax.random.key(0), "folds": 10, "epochs": 10, "batch_size": 10}
    run = lambda execution: jaxbp.cross_validate(net, LOSS, SGD, x, labels, execution=execution, **common).seconds_run
    for execution in ("sharded", "loop"):
        run(execution)
    pairs = [(run("sharded"), run("loop")) for _ in range(rounds)]
    together, apart = (statistics.median(p[i] for p in pairs) for i in (0, 1))
    ratio = statistics.median(a / b for a, b in pairs)
    print(f"10 folds, batches of 10: together {together:.3f} s, ten runs {apart:.3f} s: {ratio:.2f}x  (at most 0.5 is wanted)")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--only", choices=["epoch", "folds"])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.only != "epoch":  # two devices share the folds; one alone has both cores
        jax.config.update("jax_num_cpu_devices", 2)
    if options.only != "folds":
        epochs(options.rounds)
    if options.only != "epoch":
        folds(options.rounds)


if __name__ == "__main__":
    main()
