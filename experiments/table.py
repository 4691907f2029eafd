"""A table of the user's own: gradients compared on its first rows, then k-fold validation of a classification or regression.

What is fitted to data (imputation, scaling, the units of a real target) is fitted inside each fold (`infold`).
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxbp
from experiments import columns, infold, parts, results, runs, terminal
from experiments.config import Csv, UsageError
from jaxbp.report import run_report
from jaxbp.training.processes import leads
from jaxbp.validation import CVResult


class Problem(NamedTuple):
    """What is trained: the examples, what the loss compares outputs with, and the parts that go with the task."""

    rows: infold.Rows
    targets: np.ndarray
    names: tuple[str, ...]  # of the features
    classes: list[str] | None  # None for a regression
    truth: np.ndarray  # labels, or the target in its own units
    zero: float  # of the target's units: targets = (truth - zero) / unit
    unit: float
    inner: jaxbp.Layer  # features -> logits, or the target in the units of a fold
    net: jaxbp.Layer  # rows -> outputs
    loss: jaxbp.Loss
    metrics: Any
    score: str  # the metric that is told first

    @property
    def width(self) -> int:
        return len(self.names)

    @property
    def task(self) -> str:
        return "regression" if self.classes is None else "classification"


def run(options: Csv, stopped: Any = None) -> int:
    problem = read(options)
    asked, options = options, dataclasses.replace(options, task=problem.task)
    n = len(problem.truth)
    if not leads():
        validate(options, problem, terminal.Progress(options.epochs, None), stopped)
        return 0
    with runs.opened("csv", options) as folder:
        terminal.section("Table", describe(asked, problem))

        comparison = compare(options, problem)
        terminal.section(f"Gradients of {min(n, options.batch_size)} rows", comparison)

        with terminal.Progress(options.epochs, folder, score=problem.score) as progress:
            result = validate(options, problem, progress, stopped)
        terminal.section("Validation", result)

        folder.write_json("summary.json", summary(options, problem, comparison, result))
        folder.write("report.html", report(options, problem, comparison, result))
        return terminal.close(folder, results.broken(result.stop_reasons))


# --- the problem


def read(options: Csv) -> Problem:
    """The table as a problem; UsageError where it is none."""
    target, kept = columns.split_off(columns.read(options.path, options.delimiter), options)
    n = len(target.texts)
    if options.folds > n:
        raise UsageError(f"--folds: expected at most {n}, the rows of the table, got {options.folds}")
    if options.batch_size > n - -(-n // options.folds):
        fewest = n - -(-n // options.folds)
        raise UsageError(f"--batch-size: expected at most {fewest}, the rows that a fold trains on, got {options.batch_size}")
    build = classification if columns.task_of(target, options.task) == "classification" else regression
    return build(options, target, columns.features(kept, options.categorical))


def classification(options: Csv, target: columns.Column, found: columns.Features) -> Problem:
    labels, classes = columns.labels(target)
    if len(classes) > len(labels) / 2:
        raise UsageError(
            f"--target: {target.name!r} has {len(classes)} classes in {len(labels)} rows; expected two rows of a class or more"
            + ("" if target.not_a_number else "; for real numbers use --task regression")
        )
    net = parts.net(options, found.width, len(classes))
    targets = parts.targets(options, labels, len(classes))
    return Problem(
        _rows(found, None), targets, found.names, classes, labels, 0.0, 1.0, net, net, parts.loss(options), "accuracy", "accuracy"
    )  # fmt: skip


def regression(options: Csv, target: columns.Column, found: columns.Features) -> Problem:
    truth = columns.real(target)
    values, zero, unit = columns.in_units(truth)
    targets = values.astype(np.float32)[:, None]
    inner = jaxbp.mlp([found.width, *options.hidden, 1], hidden=getattr(jaxbp, options.activation)())
    net = infold.in_target_units(inner)
    metrics = infold.metrics(unit)
    return Problem(
        _rows(found, targets), targets, found.names, None, truth, zero, unit, inner, net, jaxbp.losses.quadratic(), metrics, "r2"
    )  # fmt: skip


def _rows(found: columns.Features, target: np.ndarray | None) -> infold.Rows:
    return infold.Rows(found.numbers, found.missing, found.absent, found.categories, target)


def describe(options: Csv, problem: Problem) -> str:
    kind = "a real number" if problem.classes is None else f"{len(problem.classes)} classes: {_few(problem.classes)}"
    told = "" if options.task else " (as its values look; --task says otherwise)"
    return (
        f"{len(problem.truth)} rows of {options.path}\n"
        f"target {options.target!r}, {kind}; {problem.task}{told}\n"
        f"{problem.width} features: {_few(problem.names)}"
    )


def _few(names: Any) -> str:
    return ", ".join(names) if len(names) <= 12 else f"{', '.join(names[:10])} ... {names[-1]}"


# --- training


def compare(options: Csv, problem: Problem) -> jaxbp.GradientComparison:
    """Both gradients of the first rows, prepared as in a fold, at params as they are drawn before training."""
    n = len(problem.truth)
    first = jax.tree.map(lambda a: a[: options.batch_size], (problem.rows, problem.targets))
    x = infold.apply(infold.fit(problem.rows, np.ones(n, np.float32)), first[0])  # type: ignore[arg-type]
    params, _ = problem.inner.init(jax.random.key(options.seed), (problem.width,))
    return jaxbp.compare_gradients(problem.net, problem.loss, params, x, first[1], penalty=parts.penalty(options))


def validate(options: Csv, problem: Problem, progress: terminal.Progress, stopped: Any = None) -> CVResult:
    """Every fold trained from its own params and scored on its held-out rows, all in one compiled program."""
    facts = runs.facts(options, (problem.rows, problem.targets), features=problem.names, classes=problem.classes)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "cross_validate: fold", RuntimeWarning)  # a broken fold is told at the end
        return jaxbp.cross_validate(
            problem.net,
            problem.loss,
            parts.optimizer(options.optimizer, options.learning_rate),
            problem.rows,
            problem.targets,
            folds=options.folds,
            key=jax.random.key(options.seed),
            epochs=options.epochs,
            batch_size=options.batch_size,
            penalty=parts.penalty(options),
            gradient=options.gradient,
            metrics=problem.metrics,
            scale=infold.IN_FOLD,
            stop=parts.stop(options),
            chunk=1,
            progress=progress,
            keeping=progress.keeping(options, facts, stopped),
        )


# --- what is left behind


def summary(options: Csv, problem: Problem, comparison: jaxbp.GradientComparison, result: CVResult) -> dict[str, Any]:
    names = [name for name in result.scores if name != "loss"]
    of_each = {
        key: value
        for name in names
        for key, value in (
            (f"{name}_per_fold", result.scores[name]),
            (f"{name}_mean", result.mean[name]),
            (f"{name}_std", result.std[name]),
        )
    }
    return {
        "experiment": "csv",
        "task": problem.task,
        "rows": len(problem.truth),
        "features": problem.width,
        **of_each,
        **({} if problem.classes else {"r2_of_all_rows": r2_of_all(problem, result)}),
        "loss_per_fold": result.scores["loss"],
        "loss_mean": result.mean["loss"],
        "epochs_per_fold": result.epochs,
        "best_epochs": result.best_epochs,
        "stop_reasons": result.stop_reasons,
        "predictions_sha256": runs.sha256(result.predictions),
        "stratified": result.stratified,
        **results.numbers(options, comparison, result, trials=options.folds),
    }


def r2_of_all(problem: Problem, result: CVResult) -> float:
    """R squared of all rows, each predicted by the net that did not see it: also where a fold is too small to have its own."""
    predicted = np.asarray(result.predictions, np.float64)[:, 0] * problem.unit + problem.zero
    return 1 - float(np.mean((predicted - problem.truth) ** 2) / np.var(problem.truth))


def report(options: Csv, problem: Problem, comparison: jaxbp.GradientComparison, result: CVResult) -> str:
    lead = (
        f"{options.folds}-fold validation of a {problem.task}: {options.target!r} from {problem.width} features of "
        f"{len(problem.truth)} rows of {options.path.name}, by {results.GRADIENTS[options.gradient]}."
    )
    counts = None if problem.classes is None else results.confusion(problem.truth, np.asarray(result.predictions))
    return run_report(
        f"Table: {options.target}",
        lead=results.lead(lead, result.stop_reasons),
        figures=[*_figures(problem, result), results.time_figure(result)],
        history=results.curves(result.histories),
        scores={name: values for name, values in result.scores.items() if name != "loss"},
        fold_sizes=result.sizes[:, 1].tolist(),
        confusion=counts,
        class_names=problem.classes,
        **results.ends(result),
        **results.sections(options, problem.inner, problem.width, comparison),
    )


def _figures(problem: Problem, result: CVResult) -> list[tuple[str, str, str]]:
    if problem.classes:
        return []
    return [("R² of all rows", f"{r2_of_all(problem, result):.4f}", "each predicted by the net that did not see it")]
