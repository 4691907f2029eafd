"""What a run shows on the terminal: headings, a progress bar, how it ended."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rich.console
import rich.progress

from experiments.results import renamed
from experiments.runs import RunFolder


def section(title: str, content: object) -> None:
    rich.console.Console(highlight=False).print(f"\n[bold]{title}[/bold]")
    print(content)


class Progress:
    """The `progress` of a training: moves the bar and writes the epoch's line (one a fold) to metrics.jsonl."""

    def __init__(self, epochs: int, folder: RunFolder, held_out: str = "validation"):
        self.epochs, self.folder, self.held_out = epochs, folder, held_out
        self.bar = rich.progress.Progress(
            "{task.description}",
            rich.progress.BarColumn(),
            "{task.completed}/{task.total} epochs",
            "{task.fields[score]}",
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
        )

    def __enter__(self) -> Progress:
        print(flush=True)
        self.bar.start()
        self.task = self.bar.add_task("compiling", total=self.epochs, score="")
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, epoch: int, info: Mapping[str, Any]) -> None:
        info = renamed(info, self.held_out)
        accuracy = info[f"{self.held_out}_accuracy"]
        if np.isfinite(info["train_loss"]).any():
            self.folder.log(lines(epoch, info))
            accuracy = f"{self.held_out} accuracy {np.nanmean(accuracy):.4f}"
        else:
            accuracy = "not finite"
        self.bar.update(self.task, completed=epoch, description="training", score=accuracy)


def lines(epoch: int, info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One record of an epoch, or one for each fold that still runs."""
    if np.ndim(info["train_loss"]) == 0:
        return [{"epoch": epoch, **info}]
    running = np.flatnonzero(np.isfinite(info["train_loss"]))
    return [{"fold": fold, "epoch": epoch, **{name: values[fold] for name, values in info.items()}} for fold in running]


def close(folder: RunFolder, broken: Sequence[str]) -> int:
    """Say where the report is and what went wrong; the exit status."""
    print(f"\nReport: {folder.path / 'report.html'}", flush=True)
    for problem in broken:
        print(f"error: {problem}", file=sys.stderr)
    if broken:
        print("a smaller --learning-rate may help", file=sys.stderr)
    return 1 if broken else 0
