"""The compiled part of training: steps in a scan, inside a loop over epochs, all of it pure.

    start        key, data -> TrainState                       initial params, fitted scaling, optimiser state
    step         one batch: (params, opt_state) -> the same, and info
    train_epoch  a scan of steps and the evaluations: TrainState -> TrainState, info
    train_chunk  a loop of epochs, until all trials have stopped

With `plan.trials` everything but the data has a trial axis (folds now): each epoch is mapped over it, a trial that has
stopped is kept as it was, and the loop ends when none runs. The data are shared; trials differ in the rows they gather.
"""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from jaxbp import backprop, inputs, tree
from jaxbp.training.metrics import ratio, weighted
from jaxbp.training.state import NONFINITE, RUNNING, Data, Plan, TrainState, finite_flags


DRAWS = 2**31 - 1  # the branch of a trial's key that training draws from: init splits the key into a few, counted from 0

# --- batches


def take(plan: Plan, data: Data, scale: Any, rows: jax.Array) -> tuple[Any, Any, jax.Array | None]:
    """(x, targets, weight) of these rows, scaled; the padding row n has weight 0."""
    pick = lambda a: jnp.take(a, rows, axis=0, mode="clip")
    x = jax.tree.map(pick, data.x)
    if plan.scale is not None:
        x = plan.scale.apply(scale, x)
    return x, jax.tree.map(pick, data.targets), None if data.weight is None else pick(data.weight)


def row_weights(data: Data, rows: jax.Array) -> jax.Array:
    """(n,): the weight of each row of the data, counted as often as `rows` names it."""
    n = inputs.batch_size(data.x)
    weight = jnp.ones(n + 1).at[n].set(0) if data.weight is None else data.weight
    weight = weight.reshape(n + 1, -1).mean(1)  # of a row with a weight for every time: its mean
    return (weight * jnp.zeros(n + 1, weight.dtype).at[rows].add(1))[:n]


# --- start


@functools.partial(jax.jit, static_argnums=0)
def start(plan: Plan, key: jax.Array, trials: Any, params: Any, data: Data, rows: jax.Array) -> TrainState:
    """The state before the first epoch.

    trials: None for one trial with this key, or the numbers (trials,) of trials, whose keys are fold_in(key, number).
    params: None to draw them by `net.init`, from the key of the trial. rows ([trials,] rows): what the scaling is fitted on.
    """
    if trials is None:
        return _start_one(plan, data, params, key, rows)
    one = lambda trial: _start_one(plan, data, params, jax.random.fold_in(key, trial[0]), trial[1])
    return lax.map(one, (trials, rows))  # mapped by vmap, the random bits take twice as long to compile


def _start_one(plan: Plan, data: Data, params: Any, key: jax.Array, rows: jax.Array) -> TrainState:
    scale = () if plan.scale is None else plan.scale.fit(data.x, row_weights(data, rows))
    if params is None:
        params, _ = plan.net.init(key, example_spec(plan, data, scale))
    zero = jnp.zeros((), jnp.int32)
    state = TrainState(params, plan.optimizer.init(params), scale, key, zero, zero, zero + RUNNING, zero - 1)
    return jax.tree.map(_own, state)


def _own(leaf: jax.Array) -> jax.Array:
    """A copy: train_chunk donates its state, never the caller's arrays. And no weak type, which one epoch would make strong."""
    return jnp.copy(lax.convert_element_type(leaf, leaf.dtype))


def example_spec(plan: Plan, data: Data, scale: Any) -> Any:
    """The spec of one example as the net sees it."""
    one = lambda d, s: take(plan, d, s, jnp.zeros(1, jnp.int32))[0]
    return inputs.spec_of(jax.eval_shape(one, data, scale))


# --- one update


def gradient(plan: Plan) -> Any:
    """f(params, x, targets, ...) -> ((value, aux), grads), by hand or by `jax.grad` of the same mathematics."""
    options = {"penalty": plan.penalty, "reduction": plan.reduction, "has_aux": True}
    if plan.gradient == "manual":
        return backprop.value_and_grad(plan.net, plan.loss, **options)
    return jax.value_and_grad(backprop.objective(plan.net, plan.loss, **options), has_aux=True)


def step(plan: Plan, data: Data, state: TrainState, metrics: tuple, carry: tuple, batch: tuple) -> tuple[tuple, Any]:
    """One update by one batch. carry: (params, opt_state); batch: (rows, key or None); info: sums of loss and metrics.

    All of a batch uses the weights as they were before it. A batch of nothing but weight 0 changes nothing.
    """
    params, opt_state = carry
    rows, key = batch
    x, targets, weight = take(plan, data, state.scale, rows)
    (value, aux), grads = gradient(plan)(params, x, targets, sample_weight=weight, key=key)
    value_fn = functools.partial(_value, plan, x, targets, weight, key)
    updates, new_opt_state = plan.optimizer.update(grads, opt_state, params, value=value, grad=grads, value_fn=value_fn)
    new = (backprop.update_statistics(_apply(params, updates), aux.statistics), new_opt_state)
    if plan.skip_empty and weight is not None:
        new = tree.where(jnp.any(weight != 0), new, carry)
    return new, _sums(metrics, aux.outputs, aux.losses, targets, weight)


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


def _sums(metrics: tuple, outputs: Any, losses: jax.Array, targets: Any, weight: Any) -> tuple:
    return (weighted(losses, weight), *(metric.sums(outputs, targets, weight) for metric in metrics))


def _values(metrics: tuple, sums: tuple, prefix: str = "") -> dict[str, jax.Array]:
    """The numbers of the added sums, by name."""
    loss, *others = sums
    named = {metric.name: metric.value(s) for metric, s in zip(metrics, others, strict=True)}
    return {prefix + name: value for name, value in {"loss": ratio(loss), **named}.items()}


def _added(sums: Any) -> Any:
    return jax.tree.map(lambda a: jnp.sum(a, axis=0), sums)


# --- evaluation


def evaluate(plan: Plan, state: TrainState, data: Data, rows: jax.Array, prefix: str) -> dict[str, jax.Array]:
    """Loss and metrics of rows (blocks, block) of the data in prediction form, a block at a time."""

    def block(rows: jax.Array) -> tuple:
        x, targets, weight = take(plan, data, state.scale, rows)
        outputs, _ = plan.net.forward(state.params, x, train=False, key=None)
        losses, _ = plan.loss.forward(outputs, targets)
        return _sums(plan.metrics, outputs, losses, targets, weight)

    return _values(plan.metrics, _added(lax.map(block, rows)), prefix)


def predict(plan: Plan, state: TrainState, data: Data, rows: jax.Array) -> Any:
    """The outputs for rows (blocks, block) of the data, in this order, padding included."""

    def block(rows: jax.Array) -> Any:
        x, _, _ = take(plan, data, state.scale, rows)
        return plan.net.forward(state.params, x, train=False, key=None)[0]

    return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), lax.map(block, rows))


# --- epochs


def train_epoch(
    plan: Plan, data: Data, sets: dict[str, Data], state: TrainState, order: jax.Array, rows: dict[str, jax.Array]
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One pass over order (steps, batch), then the evaluations. info: the numbers of the epoch by name.

    "loss" and the metrics without prefix are of the training batches as they were met, each before its update, or of the
    training set after the epoch where it is among `sets`. The losses are without penalty.
    """
    keys = draw_keys(plan, state, order.shape[0])
    metrics = () if "" in rows else plan.metrics  # measured on the whole training set instead
    one = functools.partial(step, plan, data, state, metrics)
    (params, opt_state), sums = lax.scan(one, (state.params, state.opt_state), (order, keys))
    new = state._replace(params=params, opt_state=opt_state, epoch=state.epoch + 1, step=state.step + _updates(plan, data, order))
    info = _values(metrics, _added(sums))
    flags = finite_flags(new.params, info["loss"])
    for prefix, rows_of_set in rows.items():
        info |= evaluate(plan, new, sets[prefix], rows_of_set, prefix)
    return _settle(state, new, flags, info)


def _updates(plan: Plan, data: Data, order: jax.Array) -> jax.Array:
    """How many batches of an epoch hold any weight."""
    if not plan.skip_empty or data.weight is None:
        return jnp.asarray(order.shape[0], jnp.int32)
    weight = jnp.take(data.weight, order, axis=0)
    return jnp.sum(jnp.any(weight.reshape(order.shape[0], -1) != 0, axis=1), dtype=jnp.int32)


def _settle(old: TrainState, new: TrainState, flags: jax.Array, info: dict) -> tuple[TrainState, dict]:
    """The new state where the trial runs and all is finite, else the old one; info is NaN where no epoch was done."""
    runs, finite = old.stop == RUNNING, jnp.all(flags)
    done, broken = runs & finite, runs & ~finite
    params, opt_state, epoch, steps = tree.where(
        done, (new.params, new.opt_state, new.epoch, new.step), (old.params, old.opt_state, old.epoch, old.step)
    )
    stop = jnp.where(broken, NONFINITE, old.stop)
    leaf = jnp.where(broken, jnp.argmin(flags).astype(jnp.int32), old.leaf)
    kept = old._replace(params=params, opt_state=opt_state, epoch=epoch, step=steps, stop=stop, leaf=leaf)
    return kept, {name: jnp.where(done, value, jnp.nan) for name, value in info.items()}


# --- chunks of epochs


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def train_chunk(
    plan: Plan,
    room: int,
    state: TrainState,
    data: Data,
    sets: dict[str, Data],
    rows: dict[str, jax.Array],
    order: jax.Array,
    length: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array], Any]:
    """Up to `length` <= room epochs. Returns the state, the info of every epoch (axis 0), the outputs for the validation rows.

    order: (epochs or 1, steps, [trials,] batch); one epoch's order serves all where there is one. The history has `room`
    entries, NaN past the last epoch, so that a shorter last chunk is the same program. sets and rows: what to evaluate
    after each epoch, by the prefix of its names ("" the training set, "validation_"), and its rows ([trials,] blocks, block).
    """
    one = functools.partial(train_epoch, plan, data, sets)
    advance = jax.vmap(one, in_axes=(0, 1, 0)) if plan.trials else one
    shapes = jax.eval_shape(advance, state, order[0], rows)[1]
    history = jax.tree.map(lambda s: jnp.full((room, *s.shape), jnp.nan, s.dtype), shapes)

    def runs(loop: tuple) -> jax.Array:
        i, state, _ = loop
        return (i < length) & jnp.any(state.stop == RUNNING)

    def body(loop: tuple) -> tuple:
        i, state, history = loop
        state, info = advance(state, order[i % order.shape[0]], rows)
        return i + 1, state, jax.tree.map(lambda h, v: h.at[i].set(v), history, info)

    _, state, history = lax.while_loop(runs, body, (jnp.zeros((), jnp.int32), state, history))
    return state, history, _predictions(plan, sets, rows, state)


def _predictions(plan: Plan, sets: dict[str, Data], rows: dict[str, jax.Array], state: TrainState) -> Any:
    if not plan.predict:
        return ()
    of_one = lambda state, rows: predict(plan, state, sets["validation_"], rows)
    return (jax.vmap(of_one) if plan.trials else of_one)(state, rows["validation_"])
