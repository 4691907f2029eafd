"""MNIST: gradients compared on one batch, then one net trained on the training images and scored on the test images."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import jax
import numpy as np

import jaxbp
from experiments import datasets, parts, results, terminal
from experiments.config import Mnist
from experiments.datasets import Images
from experiments.runs import RunFolder
from jaxbp.report import run_report


CLASSES = 10


def run(options: Mnist) -> int:
    train, test = datasets.mnist(options.data_dir)
    train = train.first(options.train_size)
    parts.require_batch(options, len(train))
    folder = RunFolder.create("mnist", options.out)
    folder.write_json("config.json", {"experiment": "mnist", **dataclasses.asdict(options)})

    features = train.images.shape[1]
    net = parts.net(options, features, CLASSES)
    params, _ = net.init(jax.random.key(options.seed), (features,))
    comparison = compare(options, net, params, train.first(options.batch_size))
    terminal.section("Gradients of one batch", comparison)

    with terminal.Progress(options.epochs, folder, held_out="test") as progress:
        result = fit(options, net, params, train, test, progress)
    outputs = np.asarray(net(result.params, test.images))
    accuracy = float(np.mean(outputs.argmax(axis=1) == test.labels))
    terminal.section("Test", f"accuracy {accuracy:.4f} on {len(test)} images after {result.epochs} epochs")

    folder.write_json("summary.json", summary(options, comparison, result, accuracy))
    shown = results.sections(options, net, features, comparison)
    folder.write("report.html", report(options, result, accuracy, results.confusion(test.labels, outputs), shown))
    return terminal.close(folder, results.broken([result.stop_reason]))


def compare(options: Mnist, net: jaxbp.Layer, params: Any, batch: Images) -> jaxbp.GradientComparison:
    """Both gradients of the first batch at the params that training begins from."""
    targets = parts.targets(options, batch.labels, CLASSES)
    return jaxbp.compare_gradients(net, parts.loss(options), params, batch.images, targets, penalty=parts.penalty(options))


def fit(options: Mnist, net: jaxbp.Layer, params: Any, train: Images, test: Images, progress: Any) -> jaxbp.FitResult:
    """The test images are scored after every epoch, for the curves; nothing in training depends on them."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*non-finite", RuntimeWarning)  # told at the end
        return jaxbp.fit(
            net,
            parts.loss(options),
            parts.optimizer(options.optimizer, options.learning_rate),
            train.images,
            parts.targets(options, train.labels, CLASSES),
            params=params,
            validation=(test.images, parts.targets(options, test.labels, CLASSES)),
            key=jax.random.key(options.seed),
            epochs=options.epochs,
            batch_size=options.batch_size,
            penalty=parts.penalty(options),
            gradient=options.gradient,
            metrics="accuracy",
            chunk=1,
            progress=progress,
        )


def summary(options: Mnist, comparison: jaxbp.GradientComparison, result: jaxbp.FitResult, accuracy: float) -> dict[str, Any]:
    return {
        "experiment": "mnist",
        "accuracy_test": accuracy,
        "epochs": result.epochs,
        "stop_reason": result.stop_reason,
        **results.numbers(options, comparison, result),
    }


def report(options: Mnist, result: jaxbp.FitResult, accuracy: float, confusion: np.ndarray, shown: dict[str, Any]) -> str:
    lead = f"{result.epochs} epochs by {results.GRADIENTS[options.gradient]}, scored on {confusion.sum()} test images."
    return run_report(
        "MNIST",
        lead=results.lead(lead, [result.stop_reason]),
        figures=[("Test accuracy", f"{accuracy:.4f}", "after the last epoch"), results.time_figure(result)],
        history=results.curves(result.history, held_out="test"),
        confusion=confusion,
        **shown,
    )
