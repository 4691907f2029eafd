"""How the trials of a run share devices and programs; the numbers are the same."""

from __future__ import annotations

import jax
import numpy as np
from jax.sharding import Mesh

from jaxbp.training import doors, engine
from jaxbp.training.program import TRIALS
from jaxbp.training.state import TrainState


EXECUTIONS = ("sharded", "vmap", "map", "loop")


def execute(job: engine.Job, execution: str | None) -> engine.Ran:
    """Run a job of many trials. execution: see `cross_validate`."""
    if execution is not None:
        doors.require_one_of("execution", "execution", execution, EXECUTIONS)
    if execution == "loop":
        if job.keeping is not None:
            raise ValueError("execution='loop' is not kept in a folder; use 'map', one fold after another in one program")
        return _one_by_one(job)
    trials = "map" if execution == "map" else "vmap"
    mesh = None if execution == "vmap" else trial_mesh(job.trial_count)
    return engine.run(job._replace(plan=job.plan._replace(trials=trials), mesh=mesh))


def trial_mesh(trials: int) -> Mesh | None:
    """All devices in a row, those of other processes too; of one process as many as there are trials for. None for one."""
    devices = jax.devices() if jax.process_count() > 1 else jax.devices()[:trials]
    return Mesh(np.array(devices), (TRIALS,)) if len(devices) > 1 else None


def _one_by_one(job: engine.Job) -> engine.Ran:
    """Each trial in a call of its own, of one program."""
    each = [_alone(job, i) for i in range(job.trial_count)]
    ran = [engine.run(one) for one in each]
    longest = max(len(next(iter(r.history.values()))) for r in ran)
    pad = lambda a: np.concatenate([a, np.full((longest - len(a), *a.shape[1:]), np.nan, a.dtype)])
    return engine.Ran(
        state=_joined([r.state for r in ran]),
        history={name: np.concatenate([pad(r.history[name]) for r in ran], axis=1) for name in ran[0].history},
        outputs=jax.tree.map(lambda *parts: np.concatenate(parts), *[r.outputs for r in ran]),
        seconds_compile=sum(r.seconds_compile for r in ran),
        seconds_run=sum(r.seconds_run for r in ran),
    )


def _joined(states: list[TrainState]) -> TrainState:
    return jax.tree.map(lambda *leaves: jax.numpy.concatenate(leaves), *states)


def _alone(job: engine.Job, i: int) -> engine.Job:
    """The job of trial i alone, in the shapes of all."""
    assert job.trials is not None
    stream = job.trials.stream[i]
    trials = jax.tree.map(lambda a: a[i : i + 1], job.trials)
    return job._replace(
        trials=trials._replace(stream=np.zeros_like(trials.stream)),
        train_rows=job.train_rows[stream : stream + 1],
        set_rows=jax.tree.map(lambda rows: rows[stream : stream + 1], job.set_rows),
        order=job.order._replace(rows=(job.order.rows[stream],), least_steps=max(job.order.steps)),
    )
