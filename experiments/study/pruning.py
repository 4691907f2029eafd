"""Pruning: links of a trained net taken away by several orders, and training on with what is left."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

import jaxbp
from experiments import published, runs, terminal
from experiments.config import Pruning
from experiments.published import Number
from experiments.study import trained
from experiments.study.pruning_page import curve_table, greedy_table, report
from jaxbp.training import pruning
from jaxbp.training.masking import apply_mask


SHARES = [1.0, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05]
AGAIN = ("magnitude", "obd")  # trained on at every share
MORE_EPOCHS = 10


class Greedy(NamedTuple):
    """Greedy pruning by one order: links left, accuracy on the criterion and test sets; test after training on with the mask."""

    remaining: int
    links: int
    before: float
    criterion: float
    test: float
    retrained: float
    nonzero: int  # links that are not 0 after that


def run(options: Pruning) -> int:
    with runs.opened("pruning", options) as folder:
        sets, net = trained.sets(options.seed), trained.net(options.hidden)
        result = trained.fit(options, net, sets)
        terminal.section("The net", result)
        scores = {by: score(net, sets, by) for by in pruning.WAYS}
        curves = {by: curve(net, result.params, of(result.params), sets) for by, of in scores.items()}
        curves["random"] = curve(net, result.params, at_random(options, result.params), sets)
        again = {by: curve_again(options, net, result.params, scores[by](result.params), sets) for by in AGAIN}
        terminal.section("Accuracy on the test images", curve_table(SHARES, curves, again))
        found = {by: greedy(options, net, result.params, of, sets) for by, of in scores.items()}
        terminal.section("Greedy, while the criterion set's accuracy holds", greedy_table(found))

        numbers = checks(found)
        folder.write_json("summary.json", summary(result, curves, again, found, numbers))
        folder.write("report.html", report(SHARES, result, curves, again, found, numbers))
        return terminal.close(folder, published.missed(numbers))


def score(net: jaxbp.Layer, sets: trained.Sets, by: str) -> Callable:
    """Scores as a function of params alone, on the training images."""
    images, labels = sets.train
    return jax.jit(functools.partial(pruning.scores(net, trained.LOSS, by), x=images, targets=labels))


def at_random(options: Pruning, params: Any) -> Any:
    """Scores that mean nothing: what any order has to beat."""
    rng, links = np.random.default_rng(options.seed), jaxbp.tree.weights(params)
    return jax.tree.map(lambda on, w: rng.random(w.shape) if on else None, links, params)


def curve(net: jaxbp.Layer, params: Any, scores: Any, sets: trained.Sets) -> np.ndarray:
    return pruning.curve(net, params, scores, sets.test, SHARES)


def curve_again(options: Pruning, net: jaxbp.Layer, params: Any, scores: Any, sets: trained.Sets) -> np.ndarray:
    """The same after training on with the mask: all are one compiled program."""
    masks = [pruning.keep(scores, share) for share in SHARES]
    return np.array([train_on(options, net, params, mask, sets).history["validation_accuracy"][-1] for mask in masks])


def train_on(options: Pruning, net: jaxbp.Layer, params: Any, mask: Any, sets: trained.Sets) -> jaxbp.FitResult:
    return trained.fit(options, net, sets, params=params, mask=mask, epochs=MORE_EPOCHS)


def greedy(options: Pruning, net: jaxbp.Layer, params: Any, of: Callable, sets: trained.Sets) -> Greedy:
    found = pruning.greedy(net, params, of, sets.criterion)
    (test,) = pruning.curve(
        net, found.params, pruning.scores(net, trained.LOSS, "magnitude")(found.params, *sets.train), sets.test, [1.0]
    )
    after = train_on(options, net, found.params, found.mask, sets)
    links = jaxbp.tree.weights(after.params)
    counts = jax.tree.map(lambda on, w: int(np.count_nonzero(w)) if on else 0, links, after.params)
    still_masked = jax.tree.map(lambda a, b: np.array_equal(a, b), after.params, apply_mask(found.mask, after.params))
    nonzero = sum(jax.tree.leaves(counts)) if all(jax.tree.leaves(still_masked)) else -1
    retrained = float(after.history["validation_accuracy"][-1])
    return Greedy(found.remaining, found.links, found.before, found.score, float(test), retrained, nonzero)


def checks(found: dict[str, Greedy]) -> list[Number]:
    """Golden row 26: pruned at least as good as unpruned on the criterion set; masks stay 0 through later training."""
    holds = [Number(f"{by}: criterion accuracy has not fallen", True, g.criterion >= g.before, 0.0) for by, g in found.items()]
    return holds + [Number(f"{by}: links left after training on", g.remaining, g.nonzero, 0.0) for by, g in found.items()]


def summary(result: jaxbp.FitResult, curves: dict, again: dict, found: dict, numbers: list[Number]) -> dict[str, Any]:
    return {
        "experiment": "pruning",
        "accuracy": result.history["validation_accuracy"],
        "shares": SHARES,
        "curves": curves,
        "retrained": again,
        "greedy": {by: g._asdict() for by, g in found.items()},
        "numbers": published.to_json(numbers),
    }
