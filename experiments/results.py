"""What all trainings put into summary.json and report.html."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import jaxbp
from experiments.config import Options, of_run
from experiments.runs import environment, sha256
from jaxbp.report import net_columns
from jaxbp.validation.result import numbered


GRADIENTS = {"manual": "hand-written backpropagation", "autodiff": "automatic differentiation"}


def numbers(options: Options, comparison: jaxbp.GradientComparison, result: Any, trials: int = 1) -> dict[str, Any]:
    """The flat keys of summary.json that do not depend on the experiment. result: of `fit`, or of `trials` folds."""
    return {
        "gradient": options.gradient,
        "gradient_max_error_f64": comparison.max_error_f64,
        "gradient_max_error_f32": comparison.max_error,
        "gradient_step_time_ratio": comparison.step_time_ratio,
        "gradient_compile_time_ratio": comparison.compile_time_ratio,
        "gradient_memory_ratio": comparison.memory_ratio,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(result.params)) // trials,
        "params_sha256": sha256(result.params),
        "history_sha256": sha256(getattr(result, "histories", None) or result.history),
        "seconds_compile": result.seconds_compile,
        "seconds_run": result.seconds_run,
        **environment(),
    }


def sections(options: Options, net: jaxbp.Layer, features: int, comparison: jaxbp.GradientComparison) -> dict[str, Any]:
    """The arguments of `run_report` that do not depend on the experiment."""
    return {
        "comparison": comparison.to_dict(),
        "columns": net_columns(net, (features,)),
        "net": repr(net),
        "config": of_run(options),
        "environment": environment(),
        "when": datetime.datetime.now(),
    }


def time_figure(result: Any) -> tuple[str, str, str]:
    total = result.seconds_compile + result.seconds_run
    return "Time", f"{total:.1f} s", f"{result.seconds_compile:.1f} s of it compiling"


def renamed(info: Mapping[str, Any], held_out: str = "validation") -> dict[str, Any]:
    """The names of the report and of metrics.jsonl: without prefix means training examples; `held_out` names the others."""

    def name(old: str) -> str:
        if old.startswith("validation_"):
            return f"{held_out}_{old.removeprefix('validation_')}"
        return old if old.startswith("inner_") else f"train_{old}"  # inner: held out of a fold's training rows, to stop on

    return {name(old): value for old, value in info.items()}


def broken(stop_reasons: Sequence[str]) -> list[str]:
    """Those that turned non-finite: why, of a single training in full, of folds together with their numbers."""
    found = [(fold, why) for fold, why in enumerate(stop_reasons) if why.startswith("non-finite")]
    if len(stop_reasons) == 1:
        return [why for _, why in found]
    return [f"{numbered([fold for fold, _ in found])}: {found[0][1]}"] if found else []


def lead(text: str, stop_reasons: Sequence[str]) -> str:
    """The sentence below the title; it also says if training broke."""
    problems = [why for why in stop_reasons if why.startswith("non-finite")]
    count = f"{len(problems)} of {len(stop_reasons)} folds" if len(stop_reasons) > 1 else "Training"
    return f"{text} {count} broke off, {problems[0]}." if problems else text


def curves(history: Mapping[str, Any], held_out: str = "validation") -> dict[str, Any] | None:
    """A history as the report takes it, accuracies as shares of errors; None where not one epoch was done."""
    if not all(np.size(values) for values in history.values()):
        return None
    return dict(_as_error(name, values) for name, values in renamed(history, held_out).items())


def _as_error(name: str, values: Any) -> tuple[str, Any]:
    return (f"{name.removesuffix('accuracy')}error_rate", 1 - np.asarray(values)) if name.endswith("accuracy") else (name, values)


def ends(result: Any) -> dict[str, Any]:
    """The best and the last epochs as the report marks them, one a fold; none where no rule could stop the training."""
    reasons = getattr(result, "stop_reasons", None) or (result.stop_reason,)
    best = np.atleast_1d(getattr(result, "best_epochs", getattr(result, "best_epoch", 0)))
    last = np.atleast_1d(result.epochs)
    stopped = np.array([why.startswith("epoch ") for why in reasons])
    return {"best": best, "stopped": np.where(stopped, last, 0)} if np.any(stopped | (best < last)) else {}


def confusion(labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """counts[true class, class of the largest output], of the rows whose outputs are finite."""
    known = np.isfinite(outputs).all(axis=1)
    counts = np.zeros((outputs.shape[1], outputs.shape[1]), int)
    np.add.at(counts, (labels[known], outputs[known].argmax(axis=1)), 1)
    return counts
