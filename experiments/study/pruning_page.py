"""The tables and the page of the study of pruning."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import published
from experiments.published import Number
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, document, figure, grid, key_figures
from jaxbp.page.rows import bars
from jaxbp.page.tables import Column, Table


def curve_table(shares: list[float], curves: dict[str, np.ndarray], again: dict[str, np.ndarray]) -> Table:
    columns = ["links left", *(Column(by, digits=4) for by in curves), *(Column(f"{by}, trained on", digits=4) for by in again)]
    rows = [
        (f"{100 * share:g} %", *(values[i] for values in curves.values()), *(values[i] for values in again.values()))
        for i, share in enumerate(shares)
    ]
    return Table(columns, rows)


def greedy_table(found: dict[str, Any]) -> Table:
    columns = ["order", "links left", "of", *(Column(c, digits=4) for c in ("before", "criterion", "test", "test, trained on"))]
    rows = [(by, g.remaining, g.links, g.before, g.criterion, g.test, g.retrained) for by, g in found.items()]
    return Table(
        columns, rows, note="before, criterion: accuracy on the criterion images, which decides; test: on images it never saw."
    )


def report(
    shares: list[float],
    result: Any,
    curves: dict[str, np.ndarray],
    again: dict[str, np.ndarray],
    found: dict[str, Any],
    numbers: list[Number],
) -> str:
    least_by, least = min(found.items(), key=lambda item: item[1].remaining)
    figures = [
        ("Accuracy of the whole net", f"{result.history['validation_accuracy'][-1]:.4f}", f"test images, {least.links:,} links"),
        ("Links left", f"{100 * least.remaining / least.links:.0f} %", f"greedy by {least_by}, criterion accuracy as before"),
        ("Trained on with these", f"{least.retrained:.4f}", "accuracy on the test images, the others exactly 0"),
    ]
    lines = lambda of: [Series(by, list(values), [100 * s for s in shares]) for by, values in of.items()]
    chart = lambda of, title: figure(
        line_chart(
            lines(of),
            title=title,
            x_label="% of the links left, logarithmic",
            y_label="test accuracy",
            log_x=True,
        ),
        title=title,
    )
    left = bars(list(found), [g.remaining for g in found.values()], title="Links left by greedy pruning")
    sections = [
        Section("Result", [key_figures(figures)]),
        Section(
            "Accuracy against remaining links",
            [
                grid(chart(curves, "Cut, nothing trained"), chart(again, "Cut, then trained on")),
                curve_table(shares, curves, again).to_html(),
            ],
            CURVES,
        ),
        Section("Greedy", [figure(left, title="Links left"), greedy_table(found).to_html()], GREEDY),
        Section("Checks", [published.table(numbers).to_html()]),
    ]
    return document("Pruning a trained net", sections, lead=LEAD, footer="Made by jaxbp; this file needs no other.")


LEAD = (
    "Most links of a trained net do little. Which of them can go, by what order, and what training on with the rest gives back."
)
CURVES = (
    "The links of the least score are set to 0 at once. magnitude: |w|. first-order: |w · gradient|, near 0 for every link of a "
    "net at its minimum. obd: half the curvature times w², the curvature being the exact Gauss-Newton diagonal; fisher: the same "
    "with the mean square of the examples' gradients. Trained on: ten more epochs with the mask, the whole net too."
)
GREEDY = (
    "A block of the least links is taken where the accuracy on the criterion images stays as it was; where it falls, half a "
    "block is tried, and links that cannot go are kept. Scores are asked again after every block."
)
