"""What a cross-validation gave."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from jaxbp.page.tables import Column, Table, number
from jaxbp.validation.folds import Split


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CVResult:
    """Scores, curves and predictions of every fold. `str` is a table; `to_frame`, `to_json` and `to_dict` hand them on.

    Fields:
      scores: one entry a fold by name, "loss" and the metrics, of the held-out rows after the fold's epoch in `best_epochs`.
      histories: (folds, epochs) by name, as in `FitResult.history`; NaN after a fold has stopped.
      splits: the rows trained on and held out, one pair a fold.
      predictions: the outputs for every row in row order, by the net that did not see it: NaN for a row that no fold held
        out, the mean where several did. held_out: how many folds held out each row.
      epochs, stop_reasons: one entry a fold: epochs done, and why it ended. best_epochs: the epoch whose params the fold gives,
        the last but where a stopping rule keeps the best. stopped_on: None, or what the rules watched: "inner", a part of the
        fold's training rows, or "fold", the held-out rows themselves, which makes the scores optimistic.
      params, scale: with a leading fold axis. keys: with `fit(..., key=keys[i])` on the rows of split i, fold i again.
      stratified: whether the folds were drawn class by class. rare_class: the class with too few members for that, in words.
      seconds_compile, seconds_run: apart.
    """

    scores: dict[str, np.ndarray]
    histories: dict[str, np.ndarray]
    splits: tuple[Split, ...]
    predictions: Any
    held_out: np.ndarray
    epochs: np.ndarray
    best_epochs: np.ndarray
    stop_reasons: tuple[str, ...]
    stopped_on: str | None
    params: Any
    scale: Any
    keys: jax.Array
    stratified: bool
    seconds_compile: float
    seconds_run: float
    rare_class: str | None = None

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

    def interval(self, level: float = 0.95) -> dict[str, tuple[Any, Any]]:
        """mean -+ t s / sqrt(k) by name: Student's t-interval over the k folds, s the sample standard deviation, t the
        quantile (1 + level) / 2 with k - 1 degrees of freedom.

        Optimistic, which is to say too narrow: it takes the folds' scores for independent draws, but the nets that gave them
        share most of their training rows. There is no unbiased estimate of the variance of one k-fold run (Bengio &
        Grandvalet 2004); to tell whether two nets differ, use `compare`, which corrects for the overlap. (NaN, NaN) for one
        split and where a fold has no finite score; arrays for a score that is one.

        Raises: ValueError for a level that is not between 0 and 1.
        """
        half = student_quantile(level, len(self.splits) - 1) / math.sqrt(len(self.splits))
        mean, std = self.mean, self.std
        return {name: (mean[name] - half * std[name], mean[name] + half * std[name]) for name in mean}

    def table(self) -> Table:
        """One row a fold, mean and standard deviation at the foot; below it the interval, and why folds stopped."""
        names = [name for name, values in self.scores.items() if values.ndim == 1]
        names = sorted(names, key="loss".__eq__)  # what is differentiated stands last
        rows = [
            (i, *map(int, size), int(self.epochs[i]), *(float(self.scores[name][i]) for name in names))
            for i, size in enumerate(self.sizes)
        ]
        mean, std = self.mean, self.std
        foot = [("mean", None, None, None, *(mean[n] for n in names)), ("std", None, None, None, *(std[n] for n in names))]
        kind = "stratified folds" if self.stratified else "folds"
        kind += f", not stratified: {self.rare_class}" if self.rare_class else ""
        seconds = f"compiled in {self.seconds_compile:.2f} s, run in {self.seconds_run:.2f} s"
        columns = ["fold", "trained on", "held out", "epochs", *(Column(name, digits=4) for name in names)]
        note = "; ".join([seconds, *self._interval_note(names), *self._stop_notes()])
        return Table(columns, rows, f"{len(rows)} {kind}", note, foot)

    def _interval_note(self, names: Sequence[str]) -> list[str]:
        intervals = self.interval(0.95)
        shown = [
            f"{name} {number(low, 4)} to {number(high, 4)}"
            for name, (low, high) in ((name, intervals[name]) for name in names)
            if math.isfinite(low) and math.isfinite(high)
        ]
        if not shown:
            return []
        return [f"95 % t-interval over folds, too narrow since they share training rows: {', '.join(shown)}"]

    def _stop_notes(self) -> list[str]:
        """A note for every reason but that all epochs were run, with the folds it is of; their epochs stand in the table."""
        folds: dict[str, list[int]] = {}
        for i, reason in enumerate(self.stop_reasons):
            folds.setdefault(short_reason(reason), []).append(i)
        notes = [f"{numbered(found)}: {reason}" for reason, found in folds.items() if not reason.startswith("ran all")]
        if self.stopped_on == "fold":
            notes.append("the epochs were chosen on the held-out rows, so the scores are too good")
        return notes

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
            "interval_95": _plain(self.interval(0.95)),
            "sizes": self.sizes.tolist(),
            "epochs": self.epochs.tolist(),
            "best_epochs": self.best_epochs.tolist(),
            "stopped_on": self.stopped_on,
            "stop_reasons": list(self.stop_reasons),
            "stratified": self.stratified,
            "histories": _plain(self.histories),
            "train": [split.train.tolist() for split in self.splits],
            "validation": [split.validation.tolist() for split in self.splits],
            "predictions": _plain(self.predictions),
            "seconds_compile": self.seconds_compile,
            "seconds_run": self.seconds_run,
        }

    def to_json(self, path: str | os.PathLike | None = None) -> str:
        """`to_dict` as JSON text, also written to `path` where there is one. NaN and infinity are null."""
        text = json.dumps(self.to_dict(), allow_nan=False)
        if path is not None:
            pathlib.Path(path).write_text(text + "\n", encoding="utf-8")
        return text

    def to_frame(self) -> Any:
        """A pandas DataFrame of one row a fold, indexed by "fold": trained_on, held_out, epochs, best_epoch, stop_reason and
        the scores, of which an array has a column an entry, "name[0]" and so on.

        Raises: ImportError where pandas is not installed.
        """
        try:
            import pandas  # pyright: ignore[reportMissingImports]
        except ImportError as error:
            raise ImportError("CVResult.to_frame: needs pandas, which is not installed: pip install pandas") from error
        return pandas.DataFrame(self._columns(), index=pandas.RangeIndex(len(self.splits), name="fold"))

    def _columns(self) -> dict[str, Any]:
        columns = {
            "trained_on": self.sizes[:, 0],
            "held_out": self.sizes[:, 1],
            "epochs": self.epochs,
            "best_epoch": self.best_epochs,
            "stop_reason": list(self.stop_reasons),
        }
        for name, values in self.scores.items():
            name = f"{name} (score)" if name in columns else name
            entries = {"".join(f"[{j}]" for j in index): values[:, *index] for index in np.ndindex(values.shape[1:])}
            columns |= {name + index: np.asarray(column, np.float64) for index, column in entries.items()}
        return columns


def student_quantile(level: float, degrees: int) -> float:
    """t with P(|T| <= t) = level for Student's T with these degrees of freedom; NaN for none."""
    if isinstance(level, bool) or not isinstance(level, (int, float, np.number)) or not 0 < level < 1:
        raise ValueError(f"level: a number between 0 and 1 was expected, such as 0.95, got {level!r}")
    from scipy import special  # a dependency of JAX; a third of the time of importing scipy.stats

    return float(special.stdtrit(degrees, (1 + level) / 2)) if degrees > 0 else math.nan


def short_reason(reason: str) -> str:
    """Without the epoch, which differs from fold to fold, and without the leaf that was the first to be non-finite.

    >>> short_reason("epoch 12: no better for 5"), short_reason("non-finite after epoch 3: params.w is the first leaf")
    ('no better for 5', 'non-finite')
    """
    if reason.startswith("non-finite"):
        return "non-finite"
    return reason.partition(": ")[2] if reason.startswith("epoch ") else reason


def numbered(folds: Sequence[int]) -> str:
    """Few folds by number, many by their count.

    >>> numbered([3]), numbered([0, 1, 2]), numbered([0, 1, 2, 4, 5, 6, 7, 9])
    ('fold 3', 'folds 0, 1, 2', '8 folds, the first 0')
    """
    if len(folds) > 6:
        return f"{len(folds)} folds, the first {folds[0]}"
    return f"fold{'s' if len(folds) > 1 else ''} {', '.join(map(str, folds))}"


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
