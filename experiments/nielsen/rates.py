"""Three learning rates, and why the largest cannot come back digit for digit: how a rounding grows."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experiments.config.nielsen import Nielsen, NielsenStudies
from experiments.nielsen import data, recipe
from experiments.nielsen.found import Found
from experiments.nielsen.gradients import gradient_of
from experiments.nielsen.net import Plan, descend
from experiments.nielsen.page import command
from experiments.nielsen.program import as_data, as_params
from experiments.nielsen.published_files import curves_of
from experiments.nielsen.run import reproduce
from experiments.published import Number
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, code, figure, grid
from jaxbp.page.tables import Column, Table


RATES = (0.025, 0.25, 2.5)
SETTLED = slice(10, None)  # epochs over which the largest rate is judged, by its mean
STEPS = 600
LEAD = (
    "[784, 30, 10], cross-entropy, λ 5, one program after the other: the second and third training go on with the random numbers "
    "and with the shuffled list of the first. At 2.5 training amplifies a rounding to the size of the weights within some 200 "
    "updates: those digits belong to one machine. The hand-written gradient and jax.grad, the same mathematics, part as well."
)


def options_of(index: int, gradient: Any = "manual") -> Nielsen:
    """The run of this learning rate in the book's program."""
    return Nielsen(
        epochs=30, learning_rate=RATES[index], init="default", weight_decay=5.0, monitor="validation",
        earlier=("30xall",) * index, gradient=gradient,
    )  # fmt: skip


def study(options: NielsenStudies) -> Found:
    sets, published = data.load(options.data_dir), curves_of(options.data_dir, "multiple_eta.json", len(RATES))
    ours = [reproduce(options_of(i), sets).history["training_cost"] for i in range(len(RATES))]
    again = reproduce(options_of(2, "autodiff"), sets).history["training_cost"]
    growth = {rate: grown(sets.train, rate) for rate in RATES}
    there = [curves.curves["training_cost"] if curves else None for curves in published]
    numbers = []
    for rate, here, cost in zip(RATES, ours, there, strict=True):
        if cost is not None and rate < 1:
            numbers.append(Number(f"η = {rate}: training cost, 30 epochs", cost, here, 1e-9, "multiple_eta.json"))
        elif cost is not None:
            mean = lambda values: float(np.mean(values[SETTLED]))
            note = "multiple_eta.json; chaotic, so only the mean is compared"
            numbers.append(Number(f"η = {rate}: mean training cost, epochs 10 to 29", mean(cost), mean(here), 0.05, note))
    table = told(ours, there, growth)
    section = Section("Learning rates", [grid(*charts(ours, again, there, growth)), table.to_html(), commands()], LEAD)
    summary = {"training_cost": {str(r): c for r, c in zip(RATES, ours, strict=True)}, "autodiff_2.5": again}
    return Found("rates", section, numbers, {**summary, "grown": {str(r): g for r, g in growth.items()}}, table)


def grown(train: Any, rate: float) -> np.ndarray:
    """max |w - w'| after 1, 2, ... updates of two nets whose hidden biases differed in the last bit."""
    plan = Plan((784, 30, 10))
    script, layers = recipe.began(12345678, len(train.labels), plan.sizes, large=False)
    rows = next(script.epochs(None))[: STEPS * plan.batch_size].reshape(STEPS, -1)
    with jax.enable_x64():
        images = as_data(train.rows(rows.reshape(-1)))
        gradient = gradient_of(plan)
        keep, scale = jnp.asarray(1 - rate * 5 / len(train.labels), jnp.float64), jnp.asarray(rate / plan.batch_size, jnp.float64)
        params = as_params(plan, layers)
        moved = (params[0]._replace(b=jnp.nextafter(params[0].b, jnp.inf)), *params[1:])

        def update(pair: tuple, batch: tuple) -> tuple:
            pair = tuple(descend(p, gradient(p, *batch), keep, scale) for p in pair)
            return pair, jnp.max(jnp.abs(pair[0][0].w - pair[1][0].w))

        batches = (images.x.reshape(STEPS, plan.batch_size, -1), images.y.reshape(STEPS, plan.batch_size, -1))
        return np.asarray(jax.jit(lambda pair, b: jax.lax.scan(update, pair, b)[1])((params, moved), batches))


def charts(ours: list, again: list, there: list, growth: dict[float, np.ndarray]) -> list[object]:
    epochs = range(len(again))
    drawn = []
    for rate, here, cost in zip(RATES, ours, there, strict=True):
        series = [Series("published", cost, x=epochs)] if cost is not None else []
        series.append(Series("here", here, x=epochs))
        series += [Series("here, by jax.grad", again, x=epochs)] if rate > 1 else []
        title = f"Training cost, η = {rate}"
        drawn.append(figure(line_chart(series, title=title, x_label="epoch", y_label="cost"), title=title))
    series = [Series(f"η = {rate}", values.tolist()) for rate, values in growth.items()]
    title = "How a difference in the last bit grows"
    drawn.append(figure(line_chart(series, title=title, x_label="updates", y_label="max |w − w′|", log_y=True), title=title))
    return drawn


def told(ours: list, there: list, growth: dict[float, np.ndarray]) -> Table:
    rows = []
    for rate, here, cost in zip(RATES, ours, there, strict=True):
        off = None if cost is None else float(np.max(np.abs(np.asarray(cost) - here)))
        rows.append((f"η = {rate}", here[0], here[-1], cost and cost[-1], off, float(growth[rate][-1])))
    columns = ["rate", Column("cost, epoch 0", digits=6), Column("epoch 29", digits=6), Column("published", digits=6)]
    return Table([*columns, "largest difference", f"one bit after {STEPS} updates"], rows)


def commands() -> Any:
    return code("\n".join(command(options_of(i)) for i in range(len(RATES))))
