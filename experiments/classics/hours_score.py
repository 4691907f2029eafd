"""S. Shamdasani, "Build a Neural Network": hours studied and slept to a test score, a 2-3-1 sigmoid net without biases.

His code scales inputs by the largest of each column and scores by 100, then adds Xᵀ δ to the weights, all rows at once. The
worked example before it has an error of arithmetic: 2 · 0.6 + 9 · 0.3 is 3.9, not 7.5.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp as bp
from experiments.classics import shared
from experiments.classics.shared import Story
from experiments.config.classics import HoursScore
from experiments.published import Number
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, grid, key_figures
from jaxbp.page.tables import Table
from jaxbp.page.wiring import Node, draw_weights


NET, LOSS = shared.sigmoid_net(3, 1, w_init=bp.initializers.normal(), bias=False), bp.losses.quadratic()
HOURS, SCORES = np.array([[2.0, 9.0], [1.0, 5.0], [3.0, 6.0]]), np.array([[92.0], [86.0], [89.0]])
PASSES = 1000
SUMS_IN_TEXT = (7.6, 7.5, 6.5)


class Worked(NamedTuple):
    """The worked example: the sums that reach the hidden units, what these give, the sum at the output, the output."""

    sums: np.ndarray
    hidden: np.ndarray
    total: float
    output: float


def example_params() -> tuple:
    weights = lambda w: bp.Dense(jnp.asarray(w, float), None)
    return weights([[0.2, 0.6, 0.1], [0.8, 0.3, 0.7]]), (), weights([[0.4], [0.5], [0.9]]), ()


def worked() -> Worked:
    """Two hours studied, nine slept, unscaled, as the example has them."""
    params, x = example_params(), jnp.asarray(HOURS[:1])
    sums, _ = NET.parts[0].forward(params[0], x)
    hidden, _ = NET.parts[1].forward((), sums)
    total, _ = NET.parts[2].forward(params[2], hidden)
    return Worked(np.asarray(sums[0]), np.asarray(hidden[0]), float(total[0, 0]), float(NET(params, x)[0, 0]))


def data() -> tuple[jax.Array, jax.Array]:
    return jnp.asarray(HOURS / HOURS.max(0)), jnp.asarray(SCORES / 100)


def trained(seed: int) -> tuple[tuple, bp.FitResult]:
    """(params at the start, the fit): one update a pass by the sum over all rows, η = 1."""
    import optax

    x, targets = data()
    params, _ = NET.init(jax.random.key(seed), x[0])
    return params, bp.fit(
        NET, LOSS, optax.sgd(1.0), x, targets, params=params, key=jax.random.key(seed), epochs=PASSES, batch_size=None,
        shuffle=False, reduction="sum", metrics=(),
    )  # fmt: skip


def numbers(run: bp.FitResult) -> list[Number]:
    example, (x, targets) = worked(), data()
    worst = float(jnp.max(jnp.abs(NET(run.params, x) - targets)))
    return [
        Number("sums at the hidden units", [7.6, 3.9, 6.5], example.sums, 1e-12, "the text has 7.5 for 3.9"),
        Number("output of the example", 0.8567467964, example.output, 5e-11, "the text goes on with 7.5"),
        Number("worst row after training, from its score", 0.0, worst, 0.05, "within five points"),
    ]


def tell(options: HoursScore) -> Story:
    params, run = trained(options.seed)
    x, _ = data()
    before, after = np.asarray(NET(params, x))[:, 0], np.asarray(NET(run.params, x))[:, 0]
    return Story(
        "Shamdasani: hours studied and slept to a test score",
        "Three rows, two inputs, three hidden sigmoid units and one output; no biases, full-batch gradient descent.",
        numbers(run),
        [arithmetic(), _training(run, before, after), _net(run)],
        {"output": worked().output, "before": before, "after": after, "loss": run.history["loss"][-1]},
    )


def arithmetic() -> Section:
    """The sum that is wrong, and what becomes of it."""
    example = worked()
    sigmoid = lambda z: 1 / (1 + np.exp(-np.asarray(z)))
    wrong = float(sigmoid(sigmoid(SUMS_IN_TEXT) @ np.array([0.4, 0.5, 0.9])))
    terms = ["2 · 0.2 + 9 · 0.8", "2 · 0.6 + 9 · 0.3", "2 · 0.1 + 9 · 0.7"]
    rows = [[f"hidden {j + 1}", terms[j], SUMS_IN_TEXT[j], example.sums[j], example.hidden[j]] for j in range(3)]
    columns = ["unit", "is", "the text's sum", "the sum", shared.digits("sigmoid of it", 7)]
    key = key_figures(
        [
            ("2 · 0.6 + 9 · 0.3", f"{example.sums[1]:.1f}", "the text has 7.5"),
            ("output", f"{example.output:.10f}", f"with 7.5 it would be {wrong:.10f}"),
        ]
    )
    note = "Beyond 6 the sigmoid is nearly flat, so that the error moves the output by a thousandth only."
    return Section(
        "The worked example, put right",
        [key, Table(columns, rows).to_html(), figure(_example_drawing(example), "The example", note)],
    )


def _example_drawing(example: Worked) -> Any:
    params = example_params()
    columns = [
        [Node("x1", ["studied 2 h"]), Node("x2", ["slept 9 h"])],
        shared.units(["h1", "h2", "h3"], sum=example.sums, out=example.hidden),
        shared.units(["out"], sum=[example.total], out=[example.output]),
    ]
    return draw_weights(columns, [params[0].w, params[2].w], title="Shamdasani's worked example", digits=1)


def _training(run: bp.FitResult, before: np.ndarray, after: np.ndarray) -> Section:
    chart = line_chart(
        [shared.curve("loss", run.history["loss"] / len(HOURS), range(PASSES))],
        title="Loss over the passes", x_label="passes", y_label="mean of ½ (y − o)²", log_y=True,
    )  # fmt: skip
    rows = [
        [f"{a:g} and {b:g}", float(s), 100 * p, 100 * q] for (a, b), (s,), p, q in zip(HOURS, SCORES, before, after, strict=True)
    ]
    table = Table(["hours studied and slept", "score", "before training", "after"], rows)
    return Section("Training", [grid(figure(chart, "Loss"), table.to_html())])


def _net(run: bp.FitResult) -> Section:
    columns = [[Node("x1", ["studied"]), Node("x2", ["slept"])], shared.units(["h1", "h2", "h3"]), [Node("out", ["score"])]]
    drawn = draw_weights(columns, [run.params[0].w, run.params[2].w], title="The trained net")
    return Section("The trained net", [figure(drawn)])


def run(options: HoursScore) -> int:
    return shared.present("hours-score", options, tell)
