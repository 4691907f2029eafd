"""Settings proposed by Optuna, run in batches: each batch is one sweep, in compiled programs that the next one finds again."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from jaxbp import inputs
from jaxbp.validation.sweeping import sweep


def search(
    study: Any,
    suggest: Callable,
    setup: Callable,
    x: Any,
    targets: Any,
    *,
    trials: int,
    batch: int,
    score: str = "loss",
    **options: Any,
) -> Any:
    """Ask `study` for `batch` settings at a time until it has `trials` finished ones, run each batch by `sweep`, tell the means.

    study: an Optuna study (`optuna.create_study(direction="minimize")`); with a journal or database storage and
    load_if_exists=True an interrupted search goes on where it was. suggest(trial) -> a setting, by trial.suggest_float and the
    like. setup, x, targets and the options are those of `sweep`; the study's direction has to suit the score. A setting whose
    mean is NaN is told as failed. Returns the study.

    Raises: ValueError or TypeError for sizes that are not whole and positive, and as `sweep`.
    """
    inputs.require_positive("search", "trials", trials)
    inputs.require_positive("search", "batch", batch)
    while (left := trials - sum(trial.state.is_finished() for trial in study.get_trials(deepcopy=False))) > 0:
        asked = [study.ask() for _ in range(min(batch, left))]
        result = sweep(setup, x, targets, [suggest(trial) for trial in asked], **options)
        result.order(score)  # an unknown score is refused before anything is told
        for trial, value in zip(asked, result.mean(score), strict=True):
            if math.isfinite(value):
                study.tell(trial, float(value))
            else:
                from optuna.trial import TrialState

                study.tell(trial, state=TrialState.FAIL)
    return study
