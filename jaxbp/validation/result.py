"""What a cross-validation gave."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import jax
import numpy as np

from jaxbp.page.tables import Column, Table
from jaxbp.validation.folds import Split


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CVResult:
    """Scores, curves and predictions of every fold. `str` is a table, `to_dict` plain numbers for JSON.

    Fields:
      scores: one entry a fold by name, "loss" and the metrics, of the held-out rows after the fold's last epoch.
      histories: (folds, epochs) by name, as in `FitResult.history`; NaN after a fold has stopped.
      splits: the rows trained on and held out, one pair a fold.
      predictions: the outputs for every row in row order, by the net that did not see it: NaN for a row that no fold held
        out, the mean where several did. held_out: how many folds held out each row.
      epochs, stop_reasons: one entry a fold.
      params, scale: with a leading fold axis. keys: with `fit(..., key=keys[i])` on the rows of split i, fold i again.
      stratified: whether the folds were drawn class by class.
      seconds_compile, seconds_run: apart.
    """

    scores: dict[str, np.ndarray]
    histories: dict[str, np.ndarray]
    splits: tuple[Split, ...]
    predictions: Any
    held_out: np.ndarray
    epochs: np.ndarray
    stop_reasons: tuple[str, ...]
    params: Any
    scale: Any
    keys: jax.Array
    stratified: bool
    seconds_compile: float
    seconds_run: float

    @property
    def sizes(self) -> np.ndarray:
        """(folds, 2): how many rows each fold trained on and held out."""
        return np.array([(len(split.train), len(split.validation)) for split in self.splits])

    @property
    def mean(self) -> dict[str, Any]:
        """The mean of the folds' scores by name."""
        return {name: _number(np.mean(values, axis=0, dtype=np.float64)) for name, values in self.scores.items()}

    @property
    def std(self) -> dict[str, Any]:
        """The sample standard deviation (divisor folds - 1) of the scores by name; NaN for one split."""
        if len(self.splits) == 1:
            return {name: _number(np.full(values.shape[1:], np.nan)) for name, values in self.scores.items()}
        return {name: _number(np.std(values, axis=0, ddof=1, dtype=np.float64)) for name, values in self.scores.items()}

    def table(self) -> Table:
        """One row a fold, mean and standard deviation at the foot."""
        names = [name for name, values in self.scores.items() if values.ndim == 1]
        names = sorted(names, key="loss".__eq__)  # what is differentiated stands last
        rows = [
            (i, *map(int, size), int(self.epochs[i]), *(float(self.scores[name][i]) for name in names))
            for i, size in enumerate(self.sizes)
        ]
        mean, std = self.mean, self.std
        foot = [("mean", None, None, None, *(mean[n] for n in names)), ("std", None, None, None, *(std[n] for n in names))]
        kind = "stratified folds" if self.stratified else "folds"
        broken = [f"fold {i}: {why}" for i, why in enumerate(self.stop_reasons) if why.startswith("non-finite")]
        seconds = f"compiled in {self.seconds_compile:.2f} s, run in {self.seconds_run:.2f} s"
        columns = ["fold", "trained on", "held out", "epochs", *(Column(name, digits=4) for name in names)]
        return Table(columns, rows, f"{len(rows)} {kind}", "; ".join([seconds, *broken]), foot)

    def __str__(self) -> str:
        return str(self.table())

    def __repr__(self) -> str:
        mean = ", ".join(f"{name} {value:.4g}" for name, value in self.mean.items() if isinstance(value, float))
        return f"<CVResult of {len(self.splits)} folds: {mean}>"

    def to_dict(self) -> dict[str, Any]:
        """All but params, scale and keys as plain Python values; NaN and infinity become None, which JSON can hold."""
        return {
            "scores": _plain(self.scores),
            "mean": _plain(self.mean),
            "std": _plain(self.std),
            "sizes": self.sizes.tolist(),
            "epochs": self.epochs.tolist(),
            "stop_reasons": list(self.stop_reasons),
            "stratified": self.stratified,
            "histories": _plain(self.histories),
            "train": [split.train.tolist() for split in self.splits],
            "validation": [split.validation.tolist() for split in self.splits],
            "predictions": _plain(self.predictions),
            "seconds_compile": self.seconds_compile,
            "seconds_run": self.seconds_run,
        }


def _number(value: Any) -> Any:
    return float(value) if np.ndim(value) == 0 else value


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(v) for name, v in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
