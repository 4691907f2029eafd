"""How many epochs: chosen by cross-validation, for a last run on all rows (Mitchell's method)."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from jaxbp.training.stopping import rises
from jaxbp.validation.result import CVResult


class EpochChoice(NamedTuple):
    """epochs: the rounded mean. best_epochs: (folds,), the epoch at which each fold's held-out score was best."""

    epochs: int
    best_epochs: np.ndarray


def choose_epochs(result: CVResult, score: str = "loss") -> EpochChoice:
    """round(mean over folds k of argbest_e score_k(e)): train on all rows for so many epochs.

    The score is of the held-out rows after every epoch; the first of equals counts. What a fold scored at its own best epoch is
    optimistic; this number of epochs is what the folds are for here, not their scores.

        cv = jaxbp.cross_validate(net, loss, optimizer, x, y, folds=10, key=key, epochs=200, batch_size=32)
        final = jaxbp.fit(net, loss, optimizer, x, y, key=key, epochs=choose_epochs(cv).epochs, batch_size=32)

    Raises: ValueError for a score that the result has not, and where a fold did no epoch.
    Source: Mitchell, Machine Learning (1997), 4.6.5.
    """
    curves = result.histories.get(f"validation_{score}")
    if curves is None or curves.ndim != 2:
        known = ", ".join(name.removeprefix("validation_") for name in result.histories if name.startswith("validation_"))
        raise ValueError(f"choose_epochs: there is no score {score!r}, there is {known}")
    if np.any(np.all(np.isnan(curves), axis=1)):
        folds = np.flatnonzero(np.all(np.isnan(curves), axis=1)).tolist()
        raise ValueError(f"choose_epochs: folds {folds} did no epoch that was finite; their best epoch is unknown")
    best = (np.nanargmax if rises(score) else np.nanargmin)(curves, axis=1) + 1
    return EpochChoice(max(1, round(float(best.mean()))), best)
