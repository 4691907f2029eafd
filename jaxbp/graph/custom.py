"""The backward program of a custom_vjp, traced from its own functions, so that its equations carry the lines of the rule.

Under `jax.vjp` every equation of a rule's backward gets the line of the call. JAX keeps the two functions of a rule in
the equation, in a form that differs between versions: where it is another one, `traced` gives None and `jax.vjp` serves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, jaxpr_as_fun

from jaxbp import jaxprs


def traced(eqn: JaxprEqn, which: Sequence[int], outs: Sequence[int], arrays: list, seeds: list) -> ClosedJaxpr | None:
    """(operands, cotangents of outputs `outs`) -> cotangents of operands `which`."""

    def run(arrays: list, seeds: list) -> list:
        results = _backward(eqn, arrays, dict(zip(outs, seeds, strict=True)))
        return [_cotangent(results[i], arrays[i]) for i in which]

    try:
        return jaxprs.trace(run, arrays, seeds).program
    except (AttributeError, KeyError, TypeError, ValueError, StopIteration):
        return None


def _backward(eqn: JaxprEqn, arrays: list, seeds: dict) -> list:
    """What the rule's bwd gives for the residuals of its fwd at `arrays`."""
    params = eqn.params
    jaxpr, consts, *_ = params["fwd_jaxpr_thunk"].call_wrapped(*[False] * len(arrays))
    _, residual_tree, forwarded = params["out_trees"]()
    results = jaxpr_as_fun(ClosedJaxpr(jaxpr, consts))(*arrays)
    made = iter(results[: residual_tree.num_leaves - sum(i is not None for i in forwarded)])
    kept = [next(made) if i is None else arrays[i] for i in forwarded]  # residuals that are operands are not given twice
    bars = [seeds[i] if i in seeds else _zeros(var.aval) for i, var in enumerate(eqn.outvars)]
    return list(params["bwd"].call_wrapped(*kept, *bars))


def _zeros(aval: Any) -> Any:
    inexact = jnp.issubdtype(aval.dtype, jnp.inexact)
    return jnp.zeros(aval.shape, aval.dtype if inexact else jax.dtypes.float0)


def _cotangent(bar: Any, x: Any) -> Any:
    """A rule's None is zero."""
    return bar if isinstance(bar, jax.Array) and jnp.shape(bar) == jnp.shape(x) else jnp.zeros_like(x)
