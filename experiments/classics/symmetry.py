"""Rumelhart, Hinton, Williams (Nature, 1986): mirror symmetry of six bits, found by two hidden units.

A solved net has weights that are equal and opposite at mirrored inputs, in the ratio 1 : 2 : 4: a symmetric pattern sends 0 to
both units, and no sum of some of ±1, ±2, ±4 is 0, so every other one does not.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp as bp
from experiments.classics import shared
from experiments.classics.shared import Story
from experiments.config.classics import Symmetry
from experiments.published import Number
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, grid, key_figures
from jaxbp.page.heat import heat_map
from jaxbp.page.rows import dots
from jaxbp.page.tables import Table
from jaxbp.page.wiring import draw_weights


NET, LOSS = shared.sigmoid_net(2, 1, w_init=bp.initializers.uniform(-0.3, 0.3)), bp.losses.quadratic()
RATE, MOMENTUM, EVERY = 0.1, 0.9, 20
X = shared.bits(6).astype(float)
TARGETS = (X[:, ::-1] == X).all(1)[:, None].astype(float)


class Trained(NamedTuple):
    """Of every start: params after the last sweep; Σ ½ (y − o)² and patterns right before the first and after every 20."""

    params: Any
    errors: np.ndarray
    right: np.ndarray

    @property
    def solved(self) -> np.ndarray:
        return self.right[:, -1] == len(X)

    @property
    def shown(self) -> int:
        """The first start that solved it; the one with most right where none did."""
        return int(np.argmax(self.right[:, -1]))

    @property
    def sweeps(self) -> list[int]:
        """Of each start that solved it, the sweeps until all patterns are right for good."""
        wrong = [np.flatnonzero(row < len(X)) for row in self.right[self.solved]]
        return [EVERY * (int(w[-1]) + 1) if len(w) else 0 for w in wrong]


def watch(params: Any) -> tuple[jax.Array, jax.Array]:
    outputs = NET(params, jnp.asarray(X))
    return jnp.sum((outputs - TARGETS) ** 2) / 2, jnp.sum((outputs > 0.5) == (jnp.asarray(TARGETS) > 0.5))


def trained(starts: int, sweeps: int, seed: int) -> Trained:
    """Δw(t) = −ε ∂E/∂w + α Δw(t − 1) after each sweep through all 64 patterns, E summed over them."""
    every = min(EVERY, sweeps)
    train = shared.side_by_side(net=NET, loss=LOSS, passes=sweeps, momentum=MOMENTUM, every=every, watch=watch)
    params, (errors, right) = train(shared.starts(NET, 6, seed, starts), jnp.asarray(X), jnp.asarray(TARGETS), RATE, None)
    return Trained(jax.tree.map(np.asarray, params), np.asarray(errors), np.asarray(right))


def mirrored(w: np.ndarray) -> np.ndarray:
    """|w_i + w_(7−i)| against the larger of the two, for the three pairs of each hidden unit: 0 where equal and opposite."""
    return np.abs(w[:3] + w[:2:-1]) / np.maximum(np.abs(w[:3]), np.abs(w[:2:-1]))


def ratios(w: np.ndarray) -> np.ndarray:
    """The three sizes of each hidden unit in rising order, the least being 1."""
    sizes = np.sort(np.abs(w[:3] - w[:2:-1]) / 2, axis=0)
    return sizes / sizes[:1]


def numbers(run: Trained) -> list[Number]:
    w = run.params[0].w[run.shown]
    return [
        Number("patterns right", 64, run.right[run.shown, -1], 0),
        Number("mirrored weights: |sum| / size", np.zeros((3, 2)), mirrored(w), 0.03, "equal and opposite"),
        Number("sizes against the least", [[1, 1], [2, 2], [4, 4]], ratios(w), 0.4, "1 : 2 : 4"),
    ]


def tell(options: Symmetry) -> Story:
    run = trained(options.starts, options.sweeps, options.seed)
    w = run.params[0].w[run.shown]
    return Story(
        "Mirror symmetry",
        "Is a row of six bits the same read from both ends? Six inputs, two hidden units, one output.",
        numbers(run),
        [_structure(run, w), _training(run), _net(run)],
        {"solved": int(run.solved.sum()), "starts": options.starts, "sweeps": run.sweeps, "weights": w, "ratios": ratios(w)},
    )


def _structure(run: Trained, w: np.ndarray) -> Section:
    inputs, hidden = [f"x{i + 1}" for i in range(6)], ["h1", "h2"]
    largest = np.abs(w).max()
    heat = heat_map(
        w.T.tolist(), rows=hidden, columns=inputs, shade=(np.abs(w.T) / largest).tolist(), hue=np.where(w.T >= 0, 1, 2).tolist(),
        title="Weights into the hidden units", row_label="unit", column_label="input",
    )  # fmt: skip
    pairs = dots(
        [f"h{j + 1}: x{i + 1} and x{6 - i}" for j in range(2) for i in range(3)],
        [shared.dot_row("left", w[:3].T.ravel().tolist()), shared.dot_row("right, sign turned", (-w[:2:-1]).T.ravel().tolist())],
        title="Mirrored weights", x_label="weight",
    )  # fmt: skip
    sizes = ratios(w)
    table = Table(
        ["", *hidden],
        [[f"{name} pair", *sizes[k]] for k, name in enumerate(("smallest", "middle", "largest"))],
        title="Sizes against the smallest: 1, 2, 4",
    )
    lead = "Weights at mirrored inputs are equal and opposite, their sizes in the ratio 1 : 2 : 4. The units have opposite signs."
    blocks = grid(figure(heat, "Weights (blue positive, orange negative)"), figure(pairs, "Pairs"), table.to_html())
    return Section("Symmetric weights", [blocks], lead)


def _training(run: Trained) -> Section:
    x = EVERY * np.arange(run.errors.shape[1])
    chart = line_chart(
        [shared.curve("mean of the starts", run.errors.mean(0), x, each=run.errors.tolist(), each_name="start")],
        title="Error of every start", x_label="sweeps", y_label="Σ ½ (y − o)²", log_y=True,
    )  # fmt: skip
    last = int(x[-1])
    told = [("starts that solved it", f"{run.solved.sum()} of {len(run.solved)}", f"within {last:,} sweeps")]
    if run.sweeps:
        told.append(("sweeps they took", f"{min(run.sweeps):,} to {max(run.sweeps):,}", "the paper's net took 1,425"))
    return Section("Training", [key_figures(told), figure(chart, "Error")], "ε = 0.1, α = 0.9, weights from −0.3 to 0.3.")


def _net(run: Trained) -> Section:
    params = shared.one_of(run.params, run.shown)
    columns = [
        shared.units([f"x{i + 1}" for i in range(6)]),
        shared.units(["h1", "h2"], bias=params[0].b),
        shared.units(["out"], bias=params[2].b),
    ]
    drawn = draw_weights(columns, [params[0].w, params[2].w], title="The trained net", digits=3)
    lead = "A symmetric pattern leaves the sum of both hidden units at its bias; any other moves one of them away from it."
    return Section("The trained net", [figure(drawn)], lead)


def run(options: Symmetry) -> int:
    return shared.present("symmetry", options, tell)
