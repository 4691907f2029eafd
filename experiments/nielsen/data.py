"""MNIST as the book has it: pixels k/256, the first 50,000 training images, the last 10,000 of them for validation."""

from __future__ import annotations

import os
import pathlib
from typing import NamedTuple

import numpy as np

from experiments import datasets
from experiments.config import UsageError
from experiments.datasets import Images


HELD_OUT = 10_000  # the training images at the end of the file that validate
GET = (
    "The data is the four IDX files of the MNIST database (train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k- "
    "ones, gzip or raw), which many sites mirror; put them into DIR/mnist and name DIR by --data-dir or by JAXBP_DATA"
)


class Set(NamedTuple):
    """x: (n, pixels) float64, k/256. y: (n, 10) float64, one-hot. labels: (n,) int32."""

    x: np.ndarray
    y: np.ndarray
    labels: np.ndarray

    def rows(self, rows: np.ndarray | slice) -> Set:
        return Set(self.x[rows], self.y[rows], self.labels[rows])


class Sets(NamedTuple):
    train: Set
    validation: Set
    test: Set


def load(folder: pathlib.Path | None) -> Sets:
    """The three sets from `folder`/mnist, or `folder` itself; None: the folder that JAXBP_DATA names.

    Raises: UsageError for a missing folder or file, and for fewer than 10,001 training images.
    """
    loaded = datasets.mnist(find(folder))
    images = len(loaded.train)
    if images <= HELD_OUT:
        raise UsageError(f"--data-dir: more than {HELD_OUT} training images were expected (60,000 in MNIST), found {images}")
    train, test = as_set(loaded.train), as_set(loaded.test)
    return Sets(train.rows(slice(images - HELD_OUT)), train.rows(slice(images - HELD_OUT, images)), test)


def find(folder: pathlib.Path | None) -> pathlib.Path:
    """The folder with the IDX files."""
    if folder is None:
        named = os.environ.get("JAXBP_DATA")
        if not named:
            raise UsageError(f"--data-dir: expected the folder of the data, got none, and JAXBP_DATA is not set. {GET}")
        folder = pathlib.Path(named)
    looked = [folder / "mnist", folder]
    for place in looked:
        if any(place.glob("train-images*")):
            return place
    raise UsageError(f"--data-dir {folder}: no MNIST there; looked in {' and '.join(map(str, looked))}. {GET}")


def as_set(images: Images) -> Set:
    """The pixels, which `datasets` has as k/255 in float32, as the book's k/256: exact in any format."""
    pixels = np.rint(images.images * np.float32(255)).astype(np.float64) / 256
    return Set(pixels, np.eye(10)[images.labels], images.labels)


def digits() -> Set:
    """The 1,797 digits of 8 x 8 pixels that scikit-learn ships, pixels in [0, 1]."""
    images = datasets.digits()
    return Set(images.images.astype(np.float64), np.eye(10)[images.labels], images.labels)
