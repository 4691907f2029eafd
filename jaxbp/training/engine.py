"""The host's part of a run: compile, hand over chunks of epochs, collect the history."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxbp.compilation import compile_briefly
from jaxbp.training import program
from jaxbp.training.order import Order, key_words
from jaxbp.training.state import NONFINITE, RUNNING, Data, Plan, TrainState, checked_names


ORDER_BYTES = 64 << 20  # the most that the order of one chunk may take
REPORTS = 20  # how often a run reports its progress where the caller does not say


class Job(NamedTuple):
    """One run of the compiled programs: what is trained, on which rows, for how long."""

    plan: Plan
    key: jax.Array  # of the run
    trials: np.ndarray | None  # the numbers of the trials, None for one with the key of the run
    params: Any  # None to draw them
    data: Data
    train_rows: np.ndarray  # ([trials,] rows): what the scaling is fitted on
    sets: dict[str, Data]  # evaluated after each epoch, by the prefix of their names
    set_rows: dict[str, np.ndarray]  # ([trials,] blocks, block)
    order: Order
    epochs: int
    chunk: int | None
    progress: Callable | None


class Ran(NamedTuple):
    """What a job gave. history: (epochs of the trial that went on longest [, trials]) by name."""

    state: TrainState
    history: dict[str, np.ndarray]
    outputs: Any
    seconds_compile: float
    seconds_run: float


def run(job: Job) -> Ran:
    """Start, then chunks of epochs until all are done or no trial runs. Progress is reported between chunks."""
    room, done, parts, outputs = _room(job), 0, [], ()
    begin, train, seconds_compile = _compiled(job, room)
    begun = time.perf_counter()
    state = begin(job.key, job.trials, job.params, job.data, job.train_rows)
    words = key_words(state.key).reshape(-1, 2)
    while done < job.epochs and np.any(np.asarray(state.stop) == RUNNING):
        last = min(done + room, job.epochs)
        order = job.order.chunk(words, done, last, room)
        order = order if job.plan.trials else order[:, :, 0]
        state, history, outputs = train(state, job.data, job.sets, job.set_rows, order, np.int32(last - done))
        parts.append({name: np.asarray(values)[: last - done] for name, values in history.items()})
        done = last
        if job.progress is not None:
            job.progress(int(np.max(np.asarray(state.epoch))), {name: values[-1] for name, values in parts[-1].items()})
    done = int(np.max(np.asarray(state.epoch)))
    history = {name: np.concatenate([part[name] for part in parts])[:done] for name in parts[0]}
    outputs = jax.tree.map(np.asarray, outputs)
    return Ran(jax.block_until_ready(state), history, outputs, seconds_compile, time.perf_counter() - begun)


def _compiled(job: Job, room: int) -> tuple[Callable, Callable, float]:
    """(start, train_chunk) compiled for this job, side by side, and the seconds that took.

    JAX keeps what it traced and compiled by the plan and the shapes, so a second job like the first takes next to none.
    """
    begun = time.perf_counter()
    start = program.start.lower(job.plan.for_start, job.key, job.trials, job.params, job.data, job.train_rows)
    order = jax.ShapeDtypeStruct(job.order.shape(room, job.plan.trials), np.int32)
    args = (start.out_info, job.data, job.sets, job.set_rows, order, np.int32(0))
    train = program.train_chunk.lower(job.plan, room, *args)
    with ThreadPoolExecutor(2) as pool:
        begin, go = pool.submit(compile_briefly, start), pool.submit(train.compile)  # start runs once
    return begin.result(), go.result(), time.perf_counter() - begun


def _room(job: Job) -> int:
    """How many epochs one compiled call may do: all of them, unless progress or memory asks for pieces."""
    room = job.chunk or (-(-job.epochs // REPORTS) if job.progress is not None else job.epochs)
    per_epoch = job.order.bytes_per_epoch
    return max(1, min(room, job.epochs, ORDER_BYTES // per_epoch if per_epoch else room))


def stop_reasons(state: TrainState) -> list[str | None]:
    """Why each trial ended short of its epochs, in words; None where it did not."""
    names = checked_names(state.params)
    codes = (np.atleast_1d(np.asarray(a)).tolist() for a in (state.stop, state.epoch, state.leaf))
    return [_why(names[leaf], done) if stop == NONFINITE else None for stop, done, leaf in zip(*codes, strict=True)]


def _why(name: str, done: int) -> str:
    return f"non-finite after epoch {done + 1}: {name} is the first leaf with NaN or infinity; params are those of epoch {done}"


def ran_all(epochs: int) -> str:
    return f"ran all {epochs} epochs"
