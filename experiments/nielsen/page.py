"""The page of a reproduced run: its curves beside the published ones, and how far apart they are."""

from __future__ import annotations

import dataclasses
import pathlib
import shlex
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.config.nielsen import WAYS, Nielsen
from experiments.nielsen import compare
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, code, document, facts, figure, grid, key_figures
from jaxbp.page.frame import Mark
from jaxbp.page.markup import Markup
from jaxbp.page.tables import number


if TYPE_CHECKING:
    from experiments.nielsen.compare import Difference, Published
    from experiments.nielsen.run import Result


FOOTER = "Made by jaxbp; this file needs no other. Published results: M. Nielsen, Neural Networks and Deep Learning, MIT licence."
DRAWN = (
    "The book's programs seed NumPy's legacy generator and Python 2's, draw a net with weights N(0, 1/n), draw it again with "
    "weights N(0, 1) where the large ones are asked for, and shuffle the list of images in place before each epoch. A second "
    "training of the same program finds both generators and the list as the first one left them: --earlier and --draws say so. "
    "Costs are those of the book: the mean over the evaluated set, and λ/(2 size) Σ w² with the size of that set."
)
GROWN = (
    "How a rounding grows: two computers add the 784 products of a neuron in different orders, so their last bits differ, and "
    "training amplifies the difference from epoch to epoch. It stays small where weight decay holds the weights; a large "
    "learning rate or no decay makes it as large as the cost itself within a few epochs, and no digit of the rest can come back."
)


def report(options: Nielsen, result: Result, published: Published | None, found: list[Difference]) -> str:
    sections = [
        Section("Result", [key_figures(headline(options, result, found))]),
        Section("Curves", [grid(*curves(options, result, published))], CURVES if published else None),
    ]
    if published:
        sections.append(Section("Beside the published file", beside(options, result, published, found), GROWN))
    sections += [
        Section("How it was drawn", [DRAWN]),
        Section("This run", [code(command(options)), facts(told(options))]),
    ]
    way = WAYS[options.gradient]
    lead = f"{options.epochs} epochs on {result.n} images by {way}, in {options.dtype}, from the seed {options.legacy_seed}."
    return document("Nielsen's published runs", sections, lead=lead, footer=FOOTER)


CURVES = "The published curve is the solid line, ours the dashed one on it. Epochs count from 0, as in the published files."


def headline(options: Nielsen, result: Result, found: list[Difference]) -> list[Any]:
    accuracy = result.history["test_accuracy"]
    best = int(np.argmax(accuracy))
    figures: list[Any] = [
        (
            f"Best {options.monitor} accuracy",
            f"{100 * accuracy[best] / result.evaluated:.2f} %",
            f"epoch {(best + 1) * options.every - 1}, counted from 0",
        ),
        (f"Last {options.monitor} accuracy", f"{100 * accuracy[-1] / result.evaluated:.2f} %", f"{accuracy[-1]} images right"),
        ("Time", f"{result.seconds:.1f} s", "compilation included"),
    ]
    if found:
        missed, compared = sum(d.missed for d in found), sum(d.epochs for d in found)
        said = "all as published" if not missed else "see the first difference below"
        figures.insert(0, ("Published numbers met", f"{compared - missed} of {compared}", said))
    return figures


def curves(options: Nielsen, result: Result, published: Published | None) -> list[Markup]:
    """A chart for each of the four curves; a published accuracy at the end alone is a mark."""
    charts = []
    for curve, ours in result.history.items():
        where = options.monitor if curve.startswith("test") else "training"
        is_cost = curve.endswith("cost")
        size = result.evaluated if curve.startswith("test") else result.n
        scale = 1.0 if is_cost else 100 / size
        there = published.curves.get(curve, []) if published else []
        looks = [(i + 1) * options.every - 1 for i in range(len(ours))]
        series = [Series("published", [scale * v for v in there], x=range(len(there)))] if there else []
        series.append(Series("here", [scale * v for v in ours], x=looks))
        title = f"{'Cost' if is_cost else 'Accuracy'} on the {where} data"
        chart = line_chart(series, title=title, x_label="epoch", y_label="cost" if is_cost else "right, in percent")
        charts.append(figure(chart, title=title))
    return charts


def beside(options: Nielsen, result: Result, published: Published, found: list[Difference]) -> list[object]:
    """The table, the first differences in words, and the distance of the costs from epoch to epoch."""
    blocks: list[object] = [compare.table(found).to_html()]
    blocks += [f"First difference. {d.told}." for d in found if d.told]
    series = []
    for curve, there in published.curves.items():
        pairs = zip(result.history[curve], there[options.every - 1 :: options.every], strict=False)
        off = [abs(here - published) for here, published in pairs]
        if curve.endswith("cost") and any(off):
            looks = [(i + 1) * options.every - 1 for i in range(len(off))]
            series.append(Series(curve.replace("_", " "), off, x=looks))
    if series:
        allowed = next(d.allowed for d in found if d.curve.endswith("cost"))
        first = min((d.first[0] for d in found if d.first), default=None)
        marks = [Mark(first, f"first difference, epoch {first}")] if first is not None else []
        title, note = "Distance from the published costs", f"Allowed: {number(allowed)}. Gaps: equal to the last bit."
        chart = line_chart(series, title=title, x_label="epoch", y_label="|here − published|", log_y=True, marks=marks)
        blocks.append(figure(chart, title=title, note=note))
    return blocks


def told(options: Nielsen) -> dict[str, Any]:
    values = {f.name: getattr(options, f.name) for f in dataclasses.fields(options) if f.name not in ("out", "seed")}
    return {name: value.name if isinstance(value, pathlib.Path) else value for name, value in values.items()}


def command(options: Nielsen) -> str:
    """The command line that makes this run, data and files by their last names."""
    words = ["python -m experiments nielsen"]
    for field in dataclasses.fields(Nielsen):
        value = getattr(options, field.name)
        if field.name in ("out", "seed") or value == field.default:
            continue
        values = value if isinstance(value, tuple) else (value.name if isinstance(value, pathlib.Path) else value,)
        words.append(f"--{field.name.replace('_', '-')} {' '.join(shlex.quote(str(v)) for v in values)}")
    return " ".join(words)
