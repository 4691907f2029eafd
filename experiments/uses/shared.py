"""What the uses share: data, net, plain descent that keeps each example's loss and norm, the page of a study."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxbp as bp
from experiments import datasets, runs, terminal
from experiments.config import UsageError
from experiments.config.uses import Use
from experiments.datasets import Images
from jaxbp import per_example
from jaxbp.page.document import Section, document, facts, key_figures
from jaxbp.page.tables import Table, number


CLASSES = 10
LOSS = bp.losses.softmax_cross_entropy()
MADE = "Made by jaxbp; this file needs no other."


# --- data and net


class Data(NamedTuple):
    """What is trained on, and what is only looked at in the end."""

    train: Images
    test: Images
    name: str


def data(options: Use, seed: int) -> Data:
    """The digits split by the seed, a fifth for the test, or training images of MNIST drawn by the seed and its test images.

    Raises: UsageError where there are fewer images than --train-size or --batch-size.
    """
    if options.data_dir is not None:
        images, test = datasets.mnist(options.data_dir)
        rows, size, name = np.random.default_rng(seed).permutation(len(images)), options.train_size or 5000, "MNIST"
        there = len(images)
    else:
        images, name = datasets.digits(), "digits"
        rows = np.random.default_rng(seed).permutation(len(images))
        there = len(images) * 4 // 5
        test, size = images.rows(rows[there:]), options.train_size or there
    if size > there:
        raise UsageError(f"--train-size: expected at most {there}, the training images of {name}, got {size}")
    if options.batch_size > size:
        raise UsageError(f"--batch-size: expected at most {size}, the images that are trained on, got {options.batch_size}")
    return Data(images.rows(rows[:size]), test, name)


def net(options: Use, train: Images) -> bp.Layer:
    return bp.mlp([train.images.shape[1], *options.hidden, CLASSES], hidden=bp.relu())


def start(of: bp.Layer, train: Images, seed: int) -> Any:
    """Params as they are drawn before training."""
    return drawn(jax.random.key(seed), of=of, features=train.images.shape[1])


@functools.partial(jax.jit, static_argnames=("of", "features"))
def drawn(key: jax.Array, *, of: bp.Layer, features: int) -> Any:
    return of.init(key, (features,))[0]


# --- training: fixed batches of a shuffle, in an order that is made beforehand


def orders(rng: np.random.Generator, rows: np.ndarray, epochs: int, steps: int, batch: int) -> np.ndarray:
    """(epochs, steps, batch) of `rows`: in every epoch whole shuffles of them, one after another, the last cut off."""
    size = steps * batch
    epoch = lambda: np.concatenate([rng.permutation(rows) for _ in range(-(-size // len(rows)))])[:size]
    return np.stack([epoch() for _ in range(epochs)]).reshape(epochs, steps, batch).astype(np.int32)


class Run(NamedTuple):
    """params at the end and after every epoch (stacked); losses and norms (epochs, steps, batch) as the steps met them."""

    params: Any
    epochs: Any
    losses: jax.Array
    norms: jax.Array


@functools.partial(jax.jit, static_argnames=("of",))
def descend(params: Any, x: Any, labels: Any, order: Any, rate: Any, *, of: bp.Layer) -> Run:
    """p <- p - rate (mean gradient of the batch), in one compiled program; the norms come with the gradient."""
    gradient = per_example.value_grads_and_norms(of, LOSS)

    def step(params: Any, rows: jax.Array) -> tuple:
        losses, grads, norms = gradient(params, x[rows], labels[rows])
        return stepped(params, grads, rate), (losses, norms)

    def epoch(params: Any, rows: jax.Array) -> tuple:
        params, seen = lax.scan(step, params, rows)
        return params, (params, *seen)

    end, seen = lax.scan(epoch, params, order)
    return Run(end, *seen)


def one_of(stacked: Any, i: int) -> Any:
    """The i-th of stacked params, as NumPy arrays."""
    return jax.tree.map(lambda leaf: np.asarray(leaf)[i], stacked)


def stepped(params: Any, grads: Any, rate: Any) -> Any:
    return jax.tree.map(lambda p, g: p - rate * g, params, grads)


def by_example(order: np.ndarray, values: Any, n: int) -> np.ndarray:
    """(epochs, n): what each epoch's steps met at each example, in place of (epochs, steps, batch); NaN where it was not met."""
    found = np.full((len(order), n), np.nan)
    for row, indices, seen in zip(found, order, np.asarray(values), strict=True):
        row[indices.ravel()] = seen.ravel()
    return found


@functools.partial(jax.jit, static_argnames=("of",))
def _outputs(params: Any, x: Any, *, of: bp.Layer) -> jax.Array:
    return of(params, x)


def outputs(of: bp.Layer, params: Any, images: Any) -> np.ndarray:
    return np.asarray(_outputs(params, images, of=of))


def accuracy(of: bp.Layer, params: Any, images: Images) -> float:
    return float(np.mean(outputs(of, params, images.images).argmax(1) == images.labels))


# --- numbers


def ranks(values: Any) -> np.ndarray:
    """0 for the least value; equal values share the mean of their ranks."""
    _, inverse, counts = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts + 1) / 2)[inverse.ravel()]


def rank_correlation(a: Any, b: Any) -> float:
    """Spearman's: the correlation of the ranks; 0 where one of them is constant."""
    a, b = ranks(a), ranks(b)
    a, b = a - a.mean(), b - b.mean()
    size = np.sqrt(np.sum(a * a) * np.sum(b * b))
    return float(np.sum(a * b) / size) if size > 0 else 0.0


def mean_sd(values: Any) -> tuple[float, float | None]:
    """The mean and the standard deviation over runs; None for a single one."""
    values = np.asarray(values, float)
    return float(values.mean()), float(values.std(ddof=1)) if values.size > 1 else None


def plus_minus(values: Any, digits: int = 3) -> str:
    """ "0.953 ± 0.008", both to the decimals of the mean."""
    mean, sd = mean_sd(values)
    written = number(mean, digits)
    decimals = len(written.partition(".")[2]) if "e" not in written else None
    if sd is None:
        return written
    return f"{written} ± {number(sd, 2)}" if decimals is None else f"{written} ± {sd:.{decimals}f}"


# --- the page


class Findings(NamedTuple):
    """A study as it came out. lead: its one sentence. figures: (label, value, note) each. shown: tables for the terminal.

    summary: for JSON. broken: a line for each thing that went wrong; the exit status is 1 where there is any.
    """

    title: str
    lead: str
    figures: Sequence[tuple]
    sections: Sequence[Section]
    shown: Sequence[Table]
    summary: dict[str, Any]
    broken: Sequence[str] = ()


def present(name: str, options: Use, study: Callable[[Any], Findings]) -> int:
    """Run the study and write its run folder. Returns the exit status."""
    data(options, options.seed)  # what cannot be used is said before a folder is made
    with runs.opened(name, options) as folder:
        found = study(options)
        for table in found.shown:
            terminal.section(table.title or name, table.to_text(120).removeprefix(f"{table.title}\n"))
        folder.write_json("summary.json", {"experiment": name, **found.summary, "broken": list(found.broken)})
        head = Section("Result", [key_figures(found.figures)])
        tail = Section("Configuration", [facts({**runs.plain(runs.of_run(options)), **runs.environment()})])
        folder.write("report.html", document(found.title, [head, *found.sections, tail], lead=found.lead, footer=MADE))
        print(f"\n{found.lead}\n\nReport: {folder.path / 'report.html'}", flush=True)
        for line in found.broken:
            print(f"error: {line}", file=sys.stderr)
        return 1 if found.broken else 0


def named(data_: Data) -> str:
    """ "1,437 digits", "10,000 images of MNIST"."""
    return f"{number(len(data_.train))} {'digits' if data_.name == 'digits' else f'images of {data_.name}'}"


def over_seeds(options: Use) -> str:
    """ "over 3 seeds"."""
    return f"over {options.seeds} seed{'' if options.seeds == 1 else 's'}"


def finite(values: Any) -> bool:
    return bool(jnp.isfinite(jnp.asarray(values)).all())
