"""What experiments of one kind share, and how an option that cannot be used is told."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, ClassVar, Literal

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
        require(all(size > 0 for size in self.hidden), "--hidden", "sizes above 0", self.hidden)
        require(0 < self.learning_rate < float("inf"), "--learning-rate", "a number above 0", self.learning_rate)
        require(0 <= self.l2 < float("inf"), "--l2", "0 or a number above", self.l2)
        require(self.batch_size > 0, "--batch-size", "1 or more", self.batch_size)
        require(self.epochs > 0, "--epochs", "1 or more", self.epochs)
        require(self.patience is None or self.patience > 0, "--patience", "1 or more", self.patience)
        require(0 <= self.seed < 2**32, "--seed", "a whole number from 0 to 2**32 - 1", self.seed)
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
        require(self.processes > 0, "--processes", "1 or more", self.processes)
        require(self.devices is None or self.devices > 0, "--devices", "1 or more", self.devices)
        if self.devices is not None and self.devices % self.processes:
            require(False, "--devices", f"a multiple of --processes {self.processes}", self.devices)
        if (self.coordinator is None) != (self.process_id is None):
            raise UsageError("--coordinator, --process-id: expected both or none, got one of them")
        if self.coordinator is not None and self.process_id is not None:
            host, _, port = self.coordinator.rpartition(":")
            require(bool(host) and port.isdigit(), "--coordinator", "HOST:PORT", self.coordinator)
            require(0 <= self.process_id < self.processes, "--process-id", f"0 to {self.processes - 1}", self.process_id)


@dataclasses.dataclass(frozen=True)
class Study:
    """What the experiments share that train no net of the user's: where they write, and their seed."""

    resume: ClassVar[None] = None  # a study is short enough to be run again

    out: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """The run folder, new or empty; by default runs/<name>-<time>."""
    seed: int = 0
    """Seed of every draw."""

    def __post_init__(self) -> None:
        require(0 <= self.seed < 2**32, "--seed", "a whole number from 0 to 2**32 - 1", self.seed)


def require(holds: bool, option: str, expected: str, got: object) -> None:
    if not holds:
        raise UsageError(f"{option}: expected {expected}, got {got}")


def of_run(options: Options | Study) -> dict[str, object]:
    """The options that a result hangs on, by name."""
    return {name: value for name, value in dataclasses.asdict(options).items() if name not in CALL}
