"""A run in its folder: saved after every chunk, gone on with where it was left."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.training import processes
from jaxbp.training.checkpoint import load_last, save
from jaxbp.training.folder import Stopped
from jaxbp.training.packing import json_bytes, pack, unpack


class Keeping(NamedTuple):
    """Where a run is kept and what tells it from others. stopped: becomes true when it should end after its chunk."""

    folder: str | os.PathLike
    facts: dict = {}  # JSON: options, versions, a digest of the data  # noqa: RUF012
    resume: bool = False
    stopped: Stopped | None = None
    keep: int = 2
    log: Callable = print
    went_on: Callable | None = None  # told (epochs done, history so far) of the checkpoint that the run goes on from


class Interrupted(RuntimeError):
    """A run was told to end by a signal, which `number` is; its last chunk is saved, up to `epoch`."""

    def __init__(self, number: int, epoch: int, folder: str | os.PathLike):
        super().__init__(f"{signal.Signals(number).name}: stopped after epoch {epoch}; the run in {folder} can be resumed")
        self.number, self.epoch = number, epoch


def facts_of(keeping: Keeping, program: Any, epochs: int) -> dict:
    """The facts with the text of the lowered program, which holds every constant of net, loss and optimiser."""
    return {**keeping.facts, "epochs": epochs, "program": hashlib.sha256(program.as_text().encode()).hexdigest()}


def saved(keeping: Keeping, facts: dict, state: Any, history: dict, done: int, count: int) -> None:
    """Write a checkpoint after a chunk; of several processes the first does."""
    if processes.leads():
        trees = {"state": without_padding(state, count), "history": history}
        save(keeping.folder, trees, facts=facts, notes={"epochs": done}, keep=keeping.keep)


def end_if_told(keeping: Keeping, done: int) -> None:
    """Raise Interrupted where this process, or another of the run, was told to end."""
    number = processes.largest(signal.Signals[keeping.stopped.name or ""] if keeping.stopped else 0)
    if number:
        raise Interrupted(number, done, keeping.folder)


def resumed(keeping: Keeping, facts: dict, state: Any, specs: dict, count: int) -> tuple[Any, int, dict]:
    """(state, epochs done, history so far) of the last checkpoint; `state`, 0, {} without one. specs: of a chunk's history."""
    length = lambda s: s.shape[1:] if not count else (count, *s.shape[2:])
    history = {name: jax.ShapeDtypeStruct((None, *length(s)), s.dtype) for name, s in specs.items()}
    last = _last(keeping, {"state": without_padding(state, count), "history": history}, facts)
    if last is None:
        return state, 0, {}
    trees, done = last
    history = jax.tree.map(np.asarray, trees["history"])
    if keeping.went_on is not None:
        keeping.went_on(done, history)
    whole = lambda new, padded: new if new.shape == padded.shape else jnp.concatenate([new, padded[count:]])
    return jax.tree.map(whole, trees["state"], state), done, history


def _last(keeping: Keeping, template: dict, facts: dict) -> tuple[dict, int] | None:
    """(trees, epochs done) of the last checkpoint, which the first of several processes reads for all."""
    last = load_last(keeping.folder, template, facts=facts) if processes.leads() else None
    if processes.leads() and last is None:
        keeping.log(f"no checkpoint in {keeping.folder}: starting afresh")
    elif last is not None:
        keeping.log(f"resumed after epoch {last.notes['epochs']} from {last.path}")
    if jax.process_count() == 1:
        return last and (last.trees, last.notes["epochs"])
    blob, leaves = pack(last.trees) if last is not None else (b"", [])
    head = json.loads(processes.from_first(json_bytes([leaves, last and last.notes["epochs"]])))
    blob = processes.from_first(blob)
    return (unpack(blob, head[0], template), head[1]) if blob else None


def without_padding(state: Any, count: int) -> Any:
    """The state without the trials that only fill up the devices. count: of trials, 0 where there is no such axis."""
    return state if not count else jax.tree.map(lambda a: a if a.shape[0] == count else a[:count], state)
