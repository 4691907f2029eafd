"""One update: a batch is gathered, its gradient taken by hand (or by `jax.grad`), the optimiser applied."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxbp import backprop, inputs, tree
from jaxbp.factors import at_least_float32
from jaxbp.training.metrics import weighted
from jaxbp.training.state import Data, Plan, TrainState


DRAWS = 2**31 - 1  # the branch of a trial's key that training draws from: init splits the key into a few, counted from 0


def take(plan: Plan, data: Data, scale: Any, rows: jax.Array) -> tuple[Any, Any, jax.Array | None]:
    """(x, targets, weight) of these rows, scaled; the padding row n has weight 0."""
    pick = lambda a: jnp.take(a, rows, axis=0, mode="clip")
    x = jax.tree.map(pick, data.x)
    if plan.scale is not None:
        x = plan.scale.apply(scale, x)
    return x, jax.tree.map(pick, data.targets), None if data.weight is None else pick(data.weight)


def example_spec(plan: Plan, data: Data, scale: Any) -> Any:
    """The spec of one example as the net sees it."""
    one = lambda d, s: take(plan, d, s, jnp.zeros(1, jnp.int32))[0]
    return inputs.spec_of(jax.eval_shape(one, data, scale))


def gradient(plan: Plan) -> Any:
    """f(params, x, targets, ...) -> ((value, aux), grads), by hand or by `jax.grad` of the same mathematics."""
    options = {"penalty": plan.penalty, "reduction": plan.reduction, "has_aux": True}
    if plan.gradient == "manual":
        return backprop.value_and_grad(plan.net, plan.loss, **options)
    return jax.value_and_grad(backprop.objective(plan.net, plan.loss, **options), has_aux=True)


def accumulated_gradient(plan: Plan) -> Any:
    """`gradient` over plan.accumulate parts of the batch, one after another: the memory of one part, sums in float32.

    The mean is that of the whole batch, sum w l / sum w, and the penalty is added once.
    """
    of_part = gradient(plan._replace(penalty=None, reduction="sum"))

    def f(params: Any, x: Any, targets: Any, *, sample_weight: Any = None, key: Any = None) -> tuple:
        parts = jax.tree.map(lambda a: a.reshape(plan.accumulate, -1, *a.shape[1:]), (x, targets, sample_weight))
        keys = None if key is None else jax.random.split(key, plan.accumulate)

        def add(carry: tuple, part: tuple) -> tuple:
            (x, targets, weight), key = part
            (value, aux), grads = of_part(params, x, targets, sample_weight=weight, key=key)
            return jax.tree.map(lambda a, b: a + b.astype(a.dtype), carry, (value, grads)), (aux.outputs, aux.losses)

        wide = lambda a: jnp.zeros(a.shape, at_least_float32(a))
        start = jnp.zeros((), at_least_float32(jax.tree.leaves(params)[0])), jax.tree.map(wide, params)
        (value, grads), collected = lax.scan(add, start, (parts, keys))
        outputs, losses = jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), collected)
        if plan.reduction == "mean":
            total = weighted(losses, sample_weight)[1]
            value, grads = jax.tree.map(lambda a: a / jnp.where(total == 0, 1, total).astype(a.dtype), (value, grads))
        if plan.penalty is not None:
            value = value + plan.penalty.forward(params)
            grads = jax.tree.map(lambda g, p: g + p.astype(g.dtype), grads, plan.penalty.backward(params))
        return (value, backprop.Aux(outputs, losses, jax.tree.map(lambda _: None, params))), grads

    return f


def step(plan: Plan, data: Data, state: TrainState, carry: tuple, batch: tuple) -> tuple[tuple, tuple]:
    """One update by one batch. carry: (params, opt_state); batch: (rows, key or None); info: what `sums` takes of the batch.

    All of a batch uses the weights as they were before it. A batch of nothing but weight 0 changes nothing.
    """
    params, opt_state = carry
    rows, key = batch
    x, targets, weight = take(plan, data, state.scale, rows)
    find = gradient(plan) if plan.accumulate == 1 else accumulated_gradient(plan)
    (value, aux), grads = find(params, x, targets, sample_weight=weight, key=key)
    value_fn = functools.partial(_value, plan, x, targets, weight, key)
    updates, new_opt_state = plan.optimizer.update(grads, opt_state, params, value=value, grad=grads, value_fn=value_fn)
    if plan.stop:  # rules may have cut the learning rate
        updates = tree.scale(state.rate, updates)
    new = (backprop.update_statistics(_apply(params, updates), aux.statistics), new_opt_state)
    if plan.skip_empty and weight is not None:
        new = tree.where(jnp.any(weight != 0), new, carry)
    return new, (aux.outputs, aux.losses, targets, weight)


def draw_keys(plan: Plan, state: TrainState, steps: int) -> Any:
    """The keys of the draws of an epoch's updates, None where the net draws nothing.

    Update t of a trial has fold_in(fold_in(key, DRAWS), t): another branch of the key than the one `net.init` drew from.
    """
    if "key" not in plan.net.traits:
        return None
    branch = jax.random.fold_in(state.key, DRAWS)
    return jax.vmap(lambda i: jax.random.fold_in(branch, state.step + i))(jnp.arange(steps, dtype=jnp.int32))


def _value(plan: Plan, x: Any, targets: Any, weight: Any, key: Any, params: Any) -> jax.Array:
    """The objective of this batch as a function of params, for optimisers with a line search."""
    f = backprop.objective(plan.net, plan.loss, penalty=plan.penalty, reduction=plan.reduction)
    return f(params, x, targets, sample_weight=weight, key=key)


def _apply(params: Any, updates: Any) -> Any:
    """params + updates; population statistics are no parameters and stay."""
    move = lambda train, param, update: optax.apply_updates(param, update) if train else param
    return jax.tree.map(move, tree.trainable(params), params, updates)
