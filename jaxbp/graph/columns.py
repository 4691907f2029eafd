"""Columns of the Jacobian of one step: how each entry of its outputs moves with single entries of one operand."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxbp import jaxprs
from jaxbp.graph import doors
from jaxbp.graph.reverse import Reverse
from jaxbp.graph.tape import Step, Value


def columns(step: Step, value: Value, at: list[int]) -> list[np.ndarray]:
    """For each output: d output / d (entry of value), a row for each entry in `at`, a column for each of the output's."""
    if step.kind in ("stack", "unstack"):
        return _row_columns(step, value, at)
    live = [k for k, out in enumerate(step.outs) if out.active]
    if not live:
        return [np.zeros((len(at), np.size(out.array))) for out in step.outs]
    if any(jnp.iscomplexobj(a.array) for a in (value, *(step.outs[k] for k in live))):
        where = doors.place_of(step)[0] or "an unknown place"
        raise TypeError(f"explain: {step.eqn.primitive.name} at {where} is complex; paths are of real numbers")
    if step.eqn.primitive.name in jaxprs.CUSTOM_VJP:
        return _by_rows(step, value, at, live)

    def part(x: Any) -> list:
        outs = jaxprs.bind(step.eqn, [x if v is value else v.array for v in step.ins])
        return [outs[k] for k in live]

    x = value.array
    basis = np.zeros((len(at), np.size(x)), x.dtype)
    basis[np.arange(len(at)), at] = 1
    push = lambda x_dot: jax.jvp(part, (x,), (x_dot,))[1]
    pushed = jax.vmap(push)(jnp.asarray(basis).reshape(len(at), *x.shape))
    full = [np.zeros((len(at), np.size(out.array))) for out in step.outs]
    for k, column in zip(live, pushed, strict=True):
        full[k] = np.asarray(column, np.float64).reshape(len(at), -1)
    return full


def _row_columns(step: Step, value: Value, at: list[int]) -> list[np.ndarray]:
    """The rows of a scan taken apart or put together: every entry goes to one place, unchanged."""
    full = [np.zeros((len(at), np.size(out.array))) for out in step.outs]
    size = np.size(step.outs[0].array) if step.kind == "unstack" else np.size(value.array)
    for row, entry in enumerate(at):
        if step.kind == "unstack":
            full[entry // size][row, entry % size] = 1
        else:
            for i in (i for i, v in enumerate(step.ins) if v is value):
                full[0][row, i * size + entry] = 1
    return full


def _by_rows(step: Step, value: Value, at: list[int], live: list[int]) -> list[np.ndarray]:
    """The same of a rule that only knows its backward: a pass for each entry of its outputs."""
    reverse, full = Reverse(), [np.zeros((len(at), np.size(out.array))) for out in step.outs]
    kept = [out.bar for out in step.outs]
    for k in live:
        for j in range(np.size(step.outs[k].array)):
            for out in step.outs:
                out.bar = None
            shape, dtype = jnp.shape(step.outs[k].array), step.outs[k].array.dtype
            step.outs[k].bar = jnp.zeros(np.size(step.outs[k].array), dtype).at[j].set(1).reshape(shape)
            for operand, bar in zip(step.ins, reverse.pull(step), strict=True):
                if operand is value and bar is not None:
                    full[k][:, j] += np.asarray(bar, np.float64).ravel()[at]
    for out, bar in zip(step.outs, kept, strict=True):
        out.bar = bar
    return full
