"""Loss and metrics of rows of the data, a block at a time; and the outputs for them."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxbp.training.metrics import ratio, weighted
from jaxbp.training.state import Data, Plan, TrainState
from jaxbp.training.updates import take


def sums(metrics: tuple, outputs: Any, losses: jax.Array, targets: Any, weight: Any) -> tuple:
    """What the loss and the metrics add up over batches."""
    return (weighted(losses, weight), *(metric.sums(outputs, targets, weight) for metric in metrics))


def values(metrics: tuple, added: tuple, prefix: str = "") -> dict[str, jax.Array]:
    """The numbers of the added sums, by name."""
    loss, *others = added
    named = {metric.name: metric.value(s) for metric, s in zip(metrics, others, strict=True)}
    return {prefix + name: value for name, value in {"loss": ratio(loss), **named}.items()}


def add_up(parts: Any) -> Any:
    return jax.tree.map(lambda a: jnp.sum(a, axis=0), parts)


def evaluate(plan: Plan, state: TrainState, data: Data, rows: jax.Array, prefix: str) -> dict[str, jax.Array]:
    """Loss and metrics of rows (blocks, block) of the data in prediction form, a block at a time."""

    def block(rows: jax.Array) -> tuple:
        x, targets, weight = take(plan, data, state.scale, rows)
        outputs, _ = plan.net.forward(state.params, x, train=False, key=None)
        losses, _ = plan.loss.forward(outputs, targets)
        return sums(plan.metrics, outputs, losses, targets, weight)

    return values(plan.metrics, add_up(lax.map(block, rows)), prefix)


def predict(plan: Plan, state: TrainState, data: Data, rows: jax.Array) -> Any:
    """The outputs for rows (blocks, block) of the data by the chosen params, in this order, padding included."""

    def block(rows: jax.Array) -> Any:
        x, _, _ = take(plan, data, state.scale, rows)
        return plan.net.forward(state.chosen, x, train=False, key=None)[0]

    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), lax.map(block, rows))
