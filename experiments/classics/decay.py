"""Weight decay measured: the decision surface of a net on noisy moons, from no decay to much."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp as bp
from experiments.classics import shared
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.plane import Surface, crossings, plane
from jaxbp.page.tables import Table


NET, LOSS = bp.serial(bp.dense(24), bp.tanh(), bp.dense(24), bp.tanh(), bp.dense(1)), bp.losses.logistic()
LAMBDAS = (0.0, 3e-4, 3e-3, 3e-2)
STARTS, STEPS, RATE, MOMENTUM = 4, 2000, 0.1, 0.9
EDGES, CELLS = ((-2.0, 3.0), (-1.75, 2.25)), 100


class Measured(NamedTuple):
    """An entry for each λ and start. length: of the boundary; roughness: mean square of the Laplacian of P(+1) over the plane."""

    length: np.ndarray
    roughness: np.ndarray
    train: np.ndarray
    test: np.ndarray
    surfaces: np.ndarray  # (λ, cells, cells) P(+1) of the first start


def data(seed: int) -> tuple[np.ndarray, np.ndarray]:
    from sklearn.datasets import make_moons

    x, labels = make_moons(n_samples=1100, noise=0.35, random_state=seed)
    return np.asarray(x), 2.0 * np.asarray(labels)[:, None] - 1


def measure(seed: int) -> Measured:
    """Each λ from the same starts, on 100 rows; 1,000 others are the test."""
    x, labels = data(seed)
    rows, targets = jnp.asarray(x[:100]), jnp.asarray(labels[:100])
    starts = shared.starts(NET, 2, seed, STARTS)
    stacked = jax.tree.map(lambda leaf: jnp.concatenate([leaf] * len(LAMBDAS)), starts)
    how: dict[str, Any] = {"net": NET, "loss": LOSS, "passes": STEPS, "momentum": MOMENTUM, "reduction": "mean", "every": STEPS}
    train = shared.side_by_side(axes=(0, None, None, None, 0), **how)
    params, _ = train(stacked, rows, targets, RATE, jnp.repeat(jnp.array(LAMBDAS), STARTS))
    seen = jax.jit(jax.vmap(NET, in_axes=(0, None)))
    logits = np.asarray(seen(params, jnp.asarray(middles()))).reshape(-1, CELLS, CELLS)
    surfaces = np.asarray(bp.sigmoid()((), jnp.asarray(logits)))
    right = (np.asarray(seen(params, jnp.asarray(x)))[..., 0] > 0) == (labels[:, 0] > 0)
    shape = lambda values: np.asarray(values).reshape(len(LAMBDAS), STARTS)
    return Measured(
        shape([boundary_length(s) for s in logits]),
        shape([roughness(s) for s in surfaces]),
        shape(100 * right[:, :100].mean(1)),
        shape(100 * right[:, 100:].mean(1)),
        surfaces.reshape(len(LAMBDAS), STARTS, CELLS, CELLS)[:, 0],
    )


def middles() -> np.ndarray:
    axes = [low + (np.arange(CELLS) + 0.5) * (high - low) / CELLS for low, high in EDGES]
    return np.stack(np.meshgrid(*axes), -1).reshape(-1, 2)


def steps() -> tuple[float, float]:
    (a, b), (c, d) = EDGES
    return (b - a) / CELLS, (d - c) / CELLS


def boundary_length(logits: np.ndarray) -> float:
    """The length of the line where the logit is 0."""
    return sum(math.dist(a, b) for a, b in crossings(Surface(logits.tolist(), *EDGES)))


def roughness(surface: np.ndarray) -> float:
    """Mean square of the Laplacian of P."""
    dx, dy = steps()
    inner = surface[1:-1, 1:-1]
    laplacian = (surface[1:-1, 2:] + surface[1:-1, :-2] - 2 * inner) / dx**2 + (
        surface[2:, 1:-1] + surface[:-2, 1:-1] - 2 * inner
    ) / dy**2
    return float((laplacian**2).mean())


def simpler(found: Measured) -> bool:
    """Whether the boundary gets shorter and the surface smoother from one λ to the next, in the mean over the starts."""
    return all(bool((np.diff(values.mean(1)) < 0).all()) for values in (found.length, found.roughness))


def section(found: Measured, seed: int) -> Section:
    x, labels = data(seed)
    points = [shared.points(f"label {name}", *x[:100][labels[:100, 0] == kind].T) for kind, name in ((-1, "−1"), (1, "+1"))]
    drawn = []
    for k in (0, len(LAMBDAS) - 1):
        surface = Surface(found.surfaces[k].tolist(), *EDGES, 0.5, "−1", "+1")
        name = f"λ = {LAMBDAS[k]:g}"
        drawn.append(figure(plane(points, surface=surface, title=name, x_label="x", y_label="y", square=True), name))
    means = [values.mean(1) for values in (found.length, found.roughness, found.train, found.test)]
    rows = [[f"{value:g}", *(float(m[k]) for m in means)] for k, value in enumerate(LAMBDAS)]
    columns = ["λ", "length of the boundary", "roughness", "training rows right, %", "test rows right, %"]
    note = f"Means over {STARTS} starts. Roughness: mean square of the Laplacian of the probability over the plane."
    table = Table(columns, rows, title="The surface and the decay", note=note)
    lead = (
        "The penalty draws weights to 0, where a net is nearly linear: decay biases against complex surfaces, not towards them."
    )
    return Section("Weight decay and the decision surface", [grid(*drawn), table.to_html()], lead)
