"""What the book's programs drew by chance, drawn again: NumPy's legacy normals and the shuffle of Python 2. Knows no JAX.

A program seeds two generators once, `random` and `numpy.random`, and may then train several nets. Two things go on from one
training to the next: both streams, and the order of the list of training images, which the shuffle changes in place. A
training on a slice of the list shuffles a copy and leaves the list as it was. `Script` keeps exactly that.

Source: M. Nielsen, Neural Networks and Deep Learning, network2 and the programs of its figures; Python 2.7, random.shuffle.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from experiments.config.nielsen import Earlier


class Drawn(NamedTuple):
    """One layer as the book writes it: z = w a + b. w: (units, fan_in), b: (units,), float64."""

    w: np.ndarray
    b: np.ndarray


class Script:
    """The state that a program of the book carries from one training to the next: both streams and the list of images."""

    def __init__(self, seed: int, images: int):
        self.normals = np.random.RandomState(seed)
        # Python seeds its Mersenne twister by an array of one word; the doubles after that are made alike
        self.uniforms = np.random.RandomState([seed])
        self.order = np.arange(images, dtype=np.int32)

    def net(self, sizes: Sequence[int], large: bool) -> list[Drawn]:
        """The next net: all biases N(0, 1), then all weights N(0, 1), divided by √fan_in unless `large`."""
        biases = [self.normals.randn(units, 1)[:, 0] for units in sizes[1:]]
        weights = [self.normals.randn(units, fan_in) for fan_in, units in itertools.pairwise(sizes)]
        if not large:
            weights = [w / np.sqrt(w.shape[1]) for w in weights]
        return [Drawn(w, b) for w, b in zip(weights, biases, strict=True)]

    def epochs(self, size: int | None) -> Iterator[np.ndarray]:
        """Without end: the rows of the list, or of a copy of its first `size`, as each epoch shuffled them once more."""
        rows = (self.order if size is None else self.order[:size]).tolist()
        while True:
            shuffle(rows, self.uniforms.random_sample(max(len(rows) - 1, 0)))
            shuffled = np.array(rows, np.int32)
            if size is None:
                self.order = shuffled
            yield shuffled

    def train(self, run: Earlier) -> None:
        """Shuffle as this training did; what it learnt leaves no trace."""
        for _ in zip(range(run.epochs), self.epochs(run.size), strict=False):
            pass


def shuffle(rows: list[int], uniforms: np.ndarray) -> None:
    """In place, for i from the last down to 1: swap rows[i] with rows[floor(u (i + 1))], one uniform u in [0, 1) each."""
    last = np.arange(len(rows) - 1, 0, -1)
    for i, j in zip(last.tolist(), (uniforms * (last + 1)).astype(np.int64).tolist(), strict=True):
        rows[i], rows[j] = rows[j], rows[i]


def began(
    seed: int, images: int, sizes: Sequence[int], *, large: bool, draws: int | None = None, earlier: Sequence[Earlier] = ()
) -> tuple[Script, list[Drawn]]:
    """(the program at the first epoch of this training, the net that it starts from).

    draws: nets of these sizes that were drawn before and thrown away. None: one for a large net, because the constructor of
    the book's class draws a default one first, and one for each earlier training.
    """
    script = Script(seed, images)
    for run in earlier:
        script.train(run)
    for _ in range(int(large) + len(earlier) if draws is None else draws):
        script.net(sizes, large)
    return script, script.net(sizes, large)
