"""‖δ‖ of every hidden layer in deep sigmoid nets, as drawn and while they learn: the earlier a layer, the less it learns.

The book measures the norm of the mean of δ over 1,000 training images, which is the gradient in the layer's biases.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from experiments.config.nielsen import NielsenStudies
from experiments.nielsen import data, recipe
from experiments.nielsen.data import Set
from experiments.nielsen.found import Found
from experiments.nielsen.net import Plan, descend
from experiments.nielsen.program import as_data, as_params
from experiments.published import Number
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.tables import Table


IMAGES, UNITS, RATE, LAMBDA = 1000, 30, 0.1, 5.0
PUBLISHED = {2: (0.07, 0.31), 3: (0.012, 0.060, 0.283), 4: (0.003, 0.017, 0.070, 0.285)}  # ch. 5, of one unseeded draw each
LEAD = (
    "Weights N(0, 1/n), cross-entropy, all 1,000 images in one update, η 0.1, λ 5. The book drew without a seed, so its sizes "
    "cannot come back, only their order."
)


def norms(plan: Plan, params: tuple, images: Any, epochs: int) -> np.ndarray:
    """(epochs + 1, hidden layers): ‖mean δ‖ before each update of gradient descent on all images, and after the last."""
    gradient = jaxbp.value_and_grad(plan.net, plan.loss)
    keep, scale = jnp.asarray(1 - RATE * LAMBDA / len(images.labels), jnp.float64), jnp.asarray(RATE, jnp.float64)

    @jax.jit
    def descent(params: tuple, images: Any) -> jax.Array:
        def update(params: tuple, _: None) -> tuple:
            _, grads = gradient(params, images.x, images.y)
            hidden = [layer.b for layer in grads if layer][:-1]
            return descend(params, grads, keep, scale), jnp.stack([jnp.linalg.norm(delta) for delta in hidden])

        return jax.lax.scan(update, params, length=epochs + 1)[1]

    return np.asarray(descent(params, images))


def drawn(plan: Plan, seeds: tuple[int, ...], images: Any) -> np.ndarray:
    """(seeds, hidden layers): ‖mean δ‖ of nets as they are drawn."""
    gradient = jaxbp.value_and_grad(plan.net, plan.loss)
    nets = [as_params(plan, recipe.Script(seed, 1).net(plan.sizes, large=False)) for seed in seeds]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *nets)

    def one(params: tuple) -> jax.Array:
        _, grads = gradient(params, images.x, images.y)
        return jnp.stack([jnp.linalg.norm(layer.b) for layer in grads if layer][:-1])

    return np.asarray(jax.jit(jax.vmap(one))(stacked))


def study(options: NielsenStudies) -> Found:
    images, source = sample(options)
    start, during = {}, {}
    with jax.enable_x64():
        held = as_data(images)
        for hidden in PUBLISHED:
            plan = Plan((images.x.shape[1], *[UNITS] * hidden, 10))
            start[hidden] = drawn(plan, options.SEEDS, held)
            during[hidden] = norms(plan, as_params(plan, recipe.Script(0, 1).net(plan.sizes, large=False)), held, options.epochs)
    numbers = [
        Number(f"{hidden} hidden layers: each smaller than the next, mean of {len(found)} draws", True, rises(found), 0, "ch. 5")
        for hidden, found in start.items()
    ]
    table = told(start)
    section = Section(
        "Errors by depth", [grid(*map(functools.partial(chart, during), PUBLISHED)), table.to_html()], LEAD + source
    )
    summary = {"drawn": {str(k): v.mean(axis=0) for k, v in start.items()}, "learning": {str(k): v for k, v in during.items()}}
    return Found("depth", section, numbers, summary, table)


def sample(options: NielsenStudies) -> tuple[Set, str]:
    """(1,000 images, where they are from): MNIST where there is a data folder, else the digits that scikit-learn ships."""
    if options.data_dir is not None:
        return data.load(options.data_dir).train.rows(slice(IMAGES)), " Images: the first 1,000 of MNIST."
    return data.digits().rows(
        slice(IMAGES)
    ), " Images: 1,000 digits of 8 × 8 pixels (UCI), because no folder with MNIST was named."


def rises(found: np.ndarray) -> bool:
    return bool((np.diff(found.mean(axis=0)) > 0).all())


def told(start: dict[int, np.ndarray]) -> Table:
    most = max(PUBLISHED)
    rows = []
    for hidden, found in start.items():
        blank = [None] * (most - hidden)
        share = float((np.diff(found, axis=1) > 0).all(axis=1).mean())
        rows.append((f"{hidden} hidden layers, the book", *PUBLISHED[hidden], *blank, None))
        rows.append((f"{hidden} hidden layers, here", *map(float, found.mean(axis=0)), *blank, share))
    columns = ["‖δ‖ as drawn", *(f"layer {i + 1}" for i in range(most)), "draws in order"]
    return Table(
        columns,
        rows,
        note=f"Here: means over {len(next(iter(start.values())))} draws, and the share of draws in which each is smaller.",
    )


def chart(during: dict[int, np.ndarray], hidden: int) -> object:
    found = during[hidden]
    series = [Series(f"layer {i + 1}", found[:, i].tolist(), x=range(len(found))) for i in range(hidden)]
    title = f"‖δ‖ while {hidden} hidden layers learn"
    return figure(line_chart(series, title=title, x_label="epoch", y_label="‖δ‖", log_y=True), title=title)
