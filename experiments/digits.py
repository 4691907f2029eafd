"""Digits: hand-written and automatic gradients compared on real images, then k-fold validation by hand-written backprop."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp
from experiments import datasets, parts, results, runs, terminal
from experiments.config import Digits
from jaxbp.report import run_report
from jaxbp.training import standardize
from jaxbp.training.processes import leads
from jaxbp.validation import CVResult


FEATURES, CLASSES = 64, 10


def run(options: Digits, stopped: Any = None) -> int:
    data = datasets.digits()
    parts.require_batch(options, len(data) - -(-len(data) // options.folds))
    if not leads():
        validate(options, data, terminal.Progress(options.epochs, None), stopped)
        return 0
    with runs.opened("digits", options) as folder:
        comparison = compare(options, data)
        terminal.section("Gradients of one batch", comparison)

        with terminal.Progress(options.epochs, folder) as progress:
            result = validate(options, data, progress, stopped)
        terminal.section("Validation", result)

        folder.write_json("summary.json", summary(options, comparison, result))
        folder.write("report.html", report(options, data, comparison, result))
        return terminal.close(folder, results.broken(result.stop_reasons))


def compare(options: Digits, data: datasets.Images) -> jaxbp.GradientComparison:
    """Both gradients of the first batch, standardised, at params as they are drawn before training."""
    net, scale = parts.net(options, FEATURES, CLASSES), standardize()
    images = scale.apply(scale.fit(jnp.asarray(data.images), jnp.ones(len(data))), data.images)
    params, _ = net.init(jax.random.key(options.seed), (FEATURES,))
    x, targets = (rows[: options.batch_size] for rows in (images, parts.targets(options, data.labels, CLASSES)))
    return jaxbp.compare_gradients(net, parts.loss(options), params, x, targets, penalty=parts.penalty(options))


def validate(options: Digits, data: datasets.Images, progress: terminal.Progress, stopped: Any = None) -> CVResult:
    """Every fold trained from its own params and scored on its held-out images, all in one compiled program."""
    facts = runs.facts(options, data._asdict())
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "cross_validate: fold", RuntimeWarning)  # a broken fold is told at the end
        return jaxbp.cross_validate(
            parts.net(options, FEATURES, CLASSES),
            parts.loss(options),
            parts.optimizer(options.optimizer, options.learning_rate),
            data.images,
            parts.targets(options, data.labels, CLASSES),
            folds=options.folds,
            stratified=True,
            key=jax.random.key(options.seed),
            epochs=options.epochs,
            batch_size=options.batch_size,
            penalty=parts.penalty(options),
            gradient=options.gradient,
            metrics="accuracy",
            scale=standardize(),  # fitted inside each fold
            stop=parts.stop(options),
            chunk=1,
            progress=progress,
            keeping=progress.keeping(options, facts, stopped),
        )


def summary(options: Digits, comparison: jaxbp.GradientComparison, result: CVResult) -> dict[str, Any]:
    return {
        "experiment": "digits",
        "accuracy_per_fold": result.scores["accuracy"],
        "accuracy_mean": result.mean["accuracy"],
        "accuracy_std": result.std["accuracy"],
        "loss_per_fold": result.scores["loss"],
        "loss_mean": result.mean["loss"],
        "epochs_per_fold": result.epochs,
        "epochs_chosen": epochs_chosen(result),
        "best_epochs": result.best_epochs,
        "stop_reasons": result.stop_reasons,
        "predictions_sha256": runs.sha256(result.predictions),
        **results.numbers(options, comparison, result, trials=options.folds),
    }


def epochs_chosen(result: CVResult) -> int | None:
    """Mitchell's number of epochs for a last run on all rows; None where a fold has no finite epoch."""
    return jaxbp.choose_epochs(result).epochs if np.isfinite(result.histories["validation_loss"]).any(axis=1).all() else None


def report(options: Digits, data: datasets.Images, comparison: jaxbp.GradientComparison, result: CVResult) -> str:
    net = parts.net(options, FEATURES, CLASSES)
    lead = f"{options.folds}-fold validation on {len(data)} images of 8 × 8 pixels, by {results.GRADIENTS[options.gradient]}."
    return run_report(
        "Digits",
        lead=results.lead(lead, result.stop_reasons),
        figures=[
            results.time_figure(result),
            (
                "Epochs for all rows",
                str(epochs_chosen(result) or "–"),
                "mean of the folds' best epochs (Mitchell)",
            ),
        ],
        history=results.curves(result.histories),
        scores={"accuracy": result.scores["accuracy"]},
        fold_sizes=result.sizes[:, 1].tolist(),
        confusion=results.confusion(data.labels, np.asarray(result.predictions)),
        **results.ends(result),
        **results.sections(options, net, FEATURES, comparison),
    )
