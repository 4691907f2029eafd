"""Experiments that train a net on a table or on images."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, ClassVar

import tyro

from experiments.config.options import Activation, Folded, LossName, Optimizer, Options, Task, require


@dataclasses.dataclass(frozen=True)
class Digits(Folded):
    """scikit-learn's digits: gradients compared, then stratified k-fold validation in one compiled program."""

    folds: int = 10
    """Number of folds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(2 <= self.folds <= 174, "--folds", "from 2 to 174 (the rarest digit occurs 174 times)", self.folds)


@dataclasses.dataclass(frozen=True)
class Mnist(Options):
    """MNIST from its four IDX files: training on 60,000 images, accuracy on the 10,000 test images."""

    gallery: ClassVar[tuple[str, ...]] = ("--data-dir", "{data}/mnist", "--epochs", "5")

    data_dir: Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")] = dataclasses.field(kw_only=True)
    """Folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and the t10k- files, gzip or raw, or with mnist/ that has."""
    hidden: tuple[int, ...] = (30,)
    activation: Activation = "sigmoid"
    loss: LossName = "sigmoid_cross_entropy"
    optimizer: Optimizer = "sgd"
    learning_rate: float = 0.5
    l2: float = 0.0
    batch_size: int = 10
    epochs: int = 30
    train_size: int | None = None
    """Train on the first so many images; all by default. With --patience, a tenth of them is held out to stop on."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.train_size is None or self.train_size > 0, "--train-size", "1 or more", self.train_size)


@dataclasses.dataclass(frozen=True)
class Csv(Folded):
    """A table of your own: k-fold validation of a net that predicts one column of a CSV file from the others."""

    path: Annotated[pathlib.Path, tyro.conf.arg(metavar="FILE")] = dataclasses.field(kw_only=True)
    """CSV file in UTF-8 whose first line names the columns. Empty, NA, N/A, NaN, null and ? mean that a value is missing."""
    target: Annotated[str, tyro.conf.arg(metavar="COLUMN")] = dataclasses.field(kw_only=True)
    """The column to predict."""
    task: Task | None = None
    """By default classification for texts and for few different whole numbers (at most 20), regression for other numbers."""
    folds: int = 10
    """Number of folds; stratified where each class has a row for every fold."""
    categorical: tuple[str, ...] = ()
    """Columns of numbers that stand for categories. Columns of texts are categories anyway."""
    drop: tuple[str, ...] = ()
    """Columns to leave out."""
    delimiter: str = ""
    """Between values; by default the one of comma, semicolon, tab and | that the header has."""
    hidden: tuple[int, ...] = (32,)
    loss: LossName = "softmax_cross_entropy"
    """Of a classification, as for digits; a regression has half the squared distance of a linear output."""
    epochs: int = 100

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.folds >= 2, "--folds", "2 or more", self.folds)
        require(len(self.delimiter) <= 1, "--delimiter", "one character", repr(self.delimiter))
