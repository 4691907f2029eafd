"""The training of the book's net as one compiled program: a scan over mini-batches inside a scan over epochs.

    w <- (1 - eta lambda/n) w - (eta/m) sum of the gradients,   b <- b - (eta/m) sum of the gradients

The order of the images comes from outside as rows, so that any recipe can decide on it. What is monitored is what the book
monitors: costs by its own formula, with lambda/(2 size) sum w^2 for the size of the set that is evaluated, and hits of argmax.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from experiments.nielsen.data import Set
from experiments.nielsen.gradients import gradient_of
from experiments.nielsen.net import Plan, descend
from experiments.nielsen.recipe import Drawn


HISTORY = ("test_cost", "test_accuracy", "training_cost", "training_accuracy")  # the order of the published files


class Data(NamedTuple):
    """x: (n, features). y: (n, classes) one-hot. labels: (n,)."""

    x: jax.Array
    y: jax.Array
    labels: jax.Array


class Rates(NamedTuple):
    """What may change from call to call without another compilation, float64. eta: learning rate; lmbda: the book's lambda."""

    eta: jax.Array
    lmbda: jax.Array


def rates(eta: float, lmbda: float) -> Rates:
    return Rates(jnp.asarray(eta, jnp.float64), jnp.asarray(lmbda, jnp.float64))


def as_params(plan: Plan, layers: Sequence[Drawn], dtype: Any = np.float64) -> tuple:
    """The drawn layers as params of `plan.net`: w is transposed, because jaxbp writes x w."""
    dense = [jaxbp.Dense(jnp.asarray(layer.w.T, dtype), jnp.asarray(layer.b, dtype)) for layer in layers]
    spread = [part for layer in dense for part in (layer, ())]
    return tuple(spread if plan.cost == "quadratic" else spread[:-1])


def as_data(data: Set, dtype: Any = np.float64) -> Data:
    return Data(jnp.asarray(data.x, dtype), jnp.asarray(data.y, dtype), jnp.asarray(data.labels))


def train(plan: Plan, params: Any, rates: Rates, data: Data, evaluated: Data, orders: np.ndarray) -> tuple[Any, jax.Array]:
    """(params, history): history (looks, 4) in the order of `HISTORY`. orders: (looks, epochs, n) rows of `data`.

    Both sets are looked at after so many epochs each time. One compiled program; it is kept for the next call with the same
    plan, shapes and dtypes. Within `jax.enable_x64()`.
    """
    looks, epochs, n = orders.shape
    full = n // plan.batch_size * plan.batch_size
    batches = orders[..., :full].reshape(looks, epochs, -1, plan.batch_size)
    return compiled(plan, params, rates, data, evaluated, batches, orders[..., full:])


def chunks(orders: Iterator[np.ndarray], epochs: int, every: int = 1, most: int = 1) -> Iterator[np.ndarray]:
    """The orders of `epochs` epochs as (looks, every, n), in equal pieces of at most `most` looks: one compilation serves all."""
    looks = epochs // every
    length = max(d for d in range(1, looks + 1) if looks % d == 0 and d <= max(most, 1))
    for _ in range(looks // length):
        yield np.stack([np.stack([next(orders) for _ in range(every)]) for _ in range(length)])


@functools.partial(jax.jit, static_argnums=0)
def compiled(plan: Plan, params: Any, rates: Rates, data: Data, evaluated: Data, batches: Any, rest: Any) -> tuple:
    """batches: (looks, epochs, steps, m) rows. rest: (looks, epochs, r) rows of the short last batch, r may be 0."""
    step = functools.partial(_step, gradient_of(plan), rates, data)

    def epoch(params: Any, orders: tuple) -> tuple:
        rows, short = orders
        params, _ = jax.lax.scan(step, params, rows)
        return (step(params, short)[0] if short.size else params), None  # a short batch is divided by its own size

    def look(params: Any, orders: tuple) -> tuple:
        params, _ = jax.lax.scan(epoch, params, orders)
        return params, jnp.stack([*monitor(plan, params, rates, evaluated), *monitor(plan, params, rates, data)])

    return jax.lax.scan(look, params, (batches, rest))


def _step(gradient: Callable, rates: Rates, data: Data, params: Any, rows: jax.Array) -> tuple[Any, None]:
    x, y = jnp.take(data.x, rows, axis=0), jnp.take(data.y, rows, axis=0)
    keep = 1 - rates.eta * (rates.lmbda / len(data.labels))
    return descend(params, gradient(params, x, y), keep, rates.eta / len(rows)), None


def monitor(plan: Plan, params: Any, rates: Rates, data: Data) -> tuple[jax.Array, jax.Array]:
    """(cost, hits) of a set. Outputs are taken to float64 first, the book's format."""
    outputs = plain_outputs(params, data.x).astype(jnp.float64)
    y = data.y.astype(jnp.float64)
    a = 1 / (1 + jnp.exp(-outputs))
    terms = 0.5 * (a - y) ** 2 if plan.cost == "quadratic" else published_entropy(a, y)
    squares = sum(jnp.sum(leaf.astype(jnp.float64) ** 2) for leaf in jax.tree.leaves(params) if leaf.ndim > 1)
    cost = jnp.sum(terms) / len(data.labels) + 0.5 * (rates.lmbda / len(data.labels)) * squares
    return cost, jnp.sum(jnp.argmax(a, axis=1) == data.labels).astype(jnp.float64)


def plain_outputs(params: Any, x: jax.Array) -> jax.Array:
    """z of the last layer, by plain products: nothing is amplified any more after the last update."""
    first, *layers = [part for part in params if part]
    z = x @ first.w + first.b[None]
    for layer in layers:
        z = jax.nn.sigmoid(z) @ layer.w + layer.b[None]
    return z


def published_entropy(a: jax.Array, y: jax.Array) -> jax.Array:
    """-y ln a - (1 - y) ln(1 - a), NaN as 0 and infinity as the largest float, as the book computes it.

    From the activation, not from z: near 1 the float64 of 1 - a has few digits, and the published costs have that rounding.
    """
    return jnp.nan_to_num(-y * jnp.log(a) - (1 - y) * jnp.log(1 - a))
