"""Scores per fold and the confusion matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxbp.page.document import figure, grid
from jaxbp.page.frame import Mark
from jaxbp.page.heat import confusion_matrix
from jaxbp.page.markup import Markup
from jaxbp.page.rows import Dots, bars, dots
from jaxbp.page.tables import Column, Table, number


_HELD_OUT = "Every example once, in the fold where it was held out. "


def summary(scores: Any) -> tuple[float, float]:
    """Mean and standard deviation (divisor n - 1; NaN for a single score) over folds."""
    scores = np.asarray(scores, dtype=np.float64)
    return float(scores.mean()), float(scores.std(ddof=1)) if scores.size > 1 else float("nan")


def score_table(scores: Mapping[str, Any], sizes: Sequence[int] | None = None) -> Table:
    """A row for each fold, mean and standard deviation at the foot."""
    lists = {name: _checked(name, values) for name, values in scores.items()}
    n = {len(values) for values in lists.values()} | ({len(sizes)} if sizes is not None else set())
    if len(n) != 1:
        raise ValueError(f"scores: one entry a fold was expected of each, got { {name: len(v) for name, v in lists.items()} }")
    rows = [[f"fold {i}", *([sizes[i]] if sizes is not None else []), *(v[i] for v in lists.values())] for i in range(n.pop())]
    foot = [
        [name, *([None] if sizes is not None else []), *(summary(v)[k] for v in lists.values())]
        for k, name in enumerate(("mean", "standard deviation"))
    ]
    columns = ["fold", *(["validation examples"] if sizes is not None else []), *(Column(name, digits=4) for name in lists)]
    return Table(columns, rows, title="Scores per fold", foot=foot)


def score_dots(name: str, scores: Any) -> Markup | None:
    """Each fold on an axis that shows how far folds lie apart, the mean as a line, one standard deviation shaded.

    None where no score is finite.
    """
    values = _checked(name, scores)
    if not np.isfinite(values).any():
        return None
    center, deviation = summary(values)
    drawn = dots(
        [f"fold {i}" for i in range(len(values))],
        [Dots(name, values)],
        title=f"{name} of each fold",
        x_label=name,
        marks=[Mark(center, f"mean {number(center, 4)}")],
        band=(center - deviation, center + deviation) if np.isfinite(deviation) else None,
    )
    shaded = "Shaded: one standard deviation on either side of the mean. " if np.isfinite(deviation) else ""
    return figure(drawn, title=f"{name.capitalize()} of each fold", note=f"{shaded}The axis does not begin at 0.")


def confusion(counts: Any, names: Sequence[str] | None = None, *, held_out: bool = True) -> Markup:
    """The matrix, and beside it how many examples of each class were taken for another."""
    counts = np.asarray(counts, dtype=np.float64)
    if counts.ndim != 2 or counts.shape[0] != counts.shape[1] or not counts.size:
        raise ValueError(f"confusion: shape (classes, classes) was expected, got {list(counts.shape)}")
    names = [str(n) for n in names] if names is not None else [str(i) for i in range(len(counts))]
    totals, wrong = counts.sum(axis=1), counts.sum(axis=1) - np.diag(counts)
    share = [f"{name} ({number(int(t))} examples)" for name, t in zip(names, totals, strict=True)]
    return grid(
        figure(
            confusion_matrix(counts.tolist(), names),
            title="Confusion matrix",
            note=f"{_HELD_OUT if held_out else ''}Blue: right, by share of the class. Orange: errors.",
        ),
        figure(bars(share, wrong.tolist(), title="Errors by class", series=1), title="Errors by true class"),
    )


def _checked(name: str, values: Any) -> list[float]:
    scores = np.asarray(values, dtype=np.float64)
    if scores.ndim != 1 or not scores.size:
        raise ValueError(f"scores[{name!r}]: one entry a fold was expected, got shape {list(scores.shape)}")
    return scores.tolist()
