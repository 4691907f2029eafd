"""Compiled programs, found again by what they say.

A check traces the user's function anew every time, so a rule that was registered again is never judged by its old self; but
where the traced program is the same to the letter, its compilation is reused.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from jaxbp.compilation import compile_briefly


KEPT = 64
_compiled: collections.OrderedDict[str, Any] = collections.OrderedDict()


class Program:
    """`fun` compiled once for each set of shapes and dtypes."""

    def __init__(self, fun: Callable):
        self._jitted = jax.jit(fun)
        self._by_shape: dict[Any, Any] = {}

    def __call__(self, *args: Any) -> Any:
        args = jax.tree.map(_argument, args)
        leaves, tree = jax.tree.flatten(args)
        shapes = (tree, tuple((leaf.shape, leaf.dtype, getattr(leaf, "weak_type", False)) for leaf in leaves))
        if shapes not in self._by_shape:
            self._by_shape[shapes] = compiled(self._jitted.lower(*args))
        return self._by_shape[shapes](*args)


def compiled_call(fun: Callable, *args: Any) -> Any:
    """`fun(*args)` as one program, where the arguments are not traced already: much cheaper than operation by operation."""
    traced = any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(args))
    return fun(*args) if traced else Program(fun)(*args)


def _argument(leaf: Any) -> Any:
    """NumPy arrays go in as they are: putting one on the device first is a program of its own for each shape."""
    if isinstance(leaf, np.ndarray):
        return leaf.astype(jax.dtypes.canonicalize_dtype(leaf.dtype), copy=False)
    return leaf if isinstance(leaf, jax.Array) else jnp.asarray(leaf)


def compiled(lowered: Any) -> Any:
    """The executable of a lowered program; the last `KEPT` are remembered."""
    text = lowered.as_text()
    if "callback" in text:  # the text names a Python function by an address that may be used again
        return compile_briefly(lowered)
    key = hashlib.sha256(text.encode()).hexdigest()
    if key not in _compiled:
        _compiled[key] = compile_briefly(lowered)
        if len(_compiled) > KEPT:
            _compiled.popitem(last=False)
    _compiled.move_to_end(key)
    return _compiled[key]
