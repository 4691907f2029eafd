"""The gradient of bfloat16 and float16 params: its error against float64 and its time, by hand in float32 and by `jax.grad`.

    python -m experiments.bench.precision                     # everything
    python -m experiments.bench.precision --only digits       # product, errors, times, digits

`product`: x^T y_bar of one dense layer, the truth the float64 sum of the same narrow x and y_bar. `errors`: the whole gradient of
[784, 512, 512, 10], tanh, with narrow params, in one pass over 4096 examples and over 32 parts of 128. With activations in
float32 the truth is float64 of the same params and x. With narrow activations what they round off on the way is in the gradient
of either, so that nothing is wanted there; a loss scale keeps float16 from flushing cotangents of 1/4096. `times`: of the same
programs, in turn; each pair gives one ratio. `digits`: `fit` in float32, in mixed precision and with bfloat16 params, by the
hand-written and the automatic gradient.

An error is the largest of a leaf, in units of the leaf's largest entry; of all leaves the worst. Exit status 1 where one that
is wanted is not reached.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import jaxbp as bp
from experiments import datasets
from experiments.bench.per_example import LOSS, SIZES, compare, compiled
from jaxbp import factors, tree
from jaxbp.page.tables import Column, Table
from jaxbp.training import fit, mixed_precision, standardize, value_and_grad_in_parts


NET = bp.mlp(SIZES, hidden=bp.tanh())  # of 4 million relus a rounding in float32 turns one now and then: an error of 1e-2
BATCH, PARTS = 4096, 32
NARROW = ("bfloat16", "float16")
WANTED = 1e-5


def worst(got: Any, truth: Any) -> float:
    pairs = zip(*([np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(a)] for a in (got, truth)), strict=True)
    return max(float(np.max(np.abs(g - t)) / np.max(np.abs(t))) for g, t in pairs)


def data(dtype: str, activations: str) -> tuple:
    """(params, x, labels): x in float32 holds the same numbers as x in `dtype`."""
    params, _ = NET.init(jax.random.key(0), jax.ShapeDtypeStruct((SIZES[0],), dtype))
    x = jax.random.normal(jax.random.key(1), (BATCH, SIZES[0])).astype(dtype)
    labels = jax.random.randint(jax.random.key(2), (BATCH,), 0, SIZES[-1])
    return params, x.astype(activations), labels


def exact(params: Any, x: jax.Array, labels: jax.Array) -> Any:
    """The automatic gradient in float64."""
    with jax.enable_x64(True):
        return jax.jit(jax.grad(bp.objective(NET, LOSS)))(*tree.cast((params, x), jnp.float64), labels)


def by_hand(params: Any, x: jax.Array, labels: jax.Array) -> Any:
    return bp.value_and_grad(NET, LOSS, grad_dtype="float32")(params, x, labels)


def by_hand_scaled(params: Any, x: jax.Array, labels: jax.Array) -> Any:
    return bp.value_and_grad(NET, LOSS, grad_dtype="float32")(params, x, labels, loss_scale=BATCH)


def by_hand_in_parts(params: Any, x: jax.Array, labels: jax.Array) -> Any:
    return value_and_grad_in_parts(NET, LOSS, PARTS)(params, x, labels)


def by_grad(params: Any, x: jax.Array, labels: jax.Array) -> Any:
    return jax.value_and_grad(bp.objective(NET, LOSS))(params, x, labels)


def by_grad_in_parts(sums: str | None) -> Callable:
    """The usual loop over micro-batches; the sums are in `sums`, None for the dtype of each parameter."""

    def f(params: Any, x: jax.Array, labels: jax.Array) -> Any:
        def add(carry: Any, part: tuple) -> tuple:
            new = by_grad(params, *part)
            return jax.tree.map(lambda a, b: a + b.astype(a.dtype), carry, new), None

        start = jnp.zeros(()), jax.tree.map(lambda p: jnp.zeros(p.shape, sums or p.dtype), params)
        cut = x.reshape(PARTS, -1, x.shape[1]), labels.reshape(PARTS, -1)
        return jax.tree.map(lambda a: a / PARTS, lax.scan(add, start, cut)[0])

    return f


# --- errors


def product(_: int) -> bool:
    rng = np.random.default_rng(0)
    rows, reached = [], True
    for dtype in NARROW:
        for size in (128, BATCH):
            x, y_bar = (jnp.asarray(rng.normal(size=(size, SIZES[1])), dtype) for _ in range(2))
            truth = np.asarray(x, np.float64).T @ np.asarray(y_bar, np.float64)
            hand = jax.jit(lambda x, y_bar: factors.Outer(x, y_bar).total("float32"))(x, y_bar)
            w = jnp.zeros((SIZES[1], SIZES[1]), dtype)
            (auto,) = jax.jit(lambda x, y_bar, w=w: jax.vjp(lambda w: x @ w, w)[1](y_bar))(x, y_bar)
            rows.append((dtype, size, worst(hand, truth), worst(auto, truth)))
            reached &= rows[-1][2] <= WANTED
    columns = ["params", "batch", "by hand", "jax.grad"]
    print(Table(columns, rows, "x^T y_bar, 512 x 512, against the float64 sum of the same numbers"), flush=True)
    return reached


def errors(_: int) -> bool:
    programs = [by_hand, by_hand_scaled, by_grad, by_hand_in_parts, by_grad_in_parts(None), by_grad_in_parts("float32")]
    rows, reached = [], True
    for dtype in NARROW:
        for activations in ("float32", dtype):
            args = data(dtype, activations)
            truth = exact(*args)
            found = [worst(jax.jit(program)(*args)[1], truth) for program in programs]
            rows.append((dtype, activations, *found))
            reached &= activations != "float32" or max(found[0], found[1], found[3]) <= WANTED
    once, parts = f"batch {BATCH}", f"{PARTS} parts"
    columns = ["params", "activations", f"by hand, {once}", "and loss scale", f"jax.grad, {once}", f"by hand, {parts}"]
    columns += [f"jax.grad, {parts}, summed narrow", f"jax.grad, {parts}, summed in float32"]
    print(Table(columns, rows, f"Worst leaf of {SIZES} against float64").to_text(130), flush=True)
    return reached


# --- times


def times(pairs: int) -> bool:
    for dtype in NARROW:
        args = data(dtype, dtype)
        for what, hand, auto in (
            (f"batch {BATCH}", by_hand, by_grad),
            (f"{PARTS} parts", by_hand_in_parts, by_grad_in_parts("float32")),
        ):
            reference = compiled(auto, *args)
            compare(f"{dtype}, {what}: by hand / jax.grad", compiled(hand, *args), args, reference, args, pairs, None)
    return True


# --- training


def digits(_: int) -> bool:
    images = datasets.digits()
    x, labels = images.images.astype(np.float32), images.labels
    net = bp.mlp([64, 64, 10], hidden=bp.tanh())
    rows = []
    for name, precision, gradient, dtype in (
        ("float32", None, "manual", "float32"),
        ("mixed, bfloat16", mixed_precision("bfloat16"), "manual", "float32"),
        ("mixed, bfloat16", mixed_precision("bfloat16"), "autodiff", "float32"),
        ("mixed, float16", mixed_precision("float16"), "manual", "float32"),
        ("mixed, float16", mixed_precision("float16"), "autodiff", "float32"),
        ("bfloat16 params", None, "manual", "bfloat16"),
    ):
        params, _ = net.init(jax.random.key(3), (64,))
        ran = fit(
            net, LOSS, optax.adam(1e-3), x[:1437], labels[:1437], key=jax.random.key(0), epochs=30, batch_size=32,
            params=tree.cast(params, dtype), validation=(x[1437:], labels[1437:]), scale=standardize(), precision=precision,
            gradient=gradient,
        )  # fmt: skip
        last = {key: values[-1] for key, values in ran.history.items()}
        skipped = ran.history["skipped_steps"].sum() if "skipped_steps" in ran.history else None
        scores = last["loss"], last["validation_loss"], 100 * last["validation_accuracy"]
        rows.append((name, gradient, *scores, last.get("loss_scale"), skipped, ran.seconds_run))
    scores = Column("loss", digits=4), Column("held-out loss", digits=4), Column("held-out accuracy", "%", digits=4)
    columns = ["precision", "gradient", *scores]
    columns += ["loss scale", "skipped", Column("run", "s", digits=2)]
    print(Table(columns, rows, "Digits, [64, 64, 10], Adam, 30 epochs, the last 360 images held out").to_text(130), flush=True)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    groups = {"product": product, "errors": errors, "times": times, "digits": digits}
    parser.add_argument("--only", choices=groups)
    parser.add_argument("--pairs", type=int, default=9)
    options = parser.parse_args()
    device = jax.devices()[0]
    print(f"{device.platform} ({device.device_kind}), an error of {WANTED:g} or less is wanted of the hand-written gradient")
    reached = [group(options.pairs) for name, group in groups.items() if options.only in (None, name)]
    if not all(reached):
        print("NOT REACHED")
    return int(not all(reached))


if __name__ == "__main__":
    sys.exit(main())
