"""One update: a batch is gathered, its gradient taken by hand (or by `jax.grad`), the optimiser applied."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxbp import backprop, inputs, tree
from jaxbp.training import gradients, precision
from jaxbp.training.state import Data, Plan, TrainState


DRAWS = 2**31 - 1  # the branch of a trial's key that training draws from: init splits the key into a few, counted from 0


def take(plan: Plan, data: Data, scale: Any, rows: jax.Array) -> tuple[Any, Any, jax.Array | None]:
    """(x, targets, weight) of these rows, scaled; the padding row n has weight 0. Under a precision x is in float32."""
    pick = lambda a: jnp.take(a, rows, axis=0, mode="clip")
    x = jax.tree.map(pick, data.x)
    if plan.scale is not None:
        x = plan.scale.apply(scale, x)
    if plan.precision is not None:
        x = tree.cast(x, jnp.float32)
    return x, jax.tree.map(pick, data.targets), None if data.weight is None else pick(data.weight)


def example_spec(plan: Plan, data: Data, scale: Any) -> Any:
    """The spec of one example as the net sees it."""
    one = lambda d, s: take(plan, d, s, jnp.zeros(1, jnp.int32))[0]
    return inputs.spec_of(jax.eval_shape(one, data, scale))


def gradient(plan: Plan) -> Any:
    """f(params, x, targets, ...) -> ((value, aux), grads) in one pass, by hand or by `jax.grad`; grads in at least float32."""
    by = gradients.by_hand if plan.gradient == "manual" else gradients.by_autodiff
    return by(plan.net, plan.loss, penalty=plan.penalty, reduction=plan.reduction)


def accumulated_gradient(plan: Plan) -> Any:
    """`gradient` over plan.accumulate parts of the batch; the penalty is added once."""
    find = gradients.in_parts(gradient(plan._replace(penalty=None, reduction="sum")), plan.accumulate, plan.reduction)
    return _penalized(plan, find)


def batch_gradient(plan: Plan) -> Any:
    """The gradient that a step takes: in as many parts and in such a precision as the plan has it."""
    find = gradient if plan.accumulate == 1 else accumulated_gradient
    if plan.precision is None:
        return find(plan)
    return _penalized(plan, gradients.lowering(plan.precision, find(plan._replace(penalty=None))))


def _penalized(plan: Plan, find: Any) -> Any:
    if plan.penalty is None:
        return find
    slope = plan.penalty.backward if plan.gradient == "manual" else jax.grad(plan.penalty.forward)
    return gradients.penalized(plan.penalty, slope, find)


def step(plan: Plan, data: Data, state: TrainState, carry: tuple, batch: tuple) -> tuple[tuple, tuple]:
    """One update by one batch. carry: (params, opt_state, loss scale); batch: (rows, key or None); info: what `sums` takes of it.

    All of a batch uses the weights as they were before it. A batch of nothing but weight 0 changes nothing.
    """
    params, opt_state, scale = carry
    rows, key = batch
    x, targets, weight = take(plan, data, state.scale, rows)
    loss_scale = precision.scale_of(plan.precision, scale)
    (value, aux), grads = batch_gradient(plan)(params, x, targets, sample_weight=weight, key=key, loss_scale=loss_scale)
    updates, opt_state = update_of(plan, (params, opt_state), value, grads, (x, targets, weight, key))
    if plan.stop:  # rules may have cut the learning rate
        updates = tree.scale(state.rate, updates)
    new = (backprop.update_statistics(_apply(params, updates), aux.statistics), opt_state)
    if plan.precision is not None and isinstance(plan.precision.loss_scale, precision.DynamicScale):
        scale, made = precision.next_scale(plan.precision.loss_scale, scale, grads)
        new = tree.where(made, new, carry[:2])
    new = (*new, scale)
    if plan.skip_empty and weight is not None:
        new = tree.where(jnp.any(weight != 0), new, carry)
    return new, (aux.outputs, aux.losses, targets, weight)


def update_of(plan: Plan, carry: tuple, value: jax.Array, grads: Any, batch: tuple) -> tuple[Any, Any]:
    """(updates, new opt_state) of the optimiser, which sees all in at least float32; batch: (x, targets, weight, key)."""
    params, opt_state = carry
    value_fn = functools.partial(_value, plan, *batch)  # for a line search
    params, grads = precision.widened((params, grads))
    return plan.optimizer.update(grads, opt_state, params, value=value, grad=grads, value_fn=value_fn)


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
    f = backprop.objective(plan.net, plan.loss, reduction=plan.reduction)
    penalty = 0 if plan.penalty is None else plan.penalty.forward(params)
    if plan.precision is not None:
        params, x = precision.lowered(plan.precision, params), tree.cast(x, plan.precision.compute)
    return f(params, x, targets, sample_weight=weight, key=key) + penalty


def _apply(params: Any, updates: Any) -> Any:
    """params + updates; population statistics are no parameters and stay."""
    move = lambda train, param, update: optax.apply_updates(param, update) if train else param
    return jax.tree.map(move, tree.trainable(params), params, updates)
