"""Between arrays of an estimator and the compiled programs of training, so that calls of nearly the same shape share one.

Rows are filled up to whole batches with rows of weight 0 that no batch counts: training sets of 1,617 and of 1,618 rows,
two folds of a cross-validation, have one program. The batches that are trained on are those of `jaxbp.fit`. A net that
mixes the rows of a batch takes no padding: it is compiled for each number of rows, and leaves out the rest of an epoch.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxbp import inputs
from jaxbp.contracts import Layer, Loss
from jaxbp.training import engine, program
from jaxbp.training.order import Order, key_words
from jaxbp.training.scaling import Scale
from jaxbp.training.state import RUNNING, TrainState
from jaxbp.training.task import Options, make_data, make_job, prepare
from jaxbp.validation.folds import inner_split


ROWS = 64  # a full batch is filled up to a multiple of this
BLOCK = 1024  # the most rows that are predicted at a time

OPTIMIZERS = {
    "adam": optax.adam,
    "adamw": optax.adamw,
    "momentum": functools.partial(optax.sgd, momentum=0.9),
    "nesterov": functools.partial(optax.sgd, momentum=0.9, nesterov=True),
    "rmsprop": optax.rmsprop,
    "sgd": optax.sgd,
}


def precision(dtype: np.dtype) -> contextlib.AbstractContextManager:
    """Where float64 is wanted, JAX's float64, whatever its setting is outside."""
    if dtype != np.float64 or jax.dtypes.canonicalize_dtype(dtype) == dtype:
        return contextlib.nullcontext()
    room = jax if hasattr(jax, "enable_x64") else importlib.import_module("jax.experimental")  # where it was before
    return room.enable_x64(True)


def optimizer_of(name: str, optimizer: Any, learning_rate: Any) -> Any:
    """The optimiser that is meant: equal arguments give one object, and so one compiled program."""
    if isinstance(optimizer, str):
        if optimizer not in OPTIMIZERS:
            raise ValueError(f"{name}: optimizer: one of {sorted(OPTIMIZERS)} or of optax was expected, got {optimizer!r}")
        optimizer = OPTIMIZERS[optimizer]
    if hasattr(optimizer, "init") or not callable(optimizer):
        return optimizer  # what it is not, training says
    if isinstance(optimizer, functools.partial):  # two equal partials are not `==`, and `clone` copies them
        return _built(optimizer.func, optimizer.args, tuple(sorted(optimizer.keywords.items())), learning_rate)
    return _built(optimizer, (), (), learning_rate)


@functools.cache
def _built(build: Callable, args: tuple, options: tuple, learning_rate: Any) -> Any:
    return build(*args, learning_rate, **dict(options))


def filled(a: np.ndarray, rows: int) -> np.ndarray:
    """a with its last row repeated, up to this many rows."""
    return np.concatenate([a, np.repeat(a[-1:], rows - len(a), axis=0)])


def whole(n: int, part: int) -> int:
    """The least multiple of `part` that is n or more."""
    return -(-n // part) * part


class Asked(NamedTuple):
    """What an estimator wants trained, beside the examples. held_out: the share of the rows that `stop` watches, 0 for none."""

    name: str
    net: Layer
    loss: Loss
    optimizer: Any
    penalty: Any
    scale: Any
    epochs: int
    batch_size: int | None
    stop: Any = None
    held_out: float = 0.0


def job_of(
    asked: Asked, key: jax.Array, x: np.ndarray, targets: np.ndarray, weight: np.ndarray, labels: np.ndarray | None
) -> engine.Job:
    """The job of training on these rows, as `fit` would, in shapes that other numbers of rows share.

    labels: the class of each row where some are held out class by class.
    """
    if asked.batch_size is not None:
        inputs.require_positive(asked.name, "batch_size", asked.batch_size)
    train, watched = _rows(asked, len(x), labels, key)
    n, mixes = len(train), "mixes" in asked.net.traits
    batch = (n if mixes else whole(n, ROWS)) if asked.batch_size is None else asked.batch_size
    rows = len(x) if mixes else whole(len(x), batch)
    x, targets, weight = filled(x, rows), filled(targets, rows), np.concatenate([weight, np.zeros(rows - len(x))])
    options = Options(
        key=key, epochs=asked.epochs, batch_size=min(batch, n), params=None, sample_weight=weight, penalty=asked.penalty,
        reduction="mean", gradient="manual", metrics=(), scale=asked.scale, shuffle=True, remainder="drop" if mixes else "short",
        evaluate_training=False, chunk=None, progress=None, stop=asked.stop, accumulate=1,
    )  # fmt: skip
    task = prepare(asked.name, asked.net, asked.loss, asked.optimizer, x, targets, options)
    sets = {} if watched is None else {"validation_": make_data(task.x, task.targets, task.weight, True)}
    filled_up = lambda a, size: np.concatenate([a, np.full(size - len(a), rows)])
    set_rows = {} if watched is None else {"validation_": (filled_up(watched, whole(len(watched), ROWS)),)}
    job = make_job(task, None, (train,), sets, set_rows)
    if mixes:
        return job
    order = Order((train,), batch, rows, True, "short")
    table = filled_up(train, rows).astype(np.int32)  # as long as all rows, whatever n is
    return job._replace(plan=job.plan._replace(skip_empty=False), order=order, train_rows=table)


def _rows(asked: Asked, n: int, labels: np.ndarray | None, key: jax.Array) -> tuple[np.ndarray, np.ndarray | None]:
    """(the rows that are trained on, those that are watched)."""
    if not asked.held_out:
        return np.arange(n), None
    split = inner_split(np.arange(n), asked.held_out, labels, key)
    return split.train, split.validation


def advance(job: engine.Job, state: TrainState | None) -> tuple[TrainState, float]:
    """One epoch from a state, or from the start: (the state after it, the loss on the way, NaN where it broke off)."""
    before = program.start(job.plan.for_start, job.key, None, None, job.data, job.train_rows) if state is None else state
    before = before._replace(stop=jnp.asarray(RUNNING, jnp.int32))
    done = int(before.epoch)
    order = job.order.chunk(key_words(before.key).reshape(-1, 2), done, done + 1, 1)[:, :, 0]
    after, history, _ = program.train_chunk(job.plan, 1, None, before, None, job.data, {}, {}, order, np.int32(1))
    return after, float(history["loss"][0])


def stored(state: TrainState) -> TrainState:
    """The state as NumPy arrays, which pickle and can be copied; keys do neither. Nothing is left of stopping rules."""
    state = state._replace(params=state.chosen, best=(), memory=(), rate=np.ones((), np.float32))
    return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))


def restored(state: TrainState) -> TrainState:
    return state._replace(key=jax.random.wrap_key_data(jnp.asarray(state.key)))


# --- prediction


@functools.partial(jax.jit, static_argnums=(0, 1))
def _outputs(net: Layer, scale: Scale | None, params: Any, statistics: Any, x: jax.Array) -> jax.Array:
    if scale is not None:
        x = scale.apply(statistics, x)
    return net.forward(params, x, train=False, key=None)[0]


def outputs_of(net: Layer, scale: Scale | None, params: Any, statistics: Any, x: np.ndarray) -> np.ndarray:
    """The outputs for the rows of x in at least float32: blocks of BLOCK rows, the last filled up to a power of two."""
    pieces = [x] if "mixes" in net.traits else _blocks(x)
    found = [np.asarray(_outputs(net, scale, params, statistics, piece)) for piece in pieces]
    outputs = np.concatenate(found)[: len(x)]
    return outputs.astype(np.promote_types(outputs.dtype, np.float32))


def _blocks(x: np.ndarray) -> Iterator[np.ndarray]:
    for first in range(0, len(x), BLOCK):
        block = x[first : first + BLOCK]
        yield filled(block, 1 << (len(block) - 1).bit_length())
