"""The hand-written gradient against the automatic one, leaf by leaf."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxbp.page.document import figure
from jaxbp.page.frame import Mark
from jaxbp.page.markup import Markup
from jaxbp.page.rows import Dots, dots
from jaxbp.page.tables import Column, Table, number


ERRORS = {  # the columns of errors, in the order of the table
    "hand_f64": "hand, float64",
    "autodiff_f64": "automatic, float64",
    "hand_f32": "hand, float32",
    "autodiff_f32": "automatic, float32",
    "hand_bf16": "hand, bfloat16",
    "autodiff_bf16": "automatic, bfloat16",
    "hand_f16": "hand, float16",
    "autodiff_f16": "automatic, float16",
}
RATIOS = {"step_time_ratio": "step time", "compile_time_ratio": "compile time", "memory_ratio": "memory"}
ROUNDING = {"f64": 2.0**-52, "f32": 2.0**-23, "bf16": 2.0**-7, "f16": 2.0**-10}
_ROUNDING_NOTE = "Dashed: the distance from 1 to the next number of that precision. Errors of about that size are rounding."
_ROUNDING_NAMES = {"f64": "float64 rounding", "f32": "float32 rounding", "bf16": "bfloat16 rounding", "f16": "float16 rounding"}


def worst(comparison: Mapping[str, Any], key: str) -> float | None:
    """The largest error of a column over all leaves (NaN wins); None where it was not measured."""
    errors = [float(leaf[key]) for leaf in comparison.get("leaves", ()) if leaf.get(key) is not None]
    return float(np.max(errors)) if errors else None


def gradient_table(comparison: Mapping[str, Any]) -> Table:
    """One row a leaf; errors in units of that leaf's largest entry, the worst at the foot. Missing columns are left out."""
    leaves = _leaves(comparison)
    shape = [key for key in ("shape",) if any(key in leaf for leaf in leaves)]
    scale = [key for key in ("scale",) if any(key in leaf for leaf in leaves)]
    errors = _measured(leaves)
    columns = ["leaf", *shape, *(Column("scale") for _ in scale), *(Column(ERRORS[k]) for k in errors)]
    rows = [
        [
            leaf.get("path", f"leaf {i}"),
            *(tuple(leaf[k]) if leaf.get(k) is not None else None for k in shape),
            *(leaf.get(k) for k in (*scale, *errors)),
        ]
        for i, leaf in enumerate(leaves)
    ]
    foot = [["worst", *(None for _ in (*shape, *scale)), *(worst(comparison, k) for k in errors)]]
    return Table(columns, rows, title="Hand-written and automatic gradient", note=_NOTE, foot=foot)


_NOTE = (
    "Scale: the leaf's largest entry, or a thousandth of the whole gradient's where that is more. Errors are largest "
    "differences in units of that scale: in float64 between the two gradients, below it each from the float64 gradient."
)


def gradient_dots(comparison: Mapping[str, Any]) -> Markup | None:
    """The errors of the table on a logarithmic axis, beside the rounding of one number."""
    leaves = _leaves(comparison)
    errors = _measured(leaves)
    values = {k: [np.nan if leaf.get(k) is None else float(leaf[k]) for leaf in leaves] for k in errors}
    if not any(np.isfinite(v).any() for v in values.values()):
        return None
    kinds = {k.rpartition("_")[2] for k in errors}
    drawn = dots(
        [str(leaf.get("path", f"leaf {i}")) for i, leaf in enumerate(leaves)],
        [Dots(ERRORS[k], values[k]) for k in errors],
        title="Gradient errors by leaf",
        x_label="error in units of the leaf's scale, logarithmic",
        log=True,
        marks=[Mark(eps, _ROUNDING_NAMES[k]) for k, eps in ROUNDING.items() if k in kinds],
        width=760,
    )
    return figure(drawn, title="Errors by leaf", note=_ROUNDING_NOTE)


def gradient_figures(comparison: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Key figures: the worst errors, and what the hand-written gradient costs."""
    figures = []
    for key in (key for key in ERRORS if key.startswith("hand")):
        value, what = worst(comparison, key), ERRORS[key].removeprefix("hand, ")
        if value is not None:
            figures.append((f"Gradient error, {what}", number(value), "worst leaf, in units of its scale"))
    for key, what in RATIOS.items():
        if comparison.get(key) is not None:
            figures.append((what.capitalize(), f"{float(comparison[key]):.2f}×", "of the automatic gradient"))
    return figures


def _leaves(comparison: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    leaves = comparison.get("leaves", ())
    if not leaves:
        raise ValueError("comparison: at least one entry under 'leaves' was expected, got none")
    return leaves


def _measured(leaves: Sequence[Mapping[str, Any]]) -> list[str]:
    return [k for k in ERRORS if any(leaf.get(k) is not None for leaf in leaves)]
