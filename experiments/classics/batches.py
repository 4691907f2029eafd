"""Two claims about Nielsen's net, measured: the matrix form against the loop over a mini-batch, and a learning rate of 100."""

from __future__ import annotations

import pathlib
import statistics
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax

import jaxbp as bp
from experiments import datasets
from experiments.classics import shared
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, key_figures
from jaxbp.page.tables import Table


LOSS, PAIRS, BATCH = bp.losses.quadratic(), 21, 10
RATES = (3.0, 100.0)
LARGE = bp.initializers.normal()  # his first initialisation: N(0, 1) for weights and biases


class Timed(NamedTuple):
    """error: largest difference of the gradients against the largest entry. seconds: medians of the matrix form, of a loop inside
    one compiled program, of a loop of compiled calls. ratios: medians of the paired ratios of the loops to the matrix form."""

    error: float
    seconds: list[float]
    ratios: list[float]


class Task(NamedTuple):
    """What a net is trained on, for how long, and what it is tested on."""

    name: str
    epochs: int
    train: datasets.Images
    test: datasets.Images


class Raised(NamedTuple):
    """What was trained on, how many test rows, chance in per cent; test rows right in per cent after each epoch, a row a rate."""

    data: str
    tested: int
    chance: float
    accuracy: np.ndarray


def matrix_or_loop(seed: int) -> Timed:
    """One mini-batch of ten through [784, 30, 10]: all rows as one matrix, and row by row with the mean of the gradients."""
    net = shared.sigmoid_net(30, 10, w_init=LARGE)
    draw = np.random.default_rng(seed)
    x, targets = jnp.asarray(draw.random((BATCH, 784))), jnp.asarray(np.eye(10)[draw.integers(10, size=BATCH)])
    params, _ = net.init(jax.random.key(seed), x[0])
    gradient = jax.jit(bp.value_and_grad(net, LOSS))
    one = lambda i: gradient(params, x[i : i + 1], targets[i : i + 1])[1]
    mean = lambda grads: jax.tree.map(lambda *g: sum(g[1:], g[0]) / BATCH, *grads)
    rows = jax.jit(lambda p: lax.map(lambda row: bp.value_and_grad(net, LOSS)(p, row[0][None], row[1][None])[1], (x, targets)))
    ways = [
        lambda: gradient(params, x, targets)[1],
        lambda: jax.tree.map(lambda g: g.mean(0), rows(params)),
        lambda: mean([one(i) for i in range(BATCH)]),
    ]
    whole, *loops = (jax.tree.leaves(way()) for way in ways)
    largest = max(float(jnp.abs(g).max()) for g in whole)
    error = max(float(jnp.abs(a - b).max()) for loop in loops for a, b in zip(whole, loop, strict=True)) / largest
    times = [[seconds(way) for way in ways] for _ in range(PAIRS)]
    ratios = [statistics.median(t[k] / t[0] for t in times) for k in (1, 2)]
    return Timed(error, [statistics.median(t) for t in zip(*times, strict=True)], ratios)


def seconds(run: Any) -> float:
    start = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - start


def task(folder: pathlib.Path | None, seed: int) -> Task:
    """MNIST from the folder, or from mnist/ in it; without one scikit-learn's digits.

    Raises: UsageError for files that are not there, or are damaged.
    """
    if folder is not None:
        whole = datasets.mnist(folder)
        return Task("MNIST, the first 50,000 images", 2, whole.train.first(50_000), whole.test)
    whole = datasets.digits()
    order = np.random.default_rng(seed).permutation(len(whole))
    name = "scikit-learn's digits (no --data-dir was given for MNIST)"
    return Task(name, 15, whole.rows(order[300:]), whole.rows(order[:300]))


def learning_rates(data: Task, seed: int) -> Raised:
    """Nielsen's quadratic sigmoid net with 30 hidden units, mini-batches of 10, at η = 3 and η = 100."""
    name, epochs, train, test = data
    net = shared.sigmoid_net(30, 10, w_init=LARGE)
    params, _ = net.init(jax.random.key(seed), jnp.asarray(train.images[0]))
    one_hot = np.eye(10, dtype=np.float32)
    accuracy = []
    for rate in RATES:
        run = bp.fit(
            net, LOSS, optax.sgd(rate), train.images, one_hot[train.labels], params=params, key=jax.random.key(seed),
            epochs=epochs, batch_size=BATCH, remainder="drop", validation=(test.images, one_hot[test.labels]), metrics="accuracy",
        )  # fmt: skip
        accuracy.append(100 * np.asarray(run.history["validation_accuracy"]))
    return Raised(name, len(test), 100 * float(np.bincount(test.labels).max() / len(test)), np.array(accuracy))


def section_of_batches(found: Timed) -> Section:
    names = ["one product over the batch", "a loop over its rows in one compiled program", "a loop of compiled calls"]
    rows = [[name, 1e6 * s, r] for name, s, r in zip(names, found.seconds, [1.0, *found.ratios], strict=True)]
    columns = ["the gradient of a mini-batch of 10", "µs", "times the matrix form"]
    table = Table(columns, rows, note=f"Medians of {PAIRS} alternated runs of [784, 30, 10] in float64.")
    key = key_figures(
        [
            ("largest difference", f"{found.error:.1e}", "of the largest entry, in float64"),
            ("a loop of calls takes", f"{found.ratios[1]:.1f} times", "as long for the same gradient"),
        ]
    )
    lead = (
        "The matrix form is how the gradient of a mini-batch is computed, nothing to use in its place: X holds the m rows "
        "of the batch, and ∇W = XᵀΔ / m is the mean of the m gradients."
    )
    return Section("Matrices and mini-batches", [key, table.to_html()], lead)


def section_of_rates(found: Raised) -> Section:
    epochs = range(1, found.accuracy.shape[1] + 1)
    chart = line_chart(
        [shared.curve(f"η = {rate:g}", values, epochs) for rate, values in zip(RATES, found.accuracy, strict=True)],
        title="Test rows right", x_label="epochs", y_label="per cent right", y_range=(0.0, 100.0),
    )  # fmt: skip
    rows = [[str(e), *found.accuracy[:, e - 1]] for e in epochs]
    table = Table(["epoch", *(f"η = {rate:g}" for rate in RATES)], rows, note=f"{found.data}; {found.tested:,} test rows.")
    lead = "At η = 100 the sigmoids saturate within the first batches, and a saturated unit has no slope to come back by."
    return Section("A learning rate of 100", [figure(chart, "Accuracy after each epoch"), table.to_html()], lead)
