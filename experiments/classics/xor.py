"""Rumelhart, Hinton, Williams (1986): XOR on two hidden units, and the starts that end in a minimum that is only local.

E = Σ ½ (y − o)² + λ/2 |w|², biases included. Without the second term the net's minima lie at infinite weights, and nothing could
be proven of where a start ends; with it they are finite: the gradient vanishes there and the Hessian is positive definite.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

import jaxbp as bp
from experiments.classics import shared
from experiments.classics.shared import Story
from experiments.config.classics import Xor
from experiments.published import Number
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.heat import heat_map
from jaxbp.page.plane import plane
from jaxbp.page.rows import bars
from jaxbp.page.tables import Table
from jaxbp.page.wiring import draw_weights


NET, LOSS = shared.sigmoid_net(2, 1, w_init=bp.initializers.uniform(-1.0, 1.0)), bp.losses.quadratic()
DECAY = 3e-4
PENALTY = bp.penalties.l2(DECAY, biases=True)
RATE, MOMENTUM, SWEEPS, EVERY = 0.5, 0.9, 10_000, 100
X = shared.bits(2).astype(float)
TARGETS = (X.sum(1) % 2)[:, None]
INPUTS = [f"{a} {b}" for a, b in shared.bits(2)]


class Trained(NamedTuple):
    """Of every start: params after the last sweep, hidden activations and outputs; E before the first and after every 100."""

    params: Any
    hidden: np.ndarray
    outputs: np.ndarray
    errors: np.ndarray

    @property
    def solved(self) -> np.ndarray:
        return (np.abs(self.outputs - TARGETS[:, 0]) < 0.3).all(-1)

    @property
    def shown(self) -> int:
        """The start of the least error."""
        return int(np.argmin(self.errors[:, -1]))

    @property
    def stuck(self) -> int | None:
        """The first start that ended in a minimum where a pattern is wrong."""
        caught = [i for i in np.flatnonzero(~self.solved) if is_minimum(*certificate(shared.one_of(self.params, int(i))))]
        return int(caught[0]) if caught else None


def watch(params: Any) -> jax.Array:
    return bp.objective(NET, LOSS, reduction="sum", penalty=PENALTY)(params, jnp.asarray(X), jnp.asarray(TARGETS))


@jax.jit
def slopes(params: Any) -> tuple[jax.Array, jax.Array]:
    """(|gradient|, eigenvalues of the Hessian in rising order)."""
    flat, back = ravel_pytree(params)
    gradient = lambda v: ravel_pytree(
        bp.value_and_grad(NET, LOSS, reduction="sum", penalty=PENALTY)(back(v), jnp.asarray(X), jnp.asarray(TARGETS))[1]
    )[0]
    return jnp.linalg.norm(gradient(flat)), jnp.linalg.eigvalsh(jax.jacfwd(gradient)(flat))


def certificate(params: Any) -> tuple[float, float]:
    """(|gradient|, least eigenvalue of the Hessian): 0 and above 0 in a strict minimum."""
    norm, eigenvalues = slopes(params)
    return float(norm), float(eigenvalues[0])


def is_minimum(norm: float, curvature: float) -> bool:
    return norm < 1e-9 and curvature > 1e-6


def trained(starts: int, seed: int) -> Trained:
    """All starts side by side; each sweep is one update by the sum over the four patterns, with momentum."""
    train = shared.side_by_side(net=NET, loss=LOSS, passes=SWEEPS, momentum=MOMENTUM, every=EVERY, watch=watch, decay_biases=True)
    params, errors = train(shared.starts(NET, 2, seed, starts), jnp.asarray(X), jnp.asarray(TARGETS), RATE, DECAY)
    hidden, outputs = shared.activations(NET, params, jnp.asarray(X))
    return Trained(jax.tree.map(np.asarray, params), np.asarray(hidden), np.asarray(outputs)[..., 0], np.asarray(errors))


def numbers(run: Trained) -> list[Number]:
    right = int(((run.outputs[run.shown] > 0.5) == (TARGETS[:, 0] > 0.5)).sum())
    return [Number("patterns right", 4, right, 0, "two hidden units are enough")]


def tell(options: Xor) -> Story:
    run = trained(options.starts, options.seed)
    found = numbers(run)
    summary = {"right": found[0].ours, "solved": int(run.solved.sum()), "starts": options.starts, "errors": run.errors[:, -1]}
    return Story(
        "XOR",
        "Two inputs, two hidden units, one output, all sigmoid: no single unit can do it, two hidden ones make it separable.",
        found,
        [_solution(run), _net(run), local_minima(run)],
        summary,
    )


def _solution(run: Trained) -> Section:
    params = shared.one_of(run.params, run.shown)
    codes = run.hidden[run.shown]
    drawn = plane_of(params, "What the net makes of the plane")
    heat = heat_map(
        [[*code, out] for code, out in zip(codes, run.outputs[run.shown], strict=True)],
        rows=INPUTS, columns=["h1", "h2", "out"], title="Activations", row_label="inputs", column_label="unit",
    )  # fmt: skip
    kinds = [TARGETS[:, 0] == kind for kind in (0, 1)]
    second = bp.serial(*NET.parts[2:])
    space = plane(
        [shared.points(f"target {kind}", codes[of, 0], codes[of, 1]) for kind, of in enumerate(kinds)],
        surface=shared.surface(second, params[2:], (-0.1, 1.1), (-0.1, 1.1), 0.5, below="0", above="1"),
        title="The patterns as the hidden units have them", x_label="h1", y_label="h2", square=True,
    )  # fmt: skip
    note = "In the inputs' plane the two classes cannot be parted by a line; in the hidden units' plane they can."
    blocks = grid(
        figure(drawn, "Inputs"), figure(space, "Hidden units", "Two patterns fall on one point."), figure(heat, "Activations")
    )
    return Section("The solution", [blocks], note)


def plane_of(params: Any, title: str) -> Any:
    kinds = [TARGETS[:, 0] == kind for kind in (0, 1)]
    points = [shared.points(f"target {kind}", X[of, 0], X[of, 1]) for kind, of in enumerate(kinds)]
    surface = shared.surface(NET, params, (-0.4, 1.4), (-0.4, 1.4), 0.5, below="0", above="1")
    return plane(points, surface=surface, title=title, x_label="input 1", y_label="input 2", square=True)


def _net(run: Trained) -> Section:
    params = shared.one_of(run.params, run.shown)
    columns = [shared.units(["x1", "x2"]), shared.units(["h1", "h2"], bias=params[0].b), shared.units(["out"], bias=params[2].b)]
    return Section("The trained net", [figure(draw_weights(columns, [params[0].w, params[2].w], title="The trained net"))])


def local_minima(run: Trained) -> Section:
    """A start that solves it beside one that does not, and how many of each there are."""
    x = EVERY * np.arange(run.errors.shape[1])
    shown = [("solved", run.shown), *([("stuck", run.stuck)] if run.stuck is not None else [])]
    chart = line_chart(
        [shared.curve(f"{kind} (start {i})", run.errors[i], x) for kind, i in shown],
        title="Error of two starts", x_label="sweeps", y_label="E", log_y=True,
    )  # fmt: skip
    values, counts = np.unique(np.round(run.errors[:, -1], 3), return_counts=True)
    ends = bars([f"E {v:.3f}" for v in values], counts.tolist(), title="Where the starts end")
    rows = [[f"{kind} (start {i})", run.errors[i, -1], *certificate(shared.one_of(run.params, i))] for kind, i in shown]
    columns = ["start", shared.digits("E", 6), "|gradient|", "least eigenvalue of the Hessian"]
    note = "The gradient is 0 and every eigenvalue of the Hessian above 0: both are minima, and only one is the lowest."
    blocks = [
        figure(chart, "The same net, the same rule, two starts"),
        figure(ends, f"Starts by the E they end at, of {len(run.solved)}"),
    ]
    if run.stuck is not None:
        plane = plane_of(shared.one_of(run.params, run.stuck), "The plane of the start that is stuck")
        blocks.append(figure(plane, "The plane of the start that is stuck"))
    told = f"{run.solved.sum()} of {len(run.solved)} starts solve it; the others end where the slope does, at a larger error."
    return Section("Local minima", [grid(*blocks), Table(columns, rows, note=note).to_html()], told)


def run(options: Xor) -> int:
    return shared.present("xor", options, tell)
