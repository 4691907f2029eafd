"""cross_validate: every fold trained in one compiled program."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from jaxbp import inputs
from jaxbp.contracts import Layer, Loss
from jaxbp.training import doors, engine
from jaxbp.training.metrics import class_labels
from jaxbp.training.program import Trials
from jaxbp.training.state import NONFINITE
from jaxbp.training.task import Options, Task, make_data, make_job, prepare
from jaxbp.validation.execution import execute
from jaxbp.validation.folds import Split, from_splitter, inner_split, kfold, stratified_kfold
from jaxbp.validation.result import CVResult


def cross_validate(
    net: Layer,
    loss: Loss,
    optimizer: Any,
    x: Any,
    targets: Any,
    *,
    folds: Any = 10,
    key: jax.Array,
    epochs: int,
    batch_size: int | None,
    stratified: bool | None = None,
    groups: Any = None,
    params: Any = None,
    sample_weight: Any = None,
    class_weight: Any = None,
    penalty: Any = None,
    reduction: str = "mean",
    gradient: str = "manual",
    metrics: Any = None,
    scale: Any = None,
    shuffle: bool = True,
    remainder: str = "short",
    evaluate_training: bool = False,
    stop: Any = None,
    stop_on: str = "inner",
    inner: float = 0.1,
    accumulate: int = 1,
    execution: str | None = None,
    chunk: int | None = None,
    progress: Callable | None = None,
    keeping: Any = None,
    precision: Any = None,
) -> CVResult:
    """Train on all rows but a fold, score on the fold, for every fold: one compiled program, mapped over the folds.

    The folds are drawn once. Each trains its own net from its own key, `jax.random.fold_in(key, fold)`, for all epochs, as
    `fit` does with that key on those rows. The data are held once; a fold is a row of indices, filled up to the size of
    the largest with rows of weight 0, which reach neither sums nor divisors nor the optimiser.

    Arguments beside those of `fit`:
      folds: a number, for `kfold` or `stratified_kfold` drawn from the key; a scikit-learn splitter (give it a
        random_state if it shuffles); or pairs (train, validation) of index arrays.
      stratified: draw the folds class by class. None does so where targets are clearly classes (integers, one-hot rows, one
        column of +-1 or 0/1) and each class has a member for every fold. Only for a number of folds.
      groups: handed to the splitter.
      params: where all folds begin; None draws them fold by fold.
      sample_weight: also weighs the scores. class_weight: weighs the training alone; "balanced" counts the classes in all rows.
      scale: fitted inside each fold, on the rows that it trains on.
      stop: rules as of `fit`; every fold stops by itself. A rule that watches "validation_..." watches an inner split, the
        share `inner` of the fold's training rows, held out of its training (drawn class by class where the folds are). With
        stop_on="fold" it watches the fold itself: the scores are then of an epoch that was chosen on them, and so too good.
      execution: "sharded", folds spread over all devices and mapped by vmap on each; "vmap", on one device; "map", one fold
        after another inside the compiled program, over all devices; "loop", one call a fold. None is "sharded" where there
        are several devices, else "vmap". The numbers are the same but for rounding; convolutional nets are faster by "map".

    A fold that turns non-finite stops by itself, with a RuntimeWarning that names it; the others go on.

    Raises: ValueError or TypeError before anything is compiled: as `fit`, and for splits that are empty, overlap or hold
    rows that are not there.
    """
    options = Options(
        key, epochs, batch_size, params, sample_weight, penalty, reduction, gradient, metrics, scale, shuffle, remainder,
        evaluate_training, chunk, progress, stop, accumulate, keeping, class_weight,
        precision=precision,
    )  # fmt: skip
    task = prepare("cross_validate", net, loss, optimizer, x, targets, options)
    rare = rare_class(task, folds, stratified)
    splits, stratified = draw_splits(task, folds, stratified, groups)
    require_weight(task, splits)
    train, sets, rows = rows_of(task, splits, stop_on, inner, stratified)
    streams = np.arange(len(splits), dtype=np.int32)
    job = make_job(task, Trials(streams, np.zeros_like(streams), streams, {}), train, sets, rows)
    job = job._replace(plan=job.plan._replace(predict=True))
    stopped_on = stop_on if watches_validation(task) else None
    result = result_of(task, execute(job, execution), job.plan, splits, train, stratified, stopped_on)
    return dataclasses.replace(result, rare_class=rare)


def rows_of(task: Task, splits: tuple[Split, ...], stop_on: str, inner: float, stratified: bool) -> tuple:
    """(training rows, sets, rows of the sets by prefix), with an inner split where a stopping rule watches one."""
    doors.require_one_of("cross_validate", "stop_on", stop_on, ("inner", "fold"))
    held_out = make_data(task.x, task.targets, task.weight, True)
    train, rows = tuple(s.train for s in splits), {"validation_": tuple(s.validation for s in splits)}
    if not watches_validation(task) or stop_on == "fold":
        return train, {"validation_": held_out}, rows
    labels = class_labels(task.outputs, task.targets) if stratified else None
    pairs = [inner_split(rows, inner, labels, jax.random.fold_in(task.key, i)) for i, rows in enumerate(train)]
    train, watched_rows = zip(*pairs, strict=True)
    return train, {"validation_": held_out, "inner_": held_out}, rows | {"inner_": watched_rows}


def watches_validation(task: Task) -> bool:
    return any((rule.monitor or "").startswith("validation_") for rule in task.plan.stop)


def draw_splits(task: Task, folds: Any, stratified: bool | None, groups: Any) -> tuple[tuple[Split, ...], bool]:
    """(the splits, whether they were drawn class by class)."""
    labels = class_labels(task.outputs, task.targets)
    if isinstance(folds, bool) or not isinstance(folds, (int, np.integer)):
        if stratified is not None:
            raise ValueError(f"cross_validate: stratified is for a number of folds; {folds!r} draws its own")
        x, y = (np.asarray(a) if hasattr(a, "shape") else np.zeros(task.n) for a in (task.x, task.targets))
        return from_splitter(folds, x, y if labels is None else labels, groups, task.n), False
    if stratified is not None:
        inputs.require_flag("cross_validate", "stratified", stratified)
    if groups is not None:
        raise ValueError("cross_validate: groups are for a splitter such as scikit-learn's GroupKFold, given as folds=")
    if stratified and labels is None:
        raise ValueError(
            "cross_validate: stratified=True needs targets that are classes, one a row: integers, one-hot rows, or one column "
            "of +-1 or 0/1"
        )
    k = int(folds)
    enough = labels is not None and k >= 2 and np.unique(labels, return_counts=True)[1].min() >= k
    by_class = bool(enough) if stratified is None else bool(stratified)
    return stratified_kfold(labels, k, task.key) if by_class else kfold(task.n, k, task.key), by_class


def rare_class(task: Task, folds: Any, stratified: bool | None) -> str | None:
    """Which class kept the folds from being drawn class by class where nobody said how; None where none did."""
    labels = class_labels(task.outputs, task.targets)
    if stratified is not None or labels is None or not isinstance(folds, (int, np.integer)):
        return None
    classes, counts = np.unique(labels, return_counts=True)
    few = int(counts.min())
    return f"class {classes[counts.argmin()]} has {few} member{'s' * (few > 1)}" if few < folds else None


def require_weight(task: Task, splits: tuple[Split, ...]) -> None:
    for side, what, weight in ((0, "training", task.training_weight), (1, "held-out", task.weight)):
        for i, rows in enumerate(split[side] for split in splits):
            if weight is not None and not np.any(weight[rows] > 0):
                zero = "sample_weight 0" if weight is task.weight else "weight 0 by sample_weight and class_weight"
                raise ValueError(f"{task.name}: split {i}: all of its {len(rows)} {what} rows have {zero}")


def result_of(
    task: Task, ran: engine.Ran, plan: Any, splits: tuple[Split, ...], train: tuple, stratified: bool, stop_on: str | None
) -> CVResult:
    reasons = tuple(engine.stop_reasons(plan, ran.state, task.options.epochs))
    for i in np.flatnonzero(np.asarray(ran.state.stop) == NONFINITE):
        warnings.warn(f"cross_validate: fold {i}: {reasons[i]}", RuntimeWarning, stacklevel=3)
    histories = {name: np.swapaxes(values, 0, 1) for name, values in ran.history.items()}
    best = np.asarray(ran.state.best_epoch)
    scores = {
        name.removeprefix("validation_"): last_of(values, best)
        for name, values in histories.items()
        if name.startswith("validation_")
    }
    count = np.bincount(np.concatenate([split.validation for split in splits]), minlength=task.n)
    predictions = jax.tree.map(lambda outputs: in_row_order(outputs, splits, count), ran.outputs)
    return CVResult(
        scores=scores,
        histories=histories,
        splits=tuple(Split(rows, split.validation) for rows, split in zip(train, splits, strict=True)),
        predictions=predictions,
        held_out=count,
        epochs=np.asarray(ran.state.epoch),
        best_epochs=best,
        stop_reasons=reasons,
        stopped_on=stop_on,
        params=ran.state.chosen,
        scale=ran.state.scale,
        keys=ran.state.key,
        stratified=stratified,
        seconds_compile=ran.seconds_compile,
        seconds_run=ran.seconds_run,
    )


def last_of(values: np.ndarray, epochs: np.ndarray) -> np.ndarray:
    """Each fold's value after this epoch, NaN for epoch 0. values: (folds, epochs, ...)."""
    none = np.full((len(epochs), 1, *values.shape[2:]), np.nan, values.dtype)
    return np.concatenate([none, values], axis=1)[np.arange(len(epochs)), epochs]


def in_row_order(outputs: np.ndarray, splits: tuple[Split, ...], count: np.ndarray) -> np.ndarray:
    """(n, ...): each row's held-out outputs, their mean where it was held out several times, NaN where never."""
    summed = np.zeros((len(count), *outputs.shape[2:]), outputs.dtype)
    for split, of_fold in zip(splits, outputs, strict=True):
        summed[split.validation] += of_fold[: len(split.validation)]
    shape = (-1,) + (1,) * (summed.ndim - 1)
    return np.where((count > 0).reshape(shape), summed / np.maximum(count, 1).astype(summed.dtype).reshape(shape), np.nan)
