"""More data: validation accuracy against the number of training images, the same number of updates for each."""

from __future__ import annotations

import math

from experiments.config.nielsen import Nielsen, NielsenStudies
from experiments.nielsen import data
from experiments.nielsen.found import Found
from experiments.nielsen.page import command
from experiments.nielsen.published_files import curves_of
from experiments.nielsen.run import reproduce
from experiments.published import Number
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, code, figure
from jaxbp.page.tables import Column, Table


SIZES = (100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
IMAGES = 1_500_000  # seen in each training
LEAD = (
    "[784, 30, 10], cross-entropy, η 0.5, λ/n fixed at 0.0001, 150,000 updates each, large weights; one program trains all, so "
    "each net goes on with the random numbers that the ones before left."
)


def options_of(index: int) -> Nielsen:
    """The training with this size in the book's program."""
    epochs = [IMAGES // size for size in SIZES]
    return Nielsen(
        samples=SIZES[index], epochs=epochs[index], every=epochs[index], weight_decay=SIZES[index] * 0.0001, monitor="validation",
        earlier=tuple(f"{e}x{size}" for e, size in zip(epochs[:index], SIZES[:index], strict=True)),
    )  # fmt: skip


def study(options: NielsenStudies) -> Found:
    sets, published = data.load(options.data_dir), curves_of(options.data_dir, "more_data.json", len(SIZES))
    ours = []
    for i, size in enumerate(SIZES):
        result = reproduce(options_of(i), sets)
        ours.append(100 * result.history["test_accuracy"][-1] / result.evaluated)
        print(f"{size:>6} images: {ours[-1]:.2f} % of the validation images right, {result.seconds:.0f} s", flush=True)
    there = [one.last if one else None for one in published]
    numbers = [
        Number(f"{size} images: validation accuracy, %", cost, here, 1e-9, "more_data.json")
        for size, cost, here in zip(SIZES, there, ours, strict=True)
        if cost is not None
    ]
    rows = list(zip(SIZES, there, ours, strict=True))
    table = Table(["training images", Column("published", "%", 4), Column("here", "%", 4)], rows)
    x = [math.log10(size) for size in SIZES]
    series = [Series("published", [c for c in there if c is not None], x=x)] if None not in there else []
    series.append(Series("here", ours, x=x))
    title = "Validation accuracy by training size"
    chart = line_chart(series, title=title, x_label="log₁₀ of the number of training images", y_label="right, in percent")
    commands = code("\n".join(command(options_of(i)) for i in range(2)) + "\n...")
    section = Section("More data", [figure(chart, title=title), table.to_html(), commands], LEAD)
    return Found("sizes", section, numbers, {"images": SIZES, "validation_accuracy": ours}, table)
