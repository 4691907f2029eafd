"""Images ranked by the norms of their gradients along training, and nets trained on what a ranking keeps."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

import jaxbp as bp
from experiments.config.uses import HardExamples
from experiments.uses import shared


KEPT = (0.7, 0.5, 0.3)  # shares of the images that are trained on in the end


class Ranked(NamedTuple):
    """Of every image: norms, losses (seeds, epochs, n) as the steps met them; predicted (n,) by most seeds; accuracy (seeds,)
    on the test images."""

    norms: np.ndarray
    losses: np.ndarray
    predicted: np.ndarray
    accuracy: np.ndarray

    @property
    def norm(self) -> np.ndarray:
        """The score: mean over seeds and epochs."""
        return self.norms.mean((0, 1))

    @property
    def loss(self) -> np.ndarray:
        return self.losses.mean((0, 1))


def rank(options: HardExamples, net: bp.Layer, data: shared.Data) -> Ranked:
    """Each seed's net trained on all images; the score of an image is its mean norm over all epochs and seeds."""
    x, labels = data.train.images, data.train.labels
    n = len(labels)
    steps = -(-n // options.batch_size)
    norms, losses, read, accuracy = [], [], [], []
    for seed in range(options.seed, options.seed + options.seeds):
        order = shared.orders(np.random.default_rng(seed), np.arange(n), options.epochs, steps, options.batch_size)
        run = shared.descend(shared.start(net, data.train, seed), x, labels, order, options.learning_rate, of=net)
        norms.append(shared.by_example(order, run.norms, n))
        losses.append(shared.by_example(order, run.losses, n))
        read.append(shared.outputs(net, run.params, x).argmax(1))
        accuracy.append(shared.accuracy(net, run.params, data.test))
    votes = np.sum([np.eye(shared.CLASSES)[labels_read] for labels_read in read], 0)
    return Ranked(np.stack(norms), np.stack(losses), votes.argmax(1), np.array(accuracy))


def agreement(ranked: Ranked, data: shared.Data) -> dict[str, float]:
    """How norm and loss agree, in means and in one epoch; what goes with their disagreement; how early the ranking stands."""
    third = max(ranked.norms.shape[1] // 3, 1)
    norm, loss, n = ranked.norm, ranked.loss, len(data.train)
    norms, losses = ranked.norms.mean(0), ranked.losses.mean(0)  # (epochs, n)
    hardest, few = np.sort(norm)[::-1], max(n // 20, 1)
    top = lambda score: set(np.argsort(-score)[:few].tolist())
    per_loss = norms.sum(1) / losses.sum(1)
    alike = shared.rank_correlation
    return {
        "share_of_hardest_tenth": float(hardest[: max(n // 10, 1)].sum() / hardest.sum()),
        "norm_and_loss": alike(norm, loss),
        "first_epoch": alike(norms[0], losses[0]),
        "last_epoch": alike(norms[-1], losses[-1]),
        "norm_per_loss_first": float(per_loss[0]),
        "norm_per_loss_last": float(per_loss[-1]),
        "excess_and_late_loss": alike(excess(norm, loss), losses[1:].sum(0) / losses.sum(0)),
        "excess_and_ink_last_epoch": alike(excess(norms[-1], losses[-1]), ink(data)),
        "early_and_late": alike(ranked.norms[:, :third].mean((0, 1)), ranked.norms[:, -third:].mean((0, 1))),
        "seed_and_seed": _between_seeds(ranked.norms.mean(1)),
        "shared_top_twentieth": len(top(norm) & top(loss)) / few,
    }


def _between_seeds(norms: np.ndarray) -> float:
    pairs = [shared.rank_correlation(a, b) for i, a in enumerate(norms) for b in norms[:i]]
    return float(np.mean(pairs)) if pairs else 1.0


def excess(norm: np.ndarray, loss: np.ndarray) -> np.ndarray:
    """How much higher an image stands by norm than by loss, as a share of all places."""
    return (shared.ranks(norm) - shared.ranks(loss)) / len(norm)


def ink(data: shared.Data) -> np.ndarray:
    """|x|: the root of the sum of squared pixels."""
    return np.linalg.norm(data.train.images, axis=1)


def keep(options: HardExamples, net: bp.Layer, data: shared.Data, ranked: Ranked) -> dict[str, np.ndarray]:
    """Test accuracy (shares, seeds) of nets trained anew on a part of the images, by as many steps whatever the part.

    The parts: the hardest by norm, the hardest by loss, the easiest by norm, and drawn at random.
    """
    x, labels = data.train.images, data.train.labels
    n = len(labels)
    steps = -(-n // options.batch_size)
    by_norm, by_loss = np.argsort(-ranked.norm, kind="stable"), np.argsort(-ranked.loss, kind="stable")
    found: dict[str, list] = {}
    for share in KEPT:
        size = max(round(share * n), options.batch_size)
        row: dict[str, list] = {}
        for seed in range(options.seed, options.seed + options.seeds):
            rng = np.random.default_rng([seed, 1])
            parts = {"hardest by norm": by_norm, "hardest by loss": by_loss, "easiest by norm": by_norm[::-1]}
            for name, rows in {**parts, "at random": rng.permutation(n)}.items():
                order = shared.orders(rng, rows[:size], options.epochs, steps, options.batch_size)
                new = shared.start(net, data.train, seed + 1000)
                run = shared.descend(new, x, labels, order, options.learning_rate, of=net)
                row.setdefault(name, []).append(shared.accuracy(net, run.params, data.test))
        for name, values in row.items():
            found.setdefault(name, []).append(values)
    return {name: np.array(values) for name, values in found.items()}
