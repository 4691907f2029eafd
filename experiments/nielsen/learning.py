"""When to stop, and when to learn more slowly: early stopping and halved rates on the run of 1,000 images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config.nielsen import Nielsen, NielsenStudies
from experiments.nielsen import data, recipe
from experiments.nielsen.found import Found
from experiments.nielsen.net import Plan
from experiments.nielsen.program import as_data, as_params, rates, train
from experiments.nielsen.published_files import curves_of
from experiments.nielsen.run import by_name, reproduce
from experiments.published import Number
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.frame import Mark
from jaxbp.page.tables import Table
from jaxbp.training import StoppingRule, halve_on_plateau, patience
from jaxbp.training.stopping import Epoch


PATIENCE = {10: (8572, 171, 181), 20: (8671, 294, 314), 50: (8710, 383, None)}  # kept, its epoch, stops after
BASE = Nielsen(samples=1000, epochs=400, weight_decay=0.1)
SHORTEST, WAIT, MOST = 1 / 128, 10, 1000
STOPPING = (
    "Early stopping keeps the weights of the best epoch and ends when so many epochs have brought nothing better. On this curve, "
    "which still climbs after hundreds of epochs, ten epochs are too impatient, as the book warns."
)
HALVING = (
    "The book's schedule: when ten epochs bring no better validation accuracy, halve η; end at 1/128 of it. Beside it the same "
    "training at the constant rate."
)


class Stopped(NamedTuple):
    """kept: the best value. best: its epoch. last: the last epoch that was run, None where the rule never fired. From 0."""

    kept: float
    best: int
    last: int | None


def replay(rule: StoppingRule, values: Sequence[float], monitor: str) -> Stopped:
    """What a rule would have done on this curve."""
    memory, best = rule.init(), 0
    for i, value in enumerate(values):
        memory, decision = rule.update(memory, epoch(i, value, monitor))
        best = i if decision.best else best
        if decision.stop:
            return Stopped(values[best], best, i)
    return Stopped(values[best], best, None)


def epoch(i: int, value: float, monitor: str) -> Epoch:
    return Epoch(jnp.asarray(i + 1), {monitor: jnp.asarray(value, jnp.float32)}, jnp.asarray(0.0))


def stopping(options: NielsenStudies) -> Found:
    accuracy = reproduce(BASE, data.load(options.data_dir)).history["test_accuracy"]
    (there,) = curves_of(options.data_dir, "regularized.json", 1)
    found = {n: replay(patience(n, "test_accuracy"), accuracy, "test_accuracy") for n in PATIENCE}
    numbers = [
        Number(f"patience {n}: best, its epoch, last epoch", numeric(PATIENCE[n]), numeric(stopped), 0, "regularized.json")
        for n, stopped in found.items()
    ]
    if there:
        numbers.append(Number("test accuracy, 400 epochs", there.curves["test_accuracy"], accuracy, 0, "regularized.json"))
    rows = [(n, s.kept, s.best, "never" if s.last is None else str(s.last)) for n, s in found.items()]
    table = Table(["patience", "test images right", "epoch", "stops after epoch"], rows)
    series = [Series("published", there.curves["test_accuracy"], x=range(400))] if there else []
    series.append(Series("here", accuracy, x=range(400)))
    marks = [Mark(s.best, f"patience {n} keeps {s.kept}", s.kept) for n, s in found.items()]
    title = "Test accuracy, 1,000 training images, λ 0.1"
    chart = line_chart(series, title=title, x_label="epoch", y_label="right of 10,000", marks=marks, width=960)
    section = Section("Early stopping", [figure(chart, title=title), table.to_html()], STOPPING)
    return Found("stopping", section, numbers, {str(n): s._asdict() for n, s in found.items()}, table)


def numeric(stopped: Sequence[float | None]) -> list[float]:
    """A rule that never fired as -1."""
    return [-1 if value is None else value for value in stopped]


class Scheduled(NamedTuple):
    """accuracy, eta: by epoch. cuts: the epochs after which the rate was halved."""

    accuracy: list[int]
    eta: list[float]
    cuts: list[int]


def scheduled(sets: data.Sets, rule: StoppingRule | None, most: int) -> Scheduled:
    """`BASE` on the validation images, the rate as the rule has it; at most so many epochs, all of them without a rule."""
    plan, n = Plan(BASE.sizes), 1000
    script, layers = recipe.began(BASE.legacy_seed, len(sets.train.labels), BASE.sizes, large=True)
    memory, eta, found = rule.init() if rule else (), BASE.learning_rate, Scheduled([], [], [])
    with jax.enable_x64():
        params, images, held_out = as_params(plan, layers), as_data(sets.train.rows(slice(n))), as_data(sets.validation)
        for i, order in zip(range(most), script.epochs(n), strict=False):
            params, history = train(plan, params, rates(eta, BASE.weight_decay), images, held_out, order[None, None])
            accuracy = by_name(np.asarray(history))["test_accuracy"][0]
            found.accuracy.append(accuracy)
            found.eta.append(eta)
            if rule is None:
                continue
            memory, decision = rule.update(memory, epoch(i, accuracy, "validation_accuracy"))
            if decision.rate != 1:
                eta *= float(decision.rate)
                found.cuts.append(i)
            if decision.stop:
                break
    return found


def halving(options: NielsenStudies) -> Found:
    sets = data.load(options.data_dir)
    halved = scheduled(sets, halve_on_plateau(WAIT, "validation_accuracy", least=SHORTEST), MOST)
    constant = scheduled(sets, None, len(halved.accuracy))
    numbers = [Number("halvings until 1/128 of the rate", 7, len(halved.cuts), 0, "ch. 3, how to choose a learning rate")]
    rows = [(cut, BASE.learning_rate / 2 ** (i + 1), halved.accuracy[cut]) for i, cut in enumerate(halved.cuts)]
    table = Table(["epoch", "η from then on", "validation images right"], rows)
    epochs = range(len(halved.accuracy))
    series = [Series("halved on a plateau", halved.accuracy, x=epochs), Series("constant", constant.accuracy, x=epochs)]
    marks = [Mark(cut, f"η/{2 ** (i + 1)}") for i, cut in enumerate(halved.cuts)]
    title = "Validation accuracy"
    chart = line_chart(series, title=title, x_label="epoch", y_label="right of 10,000", marks=marks, width=960)
    rate = line_chart([Series("η", halved.eta, x=epochs)], title="Learning rate", x_label="epoch", y_label="η", log_y=True)
    end = f"At the end {halved.accuracy[-1]} of the validation images are right, at the constant rate {constant.accuracy[-1]}."
    blocks: list[Any] = [figure(chart, title=title), end, grid(figure(rate, title="Learning rate"), table.to_html())]
    summary = {"accuracy": halved.accuracy, "eta": halved.eta, "cuts": halved.cuts, "constant": constant.accuracy}
    return Found("halving", Section("Halved learning rates", blocks, HALVING), numbers, summary, table)
