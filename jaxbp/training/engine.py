"""The host's part of a run: compile, hand over chunks of epochs, collect the history."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxbp.compilation import compile_briefly
from jaxbp.training import program
from jaxbp.training.keeping import Keeping, end_if_told, facts_of, resumed, saved, without_padding
from jaxbp.training.order import Order, key_words
from jaxbp.training.processes import fetched, placed
from jaxbp.training.program import TRIALS, Trials
from jaxbp.training.state import NONFINITE, RULE, RUNNING, Data, Plan, TrainState, checked_names


ORDER_BYTES = 64 << 20  # the most that the order of one chunk may take
REPORTS = 20  # how often a run reports its progress where the caller does not say


class Job(NamedTuple):
    """One run of the compiled programs: what is trained, on which rows, for how long."""

    plan: Plan
    key: jax.Array  # of the run
    trials: Trials | None  # None for one trial with the key of the run
    params: Any  # None to draw them
    data: Data
    train_rows: np.ndarray  # ([streams,] rows): what the scaling is fitted on
    sets: dict[str, Data]  # evaluated after each epoch, by the prefix of their names
    set_rows: dict[str, np.ndarray]  # ([streams,] blocks, block)
    order: Order
    epochs: int
    chunk: int | None
    progress: Callable | None
    mesh: Mesh | None = None  # the devices that share the trials
    keeping: Keeping | None = None  # where it is saved between chunks

    @property
    def trial_count(self) -> int:
        """The number of trials, 0 for one without an axis of trials."""
        return 0 if self.trials is None else len(self.trials.number)


class Ran(NamedTuple):
    """What a job gave. history: (epochs of the trial that went on longest [, trials]) by name."""

    state: TrainState
    history: dict[str, np.ndarray]
    outputs: Any
    seconds_compile: float
    seconds_run: float


def run(job: Job) -> Ran:
    """Start or resume, then chunks of epochs until all are done or no trial runs; saved and reported between chunks."""
    count, job = job.trial_count, _padded(job)
    room, done, history, outputs = _room(job), 0, {}, None
    begin, train, lowered, seconds_compile = _compiled(job, room)
    begun = time.perf_counter()
    state = begin(job.key, job.trials, job.params, job.data, job.train_rows)
    words, key = _words_of_streams(job, state), state.key
    facts = facts_of(job.keeping, lowered, job.epochs) if job.keeping else {}
    if job.keeping and job.keeping.resume:
        state, done, history = resumed(job.keeping, facts, state, lowered.out_info[1], count)
    state, *others = _placed(job, state)
    advance = lambda state, first, last: train(state, *others, _order(job, words, first, last, room), np.int32(last - first))
    while done < job.epochs and np.any(fetched(state.stop, job.mesh) == RUNNING):
        last = min(done + room, job.epochs)
        state, part, outputs = advance(state, done, last)
        part = fetched(part, job.mesh)
        part = {name: values[: last - done, :count] if count else values[: last - done] for name, values in part.items()}
        history = {name: np.concatenate([history[name], values]) if history else values for name, values in part.items()}
        done = last
        if job.keeping:
            saved(job.keeping, facts, _state(job, state, key), history, done, count)
        if job.progress is not None:
            job.progress(int(np.max(fetched(state.epoch, job.mesh))), {name: values[-1] for name, values in part.items()})
        if job.keeping:
            end_if_told(job.keeping, done)
    if outputs is None:  # resumed at its end: the outputs of the state as it is
        state, _, outputs = advance(state, done, done)
    state, outputs = without_padding((_state(job, state, key), fetched(outputs, job.mesh)), count)
    history = {name: values[: int(np.max(np.asarray(state.epoch)))] for name, values in history.items()}
    return Ran(state, history, outputs, seconds_compile, time.perf_counter() - begun)


def _state(job: Job, state: TrainState, key: jax.Array) -> TrainState:
    """The state, whole in every process; key: of the state as it began."""
    if job.mesh is None or not job.mesh.is_multi_process:
        return jax.block_until_ready(state)
    return fetched(state._replace(key=None), job.mesh)._replace(key=key)


def _order(job: Job, words: np.ndarray, first: int, last: int, room: int) -> Any:
    order = job.order.chunk(words, first, last, room)
    return _whole(job, order if job.plan.trials else order[:, :, 0])


def _padded(job: Job) -> Job:
    """The job with trials that never run, copies of the first, up to a multiple of the devices."""
    if job.mesh is None or job.trials is None:
        return job
    missing = -len(job.trials.number) % job.mesh.size
    pad = lambda a, value: np.concatenate([a, np.full(missing, value, a.dtype)])
    number, others = pad(job.trials.number, -1), job.trials._replace(number=None)
    return job._replace(trials=jax.tree.map(lambda a: pad(a, a[0]), others)._replace(number=number))


def _words_of_streams(job: Job, state: TrainState) -> np.ndarray:
    """The words of the key that each stream's order is drawn from: its first trial's."""
    words = key_words(state.key).reshape(-1, 2)
    return words if job.trials is None else words[np.unique(job.trials.stream, return_index=True)[1]]


def _whole(job: Job, arrays: Any) -> Any:
    """The arrays on every device of the mesh."""
    return placed(arrays, job.mesh, PartitionSpec())


def _placed(job: Job, state: TrainState) -> tuple:
    """(state, streams, data, sets, rows) where `train_chunk` wants them."""
    streams = None if job.trials is None else job.trials.stream
    return *placed((state, streams), job.mesh, PartitionSpec(TRIALS)), *_whole(job, (job.data, job.sets, job.set_rows))


def _compiled(job: Job, room: int) -> tuple[Callable, Callable, Any, float]:
    """(start, train_chunk) compiled for this job, side by side, the second as it was lowered, and the seconds that took.

    JAX keeps what it traced and compiled by the plan and the shapes, so a second job like the first takes next to none.
    """
    begun = time.perf_counter()
    start = program.start.lower(job.plan.for_start, job.key, job.trials, job.params, job.data, job.train_rows)
    order = jax.ShapeDtypeStruct(job.order.shape(room, bool(job.plan.trials)), np.int32)
    streams = None if job.trials is None else job.trials.stream
    split, whole = (start.out_info, streams), (job.data, job.sets, job.set_rows, order, np.int32(0))
    if job.mesh is not None:
        split, whole = _specs(split, job.mesh, PartitionSpec(TRIALS)), _specs(whole, job.mesh, PartitionSpec())
    train = program.train_chunk.lower(job.plan, room, job.mesh, *split, *whole)
    with ThreadPoolExecutor(2) as pool:
        begin, go = pool.submit(compile_briefly, start), pool.submit(train.compile)  # start runs once
    return begin.result(), go.result(), train, time.perf_counter() - begun


def _specs(tree: Any, mesh: Mesh, spec: PartitionSpec) -> Any:
    sharding = NamedSharding(mesh, spec)
    return jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=sharding), tree)


def _room(job: Job) -> int:
    """How many epochs one compiled call may do: all of them, unless progress or memory asks for pieces."""
    room = job.chunk or (-(-job.epochs // REPORTS) if job.progress or job.keeping else job.epochs)
    per_epoch = job.order.bytes_per_epoch
    return max(1, min(room, job.epochs, ORDER_BYTES // per_epoch if per_epoch else room))


def stop_reasons(plan: Plan, state: TrainState, epochs: int) -> list[str]:
    """Why each trial ended, in words."""
    names = checked_names(state.params)
    codes = (np.atleast_1d(np.asarray(a)).tolist() for a in (state.stop, state.epoch, state.leaf))
    return [_reason(plan, stop, done, names[leaf], epochs) for stop, done, leaf in zip(*codes, strict=True)]


def _reason(plan: Plan, stop: int, done: int, name: str, epochs: int) -> str:
    if stop == RUNNING:
        return f"ran all {epochs} epochs"
    if stop != NONFINITE:
        return f"epoch {done}: {plan.stop[stop - RULE].reason}"
    return f"non-finite after epoch {done + 1}: {name} is the first leaf with NaN or infinity; params are those of epoch {done}"
