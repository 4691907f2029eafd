"""J. Han, M. Kamber, "Data Mining", 9.2: a 3-2-1 net, one tuple, case updating; every number of their three tables.

Their Err_j is −∂E/∂I_j, so that a weight moves by η Err_j O_i; θ is the bias. Units 1 to 3 are the inputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp as bp
from experiments.classics import shared
from experiments.classics.shared import Story, half_unit
from experiments.config.classics import HanKamber
from experiments.published import Number
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.frame import Mark
from jaxbp.page.tables import Table
from jaxbp.page.wiring import draw_weights


NET, LOSS, RATE = shared.sigmoid_net(2, 1), bp.losses.quadratic(), 0.9
X, TARGET = np.array([[1.0, 0.0, 1.0]]), np.array([[1.0]])


class Trained(NamedTuple):
    """Before the first update and after each, stacked: params, the outputs of units 4, 5 and 6, their Err."""

    params: Any
    outputs: np.ndarray
    errors: np.ndarray


def start() -> tuple:
    return (shared.dense([[0.2, 0.4, -0.5], [-0.3, 0.1, 0.2]], [-0.4, 0.2]), (), shared.dense([[-0.3, -0.2]], [0.1]), ())


def seen(params: tuple) -> Trained:
    """Err of a unit is minus the gradient of its bias: there is one tuple."""
    hidden, _ = bp.serial(*NET.parts[:2]).forward(params[:2], jnp.asarray(X))
    _, grads = bp.value_and_grad(NET, LOSS)(params, jnp.asarray(X), jnp.asarray(TARGET))
    outputs = jnp.concatenate([hidden[0], NET.forward(params, jnp.asarray(X))[0][0]])
    return Trained(params, outputs, -jnp.concatenate([grads[0].b, grads[2].b]))  # type: ignore[arg-type]


def trained(updates: int) -> Trained:
    how: dict[str, Any] = {"net": NET, "loss": LOSS, "passes": updates, "batch_size": 1, "watch": seen}
    _, run = shared.descend(start(), jnp.asarray(X), jnp.asarray(TARGET), RATE, **how)
    return jax.tree.map(np.asarray, run)


def numbers(run: Trained) -> list[Number]:
    first, six = shared.one_of(run.params, 1), half_unit(6)
    return [
        Number("O4, O5, O6", [0.331812, 0.524979, 0.473889], run.outputs[0], six),
        Number("Err6", 0.131169, run.errors[0, 2], six),
        Number("Err4, Err5", [-0.008725, -0.006542], run.errors[0, :2], six),
        Number("w46, w56", [-0.260829, -0.138025], first[2].w[:, 0], six),
        Number("w14, w24, w34", [0.192148, 0.4, -0.507852], first[0].w[:, 0], six),
        Number("w15, w25, w35", [-0.305888, 0.1, 0.194112], first[0].w[:, 1], six),
        Number("θ6", 0.218052, first[2].b[0], six),
        Number("θ4, θ5", [-0.407852, 0.194112], first[0].b, six),
    ]


def tell(options: HanKamber) -> Story:
    run = trained(options.updates)
    return Story(
        "Han and Kamber: one tuple through a 3-2-1 net",
        "X = (1, 0, 1) of class 1, learning rate 0.9, weights updated after the tuple (case updating).",
        numbers(run),
        [_net(run, options.updates), _tables(run), _training(run)],
        {"outputs": run.outputs[0], "err": run.errors[0], "output_after": run.outputs[-1, 2]},
    )


def _net(run: Trained, updates: int) -> Section:
    drawn = [
        figure(_drawing(run, 0, "before"), "Before the first update"),
        figure(_drawing(run, 1, "after one update"), "After one update"),
        figure(_drawing(run, updates, f"after {updates} updates"), f"After {updates} updates"),
    ]
    return Section(
        "The net", drawn, "Unit 2 has input 0, so its weights never move: their gradient is the error times the input."
    )


def _drawing(run: Trained, update: int, when: str) -> Any:
    params, outputs, errors = shared.one_of(run, update)
    columns = [
        shared.units(["1", "2", "3"], input=X[0]),
        shared.units(["4", "5"], O=outputs[:2], Err=errors[:2], θ=params[0].b),
        shared.units(["6"], O=outputs[2:], Err=errors[2:], θ=params[2].b),
    ]
    return draw_weights(columns, [params[0].w, params[2].w], title=f"Han and Kamber's net {when}", digits=3)


def _tables(run: Trained) -> Section:
    (first, _, second, _), moved = shared.one_of(run.params, 0), shared.one_of(run.params, 1)
    six = [shared.digits(name, 6) for name in ("before", "after", "by")]
    rows = [["w46", second.w[0, 0], moved[2].w[0, 0]], ["w56", second.w[1, 0], moved[2].w[1, 0]]]
    rows += [[f"w{i + 1}{j + 4}", first.w[i, j], moved[0].w[i, j]] for i in range(3) for j in range(2)]
    rows += [["θ6", second.b[0], moved[2].b[0]], *([f"θ{j + 4}", first.b[j], moved[0].b[j]] for j in range(2))]
    weights = Table(["", *six], [[name, float(a), float(b), float(b - a)] for name, a, b in rows], title="Weights and biases")
    errs = [[f"unit {j + 4}", run.outputs[0, j], run.errors[0, j]] for j in range(3)]
    return Section("The first update", [grid(weights.to_html(), Table(["", "output", "Err"], errs, title="Units").to_html())])


def _training(run: Trained) -> Section:
    chart = line_chart(
        [shared.curve("output", run.outputs[:, 2], range(len(run.outputs)))],
        title="Output of unit 6",
        x_label="updates",
        y_label="O6, wanted 1",
        marks=[Mark(1, "the text stops here")],
    )
    return Section("Going on", [figure(chart, f"The output over {len(run.outputs) - 1} updates by the same tuple")])


def run(options: HanKamber) -> int:
    return shared.present("han-kamber", options, tell)
