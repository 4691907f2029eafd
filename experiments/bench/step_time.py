"""Step time of the hand-written gradient against `jax.value_and_grad` of the same forward.

    python -m experiments.bench.step_time

Both are compiled; runs alternate and each pair gives one ratio, so that other work on the machine falls on both alike.
Printed: the median ratio, its quartiles, and the median time of each. Exit status 0; with --strict 1 above the ratio wanted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time

import jax

import jaxbp as bp


SIZES = [784, 512, 512, 10]
PAIRS = 41
WANTED = 1.05  # the largest median ratio


def seconds(step, *args) -> float:
    start = time.perf_counter()
    jax.block_until_ready(step(*args))
    return time.perf_counter() - start


def compare(batch: int, hidden: bp.Layer) -> tuple[list[float], float, float]:
    net, loss = bp.mlp(SIZES, hidden=hidden), bp.losses.softmax_cross_entropy()
    params, _ = net.init(jax.random.key(0), (SIZES[0],))
    x = jax.random.normal(jax.random.key(1), (batch, SIZES[0]))
    labels = jax.random.randint(jax.random.key(2), (batch,), 0, SIZES[-1])
    hand = jax.jit(bp.value_and_grad(net, loss))
    auto = jax.jit(jax.value_and_grad(bp.objective(net, loss)))
    for step in (hand, auto, hand, auto):
        seconds(step, params, x, labels)
    pairs = []
    for i in range(PAIRS):  # which goes first alternates too
        order = (hand, auto) if i % 2 else (auto, hand)
        took = {step: seconds(step, params, x, labels) for step in order}
        pairs.append((took[hand], took[auto]))
    ratios = sorted(h / a for h, a in pairs)
    return ratios, statistics.median(h for h, _ in pairs), statistics.median(a for _, a in pairs)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m experiments.bench.step_time", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--strict", action="store_true", help=f"exit with status 1 where a median ratio is above {WANTED}")
    strict = parser.parse_args(arguments).strict
    device = jax.devices()[0]
    print(f"{SIZES}, softmax cross-entropy, float32, {device.platform} ({device.device_kind}), {PAIRS} alternated pairs")
    print(f"{'hidden':10} {'batch':>6} {'hand':>9} {'jax.grad':>9} {'ratio':>7}  quartiles")
    worst = 0.0
    for hidden in (bp.sigmoid(), bp.tanh(), bp.relu()):
        for batch in (128, 1024):
            ratios, hand, auto = compare(batch, hidden)
            median, low, high = statistics.median(ratios), ratios[len(ratios) // 4], ratios[3 * len(ratios) // 4]
            worst = max(worst, median)
            print(f"{hidden.name:10} {batch:6} {hand * 1e3:6.2f} ms {auto * 1e3:6.2f} ms {median:7.3f}  {low:.3f}-{high:.3f}")
    print(f"largest median ratio {worst:.3f} (at most {WANTED} is wanted)")
    return int(strict and worst > WANTED)


if __name__ == "__main__":
    sys.exit(main())
