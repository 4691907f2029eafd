"""Learning curves: the history of a fit or of all folds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import figure, grid
from jaxbp.page.frame import Mark
from jaxbp.page.markup import Markup


PARTS = ("validation", "test", "train")  # what was held out comes first, and so has the first colour
_WIDE = 30.0  # a positive metric that spans more than this factor is drawn on a logarithmic axis


def curves(history: Mapping[str, Any], *, marks: Sequence[Mark] = ()) -> Markup | None:
    """A chart for each metric of `history`, training and validation together, every fold faint behind the mean.

    `history` maps "train_loss", "validation_loss", "train_accuracy", ... to arrays of shape (epochs,) or (folds, epochs);
    NaN stands where a fold had already stopped. A metric without a finite value is left out.
    """
    charts = []
    for metric, parts in _by_metric(history).items():
        if not any(np.isfinite(runs).any() for runs in parts.values()):
            continue
        charts.append(_chart(metric, parts, marks))
    return grid(*charts) if charts else None


def _chart(metric: str, parts: Mapping[str, np.ndarray], marks: Sequence[Mark]) -> Markup:
    runs = list(parts.values())
    log = _is_wide(runs)
    window = None if log else _late_range(runs)
    chart = line_chart(
        [_series(part, values) for part, values in parts.items()],
        title=f"{metric} by epoch",
        x_label="epoch",
        y_label=f"{metric}, logarithmic" if log else metric,
        log_y=log,
        y_range=window,
        marks=marks,
    )
    note = "The first epochs lie outside: the axis shows where the curves end." if window else None
    return figure(chart, title=metric.capitalize(), note=note)


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


def _series(part: str, runs: np.ndarray) -> Series:
    name = {"train": "training"}.get(part, part)
    if len(runs) == 1:
        return Series(name, runs[0].tolist())
    return Series(f"{name}, mean of {len(runs)} folds", mean(runs).tolist(), each=runs.tolist(), each_name="fold")


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
