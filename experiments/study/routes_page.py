"""The tables and the page of the study of routes."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments import published
from experiments.config import Routes
from experiments.published import Number
from experiments.study.route_costs import Cost
from jaxbp import routes
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, document, figure, grid, key_figures
from jaxbp.page.tables import Column, Table


STEPS = 10.0 ** np.arange(-15.0, 0.01, 0.5)


def cost_tables(costs: list[Cost]) -> list[Table]:
    """Time and compile time: a row for each way, a column for each net."""
    sizes = sorted({c.parameters for c in costs})
    columns = ["by", *(Column(f"P = {size:,}") for size in sizes)]
    of = {(c.by, c.parameters): c for c in costs}
    pick = lambda what: [(by, *(what(of[by, size]) for size in sizes)) for by in routes.WAYS]
    stopped = {by: c.why_not for by in routes.WAYS for c in costs if c.by == by and c.why_not}
    note = "; ".join(f"{by}: {why}" for by, why in stopped.items())
    return [
        Table(
            columns,
            pick(lambda c: c.seconds and 1e3 * c.seconds),
            title="Time of one gradient in ms",
            note=note and f"At {sizes[-1]:,}: {note}.",
        ),
        Table(columns, pick(lambda c: c.passes), title="Passes (paths: products)"),
        Table(columns, pick(lambda c: c.seconds_compile), title="Compile time in s"),
    ]


def valley_table(valley: dict[str, dict[str, np.ndarray]]) -> Table:
    rows = [
        (f"{by}, {dtype}", float(STEPS[np.nanargmin(errors)]), float(np.nanmin(errors)))
        for dtype, found in valley.items()
        for by, errors in found.items()
    ]
    return Table(["way", Column("best step"), Column("error there")], rows)


def loop_table(loops: dict[str, Any]) -> Table:
    columns = [
        "mini-batch",
        Column("matrices", "µs"),
        Column("compiled loop", "×"),
        Column("Python loop", "×"),
        "gradients apart",
    ]
    rows = [
        (int(n), 1e6 * found["seconds"], found["ratios"]["compiled loop"], found["ratios"]["Python loop"], found["apart"])
        for n, found in loops.items()
    ]
    return Table(
        columns, rows, note="[784, 30, 10] in float32. × : times as long as the matrix form, medians of 9 alternated runs."
    )


def report(options: Routes, agreement: dict, costs: list[Cost], valley: dict, paths: list[Number], loops: dict) -> str:
    ratio = loops[str(options.batch_size)]["ratios"]
    largest = max(c.parameters for c in costs if c.by == "autodiff")
    figures = [
        ("Parameters", largest, "of the largest net"),
        ("Backward pass there", told_ms(costs, "manual", largest), "by hand; the number of parameters costs nothing extra"),
        (
            "Example by example",
            f"{ratio['compiled loop']:.1f}×",
            f"as long as one matrix pass over {options.batch_size} examples",
        ),
        ("Paths of one weight", "9,000", "[784, 30, 30, 30, 10], all in one backward pass"),
    ]
    sections = [
        Section("Result", [key_figures(figures)]),
        Section("Agreement", [found.table().to_html() for found in agreement.values()], AGREEMENT),
        Section("Cost", [*cost_charts(costs), *(table.to_html() for table in cost_tables(costs))], COST),
        Section("The valley of differences", [grid(*map(valley_chart, valley.items())), valley_table(valley).to_html()], VALLEY),
        Section(
            "Paths", [published.table(paths, title="Paths from a weight of the first layer to the cost").to_html()], PATHS_TOLD
        ),
        Section("A mini-batch as matrices", [loop_table(loops).to_html()], LOOP),
    ]
    return document("Many ways to one gradient", sections, lead=LEAD, footer="Made by jaxbp; this file needs no other.")


def told_ms(costs: list[Cost], by: str, parameters: int) -> str:
    return next(f"{1e3 * c.seconds:.3g} ms" for c in costs if c.by == by and c.parameters == parameters and c.seconds)


def cost_charts(costs: list[Cost]) -> list[object]:
    chart = lambda what, title, label, ways: figure(
        line_chart(
            [
                Series(by, [v for _, v in points], [n for n, _ in points])
                for by in ways
                if len(points := [(c.parameters, v) for c in costs if c.by == by and (v := what(c))]) > 1
            ],
            title=title,
            x_label="parameters",
            y_label=label,
            log_x=True,
            log_y=True,
        ),
        title=title,
    )
    fast, slow = ("manual", "autodiff", "per-example"), ("forward", "one-sided", "central", "complex")
    seconds = lambda c: c.seconds and 1e3 * c.seconds
    return [
        grid(
            chart(seconds, "Time, differences and forward mode", "ms", ("manual", *slow)),
            chart(seconds, "Time, backward passes", "ms", fast),
            chart(lambda c: c.passes if c.by != "paths" else None, "Passes", "passes", ("manual", *slow, "per-example")),
            chart(lambda c: c.seconds_compile, "Compile time", "s", ("manual", "autodiff", *slow)),
        )
    ]


def valley_chart(item: tuple[str, dict[str, np.ndarray]]) -> object:
    dtype, found = item
    drawn = line_chart(
        [Series(by, list(errors), list(STEPS)) for by, errors in found.items()],
        title=f"Error against the step, {dtype}",
        x_label="step h",
        y_label="largest error of the gradient",
        log_x=True,
        log_y=True,
        y_range=(1e-17, 1e3),
    )
    return figure(drawn, title=f"In {dtype}")


LEAD = (
    "The derivative of a cost by every parameter of a net can be had in many ways. They give the same numbers; they do not take "
    "the same time, and some lose digits."
)
AGREEMENT = (
    "Errors are against jax.grad in float64. The complex step and forward mode are as exact as backpropagation; differences lose "
    "a third to a half of the digits."
)
COST = (
    "One backward pass gives all derivatives at once; forward mode, differences and the complex step need a pass for each "
    "parameter, so their time grows with the square of the net. A way stops where a gradient would take longer than the limit. "
    "Compile time depends on the way, hardly on the size."
)
VALLEY = (
    "A large step errs by the curve of the function (in proportion to h, or to its square for central differences), a small step "
    "by rounding (in proportion to 1/h). The complex step takes no difference, so it has no right slope to climb."
)
PATHS_TOLD = (
    "A change of one weight reaches the cost along every path through the layers after it; the derivative is the sum of the "
    "paths' products (Nielsen, equation 53). Backpropagation sums them all in one pass."
)
LOOP = (
    "The mean gradient of a mini-batch by one matrix product a layer, or example by example: the same update, not the same time."
)
