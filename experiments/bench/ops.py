"""The derivatives of jaxbp.ops beside those of `jax.grad` of the usual formula and of optax, jax.nn or jax.numpy.

    python -m experiments.bench.ops

One Markdown table. For each function, in float32, bfloat16 and float16, over one sweep: the worst error in units in the last
place against float64, where the true derivative is a normal number, and how many derivatives are NaN or infinite where the stated
convention is finite. Scalar functions are swept over bit patterns, so over every scale from subnormal numbers to infinity (the
narrow types over all of theirs), and evenly over [-100, 100]; each value counts by itself. Functions of rows are swept over
rows of every scale, spread and margin; an error counts in units of the largest entry of its row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.bench.ops_cases import CASES, DTYPES, Case, truths


class Measure(NamedTuple):
    worst: float  # in units in the last place
    not_finite: int  # where the truth is
    flushed: int  # 0 where the truth is a normal number and, in rows, the largest of its row
    where: tuple  # the input of the worst


def gradients(case: Case, fun: Callable, dtype: Any, x: tuple) -> tuple:
    derivative = jax.jit(jax.vmap(jax.grad(fun, case.argnums)))
    return tuple(np.asarray(g).astype(np.float64) for g in derivative(*(jnp.asarray(a.astype(dtype)) for a in x)))


def measure(case: Case, fun: Callable, dtype: Any) -> Measure:
    x = case.inputs(dtype)
    measures = [
        judged(got, truth, dtype, x) for got, truth in zip(gradients(case, fun, dtype, x), truths(case, dtype, x), strict=True)
    ]
    worst = max(measures, key=lambda m: m.worst)
    return Measure(worst.worst, sum(m.not_finite for m in measures), sum(m.flushed for m in measures), worst.where)


def judged(got: np.ndarray, truth: np.ndarray, dtype: Any, x: tuple) -> Measure:
    info = jnp.finfo(dtype)
    size = np.abs(truth) if truth.ndim == 1 else np.broadcast_to(np.abs(truth).max(-1, keepdims=True), truth.shape)
    normal = (size >= float(info.tiny)) & (size <= float(info.max))
    ulp = float(info.eps) * 2.0 ** np.floor(np.log2(np.where(normal, size, 1)))
    finite = np.isfinite(got)
    errors = np.abs(np.where(finite, got, 0) - truth)
    errors = np.where(np.abs(truth) < float(info.tiny), np.maximum(errors - float(info.tiny), 0), errors)  # may be flushed
    errors = np.where(normal & finite, errors / ulp, 0)
    index = np.unravel_index(np.argmax(errors), errors.shape)
    flushed = np.sum((got == 0) & normal & (np.abs(truth) == size))
    lost = ~finite & np.isfinite(truth) & (np.abs(truth) <= float(info.max))
    return Measure(float(errors.max()), int(lost.sum()), int(flushed), tuple(a[index[0]] for a in x))


def cell(measured: Measure | None) -> str:
    if measured is None:
        return "| |"
    worst = (
        f"{measured.worst:.2g}"
        if measured.worst < 99.5
        else f"{measured.worst:.0f}"
        if measured.worst < 1000
        else f"{measured.worst:.1e}".replace("e+0", "e")
    )
    return f"{worst} | {measured.not_finite} |"


def main() -> None:
    print("| function | dtype | usual: worst ULP | NaN/inf | library: worst ULP | NaN/inf | jaxbp.ops: worst ULP | NaN/inf |")
    print("|---|---|---:|---:|---:|---:|---:|---:|")
    for case in CASES:
        for dtype in DTYPES:
            of = [None if fun is None else measure(case, fun, dtype) for fun in (case.usual, case.library, case.ours)]
            print(f"| {case.name} | {jnp.dtype(dtype).name} | " + " ".join(map(cell, of)), flush=True)


if __name__ == "__main__":
    main()
