"""The report of a run."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxbp.page.diagram import Units, draw_net
from jaxbp.page.document import Section, code, document, facts, figure, grid, key_figures
from jaxbp.page.frame import Mark
from jaxbp.page.tables import number
from jaxbp.report.curves import curves, folds_in
from jaxbp.report.gradients import gradient_dots, gradient_figures, gradient_table
from jaxbp.report.scores import confusion as confusion_blocks
from jaxbp.report.scores import score_dots, score_table, summary


def run_report(
    title: str,
    *,
    lead: str | None = None,
    figures: Sequence[tuple] = (),
    history: Mapping[str, Any] | None = None,
    marks: Sequence[Mark] = (),
    best: Any = (),
    stopped: Any = (),
    scores: Mapping[str, Any] | None = None,
    fold_sizes: Sequence[int] | None = None,
    confusion: Any = None,
    class_names: Sequence[str] | None = None,
    comparison: Mapping[str, Any] | None = None,
    columns: Sequence[Units] = (),
    net: str | None = None,
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, Any] | None = None,
    when: datetime.datetime | None = None,
) -> str:
    """The run as one HTML page. Everything but the title may be missing; what is missing has no section.

    Args:
      title, lead: the heading and the sentence below it.
      figures: further key figures, (label, value, note) each; those of scores and comparison come by themselves.
      history: "train_loss", "validation_loss", "train_accuracy", ... -> (epochs,) or (folds, epochs).
      marks: labelled epochs on the learning curves. best, stopped: an epoch a fold, 0 for none: whose params it gives, and
        after which a stopping rule ended it.
      scores: metric -> one entry a fold. fold_sizes: the validation examples of each.
      confusion: counts (classes, classes), the true class downwards; class_names: one a class.
      comparison: `GradientComparison.to_dict()`.
      columns: the drawing of the net (`net_columns`); net: the code that builds it (`repr`).
      config, environment: names to values, mappings inside are opened.
      when: the time of the run, for the last line.

    Raises: ValueError where an array has another shape than this says.
    """
    folds = max((np.size(v) for v in (scores or {}).values()), default=1)
    sections = [
        _result(figures, scores, comparison),
        _curves(history, marks, best, stopped),
        _scores(scores, fold_sizes),
        _confusion(confusion, class_names, folds),
        _gradients(comparison),
        _net(columns, net),
        _facts("Configuration", config),
        _facts("Environment", environment),
    ]
    made = f"Run on {when:%Y-%m-%d at %H:%M}. " if when else ""
    return document(
        title, [s for s in sections if s is not None], lead=lead, footer=f"{made}Made by jaxbp; this file needs no other."
    )


def _result(figures: Sequence[tuple], scores: Mapping[str, Any] | None, comparison: Mapping[str, Any] | None) -> Section | None:
    shown: list[tuple] = []
    for name, values in (scores or {}).items():
        center, deviation = summary(values)
        n = np.size(values)
        note = f"± {number(deviation, 2)} over {n} folds (standard deviation)" if n > 1 else ""
        shown.append((name.capitalize(), number(center, 4), note))
    shown += gradient_figures(comparison) if comparison else []
    shown += figures
    return Section("Result", [key_figures(shown)]) if shown else None


def _curves(history: Mapping[str, Any] | None, marks: Sequence[Mark], best: Any, stopped: Any) -> Section | None:
    charts = curves(history, marks=marks, best=best, stopped=stopped) if history else None
    if charts is None:
        return None
    lead = "Every fold is a thin line behind the mean." if folds_in(history or {}) > 1 else None
    return Section("Learning curves", [charts], lead)


def _scores(scores: Mapping[str, Any] | None, sizes: Sequence[int] | None) -> Section | None:
    if not scores or max(map(np.size, scores.values())) < 2:  # a single score stands among the results
        return None
    first = next(iter(scores))
    return Section("Scores", [grid(score_dots(first, scores[first]), score_table(scores, sizes).to_html())])


def _confusion(counts: Any, names: Sequence[str] | None, folds: int) -> Section | None:
    return None if counts is None else Section("Errors", [confusion_blocks(counts, names, held_out=folds > 1)])


def _gradients(comparison: Mapping[str, Any] | None) -> Section | None:
    if not comparison:
        return None
    blocks = [gradient_dots(comparison), gradient_table(comparison).to_html()]
    return Section(
        "Gradient", [b for b in blocks if b is not None], "The same derivative by hand and by automatic differentiation."
    )


def _net(columns: Sequence[Units], source: str | None) -> Section | None:
    blocks: list[object] = [figure(draw_net(columns))] if columns else []
    if source:
        blocks.append(code(source))
    return Section("Net", blocks) if blocks else None


def _facts(title: str, values: Mapping[str, Any] | None) -> Section | None:
    return Section(title, [facts(values)]) if values else None
