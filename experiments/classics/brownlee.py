"""J. Brownlee, "How to Code a Neural Network with Backpropagation In Python": a forward pass, deltas, twenty epochs, wheat seeds.

The deltas are ∂E/∂z of E = ½ Σ (output − expected)², as in the text's later edition; the earlier one has the other sign.
His error of an epoch is Σ (expected − output)² of each row before its update.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import jaxbp as bp
from experiments.classics import shared, wheat
from experiments.classics.shared import Story, half_unit
from experiments.config.classics import Brownlee
from experiments.published import Number
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, grid, key_figures
from jaxbp.page.plane import plane
from jaxbp.page.rows import dots
from jaxbp.page.tables import Table
from jaxbp.page.wiring import draw_weights


SMALL, NET, LOSS = shared.sigmoid_net(1, 2), shared.sigmoid_net(2, 2), bp.losses.quadratic()
ROWS = np.array([
    (2.7810836, 2.550537003, 0), (1.465489372, 2.362125076, 0), (3.396561688, 4.400293529, 0), (1.38807019, 1.850220317, 0),
    (3.06407232, 3.005305973, 0), (7.627531214, 2.759262235, 1), (5.332441248, 2.088626775, 1), (6.922596716, 1.77106367, 1),
    (8.675418651, -0.242068655, 1), (7.673756466, 3.508563011, 1),
])  # fmt: skip
X, LABELS = ROWS[:, :2], ROWS[:, 2].astype(int)
PUBLISHED = [6.350, 5.531, 5.221, 4.951, 4.519, 4.173, 3.835, 3.506, 3.192, 2.898]
PUBLISHED += [2.626, 2.377, 2.153, 1.953, 1.774, 1.614, 1.472, 1.346, 1.233, 1.132]
WHEAT = [90.47619047619048, 92.85714285714286, 97.61904761904762, 92.85714285714286, 92.85714285714286]


class Deltas(NamedTuple):
    """∂E/∂z of the output units and of the hidden one in the text's worked backward pass."""

    output: np.ndarray
    hidden: np.ndarray


def small() -> tuple:
    """The 2-1-2 net of the worked forward and backward pass."""
    first = shared.dense([[0.13436424411240122, 0.8474337369372327]], [0.763774618976614])
    second = shared.dense([[0.2550690257394217], [0.4494910647887381]], [0.49543508709194095, 0.651592972722763])
    return first, (), second, ()


def start() -> tuple:
    """The 2-2-2 net before the twenty epochs: what random.seed(1) gives, neuron by neuron."""
    first = [[0.13436424411240122, 0.8474337369372327], [0.2550690257394217, 0.49543508709194095]]
    second = [[0.651592972722763, 0.7887233511355132], [0.02834747652200631, 0.8357651039198697]]
    biases = [0.763774618976614, 0.4494910647887381], [0.0938595867742349, 0.43276706790505337]
    return shared.dense(first, biases[0]), (), shared.dense(second, biases[1]), ()


def deltas() -> Deltas:
    """The worked backward pass, on the activations that the text gives rather than computes."""
    outputs, hidden = jnp.array([[0.6213859615555266, 0.6573693455986976]]), jnp.array([[0.7105668883115941]])
    _, residuals = LOSS.forward(outputs, jnp.array([[0.0, 1.0]]))
    slope = lambda a: a * (1 - a)
    delta = LOSS.backward(residuals, jnp.ones(1)) * slope(outputs)
    _, hidden_bar = SMALL.parts[2].backward(small()[2], hidden, delta)
    return Deltas(np.asarray(delta[0]), np.asarray((hidden_bar * slope(hidden))[0]))


def trained() -> bp.FitResult:
    """Twenty epochs of case updating, rows in their order."""
    return bp.fit(
        NET, LOSS, optax.sgd(0.5), X, np.eye(2)[LABELS], params=start(), key=jax.random.key(0), epochs=20, batch_size=1,
        shuffle=False, metrics=(),
    )  # fmt: skip


def squared_errors(run: bp.FitResult) -> np.ndarray:
    """Σ (expected − output)² an epoch: fit reports the mean of ½ of that, each row before its own update."""
    return 2 * len(X) * np.asarray(run.history["loss"])


def numbers(run: bp.FitResult, validated: wheat.Validated | None) -> list[Number]:
    found, outputs = deltas(), SMALL(small(), jnp.array([[1.0, 0.0]]))[0]
    right = int((np.asarray(NET(run.params, jnp.asarray(X))).argmax(-1) == LABELS).sum())
    shown = [
        Number("outputs for (1, 0)", [0.6629970129852887, 0.7253160725279748], outputs, 1e-14),
        Number("deltas of the outputs", [0.14619064683582808, -0.0771723774346327], found.output, 1e-14),
        Number("delta of the hidden unit", [0.0005348048046610517], found.hidden, 1e-15),
        Number("Σ squared error, 20 epochs", PUBLISHED, squared_errors(run), half_unit(3)),
        Number("rows predicted right", 10, right, 0),
    ]
    if validated is not None:
        shown.append(Number("wheat: per cent right, five folds", WHEAT, validated.leak, 1e-9, "classes in sorted order"))
        shown.append(Number("wheat: their mean", 93.333, validated.leak.mean(), half_unit(3)))
    return shown


def tell(options: Brownlee, table: wheat.Table | None = None) -> Story:
    run = trained()
    validated = None if table is None else wheat.validate(table, options.seed)
    scores = {} if validated is None else {"wheat_leak": validated.leak, "wheat_inside": validated.clean}
    published = validated if options.seed == 1 else None
    return Story(
        "Brownlee: backpropagation from scratch",
        "A 2-1-2 net by hand, a 2-2-2 net trained on ten rows, and the wheat seeds in five folds.",
        numbers(run, published),
        [_passes(), _training(run), _net(run), _wheat(table, validated)],
        {"squared_errors": squared_errors(run), **scores},
    )


def _passes() -> Section:
    found, x = deltas(), jnp.array([[1.0, 0.0]])
    hidden = bp.serial(*SMALL.parts[:2])(small()[:2], x)[0]
    columns = [
        shared.units(["x1", "x2"], input=x[0]),
        shared.units(["h"], out=hidden, bias=small()[0].b),
        shared.units(["o1", "o2"], out=SMALL(small(), x)[0], bias=small()[2].b),
    ]
    drawn = draw_weights(columns, [small()[0].w, small()[2].w], title="The net of the worked passes", digits=4)
    rows = [["output 1", 0.6213859615555266, 0, found.output[0]], ["output 2", 0.6573693455986976, 1, found.output[1]]]
    rows.append(["hidden", 0.7105668883115941, None, found.hidden[0]])
    table = Table(
        ["unit", shared.digits("activation", 9), "expected", shared.digits("delta", 9)], rows, title="The worked backward pass"
    )
    return Section("One pass forward, one back", [figure(drawn, "Forward: (1, 0)"), table.to_html()])


def _training(run: bp.FitResult) -> Section:
    chart = line_chart(
        [shared.curve("here", squared_errors(run)), shared.curve("published", PUBLISHED)],
        title="Squared error an epoch", x_label="epochs", y_label="Σ (expected − output)²",
    )  # fmt: skip
    margin = bp.serial(NET, bp.dense(1, bias=False))
    ahead = (run.params, bp.Dense(jnp.array([[-1.0], [1.0]]), None))
    surface = shared.surface(margin, ahead, (0.0, 10.0), (-1.5, 6.0), 0.0, below="class 0", above="class 1")
    points = [shared.points(f"class {k}", *X[k == LABELS].T) for k in (0, 1)]
    drawn = plane(points, surface=surface, title="Decision regions", x_label="first input", y_label="second input")
    blocks = grid(figure(chart, "Twenty epochs"), figure(drawn, "Which output is ahead"))
    return Section("Training on ten rows", [blocks], "η = 0.5, one update a row, rows in the order of the text.")


def _net(run: bp.FitResult) -> Section:
    def drawn(params: Any, when: str) -> Any:
        columns = [
            shared.units(["x1", "x2"]),
            shared.units(["h1", "h2"], bias=params[0].b),
            shared.units(["o1", "o2"], bias=params[2].b),
        ]
        return draw_weights(columns, [params[0].w, params[2].w], title=f"The net {when}", digits=4)

    blocks = [figure(drawn(start(), "before"), "Before"), figure(drawn(run.params, "after 20 epochs"), "After 20 epochs")]
    return Section("The net", blocks)


def _wheat(table: wheat.Table | None, validated: wheat.Validated | None) -> Section:
    if table is None or validated is None:
        return Section("Wheat seeds", [f"Left out, for no --data-dir was given: {wheat.HOW_TO_GET_IT}."])
    names = [f"fold {i}" for i in range(wheat.FOLDS)]
    rows = [[name, *pair] for name, *pair in zip(names, validated.leak, validated.clean, strict=True)]
    columns = ["", *(shared.digits(name, 5) for name in ("scaled over the whole set", "scaled inside the fold"))]
    means = [validated.leak.mean(), validated.clean.mean()]
    chart = dots(
        names,
        [shared.dot_row("scaled over the whole set", validated.leak), shared.dot_row("scaled inside the fold", validated.clean)],
        title="Held-out rows right, per cent", x_label="per cent right",
    )  # fmt: skip
    size = len(table.x) // wheat.FOLDS
    key = key_figures(
        [
            ("with the leak", f"{means[0]:.3f} %", "published 93.333 %"),
            ("without it", f"{means[1]:.3f} %", "the same folds, weights and epochs"),
            ("rows a fold", str(size), f"the file has {len(table.x)} rows; the text says 40.2 a fold"),
        ]
    )
    lead = (
        "The text scales each column by its least and largest value over all rows, held-out rows included. The right way takes "
        "them from the training rows of each fold alone."
    )
    blocks = [key, grid(figure(chart, "Each fold, both ways"), Table(columns, rows, foot=[["mean", *means]]).to_html())]
    return Section("Wheat seeds", blocks, lead)


def run(options: Brownlee) -> int:
    table = None if options.data_dir is None else wheat.load(options.data_dir)  # before the run folder is made
    return shared.present("brownlee", options, functools.partial(tell, table=table))
