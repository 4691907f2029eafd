"""Folds: which rows are trained on and which are held out. Pure functions of sizes, labels and a key.

A fold is a held-out block; a `Split` is the pair of the rows trained on and the fold. All are index arrays in rising order.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxbp import inputs
from jaxbp.training.order import FOLDS, INNER, generator, key_words, typed


class Split(NamedTuple):
    train: np.ndarray
    validation: np.ndarray


def kfold(n: int, k: int, key: jax.Array | None) -> tuple[Split, ...]:
    """n rows in k disjoint folds that cover them, sizes n // k or one more; the larger folds come first.

    key: shuffles the rows; None takes contiguous blocks in the order of the rows.

    >>> [split.validation.tolist() for split in kfold(5, 2, None)]
    [[0, 1, 2], [3, 4]]

    Raises: ValueError for k below 2 or above n, TypeError for sizes that are not whole and keys that are no keys.
    """
    _require_folds("kfold", k, n)
    rows = np.arange(n) if key is None else _stream("kfold", key).permutation(n)
    fold_of = np.empty(n, np.int64)
    fold_of[rows] = np.repeat(np.arange(k), [n // k + (i < n % k) for i in range(k)])
    return splits_of(fold_of, k)


def stratified_kfold(labels: Any, k: int, key: jax.Array | None) -> tuple[Split, ...]:
    """As `kfold`, and every class is spread evenly: its counts in two folds differ by at most one, and so do the sizes.

    Rows are sorted by class, shuffled within it, and dealt to the folds in turn like cards, one class after the other.

    Raises: ValueError where a class has fewer members than there are folds: some folds could not be scored on it.
    """
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"stratified_kfold: one label a row was expected, got shape {list(labels.shape)}")
    _require_folds("stratified_kfold", k, len(labels))
    classes, class_of, counts = np.unique(labels, return_inverse=True, return_counts=True)
    if counts.min() < k:
        rare, count = classes[counts.argmin()].item(), counts.min()
        raise ValueError(
            f"stratified_kfold: class {rare!r} has {count} members, too few for {k} folds; use at most {count} folds, or kfold "
            "(stratified=False)"
        )
    rows = np.arange(len(labels)) if key is None else _stream("stratified_kfold", key).permutation(len(labels))
    dealt = rows[np.argsort(class_of[rows], kind="stable")]
    fold_of = np.empty(len(labels), np.int64)
    fold_of[dealt] = np.arange(len(labels)) % k
    return splits_of(fold_of, k)


def inner_split(rows: np.ndarray, share: float, labels: np.ndarray | None, key: jax.Array) -> Split:
    """`rows` cut in two, at random: the share that is held out (one row or more, one of each class that has two) and the rest."""
    if not 0 < share < 1:
        raise ValueError(f"cross_validate: inner: a share of the training rows between 0 and 1 was expected, got {share!r}")
    if len(rows) < 2:
        raise ValueError(f"cross_validate: inner: {len(rows)} training rows cannot be split; use stop_on='fold' or larger folds")
    draw = generator(key_words(typed(key)), INNER, 0).permutation(len(rows))
    classes = np.zeros(len(rows)) if labels is None else labels[rows]
    held = []
    for label in np.unique(classes):
        members = draw[classes[draw] == label]
        held.append(members[: min(max(1, round(share * len(members))), len(members) - 1)])
    held = np.concatenate(held)
    if not len(held):
        raise ValueError("cross_validate: inner: no class has two training rows; use stop_on='fold' or stratified=False")
    return Split(np.sort(np.delete(rows, held)), np.sort(rows[held]))


def splits_of(fold_of: Any, k: int | None = None) -> tuple[Split, ...]:
    """The splits of an array that holds the number of the fold of every row."""
    fold_of = np.asarray(fold_of)
    k = int(fold_of.max()) + 1 if k is None else k
    return tuple(Split(np.flatnonzero(fold_of != i), np.flatnonzero(fold_of == i)) for i in range(k))


def _stream(name: str, key: Any) -> np.random.Generator:
    inputs.require_key(name, key)
    return generator(key_words(typed(key)), FOLDS, 0)


def _require_folds(name: str, k: Any, n: Any) -> None:
    inputs.require_positive(name, "the number of rows", n)
    inputs.require_positive(name, "the number of folds", k)
    if k < 2:
        raise ValueError(f"{name}: at least 2 folds are needed, so that there is something to train on, got {k}")
    if k > n:
        raise ValueError(f"{name}: {k} folds of {n} rows would leave some empty; use at most {n}")


def from_splitter(folds: Any, x: Any, labels: Any, groups: Any, n: int) -> tuple[Split, ...]:
    """The checked splits of a scikit-learn splitter (anything with `.split(x, labels, groups)`), or of pairs of index arrays."""
    if isinstance(folds, str):
        raise TypeError(f"cross_validate: folds: a number, a splitter or pairs of index arrays were expected, got {folds!r}")
    if hasattr(folds, "split"):
        pairs = _drawn(folds, x, labels, groups)
    elif isinstance(folds, Iterable):
        pairs = folds
    else:
        raise TypeError(
            "cross_validate: folds: a number, a splitter with .split, or pairs (train, validation) of index arrays were "
            f"expected, got {folds!r}"
        )
    splits = tuple(_checked(i, pair, n) for i, pair in enumerate(pairs))
    if not splits:
        raise ValueError(f"cross_validate: folds: {folds!r} gave no splits")
    return splits


def _drawn(splitter: Any, x: Any, labels: Any, groups: Any) -> list:
    name = f"cross_validate: folds: {splitter!r}.split"
    try:
        inspect.signature(splitter.split).bind(x, labels, groups)
    except TypeError as error:
        raise TypeError(f"{name}: is called as split(x, labels, groups), as scikit-learn's are: {error}") from None
    try:
        return list(splitter.split(x, labels, groups))
    except (TypeError, ValueError) as error:
        hint = "; give cross_validate groups=, the group of each row" if groups is None and "group" in str(error) else ""
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{name}: {error}{hint}") from error


def _checked(i: int, pair: Any, n: int) -> Split:
    try:
        train, validation = (_rows(rows, n) for rows in pair)
    except (TypeError, ValueError) as error:
        raise ValueError(f"cross_validate: split {i}: a pair (train, validation) of row indices was expected: {error}") from None
    for what, rows in (("train", train), ("validation", validation)):
        if not len(rows):
            raise ValueError(f"cross_validate: split {i} has no {what} rows")
        if rows.min() < 0 or rows.max() >= n:
            raise ValueError(
                f"cross_validate: split {i}: {what} rows run from {rows.min()} to {rows.max()}, the data from 0 to {n - 1}"
            )
    shared = np.intersect1d(train, validation)
    if len(shared):
        raise ValueError(
            f"cross_validate: split {i} trains on {len(shared)} of its validation rows, the first is row {shared[0]}"
        )
    if len(np.unique(validation)) < len(validation):
        raise ValueError(f"cross_validate: split {i} holds a validation row more than once")
    return Split(train, validation)


def _rows(rows: Any, n: int) -> np.ndarray:
    rows = np.asarray(rows)
    if rows.dtype == bool:  # a mask
        if rows.shape != (n,):
            raise ValueError(f"a mask has to have shape [{n}], got {list(rows.shape)}")
        return np.flatnonzero(rows)
    if rows.ndim != 1 or not (np.issubdtype(rows.dtype, np.integer) or rows.size == 0):
        raise ValueError(f"got {rows.dtype}{list(rows.shape)}")
    return rows.astype(np.int64)
