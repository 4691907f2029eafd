"""The ways to the summed gradient of a mini-batch: f(params, x, y) -> a tree like params."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

import jaxbp
from experiments.config.nielsen import WAYS
from experiments.nielsen.net import Plan


def gradient_of(plan: Plan) -> Callable:
    """The gradient of the summed cost by the way that the plan names."""
    net, loss = plan.net, plan.loss
    by_hand = jaxbp.value_and_grad(net, loss, reduction="sum")
    if plan.gradient == "manual":
        return lambda params, x, y: by_hand(params, x, y)[1]
    if plan.gradient == "autodiff":
        return jax.grad(jaxbp.objective(net, loss, reduction="sum"))
    if plan.gradient == "custom-vjp":
        net, loss = jaxbp.as_custom_vjp(net), jaxbp.as_custom_vjp(loss)
        return jax.grad(lambda params, x, y: jnp.sum(loss(net(params, x), y)))
    if plan.gradient == "per-example":
        return functools.partial(_per_example, by_hand)
    raise ValueError(f"gradient is one of {', '.join(WAYS)}, got {plan.gradient!r}")


def _per_example(by_hand: Callable, params: Any, x: jax.Array, y: jax.Array) -> Any:
    """One backward pass for each example, added up in their order."""
    added = lambda total, one: (jax.tree.map(jnp.add, total, by_hand(params, one[0][None], one[1][None])[1]), None)
    return jax.lax.scan(added, jax.tree.map(jnp.zeros_like, params), (x, y))[0]
