"""Rumelhart, Hinton, Williams (1986): 4-bit parity on four hidden units, which can come to count the ones.

The output is 1 where an odd number of inputs is 1: one bit more always turns the answer, so that no input helps alone.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp as bp
from experiments.classics import shared
from experiments.classics.shared import Story
from experiments.config.classics import Parity
from experiments.published import Number
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.heat import heat_map
from jaxbp.page.wiring import draw_weights


NET, LOSS = shared.sigmoid_net(4, 1, w_init=bp.initializers.uniform(-1.0, 1.0)), bp.losses.quadratic()
RATE, MOMENTUM, SWEEPS, EVERY = 0.5, 0.9, 4000, 40
X = shared.bits(4).astype(float)
ONES = X.sum(1).astype(int)
TARGETS = (ONES % 2)[:, None].astype(float)


class Trained(NamedTuple):
    """Of every start: params after the last sweep, hidden activations and outputs, Σ ½ (y − o)² after every 40 sweeps."""

    params: Any
    hidden: np.ndarray
    outputs: np.ndarray
    errors: np.ndarray

    @property
    def right(self) -> np.ndarray:
        return ((self.outputs > 0.5) == (TARGETS[:, 0] > 0.5)).sum(-1)

    @property
    def spread(self) -> np.ndarray:
        """How far the hidden codes of patterns with as many ones lie apart: 0 where the units see nothing but the count."""
        same = [self.hidden[:, n == ONES] for n in range(5)]
        return np.sqrt(sum(((h - h.mean(1, keepdims=True)) ** 2).sum((1, 2)) for h in same) / len(X))

    @property
    def counts(self) -> np.ndarray:
        return (self.right == len(X)) & (self.spread < 0.1)

    @property
    def shown(self) -> int:
        """Of the starts with most patterns right the one whose hidden units come closest to counting."""
        return int(np.lexsort((self.spread, -self.right))[0])


def watch(params: Any) -> jax.Array:
    return bp.objective(NET, LOSS, reduction="sum")(params, jnp.asarray(X), jnp.asarray(TARGETS))


def trained(starts: int, seed: int) -> Trained:
    train = shared.side_by_side(net=NET, loss=LOSS, passes=SWEEPS, momentum=MOMENTUM, every=EVERY, watch=watch)
    params, errors = train(shared.starts(NET, 4, seed, starts), jnp.asarray(X), jnp.asarray(TARGETS), RATE, None)
    hidden, outputs = shared.activations(NET, params, jnp.asarray(X))
    return Trained(jax.tree.map(np.asarray, params), np.asarray(hidden), np.asarray(outputs)[..., 0], np.asarray(errors))


def by_ones(run: Trained) -> np.ndarray:
    """Mean activation of each hidden unit of the start shown, a row for each number of ones."""
    return np.stack([run.hidden[run.shown][n == ONES].mean(0) for n in range(5)])


def numbers(run: Trained) -> list[Number]:
    return [Number("patterns right", 16, run.right[run.shown], 0, "four hidden units are enough for four bits")]


def tell(options: Parity) -> Story:
    run = trained(options.starts, options.seed)
    return Story(
        "Four-bit parity",
        "16 patterns, four hidden sigmoid units, one output: is the number of ones odd?",
        numbers(run),
        [_codes(run), _training(run), _net(run)],
        {"right": run.right, "errors": run.errors[:, -1], "spread": run.spread, "hidden_by_ones": by_ones(run)},
    )


def _codes(run: Trained) -> Section:
    order = np.argsort(ONES, kind="stable")
    hidden, outputs = run.hidden[run.shown][order], run.outputs[run.shown][order]
    names = [f"h{j + 1}" for j in range(4)]
    heat = heat_map(
        [[*h, o] for h, o in zip(hidden, outputs, strict=True)],
        rows=[f"{shared.pattern(X[i])}  ({ONES[i]})" for i in order], columns=[*names, "out"],
        title="Activations at all 16 patterns", row_label="pattern (ones)", column_label="unit",
    )  # fmt: skip
    lines = line_chart(
        [shared.curve(name, by_ones(run)[:, j], range(5)) for j, name in enumerate(names)],
        title="Hidden units by the number of ones", x_label="ones among the inputs", y_label="mean activation",
    )  # fmt: skip
    note = "Each unit goes on or off where the count passes its own value, whichever of the inputs are the ones."
    lead = (
        f"In {run.counts.sum()} of the {(run.right == len(X)).sum()} starts that solve it patterns with as many ones get nearly "
        "the same code: the hidden units count. The start of the closest code is shown."
    )
    return Section(
        "What the hidden units do", [grid(figure(heat, "Activations"), figure(lines, "By the number of ones", note))], lead
    )


def _training(run: Trained) -> Section:
    x = EVERY * np.arange(run.errors.shape[1])
    mean = run.errors.mean(0)
    chart = line_chart(
        [shared.curve("mean of the starts", mean, x, each=run.errors.tolist(), each_name="start")],
        title="Error of every start", x_label="sweeps", y_label="Σ ½ (y − o)²", log_y=True,
    )  # fmt: skip
    solved = int((run.right == 16).sum())
    return Section("Training", [figure(chart, "Error")], f"{solved} of {len(run.right)} starts have all 16 patterns right.")


def _net(run: Trained) -> Section:
    params = shared.one_of(run.params, run.shown)
    columns = [
        shared.units([f"x{i + 1}" for i in range(4)]),
        shared.units([f"h{j + 1}" for j in range(4)], bias=params[0].b),
        shared.units(["out"], bias=params[2].b),
    ]
    drawn = draw_weights(columns, [params[0].w, params[2].w], title="The trained net", digits=2)
    lead = "All four weights into a hidden unit are of one sign and about one size, as counting needs."
    lead = lead if run.counts[run.shown] else None
    return Section("The trained net", [figure(drawn)], lead)


def run(options: Parity) -> int:
    return shared.present("parity", options, tell)
