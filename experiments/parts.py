"""From options to the parts of a training: net, loss, targets, penalty, optimiser."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import optax

import jaxbp
from experiments.config import Options, UsageError
from jaxbp.training.stopping import patience


def net(options: Options, features: int, classes: int) -> jaxbp.Layer:
    """dense and activation in turn; the outputs are logits, or sigmoid activations for the quadratic loss."""
    hidden = getattr(jaxbp, options.activation)()
    output = jaxbp.sigmoid() if options.loss == "quadratic" else None
    return jaxbp.mlp([features, *options.hidden, classes], hidden=hidden, output=output)


def loss(options: Options) -> jaxbp.Loss:
    return getattr(jaxbp.losses, options.loss)()


def targets(options: Options, labels: np.ndarray, classes: int) -> np.ndarray:
    """What the loss compares the outputs with: the labels themselves, or one-hot rows."""
    return labels if options.loss == "softmax_cross_entropy" else np.eye(classes, dtype=np.float32)[labels]


def penalty(options: Options) -> Any:
    return jaxbp.penalties.l2(options.l2) if options.l2 else None


@functools.cache  # equal options are one optimiser, and so one compiled program
def optimizer(name: str, learning_rate: float) -> optax.GradientTransformation:
    if name == "momentum":
        return optax.sgd(learning_rate, momentum=0.9)
    return {"sgd": optax.sgd, "adam": optax.adam}[name](learning_rate)


def stop(options: Options) -> Any:
    """The stopping rule: on the validation loss, with the params of the best epoch."""
    return None if options.patience is None else patience(options.patience)


def require_batch(options: Options, rows: int) -> None:
    """Raise unless the rows that are trained on fill one batch."""
    if options.batch_size > rows:
        raise UsageError(f"--batch-size: expected at most {rows}, the images that are trained on, got {options.batch_size}")
