"""All experiments, and their reports on one page.

An experiment says by a ClassVar `gallery` of its options with which arguments it is run here; none by default, and None leaves
it out. "{data}" in them stands for the folder of --data-dir, without which such an experiment is passed over.
"""

from __future__ import annotations

import dataclasses
import pathlib
from typing import Annotated, ClassVar

import tyro

from experiments.config.options import Study, require


@dataclasses.dataclass(frozen=True)
class All(Study):
    """Every experiment that needs no outside data, each in a process of its own, and one page that links their reports."""

    gallery: ClassVar[None] = None

    seed: tyro.conf.Suppress[int] = 0  # each experiment has its own
    only: tuple[str, ...] = ()
    """Run only the experiments of these names."""
    data_dir: Annotated[pathlib.Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder with mnist/, nielsen_fig/, uci/ ...: run those that need outside data too, and give it to those that can use it."""
    jobs: int = 2
    """How many experiments run at a time."""
    limit: float = 600.0
    """Seconds that one experiment may take; it is then ended, and counts as failed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.jobs >= 1, "--jobs", "1 or more", self.jobs)
        require(0 < self.limit < float("inf"), "--limit", "a number above 0", self.limit)
