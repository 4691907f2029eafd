"""The compiled part of training: steps in a scan, inside a loop over epochs, all of it pure.

    start        key, data -> TrainState                       initial params, fitted scaling, optimiser state
    train_epoch  a scan of steps, the evaluations, the stopping rules: TrainState -> TrainState, info
    train_chunk  a loop of epochs, until all trials have stopped

With `plan.trials` everything but the data has a trial axis (folds, seeds, hyper-parameters): "vmap" maps each epoch over it,
keeps a trial that has stopped as it was and ends the loop when none runs; "map" does one trial after the other. The data
are shared; trials differ in the rows they gather. Over a mesh of devices each device has its share of the trials, with a
loop of its own.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from jaxbp import inputs, tree
from jaxbp.training import diagnosis, masking, precision
from jaxbp.training.evaluation import add_up, evaluate, predict, sums, values
from jaxbp.training.state import NONFINITE, PADDING, RULE, RUNNING, Data, Plan, TrainState, finite_flags
from jaxbp.training.stopping import Epoch
from jaxbp.training.updates import draw_keys, example_spec, step


LAST_BRANCH = 2**32 - 1  # seed s > 0 is this branch of the run's key less s
TRIALS = "trials"  # the axis of a mesh

# --- start


class Trials(NamedTuple):
    """Which trials a run has, one entry a trial.

    number: of the fold, -1 for padding. seed: 0, 1, ... stream: which rows and which order it meets. hyper: the numbers that
    its setup is made of, by name.
    """

    number: Any
    seed: Any
    stream: Any
    hyper: dict[str, Any]


@functools.partial(jax.jit, static_argnums=0)
def start(plan: Plan, key: jax.Array, trials: Trials | None, params: Any, data: Data, rows: jax.Array) -> TrainState:
    """The state before the first epoch.

    trials: None for one trial with this key; else each has `trial_key`. params: None to draw them by `net.init`, from the
    key of the trial. rows ([streams,] rows): what the scaling is fitted on.
    """
    if trials is None:
        return _start_one(plan, data, params, {}, key, rows, RUNNING)

    def one(trial: Trials) -> TrainState:
        stop = jnp.where(trial.number < 0, PADDING, RUNNING)
        of_trial = trial_key(key, trial.seed, jnp.maximum(trial.number, 0))
        return _start_one(plan, data, params, trial.hyper, of_trial, rows[trial.stream], stop)

    return lax.map(one, trials)  # mapped by vmap, the random bits take twice as long to compile


def trial_key(key: jax.Array, seed: Any, number: Any) -> jax.Array:
    """fold_in(key, number) for the first seed, so that its trials are those of `cross_validate`; other seeds branch off first."""
    branch = jax.random.fold_in(key, jnp.uint32(LAST_BRANCH) - jnp.asarray(seed, jnp.uint32))
    return jax.random.fold_in(jnp.where(seed == 0, key, branch), number)


def _start_one(plan: Plan, data: Data, params: Any, hyper: Any, key: jax.Array, rows: jax.Array, stop: Any) -> TrainState:
    plan = plan.at(hyper)
    scale = () if plan.scale is None else plan.scale.fit(data.x, row_weights(data, rows))
    params, mask = masking.began(params)
    if params is None:
        params, _ = plan.net.init(key, example_spec(plan, data, scale))
    if plan.precision is not None:
        params = precision.widened(params)
    opt_state = plan.optimizer.init(precision.widened(params))
    if mask is not None:
        params, opt_state = masking.under(mask, params, opt_state)
    count = lambda n: jnp.asarray(n, jnp.int32)
    state = TrainState(
        params, opt_state, scale, hyper, key, epoch=count(0), step=count(0), stop=count(stop), leaf=count(-1),
        rate=jnp.ones((), jnp.float32), memory=tuple(rule.init() for rule in plan.stop), best=params if plan.keeps else (),
        best_epoch=count(0), loss_scale=precision.start_scale(plan.precision),
    )  # fmt: skip
    return jax.tree.map(_own, state)


def _own(leaf: jax.Array) -> jax.Array:
    """A copy: train_chunk donates its state, never the caller's arrays. And no weak type, which one epoch would make strong."""
    return jnp.copy(lax.convert_element_type(leaf, leaf.dtype))


def row_weights(data: Data, rows: jax.Array) -> jax.Array:
    """(n,): the weight of each row of the data, counted as often as `rows` names it."""
    n = inputs.batch_size(data.x)
    weight = jnp.ones(n + 1).at[n].set(0) if data.weight is None else data.weight
    weight = weight.reshape(n + 1, -1).mean(1)  # of a row with a weight for every time: its mean
    return (weight * jnp.zeros(n + 1, weight.dtype).at[rows].add(1))[:n]


# --- epochs


def train_epoch(
    plan: Plan, data: Data, sets: dict[str, Data], state: TrainState, order: jax.Array, rows: dict[str, jax.Array]
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One pass over order (steps, batch), then the evaluations and the stopping rules. info: the epoch's numbers by name.

    "loss" and the metrics without prefix are of the training batches as they were met, each before its update, or of the
    training set after the epoch where it is among `sets`. The losses are without penalty.
    """
    plan = plan.at(state.hyper)
    metrics = () if "" in rows else plan.metrics  # measured on the whole training set instead

    def one(carry: tuple, batch: tuple) -> tuple:
        carry, of_batch = step(plan, data, state, carry, batch)
        return carry, sums(metrics, *of_batch)

    batches = (order, draw_keys(plan, state, order.shape[0]))
    (params, opt_state, scale), parts = lax.scan(one, (state.params, state.opt_state, state.loss_scale), batches)
    steps = state.step + _updates(plan, data, order)
    new = state._replace(params=params, opt_state=opt_state, epoch=state.epoch + 1, step=steps, best_epoch=state.epoch + 1)
    new = new._replace(loss_scale=scale)
    info = values(metrics, add_up(parts)) | precision.scale_info(state.loss_scale, scale)
    flags = finite_flags(new.params, info["loss"])
    for prefix, rows_of_set in rows.items():
        info |= evaluate(plan, new, sets[prefix], rows_of_set, prefix)
    return _settle(state, _apply_rules(plan, state, new, info), flags, info)


def _updates(plan: Plan, data: Data, order: jax.Array) -> jax.Array:
    """How many batches of an epoch hold any weight."""
    if not plan.skip_empty or data.weight is None:
        return jnp.asarray(order.shape[0], jnp.int32)
    weight = jnp.take(data.weight, order, axis=0)
    return jnp.sum(jnp.any(weight.reshape(order.shape[0], -1) != 0, axis=1), dtype=jnp.int32)


def _apply_rules(plan: Plan, old: TrainState, new: TrainState, info: dict) -> TrainState:
    """The new state as the stopping rules leave it: memories, the best params, the rate, the first rule that says stop."""
    # a rule that watches the validation set watches the inner split of a fold where there is one
    inner = {name.replace("inner_", "validation_", 1): value for name, value in info.items() if name.startswith("inner_")}
    change = jnp.stack([jnp.max(jnp.abs(a - b)) for a, b in _moved(old.params, new.params)] or [jnp.zeros(())]).max()
    epoch, memories = Epoch(new.epoch, info | inner, change), []
    for i, (rule, memory) in reversed(list(enumerate(zip(plan.stop, old.memory, strict=True)))):  # the first has the last word
        memory, decision = rule.update(memory, epoch)
        memories.insert(0, memory)
        new = new._replace(stop=jnp.where(decision.stop, RULE + i, new.stop), rate=new.rate * decision.rate)
        if rule.keeps:
            best, best_epoch = tree.where(decision.best, (new.params, new.epoch), (old.best, old.best_epoch))
            new = new._replace(best=best, best_epoch=best_epoch)
    return new._replace(memory=tuple(memories))


def _moved(old: Any, new: Any) -> list[tuple[jax.Array, jax.Array]]:
    """(new, old) of the leaves that are trained."""
    leaves = zip(*map(jax.tree.leaves, (tree.trainable(new), new, old)), strict=True)
    return [(a, b) for train, a, b in leaves if train and inputs.is_floating(a) and a.size]


def _settle(old: TrainState, new: TrainState, flags: jax.Array, info: dict) -> tuple[TrainState, dict]:
    """The new state where the trial runs and all is finite, else the old one; info is NaN where no epoch was done."""
    runs, finite = old.stop == RUNNING, jnp.all(flags)
    done, broken = runs & finite, runs & ~finite
    fixed = {"scale": old.scale, "hyper": old.hyper, "key": old.key}
    kept = tree.where(done, new._replace(**dict.fromkeys(fixed)), old._replace(**dict.fromkeys(fixed)))
    stop = jnp.where(broken, NONFINITE, kept.stop)
    leaf = jnp.where(broken, jnp.argmin(flags).astype(jnp.int32), old.leaf)
    return kept._replace(stop=stop, leaf=leaf, **fixed), {name: jnp.where(done, value, jnp.nan) for name, value in info.items()}


# --- chunks of epochs


@functools.partial(jax.jit, static_argnums=(0, 1, 2), donate_argnums=3)
def train_chunk(
    plan: Plan,
    room: int,
    mesh: Mesh | None,
    state: TrainState,
    streams: Any,
    data: Data,
    sets: dict[str, Data],
    rows: dict[str, jax.Array],
    order: jax.Array,
    length: jax.Array,
) -> tuple[TrainState, dict[str, jax.Array], Any]:
    """Up to `length` <= room epochs. Returns the state, the info of every epoch (axis 0), the outputs for the validation rows.

    streams: (trials,), which of the orders and row tables each trial has; None for one trial. order: (epochs or 1, steps,
    [streams,] batch); one epoch's order serves all where there is one. sets and rows: what to evaluate after each epoch, by
    the prefix of its names ("" the training set, "validation_"), and its rows ([streams,] blocks, block). The history has
    `room` entries, NaN past the last epoch, so that a shorter last chunk is the same program.
    """
    chunk = functools.partial(_chunk, plan, room)
    if mesh is None:
        return chunk(state, streams, data, sets, rows, order, length)
    split, whole, epochs_first = PartitionSpec(TRIALS), PartitionSpec(), PartitionSpec(None, TRIALS)
    shares = jax.shard_map(
        chunk, mesh=mesh, in_specs=(split, split, *[whole] * 5), out_specs=(split, epochs_first, split), check_vma=False
    )
    return shares(state, streams, data, sets, rows, order, length)


def _chunk(
    plan: Plan, room: int, state: TrainState, streams: Any, data: Data, sets: dict, rows: dict, order: jax.Array, length: Any
) -> tuple:
    one = functools.partial(train_epoch, plan, data, sets)
    of_stream = lambda stream: jax.tree.map(lambda table: table[stream], rows)
    if plan.trials == "vmap":
        epoch = lambda state, order: jax.vmap(one, (0, 1, 0))(state, order[:, streams], of_stream(streams))
        state, history = _epochs(room, epoch, state, order, length)
    elif plan.trials == "map":

        def trial(of_trial: tuple) -> tuple:
            state, stream = of_trial
            return _epochs(room, lambda state, order: one(state, order[:, stream], of_stream(stream)), state, order, length)

        state, history = lax.map(trial, (state, streams))
        history = jax.tree.map(lambda a: jnp.swapaxes(a, 0, 1), history)
    else:
        look = functools.partial(diagnosis.between, plan, data) if plan.diagnose else None
        state, history = _epochs(room, lambda state, order: one(state, order, rows), state, order, length, look)
    return state, history, _predictions(plan, sets, rows, streams, state)


def _epochs(room: int, epoch: Any, state: TrainState, order: jax.Array, length: Any, look: Any = None) -> tuple[TrainState, dict]:
    """The loop over epochs, ended early when no trial runs. look(state, order): looks inside the net before some of them."""
    shapes = jax.eval_shape(epoch, state, order[0])[1]
    history = jax.tree.map(lambda s: jnp.full((room, *s.shape), jnp.nan, s.dtype), shapes)

    def runs(last: Any, loop: tuple) -> jax.Array:
        i, state, *_ = loop
        return (i < last) & jnp.any(state.stop == RUNNING)

    def body(loop: tuple) -> tuple:
        i, state, history = loop
        state, info = epoch(state, order[i % order.shape[0]])
        return i + 1, state, jax.tree.map(lambda h, v: h.at[i].set(v), history, info)

    upto = lambda last, loop: lax.while_loop(functools.partial(runs, last), body, loop)
    loop = jnp.zeros((), jnp.int32), state, history
    _, state, history = upto(length, loop) if look is None else look(order, room, length, runs, upto, loop)
    return state, history


def _predictions(plan: Plan, sets: dict[str, Data], rows: dict[str, jax.Array], streams: Any, state: TrainState) -> Any:
    if not plan.predict:
        return ()

    def one(state: TrainState, rows: jax.Array) -> Any:
        return predict(plan.at(state.hyper), state, sets["validation_"], rows)

    held_out = rows["validation_"]
    if not plan.trials:
        return one(state, held_out)
    each = jax.vmap(one) if plan.trials == "vmap" else lambda *of_trials: lax.map(lambda t: one(*t), of_trials)
    return each(state, held_out[streams])
