"""MNIST: gradients compared on one batch, then one net trained on the training images and scored on the test images."""

from __future__ import annotations

import warnings
from typing import Any

import jax
import numpy as np

import jaxbp
from experiments import datasets, parts, results, runs, terminal
from experiments.config import Mnist
from experiments.datasets import Images
from jaxbp.report import run_report
from jaxbp.validation.folds import inner_split


CLASSES = 10


def run(options: Mnist, stopped: Any = None) -> int:
    train, test = datasets.mnist(options.data_dir)
    train, watched = split(options, train.first(options.train_size), test)
    parts.require_batch(options, len(train))
    facts = runs.facts(options, [train._asdict(), watched._asdict()])
    with runs.opened("mnist", options) as folder:
        features = train.images.shape[1]
        net = parts.net(options, features, CLASSES)
        params, _ = net.init(jax.random.key(options.seed), (features,))
        comparison = compare(options, net, params, train.first(options.batch_size))
        terminal.section("Gradients of one batch", comparison)

        with terminal.Progress(options.epochs, folder, held_out=held_out(options)) as progress:
            result = fit(options, net, params, train, watched, progress, facts, stopped)
        outputs = np.asarray(net(result.params, test.images))
        accuracy = float(np.mean(outputs.argmax(axis=1) == test.labels))
        terminal.section("Test", f"accuracy {accuracy:.4f} on {len(test)} images after {result.best_epoch} epochs")

        folder.write_json("summary.json", summary(options, comparison, result, accuracy))
        shown = results.sections(options, net, features, comparison)
        folder.write("report.html", report(options, result, accuracy, results.confusion(test.labels, outputs), shown))
        return terminal.close(folder, results.broken([result.stop_reason]))


def split(options: Mnist, train: Images, test: Images) -> tuple[Images, Images]:
    """(what is trained on, what is scored after every epoch): a tenth of the training images where that says when to stop."""
    if options.patience is None:
        return train, test
    pair = inner_split(np.arange(len(train)), 0.1, train.labels, jax.random.key(options.seed))
    return tuple(Images(train.images[rows], train.labels[rows], train.shape) for rows in pair)  # type: ignore[return-value]


def held_out(options: Mnist) -> str:
    return "test" if options.patience is None else "validation"


def compare(options: Mnist, net: jaxbp.Layer, params: Any, batch: Images) -> jaxbp.GradientComparison:
    """Both gradients of the first batch at the params that training begins from."""
    targets = parts.targets(options, batch.labels, CLASSES)
    return jaxbp.compare_gradients(net, parts.loss(options), params, batch.images, targets, penalty=parts.penalty(options))


def fit(
    options: Mnist, net: jaxbp.Layer, params: Any, train: Images, watched: Images, progress: terminal.Progress, facts: Any,
    stopped: Any,
) -> jaxbp.FitResult:  # fmt: skip
    """The images that are watched are scored after every epoch; the test images never have a part in training."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*non-finite", RuntimeWarning)  # told at the end
        return jaxbp.fit(
            net,
            parts.loss(options),
            parts.optimizer(options.optimizer, options.learning_rate),
            train.images,
            parts.targets(options, train.labels, CLASSES),
            params=params,
            validation=(watched.images, parts.targets(options, watched.labels, CLASSES)),
            key=jax.random.key(options.seed),
            epochs=options.epochs,
            batch_size=options.batch_size,
            penalty=parts.penalty(options),
            gradient=options.gradient,
            metrics="accuracy",
            stop=parts.stop(options),
            chunk=1,
            progress=progress,
            keeping=progress.keeping(options, facts, stopped),
        )


def summary(options: Mnist, comparison: jaxbp.GradientComparison, result: jaxbp.FitResult, accuracy: float) -> dict[str, Any]:
    return {
        "experiment": "mnist",
        "accuracy_test": accuracy,
        "epochs": result.epochs,
        "best_epoch": result.best_epoch,
        "stop_reason": result.stop_reason,
        **results.numbers(options, comparison, result),
    }


def report(options: Mnist, result: jaxbp.FitResult, accuracy: float, confusion: np.ndarray, shown: dict[str, Any]) -> str:
    lead = f"{result.epochs} epochs by {results.GRADIENTS[options.gradient]}, scored on {confusion.sum()} test images."
    return run_report(
        "MNIST",
        lead=results.lead(lead, [result.stop_reason]),
        figures=[("Test accuracy", f"{accuracy:.4f}", f"after {result.best_epoch} epochs"), results.time_figure(result)],
        history=results.curves(result.history, held_out=held_out(options)),
        **results.ends(result),
        confusion=confusion,
        **shown,
    )
