"""What each experiment can be told, and its defaults. Imports no JAX, so that --help is instant."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, Literal

import tyro


Activation = Literal["sigmoid", "tanh", "relu", "leaky_relu", "elu", "selu", "gelu", "silu", "softplus"]
LossName = Literal["softmax_cross_entropy", "sigmoid_cross_entropy", "quadratic"]
Optimizer = Literal["sgd", "momentum", "adam"]
Gradient = Literal["manual", "autodiff"]
Task = Literal["classification", "regression"]


CALL = ("out", "resume", "cache", "processes", "coordinator", "process_id")  # of one call; the result does not hang on them
PLACES = ("data_dir", "path")  # where the data is; a run knows its data by a digest


class UsageError(ValueError):
    """What was asked for cannot be done; the message says what was expected, what came, and what to do."""


@dataclasses.dataclass(frozen=True)
class Options:
    """What all training experiments share."""

    hidden: tuple[int, ...] = (128,)
    """Sizes of the hidden layers."""
    activation: Activation = "relu"
    """Activation of the hidden layers."""
    loss: LossName = "softmax_cross_entropy"
    """softmax_cross_entropy and sigmoid_cross_entropy act on logits; quadratic puts a sigmoid on the output."""
    optimizer: Optimizer = "adam"
    """The update rule (optax); momentum is sgd with momentum 0.9."""
    learning_rate: float = 1e-3
    """Step size of the update rule."""
    l2: float = 1e-3
    """Weight decay l of the penalty l/2 sum w^2 (Nielsen's lambda/n); biases are not decayed."""
    batch_size: int = 32
    """Examples in one update."""
    epochs: int = 40
    """Passes over the training examples."""
    patience: int | None = None
    """Stop when so many epochs bring no better validation loss, and take the best epoch; by default all epochs are run."""
    gradient: Gradient = "manual"
    """manual: hand-written backpropagation; autodiff: jax.grad of the same forward pass."""
    seed: int = 0
    """Seed of the folds, the initial params and the shuffles."""
    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The run folder, new or empty; by default runs/<name>-<time>."""
    resume: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Go on with the run in this folder, with its options, to the very result it would have had; afresh where none was begun."""
    cache: bool = True
    """Keep compiled programs in jaxbp/xla in your cache folder, so that the next run begins sooner."""

    def __post_init__(self) -> None:
        _require(all(size > 0 for size in self.hidden), "--hidden", "sizes above 0", self.hidden)
        _require(0 < self.learning_rate < float("inf"), "--learning-rate", "a number above 0", self.learning_rate)
        _require(0 <= self.l2 < float("inf"), "--l2", "0 or a number above", self.l2)
        _require(self.batch_size > 0, "--batch-size", "1 or more", self.batch_size)
        _require(self.epochs > 0, "--epochs", "1 or more", self.epochs)
        _require(self.patience is None or self.patience > 0, "--patience", "1 or more", self.patience)
        _require(0 <= self.seed < 2**32, "--seed", "a whole number from 0 to 2**32 - 1", self.seed)
        if self.out is not None and self.resume is not None:
            raise UsageError("--out, --resume: expected one of them, got both; --resume alone names the folder")


@dataclasses.dataclass(frozen=True)
class Folded(Options):
    """Options of k-fold validation, whose folds are shared by devices and processes."""

    devices: int | None = None
    """Into how many CPU devices to divide the cores, over all processes; by default 2 where there are two cores."""
    processes: int = 1
    """Start so many processes that share the folds; with --coordinator, how many there are on all machines."""
    coordinator: Annotated[str | None, tyro.conf.arg(metavar="HOST:PORT")] = None
    """Join processes of several machines: where process 0 waits for the others. Only process 0 writes and prints."""
    process_id: int | None = None
    """With --coordinator: the number of this process, 0 to --processes - 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.processes > 0, "--processes", "1 or more", self.processes)
        _require(self.devices is None or self.devices > 0, "--devices", "1 or more", self.devices)
        if self.devices is not None and self.devices % self.processes:
            _require(False, "--devices", f"a multiple of --processes {self.processes}", self.devices)
        if (self.coordinator is None) != (self.process_id is None):
            raise UsageError("--coordinator, --process-id: expected both or none, got one of them")
        if self.coordinator is not None and self.process_id is not None:
            host, _, port = self.coordinator.rpartition(":")
            _require(bool(host) and port.isdigit(), "--coordinator", "HOST:PORT", self.coordinator)
            _require(0 <= self.process_id < self.processes, "--process-id", f"0 to {self.processes - 1}", self.process_id)


@dataclasses.dataclass(frozen=True)
class Digits(Folded):
    """scikit-learn's digits: gradients compared, then stratified k-fold validation in one compiled program."""

    folds: int = 10
    """Number of folds."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(2 <= self.folds <= 174, "--folds", "from 2 to 174 (the rarest digit occurs 174 times)", self.folds)


@dataclasses.dataclass(frozen=True)
class Mnist(Options):
    """MNIST from its four IDX files: training on 60,000 images, accuracy on the 10,000 test images."""

    data_dir: Annotated[pathlib.Path, tyro.conf.arg(metavar="DIR")] = dataclasses.field(kw_only=True)
    """Folder with train-images-idx3-ubyte, train-labels-idx1-ubyte and the t10k- files, gzip or raw."""
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
        _require(self.train_size is None or self.train_size > 0, "--train-size", "1 or more", self.train_size)


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
        _require(self.folds >= 2, "--folds", "2 or more", self.folds)
        _require(len(self.delimiter) <= 1, "--delimiter", "one character", repr(self.delimiter))


@dataclasses.dataclass(frozen=True)
class AuditEcosystem:
    """Audit the custom rules of JAX, Optax and, where installed, Flax and Equinox with the gradient checker."""

    sources: tuple[str, ...] = ("jax", "optax", "flax", "equinox")
    """Whose rules: any of jax, optax, flax, equinox."""
    only: str = ""
    """Only functions whose name holds this."""
    seed: int = 0
    """Seed of the random cotangents."""


EXPERIMENTS = {"digits": Digits, "mnist": Mnist, "csv": Csv, "audit-ecosystem": AuditEcosystem}


def _require(holds: bool, option: str, expected: str, got: object) -> None:
    if not holds:
        raise UsageError(f"{option}: expected {expected}, got {got}")


def of_run(options: Options) -> dict[str, object]:
    """The options that a result hangs on, by name."""
    return {name: value for name, value in dataclasses.asdict(options).items() if name not in CALL}
