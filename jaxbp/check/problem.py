"""What is checked, brought to one form: a claimed linear map and the function whose derivative it should be.

Every check, whatever its signature, becomes a `Problem` over flat leaves. In reverse mode the seeds are cotangents of the
outputs and the results cotangents of the arguments; in forward mode the seeds are tangents and the results tangents of
the outputs. The truth is the derivative of the *opened* function: its program with every custom rule replaced by the
primal inside, so that a rule is never compared with itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxbp import jaxprs
from jaxbp.check import asked


@dataclasses.dataclass(frozen=True, eq=False)
class Problem:
    """A claim and its truth over flat leaves.

    subject, says: the user's function, and what is claimed, in words.
    primal: (leaves) -> floating outputs, rules opened. claim: (leaves, seeds) -> results, outputs.
    leaves: the values given; floating ones at `diff` are differentiated, the others held.
    reverse: seeds are cotangents of the outputs, results cotangents of the leaves at `diff`; else the other way round.
    seeds: fixed seeds where they cannot be chosen (a gradient function's cotangent is 1), else None.
    paths: of the results, as tables print them; arg_paths: of all leaves. axes: the batch axis of every leaf, where the
      caller named it.
    given_seeds: seeds that the caller wants tried first. plain: the user's own function of the leaves, rules closed.
    handwritten: the claim is the user's code, not JAX's.
    entry, functions, args, options: the call of the check, for the reproduction.
    surrogate: the primal is another function on purpose, whose values are not those of `plain`.
    out_dtypes: of the outputs, in forward mode.
    """

    subject: str
    says: str
    primal: Callable
    claim: Callable
    plain: Callable
    leaves: tuple
    diff: tuple[int, ...]
    paths: tuple[str, ...]
    reverse: bool = True
    seeds: tuple | None = None
    axes: tuple | None = None
    given_seeds: tuple | None = None
    arg_paths: tuple[str, ...] = ()
    handwritten: bool = False
    entry: str = "check_vjp"
    functions: tuple = ()
    args: tuple = ()
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    surrogate: bool = False
    out_dtypes: tuple = ()

    def result_dtype(self, i: int) -> Any:
        """The dtype of result i in the caller's own precision."""
        return jnp.dtype(dtype_of(self.leaves[self.diff[i]])) if self.reverse else self.out_dtypes[i]

    def truth(self, leaves: Any, seeds: Any) -> tuple[list, list]:
        """(results, outputs) by JAX's autodiff of the opened function."""
        of_diff = lambda *floats: self.primal(self.merge(leaves, floats))
        floats = tuple(leaves[i] for i in self.diff)
        if not self.reverse:
            outs, results = jax.jvp(of_diff, floats, _like(seeds, floats))
            return results, outs
        outs, vjp = jax.vjp(of_diff, *floats)
        return list(vjp(_like(seeds, outs))), outs

    def merge(self, leaves: Any, floats: Any) -> tuple:
        """`leaves` with the differentiated ones replaced."""
        merged = list(leaves)
        for i, value in zip(self.diff, floats, strict=True):
            merged[i] = value
        return tuple(merged)

    def at(self, leaves: Any) -> Problem:
        return dataclasses.replace(self, leaves=tuple(leaves))


def _like(values: Any, specs: Any) -> Any:
    cast = [jnp.asarray(v).astype(s.dtype) for v, s in zip(values, specs, strict=True)]
    return type(specs)(cast)


def dtype_of(leaf: Any) -> Any:
    """The dtype that a leaf has: `jnp.result_type` of a weakly typed one depends on the x64 mode."""
    if hasattr(leaf, "dtype"):
        return leaf.dtype
    return jnp.result_type(leaf) if isinstance(leaf, (bool, int, float, complex)) else np.dtype(object)


def is_float(leaf: Any) -> bool:
    return jnp.issubdtype(dtype_of(leaf), jnp.floating)


def is_complex(leaf: Any) -> bool:
    return jnp.issubdtype(dtype_of(leaf), jnp.complexfloating)


def is_key(leaf: Any) -> bool:
    return jnp.issubdtype(dtype_of(leaf), jax.dtypes.prng_key)


def is_array(leaf: Any) -> bool:
    """Arrays and Python floats are leaves of the problem; anything else (ints, strings, functions, modules) is held static."""
    return isinstance(leaf, (jax.Array, np.ndarray, np.generic, float))


def _part(leaf: Any, part: str) -> Any:
    """A leaf or, of a complex one, its ".real" or ".imag"."""
    if part:
        return jnp.real(leaf) if part == ".real" else jnp.imag(leaf)
    return jnp.asarray(leaf) if isinstance(leaf, float) else leaf


def widened(leaves: Any, dtype: Any = np.float64) -> tuple:
    """The leaves with floating ones in `dtype` (call it inside `jax.enable_x64`)."""
    return tuple(jnp.asarray(np.asarray(leaf).astype(dtype)) if is_float(leaf) else leaf for leaf in leaves)


class Flat:
    """A function of pytrees as a function of the array leaves of its arguments; other leaves are held.

    split: complex leaves and outputs are two real ones, their real and imaginary parts.
    """

    def __init__(self, fun: Callable, args: tuple, split: bool = False):
        leaves, self.tree = jax.tree.flatten(args)
        self.fun, self.held, self.split = fun, leaves, split
        names = [f"args{jax.tree_util.keystr(path)}" for path, _ in jax.tree_util.tree_leaves_with_path(args)]
        parts = [(i, part) for i, leaf in enumerate(leaves) if is_array(leaf) for part in self._parts(leaf)]
        self.dynamic = [i for i, _ in parts]
        self.leaves = tuple(_part(leaves[i], part) for i, part in parts)
        self.paths = tuple(f"{names[i]}{part}" for i, part in parts)

    def _parts(self, leaf: Any) -> tuple[str, ...]:
        return (".real", ".imag") if self.split and is_complex(leaf) else ("",)

    def args(self, leaves: Any) -> tuple:
        full, queue = list(self.held), iter(leaves)
        for i in dict.fromkeys(self.dynamic):
            full[i] = lax.complex(next(queue), next(queue)) if len(self._parts(self.held[i])) > 1 else next(queue)
        return jax.tree.unflatten(self.tree, full)

    def __call__(self, leaves: Any) -> list:
        """The floating outputs at `leaves`."""
        outs = jax.tree.leaves(self.fun(*self.args(leaves)))
        parts = [_part(out, part) for out in outs for part in self._parts(out)]
        return [part for part in parts if is_float(part)]

    def axes(self, batch_axes: Any, args: tuple) -> tuple | None:
        """The batch axis of every array leaf, from in_axes like those of `vmap`."""
        if batch_axes is None:
            return None
        spread = asked.axes(batch_axes, args)
        found = tuple(spread[i] for i in self.dynamic)
        for leaf, axis, path in zip(self.leaves, found, self.paths, strict=True):
            if axis is not None and not 0 <= axis < np.ndim(leaf):
                raise ValueError(f"batch_axes: {path} of shape {np.shape(leaf)} has no axis {axis}")
        return found


def opened(fun: Callable) -> Callable:
    """`fun(leaves)` through its program, every custom rule opened to its primal."""

    def run(leaves: Any) -> list:
        traced = jaxprs.trace(lambda *xs: fun(xs), *leaves)
        return jaxprs.evaluate(traced.program, *leaves)

    return run


def name_of(fun: Any) -> str:
    """What a user calls the function."""
    for attribute in ("__name__", "__qualname__"):
        if getattr(fun, attribute, None):
            return getattr(fun, attribute)
    inner = getattr(fun, "func", None) or getattr(fun, "fun", None) or getattr(fun, "__wrapped__", None)
    return name_of(inner) if inner is not None else type(fun).__name__
