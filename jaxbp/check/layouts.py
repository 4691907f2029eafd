"""The trees that a user's gradient, tangents or backward come in, and what is said where they are others."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxbp.check.asked import WrongCall, described
from jaxbp.check.problem import Flat, is_complex, is_float


def gradient(result: Any, wanted: Any, has_aux: bool) -> Any:
    """The gradient, of structure `wanted`, in what a function like `jax.grad` or `jax.value_and_grad` returns."""
    if jax.tree.structure(result) == wanted:
        return result
    pair = isinstance(result, tuple) and len(result) == 2
    if pair and jax.tree.structure(result[1]) == wanted:
        return result[1]
    if pair and has_aux and jax.tree.structure(result[0]) == wanted:
        return result[0]
    raise TypeError(f"a gradient of structure {wanted} was expected, got {jax.tree.structure(result)}")


def forwarded(result: Any) -> tuple:
    """(out, residuals), as a forward of a pair returns them."""
    if not isinstance(result, tuple) or len(result) != 2:
        kind = f"a tuple of {len(result)}" if isinstance(result, tuple) else described(result)
        raise WrongCall(f"check_pair: forward should return (out, residuals), got {kind}")
    return result


def tangents(given: tuple, flat: Flat, diff: tuple[int, ...]) -> tuple:
    """The tangents of the floating leaves."""
    leaves, tree = jax.tree.flatten(given)
    shapes = [np.shape(leaves[flat.dynamic[i]]) for i in diff] if tree == flat.tree else None
    wanted = [np.shape(flat.leaves[i]) for i in diff]
    if shapes != wanted:
        raise ValueError(f"tangents: the structure and shapes of the primals were expected, {wanted}, got {shapes or tree}")
    return tuple(np.asarray(leaves[flat.dynamic[i]], np.float64) for i in diff)


def cotangents(bars: Any, args: tuple) -> list:
    """What a backward returns, one for each leaf of the arguments."""
    bars = (bars,) if len(args) == 1 and not isinstance(bars, tuple) else bars
    if not isinstance(bars, tuple) or len(bars) != len(args):
        raise TypeError(
            f"backward: a tuple of {len(args)} cotangents, one for each argument, was expected, got {described(bars)}"
        )
    every = [bar for n, (arg, bar) in enumerate(zip(args, bars, strict=True)) for bar in _spread(arg, bar, n)]
    for leaf, bar in zip(jax.tree.leaves(args), every, strict=True):
        _absent(leaf, bar)
    return every


def _spread(arg: Any, bar: Any, n: int) -> list:
    leaves, tree = jax.tree.flatten(arg)
    if bar is None:
        return [None] * len(leaves)
    bars, bar_tree = jax.tree.flatten(bar, is_leaf=lambda b: b is None)
    if bar_tree != tree:
        raise TypeError(f"backward: the cotangent of argument {n} should have structure {tree}, got {bar_tree}")
    return bars


def _absent(leaf: Any, bar: Any) -> None:
    """What is not differentiable has no cotangent. JAX drops whatever a rule gives for it, so only zeros are no mistake."""
    whole = isinstance(leaf, (jax.Array, np.ndarray, np.generic)) and not is_float(leaf) and not is_complex(leaf)
    if not whole or bar is None or isinstance(bar, Tracer) or jnp.result_type(bar) == jax.dtypes.float0:
        return
    if np.any(bar):
        raise TypeError(f"backward: None or float0 was expected for an argument of {leaf.dtype}, got {jnp.result_type(bar)}")


def present(bar: Any, leaf: Any, path: str) -> Any:
    """The cotangent of a floating leaf."""
    if bar is None:
        raise TypeError(f"backward: no cotangent (None) for {path}, which is floating: JAX would take it for zero")
    if jnp.shape(bar) != jnp.shape(leaf):
        raise TypeError(f"backward: the cotangent of {path} should have shape {jnp.shape(leaf)}, got {jnp.shape(bar)}")
    return bar
