"""The classic texts, one experiment each, and one page on what is said of backpropagation and is not so."""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated

import tyro

from experiments.config.options import Study, require


@dataclasses.dataclass(frozen=True)
class Mazur(Study):
    """Mazur's step-by-step example: a 2-2-2 net, every number of the text, 10,000 updates; his printed errors explained."""


@dataclasses.dataclass(frozen=True)
class HanKamber(Study):
    """Han & Kamber's example: a 3-2-1 net, one tuple, case updating; every number of their tables."""

    updates: int = 200
    """Updates by the tuple, of which the text does one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.updates >= 1, "--updates", "1 or more", self.updates)


@dataclasses.dataclass(frozen=True)
class Brownlee(Study):
    """Brownlee's tutorial: forward, deltas, twenty epochs on ten rows; wheat seeds with the scaling leak and without it."""

    seed: int = 1
    """Seed of the wheat folds and weights; the tutorial has 1."""
    data_dir: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder that holds uci/wheat-seeds.csv; without it the wheat section is left out."""


@dataclasses.dataclass(frozen=True)
class Micrograd(Study):
    """Karpathy's micrograd: the expression of its README through jaxbp.graph, and the two-moons demo by hand-written backprop."""

    seed: int = 1337
    """Seed of the moons and the weights; the demo has 1337."""


@dataclasses.dataclass(frozen=True)
class HoursScore(Study):
    """Shamdasani's hours studied and slept to a test score: a 2-3-1 net; the arithmetic of his worked example put right."""


@dataclasses.dataclass(frozen=True)
class Xor(Study):
    """XOR on a 2-2-1 net: what the hidden units make of it, and how many starts end in a minimum that is only local."""

    starts: int = 64
    """How many random starts are trained side by side."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.starts >= 1, "--starts", "1 or more", self.starts)


@dataclasses.dataclass(frozen=True)
class Parity(Study):
    """4-bit parity on a 4-4-1 net: the hidden units can come to count the ones."""

    starts: int = 32
    """How many random starts are trained side by side; of those that solve it the one that comes closest to counting is shown."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.starts >= 1, "--starts", "1 or more", self.starts)


@dataclasses.dataclass(frozen=True)
class Symmetry(Study):
    """Mirror symmetry of six bits on two hidden units: weights equal and opposite, in the ratio 1 : 2 : 4."""

    starts: int = 20
    """How many random starts are trained side by side; the first that solves it is shown."""
    sweeps: int = 17_000
    """Passes through the 64 patterns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.starts >= 1, "--starts", "1 or more", self.starts)
        require(self.sweeps >= 1, "--sweeps", "1 or more", self.sweeps)


@dataclasses.dataclass(frozen=True)
class Encoder(Study):
    """The 8-3-8 encoder: three hidden units come to hold a code of eight patterns."""

    passes: int = 5000
    """Passes through the eight patterns."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.passes >= 1, "--passes", "1 or more", self.passes)


@dataclasses.dataclass(frozen=True)
class Misconceptions(Study):
    """Sentences about backpropagation that circulate and are wrong, each refuted by a run."""

    data_dir: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder that holds mnist/, or MNIST's four files themselves; without it, scikit-learn's digits stand in for MNIST."""


CLASSICS = {
    "mazur": Mazur,
    "han-kamber": HanKamber,
    "brownlee": Brownlee,
    "micrograd": Micrograd,
    "hours-score": HoursScore,
    "xor": Xor,
    "parity": Parity,
    "symmetry": Symmetry,
    "encoder": Encoder,
    "misconceptions": Misconceptions,
}
MODULES = {name: f"classics.{name.replace('-', '_')}" for name in CLASSICS}
