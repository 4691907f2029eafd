"""Results of a cross-validation that was not run, for tests of what is made of them."""

from __future__ import annotations

import dataclasses

import numpy as np

from jaxbp.validation import CVResult, kfold


def cv_result(scores, **fields):
    """A CVResult of these scores by name, of contiguous folds of 4 rows each where no splits are given."""
    scores = {name: np.asarray(values) for name, values in scores.items()}
    k = len(next(iter(scores.values())))
    splits = fields.get("splits") or kfold(4 * max(k, 2), max(k, 2), None)[:k]
    made = {
        "scores": scores,
        "histories": {"loss": np.ones((k, 3))},
        "splits": splits,
        "predictions": np.zeros((4 * k, 2)),
        "epochs": np.full(k, 3),
        "best_epochs": np.full(k, 3),
        "stop_reasons": ("ran all 3 epochs",) * k,
        "stopped_on": None,
        "stratified": False,
        "seconds_compile": 0.5,
        "seconds_run": 0.25,
    }
    return CVResult(**({field.name: None for field in dataclasses.fields(CVResult)} | made | fields))
