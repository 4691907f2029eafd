"""Hard examples: images ranked by the norms of their gradients, which every step of a training gives at no price."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from experiments.config.uses import HardExamples
from experiments.uses import shared
from experiments.uses.pictures import pictures
from experiments.uses.ranking import KEPT, Ranked, agreement, excess, ink, keep, rank
from experiments.uses.shared import Findings
from jaxbp.page.charts import Series, line_chart
from jaxbp.page.document import Section, figure, grid
from jaxbp.page.markup import Markup, join
from jaxbp.page.plane import Points, plane
from jaxbp.page.tables import Column, Table, number


DRAWN = 500  # points of the scatter plot


def run(options: HardExamples) -> int:
    return shared.present("hard-examples", options, study)


def study(options: HardExamples) -> Findings:
    data = shared.data(options, options.seed)
    net = shared.net(options, data.train)
    ranked = rank(options, net, data)
    kept = keep(options, net, data, ranked)
    numbers = agreement(ranked, data)
    table = kept_table(kept, ranked, options)
    share = numbers["share_of_hardest_tenth"]
    lead = (
        f"Of {shared.named(data)} the hardest tenth carries {share:.0%} of all gradient norm along training. Norm and loss rank "
        f"the images {_alike(numbers['last_epoch'])} in the last epoch (rank correlation {numbers['last_epoch']:.3f}), in their "
        f"means along training {_alike(numbers['norm_and_loss'])} ({numbers['norm_and_loss']:.3f})."
    )
    return Findings(
        "Hard examples",
        lead,
        figures(numbers, ranked, options),
        [gallery(options, data, ranked), along(ranked), disagreement(data, ranked, numbers), worth(table, kept)],
        [hardest_table(data, ranked), table],
        summary(data, ranked, numbers, kept),
        [] if shared.finite(ranked.losses) else ["training turned non-finite; a smaller --learning-rate may help"],
    )


# --- how it is told


def figures(numbers: dict[str, float], ranked: Ranked, options: HardExamples) -> list[tuple]:
    return [
        ("Norm carried by the hardest tenth", f"{numbers['share_of_hardest_tenth']:.1%}", "of the sum over all images"),
        ("Norm and loss, means", f"{numbers['norm_and_loss']:.3f}", "rank correlation of the means along training"),
        ("Norm and loss, last epoch", f"{numbers['last_epoch']:.3f}", "rank correlation"),
        ("Early and late", f"{numbers['early_and_late']:.3f}", "rank correlation of the norms of the first and last third"),
        ("Seed and seed", f"{numbers['seed_and_seed']:.3f}", "rank correlation between trainings"),
        ("Test accuracy", f"{ranked.accuracy.mean():.4f}", "of the nets that ranked, mean"),
    ]


def _captions(rows: Sequence[int], data: shared.Data, ranked: Ranked) -> list[list[str]]:
    labels, norm, loss = data.train.labels, ranked.norm, ranked.loss
    read = lambda i: f"{labels[i]}" if ranked.predicted[i] == labels[i] else f"{labels[i]}, read as {ranked.predicted[i]}"
    return [[read(i), f"norm {number(norm[i])}", f"loss {number(loss[i])}"] for i in rows]


def _pictures(rows: np.ndarray, data: shared.Data, ranked: Ranked, title: str, note: str | None = None) -> Any:
    drawn = pictures(data.train.images[rows], data.train.shape, _captions(rows.tolist(), data, ranked), title=title)
    return figure(drawn, title, note)


def gallery(options: HardExamples, data: shared.Data, ranked: Ranked) -> Section:
    order = np.argsort(-ranked.norm, kind="stable")
    hard, easy = order[: options.shown], order[::-1][: options.shown]
    blocks = grid(_pictures(hard, data, ranked, "The hardest"), _pictures(easy, data, ranked, "The easiest"))
    lead = (
        "Under each image its label, and how most of the trained nets read it where that is something else; norm of its gradient "
        "and loss, both means over the steps that met it. The steps draw fixed batches of a shuffle, so each image counts once "
        "an epoch. The norms come with the gradient of the very step: no pass is made for them."
    )
    return Section("Hardest and easiest", [blocks], lead)


def hardest_table(data: shared.Data, ranked: Ranked) -> Table:
    rows = np.argsort(-ranked.norm, kind="stable")[:10]
    by_loss = len(ranked.loss) - shared.ranks(ranked.loss)
    columns = ["image", "label", "read as", "norm", "loss", "place by loss"]
    labels, read = data.train.labels, ranked.predicted
    cells = [(int(i), int(labels[i]), int(read[i]), ranked.norm[i], ranked.loss[i], int(by_loss[i])) for i in rows]
    return Table(columns, cells, title="The ten hardest images")


def along(ranked: Ranked) -> Section:
    norms = ranked.norms.mean(0)  # (epochs, n)
    lines = {"99 % have less": 99, "90 %": 90, "half": 50}
    series = [Series(name, np.percentile(norms, q, axis=1).tolist()) for name, q in lines.items()]
    chart = line_chart(series, title="Norms along training", x_label="epoch", y_label="norm of an image's gradient", log_y=True)
    order = np.argsort(-ranked.norm)
    tenth = max(len(order) // 10, 1)
    shares = 100 * norms[:, order[:tenth]].sum(1) / norms.sum(1)
    sharing = line_chart(
        [Series("hardest tenth", shares.tolist())],
        title="Share of the hardest tenth",
        x_label="epoch",
        y_label="share of all norm, %",
    )
    lead = "Most images are soon learnt and their gradients vanish; what moves the net from then on is a small part of the data."
    return Section("Along training", [grid(figure(chart, "Norms"), figure(sharing, "Share of the hardest tenth"))], lead)


def disagreement(data: shared.Data, ranked: Ranked, numbers: dict[str, float]) -> Section:
    more = excess(ranked.norm, ranked.loss)
    order, shown = np.argsort(-more, kind="stable"), max(min(8, len(more) // 4), 1)
    above, below = order[:shown], order[::-1][:shown]
    others = np.random.default_rng(0).permutation(np.setdiff1d(np.arange(len(more)), [*above, *below]))[:DRAWN]
    log = lambda rows: (np.log10(ranked.loss[rows]).tolist(), np.log10(ranked.norm[rows]).tolist())
    points = [Points("images", *log(others)), Points("norm says harder", *log(above)), Points("loss says harder", *log(below))]
    chart = plane(points, title="Norm against loss", x_label="log₁₀ loss", y_label="log₁₀ norm")
    note = f"Means over epochs and seeds; {len(others)} images drawn at random, and the {2 * shown} whose places differ most."
    blocks = [
        _why(numbers),
        grid(
            figure(chart, "Norm against loss", note), join([per_loss(ranked), what_differs(data, ranked, above, below).to_html()])
        ),
        grid(_pictures(above, data, ranked, "Norm says harder"), _pictures(below, data, ranked, "Loss says harder")),
    ]
    lead = f"{numbers['shared_top_twentieth']:.0%} of the hardest twentieth by norm are in the hardest twentieth by loss too."
    return Section("Norm and loss disagree", blocks, lead)


def per_loss(ranked: Ranked) -> Markup:
    ratio = ranked.norms.sum((0, 2)) / ranked.losses.sum((0, 2))
    series = [Series("norm for a unit of loss", ratio.tolist())]
    chart = line_chart(series, title="Norm for a unit of loss", x_label="epoch", y_label="sum of norms over sum of losses")
    return figure(chart, "Norm for a unit of loss")


def what_differs(data: shared.Data, ranked: Ranked, above: np.ndarray, below: np.ndarray) -> Table:
    losses = ranked.losses.mean(0)
    shown = (losses[0], losses[1:].mean(0), ranked.norm, ink(data))
    parts = {"norm says harder": above, "loss says harder": below, "all": np.arange(len(ranked.norm))}
    rows = [(name, *(float(np.mean(v[part])) for v in shown)) for name, part in parts.items()]
    columns = ["images", "loss, first epoch", "loss after it", "norm", "ink"]
    note = "Means. Ink: the root of the sum of squared pixels."
    return Table(columns, rows, title="What differs", note=note)


def _alike(correlation: float) -> str:
    return "nearly alike" if correlation > 0.95 else "much alike" if correlation > 0.8 else "differently"


def _why(numbers: dict[str, float]) -> str:
    n = {name: f"{value:.2f}".replace("-", "−") for name, value in numbers.items()}
    return (
        f"In one epoch they differ little, and there the norm goes with ink: a layer's part of it is the length of its input "
        f"times the length of its error, so at equal loss an image with more ink pulls harder (rank correlation of ink with the "
        f"places by which the norm is ahead, last epoch: {n['excess_and_ink_last_epoch']}). Means along training differ more, "
        f"because a unit of loss has another norm early and late: {n['norm_per_loss_first']} in the first epoch, "
        f"{n['norm_per_loss_last']} in the last. The mean loss is mostly about the first steps, "
        f"when nothing is learnt yet; the mean norm gives what stays wrong its due (rank correlation of the places by which the "
        f"norm is ahead with the share of loss that comes after the first epoch: {n['excess_and_late_loss']})."
    )


def kept_table(kept: dict[str, np.ndarray], ranked: Ranked, options: HardExamples) -> Table:
    rows = [(name, *(shared.plus_minus(100 * runs) for runs in values)) for name, values in kept.items()]
    note = (
        f"Test accuracy in %, mean ± standard deviation {shared.over_seeds(options)}; as many steps whatever is kept. All "
        f"images: {shared.plus_minus(100 * ranked.accuracy)}. The ranking itself was made with all of them."
    )
    columns = ["kept", *(Column(f"{share:.0%}") for share in KEPT)]
    return Table(columns, rows, title="Trained on a part of the images", note=note)


def worth(table: Table, kept: dict[str, np.ndarray]) -> Section:
    by_norm, chance = kept["hardest by norm"], kept["at random"]
    text = (
        f"The hardest by norm in place of random ones: {_against(by_norm, chance)}. The easiest in place of random ones: "
        f"{_against(kept['easiest by norm'], chance)}. By norm in place of by loss: {_against(by_norm, kept['hardest by loss'])}."
    )
    return Section("What the ranking is worth", [table.to_html(), text], "Nets trained anew on the part that each rule keeps.")


def _against(these: np.ndarray, those: np.ndarray) -> str:
    """What it changes at each share, and whether that is more than two standard errors of the difference."""
    told = []
    for share, a, b in zip(KEPT, 100 * these, 100 * those, strict=True):
        points, noise = a.mean() - b.mean(), 2 * np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / len(a)) if len(a) > 1 else np.inf
        kind = "no clear difference" if abs(points) <= noise else "better" if points > 0 else "worse"
        told.append(f"{points:+.1f} points at {share:.0%} ({kind})".replace("-", "−"))
    return ", ".join(told)


def summary(data: shared.Data, ranked: Ranked, numbers: dict[str, float], kept: dict[str, np.ndarray]) -> dict[str, Any]:
    order = np.argsort(-ranked.norm, kind="stable")
    mean, sd = shared.mean_sd(ranked.accuracy)
    return {
        "images": len(data.train),
        **numbers,
        "accuracy_test_mean": mean,
        "accuracy_test_std": sd,
        "hardest": order[:100],
        "norms": ranked.norm,
        "losses": ranked.loss,
        "kept_shares": KEPT,
        "kept_accuracy": {name: values.mean(1) for name, values in kept.items()},
    }
