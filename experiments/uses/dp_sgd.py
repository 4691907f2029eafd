"""DP-SGD: accuracy against clip norm and noise, what the clipping does to the gradients, and its time."""

from __future__ import annotations

import inspect
import math
import re
from typing import Any

import numpy as np

from experiments.config.uses import DpSgd
from experiments.uses import clipping_time, hand_over, shared
from experiments.uses.clipping_time import Timed
from experiments.uses.private import FACTORS, Trained, train
from experiments.uses.shared import Findings
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, code, figure, grid
from jaxbp.page.heat import heat_map
from jaxbp.page.rows import bars
from jaxbp.page.tables import Column, Table


def run(options: DpSgd) -> int:
    return shared.present("dp-sgd", options, study)


def study(options: DpSgd) -> Findings:
    data = shared.data(options, options.seed)
    found = train(options, data)
    middle = sorted(options.clip_norms)[len(options.clip_norms) // 2]
    times = clipping_time.measure(data, options.batch_size, middle, options.pairs, options.seed)
    grids = accuracy_table(options, found)
    timing = time_table(times, options, data)
    return Findings(
        "DP-SGD",
        lead(options, data, found, times),
        figures(options, found, times),
        [accuracies(options, found, grids), clipping(options, found), cost(times, timing), over(), meaning(options, found)],
        [grids, timing],
        summary(options, found, times),
        [] if found.finite else ["training turned non-finite; a smaller --learning-rate may help"],
    )


# --- how it is told


def best(options: DpSgd, found: Trained) -> list[tuple[float, float, np.ndarray]]:
    """For each noise the (noise, clip norm, accuracies) of the best clip norm."""
    at = found.accuracy.mean(2).argmax(0)
    return [(s, options.clip_norms[at[j]], found.accuracy[at[j], j]) for j, s in enumerate(options.noise_multipliers)]


def lead(options: DpSgd, data: shared.Data, found: Trained, times: list[Timed]) -> str:
    noise, clip_norm, accuracy = max(best(options, found), key=lambda one: one[0])
    ours, vmapped = (_quickest(times, name) for name in (clipping_time.OURS, clipping_time.VMAP))
    return (
        f"On {shared.named(data)}, {found.steps} steps: {100 * found.plain.mean():.1f} % without clipping or noise, "
        f"{100 * accuracy.mean():.1f} % with noise multiplier {noise:g} at the best clip norm, {clip_norm:g}. The clipped sum "
        f"takes {ours:.2f} times one gradient, vmap(grad) {vmapped:.0f} times with the weights stored the better way."
    )


def _quickest(times: list[Timed], name: str) -> float:
    one = clipping_time.quickest(times, name)
    return math.nan if one is None else one.ratio


def figures(options: DpSgd, found: Trained, times: list[Timed]) -> list[tuple]:
    noise, clip_norm, accuracy = max(best(options, found), key=lambda one: one[0])
    shown = [
        ("Plain accuracy", f"{100 * found.plain.mean():.1f} %", "no clipping, no noise"),
        ("With the most noise", f"{100 * accuracy.mean():.1f} %", f"σ = {noise:g}, best clip norm {clip_norm:g}"),
    ]
    for name in (clipping_time.OURS, clipping_time.VMAP, clipping_time.PRIVACY):
        one = clipping_time.quickest(times, name)
        if one is not None:
            shown.append((name, f"{one.ratio:.3g} ×", f"one gradient{one.name.removeprefix(name)}"))
    return shown


def accuracy_table(options: DpSgd, found: Trained) -> Table:
    rows = []
    for j, noise in enumerate(options.noise_multipliers):
        cells = [shared.plus_minus(100 * found.accuracy[i, j]) for i in range(len(options.clip_norms))]
        epsilon = None if found.epsilons is None else found.epsilons[j]
        rows.append((f"{noise:g}", epsilon if epsilon is None or math.isfinite(epsilon) else "∞", *cells))
    counted = "by dp-accounting" if found.epsilons is not None else "not counted: dp-accounting is not installed"
    note = (
        f"Test accuracy in %, mean ± standard deviation {shared.over_seeds(options)}; plain: "
        f"{shared.plus_minus(100 * found.plain)}. ε at δ = {options.delta:g}, {counted}, for one training; choosing the best of "
        f"several costs more. Rates: {', '.join(f'{options.learning_rate * f:g}' for f in FACTORS)}, the best by test accuracy."
    )
    columns = ["noise σ", "ε", *(f"C = {c:g}" for c in options.clip_norms)]
    return Table(columns, rows, title="Accuracy", note=note)


def accuracies(options: DpSgd, found: Trained, table: Table) -> Section:
    order = np.argsort(options.clip_norms)
    norms = np.array(options.clip_norms)[order].tolist()
    series = []
    for j, noise in enumerate(options.noise_multipliers[:6]):
        each = 100 * found.accuracy[order, j].T
        series.append(Series(f"σ = {noise:g}", each.mean(0).tolist(), norms, each.tolist() if len(each) > 1 else (), "seed"))
    chart = line_chart(series, title="Accuracy", x_label="clip norm C", y_label="test accuracy, %", log_x=True)
    mean = 100 * found.accuracy.mean(2)
    heat = heat_map(
        np.round(mean, 1).tolist(),
        rows=[f"{c:g}" for c in options.clip_norms],
        columns=[f"{s:g}" for s in options.noise_multipliers],
        title="Accuracy of each pair",
        row_label="clip norm C",
        column_label="noise σ",
    )
    lead = (
        "Batches are Poisson samples: each image joins each step by itself, padded to one size by weight 0. The step is the "
        "noisy sum over C and over the expected batch, so a small C does not mean small steps; each pair has the best of "
        f"{len(FACTORS)} rates. Noise by optax, the same draws for all C."
    )
    return Section("Accuracy", [grid(figure(chart, "Against the clip norm"), figure(heat, "Each pair")), table.to_html()], lead)


def clipping(options: DpSgd, found: Trained) -> Section:
    share = 100 * found.clipped.mean(2)
    rows = [(f"{c:g}", *share[i].tolist()) for i, c in enumerate(options.clip_norms)]
    columns = ["clip norm", *(Column(f"σ = {s:g}") for s in options.noise_multipliers)]
    table = Table(columns, rows, title="Gradients clipped, %", note="Mean over steps and seeds.")
    lead = "Where nearly all are clipped every image pulls with the same strength; where none are, noise is added for nothing."
    return Section("What is clipped", [table.to_html()], lead)


def time_table(times: list[Timed], options: DpSgd, data: shared.Data) -> Table:
    rows = [(t.name, t.ratio, 1e3 * float(np.median(t.seconds)), t.memory / 2**20, t.apart) for t in times]
    sizes = ", ".join(str(size) for size in (data.train.images.shape[1], *clipping_time.HIDDEN, shared.CLASSES))
    missing = "" if clipping_time.quickest(times, clipping_time.PRIVACY) else "jax-privacy is not installed. "
    note = (
        f"[{sizes}], a fixed batch of {options.batch_size}; medians of up to {options.pairs} paired ratios to one gradient. "
        f"Transposed: weights stored (out, in). By 8: microbatches. Apart: the sum from ours, relative. {missing}jax-privacy "
        "also puts 0 for a gradient that is not finite, which ours does not. More nets and idioms, with limits to hold: "
        "python -m experiments.bench.per_example."
    )
    columns = [
        "way",
        Column("times one gradient"),
        Column("time", "ms"),
        Column("temporary memory", "MiB"),
        Column("apart", digits=2),
    ]
    return Table(columns, rows, title="Time of one clipped sum", note=note)


def cost(times: list[Timed], table: Table) -> Section:
    shown = times[1:]
    chart = bars([t.name for t in shown], [t.ratio for t in shown], title="Times one gradient", width=620)
    lead = "Ours forms no gradient of an example: norms from the factors of one backward pass, one contraction of scaled errors."
    return Section("Time", [figure(chart, "Times one gradient"), table.to_html()], lead)


def over() -> Section:
    lead = "jaxbp clips and sums. Noise, calibration and account are a privacy library's; the sum is handed over like this."
    recipe = re.sub(r"  # pyright:.*", "", inspect.getsource(hand_over.to_jax_privacy))
    return Section("Handing over", [code(recipe.rstrip())], lead)


def meaning(options: DpSgd, found: Trained) -> Section:
    told = [f"C = {c:g} for σ = {s:g} ({100 * a.mean():.1f} %)" for s, c, a in best(options, found)]
    noise, _, accuracy = min(best(options, found), key=lambda one: one[0])
    points = f"{100 * (accuracy.mean() - found.plain.mean()):+.1f}".replace("-", "−")
    text = (
        f"Clipping alone, σ = {noise:g}, changes the accuracy by {points} points at its best clip norm. The best clip norms: "
        f"{', '.join(told)}."
    )
    caution = (
        "The noise of this study comes from JAX's generator in float32, and clip norm, rate and steps were chosen by looking at "
        "test accuracy: good for a study, no guarantee for real data."
    )
    return Section("What it means", [text, caution])


def summary(options: DpSgd, found: Trained, times: list[Timed]) -> dict[str, Any]:
    return {
        "steps": found.steps,
        "clip_norms": options.clip_norms,
        "noise_multipliers": options.noise_multipliers,
        "accuracy": found.accuracy.mean(2),
        "accuracy_plain": float(found.plain.mean()),
        "rates": found.rate,
        "clipped": found.clipped.mean(2),
        "epsilons": found.epsilons,
        "times": {
            t.name: {"ratio": t.ratio, "ms": 1e3 * float(np.median(t.seconds)), "memory": t.memory, "apart": t.apart}
            for t in times
        },
    }
