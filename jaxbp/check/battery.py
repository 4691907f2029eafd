"""Inputs derived from the given ones, for mistakes that depend on data: signs, scales, ties, zeros, repeated indices."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxbp.check.problem import dtype_of, is_float


def derived(leaves: tuple, diff: tuple[int, ...], key: np.random.Generator) -> Iterator[tuple[str, tuple]]:
    """(name, leaves) of every derived input, the shapes and dtypes kept."""
    floats = {
        "a thousandth": lambda a: a * 1e-3,
        "times 30": lambda a: a * 30,
        "times 1000": lambda a: a * 1e3,
        "negated": lambda a: -a,
        "zeros": np.zeros_like,
        "rounded": lambda a: np.round(a * (2 / _size(a))) * (_size(a) / 2),
        "all equal": lambda a: np.full_like(a, a.ravel()[0] if a.size else 0),
        "fresh random": lambda a: key.normal(size=a.shape) * _size(a),
        "entries swapped": lambda a: key.permutation(a.ravel()).reshape(a.shape),
    }
    for name, change in floats.items():
        yield name, _changed(leaves, lambda i, a, change=change: change(a) if i in diff else a)
    if len(diff) > 1:
        yield "arguments equal", _equalled(leaves, diff)
    kinds = {i: np.asarray(leaf).dtype.kind for i, leaf in enumerate(leaves) if _plain(leaf)}
    if any(kind in "iu" for kind in kinds.values()):
        yield (
            "repeated indices",
            _changed(leaves, lambda i, a: np.full_like(a, a.ravel()[0]) if kinds.get(i) in ("i", "u") else a),
        )
        yield "edge indices", _changed(leaves, lambda i, a: _edges(a, key) if kinds.get(i) in ("i", "u") else a)
        yield "zero integers", _changed(leaves, lambda i, a: np.zeros_like(a) if kinds.get(i) in ("i", "u") else a)
    if "b" in kinds.values():
        for name, value in (("mask of False", False), ("mask of True", True)):
            yield name, _changed(leaves, lambda i, a, value=value: np.full_like(a, value) if kinds.get(i) == "b" else a)
        yield "mask flipped", _changed(leaves, lambda i, a: ~a if kinds.get(i) == "b" else a)
        yield "mask random", _changed(leaves, lambda i, a: key.random(a.shape) < 0.5 if kinds.get(i) == "b" else a)


def _plain(leaf: Any) -> bool:
    return jnp.issubdtype(dtype_of(leaf), jnp.number) or jnp.issubdtype(dtype_of(leaf), jnp.bool_)


def _size(a: np.ndarray) -> float:
    size = float(np.sqrt(np.mean(np.square(a, dtype=np.float64)))) if a.size else 1.0
    return size if np.isfinite(size) and size > 0 else 1.0


def _edges(a: np.ndarray, key: np.random.Generator) -> np.ndarray:
    return key.choice(np.array([a.min(), a.max()], a.dtype), a.shape) if a.size else a


def _changed(leaves: tuple, change: Any) -> tuple:
    made = []
    for i, leaf in enumerate(leaves):
        if not _plain(leaf):
            made.append(leaf)
            continue
        a = np.asarray(leaf)
        a = a.astype(np.float64) if is_float(leaf) else a
        made.append(jnp.asarray(np.asarray(change(i, a)).reshape(a.shape)).astype(dtype_of(leaf)))
    return tuple(made)


def _equalled(leaves: tuple, diff: tuple[int, ...]) -> tuple:
    """Floating leaves of the same shape made equal to the first of that shape."""
    first: dict[tuple, Any] = {}
    same = {i: first.setdefault(np.shape(leaves[i]), leaves[i]) for i in diff}
    return tuple(jnp.asarray(same[i]).astype(dtype_of(leaf)) if i in same else leaf for i, leaf in enumerate(leaves))


def resized(leaves: tuple, axes: tuple, size: int) -> tuple:
    """The leaves with `size` rows along their batch axis, taken in turn."""
    return tuple(
        leaf if axis is None else leaf[(slice(None),) * axis + (np.arange(size) % np.shape(leaf)[axis],)]
        for leaf, axis in zip(leaves, axes, strict=True)
    )
