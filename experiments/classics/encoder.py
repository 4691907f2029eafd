"""T. Mitchell, "Machine Learning" (1997), 4.6: the 8-3-8 encoder. Three hidden units come to hold a code of eight patterns."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp as bp
from experiments.classics import shared
from experiments.classics.shared import Story
from experiments.config.classics import Encoder
from experiments.published import Number
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.heat import heat_map
from jaxbp.page.tables import Table
from jaxbp.page.wiring import draw_weights


NET, LOSS = shared.sigmoid_net(3, 8, w_init=bp.initializers.uniform(-0.1, 0.1)), bp.losses.quadratic()
RATE, EVERY, STARTS = 0.3, 10, 6
X = np.eye(8)
FOLLOWED = 1  # the pattern 01000000, whose hidden code Mitchell follows


class Trained(NamedTuple):
    """Of every start: params after the last pass, the hidden codes (8, 3) and outputs (8, 8) that they give; before the first
    pass and after every 10: squared error of each output unit, code of pattern 01000000, weights and bias of the first unit."""

    params: Any
    codes: np.ndarray
    outputs: np.ndarray
    errors: np.ndarray
    code: np.ndarray
    weights: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Patterns of each start whose largest output is their own."""
        return (self.outputs.argmax(-1) == np.arange(8)).sum(-1)

    @property
    def rounded(self) -> list[list[str]]:
        """The codes of each start, rounded to bits."""
        return [[shared.pattern(row) for row in start > 0.5] for start in self.codes]

    @property
    def shown(self) -> int:
        """The start with most different codes when they are rounded to bits; the first of them."""
        return int(np.argmax([len(set(codes)) for codes in self.rounded]))


def watch(params: Any) -> tuple[jax.Array, jax.Array, jax.Array]:
    hidden = bp.serial(*NET.parts[:2])(params[:2], jnp.asarray(X))
    outputs = NET(params, jnp.asarray(X))
    return jnp.sum((outputs - X) ** 2, axis=0), hidden[FOLLOWED], jnp.append(params[0].w[:, 0], params[0].b[0])


def trained(passes: int, seed: int) -> Trained:
    """Case updating: each pass makes eight updates, one a pattern, in their order."""
    how: dict[str, Any] = {"net": NET, "loss": LOSS, "batch_size": 1, "watch": watch}
    train = shared.side_by_side(passes=passes, every=min(EVERY, passes), **how)
    params, (errors, code, weights) = train(shared.starts(NET, 8, seed, STARTS), jnp.asarray(X), jnp.asarray(X), RATE, None)
    found = (*shared.activations(NET, params, jnp.asarray(X)), errors, code, weights)
    return Trained(jax.tree.map(np.asarray, params), *(np.asarray(a) for a in found))  # type: ignore[call-arg]


def numbers(run: Trained) -> list[Number]:
    return [
        Number("patterns right, each of six starts", [8] * STARTS, run.right, 0),
        Number("different codes when rounded to bits", 8, len(set(run.rounded[run.shown])), 0, "three bits hold eight patterns"),
    ]


def tell(options: Encoder) -> Story:
    run = trained(options.passes, options.seed)
    return Story(
        "The 8-3-8 encoder",
        "Eight patterns with a single 1 have to pass through three hidden units and come out as they went in.",
        numbers(run),
        [_codes(run), _course(run), _net(run)],
        {"right": run.right, "codes": run.codes[run.shown], "rounded": run.rounded[run.shown]},
    )


def _codes(run: Trained) -> Section:
    found, patterns = run.codes[run.shown], [shared.pattern(row) for row in X]
    heat = heat_map(
        found.tolist(), rows=patterns, columns=["h1", "h2", "h3"], title="Hidden codes", row_label="input", column_label="unit"
    )
    rows = [[p, *code, bits] for p, code, bits in zip(patterns, found, run.rounded[run.shown], strict=True)]
    table = Table(["input", "h1", "h2", "h3", "rounded"], rows, title="The code")
    lead = "Nobody told the net about binary numbers: rounded, the hidden activations are eight different codes of three bits."
    return Section("Hidden codes", [grid(figure(heat, "Activations"), table.to_html())], lead)


def _course(run: Trained) -> Section:
    """The three figures of Mitchell: errors of the outputs, one hidden code, the weights of one hidden unit, over the passes."""
    x, (errors, code, weights) = EVERY * np.arange(run.errors.shape[1]), (a[run.shown] for a in run[3:])
    inputs = weights[:, :8]
    error_chart = line_chart(
        [shared.curve("mean of the outputs", errors.mean(-1), x, each=errors.T, each_name="output")],
        title="Squared error of each output unit", x_label="passes", y_label="Σ (o − t)² over the patterns",
    )  # fmt: skip
    code_chart = line_chart(
        [shared.curve(f"h{j + 1}", code[:, j], x) for j in range(3)],
        title="Hidden code of 01000000", x_label="passes", y_label="activation",
    )  # fmt: skip
    weight_chart = line_chart(
        [
            shared.curve("bias", weights[:, 8], x),
            shared.curve("mean of the eight inputs", inputs.mean(-1), x, each=inputs.T, each_name="input"),
        ],
        title="Weights into h1", x_label="passes", y_label="weight",
    )  # fmt: skip
    blocks = [
        figure(error_chart, "Error of each output unit"),
        figure(code_chart, "Code of 01000000"),
        figure(weight_chart, "Weights into h1"),
    ]
    return Section("The course of it", [grid(*blocks)], "η = 0.3, weights from −0.1 to 0.1, one update a pattern.")


def _net(run: Trained) -> Section:
    params = shared.one_of(run.params, run.shown)
    columns = [
        shared.units([f"x{i + 1}" for i in range(8)]),
        shared.units([f"h{j + 1}" for j in range(3)], bias=params[0].b),
        shared.units([f"o{i + 1}" for i in range(8)]),
    ]
    drawn = draw_weights(columns, [params[0].w, params[2].w], title="The trained net", digits=2)
    return Section("The trained net", [figure(drawn)], "Signs and sizes of the links; hover over one for its weight.")


def run(options: Encoder) -> int:
    return shared.present("encoder", options, tell)
