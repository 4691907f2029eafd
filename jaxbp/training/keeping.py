"""A run in its folder: saved after every chunk, gone on with where it was left."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp.training.checkpoint import load_last, save
from jaxbp.training.folder import Stopped


class Keeping(NamedTuple):
    """Where a run is kept and what tells it from others. stopped: becomes true when it should end after its chunk."""

    folder: str | os.PathLike
    facts: dict = {}  # JSON: options, versions, a digest of the data  # noqa: RUF012
    resume: bool = False
    stopped: Stopped | None = None
    keep: int = 2
    log: Callable = print


class Interrupted(RuntimeError):
    """A run was told to end; its last chunk is saved."""


def facts_of(keeping: Keeping, program: Any, epochs: int) -> dict:
    """The facts with the text of the lowered program, which holds every constant of net, loss and optimiser."""
    return {**keeping.facts, "epochs": epochs, "program": hashlib.sha256(program.as_text().encode()).hexdigest()}


def saved(keeping: Keeping, facts: dict, state: Any, history: dict, done: int, count: int) -> None:
    """Write a checkpoint after a chunk; raise Interrupted where the run was told to end."""
    save(
        keeping.folder, {"state": first(state, count), "history": history}, facts=facts, notes={"epochs": done}, keep=keeping.keep
    )
    if keeping.stopped:
        raise Interrupted(f"{keeping.stopped.name}: stopped after epoch {done}; the run in {keeping.folder} can be resumed")


def resumed(keeping: Keeping, facts: dict, state: Any, specs: dict, count: int) -> tuple[Any, int, dict]:
    """(state, epochs done, history so far) of the last checkpoint; `state`, 0, {} without one. specs: of a chunk's history."""
    length = lambda s: s.shape[1:] if not count else (count, *s.shape[2:])
    history = {name: jax.ShapeDtypeStruct((None, *length(s)), s.dtype) for name, s in specs.items()}
    last = load_last(keeping.folder, {"state": first(state, count), "history": history}, facts=facts)
    if last is None:
        keeping.log(f"no checkpoint in {keeping.folder}: starting afresh")
        return state, 0, {}
    keeping.log(f"resumed after epoch {last.notes['epochs']} from {last.path}")
    whole = lambda new, padded: new if new.shape == padded.shape else jnp.concatenate([new, padded[count:]])
    state = jax.tree.map(whole, last.trees["state"], state)
    return state, last.notes["epochs"], jax.tree.map(np.asarray, last.trees["history"])


def first(state: Any, count: int) -> Any:
    """The state without the trials that only fill up the devices. count: of trials, 0 where there is no such axis."""
    return state if not count else jax.tree.map(lambda a: a if a.shape[0] == count else a[:count], state)
