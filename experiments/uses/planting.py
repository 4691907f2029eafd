"""Labels flipped at random, a net trained on them, and scores by which they may be found."""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

import jaxbp as bp
from experiments.config.uses import LabelNoise
from experiments.uses import shared
from jaxbp import per_example


SCORES = ("loss", "self-influence", "Gram")
NEAREST = 10  # gradients that the Gram score looks at


class Planted(NamedTuple):
    """Training images whose labels are as given; `flipped` (n,) is known to the experiment alone."""

    data: shared.Data
    given: np.ndarray
    flipped: np.ndarray


class Found(NamedTuple):
    """One seed. scores: name -> (checkpoints, n), the higher the more suspect; accuracy: what was trained on -> test accuracy."""

    planted: Planted
    scores: dict[str, np.ndarray]
    predicted: np.ndarray
    fitted: float
    accuracy: dict[str, float]

    def along(self, name: str) -> np.ndarray:
        """The sum over the checkpoints."""
        return self.scores[name].sum(0)

    def last(self, name: str) -> np.ndarray:
        return self.scores[name][-1]


def plant(data: shared.Data, share: float, rng: np.random.Generator) -> Planted:
    """A share of the labels replaced, each by one of the other nine, all alike."""
    labels = data.train.labels
    flipped = np.zeros(len(labels), bool)
    flipped[rng.permutation(len(labels))[: max(round(share * len(labels)), 1)]] = True
    others = (labels + rng.integers(1, shared.CLASSES, len(labels))) % shared.CLASSES
    return Planted(data, np.where(flipped, others, labels).astype(np.int32), flipped)


def find(options: LabelNoise, seed: int) -> Found:
    rng = np.random.default_rng([seed, 2])
    planted = plant(shared.data(options, seed), options.flipped, rng)
    train, n = planted.data.train, len(planted.given)
    net, steps = shared.net(options, train), -(-n // options.batch_size)
    order = shared.orders(rng, np.arange(n), options.epochs, steps, options.batch_size)
    params = shared.start(net, train, seed)
    run = shared.descend(params, train.images, planted.given, order, options.learning_rate, of=net)
    rows, there = by_label(planted.given)
    at = checkpoints(options)
    taken = [scores_at(shared.one_of(run.epochs, i), train.images, planted.given, rows, there, of=net) for i in at]
    scores = {name: np.stack([np.asarray(one[k]) for one in taken]) for k, name in enumerate(SCORES)}
    predicted = shared.outputs(net, run.params, train.images).argmax(1)
    found = Found(planted, scores, predicted, float(np.mean(predicted == planted.given)), {})
    return found._replace(accuracy=cleaned(options, net, found, seed))


def checkpoints(options: LabelNoise) -> list[int]:
    """Epochs, counted from 0, the last one among them."""
    return [round((k + 1) * options.epochs / options.checkpoints) - 1 for k in range(options.checkpoints)]


def by_label(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The rows of each label, (classes, most), padded by row 0; and which of them are there."""
    rows = [np.flatnonzero(labels == c) for c in range(shared.CLASSES)]
    most = max(map(len, rows))
    there = np.stack([np.arange(most) < len(r) for r in rows])
    return np.stack([np.pad(r, (0, most - len(r))) for r in rows]).astype(np.int32), there


@functools.partial(jax.jit, static_argnames=("of",))
def scores_at(params: Any, x: Any, labels: Any, rows: Any, there: Any, *, of: bp.Layer) -> tuple[jax.Array, jax.Array, jax.Array]:
    """(loss, self-influence <g_i, g_i>, Gram score) of every example at one checkpoint.

    The Gram score is 1 less the mean of the largest cosines <g_i, g_j> / (|g_i| |g_j|) over the other examples of the same
    given label: 0 where ten others pull the parameters the same way. One Gram matrix for each label, none of them all.
    """

    def of_label(members: tuple) -> tuple:
        at, present = members
        losses, _ = shared.LOSS.forward(of(params, x[at]), labels[at])
        gram = per_example.gram(of, shared.LOSS)(params, x[at], labels[at])
        squares = jnp.diagonal(gram)
        lengths = jnp.sqrt(jnp.maximum(squares, jnp.finfo(squares.dtype).tiny))
        cosines = gram / lengths[:, None] / lengths[None, :]
        others = present[None, :] & ~jnp.eye(len(at), dtype=bool)
        nearest = lax.top_k(jnp.where(others, cosines, -jnp.inf), min(NEAREST, len(at) - 1))[0]
        counted = jnp.isfinite(nearest)
        mean = jnp.sum(jnp.where(counted, nearest, 0), 1) / jnp.maximum(jnp.sum(counted, 1), 1)
        return losses, squares, 1 - mean

    def placed(values: jax.Array) -> jax.Array:
        return jnp.zeros(len(labels), values.dtype).at[jnp.where(there, rows, len(labels))].set(values, mode="drop")

    losses, squares, apart = lax.map(of_label, (rows, there))
    return placed(losses), placed(squares), placed(apart)


def cleaned(options: LabelNoise, net: bp.Layer, found: Found, seed: int) -> dict[str, float]:
    """Test accuracy after training anew without the most suspect images, as many as were flipped."""
    train, n, flips = found.planted.data.train, len(found.planted.given), int(found.planted.flipped.sum())
    rng = np.random.default_rng([seed, 3])
    kept = {f"without {flips} by {name}": np.argsort(-found.along(name), kind="stable")[flips:] for name in SCORES}
    kept = {"all labels as given": np.arange(n), f"without {flips} at random": rng.permutation(n)[flips:], **kept}
    kept["without the flipped ones"] = np.flatnonzero(~found.planted.flipped)
    steps, accuracy = -(-n // options.batch_size), {}
    for name, rows in kept.items():
        order = shared.orders(np.random.default_rng([seed, 4]), rows, options.epochs, steps, options.batch_size)
        params = shared.start(net, train, seed + 1000)
        run = shared.descend(params, train.images, found.planted.given, order, options.learning_rate, of=net)
        accuracy[name] = shared.accuracy(net, run.params, found.planted.data.test)
    return accuracy


# --- precision and recall


def precision_recall(planted: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(precision, recall) of the k most suspect, k = 1 to n; equal scores in the order of their rows."""
    hits = np.cumsum(planted[np.argsort(-score, kind="stable")])
    return hits / np.arange(1, len(hits) + 1), hits / hits[-1]


def average_precision(planted: np.ndarray, score: np.ndarray) -> float:
    """Mean of the precision at each planted example; its share where the score is random."""
    precision, _ = precision_recall(planted, score)
    return float(precision[planted[np.argsort(-score, kind="stable")]].mean())


def precisions(found: list[Found], when: str) -> dict[str, np.ndarray]:
    """Average precision (seeds,) of each score, summed along the run or at its end."""
    of = Found.along if when == "along" else Found.last
    return {name: np.array([average_precision(f.planted.flipped, of(f, name)) for f in found]) for name in SCORES}


def compared(ours: np.ndarray, loss: np.ndarray) -> str:
    """better, worse or as good as the loss: by twice the standard error of the differences between runs of one seed."""
    gap = ours - loss
    error = gap.std(ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else np.inf
    return "as good as" if abs(gap.mean()) <= max(2 * error, 0.002) else "better than" if gap.mean() > 0 else "worse than"
