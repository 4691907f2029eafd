"""The published runs of Nielsen's book, and the studies of its chapters."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, ClassVar, Literal, NamedTuple

import tyro

from experiments.config.options import Study, UsageError, require


Cost = Literal["cross-entropy", "quadratic"]
Init = Literal["large", "default"]
Monitor = Literal["test", "validation"]
Way = Literal["manual", "autodiff", "custom-vjp", "per-example"]
Topic = Literal["neuron", "depth", "rates", "sizes", "stopping", "halving"]

WAYS = {
    "manual": "hand-written backpropagation",
    "autodiff": "jax.grad of the same forward pass",
    "custom-vjp": "jax.grad that is given the hand-written rules",
    "per-example": "hand-written backpropagation of one example after the other, added up, as the book's own code does",
}
FOLDER = Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")]


class Earlier(NamedTuple):
    """A training that the same program made before: so many epochs on the list itself (size None), or on a slice [:size]."""

    epochs: int
    size: int | None


@dataclasses.dataclass(frozen=True)
class Nielsen(Study):
    """A published run of "Neural Networks and Deep Learning", digit for digit, from its options alone."""

    gallery: ClassVar[tuple[str, ...]] = ("--samples", "1000", "--epochs", "100", "--weight-decay", "0.1", "--data-dir", "{data}")

    data_dir: FOLDER = None
    """Folder that holds mnist/ with the four IDX files; by default the one that JAXBP_DATA names."""
    sizes: tuple[int, ...] = (784, 30, 10)
    """Units of every layer, the 784 pixels first, the 10 digits last."""
    samples: int | None = None
    """Train on a slice, the first so many of the 50,000 training images; by default on the list of all of them."""
    epochs: int = 30
    """Passes over the training images."""
    batch_size: int = 10
    """Images in one update; a short last batch is divided by its own size."""
    learning_rate: float = 0.5
    """The book's eta."""
    cost: Cost = "cross-entropy"
    """On sigmoid outputs, both."""
    init: Init = "large"
    """large: weights N(0, 1); default: N(0, 1/n), n the number of inputs of the neuron. Biases N(0, 1)."""
    weight_decay: float = 0.0
    """The book's lambda: lambda/(2n) sum w^2 is added to the cost, n the number of training images."""
    monitor: Monitor = "test"
    """Which set is evaluated beside the training images: 10,000 test images, or the last 10,000 of the training file."""
    every: int = 1
    """Evaluate both sets after every so many epochs."""
    legacy_seed: int = 12345678
    """Seed of NumPy's legacy normals and of Python 2's shuffle."""
    earlier: tuple[str, ...] = ()
    """Trainings that the book's program made before this one, in order, such as 30xall or 30x1000: epochs x images."""
    draws: int | None = None
    """Nets that it drew before and did not train here; by default 1 for large (the constructor's), and 1 for each --earlier."""
    gradient: Way = "manual"
    """manual: hand-written; autodiff: jax.grad; custom-vjp: jax.grad given our rules; per-example: by hand, image by image."""
    dtype: Literal["float64", "float32"] = "float64"
    """The format of params and images."""
    compare: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="FILE")] = None
    """A published file: [test_cost, test_accuracy, training_cost, training_accuracy]; checked epoch by epoch."""
    part: str = ""
    """Which result of a file that holds several: an index from 0, or a name."""
    tolerance: float | None = None
    """How far a cost may be from the published one; by default 1e-9 to 50,000 updates, 1e-6 beyond."""
    seed: tyro.conf.Suppress[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(len(self.sizes) >= 2 and min(self.sizes) > 0, "--sizes", "two sizes or more, each above 0", self.sizes)
        for name in ("samples", "epochs", "batch_size", "every"):
            value = getattr(self, name)
            require(value is None or value > 0, "--" + name.replace("_", "-"), "1 or more", value)
        require(self.epochs % self.every == 0, "--every", f"a divisor of --epochs {self.epochs}", self.every)
        require(0 < self.learning_rate < float("inf"), "--learning-rate", "a number above 0", self.learning_rate)
        require(0 <= self.weight_decay < float("inf"), "--weight-decay", "0 or a number above", self.weight_decay)
        require(0 <= self.legacy_seed < 2**32, "--legacy-seed", "a whole number from 0 to 2**32 - 1", self.legacy_seed)
        require(self.draws is None or self.draws >= 0, "--draws", "0 or more", self.draws)
        require(self.tolerance is None or self.tolerance >= 0, "--tolerance", "0 or a number above", self.tolerance)
        require(not self.part or self.compare is not None, "--part", "a file named by --compare", "none")
        for text in self.earlier:
            parse_earlier(text)

    @property
    def before(self) -> tuple[Earlier, ...]:
        return tuple(parse_earlier(text) for text in self.earlier)


def parse_earlier(text: str) -> Earlier:
    epochs, x, size = text.partition("x")
    if not (x and epochs.isdigit() and int(epochs) > 0 and (size == "all" or (size.isdigit() and int(size) > 0))):
        raise UsageError(f"--earlier: expected EPOCHSxIMAGES such as 30xall or 30x1000, got {text!r}")
    return Earlier(int(epochs), None if size == "all" else int(size))


@dataclasses.dataclass(frozen=True)
class NielsenStudies(Study):
    """The studies of the book: saturation, depth; with data also learning rates, more data, early stopping, halved rates."""

    SEEDS: ClassVar[tuple[int, ...]] = tuple(range(20))

    only: tuple[Topic, ...] = ()
    """Which of them; by default neuron and depth, and with data all."""
    data_dir: FOLDER = None
    """Folder that holds mnist/, and nielsen_fig/ where published curves are to be shown; without it no outside data is read."""
    epochs: int = 500
    """Epochs of the study of depth."""
    seed: tyro.conf.Suppress[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.epochs > 0, "--epochs", "1 or more", self.epochs)
        needs = sorted({*self.only} - {"neuron", "depth"})
        if needs and self.data_dir is None:
            raise UsageError(f"--only {' '.join(needs)}: needs MNIST; name the folder that holds mnist/ by --data-dir")

    @property
    def topics(self) -> tuple[str, ...]:
        if self.only:
            return self.only
        return ("neuron", "depth", *(() if self.data_dir is None else ("rates", "sizes", "stopping", "halving")))
