"""Nielsen: a published run from its options alone, beside its published file where one is named."""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import jax
import numpy as np

from experiments import runs, terminal
from experiments.config import UsageError
from experiments.config.nielsen import Nielsen
from experiments.nielsen import compare, data, recipe
from experiments.nielsen.compare import Difference
from experiments.nielsen.data import Set, Sets
from experiments.nielsen.net import Plan
from experiments.nielsen.page import report
from experiments.nielsen.program import HISTORY, as_data, as_params, chunks, rates, train
from experiments.runs import RunFolder


IMAGES_A_CALL = 20_000  # trained on between two lines of progress


class Result(NamedTuple):
    """params: after the last epoch. history: by name, a list over epochs; accuracies are counts. n, evaluated: images."""

    params: Any
    history: dict[str, list]
    n: int
    evaluated: int
    seconds: float


def run(options: Nielsen) -> int:
    published = compare.read(options.compare, options.part) if options.compare is not None else None
    sets = data.load(options.data_dir)
    require_fit(options, sets)
    with runs.opened("nielsen", options) as folder:
        result = reproduce(options, sets, folder)
        allowed = compare.tolerance(options.tolerance, options.epochs * -(-result.n // options.batch_size))
        found = compare.differences(published, result.history, allowed, result.evaluated, options.every) if published else []
        if published:
            terminal.section(f"Beside {published.name}", compare.table(found))
        folder.write_json("summary.json", summary(options, result, found))
        folder.write("report.html", report(options, result, published, found))
        print(f"\nReport: {folder.path / 'report.html'}", flush=True)
        for line in (d.told for d in found if d.told):
            print(f"differs from {options.compare}: {line}")
        return 1 if any(d.missed for d in found) or not np.isfinite(result.history["training_cost"]).all() else 0


def require_fit(options: Nielsen, sets: Sets) -> None:
    images, pixels = sets.train.x.shape
    if (options.sizes[0], options.sizes[-1]) != (pixels, 10):
        raise UsageError(f"--sizes: expected {pixels} pixels first and 10 digits last, got {' '.join(map(str, options.sizes))}")
    for n in (options.samples, *(run.size for run in options.before)):
        if n is not None and n > images:
            raise UsageError(f"--samples, --earlier: expected at most the {images} training images, got {n}")


def reproduce(options: Nielsen, sets: Sets, folder: RunFolder | None = None) -> Result:
    """The whole training, of which `folder` gets a line for each epoch."""
    images, evaluated = len(sets.train.labels), sets.validation if options.monitor == "validation" else sets.test
    script, layers = recipe.began(
        options.legacy_seed, images, options.sizes,
        large=options.init == "large", draws=options.draws, earlier=options.before,
    )  # fmt: skip
    n = images if options.samples is None else options.samples
    plan = Plan(options.sizes, options.cost, options.gradient, options.batch_size)
    orders = chunks(script.epochs(options.samples), options.epochs, options.every, IMAGES_A_CALL // (n * options.every))
    with jax.enable_x64():
        return _trained(plan, options, layers, orders, (sets.train, evaluated), n, folder)


def _trained(plan: Plan, options: Nielsen, layers: Any, orders: Any, pair: tuple[Set, Set], n: int, folder: Any) -> Result:
    dtype = np.dtype(options.dtype)
    params, rate = as_params(plan, layers, dtype), rates(options.learning_rate, options.weight_decay)
    evaluated, images = as_data(pair[1], dtype), None
    table: list[np.ndarray] = []
    seconds, chosen = 0.0, np.arange(n)
    for rows in orders:
        if images is None:
            chosen = np.sort(rows[0, 0])  # after --earlier, a slice of the list is no slice of the file
            images = as_data(pair[0].rows(chosen) if n < len(pair[0].labels) else pair[0], dtype)
        begun = time.perf_counter()
        params, history = train(plan, params, rate, images, evaluated, np.searchsorted(chosen, rows).astype(np.int32))
        table.extend(np.asarray(history))
        seconds += time.perf_counter() - begun
        _tell(options, table, len(rows), folder)
    return Result(params, by_name(np.stack(table)), n, len(evaluated.labels), seconds)


def by_name(table: np.ndarray) -> dict[str, list]:
    as_list = lambda name, values: [int(v) for v in values] if name.endswith("accuracy") else values.tolist()
    return {name: as_list(name, table[:, i]) for i, name in enumerate(HISTORY)}


def _tell(options: Nielsen, table: list[np.ndarray], new: int, folder: RunFolder | None) -> None:
    """A line of metrics.jsonl for each new look, and some twenty lines on the terminal in all."""
    if folder is None:
        return
    looks, curves, epoch = len(table), by_name(np.stack(table[-new:])), lambda look: (look + 1) * options.every - 1
    lines = [{"epoch": epoch(looks - new + i), **{name: values[i] for name, values in curves.items()}} for i in range(new)]
    folder.log(lines)
    all_looks = options.epochs // options.every
    apart = -(-all_looks // 20)
    if looks // apart > (looks - new) // apart or looks == all_looks:
        last = lines[-1]
        print(
            f"epoch {last['epoch']:>4}: {options.monitor} {last['test_accuracy']} right, cost {last['test_cost']:.6f}; "
            f"training {last['training_accuracy']} right, cost {last['training_cost']:.6f}",
            flush=True,
        )


def summary(options: Nielsen, result: Result, found: list[Difference]) -> dict[str, Any]:
    accuracy = result.history["test_accuracy"]
    best = int(np.argmax(accuracy))
    return {
        "experiment": "nielsen",
        "monitored": options.monitor,
        "images_trained": result.n,
        "images_evaluated": result.evaluated,
        **result.history,
        "best_accuracy": accuracy[best],
        "best_epoch": (best + 1) * options.every - 1,
        "every": options.every,
        "seconds": result.seconds,
        "params_sha256": runs.sha256(result.params),
        "compared": [d._asdict() for d in found],
        **runs.environment(),
    }
