"""Studies of gradients and of trained nets."""

from __future__ import annotations

import dataclasses

from experiments.config.options import Study, require


@dataclasses.dataclass(frozen=True)
class Routes(Study):
    """One gradient by every way: agreement, passes, time against the number of parameters, error against the step, paths."""

    seconds: float = 1.0
    """A way stops where one gradient would take longer than this."""
    parameters: int = 1_000_000
    """The largest net has about so many parameters; those before it 10, 100, 1,000 ..."""
    batch_size: int = 10
    """Examples in one gradient."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 < self.seconds < float("inf"), "--seconds", "a number above 0", self.seconds)
        require(10 <= self.parameters <= 10_000_000, "--parameters", "10 to 10000000", self.parameters)
        require(self.batch_size > 0, "--batch-size", "1 or more", self.batch_size)


@dataclasses.dataclass(frozen=True)
class Trained(Study):
    """What the studies of a net trained on the digits share."""

    hidden: tuple[int, ...] = (30, 30)
    """Sizes of the hidden layers."""
    epochs: int = 30
    """Passes over the training examples."""
    batch_size: int = 10
    """Examples in one update."""
    learning_rate: float = 0.5
    """Step size of plain gradient descent."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(bool(self.hidden) and all(size > 0 for size in self.hidden), "--hidden", "one size or more, above 0", self.hidden)
        require(self.epochs > 0, "--epochs", "1 or more", self.epochs)
        require(0 < self.batch_size <= 1000, "--batch-size", "1 to 1000", self.batch_size)
        require(0 < self.learning_rate < float("inf"), "--learning-rate", "a number above 0", self.learning_rate)


@dataclasses.dataclass(frozen=True)
class Inside(Trained):
    """Looking inside a net while it learns: errors, gradients, update ratios and saturation, layer by layer."""


@dataclasses.dataclass(frozen=True)
class Pruning(Trained):
    """Removing links of a trained net: accuracy against what remains, by several orders, and training on with what is left."""

    hidden: tuple[int, ...] = (30,)
    """Sizes of the hidden layers."""
