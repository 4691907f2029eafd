"""Learning curves: the history of a fit or of all folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import figure, grid
from jaxbp.page.frame import Mark
from jaxbp.page.markup import Markup


PARTS = ("validation", "test", "train", "inner")  # what was held out comes first, and so has the first colour
NAMES = {"train": "training", "inner": "inner split"}
_WIDE = 30.0  # a positive metric that spans more than this factor is drawn on a logarithmic axis


def curves(history: Mapping[str, Any], *, marks: Sequence[Mark] = (), best: Any = (), stopped: Any = ()) -> Markup | None:
    """A chart for each metric of `history`, training and validation together, every fold faint behind the mean.

    `history` maps "train_loss", "validation_loss", "train_accuracy", ... to arrays of shape (epochs,) or (folds, epochs);
    NaN stands where a fold had already stopped. A metric without a finite value is left out. best, stopped: an epoch a fold,
    0 for none: whose params it gives, and after which a rule ended it.
    """
    charts = []
    for metric, parts in _by_metric(history).items():
        if not any(np.isfinite(runs).any() for runs in parts.values()):
            continue
        charts.append(_chart(metric, parts, marks, _checked(parts, best, "best"), _checked(parts, stopped, "stopped")))
    return grid(*charts) if charts else None


def _chart(metric: str, parts: Mapping[str, np.ndarray], marks: Sequence[Mark], best: np.ndarray, stopped: np.ndarray) -> Markup:
    runs = list(parts.values())
    log = _is_wide(runs)
    window = None if log else _late_range(runs)
    chart = line_chart(
        [*(_series(part, values, stopped) for part, values in parts.items()), *_points("best epoch of each fold", runs[0], best)],
        title=f"{metric} by epoch",
        x_label="epoch",
        y_label=f"{metric}, logarithmic" if log else metric,
        log_y=log,
        y_range=window,
        marks=[*marks, *_marks("best epoch", runs[0], best), *_marks("stopped", runs[0], stopped)],
    )
    notes = ["The first epochs lie outside: the axis shows where the curves end."] if window else []
    if np.any(stopped) and len(stopped) > 1:
        notes.append("In the mean a fold that has stopped keeps its last value.")
    return figure(chart, title=metric.capitalize(), note=" ".join(notes) or None)


def _checked(parts: Mapping[str, np.ndarray], epochs: Any, name: str) -> np.ndarray:
    """One epoch a fold, 0 where there is none."""
    folds, length = next(iter(parts.values())).shape
    found = np.zeros(folds, int) if np.size(epochs) == 0 else np.atleast_1d(np.asarray(epochs))
    if found.shape != (folds,) or np.any((found < 0) | (found > length)):
        raise ValueError(f"{name}: one epoch a fold, 0 to {length}, was expected of {folds}, got {found.tolist()}")
    return found


def _marks(name: str, runs: np.ndarray, epochs: np.ndarray) -> list[Mark]:
    """A line at the epoch, of several folds at their median; ringed on the curve of what was held out."""
    there = epochs[epochs > 0]
    if not there.size:
        return []
    middle = int(np.median(there))
    label = f"{name} {middle}" if there.min() == there.max() else f"{name}: median {middle}, {there.min()} to {there.max()}"
    return [Mark(middle, label, float(runs[0, middle - 1]) if len(runs) == 1 else None)]


def _points(name: str, runs: np.ndarray, epochs: np.ndarray) -> list[Series]:
    """The value of every fold at its epoch, each a dot."""
    there = [(epoch, runs[fold, epoch - 1]) for fold, epoch in enumerate(epochs.tolist()) if epoch > 0]
    if len(runs) == 1 or not there:
        return []
    values = [v for _, value in there for v in (value, np.nan)]  # between two gaps a point is a dot
    return [Series(name, values, x=[x for epoch, _ in there for x in (epoch, epoch)])]


def folds_in(history: Mapping[str, Any]) -> int:
    """The number of folds; 1 for the history of a single fit."""
    return max((np.shape(v)[0] for v in history.values() if np.ndim(v) == 2), default=1)


def _by_metric(history: Mapping[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """{"loss": {"validation": (folds, epochs), "train": ...}, ...}; a name without a part stands alone."""
    metrics: dict[str, dict[str, np.ndarray]] = {}
    for name, values in history.items():
        runs = np.asarray(values, dtype=np.float64)
        if runs.ndim not in (1, 2) or runs.size == 0:
            raise ValueError(f"history[{name!r}]: shape (epochs,) or (folds, epochs) was expected, got {list(runs.shape)}")
        part, _, metric = name.partition("_")
        key, part = (
            (metric.replace("_", " "), part) if part in PARTS and metric else (name.replace("_", " "), name.replace("_", " "))
        )
        metrics.setdefault(key, {})[part] = np.atleast_2d(runs)
    place = lambda part: PARTS.index(part) if part in PARTS else len(PARTS)
    in_order = sorted(metrics, key=lambda metric: metric != "loss")  # the loss first, the rest as they came
    return {metric: dict(sorted(metrics[metric].items(), key=lambda item: place(item[0]))) for metric in in_order}


def _series(part: str, runs: np.ndarray, stopped: np.ndarray) -> Series:
    name = NAMES.get(part, part)
    if len(runs) == 1:
        return Series(name, runs[0].tolist())
    return Series(f"{name}, mean of {len(runs)} folds", mean(_held(runs, stopped)).tolist(), each=runs.tolist(), each_name="fold")


def _held(runs: np.ndarray, stopped: np.ndarray) -> np.ndarray:
    """The folds with what they had when a rule stopped them in the place of the NaN after it: else the mean would jump."""
    after = (stopped[:, None] > 0) & (np.arange(1, runs.shape[1] + 1) > stopped[:, None])
    return np.where(after, runs[np.arange(len(runs)), np.maximum(stopped, 1) - 1][:, None], runs)


def mean(runs: np.ndarray) -> np.ndarray:
    """The mean over folds of what is finite; NaN where nothing is."""
    there = np.isfinite(runs)
    count = there.sum(axis=0)
    return np.where(count > 0, np.where(there, runs, 0.0).sum(axis=0) / np.maximum(count, 1), np.nan)


def _late_range(parts: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """The range after the first tenth of the epochs, if the rest would be squeezed into less than a third of the axis."""
    epochs = max(runs.shape[1] for runs in parts)
    everything = np.concatenate([runs[np.isfinite(runs)] for runs in parts])
    late = np.concatenate([(r := runs[:, max(epochs // 10, 1) :])[np.isfinite(r)] for runs in parts])
    if epochs < 10 or not late.size or np.ptp(late) == 0 or np.ptp(late) > np.ptp(everything) / 3:
        return None
    return float(late.min()), float(late.max())


def _is_wide(parts: Sequence[np.ndarray]) -> bool:
    values = np.concatenate([runs[np.isfinite(runs)] for runs in parts])
    return bool(values.size and values.min() > 0 and values.max() > _WIDE * values.min())
