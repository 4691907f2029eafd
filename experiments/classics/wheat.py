"""Brownlee's wheat seeds: 210 rows in five folds of 42, every step of his recipe, with the scaling leak and without it."""

from __future__ import annotations

import csv
import pathlib
import random
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

import jaxbp as bp
from experiments.classics import shared
from experiments.config import UsageError
from jaxbp.training import min_max


FOLDS, HIDDEN, CLASSES, RATE, EPOCHS = 5, 5, 3, 0.3, 500
NET, LOSS = shared.sigmoid_net(HIDDEN, CLASSES), bp.losses.quadratic()
HOW_TO_GET_IT = (
    "the data is the seeds set of the UCI Machine Learning Repository as comma-separated rows of 7 features and a class from 1 "
    "to 3; put it into uci/wheat-seeds.csv of one folder and name that folder by --data-dir"
)


class Table(NamedTuple):
    x: np.ndarray  # (rows, 7)
    labels: np.ndarray  # (rows,) 0 to 2, by the order of the classes


class Recipe(NamedTuple):
    """folds: the row numbers of each, in the order drawn. starts: the params that each fold begins with, stacked."""

    folds: np.ndarray
    starts: Any


class Validated(NamedTuple):
    """Per cent of the held-out rows right, one number a fold: min-max over the whole set, and over the training rows alone."""

    leak: np.ndarray
    clean: np.ndarray


def load(folder: pathlib.Path) -> Table:
    """The rows of uci/wheat-seeds.csv. Raises: UsageError where there is no such file, or one of another form."""
    path = shared.data_file(folder, "uci/wheat-seeds.csv", "wheat seeds", HOW_TO_GET_IT)
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = np.array([[float(value) for value in row] for row in csv.reader(file) if row])
        x, classes = rows[:, :7], rows[:, 7]
        if x.shape[1] != 7 or len(x) < 2 * FOLDS or not np.isfinite(rows).all():
            raise ValueError(f"got {len(rows)} rows of {rows.shape[1]} values")
    except (ValueError, IndexError) as error:
        raise UsageError(f"{path}: rows of 7 numbers and a class were expected ({error}); {HOW_TO_GET_IT}") from error
    return Table(x, np.unique(classes, return_inverse=True)[1])


def recipe(rows: int, features: int, seed: int) -> Recipe:
    """His draws in his order: the folds by popping, then for each fold the weights neuron by neuron, the bias last."""
    draw = random.Random(seed)
    left, size = list(range(rows)), rows // FOLDS
    folds = [[left.pop(draw.randrange(len(left))) for _ in range(size)] for _ in range(FOLDS)]
    layer = lambda before, units: [[draw.random() for _ in range(before + 1)] for _ in range(units)]
    drawn = [(np.array(layer(features, HIDDEN)), np.array(layer(HIDDEN, CLASSES))) for _ in range(FOLDS)]
    starts = [(shared.dense(a[:, :-1], a[:, -1]), (), shared.dense(b[:, :-1], b[:, -1]), ()) for a, b in drawn]
    return Recipe(np.array(folds), jax.tree.map(lambda *leaves: jnp.stack(leaves), *starts))


def scaled(x: np.ndarray, by: np.ndarray) -> np.ndarray:
    """x by the least and the largest value of each column of `by`."""
    scale = min_max()
    return np.asarray(scale.apply(scale.fit(jnp.asarray(by), jnp.ones(len(by))), jnp.asarray(x)))


def train(params: Any, x: jax.Array, targets: jax.Array) -> Any:
    return shared.descend(params, x, targets, RATE, net=NET, loss=LOSS, passes=EPOCHS, batch_size=1, every=EPOCHS)[0]


def validate(table: Table, seed: int) -> Validated:
    """Both ways to scale, five folds each: ten trainings of 500 epochs of case updating side by side in one compiled scan."""
    folds, starts = recipe(len(table.x), table.x.shape[1], seed)
    others = [np.concatenate([folds[j] for j in range(FOLDS) if j != i]) for i in range(FOLDS)]
    whole = [scaled(table.x, table.x)] * FOLDS
    inside = [scaled(table.x, table.x[rows]) for rows in others]
    x = np.stack([way[i][rows] for way in (whole, inside) for i, rows in enumerate(others)])
    targets = np.stack([np.eye(CLASSES)[table.labels[rows]] for rows in others * 2])
    held = np.stack([way[i][folds[i]] for way in (whole, inside) for i in range(FOLDS)])
    both = jax.tree.map(lambda leaf: jnp.concatenate([leaf, leaf]), starts)
    params = jax.jit(jax.vmap(train))(both, jnp.asarray(x), jnp.asarray(targets))
    guess = np.asarray(jnp.argmax(jax.jit(jax.vmap(NET))(params, jnp.asarray(held)), -1))
    hits = guess == np.concatenate([table.labels[folds]] * 2)
    scores = 100 * hits.mean(-1)
    return Validated(scores[:FOLDS], scores[FOLDS:])
