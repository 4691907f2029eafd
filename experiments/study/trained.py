"""The digits, divided in three, and the net that the studies of trained nets look at."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

import jaxbp
from experiments import datasets
from experiments.config import Inside, Pruning
from jaxbp import initializers


FEATURES, CLASSES = 64, 10
LOSS = jaxbp.losses.softmax_cross_entropy()
TRAIN, CRITERION = 1000, 400  # of 1,797 images; the rest is the test set


class Sets(NamedTuple):
    """(images, labels) each; criterion decides what pruning may take, test is only reported."""

    train: tuple[np.ndarray, np.ndarray]
    criterion: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]


def sets(seed: int) -> Sets:
    data = datasets.digits()
    order = np.random.default_rng(seed).permutation(len(data))
    parts = np.split(order, [TRAIN, TRAIN + CRITERION])
    return Sets(*((data.images[rows], data.labels[rows]) for rows in parts))


def net(hidden: tuple[int, ...], large: bool = False) -> jaxbp.Layer:
    """Sigmoid layers; weights and biases from N(0, 1/fan_in) and 0, or all from N(0, 1) where `large`."""
    init: dict[str, Any] = {"w_init": initializers.normal(1.0), "b_init": initializers.normal(1.0)} if large else {}
    return jaxbp.mlp([FEATURES, *hidden, CLASSES], hidden=jaxbp.sigmoid(), **init)


@functools.cache  # one object, one compiled program
def sgd(learning_rate: float) -> Any:
    return optax.sgd(learning_rate)


def fit(options: Inside | Pruning, layers: jaxbp.Layer, of: Sets, **more: Any) -> jaxbp.FitResult:
    given = {"epochs": options.epochs, "batch_size": options.batch_size, "key": jax.random.key(options.seed)} | more
    return jaxbp.fit(layers, LOSS, sgd(options.learning_rate), *of.train, validation=of.test, **given)
