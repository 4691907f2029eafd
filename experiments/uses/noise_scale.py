"""Noise scale: how many examples a step should average, estimated along a run, and the steps that batch sizes really take."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.config.uses import NoiseScale
from experiments.uses import shared
from experiments.uses.batch_sizes import LOOKED_AT, RATES, Followed, Reached, fitted, follow, steps_to_target
from experiments.uses.shared import Findings
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.frame import Mark
from jaxbp.page.tables import Column, Table, number


def run(options: NoiseScale) -> int:
    return shared.present("noise-scale", options, study)


def study(options: NoiseScale) -> Findings:
    data = shared.data(options, options.seed)
    net = shared.net(options, data.train)
    followed = [follow(options, net, data, rate) for rate in (options.learning_rate, options.learning_rate / 4)]
    reached = [steps_to_target(options, net, data, size) for size in sorted(set(options.batch_sizes))]
    fit = fitted(reached)
    table = steps_table(reached, followed[0].advice(options.target), fit, options)
    broken = [] if shared.finite(followed[0].loss) else ["training turned non-finite; a smaller --learning-rate may help"]
    if fit is None:
        broken.append(
            f"--target {options.target}: fewer than two batch sizes reached it within --most-steps {options.most_steps}"
        )
    return Findings(
        "Noise scale",
        lead(data, followed, fit, options),
        figures(followed, fit, options),
        [along(followed, options), counted(reached, followed[0], fit, table, options), meaning(followed, fit, options)],
        [along_table(followed[0]), table],
        summary(followed, reached, fit, options),
        broken,
    )


# --- how it is told


def lead(data: shared.Data, followed: list[Followed], fit: tuple[float, float] | None, options: NoiseScale) -> str:
    advice = followed[0].advice(options.target).mean()
    told = f"On {shared.named(data)} a run estimates a noise scale of {number(advice, 2)} when its loss is {options.target:g}"
    if fit is None:
        return f"{told}; too few batch sizes reached that loss to compare."
    return f"{told}; counting the steps of {len(options.batch_sizes)} batch sizes to that loss gives {number(fit[1], 2)}."


def figures(followed: list[Followed], fit: tuple[float, float] | None, options: NoiseScale) -> list[tuple]:
    target = f"at loss {options.target:g}, rate"
    first, slow = (f.advice(options.target) for f in followed)
    told = [("Noise scale", shared.plus_minus(first, 2), f"estimated {target} {followed[0].rate:g}")]
    if fit is not None:
        told.append(("Critical batch size", number(fit[1], 2), "fitted to the steps that batch sizes took"))
        told.append(("Least steps", number(fit[0], 2), f"to loss {options.target:g} by large batches, from the same fit"))
    at = followed[0].reaches(options.target)
    told.append(
        ("Whole training set", shared.plus_minus(followed[0].exact[:, at], 2), "noise scale from all images, same averages")
    )
    return [*told, ("At a quarter of the rate", shared.plus_minus(slow, 2), f"estimated {target} {followed[1].rate:g}")]


def _lines(followed: Followed, name: str, exact: bool = False) -> Series:
    """Mean over seeds, each seed a faint line, at the points."""
    each = followed.exact if exact else followed.scale[:, followed.at - 1]
    keep = followed.at >= 10  # an estimate of a few batches is mostly noise
    each = np.where((each > 0) & np.isfinite(each) & keep[None, :], each, np.nan)
    mean = np.where(np.isfinite(each).all(0), each.mean(0), np.nan)
    return Series(name, mean.tolist(), followed.at.tolist(), each.tolist() if len(each) > 1 else (), "seed")


def along(followed: list[Followed], options: NoiseScale) -> Section:
    main = followed[0]
    step = float(main.at[main.reaches(options.target)])
    reached = [Mark(step, f"loss {options.target:g}")] if main.loss.mean(0).min() <= options.target else []
    axes: dict[str, Any] = {"x_label": "step", "log_y": True}
    estimate = line_chart(
        [_lines(main, "estimate"), _lines(main, "whole training set", exact=True)],
        title="Noise scale", y_label="examples", marks=reached, **axes,
    )  # fmt: skip
    rates = [_lines(f, f"rate {f.rate:g}") for f in followed]
    by_rate = line_chart(rates, title="Two rates", y_label="noise scale, examples", **axes)
    losses = [Series(f"rate {f.rate:g}", f.loss.mean(0).tolist(), f.at.tolist(), f.loss.tolist(), "seed") for f in followed]
    loss = line_chart(losses, title="Loss", y_label="mean training loss", **axes)
    note = (
        "Thin lines are seeds. The norms of a step's examples come with its gradient; python -m experiments.bench.per_example "
        "prints what they cost."
    )
    lead = (
        "B = tr Σ / |G|², the variance of an example's gradient over the square of the mean one, both as moving averages. "
        "Batches are drawn with replacement, fixed in size. The noise scale grows as the loss falls: early on small batches are "
        "enough, later larger ones pay."
    )
    blocks = grid(
        figure(estimate, f"Estimate at rate {main.rate:g}", note),
        figure(by_rate, "The same at two rates"),
        figure(loss, "Loss"),
        along_table(main).to_html(),
    )
    return Section("Along a run", [blocks], lead)


def along_table(followed: Followed) -> Table:
    shown = np.unique(np.linspace(1, len(followed.at) - 1, 6).round().astype(int))
    rows = [
        (
            int(followed.at[k]),
            followed.loss[:, k].mean(),
            *(shared.plus_minus(v, 2) for v in (followed.scale[:, followed.at[k] - 1], followed.exact[:, k])),
        )
        for k in shown
    ]
    note = "Mean ± standard deviation over the seeds; whole: from all training images, by the same moving averages."
    return Table(["step", "loss", "estimate", "whole"], rows, title=f"Noise scale at rate {followed.rate:g}", note=note)


def steps_table(reached: list[Reached], advice: np.ndarray, fit: tuple[float, float] | None, options: NoiseScale) -> Table:
    rows = []
    for r in reached:
        there = np.isfinite(r.median)
        expected = None if fit is None else fit[0] * (1 + float(advice.mean()) / r.size)
        spread = shared.plus_minus(r.steps, 2) if np.isfinite(r.steps).all() else None
        rows.append((r.size, r.rate, r.median if there else None, spread, r.median * r.size if there else None, expected))
    columns = ["batch size", "best rate", "steps, median", "steps, mean", "examples", "steps by the estimate"]
    note = (
        f"To a mean loss of {options.target:g} on {LOOKED_AT} training images, the best of {len(RATES)} rates, "
        f"{shared.over_seeds(options)}. By the estimate: least steps × (1 + noise scale / batch size)."
    )
    return Table([Column(c) for c in columns], rows, title=f"Steps to loss {options.target:g}", note=note)


def counted(
    reached: list[Reached], followed: Followed, fit: tuple[float, float] | None, table: Table, options: NoiseScale
) -> Section:
    lead = "Small batches take more steps, large ones more examples; the noise scale is where both are twice their least."
    there = [r for r in reached if np.isfinite(r.median)]
    if fit is None:
        return Section("Steps to a target", [table.to_html()], lead)
    sizes = [float(r.size) for r in there]
    advice = float(followed.advice(options.target).mean())
    law = lambda critical: [fit[0] * (1 + critical / size) for size in sizes]
    each = np.array([r.steps for r in there]).T.tolist()
    series = [
        Series("counted", [r.median for r in there], sizes, each if len(each) > 1 else (), "seed"),
        Series(f"fit, {number(fit[1], 2)}", law(fit[1]), sizes),
        Series(f"estimate, {number(advice, 2)}", law(advice), sizes),
    ]
    log: dict[str, Any] = {"x_label": "batch size", "log_x": True, "log_y": True}
    steps = line_chart(series, title="Steps", y_label="steps to the target", marks=[Mark(advice, "noise scale")], **log)
    spent = [
        Series("counted", [r.median * r.size for r in there], sizes),
        Series("fit", [s * n for s, n in zip(law(fit[1]), sizes, strict=True)], sizes),
    ]
    examples = line_chart(spent, title="Examples", y_label="examples to the target", marks=[Mark(advice, "noise scale")], **log)
    return Section("Steps to a target", [grid(figure(steps, "Steps"), figure(examples, "Examples")), table.to_html()], lead)


def meaning(followed: list[Followed], fit: tuple[float, float] | None, options: NoiseScale) -> Section:
    main, slow = (float(f.advice(options.target).mean()) for f in followed)
    told = (
        f"The advice: about {number(main, 2)} examples a step on the way to a loss of {options.target:g}. "
        + (
            f"The steps say {number(fit[1], 2)}, a factor of {number(max(main / fit[1], fit[1] / main), 2)} apart. "
            if fit
            else ""
        )
        + "Much smaller batches waste steps, much larger ones examples."
    )
    rate = (
        f"The estimate hangs on how the run is made: at a quarter of the rate it is {number(slow, 2)} at the same loss. So the "
        "run to ask is one at a rate that is good for its batch size. The simple noise scale takes every direction as equally "
        "curved, which no net is: it tells the size to within a small factor, not to a digit."
    )
    return Section("What it means", [told, rate])


def summary(
    followed: list[Followed], reached: list[Reached], fit: tuple[float, float] | None, options: NoiseScale
) -> dict[str, Any]:
    return {
        "rates": [f.rate for f in followed],
        "advice": [f.advice(options.target) for f in followed],
        "whole": [f.exact[:, f.reaches(options.target)] for f in followed],
        "least_steps": None if fit is None else fit[0],
        "critical_batch_size": None if fit is None else fit[1],
        "steps": {r.size: {"rate": r.rate, "steps": r.steps} for r in reached},
    }
