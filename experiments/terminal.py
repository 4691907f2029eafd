"""What a run shows on the terminal: headings, a progress bar, how it ended."""

from __future__ import annotations

import pathlib
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rich.console
import rich.progress

from experiments.config import Options
from experiments.results import renamed
from experiments.runs import RunFolder, plain
from jaxbp.training.keeping import Keeping


def section(title: str, content: object) -> None:
    rich.console.Console(highlight=False).print(f"\n[bold]{title}[/bold]")
    print(content)


class Progress:
    """The `progress` of a training: moves the bar and writes the epoch's line (one a fold) to metrics.jsonl.

    Of several processes only the first has a `folder`; the progress of the others does nothing.
    """

    def __init__(self, epochs: int, folder: RunFolder | None, held_out: str = "validation", score: str = "accuracy"):
        self.folder, self.held_out, self.score = folder, held_out, score
        self.log = folder and folder.log_anew  # the first lines take the place of what a run without a checkpoint left
        self.bar = rich.progress.Progress(
            "{task.description}",
            rich.progress.BarColumn(),
            "{task.completed}/{task.total} epochs",
            "{task.fields[score]}",
            rich.progress.TimeElapsedColumn(),
            rich.progress.TimeRemainingColumn(),
        )
        self.task = self.bar.add_task("compiling", total=epochs, score="")

    def __enter__(self) -> Progress:
        if self.folder is not None:
            print(flush=True)
            self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.folder is not None:
            self.bar.stop()

    def __call__(self, epoch: int, info: Mapping[str, Any]) -> None:
        if self.folder is None or self.log is None:
            return
        info = renamed(info, self.held_out)
        said = "not finite"
        if np.isfinite(info["train_loss"]).any():
            log, self.log = self.log, self.folder.log
            log(lines(epoch, info))
            score = np.asarray(info[f"{self.held_out}_{self.score}"])
            score = score[np.isfinite(score)]
            said = f"{self.held_out} {self.score} {np.mean(score):.4f}" if score.size else ""
        self.bar.update(self.task, completed=epoch, description="training", score=said)

    def keeping(self, options: Options, facts: Mapping[str, Any], stopped: Any) -> Keeping:
        """The checkpoints of this training. stopped: becomes true when it is to end after its epoch."""
        path = pathlib.Path() if self.folder is None else self.folder.checkpoints
        return Keeping(path, plain(facts), options.resume is not None, stopped, log=self.say, went_on=self.went_on)

    def went_on(self, done: int, history: Mapping[str, Any]) -> None:
        """The lines of the epochs before, as a checkpoint has them."""
        if self.folder is None:
            return
        each = [renamed({name: values[i] for name, values in history.items()}, self.held_out) for i in range(done)]
        finite = [(i, info) for i, info in enumerate(each, 1) if np.isfinite(info["train_loss"]).any()]
        self.log = self.folder.log
        self.folder.log_anew(line for i, info in finite for line in lines(i, info))
        self.bar.update(self.task, completed=done)

    def say(self, text: str) -> None:
        self.bar.console.print(text, markup=False, highlight=False, soft_wrap=True)


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
