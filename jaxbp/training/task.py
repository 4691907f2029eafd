"""From the arguments of `fit` and `cross_validate` to a job: checked, with their rows laid out."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxbp import inputs
from jaxbp.contracts import Layer, Loss
from jaxbp.training import diagnosis, doors
from jaxbp.training.class_metrics import class_weights
from jaxbp.training.engine import Job
from jaxbp.training.masking import Masked, masked_once
from jaxbp.training.metrics import class_labels, resolve
from jaxbp.training.order import Order, blocks, padded_rows, typed
from jaxbp.training.program import Trials
from jaxbp.training.scaling import as_scale
from jaxbp.training.state import Data, Plan
from jaxbp.training.stopping import as_rules


EVALUATION_BLOCK = 1024  # rows that are evaluated at a time


class Options(NamedTuple):
    """The arguments that `fit` and `cross_validate` share, as they came."""

    key: Any
    epochs: int
    batch_size: int | None
    params: Any
    sample_weight: Any
    penalty: Any
    reduction: str
    gradient: str
    metrics: Any
    scale: Any
    shuffle: bool
    remainder: str
    evaluate_training: bool
    chunk: int | None
    progress: Any
    stop: Any
    accumulate: int
    keeping: Any = None
    class_weight: Any = None
    diagnose: Any = False
    mask: Any = None
    precision: Any = None


class Task(NamedTuple):
    """What is asked for, checked: the plan, the examples and the options.

    outputs: the spec of the outputs for all rows. class_weight: (n,), a factor for the weight of each row in training.
    """

    name: str
    plan: Plan
    x: Any
    targets: Any
    weight: np.ndarray | None
    outputs: Any
    key: jax.Array
    options: Options
    class_weight: np.ndarray | None = None

    @property
    def training_weight(self) -> np.ndarray | None:
        """sample_weight times what `class_weight` gives to each row; scores have the first alone."""
        if self.class_weight is None or self.weight is None:
            return self.weight if self.class_weight is None else self.class_weight
        return self.weight * self.class_weight.reshape(-1, *(1,) * (self.weight.ndim - 1))

    @property
    def n(self) -> int:
        return inputs.batch_size(self.x)


def prepare(name: str, net: Layer, loss: Loss, optimizer: Any, x: Any, targets: Any, options: Options) -> Task:
    """The task, or ValueError and TypeError where something does not fit."""
    doors.require_parts(name, net, loss, optimizer, options.penalty)
    doors.require_options(name, options)
    scale = as_scale(options.scale)
    takes_nan = scale is not None and scale.takes_nan
    x, targets, weight = doors.examples(name, x, targets, options.sample_weight, takes_nan=takes_nan)
    optimizer = with_extra_args(optimizer)
    if options.mask is not None:
        optimizer = masked_once(optimizer)
    plan = Plan(
        net, loss, optimizer, options.penalty, options.reduction, options.gradient, (),
        scale, trials="", skip_empty=False, predict=False, stop=as_rules(options.stop),
        accumulate=options.accumulate, precision=options.precision,
    )  # fmt: skip
    outputs = doors.require_fit(plan, x, targets, options.params, options.mask)
    plan = plan._replace(metrics=resolve(options.metrics, loss, outputs, targets))
    by_class = weights_of_classes(name, options.class_weight, outputs, targets)
    task = Task(name, plan, x, targets, weight, outputs, typed(options.key), options, by_class)
    if by_class is not None and not np.any(task.training_weight):
        raise ValueError(f"{name}: class_weight: all weights are 0, so nothing is left to train on")
    return task


def weights_of_classes(name: str, class_weight: Any, outputs: Any, targets: Any) -> np.ndarray | None:
    """(n,): the weight of each row's class; None without."""
    if class_weight is None:
        return None
    labels = class_labels(outputs, targets)
    if labels is None:
        raise ValueError(f"{name}: class_weight is for targets that are classes, one a row; give each row's by sample_weight=")
    given = np.asarray(targets)
    return class_weights(given.reshape(-1) if given.size == len(labels) else labels, class_weight)


@functools.lru_cache(maxsize=256)
def with_extra_args(optimizer: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The optimiser as one that is told the value too; the same object each time, so that nothing is traced twice."""
    return optax.with_extra_args_support(optimizer)


def make_job(task: Task, trials: Trials | None, train: tuple[np.ndarray, ...], sets: dict, set_rows: dict) -> Job:
    """The job of training on these rows, one index array a stream (one for one trial).

    sets, set_rows: what to evaluate beside the training set, by prefix as in `train_chunk`; the rows are one index array
    a stream.
    """
    options, n, many = task.options, task.n, trials is not None
    batch_size = options.batch_size or max(map(len, train))
    remainder = "short" if options.batch_size is None else options.remainder  # a full batch leaves no rest
    order = Order(train, batch_size, n, options.shuffle, remainder)
    doors.require_batches(task.name, order, task.plan.net)
    doors.require_parts_of_batches(task.name, batch_size, task.plan)
    weight = task.training_weight
    zeros = weight is not None and bool(np.any(weight == 0))
    plan = task.plan._replace(
        trials="vmap" if many else "", skip_empty=order.uneven or zeros, diagnose=diagnosis.every(options.diagnose, order.longest)
    )
    data = make_data(task.x, task.targets, weight, order.short or order.uneven)
    if options.evaluate_training:
        sets = {"": make_data(task.x, task.targets, task.weight, True), **sets}
        set_rows = {"": train, **set_rows}
    doors.require_monitors(task.name, plan, sets)
    tables = {prefix: table(rows, inputs.batch_size(sets[prefix].x), many) for prefix, rows in set_rows.items()}
    cut = {prefix: blocks(rows, inputs.batch_size(sets[prefix].x), EVALUATION_BLOCK) for prefix, rows in tables.items()}
    rows = table(train, n, many)
    params = options.params if options.mask is None else Masked(options.params, options.mask)
    return Job(
        plan, task.key, trials, params, data, rows, sets, cut, order, options.epochs, options.chunk, options.progress,
        keeping=options.keeping,
    )  # fmt: skip


def table(rows: tuple[np.ndarray, ...], pad: int, trials: bool) -> np.ndarray:
    return padded_rows(rows, pad) if trials else rows[0].astype(np.int32)


def make_data(x: Any, targets: Any, weight: np.ndarray | None, padded: bool) -> Data:
    """Data with the row that stands for padding, where there is padding or any weight."""
    if weight is None and not padded:
        return Data(x, targets, None)
    weight = np.ones(inputs.batch_size(x)) if weight is None else weight
    full = np.concatenate([weight, np.zeros_like(weight[:1])])
    return Data(x, targets, jax.device_put(full.astype(jnp.result_type(float))))
