"""What a run carries from epoch to epoch, and the static plan that its compiled programs are made from."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxbp import tree
from jaxbp.contracts import Layer, Loss
from jaxbp.training.metrics import Metric
from jaxbp.training.scaling import Scale


RUNNING, NONFINITE = 0, 1  # the codes of TrainState.stop


class TrainState(NamedTuple):
    """All that a run needs, besides its data and its order of rows, to go on to the same end.

    In a run of many trials (folds) every field has a leading trial axis.
    """

    params: Any
    opt_state: Any
    scale: Any  # the fitted statistics of `plan.scale`, () without
    key: jax.Array  # of the trial
    epoch: jax.Array  # int32, epochs done
    step: jax.Array  # int32, updates done
    stop: jax.Array  # int32, RUNNING or why the trial stopped
    leaf: jax.Array  # int32, which of `checked_names` was the first to be non-finite, -1 where none was


class Data(NamedTuple):
    """Examples that batches are gathered from.

    weight: None, or (n + 1,) or (n + 1, time): the weight of each row and a last entry 0. Row n stands for padding: its
    weight is 0, its values are those of row n - 1.
    """

    x: Any
    targets: Any
    weight: jax.Array | None


class Plan(NamedTuple):
    """The static part of a run, hashable: one compiled program for each plan and shape."""

    net: Layer
    loss: Loss
    optimizer: optax.GradientTransformationExtraArgs
    penalty: Any
    reduction: str
    gradient: str
    metrics: tuple[Metric, ...]
    scale: Scale | None
    trials: bool  # a leading trial axis on state, order and evaluation rows
    skip_empty: bool  # some batches may hold nothing but rows of weight 0
    predict: bool  # give the outputs for the validation rows at the end

    @property
    def for_start(self) -> Plan:
        """The part that `start` reads: plans that differ in the rest share its program."""
        return Plan(self.net, None, self.optimizer, None, "", "", (), self.scale, self.trials, False, False)  # type: ignore[arg-type]


def checked_names(params: Any) -> list[str]:
    """The names of what is looked at after every epoch, in the order of `finite_flags`."""
    return [*tree.paths(params, "params"), "loss"]


def finite_flags(params: Any, loss: jax.Array) -> jax.Array:
    """One boolean for each of `checked_names`."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in (*jax.tree.leaves(params), loss)])
