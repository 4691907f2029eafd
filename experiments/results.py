"""What all trainings put into summary.json and report.html."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

import jaxbp
from experiments.config import Options
from experiments.runs import environment, sha256
from jaxbp.report import net_columns


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
        "config": dataclasses.asdict(options),
        "environment": environment(),
        "when": datetime.datetime.now(),
    }


def time_figure(result: Any) -> tuple[str, str, str]:
    total = result.seconds_compile + result.seconds_run
    return "Time", f"{total:.1f} s", f"{result.seconds_compile:.1f} s of it compiling"


def renamed(info: Mapping[str, Any], held_out: str = "validation") -> dict[str, Any]:
    """The names of the report and of metrics.jsonl: without prefix means training examples; `held_out` names the others."""
    name = lambda old: f"{held_out}_{old.removeprefix('validation_')}" if old.startswith("validation_") else f"train_{old}"
    return {name(old): value for old, value in info.items()}


def broken(stop_reasons: Sequence[str]) -> list[str]:
    """The reasons of those that turned non-finite, with the number of the fold where there are several."""
    name = (lambda fold: f"fold {fold}: ") if len(stop_reasons) > 1 else lambda fold: ""
    return [name(fold) + why for fold, why in enumerate(stop_reasons) if why.startswith("non-finite")]


def lead(text: str, stop_reasons: Sequence[str]) -> str:
    """The sentence below the title; it also says if training broke."""
    problems = broken(stop_reasons)
    count = f"{len(problems)} of {len(stop_reasons)} folds" if len(stop_reasons) > 1 else "Training"
    return f"{text} {count} broke off, {problems[0]}." if problems else text


def curves(history: Mapping[str, Any], held_out: str = "validation") -> dict[str, Any] | None:
    """A history as the report takes it, None where not one epoch was done."""
    return renamed(history, held_out) if all(np.size(values) for values in history.values()) else None


def confusion(labels: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """counts[true class, class of the largest output], of the rows whose outputs are finite."""
    known = np.isfinite(outputs).all(axis=1)
    counts = np.zeros((outputs.shape[1], outputs.shape[1]), int)
    np.add.at(counts, (labels[known], outputs[known].argmax(axis=1)), 1)
    return counts
