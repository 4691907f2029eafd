"""What per-example gradients are good for: hard examples, wrong labels, batch sizes, clipping."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from typing import Annotated

import tyro

from experiments.config.options import Study, require


@dataclasses.dataclass(frozen=True)
class Use(Study):
    """What these studies share: images and a net that is trained on them by plain gradient descent."""

    data_dir: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """MNIST: folder with its four IDX files, or one that holds them in mnist/; by default scikit-learn's digits."""
    train_size: int | None = None
    """Train on so many images, drawn by the seed; by default four fifths of the digits, or 5,000 images of MNIST."""
    hidden: tuple[int, ...] = (64,)
    """Sizes of the hidden layers (relu)."""
    batch_size: int = 32
    """Examples in one update."""
    learning_rate: float = 0.5
    """Step size of plain gradient descent."""
    seeds: int = 3
    """So many runs, by seeds from --seed on; results are means over them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.train_size is None or self.train_size >= 20, "--train-size", "20 or more", self.train_size)
        require(all(size > 0 for size in self.hidden), "--hidden", "sizes above 0", self.hidden)
        require(self.batch_size > 1, "--batch-size", "2 or more", self.batch_size)
        require(0 < self.learning_rate < math.inf, "--learning-rate", "a number above 0", self.learning_rate)
        require(1 <= self.seeds <= 100, "--seeds", "1 to 100", self.seeds)


@dataclasses.dataclass(frozen=True)
class HardExamples(Use):
    """Images ranked by the norms of their gradients along training: easiest beside hardest, norm against loss, what to keep."""

    epochs: int = 20
    """Passes over the training images."""
    shown: int = 16
    """So many of the hardest and of the easiest images are shown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.epochs >= 2, "--epochs", "2 or more", self.epochs)
        require(1 <= self.shown <= 100, "--shown", "1 to 100", self.shown)


@dataclasses.dataclass(frozen=True)
class LabelNoise(Use):
    """Some labels are flipped; what finds them: loss, self-influence or the Gram matrix of gradients, along a run and after."""

    hidden: tuple[int, ...] = (128,)
    epochs: int = 100
    """Passes over the training images; enough for the net to learn wrong labels by heart."""
    flipped: float = 0.05
    """Share of the training labels that are flipped."""
    checkpoints: int = 20
    """At so many epochs, evenly spaced, the scores are taken."""
    seeds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.epochs >= 1, "--epochs", "1 or more", self.epochs)
        require(0 < self.flipped < 0.5, "--flipped", "a share above 0 and below 0.5", self.flipped)
        require(1 <= self.checkpoints <= self.epochs, "--checkpoints", f"1 to {self.epochs} (--epochs)", self.checkpoints)


@dataclasses.dataclass(frozen=True)
class NoiseScale(Use):
    """How many examples a step should average: the gradient's noise scale along a run, beside steps to a target loss."""

    batch_size: int = 64
    """Examples in one update of the run that is measured."""
    learning_rate: float = 0.8
    """Step size of that run; a second run has a quarter of it, and those to the target try eleven."""
    steps: int = 800
    """Updates of that run."""
    decay: float = 0.98
    """Of the moving averages of noise and signal."""
    target: float = 0.3
    """The mean training loss to be reached."""
    batch_sizes: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512)
    """Batch sizes whose steps to the target are counted."""
    most_steps: int = 4000
    """After so many updates a batch size is given up."""
    seeds: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.steps >= 10, "--steps", "10 or more", self.steps)
        require(0 <= self.decay < 1, "--decay", "a number from 0 to below 1", self.decay)
        require(0 < self.target < math.inf, "--target", "a loss above 0", self.target)
        sizes = self.batch_sizes
        fits = len(set(sizes)) >= 2 and all(1 <= size <= 4096 for size in sizes)
        require(fits, "--batch-sizes", "two different ones or more, from 1 to 4096", sizes)
        require(self.most_steps >= 100, "--most-steps", "100 or more", self.most_steps)


@dataclasses.dataclass(frozen=True)
class DpSgd(Use):
    """Clipped and noised gradient sums: accuracy against clip norm and noise; time against vmap(grad) and jax-privacy."""

    batch_size: int = 128
    """Expected examples of an update: each joins it by itself, with the same chance (Poisson sampling)."""
    learning_rate: float = 1.0
    """Step size for the noisy sum over clip norm times batch size, so that it does not hang on the clip norm."""
    epochs: int = 30
    """Updates that show every image so many times, in expectation."""
    clip_norms: tuple[float, ...] = (0.1, 0.3, 1.0, 3.0, 10.0)
    """Clip norms, each with every noise multiplier."""
    noise_multipliers: tuple[float, ...] = (0.0, 0.5, 1.0, 2.0, 4.0)
    """Standard deviation of the noise over the clip norm."""
    delta: float = 1e-4
    """The δ of (ε, δ)-privacy, for which ε is told where dp-accounting is installed."""
    pairs: int = 15
    """So many paired timings."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.epochs >= 1, "--epochs", "1 or more", self.epochs)
        positive = bool(self.clip_norms) and all(0 < c < math.inf for c in self.clip_norms)
        require(positive, "--clip-norms", "one number or more, above 0", self.clip_norms)
        noises = self.noise_multipliers
        require(bool(noises) and all(0 <= s < math.inf for s in noises), "--noise-multipliers", "numbers of 0 or more", noises)
        require(0 < self.delta < 1, "--delta", "a number above 0 and below 1", self.delta)
        require(self.pairs >= 1, "--pairs", "1 or more", self.pairs)


USES = {"hard-examples": HardExamples, "label-noise": LabelNoise, "noise-scale": NoiseScale, "dp-sgd": DpSgd}

MODULES = {name: f"uses.{name.replace('-', '_')}" for name in USES}
