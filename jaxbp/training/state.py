"""What a run carries from epoch to epoch, and the static plan that its compiled programs are made from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxbp import tree
from jaxbp.contracts import Layer, Loss
from jaxbp.training.metrics import Metric
from jaxbp.training.precision import Precision
from jaxbp.training.scaling import Scale
from jaxbp.training.stopping import StoppingRule


RUNNING, NONFINITE, RULE = 0, 1, 2  # the codes of TrainState.stop; rule i of the plan has RULE + i
PADDING = -1  # no trial: it fills the trial axis up to a multiple of the devices, and never runs


class TrainState(NamedTuple):
    """All that a run needs, besides its data and its order of rows, to go on to the same end.

    In a run of many trials (folds, seeds, hyper-parameters) every field has a leading trial axis.
    """

    params: Any
    opt_state: Any
    scale: Any  # the fitted statistics of `plan.scale`, () without
    hyper: Any  # the numbers that this trial's setup is made of, by name; {} without a setup
    key: jax.Array  # of the trial
    epoch: jax.Array  # int32, epochs done
    step: jax.Array  # int32, updates done
    stop: jax.Array  # int32, RUNNING or why the trial stopped
    leaf: jax.Array  # int32, which of `checked_names` was the first to be non-finite, -1 where none was
    rate: jax.Array  # float32, what stopping rules have made of the learning rate, as a multiple
    memory: tuple  # of each stopping rule
    best: Any  # the params of the best epoch where a rule keeps them, else ()
    best_epoch: jax.Array  # int32, the epoch that `chosen` params belong to
    loss_scale: Any = ()  # a `precision.ScaleState` where the loss scale is found on the way

    @property
    def chosen(self) -> Any:
        """The params that a run gives: of the best epoch where a rule keeps them, else of the last."""
        return self.best if jax.tree.leaves(self.best) else self.params


class Setup(NamedTuple):
    """What is trained: the part of a run that may depend on hyper-parameters."""

    net: Layer
    loss: Loss
    optimizer: Any
    penalty: Any = None


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
    trials: str  # how trials share the program: "" there is one, "vmap", "map" one after another
    skip_empty: bool  # some batches may hold nothing but rows of weight 0
    predict: bool  # give the outputs for the validation rows at the end
    stop: tuple[StoppingRule, ...] = ()
    accumulate: int = 1  # parts that a batch is cut into
    diagnose: int = 0  # look inside the net in one of so many epochs, 0 never
    precision: Precision | None = None  # passes in bfloat16 or float16, params in float32
    setup: Callable | None = None  # (**hyper) -> Setup, instead of net, loss, optimizer and penalty

    @property
    def for_start(self) -> Plan:
        """The part that `start` reads: plans that differ in the rest share its program."""
        return self._replace(
            loss=None,
            penalty=None,
            reduction="",
            gradient="",
            metrics=(),
            skip_empty=False,
            predict=False,
            accumulate=1,
            diagnose=0,
        )

    @property
    def keeps(self) -> bool:
        return any(rule.keeps for rule in self.stop)

    def at(self, hyper: Any) -> Plan:
        """The plan of a trial: net, loss, optimiser and penalty made from its hyper-parameters where there is a setup."""
        if self.setup is None:
            return self
        made = self.setup(**hyper)
        optimizer = optax.with_extra_args_support(made.optimizer)
        return self._replace(net=made.net, loss=made.loss, optimizer=optimizer, penalty=made.penalty, setup=None)


def checked_names(params: Any) -> list[str]:
    """The names of what is looked at after every epoch, in the order of `finite_flags`."""
    return [*tree.paths(params, "params"), "loss"]


def finite_flags(params: Any, loss: jax.Array) -> jax.Array:
    """One boolean for each of `checked_names`."""
    return jnp.stack([jnp.all(jnp.isfinite(leaf)) for leaf in (*jax.tree.leaves(params), loss)])
