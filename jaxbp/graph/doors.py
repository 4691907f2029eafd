"""What every entrance of the graph does first: trace, check what came, run forward, seed the outputs."""

from __future__ import annotations

import inspect
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend import source_info_util

from jaxbp import inputs, jaxprs, tree
from jaxbp.graph.tape import Step, Tape, Value, Watch, is_inexact, record


_HERE = str(pathlib.Path(__file__).parent)


class Run(NamedTuple):
    """A forward pass on its tape, and the trees of arguments and output."""

    tape: Tape
    args: Any
    in_tree: Any
    out_tree: Any
    names: list[str]


def forward(door: str, fun: Callable, args: Sequence, watch: Watch | None = None, first: Callable | None = None) -> Run:
    """`fun(*args)` written down. Raises: TypeError where no argument is a floating-point array, or one is traced."""
    leaves, in_tree = jax.tree.flatten(args)
    if not inputs.is_concrete(args):
        raise TypeError(f"{door}: works on values; call it outside jit, grad and vmap")
    if not any(is_inexact(leaf) for leaf in leaves):
        shown = ", ".join(inputs.describe(leaf) for leaf in leaves) or "no arguments"
        raise TypeError(f"{door}: needs a floating-point argument to differentiate by, got {shown}; use x.astype(jnp.float32)")
    names = argument_names(fun, args)
    traced = jaxprs.trace(fun, *args)
    values = [Value(_array(leaf), active=is_inexact(leaf), name=name) for leaf, name in zip(leaves, names, strict=True)]
    if first:
        first(values)
    return Run(record(traced.program, values, watch), args, in_tree, traced.out_tree, names)


def _array(leaf: Any) -> Any:
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)


def argument_names(fun: Callable, args: Sequence) -> list[str]:
    """A name for each leaf of the arguments: 'x', 'params[0].w'."""
    try:
        known = list(inspect.signature(fun).parameters.values())
    except (TypeError, ValueError):
        known = []
    plain = [p.name for p in known if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    names = [plain[i] if i < len(plain) else f"args[{i}]" for i in range(len(args))]
    return [path for name, arg in zip(names, args, strict=True) for path in tree.paths(arg, name)]


def seed(door: str, run: Run, cotangent: Any) -> None:
    """Give the outputs their cotangent: 1 for a scalar, else the one that was chosen."""
    outs = run.tape.outputs
    if cotangent is None:
        if len(outs) != 1 or jnp.shape(outs[0].array):
            shown = ", ".join(inputs.describe(out.array) for out in outs) or "nothing"
            raise ValueError(
                f"{door}: the function gives {shown}, a scalar was expected; choose cotangent=, a tree like its output "
                "(ones give the derivative of the sum)"
            )
        if not is_inexact(outs[0].array):
            raise TypeError(f"{door}: the function gives {inputs.describe(outs[0].array)}, which has no derivative")
        bars = [jnp.ones_like(outs[0].array)]
    else:
        bars = _checked_cotangent(door, run, cotangent)
    for out, bar in zip(outs, bars, strict=True):
        if bar is not None:  # also where no argument reaches it: the derivative of an output by itself is 1
            out.bar = bar if out.bar is None else out.bar + bar


def _checked_cotangent(door: str, run: Run, cotangent: Any) -> list:
    leaves, out_tree = jax.tree.flatten(cotangent, is_leaf=lambda leaf: leaf is None)
    if out_tree != run.out_tree:
        raise ValueError(f"{door}: cotangent has the structure {out_tree}, the output {run.out_tree}")
    bars = []
    for out, bar in zip(run.tape.outputs, leaves, strict=True):
        if bar is None or not is_inexact(out.array):
            bars.append(None)
            continue
        if jnp.shape(bar) != jnp.shape(out.array):
            raise ValueError(f"{door}: cotangent of shape {jnp.shape(bar)} for an output {inputs.describe(out.array)}")
        bars.append(jnp.asarray(bar, out.array.dtype))
    return bars


def place_of(step: Step) -> tuple[str, str]:
    """('file.py:12', function) of the user's line that made a step; ('', '') where only this package is on the stack.

    A step inside a function of JAX (jnp.var) has the line that called it.
    """
    for eqn in (step.eqn, *reversed(step.around)):
        where, _, function = jaxprs.source(eqn).partition(" (")
        if where and not source_info_util.summarize(eqn.source_info).startswith(_HERE):
            return where, function.rstrip(")")
    return "", ""
