"""Label noise: some labels are flipped, a net learns them, and scores of its gradients or of its losses find them."""

from __future__ import annotations

from typing import Any

import numpy as np

from experiments.config.uses import LabelNoise
from experiments.uses import shared
from experiments.uses.pictures import pictures
from experiments.uses.planting import SCORES, Found, average_precision, checkpoints, compared, find, precision_recall, precisions
from experiments.uses.shared import Findings
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.markup import Markup
from jaxbp.page.tables import Table


RECALLS = np.linspace(0.02, 1.0, 50)


def run(options: LabelNoise) -> int:
    return shared.present("label-noise", options, study)


def study(options: LabelNoise) -> Findings:
    found = [find(options, seed) for seed in range(options.seed, options.seed + options.seeds)]
    numbers = {when: precisions(found, when) for when in ("along", "last")}
    chance = float(np.mean([f.planted.flipped.mean() for f in found]))
    tables = [score_table(numbers, chance, options), accuracy_table(found, options)]
    return Findings(
        "Label noise",
        lead(found, numbers, chance),
        figures(numbers, chance, found),
        [curves(found, chance), by_epoch(options, found), gallery(found[0]), worth(tables[1], found), means(tables[0], numbers)],
        tables,
        summary(found, numbers, chance),
        []
        if all(shared.finite(f.scores["loss"]) for f in found)
        else ["training turned non-finite; try a smaller --learning-rate"],
    )


# --- how it is told


def lead(found: list[Found], numbers: dict[str, dict[str, np.ndarray]], chance: float) -> str:
    flips = int(found[0].planted.flipped.sum())
    along, last = ({name: values.mean() for name, values in numbers[when].items()} for when in ("along", "last"))
    return (
        f"{flips} of {shared.named(found[0].planted.data)} have a wrong label. Watched along the run the loss alone finds them "
        f"with average precision {along['loss']:.3f} (self-influence {along['self-influence']:.3f}, Gram {along['Gram']:.3f}, "
        f"chance {chance:.2f}); from the trained net alone the loss gives {last['loss']:.3f}, the Gram matrix {last['Gram']:.3f}."
    )


def figures(numbers: dict[str, dict[str, np.ndarray]], chance: float, found: list[Found]) -> list[tuple]:
    told = {"along": "average precision, summed along the run", "last": "average precision, from the trained net alone"}
    cells = [
        (f"{name[0].upper()}{name[1:]}", f"{numbers[when][name].mean():.3f}", told[when])
        for when in ("along", "last")
        for name in SCORES
    ]
    fitted = float(np.mean([f.fitted for f in found]))
    return [
        *cells,
        ("Chance", f"{chance:.3f}", "the share of wrong labels"),
        ("Fitted", f"{fitted:.1%}", "of the given labels, in the end"),
    ]


def _curve(found: list[Found], score: Any, name: str) -> Series:
    """Mean precision at each recall, one faint line a seed."""
    each = []
    for f in found:
        precision, recall = precision_recall(f.planted.flipped, score(f))
        best = np.maximum.accumulate(precision[::-1])[::-1]  # the usual envelope: the best at this recall or beyond
        each.append(best[np.searchsorted(recall, RECALLS - 1e-9)].tolist())
    return Series(name, np.mean(each, 0).tolist(), RECALLS.tolist(), each if len(each) > 1 else (), "seed")


def curves(found: list[Found], chance: float) -> Section:
    charts = []
    for title, of in (("Summed along the run", Found.along), ("From the trained net alone", Found.last)):
        series = [_curve(found, lambda f, name=name, of=of: of(f, name), name) for name in SCORES]
        series.append(Series("at random", [chance] * len(RECALLS), RECALLS.tolist()))
        chart = line_chart(series, title=title, x_label="recall", y_label="precision", y_range=(0.0, 1.02))
        charts.append(figure(chart, title))
    lead = (
        "The most suspect first: the share of them that is wrong, against the share of all wrong ones that is found. Thin lines "
        "are seeds."
    )
    return Section("Precision and recall", [grid(*charts)], lead)


def by_epoch(options: LabelNoise, found: list[Found]) -> Section:
    at = [i + 1.0 for i in checkpoints(options)]
    series = []
    for name in SCORES:
        each = [[average_precision(f.planted.flipped, row) for row in f.scores[name]] for f in found]
        series.append(Series(name, np.mean(each, 0).tolist(), at, each if len(each) > 1 else (), "seed"))
    chart = line_chart(series, title="One checkpoint alone", x_label="epoch", y_label="average precision", y_range=(0.0, 1.02))
    lead = (
        "What a single checkpoint tells. Once the net has learnt wrong labels by heart their loss is that of the others; which "
        "way they pull still differs."
    )
    return Section("One checkpoint alone", [figure(chart)], lead)


def _pictures(found: Found, rows: np.ndarray, title: str) -> Markup:
    train, given = found.planted.data.train, found.planted.given
    truth = lambda i: f"in truth {train.labels[i]}" if found.planted.flipped[i] else "not flipped"
    captions = [[f"given {given[i]}", truth(i), f"read as {found.predicted[i]}"] for i in rows]
    return figure(pictures(train.images[rows], train.shape, captions, title=title), title)


def gallery(found: Found) -> Section:
    order = np.argsort(-found.last("Gram"), kind="stable")
    wrong = found.planted.flipped[order]
    found_ones, alarms = order[wrong][:8], order[~wrong][:8]
    blocks = grid(_pictures(found, found_ones, "Wrong labels found"), _pictures(found, alarms, "False alarms"))
    missed = order[wrong][-4:]
    lead = (
        "By the Gram score of the trained net, first seed, the most suspect first. False alarms are mostly images that a person "
        "would look at twice; so a list like this is for a person to go through."
    )
    return Section("What is found", [blocks, _pictures(found, missed, "Wrong labels found last")], lead)


def score_table(numbers: dict[str, dict[str, np.ndarray]], chance: float, options: LabelNoise) -> Table:
    rows = []
    for name in SCORES:
        cells = [shared.plus_minus(numbers[when][name]) for when in ("along", "last")]
        gaps = ["–" if name == "loss" else compared(numbers[when][name], numbers[when]["loss"]) for when in ("along", "last")]
        rows.append(
            (
                name,
                cells[0],
                f"{gaps[0]} the loss" if name != "loss" else "–",
                cells[1],
                f"{gaps[1]} the loss" if name != "loss" else "–",
            )
        )
    rows.append(("at random", f"{chance:.3f}", "–", f"{chance:.3f}", "–"))
    note = f"Mean ± standard deviation {shared.over_seeds(options)}; compared run by run, beyond two standard errors."
    return Table(["score", "along the run", "", "trained net alone", " "], rows, title="Average precision", note=note)


def accuracy_table(found: list[Found], options: LabelNoise) -> Table:
    names = list(found[0].accuracy)
    rows = [(name, shared.plus_minus([100 * f.accuracy[name] for f in found])) for name in names]
    note = f"Test accuracy in %, true labels; mean ± standard deviation {shared.over_seeds(options)}. Scores along the run."
    return Table(["trained on", "accuracy"], rows, title="Trained anew", note=note)


def worth(table: Table, found: list[Found]) -> Section:
    lead = "The most suspect images left out, as many as there are wrong labels, and a net trained anew by as many steps."
    return Section("What it is worth", [table.to_html()], lead)


def means(table: Table, numbers: dict[str, dict[str, np.ndarray]]) -> Section:
    along = {name: compared(numbers["along"][name], numbers["along"]["loss"]) for name in SCORES[1:]}
    last = {name: compared(numbers["last"][name], numbers["last"]["loss"]) for name in SCORES[1:]}
    enough = "who can watch the losses of a training needs no gradients for this. " if "better than" not in along.values() else ""
    text = (
        f"Along a run, self-influence is {along['self-influence']} the loss and the Gram score {along['Gram']} it"
        f"{': ' if enough else '. '}{enough}Of a net that is trained already, self-influence is {last['self-influence']} the "
        f"loss and the Gram score {last['Gram']} it, in average precision."
    )
    how = (
        "Loss: of each example with its given label. Self-influence: <g, g>, the squared norm of its gradient; summed over "
        "checkpoints it is TracIn's, up to the learning rate. Gram: 1 less the mean of the ten largest cosines between its "
        "gradient and those of the same given label; the Gram matrices come from the factors of one pass, no gradient is formed. "
        "Training: fixed batches of a shuffle, plain gradient descent."
    )
    return Section("What it means", [table.to_html(), text, how])


def summary(found: list[Found], numbers: dict[str, dict[str, np.ndarray]], chance: float) -> dict[str, Any]:
    return {
        "flipped": [int(f.planted.flipped.sum()) for f in found],
        "chance": chance,
        "average_precision_along": numbers["along"],
        "average_precision_last": numbers["last"],
        "against_loss_along": {name: compared(numbers["along"][name], numbers["along"]["loss"]) for name in SCORES[1:]},
        "against_loss_last": {name: compared(numbers["last"][name], numbers["last"]["loss"]) for name in SCORES[1:]},
        "fitted": [f.fitted for f in found],
        "accuracy_test": {name: [f.accuracy[name] for f in found] for name in found[0].accuracy},
    }
