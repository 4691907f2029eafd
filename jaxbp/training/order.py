"""Which rows each batch holds: made on the host by NumPy, because `jax.random.permutation` is slow (24 ms for 50,000 rows).

Epoch e of a key has one permutation of n rows whatever came before it: a run that is cut into chunks, stopped or
resumed meets the rows in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np


EPOCHS, FOLDS, INNER, SETTINGS = 0, 1, 2, 3  # what a permutation is drawn for: streams of one key that never meet


def key_words(key: jax.Array) -> np.ndarray:
    """(..., 2) uint64 words of a typed key, or of an array of keys."""
    data = np.asarray(jax.random.key_data(key)).astype(np.uint64)
    if data.shape[-1] == 2:  # threefry: 64 bits
        return data
    return data.reshape(*data.shape[:-1], 2, -1)[..., 0] << np.uint64(32) | data.reshape(*data.shape[:-1], 2, -1)[..., 1]


def generator(words: np.ndarray, use: int, number: int) -> np.random.Generator:
    """The stream of random numbers that belongs to (key, use, number)."""
    return np.random.Generator(np.random.Philox(key=words, counter=[0, 0, use, number]))


def permutation(words: np.ndarray, epoch: int, n: int) -> np.ndarray:
    return generator(words, EPOCHS, epoch).permutation(n)


def steps_of(n: int, batch_size: int, remainder: str) -> int:
    """Updates an epoch: n / batch_size, the short last batch counted unless it is dropped."""
    return n // batch_size if remainder == "drop" else -(-n // batch_size)


class Order(NamedTuple):
    """The batches of a run. Every trial has the number of steps of the largest one; what it lacks is padding."""

    rows: tuple[np.ndarray, ...]  # the training rows of each trial
    batch_size: int
    pad: int  # the row that stands for padding
    shuffle: bool
    remainder: str
    least_steps: int = 0  # filled up with batches of padding, for the shapes of a run of more trials

    @property
    def longest(self) -> int:
        """The number of steps that every trial has in an epoch."""
        return max([self.least_steps, *self.steps])

    @property
    def steps(self) -> list[int]:
        return [steps_of(len(rows), self.batch_size, self.remainder) for rows in self.rows]

    @property
    def short(self) -> bool:
        """Whether some batch is filled up with padding."""
        return any(len(rows) < steps * self.batch_size for rows, steps in zip(self.rows, self.steps, strict=True))

    @property
    def uneven(self) -> bool:
        """Whether some batch of some trial holds nothing but padding."""
        return len({*self.steps, self.longest}) > 1

    @property
    def shuffled(self) -> list[bool]:
        """For each trial whether its epochs differ: not where one batch holds all rows, inside which order means nothing."""
        return [self.shuffle and self.batch_size < len(rows) for rows in self.rows]

    @property
    def bytes_per_epoch(self) -> int:
        return 4 * self.longest * len(self.rows) * self.batch_size if any(self.shuffled) else 0

    def shape(self, room: int, trials: bool) -> tuple[int, ...]:
        """Of `chunk`, without the axis of trials where there is one trial alone."""
        epochs = room if any(self.shuffled) else 1
        return (epochs, self.longest, *([len(self.rows)] if trials else []), self.batch_size)

    def chunk(self, words: np.ndarray, first: int, last: int, room: int) -> np.ndarray:
        """(room, steps, trials, batch): the rows of epochs first..last-1, then padding. words: of the trials' keys.

        Where each epoch has the same order, one epoch is given: (1, steps, trials, batch).
        """
        epochs, room = (range(first, last), room) if any(self.shuffled) else ((0,), 1)
        order = np.full((room, len(self.rows), self.longest * self.batch_size), self.pad, np.int32)
        for trial, (of_trial, rows, steps, shuffled) in enumerate(zip(words, self.rows, self.steps, self.shuffled, strict=True)):
            used = min(len(rows), steps * self.batch_size)
            for i, epoch in enumerate(epochs):
                of_epoch = rows[permutation(of_trial, epoch, len(rows))] if shuffled else rows
                order[i, trial, :used] = of_epoch[:used]
        order = order.reshape(room, len(self.rows), self.longest, self.batch_size)
        return np.ascontiguousarray(order.transpose(0, 2, 1, 3))


def padded_rows(rows: Sequence[np.ndarray], pad: int) -> np.ndarray:
    """(trials, the most rows): each trial's rows, filled up with `pad`."""
    table = np.full((len(rows), max(len(r) for r in rows)), pad, np.int32)
    for trial, r in enumerate(rows):
        table[trial, : len(r)] = r
    return table


def blocks(rows: np.ndarray, pad: int, size: int) -> np.ndarray:
    """(..., n) rows as (..., blocks, block): as few blocks of at most `size` as will do, filled up with `pad`."""
    n = rows.shape[-1]
    count = -(-n // size)
    block = -(-n // count)
    full = np.full((*rows.shape[:-1], count * block), pad, np.int32)
    full[..., :n] = rows
    return full.reshape(*rows.shape[:-1], count, block)


def typed(key: Any) -> jax.Array:
    """A typed key of a new-style or legacy key."""
    return key if jax.numpy.issubdtype(key.dtype, jax.dtypes.prng_key) else jax.random.wrap_key_data(key)
