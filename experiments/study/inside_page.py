"""The page of the study of the inside of a net."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import published
from experiments.published import Number
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, document, figure, grid, key_figures
from jaxbp.page.heat import heat_map
from jaxbp.page.rows import bars


CHARTS = {  # measure: (title, logarithmic)
    "delta": ("Error ‖δ‖", True),
    "grad": ("Gradient", True),
    "update": ("Update / weights", True),
    "input": ("Input activation", False),
    "slope": ("Slope of the activation", False),
    "saturated": ("Saturated", False),
}


def report(
    results: dict[str, Any],
    depth: Any,
    prices: dict[str, float],
    numbers: list[Number],
    sensitive: dict[str, np.ndarray],
) -> str:
    good, large = results.values()
    share = lambda result, look: f"{100 * np.nanmean(result.diagnosis.saturated[look]):.0f} %"
    figures = [
        ("Accuracy, small weights", f"{good.history['validation_accuracy'][-1]:.4f}", "test images, last epoch"),
        (
            "Accuracy, large weights",
            f"{large.history['validation_accuracy'][-1]:.4f}",
            f"{share(large, 0)} of units saturated at the start",
        ),
        ("Price of looking", f"{prices['mini-batches']:.2f}×", f"of the training time; full batch {prices['full batch']:.2f}×"),
    ]
    drawn = bars(
        [f"layer {i + 1}" for i in range(len(depth.layers))], list(depth.delta[0]), title="Error by depth, before any training"
    )
    sections = [
        Section("Result", [key_figures(figures)]),
        *(Section(f"Weights from {name}", layers(result), START[name]) for name, result in results.items()),
        Section("Errors by depth", [figure(drawn, title="‖δ‖ of five layers as they are drawn")], DEPTH),
        Section("Sensitivity", pixels(sensitive), SENSITIVITY),
        Section("Numbers", [published.table(numbers, digits=4).to_html()]),
    ]
    return document("Inside a net that learns", sections, lead=LEAD, footer="Made by jaxbp; this file needs no other.")


def layers(result: Any) -> list[object]:
    """A chart for each measure, a line for each layer."""
    looks = result.diagnosis
    charts = []
    for measure, (title, log) in CHARTS.items():
        values = getattr(looks, measure)
        series = [
            Series(f"layer {i + 1}", list(values[:, i]), list(looks.epochs))
            for i in range(len(looks.layers))
            if np.isfinite(values[:, i]).any()
        ]
        drawn = line_chart(
            series,
            title=title,
            x_label="epochs done",
            y_label=measure,
            log_y=log,
            y_range=None if log or measure == "input" else (0, 1),
        )
        charts.append(figure(drawn, title=title))
    return [grid(*charts), looks.table(0).to_html(), looks.table().to_html()]


def pixels(sensitive: dict[str, np.ndarray]) -> list[object]:
    names = [str(i) for i in range(8)]
    limit = np.max(np.abs(sensitive["rates"]))
    maps = []
    for k in (0, 3, 4, 8):
        rates = sensitive["rates"][k]
        drawn = heat_map(
            np.round(100 * rates).tolist(),
            rows=names,
            columns=names,
            title=f"Sensitivity of {k}",
            row_label="row",
            column_label="column of the image",
            shade=(np.abs(rates) / limit).tolist(),
            hue=np.where(rates >= 0, 1, 2).tolist(),
        )
        maps.append(figure(drawn, title=f"100 · d logit {k} / d pixel, images of {k}"))
    row, column = sensitive["pixel"]
    best = np.argsort(-np.ptp(sensitive["probs"], axis=0))[:3]
    varied = line_chart(
        [Series(f"digit {k}", list(sensitive["probs"][:, k]), list(sensitive["grey"])) for k in sorted(best)],
        title="One pixel varied",
        x_label="grey of the pixel",
        y_label="probability",
        y_range=(0, 1),
    )
    return [
        grid(*maps),
        figure(varied, title=f"The least certain image, a {sensitive['label']}: its pixel in row {row}, column {column} varied"),
    ]


LEAD = (
    "The same net on the same images, from small weights and from large ones, looked at before the first update of every epoch: "
    "on that one mini-batch, how large the errors are that reach each layer, how fast its weights move, and how many of its "
    "units have stopped to answer."
)
START = {
    "N(0, 1/n)": "Standard deviation 1/√n, n inputs to a unit: z is about as large as 1, and the sigmoids answer.",
    "N(0, 1)": (
        "Standard deviation 1: z is spread over √n, many sigmoids stand near 0 or 1, and their slope lets little of the error "
        "through. The errors are larger all the same, because so are the weights that carry them back."
    ),
}
DEPTH = "Each sigmoid layer passes at most a quarter of the error on, so the layers next to the input learn slowest at the start."
SENSITIVITY = (
    "How the logit of a digit moves with each pixel, the mean over the test images of that digit, by the hand-written backward "
    "pass carried on to the input. Blue raises it, orange lowers it."
)
