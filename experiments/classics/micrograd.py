"""A. Karpathy, micrograd: its README's expression and a small graph by jaxbp.graph, its two-moons demo by hand-written backprop.

The small graph is that of Barak and Hu: b1 = 2a, b2 = 3a + b1, c = 4 b1 + 5 b2. The partial derivative of an edge is not the
total one there.
"""

from __future__ import annotations

import itertools
import random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.ad_checkpoint import checkpoint_name

import jaxbp as bp
from experiments.classics import shared
from experiments.classics.shared import Story
from experiments.config.classics import Micrograd
from experiments.published import Number
from jaxbp import graph
from jaxbp.page.charts import line_chart
from jaxbp.page.document import Section, figure, grid, key_figures
from jaxbp.page.markup import element
from jaxbp.page.plane import plane
from jaxbp.page.tables import Table


SIZES = (2, 16, 16, 1)
NET, LOSS = bp.mlp(SIZES, hidden=bp.relu()), bp.losses.hinge()
STEPS, ALPHA = 100, 1e-4
PENALTY = bp.penalties.l2(2 * ALPHA, biases=True)  # he adds alpha Σ p², no half


class Moons(NamedTuple):
    """x (100, 2), labels −1 and +1, and the initial params, all from one seed."""

    x: np.ndarray
    labels: np.ndarray
    params: Any


def relu(x: jax.Array) -> jax.Array:
    return jnp.maximum(x, 0)


def readme(a: jax.Array, b: jax.Array) -> jax.Array:
    """The expression of micrograd's README, line by line."""
    c = a + b
    d = a * b + b**3
    c = c + (c + 1)
    c = c + (1 + c + (-a))
    d = d + (d * 2 + relu(b + a))
    d = d + (3 * d + relu(b - a))
    e = c - d
    f = e**2
    g = f / 2
    return g + 10 / f


def sanity(x: jax.Array) -> jax.Array:
    """The first of micrograd's own tests."""
    z = 2 * x + 2 + x
    q = relu(z) + z * x
    h = relu(z * z)
    return h + q + q * x


def two_ways(a: jax.Array) -> jax.Array:
    """a reaches c through b1 alone, and through b1 and b2."""
    b1 = checkpoint_name(2 * a, "b1")
    b2 = checkpoint_name(3 * a + b1, "b2")
    return 4 * b1 + 5 * b2


def moons(seed: int) -> Moons:
    """make_moons(100, noise=0.1) and weights from uniform(−1, 1), neuron by neuron, biases 0: the demo's draws in its order."""
    from sklearn.datasets import make_moons

    x, labels = make_moons(n_samples=100, noise=0.1, random_state=np.random.RandomState(seed))
    draw, params = random.Random(seed), []
    for before, units in itertools.pairwise(SIZES):
        rows = [[draw.uniform(-1, 1) for _ in range(before)] for _ in range(units)]
        params += [shared.dense(rows, np.zeros(units)), ()]
    return Moons(np.asarray(x), 2 * np.asarray(labels) - 1, tuple(params[:-1]))


def trained(data: Moons) -> bp.FitResult:
    """100 steps of the full batch, learning rate 1 − 0.9 k / 100."""
    schedule = optax.linear_schedule(1.0, 0.1, STEPS)
    return bp.fit(
        NET, LOSS, optax.sgd(schedule), data.x, data.labels[:, None].astype(float), params=data.params, key=jax.random.key(0),
        epochs=STEPS, batch_size=None, shuffle=False, penalty=PENALTY, metrics=(),
    )  # fmt: skip


def scores(params: Any, x: np.ndarray) -> np.ndarray:
    return np.asarray(jax.jit(NET)(params, jnp.asarray(x)))[:, 0]


def accuracy(run: bp.FitResult, data: Moons) -> float:
    """Per cent of the rows whose score has the sign of its label."""
    return float(100 * np.mean((scores(run.params, data.x) > 0) == (data.labels > 0)))


def of_graph() -> list[Number]:
    whole = graph.adjoints(readme)(-4.0, 2.0)
    test, twice, ways = graph.adjoints(sanity)(-4.0), graph.adjoints(lambda a: a + a)(3.0), graph.adjoints(two_ways)(1.0)
    (b1,), (b2,) = ways.named("b1"), ways.named("b2")
    partials = {(d.of, d.by): d for d in graph.explain(two_ways)(1.0).derivatives}
    return [
        Number("README: g", 24.70408163265306, whole.value, 1e-12),
        Number("README: dg/da", 138.83381924198252, whole.grads[0], 1e-11),
        Number("README: dg/db", 645.5772594752186, whole.grads[1], 1e-11),
        Number("its test: y", -20.0, test.value, 0),
        Number("its test: dy/dx", 46.0, test.grads[0], 0),
        Number("a + a: d/da", 2.0, twice.grads[0], 0, "a value used twice gets both adjoints"),
        Number("dc/da", 33.0, ways.grads[0], 0, "Barak and Hu"),
        Number("dc/db1", 9.0, b1.adjoint, 0, "total; the partial is 4"),
        Number("dc/db2", 5.0, b2.adjoint, 0),
        Number("∂b2/∂a, partial", 3.0, partials["b2", "a"].partial, 0, "b1 held"),
        Number("db2/da, total", 5.0, partials["b2", "a"].total, 0, "through b1 too"),
    ]


def loss_of(params: Any, data: Moons) -> float:
    """His total loss: the hinge loss and the penalty."""
    total = jax.jit(bp.objective(NET, LOSS, penalty=PENALTY))
    return float(total(params, data.x, data.labels[:, None].astype(float)))


def numbers(run: bp.FitResult, data: Moons) -> list[Number]:
    size = sum(leaf.size for leaf in jax.tree.leaves(data.params))
    return [
        *of_graph(),
        Number("moons: parameters", 337, size, 0),
        Number("moons: loss of step 0", 0.8958441028683222, loss_of(data.params, data), 1e-14, "penalty included"),
        Number("moons: per cent right after step 99", 100.0, accuracy(run, data), 0),
    ]


def tell(options: Micrograd) -> Story:
    data = moons(options.seed)
    run = trained(data)
    return Story(
        "micrograd",
        "Values, adjoints and their graph for scalar expressions; then a net of 337 parameters on two moons.",
        numbers(run, data),
        [_moons(run, data), _graphs()],
        {"loss": run.history["loss"], "accuracy": accuracy(run, data), "seconds": run.seconds_run},
    )


def _moons(run: bp.FitResult, data: Moons) -> Section:
    edges = [(float(data.x[:, k].min()) - 0.5, float(data.x[:, k].max()) + 0.5) for k in (0, 1)]
    surface = shared.surface(NET, run.params, edges[0], edges[1], 0.0, below="−1", above="+1")
    points = [shared.points(f"label {name}", *data.x[data.labels == label].T) for label, name in ((-1, "−1"), (1, "+1"))]
    drawn = plane(points, surface=surface, title="The decision boundary", x_label="x", y_label="y", square=True)
    chart = line_chart(
        [shared.curve("loss", run.history["loss"])], title="Hinge loss", x_label="steps", y_label="mean of max(0, 1 − y s)"
    )
    took = f"{1000 * run.seconds_run:.0f} ms" if run.seconds_run < 1 else f"{run.seconds_run:.1f} s"
    key = key_figures(
        [
            ("accuracy", f"{accuracy(run, data):.0f} %", "after 100 steps, as published"),
            ("time of the 100 steps", took, f"and {run.seconds_compile:.1f} s to compile; pure Python took 249 s"),
        ]
    )
    blocks = [key, grid(figure(drawn, "The decision boundary"), figure(chart, "Loss"))]
    return Section("Two moons", blocks, "Hinge loss plus 10⁻⁴ Σ p², the full batch, learning rate from 1 down to 0.1.")


def _graphs() -> Section:
    ways = graph.draw(two_ways, title="c = 4 b1 + 5 b2")(1.0)
    whole = graph.draw(readme, title="the README's expression")(-4.0, 2.0)
    told = graph.explain(two_ways)(1.0)
    rows = [[f"{d.of} by {d.by}", d.partial, d.total] for d in told.derivatives]
    table = Table(["derivative", "partial", "total"], rows, title="Partial and total derivatives")
    paths = Table(["path from a to c", "product"], [[" · ".join(f"{f:g}" for f in p.factors), p.product] for p in told.paths])
    lead = f"Values go down, adjoints up. dc/da = {told.total:g} is the sum over the {told.count} paths from a to c."
    return Section(
        "The graphs",
        [
            grid(figure(ways, "b1 = 2a, b2 = 3a + b1, c = 4 b1 + 5 b2"), element("div", table.to_html(), paths.to_html())),
            figure(whole, "The README's expression at a = −4, b = 2"),
        ],
        lead,
    )


def run(options: Micrograd) -> int:
    return shared.present("micrograd", options, tell)
